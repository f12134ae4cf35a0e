//! Images from registries that speak the distribution API (OCI distribution-spec), through `oci-client`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use oci_client::client::{
    Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol, SizedStream,
};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::guard::Guard;
use super::source::{Descriptor, FetchedManifest, Source, sha256, split_digest, verify};
use super::{Error, reference::Reference};
use credentials::Login;
use message::{Problem, explain, network};

mod credentials;
mod message;

/// Manifests and indexes, in OCI's media types and in Docker's.
const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// First reservation for a blob, whatever size is claimed for it, in bytes.
const FIRST_RESERVATION: u64 = 1 << 20;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// PEM files with authorities that are trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// A docker `config.json`. Read once.
    pub docker_config: Option<PathBuf>,
    /// Bound on resolving a name, and on opening a connection, each.
    pub connect_timeout: Duration,
    /// Bound on every wait for more bytes.
    pub read_timeout: Duration,
}

/// Registries, as a source of images.
///
/// Blobs are read as a stream and dropped at their limit. A manifest is read whole before its size is looked at,
/// because `oci-client` hands it out whole (`oci-client:src/client.rs`, `_pull_manifest_raw`); what bounds it until
/// then is the time of the look-up.
pub struct Registry {
    guard: Guard,
    connect_timeout: Duration,
    anonymous: Client,
    /// A client for each login: a client keeps the first credentials that it is given for a registry.
    logins: Vec<(Login, Client)>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Registry {
    /// Sets up clients; reads the authorities and the docker config.
    pub fn new(guard: Guard, options: &RegistryOptions) -> Result<Self, Error> {
        // The client takes the process's provider. Whoever installs one first wins, and either is ring.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let authorities = authorities(&options.ca_files)?;
        let client = || client(&guard, &authorities, options);
        let logins = options.docker_config.as_deref().map_or(Ok(Vec::new()), credentials::read)?;
        let logins =
            logins.into_iter().map(|login| Ok((login, client()?))).collect::<Result<Vec<_>, Error>>()?;
        let anonymous = client()?;
        Ok(Self { connect_timeout: options.connect_timeout, anonymous, logins, guard })
    }

    /// The rules about which registries may be asked.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    fn client(&self, reference: &Reference) -> (&Client, &RegistryAuth) {
        let login = self.logins.iter().find(|(login, _)| login.covers(reference));
        login.map_or((&self.anonymous, &RegistryAuth::Anonymous), |(login, client)| (client, &login.auth))
    }

    async fn open(&self, reference: &Reference, descriptor: &Descriptor) -> Result<SizedStream, Error> {
        let (client, auth) = self.client(reference);
        client.store_auth_if_needed(named(reference).resolve_registry(), auth).await;
        client.pull_blob_stream(&named(reference), descriptor.digest.as_str()).await.map_err(|error| {
            let message = match self.problem(reference, &error) {
                Problem::Missing => format!("`{}` does not have it", reference.registry),
                Problem::Other(message) => message,
            };
            blob_error(reference, descriptor, message)
        })
    }

    fn problem(&self, reference: &Reference, error: &OciDistributionError) -> Problem {
        let logged_in = !matches!(self.client(reference).1, RegistryAuth::Anonymous);
        explain(error, &reference.registry, logged_in)
    }
}

impl Source for Registry {
    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        self.guard.check(reference, self.connect_timeout).await?;
        let (client, auth) = self.client(reference);
        let image = || reference.to_string();
        let pulled = client.pull_manifest_raw(&named(reference), auth, &ACCEPTED).await;
        let (bytes, _) = pulled.map_err(|error| match self.problem(reference, &error) {
            Problem::Missing => Error::FindImage { image: image(), message: missing(reference) },
            Problem::Other(message) => Error::FetchManifest { image: image(), message },
        })?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { image: image(), what: "the manifest".into(), limit });
        }
        let digest = match &reference.digest {
            Some(digest) => verify(digest, &bytes).map(|()| digest.clone()),
            None => Ok(sha256(&bytes)),
        };
        let digest = digest.map_err(|message| Error::FetchManifest { image: image(), message })?;
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
        self.guard.check(reference, self.connect_timeout).await?;
        let mut stream = self.open(reference, descriptor).await?;
        let claimed = stream.content_length.unwrap_or(descriptor.size);
        if claimed > limit {
            return Err(too_large());
        }
        let mut bytes =
            Vec::with_capacity(usize::try_from(claimed.min(FIRST_RESERVATION)).unwrap_or_default());
        // The stream ends in an error when the bytes do not have the digest that they were asked for by.
        while let Some(chunk) = stream.next().await {
            let chunk = chunk
                .map_err(|error| blob_error(reference, descriptor, network(&error, &reference.registry)))?;
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }
}

/// The reference in the client's own type. Names were checked when the reference was parsed.
fn named(reference: &Reference) -> oci_client::Reference {
    let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => oci_client::Reference::with_digest(registry, repository, digest.clone()),
        (None, tag) => {
            let tag = tag.clone().unwrap_or_else(|| "latest".into());
            oci_client::Reference::with_tag(registry, repository, tag)
        }
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
    let digest = super::source::shorten(&descriptor.digest, 160);
    Error::FetchBlob { image: reference.to_string(), digest, message }
}

fn client(guard: &Guard, authorities: &[Certificate], options: &RegistryOptions) -> Result<Client, Error> {
    let config = ClientConfig {
        protocol: ClientProtocol::HttpsExcept(guard.insecure().to_vec()),
        extra_root_certificates: authorities.to_vec(),
        platform_resolver: None,
        connect_timeout: Some(options.connect_timeout),
        read_timeout: Some(options.read_timeout),
        user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    // Not `Client::new`: that one falls back to a client without these settings.
    Client::try_from(config).map_err(|error| {
        let causes = network(&error, "client");
        Error::SetUpClient { message: format!("{causes}; does this system have CA certificates?") }
    })
}

fn authorities(files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    files.iter().map(|file| authority(file)).collect()
}

fn authority(file: &Path) -> Result<Certificate, Error> {
    let failed = |message: String| Error::SetUpClient { message: format!("`{}`: {message}", file.display()) };
    let data =
        std::fs::read(file).map_err(|error| failed(format!("could not read the authority: {error}")))?;
    let certificates = CertificateDer::pem_slice_iter(&data).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(Certificate { encoding: CertificateEncoding::Pem, data }),
        Ok(_) => {
            Err(failed("it holds no `BEGIN CERTIFICATE`; give the authority's certificate in PEM".into()))
        }
        Err(error) => Err(failed(format!("it is not PEM: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::guard::GuardOptions;

    fn options() -> RegistryOptions {
        RegistryOptions {
            ca_files: Vec::new(),
            docker_config: None,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
        }
    }

    fn guard() -> Guard {
        Guard::new(&GuardOptions::default()).unwrap()
    }

    #[test]
    fn a_client_needs_nobody_to_have_set_up_tls_before_it() {
        Registry::new(guard(), &options()).unwrap();
    }

    #[test]
    fn an_authority_that_is_none_is_refused_with_the_file_named() {
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
}
