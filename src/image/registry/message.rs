//! What a registry or the network said, in a line that a person can act on.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use rustls::CertificateError;

use crate::image::source::shorten;

/// How much of a registry's own text is repeated, in characters.
const QUOTED_CHARS: usize = 160;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The registry says that there is no such thing.
    Missing,
    /// Anything else, in words.
    Other(String),
}

/// Explains an error of the client. `logged_in` says whether credentials were sent.
pub(super) fn explain(error: &OciDistributionError, registry: &str, logged_in: bool) -> Problem {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            refused(401, registry, logged_in)
        }
        OciDistributionError::ImageManifestNotFoundError(_) => Problem::Missing,
        OciDistributionError::ServerError { code, message, .. } => {
            status(*code, message, registry, logged_in)
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let Some(first) = envelope.errors.first() else {
                return Problem::Other(format!("`{registry}` refused without a reason"));
            };
            match &first.code {
                OciErrorCode::Unauthorized => refused(401, registry, logged_in),
                OciErrorCode::Denied => refused(403, registry, logged_in),
                OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound
                | OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestBlobUnknown => Problem::Missing,
                OciErrorCode::Toomanyrequests => limited(registry),
                _ => Problem::Other(format!("`{registry}` said: {}", shorten(&first.message, QUOTED_CHARS))),
            }
        }
        other => Problem::Other(network(other, registry)),
    }
}

fn status(code: u16, body: &str, registry: &str, logged_in: bool) -> Problem {
    match code {
        401 | 403 => refused(code, registry, logged_in),
        404 => Problem::Missing,
        429 => limited(registry),
        _ if body.trim().is_empty() => Problem::Other(format!("`{registry}` answered with status {code}")),
        _ => Problem::Other(format!(
            "`{registry}` answered with status {code}: {}",
            shorten(body, QUOTED_CHARS)
        )),
    }
}

/// Large registries answer 401 or 403 for repositories that do not exist too, so both readings are offered.
fn refused(code: u16, registry: &str, logged_in: bool) -> Problem {
    let entry = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    Problem::Other(if logged_in {
        format!(
            "`{registry}` refused the credentials ({code}); correct those under `auths` `{entry}` in the docker \
             config, or see whether the repository exists"
        )
    } else {
        format!(
            "`{registry}` wants credentials ({code}), or the repository does not exist; add credentials under \
             `auths` `{entry}` to the docker config that `dockerConfig` names"
        )
    })
}

/// The client does not hand out the `Retry-After` header.
fn limited(registry: &str) -> Problem {
    Problem::Other(format!(
        "`{registry}` limits how often it may be asked (429); wait, or add credentials that have a higher limit"
    ))
}

/// Explains a failure below HTTP from its causes: the outer layers say no more than that a request failed.
pub(super) fn network(error: &(dyn StdError + 'static), registry: &str) -> String {
    let causes = causes(error);
    for cause in &causes {
        let known = (cause.downcast_ref::<rustls::Error>().map(|error| tls(error, registry)))
            .or_else(|| cause.downcast_ref::<DigestError>().and_then(wrong_digest))
            .or_else(|| cause.downcast_ref::<io::Error>().and_then(|error| cut(error, registry)));
        if let Some(message) = known {
            return message;
        }
    }
    let last = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    // The HTTP client's own time-outs have a type that it keeps to itself (`reqwest:src/error.rs`, `TimedOut`).
    if last == "operation timed out" {
        return format!("`{registry}` did not answer in time");
    }
    format!("`{registry}`: {}", shorten(&last, QUOTED_CHARS))
}

/// The causes of an error, outermost first, those inside of I/O errors included.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut causes = vec![error];
    let mut current = error;
    loop {
        let inside = current.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        let next = inside.map(|inner| inner as &'a (dyn StdError + 'static)).or_else(|| current.source());
        match next {
            // A chain has a handful of links; the bound is for one that bites its tail.
            Some(cause) if causes.len() < 32 => {
                causes.push(cause);
                current = cause;
            }
            _ => return causes,
        }
    }
}

fn cut(error: &io::Error, registry: &str) -> Option<String> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(format!(
            "`{registry}` refused the connection; is the registry running, and is the port right?"
        )),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Some(format!("`{registry}` cut the connection")),
        ErrorKind::TimedOut => Some(format!("`{registry}` did not answer in time")),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some(format!("there is no route to `{registry}`"))
        }
        _ => None,
    }
}

fn wrong_digest(error: &DigestError) -> Option<String> {
    let DigestError::VerificationError { expected, actual } = error else { return None };
    Some(format!("the bytes have the digest `{}`, not `{}`", shorten(actual, 140), shorten(expected, 140)))
}

fn tls(error: &rustls::Error, registry: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate of `{registry}` is signed by an authority that is not known here; add the authority's \
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
            format!("could not set up TLS with `{registry}`: {}", shorten(&other.to_string(), QUOTED_CHARS))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(problem: Problem) -> String {
        match problem {
            Problem::Missing => "missing".into(),
            Problem::Other(words) => words,
        }
    }

    fn server(code: u16, message: &str) -> OciDistributionError {
        OciDistributionError::ServerError { code, url: "https://r/v2/".into(), message: message.into() }
    }

    fn registry_error(code: &str, message: &str) -> OciDistributionError {
        let text = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        OciDistributionError::RegistryError {
            envelope: serde_json::from_str(&text).unwrap(),
            url: "https://r/v2/".into(),
        }
    }

    #[test]
    fn a_refusal_says_where_credentials_go() {
        let unauthorized = || OciDistributionError::UnauthorizedError { url: "https://r/v2/".into() };
        let without = words(explain(&unauthorized(), "ghcr.io", false));
        assert!(without.contains("`ghcr.io` wants credentials (401)"), "{without}");
        assert!(without.contains("`auths` `ghcr.io`") && without.contains("`dockerConfig`"), "{without}");
        let with = words(explain(&registry_error("DENIED", "no"), "ghcr.io", true));
        assert!(with.contains("refused the credentials (403)"), "{with}");
        let hub = words(explain(&unauthorized(), "docker.io", false));
        assert!(hub.contains("`auths` `https://index.docker.io/v1/`"), "{hub}");
    }

    #[test]
    fn what_is_not_there_is_missing_however_it_is_said() {
        for code in ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "BLOB_UNKNOWN"] {
            assert_eq!(explain(&registry_error(code, "x"), "r", false), Problem::Missing, "{code}");
        }
        assert_eq!(explain(&server(404, "page not found"), "r", false), Problem::Missing);
    }

    #[test]
    fn other_answers_are_repeated_in_one_short_line() {
        let text = words(explain(&server(500, &format!("oh\nno{}", "!".repeat(9999))), "r.corp", false));
        assert!(text.starts_with("`r.corp` answered with status 500: oh no!"), "{text}");
        assert!(text.len() < 300 && !text.contains('\n'));
        assert!(words(explain(&server(503, ""), "r", false)).ends_with("status 503"));
        assert!(words(explain(&server(429, ""), "r", false)).contains("(429)"));
        assert!(words(explain(&registry_error("TOOMANYREQUESTS", ""), "r", false)).contains("(429)"));
        assert!(
            words(explain(&registry_error("WHATEVER", "because"), "r", false)).ends_with("said: because")
        );
    }

    #[test]
    fn causes_inside_io_errors_are_found() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = io::Error::other(io::Error::new(ErrorKind::InvalidData, inner));
        assert!(network(&outer, "r.corp").contains("`caFiles`"));
        assert!(
            network(&io::Error::from(ErrorKind::ConnectionRefused), "r:5000").contains("`r:5000` refused")
        );
        assert!(network(&io::Error::other("strange"), "r").contains("strange"));
    }
}
