//! The parts of `data` that a bundle says are its own: `roots` of its manifest (`open-policy-agent/opa:v1/bundle/bundle.go`,
//! `validateAndInjectDefaults`). OPA activates no bundle that has data or rules outside of them.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::contents::is_rego;
use super::locations::Code;
use super::{Contents, Error};
use crate::rego::Value;
use crate::text;

/// Most roots, and most bytes of each: every value of the data is looked for among them.
const MAX_ROOTS: usize = 1000;
const MAX_ROOT_BYTES: usize = 1024;
/// Most parts of a path in Rego that is read.
const MAX_PARTS: usize = 1024;
/// Most roots that a message names.
const NAMED: usize = 5;
/// Most characters of a foreign name in a message.
const SHOWN: usize = 200;

/// A path below `data`.
type Parts = Vec<String>;

/// The roots, none of which is above another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roots(BTreeSet<Parts>);

impl Default for Roots {
    /// All of `data`, as where the manifest says nothing.
    fn default() -> Self {
        Self(BTreeSet::from([Parts::new()]))
    }
}

impl Roots {
    /// Those of a manifest. The error says what is wrong with them.
    pub fn of(written: Option<&[String]>) -> Result<Self, String> {
        let Some(written) = written else { return Ok(Self::default()) };
        if written.len() > MAX_ROOTS || written.iter().any(|root| root.len() > MAX_ROOT_BYTES) {
            return Err(format!(
                "`roots` has more than {MAX_ROOTS} paths, or one of more than {MAX_ROOT_BYTES} bytes"
            ));
        }
        let mut roots = BTreeSet::new();
        for root in written {
            let root = parts(root);
            let name = shown(&root);
            if !roots.insert(root) {
                return Err(format!("`roots` has {name} twice; write it once"));
            }
        }
        // What begins with a root comes right after it.
        let mut neighbours = roots.iter().zip(roots.iter().skip(1));
        if let Some((above, below)) = neighbours.find(|(above, below)| below.starts_with(above.as_slice())) {
            let (above, below) = (shown(above), shown(below));
            return Err(format!("`roots` has {below}, which is a part of {above} there; leave out {below}"));
        }
        Ok(Self(roots))
    }

    /// Refuses a bundle of which the data, an entry point of the manifest or a source is outside.
    pub fn check_files<'a>(
        &self,
        bundle: &str,
        entrypoints: impl Iterator<Item = &'a str>,
        data: &Value,
        files: &Contents,
    ) -> Result<(), Error> {
        if *self == Self::default() {
            return Ok(());
        }
        if let Some(path) = self.outside(data) {
            let what = format!("the value at {} in `data.json`", shown(&path));
            return Err(self.left(bundle, what, &path));
        }
        self.check_entrypoints(bundle, entrypoints)?;
        for (name, bytes) in files.files().filter(|(name, _)| is_rego(name)) {
            let package = std::str::from_utf8(bytes).ok().and_then(package_of);
            if let Some(package) = package.filter(|package| !self.hold(package)) {
                let file = text::quoted(name, SHOWN);
                let what = format!("the package {} of `{file}`", shown(&package));
                return Err(self.left(bundle, what, &package));
            }
        }
        Ok(())
    }

    /// Refuses a bundle of which an entry point of the module, or a rule that was compiled into it, is outside.
    pub fn check_module<'a>(
        &self,
        bundle: &str,
        entrypoints: impl Iterator<Item = &'a str>,
        code: &Code<'_>,
    ) -> Result<(), Error> {
        if *self == Self::default() {
            return Ok(());
        }
        self.check_entrypoints(bundle, entrypoints)?;
        let rules = code.bodies.keys().filter(|function| code.is_rule(**function));
        for rule in rules.filter_map(|function| rule_at(code.name(*function)?)) {
            // Its package, or what is below that where the rule has several parts.
            if !self.hold(above(&rule)) {
                return Err(self.left(bundle, format!("the rule {}", shown(&rule)), above(&rule)));
            }
        }
        Ok(())
    }

    fn check_entrypoints<'a>(
        &self,
        bundle: &str,
        mut entrypoints: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let outside = entrypoints.find(|entrypoint| !self.hold(&parts(entrypoint)));
        outside.map_or(Ok(()), |entrypoint| {
            let path = parts(entrypoint);
            Err(self.left(bundle, format!("the entry point {}", shown(&path)), above(&path)))
        })
    }

    /// Whether a path is below a root, or is one.
    fn hold(&self, path: &[String]) -> bool {
        // Between a root and what is below it there is no other root, since that would be below the first.
        let mut until = self.0.range::<[String], _>((Bound::Unbounded, Bound::Included(path)));
        until.next_back().is_some_and(|root| path.starts_with(root))
    }

    /// Whether a root is below a path.
    fn begin_with(&self, path: &[String]) -> bool {
        let mut from = self.0.range::<[String], _>((Bound::Included(path), Bound::Unbounded));
        from.next().is_some_and(|root| root.starts_with(path))
    }

    /// The path of the first value that is outside.
    fn outside(&self, data: &Value) -> Option<Parts> {
        let mut path = Parts::new();
        self.is_outside(&mut path, data).then_some(path)
    }

    /// Ends at the path of a value that is outside. No deeper than the longest root.
    fn is_outside(&self, path: &mut Parts, value: &Value) -> bool {
        if self.hold(path) {
            return false;
        }
        let Value::Object(members) = value else { return true };
        if !self.begin_with(path) {
            return true;
        }
        members.iter().any(|(key, value)| {
            let above = path.len();
            // OPA joins the keys to one path.
            path.extend(key.to_key().split('/').map(String::from));
            let is_outside = self.is_outside(path, value);
            if !is_outside {
                path.truncate(above);
            }
            is_outside
        })
    }

    fn left(&self, bundle: &str, what: String, path: &[String]) -> Error {
        let named: Vec<_> = self.0.iter().take(NAMED).map(|root| shown(root)).collect();
        let roots = match (named.as_slice(), self.0.len().saturating_sub(NAMED)) {
            ([], _) => "an empty list".into(),
            (_, 0) => named.join(", "),
            (_, more) => format!("{} and {more} more", named.join(", ")),
        };
        Error::LeaveRoots { bundle: bundle.into(), what, roots, root: shown(path) }
    }
}

/// A path of a manifest. A slash at either end means nothing.
fn parts(path: &str) -> Parts {
    let path = path.trim_matches('/');
    if path.is_empty() { Parts::new() } else { path.split('/').map(String::from).collect() }
}

/// What a path is in.
fn above(path: &[String]) -> &[String] {
    path.split_last().map_or(path, |(_, above)| above)
}

/// A path in a message. That of all data is the empty one.
pub(super) fn shown(path: &[String]) -> String {
    if path.is_empty() { "`\"\"`".into() } else { format!("`{}`", text::quoted(&path.join("/"), SHOWN)) }
}

/// The path of a rule from the name of its function, as `g0.data.wasmgate.violations`; `None` where it is none.
pub(super) fn rule_at(function: &str) -> Option<Parts> {
    let (_, reference) = function.split_once('.')?;
    members(Parts::new(), reference.strip_prefix("data")?)
}

/// The package of a source. It is what the first statement says.
fn package_of(source: &str) -> Option<Parts> {
    let mut rest = source.trim_start();
    while let Some(comment) = rest.strip_prefix('#') {
        rest = comment.split_once('\n')?.1.trim_start();
    }
    let after = rest.strip_prefix("package")?;
    let path = after.trim_start();
    let (first, rest) = word(path);
    if first.is_empty() || path.len() == after.len() {
        return None;
    }
    members(Parts::from([first.to_string()]), rest)
}

/// The parts of a reference with those that follow, `.a["b c"].d`, up to what is no part of it.
fn members(mut parts: Parts, mut rest: &str) -> Option<Parts> {
    while parts.len() <= MAX_PARTS {
        if let Some(member) = rest.strip_prefix('.') {
            let (part, after) = word(member);
            parts.push(part.to_string());
            rest = after;
        } else if let Some(member) = rest.strip_prefix('[') {
            let mut texts = serde_json::Deserializer::from_str(member).into_iter::<String>();
            parts.push(texts.next()?.ok()?);
            rest = member.get(texts.byte_offset()..)?.strip_prefix(']')?;
        } else {
            return Some(parts);
        }
    }
    None
}

/// The word at the beginning, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego;

    fn roots(written: &[&str]) -> Result<Roots, String> {
        let written: Vec<_> = written.iter().map(ToString::to_string).collect();
        Roots::of(Some(written.as_slice()))
    }

    #[test]
    fn roots_that_are_there_twice_or_within_one_another_are_refused() {
        for (written, said) in [
            (&["a/b", "c", "/a/b/"][..], "has `a/b` twice"),
            (&["a/b/c", "x", "a/b"], "has `a/b/c`, which is a part of `a/b` there"),
            (&["a", ""], "has `a`, which is a part of `\"\"` there"),
            (&["a", "a-b", "a/b"], "has `a/b`, which is a part of `a` there"),
        ] {
            let refused = roots(written).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        assert!(roots(&["a", "a-b", "ab"]).is_ok());
        assert_eq!(Roots::of(None), Ok(Roots::default()));
        assert_eq!(roots(&["/"]), Ok(Roots::default()));
        let many: Vec<_> = (0..=MAX_ROOTS).map(|root| root.to_string()).collect();
        assert!(Roots::of(Some(many.as_slice())).is_err() && roots(&["x".repeat(1025).as_str()]).is_err());
    }

    #[test]
    fn data_is_below_a_root_or_on_the_way_to_one() {
        for (written, data, outside) in [
            (&[""][..], r#"{"a": 1}"#, None),
            (&["a/b"], r#"{"a": {"b": 1}}"#, None),
            (&["a/b"], "{}", None),
            (&["a/b"], r#"{"a": {}}"#, None),
            (&["a/b", "c"], r#"{"a": {"b": {"x": 1}}, "c": [1]}"#, None),
            (&["a/b"], r#"{"a": 1}"#, Some("a")),
            (&["a/b"], r#"{"a": {"b": 1, "bc": 1}}"#, Some("a/bc")),
            (&["a"], r#"{"ab": {"a": 1}}"#, Some("ab")),
            (&["a/b"], r#"{"a": {"c": {"a": {"b": 1}}}}"#, Some("a/c")),
            (&[], "{}", Some("")),
        ] {
            let found = roots(written).unwrap().outside(&rego::read_json(data).unwrap());
            assert_eq!(found.map(|path| path.join("/")).as_deref(), outside, "{written:?} {data}");
        }
    }

    #[test]
    fn a_path_is_held_by_the_root_above_it_whatever_stands_between_them() {
        let own = roots(&["a", "a-b", "b/c", "b/c-d", "b/d/e"]).unwrap();
        let holds = |path: &str| own.hold(&parts(path));
        for path in ["a", "a/z/z", "a-b/a", "b/c/a", "b/c/z", "b/c-d/b", "b/d/e", "b/d/e/f"] {
            assert!(holds(path), "{path}");
        }
        for path in ["", "aa", "a-", "b", "b/c-", "b/cc", "b/d", "b/d/f", "c"] {
            assert!(!holds(path), "{path}");
        }
        assert!(Roots::default().hold(&[]) && Roots::default().hold(&parts("a/b")));
        assert!(!roots(&[]).unwrap().hold(&[]));
    }

    #[test]
    fn paths_of_packages_and_rules_are_read_as_rego_writes_them() {
        for (source, path) in [
            ("package a.b\n\nx := 1", Some("a|b")),
            ("# one\n\n  # package no\npackage a[\"b.c\"].d # e", Some("a|b.c|d")),
            ("package\n  a", Some("a")),
            ("packages.a", None),
            ("# package a", None),
            ("package a[", None),
            ("", None),
        ] {
            assert_eq!(package_of(source).map(|path| path.join("|")).as_deref(), path, "{source}");
        }
        for (function, path) in [
            ("g0.data.wasmgate.violations", Some("wasmgate|violations")),
            ("g12.data.x[\"b-c\"].f", Some("x|b-c|f")),
            ("g0.data.allow[\"a b\"].c", Some("allow|a b|c")),
            ("opa_value_get", None),
            ("g0.input.x", None),
        ] {
            assert_eq!(rule_at(function).map(|path| path.join("|")).as_deref(), path, "{function}");
        }
        assert_eq!(package_of(&format!("package a{}", ".a".repeat(MAX_PARTS + 2))), None);
    }

    #[test]
    fn what_is_outside_is_named_with_the_roots_and_the_cure() {
        let baseline = &Code::read(include_bytes!("../../policies/baseline/policy.wasm")).unwrap();
        let entry = || ["wasmgate/violations"].into_iter();
        let own = roots(&["wasmgate"]).unwrap();
        assert!(own.check_module("b", entry(), baseline).is_ok());
        let said =
            roots(&["foo", "bar"]).unwrap().check_module("b", entry(), baseline).unwrap_err().to_string();
        assert!(
            said.contains("the entry point `wasmgate/violations`")
                && said.contains("`bar`, `foo`")
                && said.contains("add `wasmgate`"),
            "{said}"
        );
        // The baseline has a package for each rule, below this one.
        let said = roots(&["wasmgate/violations"]).unwrap();
        let said = said.check_module("b", entry(), baseline).unwrap_err().to_string();
        assert!(said.contains("the rule `wasmgate/"), "{said}");
    }
}
