//! Resolves names, and applies the rules about addresses at the moment when a connection is opened.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::registry::guard::{AllowedAddresses, Guard};

/// Resolves names. A trait, so that tests can act as a hostile name server.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// All addresses of a host, in the order of preference.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolver for System {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_string();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The resolver of the HTTP client. The client connects to the addresses that it returns, so there is no time between
/// the check and the use.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) guard: Arc<Guard>,
    pub(super) reach: AllowedAddresses,
    pub(super) timeout: Duration,
    /// Host of the proxy, which the platform configured and which may have any address.
    pub(super) proxy: Option<String>,
}

/// A name that has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name `{host}` {message}")]
pub(super) struct Unresolved {
    host: String,
    message: String,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_string();
        let this = self.clone();
        Box::pin(async move {
            let unresolved = |message: String| Unresolved { host: host.clone(), message };
            let resolved = tokio::time::timeout(this.timeout, this.resolver.resolve(&host)).await;
            let addresses = resolved
                .map_err(|_| unresolved(format!("was not resolved within {:?}", this.timeout)))?
                .map_err(|error| unresolved(format!("does not resolve: {error}")))?;
            if addresses.is_empty() {
                return Err(unresolved("has no address".into()).into());
            }
            let is_proxy = this.proxy.as_deref().is_some_and(|proxy| proxy.eq_ignore_ascii_case(&host));
            let reach = if is_proxy { AllowedAddresses::Anywhere } else { this.reach };
            let permitted = this.guard.permitted(&host, reach, &addresses)?;
            // The client fills in the URL's port.
            let addresses = permitted.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
