//! What rules use and the bundle would not have, without a word of `opa build`: files behind links, what only tests define, and documents
//! under other names than those from which a bundle takes data.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::analysis::{self, DataPath, Dependencies, overlap, shown};
use super::annotate::is_ignored;
use super::case;
use super::opa::Opa;
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::ENTRYPOINT;
use crate::policy::contents::{is_mounted, is_rego};

/// The package of the rule that the gate asks for.
const PACKAGE: &str = "wasmgate";

/// Names of rules that refuse something: the gate's, and those of Gatekeeper and conftest.
const POLICY_RULES: [&str; 4] = ["violations", "violation", "deny", "warn"];

/// Names of the files that a bundle takes data from.
const DATA: [&str; 3] = ["data.json", "data.yaml", "data.yml"];

/// A file that rules depend on, and why it would be missing.
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// The reason, and how to mend it.
    pub message: String,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The first file that would be missing.
    pub left_out: Option<LeftOut>,
    /// What rules read of `data` and nothing in the folder has, as sentences. It is undefined in the gate, which may be meant.
    pub undefined: Vec<String>,
}

impl Found {
    fn missing(path: &Path, message: impl Into<String>) -> Self {
        Self { left_out: Some(LeftOut { path: path.into(), message: message.into() }), undefined: Vec::new() }
    }
}

/// Looks for it. Rules that do not compile depend on nothing that is known; `opa check` and `opa build` say why.
pub fn find(opa: &Opa, sources: &PolicySources) -> Result<Found, Error> {
    let root = &sources.rules;
    let mut files = case::walked(root)?;
    files.retain(|path| !is_ignored(path, root, &sources.ignore));
    let (tests, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_test(path));
    if let Some(path) = tests.iter().chain(&others).find(|path| is_lost_link(path, root)) {
        let message = "it is a link, which opa does not follow here; put the file or the folder itself there, or leave it out with --ignore";
        return Ok(Found::missing(path, message));
    }
    if let Some(path) = tests.iter().chain(&others).find(|path| is_source(path) && !path.is_file()) {
        let message = "it is not a regular file, and opa would wait for what it says; put one there, or leave it out with --ignore";
        return Ok(Found::missing(path, message));
    }
    let query = format!("data.{}", ENTRYPOINT.replace('/', "."));
    let Some(used) = if_compiled(analysis::dependencies(opa, root, &others, &query))? else {
        return Ok(Found::default());
    };
    // The tests alone may not compile, which `opa test` says.
    let with_tests = if tests.is_empty() {
        None
    } else {
        if_compiled(analysis::dependencies(opa, root, tests.iter().chain(&others), &query))?
    };
    let with_tests = with_tests.unwrap_or_default().rules;
    if let Some((path, defined)) = defined_in_tests(opa, &tests, &used, &with_tests)? {
        let message = format!(
            "it defines `{}`, which rules of the bundle use, and a file whose name ends with `_test.rego` is left out of the bundle; \
             move what is no test to another file",
            shown(&defined)
        );
        return Ok(Found::missing(path, message));
    }
    if let Some(unasked) = unasked(opa, root, &others, &used)? {
        let message = format!(
            "it defines `{}`, which nothing that the gate asks uses, so that it refuses nothing: write it as `violations` in `package \
             {PACKAGE}`, use it there, or leave its file out with --ignore",
            shown(&unasked)
        );
        return Ok(Found::missing(root, message));
    }
    let data = BundleData::of(root, &others);
    if let Some((path, key)) = lost_document(root, &others, &used, &data) {
        let message = format!(
            "rules read `{}`, and of JSON and YAML a bundle has the files named `data.json` and `data.yaml` alone; name it \
             `data.json`, in a folder of its own if there is one already, whose name is then a part of the reference, or leave it out \
             with --ignore",
            shown(&key)
        );
        return Ok(Found::missing(path, message));
    }
    let undefined = used.data.iter().filter(|path| !data.has(path)).map(|path| {
        format!(
            "rules read `{}`, which neither a rule nor a `data.json` of the bundle has, so that it is undefined in the gate: add it, or \
             remove what reads it",
            shown(path)
        )
    });
    Ok(Found { left_out: None, undefined: undefined.collect() })
}

/// The first rule that looks like one of a policy, by its name, and that the entry point does not use.
fn unasked(
    opa: &Opa,
    root: &Path,
    files: &[PathBuf],
    used: &Dependencies,
) -> Result<Option<DataPath>, Error> {
    let all = if_compiled(analysis::dependencies(opa, root, files, "data"))?.unwrap_or_default();
    let is_used = |rule: &DataPath| used.rules.iter().any(|used| overlap(used, rule));
    let is_of_policy =
        |rule: &DataPath| rule.last().is_some_and(|name| POLICY_RULES.contains(&name.as_str()));
    Ok(all.rules.into_iter().find(|rule| is_of_policy(rule) && !is_used(rule)))
}

/// What `opa deps` found, if it could read the rules.
fn if_compiled(found: Result<Dependencies, Error>) -> Result<Option<Dependencies>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::RunOpa { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first test file that defines what rules use, and what that is. `with_tests` are the rules that they would use if tests were in the
/// bundle: those of a package that is reached by a computed name are not among the others.
fn defined_in_tests<'a>(
    opa: &Opa,
    tests: &'a [PathBuf],
    used: &Dependencies,
    with_tests: &[DataPath],
) -> Result<Option<(&'a Path, DataPath)>, Error> {
    let places: Vec<_> = used.data.iter().chain(&used.rules).chain(with_tests).collect();
    for path in tests {
        // A program for each file takes time, and most of them are in packages of their own.
        if !places.iter().any(|place| may_define(path, place)) {
            continue;
        }
        let mut defined = match analysis::definitions(opa, path) {
            Ok(defined) => defined,
            // It is not read as Rego, which `opa check` says.
            Err(Error::RunOpa { .. }) => continue,
            Err(error) => return Err(error),
        };
        defined.retain(|place| places.iter().any(|used| overlap(used, place)));
        if let Some(place) = defined.into_iter().next() {
            return Ok(Some((path, place)));
        }
    }
    Ok(None)
}

/// Whether a file names every key of a place, without which it cannot define it or a part of it.
fn may_define(path: &Path, place: &[String]) -> bool {
    let text = if path.is_file() { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    // Where a whole package is used, its name is enough.
    place.iter().take(2).all(|key| text.contains(key.as_str()))
}

/// What a bundle has of `data` apart from rules.
#[derive(Default)]
pub struct BundleData {
    root: Value,
}

impl BundleData {
    /// That of the data files among these.
    pub fn of(root: &Path, files: &[PathBuf]) -> Self {
        let mut data = Self { root: Value::Object(Map::new()) };
        for path in files.iter().filter(|path| is_data(path)) {
            // One that cannot be read, which opa says, may have anything.
            let document =
                case::parsed::<Value>(path).ok().and_then(|documents| documents.into_iter().next());
            data.add(&folder(path, root), document.unwrap_or_default());
        }
        data
    }

    fn add(&mut self, place: &[String], document: Value) {
        let mut at = &mut self.root;
        for key in place {
            if !at.is_object() {
                return;
            }
            at = &mut at[key.as_str()];
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
        }
        match (at, document) {
            (Value::Object(members), Value::Object(more)) => members.extend(more),
            (at, document) => *at = document,
        }
    }

    /// Whether there is something; within a value of which it is not known, it counts as there.
    pub fn has(&self, path: &[String]) -> bool {
        let mut at = &self.root;
        for key in path {
            let Value::Object(members) = at else { return true };
            match members.get(key) {
                Some(value) => at = value,
                None => return false,
            }
        }
        true
    }
}

/// The first document that `opa eval --data` would read for the rules and a bundle has not, and the place that it has in it.
fn lost_document<'a>(
    root: &Path,
    files: &'a [PathBuf],
    used: &Dependencies,
    data: &BundleData,
) -> Option<(&'a Path, DataPath)> {
    let named_by_cases = case::named_files(root);
    let is_named = |path: &Path| path.canonicalize().is_ok_and(|path| named_by_cases.contains(&path));
    let is_candidate = |path: &&PathBuf| is_other_document(path) && !is_named(path);
    files.iter().filter(is_candidate).find_map(|path| {
        let lost = places(path, root).into_iter().find(|(place, value)| {
            used.data.iter().any(|read| reads_of(read, place, value) && !data.has(longer(read, place)))
        });
        lost.map(|(place, _)| (path.as_path(), place))
    })
}

/// Whether a reference finds something of the value at a place.
pub fn reads_of(read: &[String], place: &[String], value: &Value) -> bool {
    match read.strip_prefix(place) {
        Some(below) => {
            let found = below.iter().try_fold(value, |at, key| at.get(key.as_str()));
            found.is_some()
        }
        None => place.starts_with(read),
    }
}

fn longer<'a>(one: &'a [String], other: &'a [String]) -> &'a [String] {
    if one.len() > other.len() { one } else { other }
}

/// Whether a bundle takes data from it.
pub fn is_data(path: &Path) -> bool {
    DATA.contains(&named(path))
}

/// Whether it is JSON or YAML that a bundle leaves out, and no file of cases.
pub fn is_other_document(path: &Path) -> bool {
    let is_document = path.extension().is_some_and(|end| end == "json" || end == "yaml" || end == "yml");
    is_document && !is_data(path) && !case::is_case_file(path)
}

/// The places below `data` at which `opa eval --data` would have the members of a document, and the members.
pub fn places(path: &Path, root: &Path) -> Vec<(DataPath, Value)> {
    let document = case::parsed::<Value>(path).ok().and_then(|documents| documents.into_iter().next());
    let Some(Value::Object(members)) = document else { return Vec::new() };
    let folder = folder(path, root);
    let place = |(key, value)| (folder.iter().cloned().chain([key]).collect(), value);
    members.into_iter().map(place).collect()
}

/// The folder of a file below the root, as keys.
pub fn folder(path: &Path, root: &Path) -> DataPath {
    let below = path.strip_prefix(root).unwrap_or(path).parent().unwrap_or(Path::new(""));
    below.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

fn named(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Whether its name says that it is a test.
pub fn is_test(path: &Path) -> bool {
    named(path).ends_with("_test.rego")
}

/// Whether opa reads it as a part of the bundle.
fn is_source(path: &Path) -> bool {
    is_rego(path) || named(path) == ".manifest" || is_data(path)
}

/// Whether opa would take something from behind this link if it followed it. Those of a mounted `ConfigMap` lead to files that it finds
/// otherwise.
fn is_lost_link(path: &Path, root: &Path) -> bool {
    let name = named(path);
    let is_mounted = path.parent() == Some(root) && (name.starts_with("..") || is_mounted(path, name));
    (is_source(path) || path.is_dir()) && path.is_symlink() && !is_mounted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(keys: &[&str]) -> DataPath {
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_reference_finds_what_it_names_and_what_is_in_it() {
        let value = json!({"most": 3});
        let place = path(&["limits"]);
        for (read, found) in [
            (&["limits"][..], true),
            (&["limits", "most"], true),
            (&["limits", "least"], false),
            (&["limits2"], false),
            (&["limit"], false),
            (&[], true),
        ] {
            assert_eq!(reads_of(&path(read), &place, &value), found, "{read:?}");
        }
    }

    #[test]
    fn the_data_of_a_bundle_is_that_of_all_its_folders() {
        let mut data = BundleData { root: json!({}) };
        data.add(&[], json!({"a": {"b": 1}}));
        data.add(&path(&["c", "d"]), json!({"e": []}));
        data.add(&path(&["unread"]), Value::Null);
        for (wanted, has) in [
            (&["a"][..], true),
            (&["a", "b"], true),
            (&["a", "c"], false),
            (&["c", "d", "e"], true),
            (&["c", "e"], false),
            (&["unread", "x"], true),
        ] {
            assert_eq!(data.has(&path(wanted)), has, "{wanted:?}");
        }
    }
}
