//! Proposals of WebAssembly that a binary needs beyond version 2.0, recognised by its types and by what it declares. One that shows in
//! instructions alone, such as wide arithmetic, is not recognised, since function bodies are not read.

use std::collections::BTreeSet;

use wasmparser::{
    AbstractHeapType, CompositeInnerType, CoreType, ElementItems, HeapType, MemoryType, Payload, RecGroup,
    RefType, SubType, TableInit, TableType, TypeRef, ValType,
};

use super::super::Feature;
use crate::image::malformed::Malformed;

/// Adds what a section of a core module needs: what the validator refuses where a proposal is off
/// (`wasmparser:src/validator/core.rs`, `src/validator/core/canonical.rs`; `src/validator.rs`, `check_ref_type`). The section is read once
/// more for that, whose size was counted before, and nothing of it is kept.
pub(super) fn note(payload: &Payload<'_>, found: &mut BTreeSet<Feature>) -> Result<(), Malformed> {
    match payload {
        Payload::TypeSection(section) => {
            for group in section.clone() {
                of_group(&group?, found);
            }
        }
        Payload::ImportSection(section) => {
            for import in section.clone().into_imports() {
                of_import(import?.ty, found);
            }
        }
        Payload::TableSection(section) => {
            for table in section.clone() {
                let table = table?;
                of_table(&table.ty, found);
                if matches!(table.init, TableInit::Expr(_)) {
                    found.insert(Feature::FunctionReferences);
                }
            }
        }
        Payload::MemorySection(section) => {
            for memory in section.clone() {
                of_memory(&memory?, found);
            }
        }
        Payload::GlobalSection(section) => {
            for global in section.clone() {
                of_value(global?.ty.content_type, found);
            }
        }
        Payload::TagSection(_) => {
            found.insert(Feature::ExceptionHandling);
        }
        Payload::ElementSection(section) => {
            for element in section.clone() {
                if let ElementItems::Expressions(ty, _) = element?.items {
                    of_reference(ty, found);
                }
            }
        }
        Payload::CoreTypeSection(section) => {
            for ty in section.clone() {
                if let CoreType::Rec(group) = ty? {
                    of_group(&group, found);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn of_import(ty: TypeRef, found: &mut BTreeSet<Feature>) {
    match ty {
        TypeRef::Table(table) => of_table(&table, found),
        TypeRef::Memory(memory) => of_memory(&memory, found),
        TypeRef::Global(global) => of_value(global.content_type, found),
        TypeRef::Tag(_) => {
            found.insert(Feature::ExceptionHandling);
        }
        TypeRef::Func(_) | TypeRef::FuncExact(_) => {}
    }
}

fn of_memory(memory: &MemoryType, found: &mut BTreeSet<Feature>) {
    if memory.memory64 {
        found.insert(Feature::Memory64);
    }
    if memory.page_size_log2.is_some() {
        found.insert(Feature::CustomPageSizes);
    }
}

fn of_table(table: &TableType, found: &mut BTreeSet<Feature>) {
    if table.table64 {
        found.insert(Feature::Memory64);
    }
    of_reference(table.element_type, found);
}

fn of_group(group: &RecGroup, found: &mut BTreeSet<Feature>) {
    if group.is_explicit_rec_group() {
        found.insert(Feature::GarbageCollection);
    }
    for ty in group.types() {
        of_type(ty, found);
    }
}

fn of_type(ty: &SubType, found: &mut BTreeSet<Feature>) {
    if !ty.is_final || !ty.supertype_idxs.is_empty() {
        found.insert(Feature::GarbageCollection);
    }
    match &ty.composite_type.inner {
        CompositeInnerType::Func(function) => {
            for value in function.params().iter().chain(function.results()) {
                of_value(*value, found);
            }
        }
        CompositeInnerType::Array(_) | CompositeInnerType::Struct(_) => {
            found.insert(Feature::GarbageCollection);
        }
        CompositeInnerType::Cont(_) => {
            found.insert(Feature::StackSwitching);
        }
    }
}

fn of_value(value: ValType, found: &mut BTreeSet<Feature>) {
    if let ValType::Ref(reference) = value {
        of_reference(reference, found);
    }
}

/// `funcref` and `externref` are in version 2.0.
fn of_reference(reference: RefType, found: &mut BTreeSet<Feature>) {
    let proposal = match reference.heap_type() {
        HeapType::Abstract { ty: AbstractHeapType::Func | AbstractHeapType::Extern, .. }
            if reference.is_nullable() =>
        {
            return;
        }
        HeapType::Abstract { ty: AbstractHeapType::Func | AbstractHeapType::Extern, .. }
        | HeapType::Concrete(_)
        | HeapType::Exact(_) => Feature::FunctionReferences,
        HeapType::Abstract { ty: AbstractHeapType::Exn | AbstractHeapType::NoExn, .. } => {
            Feature::ExceptionHandling
        }
        HeapType::Abstract { ty: AbstractHeapType::Cont | AbstractHeapType::NoCont, .. } => {
            Feature::StackSwitching
        }
        HeapType::Abstract { .. } => Feature::GarbageCollection,
    };
    found.insert(proposal);
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn needs(text: &str) -> BTreeSet<Feature> {
        read(&wat::parse_str(text).unwrap(), "test").unwrap().features
    }

    #[test]
    fn each_proposal_shows_in_what_a_module_declares() {
        use Feature::{
            CustomPageSizes, ExceptionHandling, FunctionReferences, GarbageCollection, Memory64,
            SharedMemory, StackSwitching,
        };
        for (declared, expected) in [
            ("(tag)", vec![ExceptionHandling]),
            (r#"(import "env" "thrown" (tag (param i32)))"#, vec![ExceptionHandling]),
            ("(global exnref (ref.null exn))", vec![ExceptionHandling]),
            ("(type (struct))", vec![GarbageCollection]),
            ("(type (array i8))", vec![GarbageCollection]),
            ("(rec (type (func)))", vec![GarbageCollection]),
            ("(type (sub (func)))", vec![GarbageCollection]),
            ("(func (param i31ref))", vec![GarbageCollection]),
            ("(func (result anyref) unreachable)", vec![GarbageCollection]),
            ("(table 1 eqref)", vec![GarbageCollection]),
            ("(type $f (func)) (global (ref null $f) (ref.null $f))", vec![FunctionReferences]),
            ("(func (param (ref extern)))", vec![FunctionReferences]),
            ("(table 1 funcref (ref.null func))", vec![FunctionReferences]),
            ("(func $f) (elem declare (ref func) (ref.func $f))", vec![FunctionReferences]),
            ("(elem exnref (ref.null exn))", vec![ExceptionHandling]),
            ("(type $f (func)) (type (cont $f))", vec![StackSwitching]),
            (r#"(import "env" "m" (memory 8 (pagesize 1)))"#, vec![CustomPageSizes]),
            ("(memory i64 1)", vec![Memory64]),
            ("(table i64 1 funcref)", vec![Memory64]),
            ("(memory i64 1 2 shared)", vec![SharedMemory, Memory64]),
        ] {
            let expected: BTreeSet<Feature> = expected.into_iter().collect();
            assert_eq!(needs(&format!("(module {declared})")), expected, "{declared}");
            assert_eq!(needs(&format!("(component (core module {declared}))")), expected, "{declared}");
        }
    }

    #[test]
    fn what_else_a_module_declares_needs_no_proposal() {
        for declared in [
            "(memory 1) (memory 1)",
            "(table 1 funcref) (table 1 externref)",
            "(func (param externref funcref) (result i32 i64) unreachable)",
            "(global funcref (ref.null func)) (global i32 (i32.add (i32.const 1) (i32.const 2)))",
            "(func $f) (elem declare func $f) (elem funcref (ref.func $f) (ref.null func))",
            "(func (param v128) (result v128) local.get 0)",
        ] {
            assert_eq!(needs(&format!("(module {declared})")), BTreeSet::new(), "{declared}");
        }
    }

    /// The types of a component itself.
    #[test]
    fn a_proposal_shows_in_the_core_types_of_a_component() {
        let component = needs("(component (core type (struct)))");
        assert_eq!(component, [Feature::GarbageCollection].into());
    }

    /// No engine here takes them, and no feature speaks of them.
    #[test]
    fn what_no_engine_runs_is_not_read() {
        let refused = |bytes: &[u8]| read(bytes, "test").unwrap_err().0;
        let exact = wat::parse_str("(module (type $f (func)) (func (param (ref (exact $f)))))").unwrap();
        assert!(refused(&exact).contains("custom descriptors"), "{}", refused(&exact));
        let wide = r#"(component (core module $m (memory (export "m") i64 1) (func (export "f") (param i64 i64)))
            (core instance $i (instantiate $m)) (alias core export $i "m" (core memory $memory))
            (func (param "a" string) (canon lift (core func $i "f") (memory $memory))))"#;
        let wide = wat::parse_str(wide).unwrap();
        assert!(refused(&wide).contains("64-bit") || refused(&wide).contains("memory"), "{}", refused(&wide));
    }
}
