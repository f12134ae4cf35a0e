//! Where decision records are sent, and how much waits for that.

use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};
use url::Url;

/// Least space for records that wait, in bytes: that of a few large ones.
const LEAST_SPOOL: u64 = 1 << 20;

/// Least size of a request, in bytes.
const LEAST_CHUNK: usize = 1024;

/// Settings of the upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UploadOptions {
    /// The collector's URL, such as `https://collector.example.com/logs`: what OPA makes of `services[_].url` and
    /// `decision_logs.resource`.
    pub url: String,
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
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        let url = Url::parse(&self.url).ok().filter(|url| url.host_str().is_some());
        let wrong_url = match (scheme, url) {
            (Some("http"), Some(_)) if !self.plain_http => {
                Some("everyone on the way could read it; write `https://`, or set `plainHttp: true`")
            }
            (Some("http" | "https"), Some(url)) if url.username().is_empty() && url.password().is_none() => {
                None
            }
            (Some("http" | "https"), Some(_)) => {
                Some("credentials do not belong into a URL; use `tokenFile` or `clientCertFile`")
            }
            _ => Some("write the collector's URL, as `https://collector.example.com/logs`"),
        };
        let half = self.client_cert_file.is_some() != self.client_key_file.is_some();
        let wrong = [
            wrong_url.map(|cure| ("url", self.shown(), cure)),
            half.then(|| {
                ("clientCertFile", String::new(), "write `clientCertFile` and `clientKeyFile`, or neither")
            }),
            (self.spool_bytes < LEAST_SPOOL)
                .then(|| ("spoolBytes", self.spool_bytes.to_string(), "write at least `1048576`")),
            (self.chunk_bytes < LEAST_CHUNK)
                .then(|| ("chunkBytes", self.chunk_bytes.to_string(), "write at least `1024`")),
            self.spool
                .as_os_str()
                .is_empty()
                .then(|| ("spool", String::new(), "write the path of a folder in which records wait")),
        ];
        wrong.into_iter().flatten().next()
    }

    /// The URL without what may be secret in it.
    pub fn shown(&self) -> String {
        let Ok(mut url) = Url::parse(&self.url) else { return "?".into() };
        url.set_query(None);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }
}
