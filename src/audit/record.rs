//! One decision as one line of JSON, in the schema of OPA's decision log (`opa:v1/plugins/logs/plugin.go`,
//! `EventV1`), so that tools that collect OPA's decisions collect these too.
//!
//! The sink's writer encodes the line outside of the request path. Encoding masks the record, so an unmasked record
//! cannot be written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::Timings;
use super::labels::Labels;
use super::mask::{Alike, Masking, Masks, OBJECT, OLD_OBJECT, POLICY_INPUT};
use super::result::{RecordedError, RecordedResult, ResultText};
use super::rules::LogRules;
use super::secrets::{Secrets, Shown};
use crate::review::{GroupVersionKind, GroupVersionResource, Operation, Review, User, Webhook};
use crate::text;

/// The recorded review.
#[derive(Debug, Clone)]
pub struct Input {
    uid: String,
    pub(super) kind: GroupVersionKind,
    resource: GroupVersionResource,
    sub_resource: Option<String>,
    pub(super) name: String,
    pub(super) namespace: String,
    operation: Operation,
    user: User,
    pub(super) dry_run: bool,
    pub(super) object: Option<Box<RawValue>>,
    pub(super) old_object: Option<Box<RawValue>>,
    /// Where `managedFields` stand in the object, if that is known: a large part, which records leave out.
    pub managed_fields: Option<Range<usize>>,
    /// In what the object differs from one whose masks are known, if there is such a one: it need not be read then.
    pub alike: Option<Alike>,
}

impl From<Review> for Input {
    fn from(review: Review) -> Self {
        Self {
            uid: review.uid,
            kind: review.kind,
            resource: review.resource,
            sub_resource: review.sub_resource,
            name: review.name,
            namespace: review.namespace,
            operation: review.operation,
            user: review.user,
            dry_run: review.dry_run,
            object: review.object,
            old_object: review.old_object,
            managed_fields: None,
            alike: None,
        }
    }
}

/// The request of an AdmissionReview without its objects, so that the `input` of a record can be fed to `opa eval`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: &'a GroupVersionKind,
    resource: &'a GroupVersionResource,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_resource: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: Operation,
    user_info: &'a User,
    dry_run: bool,
}

impl Input {
    /// Approximate size in memory, in bytes.
    fn weight(&self) -> usize {
        let objects = [&self.object, &self.old_object].into_iter().flatten();
        objects.map(|raw| raw.get().len()).sum::<usize>() + self.user.list_bytes()
    }

    /// Writes the review, and says where in the line its masked objects are.
    fn write(
        &self,
        line: &mut String,
        masking: &mut Masking<'_>,
    ) -> Result<Vec<Range<usize>>, serde_json::Error> {
        line.push_str(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":"#);
        line.push_str(&serde_json::to_string(&self.request())?);
        let mut objects = Vec::new();
        if let Some(raw) = &self.object {
            let start = begin_member(line, "object");
            if !self.alike.as_ref().is_some_and(|alike| alike.append_to(line, raw, masking)) {
                masking.write_object(raw, OBJECT, self.managed_fields.clone(), line);
            }
            objects.push(start..line.len());
            line.push('}');
        }
        if let Some(raw) = &self.old_object {
            let start = begin_member(line, "oldObject");
            masking.write_object(raw, OLD_OBJECT, None, line);
            objects.push(start..line.len());
            line.push('}');
        }
        line.push('}');
        Ok(objects)
    }

    fn request(&self) -> Request<'_> {
        Request {
            uid: &self.uid,
            kind: &self.kind,
            resource: &self.resource,
            sub_resource: self.sub_resource.as_deref(),
            name: &self.name,
            namespace: &self.namespace,
            operation: self.operation,
            user_info: &self.user,
            dry_run: self.dry_run,
        }
    }
}

/// Opens the object that the text ends with, and begins another member of it. The value, from the place that is returned, and a closing brace follow.
fn begin_member(line: &mut String, name: &str) -> usize {
    line.pop();
    if !line.ends_with('{') {
        line.push(',');
    }
    line.push('"');
    line.push_str(name);
    line.push_str("\":");
    line.len()
}

/// One decision.
#[derive(Debug, Clone)]
pub struct Record {
    /// Labels of the process that writes the record.
    pub labels: Arc<Labels>,
    /// What is masked besides what always is.
    pub masks: Arc<Masks>,
    /// The rules in Rego that change records, if there are any.
    pub log_rules: Option<LogRules>,
    /// Random id of this decision.
    pub decision_id: Uuid,
    /// The trace and the span of the review, in hexadecimal, if it is traced.
    pub trace: Option<(String, String)>,
    /// When the decision was made.
    pub timestamp: Timestamp,
    /// The webhook that was called.
    pub webhook: Webhook,
    /// Name → revision of the bundles that judged.
    pub bundles: Arc<BTreeMap<String, String>>,
    /// The review; `None` when the request was no AdmissionReview.
    pub input: Option<Input>,
    /// The uid of a request that was no AdmissionReview, if it could be read; else empty.
    pub stray_uid: String,
    /// What was decided.
    pub result: RecordedResult,
    /// What the rules read, if records hold it.
    pub policy_input: Option<Box<RawValue>>,
    /// Name → SHA-256 of the bundles that judged, if records hold what the rules read: a revision is a text that any bundle may have.
    pub bundle_digests: BTreeMap<String, String>,
    /// Whether the rules had found this on the same input before and were not run again.
    pub is_verdict_cached: bool,
    /// What failed in the gate.
    pub error: Option<RecordedError>,
    /// Time that the stages took.
    pub timings: Timings,
}

#[derive(Serialize)]
struct BundleInfo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    revision: &'a str,
}

/// The schema's place for further members: `policy_input`, which is what the rules read, is written beside them.
#[derive(Serialize)]
struct Custom<'a> {
    /// The uid of the request, since OPA's `req_id` is a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_uid: Option<&'a str>,
    /// Name → SHA-256 of the bundles that judged, beside what the rules read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bundle_digests: &'a BTreeMap<String, String>,
    /// Whether the rules had found this on the same input before and were not run again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    verdict_cached: bool,
}

impl Custom<'_> {
    fn is_empty(&self) -> bool {
        self.request_uid.is_none() && self.bundle_digests.is_empty() && !self.verdict_cached
    }
}

/// The event up to its input, with OPA's members in OPA's order.
#[derive(Serialize)]
struct EventHead<'a> {
    labels: &'a Labels,
    #[serde(serialize_with = "hyphenated")]
    decision_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "revisions")]
    bundles: &'a BTreeMap<String, String>,
    path: &'static str,
}

/// The event after its input.
#[derive(Serialize)]
struct EventTail<'a> {
    result: ResultText<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    erased: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masked: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RecordedError>,
    #[serde(skip_serializing_if = "str::is_empty")]
    requested_by: &'a str,
    timestamp: Timestamp,
    metrics: &'a Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
}

fn hyphenated<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn revisions<S: Serializer>(bundles: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(bundles.iter().map(|(name, revision)| (name, BundleInfo { revision })))
}

/// Size of a record without its objects in the sink's buffer, in bytes: a round number above what the tests measure.
const RECORD_BYTES: usize = 2048;

impl Record {
    /// Approximate size of the record in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        let policy_input = self.policy_input.as_ref().map_or(0, |input| input.get().len());
        RECORD_BYTES + self.input.as_ref().map_or(0, Input::weight) + policy_input
    }

    fn uid(&self) -> Option<&str> {
        let stray = Some(self.stray_uid.as_str()).filter(|uid| !uid.is_empty());
        self.input.as_ref().map(|input| input.uid.as_str()).or(stray)
    }

    /// Appends the record as one line, with its newline. JSON escapes every newline inside, so a line is always a record. `false`, and
    /// nothing is appended, where rules for the log say that it is not written.
    pub fn append_to(&self, lines: &mut String) -> Result<bool, serde_json::Error> {
        let start = lines.len();
        let is_written = self.write(lines);
        if matches!(is_written, Ok(true)) {
            lines.push('\n');
        } else {
            lines.truncate(start);
        }
        is_written
    }

    fn write(&self, lines: &mut String) -> Result<bool, serde_json::Error> {
        let start = lines.len();
        lines.reserve(self.weight());
        self.write_event(lines)?;
        if let Some(rules) = &self.log_rules {
            let event = serde_json::from_str(lines.get(start..).unwrap_or_default())?;
            let Some(event) = rules.applied(event) else { return Ok(false) };
            lines.truncate(start);
            lines.push_str(&event.to_string());
        }
        // People read it in a terminal too (`kubectl logs`).
        let shown = match text::json(lines.get(start..).unwrap_or_default()) {
            Cow::Owned(shown) => Some(shown),
            Cow::Borrowed(_) => None,
        };
        if let Some(shown) = shown {
            lines.truncate(start);
            lines.push_str(&shown);
        }
        Ok(true)
    }

    /// The record as it is before rules for the log see it. Objects are masked on their way into the line, so there is no tree of one.
    fn write_event(&self, line: &mut String) -> Result<(), serde_json::Error> {
        line.push_str(&serde_json::to_string(&self.head())?);
        let mut masking =
            if self.is_quiet() { Masking::without_texts(&self.masks) } else { Masking::new(&self.masks) };
        let mut objects = Vec::new();
        if let Some(input) = &self.input {
            begin_member(line, "input");
            objects = input.write(line, &mut masking)?;
            line.push('}');
        }
        let policy_input = self.policy_input.as_deref();
        let policy_input = policy_input.map(|input| masking.policy_input(input, POLICY_INPUT));
        let written: &str = line;
        let shown: Vec<Shown<'_>> =
            objects.into_iter().filter_map(|object| written.get(object)).map(Shown::Json).collect();
        let (result, error) = self.without(&masking.secrets, &shown);
        let custom = Custom {
            request_uid: self.uid(),
            bundle_digests: &self.bundle_digests,
            verdict_cached: self.is_verdict_cached,
        };
        let tail = EventTail {
            result: self.result_as_written().map_or(ResultText::New(&result), ResultText::Written),
            erased: masking.report.erased,
            masked: masking.report.masked,
            error: error.as_deref(),
            requested_by: self.input.as_ref().and_then(|i| i.user.username.as_deref()).unwrap_or_default(),
            timestamp: self.timestamp,
            metrics: &self.timings,
            custom: Some(custom).filter(|custom| policy_input.is_some() || !custom.is_empty()),
        };
        let tail = serde_json::to_string(&tail)?;
        // Two objects, of which one becomes the rest of the other.
        line.pop();
        line.push(',');
        line.push_str(tail.strip_prefix('{').unwrap_or_default());
        if let Some(policy_input) = policy_input {
            // `custom` is the last member.
            line.pop();
            begin_member(line, "policy_input");
            line.push_str(&policy_input);
            line.push_str("}}");
        }
        Ok(())
    }

    fn head(&self) -> EventHead<'_> {
        EventHead {
            labels: &self.labels,
            decision_id: self.decision_id,
            trace_id: self.trace.as_ref().map(|(trace, _)| trace.as_str()),
            span_id: self.trace.as_ref().map(|(_, span)| span.as_str()),
            bundles: &self.bundles,
            path: self.webhook.decision_path(),
        }
    }

    /// Whether nothing in the record could quote a value: what the gate says of a review without a finding quotes none.
    fn is_quiet(&self) -> bool {
        self.result.violations.is_empty() && self.result.warnings.is_empty() && self.error.is_none()
    }

    /// The result as an earlier record of the same decision has it, if none of its texts could quote a value.
    fn result_as_written(&self) -> Option<&RawValue> {
        let alike = self.input.as_ref()?.alike.as_ref().filter(|_| self.is_quiet())?;
        alike.result(|| to_raw_value(&self.result).ok())
    }

    /// What was decided and what failed, without the values that were masked: a rule may have quoted one. `shown` are the masked objects.
    fn without(
        &self,
        secrets: &Secrets,
        shown: &[Shown<'_>],
    ) -> (Cow<'_, RecordedResult>, Option<Cow<'_, RecordedError>>) {
        let said = (Cow::Borrowed(&self.result), self.error.as_ref().map(Cow::Borrowed));
        if secrets.is_empty() || self.is_quiet() {
            return said;
        }
        let hider = secrets.hider_of(self.result.found(), shown);
        let (mut result, mut error) = said;
        result.to_mut().hide(&hider);
        if let Some(error) = &mut error {
            hider.hide_in(&mut error.to_mut().message);
        }
        (result, error)
    }

    /// The parsed line, for tests and for callers that show a record.
    ///
    /// # Errors
    ///
    /// Where it cannot be encoded, and where rules for the log say that it is not written.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut line = String::new();
        self.append_to(&mut line)?;
        serde_json::from_str(&line)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::audit::{ImageSummary, Outcome, RecordedViolation, Stage, Template};
    use crate::judge::Exemption;
    use crate::policy::{EnforcementAction, MendedBy, Violation};

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn review(object: &Value) -> Review {
        Review {
            uid: "705ab4f5-6393-11e8-b7cc-42010a800002".into(),
            kind: GroupVersionKind { group: String::new(), version: "v1".into(), kind: "Pod".into() },
            resource: GroupVersionResource {
                group: String::new(),
                version: "v1".into(),
                resource: "pods".into(),
            },
            sub_resource: None,
            name: String::new(),
            namespace: "shop".into(),
            operation: Operation::Create,
            user: User { username: Some("jane@example.com".into()), ..User::default() },
            dry_run: false,
            object: Some(raw(object)),
            old_object: None,
        }
    }

    /// A denied pod.
    pub(in crate::audit) fn record(object: &Value) -> Record {
        let violation = Violation {
            rule: "needs-grant".into(),
            message: "container `api` can open TCP connections\nand no grant covers that".into(),
            container: Some("api".into()),
            capability: Some("net.tcp.connect".into()),
            action: Some(EnforcementAction::Deny),
            mended_by: Some(MendedBy::Grant),
            ..Violation::default()
        };
        let image = ImageSummary {
            container: "api".into(),
            image: "ghcr.io/myorg/orders:1".into(),
            digest: Some("sha256:00".into()),
            class: "wasm",
            kind: Some("component"),
        };
        let mut timings = Timings { total: Duration::from_micros(90), ..Timings::default() };
        timings.note(Stage::Read, Duration::from_micros(30));
        timings.note(Stage::Judge, Duration::from_micros(40));
        Record {
            labels: Arc::new(Labels::new("wasmgate-0", &BTreeMap::new())),
            masks: Arc::default(),
            log_rules: None,
            trace: None,
            decision_id: Uuid::from_u128(0x6bf8_1bb6_a3d1_4bd3_9c9f_0d1f_6d5c_1a2b),
            timestamp: "2026-03-01T12:00:00.123456789Z".parse().unwrap(),
            webhook: Webhook::Validate,
            bundles: BTreeMap::from([("baseline".to_string(), "2026.3.0".to_string())]).into(),
            stray_uid: String::new(),
            input: Some(Input::from(review(object))),
            result: RecordedResult {
                violations: vec![RecordedViolation { violation, exempted: None, shadow: None }],
                images: vec![image],
                ..RecordedResult::plain(Outcome::Deny, false, "1 violation")
            },
            policy_input: None,
            bundle_digests: BTreeMap::new(),
            is_verdict_cached: false,
            error: None,
            timings,
        }
    }

    fn line_of(record: &Record) -> String {
        let mut line = String::new();
        assert!(record.append_to(&mut line).unwrap());
        line
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "x"}, "spec": {"containers": [{"env": [{"name": "A", "value": "hunter2"}]}]}})
    }

    #[test]
    fn managed_fields_are_left_out_alike_where_their_place_is_known() {
        let object = json!({
            "metadata": {"labels": {"managedFields": "x"}, "managedFields": [{"time": "}]\""}], "name": "x"},
            "spec": {"containers": []},
        });
        let mut record = record(&object);
        let wanted = line_of(&record);
        assert!(
            wanted.contains("\"/input/request/object/metadata/managedFields\"")
                && !wanted.contains("{\"time\"")
        );
        let text = object.to_string();
        let start = text.find("[{\"time").unwrap();
        let end = start + object["metadata"]["managedFields"].to_string().len();
        for known in [start..end, start + 1..end, 0..end, 0..text.len()] {
            record.input.as_mut().unwrap().managed_fields = Some(known.clone());
            assert_eq!(line_of(&record), wanted, "{known:?}");
        }
        record.input.as_mut().unwrap().managed_fields = Some(start..text.len() + 1);
        assert!(line_of(&record).contains("\"object\":null"), "no text ends there");
    }

    #[test]
    fn an_object_like_another_one_is_written_as_if_it_were_read_and_is_read_where_a_text_may_quote_it() {
        let pod = |name: &str| {
            let env = json!([{"name": "A", "value": "hunter2"}]);
            json!({"metadata": {"annotations": {"note": "b"}, "name": name}, "spec": {"containers": [{"env": env}]}})
        };
        let gap = |text: &str, name: &str| {
            let written = format!("\"{name}\"");
            let start = text.find(&written).unwrap();
            start..start + written.len()
        };
        let (first, other) = (pod("first").to_string(), pod("another"));
        let template_by = |masks: Masks| {
            let template = Template::of(&masks, &first, &[gap(&first, "first")]).unwrap();
            Some(Alike::new(Arc::new(template), vec![gap(&other.to_string(), "another")]))
        };
        let others = Masks { annotations: vec!["note".into()] };
        let denied = record(&other);
        let mut quiet = denied.clone();
        quiet.result.violations.clear();
        for (mut record, is_read) in [(quiet, false), (denied, true)] {
            let wanted = line_of(&record);
            assert!(wanted.contains("another") && !wanted.contains("hunter2"), "{wanted}");
            record.input.as_mut().unwrap().alike = template_by(Masks::default());
            assert_eq!(line_of(&record), wanted);
            assert_eq!(line_of(&record), wanted, "the result is not written again");
            // With the masks of another state the template shows whether it is used.
            record.input.as_mut().unwrap().alike = template_by(others.clone());
            assert_eq!(line_of(&record) == wanted, is_read);
        }
    }

    #[test]
    fn a_record_has_the_members_of_opas_event_and_no_others() {
        let mut event = record(&pod()).to_value().unwrap();
        let input = event.as_object_mut().unwrap().remove("input").unwrap();
        assert_eq!(
            event,
            json!({
                "labels": {"app": "wasmgate", "version": env!("CARGO_PKG_VERSION"), "id": "wasmgate-0"},
                "decision_id": "6bf81bb6-a3d1-4bd3-9c9f-0d1f6d5c1a2b",
                "bundles": {"baseline": {"revision": "2026.3.0"}},
                "path": "wasmgate/validate",
                "result": {
                    "allowed": false, "action": "deny", "reason": "1 violation", "changes": [], "warnings": [],
                    "patchOperations": 0,
                    "violations": [{
                        "rule": "needs-grant", "container": "api", "capability": "net.tcp.connect",
                        "message": "container `api` can open TCP connections\nand no grant covers that",
                        "action": "deny", "mendedBy": "grant",
                    }],
                    "images": [{
                        "container": "api", "image": "ghcr.io/myorg/orders:1", "digest": "sha256:00",
                        "class": "wasm", "kind": "component",
                    }],
                },
                "masked": ["/input/request/object/spec/containers/0/env/0/value"],
                "requested_by": "jane@example.com",
                "timestamp": "2026-03-01T12:00:00.123456789Z",
                "metrics": {
                    "timer_server_handler_ns": 90_000, "timer_wasmgate_read_ns": 30_000,
                    "timer_wasmgate_judge_ns": 40_000,
                },
                "custom": {"request_uid": "705ab4f5-6393-11e8-b7cc-42010a800002"},
            })
        );
        assert_eq!(input["kind"], "AdmissionReview");
        assert_eq!(input["request"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!(input["request"]["userInfo"]["username"], "jane@example.com");
    }

    #[test]
    fn the_input_can_be_read_as_a_review_again() {
        let value = record(&pod()).to_value().unwrap();
        let input = value["input"].clone();
        let review: kube::core::admission::AdmissionReview<kube::core::DynamicObject> =
            serde_json::from_value(input).unwrap();
        let request = review.request.unwrap();
        assert_eq!(request.namespace.as_deref(), Some("shop"));
        assert_eq!(request.object.unwrap().metadata.name.as_deref(), Some("x"));
    }

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        let mut record = record(&json!({"metadata": {"name": "a\nb\r\n\u{2028}c"}}));
        record.result.reason = "first\nsecond".into();
        let line = line_of(&record);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
    }

    #[test]
    fn a_pretty_printed_object_is_on_the_line_too_and_records_follow_each_other() {
        let mut record = record(&pod());
        record.input.as_mut().unwrap().object =
            Some(RawValue::from_string("{\n  \"metadata\": {\r\n\t\"name\": \"x\"\n}}".into()).unwrap());
        let mut lines = String::new();
        for _ in 0..2 {
            assert!(record.append_to(&mut lines).unwrap());
        }
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], lines[1]);
        assert_eq!(lines[1]["input"]["request"]["object"], json!({"metadata": {"name": "x"}}));
    }

    #[test]
    fn what_rules_read_is_in_the_record_masked_with_or_without_anything_beside_it() {
        let input = json!({"object": pod(), "options": {"a": 1}});
        let with = Record { policy_input: Some(raw(&input)), ..record(&pod()) };
        let alone = Record { input: None, stray_uid: String::new(), ..with.clone() };
        let cached = Record { is_verdict_cached: true, ..with.clone() };
        for (record, members) in [(with, 2), (alone, 1), (cached, 3)] {
            let event = record.to_value().unwrap();
            assert!(!event.to_string().contains("hunter2"), "{event}");
            let custom = event["custom"].as_object().unwrap();
            assert_eq!(custom.len(), members, "{event}");
            assert_eq!(custom["policy_input"]["options"], json!({"a": 1}));
            let pointer = "/custom/policy_input/object/spec/containers/0/env/0/value";
            assert!(event["masked"].as_array().unwrap().contains(&json!(pointer)), "{event}");
        }
    }

    /// A record holds the object some levels down, and programs that read records take 128.
    #[test]
    fn the_deepest_object_that_is_kept_can_be_read_in_its_record() {
        for (levels, is_kept) in [(120, true), (121, false)] {
            let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            let mut record = record(&pod());
            record.input.as_mut().unwrap().object = Some(RawValue::from_string(deep).unwrap());
            let event = record.to_value().unwrap();
            assert_eq!(event["input"]["request"]["object"].is_array(), is_kept);
            let erased = json!(["/input/request/object"]);
            assert_eq!(event.get("erased"), Some(&erased).filter(|_| !is_kept));
        }
    }

    #[test]
    fn the_stored_object_is_masked_like_the_new_one() {
        let mut record = record(&pod());
        record.input.as_mut().unwrap().old_object = Some(raw(&pod()));
        let line = line_of(&record);
        assert!(!line.contains("hunter2"), "{line}");
        assert!(line.contains("/input/request/oldObject/spec/containers/0/env/0/value"), "{line}");
    }

    #[test]
    fn a_value_that_a_rule_quotes_is_in_no_text_of_the_record() {
        let mut quoting = record(&pod());
        let violation = &mut quoting.result.violations[0].violation;
        violation.message = "`hunter2` is weak".into();
        violation.remedy = Some("do not use hunter2".into());
        quoting.result.warnings = vec!["hunter2".into()];
        quoting.error = Some(RecordedError { code: "x".into(), message: "at hunter2".into() });
        let event = quoting.to_value().unwrap();
        assert!(!event.to_string().contains("hunter2"), "{event}");
        assert_eq!(event["result"]["violations"][0]["message"], "`**REDACTED**` is weak");
        assert_eq!(event["error"]["message"], "at **REDACTED**");
    }

    #[test]
    fn annotations_that_the_platform_lists_are_in_no_record() {
        let object =
            json!({"metadata": {"name": "x", "annotations": {"team/token": "hunter2", "team/name": "a"}}});
        let masks = Masks { annotations: vec!["team/token".into()] };
        let event = Record { masks: Arc::new(masks), ..record(&object) }.to_value().unwrap();
        let metadata = &event["input"]["request"]["object"]["metadata"];
        assert_eq!(metadata["annotations"], json!({"team/name": "a"}));
        assert_eq!(event["erased"], json!(["/input/request/object/metadata/annotations/team~1token"]));
    }

    #[test]
    fn a_request_that_is_no_review_leaves_a_record_too() {
        let mut record = record(&pod());
        record.input = None;
        record.error = Some(RecordedError { code: "read-review".into(), message: "not JSON".into() });
        record.result = RecordedResult::plain(Outcome::Error, false, "the request body is not a review");
        let event = record.to_value().unwrap();
        assert_eq!(event["error"], json!({"code": "read-review", "message": "not JSON"}));
        for absent in ["input", "custom", "masked", "erased", "requested_by"] {
            assert_eq!(event.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn further_labels_cannot_replace_the_gates_own() {
        let more = [("id", "forged"), ("app", "forged"), ("cluster", "eu-1")];
        let more = more.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let labels = serde_json::to_value(Labels::new("wasmgate-0", &more)).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            labels,
            json!({"app": "wasmgate", "id": "wasmgate-0", "version": version, "cluster": "eu-1"})
        );
    }

    #[test]
    fn the_weight_of_a_record_is_near_its_length() {
        let small = record(&pod());
        assert!(line_of(&small).len() < small.weight());
        let large = record(&json!({"metadata": {"annotations": {"note": "x".repeat(100_000)}}}));
        let length = line_of(&large).len();
        assert!(
            large.weight() >= length && large.weight() < length + RECORD_BYTES,
            "{length} {}",
            large.weight()
        );
    }

    #[test]
    fn a_finding_that_was_exempted_says_by_which_exception_and_why() {
        let violation = Violation {
            rule: "capability-not-provided".into(),
            message: "m".into(),
            container: None,
            capability: None,
            action: Some(EnforcementAction::Audit),
            mended_by: Some(MendedBy::Pod),
            ..Violation::default()
        };
        let exempted = Exemption {
            exception: "shop/legacy".into(),
            reason: "TICKET-1".into(),
            expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let finding = RecordedViolation { violation, exempted: Some(exempted), shadow: None };
        assert_eq!(
            serde_json::to_value(finding).unwrap(),
            json!({
                "rule": "capability-not-provided", "message": "m", "action": "audit", "mendedBy": "pod",
                "exempted": {"exception": "shop/legacy", "reason": "TICKET-1", "expiresAt": "2027-01-01T00:00:00Z"},
            })
        );
    }

    #[test]
    fn the_uid_of_a_request_that_was_no_review_is_kept() {
        let stray = Record { input: None, stray_uid: "abc".into(), ..record(&json!({})) };
        assert_eq!(stray.to_value().unwrap()["custom"]["request_uid"], "abc");
        let unknown = Record { input: None, ..record(&json!({})) };
        assert_eq!(unknown.to_value().unwrap().get("custom"), None);
    }
}
