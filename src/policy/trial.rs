//! What is tried before a bundle is used: its limits, its own cases, and an ordinary pod.

use std::collections::BTreeSet;

use super::bundle::TrialCase;
use super::engine::Stop;
use super::set::LoadedBundle;
use super::{Error, Limits, demand, input, outcome};

impl LoadedBundle {
    /// Why rules that compile cannot judge an ordinary pod. What is not what the gate wants of them, it would refuse pod for pod.
    pub(super) fn why_unfit(&self, limits: Limits, stop: &Stop) -> BTreeSet<String> {
        if self.entrypoint.is_none() {
            return BTreeSet::new();
        }
        let reason = |document| {
            let input = input::serialise(&document, self.program.bundle.unread()).ok()?;
            self.run(input.get(), limits, stop).err()
        };
        demand::examples().into_iter().filter_map(reason).collect()
    }

    /// Refuses limits that are too low for the rules.
    pub(super) fn check_demand(&self, limits: Limits, stop: &Stop) -> Result<(), Error> {
        let Some(entrypoint) = self.entrypoint else { return Ok(()) };
        let found = self.caught(|| Ok(demand::check(&self.program, entrypoint, limits, stop)));
        found.map_err(|reason| self.program.not_started(reason))?
    }

    /// Runs the cases that the bundle brings along. One that it answers otherwise than it says is an error: the bundle does
    /// not do in this gate what its author meant.
    pub(super) fn try_out(&self, limits: Limits, stop: &Stop) -> Result<(), Error> {
        for TrialCase { name, input, rules } in self.program.bundle.cases.iter() {
            // As in a review, without what the bundle does not want.
            let input =
                input::serialise(input, self.program.bundle.unread()).map_err(|error| error.to_string());
            let found = input.and_then(|input| self.run(input.get(), limits, stop)).map(|ran| {
                ran.violations.into_iter().map(|violation| violation.rule).collect::<BTreeSet<_>>()
            });
            let reason = match found {
                Ok(found) if found == *rules => continue,
                Ok(found) => format!(
                    "it breaks {} and was to break {}",
                    outcome::listed(&found),
                    outcome::listed(rules)
                ),
                Err(reason) => reason,
            };
            let bundle = self.program.bundle.name.clone();
            return Err(Error::TryBundle { bundle, case: name.clone(), reason });
        }
        Ok(())
    }
}
