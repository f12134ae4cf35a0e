//! What of the rules the tests of `opa test` and the cases have reached, as opa counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::text;

/// Most ranges of lines that a file has in the text.
const MOST_RANGES: usize = 20;

/// The report of `opa test --coverage` (`open-policy-agent/opa:v1/cover/cover.go`).
#[derive(Debug, Default, Deserialize)]
pub struct OpaCoverage {
    #[serde(default)]
    files: BTreeMap<String, OpaFile>,
    #[serde(default)]
    coverage: f64,
}

#[derive(Debug, Deserialize)]
struct OpaFile {
    #[serde(default)]
    covered: Vec<Range>,
    #[serde(default)]
    not_covered: Vec<Range>,
    #[serde(default)]
    coverage: f64,
}

#[derive(Debug, Deserialize)]
struct Range {
    start: Row,
    end: Row,
}

#[derive(Debug, Deserialize)]
struct Row {
    row: u64,
}

/// What the tests have reached.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// In percent, of all files.
    pub percent: f64,
    /// The least that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Each file.
    pub files: Vec<CoveredFile>,
}

/// What they have reached of one file.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoveredFile {
    /// Its name.
    pub file: String,
    /// In percent.
    pub percent: f64,
    /// First and last line of what they have not reached.
    pub not_covered: Vec<(u64, u64)>,
}

impl Coverage {
    /// What opa has counted of these rules, by tests and by cases: a line is reached if either of them reaches all of it. Files that the
    /// cases do not have are tests.
    pub fn of_both(rules: &Path, tests: OpaCoverage, cases: OpaCoverage, threshold: Option<f64>) -> Self {
        let mut cases: BTreeMap<_, _> =
            cases.files.into_iter().map(|(name, file)| (plain(&name), file)).collect();
        let mut tests: BTreeMap<_, _> =
            tests.files.into_iter().map(|(name, file)| (plain(&name), file)).collect();
        let names: BTreeSet<_> = tests.keys().chain(cases.keys()).cloned().collect();
        let (mut files, mut all, mut reached) = (Vec::new(), 0_usize, 0_usize);
        for name in names {
            let found: Vec<_> = tests.remove(&name).into_iter().chain(cases.remove(&name)).collect();
            let rows =
                |ranges: &[Range]| ranges.iter().flat_map(|range| range.start.row..=range.end.row).collect();
            let known: BTreeSet<u64> = found
                .iter()
                .flat_map(|file| [rows(&file.covered), rows(&file.not_covered)])
                .flatten()
                .collect::<BTreeSet<u64>>();
            let missed = found.iter().map(|file| -> BTreeSet<u64> { rows(&file.not_covered) });
            let missed = missed.reduce(|one, other| &one & &other).unwrap_or_default();
            let (lines, hit) = (known.len(), known.len().saturating_sub(missed.len()));
            (all, reached) = (all.saturating_add(lines), reached.saturating_add(hit));
            let not_covered = joined(missed.into_iter().map(|row| (row, row)));
            let file = rules.join(&name).display().to_string();
            files.push(CoveredFile { file, percent: percent(hit, lines), not_covered });
        }
        Self { percent: percent(reached, all), threshold, files }
    }

    /// What opa has counted of these rules by tests alone.
    pub fn of(rules: &Path, counted: OpaCoverage, threshold: Option<f64>) -> Self {
        let file = |(file, counted): (String, OpaFile)| {
            let file = rules.join(plain(&file)).display().to_string();
            let ranges = counted.not_covered.iter().map(|range| (range.start.row, range.end.row));
            CoveredFile { file, percent: counted.coverage, not_covered: joined(ranges) }
        };
        Self { percent: counted.coverage, threshold, files: counted.files.into_iter().map(file).collect() }
    }

    /// Whether it is less than what is asked for.
    pub fn is_too_low(&self) -> bool {
        self.threshold.is_some_and(|threshold| self.percent < threshold)
    }

    /// For a terminal: each file that is not covered whole, and the sum.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for CoveredFile { file, percent, not_covered } in &self.files {
            if not_covered.is_empty() {
                continue;
            }
            let range = |(first, last): &(u64, u64)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            };
            let shown: Vec<_> = not_covered.iter().take(MOST_RANGES).map(range).collect();
            let more = not_covered.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" … and {more} more") } else { String::new() };
            // Writing to a string cannot fail, here and below.
            let file = text::line(file);
            let _ = writeln!(out, "{file}: {percent:.1} % covered, not lines {}{more}", shown.join(", "));
        }
        let below = match self.threshold {
            Some(threshold) if self.is_too_low() => format!(", less than {threshold:.1} %"),
            _ => String::new(),
        };
        let _ = writeln!(out, "COVERAGE: {:.1} %{below}", self.percent);
        out
    }
}

/// The name of a file below the folder of the rules.
fn plain(name: &str) -> String {
    name.trim_start_matches("./").trim_start_matches('/').to_string()
}

/// A share in percent; all of nothing.
#[allow(clippy::cast_precision_loss, reason = "files have few lines")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Ranges of lines in order, those that touch as one.
fn joined(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut sorted: Vec<_> = ranges.collect();
    sorted.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_reached_if_tests_or_cases_reach_it() {
        let read = |text: &str| serde_json::from_str::<OpaCoverage>(text).unwrap();
        let rows = |rows: &[u64]| {
            let each = rows
                .iter()
                .map(|row| format!("{{\"start\": {{\"row\": {row}}}, \"end\": {{\"row\": {row}}}}}"));
            format!("[{}]", each.collect::<Vec<_>>().join(","))
        };
        let file = |name: &str, covered: &[u64], missed: &[u64]| {
            format!("\"{name}\": {{\"covered\": {}, \"not_covered\": {}}}", rows(covered), rows(missed))
        };
        let tests = read(&format!(
            "{{\"files\": {{{}, {}}}}}",
            file("a.rego", &[1], &[2, 3]),
            file("a_test.rego", &[1], &[])
        ));
        let cases = read(&format!("{{\"files\": {{{}}}}}", file("/a.rego", &[2], &[1, 3])));
        let found = Coverage::of_both(Path::new("rules"), tests, cases, Some(80.0));
        assert_eq!(found.files[0].not_covered, [(3, 3)]);
        assert!((found.percent - 75.0).abs() < 0.01 && found.is_too_low(), "{found:?}");
    }

    #[test]
    fn lines_that_touch_are_one_range() {
        let ranges = [(8, 8), (3, 3), (9, 12), (10, 11), (14, 14)];
        assert_eq!(joined(ranges.into_iter()), [(3, 3), (8, 12), (14, 14)]);
    }
}
