//! Maps offsets in the code of a compiled bundle to rules, so that the message about a stopped evaluation can name
//! the rule.
//!
//! OPA compiles all definitions of a rule to one function, each to its own block at the top level of the function's body
//! (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileFunc`), and names functions in the module's name section. The
//! entry point may unite sets of several packages, each of which is a function of its own. The rule name is
//! the string that a definition, or a function that it calls, stores under the key `rule`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use wasmparser::{FunctionBody, KnownCustom, Operator, Parser, Payload};

use super::sections::{function_names, imported_functions, placed_data};

/// Prefix of rule names from OPA's compiler.
const RULE_PREFIX: &str = "g0.";
/// The function of the entry point.
const ENTRY: &str = "g0.data.wasmgate.violations";
/// Suffix of the functions of violation sets that the entry point unites; the baseline has a package for each rule.
const SET_SUFFIX: &str = ".violations";
/// The function of OPA's runtime that sets a key of an object.
const INSERT: &str = "opa_object_insert";
/// Type tag of a string in a module's data (`open-policy-agent/opa:wasm/src/value.h`, `OPA_STRING_INTERNED`); its length and
/// address follow at offsets four and eight.
const STRING: u8 = 8;

/// The definitions of the entry point with the locations of their code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RuleLocations {
    definitions: Vec<Definition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Definition {
    /// Byte range in the module.
    code: Range<u64>,
    /// Possible rule names of its violations; empty if they are not literals.
    rules: BTreeSet<String>,
    /// Whether it may call a host function.
    calls_host: bool,
}

impl RuleLocations {
    /// Those of a module. If OPA did not write it, or a later OPA writes it differently, the result is empty; only messages
    /// depend on it.
    pub fn of(code: &Code<'_>) -> Self {
        code.locations().unwrap_or_default()
    }

    /// The names of all rules; `None` if the name of a definition is not known, or there are no definitions.
    pub fn known(&self) -> Option<BTreeSet<&str>> {
        let whole = !self.definitions.is_empty() && self.definitions.iter().all(|d| !d.rules.is_empty());
        whole.then(|| self.rules(|_| true))
    }

    /// The name of the only rule; `None` if there are several, or the name of a definition is not known.
    pub fn only(&self) -> Option<&str> {
        let mut names = self.definitions.iter().flat_map(|definition| &definition.rules);
        let first = names.next()?;
        let is_whole = self.definitions.iter().all(|definition| !definition.rules.is_empty());
        (is_whole && names.all(|name| name == first)).then_some(first)
    }

    /// The rules whose code contains one of these offsets.
    pub fn rules_at(&self, offsets: &[u64]) -> BTreeSet<&str> {
        self.rules(|definition| offsets.iter().any(|offset| definition.code.contains(offset)))
    }

    /// The rules that may call a host function.
    pub fn rules_that_call_the_host(&self) -> BTreeSet<&str> {
        self.rules(|definition| definition.calls_host)
    }

    fn rules(&self, of: impl Fn(&Definition) -> bool) -> BTreeSet<&str> {
        let found = self.definitions.iter().filter(|definition| of(definition));
        found.flat_map(|definition| &definition.rules).map(String::as_str).collect()
    }
}

/// The rules as named in a message; empty if they are not known.
pub(super) fn in_rules(rules: &BTreeSet<&str>) -> String {
    let names: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!(", in rule {one}"),
        several => format!(", in one of the rules {}", several.join(", ")),
    }
}

/// The parts of a module that are needed, read once and handed to all that ask about it. The default is what is no module: it has no rules.
#[derive(Default)]
pub(super) struct Code<'a> {
    /// Host functions that rules may call.
    host: BTreeSet<u32>,
    names: BTreeMap<u32, &'a str>,
    /// The functions by their numbers.
    pub bodies: BTreeMap<u32, FunctionBody<'a>>,
    data: Vec<(usize, &'a [u8])>,
}

/// Summary of a piece of code, without the functions that it calls.
#[derive(Debug, Default)]
struct CodeSummary {
    rules: BTreeSet<String>,
    calls: BTreeSet<u32>,
}

/// A block at the top level of a function's body: its location and its summary.
type Block = (Range<u64>, CodeSummary);

/// The union of several summaries.
fn sum(blocks: &[Block]) -> CodeSummary {
    let mut all = CodeSummary::default();
    for (_, summary) in blocks {
        all.rules.extend(summary.rules.iter().cloned());
        all.calls.extend(&summary.calls);
    }
    all
}

impl<'a> Code<'a> {
    /// Reads a module, which may be cut off or no module at all.
    pub fn read(module: &'a [u8]) -> Option<Self> {
        let mut code = Self::default();
        let mut functions = 0_u32;
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::ImportSection(imports) => {
                    for name in imported_functions(imports)? {
                        if name.starts_with("opa_builtin") {
                            code.host.insert(functions);
                        }
                        functions = functions.checked_add(1)?;
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    code.bodies.insert(functions, body);
                    functions = functions.checked_add(1)?;
                }
                Payload::DataSection(segments) => {
                    for (address, bytes) in placed_data(segments)? {
                        code.data.push((usize::try_from(address).ok()?, bytes));
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

    /// Whether the function is a rule, or a function of Rego. Those that `with` replaces have a number of their own before the name.
    pub fn is_rule(&self, function: u32) -> bool {
        let number = |name: &'a str| name.strip_prefix('g')?.split_once('.').map(|(number, _)| number);
        let number = self.names.get(&function).and_then(|name| number(name));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// The name of a function.
    pub fn name(&self, function: u32) -> Option<&'a str> {
        self.names.get(&function).copied()
    }

    /// Whether the rules of the entry point are there.
    pub fn has_entry(&self) -> bool {
        self.names.iter().any(|(function, name)| *name == ENTRY && self.bodies.contains_key(function))
    }

    /// Whether the function is the one that calls the entry point.
    pub fn is_evaluation(&self, function: u32) -> bool {
        self.names.get(&function).is_some_and(|name| *name == "eval")
    }

    /// Whether a function finds what is at a key of a value.
    pub fn is_get(&self, function: u32) -> bool {
        self.names.get(&function).is_some_and(|name| *name == "opa_value_get")
    }

    fn locations(&self) -> Option<RuleLocations> {
        let entry = *self.names.iter().find(|(_, name)| **name == ENTRY)?.0;
        let rules = self.names.iter().filter(|(_, name)| name.starts_with(RULE_PREFIX));
        let bodies = rules.filter_map(|(index, _)| Some((*index, self.bodies.get(index)?)));
        let blocks: BTreeMap<u32, Vec<Block>> =
            bodies.map(|(index, body)| Some((index, self.blocks(body)?))).collect::<Option<_>>()?;
        let summary = blocks.iter().map(|(index, blocks)| (*index, sum(blocks))).collect();
        let sets = self.united_by(entry, &summary);
        // A definition that unites sets names no rule itself.
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

    /// A definition including the functions that it calls; their rule names count if it has none itself.
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

    /// The blocks at the top level of a function's body, by location.
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
                    // Code outside of blocks checks whether the set was already built.
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

    /// The value for the key `rule`, if the operands are that key and a string.
    fn rule_in(&self, [key, value]: [Option<i32>; 2]) -> Option<String> {
        (self.text(key?)? == "rule").then(|| self.text(value?)).flatten().map(String::from)
    }

    /// The string at an address.
    pub fn text(&self, address: i32) -> Option<&'a str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn locations_of(module: &[u8]) -> RuleLocations {
        RuleLocations::of(&Code::read(module).unwrap_or_default())
    }

    #[test]
    fn every_definition_of_the_baseline_has_the_name_of_one_rule() {
        let locations = locations_of(include_bytes!("../../policies/baseline/policy.wasm"));
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
        assert_eq!((rules.len(), named.len()), (23, 32));
        for definition in named {
            let middle = u64::midpoint(definition.code.start, definition.code.end);
            assert_eq!(locations.rules_at(&[middle]), definition.rules.iter().map(String::as_str).collect());
        }
    }

    #[test]
    fn a_bundle_has_an_only_rule_where_all_definitions_are_of_it() {
        let of = |definitions: &[&[&str]]| {
            let definition = |names: &&[&str]| Definition {
                code: 0..1,
                rules: names.iter().map(ToString::to_string).collect(),
                calls_host: false,
            };
            let locations = RuleLocations { definitions: definitions.iter().map(definition).collect() };
            locations.only().map(String::from)
        };
        assert_eq!(of(&[&["a"], &["a"]]).as_deref(), Some("a"));
        let others: [&[&[&str]]; 5] =
            [&[&["a"], &["b"]], &[&["a", "b"]], &[&["a"], &[]], &[&[], &["a"]], &[]];
        for several in others {
            assert_eq!(of(several), None, "{several:?}");
        }
    }

    #[test]
    fn what_opa_did_not_write_has_no_places() {
        for module in [&b""[..], b"\0asm\x01\0\0\0", b"\0asm\x01\0\0\0\x0a\xff", b"no module"] {
            assert_eq!(locations_of(module), RuleLocations::default());
        }
        let whole = include_bytes!("../../policies/baseline/policy.wasm");
        for length in (0..whole.len()).step_by(997) {
            let _ = locations_of(whole.get(..length).unwrap());
        }
    }
}
