//! Images from registries that speak the distribution API (OCI distribution-spec).
//!
//! A cold look-up takes one request for each manifest and blob that must be read. It sends no `GET /v2/` first: it learns from a
//! registry's first refusal which authentication the registry wants, remembers that, and keeps tokens until they
//! expire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;

use crate::image::descriptor::Descriptor;
use crate::image::digest::Hasher;
use crate::image::{self, Digest, reference::Reference};
use crate::registry::source::{FetchedManifest, Source};
use auth::Auth;
use breaker::Breakers;
use guard::Guard;
use inner::Inner;
use keyring::Keyring;
use message::{Answer, AuthContext, FetchFailure};
use request::AuthenticatedRequest;
use resolver::{Resolver, System};
use site::{Requested, Site};
use transport::{BodyFailure, Transport};

mod auth;
mod breaker;
mod ca_files;
mod challenge;
mod clock;
pub mod credentials;
pub mod error;
#[doc(hidden)]
pub mod foreign;
pub mod guard;
mod helper;
mod inner;
mod keyring;
pub mod layout;
mod message;
mod options;
mod pull_identity;
mod push;
mod request;
pub mod resolver;
mod secret;
mod site;
pub mod source;
mod transport;

pub use breaker::BreakerOptions;
pub(crate) use clock::Clock;
pub use credentials::{Credentials, Login, NoPullSecrets, PullSecrets, Pulled, Puller};
pub use error::Error;
pub use options::{ProxyOptions, RegistryOptions};
pub use pull_identity::PullIdentity;
pub use push::{Artifact, push};
pub use secret::SecretText;
pub use transport::retry_after;

/// How much of an error's body is read, in bytes.
const ERROR_BODY: usize = 8 << 10;

/// Pause before the second try of a request that failed in a way that may pass.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Registries as a source of images. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    /// Credentials of the pod that the image is looked up for; tried before the platform's own.
    asker: PullIdentity,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("guard", &self.inner.guard).finish_non_exhaustive()
    }
}

/// Installs what the clients of this process make TLS with. If another thread installs one first, that is fine: either is
/// ring.
pub fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl Registry {
    /// Sets up the clients; reads the CAs and the docker config.
    pub fn new(guard: Guard, options: &RegistryOptions) -> Result<Self, Error> {
        let system: Arc<dyn Resolver> = Arc::new(System);
        Self::with_resolver(guard, options, &system)
    }

    /// The same with another resolver than the operating system's.
    pub fn with_resolver(
        guard: Guard,
        options: &RegistryOptions,
        resolver: &Arc<dyn Resolver>,
    ) -> Result<Self, Error> {
        install_tls_provider();
        let mirrors = site::mirrors(&options.mirrors)?;
        let realms = options.token_realms.values().flatten().map(String::as_str);
        let guard =
            guard.with_named(mirrors.values().flatten().map(|mirror| mirror.host.as_str()).chain(realms));
        let guard = Arc::new(guard);
        let ca_certs = ca_files::ca_certs(&options.ca_files)?;
        let transport = Transport::new(&guard, resolver, &ca_certs, options);
        let transport = transport.map_err(|failure| Error::SetUpClient {
            message: if let FetchFailure::SetUp(message) = failure {
                message
            } else {
                format!("{failure:?}")
            },
        })?;
        let keyring = options.docker_config.as_deref().map_or_else(
            || Ok(Keyring::default()),
            |path| Keyring::read(path, options.credential_helpers.clone()),
        )?;
        let inner = Inner {
            transport,
            keyring,
            auth: Auth::new(options.token_realms.clone()),
            breakers: Breakers::new(options.breaker),
            mirrors,
            guard,
        };
        Ok(Self { inner: Arc::new(inner), asker: PullIdentity::default() })
    }

    /// The same registries, asked for a pod: its credentials are tried before the platform's own, in the order of the
    /// kubelet (`kubernetes:pkg/credentialprovider/secrets/secrets.go`, `MakeDockerKeyring`).
    #[must_use]
    pub fn asked_by(&self, asker: &PullIdentity) -> Self {
        Self { inner: self.inner.clone(), asker: asker.clone() }
    }

    /// The rules about which registries may be asked.
    pub fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// Whether one of the registries that would be asked for the image does not answer this pod.
    pub(crate) fn is_suspect(&self, reference: &Reference, asker: &PullIdentity) -> bool {
        self.inner.sites(reference).iter().any(|site| self.inner.breakers.is_suspect(&asker.scope(site)))
    }

    /// Asks the mirrors in order and the registry itself last. A mirror's answer counts only when it has the content.
    async fn fetch(
        &self,
        reference: &Reference,
        requested: &Requested<'_>,
        limit: u64,
    ) -> Result<Bytes, FetchFailure> {
        for site in self.inner.sites(reference) {
            match self.fetch_from(&site, requested, limit).await {
                Err(failure) if site.stands_for.is_some() => {
                    tracing::debug!(mirror = %site.registry, image = %reference, ?failure, "a mirror did not serve the content");
                }
                outcome => return outcome,
            }
        }
        Err(FetchFailure::Other("no registry was asked".into()))
    }

    /// Asks one registry; asks again when a second try may help.
    async fn fetch_from(
        &self,
        site: &Site,
        requested: &Requested<'_>,
        limit: u64,
    ) -> Result<Bytes, FetchFailure> {
        let first = self.fetch_once(site, requested, limit).await;
        let Err(FetchFailure::Passing(_)) = first else { return first };
        tokio::time::sleep(RETRY_PAUSE).await;
        self.fetch_once(site, requested, limit).await
    }

    async fn fetch_once(
        &self,
        site: &Site,
        requested: &Requested<'_>,
        limit: u64,
    ) -> Result<Bytes, FetchFailure> {
        let permit = self.inner.breakers.enter(&self.asker.scope(site));
        let permit =
            permit.map_err(|closed| FetchFailure::Other(message::breaker_open(&site.registry, closed)))?;
        let mut request =
            AuthenticatedRequest { inner: &self.inner, site, permit, auth: AuthContext::default() };
        let response = request.ask(site.url(requested)?, requested.accept(), self.asker.logins()).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = transport::read_some(response, ERROR_BODY).await;
            let answer = Answer {
                registry: &site.registry,
                status: status.as_u16(),
                body: &body,
                auth: &request.auth,
            };
            return Err(message::explain(&answer));
        }
        // A manifest is short and the registry serves it itself, so the registry has answered only when the manifest is
        // here. A blob may be long, and may come from another host.
        if matches!(requested, Requested::Manifest { .. }) {
            request.permit.asks();
        }
        // A blob may be large. Hashed at once when it is here, it would hold up all that its thread has to do.
        let mut hasher = requested.digest().map(|digest| Hasher::new(digest.algorithm()));
        let read = transport::read(response, limit, hasher.as_mut()).await;
        if !matches!(read, Err(BodyFailure::Network(_))) {
            request.permit.answered();
        }
        let bytes = read.map_err(|failure| match failure {
            BodyFailure::TooLarge => FetchFailure::TooLarge,
            BodyFailure::Network(error) => message::network(&error, &site.registry).into(),
        })?;
        if let Some((digest, hasher)) = requested.digest().zip(hasher) {
            digest.verify_digest(&hasher.digest()).map_err(|wrong| FetchFailure::Other(wrong.0))?;
        }
        Ok(bytes)
    }
}

impl Source for Registry {
    type Error = Error;

    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        self.guard().check_name(reference)?;
        let image = || reference.to_string();
        let (tag, digest) = (reference.tag.as_deref(), reference.digest.as_ref());
        let fetched = self.fetch(reference, &Requested::Manifest { tag, digest }, limit).await;
        let bytes = fetched.map_err(|failure| match failure {
            FetchFailure::Missing => Error::FindImage { image: image(), message: missing(reference) },
            FetchFailure::Refused(refusal) => refusal.of(reference),
            FetchFailure::TooLarge => {
                image::Error::TooLarge { image: image(), what: "the manifest".into(), limit, setting: "" }
                    .into()
            }
            FetchFailure::Denied(message) => Error::AuthorizeFetch { image: image(), message },
            FetchFailure::SetUp(message) | FetchFailure::Passing(message) | FetchFailure::Other(message) => {
                Error::FetchManifest { image: image(), message }
            }
        })?;
        let digest = digest.cloned().unwrap_or_else(|| Digest::of(&bytes));
        Ok(FetchedManifest { bytes, digest })
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        let size = descriptor.within(reference, limit)?;
        self.guard().check_name(reference)?;
        let fetched = self.fetch(reference, &Requested::Blob { digest: &descriptor.digest }, size).await;
        fetched.map_err(|failure| match failure {
            FetchFailure::Missing => {
                blob_error(reference, descriptor, format!("`{}` does not have it", reference.registry))
            }
            FetchFailure::Refused(refusal) => refusal.of(reference),
            FetchFailure::TooLarge => descriptor.exceeded(reference).into(),
            FetchFailure::SetUp(message)
            | FetchFailure::Passing(message)
            | FetchFailure::Denied(message)
            | FetchFailure::Other(message) => blob_error(reference, descriptor, message),
        })
    }
}

fn missing(reference: &Reference) -> String {
    let what = match (&reference.digest, &reference.tag) {
        (Some(_), _) => "the digest".to_string(),
        (None, Some(tag)) => format!("the tag `{tag}`"),
        (None, None) => "the image".to_string(),
    };
    format!("`{}` has no such image; see whether the repository and {what} are right", reference.registry)
}

fn blob_error(reference: &Reference, descriptor: &Descriptor, message: String) -> Error {
    let digest = descriptor.digest.to_string();
    Error::FetchBlob { image: reference.to_string(), digest, message }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::guard::GuardOptions;

    fn options() -> RegistryOptions {
        let second = Duration::from_secs(1);
        RegistryOptions { connect_timeout: second, read_timeout: second, ..RegistryOptions::default() }
    }

    fn guard() -> Guard {
        Guard::new(&GuardOptions::default()).unwrap()
    }

    #[test]
    fn a_client_sets_up_tls_itself() {
        Registry::new(guard(), &options()).unwrap();
    }

    #[test]
    fn an_invalid_ca_is_refused_with_its_file_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "not a certificate").unwrap();
        for ca_files in [vec![file.clone()], vec![folder.path().join("absent.pem")]] {
            let shown = ca_files[0].display().to_string();
            let error = Registry::new(guard(), &RegistryOptions { ca_files, ..options() }).unwrap_err();
            assert!(error.to_string().contains(&shown), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_address_is_never_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let image = format!("127.0.0.1:{}/a:1", listener.local_addr().unwrap().port());
        let registry = Registry::new(guard(), &options()).unwrap();
        let error = registry.manifest(&Reference::parse(&image).unwrap(), 1 << 20).await.unwrap_err();
        assert!(matches!(error, Error::RefuseRegistry { .. }), "{error}");
        let accepted = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(accepted.is_err(), "a connection was opened");
    }

    #[test]
    fn mirrors_are_asked_before_the_registry_itself() {
        let entries = vec!["mirror.corp:5000".to_string(), "harbor.corp/hub-proxy/".into()];
        let options =
            RegistryOptions { mirrors: BTreeMap::from([("docker.io".into(), entries)]), ..options() };
        let guard = GuardOptions { insecure: vec!["mirror.corp:5000".into()], ..GuardOptions::default() };
        let registry = Registry::new(Guard::new(&guard).unwrap(), &options).unwrap();
        let urls = |image: &str| -> Vec<String> {
            let reference = Reference::parse(image).unwrap();
            let requested = Requested::Manifest { tag: reference.tag.as_deref(), digest: None };
            let sites = registry.inner.sites(&reference);
            sites.iter().map(|site| site.url(&requested).unwrap().to_string()).collect()
        };
        assert_eq!(
            urls("nginx:1"),
            [
                "http://mirror.corp:5000/v2/library/nginx/manifests/1?ns=docker.io",
                "https://harbor.corp/v2/hub-proxy/library/nginx/manifests/1?ns=docker.io",
                "https://registry-1.docker.io/v2/library/nginx/manifests/1",
            ]
        );
        assert_eq!(urls("ghcr.io/a:1"), ["https://ghcr.io/v2/a/manifests/1"]);
    }

    #[test]
    fn an_invalid_mirror_is_refused() {
        for entry in ["https://mirror.corp", "", "mirror", "a b", "mirror.corp/A"] {
            let mirrors = BTreeMap::from([("docker.io".to_string(), vec![entry.to_string()])]);
            let error = Registry::new(guard(), &RegistryOptions { mirrors, ..options() }).unwrap_err();
            assert!(error.to_string().contains(&format!("`{entry}`")), "{error}");
        }
    }
}
