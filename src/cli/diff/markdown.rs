//! Renders differences for the comment of a pull request: GitHub Flavored Markdown of a bounded length. Foreign text stands in code spans,
//! so that Markdown in it has no effect. Pure.

use std::fmt::Write as _;

use super::compare::Difference;
use super::render::{Line, Side, added, changes, heading, imports, lines, notes};
use crate::text;

/// Most bytes. GitHub refuses the body of a comment above 65 536 characters; the rest is for what a pipeline writes around it.
const LONGEST: usize = 60_000;

/// Bytes of these that the last lines may take.
const FOOT: usize = 200;

/// Most rows of one table.
const ROWS: usize = 60;

/// Most characters of one foreign text.
const LONGEST_TEXT: usize = 240;

/// Most characters of the heading of a program, which has two images with their digests.
const LONGEST_HEADING: usize = 700;

/// A heading that counts, and a table for each program; what gained most comes first, and imports and sizes are folded.
pub fn markdown(differences: &[Difference]) -> String {
    let mut out = format!("### Wasm capabilities: {}\n", counted(differences));
    let (same, mut other): (Vec<&Difference>, Vec<&Difference>) =
        differences.iter().partition(|difference| is_quiet(difference));
    // Stable: those that are alike stay in the order of their names.
    other.sort_by_key(|difference| (!difference.adds(), !difference.is_open()));
    let mut left_out = 0;
    for difference in other {
        let fits = |block: &String| out.len() + block.len() + FOOT <= LONGEST;
        // Of one that is too long, whose image and names others write, at least its name.
        match Some(program(difference)).filter(fits).or_else(|| Some(brief(difference)).filter(fits)) {
            Some(block) => out.push_str(&block),
            None => left_out += 1,
        }
    }
    // Writing to a string cannot fail, here and below.
    if left_out > 0 {
        let _ = writeln!(out, "\n**Note**: {left_out} further programs are left out; `-o json` has all.");
    }
    if !same.is_empty() {
        let noun = if same.len() == 1 { "program" } else { "programs" };
        let _ = writeln!(out, "\nNo difference in {} {noun}.", same.len());
    }
    out
}

/// Whether there is nothing to say of a program.
fn is_quiet(difference: &Difference) -> bool {
    difference.is_empty() && difference.uncovered.is_empty() && difference.left_alone.is_none()
}

fn counted(differences: &[Difference]) -> String {
    let sum = |of| added(differences, of);
    let noun =
        |count: usize, word: &str| format!("{count} {word}{} added", if count == 1 { "" } else { "s" });
    let (interpreters, denials) = (sum(|d| d.interpreters.added.len()), sum(|d| d.denials.added.len()));
    let uncovered: usize = differences.iter().map(|difference| difference.uncovered.len()).sum();
    let mut said = vec![format!("{} added", sum(|d| d.capabilities.added.len()))];
    said.extend((interpreters > 0).then(|| noun(interpreters, "interpreter")));
    said.extend((denials > 0).then(|| noun(denials, "denial")));
    said.extend((uncovered > 0).then(|| format!("{uncovered} without a grant")));
    said.extend(differences.iter().any(Difference::is_open).then(|| "not everything is known".to_string()));
    said.join(", ")
}

fn program(difference: &Difference) -> String {
    let mut out = format!("\n{}\n\n", span(&heading(difference), LONGEST_HEADING));
    for (what, why) in notes(difference) {
        let _ = writeln!(out, "**Note**: {what}: {}\n", code(why));
    }
    let lines = lines(difference);
    if lines.is_empty() && !difference.is_open() && difference.left_alone.is_none() {
        out.push_str("It can do what it could do before.\n");
    }
    out.push_str(&table(&lines, "| | what | | granted by |\n|---|---|---|---|\n", |line| {
        format!("| {} | {} | {} | {} |", line.side.word(), line.what, code(&line.text), grants(line))
    }));
    out.push_str(&folded(difference));
    out
}

/// A program whose block does not fit.
fn brief(difference: &Difference) -> String {
    let counted = counted(std::slice::from_ref(difference));
    format!(
        "\n{}\n\n**Note**: {counted}; all of it is too long to show here, and `-o json` has it.\n",
        span(&heading(difference), LONGEST_HEADING)
    )
}

/// Imports, and what else changed.
fn folded(difference: &Difference) -> String {
    let (imports, changes) = (imports(difference), changes(difference));
    if imports.is_empty() && changes.is_empty() {
        return String::new();
    }
    let count = |side: Side| imports.iter().filter(|line| line.side == side).count();
    let came = count(Side::Added) + count(Side::Open);
    // A line of HTML ends at a blank line, and Markdown begins again.
    let mut out = format!(
        "\n<details><summary>Imports: {came} came, {} went; digest and sizes</summary>\n\n",
        count(Side::Removed)
    );
    out.push_str(&table(&imports, "| | import |\n|---|---|\n", |line| {
        format!("| {} | {} |", line.side.word(), code(&line.text))
    }));
    if !changes.is_empty() {
        out.push('\n');
        for change in changes {
            let _ = writeln!(out, "- {}", code(&change));
        }
    }
    out.push_str("\n</details>\n");
    out
}

/// A table with a row for each line, at most [`ROWS`].
fn table(lines: &[Line], head: &str, row: impl Fn(&Line) -> String) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut out = head.to_owned();
    for line in lines.iter().take(ROWS) {
        let _ = writeln!(out, "{}", row(line));
    }
    if lines.len() > ROWS {
        let _ = writeln!(out, "\n{} further lines are left out; `-o json` has all.", lines.len() - ROWS);
    }
    out
}

/// The grants that cover a capability; nothing where none were applied.
fn grants(line: &Line) -> String {
    match line.grants.as_deref() {
        None => String::new(),
        Some([]) => "**no grant**".to_owned(),
        Some(grants) => code(&grants.join(", ")),
    }
}

/// A code span that may stand in a table: its fence is longer than any run of backticks in the text, and bars are escaped.
fn code(text: &str) -> String {
    span(text, LONGEST_TEXT)
}

fn span(text: &str, most: usize) -> String {
    let text = text::shorten(&text::visible(text), most).replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let blank = if longest > 0 { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_in_its_code_span() {
        assert_eq!(code("plain"), "`plain`");
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("`x` and ``y"), "``` `x` and ``y ```");
        assert!(!code("a\nb").contains('\n'));
        assert!(code(&"x".repeat(5000)).len() < 300);
    }
}
