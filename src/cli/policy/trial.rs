//! Rules as the gate will run them: compiled by `opa`, loaded by the gate's engine.

use std::path::{Path, PathBuf};

use super::annotate::{Stated, annotate};
use super::left_out::{self, Found, LeftOut};
use super::opa::Opa;
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::{Bundle, Engine, Limits, PolicySet};

/// Compiled rules.
pub struct Compiled {
    /// The archive, which is gone when the `Opa` is dropped that made it.
    pub archive: PathBuf,
    /// The same, loaded.
    pub set: PolicySet,
}

/// Compiles the rules, and loads them as the gate does at its start: what it refuses then is an error here.
pub async fn compiled(
    opa: &Opa,
    sources: &PolicySources,
    stated: &Stated<'_>,
    loading: (&Engine, Limits),
) -> Result<Compiled, Error> {
    let archive = opa.file(&format!("{}.tar.gz", name(&sources.rules)));
    opa.build(&sources.rules, &sources.ignore, stated.revision, &archive)?;
    annotate(&archive, sources, stated)?;
    let set = loaded(&archive, loading).await?;
    Ok(Compiled { archive, set })
}

/// Loads a bundle as the gate does.
pub async fn loaded(bundle: &Path, (engine, limits): (&Engine, Limits)) -> Result<PolicySet, Error> {
    Ok(PolicySet::load(engine, vec![Bundle::load(bundle)?], limits).await?)
}

/// Whether the rules are a folder: `opa` would take a file for a bundle, and say something else of it.
pub fn folder(sources: &PolicySources) -> Result<&Path, Error> {
    if sources.rules.is_dir() {
        Ok(&sources.rules)
    } else {
        Err(Error::FindRules { path: sources.rules.clone() })
    }
}

/// The same, and everything that the rules depend on is in the bundle. What they read and nothing has comes back as sentences.
pub fn complete<'a>(opa: &Opa, sources: &'a PolicySources) -> Result<(&'a Path, Vec<String>), Error> {
    let rules = folder(sources)?;
    match left_out::find(opa, sources)? {
        Found { left_out: Some(LeftOut { path, message }), .. } => Err(Error::LeaveOut { path, message }),
        Found { left_out: None, undefined } => Ok((rules, undefined)),
    }
}

/// What the bundle is called: by its folder.
fn name(rules: &Path) -> String {
    let own = rules.canonicalize().ok();
    let own = own.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    own.unwrap_or_else(|| "rules".into())
}
