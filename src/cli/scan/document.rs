//! JSON and YAML of a scan.

use serde_json::{Value, json};

use crate::cli::args::{OutputFormat, ScanFormat};
use crate::cli::{Error, inspect};
use crate::scan::model::Scan;

/// One document with the workloads that are listed.
pub fn document(scan: &Scan, all: bool, format: ScanFormat) -> Result<Vec<u8>, Error> {
    let document = json!({
        "summary": scan.summary,
        "workloads": scan.shown(all),
        "notJudged": scan.not_judged,
        "otherKinds": scan.other_kinds,
        "grants": scan.grants,
    });
    let output = if format == ScanFormat::Yaml { OutputFormat::Yaml } else { OutputFormat::Json };
    inspect::reported("ScanReport", document, output)
}

/// A value as JSON in which no character acts on what shows it.
pub fn json(value: &Value) -> Result<Vec<u8>, Error> {
    inspect::formatted(value, OutputFormat::Json)
}
