//! What images have used of memory and CPU while they ran, and the requests that follow from it. The method is that of Kubernetes'
//! VerticalPodAutoscaler (`kubernetes/autoscaler:vertical-pod-autoscaler/pkg/recommender`): decaying histograms with exponential
//! buckets, a percentile of each, and a margin. It is done in whole numbers, so that every replica and every test finds the same.
//!
//! One [`Record`] is kept of each image and runtime ([`UsageKey`]). The API server has it as an object ([`UsageObject`]), of which the
//! replicas read the requests alone ([`Learned`]).

mod histogram;
mod learned;
mod object;
mod record;
mod scale;

pub use histogram::{Histogram, ONE};
pub use learned::{Learned, LearnedSize, UsageKey};
pub use object::{API_VERSION, BadUsage, KIND, UsageObject};
pub use record::Record;
pub use scale::Scale;
