//! The TLS configuration, and its replacement without closing connections.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum_server::tls_rustls::RustlsConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{AdmissionHandler, Error, Event, ServerOptions};
use crate::certs;
use crate::files::{self, LARGEST_CREDENTIAL};

/// Why the newest certificate is not in use; empty when it is.
pub(super) type Problem = Arc<ArcSwapOption<String>>;

/// The files of a TLS configuration.
#[derive(Debug, Clone)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// The fingerprint of the files (`None` if one cannot be read), and the configuration from the same bytes.
type Look = (Option<[u8; 32]>, Result<Arc<ServerConfig>, Error>);

impl Files {
    pub(super) fn of(options: &ServerOptions) -> Self {
        Self { cert: options.cert.clone(), key: options.key.clone(), client_ca: options.client_ca.clone() }
    }

    /// The same certificate for clients that show none.
    pub(super) fn for_any_client(options: &ServerOptions) -> Self {
        Self { client_ca: None, ..Self::of(options) }
    }

    /// The configuration from the current content of the files.
    pub(super) fn configure(&self) -> Result<Arc<ServerConfig>, Error> {
        self.read().1
    }

    fn read(&self) -> Look {
        match self.texts() {
            Ok((pair, ca_certs)) => {
                let mut fingerprint = Sha256::new().chain_update(pair.fingerprint());
                fingerprint.update(ca_certs.as_deref().unwrap_or_default());
                (Some(fingerprint.finalize().into()), self.secure(&pair, ca_certs.as_deref()))
            }
            Err(error) => (None, Err(error)),
        }
    }

    fn texts(&self) -> Result<(certs::Texts<'_>, Option<Vec<u8>>), Error> {
        let pair = certs::Texts::read(&self.cert, &self.key)?;
        let read =
            |file: &PathBuf| files::read(file, LARGEST_CREDENTIAL).map_err(|error| unusable(file, &error));
        Ok((pair, self.client_ca.as_ref().map(read).transpose()?))
    }

    fn secure(&self, texts: &certs::Texts<'_>, ca_certs: Option<&[u8]>) -> Result<Arc<ServerConfig>, Error> {
        let failed = |source| Error::UseCertificate { cert: self.cert.clone(), source };
        let pair = texts.pair()?;
        let clients = match self.client_ca.as_deref().zip(ca_certs) {
            Some((file, text)) => verifier(file, text)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(failed)?
            .with_client_cert_verifier(clients)
            .with_single_cert(pair.chain, pair.key)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn unusable(file: &Path, problem: &impl ToString) -> Error {
    Error::LoadClientCas { file: file.to_owned(), problem: problem.to_string() }
}

/// Requires a client certificate from one of these CAs. Names in it are ignored.
fn verifier(file: &Path, text: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(text) {
        let ca = ca.map_err(|error| unusable(file, &error))?;
        roots.add(ca).map_err(|error| unusable(file, &error))?;
    }
    if roots.is_empty() {
        return Err(unusable(file, &"it has none"));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| unusable(file, &error))
}

/// Compares the certificate files with the certificate in use, by content. A file watch would not do: the kubelet replaces
/// a mounted Secret by renaming a symbolic link two directories up, which a watch on the file sees only once.
pub(super) struct Follow {
    files: Files,
    every: Duration,
    config: RustlsConfig,
    /// Further listeners with the same certificate.
    others: Vec<(Files, RustlsConfig)>,
    seen: Option<[u8; 32]>,
    /// Whether one of the others still serves the former certificate.
    is_other_behind: bool,
    problem: Problem,
}

impl Follow {
    pub(super) fn new(options: &ServerOptions, config: RustlsConfig) -> Self {
        Self {
            files: Files::of(options),
            every: options.reload_every,
            config,
            others: Vec::new(),
            seen: None,
            is_other_behind: false,
            problem: Problem::default(),
        }
    }

    /// Also replaces the certificate of another listener.
    pub(super) fn and(mut self, files: Files, config: RustlsConfig) -> Self {
        self.others.push((files, config));
        self
    }

    pub(super) fn problem(&self) -> Problem {
        self.problem.clone()
    }

    /// Compares at every interval; never returns. The first comparison replaces the certificate by itself, unless the
    /// files changed since they were loaded.
    pub(super) async fn run<G: AdmissionHandler>(mut self, gate: Arc<G>) -> io::Result<()> {
        let mut first = true;
        loop {
            self.look(gate.as_ref(), first).await;
            first = false;
            tokio::time::sleep(self.every).await;
        }
    }

    async fn look<G: AdmissionHandler>(&mut self, gate: &G, first: bool) {
        let files = self.files.clone();
        let Ok((now, found)) = tokio::task::spawn_blocking(move || files.read()).await else { return };
        if now.is_some() && now == self.seen {
            if self.is_other_behind {
                self.replace_others().await;
            }
            return;
        }
        match found {
            Ok(config) => {
                self.replace(gate, config, first);
                self.replace_others().await;
            }
            Err(error) => {
                // The files cannot be read atomically; if they are being replaced, the next comparison sees the new ones.
                let files = self.files.clone();
                let again = tokio::task::spawn_blocking(move || files.read().0).await;
                if again.is_ok_and(|again| again != now) {
                    return;
                }
                self.keep(gate, &error);
            }
        }
        self.seen = now;
    }

    fn replace<G: AdmissionHandler>(&self, gate: &G, config: Arc<ServerConfig>, first: bool) {
        self.config.reload_from_config(config);
        self.problem.store(None);
        if !first {
            gate.observe(Event::CertificateReplaced);
            tracing::info!(cert = %self.files.cert.display(), "serving a new certificate");
        }
    }

    /// Replaces the certificates of the other listeners. Where one cannot be read now, the next comparison tries it again.
    async fn replace_others(&mut self) {
        let mut failed = None;
        for (files, config) in &self.others {
            let files = files.clone();
            match tokio::task::spawn_blocking(move || files.configure()).await {
                Ok(Ok(new)) => config.reload_from_config(new),
                Ok(Err(error)) => failed = Some(reason(&error)),
                Err(error) => failed = Some(error.to_string()),
            }
        }
        if let Some(reason) = failed.as_ref().filter(|_| !self.is_other_behind) {
            tracing::error!(%reason, "cannot use the new certificate for another listener yet, which still serves the old one");
        }
        self.is_other_behind = failed.is_some();
    }

    /// Logs once why the old certificate stays in use.
    fn keep<G: AdmissionHandler>(&self, gate: &G, error: &Error) {
        let reason = reason(error);
        if self.problem.load().as_deref() == Some(&reason) {
            return;
        }
        gate.observe(Event::CertificateRefused);
        tracing::error!(%reason, "cannot use the new certificate, still serving the old one");
        self.problem.store(Some(Arc::new(reason)));
    }
}

/// Why the files of a certificate cannot be used.
fn reason(error: &Error) -> String {
    match error {
        Error::LoadCertificate(source) => source.to_string(),
        Error::UseCertificate { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Call, LargeReview};
    use super::*;
    use crate::review::Reply;

    /// A gate that is not asked.
    struct Silent;

    impl AdmissionHandler for Silent {
        async fn answer(&self, _: Call) -> Reply {
            Ok(Vec::new())
        }

        fn too_large(&self, _: LargeReview) -> Vec<u8> {
            Vec::new()
        }

        fn ready(&self) -> Result<(), String> {
            Ok(())
        }

        fn metrics(&self) -> String {
            String::new()
        }
    }

    fn files(folder: &Path) -> Files {
        Files { cert: folder.join("tls.crt"), key: folder.join("tls.key"), client_ca: None }
    }

    #[tokio::test]
    async fn another_listener_whose_certificate_could_not_be_read_gets_it_at_the_next_comparison() {
        let folder = tempfile::tempdir().unwrap();
        let [first, other] = ["first", "other"].map(|name| folder.path().join(name));
        let config = |folder: &Path| {
            certs::load_or_make(folder, &[]).unwrap();
            RustlsConfig::from_config(files(folder).configure().unwrap())
        };
        let (gate, page) = (config(&first), config(&other));
        let options = ServerOptions::new(first.join("tls.crt"), first.join("tls.key"));
        let mut follow = Follow::new(&options, gate).and(files(&other), page.clone());
        let (before, key) = (page.get_inner(), other.join("tls.key"));
        std::fs::rename(&key, other.join("away")).unwrap();
        follow.look(&Silent, true).await;
        assert!(Arc::ptr_eq(&page.get_inner(), &before) && follow.is_other_behind);
        std::fs::rename(other.join("away"), &key).unwrap();
        follow.look(&Silent, false).await;
        let after = page.get_inner();
        assert!(!Arc::ptr_eq(&after, &before) && !follow.is_other_behind);
        follow.look(&Silent, false).await;
        assert!(Arc::ptr_eq(&page.get_inner(), &after), "it is replaced once");
    }
}
