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
