//! Bundle servers, by OPA's protocol (`open-policy-agent/opa:v1/download/download.go`): a `GET` with the `ETag` of the bundle in force,
//! which is answered with a bundle or with 304; and with `Prefer: …;wait=N`, which asks the server to answer only when there is a new one.
//!
//! Unlike the names of images, these URLs are the platform's own, so their servers may have any address.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::fetched::Fetched;
use super::options::BundleSource;
use super::{Error, blocking};
use crate::client::{self, Credentials};
use crate::policy::Contents;
use crate::policy::contents::MAX_PACKED_BYTES;
use crate::text;

/// Bound on every wait for more bytes, beyond what the server was allowed to wait.
const READ: Duration = Duration::from_secs(15);
/// Bound on a whole answer, beyond the same.
const WHOLE: Duration = Duration::from_mins(2);
/// Content type of a server that can hold back its answer.
const LONG_POLL_TYPE: &str = "application/vnd.openpolicyagent.bundles";
/// Longest `ETag` that is kept, in bytes.
const LONGEST_ETAG: usize = 1024;

/// Begins the version of a bundle whose server names none.
const OF_BODY: &str = "body-sha256:";

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A bundle server.
#[derive(Debug)]
pub(super) struct Http {
    source: BundleSource,
    url: Url,
    holds: Holds,
    /// Whether its last answer without a bundle came at once, although it was let wait.
    is_hasty: bool,
}

/// Whether the server can hold back its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// It was not asked yet. A start does not wait.
    Unasked,
    /// It has sent no bundle, with which it would have said so: what was kept is still the one. It is tried.
    Unsaid,
    No,
    /// It has held back an answer for as long as it was let wait, and says nothing. One that is merely slow would do so too.
    Shown,
    /// It has said so.
    Yes,
}

/// Whether an answer that came so long after a question was held back for as long as the server was let wait, which is told in whole seconds. Clocks
/// of servers differ a little.
fn is_whole(wait: Duration, after: Duration) -> bool {
    after.saturating_mul(10) >= Duration::from_secs(wait.as_secs().max(1)).saturating_mul(9)
}

impl Http {
    pub const fn new(source: BundleSource, url: Url) -> Self {
        Self { source, url, holds: Holds::Unasked, is_hasty: false }
    }

    /// Whether the server holds back its answers, and is asked again at once.
    pub fn waits(&self) -> bool {
        matches!(self.holds, Holds::Yes | Holds::Shown) && !self.is_hasty && !self.source.long_poll.is_zero()
    }

    /// Whether it may be asked for that, which shows whether it can.
    pub fn may_wait(&self) -> bool {
        matches!(self.holds, Holds::Yes | Holds::Shown | Holds::Unsaid) && !self.source.long_poll.is_zero()
    }

    /// Asks for a bundle other than that with this `ETag`.
    pub async fn fetch(&mut self, version: &str) -> Result<Fetched, Error> {
        let etag = if version.starts_with(OF_BODY) { "" } else { version };
        // Without an `ETag` it would answer at once.
        let wait = if self.may_wait() && !etag.is_empty() { self.source.long_poll } else { Duration::ZERO };
        let began = Instant::now();
        let client = self.client(wait).await?;
        let request = client.get(self.url.clone()).headers(self.headers(etag, wait).await?);
        let response =
            request.send().await.map_err(|error| self.failed(text::chain(&error.without_url())))?;
        match response.status() {
            StatusCode::OK => self.taken(response, version).await,
            StatusCode::NOT_MODIFIED if etag.is_empty() => {
                Err(self.failed("the server answers 304 to a request without `If-None-Match`".into()))
            }
            StatusCode::NOT_MODIFIED => {
                self.unchanged(says_so(&response), wait, began.elapsed());
                Ok(Fetched::Unchanged)
            }
            status => Err(self.failed(explained(status))),
        }
    }

    /// What an answer without a bundle shows, which came so long after a question that let the server wait. A server is asked again at once
    /// only where that is no more often than it was let wait, or, where it has said that it can, than half of that.
    fn unchanged(&mut self, says_so: bool, wait: Duration, after: Duration) {
        self.is_hasty = !wait.is_zero() && after < wait / 2;
        self.holds = match self.holds {
            _ if says_so => Holds::Yes,
            Holds::Unasked => Holds::Unsaid,
            said if wait.is_zero() => said,
            Holds::Unsaid | Holds::Shown if is_whole(wait, after) => Holds::Shown,
            Holds::Unsaid | Holds::Shown => Holds::No,
            said => said,
        };
    }

    async fn taken(&mut self, response: Response, known: &str) -> Result<Fetched, Error> {
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let says_so = says_so(&response);
        let etag =
            header(ETAG).filter(|etag| !etag.is_empty() && etag.len() <= LONGEST_ETAG).map(str::to_owned);
        // One that sends a bundle again which was named to it would send it every second.
        let can_wait = says_so && etag.as_deref().is_some_and(|etag| etag != known);
        (self.holds, self.is_hasty) = (if can_wait { Holds::Yes } else { Holds::No }, false);
        if etag.as_deref() == Some(known) {
            return Ok(Fetched::Unchanged);
        }
        let bytes = body(response).await.map_err(|message| self.failed(message))?;
        if bytes.is_empty() {
            // OPA's own client takes an empty body for no change.
            return if known.is_empty() {
                Err(self.failed("the answer is empty".into()))
            } else {
                Ok(Fetched::Unchanged)
            };
        }
        let (name, known) = (self.source.name(), known.to_owned());
        blocking(&self.source.name(), move || {
            let version = etag.unwrap_or_else(|| format!("{OF_BODY}{:x}", Sha256::digest(&bytes)));
            if version == known {
                return Ok(Fetched::Unchanged);
            }
            Ok(Fetched::New { contents: Contents::from_tar_gz(&name, &bytes), version })
        })
        .await
    }

    async fn headers(&self, etag: &str, wait: Duration) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/gzip, */*"))]);
        // Delta bundles are not among the modes.
        let prefer = if wait.is_zero() {
            "modes=snapshot".to_string()
        } else {
            format!("modes=snapshot;wait={}", wait.as_secs().max(1))
        };
        headers.extend(HeaderValue::from_str(&prefer).map(|prefer| (PREFER, prefer)));
        if !etag.is_empty() {
            headers.extend(HeaderValue::from_str(etag).map(|etag| (IF_NONE_MATCH, etag)));
        }
        let authorization = self.credentials().authorization().await.map_err(|error| self.unusable(error))?;
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        Ok(headers)
    }

    /// A new one for each request, since the files may have changed.
    async fn client(&self, wait: Duration) -> Result<Client, Error> {
        let client = self.credentials().client(READ.saturating_add(wait), WHOLE.saturating_add(wait)).await;
        client.map_err(|error| self.unusable(error))
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            ca_file: self.source.ca_file.clone(),
            client_cert_file: self.source.client_cert_file.clone(),
            client_key_file: self.source.client_key_file.clone(),
            token_file: self.source.token_file.clone(),
        }
    }

    fn unusable(&self, error: client::Error) -> Error {
        match error {
            client::Error::ReadCredential { path, source } => {
                Error::ReadCredential { bundle: self.source.name(), path, source }
            }
            error => self.failed(error.to_string()),
        }
    }

    fn failed(&self, message: String) -> Error {
        Error::FetchBundle { bundle: self.source.name(), from: self.source.shown(), message }
    }
}

/// Whether the server says that it can hold back its answers.
fn says_so(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|found| found.contains(LONG_POLL_TYPE))
}

fn explained(status: StatusCode) -> String {
    let cure = match status.as_u16() {
        401 | 403 => "; see `tokenFile` and `clientCertFile`",
        404 => "; see whether the URL is right",
        _ => "",
    };
    format!("the server answers {status}{cure}")
}

async fn body(mut response: Response) -> Result<Bytes, String> {
    let limit = usize::try_from(MAX_PACKED_BYTES).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| text::chain(&error.without_url()))? {
        if bytes.len().saturating_add(chunk.len()) > limit {
            return Err(format!("it has more than {limit} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a server is asked after these answers without a bundle: whether it said that it can wait, how many seconds it was let wait,
    /// and after how many it answered.
    fn after(answers: &[(bool, u64, u64)]) -> (Holds, bool) {
        let source = BundleSource { long_poll: Duration::from_secs(30), ..BundleSource::of("http://a/b") };
        let mut server = Http::new(source, Url::parse("http://a/b").unwrap());
        for (says_so, wait, after) in answers {
            server.unchanged(*says_so, Duration::from_secs(*wait), Duration::from_secs(*after));
        }
        (server.holds, server.waits())
    }

    #[test]
    fn a_server_that_says_nothing_is_let_wait_once_and_again_where_it_does() {
        assert_eq!(after(&[]), (Holds::Unasked, false));
        assert_eq!(after(&[(false, 0, 40)]), (Holds::Unsaid, false), "the start was slow");
        assert_eq!(after(&[(false, 0, 0), (false, 30, 30)]), (Holds::Shown, true));
        assert_eq!(after(&[(false, 0, 0), (false, 30, 1)]), (Holds::No, false));
        assert_eq!(after(&[(false, 0, 0), (false, 30, 1), (false, 0, 40)]), (Holds::No, false));
    }

    /// It would be asked every second, again and again.
    #[test]
    fn a_server_that_is_slow_is_not_taken_for_one_that_waits() {
        for slow in [15, 20, 26] {
            assert_eq!(after(&[(false, 0, 0), (false, 30, slow)]), (Holds::No, false), "{slow}");
        }
        let slower = [(false, 0, 0), (false, 30, 31), (false, 30, 20)];
        assert_eq!(after(&slower), (Holds::No, false), "the first time, something was slow");
        // So long it was let wait, and it is asked no more often.
        assert!(is_whole(Duration::from_millis(1_700), Duration::from_millis(990)));
        assert!(!is_whole(Duration::from_secs(30), Duration::from_secs(26)));
    }

    #[test]
    fn a_server_that_says_that_it_can_wait_is_asked_at_once_while_it_does() {
        assert_eq!(after(&[(true, 0, 0)]), (Holds::Yes, true), "it was not let wait yet");
        assert_eq!(after(&[(false, 0, 0), (true, 30, 0)]), (Holds::Yes, false));
        assert_eq!(after(&[(true, 0, 0), (false, 30, 20)]), (Holds::Yes, true), "it ends a wait sooner");
        assert_eq!(after(&[(true, 0, 0), (false, 30, 2)]), (Holds::Yes, false), "it did not wait");
        assert_eq!(after(&[(true, 0, 0), (false, 30, 2), (false, 30, 30)]), (Holds::Yes, true));
    }
}
