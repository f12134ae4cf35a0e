//! The images that the cases name: one of every shape, as OCI layouts that stand in for the registry `images.test`.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot be built must fail its test")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::oci::{Image, ImageBuilder, fixtures};

/// The registry that the layouts stand in for.
pub const HOST: &str = "images.test";

/// Bytes that begin as an ELF file does.
const ELF: &[u8] = b"\x7fELF precompiled";

/// The folder with all layouts; written once for each test binary.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flow-images");
        for (name, image) in catalogue() {
            image.write_layout(&folder.join(name), "v1").unwrap();
        }
        folder
    })
}

/// Every image by its name.
fn catalogue() -> Vec<(&'static str, Image)> {
    [modules(), components(), spin_apps(), root_file_systems(), broken()].into_iter().flatten().collect()
}

fn artifact(module: &[u8]) -> Image {
    ImageBuilder::wasm_artifact(module).build()
}

fn modules() -> Vec<(&'static str, Image)> {
    let acme = fixtures::wat(
        r#"(module (import "acme_gpu" "draw" (func $d)) (memory (export "memory") 1)
            (func (export "_start") (call $d)))"#,
    );
    // 60 MiB of memory before the first instruction.
    let hungry = fixtures::wat(r#"(module (memory (export "memory") 960) (func (export "_start")))"#);
    vec![
        ("hello", artifact(&fixtures::command())),
        ("hello-v2", artifact(&fixtures::wat(r#"(module (func (export "_start") nop))"#))),
        ("files", artifact(&fixtures::file_command())),
        ("go", artifact(&fixtures::go("hello"))),
        ("acme", artifact(&acme)),
        ("hungry", artifact(&hungry)),
        ("runwasi-files", ImageBuilder::runwasi(&fixtures::file_command(), "app.wasm").build()),
    ]
}

/// A command component that imports one function of one interface.
fn importing(interface: &str, function: &str) -> Vec<u8> {
    fixtures::wat(&format!(
        r#"(component
            (import "{interface}" (instance (export "{function}" (func (result u32)))))
            (core module $m (memory (export "memory") 1) (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $f (result (result)) (canon lift (core func $i "f")))
            (instance $e (export "run" (func $f)))
            (export "wasi:cli/run@0.2.0" (instance $e)))"#
    ))
}

fn components() -> Vec<(&'static str, Image)> {
    let quiet = fixtures::wat(
        r#"(component
            (core module $m (memory (export "memory") 1) (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $f (result u32) (canon lift (core func $i "f")))
            (instance $e (export "handle" (func $f)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $e)))"#,
    );
    vec![
        ("component", artifact(&fixtures::componentize(&fixtures::command()))),
        ("component-files", artifact(&fixtures::componentize(&fixtures::file_command()))),
        ("dns", artifact(&importing("wasi:sockets/ip-name-lookup@0.2.0", "resolve-addresses"))),
        ("acme-component", artifact(&importing("acme:gpu/device@0.1.0", "draw"))),
        ("keyvalue", artifact(&importing("wasi:keyvalue/store@0.2.0-draft", "open"))),
        ("http", artifact(&fixtures::http_component())),
        ("http-quiet", artifact(&quiet)),
    ]
}

fn spin_apps() -> Vec<(&'static str, Image)> {
    let module = fixtures::http_component();
    let app = |metadata: Value| {
        ImageBuilder::spin(&fixtures::locked_app(&[&module], &metadata), &[&module]).build()
    };
    vec![
        ("spin", app(json!({"allowed_outbound_hosts": ["https://payments.example.com"]}))),
        ("spin-quiet", app(json!({}))),
        ("spin-template", app(json!({"allowed_outbound_hosts": ["https://{{ payments_host }}"]}))),
    ]
}

fn root_file_systems() -> Vec<(&'static str, Image)> {
    let files = fixtures::file_command();
    let rootfs = |platform: &str, entrypoint: &str, files: &[(&str, &[u8])]| {
        ImageBuilder::rootfs(platform, &[entrypoint]).files(files).build()
    };
    let wasi = rootfs("wasi/wasm", "/app.wasm", &[("app.wasm", &files)]);
    let both: &[(&str, &[u8])] = &[("bin/app", ELF), ("srv/app.wasm", &files)];
    vec![
        ("buildx", wasi.with_attestation("wasi/wasm")),
        ("scratch", rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &files)])),
        ("scratch-with-shell", rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &files), ("bin/sh", ELF)])),
        // A Wasm program under the name of a native one, of which only an annotation tells.
        ("disguised", rootfs("linux/amd64", "/bin/app", &[("bin/app", &files)])),
        ("linux", rootfs("linux/amd64", "/bin/app", &[("bin/app", ELF)])),
        ("linux-with-wasm", rootfs("linux/amd64", "/bin/app", both)),
    ]
}

fn broken() -> Vec<(&'static str, Image)> {
    let module = fixtures::file_command();
    let half = module.get(..module.len() / 2).unwrap();
    vec![
        ("native-in-layer", artifact(ELF)),
        ("precompiled", ImageBuilder::runwasi(ELF, "app.cwasm").build()),
        ("native-rootfs", ImageBuilder::rootfs("wasi/wasm", &["/app"]).files(&[("app", ELF)]).build()),
        ("truncated", artifact(half)),
        ("package", artifact(&fixtures::wit_package())),
    ]
}
