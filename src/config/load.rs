//! Reads and checks the text of a configuration file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::file::{self, File};
use super::message::{self, ParseProblem};
use crate::files;
use crate::text;

/// Reads and checks a configuration file; without a path, returns the embedded default.
pub fn load(path: Option<&Path>) -> Result<File, Error> {
    let Some(path) = path else { return Ok(File::default()) };
    parse(&path.display().to_string(), &text_of(path)?)
}

/// The text of a configuration file.
pub fn text_of(path: &Path) -> Result<String, Error> {
    files::read_or_wait(path, LARGEST_FILE)
        .and_then(files::text)
        .map_err(|source| Error::ReadFile { path: path.display().to_string(), source })
}

/// Parses and checks the text of a configuration file; `name` is for messages.
pub fn parse(name: &str, text: &str) -> Result<File, Error> {
    let failed = |problem| Error::ParseFile { path: name.to_string(), problem };
    // The fields of another kind are not those of a configuration, so its kind is checked first.
    if let Ok(Head { api_version: Some(api_version), kind: Some(kind) }) = serde_saphyr::from_str(text)
        && (api_version != file::API_VERSION || kind != file::KIND)
    {
        return Err(failed(ParseProblem::of_document(format!(
            "expected apiVersion `{}` and kind `{}`, found `{}` and `{}`",
            file::API_VERSION,
            file::KIND,
            text::quoted(&api_version, LONGEST_NAME),
            text::quoted(&kind, LONGEST_NAME)
        ))));
    }
    let mut field = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| failed(message::of(&error, text, &field)))
}

/// Whether the text of a configuration, which may be no YAML, says nothing of this field of `policies`. An empty `policies: {}` says that
/// there is none.
pub fn lacks_policy(text: &str, field: &str) -> bool {
    let top = serde_saphyr::from_str::<BTreeMap<String, Value>>(text);
    top.is_ok_and(|top| match top.get("policies") {
        Some(Value::Object(policies)) => !policies.is_empty() && !policies.contains_key(field),
        _ => true,
    })
}

/// Largest configuration, in bytes. A ConfigMap has 1 MiB at most.
const LARGEST_FILE: u64 = 16 << 20;

/// Longest name that a message repeats, in characters.
const LONGEST_NAME: usize = 64;

/// What tells a configuration from other documents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
}
