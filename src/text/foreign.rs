//! Foreign text made harmless. No result holds a dangerous character, but for the line feeds of [`lines`].

use std::borrow::Cow;
use std::char::EscapeDefault;

use super::characters::{is_dangerous, only_shapes, parts_words};
use super::short::shorten;

/// Prose on one line: what parts words or lines is a blank, and what else is dangerous is shown as `\u{202e}`. Doing it
/// again changes nothing.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, is_dangerous, prose)
}

/// Prose whose own line feeds stay, such as a refusal that lists several things. Doing it again changes nothing.
pub fn lines(text: &str) -> Cow<'_, str> {
    shown(text, |c| c != '\n' && is_dangerous(c), prose)
}

/// Prose with its further lines indented, so that a line of a foreign name reads as a part of the message.
pub fn hanging(text: &str) -> String {
    lines(text).replace('\n', "\n  ")
}

/// A foreign message within a sentence: one line without blanks around it, of at most `most` characters. Doing it again
/// changes nothing.
pub fn excerpt(text: &str, most: usize) -> String {
    shorten(line(text).trim(), most).into_owned()
}

/// Text in which every dangerous character can be seen, line breaks among them as `\n`. Doing it again changes nothing,
/// so two texts may become one, if the first has a backslash ([`distinct`]).
pub fn visible(text: &str) -> Cow<'_, str> {
    shown(text, is_dangerous, escaped)
}

/// Text in which every dangerous character can be seen, and every backslash is doubled, so that two texts never become one: for names that are compared. To be done
/// once.
pub fn distinct(text: &str) -> Cow<'_, str> {
    shown(text, |c| c == '\\' || is_dangerous(c), escaped)
}

/// A foreign name or value as it stands between the backticks of a sentence: visible, at most `most` characters, and unable
/// to close them, since its own become `'`. Doing it again changes nothing.
pub fn quoted(text: &str, most: usize) -> String {
    shorten(&visible(text), most).replace('`', "'")
}

/// What stands for a character.
enum Shown {
    Nothing,
    Itself(char),
    Escaped(EscapeDefault),
}

impl Iterator for Shown {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => None,
            Self::Itself(c) => Some(c),
            Self::Escaped(mut escape) => {
                let next = escape.next();
                *self = Self::Escaped(escape);
                next
            }
        }
    }
}

/// A dangerous character in prose.
fn prose(c: char) -> Shown {
    match c {
        c if only_shapes(c) => Shown::Nothing,
        c if parts_words(c) => Shown::Itself(' '),
        c => escaped(c),
    }
}

/// A dangerous character where it matters which one it is.
fn escaped(c: char) -> Shown {
    Shown::Escaped(c.escape_default())
}

/// Bytes that are looked at without asking after each.
const PIECE: usize = 64;

/// Whether these are blanks and visible characters of ASCII other than the backslash, which are dangerous nowhere.
fn is_plain(piece: &[u8]) -> bool {
    let is_other = |byte: u8| !matches!(byte, b' '..=b'~') || byte == b'\\';
    piece.iter().fold(0, |found, byte| found | u8::from(is_other(*byte))) == 0
}

fn shown(text: &str, dangerous: impl Fn(char) -> bool, stand_in: fn(char) -> Shown) -> Cow<'_, str> {
    // Nearly every text is plain, or ASCII at least, and is settled without decoding characters.
    let is_safe = |byte: &u8| byte.is_ascii() && !dangerous(char::from(*byte));
    let is_harmless = text.as_bytes().chunks(PIECE).all(|piece| is_plain(piece) || piece.iter().all(is_safe));
    if is_harmless || !text.contains(&dangerous) {
        return Cow::Borrowed(text);
    }
    let safe = |c| if dangerous(c) { stand_in(c) } else { Shown::Itself(c) };
    Cow::Owned(text.chars().flat_map(safe).collect())
}
