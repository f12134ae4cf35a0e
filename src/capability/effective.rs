//! To be filled.

use super::Capabilities;
use crate::inspection::Container;
use crate::runtime::Profile;
use crate::workload::Workload;

/// The three lists of one container under a runtime; `None` for a runtime that no profile describes, which is
/// taken to hand over everything.
pub fn assess(_workload: &Workload, _container: &Container, _profile: Option<&Profile>) -> Capabilities {
    Capabilities::default()
}
