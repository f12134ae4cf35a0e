//! One call of a built-in function: its operands, what it may use, and how it ends without a value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use num_bigint::BigInt;
use regex::bytes::Regex;

use super::failure::Failure;
use super::number::Number;
use super::value::{Object, Value};

/// Steps after which a call looks whether its time is over: some hundredths of a millisecond.
const STEPS_UNSEEN: u64 = 4_096;
/// Compiled expressions that are kept.
const MAX_EXPRESSIONS: usize = 100;
/// Bytes that a value takes in a module at least.
pub const VALUE_BYTES: usize = 32;

/// How a call ends.
pub(super) type Outcome = Result<Value, Failure>;

/// What an evaluation asked for that does not follow from its input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// The time.
    pub time: bool,
    /// A random value.
    pub random: bool,
}

impl Asked {
    /// Whether the evaluation follows from its input.
    pub const fn is_nothing(self) -> bool {
        !(self.time || self.random)
    }

    /// What either of two evaluations asked for.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self { time: self.time || other.time, random: self.random || other.random }
    }
}

/// The work of a call beside reading its operands and writing its result: about as much as copying so many values.
#[derive(Debug, Clone, Copy)]
struct Steps {
    allowed: u64,
    taken: u64,
}

/// Says whether the time of an evaluation is over.
struct Due(Box<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Due")
    }
}

/// What the calls of one evaluation share.
#[derive(Debug, Default)]
pub struct Call {
    /// Now, in nanoseconds since 1970; the same for the whole evaluation.
    now: i64,
    /// Bytes that one result may have.
    pub max_bytes: usize,
    /// Random values by what they were asked for with: the same in one evaluation.
    drawn: BTreeMap<String, Value>,
    /// What the calls of this evaluation asked for.
    asked: Asked,
    /// The work that a call may take; `None` for any.
    steps: Option<Steps>,
    /// `None` for any time.
    due: Option<Due>,
    /// Steps since that was asked.
    unseen: u64,
    /// Whether a call ended because the time was over.
    late: bool,
    /// Expressions by their text, kept from one evaluation to the next.
    expressions: HashMap<String, Arc<Regex>>,
}

impl Call {
    /// Calls whose results have so many bytes at most.
    pub fn within(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// Begins an evaluation.
    pub fn begin(&mut self, now: i64, max_bytes: usize) {
        self.now = now;
        self.max_bytes = max_bytes;
        self.drawn.clear();
        self.asked = Asked::default();
        (self.due, self.unseen, self.late) = (None, 0, false);
    }

    /// Ends the calls of this evaluation once `is_due`, whatever they could still pay for.
    pub fn end_when(&mut self, is_due: impl Fn() -> bool + Send + Sync + 'static) {
        self.due = Some(Due(Box::new(is_due)));
    }

    /// Whether a call ended because the time was over.
    pub const fn is_late(&self) -> bool {
        self.late
    }

    /// What the evaluation asked for so far that does not follow from its input.
    pub const fn asked(&self) -> Asked {
        self.asked
    }

    /// Lets the next call take so many steps.
    pub const fn allow(&mut self, steps: u64) {
        self.steps = Some(Steps { allowed: steps, taken: 0 });
    }

    /// The steps that were taken since.
    pub fn taken(&self) -> u64 {
        self.steps.map_or(0, |steps| steps.taken)
    }

    /// Whether it took more than it may.
    pub fn is_exhausted(&self) -> bool {
        self.steps.is_some_and(|steps| steps.taken > steps.allowed)
    }

    /// Takes steps before the work is done, and ends the evaluation where there are none left. Work that grows with the operands
    /// alone was paid when they were read; this is for what grows faster.
    pub(super) fn take(&mut self, count: usize) -> Result<(), Failure> {
        if let Some(steps) = &mut self.steps {
            steps.taken = steps.taken.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
        if self.is_exhausted() {
            return Err(Failure::Halt("it needs more fuel than there is".into()));
        }
        self.unseen = self.unseen.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.unseen >= STEPS_UNSEEN {
            self.unseen = 0;
            self.late = self.late || self.due.as_ref().is_some_and(|due| (due.0)());
        }
        if self.late {
            return Err(Failure::Halt("no time is left".into()));
        }
        Ok(())
    }

    /// Now. There is no other clock for a function, so that an evaluation knows whether it has looked.
    pub(super) const fn now(&mut self) -> i64 {
        self.asked.time = true;
        self.now
    }

    /// The random value of this name: drawn once in an evaluation.
    pub(super) fn random(&mut self, name: String, draw: impl FnOnce() -> Value) -> Value {
        self.asked.random = true;
        self.drawn.entry(name).or_insert_with(draw).clone()
    }

    /// Ends the evaluation where a result would be larger than the memory of a module.
    pub(super) fn fits(&self, bytes: usize) -> Result<(), Failure> {
        if bytes <= self.max_bytes {
            return Ok(());
        }
        Err(Failure::Halt(format!("it needs more than {}Mi of memory", self.max_bytes >> 20)))
    }

    /// The expression that a pattern in Go's grammar means.
    pub(super) fn expression(&mut self, pattern: &str) -> Result<Arc<Regex>, Failure> {
        self.compiled(pattern, || super::expression::compile(pattern))
    }

    /// The expression of this name, which no other one has.
    pub(super) fn compiled(
        &mut self,
        name: &str,
        compile: impl FnOnce() -> Result<Regex, Failure>,
    ) -> Result<Arc<Regex>, Failure> {
        if let Some(known) = self.expressions.get(name) {
            return Ok(Arc::clone(known));
        }
        let compiled = compile()?;
        if self.expressions.len() >= MAX_EXPRESSIONS {
            self.expressions.clear();
        }
        let compiled = Arc::new(compiled);
        self.expressions.insert(name.into(), Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// The operands of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands<'a>(pub &'a [Value]);

impl<'a> Operands<'a> {
    /// The operand at a place, counted from zero.
    pub fn at(self, place: usize) -> Result<&'a Value, Failure> {
        self.0
            .get(place)
            .ok_or_else(|| Failure::Error(format!("operand {} is missing", place.saturating_add(1))))
    }

    /// A text.
    pub fn text(self, place: usize) -> Result<&'a str, Failure> {
        match self.at(place)? {
            Value::String(text) => Ok(text),
            other => wrong_type(place, other, "string"),
        }
    }

    /// A number.
    pub fn number(self, place: usize) -> Result<&'a Number, Failure> {
        match self.at(place)? {
            Value::Number(number) => Ok(number),
            other => wrong_type(place, other, "number"),
        }
    }

    /// A whole number of 64 bits, written without an exponent.
    pub fn integer(self, place: usize) -> Result<i64, Failure> {
        let number = self.number(place)?;
        let not = || Failure::Error(format!("operand {} must be integer number", place.saturating_add(1)));
        number.to_count().ok_or_else(not)
    }

    /// A whole number of any size.
    pub fn big(self, place: usize) -> Result<BigInt, Failure> {
        let number = self.number(place)?;
        let not = || Failure::Error(format!("operand {} must be integer number", place.saturating_add(1)));
        number.to_big().ok_or_else(not)
    }

    /// An array.
    pub fn array(self, place: usize) -> Result<&'a [Value], Failure> {
        match self.at(place)? {
            Value::Array(items) => Ok(items),
            other => wrong_type(place, other, "array"),
        }
    }

    /// An object.
    pub fn object(self, place: usize) -> Result<&'a Object, Failure> {
        match self.at(place)? {
            Value::Object(members) => Ok(members),
            other => wrong_type(place, other, "object"),
        }
    }

    /// The items of an array or a set.
    pub fn items(self, place: usize) -> Result<Vec<&'a Value>, Failure> {
        match self.at(place)? {
            Value::Array(items) => Ok(items.iter().collect()),
            Value::Set(items) => Ok(items.iter().collect()),
            other => wrong_type(place, other, "array or set"),
        }
    }

    /// The texts of an array or a set.
    pub fn texts(self, place: usize) -> Result<Vec<&'a str>, Failure> {
        self.items(place)?.into_iter().map(|item| text_in(place, item)).collect()
    }
}

fn text_in(place: usize, item: &Value) -> Result<&str, Failure> {
    match item {
        Value::String(text) => Ok(text),
        other => Failure::error(format!(
            "operand {} must hold strings but has {}",
            place.saturating_add(1),
            other.type_name()
        )),
    }
}

fn wrong_type<T>(place: usize, found: &Value, wanted: &str) -> Result<T, Failure> {
    Failure::error(format!(
        "operand {} must be {wanted} but got {}",
        place.saturating_add(1),
        found.type_name()
    ))
}

/// A set of values.
pub(super) fn set(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Set(items.into_iter().collect::<BTreeSet<_>>())
}

/// An object with texts for keys.
pub(super) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (Value::text(key), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_once_its_time_is_over_though_it_could_be_paid() {
        let mut call = Call::within(1 << 20);
        call.allow(u64::MAX);
        call.end_when(|| true);
        let ended = (0..STEPS_UNSEEN).find_map(|_| call.take(1).err());
        assert_eq!(ended, Some(Failure::Halt("no time is left".into())));
        assert!(call.is_late() && !call.is_exhausted());
        // The next evaluation has its own time.
        call.begin(0, 1 << 20);
        assert_eq!(call.take(usize::MAX), Ok(()));
    }
}
