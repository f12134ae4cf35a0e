//! A template as it is run.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::constant::Constant;
use super::function::Function;

/// Parts of a template within one another, and templates that call one another: each takes a part of the stack.
pub(super) const MAX_DEPTH: usize = 64;

/// The name of the whole.
pub(super) const MAIN: &str = "template";

/// Templates by their names.
pub(super) type Templates<'a> = BTreeMap<String, List<'a>>;

/// Parts that follow each other.
pub(super) type List<'a> = Vec<Node<'a>>;

/// The word before a pipeline that a part depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    If,
    With,
}

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Text(&'a str),
    Action(Pipe<'a>),
    /// The first of the branches counts whose pipeline is true.
    Branches {
        condition: Condition,
        branches: Vec<(Pipe<'a>, List<'a>)>,
        otherwise: List<'a>,
    },
    Range {
        pipe: Pipe<'a>,
        list: List<'a>,
        otherwise: List<'a>,
    },
    Template {
        name: String,
        pipe: Option<Pipe<'a>>,
    },
    Break,
    Continue,
}

/// Commands, each of which has the value of the one before for its last argument.
#[derive(Debug)]
pub(super) struct Pipe<'a> {
    /// Variables that get the value.
    pub variables: Vec<&'a str>,
    /// Whether they are there already.
    pub assigns: bool,
    pub commands: Vec<Vec<Operand<'a>>>,
}

/// A part of a command.
#[derive(Debug)]
pub(super) enum Operand<'a> {
    Bool(bool),
    Nil,
    Dot,
    Number(Constant),
    Text(Rc<str>),
    Function(Function),
    Field(Vec<&'a str>),
    Variable(&'a str, Vec<&'a str>),
    Pipe(Pipe<'a>),
    /// Fields of the value of another one.
    Chain(Box<Operand<'a>>, Vec<&'a str>),
}
