//! Functions that come out otherwise in the gate than in OPA, for some operands.

use std::collections::BTreeSet;

/// Expressions, each with a tab and the reason: the rows of `docs/policy-functions.md`.
const OTHERWISE: &str = include_str!("../../policies/otherwise.txt");
/// Where the rows are.
const PAGE: &str = "docs/policy-functions.md#expressions-that-come-out-otherwise";

/// A sentence for each row about a function that is called.
pub fn differences(is_called: impl Fn(&str) -> bool) -> Vec<String> {
    let rows = OTHERWISE.lines().filter_map(|line| line.split_once('\t'));
    let mut said = BTreeSet::new();
    for (expression, reason) in rows {
        let function = expression.split('(').next().unwrap_or_default();
        if is_called(function) {
            said.insert(format!(
                "`{function}` comes out otherwise than in OPA, as in `{expression}`: {reason} ({PAGE})"
            ));
        }
    }
    said.into_iter().collect()
}
