//! Serialises an answer. It uses its own types, because kube's types write the patch as an array of numbers
//! instead of base64 as documented (<https://github.com/kube-rs/kube/issues/1781>).

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::request::{API_VERSION, KIND};
use crate::text;

/// Longest warning that the API server passes on if there are many, in characters
/// (`truncateItemRunes` in `kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/filters/warning.go`).
pub const WARNING_CHARS: usize = 256;

/// Limit for all warnings of a request together, in characters; the API server drops the rest
/// (`truncateAtTotalRunes`, same file).
pub const WARNINGS_CHARS: usize = 4096;

/// Longest value of an audit annotation, in bytes. The API server has no limit, and writes the values of all
/// webhooks into one event of its log.
pub const ANNOTATION_BYTES: usize = 4096;

/// Characters that are reserved for the line that counts the omitted warnings.
const REMAINDER_CHARS: usize = 64;

/// One cause of a refusal, for `status.details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason: the rule.
    pub reason: String,
    /// Human-readable message.
    pub message: String,
    /// Field path such as `spec.containers[name=api]`; empty when the cause is about the whole object.
    pub field: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status code in the Status object: 403 for a verdict, 400 for a bad review, 500 for a failure of the gate.
    pub code: u16,
    /// `Forbidden`, `BadRequest`, `InternalError`.
    pub reason: &'static str,
    /// For the person whose request failed.
    pub message: String,
    /// One per violation.
    pub causes: Vec<Cause>,
}

/// Why a review has no answer: more are under way than can be judged in time. That says nothing of the object, so the API server is to apply the webhook's
/// `failurePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more reviews are under way than can be judged in time")]
pub struct Overloaded;

/// The bytes of an AdmissionReview, if there is an answer.
pub type Reply = Result<Vec<u8>, Overloaded>;

/// The response to the API server.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The review's uid; empty when it could not be read.
    pub uid: String,
    /// `None` admits.
    pub refusal: Option<Refusal>,
    /// JSONPatch; `None` or empty changes nothing.
    pub patch: Option<json_patch::Patch>,
    /// Lines that kubectl prints.
    pub warnings: Vec<String>,
    /// Key → value; the same when the API server calls the webhook again for the same object.
    pub audit_annotations: BTreeMap<String, String>,
}

// === the wire form: kubernetes:staging/src/k8s.io/api/admission/v1/types.go ===

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    uid: &'a str,
    allowed: bool,
    /// Present also when the request is allowed: kube's types cannot read a response without it, and controller-runtime
    /// writes it too (`kubernetes-sigs/controller-runtime:pkg/webhook/admission/response.go`).
    status: Status<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct Status<'a> {
    metadata: Empty,
    #[serde(rename = "status", skip_serializing_if = "str::is_empty")]
    outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

impl Status<'_> {
    const OK: Self = Self {
        metadata: Empty {},
        outcome: "",
        message: Cow::Borrowed(""),
        reason: "",
        details: None,
        code: 200,
    };
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details<'a> {
    causes: Vec<WireCause<'a>>,
}

#[derive(Serialize)]
struct WireCause<'a> {
    reason: Cow<'a, str>,
    message: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: Cow<'a, str>,
}

/// Enough for most responses beside their patch, so that they are not copied while they grow.
const USUAL_BYTES: usize = 2 << 10;

/// What every response begins with, up to its uid.
const START: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"#;

impl Response {
    /// The response bytes after the uid, of which the responses to other reviews with the same outcome have the same.
    pub fn after_uid(&self) -> Option<Vec<u8>> {
        let blank = self.bytes_with("");
        let rest = blank.strip_prefix(START.as_bytes())?.strip_prefix(br#""""#)?;
        Some(rest.to_vec())
    }

    /// The response bytes with this uid, and those after it.
    pub fn with_uid(uid: &str, after_uid: &[u8]) -> Vec<u8> {
        // A text always encodes.
        let uid = serde_json::to_string(uid).unwrap_or_default();
        [START.as_bytes(), uid.as_bytes(), after_uid].concat()
    }

    /// The response bytes: an `admission.k8s.io/v1` AdmissionReview.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes_with(&self.uid)
    }

    fn bytes_with(&self, uid: &str) -> Vec<u8> {
        let patch = self.encoded_patch();
        let bytes = USUAL_BYTES.saturating_add(patch.as_ref().map_or(0, String::len));
        let body = Body {
            uid,
            allowed: self.refusal.is_none(),
            status: self.refusal.as_ref().map_or(Status::OK, Refusal::wire),
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: fitted(&self.warnings),
            audit_annotations: annotations(&self.audit_annotations),
        };
        let envelope = Envelope { api_version: API_VERSION, kind: KIND, response: body };
        // Strings, numbers and maps with string keys always encode; on an empty body the API server would
        // apply the webhook's failurePolicy.
        let mut written = Vec::with_capacity(bytes);
        serde_json::to_writer(&mut written, &envelope).map_or_else(|_| Vec::new(), |()| written)
    }

    /// The patch in base64. `None` for a refusal, because nothing will be stored, and for an empty
    /// patch, because the API server wants `patch` and `patchType` together or not at all.
    fn encoded_patch(&self) -> Option<String> {
        let patch = self.patch.as_ref().filter(|patch| !patch.0.is_empty() && self.refusal.is_none())?;
        // A patch always encodes, as the rest does.
        Some(STANDARD.encode(serde_json::to_vec(patch).unwrap_or_default()))
    }
}

impl Refusal {
    fn wire(&self) -> Status<'_> {
        let causes: Vec<_> = self.causes.iter().map(Cause::wire).collect();
        Status {
            metadata: Empty {},
            outcome: "Failure",
            message: text::lines(&self.message),
            reason: self.reason,
            details: (!causes.is_empty()).then_some(Details { causes }),
            code: self.code,
        }
    }
}

impl Cause {
    fn wire(&self) -> WireCause<'_> {
        // Rules are named by their authors, and a field by the name of a container.
        let (reason, field) = (text::visible(&self.reason), text::visible(&self.field));
        WireCause { reason, message: text::lines(&self.message), field }
    }
}

/// The warnings as the API server will pass them on, one line each. If they do not fit together, each is cut to its
/// limit, and a last one says how many are left out.
fn fitted(warnings: &[String]) -> Vec<String> {
    let lines: Vec<String> = warnings
        .iter()
        .map(|text| text::line(text).trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    let chars = |lines: &[String]| lines.iter().map(|text| text.chars().count()).sum::<usize>();
    if chars(&lines) <= WARNINGS_CHARS {
        return lines;
    }
    let lines: Vec<String> =
        lines.iter().map(|text| text::shorten(text, WARNING_CHARS).into_owned()).collect();
    if chars(&lines) <= WARNINGS_CHARS {
        return lines;
    }
    let mut left = WARNINGS_CHARS - REMAINDER_CHARS;
    let fit = lines.iter().take_while(|text| {
        let chars = text.chars().count();
        let fits = chars <= left;
        left = left.saturating_sub(chars);
        fits
    });
    let kept = fit.count();
    let missing = lines.len() - kept;
    lines.into_iter().take(kept).chain([format!("{missing} more warnings are left out")]).collect()
}

/// The annotations as the API server accepts them: it drops a key that is not a qualified name, and writes line breaks in
/// a value into its log. The result for equal values is equal.
fn annotations(all: &BTreeMap<String, String>) -> BTreeMap<&str, String> {
    let sound = all.iter().filter(|(key, _)| is_annotation_key(key));
    sound
        .map(|(key, value)| {
            (key.as_str(), text::shorten_bytes(text::line(value).trim(), ANNOTATION_BYTES).into_owned())
        })
        .collect()
}

/// Whether a key is valid after the name of the webhook and a slash: the name part of a qualified name
/// (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go`, `IsQualifiedName`).
fn is_annotation_key(key: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let within = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    key.len() <= 63 && ends(key.chars().next()) && ends(key.chars().last()) && key.chars().all(within)
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use kube::core::admission::{AdmissionResponse, AdmissionReview};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_terminal_finds_nothing_to_obey_in_a_refusal() {
        let text = "first\n- second \u{1b}[31mred\r\u{9b}x";
        let cause = Cause { reason: "r".into(), message: text.into(), field: String::new() };
        let refusal = Refusal { code: 403, reason: "Forbidden", message: text.into(), causes: vec![cause] };
        let bytes = Response { refusal: Some(refusal), ..admitted() }.to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let status = &value["response"]["status"];
        for message in [&status["message"], &status["details"]["causes"][0]["message"]] {
            assert_eq!(message, "first\n- second \\u{1b}[31mred \\u{9b}x");
        }
    }

    const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

    fn admitted() -> Response {
        Response {
            uid: UID.to_owned(),
            refusal: None,
            patch: None,
            warnings: Vec::new(),
            audit_annotations: BTreeMap::new(),
        }
    }

    fn patched() -> Response {
        let patch = json!([{"op": "add", "path": "/spec/runtimeClassName", "value": "wasmtime"}]);
        Response {
            patch: Some(serde_json::from_value(patch).unwrap()),
            warnings: vec!["cpu limit was raised".to_owned()],
            audit_annotations: BTreeMap::from([("verdict".to_owned(), "allow".to_owned())]),
            ..admitted()
        }
    }

    fn refused() -> Response {
        let cause = Cause {
            reason: "capability-not-granted".to_owned(),
            message: "container `api` can call `net.tcp.connect`".to_owned(),
            field: "spec.containers[name=api]".to_owned(),
        };
        let whole = Cause {
            reason: "no-class".to_owned(),
            message: "no runtime class".to_owned(),
            field: String::new(),
        };
        let refusal = Refusal {
            code: 403,
            reason: "Forbidden",
            message: "2 violations".to_owned(),
            causes: vec![cause, whole],
        };
        Response { refusal: Some(refusal), ..admitted() }
    }

    fn text(response: &Response) -> String {
        String::from_utf8(response.to_bytes()).unwrap()
    }

    /// The response as another implementation of the API reads it.
    fn read_by_kube(response: &Response) -> AdmissionResponse {
        let review: AdmissionReview<DynamicObject> = serde_json::from_slice(&response.to_bytes()).unwrap();
        review.response.unwrap()
    }

    #[test]
    fn a_response_is_made_of_what_stands_after_the_uid_of_another() {
        for response in [admitted(), patched(), refused()] {
            for uid in [UID, "", "a\"b\u{1}"] {
                let own = Response { uid: uid.into(), ..response.clone() };
                assert_eq!(Response::with_uid(uid, &response.after_uid().unwrap()), own.to_bytes());
            }
        }
    }

    #[test]
    fn an_admission_is_short_and_has_no_patch_type() {
        let golden = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true,"status":{"metadata":{},"code":200}}}"#;
        assert_eq!(text(&admitted()), golden);
        let empty = Response { patch: Some(json_patch::Patch::default()), ..admitted() };
        assert_eq!(text(&empty), golden);
    }

    #[test]
    fn a_patch_is_base64_with_its_type() {
        let golden = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true,"status":{"metadata":{},"code":200},"patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL3NwZWMvcnVudGltZUNsYXNzTmFtZSIsInZhbHVlIjoid2FzbXRpbWUifV0=","patchType":"JSONPatch","warnings":["cpu limit was raised"],"auditAnnotations":{"verdict":"allow"}}}"#;
        assert_eq!(text(&patched()), golden);
    }

    #[test]
    fn a_refusal_has_code_reason_and_causes() {
        let golden = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":false,"status":{"metadata":{},"status":"Failure","message":"2 violations","reason":"Forbidden","details":{"causes":[{"reason":"capability-not-granted","message":"container `api` can call `net.tcp.connect`","field":"spec.containers[name=api]"},{"reason":"no-class","message":"no runtime class"}]},"code":403}}}"#;
        assert_eq!(text(&refused()), golden);
    }

    #[test]
    fn a_refusal_never_carries_a_patch() {
        let both = Response { patch: patched().patch, ..refused() };
        assert_eq!(text(&both), text(&refused()));
    }

    #[test]
    fn kube_reads_the_same_answer() {
        let response = read_by_kube(&refused());
        assert_eq!((response.uid.as_str(), response.allowed), (UID, false));
        assert_eq!((response.result.code, response.result.reason.as_str()), (403, "Forbidden"));
        assert_eq!(response.result.message, "2 violations");
        let causes = response.result.details.unwrap().causes;
        assert_eq!(
            causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(),
            ["spec.containers[name=api]", ""]
        );
        assert_eq!(causes[0].reason, "capability-not-granted");

        let response = read_by_kube(&admitted());
        assert!(response.allowed && response.warnings.is_none());
        // kube wants the patch as an array of numbers (issue 1781), so that field is the one it cannot read.
        let mut without: Value = serde_json::from_slice(&patched().to_bytes()).unwrap();
        without["response"].as_object_mut().unwrap().remove("patch");
        let review: AdmissionReview<DynamicObject> = serde_json::from_value(without).unwrap();
        let response = review.response.unwrap();
        assert_eq!(response.warnings.unwrap(), ["cpu limit was raised"]);
        assert_eq!(response.audit_annotations["verdict"], "allow");
    }

    #[test]
    fn the_patch_decodes_to_the_operations_that_went_in() {
        let value: Value = serde_json::from_slice(&patched().to_bytes()).unwrap();
        let bytes = STANDARD.decode(value["response"]["patch"].as_str().unwrap()).unwrap();
        assert_eq!(Some(serde_json::from_slice::<json_patch::Patch>(&bytes).unwrap()), patched().patch);
    }

    #[test]
    fn audit_annotations_are_short_lines_under_keys_that_the_api_server_takes() {
        let long = "é".repeat(ANNOTATION_BYTES);
        let keys = ["verdict", "changed-again", "a.b_c-d", "no/slash", "-edge", "edge.", "", "spa ce", "ä"];
        let written = keys.map(|key| (key.to_owned(), "a\nb\u{1b}c".to_owned()));
        let mut all = BTreeMap::from(written);
        all.insert("x".repeat(64), "y".to_owned());
        all.insert("long".to_owned(), long);
        let response = Response { audit_annotations: all, ..admitted() };
        let value: Value = serde_json::from_slice(&response.to_bytes()).unwrap();
        let found = value["response"]["auditAnnotations"].as_object().unwrap();
        let kept: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(kept, ["a.b_c-d", "changed-again", "long", "verdict"]);
        assert_eq!(found["verdict"], "a b\\u{1b}c");
        let long = found["long"].as_str().unwrap();
        assert!(long.len() <= ANNOTATION_BYTES && long.ends_with("é…"), "{}", long.len());
        assert_eq!(response.to_bytes(), response.to_bytes());
    }

    #[test]
    fn long_warnings_stay_whole_while_they_fit_together() {
        let lines = fitted(&["é".repeat(3000), "a\nb\tc\u{7f}d\n".to_owned(), " \n".to_owned()]);
        assert_eq!(lines.len(), 2, "a warning without text is none");
        assert_eq!(lines[0], "é".repeat(3000));
        assert_eq!(lines[1], "a b c\\u{7f}d");
    }

    #[test]
    fn long_warnings_are_cut_at_a_character_when_they_do_not_fit_together() {
        let lines = fitted(&["é".repeat(3000), "é".repeat(3000), "é".repeat(WARNING_CHARS)]);
        assert_eq!(lines[0].chars().count(), WARNING_CHARS);
        assert!(lines[0].ends_with("é…"));
        assert_eq!(lines[2], "é".repeat(WARNING_CHARS));
    }

    #[test]
    fn too_many_warnings_are_counted_in_a_last_line() {
        let lines = fitted(&vec!["w".repeat(WARNING_CHARS); 20]);
        assert!(lines.iter().map(|line| line.chars().count()).sum::<usize>() <= WARNINGS_CHARS);
        assert_eq!(lines.last().map(String::as_str), Some("5 more warnings are left out"));
        assert_eq!(lines.len(), 16);
        assert_eq!(fitted(&vec!["w".repeat(WARNING_CHARS); 16]).len(), 16, "exactly the limit fits");
    }
}
