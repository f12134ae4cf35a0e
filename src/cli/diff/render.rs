//! Renders differences for a terminal and for the description of a pull request.

use std::fmt::Write as _;

use super::compare::{Changed, Delta, Difference, Presence, Sizes};
use crate::capability::Entry;
use crate::cli::render::{GREEN, RED, YELLOW, paint, title};
use crate::text;

/// A line about an added or removed item.
struct Line {
    added: bool,
    what: &'static str,
    text: String,
}

fn lines(difference: &Difference) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(of("capability", &difference.capabilities, capability_text));
    lines.extend(of("interpreter", &difference.interpreters, Clone::clone));
    lines.extend(of("denied by", &difference.denials, Clone::clone));
    lines.extend(of("import", &difference.imports, Clone::clone));
    lines
}

fn of<T>(what: &'static str, delta: &Delta<T>, text: impl Fn(&T) -> String) -> Vec<Line> {
    let added = delta.added.iter().map(|item| (true, item));
    let removed = delta.removed.iter().map(|item| (false, item));
    added
        .chain(removed)
        .map(|(added, item)| Line { added, what, text: text::visible(&text(item)).into_owned() })
        .collect()
}

/// The capability with its first piece of evidence.
fn capability_text(entry: &Entry) -> String {
    let seen = entry.evidence.first().map(|seen| format!(" ({seen})")).unwrap_or_default();
    format!("{}{seen}", entry.label())
}

/// Changed facts, as `name old -> new`.
fn changes(difference: &Difference) -> Vec<String> {
    let mut changes = Vec::new();
    let word = |value: Option<&str>| value.unwrap_or("none").to_string();
    if difference.digest.old != difference.digest.new {
        let Changed { old, new } = &difference.digest;
        changes.push(format!("digest {} -> {}", word(old.as_deref()), word(new.as_deref())));
    }
    if let Some(Changed { old, new }) = &difference.kind {
        changes.push(format!(
            "kind {} -> {}",
            word(old.map(crate::image::ImageKind::as_str)),
            word(new.map(crate::image::ImageKind::as_str))
        ));
    }
    if let Some(Changed { old, new }) = &difference.shape {
        let name = |shape| serde_json::to_value(shape).ok().and_then(|v| v.as_str().map(String::from));
        changes.push(format!("shape {} -> {}", word(name(old).as_deref()), word(name(new).as_deref())));
    }
    changes.extend(sizes(&difference.sizes));
    changes
}

fn sizes(sizes: &Changed<Sizes>) -> impl Iterator<Item = String> + use<> {
    let Changed { old, new } = *sizes;
    let each = [
        ("binary", old.binary, new.binary),
        ("code", old.code, new.code),
        ("data", old.data, new.data),
        ("initial memory", old.memory, new.memory),
    ];
    each.into_iter().filter(|(_, old, new)| old != new).map(|(what, old, new)| {
        let ratio = if old == 0 { String::new() } else { format!(" ({})", percent(old, new)) };
        format!("{what} {old} -> {new} bytes{ratio}")
    })
}

/// Growth in whole percent, with its sign.
fn percent(old: u64, new: u64) -> String {
    let growth = (i128::from(new) - i128::from(old)) * 100 / i128::from(old);
    format!("{growth:+} %")
}

/// The images of both sides, or which side has the program.
fn heading(difference: &Difference) -> String {
    let images = match difference.presence {
        Presence::Added => format!("new: {}", difference.image.new),
        Presence::Removed => format!("gone: {}", difference.image.old),
        Presence::Kept => format!("{} -> {}", difference.image.old, difference.image.new),
    };
    let named = if difference.name.is_empty() { images } else { format!("{}  {images}", difference.name) };
    text::visible(&named).into_owned()
}

/// The text for a terminal; a pipe gets it without colours.
pub fn text(differences: &[Difference]) -> String {
    let mut out = String::new();
    for difference in differences {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{}", title(&heading(difference)));
        if let Some(why) = &difference.unread {
            let _ = writeln!(
                out,
                "  {}",
                paint(YELLOW, &text::line(&format!("not known what it can do: {why}")))
            );
        }
        for line in lines(difference) {
            let (sign, style) = if line.added { ('+', RED) } else { ('-', GREEN) };
            let _ = writeln!(out, "  {}", paint(style, &format!("{sign} {} {}", line.what, line.text)));
        }
        for change in changes(difference) {
            let _ = writeln!(out, "    {}", text::line(&change));
        }
        if difference.is_empty() {
            let _ = writeln!(out, "    no difference");
        }
    }
    let _ = writeln!(out, "{}", conclusion(differences));
    out
}

fn conclusion(differences: &[Difference]) -> String {
    let sum = |of: fn(&Difference) -> usize| differences.iter().map(of).sum::<usize>();
    let counts = [
        (sum(|d| d.capabilities.added.len()), "capability", "capabilities"),
        (sum(|d| d.interpreters.added.len()), "interpreter", "interpreters"),
        (sum(|d| d.denials.added.len()), "denial", "denials"),
    ];
    let counted = counts.iter().filter(|(count, _, _)| *count > 0);
    let said: Vec<_> = counted
        .map(|(count, one, several)| format!("{count} {}", if *count == 1 { one } else { several }))
        .collect();
    if said.is_empty() { "nothing was added".to_string() } else { format!("added: {}", said.join(", ")) }
}

/// The heading of the table: the capabilities that were added, and what else was.
fn counted(differences: &[Difference]) -> String {
    let sum = |of: fn(&Difference) -> usize| differences.iter().map(of).sum::<usize>();
    let noun =
        |count: usize, word: &str| format!("{count} {word}{} added", if count == 1 { "" } else { "s" });
    let (interpreters, denials) = (sum(|d| d.interpreters.added.len()), sum(|d| d.denials.added.len()));
    let mut said = vec![format!("{} added", sum(|d| d.capabilities.added.len()))];
    said.extend((interpreters > 0).then(|| noun(interpreters, "interpreter")));
    said.extend((denials > 0).then(|| noun(denials, "denial")));
    said.join(", ")
}

/// Markdown for a pull request: a table per program. Foreign text is in code spans, so that Markdown in it has no effect.
pub fn markdown(differences: &[Difference]) -> String {
    let mut out = format!("### Wasm capabilities: {}\n", counted(differences));
    for difference in differences {
        let _ = write!(out, "\n{}\n\n", code(&heading(difference)));
        if let Some(why) = &difference.unread {
            let _ = writeln!(out, "Not known what it can do: {}\n", code(why));
        }
        let rows = lines(difference);
        if !rows.is_empty() {
            out.push_str("| | what | |\n|---|---|---|\n");
        }
        for line in rows {
            let sign = if line.added { "**added**" } else { "removed" };
            let _ = writeln!(out, "| {sign} | {} | {} |", line.what, code(&line.text));
        }
        let changes: Vec<String> =
            changes(difference).iter().map(|change| format!("- {}", code(change))).collect();
        if !changes.is_empty() {
            let _ = write!(out, "\n{}\n", changes.join("\n"));
        }
        if difference.is_empty() {
            out.push_str("No difference.\n");
        }
    }
    out
}

/// A code span for a table cell: its fence is longer than any run of backticks in the text, and bars are escaped.
fn code(text: &str) -> String {
    let text = text::visible(text).replace('|', "\\|");
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
    }

    #[test]
    fn growth_is_told_with_its_sign() {
        assert_eq!(percent(100, 190), "+90 %");
        assert_eq!(percent(200, 100), "-50 %");
        assert_eq!(percent(u64::MAX, 0), "-100 %");
    }
}
