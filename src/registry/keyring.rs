//! The platform's own credentials: those of the docker config that `images.dockerConfig` names, and of the helpers that it
//! names in turn.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Error;
use super::credentials::{self, Credentials, Login};
use super::helper::Helpers;
use crate::files;

/// Kubernetes refuses Secrets over 1 MiB (`kubernetes:pkg/apis/core/types.go`, `MaxSecretSize`).
const LARGEST_FILE: u64 = 1 << 20;

/// The platform's own credentials: those of a docker config and of the helpers that it names.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    logins: Vec<Login>,
    helpers: Helpers,
}

impl Keyring {
    /// Reads a `config.json`. Helpers are searched in `folder`, or in `PATH` without one.
    pub(super) fn read(path: &Path, folder: Option<PathBuf>) -> Result<Self, Error> {
        let failed =
            |message: String| Error::SetUpClient { message: format!("`{}`: {message}", path.display()) };
        let text = files::read_given(path, LARGEST_FILE).map(Zeroizing::new);
        let text = text.map_err(|error| failed(format!("could not read the docker config: {error}")))?;
        let parsed = credentials::parse(&text).map_err(failed)?;
        let helpers = Helpers::new(parsed.helpers, parsed.store, folder).map_err(failed)?;
        Ok(Self { logins: parsed.logins, helpers })
    }

    /// Credentials for a repository, in the order in which they are tried: from the helper of this registry, from
    /// `auths` (the most specific first), and from the helper of all registries.
    pub(super) async fn candidates(&self, registry: &str, repository: &str) -> Vec<Credentials> {
        let mut found = Vec::new();
        found.extend(self.helpers.of_registry(registry).await);
        let covering = self.logins.iter().filter(|login| login.covers(registry, repository));
        found.extend(covering.map(|login| login.credentials.clone()));
        if found.is_empty() {
            found.extend(self.helpers.of_all(registry).await);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    /// `--docker-config <(kubectl get secret …)` keeps credentials off the disk.
    #[test]
    fn it_is_read_from_a_pipe_of_the_shell() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(br#"{"auths": {}}"#).unwrap();
        drop(writer);
        Keyring::read(Path::new(&format!("/dev/fd/{}", reader.as_raw_fd())), None).unwrap();
    }

    #[test]
    fn a_missing_file_is_reported_by_name() {
        let message = Keyring::read(Path::new("/nonexistent/config.json"), None).unwrap_err().to_string();
        assert!(message.contains("`/nonexistent/config.json`"), "{message}");
    }
}
