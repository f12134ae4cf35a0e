//! The Wasm engine that all bundles share, and the limits on one evaluation.

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use wasmtime::{Config, Module, OptLevel};

use super::Error;
use super::compiled::{CompiledFolder, Obtained};
use super::lanes::Lanes;

/// Most stack frames of a stopped evaluation that are examined. Rules do not recurse, but OPA's own walk through a value
/// does; the innermost frames come first.
const MAX_FRAMES: usize = 512;

/// Limits on one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most work for one evaluation of one bundle, in wasmtime's fuel; an instruction costs about one unit. The same
    /// rules use the same fuel on the same input, to one part in a hundred, however busy the machine is.
    pub fuel: u64,
    /// Wall-clock time for all bundles together, including the wait in the queue: the last limit, which only an overloaded
    /// machine reaches.
    pub time: Duration,
    /// Most linear memory of each instance of a bundle, in bytes.
    pub memory_bytes: usize,
    /// Whether an error of a built-in function ends the evaluation, which denies. Otherwise the call is undefined, as in OPA
    /// (`opa eval` without `--strict-builtin-errors`).
    pub strict_builtins: bool,
}

impl Default for Limits {
    /// A rule takes well under a millisecond (OPA's guidance is "on the order of 1 ms",
    /// `open-policy-agent/opa:docs/docs/policy-performance.md`). The baseline uses a hundredth of this fuel on a pod with
    /// four containers that breaks most rules, and a third on a pod of 700 KiB. Two seconds leave the webhook time to answer.
    fn default() -> Self {
        Self {
            fuel: 500_000_000,
            time: Duration::from_secs(2),
            memory_bytes: 64 << 20,
            strict_builtins: false,
        }
    }
}

impl Limits {
    /// Refuses limits of zero, with which nothing could be evaluated.
    pub(super) fn check(&self) -> Result<(), Error> {
        let zero = [
            ("policies.fuelLimit", self.fuel == 0),
            ("policies.timeLimit", self.time.is_zero()),
            ("policies.memoryLimitBytes", self.memory_bytes == 0),
        ];
        match zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((field, _)) => Err(Error::SetLimit { field }),
            None => Ok(()),
        }
    }

    /// The limits for loading data into a new instance. The platform provides the data, and it may be large.
    pub(super) fn for_start(self) -> Self {
        Self { fuel: u64::MAX, ..self }
    }
}

/// The Wasm engine that all bundles share. Clones share the engine.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    /// The settings of `wasm`.
    pub(super) config: Arc<Config>,
    pub(super) lanes: Arc<Lanes>,
    compiled: Option<CompiledFolder>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts an engine for a process that evaluates for a long time.
    pub fn new() -> Result<Self, Error> {
        Self::with(OptLevel::Speed)
    }

    /// Starts an engine for a command, which evaluates a few inputs and ends: it compiles a bundle in two thirds of the time,
    /// and an evaluation takes a tenth longer. Fuel is counted in the bundle's own instructions, so it stays the same.
    pub fn for_command() -> Result<Self, Error> {
        Self::with(OptLevel::None)
    }

    fn with(optimisation: OptLevel) -> Result<Self, Error> {
        let mut config = Config::new();
        config.cranelift_opt_level(optimisation);
        config.consume_fuel(true);
        // No message shows Wasm frames; they tell which rule ran when an evaluation was stopped.
        config.wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES));
        let failed = |error: wasmtime::Error| Error::StartEngine { reason: error.to_string() };
        let wasm = wasmtime::Engine::new(&config).map_err(failed)?;
        let processors = available_parallelism().map_or(2, usize::from);
        Ok(Self { wasm, config: config.into(), lanes: Arc::new(Lanes::new(processors)), compiled: None })
    }

    /// The same engine, which takes modules that were compiled earlier from this folder and keeps there what it compiles.
    #[must_use]
    pub fn keeping(self, compiled: Option<CompiledFolder>) -> Self {
        Self { compiled, ..self }
    }

    /// The module, compiled by an engine of these settings: that of the module itself, in whose stores it runs. Blocks on the disk.
    pub(super) fn compile(&self, bundle: &str, wasm: &[u8]) -> wasmtime::Result<Module> {
        let Some(compiled) = &self.compiled else { return Module::new(&self.wasm, wasm) };
        let (module, origin) = compiled.module(&self.config, &self.wasm, wasm)?;
        match origin {
            Obtained::Disk => tracing::debug!(bundle, "the compiled policy was on disk"),
            Obtained::Kept => tracing::debug!(bundle, "the compiled policy is on disk now"),
            Obtained::NotKept => tracing::warn!(bundle, "the compiled policy cannot be kept on disk"),
        }
        Ok(module)
    }
}

/// When work on a separate thread must stop, even if it is not finished.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    /// Latest time.
    pub deadline: Instant,
    abandoned: Arc<AtomicBool>,
}

impl Stop {
    /// Stops at `deadline`, or earlier when the guard is dropped.
    pub fn at(deadline: Instant) -> (Self, AbandonOnDrop) {
        let abandoned = Arc::new(AtomicBool::new(false));
        (Self { deadline, abandoned: Arc::clone(&abandoned) }, AbandonOnDrop(abandoned))
    }

    /// Whether it has to end now.
    pub fn is_due(&self) -> bool {
        self.abandoned.load(Relaxed) || Instant::now() >= self.deadline
    }
}

/// Stops work when its result is not needed any more.
#[derive(Debug)]
pub(super) struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs Wasm on this thread until it ends; `None` if it had to stop earlier. The work yields after each slice of fuel and
/// never waits, so it is polled again at once.
pub(super) fn drive<T>(work: impl Future<Output = T>, stop: &Stop) -> Option<T> {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
            return Some(outcome);
        }
        if stop.is_due() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that yields this many times before it is done.
    fn giving_way(times: usize) -> impl Future<Output = usize> {
        let mut left = times;
        std::future::poll_fn(move |_| {
            if left == 0 {
                return Poll::Ready(times);
            }
            left -= 1;
            Poll::Pending
        })
    }

    #[test]
    fn work_goes_on_until_it_is_done() {
        let (stop, _guard) = Stop::at(Instant::now() + Duration::from_mins(10));
        assert_eq!(drive(giving_way(10_000), &stop), Some(10_000));
    }

    #[test]
    fn work_ends_at_its_deadline_and_when_its_result_is_not_wanted() {
        let (timed_out, _guard) = Stop::at(Instant::now());
        assert_eq!(drive(giving_way(usize::MAX), &timed_out), None);
        let (stop, guard) = Stop::at(Instant::now() + Duration::from_mins(10));
        drop(guard);
        assert_eq!(drive(giving_way(usize::MAX), &stop), None);
        assert_eq!(drive(giving_way(0), &timed_out), Some(0), "what is done at once is not thrown away");
    }
}
