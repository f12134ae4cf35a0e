//! Turns answers and network failures into a line that a person can act on.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::time::Duration;

use rustls::CertificateError;
use serde::Deserialize;

use super::breaker::BreakerOpen;
use super::credentials::docker_name;
use super::resolver::Unresolved;
use crate::registry::guard::Refusal;
use crate::text;

/// How much of a registry's own text is repeated, in characters.
const QUOTED_CHARS: usize = 160;

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchFailure {
    /// The client could not be set up.
    SetUp(String),
    /// The registry says that there is no such content.
    Missing,
    /// The registry may not be connected to.
    Refused(Refusal),
    /// More bytes than may be read.
    TooLarge,
    /// A failure that may pass: worth an immediate second try.
    Passing(String),
    /// The registry wants credentials, or refuses those that it got.
    Denied(String),
    /// Anything else, in words.
    Other(String),
}

/// What a message about a registry's refusal needs to know about the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AuthContext {
    /// Whether there were credentials for the registry.
    pub(super) credentials: bool,
    /// Host of a token service from which they were withheld.
    pub(super) withheld_from: Option<String>,
}

/// An answer other than success.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) registry: &'a str,
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    pub(super) auth: &'a AuthContext,
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Item>,
}

/// `{"errors":[{"code":…,"message":…}]}` (OCI distribution-spec, "Error Codes").
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// Explains an answer by its status and its body.
pub(super) fn explain(answer: &Answer<'_>) -> FetchFailure {
    let Answer { registry, status, .. } = *answer;
    let item =
        serde_json::from_slice::<Envelope>(answer.body).ok().and_then(|all| all.errors.into_iter().next());
    let code = item.as_ref().map_or("", |item| item.code.as_str());
    match (status, code) {
        (401 | 403, _) | (400..=499, "UNAUTHORIZED" | "DENIED") => FetchFailure::Denied(refused(answer)),
        (429, _) | (400..=499, "TOOMANYREQUESTS") => FetchFailure::Other(limited(registry, None)),
        (404, _) | (400..=499, "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND" | "BLOB_UNKNOWN") => {
            FetchFailure::Missing
        }
        _ => {
            let said = item.and_then(|item| item.message).filter(|message| !message.trim().is_empty());
            let said = said.unwrap_or_else(|| String::from_utf8_lossy(answer.body).into_owned());
            let said = if said.trim().is_empty() {
                String::new()
            } else {
                format!(": {}", text::excerpt(&said, QUOTED_CHARS))
            };
            let words = format!("`{registry}` answered with status {status}{said}");
            if status >= 500 { FetchFailure::Passing(words) } else { FetchFailure::Other(words) }
        }
    }
}

/// Large registries answer 401 or 403 for repositories that do not exist, too, so the message offers both readings.
fn refused(answer: &Answer<'_>) -> String {
    let Answer { registry, status, auth, .. } = *answer;
    let entry = docker_name(registry);
    if let Some(host) = &auth.withheld_from {
        return format!(
            "`{registry}` wants credentials ({status}) by its token service on `{host}`, which gets none; add the \
             host to `tokenRealms` `{registry}` if it is right"
        );
    }
    if auth.credentials {
        return format!(
            "`{registry}` refused the credentials ({status}); correct those under `auths` `{entry}` in the docker \
             config or in the pull secret, or see whether the repository exists"
        );
    }
    format!(
        "`{registry}` wants credentials ({status}), or the repository does not exist; add credentials under \
         `auths` `{entry}` to the docker config that `dockerConfig` names"
    )
}

/// The message for a registry that limits the rate of requests.
pub(super) fn limited(registry: &str, wait: Option<Duration>) -> String {
    let wait = wait.map_or_else(|| "wait".to_string(), |wait| format!("wait {}", seconds(wait)));
    format!(
        "`{registry}` limits how often it may be asked (429); {wait}, or add credentials that have a higher limit"
    )
}

/// The message for a registry that is unavailable and says for how long.
pub(super) fn unavailable(registry: &str, wait: Duration) -> String {
    format!("`{registry}` answered with status 503 and is not asked for {}", seconds(wait))
}

/// The message for a registry whose breaker is open.
pub(super) fn breaker_open(registry: &str, open: BreakerOpen) -> String {
    match open {
        BreakerOpen::RetryAfter { left } => {
            format!("`{registry}` asked to be left alone for another {}; wait", seconds(left))
        }
        BreakerOpen::Silent { failures, left } => format!(
            "`{registry}` did not answer {failures} requests in a row and is tried again in {}; see whether it is \
             running and can be reached from here",
            seconds(left)
        ),
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> String {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    format!("{whole} s")
}

/// A network failure in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetworkFailure {
    pub(super) words: String,
    /// Whether the connection was cut; a new one may work.
    pub(super) cut: bool,
}

impl NetworkFailure {
    fn lasting(words: String) -> Self {
        Self { words, cut: false }
    }
}

impl From<NetworkFailure> for FetchFailure {
    fn from(said: NetworkFailure) -> Self {
        if said.cut { Self::Passing(said.words) } else { Self::Other(said.words) }
    }
}

/// The guard's refusal among the causes of an error.
pub(super) fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refusal> {
    text::causes(error).find_map(|cause| cause.downcast_ref::<Refusal>())
}

/// Explains a failure below HTTP from its causes: the outer layers say only that a request failed.
pub(super) fn network(error: &(dyn StdError + 'static), registry: &str) -> NetworkFailure {
    let causes: Vec<_> = text::causes(error).collect();
    for cause in &causes {
        let known = (cause
            .downcast_ref::<rustls::Error>()
            .map(|error| NetworkFailure::lasting(tls(error, registry))))
        .or_else(|| {
            cause.downcast_ref::<Unresolved>().map(|error| NetworkFailure::lasting(error.to_string()))
        })
        .or_else(|| cause.downcast_ref::<io::Error>().and_then(|error| io_error(error, registry)));
        if let Some(said) = known {
            return said;
        }
    }
    let last = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    // The HTTP client keeps the types of its time-outs private (`reqwest:src/error.rs`, `TimedOut`; for a connection of
    // the pool, `tokio:src/time/error.rs`, `Elapsed`), so the texts are compared.
    if last == "operation timed out" || last == "deadline has elapsed" {
        return NetworkFailure::lasting(format!("`{registry}` did not answer in time"));
    }
    // `hyper:src/error.rs`, `Parse`/`IncompleteMessage`: the other side hung up between two requests.
    if last.starts_with("connection closed before message completed") {
        return cut(registry);
    }
    NetworkFailure::lasting(format!("`{registry}`: {}", text::excerpt(&last, QUOTED_CHARS)))
}

fn cut(registry: &str) -> NetworkFailure {
    NetworkFailure { words: format!("`{registry}` cut the connection"), cut: true }
}

fn io_error(error: &io::Error, registry: &str) -> Option<NetworkFailure> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(NetworkFailure::lasting(format!(
            "`{registry}` refused the connection; is the registry running, and is the port right?"
        ))),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Some(cut(registry)),
        ErrorKind::TimedOut => Some(NetworkFailure::lasting(format!("`{registry}` did not answer in time"))),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some(NetworkFailure::lasting(format!("there is no route to `{registry}`")))
        }
        _ => None,
    }
}

fn tls(error: &rustls::Error, registry: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate of `{registry}` is signed by a CA that is not known here; add the CA's \
             certificate to `caFiles`"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate of `{registry}` is for another name; ask by a name that it holds"),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => format!("the certificate of `{registry}` has expired; renew it"),
        rustls::Error::InvalidMessage(_) => {
            format!("`{registry}` does not speak TLS; add it to `insecure` to ask it by plain HTTP")
        }
        other => {
            format!(
                "could not set up TLS with `{registry}`: {}",
                text::excerpt(&other.to_string(), QUOTED_CHARS)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(registry: &str, status: u16, body: &str, auth: &AuthContext) -> FetchFailure {
        explain(&Answer { registry, status, body: body.as_bytes(), auth })
    }

    fn words(failure: FetchFailure) -> String {
        match failure {
            FetchFailure::Passing(words) | FetchFailure::Denied(words) | FetchFailure::Other(words) => words,
            other => format!("{other:?}"),
        }
    }

    fn coded(status: u16, code: &str, message: &str) -> FetchFailure {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":null}}]}}"#);
        answer("r", status, &body, &AuthContext::default())
    }

    #[test]
    fn a_refusal_says_where_to_add_credentials() {
        let without = words(answer("ghcr.io", 401, "", &AuthContext::default()));
        assert!(without.contains("`ghcr.io` wants credentials (401)"), "{without}");
        assert!(without.contains("`auths` `ghcr.io`") && without.contains("`dockerConfig`"), "{without}");
        let auth = AuthContext { credentials: true, withheld_from: None };
        let with = words(answer("ghcr.io", 403, "", &auth));
        assert!(with.contains("refused the credentials (403)"), "{with}");
        let hub = words(answer("docker.io", 401, "", &AuthContext::default()));
        assert!(hub.contains("`auths` `https://index.docker.io/v1/`"), "{hub}");
        let withheld = AuthContext { credentials: true, withheld_from: Some("evil.example".into()) };
        let withheld = words(answer("ghcr.io", 401, "", &withheld));
        assert!(withheld.contains("`evil.example`") && withheld.contains("`tokenRealms`"), "{withheld}");
    }

    #[test]
    fn every_form_of_not_found_means_missing() {
        for code in ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "BLOB_UNKNOWN"] {
            assert_eq!(coded(404, code, "x"), FetchFailure::Missing, "{code}");
            assert_eq!(coded(400, code, "x"), FetchFailure::Missing, "{code}");
            assert!(
                matches!(coded(500, code, "x"), FetchFailure::Passing(_)),
                "a broken registry knows nothing"
            );
        }
        assert_eq!(answer("r", 404, "page not found", &AuthContext::default()), FetchFailure::Missing);
    }

    #[test]
    fn other_answers_are_quoted_in_one_short_line() {
        let auth = AuthContext::default();
        let text = words(answer("r.corp", 500, &format!("oh\nno{}", "!".repeat(9999)), &auth));
        assert!(text.starts_with("`r.corp` answered with status 500: oh no!"), "{text}");
        assert!(text.len() < 300 && !text.contains('\n'));
        assert!(words(answer("r", 503, "", &auth)).ends_with("status 503"));
        assert!(words(answer("r", 429, "", &auth)).contains("(429)"));
        assert!(words(coded(429, "TOOMANYREQUESTS", "")).contains("(429)"));
        assert!(words(coded(400, "WHATEVER", "because")).ends_with("status 400: because"));
    }

    #[test]
    fn waits_are_given_in_whole_seconds() {
        assert!(limited("r", Some(Duration::from_millis(29_200))).contains("wait 30 s"));
        let silent = breaker_open("r", BreakerOpen::Silent { failures: 5, left: Duration::from_millis(900) });
        assert!(silent.contains("5 requests in a row and is tried again in 1 s"), "{silent}");
        assert!(
            breaker_open("r", BreakerOpen::RetryAfter { left: Duration::from_secs(7) })
                .contains("another 7 s")
        );
        assert!(unavailable("r", Duration::from_secs(7)).contains("503 and is not asked for 7 s"));
    }

    #[test]
    fn causes_inside_io_errors_are_found() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = io::Error::other(io::Error::new(ErrorKind::InvalidData, inner));
        assert!(network(&outer, "r.corp").words.contains("`caFiles`"));
        let refused = network(&io::Error::from(ErrorKind::ConnectionRefused), "r:5000");
        assert!(refused.words.contains("`r:5000` refused") && !refused.cut);
        assert!(network(&io::Error::from(ErrorKind::ConnectionReset), "r").cut);
        assert!(network(&io::Error::other("strange"), "r").words.contains("strange"));
    }
}
