//! What is known of all images, and what of that has to be written. Pure, and bounded whatever the cluster runs: so many images, so many
//! namespaces of each, and two histograms of one size for each image.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

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
            let entry = Entry { record, peaks: BTreeMap::new(), requests: object.requests(), stored };
            self.entries.insert(object.key(), entry);
        }
        Ok(())
    }

    /// Adds what a round has seen. Each namespace counts as much as any other, however many containers it runs; so the tenant of one
    /// cannot outweigh the others.
    pub fn take(&mut self, now: Timestamp, samples: &Samples) {
        self.left_out = 0;
        for (key, namespaces) in samples {
            if !self.entries.contains_key(key) && !self.make_space(samples) {
                self.left_out += 1;
                continue;
            }
            // If its object is still there, that is found out when one is made.
            self.gone.remove(key);
            let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
                record: Record::new(now),
                peaks: BTreeMap::new(),
                requests: None,
                stored: None,
            });
            entry.take(now, namespaces, &self.options);
        }
    }

    /// Forgets an image of which too little is known, and that does not run now, if there is no space. `false` if there is none.
    fn make_space(&mut self, samples: &Samples) -> bool {
        if self.entries.len() < MOST_IMAGES {
            return true;
        }
        let enough = self.options.enough();
        let unripe = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.record.observed() < enough && !samples.contains_key(*key));
        let oldest = unripe.min_by_key(|(_, entry)| entry.record.last_seen()).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| {
            self.forget(&key);
            true
        })
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

    /// Forgets what was not seen for long, and returns the images whose objects have to be deleted, until [`Self::deleted`] says that they
    /// are.
    pub fn sweep(&mut self, now: Timestamp) -> Vec<UsageKey> {
        let (half, enough) = (self.options.half(), self.options.enough());
        let is_old = |entry: &Entry| {
            let half_lives = if entry.record.observed() < enough { 1 } else { REMEMBERED };
            entry.record.unseen(now) > half.saturating_mul(half_lives)
        };
        let old: Vec<UsageKey> =
            self.entries.iter().filter(|(_, entry)| is_old(entry)).map(|(key, _)| key.clone()).collect();
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

impl Entry {
    fn take(&mut self, now: Timestamp, namespaces: &BTreeMap<String, Vec<Used>>, options: &LearnOptions) {
        self.record.see(now, options.half(), options.longest_step());
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.peaks.retain(|_, peak| age(peak.since) < options.part());
        for (namespace, containers) in namespaces.iter().take(MOST_NAMESPACES) {
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
        let (mut first, samples) = (ledger(), samples(1, &[("shop", &[used(12, 3)])]));
        rounds(&mut first, (0, DAY), &samples);
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
        assert_eq!(third.sweep(at(0)), Vec::new());
        assert_eq!(third.sweep(at(5 + 5 * DAY)), [key(1)]);
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
        let (mut ledger, samples) = (ledger(), samples(1, &[("shop", &[used(12, 3)])]));
        rounds(&mut ledger, (0, DAY), &samples);
        let due = only(&ledger, DAY);
        ledger.written(&due, "1".into());
        assert!(ledger.sweep(at(5 * DAY)).is_empty());
        assert_eq!(ledger.sweep(at(5 * DAY + 1)), [key(1)]);
        assert_eq!(
            (ledger.images(), ledger.sweep(at(5 * DAY + 2))),
            (0, vec![key(1)]),
            "it could not be deleted"
        );
        ledger.deleted(&key(1));
        assert_eq!(ledger.sweep(at(5 * DAY + 3)), Vec::new());
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
