//! No way around the gate, on a real Kubernetes: every door by which a program gets into a pod, the operator of Spin
//! applications, and the model of the API server that the fast tests use, held to the real thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "the helpers of a test may fail as loudly as the test"
)]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/gate.rs"]
mod gate;
#[path = "support/images.rs"]
mod images;
#[path = "support/live_gate.rs"]
mod live_gate;
#[path = "support/oci.rs"]
mod oci;
#[path = "support/process.rs"]
mod process;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/tls.rs"]
mod tls;

#[path = "doors/api.rs"]
mod api;
#[path = "doors/cluster.rs"]
mod cluster;
#[path = "doors/corpus.rs"]
mod corpus;
#[path = "doors/creation.rs"]
mod creation;
#[path = "doors/meddler.rs"]
mod meddler;
#[path = "doors/model.rs"]
mod model;
#[path = "doors/plug_ins.rs"]
mod plug_ins;
#[path = "doors/rights.rs"]
mod rights;
#[path = "doors/running.rs"]
mod running;
#[path = "doors/spin.rs"]
mod spin;
#[path = "doors/webhooks.rs"]
mod webhooks;
