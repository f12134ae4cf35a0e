//! Grants and exceptions as Kubernetes objects: the loader and the CRDs say the same about the same files. The first
//! line of a file names the wrong field and the loader's message. `# only the gate` in the second line marks what an
//! API server cannot or need not check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wasmgate::capability::{Capability, Parameter};
use wasmgate::grant::types::NEVER_EXEMPT;
use wasmgate::grant::{WasiException, WasiGrant, load};

use crate::support::process::{program, root};

/// Every fixture by name, with its text.
fn fixtures() -> Vec<(PathBuf, String)> {
    let folder = root().join("tests/fixtures/grants");
    let mut found: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn is_bad(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with("bad-")
}

fn definition(plural: &str) -> Value {
    let path = root().join(format!("manifests/crds/{plural}.yaml"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn schema(plural: &str) -> Value {
    definition(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

#[test]
fn the_loader_accepts_every_good_fixture_and_refuses_every_bad_one_at_the_named_field() {
    for (path, text) in fixtures() {
        let name = path.file_name().unwrap().to_string_lossy();
        let read = load::parse(&text, &name);
        if !is_bad(&path) {
            let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(read.grants.len() + read.exceptions.len(), 1, "{name}");
            continue;
        }
        let (field, says) = text.lines().next().unwrap()[2..].split_once(": ").unwrap();
        let refused = read.map(|_| ()).expect_err(&name).to_string();
        assert!(refused.contains(&format!(", {field}: ")) && refused.contains(says), "{name}: {refused}");
    }
}

#[test]
fn an_api_server_with_the_definitions_agrees_with_the_loader() {
    let fixtures = fixtures();
    let samples = root().join("manifests/samples/grants/orders.yaml");
    let checked = Command::new(program("crdcheck"))
        .arg(root().join("manifests/crds"))
        .args(fixtures.iter().map(|(path, _)| path))
        .arg(&samples)
        .output()
        .unwrap();
    let lines = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{lines}");
    let accepted: BTreeSet<&str> = lines.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert!(accepted.contains(samples.to_str().unwrap()), "{lines}");
    for (path, text) in &fixtures {
        let refused = is_bad(path) && !text.contains("# only the gate\n");
        assert_eq!(!accepted.contains(path.to_str().unwrap()), refused, "{}: {lines}", path.display());
    }
}

/// A grant with every field set, for one capability with every parameter. No capability takes all of them, so it would
/// never pass the checks.
fn full_grant(kind: &str) -> Value {
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]});
    let mut grant = json!({
        "apiVersion": "wasmgate.dev/v1alpha1", "kind": kind, "metadata": {"name": "g"},
        "spec": {
            "subjects": {"serviceAccounts": ["a"], "images": ["b"], "podSelector": selector},
            "namespaceSelector": selector,
            "capabilities": [{"name": "fs", "hosts": ["*://a:*"], "paths": ["/"], "access": "read-only", "names": ["a"],
                "ports": [1], "secrets": true}],
            "expiresAt": "2027-03-31T00:00:00Z",
        },
    });
    if kind == "WasiGrant" {
        grant["spec"].as_object_mut().unwrap().remove("namespaceSelector");
    }
    let typed: WasiGrant = serde_json::from_value(grant).unwrap();
    serde_json::to_value(typed).unwrap()
}

fn full_exception() -> Value {
    let typed: WasiException = serde_json::from_value(json!({
        "apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiException", "metadata": {"name": "e"},
        "spec": {
            "rules": ["a"], "containers": ["c"], "capabilities": ["fs"], "reason": "r",
            "subjects": full_grant("WasiGrant")["spec"]["subjects"], "expiresAt": "2027-03-31T00:00:00Z",
        },
    }))
    .unwrap();
    serde_json::to_value(typed).unwrap()
}

/// Paths of all fields of a value; list items and map entries add none.
fn fields_of(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                found.insert(at.clone());
                if !at.ends_with(".matchLabels") && !at.ends_with(".metadata") {
                    fields_of(value, &at, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields_of(item, at, found)),
        _ => {}
    }
}

/// Paths of all fields that a schema defines.
fn fields_in(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        found.insert(at.clone());
        fields_in(schema, &at, found);
        fields_in(&schema["items"], &at, found);
    }
}

#[test]
fn the_rust_types_and_the_schema_have_the_same_fields() {
    for (plural, full) in [
        ("wasigrants", full_grant("WasiGrant")),
        ("clusterwasigrants", full_grant("ClusterWasiGrant")),
        ("wasiexceptions", full_exception()),
    ] {
        let (mut in_rust, mut in_schema) = (BTreeSet::new(), BTreeSet::new());
        fields_of(&full, "", &mut in_rust);
        fields_in(&schema(plural), "", &mut in_schema);
        assert_eq!(in_rust, in_schema, "{plural}");
    }
}

#[test]
fn the_schemas_know_every_capability_and_which_parameters_narrow_it() {
    let names: Vec<&str> = Capability::ALL.iter().map(|c| c.as_str()).collect();
    let excepted = &schema("wasiexceptions")["properties"]["spec"]["properties"]["capabilities"]["items"];
    assert_eq!(excepted["enum"], json!(names));
    let all = [
        Parameter::Hosts,
        Parameter::Paths,
        Parameter::Access,
        Parameter::Names,
        Parameter::Ports,
        Parameter::Secrets,
    ];
    let rule = |parameter: Parameter| {
        let takes = Capability::ALL.iter().filter(|c| c.parameters().contains(&parameter));
        let quoted: Vec<String> = takes.map(|c| format!("'{c}'")).collect();
        let name = parameter.as_str();
        format!("!has(self.{name}) || self.name in [{}]", quoted.join(", "))
    };
    let expected: BTreeSet<String> = all.into_iter().map(rule).collect();
    for plural in ["wasigrants", "clusterwasigrants"] {
        let item = schema(plural)["properties"]["spec"]["properties"]["capabilities"]["items"].take();
        assert_eq!(item["properties"]["name"]["enum"], json!(names), "{plural}");
        let rules = item["x-kubernetes-validations"].as_array().unwrap();
        let written: BTreeSet<String> =
            rules.iter().map(|rule| rule["rule"].as_str().unwrap().to_string()).collect();
        assert_eq!(written, expected, "{plural}");
    }
}

#[test]
fn the_two_kinds_of_grants_differ_only_in_the_namespace_selector() {
    let spec = |plural| schema(plural)["properties"]["spec"].take();
    let (mut cluster, mut own) = (spec("clusterwasigrants"), spec("wasigrants"));
    assert!(cluster["properties"].as_object_mut().unwrap().remove("namespaceSelector").is_some());
    assert_eq!(cluster["required"].take(), json!(["capabilities", "namespaceSelector"]));
    assert_eq!(own["required"].take(), json!(["capabilities"]));
    assert_eq!(cluster, own);
}

#[test]
fn the_definitions_have_the_names_of_the_kinds_that_the_loader_reads() {
    let expected = BTreeMap::from([
        ("wasigrants", ("WasiGrant", "Namespaced")),
        ("clusterwasigrants", ("ClusterWasiGrant", "Cluster")),
        ("wasiexceptions", ("WasiException", "Namespaced")),
    ]);
    for (plural, (kind, scope)) in expected {
        let crd = definition(plural);
        assert_eq!(crd["metadata"]["name"], json!(format!("{plural}.wasmgate.dev")));
        assert_eq!(crd["spec"]["names"]["kind"], json!(kind));
        assert_eq!(crd["spec"]["scope"], json!(scope));
        assert_eq!(crd["spec"]["versions"][0]["name"], json!("v1alpha1"));
    }
    let rules = &schema("wasiexceptions")["properties"]["spec"]["properties"]["rules"]["items"];
    let never = rules["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    assert!(NEVER_EXEMPT.iter().all(|rule| never.contains(&format!("'{rule}'"))), "{never}");
}

/// The texts between backticks.
fn quoted(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_documentation_has_every_capability_with_its_parameters_and_defaults() {
    let text = std::fs::read_to_string(root().join("docs/capabilities.md")).unwrap();
    let table = text.split("## What covers what").next().unwrap();
    let mut rows: BTreeMap<&str, (BTreeSet<&str>, bool)> = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for name in quoted(cells[1]) {
            rows.insert(name, (quoted(cells[3]), cells[4].starts_with("allowed")));
        }
    }
    let expected = Capability::ALL.iter().map(|capability| {
        let parameters = capability.parameters().iter().map(|p| p.as_str()).collect();
        (capability.as_str(), (parameters, capability.is_default()))
    });
    assert_eq!(rows, expected.collect());
}
