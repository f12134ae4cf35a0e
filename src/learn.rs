//! Learns how large containers of each image have to be: one replica reads from the cluster what running Wasm containers use
//! (`kubernetes/metrics:pkg/apis/metrics/v1beta1`, `PodMetrics`), and writes what follows ([`crate::usage`]) as objects of a kind of the gate's own.
//! Every replica watches these, and the plan goes by them.
//!
//! A round lists the pods of the cluster (`running`) and the usage of those with a Wasm runtime, namespace by namespace (`metrics`), adds
//! both to what is known (`ledger`), and writes what is news, and now and then the rest (`store`).

mod learner;
mod ledger;
mod metrics;
mod options;
mod round;
mod running;
mod store;

pub use learner::Learner;
pub use metrics::{Used, used};
pub use options::LearnOptions;
pub use running::{Running, running};
