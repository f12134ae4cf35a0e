//! Registries as the options of look-ups have them reached.

use super::{Error, LookupOptions};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::registry::guard::Guard;
use crate::registry::{self, Artifact, Registry, RegistryOptions};

/// A place in a registry.
pub fn reference(image: &str) -> Result<Reference, Error> {
    Ok(Reference::parse(image).map_err(registry::Error::from)?)
}

/// The registries as these options have them reached. Reads the CAs and the docker config; sends no request yet.
pub fn registry(options: &LookupOptions) -> Result<Registry, Error> {
    Ok(Registry::new(Guard::new(&options.registries)?, &reached(options))?)
}

/// Pushes an artifact to a registry that is reached so. Returns the digest of its manifest.
pub async fn push(
    options: &LookupOptions,
    reference: &Reference,
    artifact: Artifact,
) -> Result<Digest, Error> {
    Ok(registry::push(&Guard::new(&options.registries)?, &reached(options), reference, artifact).await?)
}

fn reached(options: &LookupOptions) -> RegistryOptions {
    let LookupOptions { ca_files, docker_config, credential_helpers, mirrors, token_realms, .. } =
        options.clone();
    RegistryOptions {
        ca_files,
        docker_config,
        credential_helpers,
        connect_timeout: options.connect_timeout,
        read_timeout: options.read_timeout,
        breaker: options.breaker,
        mirrors,
        token_realms,
        proxy: options.proxy.clone(),
    }
}
