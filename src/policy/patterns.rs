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
    for (index, body) in code.bodies.iter().filter(|(index, _)| code.is_rule(**index)) {
        let Some(steps) = steps(body) else { continue };
        for (at, step) in steps.iter().enumerate() {
            let Step::Call(callee) = step else { continue };
            let before = steps.get(..at).unwrap_or_default();
            let Some(function) = called(code, *callee, before, functions) else { continue };
            let problems = constants(code, function, before).filter_map(|text| {
                Some(format!("in `{}`: {}", rule_name(code, *index), pattern_problem(function, text)?))
            });
            said.extend(problems);
        }
    }
    said.into_iter().take(MOST).collect()
}

/// The built-in functions that rules call, and the rules that call each.
pub(super) fn called_functions(
    code: &Code<'_>,
    functions: &Functions,
) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (index, body) in code.bodies.iter().filter(|(index, _)| code.is_rule(**index)) {
        let Some(steps) = steps(body) else { continue };
        let calls = steps.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Call(callee) => called(code, *callee, steps.get(..at).unwrap_or_default(), functions),
            _ => None,
        });
        for function in calls {
            found.entry(function).or_default().insert(rule_name(code, *index));
        }
    }
    found
}

/// A rule as a message names it.
fn rule_name(code: &Code<'_>, function: u32) -> String {
    let rule = code.name(function).unwrap_or_default().split_once('.').map_or("", |(_, name)| name);
    text::quoted(rule, SHOWN)
}

/// The built-in function that is called: one of the module, or of the host, which is called by a number.
fn called(code: &Code<'_>, callee: u32, before: &[Step], functions: &Functions) -> Option<&'static str> {
    let name = code.name(callee)?;
    if let Some(correction) = CORRECTED.iter().find(|correction| correction.function == name) {
        return Some(correction.builtin.name);
    }
    let operands: usize = name.strip_prefix("opa_builtin")?.parse().ok()?;
    // The number, a context, and the operands.
    let number = before.len().checked_sub(operands.checked_add(2)?)?;
    match before.get(number) {
        Some(Step::Constant(number)) => functions.get(number).map(|function| function.name),
        _ => None,
    }
}

/// The constant texts among the patterns of a call.
fn constants<'a>(
    code: &'a Code<'_>,
    function: &'static str,
    before: &'a [Step],
) -> impl Iterator<Item = &'a str> {
    let patterns = PATTERNS.iter().filter(move |(name, ..)| *name == function);
    patterns.filter_map(move |(_, operand, operands)| {
        let place = before.len().checked_sub(*operands)?.checked_add(*operand)?;
        match before.get(place)? {
            Step::Constant(address) => code.text(*address),
            _ => None,
        }
    })
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
}
