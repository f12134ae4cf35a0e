//! What a pass over a text kept of it, as places in that text.

use std::ops::Range;

/// A part of the text that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where it stands in the text.
    pub(super) place: Range<usize>,
    /// Whether a placeholder follows it.
    pub(super) is_redacted_after: bool,
}

/// The parts that were kept, in their order.
#[derive(Debug, Default)]
pub(super) struct Trail(pub(super) Vec<Kept>);

impl Trail {
    /// Notes that this part is kept.
    pub(super) fn keep(&mut self, place: Range<usize>) {
        self.0.push(Kept { place, is_redacted_after: false });
    }

    /// Notes that a placeholder follows what was kept last.
    pub(super) fn redact(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.is_redacted_after = true;
        }
    }
}
