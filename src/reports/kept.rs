//! The verdicts of the last round, for as long as what they depend on stays. Bounded: what does not fit is judged again. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::basis::{Basis, Mark};
use crate::scan::bounds;
use crate::scan::collect::{Verdict, Verdicts};
use crate::scan::identity::Identity;
use crate::scan::model::is_open;

/// Most verdicts that are kept of objects that the gate leaves alone; each takes some 200 bytes.
const MOST_PLAIN: usize = 100_000;

/// Most bytes of the verdicts that are kept of other objects, approximately; each takes some kilobytes.
pub const MOST_BYTES: usize = 16 << 20;

#[derive(Debug)]
struct KeptVerdict {
    verdict: Verdict,
    mark: Mark,
    since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Kept {
    namespaces: HashMap<String, HashMap<Identity, KeptVerdict>>,
    /// Verdicts on what the gate leaves alone.
    plain: usize,
    /// Bytes of the others.
    bytes: usize,
}

/// The verdicts that hold in a namespace, and since when.
#[derive(Debug, Default)]
pub struct Holding {
    since: HashMap<Identity, Instant>,
    /// The verdicts.
    pub verdicts: Verdicts,
}

/// Bytes of a verdict on what the gate does not leave alone; the others are counted.
fn weight(verdict: &Verdict) -> usize {
    verdict.spec.as_deref().map_or(0, |spec| bounds::of_verdict(Some(spec)))
}

fn mark_of(verdict: &Verdict, namespace: &str, basis: &Basis) -> Mark {
    match verdict.spec {
        Some(_) => basis.of_judged(namespace),
        None => basis.of_plain(verdict.names_class),
    }
}

impl Kept {
    /// Hands out what is kept of a namespace and still holds.
    pub fn take(&mut self, namespace: &str, basis: &Basis, (now, refresh): (Instant, Duration)) -> Holding {
        let mut holding = Holding::default();
        let judged = basis.of_judged(namespace);
        for (identity, kept) in self.namespaces.remove(namespace).unwrap_or_default() {
            let KeptVerdict { verdict, mark, since } = kept;
            self.forget(&verdict);
            let present = if verdict.spec.is_some() { judged } else { basis.of_plain(verdict.names_class) };
            if mark == present && now.saturating_duration_since(since) < refresh {
                holding.since.insert(identity, since);
                holding.verdicts.insert(identity, verdict);
            }
        }
        holding
    }

    /// Keeps the verdicts on what a namespace has now. What is not known of an object is found out in the next round.
    pub fn put(&mut self, namespace: &str, verdicts: &Verdicts, basis: &Basis, held: &Holding, now: Instant) {
        let mut kept = HashMap::new();
        for (identity, verdict) in verdicts {
            if verdict.spec.as_ref().is_some_and(|spec| is_open(spec.outcome)) {
                continue;
            }
            if !self.count(verdict) {
                continue;
            }
            let since = held.since.get(identity).copied().unwrap_or(now);
            let mark = mark_of(verdict, namespace, basis);
            kept.insert(*identity, KeptVerdict { verdict: verdict.clone(), mark, since });
        }
        if !kept.is_empty() {
            self.namespaces.insert(namespace.to_owned(), kept);
        }
    }

    /// Forgets every other namespace.
    pub fn retain(&mut self, namespaces: &BTreeSet<String>) {
        self.namespaces.retain(|namespace, _| namespaces.contains(namespace));
        let all = || self.namespaces.values().flat_map(HashMap::values).map(|kept| &kept.verdict);
        self.plain = all().filter(|verdict| verdict.spec.is_none()).count();
        self.bytes = all().map(weight).sum();
    }

    /// Counts a verdict if there is space for it.
    fn count(&mut self, verdict: &Verdict) -> bool {
        let (plain, bytes) = (self.plain + usize::from(verdict.spec.is_none()), self.bytes + weight(verdict));
        let fits = plain <= MOST_PLAIN && bytes <= MOST_BYTES;
        if fits {
            (self.plain, self.bytes) = (plain, bytes);
        }
        fits
    }

    fn forget(&mut self, verdict: &Verdict) {
        self.plain -= usize::from(verdict.spec.is_none());
        self.bytes -= weight(verdict);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::basis::tests::{NOW, at, grant, state};
    use super::*;
    use crate::cluster::Cluster;
    use crate::scan::ExplainOutcome;
    use crate::scan::model::JudgedSpec;

    fn verdict(outcome: Option<ExplainOutcome>) -> Verdict {
        let spec = |outcome| JudgedSpec {
            outcome,
            reason: None,
            containers: Vec::new(),
            violations: Vec::new(),
            suggested_grant: None,
            warnings: Vec::new(),
            left: 0,
        };
        Verdict { spec: outcome.map(|outcome| Arc::new(spec(outcome))), names_class: false }
    }

    const REFRESH: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_verdict_holds_until_what_it_depends_on_changes_or_it_is_old_and_an_open_one_never() {
        let before = Basis::of(&state(Cluster::default(), Vec::new()).await, 1, at(NOW));
        let grant = grant("WasiGrant", "shop", "2027-01-01T00:00:00Z");
        let after = Basis::of(&state(Cluster::default(), vec![grant]).await, 1, at(NOW));
        let verdicts: Verdicts = [
            ([1; 32], verdict(Some(ExplainOutcome::Denied))),
            ([2; 32], verdict(None)),
            ([3; 32], verdict(Some(ExplainOutcome::Unread))),
        ]
        .into();
        let start = Instant::now();
        let held = |basis: &Basis, later: Duration| {
            let mut kept = Kept::default();
            for namespace in ["shop", "other"] {
                kept.put(namespace, &verdicts, &before, &Holding::default(), start);
            }
            let mut of = |namespace: &str| {
                let held = kept.take(namespace, basis, (start + later, REFRESH)).verdicts;
                held.keys().map(|identity| identity[0]).collect::<BTreeSet<u8>>()
            };
            let both = (of("shop"), of("other"));
            assert_eq!((kept.plain, kept.bytes), (0, 0));
            both
        };
        let (all, plain, none) = (BTreeSet::from([1_u8, 2]), BTreeSet::from([2]), BTreeSet::new());
        assert_eq!(held(&before, Duration::ZERO), (all.clone(), all.clone()));
        assert_eq!(held(&after, Duration::ZERO), (plain, all), "the grant is for one namespace");
        assert_eq!(held(&before, REFRESH), (none.clone(), none));
    }

    #[tokio::test]
    async fn what_is_used_again_is_no_younger_and_no_more_is_kept_than_fits() {
        let basis = Basis::of(&state(Cluster::default(), Vec::new()).await, 1, at(NOW));
        let large = |number: u8| {
            let Verdict { spec, names_class } = verdict(Some(ExplainOutcome::Admitted));
            let warnings = vec!["w".repeat(1 << 20)];
            let spec = spec.map(|spec| Arc::new(JudgedSpec { warnings, ..JudgedSpec::clone(&spec) }));
            ([number; 32], Verdict { spec, names_class })
        };
        let verdicts: Verdicts = (0..20).map(large).collect();
        let (mut kept, start) = (Kept::default(), Instant::now());
        kept.put("shop", &verdicts, &basis, &Holding::default(), start);
        assert!((MOST_BYTES - (2 << 20)..=MOST_BYTES).contains(&kept.bytes), "{}", kept.bytes);
        assert_eq!(kept.namespaces["shop"].len(), 15, "one more would be too much");
        kept.put("other", &[([1; 32], verdict(None))].into(), &basis, &Holding::default(), start);
        assert_eq!(kept.plain, 1, "what is left alone has a bound of its own");
        assert_eq!(kept.take("other", &basis, (start, REFRESH)).verdicts.len(), 1);
        let half = start + REFRESH / 2;
        let held = kept.take("shop", &basis, (half, REFRESH));
        kept.put("shop", &held.verdicts, &basis, &held, half);
        assert_eq!(kept.take("shop", &basis, (start + REFRESH, REFRESH)).verdicts.len(), 0);
        kept.put("shop", &verdicts, &basis, &Holding::default(), start);
        kept.retain(&BTreeSet::new());
        assert_eq!((kept.bytes, kept.plain), (0, 0));
    }
}
