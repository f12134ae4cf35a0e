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

/// Memory of each thread that compiles beside those of the calibration. A Go program with 1.68 MB of code peaked, in process, at 66 MiB
/// with one thread, 71 with two, 82 with four, 98 with eight and 115 with sixteen: (115 - 71) / 14 are 3.1 MiB for each. Of no other
/// program that was measured.
const THREAD: i128 = 4 * MIB;

/// Most memory of such a thread for each byte of code: a program with less of it has less to compile at once.
const THREAD_PER_BYTE: i128 = 4;

/// The most processors that count, and what counts where no limit says how many a container may use.
const MOST_PROCESSORS: i128 = 16;

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
/// tables, the code, what a container that compiles its program reads of its file, and what the runtime needs before it loads a
/// module. `cpu_limit` is that under which the program starts; `None` where there is none.
pub fn memory<'a>(
    compiler: Compiler,
    own: OwnMemory,
    cpu_limit: Option<Quantity>,
    modules: impl Iterator<Item = &'a ModuleFacts>,
) -> Quantity {
    let (base, thousandths) = fixed_and_per_byte(compiler, own);
    let (beside, code) = modules.fold((0_i128, 0_i128), |(beside, code), module| {
        let more = beside_code(module, compiler, own);
        (beside.saturating_add(more), code.saturating_add(i128::from(module.code_bytes)))
    });
    let of_code = code.saturating_mul(thousandths).saturating_add(999) / 1000;
    let bytes = beside.saturating_add(of_code).saturating_add(of_threads(compiler, cpu_limit, code));
    // The largest whole number of Mi that the API server can hold.
    let most = Quantity::from_bytes(i128::MAX).down_to(Quantity::from_bytes(MIB));
    (base + Quantity::from_bytes(bytes)).up_to(Quantity::from_bytes(MIB)).min(most)
}

/// What is needed whatever the program, and thousandths of a byte for each byte of its code. What the profile says comes before what
/// was measured; its base for layers raises that of files too.
fn fixed_and_per_byte(compiler: Compiler, own: OwnMemory) -> (Quantity, i128) {
    let measured = measured_memory(compiler);
    let (base, written) = match compiler {
        Compiler::Shim => (own.base, own.per_byte),
        Compiler::Container | Compiler::Crun => {
            let least = Quantity::mebibytes(measured.fixed_mebibytes);
            (own.file_base.unwrap_or_else(|| own.base.max(least)), own.file_per_byte)
        }
    };
    (base, written.map_or_else(|| i128::from(measured.per_byte) * 1000, i128::from))
}

/// What one module needs beside its code. wasmtime zeroes a table before it writes the elements, so that of a large table only the
/// pages may count that are written; a program that fills it at its start needs all of it.
fn beside_code(module: &ModuleFacts, compiler: Compiler, own: OwnMemory) -> i128 {
    let tables = i128::from(module.table_elements).saturating_mul(own.table_element.into());
    let linear = i128::from(module.memory_bytes).saturating_add(module.data_bytes.into());
    tables.saturating_add(linear).saturating_add(rest_of_binary(module, compiler))
}

/// What of the binary is neither code nor data and is in the container's memory all the same. A runtime that compiles there keeps the
/// whole file meanwhile, debug information included: runwasi's shims (`containerd-shim-wasm:src/sandbox/context.rs`,
/// `Source::as_bytes`, read at 1.0.1), youki (`wasmtime:src/compile/code_builder.rs`, `wasm_binary_or_text_file`, read at 46) and crun
/// (`crun:src/libcrun/handlers/wasmtime.c`). Of a layer the container copies what the shim made of it, in which there are the names of
/// functions and no debug information (`wasmtime-environ:src/compile/module_environ.rs`, `name_section` and `dwarf_section`, read
/// at 48).
fn rest_of_binary(module: &ModuleFacts, compiler: Compiler) -> i128 {
    match compiler {
        Compiler::Shim => module.name_bytes.into(),
        Compiler::Container | Compiler::Crun => {
            let counted = module.code_bytes.saturating_add(module.data_bytes);
            module.size_bytes.saturating_sub(counted).into()
        }
    }
}

/// Memory for the threads that compile beside those of the calibration. wasmtime has one for each processor that the process may use,
/// and a CPU limit counts (`rayon-core:src/lib.rs`, `get_num_threads`; `std::thread::available_parallelism`).
fn of_threads(compiler: Compiler, cpu_limit: Option<Quantity>, code: i128) -> i128 {
    if compiler == Compiler::Shim {
        return 0;
    }
    let processors = cpu_limit
        .map_or(MOST_PROCESSORS, |limit| i128::from(limit.millis().div_ceil(1000)))
        .min(MOST_PROCESSORS);
    let further = (processors - i128::from(calibrated::PROCESSORS)).max(0);
    code.saturating_mul(THREAD_PER_BYTE).min(THREAD).saturating_mul(further)
}

/// CPU time in milliseconds that the container spends on compiling at every start; zero when the shim compiles.
pub fn compile_millis<'a>(compiler: Compiler, modules: impl Iterator<Item = &'a ModuleFacts>) -> i128 {
    millis(modules, measured_time(compiler).map(|time| time.tenths))
}

/// CPU time in milliseconds that the container spends on compiling at a start, on a machine that is as slow as the slowest that was measured.
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

/// The CPU limit under which so many milliseconds of CPU time take no longer than these seconds; `None` where none is known to be
/// enough. That more processors than those of the calibration compile faster was not measured.
pub fn cpu_within(millis: i128, seconds: u64) -> Option<Quantity> {
    let seconds = Some(i128::from(seconds)).filter(|seconds| *seconds > 0)?;
    let limit = Quantity::from_millis(millis.saturating_add(seconds - 1) / seconds);
    let most = Quantity::from_millis(i128::from(calibrated::PROCESSORS) * 1000);
    Some(limit).filter(|limit| *limit <= most)
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
        OwnMemory {
            base: Quantity::mebibytes(mebibytes),
            file_base: None,
            per_byte: None,
            file_per_byte: None,
            table_element: 8,
        }
    }

    /// With as many processors as the calibration had.
    fn floor<'a>(
        compiler: Compiler,
        own: OwnMemory,
        modules: impl Iterator<Item = &'a ModuleFacts>,
    ) -> Quantity {
        memory(compiler, own, Some(Quantity::from_millis(2000)), modules)
    }

    fn mebibytes(compiler: Compiler, code: u64, pages: u64) -> i128 {
        let floor = floor(compiler, own(4), std::iter::once(&module(code, pages * 65_536)));
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
            ("tiny text module, file", rootfs, 100, 1, 2, 19),
            ("Go hello, layer, cold page cache", layers, 1_601_000, 38, 12, 16),
            ("Go hello, layer, in KiB", layers, 1_601 << 10, 38, 12, 16),
            ("Go hello, file, wasmtime 48", rootfs, 1_601_000, 38, 72, 100),
            ("Go hello, file, in KiB", rootfs, 1_601 << 10, 38, 72, 100),
            ("Go hello, file, youki", rootfs, 1_601_000, 38, 71, 100),
            ("Rust hello, file", rootfs, 61_000, 17, 16, 23),
            ("fetch_rs", rootfs, 157_000, 17, 5, 27),
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
        assert_eq!(cpu(Compiler::Container, std::iter::once(&monkey)).cpu(), "1442m");
    }

    #[test]
    fn the_modules_of_an_app_add_up_on_the_base_of_its_runtime() {
        let parts = [module(1 << 20, 1 << 20), module(1 << 20, 2 << 20)];
        assert_eq!(floor(Compiler::Shim, own(24), parts.iter()).memory(), "35Mi");
        assert_eq!(floor(Compiler::Shim, own(24), [].iter()).memory(), "24Mi");
    }

    /// A component of componentize-py: 6.6 MB of code and 11 MB of data. It failed with 43Mi and started with 47Mi.
    #[test]
    fn data_counts_beside_the_memory_into_which_it_is_copied() {
        let python = ModuleFacts { data_bytes: 11_037_873, ..module(6_568_279, 12_910_592) };
        assert_eq!(floor(Compiler::Shim, own(4), std::iter::once(&python)).memory(), "52Mi");
    }

    /// The largest table that a module may declare, as the validator of wasmtime has it.
    #[test]
    fn the_elements_that_a_table_begins_with_count_by_their_size_in_the_engine() {
        let table = ModuleFacts { table_elements: 10_000_000, ..module(0, 0) };
        let floor_of = |compiler, own| floor(compiler, own, std::iter::once(&table)).memory();
        assert_eq!(floor_of(Compiler::Shim, own(4)), "81Mi");
        assert_eq!(floor_of(Compiler::Container, own(4)), "94Mi");
        assert_eq!(floor_of(Compiler::Container, OwnMemory { table_element: 16, ..own(4) }), "170Mi");
        let small = ModuleFacts { table_elements: 2_000, ..module(0, 0) };
        assert_eq!(floor(Compiler::Shim, own(4), std::iter::once(&small)).memory(), "5Mi");
    }

    /// Debug information is most of what Rust's compiler writes: 5.8 MB for 63 kB of code.
    #[test]
    fn a_container_that_compiles_has_the_whole_file_in_memory_and_another_one_the_names_of_functions() {
        let rust = ModuleFacts { size_bytes: 5_830_233, data_bytes: 11_862, ..module(62_675, 1_114_112) };
        let hostile = ModuleFacts { size_bytes: 45 * 1024 * 1024 + 100, ..module(100, 65_536) };
        let larger = ModuleFacts { data_bytes: 200, ..module(100, 65_536) };
        let named = ModuleFacts { name_bytes: 45 * 1024 * 1024, ..hostile.clone() };
        for (program, layer, file) in [
            (&rust, "6Mi", "27Mi"),
            (&hostile, "5Mi", "63Mi"),
            (&larger, "5Mi", "18Mi"),
            (&named, "50Mi", "63Mi"),
        ] {
            assert_eq!(floor(Compiler::Shim, own(4), std::iter::once(program)).memory(), layer);
            assert_eq!(floor(Compiler::Container, own(4), std::iter::once(program)).memory(), file);
        }
        let under_crun = |program| floor(Compiler::Crun, own(4), std::iter::once(program));
        assert_eq!(under_crun(&hostile), under_crun(&larger) + Quantity::mebibytes(45));
    }

    /// Threads, and the peak in MiB that a Go program with 1.68 MB of code had in process.
    #[test]
    fn each_processor_beyond_those_of_the_calibration_has_memory_for_its_thread() {
        let go = module(1_681_331, 2_555_904);
        let of = |program: &ModuleFacts, cpu: Option<i128>| {
            let limit = cpu.map(Quantity::from_millis);
            memory(Compiler::Container, own(4), limit, std::iter::once(program))
        };
        for (threads, peak) in [(1, 66), (2, 71), (4, 82), (8, 98), (16, 115)] {
            assert!(of(&go, Some(threads * 1000)) >= Quantity::mebibytes(peak), "{threads} threads");
        }
        let measured = of(&go, Some(2000));
        for (cpu, further) in [
            (Some(200), 0),
            (Some(2001), 4),
            (Some(4000), 8),
            (Some(16_000), 56),
            (Some(64_000), 56),
            (None, 56),
        ] {
            assert_eq!(of(&go, cpu), measured + Quantity::mebibytes(further), "{cpu:?}");
        }
        // 14 threads with four bytes each for 62,675 bytes of code.
        let small = module(62_675, 65_536);
        assert_eq!([Some(2000), None].map(|cpu| of(&small, cpu).memory()), ["21Mi", "24Mi"]);
        let layer = |cpu| memory(Compiler::Shim, own(4), cpu, std::iter::once(&go));
        assert_eq!(layer(None), layer(Some(Quantity::from_millis(2000))));
    }

    #[test]
    fn what_a_profile_says_takes_the_place_of_what_was_measured() {
        let program = module(1 << 20, 0);
        let of = |compiler, own| floor(compiler, own, std::iter::once(&program)).memory();
        let layers = OwnMemory { per_byte: Some(2500), ..own(4) };
        assert_eq!([own(4), layers].map(|own| of(Compiler::Shim, own)), ["8Mi", "7Mi"]);
        assert_eq!(of(Compiler::Container, layers), of(Compiler::Container, own(4)));
        let files =
            OwnMemory { file_base: Some(Quantity::mebibytes(6)), file_per_byte: Some(33_250), ..own(20) };
        assert_eq!([own(20), files].map(|own| of(Compiler::Container, own)), ["70Mi", "40Mi"]);
        assert_eq!(of(Compiler::Shim, files), of(Compiler::Shim, own(20)));
    }

    /// crun has a build of its own, and counts as the others until it is measured.
    #[test]
    fn what_was_measured_of_crun_counts_for_crun_and_for_no_other() {
        let program = module(1_681_331, 2_555_904);
        let of = |compiler| floor(compiler, own(4), std::iter::once(&program));
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
            (40_000, 20, Some("2000m")),
            (40_001, 20, None),
        ] {
            let found = cpu_within(millis, seconds).map(Quantity::cpu);
            assert_eq!(found.as_deref(), expected, "{millis} ms in {seconds} s");
        }
        assert!(cpu_within(i128::MAX, 1).is_none());
    }

    #[test]
    fn a_module_that_claims_absurd_sizes_ends_at_the_largest_quantity() {
        let absurd = [(); 2].map(|()| ModuleFacts { table_elements: u64::MAX, ..module(u64::MAX, u64::MAX) });
        for compiler in [Compiler::Shim, Compiler::Container, Compiler::Crun] {
            let floor = memory(compiler, own(0), None, absurd.iter());
            assert_eq!(Quantity::parse(&floor.memory()), Ok(floor));
            assert!(floor > Quantity::parse("7Ei").unwrap());
            assert!(cpu(compiler, absurd.iter()) >= Quantity::ZERO);
        }
    }
}
