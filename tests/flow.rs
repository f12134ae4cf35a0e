//! The whole road, from the bytes that an API server sends to the answer and its record: the corpus of cases on three
//! roads, the laws, bad input.
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

#[path = "flow/cases.rs"]
mod cases;
