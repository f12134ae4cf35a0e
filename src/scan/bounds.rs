//! How much memory a scan holds of what it finds: what each part weighs, how much of one object is kept, and the budget of all. The users
//! who create objects say how large and how many these are. Pure.

use std::collections::{HashMap, HashSet};

use super::model::{JudgedSpec, ScannedProgram};
use super::owner::{Controller, Reference};
use crate::capability::Entry;
use crate::judge::JudgedViolation;
use crate::text::shorten_bytes;

/// A verdict of at most so many bytes is kept whole: three hundred capabilities with their evidence.
const WHOLE: usize = 512 << 10;

/// Most containers that are kept of a larger one.
const MOST_PROGRAMS: usize = 500;

/// Most capabilities that are kept of all containers of a larger one, where each container has [`LEAST_ENTRIES`].
const MOST_ENTRIES: usize = 2_000;

/// As many capabilities are kept of each container, however many containers there are.
const LEAST_ENTRIES: usize = 20;

/// Most capabilities that are kept of one container.
const MOST_ENTRIES_OF_ONE: usize = 500;

/// Most bytes of what rules say, of suggested grants, and of warnings of a larger verdict, each.
const MOST_WORDS: usize = 256 << 10;

/// Most bytes that one of them takes in a verdict that is too large.
const MOST_TEXT: usize = 4 << 10;

/// Bytes of an entry in a map beside what is counted of it: a digest as its key, its place, and the allocations.
const PLACE: usize = 128;

/// How much a scan may hold.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes, approximately. One namespace takes half of them at most.
    pub bytes: usize,
    /// Why further objects are not judged, and what to do.
    pub cure: &'static str,
}

impl Budget {
    /// Most bytes that the page finds in a cluster, and a round of reports: some twenty thousand workloads that all differ.
    pub const OF_SERVER: usize = 64 << 20;

    /// Of a command: some hundred thousand workloads that all differ, with a few capabilities each.
    pub const COMMAND: Self = Self {
        bytes: 512 << 20,
        cure: "what was found before takes as much memory as a scan may hold, or half of that in one namespace; scan fewer \
               namespaces at a time (`--namespace`), or what is of interest (`--rule`, `--capability`, `--image`)",
    };
}

/// What a scan holds.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
    /// Namespace → bytes.
    namespaces: HashMap<String, usize>,
}

impl Held {
    /// Nothing yet.
    pub fn new(budget: Budget) -> Self {
        Self { budget, bytes: 0, namespaces: HashMap::new() }
    }

    /// What to do about objects that were passed over.
    pub const fn cure(&self) -> &'static str {
        self.budget.cure
    }

    /// Whether another object of this namespace may be held.
    pub fn has_space(&self, namespace: &str) -> bool {
        let own = self.namespaces.get(namespace).copied().unwrap_or_default();
        self.bytes < self.budget.bytes && own < self.budget.bytes / 2
    }

    /// Counts what is held of a namespace from now on.
    pub fn add(&mut self, namespace: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(own) = self.namespaces.get_mut(namespace) {
            *own = own.saturating_add(bytes);
        } else {
            self.bytes = self.bytes.saturating_add(PLACE + namespace.len());
            self.namespaces.insert(namespace.to_owned(), bytes);
        }
    }
}

// === what it weighs ===

/// Approximate bytes of a verdict in a map; `None` where nothing is kept but that there is one.
pub fn of_verdict(spec: Option<&JudgedSpec>) -> usize {
    PLACE.saturating_add(spec.map_or(0, of_spec))
}

/// Approximate bytes of a workload, or of a part of one.
pub fn of_group(reference: &Reference, controller: Option<&Controller>, example: &str) -> usize {
    let controller = controller.map_or(0, of_controller);
    let texts = [of_reference(reference), controller, example.len(), 4 * PLACE];
    texts.into_iter().fold(0, usize::saturating_add)
}

/// Approximate bytes of a link in the chains of controllers, and of a template that is only a copy.
pub fn of_link(controller: Option<&Controller>) -> usize {
    let controller = controller.map_or(0, of_controller);
    controller.saturating_mul(2).saturating_add(2 * PLACE)
}

fn of_controller(Controller { reference, version, uid }: &Controller) -> usize {
    of_reference(reference) + of_text(version) + of_text(uid)
}

fn of_reference(Reference { namespace, kind, name, group }: &Reference) -> usize {
    [namespace, kind, name, group].into_iter().map(|text| of_text(text)).sum()
}

fn of_spec(spec: &JudgedSpec) -> usize {
    let texts = spec.reason.iter().chain(&spec.suggested_grant).chain(&spec.warnings);
    let texts = texts.map(|text| of_text(text));
    let programs = spec.containers.iter().map(of_program);
    let violations = spec.violations.iter().map(of_violation);
    texts.chain(programs).chain(violations).fold(size_of::<JudgedSpec>(), usize::saturating_add)
}

fn of_program(program: &ScannedProgram) -> usize {
    let texts = [&program.name, &program.image].into_iter().chain(&program.digest).chain(&program.reason);
    let texts = texts.map(String::len);
    let entries = program.effective.iter().map(of_entry);
    texts.chain(entries).fold(size_of::<ScannedProgram>(), usize::saturating_add)
}

fn of_entry(entry: &Entry) -> usize {
    let texts: usize = entry.path.iter().chain(&entry.name).map(String::len).sum();
    // As text, and once more as a pattern.
    let host = entry.host.as_ref().map_or(0, |host| 2 * host.as_str().len());
    let lists: usize = entry.evidence.iter().chain(&entry.covered_by).map(|text| of_text(text)).sum();
    size_of::<Entry>() + texts + host + lists
}

fn of_violation(judged: &JudgedViolation) -> usize {
    let violation = &judged.violation;
    let optional = [&violation.container, &violation.capability, &violation.remedy, &violation.bundle];
    let exempted = judged.exempted.iter().flat_map(|exempted| [&exempted.exception, &exempted.reason]);
    let texts = [&violation.rule, &violation.message].into_iter().chain(optional.into_iter().flatten());
    texts.chain(exempted).map(String::len).fold(size_of::<JudgedViolation>(), usize::saturating_add)
}

fn of_text(text: &str) -> usize {
    size_of::<String>().saturating_add(text.len())
}

// === how much is kept of one object ===

/// The verdict with as much as is kept of one object. What is left out is counted, and said among the warnings; the outcome stays.
pub fn bounded(mut spec: JudgedSpec) -> JudgedSpec {
    if of_spec(&spec) <= WHOLE {
        return spec;
    }
    let mut left = cut(&mut spec.containers, MOST_PROGRAMS);
    let of_each = MOST_ENTRIES / spec.containers.len().max(1);
    let of_each = of_each.clamp(LEAST_ENTRIES, MOST_ENTRIES_OF_ONE);
    for program in &mut spec.containers {
        left += cut_entries(&mut program.effective, of_each);
        left += program.effective.iter_mut().map(|entry| cut(&mut entry.evidence, 1)).sum::<usize>();
    }
    spec.violations.sort_by_key(|judged| std::cmp::Reverse(judged.action));
    for judged in &mut spec.violations {
        let violation = &mut judged.violation;
        left += usize::from(cut_text(&mut violation.message));
        left += violation.remedy.as_mut().map_or(0, |remedy| usize::from(cut_text(remedy)));
    }
    let most = fitting(spec.violations.iter().map(of_violation)).max(1);
    left += cut(&mut spec.violations, most);
    let most = fitting(spec.warnings.iter().map(|text| of_text(text)));
    left += cut(&mut spec.warnings, most);
    if spec.suggested_grant.as_ref().is_some_and(|grant| grant.len() > MOST_WORDS) {
        spec.suggested_grant = None;
        left += 1;
    }
    spec.left = left;
    if left > 0 {
        spec.warnings.push(format!(
            "{left} more containers, capabilities, places of these, findings and suggestions are not listed; `wasmgate explain` lists all of one object"
        ));
    }
    spec
}

/// Cuts what a rule says where it is very long, and says whether it was: a rule may quote what a pod says, and one such finding is not to hide
/// the others.
fn cut_text(text: &mut String) -> bool {
    let is_long = text.len() > MOST_TEXT;
    if is_long {
        *text = shorten_bytes(text, MOST_TEXT).into_owned();
    }
    is_long
}

/// How many of the first fit into the bytes of words.
fn fitting(weights: impl Iterator<Item = usize>) -> usize {
    let together = weights.scan(0_usize, |sum, weight| {
        *sum = sum.saturating_add(weight);
        Some(*sum)
    });
    together.take_while(|sum| *sum <= MOST_WORDS).count()
}

/// Leaves the first of a list, and says how many that leaves out.
fn cut<T>(list: &mut Vec<T>, most: usize) -> usize {
    let left = list.len().saturating_sub(most);
    list.truncate(most);
    list.shrink_to_fit();
    left
}

/// Leaves the first of a list of capabilities, and says how many that leaves out. Of each one that is covered as no other one is kept
/// first, and what no grant covers before what one does: nothing seems to be granted for want of the entry that is not.
fn cut_entries(entries: &mut Vec<Entry>, most: usize) -> usize {
    if entries.len() <= most {
        return 0;
    }
    let mut seen = HashSet::new();
    let rank = |entry: &Entry| match entry.covered_by.first().map(String::as_str) {
        None => 0_u8,
        Some("default") => 2,
        Some(_) => 1,
    };
    let mut ranked: Vec<((bool, u8), Entry)> = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        let rank = rank(&entry);
        ranked.push(((!seen.insert((entry.capability, rank)), rank), entry));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let left = cut(&mut ranked, most);
    entries.extend(ranked.into_iter().map(|(_, entry)| entry));
    entries.shrink_to_fit();
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Capability;
    use crate::inspection::ProgramClass;
    use crate::policy::{EnforcementAction, Violation};
    use crate::scan::ExplainOutcome;
    use crate::workload::Role;

    fn program(entries: Vec<Entry>) -> ScannedProgram {
        ScannedProgram {
            name: "app".into(),
            role: Role::Container,
            image: "a:1".into(),
            class: ProgramClass::Wasm,
            kind: None,
            digest: None,
            reason: None,
            effective: entries,
        }
    }

    fn variables(count: usize, covered_by: &[&str]) -> Vec<Entry> {
        let entry = |number: usize| Entry {
            covered_by: covered_by.iter().map(|grant| (*grant).to_owned()).collect(),
            ..Entry::new(Capability::Env, "pod: env").named(format!("VARIABLE_{number}"))
        };
        (0..count).map(entry).collect()
    }

    fn spec(containers: Vec<ScannedProgram>, violations: Vec<JudgedViolation>) -> JudgedSpec {
        JudgedSpec {
            outcome: ExplainOutcome::Denied,
            reason: None,
            containers,
            violations,
            suggested_grant: None,
            warnings: Vec::new(),
            left: 0,
        }
    }

    fn violation(action: EnforcementAction, bytes: usize) -> JudgedViolation {
        let violation = Violation { rule: "r".into(), message: "m".repeat(bytes), ..Violation::default() };
        JudgedViolation { action, exempted: None, shadow: None, violation }
    }

    /// A rule may quote what the pod says, which its author chooses.
    #[test]
    fn one_long_finding_hides_no_other_and_is_cut() {
        let long = || violation(EnforcementAction::Deny, 1 << 20);
        let kept = bounded(spec(Vec::new(), vec![long(), violation(EnforcementAction::Warn, 10), long()]));
        let lengths: Vec<usize> =
            kept.violations.iter().map(|judged| judged.violation.message.len()).collect();
        assert_eq!((lengths, kept.left), (vec![MOST_TEXT, MOST_TEXT, 10], 2));
    }

    #[test]
    fn what_is_usual_is_kept_whole() {
        let usual = spec(vec![program(variables(300, &["default"]))], Vec::new());
        let kept = bounded(usual);
        assert_eq!((kept.containers[0].effective.len(), kept.left), (300, 0));
        assert!(kept.warnings.is_empty());
    }

    #[test]
    fn of_an_object_with_much_to_say_as_much_is_kept_as_of_any_and_the_rest_is_counted() {
        let entries = || [variables(60, &["default"]), variables(1, &[])].concat();
        let large = spec((0..600).map(|_| program(entries())).collect(), Vec::new());
        let before = of_spec(&large);
        let kept = bounded(large);
        assert!(of_spec(&kept) < before / 2, "{before} became {}", of_spec(&kept));
        assert_eq!(kept.containers.len(), MOST_PROGRAMS);
        let open =
            |program: &ScannedProgram| program.effective.iter().any(|entry| entry.covered_by.is_empty());
        assert!(kept.containers.iter().all(open), "what no grant covers does not get lost");
        assert_eq!(kept.left, 100 + 500 * (61 - LEAST_ENTRIES));
        assert!(kept.warnings[0].starts_with(&format!("{} more", kept.left)), "{:?}", kept.warnings);
        assert_eq!(kept.outcome, ExplainOutcome::Denied);
    }

    #[test]
    fn of_capabilities_that_were_found_in_many_places_one_is_kept() {
        let found = |entry: Entry| (0..7).fold(entry, |entry, place| entry.seen_in("p".repeat(500 + place)));
        let entries = variables(300, &[]).into_iter().map(found).collect();
        let kept = bounded(spec(vec![program(entries)], Vec::new()));
        assert_eq!((kept.containers[0].effective.len(), kept.left), (300, 7 * 300));
        assert!(of_spec(&kept) < WHOLE && kept.warnings.len() == 1);
    }

    #[test]
    fn of_many_findings_the_strictest_are_kept() {
        let weak = (0..4_000).map(|_| violation(EnforcementAction::Audit, 1_000));
        let all = weak.chain([violation(EnforcementAction::Deny, 1_000)]).collect();
        let kept = bounded(spec(Vec::new(), all));
        assert_eq!(kept.violations[0].action, EnforcementAction::Deny);
        assert!(of_spec(&kept) < MOST_WORDS + 4_096);
        assert_eq!(kept.left, 4_001 - kept.violations.len());
    }

    #[test]
    fn no_namespace_takes_more_than_half_of_what_a_scan_may_hold() {
        let mut held = Held::new(Budget { bytes: 10_000, cure: "c" });
        held.add("theirs", 4_000);
        assert!(held.has_space("theirs"));
        held.add("theirs", 1_000);
        assert!(!held.has_space("theirs") && held.has_space("ours"));
        held.add("ours", 4_999);
        assert!(!held.has_space("ours") && !held.has_space("others"), "all of it is taken");
    }
}
