//! How a call of a built-in function ends without a value.

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It is undefined, and nothing is wrong.
    Undefined,
    /// An operand is not what the function takes: undefined, as in OPA, or the end of the evaluation where that is asked
    /// for.
    Error(String),
    /// Whatever was asked for, the evaluation cannot go on.
    Halt(String),
}

impl Failure {
    /// An error that undefines the call.
    pub(super) fn error<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Error(message.into()))
    }
}
