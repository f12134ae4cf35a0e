//! What the rules of a compiled policy read of the input, so that nothing is left out that they read.
//!
//! OPA's compiler hands the input to each function of a rule as its first operand, and compiles `input.key` to that operand and the
//! address of the key, side by side (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileBlock`).

use std::collections::BTreeSet;

use wasmparser::{FunctionBody, Operator};

use super::locations::Code;

/// The operand that is the input.
const INPUT: u32 = 0;
/// The one after it, the data.
const DATA: u32 = 1;

/// What rules read of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InputReads {
    /// The keys that they name.
    pub keys: BTreeSet<String>,
    /// Whether they also use it in ways that name no key, such as `input[key]` and `walk(input)`. They may read any key then.
    pub is_whole: bool,
}

impl InputReads {
    /// Parses a module. One that is not as OPA writes it may read all.
    pub fn of(module: &[u8]) -> Self {
        let whole = Self { is_whole: true, ..Self::default() };
        Code::read(module).and_then(|code| Self::of_rules(&code)).unwrap_or(whole)
    }

    fn of_rules(code: &Code<'_>) -> Option<Self> {
        let mut reads = Self::default();
        for (index, body) in &code.bodies {
            if code.is_rule(*index) {
                reads.add(code, &steps(body)?);
            }
        }
        Some(reads)
    }

    fn add(&mut self, code: &Code<'_>, steps: &[Step]) {
        let mut inputs = BTreeSet::from([INPUT]);
        let mut rest = steps;
        while let Some((step, after)) = rest.split_first() {
            rest = after;
            let Step::Get(local) = step else { continue };
            if !inputs.contains(local) {
                continue;
            }
            match after.first() {
                Some(Step::Constant(address)) => match code.text(*address) {
                    Some(key) => self.keys.extend([key.to_string()]),
                    None => self.is_whole = true,
                },
                Some(Step::Get(DATA)) if calls_a_rule(code, after) => {}
                Some(Step::Set(other)) => {
                    inputs.insert(*other);
                }
                _ => self.is_whole = true,
            }
        }
    }
}

/// Whether what comes next is a call of a rule or a function of Rego, which is looked at by itself.
fn calls_a_rule(code: &Code<'_>, steps: &[Step]) -> bool {
    let call = steps.iter().find(|step| !matches!(step, Step::Get(_) | Step::Constant(_)));
    matches!(call, Some(Step::Call(function)) if code.is_rule(*function))
        || matches!(call, Some(Step::CallAny))
}

/// An instruction, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Get(u32),
    Set(u32),
    Constant(i32),
    Call(u32),
    CallAny,
    Other,
}

fn steps(body: &FunctionBody<'_>) -> Option<Vec<Step>> {
    let reader = body.get_operators_reader().ok()?;
    let step = |operator| match operator {
        Operator::LocalGet { local_index } => Step::Get(local_index),
        Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => Step::Set(local_index),
        Operator::I32Const { value } => Step::Constant(value),
        Operator::Call { function_index } => Step::Call(function_index),
        Operator::CallIndirect { .. } => Step::CallAny,
        _ => Step::Other,
    };
    reader.into_iter().map(|operator| operator.ok().map(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_names_what_it_reads() {
        let reads = InputReads::of(include_bytes!("../../policies/baseline/policy.wasm"));
        let keys: Vec<_> = reads.keys.iter().map(String::as_str).collect();
        assert_eq!(
            (keys, reads.is_whole),
            (vec!["apiVersion", "containers", "options", "request", "runtime", "workload"], false)
        );
    }

    #[test]
    fn what_opa_did_not_write_may_read_all() {
        for module in [&b""[..], b"\0asm\x01\0\0\0\x0a\xff", b"no module"] {
            assert!(InputReads::of(module).is_whole);
        }
    }
}
