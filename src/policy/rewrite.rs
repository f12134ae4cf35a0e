//! Rewrites a compiled policy before it is used: the functions of OPA's library that compute otherwise than OPA's interpreter
//! get bodies that call the host, and the items of sets and objects are gone through in their order, as the interpreter
//! does. It works on every module of OPA's compiler, also on those of others: the functions are found by their names.

use std::collections::BTreeMap;

use wasmparser::{CompositeInnerType, KnownCustom, Name, Parser, Payload, TypeRef, ValType};

use crate::rego::{Builtin, CORRECTED, OwnCode};

/// Numbers of host functions from here on are not the module's own.
const OWN_IDS: i32 = 1 << 20;
/// What asks the host for the next item of a set or object.
pub(super) const ITERATE: i32 = OWN_IDS - 1;
/// The function of OPA's library that goes through arrays, objects and sets.
const ITERATOR: &str = "opa_value_iter";
/// Type byte and representation byte of a number that is an integer of 64 bits (`open-policy-agent/opa:wasm/src/value.h`).
const INTEGER: i32 = 0x0103;
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

/// Rewrites a module. One that is not readable stays as it is: the compiler will say why.
pub(super) fn rewrite(module: &[u8]) -> Rewritten {
    let functions = (OWN_IDS..).zip(CORRECTED).map(|(id, correction)| (id, correction.builtin)).collect();
    let facts = Facts::read(module);
    let named = facts.as_ref().is_some_and(|facts| facts.names.contains_key(ITERATOR));
    let rewritten = facts.filter(|_| named).and_then(|facts| write(module, &facts.bodies()?, &facts));
    let named = rewritten.is_some();
    Rewritten { module: rewritten.unwrap_or_else(|| module.to_vec()), functions, named }
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

    /// New bodies by the place of the old ones; those that go on calling the old one are given its new number.
    fn bodies(&self) -> Option<Bodies> {
        let mut bodies = Bodies { changed: BTreeMap::new(), kept: Vec::new() };
        for (id, correction) in (OWN_IDS..).zip(CORRECTED) {
            let Some((place, operands)) = self.function(correction.function) else { continue };
            let host = host_call(id, operands, *self.hosts.get(&operands)?)?;
            let body = match correction.own_code {
                OwnCode::Never => host,
                OwnCode::Integers => unless_integers(operands, self.keep(&mut bodies, place)?, &host),
                OwnCode::Defined => where_defined(operands, self.keep(&mut bodies, place)?, &host),
            };
            bodies.changed.insert(place, body);
        }
        let (place, operands) = self.function(ITERATOR)?;
        let host = host_call(ITERATE, operands, *self.hosts.get(&operands)?)?;
        let body = in_order(self.keep(&mut bodies, place)?, &host);
        bodies.changed.insert(place, body);
        Some(bodies)
    }

    /// Gives the old body a number behind all others.
    fn keep(&self, bodies: &mut Bodies, place: usize) -> Option<u32> {
        let number = self.types.len().checked_add(bodies.kept.len())?;
        bodies.kept.push(place);
        self.imported.checked_add(u32::try_from(number).ok()?)
    }
}

struct Bodies {
    changed: BTreeMap<usize, Vec<u8>>,
    /// Places of the old bodies that are still called.
    kept: Vec<usize>,
}

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

/// `local.get` of each operand.
fn operands(code: &mut Vec<u8>, count: usize) {
    for operand in 0..count {
        code.push(0x20);
        unsigned(code, operand);
    }
}

/// A body that hands its operands to the host and returns what comes back. It has no locals of its own and no `end`.
fn host_call(id: i32, count: usize, host: u32) -> Option<Vec<u8>> {
    let mut code = vec![0x00];
    constant(&mut code, id);
    constant(&mut code, 0);
    operands(&mut code, count);
    call(&mut code, host);
    (count > 0).then_some(code)
}

/// Where the operands are integers of 64 bits, the old body; where one is not, the host.
fn unless_integers(count: usize, old: u32, host: &[u8]) -> Vec<u8> {
    let mut code = vec![0x00];
    constant(&mut code, 1);
    for operand in 0..count {
        code.push(0x20);
        unsigned(&mut code, operand);
        code.extend([0x2f, 0x00, 0x00]); // i32.load16_u
        constant(&mut code, INTEGER);
        code.extend([0x46, 0x71]); // i32.eq, i32.and
    }
    code.extend([0x04, 0x7f]); // if (result i32)
    operands(&mut code, count);
    call(&mut code, old);
    code.push(0x05); // else
    code.extend(host.iter().skip(1));
    code.push(0x0b);
    code
}

/// Where the host has no value, none; elsewhere the old body.
fn where_defined(count: usize, old: u32, host: &[u8]) -> Vec<u8> {
    let mut code = host.to_vec();
    code.extend([0x45, 0x04, 0x40]); // i32.eqz, if
    constant(&mut code, 0);
    code.extend([0x0f, 0x0b]); // return, end
    operands(&mut code, count);
    call(&mut code, old);
    code
}

/// For objects and sets of two items or more, the host; for anything else, the old body.
fn in_order(old: u32, host: &[u8]) -> Vec<u8> {
    let mut code = vec![0x00, 0x20, 0x00, 0x04, 0x40]; // local.get 0, if
    code.extend([0x20, 0x00, 0x2d, 0x00, 0x00]); // i32.load8_u
    constant(&mut code, OBJECT);
    code.push(0x6b); // i32.sub
    constant(&mut code, 2);
    code.extend([0x49, 0x04, 0x40]); // i32.lt_u, if
    code.extend([0x20, 0x00, 0x28, 0x02, LENGTH_OFFSET]); // i32.load
    constant(&mut code, 1);
    code.extend([0x4b, 0x04, 0x40]); // i32.gt_u, if
    code.extend(host.iter().skip(1));
    code.extend([0x0f, 0x0b, 0x0b, 0x0b]); // return, and three ends
    operands(&mut code, 2);
    call(&mut code, old);
    code
}

// === Sections ===

const FUNCTION_SECTION: u8 = 3;
const CODE_SECTION: u8 = 10;
const HEADER: usize = 8;

fn write(module: &[u8], bodies: &Bodies, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let (header, mut rest) = module.split_at_checked(HEADER)?;
    let mut written = header.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = read_unsigned(after)?;
        let (content, after) = after.split_at_checked(length)?;
        let content = match *id {
            FUNCTION_SECTION => function_section(facts, bodies)?,
            CODE_SECTION => code_section(facts, bodies)?,
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

fn function_section(facts: &Facts<'_>, bodies: &Bodies) -> Option<Vec<u8>> {
    let kept = bodies.kept.iter().map(|place| facts.types.get(*place)).collect::<Option<Vec<_>>>()?;
    let mut content = Vec::new();
    unsigned(&mut content, facts.types.len().checked_add(kept.len())?);
    for ty in facts.types.iter().chain(kept) {
        unsigned(&mut content, usize::try_from(*ty).ok()?);
    }
    Some(content)
}

fn code_section(facts: &Facts<'_>, bodies: &Bodies) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    unsigned(&mut content, facts.code.len().checked_add(bodies.kept.len())?);
    for (place, old) in facts.code.iter().enumerate() {
        match bodies.changed.get(&place) {
            Some(changed) => {
                unsigned(&mut content, changed.len().checked_add(1)?);
                content.extend(changed);
                content.push(0x0b);
            }
            None => push_body(&mut content, old),
        }
    }
    for place in &bodies.kept {
        push_body(&mut content, facts.code.get(*place)?);
    }
    Some(content)
}

fn push_body(content: &mut Vec<u8>, body: &[u8]) {
    unsigned(content, body.len());
    content.extend(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_rewritten_and_still_valid() {
        let module = include_bytes!("../../policies/baseline/policy.wasm");
        let rewritten = rewrite(module);
        assert!(rewritten.named && rewritten.module.len() != module.len());
        wasmparser::Validator::new().validate_all(&rewritten.module).unwrap();
        assert_eq!(rewritten.functions.len(), CORRECTED.len());
    }

    #[test]
    fn what_is_no_module_of_opas_stays_as_it_is() {
        let module = include_bytes!("../../policies/baseline/policy.wasm");
        let other = wat::parse_str("(module (func))").unwrap();
        for case in [&b""[..], b"\0asm", &other, module.get(..module.len() / 2).unwrap()] {
            let rewritten = rewrite(case);
            assert_eq!((rewritten.module.as_slice(), rewritten.named), (case, false));
        }
    }
}
