//! From options to a gate's parts; every command builds them the same way.

use std::collections::BTreeSet;

use super::Error;
use super::args::GateOptions;
use crate::admission::State;
use crate::cluster::{self, Cluster};
use crate::config::{self, Overrides, Settings};
use crate::grant::{self, Loaded};
use crate::judge::{EnforcementSettings, verdict::POLICY_ERROR};
use crate::lookup::{self, Inspector};
use crate::policy::{Bundle, Engine, Limits, PolicySet};

/// The checked configuration of a command that does not serve.
pub fn settings(options: &GateOptions) -> Result<Settings, Error> {
    settings_with(options, Overrides::default())
}

/// The checked configuration, with the flags that only `serve` has already in `overrides`.
pub fn settings_with(options: &GateOptions, overrides: Overrides) -> Result<Settings, Error> {
    let GateOptions {
        config,
        grants,
        cluster,
        bundles,
        image_layouts,
        allow_registries,
        insecure_registries,
        registry_cas,
        docker_config,
    } = options.clone();
    let overrides = Overrides {
        grants,
        cluster,
        bundles,
        image_layouts,
        allow_registries,
        insecure_registries,
        registry_cas,
        docker_config,
        own_namespace: std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty()),
        ..overrides
    };
    Ok(config::resolve(config::load(config.as_deref())?, overrides)?)
}

/// Looks images up as configured.
pub fn serving_inspector(settings: &Settings) -> Result<Inspector, Error> {
    Ok(Inspector::new(settings.file.images.clone())?)
}

/// The same for a command that ends: the store belongs to the one process that serves.
pub fn inspector(settings: &Settings) -> Result<Inspector, Error> {
    let images = lookup::LookupOptions {
        store: None,
        warm: Vec::new(),
        warm_file: None,
        ..settings.file.images.clone()
    };
    Ok(Inspector::new(images)?)
}

/// Loads grants, cluster facts and policies.
pub async fn state(settings: &Settings) -> Result<State, Error> {
    let Loaded { grants, exceptions } = settings
        .file
        .grants
        .as_ref()
        .map_or_else(|| Ok(Loaded::default()), |dir| grant::load::load_dir(dir))?;
    let cluster = settings
        .file
        .cluster
        .as_ref()
        .map_or_else(|| Ok(Cluster::default()), |dir| cluster::load_dir(dir))?;
    let policies = policies(settings).await?;
    check_rules(&settings.file.enforcement, policies.rules().as_ref())?;
    Ok(State {
        runtimes: settings.runtimes.clone(),
        cluster: cluster.into(),
        grants: grants.into(),
        exceptions: exceptions.into(),
        policies: policies.into(),
        options: settings.file.policies.options.clone(),
        enforcement: settings.file.enforcement.clone(),
        exempt_namespaces: settings.file.exempt_namespaces.clone(),
    })
}

/// An enforcement action for a rule that no bundle has was meant for another one. Where a bundle does not tell its rules' names, nobody can
/// say so.
fn check_rules(
    enforcement: &EnforcementSettings,
    known: Option<&BTreeSet<&str>>,
) -> Result<(), config::Error> {
    let rules_of = enforcement.rules.keys().map(|rule| ("enforcement.rules", rule));
    let written =
        rules_of.chain(enforcement.never_exempt.iter().map(|rule| ("enforcement.neverExempt", rule)));
    for (field, rule) in written.filter(|(_, rule)| rule.as_str() != POLICY_ERROR) {
        match known {
            Some(known) if !known.contains(rule.as_str()) => {
                let names = known.iter().copied().chain([POLICY_ERROR]).collect::<Vec<_>>().join(", ");
                let message = format!("no loaded bundle has this rule; write one of {names}");
                return Err(config::Error::CheckField { field: field.into(), value: rule.clone(), message });
            }
            None => tracing::warn!(field, rule, "whether a bundle has this rule is not known here"),
            Some(_) => {}
        }
    }
    Ok(())
}

async fn policies(settings: &Settings) -> Result<PolicySet, Error> {
    let policies = &settings.file.policies;
    let baseline = policies.baseline.then(Bundle::embedded);
    let own = policies.bundles.iter().map(|path| Bundle::load(path));
    let bundles = baseline.into_iter().chain(own).collect::<Result<Vec<_>, _>>()?;
    let limits = Limits { time: settings.policy_time_limit, memory_bytes: policies.memory_limit_bytes };
    Ok(PolicySet::load(&Engine::new()?, bundles, limits).await?)
}
