//! Where decision records are sent, and how much waits for that.

use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use crate::client::{self, Credentials};

/// Least space for records that wait, in bytes: that of a few large ones.
const LEAST_SPOOL: u64 = 1 << 20;

/// Least size of a request, in bytes.
const LEAST_CHUNK: usize = 1024;

/// Largest size of a request, in bytes: eight times as much is read at once to fill it.
const MOST_CHUNK: usize = 4 << 20;

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadFormat {
    /// OPA's protocol: a JSON array of events.
    #[default]
    Opa,
    /// OpenTelemetry's: a log record for each event, in OTLP's binary encoding.
    Otlp,
}

/// Settings of the upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UploadOptions {
    /// The collector's URL, such as `https://collector.example.com/logs`: what OPA makes of `services[_].url` and
    /// `decision_logs.resource`.
    pub url: String,
    /// The protocol.
    #[serde(default)]
    pub format: UploadFormat,
    /// Folder of the records that wait.
    pub spool: PathBuf,
    /// Most bytes of records that wait; the oldest go first.
    #[serde(default = "spool_bytes")]
    pub spool_bytes: u64,
    /// Most bytes of one request, compressed.
    #[serde(default = "chunk_bytes")]
    pub chunk_bytes: usize,
    /// Longest time that a record waits for others to be sent with.
    #[serde(default = "delay", with = "duration")]
    pub delay: Duration,
    /// File with a bearer token; read for each request.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Client certificate in PEM; read for each request.
    #[serde(default)]
    pub client_cert_file: Option<PathBuf>,
    /// Private key of the client certificate.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// CAs in PEM of the collector instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether the collector may be reached by `http://`.
    #[serde(default)]
    pub plain_http: bool,
}

const fn spool_bytes() -> u64 {
    256 << 20
}

/// As OPA's `upload_size_limit_bytes`.
const fn chunk_bytes() -> usize {
    32_768
}

const fn delay() -> Duration {
    Duration::from_secs(10)
}

impl UploadOptions {
    /// The field that cannot be used, its value, and what to write.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let example = match self.format {
            UploadFormat::Opa => "write the collector's URL, as `https://collector.example.com/logs`",
            UploadFormat::Otlp => "write the collector's URL, as `https://collector.example.com/v1/logs`",
        };
        let wrong_url = client::url_problem(&self.url, self.plain_http, example);
        let wrong = [
            wrong_url.map(|cure| ("url", self.shown(), cure)),
            self.credentials().problem(),
            (self.spool_bytes < LEAST_SPOOL)
                .then(|| ("spoolBytes", self.spool_bytes.to_string(), "write at least `1048576`")),
            (!(LEAST_CHUNK..=MOST_CHUNK).contains(&self.chunk_bytes))
                .then(|| ("chunkBytes", self.chunk_bytes.to_string(), "write `1024` to `4194304`")),
            self.spool
                .as_os_str()
                .is_empty()
                .then(|| ("spool", String::new(), "write the path of a folder in which records wait")),
        ];
        wrong.into_iter().flatten().next()
    }

    /// How the collector is trusted, and how the gate shows who it is.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            ca_file: self.ca_file.clone(),
            client_cert_file: self.client_cert_file.clone(),
            client_key_file: self.client_key_file.clone(),
            token_file: self.token_file.clone(),
        }
    }

    /// The URL without what may be secret in it.
    pub fn shown(&self) -> String {
        client::shown(&self.url)
    }
}
