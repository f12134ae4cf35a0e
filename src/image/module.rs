//! Reads a module or component: imports, exports, and sizes of code, data, memory and tables.
//!
//! Sections and types are validated, but function bodies are not: a verdict depends on the imports, which are in the
//! sections. Validating 18 MB of bodies would cost more than the rest of the look-up, and a module with a bad body
//! fails in its own runtime.

mod features;
mod memory;
mod proposals;
mod tables;
mod units;

pub(super) use features::is_http_0_3;
pub use tables::MAX_TABLES;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use wasmparser::component_types::{ComponentEntityType, ComponentInstanceTypeId};
use wasmparser::types::Types;
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    CompositeInnerType, Encoding, Instance, MemoryType, Parser, Payload, TableType, TypeRef, ValidPayload,
    Validator, WasmFeatures,
};

use super::interpreter::Signs;
use super::magic::{Magic, magic};
use super::malformed::Malformed;
use super::size;
use super::{Defined, Feature, Import, ModuleFacts, WasmFormat};
use features::wasi_0_3;
use memory::Pages;
use tables::Tables;
use units::{Frame, Unit, most_defined, total};

/// Most bytes of `.wat` text that are parsed, each of which becomes some two hundred in memory.
pub const MAX_TEXT: usize = 128 << 10;
/// Most bytes that the names of imports and exports take that are kept of one binary; those of Wasmtime's whole `wasi:cli` world
/// take about 64 KiB. A few bytes can name the same large instance type again and again.
const MAX_NAMES: usize = 4 << 20;
/// Deepest nesting of units. Toolchains nest fewer than ten. Every level is read again by each one around it, so the
/// work would grow with the square of the depth.
const MAX_NESTED: usize = 100;

/// Custom sections with machine code that some runtime maps and runs (`NativeWay::Section` of its file below `runtime`).
const MACHINE_CODE: &[(&str, Feature)] = &[("wasmedge", Feature::WasmedgeMachineCode)];

/// What a custom section of this name carries for the runtime that runs it.
pub fn machine_code(section: &str) -> Option<Feature> {
    MACHINE_CODE.iter().find(|(name, _)| *name == section).map(|(_, feature)| *feature)
}

/// Reads a binary. `source` says where it came from: a layer digest or a path.
pub fn read(bytes: &[u8], source: &str) -> Result<ModuleFacts, Malformed> {
    read_until(bytes, source, &AtomicBool::new(false))
}

/// [`read`] that stops at the next section once `stop` is set, because the look-up was given up.
pub fn read_until(bytes: &[u8], source: &str, stop: &AtomicBool) -> Result<ModuleFacts, Malformed> {
    if magic(bytes) != Magic::Wasm {
        return Err(Malformed::new(
            "it does not begin with `\\0asm`; a Wasm module or component is expected",
        ));
    }
    let (walk, types) = walk(bytes, stop)?;
    walk.facts(&types, source, bytes.len())
}

/// All proposals but three that no engine runs and no message tells of (`wasmtime:crates/wasmtime/src/config.rs` at 48.0.0: the first alone, if asked for).
const FEATURES: WasmFeatures = WasmFeatures::all()
    .difference(WasmFeatures::CM64)
    .difference(WasmFeatures::CUSTOM_DESCRIPTORS)
    .difference(WasmFeatures::COMPACT_IMPORTS);

fn walk(bytes: &[u8], stop: &AtomicBool) -> Result<(Walk, Types), Malformed> {
    let mut walk = Walk::default();
    let mut validator = Validator::new_with_features(FEATURES);
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    let mut tables = Tables::default();
    let mut types = None;
    for payload in parser.parse_all(bytes) {
        if stop.load(Ordering::Relaxed) {
            return Err(Malformed::new("reading it was given up"));
        }
        let payload = payload?;
        // Before the validator, which would follow any depth, and keeps all that it reads.
        walk.check_depth()?;
        tables.count(&payload)?;
        proposals::note(&payload, &mut walk.features)?;
        if let ValidPayload::End(end) = validator.payload(&payload)? {
            types = Some(end);
        }
        walk.payload(&payload)?;
    }
    let types = types.ok_or_else(|| Malformed::new("it is not a valid Wasm binary: it has no end"))?;
    Ok((walk, types))
}

/// Reads `.wat` text, which some runtimes take in place of a binary, and others only in the check before the start
/// ([`Feature::Text`]).
pub fn read_text(text: &[u8], source: &str) -> Result<ModuleFacts, Malformed> {
    read_text_until(text, source, &AtomicBool::new(false))
}

/// [`read_text`] that stops once `stop` is set; the text itself is short and parsed in one go.
pub fn read_text_until(text: &[u8], source: &str, stop: &AtomicBool) -> Result<ModuleFacts, Malformed> {
    if text.len() > MAX_TEXT {
        return Err(Malformed::new(format!(
            "it is Wasm text of {} bytes; at most {MAX_TEXT} are read, so ship the binary",
            text.len()
        )));
    }
    let text = std::str::from_utf8(text).map_err(|e| Malformed::new(format!("it is not Wasm text: {e}")))?;
    let binary = wat::parse_str(text).map_err(|error| {
        let shown = error.to_string();
        Malformed::new(format!("it is not Wasm text: {}", shown.lines().next().unwrap_or_default()))
    })?;
    let size_bytes = text.len() as u64;
    let mut facts = read_until(&binary, source, stop)?;
    facts.features.insert(Feature::Text);
    Ok(ModuleFacts { size_bytes, ..facts })
}

impl From<wasmparser::Error> for Malformed {
    fn from(error: wasmparser::Error) -> Self {
        Self::new(format!("it is not a valid Wasm binary: {error}"))
    }
}

/// Facts as they accumulate. Unit 0 is the outermost; a child's number is greater than its parent's.
#[derive(Debug, Default)]
struct Walk {
    units: Vec<Unit>,
    stack: Vec<Frame>,
    component: bool,
    imports: BTreeMap<String, BTreeSet<String>>,
    exports: BTreeSet<String>,
    code: u64,
    data: u64,
    /// Bytes of the sections `name`.
    name_sections: u64,
    features: BTreeSet<Feature>,
    signs: Signs,
    /// Functions that the outermost module has imported so far: the index of the next one.
    functions: u32,
    /// Bytes that the names take which are kept.
    names: usize,
    /// Items that were visited.
    steps: u64,
    /// The function `sock_accept`, whose number of parameters distinguishes two interfaces.
    accept: Option<u32>,
}

type Step = Result<(), Malformed>;

impl Walk {
    fn payload(&mut self, payload: &Payload<'_>) -> Step {
        self.steps = self.steps.saturating_add(1);
        match payload {
            Payload::Version { encoding, .. } => self.enter(*encoding),
            Payload::End(_) => drop(self.stack.pop()),
            Payload::ModuleSection { .. } => self.nest(true),
            Payload::ComponentSection { .. } => self.nest(false),
            Payload::CodeSectionStart { size, .. } => self.code = self.code.saturating_add(u64::from(*size)),
            Payload::DataSection(section) => {
                let range = section.range();
                self.data = self.data.saturating_add(range.end.saturating_sub(range.start));
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let memory = memory?;
                    self.memory(&memory);
                    self.define(|unit| unit.add_memory(Pages::of(&memory).initial));
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let table = table?.ty;
                    self.table(&table);
                    self.define(|unit| unit.add_table(table.initial));
                }
            }
            Payload::ImportSection(section) if self.outermost() => {
                for import in section.clone().into_imports() {
                    self.core_import(&import?)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    self.core_export(export?.name)?;
                }
            }
            Payload::CustomSection(section) => {
                if section.name() == "name" {
                    self.name_sections = self.name_sections.saturating_add(section.data().len() as u64);
                }
                self.features.extend(machine_code(section.name()));
                self.signs.custom(section);
            }
            other => return self.component_section(other),
        }
        Ok(())
    }

    fn component_section(&mut self, payload: &Payload<'_>) -> Step {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.component_import(&import?)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.component_export(&export?)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?);
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instantiate(true, module_index);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.instantiate(false, component_index);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_depth(&self) -> Result<(), Malformed> {
        if self.stack.len() > MAX_NESTED {
            return Err(Malformed::new(format!(
                "it nests more than {MAX_NESTED} modules and components; build it with fewer"
            )));
        }
        Ok(())
    }

    fn outermost(&self) -> bool {
        self.stack.len() == 1
    }

    /// The header of the outermost unit, or of the one that [`Self::nest`] has just numbered.
    fn enter(&mut self, encoding: Encoding) {
        if self.units.is_empty() {
            self.units.push(Unit::default());
            self.component = encoding == Encoding::Component;
        }
        self.stack.push(Frame { unit: self.units.len() - 1, ..Frame::default() });
    }

    fn nest(&mut self, core: bool) {
        let child = self.units.len();
        self.units.push(Unit::default());
        let Some(frame) = self.stack.last_mut() else { return };
        frame.space(core).push(Some(child));
        if let Some(parent) = self.units.get_mut(frame.unit) {
            parent.children.push(child);
        }
    }

    fn memory(&mut self, memory: &MemoryType) {
        if memory.shared {
            self.features.insert(Feature::SharedMemory);
        }
        let Some(unit) = self.stack.last().and_then(|frame| self.units.get_mut(frame.unit)) else { return };
        unit.needs.memory = unit.needs.memory.plus(Pages::of(memory), 1);
    }

    fn table(&mut self, table: &TableType) {
        let Some(unit) = self.stack.last().and_then(|frame| self.units.get_mut(frame.unit)) else { return };
        unit.needs.elements = unit.needs.elements.saturating_add(table.initial);
    }

    /// Counts what the unit that is being read defines itself.
    fn define(&mut self, add: impl FnOnce(&mut Defined)) {
        if let Some(unit) = self.stack.last().and_then(|frame| self.units.get_mut(frame.unit)) {
            add(&mut unit.defined);
        }
    }

    /// Counts a name before it is kept.
    fn keep(&mut self, bytes: usize) -> Step {
        self.names = self.names.saturating_add(bytes);
        if self.names > MAX_NAMES { Err(too_many_names()) } else { Ok(()) }
    }

    /// Counts an interface that is imported, if it is the first time.
    fn keep_interface(&mut self, name: &str) -> Step {
        let known = self.imports.contains_key(name);
        self.keep(if known { 0 } else { size::interface(name) })
    }

    fn core_import(&mut self, import: &wasmparser::Import<'_>) -> Step {
        self.steps = self.steps.saturating_add(1);
        self.signs.import(import.module);
        self.keep_interface(import.module)?;
        let functions = self.imports.entry(import.module.to_string()).or_default();
        match import.ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                if functions.insert(import.name.to_string()) {
                    self.keep(size::name(import.name))?;
                }
                if (import.module, import.name) == ("wasi_snapshot_preview1", "sock_accept") {
                    self.accept = Some(self.functions);
                }
                self.functions = self.functions.saturating_add(1);
            }
            // The host must provide this. What a nested module imports is another module's, and counted there.
            TypeRef::Memory(memory) => self.memory(&memory),
            TypeRef::Table(table) => self.table(&table),
            _ => {}
        }
        Ok(())
    }

    fn core_export(&mut self, name: &str) -> Step {
        self.steps = self.steps.saturating_add(1);
        self.signs.export(name);
        if self.outermost() && self.exports.insert(name.to_string()) {
            self.keep(size::name(name))?;
        }
        Ok(())
    }

    fn component_import(&mut self, import: &wasmparser::ComponentImport<'_>) -> Step {
        let outermost = self.outermost();
        if outermost && !matches!(import.ty, ComponentTypeRef::Type(_)) {
            self.keep_interface(import.name.name)?;
            self.imports.entry(import.name.name.to_string()).or_default();
        }
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        match import.ty {
            ComponentTypeRef::Module(_) => frame.modules.push(None),
            ComponentTypeRef::Component(_) => frame.components.push(None),
            _ => {}
        }
        Ok(())
    }

    fn component_export(&mut self, export: &wasmparser::ComponentExport<'_>) -> Step {
        let name = export.name.name;
        let kept = self.outermost() && export.kind != ComponentExternalKind::Type;
        if kept && self.exports.insert(name.to_string()) {
            self.keep(size::name(name))?;
        }
        // An export adds its item to the index space again.
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        let core = match export.kind {
            ComponentExternalKind::Module => true,
            ComponentExternalKind::Component => false,
            _ => return Ok(()),
        };
        let unit = frame.find(core, export.index);
        frame.space(core).push(unit);
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        self.steps = self.steps.saturating_add(1);
        let (core, unit) = match alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => (true, None),
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => (false, None),
            ComponentAlias::Outer { kind, count, index } => {
                let core = match kind {
                    ComponentOuterAliasKind::CoreModule => true,
                    ComponentOuterAliasKind::Component => false,
                    _ => return,
                };
                let outer = self.stack.iter().rev().nth(*count as usize);
                (core, outer.and_then(|frame| frame.find(core, *index)))
            }
            _ => return,
        };
        if let Some(frame) = self.stack.last_mut() {
            frame.space(core).push(unit);
        }
    }

    fn instantiate(&mut self, core: bool, index: u32) {
        self.steps = self.steps.saturating_add(1);
        let unit = self.stack.last().and_then(|frame| frame.find(core, index));
        if let Some(unit) = unit.and_then(|unit| self.units.get_mut(unit)) {
            unit.instances = unit.instances.saturating_add(1);
        }
    }

    /// WasmEdge's first socket interface has `sock_accept` with two parameters, WASI's has three
    /// (`WASI:legacy/preview1/docs.md`).
    fn accepts_for_wasmedge(&self, types: &Types) -> bool {
        let Some(index) = self.accept.filter(|_| !self.component) else { return false };
        let function = types.as_ref().core_function_at(index);
        matches!(&types[function].composite_type.inner, CompositeInnerType::Func(accept) if accept.params().len() == 2)
    }

    fn facts(mut self, types: &Types, source: &str, size: usize) -> Result<ModuleFacts, Malformed> {
        let needs = total(&self.units);
        if self.accepts_for_wasmedge(types) {
            self.features.insert(Feature::WasmedgeSockets);
        }
        let imports = if self.component {
            component_imports(self.imports, types, MAX_NAMES.saturating_sub(self.names))?
        } else {
            self.imports
        };
        let called = imports.iter().flat_map(|(interface, names)| features::of_import(interface, names));
        self.features.extend(called.chain(self.exports.iter().filter_map(|name| wasi_0_3(name))));
        Ok(ModuleFacts {
            source: source.to_string(),
            component: None,
            format: if self.component { WasmFormat::Component } else { WasmFormat::Module },
            imports: imports
                .into_iter()
                .map(|(interface, functions)| Import { interface, functions })
                .collect(),
            exports: self.exports,
            code_bytes: self.code,
            data_bytes: self.data,
            name_bytes: self.name_sections,
            memory_bytes: needs.memory.initial,
            memory_max_bytes: needs.memory.maximum,
            table_elements: needs.elements,
            defined: most_defined(&self.units),
            features: self.features,
            interpreters: self.signs.found(),
            size_bytes: size as u64,
        })
    }
}

/// Fills in the functions of a component's imports from their types. An import that implements an interface under
/// another name (`implements`) is listed as that interface; a function that is imported directly is listed under its
/// own name.
fn component_imports(
    names: BTreeMap<String, BTreeSet<String>>,
    types: &Types,
    mut left: usize,
) -> Result<BTreeMap<String, BTreeSet<String>>, Malformed> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in names.into_keys() {
        let item = types.component_item_for_import(&name);
        let interface = item.and_then(|item| item.implements.clone()).unwrap_or_else(|| name.clone());
        let functions = imports.entry(interface).or_default();
        match item.map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => {
                instance_functions(types, id, "", functions, &mut left)?;
            }
            Some(ComponentEntityType::Func(_)) => {
                left = left.checked_sub(size::name(&name)).ok_or_else(too_many_names)?;
                functions.insert(name);
            }
            _ => {}
        }
    }
    Ok(imports)
}

fn too_many_names() -> Malformed {
    Malformed::new(format!(
        "the names of its imports and exports take more than {} MiB of memory; leave out exports that nothing uses",
        MAX_NAMES >> 20
    ))
}

/// Functions of an instance type; those of a nested instance are prefixed with its name and a dot.
fn instance_functions(
    types: &Types,
    id: ComponentInstanceTypeId,
    prefix: &str,
    functions: &mut BTreeSet<String>,
    left: &mut usize,
) -> Result<(), Malformed> {
    for (name, item) in &types[id].exports {
        *left = left.checked_sub(prefix.len() + size::name(name)).ok_or_else(too_many_names)?;
        match item.ty {
            ComponentEntityType::Func(_) => {
                functions.insert(format!("{prefix}{name}"));
            }
            ComponentEntityType::Instance(inner) => {
                instance_functions(types, inner, &format!("{prefix}{name}."), functions, left)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ImageKind;
    use super::super::kind::of as kind;
    use super::*;

    fn wat(text: &str) -> ModuleFacts {
        read(&wat::parse_str(text).unwrap(), "test").unwrap()
    }

    fn functions(facts: &ModuleFacts, interface: &str) -> Vec<String> {
        let found = facts.imports.iter().find(|import| import.interface == interface);
        found.map(|import| import.functions.iter().cloned().collect()).unwrap_or_default()
    }

    const COMMAND: &str = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
        (memory (export "memory") 3)
        (data (i32.const 0) "hello")
        (func (export "_start") nop nop))"#;

    const NESTED: &str = r#"(component
        (import "wasi:filesystem/types@0.2.6" (instance $fs
            (export "descriptor" (type $d (sub resource)))
            (export "[method]descriptor.get-type" (func (param "self" (borrow $d)) (result u32)))
            (export "[method]descriptor.open-at" (func (param "self" (borrow $d)) (result u32)))))
        (import "direct" (func (result u32)))
        (core module $main (memory (export "m") 2) (func (export "run") nop) (data (i32.const 0) "abcd"))
        (core module $shim (import "main" "m" (memory 1)) (func nop))
        (core instance $i (instantiate $main))
        (core instance (instantiate $shim (with "main" (instance $i))))
        (component $inner
            (core module $deep (memory 5) (func nop nop nop))
            (core instance (instantiate $deep))
            (core instance (instantiate $deep)))
        (instance (instantiate $inner))
    )"#;

    #[test]
    fn a_command_module_shows_its_imports_and_sizes() {
        let facts = wat(COMMAND);
        assert_eq!(facts.format, WasmFormat::Module);
        assert_eq!(functions(&facts, "wasi_snapshot_preview1"), ["args_get", "fd_write"]);
        assert_eq!(facts.memory_bytes, 3 << 16);
        assert!(facts.code_bytes > 4 && facts.code_bytes < 16, "{}", facts.code_bytes);
        assert!(facts.data_bytes > 5 && facts.data_bytes < 16, "{}", facts.data_bytes);
        assert_eq!(kind(&facts, None), Ok(ImageKind::Module));
    }

    #[test]
    fn nested_units_are_added_up_and_only_outer_imports_count() {
        let facts = wat(NESTED);
        assert_eq!(facts.format, WasmFormat::Component);
        assert_eq!(
            functions(&facts, "wasi:filesystem/types@0.2.6"),
            ["[method]descriptor.get-type", "[method]descriptor.open-at"]
        );
        assert_eq!(functions(&facts, "direct"), ["direct"]);
        assert_eq!(facts.imports.len(), 2);
        // Two pages of the main module and twice five of the module that is instantiated twice.
        assert_eq!(facts.memory_bytes, 12 << 16);
        let alone = wat("(module (func nop nop nop))").code_bytes;
        assert!(facts.code_bytes > alone, "{} {alone}", facts.code_bytes);
    }

    #[test]
    fn huge_and_odd_memories_do_not_overflow() {
        assert_eq!(wat("(module (memory i64 0x1000000000000))").memory_bytes, u64::MAX);
        assert_eq!(wat("(module (memory i64 0x1000000000000) (memory 9))").memory_bytes, u64::MAX);
        assert_eq!(wat("(module (memory 7 (pagesize 1)))").memory_bytes, 7);
        assert_eq!(wat(r#"(module (import "env" "memory" (memory 4)) (memory 1))"#).memory_bytes, 5 << 16);
    }

    #[test]
    fn the_elements_with_which_tables_begin_are_added_up() {
        for (text, elements) in [
            ("(module)", 0),
            ("(module (table 10000000 funcref))", 10_000_000),
            ("(module (table 3 9 funcref) (table 4 externref))", 7),
            (r#"(module (import "env" "table" (table 5 funcref)) (table 1 funcref))"#, 6),
            ("(module (table i64 0x1000000000000 funcref) (table i64 0xffffffffffffffff funcref))", u64::MAX),
        ] {
            assert_eq!(wat(text).table_elements, elements, "{text}");
        }
        // Two in each of two instances, and none in the module that gets the table of another.
        let nested = wat(r#"(component
            (core module $main (table (export "t") 2 funcref))
            (core module $shim (import "main" "t" (table 1 funcref)))
            (core instance $i (instantiate $main))
            (core instance (instantiate $main))
            (core instance (instantiate $shim (with "main" (instance $i)))))"#);
        assert_eq!(nested.table_elements, 4);
    }

    #[test]
    fn of_what_modules_define_the_most_counts_and_of_what_they_import_nothing() {
        let defined = |memories, pages: u64, tables, table_elements| Defined {
            memories,
            memory_bytes: pages << 16,
            tables,
            table_elements,
        };
        for (text, expected) in [
            ("(module)", Defined::default()),
            ("(module (memory 3) (memory 1) (table 5 funcref) (table 7 externref))", defined(2, 3, 2, 7)),
            (
                r#"(module (import "env" "m" (memory 9)) (import "env" "t" (table 9 funcref)))"#,
                defined(0, 0, 0, 0),
            ),
            (
                r#"(module (import "env" "m" (memory 9)) (import "env" "t" (table 9 funcref)) (memory 1) (table 2 funcref))"#,
                defined(1, 1, 1, 2),
            ),
            (
                "(component (core module (memory 1) (memory 1)) (component (core module (memory 4) (table 7 funcref))))",
                defined(2, 4, 1, 7),
            ),
        ] {
            assert_eq!(wat(text).defined, expected, "{text}");
        }
        assert_eq!(wat("(module (memory i64 0x1000000000000))").defined.memory_bytes, u64::MAX);
    }

    #[test]
    fn the_names_of_functions_are_told_from_other_sections() {
        let size = |text: &str| wat(text).name_bytes;
        assert_eq!(size("(module (func))"), 0);
        // A subsection of the kind 1 with one name of three letters for the function 0.
        assert_eq!(size("(module (func $abc))"), 8);
        assert_eq!(size(r#"(module (func) (@custom "names" "abc"))"#), 0);
        let nested = "(component (core module (func $abc)) (core module (func $abc)))";
        assert_eq!(size(nested), 16);
    }

    #[test]
    fn nothing_that_cannot_start_is_taken_for_a_program() {
        let cases = [
            ("(module)", "_start"),
            (r#"(module (func (export "_initialize")))"#, "reactor"),
            (r#"(module (import "gojs" "x" (func)) (func (export "_start")))"#, "GOOS=wasip1"),
            (r#"(module (import "./app_bg.js" "x" (func)) (func (export "_start")))"#, "wasm-bindgen"),
            (r#"(module (import "__wbindgen_placeholder__" "x" (func)))"#, "wasm-bindgen"),
            (r#"(module (import "env" "emscripten_x" (func)) (func (export "_start")))"#, "Emscripten"),
            (r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#, "`env`"),
            (r#"(module (import "mystery" "x" (func)) (func (export "_start")))"#, "`mystery`"),
            ("(component)", "WIT package"),
            ("(component (core module (func nop)))", "exports neither"),
        ];
        for (text, expected) in cases {
            let reason = kind(&wat(text), None).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn programs_are_recognised_by_their_exports() {
        let component = |interface: &str| {
            format!(
                r#"(component (core module $m (func (export "f") (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func $f (result u32) (canon lift (core func $i "f")))
                (instance $e (export "f" (func $f))) (export "{interface}" (instance $e)))"#
            )
        };
        for (interface, expected) in [
            ("wasi:cli/run@0.2.6", ImageKind::Component),
            ("wasi:http/incoming-handler@0.2.0", ImageKind::HttpComponent),
            ("wasi:http/handler@0.3.0", ImageKind::HttpComponent),
        ] {
            assert_eq!(kind(&wat(&component(interface)), None), Ok(expected));
        }
        for taken_for_another in ["wasi:cli/runner@0.2.6", "wasi:http/incoming-handler-of-mine"] {
            assert!(kind(&wat(&component(taken_for_another)), None).unwrap_err().contains("begins like"));
        }
        // There is no such interface, so runwasi instantiates it like a command.
        assert!(kind(&wat(&component("wasi:http/handler@0.2.0")), None).is_err());
        let threads = r#"(module (import "wasi" "thread-spawn" (func (param i32) (result i32)))
            (import "env" "memory" (memory 1 2 shared)) (func (export "_start")))"#;
        assert_eq!(kind(&wat(threads), None), Ok(ImageKind::Module));
        let named = wat(r#"(module (func (export "serve")))"#);
        assert_eq!(kind(&named, Some("serve")), Ok(ImageKind::Module));
        assert!(kind(&named, Some("other")).unwrap_err().contains("`other`"));
    }

    #[test]
    fn a_binary_cut_at_any_byte_is_read_or_refused() {
        for text in [COMMAND, NESTED] {
            let bytes = wat::parse_str(text).unwrap();
            let whole = read(&bytes, "test").unwrap();
            for end in 0..bytes.len() {
                // Cutting between two sections leaves a shorter valid module; a cut inside a section must be noticed.
                let Ok(facts) = read(&bytes[..end], "test") else { continue };
                assert!(facts.size_bytes < whole.size_bytes && facts.code_bytes <= whole.code_bytes);
                assert!(facts.imports.iter().all(|import| whole.imports.contains(import)));
                assert!(kind(&facts, None).is_err() || facts.code_bytes == whole.code_bytes, "cut at {end}");
            }
        }
    }

    #[test]
    fn text_is_parsed_up_to_its_bound() {
        let facts = read_text(COMMAND.as_bytes(), "/app.wat").unwrap();
        assert_eq!((facts.source.as_str(), facts.size_bytes), ("/app.wat", COMMAND.len() as u64));
        assert!(read_text(b"hello", "t").unwrap_err().0.contains("not Wasm text"));
        assert!(read_text(&[0xff, 0xfe], "t").unwrap_err().0.contains("not Wasm text"));
        assert!(read_text(&vec![b'('; MAX_TEXT + 1], "t").unwrap_err().0.contains("ship the binary"));
        let deep = format!("(module {})", "(".repeat(MAX_TEXT - 20));
        assert!(read_text(deep.as_bytes(), "t").is_err());
    }

    #[test]
    fn magic_bytes_decide() {
        assert_eq!(magic(b"\0asm\x01\0\0\0"), Magic::Wasm);
        assert_eq!(magic(b"\x7fELF\x02"), Magic::Native("ELF"));
        assert_eq!(magic(b"#!/bin/sh"), Magic::Native("#!"));
        assert_eq!(magic(b"\0aot\x03\0\0\0"), Magic::Aot);
        assert_eq!(magic(b"\0as"), Magic::Other);
        assert!(read(b"\x7fELF", "t").unwrap_err().0.contains("asm"));
        assert!(read(b"\0asm\x63\0\0\0", "t").is_err());
    }

    #[test]
    fn one_large_type_named_again_and_again_is_refused() {
        use std::fmt::Write as _;
        let mut text = String::from("(component (type $t (instance ");
        for number in 0..5000 {
            let _ = write!(text, r#"(export "a-function-with-a-name-{number}" (func))"#);
        }
        text.push_str("))");
        for number in 0..40 {
            let _ = write!(text, r#"(import "i{number}" (instance (type $t)))"#);
        }
        text.push(')');
        let error = read(&wat::parse_str(&text).unwrap(), "t").unwrap_err();
        assert!(error.0.contains("of memory") || error.0.contains("type size"), "{error}");
    }

    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    }

    /// `depth` component or instance types, each declared inside the previous one.
    fn nested_types(depth: usize, kind: u8) -> Vec<u8> {
        // A section with one type; each level declares a list with one type, the innermost an empty list.
        let mut section = vec![1];
        section.extend([kind, 1, 1].repeat(depth));
        section.extend([kind, 0]);
        [b"\0asm\x0d\0\x01\0\x07".as_slice(), &leb(section.len()), &section].concat()
    }

    #[test]
    fn types_nested_without_end_are_refused_and_do_not_end_the_process() {
        for kind in [0x41, 0x42] {
            assert!(read(&nested_types(5, kind), "t").is_ok());
            let error = read(&nested_types(50_000, kind), "t").unwrap_err();
            assert!(error.0.contains("nest") || error.0.contains("depth"), "{error}");
        }
    }

    /// `depth` empty components, each inside the previous one.
    fn nested_components(depth: usize) -> Vec<u8> {
        const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";
        let (mut prefixes, mut inner) = (Vec::new(), HEAD.len());
        for _ in 0..depth {
            let prefix = [HEAD, b"\x04", &leb(inner)].concat();
            inner += prefix.len();
            prefixes.push(prefix);
        }
        prefixes.reverse();
        [prefixes.concat().as_slice(), HEAD].concat()
    }

    #[test]
    fn components_nested_without_end_are_refused_before_they_cost_time() {
        assert!(read(&nested_components(50), "t").is_ok());
        for depth in [101, 16_000] {
            let error = read(&nested_components(depth), "t").unwrap_err();
            assert!(error.0.contains("nests more than 100"), "{error}");
        }
    }

    #[test]
    fn an_abandoned_look_up_reads_no_further() {
        let bytes = wat::parse_str(NESTED).unwrap();
        assert!(read_until(&bytes, "t", &AtomicBool::new(false)).is_ok());
        let error = read_until(&bytes, "t", &AtomicBool::new(true)).unwrap_err();
        assert!(error.0.contains("given up"), "{error}");
    }

    #[test]
    fn a_component_that_a_runtime_may_start_in_two_ways_has_no_kind() {
        let component = |interfaces: &[&str]| {
            let exports: Vec<String> =
                interfaces.iter().map(|name| format!(r#"(export "{name}" (instance $e))"#)).collect();
            let exports = exports.concat();
            wat(&format!(
                r#"(component (core module $m (func (export "f") (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func $f (result u32) (canon lift (core func $i "f")))
                (instance $e (export "f" (func $f))) (export "serve" (func $f)) {exports})"#
            ))
        };
        let (run, http, http3) =
            ("wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.2.6", "wasi:http/handler@0.3.0");
        for both in [[run, http3], [http3, run]] {
            assert_eq!(kind(&component(&both), None), Ok(ImageKind::Component), "{both:?}");
        }
        for both in [[run, http], [http, run]] {
            let said = kind(&component(&both), None).unwrap_err();
            assert!(said.contains("exports both"), "{said}");
        }
        assert_eq!(kind(&component(&[http]), Some("serve")), Ok(ImageKind::HttpComponent));
        assert_eq!(kind(&component(&[http3]), Some("serve")), Ok(ImageKind::Component));
        for only in [http3, "wasi:http/handler"] {
            let facts = component(&[only]);
            assert_eq!(kind(&facts, None), Ok(ImageKind::HttpComponent));
        }
    }

    #[test]
    fn machine_code_of_wasmedge_shows_by_its_section() {
        let with = |name: &str| {
            let text = format!(r#"(module (@custom "{name}" "code") (func (export "_start")))"#);
            read(&wat::parse_str(text).unwrap(), "/app.wasm").unwrap().features
        };
        assert_eq!(with("wasmedge"), [Feature::WasmedgeMachineCode].into());
        assert_eq!(with("name2"), [].into());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..256), component: bool) {
            let head: &[u8] = if component { b"\0asm\x0d\0\x01\0" } else { b"\0asm\x01\0\0\0" };
            let _ = read(&[head, &tail].concat(), "t");
            let _ = read(&tail, "t");
            let _ = read_text(&tail, "t");
        }

        #[test]
        fn one_changed_byte_never_panics(at in 0usize..400, byte: u8) {
            let mut bytes = wat::parse_str(NESTED).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&bytes, "t");
        }
    }

    /// What the validator remembers grows with the square of their number.
    #[test]
    fn a_thousand_nested_modules_are_read_wherever_they_are_and_no_more() {
        let nested = |count: usize| format!("(component {})", "(core module)".repeat(count));
        let of = |count: usize| wat::parse_str(format!("(component {0} {0})", nested(count))).unwrap();
        assert!(read(&of(490), "x").is_ok());
        assert!(read(&of(510), "x").is_err());
    }

    #[test]
    fn the_work_grows_no_faster_than_the_bytes() {
        let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
        let shapes: [(&str, &dyn Fn(usize) -> String); 5] = [
            ("imports", &|count| {
                format!("(module {})", many(count, &|n| format!(r#"(import "m{n}" "f" (func))"#)))
            }),
            ("exports", &|count| {
                format!("(module (func $f) {})", many(count, &|n| format!(r#"(export "e{n}" (func $f))"#)))
            }),
            ("modules", &|count| {
                format!("(component {})", many(count, &|_| "(core module (memory 1))".into()))
            }),
            ("instances", &|count| {
                let instances = many(count, &|_| "(core instance (instantiate $m))".into());
                format!("(component (core module $m (memory 1)) {instances})")
            }),
            ("aliases of the outermost", &|count| {
                let aliases = many(count, &|_| "(alias outer $out $m (core module))".into());
                let inner = (0..20).fold(aliases, |inner, _| format!("(component {inner})"));
                format!("(component $out (core module $m (memory 1)) {inner})")
            }),
        ];
        for (what, shape) in shapes {
            let steps = |count| {
                let bytes = wat::parse_str(shape(count)).unwrap();
                walk(&bytes, &AtomicBool::new(false)).unwrap().0.steps
            };
            let (small, large) = (steps(80), steps(800));
            assert!(large <= small * 11, "{what}: {small} steps for 80, {large} for ten times as many");
        }
    }
}
