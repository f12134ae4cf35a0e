//! What a template may take of the work and the memory of an evaluation.

use crate::rego::call::{Call, VALUE_BYTES};
use crate::rego::failure::Failure;

/// What is left for a template, and what it took.
pub(super) struct Budget<'c> {
    pub call: &'c mut Call,
    /// Bytes of all texts that were made.
    bytes: usize,
}

impl<'c> Budget<'c> {
    /// Nothing was taken yet.
    pub const fn new(call: &'c mut Call) -> Self {
        Self { call, bytes: 0 }
    }

    /// Takes the work and the memory of a text of so many bytes.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.call.take(bytes / VALUE_BYTES)?;
        self.call.fits(self.bytes)
    }

    /// Takes the work of comparing so many bytes.
    pub fn compare(&mut self, bytes: usize) -> Result<(), Failure> {
        self.call.take(bytes / VALUE_BYTES)
    }

    /// Takes so many steps.
    pub fn take(&mut self, steps: usize) -> Result<(), Failure> {
        self.call.take(steps)
    }
}
