//! What a registry demands before it answers: its `WWW-Authenticate` header (RFC 9110, section 11.6.1;
//! `distribution:docs/content/spec/auth/token.md`). Parsed by `http-auth`, whose own fuzz target compares it with a
//! second parser.

use http_auth::ChallengeRef;
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Longest header that is read, in bytes. Real ones have a few hundred.
const LONGEST_HEADER: usize = 8 << 10;

/// How a registry wants requests to be authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a service.
    Bearer {
        /// The token service.
        realm: Url,
        /// Name by which the service knows the registry.
        service: Option<String>,
    },
}

/// The challenge that can be answered. Prefers a token to a password, as other clients do.
pub(super) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        if text.len() > LONGEST_HEADER {
            continue;
        }
        for challenge in http_auth::parser::ChallengeParser::new(text) {
            // Challenges before the malformed one still count.
            let Ok(challenge) = challenge else { break };
            if let Some(bearer) = bearer(&challenge) {
                return Some(bearer);
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

fn bearer(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameter = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let mut realm = Url::parse(&parameter("realm")?).ok()?;
    if !matches!(realm.scheme(), "https" | "http") {
        return None;
    }
    // A client would send a name and password in the URL as credentials.
    let _ = realm.set_username("");
    let _ = realm.set_password(None);
    realm.set_fragment(None);
    Some(Challenge::Bearer { realm, service: parameter("service") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn read_texts(texts: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
        }
        read(&headers)
    }

    fn bearer_of(realm: &str, service: &str) -> Challenge {
        Challenge::Bearer { realm: Url::parse(realm).unwrap(), service: Some(service.into()) }
    }

    #[test]
    fn the_headers_of_real_registries_are_read() {
        for (text, realm, service) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#,
                "https://auth.docker.io/token",
                "registry.docker.io",
            ),
            (
                r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#,
                "https://ghcr.io/token",
                "ghcr.io",
            ),
            (
                r#"bearer realm="https://r.azurecr.io/oauth2/token", service="r.azurecr.io""#,
                "https://r.azurecr.io/oauth2/token",
                "r.azurecr.io",
            ),
        ] {
            assert_eq!(read_texts(&[text]), Some(bearer_of(realm, service)), "{text}");
        }
        assert_eq!(
            read_texts(&[
                r#"Basic realm="https://0.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#
            ]),
            Some(Challenge::Basic)
        );
    }

    #[test]
    fn a_token_is_preferred_in_any_position() {
        let bearer = r#"Bearer realm="https://a.example/t",service="s""#;
        let expected = Some(bearer_of("https://a.example/t", "s"));
        assert_eq!(read_texts(&[r#"Basic realm="x""#, bearer]), expected);
        assert_eq!(read_texts(&[&format!(r#"Negotiate, Basic realm="x", {bearer}"#)]), expected);
    }

    #[test]
    fn an_unsupported_challenge_is_ignored() {
        for text in [
            "",
            "Bearer",
            "Bearer service=x",
            r#"Bearer realm="file:///etc/passwd""#,
            r#"Bearer realm="/t""#,
            "Digest realm=x",
        ] {
            assert_eq!(read_texts(&[text]), None, "{text}");
        }
    }

    #[test]
    fn credentials_in_a_realm_are_removed() {
        let read = read_texts(&[r#"Bearer realm="https://u:p@a.example/t#f",service="s""#]);
        assert_eq!(read, Some(bearer_of("https://a.example/t", "s")));
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
                let _ = read(&headers);
            }
        }

        #[test]
        fn no_cut_of_a_header_is_too_strange(
            cut in 0_usize..120, noise in "[ -~]{0,8}", rest in 0_usize..120,
        ) {
            let whole = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull\"""#;
            let head: String = whole.chars().take(cut).collect();
            let tail: String = whole.chars().skip(rest).collect();
            let text = format!("{head}{noise}{tail}");
            if let Some(Challenge::Bearer { realm, .. }) = read_texts(&[&text]) {
                prop_assert!(matches!(realm.scheme(), "http" | "https"));
            }
        }

        #[test]
        fn what_is_written_is_what_is_read(path in "[a-z0-9/]{0,20}", service in "[ -!#-\\[\\]-~]{1,30}") {
            let realm = format!("https://a.example/{path}");
            let text = format!(r#"Bearer realm="{realm}",service="{service}""#);
            prop_assert_eq!(read_texts(&[&text]), Some(bearer_of(&realm, &service)));
        }
    }
}
