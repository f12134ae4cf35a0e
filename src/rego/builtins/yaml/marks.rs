//! What stands before a node of YAML or a document: anchors, tags and directives.

use super::cursor::{Cursor, is_blank, is_blank_or_end, is_break_or_end, is_word, unread, wrong};
use crate::rego::failure::Failure;

/// The tags of YAML's own types (`http://yaml.org/type/`).
const OWN: &str = "tag:yaml.org,2002:";

/// A type that a text is said to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Binary,
    Bool,
    Float,
    Int,
    /// The key of mappings whose members are taken over.
    Merge,
    Null,
    Text,
    /// One that means nothing here, which leaves a text as it is.
    Other,
}

/// The name behind `&` or `*`.
pub(super) fn name(cursor: &mut Cursor) -> Result<String, Failure> {
    cursor.skip();
    let mut name = String::new();
    while is_word(cursor.peek()) {
        name.push(cursor.skip());
    }
    let next = cursor.peek();
    let ends = is_blank_or_end(next) || matches!(next, '?' | ':' | ',' | ']' | '}' | '%' | '@' | '`');
    if name.is_empty() || !ends { wrong(cursor.line, "no name of an anchor") } else { Ok(name) }
}

const fn is_in_tag(letter: char) -> bool {
    is_word(letter)
        || matches!(
            letter,
            ';' | '/'
                | '?'
                | ':'
                | '@'
                | '&'
                | '='
                | '+'
                | '$'
                | ','
                | '.'
                | '!'
                | '~'
                | '*'
                | '\''
                | '('
                | ')'
                | '['
                | ']'
        )
}

fn rest_of_tag(cursor: &mut Cursor, tag: &mut String) -> Result<(), Failure> {
    while is_in_tag(cursor.peek()) {
        tag.push(cursor.skip());
    }
    if cursor.peek() == '%' { unread("an escape in a tag") } else { Ok(()) }
}

/// A tag behind `!`, which is none where nothing follows.
pub(super) fn tag(cursor: &mut Cursor) -> Result<Option<Tag>, Failure> {
    let line = cursor.line;
    cursor.skip();
    let mut whole = String::new();
    if cursor.peek() == '<' {
        cursor.skip();
        rest_of_tag(cursor, &mut whole)?;
        if whole.is_empty() || cursor.peek() != '>' {
            return wrong(line, "a tag that does not end");
        }
        cursor.skip();
    } else {
        let mut handle = String::from("!");
        while is_word(cursor.peek()) {
            handle.push(cursor.skip());
        }
        if cursor.peek() == '!' {
            cursor.skip();
            let prefix = handle.len();
            rest_of_tag(cursor, &mut handle)?;
            if handle.len() == prefix {
                return wrong(line, "a tag without a name");
            }
            // Others than `!!` are named by a directive, which is not read here.
            match handle.strip_prefix('!').filter(|_| prefix == 1) {
                Some(name) => whole = format!("{OWN}{name}"),
                None => return wrong(line, "an unknown handle of a tag"),
            }
        } else {
            rest_of_tag(cursor, &mut handle)?;
            whole = handle;
        }
    }
    if !is_blank_or_end(cursor.peek()) {
        return wrong(line, "a tag that does not end");
    }
    if whole == "!" { Ok(None) } else { known(&whole).map(Some) }
}

fn known(tag: &str) -> Result<Tag, Failure> {
    let Some(name) = tag.strip_prefix(OWN).or_else(|| tag.strip_prefix("!!")) else { return Ok(Tag::Other) };
    Ok(match name {
        "binary" => Tag::Binary,
        "bool" => Tag::Bool,
        "float" => Tag::Float,
        "int" => Tag::Int,
        "null" => Tag::Null,
        "str" => Tag::Text,
        "merge" | "timestamp" => return unread("such a tag"),
        _ => Tag::Other,
    })
}

/// A directive; says whether it is a version that can be read.
pub(super) fn directive(cursor: &mut Cursor) -> Result<bool, Failure> {
    let line = cursor.line;
    cursor.skip();
    let mut name = String::new();
    while is_word(cursor.peek()) {
        name.push(cursor.skip());
    }
    if !is_blank_or_end(cursor.peek()) {
        return wrong(line, "no name of a directive");
    }
    match name.as_str() {
        "TAG" => return unread("a handle of tags"),
        "YAML" => {}
        _ => return wrong(line, "an unknown directive"),
    }
    cursor.skip_blanks();
    let major = version(cursor)?;
    if cursor.peek() != '.' {
        return wrong(line, "no version");
    }
    cursor.skip();
    let minor = version(cursor)?;
    if is_blank(cursor.peek()) || cursor.peek() == '#' {
        cursor.skip_blanks();
        if cursor.peek() == '#' {
            cursor.rest_of_line();
        }
    }
    if !is_break_or_end(cursor.peek()) {
        return wrong(line, "more behind a version");
    }
    cursor.line_break();
    Ok((major, minor) == (1, 1))
}

fn version(cursor: &mut Cursor) -> Result<u32, Failure> {
    let (mut number, mut length) = (0_u32, 0);
    while let Some(digit) = cursor.peek().to_digit(10) {
        number = number.saturating_mul(10).saturating_add(digit);
        length += 1;
        cursor.skip();
    }
    if (1..=2).contains(&length) { Ok(number) } else { wrong(cursor.line, "no version") }
}
