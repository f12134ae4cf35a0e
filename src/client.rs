//! Requests to servers of the platform's own, such as those of bundles and of decisions. Unlike the names of images, their URLs come from
//! the configuration, so they may have any address.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, Identity, Response, Url, redirect};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::files::{self, LARGEST_CREDENTIAL};
use crate::registry::install_tls_provider;
pub use crate::registry::retry_after;
use crate::text;

/// Bound on resolving a name and on opening a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Redirects that are followed: stores of objects send to where an object is.
const MOST_REDIRECTS: usize = 5;

/// Why no request can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("could not read `{}`", path.display())]
    ReadCredential {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{}` cannot be used, expected {expected}", path.display())]
    UseCredential {
        /// The file.
        path: PathBuf,
        /// What it has to hold.
        expected: &'static str,
    },
    /// The client could not be made.
    #[error("could not prepare a request: {reason}")]
    PrepareRequest {
        /// Why.
        reason: String,
    },
}

/// How a server is trusted and how the gate shows who it is; the files are read for each request, since they may have changed.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// CAs in PEM instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate in PEM; with [`Self::client_key_file`].
    pub client_cert_file: Option<PathBuf>,
    /// Its private key in PEM.
    pub client_key_file: Option<PathBuf>,
    /// File with a bearer token.
    pub token_file: Option<PathBuf>,
}

impl Credentials {
    /// The field that cannot be used, its value, and what to write.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let (field, path) = match (&self.client_cert_file, &self.client_key_file) {
            (Some(cert), None) => ("clientCertFile", cert),
            (None, Some(key)) => ("clientKeyFile", key),
            _ => return None,
        };
        Some((field, path.display().to_string(), "write `clientCertFile` and `clientKeyFile`, or neither"))
    }

    /// A client whose waits for more bytes, and whose whole request, are bounded by these times.
    pub async fn client(&self, read: Duration, whole: Duration) -> Result<Client, Error> {
        self.client_that(false, read, whole).await
    }

    /// A client for requests with a body, whose waits are bounded as those of [`Self::client`]. It follows those redirects that keep it; with the others the body would be lost, and the
    /// answer be that of another page.
    pub async fn sender(&self, read: Duration, whole: Duration) -> Result<Client, Error> {
        self.client_that(true, read, whole).await
    }

    async fn client_that(&self, sends: bool, read: Duration, whole: Duration) -> Result<Client, Error> {
        install_tls_provider();
        let has_identity = self.client_cert_file.is_some();
        let mut builder = Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::custom(move |attempt| match attempt.status().as_u16() {
                301..=303 if sends => attempt.stop(),
                _ => followed(attempt, has_identity),
            }))
            .connect_timeout(CONNECT)
            .read_timeout(read)
            .timeout(whole);
        if let Some(path) = &self.ca_file {
            let found = Certificate::from_pem_bundle(&file(path).await?).ok();
            let certificates = found.filter(|found| !found.is_empty());
            builder =
                builder.tls_certs_only(certificates.ok_or_else(|| not_usable(path, "certificates in PEM"))?);
        }
        if let (Some(cert), Some(key)) = (&self.client_cert_file, &self.client_key_file) {
            let mut both = Zeroizing::new(Vec::new());
            both.extend_from_slice(&file(cert).await?);
            both.push(b'\n');
            both.extend_from_slice(&file(key).await?);
            let identity = Identity::from_pem(&both);
            let identity = identity.map_err(|_| not_usable(cert, "a certificate, with its key, in PEM"))?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| Error::PrepareRequest { reason: text::chain(&error) })
    }

    /// The value of `Authorization`, if there is a token.
    pub async fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let token = file(path).await?;
        let token = std::str::from_utf8(&token).map(str::trim).ok().filter(|token| !token.is_empty());
        let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let mut value = value.ok_or_else(|| not_usable(path, "a token in one line"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// The body of an answer, however it is framed; `None` if it has more than `most` bytes or ends early.
pub async fn small_body(mut answer: Response, most: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.ok()? {
        if body.len() + part.len() > most {
            return None;
        }
        body.extend_from_slice(&part);
    }
    Some(body)
}

/// What to write instead of this URL; `example` where it is none. Plain HTTP has to be allowed, and secrets have files of their own.
pub fn url_problem(url: &str, plain_http: bool, example: &'static str) -> Option<&'static str> {
    let parsed = Url::parse(url).ok().filter(|parsed| parsed.host_str().is_some());
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let Some((parsed, scheme @ ("http" | "https"))) = parsed.zip(scheme) else { return Some(example) };
    if scheme == "http" && !plain_http {
        return Some("everyone on the way could read it; write `https://`, or set `plainHttp: true`");
    }
    let has_secret = !parsed.username().is_empty() || parsed.password().is_some();
    has_secret.then_some("credentials do not belong into a URL; use `tokenFile` or `clientCertFile`")
}

/// The URL without what may be secret in it.
pub fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "?".into() };
    url.set_query(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

async fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::ReadCredential { path: path.to_path_buf(), source };
    let own = path.to_path_buf();
    let read = spawn_blocking(move || files::read(&own, LARGEST_CREDENTIAL).map(Zeroizing::new)).await;
    read.unwrap_or_else(|ended| Err(io::Error::other(ended))).map_err(failed)
}

fn not_usable(path: &Path, expected: &'static str) -> Error {
    Error::UseCredential { path: path.to_path_buf(), expected }
}

/// A redirect is followed as long as it does not leave TLS. With a client certificate it must not leave the host either, which
/// would be shown the certificate.
fn followed(attempt: redirect::Attempt<'_>, has_identity: bool) -> redirect::Action {
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("the server redirects too often");
    }
    let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_safe && attempt.url().scheme() != "https" {
        return attempt.error("the server redirects to plain HTTP, which is never followed");
    }
    let first = attempt.previous().first().and_then(Url::host_str);
    if has_identity && first != attempt.url().host_str() {
        return attempt
            .error("the server redirects to another host, which is not followed with `clientCertFile`");
    }
    attempt.follow()
}
