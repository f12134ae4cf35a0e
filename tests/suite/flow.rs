//! Whole reviews, from the bytes that an API server sends to the answer and its record: the corpus in three ways, the
//! gate's guarantees, malformed input.

mod annotations;
mod bad_input;
mod busy;
mod cases;
mod decisions;
mod events;
mod explain_matches_serve;
mod foreign_text;
mod gained;
mod gone_class;
mod guarantees;
mod hardening;
mod overload;
mod own_bundles;
mod parsed;
mod properties;
mod record;
mod same_answer;
mod secrets;
mod shadow;
mod suggest;
mod verdicts;
