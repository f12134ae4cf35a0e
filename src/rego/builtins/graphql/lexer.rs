//! The words of GraphQL as the library in OPA splits them (`vektah/gqlparser:lexer`).

use std::borrow::Cow;

use super::tree::check_name;
use crate::rego::failure::Failure;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    /// A sign, of which `...` is the only one with more than one letter.
    Sign(&'static str),
    Name,
    Int,
    Float,
    String,
    Block,
    Comment,
}

/// A token, and at which byte it begins.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: Cow<'a, str>,
    pub at: usize,
}

impl Token<'_> {
    /// How a message calls it.
    pub fn shown(&self) -> String {
        let kind = match self.kind {
            Kind::End => return "the end".into(),
            Kind::Sign(sign) => return format!("`{sign}`"),
            Kind::Name => "name",
            Kind::Int | Kind::Float => "number",
            Kind::String | Kind::Block => "string",
            Kind::Comment => "comment",
        };
        format!("{kind} `{}`", self.text)
    }
}

/// Splits a text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// An error at a byte, with its line and column.
    pub fn wrong(&self, at: usize, what: &str) -> Failure {
        let before = self.text.get(..at).unwrap_or(self.text).replace("\r\n", "\n").replace('\r', "\n");
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
        Failure::Error(format!("{what} in GraphQL string at location {line}:{column}"))
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at.saturating_add(ahead)).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    /// Skips bytes of ASCII while they are such.
    fn skip_while(&mut self, is_such: impl Fn(u8) -> bool) -> usize {
        let count = self.rest().bytes().take_while(|byte| is_such(*byte)).count();
        self.skip(count);
        count
    }

    fn blanks(&mut self) {
        let trimmed = self.rest().trim_start_matches(['\t', ' ', ',', '\n', '\r', '\u{feff}']);
        self.at = self.text.len().saturating_sub(trimmed.len());
    }

    fn since(&self, start: usize) -> Cow<'a, str> {
        Cow::Borrowed(self.text.get(start..self.at).unwrap_or_default())
    }

    /// The next token.
    pub fn token(&mut self) -> Result<Token<'a>, Failure> {
        self.blanks();
        let at = self.at;
        let Some(first) = self.byte(0) else {
            return Ok(Token { kind: Kind::End, text: Cow::Borrowed(""), at });
        };
        if let Some(sign) = sign(self.rest()) {
            self.skip(sign.len());
            return Ok(Token { kind: Kind::Sign(sign), text: Cow::Borrowed(""), at });
        }
        let (kind, text) = match first {
            b'#' => {
                let length = self.rest().find(|letter| letter < ' ' && letter != '\t');
                self.skip(length.unwrap_or(self.rest().len()));
                (Kind::Comment, self.since(at))
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                check_name(self.skip_while(|byte| byte == b'_' || byte.is_ascii_alphanumeric()))?;
                (Kind::Name, self.since(at))
            }
            b'-' | b'0'..=b'9' => (self.number()?, self.since(at)),
            b'"' if self.rest().starts_with("\"\"\"") => (Kind::Block, Cow::Owned(self.block()?)),
            b'"' => (Kind::String, self.string()?),
            _ => return Err(self.wrong(at, "unexpected character")),
        };
        Ok(Token { kind, text, at })
    }

    fn number(&mut self) -> Result<Kind, Failure> {
        let mut kind = Kind::Int;
        if self.byte(0) == Some(b'-') {
            self.skip(1);
        }
        let starts_with_zero = self.byte(0) == Some(b'0');
        let digits = self.digits()?;
        if starts_with_zero && digits > 1 {
            return Err(self.wrong(self.at, "unexpected digit after 0"));
        }
        if self.byte(0) == Some(b'.') {
            kind = Kind::Float;
            self.skip(1);
            self.digits()?;
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            kind = Kind::Float;
            self.skip(1);
            if matches!(self.byte(0), Some(b'+' | b'-')) {
                self.skip(1);
            }
            self.digits()?;
        }
        Ok(kind)
    }

    fn digits(&mut self) -> Result<usize, Failure> {
        match self.skip_while(|byte| byte.is_ascii_digit()) {
            0 => Err(self.wrong(self.at, "invalid number, expected a digit")),
            count => Ok(count),
        }
    }

    /// Text up to a byte that needs a look.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        self.skip_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f) || byte == b'\t');
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Failure> {
        self.skip(1);
        let start = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            let plain = self.plain();
            if let Some(text) = &mut unescaped {
                text.push_str(plain);
            }
            match self.byte(0) {
                Some(b'"') => {
                    let text = unescaped.map_or_else(|| self.since(start), Cow::Owned);
                    self.skip(1);
                    return Ok(text);
                }
                Some(b'\\') => {
                    let before = self.since(start);
                    let letter = self.escape()?;
                    unescaped.get_or_insert_with(|| before.into_owned()).push(letter);
                }
                Some(b'\n' | b'\r') | None => return Err(self.wrong(self.at, "unterminated string")),
                Some(_) => return Err(self.wrong(self.at, "invalid character within string")),
            }
        }
    }

    /// Half a pair is the replacement character, and so are both halves, each for itself.
    fn escape(&mut self) -> Result<char, Failure> {
        let letter = match self.byte(1) {
            Some(letter @ (b'"' | b'/' | b'\\')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let digits = self.rest().get(2..6);
                let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                // The library asks for a letter after the digits too, and a string needs one.
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let code = code.filter(|_| self.byte(6).is_some());
                let code = code.ok_or_else(|| self.wrong(self.at, "invalid character escape sequence"))?;
                self.skip(4);
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.wrong(self.at, "invalid character escape sequence")),
        };
        self.skip(2);
        Ok(letter)
    }

    fn block(&mut self) -> Result<String, Failure> {
        self.skip(3);
        let mut text = String::new();
        loop {
            text.push_str(self.plain());
            match self.byte(0) {
                Some(b'"') => {
                    let quotes = self.skip_while(|byte| byte == b'"');
                    text.extend(std::iter::repeat_n('"', if quotes < 3 { quotes } else { quotes - 3 }));
                    if quotes >= 3 {
                        return Ok(dedented(&text));
                    }
                }
                Some(b'\\') if self.rest().starts_with("\\\"\"\"") => {
                    text.push_str("\"\"\"");
                    self.skip(4);
                }
                Some(b'\\') => {
                    text.push('\\');
                    self.skip(1);
                }
                Some(b'\r') => {
                    text.push('\n');
                    self.skip(if self.byte(1) == Some(b'\n') { 2 } else { 1 });
                }
                Some(b'\n') => {
                    text.push('\n');
                    self.skip(1);
                }
                Some(_) => return Err(self.wrong(self.at, "invalid character within string")),
                None => return Err(self.wrong(self.at, "unterminated string")),
            }
        }
    }
}

fn sign(rest: &str) -> Option<&'static str> {
    const SIGNS: [&str; 14] = ["!", "$", "&", "(", ")", "...", ":", "=", "@", "[", "]", "{", "}", "|"];
    SIGNS.into_iter().find(|sign| rest.starts_with(sign))
}

fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t'))
}

/// The value of a block string. The first line counts for the common indent, and keeps its own.
fn dedented(raw: &str) -> String {
    let mut lines: Vec<&str> = raw.split('\n').collect();
    let indent = |line: &&str| line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let common = lines.iter().filter(|line| !is_blank(line)).map(indent).min();
    if let Some(common) = common {
        for line in lines.iter_mut().skip(1) {
            *line = line.get(common..).unwrap_or_default();
        }
    }
    let start = lines.iter().take_while(|line| is_blank(line)).count();
    let end = lines.iter().rev().take_while(|line| is_blank(line)).count();
    let end = lines.len().saturating_sub(end);
    lines.get(start..end).unwrap_or_default().join("\n")
}
