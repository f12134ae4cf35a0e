//! What may start something in an object of a kind that the gate does not know. Pure.

use serde_json::Value;

/// Field path of the first list of containers with images, at any depth. JSON from a parser has a bounded depth.
pub fn containers_in(value: &Value) -> Option<String> {
    let has_image = |item: &Value| item.get("image").is_some_and(Value::is_string);
    let step = |name: &str, below: String| {
        if below.is_empty() { name.to_owned() } else { format!("{name}.{below}") }
    };
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| match value {
            Value::Array(items) if name == "containers" && items.iter().any(has_image) => Some(name.clone()),
            value => containers_in(value).map(|below| step(name, below)),
        }),
        Value::Array(items) => items.iter().find_map(containers_in),
        _ => None,
    }
}

/// Why an object of a kind that the gate does not know is not judged; `None` if it has no containers, and starts nothing.
pub fn unknown_kind(object: &Value) -> Option<String> {
    let at = containers_in(object)?;
    Some(format!(
        "the gate does not know this kind, and there are containers at `{at}`; describe the kind under `workloads` in the \
         configuration"
    ))
}
