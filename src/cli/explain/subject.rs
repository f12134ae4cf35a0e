//! What `explain` is given: manifests, reviews as the API server sends them, and records of decisions.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::admission::replay::RecordedDecision;
use crate::cli::Error;
use crate::cli::manifest::{self, Manifest};
use crate::policy::ExactNumbers;
use crate::review::{self, Review, request};

/// One document.
#[derive(Debug)]
pub enum Subject {
    /// An object.
    Manifest(Manifest),
    /// The question of the API server about one, and its place in the files.
    Review(String, Box<Review>),
    /// A line of a decision log, and its place in the files.
    Record(String, Box<RecordedDecision>),
}

/// Every document of the files. It is an error if there are none.
pub fn read(files: &[PathBuf]) -> Result<Vec<Subject>, Error> {
    let mut found = Vec::new();
    for (origin, text) in manifest::texts(files)? {
        add_text(&origin, &text, &mut found)?;
    }
    if found.is_empty() {
        return Err(Error::nothing_in(files));
    }
    Ok(found)
}

/// The parts of a document that say what it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head<'a> {
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    decision_id: Option<IgnoredAny>,
}

/// JSON may have one document after the other, as in a decision log. A review in JSON is judged by its very bytes.
fn add_text(origin: &str, text: &str, found: &mut Vec<Subject>) -> Result<(), Error> {
    let Some(documents) = json(text) else {
        return add_values(origin, manifest::values(origin, text)?, &ExactNumbers::default(), found);
    };
    let several = documents.len() > 1;
    for (index, document) in documents.into_iter().enumerate() {
        let origin = manifest::place(origin, several.then_some(index));
        let head: Head<'_> = serde_json::from_str(document.get()).unwrap_or_default();
        match (head.kind.as_deref(), head.decision_id) {
            (Some(request::KIND), _) => found.push(review(origin, document.get())?),
            (None, Some(_)) => found.push(record(origin, serde_json::from_str(document.get()))?),
            _ => {
                let numbers = ExactNumbers::of(document.get());
                add_values(&origin, manifest::values(&origin, document.get())?, &numbers, found)?;
            }
        }
    }
    Ok(())
}

/// The documents of a text that is JSON and nothing else.
fn json(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
}

/// `numbers` are those of the one value of a text in JSON.
fn add_values(
    origin: &str,
    values: Vec<Value>,
    numbers: &ExactNumbers,
    found: &mut Vec<Subject>,
) -> Result<(), Error> {
    let several = values.len() > 1;
    for (index, value) in values.into_iter().enumerate() {
        add(manifest::place(origin, several.then_some(index)), value, numbers, found)?;
    }
    Ok(())
}

fn add(origin: String, value: Value, numbers: &ExactNumbers, found: &mut Vec<Subject>) -> Result<(), Error> {
    let kind = value.get("kind").and_then(Value::as_str);
    let written = || serde_json::to_string(&numbers.in_value(&value));
    if kind == Some(request::KIND) {
        let text = written().map_err(|error| Error::Format(error.to_string()))?;
        found.push(review(origin, &text)?);
        return Ok(());
    }
    if kind.is_none() && value.get("decision_id").is_some() {
        found.push(record(origin, written().and_then(|text| serde_json::from_str(&text)))?);
        return Ok(());
    }
    let is_list = kind.is_some_and(|kind| kind.ends_with("List"));
    match value {
        Value::Array(items) => add_items(&origin, items, numbers, found),
        Value::Object(mut object) if is_list && object.get("items").is_some_and(Value::is_array) => {
            let Some(Value::Array(items)) = object.remove("items") else { return Ok(()) };
            let list = Value::Object(object);
            let items = items.into_iter().map(|item| manifest::item_of(&list, item));
            add_items(&origin, items.collect(), numbers.at(&["items"]), found)
        }
        value => {
            let mut manifests = Vec::new();
            manifest::flatten(origin, value, &mut manifests)?;
            found.extend(manifests.into_iter().map(Subject::Manifest));
            Ok(())
        }
    }
}

fn add_items(
    origin: &str,
    items: Vec<Value>,
    numbers: &ExactNumbers,
    found: &mut Vec<Subject>,
) -> Result<(), Error> {
    for (index, item) in items.into_iter().enumerate() {
        let numbers = numbers.at(&[&index.to_string()]);
        add(format!("{origin}, item {}", index + 1), item, numbers, found)?;
    }
    Ok(())
}

fn review(origin: String, body: &str) -> Result<Subject, Error> {
    match review::parse(body.as_bytes()) {
        Ok(review) => Ok(Subject::Review(origin, review.into())),
        Err(error) => Err(Error::ReadManifest {
            path: origin,
            message: format!("it is not an AdmissionReview: {}", error.message),
        }),
    }
}

fn record(origin: String, read: serde_json::Result<RecordedDecision>) -> Result<Subject, Error> {
    match read {
        Ok(record) => Ok(Subject::Record(origin, record.into())),
        Err(error) => Err(Error::ReadManifest {
            path: origin,
            message: format!("it is not a decision record of this gate: {error}"),
        }),
    }
}
