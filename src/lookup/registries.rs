//! Registries as the options of look-ups have them reached.

use super::{Error, LookupOptions};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::registry::guard::Guard;
use crate::registry::layout::Layouts;
use crate::registry::{self, Artifact, Registry, RegistryOptions};

/// The registries as these options have them reached. Reads the CAs and the docker config; sends no request yet.
pub fn registry(options: &LookupOptions) -> Result<Registry, Error> {
    Ok(Registry::new(Guard::new(&options.registries)?, &reached(options))?)
}

/// The folders that stand in for registries.
pub fn layouts(options: &LookupOptions) -> Layouts {
    Layouts::new(&options.layouts)
}

/// Registries that would be asked by plain HTTP, and are not asked at all: `registries.insecure` alone allows nothing. None for
/// options with which no registry can be asked.
pub fn idle_insecure(options: &LookupOptions) -> Vec<String> {
    let Ok(guard) = Guard::new(&options.registries) else { return Vec::new() };
    // The platform names these, so they need not be allowed.
    let mirrors = options.mirrors.values().flatten().filter_map(|mirror| mirror.split('/').next());
    let named: Vec<&str> =
        mirrors.chain(options.token_realms.values().flatten().map(String::as_str)).collect();
    let is_named = |registry: &str| named.iter().any(|host| host.eq_ignore_ascii_case(registry));
    guard.uncovered_insecure().filter(|registry| !is_named(registry)).map(String::from).collect()
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
