//! The tokens of a text of YAML, by the rules of libyaml, which go-yaml is made after: YAML 1.1, where indentation makes tokens, and a colon
//! makes a key of what stands before it in the line (`go.yaml.in/yaml/v3:scannerc.go`).

use std::collections::{HashMap, VecDeque};

use super::cursor::{Cursor, END, is_blank, is_blank_or_end, wrong};
use super::marks::{self, Tag};
use super::scalars;
use crate::rego::call::Call;
use crate::rego::failure::Failure;

/// Letters of a key that no `?` announces.
const MAX_KEY: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    StreamEnd,
    /// A directive, and whether it is a version that can be read.
    Version(bool),
    DocumentStart,
    DocumentEnd,
    BlockSequence,
    BlockMapping,
    BlockEnd,
    FlowSequence,
    FlowSequenceEnd,
    FlowMapping,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag(Option<Tag>),
    /// A text, and whether it is plain.
    Scalar(String, bool),
}

/// A place where a key may begin, which a colon tells.
#[derive(Debug, Clone, Copy)]
struct Possible {
    /// Its first token, counted from the beginning.
    token: usize,
    at: usize,
    line: usize,
    column: usize,
    /// Nothing but a key may begin there.
    is_required: bool,
}

#[derive(Debug)]
pub(super) struct Scanner {
    cursor: Cursor,
    /// Tokens that were not handed out.
    queue: VecDeque<Token>,
    /// Tokens that were.
    taken: usize,
    /// The column from which what is inside the innermost block is on; 0 outside of blocks.
    inner: usize,
    /// The same of the blocks around it.
    outer: Vec<usize>,
    /// The key that may have begun: outside of brackets, and in each pair of them.
    keys: Vec<Option<Possible>>,
    /// Places in `keys` by their first token.
    levels: HashMap<usize, usize>,
    /// Whether a key may begin here.
    may_be_key: bool,
}

impl Scanner {
    pub fn new(text: &str) -> Result<Self, Failure> {
        Ok(Self {
            cursor: Cursor::new(text)?,
            queue: VecDeque::new(),
            taken: 0,
            inner: 0,
            outer: Vec::new(),
            keys: vec![None],
            levels: HashMap::new(),
            may_be_key: true,
        })
    }

    /// The line up to which was read.
    pub const fn line(&self) -> usize {
        self.cursor.line
    }

    /// The next token.
    pub fn peek(&mut self, call: &mut Call) -> Result<&Token, Failure> {
        while self.queue.is_empty() || self.is_open()? {
            self.fetch(call)?;
        }
        Ok(self.queue.front().unwrap_or(&Token::StreamEnd))
    }

    /// The next token, which is handed out.
    pub fn take(&mut self, call: &mut Call) -> Result<Token, Failure> {
        self.peek(call)?;
        call.take(1)?;
        self.taken = self.taken.saturating_add(1);
        Ok(self.queue.pop_front().unwrap_or(Token::StreamEnd))
    }

    /// Whether a colon may still come that makes a key of the next token.
    fn is_open(&mut self) -> Result<bool, Failure> {
        let level = self.levels.get(&self.taken).copied();
        level.map_or(Ok(false), |level| self.possible(level).map(|key| key.is_some()))
    }

    const fn is_flow(&self) -> bool {
        self.keys.len() > 1
    }

    /// The key that may have begun, where it is in this line.
    fn possible(&mut self, level: usize) -> Result<Option<Possible>, Failure> {
        let Some(key) = self.keys.get(level).copied().flatten() else { return Ok(None) };
        if key.line == self.cursor.line && self.cursor.at <= key.at.saturating_add(MAX_KEY) {
            return Ok(Some(key));
        }
        self.forget(level)?;
        Ok(None)
    }

    /// No key begins there.
    fn forget(&mut self, level: usize) -> Result<(), Failure> {
        let Some(key) = self.keys.get_mut(level).and_then(Option::take) else { return Ok(()) };
        self.levels.remove(&key.token);
        if key.is_required { wrong(key.line, "no colon behind a key") } else { Ok(()) }
    }

    const fn level(&self) -> usize {
        self.keys.len().saturating_sub(1)
    }

    /// A key may begin here.
    fn may_begin(&mut self) -> Result<(), Failure> {
        if !self.may_be_key {
            return Ok(());
        }
        let level = self.level();
        self.forget(level)?;
        let key = Possible {
            token: self.taken.saturating_add(self.queue.len()),
            at: self.cursor.at,
            line: self.cursor.line,
            column: self.cursor.column,
            is_required: !self.is_flow() && self.inner == self.cursor.column.saturating_add(1),
        };
        self.levels.insert(key.token, level);
        if let Some(place) = self.keys.get_mut(level) {
            *place = Some(key);
        }
        Ok(())
    }

    /// Puts a token where a key begins.
    fn insert(&mut self, call: &mut Call, key: Possible, token: Token) -> Result<(), Failure> {
        let place = key.token.saturating_sub(self.taken).min(self.queue.len());
        call.take(self.queue.len().saturating_sub(place))?;
        self.queue.insert(place, token);
        Ok(())
    }

    /// Whether a block begins in this column, where none does inside of brackets.
    fn indents(&mut self, column: usize) -> bool {
        if self.is_flow() || self.inner > column {
            return false;
        }
        self.outer.push(self.inner);
        self.inner = column.saturating_add(1);
        true
    }

    /// Ends the blocks that are further inside.
    fn unindent(&mut self, inner: usize) {
        while !self.is_flow() && self.inner > inner {
            self.queue.push_back(Token::BlockEnd);
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    fn skip_to_token(&mut self) {
        loop {
            while self.cursor.peek() == ' '
                || (self.cursor.peek() == '\t' && (self.is_flow() || !self.may_be_key))
            {
                self.cursor.skip();
            }
            if self.cursor.peek() == '#' {
                self.cursor.comments();
            }
            if self.cursor.line_break().is_none() {
                return;
            }
            self.may_be_key |= !self.is_flow();
        }
    }

    fn fetch(&mut self, call: &mut Call) -> Result<(), Failure> {
        self.skip_to_token();
        self.unindent(self.cursor.column.saturating_add(1));
        match self.cursor.peek() {
            END => {
                self.cursor.end();
                self.outermost()?;
                self.queue.push_back(Token::StreamEnd);
            }
            '%' if self.cursor.column == 0 => {
                self.outermost()?;
                let is_read = marks::directive(&mut self.cursor)?;
                self.queue.push_back(Token::Version(is_read));
            }
            mark if self.cursor.is_at_indicator() => {
                self.outermost()?;
                for _ in 0..3 {
                    self.cursor.skip();
                }
                let token = if mark == '-' { Token::DocumentStart } else { Token::DocumentEnd };
                self.queue.push_back(token);
            }
            first => {
                self.content(call, first)?;
                if self.queue.back() != Some(&Token::BlockEntry) {
                    self.cursor.comment_behind();
                }
            }
        }
        Ok(())
    }

    /// All blocks end.
    fn outermost(&mut self) -> Result<(), Failure> {
        self.unindent(0);
        self.forget(self.level())?;
        self.may_be_key = false;
        Ok(())
    }

    fn content(&mut self, call: &mut Call, first: char) -> Result<(), Failure> {
        let next_is_blank = is_blank_or_end(self.cursor.ahead(1));
        match first {
            '[' => self.open(Token::FlowSequence),
            '{' => self.open(Token::FlowMapping),
            ']' => self.close(Token::FlowSequenceEnd),
            '}' => self.close(Token::FlowMappingEnd),
            ',' => {
                self.forget(self.level())?;
                self.may_be_key = true;
                self.sign(Token::FlowEntry);
                Ok(())
            }
            '-' if next_is_blank => self.entry(),
            '?' if self.is_flow() || next_is_blank => self.announced_key(),
            ':' if self.is_flow() || next_is_blank => self.value(call),
            '*' => self.node(|scanner| Ok(Token::Alias(marks::name(&mut scanner.cursor)?))),
            '&' => self.node(|scanner| Ok(Token::Anchor(marks::name(&mut scanner.cursor)?))),
            '!' => self.node(|scanner| Ok(Token::Tag(marks::tag(&mut scanner.cursor)?))),
            '|' | '>' if !self.is_flow() => {
                self.forget(self.level())?;
                self.may_be_key = true;
                let text = scalars::block(&mut self.cursor, self.inner)?;
                self.queue.push_back(Token::Scalar(text, false));
                Ok(())
            }
            '\'' | '"' => {
                self.node(|scanner| Ok(Token::Scalar(scalars::quoted(&mut scanner.cursor)?, false)))
            }
            _ if self.begins_plain(first) => self.node(|scanner| {
                let is_flow = scanner.is_flow();
                let (text, ends_line) = scalars::plain(&mut scanner.cursor, scanner.inner, is_flow)?;
                scanner.may_be_key = ends_line;
                Ok(Token::Scalar(text, true))
            }),
            _ => wrong(self.cursor.line, "a letter that begins nothing"),
        }
    }

    fn begins_plain(&self, first: char) -> bool {
        let next = self.cursor.ahead(1);
        match first {
            '-' => !is_blank(next),
            '?' | ':' => !self.is_flow() && !is_blank_or_end(next),
            ',' | '[' | ']' | '{' | '}' | '#' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`' => false,
            other => !is_blank_or_end(other),
        }
    }

    fn sign(&mut self, token: Token) {
        self.cursor.skip();
        self.queue.push_back(token);
    }

    /// A token that may be a key, or begin one.
    fn node(&mut self, read: impl FnOnce(&mut Self) -> Result<Token, Failure>) -> Result<(), Failure> {
        self.may_begin()?;
        self.may_be_key = false;
        let token = read(self)?;
        self.queue.push_back(token);
        Ok(())
    }

    fn open(&mut self, token: Token) -> Result<(), Failure> {
        self.may_begin()?;
        self.keys.push(None);
        self.may_be_key = true;
        self.sign(token);
        Ok(())
    }

    fn close(&mut self, token: Token) -> Result<(), Failure> {
        self.forget(self.level())?;
        if self.is_flow() {
            self.keys.pop();
        }
        self.may_be_key = false;
        self.sign(token);
        Ok(())
    }

    fn entry(&mut self) -> Result<(), Failure> {
        if !self.is_flow() && !self.may_be_key {
            return wrong(self.cursor.line, "an entry of a list in a wrong place");
        }
        if self.indents(self.cursor.column) {
            self.queue.push_back(Token::BlockSequence);
        }
        self.forget(self.level())?;
        self.may_be_key = true;
        self.sign(Token::BlockEntry);
        Ok(())
    }

    /// A key behind `?`.
    fn announced_key(&mut self) -> Result<(), Failure> {
        if !self.is_flow() && !self.may_be_key {
            return wrong(self.cursor.line, "a key in a wrong place");
        }
        if self.indents(self.cursor.column) {
            self.queue.push_back(Token::BlockMapping);
        }
        self.forget(self.level())?;
        self.may_be_key = !self.is_flow();
        self.sign(Token::Key);
        Ok(())
    }

    fn value(&mut self, call: &mut Call) -> Result<(), Failure> {
        let level = self.level();
        if let Some(key) = self.possible(level)? {
            self.insert(call, key, Token::Key)?;
            if self.indents(key.column) {
                self.insert(call, key, Token::BlockMapping)?;
            }
            self.levels.remove(&key.token);
            if let Some(place) = self.keys.get_mut(level) {
                *place = None;
            }
            self.may_be_key = false;
        } else {
            if !self.is_flow() && !self.may_be_key {
                return wrong(self.cursor.line, "a value in a wrong place");
            }
            if self.indents(self.cursor.column) {
                self.queue.push_back(Token::BlockMapping);
            }
            self.may_be_key = !self.is_flow();
        }
        self.sign(Token::Value);
        Ok(())
    }
}
