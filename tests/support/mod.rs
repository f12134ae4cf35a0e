//! What tests build on: images, registries, name servers, real and modelled API servers, and the programs that they
//! run. Both test programs include it, and each leaves a part of it unused.

pub mod api;
pub mod case;
pub mod control_plane;
pub mod corpus;
pub mod dns;
pub mod facts;
pub mod fault;
pub mod front;
pub mod gate;
pub mod images;
pub mod live_gate;
pub mod manifests;
pub mod node;
pub mod oci;
pub mod opa;
pub mod policies;
pub mod probes;
pub mod process;
pub mod reads;
pub mod registry;
pub mod secrets;
pub mod shared;
pub mod targets;
pub mod tls;
pub mod token;
pub mod watch;
pub mod web;
