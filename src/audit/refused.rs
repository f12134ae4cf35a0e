//! What was refused lately, for the people who look at the gate's page: a bounded list in memory, without the values that records mask. A refusal
//! that comes again, as a controller tries again, is one that is counted.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::event::{self, Regarding};
use super::record::{Input, Record};
use crate::policy::EnforcementAction;
use crate::text;

/// Most refusals that are kept; the oldest of the namespace that has most gives way.
const KEPT: usize = 100;
/// Most findings of a refusal that are kept: with [`FINDING_BYTES`] of each some 1.5 MB in all.
const FINDINGS: usize = 8;
/// Most bytes that are kept of a finding.
const FINDING_BYTES: usize = 2 << 10;
/// Most records that wait to be looked at, each of at most [`RECORD_BYTES`].
const WAITING: usize = 16;
/// Largest record that is looked at, in bytes.
const RECORD_BYTES: usize = 256 << 10;

/// A workload that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When it was refused first.
    pub first: Timestamp,
    /// When it was refused last.
    pub last: Timestamp,
    /// How often.
    pub times: u64,
    /// Its namespace.
    pub namespace: String,
    /// The pod's controller, or the object itself.
    pub regarding: Regarding,
    /// Rule, and what it says with what would mend it. Of a failure of the gate the rule is empty.
    pub found: Vec<(String, String)>,
    /// How many more rules refused it.
    pub more: usize,
}

/// What was refused lately, shared by the reviews that add to it and the page that shows it.
#[derive(Debug, Clone)]
pub struct Refusals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Record>,
    kept: Mutex<VecDeque<Refusal>>,
    missed: AtomicU64,
    since: Timestamp,
}

impl Refusals {
    /// None yet, and the receiver with which [`Refusals::keep`] is called.
    pub fn new(since: Timestamp) -> (Self, mpsc::Receiver<Record>) {
        let (queue, receiver) = mpsc::channel(WAITING);
        let shared = Shared { queue, kept: Mutex::default(), missed: AtomicU64::new(0), since };
        (Self(Arc::new(shared)), receiver)
    }

    /// Takes a copy of the record if it is of a refusal. Never blocks: what does not fit is counted.
    pub fn offer(&self, record: &Record) {
        let is_dry = record.input.as_ref().is_none_or(|input| input.dry_run);
        if record.result.allowed || is_dry {
            return;
        }
        match self.0.queue.try_reserve() {
            Ok(place) if record.weight() <= RECORD_BYTES => place.send(record.clone()),
            _ => self.miss(),
        }
    }

    fn miss(&self) {
        self.0.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks at the records outside of the reviews, for as long as there are any.
    pub async fn keep(self, mut records: mpsc::Receiver<Record>) {
        while let Some(record) = records.recv().await {
            // Not on a thread that answers: both objects are parsed, and their values looked for in what rules said.
            let refusal = tokio::task::spawn_blocking(move || drafted(&record)).await;
            match refusal.ok().flatten() {
                Some(refusal) => self.add(refusal),
                None => self.miss(),
            }
        }
    }

    /// The refusals, the latest first.
    pub fn latest(&self) -> Vec<Refusal> {
        self.kept().iter().rev().cloned().collect()
    }

    /// How many refusals came that are not in the list, besides those that gave way to later ones.
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Since when there is a list.
    pub fn since(&self) -> Timestamp {
        self.0.since
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, mut refusal: Refusal) {
        let mut kept = self.kept();
        let same = |other: &Refusal| {
            let (a, b) = (&other.regarding, &refusal.regarding);
            let one = (&a.api_version, &a.kind, &a.name) == (&b.api_version, &b.kind, &b.name);
            one && other.namespace == refusal.namespace && other.found == refusal.found
        };
        if let Some(earlier) = kept.iter().position(same).and_then(|at| kept.remove(at)) {
            refusal.first = earlier.first;
            refusal.times = earlier.times.saturating_add(1);
        } else if kept.len() >= KEPT {
            let oldest = oldest_of_the_largest(&kept);
            kept.remove(oldest);
        }
        kept.push_back(refusal);
    }
}

/// Where the refusal is that gives way: the oldest of the namespace that has most, so that none pushes out those of the others.
fn oldest_of_the_largest(kept: &VecDeque<Refusal>) -> usize {
    let mut counts = HashMap::new();
    for refusal in kept {
        *counts.entry(refusal.namespace.as_str()).or_insert(0_usize) += 1;
    }
    let most = counts.values().max().copied();
    kept.iter()
        .position(|refusal| counts.get(refusal.namespace.as_str()).copied() == most)
        .unwrap_or_default()
}

#[derive(Deserialize)]
struct Partial {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    generate_name: String,
}

/// An object without a controller that the API server would have named.
fn to_be_named(input: &Input) -> Option<Regarding> {
    let Partial { metadata } = serde_json::from_str(input.object.as_ref()?.get()).ok()?;
    let name = format!("{}*", text::shorten_bytes(&metadata.generate_name, 253));
    Some(Regarding {
        api_version: input.kind.version.clone(),
        kind: input.kind.kind.clone(),
        name,
        uid: None,
    })
}

/// The refusal of a record; `None` for an object that cannot be named.
fn drafted(record: &Record) -> Option<Refusal> {
    let input = record.input.as_ref()?;
    let regarding = event::regarding(input).or_else(|| to_be_named(input))?;
    let mut found = findings(record, input);
    let more = found.len().saturating_sub(FINDINGS);
    found.truncate(FINDINGS);
    let (first, last) = (record.timestamp, record.timestamp);
    Some(Refusal { first, last, times: 1, namespace: input.namespace.clone(), regarding, found, more })
}

/// What refused it, without the values that the record masks.
fn findings(record: &Record, input: &Input) -> Vec<(String, String)> {
    let hider = event::hider(record, input);
    let shown = |said: &str| text::shorten_bytes(&hider.hide(said), FINDING_BYTES).into_owned();
    let violations = record.result.violations.iter().map(|recorded| &recorded.violation);
    let denied = violations.filter(|violation| violation.action == Some(EnforcementAction::Deny));
    let found: Vec<_> = denied.map(|violation| (violation.rule.clone(), shown(&violation.said()))).collect();
    if !found.is_empty() {
        return found;
    }
    let why = record.error.as_ref().map_or(record.result.reason.as_str(), |error| error.message.as_str());
    vec![(String::new(), shown(why))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, rule: &str, second: i64) -> Refusal {
        let at = Timestamp::from_second(second).unwrap();
        Refusal {
            first: at,
            last: at,
            times: 1,
            namespace: "shop".into(),
            regarding: Regarding {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: name.into(),
                uid: None,
            },
            found: vec![(rule.into(), "why".into())],
            more: 0,
        }
    }

    #[test]
    fn a_refusal_that_comes_again_is_counted_and_the_oldest_gives_way() {
        let (refusals, _records) = Refusals::new(Timestamp::UNIX_EPOCH);
        refusals.add(refusal("a", "r", 1));
        refusals.add(refusal("b", "r", 2));
        refusals.add(refusal("a", "r", 3));
        refusals.add(refusal("a", "other", 4));
        let seen = |refusals: &Refusals| -> Vec<_> {
            let all = refusals.latest().into_iter();
            all.map(|one| (one.regarding.name, one.times, one.first.as_second(), one.last.as_second()))
                .collect()
        };
        assert_eq!(seen(&refusals), [("a".into(), 1, 4, 4), ("a".into(), 2, 1, 3), ("b".into(), 1, 2, 2)]);
        for number in 0..KEPT {
            refusals.add(refusal(&number.to_string(), "r", 10));
        }
        assert_eq!(refusals.latest().len(), KEPT);
        assert!(seen(&refusals).iter().all(|(name, ..)| name != "a" && name != "b"));
    }

    #[test]
    fn a_namespace_that_is_refused_again_and_again_keeps_those_of_the_others() {
        let (refusals, _records) = Refusals::new(Timestamp::UNIX_EPOCH);
        let other = |name: &str| Refusal { namespace: "other".into(), ..refusal(name, "r", 1) };
        refusals.add(other("a"));
        for number in 0..2 * KEPT {
            refusals.add(refusal(&number.to_string(), "r", 2));
        }
        refusals.add(other("b"));
        let kept = refusals.latest();
        let of_other: Vec<_> = kept.iter().filter(|one| one.namespace == "other").collect();
        assert_eq!(of_other.iter().map(|one| one.regarding.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(kept.len(), KEPT);
    }
}
