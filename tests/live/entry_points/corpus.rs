//! The cases under `tests/cases` that can be sent to a real API server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wasmgate::runtime::Runtimes;

use super::cluster::class;
use crate::support::corpus::Case;
use crate::support::live_gate::Setup;

fn pod_spec(case: &Case) -> Option<&Value> {
    case.object.pointer(&format!("{}/spec", case.template()))
}

/// Name of the ServiceAccount of the pods, unless it is the one that every namespace has.
fn account(case: &Case) -> Option<&str> {
    pod_spec(case)?["serviceAccountName"].as_str().filter(|name| *name != "default")
}

fn runtime_class(case: &Case) -> Option<&str> {
    pod_spec(case)?["runtimeClassName"].as_str()
}

/// Everything that the gate and the API server must know before the cases are sent. Namespaces first.
pub fn setup() -> Setup {
    let cases = Case::load_shared();
    let mut namespaces: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for case in &cases {
        let labels = case.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        namespaces.entry(case.namespace()).or_default().extend(labels);
    }
    let namespace = |(name, labels): (&&str, &BTreeMap<&str, &str>)| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let mut objects: Vec<Value> = namespaces.iter().map(namespace).collect();
    let mut classes: BTreeSet<String> = cases.iter().filter_map(runtime_class).map(String::from).collect();
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
        .filter_map(|case| Some((case.namespace().to_string(), account(case)?.to_string())))
        .collect();
    let account = |(namespace, name): &(String, String)| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
    pairs.iter().map(account).collect()
}

pub fn has_class(objects: &[Value], name: &str) -> bool {
    objects.iter().any(|object| object["kind"] == "RuntimeClass" && object["metadata"]["name"] == name)
}
