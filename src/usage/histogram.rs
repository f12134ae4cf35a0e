//! A histogram whose weights halve with time. Pure, and of one size whatever is added.

use std::collections::BTreeMap;
use std::time::Duration;

use super::scale::{BUCKETS, Scale};

/// The weight of one sample.
pub const ONE: u64 = 1 << 30;

/// Weight of the heaviest bucket where a histogram is written
/// (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/recommender/util/histogram.go`, `MaxCheckpointWeight`).
const WRITTEN: u64 = 10_000;

/// Parts of [`ONE`] in which the sum of all weights is written.
const PARTS: u64 = 1_000;

/// 2 to the power of -1/2, -1/4, -1/8 and so on, times 2 to the power of 32.
const ROOTS: [u64; 16] = [
    3_037_000_500,
    3_611_622_603,
    3_938_502_376,
    4_112_874_773,
    4_202_935_003,
    4_248_701_965,
    4_271_771_996,
    4_283_353_945,
    4_289_156_690,
    4_292_061_010,
    4_293_513_907,
    4_294_240_540,
    4_294_603_903,
    4_294_785_595,
    4_294_876_445,
    4_294_921_870,
];

/// How much is left of a weight: `factor` / 2^32, halved so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decay {
    halvings: u32,
    factor: u64,
}

impl Decay {
    /// After this time. It is exact to a part in sixty thousand of a half-life.
    pub fn after(elapsed: Duration, half_life: Duration) -> Self {
        let half_life = half_life.as_millis().max(1);
        let elapsed = elapsed.as_millis();
        let halvings = u32::try_from(elapsed / half_life).unwrap_or(u32::MAX);
        let part = (elapsed % half_life).saturating_mul(1 << ROOTS.len()) / half_life;
        let mut factor = 1_u64 << 32;
        for (root, place) in ROOTS.iter().zip(1..) {
            if part & (1 << (ROOTS.len() - place)) != 0 {
                factor = scaled(factor, *root);
            }
        }
        Self { halvings, factor }
    }

    /// What is left of a weight.
    pub fn of(self, weight: u64) -> u64 {
        scaled(weight, self.factor).checked_shr(self.halvings).unwrap_or_default()
    }
}

/// A weight times a factor that is written as a multiple of 2^-32.
fn scaled(weight: u64, factor: u64) -> u64 {
    u64::try_from((u128::from(weight) * u128::from(factor)) >> 32).unwrap_or(u64::MAX)
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    scale: Scale,
    /// One weight for each bucket.
    weights: Vec<u64>,
}

impl Histogram {
    /// One without samples.
    pub fn new(scale: Scale) -> Self {
        Self { scale, weights: vec![0; BUCKETS] }
    }

    /// Adds a sample.
    pub fn add(&mut self, value: u64, weight: u64) {
        if let Some(slot) = self.weights.get_mut(self.scale.bucket_of(value)) {
            *slot = slot.saturating_add(weight);
        }
    }

    /// Takes a sample out that was added before, with what is left of its weight.
    pub fn take(&mut self, value: u64, weight: u64) {
        if let Some(slot) = self.weights.get_mut(self.scale.bucket_of(value)) {
            *slot = slot.saturating_sub(weight);
        }
    }

    /// Lets time pass.
    pub fn decay(&mut self, decay: Decay) {
        for weight in &mut self.weights {
            *weight = decay.of(*weight);
        }
    }

    /// The sum of all weights.
    pub fn total(&self) -> u128 {
        self.weights.iter().copied().map(u128::from).sum()
    }

    /// The end of the bucket up to which this many hundredths of the weight are; `None` without samples.
    pub fn percentile(&self, hundredths: u32) -> Option<u64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let mut below = 0_u128;
        let reached = self.weights.iter().position(|weight| {
            below += u128::from(*weight);
            *weight > 0 && below * 100 >= total * u128::from(hundredths)
        });
        reached.map(|bucket| self.scale.end_of(bucket))
    }

    /// As it is written: the sum of all weights in thousandths of a sample, and each bucket in parts of the heaviest one.
    pub fn written(&self) -> (u64, BTreeMap<String, u32>) {
        let total = self.total() * u128::from(PARTS) / u128::from(ONE);
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let heaviest = u128::from(self.weights.iter().copied().max().unwrap_or_default()).max(1);
        let part = |weight: u64| {
            let part = (u128::from(weight) * u128::from(WRITTEN) + heaviest / 2) / heaviest;
            u32::try_from(part).unwrap_or(u32::MAX)
        };
        let parts =
            self.weights.iter().enumerate().map(|(bucket, weight)| (bucket.to_string(), part(*weight)));
        (total, parts.filter(|(_, part)| *part > 0).collect())
    }

    /// The histogram that was written so; `None` where a bucket is none, or weighs more than what is written.
    pub fn of_written(scale: Scale, total: u64, parts: &BTreeMap<String, u32>) -> Option<Self> {
        let mut read = Self::new(scale);
        let sum: u128 = parts.values().map(|part| u128::from(*part)).sum();
        let total = u128::from(total) * u128::from(ONE) / u128::from(PARTS);
        for (bucket, part) in parts {
            let slot = read.weights.get_mut(bucket.parse::<usize>().ok()?)?;
            if u64::from(*part) > WRITTEN {
                return None;
            }
            let weight = total * u128::from(*part) / sum.max(1);
            *slot = u64::try_from(weight).unwrap_or(u64::MAX);
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new(Scale::Memory);
        for value in values {
            histogram.add(*value, ONE);
        }
        histogram
    }

    #[test]
    fn a_weight_halves_with_each_half_life_and_evenly_in_between() {
        for (elapsed, left) in
            [(0, 1.0_f64), (12, 0.5_f64.sqrt()), (24, 0.5), (48, 0.25), (30, 0.5_f64.powf(1.25))]
        {
            let now = Decay::after(Duration::from_hours(elapsed), DAY).of(ONE);
            let wanted = left * f64::from(1 << 30);
            assert!(
                (f64::from(u32::try_from(now).unwrap()) - wanted).abs() < wanted / 10_000.0,
                "{elapsed} {now}"
            );
        }
        assert_eq!(Decay::after(Duration::MAX, Duration::ZERO).of(u64::MAX), 0);
        assert_eq!(Decay::after(Duration::ZERO, Duration::ZERO).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_percentile_is_the_end_of_the_bucket_in_which_it_is() {
        let mebibyte = 1 << 20;
        let histogram = of(&[mebibyte / 2; 9].iter().copied().chain([500 * mebibyte]).collect::<Vec<_>>());
        assert_eq!(histogram.percentile(90), Some(mebibyte));
        assert!(histogram.percentile(91) > Some(500 * mebibyte));
        assert_eq!(Histogram::new(Scale::Cpu).percentile(90), None);
    }

    #[test]
    fn what_is_no_histogram_is_none() {
        for (bucket, part) in [("176", 1), ("-1", 1), ("x", 1), ("", 1), ("0", 10_001)] {
            let parts = [(bucket.to_owned(), part)].into();
            assert_eq!(Histogram::of_written(Scale::Cpu, 1, &parts), None, "{bucket} {part}");
        }
        let empty = Histogram::of_written(Scale::Cpu, u64::MAX, &BTreeMap::new());
        assert_eq!(empty, Some(Histogram::new(Scale::Cpu)));
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        vec(0_u64..(8 << 30), 1..40)
    }

    proptest! {
        #[test]
        fn a_percentile_grows_with_its_part_and_covers_what_it_says(values in values(), part in 1_u32..=100) {
            let histogram = of(&values);
            let found = histogram.percentile(part).unwrap();
            let covered = values.iter().filter(|value| **value < found).count();
            prop_assert!(covered * 100 >= values.len() * usize::try_from(part).unwrap());
            prop_assert!(histogram.percentile(part.saturating_sub(1)) <= Some(found));
        }

        #[test]
        fn time_alone_moves_no_percentile_far(values in values(), hours in 0_u64..200) {
            let before = of(&values);
            let mut after = before.clone();
            after.decay(Decay::after(Duration::from_hours(hours), DAY));
            prop_assert!(after.total() <= before.total());
            // Weights are cut, never added to, so a percentile that is exactly at a bound may fall on its other side.
            let (low, high) = (before.percentile(89), before.percentile(91));
            prop_assert!(after.percentile(90) >= low && after.percentile(90) <= high);
        }

        #[test]
        fn the_order_of_samples_does_not_matter_and_what_is_taken_out_is_gone(values in values()) {
            let reversed: Vec<u64> = values.iter().rev().copied().collect();
            prop_assert_eq!(of(&values), of(&reversed));
            let mut emptied = of(&values);
            for value in &values {
                emptied.take(*value, ONE);
            }
            prop_assert_eq!(emptied, Histogram::new(Scale::Memory));
        }

        #[test]
        fn a_larger_sample_never_lowers_a_percentile(values in values(), more in 0_u64..(8 << 30)) {
            let mut larger = values.clone();
            larger[0] = larger[0].saturating_add(more);
            prop_assert!(of(&larger).percentile(90) >= of(&values).percentile(90));
        }

        #[test]
        fn what_is_written_reads_as_nearly_the_same(values in values()) {
            let before = of(&values);
            let (total, parts) = before.written();
            let after = Histogram::of_written(Scale::Memory, total, &parts).unwrap();
            prop_assert!(after.total() <= before.total() && after.total() + 200 * 1024 >= before.total());
            prop_assert!(after.percentile(90) >= before.percentile(88) && after.percentile(90) <= before.percentile(92));
        }
    }
}
