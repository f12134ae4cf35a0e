//! Credentials from a docker `config.json` (`docker/cli:cli/config/configfile/file.go`): the file that `docker login`,
//! `crane auth login` and `oras login` write, and that a Secret of type `kubernetes.io/dockerconfigjson` holds.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::secret::SecretText;
use crate::image::reference::Reference;
use crate::text;

/// Docker Hub's name in image references.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Names by which a `config.json` speaks of Docker Hub; `https://index.docker.io/v1/` is what `docker login` writes.
const DOCKER_HUB_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// What authenticates a request to a registry or to its token service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Password {
        /// User name.
        user: String,
        /// Password, or an access token in its place.
        password: SecretText,
    },
    /// A refresh token that the token service exchanges for access tokens
    /// (`distribution:docs/content/spec/auth/oauth.md`).
    IdentityToken(SecretText),
}

impl Credentials {
    /// A fingerprint that tells credentials apart without revealing them.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self {
            Self::Password { user, password } => {
                hash.update([1]);
                hash.update(user.len().to_le_bytes());
                hash.update(user);
                hash.update(password.expose());
            }
            Self::IdentityToken(token) => {
                hash.update([2]);
                hash.update(token.expose());
            }
        }
        hash.finalize().into()
    }
}

/// One login, and the images that it covers. Its `Debug` form hides the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Host and optional port, as in image names; `*` matches any part of a label, as in the kubelet.
    pub registry: String,
    /// Repository, or a prefix of it that ends at a slash; empty for the whole registry.
    pub path: String,
    /// The credentials.
    pub credentials: Credentials,
}

impl Login {
    /// The logins of a docker `config.json`, such as the value of `.dockerconfigjson` in a Secret, the most specific
    /// first. Leaves out the credential helpers that it names: only the platform may run programs. Messages hold
    /// nothing of the file but the names of registries.
    pub fn from_docker_config(text: &[u8]) -> Result<Vec<Self>, String> {
        parse(text).map(|file| file.logins)
    }

    /// The same for the older form without `auths` around the entries: the value of `.dockercfg` in a Secret of type
    /// `kubernetes.io/dockercfg` (`kubernetes:pkg/credentialprovider/config.go`, `DockerConfig`).
    pub fn from_dockercfg(text: &[u8]) -> Result<Vec<Self>, String> {
        let auths = serde_json::from_slice(text).map_err(|error| misread(&error))?;
        logins_of(auths)
    }

    /// Whether the login covers a repository: the same registry, port included, and a repository under the path.
    pub(super) fn covers(&self, registry: &str, repository: &str) -> bool {
        let under = |rest: &str| rest.is_empty() || rest.starts_with('/');
        host_matches(&self.registry, registry)
            && (self.path.is_empty() || repository.strip_prefix(&self.path).is_some_and(under))
    }
}

/// Matches label by label, so that `*.corp` does not cover `a.b.corp` (`kubernetes:pkg/credentialprovider/keyring.go`,
/// `URLsMatch`).
fn host_matches(pattern: &str, host: &str) -> bool {
    if !pattern.contains('*') {
        return pattern.eq_ignore_ascii_case(host);
    }
    let split = |text: &str| -> (Vec<String>, Option<String>) {
        let lower = text.to_ascii_lowercase();
        let (name, port) =
            lower.split_once(':').map_or((lower.as_str(), None), |(name, port)| (name, Some(port)));
        (name.split('.').map(String::from).collect(), port.map(String::from))
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    pattern_port == port
        && pattern.len() == host.len()
        && pattern.iter().zip(&host).all(|(pattern, label)| label_matches(pattern, label))
}

fn label_matches(pattern: &str, label: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut left) = label.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').collect::<Vec<_>>();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// Whose pull secrets may be used for an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Puller {
    /// Namespace of the pod.
    pub namespace: String,
    /// `imagePullSecrets` of the pod.
    pub pull_secrets: Vec<String>,
    /// Service account of the pod. If the pod has no `imagePullSecrets`, those of the account count, as the API
    /// server's service-account plug-in has it.
    pub service_account: String,
}

/// What a pod's pull secrets contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Their logins.
    pub logins: Vec<Login>,
    /// Which of them could not be read, why, and how to mend that. Shown when an image cannot be read without them.
    pub notes: Vec<String>,
}

/// The source of pods' pull secrets. Asked at every look-up of a pod's image that may be private, so it answers from
/// memory where it can.
pub trait PullSecrets: std::fmt::Debug + Send + Sync {
    /// The logins in a pod's pull secrets. A secret that cannot be read is left out, as in the kubelet, and noted.
    fn logins<'a>(&'a self, puller: &'a Puller) -> BoxFuture<'a, Pulled>;
}

/// No pull secrets: only the platform's own credentials are used.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPullSecrets;

impl PullSecrets for NoPullSecrets {
    fn logins<'a>(&'a self, _: &'a Puller) -> BoxFuture<'a, Pulled> {
        Box::pin(std::future::ready(Pulled::default()))
    }
}

/// Those of the logins that cover an image, the most specific first. The sort is stable, so the order of the secrets
/// decides among equals.
pub(crate) fn covering(logins: Vec<Login>, reference: &Reference) -> Vec<Login> {
    let covers = |login: &Login| login.covers(&reference.registry, &reference.repository);
    let mut logins: Vec<Login> = logins.into_iter().filter(covers).collect();
    logins.sort_by_key(|login| std::cmp::Reverse(login.path.len()));
    logins
}

/// A fingerprint that tells sets of logins apart without revealing them.
pub(crate) fn fingerprint(logins: &[Login]) -> String {
    let mut hash = Sha256::new();
    for login in logins {
        hash.update(login.registry.as_bytes());
        hash.update([0]);
        hash.update(login.path.as_bytes());
        hash.update([0]);
        hash.update(login.credentials.fingerprint());
    }
    format!("{:x}", hash.finalize())
}

/// The name by which docker, its helpers and its configs know a registry.
pub(super) fn docker_name(registry: &str) -> &str {
    if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { registry }
}

/// Most registries of one Secret or file, each of which takes ten times its bytes for as long as the Secret is remembered.
const MOST_LOGINS: usize = 2048;

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, DockerConfigEntry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct DockerConfigEntry {
    auth: Option<SecretText>,
    username: Option<String>,
    password: Option<SecretText>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<SecretText>,
}

/// The content of a `config.json`.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) logins: Vec<Login>,
    /// Names of helpers by registry.
    pub(super) helpers: BTreeMap<String, String>,
    /// Name of the helper of all registries.
    pub(super) store: Option<String>,
}

/// The parser's own message may quote a password, so only the position is given.
fn misread(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    format!("the docker config is not as docker writes it, at line {line} column {column}")
}

/// Reads a `config.json`, helpers included.
pub(super) fn parse(text: &[u8]) -> Result<Parsed, String> {
    let file: ConfigFile = serde_json::from_slice(text).map_err(|error| misread(&error))?;
    let helpers = file.helpers.into_iter().map(|(key, name)| (scope(&key).0, name)).collect();
    let store = file.store.filter(|store| !store.is_empty());
    Ok(Parsed { logins: logins_of(file.auths)?, helpers, store })
}

/// The logins, the most specific first.
fn logins_of(auths: BTreeMap<String, DockerConfigEntry>) -> Result<Vec<Login>, String> {
    let count = auths.len();
    if count > MOST_LOGINS {
        return Err(format!(
            "it names {count} registries; at most {MOST_LOGINS} are read, so leave out those that no image is from"
        ));
    }
    let mut logins = Vec::new();
    for (key, entry) in auths {
        // `docker login` with a credential store leaves an empty entry behind.
        let Some(credentials) =
            entry.credentials().map_err(|what| format!("`auths` `{}`: {what}", text::quoted(&key, 100)))?
        else {
            continue;
        };
        let (registry, path) = scope(&key);
        logins.push(Login { registry, path, credentials });
    }
    logins.sort_by_key(|login| std::cmp::Reverse(login.path.len()));
    Ok(logins)
}

impl DockerConfigEntry {
    fn credentials(self) -> Result<Option<Credentials>, &'static str> {
        if let Some(token) = self.identity_token.filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(encoded) = self.auth.filter(|auth| !auth.is_empty()) {
            let decoded = STANDARD.decode(encoded.expose().trim()).map_err(|_| "`auth` is not base64")?;
            let decoded = Zeroizing::new(decoded);
            let text = std::str::from_utf8(&decoded).map_err(|_| "`auth` is not UTF-8 inside its base64")?;
            let (user, password) =
                text.split_once(':').ok_or("`auth` is not the base64 of `user:password`")?;
            // Docker trims the NULs with which old versions padded (`configfile/file.go`, `decodeAuth`).
            let password = password.trim_matches('\0').into();
            return Ok(Some(Credentials::Password { user: user.into(), password }));
        }
        let both = self.username.zip(self.password);
        Ok(both.map(|(user, password)| Credentials::Password { user, password }))
    }
}

/// Host and path of a key of `auths`, which may be a URL that ends in an API version.
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

    fn pick<'a>(logins: &'a [Login], image: &str) -> Option<&'a Credentials> {
        let reference = Reference::parse(image).unwrap();
        let covers = |login: &&Login| login.covers(&reference.registry, &reference.repository);
        logins.iter().find(covers).map(|login| &login.credentials)
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    fn parse(text: &[u8]) -> Result<Vec<Login>, String> {
        Login::from_docker_config(text)
    }

    #[test]
    fn a_config_has_no_more_registries_than_are_remembered() {
        let of = |count: usize| {
            let auths = (0..count).map(|at| format!(r#""r{at}.test":{{"auth":"YTpi"}}"#));
            parse(format!(r#"{{"auths":{{{}}}}}"#, auths.collect::<Vec<_>>().join(",")).as_bytes())
        };
        assert_eq!(of(MOST_LOGINS).unwrap().len(), MOST_LOGINS);
        assert!(of(MOST_LOGINS + 1).unwrap_err().contains("names 2049 registries; at most 2048"));
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
    fn a_login_is_sent_only_to_its_own_registry_and_port() {
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
    fn docker_hub_is_recognised_by_every_name() {
        for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io/v2/"]
        {
            let text = format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
            assert_eq!(pick(&parse(text.as_bytes()).unwrap(), "nginx"), Some(&basic("u", "p")), "{key}");
        }
    }

    #[test]
    fn a_star_matches_a_part_of_a_label_as_in_the_kubelet() {
        let text = br#"{"auths":{"*.dkr.ecr.*.amazonaws.com":{"username":"u","password":"p"}}}"#;
        let logins = parse(text).unwrap();
        assert!(pick(&logins, "1.dkr.ecr.eu-west-1.amazonaws.com/a").is_some());
        for other in [
            "dkr.ecr.eu.amazonaws.com/a",
            "a.1.dkr.ecr.eu.amazonaws.com/a",
            "1.dkr.ecr.eu.amazonaws.com:8443/a",
        ] {
            assert!(pick(&logins, other).is_none(), "{other}");
        }
        for (pattern, label, expected) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*b*", "axbx", true),
            ("a*c", "acb", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(label_matches(pattern, label), expected, "{pattern} {label}");
        }
    }

    #[test]
    fn an_identity_token_is_preferred_to_a_password() {
        let auth = STANDARD.encode("00000000-0000-0000-0000-000000000000:");
        let text = format!(r#"{{"auths":{{"r.azurecr.io":{{"auth":"{auth}","identitytoken":"t0"}}}}}}"#);
        let logins = parse(text.as_bytes()).unwrap();
        assert_eq!(pick(&logins, "r.azurecr.io/a"), Some(&Credentials::IdentityToken("t0".into())));
    }

    #[test]
    fn sets_of_credentials_are_told_apart() {
        let logins = |user: &str, password: &str| {
            vec![Login { registry: "r".into(), path: String::new(), credentials: basic(user, password) }]
        };
        assert_eq!(fingerprint(&logins("a", "bc")), fingerprint(&logins("a", "bc")));
        assert_ne!(fingerprint(&logins("a", "bc")), fingerprint(&logins("ab", "c")));
        assert!(!fingerprint(&logins("a", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn entries_without_a_secret_are_skipped() {
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
        let login = Login { registry: "r".into(), path: String::new(), credentials: basic("u", "hunter2") };
        assert!(!format!("{login:?}").contains("hunter2"));
        let token = Credentials::IdentityToken("hunter2".into());
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
