//! The tokens of a template (Go's `text/template/parse/lex.go`).

use super::letters;
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// What a part of a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What stands outside of actions.
    Text,
    Open,
    Close,
    Space,
    OpenParen,
    CloseParen,
    Pipe,
    Assign,
    Declare,
    Comma,
    /// A sign that nothing begins with.
    Sign,
    Bool,
    Nil,
    Dot,
    /// The text is the name without the point.
    Field,
    /// The text is the name with the dollar.
    Variable,
    Function,
    Keyword,
    Number,
    /// The text is what stands between the quotes, and so for the next two.
    Letter,
    Quoted,
    Raw,
    /// The end of the template.
    End,
}

/// A part of a template.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];
const KEYWORDS: [&str; 10] =
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

fn fail<T>(reason: &str) -> Result<T, Failure> {
    Failure::error(format!("the template has {reason}"))
}

/// The rest behind the end of an action, and whether blanks behind it are dropped.
fn closed(rest: &str) -> Option<(&str, bool)> {
    match rest.strip_prefix(SPACES).and_then(|rest| rest.strip_prefix("-}}")) {
        Some(after) => Some((after, true)),
        None => rest.strip_prefix("}}").map(|after| (after, false)),
    }
}

struct Lexer<'a, 'c> {
    call: &'c mut Call,
    rest: &'a str,
    tokens: Vec<Token<'a>>,
    parens: usize,
}

/// The tokens of a template.
pub(super) fn tokens<'a>(call: &mut Call, template: &'a str) -> Result<Vec<Token<'a>>, Failure> {
    let mut lexer = Lexer { call, rest: template, tokens: Vec::new(), parens: 0 };
    while let Some((before, after)) = lexer.rest.split_once("{{") {
        let trimmed = after.strip_prefix('-').and_then(|after| after.strip_prefix(SPACES));
        lexer.push_text(if trimmed.is_some() { before.trim_end_matches(SPACES) } else { before });
        lexer.rest = trimmed.unwrap_or(after);
        match lexer.rest.strip_prefix("/*") {
            Some(comment) => lexer.comment(comment)?,
            None => lexer.action()?,
        }
    }
    lexer.push_text(lexer.rest);
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a, '_> {
    fn push_text(&mut self, text: &'a str) {
        if !text.is_empty() {
            self.tokens.push(Token { kind: Kind::Text, text });
        }
    }

    /// Makes a token of so many bytes.
    fn push(&mut self, kind: Kind, length: usize) {
        let (text, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.tokens.push(Token { kind, text });
        self.rest = rest;
    }

    fn close(&mut self, after: &'a str, trims: bool) {
        self.rest = if trims { after.trim_start_matches(SPACES) } else { after };
    }

    fn comment(&mut self, comment: &'a str) -> Result<(), Failure> {
        let Some((_, after)) = comment.split_once("*/") else { return fail("a comment without an end") };
        let Some((after, trims)) = closed(after) else {
            return fail("a comment that ends before its action");
        };
        self.close(after, trims);
        Ok(())
    }

    fn action(&mut self) -> Result<(), Failure> {
        self.push(Kind::Open, 0);
        self.parens = 0;
        loop {
            if let Some((after, trims)) = closed(self.rest) {
                if self.parens > 0 {
                    return fail("an unclosed parenthesis");
                }
                self.push(Kind::Close, 0);
                self.close(after, trims);
                return Ok(());
            }
            self.part()?;
        }
    }

    fn part(&mut self) -> Result<(), Failure> {
        let mut letters = self.rest.chars();
        let Some(first) = letters.next() else { return fail("an unclosed action") };
        let second = letters.next();
        match first {
            ' ' | '\t' | '\r' | '\n' => self.space(),
            '=' => self.push(Kind::Assign, 1),
            ':' if second == Some('=') => self.push(Kind::Declare, 2),
            ':' => return fail("a colon without an equals sign"),
            '|' => self.push(Kind::Pipe, 1),
            ',' => self.push(Kind::Comma, 1),
            '"' => return self.quoted(Kind::Quoted, '"'),
            '\'' => return self.quoted(Kind::Letter, '\''),
            '`' => return self.raw(),
            '$' => return self.variable(),
            '.' if second.is_some_and(|second| !second.is_ascii_digit()) => return self.field(),
            '.' | '+' | '-' | '0'..='9' => return self.number(),
            '(' => {
                self.parens = self.parens.saturating_add(1);
                self.push(Kind::OpenParen, 1);
            }
            ')' if self.parens > 0 => {
                self.parens = self.parens.saturating_sub(1);
                self.push(Kind::CloseParen, 1);
            }
            ')' => return fail("an unexpected parenthesis"),
            _ if letters::is_in_name(self.call, first)? => return self.word(),
            '!'..='~' => self.push(Kind::Sign, 1),
            _ => return fail("an unknown letter in an action"),
        }
        Ok(())
    }

    /// The last blank belongs to the end of the action where that drops the blanks behind it.
    fn space(&mut self) {
        let after = self.rest.trim_start_matches(SPACES);
        let length = self.rest.len().saturating_sub(after.len());
        let kept = usize::from(after.starts_with("-}}"));
        self.push(Kind::Space, length.saturating_sub(kept));
    }

    /// The bytes of the name at the beginning of a text.
    fn name(&mut self, text: &str) -> Result<usize, Failure> {
        for (place, letter) in text.char_indices() {
            if !letters::is_in_name(self.call, letter)? {
                return Ok(place);
            }
        }
        Ok(text.len())
    }

    /// Whether the text ends here or goes on with what may follow a name.
    fn ends_name(rest: &str) -> bool {
        rest.is_empty()
            || rest.starts_with([' ', '\t', '\r', '\n', '.', ',', '|', ':', ')', '('])
            || rest.starts_with("}}")
    }

    /// Takes a name behind so many bytes.
    fn named(&mut self, kind: Kind, before: usize) -> Result<(), Failure> {
        let after = self.rest.get(before..).unwrap_or_default();
        let length = before.saturating_add(self.name(after)?);
        self.push(kind, length);
        if Self::ends_name(self.rest) { Ok(()) } else { fail("a name with a bad letter") }
    }

    fn word(&mut self) -> Result<(), Failure> {
        self.named(Kind::Function, 0)?;
        if let Some(token) = self.tokens.last_mut() {
            token.kind = match token.text {
                "true" | "false" => Kind::Bool,
                "nil" => Kind::Nil,
                word if KEYWORDS.contains(&word) => Kind::Keyword,
                _ => Kind::Function,
            };
        }
        Ok(())
    }

    fn field(&mut self) -> Result<(), Failure> {
        let after = self.rest.get(1..).unwrap_or_default();
        self.rest = after;
        if Self::ends_name(after) {
            self.push(Kind::Dot, 0);
            return Ok(());
        }
        self.named(Kind::Field, 0)
    }

    fn variable(&mut self) -> Result<(), Failure> {
        self.named(Kind::Variable, 1)
    }

    /// What is written in quotes, whose mark may stand behind a backslash.
    fn quoted(&mut self, kind: Kind, mark: char) -> Result<(), Failure> {
        let inside = self.rest.get(1..).unwrap_or_default();
        let mut letters = inside.char_indices();
        while let Some((place, letter)) = letters.next() {
            let escaped = if letter == '\\' { letters.next().map(|(_, letter)| letter) } else { None };
            if letter == '\n' || escaped == Some('\n') {
                break;
            }
            if letter == mark {
                self.rest = inside;
                self.push(kind, place);
                self.rest = self.rest.get(1..).unwrap_or_default();
                return Ok(());
            }
        }
        fail("a quoted text without an end")
    }

    fn raw(&mut self) -> Result<(), Failure> {
        let inside = self.rest.get(1..).unwrap_or_default();
        let Some((text, after)) = inside.split_once('`') else {
            return fail("a raw text without an end");
        };
        self.tokens.push(Token { kind: Kind::Raw, text });
        self.rest = after;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Failure> {
        let (length, is_number) = self.scan(self.rest)?;
        self.push(Kind::Number, length);
        if !is_number {
            return fail("a malformed number");
        }
        if !self.rest.starts_with(['+', '-']) {
            return Ok(());
        }
        let (length, is_number) = self.scan(self.rest)?;
        let second = self.rest.get(..length).unwrap_or_default();
        if is_number && second.ends_with('i') {
            return Err(Failure::Halt("complex numbers are not computed in templates".into()));
        }
        fail("a malformed number")
    }

    /// The bytes that may be a number, and whether a name does not go on there. What it is worth is looked at later.
    fn scan(&mut self, text: &str) -> Result<(usize, bool), Failure> {
        let signed = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mut rest, radix) = match signed.strip_prefix('0') {
            None => (signed, 10),
            Some(rest) => match rest.chars().next() {
                Some('x' | 'X') => (rest.get(1..).unwrap_or_default(), 16),
                Some('o' | 'O') => (rest.get(1..).unwrap_or_default(), 8),
                Some('b' | 'B') => (rest.get(1..).unwrap_or_default(), 2),
                _ => (rest, 10),
            },
        };
        let digit = |letter: char| letter == '_' || letter.is_digit(radix);
        rest = rest.trim_start_matches(digit);
        rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(digit));
        let exponent = match radix {
            10 => rest.strip_prefix(['e', 'E']),
            16 => rest.strip_prefix(['p', 'P']),
            _ => None,
        };
        if let Some(exponent) = exponent {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            rest = exponent.trim_start_matches(|letter: char| letter == '_' || letter.is_ascii_digit());
        }
        rest = rest.strip_prefix('i').unwrap_or(rest);
        let goes_on = match rest.chars().next() {
            Some(letter) => letters::is_in_name(self.call, letter)?,
            None => false,
        };
        Ok((text.len().saturating_sub(rest.len()), !goes_on))
    }
}
