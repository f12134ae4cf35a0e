//! A circuit breaker for each registry. A registry that does not answer, or asked for a pause with `Retry-After`, gets
//! no requests for a while. Reviews then fail at once with a clear message, instead of each after its time budget, and
//! tags are served from what they resolved to before.
//!
//! What a failure counts against depends on what failed. A host that accepts no connection is down for every caller. A
//! request that was sent and not answered may be the fault of the repository or of the credentials, and a tenant
//! chooses both: it counts against its [`Scope`] alone. Once a host answers no scope any more, the first failure of a
//! scope opens its breaker. So no request of one tenant cuts another tenant off from a registry, and a registry that
//! answers nothing costs each scope one wait.
//!
//! A request that hangs fails only after seconds. Until then its registry is suspect, and pods that very likely have
//! nothing to do with Wasm wait for it for a moment only.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use super::clock::Clock;

/// Most registries, scopes and accounts that have a state, each. A pod can name any number of new ones, but only those
/// that fail get a state.
const MOST_STATES: usize = 4096;

/// Longest pause that a `Retry-After` gets: a longer one is taken for a mistake of the registry.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// When a registry that does not answer gets no more requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BreakerOptions {
    /// Consecutive failures after which a registry gets no more requests: connections to it that could not be opened,
    /// or unanswered requests for one repository by the pods of one namespace with one set of credentials (no answer in
    /// time, status 502, 503 or 504). 0 means never. Default: 5.
    pub failures: u32,
    /// How long the breaker stays open before one request tries again. Default: 10 s.
    #[serde(with = "duration")]
    pub open_for: Duration,
    /// How long a request may go unanswered before its registry is suspect. It is suspect for requests to the same
    /// repository from the same namespace with the same credentials. A registry that left the last such request
    /// unanswered stays suspect until it answers one. Default: 1 s.
    #[serde(with = "duration")]
    pub suspect_after: Duration,
    /// How long a pod's review waits for an image of a suspect registry when nothing says that the pod runs on a Wasm
    /// runtime: no RuntimeClass, no annotation, no Wasm file as its command. The look-up continues for the next
    /// review. Default: 300 ms.
    #[serde(with = "duration")]
    pub patience: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(10),
            suspect_after: Duration::from_secs(1),
            patience: Duration::from_millis(300),
        }
    }
}

/// Why a registry is not asked now: its breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerOpen {
    /// It left this many requests in a row unanswered, and is tried again after this time.
    Silent { failures: u32, left: Duration },
    /// It asked for a pause that lasts this much longer.
    RetryAfter { left: Duration },
}

/// What an unanswered request counts against: one repository, asked for the pods of one namespace with their
/// credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) account: Account,
    pub(super) repository: String,
}

/// What a `Retry-After` applies to: registries limit an account or an address, not a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Account {
    pub(super) registry: String,
    /// Namespace of the pods; empty for the platform's own requests.
    pub(super) namespace: Arc<str>,
    /// Fingerprint of the pull secrets; empty without any.
    pub(super) credentials: Arc<str>,
}

/// Consecutive requests that failed.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: Option<Instant>,
    /// Whether a request is out that tries whether the registry answers again.
    probing: bool,
}

impl Failures {
    /// When the next request may try, if `enough` failures opened the breaker.
    fn open_until(&self, options: &BreakerOptions, enough: u32) -> Option<Instant> {
        let open = options.failures > 0 && self.count >= enough;
        self.last.filter(|_| open).map(|last| last + options.open_for)
    }

    fn add(&mut self, now: Instant) {
        *self = Self { count: self.count.saturating_add(1), last: Some(now), probing: false };
    }

    fn is_nothing(&self) -> bool {
        self.count == 0
    }

    /// Whether these failures may still hold a request back.
    fn counts(&self, options: &BreakerOptions, now: Instant) -> bool {
        self.last.is_some_and(|last| last + options.open_for > now)
    }
}

/// A host, for all callers.
#[derive(Debug, Clone, Copy, Default)]
struct HostState {
    /// Consecutive attempts to connect that failed.
    unreachable: Failures,
    /// Consecutive unanswered requests, of all scopes.
    silent: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Scoped {
    silent: Failures,
    /// Requests that have no answer yet.
    waiting: u32,
    /// When the first of them was sent, or when the registry last answered another request, if that is later.
    since: Option<Instant>,
}

impl Scoped {
    fn is_nothing(&self) -> bool {
        self.silent.is_nothing() && self.waiting == 0
    }
}

#[derive(Debug, Default)]
struct States {
    hosts: HashMap<String, HostState>,
    scopes: HashMap<Scope, Scoped>,
    /// When each account may be asked again.
    pauses: HashMap<Account, Instant>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    Silent,
    Unreachable,
}

/// The breakers of all registries.
#[derive(Debug)]
pub(super) struct Breakers {
    options: BreakerOptions,
    states: Mutex<States>,
    clock: Clock,
}

impl Breakers {
    pub(super) fn new(options: BreakerOptions) -> Arc<Self> {
        Arc::new(Self { options, states: Mutex::default(), clock: Clock::default() })
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permission for one request to a registry. The caller reports the outcome to the permit, or drops it.
    pub(super) fn enter(self: &Arc<Self>, scope: &Scope) -> Result<Permit, BreakerOpen> {
        let now = self.clock.now();
        let mut states = self.lock();
        if let Some(until) = states.pauses.get(&scope.account).filter(|until| **until > now) {
            return Err(BreakerOpen::RetryAfter { left: until.saturating_duration_since(now) });
        }
        let States { hosts, scopes, .. } = &mut *states;
        let (mut host, mut scoped) = (hosts.get_mut(&scope.account.registry), scopes.get_mut(scope));
        let in_vain = host.as_deref().filter(|host| self.is_silent(**host)).map(|host| host.silent);
        let enough = if in_vain.is_some() { 1 } else { self.options.failures };
        let of_host = host.as_mut().map(|host| (&mut host.unreachable, self.options.failures));
        let of_scope = scoped.as_mut().map(|scoped| (&mut scoped.silent, enough));
        let mut open: Vec<&mut Failures> = Vec::new();
        for (failures, enough) in of_host.into_iter().chain(of_scope) {
            let Some(until) = failures.open_until(&self.options, enough) else { continue };
            let left = until.saturating_duration_since(now);
            if failures.probing || !left.is_zero() {
                let failures = failures.count.max(in_vain.unwrap_or_default());
                return Err(BreakerOpen::Silent { failures, left });
            }
            open.push(failures);
        }
        // This request is the one that tries, for everything that is open.
        for failures in open {
            failures.probing = true;
        }
        drop(states);
        self.wait(scope, now);
        let (breakers, scope) = (Arc::clone(self), scope.clone());
        Ok(Permit { breakers, scope, outcome: Outcome::Silent, waiting: true })
    }

    fn wait(&self, scope: &Scope, now: Instant) {
        let mut states = self.lock();
        let worth_keeping = |scoped: &Scoped| scoped.waiting > 0 || scoped.silent.counts(&self.options, now);
        let Some(scoped) = entry(&mut states.scopes, scope, worth_keeping) else { return };
        scoped.waiting = scoped.waiting.saturating_add(1);
        scoped.since = scoped.since.or(Some(now));
    }

    /// Whether requests of this scope are likely to hang: the registry is unreachable, left the scope's last request
    /// unanswered, has one pending for too long, or answers no scope at all.
    pub(super) fn is_suspect(&self, scope: &Scope) -> bool {
        let now = self.clock.now();
        let states = self.lock();
        let host = states.hosts.get(&scope.account.registry).copied().unwrap_or_default();
        let scoped = states.scopes.get(scope).copied().unwrap_or_default();
        let since = scoped.since.filter(|_| scoped.waiting > 0);
        !host.unreachable.is_nothing()
            || self.is_silent(host)
            || !scoped.silent.is_nothing()
            || since.is_some_and(|since| now.saturating_duration_since(since) >= self.options.suspect_after)
    }

    /// Whether a host answers no scope: enough requests in a row were in vain.
    fn is_silent(&self, host: HostState) -> bool {
        self.options.failures > 0 && host.silent >= self.options.failures
    }

    /// Records that a registry asked for a pause.
    pub(super) fn pause(&self, account: &Account, wait: Duration) {
        let now = self.clock.now();
        let mut states = self.lock();
        if let Some(pause) = entry_or(&mut states.pauses, account, now, |until| *until > now) {
            *pause = now + wait.min(LONGEST_PAUSE);
        }
    }

    /// Records the outcome of a request; `waited` says whether it was counted as pending.
    fn settle(&self, scope: &Scope, waited: bool, outcome: Outcome) {
        let now = self.clock.now();
        let mut states = self.lock();
        match outcome {
            // One answer proves that the host answers.
            Outcome::Answered => {
                states.hosts.remove(&scope.account.registry);
            }
            _ => self.fail_host(&mut states, scope, outcome, now),
        }
        let worth_keeping = |scoped: &Scoped| scoped.waiting > 0 || scoped.silent.counts(&self.options, now);
        let Some(scoped) = entry(&mut states.scopes, scope, worth_keeping) else { return };
        scoped.waiting = scoped.waiting.saturating_sub(u32::from(waited));
        if outcome == Outcome::Answered {
            *scoped = Scoped { waiting: scoped.waiting, since: Some(now), ..Scoped::default() };
        } else {
            scoped.silent.add(now);
        }
        if scoped.waiting == 0 {
            scoped.since = None;
        }
        if scoped.is_nothing() {
            states.scopes.remove(scope);
        }
    }

    fn fail_host(&self, states: &mut States, scope: &Scope, outcome: Outcome, now: Instant) {
        let worth_keeping = |host: &HostState| host.unreachable.counts(&self.options, now);
        let Some(host) = entry(&mut states.hosts, &scope.account.registry, worth_keeping) else { return };
        if outcome == Outcome::Unreachable {
            host.unreachable.add(now);
        } else {
            // The connection was opened, so the host is up.
            *host = HostState { unreachable: Failures::default(), silent: host.silent.saturating_add(1) };
        }
    }
}

/// The entry of a key; `None` when the map is full and the key is new.
fn entry<'a, K: Clone + Eq + Hash, V: Default>(
    states: &'a mut HashMap<K, V>,
    key: &K,
    worth_keeping: impl Fn(&V) -> bool,
) -> Option<&'a mut V> {
    entry_or(states, key, V::default(), worth_keeping)
}

fn entry_or<'a, K: Clone + Eq + Hash, V>(
    states: &'a mut HashMap<K, V>,
    key: &K,
    new: V,
    worth_keeping: impl Fn(&V) -> bool,
) -> Option<&'a mut V> {
    if !states.contains_key(key) && states.len() >= MOST_STATES {
        states.retain(|_, state| worth_keeping(state));
        if states.len() >= MOST_STATES {
            return None;
        }
    }
    Some(states.entry(key.clone()).or_insert(new))
}

/// Permission to ask a registry. Dropped before the registry answered, it counts as a failure: the look-up ran out of
/// time.
#[derive(Debug)]
pub(super) struct Permit {
    breakers: Arc<Breakers>,
    scope: Scope,
    outcome: Outcome,
    /// Whether it is counted among the pending requests.
    waiting: bool,
}

impl Permit {
    /// The scope that it was given for.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The registry is asked again, or asked for the rest of its answer.
    pub(super) fn asks(&mut self) {
        self.outcome = Outcome::Silent;
        if !std::mem::replace(&mut self.waiting, true) {
            self.breakers.wait(&self.scope, self.breakers.clock.now());
        }
    }

    /// The registry answered, with whatever status. Call it as soon as the answer is there, before judging the content.
    pub(super) fn answered(&mut self) {
        self.outcome = Outcome::Answered;
        self.breakers.settle(&self.scope, std::mem::take(&mut self.waiting), Outcome::Answered);
    }

    /// The registry did not answer after all: the answer came from a proxy in front of it.
    pub(super) fn silent(&mut self) {
        self.outcome = Outcome::Silent;
    }

    /// No connection could be opened.
    pub(super) fn unreachable(&mut self) {
        self.outcome = Outcome::Unreachable;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.waiting || self.outcome != Outcome::Answered {
            self.breakers.settle(&self.scope, self.waiting, self.outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakers(failures: u32) -> Arc<Breakers> {
        Breakers::new(BreakerOptions {
            failures,
            open_for: Duration::from_mins(50),
            suspect_after: Duration::from_mins(30),
            ..BreakerOptions::default()
        })
    }

    /// The scope of a namespace's pods that ask for a repository.
    fn of(namespace: &str, repository: &str) -> Scope {
        let (registry, namespace, credentials) = ("r".into(), namespace.into(), "".into());
        Scope { account: Account { registry, namespace, credentials }, repository: repository.into() }
    }

    fn app() -> Scope {
        of("shop", "app")
    }

    fn elsewhere() -> Scope {
        let account = Account { registry: "other".into(), ..app().account };
        Scope { account, ..app() }
    }

    fn fail(breakers: &Arc<Breakers>, scope: &Scope, times: usize) {
        for _ in 0..times {
            drop(breakers.enter(scope).unwrap());
        }
    }

    fn fail_to_connect(breakers: &Arc<Breakers>, scope: &Scope) {
        breakers.enter(scope).unwrap().unreachable();
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_for_that_registry_only() {
        let breakers = breakers(3);
        fail(&breakers, &app(), 2);
        breakers.enter(&app()).unwrap().answered();
        fail(&breakers, &app(), 3);
        assert!(matches!(breakers.enter(&app()), Err(BreakerOpen::Silent { failures: 3, .. })));
        assert!(breakers.enter(&elsewhere()).is_ok());
    }

    #[test]
    fn hanging_requests_of_one_tenant_open_no_breaker_for_another() {
        let breakers = breakers(3);
        let hanging: Vec<_> = (0..12).map(|number| of("evil", &format!("slow{number}"))).collect();
        let permits: Vec<_> = hanging.iter().map(|scope| breakers.enter(scope).unwrap()).collect();
        assert!(!breakers.is_suspect(&app()), "while they hang");
        drop(permits);
        for scope in &hanging {
            assert!(
                breakers.enter(scope).is_err(),
                "the registry answers no scope, so one failure is enough"
            );
        }
        for other in [of("shop", "slow1"), of("evil", "quick"), app()] {
            let mut permit = breakers.enter(&other).unwrap();
            permit.answered();
        }
        assert!(!breakers.is_suspect(&app()) && breakers.is_suspect(&hanging[0]));
        let [mine, theirs] = ["", "secret"].map(|credentials| {
            let account = Account { credentials: credentials.into(), ..app().account };
            Scope { account, ..app() }
        });
        fail(&breakers, &theirs, 3);
        assert!(breakers.enter(&theirs).is_err());
        assert!(breakers.enter(&mine).is_ok(), "other credentials may be better");
    }

    #[test]
    fn a_host_that_answers_no_scope_costs_each_scope_one_wait() {
        let breakers = breakers(3);
        for tenant in ["a", "b", "c"] {
            fail(&breakers, &of(tenant, "app"), 1);
        }
        assert!(breakers.is_suspect(&app()), "it answers no scope");
        fail(&breakers, &app(), 1);
        assert!(matches!(breakers.enter(&app()), Err(BreakerOpen::Silent { .. })));
        breakers.enter(&of("d", "app")).unwrap().answered();
        fail(&breakers, &of("e", "app"), 1);
        assert!(breakers.enter(&of("e", "app")).is_ok(), "it answers again");
    }

    #[test]
    fn an_unreachable_host_is_closed_to_all_scopes() {
        let breakers = breakers(3);
        for tenant in ["a", "b", "c"] {
            fail_to_connect(&breakers, &of(tenant, "app"));
        }
        assert!(matches!(breakers.enter(&app()), Err(BreakerOpen::Silent { failures: 3, .. })));
        assert!(breakers.is_suspect(&app()) && breakers.enter(&elsewhere()).is_ok());
        breakers.clock.put_forward(Duration::from_hours(1));
        let mut probe = breakers.enter(&app()).unwrap();
        assert!(breakers.enter(&of("b", "other")).is_err(), "one probe at a time");
        probe.answered();
        drop(probe);
        assert!(breakers.enter(&of("b", "other")).is_ok());
    }

    #[test]
    fn one_request_tries_whether_the_registry_is_back() {
        let breakers = breakers(1);
        fail(&breakers, &app(), 1);
        breakers.clock.put_forward(Duration::from_hours(1));
        let mut probe = breakers.enter(&app()).unwrap();
        assert!(breakers.enter(&app()).is_err(), "one probe at a time");
        probe.answered();
        drop(probe);
        assert!(breakers.enter(&app()).is_ok());
        assert!(breakers.lock().scopes.len() <= 1);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let breakers = breakers(1);
        fail(&breakers, &app(), 1);
        breakers.clock.put_forward(Duration::from_hours(1));
        drop(breakers.enter(&app()).unwrap());
        assert!(matches!(breakers.enter(&app()), Err(BreakerOpen::Silent { failures: 2, .. })));
    }

    #[test]
    fn a_requested_pause_is_kept_although_others_are_answered() {
        let breakers = breakers(3);
        let mut under_way = breakers.enter(&app()).unwrap();
        breakers.pause(&app().account, Duration::from_mins(50));
        under_way.answered();
        drop(under_way);
        let closed = |scope: &Scope| breakers.enter(scope);
        assert!(
            matches!(closed(&app()), Err(BreakerOpen::RetryAfter { left }) if left <= Duration::from_mins(50))
        );
        assert!(closed(&of("shop", "other")).is_err(), "an account is limited, not a repository");
        assert!(closed(&of("elsewhere", "app")).is_ok(), "and not another account");
        breakers.clock.put_forward(Duration::from_mins(90));
        assert!(closed(&app()).is_ok());
        breakers.pause(&app().account, Duration::MAX);
        assert!(matches!(closed(&app()), Err(BreakerOpen::RetryAfter { left }) if left <= LONGEST_PAUSE));
    }

    #[test]
    fn a_hanging_request_makes_its_registry_suspect_before_it_fails() {
        let breakers = breakers(3);
        let hangs = breakers.enter(&app()).unwrap();
        assert!(!breakers.is_suspect(&app()));
        breakers.clock.put_forward(Duration::from_mins(40));
        assert!(breakers.is_suspect(&app()) && !breakers.is_suspect(&elsewhere()));
        assert!(!breakers.is_suspect(&of("other", "app")), "to those who wait for it");
        breakers.enter(&app()).unwrap().answered();
        assert!(!breakers.is_suspect(&app()), "one image may be slow where others are not");
        breakers.clock.put_forward(Duration::from_mins(40));
        assert!(breakers.is_suspect(&app()), "and nothing was answered since");
        drop(hangs);
        assert!(breakers.is_suspect(&app()), "until it answers");
        breakers.enter(&app()).unwrap().answered();
        assert!(!breakers.is_suspect(&app()));
        assert!(breakers.lock().scopes.is_empty() && breakers.lock().hosts.is_empty());
    }

    #[test]
    fn an_answer_counts_when_it_arrives_and_not_when_its_body_ends() {
        let breakers = breakers(3);
        fail(&breakers, &app(), 2);
        let mut reads = breakers.enter(&app()).unwrap();
        reads.answered();
        breakers.clock.put_forward(Duration::from_mins(40));
        assert!(!breakers.is_suspect(&app()), "a layer may take its time");
        fail(&breakers, &app(), 1);
        drop(reads);
        assert!(breakers.is_suspect(&app()), "a later failure is not taken back by an earlier answer");
    }

    #[test]
    fn never_is_never() {
        let breakers = breakers(0);
        fail(&breakers, &app(), 100);
        (0..100).for_each(|_| fail_to_connect(&breakers, &app()));
        assert!(breakers.enter(&app()).is_ok());
    }

    #[test]
    fn foreign_names_cannot_fill_the_memory() {
        let breakers = breakers(100);
        for number in 0..2 * MOST_STATES {
            let scope = of("shop", &number.to_string());
            let account = Account { registry: number.to_string(), ..scope.account };
            drop(breakers.enter(&Scope { account: account.clone(), ..scope }).unwrap());
            breakers.pause(&account, Duration::from_hours(1));
        }
        let states = breakers.lock();
        let lengths = [states.hosts.len(), states.scopes.len(), states.pauses.len()];
        assert!(lengths.into_iter().all(|length| length <= MOST_STATES), "{lengths:?}");
    }
}
