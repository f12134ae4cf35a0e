//! An API server inside the test: lists with pages, watches, single objects, and faults on demand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use kube::Client;
use serde_json::{Value, json};

/// How every request about a kind fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status.
    Status(u16),
    /// 200 without JSON.
    Garbage,
    /// No answer to a list; a watch that opens and sends nothing, not even its end.
    Silent,
    /// Watches end as soon as they have begun.
    EndAtOnce,
}

/// The requests about a kind.
#[derive(Debug, Clone)]
pub struct Asked {
    pub query: String,
    pub accept: String,
}

#[derive(Default)]
struct Kind {
    objects: BTreeMap<(String, String), Value>,
    /// Every change: version and event.
    events: Vec<(u64, String)>,
    watches: Vec<UnboundedSender<Result<Bytes, Infallible>>>,
    fault: Option<Fault>,
    asked: Vec<Asked>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    kinds: BTreeMap<String, Kind>,
}

impl Inner {
    fn kind(&mut self, plural: &str) -> &mut Kind {
        self.kinds.entry(plural.to_string()).or_default()
    }
}

/// The server.
pub struct Api {
    host: String,
    inner: Arc<Mutex<Inner>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Api {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Mutex::new(Inner { version: 1, ..Inner::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { host, inner, task }
    }

    /// A client of it with this read timeout.
    pub fn client(&self, read: Duration) -> Client {
        let config = kube::Config::new(format!("http://{}", self.host).parse().unwrap());
        wasmgate::watch::client::bounded(config, read).unwrap()
    }

    /// A kubeconfig for it, below a folder.
    pub fn kubeconfig(&self, folder: &std::path::Path) -> std::path::PathBuf {
        let path = folder.join("kubeconfig.json");
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.host)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]});
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Creates or changes an object.
    pub fn put(&self, plural: &str, mut object: Value) {
        let mut inner = self.inner.lock().unwrap();
        inner.version += 1;
        let version = inner.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let kind = inner.kind(plural);
        let known = kind.objects.insert(key(&object), object.clone()).is_some();
        kind.tell(version, &json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": object}));
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut inner = self.inner.lock().unwrap();
        inner.version += 1;
        let version = inner.version;
        let kind = inner.kind(plural);
        let mut object = kind.objects.remove(&(namespace.to_string(), name.to_string())).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        kind.tell(version, &json!({"type": "DELETED", "object": object}));
    }

    /// Deletes an object without telling the watches.
    pub fn forget(&self, plural: &str, namespace: &str, name: &str) {
        let key = (namespace.to_string(), name.to_string());
        self.inner.lock().unwrap().kind(plural).objects.remove(&key).unwrap();
    }

    /// Tells every watch that its version is too old, and ends it.
    pub fn expire(&self, plural: &str) {
        let status = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410, "metadata": {}}});
        let mut inner = self.inner.lock().unwrap();
        for watch in inner.kind(plural).watches.drain(..) {
            let _ = watch.unbounded_send(Ok(Bytes::from(format!("{status}\n"))));
        }
    }

    /// Ends every watch.
    pub fn cut(&self, plural: &str) {
        self.inner.lock().unwrap().kind(plural).watches.clear();
    }

    pub fn fail(&self, plural: &str, fault: Fault) {
        self.inner.lock().unwrap().kind(plural).fault = Some(fault);
    }

    pub fn heal(&self, plural: &str) {
        self.inner.lock().unwrap().kind(plural).fault = None;
    }

    pub fn asked(&self, plural: &str) -> Vec<Asked> {
        self.inner.lock().unwrap().kind(plural).asked.clone()
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_string();
    (text("namespace"), text("name"))
}

impl Kind {
    fn tell(&mut self, version: u64, event: &Value) {
        let line = format!("{event}\n");
        self.watches.retain(|watch| watch.unbounded_send(Ok(Bytes::from(line.clone()))).is_ok());
        self.events.push((version, line));
    }

    fn watch(&mut self, since: u64) -> Body {
        let (sender, receiver) = unbounded();
        for (_, line) in self.events.iter().filter(|(version, _)| *version > since) {
            sender.unbounded_send(Ok(Bytes::from(line.clone()))).unwrap();
        }
        match self.fault {
            Some(Fault::EndAtOnce) => {}
            // Kept open for ever, without any event.
            Some(Fault::Silent) => std::mem::forget(sender),
            _ => self.watches.push(sender),
        }
        Body::from_stream(receiver)
    }

    fn list(&self, version: u64, limit: usize, from: usize) -> Value {
        let items: Vec<_> = self.objects.values().skip(from).take(limit).collect();
        let more = from + items.len();
        let token = if more < self.objects.len() { more.to_string() } else { String::new() };
        json!({"kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": version.to_string(), "continue": token}})
    }
}

fn status(code: u16) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": "the test wants it so", "reason": "Test"});
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let path: Vec<String> = request.uri().path().split('/').map(str::to_string).collect();
    let query = request.uri().query().unwrap_or_default().to_string();
    let accept = request.headers().get("accept").map(|value| value.to_str().unwrap().to_string());
    // `…/namespaces/NAMESPACE/PLURAL/NAME` is a single object.
    let namespaced = path.iter().position(|part| part == "namespaces").map(|at| at + 2);
    let one = namespaced.filter(|at| path.len() == at + 2);
    let plural = one.map_or_else(|| path.last().unwrap().clone(), |at| path[at].clone());
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    };
    let fault = {
        let mut inner = inner.lock().unwrap();
        let kind = inner.kind(&plural);
        kind.asked.push(Asked { query: query.clone(), accept: accept.unwrap_or_default() });
        kind.fault
    };
    // No group besides those of Kubernetes itself.
    if plural == "apis" {
        return json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}).to_string().into_response();
    }
    let watch = parameter("watch").is_some();
    match fault {
        Some(Fault::Status(code)) => return status(code),
        Some(Fault::Garbage) => return "no JSON, and no secret: hunter2".into_response(),
        Some(Fault::Silent) if !watch => std::future::pending().await,
        _ => {}
    }
    let mut inner = inner.lock().unwrap();
    let version = inner.version;
    let kind = inner.kind(&plural);
    if let Some(at) = one {
        let key = (path[at - 1].clone(), path[at + 1].clone());
        return kind
            .objects
            .get(&key)
            .map_or_else(|| status(404), |object| object.to_string().into_response());
    }
    let number = |name: &str| parameter(name).and_then(|text| text.parse::<u64>().ok());
    if watch {
        return kind.watch(number("resourceVersion").unwrap_or_default()).into_response();
    }
    let limit = usize::try_from(number("limit").unwrap_or(u64::MAX)).unwrap();
    let from = usize::try_from(number("continue").unwrap_or_default()).unwrap();
    kind.list(version, limit, from).to_string().into_response()
}
