//! `wasmgate serve`: serves the two webhooks.

mod cluster;
mod log;
mod reload;
mod supply;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use reload::Reloader;

use super::args::ServeOptions;
use super::{Error, Exit, build};
use crate::admission::Gate;
use crate::audit::{DecisionLogOutput, Labels, Metrics, Outbox, Sink};
use crate::certs;
use crate::config::{Overrides, Settings};
use crate::register::{self, Registration};
use crate::review::Webhook;
use crate::server::{self, Event, Server, Signals};
use crate::watch;

/// Longest time to write the last records at shutdown.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// How often the serving certificate's expiry is read again.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// Serves until a signal stops it.
pub async fn run(options: Box<ServeOptions>) -> Result<Exit, Error> {
    log::start(options.log_format);
    let read = reload::version(&options);
    let settings = build::settings_with(&options.gate, overrides(&options))?;
    let metrics = Arc::new(Metrics::new());
    let sink = Sink::open(&settings.file.decision_log, metrics.drops())?;
    let client = client(&settings).await?;
    let mut registration = register(&settings, client.as_ref(), &metrics)?;
    let (cert, key) = certificate(&settings, registration.as_mut()).await?;
    let watching = cluster::prepare(&settings, client.as_ref());
    let (policies, supply) = supply::start(&settings).await?;
    let state = cluster::before_the_first_snapshot(
        build::state_with(&settings, policies.into())?,
        watching.is_some(),
    );
    let labels = Labels::new(&instance(), &settings.file.decision_log.labels);
    let inspector = cluster::with_pull_secrets(build::serving_inspector(&settings)?, watching.as_ref());
    inspector.warm().await;
    let events = events(&settings, client, &metrics);
    let gate = Arc::new(Gate::new(state, inspector, sink, metrics, labels).with_events(events));
    let rotation = tokio::spawn(reopen_on_hangup(Arc::clone(&gate)));
    let certificate = Expiry::default();
    let expiry =
        tokio::spawn(watch_expiry(Arc::clone(&gate), certificate.clone(), cert.clone(), key.clone()));
    let reload_every = registration.as_ref().map(Registration::reload_every);
    let bundles = supply.follow(&gate);
    let (is_watched, of) = (watching.is_some(), settings.clone());
    let reloader = Reloader::new(options, of, Arc::clone(&gate), Arc::clone(&bundles), is_watched, read);
    let configuration = reloader.configuration();
    let watched = cluster::start(&gate, certificate, watching, (bundles, configuration));
    let reloading = tokio::spawn(reloader.run());
    let served = serve(&settings, cert, key, reload_every, watched).await;
    for task in [rotation, expiry, reloading] {
        task.abort();
    }
    if let Some(registration) = registration {
        registration.close().await;
    }
    // Write the last records even if the listeners failed. A loss is logged and does not change the exit code.
    let flushed = tokio::task::spawn_blocking(move || gate.sink().close(FLUSH_DEADLINE)).await;
    if let Ok(Err(error)) = flushed {
        tracing::error!(%error, "lost records");
    }
    served.map(|()| Exit::Success)
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

/// When the serving certificate expires, in seconds since 1970; 0 while that is not known.
#[derive(Debug, Clone, Default)]
pub struct Expiry(Arc<AtomicI64>);

impl Expiry {
    fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    /// Whether the API server can still call this replica. It trusts no expired certificate, so a replica with one must
    /// leave the Service.
    fn check(&self, now: Timestamp) -> Result<(), String> {
        let seconds = self.0.load(Ordering::Relaxed);
        match Timestamp::from_second(seconds) {
            Ok(expiry) if seconds != 0 && expiry <= now => {
                Err(format!("the serving certificate expired at {expiry}: renew it"))
            }
            _ => Ok(()),
        }
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
    cert: PathBuf,
    key: PathBuf,
    reload_every: Option<Duration>,
    gate: impl server::AdmissionHandler,
) -> Result<(), Error> {
    let file = &settings.file.server;
    let options = server::ServerOptions::new(cert, key);
    let options = server::ServerOptions {
        reload_every: reload_every.unwrap_or(options.reload_every),
        address: file.listen,
        probes: file.probes,
        client_ca: file.client_ca_file.clone(),
        budget: settings.review_timeout,
        reviews: file.max_concurrent_reviews,
        pause: settings.shutdown_pause,
        drain: settings.drain_deadline,
        ..options
    };
    let server = Server::bind(options).await?;
    let signals = Signals::from_process()?;
    tracing::info!(webhooks = %server.address(), probes = %server.probes_address(), "listening");
    Ok(server.run(Arc::new(gate), signals).await?)
}

fn overrides(options: &ServeOptions) -> Overrides {
    Overrides {
        image_store: options.image_store.clone(),
        kubeconfig: options.kubeconfig.clone(),
        listen: options.listen,
        probes: options.probes,
        tls: options.tls_cert.clone().zip(options.tls_key.clone()),
        cert_dir: options.cert_dir.clone(),
        cert_names: options.cert_names.clone(),
        decision_log: options.decision_log.as_deref().map(log_output),
        ..Overrides::default()
    }
}

/// `-`, `off`, or a file; `none` is the former name of `off`.
fn log_output(flag: &str) -> DecisionLogOutput {
    match flag {
        "-" => DecisionLogOutput::Stdout,
        "off" | "none" => DecisionLogOutput::Off,
        path => DecisionLogOutput::File(path.into()),
    }
}

/// A client of the API server, when anything in the configuration needs one.
async fn client(settings: &Settings) -> Result<Option<Client>, Error> {
    let kubernetes = &settings.file.kubernetes;
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
    let namespace = std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty());
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let plan = kubernetes.plan(&namespace, &settings.file.server.cert_dir)?;
    Ok(Some(Registration::start(client, plan, &instance(), metrics)))
}

/// Starts writing Events, if configured. Events in the queue are lost when the process ends.
fn events(settings: &Settings, client: Option<Client>, metrics: &Arc<Metrics>) -> Option<Outbox> {
    let kubernetes = &settings.file.kubernetes;
    let client = client.filter(|_| kubernetes.events)?;
    let limits = kubernetes.event_limits;
    let (outbox, records) = Outbox::new(limits.warnings, Arc::clone(metrics));
    tokio::spawn(register::Sender::new(client, limits, &instance(), Arc::clone(metrics)).run(records));
    Some(outbox)
}

/// The serving certificate: configured files, files with the content of the cluster's Secret, or a new development
/// certificate.
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

/// Name of this replica: `POD_NAME`, or the host name, which in a pod is the pod's name.
fn instance() -> String {
    let from_file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = std::env::var("POD_NAME").ok().or_else(from_file).unwrap_or_default();
    name.trim().to_string()
}

/// Value of the metric label for an event.
const fn event_word(event: Event) -> &'static str {
    match event {
        Event::ConnectionRefused => "connection-refused",
        Event::HandshakeFailed => "handshake-failed",
        Event::CertificateReplaced => "certificate-replaced",
        Event::CertificateRefused => "certificate-refused",
        Event::RequestRefused(413) => "body-too-large",
        Event::RequestRefused(503) => "busy",
        Event::RequestRefused(504) => "late",
        Event::RequestRefused(_) => "request-refused",
    }
}

/// The gate as handler of the server.
#[derive(Debug)]
pub struct Served {
    gate: Arc<Gate>,
    certificate: Expiry,
}

impl Served {
    /// Handler for a gate without a certificate that could expire.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, certificate: Expiry::default() }
    }
}

impl server::AdmissionHandler for Served {
    async fn answer(&self, webhook: Webhook, body: Bytes, budget: Duration) -> Vec<u8> {
        self.gate.review(webhook, &body, budget).await
    }

    fn ready(&self) -> Result<(), String> {
        // Policies, grants and certificates were loaded before the listeners were bound.
        self.certificate.check(Timestamp::now())
    }

    fn metrics(&self) -> String {
        self.gate.metrics().set_ready(self.ready().is_ok());
        self.gate.encode_metrics()
    }

    fn observe(&self, event: Event) {
        let word = event_word(event);
        self.gate.metrics().server_event(word);
        // At debug level: a port scanner causes many of these.
        tracing::debug!(event = word, "server event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_certificate_is_a_reason_not_to_be_asked() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let certificate = Expiry::default();
        assert_eq!(certificate.check(at("2027-01-01T00:00:00Z")), Ok(()), "unknown is no reason");
        certificate.set(at("2027-03-31T00:00:00Z").as_second());
        assert_eq!(certificate.check(at("2027-03-30T23:59:59Z")), Ok(()));
        let expired = certificate.check(at("2027-03-31T00:00:00Z")).unwrap_err();
        assert_eq!(expired, "the serving certificate expired at 2027-03-31T00:00:00Z: renew it");
        certificate.set(at("2027-06-30T00:00:00Z").as_second());
        assert_eq!(certificate.check(at("2027-03-31T00:00:00Z")), Ok(()), "renewed");
    }
}
