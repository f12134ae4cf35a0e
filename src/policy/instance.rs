//! One started module: run for one input after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{AsContextMut, Linker, Memory, Store, Trap, TypedFunc};

use super::Limits;
use super::engine::{Stop, drive};
use super::guest::Guest;
use super::host;
use super::host_work::HostWork;
use super::locations::{self, RuleLocations};
use super::outcome::ResultSet;
use super::program::CheckedModule;
use super::store::{EvaluationBudget, Exports, Recorded, describe, store, taken_by, timed_out};
use super::values::{self, Values};
use crate::rego::Asked;

/// Most growth of an instance's memory since its start, in bytes; an instance that grew more is not used again.
const MAX_GROWTH: usize = 4 << 20;
/// Bytes of a page of memory.
const PAGE: usize = 1 << 16;
/// Fuel for a byte of an input that the host writes as values. To parse it takes a module some seventy.
const INPUT_FUEL: u64 = 8;

/// The least work of an evaluation of which a function is said to have taken too long: rules take a millisecond.
const LONG_WORK: Duration = Duration::from_millis(20);
/// The share of the time in which a thread has to have worked, as one part of so many: others kept it from that otherwise.
const LEAST_SHARE: u32 = 8;

/// `opa_eval`: nothing, the entry point, the data, where the input is and how long, where the heap begins, the format.
type Eval = TypedFunc<(i32, i32, u32, u32, u32, u32, i32), u32>;

/// A running module with its data loaded.
pub(super) struct Instance {
    store: Store<EvaluationBudget>,
    started: Started,
    memory_at_start: usize,
    locations: Arc<RuleLocations>,
}

/// What a started module is run by.
struct Started {
    memory: Memory,
    eval: Eval,
    /// Address of the data.
    data: u32,
    /// Where the heap of an evaluation begins.
    heap: u32,
    /// Whether an evaluation has memory for texts from its beginning: not where the module itself says how much it may have.
    has_space: bool,
    /// How it is run on an input that it does not parse: the built-in rules alone, which change nothing of their input.
    on_values: Option<OnValues>,
}

/// The steps of `opa_eval` (`open-policy-agent/opa:wasm/src/context.c`), apart from the first and the last one: to parse the input, and to write
/// the result.
struct OnValues {
    begin_heap: TypedFunc<u32, ()>,
    context: TypedFunc<(), u32>,
    set_input: TypedFunc<(u32, u32), ()>,
    set_data: TypedFunc<(u32, u32), ()>,
    set_entrypoint: TypedFunc<(u32, i32), ()>,
    eval: TypedFunc<u32, i32>,
    result: TypedFunc<u32, u32>,
}

impl OnValues {
    fn of(instance: &wasmtime::Instance, store: &mut Store<EvaluationBudget>) -> wasmtime::Result<Self> {
        Ok(Self {
            begin_heap: instance.get_typed_func(&mut *store, "opa_heap_ptr_set")?,
            context: instance.get_typed_func(&mut *store, "opa_eval_ctx_new")?,
            set_input: instance.get_typed_func(&mut *store, "opa_eval_ctx_set_input")?,
            set_data: instance.get_typed_func(&mut *store, "opa_eval_ctx_set_data")?,
            set_entrypoint: instance.get_typed_func(&mut *store, "opa_eval_ctx_set_entrypoint")?,
            eval: instance.get_typed_func(&mut *store, "eval")?,
            result: instance.get_typed_func(&mut *store, "opa_eval_ctx_get_result")?,
        })
    }
}

impl Instance {
    /// Starts a module. The error is a message for users.
    pub fn start(program: &CheckedModule, limits: Limits, stop: &Stop) -> Result<Self, String> {
        let mut store =
            store(program.module.engine(), limits.for_start()).map_err(|error| error.to_string())?;
        let started = drive(Started::start(&mut store, program), stop);
        match started.ok_or_else(|| timed_out(limits))? {
            Ok(started) => {
                let locations = Arc::clone(&program.locations);
                Ok(Self { memory_at_start: store.data().memory, store, started, locations })
            }
            Err(error) => Err(describe(&error, store.data())),
        }
    }

    /// This instance, whose evaluations have no more memory than they ask for, so that it is seen how much that is.
    pub fn without_space(mut self) -> Self {
        self.started.has_space = false;
        self
    }

    /// The result set of an entry point. The error is for people to read; after one, the instance is spent.
    pub fn evaluate<T: ResultSet>(
        &mut self,
        entrypoint: i32,
        input: &str,
        limits: Limits,
        stop: &Stop,
    ) -> Result<T, String> {
        let budget = self.store.data_mut();
        budget.limits = limits;
        budget.host.begin(limits.strict_builtins, limits.memory_bytes, stop);
        self.store.set_fuel(limits.fuel).map_err(|error| error.to_string())?;
        let (begun, worked) = (Instant::now(), time_worked());
        let outcome = drive(self.started.evaluate(&mut self.store, entrypoint, input), stop);
        match outcome {
            Some(outcome) if !self.store.data().host.timed_out => {
                outcome.map_err(|error| self.explain(&error))
            }
            late => {
                let (passed, worked) = (begun.elapsed(), time_worked().saturating_sub(worked));
                Err(self.why_late(late.and_then(Result::err).as_ref(), limits, (passed, worked)))
            }
        }
    }

    /// Why it was not done in time: the calls of one function took most of it, or else the machine has too much to do. A thread that did
    /// not work waited for others, so no function is named then.
    fn why_late(
        &self,
        error: Option<&wasmtime::Error>,
        limits: Limits,
        (passed, worked): (Duration, Duration),
    ) -> String {
        let is_own = worked >= LONG_WORK && worked >= passed / LEAST_SHARE;
        match self.store.data().host.longest().filter(|(_, time)| is_own && *time >= passed / 2) {
            Some((function, time)) => {
                let rules = error.map(|error| self.locations.rules_at(&stack(error))).unwrap_or_default();
                taken_by(function, time, &locations::in_rules(&rules))
            }
            None => timed_out(limits),
        }
    }

    /// The rule is the one on whose account the stack was built.
    fn explain(&self, error: &wasmtime::Error) -> String {
        describe(error, self.store.data()) + &locations::in_rules(&self.locations.rules_at(&stack(error)))
    }

    /// What the last evaluation asked for that does not follow from its input.
    pub fn asked(&self) -> Asked {
        self.store.data().host.call.asked()
    }

    /// What the last evaluation used of the fuel that these limits gave it.
    pub fn fuel_used(&self, limits: Limits) -> u64 {
        limits.fuel.saturating_sub(self.store.get_fuel().unwrap_or_default())
    }

    /// Records from now on what the module asks of its host.
    pub fn record(&mut self) {
        self.store.data_mut().host.recorded = Some(Recorded::default());
    }

    /// What the host did since for an evaluation of this input.
    pub fn recorded(&mut self, input: &str) -> HostWork {
        let recorded = self.store.data_mut().host.recorded.take().unwrap_or_default();
        let functions = Arc::clone(&self.store.data().host.functions);
        HostWork::of(input.to_owned(), self.started.memory.data(&self.store).to_vec(), functions, recorded)
    }

    /// Linear memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory
    }

    /// Whether the instance has grown so little that it can be reused.
    pub fn is_lean(&self) -> bool {
        self.memory_bytes().saturating_sub(self.memory_at_start) <= MAX_GROWTH
    }
}

impl Started {
    async fn start(store: &mut Store<EvaluationBudget>, program: &CheckedModule) -> wasmtime::Result<Self> {
        let ty =
            program.module.imports().find(|import| import.module() == "env" && import.name() == "memory");
        let ty = ty.and_then(|import| import.ty().memory().cloned());
        let ty = ty.ok_or_else(|| wasmtime::Error::msg("it does not import `env.memory`"))?;
        let has_space = ty.maximum().is_none();
        let memory = Memory::new_async(&mut *store, ty).await?;
        let mut linker = Linker::new(store.engine());
        linker.define(&*store, "env", "memory", memory)?;
        host::link(&mut linker, memory)?;
        let instance = linker.instantiate_async(&mut *store, &program.module).await?;
        let exports = Exports::of(&instance, &mut *store, memory)?;
        let data = exports.give(&mut store.as_context_mut(), program.bundle.data.as_bytes()).await?;
        store.data_mut().host.serve(Arc::clone(&program.functions), exports);
        let heap: TypedFunc<(), u32> = instance.get_typed_func(&mut *store, "opa_heap_ptr_get")?;
        let heap = heap.call_async(&mut *store, ()).await?;
        let eval = instance.get_typed_func(&mut *store, "opa_eval")?;
        let on_values = if program.bundle.is_built_in { Some(OnValues::of(&instance, store)?) } else { None };
        Ok(Self { memory, eval, data, heap, has_space, on_values })
    }

    async fn evaluate<T: ResultSet>(
        &self,
        store: &mut Store<EvaluationBudget>,
        entrypoint: i32,
        input: &str,
    ) -> wasmtime::Result<T> {
        let values = match &self.on_values {
            Some(steps) => self.written(store, input)?.map(|values| (steps, values)),
            None => None,
        };
        if let Some((steps, (base, values))) = values {
            let result = self.evaluate_values(store, steps, entrypoint, (base, &values)).await?;
            return Ok(T::read(&host::json(store, result)?)?);
        }
        let heap = self.place(store, self.heap, input.as_bytes()).await?;
        let length = u32::try_from(input.len())?;
        let call = (0, entrypoint, self.data, self.heap, length, heap, 0);
        let result = self.eval.call_async(&mut *store, call).await?;
        let text = Guest::new(self.memory.data(&*store)).text(result);
        let text = text.map_err(|_| wasmtime::Error::msg("the result lies outside of the memory"))?;
        Ok(T::read(text)?)
    }

    /// The input as values, with the address that they are for; `None` where the module has to parse it. Paid for before it is done.
    fn written(
        &self,
        store: &mut Store<EvaluationBudget>,
        input: &str,
    ) -> wasmtime::Result<Option<(u32, Values)>> {
        let work = u64::try_from(input.len())?.saturating_mul(INPUT_FUEL);
        let left = store.get_fuel()?.checked_sub(work).ok_or(Trap::OutOfFuel)?;
        store.set_fuel(left)?;
        let Some(base) = self.heap.checked_next_multiple_of(8) else { return Ok(None) };
        let most = store.data().limits.memory_bytes.saturating_sub(usize::try_from(base)?);
        Ok(values::written(input, base, most).map(|values| (base, values)))
    }

    /// What `opa_eval` does with an input that is there as values: the address of the result.
    async fn evaluate_values(
        &self,
        store: &mut Store<EvaluationBudget>,
        steps: &OnValues,
        entrypoint: i32,
        (base, values): (u32, &Values),
    ) -> wasmtime::Result<u32> {
        let heap = self.place(store, base, &values.bytes).await?;
        steps.begin_heap.call_async(&mut *store, heap).await?;
        let context = steps.context.call_async(&mut *store, ()).await?;
        steps.set_input.call_async(&mut *store, (context, values.root)).await?;
        steps.set_data.call_async(&mut *store, (context, self.data)).await?;
        steps.set_entrypoint.call_async(&mut *store, (context, entrypoint)).await?;
        if steps.eval.call_async(&mut *store, context).await? != 0 {
            return Err(wasmtime::Error::msg("eval failed"));
        }
        steps.result.call_async(&mut *store, context).await
    }

    /// Writes the input where the heap begins, and says where it begins after it and after the first memory for texts of the host.
    async fn place(
        &self,
        store: &mut Store<EvaluationBudget>,
        start: u32,
        input: &[u8],
    ) -> wasmtime::Result<u32> {
        let start = usize::try_from(start)?;
        let end = start.saturating_add(input.len()).checked_next_multiple_of(8);
        let texts = end.ok_or_else(|| wasmtime::Error::msg("the input does not fit into its memory"))?;
        let space = if self.has_space { store.data().space_for_texts(texts) } else { 0 };
        let heap = texts.saturating_add(usize::try_from(space)?);
        let missing = heap.saturating_sub(self.memory.data_size(&*store)).div_ceil(PAGE);
        if missing > 0 {
            self.memory.grow_async(&mut *store, u64::try_from(missing)?).await?;
        }
        self.memory.write(&mut *store, start, input)?;
        store.data_mut().host.keep_for_texts(u32::try_from(texts)?, space);
        Ok(u32::try_from(heap)?)
    }
}

/// How long this thread has worked so far.
fn time_worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Where in the module an evaluation was, from the innermost call outwards.
fn stack(error: &wasmtime::Error) -> Vec<u64> {
    let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>();
    let frames = backtrace.map(wasmtime::WasmBacktrace::frames).unwrap_or_default();
    frames.iter().filter_map(|frame| u64::try_from(frame.module_offset()?).ok()).collect()
}
