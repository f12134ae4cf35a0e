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

use super::sections::{PlacedData, function_names, imported_functions, placed_data};

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
/// Longest text that is read, in bytes: a key, or the name of a rule. A module is foreign, and as many of its texts as it has instructions may share
/// their bytes.
const LONGEST_TEXT: usize = 1 << 10;
/// Most definitions of all rules. Of a module with more it is not said where they are.
const MOST_DEFINITIONS: usize = 100_000;
/// Most work on the names of all definitions: calls that are followed, and bytes of names. Those that are left have none.
const MOST_WORK: usize = 16 << 20;

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
        let mut offsets = offsets.to_vec();
        offsets.sort_unstable();
        self.rules(|Definition { code, .. }| {
            let next = offsets.partition_point(|offset| *offset < code.start);
            offsets.get(next).is_some_and(|offset| code.contains(offset))
        })
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
    /// Those with the name of a rule, which may be long.
    rules: BTreeSet<u32>,
    /// The functions by their numbers.
    pub bodies: BTreeMap<u32, FunctionBody<'a>>,
    data: PlacedData<'a>,
}

/// Summary of a piece of code, without the functions that it calls.
#[derive(Debug, Default)]
struct CodeSummary<'a> {
    rules: BTreeSet<&'a str>,
    calls: BTreeSet<u32>,
}

/// A block at the top level of a function's body: its location and its summary.
type Block<'a> = (Range<u64>, CodeSummary<'a>);

/// The union of several summaries.
fn sum<'a>(blocks: &[Block<'a>]) -> CodeSummary<'a> {
    let mut all = CodeSummary::default();
    for (_, summary) in blocks {
        all.rules.extend(&summary.rules);
        all.calls.extend(&summary.calls);
    }
    all
}

/// What the functions of rules do, by their numbers.
struct CallGraph<'a> {
    summary: BTreeMap<u32, CodeSummary<'a>>,
    /// The functions from which calls lead to the host, and those of the host.
    to_host: BTreeSet<u32>,
}

impl<'a> CallGraph<'a> {
    fn new(summary: BTreeMap<u32, CodeSummary<'a>>, host: &BTreeSet<u32>) -> Self {
        let mut callers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (caller, CodeSummary { calls, .. }) in &summary {
            for called in calls {
                callers.entry(*called).or_default().push(*caller);
            }
        }
        let (mut to_host, mut open) = (host.clone(), host.iter().copied().collect::<Vec<_>>());
        while let Some(called) = open.pop() {
            let callers = callers.get(&called).into_iter().flatten().copied();
            open.extend(callers.filter(|caller| to_host.insert(*caller)));
        }
        Self { summary, to_host }
    }

    /// A definition including the functions that it calls; their rule names count if it has none itself. None count where there is more
    /// to do than is `left`.
    fn definition(&self, (code, own): &Block<'a>, left: &mut usize) -> Definition {
        let called = if own.rules.is_empty() { self.rules_called_by(own, left) } else { None };
        let rules = called.as_ref().unwrap_or(&own.rules);
        let bytes = rules.iter().fold(0_usize, |bytes, rule| bytes.saturating_add(rule.len()));
        let rules = left.checked_sub(bytes).map(|rest| {
            *left = rest;
            rules.iter().map(|rule| (*rule).to_string()).collect()
        });
        let calls_host = own.calls.iter().any(|function| self.to_host.contains(function));
        Definition { code: code.clone(), rules: rules.unwrap_or_default(), calls_host }
    }

    fn rules_called_by(&self, own: &CodeSummary<'a>, left: &mut usize) -> Option<BTreeSet<&'a str>> {
        let (mut reached, mut open) = (own.calls.clone(), own.calls.iter().copied().collect::<Vec<_>>());
        let mut called: BTreeSet<&'a str> = BTreeSet::new();
        while let Some(function) = open.pop() {
            let Some(CodeSummary { rules, calls }) = self.summary.get(&function) else { continue };
            *left = left.checked_sub(rules.len().saturating_add(calls.len()))?;
            called.extend(rules);
            open.extend(calls.iter().filter(|next| reached.insert(**next)));
        }
        Some(called)
    }
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
                        code.data.put(usize::try_from(address).ok()?, bytes)?;
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
        let rules = code.names.iter().filter(|(_, name)| is_of_rule(name));
        code.rules = rules.map(|(function, _)| *function).collect();
        Some(code)
    }

    /// Whether the function is a rule, or a function of Rego.
    pub fn is_rule(&self, function: u32) -> bool {
        self.rules.contains(&function)
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
        let (mut blocks, mut left) = (BTreeMap::new(), MOST_DEFINITIONS);
        for (index, body) in rules.filter_map(|(index, _)| Some((*index, self.bodies.get(index)?))) {
            let found = self.blocks(body, left)?;
            left = left.saturating_sub(found.len());
            blocks.insert(index, found);
        }
        let summary = blocks.iter().map(|(index, blocks)| (*index, sum(blocks))).collect();
        let sets = self.united_by(entry, &summary);
        // A definition that unites sets names no rule itself.
        let unites = |(_, summary): &&Block<'_>| summary.calls.iter().any(|function| sets.contains(function));
        let own = sets.iter().filter_map(|set| blocks.get(set)).flatten().filter(|block| !unites(block));
        let (graph, mut work) = (CallGraph::new(summary, &self.host), MOST_WORK);
        let definitions = own.map(|block| graph.definition(block, &mut work)).collect();
        Some(RuleLocations { definitions })
    }

    /// The function of the entry point, and those of the sets that it unites.
    fn united_by(&self, entry: u32, summary: &BTreeMap<u32, CodeSummary<'_>>) -> BTreeSet<u32> {
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

    /// The blocks at the top level of a function's body, by location; `None` where there are more.
    fn blocks(&self, body: &FunctionBody<'_>, most: usize) -> Option<Vec<Block<'a>>> {
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
                        if blocks.len() >= most {
                            return None;
                        }
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
    fn rule_in(&self, [key, value]: [Option<i32>; 2]) -> Option<&'a str> {
        (self.text(key?)? == "rule").then(|| self.text(value?)).flatten()
    }

    /// The string at an address. One that is longer than a key or the name of a rule counts as unknown.
    pub fn text(&self, address: i32) -> Option<&'a str> {
        self.text_within(address, LONGEST_TEXT)
    }

    /// The string at an address, if it has no more bytes than these.
    pub fn text_within(&self, address: i32, most: usize) -> Option<&'a str> {
        let address = usize::try_from(address).ok()?;
        let number = |at: usize| -> Option<usize> {
            let bytes = self.data.get(at, 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        };
        if self.data.get(address, 1)? != [STRING] {
            return None;
        }
        let length = number(address.checked_add(4)?).filter(|length| *length <= most)?;
        std::str::from_utf8(self.data.get(number(address.checked_add(8)?)?, length)?).ok()
    }
}

/// Whether this is the name of a rule, or of a function of Rego. Those that `with` replaces have a number of their own before the name.
fn is_of_rule(name: &str) -> bool {
    let number = name.strip_prefix('g').and_then(|name| name.split_once('.')).map(|(number, _)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
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
        assert_eq!((rules.len(), named.len()), (24, 34));
        for definition in named {
            let middle = u64::midpoint(definition.code.start, definition.code.end);
            assert_eq!(locations.rules_at(&[middle]), definition.rules.iter().map(String::as_str).collect());
        }
    }

    /// A module in which a definition of this code calls rules of these names, each from the one before it.
    fn with_chain(names: &[String], definitions: usize) -> RuleLocations {
        let text = |at: usize, text: &str| {
            let [length, own] = [text.len(), at + 12].map(|number| {
                u32::try_from(number).unwrap().to_le_bytes().map(|byte| format!(r"\{byte:02x}")).concat()
            });
            format!(r#"(data (i32.const {at}) "\08\00\00\00{length}{own}{text}")"#)
        };
        let place = |number: usize| 1_024 + 2_048 * number;
        let chain = |(number, name): (usize, &String)| {
            let next = if number + 1 < names.len() {
                format!("call $g0.data.r{}", number + 1)
            } else {
                String::new()
            };
            format!(
                "{} (func $g0.data.r{number} block i32.const 16 i32.const {} call $opa_object_insert {next} end)",
                text(place(number), name),
                place(number)
            )
        };
        let functions = names.iter().enumerate().map(chain).collect::<Vec<_>>().concat();
        let module = format!(
            r#"(module (import "env" "opa_builtin0" (func $opa_builtin0)) (memory 64) {}
                (func $opa_object_insert (param i32 i32)) {functions}
                (func $g0.data.wasmgate.violations {}))"#,
            text(16, "rule"),
            "block call $g0.data.r0 end ".repeat(definitions)
        );
        locations_of(&wat::parse_str(module).unwrap())
    }

    /// Otherwise each definition took as long as there are functions, and as much memory as these have names.
    #[test]
    fn the_names_of_all_definitions_take_a_bounded_amount_of_work() {
        let names: Vec<_> = (0..100).map(|number| format!("{number:0>1000}")).collect();
        let few = with_chain(&names, 3);
        assert_eq!((few.definitions.len(), few.known().as_ref().map(BTreeSet::len)), (3, Some(100)));
        let many = with_chain(&names, 1_000);
        let bytes: usize = many.definitions.iter().flat_map(|one| &one.rules).map(String::len).sum();
        assert!(bytes <= MOST_WORK && many.definitions.len() == 1_000, "{bytes}");
        assert_eq!(many.known(), None, "those that are left have no names");
        let long = with_chain(&["x".repeat(LONGEST_TEXT + 1)], 1);
        assert_eq!((long.definitions.len(), long.known()), (1, None));
        assert_eq!(with_chain(&["x".to_string()], MOST_DEFINITIONS), RuleLocations::default());
    }

    #[test]
    fn offsets_are_of_the_definition_that_contains_them() {
        let definition = |code: Range<u64>, rule: &str| Definition {
            code,
            rules: BTreeSet::from([rule.to_string()]),
            calls_host: false,
        };
        let definitions = vec![definition(10..20, "a"), definition(20..30, "b"), definition(5..6, "c")];
        let locations = RuleLocations { definitions };
        for (offsets, rules) in [
            (&[][..], &[][..]),
            (&[19], &["a"]),
            (&[30, 20], &["b"]),
            (&[9, 4, 30, 6], &[]),
            (&[25, 5, 15], &["a", "b", "c"]),
        ] {
            assert_eq!(locations.rules_at(offsets), rules.iter().copied().collect(), "{offsets:?}");
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
