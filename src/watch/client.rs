//! The client of the API server, from a kubeconfig or from the pod's own service account.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Error;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest wait for the next bytes of a connection. Longer than a watch without events, which the API server ends
/// before ([`super::Options::watch_timeout`]), so that it cuts off dead connections only.
const READ: Duration = Duration::from_mins(1);

/// Longest wait for a connection to take a request.
const WRITE: Duration = Duration::from_secs(10);

/// A client for the current context of a kubeconfig; without one, for the cluster that the process runs in. Nothing is
/// asked yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|error| Error::FindCluster { message: chain(&error) })?,
    };
    bounded(config, READ)
}

async fn from_file(path: &Path) -> Result<Config, Error> {
    let failed = |error: kube::config::KubeconfigError| Error::ReadKubeconfig {
        path: path.to_owned(),
        message: chain(&error),
    };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)
}

/// A client whose every wait has a bound; `read` is the longest one for further bytes.
pub fn bounded(mut config: Config, read: Duration) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(read);
    config.write_timeout = Some(WRITE);
    // Else the time that a connection lay idle in the pool would count against its next answer.
    config.reset_reader_on_write = true;
    // Errors are to be seen and counted; the watches wait between their own retries.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Error::SetUpClient { message: chain(&error) })
}

/// An error and its causes in one line, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Characters of an error that are shown: an API server may answer with a page.
const LONGEST: usize = 400;
