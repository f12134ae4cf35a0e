//! Judges everything that exists, as it stands, and changes nothing: for `wasmgate scan` and for the reports in a cluster. Objects come as they
//! are found, each distinct one is judged once, and the verdicts are gathered by workload.

pub mod bounds;
pub mod collect;
pub mod facts;
pub mod filter;
pub mod head;
pub mod identity;
pub mod judge;
pub mod kinds;
pub mod model;
pub mod owner;
pub mod progress;
pub mod unknown;

pub use collect::{Collector, FoundObject};
pub use facts::{ExplainOutcome, JudgedFacts};
pub use filter::Filter;
pub use judge::Judge;
pub use model::Scan;
pub use progress::Progress;
