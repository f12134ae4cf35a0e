//! Pull secrets, read when a pod that names them is reviewed. The gate neither lists nor watches Secrets, so it needs no
//! cluster-wide right to them. If it may not read a pull secret, the message says which Role would allow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use kube::{Client, client};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::client::chain;
use super::resource::{Item, Store};
use crate::registry::{Login, PullSecrets, Pulled, Puller};
use crate::text;

/// Limits for reading pull secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretLimits {
    /// Time limit for reading a secret. Default: 1 s, which leaves the review time for the image.
    pub timeout: Duration,
    /// How long a secret is used before it is read again in the background. Default: 30 s.
    pub fresh: Duration,
    /// How long a failure is cached. Default: 5 s.
    pub failure: Duration,
    /// How long a secret is used at most. Default: 10 min.
    pub stale: Duration,
}

impl Default for SecretLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            fresh: Duration::from_secs(30),
            failure: Duration::from_secs(5),
            stale: Duration::from_mins(10),
        }
    }
}

/// Memory for cached secrets, approximately, in bytes.
pub const SECRETS_BYTES: u64 = 16 << 20;

/// Most secrets that are read at a time.
const SIDE_BY_SIDE: usize = 16;

/// Most pull secrets of one pod that are read; ordinary pods have far fewer.
const MOST_SECRETS: usize = 32;

/// Largest response, in bytes: a Secret holds 1 MiB at most (`kubernetes:pkg/apis/core/types.go`, `MaxSecretSize`),
/// a third more in base64.
const LARGEST: usize = 2 << 20;

/// Longest name of an object (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go`,
/// `DNS1123SubdomainMaxLength`).
const LONGEST_NAME: usize = 253;

/// The gate's ServiceAccount, for messages that ask to bind a Role to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Default for Account {
    /// The account in `manifests/install`.
    fn default() -> Self {
        Self { name: "wasmgate".into(), namespace: "wasmgate-system".into() }
    }
}

impl Account {
    /// The account with the given name and namespace; the default for those that are not known.
    pub fn known_as(name: Option<String>, namespace: Option<String>) -> Self {
        let default = Self::default();
        Self { name: name.unwrap_or(default.name), namespace: namespace.unwrap_or(default.namespace) }
    }
}

/// Namespace and name.
type Key = (String, String);

/// Pull secrets from the API server, cached for a short time.
#[derive(Clone)]
pub struct ApiPullSecrets {
    client: Client,
    accounts: Arc<Store>,
    own_account: Account,
    limits: SecretLimits,
    cache: moka::future::Cache<Key, Arc<CachedSecret>>,
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for ApiPullSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiPullSecrets").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The result of reading a secret.
struct CachedSecret {
    outcome: Result<Vec<Login>, String>,
    /// Size of the answer, in bytes.
    size: usize,
    read: Instant,
    /// Whether a task is reading it again.
    refreshing: AtomicBool,
}

impl PullSecrets for ApiPullSecrets {
    fn logins<'a>(&'a self, puller: &'a Puller) -> BoxFuture<'a, Pulled> {
        let names = self.names(puller);
        if names.is_empty() {
            return Box::pin(std::future::ready(Pulled::default()));
        }
        Box::pin(self.pull(puller, names))
    }
}

impl ApiPullSecrets {
    /// A source that reads with `client`. `accounts` are the service accounts with pull secrets; messages name
    /// `own_account`.
    pub(super) fn new(
        client: Client,
        accounts: Arc<Store>,
        own_account: Account,
        limits: SecretLimits,
    ) -> Self {
        let weigh = |_: &Key, entry: &Arc<CachedSecret>| u32::try_from(entry.size + 256).unwrap_or(u32::MAX);
        let cache = moka::future::Cache::builder()
            .max_capacity(SECRETS_BYTES)
            .weigher(weigh)
            .time_to_live(limits.stale)
            .build();
        Self { client, accounts, own_account, limits, cache, slots: Arc::new(Semaphore::new(SIDE_BY_SIDE)) }
    }

    /// The pod's secrets, or those of its account if it has none. The API server's admission plugin completes pods in this
    /// way, but not the templates from which they are created.
    fn names(&self, puller: &Puller) -> Vec<String> {
        if !puller.pull_secrets.is_empty() {
            return puller.pull_secrets.clone();
        }
        let key = (puller.service_account.clone(), puller.namespace.clone());
        self.accounts.read(|accounts| match accounts.get(&key) {
            Some(Item::PullSecrets(names)) => names.to_vec(),
            _ => Vec::new(),
        })
    }

    async fn pull(&self, puller: &Puller, mut names: Vec<String>) -> Pulled {
        let mut pulled = Pulled::default();
        // The API server drops entries without a name, and so does the kubelet.
        names.retain(|name| !name.is_empty());
        if names.len() > MOST_SECRETS {
            pulled.notes.push(format!("only the first {MOST_SECRETS} pull secrets were looked at"));
            names.truncate(MOST_SECRETS);
        }
        let reads = names.iter().map(|name| self.entry(&puller.namespace, name));
        for outcome in join_all(reads).await {
            match outcome {
                Ok(entry) => match &entry.outcome {
                    Ok(logins) => pulled.logins.extend(logins.iter().cloned()),
                    Err(note) => pulled.notes.push(note.clone()),
                },
                Err(note) => pulled.notes.push(note),
            }
        }
        pulled
    }

    /// A secret from the cache, or read once for all reviews that wait for it.
    async fn entry(&self, namespace: &str, name: &str) -> Result<Arc<CachedSecret>, String> {
        // A user chose the name, and it becomes part of a URL path.
        if !is_name(name) || !is_name(namespace) {
            return Err(format!("`{}` is not the name of a secret", text::quoted(name, 64)));
        }
        let key = (namespace.to_string(), name.to_string());
        if let Some(entry) = self.cache.get(&key).await {
            let (age, failed) = (entry.read.elapsed(), entry.outcome.is_err());
            if !failed && age > self.limits.fresh && !entry.refreshing.swap(true, Ordering::AcqRel) {
                self.refresh(key.clone());
            }
            if !failed || age < self.limits.failure {
                return Ok(entry);
            }
            self.cache.invalidate(&key).await;
        }
        Ok(self.cache.get_with(key.clone(), self.read(key)).await)
    }

    /// Reads a secret again in the background, while reviews use the cached one.
    fn refresh(&self, key: Key) {
        let this = self.clone();
        tokio::spawn(async move {
            let entry = this.read(key.clone()).await;
            this.cache.insert(key, entry).await;
        });
    }

    async fn read(&self, key: Key) -> Arc<CachedSecret> {
        let (namespace, name) = &key;
        let reading = async {
            let _slot = self.slots.acquire().await;
            self.fetch(namespace, name).await
        };
        let read = tokio::time::timeout(self.limits.timeout, reading).await;
        let read = read.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.limits.timeout)));
        let (outcome, size) = match read {
            Ok((logins, size)) => (Ok(logins), size),
            Err(why) => {
                let note =
                    format!("could not read the pull secret `{name}` in namespace `{namespace}`: {why}");
                tracing::warn!(namespace, name, reason = why, "could not read a pull secret");
                (Err(note), 0)
            }
        };
        let (read, refreshing) = (Instant::now(), AtomicBool::new(false));
        Arc::new(CachedSecret { outcome, size, read, refreshing })
    }

    /// Reads a secret. It does not use the client's typed calls, since they log a response that they cannot parse.
    async fn fetch(&self, namespace: &str, name: &str) -> Result<(Vec<Login>, usize), String> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let request = Request::get(path).body(client::Body::empty()).map_err(|error| chain(&error))?;
        let response = self.client.send(request).await.map_err(|error| chain(&error))?;
        match response.status().as_u16() {
            200 => {}
            401 => return Err("the API server does not accept the gate's token or certificate".into()),
            403 => {
                let Account { name: account, namespace: home } = &self.own_account;
                return Err(format!(
                    "forbidden; let a Role in namespace `{namespace}` allow `get` on the secret `{name}`, and bind it to the \
                 ServiceAccount `{account}` in namespace `{home}`"
                ));
            }
            404 => return Err("it does not exist".into()),
            code => return Err(format!("the API server answered {code}")),
        }
        let body = collect(Body::new(response.into_body())).await?;
        logins(&body).map(|logins| (logins, body.len()))
    }
}

/// The whole body, zeroed when it is dropped.
async fn collect(body: Body) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut stream = body.into_data_stream();
    let (mut chunks, mut size) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| chain(&error))?;
        size += chunk.len();
        if size > LARGEST {
            return Err(format!("the answer is larger than {LARGEST} bytes"));
        }
        chunks.push(chunk);
    }
    // One buffer for the whole body, since growing it would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    for chunk in chunks {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A Secret as the API server sends it. All values are borrowed, so that no copies are left behind; base64 has no
/// characters that JSON would escape.
#[derive(Deserialize)]
struct Secret<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: &'a str,
    #[serde(default, borrow)]
    data: std::collections::BTreeMap<&'a str, &'a str>,
}

/// The logins of a Secret. Error messages contain nothing of its values.
fn logins(body: &[u8]) -> Result<Vec<Login>, String> {
    let secret: Secret<'_> = serde_json::from_slice(body).map_err(|error| {
        format!("the answer is not a Secret, at line {} column {}", error.line(), error.column())
    })?;
    let old = secret.kind == "kubernetes.io/dockercfg";
    let field = match secret.kind {
        "kubernetes.io/dockerconfigjson" => ".dockerconfigjson",
        "kubernetes.io/dockercfg" => ".dockercfg",
        other => {
            let shown = text::quoted(other, 64);
            return Err(format!(
                "its type is `{shown}`; registry credentials are in one of type kubernetes.io/dockerconfigjson"
            ));
        }
    };
    let encoded = secret.data.get(field).ok_or_else(|| format!("it has no `{field}`"))?;
    let text = STANDARD.decode(encoded).map_err(|_| format!("its `{field}` is not base64"))?;
    let text = Zeroizing::new(text);
    if old { Login::from_dockercfg(&text) } else { Login::from_docker_config(&text) }
}

/// Whether the text can be the name of an object: roughly a DNS-1123 subdomain.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= LONGEST_NAME
        && text.chars().all(inner)
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && !text.contains("..")
}
