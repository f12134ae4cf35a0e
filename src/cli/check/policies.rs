//! Checks the bundles, and that the rules that are named somewhere are in one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{BUILT_IN_RULES, Problem, Report};
use crate::cli::{Error, build};
use crate::config::Settings;
use crate::grant::WasiException;
use crate::policy::{Bundle, Engine, PolicySet, Trust};
use crate::sources::Memory;

/// The rules of the bundles that could be loaded.
pub(super) struct Rules {
    names: BTreeSet<String>,
    /// Whether those are all bundles; else another one may have the rule.
    complete: bool,
}

impl Rules {
    pub(super) fn check_exception(&self, exception: &WasiException, origin: &str, report: &mut Report) {
        for (index, rule) in exception.spec.rules.iter().enumerate() {
            if !self.names.contains(rule) {
                let problem = Problem {
                    field: Some(format!("spec.rules[{index}]")),
                    value: Some(rule.clone()),
                    ..Problem::new(origin, build::no_such_rule(rule, self.names.iter().map(String::as_str)))
                };
                report.unknown_rule(problem, self.complete);
            }
        }
    }
}

/// Checks every bundle by itself, then all together, then the rule names of the configuration. `known` says whether the
/// settings name all bundles. Returns the rules, if they are known.
pub(super) async fn check(
    settings: &Settings,
    configuration: &str,
    known: bool,
    report: &mut Report,
) -> Option<Rules> {
    let before = report.problems.len();
    for (field, warning) in build::warnings(settings) {
        let field = Some(field.to_string());
        report.warnings.push(Problem { field, ..Problem::new(configuration, warning) });
    }
    let (bundles, origins) = read(settings, report).await?;
    let set = compiled(settings, bundles, &origins, report).await?;
    for (name, warning) in set.warnings() {
        let origin = origins.get(name).map_or(name, String::as_str);
        report.warnings.push(Problem::new(origin, warning.into()));
    }
    let baseline = usize::from(settings.file.policies.baseline);
    report.count(BUILT_IN_RULES, baseline);
    report.count("policy bundles", set.revisions().len().saturating_sub(baseline));
    let complete = known && report.problems.len() == before;
    let names = set.rules();
    for error in build::unknown_rules(&settings.file.enforcement, set.rules_in_force()) {
        report.unknown_rule(Problem::of_configuration(configuration, &error), complete);
    }
    if let Some(warning) = build::idle_hardening(settings, set.rules_in_force()).filter(|_| complete) {
        let field = Some("runtimes.profiles[].hardening".to_string());
        report.warnings.push(Problem { field, ..Problem::new(configuration, warning) });
    }
    let unread =
        build::unread_options(&settings.file.policies.options, &set).into_iter().filter(|_| complete);
    for (field, warning) in unread {
        report.warnings.push(Problem { field: Some(field), ..Problem::new(configuration, warning) });
    }
    names.map(|names| Rules { names: names.clone(), complete })
}

/// The bundles that can be read, and the file or folder of each by its name.
async fn read(settings: &Settings, report: &mut Report) -> Option<(Vec<Bundle>, BTreeMap<String, String>)> {
    let policies = &settings.file.policies;
    let engine = report.take("the policy engine", Engine::for_command())?;
    if policies.bundles.is_empty() {
        // Only bundles ask for the keys, and the first one may come while the gate serves.
        report.take("policies.keys", Trust::new(&policies.keys, policies.require_signed));
    }
    let mut read = Vec::new();
    if policies.baseline {
        read.push((format!("the {BUILT_IN_RULES}"), Bundle::embedded().map_err(Error::from)));
    }
    // A place that is wrong was reported with the configuration.
    let right = policies.bundles.iter().filter(|source| source.check().is_empty());
    for source in right {
        let bundle = match build::follower(settings, source, &engine, &Memory::default()) {
            Ok(follower) => follower.once().await.map_err(Error::from),
            Err(error) => Err(error),
        };
        let bundle = bundle.map(|mut bundle| {
            let warned = std::mem::take(&mut bundle.warnings).into_iter();
            report.warnings.extend(warned.map(|warning| Problem::new(&source.shown(), warning)));
            bundle
        });
        read.push((source.shown(), bundle));
    }
    let (mut bundles, mut origins) = (Vec::new(), BTreeMap::new());
    for (origin, bundle) in read {
        if let Some(bundle) = report.take(&origin, bundle) {
            origins.insert(bundle.name.clone(), origin);
            bundles.push(bundle);
        }
    }
    Some((bundles, origins))
}

/// The bundles that can be loaded together. One that cannot is reported, and does not hide what is wrong with the others.
async fn compiled(
    settings: &Settings,
    mut bundles: Vec<Bundle>,
    origins: &BTreeMap<String, String>,
    report: &mut Report,
) -> Option<PolicySet> {
    // Each turn leaves out a bundle.
    loop {
        let error = match build::policy_set(settings, bundles.clone()).await {
            Ok(set) => return Some(set),
            Err(error) => error,
        };
        let name = match &error {
            Error::LoadPolicies(error) => error.bundle().map(String::from),
            _ => None,
        };
        let origin = name.as_ref().and_then(|name| origins.get(name));
        report.failed(origin.map_or("the policy bundles", String::as_str), &error);
        let position = bundles.iter().position(|bundle| Some(&bundle.name) == name.as_ref())?;
        bundles.remove(position);
    }
}
