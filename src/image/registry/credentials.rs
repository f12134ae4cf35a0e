//! Credentials from a docker `config.json` (`docker/cli:cli/config/configfile/file.go`): the file that `docker login`,
//! `crane auth login` and `oras login` write, and that a Secret of type `kubernetes.io/dockerconfigjson` holds.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use crate::image::{Error, reference::Reference};

/// Docker Hub as it is written in image names.
const DOCKER_HUB: &str = "docker.io";

/// Names by which a `config.json` speaks of Docker Hub; `https://index.docker.io/v1/` is what `docker login` writes.
const DOCKER_HUB_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// Kubernetes refuses Secrets over 1 MiB (`kubernetes:pkg/apis/core/types.go`, `MaxSecretSize`).
const LARGEST_FILE: u64 = 1 << 20;

/// One login, and the images that it is for. Its `Debug` form hides the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// Host and optional port, as in image names.
    pub(super) registry: String,
    /// Repository, or the beginning of it up to a slash; empty for the whole registry.
    pub(super) path: String,
    /// User name and password.
    pub(super) auth: RegistryAuth,
}

impl Login {
    /// Whether the login is for an image: the same registry, port included, and a repository under the path.
    pub(super) fn covers(&self, reference: &Reference) -> bool {
        let under = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.registry.eq_ignore_ascii_case(&reference.registry)
            && (self.path.is_empty() || reference.repository.strip_prefix(&self.path).is_some_and(under))
    }
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Reads the logins of a `config.json`, the most specific first. No message holds anything that the file says
/// beyond the names of registries.
pub(super) fn read(path: &Path) -> Result<Vec<Login>, Error> {
    let failed = |message: String| Error::SetUpClient { message: format!("`{}`: {message}", path.display()) };
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut text))
        .map_err(|error| failed(format!("could not read the docker config: {error}")))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(failed(format!("the docker config is larger than {LARGEST_FILE} bytes")));
    }
    parse(&text).map_err(failed)
}

fn parse(text: &[u8]) -> Result<Vec<Login>, String> {
    // The parser's own message may quote a password, so only the place is told.
    let file: ConfigFile = serde_json::from_slice(text).map_err(|error| {
        format!(
            "the docker config is not as docker writes it, at line {} column {}",
            error.line(),
            error.column()
        )
    })?;
    if file.store.is_some() || !file.helpers.is_empty() {
        tracing::warn!("the docker config names credential helpers; they are not run, only `auths` is read");
    }
    let mut logins = Vec::new();
    for (key, entry) in file.auths {
        // `docker login` with a credential store leaves an empty entry behind.
        let Some((user, password)) = entry.secret().map_err(|what| format!("`auths` `{key}`: {what}"))?
        else {
            continue;
        };
        let (registry, path) = scope(&key);
        logins.push(Login { registry, path, auth: RegistryAuth::Basic(user, password) });
    }
    logins.sort_by_key(|login| std::cmp::Reverse(login.path.len()));
    Ok(logins)
}

impl Entry {
    fn secret(self) -> Result<Option<(String, String)>, &'static str> {
        if let Some(encoded) = self.auth.filter(|auth| !auth.is_empty()) {
            let decoded = STANDARD.decode(encoded.trim()).map_err(|_| "`auth` is not base64")?;
            let text = String::from_utf8(decoded).map_err(|_| "`auth` is not UTF-8 inside its base64")?;
            let (user, password) =
                text.split_once(':').ok_or("`auth` is not the base64 of `user:password`")?;
            // Docker trims NULs that old versions padded with (`configfile/file.go`, `decodeAuth`).
            return Ok(Some((user.into(), password.trim_matches('\0').into())));
        }
        Ok(self.username.zip(self.password))
    }
}

/// Host and path of a key of `auths`, which may be a URL with an API version at its end.
fn scope(key: &str) -> (String, String) {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = if path == "v1" || path == "v2" { "" } else { path };
    let host = if DOCKER_HUB_NAMES.contains(&host) { DOCKER_HUB } else { host };
    (host.to_ascii_lowercase(), path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick<'a>(logins: &'a [Login], image: &str) -> Option<&'a RegistryAuth> {
        let reference = Reference::parse(image).unwrap();
        logins.iter().find(|login| login.covers(&reference)).map(|login| &login.auth)
    }

    fn basic(user: &str, password: &str) -> RegistryAuth {
        RegistryAuth::Basic(user.into(), password.into())
    }

    #[test]
    fn both_ways_of_writing_a_login_are_read() {
        let auth = STANDARD.encode("me:pass:word");
        let text = format!(
            r#"{{"auths":{{"ghcr.io":{{"auth":"{auth}"}},"r.corp:5000":{{"username":"u","password":"p"}}}}}}"#
        );
        let logins = parse(text.as_bytes()).unwrap();
        assert_eq!(pick(&logins, "ghcr.io/a/b"), Some(&basic("me", "pass:word")));
        assert_eq!(pick(&logins, "r.corp:5000/a"), Some(&basic("u", "p")));
    }

    #[test]
    fn a_login_goes_to_its_own_registry_and_port_only() {
        let text = br#"{"auths":{"ghcr.io":{"username":"u","password":"p"}}}"#;
        let logins = parse(text).unwrap();
        for other in
            ["ghcr.io:8443/a", "a.ghcr.io/a", "ghcr.io.evil.example/a", "ghcr/a", "nginx", "evil.io/ghcr.io"]
        {
            assert_eq!(pick(&logins, other), None, "{other}");
        }
    }

    #[test]
    fn the_longest_path_wins() {
        let text = br#"{"auths":{
            "ghcr.io":{"username":"all","password":"p"},
            "ghcr.io/team/app":{"username":"app","password":"p"},
            "ghcr.io/team":{"username":"team","password":"p"}}}"#;
        let logins = parse(text).unwrap();
        assert_eq!(pick(&logins, "ghcr.io/team/app/x:1"), Some(&basic("app", "p")));
        assert_eq!(pick(&logins, "ghcr.io/team/app"), Some(&basic("app", "p")));
        assert_eq!(pick(&logins, "ghcr.io/team/apple"), Some(&basic("team", "p")));
        assert_eq!(pick(&logins, "ghcr.io/teams/app"), Some(&basic("all", "p")));
    }

    #[test]
    fn docker_hub_is_known_by_every_name_it_has() {
        for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io/v2/"]
        {
            let text = format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
            assert_eq!(pick(&parse(text.as_bytes()).unwrap(), "nginx"), Some(&basic("u", "p")), "{key}");
        }
    }

    #[test]
    fn entries_without_a_secret_are_passed_over() {
        let text = br#"{"auths":{"ghcr.io":{}},"credsStore":"desktop"}"#;
        assert_eq!(parse(text).unwrap(), []);
    }

    #[test]
    fn no_message_repeats_a_secret() {
        let no_colon = STANDARD.encode("hunter2");
        for text in [
            r#"{"auths":"hunter2"}"#.to_string(),
            r#"{"auths":{"ghcr.io":{"auth":"hunter2!"}}}"#.into(),
            r#"{"auths":{"ghcr.io":{"password":["hunter2"]}}}"#.into(),
            format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{no_colon}"}}}}}}"#),
            "hunter2".into(),
        ] {
            let message = parse(text.as_bytes()).unwrap_err();
            assert!(!message.contains("hunter2") && !message.contains(&no_colon), "{message}");
        }
        let login = Login { registry: "r".into(), path: String::new(), auth: basic("u", "hunter2") };
        assert!(!format!("{login:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let message = read(Path::new("/nonexistent/config.json")).unwrap_err().to_string();
        assert!(message.contains("`/nonexistent/config.json`"), "{message}");
    }
}
