//! `json.patch` (RFC 6902) as OPA applies it: sets are patched too, and a path may be an array of keys.

use super::patched::{Budget, Part, depth, missing, weight};
use super::pointer;
use crate::rego::call::{Call, Operands, Outcome, VALUE_BYTES};
use crate::rego::failure::Failure;
use crate::rego::json::MAX_DEPTH;
use crate::rego::value::Value;

fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Failure::error(reason)
}

pub(super) fn patch(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let operations = operands.array(1)?;
    let document = operands.at(0)?.clone();
    let mut budget = Budget { bytes: weight(&document), call };
    let mut patched = Patched::new(document);
    for operation in operations {
        patched.recount(&mut budget)?;
        apply(&mut budget, &mut patched, operation)?;
    }
    match patched.document {
        Some(document) => Ok(document.value()),
        None => crash(),
    }
}

/// Ends the evaluation where OPA's process ends.
fn crash<T>() -> Result<T, Failure> {
    Err(Failure::Halt("opa ends where a patch replaces or removes the whole document like this".into()))
}

/// A document that is changed.
#[derive(Debug)]
struct Patched {
    /// `None` once it was removed.
    document: Option<Part>,
    /// Whether OPA has maps for the keys of the document itself and for what stands there: it makes them for the first one alone.
    has_keys: bool,
    has_children: bool,
}

impl Patched {
    fn new(document: Value) -> Self {
        let has_keys = matches!(document, Value::Object(_) | Value::Set(_));
        let has_children = has_keys || matches!(document, Value::Array(_));
        Self { document: Some(Part::Whole(document)), has_keys, has_children }
    }

    /// Counts the bytes again where they may soon be too many: what was removed meanwhile takes none.
    fn recount(&self, budget: &mut Budget<'_>) -> Result<(), Failure> {
        if budget.bytes > budget.call.max_bytes / 2 {
            budget.bytes = self.document.as_ref().map_or(0, Part::weight);
            budget.call.take(budget.bytes / VALUE_BYTES)?;
        }
        Ok(())
    }

    /// The document, to look into.
    fn opened(&mut self) -> Result<&mut Part, Failure> {
        let (has_keys, has_children) = (self.has_keys, self.has_children);
        let Some(document) = &mut self.document else { return fail("deleted node encountered") };
        let has_maps = match document {
            Part::Object(_) | Part::Whole(Value::Object(_) | Value::Set(_)) => has_keys && has_children,
            Part::Array(_) | Part::Whole(Value::Array(_)) => has_children,
            Part::Whole(_) => true,
        };
        if has_maps { Ok(document) } else { crash() }
    }

    /// The value at a path, which the document then has twice.
    fn at(&mut self, budget: &mut Budget<'_>, path: &[Value]) -> Result<Value, Failure> {
        let mut found = None;
        let mut copy = |budget: &mut Budget<'_>, part: &mut Part| -> Result<(), Failure> {
            budget.grow(part.weight())?;
            found = Some(part.value());
            Ok(())
        };
        match (path, &mut self.document) {
            ([], Some(document)) => copy(budget, document)?,
            _ => self.opened()?.at(budget, path, &mut copy)?,
        }
        found.ok_or(Failure::Undefined)
    }

    /// Puts a value at a path, no deeper than values are read: each walk through the document goes as deep on the stack.
    fn insert(&mut self, budget: &mut Budget<'_>, path: &[Value], value: Value) -> Result<(), Failure> {
        let Some((last, parents)) = path.split_last() else {
            self.document = Some(Part::Whole(value));
            return Ok(());
        };
        let is_too_deep = path.len().saturating_add(depth(&value)) > MAX_DEPTH;
        let mut value = Some(value);
        self.opened()?.at(budget, parents, &mut |budget, parent| match value.take() {
            Some(_) if is_too_deep => Err(Failure::Halt(format!(
                "a patch puts more than {MAX_DEPTH} values within one another; let it add fewer, or copy none into itself"
            ))),
            Some(value) => parent.insert(budget, last, value),
            None => missing(last),
        })
    }

    fn remove(&mut self, budget: &mut Budget<'_>, path: &[Value]) -> Result<(), Failure> {
        let Some((last, parents)) = path.split_last() else {
            (self.has_keys, self.has_children) = (false, false);
            return match self.document.take() {
                Some(_) => Ok(()),
                None => fail("deleted node encountered"),
            };
        };
        self.opened()?.at(budget, parents, &mut |budget, parent| parent.remove(budget, last))
    }
}

fn path(value: &Value) -> Result<Vec<Value>, Failure> {
    match value {
        Value::String(text) => Ok(pointer::keys(text)),
        Value::Array(keys) => Ok(keys.clone()),
        other => fail(format!(
            "must be one of {{set, array}} containing string paths or array of path segments but got {}",
            other.type_name()
        )),
    }
}

fn apply(budget: &mut Budget<'_>, patched: &mut Patched, operation: &Value) -> Result<(), Failure> {
    if !matches!(operation, Value::Object(_)) {
        return fail("must be an array of JSON-Patch objects, but at least one element is not an object");
    }
    let member = |key: &str| {
        operation.get(key).ok_or_else(|| Failure::Error(format!("missing required attribute '{key}'")))
    };
    let target = path(member("path")?)?;
    let Value::String(name) = member("op")? else { return fail("attribute 'op' must be a string") };
    match name.as_str() {
        "add" => add(budget, patched, &target, member("value")?),
        "remove" => patched.remove(budget, &target),
        "replace" => {
            patched.remove(budget, &target)?;
            add(budget, patched, &target, member("value")?)
        }
        "move" => {
            let from = path(member("from")?)?;
            let moved = patched.at(budget, &from)?;
            patched.remove(budget, &from)?;
            patched.insert(budget, &target, moved)
        }
        "copy" => {
            let from = path(member("from")?)?;
            // Copies of copies double with each operation.
            let copied = patched.at(budget, &from)?;
            patched.insert(budget, &target, copied)
        }
        "test" => {
            let (found, wanted) = (patched.at(budget, &target)?, member("value")?);
            if found == *wanted { Ok(()) } else { fail("value from EditTree != patch value") }
        }
        other => fail(format!("unrecognized op: '{other}'")),
    }
}

fn add(
    budget: &mut Budget<'_>,
    patched: &mut Patched,
    target: &[Value],
    value: &Value,
) -> Result<(), Failure> {
    budget.grow(weight(value))?;
    patched.insert(budget, target, value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rego::json;

    fn patched(call: &mut Call, document: &str, operations: &str) -> Outcome {
        patch(call, Operands(&[json::parse(document).unwrap(), json::parse(operations).unwrap()]))
    }

    #[test]
    fn copies_of_copies_end_before_they_fill_the_memory() {
        let mut call = Call::within(1 << 20);
        let copy = |to: usize| format!(r#"{{"op": "copy", "from": "", "path": "/{to}"}}"#);
        let many = |count: usize| format!("[{}]", (0..count).map(copy).collect::<Vec<_>>().join(","));
        assert!(patched(&mut call, "{}", &many(8)).is_ok());
        assert!(matches!(patched(&mut call, "{}", &many(40)), Err(Failure::Halt(_))));
        // The same in fuel.
        call = Call::within(usize::MAX);
        call.allow(10_000);
        assert!(matches!(patched(&mut call, "{}", &many(40)), Err(Failure::Halt(_))));
        assert!(call.is_exhausted());
    }

    #[test]
    fn a_patch_nests_no_deeper_than_values_are_read() {
        // The document is copied to its deepest place, so that each copy doubles its depth, which is one at first.
        let copy =
            |depth: usize| format!(r#"{{"op": "copy", "from": "", "path": "{}"}}"#, "/a".repeat(depth));
        let times = |count: u32| {
            let all: Vec<_> = (0..count).map(|n| copy(1 << n)).collect();
            patched(&mut Call::within(1 << 30), r#"{"a":0}"#, &format!("[{}]", all.join(",")))
        };
        assert_eq!(depth(&times(8).unwrap()), MAX_DEPTH);
        for count in [9, 18] {
            assert!(
                matches!(times(count), Err(Failure::Halt(reason)) if reason.contains("within one another"))
            );
        }
        // What is not there is no reason to end.
        let nowhere = format!(r#"[{{"op": "add", "path": "{}", "value": 1}}]"#, "/b".repeat(300));
        assert!(matches!(patched(&mut Call::within(1 << 20), "{}", &nowhere), Err(Failure::Error(_))));
    }

    #[test]
    fn what_was_removed_is_not_counted() {
        let mut call = Call::within(4 << 10);
        let text = "x".repeat(1000);
        let both =
            format!(r#"{{"op": "add", "path": "/a", "value": "{text}"}}, {{"op": "remove", "path": "/a"}}"#);
        let many = format!("[{}]", vec![both.as_str(); 20].join(","));
        assert_eq!(patched(&mut call, "{}", &many).unwrap().to_json_text(), "{}");
    }

    /// What `opa eval` (1.22.2) says.
    #[test]
    fn an_item_is_looked_for_in_the_array_as_it_was() {
        let first_removed = r#"{"op": "remove", "path": "/0"}"#;
        for (document, operations, wanted) in [
            ("[1,2,3]", format!(r#"[{first_removed}, {{"op": "test", "path": "/0", "value": 1}}]"#), Some("[1,3]")),
            ("[1,2,3]", format!(r#"[{first_removed}, {{"op": "test", "path": "/0", "value": 2}}]"#), None),
            ("[1,2,3]", format!(r#"[{first_removed}, {{"op": "copy", "from": "/0", "path": "/-"}}]"#), Some("[1,3,1]")),
            ("[1,2,3]", format!(r#"[{first_removed}, {{"op": "replace", "path": "/0", "value": 9}}]"#), Some("[9,3]")),
            (
                r#"[{"a":1},{"a":2}]"#,
                r#"[{"op": "add", "path": "/0", "value": {"a": 0}}, {"op": "replace", "path": "/1/a", "value": 9}]"#.into(),
                Some(r#"[{"a":0},{"a":9},{"a":2}]"#),
            ),
        ] {
            let found = patched(&mut Call::within(1 << 20), document, &operations);
            match wanted {
                Some(wanted) => assert_eq!(found.unwrap().to_json_text(), wanted, "{operations}"),
                None => assert!(matches!(found, Err(Failure::Error(_))), "{operations}"),
            }
        }
    }

    /// Each of these ends the process of `opa eval` (1.22.2), but for those before the last operation.
    #[test]
    fn where_opa_ends_the_evaluation_ends() {
        for (document, operations) in [
            (
                "[1,[2],3]",
                r#"[{"op": "replace", "path": "/0", "value": 9}, {"op": "replace", "path": "/1", "value": [8]},
                    {"op": "add", "path": "/0", "value": 7}]"#,
            ),
            (
                r#"{"a":1}"#,
                r#"[{"op": "replace", "path": "", "value": {"z": 1}}, {"op": "add", "path": "/y", "value": 2}]"#,
            ),
            (
                "[1]",
                r#"[{"op": "add", "path": "", "value": {"a": 1}}, {"op": "add", "path": "/b", "value": 1}]"#,
            ),
            (r#"{"a":1}"#, r#"[{"op": "add", "path": "/b", "value": 1}, {"op": "remove", "path": ""}]"#),
        ] {
            let mut call = Call::within(1 << 20);
            assert!(
                matches!(patched(&mut call, document, operations), Err(Failure::Halt(_))),
                "{operations}"
            );
            let Value::Array(all) = json::parse(operations).unwrap() else { unreachable!() };
            let before = Value::Array(all.split_last().unwrap().1.to_vec()).to_json_text();
            assert!(patched(&mut call, document, &before).is_ok(), "{before}");
        }
    }
}
