//! What both kinds of documents have in common: words, names, values, types, directives (`vektah/gqlparser:parser`). A comment belongs to the
//! token after it, and is kept where the library keeps it.

use super::lexer::{Kind, Lexer, Token};
use super::tree::{self, Argument, Comments, Directive, Literal, Type};
use crate::rego::call::{Call, VALUE_BYTES};
use crate::rego::failure::Failure;

/// Nesting depth of the value that is made of a document; a module reads less than 256.
const MAX_DEPTH: usize = 230;
/// Steps of making a node and of looking at it, which take longer than to read the letters that it is written in.
const STEPS_OF_NODE: usize = 4;
/// Values that a node of the tree becomes, about.
const VALUES: usize = 6;

/// Reads a document from its beginning.
pub(super) struct Parser<'a, 'c> {
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
    comments: Comments,
    call: &'c mut Call,
    depth: usize,
    bytes: usize,
}

impl<'a, 'c> Parser<'a, 'c> {
    pub const fn new(text: &'a str, call: &'c mut Call) -> Self {
        Self { lexer: Lexer::new(text), peeked: None, comments: Vec::new(), call, depth: 0, bytes: 0 }
    }

    /// The next token that is no comment.
    pub fn peek(&mut self) -> Result<&Token<'a>, Failure> {
        if self.peeked.is_none() {
            let mut token = self.lexer.token()?;
            while token.kind == Kind::Comment {
                self.node(token.text.len())?;
                self.comments.push(token.text.into_owned());
                token = self.lexer.token()?;
            }
            self.peeked = Some(token);
        }
        self.peeked.as_ref().ok_or_else(|| Failure::Error("no token".into()))
    }

    pub fn next(&mut self) -> Result<Token<'a>, Failure> {
        self.peek()?;
        self.comments.clear();
        self.peeked.take().ok_or_else(|| Failure::Error("no token".into()))
    }

    /// The comments before the next token.
    pub fn comments(&mut self) -> Result<Comments, Failure> {
        self.peek()?;
        Ok(std::mem::take(&mut self.comments))
    }

    /// Counts a node of the tree, so that there are not more than there is memory and time for.
    pub fn node(&mut self, text: usize) -> Result<(), Failure> {
        self.call.take(STEPS_OF_NODE)?;
        self.bytes = self.bytes.saturating_add(VALUES * VALUE_BYTES).saturating_add(text);
        self.call.fits(self.bytes)
    }

    /// Goes down by so many values.
    pub fn within<T>(
        &mut self,
        values: usize,
        read: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.depth = self.depth.saturating_add(values);
        if self.depth > MAX_DEPTH {
            return Err(Failure::Halt("a document that is nested so deeply is not read here".into()));
        }
        let found = read(self);
        self.depth = self.depth.saturating_sub(values);
        found
    }

    /// The error that the next token is.
    pub fn unexpected<T>(&mut self) -> Result<T, Failure> {
        let (at, shown) = (self.peek()?.at, self.peek()?.shown());
        Err(self.lexer.wrong(at, &format!("unexpected {shown}")))
    }

    pub fn is(&mut self, kind: Kind) -> Result<bool, Failure> {
        Ok(self.peek()?.kind == kind)
    }

    pub fn is_sign(&mut self, sign: &'static str) -> Result<bool, Failure> {
        self.is(Kind::Sign(sign))
    }

    /// Whether the next token is this text, which may be a string too.
    pub fn is_text(&mut self, text: &str) -> Result<bool, Failure> {
        Ok(self.peek()?.text == text)
    }

    pub fn skip_sign(&mut self, sign: &'static str) -> Result<bool, Failure> {
        let found = self.is_sign(sign)?;
        if found {
            self.next()?;
        }
        Ok(found)
    }

    pub fn expect(&mut self, kind: Kind) -> Result<Token<'a>, Failure> {
        if self.is(kind)? { self.next() } else { self.unexpected() }
    }

    pub fn expect_sign(&mut self, sign: &'static str) -> Result<(), Failure> {
        self.expect(Kind::Sign(sign)).map(drop)
    }

    /// A word, and the comments before it.
    pub fn keyword(&mut self, word: &str) -> Result<Comments, Failure> {
        if !self.is(Kind::Name)? || !self.is_text(word)? {
            return self.unexpected();
        }
        let comments = self.comments()?;
        self.next()?;
        Ok(comments)
    }

    pub fn name(&mut self) -> Result<String, Failure> {
        Ok(self.expect(Kind::Name)?.text.into_owned())
    }

    /// What stands between two signs, if the first one is there: at least one. Beside it the comments before the second one.
    pub fn some<T>(
        &mut self,
        [open, close]: [&'static str; 2],
        item: impl Fn(&mut Self) -> Result<T, Failure>,
    ) -> Result<(Vec<T>, Comments), Failure> {
        let mut items = Vec::new();
        if !self.skip_sign(open)? {
            return Ok((items, Vec::new()));
        }
        while !self.is_sign(close)? {
            self.node(0)?;
            items.push(item(self)?);
        }
        if items.is_empty() {
            return self.unexpected();
        }
        let comments = self.comments()?;
        self.next()?;
        Ok((items, comments))
    }

    pub fn arguments(&mut self, is_constant: bool) -> Result<Vec<Argument>, Failure> {
        Ok(self.some(["(", ")"], |parser| parser.argument(is_constant))?.0)
    }

    fn argument(&mut self, is_constant: bool) -> Result<Argument, Failure> {
        let comments = self.comments()?;
        let name = self.name()?;
        self.expect_sign(":")?;
        Ok(Argument { name, value: Some(self.literal(is_constant)?), comments })
    }

    pub fn directives(&mut self, is_constant: bool) -> Result<Vec<Directive>, Failure> {
        let mut directives = Vec::new();
        while self.skip_sign("@")? {
            self.node(0)?;
            let (name, arguments) = (self.name()?, self.arguments(is_constant)?);
            directives.push(Directive { name, arguments, location: String::new(), is_placed: true });
        }
        Ok(directives)
    }

    pub fn variable(&mut self) -> Result<String, Failure> {
        self.expect_sign("$")?;
        self.name()
    }

    pub fn literal(&mut self, is_constant: bool) -> Result<Literal, Failure> {
        self.node(0)?;
        let kind = match self.peek()?.kind {
            Kind::Sign("[") => return self.within(3, |parser| parser.list(is_constant)),
            Kind::Sign("{") => return self.within(3, |parser| parser.object(is_constant)),
            Kind::Sign("$") if !is_constant => {
                return Ok(scalar(tree::Kind::Variable, self.variable()?));
            }
            Kind::Int => tree::Kind::Int,
            Kind::Float => tree::Kind::Float,
            Kind::String => tree::Kind::String,
            Kind::Block => tree::Kind::Block,
            Kind::Name => match self.peek()?.text.as_ref() {
                "true" | "false" => tree::Kind::Boolean,
                "null" => tree::Kind::Null,
                _ => tree::Kind::Enum,
            },
            _ => return self.unexpected(),
        };
        Ok(scalar(kind, self.next()?.text.into_owned()))
    }

    fn list(&mut self, is_constant: bool) -> Result<Literal, Failure> {
        let comments = self.comments()?;
        self.next()?;
        let mut children = Vec::new();
        while !self.is_sign("]")? {
            let value = Some(self.literal(is_constant)?);
            children.push(Argument { name: String::new(), value, comments: Vec::new() });
        }
        self.next()?;
        Ok(Literal { raw: String::new(), children, kind: tree::Kind::List, comments })
    }

    fn object(&mut self, is_constant: bool) -> Result<Literal, Failure> {
        let comments = self.comments()?;
        self.next()?;
        let mut children = Vec::new();
        while !self.is_sign("}")? {
            children.push(self.argument(is_constant)?);
        }
        self.next()?;
        Ok(Literal { raw: String::new(), children, kind: tree::Kind::Object, comments })
    }

    pub fn type_reference(&mut self) -> Result<Type, Failure> {
        self.node(0)?;
        let (mut name, mut element) = (String::new(), None);
        if self.skip_sign("[")? {
            element = Some(Box::new(self.within(1, Self::type_reference)?));
            self.expect_sign("]")?;
        } else {
            name = self.name()?;
        }
        Ok(Type { name, element, non_null: self.skip_sign("!")? })
    }
}

const fn scalar(kind: tree::Kind, raw: String) -> Literal {
    Literal { raw, children: Vec::new(), kind, comments: Vec::new() }
}
