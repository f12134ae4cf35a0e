//! To be filled.

use super::Review;

/// Why a body is not a review.
#[derive(Debug, thiserror::Error)]
#[error("the request body is not a review: {message}")]
pub struct Error {
    /// The uid, when it could be read all the same.
    pub uid: Option<String>,
    /// What is wrong, for people to read.
    pub message: String,
}

/// Reads an AdmissionReview.
pub fn parse(_body: &[u8]) -> Result<Review, Error> {
    Err(Error { uid: None, message: String::new() })
}
