//! A record as an object of the API server. A client that may write such objects decides which requests the gate fills in, so the plan bounds
//! what they say, and what the gate would not have written is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::histogram::Histogram;
use super::learned::{LearnedSize, UsageKey};
use super::record::Record;
use super::scale::Scale;
use crate::image::Digest;
use crate::quantity::{Quantity, WrittenQuantity};

/// `apiVersion` of the objects.
pub const API_VERSION: &str = "wasmgate.dev/v1alpha1";
/// `kind` of the objects.
pub const KIND: &str = "WasmUsage";

/// Longest name of a runtime profile, in bytes.
const LONGEST_RUNTIME: usize = 253;

/// Longest time for which an image was seen to run, in seconds: ten years. The API server refuses a number that is not an `int64`, so what is
/// added to a longer one could not be written.
const MOST_OBSERVED: u64 = 10 * 366 * 24 * 60 * 60;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadUsage {
    /// It has not the fields of its kind.
    #[error("could not read the object: {message}; delete it, and it is made again")]
    ReadObject {
        /// What the parser says.
        message: String,
    },
    /// It says something else than its name.
    #[error("could not use the object: its digest and runtime are those of `{expected}`; delete it")]
    MatchName {
        /// The name that it should have.
        expected: String,
    },
    /// A value is outside of what the gate writes.
    #[error(
        "could not use the object: `{field}` is nothing that the gate writes; delete it, and it is made again"
    )]
    UseField {
        /// The field.
        field: &'static str,
    },
}

/// An object without its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageObject {
    spec: UsageSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<UsageStatus>,
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageSpec {
    digest: Digest,
    runtime: String,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageStatus {
    /// Absent before there was enough to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests: Option<WrittenSize>,
    observed_seconds: u64,
    last_seen: Timestamp,
    memory: WrittenHistogram,
    cpu: WrittenHistogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WrittenSize {
    memory: WrittenQuantity,
    cpu: WrittenQuantity,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WrittenHistogram {
    /// The sum of all weights, in thousandths of a sample.
    total: u64,
    /// Number of a bucket → its weight, of which the heaviest has ten thousand.
    #[serde(default)]
    buckets: BTreeMap<String, u32>,
}

impl WrittenHistogram {
    fn of(histogram: &Histogram) -> Self {
        let (total, buckets) = histogram.written();
        Self { total, buckets }
    }
}

impl UsageObject {
    /// Reads the fields of an object of this name, and checks them.
    pub fn read(name: &str, data: Value) -> Result<Self, BadUsage> {
        let read: Self = serde_json::from_value(data)
            .map_err(|error| BadUsage::ReadObject { message: error.to_string() })?;
        if read.spec.runtime.is_empty() || read.spec.runtime.len() > LONGEST_RUNTIME {
            return Err(BadUsage::UseField { field: "spec.runtime" });
        }
        let expected = read.key().object_name();
        if name != expected {
            return Err(BadUsage::MatchName { expected });
        }
        let is_size = |size: &WrittenSize| {
            size.memory.quantity() > Quantity::ZERO && size.cpu.quantity() > Quantity::ZERO
        };
        let said = read.status.as_ref().and_then(|status| status.requests.as_ref());
        if said.is_some_and(|size| !is_size(size)) {
            return Err(BadUsage::UseField { field: "status.requests" });
        }
        if read.status.as_ref().is_some_and(|status| status.observed_seconds > MOST_OBSERVED) {
            return Err(BadUsage::UseField { field: "status.observedSeconds" });
        }
        read.record().map(|_| read)
    }

    /// The object that says this.
    pub fn of(key: &UsageKey, record: &Record, requests: Option<LearnedSize>) -> Self {
        let UsageKey { digest, runtime } = key.clone();
        let written = |size: LearnedSize| WrittenSize {
            memory: WrittenQuantity::memory(size.memory),
            cpu: WrittenQuantity::cpu(size.cpu),
        };
        let status = UsageStatus {
            requests: requests.map(written),
            observed_seconds: record.observed.as_secs().min(MOST_OBSERVED),
            last_seen: record.last_seen,
            memory: WrittenHistogram::of(&record.memory),
            cpu: WrittenHistogram::of(&record.cpu),
        };
        Self { spec: UsageSpec { digest, runtime }, status: Some(status) }
    }

    /// What it is about.
    pub fn key(&self) -> UsageKey {
        UsageKey { digest: self.spec.digest.clone(), runtime: self.spec.runtime.clone() }
    }

    /// The requests that it says.
    pub fn requests(&self) -> Option<LearnedSize> {
        let said = self.status.as_ref()?.requests.as_ref()?;
        // A request is written in whole bytes and thousandths. One that is not would differ from what is read back.
        let (memory, cpu) =
            (said.memory.quantity().up_to(Quantity::BYTE), said.cpu.quantity().up_to(Quantity::MILLI));
        Some(LearnedSize { memory, cpu })
    }

    /// What was seen; `None` where it does not say.
    pub fn record(&self) -> Result<Option<Record>, BadUsage> {
        let Some(status) = &self.status else { return Ok(None) };
        let histogram = |scale, written: &WrittenHistogram, field| {
            let read = Histogram::of_written(scale, written.total, &written.buckets);
            read.ok_or(BadUsage::UseField { field })
        };
        Ok(Some(Record {
            memory: histogram(Scale::Memory, &status.memory, "status.memory")?,
            cpu: histogram(Scale::Cpu, &status.cpu, "status.cpu")?,
            last_seen: status.last_seen,
            observed: Duration::from_secs(status.observed_seconds),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::histogram::ONE;
    use super::*;

    fn key() -> UsageKey {
        UsageKey { digest: Digest::of(b"app"), runtime: "wasmtime".into() }
    }

    fn written() -> Value {
        let mut record = Record::new("2026-06-01T00:00:00Z".parse().unwrap());
        record.add_cpu(Quantity::from_millis(3), ONE);
        record.add_peak(Quantity::mebibytes(9), ONE);
        let size = LearnedSize { memory: Quantity::mebibytes(11), cpu: Quantity::from_millis(4) };
        serde_json::to_value(UsageObject::of(&key(), &record, Some(size))).unwrap()
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        let read = UsageObject::read(&key().object_name(), written()).unwrap();
        assert_eq!(read.key(), key());
        let LearnedSize { memory, cpu } = read.requests().unwrap();
        assert_eq!((memory.memory(), cpu.cpu()), ("11Mi".to_owned(), "4m".to_owned()));
        let record = read.record().unwrap().unwrap();
        let again = UsageObject::of(&key(), &record, read.requests());
        assert_eq!(serde_json::to_value(again).unwrap(), written());
        assert_eq!(record.size(Duration::ZERO).map(|size| size.cpu.millis() > 3), Some(true));
    }

    #[test]
    fn an_object_that_the_gate_would_not_write_is_refused_with_its_field() {
        let changed = |pointer: &str, value: Value| {
            let mut data = written();
            *data.pointer_mut(pointer).unwrap() = value;
            UsageObject::read(&key().object_name(), data).unwrap_err().to_string()
        };
        for (pointer, value, says) in [
            ("/spec/digest", json!("sha256:0"), "could not read the object"),
            ("/spec/digest", json!(Digest::of(b"other")), "are those of `usage-"),
            ("/spec/runtime", json!("spin"), "are those of `usage-"),
            ("/spec/runtime", json!(""), "`spec.runtime`"),
            ("/spec/runtime", json!("x".repeat(254)), "`spec.runtime`"),
            ("/status/requests/memory", json!("-1Mi"), "`status.requests`"),
            ("/status/requests/cpu", json!("0"), "`status.requests`"),
            ("/status/requests/cpu", json!("much"), "could not read the object"),
            ("/status/memory/buckets", json!({"999": 1}), "`status.memory`"),
            ("/status/cpu/buckets", json!({"1": 10_001}), "`status.cpu`"),
            ("/status/observedSeconds", json!(-1), "could not read the object"),
            ("/status/observedSeconds", json!(u64::MAX / 2), "`status.observedSeconds`"),
        ] {
            let said = changed(pointer, value.clone());
            assert!(said.contains(says), "{pointer} {value}: {said}");
        }
    }

    #[test]
    fn an_image_that_ran_for_longer_than_can_be_read_can_be_read_again() {
        let observed = Duration::from_secs(MOST_OBSERVED + 7);
        let record = Record { observed, ..Record::new("2036-06-01T00:00:00Z".parse().unwrap()) };
        let data = serde_json::to_value(UsageObject::of(&key(), &record, None)).unwrap();
        let read = UsageObject::read(&key().object_name(), data).unwrap().record().unwrap().unwrap();
        assert_eq!(read.observed(), Duration::from_secs(MOST_OBSERVED));
    }

    #[test]
    fn amounts_finer_than_a_request_is_written_in_are_rounded_up() {
        let mut data = written();
        data["status"]["requests"] = json!({"memory": "1500m", "cpu": "10500u"});
        let said = UsageObject::read(&key().object_name(), data).unwrap().requests().unwrap();
        assert_eq!((said.memory.memory(), said.cpu.cpu()), ("2".to_owned(), "11m".to_owned()));
        let whole = LearnedSize { memory: Quantity::from_bytes(2), cpu: Quantity::from_millis(11) };
        assert_eq!(said, whole, "not only as it is shown");
    }

    #[test]
    fn an_object_without_a_status_says_nothing_yet() {
        let data = json!({"spec": {"digest": Digest::of(b"app"), "runtime": "wasmtime"}});
        let read = UsageObject::read(&key().object_name(), data).unwrap();
        assert_eq!((read.requests(), read.record()), (None, Ok(None)));
    }
}
