//! One connection: counted, without Nagle's delay, and closed when nothing moves on it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::shutdown::Phase;
use super::{Event, Gate, Options};

/// An acceptor that takes so many connections and no more.
#[derive(Debug)]
pub(super) struct Bounded<A, G> {
    inner: A,
    places: Arc<Semaphore>,
    first_byte: Duration,
    idle: Duration,
    phase: Phase,
    gate: Arc<G>,
}

impl<A: Clone, G> Clone for Bounded<A, G> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            places: self.places.clone(),
            first_byte: self.first_byte,
            idle: self.idle,
            phase: self.phase.clone(),
            gate: self.gate.clone(),
        }
    }
}

impl<A, G> Bounded<A, G> {
    pub(super) fn new(inner: A, options: &Options, phase: &Phase, gate: Arc<G>) -> Self {
        Self {
            inner,
            places: Options::semaphore(options.connections),
            first_byte: options.handshake_timeout,
            idle: options.idle(),
            phase: phase.clone(),
            gate,
        }
    }
}

impl<A, G, S> Accept<TcpStream, S> for Bounded<A, G>
where
    G: Gate,
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Timed<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.gate.observe(Event::ConnectionRefused);
            tracing::warn!("a connection was closed at once: too many are open");
            return Box::pin(std::future::ready(Err(io::Error::other("too many connections"))));
        };
        // Without it an answer may wait for the peer's delayed acknowledgement; a failure costs only that.
        let _ = stream.set_nodelay(true);
        let (first_byte, idle) = (self.first_byte, self.idle);
        let (gate, phase) = (self.gate.clone(), self.phase.clone());
        let handshake = self.inner.accept(stream, service);
        Box::pin(async move {
            let done = tokio::select! {
                done = handshake => done,
                () = phase.closed() => Err(io::Error::other("shutting down")),
            };
            let (stream, service) = done.inspect_err(|error| {
                gate.observe(Event::HandshakeFailed);
                tracing::debug!(%error, "a handshake failed");
            })?;
            Ok((Timed::new(stream, first_byte, idle, place), service))
        })
    }
}

/// A stream that ends with an error when nothing is read or written for too long. It holds the connection's place
/// among the others.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Timed<S> {
    fn new(stream: S, first_byte: Duration, idle: Duration, place: OwnedSemaphorePermit) -> Self {
        Self { stream, idle, alarm: Box::pin(sleep(first_byte)), _place: place }
    }

    /// Something moved: the time starts again.
    fn rewind(&mut self) {
        if let Some(when) = Instant::now().checked_add(self.idle) {
            self.alarm.as_mut().reset(when);
        }
    }

    /// Turns a wait into an error once the time is up.
    fn bound<T>(&mut self, poll: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.rewind();
            return poll;
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
        // A flush that has nothing to do is no movement, so it does not rewind.
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
