//! Layouts of Go's `time` (`time/format.go`): a text that shows how the second of January 2006, 15:04:05, would be written.

/// One element of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Text that stands for itself.
    Literal(String),
    /// `January`.
    LongMonth,
    /// `Jan`.
    Month,
    /// `1`, or `01` of two digits.
    NumberMonth(bool),
    /// `Monday`.
    LongWeekday,
    /// `Mon`.
    Weekday,
    /// `2`, `_2` and `02`.
    Day(Fill),
    /// `__2`, and `002` with zeros.
    YearDay(Fill),
    /// `15`.
    Hour,
    /// `3`, or `03` of two digits.
    Hour12(bool),
    /// `4`, or `04` of two digits.
    Minute(bool),
    /// `5`, or `05` of two digits.
    Second(bool),
    /// `2006`.
    LongYear,
    /// `06`.
    Year,
    /// `PM`, or `pm` in small letters.
    Half(bool),
    /// `MST`.
    ZoneName,
    /// `-0700` and its like.
    Zone(Zone),
    /// `.000` of so many digits, or `.999` without zeros at the end; behind a point or a comma.
    Fraction {
        /// How many digits.
        digits: usize,
        /// Whether zeros at the end are left out.
        short: bool,
        /// What stands before it.
        mark: char,
    },
}

/// What stands before a number that is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Nothing.
    None,
    /// A blank.
    Blank,
    /// A zero.
    Zero,
}

/// How a distance from UTC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a part of the layout that is there or not")]
pub(super) struct Zone {
    /// Whether UTC itself is `Z`.
    pub z: bool,
    /// Whether there are colons.
    pub colon: bool,
    /// Whether there are minutes.
    pub minutes: bool,
    /// Whether there are seconds.
    pub seconds: bool,
}

const FIXED: [(&str, Chunk); 24] = [
    ("January", Chunk::LongMonth),
    ("Monday", Chunk::LongWeekday),
    ("MST", Chunk::ZoneName),
    ("002", Chunk::YearDay(Fill::Zero)),
    ("01", Chunk::NumberMonth(true)),
    ("02", Chunk::Day(Fill::Zero)),
    ("03", Chunk::Hour12(true)),
    ("04", Chunk::Minute(true)),
    ("05", Chunk::Second(true)),
    ("06", Chunk::Year),
    ("15", Chunk::Hour),
    ("1", Chunk::NumberMonth(false)),
    ("2006", Chunk::LongYear),
    ("2", Chunk::Day(Fill::None)),
    ("__2", Chunk::YearDay(Fill::Blank)),
    ("3", Chunk::Hour12(false)),
    ("4", Chunk::Minute(false)),
    ("5", Chunk::Second(false)),
    ("PM", Chunk::Half(false)),
    ("pm", Chunk::Half(true)),
    ("-070000", zone(false, false, true)),
    ("-07:00:00", zone(false, true, true)),
    ("Z070000", zone(true, false, true)),
    ("Z07:00:00", zone(true, true, true)),
];

const SHORT_ZONES: [(&str, bool, bool, bool); 6] = [
    ("-0700", false, false, true),
    ("-07:00", false, true, true),
    ("-07", false, false, false),
    ("Z0700", true, false, true),
    ("Z07:00", true, true, true),
    ("Z07", true, false, false),
];

const fn zone(z: bool, colon: bool, seconds: bool) -> Chunk {
    Chunk::Zone(Zone { z, colon, minutes: true, seconds })
}

/// The elements of a layout, in order.
pub(super) fn chunks(layout: &str) -> Vec<Chunk> {
    let (mut chunks, mut literal, mut rest) = (Vec::new(), String::new(), layout);
    while let Some(letter) = rest.chars().next() {
        let found = next(rest);
        let length = found.as_ref().map_or(letter.len_utf8(), |(length, _)| *length);
        match found {
            Some((_, chunk)) => {
                if !literal.is_empty() {
                    chunks.push(Chunk::Literal(std::mem::take(&mut literal)));
                }
                chunks.push(chunk);
            }
            None => literal.push(letter),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    if !literal.is_empty() {
        chunks.push(Chunk::Literal(literal));
    }
    chunks
}

/// The element that a text begins with, and its length.
fn next(text: &str) -> Option<(usize, Chunk)> {
    if let Some((name, chunk)) = FIXED.iter().find(|(name, _)| text.starts_with(name)) {
        return Some((name.len(), chunk.clone()));
    }
    let zone = SHORT_ZONES.iter().find(|(name, ..)| text.starts_with(name));
    if let Some((name, z, colon, minutes)) = zone {
        return Some((
            name.len(),
            Chunk::Zone(Zone { z: *z, colon: *colon, minutes: *minutes, seconds: false }),
        ));
    }
    // The short names are not the beginning of another word.
    let small = |rest: &str| rest.starts_with(|letter: char| letter.is_ascii_lowercase());
    match text.get(..3) {
        Some("Jan") if !small(text.get(3..)?) => return Some((3, Chunk::Month)),
        Some("Mon") if !small(text.get(3..)?) => return Some((3, Chunk::Weekday)),
        _ => {}
    }
    // `_2006` is a line and a year.
    if text.starts_with("_2") && !text.starts_with("_2006") {
        return Some((2, Chunk::Day(Fill::Blank)));
    }
    fraction(text)
}

fn fraction(text: &str) -> Option<(usize, Chunk)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '.' | ','))?;
    let digit = text.chars().nth(1).filter(|digit| matches!(digit, '0' | '9'))?;
    let digits = text.chars().skip(1).take_while(|letter| *letter == digit).count();
    let length = digits.checked_add(1)?;
    let ends = !text.get(length..)?.starts_with(|letter: char| letter.is_ascii_digit());
    ends.then_some((length, Chunk::Fraction { digits, short: digit == '9', mark }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_cut_where_go_cuts_it() {
        use Chunk::{Day, Fraction, Literal, LongYear, Month, NumberMonth, Second, Zone as ZoneOf};
        let utc = Zone { z: true, colon: true, minutes: true, seconds: false };
        assert_eq!(
            chunks("2006-01-_2 05.999Z07:00"),
            [
                LongYear,
                Literal("-".into()),
                NumberMonth(true),
                Literal("-".into()),
                Day(Fill::Blank),
                Literal(" ".into()),
                Second(true),
                Fraction { digits: 3, short: true, mark: '.' },
                ZoneOf(utc)
            ]
        );
        assert_eq!(chunks("Jan_2006"), [Month, Literal("_".into()), LongYear]);
        assert_eq!(chunks("Janus .0001"), [Literal("Janus .00".into()), NumberMonth(true)]);
    }
}
