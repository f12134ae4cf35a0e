//! For whom a registry is asked.

use std::sync::Arc;

use super::Login;
use super::breaker::{Account, Scope};
use super::credentials::fingerprint;
use super::site::Site;

/// For whom a registry is asked: the pods of one namespace, with the logins of their pull secrets. The default is the
/// platform itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PullIdentity {
    namespace: Arc<str>,
    logins: Arc<[Login]>,
    credentials: Arc<str>,
}

impl Default for PullIdentity {
    fn default() -> Self {
        Self::new("", Vec::new())
    }
}

impl PullIdentity {
    /// The pods of a namespace, with the logins that cover the image.
    pub fn new(namespace: &str, logins: Vec<Login>) -> Self {
        let credentials = if logins.is_empty() { String::new() } else { fingerprint(&logins) };
        Self { namespace: namespace.into(), logins: logins.into(), credentials: credentials.into() }
    }

    /// Empty for the platform itself.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// A fingerprint that tells sets of logins apart without revealing them; empty without logins.
    pub fn credentials(&self) -> &str {
        &self.credentials
    }

    pub(super) fn logins(&self) -> &[Login] {
        &self.logins
    }

    pub(super) fn scope(&self, site: &Site) -> Scope {
        let account = Account {
            registry: site.registry.clone(),
            namespace: Arc::clone(&self.namespace),
            credentials: Arc::clone(&self.credentials),
        };
        Scope { account, repository: site.repository.clone() }
    }
}
