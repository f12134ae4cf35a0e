//! What one image used under one runtime, and what follows from it. Pure: times come in as arguments.

use std::time::Duration;

use jiff::Timestamp;

use super::histogram::{Decay, Histogram};
use super::learned::LearnedSize;
use super::scale::Scale;
use crate::quantity::{MIB, Quantity};

/// The part of all samples that a request covers, in hundredths
/// (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/recommender/logic/recommender.go`, `target-cpu-percentile` and
/// `target-memory-percentile`).
const COVERED: u32 = 90;

/// What is added to it, in hundredths (the same file, `recommendation-margin-fraction`).
const MARGIN: u64 = 15;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub(super) memory: Histogram,
    pub(super) cpu: Histogram,
    /// When it was last seen to run. The weights are those of then.
    pub(super) last_seen: Timestamp,
    /// How long it was seen to run.
    pub(super) observed: Duration,
}

impl Record {
    /// A record that begins now.
    pub fn new(now: Timestamp) -> Self {
        let (memory, cpu) = (Histogram::new(Scale::Memory), Histogram::new(Scale::Cpu));
        Self { memory, cpu, last_seen: now, observed: Duration::ZERO }
    }

    /// Notes that it runs now. At most `longest` counts as time in which it was seen to run, because what it did in a longer pause is not
    /// known. Earlier samples lose weight.
    pub fn see(&mut self, now: Timestamp, half_life: Duration, longest: Duration) {
        // A clock that was ahead for a while must not stop the time until then.
        self.last_seen = self.last_seen.min(now);
        let elapsed = self.unseen(now);
        if elapsed.is_zero() {
            return;
        }
        self.observed = self.observed.saturating_add(elapsed.min(longest));
        let decay = Decay::after(elapsed, half_life);
        self.memory.decay(decay);
        self.cpu.decay(decay);
        self.last_seen = now;
    }

    /// How long it has not been seen; zero for a time before that.
    pub fn unseen(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.last_seen)).unwrap_or_default()
    }

    /// When it was last seen to run.
    pub const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// This record, seen last at this time at the latest: a clock that was ahead must not keep it for ever.
    #[must_use]
    pub fn not_after(self, now: Timestamp) -> Self {
        Self { last_seen: self.last_seen.min(now), ..self }
    }

    /// How long it was seen to run.
    pub const fn observed(&self) -> Duration {
        self.observed
    }

    /// Adds a sample of the processors that it used.
    pub fn add_cpu(&mut self, used: Quantity, weight: u64) {
        self.cpu.add(used.micros(), weight);
    }

    /// Adds the memory that it used at most in a while.
    pub fn add_peak(&mut self, used: Quantity, weight: u64) {
        self.memory.add(used.bytes(), weight);
    }

    /// Replaces a peak, which was added this long ago, by a higher one.
    pub fn raise_peak(
        &mut self,
        (former, age): (Quantity, Duration),
        used: Quantity,
        weight: u64,
        half_life: Duration,
    ) {
        let left = Decay::after(age, half_life).of(weight);
        self.memory.take(former.bytes(), left);
        self.memory.add(used.bytes(), left);
    }

    /// The requests that follow; `None` before it was seen to run for so long, or without samples. The VerticalPodAutoscaler widens its
    /// bounds where there are few samples (`logic/estimator.go`, `confidenceMultiplier`, which counts days and samples a day); here nothing is said.
    pub fn size(&self, enough: Duration) -> Option<LearnedSize> {
        if self.observed < enough {
            return None;
        }
        let with_margin = |value: u64| i128::from(value) + i128::from(value) * i128::from(MARGIN) / 100;
        let memory = Quantity::from_bytes(with_margin(self.memory.percentile(COVERED)?));
        let micros = with_margin(self.cpu.percentile(COVERED)?);
        let cpu = Quantity::from_millis((micros + 999) / 1_000);
        Some(LearnedSize { memory: memory.up_to(Quantity::from_bytes(MIB)), cpu })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::histogram::ONE;
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const LONGEST: Duration = Duration::from_mins(10);

    fn at(minutes: i64) -> Timestamp {
        "2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    /// A record of samples five minutes apart.
    fn seen(samples: i64, memory: u32, cpu: i128) -> Record {
        let mut record = Record::new(at(0));
        for sample in 0..samples {
            record.see(at(5 * sample), DAY, LONGEST);
            record.add_cpu(Quantity::from_millis(cpu), ONE);
            record.add_peak(Quantity::mebibytes(memory), ONE);
        }
        record
    }

    #[test]
    fn nothing_is_said_before_it_was_seen_to_run_for_long_enough() {
        assert_eq!(seen(288, 20, 5).size(DAY), None);
        let record = seen(289, 20, 5);
        assert_eq!(record.observed(), DAY);
        let LearnedSize { memory, cpu } = record.size(DAY).unwrap();
        // The end of the bucket, with the margin.
        assert!((Quantity::mebibytes(23)..=Quantity::mebibytes(26)).contains(&memory), "{}", memory.memory());
        assert!((6..=8).contains(&cpu.millis()), "{}", cpu.cpu());
        assert_eq!(Record::new(at(0)).size(Duration::ZERO), None, "no samples");
    }

    #[test]
    fn a_pause_counts_only_in_part_as_time_in_which_it_ran_and_clocks_that_go_back_as_none() {
        let mut record = Record::new(at(0));
        record.see(at(600), DAY, LONGEST);
        assert_eq!(record.observed(), LONGEST);
        record.see(at(5), DAY, LONGEST);
        assert_eq!((record.observed(), record.unseen(at(5))), (LONGEST, Duration::ZERO));
        record.see(at(10), DAY, LONGEST);
        assert_eq!(record.observed(), LONGEST + Duration::from_mins(5), "it goes on from there");
    }

    #[test]
    fn new_usage_outweighs_old_after_some_half_lives() {
        let mut record = seen(289, 200, 150);
        for day in 1..8 {
            for sample in 0..288 {
                record.see(at(1440 * day + 5 * sample), DAY, LONGEST);
                record.add_cpu(Quantity::from_millis(2), ONE);
                record.add_peak(Quantity::mebibytes(8), ONE);
            }
        }
        let LearnedSize { memory, cpu } = record.size(DAY).unwrap();
        assert!(memory <= Quantity::mebibytes(12) && cpu.millis() <= 4, "{} {}", memory.memory(), cpu.cpu());
    }

    #[test]
    fn a_peak_that_rises_takes_the_place_of_the_former_one() {
        let mut record = Record::new(at(0));
        record.add_cpu(Quantity::from_millis(1), ONE);
        record.add_peak(Quantity::mebibytes(8), ONE);
        record.see(at(30), DAY, LONGEST);
        record.raise_peak(
            (Quantity::mebibytes(8), Duration::from_mins(30)),
            Quantity::mebibytes(64),
            ONE,
            DAY,
        );
        let mut only = Histogram::new(Scale::Memory);
        only.add(Quantity::mebibytes(64).bytes(), Decay::after(Duration::from_mins(30), DAY).of(ONE));
        assert_eq!(record.memory, only);
        assert!(record.size(Duration::ZERO).unwrap().memory >= Quantity::mebibytes(64));
    }
}
