//! Signals that stop the server, and the phase of the shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::Error;

/// Requests to stop the server: the first one drains, the second aborts.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<()>);

/// Asks a server to stop, as a signal does.
#[derive(Debug, Clone)]
pub struct Trigger(mpsc::Sender<()>);

impl Signals {
    /// SIGTERM and SIGINT of this process. The handlers are installed before this returns. A process with PID 1 has no
    /// default handlers, so without these the kernel would drop the signals.
    pub fn from_process() -> Result<Self, Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::CatchSignals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::CatchSignals)?;
        let (trigger, signals) = Self::manual();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    seen = terminate.recv() => seen.map(|()| "SIGTERM"),
                    seen = interrupt.recv() => seen.map(|()| "SIGINT"),
                };
                let Some(name) = name else { return };
                tracing::info!(signal = name, "signal received");
                trigger.send().await;
            }
        });
        Ok(signals)
    }

    /// Signals that the caller sends with the trigger.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = mpsc::channel(2);
        (Trigger(sender), Self(receiver))
    }

    /// Waits for the next signal; for ever if no sender is left.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Trigger {
    /// Sends one signal. It is lost if the server has stopped.
    pub async fn send(&self) {
        let _ = self.0.send(()).await;
    }
}

/// Phase of the shutdown; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    ready: Arc<AtomicBool>,
    closed: Arc<watch::Sender<bool>>,
}

impl Default for Phase {
    fn default() -> Self {
        Self { ready: Arc::new(AtomicBool::new(true)), closed: Arc::new(watch::Sender::new(false)) }
    }
}

impl Phase {
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(super) fn end_readiness(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// From now on the server does not wait for handshakes.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) async fn closed(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

/// Ends each connection of HTTP/1.1 with its next answer from the end of readiness on. Otherwise a request may be on its way on a
/// connection that the server closes after the pause, and the API server, which speaks HTTP/1.1 with Services, does not send it again:
/// the pod is refused with `EOF` (`kubernetes:staging/src/k8s.io/apiserver/pkg/util/webhook/client.go`, `NextProtos`). HTTP/2 says
/// which requests were not begun, and its clients send those again.
pub(super) async fn last_of_its_connection(
    State(phase): State<Phase>,
    request: Request,
    next: Next,
) -> Response {
    let is_older = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if is_older && !phase.is_ready() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
