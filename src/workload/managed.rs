//! Which fields of an object came with the request. Before its plug-ins run, the API server lists them by field manager
//! (`kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go`).

use serde_json::{Map, Value};

/// What each field manager owns of the pod spec; none where the list was cut out or never made.
pub fn owned_specs(metadata: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let managers = metadata.get("managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().filter_map(|manager| manager.pointer("/fieldsV1/f:spec"))
}

/// The name in the key of a list's item, such as `k:{"name":"app"}`.
pub fn name_in(key: &str) -> Option<String> {
    let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    key.get("name")?.as_str().map(String::from)
}
