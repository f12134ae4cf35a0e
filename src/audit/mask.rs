//! Masks what must never be in a log. It works on any object at any depth, and not only on known pod specs, so that a
//! future kind, or a custom resource that a broad webhook rule sends, is masked too.
//!
//! | where | what happens to it | why |
//! |---|---|---|
//! | `env[].value` and similar, anywhere | `**REDACTED**` | people put passwords there |
//! | `variables[].value`, anywhere | `**REDACTED**` | the variables of a SpinApp |
//! | `options[].value` below `runtimeConfig` | `**REDACTED**` | tokens and addresses of a SpinApp's stores and databases |
//! | `httpHeaders[].value`, anywhere | `**REDACTED**` | probes and hooks carry `Authorization` |
//! | `exec.command` of probes and hooks, but for its first word | `**REDACTED**` | people log in there |
//! | `csi.volumeAttributes.*`, `flexVolume.options.*` | `**REDACTED**` | drivers take credentials there |
//! | `gitRepo.repository` with `@` in it | `**REDACTED**` | the address may hold a token |
//! | annotations with a copy of the applied manifest | erased | the copy contains the same values |
//! | annotations that the platform lists | erased | [`Masks`] |
//! | `data`, `stringData`, `binaryData` of the object | erased | a broad webhook rule may send a Secret |
//! | `metadata.managedFields` | erased | noise, often half of the object |
//!
//! Names of variables, `valueFrom`, `command` and `args` of containers, and all other annotations are kept, since auditors look for
//! them. A secret in a command line is in the record, as it is in `kubectl get pod -o yaml`.
//!
//! Changes are reported like those of OPA's own masking: as JSON pointers that begin with `/input`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::secrets::REDACTED;
use super::secrets::{Hider, Secrets};
use crate::policy::Violation;

/// Annotations in which tools store the applied manifest with the values of variables: kubectl, kapp,
/// Rancher's wrangler and Banzai's objectmatcher.
pub const APPLIED_MANIFESTS: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kapp.k14s.io/original",
    "objectset.rio.cattle.io/applied",
    "banzaicloud.com/last-applied",
];

/// Where a record holds what the rules read.
pub const POLICY_INPUT: &str = "/custom/policy_input";

/// Top-level members of an object that hold secrets or configuration.
const DATA: [&str; 3] = ["data", "stringData", "binaryData"];

/// What was masked, as JSON pointers (RFC 6901).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaskReport {
    /// Values that were removed.
    pub erased: Vec<String>,
    /// Values that were replaced.
    pub masked: Vec<String>,
}

/// What a platform masks besides what always is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masks {
    /// Annotations whose values are erased: names, or all with a prefix, as `example.com/*`.
    pub annotations: Vec<String>,
}

impl Masks {
    fn has(&self, annotation: &str) -> bool {
        self.annotations.iter().any(|listed| match listed.strip_suffix('*') {
            Some(prefix) => annotation.starts_with(prefix),
            None => listed == annotation,
        })
    }
}

/// Masks the documents of one record.
#[derive(Debug)]
pub struct Masking<'a> {
    masks: &'a Masks,
    /// What was masked.
    pub report: MaskReport,
    /// The values that were masked, for texts that quote them.
    pub secrets: Secrets,
}

impl<'a> Masking<'a> {
    /// Nothing is masked yet.
    pub fn new(masks: &'a Masks) -> Self {
        Self { masks, report: MaskReport::default(), secrets: Secrets::default() }
    }

    /// Parses an object's JSON and masks it; `at` is the object's own pointer in the record. JSON that cannot be parsed
    /// (nested too deep, a number that no float can hold) is erased whole.
    pub fn object(&mut self, json: &str, at: &str) -> Value {
        let Ok(mut document) = without_managers(json).or_else(|_| serde_json::from_str(json)) else {
            self.report.erased.push(at.to_string());
            return Value::Null;
        };
        if let Value::Object(members) = &mut document {
            for member in DATA {
                erase(members, member, at, self);
            }
        }
        walk(&mut document, &mut at.to_string(), self);
        document
    }

    /// The same for the document that rules read, which holds the object under `object`. The platform's own options stay.
    pub fn policy_input(&mut self, json: &str, at: &str) -> Value {
        let Ok(Value::Object(mut document)) = serde_json::from_str(json) else {
            self.report.erased.push(at.to_string());
            return Value::Null;
        };
        let mut at = at.to_string();
        for (key, member) in document.iter_mut().filter(|(key, _)| *key != "options") {
            within(&mut at, key, |at| {
                if let Value::Object(members) = &mut *member {
                    for data in DATA {
                        erase(members, data, at, self);
                    }
                }
                visit(key, member, at, self);
            });
        }
        Value::Object(document)
    }
}

/// What takes the masked values of an object out of texts about it, of which rules found these violations.
pub fn hider_of<'v>(masks: &Masks, object: &Value, found: impl Iterator<Item = &'v Violation>) -> Hider {
    let mut masking = Masking::new(masks);
    let shown = masking.object(&object.to_string(), "");
    masking.secrets.hider_of(found, &[&shown])
}

/// An object's JSON without what its `metadata.managedFields` say, often half of it, which is erased anyway. An error for a document
/// of another form.
fn without_managers(json: &str) -> serde_json::Result<Value> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let document = Unmanaged { key: "metadata" }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(document)
}

/// Reads an object: in the value at `metadata` that of `managedFields` becomes null.
struct Unmanaged {
    key: &'static str,
}

impl<'de> DeserializeSeed<'de> for Unmanaged {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Unmanaged {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match self.key {
                special if special != key => map.next_value()?,
                "metadata" => map.next_value_seed(Self { key: "managedFields" })?,
                _ => map.next_value::<IgnoredAny>().map(|_| Value::Null)?,
            };
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

/// Masks below a value. The recursion is bounded, since the parser refuses documents deeper than 128 levels.
fn walk(value: &mut Value, at: &mut String, to: &mut Masking<'_>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                within(at, key, |at| visit(key, member, at, to));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(at, &index.to_string(), |at| walk(item, at, to));
            }
        }
        _ => {}
    }
}

fn visit(key: &str, member: &mut Value, at: &mut String, to: &mut Masking<'_>) {
    match (key, &mut *member) {
        ("variables", Value::Array(_)) => return values(member, at, to),
        ("runtimeConfig", Value::Object(_)) => return runtime_config(member, at, to),
        ("env" | "httpHeaders", Value::Array(_) | Value::Object(_)) => return variables(member, at, to),
        ("metadata", Value::Object(metadata)) => remove(metadata, "managedFields", at, to),
        ("annotations", Value::Object(members)) => annotations(members, at, to),
        ("exec", Value::Object(exec)) => arguments(exec, at, to),
        ("csi", Value::Object(source)) => options(source, "volumeAttributes", at, to),
        ("flexVolume", Value::Object(source)) => options(source, "options", at, to),
        ("gitRepo", Value::Object(source)) => repository(source, at, to),
        _ => {}
    }
    walk(member, at, to);
}

/// Removes copies of the manifest and what the platform lists. A copy is a secret as a whole, and so are the values in it, which may
/// be older than those that stand in the object.
fn annotations(members: &mut Map<String, Value>, at: &str, to: &mut Masking<'_>) {
    for copy in APPLIED_MANIFESTS {
        if let Some(Value::String(text)) = members.get(copy)
            && let Ok(mut document) = serde_json::from_str::<Value>(text)
        {
            // A copy in the copy is shorter, since it is quoted twice, so this ends. What is masked in it is not listed.
            let listed = std::mem::take(&mut to.report);
            walk(&mut document, &mut String::new(), to);
            to.report = listed;
        }
        erase(members, copy, at, to);
    }
    let listed: Vec<String> = members.keys().filter(|name| to.masks.has(name)).cloned().collect();
    for name in listed {
        erase(members, &name, at, to);
    }
}

/// Masks what a probe or a hook hands to its program (`k8s.io/api:core/v1/types.go`, `ExecAction`). The program's name stays.
fn arguments(exec: &mut Map<String, Value>, at: &mut String, to: &mut Masking<'_>) {
    let Some(Value::Array(words)) = exec.get_mut("command") else { return };
    within(at, "command", |at| {
        for (index, word) in words.iter_mut().enumerate().skip(1) {
            within(at, &index.to_string(), |at| redact(word, at, to));
        }
    });
}

/// Masks the options that a volume's driver gets (`k8s.io/api:core/v1/types.go`, `CSIVolumeSource` and `FlexVolumeSource`).
fn options(source: &mut Map<String, Value>, key: &str, at: &mut String, to: &mut Masking<'_>) {
    let Some(found) = source.get_mut(key) else { return };
    within(at, key, |at| variables(found, at, to));
}

/// Masks an address with a user or a token in it.
fn repository(source: &mut Map<String, Value>, at: &mut String, to: &mut Masking<'_>) {
    let Some(address) = source.get_mut("repository") else { return };
    if address.as_str().is_none_or(|address| address.contains('@')) {
        within(at, "repository", |at| redact(address, at, to));
    }
}

/// Masks the values in a list of names and values of a custom resource. Other members stay, since lists with this name may
/// hold other things.
fn values(list: &mut Value, at: &mut String, to: &mut Masking<'_>) {
    for (index, item) in list.as_array_mut().into_iter().flatten().enumerate() {
        within(at, &index.to_string(), |at| {
            if let Some(value) = item.get_mut("value") {
                within(at, "value", |at| redact(value, at, to));
            }
            walk(item, at, to);
        });
    }
}

/// Masks the runtime configuration of a SpinApp: the options of its stores, databases and model service
/// (`spin-operator:api/v1alpha1/spinapp_types.go`, `RuntimeConfigOption`).
fn runtime_config(value: &mut Value, at: &mut String, to: &mut Masking<'_>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                within(at, key, |at| match key.as_str() {
                    "options" => variables(member, at, to),
                    _ => runtime_config(member, at, to),
                });
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(at, &index.to_string(), |at| runtime_config(item, at, to));
            }
        }
        _ => {}
    }
}

/// Masks a list of variables in each of its three forms: `[{name, value}]`, `["NAME=value"]`, `{NAME: value}`. The
/// first is that of Kubernetes; the others occur in custom resources and by mistake.
fn variables(list: &mut Value, at: &mut String, to: &mut Masking<'_>) {
    match list {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(at, &index.to_string(), |at| variable(item, at, to));
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                within(at, name, |at| redact(value, at, to));
            }
        }
        _ => {}
    }
}

fn variable(item: &mut Value, at: &mut String, to: &mut Masking<'_>) {
    match item {
        Value::Object(members) => {
            for (key, member) in members {
                match key.as_str() {
                    "name" | "valueFrom" => {}
                    _ => within(at, key, |at| redact(member, at, to)),
                }
            }
        }
        other => redact(other, at, to),
    }
}

fn redact(value: &mut Value, at: &str, to: &mut Masking<'_>) {
    to.secrets.take(value);
    *value = Value::String(REDACTED.into());
    to.report.masked.push(at.to_string());
}

/// Takes a secret out.
fn erase(members: &mut Map<String, Value>, key: &str, at: &str, to: &mut Masking<'_>) {
    if let Some(secret) = members.get(key) {
        to.secrets.take(secret);
    }
    remove(members, key, at, to);
}

/// Takes out what is no secret in itself.
fn remove(members: &mut Map<String, Value>, key: &str, at: &str, to: &mut Masking<'_>) {
    if members.remove(key).is_some() {
        let mut pointer = at.to_string();
        append(&mut pointer, key);
        to.report.erased.push(pointer);
    }
}

/// Runs `step` with the pointer extended by one token.
fn within(at: &mut String, token: &str, step: impl FnOnce(&mut String)) {
    let length = at.len();
    append(at, token);
    step(at);
    at.truncate(length);
}

/// Appends a token; `~` and `/` in it are written `~0` and `~1` (RFC 6901, section 3).
fn append(pointer: &mut String, token: &str) {
    pointer.push('/');
    if !token.contains(['~', '/']) {
        return pointer.push_str(token);
    }
    for character in token.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn masked(document: &Value) -> (Value, MaskReport) {
        masked_by(&Masks::default(), document)
    }

    fn masked_by(masks: &Masks, document: &Value) -> (Value, MaskReport) {
        let mut masking = Masking::new(masks);
        let value = masking.object(&document.to_string(), "/input/request/object");
        (value, masking.report)
    }

    #[test]
    fn managed_fields_are_erased_and_everything_beside_them_stays_as_it_is() {
        let metadata =
            json!({"name": "a", "managedFields": [{"manager": "m"}], "labels": {"managedFields": "b"}});
        let (value, report) =
            masked(&json!({"metadata": metadata, "managedFields": [1], "spec": {"a": 1.5}}));
        let kept = json!({"name": "a", "labels": {"managedFields": "b"}});
        assert_eq!(value, json!({"metadata": kept, "managedFields": [1], "spec": {"a": 1.5}}));
        assert_eq!(report.erased, ["/input/request/object/metadata/managedFields"]);
        for other in [json!({"metadata": "a"}), json!([1]), json!({"metadata": null}), json!(null)] {
            assert_eq!(masked(&other), (other.clone(), MaskReport::default()));
        }
        assert!(without_managers("{} x").is_err() && without_managers("{").is_err());
    }

    #[test]
    fn values_of_variables_are_redacted_and_their_names_and_sources_kept() {
        let pod = json!({"spec": {"containers": [{"name": "api", "args": ["--verbose"], "env": [
            {"name": "TOKEN", "value": "hunter2"},
            {"name": "EMPTY", "value": ""},
            {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]}]}});
        let (value, report) = masked(&pod);
        assert_eq!(
            value.pointer("/spec/containers/0"),
            Some(&json!({"name": "api", "args": ["--verbose"], "env": [
                {"name": "TOKEN", "value": REDACTED},
                {"name": "EMPTY", "value": REDACTED},
                {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]}))
        );
        let base = "/input/request/object/spec/containers/0/env";
        assert_eq!(report.masked, [format!("{base}/0/value"), format!("{base}/1/value")]);
        assert!(report.erased.is_empty());
    }

    #[test]
    fn values_of_a_spin_app_are_redacted_and_other_options_are_kept() {
        let secret = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let app = json!({"kind": "SpinApp", "spec": {
            "variables": [{"name": "token", "value": "hunter2"}, {"name": "from", "valueFrom": secret}],
            "runtimeConfig": {
                "sqliteDatabases": [{"name": "db", "type": "libsql", "options": [
                    {"name": "url", "value": "hunter2"}, {"name": "token", "valueFrom": secret}]}],
                "keyValueStores": [{"name": "kv", "type": "redis", "options": [{"name": "url", "value": "hunter2"}]}],
                "llmCompute": {"type": "remote_http", "options": [{"name": "auth_token", "value": "hunter2"}]},
            },
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        }});
        let (value, report) = masked(&app);
        assert!(!value.to_string().contains("hunter2"), "{value}");
        assert_eq!(value["spec"]["variables"][0], json!({"name": "token", "value": REDACTED}));
        assert_eq!(value["spec"]["variables"][1], app["spec"]["variables"][1]);
        assert_eq!(value["spec"]["dnsConfig"], app["spec"]["dnsConfig"]);
        let base = "/input/request/object/spec";
        assert!(
            report.masked.contains(&format!("{base}/runtimeConfig/llmCompute/options/0/value")),
            "{report:?}"
        );
        assert_eq!(report.masked.len(), 4);
    }

    #[test]
    fn a_label_that_is_called_env_is_no_list_of_variables() {
        let pod = json!({"metadata": {"labels": {"env": "prod"}}});
        assert_eq!(masked(&pod), (pod, MaskReport::default()));
    }

    #[test]
    fn headers_of_probes_are_redacted() {
        let header = json!({"name": "Authorization", "value": "Basic aHVudGVyMg=="});
        let pod =
            json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"httpHeaders": [header]}}}]}});
        let (value, report) = masked(&pod);
        let at = "/spec/containers/0/livenessProbe/httpGet/httpHeaders/0/value";
        assert_eq!(value.pointer(at), Some(&json!(REDACTED)));
        assert_eq!(report.masked, [format!("/input/request/object{at}")]);
    }

    #[test]
    fn what_probes_and_hooks_hand_to_their_programs_is_redacted_and_the_command_of_a_container_kept() {
        let exec = json!({"exec": {"command": ["mysqladmin", "-phunter2", "ping"]}});
        let container = json!({"command": ["app"], "args": ["-v"], "lifecycle": {"preStop": exec, "postStart": exec},
            "livenessProbe": exec, "readinessProbe": exec, "startupProbe": exec});
        let (value, report) = masked(&json!({"spec": {"containers": [container]}}));
        let container = &value["spec"]["containers"][0];
        assert_eq!(container["livenessProbe"]["exec"]["command"], json!(["mysqladmin", REDACTED, REDACTED]));
        assert_eq!((&container["command"], &container["args"]), (&json!(["app"]), &json!(["-v"])));
        assert!(!value.to_string().contains("hunter2"), "{value}");
        assert_eq!(report.masked.len(), 10);
    }

    #[test]
    fn options_of_the_drivers_of_volumes_are_redacted() {
        let volumes = json!([
            {"name": "a", "csi": {"driver": "d", "volumeAttributes": {"user": "me", "password": "hunter2"}}},
            {"name": "b", "flexVolume": {"driver": "d", "options": {"password": "hunter2"}, "secretRef": {"name": "s"}}},
            {"name": "c", "gitRepo": {"repository": "https://me:hunter2@git.example/r"}},
            {"name": "d", "gitRepo": {"repository": "https://git.example/r"}},
        ]);
        let (value, report) = masked(&json!({"spec": {"volumes": volumes}}));
        assert!(!value.to_string().contains("hunter2"), "{value}");
        let volumes = &value["spec"]["volumes"];
        assert_eq!(volumes[0]["csi"]["driver"], "d");
        assert_eq!(volumes[1]["flexVolume"]["secretRef"], json!({"name": "s"}));
        assert_eq!(volumes[3]["gitRepo"]["repository"], "https://git.example/r");
        let base = "/input/request/object/spec/volumes";
        assert!(report.masked.contains(&format!("{base}/0/csi/volumeAttributes/password")), "{report:?}");
        assert_eq!(report.masked.len(), 4);
    }

    #[test]
    fn annotations_of_the_platforms_list_are_erased_by_name_and_by_prefix() {
        let masks = Masks { annotations: vec!["team/token".into(), "vault.example/*".into()] };
        let annotations = json!({"team/token": "hunter2", "vault.example/a": "hunter2", "vault.example": "kept", "team/tokens": "kept"});
        let template = json!({"metadata": {"annotations": annotations}});
        let (value, report) = masked_by(
            &masks,
            &json!({"metadata": {"annotations": annotations}, "spec": {"template": template}}),
        );
        let kept = json!({"vault.example": "kept", "team/tokens": "kept"});
        assert_eq!(value["metadata"]["annotations"], kept);
        assert_eq!(value["spec"]["template"]["metadata"]["annotations"], kept);
        let base = "/input/request/object/metadata/annotations";
        assert_eq!(report.erased[..2], [format!("{base}/team~1token"), format!("{base}/vault.example~1a")]);
    }

    #[test]
    fn copies_of_the_manifest_are_erased_wherever_metadata_stands() {
        let metadata = json!({"name": "x", "managedFields": [{}], "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{\"value\":\"hunter2\"}", "keep": "me"}});
        let deployment = json!({"metadata": metadata, "spec": {"template": {"metadata": metadata}}});
        let (value, report) = masked(&deployment);
        let rest = json!({"name": "x", "annotations": {"keep": "me"}});
        assert_eq!(value, json!({"metadata": rest, "spec": {"template": {"metadata": rest}}}));
        let copy = "annotations/kubectl.kubernetes.io~1last-applied-configuration";
        for at in ["metadata", "spec/template/metadata"] {
            for gone in ["managedFields", copy] {
                assert!(report.erased.contains(&format!("/input/request/object/{at}/{gone}")), "{report:?}");
            }
        }
        assert_eq!(report.erased.len(), 4);
    }

    #[test]
    fn the_data_of_a_secret_is_erased() {
        let secret = json!({"kind": "Secret", "data": {"p": "aHVudGVyMg=="}, "stringData": {"q": "hunter2"}});
        let (value, report) = masked(&secret);
        assert_eq!(value, json!({"kind": "Secret"}));
        assert_eq!(report.erased, ["/input/request/object/data", "/input/request/object/stringData"]);
    }

    #[test]
    fn what_rules_read_is_masked_as_the_object_is_and_the_options_of_the_platform_stay() {
        let copy = json!({"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "keep": "me"});
        let input = json!({
            "object": {"data": {"p": "hunter2"}, "spec": {"containers": [{"env": [{"name": "A", "value": "hunter2"}]}]}},
            "workload": {"annotations": copy, "labels": {"env": "prod"}},
            "containers": [{"name": "app", "requires": [{"name": "env", "names": ["A"]}]}],
            "options": {"env": ["prod"]},
        });
        let masks = Masks::default();
        let mut masking = Masking::new(&masks);
        let value = masking.policy_input(&input.to_string(), "/custom/policy_input");
        assert!(!value.to_string().contains("hunter2"), "{value}");
        assert_eq!((&value["options"], &value["containers"]), (&input["options"], &input["containers"]));
        assert_eq!(value["workload"], json!({"annotations": {"keep": "me"}, "labels": {"env": "prod"}}));
        let base = "/custom/policy_input";
        assert_eq!(masking.report.masked, [format!("{base}/object/spec/containers/0/env/0/value")]);
        let copy = "workload/annotations/kubectl.kubernetes.io~1last-applied-configuration";
        assert_eq!(masking.report.erased, [format!("{base}/object/data"), format!("{base}/{copy}")]);
        assert_eq!(masking.policy_input("[]", base), Value::Null);
    }

    #[test]
    fn a_document_too_deep_to_be_read_is_erased_whole() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let masks = Masks::default();
        let mut masking = Masking::new(&masks);
        assert_eq!(masking.object(&deep, "/input/request/object"), Value::Null);
        assert_eq!(masking.report.erased, ["/input/request/object"]);
    }

    #[test]
    fn variables_in_foreign_shapes_are_redacted_too() {
        let crd = json!({"spec": {"env": {"TOKEN": "hunter2", "DEEP": {"a": ["hunter2"]}}, "app": {"env": ["T=hunter2"]}}});
        let (value, _) = masked(&crd);
        assert!(!value.to_string().contains("hunter2"), "{value}");
        // Beside a value of the list's own.
        let item = json!({"name": "A", "value": "hunter2", "env": [{"name": "B", "value": "hunter2"}]});
        let (value, report) = masked(&json!({"spec": {"variables": [item]}}));
        let of = |pointer: &str| value.pointer(&format!("/spec/variables/0{pointer}")).cloned();
        assert_eq!([of("/value"), of("/env/0/value")], [Some(json!(REDACTED)), Some(json!(REDACTED))]);
        assert_eq!((of("/name"), report.masked.len()), (Some(json!("A")), 2));
    }

    /// Paths of the pod spec or template in the kinds that have one.
    const TEMPLATES: [&str; 4] = ["", "/spec/template", "/spec/jobTemplate/spec/template", "/template"];
    const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

    /// Builds `{a: {b: inner}}` from `/a/b`.
    fn nested(pointer: &str, inner: Value) -> Value {
        pointer
            .rsplit('/')
            .filter(|token| !token.is_empty())
            .fold(inner, |value, token| json!({token: value}))
    }

    proptest! {
        #[test]
        fn a_secret_in_any_variable_of_any_kind_is_never_in_the_output(
            secret in "[A-Za-z0-9]{12,40}",
            template in 0..TEMPLATES.len(),
            list in 0..LISTS.len(),
            before in 0..4_usize,
            suffix in "[\\PC\\n\"\\\\]{0,8}",
        ) {
            let secret = format!("§{secret}");
            let value = format!("{secret}{suffix}");
            let mut containers = vec![json!({"name": "other", "env": [{"name": "A", "value": "b"}]}); before];
            containers.push(json!({"name": "c", "image": "i", "env": [{"name": "TOKEN", "value": value}]}));
            let spec = json!({"spec": {LISTS[list]: containers}});
            let copy = json!({APPLIED_MANIFESTS[0]: spec.to_string()});
            let mut document = nested(TEMPLATES[template], spec);
            document["metadata"] = json!({"annotations": copy});
            let (output, report) = masked(&document);
            prop_assert!(!output.to_string().contains(&secret), "{output}");
            prop_assert_eq!(report.masked.len(), before + 1);
            let pointer = report.masked.last().unwrap().strip_prefix("/input/request/object").unwrap();
            prop_assert_eq!(document.pointer(pointer), Some(&json!(value)));
        }

        #[test]
        fn whatever_is_under_a_list_of_variables_only_its_names_and_sources_survive(
            shape in prop::collection::vec(
                prop_oneof![
                    Just(json!("T=§secret")), Just(json!({"name": "T", "value": "§secret"})),
                    Just(json!({"name": "T", "value": ["§secret"]})), Just(json!([["§secret"]])),
                    Just(json!({"name": "T", "other": {"value": "§secret"}})), Just(json!(null)),
                ],
                0..6,
            ),
        ) {
            let (output, _) = masked(&json!({"spec": {"containers": [{"env": shape}]}}));
            prop_assert!(!output.to_string().contains("§secret"), "{output}");
        }
    }
}
