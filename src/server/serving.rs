//! The listeners: from bound sockets to the end of the drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::answers::Answers;
use super::connection::Bounded;
use super::shutdown::{Phase, Signals};
use super::{AdmissionHandler, Error, PageHandler, ServerOptions, page, probes, routes, shutdown, tls};

/// A server with bound sockets and a loaded certificate, which does not serve yet.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    tls: RustlsConfig,
    main: TcpListener,
    side: TcpListener,
    address: SocketAddr,
    probes: SocketAddr,
    page: Option<Page>,
}

/// The page for people, if there is one.
struct Page {
    listener: TcpListener,
    address: SocketAddr,
    tls: RustlsConfig,
    handler: Arc<dyn PageHandler>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Most connections of readers of the page at a time, and of one address: behind a proxy all have the same.
const READERS: usize = 64;
/// See [`READERS`].
const READERS_PER_PEER: usize = 32;

/// Most streams of a connection of HTTP/2 at a time. Not fewer than the hundred that Go's client opens before it knows
/// (`golang/net:http2/transport.go`, `initialMaxConcurrentStreams`).
const STREAMS: u32 = 128;
/// The same of a connection for probes and metrics, of which a client needs one: the kubelet and Prometheus speak HTTP/1.1 there.
const PROBE_STREAMS: u32 = 4;
/// Bytes that a client may send on a stream before they are read. A usual review takes a few of these, each with the answer that more may
/// come (RFC 9113, 6.9). Larger ones would make it faster, and a connection hold more.
const STREAM_WINDOW: u32 = 8 << 10;
/// The same of all streams of a connection together. It is enough for all of them: bodies that wait for their turn, however many, leave
/// one that is read its window.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// The running listeners; dropping it stops them.
type Listeners = JoinSet<io::Result<()>>;

impl Server {
    /// Loads the certificate and binds both addresses, so that errors show before the gate reports that it is ready.
    pub async fn bind(options: ServerOptions) -> Result<Self, Error> {
        let tls = RustlsConfig::from_config(tls::Files::of(&options).configure()?);
        let (main, address) = listen(options.address).await?;
        let (side, probes) = listen(options.probes).await?;
        Ok(Self { options, tls, main, side, address, probes, page: None })
    }

    /// Also serves a page for people, at this address and with the same certificate. No client has to show a certificate there.
    pub async fn with_page(
        mut self,
        address: SocketAddr,
        handler: Arc<dyn PageHandler>,
    ) -> Result<Self, Error> {
        let tls = RustlsConfig::from_config(tls::Files::for_any_client(&self.options).configure()?);
        let (listener, address) = listen(address).await?;
        self.page = Some(Page { listener, address, tls, handler });
        Ok(self)
    }

    /// The bound address of the page, if there is one.
    pub fn page_address(&self) -> Option<SocketAddr> {
        self.page.as_ref().map(|page| page.address)
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
        // Metrics, which any pod may ask for, take nothing of what the webhooks answer with.
        let of_probes = options.unread_answers / 16;
        let answers = Arc::new(Answers::in_bytes(options.unread_answers.saturating_sub(of_probes)));
        let mut certificate = tls::Follow::new(&options, self.tls.clone());
        if let Some(page) = self.page {
            certificate = certificate.and(tls::Files::for_any_client(&options), page.tls.clone());
            page.spawn(&mut listeners, &options, phase, gate);
        }
        let router = routes::router(gate.clone(), options.clone(), answers)
            .layer(from_fn_with_state(phase.clone(), shutdown::last_of_its_connection));
        let secure = RustlsAcceptor::new(self.tls).handshake_timeout(options.handshake_timeout);
        let acceptor = Bounded::new(secure, &options, phase, gate.clone());
        let mut server =
            axum_server::Server::from_listener(self.main).acceptor(acceptor).handle(main.clone());
        limit_http(&mut server, &options);
        listeners.spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));

        let answers = Arc::new(Answers::in_bytes(of_probes));
        let router = probes::router(gate.clone(), phase.clone(), certificate.problem(), answers);
        let acceptor = Bounded::new(DefaultAcceptor::new(), &options, &Phase::default(), gate.clone());
        let mut server = axum_server::Server::from_listener(self.side).acceptor(acceptor);
        limit_http(&mut server, &options);
        server.http_builder().http2().max_concurrent_streams(PROBE_STREAMS);
        listeners.spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));

        listeners.spawn(certificate.run(gate.clone()));
        listeners
    }
}

impl Page {
    fn spawn<G: AdmissionHandler>(
        self,
        listeners: &mut Listeners,
        options: &ServerOptions,
        phase: &Phase,
        gate: &Arc<G>,
    ) {
        let fewer =
            ServerOptions { connections: READERS, connections_per_peer: READERS_PER_PEER, ..options.clone() };
        let secure = RustlsAcceptor::new(self.tls).handshake_timeout(options.handshake_timeout);
        let acceptor = Bounded::new(secure, &fewer, phase, gate.clone());
        let mut server = axum_server::Server::from_listener(self.listener).acceptor(acceptor);
        limit_http(&mut server, options);
        let router = page::router(self.handler);
        listeners.spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));
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
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    http2.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
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
