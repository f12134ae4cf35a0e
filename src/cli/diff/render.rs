//! Renders differences for a terminal; and the words that Markdown shares with it.

use std::fmt::Write as _;

use anstyle::Style;

use super::compare::{Changed, Delta, Difference, Presence, Sizes};
use crate::capability::Entry;
use crate::cli::render::{GREEN, RED, YELLOW, paint, title};
use crate::text;

/// A line about an item that one side has.
pub(super) struct Line {
    pub side: Side,
    pub what: &'static str,
    pub text: String,
    /// The grants that cover a capability of the new side, if grants were applied to it: none is empty.
    pub grants: Option<Vec<String>>,
}

/// Which side has an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Both, and it needs a grant that is not there.
    Kept,
    /// The new one alone.
    Added,
    /// The old one alone.
    Removed,
    /// The new one; whether the old one had it is not known.
    Open,
}

impl Side {
    /// The sign and its colour, for a terminal.
    const fn sign(self) -> (char, Style) {
        match self {
            Self::Added => ('+', RED),
            Self::Removed => ('-', GREEN),
            Self::Open => ('?', YELLOW),
            Self::Kept => ('!', YELLOW),
        }
    }

    /// The word in a table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Added => "**added**",
            Self::Removed => "removed",
            Self::Open => "not known",
            Self::Kept => "kept",
        }
    }
}

/// What the two sides can do, and which rules deny it.
pub(super) fn lines(difference: &Difference) -> Vec<Line> {
    let mut lines = of("capability", &difference.capabilities, capability_text);
    let judged = difference.has_grants;
    for (line, entry) in lines.iter_mut().zip(&difference.capabilities.added) {
        line.grants = judged.then(|| entry.covered_by.clone());
    }
    let kept = difference.uncovered.iter().filter(|entry| !difference.capabilities.added.contains(entry));
    lines.extend(kept.map(|entry| Line {
        side: Side::Kept,
        what: "capability",
        text: text::visible(&capability_text(entry)).into_owned(),
        grants: Some(Vec::new()),
    }));
    lines.extend(of("interpreter", &difference.interpreters, Clone::clone));
    lines.extend(of("denied by", &difference.denials, Clone::clone));
    opened(difference, lines)
}

/// The imports of the two sides.
pub(super) fn imports(difference: &Difference) -> Vec<Line> {
    opened(difference, of("import", &difference.imports, Clone::clone))
}

/// The same, where it is not known what the old side had.
fn opened(difference: &Difference, mut lines: Vec<Line>) -> Vec<Line> {
    if difference.old_unread.is_some() {
        lines.iter_mut().filter(|line| line.side == Side::Added).for_each(|line| line.side = Side::Open);
    }
    lines
}

fn of<T>(what: &'static str, delta: &Delta<T>, text: impl Fn(&T) -> String) -> Vec<Line> {
    let added = delta.added.iter().map(|item| (Side::Added, item));
    let removed = delta.removed.iter().map(|item| (Side::Removed, item));
    added
        .chain(removed)
        .map(|(side, item)| Line { side, what, text: text::visible(&text(item)).into_owned(), grants: None })
        .collect()
}

/// The capability with its first piece of evidence.
fn capability_text(entry: &Entry) -> String {
    let seen = entry.evidence.first().map(|seen| format!(" ({seen})")).unwrap_or_default();
    format!("{}{seen}", entry.label())
}

/// Changed facts, as `name old -> new`.
pub(super) fn changes(difference: &Difference) -> Vec<String> {
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

/// What is not known of a program, or not judged.
pub(super) fn notes(difference: &Difference) -> Vec<(&'static str, &str)> {
    let notes = [
        ("not known what it can do", &difference.unread),
        ("not known what the old one was able to do", &difference.old_unread),
        ("not judged", &difference.left_alone),
    ];
    notes.into_iter().filter_map(|(what, why)| Some((what, why.as_deref()?))).collect()
}

/// The images of both sides, or which side has the program.
pub(super) fn heading(difference: &Difference) -> String {
    // An object that is not judged as a whole has none.
    if difference.image.old.is_empty() && difference.image.new.is_empty() {
        return text::visible(&difference.name).into_owned();
    }
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
        for (what, why) in notes(difference) {
            let _ = writeln!(out, "  {}", paint(YELLOW, &text::line(&format!("{what}: {why}"))));
        }
        for Line { side, what, text, grants } in lines(difference).into_iter().chain(imports(difference)) {
            let (sign, style) = side.sign();
            let open =
                if grants.is_some_and(|grants| grants.is_empty()) { ": no grant covers it" } else { "" };
            let _ = writeln!(out, "  {}", paint(style, &format!("{sign} {what} {text}{open}")));
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
    let sum = |of| added(differences, of);
    let counts = [
        (sum(|d| d.capabilities.added.len()), "capability", "capabilities"),
        (sum(|d| d.interpreters.added.len()), "interpreter", "interpreters"),
        (sum(|d| d.denials.added.len()), "denial", "denials"),
    ];
    let counted = counts.iter().filter(|(count, _, _)| *count > 0);
    let said: Vec<_> = counted
        .map(|(count, one, several)| format!("{count} {}", if *count == 1 { one } else { several }))
        .collect();
    match (said.is_empty(), differences.iter().any(Difference::is_open)) {
        (false, _) => format!("added: {}", said.join(", ")),
        (true, true) => "nothing is known to be added, but not everything could be compared".to_string(),
        (true, false) => "nothing was added".to_string(),
    }
}

/// How much was added to the programs whose old side is known.
pub(super) fn added(differences: &[Difference], of: fn(&Difference) -> usize) -> usize {
    differences.iter().filter(|difference| difference.old_unread.is_none()).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_with_its_sign() {
        assert_eq!(percent(100, 190), "+90 %");
        assert_eq!(percent(200, 100), "-50 %");
        assert_eq!(percent(u64::MAX, 0), "-100 %");
    }
}
