//! The compiled baseline, once for all tests: compiling it takes longer than most of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use wasmgate::admission::State;
use wasmgate::cli::build;
use wasmgate::config::{Settings, file};
use wasmgate::policy::{Bundle, CompiledFolder, Engine, Limits, PolicySet};

use super::process::{compiled, compiled_in};

/// The limits of a configuration that says nothing about them.
static BY_DEFAULT: OnceCell<Arc<PolicySet>> = OnceCell::const_new();
/// Limits that no busy machine reaches.
static WITH_TIME: OnceCell<Arc<PolicySet>> = OnceCell::const_new();

/// The folder of the compiled baseline.
const BASELINE: &str = "baseline";

/// An engine that finds what this test has compiled in an earlier run.
pub fn engine() -> Engine {
    engine_with(&compiled())
}

/// An engine that finds what was compiled in a folder of this name in an earlier run.
pub fn engine_in(name: &str) -> Engine {
    engine_with(&compiled_in(name))
}

fn engine_with(folder: &Path) -> Engine {
    Engine::new().unwrap().keeping(Some(CompiledFolder::open(folder).unwrap()))
}

async fn compile(engine: Engine, limits: Limits) -> Arc<PolicySet> {
    let bundles = vec![Bundle::embedded().unwrap()];
    Arc::new(PolicySet::load(&engine, bundles, limits).await.unwrap())
}

/// The baseline with a minute for each evaluation.
pub async fn baseline() -> Arc<PolicySet> {
    let limits = Limits { time: Duration::from_mins(1), ..Limits::default() };
    WITH_TIME.get_or_init(|| compile(engine_in(BASELINE), limits)).await.clone()
}

/// The state of these settings, with policies of its own only where the settings want others than by default.
pub async fn state(settings: &Settings) -> State {
    let wanted = &settings.file.policies;
    if *wanted != (file::Policies { options: wanted.options.clone(), ..file::Policies::default() }) {
        let mut settings = settings.clone();
        settings.file.policies.compiled_dir = Some(compiled());
        return build::serving_state(&settings).await.unwrap();
    }
    // As a gate that serves has it, with its verdict cache.
    let engine = || engine_in(BASELINE).remembering(file::Policies::default().verdict_cache_bytes);
    let policies = BY_DEFAULT.get_or_init(|| compile(engine(), Limits::default())).await.clone();
    build::state_with(settings, policies).unwrap()
}
