//! Texts of YAML in each of its five styles.

use super::cursor::{Cursor, END, is_blank, is_blank_or_end, is_break, is_break_or_end, wrong};
use crate::rego::failure::Failure;

/// What is between two words of a text: blanks, or line breaks, which are folded.
#[derive(Debug, Default)]
struct Gap {
    blanks: String,
    /// The first line break; none where it was escaped.
    first: Option<char>,
    /// The further ones.
    more: String,
    has_break: bool,
}

impl Gap {
    /// Reads blanks and line breaks. A plain text says how far its lines are indented at least.
    fn read(&mut self, cursor: &mut Cursor, inner: Option<usize>) -> Result<(), Failure> {
        loop {
            let letter = cursor.peek();
            if is_blank(letter) {
                let is_outside = inner.is_some_and(|inner| cursor.column < inner);
                if self.has_break && is_outside && letter == '\t' {
                    return wrong(cursor.line, "a tab indents a plain text");
                }
                cursor.skip();
                if !self.has_break {
                    self.blanks.push(letter);
                }
            } else if let Some(found) = cursor.line_break() {
                if self.has_break {
                    self.more.push(found);
                } else {
                    self.blanks.clear();
                    self.first = Some(found);
                    self.has_break = true;
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Writes what it means: one line break is a blank, and of several the first is left out.
    fn write(&mut self, text: &mut String) {
        match self.first {
            _ if !self.has_break => text.push_str(&self.blanks),
            Some('\n') if self.more.is_empty() => text.push(' '),
            Some('\n') | None => text.push_str(&self.more),
            Some(first) => {
                text.push(first);
                text.push_str(&self.more);
            }
        }
        *self = Self::default();
    }
}

/// A plain text, and whether it ended with a line. `inner` is the column from which its lines are on.
pub(super) fn plain(cursor: &mut Cursor, inner: usize, is_flow: bool) -> Result<(String, bool), Failure> {
    let (mut text, mut gap) = (String::new(), Gap::default());
    while !cursor.is_at_indicator() && cursor.peek() != '#' {
        while !is_blank_or_end(cursor.peek()) && !ends_plain(cursor, is_flow) {
            gap.write(&mut text);
            text.push(cursor.skip());
        }
        if !is_blank(cursor.peek()) && !is_break(cursor.peek()) {
            break;
        }
        gap.read(cursor, Some(inner))?;
        if !is_flow && cursor.column < inner {
            break;
        }
    }
    Ok((text, gap.has_break))
}

fn ends_plain(cursor: &Cursor, is_flow: bool) -> bool {
    match cursor.peek() {
        ':' => is_blank_or_end(cursor.ahead(1)),
        ',' | '?' | '[' | ']' | '{' | '}' => is_flow,
        _ => false,
    }
}

/// A text in quotes.
pub(super) fn quoted(cursor: &mut Cursor) -> Result<String, Failure> {
    let quote = cursor.skip();
    let begin = cursor.line;
    let mut text = String::new();
    loop {
        if cursor.is_at_indicator() {
            return wrong(begin, "a document begins or ends inside quotes");
        }
        if cursor.peek() == END {
            return wrong(begin, "a text in quotes does not end");
        }
        let mut gap = Gap { has_break: word(cursor, quote, &mut text)?, ..Gap::default() };
        if cursor.peek() == quote {
            cursor.skip();
            return Ok(text);
        }
        gap.read(cursor, None)?;
        gap.write(&mut text);
    }
}

/// What is in quotes up to a blank or the other quote, and whether it ended with an escaped line break.
fn word(cursor: &mut Cursor, quote: char, text: &mut String) -> Result<bool, Failure> {
    while !is_blank_or_end(cursor.peek()) {
        match cursor.peek() {
            '\'' if quote == '\'' && cursor.ahead(1) == '\'' => {
                cursor.skip();
                text.push(cursor.skip());
            }
            letter if letter == quote => return Ok(false),
            '\\' if quote == '"' => {
                cursor.skip();
                if cursor.line_break().is_some() {
                    return Ok(true);
                }
                text.push(escape(cursor)?);
            }
            _ => text.push(cursor.skip()),
        }
    }
    Ok(false)
}

fn escape(cursor: &mut Cursor) -> Result<char, Failure> {
    let line = cursor.line;
    Ok(match cursor.skip() {
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        't' | '\t' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        letter @ (' ' | '"' | '\'' | '\\') => letter,
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        'x' => code(cursor, 2)?,
        'u' => code(cursor, 4)?,
        'U' => code(cursor, 8)?,
        _ => return wrong(line, "an unknown escape"),
    })
}

fn code(cursor: &mut Cursor, length: usize) -> Result<char, Failure> {
    let mut code = 0_u32;
    for _ in 0..length {
        let Some(digit) = cursor.peek().to_digit(16) else {
            return wrong(cursor.line, "an escape without its digits");
        };
        code = (code << 4) | digit;
        cursor.skip();
    }
    char::from_u32(code).map_or_else(|| wrong(cursor.line, "an escape that is no letter"), Ok)
}

/// What the first line of a block says.
#[derive(Debug, Default)]
struct Header {
    /// Of the line breaks at the end: `-` none, `+` all.
    chomping: Option<char>,
    indent: usize,
}

impl Header {
    fn read(cursor: &mut Cursor) -> Result<Self, Failure> {
        let mut header = Self::default();
        for _ in 0..2 {
            match cursor.peek() {
                sign @ ('+' | '-') if header.chomping.is_none() => header.chomping = Some(sign),
                '0' if header.indent == 0 => {
                    return wrong(cursor.line, "a block that is indented by nothing");
                }
                digit if header.indent == 0 && digit.is_ascii_digit() => {
                    let digit = digit.to_digit(10).unwrap_or_default();
                    header.indent = usize::try_from(digit).unwrap_or_default();
                }
                _ => break,
            }
            cursor.skip();
        }
        cursor.skip_blanks();
        if cursor.peek() == '#' {
            cursor.rest_of_line();
        }
        if !is_break_or_end(cursor.peek()) {
            return wrong(cursor.line, "more in the first line of a block");
        }
        cursor.line_break();
        Ok(header)
    }
}

/// A block of lines, which stay lines in a literal one. `inner` is the column from which it may be on.
pub(super) fn block(cursor: &mut Cursor, inner: usize) -> Result<String, Failure> {
    let is_literal = cursor.skip() == '|';
    let header = Header::read(cursor)?;
    let mut indent = match header.indent {
        0 => 0,
        more => inner.saturating_sub(1).saturating_add(more),
    };
    let (mut text, mut first, mut breaks) = (String::new(), None, String::new());
    let mut was_blank = false;
    empty_lines(cursor, &mut indent, inner, &mut breaks)?;
    while cursor.column == indent && cursor.peek() != END {
        let begins_blank = is_blank(cursor.peek());
        // Two lines that begin with a word are folded into one.
        if !is_literal && first == Some('\n') && !was_blank && !begins_blank {
            if breaks.is_empty() {
                text.push(' ');
            }
        } else {
            text.extend(first);
        }
        text.push_str(&breaks);
        breaks.clear();
        was_blank = begins_blank;
        while !is_break_or_end(cursor.peek()) {
            text.push(cursor.skip());
        }
        first = cursor.line_break();
        empty_lines(cursor, &mut indent, inner, &mut breaks)?;
    }
    if header.chomping != Some('-') {
        text.extend(first);
    }
    if header.chomping == Some('+') {
        text.push_str(&breaks);
    }
    Ok(text)
}

/// Reads lines without a letter, and the blanks before the next line; they say how far a block is indented where its header did not.
fn empty_lines(
    cursor: &mut Cursor,
    indent: &mut usize,
    inner: usize,
    breaks: &mut String,
) -> Result<(), Failure> {
    let mut deepest = 0;
    loop {
        let is_indent = |cursor: &Cursor| *indent == 0 || cursor.column < *indent;
        while is_indent(cursor) && cursor.peek() == ' ' {
            cursor.skip();
        }
        deepest = deepest.max(cursor.column);
        if is_indent(cursor) && cursor.peek() == '\t' {
            return wrong(cursor.line, "a tab indents a block");
        }
        let Some(found) = cursor.line_break() else { break };
        breaks.push(found);
    }
    if *indent == 0 {
        *indent = deepest.max(inner).max(1);
    }
    Ok(())
}
