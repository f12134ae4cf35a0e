//! The Wasm engine that all bundles share.

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use wasmtime::{Config, Module, OptLevel};

use super::Error;
use super::compiled::{CompiledFolder, Obtained};
use super::compiling::Compiling;
use super::lanes::Lanes;
use super::verdicts::Verdicts;
use crate::shares::processors;

/// Most stack frames of a stopped evaluation that are examined. Rules do not recurse, but OPA's own walk through a value
/// does; the innermost frames come first.
const MAX_FRAMES: usize = 512;

/// The Wasm engine that all bundles share. Clones share the engine.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    /// The settings of `wasm`.
    pub(super) config: Arc<Config>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) verdicts: Arc<Verdicts>,
    compiled: Option<CompiledFolder>,
    compiling: Arc<Compiling>,
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
        // For debuggers alone, and some work for each function. Neither what follows here nor a panic in a host function needs it.
        config.native_unwind_info(false);
        // No message shows Wasm frames; they tell which rule ran when an evaluation was stopped.
        config.wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES));
        let failed = |error: wasmtime::Error| Error::StartEngine { reason: error.to_string() };
        let wasm = wasmtime::Engine::new(&config).map_err(failed)?;
        let (lanes, verdicts) = (Arc::new(Lanes::new(processors())), Arc::new(Verdicts::within(0)));
        Ok(Self { wasm, config: config.into(), lanes, verdicts, compiled: None, compiling: Arc::default() })
    }

    /// The same engine, which keeps so many bytes of what evaluations found, so that none of them is repeated. Bundles that were
    /// loaded before keep nothing.
    #[must_use]
    pub fn remembering(self, verdict_bytes: u64) -> Self {
        Self { verdicts: Arc::new(Verdicts::within(verdict_bytes)), ..self }
    }

    /// The same engine, which takes modules that were compiled earlier from this folder and keeps there what it compiles.
    #[must_use]
    pub fn keeping(self, compiled: Option<CompiledFolder>) -> Self {
        Self { compiled, ..self }
    }

    /// The module, compiled by an engine of these settings: that of the module itself, in whose stores it runs. Blocks on the disk.
    pub(super) fn compile(&self, bundle: &str, wasm: &[u8]) -> wasmtime::Result<Module> {
        let Some(compiled) = &self.compiled else {
            return self.compiling.apart(|| Module::new(&self.wasm, wasm));
        };
        obtained(bundle, || self.compiling.apart(|| compiled.module(&self.config, &self.wasm, wasm)))
    }
}

/// The module that `obtain` finds, which it does a second time where that has put it on disk. What was compiled lies in pieces among what Cranelift has
/// freed, whose pages stay as long as one piece of each does. Taken from the disk it lies together, as after any later start.
fn obtained<M>(bundle: &str, obtain: impl Fn() -> wasmtime::Result<(M, Obtained)>) -> wasmtime::Result<M> {
    let (module, origin) = obtain()?;
    match origin {
        Obtained::Disk => tracing::debug!(bundle, "the compiled policy was on disk"),
        Obtained::Kept => tracing::debug!(bundle, "the compiled policy is on disk now"),
        Obtained::NotKept => tracing::warn!(bundle, "the compiled policy cannot be kept on disk"),
    }
    if origin != Obtained::Kept {
        return Ok(module);
    }
    if let Ok((again, Obtained::Disk)) = obtain() {
        return Ok(again);
    }
    tracing::warn!(bundle, "the compiled policy was put on disk and is not there");
    Ok(module)
}

/// Longer than any review takes, where a time is too long for the clock.
const FOR_EVER: Duration = Duration::from_hours(24);

/// The end of so much time that begins now.
pub(super) fn end_of(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FOR_EVER)
}

/// When work on a separate thread must stop, even if it is not finished, and what time it is for the rules.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    /// Latest time.
    pub deadline: Instant,
    /// The time that rules are told; `None` for that of the clock.
    pub now: Option<Timestamp>,
    abandoned: Arc<AtomicBool>,
}

impl Stop {
    /// Stops at `deadline`, or earlier when the guard is dropped.
    pub fn at(deadline: Instant) -> (Self, AbandonOnDrop) {
        let abandoned = Arc::new(AtomicBool::new(false));
        (Self { deadline, now: None, abandoned: Arc::clone(&abandoned) }, AbandonOnDrop(abandoned))
    }

    /// Stops at the end of so much time from now, or at the present deadline if that is earlier.
    pub fn within(&self, time: Duration) -> Self {
        Self { deadline: end_of(time).min(self.deadline), ..self.clone() }
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
    use std::cell::Cell;

    use super::*;

    /// Which attempt's module is taken, and how many attempts there are. `found` says where each of them finds it; `None` is one that fails.
    fn taken(found: &[Option<Obtained>]) -> (Option<usize>, usize) {
        let attempts = Cell::new(0_usize);
        let module = obtained("own", || {
            let attempt = attempts.replace(attempts.get() + 1);
            let origin = found.get(attempt).copied().flatten();
            origin
                .map(|origin| (attempt, origin))
                .ok_or_else(|| wasmtime::Error::msg("it cannot be compiled"))
        });
        (module.ok(), attempts.get())
    }

    #[test]
    fn a_module_that_was_compiled_and_kept_is_taken_from_the_disk_and_no_other_is_obtained_twice() {
        use Obtained::{Disk, Kept, NotKept};
        for (found, module, attempts) in [
            (&[Some(Kept), Some(Disk)][..], Some(1), 2),
            (&[Some(Disk)], Some(0), 1),
            (&[Some(NotKept)], Some(0), 1),
            (&[None], None, 1),
            // It is gone again, or damaged.
            (&[Some(Kept), Some(Kept)], Some(0), 2),
            (&[Some(Kept), Some(NotKept)], Some(0), 2),
            (&[Some(Kept), None], Some(0), 2),
        ] {
            assert_eq!(taken(found), (module, attempts), "{found:?}");
        }
    }

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
    fn a_part_of_the_work_ends_no_later_than_the_whole_and_with_it() {
        let (stop, guard) = Stop::at(Instant::now() + Duration::from_mins(10));
        assert_eq!(stop.within(Duration::MAX).deadline, stop.deadline);
        assert!(stop.within(Duration::ZERO).is_due() && !stop.is_due());
        let part = stop.within(Duration::from_mins(5));
        assert!(part.deadline < stop.deadline && !part.is_due());
        drop(guard);
        assert!(part.is_due());
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
