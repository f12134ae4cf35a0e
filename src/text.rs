//! Foreign text on its way to people: names of images and objects, messages of rules, registries and the API server.
//! An attacker writes them, and terminals, logs, `kubectl` and Events show them. Everything that shows foreign text calls
//! this module, so that there is one set of dangerous characters ([`is_dangerous`]) and one way to make each harmless:
//!
//! | for | call | line breaks, tabs | other dangerous characters |
//! |---|---|---|---|
//! | one line of prose: log, warning, annotation, Event, table | [`line()`], [`excerpt`] | a blank | `\u{202e}` |
//! | prose of several lines: refusal, error of a command | [`lines`], [`hanging`] | line feeds stay, others are a blank | `\u{202e}` |
//! | a name or a value in a sentence | [`quoted`] | `\n` | `\u{202e}` |
//! | evidence | [`visible`] | `\n` | `\u{202e}` |
//! | a name that is compared | [`distinct`] | `\n` | `\u{202e}`, and `\` is `\\` |
//! | the lines of a command's output, which a CI server may log | [`without_commands`], [`json_without_commands`] | as they are | `\u{3a}:` for `::` at the start |
//! | JSON or YAML that people read too | [`json`], [`flow_yaml`] | as they are | `\u202e`: the same document |
//!
//! Also here, because every module needs them and they are text alone: shortening ([`shorten`], [`shorten_bytes`]), the
//! causes of an error ([`chain`]), paths in order ([`clean_path`]), the parts of JSON that are no text ([`outside_strings`]) and
//! what its values take in memory ([`OBJECT_BYTES`]), tokens of JSON pointers ([`pointer::append`]), and numbers for texts ([`short_digest`]).

mod chain;
mod characters;
mod commands;
mod digest;
mod foreign;
mod json;
mod nearest;
mod path;
pub mod pointer;
mod short;

pub use chain::{causes, chain};
pub use characters::is_dangerous;
pub use commands::{json_without_commands, without_commands};
pub use digest::short_digest;
pub use foreign::{distinct, excerpt, hanging, line, lines, quoted, visible};
pub use json::{LIST_BYTES, OBJECT_BYTES, VALUE_BYTES, flow_yaml, json, outside_strings};
pub use nearest::{did_you_mean, is_misspelling_of};
pub use path::clean_path;
pub use short::{shorten, shorten_bytes};

#[cfg(test)]
mod tests;
