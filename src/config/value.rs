//! Checks of single values, for every part of the configuration.

use std::time::Duration;

use jiff::SignedDuration;

use super::Error;

/// The error about a value that cannot be used.
pub(super) fn wrong(field: &str, value: &impl ToString, message: &str) -> Error {
    Error::CheckField { field: field.to_string(), value: value.to_string(), message: message.to_string() }
}

/// A time span that is not negative.
pub(super) fn duration(field: &str, value: SignedDuration) -> Result<Duration, Error> {
    Duration::try_from(value)
        .map_err(|_| wrong(field, &format!("-{:?}", value.unsigned_abs()), "a time span is not negative"))
}
