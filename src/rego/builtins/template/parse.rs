//! From tokens to a template (Go's `text/template/parse/parse.go`).

use std::rc::Rc;

use super::constant;
use super::function::Function;
use super::token::{Kind, Token, tokens};
use super::tree::{Condition, List, MAIN, MAX_DEPTH, Node, Operand, Pipe, Templates};
use crate::rego::call::{Call, VALUE_BYTES};
use crate::rego::failure::Failure;

/// Variables that are looked through in one step.
const VARIABLES: usize = 8;

/// How a list of parts ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    End,
    Else,
}

enum Part<'a> {
    Node(Node<'a>),
    Stop(Stop),
}

/// Where a pipeline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Range,
    Paren,
    Other,
}

/// What a template knows that another one does not.
struct Scope<'a> {
    variables: Vec<&'a str>,
    ranges: usize,
}

impl Scope<'_> {
    fn new() -> Self {
        Self { variables: vec!["$"], ranges: 0 }
    }
}

struct Parser<'a, 'c> {
    call: &'c mut Call,
    tokens: Vec<Token<'a>>,
    at: usize,
    scope: Scope<'a>,
    depth: usize,
    templates: Templates<'a>,
}

fn unexpected<T>(token: Token<'_>) -> Result<T, Failure> {
    Failure::error(format!("the template has an unexpected {:?} `{}`", token.kind, token.text))
}

/// The templates in a text: the whole, and those that it defines.
pub(super) fn templates<'a>(call: &mut Call, text: &'a str) -> Result<Templates<'a>, Failure> {
    let tokens = tokens(call, text)?;
    call.take(tokens.len())?;
    let mut parser =
        Parser { call, tokens, at: 0, scope: Scope::new(), depth: 0, templates: Templates::new() };
    let list = parser.whole()?;
    parser.add(MAIN.into(), list)?;
    Ok(parser.templates)
}

/// Whether nothing but blanks and definitions is there.
fn is_blank(list: &[Node<'_>]) -> bool {
    list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

impl<'a> Parser<'a, '_> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token { kind: Kind::End, text: "" })
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = self.at.saturating_add(1);
        token
    }

    fn skip_space(&mut self) -> Token<'a> {
        while self.peek().kind == Kind::Space {
            self.next();
        }
        self.peek()
    }

    fn next_word(&mut self) -> Token<'a> {
        self.skip_space();
        self.next()
    }

    fn is_keyword(token: Token<'_>, word: &str) -> bool {
        token.kind == Kind::Keyword && token.text == word
    }

    fn close(&mut self) -> Result<(), Failure> {
        let token = self.next_word();
        if token.kind == Kind::Close { Ok(()) } else { unexpected(token) }
    }

    /// Each part within another one takes a part of the stack.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.depth >= MAX_DEPTH {
            return Err(Failure::Halt(format!("the template is nested more than {MAX_DEPTH} times")));
        }
        self.depth = self.depth.saturating_add(1);
        let parsed = parse(self);
        self.depth = self.depth.saturating_sub(1);
        parsed
    }

    /// One of two templates of a name may be blank.
    fn add(&mut self, name: String, list: List<'a>) -> Result<(), Failure> {
        match self.templates.get(&name) {
            Some(other) if !is_blank(other) && !is_blank(&list) => {
                return Failure::error(format!("the template `{name}` is defined twice"));
            }
            Some(other) if !is_blank(other) => {}
            _ => {
                self.templates.insert(name, list);
            }
        }
        Ok(())
    }

    fn whole(&mut self) -> Result<List<'a>, Failure> {
        let mut list = List::new();
        while self.peek().kind != Kind::End {
            let before = self.at;
            if self.next_word().kind == Kind::Open && Self::is_keyword(self.next_word(), "define") {
                self.definition()?;
                continue;
            }
            self.at = before;
            match self.part()? {
                Part::Node(node) => list.push(node),
                Part::Stop(_) => return Failure::error("the template has an unexpected end or else"),
            }
        }
        Ok(list)
    }

    fn definition(&mut self) -> Result<(), Failure> {
        let name = self.name()?;
        self.close()?;
        self.named(name)
    }

    /// The template of this name, up to its end.
    fn named(&mut self, name: String) -> Result<(), Failure> {
        let outer = std::mem::replace(&mut self.scope, Scope::new());
        let (list, stop) = self.list()?;
        self.scope = outer;
        if stop == Stop::Else {
            return Failure::error("the template has an unexpected else");
        }
        self.add(name, list)
    }

    fn name(&mut self) -> Result<String, Failure> {
        let token = self.next_word();
        match token.kind {
            Kind::Quoted => constant::text(token.text),
            Kind::Raw => Ok(constant::raw(token.text)),
            _ => unexpected(token),
        }
    }

    fn list(&mut self) -> Result<(List<'a>, Stop), Failure> {
        self.nested(|parser| {
            let mut list = List::new();
            loop {
                match parser.part()? {
                    Part::Node(node) => list.push(node),
                    Part::Stop(stop) => return Ok((list, stop)),
                }
            }
        })
    }

    fn part(&mut self) -> Result<Part<'a>, Failure> {
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(Part::Node(Node::Text(token.text))),
            Kind::Open => self.action(),
            _ => unexpected(token),
        }
    }

    fn action(&mut self) -> Result<Part<'a>, Failure> {
        let token = self.skip_space();
        if token.kind != Kind::Keyword {
            return self.pipeline(Place::Other).map(|pipe| Part::Node(Node::Action(pipe)));
        }
        self.next();
        let node = match token.text {
            "end" => {
                self.close()?;
                return Ok(Part::Stop(Stop::End));
            }
            "else" => {
                let next = self.skip_space();
                if !Self::is_keyword(next, "if") && !Self::is_keyword(next, "with") {
                    self.close()?;
                }
                return Ok(Part::Stop(Stop::Else));
            }
            "break" => self.leave(Node::Break)?,
            "continue" => self.leave(Node::Continue)?,
            "if" => self.branches(Condition::If)?,
            "with" => self.branches(Condition::With)?,
            "range" => self.range()?,
            "template" => self.template()?,
            "block" => self.block()?,
            _ => return unexpected(token),
        };
        Ok(Part::Node(node))
    }

    fn leave(&mut self, node: Node<'a>) -> Result<Node<'a>, Failure> {
        self.close()?;
        if self.scope.ranges == 0 {
            return Failure::error("the template leaves a range where it is in none");
        }
        Ok(node)
    }

    /// The list behind `else`, up to its end.
    fn otherwise(&mut self) -> Result<List<'a>, Failure> {
        match self.list()? {
            (list, Stop::End) => Ok(list),
            _ => Failure::error("the template has a second else"),
        }
    }

    fn branches(&mut self, condition: Condition) -> Result<Node<'a>, Failure> {
        let word = if condition == Condition::If { "if" } else { "with" };
        let outer = self.scope.variables.len();
        let mut branches = Vec::new();
        let otherwise = loop {
            let pipe = self.pipeline(Place::Other)?;
            let (list, stop) = self.list()?;
            branches.push((pipe, list));
            if stop == Stop::End {
                break List::new();
            }
            if !Self::is_keyword(self.peek(), word) {
                break self.otherwise()?;
            }
            self.next();
        };
        self.scope.variables.truncate(outer);
        Ok(Node::Branches { condition, branches, otherwise })
    }

    fn range(&mut self) -> Result<Node<'a>, Failure> {
        let outer = self.scope.variables.len();
        let pipe = self.pipeline(Place::Range)?;
        self.scope.ranges = self.scope.ranges.saturating_add(1);
        let (list, stop) = self.list()?;
        self.scope.ranges = self.scope.ranges.saturating_sub(1);
        let otherwise = if stop == Stop::Else { self.otherwise()? } else { List::new() };
        self.scope.variables.truncate(outer);
        Ok(Node::Range { pipe, list, otherwise })
    }

    fn template(&mut self) -> Result<Node<'a>, Failure> {
        let name = self.name()?;
        let pipe = if self.skip_space().kind == Kind::Close {
            self.next();
            None
        } else {
            Some(self.pipeline(Place::Other)?)
        };
        Ok(Node::Template { name, pipe })
    }

    fn block(&mut self) -> Result<Node<'a>, Failure> {
        let name = self.name()?;
        let pipe = Some(self.pipeline(Place::Other)?);
        self.named(name.clone())?;
        Ok(Node::Template { name, pipe })
    }

    fn pipeline(&mut self, place: Place) -> Result<Pipe<'a>, Failure> {
        let mut pipe = Pipe { variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, place)?;
        let end = if place == Place::Paren { Kind::CloseParen } else { Kind::Close };
        loop {
            let token = self.skip_space();
            if token.kind == end {
                self.next();
                break;
            }
            if !begins_operand(token.kind) {
                return unexpected(token);
            }
            pipe.commands.push(self.command()?);
        }
        if pipe.commands.is_empty() {
            return Failure::error("the template has an empty pipeline");
        }
        let is_fixed = |command: &Vec<Operand<'_>>| match command.first() {
            Some(first) => matches!(
                first,
                Operand::Bool(_) | Operand::Dot | Operand::Nil | Operand::Number(_) | Operand::Text(_)
            ),
            None => false,
        };
        if pipe.commands.iter().skip(1).any(is_fixed) {
            return Failure::error("the template pipes a value to what is no function");
        }
        Ok(pipe)
    }

    /// `$a :=`, `$a =`, and in a range `$a, $b :=`.
    fn declarations(&mut self, pipe: &mut Pipe<'a>, place: Place) -> Result<(), Failure> {
        loop {
            let variable = self.skip_space();
            let before = self.at;
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            self.next();
            let next = self.skip_space();
            if !matches!(next.kind, Kind::Assign | Kind::Declare | Kind::Comma) {
                self.at = before;
                return Ok(());
            }
            self.next();
            pipe.variables.push(variable.text);
            self.scope.variables.push(variable.text);
            if next.kind != Kind::Comma {
                pipe.assigns = next.kind == Kind::Assign;
                return Ok(());
            }
            let may_go_on = place == Place::Range && pipe.variables.len() < 2;
            let next = self.skip_space().kind;
            if !may_go_on || !matches!(next, Kind::Variable | Kind::Close | Kind::CloseParen) {
                return Failure::error("the template declares what is no variable");
            }
        }
    }

    fn command(&mut self) -> Result<Vec<Operand<'a>>, Failure> {
        let mut command = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                command.push(operand);
            }
            match self.peek().kind {
                Kind::Space => {}
                Kind::Close | Kind::CloseParen => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => return unexpected(self.peek()),
            }
        }
        if command.is_empty() { Failure::error("the template has an empty command") } else { Ok(command) }
    }

    fn operand(&mut self) -> Result<Option<Operand<'a>>, Failure> {
        let Some(operand) = self.term()? else { return Ok(None) };
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.next().text);
        }
        if fields.is_empty() {
            return Ok(Some(operand));
        }
        Ok(Some(match operand {
            Operand::Field(mut names) => {
                names.append(&mut fields);
                Operand::Field(names)
            }
            Operand::Variable(name, _) => Operand::Variable(name, fields),
            Operand::Function(_) | Operand::Pipe(_) => Operand::Chain(Box::new(operand), fields),
            _ => return Failure::error("the template has fields of a constant"),
        }))
    }

    /// `None` where nothing stands that could be one.
    fn term(&mut self) -> Result<Option<Operand<'a>>, Failure> {
        let token = self.skip_space();
        if !begins_operand(token.kind) {
            return Ok(None);
        }
        self.next();
        Ok(Some(match token.kind {
            Kind::Function => match Function::of(token.text) {
                Some(function) => Operand::Function(function),
                None => {
                    return Failure::error(format!("the template calls an unknown `{}`", token.text));
                }
            },
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Variable => self.variable(token.text)?,
            Kind::Field => Operand::Field(vec![token.text]),
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::Number => Operand::Number(constant::number(token.text)?),
            Kind::Letter => Operand::Number(constant::letter(token.text)?),
            Kind::Quoted => Operand::Text(Rc::from(constant::text(token.text)?)),
            Kind::Raw => Operand::Text(Rc::from(constant::raw(token.text))),
            _ => Operand::Pipe(self.nested(|parser| parser.pipeline(Place::Paren))?),
        }))
    }

    fn variable(&mut self, name: &'a str) -> Result<Operand<'a>, Failure> {
        let bytes = self.scope.variables.len().saturating_mul(name.len());
        self.call.take((self.scope.variables.len() / VARIABLES).saturating_add(bytes / VALUE_BYTES))?;
        if !self.scope.variables.contains(&name) {
            return Failure::error(format!("the template has no variable `{name}`"));
        }
        Ok(Operand::Variable(name, Vec::new()))
    }
}

const fn begins_operand(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bool
            | Kind::Letter
            | Kind::Dot
            | Kind::Field
            | Kind::Function
            | Kind::Number
            | Kind::Nil
            | Kind::Raw
            | Kind::Quoted
            | Kind::Variable
            | Kind::OpenParen
    )
}
