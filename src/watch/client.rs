//! The client of the API server, from a kubeconfig or from the pod's own service account.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Error;
use crate::text;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest wait for the next bytes of a connection. The API server ends a watch without events earlier
/// ([`super::WatchOptions::watch_timeout`]), so this closes only dead connections.
const READ: Duration = Duration::from_mins(1);

/// Longest wait for sending a request.
const WRITE: Duration = Duration::from_secs(10);

/// A client for the current context of a kubeconfig; without one, for the cluster that the process runs in. Sends no
/// request.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|error| Error::FindCluster { message: chain(&error) })?,
    };
    bounded(config, READ)
}

/// A client for a person, as `kubectl` finds its cluster: the named kubeconfig, else `KUBECONFIG`, `~/.kube/config`, or
/// the cluster that the process runs in. `context` names one of the kubeconfig's. Sends no request.
pub async fn connect_user(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, Error> {
    let options = KubeConfigOptions { context: context.map(String::from), ..KubeConfigOptions::default() };
    let config = match kubeconfig {
        Some(path) => from_file_with(path, &options).await?,
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            Err(error) if context.is_some() => return Err(not_found(&error)),
            Err(error) => Config::incluster().map_err(|_| not_found(&error))?,
        },
    };
    bounded(config, READ)
}

fn not_found(error: &kube::config::KubeconfigError) -> Error {
    Error::FindUserCluster { message: chain(error) }
}

async fn from_file(path: &Path) -> Result<Config, Error> {
    from_file_with(path, &KubeConfigOptions::default()).await
}

async fn from_file_with(path: &Path, options: &KubeConfigOptions) -> Result<Config, Error> {
    let failed = |error: kube::config::KubeconfigError| Error::ReadKubeconfig {
        path: path.to_owned(),
        message: chain(&error),
    };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(file, options).await.map_err(failed)
}

/// A client with a limit on every wait; `read` is the one for further bytes.
pub fn bounded(mut config: Config, read: Duration) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(read);
    config.write_timeout = Some(WRITE);
    // Otherwise the idle time of a pooled connection would count against its next response.
    config.reset_reader_on_write = true;
    // The watches count errors and wait between their own retries.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Error::SetUpClient { message: chain(&error) })
}

/// An error and its causes in one line, each said once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    text::excerpt(&text::chain(error), LONGEST)
}

/// Most characters of an error to show: an API server may answer with a whole page.
const LONGEST: usize = 400;
