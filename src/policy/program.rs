//! A compiled bundle that was checked: what it has, what it calls, and where its rules are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::de::DeserializeOwned;
use wasmtime::{Linker, Memory, Module, Store, TypedFunc};

use super::bundle::{Omit, input_paths_without};
use super::code_bounds;
use super::engine::{Engine, Stop, drive};
use super::host;
use super::locations::{Code, RuleLocations};
use super::options::options_read;
use super::otherwise::differences;
use super::patterns;
use super::places::InputPlaces;
use super::reads::InputReads;
use super::rewrite::{Rewritten, rewrite};
use super::store::{EvaluationBudget, Exports, Functions, describe, store, timed_out};
use super::{Bundle, ENTRYPOINT, Error, LOG_DROP, LOG_MASK, Limits};
use crate::rego::{REFUSED, builtin};

/// A compiled bundle that was checked.
pub(super) struct CheckedModule {
    pub bundle: Bundle,
    pub module: Module,
    /// Built-in functions that the module may ask for.
    pub functions: Arc<Functions>,
    /// Entry points and their numbers.
    pub entrypoints: BTreeMap<String, i32>,
    /// Where the rules lie in the module.
    pub locations: Arc<RuleLocations>,
    /// The names of the options that its rules read; `None` where they may read any.
    pub options: Option<BTreeSet<String>>,
    /// What the input has and its rules do not read, also where its manifest does not omit it.
    pub unread: Omit,
    /// Which places of the input its rules may read; `None` where that cannot be told. Found with the module where it is needed to tell which
    /// pods are alike, and else when it is asked for, which no review does.
    places: OnceLock<Option<InputPlaces>>,
}

/// What a module says of itself.
struct Probe {
    store: Store<EvaluationBudget>,
    instance: wasmtime::Instance,
    memory: Memory,
}

impl CheckedModule {
    /// Compiles a module, and refuses one that could not be evaluated here before anything depends on it.
    pub fn check(engine: &Engine, mut bundle: Bundle, limits: Limits) -> Result<Self, Error> {
        let Rewritten { module, mut functions, named } =
            rewrite(&bundle.module, limits.strict_builtins, bundle.data_keys, bundle.is_built_in);
        bundle.module = module.into();
        if !bundle.is_built_in {
            code_bounds::check(&bundle.name, &bundle.module)?;
        }
        let compiled = engine.compile(&bundle.name, &bundle.module);
        let module = compiled.map_err(|error| Error::CompileModule {
            bundle: bundle.name.clone(),
            reason: error.root_cause().to_string(),
        })?;
        // From here on: a busy machine takes long to compile, which no module is to blame for.
        let (stop, _guard) = Stop::at(Instant::now() + limits.time);
        let tables = drive(Tables::read(&bundle.name, &module, limits), &stop);
        let foreign = |reason| Error::RecognisePolicy { bundle: bundle.name.clone(), reason };
        let Tables { entrypoints, builtins } = tables.ok_or_else(|| foreign(timed_out(limits)))??;
        check_entrypoints(&bundle, &entrypoints)?;
        if !named {
            return Err(Error::NameFunctions { bundle: bundle.name });
        }
        let bytes = Arc::clone(&bundle.module);
        let code = Code::read(&bytes).unwrap_or_default();
        bundle.roots.check_module(&bundle.name, entrypoints.keys().map(String::as_str), &code)?;
        functions.extend(supplied(&bundle.name, &builtins)?);
        let reads = InputReads::of(&code);
        omitting(&mut bundle, &reads)?;
        bundle.warnings.extend(patterns::warnings(&code, &functions));
        bundle.warnings.extend(differences(&patterns::called_functions(&code, &functions)));
        let locations = Arc::new(RuleLocations::of(&code));
        let options = options_read(&code, &reads);
        let unread = input_paths_without(|path| reads.may_read(path));
        let (functions, places) = (functions.into(), OnceLock::new());
        if reads.may_read("object") || reads.may_read("workload.name") {
            places.get_or_init(|| InputPlaces::of(&bundle.module));
        }
        Ok(Self { bundle, module, functions, entrypoints, locations, options, unread, places })
    }

    /// Whether its rules may read the value at a place of the input, a part of it, or what it is a part of.
    pub fn may_read(&self, place: &[String]) -> bool {
        let places = self.places.get_or_init(|| InputPlaces::of(&self.bundle.module));
        places.as_ref().is_none_or(|places| places.may_read(place))
    }

    /// Why it cannot be started.
    pub fn not_started(&self, reason: String) -> Error {
        Error::StartModule { bundle: self.bundle.name.clone(), reason }
    }
}

/// Refuses a bundle with other entry points than the configuration expects. One that judges by mistake nothing, such as after a build
/// with the entry points of the log alone, would admit what the one before it refused.
fn check_entrypoints(bundle: &Bundle, entrypoints: &BTreeMap<String, i32>) -> Result<(), Error> {
    let has = |name: &str| entrypoints.contains_key(name);
    let has_log_rules = has(LOG_MASK) || has(LOG_DROP);
    let name = || bundle.name.clone();
    match (bundle.judges, has(ENTRYPOINT)) {
        (true, true) => Ok(()),
        (true, false) if has_log_rules => Err(Error::JudgeNothing { bundle: name() }),
        (true, false) => {
            let found = if entrypoints.is_empty() { "none".into() } else { list(entrypoints.keys()) };
            Err(Error::FindEntrypoint { bundle: name(), found })
        }
        (false, true) => Err(Error::PassOverRules { bundle: name() }),
        (false, false) if has_log_rules => Ok(()),
        (false, false) => Err(Error::FindLogRules { bundle: name() }),
    }
}

/// Refuses a bundle that omits what its rules read by name, and omits nothing where they may read anything: a rule that does not find
/// what it reads is undefined, and admits.
fn omitting(bundle: &mut Bundle, reads: &InputReads) -> Result<(), Error> {
    if bundle.omit.is_empty() {
        return Ok(());
    }
    let InputReads { keys, paths, possible_paths, whole_keys, is_whole } = reads;
    if let Some(key) = bundle.omit.iter().find(|key| keys.contains(*key) || paths.contains(*key)) {
        return Err(Error::OmitKey { bundle: bundle.name.clone(), key: key.clone() });
    }
    if *is_whole {
        let warning = "`metadata.wasmgate.omit` is not followed: rules use `input` without naming a key of it, and may read all";
        bundle.warnings.push(warning.into());
        bundle.omit = Arc::default();
        return Ok(());
    }
    let may_be_read = |path: &&String| {
        possible_paths.contains(*path)
            || path.split_once('.').is_some_and(|(key, _)| whole_keys.contains(key))
    };
    let (read, omit): (BTreeSet<_>, BTreeSet<_>) =
        bundle.omit.iter().cloned().partition(|path| may_be_read(&path));
    if !read.is_empty() {
        bundle.warnings.push(format!(
            "`metadata.wasmgate.omit` is not followed for {}: rules use the value that it is a part of without naming a key of it, \
             and may read it",
            list(read.iter())
        ));
        bundle.omit = Arc::new(omit);
    }
    Ok(())
}

/// The functions that a module names, by its numbers for them.
fn supplied(bundle: &str, builtins: &BTreeMap<String, i32>) -> Result<Functions, Error> {
    let lacking = builtins.keys().filter(|name| builtin(name).is_none());
    let lacking: Vec<_> = lacking.map(|name| format!("`{name}`{}", why_refused(name))).collect();
    if !lacking.is_empty() {
        return Err(Error::SupplyBuiltins { bundle: bundle.into(), names: lacking.join(", ") });
    }
    Ok(builtins.iter().filter_map(|(name, id)| Some((*id, *builtin(name)?))).collect())
}

/// The reason that a function is not here, in brackets; empty where OPA itself does not have it.
fn why_refused(name: &str) -> String {
    let known = REFUSED.iter().find(|(refused, _)| *refused == name);
    known.map(|(_, reason)| format!(" ({reason})")).unwrap_or_default()
}

/// Names of what a module has and needs, as it says itself.
struct Tables {
    entrypoints: BTreeMap<String, i32>,
    builtins: BTreeMap<String, i32>,
}

impl Tables {
    async fn read(bundle: &str, module: &Module, limits: Limits) -> Result<Self, Error> {
        let foreign = |reason| Error::RecognisePolicy { bundle: bundle.into(), reason };
        let mut probe = Probe::start(module, limits).await.map_err(foreign)?;
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
    /// Starts the module with a memory and nothing else that works: its tables are all that is asked for.
    async fn start(module: &Module, limits: Limits) -> Result<Self, String> {
        let ty = module.imports().find(|import| import.module() == "env" && import.name() == "memory");
        let ty = ty.and_then(|import| import.ty().memory().cloned());
        let ty = ty.ok_or("it does not import `env.memory`")?;
        let mut store = store(module.engine(), limits).map_err(|error| error.to_string())?;
        match Self::instantiate(&mut store, module, ty).await {
            Ok((instance, memory)) => Ok(Self { store, instance, memory }),
            Err(error) => Err(describe(&error, store.data())),
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
        host::link(&mut linker, memory)?;
        linker.define_unknown_imports_as_traps(module)?;
        let instance = linker.instantiate_async(&mut *store, module).await?;
        // Tables are gone through in order, which the host knows. A foreign module may have none of it.
        if let Ok(exports) = Exports::of(&instance, &mut *store, memory) {
            store.data_mut().host.serve(Arc::default(), exports);
        }
        Ok((instance, memory))
    }

    /// 1.2 brought the evaluation in one call, which is the one that resets the heap between evaluations.
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

    /// Calls an export that returns an object, and reads it.
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
        result.map_err(|error| format!("`{export}` fails: {}", describe(&error, self.store.data())))
    }
}
