//! Turns a decision into the span of its review.

use uuid::Uuid;

use super::decision::Decision;
use super::{Clock, Gate};
use crate::answer::Outcome;
use crate::audit::Stage;
use crate::otlp::{ReviewSpan, SpanContext};
use crate::review::{Operation, Review, Webhook};

/// Hands the span of a review over, if reviews are traced and this one is; returns which it is.
pub fn emit(
    gate: &Gate,
    parent: Option<SpanContext>,
    (webhook, review): (Webhook, Option<&Review>),
    decision: &Decision,
    (id, clock): (Uuid, &Clock),
) -> Option<SpanContext> {
    let tracer = gate.tracer()?;
    let context = tracer.begin(parent)?;
    let of_review = |text: fn(&Review) -> &str| review.map(text).unwrap_or_default().to_owned();
    tracer.emit(ReviewSpan {
        context,
        parent,
        webhook: webhook.as_str(),
        began: clock.now(),
        total: clock.elapsed(),
        stages: decision.timings.stages.iter().map(|(stage, took)| (Stage::as_str(*stage), *took)).collect(),
        is_error: decision.answer.outcome == Outcome::Error,
        attributes: vec![
            ("opa.decision_id", id.to_string()),
            ("wasmgate.outcome", decision.answer.outcome.as_str().to_owned()),
            ("wasmgate.reason", decision.note.to_owned()),
            ("wasmgate.request.uid", of_review(|review| &review.uid)),
            ("wasmgate.request.operation", of_review(|review| Operation::as_str(review.operation))),
            ("wasmgate.request.kind", of_review(|review| &review.kind.kind)),
            ("k8s.namespace.name", of_review(|review| &review.namespace)),
        ],
    });
    Some(context)
}
