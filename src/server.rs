//! The server: the two webhooks over TLS, probes and metrics over plain HTTP, limits on everything, and a graceful
//! shutdown.
//!
//! The module does not know what a gate decides. It owns sockets and timeouts: every wait is bounded here or
//! passed down as a budget.

mod connection;
mod probes;
mod routes;
mod shutdown;
mod tls;

pub use shutdown::{Signals, Trigger};

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use bytes::Bytes;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::certs;
use crate::review::Webhook;

use connection::Bounded;
use shutdown::Phase;

/// An event of the server that the gate may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A connection was closed at once, because too many are open: in total, or from this peer.
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

/// The gate behind the server.
pub trait AdmissionHandler: Send + Sync + 'static {
    /// Answers one review within `budget` with the bytes of an AdmissionReview, even if the body is none. A panic
    /// becomes an HTTP 500, to which the API server applies the webhook's failurePolicy.
    fn answer(&self, webhook: Webhook, body: Bytes, budget: Duration)
    -> impl Future<Output = Vec<u8>> + Send;

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
    /// Most connections at a time; further ones are closed at once.
    pub connections: usize,
    /// Most connections of one peer address at a time; further ones are closed at once. An API server multiplexes its
    /// reviews over few connections, so a quarter of all is enough for it, and other peers cannot use up the rest.
    pub connections_per_peer: usize,
    /// Most reviews at a time; further ones wait within their budgets.
    pub reviews: usize,
    /// Most bodies over 256 KiB at a time, which limits their memory to this many times [`ServerOptions::body_limit`].
    pub large_bodies: usize,
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
            connections_per_peer: 256,
            reviews: 512,
            large_bodies: 16,
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

/// A server with bound sockets and a loaded certificate, which does not serve yet.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    tls: RustlsConfig,
    main: TcpListener,
    side: TcpListener,
    address: SocketAddr,
    probes: SocketAddr,
}

/// The running listeners; dropping it stops them.
type Listeners = JoinSet<io::Result<()>>;

impl Server {
    /// Loads the certificate and binds both addresses, so that errors show before the gate reports that it is ready.
    pub async fn bind(options: ServerOptions) -> Result<Self, Error> {
        let tls = RustlsConfig::from_config(tls::Files::of(&options).configure()?);
        let (main, address) = listen(options.address).await?;
        let (side, probes) = listen(options.probes).await?;
        Ok(Self { options, tls, main, side, address, probes })
    }

    /// The bound address of the webhooks; with the actual port if port 0 was requested.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bound address of probes and metrics.
    pub const fn probes_address(&self) -> SocketAddr {
        self.probes
    }

    /// Serves until the first signal, then reports that it is not ready, pauses, drains and returns. On a second signal
    /// it returns [`Error::Abort`] at once.
    pub async fn run<G: AdmissionHandler>(self, gate: Arc<G>, mut signals: Signals) -> Result<(), Error> {
        let phase = Phase::default();
        let main = Handle::new();
        let (pause, drain) = (self.options.pause, self.options.drain);
        let mut listeners = self.spawn(&gate, &phase, &main);
        tokio::select! {
            () = signals.next() => {}
            ended = listeners.join_next() => return Err(Error::Serve(unexpected(ended))),
        }
        phase.end_readiness();
        tracing::info!(pause_ms = pause.as_millis(), "shutting down: not ready any more");
        tokio::select! {
            () = wind_down(&main, &mut listeners, &phase, pause, drain) => {}
            () = signals.next() => {
                phase.close();
                main.shutdown();
                return Err(Error::Abort);
            }
        }
        tracing::info!("shut down");
        Ok(())
    }

    fn spawn<G: AdmissionHandler>(
        self,
        gate: &Arc<G>,
        phase: &Phase,
        main: &Handle<SocketAddr>,
    ) -> Listeners {
        let mut listeners = JoinSet::new();
        let options = Arc::new(self.options);
        let certificate = tls::Follow::new(&options, self.tls.clone());
        let router = routes::router(gate.clone(), options.clone());
        let secure = RustlsAcceptor::new(self.tls).handshake_timeout(options.handshake_timeout);
        let acceptor = Bounded::new(secure, &options, phase, gate.clone());
        let mut server =
            axum_server::Server::from_listener(self.main).acceptor(acceptor).handle(main.clone());
        limit_http(&mut server, &options);
        listeners.spawn(server.serve(router.into_make_service()));

        let router = probes::router(gate.clone(), phase.clone(), certificate.problem());
        let acceptor = Bounded::new(DefaultAcceptor::new(), &options, &Phase::default(), gate.clone());
        let mut server = axum_server::Server::from_listener(self.side).acceptor(acceptor);
        limit_http(&mut server, &options);
        listeners.spawn(server.serve(router.into_make_service()));

        listeners.spawn(certificate.run(gate.clone()));
        listeners
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn limit_http<A>(server: &mut axum_server::Server<SocketAddr, A>, options: &ServerOptions) {
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.idle());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(128);
}

impl ServerOptions {
    /// The idle timeout, but long enough that it does not close a connection while a review is being answered.
    fn idle(&self) -> Duration {
        self.idle_timeout.max(self.body_timeout.max(self.budget) + routes::GRACE * 2)
    }

    fn semaphore(permits: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)))
    }
}

/// Pauses, closes the webhook listener, and waits for the requests in flight. Probes work until the caller drops the
/// listeners.
async fn wind_down(
    main: &Handle<SocketAddr>,
    listeners: &mut Listeners,
    phase: &Phase,
    pause: Duration,
    drain: Duration,
) {
    sleep(pause).await;
    // A connection in its handshake carries no request.
    phase.close();
    let started = Instant::now();
    tracing::info!(connections = main.connection_count(), "draining");
    main.graceful_shutdown(Some(drain));
    // Only the webhook listener ends.
    let _ = listeners.join_next().await;
    if started.elapsed() >= drain {
        tracing::warn!(
            drain_ms = drain.as_millis(),
            "requests were still in flight after the drain and were cut off"
        );
    }
}

fn unexpected(ended: Option<Result<io::Result<()>, tokio::task::JoinError>>) -> io::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => io::Error::other(error),
        Some(Ok(Ok(()))) | None => io::Error::other("it returned"),
    }
}
