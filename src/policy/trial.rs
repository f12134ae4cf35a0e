//! What is tried before a bundle is used: its limits, its own cases, and an ordinary pod.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::bundle::TrialCase;
use super::engine::Stop;
use super::host_work::HostWork;
use super::instance::Instance;
use super::set::{LoadedBundle, PolicySet};
use super::{Error, Limits, demand, input, outcome};

/// Time to count the fuel of an evaluation, also where valgrind runs the program.
const COUNTING: Duration = Duration::from_mins(1);

impl PolicySet {
    /// The fuel that the rules of all bundles that judge use for an input. Each has an instance of its own, so that it is the same every time,
    /// and a bench can hold the rules to it.
    pub fn fuel_used(&self, input: &impl Serialize) -> Result<u64, String> {
        self.judging().map(|loaded| loaded.fuel_used(input, self.limits)).sum()
    }

    /// What the host does for the rules of each bundle that judges on an input, which their fuel does not tell. It can be done again for the built-in
    /// rules, to which it hands values.
    pub fn host_work(&self, input: &impl Serialize) -> Result<Vec<HostWork>, String> {
        self.judging().map(|loaded| loaded.host_work(input, self.limits)).collect()
    }
}

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

    fn fuel_used(&self, input: &impl Serialize, limits: Limits) -> Result<u64, String> {
        self.counted(input, limits, |instance, _| instance.fuel_used(limits))
    }

    fn host_work(&self, input: &impl Serialize, limits: Limits) -> Result<HostWork, String> {
        self.counted(input, limits, Instance::recorded)
    }

    /// What is `seen` of an instance after it has judged this input, which it gets as well.
    fn counted<T>(
        &self,
        input: &impl Serialize,
        limits: Limits,
        seen: impl FnOnce(&mut Instance, &str) -> T,
    ) -> Result<T, String> {
        let entrypoint = self.entrypoint.ok_or("it has no rules that judge")?;
        let input =
            input::serialise(input, self.program.bundle.unread()).map_err(|error| error.to_string())?;
        let (stop, _guard) = Stop::at(Instant::now() + COUNTING);
        self.caught(|| {
            // What a start takes is not counted, and so it is not limited.
            let mut instance = Instance::start(&self.program, limits.for_start(), &stop)?;
            instance.record();
            instance.evaluate::<Value>(entrypoint, input.get(), limits, &stop)?;
            Ok(seen(&mut instance, input.get()))
        })
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

#[cfg(test)]
mod tests {
    use super::super::{Bundle, Engine};
    use super::*;

    const ADMITTED: &str = include_str!("../../tests/fixtures/policies/admitted.v1alpha1.json");
    const REFUSED: &str = include_str!("../../tests/fixtures/policies/refused.v1alpha1.json");

    #[tokio::test]
    async fn the_fuel_of_an_input_is_the_same_every_time_and_what_an_evaluation_of_it_needs() {
        let limits = Limits { time: COUNTING, ..Limits::default() };
        let engine = Engine::new().unwrap();
        let set = PolicySet::load(&engine, vec![Bundle::embedded().unwrap()], limits).await.unwrap();
        let [admitted, refused]: [Value; 2] =
            [ADMITTED, REFUSED].map(|document| serde_json::from_str(document).unwrap());
        let used = set.fuel_used(&refused).unwrap();
        assert_eq!(set.fuel_used(&refused), Ok(used));
        assert!(set.fuel_used(&admitted).unwrap() * 2 < used, "messages are work too");
        let with = |fuel| {
            let mut limited = set.clone();
            limited.limits.fuel = fuel;
            limited.fuel_used(&refused)
        };
        // What the host reads at once is bounded by what is left, so a little more has to be there than is used in the end.
        assert!(with(used + used / 8).is_ok());
        assert!(with(used - used / 50).unwrap_err().starts_with("it needs more than"));
    }

    #[tokio::test]
    async fn what_the_host_did_for_an_evaluation_is_done_again_with_the_same_result() {
        let engine = Engine::new().unwrap();
        let limits = Limits { time: COUNTING, ..Limits::default() };
        let set = PolicySet::load(&engine, vec![Bundle::embedded().unwrap()], limits).await.unwrap();
        let mut seen = Vec::new();
        for document in [ADMITTED, REFUSED] {
            let input: Value = serde_json::from_str(document).unwrap();
            let found = set.evaluate(&input).await.violations;
            let [work]: [HostWork; 1] = set.host_work(&input).unwrap().try_into().unwrap();
            let (violations, bytes) = work.repeat().unwrap();
            assert_eq!(work.repeat(), Ok((violations, bytes)));
            assert_eq!(violations, found.len());
            seen.push((work.calls(), bytes));
        }
        let [(of_admitted, few), (of_refused, many)] = seen[..] else { panic!("two inputs") };
        assert!(0 < of_admitted && of_admitted < of_refused, "{seen:?}");
        assert!(few < many, "messages are written by the host: {seen:?}");
    }
}
