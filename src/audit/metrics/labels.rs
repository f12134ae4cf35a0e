//! Label values that several metrics share.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use super::super::{Outcome, Stage};
use super::drops::DropReason;
use crate::policy::EnforcementAction;
use crate::review::{Operation, Webhook};

/// The verb of a review; `None` if the review could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Verb(pub(super) Option<Operation>);

impl Verb {
    fn as_str(self) -> &'static str {
        self.0.map_or("UNKNOWN", Operation::as_str)
    }
}

/// Encodes a label value under the same name as in records.
macro_rules! label_value {
    ($($type:ty => $name:expr),* $(,)?) => {$(
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                encoder.write_str($name(*self))
            }
        }
    )*};
}
label_value! {
    Webhook => Webhook::as_str, Outcome => Outcome::as_str, Stage => Stage::as_str, DropReason => DropReason::as_str,
    Verb => Verb::as_str, EnforcementAction => EnforcementAction::as_str,
}

/// The empty label set, for a metric that is absent until its value is known.
pub(super) type NoLabels = [(&'static str, &'static str); 0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabels {
    pub(super) result: &'static str,
}
