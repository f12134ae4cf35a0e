//! Runs a template (Go's `text/template/exec.go`).

use std::rc::Rc;

use super::budget::Budget;
use super::constant::Constant;
use super::function::Function;
use super::functions::{Found, apply, fail};
use super::tree::{Condition, MAIN, MAX_DEPTH, Node, Operand, Pipe, Templates};
use super::value::{GoValue, NO_VALUE, Text, printed};
use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::value::Value;

/// Variables that are looked through in one step.
const VARIABLES: usize = 8;

/// What comes behind a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// A template that runs.
pub(super) struct Run<'a, 'c> {
    budget: Budget<'c>,
    templates: &'c Templates<'a>,
    variables: Vec<(&'a str, GoValue<'a>)>,
    out: String,
    depth: usize,
}

/// What the whole of some templates writes about a value.
pub(super) fn run<'a>(
    call: &mut Call,
    templates: &Templates<'a>,
    data: &GoValue<'a>,
) -> Result<String, Failure> {
    let variables = vec![("$", data.clone())];
    let mut run = Run { budget: Budget::new(call), templates, variables, out: String::new(), depth: 0 };
    if let Some(list) = templates.get(MAIN) {
        run.walk(data, list)?;
    }
    Ok(run.out)
}

impl<'a> Run<'a, '_> {
    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.budget.grow(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    /// Each part within another one takes a part of the stack; the whole is in none.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.depth > MAX_DEPTH {
            return Err(Failure::Halt(format!("the template runs nested more than {MAX_DEPTH} times")));
        }
        self.depth = self.depth.saturating_add(1);
        let done = run(self);
        self.depth = self.depth.saturating_sub(1);
        done
    }

    // === Parts ===

    fn walk(&mut self, dot: &GoValue<'a>, list: &[Node<'a>]) -> Result<Flow, Failure> {
        self.nested(|run| {
            for node in list {
                run.budget.take(1)?;
                let flow = run.node(dot, node)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn node(&mut self, dot: &GoValue<'a>, node: &Node<'a>) -> Result<Flow, Failure> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(&value)?;
                }
            }
            Node::Branches { .. } | Node::Range { .. } => {
                let outer = self.variables.len();
                let flow = self.control(dot, node)?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Template { name, pipe } => self.template(dot, name, pipe.as_ref())?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &GoValue<'a>) -> Result<(), Failure> {
        match value {
            GoValue::None => self.write(NO_VALUE),
            GoValue::Text(text) | GoValue::Number(text) => self.write(text.as_str()),
            other => {
                let text = printed(self.budget.call, std::slice::from_ref(other), false)?;
                self.write(&text)
            }
        }
    }

    fn control(&mut self, dot: &GoValue<'a>, node: &Node<'a>) -> Result<Flow, Failure> {
        match node {
            Node::Branches { condition, branches, otherwise } => {
                for (pipe, list) in branches {
                    let value = self.pipeline(dot, pipe)?;
                    if value.is_true() {
                        return self.walk(if *condition == Condition::With { &value } else { dot }, list);
                    }
                }
                self.walk(dot, otherwise)
            }
            Node::Range { pipe, list, otherwise } => {
                let over = self.pipeline(dot, pipe)?;
                let flow = match self.range(pipe, list, &over)? {
                    Some(flow) => flow,
                    None => self.walk(dot, otherwise)?,
                };
                // What leaves a range ends here, also where it stands behind `else`.
                Ok(if flow == Flow::Break { Flow::Next } else { flow })
            }
            _ => Ok(Flow::Next),
        }
    }

    /// `None` where there is nothing to go over.
    fn range(
        &mut self,
        pipe: &Pipe<'a>,
        list: &[Node<'a>],
        over: &GoValue<'a>,
    ) -> Result<Option<Flow>, Failure> {
        let place = |place: usize| GoValue::Int(i64::try_from(place).unwrap_or(i64::MAX));
        match over {
            GoValue::Int(_) | GoValue::Byte(_) if pipe.variables.len() > 1 => {
                fail("ranges over a number by two variables")
            }
            GoValue::Int(count) => {
                self.each(pipe, list, (0..*count).map(|one| (GoValue::None, GoValue::Int(one))))
            }
            GoValue::Byte(count) => {
                self.each(pipe, list, (0..*count).map(|one| (GoValue::None, GoValue::Byte(one))))
            }
            GoValue::List(items) => {
                let items = items.iter().enumerate();
                self.each(pipe, list, items.map(|(at, item)| (place(at), GoValue::of(item))))
            }
            GoValue::Map(members) => {
                let members = members.iter();
                self.each(pipe, list, members.map(|(key, value)| (GoValue::of(key), GoValue::of(value))))
            }
            GoValue::None | GoValue::Nil => Ok(None),
            _ => fail("ranges over what has no parts"),
        }
    }

    fn each(
        &mut self,
        pipe: &Pipe<'a>,
        list: &[Node<'a>],
        pairs: impl Iterator<Item = (GoValue<'a>, GoValue<'a>)>,
    ) -> Result<Option<Flow>, Failure> {
        let inner = self.variables.len();
        let mut ran = None;
        for (key, value) in pairs {
            self.budget.take(1)?;
            let values = match pipe.variables.len() {
                0 => Vec::new(),
                1 => vec![value.clone()],
                _ => vec![key, value.clone()],
            };
            for (place, (name, value)) in pipe.variables.iter().zip(values).enumerate() {
                if pipe.assigns {
                    self.assign(name, value)?;
                    continue;
                }
                let from_top = pipe.variables.len().saturating_sub(place);
                if let Some(variable) = self.variables.get_mut(inner.saturating_sub(from_top)) {
                    variable.1 = value;
                }
            }
            let flow = self.walk(&value, list)?;
            self.variables.truncate(inner);
            if flow == Flow::Break {
                return Ok(Some(flow));
            }
            ran = Some(Flow::Next);
        }
        Ok(ran)
    }

    /// Another template knows no variables of this one.
    fn template(&mut self, dot: &GoValue<'a>, name: &str, pipe: Option<&Pipe<'a>>) -> Result<(), Failure> {
        self.budget.compare(name.len())?;
        let templates = self.templates;
        let Some(list) = templates.get(name) else {
            return fail(format!("`{name}` is not defined"));
        };
        let data = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => GoValue::None,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$", data.clone())]);
        self.walk(&data, list)?;
        self.variables = outer;
        Ok(())
    }

    // === Variables ===

    /// The place of the last variable of a name.
    fn variable(&mut self, name: &str) -> Result<usize, Failure> {
        self.budget.take(self.variables.len() / VARIABLES)?;
        self.budget.compare(self.variables.len().saturating_mul(name.len()))?;
        let place = self.variables.iter().rposition(|(known, _)| *known == name);
        place.ok_or_else(|| Failure::Error(format!("the template has no variable `{name}`")))
    }

    fn assign(&mut self, name: &str, value: GoValue<'a>) -> Result<(), Failure> {
        let place = self.variable(name)?;
        if let Some(variable) = self.variables.get_mut(place) {
            variable.1 = value;
        }
        Ok(())
    }

    fn value_of(&mut self, name: &str) -> Found<'a> {
        let place = self.variable(name)?;
        Ok(self.variables.get(place).map_or(GoValue::None, |(_, value)| value.clone()))
    }

    // === Pipelines ===

    fn pipeline(&mut self, dot: &GoValue<'a>, pipe: &Pipe<'a>) -> Found<'a> {
        let mut last = None;
        for command in &pipe.commands {
            self.budget.take(1)?;
            last = Some(self.command(dot, command, last)?.held());
        }
        let value = last.unwrap_or(GoValue::None);
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        dot: &GoValue<'a>,
        command: &[Operand<'a>],
        last: Option<GoValue<'a>>,
    ) -> Found<'a> {
        let [first, arguments @ ..] = command else { return fail("has an empty command") };
        let has_arguments = !arguments.is_empty() || last.is_some();
        match first {
            Operand::Function(function) => self.function(dot, *function, arguments, last),
            Operand::Field(names) => fields(&mut self.budget, dot.clone(), names, has_arguments),
            Operand::Variable(name, names) if !names.is_empty() => {
                let value = self.value_of(name)?;
                fields(&mut self.budget, value, names, has_arguments)
            }
            Operand::Chain(operand, names) => {
                let value = self.operand(dot, operand)?;
                fields(&mut self.budget, value, names, has_arguments)
            }
            _ if has_arguments => fail("gives arguments to what is no function"),
            Operand::Nil => fail("has a command that is nil"),
            other => self.operand(dot, other),
        }
    }

    fn operand(&mut self, dot: &GoValue<'a>, operand: &Operand<'a>) -> Found<'a> {
        match operand {
            Operand::Bool(value) => Ok(GoValue::Bool(*value)),
            Operand::Nil => Ok(GoValue::None),
            Operand::Dot => Ok(dot.clone()),
            Operand::Number(Constant::Int(integer)) => Ok(GoValue::Int(*integer)),
            Operand::Number(Constant::Float(float)) => Ok(GoValue::Float(*float)),
            Operand::Number(Constant::TooLarge) => fail("has an integer that is too large"),
            Operand::Text(text) => Ok(GoValue::Text(Text::Made(Rc::clone(text)))),
            Operand::Function(function) => self.nested(|run| run.function(dot, *function, &[], None)),
            Operand::Field(names) => fields(&mut self.budget, dot.clone(), names, false),
            Operand::Variable(name, names) => {
                let value = self.value_of(name)?;
                fields(&mut self.budget, value, names, false)
            }
            Operand::Pipe(pipe) => self.nested(|run| run.pipeline(dot, pipe)),
            Operand::Chain(operand, names) => {
                let value = self.operand(dot, operand)?;
                fields(&mut self.budget, value, names, false)
            }
        }
    }

    fn function(
        &mut self,
        dot: &GoValue<'a>,
        function: Function,
        arguments: &[Operand<'a>],
        last: Option<GoValue<'a>>,
    ) -> Found<'a> {
        let count = arguments.len().saturating_add(usize::from(last.is_some()));
        if !function.takes(count) {
            return fail(format!("calls a function with {count} arguments"));
        }
        self.budget.take(count)?;
        if matches!(function, Function::And | Function::Or) {
            let mut value = GoValue::None;
            for argument in arguments {
                value = self.operand(dot, argument)?;
                if value.is_true() == (function == Function::Or) {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(count);
        for argument in arguments {
            values.push(self.operand(dot, argument)?);
        }
        values.extend(last);
        apply(function, &mut self.budget, &values)
    }
}

/// A field of a field of a value.
fn fields<'a>(
    budget: &mut Budget<'_>,
    value: GoValue<'a>,
    names: &[&'a str],
    has_arguments: bool,
) -> Found<'a> {
    let last = names.len().saturating_sub(1);
    let mut value = value;
    for (place, name) in names.iter().enumerate() {
        budget.take(1)?;
        budget.compare(name.len())?;
        value = match value {
            GoValue::None => GoValue::None,
            GoValue::Map(_) if has_arguments && place == last => {
                return fail(format!("gives arguments to `{name}`, which is no function"));
            }
            GoValue::Map(members) => members.get(&Value::text(*name)).map_or(GoValue::None, GoValue::of),
            _ => return fail(format!("has no `{name}` of what is no object")),
        };
    }
    Ok(value)
}
