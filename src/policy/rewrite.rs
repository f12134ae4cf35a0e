//! Rewrites a compiled policy before it is used: the functions of OPA's library that compute otherwise than OPA's interpreter
//! get bodies that call the host, and the items of sets and objects are gone through in their order, as the interpreter
//! does. It works on every module of OPA's compiler, also on those of others: the functions are found by their names.

use std::collections::BTreeMap;
use std::ops::Range;

use wasmparser::{
    BinaryReader, CompositeInnerType, FunctionBody, KnownCustom, Name, Parser, Payload, TypeRef, ValType,
};

use crate::rego::{Builtin, Correction, OwnCode, corrections};

/// Numbers of host functions from here on are not the module's own.
const OWN_IDS: i32 = 1 << 20;
/// What asks the host for the next item of a set or object.
pub(super) const ITERATE: i32 = OWN_IDS - 1;
/// The function of OPA's library that goes through arrays, objects and sets.
const ITERATOR: &str = "opa_value_iter";
/// Type byte and representation byte of a number that is an integer of 64 bits (`open-policy-agent/opa:wasm/src/value.h`).
const INTEGER: i32 = 0x0103;
/// The same of a number that is kept as its text.
const REFERENCE: i32 = 0x0203;
/// Type byte of arrays.
const ARRAY: i32 = 5;
/// Type bytes of objects and of sets, which follow on one another.
const OBJECT: i32 = 6;
/// Where an object or a set has the number of its items.
const LENGTH_OFFSET: u8 = 12;

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

/// Rewrites a module, so that the host sees every error in `strict` mode. One that is not readable stays as it is: the compiler will say
/// why.
pub(super) fn rewrite(module: &[u8], strict: bool) -> Rewritten {
    let corrections = corrections(strict);
    let functions = (OWN_IDS..).zip(&corrections).map(|(id, correction)| (id, correction.builtin)).collect();
    let facts = Facts::read(module);
    let named = facts.as_ref().is_some_and(|facts| facts.names.contains_key(ITERATOR));
    let rewritten = facts.filter(|_| named).and_then(|facts| {
        let bodies = facts.bodies(&corrections)?;
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
                    for import in imports.into_imports() {
                        let import = import.ok()?;
                        if matches!(import.ty, TypeRef::Func(_)) {
                            if let Some(operands) = import.name.strip_prefix("opa_builtin") {
                                facts.hosts.insert(operands.parse().ok()?, facts.imported);
                            }
                            facts.imported = facts.imported.checked_add(1)?;
                        }
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
                        facts.names.extend(function_names(names)?);
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
                OwnCode::Integers => self.before(place, &unless_integers(operands, &host))?,
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

fn function_names(section: wasmparser::NameSectionReader<'_>) -> Option<Vec<(&str, u32)>> {
    let mut all = Vec::new();
    for part in section {
        if let Name::Function(names) = part.ok()? {
            for naming in names {
                let naming = naming.ok()?;
                all.push((naming.name, naming.index));
            }
        }
    }
    Some(all)
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

/// Where an operand is no integer of 64 bits, the host.
fn unless_integers(count: usize, host: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    constant(&mut code, 1);
    for operand in 0..count {
        code.push(0x20);
        unsigned(&mut code, operand);
        code.extend([0x2f, 0x00, 0x00]); // i32.load16_u
        constant(&mut code, INTEGER);
        code.extend([0x46, 0x71]); // i32.eq, i32.and
    }
    code.extend([0x45, 0x04, 0x40]); // i32.eqz, if
    code.extend(host);
    code.extend([0x0f, 0x0b]); // return, end
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

/// For arrays, the place that the host makes of a number which is no integer of 64 bits, in the place of that number. No address is
/// zero, and what stands there is no number.
fn with_places(host: &[u8]) -> Vec<u8> {
    let mut code = vec![0x20, 0x01, 0x2f, 0x00, 0x00]; // local.get 1, i32.load16_u
    constant(&mut code, REFERENCE);
    code.extend([0x46, 0x04, 0x40]); // i32.eq, if
    code.extend([0x20, 0x00, 0x2d, 0x00, 0x00]); // local.get 0, i32.load8_u
    constant(&mut code, ARRAY);
    code.extend([0x46, 0x04, 0x40]); // i32.eq, if
    code.extend(host);
    code.extend([0x21, 0x01, 0x0b, 0x0b]); // local.set 1, and two ends
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
    use super::*;

    #[test]
    fn the_baseline_is_rewritten_and_still_valid() {
        let module = include_bytes!("../../policies/baseline/policy.wasm");
        for strict in [false, true] {
            let rewritten = rewrite(module, strict);
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
            let rewritten = rewrite(case, false);
            assert_eq!((rewritten.module.as_slice(), rewritten.named), (case, false));
        }
    }
}
