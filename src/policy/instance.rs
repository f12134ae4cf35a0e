//! A module instance: checks the module when its bundle is loaded, and evaluates one input after another.

use std::collections::BTreeMap;
use std::sync::Arc;

use opa_wasm::{DefaultContext, Policy, Runtime};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use wasmtime::{Linker, Memory, Module, Store, Trap, TypedFunc};

use super::builtins::is_supplied;
use super::engine::{Engine, EvaluationBudget, Stop, drive};
use super::locations::{self, RuleLocations};
use super::{Bundle, ENTRYPOINT, Error, Limits};

/// Most growth of an instance's memory since its start, in bytes; an instance that grew more is not used again.
const MAX_GROWTH: usize = 4 << 20;

/// A compiled and checked bundle.
pub(super) struct Program {
    pub bundle: Bundle,
    pub module: Module,
    /// Note for messages about the host functions that the rules call; empty if they call none.
    pub host_functions: Arc<str>,
    /// Locations of the rules in the module.
    pub locations: Arc<RuleLocations>,
}

/// A running module with its data loaded.
pub(super) struct Instance {
    store: Store<EvaluationBudget>,
    policy: Policy<DefaultContext>,
    memory_at_start: usize,
    host_functions: Arc<str>,
    locations: Arc<RuleLocations>,
}

impl Instance {
    /// Starts a module. The error is a message for users.
    pub fn start(engine: &Engine, program: &Program, limits: Limits, stop: &Stop) -> Result<Self, String> {
        let mut store = engine.store(limits.for_start()).map_err(|error| error.to_string())?;
        let policy = drive(Self::policy(&mut store, &program.module, &program.bundle.data), stop);
        match policy.ok_or_else(|| timed_out(limits))? {
            Ok(policy) => {
                let host_functions = Arc::clone(&program.host_functions);
                let locations = Arc::clone(&program.locations);
                Ok(Self { memory_at_start: store.data().memory, store, policy, host_functions, locations })
            }
            Err(error) => Err(describe(&error, store.data())),
        }
    }

    async fn policy(
        store: &mut Store<EvaluationBudget>,
        module: &Module,
        data: &Value,
    ) -> Result<Policy<DefaultContext>, anyhow::Error> {
        let runtime = Runtime::new(&mut *store, module).await?;
        runtime.with_data(&mut *store, data).await
    }

    /// The result set of the entry point. The error is a message for users; after one, the instance must not be reused.
    pub fn evaluate(&mut self, input: &RawValue, limits: Limits, stop: &Stop) -> Result<Value, String> {
        self.store.data_mut().limits = limits;
        self.store.set_fuel(limits.fuel).map_err(|error| error.to_string())?;
        let outcome = drive(self.policy.evaluate(&mut self.store, ENTRYPOINT, &input), stop);
        outcome.ok_or_else(|| timed_out(limits))?.map_err(|error| self.explain(&error))
    }

    /// The message about a failed evaluation. The error of a host function does not say which function it was; the rule
    /// is found from the stack.
    fn explain(&self, error: &anyhow::Error) -> String {
        let budget = self.store.data();
        let reason = describe(error, budget);
        let in_module = budget.out_of_memory || error.root_cause().is::<wasmtime::Trap>();
        let rule = locations::in_rules(&self.locations.rules_at(&stack(error)));
        if in_module { reason + &rule } else { reason + &rule + &self.host_functions }
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

/// Code offsets of the stack of a stopped evaluation, innermost call first.
fn stack(error: &anyhow::Error) -> Vec<u64> {
    let backtrace = error.downcast_ref::<wasmtime::WasmBacktrace>();
    let frames = backtrace.map(wasmtime::WasmBacktrace::frames).unwrap_or_default();
    frames.iter().filter_map(|frame| u64::try_from(frame.module_offset()?).ok()).collect()
}

/// What stopped an evaluation, without stack frames and internal types.
fn describe(error: &anyhow::Error, budget: &EvaluationBudget) -> String {
    if budget.out_of_memory {
        return format!("it needs more than {} of memory", mebibytes(budget.limits.memory_bytes));
    }
    let cause = error.root_cause();
    match cause.downcast_ref() {
        Some(Trap::OutOfFuel) => format!("it needs more than {} of fuel", budget.limits.fuel),
        _ => cause.to_string(),
    }
}

/// The message about an evaluation that was not done in time. The fuel that it used is within the limit, so it names no
/// rule.
fn timed_out(limits: Limits) -> String {
    format!("it was not done within {:?}, since the machine has too much to do", limits.time)
}

fn mebibytes(bytes: usize) -> String {
    format!("{}Mi", bytes >> 20)
}

/// Names in a module's own tables.
struct Probe {
    store: Store<EvaluationBudget>,
    instance: wasmtime::Instance,
    memory: Memory,
}

impl Program {
    /// Refuses a module that the gate could not evaluate.
    pub fn check(
        engine: &Engine,
        bundle: Bundle,
        module: Module,
        limits: Limits,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let tables = drive(Tables::read(engine, &bundle.name, &module, limits), stop);
        let foreign = |reason| Error::RecognisePolicy { bundle: bundle.name.clone(), reason };
        let Tables { entrypoints, builtins } = tables.ok_or_else(|| foreign(timed_out(limits)))??;
        if !entrypoints.contains_key(ENTRYPOINT) {
            let found = if entrypoints.is_empty() { "none".into() } else { list(entrypoints.keys()) };
            return Err(Error::FindEntrypoint { bundle: bundle.name, found });
        }
        let lacking = list(builtins.keys().filter(|name| !is_supplied(name)));
        if !lacking.is_empty() {
            return Err(Error::SupplyBuiltins { bundle: bundle.name, names: lacking });
        }
        let calls = list(builtins.keys());
        let host_functions = if calls.is_empty() { calls } else { format!(" (it may call {calls})") };
        let locations = Arc::new(RuleLocations::of(&bundle.module));
        Ok(Self { bundle, module, host_functions: host_functions.into(), locations })
    }
}

/// Reads a module's own tables of entry points and host functions.
struct Tables {
    entrypoints: BTreeMap<String, i32>,
    builtins: BTreeMap<String, i32>,
}

impl Tables {
    async fn read(engine: &Engine, bundle: &str, module: &Module, limits: Limits) -> Result<Self, Error> {
        let foreign = |reason| Error::RecognisePolicy { bundle: bundle.into(), reason };
        let mut probe = Probe::start(engine, module, limits).await.map_err(foreign)?;
        probe.check_abi(bundle)?;
        let entrypoints = probe.table("entrypoints").await.map_err(foreign)?;
        let builtins = probe.table("builtins").await.map_err(foreign)?;
        Ok(Self { entrypoints, builtins })
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Probe {
    /// Starts the module with a memory and with imports that trap, since only its tables are read.
    async fn start(engine: &Engine, module: &Module, limits: Limits) -> Result<Self, String> {
        let ty = module.imports().find(|import| import.module() == "env" && import.name() == "memory");
        let ty = ty.and_then(|import| import.ty().memory().cloned());
        let ty = ty.ok_or("it does not import `env.memory`")?;
        let mut store = engine.store(limits).map_err(|error| error.to_string())?;
        match Self::instantiate(&mut store, module, ty).await {
            Ok((instance, memory)) => Ok(Self { store, instance, memory }),
            Err(error) => Err(describe(&error.into(), store.data())),
        }
    }

    async fn instantiate(
        store: &mut Store<EvaluationBudget>,
        module: &Module,
        ty: wasmtime::MemoryType,
    ) -> wasmtime::Result<(wasmtime::Instance, Memory)> {
        let memory = Memory::new_async(&mut *store, ty).await?;
        let mut linker = Linker::new(store.engine());
        linker.define(&*store, "env", "memory", memory)?;
        linker.define_unknown_imports_as_traps(module)?;
        Ok((linker.instantiate_async(&mut *store, module).await?, memory))
    }

    /// Requires version 1.2, which added evaluation in one call; that call resets the heap between evaluations.
    fn check_abi(&mut self, bundle: &str) -> Result<(), Error> {
        let major = self.global("opa_wasm_abi_version");
        let minor = self.global("opa_wasm_abi_minor_version");
        match (major, minor) {
            (Some(1), Some(2..)) => Ok(()),
            (Some(major), Some(minor)) => {
                Err(Error::SpeakAbi { bundle: bundle.into(), found: format!("{major}.{minor}") })
            }
            _ => {
                let reason = "it does not export `opa_wasm_abi_version`".into();
                Err(Error::RecognisePolicy { bundle: bundle.into(), reason })
            }
        }
    }

    fn global(&mut self, name: &str) -> Option<i32> {
        self.instance.get_global(&mut self.store, name)?.get(&mut self.store).i32()
    }

    /// Calls an export that returns an object, and parses the object.
    async fn table<T: DeserializeOwned>(&mut self, export: &str) -> Result<T, String> {
        let value = self.call(export, ()).await?;
        let text = self.call("opa_json_dump", value).await?;
        let text = usize::try_from(text).ok().and_then(|start| self.memory.data(&self.store).get(start..));
        let text = text.and_then(|text| text.split(|byte| *byte == 0).next());
        let text = text.ok_or_else(|| format!("`{export}` points outside of its memory"))?;
        serde_json::from_slice(text).map_err(|error| format!("`{export}` is not readable: {error}"))
    }

    async fn call<P: wasmtime::WasmParams + Sync>(
        &mut self,
        export: &str,
        parameters: P,
    ) -> Result<i32, String> {
        let function: Result<TypedFunc<P, i32>, _> = self.instance.get_typed_func(&mut self.store, export);
        let function = function.map_err(|_| format!("it does not export the function `{export}`"))?;
        let result = function.call_async(&mut self.store, parameters).await;
        result.map_err(|error| format!("`{export}` fails: {}", describe(&error.into(), self.store.data())))
    }
}
