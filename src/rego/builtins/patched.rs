//! A document that `json.patch` changes, as OPA keeps it meanwhile (`open-policy-agent/opa:internal/edittree`, 1.22).
//!
//! OPA leaves an array as it was, and notes which of its items were removed, which were added, and which an operation has looked into. The
//! first look into an item finds what stood at its place in the array *as it was*, so that an operation behind a removal or an addition
//! changes another item than RFC 6902 says. Rules mean in the gate what they mean in OPA, so the same is found here.

use std::collections::BTreeMap;
use std::mem;

use crate::rego::call::{Call, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::number;
use crate::rego::value::Value;

/// What the operations of one patch may take.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    /// The call, whose fuel they take.
    pub call: &'a mut Call,
    /// No fewer bytes than the document takes.
    pub bytes: usize,
}

impl Budget<'_> {
    /// Takes so many bytes more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.call.take(bytes / VALUE_BYTES)?;
        self.bytes = self.bytes.saturating_add(bytes);
        self.call.fits(self.bytes)
    }
}

/// A part of the document.
#[derive(Debug)]
pub(super) enum Part {
    /// No operation has looked into it. Sets are always whole.
    Whole(Value),
    /// An object.
    Object(BTreeMap<Value, Part>),
    /// An array.
    Array(Items),
}

/// An array that an operation has looked into.
#[derive(Debug)]
pub(super) struct Items {
    /// The array as it was.
    former: Vec<Value>,
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    /// The one at this place of the array as it was.
    Former(usize),
    /// One that was added, or looked into.
    Own(Part),
}

/// What is done with a part.
type Act<'a> = dyn FnMut(&mut Budget<'_>, &mut Part) -> Result<(), Failure> + 'a;

impl Part {
    /// The bytes that it takes in a module at least.
    pub fn weight(&self) -> usize {
        match self {
            Self::Whole(value) => weight(value),
            Self::Object(members) => members
                .iter()
                .flat_map(|(key, part)| [weight(key), part.weight()])
                .fold(VALUE_BYTES, usize::saturating_add),
            Self::Array(items) => items.weight(),
        }
    }

    /// Its value.
    pub fn value(&self) -> Value {
        match self {
            Self::Whole(value) => value.clone(),
            Self::Object(members) => {
                Value::Object(members.iter().map(|(key, part)| (key.clone(), part.value())).collect())
            }
            Self::Array(items) => Value::Array(items.values()),
        }
    }

    /// Whether OPA keeps it among the composite values.
    fn is_composite(&self) -> bool {
        !matches!(self, Self::Whole(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)))
    }

    /// Makes its members or items parts of their own.
    fn open(&mut self, budget: &mut Budget<'_>) -> Result<(), Failure> {
        match self {
            Self::Whole(Value::Object(members)) => {
                budget.call.take(members.len() / 16)?;
                let members = mem::take(members);
                *self =
                    Self::Object(members.into_iter().map(|(key, value)| (key, Self::Whole(value))).collect());
            }
            Self::Whole(Value::Array(values)) => {
                budget.grow(values.len().saturating_mul(VALUE_BYTES))?;
                let former = mem::take(values);
                let items = (0..former.len()).map(Item::Former).collect();
                *self = Self::Array(Items { former, items });
            }
            Self::Whole(_) | Self::Object(_) | Self::Array(_) => {}
        }
        Ok(())
    }

    /// Does something with what stands at a path. An item of a set is taken out and put back, since its place depends on what it is.
    pub fn at(&mut self, budget: &mut Budget<'_>, path: &[Value], act: &mut Act<'_>) -> Result<(), Failure> {
        let [key, rest @ ..] = path else { return act(budget, self) };
        self.open(budget)?;
        match self {
            Self::Object(members) => match members.get_mut(key) {
                Some(next) => next.at(budget, rest, act),
                None => missing(key),
            },
            Self::Array(items) => items.look(budget, key)?.at(budget, rest, act),
            Self::Whole(Value::Set(items)) => {
                let Some(item) = items.take(key) else { return missing(key) };
                let mut item = Self::Whole(item);
                item.at(budget, rest, act)?;
                items.insert(item.value());
                Ok(())
            }
            Self::Whole(_) => missing(key),
        }
    }

    /// Adds a member, or an item at a place.
    pub fn insert(&mut self, budget: &mut Budget<'_>, key: &Value, value: Value) -> Result<(), Failure> {
        self.open(budget)?;
        match self {
            Self::Object(members) => {
                members.insert(key.clone(), Self::Whole(value));
                Ok(())
            }
            Self::Array(items) => {
                let at = if *key == Value::text("-") { items.items.len() } else { index(key)? };
                if at > items.items.len() { missing(key) } else { items.insert(budget, at, value) }
            }
            // The key of an item of a set is the item.
            Self::Whole(Value::Set(items)) if *key == value => {
                items.insert(value);
                Ok(())
            }
            Self::Whole(Value::Set(_)) => Failure::error("set key does not equal value to be inserted"),
            Self::Whole(_) => missing(key),
        }
    }

    /// Takes a member or an item out.
    pub fn remove(&mut self, budget: &mut Budget<'_>, key: &Value) -> Result<(), Failure> {
        self.open(budget)?;
        let removed = match self {
            Self::Object(members) => members.remove(key).is_some(),
            Self::Array(items) => {
                let at = index(key)?;
                let is_there = at < items.items.len();
                if is_there {
                    items.remove(budget, at)?;
                }
                is_there
            }
            Self::Whole(Value::Set(items)) => items.remove(key),
            Self::Whole(_) => false,
        };
        if removed { Ok(()) } else { missing(key) }
    }
}

impl Items {
    fn weight(&self) -> usize {
        let former = self.former.iter().map(weight);
        let items = self.items.iter().map(|item| match item {
            Item::Former(_) => VALUE_BYTES,
            Item::Own(part) => part.weight(),
        });
        former.chain(items).fold(VALUE_BYTES, usize::saturating_add)
    }

    fn values(&self) -> Vec<Value> {
        let value = |item: &Item| match item {
            Item::Former(place) => self.former.get(*place).cloned(),
            Item::Own(part) => Some(part.value()),
        };
        self.items.iter().filter_map(value).collect()
    }

    /// The item that an operation looks into, which is its own from now on.
    fn look(&mut self, budget: &mut Budget<'_>, key: &Value) -> Result<&mut Part, Failure> {
        let at = index(key)?;
        if matches!(self.items.get(at), Some(Item::Former(_))) {
            // By its place now in the array as it was: see above.
            let Some(found) = self.former.get(at) else { return missing(key) };
            budget.grow(weight(found))?;
            let found = found.clone();
            self.remove(budget, at)?;
            self.insert(budget, at, found)?;
        }
        match self.items.get_mut(at) {
            Some(Item::Own(part)) => Ok(part),
            Some(Item::Former(_)) | None => missing(key),
        }
    }

    fn insert(&mut self, budget: &mut Budget<'_>, at: usize, value: Value) -> Result<(), Failure> {
        budget.call.take(self.items.len() / 16)?;
        self.check(at, |first, second| !first.is_composite() && second.is_composite())?;
        self.items.insert(at, Item::Own(Part::Whole(value)));
        Ok(())
    }

    /// Removes the item at a place that there is.
    fn remove(&mut self, budget: &mut Budget<'_>, at: usize) -> Result<(), Failure> {
        budget.call.take(self.items.len() / 16)?;
        self.check(at.saturating_add(1), |first, second| first.is_composite() && !second.is_composite())?;
        self.items.remove(at);
        Ok(())
    }

    /// Ends the evaluation where OPA loses an item. It moves those of its own from here on by one place, scalars before composites, so
    /// that one which comes to the place of a composite is removed with that.
    fn check(&self, from: usize, is_lost: impl Fn(&Part, &Part) -> bool) -> Result<(), Failure> {
        let moved = self.items.get(from..).unwrap_or_default();
        let lost = moved.windows(2).any(|pair| match pair {
            [Item::Own(first), Item::Own(second)] => is_lost(first, second),
            _ => false,
        });
        if lost { Err(Failure::Halt("opa loses an item of an array in this patch".into())) } else { Ok(()) }
    }
}

/// The bytes that a value takes in a module at least.
pub(super) fn weight(value: &Value) -> usize {
    value.weight(VALUE_BYTES)
}

/// How many values are within one another in a value, beside itself.
pub(super) fn depth(value: &Value) -> usize {
    let within = |inner: &Value| depth(inner).saturating_add(1);
    let deepest = match value {
        Value::Array(items) => items.iter().map(within).max(),
        Value::Set(items) => items.iter().map(within).max(),
        Value::Object(members) => members.iter().flat_map(|(key, value)| [within(key), within(value)]).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    deepest.unwrap_or_default()
}

/// The place in an array that a key names.
fn index(key: &Value) -> Result<usize, Failure> {
    let wrong = || Failure::Error(format!("invalid index {}", key.to_rego()));
    let at = match key {
        Value::Number(number) => number.to_count(),
        Value::String(text) if text == "0" || !text.starts_with('0') => number::count(text),
        _ => None,
    };
    at.and_then(|at| usize::try_from(at).ok()).ok_or_else(wrong)
}

/// That nothing stands at a key.
pub(super) fn missing<T>(key: &Value) -> Result<T, Failure> {
    Failure::error(format!("path {} does not exist", key.to_rego()))
}
