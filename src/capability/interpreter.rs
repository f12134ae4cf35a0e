//! Recognises programs whose imports say little about them: an interpreter's component can call whatever the
//! interpreter's standard library can, even if the script inside is one line.

use super::required::of_module;
use super::{Capability, Entry};
use crate::image::{InterpreterKind, ModuleFacts, WasmFormat};

/// Least code, in bytes, of a likely interpreter. A guess that separates two kinds: interpreters with their libraries
/// are several times as large (componentize-py makes 18 MB from one line of Python), ordinary services several times
/// smaller.
const CODE_BYTES: u64 = 4 << 20;

/// Whether a binary looks like an interpreter, or a program with a whole standard library in it: much code, and imports
/// for variables, files and some kind of network. A guess, for advice and never for a verdict.
pub fn is_likely(module: &ModuleFacts) -> bool {
    if module.code_bytes <= CODE_BYTES {
        return false;
    }
    let calls: Vec<Entry> = of_module(module, "", false);
    let can = |wanted: &[Capability]| calls.iter().any(|entry| wanted.contains(&entry.capability));
    let network = [
        Capability::NetTcpConnect,
        Capability::NetUdp,
        Capability::NetListen,
        Capability::NetDns,
        Capability::HttpOutbound,
    ];
    can(&[Capability::Env]) && can(&[Capability::Fs]) && can(&network)
}

/// How to build an interpreted program into an image with fewer imports, in the terms of its toolchain: componentize-py
/// (`componentize-py:README.md`), ComponentizeJS (`ComponentizeJS:types.d.ts`, `disableFeatures`), or WASI-Virt for an
/// existing component.
pub const fn way_out(engine: InterpreterKind, format: WasmFormat) -> &'static str {
    match (engine, format) {
        (InterpreterKind::Cpython, WasmFormat::Component) => {
            "build it for a smaller world and without WASI where it needs none (`componentize-py -d WIT -w WORLD componentize \
             --stub-wasi`), or take the interfaces that it does not use away with wasi-virt"
        }
        (InterpreterKind::Spidermonkey, WasmFormat::Component) => {
            "build it without the features that it does not use (`jco componentize --disable http --disable fetch-event`; also \
             stdio, random, clocks, all), or take their interfaces away with wasi-virt"
        }
        (_, WasmFormat::Component) => {
            "build it for a world without the interfaces that it does not use, or take them away with wasi-virt"
        }
        (_, WasmFormat::Module) => {
            "pack the program with its interpreter as a component (componentize-py, `jco componentize`), whose world can leave \
             out what it does not use, and which wasi-virt can narrow"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Import, WasmFormat};

    fn module(code_bytes: u64, imports: &[(&str, &[&str])]) -> ModuleFacts {
        let import = |(interface, functions): &(&str, &[&str])| Import {
            interface: (*interface).into(),
            functions: functions.iter().map(ToString::to_string).collect(),
        };
        ModuleFacts {
            imports: imports.iter().map(import).collect(),
            exports: ["wasi:cli/run@0.2.0".to_string()].into(),
            code_bytes,
            size_bytes: code_bytes,
            ..ModuleFacts::blank("/app.wasm", WasmFormat::Component)
        }
    }

    const ENVIRONMENT: (&str, &[&str]) = ("wasi:cli/environment@0.2.0", &["get-environment"]);
    const FILES: (&str, &[&str]) = ("wasi:filesystem/types@0.2.0", &["[method]descriptor.open-at"]);
    const TCP: (&str, &[&str]) = ("wasi:sockets/tcp@0.2.0", &["[method]tcp-socket.start-connect"]);

    #[test]
    fn much_code_with_variables_files_and_a_network_is_likely_an_interpreter() {
        let all = [ENVIRONMENT, FILES, TCP];
        assert!(is_likely(&module(10 << 20, &all)));
        assert!(is_likely(&module(
            6 << 20,
            &[ENVIRONMENT, FILES, ("wasi:http/outgoing-handler@0.2.0", &["handle"])]
        )));
        assert!(!is_likely(&module(1 << 20, &all)));
        for left_out in 0..all.len() {
            let mut some = all.to_vec();
            some.remove(left_out);
            assert!(!is_likely(&module(10 << 20, &some)), "{some:?}");
        }
    }
}
