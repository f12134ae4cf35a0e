//! What rules do, read from their plan (`opa build --target plan`, `open-policy-agent/opa:v1/ir/ir.go`): which functions they call, and
//! which texts they write into violations and hand to functions. A plan has what the entry point reaches and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use serde::Deserialize;
use serde_json::Value;

use super::opa::{Opa, ignore, words};
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::{Contents, ENTRYPOINT};

/// Most steps of spreading texts from local to local: more than any plan needs.
const MOST_STEPS: usize = 10_000_000;

/// The local that is `data` (`ir.Data`).
const DATA: u64 = 1;

/// A plan.
#[derive(Debug, Default)]
pub struct Plan {
    /// Most steps of spreading texts.
    most_steps: usize,
    texts: Vec<String>,
    files: Vec<String>,
    functions: BTreeMap<String, Function>,
    /// `data.json` of the rules.
    data: Value,
}

#[derive(Debug, Default)]
struct Function {
    parameters: Vec<u64>,
    result: u64,
    statements: Vec<Statement>,
}

#[derive(Debug)]
struct Statement {
    kind: String,
    fields: Value,
}

/// A place in the sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, below the folder of the rules.
    pub file: String,
    /// Line, from 1.
    pub row: u64,
    /// Column, from 1.
    pub column: u64,
}

/// A call of a built-in function.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltinCall {
    /// Its name.
    pub function: String,
    /// Where it is.
    pub place: Place,
    /// For each operand the constant texts that it may be.
    pub operands: Vec<BTreeSet<String>>,
}

/// A text that rules write into a violation.
#[derive(Debug, PartialEq, Eq)]
pub struct WrittenText {
    /// The key.
    pub key: String,
    /// The text.
    pub text: String,
    /// Where it is.
    pub place: Place,
}

/// What may hold a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder<'a> {
    Local(&'a str, u64),
    /// What is in an array, a set or an object.
    Inside(&'a str, u64),
}

/// Plans the rules, without their tests; `None` where the plan has a form that is not known.
pub fn planned(opa: &Opa, sources: &PolicySources) -> Result<Option<Plan>, Error> {
    let archive = opa.file("plan.tar.gz");
    let mut arguments = words(&["build", "--target", "plan", "--entrypoint", ENTRYPOINT, "--capabilities"]);
    arguments.push(opa.file("capabilities.json").into());
    ignore(&mut arguments, &sources.ignore, true);
    arguments.extend([OsString::from("--output"), archive.clone().into()]);
    // So that places are relative to the folder.
    arguments.extend(words(&["--bundle", "."]));
    opa.printed_in(Some(&sources.rules), &arguments)?;
    let bytes = opa.written(&arguments, &archive)?;
    let contents = Contents::from_tar_gz("plan", &bytes)?;
    let data: Option<Value> = contents.file("data.json").and_then(|data| serde_json::from_slice(data).ok());
    let plan = contents.file("plan.json").and_then(Plan::read);
    Ok(plan.map(|plan| Plan { data: data.unwrap_or_default(), ..plan }))
}

/// The parts of a plan that are read.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "static")]
    constants: Constants,
    funcs: Functions,
}

#[derive(Deserialize)]
struct Constants {
    #[serde(default)]
    strings: Vec<Text>,
    #[serde(default)]
    files: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    value: String,
}

#[derive(Deserialize)]
struct Functions {
    #[serde(default)]
    funcs: Vec<PlannedFunction>,
}

#[derive(Deserialize)]
struct PlannedFunction {
    name: String,
    #[serde(default)]
    params: Vec<u64>,
    #[serde(rename = "return")]
    result: u64,
    #[serde(default)]
    blocks: Value,
}

impl Plan {
    /// Reads a plan; `None` where it is none that is known.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let Document { constants, funcs } = serde_json::from_slice(bytes).ok()?;
        let texts = |texts: Vec<Text>| texts.into_iter().map(|text| text.value).collect();
        let function = |planned: PlannedFunction| {
            let statements = statements(planned.blocks);
            (planned.name, Function { parameters: planned.params, result: planned.result, statements })
        };
        Some(Self {
            most_steps: MOST_STEPS,
            texts: texts(constants.strings),
            files: texts(constants.files),
            functions: funcs.funcs.into_iter().map(function).collect(),
            data: Value::Null,
        })
    }

    /// The calls of built-in functions, with what their operands may be; `None` if that takes too many steps.
    pub fn calls(&self) -> Option<Vec<BuiltinCall>> {
        let held = Edges::of(self, true).held(self.most_steps)?;
        let calls = self.each(&["CallStmt"]).filter_map(|(name, Statement { fields, .. })| {
            let function = fields["func"].as_str().filter(|callee| !self.functions.contains_key(*callee))?;
            let operands = fields["args"].as_array().into_iter().flatten();
            let operands = operands.map(|operand| self.texts_of(&held, name, operand)).collect();
            Some(BuiltinCall { function: function.into(), place: self.place(fields), operands })
        });
        Some(calls.collect())
    }

    /// The texts that are written as `rule` and `message` of objects that have both. What comes from inside another value is not followed:
    /// it may be that of another key. `None` if that takes too many steps.
    pub fn violations(&self) -> Option<Vec<WrittenText>> {
        let held = Edges::of(self, false).held(self.most_steps)?;
        let mut objects: BTreeMap<(&str, u64), Vec<WrittenText>> = BTreeMap::new();
        let mut keys: BTreeMap<(&str, u64), BTreeSet<String>> = BTreeMap::new();
        for (name, Statement { fields, .. }) in self.each(&["ObjectInsertStmt", "ObjectInsertOnceStmt"]) {
            let Some(object) = fields["object"].as_u64() else { continue };
            for key in self.texts_of(&held, name, &fields["key"]) {
                keys.entry((name, object)).or_default().insert(key.clone());
                let texts = self.texts_of(&held, name, &fields["value"]).into_iter();
                let written =
                    texts.map(|text| WrittenText { key: key.clone(), text, place: self.place(fields) });
                objects.entry((name, object)).or_default().extend(written);
            }
        }
        objects.retain(|object, _| {
            keys.get(object).is_some_and(|keys| ["rule", "message"].iter().all(|key| keys.contains(*key)))
        });
        Some(objects.into_values().flatten().collect())
    }

    /// Where `with` replaces an object of `data.json` that is not at its root.
    pub fn replaced_objects(&self) -> BTreeSet<Place> {
        let is_object = |path: &[Value]| {
            let key = |index: &Value| self.texts.get(usize::try_from(index.as_u64()?).ok()?);
            let found = path.iter().try_fold(&self.data, |value, index| value.get(key(index)?));
            path.len() > 1 && found.is_some_and(Value::is_object)
        };
        let replaced = self.each(&["WithStmt"]).filter(|(_, Statement { fields, .. })| {
            fields["local"] == DATA && fields["path"].as_array().is_some_and(|path| is_object(path))
        });
        replaced.map(|(_, Statement { fields, .. })| self.place(fields)).collect()
    }

    fn each<'a>(&'a self, kinds: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'a Statement)> {
        let all = self.functions.iter();
        let all =
            all.flat_map(|(name, function)| function.statements.iter().map(move |s| (name.as_str(), s)));
        all.filter(|(_, statement)| kinds.contains(&statement.kind.as_str()))
    }

    fn place(&self, fields: &Value) -> Place {
        let number = |key: &str| fields[key].as_u64().unwrap_or_default();
        let file = usize::try_from(number("file")).ok().and_then(|file| self.files.get(file));
        Place { file: file.cloned().unwrap_or_default(), row: number("row"), column: number("col") }
    }

    /// The constant text of an operand.
    fn constant(&self, operand: &Value) -> Option<usize> {
        let is_text = operand["type"] == "string_index";
        let index = operand["value"].as_u64().filter(|_| is_text)?;
        usize::try_from(index).ok().filter(|index| *index < self.texts.len())
    }

    fn texts_of(&self, held: &Held<'_>, function: &str, operand: &Value) -> BTreeSet<String> {
        let text = |index: &usize| self.texts.get(*index).cloned();
        match (self.constant(operand), local(operand)) {
            (Some(index), _) => text(&index).into_iter().collect(),
            (None, Some(local)) => {
                held.get(&Holder::Local(function, local)).into_iter().flatten().filter_map(text).collect()
            }
            (None, None) => BTreeSet::new(),
        }
    }
}

type Held<'a> = BTreeMap<Holder<'a>, BTreeSet<usize>>;

/// From where to where texts go.
#[derive(Default)]
struct Edges<'a> {
    constants: Vec<(Holder<'a>, usize)>,
    next: BTreeMap<Holder<'a>, Vec<Holder<'a>>>,
    /// Whether what is inside of values is followed.
    is_deep: bool,
}

impl<'a> Edges<'a> {
    /// The texts that each local may hold, by their numbers; `None` if finding them takes more steps.
    fn held(&self, most_steps: usize) -> Option<Held<'a>> {
        let mut held = Held::new();
        let mut open = self.constants.clone();
        let mut steps = 0_usize;
        while let Some((holder, text)) = open.pop() {
            steps = steps.saturating_add(1);
            if steps > most_steps {
                return None;
            }
            if held.entry(holder).or_default().insert(text) {
                open.extend(self.next.get(&holder).into_iter().flatten().map(|next| (*next, text)));
            }
        }
        Some(held)
    }

    fn of(plan: &'a Plan, is_deep: bool) -> Self {
        let mut edges = Self { is_deep, ..Self::default() };
        for (name, function) in &plan.functions {
            for statement in &function.statements {
                edges.add(plan, (name, function), statement);
            }
        }
        edges
    }

    fn add(&mut self, plan: &'a Plan, (name, function): (&'a str, &Function), statement: &Statement) {
        let fields = &statement.fields;
        let at = |key: &str| fields[key].as_u64();
        match statement.kind.as_str() {
            "AssignVarStmt" | "AssignVarOnceStmt" => self.flow(plan, name, &fields["source"], at("target")),
            "ReturnLocalStmt" => {
                if let Some(source) = at("source").filter(|source| *source != function.result) {
                    self.copy((name, source), (name, function.result));
                }
            }
            "ArrayAppendStmt" => self.put(plan, name, &fields["value"], at("array")),
            "SetAddStmt" => self.put(plan, name, &fields["value"], at("set")),
            "ObjectInsertStmt" | "ObjectInsertOnceStmt" => {
                self.put(plan, name, &fields["value"], at("object"));
            }
            "ScanStmt" => self.take(name, at("source"), at("value")),
            "DotStmt" => self.take(name, local(&fields["source"]), at("target")),
            "CallStmt" => self.call(plan, name, fields),
            _ => {}
        }
    }

    fn call(&mut self, plan: &'a Plan, name: &'a str, fields: &Value) {
        let callee = fields["func"].as_str().and_then(|callee| plan.functions.get_key_value(callee));
        let Some((callee, function)) = callee else { return };
        for (operand, parameter) in fields["args"].as_array().into_iter().flatten().zip(&function.parameters)
        {
            match (plan.constant(operand), local(operand)) {
                (Some(text), _) => self.constants.push((Holder::Local(callee, *parameter), text)),
                (None, Some(from)) => self.copy((name, from), (callee, *parameter)),
                (None, None) => {}
            }
        }
        if let Some(result) = fields["result"].as_u64() {
            self.copy((callee, function.result), (name, result));
        }
    }

    /// An operand in a local.
    fn flow(&mut self, plan: &'a Plan, name: &'a str, operand: &Value, target: Option<u64>) {
        let Some(target) = target else { return };
        match (plan.constant(operand), local(operand)) {
            (Some(text), _) => self.constants.push((Holder::Local(name, target), text)),
            (None, Some(from)) => self.copy((name, from), (name, target)),
            (None, None) => {}
        }
    }

    /// The same value, with what is in it.
    fn copy(&mut self, from: (&'a str, u64), to: (&'a str, u64)) {
        self.edge(Holder::Local(from.0, from.1), Holder::Local(to.0, to.1));
        self.edge(Holder::Inside(from.0, from.1), Holder::Inside(to.0, to.1));
    }

    /// An operand into an array, a set or an object.
    fn put(&mut self, plan: &'a Plan, name: &'a str, operand: &Value, into: Option<u64>) {
        let Some(into) = into.filter(|_| self.is_deep) else { return };
        let inside = Holder::Inside(name, into);
        match (plan.constant(operand), local(operand)) {
            (Some(text), _) => self.constants.push((inside, text)),
            (None, Some(from)) => {
                self.edge(Holder::Local(name, from), inside);
                self.edge(Holder::Inside(name, from), inside);
            }
            (None, None) => {}
        }
    }

    /// Something out of one.
    fn take(&mut self, name: &'a str, from: Option<u64>, to: Option<u64>) {
        let (Some(from), Some(to)) = (from.filter(|_| self.is_deep), to) else { return };
        self.edge(Holder::Inside(name, from), Holder::Local(name, to));
        self.edge(Holder::Inside(name, from), Holder::Inside(name, to));
    }

    fn edge(&mut self, from: Holder<'a>, to: Holder<'a>) {
        self.next.entry(from).or_default().push(to);
    }
}

fn local(operand: &Value) -> Option<u64> {
    operand["value"].as_u64().filter(|_| operand["type"] == "local")
}

/// The statements of blocks, and those of the blocks in them.
fn statements(blocks: Value) -> Vec<Statement> {
    let (mut found, mut open) = (Vec::new(), vec![blocks]);
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(mut members) => {
                if let (Some(Value::String(kind)), Some(Value::Object(mut fields))) =
                    (members.get("type").cloned(), members.remove("stmt"))
                {
                    open.extend(["blocks", "block"].iter().filter_map(|key| fields.remove(*key)));
                    found.push(Statement { kind, fields: Value::Object(fields) });
                } else if let Some(statements) = members.remove("stmts") {
                    open.push(statements);
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan of a rule that calls `f`, in which a text is written at `rule` and another one handed to a built-in function.
    const PLAN: &str = r#"{"static": {"strings": [{"value": "rule"}, {"value": "a"}, {"value": "["}, {"value": "message"}], "files": [{"value": "a.rego"}]},
        "funcs": {"funcs": [
            {"name": "g0.data.a.violations", "params": [0, 1], "return": 2, "blocks": [{"stmts": [
                {"type": "CallStmt", "stmt": {"func": "g0.data.a.f", "result": 4, "args": [
                    {"type": "local", "value": 0}, {"type": "local", "value": 1}, {"type": "string_index", "value": 1}]}},
                {"type": "MakeArrayStmt", "stmt": {"target": 5}},
                {"type": "ArrayAppendStmt", "stmt": {"value": {"type": "string_index", "value": 2}, "array": 5}},
                {"type": "ScanStmt", "stmt": {"source": 5, "value": 6, "block": {"stmts": [
                    {"type": "CallStmt", "stmt": {"func": "regex.match", "row": 3, "col": 7, "file": 0,
                        "args": [{"type": "local", "value": 6}, {"type": "local", "value": 0}]}}]}}}]}]},
            {"name": "g0.data.a.f", "params": [0, 1, 3], "return": 2, "blocks": [{"stmts": [
                {"type": "MakeObjectStmt", "stmt": {"target": 4}},
                {"type": "ObjectInsertStmt", "stmt": {"key": {"type": "string_index", "value": 3},
                    "value": {"type": "local", "value": 0}, "object": 4, "row": 9, "col": 1, "file": 0}},
                {"type": "ObjectInsertStmt", "stmt": {"key": {"type": "string_index", "value": 0},
                    "value": {"type": "local", "value": 3}, "object": 4, "row": 9, "col": 1, "file": 0}},
                {"type": "ReturnLocalStmt", "stmt": {"source": 4}}]}]}]}}"#;

    #[test]
    fn texts_are_followed_through_calls_and_out_of_arrays() {
        let plan = Plan::read(PLAN.as_bytes()).unwrap();
        let place = |row, column| Place { file: "a.rego".into(), row, column };
        let written = WrittenText { key: "rule".into(), text: "a".into(), place: place(9, 1) };
        assert_eq!(plan.violations(), Some(vec![written]));
        let call = BuiltinCall {
            function: "regex.match".into(),
            place: place(3, 7),
            operands: vec![BTreeSet::from(["[".into()]), BTreeSet::new()],
        };
        assert_eq!(plan.calls(), Some(vec![call]));
    }

    /// What was found so far would pass for all that is wrong.
    #[test]
    fn a_plan_that_takes_too_many_steps_has_no_result_that_passes_for_a_whole_one() {
        let plan = Plan { most_steps: 0, ..Plan::read(PLAN.as_bytes()).unwrap() };
        assert_eq!((plan.violations(), plan.calls()), (None, None));
    }

    #[test]
    fn what_is_no_plan_has_nothing() {
        assert!(Plan::read(b"{}").is_none() && Plan::read(b"").is_none());
    }

    #[test]
    fn an_object_of_the_data_that_is_replaced_is_found_where_it_is_in_another() {
        let plan = r#"{"static": {"strings": [{"value": "cfg"}, {"value": "deep"}], "files": [{"value": "a.rego"}]},
            "funcs": {"funcs": [{"name": "g0.data.a.violations", "params": [0, 1], "return": 2, "blocks": [{"stmts": [
                {"type": "WithStmt", "stmt": {"local": 1, "path": [0, 1], "block": {"stmts": []}, "row": 3, "col": 2}},
                {"type": "WithStmt", "stmt": {"local": 1, "path": [0], "block": {"stmts": []}, "row": 4}},
                {"type": "WithStmt", "stmt": {"local": 0, "path": [0, 1], "block": {"stmts": []}, "row": 5}},
                {"type": "WithStmt", "stmt": {"local": 1, "path": null, "block": {"stmts": []}, "row": 6}}]}]}]}}"#;
        let found = |data: &str| {
            let data = serde_json::from_str(data).unwrap();
            Plan { data, ..Plan::read(plan.as_bytes()).unwrap() }.replaced_objects()
        };
        let place = Place { file: "a.rego".into(), row: 3, column: 2 };
        assert_eq!(found(r#"{"cfg": {"deep": {}}}"#), BTreeSet::from([place]));
        for data in [r#"{"cfg": {"deep": [1]}}"#, r#"{"cfg": {}}"#, "{}"] {
            assert!(found(data).is_empty(), "{data}");
        }
    }
}
