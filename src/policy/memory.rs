//! Provides enough memory for the data of a module. OPA's compiler counts the pages of the memory that a module imports before it has placed
//! all data (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `addImportMemoryDecl`), so that in one module of about thirty
//! the last of it lies outside. OPA's own host brings a larger memory; the gate brings what the module asks for.

use wasmparser::{Parser, Payload, TypeRef};

use super::sections::placed_data;

/// Bytes of a page.
const PAGE: u64 = 1 << 16;
/// Most pages that the one byte of the declaration can express, so that nothing else moves: 8 MiB. A compiled policy has
/// a few hundred kilobytes of data.
const MAX_PAGES: u64 = 0x7f;

/// Raises the declared minimum of the memory to what the data needs. Does not change modules of other compilers.
pub(super) fn raise_minimum(module: &mut [u8]) {
    if let Some((place, pages)) = missing(module)
        && let Some(byte) = module.get_mut(place)
    {
        *byte = pages;
    }
}

/// Offset of a page count that is too small, and the number of pages needed.
fn missing(module: &[u8]) -> Option<(usize, u8)> {
    let (mut asked, mut needed) = (None, 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports_with_offsets() {
                    let (start, import) = import.ok()?;
                    if let TypeRef::Memory(memory) = import.ty {
                        // Two names, each after a length byte; then a byte for the kind and one for flags.
                        let names = import.module.len().checked_add(import.name.len())?;
                        let place = usize::try_from(start).ok()?.checked_add(names)?.checked_add(4)?;
                        asked = Some((place, memory.initial));
                    }
                }
            }
            Payload::DataSection(segments) => {
                for (address, bytes) in placed_data(segments)? {
                    let length = u64::try_from(bytes.len()).ok()?;
                    needed = needed.max(u64::from(address.cast_unsigned()).checked_add(length)?);
                }
            }
            _ => {}
        }
    }
    let ((place, asked), needed) = (asked?, needed.div_ceil(PAGE));
    let written = module.get(place).map(|byte| u64::from(*byte)) == Some(asked);
    (written && asked < needed && needed <= MAX_PAGES).then_some((place, u8::try_from(needed).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(pages: u64, data: u64) -> Vec<u8> {
        let text = format!(
            r#"(module (import "env" "other" (func)) (import "env" "memory" (memory {pages}))
                (data (i32.const {data}) "ab") (data (i32.const 0) "c"))"#
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_module_whose_data_lies_outside_of_its_memory_asks_for_enough() {
        for (pages, data, wanted) in [(2, 0x1_ffff, 3), (2, 0x1_fffe, 2), (1, 0x2_0000, 3), (4, 7, 4)] {
            let mut found = module(pages, data);
            raise_minimum(&mut found);
            assert_eq!(found, module(wanted, data), "{pages} {data}");
        }
    }

    #[test]
    fn what_cannot_be_written_in_its_place_stays_as_it_is() {
        let foreign = wat::parse_str("(module (memory 1) (data (i32.const 0x20000) \"a\"))").unwrap();
        let cases = [
            module(0x90, 0x100_0000),
            module(2, 0x7f_0000 + 1),
            foreign,
            b"\0asm\x01\0\0\0\x0b\xff".to_vec(),
        ];
        for case in cases {
            let mut found = case.clone();
            raise_minimum(&mut found);
            assert_eq!(found, case);
        }
    }
}
