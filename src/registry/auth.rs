//! How registries want requests to be authenticated, and the tokens that their token services issued
//! (`distribution:docs/content/spec/auth/token.md`, `oauth.md`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moka::future::Cache;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::challenge::Challenge;
use super::credentials::{Credentials, DOCKER_HUB};
use super::secret::SecretText;
use crate::image::reference::registry_name;
use crate::registry::guard::Guard;

/// Most challenges and tokens that are remembered. Bounded, because any tenant can name new registries.
const MOST_REMEMBERED: u64 = 4096;

/// How long a challenge is remembered.
const CHALLENGE_TTL: Duration = Duration::from_hours(1);

/// Lifetime of a token that does not state one (`token.md`, `expires_in`).
const SHORTEST_TOKEN: Duration = Duration::from_mins(1);

/// Longest time for which a token is kept, whatever lifetime it states.
const LONGEST_TOKEN: Duration = Duration::from_hours(1);

/// A token is not used during its last seconds: clocks differ, and a request takes time.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// Largest answer of a token service, in bytes. Tokens with many claims have tens of thousands.
pub(super) const LARGEST_TOKEN: u64 = 256 << 10;

/// Token services that run on another host than their registry and still belong to it.
const KNOWN_REALMS: [(&str, &str); 2] =
    [(DOCKER_HUB, "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// What a token is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    pub(super) registry: String,
    pub(super) challenge: Challenge,
    pub(super) repository: String,
    /// Fingerprint of the credentials that it was issued for; `None` for an anonymous token.
    pub(super) credentials: Option<[u8; 32]>,
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

/// Challenges and tokens seen so far.
#[derive(Debug)]
pub(super) struct Auth {
    challenges: Cache<String, Challenge>,
    tokens: Cache<TokenKey, Token>,
    /// Hosts of token services by registry, as configured.
    realms: BTreeMap<String, Vec<String>>,
}

impl Auth {
    pub(super) fn new(realms: BTreeMap<String, Vec<String>>) -> Self {
        Self {
            challenges: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(CHALLENGE_TTL).build(),
            tokens: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(LONGEST_TOKEN).build(),
            realms,
        }
    }

    /// The challenge that the registry sent last.
    pub(super) async fn challenge(&self, registry: &str) -> Option<Challenge> {
        self.challenges.get(registry).await
    }

    pub(super) async fn remember(&self, registry: &str, challenge: &Challenge) {
        self.challenges.insert(registry.to_string(), challenge.clone()).await;
    }

    pub(super) async fn token(&self, key: &TokenKey) -> Option<HeaderValue> {
        let token = self.tokens.get(key).await?;
        (token.until > Instant::now()).then_some(token.header)
    }

    pub(super) async fn keep(&self, key: TokenKey, header: &HeaderValue, lives: Duration) {
        let until = Instant::now() + lives.min(LONGEST_TOKEN).saturating_sub(TOKEN_MARGIN);
        self.tokens.insert(key, Token { header: header.clone(), until }).await;
    }

    pub(super) async fn forget(&self, key: &TokenKey) {
        self.tokens.invalidate(key).await;
    }

    /// Whether a token service may be given the credentials for a registry: it runs on the registry's own host, is
    /// known to belong to the registry, or is configured.
    pub(super) fn trusts(&self, registry: &str, realm: &Url) -> bool {
        let Some(host) = realm.host_str() else { return false };
        let with_port = realm.port().map(|port| format!("{host}:{port}"));
        let own = registry.split_once(':').map_or(registry, |(host, _)| host);
        let listed = |entry: &String| {
            entry.eq_ignore_ascii_case(host) && realm.port().is_none()
                || with_port.as_ref().is_some_and(|with_port| entry.eq_ignore_ascii_case(with_port))
        };
        own.eq_ignore_ascii_case(host)
            || KNOWN_REALMS
                .iter()
                .any(|(known, at)| *known == registry && *at == host && realm.port().is_none())
            || self.realms.get(registry_name(registry)).is_some_and(|hosts| hosts.iter().any(listed))
    }
}

/// Whether asking the token service would be a downgrade: plain HTTP for a registry that is asked by HTTPS.
pub(super) fn is_downgrade(guard: &Guard, registry: &str, realm: &Url) -> bool {
    realm.scheme() != "https" && !guard.is_insecure(registry)
}

/// `Basic` with user and password; marked sensitive, so that logs do not show it.
pub(super) fn basic(user: &str, password: &SecretText) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    header("Basic", &encoded)
}

fn header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{scheme} {value}"));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// URL of a token service for one repository, and the form to post there when there is a refresh token.
pub(super) fn request(
    realm: &Url,
    service: Option<&str>,
    repository: &str,
    credentials: Option<&Credentials>,
) -> (Url, Option<String>) {
    let scope = format!("repository:{repository}:pull");
    let mut url = realm.clone();
    if let Some(Credentials::IdentityToken(token)) = credentials {
        let mut form = Url::clone(realm);
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", env!("CARGO_PKG_NAME"))
            .append_pair("service", service.unwrap_or_default())
            .append_pair("scope", &scope)
            .append_pair("refresh_token", token.expose());
        return (url, Some(form.query().unwrap_or_default().to_string()));
    }
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", &scope);
    drop(query);
    (url, None)
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<SecretText>,
    access_token: Option<SecretText>,
    expires_in: Option<f64>,
}

/// The header, and how long it may be used, from a token service's answer. Errors repeat nothing of the answer.
pub(super) fn read_token(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let lives = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let lives = lives.unwrap_or(SHORTEST_TOKEN).max(SHORTEST_TOKEN);
    Some((header("Bearer", token.expose())?, lives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn credentials_are_sent_only_to_the_registry_s_own_token_service() {
        let configured = BTreeMap::from([
            ("r.corp:5000".to_string(), vec!["sso.corp".to_string(), "b.corp:81".into()]),
            ("docker.io".to_string(), vec!["hub.corp".to_string()]),
        ]);
        let auth = Auth::new(configured);
        for (registry, realm) in [
            ("ghcr.io", "https://ghcr.io/token"),
            ("docker.io", "https://auth.docker.io/token"),
            ("git.corp:5050", "https://git.corp/jwt/auth"),
            ("r.corp:5000", "https://sso.corp/t"),
            ("r.corp:5000", "https://b.corp:81/t"),
            ("docker.io", "https://hub.corp/t"),
            ("registry-1.docker.io", "https://hub.corp/t"),
        ] {
            assert!(auth.trusts(registry, &url(realm)), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("ghcr.io", "https://evil.example/token"),
            ("ghcr.io", "https://ghcr.io.evil.example/token"),
            ("ghcr.io", "https://auth.docker.io/token"),
            ("docker.io", "https://auth.docker.io:8443/token"),
            ("docker.io", "https://docker.io.evil/token"),
            ("r.corp:5000", "https://sso.corp:8443/t"),
            ("r.corp:5000", "https://b.corp/t"),
            ("r.corp", "https://sso.corp/t"),
        ] {
            assert!(!auth.trusts(registry, &url(realm)), "{registry} {realm}");
        }
    }

    #[test]
    fn a_token_is_requested_as_specified() {
        let (get, form) = request(&url("https://a.example/token?x=1"), Some("reg istry"), "team/app", None);
        assert_eq!(
            get.as_str(),
            "https://a.example/token?x=1&service=reg+istry&scope=repository%3Ateam%2Fapp%3Apull"
        );
        assert_eq!(form, None);
        let token = Credentials::IdentityToken("a&b".into());
        let (post, form) = request(&url("https://a.example/token"), Some("s"), "app", Some(&token));
        assert_eq!(post.as_str(), "https://a.example/token");
        let form = form.unwrap();
        assert!(form.starts_with("grant_type=refresh_token&client_id=wasmgate&service=s&scope="), "{form}");
        assert!(form.ends_with("&refresh_token=a%26b"), "{form}");
    }

    #[test]
    fn token_answers_are_read_in_both_forms_and_never_shown() {
        for (body, lives) in [
            (r#"{"token":"abc","expires_in":300}"#, 300),
            (r#"{"access_token":"abc"}"#, 60),
            (r#"{"token":"abc","access_token":"abc","expires_in":1}"#, 60),
            (r#"{"token":"abc","expires_in":-5}"#, 60),
        ] {
            let (header, found) = read_token(body.as_bytes()).unwrap();
            assert_eq!((header.to_str().unwrap(), found.as_secs()), ("Bearer abc", lives), "{body}");
            assert!(!format!("{header:?}").contains("abc"));
        }
        for body in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":1}"#] {
            assert!(read_token(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[tokio::test]
    async fn a_token_is_cached_per_repository_and_credentials_until_it_expires() {
        let auth = Auth::new(BTreeMap::new());
        let key = |repository: &str, credentials| TokenKey {
            registry: "r".into(),
            challenge: Challenge::Bearer { realm: url("https://r/t"), service: None },
            repository: repository.into(),
            credentials,
        };
        let (header, _) = read_token(br#"{"token":"abc"}"#).unwrap();
        auth.keep(key("a", None), &header, Duration::from_mins(1)).await;
        assert!(auth.token(&key("a", None)).await.is_some());
        assert!(auth.token(&key("b", None)).await.is_none());
        assert!(auth.token(&key("a", Some([1; 32]))).await.is_none());
        auth.keep(key("b", None), &header, TOKEN_MARGIN).await;
        assert!(auth.token(&key("b", None)).await.is_none(), "too old to be used");
        auth.forget(&key("a", None)).await;
        assert!(auth.token(&key("a", None)).await.is_none());
    }
}
