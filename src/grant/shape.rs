//! The shape of a document: which fields it has, and what each may hold. Checked before the values, so that a
//! misspelled field is reported with the name that was meant.

use serde_json::{Map, Value};

use super::error::FieldError;
use super::types::{API_VERSION, EXCEPTION_KIND, Operator};
use crate::capability::{Capability, HostPattern};
use crate::text;

/// What a field may hold.
pub(super) enum FieldShape {
    Text,
    Flag,
    Port,
    Time,
    Labels,
    Open,
    OneOf(&'static [&'static str]),
    Name,
    Host,
    List(&'static FieldShape),
    Fields(&'static [(&'static str, FieldShape, bool)]),
}

const SELECTOR: FieldShape = FieldShape::Fields(&[
    ("matchLabels", FieldShape::Labels, false),
    (
        "matchExpressions",
        FieldShape::List(&FieldShape::Fields(&[
            ("key", FieldShape::Text, true),
            ("operator", FieldShape::OneOf(Operator::NAMES), true),
            ("values", FieldShape::List(&FieldShape::Text), false),
        ])),
        false,
    ),
]);

const CAPABILITY: FieldShape = FieldShape::Fields(&[
    ("name", FieldShape::Name, true),
    ("hosts", FieldShape::List(&FieldShape::Host), false),
    ("paths", FieldShape::List(&FieldShape::Text), false),
    ("access", FieldShape::OneOf(&["read-only", "read-write"]), false),
    ("names", FieldShape::List(&FieldShape::Text), false),
    ("ports", FieldShape::List(&FieldShape::Port), false),
    ("secrets", FieldShape::Flag, false),
]);

const SUBJECTS: FieldShape = FieldShape::Fields(&[
    ("serviceAccounts", FieldShape::List(&FieldShape::Text), false),
    ("images", FieldShape::List(&FieldShape::Text), false),
    ("podSelector", SELECTOR, false),
]);

pub(super) const GRANT: FieldShape = FieldShape::Fields(&[
    ("apiVersion", FieldShape::OneOf(&[API_VERSION]), true),
    // A document of the third kind does not come here.
    ("kind", FieldShape::OneOf(&["WasiGrant", "ClusterWasiGrant", EXCEPTION_KIND]), true),
    ("metadata", FieldShape::Open, true),
    (
        "spec",
        FieldShape::Fields(&[
            ("subjects", SUBJECTS, false),
            ("namespaceSelector", SELECTOR, false),
            ("capabilities", FieldShape::List(&CAPABILITY), true),
            ("expiresAt", FieldShape::Time, false),
        ]),
        true,
    ),
]);

pub(super) const EXCEPTION: FieldShape = FieldShape::Fields(&[
    ("apiVersion", FieldShape::OneOf(&[API_VERSION]), true),
    ("kind", FieldShape::OneOf(&[EXCEPTION_KIND]), true),
    ("metadata", FieldShape::Open, true),
    (
        "spec",
        FieldShape::Fields(&[
            ("rules", FieldShape::List(&FieldShape::Text), true),
            ("subjects", SUBJECTS, false),
            ("containers", FieldShape::List(&FieldShape::Text), false),
            ("capabilities", FieldShape::List(&FieldShape::Name), false),
            ("reason", FieldShape::Text, true),
            ("expiresAt", FieldShape::Time, true),
        ]),
        true,
    ),
]);

pub(super) fn check_shape(value: &Value, expected: &FieldShape, at: &str, findings: &mut Vec<FieldError>) {
    let message = match (expected, value) {
        (FieldShape::Text, Value::String(_))
        | (FieldShape::Flag, Value::Bool(_))
        | (FieldShape::Open, Value::Object(_)) => {
            return;
        }
        (FieldShape::Labels, Value::Object(labels)) => {
            for (key, value) in labels {
                check_shape(value, &FieldShape::Text, &join(at, key), findings);
            }
            return;
        }
        (FieldShape::Port, Value::Number(port))
            if port.as_u64().is_some_and(|p| (1..=65535).contains(&p)) =>
        {
            return;
        }
        (FieldShape::Time, Value::String(time)) => match time.parse::<jiff::Timestamp>() {
            Ok(_) => return,
            Err(_) => format!("`{time}` is not a time; write RFC 3339, such as 2027-03-31T00:00:00Z"),
        },
        (FieldShape::OneOf(allowed), Value::String(text)) if allowed.contains(&text.as_str()) => return,
        (FieldShape::OneOf(allowed), Value::String(text)) => {
            format!("`{text}` is not known; write {}", allowed.join(" or "))
        }
        (FieldShape::Name, Value::String(text)) => match text.parse::<Capability>() {
            Ok(_) => return,
            Err(unknown) => {
                format!("{unknown}{}", text::did_you_mean(text, Capability::ALL.iter().map(|c| c.as_str())))
            }
        },
        (FieldShape::Host, Value::String(text)) => match text.parse::<HostPattern>() {
            Ok(_) => return,
            Err(error) => error.to_string(),
        },
        (FieldShape::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                check_shape(value, item, &format!("{at}[{index}]"), findings);
            }
            return;
        }
        (FieldShape::Fields(fields), Value::Object(object)) => {
            return check_fields(object, fields, at, findings);
        }
        _ => format!("`{}` is not {}", shortened(value), describe(expected)),
    };
    findings.push((at.to_string(), message));
}

/// The value with stand-ins where its shape is wrong and without unknown fields, so that it can be read.
pub(super) fn repaired(value: &Value, expected: &FieldShape) -> Value {
    match (expected, value) {
        (FieldShape::Labels, Value::Object(labels)) => {
            labels.iter().map(|(key, value)| (key.clone(), repaired(value, &FieldShape::Text))).collect()
        }
        (FieldShape::List(item), Value::Array(items)) => {
            items.iter().map(|value| repaired(value, item)).collect()
        }
        (FieldShape::Fields(fields), Value::Object(object)) => {
            let given = |(name, expected, required): &(&str, FieldShape, bool)| {
                let value = object.get(*name).map(|value| repaired(value, expected));
                Some((name.to_string(), value.or_else(|| required.then(|| stand_in(expected)))?))
            };
            fields.iter().filter_map(given).collect()
        }
        _ => {
            let mut findings = Vec::new();
            check_shape(value, expected, "", &mut findings);
            if findings.is_empty() { value.clone() } else { stand_in(expected) }
        }
    }
}

/// Some value of a shape.
fn stand_in(expected: &FieldShape) -> Value {
    match expected {
        FieldShape::Text => "x".into(),
        FieldShape::Flag => false.into(),
        FieldShape::Port => 1.into(),
        FieldShape::Time => "9999-01-01T00:00:00Z".into(),
        FieldShape::OneOf(allowed) => allowed.iter().copied().next().into(),
        FieldShape::Name => Capability::Stdio.as_str().into(),
        FieldShape::Host => "https://example.com".into(),
        FieldShape::List(_) => Value::Array(Vec::new()),
        FieldShape::Labels | FieldShape::Open => Value::Object(Map::new()),
        FieldShape::Fields(_) => repaired(&Value::Object(Map::new()), expected),
    }
}

fn check_fields(
    object: &Map<String, Value>,
    fields: &[(&str, FieldShape, bool)],
    at: &str,
    findings: &mut Vec<FieldError>,
) {
    for (key, value) in object {
        if let Some((name, expected, _)) = fields.iter().find(|(name, _, _)| name == key) {
            check_shape(value, expected, &join(at, name), findings);
            continue;
        }
        let names = || fields.iter().map(|(name, _, _)| *name);
        let known = names().collect::<Vec<_>>().join(", ");
        let near = text::did_you_mean(key, names());
        findings.push((join(at, key), format!("unknown field `{key}`, expected one of {known}{near}")));
    }
    for (name, expected, required) in fields {
        if *required && !object.contains_key(*name) {
            findings.push((join(at, name), format!("missing; write {}", describe(expected))));
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_string() } else { format!("{at}.{name}") }
}

fn describe(expected: &FieldShape) -> String {
    match expected {
        FieldShape::Text => "a text".into(),
        FieldShape::Flag => "true or false".into(),
        FieldShape::Port => "a port number from 1 to 65535".into(),
        FieldShape::Time => "an RFC 3339 time".into(),
        FieldShape::Labels => "a map of label keys to values".into(),
        FieldShape::Open | FieldShape::Fields(_) => "an object".into(),
        FieldShape::OneOf(allowed) => allowed.join(" or "),
        FieldShape::Name => "the name of a capability".into(),
        FieldShape::Host => "a host pattern".into(),
        FieldShape::List(_) => "a list".into(),
    }
}

pub(super) fn shortened(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text::quoted(&text, 60)
}
