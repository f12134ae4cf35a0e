//! Why a layer is refused.

use std::io;

use crate::image::malformed::Malformed;

/// Why a layer could not be read to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It unpacks to more than the limit.
    TooLarge,
    /// It unpacks to more than what the layers below it have left of the limit of all together.
    TooLargeTogether,
    /// It is not a layer archive, or not within the accepted subset.
    Malformed(Malformed),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

pub(in crate::image) fn refused(message: impl Into<String>) -> Fault {
    Fault::Malformed(Malformed::new(message))
}

pub(in crate::image) fn unreadable(error: &io::Error) -> Fault {
    refused(format!("it cannot be unpacked: {error}"))
}
