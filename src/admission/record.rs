//! Turns a decision into its record and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::decision::{Decision, READ_REVIEW};
use super::{Clock, Gate, State, span};
use crate::answer::Outcome;
use crate::audit::{
    self, Admission, ImageSummary, Input, LogRules, Record, RecordedError, RecordedViolation,
};
use crate::image::Program;
use crate::inspection::Container;
use crate::judge::JudgedViolation;
use crate::otlp::SpanContext;
use crate::policy::{EnforcementAction, Violation};
use crate::review::Webhook;
use crate::review::{Operation, Review};
use crate::workload::Kind;

/// Kind label of objects without a pod spec: a closed list limits the number of series.
const OTHER_KIND: &str = "Other";

/// Counts a decision and passes its record to the decision log. Never blocks.
pub fn emit(
    gate: &Gate,
    state: &State,
    parent: Option<SpanContext>,
    webhook: Webhook,
    review: Option<Review>,
    mut decision: Decision,
    clock: &Clock,
) {
    decision.timings.total = clock.elapsed();
    count(gate, state, (webhook, review.as_ref()), &decision);
    let is_recorded = gate.events.is_some() || gate.refusals.is_some() || gate.sink.is_on();
    if !is_recorded && gate.tracer().is_none() {
        return;
    }
    let decision_id = audit::decision_id();
    let span = span::emit(gate, parent, (webhook, review.as_ref()), &decision, (decision_id, clock));
    if !is_recorded {
        return;
    }
    let timings = std::mem::take(&mut decision.timings);
    let policy_input = decision.policy_input.take();
    let mut input = review.map(Input::from);
    if let Some(input) = &mut input {
        input.managed_fields = decision.managed_fields.take();
        input.alike = decision.alike.take();
    }
    let revisions = || Arc::clone(state.policies.revisions());
    let record = Record {
        labels: gate.labels.clone(),
        masks: state.masks.clone(),
        log_rules: LogRules::of(&state.policies),
        decision_id,
        trace: span.map(|span| (span.trace_id(), span.span_id())),
        timestamp: Timestamp::now(),
        webhook,
        bundles: decision.judgement.as_ref().map(|_| revisions()).unwrap_or_default(),
        policy_input: None,
        bundle_digests: BTreeMap::new(),
        is_verdict_cached: decision.judgement.as_ref().is_some_and(|judgement| judgement.is_cached),
        stray_uid: if input.is_none() { decision.answer.response.uid.clone() } else { String::new() },
        input,
        error: failure(&decision),
        result: result(decision),
        timings,
    };
    if let Some(events) = &gate.events {
        events.offer(&record);
    }
    if let Some(refusals) = &gate.refusals {
        refusals.offer(&record);
    }
    // An Event says nothing of it, and its queue takes no large records.
    let bundle_digests = if policy_input.is_some() { state.policies.digests() } else { BTreeMap::new() };
    gate.sink.emit(Record { policy_input, bundle_digests, ..record });
}

fn count(gate: &Gate, state: &State, (webhook, review): (Webhook, Option<&Review>), decision: &Decision) {
    let admission = Admission {
        webhook,
        kind: review.and_then(|r| state.kinds.of(&r.kind)).map_or(OTHER_KIND, Kind::as_str),
        operation: review.map(|r| r.operation),
        outcome: decision.answer.outcome,
    };
    gate.metrics.observe(admission, &decision.timings);
    for judged in decision.judgement.iter().flat_map(|j| &j.verdict.violations) {
        let (rule, bundle) = (&judged.violation.rule, judged.violation.bundle.as_deref().unwrap_or_default());
        match judged.shadow {
            Some(action) => gate.metrics.shadow_violation(rule, action, bundle),
            None => gate.metrics.violation(rule, done(judged.action, decision), bundle),
        }
    }
    for bundle in decision.judgement.iter().flat_map(|j| &j.failed_bundles) {
        gate.metrics.policy_failure(bundle);
    }
    log(webhook, review, decision);
}

/// Writes one line per review to the gate's own log; uninteresting ones at debug level.
fn log(webhook: Webhook, review: Option<&Review>, decision: &Decision) {
    let uid = review.map(|r| r.uid.as_str()).unwrap_or_default();
    let namespace = review.map(|r| r.namespace.as_str()).unwrap_or_default();
    let kind = review.map(|r| r.kind.kind.as_str()).unwrap_or_default();
    let operation = review.map_or("", |r: &Review| Operation::as_str(r.operation));
    let (webhook, outcome, note) = (webhook.as_str(), decision.answer.outcome.as_str(), decision.note);
    let micros = u64::try_from(decision.timings.total.as_micros()).unwrap_or(u64::MAX);
    match decision.answer.outcome {
        Outcome::Deny | Outcome::Error => {
            tracing::info!(webhook, outcome, %uid, %namespace, %kind, operation, note, micros, "answered");
        }
        _ => tracing::debug!(webhook, outcome, %uid, %namespace, %kind, operation, note, micros, "answered"),
    }
}

fn failure(decision: &Decision) -> Option<RecordedError> {
    if let Some((code, error)) = &decision.failure {
        return Some(RecordedError { code: (*code).to_string(), message: error.to_string() });
    }
    let invalid = decision.answer.outcome == Outcome::Error;
    let message = decision.answer.response.refusal.as_ref().map(|r| r.message.clone());
    invalid.then(|| RecordedError { code: READ_REVIEW.to_string(), message: message.unwrap_or_default() })
}

/// What was done about a violation: a workload whose pods will be refused is admitted with a warning.
fn done(action: EnforcementAction, decision: &Decision) -> EnforcementAction {
    let allowed = decision.answer.response.refusal.is_none();
    if allowed { action.min(EnforcementAction::Warn) } else { action }
}

fn result(mut decision: Decision) -> audit::RecordedResult {
    let judgement = decision.judgement.take();
    let violations = judgement.map(|j| j.verdict.violations).unwrap_or_default();
    let violations = violations.into_iter().map(|judged| {
        let action = done(judged.action, &decision);
        recorded(JudgedViolation { action, ..judged })
    });
    let violations = violations.collect();
    let response = decision.answer.response;
    audit::RecordedResult {
        allowed: response.refusal.is_none(),
        action: decision.answer.outcome,
        violations,
        changes: decision.changes,
        warnings: response.warnings,
        patch_operations: decision.patch_operations,
        images: decision.inspection.containers.into_iter().map(image).collect(),
        reason: decision.note.to_string(),
    }
}

fn recorded(judged: JudgedViolation) -> RecordedViolation {
    let violation = Violation { action: Some(judged.action), ..judged.violation };
    RecordedViolation { violation, exempted: judged.exempted, shadow: judged.shadow }
}

fn image(container: Container) -> ImageSummary {
    let class = container.class().as_str();
    let known = container.known();
    let digest = known.map(|(facts, _)| facts.digest.to_string());
    let kind = known.map(|(facts, program)| match program {
        Program::Wasm { kind, .. } => kind.as_str(),
        _ => facts.kind.as_str(),
    });
    ImageSummary { container: container.name, image: container.image, digest, class, kind }
}
