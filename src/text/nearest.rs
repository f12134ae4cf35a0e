//! The word that was meant.

/// A question after the known word nearest to an unknown one, if it is near enough to be what was meant; else empty.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|k| (distance(word, k), k)).min();
    let near = nearest.filter(|(distance, k)| *distance * 2 <= k.chars().count().max(3));
    near.map(|(_, k)| format!("; did you mean `{k}`?")).unwrap_or_default()
}

/// Whether a word is a slip of the pen away from a known one: another case, an edit, or two edits of a long word.
pub fn is_misspelling_of(word: &str, known: &str) -> bool {
    /// From here on two edits, which may be two letters in the wrong order.
    const LONG: usize = 6;
    word != known && distance(word, known) <= if known.chars().count() < LONG { 1 } else { 2 }
}

/// Number of edits between two words, case-insensitive. Long words are cut: no known word is half as long.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let cut = |word: &str| word.to_lowercase().chars().take(LONGEST).collect::<String>();
    strsim::levenshtein(&cut(a), &cut(b))
}
