//! What the rules of a compiled policy read of the input, so that nothing is left out that they read.
//!
//! OPA's compiler hands the input to each function of a rule as its first operand, and compiles `input.key` to that operand and the
//! address of the key, side by side, then a call and the local that takes what was found
//! (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileBlock`, `DotStmt`).

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{FunctionBody, Operator};

use super::locations::Code;

/// The operand that is the input.
pub(super) const INPUT: u32 = 0;
/// The one after it, the data.
pub(super) const DATA: u32 = 1;

/// Most keys that a local is taken to hold a value of, and most operands of a call. What OPA writes has a few. A module is foreign, and what is
/// beyond may read all: so each instruction takes a bounded time to look at.
const MOST_KEYS: usize = 64;
pub(super) const MOST_OPERANDS: usize = 128;
/// Most keys and paths that rules name. They may be longer than the code that names them, and with more of them rules may read all.
pub(super) const MOST_NAMES: usize = 10_000;

/// What rules read of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InputReads {
    /// The keys that they name.
    pub keys: BTreeSet<String>,
    /// The keys that they name of what is at a key, as `request.uid`.
    pub paths: BTreeSet<String>,
    /// Further ones, of which it is not certain: the local that holds the value holds something else too.
    pub possible_paths: BTreeSet<String>,
    /// The keys whose value they also use in ways that name no key of it. They may read any of these then.
    pub whole_keys: BTreeSet<String>,
    /// Whether they also use it in ways that name no key, such as `input[key]` and `walk(input)`. They may read any key then.
    pub is_whole: bool,
}

impl InputReads {
    /// Whether rules may read what is at this key, or at this one below another, as `request.uid`.
    pub fn may_read(&self, path: &str) -> bool {
        let Self { keys, paths, possible_paths, whole_keys, is_whole } = self;
        let is_below_a_whole = || path.split_once('.').is_some_and(|(key, _)| whole_keys.contains(key));
        let is_named = || [keys, paths, possible_paths].into_iter().any(|named| named.contains(path));
        *is_whole || is_named() || is_below_a_whole()
    }

    /// What a module reads. One that is not as OPA writes it may read all.
    pub fn of(code: &Code<'_>) -> Self {
        let whole = Self { is_whole: true, ..Self::default() };
        Self::of_rules(code).unwrap_or(whole)
    }

    /// `None` for a module of which not all rules are known: another program has renamed functions, or put one into another.
    fn of_rules(code: &Code<'_>) -> Option<Self> {
        let mut reads = Self::default();
        for (index, body) in &code.bodies {
            if code.is_rule(*index) {
                reads.add(code, &steps(body)?);
            } else if code.is_evaluation(*index) {
                let gets = |step: &Step| matches!(step, Step::Call(get) if code.is_get(*get));
                if steps(body)?.iter().any(gets) {
                    return None;
                }
            }
        }
        code.has_entry().then_some(reads)
    }

    fn add(&mut self, code: &Code<'_>, steps: &[Step]) {
        let mut locals = Locals::default();
        let mut rest = steps;
        while let Some((step, after)) = rest.split_first() {
            if self.names() > MOST_NAMES {
                self.is_whole = true;
                return;
            }
            rest = after;
            if let Step::Set(local) = step {
                locals.sets.entry(*local).or_default().0 += 1;
            }
            let Step::Get(local) = step else { continue };
            if locals.inputs.contains(local) {
                self.add_use_of_input(code, after, &mut locals);
            }
            let held = locals.values.get(local);
            if held.is_some_and(|keys| keys.len() > MOST_KEYS) {
                self.is_whole = true;
                continue;
            }
            let keys = held.cloned().unwrap_or_default();
            let is_certain = keys.len() == 1 && locals.holds_nothing_else(*local);
            for key in &keys {
                self.add_use_of_value(code, (key, is_certain), after, &mut locals);
            }
        }
    }

    fn names(&self) -> usize {
        let Self { keys, paths, possible_paths, whole_keys, .. } = self;
        [keys, paths, possible_paths, whole_keys]
            .into_iter()
            .fold(0_usize, |all, some| all.saturating_add(some.len()))
    }

    fn add_use_of_input(&mut self, code: &Code<'_>, after: &[Step], locals: &mut Locals) {
        match after {
            [Step::Constant(address), then @ ..] => match code.text(*address) {
                Some(key) => {
                    self.keys.extend([key.to_string()]);
                    match then {
                        [Step::Call(get), Step::Set(found), ..] if code.is_get(*get) => {
                            locals.hold(*found, key);
                        }
                        // Of another function it is not known what it does with the input.
                        _ => self.is_whole = true,
                    }
                }
                None => self.is_whole = true,
            },
            [Step::Get(DATA), ..] if calls_a_rule(code, after) => {}
            [Step::Set(other), ..] => locals.inputs.extend([*other]),
            _ => self.is_whole = true,
        }
    }

    fn add_use_of_value(
        &mut self,
        code: &Code<'_>,
        (key, is_certain): (&str, bool),
        after: &[Step],
        locals: &mut Locals,
    ) {
        match after {
            [Step::Constant(address), Step::Call(get), ..] if code.is_get(*get) => {
                match code.text(*address) {
                    Some(below) => {
                        let paths = if is_certain { &mut self.paths } else { &mut self.possible_paths };
                        paths.extend([format!("{key}.{below}")]);
                    }
                    None => self.whole_keys.extend([key.to_string()]),
                }
            }
            [Step::Set(other), ..] => locals.hold(*other, key),
            _ => self.whole_keys.extend([key.to_string()]),
        }
    }
}

/// What the locals of a function may hold. None of them is ever taken to hold something else later.
struct Locals {
    /// Those with the input.
    inputs: BTreeSet<u32>,
    /// Those with a value of it, by its key.
    values: BTreeMap<u32, BTreeSet<String>>,
    /// How often each was set so far, and how often of that to a value of the input.
    sets: BTreeMap<u32, (usize, usize)>,
}

impl Default for Locals {
    fn default() -> Self {
        Self { inputs: BTreeSet::from([INPUT]), values: BTreeMap::new(), sets: BTreeMap::new() }
    }
}

impl Locals {
    fn hold(&mut self, local: u32, key: &str) {
        self.values.entry(local).or_default().insert(key.to_string());
        self.sets.entry(local).or_default().1 += 1;
    }

    fn holds_nothing_else(&self, local: u32) -> bool {
        self.sets.get(&local).is_none_or(|(all, known)| all == known)
    }
}

/// Whether what comes next is a call of a rule or a function of Rego, which is looked at by itself.
fn calls_a_rule(code: &Code<'_>, steps: &[Step]) -> bool {
    let mut next = steps.iter().take(MOST_OPERANDS);
    let call = next.find(|step| !matches!(step, Step::Get(_) | Step::Constant(_)));
    matches!(call, Some(Step::Call(function)) if code.is_rule(*function))
}

/// An instruction, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Get(u32),
    Set(u32),
    Constant(i32),
    Call(u32),
    /// The beginning of a block.
    Open,
    /// The beginning of the other branch of one.
    Else,
    /// The end of one, or of the function.
    Close,
    Other,
}

/// The instructions of a function; `None` where they are not valid.
pub(super) fn steps(body: &FunctionBody<'_>) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut operators = body.get_operators_reader().ok()?.into_iter().peekable();
    while let Some(operator) = operators.next() {
        let operator = operator.ok()?;
        steps.push(step(&operator));
        // `local.tee` leaves the value on the stack too. OPA only asks then whether there is one; an optimiser (`wasm-opt`, which
        // `EXPERIMENTAL_WASM_OPT` has OPA call) may use it.
        let is_asked = matches!(
            operators.peek(),
            Some(Ok(Operator::I32Eqz | Operator::BrIf { .. } | Operator::If { .. }))
        );
        if let Operator::LocalTee { local_index } = operator
            && !is_asked
        {
            steps.push(Step::Get(local_index));
        }
    }
    Some(steps)
}

const fn step(operator: &Operator<'_>) -> Step {
    match operator {
        Operator::LocalGet { local_index } => Step::Get(*local_index),
        Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => Step::Set(*local_index),
        Operator::I32Const { value } => Step::Constant(*value),
        Operator::Call { function_index } => Step::Call(*function_index),
        Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => Step::Open,
        Operator::Else => Step::Else,
        Operator::End => Step::Close,
        _ => Step::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_of(module: &[u8]) -> InputReads {
        InputReads::of(&Code::read(module).unwrap_or_default())
    }

    #[test]
    fn the_baseline_names_what_it_reads() {
        let reads = reads_of(include_bytes!("../../policies/baseline/policy.wasm"));
        let keys: Vec<_> = reads.keys.iter().map(String::as_str).collect();
        assert_eq!(
            (keys, reads.is_whole),
            (vec!["apiVersion", "containers", "options", "request", "runtime", "workload"], false)
        );
        let may_read = |path: &str| reads.paths.contains(path) || reads.possible_paths.contains(path);
        for path in ["request.operation", "request.subResource", "workload.hostIPC", "workload.template"] {
            assert!(may_read(path), "{path}: {reads:?}");
        }
        for path in ["request.uid", "request.name", "request.user", "workload.name", "workload.labels"] {
            assert!(!may_read(path), "{path}: {reads:?}");
        }
        for key in ["request", "workload"] {
            assert!(!reads.whole_keys.contains(key), "{key}");
        }
    }

    /// What the steps of a rule read, beside a function that finds keys and another one.
    fn of_steps(steps: &str) -> InputReads {
        let module = format!(
            r#"(module
                (import "env" "f" (func $other (param i32 i32) (result i32)))
                (memory 1)
                (data (i32.const 16) "\08\00\00\00\07\00\00\00\1c\00\00\00request")
                (data (i32.const 48) "\08\00\00\00\03\00\00\00\3c\00\00\00uid")
                (func $opa_value_get (param i32 i32) (result i32) unreachable)
                (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32 i32) {steps} i32.const 0))"#
        );
        reads_of(&wat::parse_str(module).unwrap())
    }

    #[test]
    fn a_key_that_is_handed_to_another_function_than_the_one_that_finds_it_counts_as_the_whole_input() {
        const FIND: &str = "local.get 0 i32.const 16 call $opa_value_get local.set 2";
        let found = of_steps(FIND);
        assert_eq!((found.keys, found.is_whole), (BTreeSet::from(["request".to_string()]), false));
        for handed in [
            "local.get 0 i32.const 16 call $other local.set 2",
            "local.get 0 i32.const 16 call $opa_value_get drop",
            "local.get 0 local.set 3 local.get 3 i32.const 16 call $other local.set 2",
        ] {
            assert!(of_steps(handed).is_whole, "{handed}");
        }
        let below = of_steps(&format!("{FIND} local.get 2 i32.const 48 call $opa_value_get local.set 3"));
        assert_eq!((below.paths.len(), below.whole_keys.len()), (1, 0));
        let below = of_steps(&format!("{FIND} local.get 2 i32.const 48 call $other local.set 3"));
        assert_eq!((below.paths.len(), below.whole_keys.len()), (0, 1));
    }

    /// `local.tee` leaves it on the stack, where it may be used.
    #[test]
    fn a_value_that_is_used_where_it_was_kept_counts_as_one_that_is_read_again() {
        const FIND: &str = "local.get 0 i32.const 16 call $opa_value_get local.tee 2";
        for asked in ["i32.eqz drop", "if end", "br_if 0"] {
            let found = of_steps(&format!("block {FIND} {asked} end"));
            assert_eq!((found.is_whole, found.paths.len(), found.whole_keys.len()), (false, 0, 0), "{asked}");
        }
        let found = of_steps(&format!("{FIND} i32.const 48 call $opa_value_get local.set 3"));
        assert_eq!((found.is_whole, found.paths), (false, BTreeSet::from(["request.uid".to_string()])));
        let found = of_steps(&format!("{FIND} i32.const 48 call $other local.set 3"));
        assert_eq!((found.is_whole, found.whole_keys), (false, BTreeSet::from(["request".to_string()])));
        let copied = "local.get 2 local.tee 3 i32.const 48 call $opa_value_get drop";
        let found = of_steps(&format!("{FIND} i32.eqz drop {copied}"));
        assert_eq!(found.paths, BTreeSet::from(["request.uid".to_string()]));
        assert!(of_steps("local.get 0 local.tee 3 i32.const 16 call $other local.set 2").is_whole);
    }

    /// Otherwise each use of a local took as long as there are keys, and each operand as long as there are further ones.
    #[test]
    fn what_has_more_keys_or_operands_than_opa_writes_may_read_all() {
        let with_keys = |count: usize| {
            let places = || (0..count).map(|number| 1_024 + 16 * u32::try_from(number).unwrap());
            let text = |at: u32| {
                let own = (at + 12).to_le_bytes().map(|byte| format!(r"\{byte:02x}")).concat();
                format!(r#"(data (i32.const {at}) "\08\00\00\00\04\00\00\00{own}{at:04}")"#)
            };
            let step = |at: u32| format!("local.get 0 i32.const {at} call $opa_value_get local.set 2 ");
            let data = places().map(text).collect::<Vec<_>>().concat();
            let steps = places().map(step).collect::<Vec<_>>().concat();
            let module = format!(
                r"(module (memory 1) {data}
                    (func $opa_value_get (param i32 i32) (result i32) unreachable)
                    (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32)
                        {steps} local.get 2 i32.const 1024 call $opa_value_get))"
            );
            let found = reads_of(&wat::parse_str(module).unwrap());
            (found.is_whole, found.keys.len(), found.possible_paths.len() + found.paths.len())
        };
        assert_eq!(with_keys(MOST_KEYS), (false, MOST_KEYS, MOST_KEYS));
        assert_eq!(with_keys(MOST_KEYS + 1), (true, MOST_KEYS + 1, 0));
        let with_operands = |count: usize| {
            let operands = "i32.const 0 ".repeat(count);
            of_steps(&format!("local.get 0 local.get 1 {operands} call $g0.data.wasmgate.violations drop"))
                .is_whole
        };
        assert_eq!([3, MOST_OPERANDS].map(with_operands), [false, true]);
    }

    /// The names may be longer than the code that names them.
    #[test]
    fn what_names_more_keys_than_are_kept_may_read_all() {
        let named = |count: usize| {
            let places = || (0..count).map(|number| 1_024 + 32 * u32::try_from(number).unwrap());
            let text = |at: u32| {
                let own = (at + 12).to_le_bytes().map(|byte| format!(r"\{byte:02x}")).concat();
                format!(r#"(data (i32.const {at}) "\08\00\00\00\08\00\00\00{own}{at:08}")"#)
            };
            let step = |at: u32| format!("local.get 0 i32.const {at} call $opa_value_get local.set 2 ");
            let data = places().map(text).collect::<Vec<_>>().concat();
            let steps = places().map(step).collect::<Vec<_>>().concat();
            let module = format!(
                r"(module (memory 8) {data}
                    (func $opa_value_get (param i32 i32) (result i32) unreachable)
                    (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32) {steps} i32.const 0))"
            );
            let found = reads_of(&wat::parse_str(module).unwrap());
            (found.is_whole, found.keys.len())
        };
        assert_eq!(named(100), (false, 100));
        assert_eq!(named(MOST_NAMES + 2), (true, MOST_NAMES + 1));
    }

    /// Another program may have renamed the rules.
    #[test]
    fn what_was_renamed_may_read_all() {
        let module = include_bytes!("../../policies/baseline/policy.wasm");
        let name = b"g0.data.wasmgate.violations";
        let places: Vec<_> =
            (0..module.len() - name.len()).filter(|at| module[*at..].starts_with(name)).collect();
        assert!(!places.is_empty());
        let mut renamed = module.to_vec();
        for at in places {
            renamed[at] = b'h';
        }
        assert!(reads_of(&renamed).is_whole);
    }

    #[test]
    fn what_opa_did_not_write_may_read_all() {
        for module in [&b""[..], b"\0asm\x01\0\0\0\x0a\xff", b"no module"] {
            assert!(reads_of(module).is_whole);
        }
    }
}
