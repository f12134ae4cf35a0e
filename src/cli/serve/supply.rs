//! The policy bundles of a serving gate: loaded at the start, and brought up to date while it serves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use tokio::task::AbortHandle;

use crate::admission::Gate;
use crate::audit::BundleReport;
use crate::cli::{Error, build, engine};
use crate::config::Settings;
use crate::judge::EnforcementSettings;
use crate::policy::{Bundle, Loaded, PolicySet};
use crate::server::Check;
use crate::sources::{BundleStatus, Follower, InForce, Statuses};

/// What keeps the bundles up to date.
#[derive(Debug)]
pub struct Supply {
    followers: Vec<Follower>,
    statuses: Arc<Statuses>,
    firsts: Vec<First>,
}

/// A bundle to begin with.
#[derive(Debug)]
struct First {
    name: String,
    sequence: Option<u64>,
    allows_rollback: bool,
}

/// Loads all bundles: each from its source, or else as it was kept on disk or, where the gate serves already, in memory.
pub async fn start(settings: &Settings, in_force: &InForce) -> Result<(PolicySet, Supply), Error> {
    let engine = engine::serving(settings)?;
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
    let mut followers = build::followers(settings, &engine, in_force)?;
    let started = try_join_all(followers.iter_mut().map(Follower::start_if_needed)).await?;
    loaded.extend(started.into_iter().flatten());
    let enforcement = &settings.file.enforcement;
    let set = fitting(PolicySet::of(&engine, limits, loaded)?, enforcement, &mut followers).await?;
    if let Some(warning) = build::idle_hardening(settings, set.rules_in_force()) {
        tracing::warn!(field = "runtimes.profiles[].hardening", "{warning}");
    }
    let first = |follower: &Follower| {
        let loaded = follower.first()?;
        let (name, sequence) = (loaded.name().to_owned(), loaded.sequence());
        Some(First { name, sequence, allows_rollback: follower.allows_rollback() })
    };
    let firsts = followers.iter().filter_map(first).collect();
    // Not before: what is kept on disk has to be what a start can use.
    join_all(followers.iter_mut().map(|follower| follower.begin(&statuses))).await;
    for status in statuses.all() {
        let BundleStatus { name, from, revision, is_kept, .. } = status;
        tracing::info!(bundle = name, revision, from, kept = is_kept, "policy bundle");
    }
    Ok((set, Supply { followers, statuses, firsts }))
}

/// The set with every rule that the configuration names. A bundle that lacks one gives way to what was kept of it, if that has
/// it. What cannot be mended so is an error, as without a store.
async fn fitting(
    mut set: PolicySet,
    enforcement: &EnforcementSettings,
    followers: &mut [Follower],
) -> Result<PolicySet, Error> {
    for follower in followers {
        let lacking = build::unknown_rules(enforcement, set.rules());
        let Some(first) = lacking.first() else { break };
        let Some(kept) = follower.alternative().await else { continue };
        let other = set.with(&kept);
        if build::unknown_rules(enforcement, other.rules()).len() < lacking.len() {
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
    pub fn follow(self, gate: &Arc<Gate>, in_force: InForce) -> Arc<Bundles> {
        let bundles = Arc::new(Bundles { in_force, ..Bundles::default() });
        let turn = bundles.turn();
        bundles.begin(self, gate, turn);
        bundles
    }
}

/// The bundles of a gate that serves: how they are, and the one place where they are swapped.
#[derive(Debug, Default)]
pub struct Bundles {
    statuses: ArcSwap<Statuses>,
    /// What fits beside the bundles and the configuration of a moment does not always fit beside others. Holds how often the
    /// sources were replaced.
    turn: Mutex<u64>,
    /// Written under `turn`.
    in_force: InForce,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The right to change what the gate judges by.
pub type Turn<'a> = MutexGuard<'a, u64>;

impl Bundles {
    /// Waits for the right to change what the gate judges by. Held for a moment only.
    pub fn turn(&self) -> Turn<'_> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was in force of each bundle.
    pub const fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Refuses what a source had when it was asked, if a newer bundle has come into force since then.
    pub fn check_order(&self, supply: &Supply, _turn: &Turn<'_>) -> Result<(), Error> {
        for First { name, sequence, .. } in supply.firsts.iter().filter(|first| !first.allows_rollback) {
            self.in_force.check(name, *sequence)?;
        }
        Ok(())
    }

    /// Follows these sources, and no longer those before them. Their counts go on.
    pub fn begin(self: &Arc<Self>, supply: Supply, gate: &Arc<Gate>, mut turn: Turn<'_>) {
        let Supply { followers, statuses, firsts } = supply;
        for First { name, sequence, allows_rollback } in firsts {
            self.in_force.set(&name, sequence, allows_rollback);
        }
        *turn = turn.saturating_add(1);
        let mine = *turn;
        for BundleStatus { name, swaps, failures, .. } in self.statuses.load().all() {
            statuses.change(&name, |status| {
                status.swaps = status.swaps.saturating_add(swaps);
                status.failures = status.failures.saturating_add(failures);
            });
        }
        self.statuses.store(Arc::clone(&statuses));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
        for follower in followers {
            let (bundles, gate) = (Arc::downgrade(self), Arc::clone(gate));
            let allows_rollback = follower.allows_rollback();
            let swap = move |loaded: &Loaded| {
                let gone = || "its source was replaced".to_string();
                let bundles = bundles.upgrade().ok_or_else(gone)?;
                let turn = bundles.turn();
                // A task ends where it waits, which may be here.
                if *turn != mine {
                    return Err(gone());
                }
                swap(&gate, loaded)?;
                bundles.in_force.set(loaded.name(), loaded.sequence(), allows_rollback);
                Ok(())
            };
            tasks.push(tokio::spawn(follower.follow(Arc::clone(&statuses), swap)).abort_handle());
        }
    }

    /// A line for each bundle.
    pub fn checks(&self) -> Vec<Check> {
        self.statuses.load().all().iter().map(check).collect()
    }

    /// What the metrics say of each bundle.
    pub fn reports(&self) -> Vec<BundleReport> {
        self.statuses.load().all().into_iter().map(report).collect()
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

fn check(status: &BundleStatus) -> Check {
    let BundleStatus { name, from, revision, since, is_kept, next, error, unkept, warnings, .. } = status;
    let name = format!("bundle/{name}");
    if status.is_missing {
        let error = error.as_deref().unwrap_or_default();
        let text = format!("from {from}, in the shadow, and not there yet: {error}");
        return Check { name, is_ok: false, text };
    }
    let place = if status.is_shadow { "in the shadow" } else { "in force" };
    let of_revision =
        if revision.is_empty() { String::new() } else { format!(", revision {}", shortened(revision)) };
    let next = next.map(|next| format!(", next try {next:.0}")).unwrap_or_default();
    let failed = error.as_ref().map(|error| {
        let kept = if *is_kept { "what was kept is in force" } else { "the former bundle stays in force" };
        format!("; {kept}: {error}")
    });
    let failed = failed.unwrap_or_default();
    let unkept = unkept.as_ref().map(|error| format!("; a restart would not find it: {error}"));
    let unkept = unkept.unwrap_or_default();
    let warnings = warnings.iter().fold(String::new(), |said, warning| said + "; " + warning);
    let text = format!("from {from}{of_revision}, {place} since {since:.0}{next}{failed}{unkept}{warnings}");
    Check { name, is_ok: error.is_none() && status.unkept.is_none(), text }
}

/// The beginning of a revision that is a whole digest, which is enough to tell bundles apart in a line for people.
fn shortened(revision: &str) -> &str {
    let is_digest = revision.len() == 64 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    revision.get(..12).filter(|_| is_digest).unwrap_or(revision)
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
