//! Functions that come out otherwise in the gate than in OPA, for some operands.

use std::collections::{BTreeMap, BTreeSet};

/// Expressions, each with a tab and the reason: the rows of `docs/policy-functions.md`.
const OTHERWISE: &str = include_str!("../../policies/otherwise.txt");
/// Where the rows are.
const PAGE: &str = "docs/policy-functions.md#expressions-that-come-out-otherwise";
/// Most sentences about one bundle.
const MOST: usize = 20;

/// A sentence for each function with such rows and each rule that calls it. `called` has the rules by the functions.
pub fn differences(called: &BTreeMap<&'static str, BTreeSet<String>>) -> Vec<String> {
    let mut said = Vec::new();
    for (function, rules) in called {
        let rows = rows(function);
        if rows.is_empty() {
            continue;
        }
        let sentence = |rule: &String| {
            format!("in `{rule}`: `{function}` comes out otherwise than in OPA, {} ({PAGE})", rows.join("; "))
        };
        let left = MOST.saturating_sub(said.len());
        said.extend(rules.iter().take(left).map(sentence));
    }
    said
}

/// What the rows of a function say, those with the same reason as one.
fn rows(function: &str) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (expression, reason) in OTHERWISE.lines().filter_map(|line| line.split_once('\t')) {
        if expression.split('(').next() != Some(function) {
            continue;
        }
        let shown = format!("`{expression}`");
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, expressions)) => expressions.push(shown),
            None => reasons.push((reason, vec![shown])),
        }
    }
    let row =
        |(reason, expressions): (&str, Vec<String>)| format!("as in {}: {reason}", expressions.join(", "));
    reasons.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_has_one_sentence_for_each_rule_that_calls_it() {
        let rules = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let called = BTreeMap::from([
            ("to_number", rules(&["data.a", "data.b"])),
            ("yaml.marshal", rules(&["data.a"])),
            ("count", rules(&["data.a"])),
        ]);
        let said = differences(&called);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with(
            "in `data.a`: `to_number` comes out otherwise than in OPA, as in `to_number(\"+1\")`, `"
        ));
        assert!(said[1].starts_with("in `data.b`: `to_number` "), "{said:?}");
        assert_eq!(said[2].matches("; as in `yaml.marshal(").count(), 1, "two reasons: {said:?}");
        let many: BTreeSet<_> = (0..MOST).map(|rule| format!("data.r{rule}")).collect();
        let called = BTreeMap::from([("to_number", many.clone()), ("yaml.marshal", many)]);
        assert_eq!(differences(&called).len(), MOST);
    }
}
