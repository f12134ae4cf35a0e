//! How often each form of each field was there, what became of the image, and what has to be among it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What became of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Some program was judged, and it is the node's.
    Same,
    /// The gate judges nothing, and the node would start something or not.
    Refused,
    /// The node starts nothing.
    NodeRefuses,
}

/// Which outcomes a form must have had; the third one is left to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// In an image that was judged, and in one that was refused.
    Both,
    /// Some readers differ on it, so that no image with it is judged.
    Refused,
    /// Whatever became of it.
    Somehow,
}

/// Forms, at the beginnings of their names, that a run must hold: how often at least, and with which outcome.
pub type Required = &'static [(&'static str, usize, Seen)];

/// What a run must have shown.
#[derive(Debug, Clone, Copy)]
pub enum Demand {
    /// Of the usual cases: every form, and a fair share of each outcome.
    Whole(Required),
    /// Of cases from another seed: half of such a share. Their counts differ by chance, and this is more than four standard
    /// deviations below what the generators make.
    Shares,
}

/// Of fewer cases from another seed the shares are left to chance.
const ENOUGH: usize = 50;

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Counts {
    outcomes: BTreeMap<Outcome, usize>,
    forms: BTreeMap<String, BTreeMap<Outcome, usize>>,
}

impl Counts {
    pub fn add(&mut self, mut forms: Vec<String>, outcome: Outcome) {
        forms.sort();
        forms.dedup();
        *self.outcomes.entry(outcome).or_default() += 1;
        for form in forms {
            *self.forms.entry(form).or_default().entry(outcome).or_default() += 1;
        }
    }

    pub fn cases(&self) -> usize {
        self.outcomes.values().sum()
    }

    /// Says how often what was seen, and fails where the generator no longer makes what the property is to be shown of.
    pub fn close(&self, demand: Demand) {
        println!("{}", self.table());
        let (required, part) = match demand {
            Demand::Whole(required) => (required, 1),
            Demand::Shares => (&[][..], 2),
        };
        let mut missing: Vec<String> =
            required.iter().filter_map(|(form, least, seen)| self.lacks(form, *least, *seen)).collect();
        let of = |outcome| self.outcomes.get(&outcome).copied().unwrap_or_default();
        let asked = if part > 1 && self.cases() < ENOUGH { 0 } else { self.cases() };
        if of(Outcome::Same) * 8 * part < asked || of(Outcome::Refused) * 12 * part < asked {
            missing.push(format!("a fair share of each: {:?}", self.outcomes));
        }
        assert!(missing.is_empty(), "the cases do not show enough of\n{}", missing.join("\n"));
    }

    fn lacks(&self, form: &str, least: usize, seen: Seen) -> Option<String> {
        let rows = self.forms.iter().filter(|(name, _)| name.starts_with(form));
        let counts = rows.fold([0; 3], |mut sum, (_, counts)| {
            for (outcome, count) in counts {
                sum[*outcome as usize] += count;
            }
            sum
        });
        let [same, refused, node] = counts;
        let shown = match seen {
            Seen::Both => same > 0 && refused > 0,
            Seen::Refused => same == 0 && refused > 0,
            Seen::Somehow => true,
        };
        let enough = same + refused + node >= least && shown;
        (!enough).then(|| {
            format!("`{form}`: at least {least}, {seen:?}; there were {same} same, {refused} refused, {node} refused by the node")
        })
    }

    fn table(&self) -> String {
        let row = |counts: &BTreeMap<Outcome, usize>| {
            let of = |outcome| counts.get(&outcome).copied().unwrap_or_default();
            format!("{:>7} {:>7} {:>12}", of(Outcome::Same), of(Outcome::Refused), of(Outcome::NodeRefuses))
        };
        let mut table = format!("{:56} {:>7} {:>7} {:>12}\n", "form", "same", "refused", "node refuses");
        for (form, counts) in &self.forms {
            let _ = writeln!(table, "{form:56} {}", row(counts));
        }
        let _ = writeln!(table, "{:56} {}", "cases", row(&self.outcomes));
        table
    }
}

#[test]
fn a_run_that_shows_too_little_fails_unless_it_is_too_short_to_tell() {
    let of = |outcome: Outcome, cases: usize| {
        let mut counts = Counts::default();
        (0..cases).for_each(|_| counts.add(vec!["field a".into()], outcome));
        counts
    };
    let shares = |counts: &Counts| std::panic::catch_unwind(|| counts.close(Demand::Shares)).is_ok();
    assert!(shares(&of(Outcome::NodeRefuses, ENOUGH - 1)));
    for outcome in [Outcome::NodeRefuses, Outcome::Refused, Outcome::Same] {
        assert!(!shares(&of(outcome, ENOUGH)), "{outcome:?}");
    }
    let mut counts = of(Outcome::Same, ENOUGH);
    assert!(counts.lacks("field ", ENOUGH, Seen::Both).is_some());
    counts.add(vec!["field b".into()], Outcome::Refused);
    assert_eq!(counts.lacks("field ", ENOUGH, Seen::Both), None);
    assert!(counts.lacks("field ", ENOUGH + 2, Seen::Both).is_some());
    assert!(counts.lacks("field ", 1, Seen::Refused).is_some());
}
