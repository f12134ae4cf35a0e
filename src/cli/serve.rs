//! `wasmgate serve`: serves the two webhooks.

mod cluster;
mod log;
mod overrides;
mod page;
mod place;
mod reload;
mod scans;
mod served;
mod supply;
mod writers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use overrides::overrides;
use page::ReportPage;
use place::{instance, own_namespace};
use reload::Reloader;
use scans::Scans;
use served::Expiry;

pub use scans::LARGEST_PAGE;
pub use served::Served;

use super::args::ServeOptions;
use super::{Error, Exit, build};
use crate::access::{self, Access, AccessOptions};
use crate::admission::Gate;
use crate::audit::{DecisionLogOptions, Labels, Metrics, Outbox, Refusals, Sink};
use crate::certs;
use crate::config::Settings;
use crate::otlp::{Exporter, Tracer};
use crate::register::{self, Registration};
use crate::server::{self, Server, Signals};
use crate::sources::InForce;
use crate::upload::{SpoolWriter, Uploader};
use crate::watch;

/// Longest time to write the last records at shutdown.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// How often the serving certificate's expiry is read again.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether instances of policies have waited too long for an evaluation.
const UNUSED_INTERVAL: Duration = Duration::from_secs(5);

/// Open files that the gate asks for at least. A container runtime may give a process no more than 1024 at first.
const OPEN_FILES: u64 = 8192;

/// Of these, what the gate opens beside the connections of its ports.
const OTHER_FILES: u64 = 256;

/// Serves until a signal stops it.
pub async fn run(options: Box<ServeOptions>) -> Result<Exit, Error> {
    log::start(options.log_format);
    let read = reload::version(&options);
    let settings = build::settings_with(&options.gate, overrides(&options))?;
    // Before they are read, so that a later change is seen as one.
    let keys = reload::of_keys(&settings);
    let metrics = Arc::new(Metrics::new());
    let (sink, uploader) = decision_log(&settings.file.decision_log, &metrics)?;
    let client = client(&settings).await?;
    let mut registration = register(&settings, client.as_ref(), &metrics)?;
    let watching = cluster::prepare(&settings, client.as_ref());
    let in_force = InForce::default();
    let loading = Box::pin(supply::start(&settings, &in_force));
    let awaited = certificate(&settings, registration.as_mut());
    let opening = async { build::serving_inspector(&settings) };
    let ((policies, supply), (cert, key), inspector) = tokio::try_join!(loading, awaited, opening)?;
    let state = cluster::before_the_first_snapshot(
        build::state_with(&settings, policies.into())?,
        watching.is_some(),
    );
    let labels = Labels::new(&instance(), &settings.file.decision_log.labels);
    let inspector = cluster::with_pull_secrets(inspector, watching.as_ref());
    inspector.warm().await;
    let events = events(&settings, client.as_ref(), &metrics);
    let refusals = refusals(&settings);
    let (tracer, exporting) = traces(&settings, &labels);
    let gate = Gate::new(state, inspector, sink, Arc::clone(&metrics), labels)
        .with_events(events)
        .with_tracer(tracer);
    let gate = Arc::new(gate.with_refusals(refusals.clone()));
    let upkeep = tokio::spawn(upkeep(Arc::clone(&gate)));
    let uploading = uploader.clone().map(|uploader| tokio::spawn(async move { uploader.run().await }));
    let certificate = Expiry::default();
    let expiry =
        tokio::spawn(watch_expiry(Arc::clone(&gate), certificate.clone(), cert.clone(), key.clone()));
    let reload_every = registration.as_ref().map(Registration::reload_every);
    let bundles = supply.follow(&gate, in_force).await?;
    let (is_watched, of) = (watching.is_some(), settings.clone());
    let reloader =
        Reloader::new(options, of, Arc::clone(&gate), Arc::clone(&bundles), is_watched, (read, keys));
    let watched = cluster::start(&gate, certificate, watching, (bundles, reloader.configuration()));
    let told = (&metrics, watched.is_synced());
    let writing = writers::start(&settings, client.as_ref(), registration.as_ref(), &gate, told)?;
    let reloading = tokio::spawn(reloader.run());
    let watched = Arc::new(watched);
    let page = page(&settings, client, refusals, &gate, &watched);
    let served = serve(&settings, (cert, key), reload_every, watched, page).await;
    for task in [upkeep, expiry, reloading] {
        task.abort();
    }
    // No write to the cluster is under way when the Lease is released.
    if let Some(writing) = writing {
        writing.close().await;
    }
    if let Some(registration) = registration {
        registration.close().await;
    }
    flush(gate, uploader.zip(uploading), exporting).await;
    served.map(|()| Exit::Success)
}

/// Raises the limit of open files as far as this process may. The options get no more connections than that limit has space for.
fn within_open_files(options: server::ServerOptions) -> server::ServerOptions {
    let wanted = wanted(&options);
    if let Some(raised) = raised(getrlimit(Resource::Nofile), wanted)
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let Some(limit) = getrlimit(Resource::Nofile).current else { return options };
    let before = options.connections;
    let left = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    let options = options.within_open_files(left);
    let connections = options.connections;
    if connections < before {
        tracing::warn!(
            limit,
            connections,
            "fewer connections, since the limit of open files is too low for more"
        );
    }
    options
}

/// Open files for these options.
fn wanted(options: &server::ServerOptions) -> u64 {
    let connections = u64::try_from(options.open_files()).unwrap_or(u64::MAX);
    OPEN_FILES.max(connections.saturating_add(OTHER_FILES))
}

/// The limit to set, if that in force is lower than what is wanted and may be raised.
fn raised(limit: Rlimit, wanted: u64) -> Option<Rlimit> {
    let wanted = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let is_lower = limit.current.is_some_and(|current| current < wanted);
    is_lower.then_some(Rlimit { current: Some(wanted), ..limit })
}

/// Writes and sends the last records and spans, even if the listeners failed. A loss is logged and does not change the exit code.
async fn flush<T>(
    gate: Arc<Gate>,
    upload: Option<(Arc<Uploader>, JoinHandle<T>)>,
    exporting: Option<JoinHandle<()>>,
) {
    if let Some(tracer) = gate.tracer() {
        tracer.close();
    }
    let flushed = tokio::task::spawn_blocking(move || gate.sink().close(FLUSH_DEADLINE)).await;
    if let Ok(Err(error)) = flushed {
        tracing::error!(%error, "lost records");
    }
    if let Some((uploader, uploading)) = upload {
        uploading.abort();
        // Not before it has stopped: what it is sending would be sent again.
        let _ = uploading.await;
        uploader.finish(FLUSH_DEADLINE).await;
    }
    if let Some(exporting) = exporting {
        // What has not been sent by then is lost.
        let _ = tokio::time::timeout(FLUSH_DEADLINE, exporting).await;
    }
}

/// The decision log, and what sends it to a collector, if there is one.
fn decision_log(
    options: &DecisionLogOptions,
    metrics: &Metrics,
) -> Result<(Sink, Option<Arc<Uploader>>), Error> {
    let Some(upload) = &options.upload else { return Ok((Sink::open(options, metrics.drops())?, None)) };
    let spool = SpoolWriter::open(upload, metrics.drops())?;
    let uploader = Uploader::new(upload.clone(), spool.spool(), metrics.drops(), metrics.backlog());
    let sink = Sink::open_with(options, metrics.drops(), Some(Box::new(spool)))?;
    Ok((sink, Some(Arc::new(uploader))))
}

/// What takes the spans of reviews, if they are traced, and the task that sends them.
fn traces(settings: &Settings, labels: &Labels) -> (Option<Tracer>, Option<JoinHandle<()>>) {
    let Some(options) = settings.file.tracing.clone() else { return (None, None) };
    let (tracer, exporter) = Exporter::new(options, labels.iter());
    (Some(tracer), Some(tokio::spawn(exporter.run())))
}

/// What goes on beside reviews as long as the gate serves.
async fn upkeep(gate: Arc<Gate>) {
    tokio::join!(reopen_on_hangup(Arc::clone(&gate)), end_unused_instances(gate));
}

/// A gate without reviews gives back what a burst of them needed.
async fn end_unused_instances(gate: Arc<Gate>) {
    loop {
        tokio::time::sleep(UNUSED_INTERVAL).await;
        gate.state().policies.end_unused_instances(Instant::now());
    }
}

/// SIGHUP reopens the decision log; log rotation sends it after moving the file away.
async fn reopen_on_hangup(gate: Arc<Gate>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        tracing::warn!("cannot catch SIGHUP, so it will not reopen the decision log");
        return;
    };
    while hangups.recv().await.is_some() {
        gate.sink().reopen();
    }
}

/// Passes the expiry of the serving certificate to metrics and readiness. Reads it repeatedly, because the files may be
/// replaced.
async fn watch_expiry(gate: Arc<Gate>, certificate: Expiry, cert: PathBuf, key: PathBuf) {
    loop {
        let expires = certs::load(&cert, &key).ok().and_then(|pair| pair.expires());
        if let Some(expiry) = expires.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            gate.metrics().set_certificate_expiry(expiry);
            certificate.set(expiry.as_second());
        }
        tokio::time::sleep(EXPIRY_INTERVAL).await;
    }
}

async fn serve(
    settings: &Settings,
    (cert, key): (PathBuf, PathBuf),
    reload_every: Option<Duration>,
    gate: Arc<impl server::AdmissionHandler>,
    page: Option<(SocketAddr, ReportPage)>,
) -> Result<(), Error> {
    let file = &settings.file.server;
    let options = server::ServerOptions::new(cert, key);
    let reviews = file.max_concurrent_reviews;
    let options = server::ServerOptions {
        reload_every: reload_every.unwrap_or(options.reload_every),
        address: file.listen,
        probes: file.probes,
        client_ca: file.client_ca_file.clone(),
        budget: settings.review_timeout,
        reviews,
        connections: options.connections.max(reviews.saturating_mul(2)),
        connections_per_peer: options.connections_per_peer.max(reviews.saturating_add(reviews / 2)),
        // Half of its time is what a review has left after that.
        connection_wait: settings.review_timeout / 2,
        pause: settings.shutdown_pause,
        drain: settings.drain_deadline,
        ..options
    };
    let mut server = Server::bind(within_open_files(options)).await?;
    if let Some((address, page)) = page {
        server = server.with_page(address, Arc::new(page)).await?;
    }
    let signals = Signals::from_process()?;
    if let Some(page) = server.page_address() {
        tracing::info!(%page, right = access::PATH, "serving the page");
    }
    tracing::info!(webhooks = %server.address(), probes = %server.probes_address(), "listening");
    Ok(server.run(gate, signals).await?)
}

/// What was refused lately, if there is a page that shows it.
fn refusals(settings: &Settings) -> Option<Refusals> {
    settings.file.server.page.listen?;
    let (refusals, records) = Refusals::new(Timestamp::now());
    tokio::spawn(refusals.clone().keep(records));
    Some(refusals)
}

/// The page and its address, if it is configured.
fn page(
    settings: &Settings,
    client: Option<Client>,
    refusals: Option<Refusals>,
    gate: &Arc<Gate>,
    served: &Arc<impl server::AdmissionHandler>,
) -> Option<(SocketAddr, ReportPage)> {
    let (client, refusals) = (client?, refusals?);
    let options = &settings.file.server.page;
    let access = AccessOptions { audiences: options.audiences.clone(), ..AccessOptions::default() };
    let served = Arc::clone(served);
    let ready = Box::new(move || served.ready());
    let scans = Scans::new(Arc::clone(gate), client.clone(), settings.page_refresh_after, ready);
    Some((options.listen?, ReportPage::new(Access::new(client, access), scans, refusals)))
}

/// A client of the API server, when anything in the configuration needs one.
async fn client(settings: &Settings) -> Result<Option<Client>, Error> {
    let kubernetes = &settings.file.kubernetes;
    // A page needs `kubernetes.watch`.
    if !(kubernetes.watch || kubernetes.certificates.manage || kubernetes.events) {
        return Ok(None);
    }
    Ok(Some(watch::connect(kubernetes.kubeconfig.as_deref()).await?))
}

/// Starts managing certificates in the cluster, if configured.
fn register(
    settings: &Settings,
    client: Option<&Client>,
    metrics: &Arc<Metrics>,
) -> Result<Option<Registration>, Error> {
    let kubernetes = &settings.file.kubernetes;
    let Some(client) = client.filter(|_| kubernetes.certificates.manage) else {
        return Ok(None);
    };
    let plan = kubernetes.plan(&own_namespace(client), &settings.file.server.cert_dir)?;
    Ok(Some(Registration::start(client, plan, &instance(), metrics)))
}

/// Starts writing Events, if configured. Events in the queue are lost when the process ends.
fn events(settings: &Settings, client: Option<&Client>, metrics: &Arc<Metrics>) -> Option<Outbox> {
    let kubernetes = &settings.file.kubernetes;
    let client = client.filter(|_| kubernetes.events)?;
    let limits = kubernetes.event_limits;
    let (outbox, records) = Outbox::new(limits.warnings, Arc::clone(metrics));
    tokio::spawn(
        register::Sender::new(client.clone(), limits, &instance(), Arc::clone(metrics)).run(records),
    );
    Some(outbox)
}

/// The serving certificate: configured files, files with the content of the cluster's Secret, or a new development
/// certificate. The Secret may have to be written first, by another replica too, and a key takes time to make, so policies are
/// compiled meanwhile.
async fn certificate(
    settings: &Settings,
    registration: Option<&mut Registration>,
) -> Result<(PathBuf, PathBuf), Error> {
    let server = &settings.file.server;
    if let Some(registration) = registration {
        return Ok(registration.certificate().await?);
    }
    if let (Some(cert), Some(key)) = (&server.cert_file, &server.key_file) {
        return Ok((cert.clone(), key.clone()));
    }
    certs::load_or_make(&server.cert_dir, &server.cert_names)?;
    let ca = server.cert_dir.join("ca.crt");
    tracing::info!(ca = %ca.display(), "serving with a development certificate");
    Ok((server.cert_dir.join("tls.crt"), server.cert_dir.join("tls.key")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_may_be_and_never_lowered() {
        let of = |current, maximum| {
            raised(Rlimit { current, maximum }, OPEN_FILES).map(|limit| (limit.current, limit.maximum))
        };
        assert_eq!(of(Some(1024), Some(524_288)), Some((Some(OPEN_FILES), Some(524_288))));
        assert_eq!(of(Some(1024), None), Some((Some(OPEN_FILES), None)));
        assert_eq!(of(Some(1024), Some(4096)), Some((Some(4096), Some(4096))));
        for enough in [(Some(1024), Some(1024)), (Some(1 << 20), Some(1 << 20)), (None, None)] {
            assert_eq!(of(enough.0, enough.1), None, "{enough:?}");
        }
    }

    #[test]
    fn more_open_files_are_asked_for_where_there_are_more_connections() {
        let options = server::ServerOptions::new("c", "k");
        assert_eq!(wanted(&options), OPEN_FILES);
        assert!(wanted(&server::ServerOptions { connections: 10_000, ..options }) > 20_000);
    }
}
