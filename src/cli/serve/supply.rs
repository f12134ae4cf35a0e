//! The policy bundles of a serving gate: loaded at the start, and brought up to date while it serves.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;

use crate::admission::Gate;
use crate::audit::BundleReport;
use crate::cli::{Error, build};
use crate::config::Settings;
use crate::judge::EnforcementSettings;
use crate::policy::{Bundle, Engine, Loaded, PolicySet};
use crate::server::Check;
use crate::sources::{BundleStatus, Follower, Statuses};

/// What keeps the bundles up to date.
#[derive(Debug)]
pub struct Supply {
    followers: Vec<Follower>,
    statuses: Arc<Statuses>,
}

/// Loads all bundles: each from its source, or else as it was kept on disk.
pub async fn start(settings: &Settings) -> Result<(PolicySet, Supply), Error> {
    let engine = Engine::new()?;
    let limits = build::limits(settings);
    for (field, warning) in build::warnings(settings) {
        tracing::warn!(field, "{warning}");
    }
    let statuses = Arc::new(Statuses::default());
    let mut loaded = Vec::new();
    if settings.file.policies.baseline {
        let baseline = Loaded::open(&engine, Bundle::embedded()?, limits).await?;
        let (name, revision) = (baseline.name().to_owned(), baseline.revision().to_owned());
        statuses.set(BundleStatus::new(&name, "the gate itself", &revision, Timestamp::now()));
        loaded.push(baseline);
    }
    let mut followers = build::followers(settings, &engine)?;
    let started = try_join_all(followers.iter_mut().map(Follower::start)).await?;
    loaded.extend(started);
    let enforcement = &settings.file.enforcement;
    let set = fitting(PolicySet::of(&engine, limits, loaded)?, enforcement, &mut followers).await?;
    // Not before: what is kept on disk has to be what a start can use.
    join_all(followers.iter_mut().map(|follower| follower.begin(&statuses))).await;
    for status in statuses.all() {
        let BundleStatus { name, from, revision, is_kept, .. } = status;
        tracing::info!(bundle = name, revision, from, kept = is_kept, "policy bundle");
    }
    Ok((set, Supply { followers, statuses }))
}

/// The set with every rule that the configuration names. A bundle that lacks one gives way to what was kept of it, if that has
/// it. What cannot be mended so is an error, as without a store.
async fn fitting(
    mut set: PolicySet,
    enforcement: &EnforcementSettings,
    followers: &mut [Follower],
) -> Result<PolicySet, Error> {
    for follower in followers {
        let lacking = build::unknown_rules(enforcement, set.rules().as_ref());
        let Some(first) = lacking.first() else { break };
        let Some(kept) = follower.alternative().await else { continue };
        let other = set.with(&kept);
        if build::unknown_rules(enforcement, other.rules().as_ref()).len() < lacking.len() {
            follower.fall_back(first.to_string());
            set = other;
        }
    }
    build::check_rules(enforcement, &set)?;
    Ok(set)
}

impl Supply {
    /// Follows the sources for as long as the process runs. A bundle is swapped in one step; reviews that run end on the one that they
    /// began with.
    pub fn follow(self, gate: &Arc<Gate>) -> Bundles {
        // What fits beside the bundles of a moment does not always fit beside others.
        let turn = Arc::new(Mutex::new(()));
        for follower in self.followers {
            let (gate, turn) = (Arc::clone(gate), Arc::clone(&turn));
            let swap = move |loaded: &Loaded| {
                let _mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
                swap(&gate, loaded)
            };
            tokio::spawn(follower.follow(Arc::clone(&self.statuses), swap));
        }
        Bundles(self.statuses)
    }
}

fn swap(gate: &Gate, loaded: &Loaded) -> Result<(), String> {
    let state = gate.state();
    // Nothing else changes the policies, and swaps take turns.
    let policies = Arc::new(state.policies.with(loaded));
    build::check_rules(&state.enforcement, &policies).map_err(|error| error.to_string())?;
    gate.update(|state| {
        let mut next = state.clone();
        next.policies = Arc::clone(&policies);
        next
    });
    Ok(())
}

/// How the bundles are, for probes and metrics.
#[derive(Debug, Default)]
pub struct Bundles(Arc<Statuses>);

impl Bundles {
    /// A line for each bundle.
    pub fn checks(&self) -> Vec<Check> {
        self.0.all().iter().map(check).collect()
    }

    /// What the metrics say of each bundle.
    pub fn reports(&self) -> Vec<BundleReport> {
        self.0.all().into_iter().map(report).collect()
    }
}

fn check(status: &BundleStatus) -> Check {
    let BundleStatus { name, from, revision, since, is_kept, next, error, unkept, warnings, .. } = status;
    let of_revision = if revision.is_empty() { String::new() } else { format!(", revision {revision}") };
    let next = next.map(|next| format!(", next try {next:.0}")).unwrap_or_default();
    let failed = error.as_ref().map(|error| {
        let kept =
            if *is_kept { "what was kept on disk is in force" } else { "the former bundle stays in force" };
        format!("; {kept}: {error}")
    });
    let failed = failed.unwrap_or_default();
    let unkept = unkept.as_ref().map(|error| format!("; a restart would not find it: {error}"));
    let unkept = unkept.unwrap_or_default();
    let warnings: String = warnings.iter().map(|warning| format!("; {warning}")).collect();
    let text = format!("from {from}{of_revision}, in force since {since:.0}{next}{failed}{unkept}{warnings}");
    Check { name: format!("bundle/{name}"), is_ok: error.is_none() && status.unkept.is_none(), text }
}

fn report(status: BundleStatus) -> BundleReport {
    let BundleStatus { name, checked, since, error, unkept, swaps, failures, .. } = status;
    BundleReport {
        name,
        checked: checked.unwrap_or(since),
        is_failing: error.is_some(),
        is_unkept: unkept.is_some(),
        swaps,
        failures,
    }
}
