//! What is known of all images, and what of that has to be written. Pure, and bounded whatever the cluster runs: so many images, so many
//! namespaces of each, and two histograms of one size for each image.

mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use self::places::{Leavers, Places, Standing};
use super::metrics::Used;
use super::options::LearnOptions;
use crate::quantity::Quantity;
use crate::usage::{BadUsage, LearnedSize, ONE, Record, UsageKey, UsageObject};

/// Most images. Each takes some five kilobytes.
pub const MOST_IMAGES: usize = 2_000;

/// Most namespaces of an image whose containers are counted.
const MOST_NAMESPACES: usize = 64;

/// Half-lives after which an image that was not seen is forgotten; one that was not seen for long enough before is after one.
const REMEMBERED: u32 = 4;

/// What the containers of one round use: image → namespace → each container.
pub type Samples = BTreeMap<UsageKey, BTreeMap<String, Vec<Used>>>;

/// The highest use of memory of the containers of one namespace, for a part of the half-life.
#[derive(Debug, Clone, Copy)]
struct Peak {
    since: Timestamp,
    used: Quantity,
}

/// An object as it was read or written last.
#[derive(Debug, Clone)]
struct Stored {
    version: String,
    /// When the record that it holds was seen last.
    seen: Timestamp,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    peaks: BTreeMap<String, Peak>,
    /// What the object says.
    requests: Option<LearnedSize>,
    stored: Option<Stored>,
    /// The namespace to which its place is counted; `None` until it is seen to run.
    holder: Option<String>,
}

/// An object that has to be written.
#[derive(Debug)]
pub struct Due {
    /// What it is about.
    pub key: UsageKey,
    /// What it is to say.
    pub object: UsageObject,
    /// When its record was seen last.
    pub seen: Timestamp,
    /// The version that it replaces; `None` for a new object.
    pub version: Option<String>,
    /// When the record in that was seen last.
    pub former: Option<Timestamp>,
    /// Whether its requests are others than before. The others are written so that they outlive this process.
    pub is_news: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    options: LearnOptions,
    entries: BTreeMap<UsageKey, Entry>,
    /// Images that are forgotten, and whose objects are still there. No more than of the others.
    gone: BTreeSet<UsageKey>,
    /// Images that there was no space for in the last round.
    left_out: usize,
}

impl Ledger {
    /// Knows nothing yet.
    pub const fn new(options: LearnOptions) -> Self {
        Self { options, entries: BTreeMap::new(), gone: BTreeSet::new(), left_out: 0 }
    }

    /// Adds what an object holds. No time in it is later than now, whatever it says.
    pub fn load(&mut self, object: &UsageObject, version: String, now: Timestamp) -> Result<(), BadUsage> {
        let record = object.record()?.unwrap_or_else(|| Record::new(now)).not_after(now);
        let seen = record.last_seen();
        let stored = Some(Stored { version, seen });
        if self.entries.len() < MOST_IMAGES {
            let requests = object.requests();
            let entry = Entry { record, peaks: BTreeMap::new(), requests, stored, holder: None };
            self.entries.insert(object.key(), entry);
        } else if self.gone.len() < MOST_IMAGES {
            // Otherwise no round would ever delete it.
            self.gone.insert(object.key());
        }
        Ok(())
    }

    /// Adds what a round has seen. Each namespace counts as much as any other, however many containers it runs; so the tenant of one
    /// cannot outweigh the others. Nor does one that runs many images take the places of theirs.
    pub fn take(&mut self, now: Timestamp, samples: &Samples) {
        self.take_counted(now, samples);
    }

    /// The same. The number is that of the steps that it took to find out who gives up a place.
    fn take_counted(&mut self, now: Timestamp, samples: &Samples) -> usize {
        self.left_out = 0;
        let mut round = Round { now, samples, places: self.places(samples), leavers: None };
        for (key, namespaces) in samples {
            if !self.entries.contains_key(key) {
                let Some(holder) = round.places.least(namespaces.keys()) else { continue };
                if !self.make_space(&mut round, &holder) {
                    self.left_out += 1;
                    continue;
                }
                // If its object is still there, that is found out when one is made.
                self.gone.remove(key);
                round.places.add(&holder);
                self.entries.insert(key.clone(), Entry::new(now, holder));
            }
            self.see(key, namespaces, &mut round);
        }
        round.leavers.map_or(0, |leavers| leavers.steps())
    }

    /// Counts the places of each namespace. That of an image which several run counts to the one that has the fewest.
    fn places(&mut self, samples: &Samples) -> Places {
        let mut places = Places::default();
        for (key, entry) in &mut self.entries {
            if let Some(namespaces) = samples.get(key) {
                entry.holder = places.least(namespaces.keys());
            }
            if let Some(holder) = &entry.holder {
                places.add(holder);
            }
        }
        places
    }

    /// Makes a place for an image of this namespace, if there is none. `false` if it gets none.
    fn make_space(&mut self, round: &mut Round<'_>, holder: &str) -> bool {
        if self.entries.len() < MOST_IMAGES {
            return true;
        }
        let Round { now, samples, places, leavers } = round;
        if places.is_full_for(holder) {
            return false;
        }
        let leavers = leavers.get_or_insert_with(|| self.leavers(*now, samples));
        let is_modest = places.held(holder) < MOST_IMAGES / 4;
        let given_up = leavers.idle(Some(holder).filter(|_| !is_modest)).or_else(|| {
            let greatest = places.greatest_above(holder)?;
            leavers.least_known_of(greatest)
        });
        let Some(key) = given_up.cloned() else {
            places.note_full(holder);
            return false;
        };
        if let Some(entry) = self.entries.get(&key) {
            let standing = entry.standing(*now, samples.contains_key(&key), &self.options);
            leavers.remove(&key, &standing);
            if let Some(former) = &standing.holder {
                places.remove(former);
            }
        }
        self.forget(&key);
        true
    }

    /// The images in the orders in which they give up their places.
    fn leavers(&self, now: Timestamp, samples: &Samples) -> Leavers {
        let mut leavers = Leavers::default();
        for (key, entry) in &self.entries {
            leavers.insert(key, &entry.standing(now, samples.contains_key(key), &self.options));
        }
        leavers
    }

    /// Adds what a round has seen of an image.
    fn see(&mut self, key: &UsageKey, namespaces: &BTreeMap<String, Vec<Used>>, round: &mut Round<'_>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let standing = |entry: &Entry| entry.standing(round.now, true, &self.options);
        if let Some(leavers) = &mut round.leavers {
            leavers.remove(key, &standing(entry));
        }
        entry.take(round.now, namespaces, &self.options);
        if let Some(leavers) = &mut round.leavers {
            leavers.insert(key, &standing(entry));
        }
    }

    fn forget(&mut self, key: &UsageKey) {
        let is_stored = self.entries.remove(key).is_some_and(|entry| entry.stored.is_some());
        if is_stored && self.gone.len() < MOST_IMAGES {
            self.gone.insert(key.clone());
        }
    }

    /// Forgets an image without deleting its object, which is to be read again.
    pub fn drop_known(&mut self, key: &UsageKey) {
        self.entries.remove(key);
    }

    /// Forgets what was not seen for long and does not run now, and returns the images whose objects have to be deleted, until
    /// [`Self::deleted`] says that they are. What runs may have no samples: a server of metrics may have just started.
    pub fn sweep(&mut self, now: Timestamp, runs: &BTreeSet<UsageKey>) -> Vec<UsageKey> {
        let (half, enough) = (self.options.half(), self.options.enough());
        let is_old = |entry: &Entry| {
            let half_lives = if entry.record.observed() < enough { 1 } else { REMEMBERED };
            entry.record.unseen(now) > half.saturating_mul(half_lives)
        };
        let old = self.entries.iter().filter(|(key, entry)| is_old(entry) && !runs.contains(*key));
        let old: Vec<UsageKey> = old.map(|(key, _)| key.clone()).collect();
        for key in &old {
            self.forget(key);
        }
        self.gone.iter().cloned().collect()
    }

    /// Notes that an object is deleted.
    pub fn deleted(&mut self, key: &UsageKey) {
        self.gone.remove(key);
    }

    /// The objects that have to be written: first those whose requests are others than before, then those that have not been written
    /// for longest.
    pub fn due(&self, now: Timestamp) -> Vec<Due> {
        let mut due: Vec<Due> =
            self.entries.iter().filter_map(|(key, entry)| entry.due(key, now, &self.options)).collect();
        due.sort_by_key(|one| (!one.is_news, one.former));
        due
    }

    /// Notes that an object says this now.
    pub fn written(&mut self, due: &Due, version: String) {
        if let Some(entry) = self.entries.get_mut(&due.key) {
            entry.requests = due.object.requests();
            entry.stored = Some(Stored { version, seen: due.seen });
        }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.entries.len()
    }

    /// Number of images of which something is said.
    pub fn said(&self) -> usize {
        self.entries.values().filter(|entry| entry.requests.is_some()).count()
    }

    /// Number of images that there was no space for in the last round.
    pub const fn left_out(&self) -> usize {
        self.left_out
    }
}

/// What a round goes by.
struct Round<'r> {
    now: Timestamp,
    samples: &'r Samples,
    places: Places,
    /// Made for the first image that needs the place of another.
    leavers: Option<Leavers>,
}

impl Entry {
    /// One of which nothing is known yet.
    fn new(now: Timestamp, holder: String) -> Self {
        let (record, holder) = (Record::new(now), Some(holder));
        Self { record, peaks: BTreeMap::new(), requests: None, stored: None, holder }
    }

    /// What decides whether it gives up its place: one that does not run does, if too little is known of it or it has not run for a while.
    fn standing(&self, now: Timestamp, runs: bool, options: &LearnOptions) -> Standing {
        let observed = self.record.observed();
        let is_ripe = observed >= options.enough();
        let can_go = !runs && (!is_ripe || self.record.unseen(now) > options.part());
        let idle = can_go.then(|| (is_ripe, self.record.last_seen()));
        Standing { holder: self.holder.clone(), observed, idle }
    }

    fn take(&mut self, now: Timestamp, namespaces: &BTreeMap<String, Vec<Used>>, options: &LearnOptions) {
        self.record.see(now, options.half(), options.longest_step());
        if let Some(stored) = &mut self.stored {
            // A clock that was ahead when it was written must not keep it from being written again.
            stored.seen = stored.seen.min(now);
        }
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.peaks.retain(|_, peak| peak.since <= now && age(peak.since) < options.part());
        for (namespace, containers) in self.counted(now, namespaces, options) {
            let Some(highest) = containers.iter().map(|used| used.memory).max() else { continue };
            let weight = ONE / u64::try_from(containers.len()).unwrap_or(u64::MAX);
            for used in containers {
                self.record.add_cpu(used.cpu, weight);
            }
            let has_space = self.peaks.len() < MOST_NAMESPACES;
            match self.peaks.get_mut(namespace) {
                Some(peak) if highest > peak.used => {
                    self.record.raise_peak((peak.used, age(peak.since)), highest, ONE, options.half());
                    peak.used = highest;
                }
                None if has_space => {
                    self.record.add_peak(highest, ONE);
                    self.peaks.insert(namespace.clone(), Peak { since: now, used: highest });
                }
                Some(_) | None => {}
            }
        }
    }

    /// The namespaces whose containers count. Of many, those that count already, and others by lot; lots are drawn anew for each part of a
    /// half-life, so that no choice of names is one of who counts.
    fn counted<'a>(
        &self,
        now: Timestamp,
        namespaces: &'a BTreeMap<String, Vec<Used>>,
        options: &LearnOptions,
    ) -> Vec<(&'a String, &'a Vec<Used>)> {
        let mut counted: Vec<_> = namespaces.iter().collect();
        if counted.len() > MOST_NAMESPACES {
            let part = i64::try_from(options.part().as_secs()).unwrap_or(i64::MAX).max(1);
            let number = now.as_second().div_euclid(part);
            let lot =
                |namespace: &str| -> [u8; 32] { Sha256::digest(format!("{number}\n{namespace}")).into() };
            counted
                .sort_by_cached_key(|(namespace, _)| (!self.peaks.contains_key(*namespace), lot(namespace)));
            counted.truncate(MOST_NAMESPACES);
        }
        counted
    }

    fn due(&self, key: &UsageKey, now: Timestamp, options: &LearnOptions) -> Option<Due> {
        let requests = match (self.requests, self.record.size(options.enough())) {
            (Some(said), Some(size)) if !size.is_news_after(said) => Some(said),
            (said, size) => size.or(said),
        };
        let is_news = requests != self.requests;
        let seen = self.record.last_seen();
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let is_old = match &self.stored {
            Some(stored) => seen > stored.seen && age(stored.seen) >= options.part(),
            None => self.record.observed() >= options.part(),
        };
        (is_news || is_old).then(|| Due {
            key: key.clone(),
            object: UsageObject::of(key, &self.record, requests),
            seen,
            version: self.stored.as_ref().map(|stored| stored.version.clone()),
            former: self.stored.as_ref().map(|stored| stored.seen),
            is_news,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::image::Digest;

    fn at(minutes: i64) -> Timestamp {
        "2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn key(image: usize) -> UsageKey {
        UsageKey { digest: Digest::of(image.to_string().as_bytes()), runtime: "wasmtime".into() }
    }

    fn used(memory: u32, cpu: i128) -> Used {
        Used { memory: Quantity::mebibytes(memory), cpu: Quantity::from_millis(cpu) }
    }

    fn samples(image: usize, of: &[(&str, &[Used])]) -> Samples {
        let namespaces = of.iter().map(|(namespace, used)| ((*namespace).to_owned(), used.to_vec()));
        [(key(image), namespaces.collect())].into()
    }

    /// Rounds of five minutes with the same samples, up to and with this minute.
    fn rounds(ledger: &mut Ledger, (from, to): (i64, i64), samples: &Samples) {
        (from..=to).step_by(5).for_each(|minute| ledger.take(at(minute), samples));
    }

    fn ledger() -> Ledger {
        Ledger::new(LearnOptions { enabled: true, ..LearnOptions::default() })
    }

    /// Knows enough after ten minutes.
    fn quick() -> Ledger {
        Ledger::new(LearnOptions { after: SignedDuration::from_mins(10), ..LearnOptions::default() })
    }

    /// A ledger that saw an image for a day, and what it saw in each round.
    fn seen_for_a_day() -> (Ledger, Samples) {
        let (mut ledger, samples) = (ledger(), samples(1, &[("shop", &[used(12, 3)])]));
        rounds(&mut ledger, (0, DAY), &samples);
        (ledger, samples)
    }

    /// The same ledger after it was written.
    fn written_after_a_day() -> Ledger {
        let (mut ledger, _) = seen_for_a_day();
        let due = only(&ledger, DAY);
        ledger.written(&due, "1".into());
        ledger
    }

    fn only(ledger: &Ledger, minute: i64) -> Due {
        let mut due = ledger.due(at(minute));
        assert_eq!(due.len(), 1, "{due:?}");
        due.pop().unwrap()
    }

    const DAY: i64 = 24 * 60;

    #[test]
    fn an_image_is_written_after_an_hour_then_each_hour_and_at_once_when_there_is_news() {
        let (mut ledger, samples) = (ledger(), samples(1, &[("shop", &[used(12, 3)])]));
        rounds(&mut ledger, (0, 55), &samples);
        assert!(ledger.due(at(55)).is_empty(), "what was only there for a moment is not worth an object");
        rounds(&mut ledger, (60, 60), &samples);
        let due = only(&ledger, 60);
        assert_eq!((due.is_news, due.version.clone(), due.object.requests()), (false, None, None));
        ledger.written(&due, "1".into());
        rounds(&mut ledger, (65, 115), &samples);
        assert!(ledger.due(at(115)).is_empty(), "nothing is written that was written lately");
        rounds(&mut ledger, (120, DAY), &samples);
        let due = only(&ledger, DAY);
        assert!(due.is_news && due.version.as_deref() == Some("1"), "{due:?}");
        let said = due.object.requests().unwrap();
        assert!(said.memory >= Quantity::mebibytes(13) && said.memory <= Quantity::mebibytes(17), "{said:?}");
        ledger.written(&due, "2".into());
        assert_eq!((ledger.images(), ledger.said()), (1, 1));
        assert!(ledger.due(at(DAY + 600)).is_empty(), "nothing new was seen");
        rounds(&mut ledger, (DAY + 5, DAY + 55), &samples);
        assert!(ledger.due(at(DAY + 55)).is_empty());
    }

    #[test]
    fn what_is_read_back_goes_on_where_it_was() {
        let (first, samples) = seen_for_a_day();
        let due = only(&first, DAY);
        let mut second = ledger();
        second.load(&due.object, "7".into(), at(DAY)).unwrap();
        assert!(second.due(at(DAY)).is_empty());
        rounds(&mut second, (DAY + 5, DAY + 60), &samples);
        let due = only(&second, DAY + 60);
        assert_eq!((due.is_news, due.version.as_deref()), (false, Some("7")));
        // A clock that was ahead.
        let mut third = ledger();
        third.load(&due.object, "7".into(), at(0)).unwrap();
        rounds(&mut third, (0, 5), &samples);
        assert_eq!(third.sweep(at(0), &BTreeSet::new()), Vec::new());
        assert_eq!(third.sweep(at(5 + 5 * DAY), &BTreeSet::new()), [key(1)]);
    }

    #[test]
    fn one_namespace_counts_as_one_however_many_containers_it_runs() {
        let mut ledger = ledger();
        let many = vec![used(900, 190); 500];
        let few = [used(8, 2)];
        let names: Vec<String> = (0..10).map(|n| format!("quiet-{n}")).collect();
        let mut of: Vec<(&str, &[Used])> = names.iter().map(|name| (name.as_str(), few.as_slice())).collect();
        of.push(("greedy", many.as_slice()));
        rounds(&mut ledger, (0, DAY), &samples(1, &of));
        let said = only(&ledger, DAY).object.requests().unwrap();
        assert!(said.memory <= Quantity::mebibytes(12) && said.cpu.millis() <= 4, "{said:?}");
    }

    #[test]
    fn a_peak_of_memory_is_seen_though_it_is_short() {
        let mut ledger = ledger();
        for minute in (0..=DAY).step_by(5) {
            let memory = if minute % 60 == 30 { 80 } else { 8 };
            ledger.take(at(minute), &samples(1, &[("shop", &[used(memory, 2)])]));
        }
        let said = only(&ledger, DAY).object.requests().unwrap();
        assert!(said.memory >= Quantity::mebibytes(80), "{said:?}");
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten_and_its_object_deleted() {
        let mut ledger = written_after_a_day();
        assert!(ledger.sweep(at(5 * DAY), &BTreeSet::new()).is_empty());
        assert_eq!(ledger.sweep(at(5 * DAY + 1), &BTreeSet::new()), [key(1)]);
        assert_eq!(
            (ledger.images(), ledger.sweep(at(5 * DAY + 2), &BTreeSet::new())),
            (0, vec![key(1)]),
            "it could not be deleted"
        );
        ledger.deleted(&key(1));
        assert_eq!(ledger.sweep(at(5 * DAY + 3), &BTreeSet::new()), Vec::new());
    }

    #[test]
    fn a_flood_of_images_takes_no_place_from_one_that_is_known_or_runs_and_no_more_space() {
        let mut ledger = ledger();
        rounds(&mut ledger, (0, DAY), &samples(0, &[("shop", &[used(12, 3)])]));
        let flood = |from: usize| -> Samples {
            let one = BTreeMap::from([("evil".to_owned(), vec![used(1, 1)])]);
            (from..from + MOST_IMAGES).map(|image| (key(image), one.clone())).collect()
        };
        ledger.take(at(DAY + 5), &flood(1));
        assert_eq!((ledger.images(), ledger.left_out()), (MOST_IMAGES, 1));
        ledger.take(at(DAY + 10), &flood(100_000));
        assert_eq!((ledger.images(), ledger.left_out()), (MOST_IMAGES, 1));
        assert!(ledger.due(at(DAY + 10)).iter().any(|due| due.key == key(0)), "the known one is still there");
    }

    #[test]
    fn a_namespace_that_fills_all_places_gives_some_to_those_that_have_none() {
        let mut ledger = quick();
        let one = |namespace: &str| BTreeMap::from([(namespace.to_owned(), vec![used(1, 1)])]);
        let flood: Samples = (0..MOST_IMAGES).map(|image| (key(image), one("evil"))).collect();
        rounds(&mut ledger, (0, 10), &flood);
        assert_eq!((ledger.images(), ledger.left_out()), (MOST_IMAGES, 0));
        // All of them run on.
        let mut all = flood;
        all.extend((0..3).map(|image| (key(500_000 + image), one("shop"))));
        for minute in [15, 20] {
            ledger.take(at(minute), &all);
            assert!((0..3).all(|image| ledger.entries.contains_key(&key(500_000 + image))), "{minute}");
        }
        assert_eq!((ledger.images(), ledger.left_out()), (MOST_IMAGES, 3), "those of the one that has most");
        // Nor by running them elsewhere too.
        for namespaces in all.values_mut().filter(|namespaces| namespaces.contains_key("evil")) {
            namespaces.insert("evil-2".to_owned(), vec![used(1, 1)]);
        }
        all.insert(key(600_000), one("web"));
        ledger.take(at(25), &all);
        assert!(ledger.entries.contains_key(&key(600_000)) && ledger.images() == MOST_IMAGES);
    }

    #[test]
    fn an_image_that_has_ended_gives_its_place_to_one_that_runs_unless_that_takes_them_all() {
        let mut ledger = quick();
        let of = |namespace: &str, from: usize, count: usize| -> Samples {
            let one = BTreeMap::from([(namespace.to_owned(), vec![used(1, 1)])]);
            (from..from + count).map(|image| (key(image), one.clone())).collect()
        };
        rounds(&mut ledger, (0, 10), &of("ended", 0, MOST_IMAGES));
        ledger.take(at(40), &of("shop", 10_000, 1));
        assert_eq!(ledger.left_out(), 0, "the other has most");
        let quarter = MOST_IMAGES / 4;
        let mut several = of("a", 20_000, quarter - 1);
        several.extend(of("b", 30_000, 1));
        ledger.take(at(120), &several);
        assert_eq!((ledger.images(), ledger.left_out()), (MOST_IMAGES, 0));
        // Where none has much more than another.
        let mut ledger = Ledger::new(ledger.options);
        for namespace in 0..4 {
            rounds(&mut ledger, (0, 10), &of(&format!("n-{namespace}"), namespace * quarter, quarter));
        }
        ledger.take(at(2 * DAY), &of("greedy", 50_000, MOST_IMAGES));
        assert_eq!((ledger.images(), ledger.left_out()), (MOST_IMAGES, MOST_IMAGES - quarter));
    }

    #[test]
    fn the_work_to_find_places_grows_with_the_images_and_not_with_their_square() {
        let one = |namespace: String| BTreeMap::from([(namespace, vec![used(1, 1)])]);
        let old: Samples = (0..MOST_IMAGES).map(|image| (key(image), one("evil".into()))).collect();
        let steps = |count: usize, runs_on: bool| {
            let mut ledger = quick();
            rounds(&mut ledger, (0, 10), &old);
            let new = |image: usize| (key(100_000 + image), one(format!("n-{}", image % 1_000)));
            let mut all: Samples = (0..count).map(new).collect();
            all.extend(old.clone().into_iter().filter(|_| runs_on));
            let steps = ledger.take_counted(at(40), &all);
            assert!(ledger.images() == MOST_IMAGES && steps > 0);
            (steps, all.len())
        };
        for runs_on in [true, false] {
            for count in [100, 2_000, 8_000] {
                let (steps, samples) = steps(count, runs_on);
                assert!(steps <= MOST_IMAGES + 3 * samples, "{steps} for {samples}");
            }
        }
        let mut ledger = quick();
        assert_eq!(ledger.take_counted(at(0), &old), 0, "each finds a free place");
    }

    #[test]
    fn of_more_namespaces_than_count_the_names_do_not_decide_which() {
        let names: Vec<String> =
            (0..MOST_NAMESPACES).flat_map(|n| [format!("a-{n:02}"), format!("z-{n:02}")]).collect();
        let containers = [used(8, 2)];
        let of: Vec<(&str, &[Used])> =
            names.iter().map(|name| (name.as_str(), containers.as_slice())).collect();
        let samples = samples(1, &of);
        let mut ledger = ledger();
        let mut counted = BTreeSet::new();
        for minute in (0..DAY).step_by(5) {
            ledger.take(at(minute), &samples);
            let peaks = &ledger.entries[&key(1)].peaks;
            assert_eq!(peaks.len(), MOST_NAMESPACES);
            counted.extend(peaks.keys().cloned());
            let first = peaks.keys().filter(|name| name.starts_with("a-")).count();
            assert!((8..=56).contains(&first), "{first} of {MOST_NAMESPACES} at {minute}");
        }
        assert_eq!(counted.len(), names.len(), "each counts at some time");
    }

    #[test]
    fn what_runs_is_not_forgotten_though_it_has_no_samples() {
        let mut ledger = written_after_a_day();
        assert_eq!(ledger.sweep(at(30 * DAY), &[key(1)].into()), Vec::new());
        assert_eq!(ledger.sweep(at(30 * DAY), &[key(2)].into()), [key(1)]);
    }

    #[test]
    fn objects_for_which_there_is_no_place_are_deleted() {
        let mut ledger = ledger();
        for image in 0..MOST_IMAGES + 2 {
            let object = UsageObject::of(&key(image), &Record::new(at(0)), None);
            ledger.load(&object, "1".into(), at(0)).unwrap();
        }
        assert_eq!((ledger.images(), ledger.sweep(at(0), &BTreeSet::new()).len()), (MOST_IMAGES, 2));
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_round_stops_nothing_once_it_is_right_again() {
        let (mut ledger, samples) = seen_for_a_day();
        ledger.take(at(30 * DAY), &samples);
        let due = only(&ledger, 30 * DAY);
        ledger.written(&due, "1".into());
        rounds(&mut ledger, (DAY + 5, DAY + 70), &samples);
        assert_eq!(only(&ledger, DAY + 70).version.as_deref(), Some("1"), "it is written again");
        let entry = &ledger.entries[&key(1)];
        assert!(entry.peaks["shop"].since <= at(DAY + 70) && entry.record.last_seen() == at(DAY + 70));
        assert_eq!(ledger.sweep(at(6 * DAY), &BTreeSet::new()), [key(1)]);
    }

    proptest! {
        #[test]
        fn whatever_is_sampled_what_is_said_is_near_it_and_can_be_read_again(
            sampled in proptest::collection::vec((0_usize..3, 0_u32..200, 0_i128..500, 1_i64..30), 1..200)
        ) {
            let after = SignedDuration::from_hours(1);
            let mut ledger = Ledger::new(LearnOptions { after, ..LearnOptions::default() });
            let mut minute = 0;
            for (image, memory, cpu, pause) in sampled {
                minute += pause;
                ledger.take(at(minute), &samples(image, &[("shop", &[used(memory, cpu)])]));
            }
            for due in ledger.due(at(minute)) {
                let again = serde_json::to_value(&due.object).unwrap();
                prop_assert!(UsageObject::read(&due.key.object_name(), again).is_ok());
                let Some(said) = due.object.requests() else { continue };
                prop_assert!(said.memory >= Quantity::mebibytes(1) && said.memory <= Quantity::mebibytes(300));
                prop_assert!(said.cpu.millis() >= 1 && said.cpu.millis() <= 700);
            }
        }
    }
}
