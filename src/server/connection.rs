//! Connections: limits on their number, no Nagle delay, and timeouts when nothing is read or written, or an answer stays unread.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Request;
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use super::answers::Unread;
use super::shutdown::Phase;
use super::{AdmissionHandler, Event, ServerOptions, under_way};

/// An acceptor that limits connections in total and per peer.
#[derive(Debug)]
pub(super) struct Bounded<A, G> {
    inner: A,
    places: Arc<Semaphore>,
    peers: Arc<Peers>,
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
            peers: self.peers.clone(),
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
            places: ServerOptions::semaphore(options.connections),
            peers: Arc::new(Peers { most: options.connections_per_peer.max(1), held: Mutex::default() }),
            times: Times {
                first: options.handshake_timeout,
                idle: options.idle(),
                unread: options.unread_timeout,
            },
            phase: phase.clone(),
            gate,
        }
    }
}

impl ServerOptions {
    /// The idle timeout, but long enough that it does not close a connection while a review is being answered.
    pub(super) fn idle(&self) -> Duration {
        self.idle_timeout.max(self.body_timeout.max(self.budget) + under_way::GRACE * 2)
    }
}

impl<A, G: AdmissionHandler> Bounded<A, G> {
    /// A place for this connection, or why there is none.
    fn place(&self, stream: &TcpStream) -> io::Result<ConnectionSlot> {
        let peer = stream.peer_addr()?.ip().to_canonical();
        let refused = |said: bool| {
            self.gate.observe(Event::ConnectionRefused);
            if !said {
                tracing::warn!(%peer, "closed a connection at once: too many are open");
            }
            io::Error::other("too many connections")
        };
        // The peer's share first: a peer over its share must not take a place of another one, not even for a moment.
        let share = Peers::take(&self.peers, peer).map_err(|full| refused(full.said))?;
        let all = self.places.clone().try_acquire_owned().map_err(|_| refused(false))?;
        Ok(ConnectionSlot { _share: share, _all: all })
    }
}

impl<A, G, S> Accept<TcpStream, S> for Bounded<A, G>
where
    G: AdmissionHandler,
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Timed<A::Stream>;
    type Service = Begun<A::Service>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = match self.place(&stream) {
            Ok(place) => place,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        // Without TCP_NODELAY a response may wait for the peer's delayed acknowledgement; a failure here costs only that.
        let _ = stream.set_nodelay(true);
        let times = self.times;
        let (gate, phase) = (self.gate.clone(), self.phase.clone());
        let handshake = self.inner.accept(stream, service);
        Box::pin(async move {
            let done = tokio::select! {
                done = handshake => done,
                () = phase.closed() => Err(io::Error::other("shutting down")),
            };
            let (stream, service) = done.inspect_err(|error| {
                gate.observe(Event::HandshakeFailed);
                tracing::debug!(%error, "a TLS handshake failed");
            })?;
            let begun = Arc::new(AtomicBool::new(false));
            let unread = Unread::default();
            let service = Begun { service, is_called: begun.clone(), unread: unread.clone() };
            Ok((Timed::new(stream, times, begun, unread, place), service))
        })
    }
}

// === places ===

/// The place of one connection in the total and in its peer's share; dropping it frees both.
#[derive(Debug)]
struct ConnectionSlot {
    _share: Share,
    _all: OwnedSemaphorePermit,
}

/// Number of open connections per peer. A peer is a full IPv6 address: a pod has one, and the pods of a node share a
/// prefix but are different peers.
#[derive(Debug)]
struct Peers {
    most: usize,
    held: Mutex<HashMap<IpAddr, Held>>,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    /// Whether the log already says that this peer is over its share. Logged once until it has closed all connections,
    /// since a peer that keeps trying would fill the log.
    said: bool,
}

/// A peer has no place left.
struct Full {
    said: bool,
}

impl Peers {
    fn take(peers: &Arc<Self>, peer: IpAddr) -> Result<Share, Full> {
        let mut held = peers.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(peer).or_default();
        if own.connections >= peers.most {
            return Err(Full { said: std::mem::replace(&mut own.said, true) });
        }
        own.connections += 1;
        Ok(Share { peers: peers.clone(), peer })
    }
}

/// One connection of a peer's share; dropping it gives it back.
#[derive(Debug)]
struct Share {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.peers.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = held.entry(self.peer) {
            own.get_mut().connections = own.get().connections.saturating_sub(1);
            if own.get().connections == 0 {
                own.remove();
            }
        }
    }
}

// === time ===

/// A service that notes its first call, which is when the first request head is complete, and tells each request which answers of its connection are unread.
#[derive(Debug, Clone)]
pub(super) struct Begun<S> {
    service: S,
    is_called: Arc<AtomicBool>,
    unread: Unread,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Begun<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        self.is_called.store(true, Ordering::Release);
        request.extensions_mut().insert(self.unread.clone());
        self.service.call(request)
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
    unread: Unread,
    alarm: Pin<Box<Sleep>>,
    _place: ConnectionSlot,
}

impl<S> Timed<S> {
    fn new(stream: S, times: Times, begun: Arc<AtomicBool>, unread: Unread, place: ConnectionSlot) -> Self {
        let alarm = Box::pin(sleep(times.first));
        Self { stream, times, stage: Stage::Silent, begun, unread, alarm, _place: place }
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
        }
        if began || (self.stage == Stage::Begun && poll.is_ready()) {
            self.set_alarm(self.times.idle);
        }
        if poll.is_ready() {
            let is_late = self.unread.is_older_than(self.times.unread);
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
