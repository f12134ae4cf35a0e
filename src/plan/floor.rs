//! The least that a program needs to start, computed from the size of its modules. The constants are `runtime::calibrated`, which are
//! computed from what `make calibrate` measured; `tests/suite/sizing.rs` holds these formulas to every row of it, and the tests below to
//! what was measured elsewhere (`wasmtime` 36 and 48 under `containerd-shim-wasm` 1.0.1).

use crate::image::ModuleFacts;
use crate::quantity::{MIB, Quantity};
use crate::runtime::calibrated::{self, Memory, Time};
use crate::runtime::{Compiler, OwnMemory};

/// How long compiling may take under the limit that wasmgate fills in, in seconds, as estimated. Where a probe would end a start that
/// takes as long as at the slowest, the limit is higher ([`cpu_within`]).
pub(super) const COMPILE_SECONDS: i128 = 10;

/// The memory for which the calibration speaks. For a Wasm layer that is the compiled code, which is mapped and touched; what it says
/// of a file is mostly what compiling takes. crun counts as the others where it was not measured.
fn measured_memory(compiler: Compiler) -> Memory {
    match compiler {
        Compiler::Shim => calibrated::LAYER_MEMORY,
        Compiler::Container => calibrated::FILE_MEMORY,
        Compiler::Crun => calibrated::CRUN_MEMORY.unwrap_or(calibrated::FILE_MEMORY),
    }
}

/// The time for which it speaks; `None` where the shim compiles.
fn measured_time(compiler: Compiler) -> Option<Time> {
    match compiler {
        Compiler::Shim => None,
        Compiler::Container => Some(calibrated::FILE_TIME),
        Compiler::Crun => Some(calibrated::CRUN_TIME.unwrap_or(calibrated::FILE_TIME)),
    }
}

/// The memory limit, in whole Mi, below which the program does not start: the initial memory, the data that is copied into it, the
/// tables, the code, and what the runtime needs before it loads a module. That is the base of the profile, or what the
/// calibration says of compiling in the container, where that is more.
pub fn memory<'a>(
    compiler: Compiler,
    own: OwnMemory,
    modules: impl Iterator<Item = &'a ModuleFacts>,
) -> Quantity {
    let measured = measured_memory(compiler);
    let base = match compiler {
        Compiler::Shim => own.base,
        Compiler::Container | Compiler::Crun => own.base.max(Quantity::mebibytes(measured.fixed_mebibytes)),
    };
    let bytes = modules.fold(0_i128, |sum, module| sum.saturating_add(bytes_of(module, measured, own)));
    // The largest whole number of Mi that the API server can hold.
    let most = Quantity::from_bytes(i128::MAX).down_to(Quantity::from_bytes(MIB));
    (base + Quantity::from_bytes(bytes)).up_to(Quantity::from_bytes(MIB)).min(most)
}

/// What one module needs. wasmtime zeroes a table before it writes the elements, so that of a large table only the pages may count
/// that are written; a program that fills it at its start needs all of it.
fn bytes_of(module: &ModuleFacts, measured: Memory, own: OwnMemory) -> i128 {
    let code = i128::from(module.code_bytes).saturating_mul(measured.per_byte.into());
    let tables = i128::from(module.table_elements).saturating_mul(own.table_element.into());
    let linear = i128::from(module.memory_bytes).saturating_add(module.data_bytes.into());
    code.saturating_add(tables).saturating_add(linear)
}

/// CPU time in milliseconds that the container spends on compiling at every start; zero when the shim compiles.
pub fn compile_millis<'a>(compiler: Compiler, modules: impl Iterator<Item = &'a ModuleFacts>) -> i128 {
    millis(modules, measured_time(compiler).map(|time| time.tenths))
}

/// The same on a machine that is as slow as the slowest that was measured.
pub fn slowest_compile_millis<'a>(
    compiler: Compiler,
    modules: impl Iterator<Item = &'a ModuleFacts>,
) -> i128 {
    millis(modules, measured_time(compiler).map(|time| time.slowest_tenths))
}

fn millis<'a>(modules: impl Iterator<Item = &'a ModuleFacts>, tenths: Option<u32>) -> i128 {
    let code = modules.fold(0_i128, |sum, module| sum.saturating_add(i128::from(module.code_bytes)));
    // 1.7 s per million bytes are 17 ms per ten thousand bytes.
    tenths.map_or(0, |tenths| code.saturating_mul(tenths.into()).saturating_add(9_999) / 10_000)
}

/// The CPU limit under which compiling takes ten seconds.
pub fn cpu<'a>(compiler: Compiler, modules: impl Iterator<Item = &'a ModuleFacts>) -> Quantity {
    let millis = compile_millis(compiler, modules).saturating_add(COMPILE_SECONDS - 1) / COMPILE_SECONDS;
    Quantity::from_millis(millis)
}

/// The CPU limit under which so many milliseconds of CPU time take no longer than these seconds; `None` where none is enough.
pub fn cpu_within(millis: i128, seconds: u64) -> Option<Quantity> {
    let seconds = Some(i128::from(seconds)).filter(|seconds| *seconds > 0)?;
    Some(Quantity::from_millis(millis.saturating_add(seconds - 1) / seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::WasmFormat;

    fn module(code_bytes: u64, memory_bytes: u64) -> ModuleFacts {
        ModuleFacts {
            code_bytes,
            memory_bytes,
            size_bytes: code_bytes,
            ..ModuleFacts::blank("/app.wasm", WasmFormat::Module)
        }
    }

    /// wasmtime with a base of so many Mi.
    fn own(mebibytes: u32) -> OwnMemory {
        OwnMemory { base: Quantity::mebibytes(mebibytes), table_element: 8 }
    }

    fn mebibytes(compiler: Compiler, code: u64, pages: u64) -> i128 {
        let floor = memory(compiler, own(4), std::iter::once(&module(code, pages * 65_536)));
        floor.memory().trim_end_matches("Mi").parse().unwrap()
    }

    /// Compiler, code bytes, pages, the smallest limit that is known to start it, and the largest that is not yet
    /// wasteful (both in Mi). The compile-only rows give the peak resident memory less the 16.6 MB that the pod is not
    /// charged for.
    #[test]
    fn the_floor_is_never_below_a_size_that_is_known_to_be_needed() {
        let (layers, rootfs) = (Compiler::Shim, Compiler::Container);
        let table = [
            ("tiny text module, layer", layers, 100, 1, 2, 6),
            ("tiny text module, file", rootfs, 100, 1, 2, 16),
            ("Go hello, layer, cold page cache", layers, 1_601_000, 38, 12, 16),
            ("Go hello, layer, in KiB", layers, 1_601 << 10, 38, 12, 16),
            ("Go hello, file, wasmtime 48", rootfs, 1_601_000, 38, 72, 100),
            ("Go hello, file, in KiB", rootfs, 1_601 << 10, 38, 72, 100),
            ("Go hello, file, youki", rootfs, 1_601_000, 38, 71, 100),
            ("Rust hello, file", rootfs, 61_000, 17, 16, 20),
            ("fetch_rs", rootfs, 157_000, 17, 5, 24),
            ("csharp http", rootfs, 787_000, 17, 35, 56),
            ("wasm-tools.core", rootfs, 1_953_000, 17, 100, 120),
            ("StarlingMonkey", rootfs, 9_007_000, 36, 332, 460),
        ];
        for (name, compiler, code, pages, needed, wasteful) in table {
            let floor = mebibytes(compiler, code, pages);
            assert!((needed..=wasteful).contains(&floor), "{name}: {floor}Mi, {needed}Mi are needed");
        }
    }

    /// Code bytes, and the measured CPU time in milliseconds.
    #[test]
    fn the_compile_time_is_within_a_fifth_of_every_measured_row() {
        let table = [
            (157_000, 280),
            (787_000, 1_360),
            (1_953_000, 3_140),
            (9_007_000, 13_000),
            // On the node, with wasmtime 48: 1.6 s.
            (1_601_000, 2_300),
        ];
        for (code, measured) in table {
            let module = module(code, 0);
            let fit = compile_millis(Compiler::Container, std::iter::once(&module));
            assert!(fit * 5 >= measured * 4 && fit * 4 <= measured * 5, "{code} bytes: {fit} ms");
            let slowest = slowest_compile_millis(Compiler::Container, std::iter::once(&module));
            assert!(slowest >= measured, "{code} bytes: {slowest} ms");
        }
    }

    #[test]
    fn only_a_file_in_a_root_file_system_needs_cpu_to_compile() {
        let monkey = module(9_007_000, 0);
        assert_eq!(cpu(Compiler::Shim, std::iter::once(&monkey)), Quantity::ZERO);
        assert_eq!(slowest_compile_millis(Compiler::Shim, std::iter::once(&monkey)), 0);
        assert_eq!(cpu(Compiler::Container, std::iter::once(&monkey)).cpu(), "1532m");
    }

    #[test]
    fn the_modules_of_an_app_add_up_on_the_base_of_its_runtime() {
        let parts = [module(1 << 20, 1 << 20), module(1 << 20, 2 << 20)];
        assert_eq!(memory(Compiler::Shim, own(24), parts.iter()).memory(), "35Mi");
        assert_eq!(memory(Compiler::Shim, own(24), [].iter()).memory(), "24Mi");
    }

    /// A component of componentize-py: 6.6 MB of code and 11 MB of data. It failed with 43Mi and started with 47Mi.
    #[test]
    fn data_counts_beside_the_memory_into_which_it_is_copied() {
        let python = ModuleFacts { data_bytes: 11_037_873, ..module(6_568_279, 12_910_592) };
        assert_eq!(memory(Compiler::Shim, own(4), std::iter::once(&python)).memory(), "52Mi");
    }

    /// The largest table that a module may declare, as the validator of wasmtime has it.
    #[test]
    fn the_elements_that_a_table_begins_with_count_by_their_size_in_the_engine() {
        let table = ModuleFacts { table_elements: 10_000_000, ..module(0, 0) };
        let floor = |compiler, own| memory(compiler, own, std::iter::once(&table)).memory();
        assert_eq!(floor(Compiler::Shim, own(4)), "81Mi");
        assert_eq!(floor(Compiler::Container, own(4)), "91Mi");
        assert_eq!(floor(Compiler::Container, OwnMemory { table_element: 16, ..own(4) }), "167Mi");
        let small = ModuleFacts { table_elements: 2_000, ..module(0, 0) };
        assert_eq!(memory(Compiler::Shim, own(4), std::iter::once(&small)).memory(), "5Mi");
    }

    /// crun has a build of its own, and counts as the others until it is measured.
    #[test]
    fn what_was_measured_of_crun_counts_for_crun_and_for_no_other() {
        let program = module(1_681_331, 2_555_904);
        let of = |compiler| memory(compiler, own(4), std::iter::once(&program));
        let time = |compiler| compile_millis(compiler, std::iter::once(&program));
        let is_measured = calibrated::CRUN_MEMORY.is_some();
        assert_eq!(is_measured, calibrated::CRUN_TIME.is_some());
        if !is_measured {
            assert_eq!(
                (of(Compiler::Crun), time(Compiler::Crun)),
                (of(Compiler::Container), time(Compiler::Container))
            );
        }
        assert!(of(Compiler::Crun) > of(Compiler::Shim) && time(Compiler::Crun) > 0);
    }

    #[test]
    fn the_limit_for_a_time_is_the_least_that_is_enough() {
        for (millis, seconds, expected) in [
            (35_128, 23, Some("1528m")),
            (35_128, 0, None),
            (20_000, 20, Some("1000m")),
            (20_001, 20, Some("1001m")),
            (1, u64::MAX, Some("1m")),
            (0, 20, Some("0")),
        ] {
            let found = cpu_within(millis, seconds).map(Quantity::cpu);
            assert_eq!(found.as_deref(), expected, "{millis} ms in {seconds} s");
        }
        assert!(cpu_within(i128::MAX, 1).is_some());
    }

    #[test]
    fn a_module_that_claims_absurd_sizes_ends_at_the_largest_quantity() {
        let absurd = [(); 2].map(|()| ModuleFacts { table_elements: u64::MAX, ..module(u64::MAX, u64::MAX) });
        for compiler in [Compiler::Shim, Compiler::Container, Compiler::Crun] {
            let floor = memory(compiler, own(0), absurd.iter());
            assert_eq!(Quantity::parse(&floor.memory()), Ok(floor));
            assert!(floor > Quantity::parse("7Ei").unwrap());
            assert!(cpu(compiler, absurd.iter()) >= Quantity::ZERO);
        }
    }
}
