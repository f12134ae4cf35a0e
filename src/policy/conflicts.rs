//! Data of a bundle at the place of a rule (`open-policy-agent/opa:v1/ast/conflicts.go`). `opa build` writes such a bundle without a
//! word, and `opa check`, `opa eval` and a server of OPA refuse its sources. What reads the place would find the rule in one way of reading and
//! the value in another.

use super::Error;
use super::locations::Code;
use super::roots::{rule_at, shown};
use crate::rego::Value;

/// Refuses a bundle of which a value is where a rule is that was compiled into the module. A rule that nothing uses is not in there.
pub(super) fn check(bundle: &str, module: &[u8], data: &Value) -> Result<(), Error> {
    if matches!(data, Value::Object(members) if members.is_empty()) {
        return Ok(());
    }
    let Some(code) = Code::read(module) else { return Ok(()) };
    let rules = code.bodies.keys().filter(|function| code.is_rule(**function));
    for rule in rules.filter_map(|function| rule_at(code.name(*function)?)) {
        if let Some(value) = value_over(&rule, data) {
            return Err(Error::CoverRule { bundle: bundle.into(), value: shown(value), rule: shown(&rule) });
        }
    }
    Ok(())
}

/// The path of the value that is where the rule is, or above it without being an object; `None` where there is none.
fn value_over<'a>(rule: &'a [String], data: &Value) -> Option<&'a [String]> {
    let mut value = data;
    for (depth, part) in rule.iter().enumerate() {
        if !matches!(value, Value::Object(_)) {
            return rule.get(..depth);
        }
        value = value.get(part)?;
    }
    // All of `data` is over no rule.
    (!rule.is_empty()).then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego;

    #[test]
    fn a_value_at_the_path_of_a_rule_or_above_it_is_over_the_rule() {
        let rule: Vec<String> = ["wasmgate", "a b", "violations"].map(String::from).into();
        for (data, over) in [
            ("{}", None),
            (r#"{"wasmgate": {}}"#, None),
            (r#"{"wasmgate": {"a b": {"limits": 1}}}"#, None),
            (r#"{"other": {"a b": {"violations": 1}}}"#, None),
            (r#"{"wasmgate": {"a b": {"violations": null}}}"#, Some(3)),
            (r#"{"wasmgate": {"a b": {"violations": {}}}}"#, Some(3)),
            (r#"{"wasmgate": {"a b": [{"violations": 1}]}}"#, Some(2)),
            (r#"{"wasmgate": false}"#, Some(1)),
        ] {
            let found = value_over(&rule, &rego::read_json(data).unwrap());
            assert_eq!(found.map(<[String]>::len), over, "{data}");
        }
        assert_eq!(value_over(&[], &rego::read_json(r#"{"a": 1}"#).unwrap()), None);
    }

    #[test]
    fn both_paths_are_named_with_the_cure() {
        let baseline = include_bytes!("../../policies/baseline/policy.wasm");
        let checked = |data: &str| check("b", baseline, &rego::read_json(data).unwrap());
        assert!(checked("{}").is_ok() && checked(r#"{"wasmgate": {"limits": 1}}"#).is_ok());
        let said = checked(r#"{"wasmgate": {"violations": []}}"#).unwrap_err().to_string();
        assert!(
            said.contains("has a value at `wasmgate/violations`")
                && said.contains("the rule `wasmgate/violations`")
                && said.contains("remove one of the two"),
            "{said}"
        );
        // What is no module of OPA is refused for that.
        assert!(check("b", b"\0asm", &rego::read_json(r#"{"a": 1}"#).unwrap()).is_ok());
    }
}
