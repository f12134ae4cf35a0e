//! Binaries from real compilers and toolchains: each is recognised, and one that no WASI runtime can start is never
//! taken for one that can. What `tests/fixtures/producers/fetch` could not download is skipped with a note.

use std::collections::BTreeSet;
use std::fs;

use wasmgate::image::{Feature, ImageKind, InterpreterKind, ModuleFacts, WasmFormat, kind, module};
use wasmgate::runtime::Family;

use crate::support::oci::fixtures::{componentize, go, go_for, produced};
use crate::support::process::root;

fn read(bytes: &[u8]) -> ModuleFacts {
    let facts = module::read(bytes, "test").unwrap();
    assert_eq!(facts.size_bytes, bytes.len() as u64);
    assert!(facts.code_bytes + facts.data_bytes < facts.size_bytes);
    facts
}

fn interfaces(facts: &ModuleFacts) -> Vec<&str> {
    facts.imports.iter().map(|import| import.interface.as_str()).collect()
}

/// Interpreters, each with the values of its evidence.
fn interpreters(facts: &ModuleFacts) -> Vec<(InterpreterKind, Vec<&str>)> {
    facts
        .interpreters
        .iter()
        .map(|found| (found.engine, found.evidence.iter().map(|e| e.value.as_str()).collect()))
        .collect()
}

fn functions<'a>(facts: &'a ModuleFacts, prefix: &str) -> Vec<&'a str> {
    let imports = facts.imports.iter().filter(|import| import.interface.starts_with(prefix));
    imports.flat_map(|import| import.functions.iter().map(String::as_str)).collect()
}

/// Why a binary cannot be started, or a failed test.
#[track_caller]
fn refusal(facts: &ModuleFacts) -> String {
    kind::of(facts, None).expect_err("nothing in a pod can start it")
}

#[test]
fn go_commands_reactors_and_browser_programs_are_told_apart() {
    let command = read(&go("hello"));
    assert_eq!(kind::of(&command, None), Ok(ImageKind::Module));
    assert_eq!(interfaces(&command), ["wasi_snapshot_preview1"]);
    let reactor = read(&go_for("reactor", "wasip1", "c-shared"));
    assert_eq!(interfaces(&reactor), ["wasi_snapshot_preview1"]);
    assert!(refusal(&reactor).contains("reactor"), "{}", refusal(&reactor));
    assert_eq!(kind::of(&reactor, Some("add")), Ok(ImageKind::Module), "the entry point may name a function");
    let browser = read(&go_for("hello", "js", "exe"));
    assert!(refusal(&browser).contains("GOOS=wasip1"), "{}", refusal(&browser));
}

/// The linker of Go makes a table of one element for each function and 4096 more (`go:src/cmd/link/internal/wasm/asm.go`,
/// `writeTableSec`).
#[test]
fn what_compilers_make_for_wasi_fits_into_the_pool_of_the_wasmtime_shim() {
    let pool = Family::RunwasiWasmtime.runtime().pool().unwrap();
    let command = go("hello");
    assert!(read(&command).defined.table_elements > 4096);
    assert_eq!(pool.exceeded(&read(&command).defined), None);
    for name in
        ["clang", "clang-950k", "assemblyscript", "rust", "tinygo", "runwasi", "jscommand", "pycommand"]
    {
        let Some(bytes) = produced(name) else { continue };
        let defined = read(&bytes).defined;
        assert!(defined.memories == 1, "{name}: {defined:?}");
        assert_eq!(pool.exceeded(&defined), None, "{name}: {defined:?}");
    }
    // wasm-bindgen has a second table, for values of JavaScript.
    let Some(bytes) = produced("rollup") else { return };
    assert_eq!(read(&bytes).defined.tables, 2);
}

#[test]
fn the_program_that_esbuild_ships_for_javascript_is_not_a_wasi_program() {
    let Some(bytes) = produced("esbuild") else { return };
    let facts = read(&bytes);
    assert_eq!(interfaces(&facts), ["gojs"]);
    assert!(refusal(&facts).contains("JavaScript host"), "{}", refusal(&facts));
}

#[test]
fn emscripten_and_wasm_bindgen_modules_are_not_wasi_programs() {
    for (name, expected) in [("sqljs", "Emscripten"), ("rollup", "wasm-bindgen")] {
        let Some(bytes) = produced(name) else { continue };
        let facts = read(&bytes);
        assert!(refusal(&facts).contains(expected), "{name}: {}", refusal(&facts));
    }
}

#[test]
fn node_add_ons_with_threads_are_not_wasi_programs_although_they_import_wasi() {
    for name in ["crc32", "tailwind"] {
        let Some(bytes) = produced(name) else { continue };
        let facts = read(&bytes);
        assert!(interfaces(&facts).contains(&"wasi_snapshot_preview1"), "{name}");
        assert!(facts.features.contains(&Feature::SharedMemory), "{name}: {:?}", facts.features);
        assert!(facts.memory_max_bytes.is_some_and(|most| most >= facts.memory_bytes), "{name}");
        assert!(refusal(&facts).contains("Node-API"), "{name}: {}", refusal(&facts));
    }
    let Some(bytes) = produced("tailwind") else { return };
    assert!(read(&bytes).features.contains(&Feature::WasiThreads));
}

#[test]
fn a_program_for_the_first_snapshot_of_wasi_is_recognised() {
    let Some(bytes) = produced("cowsay") else { return };
    let facts = read(&bytes);
    assert_eq!(interfaces(&facts), ["wasi_unstable"]);
    assert_eq!(facts.features, BTreeSet::from([Feature::WasiUnstable]));
    assert_eq!(kind::of(&facts, None), Ok(ImageKind::Module));
}

#[test]
fn a_module_of_tens_of_megabytes_is_read() {
    let Some(bytes) = produced("yosys") else { return };
    assert!(bytes.len() > 50 << 20);
    let facts = read(&bytes);
    assert_eq!(kind::of(&facts, None), Ok(ImageKind::Module));
    assert_eq!(interfaces(&facts), ["wasi_snapshot_preview1"]);
    assert!(functions(&facts, "wasi").contains(&"path_open"));
    assert!(facts.code_bytes > 10 << 20, "{}", facts.code_bytes);
    assert_eq!(facts.features, BTreeSet::from([Feature::ExceptionHandling]));
}

#[test]
fn a_program_that_clang_made_imports_what_its_libc_uses() {
    let Some(bytes) = produced("clang") else { return };
    let facts = read(&bytes);
    assert_eq!(kind::of(&facts, None), Ok(ImageKind::Module));
    assert_eq!(interfaces(&facts), ["wasi_snapshot_preview1"]);
    let calls = functions(&facts, "wasi");
    assert!(calls.contains(&"fd_write") && !calls.contains(&"path_open"), "{calls:?}");
    assert!(facts.features.is_empty() && facts.memory_bytes >= 1 << 16);
}

/// What is between small and large in `docs/sizing.csv`. The largest has to stay below a million bytes, from which on a program is large
/// to the formula of sizes.
#[test]
fn programs_of_c_with_generated_functions_have_about_as_much_code_as_they_are_named_for() {
    for (name, bytes) in [("clang-300k", 300_000), ("clang-600k", 600_000), ("clang-950k", 950_000)] {
        let Some(module) = produced(name) else { continue };
        let facts = read(&module);
        assert_eq!(kind::of(&facts, None), Ok(ImageKind::Module), "{name}");
        assert!(facts.code_bytes * 10 > bytes * 8, "{name}: {}", facts.code_bytes);
        assert!(facts.code_bytes * 100 < bytes * 105, "{name}: {}", facts.code_bytes);
    }
}

#[test]
fn a_program_that_tinygo_made_imports_less_than_one_of_go() {
    let Some(bytes) = produced("tinygo") else { return };
    let facts = read(&bytes);
    assert_eq!(kind::of(&facts, None), Ok(ImageKind::Module));
    assert_eq!(interfaces(&facts), ["wasi_snapshot_preview1"]);
    let calls = functions(&facts, "wasi");
    assert!(calls.contains(&"args_get") && !calls.contains(&"path_open"), "{calls:?}");
    // Every program of Go can open files.
    assert!(functions(&read(&go("hello")), "wasi").contains(&"path_open"));
    assert_eq!(facts.memory_bytes, 2 << 16);
}

#[test]
fn an_interpreters_component_can_call_everything_that_its_library_can() {
    let Some(bytes) = produced("python") else { return };
    assert!(bytes.len() > 10 << 20);
    let facts = read(&bytes);
    assert_eq!(facts.format, WasmFormat::Component);
    assert!(functions(&facts, "wasi:filesystem/types@0.2").contains(&"[method]descriptor.open-at"));
    assert!(functions(&facts, "wasi:sockets/tcp@0.2").contains(&"[method]tcp-socket.start-connect"));
    assert!(interfaces(&facts).iter().any(|name| name.starts_with("wasi:cli/environment@0.2")));
    // Its world exports a function, not `wasi:cli/run`, so it starts only by an entry point that names the function.
    assert!(facts.exports.contains("run"), "{:?}", facts.exports);
    assert!(refusal(&facts).contains("`run`"), "{}", refusal(&facts));
    assert_eq!(kind::of(&facts, Some("run")), Ok(ImageKind::Component));
    let found = interpreters(&facts);
    let [(InterpreterKind::Cpython, evidence)] = found.as_slice() else { panic!("{found:?}") };
    assert!(evidence.contains(&"PyInit_componentize_py_runtime"), "{evidence:?}");
    assert!(evidence.contains(&"Py_GetBuildInfo"), "{evidence:?}");
}

#[test]
fn a_program_without_an_interpreter_is_never_taken_for_one_however_large() {
    for name in [
        "esbuild", "sqljs", "rollup", "crc32", "tailwind", "cowsay", "adapter", "yosys", "runwasi", "clang",
        "tinygo",
    ] {
        let Some(bytes) = produced(name) else { continue };
        assert_eq!(interpreters(&read(&bytes)), [], "{name}");
    }
    assert_eq!(interpreters(&read(&go("hello"))), []);
}

#[test]
fn a_javascript_component_imports_what_was_not_disabled() {
    let Some(bytes) = produced("javascript") else { return };
    let facts = read(&bytes);
    assert_eq!(facts.format, WasmFormat::Component);
    assert_eq!(kind::of(&facts, Some("run")), Ok(ImageKind::Component));
    assert!(interfaces(&facts).iter().any(|name| name.starts_with("wasi:cli/stdout@0.2")));
    assert_eq!(functions(&facts, "wasi:http/outgoing-handler"), Vec::<&str>::new());
    let found = interpreters(&facts);
    let [(InterpreterKind::Spidermonkey, evidence)] = found.as_slice() else { panic!("{found:?}") };
    assert!(evidence.contains(&"ComponentizeJS 0.23.0"), "{evidence:?}");
}

#[test]
fn runwasis_own_test_component_is_a_command_that_opens_no_files() {
    let Some(bytes) = produced("runwasi") else { return };
    let facts = read(&bytes);
    assert_eq!(kind::of(&facts, None), Ok(ImageKind::Component));
    assert!(!functions(&facts, "wasi:filesystem/types").contains(&"[method]descriptor.read-directory"));
}

#[test]
fn the_adapter_alone_is_not_a_program() {
    let Some(bytes) = produced("adapter") else { return };
    let facts = read(&bytes);
    assert_eq!(facts.format, WasmFormat::Module);
    assert!(refusal(&facts).contains("no WASI host provides"), "{}", refusal(&facts));
}

// === Sizes ===

/// The bytes of the sections of code and of data in a binary and in the modules within it, without the gate's reader.
fn counted(bytes: &[u8]) -> (u64, u64) {
    let is_component = bytes[6] == 1;
    let (mut code, mut data, mut at) = (0, 0, 8);
    while at < bytes.len() {
        let section = bytes[at];
        let (mut size, mut shift) = (0_usize, 0);
        loop {
            at += 1;
            size |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            if bytes[at] < 0x80 {
                break;
            }
        }
        let content = &bytes[at + 1..at + 1 + size];
        let (more_code, more_data) = match (is_component, section) {
            (true, 1 | 4) => counted(content),
            (false, 10) => (content.len() as u64, 0),
            (false, 11) => (0, content.len() as u64),
            _ => (0, 0),
        };
        (code, data, at) = (code + more_code, data + more_data, at + 1 + size);
    }
    (code, data)
}

/// The program of a row of `docs/sizing.csv`, as `make calibrate` makes it.
fn measured(name: &str) -> Option<Vec<u8>> {
    match name {
        "go" => Some(go("hello")),
        "clang-component" => produced("clang").map(|program| componentize(&program)),
        // The one takes long to compile, and the other is no compiler's.
        "go-large" | "wat" => None,
        name => produced(name),
    }
}

/// `tests/suite/sizing.rs` holds the floor to the sizes in the table, and not to what is read of a module.
#[test]
fn what_is_read_of_a_program_is_as_large_as_its_sections_and_as_the_table_of_sizes_says() {
    let close = |one: u64, other: u64| one.abs_diff(other) * 100 <= other;
    let table = fs::read_to_string(root().join("docs/sizing.csv")).unwrap();
    let mut rows: Vec<(&str, Vec<u64>)> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once(",\"") else { continue };
        // Behind the runtime, the packing, the compiler, the digest and the size of the file.
        let numbers = rest.split_once("\",").unwrap().1.split(',').skip(5).take(3);
        rows.push((name, numbers.map(|number| number.parse().unwrap()).collect()));
    }
    let names: BTreeSet<&str> = rows.iter().map(|(name, _)| *name).collect();
    assert!(names.contains("go") && names.contains("clang-component"), "{names:?}");
    for name in names {
        let Some(bytes) = measured(name) else { continue };
        let facts = read(&bytes);
        let (code, data) = counted(&bytes);
        assert!(
            close(facts.code_bytes, code),
            "{name}: {} bytes of code, and there are {code}",
            facts.code_bytes
        );
        assert!(
            close(facts.data_bytes, data),
            "{name}: {} bytes of data, and there are {data}",
            facts.data_bytes
        );
        let found = [facts.code_bytes, facts.data_bytes, facts.memory_bytes];
        for (_, written) in rows.iter().filter(|(of, _)| *of == name) {
            let same =
                written.len() == 3 && found.iter().zip(written).all(|(one, other)| close(*one, *other));
            assert!(same, "{name}: {found:?} in the program, {written:?} in docs/sizing.csv");
        }
    }
}
