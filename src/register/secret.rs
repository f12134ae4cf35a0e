//! The Secret with the certificates: reads it, updates the version that was read, and follows its changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{CertificatePlan, FIELD_MANAGER, Right, files, labels, task};
use crate::certs::Holding;
use crate::certs::rotate::{CA_CERTIFICATES, CA_KEY, CERTIFICATE, Data, KEY, NEXT_CA_KEY};

/// Time limit for one request.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// Folder below the certificate directory, so that files of other tools are never touched.
const FOLDER: &str = "managed";

/// The keys that the gate writes; others are left as they are.
const KEYS: [&str; 5] = [CA_CERTIFICATES, CA_KEY, NEXT_CA_KEY, CERTIFICATE, KEY];

/// The rights that the Secret needs.
pub(super) fn right(name: &str) -> Right<'_> {
    Right { verbs: "get, create and update", resource: "secrets", name, cluster: false }
}

/// The certificate data of a Secret.
pub fn data(secret: &Secret) -> Data {
    let all = secret.data.iter().flatten();
    all.filter(|(key, _)| KEYS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

/// The Secret with new certificate data; everything else in it stays.
pub fn with(name: &str, old: Option<Secret>, data: &Data) -> Secret {
    let mut secret = old.unwrap_or_else(|| Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels()), ..ObjectMeta::default() },
        type_: Some("Opaque".into()),
        ..Secret::default()
    });
    let all = secret.data.get_or_insert_default();
    all.retain(|key, _| !KEYS.contains(&key.as_str()));
    all.extend(data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))));
    secret
}

/// Updates the version of the Secret that was read, or creates it. A conflict is an error like any other.
pub async fn write(api: &Api<Secret>, name: &str, secret: &Secret) -> Result<Secret, kube::Error> {
    let how = task::written_by(FIELD_MANAGER);
    if secret.metadata.resource_version.is_some() {
        api.replace(name, &how, secret).await
    } else {
        api.create(&how, secret).await
    }
}

/// Writes the certificate of the Secret to the server's directory.
#[derive(Debug)]
pub struct SecretFollower {
    api: Api<Secret>,
    name: String,
    folder: PathBuf,
    every: Duration,
    changed: Arc<Notify>,
    state: watch::Sender<Result<(), String>>,
    put: Option<(Vec<u8>, Vec<u8>)>,
}

impl SecretFollower {
    /// A follower that also reads the Secret when `changed` is notified.
    pub fn new(api: Api<Secret>, plan: &CertificatePlan, changed: Arc<Notify>) -> Self {
        Self {
            api,
            name: plan.secret.clone(),
            folder: plan.folder.join(FOLDER),
            every: plan.look_every(),
            changed,
            state: watch::Sender::new(Err("the Secret was not read yet".into())),
            put: None,
        }
    }

    /// Path of the certificate chain.
    pub fn cert(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// Path of the private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join(KEY)
    }

    /// Whether there is something to serve, and if not, why not.
    pub fn state(&self) -> watch::Receiver<Result<(), String>> {
        self.state.subscribe()
    }

    /// Follows the Secret; never returns.
    pub async fn run(mut self) {
        loop {
            let seen = self.look().await;
            if let Err(problem) = &seen
                && self.state.borrow().as_ref().err() != Some(problem)
            {
                tracing::warn!(secret = %self.name, %problem, "no new certificate from the Secret");
            }
            self.state.send_if_modified(|known| {
                // A served certificate stays valid when the Secret cannot be read.
                let better = known.is_err() && *known != seen;
                if better {
                    *known = seen;
                }
                better
            });
            let pause = if self.put.is_some() { self.every } else { Duration::from_millis(500) };
            let _ = timeout(pause, self.changed.notified()).await;
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let found = timeout(REQUEST, self.api.get_opt(&self.name)).await;
        let found = found.map_err(|_| "the API server did not answer in time".to_owned())?;
        let found = found.map_err(|error| right(&self.name).explain(&error))?;
        let Some(secret) = found else { return Err("it is not made yet".into()) };
        let data = data(&secret);
        let holding = Holding::read(&data);
        if !holding.can_be_served(SystemTime::now()) {
            let problems = holding.problems().join("; ");
            return Err(format!(
                "it holds no certificate that can be served ({problems}); the writer repairs it"
            ));
        }
        self.take(&data).await
    }

    async fn take(&mut self, data: &Data) -> Result<(), String> {
        let read = |key: &str| data.get(key).cloned().unwrap_or_default();
        let pair = (read(CERTIFICATE), read(KEY));
        if self.put.as_ref() == Some(&pair) {
            return Ok(());
        }
        let (folder, (cert, key)) = (self.folder.clone(), pair.clone());
        let put = move || files::put(&folder, &[(CERTIFICATE, &cert), (KEY, &key)]);
        match tokio::task::spawn_blocking(put).await {
            Ok(Ok(())) => {
                self.put = Some(pair);
                Ok(())
            }
            Ok(Err(error)) => Err(super::chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }
}
