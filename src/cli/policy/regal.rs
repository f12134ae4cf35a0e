//! The author's `regal`: finds out whether it is there, and reads what it objects to.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::opa::OpaProblem;
use crate::cli::Error;

/// Rules of regal that have nothing to say of a bundle for the gate: its entry point is named when it is built, rules of one package may be
/// in any folder, and the format is checked already.
const NOT_OURS: [&str; 3] = ["no-defined-entrypoint", "directory-package-mismatch", "opa-fmt"];
/// Keeps it from asking for a newer version.
const NO_VERSION_CHECK: &str = "REGAL_DISABLE_VERSION_CHECK";

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    violations: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    title: String,
    description: String,
    category: String,
    level: String,
    location: Location,
}

#[derive(Deserialize)]
struct Location {
    #[serde(default)]
    file: String,
    #[serde(default)]
    row: u64,
    #[serde(default)]
    col: u64,
}

/// What regal objects to as errors; `None` if it is not there.
pub fn lint(program: &Path, rules: &Path, ignored: &[String]) -> Result<Option<Vec<OpaProblem>>, Error> {
    let mut command = Command::new(program);
    command.args(["lint", "--format", "json"]).stdin(Stdio::null()).env(NO_VERSION_CHECK, "1");
    if !has_configuration(rules) {
        command.args(NOT_OURS.iter().flat_map(|rule| ["--disable", rule]));
    }
    command.args(ignored.iter().flat_map(|name| ["--ignore-files", name]));
    let output = match command.arg(rules).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error.to_string())),
    };
    let read: Result<Report, _> = serde_json::from_slice(&output.stdout);
    let report = read.map_err(|_| failed(String::from_utf8_lossy(&output.stderr).trim()))?;
    let errors = report.violations.into_iter().filter(|finding| finding.level == "error");
    Ok(Some(errors.map(problem).collect()))
}

/// Whether the author has written which rules count (`open-policy-agent/regal:pkg/config/config.go`).
fn has_configuration(rules: &Path) -> bool {
    let rules = rules.canonicalize().unwrap_or_else(|_| rules.to_path_buf());
    rules
        .ancestors()
        .any(|folder| folder.join(".regal/config.yaml").is_file() || folder.join(".regal.yaml").is_file())
}

fn problem(finding: Finding) -> OpaProblem {
    let Finding { title, description, category, location, .. } = finding;
    OpaProblem {
        file: location.file,
        row: location.row,
        column: location.col,
        code: format!("regal/{category}/{title}"),
        message: format!("{description} (regal: {title})"),
    }
}

fn failed(message: &str) -> Error {
    Error::RunRegal { message: message.to_string() }
}
