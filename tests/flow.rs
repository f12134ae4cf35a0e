//! A whole review, from the bytes that an API server sends to the answer and its record: the corpus of cases in three
//! ways, the laws, bad input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/images.rs"]
mod images;
#[path = "support/oci.rs"]
mod oci;
#[path = "support/opa.rs"]
mod opa;
#[path = "support/tls.rs"]
mod tls;

#[path = "flow/bad_input.rs"]
mod bad_input;
#[path = "flow/cases.rs"]
mod cases;
#[path = "flow/laws.rs"]
mod laws;
#[path = "flow/properties.rs"]
mod properties;
#[path = "flow/record.rs"]
mod record;
#[path = "flow/suggest.rs"]
mod suggest;
