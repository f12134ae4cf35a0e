//! The policy bundles of a serving gate: loaded at the start, and brought up to date while it serves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use futures::future::try_join_all;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::admission::{Gate, State};
use crate::audit::BundleReport;
use crate::cli::{Error, build, engine};
use crate::config::Settings;
use crate::judge::EnforcementSettings;
use crate::policy::{Bundle, Engine, Limits, Loaded, PolicySet};
use crate::server::Check;
use crate::sources::{BundleStatus, BundleStore, Changes, Follower, InForce, Memory, Poll, Statuses, Swap};

/// What keeps the bundles up to date.
#[derive(Debug)]
pub struct Supply {
    followers: Vec<Follower>,
    statuses: Arc<Statuses>,
    firsts: Vec<First>,
    /// What had come into force when the sources were asked.
    since: Changes,
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
    let since = in_force.changes();
    let engine = engine::serving(settings)?;
    let limits = build::limits(settings);
    warn(settings);
    let statuses = Arc::new(Statuses::default());
    let kept = settings.file.policies.store.as_ref().map(BundleStore::open).transpose()?;
    let memory = Memory { kept, in_force: in_force.clone() };
    let mut followers = build::followers(settings, &engine, &memory)?;
    // Sources are waited for while the baseline is compiled.
    let (baseline, started) = tokio::try_join!(baseline(settings, &engine, limits), started(&mut followers))?;
    if let Some(baseline) = &baseline {
        let status =
            BundleStatus::new(baseline.name(), "the gate itself", baseline.revision(), Timestamp::now());
        statuses.set(status);
    }
    let loaded = baseline.into_iter().chain(started).collect();
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
    Ok((set, Supply { followers, statuses, firsts, since }))
}

/// Says in the log what of the configuration does not protect, or allow, although one may think so.
pub fn warn(settings: &Settings) {
    for (field, warning) in build::warnings(settings) {
        tracing::warn!(field, "{warning}");
    }
}

/// The baseline, if it judges.
async fn baseline(settings: &Settings, engine: &Engine, limits: Limits) -> Result<Option<Loaded>, Error> {
    if !settings.file.policies.baseline {
        return Ok(None);
    }
    Ok(Some(Loaded::open(engine, Bundle::embedded()?, limits).await?))
}

/// What the sources begin with.
async fn started(followers: &mut [Follower]) -> Result<Vec<Loaded>, Error> {
    let started = try_join_all(followers.iter_mut().map(Follower::start_if_needed)).await?;
    Ok(started.into_iter().flatten().collect())
}

/// The set with every rule that the configuration names. A bundle that lacks one gives way to what was kept of it, if that has
/// it. What cannot be mended so is an error, as without a store.
async fn fitting(
    mut set: PolicySet,
    enforcement: &EnforcementSettings,
    followers: &mut [Follower],
) -> Result<PolicySet, Error> {
    for follower in followers {
        let lacking = build::unknown_rules(enforcement, set.rules_in_force());
        let Some(first) = lacking.first() else { break };
        let Some(kept) = follower.alternative().await else { continue };
        let other = set.with(&kept);
        if build::unknown_rules(enforcement, other.rules_in_force()).len() < lacking.len() {
            follower.fall_back(first.to_string());
            set = other;
        }
    }
    build::check_rules(enforcement, &set)?;
    Ok(set)
}

impl Supply {
    /// Writes the numbers of the first bundles down. They come into force after it, or a crash does: a number counts only for what
    /// nothing refuses any more.
    pub async fn reserve(&self) -> Result<(), Error> {
        try_join_all(self.followers.iter().map(Follower::reserve)).await?;
        Ok(())
    }

    /// Follows the sources for as long as the process runs. A bundle is swapped in one step; reviews that run end on the one that they
    /// began with.
    pub async fn follow(self, gate: &Arc<Gate>, in_force: InForce) -> Result<Arc<Bundles>, Error> {
        self.reserve().await?;
        let bundles = Arc::new(Bundles { in_force, ..Bundles::default() });
        let turn = bundles.turn();
        bundles.begin(self, gate, turn);
        Ok(bundles)
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
    /// Makes every source be asked at once.
    prompts: watch::Sender<()>,
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

    /// Refuses what a source had when it was asked, if another bundle has come into force since then, unless it is newer than that. Says so
    /// for as long as the caller has claimed the right to bring bundles into force.
    pub fn check_order(&self, supply: &Supply) -> Result<(), Error> {
        for First { name, sequence, allows_rollback } in &supply.firsts {
            self.in_force.check(name, *sequence, &supply.since, *allows_rollback)?;
        }
        Ok(())
    }

    /// Follows these sources, and no longer those before them. Their counts go on.
    pub fn begin(self: &Arc<Self>, supply: Supply, gate: &Arc<Gate>, mut turn: Turn<'_>) {
        let Supply { mut followers, statuses, firsts, .. } = supply;
        for First { name, sequence, allows_rollback } in firsts {
            self.in_force.set(&name, sequence, allows_rollback);
        }
        *turn = turn.saturating_add(1);
        for follower in &mut followers {
            follower.begin(&statuses);
        }
        for BundleStatus { name, from, revision, is_kept, is_shadow, .. } in statuses.all() {
            tracing::info!(
                bundle = name,
                revision,
                from,
                kept = is_kept,
                shadow = is_shadow,
                "policy bundle"
            );
        }
        for BundleStatus { name, swaps, failures, .. } in self.statuses.load().all() {
            statuses.change(&name, |status| {
                status.swaps = status.swaps.saturating_add(swaps);
                status.failures = status.failures.saturating_add(failures);
            });
        }
        self.statuses.store(Arc::clone(&statuses));
        self.warn_of_options(&gate.state());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
        for follower in followers {
            let swap = InTurn {
                bundles: Arc::downgrade(self),
                gate: Arc::clone(gate),
                mine: *turn,
                allows_rollback: follower.allows_rollback(),
            };
            let follows = follower.follow(Arc::clone(&statuses), self.prompts.subscribe(), swap);
            tasks.push(tokio::spawn(follows).abort_handle());
        }
    }

    /// Asks every source at once, and not only when it is its time. What could not be used is tried again too.
    pub fn ask_now(&self) {
        self.prompts.send_replace(());
    }

    /// The options of the configuration that no rule reads, each with a sentence; none while a bundle in the shadow is not there yet, which
    /// may read them.
    pub fn unread_options(&self, state: &State) -> Vec<(String, String)> {
        let is_missing = self.statuses.load().all().iter().any(|status| status.is_missing);
        if is_missing { Vec::new() } else { build::unread_options(&state.options, &state.policies) }
    }

    /// Says so in the log.
    pub fn warn_of_options(&self, state: &State) {
        for (field, warning) in self.unread_options(state) {
            tracing::warn!(field, "{warning}");
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

/// Where the bundle of one source comes into force: when it is its turn, and for as long as its sources are followed.
struct InTurn {
    bundles: Weak<Bundles>,
    gate: Arc<Gate>,
    /// How often sources were replaced when this one came.
    mine: u64,
    allows_rollback: bool,
}

fn gone() -> String {
    "its source was replaced".into()
}

impl Swap for InTurn {
    fn fits(&self, loaded: &Loaded) -> Result<(), String> {
        let bundles = self.bundles.upgrade().ok_or_else(gone)?;
        if *bundles.turn() != self.mine {
            return Err(gone());
        }
        fitting_beside(&self.gate.state(), loaded).map(|_| ())
    }

    fn swap(&self, loaded: &Loaded, done: impl FnOnce()) -> Result<(), String> {
        let bundles = self.bundles.upgrade().ok_or_else(gone)?;
        let turn = bundles.turn();
        // A task ends where it waits, which may be here.
        if *turn != self.mine {
            return Err(gone());
        }
        // Nothing else changes the policies, and swaps take turns.
        let policies = Arc::new(fitting_beside(&self.gate.state(), loaded)?);
        self.gate.update(|state| {
            let mut next = state.clone();
            next.policies = Arc::clone(&policies);
            next
        });
        // First: where it counts as in force, a reload finds it if its source cannot be used.
        done();
        bundles.in_force.set(loaded.name(), loaded.sequence(), self.allows_rollback);
        Ok(())
    }
}

/// The policies with this bundle, if they have every rule that the configuration names.
fn fitting_beside(state: &State, loaded: &Loaded) -> Result<PolicySet, String> {
    if let Some(reason) = loaded.unfit().filter(|_| state.policies.has_bundle(loaded.name())) {
        return Err(format!(
            "it cannot judge an ordinary pod, and every pod that starts Wasm would be refused: {reason}"
        ));
    }
    let policies = state.policies.with(loaded);
    build::check_rules(&state.enforcement, &policies).map_err(|error| error.to_string())?;
    Ok(policies)
}

fn check(status: &BundleStatus) -> Check {
    let BundleStatus { name, from, revision, since, is_kept, poll, error, unkept, warnings, .. } = status;
    let name = format!("bundle/{name}");
    if status.is_missing {
        let error = error.as_deref().unwrap_or_default();
        let text = format!("from {from}, in the shadow, and not there yet: {error}");
        return Check { name, is_ok: false, text };
    }
    let place = if status.is_shadow { "in the shadow" } else { "in force" };
    let of_revision =
        if revision.is_empty() { String::new() } else { format!(", revision {}", shortened(revision)) };
    let next = match poll {
        Some(Poll::Due(time)) => format!(", next try {time:.0}"),
        Some(Poll::Open(time)) => format!(", polling since {time:.0}"),
        None => String::new(),
    };
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
    let BundleStatus { name, checked, since, poll, error, is_missing, unkept, swaps, failures, .. } = status;
    BundleReport {
        name,
        checked: checked.unwrap_or(since),
        next: poll.map(Poll::time),
        since: (!is_missing).then_some(since),
        is_failing: error.is_some(),
        is_unkept: unkept.is_some(),
        swaps,
        failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_is_open_is_told_as_one_and_not_as_a_try_to_come() {
        let now = Timestamp::UNIX_EPOCH;
        let said = |poll| {
            let status = BundleStatus::new("ours", "a.tar.gz", "", now);
            check(&BundleStatus { poll: Some(poll), ..status }).text
        };
        let time = "1970-01-01T00:00:00Z";
        assert_eq!(
            said(Poll::Open(now)),
            format!("from a.tar.gz, in force since {time}, polling since {time}")
        );
        assert_eq!(said(Poll::Due(now)), format!("from a.tar.gz, in force since {time}, next try {time}"));
    }
}
