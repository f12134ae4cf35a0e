//! `wasmgate policy build`: a bundle that the gate takes.

use serde_json::json;

use super::annotate::Stated;
use super::opa::Opa;
use super::{archive, trial};
use crate::cli::args::PolicyBuildOptions;
use crate::cli::{Error, Exit, inspect, warn};
use crate::policy::{Engine, Limits};
use crate::text;

/// Compiles the rules, loads them as the gate would, and only then writes the archive.
pub async fn run(options: &PolicyBuildOptions) -> Result<Exit, Error> {
    trial::folder(&options.sources)?;
    let opa = Opa::of(&options.sources)?;
    for warning in trial::complete(&opa, &options.sources)?.1 {
        warn(&text::line(&warning));
    }
    let loading = (&Engine::for_command()?, Limits::default());
    let PolicyBuildOptions { revision, sequence, name, .. } = options;
    let stated = Stated { revision, sequence: *sequence, name: name.as_deref() };
    let compiled = trial::compiled(&opa, &options.sources, &stated, loading).await?;
    if let Some(reason) = compiled.set.unfit().next() {
        return Err(Error::JudgePod { reason: reason.into() });
    }
    for (_, warning) in compiled.set.warnings() {
        warn(&text::line(warning));
    }
    let failed = |source| Error::UseFolder { path: compiled.archive.clone(), source };
    let built = std::fs::read(&compiled.archive).map_err(failed)?;
    archive::write(&options.archive, &built)?;
    let bytes = built.len();
    let archive = options.archive.display().to_string();
    let report = json!({ "archive": archive, "bytes": bytes, "revision": options.revision });
    let said = |_: &_| format!("{}: {bytes} bytes\n", text::line(&archive));
    inspect::show(&report, options.output, said).map(|()| Exit::Success)
}
