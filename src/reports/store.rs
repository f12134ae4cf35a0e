//! The reports of the cluster: what they say, and what has to be written so that they say what they should.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PostParams, Preconditions};
use kube::core::{ApiResource, Status};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::cluster_report::{NAME, RESUME_AT};
use super::document::{Document, MANAGED_BY, RESULT_ID, set, set_kind};
use super::options::{MOST_RESULTS, ReportFormat};
use super::pace::Pace;
use super::tally::Tally;
use crate::register::{Leadership, task};
use crate::shares::beside;
use crate::watch::is_served;

/// Field manager of the reports in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "wasmgate-reports";

/// Longest time limit for one request.
const REQUEST: Duration = Duration::from_secs(5);

/// Most reports of which it is remembered that they say what they should; of others it is read.
const MOST_KNOWN: usize = 20_000;

/// A report of the gate that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: String,
}

/// What a report was seen to say.
#[derive(Debug)]
struct Known {
    version: String,
    digest: [u8; 32],
}

/// Brings reports up to date while this replica is the writer.
pub struct Store {
    client: Client,
    format: ReportFormat,
    leadership: Leadership,
    /// Time limit for one request.
    request: Duration,
    known: HashMap<(String, String), Known>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What became of a report.
enum Settled {
    Written,
    Unchanged,
}

impl Store {
    /// Knows nothing of the reports yet. A request takes no longer than `request`, so that it ends within the term in which it began.
    pub fn new(client: Client, format: ReportFormat, leadership: Leadership, request: Duration) -> Self {
        Self { client, format, leadership, request: request.min(REQUEST), known: HashMap::new() }
    }

    /// Brings a report of a namespace up to date. If not all that it may be about was read (`is_whole`), one that exists says more than what
    /// was read now, and stays.
    pub async fn settle(
        &mut self,
        namespace: &str,
        document: &Document,
        found: Option<&Existing>,
        (is_whole, pace): (bool, &mut Pace),
        tally: &mut Tally,
    ) {
        let api = Api::namespaced_with(self.client.clone(), namespace, &self.format.report());
        let settled = if is_whole {
            self.keep(&api, namespace, document, found, pace).await
        } else if found.is_some() {
            Ok(Settled::Unchanged)
        } else {
            self.add(&api, document, pace).await
        };
        match settled {
            Ok(Settled::Written) => tally.written += 1,
            Ok(Settled::Unchanged) => tally.unchanged += 1,
            Err(problem) => tally.fail(problem),
        }
    }

    /// Deletes the reports of a namespace that are wanted no more.
    pub async fn clear(
        &mut self,
        namespace: &str,
        existing: BTreeMap<String, Existing>,
        pace: &mut Pace,
        tally: &mut Tally,
    ) {
        let api = Api::namespaced_with(self.client.clone(), namespace, &self.format.report());
        for (name, Existing { uid, .. }) in existing {
            self.known.remove(&(namespace.to_owned(), name.clone()));
            pace.turn().await;
            match self.delete(&api, &name, uid).await {
                Ok(()) => tally.deleted += 1,
                Err(problem) => tally.fail(problem),
            }
        }
    }

    /// Brings the report on the cluster up to date.
    pub async fn settle_cluster(&mut self, document: &Document, pace: &mut Pace, tally: &mut Tally) {
        let api = Api::all_with(self.client.clone(), &self.format.cluster_report());
        pace.turn().await;
        // Read each time: it is one object, and may hold where a round is to go on.
        match self.compare_and_write(&api, document).await {
            Ok((Settled::Written, _)) => tally.written += 1,
            Ok((Settled::Unchanged, _)) => tally.unchanged += 1,
            Err(problem) => tally.fail(problem),
        }
    }

    /// Writes a report if there is none: the list of them may have failed too.
    async fn add(
        &self,
        api: &Api<DynamicObject>,
        document: &Document,
        pace: &mut Pace,
    ) -> Result<Settled, String> {
        pace.turn().await;
        if self.ask(api, "get", api.get_opt(&document.name)).await?.is_some() {
            return Ok(Settled::Unchanged);
        }
        Ok(self.create(api, document).await?.0)
    }

    async fn keep(
        &mut self,
        api: &Api<DynamicObject>,
        namespace: &str,
        document: &Document,
        found: Option<&Existing>,
        pace: &mut Pace,
    ) -> Result<Settled, String> {
        let key = (namespace.to_owned(), document.name.clone());
        let digest: [u8; 32] = beside(|| Sha256::digest(document.object.to_string().as_bytes())).into();
        let known = self.known.get(&key);
        let is_as_known = found.zip(known).is_some_and(|(found, known)| found.version == known.version);
        if is_as_known && known.is_some_and(|known| known.digest == digest) {
            return Ok(Settled::Unchanged);
        }
        pace.turn().await;
        let (settled, version) = self.compare_and_write(api, document).await?;
        if self.known.len() < MOST_KNOWN || self.known.contains_key(&key) {
            self.known.insert(key, Known { version, digest });
        }
        Ok(settled)
    }

    /// Reads the report, and writes it if it says something else. Returns its version then.
    async fn compare_and_write(
        &self,
        api: &Api<DynamicObject>,
        document: &Document,
    ) -> Result<(Settled, String), String> {
        let Some(old) = self.ask(api, "get", api.get_opt(&document.name)).await? else {
            return self.create(api, document).await;
        };
        let version = old.metadata.resource_version.clone().unwrap_or_default();
        // What it says is what others have written.
        let Some(new) = beside(|| changed(&old, document, Timestamp::now()))? else {
            return Ok((Settled::Unchanged, version));
        };
        self.leadership.check()?;
        let written = self.ask(api, "update", api.replace(&document.name, &post(), &new)).await?;
        Ok((Settled::Written, written.metadata.resource_version.unwrap_or_default()))
    }

    async fn create(
        &self,
        api: &Api<DynamicObject>,
        document: &Document,
    ) -> Result<(Settled, String), String> {
        let new = object(dated(document.object.clone(), None, Timestamp::now()))?;
        self.leadership.check()?;
        let create = async {
            match api.create(&post(), &new).await {
                // Its workloads are being deleted.
                Err(kube::Error::Api(status)) if is_ending(&status) => Ok(None),
                other => other.map(Some),
            }
        };
        let written = self.ask(api, "create", create).await?;
        let version = written.map(|written| written.metadata.resource_version.unwrap_or_default());
        Ok(version.map_or((Settled::Unchanged, String::new()), |version| (Settled::Written, version)))
    }

    async fn delete(&self, api: &Api<DynamicObject>, name: &str, uid: String) -> Result<(), String> {
        self.leadership.check()?;
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let delete = async {
            match api.delete(name, &how).await {
                // Its owner is gone, and the garbage collector was faster.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        };
        self.ask(api, "delete", delete).await
    }

    // === where a round goes on ===

    /// Whether the cluster has the kinds of the reports, in the versions in which they are written.
    pub async fn check_definitions(&self) -> Result<(), String> {
        for wanted in [self.format.report(), self.format.cluster_report()] {
            if !self.has(&wanted).await? {
                let ApiResource { kind, api_version, .. } = wanted;
                return Err(format!(
                    "the cluster has no `{kind}` of `{api_version}`: install its CustomResourceDefinitions, or choose another `reports.format`"
                ));
            }
        }
        Ok(())
    }

    async fn has(&self, wanted: &ApiResource) -> Result<bool, String> {
        match timeout(self.request, is_served(&self.client, wanted)).await {
            Ok(Ok(served)) => Ok(served),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server did not answer in time".into()),
        }
    }

    /// The namespace at which a round that another replica began goes on.
    pub async fn resume_at(&self) -> Result<Option<String>, String> {
        let api = self.cluster_reports();
        let report = self.ask(&api, "get", api.get_opt(NAME)).await?;
        let annotations = report.and_then(|report| report.metadata.annotations);
        Ok(annotations.and_then(|mut annotations| annotations.remove(RESUME_AT)).filter(|at| !at.is_empty()))
    }

    /// Notes where another replica would go on.
    pub async fn note_resume_at(&self, namespace: &str) -> Result<(), String> {
        self.leadership.check()?;
        let api = self.cluster_reports();
        let patch = json!({"metadata": {"annotations": {RESUME_AT: namespace}}});
        let how = task::patched_by(FIELD_MANAGER);
        let noted = self.ask(&api, "patch", async {
            match api.patch(NAME, &how, &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    let resource = self.format.cluster_report();
                    let mut new = json!({"metadata": {"name": NAME, "labels": {MANAGED_BY.0: MANAGED_BY.1},
                        "annotations": {RESUME_AT: namespace}}});
                    set_kind(&mut new, &resource);
                    api.create(&post(), &serde_json::from_value(new).map_err(kube::Error::SerdeError)?).await
                }
                other => other,
            }
        });
        noted.await.map(drop)
    }

    fn cluster_reports(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &self.format.cluster_report())
    }

    /// What is asked for or written through this.
    fn resource(&self, api: &Api<DynamicObject>) -> ApiResource {
        let cluster = self.format.cluster_report();
        let is_of_cluster = api.resource_url().ends_with(&format!("/{}", cluster.plural));
        if is_of_cluster { cluster } else { self.format.report() }
    }

    /// Forgets the reports of all other namespaces.
    pub fn retain(&mut self, namespaces: &BTreeSet<String>) {
        self.known.retain(|(namespace, _), _| namespaces.contains(namespace));
    }

    /// The result of a request, or what is wrong, in words.
    async fn ask<T>(
        &self,
        api: &Api<DynamicObject>,
        verb: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, String> {
        match timeout(self.request, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(explained(verb, &self.resource(api), &error)),
            Err(_) => Err(task::unanswered(verb)),
        }
    }
}

/// Whether nothing can be created because the namespace is being deleted
/// (`kubernetes:staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go`).
fn is_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn explained(verb: &str, resource: &ApiResource, error: &kube::Error) -> String {
    let name = format!("{}.{}", resource.plural, resource.group);
    task::explained(error, verb, (name.as_str(), "wasmgate-reports"))
}

fn post() -> PostParams {
    task::written_by(FIELD_MANAGER)
}

fn object(value: Value) -> Result<DynamicObject, String> {
    serde_json::from_value(value).map_err(|error| format!("could not make a report: {error}"))
}

// === what counts (pure) ===

/// What is written in the place of a report; `None` if that says what it should.
fn changed(
    old: &DynamicObject,
    document: &Document,
    now: Timestamp,
) -> Result<Option<DynamicObject>, String> {
    let was = serde_json::to_value(old).unwrap_or_default();
    if relevant(&was) == relevant(&document.object) {
        return Ok(None);
    }
    object(over(&was, &document.object, now)).map(Some)
}

/// What the gate says in a report, without the times.
fn relevant(report: &Value) -> Value {
    let metadata = |member: &str| report.get("metadata").and_then(|metadata| metadata.get(member));
    let mut results = report.get("results").cloned().unwrap_or_default();
    for result in results.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        result.remove("timestamp");
    }
    // Where a round goes on is not said once it has ended.
    let resumes = metadata("annotations").and_then(|annotations| annotations.get(RESUME_AT));
    let managed_by = metadata("labels").and_then(|labels| labels.get(MANAGED_BY.0));
    let [source, scope, summary] = ["source", "scope", "summary"].map(|member| report.get(member));
    json!([managed_by, resumes, metadata("ownerReferences"), source, scope, summary, results])
}

/// The new report in the place of the old one: with what others have added to its metadata.
fn over(old: &Value, new: &Value, now: Timestamp) -> Value {
    let mut metadata = old.get("metadata").cloned().unwrap_or_default();
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(RESUME_AT);
    }
    let mut labels =
        metadata.get("labels").filter(|labels| labels.is_object()).cloned().unwrap_or_else(|| json!({}));
    set(&mut labels, MANAGED_BY.0, MANAGED_BY.1);
    set(&mut metadata, "labels", labels);
    if let Some(owners) = new.pointer("/metadata/ownerReferences") {
        set(&mut metadata, "ownerReferences", owners.clone());
    }
    let mut report = dated(new.clone(), Some(old), now);
    set(&mut report, "metadata", metadata);
    report
}

/// The report with the time at which each result was found first.
fn dated(mut report: Value, old: Option<&Value>, now: Timestamp) -> Value {
    let of = |report: &Value| report.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut known: HashMap<Value, Value> = HashMap::new();
    // Others may write reports too: the gate's own have one more than the most, which counts the rest.
    for mut result in old.map(of).unwrap_or_default().into_iter().take(MOST_RESULTS + 1) {
        if let Some(time) = result.as_object_mut().and_then(|result| result.remove("timestamp")) {
            known.entry(without_id(result)).or_insert(time);
        }
    }
    let now = json!({"seconds": now.as_second(), "nanos": 0});
    let results = report.get_mut("results").and_then(Value::as_array_mut);
    for result in results.into_iter().flatten() {
        let mut bare = without_id(result.clone());
        let known = known.get(&bare).or_else(|| {
            // Earlier gates gave some results no severity.
            bare.as_object_mut()?.remove("severity");
            known.get(&bare)
        });
        let time = known.unwrap_or(&now).clone();
        set(result, "timestamp", time);
    }
    report
}

/// What a result says. Its identity follows from that, and earlier gates wrote none.
fn without_id(mut result: Value) -> Value {
    let properties = result.get_mut("properties").and_then(Value::as_object_mut);
    let is_bare = properties.is_some_and(|properties| {
        properties.remove(RESULT_ID);
        properties.is_empty()
    });
    if is_bare && let Some(result) = result.as_object_mut() {
        result.remove("properties");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(message: &str) -> Value {
        json!({"metadata": {"name": "a", "labels": {MANAGED_BY.0: MANAGED_BY.1}, "ownerReferences": [{"uid": "u"}]},
            "summary": {"pass": 0, "fail": 1}, "scope": {"kind": "Pod"},
            "results": [{"policy": "p", "message": "same"}, {"policy": "p", "message": message}]})
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn times_and_what_others_wrote_make_no_difference_and_stay() {
        let mut old = dated(report("old"), None, at(100));
        old["metadata"]["resourceVersion"] = json!("7");
        old["metadata"]["annotations"] = json!({"team": "a", RESUME_AT: "b"});
        old["metadata"]["labels"]["theirs"] = json!("yes");
        assert_ne!(relevant(&old), relevant(&report("old")), "where a round goes on has to go");
        old["metadata"]["annotations"] = json!({"team": "a"});
        assert_eq!(relevant(&old), relevant(&report("old")));
        assert_ne!(relevant(&old), relevant(&report("new")));
        let new = over(&old, &report("new"), at(200));
        let seconds = |index: usize| new["results"][index]["timestamp"]["seconds"].clone();
        assert_eq!((seconds(0), seconds(1)), (json!(100), json!(200)));
        assert_eq!(new["metadata"]["resourceVersion"], "7");
        assert_eq!(new["metadata"]["annotations"], json!({"team": "a"}));
        assert_eq!(new["metadata"]["labels"], json!({MANAGED_BY.0: MANAGED_BY.1, "theirs": "yes"}));
    }

    #[test]
    fn a_result_of_a_gate_that_wrote_no_identities_keeps_its_time() {
        let results = |results: Value| json!({"results": results});
        let bare = results(json!([{"message": "a"}, {"message": "b", "properties": {"container": "api"}}]));
        let mut old = dated(bare, None, at(100));
        let with = json!([{"message": "a", "properties": {RESULT_ID: "1"}},
            {"message": "b", "properties": {"container": "api", RESULT_ID: "2"}},
            {"message": "b", "properties": {"container": "other", RESULT_ID: "3"}}]);
        let seconds = |report: &Value| {
            let results = report["results"].as_array().unwrap().iter();
            results.map(|one| one["timestamp"]["seconds"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        old = dated(results(with.clone()), Some(&old), at(200));
        assert_eq!(seconds(&old), [100, 100, 200]);
        assert_eq!(old["results"][0]["properties"][RESULT_ID], "1", "it is written");
        assert_eq!(seconds(&dated(results(with), Some(&old), at(300))), [100, 100, 200]);
    }

    #[test]
    fn a_result_of_a_gate_that_wrote_no_severity_keeps_its_time_and_another_severity_is_another_result() {
        let one = |severity: Option<&str>| {
            let mut result = json!({"message": "a"});
            if let Some(severity) = severity {
                set(&mut result, "severity", severity);
            }
            json!({"results": [result]})
        };
        let seconds = |report: &Value| report["results"][0]["timestamp"]["seconds"].as_i64();
        let old = dated(one(None), None, at(100));
        let new = dated(one(Some("info")), Some(&old), at(200));
        assert_eq!((seconds(&new), &new["results"][0]["severity"]), (Some(100), &json!("info")));
        assert_eq!(seconds(&dated(one(Some("high")), Some(&new), at(300))), Some(300));
    }

    #[test]
    fn each_of_many_results_keeps_its_own_time_and_of_two_that_are_the_same_the_first() {
        let with = |numbers: &mut dyn Iterator<Item = usize>| {
            let results: Vec<Value> = numbers.map(|number| json!({"message": number.to_string()})).collect();
            json!({"results": results})
        };
        let mut old = with(&mut (0..MOST_RESULTS));
        for (number, result) in old["results"].as_array_mut().unwrap().iter_mut().enumerate() {
            result["timestamp"] = json!({"seconds": number});
        }
        let again = json!({"message": "1", "timestamp": {"seconds": 77}});
        old["results"].as_array_mut().unwrap().push(again);
        let new = dated(with(&mut (0..=MOST_RESULTS).rev()), Some(&old), at(5_000_000));
        let seconds: Vec<u64> = new["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["timestamp"]["seconds"].as_u64().unwrap())
            .collect();
        assert_eq!(seconds[0], 5_000_000);
        assert!(seconds[1..].iter().copied().eq((0..MOST_RESULTS as u64).rev()));
    }

    #[test]
    fn a_changed_owner_or_label_is_mended() {
        let old = dated(report("a"), None, at(1));
        for pointer in ["/metadata/ownerReferences/0/uid", "/metadata/labels/app.kubernetes.io~1managed-by"] {
            let mut touched = old.clone();
            *touched.pointer_mut(pointer).unwrap() = json!("other");
            assert_ne!(relevant(&touched), relevant(&report("a")), "{pointer}");
            assert_eq!(relevant(&over(&touched, &report("a"), at(2))), relevant(&report("a")), "{pointer}");
        }
    }
}
