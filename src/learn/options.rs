//! Settings.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::serde::duration::friendly::compact::required as compact;
use serde::{Deserialize, Serialize};

/// Most parts into which a half-life is cut: peaks of memory are counted once in each, and what is known is written once in each.
const PARTS: u32 = 24;

/// Longest half-life, and longest time before anything is said.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Whether and how requests are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LearnOptions {
    /// Whether they are learned and filled in. Default: no.
    pub enabled: bool,
    /// Whether they may be more than the profile's requests, up to its limits. Default: no, since they follow from what all namespaces use
    /// that run an image, so that one tenant could use up the quota of another.
    pub raise: bool,
    /// Time from one look at the usage of all containers to the next.
    #[serde(serialize_with = "compact")]
    pub interval: SignedDuration,
    /// Time after which a sample counts half.
    #[serde(serialize_with = "compact")]
    pub half_life: SignedDuration,
    /// How long an image must have been seen to run before anything follows.
    #[serde(serialize_with = "compact")]
    pub after: SignedDuration,
}

impl Default for LearnOptions {
    /// A sample counts half after a day, as for the VerticalPodAutoscaler
    /// (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/recommender/model/aggregations_config.go`).
    fn default() -> Self {
        Self {
            enabled: false,
            raise: false,
            interval: SignedDuration::from_mins(5),
            half_life: SignedDuration::from_hours(24),
            after: SignedDuration::from_hours(24),
        }
    }
}

fn positive(value: SignedDuration) -> Duration {
    Duration::try_from(value).unwrap_or_default()
}

impl LearnOptions {
    /// The field whose value cannot be used, with the value, and what to write instead.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let interval = SignedDuration::from_secs(1)..=SignedDuration::from_hours(1);
        if !interval.contains(&self.interval) {
            let cure = "write at least one second and at most one hour";
            return Some(("interval", format!("{:#}", self.interval), cure));
        }
        for (field, value) in [("halfLife", self.half_life), ("after", self.after)] {
            if value < self.interval || value > LONGEST {
                let cure = "write at least `interval` and at most `720h`";
                return Some((field, format!("{value:#}"), cure));
            }
        }
        None
    }

    /// Time from one look to the next.
    pub(super) fn pause(&self) -> Duration {
        positive(self.interval)
    }

    /// Longest time between two looks that counts as time in which an image ran.
    pub(super) fn longest_step(&self) -> Duration {
        self.pause().saturating_mul(2)
    }

    /// Time after which a sample counts half.
    pub(super) fn half(&self) -> Duration {
        positive(self.half_life)
    }

    /// How long an image must have been seen to run.
    pub(super) fn enough(&self) -> Duration {
        positive(self.after)
    }

    /// How long one peak of memory is looked for, and how old what is written may be.
    pub(super) fn part(&self) -> Duration {
        self.half() / PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_make_no_sense_together_are_named() {
        let minutes = SignedDuration::from_mins;
        let with = |interval, half_life, after| LearnOptions {
            interval,
            half_life,
            after,
            ..LearnOptions::default()
        };
        let field = |options: LearnOptions| options.problem().map(|(field, ..)| field);
        assert_eq!(field(LearnOptions::default()), None);
        assert_eq!(field(with(minutes(5), minutes(5), minutes(5))), None);
        assert_eq!(field(with(minutes(0), minutes(5), minutes(5))), Some("interval"));
        assert_eq!(field(with(minutes(61), minutes(70), minutes(70))), Some("interval"));
        assert_eq!(field(with(minutes(5), minutes(4), minutes(5))), Some("halfLife"));
        assert_eq!(field(with(minutes(5), minutes(60 * 24 * 31), minutes(5))), Some("halfLife"));
        assert_eq!(field(with(minutes(5), minutes(5), minutes(-5))), Some("after"));
    }
}
