//! Rewrites a compiled policy before it is used: the functions of OPA's library that compute otherwise than OPA's interpreter
//! get bodies that call the host, and the items of sets and objects are gone through in their order, as the interpreter
//! does. References to data find an item by the text of a key, where there may be one. It works on every module of OPA's
//! compiler, also on those of others: the functions are found by their names.

use std::collections::BTreeMap;
use std::ops::Range;

use wasmparser::{BinaryReader, CompositeInnerType, FunctionBody, KnownCustom, Parser, Payload, ValType};

use super::locations::Code;
use super::references::{DataKeys, Key, Lookup, lookups};
use super::sections::{function_names, imported_functions};
use super::shortcuts::SHORTCUTS;
use super::values;
use crate::rego::{Builtin, Correction, OwnCode, corrections};

/// Numbers of host functions from here on are not the module's own.
const OWN_IDS: i32 = 1 << 20;
/// What asks the host for the next item of a set or object.
pub(super) const ITERATE: i32 = OWN_IDS - 1;
/// What asks the host for an item of data by the text of a key.
pub(super) const BY_TEXT: i32 = OWN_IDS - 2;
/// What asks the host for an item of data by the text of a key where OPA may look for the key as it is: what the host finds ends the evaluation.
pub(super) const PERHAPS_BY_TEXT: i32 = OWN_IDS - 3;
/// The function of OPA's library that goes through arrays, objects and sets.
const ITERATOR: &str = "opa_value_iter";
/// Type byte and representation byte of a number that is an integer of 64 bits (`open-policy-agent/opa:wasm/src/value.h`).
const INTEGER: i32 = values::INTEGER.cast_signed();
/// Type byte and representation byte of a number that is kept as its text.
const REFERENCE: i32 = values::REFERENCE.cast_signed();
/// Type byte of numbers.
const NUMBER: i32 = 3;
/// Type byte of texts.
const TEXT: i32 = 4;
/// Type byte and representation byte of texts that are part of the module.
const TEXT_IN_MODULE: i32 = values::KEPT_TEXT.cast_signed();
/// Type byte of arrays.
const ARRAY: i32 = values::ARRAY.cast_signed();
/// Type bytes of objects and of sets, which follow on one another.
const OBJECT: i32 = values::OBJECT.cast_signed();
/// Where an object or a set has the number of its items.
const LENGTH_OFFSET: u8 = 12;
/// Where a number that is kept as its text has the address of it, and the number of its bytes.
const NUMBER_TEXT_OFFSET: u8 = 8;
const NUMBER_LENGTH_OFFSET: u8 = 12;

/// A module after it.
#[derive(Debug)]
pub(super) struct Rewritten {
    /// Its bytes.
    pub module: Vec<u8>,
    /// What it may ask for by which number.
    pub functions: BTreeMap<i32, Builtin>,
    /// Whether its functions have names, without which nothing can be done.
    pub named: bool,
}

/// Rewrites a module, so that the host sees every error in `strict` mode, and references find items of data by the text of a key where
/// the data has such items. The one that is built in gets quicker code as well: of those of others it is not known where they hash a text.
/// One that is not readable stays as it is: the compiler will say why.
pub(super) fn rewrite(module: &[u8], strict: bool, keys: DataKeys, is_built_in: bool) -> Rewritten {
    let corrections = corrections(strict);
    let functions = (OWN_IDS..).zip(&corrections).map(|(id, correction)| (id, correction.builtin)).collect();
    let facts = Facts::read(module);
    let named = facts.as_ref().is_some_and(|facts| facts.names.contains_key(ITERATOR));
    let rewritten = facts.filter(|_| named).and_then(|facts| {
        let mut bodies = facts.bodies(&corrections)?;
        if keys == DataKeys::Text {
            bodies.extend(facts.rules_by_text(&lookups(&Code::read(module)?)?)?);
        }
        if is_built_in {
            bodies.extend(facts.quicker()?);
        }
        write(module, &bodies, &facts)
    });
    let named = rewritten.is_some();
    let module = rewritten.unwrap_or_else(|| module.to_vec());
    Rewritten { module, functions, named }
}

/// What has to be known of a module.
#[derive(Default)]
struct Facts<'a> {
    names: BTreeMap<&'a str, u32>,
    /// `opa_builtin0` and so on, by how many operands they take.
    hosts: BTreeMap<usize, u32>,
    imported: u32,
    /// Types of the functions that are not imported.
    types: Vec<u32>,
    /// Parameters of each type, where they and the only result are addresses.
    arities: Vec<Option<usize>>,
    /// Where the bodies are, in the module.
    code: Vec<&'a [u8]>,
}

impl<'a> Facts<'a> {
    fn read(module: &'a [u8]) -> Option<Self> {
        let mut facts = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TypeSection(groups) => {
                    for group in groups {
                        facts.arities.extend(group.ok()?.types().map(|ty| arity(&ty.composite_type.inner)));
                    }
                }
                Payload::ImportSection(imports) => {
                    for name in imported_functions(imports)? {
                        if let Some(operands) = name.strip_prefix("opa_builtin") {
                            facts.hosts.insert(operands.parse().ok()?, facts.imported);
                        }
                        facts.imported = facts.imported.checked_add(1)?;
                    }
                }
                Payload::FunctionSection(types) => {
                    for ty in types {
                        facts.types.push(ty.ok()?);
                    }
                }
                Payload::CodeSectionEntry(body) => facts.code.push(body.as_bytes()),
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        let names = function_names(names)?.into_iter();
                        facts.names.extend(names.map(|(function, name)| (name, function)));
                    }
                }
                _ => {}
            }
        }
        (facts.code.len() == facts.types.len()).then_some(facts)
    }

    /// The function of this name: its place among the bodies, and how many operands it takes.
    fn function(&self, name: &str) -> Option<(usize, usize)> {
        let place = usize::try_from(self.names.get(name)?.checked_sub(self.imported)?).ok()?;
        let ty = usize::try_from(*self.types.get(place)?).ok()?;
        Some((place, (*self.arities.get(ty)?)?))
    }

    /// New bodies by the place of the old ones.
    fn bodies(&self, corrections: &[Correction]) -> Option<Bodies> {
        let mut bodies = Bodies::new();
        for (id, correction) in (OWN_IDS..).zip(corrections) {
            let Some((place, operands)) = self.function(correction.function) else { continue };
            let host = match correction.own_code {
                OwnCode::Places => host_call(id, 1..2, *self.hosts.get(&1)?),
                _ => host_call(id, 0..operands, *self.hosts.get(&operands)?),
            };
            let body = match correction.own_code {
                OwnCode::Never => whole(&host),
                OwnCode::Integers => self.before(place, &unless(integer, 0..operands, &host))?,
                OwnCode::PlainAfterFirst => self.before(place, &unless(plain, 1..operands, &host))?,
                OwnCode::Defined => self.before(place, &where_defined(&host))?,
                OwnCode::Places => self.before(place, &with_places(&host))?,
            };
            bodies.insert(place, body);
        }
        let (place, operands) = self.function(ITERATOR)?;
        let host = host_call(ITERATE, 0..operands, *self.hosts.get(&operands)?);
        bodies.insert(place, self.before(place, &in_order(&host))?);
        Some(bodies)
    }

    /// The rules with these steps of references, each of which asks the host where it found nothing.
    fn rules_by_text(&self, lookups: &[Lookup]) -> Option<Bodies> {
        let host = *self.hosts.get(&2)?;
        let mut bodies = Bodies::new();
        for of_one in lookups.chunk_by(|one, next| one.function == next.function) {
            let Some(first) = of_one.first() else { continue };
            let place = usize::try_from(first.function.checked_sub(self.imported)?).ok()?;
            let old = *self.code.get(place)?;
            let (mut body, mut done): (Vec<u8>, usize) = (Vec::new(), 0);
            for lookup in of_one {
                body.extend(old.get(done..lookup.at)?);
                body.extend(asking(lookup, host));
                done = lookup.at;
            }
            body.extend(old.get(done..)?);
            bodies.insert(place, body);
        }
        Some(bodies)
    }

    /// The functions that have quicker code. All of them have to be there.
    fn quicker(&self) -> Option<Bodies> {
        let mut bodies = Bodies::new();
        for shortcut in &SHORTCUTS {
            let (place, operands) = self.function(shortcut.function)?;
            let old = self.code.get(place).filter(|_| operands == shortcut.operands)?;
            bodies.insert(place, shortcut.before(old)?);
        }
        Some(bodies)
    }

    /// The old body with this code before its own. A call of the old body would cost more than the code.
    fn before(&self, place: usize, code: &[u8]) -> Option<Vec<u8>> {
        let old = *self.code.get(place)?;
        let body = FunctionBody::new(BinaryReader::new(old, 0));
        let at = usize::try_from(body.get_operators_reader().ok()?.original_position()).ok()?;
        let (locals, own) = old.split_at_checked(at)?;
        Some([locals, code, own].concat())
    }
}

/// Bodies by the places of the functions.
type Bodies = BTreeMap<usize, Vec<u8>>;

fn arity(ty: &CompositeInnerType) -> Option<usize> {
    let CompositeInnerType::Func(function) = ty else { return None };
    let plain = function.params().iter().chain(function.results()).all(|ty| *ty == ValType::I32);
    (plain && function.results().len() == 1).then_some(function.params().len())
}

// === Code ===

/// `i32.const`.
fn constant(code: &mut Vec<u8>, value: i32) {
    code.push(0x41);
    let mut left = value;
    loop {
        let byte = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        let ends = (left == 0 && byte & 0x40 == 0) || (left == -1 && byte & 0x40 != 0);
        code.push(if ends { byte } else { byte | 0x80 });
        if ends {
            return;
        }
    }
}

/// An unsigned number in as few bytes as it needs.
fn unsigned(bytes: &mut Vec<u8>, value: usize) {
    let mut left = value;
    loop {
        let byte = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        bytes.push(if left == 0 { byte } else { byte | 0x80 });
        if left == 0 {
            return;
        }
    }
}

fn call(code: &mut Vec<u8>, function: u32) {
    code.push(0x10);
    unsigned(code, usize::try_from(function).unwrap_or_default());
}

/// Code that hands operands to the host and leaves what comes back.
fn host_call(id: i32, operands: Range<usize>, host: u32) -> Vec<u8> {
    let mut code = Vec::new();
    constant(&mut code, id);
    constant(&mut code, 0);
    for operand in operands {
        code.push(0x20); // local.get
        unsigned(&mut code, operand);
    }
    call(&mut code, host);
    code
}

/// A body without locals.
fn whole(code: &[u8]) -> Vec<u8> {
    [&[0x00], code, &[0x0b]].concat()
}

/// Where one of these operands is not as `is` says, the host.
fn unless(is: fn(usize) -> Vec<u8>, operands: Range<usize>, host: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    constant(&mut code, 1);
    for operand in operands {
        code.extend(is(operand));
        code.push(0x71); // i32.and
    }
    code.extend([0x45, 0x04, 0x40]); // i32.eqz, if
    code.extend(host);
    code.extend([0x0f, 0x0b]); // return, end
    code
}

/// Whether an operand has these two bytes for its type and how it is kept.
fn kept_as(operand: usize, kind: i32) -> Vec<u8> {
    let mut code = vec![0x20]; // local.get
    unsigned(&mut code, operand);
    code.extend([0x2f, 0x00, 0x00]); // i32.load16_u
    constant(&mut code, kind);
    code.push(0x46); // i32.eq
    code
}

/// Whether an operand is an integer of 64 bits.
fn integer(operand: usize) -> Vec<u8> {
    kept_as(operand, INTEGER)
}

/// Whether it is one, or a digit.
fn plain(operand: usize) -> Vec<u8> {
    let mut code = [integer(operand), digit(operand)].concat();
    code.push(0x72); // i32.or
    code
}

/// Whether an operand is a number that is kept as its text, which is one digit. That is how a rule has the numbers that are written in it, and
/// most of them are places in arrays.
fn digit(operand: usize) -> Vec<u8> {
    let mut code = kept_as(operand, REFERENCE);
    code.extend([0x04, 0x7f, 0x20]); // if with a result, local.get
    unsigned(&mut code, operand);
    code.extend([0x28, 0x02, NUMBER_LENGTH_OFFSET]); // i32.load
    constant(&mut code, 1);
    code.extend([0x46, 0x20]); // i32.eq, local.get
    unsigned(&mut code, operand);
    code.extend([0x28, 0x02, NUMBER_TEXT_OFFSET, 0x2d, 0x00, 0x00]); // i32.load, i32.load8_u
    constant(&mut code, i32::from(b'0'));
    code.push(0x6b); // i32.sub
    constant(&mut code, 10);
    code.extend([0x49, 0x71, 0x05]); // i32.lt_u, i32.and, else
    constant(&mut code, 0);
    code.push(0x0b); // end
    code
}

/// Where the host has no value, none.
fn where_defined(host: &[u8]) -> Vec<u8> {
    let mut code = host.to_vec();
    code.extend([0x45, 0x04, 0x40]); // i32.eqz, if
    constant(&mut code, 0);
    code.extend([0x0f, 0x0b]); // return, end
    code
}

/// For arrays, the place that the host makes of a number which is no integer of 64 bits, in the place of that number. Of a digit it would make
/// the same. No address is zero, and what stands there is no number.
fn with_places(host: &[u8]) -> Vec<u8> {
    let mut code = kept_as(1, REFERENCE);
    code.extend([0x04, 0x40]); // if
    code.extend([0x20, 0x00, 0x2d, 0x00, 0x00]); // local.get 0, i32.load8_u
    constant(&mut code, ARRAY);
    code.extend([0x46, 0x04, 0x40]); // i32.eq, if
    code.extend(digit(1));
    code.extend([0x45, 0x04, 0x40]); // i32.eqz, if
    code.extend(host);
    code.extend([0x21, 0x01, 0x0b, 0x0b, 0x0b]); // local.set 1, and three ends
    code
}

/// For objects and sets of two items or more, the host.
fn in_order(host: &[u8]) -> Vec<u8> {
    let mut code = vec![0x20, 0x00, 0x04, 0x40]; // local.get 0, if
    code.extend([0x20, 0x00, 0x2d, 0x00, 0x00]); // i32.load8_u
    constant(&mut code, OBJECT);
    code.push(0x6b); // i32.sub
    constant(&mut code, 2);
    code.extend([0x49, 0x04, 0x40]); // i32.lt_u, if
    code.extend([0x20, 0x00, 0x28, 0x02, LENGTH_OFFSET]); // i32.load
    constant(&mut code, 1);
    code.extend([0x4b, 0x04, 0x40]); // i32.gt_u, if
    code.extend(host);
    code.extend([0x0f, 0x0b, 0x0b, 0x0b]); // return, and three ends
    code
}

/// `local.get`, `local.set` and `local.tee`.
const GET: u8 = 0x20;
const SET: u8 = 0x21;
const TEE: u8 = 0x22;

fn local(code: &mut Vec<u8>, instruction: u8, number: u32) {
    code.push(instruction);
    unsigned(code, usize::try_from(number).unwrap_or_default());
}

/// The code that asks the host at a step of a reference.
fn asking(lookup: &Lookup, host: u32) -> Vec<u8> {
    let mut key = Vec::new();
    match lookup.key {
        Key::Local(number) => local(&mut key, GET, number),
        Key::Constant(address) => constant(&mut key, address),
    }
    let mut question = Vec::new();
    constant(&mut question, if lookup.is_certain { BY_TEXT } else { PERHAPS_BY_TEXT });
    constant(&mut question, 0);
    local(&mut question, GET, lookup.source);
    question.extend(&key);
    call(&mut question, host);
    match lookup.target {
        Some(target) => otherwise((lookup.source, target), &key, &question),
        None => if_number(&key, &question),
    }
}

/// What was found is on the stack. Where it is nothing, and the types are those of an object and a number or of an array and a text, what
/// the host finds. The target holds both types for a while.
fn otherwise((source, target): (u32, u32), key: &[u8], question: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    local(&mut code, TEE, target);
    code.extend([0x45, 0x04, 0x40]); // i32.eqz, if
    local(&mut code, GET, source);
    code.extend([0x2d, 0x00, 0x00]); // i32.load8_u
    constant(&mut code, 4);
    code.push(0x74); // i32.shl
    code.extend(key);
    code.extend([0x2d, 0x00, 0x00, 0x72]); // i32.load8_u, i32.or
    local(&mut code, SET, target);
    constant(&mut code, 0);
    for types in [(OBJECT << 4) | NUMBER, (ARRAY << 4) | TEXT, (ARRAY << 4) | TEXT_IN_MODULE] {
        local(&mut code, GET, target);
        constant(&mut code, types);
        code.extend([0x46, 0x72]); // i32.eq, i32.or
    }
    code.extend([0x04, 0x7f]); // if with a result
    code.extend(question);
    code.push(0x05); // else
    constant(&mut code, 0);
    code.push(0x0b); // end
    local(&mut code, SET, target);
    code.push(0x0b); // end
    local(&mut code, GET, target);
    code
}

/// Where the key is a number, the host, which has to say nothing.
fn if_number(key: &[u8], question: &[u8]) -> Vec<u8> {
    let mut code = key.to_vec();
    code.extend([0x2d, 0x00, 0x00]); // i32.load8_u
    constant(&mut code, NUMBER);
    code.extend([0x46, 0x04, 0x40]); // i32.eq, if
    code.extend(question);
    code.extend([0x1a, 0x0b]); // drop, end
    code
}

// === Sections ===

const CODE_SECTION: u8 = 10;
const HEADER: usize = 8;

fn write(module: &[u8], bodies: &Bodies, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let (header, mut rest) = module.split_at_checked(HEADER)?;
    let mut written = header.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = read_unsigned(after)?;
        let (content, after) = after.split_at_checked(length)?;
        let content = match *id {
            CODE_SECTION => code_section(facts, bodies),
            _ => content.to_vec(),
        };
        written.push(*id);
        unsigned(&mut written, content.len());
        written.extend(content);
        rest = after;
    }
    Some(written)
}

fn read_unsigned(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (mut value, mut rest) = (0_usize, bytes);
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        value |= usize::from(byte & 0x7f) << shift;
        rest = after;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

fn code_section(facts: &Facts<'_>, bodies: &Bodies) -> Vec<u8> {
    let mut content = Vec::new();
    unsigned(&mut content, facts.code.len());
    for (place, old) in facts.code.iter().enumerate() {
        let body = bodies.get(&place).map_or(*old, Vec::as_slice);
        unsigned(&mut content, body.len());
        content.extend(body);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::super::shortcuts::text_hash;
    use super::*;

    #[test]
    fn the_baseline_is_rewritten_and_still_valid() {
        let module = include_bytes!("../../policies/baseline/policy.wasm");
        for (strict, keys, is_built_in) in [
            (false, DataKeys::Exact, true),
            (true, DataKeys::Exact, true),
            (false, DataKeys::Text, true),
            (false, DataKeys::Exact, false),
        ] {
            let rewritten = rewrite(module, strict, keys, is_built_in);
            assert!(rewritten.named && rewritten.module.len() != module.len());
            wasmparser::Validator::new().validate_all(&rewritten.module).unwrap();
            assert_eq!(rewritten.functions.len(), corrections(strict).len());
        }
    }

    #[test]
    fn what_is_no_module_of_opas_stays_as_it_is() {
        let module = include_bytes!("../../policies/baseline/policy.wasm");
        let other = wat::parse_str("(module (func))").unwrap();
        for case in [&b""[..], b"\0asm", &other, module.get(..module.len() / 2).unwrap()] {
            let rewritten = rewrite(case, false, DataKeys::Text, true);
            assert_eq!((rewritten.module.as_slice(), rewritten.named), (case, false));
        }
    }

    /// A rule that looks into the data twice, by a local and by a text, between other code.
    const RULE: &str = r#"(module
        (import "env" "opa_builtin1" (func (param i32 i32 i32) (result i32)))
        (import "env" "opa_builtin2" (func (param i32 i32 i32 i32) (result i32)))
        (memory 1)
        (data (i32.const 48) "\08\00\00\00\01\00\00\00\3c\00\00\007")
        (func $opa_value_iter (param i32 i32) (result i32) i32.const 0)
        (func $opa_value_get (param i32 i32) (result i32) i32.const 0)
        (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32 i32 i32)
            block
                local.get 1 local.get 4 call $opa_value_get local.tee 2 i32.eqz br_if 0
                local.get 2 i32.const 48 call $opa_value_get local.tee 3 i32.eqz br_if 0
            end
            local.get 3))"#;

    #[test]
    fn steps_of_references_ask_the_host_where_the_data_may_have_an_item() {
        let module = wat::parse_str(RULE).unwrap();
        let rule = |keys| {
            let rewritten = rewrite(&module, false, keys, false);
            assert!(rewritten.named);
            wasmparser::Validator::new().validate_all(&rewritten.module).unwrap();
            let facts = Facts::read(&rewritten.module).unwrap();
            facts.code.last().unwrap().to_vec()
        };
        let (as_it_was, by_text) = (rule(DataKeys::Exact), rule(DataKeys::Text));
        assert_eq!(as_it_was, Facts::read(&module).unwrap().code.last().unwrap().to_vec());
        let asked = |body: &[u8]| {
            let mut question = Vec::new();
            constant(&mut question, BY_TEXT);
            body.windows(question.len()).filter(|part| *part == question.as_slice()).count()
        };
        assert_eq!((asked(&as_it_was), asked(&by_text)), (0, 2));
    }

    #[test]
    fn each_of_many_references_in_two_rules_asks_the_host_once() {
        const COUNT: usize = 5_000;
        let step = "local.get 1 local.get 4 call $opa_value_get local.tee 2 drop ".repeat(COUNT);
        let text = RULE.replace("            block\n", &format!("            {step} block\n"));
        let second = format!(
            "(func $g0.data.wasmgate.other (param i32 i32) (result i32) (local i32 i32 i32) {step} local.get 3))"
        );
        let module = wat::parse_str(text.strip_suffix(')').unwrap().to_string() + &second).unwrap();
        let rewritten = rewrite(&module, false, DataKeys::Text, false);
        wasmparser::Validator::new().validate_all(&rewritten.module).unwrap();
        let mut question = Vec::new();
        constant(&mut question, BY_TEXT);
        let asked =
            |body: &&[u8]| body.windows(question.len()).filter(|part| *part == question.as_slice()).count();
        let facts = Facts::read(&rewritten.module).unwrap();
        let counts: Vec<_> = facts.code.iter().map(asked).collect();
        assert!(counts.ends_with(&[COUNT + 2, COUNT]), "{counts:?}");
    }

    /// Functions with code of their own: of a value that is no text the one says 0, and the other says how many bytes it is given.
    const LIBRARY: &str = r#"(module
        (import "env" "opa_builtin1" (func (param i32 i32 i32) (result i32)))
        (import "env" "opa_builtin2" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $opa_value_iter (param i32 i32) (result i32) i32.const 0)
        (func $opa_value_hash (export "hash") (param i32) (result i32) (local f64 i32) local.get 2)
        (func $opa_strncmp (export "compare") (param i32 i32 i32) (result i32) (local i64) local.get 2))"#;

    #[test]
    fn quicker_code_hashes_texts_as_the_host_does_and_compares_many_bytes_at_once() {
        let library = wat::parse_str(LIBRARY).unwrap();
        let rewritten = rewrite(&library, false, DataKeys::Exact, true);
        assert!(rewritten.named);
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, &rewritten.module).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let mut linker = wasmtime::Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let hash = instance.get_typed_func::<u32, u32>(&mut store, "hash").unwrap();
        let compare = instance.get_typed_func::<(u32, u32, u32), u32>(&mut store, "compare").unwrap();
        let text: Vec<u8> = (1..=40).map(|byte: u8| byte.wrapping_mul(97)).collect();
        let end = memory.data_size(&store);
        for length in 0..=text.len() {
            // The last bytes of the memory: to read more is a trap.
            let place = end - length;
            memory.write(&mut store, place, &text[..length]).unwrap();
            for kind in [4, 8] {
                let words = [kind, u32::try_from(length).unwrap(), u32::try_from(place).unwrap()];
                memory.write(&mut store, 0, words.map(u32::to_le_bytes).as_flattened()).unwrap();
                assert_eq!(hash.call(&mut store, 0).unwrap(), text_hash(&text[..length]), "{length}");
            }
        }
        for other in [1, 2, 3, 5, 6, 7, 9] {
            memory.write(&mut store, 0, &[other]).unwrap();
            assert_eq!(hash.call(&mut store, 0).unwrap(), 0, "{other}");
        }
        // How many bytes there are, the first that differs, and how many are left.
        for (length, differs, left) in [
            (0, 0, 0),
            (3, 3, 3),
            (4, 4, 0),
            (7, 7, 3),
            (8, 8, 0),
            (9, 9, 1),
            (20, 20, 0),
            (20, 10, 12),
            (20, 13, 8),
        ] {
            memory.write(&mut store, 101, &text).unwrap();
            memory.write(&mut store, end - length, &text[..length]).unwrap();
            memory.write(&mut store, 101 + differs, b"?").unwrap();
            let operands = [101, end - length, length].map(|word| u32::try_from(word).unwrap());
            assert_eq!(compare.call(&mut store, operands.into()).unwrap(), left, "{length} {differs}");
        }
    }
}
