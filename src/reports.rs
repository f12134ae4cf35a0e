//! Reports about what runs, in the cluster: one replica scans in the background and writes an `OpenReports` object for each workload that has
//! to do with Wasm (`openreports/reports-api:apis/openreports.io/v1alpha1`), or one of its predecessor.
//!
//! A round goes through the cluster namespace by namespace (`walk`): the API server lists the objects of every kind in the order of their
//! namespaces, so a page of each kind is enough to have a namespace whole. Its workloads are judged as [`crate::scan`] does, where what
//! the last verdict depended on has changed (`basis`), and its reports are brought up to date (`store`) where they say something else.

mod basis;
mod cluster_report;
mod document;
mod kept;
mod options;
mod pace;
mod place;
mod reporter;
mod round;
mod store;
mod tally;
mod walk;

pub use kept::MOST_BYTES as KEPT_BYTES;
pub use options::{ReportFormat, ReportOptions};
pub use reporter::Reporter;
