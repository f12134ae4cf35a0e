//! What sections of a compiled bundle say. A section that is cut off or no section at all says nothing.

use wasmparser::{
    DataKind, DataSectionReader, ImportSectionReader, Name, NameSectionReader, Operator, TypeRef,
};

/// The names of the functions that are imported, in the order of their indices.
pub(super) fn imported_functions(section: ImportSectionReader<'_>) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for import in section.into_imports() {
        let import = import.ok()?;
        if matches!(import.ty, TypeRef::Func(_)) {
            names.push(import.name);
        }
    }
    Some(names)
}

/// The data that is at fixed addresses of the memory, each with its address.
pub(super) fn placed_data(section: DataSectionReader<'_>) -> Option<Vec<(i32, &[u8])>> {
    let mut placed = Vec::new();
    for segment in section {
        let segment = segment.ok()?;
        if let DataKind::Active { offset_expr, .. } = segment.kind
            && let Operator::I32Const { value } = offset_expr.get_operators_reader().read().ok()?
        {
            placed.push((value, segment.data));
        }
    }
    Some(placed)
}

/// The functions with the names that they have. Of several for one of them the last counts.
pub(super) fn function_names(section: NameSectionReader<'_>) -> Option<Vec<(u32, &str)>> {
    let mut all = Vec::new();
    for part in section {
        if let Name::Function(names) = part.ok()? {
            for naming in names {
                let naming = naming.ok()?;
                all.push((naming.index, naming.name));
            }
        }
    }
    Some(all)
}
