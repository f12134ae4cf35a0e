//! What a bundle is loaded with, what is known of earlier ones, and where it comes into force.

use std::sync::Arc;

use super::{BundleStore, InForce};
use crate::policy::{Engine, Limits, Loaded, Trust};

/// What a bundle is loaded with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The engine of the set that it becomes part of.
    pub engine: Engine,
    /// The limits of that set.
    pub limits: Limits,
    /// Whose bundles are taken.
    pub trust: Arc<Trust>,
    /// What is known of earlier bundles.
    pub memory: Memory,
}

/// What is known of the bundles that were in force. A command that asks once knows nothing.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Where the last good bundles are kept.
    pub kept: Option<BundleStore>,
    /// What was in force before, in this process.
    pub in_force: InForce,
}

/// Where a bundle comes into force. The errors say why it does not.
pub trait Swap {
    /// Whether the bundle can be put in the place of the one before it. Nothing changes.
    fn fits(&self, loaded: &Loaded) -> Result<(), String>;

    /// Puts it there, and calls `done` before another one can take its place.
    fn swap(&self, loaded: &Loaded, done: impl FnOnce()) -> Result<(), String>;
}
