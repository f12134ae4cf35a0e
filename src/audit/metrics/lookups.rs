//! Metrics of image look-ups, counted by `crate::lookup`.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::ResultLabels;

/// Numbers of look-ups since the start of the process, by result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageLookups {
    /// Answered from memory.
    pub hit: u64,
    /// Answered from the image store on disk.
    pub disk: u64,
    /// Answered by the registry.
    pub miss: u64,
    /// Answered with an older digest of a tag that could not be refreshed.
    pub stale: u64,
    /// Failed.
    pub failure: u64,
}

/// The metrics of the look-ups.
#[derive(Debug, Default)]
pub(super) struct Lookups(Family<ResultLabels, Counter>);

impl Lookups {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("wasmgate_image_lookups", "Image look-ups by result", self.0.clone());
    }

    pub(super) fn set(&self, totals: ImageLookups) {
        let ImageLookups { hit, disk, miss, stale, failure } = totals;
        let totals = [("hit", hit), ("disk", disk), ("miss", miss), ("stale", stale), ("failure", failure)];
        for (result, total) in totals {
            self.0.get_or_create(&ResultLabels { result }).inner().fetch_max(total, Ordering::Relaxed);
        }
    }
}
