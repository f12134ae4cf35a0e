//! The corpus under `tests/cases`, as far as it can be put before a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use wasmgate::runtime::Runtimes;

use crate::cluster::class;
use crate::gate::{grant_documents, with_limit_ranges_in};
use crate::live_gate::Setup;

/// A case; `tests/flow/cases.rs` says what the fields mean.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    #[serde(skip)]
    pub name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    configuration: String,
    #[serde(default)]
    grants: Vec<Value>,
    #[serde(default)]
    cluster: Vec<Value>,
    #[serde(default)]
    sub_resource: Option<String>,
    pub object: Value,
    #[serde(default)]
    update: Option<Value>,
}

impl Case {
    fn load_all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let load = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut case: Self = serde_saphyr::from_str(&text).unwrap();
            case.name = path.file_stem().unwrap().to_str().unwrap().to_string();
            case
        };
        files.into_iter().map(load).collect()
    }

    /// The cases that need no gate and no RuntimeClass of their own. A real gate serves all of them at once.
    pub fn load_shared() -> Vec<Self> {
        let mut cases = Self::load_all();
        cases.retain(|case| {
            case.configuration.is_empty() && !case.cluster.iter().any(|d| d["kind"] == "RuntimeClass")
        });
        cases
    }

    /// A new object that no file has.
    pub fn of_object(name: &str, namespace: &str, object: &Value) -> Self {
        let case = json!({"namespace": namespace, "object": object});
        Self { name: name.to_string(), ..serde_json::from_value(case).unwrap() }
    }

    /// `admit`, `warn`, `deny` or `skip`.
    pub fn outcome(&self) -> &str {
        self.name.split_once('-').unwrap().0
    }

    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.name)
    }

    pub fn is_new(&self) -> bool {
        self.update.is_none() && self.sub_resource.is_none()
    }

    /// Pod template of the object, by JSON pointer; for a pod it is the object itself.
    pub fn template(&self) -> &'static str {
        match self.object["kind"].as_str().unwrap() {
            "Pod" => "",
            "PodTemplate" => "/template",
            "CronJob" => "/spec/jobTemplate/spec/template",
            _ => "/spec/template",
        }
    }

    pub fn is_pod(&self) -> bool {
        self.object["kind"] == "Pod"
    }

    fn grants(&self) -> Vec<Value> {
        grant_documents(&self.grants, self.namespace())
    }

    /// LimitRanges and what else the case says of the cluster.
    pub fn cluster(&self) -> Vec<Value> {
        with_limit_ranges_in(&self.cluster, self.namespace())
    }

    fn pod_spec(&self) -> Option<&Value> {
        self.object.pointer(&format!("{}/spec", self.template()))
    }

    /// Name of the ServiceAccount that the pods run under, when it is not the one that every namespace has.
    fn account(&self) -> Option<&str> {
        self.pod_spec()?["serviceAccountName"].as_str().filter(|name| *name != "default")
    }

    fn class(&self) -> Option<&str> {
        self.pod_spec()?["runtimeClassName"].as_str()
    }
}

/// Everything that the gate and the API server must know before the cases come. Namespaces first.
pub fn setup() -> Setup {
    let cases = Case::load_shared();
    let mut namespaces: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for case in &cases {
        let labels = case.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        namespaces.entry(case.namespace()).or_default().extend(labels);
    }
    let namespace = |(name, labels): (&&str, &BTreeMap<&str, &str>)| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let mut objects: Vec<Value> = namespaces.iter().map(namespace).collect();
    let mut classes: BTreeSet<String> = cases.iter().filter_map(Case::class).map(String::from).collect();
    classes.extend(Runtimes::default().profiles.into_iter().map(|profile| profile.runtime_class));
    objects.extend(classes.iter().map(|name| class(name, name, &json!({}))));
    objects.extend(cases.iter().flat_map(Case::cluster));
    objects.extend(cases.iter().flat_map(Case::grants));
    Setup { objects, ..Setup::default() }
}

/// The ServiceAccounts that pods of the corpus name.
pub fn accounts() -> Vec<Value> {
    let cases = Case::load_shared();
    let pairs: BTreeSet<_> = cases
        .iter()
        .filter_map(|case| Some((case.namespace().to_string(), case.account()?.to_string())))
        .collect();
    let account = |(namespace, name): &(String, String)| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
    pairs.iter().map(account).collect()
}

pub fn has_class(objects: &[Value], name: &str) -> bool {
    objects.iter().any(|object| object["kind"] == "RuntimeClass" && object["metadata"]["name"] == name)
}
