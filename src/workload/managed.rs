//! Which fields of an object came with the request. Before its plug-ins run, the API server lists them by field manager
//! (`kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go`).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// The member of the metadata in which the fields are listed.
const MANAGED_FIELDS: &str = "managedFields";

/// The list of an object that was read without it ([`apart`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct Managed<'o>(Option<&'o RawValue>);

impl Managed<'_> {
    /// The metadata with the list.
    pub fn with(self, metadata: &Map<String, Value>) -> Cow<'_, Map<String, Value>> {
        let Some(fields) = self.0.and_then(|text| serde_json::from_str(text.get()).ok()) else {
            return Cow::Borrowed(metadata);
        };
        let mut whole = metadata.clone();
        whole.insert(MANAGED_FIELDS.to_owned(), fields);
        Cow::Owned(whole)
    }
}

/// Reads the JSON of a pod, and the list apart from it. That is a large part of a pod, and few plans ask for it.
pub fn apart(object: &str) -> serde_json::Result<(Value, Managed<'_>)> {
    let mut managed = None;
    let mut reader = serde_json::Deserializer::from_str(object);
    let value = Part { managed: &mut managed, is_metadata: false }.deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, Managed(managed)))
}

/// Reads an object, or its metadata, as it is but for the list.
struct Part<'p, 'o> {
    managed: &'p mut Option<&'o RawValue>,
    is_metadata: bool,
}

impl<'o> DeserializeSeed<'o> for Part<'_, 'o> {
    type Value = Value;

    fn deserialize<D: Deserializer<'o>>(self, reader: D) -> Result<Value, D::Error> {
        // Of two lists of one name the last counts, and what it is without.
        *self.managed = None;
        reader.deserialize_any(self)
    }
}

impl<'o> Visitor<'o> for Part<'_, 'o> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'o>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'o>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            match (self.is_metadata, key.as_str()) {
                (false, "metadata") => {
                    let metadata = Part { managed: &mut *self.managed, is_metadata: true };
                    values.insert(key, members.next_value_seed(metadata)?);
                }
                (true, MANAGED_FIELDS) => *self.managed = Some(members.next_value()?),
                _ => {
                    values.insert(key, members.next_value()?);
                }
            }
        }
        Ok(Value::Object(values))
    }
}

/// What each field manager owns of the pod spec; none where the list was cut out or never made.
pub fn owned_specs(metadata: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let managers = metadata.get(MANAGED_FIELDS).and_then(Value::as_array);
    managers.into_iter().flatten().filter_map(|manager| manager.pointer("/fieldsV1/f:spec"))
}

/// The annotation in which `kubectl apply` keeps the text that it was given (`kubernetes:staging/src/k8s.io/api/core/v1/types.go`,
/// `LastAppliedConfigAnnotation`).
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether the text that a person applied says `true` in a field of the pod spec, as far as the pod shows it: a server-side apply owns
/// the field, or `kubectl apply` noted it. A default of the API server is in neither.
pub fn is_applied(metadata: &Map<String, Value>, field: &str) -> bool {
    let managers = metadata.get(MANAGED_FIELDS).and_then(Value::as_array);
    let applies = |manager: &&Value| manager.get("operation").is_some_and(|operation| operation == "Apply");
    let owns = |manager: &Value| manager.pointer(&format!("/fieldsV1/f:spec/f:{field}")).is_some();
    if managers.into_iter().flatten().filter(applies).any(owns) {
        return true;
    }
    let noted = metadata.get("annotations").and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str);
    noted.and_then(|text| scalar_at(text, &["spec", field])) == Some(Scalar::Flag(true))
}

/// The name in the key of a list's item, such as `k:{"name":"app"}`.
pub fn name_in(key: &str) -> Option<String> {
    match scalar_at(key.strip_prefix("k:")?, &["name"])? {
        Scalar::Text(name) => Some(name),
        Scalar::Flag(_) => None,
    }
}

/// A value that is neither a list nor an object.
#[derive(Debug, PartialEq, Eq)]
enum Scalar {
    Flag(bool),
    Text(String),
}

/// What stands at this place of a text that is JSON, which stands in a string itself. All else is read and not kept: what the values of an object take in memory is
/// counted before they are parsed (`footprint`), and what is in a string is not counted with them.
fn scalar_at(text: &str, place: &[&str]) -> Option<Scalar> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = At(place).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    found
}

/// Reads a value for what stands at a place in it.
struct At<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Scalar>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<Scalar>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Scalar>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Scalar>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Option<Scalar>, E> {
        Ok(self.0.is_empty().then_some(Scalar::Flag(value)))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<Scalar>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<Scalar>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<Scalar>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Option<Scalar>, E> {
        Ok(self.0.is_empty().then(|| Scalar::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Scalar>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<Scalar>, A::Error> {
        let mut found = None;
        while let Some(key) = members.next_key::<Cow<'de, str>>()? {
            match self.0.split_first() {
                // Of two members of one name the last counts.
                Some((name, below)) if *key == **name => found = members.next_value_seed(At(below))?,
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_is_read_apart_from_its_managed_fields_is_the_same_with_them() {
        let fields = json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]);
        for object in [
            json!({"metadata": {"name": "a", "managedFields": fields, "labels": {"managedFields": "b"}}, "spec": {"c": [1, -2, 1.5, null, true, "d"]}}),
            json!({"metadata": {"managedFields": null}, "managedFields": fields}),
            json!({"metadata": {"name": "a"}, "spec": {"metadata": {"managedFields": fields}}}),
            json!({"metadata": null}),
            json!({"metadata": [fields]}),
            json!({"metadata": "a"}),
            json!({"metadata": 1.25, "kind": -1}),
            json!({"spec": {}}),
            json!([{"metadata": {"managedFields": fields}}]),
            json!("a"),
            json!(null),
        ] {
            let text = object.to_string();
            let (mut read, managed) = apart(&text).unwrap();
            let pointer = "/metadata/managedFields";
            assert!(read.pointer(pointer).is_none(), "{text}");
            assert_eq!(managed.0.is_some(), object.pointer(pointer).is_some(), "{text}");
            if let Some(metadata) = read.get_mut("metadata").and_then(Value::as_object_mut) {
                *metadata = managed.with(metadata).into_owned();
            }
            assert_eq!(read, object);
        }
    }

    /// Also of two members of one name the same one counts as for other readers, and what is no JSON is none here.
    #[test]
    fn texts_that_repeat_a_member_or_are_no_json_are_read_as_others_read_them() {
        for text in [
            r#"{"metadata":{"managedFields":[1]},"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"managedFields":[1]},"metadata":null}"#,
            r#"{"metadata":{"managedFields":[1],"managedFields":[2]}}"#,
            r#"{"metadata":{"name":"a"},"metadata":{"managedFields":[1]}}"#,
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            let (read, managed) = apart(text).unwrap();
            let metadata = |value: &Value| value["metadata"].as_object().cloned().unwrap_or_default();
            assert_eq!(*managed.with(&metadata(&read)), metadata(&expected), "{text}");
        }
        for text in
            [r#"{"metadata":{"managedFields":[1}}"#, r#"{"metadata":{}} x"#, r#"{"a":"\ud83d"}"#, "{", ""]
        {
            assert!(apart(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_json_in_a_string_the_last_member_at_a_place_counts_and_what_is_no_json_says_nothing() {
        for (key, name) in [
            (r#"k:{"name":"app"}"#, Some("app")),
            (r#"k:{"containerPort":80,"protocol":"TCP","name":"http"}"#, Some("http")),
            (r#"k:{"n\u0061me":"a\u0070p"}"#, Some("app")),
            (r#"k:{"name":"a","name":"b"}"#, Some("b")),
            (r#"k:{"name":"a","name":["b"]}"#, None),
            (r#"k:{"x":{"name":"a"},"y":["name","a"],"z":[1,-2,1.5,null]}"#, None),
            (r#"k:{"name":true}"#, None),
            (r#"k:["app"]"#, None),
            (r#"k:"app""#, None),
            (r#"k:{"name":"app"} x"#, None),
            (r#"k:{"name":"app""#, None),
            (r#"{"name":"app"}"#, None),
            ("k:", None),
        ] {
            assert_eq!(name_in(key).as_deref(), name, "{key}");
        }
        for (noted, expected) in [
            (r#"{"spec":{"a":1,"enableServiceLinks":true},"x":[{}]}"#, true),
            (r#"{"spec":{"enableServiceLinks":true},"spec":{}}"#, false),
            (r#"{"spec":{"enableServiceLinks":false}}"#, false),
            (r#"{"spec":{"enableServiceLinks":"true"}}"#, false),
            (r#"{"spec":{"x":{"enableServiceLinks":true}}}"#, false),
            (r#"{"enableServiceLinks":true,"spec":null}"#, false),
            (r#"{"spec":["enableServiceLinks",true]}"#, false),
            (r#"{"spec":{"enableServiceLinks":true}"#, false),
            ("true", false),
            ("", false),
        ] {
            let metadata = json!({"annotations": {LAST_APPLIED: noted}});
            assert_eq!(is_applied(metadata.as_object().unwrap(), "enableServiceLinks"), expected, "{noted}");
        }
    }
}
