//! The part of the configuration about the page for people.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::serde::duration::friendly::compact::required as compact;
use serde::{Deserialize, Serialize};

use super::Error;
use super::value::{duration, wrong};

/// Shortest time between two scans for the page: each reads all pods of the cluster.
const SHORTEST_REFRESH: Duration = Duration::from_secs(30);

/// The page for people: what runs, what it can do, and what was refused lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PageSettings {
    /// Address of the page, over TLS. Default: none, and there is no page.
    pub listen: Option<SocketAddr>,
    /// Audiences of which the token of a reader must name one. Default: those of the API server.
    pub audiences: Vec<String>,
    /// How old a scan of the cluster may be when the page is read, before there is another one.
    #[serde(serialize_with = "compact")]
    pub refresh_after: SignedDuration,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self { listen: None, audiences: Vec::new(), refresh_after: SignedDuration::from_mins(10) }
    }
}

impl PageSettings {
    /// The checked age of a scan, in a file by which the cluster is watched or not, and whose other listeners have these addresses.
    pub(super) fn check(&self, is_watched: bool, others: [SocketAddr; 2]) -> Result<Duration, Error> {
        let refresh = duration("server.page.refreshAfter", self.refresh_after)?;
        if refresh < SHORTEST_REFRESH {
            let message = "each scan reads all pods of the cluster; write at least `30s`";
            return Err(wrong("server.page.refreshAfter", &format!("{refresh:?}"), message));
        }
        if self.audiences.iter().any(String::is_empty) {
            let message = "write the audience for which tokens of readers are made, or leave the list out";
            return Err(wrong("server.page.audiences", &"", message));
        }
        let Some(address) = self.listen else { return Ok(refresh) };
        if !is_watched {
            let message =
                "the page shows the cluster, and asks it who may read; write `kubernetes.watch: true`";
            return Err(wrong("server.page.listen", &address, message));
        }
        if address.port() != 0 && others.iter().any(|other| other.port() == address.port()) {
            let message = "the webhooks or the probes have this port; write another one";
            return Err(wrong("server.page.listen", &address, message));
        }
        Ok(refresh)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{File, Overrides, parse, resolve};

    fn read(body: &str) -> Result<File, String> {
        let text = format!("apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n{body}\n");
        let file = parse("gate.yaml", &text).map_err(|error| error.to_string())?;
        resolve(file, Overrides::default()).map(|settings| settings.file).map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_no_page_unless_it_is_asked_for_and_then_only_beside_a_cluster() {
        assert_eq!(File::default().server.page.listen, None);
        let watched = |page: &str| read(&format!("kubernetes: {{watch: true}}\nserver: {{page: {page}}}"));
        let file = watched("{listen: '0.0.0.0:8444', audiences: [gate], refreshAfter: 1m}").unwrap();
        assert_eq!(file.server.page.listen.unwrap().port(), 8444);
        for (problem, part) in [
            (read("server: {page: {listen: '0.0.0.0:8444'}}"), "kubernetes.watch: true"),
            (watched("{listen: '0.0.0.0:8443'}"), "write another one"),
            (watched("{listen: '[::]:8080'}"), "write another one"),
            (watched("{refreshAfter: 29s}"), "at least `30s`"),
            (watched("{refreshAfter: -1m}"), "server.page.refreshAfter"),
            (watched("{audiences: ['']}"), "server.page.audiences"),
            (watched("{port: 1}"), "port"),
        ] {
            let problem = problem.unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
