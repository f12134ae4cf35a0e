//! The least that a program needs to start, computed from the size of its modules. `docs/sizing.csv` has what `make calibrate`
//! measured, with its versions and dates, and `tests/suite/sizing.rs` holds these formulas to every row; the tests below hold
//! them to what was measured elsewhere (`wasmtime` 36 and 48 under `containerd-shim-wasm` 1.0.1).

use crate::image::ModuleFacts;
use crate::runtime::Compiler;

use crate::quantity::{MIB, Quantity};

/// Memory that is charged to the container for each byte of a code section that the shim compiled beforehand, because
/// the compiled code is mapped and touched. The calibration of 2026-11-28 needs 2.6 to 3.6 of them for large modules
/// (wasmtime 48.0.8). A factor of 4 also covers a start with a cold page cache (12Mi for a Go program with 1,601 KB of code).
const MAPPED: i128 = 4;

/// Memory that compiling inside the container takes for each byte of code. The calibration of 2026-11-28 needs 41 to 44 of
/// them for a Go program with 1,681 KB (wasmtime 48.0.8, and 46 under youki), and that of 2026-11-29 up to 49 for a Python
/// component with 6,568 KB; in process, wasmtime 36 peaked at 121 MB for 1,953 KB, of which about 17 MB are not charged to
/// the pod. 50 covers all of these; 48 would miss the component.
const COMPILED: i128 = 50;

/// What the container process needs before it compiles anything: with wasmtime 36, a program with 61 KB of code was
/// killed at 12Mi and started at 16Mi. The calibration of 2026-11-28 asks for less: 12Mi for 63 KB.
const COMPILER: i128 = 14 * MIB;

/// CPU seconds for each million bytes of code, in tenths. On a busy machine a Go program took 1.7 (wasmtime 48) and 2.1 (youki) in
/// the calibration of 2026-11-28; measured elsewhere were 1.0 (wasmtime 48) to 1.8 (wasmtime 36). Larger ones took 2.9 to 3.9 on
/// 2026-11-29, when the machine took 1.8 times the CPU time for what it had run the day before. `tests/suite/sizing.rs` holds this
/// to the rows of the calibration with more than a million bytes. Both runtimes were built at `opt-level` 1; one that is built for
/// release is faster, by how much was not measured.
const TENTHS_OF_A_SECOND: i128 = 17;

/// The same at the slowest that was measured: 3.9 for a Python component, on 2026-11-29. The rule about probes goes by this, since a
/// container that is restarted while it compiles never starts; sizes go by the other, since those that are too small make it slow and
/// no more.
const TENTHS_AT_THE_SLOWEST: i128 = 39;

/// How long compiling may take under the limit that wasmgate fills in, in seconds. Common sample manifests give a
/// liveness probe a delay of 3 s and three failures 10 s apart before the container is restarted; ten seconds stays
/// below that, and so do the 23 that it takes at the slowest.
pub(super) const COMPILE_SECONDS: i128 = 10;

/// The memory limit, in whole Mi, below which the program does not start: `base`, the initial memory, the data that is
/// copied into it, and the code. `base` is what the runtime needs in the container before it loads a module: measured for
/// runwasi's wasmtime (at most 4Mi), a guess for Spin.
pub fn memory<'a>(
    compiler: Compiler,
    base: Quantity,
    modules: impl Iterator<Item = &'a ModuleFacts>,
) -> Quantity {
    let (base, per_byte) = match compiler {
        Compiler::Shim => (base, MAPPED),
        Compiler::Container => (base.max(Quantity::from_bytes(COMPILER)), COMPILED),
    };
    let bytes = modules.fold(0_i128, |sum, module| {
        let code = i128::from(module.code_bytes).saturating_mul(per_byte);
        let data = i128::from(module.data_bytes);
        sum.saturating_add(i128::from(module.memory_bytes)).saturating_add(data).saturating_add(code)
    });
    // The largest whole number of Mi that the API server can hold.
    let most = Quantity::from_bytes(i128::MAX).down_to(Quantity::from_bytes(MIB));
    (base + Quantity::from_bytes(bytes)).up_to(Quantity::from_bytes(MIB)).min(most)
}

/// CPU time in milliseconds that the container spends on compiling at every start; zero when the shim compiles.
pub fn compile_millis<'a>(compiler: Compiler, modules: impl Iterator<Item = &'a ModuleFacts>) -> i128 {
    millis(compiler, modules, TENTHS_OF_A_SECOND)
}

/// The same on a machine that is as slow as the slowest that was measured.
pub fn slowest_compile_millis<'a>(
    compiler: Compiler,
    modules: impl Iterator<Item = &'a ModuleFacts>,
) -> i128 {
    millis(compiler, modules, TENTHS_AT_THE_SLOWEST)
}

fn millis<'a>(compiler: Compiler, modules: impl Iterator<Item = &'a ModuleFacts>, tenths: i128) -> i128 {
    let code = modules.fold(0_i128, |sum, module| sum.saturating_add(i128::from(module.code_bytes)));
    match compiler {
        Compiler::Shim => 0,
        // 1.7 s per million bytes are 17 ms per ten thousand bytes.
        Compiler::Container => code.saturating_mul(tenths).saturating_add(9_999) / 10_000,
    }
}

/// The CPU limit under which compiling takes ten seconds.
pub fn cpu<'a>(compiler: Compiler, modules: impl Iterator<Item = &'a ModuleFacts>) -> Quantity {
    let millis = compile_millis(compiler, modules).saturating_add(COMPILE_SECONDS - 1) / COMPILE_SECONDS;
    Quantity::from_millis(millis)
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

    fn mebibytes(compiler: Compiler, code: u64, pages: u64) -> i128 {
        let base = Quantity::from_bytes(4 * MIB);
        let floor = memory(compiler, base, std::iter::once(&module(code, pages * 65_536)));
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
        let base = Quantity::from_bytes(24 * MIB);
        let parts = [module(1 << 20, 1 << 20), module(1 << 20, 2 << 20)];
        assert_eq!(memory(Compiler::Shim, base, parts.iter()).memory(), "35Mi");
        assert_eq!(memory(Compiler::Shim, base, [].iter()).memory(), "24Mi");
    }

    /// A component of componentize-py: 6.6 MB of code and 11 MB of data. It failed with 43Mi and started with 47Mi.
    #[test]
    fn data_counts_beside_the_memory_into_which_it_is_copied() {
        let python = ModuleFacts { data_bytes: 11_037_873, ..module(6_568_279, 12_910_592) };
        let base = Quantity::from_bytes(4 * MIB);
        assert_eq!(memory(Compiler::Shim, base, std::iter::once(&python)).memory(), "52Mi");
    }

    #[test]
    fn a_module_that_claims_absurd_sizes_ends_at_the_largest_quantity() {
        let absurd = [module(u64::MAX, u64::MAX), module(u64::MAX, u64::MAX)];
        for compiler in [Compiler::Shim, Compiler::Container] {
            let floor = memory(compiler, Quantity::ZERO, absurd.iter());
            assert_eq!(Quantity::parse(&floor.memory()), Ok(floor));
            assert!(floor > Quantity::parse("7Ei").unwrap());
            assert!(cpu(compiler, absurd.iter()) >= Quantity::ZERO);
        }
    }
}
