//! Where spans are sent, and of which reviews.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::client::{self, Credentials};

/// Reviews of which [`TracingOptions::sampling_rate_per_million`] may be recorded.
const MILLION: u32 = 1_000_000;

/// Settings of the traces. Names as in Kubernetes' own `TracingConfiguration` (`component-base:tracing/api/v1/types.go`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TracingOptions {
    /// The collector's URL, such as `https://collector.example.com/v1/traces`.
    pub endpoint: String,
    /// Of a million reviews that belong to no trace, so many are recorded. Of those that belong to one, the API server says whether.
    #[serde(default)]
    pub sampling_rate_per_million: u32,
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

impl TracingOptions {
    /// The field that cannot be used, its value, and what to write.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let example = "write the collector's URL, as `https://collector.example.com/v1/traces`";
        let wrong_url = client::url_problem(&self.endpoint, self.plain_http, example);
        let wrong_rate = (self.sampling_rate_per_million > MILLION).then(|| {
            let rate = self.sampling_rate_per_million.to_string();
            ("samplingRatePerMillion", rate, "write at most `1000000`, which is every review")
        });
        let wrong = wrong_url.map(|cure| ("endpoint", client::shown(&self.endpoint), cure));
        wrong.or_else(|| self.credentials().problem()).or(wrong_rate)
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials {
            ca_file: self.ca_file.clone(),
            client_cert_file: self.client_cert_file.clone(),
            client_key_file: self.client_key_file.clone(),
            token_file: self.token_file.clone(),
        }
    }
}
