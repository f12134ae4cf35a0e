//! `lower` and `upper`, letter by letter (`unicode.ToLower` and `unicode.ToUpper` of Go 1.26, which has Unicode 15).

use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::value::Value;

/// Whether a letter has a counterpart since a later version than Go's.
const fn is_new(letter: char) -> bool {
    matches!(
        letter,
        '\u{19b}' | '\u{264}' | '\u{1c89}' | '\u{1c8a}' | '\u{a7cb}'..='\u{a7cf}' | '\u{a7d2}'..='\u{a7d5}'
            | '\u{a7da}'..='\u{a7dc}' | '\u{10d50}'..='\u{10d65}' | '\u{10d70}'..='\u{10d85}'
            | '\u{16ea0}'..='\u{16eb8}' | '\u{16ebb}'..='\u{16ed3}'
    )
}

/// The one letter that another becomes; `None` for several.
fn single(mut letters: impl Iterator<Item = char>) -> Option<char> {
    let first = letters.next();
    first.filter(|_| letters.next().is_none())
}

fn lowered(letter: char) -> char {
    if is_new(letter) {
        return letter;
    }
    // Of İ the dot is lost.
    single(letter.to_lowercase()).unwrap_or('i')
}

fn raised(letter: char) -> char {
    if is_new(letter) {
        return letter;
    }
    let by = |distance: u32| char::from_u32(u32::from(letter).saturating_add(distance)).unwrap_or(letter);
    single(letter.to_uppercase()).unwrap_or_else(|| match letter {
        // Greek letters with an iota below, whose capitals have it beside them.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => by(8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => by(9),
        // Such as ß, for which there are only several.
        other => other,
    })
}

pub(super) fn lower(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(operands.text(0)?.chars().map(lowered).collect()))
}

pub(super) fn upper(_: &mut Call, operands: Operands<'_>) -> Outcome {
    Ok(Value::String(operands.text(0)?.chars().map(raised).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many letters change, and by how much all together, as `opa eval` 1.22.2 says it. A later version of Unicode in Rust has more.
    #[test]
    fn as_many_letters_change_as_in_go() {
        let changed = |by: fn(char) -> char| {
            let letters = ('\0'..=char::MAX).filter(|letter| by(*letter) != *letter);
            let distance = |letter: char| i64::from(u32::from(by(letter))) - i64::from(u32::from(letter));
            letters.map(distance).fold((0, 0), |(count, sum), distance| (count + 1, sum + distance))
        };
        assert_eq!(changed(lowered), (1433, 2_691_860));
        assert_eq!(changed(raised), (1450, -2_746_007));
    }
}
