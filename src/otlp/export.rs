//! Sends spans to the collector, many at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, HeaderValue};
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use super::message::{CONTENT_TYPE, is_retryable, resource, scope};
use super::options::TracingOptions;
use super::tracer::{ReviewSpan, Shared, Tracer, pair};
use crate::client::{self, shown};
use crate::text;

/// Reviews of one request.
const BATCH: usize = 512;
/// How long the first waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// Bound on every wait for the collector, and on a whole request.
const READ: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// Attempts for one request, and the first wait between two, which doubles.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Largest answer that is looked at: it says how many spans of a request were not taken, and why.
const MOST_ANSWER: usize = 64 << 10;

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// No request can be made.
    #[error(transparent)]
    PrepareRequest(#[from] client::Error),
    /// The collector was not reached.
    #[error("could not reach the collector: {0}")]
    ReachCollector(String),
    /// It does not take them.
    #[error("the collector answers {0}{1}")]
    Refused(u16, &'static str),
    /// It takes a request without some of its spans.
    #[error("the collector takes a request and rejects {spans} of its spans: {reason}")]
    Rejected {
        /// How many.
        spans: u64,
        /// What it says of them.
        reason: String,
    },
}

impl Failure {
    /// Whether the same request may be taken later.
    const fn may_pass(&self) -> bool {
        match self {
            // What is rejected must not be sent again (`opentelemetry-proto:docs/specification.md`, "Partial Success").
            Self::PrepareRequest(_) | Self::Rejected { .. } => false,
            Self::ReachCollector(_) => true,
            Self::Refused(status, _) => is_retryable(*status),
        }
    }
}

/// Sends what a [`Tracer`] takes.
#[derive(Debug)]
pub struct Exporter {
    options: TracingOptions,
    resource: Resource,
    spans: Receiver<ReviewSpan>,
    shared: Arc<Shared>,
    is_failing: bool,
}

impl Exporter {
    /// A tracer, and its exporter. `labels` are those of decision records: they name the process.
    pub fn new<'a>(
        options: TracingOptions,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> (Tracer, Self) {
        let (tracer, spans, shared) = pair(&options);
        let resource = resource(labels);
        (tracer, Self { options, resource, spans, shared, is_failing: false })
    }

    /// Sends until the tracer is closed or gone. A failure is in the log once, and so is its end.
    pub async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut batch = Vec::new();
        let mut is_open = true;
        while is_open {
            is_open = tokio::select! {
                taken = self.spans.recv_many(&mut batch, BATCH) => taken > 0,
                () = shared.closed.notified() => false,
            };
            if is_open && batch.len() < BATCH {
                is_open = tokio::select! {
                    () = sleep(DELAY) => true,
                    () = shared.closed.notified() => false,
                };
            }
            self.fill(&mut batch);
            self.pass_on(&mut batch).await;
        }
        self.spans.close();
        while self.fill(&mut batch) {
            self.pass_on(&mut batch).await;
        }
    }

    /// Adds what waits, without waiting; whether there is anything.
    fn fill(&mut self, batch: &mut Vec<ReviewSpan>) -> bool {
        while batch.len() < BATCH {
            let Ok(span) = self.spans.try_recv() else { break };
            batch.push(span);
        }
        !batch.is_empty()
    }

    /// Sends the batch, some times if need be, and empties it.
    async fn pass_on(&mut self, batch: &mut Vec<ReviewSpan>) {
        if batch.is_empty() {
            return;
        }
        let (body, reviews) = (self.request(batch), batch.len() as u64);
        batch.clear();
        let mut outcome = self.send(body.clone()).await;
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            if !outcome.as_ref().is_err_and(Failure::may_pass) {
                break;
            }
            sleep(wait).await;
            wait *= 2;
            outcome = self.send(body.clone()).await;
        }
        let lost = lost(outcome.as_ref().err(), reviews);
        self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        self.shared.sent.fetch_add(reviews.saturating_sub(lost), Ordering::Relaxed);
        self.tell(outcome.err().as_ref());
    }

    fn request(&self, batch: &[ReviewSpan]) -> Vec<u8> {
        let spans = batch.iter().flat_map(ReviewSpan::messages).collect();
        let spans = ScopeSpans { scope: Some(scope()), spans, schema_url: String::new() };
        let resource = Some(self.resource.clone());
        let spans = ResourceSpans { resource, scope_spans: vec![spans], schema_url: String::new() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()
    }

    async fn send(&self, body: Vec<u8>) -> Result<(), Failure> {
        let credentials = self.options.credentials();
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE))]);
        headers.extend(credentials.authorization().await?.map(|value| (AUTHORIZATION, value)));
        let client = credentials.sender(READ, WHOLE).await?;
        let answer = client.post(&self.options.endpoint).headers(headers).body(body).send().await;
        let answer = answer.map_err(|error| Failure::ReachCollector(text::chain(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => {
                let said = client::small_body(answer, MOST_ANSWER).await.unwrap_or_default();
                rejected(&said).map_or(Ok(()), Err)
            }
            status => Err(Failure::Refused(status.as_u16(), cure(status.as_u16()))),
        }
    }

    fn tell(&mut self, failure: Option<&Failure>) {
        let was_failing = std::mem::replace(&mut self.is_failing, failure.is_some());
        let endpoint = shown(&self.options.endpoint);
        match failure {
            Some(failure) if !was_failing => {
                let error = text::chain(failure);
                tracing::warn!(endpoint, error, "spans of reviews are lost");
            }
            None if was_failing => tracing::info!(endpoint, "the collector takes spans again"),
            _ => {}
        }
    }
}

/// Of how many reviews of a request spans were lost. Of those that were rejected it is not known whose they are: of as many reviews at most.
fn lost(failure: Option<&Failure>, reviews: u64) -> u64 {
    match failure {
        None => 0,
        Some(Failure::Rejected { spans, .. }) => reviews.min(*spans),
        Some(_) => reviews,
    }
}

/// What the collector did not take of a request that it took.
fn rejected(answer: &[u8]) -> Option<Failure> {
    let partial = ExportTraceServiceResponse::decode(answer).ok()?.partial_success?;
    let spans = u64::try_from(partial.rejected_spans).unwrap_or_default();
    (spans > 0).then(|| Failure::Rejected { spans, reason: text::quoted(&partial.error_message, 200) })
}

const fn cure(status: u16) -> &'static str {
    match status {
        301..=303 => "; write the URL to which it redirects into `tracing.endpoint`",
        401 | 403 => "; see `tracing.tokenFile` and `tracing.clientCertFile`",
        404 | 405 => "; see whether `tracing.endpoint` is right, with its path, as `/v1/traces`",
        415 => "; it must take OTLP over HTTP in the binary encoding",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    #[test]
    fn what_was_rejected_of_a_request_counts_as_lost_and_no_more_than_there_was() {
        let answer = |rejected_spans| {
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: "no space".into() };
            ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let lost_of = |answer: &[u8]| lost(rejected(answer).as_ref(), 10);
        assert_eq!([0, -1, 3, 70].map(|spans| lost_of(&answer(spans))), [0, 0, 3, 10]);
        assert_eq!([lost_of(b""), lost_of(b"\xff\xff"), lost_of(b"{}")], [0, 0, 0]);
        let failure = rejected(&answer(3)).unwrap();
        assert!(!failure.may_pass());
        let said = failure.to_string();
        assert!(said.contains("rejects 3 of its spans") && said.contains("no space"), "{said}");
        assert_eq!(lost(Some(&Failure::Refused(400, "")), 10), 10);
    }
}
