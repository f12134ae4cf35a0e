//! What of the rules the tests of `opa test` have reached, as opa counts it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::text;

/// Most ranges of lines that a file has in the text.
const MOST_RANGES: usize = 20;

/// The report of `opa test --coverage` (`open-policy-agent/opa:v1/cover/cover.go`).
#[derive(Debug, Deserialize)]
pub struct OpaCoverage {
    #[serde(default)]
    files: BTreeMap<String, OpaFile>,
    #[serde(default)]
    coverage: f64,
}

#[derive(Debug, Deserialize)]
struct OpaFile {
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
    /// What opa has counted of these rules.
    pub fn of(rules: &Path, counted: OpaCoverage, threshold: Option<f64>) -> Self {
        let file = |(file, counted): (String, OpaFile)| {
            let file = rules.join(file.trim_start_matches('/')).display().to_string();
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
    fn lines_that_touch_are_one_range() {
        let ranges = [(8, 8), (3, 3), (9, 12), (10, 11), (14, 14)];
        assert_eq!(joined(ranges.into_iter()), [(3, 3), (8, 12), (14, 14)]);
    }
}
