//! All bundles: compiles and checks them once, then runs them on every input with reused instances.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, join_all, select};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::demand;
use super::engine::{Stop, end_of};
use super::evaluation::{Evaluation, Failed, Found};
use super::identity::Identity;
use super::idle::Idle;
use super::instance::Instance;
use super::lanes::Lanes;
use super::locations;
use super::outcome::{FoundViolations, ResultSet};
use super::program::CheckedModule;
use super::verdicts::{BundleId, Key, VerdictCounts, Verdicts};
use super::{Bundle, ENTRYPOINT, Engine, Error, LOG_DROP, LOG_MASK, Limits, Violation, input};
use crate::rego::Asked;
use crate::shares::processors;

/// Time limit for checking and starting a module when its bundle is loaded. No review waits for that, and large data
/// needs time.
const START_TIME: Duration = Duration::from_secs(10);

/// How long an answer waits for bundles in the shadow after the others are done: longer than they take unless something is
/// wrong with them, and less than a person notices.
const SHADOW: Duration = Duration::from_millis(250);

/// All loaded bundles. Cheap to clone, since the bundles are shared.
#[derive(Debug, Clone)]
pub struct PolicySet {
    pub(super) lanes: Arc<Lanes>,
    verdicts: Arc<Verdicts>,
    pub(super) limits: Limits,
    pub(super) loaded: Vec<Arc<LoadedBundle>>,
    /// See [`Self::rules`].
    pub(super) rules: Option<Arc<BTreeSet<String>>>,
    /// See [`Self::rules_in_force`].
    pub(super) rules_in_force: Option<Arc<BTreeSet<String>>>,
    /// See [`Self::revisions`].
    pub(super) revisions: Arc<BTreeMap<String, String>>,
    /// See [`Self::has_log_rules`].
    pub(super) has_log_rules: bool,
}

/// A bundle that was compiled, checked and tried, for a [`PolicySet`].
#[derive(Debug, Clone)]
pub struct Loaded(Arc<LoadedBundle>);

impl Loaded {
    /// Compiles, checks, warms up and tries a bundle, on a blocking thread. Needs a Tokio runtime.
    pub async fn open(engine: &Engine, bundle: Bundle, limits: Limits) -> Result<Self, Error> {
        limits.check()?;
        let (name, engine) = (bundle.name.clone(), engine.clone());
        let opened = spawn_blocking(move || LoadedBundle::open(&engine, bundle, limits)).await;
        let failed = |error: JoinError| Error::StartModule { bundle: name, reason: error.to_string() };
        Ok(Self(Arc::new(opened.map_err(failed)??)))
    }

    /// The bundle's name.
    pub fn name(&self) -> &str {
        &self.0.program.bundle.name
    }

    /// Its revision.
    pub fn revision(&self) -> &str {
        &self.0.program.bundle.revision
    }

    /// What is not as its author may think, as sentences.
    pub fn warnings(&self) -> &[String] {
        &self.0.program.bundle.warnings
    }

    /// Why it cannot judge an ordinary pod, if it cannot: every pod would be refused.
    pub fn unfit(&self) -> Option<&str> {
        self.0.unfit.first().map(String::as_str)
    }

    /// Its place in the order of the bundles of its name, if it has one.
    pub fn sequence(&self) -> Option<u64> {
        self.0.program.bundle.sequence
    }
}

/// What an evaluation came to.
pub(super) struct Ran {
    pub(super) violations: Vec<Violation>,
    /// What it asked for that does not follow from its input.
    asked: Asked,
}

/// One loaded bundle and its instances.
pub(super) struct LoadedBundle {
    /// Its identity in what is kept of evaluations; `None` if its input never repeats.
    repeats: Option<BundleId>,
    /// What its rules get of the identity of an input and do not read.
    identity: Identity,
    pub(super) program: CheckedModule,
    /// Number of [`ENTRYPOINT`]; `None` for a bundle that judges nothing.
    pub(super) entrypoint: Option<i32>,
    /// Why it cannot judge ordinary pods; empty if it can.
    pub(super) unfit: BTreeSet<String>,
    /// Idle instances.
    idle: Idle<Instance>,
}

impl std::fmt::Debug for LoadedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedBundle").field("bundle", &self.program.bundle).finish_non_exhaustive()
    }
}

impl PolicySet {
    /// Compiles, checks and tries every bundle; the first unusable one is the error. Compiling takes a large part of a second
    /// for each bundle and runs on blocking threads, on all processors. Needs a Tokio runtime.
    pub async fn load(engine: &Engine, bundles: Vec<Bundle>, limits: Limits) -> Result<Self, Error> {
        // Also where there is no bundle.
        limits.check()?;
        let opening = bundles.into_iter().map(|bundle| Loaded::open(engine, bundle, limits));
        let loaded = stream::iter(opening).buffered(processors()).try_collect().await?;
        Self::of(engine, limits, loaded)
    }

    /// The set of these bundles, which were loaded with the same engine and limits. Refuses two of the same name.
    pub fn of(engine: &Engine, limits: Limits, loaded: Vec<Loaded>) -> Result<Self, Error> {
        let mut names = BTreeSet::new();
        if let Some(twice) = loaded.iter().find(|loaded| !names.insert(loaded.name().to_owned())) {
            return Err(Error::NameBundle { bundle: twice.name().into() });
        }
        let loaded = loaded.into_iter().map(|Loaded(loaded)| loaded).collect::<Vec<_>>();
        let (lanes, verdicts) = (Arc::clone(&engine.lanes), Arc::clone(&engine.verdicts));
        let set = Self {
            lanes,
            verdicts,
            limits,
            loaded,
            rules: None,
            rules_in_force: None,
            revisions: Arc::default(),
            has_log_rules: false,
        };
        Ok(set.with_summaries())
    }

    /// The same set with this bundle in the place of the one of its name, or beside the others if there is none. What runs on the
    /// former one ends on it.
    #[must_use]
    pub fn with(&self, Loaded(new): &Loaded) -> Self {
        let mut set = self.clone();
        match set.loaded.iter_mut().find(|loaded| loaded.program.bundle.name == new.program.bundle.name) {
            Some(loaded) => *loaded = Arc::clone(new),
            None => set.loaded.push(Arc::clone(new)),
        }
        set.with_summaries()
    }

    /// The same set with what follows from its bundles, so that no review asks each of them.
    fn with_summaries(self) -> Self {
        let (rules, rules_in_force) = (rules_of(self.judging()), rules_of(self.bundles(false)));
        let has_log_rules = [LOG_MASK, LOG_DROP].into_iter().any(|entrypoint| self.has(entrypoint));
        let bundles = self.loaded.iter().map(|loaded| &loaded.program.bundle);
        let revisions = bundles.map(|bundle| (bundle.name.clone(), bundle.revision.clone())).collect();
        Self { rules, rules_in_force, revisions: Arc::new(revisions), has_log_rules, ..self }
    }

    /// Most bytes of decisions that may be kept beside what evaluations found; zero where nothing is kept.
    pub fn decision_bytes(&self) -> u64 {
        self.verdicts.decision_bytes()
    }

    /// Counts a decision that was known, for which none of the bundles was run.
    pub fn count_known_verdict(&self) {
        self.verdicts.count_hits(self.judging().count());
    }

    /// The bundles that decide, or those in the shadow.
    pub(super) fn bundles(&self, is_shadow: bool) -> impl Iterator<Item = &Arc<LoadedBundle>> {
        self.judging().filter(move |loaded| loaded.program.bundle.is_shadow == is_shadow)
    }

    /// The bundles with rules that judge; others have rules for the log alone.
    pub(super) fn judging(&self) -> impl Iterator<Item = &Arc<LoadedBundle>> {
        self.loaded.iter().filter(|loaded| loaded.entrypoint.is_some())
    }

    /// Linear memory of the idle instances, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.loaded.iter().map(|loaded| loaded.idle.sum(Instance::memory_bytes)).sum()
    }

    /// Ends the instances that no evaluation has needed for a minute, but for one of each bundle. Evaluations do so as they end; this is for a time without any.
    pub fn end_unused_instances(&self, now: Instant) {
        for loaded in &self.loaded {
            loaded.idle.end_unused(now);
        }
    }

    /// How often what earlier evaluations found was enough, in all sets of this engine.
    pub fn verdict_counts(&self) -> VerdictCounts {
        self.verdicts.counts()
    }

    /// Runs every bundle that decides on `input`, which must be a struct or a map. Never fails, and takes no longer than the limits
    /// allow: a bundle that cannot be evaluated is a [`super::BundleFailure`]. The work runs on blocking threads, and stops soon
    /// after this future is dropped.
    pub async fn evaluate<I: Serialize + Sync>(&self, input: &I) -> Evaluation {
        self.evaluate_for((&Arc::from(""), self.limits.time), input).await
    }

    /// Runs every bundle that decides on `input`, as [`Self::evaluate`] does, and tells rules that ask for the time this one.
    pub async fn evaluate_at<I: Serialize + Sync>(&self, input: &I, now: Timestamp) -> Evaluation {
        let bundles: Vec<_> = self.bundles(false).collect();
        let (mut stop, _guard) = Stop::at(Instant::now() + self.limits.time);
        stop.now = Some(now);
        self.evaluate_until(&bundles, &Arc::from(""), input, &stop).await
    }

    /// Runs every bundle that decides on `input`, in the line of this namespace, and within this time.
    async fn evaluate_for<I: Serialize + Sync>(&self, by: (&Arc<str>, Duration), input: &I) -> Evaluation {
        self.evaluate_all(&self.bundles(false).collect::<Vec<_>>(), by, input).await
    }

    /// Runs every bundle that decides on `input`, for an object of this namespace, which waits in line with the other namespaces and not with all of their objects,
    /// and what the bundles in the shadow find. Each waits for its place as long as there is time `left` to the review, and may take all that the limits
    /// allow from then on. Those in the shadow run at the same time; once the others are done, they get at most
    /// half of what is `left` to the review then. Whatever they do, the first result is what it would be without them.
    pub async fn evaluate_with_shadow<I: Serialize + Sync>(
        &self,
        namespace: &str,
        input: &I,
        left: impl Fn() -> Duration,
    ) -> (Evaluation, Evaluation) {
        let (namespace, time) = (Arc::from(namespace), left());
        let shadow: Vec<_> = self.bundles(true).collect();
        if shadow.is_empty() {
            return (self.evaluate_for((&namespace, time), input).await, Evaluation::default());
        }
        // On the heap, since most gates have none, and every review would hold the two.
        Box::pin(self.evaluate_beside(&shadow, (&namespace, time), input, left)).await
    }

    async fn evaluate_beside<I: Serialize + Sync>(
        &self,
        shadow: &[&Arc<LoadedBundle>],
        by: (&Arc<str>, Duration),
        input: &I,
        left: impl Fn() -> Duration,
    ) -> (Evaluation, Evaluation) {
        let decides = pin!(self.evaluate_for(by, input));
        let beside = pin!(self.evaluate_all(shadow, by, input));
        match select(decides, beside).await {
            Either::Left((evaluation, beside)) => {
                let found = timeout(SHADOW.min(left() / 2), beside).await;
                let names = shadow.iter().map(|loaded| loaded.program.bundle.name.as_str());
                (evaluation, found.unwrap_or_else(|_| Evaluation::too_late(names)))
            }
            Either::Right((found, decides)) => (decides.await, found),
        }
    }

    async fn evaluate_all<I: Serialize + Sync>(
        &self,
        bundles: &[&Arc<LoadedBundle>],
        (namespace, time): (&Arc<str>, Duration),
        input: &I,
    ) -> Evaluation {
        let (stop, _guard) = Stop::at(end_of(time));
        self.evaluate_until(bundles, namespace, input, &stop).await
    }

    async fn evaluate_until<I: Serialize + Sync>(
        &self,
        bundles: &[&Arc<LoadedBundle>],
        namespace: &Arc<str>,
        input: &I,
        stop: &Stop,
    ) -> Evaluation {
        let inputs = input::serialise_each(bundles.iter().map(|one| one.program.bundle.unread()), input);
        // Concurrently, so that a bundle that never ends does not use up the others' time.
        let runs = bundles
            .iter()
            .zip(inputs)
            .map(|(loaded, input)| self.find_or_run(loaded, namespace, input, stop));
        let outcomes = bundles.iter().zip(join_all(runs).await).map(|(loaded, outcome)| {
            (&loaded.program.bundle.name, outcome.map(|found| loaded.annotated(found)))
        });
        Evaluation::of(outcomes.collect())
    }

    /// What one bundle found on the same input earlier, or finds now.
    pub(super) async fn find_or_run(
        &self,
        loaded: &Arc<LoadedBundle>,
        namespace: &Arc<str>,
        input: Result<Arc<RawValue>, String>,
        stop: &Stop,
    ) -> Result<Found, Failed> {
        let input = input?;
        match self.find(loaded, input.get()).await {
            Ok(found) => Ok(found),
            Err(key) => Ok(self.kept(key, self.run(loaded, namespace, input, stop).await?).await),
        }
    }

    /// What one bundle found on the same input earlier; else the key by which it is kept, if it is.
    pub(super) async fn find(&self, loaded: &LoadedBundle, input: &str) -> Result<Found, Option<Key>> {
        let text = (input, &loaded.identity);
        let key = loaded.repeats.and_then(|id| self.verdicts.key(id, self.limits, text));
        // On the heap, like what is kept below, since every review would hold both.
        if let Some(key) = &key
            && let Some(found) = Box::pin(self.verdicts.find(key)).await
        {
            // What asks for anything is not kept.
            return Ok(Found { violations: found.to_vec(), is_cached: true, asked: Asked::default() });
        }
        Err(key)
    }

    /// What an evaluation found, which is kept by its key.
    pub(super) async fn kept(&self, key: Option<Key>, Ran { violations, asked }: Ran) -> Found {
        if let Some(key) = key.filter(|_| asked.is_nothing()) {
            Box::pin(self.verdicts.keep(key, &violations)).await;
        }
        Found { violations, is_cached: false, asked }
    }

    /// Waits for a permit, and runs one bundle. Its own time begins when the permit comes.
    async fn run(
        &self,
        loaded: &Arc<LoadedBundle>,
        namespace: &Arc<str>,
        input: Arc<RawValue>,
        stop: &Stop,
    ) -> Result<Ran, Failed> {
        let leave = self.lanes.enter(namespace, input.get().len(), stop.deadline.into()).await;
        let leave = leave.ok_or_else(Failed::without_place)?;
        let (limits, loaded) = (self.limits, Arc::clone(loaded));
        let time = limits.time.min(stop.deadline.saturating_duration_since(Instant::now()));
        let stop = stop.within(time);
        let work = spawn_blocking(move || {
            // The permit is held until the work has really ended, even if its result is not needed any more.
            let ran = loaded.run(input.get(), limits, &stop);
            ran.map_err(|reason| Failed::at(&leave, reason, time, limits.time))
        });
        work.await.unwrap_or_else(|error| Err(error.to_string().into()))
    }

    /// The result set of one entry point of the bundle of this name, for tests of rules. It is JSON with the text of its numbers, and so is
    /// the input. The error is for people to read.
    pub async fn query(
        &self,
        bundle: &str,
        entrypoint: &str,
        input: Option<&RawValue>,
    ) -> Result<Box<RawValue>, String> {
        let loaded = self.loaded.iter().find(|loaded| loaded.program.bundle.name == bundle);
        let loaded = Arc::clone(loaded.ok_or_else(|| format!("there is no bundle `{bundle}`"))?);
        let number = loaded.program.entrypoints.get(entrypoint).copied();
        let number = number.ok_or_else(|| format!("bundle `{bundle}` has no entry point `{entrypoint}`"))?;
        // No input at all is undefined.
        let input = input.map(|input| input.get().to_string()).unwrap_or_default();
        let limits = self.limits;
        let (stop, _guard) = Stop::at(Instant::now() + limits.time);
        let work = spawn_blocking(move || Ok(loaded.result_set(number, &input, limits, &stop)?.0));
        work.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Gathered when a set is made, since every plan asks for them.
fn rules_of<'a>(loaded: impl Iterator<Item = &'a Arc<LoadedBundle>>) -> Option<Arc<BTreeSet<String>>> {
    let each = loaded.map(|loaded| loaded.program.locations.known());
    let rules = each.collect::<Option<Vec<_>>>()?.into_iter().flatten().map(String::from).collect();
    Some(Arc::new(rules))
}

impl LoadedBundle {
    /// Whether its rules get this top-level key of the input, and what is at the key below it, if one is given.
    pub(super) fn gets(&self, key: &str, below: Option<&str>) -> bool {
        let omit = &self.program.bundle.omit;
        let omits_below = || below.is_some_and(|below| omit.contains(&format!("{key}.{below}")));
        !omit.contains(key) && !omits_below()
    }

    fn open(engine: &Engine, bundle: Bundle, limits: Limits) -> Result<Self, Error> {
        let patient = Limits { time: START_TIME, ..limits.for_start() };
        let program = CheckedModule::check(engine, bundle, demand::with_usual_memory(patient))?;
        let (stop, _guard) = Stop::at(Instant::now() + START_TIME);
        let entrypoint = program.entrypoints.get(ENTRYPOINT).copied();
        let identity = Identity::of(&program.unread, &program.bundle.omit);
        // A review has an identifier of its own.
        let may_repeat = identity.has_request_uid() || input::may_repeat(&program.bundle.omit);
        let repeats = may_repeat.then(|| engine.verdicts.next_bundle());
        let mut loaded =
            Self { repeats, identity, program, entrypoint, unfit: BTreeSet::new(), idle: Idle::default() };
        loaded.check_demand(limits, &stop)?;
        let warm = loaded.warm_up(limits, patient, &stop);
        warm.map_err(|reason| loaded.program.not_started(reason))?;
        loaded.try_out(limits, &stop)?;
        loaded.unfit = loaded.why_unfit(limits, &stop);
        if let Some(reason) = loaded.unfit.first() {
            let warning = format!(
                "it cannot judge an ordinary pod, and every pod that starts Wasm is refused: {reason}"
            );
            loaded.program.bundle.warnings.push(warning);
        }
        Ok(loaded)
    }

    /// Runs a first evaluation, so that no later one waits for cold code and memory. The result for the empty input is
    /// ignored.
    fn warm_up(&self, limits: Limits, patient: Limits, stop: &Stop) -> Result<(), String> {
        let mut instance = self.caught(|| Instance::start(&self.program, patient, stop))?;
        let Some(entrypoint) = self.entrypoint.or_else(|| self.program.entrypoints.values().next().copied())
        else {
            return Ok(());
        };
        if self.caught(|| instance.evaluate::<Value>(entrypoint, "{}", limits, stop)).is_ok() {
            self.put_back(instance);
        }
        Ok(())
    }

    /// What was found, with what the METADATA of its rules says of them, and whether these are built in.
    pub(super) fn annotated(&self, found: Found) -> Found {
        if found.violations.is_empty() {
            return found;
        }
        let (annotations, is_built_in) = (&self.program.bundle.annotations, self.program.bundle.is_built_in);
        let only = annotations.has_sole().then(|| self.program.locations.only()).flatten();
        let said = |one| Violation { is_built_in, ..annotations.on(one, only) };
        let violations = found.violations.into_iter().map(said).collect();
        Found { violations, ..found }
    }

    /// The violations of the rules on `input`, or why they could not be evaluated.
    pub(super) fn run(&self, input: &str, limits: Limits, stop: &Stop) -> Result<Ran, String> {
        let entrypoint = self.entrypoint.ok_or("it has no rules that judge")?;
        let (FoundViolations(found), asked) = self.result_set(entrypoint, input, limits, stop)?;
        Ok(Ran { violations: found?, asked })
    }

    /// The result set of an entry point, and what it asked for that does not follow from the input.
    pub(super) fn result_set<T: ResultSet>(
        &self,
        entrypoint: i32,
        input: &str,
        limits: Limits,
        stop: &Stop,
    ) -> Result<(T, Asked), String> {
        let mut instance = match self.idle.take() {
            Some(instance) => instance,
            None => self.caught(|| Instance::start(&self.program, limits, stop))?,
        };
        // An instance that failed is not put back.
        let result_set = self.caught(|| instance.evaluate(entrypoint, input, limits, stop))?;
        let asked = instance.asked();
        self.put_back(instance);
        Ok((result_set, asked))
    }

    /// Runs `work`. A panic in a host function makes the evaluation of this bundle fail and does not stop the gate. The
    /// panic's message is logged, for developers of the gate.
    pub(super) fn caught<T>(&self, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref().copied());
            tracing::error!(
                bundle = self.program.bundle.name,
                panic = said.unwrap_or_default(),
                "a host function panicked"
            );
            let rule = locations::in_rules(&self.program.locations.rules_that_call_the_host());
            Err(format!("a function of the host broke down{rule}"))
        })
    }

    fn put_back(&self, instance: Instance) {
        if instance.is_lean() {
            self.idle.put_back(instance, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hint::spin_loop;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::thread;

    use futures::stream::FuturesUnordered;

    use super::super::bundle::TrialCase;
    use super::*;
    use crate::rego::Builtin;

    const ADMITTED: &str = include_str!("../../tests/fixtures/policies/admitted.v1alpha1.json");
    const REFUSED: &str = include_str!("../../tests/fixtures/policies/refused.v1alpha1.json");

    /// The baseline, evaluated on a pod with limited fuel.
    struct Baseline {
        loaded: LoadedBundle,
        input: Box<RawValue>,
    }

    impl Baseline {
        fn open() -> Self {
            let engine = Engine::new().unwrap();
            let loaded = LoadedBundle::open(&engine, Bundle::embedded().unwrap(), Limits::default()).unwrap();
            Self { loaded, input: serde_json::from_str(REFUSED).unwrap() }
        }

        fn with(&self, fuel: u64) -> Result<Vec<Violation>, String> {
            let limits = Limits { fuel, ..Limits::default() };
            let (stop, _guard) = Stop::at(Instant::now() + Duration::from_mins(10));
            self.loaded.run(self.input.get(), limits, &stop).map(|ran| ran.violations)
        }

        /// The least fuel with which the evaluation succeeds, to one part in a thousand.
        fn least_fuel(&self) -> u64 {
            let (mut enough, mut too_little) = (Limits::default().fuel, 0);
            while enough - too_little > enough / 1000 {
                let fuel = u64::midpoint(too_little, enough);
                if self.with(fuel).is_ok() { enough = fuel } else { too_little = fuel }
            }
            enough
        }
    }

    /// The same rules as those of a bundle of others, which gets all.
    #[tokio::test]
    async fn built_in_rules_find_in_what_they_get_what_they_find_in_the_whole_input() {
        let engine = Engine::new().unwrap();
        let limits = Limits { time: Duration::from_mins(10), ..Limits::default() };
        let short = Bundle::embedded().unwrap();
        let whole = Bundle { is_built_in: false, omit: Arc::default(), ..short.clone() };
        let short = PolicySet::load(&engine, vec![short], limits).await.unwrap();
        let whole = PolicySet::load(&engine, vec![whole], limits).await.unwrap();
        let mut strict_ones = 0;
        for document in [ADMITTED, REFUSED] {
            for strict in [Some(true), Some(false), None] {
                let mut input: Value = serde_json::from_str(document).unwrap();
                input["options"] = serde_json::json!({});
                if let Some(strict) = strict {
                    input["options"]["strictAmbient"] = strict.into();
                }
                let mut found = short.evaluate(&input).await;
                assert!(found.failures.is_empty(), "{found:?}");
                let of_strict = found.violations.iter().filter(|one| one.rule == "ambient-wider-than-grant");
                let count = of_strict.count();
                assert!(strict == Some(true) || count == 0, "{found:?}");
                strict_ones += count;
                found.violations.iter_mut().for_each(|one| one.is_built_in = false);
                assert_eq!(found, whole.evaluate(&input).await, "{strict:?}");
            }
        }
        assert!(strict_ones > 0, "the option has to make a difference");
    }

    /// These get it as values, and rules of others as a text.
    #[test]
    fn built_in_rules_find_in_an_odd_input_what_they_find_where_they_parse_it() {
        let values = Baseline::open().loaded;
        let parsing = Bundle { is_built_in: false, ..Bundle::embedded().unwrap() };
        let parsing = LoadedBundle::open(&Engine::new().unwrap(), parsing, Limits::default()).unwrap();
        let (stop, _guard) = Stop::at(Instant::now() + Duration::from_mins(10));
        let same = |json: &str, limits| {
            // As an evaluation of all bundles has them: a set of values lies otherwise than it is written.
            let said = |bundle: &LoadedBundle| {
                bundle.run(json, limits, &stop).map(|mut ran| {
                    ran.violations.sort();
                    ran.violations
                })
            };
            let found = said(&values);
            assert_eq!(found, said(&parsing), "{json:.200}");
            found
        };
        let (limit, name) = (r#""limitBytes": null"#, r#""name": "migrate""#);
        assert!(REFUSED.contains(limit) && REFUSED.contains(name));
        let capped = REFUSED.replace(r#""capBytes": null"#, r#""capBytes": 1.0"#);
        for number in
            ["1", "1.0", "-0", "1e400", "1E+2", "0.5", "99999999999999999999", "9223372036854775808"]
        {
            let _ = same(&capped.replace(limit, &format!(r#""limitBytes": {number}"#)), Limits::default());
        }
        for other in [
            r#""n\u0061me": "migrate""#,
            r#""name": "first", "name": "migrate""#,
            r#""name": "first", "n\u0061me": "migrate""#,
            r#""": 1, "A": 2, "B": 3, "C": 4, "D": 5, "E": 6, "F": 7, "name": "migrate""#,
        ] {
            assert!(!same(&REFUSED.replace(name, other), Limits::default()).unwrap().is_empty(), "{other}");
        }
        for text in [r#"mi\u0000\ud83d\ude00\u2028\"\\é\/"#, r"\ud800", "a".repeat(100_000).as_str()] {
            let _ = same(&REFUSED.replace(name, &format!(r#""name": "{text}""#)), Limits::default());
        }
        let many = format!(r#"{{"containers": [{}1]}}"#, "1,".repeat(300_000));
        let little = Limits { memory_bytes: 8 << 20, ..Limits::default() };
        assert!(same(&many, little).unwrap_err().starts_with("it needs more than 8Mi of memory"));
        let spent = values
            .run(REFUSED, Limits { fuel: 10_000, ..Limits::default() }, &stop)
            .map(|ran| ran.violations);
        assert!(spent.unwrap_err().starts_with("it needs more than 10000 of fuel"));
    }

    #[test]
    fn a_quiet_time_leaves_one_instance_of_a_bundle() {
        let Baseline { loaded, .. } = Baseline::open();
        let (stop, _guard) = Stop::at(Instant::now() + Duration::from_mins(10));
        for _ in 0..3 {
            loaded.put_back(Instance::start(&loaded.program, Limits::default(), &stop).unwrap());
        }
        let (engine, loaded) = (Engine::new().unwrap(), vec![Loaded(Arc::new(loaded))]);
        let set = PolicySet::of(&engine, Limits::default(), loaded).unwrap();
        let (many, now) = (set.memory_bytes(), Instant::now());
        set.end_unused_instances(now);
        assert_eq!(set.memory_bytes(), many, "they were used just now");
        set.end_unused_instances(now + Duration::from_mins(2));
        let one = set.memory_bytes();
        assert!(one > 0 && 3 * one <= many, "{one} of {many}");
    }

    #[test]
    fn a_function_of_the_host_that_panics_fails_the_bundle_and_nothing_else() {
        let mut loaded = Baseline::open().loaded;
        let functions = loaded.program.functions.keys().map(|id| (*id, Builtin::broken()));
        loaded.program.functions = Arc::new(functions.collect());
        loaded.idle = Idle::default();
        // One that breaks rules, whose messages are made by functions of the host.
        let input = serde_json::from_str(REFUSED).unwrap();
        let case = TrialCase { name: "refused".into(), input, rules: BTreeSet::new() };
        loaded.program.bundle.cases = Arc::new([case]);
        let low = Limits { fuel: Limits::default().fuel - 1, ..Limits::default() };
        let (stop, _guard) = Stop::at(Instant::now() + Duration::from_mins(10));
        let refused = loaded.check_demand(low, &stop).unwrap_err().to_string();
        assert!(refused.contains("a function of the host broke down"), "{refused}");
        let failed = loaded.run(REFUSED, Limits::default(), &stop).map(|ran| ran.violations).unwrap_err();
        assert!(failed.contains("a function of the host broke down"), "{failed}");
    }

    /// One processor: two evaluations at a time, one of which a namespace may have.
    #[tokio::test]
    async fn one_namespace_with_many_inputs_keeps_no_other_waiting_for_all_of_them() {
        let mut engine = Engine::new().unwrap();
        engine.lanes = Arc::new(Lanes::new(1));
        let limits = Limits { time: Duration::from_mins(10), ..Limits::default() };
        let set = PolicySet::load(&engine, vec![Bundle::embedded().unwrap()], limits).await.unwrap();
        let input: Value = serde_json::from_str(REFUSED).unwrap();
        let evaluate = async |namespace| {
            let left = || Duration::from_mins(10);
            let (evaluation, _) = set.evaluate_with_shadow(namespace, &input, left).await;
            assert!(evaluation.failures.is_empty() && !evaluation.violations.is_empty(), "{evaluation:?}");
            namespace
        };
        let asked = std::iter::repeat_n("evil", 120).chain(["shop"]);
        let order: Vec<_> = asked.map(evaluate).collect::<FuturesUnordered<_>>().collect().await;
        let before = order.iter().position(|namespace| *namespace == "shop").unwrap();
        assert!(order.len() == 121 && before < 20, "behind {before} of another namespace");
    }

    /// One processor, both of whose places are taken.
    #[tokio::test]
    async fn a_bundle_in_the_shadow_that_gets_no_place_leaves_the_others_what_they_are() {
        let mut engine = Engine::new().unwrap();
        engine.lanes = Arc::new(Lanes::new(1));
        let shadow = Bundle { is_shadow: true, ..Bundle::embedded().unwrap() };
        let set = PolicySet::load(&engine, vec![shadow], Limits::default()).await.unwrap();
        let [one, other]: [Arc<str>; 2] = ["one", "other"].map(Arc::from);
        let later = tokio::time::Instant::now() + Duration::from_mins(10);
        let held = [set.lanes.enter(&one, 1, later).await, set.lanes.enter(&other, 1, later).await];
        assert!(held.iter().all(Option::is_some));
        // It waits for its place for a moment, and its answer for it longer.
        let is_asked_again = Cell::new(false);
        let left = || Duration::from_millis(if is_asked_again.replace(true) { 600_000 } else { 1 });
        let input: Value = serde_json::from_str(REFUSED).unwrap();
        let (decides, beside) = set.evaluate_with_shadow("shop", &input, left).await;
        assert_eq!(decides, Evaluation::default());
        assert_eq!((beside.failures.len(), beside.overloaded), (1, 1), "{beside:?}");
    }

    #[test]
    fn an_evaluation_that_others_starve_of_processors_needs_no_more_fuel_and_does_not_fail() {
        let baseline = Baseline::open();
        let fuel = baseline.least_fuel();
        assert!(fuel < Limits::default().fuel / 50, "{fuel}");
        // The heap after an instance's earlier evaluations makes a small difference.
        let (enough, too_little) = (fuel + fuel / 100, fuel - fuel / 100);
        let wanted = baseline.with(enough).unwrap();
        assert!(!wanted.is_empty());
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        spin_loop();
                    }
                });
            }
            let said: Vec<_> = (0..10).map(|_| (baseline.with(enough), baseline.with(too_little))).collect();
            over.store(true, Relaxed);
            let refusal = format!("it needs more than {too_little} of fuel");
            for (found, refused) in said {
                assert_eq!(found.as_ref(), Ok(&wanted));
                assert!(refused.unwrap_err().starts_with(&refusal));
            }
        });
    }
}
