//! All bundles together: compiled and checked once, then run on every input by instances that are used again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Module;

use super::bundle::Omit;
use super::engine::EvaluationBudget;
use super::instance::{Instance, Program};
use super::locations;
use super::{Bundle, Engine, Error, Limits, Violation, input, outcome};

/// Time for checking and starting a module when its bundle is loaded. Nobody waits for an answer then, and large data
/// takes its time.
const START_TIME: Duration = Duration::from_secs(10);

/// A bundle that could not be evaluated: counts as a deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFailure {
    /// Name of the bundle.
    pub bundle: String,
    /// What went wrong, for people to read.
    pub message: String,
}

impl BundleFailure {
    /// Parsers like to draw arrows under their input; a message is one line.
    fn new(bundle: &str, reason: &str) -> Self {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            bundle: bundle.into(),
            message: format!("policy bundle `{bundle}` could not be evaluated: {reason}"),
        }
    }
}

/// The united outcome of all bundles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Violations of all bundles, sorted, without duplicates.
    pub violations: Vec<Violation>,
    /// Bundles that could not be evaluated.
    pub failures: Vec<BundleFailure>,
}

/// All loaded bundles.
#[derive(Debug)]
pub struct PolicySet {
    engine: Engine,
    limits: Limits,
    loaded: Vec<LoadedBundle>,
}

/// One bundle in service.
struct LoadedBundle {
    program: Program,
    /// Instances that wait for work.
    idle: Mutex<Vec<Instance>>,
    /// One permit for each instance that may exist.
    permits: Semaphore,
}

impl std::fmt::Debug for LoadedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedBundle").field("bundle", &self.program.bundle).finish_non_exhaustive()
    }
}

impl PolicySet {
    /// Compiles, checks and warms up every bundle; the first one that cannot be used is the error. Compiling takes a
    /// large part of a second for each bundle and is done on a thread of its own. Needs a Tokio runtime.
    pub async fn load(engine: &Engine, bundles: Vec<Bundle>, limits: Limits) -> Result<Self, Error> {
        let mut names = BTreeSet::new();
        let mut loaded = Vec::with_capacity(bundles.len());
        for bundle in bundles {
            if !names.insert(bundle.name.clone()) {
                return Err(Error::NameBundle { bundle: bundle.name });
            }
            loaded.push(LoadedBundle::open(engine, bundle, limits).await?);
        }
        Ok(Self { engine: engine.clone(), limits, loaded })
    }

    /// Name → revision of each bundle.
    pub fn revisions(&self) -> BTreeMap<String, String> {
        self.loaded
            .iter()
            .map(|loaded| (loaded.program.bundle.name.clone(), loaded.program.bundle.revision.clone()))
            .collect()
    }

    /// The names of all rules of all bundles; `None` where one of them does not tell.
    pub fn rules(&self) -> Option<BTreeSet<&str>> {
        let each = self.loaded.iter().map(|loaded| loaded.program.locations.known());
        Some(each.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Linear memory of the instances that wait for work, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.loaded.iter().map(LoadedBundle::memory_bytes).sum()
    }

    /// Runs every bundle on `input`, which must be a struct or a map. Never fails and takes no longer than the limits
    /// allow: what cannot be evaluated is a [`BundleFailure`].
    pub async fn evaluate<I: Serialize + Sync>(&self, input: &I) -> Evaluation {
        let deadline = Instant::now() + self.limits.time;
        let _running = self.engine.running();
        let inputs = self.inputs(input);
        // Together and not one after the other: a bundle that never ends must not take the others' time.
        let runs = self.loaded.iter().zip(inputs).map(|(loaded, input)| async move {
            match input {
                Ok(input) => loaded.run(&self.engine, &input, deadline, self.limits).await,
                Err(message) => Err(message),
            }
        });
        self.unite(join_all(runs).await)
    }

    /// The input of each bundle, written once for all bundles that want the same keys.
    fn inputs<I: Serialize>(&self, input: &I) -> Vec<Result<Arc<RawValue>, String>> {
        let mut written: Vec<(&Omit, Result<Arc<RawValue>, String>)> = Vec::new();
        let mut inputs = Vec::with_capacity(self.loaded.len());
        for loaded in &self.loaded {
            let omit = &*loaded.program.bundle.omit;
            let found = written.iter().find(|(known, _)| *known == omit).map(|(_, json)| json.clone());
            inputs.push(found.unwrap_or_else(|| {
                let json = input::serialise(input, omit).map(Arc::from);
                let json = json.map_err(|error| format!("the input cannot be written as JSON: {error}"));
                written.push((omit, json.clone()));
                json
            }));
        }
        inputs
    }

    fn unite(&self, outcomes: Vec<Result<Vec<Violation>, String>>) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for (loaded, outcome) in self.loaded.iter().zip(outcomes) {
            match outcome {
                Ok(violations) => evaluation.violations.extend(violations),
                Err(reason) => {
                    evaluation.failures.push(BundleFailure::new(&loaded.program.bundle.name, &reason));
                }
            }
        }
        evaluation.violations.sort();
        evaluation.violations.dedup();
        evaluation
    }
}

impl LoadedBundle {
    async fn open(engine: &Engine, bundle: Bundle, limits: Limits) -> Result<Self, Error> {
        let name = bundle.name.clone();
        let module =
            compile(engine, &bundle).await.map_err(|reason| Error::CompileModule { bundle: name, reason })?;
        let _running = engine.running();
        let budget =
            || EvaluationBudget::new(Limits { time: START_TIME, ..limits }, Instant::now() + START_TIME);
        let program = Program::check(engine, bundle, module, budget()).await?;
        let loaded = Self { program, idle: Mutex::default(), permits: Semaphore::new(instances()) };
        let failed = |reason| Error::StartModule { bundle: loaded.program.bundle.name.clone(), reason };
        let mut instance =
            loaded.caught(Instance::start(engine, &loaded.program, budget())).await.map_err(failed)?;
        // The first evaluation touches code and memory that no later one should wait for. What the rules make of an
        // empty input is their affair.
        let empty = RawValue::from_string("{}".into()).map_err(|error| failed(error.to_string()))?;
        if loaded.caught(instance.evaluate(&empty, limits, Instant::now() + limits.time)).await.is_ok() {
            loaded.put_back(instance);
        }
        Ok(loaded)
    }

    /// What the rules say to `input`, or why they do not.
    async fn run(
        &self,
        engine: &Engine,
        input: &RawValue,
        deadline: Instant,
        limits: Limits,
    ) -> Result<Vec<Violation>, String> {
        let _permit = self.permit(deadline).await?;
        let mut instance = if let Some(instance) = self.take() {
            instance
        } else {
            let budget = EvaluationBudget::new(limits, deadline);
            self.caught(Instance::start(engine, &self.program, budget)).await?
        };
        // An instance that failed, or that this future is dropped with, is not put back.
        let result_set: Value = self.caught(instance.evaluate(input, limits, deadline)).await?;
        self.put_back(instance);
        outcome::violations(&result_set)
    }

    async fn permit(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, String> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout_at(deadline.into(), self.permits.acquire()).await {
            // A permit at the last moment is no use to anybody.
            Ok(Ok(permit)) if Instant::now() < deadline => Ok(permit),
            _ => Err("too many evaluations were under way".into()),
        }
    }

    /// A panic in a host function fails the evaluation of this bundle and does not stop the gate. Its message goes to the
    /// log, for developers of the gate.
    async fn caught<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref().copied());
            tracing::error!(
                bundle = self.program.bundle.name,
                panic = said.unwrap_or_default(),
                "a host function panicked"
            );
            let rule = locations::in_rules(&self.program.locations.rules_that_call_the_host());
            Err(format!("a function of the host broke down{rule}{}", self.program.host_functions))
        })
    }

    fn memory_bytes(&self) -> usize {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().map(Instance::memory_bytes).sum()
    }

    fn take(&self) -> Option<Instance> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put_back(&self, instance: Instance) {
        if instance.is_lean() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        }
    }
}

/// How many instances of a bundle there may be: one for each thread that evaluates, and as many for rules that have
/// run long enough to step aside for others.
fn instances() -> usize {
    2 * available_parallelism().map_or(2, usize::from)
}

async fn compile(engine: &Engine, bundle: &Bundle) -> Result<Module, String> {
    let wasm = engine.wasm.clone();
    let bytes = Arc::clone(&bundle.module);
    let compiled = tokio::task::spawn_blocking(move || Module::new(&wasm, &bytes)).await;
    compiled.map_err(|error| error.to_string())?.map_err(|error| error.root_cause().to_string())
}
