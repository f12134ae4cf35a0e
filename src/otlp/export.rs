//! Sends spans to the collector, many at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
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
}

impl Failure {
    /// Whether the same request may be taken later.
    const fn may_pass(&self) -> bool {
        match self {
            Self::PrepareRequest(_) => false,
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
        let count = if outcome.is_ok() { &self.shared.sent } else { &self.shared.lost };
        count.fetch_add(reviews, Ordering::Relaxed);
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
        let client = credentials.client(READ, WHOLE).await?;
        let answer = client.post(&self.options.endpoint).headers(headers).body(body).send().await;
        let answer = answer.map_err(|error| Failure::ReachCollector(text::chain(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
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

const fn cure(status: u16) -> &'static str {
    match status {
        401 | 403 => "; see `tracing.tokenFile` and `tracing.clientCertFile`",
        404 | 405 => "; see whether `tracing.endpoint` is right, with its path, as `/v1/traces`",
        415 => "; it must take OTLP over HTTP in the binary encoding",
        _ => "",
    }
}
