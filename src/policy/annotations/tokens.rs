//! The tokens of Rego, as far as they tell where a rule begins, what its METADATA is and which texts are in it.

use std::iter::Peekable;
use std::str::Chars;

/// How deep expressions in templates may stand in one another.
const MAX_NESTED: usize = 16;

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The YAML of a METADATA block.
    Metadata(String),
    /// A word, a number or a path with dots.
    Word(String),
    /// A text whose value is known.
    Text(String),
    /// A template, whose value is not known.
    Template,
    /// Any other character.
    Sign(char),
}

impl Token {
    /// It as a part of the path of a package.
    pub fn as_path(&self) -> &str {
        match self {
            Self::Word(word) | Self::Text(word) => word,
            Self::Metadata(_) | Self::Template | Self::Sign(_) => "",
        }
    }
}

/// Reads one token after the other.
#[derive(Debug)]
pub struct Tokens<'a> {
    chars: Peekable<Chars<'a>>,
    /// Whether nothing but the token stands before it on its line.
    at_line_start: bool,
    /// Whether the last token began a line.
    began_line: bool,
    /// Brackets that are open.
    depth: usize,
}

impl<'a> Tokens<'a> {
    pub fn of(source: &'a str) -> Self {
        Self { chars: source.chars().peekable(), at_line_start: true, began_line: false, depth: 0 }
    }

    /// How many brackets are open.
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the last token begins a statement: it is a word at the beginning of a line, outside of brackets.
    pub fn begins_statement(&self, token: &Token) -> bool {
        self.began_line && self.depth == 0 && matches!(token, Token::Word(word) if word != "else")
    }

    /// The next token; `None` at the end, and where a text does not end.
    pub fn next_token(&mut self) -> Option<Token> {
        loop {
            let first = self.chars.next()?;
            match first {
                '\n' => self.at_line_start = true,
                _ if first.is_whitespace() => self.at_line_start = false,
                '#' => {
                    if let Some(yaml) = self.comment() {
                        return Some(Token::Metadata(yaml));
                    }
                }
                _ => {
                    self.began_line = std::mem::take(&mut self.at_line_start);
                    return self.token(first);
                }
            }
        }
    }

    fn token(&mut self, first: char) -> Option<Token> {
        Some(match first {
            '"' => Token::Text(self.text()?),
            '`' => {
                self.raw()?;
                Token::Template
            }
            '$' if self.chars.peek().is_some_and(|next| matches!(next, '"' | '`')) => {
                self.template(0)?;
                Token::Template
            }
            _ if is_word(first) => Token::Word(self.word(first)),
            sign => {
                match sign {
                    '(' | '[' | '{' => self.depth = self.depth.saturating_add(1),
                    ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                Token::Sign(sign)
            }
        })
    }

    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        while let Some(next) = self.chars.next_if(|next| is_word(*next)) {
            word.push(next);
        }
        word
    }

    /// The rest of a line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        while let Some(next) = self.chars.next_if(|next| *next != '\n') {
            line.push(next);
        }
        line
    }

    /// Goes past a comment. Returns the YAML if a METADATA block begins there: the comments on the lines that follow.
    fn comment(&mut self) -> Option<String> {
        let is_metadata = self.line().trim() == "METADATA";
        let mut yaml = String::new();
        while is_metadata && self.next_comment() {
            let line = self.line();
            yaml.push_str(line.strip_prefix(' ').unwrap_or(&line));
            yaml.push('\n');
        }
        is_metadata.then_some(yaml)
    }

    /// Goes to the text of a comment on the next line, if that is one.
    fn next_comment(&mut self) -> bool {
        let mut ahead = self.chars.clone();
        if ahead.next() != Some('\n') {
            return false;
        }
        while ahead.next_if(|next| matches!(next, ' ' | '\t')).is_some() {}
        let is_comment = ahead.next() == Some('#');
        if is_comment {
            self.chars = ahead;
        }
        is_comment
    }

    /// A text after its quote. An escape that is not plain makes it another text, which is no name of a rule either way.
    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.chars.next()? {
                '"' => return Some(text),
                '\\' => {
                    text.push('\\');
                    text.push(self.chars.next()?);
                }
                other => text.push(other),
            }
        }
    }

    fn raw(&mut self) -> Option<()> {
        self.chars.find(|next| *next == '`').map(drop)
    }

    /// Goes past a template, from its quote.
    fn template(&mut self, nested: usize) -> Option<()> {
        let quote = self.chars.next()?;
        loop {
            match self.chars.next()? {
                end if end == quote => return Some(()),
                '\\' => drop(self.chars.next()?),
                '{' => self.expression(nested)?,
                _ => {}
            }
        }
    }

    /// Goes past an expression in a template, to the bracket that ends it.
    fn expression(&mut self, nested: usize) -> Option<()> {
        let mut open = 1_usize;
        while open > 0 {
            match self.chars.next()? {
                '{' => open = open.saturating_add(1),
                '}' => open = open.saturating_sub(1),
                '"' => drop(self.text()?),
                '`' => self.raw()?,
                '$' if self.chars.peek().is_some_and(|next| matches!(next, '"' | '`')) => {
                    if nested >= MAX_NESTED {
                        return None;
                    }
                    self.template(nested.saturating_add(1))?;
                }
                _ => {}
            }
        }
        Some(())
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '.')
}
