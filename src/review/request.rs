//! Parses bytes into a [`Review`].
//!
//! Normally one pass with typed structs is enough. If it fails, a second, tolerant pass looks for
//! the uid and the version, so that the answer names its request and the message gives the real reason.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::user::User;
use super::{GroupVersionKind, GroupVersionResource, Operation, Review};
use crate::text;

/// The only version of AdmissionReview that the gate supports (`kubernetes:staging/src/k8s.io/api/admission/v1/types.go`).
pub const API_VERSION: &str = "admission.k8s.io/v1";

/// The kind of requests and responses.
pub const KIND: &str = "AdmissionReview";

/// Longest foreign text that a message quotes, in characters.
const QUOTED_CHARS: usize = 64;

/// Why a body is not a review. It is always the sender's fault, so the code is always 400.
#[derive(Debug, thiserror::Error)]
#[error("the request body is not a review: {message}")]
pub struct Error {
    /// The uid, if it could still be read.
    pub uid: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Parses an AdmissionReview.
pub fn parse(body: &[u8]) -> Result<Review, Error> {
    read(body).map_err(|message| Error { uid: uid_of(body), message })
}

/// The uid of a review, even if the bytes after it are cut off or wrong; the API server writes it first.
pub fn uid_of(body: &[u8]) -> Option<String> {
    head_of(body).uid
}

/// The envelope with all parts optional, so that a missing part gets our message and not the parser's.
#[derive(Deserialize)]
#[serde(expecting = "an AdmissionReview")]
struct Envelope<'a> {
    #[serde(rename = "apiVersion", borrow)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// The parts of `AdmissionRequest` that the gate reads. It ignores `requestKind`, `requestResource` and `options`: it
/// judges what would be stored, which `kind` and `object` describe.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an AdmissionRequest")]
struct Request<'a> {
    uid: Option<String>,
    kind: Option<GroupVersionKind>,
    resource: Option<GroupVersionResource>,
    sub_resource: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    #[serde(borrow)]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
    dry_run: Option<bool>,
    object: Option<Box<RawValue>>,
    old_object: Option<Box<RawValue>>,
}

fn read(body: &[u8]) -> Result<Review, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| explain(body, &error))?;
    check_version(envelope.api_version.as_deref(), envelope.kind.as_deref())?;
    let request =
        envelope.request.ok_or("it has no `request`; send what the API server sends to a webhook")?;
    review(request)
}

/// The parser's message, unless a wrong version or kind explains the error.
fn explain(body: &[u8], error: &serde_json::Error) -> String {
    let seen = head_of(body);
    let is_envelope = seen.api_version.is_some() || seen.kind.is_some();
    if is_envelope
        && error.is_data()
        && let Err(message) = check_version(seen.api_version.as_deref(), seen.kind.as_deref())
    {
        return message;
    }
    match error.classify() {
        serde_json::error::Category::Data => format!("{error}; see {API_VERSION} {KIND}"),
        _ if body.is_empty() => "it is empty; send an AdmissionReview as JSON".to_owned(),
        _ => format!("it is not JSON: {error}"),
    }
}

fn check_version(api_version: Option<&str>, kind: Option<&str>) -> Result<(), String> {
    match kind {
        Some(KIND) => {}
        Some(other) => {
            return Err(format!("`kind` is `{}`, it must be `{KIND}`", text::quoted(other, QUOTED_CHARS)));
        }
        None => return Err(format!("it has no `kind`, which must be `{KIND}`")),
    }
    match api_version {
        Some(API_VERSION) => Ok(()),
        Some(other) => Err(format!(
            "`apiVersion` is `{}`, it must be `{API_VERSION}`; \
             list `v1` in `admissionReviewVersions` of the webhook configuration",
            text::quoted(other, QUOTED_CHARS)
        )),
        None => Err(format!("it has no `apiVersion`, which must be `{API_VERSION}`")),
    }
}

fn review(request: Request<'_>) -> Result<Review, String> {
    let uid = request.uid.filter(|uid| !uid.is_empty()).ok_or("`request.uid` is missing or empty")?;
    Ok(Review {
        uid,
        kind: request.kind.ok_or("it has no `request.kind`")?,
        resource: request.resource.ok_or("it has no `request.resource`")?,
        sub_resource: request.sub_resource.filter(|name| !name.is_empty()),
        name: request.name.unwrap_or_default(),
        namespace: request.namespace.unwrap_or_default(),
        operation: operation(request.operation.as_deref())?,
        user: user(request.user_info.ok_or("it has no `request.userInfo`")?)?,
        dry_run: request.dry_run.unwrap_or_default(),
        object: request.object,
        old_object: request.old_object,
    })
}

/// The user who asks.
fn user(info: &RawValue) -> Result<User, String> {
    super::user::object(info)
        .map_err(|error| format!("`request.userInfo`: {error}; see {API_VERSION} {KIND}"))
}

fn operation(text: Option<&str>) -> Result<Operation, String> {
    match text {
        Some("CREATE") => Ok(Operation::Create),
        Some("UPDATE") => Ok(Operation::Update),
        Some("DELETE") => Ok(Operation::Delete),
        Some("CONNECT") => Ok(Operation::Connect),
        Some(other) => Err(format!(
            "`request.operation` is `{}`, it must be `CREATE`, `UPDATE`, `DELETE` or `CONNECT`",
            text::quoted(other, QUOTED_CHARS)
        )),
        None => Err("it has no `request.operation`".to_owned()),
    }
}

// === the tolerant pass ===

/// What could be read before the error.
#[derive(Default)]
struct Head {
    uid: Option<String>,
    api_version: Option<String>,
    kind: Option<String>,
}

/// Reads up to the error, which is dropped: the strict pass has already reported it.
fn head_of(body: &[u8]) -> Head {
    let mut seen = Head::default();
    let mut parser = serde_json::Deserializer::from_slice(body);
    let _ = Fields { seen: &mut seen, inside: false }.deserialize(&mut parser);
    seen
}

/// Visits the envelope, or with `inside` the request, and stores each field before the rest can fail.
struct Fields<'a> {
    seen: &'a mut Head,
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match (self.inside, key.as_ref()) {
                (true, "uid") => {
                    self.seen.uid = Some(map.next_value::<String>()?).filter(|uid| !uid.is_empty());
                }
                (false, "apiVersion") => self.seen.api_version = Some(map.next_value()?),
                (false, "kind") => self.seen.kind = Some(map.next_value()?),
                (false, "request") => map.next_value_seed(Fields { seen: &mut *self.seen, inside: true })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

    /// A review with the fields in the order and with the noise that an API server sends.
    fn body(request: &str) -> String {
        format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{{request}}}}}"#)
    }

    fn create(object: &str) -> String {
        body(&format!(
            r#""uid":"{UID}","kind":{{"group":"","version":"v1","kind":"Pod"}},
            "resource":{{"group":"","version":"v1","resource":"pods"}},
            "requestKind":{{"group":"","version":"v1","kind":"Pod"}},
            "requestResource":{{"group":"","version":"v1","resource":"pods"}},
            "name":"orders","namespace":"shop","operation":"CREATE",
            "userInfo":{{"username":"ann","uid":"7","groups":["system:authenticated"],"extra":{{"a":["b"]}}}},
            "object":{object},"oldObject":null,"dryRun":false,
            "options":{{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}"#
        ))
    }

    fn refused(body: &str) -> Error {
        parse(body.as_bytes()).expect_err("this must not parse")
    }

    #[test]
    fn a_review_is_read_and_its_object_keeps_every_byte() {
        let object = r#"{"kind":"Pod", "futureField" : 1.50,"metadata":{"creationTimestamp":null}}"#;
        let review = parse(create(object).as_bytes()).unwrap();
        assert_eq!(review.uid, UID);
        assert_eq!((review.name.as_str(), review.namespace.as_str()), ("orders", "shop"));
        assert_eq!((review.kind.kind.as_str(), review.resource.resource.as_str()), ("Pod", "pods"));
        assert_eq!(review.operation, Operation::Create);
        assert_eq!(review.user.username.as_deref(), Some("ann"));
        assert_eq!(review.object.unwrap().get(), object);
        assert!(!review.dry_run);
    }

    #[test]
    fn a_null_object_and_an_empty_subresource_are_absent() {
        let text = create("null").replace(r#""dryRun":false"#, r#""dryRun":true,"subResource":"""#);
        let review = parse(text.as_bytes()).unwrap();
        assert!(review.object.is_none() && review.old_object.is_none() && review.sub_resource.is_none());
        assert!(review.dry_run);
    }

    #[test]
    fn every_operation_is_known_and_another_is_named() {
        for verb in [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect] {
            let text = create("{}").replace("CREATE", verb.as_str());
            assert_eq!(parse(text.as_bytes()).unwrap().operation, verb);
        }
        let error = refused(&create("{}").replace("CREATE", "PATCH"));
        assert_eq!(error.uid.as_deref(), Some(UID));
        assert!(error.message.contains("`request.operation` is `PATCH`"), "{error}");
    }

    /// A refusal would be an outage for the user, and an API server passes on whatever an authenticator says.
    #[test]
    fn a_user_may_be_in_any_number_of_groups() {
        let groups: Vec<String> = (0..20_000).map(|number| format!("\"team-{number}\"")).collect();
        let groups = groups.join(",");
        let text = create("{}").replace(r#""system:authenticated""#, &groups);
        let user = parse(text.as_bytes()).unwrap().user;
        assert_eq!(user.groups.unwrap().get(), format!("[{groups}]"));
        let error = refused(&create("{}").replace(r#""ann""#, "[1]"));
        assert_eq!(error.uid.as_deref(), Some(UID));
        assert!(error.message.contains("`request.userInfo`: invalid type"), "{error}");
    }

    #[test]
    fn the_old_version_says_how_to_get_the_new_one() {
        let error = refused(&create("{}").replace("io/v1\",\"request", "io/v1beta1\",\"request"));
        assert_eq!(error.uid.as_deref(), Some(UID));
        assert!(error.message.contains("admissionReviewVersions"), "{error}");
    }

    #[test]
    fn the_wrong_version_is_the_reason_also_when_other_fields_do_not_fit() {
        let error = refused(r#"{"apiVersion":"v1","kind":"Pod","request":{"uid":"u","name":5}}"#);
        assert_eq!(error.uid.as_deref(), Some("u"));
        assert!(error.message.contains("`kind` is `Pod`"), "{error}");
    }

    #[test]
    fn each_missing_part_is_named() {
        for (part, wanted) in [
            (format!(r#""uid":"{UID}","#), "`request.uid`"),
            (r#""operation":"CREATE","#.to_owned(), "`request.operation`"),
            (r#""kind":{"group":"","version":"v1","kind":"Pod"},"#.to_owned(), "`request.kind`"),
            (r#""resource":{"group":"","version":"v1","resource":"pods"},"#.to_owned(), "`request.resource`"),
        ] {
            let error = refused(&create("{}").replacen(&part, "", 1));
            assert!(error.message.contains(wanted), "{error}");
        }
        assert!(refused(&create("{}").replace("userInfo", "user")).message.contains("`request.userInfo`"));
        assert!(
            refused(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#)
                .message
                .contains("`request`")
        );
        assert!(refused(&create("{}").replace(UID, "")).message.contains("`request.uid`"));
        assert!(refused("{}").message.contains("`kind`"));
    }

    #[test]
    fn the_uid_survives_a_cut_a_wrong_type_and_trailing_bytes() {
        let text = create(r#"{"spec":{"containers":[]}}"#);
        let cut = text.split_at(text.len() / 2).0;
        for broken in [cut.to_owned(), text.replace("\"shop\"", "[1]"), format!("{text} x")] {
            assert_eq!(refused(&broken).uid.as_deref(), Some(UID), "{broken}");
        }
        assert_eq!(uid_of(cut.as_bytes()).as_deref(), Some(UID));
    }

    #[test]
    fn bytes_that_are_no_review_are_errors_without_a_uid() {
        for text in [
            "",
            "null",
            "[]",
            "7",
            "\"x\"",
            "{",
            "{\"request\":[]}",
            "{\"request\":{\"uid\":{}}}",
            "\u{feff}{}",
        ] {
            let error = refused(text);
            assert_eq!(error.uid, None, "{text}");
            assert!(!error.message.is_empty());
        }
        assert!(parse(b"\xff\xfe\x00").is_err());
        assert!(parse(&create("{\"a\":\"\u{1}\"}").into_bytes()).is_err(), "a control character is not JSON");
    }

    #[test]
    fn deep_nesting_is_read_or_refused_but_never_overflows_the_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
            assert_eq!(parse(create(&deep).as_bytes()).unwrap().object.unwrap().get().len(), deep.len());
            assert!(
                parse(create("{}").replace(r#""extra":{"#, &format!(r#""extra":{{"z":{deep},"#)).as_bytes())
                    .is_err()
            );
            assert!(parse(deep.as_bytes()).is_err());
            assert!(parse(open.repeat(200_000).as_bytes()).is_err());
        }
    }

    #[test]
    fn foreign_text_in_a_message_is_short_and_on_one_line() {
        let error = refused(&create("{}").replace("CREATE", &"é\\n".repeat(500)));
        assert!(error.message.chars().count() < 200 && !error.message.contains('\n'), "{error}");
    }
}
