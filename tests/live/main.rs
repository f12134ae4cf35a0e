//! The tests on a real Kubernetes control plane, in one program. The tests of a module share one control plane, which
//! ends when those of the next module ask for theirs (`support::shared`), so one or two run at a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "the helpers of a test may fail as loudly as the test"
)]

#[allow(dead_code, reason = "the other test program uses the rest")]
#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod drills;
mod entry_points;
mod learn;
mod manifests;
mod node;
mod page;
mod register;
mod reports;
mod scan;
mod watch;
