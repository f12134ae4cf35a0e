//! A bundle on its way into force.

use std::sync::Arc;

use super::Error;
use super::in_force::Last;
use super::kept::{Order, Record};
use crate::policy::{Bundle, Contents, Loaded};

/// What is to be kept of a bundle in force.
#[derive(Debug)]
pub(super) struct Unkept {
    pub last: Arc<Last>,
    pub order: Order,
}

/// A bundle that is ready, and what is to be kept of it.
#[derive(Debug)]
pub(super) struct Ready {
    pub loaded: Loaded,
    pub last: Arc<Last>,
    /// The higher sequence of a bundle that was in force after this one, which was kept, and could not be kept itself.
    pub behind: Option<u64>,
}

/// A bundle whose signature is right.
pub(super) struct Verified {
    pub bundle: Bundle,
    pub contents: Contents,
}

/// Where a bundle comes from that is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// The source says that this one is to be in force.
    FromSource,
    /// It was in force before, and kept.
    FromStore,
}

/// A first bundle that is not in force yet.
#[derive(Debug)]
pub(super) struct First {
    pub ready: Ready,
    /// Why it is not the source's.
    pub error: Option<Error>,
    /// What was kept, where that is another bundle.
    pub kept: Option<(Record, Contents)>,
    /// What was kept, once it was opened.
    pub alternative: Option<Ready>,
}

impl First {
    pub(super) const fn of(ready: Ready, error: Option<Error>, kept: Option<(Record, Contents)>) -> Self {
        Self { ready, error, kept, alternative: None }
    }
}
