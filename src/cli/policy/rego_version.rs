//! The version of Rego that rules are in, as `.manifest` in their folder says it (`open-policy-agent/opa:v1/bundle/manifest.schema.json`).
//! Commands of opa that read a bundle go by that file; those that read single files have to be told.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// What such a command is told of files in Rego v0.
pub const V0_FLAG: &str = "--v0-compatible";

/// The version of the rules of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegoVersion {
    /// All are in Rego v1.
    V1,
    /// All are in Rego v0, as they were written for OPA before 1.0 and for Gatekeeper.
    V0,
    /// Some are in the one, some in the other.
    Mixed,
}

/// The part of `.manifest` that says it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Versions {
    #[serde(rename = "rego_version")]
    whole: Option<u64>,
    #[serde(rename = "file_rego_versions")]
    files: Option<BTreeMap<String, u64>>,
}

impl RegoVersion {
    /// That of the rules in this folder; what is no manifest says nothing, and opa says why it is none.
    pub fn of(rules: &Path) -> Self {
        let manifest = rules.join(".manifest");
        // Reading a pipe would wait for its writer.
        if !manifest.is_file() {
            return Self::V1;
        }
        Self::stated(&std::fs::read(manifest).unwrap_or_default())
    }

    fn stated(manifest: &[u8]) -> Self {
        let Versions { whole, files } = serde_json::from_slice(manifest).unwrap_or_default();
        let whole = whole.unwrap_or(1);
        let is_mixed = files.unwrap_or_default().values().any(|version| *version != whole);
        match whole {
            _ if is_mixed => Self::Mixed,
            0 => Self::V0,
            _ => Self::V1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_says_the_version_of_all_files_or_of_some() {
        for (manifest, version) in [
            ("", RegoVersion::V1),
            ("[", RegoVersion::V1),
            (r#"{"revision": "a", "roots": [""]}"#, RegoVersion::V1),
            (r#"{"rego_version": null, "file_rego_versions": null}"#, RegoVersion::V1),
            (r#"{"rego_version": 1, "file_rego_versions": {"a.rego": 1}}"#, RegoVersion::V1),
            (r#"{"rego_version": 0}"#, RegoVersion::V0),
            (r#"{"rego_version": 0, "file_rego_versions": {"*/new.rego": 1}}"#, RegoVersion::Mixed),
            (r#"{"file_rego_versions": {"/lib/*": 0}}"#, RegoVersion::Mixed),
        ] {
            assert_eq!(RegoVersion::stated(manifest.as_bytes()), version, "{manifest}");
        }
    }
}
