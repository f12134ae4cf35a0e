//! The built-in functions of Rego on Rego's values, as OPA's interpreter computes them (`open-policy-agent/opa:v1/topdown`).
//! Knows nothing of Wasm and nothing of pods, and touches nothing outside of the process.

mod builtins;
mod call;
mod expression;
mod failure;
mod json;
mod number;
mod quote;
mod value;

pub use builtins::{BUILTINS, Builtin, CORRECTED, Correction, OwnCode, REFUSED, builtin, corrections};
pub use call::{Asked, Call};
pub use failure::Failure;
pub use number::Number;
pub use value::{Object, Value};
