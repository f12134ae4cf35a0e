//! Which options the rules of a compiled policy read, so that one that no rule reads can be told: its name may be misspelt.
//!
//! `input.options` is followed like the rest of the input ([`super::reads`]), and besides to the functions of Rego that it is handed to and
//! into `object.get`. The operands of a call stand before it, each as one instruction, those of a function of Rego after the input and the
//! data (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileInternalCall`).

use std::collections::{BTreeMap, BTreeSet};

use super::locations::Code;
use super::reads::{DATA, INPUT, InputReads, MOST_NAMES, MOST_OPERANDS, Step, steps};

/// The key of the input.
const OPTIONS: &str = "options";
/// The function of OPA's library that is `object.get`: a value, a key, and what it is where the key is not there.
pub(super) const OBJECT_GET: &str = "builtin_object_get";

/// Most instructions that are looked at, of all functions: one is looked at again for each of its operands that may be the options. A policy of
/// which there are more may read any option.
const MOST_STEPS: usize = 16 << 20;

/// Where options are when a function begins: in its parameter of this number, if it is handed them.
type Start = (u32, Option<u32>);

/// The names of the options that rules read, which read this of the input; `None` where they also use the options in ways that name none, such as
/// `input.options[name]`. They may read any then.
pub(super) fn options_read(code: &Code<'_>, reads: &InputReads) -> Option<BTreeSet<String>> {
    if reads.is_whole {
        return None;
    }
    let rules = code.bodies.iter().filter(|(index, _)| code.is_rule(**index));
    let rules = rules.map(|(index, body)| Some((*index, steps(body)?)));
    let rules = rules.collect::<Option<BTreeMap<u32, Vec<Step>>>>()?;
    let mut names = BTreeSet::new();
    let mut open: Vec<Start> = rules.keys().map(|function| (*function, None)).collect();
    let mut known: BTreeSet<Start> = open.iter().copied().collect();
    let mut left = MOST_STEPS;
    while let Some((function, parameter)) = open.pop() {
        let steps = rules.get(&function)?;
        left = left.checked_sub(steps.len())?;
        let mut uses = Uses { code, names: &mut names, holders: parameter.into_iter().collect() };
        for next in uses.of(steps)? {
            if known.insert(next) {
                open.push(next);
            }
        }
    }
    Some(names)
}

/// What a function does with the options.
struct Uses<'a> {
    code: &'a Code<'a>,
    /// What was read so far.
    names: &'a mut BTreeSet<String>,
    /// The locals that hold them.
    holders: BTreeSet<u32>,
}

impl Uses<'_> {
    /// The functions that are handed them; `None` where they are used in ways that name none.
    fn of(&mut self, steps: &[Step]) -> Option<Vec<Start>> {
        let (mut inputs, mut handed) = (BTreeSet::from([INPUT]), Vec::new());
        let mut rest = steps;
        while let Some((step, after)) = rest.split_first() {
            let at = steps.len().saturating_sub(rest.len());
            rest = after;
            let Step::Get(local) = step else { continue };
            if inputs.contains(local) {
                match after {
                    [Step::Constant(address), Step::Call(get), Step::Set(found), ..]
                        if self.code.is_get(*get) && self.code.text(*address) == Some(OPTIONS) =>
                    {
                        self.holders.insert(*found);
                    }
                    [Step::Set(other), ..] => {
                        inputs.insert(*other);
                    }
                    // Nothing else is done with it than to find keys and to hand it to rules: it would count as whole.
                    _ => {}
                }
            }
            if self.holders.contains(local) {
                self.add_use((steps, at), after, &mut handed)?;
            }
        }
        Some(handed)
    }

    /// Adds the use of the options by the step at this place; `None` where it names none.
    fn add_use(
        &mut self,
        (steps, at): (&[Step], usize),
        after: &[Step],
        handed: &mut Vec<Start>,
    ) -> Option<()> {
        let name = match after {
            [Step::Constant(key), Step::Call(get), ..] if self.code.is_get(*get) => key,
            [Step::Constant(key), Step::Get(_) | Step::Constant(_), Step::Call(get), ..]
                if self.code.name(*get) == Some(OBJECT_GET) =>
            {
                key
            }
            [Step::Set(other), ..] => {
                self.holders.insert(*other);
                return Some(());
            }
            _ => {
                handed.push(
                    operand_of(self.code, steps, at).map(|(function, operand)| (function, Some(operand)))?,
                );
                return Some(());
            }
        };
        self.names.insert(self.code.text(*name)?.to_string());
        (self.names.len() <= MOST_NAMES).then_some(())
    }
}

/// The function of Rego of which the step at this place is an operand, and which one; `None` where it has more operands than OPA writes.
pub(super) fn operand_of(code: &Code<'_>, steps: &[Step], at: usize) -> Option<(u32, u32)> {
    let is_operand = |step: &&Step| matches!(step, Step::Get(_) | Step::Constant(_));
    let (before, from_here) = steps.split_at_checked(at)?;
    let operand = before.iter().rev().take(MOST_OPERANDS).take_while(is_operand).count();
    let first = before.len().checked_sub(operand)?;
    let mut next = from_here.iter().take(MOST_OPERANDS);
    let Step::Call(function) = next.find(|step| !is_operand(step))? else { return None };
    let is_call = matches!(steps.get(first..)?, [Step::Get(INPUT), Step::Get(DATA), ..]);
    let is_rule = is_call && operand != 1 && code.is_rule(*function);
    is_rule.then_some((*function, u32::try_from(operand).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options_of(module: &[u8]) -> Option<BTreeSet<String>> {
        let code = Code::read(module).unwrap_or_default();
        options_read(&code, &InputReads::of(&code))
    }

    #[test]
    fn the_options_of_the_baseline_are_found_through_the_functions_that_read_them() {
        let read = options_of(include_bytes!("../../policies/baseline/policy.wasm"));
        assert_eq!(read, Some(BTreeSet::from(["strictAmbient", "strictPlatform"].map(String::from))));
    }

    /// What is read where a rule does this with the options, which are in local 2.
    fn of_steps(steps: &str) -> Option<BTreeSet<String>> {
        let module = format!(
            r#"(module
                (import "env" "f" (func $other (param i32 i32) (result i32)))
                (memory 1)
                (data (i32.const 16) "\08\00\00\00\07\00\00\00\1c\00\00\00options")
                (data (i32.const 48) "\08\00\00\00\03\00\00\00\3c\00\00\00max")
                (func $opa_value_get (param i32 i32) (result i32) unreachable)
                (func $builtin_object_get (param i32 i32 i32) (result i32) unreachable)
                (func $g0.data.wasmgate.reader (param i32 i32 i32 i32) (result i32) (local i32)
                    local.get 3 i32.const 48 call $opa_value_get local.set 4 i32.const 0)
                (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32 i32)
                    local.get 0 i32.const 16 call $opa_value_get local.set 2 {steps} i32.const 0))"#
        );
        options_of(&wat::parse_str(module).unwrap())
    }

    #[test]
    fn options_that_are_used_without_a_name_may_all_be_read() {
        let max = Some(BTreeSet::from(["max".to_string()]));
        let hand = |operands: &str| format!("{operands} call $g0.data.wasmgate.reader local.set 3");
        for (steps, read) in [
            ("nop".to_string(), Some(BTreeSet::new())),
            ("local.get 2 i32.const 48 call $opa_value_get local.set 3".into(), max.clone()),
            (
                "local.get 2 local.set 3 local.get 3 i32.const 48 call $opa_value_get local.set 3".into(),
                max.clone(),
            ),
            (
                "local.get 2 i32.const 48 i32.const 16 call $builtin_object_get local.set 3".into(),
                max.clone(),
            ),
            ("local.get 2 i32.const 48 local.get 1 call $builtin_object_get local.set 3".into(), max.clone()),
            (hand("local.get 0 local.get 1 i32.const 48 local.get 2"), max),
            // The reader looks at its other parameter.
            (hand("local.get 0 local.get 1 local.get 2 i32.const 48"), Some(BTreeSet::new())),
            (hand("local.get 1 local.get 0 i32.const 48 local.get 2"), None),
            ("local.get 2 i32.const 48 call $other local.set 3".into(), None),
            ("local.get 2 local.get 3 call $opa_value_get local.set 3".into(), None),
            ("i32.const 48 local.get 2 call $opa_value_get local.set 3".into(), None),
            ("local.get 2 i32.const 4 call $opa_value_get local.set 3".into(), None),
            ("local.get 2 return".into(), None),
            // The input as a whole.
            ("local.get 0 i32.const 48 call $other local.set 3".into(), None),
        ] {
            assert_eq!(of_steps(&steps), read, "{steps}");
        }
    }

    /// Otherwise each operand took as long as there are others.
    #[test]
    fn options_among_more_operands_than_opa_writes_may_all_be_read() {
        let among = |before: usize, after: usize| {
            let [before, after] = [before, after].map(|count| "i32.const 48 ".repeat(count));
            let operands = format!("local.get 0 local.get 1 {before} local.get 2 {after}");
            of_steps(&format!("{operands} call $g0.data.wasmgate.reader local.set 3"))
        };
        assert_eq!(among(2, 2), Some(BTreeSet::new()), "the reader looks at its other parameter");
        assert_eq!([among(MOST_OPERANDS, 0), among(0, MOST_OPERANDS)], [None, None]);
    }

    #[test]
    fn what_opa_did_not_write_may_read_all() {
        for module in [&b""[..], b"\0asm\x01\0\0\0\x0a\xff", b"no module"] {
            assert_eq!(options_of(module), None);
        }
    }
}
