//! What the LimitRanger filled in for a namespace's `LimitRange`s.

use std::collections::BTreeSet;

use super::resource::{Resource, Side};
use crate::cluster::LIMIT_RANGER_SET;

/// Values that the LimitRanger says it filled in. Where a namespace has several LimitRanges, the plug-in takes one after the
/// other, and its annotation names what the last of them filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hint<'a> {
    named: BTreeSet<(bool, &'a str, Side, Resource)>,
}

impl<'a> Hint<'a> {
    /// Reads `LimitRanger plugin set: cpu, memory request for container X; cpu limit for init container Y`. Skips what
    /// does not parse, since it is only a hint.
    pub(super) fn read(annotation: &'a str) -> Self {
        let Some(clauses) = annotation.strip_prefix(LIMIT_RANGER_SET) else {
            return Self::default();
        };
        Self { named: Self::named(clauses) }
    }

    fn named(clauses: &'a str) -> BTreeSet<(bool, &'a str, Side, Resource)> {
        let mut found = BTreeSet::new();
        for clause in clauses.split(';') {
            let Some((what, name)) = clause.rsplit_once(" container ") else { continue };
            let (what, init) = what.strip_suffix(" init").map_or((what, false), |what| (what, true));
            let Some((list, side)) = what.strip_suffix(" for").and_then(|what| what.rsplit_once(' ')) else {
                continue;
            };
            let side = match side {
                "request" => Side::Requests,
                "limit" => Side::Limits,
                _ => continue,
            };
            let resources = list.split(',').filter_map(|one| Resource::of(one.trim()));
            found.extend(resources.map(|resource| (init, name.trim(), side, resource)));
        }
        found
    }

    /// Whether the annotation shows that a value of a container was filled in, not chosen; `init` says whether it is an
    /// init container.
    pub(super) fn is_filled(&self, (init, name): (bool, &str), side: Side, resource: Resource) -> bool {
        self.named.contains(&(init, name, side, resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_what_the_plug_in_filled_in() {
        let filled =
            |annotation, side, resource| Hint::read(annotation).is_filled((false, "app"), side, resource);
        let annotation = "LimitRanger plugin set: memory limit for container app";
        assert!(filled(annotation, Side::Limits, Resource::Memory));
        assert!(!filled(annotation, Side::Limits, Resource::Cpu));
        assert!(!filled(annotation, Side::Requests, Resource::Memory));
        assert!(!filled("", Side::Limits, Resource::Memory));
    }
}
