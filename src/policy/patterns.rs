//! Constant patterns that rules hand to functions. One that is no pattern undefines the call, so that its rule finds nothing, and one that
//! is too large ends every evaluation that comes to it, so both are looked for before there is an evaluation.

use std::collections::{BTreeMap, BTreeSet};

use super::locations::Code;
use super::reads::{Step, steps};
use super::store::Functions;
use crate::rego::{Builtin, CORRECTED, Call, Failure, Value, builtin};
use crate::text;

/// Functions that take a pattern, which of their operands it is, and how many these are.
const PATTERNS: [(&str, usize, usize); 9] = [
    ("glob.match", 0, 3),
    ("regex.find_all_string_submatch_n", 0, 3),
    ("regex.find_n", 0, 3),
    ("regex.globs_match", 0, 2),
    ("regex.globs_match", 1, 2),
    ("regex.is_valid", 0, 1),
    ("regex.match", 0, 2),
    ("regex.replace", 1, 3),
    ("regex.split", 0, 2),
];
/// Memory for a pattern, as much as an evaluation has.
const BYTES: usize = 64 << 20;
/// Most characters of a message.
const SHOWN: usize = 300;
/// Most sentences about one bundle.
const MOST: usize = 20;
/// Most different patterns of one bundle that are looked at, and most bytes of each.
const MOST_PATTERNS: usize = 1_000;
const LONGEST_PATTERN: usize = 16 << 10;
/// Most operands of a call that are looked at: a function of the host has four, its number and a context.
const MOST_OPERANDS: usize = 8;

/// The operands of a function that are patterns.
pub fn pattern_operands(function: &str) -> impl Iterator<Item = usize> {
    PATTERNS.iter().filter(move |(name, ..)| *name == function).map(|(_, operand, _)| *operand)
}

/// What is wrong with a text as the pattern of a function, and what to do.
pub fn pattern_problem(function: &str, pattern: &str) -> Option<String> {
    let asked = match function {
        "glob.match" | "regex.globs_match" => function,
        _ => "regex.match",
    };
    let mut operands = vec![Value::String(pattern.into()), Value::String(String::new())];
    if asked == "glob.match" {
        operands.insert(1, Value::Array(Vec::new()));
    }
    let said = |reason: &str| text::excerpt(reason, SHOWN);
    match known(asked)?.call(&mut Call::within(BYTES), &operands) {
        Err(Failure::Halt(reason)) => {
            Some(format!("{}; the evaluation ends here, which denies: write another pattern", said(&reason)))
        }
        // That is what the function is asked about.
        Err(Failure::Error(_)) if function == "regex.is_valid" => None,
        Err(Failure::Error(reason)) => Some(format!(
            "{}; the call is undefined and the rule finds nothing: mend the pattern",
            said(&reason)
        )),
        _ => None,
    }
}

fn known(name: &str) -> Option<Builtin> {
    let corrected = CORRECTED.iter().map(|correction| correction.builtin).find(|known| known.name == name);
    builtin(name).copied().or(corrected)
}

/// Sentences about the constant patterns of a compiled policy. OPA's compiler puts the operands of a call before it, a constant text as
/// its address (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileBlock`, `CallStmt`).
pub(super) fn warnings(code: &Code<'_>, functions: &Functions) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut known: BTreeMap<(&str, &str), Option<String>> = BTreeMap::new();
    for (index, body) in code.bodies.iter().filter(|(index, _)| code.is_rule(**index)) {
        let (Some(steps), rule) = (steps(body), rule_name(code, *index)) else { continue };
        for (function, pattern) in constant_patterns(code, &steps, functions) {
            if said.len() >= MOST {
                return said.into_iter().collect();
            }
            if known.len() >= MOST_PATTERNS && !known.contains_key(&(function, pattern)) {
                said.insert(format!("of its patterns, the first {MOST_PATTERNS} were looked at"));
                return said.into_iter().collect();
            }
            let asked = || pattern_problem(function, pattern);
            if let Some(problem) = known.entry((function, pattern)).or_insert_with(asked) {
                said.insert(format!("in `{rule}`: {problem}"));
            }
        }
    }
    said.into_iter().collect()
}

/// The built-in functions that rules call, and for each some of the rules that call it.
pub(super) fn called_functions(
    code: &Code<'_>,
    functions: &Functions,
) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (index, body) in code.bodies.iter().filter(|(index, _)| code.is_rule(**index)) {
        let (Some(steps), rule) = (steps(body), rule_name(code, *index)) else { continue };
        let called: BTreeSet<_> = calls(code, &steps, functions).map(|(function, _)| function).collect();
        for function in called {
            let rules = found.entry(function).or_default();
            // There may be as many rules as functions, and no more of them are said.
            if rules.len() < MOST {
                rules.insert(rule.clone());
            }
        }
    }
    found
}

/// A rule as a message names it.
fn rule_name(code: &Code<'_>, function: u32) -> String {
    let rule = code.name(function).unwrap_or_default().split_once('.').map_or("", |(_, name)| name);
    text::quoted(rule, SHOWN)
}

/// The calls of built-in functions, each with its last operands.
fn calls(
    code: &Code<'_>,
    steps: &[Step],
    functions: &Functions,
) -> impl Iterator<Item = (&'static str, Vec<Step>)> {
    steps.iter().enumerate().filter_map(move |(at, step)| {
        let Step::Call(callee) = step else { return None };
        let operands = last_operands(steps.get(..at)?);
        Some((called(code, *callee, &operands, functions)?, operands))
    })
}

/// The values that are on the stack after these instructions, the last one first, each as the instruction that brought it. It ends before
/// one that is brought by another call, and where there are more than a call of the host has.
fn last_operands(before: &[Step]) -> Vec<Step> {
    let (mut operands, mut taken, mut rest) = (Vec::new(), 0_usize, before);
    while operands.len() < MOST_OPERANDS {
        rest = match rest {
            // It was kept in a local, and is on the stack as well: an optimiser does so with what it needs again.
            [rest @ .., Step::Set(kept), Step::Get(again)] if kept == again => rest,
            [rest @ .., Step::Set(_)] => {
                taken = taken.saturating_add(1);
                rest
            }
            [rest @ .., Step::Get(_) | Step::Constant(_)] if taken > 0 => {
                taken = taken.saturating_sub(1);
                rest
            }
            [rest @ .., value @ (Step::Get(_) | Step::Constant(_))] => {
                operands.push(*value);
                rest
            }
            _ => break,
        };
    }
    operands
}

/// The built-in function that is called with these operands, the last one first: one of the module, or of the host, which is called by a number.
fn called(code: &Code<'_>, callee: u32, operands: &[Step], functions: &Functions) -> Option<&'static str> {
    let name = code.name(callee)?;
    if let Some(correction) = CORRECTED.iter().find(|correction| correction.function == name) {
        return Some(correction.builtin.name);
    }
    // The name may be as long as a module allows.
    let count: usize = name.strip_prefix("opa_builtin").filter(|count| count.len() == 1)?.parse().ok()?;
    // The number, a context, and the operands.
    match operands.get(count.checked_add(1)?) {
        Some(Step::Constant(number)) => functions.get(number).map(|function| function.name),
        _ => None,
    }
}

/// The constant texts that are patterns of calls, each with the function that is called.
fn constant_patterns<'m>(
    code: &Code<'m>,
    steps: &[Step],
    functions: &Functions,
) -> Vec<(&'static str, &'m str)> {
    let mut found = Vec::new();
    for (function, operands) in calls(code, steps, functions) {
        let patterns = PATTERNS.iter().filter(|(name, ..)| *name == function);
        found.extend(patterns.filter_map(|(_, operand, count)| {
            let from_last = count.checked_sub(*operand)?.checked_sub(1)?;
            let Step::Constant(address) = operands.get(from_last)? else { return None };
            Some((function, code.text_within(*address, LONGEST_PATTERN)?))
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_end_or_undefine_the_call_are_wrong() {
        let large = r"\pL{1000}";
        for (function, pattern, part) in [
            ("regex.match", large, "the evaluation ends here"),
            ("regex.is_valid", large, "the evaluation ends here"),
            ("regex.replace", large, "the evaluation ends here"),
            ("regex.match", "a(", "the call is undefined"),
            ("glob.match", "[", "the call is undefined"),
        ] {
            let said = pattern_problem(function, pattern).unwrap_or_default();
            assert!(said.contains(part), "{function} {pattern}: {said}");
        }
        for (function, pattern) in
            [("regex.match", "^a+$"), ("regex.is_valid", "a("), ("glob.match", "*.example.com")]
        {
            assert_eq!(pattern_problem(function, pattern), None, "{function} {pattern}");
        }
        assert!(PATTERNS.iter().all(|(name, operand, operands)| known(name).is_some() && operand < operands));
    }

    /// Sentences about a rule that does this, in a module whose texts at 16 and 48 are no pattern and one. Function 7 of the host is `regex.match`.
    fn said_of(steps: &str) -> (Vec<String>, Vec<&'static str>) {
        let module = format!(
            r#"(module
                (import "env" "opa_builtin2" (func $opa_builtin2 (param i32 i32 i32 i32) (result i32)))
                (memory 1)
                (data (i32.const 16) "\08\00\00\00\02\00\00\00\1c\00\00\00a(")
                (data (i32.const 48) "\08\00\00\00\02\00\00\00\3c\00\00\00a+")
                (func $f (param i32) (result i32) unreachable)
                (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32 i32) {steps}))"#
        );
        let module = wat::parse_str(module).unwrap();
        let code = Code::read(&module).unwrap();
        let functions = Functions::from([(7, known("regex.match").unwrap())]);
        (warnings(&code, &functions), called_functions(&code, &functions).into_keys().collect())
    }

    /// An optimiser keeps a value and leaves it on the stack (`local.tee`), which is no operand more.
    #[test]
    fn the_operands_of_a_call_are_found_also_where_they_are_kept_in_locals() {
        for operands in [
            "i32.const 7 i32.const 0 i32.const 16 local.get 2",
            "i32.const 7 i32.const 0 i32.const 16 local.get 2 local.tee 3",
            "i32.const 7 i32.const 0 i32.const 16 local.tee 2 local.get 3",
            "i32.const 7 i32.const 0 i32.const 16 local.tee 2 local.get 3 local.tee 3",
            "i32.const 7 local.tee 3 i32.const 0 local.tee 2 i32.const 16 i32.const 48",
            "i32.const 7 i32.const 0 i32.const 16 i32.const 48 local.set 2 local.get 2",
            "i32.const 7 i32.const 0 i32.const 16 local.get 3 i32.const 48 local.set 2",
        ] {
            let (said, called) = said_of(&format!("{operands} call $opa_builtin2"));
            assert_eq!((said.len(), &*called), (1, &["regex.match"][..]), "{operands}: {said:?}");
        }
        for operands in [
            "i32.const 7 i32.const 0 i32.const 48 i32.const 16 local.tee 2",
            "i32.const 7 i32.const 0 i32.const 48 local.tee 2 i32.const 16",
        ] {
            let (said, called) = said_of(&format!("{operands} call $opa_builtin2"));
            assert_eq!((said.len(), called.len()), (0, 1), "{operands}: the text is no pattern: {said:?}");
        }
        for operands in [
            "i32.const 8 i32.const 7 local.tee 2 i32.const 16 local.get 2",
            "i32.const 7 i32.const 0 i32.const 16 call $f local.get 2",
            "i32.const 0 i32.const 16 local.get 2",
        ] {
            let (said, called) = said_of(&format!("{operands} call $opa_builtin2"));
            assert_eq!((said.len(), called.len()), (0, 0), "{operands}: {said:?}");
        }
    }

    /// Each may take long to look at.
    #[test]
    fn a_bounded_number_of_patterns_is_looked_at() {
        let text = |number: usize| {
            let [at, own] = [1_024 + 16 * number, 1_036 + 16 * number];
            let own = u32::try_from(own).unwrap().to_le_bytes().map(|byte| format!(r"\{byte:02x}")).concat();
            format!(r#"(data (i32.const {at}) "\08\00\00\00\04\00\00\00{own}{number:04}")"#)
        };
        let call = |number: usize| {
            format!(
                "i32.const 7 i32.const 0 i32.const {} local.get 2 call $opa_builtin2 drop ",
                1_024 + 16 * number
            )
        };
        let said = |count: usize| {
            let texts = (0..count).map(text).collect::<Vec<_>>().concat();
            let calls = (0..count).map(call).collect::<Vec<_>>().concat().repeat(2);
            let module = format!(
                r#"(module
                    (import "env" "opa_builtin2" (func $opa_builtin2 (param i32 i32 i32 i32) (result i32)))
                    (memory 1) {texts}
                    (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32) {calls} i32.const 0))"#
            );
            let module = wat::parse_str(module).unwrap();
            let functions = Functions::from([(7, known("regex.match").unwrap())]);
            warnings(&Code::read(&module).unwrap(), &functions)
        };
        assert_eq!(said(MOST_PATTERNS), [""; 0]);
        assert_eq!(said(MOST_PATTERNS + 1), ["of its patterns, the first 1000 were looked at"]);
    }
}
