//! The values of Go that a template sees: what its JSON decoder makes of an operand (`json.Number` is a kind of text), and what
//! constants and functions make.

use std::rc::Rc;

use super::letters;
use crate::rego::builtins::sprintf::{self, Argument, Output, Printed, Spec};
use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::number::Number;
use crate::rego::value::{Object, Value};

/// What is printed of nothing.
pub(super) const NO_VALUE: &str = "<no value>";

/// A text, which may be a part of an operand.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Operand(&'a str),
    Made(Rc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Operand(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A value of Go.
#[derive(Debug, Clone)]
pub(super) enum GoValue<'a> {
    /// None at all, as that of a key that is not there.
    None,
    /// The null of JSON.
    Nil,
    Bool(bool),
    Int(i64),
    Byte(u8),
    Float(f64),
    Text(Text<'a>),
    Number(Text<'a>),
    List(&'a [Value]),
    Map(&'a Object),
}

impl<'a> GoValue<'a> {
    /// What a decoder of JSON makes of a value that `is_json`.
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(Number::Text(text)) => Self::Number(Text::Operand(text)),
            Value::Number(number) => Self::Number(Text::Made(number.text().into())),
            Value::String(text) => Self::Text(Text::Operand(text)),
            Value::Array(items) => Self::List(items),
            Value::Object(members) => Self::Map(members),
            Value::Null | Value::Set(_) => Self::Nil,
        }
    }

    /// A text that was made.
    pub fn made(text: &str) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    /// What a variable of any type holds: of null, nothing is left.
    pub fn held(self) -> Self {
        if matches!(self, Self::Nil) { Self::None } else { self }
    }

    /// Whether it counts as true.
    pub fn is_true(&self) -> bool {
        match self {
            Self::None | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(integer) => *integer != 0,
            Self::Byte(byte) => *byte != 0,
            Self::Float(float) => *float != 0.0,
            Self::Text(text) | Self::Number(text) => !text.as_str().is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(members) => !members.is_empty(),
        }
    }

    /// The text of a text or a number.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The integer that it is.
    pub const fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(integer) => Some(*integer),
            Self::Byte(byte) => Some(*byte as i64),
            _ => None,
        }
    }
}

/// Refuses what is no JSON where Rego writes it: OPA hands the operand over that way (`ast.As`).
pub(super) fn is_json(call: &mut Call, value: &Value) -> Result<bool, Failure> {
    match value {
        Value::Set(_) => Ok(false),
        Value::Array(items) => all(call, items.iter()),
        Value::Object(members) => {
            let are_texts = members.keys().all(|key| matches!(key, Value::String(_)));
            Ok(are_texts && all(call, members.iter().flat_map(|(key, value)| [key, value]))?)
        }
        Value::String(text) => {
            for letter in text.chars() {
                let is_escaped_otherwise = match letter {
                    '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => false,
                    '\0'..='\u{1f}' | '\u{7f}' => true,
                    '\u{10000}'.. => !letters::prints(call, letter)?,
                    _ => false,
                };
                if is_escaped_otherwise {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(true),
    }
}

fn all<'v>(call: &mut Call, mut values: impl Iterator<Item = &'v Value>) -> Result<bool, Failure> {
    values.try_fold(true, |are, value| Ok(are && is_json(call, value)?))
}

/// As `fmt.Sprint` or `Sprintln` writes several values: with a blank between two of which none is a text, or between all.
pub(super) fn printed(call: &mut Call, values: &[GoValue<'_>], is_line: bool) -> Result<String, Failure> {
    let mut out = Output::new(call);
    let mut is_after_text = true;
    for (place, value) in values.iter().enumerate() {
        let is_text = value.text().is_some();
        if place > 0 && (is_line || !(is_text || is_after_text)) {
            out.push(" ")?;
        }
        value.print(&mut out, 'v', &Spec::default())?;
        is_after_text = is_text;
    }
    if is_line {
        out.push("\n")?;
    }
    Ok(out.text)
}

/// The verb that is written by, its flags, and whether it is the syntax of Go that is asked for.
struct How {
    verb: char,
    spec: Spec,
    is_syntax: bool,
}

impl Printed for GoValue<'_> {
    fn type_name(&self) -> Option<&'static str> {
        match self {
            Self::None | Self::Nil => None,
            Self::Bool(_) => Some("bool"),
            Self::Int(_) => Some("int"),
            Self::Byte(_) => Some("uint8"),
            Self::Float(_) => Some("float64"),
            Self::Text(_) => Some("string"),
            Self::Number(_) => Some("json.Number"),
            Self::List(_) => Some("[]interface {}"),
            Self::Map(_) => Some("map[string]interface {}"),
        }
    }

    fn count(&self) -> Option<i64> {
        self.integer()
    }

    fn print(&self, out: &mut Output<'_>, verb: char, spec: &Spec) -> Result<(), Failure> {
        match (self.type_name(), verb) {
            // Where a list is in memory depends on the process.
            (Some(_), 'p') if matches!(self, Self::List(_) | Self::Map(_)) => {
                return Err(Failure::Halt("the verb `%p` prints an address".into()));
            }
            (_, 'w') => return Err(Failure::Halt("the verb `%w` is for errors".into())),
            (None, 'v' | 'T') => return out.push(&sprintf::pad("<nil>", spec, spec.zero)),
            (Some(name), 'T') => return out.push(&with_verb(&Argument::Text(name.into()), 's', spec)),
            _ => {}
        }
        // `%+v` and `%#v` mean something else.
        let own = match verb {
            'v' => Spec { plus: false, sharp: false, ..spec.clone() },
            _ => spec.clone(),
        };
        if self.type_name().is_none() {
            return out.push(&format!("%!{verb}(<nil>)"));
        }
        self.write(out, &How { verb, spec: own, is_syntax: verb == 'v' && spec.sharp })
    }
}

fn with_verb(argument: &Argument<'_>, verb: char, spec: &Spec) -> String {
    sprintf::with_verb(argument, verb, spec).unwrap_or_default()
}

impl GoValue<'_> {
    fn write(&self, out: &mut Output<'_>, how: &How) -> Result<(), Failure> {
        match self {
            Self::None | Self::Nil if how.is_syntax => out.push("interface {}(nil)"),
            Self::None | Self::Nil => out.push("<nil>"),
            Self::List(items) => {
                out.push(if how.is_syntax { "[]interface {}{" } else { "[" })?;
                for (place, item) in items.iter().enumerate() {
                    out.pay(1)?;
                    out.push(separator(place, how))?;
                    GoValue::of(item).write(out, how)?;
                }
                out.push(if how.is_syntax { "}" } else { "]" })
            }
            Self::Map(members) => {
                out.push(if how.is_syntax { "map[string]interface {}{" } else { "map[" })?;
                for (place, (key, value)) in members.iter().enumerate() {
                    out.pay(1)?;
                    out.push(separator(place, how))?;
                    GoValue::of(key).write(out, how)?;
                    out.push(":")?;
                    GoValue::of(value).write(out, how)?;
                }
                out.push(if how.is_syntax { "}" } else { "]" })
            }
            other => out.push(&other.scalar(how)),
        }
    }

    fn scalar(&self, how: &How) -> String {
        self.by_verb(how.verb, how).unwrap_or_else(|| {
            let value = self.by_verb('v', how).unwrap_or_default();
            format!("%!{}({}={value})", how.verb, self.type_name().unwrap_or_default())
        })
    }

    /// `None` where the verb is none for such a value.
    fn by_verb(&self, verb: char, how: &How) -> Option<String> {
        let spec = &how.spec;
        match self {
            Self::Bool(value) if matches!(verb, 't' | 'v') => {
                Some(sprintf::pad(if *value { "true" } else { "false" }, spec, spec.zero))
            }
            Self::Byte(byte) if how.is_syntax => {
                let sharp = Spec { sharp: true, ..spec.clone() };
                sprintf::with_verb(&Argument::Int(i64::from(*byte)), 'x', &sharp)
            }
            Self::Int(_) | Self::Byte(_) => {
                sprintf::with_verb(&Argument::Int(self.integer().unwrap_or_default()), verb, spec)
            }
            Self::Float(float) => sprintf::with_verb(&Argument::Float(*float), verb, spec),
            Self::Text(text) | Self::Number(text) => {
                let verb = if how.is_syntax { 'q' } else { verb };
                sprintf::with_verb(&Argument::Text(text.as_str().into()), verb, spec)
            }
            _ => None,
        }
    }
}

const fn separator(place: usize, how: &How) -> &'static str {
    match (place, how.is_syntax) {
        (0, _) => "",
        (_, true) => ", ",
        (_, false) => " ",
    }
}
