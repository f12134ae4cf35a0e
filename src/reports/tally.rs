//! What a round did. Pure.

use std::collections::BTreeMap;

use crate::register::task::{self, MOST_PROBLEMS};

/// What a round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pods and templates that were read.
    pub seen: usize,
    /// How many of these were judged; of the others an earlier verdict held, or one on the same template.
    pub judged: usize,
    /// Outcome → workloads with a report.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Reports that were written.
    pub written: usize,
    /// Reports that say already what they should.
    pub unchanged: usize,
    /// Reports that were deleted.
    pub deleted: usize,
    /// Reports that could not be written or deleted.
    pub failed: usize,
    /// Objects that start something in a way that is not judged.
    pub not_judged: usize,
    /// How often something was passed over of which no report of a workload speaks.
    pub passed_over: usize,
    /// What that was, and why: the first of it.
    pub left: Vec<String>,
    /// Whether objects could not be listed, so that from here on any workload may have been read in part.
    pub is_unread: bool,
    /// What could not be read or written, each once.
    pub problems: Vec<String>,
}

impl Tally {
    /// Notes objects that could not be listed.
    pub fn problem(&mut self, problem: String) {
        self.is_unread = true;
        self.note(problem);
    }

    /// Notes what was passed over.
    pub fn leave(&mut self, said: String) {
        self.passed_over += 1;
        if self.left.len() < MOST_PROBLEMS {
            self.left.push(said);
        }
    }

    /// Notes a report that could not be written or deleted.
    pub fn fail(&mut self, problem: String) {
        self.failed += 1;
        self.note(problem);
    }

    /// Notes a problem for which no object is missing and no report is wrong.
    pub fn note(&mut self, problem: String) {
        task::note(&mut self.problems, problem);
    }

    /// Whether everything could be read and written.
    pub const fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether anything was done or failed.
    pub const fn is_eventful(&self) -> bool {
        self.written + self.deleted > 0 || !self.is_whole()
    }
}
