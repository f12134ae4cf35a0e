//! The keys of references to the data in a compiled policy. OPA's interpreter reads such a value by a path of texts: a number finds the key
//! that is its text, and a text the place in an array that it names (`open-policy-agent/opa:v1/storage/path.go`, `NewPathForRef`;
//! `v1/storage/internal/ptr/ptr.go`). Compiled code takes each key as it is, and finds nothing.
//!
//! In `data.a[key]` both do so, and in `x := data.a` with `x[key]` neither does. OPA's compiler tells them apart: each key of a reference
//! takes the value in one local to the next one, from the operand that is the data on
//! (`open-policy-agent/opa:internal/planner/planner.go`, `planDot`), and a variable is a local that a value is copied to.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{BinaryReader, FunctionBody, Operator};

use super::locations::Code;
use super::reads::DATA;
use crate::rego::Value;

/// The function that tells how many items a value has: what patterns such as `{2: x} = data.a` ask, which read no path.
const LENGTH: &str = "opa_value_length";
/// The function that finds the next key of a value.
const ITERATOR: &str = "opa_value_iter";
/// The function that compares two values. With it, a reference finds its key among those of the data where there are rules beside the data.
const COMPARE: &str = "opa_value_compare";

/// How references may find an item of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKeys {
    /// By a key of the same type alone.
    Exact,
    /// Also by a number for a text, or by a text for a number.
    Text,
}

impl DataKeys {
    /// Those of this data.
    pub fn of(data: &Value) -> Self {
        if has_items_by_text(data) { Self::Text } else { Self::Exact }
    }
}

fn has_items_by_text(data: &Value) -> bool {
    match data {
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => {
            let is_number = |key: &Value| matches!(key, Value::String(key) if begins_number(key));
            members.iter().any(|(key, value)| is_number(key) || has_items_by_text(value))
        }
        _ => false,
    }
}

fn begins_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
}

/// The place that a text names in an array, as OPA reads it (`open-policy-agent/opa:v1/util/performance.go`, `Atoi64`).
pub(super) fn place_of(text: &[u8]) -> Option<u32> {
    let minus = text.strip_prefix(b"-");
    let digits = minus.or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if !(1..=19).contains(&digits.len()) {
        return None;
    }
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if !whole.iter().all(u8::is_ascii_digit) || fraction.iter().any(|digit| *digit != b'0') {
        return None;
    }
    let place = whole
        .iter()
        .fold(0_u64, |place, digit| place.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
    if minus.is_some() && place != 0 { None } else { u32::try_from(place).ok() }
}

/// What a reference is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// What a local holds.
    Local(u32),
    /// The text at an address.
    Constant(i32),
}

/// One step of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookup {
    /// The function that it is in, by its number.
    pub function: u32,
    /// Where in the body of the function what was found is on the stack, in bytes.
    pub at: usize,
    /// The local with the value that is looked into.
    pub source: u32,
    pub key: Key,
    /// The local that takes what was found; `None` in a loop that compares the keys of the value with this one.
    pub target: Option<u32>,
    /// Whether OPA reads a value of the data here in every case. Otherwise it may look for the key as it is.
    pub is_certain: bool,
}

/// The steps of references to data, of rules and of functions of Rego, in the order of the code; `None` where a rule is not readable.
pub(super) fn lookups(code: &Code<'_>) -> Option<Vec<Lookup>> {
    let bodies = code.bodies.iter().filter(|(function, _)| code.is_rule(**function));
    let rules = bodies.map(|(function, body)| {
        let rule = Rule::read(code, *function, body.as_bytes())?;
        Some((*function, rule))
    });
    let rules = rules.collect::<Option<BTreeMap<u32, Rule>>>()?;
    let replaced = with_other_data(&rules);
    let found = rules.into_values().flat_map(|rule| rule.lookups);
    let found = found.map(|lookup| {
        let is_certain = lookup.is_certain && !replaced.contains(&lookup.function);
        Lookup { is_certain, ..lookup }
    });
    Some(found.collect())
}

/// The functions that may run where `with` replaces data: those with a `with`, and those that they call.
fn with_other_data(rules: &BTreeMap<u32, Rule>) -> BTreeSet<u32> {
    let with = rules.iter().filter(|(_, rule)| rule.replaces_data);
    let mut open: Vec<u32> = with.map(|(function, _)| *function).collect();
    let mut reached = BTreeSet::new();
    while let Some(function) = open.pop() {
        let Some(rule) = rules.get(&function) else { continue };
        if !reached.insert(function) {
            continue;
        }
        if rule.calls_any {
            return rules.keys().copied().collect();
        }
        open.extend(&rule.calls);
    }
    reached
}

/// An instruction, as far as it matters.
#[derive(Debug, Clone, Copy)]
enum Step {
    Get(u32),
    Set(u32),
    Tee(u32),
    Constant(i32),
    Call(u32),
    Dynamic,
    Other,
}

/// What a local is set to.
#[derive(Debug, Clone, Copy)]
enum Definition {
    /// What is at a key of the value in this local.
    Item(u32, Key),
    /// The next key of the value in this local.
    Next(u32),
    /// The value in this local.
    Copy(u32),
    /// The value of a rule that is found when it is asked for.
    Dynamic,
    Other,
}

/// What a rule does, as far as it matters.
#[derive(Debug, Default)]
struct Rule {
    lookups: Vec<Lookup>,
    calls: BTreeSet<u32>,
    /// Whether it calls rules that are found when they are asked for.
    calls_any: bool,
    /// Whether it sets the operand that is the data, as `with` does.
    replaces_data: bool,
}

/// What the locals hold at one place of the code. OPA's compiler writes what sets a local before what reads it, and uses the local again
/// in other definitions of the rule.
#[derive(Debug, Default)]
struct Locals {
    /// Those that references to data have led to, and whether they hold data in every case.
    reached: BTreeMap<u32, bool>,
    /// Those with a key of such a value, and the local with the value.
    keys: BTreeMap<u32, u32>,
    /// Those with the value of a rule that is found when it is asked for.
    dynamic: BTreeSet<u32>,
}

impl Locals {
    fn set(&mut self, target: u32, definition: Definition) {
        let reached = match definition {
            Definition::Item(source, _) => self.reached.get(&source).copied(),
            // The rest of a reference goes on with what a rule has, or with data.
            Definition::Copy(source) if self.dynamic.contains(&target) => {
                self.reached.get(&source).map(|_| false)
            }
            Definition::Next(_) | Definition::Copy(_) | Definition::Dynamic | Definition::Other => None,
        };
        match reached {
            Some(is_certain) => self.reached.insert(target, is_certain),
            None => self.reached.remove(&target),
        };
        match definition {
            Definition::Next(source) if self.reached.contains_key(&source) => {
                self.keys.insert(target, source)
            }
            _ => self.keys.remove(&target),
        };
        if matches!(definition, Definition::Dynamic) {
            self.dynamic.insert(target);
        } else {
            self.dynamic.remove(&target);
        }
    }
}

impl Rule {
    fn read(code: &Code<'_>, function: u32, body: &[u8]) -> Option<Self> {
        let (places, steps) = steps(body)?;
        let mut locals = Locals::default();
        locals.reached.insert(DATA, true);
        let mut rule = Self::default();
        for (index, (at, step)) in places.into_iter().zip(&steps).enumerate() {
            let before = steps.get(..index).unwrap_or_default();
            rule.lookups.extend(comparison(code, &locals, before, (function, at)));
            match *step {
                Step::Set(DATA) | Step::Tee(DATA) => rule.replaces_data = true,
                Step::Set(target) => locals.set(target, definition(code, before)),
                Step::Tee(target) => {
                    let definition = definition(code, before);
                    rule.lookups.extend(lookup(code, &locals, definition, (function, at, target)));
                    locals.set(target, definition);
                }
                Step::Call(called) => {
                    rule.calls.insert(called);
                    if let (Some(LENGTH), [.., Step::Get(measured)]) = (code.name(called), before)
                        && let Some(is_certain) = locals.reached.get_mut(measured)
                    {
                        *is_certain = false;
                    }
                }
                Step::Dynamic => rule.calls_any = true,
                Step::Get(_) | Step::Constant(_) | Step::Other => {}
            }
        }
        Some(rule)
    }
}

/// The step of a reference that a local is set by in this function at this place, if it is one.
fn lookup(
    code: &Code<'_>,
    locals: &Locals,
    definition: Definition,
    (function, at, target): (u32, usize, u32),
) -> Option<Lookup> {
    let Definition::Item(source, key) = definition else { return None };
    let is_certain = *locals.reached.get(&source)?;
    // Those two are read again after the target was set.
    let keeps = target != source && key != Key::Local(target);
    let target = Some(target);
    (keeps && may_be_by_text(code, key)).then_some(Lookup { function, at, source, key, target, is_certain })
}

/// The step of a reference that ends with these instructions by comparing each key of the data with its own.
fn comparison(
    code: &Code<'_>,
    locals: &Locals,
    before: &[Step],
    (function, at): (u32, usize),
) -> Option<Lookup> {
    let [.., Step::Get(of_data), Step::Get(key), Step::Call(compare)] = before else { return None };
    let source = *locals.keys.get(of_data)?;
    let key = Key::Local(*key);
    let lookup = Lookup { function, at, source, key, target: None, is_certain: false };
    (code.name(*compare) == Some(COMPARE)).then_some(lookup)
}

/// Whether a key may be a number, or a text that names a place.
fn may_be_by_text(code: &Code<'_>, key: Key) -> bool {
    match key {
        Key::Local(_) => true,
        Key::Constant(address) => code.text(address).is_some_and(|text| place_of(text.as_bytes()).is_some()),
    }
}

/// What is on the stack after these instructions.
fn definition(code: &Code<'_>, before: &[Step]) -> Definition {
    match before {
        [.., Step::Get(source), Step::Get(key), Step::Call(get)] if code.is_get(*get) => {
            Definition::Item(*source, Key::Local(*key))
        }
        [.., Step::Get(source), Step::Constant(key), Step::Call(get)] if code.is_get(*get) => {
            Definition::Item(*source, Key::Constant(*key))
        }
        [.., Step::Get(source), Step::Get(_), Step::Call(next)] if code.name(*next) == Some(ITERATOR) => {
            Definition::Next(*source)
        }
        [.., Step::Get(source)] => Definition::Copy(*source),
        [.., Step::Dynamic] => Definition::Dynamic,
        _ => Definition::Other,
    }
}

/// The instructions of a body, and where each begins.
fn steps(body: &[u8]) -> Option<(Vec<usize>, Vec<Step>)> {
    let mut reader = FunctionBody::new(BinaryReader::new(body, 0)).get_operators_reader().ok()?;
    let (mut places, mut steps) = (Vec::new(), Vec::new());
    while !reader.eof() {
        places.push(usize::try_from(reader.original_position()).ok()?);
        steps.push(match reader.read().ok()? {
            Operator::LocalGet { local_index } => Step::Get(local_index),
            Operator::LocalSet { local_index } => Step::Set(local_index),
            Operator::LocalTee { local_index } => Step::Tee(local_index),
            Operator::I32Const { value } => Step::Constant(value),
            Operator::Call { function_index } => Step::Call(function_index),
            Operator::CallIndirect { .. } => Step::Dynamic,
            _ => Step::Other,
        });
    }
    Some((places, steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego;

    fn lookups_of(module: &[u8]) -> Option<Vec<Lookup>> {
        lookups(&Code::read(module)?)
    }

    /// The steps in a rule of these instructions: source, key, target, and whether it is certain.
    fn of_steps(steps: &str) -> Vec<(u32, Key, Option<u32>, bool)> {
        let module = format!(
            r#"(module
                (type $rule (func (param i32 i32) (result i32)))
                (memory 1)
                (table 1 funcref)
                (data (i32.const 16) "\08\00\00\00\05\00\00\00\1c\00\00\00ports")
                (data (i32.const 48) "\08\00\00\00\01\00\00\00\3c\00\00\007")
                (func $opa_value_get (param i32 i32) (result i32) unreachable)
                (func $opa_value_length (param i32) (result i32) unreachable)
                (func $opa_value_iter (param i32 i32) (result i32) unreachable)
                (func $opa_value_compare (param i32 i32) (result i32) unreachable)
                (func $g0.data.wasmgate.violations (param i32 i32) (result i32)
                    (local i32 i32 i32 i32 i32) {steps} i32.const 0))"#
        );
        let found = lookups_of(&wat::parse_str(module).unwrap()).unwrap();
        found.into_iter().map(|one| (one.source, one.key, one.target, one.is_certain)).collect()
    }

    const PORTS: &str = "local.get 1 i32.const 16 call $opa_value_get local.tee 2 drop";
    const BY_LOCAL: &str = "local.get 2 local.get 5 call $opa_value_get local.tee 3 drop";

    #[test]
    fn the_keys_of_a_reference_are_found_and_those_of_a_variable_are_not() {
        assert_eq!(of_steps(&format!("{PORTS} {BY_LOCAL}")), [(2, Key::Local(5), Some(3), true)]);
        let then = "local.get 3 i32.const 48 call $opa_value_get local.tee 4 drop";
        let longer = of_steps(&format!("{PORTS} {BY_LOCAL} {then}"));
        assert_eq!(longer, [(2, Key::Local(5), Some(3), true), (3, Key::Constant(48), Some(4), true)]);
        let of_variable =
            "local.get 2 local.set 6 local.get 6 local.get 5 call $opa_value_get local.tee 3 drop";
        assert!(of_steps(&format!("{PORTS} {of_variable}")).is_empty());
        let of_input = "local.get 0 local.get 5 call $opa_value_get local.tee 3 drop";
        assert!(of_steps(of_input).is_empty());
        let of_scan = "local.get 2 local.get 5 call $opa_value_get local.set 3 \
            local.get 3 local.get 6 call $opa_value_get local.tee 4 drop";
        assert_eq!(of_steps(&format!("{PORTS} {of_scan}")), [(3, Key::Local(6), Some(4), true)]);
    }

    #[test]
    fn what_may_be_no_data_is_not_certain() {
        let not_certain = [(2, Key::Local(5), Some(3), false)];
        let pattern = "local.get 2 call $opa_value_length drop";
        assert_eq!(of_steps(&format!("{PORTS} {pattern} {BY_LOCAL}")), not_certain);
        let with = "local.get 0 local.set 1";
        assert_eq!(of_steps(&format!("{PORTS} {BY_LOCAL} {with}")), not_certain);
        let other = "local.get 0 local.set 2";
        assert!(of_steps(&format!("{PORTS} {other} {BY_LOCAL}")).is_empty());
        assert_eq!(of_steps(&format!("{other} {PORTS} {BY_LOCAL}")), [(2, Key::Local(5), Some(3), true)]);
        let dynamic = "local.get 0 local.get 1 i32.const 0 call_indirect (type $rule) local.tee 6 drop \
            local.get 2 local.set 6 local.get 6 local.get 5 call $opa_value_get local.tee 3 drop";
        assert_eq!(of_steps(&format!("{PORTS} {dynamic}")), [(6, Key::Local(5), Some(3), false)]);
        let compared = "local.get 2 local.get 3 call $opa_value_iter local.tee 3 drop \
            local.get 3 local.get 4 call $opa_value_compare drop";
        assert_eq!(of_steps(&format!("{PORTS} {compared}")), [(2, Key::Local(4), None, false)]);
        assert!(of_steps(compared).is_empty());
        let same = "local.get 2 local.get 3 call $opa_value_get local.tee 3 drop";
        assert!(of_steps(&format!("{PORTS} {same}")).is_empty(), "the key is not there any more");
    }

    #[test]
    fn what_is_called_where_data_is_replaced_is_not_certain() {
        let module = |calls: &str| {
            let module = format!(
                r"(module
                    (type $rule (func (param i32 i32) (result i32)))
                    (table 1 funcref)
                    (func $opa_value_get (param i32 i32) (result i32) unreachable)
                    (func $g0.data.a.called (param i32 i32) (result i32) (local i32)
                        local.get 1 local.get 0 call $opa_value_get local.tee 2)
                    (func $g0.data.a.other (param i32 i32) (result i32) (local i32)
                        local.get 1 local.get 0 call $opa_value_get local.tee 2)
                    (func $g0.data.a.with (param i32 i32) (result i32)
                        local.get 0 local.set 1 local.get 0 local.get 1 {calls}))"
            );
            let found = lookups_of(&wat::parse_str(module).unwrap()).unwrap();
            found.into_iter().map(|lookup| lookup.is_certain).collect::<Vec<_>>()
        };
        assert_eq!(module("call $g0.data.a.called"), [false, true]);
        assert_eq!(module("i32.const 0 call_indirect (type $rule)"), [false, false]);
        assert_eq!(module("drop"), [true, true]);
    }

    #[test]
    fn what_opa_did_not_write_is_no_reference() {
        assert_eq!(lookups_of(b"no module"), None);
        let whole = include_bytes!("../../policies/baseline/policy.wasm");
        assert!(lookups_of(whole).is_some());
        for length in (0..whole.len()).step_by(997) {
            let _ = lookups_of(whole.get(..length).unwrap());
        }
    }

    #[test]
    fn data_without_arrays_and_numbers_for_keys_is_not_looked_up_by_text() {
        for (data, keys) in [
            ("{}", DataKeys::Exact),
            (r#"{"a": {"b": "1"}, "c": []}"#, DataKeys::Exact),
            (r#"{"a": {"b": {"8080": 1}}}"#, DataKeys::Text),
            (r#"{"-1": 1}"#, DataKeys::Text),
            (r#"{"a": {"b": [1]}}"#, DataKeys::Text),
        ] {
            assert_eq!(DataKeys::of(&rego::read_json(data).unwrap()), keys, "{data}");
        }
    }

    #[test]
    fn a_text_names_a_place_as_in_opa() {
        for (text, place) in
            [("0", 0), ("12", 12), ("007", 7), ("+3", 3), ("-0", 0), ("2.", 2), ("2.00", 2), (".0", 0)]
        {
            assert_eq!(place_of(text.as_bytes()), Some(place), "{text}");
        }
        for text in
            ["", "+", "-", "-1", "1.5", "1e0", " 1", "a", "1.0.0", "99999999999999999999", "4294967296"]
        {
            assert_eq!(place_of(text.as_bytes()), None, "{text}");
        }
    }
}
