//! What METADATA says of the rules of a bundle. `policy build` writes it into the manifest (`metadata.wasmgate.rules`). `opa build` leaves the sources of
//! packages other than that of the entry point in the archive, and writes the METADATA at the entry point into the manifest without
//! the names of the rules (`open-policy-agent/opa:v1/bundle/bundle.go`, `WasmResolver`; `v1/compile/compile.go`, `compileWasm`).
//!
//! It is for people: nothing here decides anything. So what cannot be read is left out, and what is read is bounded.

mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::about::Annotations;
use super::contents::is_rego;
use super::{Contents, Violation};
use crate::text;
use tokens::{Token, Tokens};

/// Largest source that is read, and most bytes of all of them.
const MAX_SOURCE_BYTES: usize = 1 << 20;
const MAX_SOURCES_BYTES: usize = 8 << 20;
/// Most definitions that are remembered.
const MAX_DEFINITIONS: usize = 4096;
/// Most bytes of the path of a package, and of the name of a document: each definition has a copy of its own.
const MAX_PATH_BYTES: usize = 1024;
/// Most bytes of one METADATA block.
const MAX_BLOCK_BYTES: usize = 16 << 10;
/// Most characters of a description, of a remedy, and of every other value.
const DESCRIPTION_CHARS: usize = 2000;
const REMEDY_CHARS: usize = 1000;
const WORD_CHARS: usize = 200;

/// What is said of a rule in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleText {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl From<RuleText> for Annotations {
    fn from(text: RuleText) -> Self {
        let RuleText { title, description, category, severity, remedy } = text;
        let bounded = |said: Option<String>, chars| said.and_then(|said| shortened(&said, chars));
        Self {
            title: bounded(title, WORD_CHARS),
            description: bounded(description, DESCRIPTION_CHARS),
            category: bounded(category, WORD_CHARS),
            severity: bounded(severity, WORD_CHARS),
            remedy: bounded(remedy, REMEDY_CHARS),
        }
    }
}

impl From<Annotations> for RuleText {
    fn from(found: Annotations) -> Self {
        let Annotations { title, description, category, severity, remedy } = found;
        Self { title, description, category, severity, remedy }
    }
}

/// What METADATA says of each rule of these sources, by the name of the rule, as a manifest has it.
pub fn annotated_rules(files: &Contents) -> BTreeMap<String, RuleText> {
    let found = Read::of(files).resolved();
    found.into_iter().map(|(rule, found)| (rule, found.into())).collect()
}

/// The annotations of each rule of a bundle, by the name of the rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RuleAnnotations {
    rules: BTreeMap<String, Arc<Annotations>>,
    /// The only ones at the entry point, for the only rule of a bundle.
    sole: Option<Arc<Annotations>>,
}

impl RuleAnnotations {
    /// Those of the manifest, of the sources of a bundle, and of its entry point, in this order.
    pub fn of(
        rules: BTreeMap<String, RuleText>,
        files: &Contents,
        at_entry_point: &[EntryPointAnnotations],
    ) -> Self {
        let mut all = Read::of(files).resolved();
        all.extend(rules.into_iter().take(MAX_DEFINITIONS).map(|(rule, text)| (rule, text.into())));
        let sole = match at_entry_point {
            [only] => Some(Arc::new(only.0.annotations())),
            _ => None,
        };
        Self { rules: all.into_iter().map(|(rule, found)| (rule, Arc::new(found))).collect(), sole }
    }

    /// The violation with what is said of its rule. A remedy of its own stays. `only` is the rule of a bundle that has no other.
    pub fn on(&self, violation: Violation, only: Option<&str>) -> Violation {
        let sole = || self.sole.as_ref().filter(|_| only == Some(violation.rule.as_str()));
        let Some(annotations) = self.rules.get(&violation.rule).or_else(sole) else { return violation };
        let remedy = violation.remedy.or_else(|| annotations.remedy.clone());
        let annotations = annotations.says_more_than_a_remedy().then(|| Arc::clone(annotations));
        Violation { remedy, annotations, ..violation }
    }

    /// Whether the rules of the bundle matter.
    pub const fn has_sole(&self) -> bool {
        self.sole.is_some()
    }
}

/// METADATA at an entry point, as opa writes it into the manifest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct EntryPointAnnotations(Block);

/// A METADATA block, as far as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Block {
    scope: Option<String>,
    title: Option<String>,
    description: Option<String>,
    custom: Map<String, Value>,
}

impl Block {
    fn annotations(&self) -> Annotations {
        let custom = |key: &str, chars| match self.custom.get(key)? {
            Value::String(said) => shortened(said, chars),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Annotations {
            title: self.title.as_deref().and_then(|title| shortened(title, WORD_CHARS)),
            description: self.description.as_deref().and_then(|said| shortened(said, DESCRIPTION_CHARS)),
            category: custom("category", WORD_CHARS),
            severity: custom("severity", WORD_CHARS),
            remedy: custom("remedy", REMEDY_CHARS),
        }
    }
}

fn shortened(said: &str, chars: usize) -> Option<String> {
    let said = said.trim();
    (!said.is_empty()).then(|| text::shorten(said, chars).into_owned())
}

/// A definition that makes violations of a rule.
#[derive(Debug)]
struct Definition {
    package: String,
    /// Name of the document that it is a part of, such as `violations`.
    document: String,
    rule: String,
    own: Annotations,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Read {
    /// By package. One whose scope is `subpackages` has a dot at its end.
    packages: BTreeMap<String, Annotations>,
    documents: BTreeMap<(String, String), Annotations>,
    definitions: Vec<Definition>,
}

/// The statement that is being read.
#[derive(Debug, Default)]
struct Statement {
    /// The path of the package, once the statement that names it was read.
    package: String,
    /// Of the statement that names it: the scope of the METADATA above it.
    package_scope: Option<String>,
    document: String,
    own: Annotations,
}

impl Read {
    /// The sources among the files.
    fn of(files: &Contents) -> Self {
        let (mut read, mut left) = (Self::default(), MAX_SOURCES_BYTES);
        for (name, bytes) in files.files() {
            if !is_rego(name) || name.ends_with("_test.rego") || bytes.len() > MAX_SOURCE_BYTES {
                continue;
            }
            let Some(rest) = left.checked_sub(bytes.len()) else { break };
            left = rest;
            if let Ok(source) = std::str::from_utf8(bytes) {
                read.source(source);
            }
        }
        read
    }

    fn source(&mut self, source: &str) {
        let (mut block, mut statement) = (None, Statement::default());
        let mut before: [Option<Token>; 2] = [None, None];
        let mut tokens = Tokens::of(source);
        while let Some(token) = tokens.next_token() {
            if let Token::Metadata(yaml) = &token {
                if tokens.depth() == 0 {
                    block = parsed(yaml);
                }
                continue;
            }
            if tokens.begins_statement(&token) {
                statement = self.begin(statement, block.take(), &token);
            } else if statement.package_scope.is_some()
                && statement.package.len().saturating_add(token.as_path().len()) <= MAX_PATH_BYTES
            {
                statement.package.push_str(token.as_path());
            }
            if let ([Some(Token::Text(key)), Some(Token::Sign(':'))], Token::Text(rule)) = (&before, &token)
                && key == "rule"
                && self.definitions.len() < MAX_DEFINITIONS
            {
                let Statement { package, document, own, .. } = &statement;
                self.definitions.push(Definition {
                    package: package.clone(),
                    document: document.clone(),
                    rule: rule.clone(),
                    own: own.clone(),
                });
            }
            let [_, last] = before;
            before = [last, Some(token)];
        }
    }

    /// The statement that begins with a word, which the METADATA above it is about.
    fn begin(&mut self, former: Statement, block: Option<Block>, first: &Token) -> Statement {
        let document = Some(first.as_path()).filter(|path| path.len() <= MAX_PATH_BYTES);
        let document = document.unwrap_or_default().to_string();
        let block = block.unwrap_or_default();
        let (own, scope) = (block.annotations(), block.scope.unwrap_or_default());
        if document == "package" {
            return Statement { package: String::new(), package_scope: Some(scope), document, own };
        }
        let package = former.package;
        if let Some(scope) = former.package_scope {
            let end = if scope == "subpackages" { "." } else { "" };
            self.packages.insert(format!("{package}{end}"), former.own);
        }
        let rule = Statement { package, package_scope: None, document, own: Annotations::default() };
        if scope == "document" {
            self.documents.insert((rule.package.clone(), rule.document.clone()), own);
            return rule;
        }
        Statement { own, ..rule }
    }

    /// What is said of each rule: by its definition, then by its document, then by its package. A title and a description are those
    /// of the definition or the document alone. Where two definitions of a rule differ in something, it is left out.
    fn resolved(&self) -> BTreeMap<String, Annotations> {
        let mut rules: BTreeMap<String, Annotations> = BTreeMap::new();
        for definition in &self.definitions {
            let found = self.of_definition(definition);
            rules
                .entry(definition.rule.clone())
                .and_modify(|known| *known = agreed(known, &found))
                .or_insert(found);
        }
        rules.retain(|_, found| *found != Annotations::default());
        rules
    }

    fn of_definition(&self, definition: &Definition) -> Annotations {
        let Definition { package, document, own, .. } = definition;
        let none = Annotations::default();
        let of_document = self.documents.get(&(package.clone(), document.clone())).unwrap_or(&none);
        let above = self.of_packages(package);
        let inherited = |of: fn(&Annotations) -> &Option<String>| {
            [own, of_document].into_iter().chain(above.iter().copied()).find_map(|one| of(one).clone())
        };
        Annotations {
            title: own.title.clone().or_else(|| of_document.title.clone()),
            description: own.description.clone().or_else(|| of_document.description.clone()),
            category: inherited(|one| &one.category),
            severity: inherited(|one| &one.severity),
            remedy: inherited(|one| &one.remedy),
        }
    }

    /// What is said of a package and of those that it is below, the nearest first.
    fn of_packages(&self, package: &str) -> Vec<&Annotations> {
        let whole = format!("{package}.");
        let mut with_those_below = whole.rmatch_indices('.').filter_map(|(dot, _)| whole.get(..=dot));
        let own = with_those_below.next().into_iter().chain([package]);
        own.chain(with_those_below).filter_map(|path| self.packages.get(path)).collect()
    }
}

fn agreed(one: &Annotations, other: &Annotations) -> Annotations {
    let same = |of: fn(&Annotations) -> &Option<String>| of(one).clone().filter(|_| of(one) == of(other));
    Annotations {
        title: same(|one| &one.title),
        description: same(|one| &one.description),
        category: same(|one| &one.category),
        severity: same(|one| &one.severity),
        remedy: same(|one| &one.remedy),
    }
}

fn parsed(yaml: &str) -> Option<Block> {
    let options = serde_saphyr::options! { with_snippet: false };
    (yaml.len() <= MAX_BLOCK_BYTES).then(|| serde_saphyr::from_str_with_options(yaml, options).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sources: &[(&str, &str)]) -> RuleAnnotations {
        let files = sources.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        RuleAnnotations::of(BTreeMap::new(), &files, &[])
    }

    fn of<'a>(found: &'a RuleAnnotations, rule: &str) -> [Option<&'a str>; 5] {
        let Some(found) = found.rules.get(rule) else { return [None; 5] };
        [&found.title, &found.description, &found.category, &found.severity, &found.remedy]
            .map(|part| part.as_deref())
    }

    const RULES: &str = "# METADATA
# custom: {severity: low, category: \"of the package\"}
package wasmgate

import data.other # METADATA of nothing

# METADATA
# title: One
# description: |
#   Two lines
#   of it.
# custom:
#   remedy: Write `one`.
#   severity: 9
violations contains violation if {
	some container in input.containers
	violation := {
		\"container\": $\"{concat(\"}\", [\"\\\"rule\\\": \\\"no\\\"\"])} \\{ `x`\",
		\"rule\": \"one\",
		\"message\": `\"rule\": \"raw\"`,
	}
}

violations contains {\"rule\": \"two\", \"message\": \"m\"} if input.two
";

    #[test]
    fn a_rule_has_what_its_metadata_says_and_inherits_from_its_package() {
        let found = read(&[("a.rego", RULES)]);
        let one =
            [Some("One"), Some("Two lines\nof it."), Some("of the package"), Some("9"), Some("Write `one`.")];
        assert_eq!(of(&found, "one"), one);
        assert_eq!(of(&found, "two"), [None, None, Some("of the package"), Some("low"), None]);
        assert_eq!(found.rules.len(), 2, "{found:?}");
    }

    #[test]
    fn scopes_are_those_of_opa() {
        let document = "# METADATA\n# scope: document\n# title: All\n# custom: {remedy: r}\nviolations contains {\"rule\": \"a\"} if false\n\
                        violations contains {\"rule\": \"b\"} if false\nother contains {\"rule\": \"c\"} if false\n";
        let above = "# METADATA\n# scope: subpackages\n# custom: {severity: high}\npackage wasmgate\nimport rego.v1\n";
        let found = read(&[
            ("below.rego", &format!("package wasmgate.below\n\n{document}")),
            ("beside.rego", "package wasmgates\nviolations contains {\"rule\": \"d\"} if false\n"),
            ("z.rego", above),
        ]);
        let all = [Some("All"), None, None, Some("high"), Some("r")];
        assert_eq!([of(&found, "a"), of(&found, "b")], [all, all]);
        assert_eq!(of(&found, "c"), [None, None, None, Some("high"), None]);
        assert_eq!(of(&found, "d"), [None; 5]);
    }

    #[test]
    fn the_nearest_package_says_it_where_several_are_above() {
        let package = |scope: &str, severity: &str, path: &str| {
            format!(
                "# METADATA\n# scope: {scope}\n# custom: {{severity: {severity}}}\npackage {path}\nimport rego.v1\n"
            )
        };
        let rule = |path: &str, rule: &str| {
            format!("package {path}\nviolations contains {{\"rule\": \"{rule}\"}} if false\n")
        };
        let sources = [
            package("subpackages", "of-a", "a"),
            package("package", "of-a-b", "a.b"),
            package("subpackages", "of-a-b-and-below", "a.b"),
            package("subpackages", "of-a-b-c-d", "a.b.c.d"),
            rule("a.b.c", "below"),
            rule("a.bc", "beside"),
        ];
        let names: Vec<_> = (0..sources.len()).map(|number| format!("{number}.rego")).collect();
        let found = read(
            &names.iter().map(String::as_str).zip(sources.iter().map(String::as_str)).collect::<Vec<_>>(),
        );
        assert_eq!(of(&found, "below")[3], Some("of-a-b-and-below"));
        assert_eq!(of(&found, "beside")[3], Some("of-a"));
    }

    /// Each definition has its path, and there are many in a source.
    #[test]
    fn a_path_that_is_too_long_is_not_kept_with_each_definition() {
        let long = "a.".repeat(MAX_PATH_BYTES) + "b";
        let rule = "violations contains {\"rule\": \"r\"} if false\n".repeat(50);
        let files: Contents =
            [("a.rego", format!("package {long}\n{rule}").as_bytes())].into_iter().collect();
        let found = Read::of(&files);
        assert_eq!(found.definitions.len(), 50);
        assert!(found.definitions.iter().all(|one| one.package.len() <= MAX_PATH_BYTES), "{found:?}");
        let document =
            format!("package p\n{} contains {{\"rule\": \"r\"}} if false\n", "d".repeat(MAX_PATH_BYTES + 1));
        let files: Contents = [("a.rego", document.as_bytes())].into_iter().collect();
        assert_eq!(Read::of(&files).definitions[0].document, "");
    }

    #[test]
    fn what_two_definitions_of_a_rule_say_differently_is_left_out() {
        let rule = |remedy: &str| {
            format!(
                "# METADATA\n# title: Same\n# custom: {{remedy: {remedy}}}\nviolations contains {{\"rule\": \"a\"}} if false\n\n"
            )
        };
        let found = read(&[("a.rego", &format!("package wasmgate\n{}{}", rule("x"), rule("y")))]);
        assert_eq!(of(&found, "a"), [Some("Same"), None, None, None, None]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for (name, source) in [
            (
                "a.rego",
                "package p\n# METADATA\n# custom: [\nv contains {\"rule\": \"a\"} if false\n".to_string(),
            ),
            (
                "a.rego",
                "package p\n# METADATA\n# custom: {remedy: [r]}\nv contains {\"rule\": \"a\"} if false\n"
                    .to_string(),
            ),
            ("a_test.rego", RULES.to_string()),
            ("a.txt", RULES.to_string()),
            ("a.rego", format!("{RULES}{}", " ".repeat(MAX_SOURCE_BYTES))),
            (
                "a.rego",
                format!(
                    "package p\n# METADATA\n# title: {}\nv contains {{\"rule\": \"a\"}} if false\n",
                    "x".repeat(20_000)
                ),
            ),
            ("a.rego", format!("package p\nx := $\"{}", "{$\"".repeat(10_000))),
            ("a.rego", "package p\nx := \"".to_string()),
        ] {
            assert_eq!(read(&[(name, &source)]), RuleAnnotations::default(), "{name}");
        }
        let long = format!(
            "package p\n# METADATA\n# title: {}\nv contains {{\"rule\": \"a\"}} if false\n",
            "x".repeat(5000)
        );
        assert!(of(&read(&[("a.rego", &long)]), "a")[0].unwrap().chars().count() <= WORD_CHARS);
    }

    #[test]
    fn a_remedy_of_the_violation_itself_wins() {
        let found = read(&[("a.rego", RULES)]);
        let violation = |rule: &str, remedy: Option<&str>| Violation {
            rule: rule.into(),
            message: "m".into(),
            remedy: remedy.map(String::from),
            ..Violation::default()
        };
        assert_eq!(found.on(violation("one", None), None).remedy.as_deref(), Some("Write `one`."));
        assert_eq!(found.on(violation("one", Some("own")), None).remedy.as_deref(), Some("own"));
        assert_eq!(found.on(violation("other", None), None), violation("other", None));
        // The METADATA at the entry point names no rule, so it is that of a rule only where there is no other one.
        let manifest =
            r#"[{"scope": "rule", "title": "T", "custom": {"remedy": "r"}, "organizations": ["x"]}]"#;
        let at: Vec<EntryPointAnnotations> = serde_json::from_str(manifest).unwrap();
        let found = RuleAnnotations::of(BTreeMap::new(), &Contents::default(), &at);
        let remedy = |only: Option<&str>| found.on(violation("a", None), only).remedy;
        assert_eq!((remedy(Some("a")), remedy(Some("b")), remedy(None)), (Some("r".into()), None, None));
    }
}
