//! Writes what METADATA says of rules into the manifest of a bundle: `opa build` takes the sources of the entry point out, and the comments with
//! them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{archive, case};
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::contents::is_rego;
use crate::policy::{Contents, ExactDocument, annotated_rules};

/// What the author says of the bundle with flags; it comes before what the manifest says.
#[derive(Debug, Default)]
pub struct Stated<'a> {
    /// Its revision.
    pub revision: &'a str,
    /// Its place in the order of its versions.
    pub sequence: Option<u64>,
    /// The name that it gives itself.
    pub name: Option<&'a str>,
}

/// Adds it to the archive that was built from these rules, and what is stated of the bundle. What the author's manifest says of a rule
/// stays.
pub fn annotate(built: &Path, sources: &PolicySources, stated: &Stated<'_>) -> Result<(), Error> {
    let mut read = Vec::new();
    for path in case::sources(&sources.rules)? {
        if is_rego(&path) && !is_ignored(&path, &sources.rules, &sources.ignore) {
            let failed = |source| Error::UseFolder { path: path.clone(), source };
            read.push((path.display().to_string(), std::fs::read(&path).map_err(failed)?));
        }
    }
    let files = read.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let rules = annotated_rules(&files);
    let stated = [("sequence", json!(stated.sequence)), ("name", json!(stated.name))];
    let stated: Vec<_> = stated.into_iter().filter(|(_, value)| !value.is_null()).collect();
    if rules.is_empty() && stated.is_empty() {
        return Ok(());
    }
    let contents = Contents::load("rules", built)?;
    let manifest = contents.file(".manifest").and_then(|bytes| serde_json::from_slice(bytes).ok());
    let ExactDocument { value: mut manifest, numbers } =
        manifest.unwrap_or_else(|| ExactDocument::from(json!({})));
    if !rules.is_empty() {
        manifest = with_rules(manifest, json!(rules));
    }
    if let Some(own) = own_part(&mut manifest).and_then(Value::as_object_mut) {
        own.extend(stated.into_iter().map(|(key, value)| (key.to_string(), value)));
    }
    let written = serde_json::to_string(&numbers.in_value(&manifest));
    let manifest = written.map_err(|error| Error::Format(error.to_string()))?;
    let others = contents.files().filter(|(name, _)| *name != ".manifest");
    let all: Contents = others.chain([(".manifest", manifest.as_bytes())]).collect();
    let failed = |source| Error::WriteBundle { path: built.to_path_buf(), source };
    archive::write(built, &all.to_tar_gz().map_err(failed)?)
}

/// The files of Rego below a folder that opa reads, by their whole paths. What is no regular file may be a pipe, which would be waited for.
pub fn rego_files(root: &Path, ignored: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut files = case::walked(root)?;
    files.retain(|path| is_rego(path) && path.is_file() && !is_ignored(path, root, ignored));
    Ok(files)
}

/// Whether `opa` was told to leave the file out.
pub fn is_ignored(path: &Path, root: &Path, ignored: &[String]) -> bool {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.iter().any(|part| {
        let part = part.to_string_lossy();
        ignored.iter().any(|pattern| is_like(pattern, &part))
    })
}

/// Whether a name fits a pattern, in which `*` stands for anything.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    true
}

/// The value at `metadata.wasmgate` of a manifest; `None` where it is none, which is said when it is loaded.
fn own_part(manifest: &mut Value) -> Option<&mut Value> {
    ["metadata", "wasmgate"].into_iter().try_fold(manifest, member)
}

/// The value at a key, an object if there is none.
fn member<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let found = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if found.is_null() {
        *found = json!({});
    }
    Some(found)
}

/// The manifest with `metadata.wasmgate.rules`.
fn with_rules(mut manifest: Value, rules: Value) -> Value {
    let place = own_part(&mut manifest).and_then(|own| member(own, "rules"));
    if let (Some(known), Value::Object(rules)) = (place.and_then(Value::as_object_mut), rules) {
        for (rule, said) in rules {
            known.entry(rule).or_insert(said);
        }
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_opa() {
        for (pattern, name, fits) in [
            ("*_test.rego", "a_test.rego", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            (".*", ".git", true),
            (".*", "a.git", false),
            ("draft", "draft", true),
            ("draft", "drafts", false),
        ] {
            assert_eq!(is_like(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_the_author_says_in_the_manifest_stays() {
        let own = json!({"revision": "1", "metadata": {"wasmgate": {"sequence": 2, "rules": {"a": {"title": "own"}}}}});
        let found = with_rules(own, json!({"a": {"title": "x"}, "b": {"title": "y"}}));
        assert_eq!(
            found,
            json!({"revision": "1", "metadata": {"wasmgate": {"sequence": 2,
                "rules": {"a": {"title": "own"}, "b": {"title": "y"}}}}})
        );
        assert_eq!(
            with_rules(json!({}), json!({"b": {}})),
            json!({"metadata": {"wasmgate": {"rules": {"b": {}}}}})
        );
        assert_eq!(with_rules(json!([]), json!({"b": {}})), json!([]));
    }
}
