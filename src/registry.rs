//! Images from registries that speak the distribution API (OCI distribution-spec).
//!
//! A cold look-up is as few requests as there are things to read: nobody is asked `GET /v2/` first, how a registry
//! wants to be asked is learnt from its first refusal and remembered, and tokens are kept while they live.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Response, StatusCode, Url};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use crate::image::source::{Descriptor, FetchedManifest, Source, sha256, shorten, split_digest, verify};
use crate::image::{Error, reference::Reference};
use auth::{Auth, TokenKey};
use breaker::{Breakers, Permit};
use challenge::Challenge;
use credentials::{DOCKER_HUB, Keyring};
use guard::Guard;
use message::{Answer, Shown, Trouble};
use resolver::{Resolver, System};
use transport::{Ask, BodyFailure, Failure, Transport};

mod auth;
mod breaker;
mod challenge;
pub mod credentials;
pub mod guard;
mod helper;
pub mod layout;
mod message;
pub mod resolver;
mod secret;
mod transport;

pub use breaker::BreakerOptions;
pub use credentials::{Credentials, Login, NoPullSecrets, PullSecrets, Pulled, Puller};
pub use secret::SecretText;

/// Manifests and indexes, in OCI's media types and in Docker's.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Host that serves Docker Hub's API (`containerd:core/remotes/docker/registry.go`, `DefaultHost`).
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// How much of an error's body is read, in bytes.
const ERROR_BODY: usize = 8 << 10;

/// Wait before the second try of a request that failed in a way that may pass.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Credentials that are tried for one request. The kubelet tries all; a pod may name any number of Secrets.
const MOST_CREDENTIALS: usize = 4;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// PEM files with CAs that are trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// A docker `config.json`. Read once.
    pub docker_config: Option<PathBuf>,
    /// Folder of the credential helpers that the docker config names; `PATH` when there is none.
    pub credential_helpers: Option<PathBuf>,
    /// Bound on resolving a name, and on opening a connection, each.
    pub connect_timeout: Duration,
    /// Bound on every wait for more bytes.
    pub read_timeout: Duration,
    /// When a registry that does not answer is left alone.
    pub breaker: BreakerOptions,
    /// Mirrors by registry: `host[:port][/path]`, tried in order before the registry itself.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts of token services, by registry, that are given the registry's credentials.
    pub token_realms: BTreeMap<String, Vec<String>>,
    /// The proxy that requests go through.
    pub proxy: Option<ProxyOptions>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            ca_files: Vec::new(),
            docker_config: None,
            credential_helpers: None,
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(5),
            breaker: BreakerOptions::default(),
            mirrors: BTreeMap::new(),
            token_realms: BTreeMap::new(),
            proxy: None,
        }
    }
}

/// A proxy. It resolves names in the gate's place, so addresses are then for it to judge; the lists of registries, and
/// the rules about hosts that are written as addresses, are still applied here. `HTTPS_PROXY` and its kin are not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyOptions {
    /// Where it is, such as `http://proxy.corp:3128`.
    pub url: String,
    /// Hosts, domains and networks that are asked directly, as in `NO_PROXY`. Default: none.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Registries, as a source of images. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    /// Credentials of whoever the image is looked at for; tried before the platform's own.
    pulled_with: Arc<[Login]>,
}

struct Inner {
    guard: Arc<Guard>,
    transport: Transport,
    keyring: Keyring,
    auth: Auth,
    breakers: Arc<Breakers>,
    mirrors: BTreeMap<String, Vec<Mirror>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("guard", &self.inner.guard).finish_non_exhaustive()
    }
}

impl Registry {
    /// Sets up clients; reads the CAs and the docker config.
    pub fn new(guard: Guard, options: &RegistryOptions) -> Result<Self, Error> {
        let system: Arc<dyn Resolver> = Arc::new(System);
        Self::with_resolver(guard, options, &system)
    }

    /// The same, with names resolved by somebody else than the operating system.
    pub fn with_resolver(
        guard: Guard,
        options: &RegistryOptions,
        resolver: &Arc<dyn Resolver>,
    ) -> Result<Self, Error> {
        // The client takes the process's provider. Whoever installs one first wins, and either is ring.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mirrors = mirrors(&options.mirrors)?;
        let realms = options.token_realms.values().flatten().map(String::as_str);
        let guard =
            guard.with_named(mirrors.values().flatten().map(|mirror| mirror.host.as_str()).chain(realms));
        let guard = Arc::new(guard);
        let ca_certs = ca_certs(&options.ca_files)?;
        let transport = Transport::new(&guard, resolver, &ca_certs, options);
        let transport = transport.map_err(|trouble| Error::SetUpClient {
            message: if let Trouble::SetUp(message) = trouble { message } else { format!("{trouble:?}") },
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
        Ok(Self { inner: Arc::new(inner), pulled_with: Arc::default() })
    }

    /// The same registries, asked with somebody's credentials before the platform's own, as the kubelet does it
    /// (`kubernetes:pkg/credentialprovider/secrets/secrets.go`, `MakeDockerKeyring`).
    #[must_use]
    pub fn pulled_with(&self, logins: Vec<Login>) -> Self {
        Self { inner: self.inner.clone(), pulled_with: logins.into() }
    }

    /// The rules about which registries may be asked.
    pub fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// Whether a registry that would be asked for an image left its last request unanswered, or leaves one unanswered for
    /// long already.
    pub(crate) fn is_suspect(&self, reference: &Reference) -> bool {
        self.inner.sites(reference).iter().any(|site| self.inner.breakers.is_suspect(&site.registry))
    }

    /// Asks the mirrors in order, and at last the registry itself; what a mirror says is believed only when it has
    /// what is asked for.
    async fn fetch(&self, reference: &Reference, thing: &Thing<'_>, limit: u64) -> Result<Bytes, Trouble> {
        for site in self.inner.sites(reference) {
            match self.fetch_from(&site, thing, limit).await {
                Err(trouble) if site.stands_for.is_some() => {
                    tracing::debug!(mirror = %site.registry, image = %reference, ?trouble, "A mirror did not help");
                }
                outcome => return outcome,
            }
        }
        Err(Trouble::Other("no registry was asked".into()))
    }

    /// Asks one registry, twice where that may help.
    async fn fetch_from(&self, site: &Site, thing: &Thing<'_>, limit: u64) -> Result<Bytes, Trouble> {
        let first = self.fetch_once(site, thing, limit).await;
        let Err(Trouble::Passing(_)) = first else { return first };
        tokio::time::sleep(RETRY_PAUSE).await;
        self.fetch_once(site, thing, limit).await
    }

    async fn fetch_once(&self, site: &Site, thing: &Thing<'_>, limit: u64) -> Result<Bytes, Trouble> {
        let permit = self.inner.breakers.enter(&site.registry);
        let permit =
            permit.map_err(|closed| Trouble::Other(message::breaker_open(&site.registry, closed)))?;
        let mut asking = Asking { inner: &self.inner, site, permit, shown: Shown::default() };
        let response = asking.ask(site.url(thing)?, thing.accept(), &self.pulled_with).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = transport::read_some(response, ERROR_BODY).await;
            let answer = Answer {
                registry: &site.registry,
                status: status.as_u16(),
                body: &body,
                shown: &asking.shown,
            };
            return Err(message::explain(&answer));
        }
        // A manifest is short and comes from the registry itself: until it is here, the registry has not answered. A blob
        // may be long, and come from elsewhere.
        if matches!(thing, Thing::Manifest { .. }) {
            asking.permit.asks();
        }
        let read = transport::read(response, limit).await;
        if !matches!(read, Err(BodyFailure::Network(_))) {
            asking.permit.answered();
        }
        let bytes = read.map_err(|failure| match failure {
            BodyFailure::TooLarge => Trouble::TooLarge,
            BodyFailure::Network(error) => message::network(&error, &site.registry).into(),
        })?;
        thing.digest().map_or(Ok(()), |digest| verify(digest, &bytes)).map_err(Trouble::Other)?;
        Ok(bytes)
    }
}

/// One request to one registry, with what it takes to be let in.
struct Asking<'a> {
    inner: &'a Inner,
    site: &'a Site,
    permit: Permit,
    shown: Shown,
}

impl Asking<'_> {
    /// Asks the way that the registry wanted the last time, else without credentials; then with whatever it wants.
    async fn ask(
        &mut self,
        url: Url,
        accept: Option<&'static str>,
        first: &[Login],
    ) -> Result<Response, Trouble> {
        let ask = Ask { accept, ..Ask::get(url) };
        let known = self.inner.auth.challenge(&self.site.registry).await;
        let (mut challenge, mut last) = if let Some(challenge) = known {
            (challenge, None)
        } else {
            let response = self.send(&ask).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let Some(challenge) = challenge::read(response.headers()) else { return Ok(response) };
            (challenge, Some(response))
        };
        for credentials in self.candidates(first).await {
            // A token that was kept may have been revoked, and a service may have moved: then once more.
            for _ in 0..2 {
                let key = self.token_key(&challenge, credentials.as_ref());
                let Some((header, kept)) = self.authorization(&key, credentials.as_ref()).await? else {
                    break;
                };
                let response = self.send(&Ask { authorization: Some(header), ..ask.clone() }).await?;
                if !is_refusal(response.status()) {
                    self.inner.auth.remember(&self.site.registry, &challenge).await;
                    return Ok(response);
                }
                self.inner.auth.forget(&key).await;
                let moved = challenge::read(response.headers()).filter(|other| *other != challenge);
                last = Some(response);
                match moved {
                    Some(moved) => challenge = moved,
                    None if kept => {}
                    None => break,
                }
            }
        }
        match last {
            Some(response) => Ok(response),
            None => self.send(&ask).await,
        }
    }

    /// What is tried, in order: the credentials of whoever the image is looked at for, the platform's, and without
    /// any only where there are none.
    async fn candidates(&mut self, first: &[Login]) -> Vec<Option<Credentials>> {
        let Site { registry, repository, .. } = self.site;
        let covering = first.iter().filter(|login| login.covers(registry, repository));
        let mut found: Vec<_> = covering.map(|login| Some(login.credentials.clone())).collect();
        found.extend(self.inner.keyring.candidates(registry, repository).await.into_iter().map(Some));
        found.truncate(MOST_CREDENTIALS);
        self.shown.credentials = !found.is_empty();
        if found.is_empty() { vec![None] } else { found }
    }

    fn token_key(&self, challenge: &Challenge, credentials: Option<&Credentials>) -> TokenKey {
        TokenKey {
            registry: self.site.registry.clone(),
            challenge: challenge.clone(),
            repository: self.site.repository.clone(),
            credentials: credentials.map(Credentials::fingerprint),
        }
    }

    /// What to say who asks, and whether it was kept from before; nothing when these credentials do not help.
    async fn authorization(
        &mut self,
        key: &TokenKey,
        credentials: Option<&Credentials>,
    ) -> Result<Option<(HeaderValue, bool)>, Trouble> {
        let Challenge::Bearer { realm, service } = &key.challenge else {
            let Some(Credentials::Password { user, password }) = credentials else { return Ok(None) };
            return Ok(auth::basic(user, password).map(|header| (header, false)));
        };
        if let Some(header) = self.inner.auth.token(key).await {
            return Ok(Some((header, true)));
        }
        let registry = &self.site.registry;
        let host = shorten(realm.host_str().unwrap_or_default(), 100);
        if auth::is_downgrade(&self.inner.guard, registry, realm) {
            return Err(Trouble::Other(format!(
                "the token service of `{registry}` on `{host}` speaks plain HTTP, which is never asked for a registry \
                 that speaks HTTPS"
            )));
        }
        let trusted = self.inner.auth.trusts(registry, realm);
        if !trusted && credentials.is_some() {
            self.shown.withheld_from = Some(host);
        }
        let credentials = credentials.filter(|_| trusted);
        let token = self.token(realm, service.as_deref(), credentials).await?;
        let Some((header, lives)) = token else { return Ok(None) };
        self.inner.auth.keep(key.clone(), &header, lives).await;
        Ok(Some((header, false)))
    }

    /// A token from a service; nothing when it refuses.
    async fn token(
        &mut self,
        realm: &Url,
        service: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Option<(HeaderValue, Duration)>, Trouble> {
        let (url, form) = auth::request(realm, service, &self.site.repository, credentials);
        let authorization = match credentials {
            Some(Credentials::Password { user, password }) => auth::basic(user, password),
            _ => None,
        };
        let name = format!("the token service of {}", self.site.registry);
        let sent = self.inner.transport.send(&Ask { url, accept: None, authorization, form }).await;
        let response = sent.map_err(|failure| match failure {
            Failure::Refused(refusal) => Trouble::Other(format!("{name}: {refusal}")),
            failure => trouble(failure, &name),
        })?;
        self.heed_wait(&response)?;
        let status = response.status();
        if status != StatusCode::OK {
            if is_refusal(status) || status == StatusCode::BAD_REQUEST {
                return Ok(None);
            }
            // Its body is not repeated: it may hold what it was sent.
            let words = format!("{name} answered with status {}", status.as_u16());
            return Err(if status.is_server_error() {
                Trouble::Passing(words)
            } else {
                Trouble::Other(words)
            });
        }
        let body = transport::read(response, auth::LARGEST_TOKEN).await.map_err(|failure| match failure {
            BodyFailure::TooLarge => Trouble::Other(format!("{name} answered with more than a token")),
            BodyFailure::Network(error) => message::network(&error, &name).into(),
        })?;
        let token = auth::read_token(&body);
        token
            .map(Some)
            .ok_or_else(|| Trouble::Other(format!("{name} answered without a token that can be used")))
    }

    /// Sends a request to the registry, and tells its breaker what became of it.
    async fn send(&mut self, ask: &Ask) -> Result<Response, Trouble> {
        self.permit.asks();
        let sent = self.inner.transport.send(ask).await;
        match &sent {
            Err(Failure::Network { elsewhere: None, .. }) => self.permit.silent(),
            Ok(response) if is_silence(response.status()) => self.permit.silent(),
            _ => self.permit.answered(),
        }
        let response = sent.map_err(|failure| trouble(failure, &self.site.registry))?;
        self.heed_wait(&response)?;
        Ok(response)
    }

    /// Leaves a registry alone that asks for it.
    fn heed_wait(&self, response: &Response) -> Result<(), Trouble> {
        let Some(wait) = transport::retry_after(response) else { return Ok(()) };
        let registry = &self.site.registry;
        self.inner.breakers.pause(registry, wait);
        Err(Trouble::Other(if response.status() == StatusCode::TOO_MANY_REQUESTS {
            message::limited(registry, Some(wait))
        } else {
            message::unavailable(registry, wait)
        }))
    }
}

fn trouble(failure: Failure, name: &str) -> Trouble {
    match failure {
        Failure::Refused(refusal) => Trouble::Refused(refusal),
        Failure::Redirect(what) => Trouble::Other(format!("`{name}`: {what}")),
        Failure::Network { error, elsewhere: Some(host) } => message::network(&error, &host).into(),
        Failure::Network { error, elsewhere: None } => message::network(&error, name).into(),
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// What stands in front of a registry says when there is nobody behind it. A 500 is not among them: one image may
/// provoke it, and must not close the registry for all others.
fn is_silence(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Thing<'a> {
    Manifest { tag: Option<&'a str>, digest: Option<&'a str> },
    Blob { digest: &'a str },
}

impl<'a> Thing<'a> {
    fn digest(&self) -> Option<&'a str> {
        match self {
            Self::Manifest { digest, .. } => *digest,
            Self::Blob { digest } => Some(digest),
        }
    }

    fn accept(&self) -> Option<&'static str> {
        matches!(self, Self::Manifest { .. }).then_some(ACCEPTED)
    }

    fn path(&self) -> String {
        match self {
            Self::Manifest { tag, digest } => format!("manifests/{}", digest.or(*tag).unwrap_or("latest")),
            Self::Blob { digest } => format!("blobs/{digest}"),
        }
    }
}

/// Where an image is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Site {
    /// As credentials and messages name it.
    registry: String,
    repository: String,
    scheme: &'static str,
    /// The registry that it stands in for, when it is a mirror.
    stands_for: Option<String>,
}

impl Site {
    fn url(&self, thing: &Thing<'_>) -> Result<Url, Trouble> {
        let host = if self.registry == DOCKER_HUB { DOCKER_HUB_API } else { &self.registry };
        let text = format!("{}://{host}/v2/{}/{}", self.scheme, self.repository, thing.path());
        let mut url = Url::parse(&text)
            .map_err(|error| Trouble::Other(format!("`{}` makes no URL: {error}", self.registry)))?;
        // So that one mirror can serve several registries (`containerd:docs/hosts.md`).
        if let Some(registry) = &self.stands_for {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }
}

/// `host[:port][/path]` of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    host: String,
    /// Put before the repository; empty or ends in a slash.
    path: String,
}

fn mirrors(options: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, Vec<Mirror>>, Error> {
    let parse = |entry: &String| {
        let (host, path) = entry.split_once('/').unwrap_or((entry, ""));
        let path = path.trim_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("{path}/") };
        // The grammar of image names is the grammar of what can be asked for.
        let probe = Reference::parse(&format!("{host}/{path}a"));
        match probe {
            Ok(probe) if probe.registry == host => Ok(Mirror { host: host.to_string(), path }),
            _ => Err(Error::SetUpClient {
                message: format!(
                    "the mirror `{}` is not understood: write `host`, `host:port` or `host/path`",
                    shorten(entry, 100)
                ),
            }),
        }
    };
    options
        .iter()
        .map(|(registry, entries)| {
            Ok((registry.clone(), entries.iter().map(parse).collect::<Result<_, _>>()?))
        })
        .collect()
}

impl Inner {
    /// Where an image is asked for, in order.
    fn sites(&self, reference: &Reference) -> Vec<Site> {
        let scheme = |registry: &str| if self.guard.is_insecure(registry) { "http" } else { "https" };
        let mirrors = self.mirrors.get(&reference.registry).into_iter().flatten();
        let mut sites: Vec<_> = mirrors
            .map(|mirror| Site {
                registry: mirror.host.clone(),
                repository: format!("{}{}", mirror.path, reference.repository),
                scheme: scheme(&mirror.host),
                stands_for: Some(reference.registry.clone()),
            })
            .collect();
        sites.push(Site {
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
            scheme: scheme(&reference.registry),
            stands_for: None,
        });
        sites
    }
}

impl Source for Registry {
    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        self.guard().check_name(reference)?;
        let image = || reference.to_string();
        let (tag, digest) = (reference.tag.as_deref(), reference.digest.as_deref());
        if let Some(digest) = digest {
            split_digest(digest).map_err(|message| Error::FetchManifest { image: image(), message })?;
        }
        let fetched = self.fetch(reference, &Thing::Manifest { tag, digest }, limit).await;
        let bytes = fetched.map_err(|trouble| match trouble {
            Trouble::Missing => Error::FindImage { image: image(), message: missing(reference) },
            Trouble::Refused(refusal) => refusal.of(reference),
            Trouble::TooLarge => Error::TooLarge { image: image(), what: "the manifest".into(), limit },
            Trouble::SetUp(message) | Trouble::Passing(message) | Trouble::Other(message) => {
                Error::FetchManifest { image: image(), message }
            }
        })?;
        let digest = digest.map_or_else(|| sha256(&bytes), String::from);
        Ok(FetchedManifest { bytes, digest })
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        // The digest comes out of a foreign manifest and goes into a URL.
        split_digest(&descriptor.digest).map_err(|message| blob_error(reference, descriptor, message))?;
        let too_large = || Error::TooLarge {
            image: reference.to_string(),
            what: format!("blob {}", descriptor.digest),
            limit,
        };
        if descriptor.size > limit {
            return Err(too_large());
        }
        self.guard().check_name(reference)?;
        let fetched = self.fetch(reference, &Thing::Blob { digest: &descriptor.digest }, limit).await;
        fetched.map_err(|trouble| match trouble {
            Trouble::Missing => {
                blob_error(reference, descriptor, format!("`{}` does not have it", reference.registry))
            }
            Trouble::Refused(refusal) => refusal.of(reference),
            Trouble::TooLarge => too_large(),
            Trouble::SetUp(message) | Trouble::Passing(message) | Trouble::Other(message) => {
                blob_error(reference, descriptor, message)
            }
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
    let digest = shorten(&descriptor.digest, 160);
    Error::FetchBlob { image: reference.to_string(), digest, message }
}

fn ca_certs(files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    let each = files.iter().map(|file| ca(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(each.into_iter().flatten().collect())
}

fn ca(file: &Path) -> Result<Vec<Certificate>, Error> {
    let failed = |message: String| Error::SetUpClient { message: format!("`{}`: {message}", file.display()) };
    let data = std::fs::read(file).map_err(|error| failed(format!("could not read the CA: {error}")))?;
    let found = CertificateDer::pem_slice_iter(&data).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| failed(format!("it is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(failed("it holds no `BEGIN CERTIFICATE`; give the CA's certificate in PEM".into()));
    }
    let certificate = |der: &CertificateDer<'_>| Certificate::from_der(der);
    found.iter().map(certificate).collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
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
    fn a_client_needs_nobody_to_have_set_up_tls_before_it() {
        Registry::new(guard(), &options()).unwrap();
    }

    #[test]
    fn a_ca_that_is_none_is_refused_with_the_file_named() {
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

    #[tokio::test]
    async fn a_digest_that_would_lead_elsewhere_is_refused_before_it_is_asked_for() {
        let registry = Registry::new(guard(), &options()).unwrap();
        let reference = Reference::parse("ghcr.io/a:1").unwrap();
        let descriptor =
            Descriptor { media_type: String::new(), digest: "sha256:../../../v2/".into(), size: 1 };
        let error = registry.blob(&reference, &descriptor, 10).await.unwrap_err();
        assert!(error.to_string().contains("is no digest"), "{error}");
    }

    #[test]
    fn an_image_is_asked_for_where_its_mirrors_are_and_then_at_home() {
        let entries = vec!["mirror.corp:5000".to_string(), "harbor.corp/hub-proxy/".into()];
        let options =
            RegistryOptions { mirrors: BTreeMap::from([("docker.io".into(), entries)]), ..options() };
        let guard = GuardOptions { insecure: vec!["mirror.corp:5000".into()], ..GuardOptions::default() };
        let registry = Registry::new(Guard::new(&guard).unwrap(), &options).unwrap();
        let urls = |image: &str| -> Vec<String> {
            let reference = Reference::parse(image).unwrap();
            let thing = Thing::Manifest { tag: reference.tag.as_deref(), digest: None };
            let sites = registry.inner.sites(&reference);
            sites.iter().map(|site| site.url(&thing).unwrap().to_string()).collect()
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
    fn a_mirror_that_cannot_be_asked_is_refused() {
        for entry in ["https://mirror.corp", "", "mirror", "a b", "mirror.corp/A"] {
            let mirrors = BTreeMap::from([("docker.io".to_string(), vec![entry.to_string()])]);
            let error = Registry::new(guard(), &RegistryOptions { mirrors, ..options() }).unwrap_err();
            assert!(error.to_string().contains(&format!("`{entry}`")), "{error}");
        }
    }
}
