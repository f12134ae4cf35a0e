//! What rules read in cases: the document itself, or what the gate makes of a manifest.

use std::time::Duration;

use serde_json::Value;

use super::case::{Case, CaseSubject};
use crate::admission::{Ending, State};
use crate::cli::args::CaseOptions;
use crate::cli::manifest::Manifest;
use crate::cli::{Error, build, rehearse};
use crate::lookup::Inspector;
use crate::policy::ExactDocument;

/// What the rules read in each case, or why they read nothing. `is_open` is for rules that read another document than the gate's.
pub async fn inputs(
    options: &CaseOptions,
    cases: &[Case],
    is_open: bool,
) -> Result<Vec<Result<ExactDocument, String>>, Error> {
    let subjects = cases.iter().map(|case| case.subject(is_open)).collect::<Result<Vec<_>, _>>()?;
    let gate = if subjects.iter().any(|subject| matches!(subject, CaseSubject::Manifest(_))) {
        Some(Gate::new(options).await?)
    } else {
        None
    };
    let mut inputs = Vec::new();
    for (case, subject) in cases.iter().zip(subjects) {
        inputs.push(match (subject, &gate) {
            (CaseSubject::Manifest(object), Some(gate)) => gate.input(options, case, object).await?,
            (CaseSubject::Input(input), _) => Ok(input),
            (CaseSubject::Manifest(object), None) => Ok(object.into()),
        });
    }
    Ok(inputs)
}

/// What makes an input of a manifest.
struct Gate {
    state: State,
    inspector: Inspector,
}

impl Gate {
    async fn new(options: &CaseOptions) -> Result<Self, Error> {
        let settings = build::settings(&options.gate)?;
        Ok(Self { state: build::state(&settings).await?, inspector: build::inspector(&settings)? })
    }

    /// The document that rules read of a manifest; the inner error says why none does.
    async fn input(
        &self,
        options: &CaseOptions,
        case: &Case,
        object: Value,
    ) -> Result<Result<ExactDocument, String>, Error> {
        let manifest = Manifest { origin: format!("{}, case `{}`", case.file.display(), case.name), object };
        let namespace = manifest.namespace_or(&options.namespace);
        let budget = Duration::from_secs(options.timeout);
        let (state, inspector) = (&self.state, &self.inspector);
        let rehearsal = rehearse::rehearsed(state, inspector, &manifest, namespace, budget, true).await?;
        let input = rehearsal.validate.ending.judged().and_then(|judged| judged.kept.input.clone());
        Ok(input.map(ExactDocument::from).ok_or_else(|| match rehearsal.validate.ending {
            Ending::Skipped(skip) => {
                format!("no rule sees this object: {}; see `wasmgate explain -f`", skip.note())
            }
            _ => "no rule sees this object, since it starts no Wasm that the gate knows; see `wasmgate explain -f`".into(),
        }))
    }
}
