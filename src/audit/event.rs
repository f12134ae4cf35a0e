//! Drafts Kubernetes Events about decisions, and limits their number. `register` sends them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::mask::Masking;
use super::record::{Input, Record};
use super::secrets::Hider;
use super::{Metrics, Outcome};
use crate::policy::EnforcementAction;
use crate::text;

/// Reason of an Event about a workload that was refused.
pub const DENIED: &str = "WasmgateDenied";
/// Reason of an Event about a workload that was admitted with warnings.
pub const WARNED: &str = "WasmgateWarned";

/// Longest note that the API server accepts, in bytes (`kubernetes:pkg/apis/core/validation/events.go`, `NoteLengthLimit`).
pub const NOTE_BYTES: usize = 1024;

/// Most records in the queue for Events.
const WAITING: usize = 64;

/// Largest record in the queue, in bytes, so that the queue holds at most 16 MiB.
const RECORD_BYTES: usize = 256 << 10;

/// Most objects whose last write is remembered.
const OBJECTS: usize = 1024;

/// The object that an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regarding {
    /// `apiVersion` of the object.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid, if it is known.
    pub uid: Option<String>,
}

/// Content of an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDraft {
    /// Namespace of the workload, and of the Event.
    pub namespace: String,
    /// The pod's controller, or the object itself.
    pub regarding: Regarding,
    /// [`DENIED`] or [`WARNED`].
    pub reason: &'static str,
    /// At most [`NOTE_BYTES`], on one line, without dangerous characters and values of variables.
    pub note: String,
}

/// Reason of the Event about a decision; `None` if it gets none. Cheap.
fn reason(record: &Record, warnings: bool) -> Option<&'static str> {
    let input = record.input.as_ref()?;
    match record.result.action {
        _ if input.dry_run || input.namespace.is_empty() => None,
        _ if !record.result.allowed => Some(DENIED),
        Outcome::Warn if warnings => Some(WARNED),
        _ => None,
    }
}

/// The Event about this decision. `None` for a dry run, for an object without name and controller, and for a decision that
/// neither refuses nor, with `warnings`, warns.
pub fn draft(record: &Record, warnings: bool) -> Option<EventDraft> {
    let reason = reason(record, warnings)?;
    let input = record.input.as_ref()?;
    let regarding = regarding(input)?;
    let text = format!("{} {}", input.kind.kind, sentence(record, reason));
    let shown = hider(record, input).hide(&text).into_owned();
    let note = text::line(&shown).split_whitespace().collect::<Vec<_>>().join(" ");
    let note = text::shorten_bytes(&note, NOTE_BYTES).into_owned();
    Some(EventDraft { namespace: input.namespace.clone(), regarding, reason, note })
}

#[derive(Deserialize)]
struct Partial {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    uid: Option<String>,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: bool,
}

/// The pod's controller, because a refused pod does not exist, so `kubectl describe` would not find the Event; else the
/// object itself.
pub(super) fn regarding(input: &Input) -> Option<Regarding> {
    let Partial { metadata } = serde_json::from_str(input.object.as_ref()?.get()).ok()?;
    if let Some(owner) = metadata.owner_references.into_iter().find(|owner| owner.controller) {
        let Owner { api_version, kind, name, uid, .. } = owner;
        return sound(Regarding { api_version, kind, name, uid: Some(uid) });
    }
    let group = Some(input.kind.group.as_str()).filter(|group| !group.is_empty());
    let version = &input.kind.version;
    sound(Regarding {
        api_version: group.map_or_else(|| version.clone(), |group| format!("{group}/{version}")),
        kind: input.kind.kind.clone(),
        name: metadata.name.unwrap_or_else(|| input.name.clone()),
        uid: metadata.uid,
    })
}

/// Checks the lengths, since a user can write any owner reference. Names have at most 253 characters
/// (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go`); the same limit is used for all fields.
fn sound(found: Regarding) -> Option<Regarding> {
    let fits = |text: &str| (1..=253).contains(&text.len()) && !text.contains(text::is_dangerous);
    let uid_fits = found.uid.as_deref().is_none_or(|uid| uid.is_empty() || fits(uid));
    (fits(&found.api_version) && fits(&found.kind) && fits(&found.name) && uid_fits).then_some(found)
}

fn sentence(record: &Record, reason: &str) -> String {
    let (word, action) = if reason == DENIED {
        ("denied", EnforcementAction::Deny)
    } else {
        ("admitted with warnings", EnforcementAction::Warn)
    };
    let found =
        record.result.violations.iter().filter(|violation| violation.violation.action == Some(action));
    let mut said: Vec<String> = found
        .map(|violation| format!("[{}] {}", violation.violation.rule, violation.violation.said()))
        .collect();
    if said.is_empty() {
        said.extend(record.error.as_ref().map(|error| error.message.clone()));
    }
    if said.is_empty() && reason == WARNED {
        said.extend(record.result.warnings.iter().cloned());
    }
    if said.is_empty() {
        said.push(record.result.reason.clone());
    }
    format!("{word}: {}", said.join("; "))
}

// === what may not be in a note ===

/// Removes from texts the values that the record masks, since a rule may have quoted one. An Event shows nothing of the object, so
/// a value that stands in clear elsewhere in it is removed too.
pub(super) fn hider(record: &Record, input: &Input) -> Hider {
    let mut masking = Masking::new(&record.masks);
    for raw in [&input.object, &input.old_object].into_iter().flatten() {
        masking.object(raw, "");
    }
    masking.secrets.hider_of(record.result.found(), &[])
}

// === the queue ===

/// Queue of decisions that become Events. Never blocks: a decision that does not fit is dropped and counted.
#[derive(Debug, Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Record>,
    warnings: bool,
    metrics: Arc<Metrics>,
}

impl Outbox {
    /// An outbox, and the receiver that empties it.
    pub fn new(warnings: bool, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Record>) {
        let (queue, receiver) = mpsc::channel(WAITING);
        (Self { queue, warnings, metrics }, receiver)
    }

    /// Queues a copy of the record if it gets an Event.
    pub fn offer(&self, record: &Record) {
        if reason(record, self.warnings).is_none() {
            return;
        }
        match self.queue.try_reserve() {
            Ok(place) if record.weight() <= RECORD_BYTES => place.send(record.clone()),
            _ => self.metrics.event("queue_full"),
        }
    }
}

// === how many ===

/// What to do about an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Write it.
    Write {
        /// Occurrences so far, including this one.
        count: u32,
    },
    /// Do not write it; the next write includes it in the count.
    Count,
    /// Do not write it: the limit for all objects is reached. It is counted too.
    Limited,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    count: u32,
    written: Option<Duration>,
    seen: Duration,
}

/// Object and reason.
type Key = (String, Regarding, &'static str);

/// Limits the writes about each object and about all of them: a token bucket with a minute's writes. All times
/// count from the same arbitrary moment.
#[derive(Debug)]
pub struct Limiter {
    per_object: Duration,
    per_minute: f64,
    tokens: f64,
    filled: Duration,
    known: HashMap<Key, Known>,
}

impl Limiter {
    /// A limiter with a full bucket.
    pub fn new(per_object: Duration, per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute);
        Self { per_object, per_minute, tokens: per_minute, filled: Duration::ZERO, known: HashMap::new() }
    }

    /// Counts an occurrence at `now`, and says what to do about it.
    pub fn admit(&mut self, draft: &EventDraft, now: Duration) -> Admit {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_minute / 60.0).min(self.per_minute);
        self.filled = now;
        let key = (draft.namespace.clone(), draft.regarding.clone(), draft.reason);
        if !self.known.contains_key(&key) {
            self.forget();
        }
        let known = self.known.entry(key).or_insert(Known { count: 0, written: None, seen: now });
        (known.count, known.seen) = (known.count.saturating_add(1), now);
        if known.written.is_some_and(|written| now.saturating_sub(written) < self.per_object) {
            return Admit::Count;
        }
        if self.tokens < 1.0 {
            return Admit::Limited;
        }
        self.tokens -= 1.0;
        known.written = Some(now);
        Admit::Write { count: known.count }
    }

    /// Forgets the object with the oldest write, if there are too many.
    fn forget(&mut self) {
        if self.known.len() < OBJECTS {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.seen).map(|(key, _)| key.clone());
        oldest.and_then(|key| self.known.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::audit::record::tests::record;

    fn pod(spec: &Value) -> Value {
        let mut metadata = json!({"generateName": "orders-", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "0"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders-abc", "uid": "42", "controller": true}]});
        metadata["namespace"] = json!("shop");
        json!({"metadata": metadata, "spec": spec})
    }

    fn draft_of(object: &Value) -> Option<EventDraft> {
        draft(&record(object), false)
    }

    #[test]
    fn a_refused_pod_is_told_of_its_controller() {
        let draft = draft_of(&pod(&json!({}))).unwrap();
        let expected = Regarding {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "orders-abc".into(),
            uid: Some("42".into()),
        };
        assert_eq!((draft.namespace.as_str(), draft.reason, &draft.regarding), ("shop", DENIED, &expected));
        let note =
            "Pod denied: [needs-grant] container `api` can open TCP connections and no grant covers that";
        assert_eq!(draft.note, note);
    }

    #[test]
    fn a_pod_of_its_own_is_named_itself_and_one_without_any_name_gets_none() {
        let draft = draft_of(&json!({"metadata": {"name": "bare", "uid": "7"}})).unwrap();
        assert_eq!((draft.regarding.kind.as_str(), draft.regarding.name.as_str()), ("Pod", "bare"));
        assert_eq!(draft.regarding.api_version, "v1");
        assert_eq!(draft_of(&json!({"metadata": {"generateName": "x-"}})), None);
        assert_eq!(draft_of(&json!({})), None);
    }

    #[test]
    fn an_owner_that_no_object_can_be_is_left_out() {
        for name in ["", "a\nb", &"x".repeat(300)] {
            let owner =
                json!({"apiVersion": "v1", "kind": "K", "name": name, "uid": "1", "controller": true});
            assert_eq!(draft_of(&json!({"metadata": {"ownerReferences": [owner]}})), None, "{name:?}");
        }
    }

    #[test]
    fn a_dry_run_and_an_admission_get_none_and_a_warning_only_when_it_is_asked_for() {
        let mut dry = record(&pod(&json!({})));
        dry.input.as_mut().unwrap().dry_run = true;
        assert_eq!(draft(&dry, true), None);
        let mut warned = record(&pod(&json!({})));
        (warned.result.allowed, warned.result.action) = (true, Outcome::Warn);
        assert_eq!(draft(&warned, false), None);
        assert_eq!(draft(&warned, true).unwrap().reason, WARNED);
        warned.result.action = Outcome::Allow;
        assert_eq!(draft(&warned, true), None);
    }

    #[test]
    fn a_failure_of_the_gate_that_refused_a_pod_is_told_too() {
        let mut failed = record(&pod(&json!({})));
        failed.result.violations.clear();
        failed.error = Some(super::super::RecordedError {
            code: "x".into(),
            message: "the rules\ncould not run".into(),
        });
        assert_eq!(draft(&failed, false).unwrap().note, "Pod denied: the rules could not run");
    }

    fn quoting(message: &str, spec: &Value) -> String {
        let mut record = record(&pod(spec));
        record.result.violations[0].violation.message = message.into();
        draft(&record, false).unwrap().note
    }

    #[test]
    fn the_value_of_a_variable_never_gets_into_a_note() {
        let env =
            json!([{"name": "TOKEN", "value": "hunter2"}, {"name": "LONG", "value": "hunter2-and-more"}]);
        let note =
            quoting("bad hunter2-and-more, bad hunter2", &json!({"containers": [{"name": "a", "env": env}]}));
        assert_eq!(note, "Pod denied: [needs-grant] bad **REDACTED**, bad **REDACTED**");
    }

    #[test]
    fn a_record_that_is_worth_nothing_or_does_not_fit_is_not_queued() {
        let metrics = Arc::new(Metrics::new());
        let (outbox, mut receiver) = Outbox::new(false, Arc::clone(&metrics));
        for _ in 0..WAITING + 3 {
            outbox.offer(&record(&pod(&json!({}))));
        }
        let mut queued = 0;
        while receiver.try_recv().is_ok() {
            queued += 1;
        }
        outbox.offer(&record(&pod(&json!({"x": "y".repeat(RECORD_BYTES)}))));
        let mut allowed = record(&pod(&json!({})));
        allowed.result.allowed = true;
        outbox.offer(&allowed);
        assert!(receiver.try_recv().is_err());
        assert_eq!(queued, WAITING);
        assert!(metrics.encode().contains("wasmgate_events_total{result=\"queue_full\"} 4\n"));
    }

    fn about(name: &str) -> EventDraft {
        let mut draft = draft_of(&pod(&json!({}))).unwrap();
        draft.regarding.name = name.into();
        draft
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_object_is_written_of_now_and_then_with_the_count_of_all() {
        let mut limiter = Limiter::new(at(30), 60);
        assert_eq!(limiter.admit(&about("a"), at(0)), Admit::Write { count: 1 });
        for second in 1..30 {
            assert_eq!(limiter.admit(&about("a"), at(second)), Admit::Count);
        }
        assert_eq!(limiter.admit(&about("b"), at(29)), Admit::Write { count: 1 });
        assert_eq!(limiter.admit(&about("a"), at(30)), Admit::Write { count: 31 });
    }

    #[test]
    fn all_objects_together_are_bounded_and_the_bound_refills() {
        let mut limiter = Limiter::new(at(30), 2);
        let admitted = |limiter: &mut Limiter, now| {
            (0..10)
                .filter(|n| {
                    matches!(limiter.admit(&about(&format!("{now}-{n}")), at(now)), Admit::Write { .. })
                })
                .count()
        };
        assert_eq!(admitted(&mut limiter, 0), 2);
        assert_eq!(admitted(&mut limiter, 29), 0);
        assert_eq!(admitted(&mut limiter, 31), 1);
        assert_eq!(admitted(&mut limiter, 1000), 2);
    }

    #[test]
    fn only_so_many_objects_are_remembered() {
        let mut limiter = Limiter::new(at(30), 60);
        for number in 0..OBJECTS as u64 + 10 {
            limiter.admit(&about(&number.to_string()), at(number));
        }
        assert_eq!(limiter.known.len(), OBJECTS);
    }

    proptest! {
        #[test]
        fn a_note_is_short_and_one_line_whatever_a_rule_says(message in "\\PC{0,2000}[\\n\\t\u{1b}é]{0,40}\\PC{0,200}") {
            let note = quoting(&message, &json!({}));
            prop_assert!(note.len() <= NOTE_BYTES);
            prop_assert!(!note.contains(text::is_dangerous));
        }
    }
}
