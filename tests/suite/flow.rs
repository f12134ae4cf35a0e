//! A whole review, from the bytes that an API server sends to the answer and its record: the corpus of cases in three
//! ways, the laws, bad input.

mod bad_input;
mod cases;
mod gone_class;
mod laws;
mod properties;
mod record;
mod rehearsal;
mod same_answer;
mod suggest;
