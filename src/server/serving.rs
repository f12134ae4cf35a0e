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
use tokio::time::{Instant, sleep, timeout};

use super::answers::Answers;
use super::connection::Bounded;
use super::places::Places;
use super::routes::STREAM_WINDOW;
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

/// Most connections of readers of the page at a time.
const READERS: usize = 64;
/// Most of them of one address: behind a proxy all have the same.
const READERS_PER_PEER: usize = 32;

/// Most connections for probes and metrics at a time: the kubelet and Prometheus need a few, and a kubelet that finds none restarts the gate.
const PROBES: usize = 128;
/// Most of them of one address.
const PROBES_PER_PEER: usize = 16;

/// Most streams of a connection of HTTP/2 at a time. Not fewer than the hundred that Go's client opens before it knows
/// (`golang/net:http2/transport.go`, `initialMaxConcurrentStreams`).
const STREAMS: u32 = 128;
/// Most streams at a time of a connection for probes and metrics, of which a client needs one: the kubelet and Prometheus speak HTTP/1.1 there.
const PROBE_STREAMS: u32 = 4;
/// What is sent before it is read ([`STREAM_WINDOW`]) of all streams of a connection together. It is enough for all of them: bodies that wait for their turn, however many, leave
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
        let times = ShutdownTimes::of(&self.options);
        let (mut listeners, places) = self.spawn(&gate, &phase, &main);
        tokio::select! {
            () = signals.next() => {}
            ended = listeners.join_next() => return Err(Error::Serve(unexpected(ended))),
        }
        phase.end_readiness();
        tracing::info!(pause_ms = times.pause.as_millis(), "shutting down: not ready any more");
        tokio::select! {
            () = wind_down(&main, &mut listeners, &phase, &places, times) => {}
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
    ) -> (Listeners, Arc<Places>) {
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
        let places = acceptor.places();
        let mut server =
            axum_server::Server::from_listener(self.main).acceptor(acceptor).handle(main.clone());
        limit_http(&mut server, &options);
        listeners.spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));

        let answers = Arc::new(Answers::in_bytes(of_probes));
        let router = probes::router(gate.clone(), phase.clone(), certificate.problem(), answers);
        let few = options.with_at_most(PROBES, PROBES_PER_PEER);
        let acceptor = Bounded::new(DefaultAcceptor::new(), &few, &Phase::default(), gate.clone());
        let mut server = axum_server::Server::from_listener(self.side).acceptor(acceptor);
        limit_http(&mut server, &options);
        server.http_builder().http2().max_concurrent_streams(PROBE_STREAMS);
        listeners.spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));

        listeners.spawn(certificate.run(gate.clone()));
        (listeners, places)
    }
}

impl ServerOptions {
    /// These options with no more than so many connections, and so many of a peer.
    fn with_at_most(&self, connections: usize, per_peer: usize) -> Self {
        Self {
            connections: self.connections.min(connections),
            connections_per_peer: self.connections_per_peer.min(per_peer),
            ..self.clone()
        }
    }

    /// Open files that the connections of all ports take at most, with those that wait for a place: as many again.
    pub fn open_files(&self) -> usize {
        self.connections.saturating_add(PROBES + READERS).saturating_mul(2)
    }

    /// These options with no more connections than so many open files have space for, of which one peer leaves a quarter to the others.
    #[must_use]
    pub fn within_open_files(self, files: usize) -> Self {
        let most = (files / 2).saturating_sub(PROBES + READERS).max(1);
        if self.connections <= most {
            return self;
        }
        let per_peer = self.connections_per_peer.min(most.saturating_sub(most / 4));
        Self { connections: most, connections_per_peer: per_peer, ..self }
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
        let fewer = options.with_at_most(READERS, READERS_PER_PEER);
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

/// How long the parts of a shutdown take.
#[derive(Debug, Clone, Copy)]
struct ShutdownTimes {
    pause: Duration,
    drain: Duration,
    /// For the connections that wait for a place at the end of the pause, as a part of the drain: the review of one that is cut off is lost.
    wait: Duration,
}

impl ShutdownTimes {
    fn of(options: &ServerOptions) -> Self {
        let (pause, drain) = (options.pause, options.drain);
        Self { pause, drain, wait: options.connection_wait.min(drain / 2) }
    }
}

/// Pauses, closes the webhook listener, and waits for the requests in flight. Probes work until the caller drops the
/// listeners.
async fn wind_down(
    main: &Handle<SocketAddr>,
    listeners: &mut Listeners,
    phase: &Phase,
    places: &Places,
    ShutdownTimes { pause, drain, wait }: ShutdownTimes,
) {
    sleep(pause).await;
    let started = Instant::now();
    let _ = timeout(wait, places.until_none_waits()).await;
    // A connection in its handshake carries no request.
    phase.close();
    tracing::info!(connections = main.connection_count(), "draining");
    main.graceful_shutdown(Some(drain.saturating_sub(started.elapsed())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_the_open_files_have_space_for_with_those_that_wait() {
        let options = ServerOptions::new("c", "k");
        let (connections, files) = (options.connections, options.open_files());
        assert_eq!(options.clone().within_open_files(files).connections, connections);
        for files in [files - 2, files / 2, 512] {
            let fitting = options.clone().within_open_files(files);
            assert!(fitting.connections < connections && fitting.open_files() <= files, "{files}");
            assert!(fitting.connections_per_peer < fitting.connections, "{files}");
        }
        assert_eq!(options.within_open_files(0).connections, 1, "it serves still");
    }

    #[test]
    fn probes_and_the_page_have_few_connections_and_none_of_the_webhooks() {
        let options = ServerOptions::new("c", "k");
        let few = options.with_at_most(PROBES, PROBES_PER_PEER);
        assert_eq!((few.connections, few.connections_per_peer), (PROBES, PROBES_PER_PEER));
        let fewer = ServerOptions { connections: 2, connections_per_peer: 1, ..options };
        assert_eq!(fewer.with_at_most(PROBES, PROBES_PER_PEER).connections, 2);
    }
}
