//! The fast tests, in one program: every stage by itself, whole reviews in one process, and the binary as people call
//! it. Some use real programs (`opa`, a registry, `kubectl`), none a control plane; those are in `live`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::needless_pass_by_value,
    reason = "the helpers of a test may fail as loudly as the test"
)]

#[allow(dead_code, reason = "the other test program uses the rest")]
#[path = "../support/mod.rs"]
mod support;

mod adverse;
mod capabilities;
mod ci;
mod cli;
mod docs;
mod flow;
mod functions;
mod fuzz;
mod gate_image;
mod gatekeeper;
mod goals;
mod granted;
mod grants;
mod growth;
mod image;
mod instructions;
mod manifests;
mod memory;
mod monitoring;
mod oracle;
mod page;
mod plan;
mod policy;
mod probes;
mod producers;
mod reads;
mod register;
mod registry;
mod samples;
mod server;
mod shapes;
mod shared;
mod sizing;
mod sources;
mod usage;
mod watch;
