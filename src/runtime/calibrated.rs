//! What programs need to start, as `make calibrate` measured it: the constants of the formulas of `plan::floor`. They are computed from
//! `docs/sizing.csv` by `tests/suite/sizing/constants.rs`, which writes them here (`WASMGATE_WRITE_CALIBRATED=1`) and fails where
//! anything else stands here; `docs/sizing.md` has the formula.

/// The memory that programs need which are packed in one way, beside their own memory, data and tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In Mi, whatever the program.
    pub fixed_mebibytes: u32,
    /// In bytes, for each byte of code.
    pub per_byte: u32,
}

/// CPU time for compiling a million bytes of code, in tenths of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Of the row that took the least: other work on the machine, and a slow day of it, only add to that. Sizes go by this, since those
    /// that are too small make a start slow and no more.
    pub tenths: u32,
    /// Of the row that took the most. Whatever has to do with probes goes by this, since a container that is restarted while it
    /// compiles never starts.
    pub slowest_tenths: u32,
}

// === Written from docs/sizing.csv ===
// kubelet 1.36.3, containerd 2.4.2, containerd-shim-wasm 1.0.1 with wasmtime 48.0.8, youki 0.7.0 with wasmtime 46, both at opt-level 1; amd64 with cgroup v1, 2 processors, no CPU limit.
// crun 1.21 with wasmtime 25.0.0, as it is published for Python.

/// The processors of the node, none of which a limit took away.
pub const PROCESSORS: u32 = 2;

/// A Wasm layer, which the shim compiles: 14 rows, measured from 2026-11-30 to 2026-11-30.
pub const LAYER_MEMORY: Memory = Memory { fixed_mebibytes: 4, per_byte: 4 };

/// A file, which the container compiles: 21 rows, measured from 2026-11-28 to 2026-11-30.
pub const FILE_MEMORY: Memory = Memory { fixed_mebibytes: 17, per_byte: 50 };

/// The time that files took in these rows.
pub const FILE_TIME: Time = Time { tenths: 16, slowest_tenths: 32 };

/// A file under crun, whose wasmtime is of another build: 7 rows, measured from 2026-11-30 to 2026-11-30.
pub const CRUN_MEMORY: Option<Memory> = Some(Memory { fixed_mebibytes: 12, per_byte: 41 });

/// The time that files under crun took in these rows.
pub const CRUN_TIME: Option<Time> = Some(Time { tenths: 11, slowest_tenths: 12 });
// === End of what was written ===
