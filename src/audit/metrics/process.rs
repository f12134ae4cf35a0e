//! Metrics of the process, under the standard names of Prometheus client libraries.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// The metrics of the process.
#[derive(Debug, Default)]
pub(super) struct Process {
    resident: Gauge,
}

impl Process {
    /// Registers the metrics; the start time is set to now.
    pub(super) fn register(&self, to: &mut Registry) {
        let version = env!("CARGO_PKG_VERSION");
        to.register("wasmgate_build", "The version that runs", Info::new(BuildLabels { version }));
        let start: Gauge<f64, AtomicU64> = Gauge::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let help = "When the process started, in seconds since 1970";
        to.register_with_unit("process_start_time", help, Unit::Seconds, start);
        let help = "Resident memory of the process in bytes";
        to.register_with_unit("process_resident_memory", help, Unit::Bytes, self.resident.clone());
    }

    /// Updates the metrics that change by themselves.
    pub(super) fn measure(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
    }
}

/// `VmRSS` of `/proc/self/status` in bytes; the file has it in units of 1024 bytes (`proc_pid_status(5)`). `None` if absent.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}
