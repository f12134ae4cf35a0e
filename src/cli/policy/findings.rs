//! What is wrong with rules although they compile, as their plan and a run on an ordinary pod show it.

use super::opa::OpaProblem;
use super::plan::{BuiltinCall, Place, Plan};
use crate::cli::args::PolicySources;
use crate::grant::rule_name_problem;
use crate::policy::{PolicySet, pattern_operands, pattern_problem};

/// Where this is described.
const WITH: &str = "docs/policy-functions.md#built-in-functions-of-rego-in-the-gate";

/// Faults in what rules write and hand to functions; `None` if the plan is too large to look for all of them.
pub fn faults(plan: &Plan, sources: &PolicySources) -> Option<Vec<OpaProblem>> {
    let problem = |place: &Place, code: &str, message: String| {
        let file = sources.rules.join(&place.file).display().to_string();
        OpaProblem { file, row: place.row, column: place.column, code: code.into(), message }
    };
    let mut problems: Vec<_> = plan
        .violations()?
        .iter()
        .filter_map(|written| {
            let message = match written.key.as_str() {
                "rule" => rule_name_problem(&written.text)?,
                "message" if written.text.trim().is_empty() => {
                    "`message` is empty, which denies with another message than yours; say what is wrong and what would mend it".into()
                }
                _ => return None,
            };
            Some(problem(&written.place, "gate_violation", message))
        })
        .collect();
    for call in plan.calls()? {
        problems.extend(
            wrong_patterns(&call).into_iter().map(|message| problem(&call.place, "gate_pattern", message)),
        );
    }
    Some(problems)
}

/// What is wrong with the constant patterns of a call.
fn wrong_patterns(call: &BuiltinCall) -> Vec<String> {
    let patterns = pattern_operands(&call.function).filter_map(|operand| call.operands.get(operand));
    patterns.flatten().filter_map(|text| pattern_problem(&call.function, text)).collect()
}

/// Where rules that read more than what `with` replaces may find something else than in OPA.
pub fn replaced_objects(plan: &Plan, sources: &PolicySources) -> Vec<String> {
    let said = |Place { file, row, column }: Place| {
        let file = sources.rules.join(file);
        format!(
            "{}:{row}:{column}: `with` replaces an object of `data.json`: a rule that reads what is above it finds the new one, and OPA unites \
             the two; replace what the rule reads as a whole ({WITH})",
            file.display()
        )
    };
    plan.replaced_objects().into_iter().map(said).collect()
}

/// Why the rules could not judge an ordinary pod.
pub fn failures(set: &PolicySet, sources: &PolicySources) -> Vec<OpaProblem> {
    let rules = sources.rules.display().to_string();
    let problem = |reason| {
        let message =
            format!("every pod like policies/schema/example.v1alpha1.json would be refused: {reason}");
        OpaProblem::of_file(&rules, "gate_run", message)
    };
    set.unfit().map(problem).collect()
}
