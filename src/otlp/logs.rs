//! Decision records as log records.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use prost::Message as _;
use serde_json::Value;

use super::context::bytes;
use super::message::{any, attribute, resource, scope, text};

/// Name of the event that a decision record is.
const EVENT: &str = "wasmgate.decision";

/// The request with these events of one process, each as JSON; an event that cannot be read is left out.
pub fn logs_request(events: &[&[u8]]) -> Vec<u8> {
    let events: Vec<Value> = events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect();
    let labels = events.first().and_then(|event| event["labels"].as_object()).into_iter().flatten();
    let resource = resource(labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))));
    let logs = ScopeLogs {
        scope: Some(scope()),
        log_records: events.iter().map(log_record).collect(),
        schema_url: String::new(),
    };
    let logs = ResourceLogs { resource: Some(resource), scope_logs: vec![logs], schema_url: String::new() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec()
}

fn log_record(event: &Value) -> LogRecord {
    let at = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let severity = severity(event);
    let time = at("/timestamp").parse::<Timestamp>().map_or(0, Timestamp::as_nanosecond);
    let time = u64::try_from(time).unwrap_or_default();
    let attributes = [
        ("opa.decision_id", at("/decision_id")),
        ("opa.path", at("/path")),
        ("k8s.namespace.name", at("/input/request/namespace")),
        ("wasmgate.outcome", at("/result/action")),
    ];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.into(),
        severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").into(),
        body: Some(any(event)),
        attributes: attributes.map(|(key, value)| attribute(key, text(value))).collect(),
        trace_id: bytes::<16>(at("/trace_id")).map(Vec::from).unwrap_or_default(),
        span_id: bytes::<8>(at("/span_id")).map(Vec::from).unwrap_or_default(),
        event_name: EVENT.into(),
        ..LogRecord::default()
    }
}

/// An error is one of the gate, a warning is a refusal.
fn severity(event: &Value) -> SeverityNumber {
    match (event.get("error").is_some(), event.pointer("/result/allowed")) {
        (true, _) => SeverityNumber::Error,
        (false, Some(Value::Bool(false))) => SeverityNumber::Warn,
        _ => SeverityNumber::Info,
    }
}

/// How many records the collector did not take of a request that it took, and its reason.
pub fn rejected_records(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_log_records).unwrap_or_default();
    (rejected > 0).then_some((rejected, partial.error_message))
}
