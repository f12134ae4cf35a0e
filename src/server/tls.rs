//! The TLS configuration, and its replacement while connections go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};

use super::{Error, Event, Gate, Options};
use crate::certs;

/// Why the newest certificate is not the one that is served; empty when it is.
pub(super) type Problem = Arc<ArcSwapOption<String>>;

/// The configuration for a certificate and its key.
pub(super) fn configure(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    secure(certs::load(cert, key)?, cert)
}

fn secure(pair: certs::Pair, cert: &Path) -> Result<Arc<ServerConfig>, Error> {
    let failed = |source| Error::UseCertificate { cert: cert.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(pair.chain, pair.key)
        .map_err(failed)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The fingerprint of the files, `None` when one cannot be read, and the configuration made of the same bytes.
type Look = (Option<[u8; 32]>, Result<Arc<ServerConfig>, Error>);

fn read(cert: &Path, key: &Path) -> Look {
    match certs::Texts::read(cert, key) {
        Ok(texts) => {
            let pair = texts.pair().map_err(Error::LoadCertificate);
            (Some(texts.fingerprint()), pair.and_then(|pair| secure(pair, cert)))
        }
        Err(error) => (None, Err(Error::LoadCertificate(error))),
    }
}

/// Compares the certificate files with what is served, by content: the kubelet replaces a mounted Secret by renaming
/// a symbolic link two directories up, which a watch on the file sees once and then never again.
pub(super) struct Follow {
    cert: PathBuf,
    key: PathBuf,
    every: Duration,
    config: RustlsConfig,
    seen: Option<[u8; 32]>,
    problem: Problem,
}

impl Follow {
    pub(super) fn new(options: &Options, config: RustlsConfig) -> Self {
        Self {
            cert: options.cert.clone(),
            key: options.key.clone(),
            every: options.reload_every,
            config,
            seen: None,
            problem: Problem::default(),
        }
    }

    pub(super) fn problem(&self) -> Problem {
        self.problem.clone()
    }

    /// Looks again and again; never returns. The first look replaces the certificate by itself, unless the files
    /// changed since they were loaded.
    pub(super) async fn run<G: Gate>(mut self, gate: Arc<G>) -> io::Result<()> {
        let mut first = true;
        loop {
            self.look(gate.as_ref(), first).await;
            first = false;
            tokio::time::sleep(self.every).await;
        }
    }

    async fn look<G: Gate>(&mut self, gate: &G, first: bool) {
        let (cert, key) = (self.cert.clone(), self.key.clone());
        let Ok((now, found)) = tokio::task::spawn_blocking(move || read(&cert, &key)).await else { return };
        if now.is_some() && now == self.seen {
            return;
        }
        match found {
            Ok(config) => self.replace(gate, config, first),
            // The two files cannot be read at one moment; when they are being replaced, the next look finds both.
            Err(_) if now != self.fingerprint() => return,
            Err(error) => self.keep(gate, &error),
        }
        self.seen = now;
    }

    fn fingerprint(&self) -> Option<[u8; 32]> {
        certs::Texts::read(&self.cert, &self.key).ok().map(|texts| texts.fingerprint())
    }

    fn replace<G: Gate>(&self, gate: &G, config: Arc<ServerConfig>, first: bool) {
        self.config.reload_from_config(config);
        self.problem.store(None);
        if !first {
            gate.observe(Event::CertificateReplaced);
            tracing::info!(cert = %self.cert.display(), "serving a new certificate");
        }
    }

    /// Says once why the old certificate stays.
    fn keep<G: Gate>(&self, gate: &G, error: &Error) {
        let reason = match error {
            Error::LoadCertificate(source) => source.to_string(),
            Error::UseCertificate { source, .. } => format!("{error}: {source}"),
            other => other.to_string(),
        };
        if self.problem.load().as_deref() == Some(&reason) {
            return;
        }
        gate.observe(Event::CertificateRefused);
        tracing::error!(%reason, "the new certificate is not used, the old one is still served");
        self.problem.store(Some(Arc::new(reason)));
    }
}
