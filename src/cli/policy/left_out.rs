//! What is in a folder of rules and would not be in the bundle, without a word of `opa build`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::annotate::{is_ignored, is_rego};
use super::case;
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::ENTRYPOINT;
use crate::policy::contents::is_mounted;

/// Names of the files that a bundle takes data from.
const DATA: [&str; 3] = ["data.json", "data.yaml", "data.yml"];

/// A file that rules depend on, and why it would be missing.
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// The reason, and how to mend it.
    pub message: String,
}

/// The first such file.
pub fn find(sources: &PolicySources) -> Result<Option<LeftOut>, Error> {
    let root = &sources.rules;
    let mut files = case::walked(root)?;
    files.retain(|path| !is_ignored(path, root, &sources.ignore));
    let (tests, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_test(path));
    if let Some(path) = tests.iter().chain(&others).find(|path| is_lost_link(path, root)) {
        let message = "it is a link, which opa does not follow here; put the file or the folder itself there, or leave it out with --ignore";
        return Ok(Some(LeftOut { path: path.clone(), message: message.into() }));
    }
    if let Some(path) = tests.iter().find(|path| is_of_entry_point(&code(path))) {
        let message = "it defines `violations`, and a file whose name ends with `_test.rego` is left out of the bundle; rename it";
        return Ok(Some(LeftOut { path: path.clone(), message: message.into() }));
    }
    let rules: String = others.iter().filter(|path| is_rego(path)).map(|path| code(path)).collect();
    let unread = others.iter().find_map(|path| {
        let key = keys(path, root).into_iter().find(|key| is_read(&rules, key) && !is_given(root, &rules, key))?;
        let message = format!(
            "rules read `data.{key}`, and of JSON and YAML a bundle has the files named `data.json` and `data.yaml` alone; name it \
             `data.json`, in a folder of its own if there is one already, whose name is then a part of the reference"
        );
        Some(LeftOut { path: path.clone(), message })
    });
    Ok(unread)
}

fn named(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_test(path: &Path) -> bool {
    named(path).ends_with("_test.rego")
}

/// Whether opa would take something from behind this link if it followed it. Those of a mounted `ConfigMap` lead to files that it finds
/// otherwise.
fn is_lost_link(path: &Path, root: &Path) -> bool {
    let name = named(path);
    let is_source = is_rego(path) || name == ".manifest" || DATA.contains(&name) || path.is_dir();
    let is_mounted = path.parent() == Some(root) && (name.starts_with("..") || is_mounted(path, name));
    is_source && path.is_symlink() && !is_mounted
}

/// A file without its comments; nothing where it cannot be read, which opa says.
fn code(path: &Path) -> String {
    let text = if path.is_file() { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Whether a file defines the entry point in its package.
fn is_of_entry_point(code: &str) -> bool {
    let (package, _) = ENTRYPOINT.split_once('/').unwrap_or_default();
    let mut names = code.lines().filter_map(|line| line.trim().strip_prefix("package "));
    names.next().is_some_and(|name| name.trim() == package) && code.lines().any(is_rule)
}

/// Whether a line begins a rule of the entry point.
fn is_rule(line: &str) -> bool {
    let (_, rule) = ENTRYPOINT.split_once('/').unwrap_or_default();
    line.strip_prefix(rule).is_some_and(|rest| rest.starts_with([' ', '[', ':', '=']))
}

/// The keys below `data` at which `opa eval --data` would have the file; none of one that a bundle takes.
fn keys(path: &Path, root: &Path) -> Vec<String> {
    let is_document = path.extension().is_some_and(|end| end == "json" || end == "yaml" || end == "yml");
    if !is_document || DATA.contains(&named(path)) {
        return Vec::new();
    }
    let below = path.strip_prefix(root).unwrap_or(path).parent().and_then(|folder| folder.iter().next());
    if let Some(folder) = below {
        return vec![folder.to_string_lossy().into_owned()];
    }
    top(path)
}

/// The keys of a document.
fn top(path: &Path) -> Vec<String> {
    let document = case::parsed::<Value>(path).ok().and_then(|documents| documents.into_iter().next());
    let members = document.as_ref().and_then(Value::as_object).into_iter().flatten();
    members.map(|(key, _)| key.clone()).collect()
}

/// Whether rules name this key of `data`.
fn is_read(rules: &str, key: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let dotted = format!("data.{key}");
    let is_whole = |(at, found): (usize, &str)| {
        let before = rules.get(..at).and_then(|text| text.chars().next_back());
        let after = rules.get(at.saturating_add(found.len())..).and_then(|text| text.chars().next());
        !before.is_some_and(|letter| is_word(letter) || letter == '.') && !after.is_some_and(is_word)
    };
    rules.contains(&format!("data[\"{key}\"]")) || rules.match_indices(&dotted).any(is_whole)
}

/// Whether the bundle has something at this key of `data`: data, or a package.
fn is_given(root: &Path, rules: &str, key: &str) -> bool {
    let in_root = || DATA.iter().any(|name| top(&root.join(name)).iter().any(|known| known == key));
    let in_folder = || DATA.iter().any(|name| root.join(key).join(name).is_file());
    let is_package = |line: &str| {
        let package = line.strip_prefix("package ").map(str::trim);
        package.and_then(|package| package.split('.').next()) == Some(key)
    };
    rules.lines().any(is_package) || in_root() || in_folder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_data_is_read_where_it_is_named_as_a_whole() {
        for (rules, found) in [
            ("x > data.limits.most", true),
            ("import data.limits", true),
            ("data[\"limits\"]", true),
            ("data.limits2", false),
            ("data.limit", false),
            ("input.data.limits", false),
            ("metadata.limits", false),
        ] {
            assert_eq!(is_read(rules, "limits"), found, "{rules}");
        }
        assert!(is_rule("violations contains x if y") && is_rule("violations[x] {"));
        assert!(!is_rule("violations_of(x) := y") && !is_rule("test_violations if x"));
    }
}
