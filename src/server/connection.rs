//! Connections: each has a place (`places`), no Nagle delay, and timeouts when nothing is read or written, or an answer stays unread.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Request;
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use super::places::{InUse, Place, Places, Usage};
use super::shutdown::Phase;
use super::{AdmissionHandler, Event, ServerOptions, under_way};

/// An acceptor that limits connections in total and per peer.
#[derive(Debug)]
pub(super) struct Bounded<A, G> {
    inner: A,
    places: Arc<Places>,
    times: Times,
    phase: Phase,
    gate: Arc<G>,
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// For the first byte, and for the rest of the first request head.
    first: Duration,
    /// Without a byte.
    idle: Duration,
    /// With an answer that is not read.
    unread: Duration,
}

impl<A: Clone, G> Clone for Bounded<A, G> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            places: self.places.clone(),
            times: self.times,
            phase: self.phase.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<A, G> Bounded<A, G> {
    pub(super) fn new(inner: A, options: &ServerOptions, phase: &Phase, gate: Arc<G>) -> Self {
        Self {
            inner,
            places: Arc::new(Places::of(options)),
            times: Times {
                first: options.handshake_timeout,
                idle: options.idle(),
                unread: options.unread_timeout,
            },
            phase: phase.clone(),
            gate,
        }
    }

    pub(super) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }
}

impl ServerOptions {
    /// The idle timeout, but long enough that it does not close a connection while a review is being answered.
    pub(super) fn idle(&self) -> Duration {
        self.idle_timeout.max(self.body_timeout.max(self.budget) + under_way::GRACE * 2)
    }
}

/// A place for this connection, or why there is none.
async fn place_for<G: AdmissionHandler>(
    stream: &TcpStream,
    places: &Arc<Places>,
    phase: &Phase,
    gate: &G,
) -> io::Result<Place> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let place = tokio::select! {
        biased;
        place = places.take(peer) => place,
        () = phase.closed() => return Err(io::Error::other("shutting down")),
    };
    place.ok_or_else(|| {
        gate.observe(Event::ConnectionRefused);
        if places.is_news(peer) {
            tracing::warn!(%peer, "closed a connection: too many are open");
        }
        io::Error::other("too many connections")
    })
}

impl<A, G, S> Accept<TcpStream, S> for Bounded<A, G>
where
    G: AdmissionHandler,
    A: Accept<TcpStream, S> + Clone + Send + 'static,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
    S: Send + 'static,
{
    type Stream = Timed<A::Stream>;
    type Service = FirstCall<A::Service>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (inner, places, times) = (self.inner.clone(), self.places.clone(), self.times);
        let (gate, phase) = (self.gate.clone(), self.phase.clone());
        Box::pin(async move {
            let place = place_for(&stream, &places, &phase, gate.as_ref()).await?;
            let in_use = place.usage.hold();
            // Without TCP_NODELAY a response may wait for the peer's delayed acknowledgement; a failure here costs only that.
            let _ = stream.set_nodelay(true);
            let done = tokio::select! {
                done = inner.accept(stream, service) => done,
                () = phase.closed() => Err(io::Error::other("shutting down")),
            };
            let (stream, service) = done.inspect_err(|error| {
                gate.observe(Event::HandshakeFailed);
                tracing::debug!(%error, "a TLS handshake failed");
            })?;
            let timed = Timed::new(stream, times, place, in_use);
            let service = timed.serving(service);
            Ok((timed, service))
        })
    }
}

// === time ===

/// How long a connection waited for its place, as its first request did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited(pub Duration);

/// A service that notes its first call, which is when the first request head is complete, and tells each request which answers of its connection are unread. Its
/// connection is in use while it answers.
#[derive(Debug, Clone)]
pub(super) struct FirstCall<S> {
    service: S,
    is_called: Arc<AtomicBool>,
    usage: Arc<Usage>,
    waited: Waited,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for FirstCall<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let in_use = self.usage.hold();
        if !self.is_called.swap(true, Ordering::AcqRel) && !self.waited.0.is_zero() {
            request.extensions_mut().insert(self.waited);
        }
        request.extensions_mut().insert(self.usage.unread.clone());
        Answering { answer: Box::pin(self.service.call(request)), _in_use: in_use }
    }
}

/// A request that is being answered.
pub(super) struct Answering<F> {
    answer: Pin<Box<F>>,
    _in_use: InUse,
}

impl<F: Future> Future for Answering<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.answer.as_mut().poll(context)
    }
}

/// Stage of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was read.
    Silent,
    /// The first request head is being read. Further bytes do not extend its deadline.
    Head,
    /// A request has arrived.
    Begun,
}

/// A stream that fails when its first request head is late, or when nothing is read or written
/// for too long after that, or an answer is not read for too long. It holds the connection's place.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    times: Times,
    stage: Stage,
    begun: Arc<AtomicBool>,
    alarm: Pin<Box<Sleep>>,
    /// The use of the connection until its first request has arrived: none that is slow to send it makes place for another one before its time is over.
    until_begun: Option<InUse>,
    place: Place,
}

impl<S> Timed<S> {
    fn new(stream: S, times: Times, place: Place, in_use: InUse) -> Self {
        let (begun, alarm) = (Arc::default(), Box::pin(sleep(times.first)));
        Self { stream, times, stage: Stage::Silent, begun, alarm, until_begun: Some(in_use), place }
    }

    /// What serves its requests.
    fn serving<T>(&self, service: T) -> FirstCall<T> {
        let (usage, waited) = (Arc::clone(&self.place.usage), Waited(self.place.waited));
        FirstCall { service, is_called: Arc::clone(&self.begun), usage, waited }
    }

    fn set_alarm(&mut self, after: Duration) {
        if let Some(when) = Instant::now().checked_add(after) {
            self.alarm.as_mut().reset(when);
        }
    }

    /// Turns a pending poll into an error once the time is up; progress restarts the timer. With an answer that is not read for too long there is no progress:
    /// whatever a client sends, and gets for that, it may do so for ever.
    fn bound<T>(&mut self, poll: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let began = self.stage != Stage::Begun && self.begun.load(Ordering::Acquire);
        if began {
            self.stage = Stage::Begun;
            self.until_begun = None;
        }
        if self.stage == Stage::Begun && (began || poll.is_ready()) {
            self.set_alarm(self.times.idle);
        }
        if poll.is_ready() {
            let is_late = self.place.usage.unread.is_older_than(self.times.unread);
            return if is_late { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { poll };
        }
        ready!(self.alarm.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.stage == Stage::Silent && poll.is_ready() {
            self.stage = Stage::Head;
            let first = self.times.first;
            self.set_alarm(first);
        }
        if poll.is_ready() {
            self.place.usage.note_read(Instant::now());
        } else if self.place.usage.ends(context) {
            // The end of what is read. The other end of the connection is closed then, since no request is under way, and no answer is being written.
            return Poll::Ready(Ok(()));
        }
        self.bound(poll, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(poll, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bound(poll, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush without pending data is no progress, so it does not restart the timer.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.bound(Poll::Pending, context),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(poll, context)
    }
}
