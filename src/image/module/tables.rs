//! What the tables of a binary take in memory, counted section by section before they are built.
//!
//! The validator keeps every import, export and type of every unit, and copies some of them: an import of eight bytes takes
//! several hundred. What is counted here is an upper bound, measured with adverse binaries
//! (`tests/suite/adverse.rs`), and not what a usual binary takes.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentType, ComponentTypeDeclaration,
    ComponentTypeRef, Instance, InstanceTypeDeclaration, Payload, SectionLimited,
};

use crate::image::malformed::Malformed;

/// Most bytes that the tables of one binary may take. The largest that toolchains write take a tenth.
pub const MAX_TABLES: u64 = 32 << 20;

/// A module or component: what the validator keeps of it until its end, and what is kept of a nested one.
const UNIT: u64 = 2048;
/// A byte of a type: the shortest has three.
const TYPE_BYTE: u64 = 168;
/// An import: the validator's entry by two names with its list of types, a copy for the unit around it, and the entry and the
/// set of functions of what is read here.
const IMPORT: u64 = 1024;
/// An export of a module: its name in the set of names of the unit, its type, and the entry of what is read here.
const EXPORT: u64 = 512;
/// An import, export, alias or instance of a component, or a function that is lifted or lowered.
const ITEM: u64 = 1024;
/// A function that is declared: the number of its type, in a vector that grows.
const FUNCTION: u64 = 32;
/// A byte of an instance.
const INSTANCE_BYTE: u64 = 16;
/// An argument or an export of an instance: its name and its kind, in the instance that is read and in the type that is made of it.
const PART: u64 = 192;
/// A table, memory, tag or global, or a segment of elements.
const SMALL: u64 = 96;
/// A byte of the names of an item, which are copied into each of these tables.
const NAME_BYTE: u64 = 4;
/// An entry of a type that is copied for an import, an export or an instance of this type.
const COPIED: u64 = 256;

/// What a unit that is open declares.
#[derive(Debug, Default)]
struct Unit {
    /// Entries of its types.
    entries: u64,
    /// Instances that it exports.
    instances: u64,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Tables {
    taken: u64,
    open: Vec<Unit>,
    /// The most entries that a copy of a type has, of those that were declared.
    largest_type: u64,
    /// The most entries that an instance of a unit has, of those that were read to their end.
    largest_unit: u64,
}

type Counted = Result<(), Malformed>;

impl Tables {
    /// Counts a payload before anything is built of it.
    pub(super) fn count(&mut self, payload: &Payload<'_>) -> Counted {
        match payload {
            Payload::Version { .. } => {
                self.open.push(Unit::default());
                self.take(UNIT)
            }
            Payload::End(_) => {
                self.close();
                Ok(())
            }
            Payload::TypeSection(section) => self.bytes(section, TYPE_BYTE),
            Payload::CoreTypeSection(section) => self.bytes(section, TYPE_BYTE),
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.take(IMPORT)?;
                    self.names(import.module.len() + import.name.len())?;
                }
                Ok(())
            }
            Payload::FunctionSection(section) => self.each(section, FUNCTION),
            Payload::TableSection(section) => self.each(section, SMALL),
            Payload::MemorySection(section) => self.each(section, SMALL),
            Payload::TagSection(section) => self.each(section, SMALL),
            Payload::GlobalSection(section) => self.each(section, SMALL),
            Payload::ElementSection(section) => self.each(section, SMALL),
            Payload::ExportSection(section) => {
                self.each(section, EXPORT)?;
                self.bytes(section, NAME_BYTE)
            }
            other => self.component(other),
        }
    }

    fn component(&mut self, payload: &Payload<'_>) -> Counted {
        match payload {
            Payload::InstanceSection(section) => {
                self.bytes(section, INSTANCE_BYTE)?;
                section.clone().into_iter().try_for_each(|instance| {
                    let parts = match instance? {
                        Instance::Instantiate { args, .. } => args.len(),
                        Instance::FromExports(exports) => exports.len(),
                    };
                    self.take(ITEM.saturating_add((parts as u64).saturating_mul(PART)))
                })
            }
            Payload::ComponentInstanceSection(section) => {
                self.bytes(section, INSTANCE_BYTE)?;
                section.clone().into_iter().try_for_each(|instance| self.instance(&instance?))
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.take(if is_of_core(&alias?) { SMALL } else { ITEM })?;
                }
                Ok(())
            }
            Payload::ComponentTypeSection(section) => {
                self.bytes(section, TYPE_BYTE)?;
                section.clone().into_iter().try_for_each(|ty| self.declared(&ty?))
            }
            Payload::ComponentCanonicalSection(section) => self.each(section, ITEM),
            Payload::ComponentImportSection(section) => {
                self.each(section, ITEM)?;
                self.bytes(section, NAME_BYTE)?;
                for import in section.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Instance(_)) {
                        self.copy(1, self.largest_type)?;
                    }
                }
                Ok(())
            }
            Payload::ComponentExportSection(section) => {
                self.each(section, ITEM)?;
                self.bytes(section, NAME_BYTE)?;
                for export in section.clone() {
                    let is_instance = export?.kind == ComponentExternalKind::Instance;
                    if let Some(unit) = self.open.last_mut() {
                        unit.instances = unit.instances.saturating_add(u64::from(is_instance));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An instance of a component, whose types are copied with the resources of this instance in them
    /// (`wasmparser:src/validator/component.rs`, `instantiate_component`).
    fn instance(&mut self, instance: &ComponentInstance<'_>) -> Counted {
        let parts = match instance {
            ComponentInstance::Instantiate { args, .. } => args.len(),
            ComponentInstance::FromExports(exports) => exports.len(),
        };
        self.take(ITEM.saturating_add((parts as u64).saturating_mul(PART)))?;
        match instance {
            ComponentInstance::Instantiate { .. } => self.copy(1, self.largest_unit.max(self.largest_type)),
            ComponentInstance::FromExports(_) => Ok(()),
        }
    }

    /// A type. Another one that it exports as an instance is copied with resources of its own
    /// (`wasmparser:src/validator/component.rs`, `prepare_instance_export`), as one is that a unit imports
    /// (`prepare_instance_import`).
    fn declared(&mut self, ty: &ComponentType<'_>) -> Counted {
        let (entries, instances) = entries(ty);
        self.copy(instances, self.largest_type)?;
        let size = instances.saturating_mul(self.largest_type).saturating_add(entries);
        self.largest_type = self.largest_type.max(size);
        if let Some(unit) = self.open.last_mut() {
            unit.entries = unit.entries.saturating_add(size);
        }
        Ok(())
    }

    fn copy(&mut self, count: u64, entries: u64) -> Counted {
        self.take(count.saturating_mul(entries).saturating_mul(COPIED))
    }

    fn close(&mut self) {
        let Some(unit) = self.open.pop() else { return };
        let exported = unit.instances.saturating_mul(self.largest_type.max(self.largest_unit));
        self.largest_unit = self.largest_unit.max(unit.entries.saturating_add(exported));
    }

    fn each<T>(&mut self, section: &SectionLimited<'_, T>, cost: u64) -> Counted {
        self.take(u64::from(section.count()).saturating_mul(cost))
    }

    fn bytes<T>(&mut self, section: &SectionLimited<'_, T>, cost: u64) -> Counted {
        let range = section.range();
        let length = range.end.saturating_sub(range.start);
        self.take(length.saturating_mul(cost))
    }

    fn names(&mut self, bytes: usize) -> Counted {
        self.take((bytes as u64).saturating_mul(NAME_BYTE))
    }

    fn take(&mut self, bytes: u64) -> Counted {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken <= MAX_TABLES {
            return Ok(());
        }
        Err(Malformed::new(format!(
            "its imports, exports and types take more than {} MiB of memory; leave out exports and units that nothing uses",
            MAX_TABLES >> 20
        )))
    }
}

fn is_of_core(alias: &ComponentAlias<'_>) -> bool {
    matches!(alias, ComponentAlias::CoreInstanceExport { .. })
}

/// The entries of a type, at any depth, and how many of them are instances of other types.
fn entries(ty: &ComponentType<'_>) -> (u64, u64) {
    let one = (1, 0);
    let add = |(entries, instances): (u64, u64), (more, others): (u64, u64)| {
        (entries.saturating_add(more), instances.saturating_add(others))
    };
    let item = |ty: &ComponentTypeRef| (1, u64::from(matches!(ty, ComponentTypeRef::Instance(_))));
    match ty {
        ComponentType::Instance(declared) => declared.iter().fold(one, |sum, declared| match declared {
            InstanceTypeDeclaration::Type(ty) => add(sum, entries(ty)),
            InstanceTypeDeclaration::Export { ty, .. } => add(sum, item(ty)),
            _ => add(sum, one),
        }),
        ComponentType::Component(declared) => declared.iter().fold(one, |sum, declared| match declared {
            ComponentTypeDeclaration::Type(ty) => add(sum, entries(ty)),
            ComponentTypeDeclaration::Export { ty, .. } => add(sum, item(ty)),
            ComponentTypeDeclaration::Import(import) => add(sum, item(&import.ty)),
            _ => add(sum, one),
        }),
        _ => one,
    }
}
