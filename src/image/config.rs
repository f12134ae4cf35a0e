//! The image config: platform, entry point, working directory, names of variables (OCI image-spec `config.md`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::malformed::{Malformed, Rest, no_lookalikes};
use super::manifest;

/// What an image config says, as far as detection needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Operating system as written.
    pub os: String,
    /// Architecture as written; runwasi looks for Wasm layers only where it is exactly `wasm`.
    pub architecture: String,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Cmd.
    pub cmd: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// Names of the variables in Env; values are never kept.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Config {
    /// `os/architecture` in lower case; empty when it names neither.
    pub fn platform(&self) -> String {
        manifest::platform(&self.os, &self.architecture)
    }
}

#[derive(Deserialize)]
struct Outer {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    config: Option<Inner>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<String>>>,
    #[serde(flatten)]
    rest: Rest,
}

/// Reads an image config, or the config of a Wasm artifact, which has only the platform of it.
pub fn parse(bytes: &[u8]) -> Result<Config, Malformed> {
    let outer: Outer = serde_json::from_slice(bytes)?;
    no_lookalikes(&outer.rest, &["os", "architecture", "config"])?;
    let inner = outer.config.unwrap_or_default();
    no_lookalikes(&inner.rest, &["Entrypoint", "Cmd", "WorkingDir", "Env", "Labels"])?;
    let labels = inner.labels.unwrap_or_default();
    Ok(Config {
        os: outer.os.unwrap_or_default(),
        architecture: outer.architecture.unwrap_or_default(),
        entrypoint: inner.entrypoint.unwrap_or_default(),
        cmd: inner.cmd.unwrap_or_default(),
        working_dir: inner.working_dir.unwrap_or_default(),
        env: inner.env.unwrap_or_default().iter().map(|variable| name(variable)).collect(),
        labels: labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
    })
}

fn name(variable: &str) -> String {
    variable.split_once('=').map_or(variable, |(name, _)| name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_absences_and_values_of_variables_are_dropped() {
        let config = parse(
            br#"{"os":"linux","architecture":"amd64","config":{"Entrypoint":null,"Cmd":["/a"],"Env":["A=secret","B"],
                "Labels":{"x":null},"User":"65534"},"rootfs":{"type":"layers"},"history":null}"#,
        )
        .unwrap();
        assert_eq!(config.platform(), "linux/amd64");
        assert_eq!((config.entrypoint.len(), config.cmd.as_slice()), (0, ["/a".to_string()].as_slice()));
        assert_eq!(config.env, ["A", "B"]);
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(parse(b"{}").unwrap(), Config::default());
        assert_eq!(parse(br#"{"config":null,"os":null}"#).unwrap().platform(), "");
    }

    #[test]
    fn a_key_that_only_containerd_would_read_is_refused() {
        for bytes in [
            br#"{"os":"linux","Os":"wasip1"}"#.as_slice(),
            br#"{"config":{"entrypoint":["/evil.wasm"]}}"#,
            br#"{"Config":{"Entrypoint":["/evil.wasm"]}}"#,
        ] {
            assert!(parse(bytes).unwrap_err().0.contains("letter case"));
        }
        assert!(parse(br#"{"config":{"Cmd":"/a"}}"#).is_err());
    }
}
