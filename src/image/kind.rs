//! The kind as which a runtime can start a module or component.

use super::module::is_http_0_3;
use super::{ImageKind, Import, ModuleFacts, WasmFormat};
use crate::text::quoted;

/// Most characters of a name in a message.
const LONGEST_NAME: usize = 160;

/// The kind as which a runtime can start a binary, or why no runtime can. `function` is what follows `#` in the entry
/// point, if anything does (`runwasi:crates/containerd-shim-wasm/src/sandbox/context.rs`).
pub fn of(facts: &ModuleFacts, function: Option<&str>) -> Result<ImageKind, String> {
    match facts.format {
        WasmFormat::Module => module_kind(facts, function),
        WasmFormat::Component => component_kind(facts, function),
    }
}

/// The export of a command.
const COMMAND: &str = "wasi:cli/run";
/// The export of a component that answers HTTP in WASI 0.2.
const HTTP_HANDLER_0_2: &str = "wasi:http/incoming-handler";

/// Whether a component answers HTTP as runwasi's shims know it.
pub fn is_http_0_2(facts: &ModuleFacts) -> bool {
    facts.exports.iter().any(|name| is_of(name, HTTP_HANDLER_0_2))
}

fn is_known(export: &str) -> bool {
    is_of(export, COMMAND) || is_of(export, HTTP_HANDLER_0_2)
}

/// Whether an export is of an interface, in whatever version.
fn is_of(export: &str, interface: &str) -> bool {
    export.split('@').next() == Some(interface)
}

fn component_kind(facts: &ModuleFacts, function: Option<&str>) -> Result<ImageKind, String> {
    if facts.code_bytes == 0 {
        return Err("it is a component without code, such as a WIT package, which nothing can start".into());
    }
    // runwasi takes the first export that begins like one of two, in the order of the binary
    // (`runwasi:crates/containerd-shim-wasmtime/src/instance.rs`, `ComponentTarget::new`). What a command is handed and what an
    // HTTP handler is handed are different things.
    let is_like = |name: &&String| [COMMAND, HTTP_HANDLER_0_2].iter().any(|known| name.starts_with(known));
    if let Some(name) = facts.exports.iter().find(|name| is_like(name) && !is_known(name)) {
        return Err(format!(
            "it exports `{}`, which runtimes take for the interface that it begins like; choose another name",
            quoted(name, LONGEST_NAME)
        ));
    }
    match (facts.exports.iter().any(|name| is_of(name, COMMAND)), is_http_0_2(facts)) {
        (true, true) => {
            return Err(format!(
                "it exports both `{COMMAND}` and `{HTTP_HANDLER_0_2}`, and a runtime starts it as the one or the other; build it \
                 with one of them"
            ));
        }
        (true, false) => return Ok(ImageKind::Component),
        (false, true) => return Ok(ImageKind::HttpComponent),
        (false, false) => {}
    }
    // runwasi does not know the handler of WASI 0.3; it calls a function that the entry point names, like a command.
    if function.is_some_and(|name| facts.exports.contains(name)) {
        return Ok(ImageKind::Component);
    }
    if facts.exports.iter().any(|name| is_http_0_3(name)) {
        return Ok(ImageKind::HttpComponent);
    }
    Err(format!(
        "it is a component that exports neither `{COMMAND}` nor `{HTTP_HANDLER_0_2}`, but {}",
        listed(facts.exports.iter().map(String::as_str))
    ))
}

fn module_kind(facts: &ModuleFacts, function: Option<&str>) -> Result<ImageKind, String> {
    let threads = facts.imports.iter().any(|import| import.interface == "wasi");
    let foreign = facts.imports.iter().find(|import| !is_wasi(import, threads));
    if let Some(import) = foreign {
        return Err(format!(
            "it imports `{}`, {}",
            quoted(&import.interface, LONGEST_NAME),
            why_foreign(import)
        ));
    }
    match function.filter(|name| !name.is_empty()) {
        Some(name) if facts.exports.contains(name) => Ok(ImageKind::Module),
        Some(name) => {
            let name = quoted(name, LONGEST_NAME);
            Err(format!("it does not export the function `{name}` that the entry point names after `#`"))
        }
        None if facts.exports.contains("_start") => Ok(ImageKind::Module),
        None if facts.exports.contains("_initialize") => {
            Err("it is a reactor, which has no `_start`; name the function to call as `path#function`".into())
        }
        None => Err(format!(
            "it does not export `_start`, but {}; build it as a command, or name the function to call as `path#function`",
            listed(facts.exports.iter().map(String::as_str))
        )),
    }
}

/// Whether WASI hosts provide the module of an import. wasi-threads imports its shared memory from `env`.
fn is_wasi(import: &Import, threads: bool) -> bool {
    match import.interface.as_str() {
        "wasi_snapshot_preview1" | "wasi_unstable" | "wasi" | "wasix_32v1" | "wasix_64v1" => true,
        "env" => threads && import.functions.is_empty(),
        name => name.starts_with("wasi_ephemeral_"),
    }
}

fn why_foreign(import: &Import) -> &'static str {
    let calls = |prefix: &str| import.functions.iter().any(|name| name.starts_with(prefix));
    match import.interface.as_str() {
        name if name == "lunatic" || name.starts_with("lunatic::") => {
            "which only lunatic provides, whose shim is retired: build it for a WASI target"
        }
        "env" if calls("proxy_") => {
            "which only a proxy provides: it is a proxy-wasm filter, which Envoy loads; it is not a program that a \
             pod can start"
        }
        "env" if calls("napi_") => "which only a JavaScript host provides: it is a Node-API add-on",

        "gojs" | "go" => "which only a JavaScript host provides: build it with `GOOS=wasip1`, not `GOOS=js`",
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => {
            "which only the JavaScript of wasm-bindgen provides: build it for a WASI target"
        }
        name if name.ends_with("_bg.js") => {
            "which only the JavaScript of wasm-bindgen provides: build it for a WASI target"
        }
        // Emscripten's optimiser shortens all names to such.
        "a" if import.functions.iter().all(|name| name.len() <= 2) => {
            "which no WASI host provides: the short names are those of Emscripten's optimised output"
        }
        "env" => "which no WASI host provides: it was linked against a host of its own, such as Emscripten's",
        _ => "which no WASI host provides",
    }
}

/// A few names, for a message.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let shown: Vec<String> = names.take(4).map(|name| format!("`{}`", quoted(name, LONGEST_NAME))).collect();
    if shown.is_empty() { "nothing".into() } else { shown.join(", ") }
}
