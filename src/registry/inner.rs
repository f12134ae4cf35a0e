//! What all requests to registries share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::auth::Auth;
use super::breaker::Breakers;
use super::guard::Guard;
use super::keyring::Keyring;
use super::site::{self, Mirror, Site};
use super::transport::Transport;
use crate::image::reference::Reference;

/// The clients, and what they know of registries and their credentials.
pub(super) struct Inner {
    pub guard: Arc<Guard>,
    pub transport: Transport,
    pub keyring: Keyring,
    pub auth: Auth,
    pub breakers: Arc<Breakers>,
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
}

impl Inner {
    /// The registries that are asked for an image, in order.
    pub fn sites(&self, reference: &Reference) -> Vec<Site> {
        site::sites(&self.guard, &self.mirrors, reference)
    }
}
