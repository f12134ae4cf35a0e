//! The built-in functions of Rego on Rego's values, as OPA's interpreter computes them (`open-policy-agent/opa:v1/topdown`).
//! Knows nothing of Wasm and nothing of pods, and touches nothing outside of the process.

mod builtins;
mod call;
mod expression;
mod failure;
mod json;
mod letters;
mod number;
mod quote;
mod value;

pub use builtins::{BUILTINS, Builtin, CORRECTED, Correction, OwnCode, REFUSED, builtin, corrections};
pub use call::{Asked, Call, VALUE_BYTES};
pub use failure::Failure;
pub use number::Number;
pub use value::{Object, Value};

/// Reads JSON as OPA does, with the text of its numbers. The error says what is wrong with it.
pub fn read_json(text: &str) -> Result<Value, String> {
    json::parse(text).map_err(|failure| match failure {
        Failure::Error(reason) | Failure::Halt(reason) => reason,
        Failure::Undefined => "it is undefined".into(),
    })
}
