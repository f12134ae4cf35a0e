//! The server: the two webhooks over TLS, probes and metrics over plain HTTP, limits on everything, and a graceful
//! shutdown.
//!
//! The module does not know what a gate decides. It owns sockets and timeouts: every wait is bounded here or
//! passed down as a budget.

mod answers;
mod connection;
mod pace;
mod page;
mod places;
mod probes;
mod routes;
mod serving;
mod shutdown;
mod tls;
mod under_way;

pub use page::{PageAnswer, PageHandler};
pub use routes::UNREAD_BYTES;
pub use serving::Server;
pub use shutdown::{Signals, Trigger};

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::certs;
use crate::otlp::SpanContext;
use crate::review::{Reply, Webhook};

/// An event of the server that the gate may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A connection was closed before its handshake, because too many were open for too long, in total or from this peer, or too many waited for their end.
    ConnectionRefused,
    /// A TLS handshake failed or took too long; often a client that does not trust the certificate.
    HandshakeFailed,
    /// The server itself refused a request, with this HTTP status.
    RequestRefused(u16),
    /// The server switched to a new certificate.
    CertificateReplaced,
    /// A new certificate cannot be used, so the server still uses the old one.
    CertificateRefused,
}

/// A line of `/readyz?verbose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it should be.
    pub is_ok: bool,
    /// How it is.
    pub text: String,
}

/// A request to a webhook.
#[derive(Debug)]
pub struct Call {
    /// The webhook.
    pub webhook: Webhook,
    /// The bytes of the AdmissionReview.
    pub body: Bytes,
    /// How long the answer may take.
    pub budget: Duration,
    /// The span of the API server's request, if it says one.
    pub parent: Option<SpanContext>,
}

/// A review whose body has more bytes than [`ServerOptions::body_limit`], so that no more than its beginning was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeReview {
    /// The webhook.
    pub webhook: Webhook,
    /// The uid of the review.
    pub uid: String,
    /// How many bytes its body has, or says that it has.
    pub bytes: usize,
    /// How many it may have.
    pub limit: usize,
    /// The span of the API server's request, if it says one.
    pub parent: Option<SpanContext>,
}

/// A review that was begun.
pub enum Begun {
    /// Its answer.
    Answered(Reply),
    /// What is left to do, and ends with the answer.
    Goes(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// The gate behind the server.
pub trait AdmissionHandler: Send + Sync + 'static {
    /// Answers one review within its budget with the bytes of an AdmissionReview, even if the body is none. A review that others leave no time becomes an
    /// HTTP 503, and a panic an HTTP 500, to which the API server applies the webhook's failurePolicy.
    fn answer(&self, call: Call) -> impl Future<Output = Reply> + Send;

    /// Begins to answer a review with a small body, on the thread that read it. What takes longer than to read the body is left: then the
    /// rest is the same as [`Self::answer`], on a task of its own.
    fn begin(self: &Arc<Self>, call: Call) -> Begun {
        let gate = Arc::clone(self);
        Begun::Goes(Box::pin(async move { gate.answer(call).await }))
    }

    /// Answers a review that is too large to be read with the bytes of an AdmissionReview, since neither a retry nor another replica can help.
    fn too_large(&self, review: LargeReview) -> Vec<u8>;

    /// Whether reviews can be answered; the error says why not, in one line.
    fn ready(&self) -> Result<(), String>;

    /// What `/readyz?verbose` lists. None of it decides whether the gate is ready.
    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    /// All metrics in the `OpenMetrics` text format.
    fn metrics(&self) -> String;

    /// Called for every [`Event`].
    fn observe(&self, _event: Event) {}
}

/// How to serve. The defaults suit a webhook with `timeoutSeconds: 10`.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Address of the webhooks, with TLS.
    pub address: SocketAddr,
    /// Address of probes and metrics, over plain HTTP.
    pub probes: SocketAddr,
    /// PEM chain of the serving certificate; read again every [`ServerOptions::reload_every`].
    pub cert: PathBuf,
    /// PEM key of that certificate.
    pub key: PathBuf,
    /// PEM certificates of the CAs of client certificates: callers of the webhooks must show one that they signed. Read
    /// again with the serving certificate. Without it any client may call.
    pub client_ca: Option<PathBuf>,
    /// How often the certificate files are compared with the certificate in use.
    pub reload_every: Duration,
    /// Time limit for the TLS handshake, then for the first byte of a request, and then for the rest of the first
    /// request head.
    pub handshake_timeout: Duration,
    /// How long a connection may be idle between requests. Longer than the
    /// 90 s after which the API server itself closes an idle connection
    /// (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/net/http.go`), so that no request hits a closing one.
    pub idle_timeout: Duration,
    /// Time limit for reading a request body.
    pub body_timeout: Duration,
    /// Largest request body, in bytes. The API server takes objects up to 3 MiB
    /// (`kubernetes:staging/src/k8s.io/apiserver/pkg/server/config.go`); a review carries two, and the envelope.
    pub body_limit: usize,
    /// Time limit for a review, unless the request asks for less with `?timeout=`.
    pub budget: Duration,
    /// Part of `?timeout=` that is reserved for the response to reach the API server.
    pub margin: Duration,
    /// Most connections at a time. Further ones, up to as many again, wait for a place, and are closed where they get none in time. An eighth of these places, and of
    /// those to wait, is for peers that have less than one in 32. Probes, and the page, have no more than 128 and 64 of their own.
    pub connections: usize,
    /// Most connections of one peer address at a time; the same goes for further ones. An API server speaks HTTP/1.1 with webhooks,
    /// unless their URL is one of its own host (`kubernetes:staging/src/k8s.io/apiserver/pkg/util/webhook/client.go`, `NextProtos` and `isLocalHost`), so each review that it has at a time has a connection of its own: 600 with
    /// its default limits (`--max-requests-inflight` and `--max-mutating-requests-inflight`). It gets as many as there are places for reviews and half of that on
    /// top. Beside one such peer others find a quarter of all; beside two, those that have few find what is kept for them.
    pub connections_per_peer: usize,
    /// How long a connection waits for a place before its handshake. What has been idle for a second makes place for it meanwhile. Its first request has so much less
    /// time, but half of its own at least.
    pub connection_wait: Duration,
    /// Most reviews at a time; further ones wait within their budgets, in the order of arrival until the time of the oldest is nearly over: then
    /// they are more than can be answered in time, and the newest comes first.
    pub reviews: usize,
    /// Most bodies over 256 KiB at a time, and half of them of one peer, which limits their memory to this many times
    /// [`ServerOptions::body_limit`].
    pub large_bodies: usize,
    /// Most bytes of all other bodies at a time, by the lengths that they declare, and a quarter of it for one peer. What comes
    /// beside them is not read until there is space, within its budget. It waits in the order of arrival until the time of the oldest is nearly over; then the
    /// newest comes first, and what waits behind it may be refused though it could still have been answered.
    pub small_bodies: usize,
    /// Most bytes of all answers that their clients have not read yet, and a quarter of it for one peer. An answer beyond them becomes an HTTP 503.
    pub unread_answers: usize,
    /// How long a client may leave an answer unread: a connection on which it still sends is closed then, however much it sends, and a silent one when it has been
    /// idle for too long. No API server waits for an answer for longer than 30 s.
    pub unread_timeout: Duration,
    /// How long the server keeps serving after it reports that it is not ready, until no client is sent here any more.
    pub pause: Duration,
    /// Time limit for requests in flight after the pause.
    pub drain: Duration,
}

impl ServerOptions {
    /// Default settings for a certificate: port 8443 for the webhooks, 8080 for probes and metrics, on all addresses.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            address: SocketAddr::from(([0; 8], 8443)),
            probes: SocketAddr::from(([0; 8], 8080)),
            cert: cert.into(),
            key: key.into(),
            client_ca: None,
            reload_every: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            body_timeout: Duration::from_secs(5),
            body_limit: 7 << 20,
            budget: Duration::from_secs(8),
            margin: Duration::from_millis(300),
            connections: 1024,
            connections_per_peer: 768,
            connection_wait: Duration::from_secs(5),
            reviews: 512,
            large_bodies: 8,
            small_bodies: 128 << 20,
            unread_answers: 32 << 20,
            unread_timeout: Duration::from_secs(30),
            pause: Duration::from_secs(2),
            drain: Duration::from_secs(20),
        }
    }
}

/// Why the server could not start or did not shut down cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be bound.
    #[error("could not listen on `{address}`: {}", advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The certificate cannot be read.
    #[error("could not load the serving certificate")]
    LoadCertificate(#[from] certs::Error),
    /// The certificate cannot be served.
    #[error("could not serve the certificate `{}`; check its key type and its contents", cert.display())]
    UseCertificate {
        /// The certificate file.
        cert: PathBuf,
        /// The TLS library's error.
        source: rustls::Error,
    },
    /// The CAs of clients cannot be read or used.
    #[error("could not use `{}`, the file of `server.clientCaFile`: {problem}; it must hold the PEM `CERTIFICATE` blocks of the CAs that sign clients", file.display())]
    LoadClientCas {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Signals cannot be caught.
    #[error("could not install the signal handlers")]
    CatchSignals(#[source] io::Error),
    /// A listener ended without a signal.
    #[error("could not go on serving: a listener ended by itself")]
    Serve(#[source] io::Error),
    /// A second signal ended the drain.
    #[error("aborted by a second signal while requests were in flight")]
    Abort,
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another port".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege; choose a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose one of its own or `0.0.0.0`".to_owned()
        }
        _ => format!("{error}; choose another address"),
    }
}
