//! The common part of `explain` and `suggest`: reads the manifests, and asks both webhooks about each.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::Error;
use super::manifest::{self, Manifest};
use super::report::JudgedFacts;
use crate::admission::{NewObject, Rehearsal, State, rehearse};
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::{text, workload};

/// The objects of the files. It is an error if there are none.
pub fn manifests(files: &[PathBuf]) -> Result<Vec<Manifest>, Error> {
    let manifests = manifest::read(files)?;
    if manifests.is_empty() {
        let paths: Vec<_> = files.iter().map(|p| format!("`{}`", p.display())).collect();
        return Err(Error::NothingToExplain(paths.join(", ")));
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

/// What both webhooks would answer for a manifest. A manifest that does not match its kind is an error, so that the user
/// fixes it before applying it.
pub async fn rehearsed(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    namespace: &str,
    budget: Duration,
    whole_input: bool,
) -> Result<Rehearsal<JudgedFacts>, Error> {
    let kind = manifest.kind();
    let new = NewObject { object: &manifest.object, kind: &kind, namespace, name: manifest.name() };
    let failed = |source| Error::Explain { object: manifest.described(), source };
    let keep = |input: &PolicyInput<'_>| JudgedFacts::of(input, whole_input);
    let rehearsal = rehearse(state, inspector, &new, budget, keep).await.map_err(failed)?;
    rehearsal.into_result().map_err(failed)
}
