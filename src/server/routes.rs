//! The routes of the two webhooks: pass HTTP requests to the gate, within limits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::answers::{Answers, Reader};
use super::connection::Waited;
use super::pace::Pace;
use super::under_way::{Unanswered, UnderWay};
use super::{AdmissionHandler, Begun, Call, Event, LargeReview, ServerOptions};
use crate::otlp::{self, SpanContext};
use crate::review::Webhook;
use crate::review::{Overloaded, uid_of};
use crate::shares::{self, Line, Share, Shares};
use crate::text;

/// Longest timeout of a webhook (`timeoutSeconds` is at most 30 in
/// `kubernetes:pkg/apis/admissionregistration/validation/validation.go`).
const LONGEST: Duration = Duration::from_secs(30);

/// Bodies up to this size, in bytes, share their memory; of larger ones the number at a time is limited.
const SMALL_BODY: usize = 256 << 10;

/// Bytes in which the memory for small bodies is counted.
const UNIT: usize = 1 << 10;

/// One part of so many of that memory is what a peer may hold: an API server holds a few thousand reviews there.
const PEERS: u32 = 4;

/// The same of the places for larger bodies, of which there are few.
const PEERS_WITH_LARGE_BODIES: u32 = 2;

/// Most bodies that wait for memory at a time, half of them of one peer. What came of each before it is read is held meanwhile: with HTTP/2 the window of its stream
/// ([`STREAM_WINDOW`]), of which a connection has many.
const UNREAD_BODIES: u32 = 8192;

/// Bytes that a client of HTTP/2 may send on a stream before they are read. A usual review takes a few of these, each with the answer that more may
/// come (RFC 9113, 6.9). Larger ones would make it faster, and a connection hold more.
pub(super) const STREAM_WINDOW: u32 = 8 << 10;

/// Bytes that may have come of all bodies that wait for memory.
pub const UNREAD_BYTES: u64 = UNREAD_BODIES as u64 * STREAM_WINDOW as u64;

/// Bytes to keep of a body that is too large; the uid is at its beginning.
const START: usize = 64 << 10;

/// Bytes to read and discard of a body that is too large, so that its sender gets the response and not a
/// connection that closes while it still writes.
const DISCARD: usize = 16 << 20;

struct WebhookRoutes<G> {
    gate: Arc<G>,
    options: Arc<ServerOptions>,
    /// Places for reviews, and how soon they are answered when these are taken.
    reviews: Arc<Line>,
    pace: Pace,
    large: Shares,
    small: Shares,
    /// Places to wait for either ([`UNREAD_BODIES`]).
    unread: Shares,
    /// Memory for answers.
    answers: Arc<Answers>,
    /// Turns of work on large bodies.
    turns: Arc<Line>,
}

/// What a review holds until the gate is done with it, even where its client hangs up: the gate still has its body then.
struct Held {
    _place: shares::Held,
    /// The memory for its body.
    _memory: Share,
}

pub(super) fn router<G: AdmissionHandler>(
    gate: Arc<G>,
    options: Arc<ServerOptions>,
    answers: Arc<Answers>,
) -> Router {
    let count = |number: usize| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    let large = Shares::in_parts(count(options.large_bodies), PEERS_WITH_LARGE_BODIES);
    let small = Shares::in_parts(shares::units(options.small_bodies, UNIT), PEERS);
    // One processor stays free of work on large bodies.
    let turns = Line::of(count(shares::processors().saturating_sub(1)));
    let reviews = Line::of(count(options.reviews));
    let mutate = async |State(routes): State<Arc<WebhookRoutes<G>>>, request| {
        routes.handle(Webhook::Mutate, request).await
    };
    let validate = async |State(routes): State<Arc<WebhookRoutes<G>>>, request| {
        routes.handle(Webhook::Validate, request).await
    };
    Router::new()
        .route(Webhook::Mutate.path(), post(mutate).fallback(wrong_method::<G>))
        .route(Webhook::Validate.path(), post(validate).fallback(wrong_method::<G>))
        .fallback(wrong_path::<G>)
        .with_state(Arc::new(WebhookRoutes {
            gate,
            options,
            reviews,
            pace: Pace::default(),
            large,
            small,
            unread: Shares::new(UNREAD_BODIES),
            answers,
            turns,
        }))
}

/// Why the server itself answers instead of the gate. The API server copies these texts into its own message, so the
/// reader is the person whose `kubectl apply` failed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("nothing is served at `{0}`; the webhooks are `POST /mutate` and `POST /validate`")]
    Path(String),
    #[error("this webhook is called with POST")]
    Method,
    #[error("the content type is `{0}`, it must be `application/json`")]
    ContentType(String),
    #[error(
        "the review of {bytes} bytes is larger than {limit} bytes, so it was not examined; make the object smaller"
    )]
    TooLarge { bytes: usize, limit: usize, uid: Option<String> },
    #[error(
        "the request body did not arrive within {} ms; check the network between the API server and the gate, or raise the webhook's timeoutSeconds", .0.as_millis()
    )]
    SlowBody(Duration),
    #[error("the request body broke off")]
    BrokenBody,
    #[error("the gate has more reviews than it can answer in time; add replicas")]
    Busy,
    #[error("the gate holds as many answers as it may that this client has not read")]
    Unread,
    #[error(
        "the gate did not answer within {} ms; raise the webhook's timeoutSeconds and `server.reviewTimeout`, or add replicas", .0.as_millis()
    )]
    Late(Duration),
    #[error("the gate failed while it answered; see its log")]
    Failed,
}

impl From<Overloaded> for Refused {
    fn from(Overloaded: Overloaded) -> Self {
        Self::Busy
    }
}

impl Refused {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::Busy | Self::Unread => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// An HTTP error, so that the API server applies the failurePolicy.
    fn respond(self, reader: &Reader) -> Response {
        let status = self.status();
        let plain = plain_text(reader.told(format!("{self}\n")));
        match self {
            Self::Method => (status, [(ALLOW, "POST")], plain).into_response(),
            _ => (status, plain).into_response(),
        }
    }
}

fn json(bytes: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], bytes).into_response()
}

fn plain_text(bytes: Bytes) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response()
}

async fn wrong_path<G: AdmissionHandler>(
    State(routes): State<Arc<WebhookRoutes<G>>>,
    request: Request,
) -> Response {
    routes.refused(Refused::Path(text::quoted(request.uri().path(), 80)), &Reader::of(&request))
}

async fn wrong_method<G: AdmissionHandler>(
    State(routes): State<Arc<WebhookRoutes<G>>>,
    request: Request,
) -> Response {
    routes.refused(Refused::Method, &Reader::of(&request))
}

impl<G: AdmissionHandler> WebhookRoutes<G> {
    async fn handle(&self, webhook: Webhook, request: Request) -> Response {
        let reader = Reader::of(&request);
        let answer = self.answer(webhook, request, &reader.peer).await;
        let held = answer.and_then(|bytes| self.answers.hold(bytes, &reader).ok_or(Refused::Unread));
        match held {
            Ok(bytes) => json(bytes),
            Err(refused) => self.refused(refused, &reader),
        }
    }

    fn refused(&self, refused: Refused, reader: &Reader) -> Response {
        let status = refused.status();
        self.gate.observe(Event::RequestRefused(status.as_u16()));
        tracing::warn!(status = status.as_u16(), reason = %refused, "refused a request");
        refused.respond(reader)
    }

    async fn answer(&self, webhook: Webhook, request: Request, peer: &Arc<str>) -> Result<Vec<u8>, Refused> {
        check_content_type(request.headers())?;
        let options = &self.options;
        let waited = request.extensions().get::<Waited>().map_or(Duration::ZERO, |waited| waited.0);
        let deadline = Instant::now() + left_after(waited, budget(options, request.uri().query()));
        let size = Size::of(request.headers());
        let parent = parent(request.headers());
        let memory = self.claim_memory(&size, peer, deadline).await?;
        // A body that had to wait is only read from now on.
        let body_deadline = deadline.min(Instant::now() + options.body_timeout.min(LONGEST));
        let body = match read_body(request.into_body(), &size, options.body_limit, body_deadline).await {
            Err(Refused::TooLarge { bytes, limit, uid: Some(uid) }) => {
                return self.too_large(LargeReview { webhook, uid, bytes, limit, parent });
            }
            body => body?,
        };
        let place = self.claim_place(deadline).await?;
        let (has_waited, begin) = (place.has_waited(), Instant::now());
        let left = deadline.saturating_duration_since(begin);
        let call = Call { webhook, body, budget: left, parent };
        let bytes = self.ask(call, deadline, Held { _place: place, _memory: memory }).await?;
        let took = begin.elapsed();
        // What ended with its time was not answered so soon, but got its place so late.
        if has_waited && took < left {
            self.pace.note(took);
        }
        Ok(bytes)
    }

    /// The gate's answer to a review that is too large, which is a request that was refused all the same.
    fn too_large(&self, review: LargeReview) -> Result<Vec<u8>, Refused> {
        self.gate.observe(Event::RequestRefused(StatusCode::PAYLOAD_TOO_LARGE.as_u16()));
        catch_unwind(AssertUnwindSafe(|| self.gate.too_large(review))).map_err(|_| {
            tracing::error!("the gate failed on a review");
            Refused::Failed
        })
    }

    /// Waits for a place, until there is less time left than the quickest of the last reviews took. Where there are more reviews than can be answered, the newest
    /// gets the next place: the oldest would be begun when their time is nearly over.
    async fn claim_place(&self, deadline: Instant) -> Result<shares::Held, Refused> {
        let now = Instant::now();
        let last = now + self.pace.wait(deadline.saturating_duration_since(now));
        let place = timeout_at(last, self.reviews.take(1, Some(deadline))).await;
        let place = place.ok().flatten().ok_or(Refused::Busy)?;
        if !place.has_waited() {
            self.pace.forget();
        }
        Ok(place)
    }

    /// Waits for memory for the body: its own bytes if it declares that it is small, else a place among those that may become large.
    async fn claim_memory(&self, size: &Size, peer: &Arc<str>, deadline: Instant) -> Result<Share, Refused> {
        let (memory, units) = match size.declared.filter(|declared| *declared <= SMALL_BODY) {
            Some(declared) => (&self.small, shares::units(declared, UNIT).max(1)),
            None => (&self.large, 1),
        };
        let share = memory.take_or_wait(peer, units, Some(deadline), (&self.unread, 1));
        share.await.ok_or(Refused::Busy)
    }

    /// Runs the gate, and what it does not answer at once on a task of its own.
    async fn ask(&self, call: Call, deadline: Instant, held: Held) -> Result<Vec<u8>, Refused> {
        let (gate, budget) = (self.gate.clone(), call.budget);
        let under_way = if call.body.len() <= SMALL_BODY {
            match catch_unwind(AssertUnwindSafe(|| gate.begin(call))) {
                Ok(Begun::Answered(reply)) => return reply.map_err(Refused::from),
                Ok(Begun::Goes(work)) => UnderWay::begin(deadline, held, work),
                Err(_) => {
                    tracing::error!("the gate failed on a review");
                    return Err(Refused::Failed);
                }
            }
        } else {
            let work = async move {
                // What it waited for its turn is gone.
                let budget = deadline.saturating_duration_since(Instant::now());
                gate.answer(Call { budget, ..call }).await
            };
            UnderWay::begin_in_turns(deadline, held, self.turns.clone(), work)
        };
        let reply = under_way.answer().await.map_err(|why| match why {
            Unanswered::NotBegun => Refused::Busy,
            Unanswered::Late => Refused::Late(budget),
            Unanswered::Failed(error) => {
                tracing::error!(%error, "the gate failed on a review");
                Refused::Failed
            }
        })?;
        reply.map_err(Refused::from)
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refused::ContentType(text::quoted(text, 80)))
}

/// The span that the request belongs to. With two of them it is not known which is right (W3C Trace Context, section 3.2).
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut found = headers.get_all(otlp::TRACEPARENT).iter();
    let value = found.next().filter(|_| found.next().is_none())?;
    SpanContext::parse(value.to_str().ok()?)
}

/// Budget of the gate: the configured one, or the API server's timeout minus the margin if that is less. A
/// timeout shorter than the margin gives half of the timeout.
fn budget(options: &ServerOptions, query: Option<&str>) -> Duration {
    let asked =
        query.and_then(asked_timeout).map(|asked| asked.saturating_sub(options.margin).max(asked / 2));
    asked.unwrap_or(LONGEST).min(options.budget).min(LONGEST)
}

/// What is left of this budget where the connection has waited for its place: the API server's time began before that. That is its first request, as over HTTP/1.1
/// one is sent at a time; further ones that HTTP/2 sends at the same time get the whole budget, and may be given up before it ends. A connection may get its first
/// request later, so half of it is left in any case.
fn left_after(waited: Duration, budget: Duration) -> Duration {
    budget.saturating_sub(waited).max(budget / 2)
}

/// `timeout=10s` or `timeout=500ms` of a query, as Go prints a duration; `None` for anything else.
fn asked_timeout(query: &str) -> Option<Duration> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    match value.strip_suffix("ms") {
        Some(millis) => millis.parse().ok().map(Duration::from_millis),
        None => value.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}

/// Length of the body according to the request head.
struct Size {
    declared: Option<usize>,
}

impl Size {
    fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Self { declared: text.and_then(|text| text.parse().ok()) }
    }
}

/// Reads a body up to `limit` bytes. Keeps only the start of a larger one.
async fn read_body(body: Body, size: &Size, limit: usize, deadline: Instant) -> Result<Bytes, Refused> {
    let (mut stream, begin) = (body.into_data_stream(), Instant::now());
    let mut over = size.declared.is_some_and(|declared| declared > limit);
    // The declared length is only a claim, so reserve no more than for a small body.
    let mut kept = BytesMut::with_capacity(size.declared.unwrap_or_default().min(SMALL_BODY));
    let mut total = 0_usize;
    while let Some(chunk) = next_chunk(&mut stream, (begin, deadline), over).await? {
        total = total.saturating_add(chunk.len());
        over |= total > limit;
        if over {
            kept.extend(chunk.iter().take(START.saturating_sub(kept.len())));
        } else {
            kept.extend_from_slice(&chunk);
        }
        if total > limit.saturating_add(DISCARD) {
            break;
        }
    }
    if over {
        kept.truncate(START);
        let bytes = total.max(size.declared.unwrap_or_default());
        return Err(Refused::TooLarge { bytes, limit, uid: uid_of(&kept) });
    }
    Ok(kept.freeze())
}

/// The next chunk. Once the body is known to be too large, that is the error, however reading ends.
async fn next_chunk(
    stream: &mut BodyDataStream,
    (begin, deadline): (Instant, Instant),
    over: bool,
) -> Result<Option<Bytes>, Refused> {
    match timeout_at(deadline, stream.next()).await {
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(None) => Ok(None),
        _ if over => Ok(None),
        Ok(Some(Err(_))) => Err(Refused::BrokenBody),
        Err(_) => Err(Refused::SlowBody(deadline.saturating_duration_since(begin))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::under_way::GRACE;
    use super::*;

    #[test]
    fn the_budget_is_the_smaller_of_configured_and_asked_less_the_margin() {
        let options = ServerOptions::new("c", "k");
        let of = |query| budget(&options, query);
        assert_eq!(of(None), Duration::from_secs(8));
        assert_eq!(of(Some("timeout=30s")), Duration::from_secs(8));
        assert_eq!(of(Some("timeout=2s")), Duration::from_millis(1700));
        assert_eq!(of(Some("a=b&timeout=900ms&c")), Duration::from_millis(600));
        assert_eq!(of(Some("timeout=200ms")), Duration::from_millis(100), "never nothing at all");
        for millis in [300, 700, 2_000, 10_000, 30_000] {
            let given_up = budget(&options, Some(&format!("timeout={millis}ms"))) + GRACE;
            assert!(given_up < Duration::from_millis(millis), "the API server still hears it: {given_up:?}");
        }
        for odd in
            ["timeout=", "timeout=s", "timeout=-1s", "timeout=1h", "timeout=99999999999999999999s", "time"]
        {
            assert_eq!(of(Some(odd)), Duration::from_secs(8), "{odd}");
        }
        let endless = ServerOptions { budget: Duration::MAX, ..options.clone() };
        assert_eq!(budget(&endless, Some("timeout=18446744073709551615s")), LONGEST);
    }

    #[test]
    fn what_its_connection_waited_is_no_part_of_the_time_of_a_review_but_half_of_it_is_left() {
        let (second, whole) = (Duration::from_secs(1), Duration::from_secs(8));
        assert_eq!(left_after(Duration::ZERO, whole), whole);
        assert_eq!(left_after(second * 3, whole), second * 5);
        assert_eq!(left_after(second * 30, whole), second * 4);
    }

    #[test]
    fn json_is_recognised_with_parameters_and_in_any_case() {
        let check =
            |text: &str| check_content_type(&HeaderMap::from_iter([(CONTENT_TYPE, text.parse().unwrap())]));
        assert!(check("application/json").is_ok() && check("Application/JSON; charset=utf-8").is_ok());
        assert!(check("application/jsonx").is_err() && check("text/plain").is_err());
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }
}
