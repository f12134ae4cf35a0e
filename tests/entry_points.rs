//! No way around the gate, on a real Kubernetes: every way in which a program gets into a pod, the operator of Spin
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

#[path = "entry_points/api.rs"]
mod api;
#[path = "entry_points/cluster.rs"]
mod cluster;
#[path = "entry_points/corpus.rs"]
mod corpus;
#[path = "entry_points/creation.rs"]
mod creation;
#[path = "entry_points/meddler.rs"]
mod meddler;
#[path = "entry_points/model.rs"]
mod model;
#[path = "entry_points/plug_ins.rs"]
mod plug_ins;
#[path = "entry_points/rights.rs"]
mod rights;
#[path = "entry_points/running.rs"]
mod running;
#[path = "entry_points/spin.rs"]
mod spin;
#[path = "entry_points/webhooks.rs"]
mod webhooks;
