//! Spans of reviews, from the thread that answers them to the one that sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::context::SpanContext;
use super::message::{attribute, nanoseconds, text};
use super::options::TracingOptions;

/// Reviews that wait to be sent; those of a few seconds at the highest rate.
const QUEUE: usize = 8192;

/// A review and its stages.
#[derive(Debug, Clone)]
pub struct ReviewSpan {
    /// This span.
    pub context: SpanContext,
    /// The span of the API server's request, if it says one.
    pub parent: Option<SpanContext>,
    /// Name of the webhook.
    pub webhook: &'static str,
    /// When the review began.
    pub began: Timestamp,
    /// How long it took.
    pub total: Duration,
    /// Name and time of each stage, in the order in which they ran.
    pub stages: Vec<(&'static str, Duration)>,
    /// Whether the gate failed.
    pub is_error: bool,
    /// Further attributes: key and value.
    pub attributes: Vec<(&'static str, String)>,
}

/// Spans that were handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanCounts {
    /// Reviews whose spans a collector took.
    pub sent: u64,
    /// Reviews whose spans were lost.
    pub lost: u64,
}

/// What the tracer and the exporter share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) sent: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) closed: Notify,
}

/// Takes spans; never waits.
#[derive(Debug)]
pub struct Tracer {
    queue: Sender<ReviewSpan>,
    rate: u32,
    shared: Arc<Shared>,
}

/// A tracer, and what its exporter takes from.
pub(super) fn pair(options: &TracingOptions) -> (Tracer, Receiver<ReviewSpan>, Arc<Shared>) {
    let (queue, receiver) = channel(QUEUE);
    let shared = Arc::new(Shared::default());
    let tracer = Tracer { queue, rate: options.sampling_rate_per_million, shared: Arc::clone(&shared) };
    (tracer, receiver, shared)
}

impl Tracer {
    /// The span of a review that is recorded: where it belongs to a trace, if that is, else by the rate.
    pub fn begin(&self, parent: Option<SpanContext>) -> Option<SpanContext> {
        match parent {
            Some(parent) => SpanContext::begin(Some(parent)).filter(|_| parent.is_sampled),
            None if self.rate == 0 => None,
            None => SpanContext::begin(None).filter(|context| is_chosen(context, self.rate)),
        }
    }

    /// Hands a span over. It is lost, and counted, if too many wait.
    pub fn emit(&self, span: ReviewSpan) {
        if self.queue.try_send(span).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many spans were sent and lost.
    pub fn counts(&self) -> SpanCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SpanCounts { sent: of(&self.shared.sent), lost: of(&self.shared.lost) }
    }

    /// Lets the exporter send what waits, and end.
    pub fn close(&self) {
        self.shared.closed.notify_one();
    }
}

/// By the random bytes of the trace, so that all who follow this rule choose the same traces.
fn is_chosen(context: &SpanContext, rate: u32) -> bool {
    let [.., a, b, c, d] = context.trace;
    u64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000 < u64::from(rate) << 32
}

impl ReviewSpan {
    /// The span of the review, with those of its stages below it, one after the other from its beginning.
    pub(super) fn messages(&self) -> Vec<Span> {
        let start = u64::try_from(self.began.as_nanosecond()).unwrap_or_default();
        let attributes = self.attributes.iter().filter(|(_, value)| !value.is_empty());
        let review = Span {
            trace_id: self.context.trace.into(),
            span_id: self.context.span.into(),
            parent_span_id: self.parent.map(|parent| parent.span.into()).unwrap_or_default(),
            name: format!("POST /{}", self.webhook),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(nanoseconds(self.total)),
            attributes: attributes.map(|(key, value)| attribute(key, text(value))).collect(),
            status: self.is_error.then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
            ..Span::default()
        };
        let mut at = start;
        let stages = self.stages.iter().filter_map(|(name, took)| {
            let began = at;
            at = at.saturating_add(nanoseconds(*took));
            Some(self.stage(name, began, at, SpanContext::begin(Some(self.context))?))
        });
        std::iter::once(review).chain(stages.collect::<Vec<_>>()).collect()
    }

    fn stage(&self, name: &str, began: u64, ended: u64, context: SpanContext) -> Span {
        Span {
            trace_id: self.context.trace.into(),
            span_id: context.span.into(),
            parent_span_id: self.context.span.into(),
            name: name.into(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: began,
            end_time_unix_nano: ended,
            ..Span::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(rate: u32) -> Tracer {
        let text =
            format!(r#"{{"endpoint": "https://c.example/v1/traces", "samplingRatePerMillion": {rate}}}"#);
        pair(&serde_json::from_str(&text).unwrap()).0
    }

    fn parent(flags: &str) -> Option<SpanContext> {
        SpanContext::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"))
    }

    #[test]
    fn the_api_server_decides_for_its_traces_and_the_rate_for_all_others() {
        for rate in [0, 1_000_000] {
            assert!(tracer(rate).begin(parent("01")).is_some(), "{rate}");
            assert!(tracer(rate).begin(parent("00")).is_none(), "{rate}");
            assert_eq!(tracer(rate).begin(None).is_some(), rate > 0);
        }
        let chosen = (0..4000).filter(|_| tracer(250_000).begin(None).is_some()).count();
        assert!((700..1300).contains(&chosen), "a quarter: {chosen}");
    }

    #[test]
    fn a_queue_that_is_full_loses_spans_and_counts_them() {
        let tracer = tracer(1_000_000);
        let span = ReviewSpan {
            context: tracer.begin(None).unwrap(),
            parent: None,
            webhook: "validate",
            began: Timestamp::UNIX_EPOCH,
            total: Duration::from_millis(3),
            stages: Vec::new(),
            is_error: false,
            attributes: Vec::new(),
        };
        // The exporter, and with it the other end, is gone.
        (0..3).for_each(|_| tracer.emit(span.clone()));
        assert_eq!(tracer.counts(), SpanCounts { sent: 0, lost: 3 });
    }

    #[test]
    fn stages_lie_end_to_end_below_their_review() {
        const START: u64 = 1_000_000_000;
        let context = SpanContext::begin(parent("01")).unwrap();
        let span = ReviewSpan {
            context,
            parent: parent("01"),
            webhook: "mutate",
            began: "1970-01-01T00:00:01Z".parse().unwrap(),
            total: Duration::from_nanos(30),
            stages: vec![("read", Duration::from_nanos(10)), ("plan", Duration::from_nanos(15))],
            is_error: true,
            attributes: vec![("opa.decision_id", "d".into()), ("k8s.namespace.name", String::new())],
        };
        let spans = span.messages();
        let times =
            spans.iter().map(|span| (span.name.as_str(), span.start_time_unix_nano, span.end_time_unix_nano));
        let wanted = [
            ("POST /mutate", START, START + 30),
            ("read", START, START + 10),
            ("plan", START + 10, START + 25),
        ];
        assert_eq!(times.collect::<Vec<_>>(), wanted);
        assert_eq!(spans[0].parent_span_id, parent("01").unwrap().span);
        assert!(
            spans[1..]
                .iter()
                .all(|stage| stage.parent_span_id == context.span && stage.trace_id == context.trace)
        );
        assert_eq!(spans[0].attributes.len(), 1, "what is empty is left out");
        assert!(spans[0].status.is_some());
    }
}
