//! Adds the node affinity and the tolerations that the runtime's nodes need to those that the pod has.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Toleration};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::runtime::Profile;

use super::draft::{Error, Notes, Object, list_mut, not, object, object_mut};

const NODE_AFFINITY: &str = "spec.affinity.nodeAffinity";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const TERMS: &str = "nodeSelectorTerms";

/// ANDs the profile's requirements into the pod's required node affinity. A pod needs to match only one term, so every
/// term gets them. A term without expressions matches no node, and the API server refuses a list without terms
/// (`kubernetes/api:core/v1/types.go` `NodeSelectorTerm`). Both stay as they are: with a requirement added they would
/// admit the pod to nodes that its author excluded.
pub(super) fn require(spec: &mut Object, profile: &Profile, notes: &mut Notes) -> Result<(), Error> {
    let wanted: Vec<Value> = profile.node_affinity.iter().map(|requirement| json!(requirement)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let words = listed(&profile.node_affinity);
    let absent = !has_required(spec)?;
    let affinity = object_mut(spec, "affinity", "spec")?;
    let node = object_mut(affinity, "nodeAffinity", "spec.affinity")?;
    if absent {
        node.insert(REQUIRED.to_owned(), json!({ TERMS: [{ "matchExpressions": wanted }] }));
        notes.change("affinity", format!("{NODE_AFFINITY}: requires {words}"));
        return Ok(());
    }
    let required = object_mut(node, REQUIRED, NODE_AFFINITY)?;
    if complete(required, &wanted)? {
        notes.change("affinity", format!("{NODE_AFFINITY}: every term also requires {words}"));
        notes.tell(format!(
            "the required node affinity was completed with {words}, which runtime `{}` needs",
            profile.name
        ));
    }
    Ok(())
}

/// Whether a person wrote a required node affinity. Only reads: an edit that turns out to be needless must leave no
/// empty objects behind.
fn has_required(spec: &Object) -> Result<bool, Error> {
    let Some(affinity) = object(spec, "affinity", "spec")? else { return Ok(false) };
    let Some(node) = object(affinity, "nodeAffinity", "spec.affinity")? else { return Ok(false) };
    Ok(object(node, REQUIRED, NODE_AFFINITY)?.is_some())
}

/// Adds the missing requirements to every term that can match a node. Returns whether it added any.
fn complete(required: &mut Object, wanted: &[Value]) -> Result<bool, Error> {
    let path = format!("{NODE_AFFINITY}.{REQUIRED}");
    let Some(terms) = required.get_mut(TERMS).filter(|terms| !terms.is_null()) else { return Ok(false) };
    let terms = terms.as_array_mut().ok_or_else(|| not(format!("{path}.{TERMS}"), "a list"))?;
    let mut changed = false;
    for (index, term) in terms.iter_mut().enumerate().filter(|(_, term)| !term.is_null()) {
        let path = format!("{path}.{TERMS}[{index}]");
        let term = term.as_object_mut().ok_or_else(|| not(path.clone(), "an object"))?;
        changed |= complete_term(term, wanted, &path)?;
    }
    Ok(changed)
}

fn complete_term(term: &mut Object, wanted: &[Value], path: &str) -> Result<bool, Error> {
    let expressions = entries(term, "matchExpressions", path)?;
    if expressions == 0 && entries(term, "matchFields", path)? == 0 {
        return Ok(false);
    }
    let list = term.get("matchExpressions").and_then(Value::as_array);
    let missing =
        |requirement: &&Value| !list.is_some_and(|own| own.iter().any(|one| same(one, requirement)));
    let missing: Vec<Value> = wanted.iter().filter(missing).cloned().collect();
    if missing.is_empty() {
        return Ok(false);
    }
    list_mut(term, "matchExpressions", path)?.extend(missing);
    Ok(true)
}

/// The number of entries in a list; zero when it is absent or null.
fn entries(term: &Object, key: &str, path: &str) -> Result<usize, Error> {
    match term.get(key) {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Array(list)) => Ok(list.len()),
        Some(_) => Err(not(format!("{path}.{key}"), "a list")),
    }
}

/// Whether two requirements are equal; the order of the values does not matter.
fn same(a: &Value, b: &Value) -> bool {
    fn values(one: &Value) -> BTreeSet<&str> {
        one.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }
    a.get("key") == b.get("key") && a.get("operator") == b.get("operator") && values(a) == values(b)
}

/// The requirements in words.
pub(super) fn listed(requirements: &[NodeSelectorRequirement]) -> String {
    let one = |r: &NodeSelectorRequirement| match r.values.as_deref() {
        None | Some([]) => format!("`{} {}`", r.key, r.operator),
        Some(values) => format!("`{} {} [{}]`", r.key, r.operator, values.join(", ")),
    };
    requirements.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// Adds the profile's tolerations unless the pod has the same or a wider one: the API server's RuntimeClass plug-in
/// drops the narrower of two, and would do so after every call.
pub(super) fn tolerate(spec: &mut Object, profile: &Profile, notes: &mut Notes) -> Result<(), Error> {
    let own = own_tolerations(spec)?;
    let mut missing: Vec<&Toleration> = Vec::new();
    for wanted in &profile.tolerations {
        if !own.iter().chain(missing.iter().copied()).any(|wide| covers(wide, wanted)) {
            missing.push(wanted);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = missing.iter().map(|one| one.key.as_deref().unwrap_or("every taint")).collect();
    notes.change("tolerations", format!("spec.tolerations: added {}", keys.join(", ")));
    list_mut(spec, "tolerations", "spec")?.extend(missing.iter().map(|one| json!(one)));
    Ok(())
}

fn own_tolerations(spec: &Object) -> Result<Vec<Toleration>, Error> {
    let list = match spec.get("tolerations") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(not("spec.tolerations".to_owned(), "a list")),
    };
    let read = |(index, one): (usize, &Value)| {
        Toleration::deserialize(one).map_err(|_| not(format!("spec.tolerations[{index}]"), "a toleration"))
    };
    list.iter().enumerate().map(read).collect()
}

/// Whether every taint that `narrow` tolerates is tolerated by `wide` for as long
/// (`kubernetes:pkg/util/tolerations/tolerations.go` `isSuperset`).
fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    fn given(field: Option<&String>) -> Option<&str> {
        field.map(String::as_str).filter(|text| !text.is_empty())
    }
    let exists = given(wide.operator.as_ref()) == Some("Exists");
    let key = given(wide.key.as_ref());
    let same_key = key == given(narrow.key.as_ref()) || (key.is_none() && exists);
    let effect = given(wide.effect.as_ref());
    let same_effect = effect.is_none() || effect == given(narrow.effect.as_ref());
    let as_long =
        wide.toleration_seconds.is_none_or(|wide| narrow.toleration_seconds.is_some_and(|n| n <= wide));
    let operator = |one: &Toleration| given(one.operator.as_ref()).unwrap_or("Equal").to_owned();
    let same_value =
        operator(wide) == operator(narrow) && given(wide.value.as_ref()) == given(narrow.value.as_ref());
    same_key && same_effect && as_long && (exists || same_value)
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    fn toleration(value: Value) -> Toleration {
        from_value(value).unwrap()
    }

    #[test]
    fn a_toleration_covers_the_same_and_the_narrower_only() {
        let spin = json!({ "key": "spin", "operator": "Equal", "value": "on", "effect": "NoSchedule" });
        let table = [
            (spin.clone(), spin.clone(), true),
            (json!({ "key": "spin", "value": "on", "effect": "NoSchedule" }), spin.clone(), true),
            (json!({ "key": "spin", "operator": "Exists" }), spin.clone(), true),
            (json!({ "operator": "Exists" }), spin.clone(), true),
            (json!({ "key": "", "operator": "Exists", "effect": "" }), spin.clone(), true),
            (spin.clone(), json!({ "key": "spin", "operator": "Exists" }), false),
            (json!({ "key": "spin", "value": "off", "effect": "NoSchedule" }), spin.clone(), false),
            (json!({ "key": "spin", "value": "on", "effect": "NoExecute" }), spin.clone(), false),
            (json!({ "key": "other", "operator": "Exists" }), spin.clone(), false),
            (json!({ "operator": "Equal" }), spin.clone(), false),
            (
                json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }),
                json!({ "key": "a", "operator": "Exists", "effect": "NoExecute" }),
                false,
            ),
            (
                json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }),
                json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60 }),
                true,
            ),
        ];
        for (wide, narrow, expected) in table {
            let seen = covers(&toleration(wide.clone()), &toleration(narrow.clone()));
            assert_eq!(seen, expected, "{wide} over {narrow}");
        }
    }
}
