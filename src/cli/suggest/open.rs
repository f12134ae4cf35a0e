//! What no grant covers and a grant would lift.

use std::collections::BTreeSet;

use crate::admission::Judged;
use crate::capability::Entry;
use crate::cli::report::{self, JudgedFacts};
use crate::judge::JudgedViolation;
use crate::policy::{EnforcementAction, MendedBy, Violation};

/// The effective capabilities of one container that no grant covers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Open {
    /// Name of the container.
    pub container: String,
    /// Image as written.
    pub image: String,
    /// The effective entries without a grant; empty if everything is covered.
    pub entries: Vec<Entry>,
}

/// The containers for which a grant would change the verdict.
pub(super) fn grantable(judged: &Judged<JudgedFacts>) -> Vec<Open> {
    let violations = &judged.judgement.verdict.violations;
    judged.kept.containers.iter().filter_map(|container| grantable_of(container, violations)).collect()
}

/// The entries of a container for which a grant would change the verdict. `None` if another denial excludes the container;
/// entries that an exception exempts are left out.
fn grantable_of(container: &report::Container, violations: &[JudgedViolation]) -> Option<Open> {
    let (found, capabilities) = (&container.found, container.capabilities.as_ref()?);
    let own = |v: &&JudgedViolation| {
        v.shadow.is_none() && v.violation.container.as_deref() == Some(found.name.as_str())
    };
    let own: Vec<&JudgedViolation> = violations.iter().filter(own).collect();
    if own.iter().any(|v| v.action == EnforcementAction::Deny && prevents(&v.violation)) {
        return None;
    }
    let named = |by: MendedBy, exempted: bool| -> BTreeSet<&str> {
        let found =
            own.iter().filter(|v| v.violation.mended_by == Some(by) && v.exempted.is_some() == exempted);
        found.filter_map(|v| v.violation.capability.as_deref()).collect()
    };
    let (exempted, idle) = (named(MendedBy::Grant, true), named(MendedBy::AmbientGrant, false));
    let effective = capabilities.effective.iter().map(|effective| &effective.entry);
    let effective = effective.filter(|entry| !exempted.contains(entry.capability.as_str()));
    let ambient = capabilities.ambient.iter().filter(|entry| idle.contains(entry.capability.as_str()));
    let entries = effective.chain(ambient).filter(|entry| entry.covered_by.is_empty()).cloned();
    let open = Open { container: found.name.clone(), image: found.image.clone(), entries: entries.collect() };
    (!open.entries.is_empty()).then_some(open)
}

/// Whether the violation excludes its container from the grant: another image or another runtime would need another grant.
pub(super) fn prevents(violation: &Violation) -> bool {
    matches!(violation.mended_by, Some(MendedBy::Image | MendedBy::Runtime))
}
