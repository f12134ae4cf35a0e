//! Which fields of an object came with the request. Before its plug-ins run, the API server lists them by field manager
//! (`kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go`).

use serde_json::{Map, Value};

/// What each field manager owns of the pod spec; none where the list was cut out or never made.
pub fn owned_specs(metadata: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let managers = metadata.get("managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().filter_map(|manager| manager.pointer("/fieldsV1/f:spec"))
}

/// The annotation in which `kubectl apply` keeps the text that it was given (`kubernetes:staging/src/k8s.io/api/core/v1/types.go`,
/// `LastAppliedConfigAnnotation`).
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether the text that a person applied says `true` in a field of the pod spec, as far as the pod shows it: a server-side apply owns
/// the field, or `kubectl apply` noted it. A default of the API server is in neither.
pub fn is_applied(metadata: &Map<String, Value>, field: &str) -> bool {
    let managers = metadata.get("managedFields").and_then(Value::as_array);
    let applies = |manager: &&Value| manager.get("operation").is_some_and(|operation| operation == "Apply");
    let owns = |manager: &Value| manager.pointer(&format!("/fieldsV1/f:spec/f:{field}")).is_some();
    if managers.into_iter().flatten().filter(applies).any(owns) {
        return true;
    }
    let noted = metadata.get("annotations").and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str);
    let noted: Option<Value> = noted.and_then(|text| serde_json::from_str(text).ok());
    noted.is_some_and(|noted| noted.pointer(&format!("/spec/{field}")) == Some(&Value::Bool(true)))
}

/// The name in the key of a list's item, such as `k:{"name":"app"}`.
pub fn name_in(key: &str) -> Option<String> {
    let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    key.get("name")?.as_str().map(String::from)
}
