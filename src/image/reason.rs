//! Why it is not known what a container starts, and what that decides beside the text.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::text;

/// Most characters of a reason. Each container has one, and it may quote what an image says.
const LONGEST: usize = 2000;

/// What stands in a reason between what is wrong and what to do about it, where the reason says that.
const WHAT_TO_DO: &str = "; ";

/// Why it is not known what a container starts, for people to read: visible and of a bounded length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Reason {
    text: String,
    cause: Cause,
}

/// What kind of reason it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It says what is wrong, and no more.
    Plain,
    /// It also says what to do.
    Told,
    /// Other reviews had the places in which it is found out. It says what to do, and nothing of the pod.
    Load,
}

impl Reason {
    /// That other reviews had the places.
    pub fn of_load(text: &str) -> Self {
        Self { cause: Cause::Load, ..text.into() }
    }

    /// What kind of reason it is.
    pub const fn cause(&self) -> Cause {
        self.cause
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        let text = text::visible(&text::shorten(text, LONGEST)).into_owned();
        // What stands between backticks is quoted, such as the name of an import: it is no advice.
        let says_what_to_do = text.split('`').step_by(2).any(|own| own.contains(WHAT_TO_DO));
        Self { cause: if says_what_to_do { Cause::Told } else { Cause::Plain }, text }
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.text
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_what_to_do_outside_of_the_names_that_it_quotes() {
        let cause = |text: &str| Reason::from(text).cause();
        assert_eq!(cause("it imports `a; b`, which no host provides"), Cause::Plain);
        assert_eq!(cause("it imports `a`, which no host provides; build it anew"), Cause::Told);
        let load = Reason::of_load("there was no place; add replicas");
        assert_eq!(load.cause(), Cause::Load);
        assert_ne!(load, Reason::from(&*load), "the same text alone is no load");
    }

    #[test]
    fn a_reason_is_written_as_its_text() {
        let reason = Reason::from("it is\n; cut off");
        let written = serde_json::to_value(&reason).unwrap();
        assert_eq!(written, r"it is\n; cut off");
        assert_eq!(serde_json::from_value::<Reason>(written).unwrap(), reason);
    }
}
