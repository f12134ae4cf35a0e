//! One round: through the whole cluster, or through some of its namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::Instant;

use super::basis::Basis;
use super::document::{self, MANAGED_BY, SOURCE};
use super::kept::{Holding, Kept};
use super::options::ReportOptions;
use super::pace::Pace;
use super::place::Place;
use super::store::{Existing, FIELD_MANAGER, Store};
use super::tally::Tally;
use super::walk::{Stream, Taken};
use crate::admission::Basis as GateBasis;
use crate::register::Leadership;
use crate::review::GroupVersionKind;
use crate::scan::bounds::Budget;
use crate::scan::identity::Identities;
use crate::scan::model::{ManifestPlace, word};
use crate::scan::{Collector, Filter, FoundObject, Judge, Progress, Scan, kinds};
use crate::shares::beside;
use crate::watch::Pages;

/// Longest time to look at the images of one object.
const BUDGET: Duration = Duration::from_secs(20);

/// Objects that are judged at the same time.
const AT_ONCE: usize = 4;

/// Most bytes of these as text, of more than one.
const TOGETHER: usize = 512 << 10;

/// What is held of one namespace is half of that: ten thousand workloads that all differ.
const HELD: Budget = Budget {
    bytes: Budget::OF_SERVER,
    cure: "not all of its objects were judged, because the others take as much memory as its reports may; `wasmgate scan --namespace` judges all",
};

/// How often it is noted where another replica would go on with a round.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// What a round goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces, from this one on in the order of their keys.
    From(Place),
    /// These alone.
    Namespaces(BTreeSet<String>),
}

/// How a round ended.
#[derive(Debug)]
pub struct Ended {
    /// What it did.
    pub tally: Tally,
    /// The namespaces that it went through.
    pub namespaces: BTreeSet<String>,
    /// Whether it came to its end as the writer.
    pub came_through: bool,
}

/// What rounds have in common.
#[derive(Debug)]
pub struct Rounds {
    /// The settings.
    pub options: ReportOptions,
    /// The reports.
    pub store: Store,
    /// Whether this replica is the writer.
    pub leadership: Leadership,
    /// Verdicts of former rounds.
    pub kept: Kept,
    /// For requests to the API server.
    pub requests: Pace,
    /// For what is judged.
    pub judging: Pace,
}

/// Counts what is read and judged.
#[derive(Debug, Default)]
struct Counts {
    seen: AtomicUsize,
    judged: AtomicUsize,
}

impl Progress for Counts {
    fn seen(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn judged(&self) {
        self.judged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Objects that are judged together, and such as are not judged, with the reason.
#[derive(Default)]
struct Batch {
    found: Vec<FoundObject>,
    left: Vec<(FoundObject, String)>,
}

impl Batch {
    const fn len(&self) -> usize {
        self.found.len() + self.left.len()
    }
}

/// What one round goes by.
struct Round<'a> {
    rounds: &'a mut Rounds,
    client: &'a Client,
    judge: Judge,
    identities: Arc<Identities>,
    basis: &'a Basis,
    counts: Arc<Counts>,
    tally: Tally,
    /// Whether the present namespace has an object that could not be read.
    has_unread: bool,
}

impl Rounds {
    /// Goes through the cluster by what the gate goes by now.
    pub async fn round(&mut self, client: &Client, gate: &GateBasis, basis: &Basis, scope: Scope) -> Ended {
        let judge = Judge {
            state: Arc::clone(&gate.state),
            inspector: Arc::clone(&gate.inspector),
            budget: BUDGET,
            cure: "look at the registry of its images",
            suggest: |_, _| Vec::new(),
        };
        let identities = Arc::new(Identities::new(&gate.state, false));
        let counts = Arc::new(Counts::default());
        let (tally, has_unread) = (Tally::default(), false);
        let mut round = Round { rounds: self, client, judge, identities, basis, counts, tally, has_unread };
        let mut namespaces = BTreeSet::new();
        let came_through = match scope {
            Scope::From(first) => round.go_through(None, &first, &mut namespaces).await,
            Scope::Namespaces(some) => {
                let mut came_through = true;
                for namespace in some {
                    let at = Place::default();
                    came_through &= round.go_through(Some(namespace), &at, &mut namespaces).await;
                }
                came_through
            }
        };
        let Round { mut tally, counts, .. } = round;
        tally.seen = counts.seen.load(Ordering::Relaxed);
        tally.judged = counts.judged.load(Ordering::Relaxed);
        Ended { tally, namespaces, came_through }
    }

    fn leads(&self) -> bool {
        self.leadership.holds()
    }
}

impl Round<'_> {
    /// Goes through one namespace, or all from `first` on. `false` if another replica is the writer before the end.
    async fn go_through(
        &mut self,
        namespace: Option<String>,
        first: &Place,
        through: &mut BTreeSet<String>,
    ) -> bool {
        let (resources, unknown) = kinds::resources(self.client, &self.judge.state.kinds).await;
        for error in &unknown {
            self.tally.problem(error.to_string());
        }
        let stream = |resource| Stream::new(Pages::new(resource, namespace.clone()));
        let mut objects: Vec<Stream> = resources.into_iter().map(stream).collect();
        let reports = Pages::new(self.rounds.options.format.report(), namespace.clone());
        let mut reports = Stream::new(reports.metadata_of(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)));
        let (is_cluster, mut noted) = (namespace.is_none(), Instant::now());
        loop {
            let Some(place) = self.next_place(&mut objects, &mut reports).await else { return true };
            if !self.rounds.leads() {
                return false;
            }
            let is_before = place < *first;
            if is_cluster && !is_before && noted.elapsed() > NOTED_EVERY {
                noted = Instant::now();
                self.note(&place).await;
            }
            self.namespace(&place, is_before, &mut objects, &mut reports).await;
            if !is_before {
                through.insert(place.0);
            }
        }
    }

    async fn note(&mut self, place: &Place) {
        self.rounds.requests.turn().await;
        if let Err(problem) = self.rounds.store.note_resume_at(&place.0).await {
            self.tally.fail(problem);
        }
    }

    /// The first namespace in which there is anything ahead.
    async fn next_place(&mut self, objects: &mut [Stream], reports: &mut Stream) -> Option<Place> {
        let mut next: Option<Place> = None;
        for stream in objects.iter_mut().chain([reports]) {
            let ahead = self.ahead(stream).await;
            next = match (next, ahead) {
                (Some(next), Some(ahead)) => Some(next.min(ahead)),
                (next, ahead) => next.or(ahead),
            };
        }
        next
    }

    async fn ahead(&mut self, stream: &mut Stream) -> Option<Place> {
        let is_of_reports = stream.is_of_metadata();
        match stream.ahead(self.client, &mut self.rounds.requests).await {
            Ok(ahead) => ahead,
            // A report that is not listed is read before it is written.
            Err(problem) if is_of_reports => {
                self.tally.note(problem);
                None
            }
            Err(problem) => {
                self.tally.problem(problem);
                None
            }
        }
    }

    /// Judges what is in a namespace and brings its reports up to date; or passes it over.
    async fn namespace(&mut self, place: &Place, passes: bool, objects: &mut [Stream], reports: &mut Stream) {
        self.has_unread = false;
        let now = std::time::Instant::now();
        let refresh = Duration::try_from(self.rounds.options.refresh).unwrap_or_default();
        let held = if passes {
            Holding::default()
        } else {
            self.rounds.kept.take(&place.0, self.basis, (now, refresh))
        };
        let filter = Filter { without_plain: true, ..Filter::default() };
        let (judge, identities) = (self.judge.clone(), Arc::clone(&self.identities));
        let counts: Arc<dyn Progress> = Arc::clone(&self.counts) as _;
        let mut collector = Collector::sharing(judge, identities, filter, Some(&place.0), counts)
            .within(HELD)
            .knowing(held.verdicts.clone());
        for stream in objects {
            let kind = stream.kind();
            loop {
                let batch = self.batch(stream, place, &kind).await;
                if batch.len() == 0 {
                    break;
                }
                if !passes {
                    self.judged(&mut collector, batch).await;
                }
            }
        }
        let mut existing = BTreeMap::new();
        while self.ahead(reports).await.as_ref() == Some(place) {
            let Some(Taken::Whole(report) | Taken::Head(report, _)) = reports.take() else { break };
            existing.extend(as_existing(&report));
        }
        if passes {
            return;
        }
        self.rounds.kept.put(&place.0, collector.verdicts(), self.basis, &held, now);
        if collector.is_partial() {
            self.has_unread = true;
            self.tally.leave(format!("namespace {}: {}", place.0, HELD.cure));
        }
        let scan = beside(|| collector.finish());
        self.report(place, scan, existing).await;
    }

    /// Judges at the pace of the settings.
    async fn judged(&mut self, collector: &mut Collector, batch: Batch) {
        let before = self.counts.judged.load(Ordering::Relaxed);
        collector.take(batch.found).await;
        for (found, reason) in batch.left {
            collector.leave(found, reason);
        }
        let judged = self.counts.judged.load(Ordering::Relaxed).saturating_sub(before);
        self.rounds.judging.turns(judged).await;
    }

    /// The next objects of a kind in a namespace.
    async fn batch(&mut self, stream: &mut Stream, place: &Place, kind: &GroupVersionKind) -> Batch {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while batch.len() < AT_ONCE && self.ahead(stream).await.as_ref() == Some(place) {
            let next = stream.next_bytes();
            if !batch.found.is_empty() && bytes + next > TOGETHER {
                break;
            }
            match beside(|| stream.take()) {
                Some(Taken::Whole(object)) => {
                    bytes += next;
                    batch.found.push(found(object, kind));
                }
                Some(Taken::Head(object, reason)) => {
                    self.leave(found(object, kind), reason, place, &mut batch);
                }
                None => break,
            }
        }
        batch
    }

    /// An object that is not judged. One whose uid is known gets a report, or belongs to a workload that does, which says so.
    fn leave(&mut self, found: FoundObject, reason: String, place: &Place, batch: &mut Batch) {
        let uid = found.object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        if uid.is_empty() {
            self.has_unread = true;
            self.tally.leave(format!("{} {}/{}: {reason}", found.kind.kind, place.0, found.name));
        } else {
            batch.left.push((found, reason));
        }
    }

    async fn report(&mut self, place: &Place, scan: Scan, mut existing: BTreeMap<String, Existing>) {
        self.tally.not_judged += scan.not_judged.len();
        // What could not be read may be what a report is about, or a part of that.
        let is_whole = !self.tally.is_unread && !self.has_unread;
        let Rounds { store, requests, options, .. } = &mut *self.rounds;
        // One after the other: a report takes many times the memory of what it is made of.
        for workload in &scan.workloads {
            let by = (&*options, &**self.judge.state.cluster());
            let Some(document) = beside(|| document::report(workload, is_whole, by)) else { continue };
            *self.tally.outcomes.entry(word(workload.outcome)).or_default() += 1;
            let found = existing.remove(&document.name);
            let how = (is_whole, &mut *requests);
            store.settle(&place.0, &document, found.as_ref(), how, &mut self.tally).await;
        }
        if is_whole {
            store.clear(&place.0, existing, requests, &mut self.tally).await;
        }
    }
}

fn found(object: Value, kind: &GroupVersionKind) -> FoundObject {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    FoundObject { object, kind: kind.clone(), name, place: ManifestPlace::default() }
}

/// A report of the gate; `None` for those of others. Their label may be the same: its value is the name of a product, and not of this gate.
fn as_existing(report: &Value) -> Option<(String, Existing)> {
    let metadata = report.get("metadata")?;
    let of = |key: &str| metadata.get(key)?.as_str().map(str::to_owned);
    let (name, managers) = (of("name")?, metadata.get("managedFields")?.as_array()?);
    let is_named = name.strip_prefix(SOURCE).is_some_and(|rest| rest.starts_with('-'));
    let is_written = managers.iter().any(|entry| entry.get("manager").is_some_and(|by| by == FIELD_MANAGER));
    let existing = Existing { uid: of("uid")?, version: of("resourceVersion")? };
    (is_named && is_written).then_some((name, existing))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use axum::http::{Method, StatusCode, Uri};
    use serde_json::json;

    use super::super::basis::tests::{NOW, at, state};
    use super::*;
    use crate::cluster::Cluster;
    use crate::lookup::{Inspector, LookupOptions};

    /// A cluster that takes reports.
    #[derive(Default)]
    pub(in crate::reports) struct Fake {
        pub deployments: Vec<String>,
        pub hides_pods: bool,
        /// The reports by name, also that on the cluster.
        pub reports: BTreeMap<String, Value>,
        /// The methods of all writes.
        pub writes: Vec<String>,
    }

    fn list(items: &[String]) -> (u16, String) {
        (200, format!(r#"{{"items": [{}], "metadata": {{}}}}"#, items.join(",")))
    }

    fn status(code: u16) -> (u16, String) {
        let said = if code < 300 { "Success" } else { "Failure" };
        let reason = if code == 404 { "NotFound" } else { "Forbidden" };
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": said, "code": code,
            "reason": reason, "message": "the test wants it so"});
        (code, status.to_string())
    }

    impl Fake {
        fn answer(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
            let (folder, last) = path.rsplit_once('/').unwrap();
            match (method, last) {
                ("GET", "apis") => {
                    (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}).to_string())
                }
                ("GET", "deployments") => list(&self.deployments),
                ("GET", "pods") if self.hides_pods => status(403),
                ("GET", "reports") => {
                    let within = self.reports.values().filter(|report| report["scope"] != Value::Null);
                    list(&within.map(Value::to_string).collect::<Vec<_>>())
                }
                ("GET", name) if folder.ends_with("reports") => {
                    self.reports.get(name).map_or_else(|| status(404), |report| (200, report.to_string()))
                }
                ("GET", _) => list(&[]),
                ("DELETE", name) => {
                    self.reports.remove(name);
                    self.writes.push(method.to_owned());
                    status(200)
                }
                _ => self.write(method, body),
            }
        }

        fn write(&mut self, method: &str, body: &str) -> (u16, String) {
            let mut report: Value = serde_json::from_str(body).unwrap();
            self.writes.push(method.to_owned());
            report["metadata"]["uid"] = json!("r-1");
            report["metadata"]["resourceVersion"] = json!("1");
            report["metadata"]["managedFields"] = json!([{"manager": "other"}, {"manager": FIELD_MANAGER}]);
            let name = report["metadata"]["name"].as_str().unwrap().to_owned();
            self.reports.insert(name, report.clone());
            (200, report.to_string())
        }

        /// Makes all reports say something that is not so.
        fn spoil(&mut self) {
            for report in self.reports.values_mut() {
                report["results"] = json!([]);
                report["metadata"]["resourceVersion"] = json!("2");
            }
        }
    }

    pub(in crate::reports) fn client(fake: &Arc<Mutex<Fake>>) -> Client {
        let fake = Arc::clone(fake);
        let answer = move |method: Method, uri: Uri, body: String| {
            let (code, said) = fake.lock().unwrap().answer(method.as_str(), uri.path(), &body);
            async move { (StatusCode::from_u16(code).unwrap(), said) }
        };
        let router: axum::Router = axum::Router::new().fallback(answer);
        Client::new(router, "default")
    }

    fn rounds(client: &Client) -> Rounds {
        let (options, leadership) = (ReportOptions::default(), Leadership::held());
        let store = Store::new(client.clone(), options.format, leadership.clone(), Duration::from_secs(5));
        let (requests, judging) = (Pace::of(1_000), Pace::of(1_000));
        Rounds { options, store, leadership, kept: Kept::default(), requests, judging }
    }

    /// The writes of a round, after this change to the cluster.
    async fn writes(
        fake: &Arc<Mutex<Fake>>,
        (rounds, client): (&mut Rounds, &Client),
        gate: &GateBasis,
        change: impl FnOnce(&mut Fake),
    ) -> Vec<String> {
        change(&mut fake.lock().unwrap());
        let basis = Basis::of(&gate.state, 1, at(NOW));
        let ended = Box::pin(rounds.round(client, gate, &basis, Scope::From(Place::default()))).await;
        assert!(ended.came_through);
        std::mem::take(&mut fake.lock().unwrap().writes)
    }

    async fn gate() -> GateBasis {
        let inspector = Inspector::new(LookupOptions::default()).unwrap();
        let state = state(Cluster::default(), Vec::new()).await;
        GateBasis::new(Arc::new(state), Arc::new(inspector))
    }

    /// A Deployment with arguments of so many bytes. Its image is not looked for at an address of this machine, which its report says.
    pub(in crate::reports) fn deployment(namespace: &str, name: &str, bytes: usize) -> String {
        let containers = json!([{"name": "app", "image": "127.0.0.1:1/app:1", "args": ["x".repeat(bytes)]}]);
        let object = json!({"metadata": {"name": name, "namespace": namespace, "uid": format!("of-{name}")},
            "spec": {"template": {"spec": {"runtimeClassName": "wasmtime", "containers": containers}}}});
        object.to_string()
    }

    #[tokio::test]
    async fn the_report_on_what_is_too_large_says_so_and_the_others_are_kept_up_to_date() {
        let fake = Arc::new(Mutex::new(Fake::default()));
        let client = client(&fake);
        let (mut rounds, gate) = (rounds(&client), gate().await);
        let both = |fake: &mut Fake| {
            fake.deployments = vec![deployment("shop", "small", 1), deployment("shop", "large", 600 << 10)];
        };
        let made = writes(&fake, (&mut rounds, &client), &gate, both).await;
        assert_eq!(made, ["POST", "POST"]);
        let report = |name: &str| {
            let fake = fake.lock().unwrap();
            fake.reports.values().find(|report| report["scope"]["name"] == name).unwrap().clone()
        };
        let large = report("large");
        let said = &large["results"][0];
        assert_eq!((&said["rule"], &said["result"]), (&json!("not-judged"), &json!("error")));
        let message = said["message"].as_str().unwrap();
        assert!(message.ends_with("`wasmgate scan --namespace shop` judges it"), "{message}");
        assert!(!report("small").to_string().contains("not judged here"));
        let made = writes(&fake, (&mut rounds, &client), &gate, Fake::spoil).await;
        assert_eq!(made, ["PUT", "PUT"]);
    }

    #[tokio::test]
    async fn where_pods_cannot_be_listed_former_reports_stay_and_new_ones_say_that_there_may_be_more() {
        let fake = Arc::new(Mutex::new(Fake::default()));
        let client = client(&fake);
        let (mut rounds, gate) = (rounds(&client), gate().await);
        let before =
            |fake: &mut Fake| fake.deployments = vec![deployment("a", "one", 1), deployment("b", "two", 1)];
        assert_eq!(writes(&fake, (&mut rounds, &client), &gate, before).await, ["POST", "POST"]);
        let former = fake.lock().unwrap().reports.clone();
        let after = |fake: &mut Fake| {
            (fake.deployments, fake.hides_pods) = (vec![deployment("b", "new", 1)], true);
        };
        assert_eq!(writes(&fake, (&mut rounds, &client), &gate, after).await, ["POST"]);
        let now = fake.lock().unwrap().reports.clone();
        let stays = former.iter().all(|(name, report)| now.get(name) == Some(report));
        assert!(stays, "nothing is deleted or changed: {now:?}");
        let (_, new) = now.iter().find(|(name, _)| !former.contains_key(*name)).unwrap();
        let results = new["results"].as_array().unwrap();
        assert!(
            results.iter().any(|result| result["rule"] == "scan" && result["result"] == "error"),
            "{new}"
        );
    }

    #[tokio::test]
    async fn reports_of_others_with_the_same_label_stay() {
        let fake = Arc::new(Mutex::new(Fake::default()));
        let client = client(&fake);
        let (mut rounds, gate) = (rounds(&client), gate().await);
        let some = |fake: &mut Fake| {
            for (name, manager) in
                [("wasmgate-old", FIELD_MANAGER), ("wasmgate-theirs", "other"), ("theirs", FIELD_MANAGER)]
            {
                let labels = json!({MANAGED_BY.0: MANAGED_BY.1});
                let metadata = json!({"name": name, "namespace": "shop", "labels": labels, "uid": name,
                    "resourceVersion": "1", "managedFields": [{"manager": manager}]});
                let report = json!({"metadata": metadata, "scope": {"kind": "Pod"}});
                fake.reports.insert(name.to_owned(), report);
            }
        };
        let made = writes(&fake, (&mut rounds, &client), &gate, some).await;
        assert_eq!(made, ["DELETE"]);
        let left: Vec<String> = fake.lock().unwrap().reports.keys().cloned().collect();
        assert_eq!(left, ["theirs", "wasmgate-theirs"]);
    }

    #[tokio::test]
    async fn a_report_stays_as_it_is_where_not_everything_was_read() {
        let fake = Arc::new(Mutex::new(Fake::default()));
        let client = client(&fake);
        let (mut rounds, gate) = (rounds(&client), gate().await);
        let broken = deployment("shop", "broken", 1);
        let nested = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        let deep = format!(r#"{{"metadata": {{"name": "broken", "namespace": "shop"}}, "spec": {nested}}}"#);
        let all = |fake: &mut Fake| (fake.deployments, fake.hides_pods) = (vec![broken.clone()], false);
        let made = writes(&fake, (&mut rounds, &client), &gate, all).await;
        assert_eq!(made, ["POST"]);
        let without_pods = |fake: &mut Fake| {
            fake.spoil();
            fake.hides_pods = true;
        };
        let made = writes(&fake, (&mut rounds, &client), &gate, without_pods).await;
        assert!(made.is_empty(), "its pods may say more: {made:?}");
        let gone = writes(&fake, (&mut rounds, &client), &gate, |fake| fake.deployments.clear()).await;
        assert!(gone.is_empty(), "its pods may still be there: {gone:?}");
        let unread = |fake: &mut Fake| (fake.deployments, fake.hides_pods) = (vec![deep.clone()], false);
        let unread = writes(&fake, (&mut rounds, &client), &gate, unread).await;
        assert!(unread.is_empty(), "it is there and cannot be read: {unread:?}");
        let made = writes(&fake, (&mut rounds, &client), &gate, all).await;
        assert_eq!(made, ["PUT"]);
        let gone = writes(&fake, (&mut rounds, &client), &gate, |fake| fake.deployments.clear()).await;
        assert_eq!(gone, ["DELETE"]);
    }
}
