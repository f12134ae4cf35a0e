//! Messages about a file that cannot be parsed, in the words of its writer: what is there, and what to write instead.

use std::fmt;

use serde_saphyr::Error;

use crate::text;

/// What is wrong with a file that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseProblem {
    /// Line and column, both counted from one, where they are known and not part of the message.
    pub place: Option<(u64, u64)>,
    /// Path of the field; empty for the document.
    pub field: String,
    /// The value of the field, when it is a single value and what is wrong.
    pub value: Option<String>,
    /// What was written, what is wrong with it, and what to write instead.
    pub message: String,
}

impl ParseProblem {
    /// A problem of the whole document.
    pub(super) const fn of_document(message: String) -> Self {
        Self { place: None, field: String::new(), value: None, message }
    }
}

impl fmt::Display for ParseProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line} column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What is wrong with the text. `path` is the field that was being read.
pub(super) fn of(error: &Error, text: &str, path: &str) -> ParseProblem {
    if text.lines().all(|line| matches!(line.trim(), "" | "---") || line.trim().starts_with('#')) {
        let message =
            "the file is empty; write `apiVersion`, `kind` and the fields that differ from their defaults";
        return ParseProblem::of_document(message.into());
    }
    let error = error.without_snippet();
    let Some(place) = error.location() else { return ParseProblem::of_document(error.to_string()) };
    let written = text::quoted(written_at(text, place.line(), place.column()), LONGEST);
    let message = meaning(error, &written);
    let place = (!message.starts_with("line ")).then(|| (place.line(), place.column()));
    let value = is_of_value(error) && !written.is_empty() && message.contains(&written);
    let field = if is_of_field(error) { field_of(path) } else { String::new() };
    ParseProblem { place, field, value: value.then_some(written), message }
}

/// Whether the error is about the value of a field.
const fn is_of_value(error: &Error) -> bool {
    matches!(
        error,
        Error::SerdeUnknownVariant { .. }
            | Error::InvalidScalar { .. }
            | Error::Unexpected { .. }
            | Error::Message { .. }
            | Error::ExternalMessage { .. }
    )
}

/// Whether the error is about a field; after an error of the syntax it is not known in which field the parser was.
const fn is_of_field(error: &Error) -> bool {
    is_of_value(error) || matches!(error, Error::SerdeUnknownField { .. })
}

/// A path of `serde_path_to_error` as the other messages write it: without the dot that stands for the document, and
/// without the question mark for a step that is not known.
fn field_of(path: &str) -> String {
    path.trim_end_matches(['?', '.']).to_string()
}

/// Longest value that a message repeats, in characters.
const LONGEST: usize = 64;

fn meaning(error: &Error, written: &str) -> String {
    match error {
        Error::MultipleDocuments { .. } => {
            "more than one YAML document; keep one GateConfiguration per file".into()
        }
        Error::DuplicateMappingKey { .. } => format!("`{written}` is given twice; remove one"),
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("unknown field `{}`, {}", text::quoted(field, LONGEST), one_of(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let shown = text::quoted(variant, LONGEST);
            // An output was once called `none` too; it is read, and no longer proposed.
            if expected.contains(&"stdout") {
                return format!(
                    "unknown value `{shown}`; write `stdout`, `off`, or `{{file: /var/log/x.log}}`"
                );
            }
            format!("unknown value `{shown}`, {}", one_of(variant, expected))
        }
        Error::InvalidScalar { ty, .. } => number(written, ty),
        Error::Unexpected { expected, .. } if expected.contains("sequence") => {
            format!("expected a list; write `[{written}]`")
        }
        Error::Unexpected { expected, .. } if expected.contains("mapping") => {
            format!("expected fields, found `{written}`; write them below the key, each as `name: value`")
        }
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => custom(msg, written),
        other => other.to_string(),
    }
}

fn one_of(word: &str, expected: &[&'static str]) -> String {
    let near = text::did_you_mean(word, expected.iter().copied());
    format!("expected one of {}{near}", expected.join(", "))
}

fn number(written: &str, kind: &str) -> String {
    if kind.contains("bool") {
        return format!("`{written}` is not a boolean; write `true` or `false`");
    }
    let bytes = crate::quantity::Quantity::parse(written).map(crate::quantity::Quantity::bytes);
    match bytes {
        Ok(bytes) if written.ends_with(|c: char| c.is_ascii_alphabetic()) => {
            format!("`{written}` is not a number of bytes; write {bytes}")
        }
        _ => format!("`{written}` is not a whole number from zero up; write one such as `64`"),
    }
}

fn custom(message: &str, written: &str) -> String {
    if message.contains("duration format") {
        format!("`{written}` is not a time span; write one such as `250ms`, `10s`, `1h30m`")
    } else if message.contains("socket address") {
        format!("`{written}` is not an IP address with a port; write one such as `0.0.0.0:8443`")
    } else if message.contains("IP address") || message.contains("CIDR") || message.contains("prefix length")
    {
        format!("`{written}` is not a network; write one such as `10.20.0.0/16`")
    } else {
        message.to_string()
    }
}

/// The single value that begins at a place, both counted from one.
fn written_at(text: &str, line: u64, column: u64) -> &str {
    let index = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(1);
    let Some(line) = text.lines().nth(index(line)) else { return "" };
    let start = line.char_indices().nth(index(column)).map_or(line.len(), |(at, _)| at);
    let rest = line.get(start..).unwrap_or_default();
    for quote in ['"', '\''] {
        let inner = rest.strip_prefix(quote).and_then(|inner| inner.split_once(quote));
        if let Some((inner, _)) = inner {
            return inner;
        }
    }
    let end = [", ", ",", "}", "]", " #", ": "].iter().filter_map(|stop| rest.find(stop)).min();
    rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest).trim_end().trim_end_matches(':')
}

#[cfg(test)]
mod tests {
    use crate::config::{Error, parse};

    const HEAD: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";

    fn said(text: &str) -> String {
        parse("gate.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_described_in_the_words_of_its_writer() {
        for (body, expected) in [
            ("grants: a\ngrants: b", "line 4 column 1: `grants` is given twice; remove one"),
            (
                "server: {reviewTimeout: 250}",
                "line 3 column 25: `250` is not a time span; write one such as `250ms`",
            ),
            ("server:\n  reviewTimeout: soon # later", "`soon` is not a time span"),
            ("images: {tagTtl: '250'}", "`250` is not a time span"),
            ("images: {memoryBytes: 64Mi}", "`64Mi` is not a number of bytes; write 67108864"),
            ("server: {maxConcurrentReviews: -4}", "`-4` is not a whole number"),
            ("images: {registries: {allow: ghcr.io}}", "expected a list; write `[ghcr.io]`"),
            ("images: {registries: {allowedCidrs: [10.0.0/8]}}", "`10.0.0/8` is not a network"),
            ("server: {listen: \"localhost:8443\"}", "`localhost:8443` is not an IP address with a port"),
            ("servr: {}", "unknown field `servr`, expected one of"),
            ("servr: {}", "did you mean `server`?"),
            ("decisionLog: {output: stdot}", "write `stdout`, `off`, or `{file: /var/log/x.log}`"),
            ("enforcement: {default: deni}", "did you mean `deny`?"),
            ("kubernetes: {watch: yess}", "`yess` is not a boolean"),
            ("---\napiVersion: v1", "more than one YAML document; keep one GateConfiguration per file"),
        ] {
            let said = said(&format!("{HEAD}{body}\n"));
            assert!(said.contains(expected), "{body}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(!said.contains("<input>"), "{said}");
        }
    }

    #[test]
    fn the_field_and_the_value_are_named_apart_from_the_message() {
        let parts = |body: &str| match parse("gate.yaml", &format!("{HEAD}{body}\n")) {
            Err(Error::ParseFile { problem, .. }) => (problem.field, problem.value),
            other => panic!("{other:?}"),
        };
        let value = |value: &str| Some(value.to_string());
        for (body, field, value) in [
            ("server: {reviewTimeout: soon}", "server.reviewTimeout", value("soon")),
            (
                "images: {registries: {allowedCidrs: [10.0.0.0/8, 10.0.0/8]}}",
                "images.registries.allowedCidrs[1]",
                value("10.0.0/8"),
            ),
            ("images: {registries: {allow: ghcr.io}}", "images.registries.allow", value("ghcr.io")),
            ("enforcement: {rules: {needs-grant: deni}}", "enforcement.rules.needs-grant", value("deni")),
            (
                "runtimes: {profiles: [{name: a, runtimeClass: b, runs: [modul]}]}",
                "runtimes.profiles[0].runs[0]",
                value("modul"),
            ),
            ("servr: {}", "servr", None),
            ("server: {lisen: x}", "server.lisen", None),
            ("grants: a\ngrants: b", "", None),
        ] {
            assert_eq!(parts(body), (field.to_string(), value), "{body}");
        }
    }

    #[test]
    fn an_empty_file_and_another_kind_are_named_before_any_field() {
        for empty in ["", "\n", "# nothing\n---\n"] {
            assert!(said(empty).contains("the file is empty"), "{empty:?}: {}", said(empty));
        }
        let said = said("apiVersion: v1\nkind: ConfigMap\ndata: {}\n");
        assert!(said.contains("kind `GateConfiguration`, found `v1` and `ConfigMap`"), "{said}");
    }
}
