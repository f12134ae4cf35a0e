//! The common part of `explain` and `suggest`: reads the manifests, and asks both webhooks about each.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::Error;
use super::manifest::{self, Manifest};
use super::report::{JudgedFacts, Kept};
use crate::admission::{self, NewObject, Rehearsal, State, rehearse};
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::{text, workload};

/// The objects of the files. It is an error if there are none.
pub fn manifests(files: &[PathBuf]) -> Result<Vec<Manifest>, Error> {
    let manifests = manifest::read(files)?;
    if manifests.is_empty() {
        return Err(Error::nothing_in(files));
    }
    Ok(manifests)
}

/// The manifest as it is, which the webhooks judge by its first pod template, and then once for each further template of an
/// object such as an `MPIJob`: their pods are judged when they are created. With the place of the further ones.
pub fn templates(state: &State, manifest: &Manifest) -> Vec<(String, Manifest)> {
    let whole = (String::new(), manifest.clone());
    let Some(kind) = state.kinds.of(&manifest.kind()) else { return vec![whole] };
    let to_manifest = |(place, object): (String, Value)| {
        let origin = format!("{}, `{}`", manifest.origin, text::visible(&place));
        (place, Manifest { origin, object })
    };
    let further = workload::one_by_one(&manifest.object, kind).into_iter().skip(1);
    std::iter::once(whole).chain(further.map(to_manifest)).collect()
}

/// What both webhooks would answer for a manifest, whether or not it matches its kind.
pub async fn rehearsal(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    namespace: &str,
    budget: Duration,
    whole_input: bool,
) -> Result<Rehearsal<JudgedFacts>, Error> {
    let kind = manifest.kind();
    let new = NewObject { object: &manifest.object, kind: &kind, namespace, name: manifest.name() };
    let keep = |input: &PolicyInput<'_>| JudgedFacts::of(input, Kept::input(whole_input));
    let rehearsal = rehearse(state, inspector, &new, budget, keep).await;
    rehearsal.map_err(|source| unreadable(manifest, source))
}

/// The same for a caller that needs what is in the object: one that does not match its kind is an error.
pub async fn rehearsed(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    namespace: &str,
    budget: Duration,
    whole_input: bool,
) -> Result<Rehearsal<JudgedFacts>, Error> {
    let rehearsal = rehearsal(state, inspector, manifest, namespace, budget, whole_input).await?;
    rehearsal.into_result().map_err(|source| unreadable(manifest, source))
}

fn unreadable(manifest: &Manifest, source: admission::Error) -> Error {
    Error::Explain { object: manifest.described(), source }
}
