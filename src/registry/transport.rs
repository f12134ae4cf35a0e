//! An HTTP client for image names that tenants choose: every connection passes the guard, redirects are followed one by
//! one under the same rules, credentials go only to the host that they are for, and no body is read beyond its limit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, NoProxy, Proxy, Response, StatusCode, Url, redirect};

use super::RegistryOptions;
use super::message::FetchFailure;
use super::resolver::{Guarded, Resolver};
use crate::image::digest::Hasher;
use crate::registry::guard::{AllowedAddresses, Guard, Refusal};
use crate::text;

/// Redirects that are followed. Registries redirect once, to where their blobs are stored; some of those redirect
/// again.
const MOST_REDIRECTS: usize = 5;

/// Most idle connections that are kept to one host.
const IDLE_CONNECTIONS: usize = 8;

/// How long an idle connection is kept open.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// An HTTP request.
#[derive(Clone)]
pub(super) struct HttpRequest {
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    /// Sent only to the host of `url`.
    pub(super) authorization: Option<HeaderValue>,
    /// Fields of a form; with them the request is a `POST`, and redirects are not followed.
    pub(super) form: Option<String>,
}

impl HttpRequest {
    pub(super) fn get(url: Url) -> Self {
        Self { url, accept: None, authorization: None, form: None }
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The guard refuses the host.
    Refused(Refusal),
    /// The redirect is invalid, or leads to a host that the guard refuses.
    Redirect(String),
    /// The network failed, or the other side does not speak HTTP.
    Network {
        error: reqwest::Error,
        /// The host that the registry redirected to; `None` for the registry itself.
        elsewhere: Option<String>,
    },
}

/// The clients. There are two, each with its own connections, so that a connection to a listed host never serves a host
/// that is not listed.
#[derive(Debug)]
pub(super) struct Transport {
    guard: Arc<Guard>,
    anywhere: Client,
    public: Client,
}

impl Transport {
    pub(super) fn new(
        guard: &Arc<Guard>,
        resolver: &Arc<dyn Resolver>,
        ca_certs: &[Certificate],
        options: &RegistryOptions,
    ) -> Result<Self, FetchFailure> {
        let client = |reach| {
            let resolver = Guarded {
                resolver: resolver.clone(),
                guard: guard.clone(),
                reach,
                timeout: options.connect_timeout,
                proxy: None,
            };
            client(resolver, ca_certs, options)
        };
        Ok(Self {
            anywhere: client(AllowedAddresses::Anywhere)?,
            public: client(AllowedAddresses::Public)?,
            guard: guard.clone(),
        })
    }

    /// Sends the request and follows redirects. The response may have any status; its body has not been read.
    pub(super) async fn send(&self, ask: &HttpRequest) -> Result<Response, Failure> {
        let mut hop = ask.clone();
        for followed in 0..=MOST_REDIRECTS {
            let reach = self.guard.check_url(&hop.url).map_err(|refusal| refused(followed, refusal))?;
            let response =
                self.send_once(&hop, reach).await.map_err(|error| failed(followed, &hop.url, error))?;
            let Some(to) = target(&hop, &response)? else { return Ok(response) };
            if to.origin() != hop.url.origin() {
                // Never restored, even if a later redirect leads back to the first host.
                hop.authorization = None;
            }
            hop.url = to;
        }
        Err(Failure::Redirect(format!("it redirects more than {MOST_REDIRECTS} times")))
    }

    async fn send_once(
        &self,
        ask: &HttpRequest,
        reach: AllowedAddresses,
    ) -> Result<Response, reqwest::Error> {
        let client = match reach {
            AllowedAddresses::Anywhere => &self.anywhere,
            AllowedAddresses::Public => &self.public,
        };
        let mut headers = HeaderMap::new();
        if let Some(accept) = ask.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(authorization) = &ask.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let method = if ask.form.is_some() { Method::POST } else { Method::GET };
        let mut request = client.request(method, ask.url.clone());
        if let Some(form) = &ask.form {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            request = request.body(form.clone());
        }
        request.headers(headers).send().await
    }
}

/// A refusal names the registry when it was asked itself, or the host that it redirects to.
fn refused(followed: usize, refusal: Refusal) -> Failure {
    if followed == 0 {
        return Failure::Refused(refusal);
    }
    Failure::Redirect(format!("it redirects to a host that {}", elsewhere(&refusal)))
}

fn elsewhere(refusal: &Refusal) -> String {
    format!(
        "is refused: {refusal}; if it is right, add the host to `images.registries.allow` (`--allow-registry`) \
         or its network to `images.registries.allowedCidrs`"
    )
}

fn failed(followed: usize, url: &Url, error: reqwest::Error) -> Failure {
    if let Some(refusal) = super::message::refusal(&error) {
        return refused(followed, refusal.clone());
    }
    let elsewhere = (followed > 0).then(|| text::quoted(url.host_str().unwrap_or_default(), 100));
    Failure::Network { error, elsewhere }
}

/// The target of a redirect; `None` for any other response.
fn target(hop: &HttpRequest, response: &Response) -> Result<Option<Url>, Failure> {
    const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
    if hop.form.is_some() || !REDIRECTS.contains(&response.status().as_u16()) {
        return Ok(None);
    }
    let broken = |what: &str| Failure::Redirect(format!("it redirects {what}"));
    let location = response.headers().get(LOCATION).ok_or_else(|| broken("to nowhere"))?;
    let location = location.to_str().map_err(|_| broken("to something that is not a URL"))?;
    let mut to = hop.url.join(location).map_err(|_| broken("to something that is not a URL"))?;
    let shown = text::quoted(to.host_str().unwrap_or_default(), 100);
    match (hop.url.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => {
            return Err(broken(&format!("from HTTPS to plain HTTP at `{shown}`, which is never followed")));
        }
        _ => return Err(broken("to a URL that is neither HTTPS nor HTTP")),
    }
    // The client would send them as credentials.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    Ok(Some(to))
}

fn client(
    resolver: Guarded,
    ca_certs: &[Certificate],
    options: &RegistryOptions,
) -> Result<Client, FetchFailure> {
    let mut builder = Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE_TIME)
        // Retries are decided by the caller, which knows the time budget.
        .retry(reqwest::retry::never());
    for ca in ca_certs {
        builder = builder.add_root_certificate(ca.clone());
    }
    let mut resolver = resolver;
    // The proxies of the environment are not used: they would resolve names, and the guard would not see the addresses.
    builder = match &options.proxy {
        None => builder.no_proxy(),
        Some(proxy) => {
            // The URL may hold a password, so it is not repeated.
            let wrong = |what: String| FetchFailure::SetUp(format!("`proxy` `url`: {what}"));
            let url = Url::parse(&proxy.url).map_err(|error| wrong(format!("it is not a URL: {error}")))?;
            resolver.proxy = url.host_str().map(String::from);
            let except = NoProxy::from_string(&proxy.except.join(","));
            let proxy = Proxy::all(url).map_err(|error| wrong(error.to_string()))?;
            builder.proxy(proxy.no_proxy(except))
        }
    };
    builder.dns_resolver(Arc::new(resolver)).build().map_err(|error| {
        let causes = super::message::network(&error, "client");
        FetchFailure::SetUp(format!("{}; does this system have CA certificates?", causes.words))
    })
}

/// Why a body was not read to the end.
#[derive(Debug)]
pub(super) enum BodyFailure {
    /// It exceeds the limit.
    TooLarge,
    /// The network.
    Network(reqwest::Error),
}

/// Bytes of a body after which other tasks of the thread get their turn. A body that arrives faster than it is read never waits by
/// itself.
const TURN: usize = 1 << 20;

/// Reads a body as it arrives, hashes each part of it, and stops at the limit. The buffer is reserved in one piece, because growing
/// it step by step takes twice the memory at the end; pages that are never filled cost no memory.
pub(super) async fn read(
    mut response: Response,
    limit: u64,
    mut hasher: Option<&mut Hasher>,
) -> Result<Bytes, BodyFailure> {
    let expected = response.content_length().unwrap_or(limit);
    if expected > limit {
        return Err(BodyFailure::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    let mut in_turn = 0;
    while let Some(chunk) = response.chunk().await.map_err(BodyFailure::Network)? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(BodyFailure::TooLarge);
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk);
        }
        bytes.extend_from_slice(&chunk);
        in_turn += chunk.len();
        if in_turn >= TURN {
            in_turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(bytes.into())
}

/// As much of a body as a message needs. A network error only ends it, since the status is known already.
pub(super) async fn read_some(mut response: Response, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= most {
            bytes.truncate(most);
            break;
        }
    }
    bytes
}

/// The pause that `Retry-After` asks for (RFC 9110, section 10.2.3), if the status is one that carries it.
pub fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    wait(text, jiff::Timestamp::now())
}

/// Parses seconds or a date.
fn wait(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean a long time; the caller caps it.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(at.duration_since(now)).ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_in_seconds_and_as_a_date() {
        let now: jiff::Timestamp = "2026-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(wait("120", now), Some(Duration::from_mins(2)));
        assert_eq!(wait("Fri, 06 Nov 2026 08:50:37 GMT", now), Some(Duration::from_mins(1)));
        assert_eq!(wait("Fri, 06 Nov 2026 08:49:00 GMT", now), None, "in the past");
        for strange in ["", "-1", "soon", "1.5", "Fri"] {
            assert_eq!(wait(strange, now), None, "{strange}");
        }
        assert!(wait("99999999999999999999999999", now).unwrap() > Duration::from_hours(1));
    }
}
