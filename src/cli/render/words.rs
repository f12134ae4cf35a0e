//! Text for a terminal: colour, lines of a width.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use crate::text;

pub(in crate::cli) const PLAIN: Style = Style::new();
pub(in crate::cli) const BOLD: Style = Style::new().bold();
pub(in crate::cli) const DIM: Style = Style::new().dimmed();
pub(in crate::cli) const GREEN: Style = AnsiColor::Green.on_default();
pub(in crate::cli) const RED: Style = AnsiColor::Red.on_default();
pub(in crate::cli) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Columns that are left to text however deep it is indented.
const NARROWEST: usize = 20;

/// Most characters of a cell on one line: names of Kubernetes are shorter, and each row is as wide as the widest.
const LONGEST_CELL: usize = 1_000;

pub(in crate::cli) fn paint(style: Style, text: &str) -> String {
    if style == PLAIN { text.to_string() } else { format!("{style}{text}{style:#}") }
}

/// Lines of at most `width` columns, broken at blanks, and within a word where it is longer than a line.
pub(in crate::cli) fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(NARROWEST))
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}

/// Text under a label: the first line beside it, the others below that.
pub(super) fn hanging(label: &str, indent: usize, text: &str, width: u16) -> String {
    let lines = wrap(text, usize::from(width).saturating_sub(indent));
    let below = format!("\n{:indent$}", "");
    format!("{label}{}\n", lines.join(&below))
}

/// So many of something, whose plural ends in an `s`.
pub(in crate::cli) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A foreign text for a column that is as wide as its content.
pub(in crate::cli) fn cell(text: &str) -> String {
    text::shorten(&text::visible(text), LONGEST_CELL).into_owned()
}

/// So many blanks. The width of a format has 16 bits, and panics beyond them.
pub(in crate::cli) fn blanks(count: usize) -> String {
    " ".repeat(count)
}

/// Columns that a text takes on a terminal.
pub(in crate::cli) fn columns(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// The word for a fact, as in the JSON output.
pub(super) fn word_of(fact: impl Serialize) -> String {
    serde_json::to_value(fact).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_a_longest_length_and_blanks_have_none() {
        assert_eq!(cell(&"é".repeat(70_000)).chars().count(), LONGEST_CELL);
        assert_eq!(blanks(70_000).len(), 70_000);
    }

    #[test]
    fn long_text_is_broken_at_blanks_and_long_words_anywhere() {
        assert_eq!(wrap("one two three four five six", 20), ["one two three four", "five six"]);
        assert_eq!(wrap(&"x".repeat(45), 20), ["x".repeat(20), "x".repeat(20), "x".repeat(5)]);
        assert_eq!(wrap("", 20), [""]);
    }
}
