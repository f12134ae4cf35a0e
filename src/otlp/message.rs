//! Parts of OTLP's messages that spans and log records share.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::Value;

/// Content type of the binary encoding (`opentelemetry-proto:docs/specification.md`, "Binary Protobuf Encoding").
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// Levels of a JSON value that become values of OTLP, each of which nests three messages; what lies deeper becomes JSON text.
/// Readers of the encoding stop at a hundred messages.
const MOST_LEVELS: usize = 24;

/// Whether a collector that gave this status may take the same request later (`opentelemetry-proto:docs/specification.md`, "Retryable Response
/// Codes").
pub const fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// The process, by the labels of its decision records: those of the gate by the names of the semantic conventions, the others as they
/// are.
pub fn resource<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Resource {
    let attributes = labels.map(|(name, value)| attribute(conventional(name), text(value))).collect();
    Resource { attributes, dropped_attributes_count: 0, entity_refs: Vec::new() }
}

/// The semantic conventions' name of a label (`semantic-conventions:docs/resource/service.md`).
fn conventional(label: &str) -> &str {
    match label {
        "app" => "service.name",
        "version" => "service.version",
        "id" => "service.instance.id",
        other => other,
    }
}

/// What made the spans and records.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}

pub fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

pub fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Any::StringValue(text.into())) }
}

/// The JSON value with its structure.
pub fn any(value: &Value) -> AnyValue {
    any_within(value, MOST_LEVELS)
}

fn any_within(value: &Value, levels: usize) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(is) => Some(Any::BoolValue(*is)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(whole) => Any::IntValue(whole),
            None => number.as_f64().map_or_else(|| Any::StringValue(number.to_string()), Any::DoubleValue),
        }),
        Value::String(text) => Some(Any::StringValue(text.clone())),
        deep if levels == 0 => Some(Any::StringValue(deep.to_string())),
        Value::Array(values) => {
            let values = values.iter().map(|value| any_within(value, levels - 1)).collect();
            Some(Any::ArrayValue(ArrayValue { values }))
        }
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| attribute(key, any_within(value, levels - 1)));
            Some(Any::KvlistValue(KeyValueList { values: members.collect() }))
        }
    };
    AnyValue { value }
}

/// Whole nanoseconds, at most 584 years.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_keeps_its_structure_and_its_numbers() {
        let found = any(&json!({"a": [1, -2.5, true, null, "x"]}));
        let Some(Any::KvlistValue(list)) = found.value else { panic!("an object") };
        assert_eq!(list.values[0].key, "a");
        let Some(Any::ArrayValue(array)) = list.values[0].value.clone().unwrap().value else {
            panic!("a list")
        };
        let values: Vec<_> = array.values.into_iter().map(|value| value.value).collect();
        let text = Some(Any::StringValue("x".into()));
        assert_eq!(
            values,
            [Some(Any::IntValue(1)), Some(Any::DoubleValue(-2.5)), Some(Any::BoolValue(true)), None, text]
        );
    }

    #[test]
    fn what_lies_too_deep_is_json_text() {
        let deep = (0..100).fold(json!("end"), |inner, _| json!([inner]));
        let mut found = any(&deep);
        for _ in 0..MOST_LEVELS {
            let Some(Any::ArrayValue(mut array)) = found.value else { panic!("a list") };
            found = array.values.remove(0);
        }
        let Some(Any::StringValue(text)) = found.value else { panic!("text") };
        assert!(text.starts_with("[[[[") && text.contains("end"));
    }
}
