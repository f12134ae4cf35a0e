//! The buckets of a histogram. Each is a twentieth wider than the one before
//! (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/recommender/model/aggregations_config.go`, `DefaultHistogramBucketSizeGrowth`).

use std::sync::LazyLock;

/// Number of buckets. The last one begins at about a hundred thousand times the width of the first.
pub const BUCKETS: usize = 176;

/// What a histogram counts. The first buckets are narrower than those of the VerticalPodAutoscaler, of 10 MB and 10 millicores: most Wasm
/// programs would be in its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Bytes, from buckets of 1 MiB to more than 90 GiB.
    Memory,
    /// Millionths of a core, from buckets of one thousandth to more than 90 cores.
    Cpu,
}

static MEMORY: LazyLock<Vec<u64>> = LazyLock::new(|| starts(1 << 20));
static CPU: LazyLock<Vec<u64>> = LazyLock::new(|| starts(1_000));

/// Where each bucket begins, if the first one is this wide.
fn starts(first: u64) -> Vec<u64> {
    let widths = std::iter::successors(Some(first), |width| Some(width.saturating_mul(21) / 20));
    let mut next = 0_u64;
    let mut starts = Vec::with_capacity(BUCKETS);
    for width in widths.take(BUCKETS) {
        starts.push(next);
        next = next.saturating_add(width);
    }
    starts
}

impl Scale {
    fn starts(self) -> &'static [u64] {
        match self {
            Self::Memory => &MEMORY,
            Self::Cpu => &CPU,
        }
    }

    /// The bucket of a value; the last one for all that is larger.
    pub fn bucket_of(self, value: u64) -> usize {
        self.starts().partition_point(|start| *start <= value).saturating_sub(1)
    }

    /// Where a bucket ends. The last one has no end, so its start stands for it.
    pub fn end_of(self, bucket: usize) -> u64 {
        let starts = self.starts();
        starts.get(bucket.saturating_add(1)).or(starts.last()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_grow_by_a_twentieth_over_what_containers_use() {
        for (scale, first, most) in [(Scale::Memory, 1 << 20, 90_u64 << 30), (Scale::Cpu, 1_000, 90_000_000)]
        {
            let starts = scale.starts();
            assert_eq!((starts.len(), starts[0], starts[1]), (BUCKETS, 0, first));
            assert!(*starts.last().unwrap() > most, "{scale:?} {:?}", starts.last());
            for bounds in starts.windows(3) {
                let (one, next) = (bounds[1] - bounds[0], bounds[2] - bounds[1]);
                assert!(next > one && next * 20 <= one * 21, "{scale:?} {bounds:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_value_is_below_the_end_of_its_bucket_and_not_far(value in 0_u64..(80 << 30)) {
            let bucket = Scale::Memory.bucket_of(value);
            let end = Scale::Memory.end_of(bucket);
            prop_assert!(value < end);
            prop_assert!(end <= value + value / 20 + (1 << 20) + 1, "{value} {end}");
            prop_assert!(bucket == 0 || Scale::Memory.end_of(bucket - 1) <= value);
        }

        #[test]
        fn any_value_has_a_bucket(value: u64) {
            for scale in [Scale::Memory, Scale::Cpu] {
                prop_assert!(scale.bucket_of(value) < BUCKETS);
            }
        }
    }
}
