//! One round: reads what runs and what it uses, and brings the objects up to date.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::core::ApiResource;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::ledger::{Ledger, MOST_IMAGES, Samples};
use super::metrics::{Used, used};
use super::options::LearnOptions;
use super::running::{Running, running};
use super::store::{Failure, Store, resource};
use crate::register::{Leadership, task};
use crate::shares::beside;
use crate::text;
use crate::usage::{UsageKey, UsageObject};
use crate::watch::Pages;

/// Time between two requests.
const BETWEEN: Duration = Duration::from_millis(100);

/// Most containers that are sampled in a round.
const MOST_CONTAINERS: usize = 20_000;

/// Most bytes of a page.
const MOST_BYTES: usize = 4 << 20;

/// Most bytes of what all pods of a namespace use: servers of metrics send it at once. A pod takes half a kilobyte.
const MOST_METRICS: usize = 16 << 20;

/// Most objects that are written in a round, so that a round is no burst.
const MOST_WRITES: usize = 200;

/// Most objects that are deleted in a round.
const MOST_DELETES: usize = 200;

/// Namespaces whose usage could not be read, after which no further one is asked for.
const MOST_FAILURES: usize = 3;

/// Most characters of a name that is shown.
const SHOWN_CHARS: usize = 64;

/// What a round did.
#[derive(Debug, Default)]
pub struct Tally {
    /// Containers of which a sample was taken.
    pub sampled: usize,
    /// Objects that were written.
    pub written: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Objects that could not be written or deleted.
    pub failed: usize,
    /// What went wrong, each once.
    pub problems: Vec<String>,
}

impl Tally {
    fn note(&mut self, problem: String) {
        task::note(&mut self.problems, problem);
    }

    fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        if let Failure::Problem(problem) = failure {
            self.note(problem);
        }
    }
}

/// What of a cluster is looked at.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The runtime profile of a class, if it is a Wasm runtime.
    pub runtime_of: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// Whether a namespace is one that the gate never touches.
    pub is_exempt: &'a (dyn Fn(&str) -> bool + Sync),
}

/// What rounds have in common.
#[derive(Debug)]
pub struct Rounds {
    /// The settings.
    pub options: LearnOptions,
    /// The objects.
    pub store: Store,
    /// Whether this replica is the writer.
    pub leadership: Leadership,
}

fn builtin(group: &str, version: &str, kind: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version,
        kind: kind.into(),
        plural: "pods".into(),
    }
}

impl Rounds {
    /// What the objects of the cluster hold. Objects that cannot be used are noted and left alone.
    pub async fn load(&self, client: &Client, tally: &mut Tally) -> Result<Ledger, String> {
        let mut ledger = Ledger::new(self.options);
        let mut pages = Pages::new(resource(), None).growing();
        let mut seen = 0;
        while let Some(page) = pages.next_raw(client, MOST_BYTES).await.map_err(|error| error.to_string())? {
            seen += page.len();
            beside(|| {
                for object in &page {
                    if let Err(problem) = load_listed(&mut ledger, object) {
                        tally.note(problem);
                    }
                }
            });
            // There is no place for so many, and they are deleted.
            if seen > 2 * MOST_IMAGES {
                break;
            }
            sleep(BETWEEN).await;
        }
        Ok(ledger)
    }

    /// Takes a sample of every container that runs Wasm, and writes what follows.
    pub async fn round(&self, client: &Client, scope: Scope<'_>, ledger: &mut Ledger, tally: &mut Tally) {
        let running = self.running(client, scope, tally).await;
        let runs: BTreeSet<UsageKey> =
            beside(|| running.values().flatten().map(|one| one.key.clone()).collect());
        let samples = self.samples(client, running, tally).await;
        if !self.leadership.holds() {
            return;
        }
        // In proportion to what others run, as all that is done so here.
        beside(|| ledger.take(Timestamp::now(), &samples));
        // What could not be read may run all the same: nothing is forgotten for it.
        let is_whole = tally.problems.is_empty();
        if ledger.left_out() > 0 {
            tally.note(format!(
                "{} images more than {MOST_IMAGES} run, and are not counted",
                ledger.left_out()
            ));
        }
        self.write(ledger, Some(&runs).filter(|_| is_whole), tally).await;
    }

    /// Namespace → its containers that run Wasm.
    async fn running(
        &self,
        client: &Client,
        scope: Scope<'_>,
        tally: &mut Tally,
    ) -> BTreeMap<String, Vec<Running>> {
        let mut found: BTreeMap<String, Vec<Running>> = BTreeMap::new();
        let (mut pages, mut count) = (Pages::new(builtin("", "v1", "Pod"), None).growing(), 0);
        while self.leadership.holds() && count < MOST_CONTAINERS {
            let page = match pages.next_raw(client, MOST_BYTES).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    tally.note(error.to_string());
                    break;
                }
            };
            let read = || page.iter().filter_map(|pod| running(pod, scope.runtime_of)).collect::<Vec<_>>();
            for (namespace, containers) in beside(read) {
                if !(scope.is_exempt)(&namespace) && !containers.is_empty() {
                    count += containers.len();
                    found.entry(namespace).or_default().extend(containers);
                }
            }
            sleep(BETWEEN).await;
        }
        if count >= MOST_CONTAINERS {
            tally.note(format!(
                "more than {MOST_CONTAINERS} containers run Wasm, and the others are not counted"
            ));
        }
        found
    }

    /// What they use.
    async fn samples(
        &self,
        client: &Client,
        running: BTreeMap<String, Vec<Running>>,
        tally: &mut Tally,
    ) -> Samples {
        let (mut samples, mut failures) = (Samples::new(), 0);
        for (namespace, containers) in running {
            if !self.leadership.holds() || failures >= MOST_FAILURES {
                break;
            }
            match usage_of(client, &namespace).await {
                Ok(usage) => {
                    for Running { pod, container, key } in containers {
                        let Some(used) = usage.get(&pod).and_then(|pod| pod.get(&container)) else {
                            continue;
                        };
                        tally.sampled += 1;
                        samples.entry(key).or_default().entry(namespace.clone()).or_default().push(*used);
                    }
                }
                Err(problem) => {
                    failures += 1;
                    tally.note(problem);
                }
            }
            sleep(BETWEEN).await;
        }
        samples
    }

    /// Brings the objects up to date. `runs` is what runs, if all of that is known.
    async fn write(&self, ledger: &mut Ledger, runs: Option<&BTreeSet<UsageKey>>, tally: &mut Tally) {
        let now = Timestamp::now();
        let gone = runs.map_or_else(Vec::new, |runs| beside(|| ledger.sweep(now, runs)));
        for key in gone.into_iter().take(MOST_DELETES) {
            match self.store.delete(&key).await {
                Ok(()) => {
                    tally.deleted += 1;
                    ledger.deleted(&key);
                }
                Err(failure) => tally.fail(failure),
            }
            sleep(BETWEEN).await;
        }
        let due = beside(|| ledger.due(now));
        for due in due.into_iter().take(MOST_WRITES) {
            if !self.leadership.holds() {
                return;
            }
            match self.store.write(&due).await {
                Ok(version) => {
                    tally.written += 1;
                    ledger.written(&due, version);
                }
                Err(Failure::Conflict) => self.read_again(ledger, &due.key, tally).await,
                Err(failure) => tally.fail(failure),
            }
            sleep(BETWEEN).await;
        }
    }

    /// Goes by what another client has written. What was seen since this replica has read the object is lost.
    async fn read_again(&self, ledger: &mut Ledger, key: &UsageKey, tally: &mut Tally) {
        ledger.drop_known(key);
        match self.store.read(key).await {
            Ok(Some(object)) => {
                let version = object.metadata.resource_version.unwrap_or_default();
                if let Err(problem) = load_one(ledger, &key.object_name(), version, object.data) {
                    tally.note(problem);
                }
            }
            Ok(None) => {}
            Err(failure) => tally.fail(failure),
        }
    }
}

#[derive(Deserialize)]
struct Head {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    resource_version: String,
}

fn load_listed(ledger: &mut Ledger, object: &RawValue) -> Result<(), String> {
    let told = |error: serde_json::Error| format!("could not read a WasmUsage: {error}");
    let Head { metadata } = serde_json::from_str(object.get()).map_err(told)?;
    let data: Value = serde_json::from_str(object.get()).map_err(told)?;
    load_one(ledger, &metadata.name, metadata.resource_version, data)
}

fn load_one(ledger: &mut Ledger, name: &str, version: String, data: Value) -> Result<(), String> {
    let loaded = UsageObject::read(name, data).and_then(|read| ledger.load(&read, version, Timestamp::now()));
    loaded.map_err(|error| format!("WasmUsage `{}`: {error}", text::quoted(name, SHOWN_CHARS)))
}

/// Pod → container → what it uses, of a namespace.
async fn usage_of(
    client: &Client,
    namespace: &str,
) -> Result<HashMap<String, HashMap<String, Used>>, String> {
    let metrics = builtin("metrics.k8s.io", "v1beta1", "PodMetrics");
    let mut pages = Pages::new(metrics, Some(namespace.to_owned())).strict();
    let mut found = HashMap::new();
    while let Some(page) = pages.next_raw(client, MOST_METRICS).await.map_err(|error| error.to_string())? {
        beside(|| {
            let read = page.iter().filter_map(|item| used(item));
            found.extend(read.map(|(pod, containers)| (pod, containers.into_iter().collect())));
        });
        if found.len() > MOST_CONTAINERS {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::{Method, StatusCode, Uri};
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::usage::Record;

    /// A cluster with metrics that keeps what is written.
    #[derive(Default)]
    struct Fake {
        pods: Vec<Value>,
        /// Memory that each container uses.
        memory: String,
        lacks_metrics: bool,
        /// Whether the metrics are there, and no pod is among them yet.
        hides_usage: bool,
        objects: BTreeMap<String, Value>,
        version: u32,
        /// Method and path of every request.
        asked: Vec<String>,
    }

    fn status(code: u16) -> (u16, String) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "reason": "", "message": "the test wants it so"});
        (code, status.to_string())
    }

    fn list<'a>(items: impl Iterator<Item = &'a Value>) -> (u16, String) {
        (200, json!({"items": items.collect::<Vec<_>>(), "metadata": {}}).to_string())
    }

    impl Fake {
        fn answer(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
            self.asked.push(format!("{method} {path}"));
            let name = path.rsplit('/').next().unwrap();
            let is_metrics = path.contains("metrics.k8s.io");
            match (method, name) {
                ("GET", "pods") if is_metrics && self.lacks_metrics => status(404),
                ("GET", "pods") if is_metrics && self.hides_usage => list([].iter()),
                ("GET", "pods") if is_metrics => {
                    let namespace = path.split('/').rev().nth(1).unwrap();
                    let of = |pod: &&Value| pod["metadata"]["namespace"] == namespace;
                    let metrics = self.pods.iter().filter(of).map(|pod| {
                        let usage = json!({"cpu": "3m", "memory": self.memory});
                        json!({"metadata": pod["metadata"], "containers": [{"name": "app", "usage": usage}]})
                    });
                    list(metrics.collect::<Vec<_>>().iter())
                }
                ("GET", "pods") => list(self.pods.iter()),
                ("GET", "wasmusages") => list(self.objects.values()),
                ("GET", name) => {
                    self.objects.get(name).map_or_else(|| status(404), |found| (200, found.to_string()))
                }
                ("DELETE", name) => {
                    self.objects.remove(name);
                    (
                        200,
                        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
                            .to_string(),
                    )
                }
                _ => self.write(method == "POST", serde_json::from_str(body).unwrap()),
            }
        }

        fn write(&mut self, is_new: bool, mut object: Value) -> (u16, String) {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let known = self.objects.get(&name).map(|known| &known["metadata"]["resourceVersion"]);
            if known != (!is_new).then_some(&object["metadata"]["resourceVersion"]) {
                return status(409);
            }
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.objects.insert(name, object.clone());
            (200, object.to_string())
        }

        fn asked(&mut self, method: &str) -> usize {
            let count = self.asked.iter().filter(|one| one.starts_with(method)).count();
            self.asked.retain(|one| !one.starts_with(method));
            count
        }
    }

    fn pod(namespace: &str, class: &str) -> Value {
        let image = format!("a.example/app:1@sha256:{}", "a".repeat(64));
        json!({"metadata": {"name": "orders-1", "namespace": namespace},
            "spec": {"runtimeClassName": class, "containers": [{"name": "app", "image": image}]},
            "status": {"containerStatuses": [{"name": "app", "imageID": "", "state": {"running": {}}}]}})
    }

    fn client(fake: &Arc<Mutex<Fake>>) -> Client {
        let fake = Arc::clone(fake);
        let answer = move |method: Method, uri: Uri, body: String| {
            let (code, said) = fake.lock().unwrap().answer(method.as_str(), uri.path(), &body);
            async move { (StatusCode::from_u16(code).unwrap(), said) }
        };
        let router: axum::Router = axum::Router::new().fallback(answer);
        Client::new(router, "default")
    }

    /// Says something at once.
    fn rounds(client: &Client) -> Rounds {
        let options =
            LearnOptions { enabled: true, after: SignedDuration::from_secs(0), ..LearnOptions::default() };
        let leadership = Leadership::held();
        let store = Store::new(client.clone(), leadership.clone(), Duration::from_secs(5));
        Rounds { options, store, leadership }
    }

    async fn go(rounds: &Rounds, client: &Client, ledger: &mut Ledger) -> Tally {
        let mut tally = Tally::default();
        let runtime_of = |class: &str| (class == "wasm").then(|| "wasmtime".to_owned());
        let is_exempt = |namespace: &str| namespace == "kube-system";
        let scope = Scope { runtime_of: &runtime_of, is_exempt: &is_exempt };
        rounds.round(client, scope, ledger, &mut tally).await;
        tally
    }

    #[tokio::test]
    async fn what_wasm_containers_use_is_read_in_their_namespaces_alone_and_written_as_one_object() {
        let pods =
            vec![pod("shop", "wasm"), pod("web", "wasm"), pod("linux", ""), pod("kube-system", "wasm")];
        let fake = Arc::new(Mutex::new(Fake { pods, memory: "9Mi".into(), ..Fake::default() }));
        let client = client(&fake);
        let rounds = rounds(&client);
        let mut tally = Tally::default();
        let mut ledger = rounds.load(&client, &mut tally).await.unwrap();
        let tally = go(&rounds, &client, &mut ledger).await;
        assert_eq!((tally.sampled, tally.written, tally.failed), (2, 1, 0), "{tally:?}");
        assert!(tally.problems.is_empty(), "{tally:?}");
        let mut fake = fake.lock().unwrap();
        let asked = |namespace: &str| {
            let path = format!("GET /apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
            fake.asked.iter().filter(|one| **one == path).count()
        };
        assert_eq!(["shop", "web", "linux", "kube-system"].map(asked), [1, 1, 0, 0]);
        assert_eq!(fake.asked("POST"), 1);
        let object = fake.objects.values().next().unwrap();
        assert_eq!((&object["kind"], &object["spec"]["runtime"]), (&json!("WasmUsage"), &json!("wasmtime")));
        assert!(object["status"]["requests"]["memory"].as_str().unwrap().ends_with("Mi"), "{object}");
    }

    #[tokio::test]
    async fn another_clients_change_is_read_and_an_object_that_cannot_be_read_stops_no_other() {
        let fake = Arc::new(Mutex::new(Fake {
            pods: vec![pod("shop", "wasm")],
            memory: "9Mi".into(),
            ..Fake::default()
        }));
        let client = client(&fake);
        let rounds = rounds(&client);
        let mut ledger = Ledger::new(rounds.options);
        assert_eq!(go(&rounds, &client, &mut ledger).await.written, 1);
        // Another client changes it.
        let spoil = |fields: &dyn Fn(&mut Value)| {
            let mut fake = fake.lock().unwrap();
            fake.version += 100;
            fake.memory = "90Mi".into();
            let version = fake.version.to_string();
            let object = fake.objects.values_mut().next().unwrap();
            object["metadata"]["resourceVersion"] = json!(version);
            fields(object);
        };
        spoil(&|_| ());
        let tally = go(&rounds, &client, &mut ledger).await;
        assert_eq!((tally.written, tally.failed, tally.problems.len()), (0, 0, 0), "{tally:?}");
        assert_eq!(ledger.images(), 1, "it goes by what the other one wrote");
        spoil(&|object| object["spec"]["runtime"] = json!("other"));
        for _ in 0..2 {
            let tally = go(&rounds, &client, &mut ledger).await;
            assert!(
                tally.problems.iter().any(|problem| problem.contains("could not use the object")),
                "{tally:?}"
            );
        }
        let mut tally = Tally::default();
        let ledger = rounds.load(&client, &mut tally).await.unwrap();
        assert_eq!((ledger.images(), tally.problems.len()), (0, 1), "{tally:?}");
    }

    #[tokio::test]
    async fn what_runs_is_not_forgotten_while_there_are_no_metrics_of_it() {
        let fake = Arc::new(Mutex::new(Fake {
            pods: vec![pod("shop", "wasm")],
            hides_usage: true,
            ..Fake::default()
        }));
        let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let key = UsageKey { digest, runtime: "wasmtime".into() };
        let long_ago = Record::new("2020-01-01T00:00:00Z".parse().unwrap());
        let mut object = serde_json::to_value(UsageObject::of(&key, &long_ago, None)).unwrap();
        object["metadata"] = json!({"name": key.object_name(), "resourceVersion": "1"});
        fake.lock().unwrap().objects.insert(key.object_name(), object);
        let client = client(&fake);
        let rounds = rounds(&client);
        let mut ledger = rounds.load(&client, &mut Tally::default()).await.unwrap();
        let tally = go(&rounds, &client, &mut ledger).await;
        assert_eq!((tally.sampled, tally.deleted, ledger.images()), (0, 0, 1), "{tally:?}");
        fake.lock().unwrap().pods.clear();
        let tally = go(&rounds, &client, &mut ledger).await;
        assert_eq!((tally.deleted, ledger.images()), (1, 0), "{tally:?}");
        assert!(fake.lock().unwrap().objects.is_empty());
    }

    #[tokio::test]
    async fn a_cluster_without_metrics_is_said_and_nothing_is_written() {
        let pods =
            vec![pod("a", "wasm"), pod("b", "wasm"), pod("c", "wasm"), pod("d", "wasm"), pod("e", "wasm")];
        let fake = Arc::new(Mutex::new(Fake { pods, lacks_metrics: true, ..Fake::default() }));
        let client = client(&fake);
        let rounds = rounds(&client);
        let mut ledger = Ledger::new(rounds.options);
        let tally = go(&rounds, &client, &mut ledger).await;
        let said = "could not list pods.metrics.k8s.io: not found: this API server does not serve metrics.k8s.io/v1beta1";
        assert_eq!(tally.problems, [said]);
        assert_eq!((tally.sampled, tally.written, ledger.images()), (0, 0, 0));
        let asked = fake.lock().unwrap().asked.iter().filter(|one| one.contains("metrics.k8s.io")).count();
        assert_eq!(asked, MOST_FAILURES, "no further namespace is asked for");
    }
}
