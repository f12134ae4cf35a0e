//! What `opa` knows of rules without running them: what they read, and what a file defines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::opa::{Opa, words};
use super::rego_version::{RegoVersion, V0_FLAG};
use crate::cli::Error;
use crate::policy::contents::is_rego;

/// A place below `data`: its keys, up to the first that is not a constant.
pub type DataPath = Vec<String>;

/// What the value of a rule depends on (`opa deps`), through whatever rules and functions it calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// What is read of `data` and no rule defines.
    pub data: Vec<DataPath>,
    /// The rules themselves.
    pub rules: Vec<DataPath>,
}

/// The output of `opa deps --format json` (`open-policy-agent/opa:cmd/deps.go`).
#[derive(Deserialize)]
struct Deps {
    #[serde(default)]
    base: Vec<Vec<Term>>,
    #[serde(default, rename = "virtual")]
    rules: Vec<Vec<Term>>,
}

/// A term of the syntax tree (`open-policy-agent/opa:v1/ast/term.go`).
#[derive(Deserialize)]
struct Term {
    #[serde(rename = "type")]
    kind: String,
    value: Value,
}

impl Term {
    fn is_data(&self) -> bool {
        self.kind == "var" && self.value == "data"
    }

    fn key(&self) -> Option<String> {
        self.value.as_str().filter(|_| self.kind == "string").map(String::from)
    }
}

/// The keys after `data`; `None` for a reference to something else.
fn below_data(terms: &[Term]) -> Option<DataPath> {
    let (first, rest) = terms.split_first()?;
    first.is_data().then(|| rest.iter().map_while(Term::key).collect())
}

/// What a query such as `data.wasmgate.violations` depends on in these files of Rego below a folder. They are named one by one: in a
/// folder, `opa deps --bundle` takes those of `--ignore` too.
pub fn dependencies<'a>(
    opa: &Opa,
    root: &Path,
    files: impl IntoIterator<Item = &'a PathBuf>,
    query: &str,
) -> Result<Dependencies, Error> {
    let mut arguments = words(&["deps", "--format", "json"]);
    let files = files.into_iter().filter(|file| is_rego(file));
    if opa.version == RegoVersion::V1 {
        arguments.extend(files.flat_map(|file| ["--data".into(), OsString::from(file)]));
    } else {
        arguments.extend([OsString::from("--bundle"), copied(opa, root, files)?.into()]);
    }
    arguments.push(query.into());
    let printed = opa.printed(&arguments)?;
    let read: Deps = serde_json::from_slice(&printed)
        .map_err(|error| Error::RunOpa { command: "opa deps".into(), message: error.to_string() })?;
    let paths = |refs: Vec<Vec<Term>>| refs.iter().filter_map(|terms| below_data(terms)).collect();
    Ok(Dependencies { data: paths(read.base), rules: paths(read.rules) })
}

/// A folder with these files alone and the manifest: `opa deps` has no flag for files in Rego v0, and goes by that of a bundle.
fn copied<'a>(
    opa: &Opa,
    root: &Path,
    files: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<PathBuf, Error> {
    let folder = opa.file("copied");
    let failed = |source| Error::UseFolder { path: folder.clone(), source };
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    let copy = |file: &Path| {
        // They were found below the root.
        let Ok(below) = file.strip_prefix(root) else { return Ok(()) };
        let to = folder.join(below);
        std::fs::create_dir_all(to.parent().unwrap_or(&folder)).map_err(failed)?;
        std::fs::copy(file, to).map_err(failed).map(drop)
    };
    for file in files {
        copy(file)?;
    }
    copy(&root.join(".manifest"))?;
    Ok(folder)
}

/// The part of `opa parse --format json` that is read.
#[derive(Deserialize)]
struct Module {
    package: Package,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Package {
    path: Vec<Term>,
}

#[derive(Deserialize)]
struct Rule {
    head: Head,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "ref")]
    reference: Vec<Term>,
}

/// The places below `data` at which a file defines rules and functions.
pub fn definitions(opa: &Opa, file: &Path) -> Result<Vec<DataPath>, Error> {
    let parsed = |flags: &[&str]| {
        let mut arguments = words(&["parse", "--format", "json"]);
        arguments.extend(words(flags));
        arguments.push(file.into());
        opa.printed(&arguments)
    };
    let printed = match opa.version {
        RegoVersion::V1 => parsed(&[]),
        RegoVersion::V0 => parsed(&[V0_FLAG]),
        RegoVersion::Mixed => parsed(&[]).or_else(|_| parsed(&[V0_FLAG])),
    }?;
    let module: Module = serde_json::from_slice(&printed)
        .map_err(|error| Error::RunOpa { command: "opa parse".into(), message: error.to_string() })?;
    let package = below_data(&module.package.path).unwrap_or_default();
    let place = |rule: Rule| {
        let (name, rest) = rule.head.reference.split_first()?;
        let name = name.value.as_str()?.to_string();
        let keys = [name].into_iter().chain(rest.iter().map_while(Term::key));
        Some(package.iter().cloned().chain(keys).collect())
    };
    Ok(module.rules.into_iter().filter_map(place).collect())
}

/// A place as Rego names it.
pub fn shown(path: &[String]) -> String {
    let is_name = |key: &str| {
        key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let part = |key: &String| if is_name(key) { format!(".{key}") } else { format!("[{key:?}]") };
    format!("data{}", path.iter().map(part).collect::<String>())
}

/// Whether one of the two is the other one, or something in it.
pub fn overlap(one: &[String], other: &[String]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> DataPath {
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_reference_counts_up_to_its_first_key_that_is_not_a_constant() {
        let text = r#"{"base": [
            [{"type": "var", "value": "data"}, {"type": "string", "value": "a"}, {"type": "var", "value": "x"},
             {"type": "string", "value": "b"}],
            [{"type": "var", "value": "input"}, {"type": "string", "value": "a"}]], "virtual": []}"#;
        let read: Deps = serde_json::from_str(text).unwrap();
        let found: Vec<_> = read.base.iter().map(|terms| below_data(terms)).collect();
        assert_eq!(found, [Some(path(&["a"])), None]);
    }

    #[test]
    fn a_place_is_shown_as_rego_writes_it() {
        assert_eq!(shown(&path(&["lib", "a b", "2"])), "data.lib[\"a b\"][\"2\"]");
        assert!(overlap(&path(&["a"]), &path(&["a", "b"])) && overlap(&path(&["a", "b"]), &path(&["a"])));
        assert!(!overlap(&path(&["a", "c"]), &path(&["a", "b"])));
    }
}
