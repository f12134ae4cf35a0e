//! The turn of an ordinary review: a place among the evaluations that it takes before the input of its rules is made. The input is then made and
//! judged in one go, on one thread, which the caller has set free for it. A review that hands its input to another thread and waits for what
//! comes back is in the queue of the machine three times, once for each thread that goes on with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use super::engine::{Stop, end_of};
use super::evaluation::{Evaluation, Failed, Found};
use super::input;
use super::lanes::{self, Leave};
use super::set::{LoadedBundle, PolicySet};

/// Largest object, in bytes, of a review that takes a turn. Its pod has a few containers, so what rules read is small too as a rule (`lanes`). What its
/// images can do may make it more.
const MOST_BYTES: usize = 32 << 10;

/// A place among the evaluations, held until this is dropped.
#[derive(Debug)]
pub struct Turn<'s> {
    set: &'s PolicySet,
    loaded: &'s Arc<LoadedBundle>,
    /// `None` if the place did not come in time.
    leave: Option<Leave>,
}

impl PolicySet {
    /// Waits for the turn of a review of this namespace, about an object of so many bytes, no longer than what is `left` to it. `None` where it takes
    /// none: several bundles run at the same time on threads of their own, and a large input runs where it keeps no small one waiting.
    pub async fn turn(&self, namespace: &str, object_bytes: usize, left: Duration) -> Option<Turn<'_>> {
        let loaded = self.sole().filter(|_| object_bytes <= MOST_BYTES)?;
        let leave = self.lanes.enter(&Arc::from(namespace), object_bytes, end_of(left).into()).await;
        Some(Turn { set: self, loaded, leave })
    }

    /// The bundle that judges, if there is one and it decides.
    fn sole(&self) -> Option<&Arc<LoadedBundle>> {
        let mut judging = self.judging();
        let first = judging.next().filter(|loaded| !loaded.program.bundle.is_shadow)?;
        judging.next().is_none().then_some(first)
    }
}

impl<'s> Turn<'s> {
    /// What the bundle finds, as [`PolicySet::evaluate`] says it. Runs on this thread, which must be free to block, until the evaluation ends, or its
    /// time, which begins now, or what is `left` to the review. The error is an input that is large, whatever the size of its object. The place is free again.
    pub fn evaluate<I: Serialize>(self, input: &I, left: Duration) -> Result<Evaluation, LargeInput<'s>> {
        let time = self.set.limits.time.min(left);
        let (stop, _guard) = Stop::at(Instant::now() + time);
        let outcome = match input::text(input, self.loaded.program.bundle.unread()) {
            Ok(input) if !lanes::is_small(input.len()) => {
                return Err(LargeInput { set: self.set, loaded: self.loaded, input });
            }
            Ok(input) => Handle::current().block_on(self.found(&input, time, &stop)),
            Err(reason) => Err(reason.into()),
        };
        Ok(evaluation(self.loaded, outcome))
    }

    async fn found(&self, input: &str, time: Duration, stop: &Stop) -> Result<Found, Failed> {
        let (set, loaded) = (self.set, self.loaded);
        let key = match set.find(loaded, input).await {
            Ok(found) => return Ok(found),
            Err(key) => key,
        };
        // What was found earlier needs no place.
        let leave = self.leave.as_ref().ok_or_else(Failed::without_place)?;
        let ran = loaded.run(input, set.limits, stop);
        let ran = ran.map_err(|reason| Failed::at(leave, reason, time, set.limits.time))?;
        Ok(set.kept(key, ran).await)
    }
}

/// The input of a [`Turn`] that turned out to be large. Written once, since that takes time in proportion to it.
#[derive(Debug)]
pub struct LargeInput<'s> {
    set: &'s PolicySet,
    loaded: &'s Arc<LoadedBundle>,
    input: String,
}

impl LargeInput<'_> {
    /// What the bundle finds in the time that is `left` to the review, as [`PolicySet::evaluate_with_shadow`] says it of an object of this namespace: on a
    /// blocking thread, among the large inputs.
    pub async fn evaluate(self, namespace: &str, left: Duration) -> Evaluation {
        let (stop, _guard) = Stop::at(end_of(left));
        let input =
            RawValue::from_string(self.input).map(Arc::from).map_err(|error| input::not_written(&error));
        let found = self.set.find_or_run(self.loaded, &Arc::from(namespace), input, &stop).await;
        evaluation(self.loaded, found)
    }
}

/// What the only bundle that judges came to.
fn evaluation(loaded: &LoadedBundle, outcome: Result<Found, Failed>) -> Evaluation {
    let found = outcome.map(|found| loaded.annotated(found));
    Evaluation::of(vec![(&loaded.program.bundle.name, found)])
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use serde::Serializer;
    use serde_json::Value;
    use tokio::task::block_in_place;

    use super::super::lanes::Lanes;
    use super::super::{Bundle, Engine, Limits, blames_load};
    use super::*;

    const REFUSED: &str = include_str!("../../tests/fixtures/policies/refused.v1alpha1.json");
    const AMPLE: Duration = Duration::from_mins(10);

    /// One processor: two evaluations at a time, one of which a namespace may have.
    async fn baseline(verdict_bytes: u64) -> PolicySet {
        let mut engine = Engine::new().unwrap().remembering(verdict_bytes);
        engine.lanes = Arc::new(Lanes::new(1));
        let limits = Limits { time: AMPLE, ..Limits::default() };
        PolicySet::load(&engine, vec![Bundle::embedded().unwrap()], limits).await.unwrap()
    }

    fn refused() -> Value {
        serde_json::from_str(REFUSED).unwrap()
    }

    async fn evaluated(set: &PolicySet, input: &Value, left: Duration) -> Evaluation {
        let turn = set.turn("shop", 1_000, AMPLE).await.unwrap();
        block_in_place(|| turn.evaluate(input, left)).unwrap()
    }

    /// An input that counts how often it is written.
    struct Counted(Value, AtomicUsize);

    impl Serialize for Counted {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.serialize(serializer)
        }
    }

    fn with_containers(input: &Value, count: usize) -> Value {
        let mut many = input.clone();
        let container = many["containers"][0].clone();
        many["containers"] = std::iter::repeat_n(container, count).collect();
        many
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_turn_finds_what_an_evaluation_on_another_thread_finds_and_what_it_found_is_kept() {
        let (set, input) = (baseline(1 << 20).await, refused());
        let found = evaluated(&set, &input, AMPLE).await;
        assert!(!found.violations.is_empty() && found.failures.is_empty(), "{found:?}");
        let again = evaluated(&set, &input, AMPLE).await;
        assert!(!found.is_cached && again.is_cached);
        assert_eq!(Evaluation { is_cached: true, ..found }, set.evaluate(&input).await);
        let forgetful = baseline(0).await;
        assert_eq!(evaluated(&forgetful, &input, AMPLE).await, forgetful.evaluate(&input).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_turn_ends_with_the_time_of_its_review() {
        let (set, input) = (baseline(0).await, refused());
        // More than is done between two looks at the clock.
        let many = with_containers(&input, 20);
        let found = evaluated(&set, &many, Duration::ZERO).await;
        assert!(found.failures.len() == 1 && blames_load(&found.failures[0].message), "{found:?}");
        assert_eq!(found.overloaded, 0, "it waited for no other");
        assert!(evaluated(&set, &input, AMPLE).await.failures.is_empty(), "the next one is not hurt");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn one_namespace_leaves_turns_to_the_others_and_gives_them_back() {
        let set = baseline(0).await;
        let held = set.turn("evil", 1_000, AMPLE).await.unwrap();
        assert!(set.turn("evil", 1_000, AMPLE).now_or_never().is_none(), "more than half");
        assert!(set.turn("shop", 1_000, AMPLE).now_or_never().flatten().is_some());
        drop(held);
        assert!(set.turn("evil", 1_000, AMPLE).now_or_never().flatten().is_some());
        assert!(set.turn("evil", MOST_BYTES + 1, AMPLE).await.is_none(), "as large ones do");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_turn_that_does_not_come_in_time_is_a_failure_that_blames_the_load() {
        let set = baseline(0).await;
        let _held = set.turn("shop", 1_000, AMPLE).await.unwrap();
        let late = set.turn("shop", 1_000, Duration::from_millis(1)).await.unwrap();
        assert!(late.leave.is_none());
        let found = block_in_place(|| late.evaluate(&refused(), AMPLE)).unwrap();
        assert!(found.overloaded == 1 && blames_load(&found.failures[0].message), "{found:?}");
        assert!(set.turn("shop", 1_000, Duration::ZERO).await.is_some_and(|turn| turn.leave.is_none()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_turn_is_waited_for_longer_than_an_evaluation_may_take_and_its_time_begins_with_it() {
        let set = baseline(0).await;
        let mut brief = set.clone();
        brief.limits.time = Duration::from_millis(500);
        let held = set.turn("shop", 1_000, AMPLE).await.unwrap();
        let mut waiting = Box::pin(brief.turn("shop", 1_000, AMPLE));
        assert!((&mut waiting).now_or_never().is_none());
        // For longer than an evaluation may take.
        tokio::time::sleep(brief.limits.time + Duration::from_millis(50)).await;
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        let turn = waiting.await.unwrap();
        let found = block_in_place(|| turn.evaluate(&refused(), AMPLE)).unwrap();
        assert!(found.failures.is_empty() && !found.violations.is_empty(), "{found:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_turn_that_leaves_less_time_than_it_was_waited_for_is_to_blame_where_that_is_not_enough() {
        let set = baseline(0).await;
        let held = set.turn("shop", 1_000, AMPLE).await.unwrap();
        let mut waiting = Box::pin(set.turn("shop", 1_000, AMPLE));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        let turn = waiting.await.unwrap();
        let many = with_containers(&refused(), 20);
        let found = block_in_place(|| turn.evaluate(&many, Duration::ZERO)).unwrap();
        assert!(found.failures.len() == 1 && found.overloaded == 1, "{found:?}");
    }

    /// The container of a pod of a few bytes may have an image that can do a lot.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_input_of_a_small_object_takes_no_place_among_the_small_ones_and_is_written_once() {
        let (set, input) = (baseline(1 << 20).await, refused());
        let many = with_containers(&input, 400);
        assert!(many.to_string().len() > 192 << 10);
        let turn = set.turn("shop", 1_000, AMPLE).await.unwrap();
        let many = Counted(many, AtomicUsize::new(0));
        let large = block_in_place(|| turn.evaluate(&many, AMPLE)).unwrap_err();
        let places = ["shop", "other"].map(|name| set.turn(name, 1_000, AMPLE).now_or_never().flatten());
        assert!(places.iter().all(Option::is_some), "it holds none");
        let found = large.evaluate("shop", AMPLE).await;
        assert!(!found.violations.is_empty() && found.failures.is_empty(), "{found:?}");
        assert_eq!(many.1.load(Ordering::Relaxed), 2, "once for its options alone, and once as a whole");
        assert_eq!(Evaluation { is_cached: true, ..found }, set.evaluate(&many.0).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_was_found_earlier_is_found_again_without_a_place() {
        let (set, input) = (baseline(1 << 20).await, refused());
        let found = evaluated(&set, &input, AMPLE).await;
        let mut late = set.turn("shop", 1_000, AMPLE).await.unwrap();
        late.leave = None;
        let again = block_in_place(|| late.evaluate(&input, AMPLE)).unwrap();
        assert_eq!(again, Evaluation { is_cached: true, ..found });
    }
}
