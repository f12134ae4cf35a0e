//! Pushes what a person made to a registry, with the same lists, CAs and credentials with which images are asked for. The
//! requests are oci-client's: a person pushes to a registry of their own, so the guards against foreign redirects and addresses,
//! for which the gate has a fetcher of its own, are not needed.

use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use reqwest::header::HeaderValue;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::credentials::Credentials;
use super::keyring::Keyring;
use super::{Error, Guard, RegistryOptions, ca_files, install_tls_provider};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::text;

/// Config of an artifact that has none.
const NO_CONFIG: &[u8] = b"{}";
/// Its type, as opa pushes it (`open-policy-agent/opa:v1/download/oci_download.go`).
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Type of the manifest (`opencontainers/image-spec:manifest.md`).
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is pushed: one file.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its bytes.
    pub layer: Vec<u8>,
    /// Type of the layer that it becomes.
    pub media_type: &'static str,
    /// Name of the file, under which oras and others write it.
    pub title: String,
}

/// Pushes an artifact under a tag. Returns the digest of its manifest, which is the same for the same artifact.
pub async fn push(
    guard: &Guard,
    options: &RegistryOptions,
    reference: &Reference,
    artifact: Artifact,
) -> Result<Digest, Error> {
    guard.check_name(reference)?;
    let failed = |message: String| Error::PushArtifact { image: reference.to_string(), message };
    if reference.digest.is_some() {
        return Err(failed("a digest follows from what is pushed; name a tag".into()));
    }
    let target = oci_client::Reference::try_from(reference.to_string()).map_err(|e| failed(e.to_string()))?;
    let client = client(guard, options, reference)?;
    client.store_auth_if_needed(target.resolve_registry(), &credentials(options, reference).await?).await;
    let manifest = manifest(&artifact).to_string().into_bytes();
    for blob in [NO_CONFIG.to_vec(), artifact.layer] {
        let digest = Digest::of(&blob).to_string();
        client.push_blob(&target, blob, &digest).await.map_err(|error| failed(text::chain(&error)))?;
    }
    let digest = Digest::of(&manifest);
    let content_type = HeaderValue::from_static(MANIFEST_TYPE);
    let pushed = client.push_manifest_raw(&target, manifest, content_type).await;
    pushed.map(|_| digest).map_err(|error| failed(text::chain(&error)))
}

fn manifest(artifact: &Artifact) -> serde_json::Value {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() });
    let mut layer = descriptor(artifact.media_type, &artifact.layer);
    if let Some(fields) = layer.as_object_mut() {
        fields.insert("annotations".into(), json!({ "org.opencontainers.image.title": artifact.title }));
    }
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, NO_CONFIG),
        "layers": [layer],
    })
}

fn client(guard: &Guard, options: &RegistryOptions, reference: &Reference) -> Result<Client, Error> {
    install_tls_provider();
    let mut extra_root_certificates = Vec::new();
    for file in &options.ca_files {
        let found = ca_files::ders(file)?.into_iter();
        let certificate =
            |der: CertificateDer<'_>| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() };
        extra_root_certificates.extend(found.map(certificate));
    }
    let proxy = options.proxy.as_ref();
    let config = ClientConfig {
        protocol: if guard.is_insecure(&reference.registry) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        extra_root_certificates,
        connect_timeout: Some(options.connect_timeout),
        https_proxy: proxy.map(|proxy| proxy.url.clone()),
        http_proxy: proxy.map(|proxy| proxy.url.clone()),
        no_proxy: proxy.map(|proxy| proxy.except.join(",")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| Error::SetUpClient { message: text::chain(&error) })
}

/// The first credentials that the docker config has for the repository.
async fn credentials(options: &RegistryOptions, reference: &Reference) -> Result<RegistryAuth, Error> {
    let Some(path) = &options.docker_config else { return Ok(RegistryAuth::Anonymous) };
    let keyring = Keyring::read(path, options.credential_helpers.clone())?;
    let found = keyring.candidates(&reference.registry, &reference.repository).await;
    let password = found.into_iter().find_map(|credentials| match credentials {
        Credentials::Password { user, password } => {
            Some(RegistryAuth::Basic(user, password.expose().to_string()))
        }
        // oci-client exchanges none of these.
        Credentials::IdentityToken(_) => None,
    });
    Ok(password.unwrap_or(RegistryAuth::Anonymous))
}
