//! What is told of a scan while it runs.

use std::fmt::Debug;

/// Is told how far a scan is.
pub trait Progress: Debug + Send + Sync {
    /// One more pod or template was read.
    fn seen(&self);
    /// One more was judged.
    fn judged(&self);
}
