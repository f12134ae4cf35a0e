//! The Wasm engine that all bundles share, its clock, and the limits on one evaluation.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::{Config, EngineWeak, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

use super::Error;

/// How often a running evaluation looks at the time and lets other tasks of its thread run.
const TICK: Duration = Duration::from_millis(2);
/// Ticks without any evaluation after which the clock stops until the next one.
const IDLE_TICKS: u32 = 50;
/// Calls of a stopped evaluation that are looked at. Rules do not recurse; what does is OPA's own walk through a value, and
/// the innermost calls come first.
const MAX_FRAMES: usize = 512;
/// Elements of a table; a compiled policy has one table of a few hundred.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Limits on one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time for all bundles together, waiting for an instance included.
    pub time: Duration,
    /// Linear memory in bytes, of each instance of each bundle.
    pub memory_bytes: usize,
}

impl Default for Limits {
    /// A rule takes well under a millisecond (OPA's own guidance is "on the order of 1 ms",
    /// `open-policy-agent/opa:docs/docs/policy-performance.md`); 250 ms leave the webhook time to answer.
    fn default() -> Self {
        Self { time: Duration::from_millis(250), memory_bytes: 64 << 20 }
    }
}

/// The Wasm engine that all bundles share. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    clock: Arc<Clock>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("running", &self.clock.state.running.load(SeqCst))
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts an engine, and a thread that is its clock and ends with its last clone.
    pub fn new() -> Result<Self, Error> {
        let failed = |reason: String| Error::StartEngine { reason };
        let mut config = Config::new();
        config.epoch_interruption(true);
        // Nobody is shown Wasm frames; they tell which rule was at work when one is stopped.
        config.wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES));
        let wasm = wasmtime::Engine::new(&config).map_err(|error| failed(error.to_string()))?;
        let clock = Clock::start(wasm.weak()).map_err(|error| failed(error.to_string()))?;
        Ok(Self { wasm, clock: Arc::new(clock) })
    }

    /// A store whose code stops at the deadline of its [`EvaluationBudget`] and at its memory limit.
    pub(super) fn store(&self, budget: EvaluationBudget) -> Store<EvaluationBudget> {
        let mut store = Store::new(&self.wasm, budget);
        store.limiter(|budget| budget);
        store.epoch_deadline_callback(|mut store: StoreContextMut<'_, EvaluationBudget>| {
            Ok(store.data_mut().on_tick())
        });
        store.set_epoch_deadline(1);
        store
    }

    /// Keeps the clock going while the guard lives.
    pub(super) fn running(&self) -> Running<'_> {
        self.clock.state.running.fetch_add(1, SeqCst);
        if self.clock.state.asleep.swap(false, SeqCst) {
            self.clock.thread.unpark();
        }
        Running(&self.clock.state)
    }
}

/// What one instance may use, and whether it asked for more.
#[derive(Debug)]
pub(super) struct EvaluationBudget {
    /// The limits, for messages and for memory.
    pub limits: Limits,
    /// When the work that is under way must be over.
    pub deadline: Instant,
    /// Whether it was not.
    pub timed_out: bool,
    /// Bytes of linear memory now.
    pub memory: usize,
    /// Whether more memory was asked for than the limit.
    pub out_of_memory: bool,
}

impl EvaluationBudget {
    pub fn new(limits: Limits, deadline: Instant) -> Self {
        Self { limits, deadline, timed_out: false, memory: 0, out_of_memory: false }
    }

    fn on_tick(&mut self) -> UpdateDeadline {
        if Instant::now() < self.deadline {
            return UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()));
        }
        self.timed_out = true;
        UpdateDeadline::Interrupt
    }
}

impl ResourceLimiter for EvaluationBudget {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.memory_bytes {
            self.out_of_memory = true;
            // A trap: OPA's allocator would go on with a null pointer where it may.
            return Err(wasmtime::Error::msg("memory limit"));
        }
        self.memory = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

/// One evaluation that the clock must tick for.
pub(super) struct Running<'a>(&'a ClockState);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// What the clock's thread shares with evaluations.
#[derive(Debug, Default)]
struct ClockState {
    running: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// The thread that advances the engine's epoch.
#[derive(Debug)]
struct Clock {
    state: Arc<ClockState>,
    thread: thread::Thread,
}

impl Clock {
    fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let state = Arc::new(ClockState::default());
        let shared = Arc::clone(&state);
        let handle =
            thread::Builder::new().name("policy-clock".into()).spawn(move || tick(&engine, &shared))?;
        Ok(Self { state, thread: handle.thread().clone() })
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.state.stopped.store(true, SeqCst);
        self.thread.unpark();
    }
}

fn tick(engine: &EngineWeak, state: &ClockState) {
    let mut idle = 0;
    while !state.stopped.load(SeqCst) {
        idle = if state.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
        if idle > IDLE_TICKS {
            sleep_until_needed(state);
            idle = 0;
        }
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
    }
}

/// An evaluation that starts between the two looks finds `asleep` set and wakes the thread, so none is missed.
fn sleep_until_needed(state: &ClockState) {
    state.asleep.store(true, SeqCst);
    if state.running.load(SeqCst) == 0 && !state.stopped.load(SeqCst) {
        thread::park();
    }
    state.asleep.store(false, SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(condition: impl Fn() -> bool) -> bool {
        (0..500).any(|_| {
            thread::sleep(Duration::from_millis(5));
            condition()
        })
    }

    #[test]
    fn the_clock_stops_when_nothing_runs_and_goes_on_with_the_next_evaluation() {
        let engine = Engine::new().unwrap();
        assert!(wait_for(|| engine.clock.state.asleep.load(SeqCst)), "the clock must stop");
        let running = engine.running();
        thread::sleep(TICK * IDLE_TICKS * 2);
        assert!(!engine.clock.state.asleep.load(SeqCst), "the clock must not stop under an evaluation");
        drop(running);
        assert!(wait_for(|| engine.clock.state.asleep.load(SeqCst)), "the clock must stop again");
    }

    #[test]
    fn the_thread_ends_with_the_last_clone_of_the_engine() {
        let engine = Engine::new().unwrap();
        let state = Arc::downgrade(&engine.clock.state);
        let clone = engine.clone();
        drop(engine);
        assert!(state.upgrade().is_some());
        drop(clone);
        assert!(wait_for(|| state.upgrade().is_none()), "the thread holds the last reference");
    }
}
