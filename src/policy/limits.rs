//! The limits on one evaluation.

use std::time::Duration;

use super::Error;

/// Limits on one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most work for one evaluation of one bundle, in wasmtime's fuel; an instruction costs about one unit. The same
    /// rules use the same fuel on the same input, to one part in a hundred, however busy the machine is.
    pub fuel: u64,
    /// Wall-clock time for one evaluation of one bundle, from when it has its place: the last limit, which only an overloaded
    /// machine reaches. The wait for the place is bounded by the time of the review.
    pub time: Duration,
    /// Most linear memory of each instance of a bundle, in bytes.
    pub memory_bytes: usize,
    /// Whether an error of a built-in function ends the evaluation, which denies. Otherwise the call is undefined, as in OPA
    /// (`opa eval` without `--strict-builtin-errors`).
    pub strict_builtins: bool,
}

impl Default for Limits {
    /// A rule takes well under a millisecond (OPA's guidance is "on the order of 1 ms",
    /// `open-policy-agent/opa:docs/docs/policy-performance.md`). The baseline uses less than a hundredth of this fuel on a
    /// pod with four containers that breaks most rules (`docs/performance.md`). Two seconds leave the webhook time to answer.
    fn default() -> Self {
        Self {
            fuel: 500_000_000,
            time: Duration::from_secs(2),
            memory_bytes: 64 << 20,
            strict_builtins: false,
        }
    }
}

impl Limits {
    /// Refuses limits of zero, with which nothing could be evaluated.
    pub(super) fn check(&self) -> Result<(), Error> {
        let zero = [
            ("policies.fuelLimit", self.fuel == 0),
            ("policies.timeLimit", self.time.is_zero()),
            ("policies.memoryLimitBytes", self.memory_bytes == 0),
        ];
        match zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((field, _)) => Err(Error::SetLimit { field }),
            None => Ok(()),
        }
    }

    /// Whether there is as much memory as usual, of which an evaluation has some for texts of the host from its beginning.
    pub(super) fn has_usual_memory(self) -> bool {
        self.memory_bytes >= Self::default().memory_bytes
    }

    /// The limits for loading data into a new instance. The platform provides the data, and it may be large.
    pub(super) fn for_start(self) -> Self {
        Self { fuel: u64::MAX, ..self }
    }
}
