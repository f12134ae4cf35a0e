//! The admission gate for WebAssembly on Kubernetes.
//!
//! ```text
//! bytes → Review → Workload → Inspection ┬ plan  → Edits → Patch ───────────────┐
//!                                        └ judge → PolicyInput → Verdict ───────┴→ Answer → bytes
//!                                                                                 └→ Record → audit sinks, metrics
//! ```
//! Data flows in one direction: no stage reads from a later one. Each module owns one stage and one error enum. Only
//! [`admission`] knows their order, and only there an error becomes an answer.
//! `ARCHITECTURE.md` has the map, `tests/architecture.rs` holds the code to it.

pub mod access;
pub mod admission;
pub mod answer;
pub mod audit;
pub mod capability;
pub mod certs;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod files;
pub mod grant;
pub mod image;
pub mod inspection;
pub mod judge;
pub mod learn;
pub mod lookup;
pub mod otlp;
pub mod plan;
pub mod policy;
pub mod quantity;
pub mod register;
pub mod registry;
pub mod rego;
pub mod reports;
pub mod review;
pub mod runtime;
pub mod scan;
pub mod server;
pub mod shares;
pub mod sources;
pub mod text;
pub mod upload;
pub mod usage;
pub mod watch;
pub mod workload;
