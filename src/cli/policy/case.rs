//! Cases for rules: what is judged, and which violations are expected.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::cli::Error;
use crate::files;
use crate::policy::{EnforcementAction, ExactDocument, ExactNumbers, Violation, unknown_input_key};
use crate::text;

/// Most folders and files that are gone through for cases.
const MAX_WALKED: usize = 10_000;
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseFile {
    api_version: String,
    kind: String,
    cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The document that the rules read: a file, or the document itself.
    #[serde(default)]
    pub input: Option<Value>,
    /// The object that is applied: a file, or the object itself.
    #[serde(default)]
    pub manifest: Option<Value>,
    /// What the rules find; nothing else.
    pub violations: Vec<Expected>,
    /// The file that has the case.
    #[serde(skip)]
    pub file: PathBuf,
    /// Numbers of it that are to stay as they are written.
    #[serde(skip)]
    numbers: ExactNumbers,
}

/// A violation that is expected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    rule: String,
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    capability: Option<String>,
    #[serde(default)]
    message: Option<String>,
    /// The strictest action that the rule asks for.
    #[serde(default)]
    action: Option<EnforcementAction>,
}

/// What a case is about.
pub enum CaseSubject {
    /// The document that the rules read.
    Input(ExactDocument),
    /// A manifest.
    Manifest(Value),
}

impl Case {
    /// What it is about, read from its file if it names one. `is_open` is for rules that read another document than the gate's.
    pub fn subject(&self, is_open: bool) -> Result<CaseSubject, Error> {
        match (&self.input, &self.manifest) {
            (Some(input), None) => {
                let document = self.document(input)?;
                if !is_open && let Some(problem) = input_problem(&document.value) {
                    return Err(self.wrong(&format!("case `{}`: {problem}", self.name)));
                }
                Ok(CaseSubject::Input(document))
            }
            // An API server has integers of 64 bits and floats too.
            (None, Some(manifest)) => {
                self.document(manifest).map(|document| CaseSubject::Manifest(document.value))
            }
            _ => {
                Err(self
                    .wrong(&format!("case `{}` needs either `input` or `manifest`, and not both", self.name)))
            }
        }
    }

    /// A document as it is written, or from the file whose name is written instead, beside the file of cases.
    fn document(&self, written: &Value) -> Result<ExactDocument, Error> {
        let Value::String(path) = written else {
            return Ok(ExactDocument {
                value: written.clone(),
                numbers: self.numbers.at(&["input"]).clone(),
            });
        };
        let path = self.file.parent().unwrap_or(Path::new("")).join(path);
        let text = text_of(&path)?;
        let mut documents: Vec<Value> = documents_of(&path, &text)?;
        documents.retain(|document| !document.is_null());
        match (documents.pop(), documents.is_empty()) {
            (Some(value), true) => Ok(ExactDocument { value, numbers: ExactNumbers::of(&text) }),
            _ => Err(failed(&path, &"a case is about one document, write one into the file")),
        }
    }

    fn wrong(&self, message: &str) -> Error {
        failed(&self.file, &message)
    }

    /// What is wrong with what was found; nothing where it is what is expected.
    pub fn differences(&self, found: &[Violation]) -> Vec<String> {
        let mut pairs = Pairs { taken: vec![None; found.len()], expected: &self.violations, found };
        let missing = |(place, expected): (usize, &Expected)| {
            let is_missing = !pairs.pair(place, &mut vec![false; found.len()]);
            is_missing.then(|| format!("not found: {}", expected.described()))
        };
        let mut differences: Vec<_> = self.violations.iter().enumerate().filter_map(missing).collect();
        let left = found.iter().zip(&pairs.taken).filter(|(_, by)| by.is_none());
        differences.extend(left.map(|(violation, _)| format!("not expected: {}", described(violation))));
        differences
    }
}

/// What of a document cannot be in what the gate hands to rules: on a key that is misspelt, they find nothing, and a case that expects
/// nothing passes.
fn input_problem(document: &Value) -> Option<String> {
    let Value::Object(members) = document else { return Some("`input` is no object".into()) };
    let (key, near) = unknown_input_key(members)?;
    let key = text::quoted(&key, 80);
    Some(match near {
        Some(near) => format!("`input` of the gate has no key `{key}`; write `{near}`"),
        None => format!(
            "`input` of the gate has no key `{key}` (policies/schema/input.v1alpha1.json); leave it out, or use --no-schema for rules that \
             read another document"
        ),
    })
}

/// Which violation stands for which expected one. One that several fit goes to the one that no other fits.
struct Pairs<'a> {
    expected: &'a [Expected],
    found: &'a [Violation],
    /// For each found one, the place of the expected one.
    taken: Vec<Option<usize>>,
}

impl Pairs<'_> {
    /// Finds one for the expected one at this place, where need be by finding another one for a former. `seen` are the found ones that
    /// were tried.
    fn pair(&mut self, place: usize, seen: &mut [bool]) -> bool {
        let Some(expected) = self.expected.get(place) else { return false };
        for (number, violation) in self.found.iter().enumerate() {
            let Some(is_seen) =
                seen.get_mut(number).filter(|is_seen| !**is_seen && expected.matches(violation))
            else {
                continue;
            };
            *is_seen = true;
            let owner = self.taken.get(number).copied().flatten();
            if owner.is_none_or(|owner| self.pair(owner, seen)) {
                if let Some(taken) = self.taken.get_mut(number) {
                    *taken = Some(place);
                }
                return true;
            }
        }
        false
    }
}

impl Expected {
    fn matches(&self, found: &Violation) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.rule == found.rule
            && same(&self.container, &found.container)
            && same(&self.capability, &found.capability)
            && self.message.as_ref().is_none_or(|part| found.message.contains(part))
            // A violation without one is refused like one that says so.
            && self.action.is_none_or(|wanted| wanted == found.action.unwrap_or(EnforcementAction::Deny))
    }

    fn described(&self) -> String {
        let parts =
            [("container", &self.container), ("capability", &self.capability), ("message", &self.message)];
        let parts =
            parts.into_iter().filter_map(|(name, value)| Some(format!(", {name} `{}`", value.as_ref()?)));
        let action = self.action.map(|action| format!(", action `{}`", action.as_str())).unwrap_or_default();
        format!("rule `{}`{}{action}", self.rule, parts.collect::<String>())
    }
}

/// A violation, in words.
pub fn described(violation: &Violation) -> String {
    let container =
        violation.container.as_ref().map(|name| format!(", container `{name}`")).unwrap_or_default();
    let action = violation.action.map(|action| format!(", action `{}`", action.as_str())).unwrap_or_default();
    format!("rule `{}`{container}{action}: {}", violation.rule, text::shorten(&violation.message, 300))
}

/// The cases of all files below a folder whose names end with `_cases.yaml`, `_cases.yml` or `_cases.json`.
pub fn read(folder: &Path) -> Result<Vec<Case>, Error> {
    let mut cases = Vec::new();
    let (files, others): (Vec<_>, Vec<_>) = walked(folder)?.into_iter().partition(|path| is_case_file(path));
    if let Some(path) = others.iter().find(|path| holds_cases(path)) {
        let message = "it holds cases, and its name does not end with `_cases.yaml`, so that they would not be run; rename it";
        return Err(failed(path, &message));
    }
    for path in files {
        let text = text_of(&path)?;
        let numbers = ExactNumbers::of(&text);
        for file in documents_of::<CaseFile>(&path, &text)? {
            if file.api_version != "wasmgate.dev/v1alpha1" || file.kind != "PolicyCases" {
                let message = "it is not a `PolicyCases` of `wasmgate.dev/v1alpha1`: write these as `kind` and `apiVersion`";
                return Err(failed(&path, &message));
            }
            cases.extend(file.cases.into_iter().enumerate().map(|(index, case)| {
                let numbers = numbers.at(&["cases", &index.to_string()]).clone();
                Case { file: path.clone(), numbers, ..case }
            }));
        }
    }
    Ok(cases)
}

/// Every file below a folder, and those that its cases name.
pub fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = walked(folder)?;
    found.extend(named(folder));
    Ok(found)
}

/// The files that the cases of a folder name, without links and `..`.
pub fn named_files(folder: &Path) -> BTreeSet<PathBuf> {
    named(folder).into_iter().filter_map(|path| path.canonicalize().ok()).collect()
}

fn named(folder: &Path) -> Vec<PathBuf> {
    let named = |case: &Case| {
        let path = case.input.as_ref().or(case.manifest.as_ref())?.as_str()?;
        Some(case.file.parent()?.join(path))
    };
    // Cases that cannot be read name nothing yet.
    read(folder).unwrap_or_default().iter().filter_map(named).collect()
}

/// Whether a file says that it holds cases, whatever its name says.
fn holds_cases(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
    }
    let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    is_yaml && parsed::<Head>(path).is_ok_and(|heads| heads.iter().any(|head| head.kind == "PolicyCases"))
}

/// Whether its name says that it has cases.
pub fn is_case_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["_cases.yaml", "_cases.yml", "_cases.json"].iter().any(|end| name.ends_with(end))
}

/// Every file below a folder, and every link, but for the marks of Emacs.
pub fn walked(root: &Path) -> Result<Vec<PathBuf>, Error> {
    walk(root).map(|(found, _)| found)
}

/// The names of the marks of Emacs below a folder.
pub fn marks(root: &Path) -> Result<Vec<String>, Error> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    Ok(walk(root)?.1.iter().filter_map(name).collect())
}

/// Every file below a folder, and every link; and the links with which Emacs marks files that are being edited, which lead nowhere.
fn walk(root: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let (mut found, mut marks) = (Vec::new(), Vec::new());
    let (mut folders, mut seen) = (vec![root.to_path_buf()], 0_usize);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| failed(&folder, &error))? {
            let entry = entry.map_err(|error| failed(&folder, &error))?;
            seen = seen.saturating_add(1);
            if seen > MAX_WALKED {
                let message =
                    format!("more than {MAX_WALKED} files and folders; name the folder of the rules");
                return Err(failed(root, &message));
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
            let is_named_so = entry.file_name().as_encoded_bytes().starts_with(b".#");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && is_named_so && !path.exists() {
                marks.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok((found, marks))
}

/// The documents of a file.
pub fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    documents_of(path, &text_of(path)?)
}

fn text_of(path: &Path) -> Result<String, Error> {
    files::read_text(path, MAX_BYTES).map_err(|error| failed(path, &error))
}

fn documents_of<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<Vec<T>, Error> {
    let options = serde_saphyr::options! { with_snippet: false, legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, message: &impl ToString) -> Error {
    Error::ReadCases { path: path.display().to_string(), message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(rule: &str, container: Option<&str>, message: &str) -> Violation {
        Violation {
            rule: rule.into(),
            message: message.into(),
            container: container.map(String::from),
            ..Violation::default()
        }
    }

    #[test]
    fn the_mark_of_an_editor_is_none_of_the_files_and_another_link_is() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".#rule.rego", "rule.rego"] {
            std::os::unix::fs::symlink("me@host.123:456", folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join(".#real.rego"), "").unwrap();
        std::os::unix::fs::symlink(".#real.rego", folder.path().join(".#that.rego")).unwrap();
        let found = walked(folder.path()).unwrap();
        assert_eq!(found, [".#real.rego", ".#that.rego", "rule.rego"].map(|name| folder.path().join(name)));
        assert_eq!(marks(folder.path()).unwrap(), [".#rule.rego"]);
    }

    #[test]
    fn a_case_tells_what_is_missing_from_what_is_too_many() {
        let text = "apiVersion: wasmgate.dev/v1alpha1\nkind: PolicyCases\ncases:\n- name: one\n  input: {}\n  violations:\n  \
                    - {rule: a, container: web, message: is not}\n  - {rule: b}\n";
        let file: CaseFile = serde_saphyr::from_str(text).unwrap();
        let case = &file.cases[0];
        let good = [violation("a", Some("web"), "it is not so"), violation("b", None, "m")];
        assert_eq!(case.differences(&good), Vec::<String>::new());
        let other = [violation("a", Some("db"), "it is not so"), violation("b", None, "m")];
        assert_eq!(
            case.differences(&other),
            [
                "not found: rule `a`, container `web`, message `is not`",
                "not expected: rule `a`, container `db`: it is not so"
            ]
        );
        assert_eq!(case.differences(&[]).len(), 2);
    }

    #[test]
    fn an_action_that_is_expected_is_compared_and_none_at_all_is_deny() {
        let case = |action: &str| -> Case {
            serde_saphyr::from_str(&format!("{{name: a, input: {{}}, violations: [{{rule: x{action}}}]}}"))
                .unwrap()
        };
        let mut found = [violation("x", None, "m")];
        for (action, expected) in [("", true), (", action: deny", true), (", action: warn", false)] {
            assert_eq!(case(action).differences(&found).is_empty(), expected, "{action}");
        }
        found[0].action = Some(EnforcementAction::Warn);
        assert_eq!(case(", action: warn").differences(&found), Vec::<String>::new());
        assert_eq!(
            case(", action: audit").differences(&found),
            ["not found: rule `x`, action `audit`", "not expected: rule `x`, action `warn`: m"]
        );
    }

    #[test]
    fn a_violation_that_several_expected_ones_fit_stands_for_the_one_that_no_other_fits() {
        let read = |violations: &str| -> Case {
            serde_saphyr::from_str(&format!("{{name: a, input: {{}}, violations: {violations}}}")).unwrap()
        };
        let found = ["a", "b", "c"].map(|container| violation("x", Some(container), "m"));
        for violations in [
            "[{rule: x}, {rule: x, container: a}, {rule: x, container: b}]",
            "[{rule: x, container: b}, {rule: x}, {rule: x, container: a}]",
            "[{rule: x}, {rule: x, message: m}, {rule: x, container: a}]",
        ] {
            assert_eq!(read(violations).differences(&found), Vec::<String>::new(), "{violations}");
        }
        let twice = read("[{rule: x}, {rule: x, container: a}, {rule: x, container: a}]").differences(&found);
        assert_eq!(twice.len(), 2, "{twice:?}");
        assert_eq!(twice[0], "not found: rule `x`, container `a`");
    }
}
