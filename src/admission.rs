//! The flow of a review. Only this module knows the order of the others, and only here does an error become an answer. It
//! decides nothing, but passes the result of each stage to the next.

pub mod api_server;
mod clock;
mod concern;
pub mod decision;
mod decisions;
pub mod ending;
pub mod examine;
pub mod flow;
mod gained;
mod gate;
mod handed;
mod heavy;
mod look;
mod memory;
mod mounted;
mod part;
pub mod record;
pub mod rehearsal;
pub mod replay;
mod span;
mod started;
pub mod state;
mod template;

pub use clock::Clock;
pub use ending::{Conclusion, Ending, Examination, Examined, Judged, Judgement, Skip};
pub use examine::ReviewContext;
pub use gate::{Basis, Gate};
pub use heavy::HEAVY_PLACES;
pub use memory::{PARSED_BYTES, SCANNED_BYTES};
pub use rehearsal::{Asked, NewObject, Rehearsal, judge_as_is, rehearse, rehearse_review};
pub use state::{Error, State};
