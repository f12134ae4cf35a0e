//! A recorded decision that was judged once more, and how it is told.

use std::fmt::Write as _;

use serde::Serialize;

use crate::admission::State;
use crate::admission::replay::{self, NotReplayable, RecordedDecision, ReplayTerms, Replayed};
use crate::cli::render::{BOLD, DIM, GREEN, RED, YELLOW, paint, wrap};
use crate::cli::replay::compare::{Compared, ComparedViolation, finding};
use crate::text;

/// The column where the lines of a violation begin.
const INDENT: usize = 6;

/// A recorded decision beside what it would be now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordReport {
    /// File and document.
    pub origin: String,
    /// What it would be now.
    pub outcome: RecordOutcome,
    /// Why it was not judged again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip)]
    left: Option<NotReplayable>,
    /// What the rules find now; what they found then, if it was not judged again.
    pub violations: Vec<ComparedViolation>,
    /// The record, and what is otherwise.
    #[serde(flatten)]
    pub compared: Compared,
}

/// What a recorded decision would be now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordOutcome {
    /// It was not judged again.
    NotJudged,
    /// The record does not decide it.
    Undecidable,
    /// It would be admitted.
    Admitted,
    /// It would be admitted with a warning.
    Warned,
    /// It would be denied; a template, that a rule warns of it.
    Denied,
}

impl RecordReport {
    /// Judges the record again.
    pub async fn of(state: &State, terms: ReplayTerms, origin: &str, recorded: &RecordedDecision) -> Self {
        let (replayed, left) = match replay::replay(state, recorded, terms).await {
            Ok(replayed) => (replayed, None),
            Err(left) => {
                let (found, hidden, open) = (recorded.found(), Vec::new(), Vec::new());
                (
                    Replayed { found, hidden, open, not_recorded: Vec::new(), is_undecidable: false },
                    Some(left),
                )
            }
        };
        let violations = replayed.found.iter().cloned().map(finding).collect();
        let compared = Compared::of(recorded, replayed);
        let outcome = match compared.would_be {
            _ if left.is_some() => RecordOutcome::NotJudged,
            _ if compared.undecidable => RecordOutcome::Undecidable,
            "deny" => RecordOutcome::Denied,
            "warn" => RecordOutcome::Warned,
            _ => RecordOutcome::Admitted,
        };
        let reason = left.map(NotReplayable::as_str);
        Self { origin: origin.into(), outcome, reason, left, violations, compared }
    }

    /// Why nothing can be said of it, although policies had been asked.
    pub fn failure(&self) -> Option<String> {
        let left = self.left.filter(|left| *left != NotReplayable::NotJudged)?;
        Some(format!("could not judge {} ({}) again: {}", self.object(), self.origin, left.as_str()))
    }

    /// Whether the record does not decide the verdict, or may not.
    pub const fn is_open(&self) -> bool {
        self.compared.undecidable || !self.compared.masked.is_empty()
    }

    fn object(&self) -> String {
        let Compared { kind, namespace, name, .. } = &self.compared;
        let name = if name.is_empty() { "(no name yet)" } else { name };
        format!("{kind} {namespace}/{name}")
    }

    /// For a terminal.
    pub fn text(&self, width: u16) -> String {
        let (object, origin) = (self.object(), text::visible(&self.origin));
        let title = paint(BOLD, &text::visible(&object));
        let mut out = format!("{title}  {}  {}\n", word(self.outcome), paint(DIM, &origin));
        let Compared { decision_id, timestamp, was, undecidable, masked, .. } = &self.compared;
        let id = text::visible(decision_id);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "\n  recorded {was}, {timestamp:.0}, decision {id}");
        let _ = writeln!(out, "\n  {} {}", paint(BOLD, "verdict"), word(self.outcome));
        let mut lines: Vec<String> = self.violations.iter().map(ComparedViolation::told).collect();
        lines.extend(self.compared.gone.iter().map(|gone| format!("no more: {}", gone.told())));
        lines.extend(self.reason.map(|reason| format!("not judged again: {reason}")));
        lines.extend(self.compared.open_exceptions.iter().chain(&self.compared.not_recorded).cloned());
        if !masked.is_empty() {
            let depends = if *undecidable { "depends" } else { "may depend" };
            lines.push(format!("the verdict {depends} on what is masked: {}", masked.join(", ")));
        }
        let columns = usize::from(width).saturating_sub(INDENT);
        for line in lines {
            let parts = wrap(&text::line(&line), columns);
            let _ = writeln!(out, "    {}", parts.join(&format!("\n{:INDENT$}", "")));
        }
        out
    }
}

fn word(outcome: RecordOutcome) -> String {
    match outcome {
        RecordOutcome::NotJudged => paint(DIM, "not judged again"),
        RecordOutcome::Undecidable => paint(YELLOW, "undecidable"),
        RecordOutcome::Admitted => paint(GREEN, "admitted"),
        RecordOutcome::Warned => paint(YELLOW, "admitted with warnings"),
        RecordOutcome::Denied => paint(RED, "denied"),
    }
}
