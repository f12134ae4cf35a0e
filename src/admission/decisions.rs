//! Decisions that were taken before. A decision about a new pod follows from the state of the gate, from the facts about the pod's images,
//! and from what the gate reads of the pod. The pods of a workload differ in nothing of that, so the second and every further one is
//! not planned or judged again.
//!
//! A cache belongs to one state and one inspector ([`super::gate::Basis`]), and goes with them. A decision is kept by a digest
//! of what was read ([`question`]), until the next grant or exception expires, and is used only while each image is still what it was,
//! and open to the pull secrets that the pod has then.
//! Nothing is kept that time had a part in: a look-up that failed, a program that was not recognised, a bundle that could not be
//! evaluated, a rule that asked for the time.

mod names;
mod question;

use std::sync::{Arc, Weak};

use jiff::Timestamp;
use moka::future::Cache;

use super::Clock;
use super::decision::Decision;
use super::ending::{Conclusion, Ending, Examination, Judgement};
use super::look;
use super::state::State;
use crate::answer::Answer;
use crate::audit::{Alike, Masks, Stage, Template, Timings};
use crate::image::{ImageFacts, Program};
use crate::inspection::{Container, Inspection, LookupResult};
use crate::judge::JudgedViolation;
use crate::lookup::Inspector;
use crate::registry::Puller;
use crate::review::Webhook;
use crate::review::{Response, Review};
use crate::workload::Role;

pub use names::Named;
pub use question::Question;

/// Bytes of an entry beside what it points to: the struct, and in the cache the key twice and the places in its orders.
const ENTRY_BYTES: usize = size_of::<Kept>() + 512;

/// Bytes of annotations for the audit log beside their values: a map has space for eleven, and their names are short.
const ANNOTATIONS_BYTES: usize = 640;

/// Most bytes of the texts of a decision that is kept: the next pod of a workload with that much to say is judged again.
const LONGEST_TEXTS: usize = 256 << 10;

/// Bytes of a container beside its texts and what its program says of itself.
const CONTAINER_BYTES: usize = 512;

/// Bytes of an image in a record beside its names: its digest, what it is, and the names of these.
const IMAGE_BYTES: usize = 192;

/// The decisions of one state and one inspector.
#[derive(Debug)]
pub struct Decisions {
    /// `None` where nothing is kept.
    kept: Option<Cache<question::Key, Arc<Kept>>>,
    /// When grants and exceptions expire, sorted.
    ends: Vec<Timestamp>,
    /// What the rules read besides facts.
    reads: question::Reads,
    /// What records mask, if they are written.
    masks: Option<Arc<Masks>>,
}

/// A decision, and for how long and what it holds.
#[derive(Debug)]
struct Kept {
    /// Without its inspection and its patch.
    decision: Decision,
    /// The bytes of its answer after the identifier of the review.
    after_uid: Vec<u8>,
    containers: Vec<KeptContainer>,
    /// What the masks make of the objects that it is about, if that is the same but for what the key leaves out, and if no text has to be
    /// looked through for what they take out.
    masked: Option<Arc<Template>>,
    named: Named,
    /// Whose pull secrets may be used for the images. It follows from the key.
    puller: Puller,
    /// The name of the pod that it was about, where another one may take its place.
    name: Option<String>,
    since: Timestamp,
    /// When the next grant or exception expires.
    until: Option<Timestamp>,
}

/// What was known of a container. Its facts belong to the memory of look-ups, which bounds them.
#[derive(Debug)]
struct KeptContainer {
    role: Role,
    index: usize,
    name: String,
    image: String,
    facts: Weak<ImageFacts>,
    program: Program,
}

impl Decisions {
    /// An empty cache for this state.
    pub fn of(state: &State) -> Self {
        let bytes = state.policies.decision_bytes();
        let reads = question::Reads::of(&state.policies);
        let kept = (bytes > 0).then(|| {
            Cache::builder()
                .max_capacity(bytes)
                .weigher(|_, kept: &Arc<Kept>| u32::try_from(kept.weight()).unwrap_or(u32::MAX))
                .build()
        });
        let grants = state.grants.iter().filter_map(|grant| grant.spec.expires_at);
        let mut ends: Vec<_> =
            grants.chain(state.exceptions.iter().map(|exception| exception.spec.expires_at)).collect();
        ends.sort_unstable();
        let masks = state.writes_records.then(|| Arc::clone(&state.masks));
        Self { kept, ends, reads, masks }
    }

    /// Bytes that are in use, approximately.
    pub fn bytes(&self) -> u64 {
        self.kept.as_ref().map_or(0, Cache::weighted_size)
    }

    /// What a decision about this review would be kept by; `None` where none is.
    pub fn question<'a>(&self, state: &State, webhook: Webhook, review: &'a Review) -> Option<Question<'a>> {
        self.kept.as_ref()?;
        // A record of what rules read needs the document.
        if state.records_input && webhook == Webhook::Validate {
            return None;
        }
        Question::of(webhook, review, state.kinds.of(&review.kind)?, self.reads)
    }

    /// The decision about a review of the same content, if there is one and it still holds.
    /// With the bytes of its answer, where they are those of the other review but for its identifier.
    pub async fn find(
        &self,
        question: &Question<'_>,
        review: &Review,
        (state, inspector): (&State, &Inspector),
        clock: &Clock,
    ) -> Option<(Decision, Option<Vec<u8>>)> {
        let kept = self.kept.as_ref()?.get(&question.key).await?;
        let now = clock.now();
        let holds = kept.since <= now && kept.until.is_none_or(|until| now < until);
        if !holds || !kept.named.fits(question) {
            return None;
        }
        let mut containers = Vec::with_capacity(kept.containers.len());
        for container in &kept.containers {
            let found = container.found_again()?;
            let LookupResult::Known { facts, .. } = &found.lookup else { return None };
            if !inspector.still_finds(&found.image, facts, &kept.puller).await {
                return None;
            }
            containers.push(found);
        }
        inspector.count_found(containers.len());
        let mut timings = Timings::default();
        timings.note(Stage::Read, clock.elapsed());
        let mut decision = kept.decision.again(&review.uid, timings);
        decision.inspection = Inspection { containers };
        decision.alike = kept.masked.clone().map(|masked| Alike::new(masked, question.gaps.clone()));
        let (former, name) = (kept.name.as_deref().unwrap_or_default(), question.name.unwrap_or_default());
        decision.answer.rename(former, name);
        if decision.judgement.is_some() {
            state.policies.count_known_verdict();
        }
        let is_same = former == name || decision.answer.response.refusal.is_none();
        let bytes = is_same.then(|| Response::with_uid(&review.uid, &kept.after_uid));
        Some((decision, bytes))
    }

    /// Keeps a decision, if it may come out again.
    pub async fn keep(
        &self,
        question: &Question<'_>,
        (named, puller): (Named, Puller),
        decision: &Decision,
        clock: &Clock,
    ) {
        let Some(kept) = &self.kept else { return };
        if decision.texts().map(str::len).fold(0, usize::saturating_add) > LONGEST_TEXTS {
            return;
        }
        let Some(after_uid) = decision.answer.response.after_uid() else { return };
        let name = question.name.map(ToString::to_string);
        let mut copy = decision.again("", Timings::default());
        // A refusal begins with the name, for which that of the next pod is put. Nothing else may speak of it.
        if let Some(name) = &name {
            copy.answer.rename(name, "");
        }
        let patch = decision.answer.response.patch.as_ref().map(ToString::to_string).unwrap_or_default();
        let mentions = |name: &str| patch.contains(name) || copy.texts().any(|text| text.contains(name));
        if question.token().into_iter().chain(question.name).any(mentions) {
            return;
        }
        copy.answer.response.refusal.clone_from(&decision.answer.response.refusal);
        let since = clock.now();
        let next = self.ends.partition_point(|end| *end <= since);
        let until = self.ends.get(next).copied();
        let containers = decision.inspection.containers.iter().map(KeptContainer::of);
        let Some(containers) = containers.collect::<Option<Vec<_>>>() else { return };
        let masked = self.masked(question, &copy);
        let entry = Kept { decision: copy, after_uid, containers, masked, named, puller, name, since, until };
        kept.insert(question.key, Arc::new(entry)).await;
    }

    /// What the masks make of the objects that this decision is about. A record of one that says nothing quotes no value of the object.
    fn masked(&self, question: &Question<'_>, decision: &Decision) -> Option<Arc<Template>> {
        let masks = self.masks.as_ref().filter(|_| decision.is_quiet())?;
        Template::of(masks, question.object, &question.gaps).map(Arc::new)
    }
}

/// Whether the decision about an examination comes out the same whenever the question is asked again: it hangs on nothing but facts, and
/// on no name that the question leaves out.
pub fn may_keep<K>(question: &Question<'_>, named: &Named, examination: &Examination<K>) -> bool {
    let Ending::Examined(examined) = &examination.ending else { return false };
    let repeats = match &examined.conclusion {
        Conclusion::NotWasm | Conclusion::Planned(_) => true,
        Conclusion::Judged(judged) => judged.judgement.is_repeatable,
        Conclusion::JudgedAsPods { .. } | Conclusion::Failed { .. } => false,
    };
    repeats && is_known(&examined.inspection) && named.is_of_all(question, &examined.workload)
}

/// Whose pull secrets may be used for the images of what was examined.
pub fn puller<K>(examination: &Examination<K>) -> Option<Puller> {
    let Ending::Examined(examined) = &examination.ending else { return None };
    Some(look::puller(&examined.workload))
}

/// Whether it is known of each container what it starts. Also what is not recognised may only have taken too long.
fn is_known(inspection: &Inspection) -> bool {
    inspection.containers.iter().all(|container| match &container.lookup {
        LookupResult::Known { program, .. } => !matches!(program, Program::Unknown { .. }),
        LookupResult::Unread { .. } => false,
    })
}

impl KeptContainer {
    /// `None` for a container whose image was not read.
    fn of(container: &Container) -> Option<Self> {
        let Container { role, index, name, image, lookup } = container;
        let LookupResult::Known { facts, program } = lookup else { return None };
        Some(Self {
            role: *role,
            index: *index,
            name: name.clone(),
            image: image.clone(),
            facts: Arc::downgrade(facts),
            program: program.clone(),
        })
    }

    /// Approximate bytes.
    fn weight(&self) -> usize {
        let program = match &self.program {
            Program::Wasm { modules, .. } => size_of_val(modules.as_slice()),
            Program::Native { source, magic } => source.len().saturating_add(magic.len()),
            Program::Unknown { reason } => reason.len(),
            Program::Linux => 0,
        };
        [self.name.len(), self.image.len(), program].into_iter().fold(CONTAINER_BYTES, usize::saturating_add)
    }

    /// The container with its facts, if look-ups still have them.
    fn found_again(&self) -> Option<Container> {
        let facts = self.facts.upgrade()?;
        Some(Container {
            role: self.role,
            index: self.index,
            name: self.name.clone(),
            image: self.image.clone(),
            lookup: LookupResult::Known { facts, program: self.program.clone() },
        })
    }
}

impl Kept {
    /// Approximate bytes.
    fn weight(&self) -> usize {
        let texts = self.decision.texts().map(str::len).chain([self.named.bytes()]);
        let Puller { namespace, pull_secrets, service_account } = &self.puller;
        let secrets = pull_secrets.iter().map(|name| name.len().saturating_add(size_of::<String>()));
        let texts = texts.chain([namespace.len(), service_account.len()]).chain(secrets);
        let containers = self.containers.iter().map(KeptContainer::weight);
        let found = self.decision.judgement.iter().map(|judgement| judgement.verdict.violations.len());
        let found = found.map(|found| found.saturating_mul(size_of::<JudgedViolation>()));
        let masked = self.masked.as_ref().map_or(0, |masked| masked.bytes().saturating_add(self.written()));
        let is_annotated = !self.decision.answer.response.audit_annotations.is_empty();
        let annotations = if is_annotated { ANNOTATIONS_BYTES } else { 0 };
        let all = texts.chain(containers).chain(found).chain([self.after_uid.len(), masked, annotations]);
        all.fold(ENTRY_BYTES, usize::saturating_add)
    }

    /// Bytes of the parts of its records that grow with the pod: the containers with their images, and the changes.
    fn written(&self) -> usize {
        let images = self.containers.iter().map(|container| container.name.len() + container.image.len());
        let images = images.map(|names| names.saturating_add(IMAGE_BYTES));
        images.chain(self.decision.changes.iter().map(String::len)).fold(0, usize::saturating_add)
    }
}

impl Decision {
    /// This decision, as that about another review, without its inspection and its patch.
    fn again(&self, uid: &str, timings: Timings) -> Self {
        let Self { answer, judgement, note, changes, patch_operations, .. } = self;
        let mut judgement = judgement.clone();
        if let Some(judgement) = &mut judgement {
            judgement.is_cached = true;
        }
        let Response { refusal, patch: _, warnings, audit_annotations, .. } = &answer.response;
        let response = Response {
            uid: uid.to_owned(),
            refusal: refusal.clone(),
            patch: None,
            warnings: warnings.clone(),
            audit_annotations: audit_annotations.clone(),
        };
        Self {
            answer: Answer { response, outcome: answer.outcome },
            patch_operations: *patch_operations,
            inspection: Inspection::default(),
            judgement,
            note,
            failure: None,
            changes: changes.clone(),
            policy_input: None,
            managed_fields: None,
            alike: None,
            timings,
        }
    }

    /// Whether there is neither a finding nor a warning.
    fn is_quiet(&self) -> bool {
        let mut judgements = self.judgement.iter();
        judgements.all(|judgement| judgement.verdict.violations.is_empty())
            && self.answer.response.warnings.is_empty()
    }

    /// All texts for people in the decision.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let Response { refusal, warnings, audit_annotations, .. } = &self.answer.response;
        let causes = refusal.iter().flat_map(|refusal| &refusal.causes);
        let causes = causes.flat_map(|cause| [&cause.message, &cause.field]);
        let found = self.judgement.iter().flat_map(texts_of);
        let said = refusal.iter().map(|refusal| &refusal.message).chain(causes).chain(warnings);
        said.chain(audit_annotations.values()).chain(found).chain(&self.changes).map(String::as_str)
    }
}

/// All texts of a judgement that are its own, those of the exceptions included.
fn texts_of(judgement: &Judgement) -> impl Iterator<Item = &String> {
    let of_violations = judgement.verdict.violations.iter().flat_map(|judged| {
        let violation = &judged.violation;
        let optional = [&violation.container, &violation.capability, &violation.remedy, &violation.bundle];
        let exempted = judged.exempted.iter().flat_map(|exempted| [&exempted.exception, &exempted.reason]);
        optional.into_iter().flatten().chain([&violation.rule, &violation.message]).chain(exempted)
    });
    of_violations.chain(&judgement.verdict.notes).chain(&judgement.missing_class)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::decision::GivenUp;
    use super::*;
    use crate::audit::mask::Masking;
    use crate::grant::{Exceptions, Grants, load};
    use crate::judge::{Exemption, Verdict};
    use crate::lookup::LookupOptions;
    use crate::policy::{EnforcementAction, Engine, Limits, PolicySet, Violation};
    use crate::review;
    use crate::runtime::Runtimes;

    const GRANT: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: { name: a, namespace: shop }\n\
         spec: { capabilities: [{ name: env }], expiresAt: 2027-03-31T00:00:00Z }\n";

    const EXCEPTION: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiException\nmetadata: { name: e, namespace: shop }\n\
         spec: { rules: [needs-grant], reason: why, expiresAt: 2027-03-30T12:00:00Z }\n";

    /// A pod that names no pull secrets.
    fn own() -> (Named, Puller) {
        let (namespace, service_account) = ("shop".to_owned(), "default".to_owned());
        (Named::default(), Puller { namespace, pull_secrets: Vec::new(), service_account })
    }

    const REVIEW: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","operation":"CREATE",
        "namespace":"shop","kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},
        "userInfo":{},"object":{"metadata":{"name":"a"},"spec":{"containers":[]}}}}"#;

    async fn state(bytes: u64) -> State {
        let engine = Engine::for_command().unwrap().remembering(bytes);
        let policies = PolicySet::load(&engine, Vec::new(), Limits::default()).await.unwrap();
        let mut state = State::new(Runtimes::default(), Arc::default(), policies.into());
        state.grants = Grants::new(load::parse(GRANT, "g.yaml").unwrap().grants).unwrap().into();
        state
    }

    /// Grants and exceptions decide by the time, so no decision outlives the first of them that ends, nor counts before it was made.
    #[tokio::test]
    async fn a_decision_holds_until_the_next_grant_or_exception_ends() {
        let (before, made, noon) = ("2027-03-29T23:59:59Z", "2027-03-30T00:00:00Z", "2027-03-30T12:00:00Z");
        let (evening, end, later) = ("2027-03-30T23:59:59Z", "2027-03-31T00:00:00Z", "2027-04-30T00:00:00Z");
        let rows: [(&str, &str, &[&str], &[&str]); 3] = [
            ("", made, &[made, noon, evening], &[before, end, later]),
            (EXCEPTION, made, &[made, "2027-03-30T11:59:59Z"], &[before, noon, evening, end, later]),
            // The exception has ended when it is made.
            (EXCEPTION, noon, &[noon, evening], &[before, made, end, later]),
        ];
        for (exceptions, made, holding, over) in rows {
            let mut state = state(1 << 20).await;
            state.exceptions =
                Exceptions::new(load::parse(exceptions, "e.yaml").unwrap().exceptions).unwrap().into();
            let (decisions, inspector) =
                (Decisions::of(&state), Inspector::new(LookupOptions::default()).unwrap());
            let review = review::parse(REVIEW.as_bytes()).unwrap();
            let question = || decisions.question(&state, Webhook::Validate, &review).unwrap();
            let at = |time: &str| Clock::at(time.parse().unwrap(), Duration::from_secs(1));
            let decision = Decision::of_given_up(Webhook::Validate, "u-0", &at(made), GivenUp::Late);
            decisions.keep(&question(), own(), &decision, &at(made)).await;
            let times =
                holding.iter().map(|time| (*time, true)).chain(over.iter().map(|time| (*time, false)));
            for (time, holds) in times {
                let found = decisions.find(&question(), &review, (&state, &inspector), &at(time)).await;
                assert_eq!(found.is_some(), holds, "{exceptions} {made} {time}");
                let uid = found.map(|(decision, _)| decision.answer.response.uid);
                assert!(uid.is_none_or(|uid| uid == "u-1"));
            }
        }
    }

    /// The record of a known decision need not read the object to mask it.
    #[tokio::test]
    async fn a_known_decision_has_the_masks_of_its_object_where_records_are_written() {
        for writes_records in [true, false] {
            let mut state = state(1 << 20).await;
            state.writes_records = writes_records;
            let (decisions, inspector) =
                (Decisions::of(&state), Inspector::new(LookupOptions::default()).unwrap());
            let review = review::parse(REVIEW.as_bytes()).unwrap();
            let question = || decisions.question(&state, Webhook::Validate, &review).unwrap();
            let clock = Clock::at("2026-03-30T00:00:00Z".parse().unwrap(), Duration::from_secs(1));
            let decision = Decision::of_given_up(Webhook::Validate, "u-0", &clock, GivenUp::Late);
            decisions.keep(&question(), own(), &decision, &clock).await;
            let (found, _) =
                decisions.find(&question(), &review, (&state, &inspector), &clock).await.unwrap();
            let (object, masks, mut line) =
                (review.object.as_deref().unwrap(), Masks::default(), String::new());
            let mut masking = Masking::without_texts(&masks);
            let is_written =
                found.alike.is_some_and(|alike| alike.append_to(&mut line, object, &mut masking));
            let wanted = if writes_records { object.get() } else { "" };
            assert_eq!((is_written, line.as_str()), (writes_records, wanted));
        }
    }

    /// A pod of many containers is as large as what is kept of these.
    #[test]
    fn what_a_program_says_of_itself_counts() {
        let program = |program| {
            let (name, image) = ("app".to_owned(), "a:1".to_owned());
            let container =
                KeptContainer { role: Role::Container, index: 0, name, image, facts: Weak::new(), program };
            container.weight()
        };
        let least = program(Program::Linux);
        let native = Program::Native { source: "s".repeat(1_000), magic: "ELF".into() };
        let kind = crate::image::ImageKind::SpinApp;
        let packaging = crate::image::Packaging::Layers;
        let spin = Program::Wasm { kind, packaging, modules: (0..100).collect() };
        assert_eq!((program(native), program(spin)), (least + 1_003, least + 100 * size_of::<usize>()));
    }

    /// The reason of an exception is as long as its author likes, and each violation that it covers has it.
    #[test]
    fn the_words_of_exceptions_and_notes_count() {
        let weight = |reason: &str, note: &str, secret: &str| {
            let clock = Clock::at("2026-03-30T00:00:00Z".parse().unwrap(), Duration::from_secs(1));
            let exempted = Exemption {
                exception: "shop/legacy".to_owned(),
                reason: reason.to_owned(),
                expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
            };
            let judged = JudgedViolation {
                action: EnforcementAction::Audit,
                exempted: Some(exempted),
                shadow: None,
                violation: Violation::default(),
            };
            let verdict = Verdict { violations: vec![judged], notes: vec![note.to_owned()] };
            let mut decision = Decision::of_given_up(Webhook::Validate, "u-0", &clock, GivenUp::Late);
            decision.judgement = Some(Judgement {
                verdict,
                failed_bundles: Vec::new(),
                is_cached: false,
                is_repeatable: true,
                is_overloaded: false,
                missing_class: None,
            });
            let (named, mut puller) = own();
            puller.pull_secrets.push(secret.to_owned());
            let (after_uid, containers, since) = (Vec::new(), Vec::new(), clock.now());
            let (masked, name, until) = (None, None, None);
            let kept = Kept { decision, after_uid, containers, masked, named, puller, name, since, until };
            kept.weight()
        };
        let (least, long) = (weight("", "", ""), "x".repeat(1_000));
        for (reason, note, secret) in
            [(long.as_str(), "", ""), ("", long.as_str(), ""), ("", "", long.as_str())]
        {
            assert_eq!(weight(reason, note, secret), least + 1_000);
        }
    }

    /// A refusal is kept with the name with which it begins, for which another one is put.
    #[tokio::test]
    async fn a_refusal_keeps_its_words_and_gets_the_name_of_the_next_pod() {
        let state = state(1 << 20).await;
        let (decisions, inspector) =
            (Decisions::of(&state), Inspector::new(LookupOptions::default()).unwrap());
        let review = review::parse(REVIEW.as_bytes()).unwrap();
        let of = |name: &'static str| {
            let mut question = decisions.question(&state, Webhook::Validate, &review).unwrap();
            question.name = Some(name);
            question
        };
        let clock = Clock::at("2026-03-30T00:00:00Z".parse().unwrap(), Duration::from_secs(1));
        let mut decision = Decision::of_given_up(Webhook::Validate, "u-0", &clock, GivenUp::Late);
        decision.answer.response.refusal.as_mut().unwrap().message = "Pod `shop/web-1` is late".to_owned();
        decisions.keep(&of("web-1"), own(), &decision, &clock).await;
        let found = decisions.find(&of("web-2"), &review, (&state, &inspector), &clock).await;
        let (found, bytes) = found.unwrap();
        assert_eq!(found.answer.response.refusal.unwrap().message, "Pod `shop/web-2` is late");
        assert!(bytes.is_none(), "they have the other name");
        decision.answer.response.refusal.as_mut().unwrap().message =
            "Pod `shop/web-3` is not web-3".to_owned();
        let other = Decisions::of(&state);
        other.keep(&of("web-3"), own(), &decision, &clock).await;
        assert!(other.find(&of("web-3"), &review, (&state, &inspector), &clock).await.is_none());
    }

    #[tokio::test]
    async fn without_bytes_nothing_is_asked() {
        let state = state(0).await;
        let review = review::parse(REVIEW.as_bytes()).unwrap();
        assert!(Decisions::of(&state).question(&state, Webhook::Validate, &review).is_none());
    }
}
