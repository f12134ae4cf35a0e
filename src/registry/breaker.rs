//! A circuit breaker for each registry: one that does not answer is left alone for a while, and so is one that asked
//! for it by `Retry-After`. Reviews then fail at once with a clear message instead of one by one after their budgets,
//! and what tags meant before is served meanwhile.
//!
//! A request that hangs fails only after seconds. Until then its registry is suspect, and pods that most probably have
//! nothing to do with Wasm do not wait for it for longer than a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

/// Registries that a state is kept of. Anybody can name a new one, and only those that fail have a state.
const MOST_REGISTRIES: usize = 4096;

/// Longest time that a `Retry-After` is honoured for: a registry that means more has made a mistake.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// When a registry that does not answer is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BreakerOptions {
    /// Requests in a row that a registry did not answer (no connection, no answer in time, status 502, 503 or 504)
    /// before it is left alone. 0 means never. Default: 5.
    pub failures: u32,
    /// How long it is left alone before one request tries again. Default: 10 s.
    #[serde(with = "duration")]
    pub open_for: Duration,
    /// How long a request may be without an answer, while no other one is answered, before its registry is suspect. A
    /// registry that did not answer the last request is suspect until it answers one. Default: 1 s.
    #[serde(with = "duration")]
    pub suspect_after: Duration,
    /// How long the review of a pod waits for an image of a suspect registry when nothing says that the pod runs on a
    /// Wasm runtime: no RuntimeClass, no annotation, no Wasm file as its command. The look-up goes on for the next
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

/// Why a registry is not asked now: its circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerOpen {
    /// It did not answer so many requests in a row; it is tried again after this time.
    Silent { failures: u32, left: Duration },
    /// It said to be left alone for this much longer.
    RetryAfter { left: Duration },
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    /// Somebody is trying whether the registry answers again.
    probing: bool,
    not_before: Option<Instant>,
    /// Requests without an answer yet.
    waiting: u32,
    /// When the first of them was sent, or when the registry last answered another one.
    silent_since: Option<Instant>,
}

impl State {
    fn is_nothing(&self) -> bool {
        let Self { failures, open_until, probing, not_before, waiting, silent_since: _ } = *self;
        failures == 0 && open_until.is_none() && !probing && not_before.is_none() && waiting == 0
    }
}

/// The breakers of all registries.
#[derive(Debug)]
pub(super) struct Breakers {
    options: BreakerOptions,
    states: Mutex<HashMap<String, State>>,
}

impl Breakers {
    pub(super) fn new(options: BreakerOptions) -> Arc<Self> {
        Arc::new(Self { options, states: Mutex::default() })
    }

    /// Permission to ask a registry once. The caller reports the outcome to the permit, or drops it, which counts as a failure.
    pub(super) fn enter(self: &Arc<Self>, registry: &str) -> Result<Permit, BreakerOpen> {
        let now = Instant::now();
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = states.get_mut(registry) {
            let left = |until: Option<Instant>| until.map(|until| until.saturating_duration_since(now));
            if let Some(left) = left(state.not_before).filter(|left| !left.is_zero()) {
                return Err(BreakerOpen::RetryAfter { left });
            }
            if let Some(left) = left(state.open_until) {
                if state.probing || !left.is_zero() {
                    return Err(BreakerOpen::Silent { failures: state.failures, left });
                }
                state.probing = true;
            }
        }
        drop(states);
        self.wait(registry, now);
        Ok(Permit { breakers: Arc::clone(self), registry: registry.into(), answered: false, waiting: true })
    }

    fn wait(&self, registry: &str, now: Instant) {
        self.change(registry, |state| {
            state.waiting = state.waiting.saturating_add(1);
            state.silent_since = state.silent_since.or(Some(now));
        });
    }

    /// Whether a registry left its last request unanswered, or leaves one unanswered for long already.
    pub(super) fn is_suspect(&self, registry: &str) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(registry).is_some_and(|state| {
            let silent = state.silent_since.filter(|_| state.waiting > 0);
            state.failures > 0 || silent.is_some_and(|since| since.elapsed() >= self.options.suspect_after)
        })
    }

    /// A registry said to be left alone.
    pub(super) fn pause(&self, registry: &str, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_PAUSE);
        self.change(registry, |state| state.not_before = Some(until));
    }

    /// A request is no longer waited for; a registry that answered is one that answers.
    fn settle(&self, registry: &str, waited: bool, answered: bool) {
        let now = Instant::now();
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = states.get_mut(registry) else {
            drop(states);
            if !answered {
                self.change(registry, |state| self.fail(state, now));
            }
            return;
        };
        state.waiting = state.waiting.saturating_sub(u32::from(waited));
        if answered {
            let not_before = state.not_before.filter(|until| *until > now);
            *state =
                State { not_before, waiting: state.waiting, silent_since: Some(now), ..State::default() };
        } else {
            self.fail(state, now);
        }
        if state.waiting == 0 {
            state.silent_since = None;
        }
        if state.is_nothing() {
            states.remove(registry);
        }
    }

    fn fail(&self, state: &mut State, now: Instant) {
        state.failures = state.failures.saturating_add(1);
        state.probing = false;
        if self.options.failures > 0 && state.failures >= self.options.failures {
            state.open_until = Some(now + self.options.open_for);
        }
    }

    fn change(&self, registry: &str, change: impl FnOnce(&mut State)) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if !states.contains_key(registry) && states.len() >= MOST_REGISTRIES {
            let now = Instant::now();
            let waits = |until: Option<Instant>| until.is_some_and(|until| until > now);
            states.retain(|_, state| state.waiting > 0 || waits(state.open_until) || waits(state.not_before));
            if states.len() >= MOST_REGISTRIES {
                return;
            }
        }
        change(states.entry(registry.to_string()).or_default());
    }
}

/// Permission to ask a registry. Dropped before the registry answered, it counts as a failure: the look-up ran out of time.
#[derive(Debug)]
pub(super) struct Permit {
    breakers: Arc<Breakers>,
    registry: String,
    answered: bool,
    /// Counted among the requests without an answer.
    waiting: bool,
}

impl Permit {
    /// The registry is asked again, or for the rest of its answer.
    pub(super) fn asks(&mut self) {
        self.answered = false;
        if !std::mem::replace(&mut self.waiting, true) {
            self.breakers.wait(&self.registry, Instant::now());
        }
    }

    /// The registry answered, whatever it said. It counts at once: what follows is about what it said.
    pub(super) fn answered(&mut self) {
        self.answered = true;
        self.breakers.settle(&self.registry, std::mem::take(&mut self.waiting), true);
    }

    /// The registry did not answer after all: what it sent came from something in front of it.
    pub(super) fn silent(&mut self) {
        self.answered = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.waiting || !self.answered {
            self.breakers.settle(&self.registry, self.waiting, self.answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakers(failures: u32) -> Arc<Breakers> {
        Breakers::new(BreakerOptions {
            failures,
            open_for: Duration::from_millis(50),
            suspect_after: Duration::from_millis(30),
            ..BreakerOptions::default()
        })
    }

    fn fail(breakers: &Arc<Breakers>, times: usize) {
        for _ in 0..times {
            drop(breakers.enter("r").unwrap());
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_for_that_registry_only() {
        let breakers = breakers(3);
        fail(&breakers, 2);
        breakers.enter("r").unwrap().answered();
        fail(&breakers, 3);
        assert!(matches!(breakers.enter("r"), Err(BreakerOpen::Silent { failures: 3, .. })));
        assert!(breakers.enter("other").is_ok());
    }

    #[test]
    fn one_request_tries_whether_the_registry_is_back() {
        let breakers = breakers(1);
        fail(&breakers, 1);
        std::thread::sleep(Duration::from_millis(60));
        let mut probe = breakers.enter("r").unwrap();
        assert!(breakers.enter("r").is_err(), "one probe at a time");
        probe.answered();
        drop(probe);
        assert!(breakers.enter("r").is_ok());
        assert!(breakers.states.lock().unwrap().len() <= 1);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let breakers = breakers(1);
        fail(&breakers, 1);
        std::thread::sleep(Duration::from_millis(60));
        drop(breakers.enter("r").unwrap());
        assert!(matches!(breakers.enter("r"), Err(BreakerOpen::Silent { failures: 2, .. })));
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_although_others_are_answered() {
        let breakers = breakers(3);
        let mut under_way = breakers.enter("r").unwrap();
        breakers.pause("r", Duration::from_millis(80));
        under_way.answered();
        drop(under_way);
        assert!(
            matches!(breakers.enter("r"), Err(BreakerOpen::RetryAfter { left }) if left <= Duration::from_millis(80))
        );
        std::thread::sleep(Duration::from_millis(90));
        assert!(breakers.enter("r").is_ok());
        breakers.pause("r", Duration::MAX);
        assert!(
            matches!(breakers.enter("r"), Err(BreakerOpen::RetryAfter { left }) if left <= LONGEST_PAUSE)
        );
    }

    #[test]
    fn a_request_that_hangs_makes_its_registry_suspect_before_it_fails() {
        let breakers = breakers(3);
        let hangs = breakers.enter("r").unwrap();
        assert!(!breakers.is_suspect("r"));
        std::thread::sleep(Duration::from_millis(40));
        assert!(breakers.is_suspect("r") && !breakers.is_suspect("other"));
        breakers.enter("r").unwrap().answered();
        assert!(!breakers.is_suspect("r"), "one image may be slow where others are not");
        std::thread::sleep(Duration::from_millis(40));
        assert!(breakers.is_suspect("r"), "and nothing was answered since");
        drop(hangs);
        assert!(breakers.is_suspect("r"), "until it answers");
        breakers.enter("r").unwrap().answered();
        assert!(!breakers.is_suspect("r"));
        assert!(breakers.states.lock().unwrap().is_empty());
    }

    #[test]
    fn an_answer_counts_when_it_comes_and_not_when_its_body_ends() {
        let breakers = breakers(3);
        fail(&breakers, 2);
        let mut reads = breakers.enter("r").unwrap();
        reads.answered();
        std::thread::sleep(Duration::from_millis(40));
        assert!(!breakers.is_suspect("r"), "a layer may take its time");
        fail(&breakers, 1);
        drop(reads);
        assert!(breakers.is_suspect("r"), "a later failure is not taken back by an earlier answer");
    }

    #[test]
    fn never_is_never() {
        let breakers = breakers(0);
        fail(&breakers, 100);
        assert!(breakers.enter("r").is_ok());
    }

    #[test]
    fn foreign_names_cannot_fill_the_memory() {
        let breakers = breakers(100);
        for number in 0..2 * MOST_REGISTRIES {
            drop(breakers.enter(&number.to_string()).unwrap());
        }
        assert!(breakers.states.lock().unwrap().len() <= MOST_REGISTRIES);
    }
}
