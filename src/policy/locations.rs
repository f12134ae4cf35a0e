//! Which rule an offset in the code of a compiled bundle belongs to, so that the message about an evaluation that was
//! stopped can name the rule.
//!
//! OPA compiles all definitions of a rule to one function, each to a block of its own at the top of the function's body
//! (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileFunc`), and names functions in the module's name section. The
//! entry point may unite sets of several packages, each of which is a function of its own. The name of a rule of ours is
//! the text that a definition, or a function that it calls, puts under the key `rule`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wasmparser::{DataKind, FunctionBody, KnownCustom, Name, Operator, Parser, Payload, TypeRef};

/// What OPA's compiler puts before the names of rules.
const RULE_PREFIX: &str = "g0.";
/// The function of the entry point.
const ENTRY: &str = "g0.data.wasmgate.violations";
/// How the function of a set of violations is named that the entry point unites with others: the baseline has a package
/// for each rule.
const SET_SUFFIX: &str = ".violations";
/// The function of OPA's runtime that sets a key of an object.
const INSERT: &str = "opa_object_insert";
/// Type tag of a text in a module's data (`open-policy-agent/opa:wasm/src/value.h`, `OPA_STRING_INTERNED`); its length and
/// address stand four and eight bytes further.
const STRING: u8 = 8;

/// The definitions of the entry point by where their code lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RuleLocations {
    definitions: Vec<Definition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Definition {
    /// Bytes of the module.
    code: Range<u64>,
    /// Names that its violations may have; none where they are not written out.
    rules: BTreeSet<String>,
    /// Whether it may call a function of the host.
    calls_host: bool,
}

impl RuleLocations {
    /// Reads a module. One that OPA did not write, or a later OPA otherwise, has no places: nothing depends on them but a
    /// message.
    pub fn of(module: &[u8]) -> Self {
        Code::read(module).and_then(|code| code.locations()).unwrap_or_default()
    }

    /// The names of all rules; `None` where a definition does not say its name, or nothing is known of any.
    pub fn known(&self) -> Option<BTreeSet<&str>> {
        let whole = !self.definitions.is_empty() && self.definitions.iter().all(|d| !d.rules.is_empty());
        whole.then(|| self.rules(|_| true))
    }

    /// The rules whose code lies at one of these offsets in the module.
    pub fn rules_at(&self, offsets: &[u64]) -> BTreeSet<&str> {
        self.rules(|definition| offsets.iter().any(|offset| definition.code.contains(offset)))
    }

    /// The rules that may call a function of the host.
    pub fn rules_that_call_the_host(&self) -> BTreeSet<&str> {
        self.rules(|definition| definition.calls_host)
    }

    fn rules(&self, of: impl Fn(&Definition) -> bool) -> BTreeSet<&str> {
        let found = self.definitions.iter().filter(|definition| of(definition));
        found.flat_map(|definition| &definition.rules).map(String::as_str).collect()
    }
}

/// How a message names the rules that something comes from; empty where that is not known.
pub(super) fn in_rules(rules: &BTreeSet<&str>) -> String {
    let names: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!(", in rule {one}"),
        several => format!(", in one of the rules {}", several.join(", ")),
    }
}

/// The parts of a module that tell.
#[derive(Default)]
struct Code<'a> {
    /// Functions of the host that are rules' to call.
    host: BTreeSet<u32>,
    names: BTreeMap<u32, &'a str>,
    bodies: BTreeMap<u32, FunctionBody<'a>>,
    data: Vec<(usize, &'a [u8])>,
}

/// What a stretch of code does itself.
#[derive(Debug, Default)]
struct CodeSummary {
    rules: BTreeSet<String>,
    calls: BTreeSet<u32>,
}

/// A block at the top of a function's body: where it lies, and what it does.
type Block = (Range<u64>, CodeSummary);

/// What several blocks do together.
fn sum(blocks: &[Block]) -> CodeSummary {
    let mut all = CodeSummary::default();
    for (_, summary) in blocks {
        all.rules.extend(summary.rules.iter().cloned());
        all.calls.extend(&summary.calls);
    }
    all
}

impl<'a> Code<'a> {
    fn read(module: &'a [u8]) -> Option<Self> {
        let mut code = Self::default();
        let mut functions = 0_u32;
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.ok()?;
                        if matches!(import.ty, TypeRef::Func(_)) {
                            if import.name.starts_with("opa_builtin") {
                                code.host.insert(functions);
                            }
                            functions = functions.checked_add(1)?;
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    code.bodies.insert(functions, body);
                    functions = functions.checked_add(1)?;
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        let segment = segment.ok()?;
                        if let DataKind::Active { offset_expr, .. } = segment.kind
                            && let Operator::I32Const { value } =
                                offset_expr.get_operators_reader().read().ok()?
                        {
                            code.data.push((usize::try_from(value).ok()?, segment.data));
                        }
                    }
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        code.names.extend(function_names(names)?);
                    }
                }
                _ => {}
            }
        }
        Some(code)
    }

    fn locations(&self) -> Option<RuleLocations> {
        let entry = *self.names.iter().find(|(_, name)| **name == ENTRY)?.0;
        let rules = self.names.iter().filter(|(_, name)| name.starts_with(RULE_PREFIX));
        let bodies = rules.filter_map(|(index, _)| Some((*index, self.bodies.get(index)?)));
        let blocks: BTreeMap<u32, Vec<Block>> =
            bodies.map(|(index, body)| Some((index, self.blocks(body)?))).collect::<Option<_>>()?;
        let summary = blocks.iter().map(|(index, blocks)| (*index, sum(blocks))).collect();
        let sets = self.united_by(entry, &summary);
        // What unites sets speaks of no rule itself.
        let unites = |(_, summary): &&Block| summary.calls.iter().any(|function| sets.contains(function));
        let own = sets.iter().filter_map(|set| blocks.get(set)).flatten().filter(|block| !unites(block));
        let definitions = own.map(|(code, own)| self.definition(code.clone(), own, &summary)).collect();
        Some(RuleLocations { definitions })
    }

    /// The function of the entry point, and those of the sets that it unites.
    fn united_by(&self, entry: u32, summary: &BTreeMap<u32, CodeSummary>) -> BTreeSet<u32> {
        let is_set = |function: &u32| {
            self.names.get(function).is_some_and(|n| n.starts_with(RULE_PREFIX) && n.ends_with(SET_SUFFIX))
        };
        let (mut sets, mut open) = (BTreeSet::from([entry]), vec![entry]);
        while let Some(set) = open.pop() {
            let calls = summary.get(&set).into_iter().flat_map(|summary| &summary.calls).copied();
            open.extend(calls.filter(is_set).filter(|function| sets.insert(*function)));
        }
        sets
    }

    /// A definition with what the functions that it calls do; their names count where it has none itself.
    fn definition(
        &self,
        code: Range<u64>,
        own: &CodeSummary,
        summary: &BTreeMap<u32, CodeSummary>,
    ) -> Definition {
        let (mut reached, mut open) = (own.calls.clone(), own.calls.iter().copied().collect::<Vec<_>>());
        let mut called = BTreeSet::new();
        while let Some(function) = open.pop() {
            let Some(summary) = summary.get(&function) else { continue };
            called.extend(summary.rules.iter().cloned());
            open.extend(summary.calls.iter().filter(|next| reached.insert(**next)));
        }
        let rules = if own.rules.is_empty() { called } else { own.rules.clone() };
        Definition { code, rules, calls_host: reached.iter().any(|function| self.host.contains(function)) }
    }

    /// The blocks at the top of a function's body, by where they lie.
    fn blocks(&self, body: &FunctionBody<'_>) -> Option<Vec<Block>> {
        let mut reader = body.get_operators_reader().ok()?;
        let (mut blocks, mut depth, mut start, mut summary) = (Vec::new(), 0_u32, 0, CodeSummary::default());
        let (mut last, mut definition) = ([None, None], false);
        while !reader.eof() {
            let offset = reader.original_position();
            let operator = reader.read().ok()?;
            let mut constant = None;
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    if depth == 0 {
                        (start, summary) = (offset, CodeSummary::default());
                        definition = matches!(operator, Operator::Block { .. });
                    }
                    depth = depth.checked_add(1)?;
                }
                // The last `end` is the function's own.
                Operator::End if depth > 0 => {
                    depth -= 1;
                    // What is no block looks whether the set was made before.
                    if depth == 0 && definition {
                        blocks.push((start..reader.original_position(), std::mem::take(&mut summary)));
                    }
                }
                Operator::I32Const { value } => constant = Some(value),
                Operator::Call { function_index } => {
                    summary.calls.insert(function_index);
                    if self.names.get(&function_index) == Some(&INSERT) {
                        summary.rules.extend(self.rule_in(last));
                    }
                }
                _ => {}
            }
            last = [last[1], constant];
        }
        Some(blocks)
    }

    /// The value of the key `rule`, where the operands are that key and a text.
    fn rule_in(&self, [key, value]: [Option<i32>; 2]) -> Option<String> {
        (self.text(key?)? == "rule").then(|| self.text(value?)).flatten().map(String::from)
    }

    /// The string that lies at an address.
    fn text(&self, address: i32) -> Option<&'a str> {
        let address = usize::try_from(address).ok()?;
        let number = |at: usize| -> Option<usize> {
            let bytes = self.bytes(at, 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        };
        if self.bytes(address, 1)? != [STRING] {
            return None;
        }
        let length = number(address.checked_add(4)?)?;
        std::str::from_utf8(self.bytes(number(address.checked_add(8)?)?, length)?).ok()
    }

    fn bytes(&self, address: usize, length: usize) -> Option<&'a [u8]> {
        self.data.iter().find_map(|(start, bytes)| {
            let from = address.checked_sub(*start)?;
            bytes.get(from..from.checked_add(length)?)
        })
    }
}

fn function_names(section: wasmparser::NameSectionReader<'_>) -> Option<BTreeMap<u32, &str>> {
    let mut all = BTreeMap::new();
    for part in section {
        if let Name::Function(names) = part.ok()? {
            for naming in names {
                let naming = naming.ok()?;
                all.insert(naming.index, naming.name);
            }
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_of_the_baseline_has_the_name_of_one_rule() {
        let locations = RuleLocations::of(include_bytes!("../../policies/baseline/policy.wasm"));
        let named = &locations.definitions;
        assert_eq!(locations.known(), Some(locations.rules(|_| true)));
        for definition in named {
            assert_eq!(definition.rules.len(), 1, "{definition:?}");
        }
        let rules = locations.rules(|_| true);
        for rule in ["needs-grant", "plugin-env", "ambient-wider-than-grant", "unknown-input", "under-floor"]
        {
            assert!(rules.contains(rule), "{rules:?}");
        }
        assert_eq!((rules.len(), named.len()), (19, 24));
        for definition in named {
            let middle = u64::midpoint(definition.code.start, definition.code.end);
            assert_eq!(locations.rules_at(&[middle]), definition.rules.iter().map(String::as_str).collect());
        }
    }

    #[test]
    fn what_opa_did_not_write_has_no_places() {
        for module in [&b""[..], b"\0asm\x01\0\0\0", b"\0asm\x01\0\0\0\x0a\xff", b"no module"] {
            assert_eq!(RuleLocations::of(module), RuleLocations::default());
        }
        let whole = include_bytes!("../../policies/baseline/policy.wasm");
        for length in (0..whole.len()).step_by(997) {
            let _ = RuleLocations::of(whole.get(..length).unwrap());
        }
    }
}
