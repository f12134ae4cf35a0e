//! What sections of a compiled bundle say. A section that is cut off or no section at all says nothing.

use std::collections::BTreeMap;
use std::ops::Range;

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

/// The data of a module by its addresses, none of which is there twice.
#[derive(Debug, Default)]
pub(super) struct PlacedData<'a>(BTreeMap<usize, &'a [u8]>);

impl<'a> PlacedData<'a> {
    /// Puts bytes in the place of what is there, as an instance does with one segment after the other. `None` where there is no such place.
    pub fn put(&mut self, address: usize, bytes: &'a [u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let end = address.checked_add(bytes.len())?;
        let before = self.0.range(..address).next_back().map(|(start, before)| (*start, *before));
        if let Some((start, before)) = before
            && let Some((kept, covered)) = before.split_at_checked(address.checked_sub(start)?)
        {
            self.0.insert(start, kept);
            self.put_rest(end, covered.get(bytes.len()..));
        }
        while let Some((start, covered)) = self.first_in(address..end) {
            self.0.remove(&start);
            self.put_rest(end, covered.get(end.checked_sub(start)?..));
        }
        self.put_rest(address, Some(bytes));
        Some(())
    }

    /// So many bytes from an address on, which are all of one segment.
    pub fn get(&self, address: usize, length: usize) -> Option<&'a [u8]> {
        let (start, bytes) = self.0.range(..=address).next_back()?;
        let from = address.checked_sub(*start)?;
        bytes.get(from..from.checked_add(length)?)
    }

    fn first_in(&self, places: Range<usize>) -> Option<(usize, &'a [u8])> {
        self.0.range(places).next().map(|(start, bytes)| (*start, *bytes))
    }

    fn put_rest(&mut self, address: usize, bytes: Option<&'a [u8]>) {
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            self.0.insert(address, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_data_that_overlaps_the_last_is_there() {
        let letters = [[b'a'; 8], [b'b'; 8], [b'c'; 8], [b'd'; 8]];
        for (placed, memory) in [
            (&[(2, 4), (4, 4)][..], "..aabbbb"),
            (&[(4, 4), (2, 4)], "..bbbbaa"),
            (&[(0, 8), (3, 2)], "aaabbaaa"),
            (&[(3, 2), (0, 8)], "bbbbbbbb"),
            (&[(0, 2), (3, 2), (6, 2), (1, 6)], "addddddc"),
            (&[(0, 4), (4, 4)], "aaaabbbb"),
            (&[(0, 4), (2, 0)], "aaaa...."),
        ] {
            let mut data = PlacedData::default();
            for ((address, length), letter) in placed.iter().zip(&letters) {
                data.put(*address, &letter[..*length]).unwrap();
            }
            let found: String =
                (0..8).map(|at| data.get(at, 1).map_or('.', |byte| char::from(byte[0]))).collect();
            assert_eq!(found, memory, "{placed:?}");
        }
        let mut data = PlacedData::default();
        data.put(4, b"abcd").unwrap();
        assert_eq!([data.get(4, 4), data.get(5, 2), data.get(8, 0)], [&b"abcd"[..], b"bc", b""].map(Some));
        assert_eq!([data.get(3, 1), data.get(4, 5), data.get(9, 0)], [None; 3]);
        assert!(data.put(usize::MAX, b"ab").is_none());
    }
}
