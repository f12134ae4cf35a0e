//! The objects of `manifests/`, as kustomize and Helm render them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use serde_json::Value;

use super::process::{program, root};

pub const NAMESPACE: &str = "wasmgate-system";

/// What identifies an object: kind, namespace, name.
pub type Key = (String, String, String);
pub type Objects = BTreeMap<Key, Value>;

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The words of a list, whatever their order.
pub fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap()).collect()
}

pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The objects of a stream of documents. A configuration in a ConfigMap is parsed, because its comments and the order
/// of its keys do not matter, and neither does the order of volumes.
pub fn objects(stream: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(stream).unwrap();
    let mut found = Objects::new();
    for mut object in documents.into_iter().filter(|document| !document.is_null()) {
        if let Some(config) = object.pointer_mut("/data/config.yaml") {
            *config = serde_saphyr::from_str(config.as_str().unwrap()).unwrap();
        }
        for list in ["/spec/template/spec/volumes", "/spec/template/spec/containers/0/volumeMounts"] {
            if let Some(Value::Array(named)) = object.pointer_mut(list) {
                named.sort_by_key(|item| item["name"].to_string());
            }
        }
        let meta = &object["metadata"];
        let key = (text(&object["kind"]).into(), text(&meta["namespace"]).into(), text(&meta["name"]).into());
        assert!(found.insert(key.clone(), object).is_none(), "{key:?} twice");
    }
    found
}

pub fn run(name: &str, arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(program(name)).args(arguments).current_dir(root()).env("HOME", home.path()).output().unwrap()
}

pub fn rendered(output: Output) -> Objects {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    objects(&String::from_utf8(output.stdout).unwrap())
}

pub fn kustomize(folder: &str) -> Objects {
    rendered(run("kubectl", &["kustomize", folder]))
}

pub fn template(settings: &[&str]) -> Output {
    let fixed =
        ["template", "wasmgate", "manifests/charts/wasmgate", "--namespace", NAMESPACE, "--include-crds"];
    let set = settings.iter().flat_map(|setting| ["--set", setting]);
    run("helm", &fixed.into_iter().chain(set).collect::<Vec<_>>())
}

pub fn helm(settings: &[&str]) -> Objects {
    rendered(template(settings))
}

/// The objects of `manifests/`.
pub fn installed() -> Objects {
    kustomize("manifests")
}

pub fn object<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    let mut found = objects.iter().filter(|((k, _, n), _)| k == kind && n == name).map(|(_, object)| object);
    found.next().unwrap_or_else(|| panic!("no {kind} {name}"))
}

pub fn of_kind<'a>(objects: &'a Objects, kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|((k, _, _), _)| k == kind).map(|(_, object)| object).collect()
}
