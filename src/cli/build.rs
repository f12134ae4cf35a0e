//! Builds the parts of a gate from options, in the same way for every command.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::args::{GateOptions, ImageOptions};
use super::{Error, engine};
use crate::admission::State;
use crate::cluster::{self, Cluster};
use crate::config::{self, Overrides, Settings};
use crate::grant::{self, Loaded};
use crate::judge::{EnforcementSettings, PolicyOptions, REFUSE_FILES, verdict::POLICY_ERROR};
use crate::lookup::{self, Inspector};
use crate::policy::{Bundle, Engine, Limits, PolicySet, Trust};
use crate::sources::{BundleSource, Follower, Memory, Registries, Terms};
use crate::text;
use crate::workload::Kinds;

/// Longer than a scan takes.
const SCAN: Duration = Duration::from_hours(24);

/// Most characters of a name of the configuration in a message.
const MOST_NAME: usize = 80;

/// The checked configuration of a command that does not serve.
pub fn settings(options: &GateOptions) -> Result<Settings, Error> {
    settings_with(options, engine::with_own_folder(options, Overrides::default()))
}

/// The checked configuration; `more` holds the flags that only `serve` has.
pub fn settings_with(options: &GateOptions, more: Overrides) -> Result<Settings, Error> {
    let file = config::load(options.images.config.as_deref())?;
    with_folders(config::resolve(file, overrides(options, more))?)
}

/// A configuration that was already read, with the flags of a command that does not serve.
pub fn settings_of(file: config::File, options: &GateOptions) -> Result<Settings, Error> {
    let more = engine::with_own_folder(options, Overrides::default());
    with_folders(config::resolve(file, overrides(options, more))?)
}

/// A configuration that was already read, with the flags of a command that does not serve, for a report: the settings with which the other checks can go on, and what is wrong with the fields.
pub fn resolved_in_part(file: config::File, options: &GateOptions) -> (Settings, Vec<config::Error>) {
    let more = engine::with_own_folder(options, Overrides::default());
    let (mut settings, mut problems) = config::resolve_in_part(file, overrides(options, more));
    problems.extend(missing_folders(&settings));
    settings.file.images.layouts.retain(|_, folder| folder.is_dir());
    (settings, problems)
}

/// The settings, if the folders of image layouts exist.
fn with_folders(settings: Settings) -> Result<Settings, Error> {
    match missing_folders(&settings).into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(settings),
    }
}

/// The folders of image layouts that do not exist: without its folder no image of the registry can be read.
fn missing_folders(settings: &Settings) -> Vec<config::Error> {
    let missing = settings.file.images.layouts.iter().filter(|(_, folder)| !folder.is_dir());
    let error = |(host, folder): (&String, &std::path::PathBuf)| config::Error::CheckField {
        field: format!("images.layouts.{host}"),
        value: folder.display().to_string(),
        message: "no such folder; name one with an OCI image layout".into(),
    };
    missing.map(error).collect()
}

fn overrides(options: &GateOptions, more: Overrides) -> Overrides {
    // Destructured, so that a new flag cannot be forgotten here.
    let GateOptions { images, grants, cluster, bundles, compiled_dir } = options.clone();
    let ImageOptions {
        config: _,
        image_layouts,
        allow_registries,
        insecure_registries,
        registry_cas,
        docker_config,
    } = images;
    Overrides {
        grants,
        cluster,
        bundles,
        image_layouts,
        allow_registries,
        insecure_registries,
        registry_cas,
        docker_config,
        compiled_dir: more.compiled_dir.clone().or(compiled_dir),
        own_namespace: std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty()),
        ..more
    }
}

/// An inspector as configured, with the image store. That is read as a whole, for which a start has time while policies are compiled.
pub fn serving_inspector(settings: &Settings) -> Result<Inspector, Error> {
    Ok(Inspector::new(settings.file.images.clone())?)
}

/// An inspector for every other command, without the image store: only the serving process may use it.
pub fn inspector(settings: &Settings) -> Result<Inspector, Error> {
    let images = lookup::LookupOptions {
        store: None,
        warm: Vec::new(),
        warm_file: None,
        ..settings.file.images.clone()
    };
    Ok(Inspector::new(images)?)
}

/// An inspector for a scan, which asks about each image once: nothing that it learned expires before it ends. `stored` says
/// that a store was named for it; that of the configuration belongs to the serving process.
pub fn scanning_inspector(settings: &Settings, stored: bool) -> Result<Inspector, Error> {
    let configured = settings.file.images.clone();
    let images = lookup::LookupOptions {
        store: configured.store.clone().filter(|_| stored),
        warm: Vec::new(),
        warm_file: None,
        tag_ttl: SCAN,
        stale_ttl: SCAN,
        failure_ttl: SCAN,
        ..configured
    };
    Ok(Inspector::new(images)?)
}

/// Loads grants, cluster facts and policies, each bundle as its source has it now, with the engine of a gate that serves.
pub async fn serving_state(settings: &Settings) -> Result<State, Error> {
    let objects = objects(settings)?;
    let policies = policies(&engine::serving(settings)?, settings).await?;
    assemble(settings, objects, policies.into())
}

/// The same for every other command.
pub async fn state(settings: &Settings) -> Result<State, Error> {
    let objects = objects(settings)?;
    let policies = policies(&engine::for_command(settings)?, settings).await?;
    assemble(settings, objects, policies.into())
}

/// Loads grants and cluster facts; the policies are compiled already, from the bundles and with the limits of these settings.
pub fn state_with(settings: &Settings, policies: Arc<PolicySet>) -> Result<State, Error> {
    assemble(settings, objects(settings)?, policies)
}

/// What the folders of the configuration hold: grants with exceptions, and the cluster.
pub fn objects(settings: &Settings) -> Result<(Loaded, Cluster), Error> {
    let file = &settings.file;
    let loaded =
        file.grants.as_ref().map_or_else(|| Ok(Loaded::default()), |dir| grant::load::load_dir(dir))?;
    let mut cluster =
        file.cluster.as_ref().map_or_else(|| Ok(Cluster::default()), |dir| cluster::load_dir(dir))?;
    if !file.sizing.learn.enabled {
        cluster.learned = Arc::default();
    }
    Ok((loaded, cluster))
}

fn assemble(
    settings: &Settings,
    (Loaded { grants, exceptions }, cluster): (Loaded, Cluster),
    policies: Arc<PolicySet>,
) -> Result<State, Error> {
    check_rules(&settings.file.enforcement, &policies)?;
    let mut state = State::new(settings.runtimes.clone(), cluster.into(), policies);
    state.grants = grants.into();
    state.exceptions = exceptions.into();
    Ok(configured(state, settings))
}

/// The state with everything that the configuration itself says: what it depends on besides policies, grants and cluster.
pub fn configured(state: State, settings: &Settings) -> State {
    let mut state = state.with_runtimes(settings.runtimes.clone());
    state.options.clone_from(&settings.file.policies.options);
    state.enforcement.clone_from(&settings.file.enforcement);
    state.kinds = Kinds::new(&settings.file.workloads);
    state.unpinned.clone_from(&settings.unpinned);
    state.raises_learned = settings.file.sizing.learn.raise;
    state.exempt_namespaces.clone_from(&settings.file.exempt_namespaces);
    state.records_input = settings.file.decision_log.policy_input;
    state.writes_records = settings.file.decision_log.is_on();
    state.masks = Arc::new(settings.file.decision_log.mask_annotations.clone());
    state
}

/// Refuses bundles of which none that decides has a rule that the configuration names: the gate would not start with them.
pub fn check_rules(enforcement: &EnforcementSettings, policies: &PolicySet) -> Result<(), config::Error> {
    unknown_rules(enforcement, policies.rules_in_force()).into_iter().next().map_or(Ok(()), Err)
}

/// The rules in the configuration that are not among the known ones; none when a bundle does not list its rules, since then that is
/// not known.
pub fn unknown_rules(
    enforcement: &EnforcementSettings,
    known: Option<&BTreeSet<String>>,
) -> Vec<config::Error> {
    let rules_of = enforcement.rules.keys().map(|rule| ("enforcement.rules", rule));
    let written =
        rules_of.chain(enforcement.never_exempt.iter().map(|rule| ("enforcement.neverExempt", rule)));
    let written = written.filter(|(_, rule)| rule.as_str() != POLICY_ERROR);
    let Some(known) = known else {
        for (field, rule) in written {
            tracing::warn!(field, rule, "whether a bundle has this rule is not known here");
        }
        return Vec::new();
    };
    let unknown = |(field, rule): (&str, &String)| {
        let message = no_such_rule(rule, known.iter().map(String::as_str).chain([POLICY_ERROR]));
        config::Error::CheckField { field: field.into(), value: rule.clone(), message }
    };
    written.filter(|(_, rule)| !known.contains(*rule)).map(unknown).collect()
}

/// What of the configuration does not protect, or allow, although one may think so: its field, and a sentence.
pub fn warnings(settings: &Settings) -> Vec<(&'static str, String)> {
    let policies = &settings.file.policies;
    let idle = lookup::idle_insecure(&settings.file.images);
    let mut warnings: Vec<_> =
        idle.iter().map(|registry| ("images.registries.insecure", insecure(registry))).collect();
    if !policies.keys.is_empty() && !policies.bundles.is_empty() && policies.store.is_none() {
        let warning = "bundles are verified with `policies.keys`, and there is no `policies.store`: after a restart nothing knows \
                       which number a bundle had, and an older signed one would be taken; name a folder on a volume";
        warnings.push(("policies.store", warning.to_owned()));
    }
    warnings
}

fn insecure(registry: &str) -> String {
    let registry = text::quoted(registry, MOST_NAME);
    format!(
        "`{registry}` is listed, and no entry of `images.registries.allow` covers it (`*` covers public addresses alone), so it is not \
         asked; add `{registry}` there too"
    )
}

/// Why the `hardening` of profiles takes no files from pods, if it takes none: that depends on rules which no bundle has.
pub fn idle_hardening(settings: &Settings, known: Option<&BTreeSet<String>>) -> Option<String> {
    let lacking = REFUSE_FILES.into_iter().find(|rule| known.is_some_and(|known| !known.contains(*rule)))?;
    let takes = settings.runtimes.profiles.iter().any(|profile| profile.hardening.takes_files());
    takes.then(|| {
        format!(
            "no loaded bundle has the rule `{lacking}`, so `automountServiceAccountToken` and `readOnly` are filled in on no pod; load \
             the baseline (`policies.baseline`), or set both to `off`"
        )
    })
}

/// The options that no rule reads: the field of each, and a sentence. A misspelt name switches nothing on.
pub fn unread_options(options: &PolicyOptions, policies: &PolicySet) -> Vec<(String, String)> {
    let warning = |(name, near): (&str, String)| {
        let cure =
            if near.is_empty() { "; remove it, or load the bundle that reads it" } else { near.as_str() };
        let field = format!("policies.options.{}", text::quoted(name, MOST_NAME));
        (field, format!("no rule of the loaded bundles reads it, so it changes nothing{cure}"))
    };
    policies.unread_options(options.keys().map(String::as_str)).into_iter().map(warning).collect()
}

/// What to write instead of a rule that is in no bundle.
pub fn no_such_rule<'a>(rule: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = text::did_you_mean(rule, known.clone());
    format!("no loaded bundle has this rule; write one of {}{near}", known.collect::<Vec<_>>().join(", "))
}

async fn policies(engine: &Engine, settings: &Settings) -> Result<PolicySet, Error> {
    let policies = &settings.file.policies;
    let mut bundles = Vec::from_iter(policies.baseline.then(Bundle::embedded).transpose()?);
    for follower in followers(settings, engine, &Memory::default())? {
        bundles.push(follower.once().await?);
    }
    compiled(engine, settings, bundles).await
}

/// What fetches the bundles of the configuration.
pub fn followers(settings: &Settings, engine: &Engine, memory: &Memory) -> Result<Vec<Follower>, Error> {
    let bundles = settings.file.policies.bundles.iter();
    bundles.map(|source| follower(settings, source, engine, memory)).collect()
}

/// What bundles in registries are asked for.
pub fn registries(settings: &Settings) -> Result<Registries, Error> {
    let images = &settings.file.images;
    Ok(Registries { registry: lookup::registry(images)?, layouts: lookup::layouts(images).into() })
}

/// What fetches one of them.
pub fn follower(
    settings: &Settings,
    source: &BundleSource,
    engine: &Engine,
    memory: &Memory,
) -> Result<Follower, Error> {
    let is_in_registry = source.origin().is_ok_and(|origin| origin.is_registry());
    let registries = is_in_registry.then(|| registries(settings)).transpose()?;
    let terms = Terms {
        engine: engine.clone(),
        limits: limits(settings),
        trust: Trust::new(&settings.file.policies.keys, settings.file.policies.require_signed)?.into(),
        memory: memory.clone(),
    };
    Ok(Follower::new(source.clone(), terms, registries.as_ref())?)
}

/// Compiles the bundles for a command that does not serve, with the limits of the configuration.
pub async fn policy_set(settings: &Settings, bundles: Vec<Bundle>) -> Result<PolicySet, Error> {
    compiled(&engine::for_command(settings)?, settings, bundles).await
}

async fn compiled(engine: &Engine, settings: &Settings, bundles: Vec<Bundle>) -> Result<PolicySet, Error> {
    Ok(PolicySet::load(engine, bundles, limits(settings)).await?)
}

/// The limits of the configuration on an evaluation.
pub fn limits(settings: &Settings) -> Limits {
    let policies = &settings.file.policies;
    Limits {
        fuel: policies.fuel_limit,
        time: settings.policy_time_limit,
        memory_bytes: policies.memory_limit_bytes,
        strict_builtins: policies.strict_builtins,
    }
}
