//! Where a pass is in a document.

use std::fmt::Write as _;

use crate::text::pointer::append;

/// A place in a document, from the inside out: its pointer is written only where something is masked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    outer: Option<&'p Place<'p>>,
    token: Token<'p>,
    /// How many values it is in.
    pub(super) depth: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Token<'p> {
    /// The document, by its own pointer.
    Document(&'p str),
    Key(&'p str),
    Index(usize),
}

impl<'p> Place<'p> {
    pub(super) const fn of(pointer: &'p str) -> Self {
        Self { outer: None, token: Token::Document(pointer), depth: 0 }
    }

    pub(super) const fn inner<'i>(&'i self, token: Token<'i>) -> Place<'i> {
        Place { outer: Some(self), token, depth: self.depth + 1 }
    }

    /// At least the bytes of the pointer.
    pub(super) fn length(&self) -> usize {
        let own = match self.token {
            Token::Document(own) => own.len(),
            Token::Key(key) => key.len().saturating_mul(2).saturating_add(1),
            Token::Index(_) => 21,
        };
        own.saturating_add(self.outer.map_or(0, Place::length))
    }

    /// The pointer of the document.
    pub(super) fn document(&self) -> &'p str {
        match (self.token, self.outer) {
            (Token::Document(own), _) => own,
            (_, Some(outer)) => outer.document(),
            (_, None) => "",
        }
    }

    /// The pointer (RFC 6901).
    pub(super) fn pointer(&self) -> String {
        let mut pointer = String::with_capacity(self.length());
        self.append_to(&mut pointer);
        pointer
    }

    fn append_to(&self, pointer: &mut String) {
        if let Some(outer) = self.outer {
            outer.append_to(pointer);
        }
        match self.token {
            Token::Document(own) => pointer.push_str(own),
            Token::Key(key) => append(pointer, key),
            // Writing to a string cannot fail.
            Token::Index(index) => {
                let _ = write!(pointer, "/{index}");
            }
        }
    }
}
