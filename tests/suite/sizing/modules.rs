//! The modules of the table are those of today's fixtures, as far as these are in the cache.

use std::collections::BTreeSet;
use std::fs;

use wasmgate::image::module;
use wasmparser::{Parser, Payload};

use super::rows;
use crate::support::oci::{digest, fixtures};
use crate::support::process::{own, root};

/// The module of that name, unless it would have to be built or downloaded first.
fn today(name: &str) -> Option<Vec<u8>> {
    match name {
        "wat" => Some(fixtures::command()),
        "clang-component" => fixtures::produced("clang").map(|bytes| fixtures::componentize(&bytes)),
        "go" => fixtures::built_go("hello"),
        "go-large" => fixtures::built_go("large"),
        produced => fixtures::produced(produced),
    }
}

/// Compilers of Python and JavaScript write another module each time, with as much code.
#[test]
fn the_modules_that_were_measured_have_as_much_code_as_those_of_today() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| &*row.module).collect();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for name in names {
        let Some(bytes) = today(name) else { continue };
        let (facts, digest) = (module::read(&bytes, name).unwrap(), digest(&bytes));
        for row in rows.iter().filter(|row| row.module == name) {
            looked_at += 1;
            let differs = row.code_bytes.abs_diff(facts.code_bytes);
            let was = [row.file_bytes, row.code_bytes, row.data_bytes, row.memory_bytes];
            let is = [facts.size_bytes, facts.code_bytes, facts.data_bytes, facts.memory_bytes];
            if differs * 100 > facts.code_bytes || (row.digest == digest && was != is) {
                wrong.push(format!("{name} under {}: {was:?} were measured, and it has {is:?}", row.runtime));
            }
        }
    }
    assert!(looked_at >= 3 && wrong.is_empty(), "{looked_at} rows: {wrong:#?}");
}

#[test]
fn a_row_with_a_digest_says_with_which_compiler_the_module_was_made_and_how_large_it_is() {
    for row in rows().iter().filter(|row| !row.digest.is_empty()) {
        let hex = row.digest.strip_prefix("sha256:").unwrap();
        assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{row:?}");
        assert!(row.file_bytes > row.code_bytes + row.data_bytes, "{row:?}");
        let by_hand = row.module == "wat";
        assert_eq!(row.made_with.is_empty(), by_hand, "{row:?}");
        assert!(by_hand || row.made_with.ends_with(|last: char| last.is_ascii_digit()), "{row:?}");
    }
}

/// Why the page says that it is not measured: a tag is what an exception is thrown with.
#[test]
fn the_large_program_of_c_plus_plus_has_the_code_and_the_exceptions_that_the_page_tells_of() {
    let Some(bytes) = today("yosys") else { return };
    let (mut has_tags, mut code_bytes) = (false, 0);
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::TagSection(_) => has_tags = true,
            Payload::CodeSectionStart { size, .. } => {
                code_bytes = size;
                break;
            }
            _ => {}
        }
    }
    assert!(has_tags);
    let page = fs::read_to_string(root().join("docs/sizing.md")).unwrap();
    let said = format!("yosys, a command for preview 1 with {} MB of code", code_bytes / 1_000_000);
    assert!(page.contains(&said), "{said}");
}

/// A name that is misspelt would measure nothing, and a runtime that is measured by no row would too.
#[test]
fn what_cannot_be_measured_is_not_asked_for() {
    for (arguments, why) in [
        (&["clang-300k", "clagn"][..], "there is no module `clagn`"),
        (&["clang", "--under", "wasmer"][..], "nothing is measured under `wasmer`"),
        (&["--again"][..], "which modules?"),
    ] {
        let mut calibrate = own("benches/calibrate", &[]);
        let output = calibrate.args(arguments).env("CARGO", "false").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(why), "{arguments:?}: {said}");
    }
}
