//! A place in a text of YAML: its letters, its lines, and the comments that are passed over.

use crate::rego::failure::Failure;

/// What is behind the last letter. It is in no text of YAML.
pub(super) const END: char = '\0';
/// Letters that are searched for the next comment.
const MAX_AHEAD: usize = 512;

/// A text that is no YAML.
pub(super) fn wrong<T>(line: usize, what: &str) -> Result<T, Failure> {
    Failure::error(format!("yaml: line {}: {what}", line.saturating_add(1)))
}

/// YAML of which it is not certain what OPA makes of it.
pub(super) fn unread<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Halt(format!("YAML with {what} is not read here")))
}

pub(super) const fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}

/// A line ends with any of these, unlike in YAML 1.2.
pub(super) const fn is_break(letter: char) -> bool {
    matches!(letter, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) const fn is_break_or_end(letter: char) -> bool {
    is_break(letter) || letter == END
}

pub(super) const fn is_blank_or_end(letter: char) -> bool {
    is_blank(letter) || is_break_or_end(letter)
}

/// The letters of names.
pub(super) const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

#[derive(Debug)]
pub(super) struct Cursor {
    letters: Vec<char>,
    /// Letters before this place.
    pub at: usize,
    /// Lines before this one.
    pub line: usize,
    /// Letters before this one in the line.
    pub column: usize,
    /// Line breaks since the last letter that is not blank.
    new_lines: usize,
}

impl Cursor {
    /// Begins a text, whose letters have to be those that YAML has.
    pub fn new(text: &str) -> Result<Self, Failure> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_foreign = |letter: &char| !matches!(letter, '\t' | '\n' | '\r' | '\u{85}' | ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
        if let Some(letter) = text.chars().find(is_foreign) {
            return Failure::error(format!("yaml: the letter {:04x} is not allowed", u32::from(letter)));
        }
        // Between lines it is passed over or not by what happens to be in a buffer.
        if text.contains('\u{feff}') {
            return unread("a mark of the byte order inside");
        }
        Ok(Self { letters: text.chars().collect(), at: 0, line: 0, column: 0, new_lines: 0 })
    }

    pub fn peek(&self) -> char {
        self.ahead(0)
    }

    /// The letter so many letters ahead.
    pub fn ahead(&self, count: usize) -> char {
        self.letters.get(self.at.saturating_add(count)).copied().unwrap_or(END)
    }

    /// Whether a document begins or ends here.
    pub fn is_at_indicator(&self) -> bool {
        let mark = self.peek();
        self.column == 0
            && matches!(mark, '-' | '.')
            && self.ahead(1) == mark
            && self.ahead(2) == mark
            && is_blank_or_end(self.ahead(3))
    }

    /// Steps over a letter that is no line break.
    pub fn skip(&mut self) -> char {
        let letter = self.peek();
        if !is_blank(letter) {
            self.new_lines = 0;
        }
        self.at = self.at.saturating_add(1);
        self.column = self.column.saturating_add(1);
        letter
    }

    pub fn skip_blanks(&mut self) {
        while is_blank(self.peek()) {
            self.skip();
        }
    }

    /// Steps over a line break, where there is one, and says what it is in a text.
    pub fn line_break(&mut self) -> Option<char> {
        let letter = self.peek();
        if !is_break(letter) {
            return None;
        }
        let length = if letter == '\r' && self.ahead(1) == '\n' { 2 } else { 1 };
        self.at = self.at.saturating_add(length);
        self.column = 0;
        self.line = self.line.saturating_add(1);
        self.new_lines = self.new_lines.saturating_add(1);
        Some(if matches!(letter, '\u{2028}' | '\u{2029}') { letter } else { '\n' })
    }

    /// Ends the last line, where it has no line break.
    pub const fn end(&mut self) {
        if self.column > 0 {
            self.column = 0;
            self.line = self.line.saturating_add(1);
        }
    }

    /// Steps to the end of the line.
    pub fn rest_of_line(&mut self) {
        while !is_break_or_end(self.peek()) {
            self.skip();
        }
    }

    /// Steps over a comment behind what was read, with blanks before it that are allowed nowhere else.
    pub fn comment_behind(&mut self) {
        if self.new_lines > 0 {
            return;
        }
        let blanks = (0..MAX_AHEAD).find(|ahead| !is_blank(self.ahead(*ahead)));
        if blanks.is_some_and(|blanks| self.ahead(blanks) == '#') {
            self.rest_of_line();
        }
    }

    /// Steps over a comment, and over those in the next lines, however they are indented.
    pub fn comments(&mut self) {
        let mut from = 0;
        loop {
            let is_between = |letter: char| is_blank(letter) || matches!(letter, '\r' | '\n');
            // A line break of another kind ends them.
            let is_searched = from == 0 || is_between(self.peek());
            let next = (from..MAX_AHEAD).find(|ahead| !is_between(self.ahead(*ahead)));
            let Some(next) = next.filter(|next| is_searched && self.ahead(*next) == '#') else { return };
            let next = self.at.saturating_add(next);
            while self.at < next {
                if self.line_break().is_none() {
                    self.skip();
                }
            }
            self.rest_of_line();
            from = 1;
        }
    }
}
