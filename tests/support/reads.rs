//! What the API server says, asked by this process. A test that waits asks many times, and each `kubectl` takes a tenth of a second of a
//! processor, which the programs that it waits for then lack. Questions of a few forms are asked here, and are answered as `kubectl` answers
//! them, which `tests/live/cluster.rs` compares. All others are left to `kubectl`, and so is what fails in a way that is not known here.

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use axum::http::Request;
use kube::Client;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use wasmgate::watch::client::connect;

use super::control_plane::Said;

/// Longest wait for an answer; after it `kubectl` is asked, and waits for its own time.
const PATIENCE: Duration = Duration::from_secs(10);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Runs a future to its end, from a thread that runs no others.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// A kind of objects that is asked for here.
struct Kind {
    names: [&'static str; 2],
    /// Path of its group and version.
    group: &'static str,
    is_namespaced: bool,
}

const fn of_core(names: [&'static str; 2]) -> Kind {
    Kind { names, group: "/api/v1", is_namespaced: true }
}

const fn of_cluster(names: [&'static str; 2], group: &'static str) -> Kind {
    Kind { names, group, is_namespaced: false }
}

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// One and several of each kind.
static KINDS: [Kind; 11] = [
    of_core(["pod", "pods"]),
    of_core(["event", "events"]),
    of_core(["secret", "secrets"]),
    of_core(["serviceaccount", "serviceaccounts"]),
    of_core(["resourcequota", "resourcequotas"]),
    of_cluster(["node", "nodes"], "/api/v1"),
    of_cluster(["namespace", "namespaces"], "/api/v1"),
    of_cluster(["mutatingwebhookconfiguration", "mutatingwebhookconfigurations"], ADMISSION),
    of_cluster(["validatingwebhookconfiguration", "validatingwebhookconfigurations"], ADMISSION),
    Kind { group: "/apis/apps/v1", ..of_core(["deployment", "deployments"]) },
    Kind { group: "/apis/coordination.k8s.io/v1", ..of_core(["lease", "leases"]) },
];

/// A question of a form that is known here.
#[derive(Debug)]
pub struct Question {
    /// Path and query of the request.
    pub path: String,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Object,
    List,
    Log,
    Raw,
}

/// The arguments of a question by their meaning.
#[derive(Default)]
struct Parts<'a> {
    plain: Vec<&'a str>,
    namespace: Option<&'a str>,
    container: Option<&'a str>,
    labels: Option<&'a str>,
    fields: Option<&'a str>,
    is_everywhere: bool,
    is_json: bool,
}

impl<'a> Parts<'a> {
    /// `None` where there is a flag that is not known here.
    fn of(arguments: &[&'a str]) -> Option<Self> {
        let mut parts = Self::default();
        let mut rest = arguments.iter().copied();
        while let Some(argument) = rest.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) if argument.starts_with('-') => (name, Some(value)),
                _ => (argument, None),
            };
            match (name, value) {
                ("--all-namespaces", None) => parts.is_everywhere = true,
                ("--output", Some("json")) => parts.is_json = true,
                ("--namespace", value) => parts.namespace = Some(value.or_else(|| rest.next())?),
                ("--container", value) => parts.container = Some(value.or_else(|| rest.next())?),
                ("--selector", Some(value)) => parts.labels = Some(value),
                ("--field-selector", Some(value)) => parts.fields = Some(value),
                (plain, None) if !plain.starts_with('-') => parts.plain.push(plain),
                _ => return None,
            }
        }
        parts.is_plain().then_some(parts)
    }

    /// Whether each of them stands in a path or a query as it is.
    fn is_plain(&self) -> bool {
        let mut named = [self.namespace, self.container].into_iter().flatten();
        let mut selectors = [self.labels, self.fields].into_iter().flatten();
        named.all(|name| is_of(name, "-."))
            && self.plain.iter().all(|name| is_of(name, "-."))
            && selectors.all(|selector| is_of(selector, "-._/=,"))
    }

    fn namespace(&self) -> &'a str {
        self.namespace.unwrap_or("default")
    }
}

/// Whether a text has letters, digits and these signs, and nothing else.
fn is_of(text: &str, signs: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || signs.contains(letter))
}

impl Question {
    /// The question that these arguments of `kubectl` ask; `None` where only `kubectl` is asked.
    pub fn of(arguments: &[&str]) -> Option<Self> {
        match arguments {
            ["get", "--raw", path] => Some(Self { path: (*path).to_string(), form: Form::Raw }),
            ["get", argument] if argument.starts_with("--raw=") => {
                Some(Self { path: argument.trim_start_matches("--raw=").to_string(), form: Form::Raw })
            }
            ["get", rest @ ..] => Self::get(&Parts::of(rest)?),
            ["logs", rest @ ..] => Self::logs(&Parts::of(rest)?),
            _ => None,
        }
    }

    fn get(parts: &Parts<'_>) -> Option<Self> {
        let (resource, name) = match parts.plain.as_slice() {
            [resource] => (*resource, None),
            [resource, name] => (*resource, Some(*name)),
            _ => return None,
        };
        let kind = KINDS.iter().find(|kind| kind.names.contains(&resource))?;
        let selects = parts.is_everywhere || parts.labels.is_some() || parts.fields.is_some();
        if !parts.is_json || parts.container.is_some() || (selects && name.is_some()) {
            return None;
        }
        let mut path = vec![kind.group];
        if kind.is_namespaced && !parts.is_everywhere {
            path.extend(["namespaces", parts.namespace()]);
        }
        path.push(kind.names[1]);
        path.extend(name);
        let selectors = [("labelSelector", parts.labels), ("fieldSelector", parts.fields)].into_iter();
        let query: Vec<String> =
            selectors.filter_map(|(key, selector)| Some(format!("{key}={}", selector?))).collect();
        let asks = if query.is_empty() { "" } else { "?" };
        let path = format!("{}{asks}{}", path.join("/"), query.join("&"));
        Some(Self { path, form: if name.is_some() { Form::Object } else { Form::List } })
    }

    fn logs(parts: &Parts<'_>) -> Option<Self> {
        let [name] = parts.plain.as_slice() else { return None };
        if parts.is_json || parts.is_everywhere || parts.labels.is_some() || parts.fields.is_some() {
            return None;
        }
        let container = parts.container.map(|name| format!("?container={name}")).unwrap_or_default();
        let path = format!("/api/v1/namespaces/{}/pods/{name}/log{container}", parts.namespace());
        Some(Self { path, form: Form::Log })
    }

    /// What `kubectl` makes of an answer; `None` where only `kubectl` knows.
    fn said(&self, answer: Result<String, kube::Error>) -> Option<Said> {
        match answer {
            Ok(text) => Some(Said { code: 0, stdout: self.printed(text)?, stderr: String::new() }),
            Err(kube::Error::Api(status)) if self.is_known(&status.reason, &status.message) => {
                let stderr = format!("Error from server ({}): {}\n", status.reason, status.message);
                Some(Said { code: 1, stdout: String::new(), stderr })
            }
            Err(_) => None,
        }
    }

    /// Of a raw question no test reads why it failed.
    fn is_known(&self, reason: &str, message: &str) -> bool {
        match self.form {
            Form::Object | Form::List => reason == "NotFound",
            // Of several containers `kubectl` takes the first one.
            Form::Log => reason == "BadRequest" && !message.contains("a container name must be specified"),
            Form::Raw => true,
        }
    }

    fn printed(&self, text: String) -> Option<String> {
        match self.form {
            Form::Log | Form::Raw => Some(text),
            Form::Object => {
                let mut object: Value = serde_json::from_str(&text).ok()?;
                hide_managed_fields(&mut object);
                Some(object.to_string())
            }
            Form::List => Some(list(serde_json::from_str(&text).ok()?).to_string()),
        }
    }
}

fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

/// A list of the kind that `kubectl` makes, with the kind of each object, which the API server leaves out.
fn list(mut list: Value) -> Value {
    let (version, kind) = (list["apiVersion"].take(), list["kind"].take());
    let kind = json!(kind.as_str().and_then(|kind| kind.strip_suffix("List")));
    let mut items = list["items"].take();
    for item in items.as_array_mut().into_iter().flatten() {
        hide_managed_fields(item);
        item["apiVersion"] = version.clone();
        item["kind"] = kind.clone();
    }
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// A client of an API server that asks as the user of a kubeconfig.
pub struct Reads {
    kubeconfig: PathBuf,
    client: Mutex<Option<Client>>,
}

impl Reads {
    pub const fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig, client: Mutex::new(None) }
    }

    /// What `kubectl` would say to these arguments; `None` where it has to be asked.
    pub fn answer(&self, arguments: &[&str]) -> Option<Said> {
        let question = Question::of(arguments)?;
        let request = Request::get(question.path.as_str()).body(Vec::new()).ok()?;
        // On a thread of its own: a test may be on one that runs futures, where no other may be waited for.
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| wait(self.ask(request)));
            asking.join().unwrap()
        });
        question.said(answer?)
    }

    async fn ask(&self, request: Request<Vec<u8>>) -> Option<Result<String, kube::Error>> {
        let client = self.client().await?;
        tokio::time::timeout(PATIENCE, client.request_text(request)).await.ok()
    }

    async fn client(&self) -> Option<Client> {
        let made = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if made.is_some() {
            return made;
        }
        // Where the API server has not written its certificate yet, there is none.
        let client = connect(Some(self.kubeconfig.as_path())).await.ok()?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Some(client)
    }

    /// Reads the kubeconfig anew for the next question.
    pub fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
