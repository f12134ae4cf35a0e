//! The images that the cases name: one of every shape, as OCI layouts that stand in for the registry `images.test`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::oci::{self, Image, ImageBuilder, fixtures};

/// The registry that the layouts stand in for.
pub const HOST: &str = "images.test";

/// Bytes that begin like an ELF file.
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

/// The digest of a named image of the catalogue.
pub fn digest(name: &str) -> String {
    let index = std::fs::read(folder().join(name).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_string()
}

/// Every image by its name.
fn catalogue() -> Vec<(&'static str, Image)> {
    [
        modules(),
        allocations(),
        proposals(),
        components(),
        spin_apps(),
        root_file_systems(),
        with_libraries_of_glibc(),
        leading_nodes(),
        linux_programs(),
        namesakes(),
        in_hidden_folders(),
        unusual(),
        broken(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The CNCF artifact, with an entry point in its config: without one, every pod would have to name a command.
fn artifact(module: &[u8]) -> Image {
    ImageBuilder::wasm_artifact(module).set("Entrypoint", json!(["/"])).build()
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
        ("without-command", ImageBuilder::wasm_artifact(&fixtures::command()).build()),
        ("go", artifact(&fixtures::go("hello"))),
        ("acme", artifact(&acme)),
        ("hungry", artifact(&hungry)),
        ("runwasi-files", ImageBuilder::runwasi(&fixtures::file_command(), "app.wasm").build()),
        ("environment", artifact(&calling("wasi_snapshot_preview1", &[("environ_get", 2)]))),
        ("arguments", artifact(&calling("wasi_snapshot_preview1", &[("args_get", 2)]))),
        ("lister", artifact(&calling("wasi_snapshot_preview1", &[("fd_readdir", 5)]))),
        (
            "linker",
            artifact(&calling("wasi_snapshot_preview1", &[("path_readlink", 6), ("path_symlink", 5)])),
        ),
        ("unstable", artifact(&calling("wasi_unstable", &[("path_unlink_file", 3)]))),
        (
            "edge-connect",
            artifact(&calling("wasi_snapshot_preview1", &[("sock_open", 3), ("sock_connect", 3)])),
        ),
        (
            "edge-listen",
            artifact(&calling("wasi_snapshot_preview1", &[("sock_open", 3), ("sock_listen", 2)])),
        ),
        ("nn", artifact(&calling("wasi_ephemeral_nn", &[("load", 5)]))),
        ("threads", artifact(&calling("wasi", &[("thread-spawn", 1)]))),
        ("wasix-files", artifact(&calling("wasix_32v1", &[("path_open2", 9)]))),
        ("wasix-spawn", artifact(&calling("wasix_32v1", &[("proc_spawn2", 12)]))),
        ("lying-os", claiming_os("wasip2")),
        ("behind-an-index", Image::index(&[("wasip1/wasm", &artifact(&fixtures::command()))])),
    ]
}

/// A command that declares this beside what it exports.
fn declaring(what: &str) -> Image {
    artifact(&fixtures::wat(&format!(r#"(module {what} (func (export "_start")))"#)))
}

/// Modules that define as much as the pool of wasmtime holds for one, and more.
fn allocations() -> Vec<(&'static str, Image)> {
    vec![
        ("full-pool", declaring("(memory 1) (table 20000 funcref)")),
        ("two-memories", declaring("(memory 1) (memory 1)")),
        ("two-tables", declaring("(memory 1) (table 1 funcref) (table 1 funcref)")),
        ("large-table", declaring("(memory 1) (table 20001 funcref)")),
    ]
}

/// Modules that use proposals of WebAssembly.
fn proposals() -> Vec<(&'static str, Image)> {
    vec![
        ("exceptions", declaring("(memory 1) (tag (param i32))")),
        ("structs", declaring("(memory 1) (type (struct))")),
        ("wide-memory", declaring("(memory i64 1)")),
    ]
}

/// A preview-1 command that imports these functions, each with this number of parameters.
fn calling(module: &str, functions: &[(&str, usize)]) -> Vec<u8> {
    let import = |(name, parameters): &(&str, usize)| {
        format!(r#"(import "{module}" "{name}" (func (param{}) (result i32)))"#, " i32".repeat(*parameters))
    };
    let imports: String = functions.iter().map(import).collect();
    fixtures::wat(&format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#))
}

/// The artifact of a module that only prints, with this platform in its config.
fn claiming_os(os: &str) -> Image {
    let mut builder = ImageBuilder::wasm_artifact(&fixtures::command());
    builder.set("Entrypoint", json!(["/"])).set_config("os", json!(os)).build()
}

/// A command component that imports one function of one interface.
fn importing(interface: &str, function: &str) -> Vec<u8> {
    component(&imported(interface, function), "wasi:cli/run@0.2.0")
}

/// A component that answers HTTP and imports one function of one interface.
fn answering(interface: &str, function: &str) -> Vec<u8> {
    component(&imported(interface, function), "wasi:http/incoming-handler@0.2.0")
}

/// The import of one function; a method comes with its resource.
fn imported(interface: &str, function: &str) -> String {
    let resource = function.strip_prefix("[method]").and_then(|method| method.split('.').next());
    let exports = match resource {
        Some(resource) => format!(
            r#"(export "{resource}" (type $r (sub resource)))
                (export "{function}" (func (param "self" (borrow $r)) (result u32)))"#
        ),
        None => format!(r#"(export "{function}" (func (result u32)))"#),
    };
    format!(r#"(import "{interface}" (instance {exports}))"#)
}

/// A component with these imports that exports only this interface.
fn component(imports: &str, export: &str) -> Vec<u8> {
    let (function, result) = if export.contains("/run") { ("run", "(result)") } else { ("handle", "u32") };
    fixtures::wat(&format!(
        r#"(component {imports}
            (core module $m (memory (export "memory") 1) (func (export "f") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $f (result {result}) (canon lift (core func $i "f")))
            (instance $e (export "{function}" (func $f)))
            (export "{export}" (instance $e)))"#
    ))
}

fn components() -> Vec<(&'static str, Image)> {
    vec![
        ("component", artifact(&fixtures::componentize(&fixtures::command()))),
        ("component-files", artifact(&fixtures::componentize(&fixtures::file_command()))),
        ("dns", artifact(&importing("wasi:sockets/ip-name-lookup@0.2.0", "resolve-addresses"))),
        ("acme-component", artifact(&importing("acme:gpu/device@0.1.0", "draw"))),
        ("keyvalue", artifact(&importing("wasi:keyvalue/store@0.2.0-draft", "open"))),
        ("http", artifact(&fixtures::http_component())),
        ("http-quiet", artifact(&component("", HTTP))),
        ("tcp-connect", artifact(&importing("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.start-connect"))),
        ("tcp-listen", artifact(&importing("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.start-listen"))),
        ("udp", artifact(&importing("wasi:sockets/udp@0.2.0", "[method]udp-socket.stream"))),
        ("messaging", artifact(&importing("wasi:messaging/producer@0.2.0-draft", "send"))),
        ("blobstore", artifact(&importing("wasi:blobstore/blobstore@0.2.0-draft", "get-container"))),
        ("config", artifact(&importing("wasi:config/store@0.2.0-rc.1", "get"))),
        ("http-command", artifact(&importing("wasi:http/outgoing-handler@0.2.0", "handle"))),
        ("later-world", artifact(&importing("wasi:sockets/types@0.4.0", "connect"))),
        ("p3-print", artifact(&component(&imported("wasi:cli/stdout@0.3.0", "write-via-stream"), RUN_P3))),
        ("p3-connect", artifact(&component(&imported(P3_SOCKETS, "[method]tcp-socket.connect"), RUN_P3))),
        ("p3-listen", artifact(&component(&imported(P3_SOCKETS, "[method]tcp-socket.listen"), RUN_P3))),
        ("p3-client", artifact(&component(&imported("wasi:http/client@0.3.0", "send"), HTTP_P3))),
        ("p3-middleware", artifact(&component(&imported(HTTP_P3, "handle"), HTTP_P3))),
        ("lying-imports", claiming(&["wasi:cli/stdout@0.2.0"], &["wasi:cli/run@0.2.0"])),
        ("lying-exports", claiming(&[DNS], &["wasi:cli/run@0.2.0", HTTP])),
        ("honest-component", claiming(&[DNS], &["wasi:cli/run@0.2.0"])),
    ]
}

const DNS: &str = "wasi:sockets/ip-name-lookup@0.2.0";
const HTTP: &str = "wasi:http/incoming-handler@0.2.0";
const HTTP_P3: &str = "wasi:http/handler@0.3.0";
const P3_SOCKETS: &str = "wasi:sockets/types@0.3.0";
const RUN_P3: &str = "wasi:cli/run@0.3.0";

/// The artifact of a component that looks names up, with these claimed imports and exports in its config.
fn claiming(imports: &[&str], exports: &[&str]) -> Image {
    let mut builder = ImageBuilder::wasm_artifact(&importing(DNS, "resolve-addresses"));
    builder.set_config("component", json!({"imports": imports, "exports": exports}));
    builder.set("Entrypoint", json!(["/"])).build()
}

fn spin_apps() -> Vec<(&'static str, Image)> {
    let (http, silent) = (fixtures::http_component(), component("", HTTP));
    let hosts = |hosts: &[&str]| json!({"allowed_outbound_hosts": hosts});
    vec![
        ("spin", app(&http, &hosts(&["https://payments.example.com"]))),
        ("spin-quiet", app(&http, &json!({}))),
        ("spin-silent", app(&silent, &json!({}))),
        (
            "spin-archive",
            ImageBuilder::spin(&fixtures::locked_app(&[&silent], &json!({})), &[&silent])
                .layer(
                    "application/vnd.wasm.content.bundle.v1.tar+gzip",
                    oci::gzip(&oci::tar_of(&[("index.html", b"<p>")])),
                )
                .set("Entrypoint", json!(["/"]))
                .build(),
        ),
        ("spin-template", app(&http, &hosts(&["https://{{ payments_host }}"]))),
        ("spin-hostname", app(&http, &hosts(&["https://{{ hostname }}"]))),
        ("spin-suffix", app(&http, &hosts(&["https://*.example.com"]))),
        ("spin-service", app(&http, &hosts(&["https://payments-0.payments.own-name.svc.cluster.local"]))),
        ("spin-port", app(&http, &hosts(&["https://payments.example.com:8443"]))),
        (
            "spin-two-hosts",
            app(&http, &hosts(&["https://payments.example.com", "https://orders.example.com"])),
        ),
        ("spin-address", app(&http, &hosts(&["http://10.1.2.3"]))),
        ("spin-network", app(&http, &hosts(&["http://10.1.0.0/16"]))),
        ("spin-any", app(&http, &hosts(&["https://*:*"]))),
        ("spin-legacy-host", app(&http, &json!({"allowed_http_hosts": ["insecure:allow-all"]}))),
        ("spin-chain", app(&http, &hosts(&["http://stock.spin.internal"]))),
        ("spin-range", app(&http, &hosts(&["http://cache:6379..6381"]))),
        ("spin-redis", app(&answering("fermyon:spin/redis@2.0.0", "publish"), &hosts(&["redis://cache"]))),
        ("spin-mysql", app(&answering("fermyon:spin/mysql@2.0.0", "query"), &hosts(&["mysql://db"]))),
        (
            "spin-postgres",
            app(&answering("fermyon:spin/postgres@2.0.0", "query"), &hosts(&["postgres://db"])),
        ),
        ("spin-mqtt", app(&answering("fermyon:spin/mqtt@2.0.0", "publish"), &hosts(&["mqtt://broker"]))),
        ("spin-version-1", app(&answering("fermyon:spin/redis", "publish"), &hosts(&VERSION_1))),
        (
            "spin-keyvalue",
            app(&answering("spin:key-value/key-value@3.0.0", "open"), &stores("key_value_stores")),
        ),
        ("spin-sqlite", app(&answering("fermyon:spin/sqlite@2.0.0", "open"), &stores("databases"))),
        ("spin-ai", app(&answering("fermyon:spin/llm@2.0.0", "infer"), &stores("ai_models"))),
        ("spin-variable", variable_app()),
        ("spin-redis-trigger", triggered_by("redis")),
        ("spin-timer-trigger", triggered_by("timer")),
        ("spin-broker", listening_to("redis://app:{{ db_password }}@broker:6379")),
        ("spin-command", commanded()),
        ("spin-isolated", with_dependency("fermyon:spin/redis@2.0.0", "a:b/c")),
        ("spin-isolated-sql", with_dependency("spin:sqlite/sqlite@3.0.0", "a:b/c")),
        ("spin-socket", app(&answering("fermyon:spin/redis", "publish"), &hosts(&["unix://localhost:*"]))),
        (
            "spin-old-http",
            app(&answering("fermyon:spin/http", "send-request"), &hosts(&["https://payments.example.com"])),
        ),
        ("spin-env", spin_variables(&[(".env", b"SPIN_VARIABLE_KEY=${DB_PASSWORD}")])),
        ("spin-no-env", spin_variables(&[])),
        ("spin-chained", spin_reading("spin_variable_key", &[])),
        (
            "spin-runtime-config",
            spin_reading(
                "password",
                &[("runtime-config.toml", b"[[config_provider]]\ntype = \"env\"\nprefix = \"DB\"\n")],
            ),
        ),
        ("spin-plain-env", spin_variables(&[(".env", b"SPIN_VARIABLE_KEY=abc\n")])),
        (
            "spin-redis-store",
            spin_storing(b"[key_value_store.orders]\ntype = \"redis\"\nurl = \"redis://app:x@cache:6379\"\n"),
        ),
        ("spin-new-store", spin_storing(b"[key_value_store.orders]\ntype = \"etcd\"\n")),
        ("spin-two", two_components()),
        ("spin-id", with_id("orders_api.v2")),
        ("spin-id-path", with_id("a/../../.cache")),
        ("spin-file", with_file(&oci::digest(PAGE))),
        ("spin-digest-path", with_file("../../../var/run/secrets/token")),
        ("spin-files", spin_files("web.wasm", "static")),
        ("spin-files-proc", spin_files("web.wasm", "/proc")),
        ("spin-files-sys", spin_files("web.wasm", "/sys/kernel")),
        ("spin-files-dev", spin_files("web.wasm", "/dev")),
        ("spin-link", spin_files("shortcut/web.wasm", "static")),
    ]
}

/// What every component of a version 1 manifest gets when it is locked.
const VERSION_1: [&str; 3] = ["redis://*:*", "mysql://*:*", "postgres://*:*"];

/// An application of one component.
fn app(module: &[u8], metadata: &Value) -> Image {
    locked(&fixtures::locked_app(&[module], metadata), &[module])
}

/// An application with an entry point in its config: without one, every pod would have to name a command.
fn locked(app: &Value, modules: &[&[u8]]) -> Image {
    ImageBuilder::spin(app, modules).set("Entrypoint", json!(["/"])).build()
}

fn stores(list: &str) -> Value {
    json!({list: ["orders"]})
}

/// An application whose component reads the variable `api_key`, which has a default.
fn variable_app() -> Image {
    let module = answering("fermyon:spin/variables@2.0.0", "get");
    let mut app = fixtures::locked_app(&[&module], &json!({}));
    app["variables"] = json!({"api_key": {"default": "none"}});
    app["components"][0]["config"] = json!({"key": "{{ api_key }}"});
    locked(&app, &[&module])
}

/// An application that messages start.
fn triggered_by(trigger: &str) -> Image {
    let module = component("", HTTP);
    let mut app = fixtures::locked_app(&[&module], &json!({}));
    app["triggers"][0]["trigger_type"] = json!(trigger);
    app["triggers"][0]["trigger_config"] = json!({"component": "component-0", "channel": "orders"});
    locked(&app, &[&module])
}

/// An application that messages of a broker start. Its component has a database that only its dependency could open.
fn listening_to(address: &str) -> Image {
    let module = component("", HTTP);
    let mut app = fixtures::locked_app(&[&module], &json!({}));
    app["variables"] = json!({"db_password": {"required": true}});
    app["metadata"]["triggers"] = json!({"redis": {"address": address}});
    app["triggers"][0]["trigger_type"] = json!("redis");
    app["triggers"][0]["trigger_config"] = json!({"component": "component-0", "channel": "orders"});
    locked(&app, &[&module])
}

/// An application that starts once and reads its arguments.
fn commanded() -> Image {
    let module = answering("wasi:cli/environment@0.2.0", "get-arguments");
    let mut app = fixtures::locked_app(&[&module], &json!({}));
    app["triggers"][0]["trigger_type"] = json!("command");
    app["triggers"][0]["trigger_config"] = json!({"component": "component-0"});
    locked(&app, &[&module])
}

/// An application whose component has hosts and a database, and a dependency without its capabilities that imports this interface and
/// satisfies the import of this name.
fn with_dependency(interface: &str, satisfied: &str) -> Image {
    let module = answering(satisfied, "f");
    let dependency = answering(interface, "open");
    let handed = json!({"databases": ["orders"], "allowed_outbound_hosts": ["redis://cache"]});
    let mut app = fixtures::locked_app(&[&module], &handed);
    let source = json!({"content_type": "application/wasm", "digest": oci::digest(&dependency)});
    app["components"][0]["dependencies"] = json!({satisfied: {"source": source}});
    locked(&app, &[&module, &dependency])
}

/// An application in a root file system that reads the variable `key`, beside these files.
fn spin_variables(files: &[(&str, &[u8])]) -> Image {
    spin_reading("key", files)
}

/// The same with another name for the variable of the application.
fn spin_reading(variable: &str, files: &[(&str, &[u8])]) -> Image {
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"shop\"\n[variables]\nkey = {{ default = \"none\" }}\n\
         spin_variable_key = {{ default = \"none\" }}\npassword = {{ default = \"none\" }}\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"web.wasm\"\nvariables = {{ key = \"{{{{ {variable} }}}}\" }}\n"
    );
    let web = answering("fermyon:spin/variables@2.0.0", "get");
    let own: [(&str, &[u8]); 2] = [("spin.toml", manifest.as_bytes()), ("web.wasm", &web)];
    ImageBuilder::rootfs("linux/amd64", &["/"]).files(&[&own[..], files].concat()).build()
}

/// An application in a root file system with the key-value store `orders`, beside this runtime configuration.
fn spin_storing(config: &[u8]) -> Image {
    let manifest = b"spin_manifest_version = 2\n[application]\nname = \"shop\"\n[[trigger.http]]\nroute = \"/...\"\n\
                     component = \"web\"\n[component.web]\nsource = \"web.wasm\"\nkey_value_stores = [\"orders\"]\n";
    let web = answering("spin:key-value/key-value@3.0.0", "open");
    let files: [(&str, &[u8]); 3] =
        [("spin.toml", manifest), ("web.wasm", &web), ("runtime-config.toml", config)];
    ImageBuilder::rootfs("linux/amd64", &["/"]).files(&files).build()
}

/// An application of two components, of which only the second reaches other hosts.
fn two_components() -> Image {
    let (quiet, asking) = (component("", HTTP), fixtures::http_component());
    let mut app = fixtures::locked_app(&[&quiet, &asking], &json!({}));
    app["components"][1]["metadata"] = json!({"allowed_outbound_hosts": ["https://payments.example.com"]});
    locked(&app, &[&quiet, &asking])
}

/// A quiet application whose component has this id.
fn with_id(id: &str) -> Image {
    let module = component("", HTTP);
    let mut locked = fixtures::locked_app(&[&module], &json!({}));
    locked["components"][0]["id"] = json!(id);
    locked["triggers"][0]["trigger_config"]["component"] = json!(id);
    ImageBuilder::spin(&locked, &[&module]).build()
}

/// The content of a file of an application.
const PAGE: &[u8] = b"<p>Hello</p>";

/// A quiet application with one file, which its locked app names by this digest.
fn with_file(digest: &str) -> Image {
    let module = component("", HTTP);
    let mut locked = fixtures::locked_app(&[&module], &json!({}));
    locked["components"][0]["files"] = json!([{"path": "static/page.html", "digest": digest}]);
    ImageBuilder::spin(&locked, &[&module])
        .layer("application/vnd.wasm.content.layer.v1+data", PAGE.to_vec())
        .build()
}

/// An application in a root file system, whose module opens files. `shortcut/web.wasm` is a link to `web.wasm`.
fn spin_files(module: &str, opened: &str) -> Image {
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"shop\"\n[[trigger.http]]\nroute = \"/...\"\n\
         component = \"web\"\n[component.web]\nsource = \"{module}\"\n\
         files = [{{source = \"{opened}\", destination = \"/www\"}}]\n"
    );
    let web = answering("wasi:filesystem/types@0.2.0", "[method]descriptor.open-at");
    ImageBuilder::rootfs("linux/amd64", &["/"])
        .files(&[("spin.toml", manifest.as_bytes()), ("web.wasm", &web), ("static/page.html", PAGE)])
        .layer(oci::TAR_LAYER, oci::tar_link("shortcut/web.wasm", "../web.wasm"))
        .build()
}

fn rootfs(platform: &str, entrypoint: &str, files: &[(&str, &[u8])]) -> Image {
    ImageBuilder::rootfs(platform, &[entrypoint]).files(files).build()
}

/// Images that say to a node more than what they hold.
fn leading_nodes() -> Vec<(&'static str, Image)> {
    let files = |image: &mut ImageBuilder| image.files(&[("app.wasm", &fixtures::command())]).build();
    let image = || ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    let mut checkpoint = image();
    checkpoint.extra = json!({"annotations": {"org.criu.checkpoint.container.name": "app"}});
    let mut hooked = image();
    hooked.extra = json!({"annotations": {"run.oci.hooks.stdout": "/srv/data/out"}});
    let (hooked, plain) = (files(&mut hooked), files(&mut image()));
    // The first platform is chosen; the annotation is that of the other.
    let hooked_elsewhere = Image::index(&[("linux/amd64", &plain), ("linux/arm64", &hooked)]);
    let mut restarted = image();
    restarted.set("Labels", json!({"containerd.io/restart.loguri": "binary:///bin/sh"}));
    // A harmless layer, and a file of its name with another program, which a shim starts that cannot read the layer.
    let mut both = ImageBuilder::runwasi(&fixtures::command(), "/app.wasm");
    both.files(&[("app.wasm", &fixtures::file_command())]);
    let behind_index = Image::index(&[("linux/amd64", &both.build())]);
    both.extra = json!({"annotations": {"a": null}});
    vec![
        ("checkpoint", files(&mut checkpoint)),
        ("hooked", hooked),
        ("hooked-elsewhere", hooked_elsewhere),
        ("restarted", files(&mut restarted)),
        ("layer-beside-files", both.build()),
        ("layer-beside-files-behind-an-index", behind_index),
    ]
}

/// WasmEdge runs what is in the section.
fn machine_code() -> Image {
    let module = r#"(module (@custom "wasmedge" "x") (memory (export "memory") 1) (func (export "_start")))"#;
    rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &fixtures::wat(module))])
}

/// Images that bring libraries by which glibc looks up names.
fn with_libraries_of_glibc() -> Vec<(&'static str, Image)> {
    vec![
        (
            "resolver",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[
                    ("app.wasm", &calling("wasi_snapshot_preview1", &[("sock_getaddrinfo", 8)])),
                    ("etc/nsswitch.conf", b"hosts: native dns"),
                    ("usr/lib64/libnss_native.so.2", ELF),
                ],
            ),
        ),
        (
            "resolver-component",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[
                    ("app.wasm", &importing(DNS, "resolve-addresses")),
                    ("etc/nsswitch.conf", b"hosts: native dns"),
                    ("usr/lib64/libnss_native.so.2", ELF),
                ],
            ),
        ),
        (
            "looks-up-users",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[
                    ("app.wasm", &fixtures::command()),
                    ("etc/nsswitch.conf", b"passwd: native files"),
                    ("usr/lib64/libnss_native.so.2", ELF),
                ],
            ),
        ),
    ]
}

fn root_file_systems() -> Vec<(&'static str, Image)> {
    let files = fixtures::file_command();
    let wasi = rootfs("wasi/wasm", "/app.wasm", &[("app.wasm", &files)]);
    let printing = fixtures::command();
    vec![
        ("buildx", wasi.with_attestation("wasi/wasm")),
        (
            "arm-alone",
            Image::index(&[("linux/arm64", &rootfs("linux/arm64", "/app.wasm", &[("app.wasm", &files)]))]),
        ),
        (
            "plugin-in-env",
            ImageBuilder::rootfs("wasi/wasm", &["/app.wasm"])
                .files(&[("app.wasm", &printing)])
                .set("Env", json!(["WASMEDGE_PLUGIN_PATH=/opt"]))
                .build(),
        ),
        (
            "table-of-contents",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[("app.wasm", &printing), ("stargz.index.json", br#"{"version":1,"entries":[]}"#)],
            ),
        ),
        (
            "beside-slight",
            rootfs("linux/amd64", "/good.wasm", &[("app.wasm", &printing), ("good.wasm", &printing)]),
        ),
        (
            "beside-script",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[("app.wasm", &printing), ("srv/index.js", b"addEventListener()")],
            ),
        ),
        ("one-module", rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &printing)])),
        (
            "plugin-file",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[("app.wasm", &printing), ("usr/local/bin/wasmedge/native.so", ELF)],
            ),
        ),
        (
            "environment-rootfs",
            rootfs(
                "linux/amd64",
                "/app.wasm",
                &[("app.wasm", &calling("wasi_snapshot_preview1", &[("environ_get", 2)]))],
            ),
        ),
        ("scratch", rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &files)])),
        // A node mounts a copy of `/d/y`, which has another program.
        (
            "own-volume",
            ImageBuilder::rootfs("linux/amd64", &["/prog/app.wasm"])
                .set("Volumes", json!({"/d/y": {}}))
                .files(&[("prog/app.wasm", &fixtures::command()), ("d/y/app.wasm", &files)])
                .build(),
        ),
        ("machine-code", machine_code()),
        ("scratch-with-shell", rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &files), ("bin/sh", ELF)])),
        // Compiled in its container.
        ("go-rootfs", rootfs("linux/amd64", "/app.wasm", &[("app.wasm", &fixtures::go("hello"))])),
        // A Wasm program with the name of a native one; only an annotation reveals it.
        ("disguised", rootfs("linux/amd64", "/bin/app", &[("bin/app", &files)])),
    ]
}

/// Images that have two things of one name, of which a search finds one or the other.
fn namesakes() -> Vec<(&'static str, Image)> {
    let module = fixtures::command();
    let search = |image: &mut ImageBuilder| image.set("Env", json!(["PATH=/evil:/good"])).build();
    let precompiled = oci::gzip(&oci::tar_of_mode(&[("usr/games/app", ELF)], 0o644));
    vec![
        (
            "aot-namesake",
            search(
                ImageBuilder::rootfs("linux/amd64", &["app"])
                    .files(&[("good/app", &module), ("evil/app", b"\0aot\x03\0\0\0")]),
            ),
        ),
        (
            "text-namesake",
            search(
                ImageBuilder::rootfs("linux/amd64", &["appwat"])
                    .files(&[("good/appwat", &module), ("evil/appwat", b"(module)")]),
            ),
        ),
        (
            "precompiled-namesake",
            ImageBuilder::rootfs("linux/amd64", &["app"])
                .files(&[("app", &module)])
                .layer(oci::GZIP_LAYER, precompiled)
                .build(),
        ),
        // As the official image of nginx.
        (
            "nginx",
            ImageBuilder::rootfs("linux/amd64", &["/docker-entrypoint.sh"])
                .set("Cmd", json!(["nginx", "-g", "daemon off;"]))
                .files(&[
                    ("docker-entrypoint.sh", b"#!/bin/sh\nexec \"$@\"\n"),
                    ("usr/sbin/nginx", ELF),
                    ("etc/init.d/nginx", b"#!/bin/sh\n"),
                ])
                .layer(
                    oci::GZIP_LAYER,
                    oci::gzip(&oci::tar_of_mode(
                        &[
                            ("etc/default/nginx", b"# settings"),
                            ("etc/logrotate.d/nginx", b"/var/log/nginx/*.log {}"),
                            ("usr/share/lintian/overrides/nginx", b"nginx: x"),
                        ],
                        0o644,
                    )),
                )
                .build(),
        ),
    ]
}

fn linux_programs() -> Vec<(&'static str, Image)> {
    let files = fixtures::file_command();
    vec![
        ("linux", rootfs("linux/amd64", "/bin/app", &[("bin/app", ELF)])),
        // As the official image of Redis: searched for, in a working directory that is a volume.
        (
            "redis-server",
            ImageBuilder::rootfs("linux/amd64", &["docker-entrypoint.sh"])
                .set("Cmd", json!(["redis-server"]))
                .set("WorkingDir", json!("/data"))
                .set("Volumes", json!({"/data": {}}))
                .set("Env", json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]))
                .files(&[
                    ("usr/local/bin/docker-entrypoint.sh", b"#!/bin/sh\nexec \"$@\"\n"),
                    ("usr/local/bin/redis-server", ELF),
                ])
                .build(),
        ),
        // The first `app` is no program to every user; text, and what the compiler of WasmEdge writes.
        (
            "linux-namesakes",
            ImageBuilder::rootfs("linux/amd64", &["/opt/app"])
                .layer(oci::GZIP_LAYER, oci::gzip(&oci::tar_of_mode(&[("usr/bin/app", ELF)], 0o644)))
                .files(&[
                    ("opt/app", ELF),
                    ("w/app", b"(module)"),
                    ("x.wasm", ELF),
                    ("w/x.wasm", b"(module)"),
                    ("app.so", ELF),
                ])
                .build(),
        ),
        ("linux-with-wasm", rootfs("linux/amd64", "/bin/app", &[("bin/app", ELF), ("srv/app.wasm", &files)])),
        ("linux-with-hashes", with_hashes()),
    ]
}

/// A native program in `/usr/bin`, for which its layer has no entry. That folder was closed to most users in the lowest layer, and the next
/// one hid it. In the first image that layer brings it anew.
fn in_hidden_folders() -> Vec<(&'static str, Image)> {
    use tar::EntryType::{Directory, Regular, Symlink};
    let layer = |entries: &[(&str, tar::EntryType, u32)]| oci::gzip(&oci::tar_of_empty(entries));
    let image = |lower: Vec<u8>, hiding: Vec<u8>| {
        ImageBuilder::rootfs("linux/amd64", &["app"])
            .set("WorkingDir", json!("/w"))
            .layer(oci::GZIP_LAYER, lower)
            .layer(oci::GZIP_LAYER, hiding)
            .files(&[("usr/bin/app", ELF)])
            .build()
    };
    let closed = || layer(&[("usr", Directory, 0o755), ("usr/bin", Directory, 0o700)]);
    let linked = layer(&[("usr", Symlink, 0o777), ("x", Directory, 0o755), ("x/bin", Directory, 0o700)]);
    let marker = ("usr/.wh..wh..opq", Regular, 0o644);
    vec![
        ("open-folder", image(closed(), layer(&[marker, ("usr/bin", Directory, 0o755)]))),
        ("folder-behind-a-marker", image(closed(), layer(&[marker]))),
        ("folder-behind-a-link", image(linked, layer(&[("usr", Directory, 0o755)]))),
    ]
}

/// Two native programs with `#` in their names, outside of every `PATH`, and a module named by the part before it of one.
fn with_hashes() -> Image {
    let module = fixtures::wat(r#"(module (func (export "_start")) (func (export "f")))"#);
    let files: &[(&str, &[u8])] =
        &[("bin/sh", ELF), ("opt/tools/app#f", ELF), ("opt/tools/tool#f", ELF), ("app", &module)];
    rootfs("linux/amd64", "/bin/sh", files)
}

/// Images that say Wasm, each in a form that is not judged, and ordinary ones in the same forms.
fn unusual() -> Vec<(&'static str, Image)> {
    let module = fixtures::file_command();
    let files: &[(&str, &[u8])] = &[("app.wasm", &module)];
    let linux: &[(&str, &[u8])] = &[("bin/app", ELF)];
    let wasm = || ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    let two = [
        ("linux/amd64", &rootfs("linux/amd64", "/app.wasm", files)),
        ("linux/arm64", &rootfs("linux/arm64", "/bin/app", linux)),
    ];
    let mut large = ImageBuilder::wasm_artifact(&module);
    let layer = json!({"mediaType": oci::WASM_LAYER, "digest": oci::digest(&module), "size": 200_000_000});
    large.extra = json!({"layers": [layer]});
    let mut checkpoint = ImageBuilder::rootfs("linux/amd64", &["/bin/app"]);
    checkpoint.extra = json!({"annotations": {"org.criu.checkpoint.container.name": "app"}});
    vec![
        ("two-programs", Image::index(&two)),
        ("index-of-an-index", Image::index(&[("linux/amd64", &Image::index(&two))])),
        ("long-media-types", with_long_media_type()),
        ("global-header", wasm().layer(oci::TAR_LAYER, oci::tar_with_global_header(files)).build()),
        ("gzip-called-tar", wasm().layer(oci::TAR_LAYER, oci::gzip(&oci::tar_of(files))).build()),
        ("large-layer", large.build()),
        ("refused-config", wasm().files(files).set("Env", json!(["PATH"])).build()),
        ("erofs", wasm().layer("application/vnd.erofs.layer.v1", b"erofs".to_vec()).build()),
        (
            "linux-global-header",
            ImageBuilder::rootfs("linux/amd64", &["/bin/app"])
                .layer(oci::TAR_LAYER, oci::tar_with_global_header(linux))
                .build(),
        ),
        ("linux-checkpoint", checkpoint.files(linux).build()),
    ]
}

/// Two Wasm layers behind another one, whose media type is so long that the evidence does not show theirs.
fn with_long_media_type() -> Image {
    let config = json!({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let mut image = ImageBuilder::new(oci::OCI_CONFIG, config);
    image.layer(&format!("application/{}", "a".repeat(180)), b"x".to_vec());
    image.layer(oci::WASM_LAYER, fixtures::command()).layer(oci::WASM_LAYER, fixtures::file_command());
    image.build()
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
