//! What a container can call, is handed, and can really do: measured import lists, and real runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use wasmgate::capability::required::required;
use wasmgate::capability::{Access, Capabilities, Capability, Entry, Siblings, assess, may_reach_files};
use wasmgate::image::entry::Start;
use wasmgate::image::outbound::OutboundHost;
use wasmgate::image::spin::{dotenv_of, runtime_config_of};
use wasmgate::image::{
    FileClass, ImageFacts, ImageKind, Import, ModuleFacts, NativeCode, Packaging, Program, Shape, SpinApp,
    SpinComponent, SpinListener, WasmFormat,
};
use wasmgate::inspection::{self, Container, LookupResult};
use wasmgate::lookup;
use wasmgate::runtime::{Family, Profile, Runtimes};
use wasmgate::workload::{Kind, Role, Workload};

use crate::support::facts;

const PREVIEW1: &str = "wasi_snapshot_preview1";

fn import(interface: &str, functions: &[&str]) -> Import {
    Import { interface: interface.into(), functions: functions.iter().map(ToString::to_string).collect() }
}

fn module(format: WasmFormat, imports: Vec<Import>, exports: &[&str]) -> ModuleFacts {
    ModuleFacts {
        format,
        imports,
        exports: exports.iter().map(ToString::to_string).collect(),
        code_bytes: 1,
        size_bytes: 2,
        ..facts::module()
    }
}

fn core(functions: &[&str]) -> ModuleFacts {
    module(WasmFormat::Module, vec![import(PREVIEW1, functions)], &["_start"])
}

fn component(imports: Vec<Import>) -> ModuleFacts {
    module(WasmFormat::Component, imports, &["wasi:cli/run@0.2.6"])
}

fn facts(kind: ImageKind, modules: Vec<ModuleFacts>) -> ImageFacts {
    ImageFacts {
        shape: Shape::ScratchRootfs,
        platform: "wasip1/wasm".into(),
        entrypoint: vec!["/app.wasm".into()],
        env: vec!["FROM_IMAGE".into()],
        search_path: None,
        modules,
        files: vec![("/app.wasm".into(), FileClass::Wasm)],
        scanned: true,
        ..facts::image("sha256:aa", kind)
    }
}

fn wasm(facts: &ImageFacts) -> Program {
    let modules = (0..facts.modules.len()).collect();
    Program::Wasm { kind: facts.kind, packaging: Packaging::RootFilesystem, modules }
}

fn container(role: Role, facts: ImageFacts, program: Program) -> Container {
    let lookup = LookupResult::Known { facts: Arc::new(facts), program };
    Container { role, index: 0, name: "app".into(), image: "ghcr.io/org/app:v1".into(), lookup }
}

fn workload(spec: Value) -> Workload {
    Workload {
        kind: Kind::Pod,
        name: "app".into(),
        namespace: "shop".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        terminating: false,
        of_stateful_set: false,
        spec: serde_json::from_value(spec).expect("a pod spec"),
    }
}

/// A pod with one container `app` and no service-account token, and further fields for the container and the spec.
fn pod(container: &Value, spec: &Value) -> Workload {
    let mut app = json!({"name": "app", "image": "ghcr.io/org/app:v1"});
    app.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut whole =
        json!({"automountServiceAccountToken": false, "enableServiceLinks": false, "containers": [app]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    workload(whole)
}

fn plain_pod() -> Workload {
    pod(&json!({}), &json!({}))
}

fn profile(name: &str) -> Profile {
    Runtimes::default().profiles.into_iter().find(|p| p.name == name).expect("a default profile")
}

fn on(runtime: &str, workload: &Workload, facts: ImageFacts) -> Capabilities {
    let program = wasm(&facts);
    assess(workload, &container(Role::Container, facts, program), Some(&profile(runtime)))
}

const TOKEN: &str = "fs /var/run/secrets/kubernetes.io/serviceaccount ro secret";

/// An entry as one line: capability, parameters, marks.
fn line(entry: &Entry) -> String {
    let mut words = vec![entry.capability.to_string()];
    let host = entry.host.clone().map(String::from);
    words.extend([entry.path.clone(), host, entry.name.clone()].into_iter().flatten());
    words.extend(entry.port.map(|port| format!(":{port}")));
    words.extend(
        entry.access.map(|a| if a == Access::ReadOnly { "ro".to_string() } else { "rw".to_string() }),
    );
    words.extend(entry.secret.then(|| "secret".to_string()));
    words.extend(entry.own.then(|| "own".to_string()));
    words.join(" ")
}

/// The entries without those of the kernel's files, which have a test of their own.
fn lines(entries: &[Entry]) -> Vec<String> {
    entries.iter().filter(|entry| !of_kernel(entry)).map(line).collect()
}

/// Whether it is handed over through a file of the kernel. What a program can call has no path.
fn of_kernel(entry: &Entry) -> bool {
    match entry.capability {
        // It may open files, like any call of which nothing is known.
        Capability::UnknownImport => false,
        Capability::Fs => entry.opens && entry.path.is_some(),
        _ => entry.opens,
    }
}

/// The entries that need a grant.
fn to_grant(capabilities: &Capabilities) -> Vec<String> {
    let needs = |e: &&Entry| !(e.own || e.capability.is_default() || of_kernel(e));
    capabilities.effective.iter().filter(needs).map(line).collect()
}

fn evidence<'a>(entries: &'a [Entry], wanted: &str) -> &'a [String] {
    let found = entries.iter().find(|e| line(e) == wanted);
    &found.unwrap_or_else(|| panic!("no `{wanted}` in {:#?}", lines(entries))).evidence
}

fn requires(module: ModuleFacts) -> Vec<String> {
    let facts = facts(ImageKind::Module, vec![module]);
    lines(&required(&facts, &wasm(&facts)))
}

#[test]
fn core_modules_need_what_real_programs_were_measured_to_need() {
    let base = ["environ_get", "environ_sizes_get", "fd_write", "proc_exit"];
    let with = |more: &[&str]| requires(core(&[&base[..], more].concat()));
    assert_eq!(with(&[]), ["stdio", "env"]);
    assert_eq!(with(&["random_get"]), ["stdio", "random", "env"]);
    assert_eq!(with(&["random_get", "args_get", "args_sizes_get"]), ["stdio", "random", "args", "env"]);
    assert_eq!(with(&["clock_time_get"]), ["stdio", "clock", "env"]);
    let files =
        ["fd_close", "fd_filestat_get", "fd_prestat_dir_name", "fd_prestat_get", "fd_read", "fd_seek"];
    assert_eq!(with(&files), ["stdio", "env"], "the scan for pre-opened directories is not a use of files");
    assert_eq!(with(&[&files[..], &["path_open"]].concat()), ["stdio", "env", "fs rw"]);
    assert_eq!(with(&["fd_close", "sock_accept"]), ["stdio", "env", "net.listen"]);
}

#[test]
fn core_modules_outside_the_measured_list_are_mapped_by_the_table() {
    let of = |module: &str, functions: &[&str]| {
        requires(self::module(WasmFormat::Module, vec![import(module, functions)], &[]))
    };
    let cases: [(&str, &[&str], &[&str]); 27] = [
        (PREVIEW1, &["fd_readdir", "path_filestat_get"], &["fs ro"]),
        (PREVIEW1, &["fd_readdir", "path_unlink_file"], &["fs rw"]),
        ("wasi_unstable", &["path_open"], &["fs rw"]),
        (PREVIEW1, &["path_open_v2"], &["fs rw"]),
        // The kind of a socket is known only when it is opened, and a path may be the address of one.
        (PREVIEW1, &["sock_open", "sock_connect", "sock_send"], &["fs rw", "net.tcp.connect", "net.udp"]),
        (PREVIEW1, &["sock_open_v2", "sock_connect_v2"], &["fs rw", "net.tcp.connect", "net.udp"]),
        (PREVIEW1, &["sock_open", "sock_bind_v2", "sock_recv_from_v2"], &["fs rw", "net.udp", "net.listen"]),
        (PREVIEW1, &["sock_open", "sock_send_to"], &["fs rw", "net.udp"]),
        (PREVIEW1, &["sock_open", "sock_listen"], &["net.listen"]),
        (PREVIEW1, &["sock_getaddrinfo"], &["net.dns"]),
        (PREVIEW1, &["sock_recv"], &["net.listen"]),
        (PREVIEW1, &["poll_oneoff", "sched_yield"], &[]),
        (PREVIEW1, &["proc_fork"], &["unknown-import wasi_snapshot_preview1.proc_fork"]),
        ("wasi_ephemeral_nn", &["load", "compute"], &["nn"]),
        ("wasi", &["thread-spawn"], &["threads"]),
        ("wasix_32v1", &["proc_fork"], &["unknown-import wasix_32v1.proc_fork"]),
        ("wasix_32v1", &["proc_exec3"], &["unknown-import wasix_32v1.proc_exec3"]),
        ("wasix_32v1", &["path_open2", "fd_dup2", "proc_exit2"], &["stdio", "fs rw"]),
        ("wasix_64v1", &["path_filestat_get", "thread_spawn_v2"], &["fs ro", "threads"]),
        ("wasix_32v1", &["resolve", "sock_join_multicast_v4"], &["net.udp", "net.dns"]),
        (PREVIEW1, &["path_open2"], &["unknown-import wasi_snapshot_preview1.path_open2"]),
        (PREVIEW1, &["sock_addr_resolve"], &["net.dns"]),
        (PREVIEW1, &["sock_open", "sock_listen", "sock_addr_local"], &["net.listen"]),
        ("env", &["host_call"], &["unknown-import env.host_call"]),
        ("outbound-redis", &["publish"], &["db.redis"]),
        ("wasm_bpf", &["wasm_load_bpf_object"], &["unknown-import wasm_bpf.wasm_load_bpf_object"]),
        ("wasi:logging/logging", &["log"], &["unknown-import wasi:logging/logging.log"]),
    ];
    for (module, functions, expected) in cases {
        assert_eq!(of(module, functions), expected, "{module} {functions:?}");
    }
}

#[test]
fn the_shared_memory_of_a_threaded_module_is_not_an_unknown_import() {
    let imports = vec![import("env", &["memory"]), import("wasi", &["thread-spawn"])];
    assert_eq!(requires(module(WasmFormat::Module, imports, &[])), ["threads"]);
    let alone = vec![import("env", &["memory"])];
    assert_eq!(requires(module(WasmFormat::Module, alone, &[])), ["unknown-import env.memory"]);
}

/// The imports of `fn main() {}` through the adapter, as measured.
fn adapter() -> Vec<Import> {
    let stdio_path = [
        "[method]descriptor.append-via-stream",
        "[method]descriptor.get-type",
        "[method]descriptor.stat",
        "[method]descriptor.write-via-stream",
    ];
    vec![
        import("wasi:cli/environment@0.2.6", &["get-environment"]),
        import("wasi:cli/exit@0.2.6", &["exit"]),
        import("wasi:cli/stdin@0.2.6", &["get-stdin"]),
        import("wasi:cli/stdout@0.2.6", &["get-stdout"]),
        import("wasi:cli/stderr@0.2.6", &["get-stderr"]),
        import("wasi:io/error@0.2.0", &[]),
        import("wasi:io/streams@0.2.12", &["[method]output-stream.write"]),
        import("wasi:clocks/wall-clock@0.2.12", &["now"]),
        import("wasi:filesystem/types@0.2.12", &stdio_path),
        import("wasi:filesystem/preopens@0.2.6", &["get-directories"]),
    ]
}

#[test]
fn the_adapter_of_a_program_that_does_nothing_needs_no_files() {
    assert_eq!(requires(component(adapter())), ["stdio", "clock", "env"]);
}

#[test]
fn a_component_needs_files_when_it_can_reach_one_by_path() {
    let with = |functions: &[&str]| {
        let mut imports = adapter();
        imports.push(import("wasi:filesystem/types@0.2.6", functions));
        requires(component(imports)).pop().unwrap()
    };
    assert_eq!(with(&["[method]descriptor.read-via-stream"]), "env", "without a path there is no descriptor");
    assert_eq!(with(&["[method]descriptor.open-at"]), "fs rw");
    assert_eq!(with(&["[async method]descriptor.open-at"]), "fs rw", "as WASI 0.3 spells it");
    assert_eq!(with(&["[method]descriptor.metadata-hash-at", "[method]descriptor.read-directory"]), "fs ro");
    assert_eq!(with(&["[method]descriptor.stat-at", "[method]descriptor.link-at"]), "fs rw");
    assert_eq!(with(&["[method]descriptor.later-at"]), "fs rw", "what takes a path and is not known");
}

#[test]
fn component_imports_are_mapped_by_the_table() {
    let of = |interface: &str, functions: &[&str]| requires(component(vec![import(interface, functions)]));
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("wasi:cli/environment@0.2.0", &["get-arguments"], &["args"]),
        ("wasi:cli/environment@0.3.0", &[], &["args", "env"]),
        ("wasi:cli/terminal-stdout@0.2.6", &["get-terminal-stdout"], &[]),
        ("wasi:clocks/system-clock@0.3.0", &["now"], &["clock"]),
        ("wasi:random/insecure-seed@0.2.6", &["insecure-seed"], &["random"]),
        ("wasi:sockets/network@0.2.6", &[], &[]),
        ("wasi:sockets/tcp-create-socket@0.2.6", &["create-tcp-socket"], &[]),
        ("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.subscribe"], &[]),
        ("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"], &["net.tcp.connect"]),
        (
            "wasi:sockets/tcp@0.2.6",
            &["[method]tcp-socket.start-bind", "[method]tcp-socket.start-listen"],
            &["net.listen"],
        ),
        (
            "wasi:sockets/types@0.3.0",
            &["[async method]tcp-socket.connect", "[method]udp-socket.bind"],
            &["net.tcp.connect", "net.udp"],
        ),
        ("wasi:sockets/udp@0.2.6", &["[method]udp-socket.stream"], &["net.udp"]),
        ("wasi:sockets/ip-name-lookup@0.2.6", &["resolve-addresses"], &["net.dns"]),
        ("wasi:http/types@0.2.0", &["[constructor]fields"], &[]),
        ("wasi:http/outgoing-handler@0.2.6", &["handle"], &["http.outbound"]),
        ("wasi:http/client@0.3.0", &["send"], &["http.outbound"]),
        ("wasi:http/handler@0.3.0", &["handle"], &[]),
        ("wasi:http/handler@0.3.0-rc-2026-03-15", &["[async]handle"], &["http.outbound"]),
        ("wasi:keyvalue/store@0.2.0-draft2", &["open"], &["keyvalue"]),
        ("wasi:config/store@0.2.0-draft-2024-09-27", &["get"], &["config"]),
        ("wasi:config/runtime@0.2.0-draft", &["get"], &["config"]),
        ("wasi:blobstore/container@0.2.0-draft", &["name"], &["blobstore"]),
        ("wasmcloud:messaging/consumer@0.2.0", &["publish"], &["messaging"]),
        ("wasi:nn/inference@0.2.0-rc-2024-10-28", &["compute"], &["nn"]),
        ("wasi:logging/logging", &["log"], &["telemetry"]),
        ("wasi:tls/client@0.2.0-draft", &["connect"], &["tls"]),
        ("wasi:webgpu/webgpu@0.0.1", &["get-gpu"], &["unknown-import wasi:webgpu/webgpu@0.0.1"]),
        ("wasi:filesystem/types@1.0.0", &["open"], &["unknown-import wasi:filesystem/types@1.0.0"]),
        ("fermyon:spin/http", &["send-request"], &["http.outbound"]),
        ("fermyon:spin/rdbms-types", &[], &[]),
        ("fermyon:spin/llm@2.0.0", &["infer"], &["ai"]),
        ("fermyon:spin/variables@2.0.0", &["get"], &["config"]),
        ("spin:postgres/postgres@4.2.0", &["query"], &["db.postgres"]),
        ("spin:key-value/key-value@3.0.0", &["get"], &["keyvalue"]),
        ("spin:sqlite/sqlite@3.1.0", &["open"], &["sqlite"]),
        ("spin:mqtt/mqtt@3.0.0", &["publish"], &["mqtt"]),
        ("acme:thing/api@1.2.0", &["go"], &["unknown-import acme:thing/api@1.2.0"]),
        ("bare", &[], &["unknown-import bare"]),
    ];
    for (interface, functions, expected) in cases {
        assert_eq!(&of(interface, functions), expected, "{interface} {functions:?}");
    }
}

/// A later version of an interface may have functions that the gate cannot know.
#[test]
fn a_function_that_a_known_interface_does_not_have_is_an_unknown_import_that_may_do_anything() {
    let interfaces = [
        "wasi:cli/environment@0.2.9",
        "wasi:cli/exit@0.2.9",
        "wasi:cli/run@0.3.0",
        "wasi:cli/types@0.3.0",
        "wasi:cli/stdin@0.2.9",
        "wasi:cli/stdout@0.3.0",
        "wasi:cli/stderr@0.2.9",
        "wasi:cli/terminal-input@0.2.9",
        "wasi:cli/terminal-output@0.2.9",
        "wasi:cli/terminal-stdin@0.2.9",
        "wasi:cli/terminal-stdout@0.2.9",
        "wasi:cli/terminal-stderr@0.2.9",
        "wasi:clocks/types@0.3.0",
        "wasi:clocks/wall-clock@0.2.9",
        "wasi:clocks/system-clock@0.3.0",
        "wasi:clocks/monotonic-clock@0.3.1",
        "wasi:clocks/timezone@0.2.9",
        "wasi:random/random@0.2.9",
        "wasi:random/insecure@0.2.9",
        "wasi:random/insecure-seed@0.3.0",
        "wasi:io/error@0.2.9",
        "wasi:io/poll@0.2.9",
        "wasi:io/streams@0.2.9",
        "wasi:filesystem/types@0.2.9",
        "wasi:filesystem/preopens@0.3.0",
        "wasi:sockets/network@0.2.9",
        "wasi:sockets/instance-network@0.2.9",
        "wasi:sockets/ip-name-lookup@0.3.0",
        "wasi:sockets/tcp@0.2.9",
        "wasi:sockets/tcp-create-socket@0.2.9",
        "wasi:sockets/udp@0.2.9",
        "wasi:sockets/udp-create-socket@0.2.9",
        "wasi:sockets/types@0.3.0",
        "wasi:http/types@0.2.9",
        "wasi:http/outgoing-handler@0.2.9",
        "wasi:http/handler@0.3.0",
        "wasi:http/client@0.3.0",
    ];
    for interface in interfaces {
        for function in ["later", "[method]later.connect", "[async]later-open"] {
            let facts = facts(ImageKind::Component, vec![component(vec![import(interface, &[function])])]);
            let entries = required(&facts, &wasm(&facts));
            let name = format!("{interface}.{function}");
            let found = entries.iter().find(|entry| entry.name.as_deref() == Some(name.as_str()));
            let found = found.unwrap_or_else(|| panic!("{name}: {:?}", lines(&entries)));
            assert_eq!((found.capability, found.opens), (Capability::UnknownImport, true), "{name}");
            assert_eq!(found.evidence, [format!("import {interface} {function} in /app.wasm")]);
        }
    }
    let files = requires(component(vec![import("wasi:io/files@0.2.9", &["open"])]));
    assert_eq!(files, ["unknown-import wasi:io/files@0.2.9"]);
}

#[test]
fn every_spelling_of_a_function_that_an_interface_has_is_known() {
    let known: &[(&str, &[&str])] = &[
        ("wasi:cli/environment@0.2.0", &["get-environment", "get-arguments", "initial-cwd"]),
        ("wasi:cli/environment@0.3.0", &["get-initial-cwd"]),
        ("wasi:cli/exit@0.2.9", &["exit", "exit-with-code"]),
        ("wasi:cli/stdout@0.2.0", &["get-stdout"]),
        ("wasi:cli/stdout@0.3.0", &["write-via-stream"]),
        ("wasi:clocks/monotonic-clock@0.3.0", &["now", "[async]wait-for"]),
        ("wasi:io/poll@0.2.0", &["poll", "[method]pollable.block"]),
        ("wasi:io/streams@0.2.0", &["[method]output-stream.blocking-write-zeroes-and-flush"]),
        ("wasi:filesystem/types@0.2.0", &["[method]descriptor.sync", "filesystem-error-code"]),
        ("wasi:filesystem/types@0.3.0", &["[async method]descriptor.set-size"]),
        ("wasi:sockets/tcp@0.2.0", &["[method]tcp-socket.finish-connect", "[method]tcp-socket.shutdown"]),
        ("wasi:sockets/types@0.3.0", &["[static]tcp-socket.create", "[async method]udp-socket.send"]),
        ("wasi:sockets/ip-name-lookup@0.2.0", &["[method]resolve-address-stream.subscribe"]),
        ("wasi:http/types@0.2.0", &["[constructor]outgoing-request", "[static]outgoing-body.finish"]),
        ("wasi:http/types@0.3.0", &["[static]request.consume-body", "[method]response.get-status-code"]),
        // Another set of functions, to which none is added.
        ("wasi:http/types@0.3.0-rc-2026-03-15", &["[static]earlier.name"]),
    ];
    for (interface, functions) in known {
        let found = requires(component(vec![import(interface, functions)]));
        assert!(!found.iter().any(|line| line.starts_with("unknown-import")), "{interface}: {found:?}");
    }
}

#[test]
fn evidence_says_where_to_look() {
    let facts = facts(ImageKind::Module, vec![core(&["path_open", "path_unlink_file", "environ_get"])]);
    let entries = required(&facts, &wasm(&facts));
    assert_eq!(evidence(&entries, "env"), ["import wasi_snapshot_preview1.environ_get in /app.wasm"]);
    assert_eq!(
        evidence(&entries, "fs rw"),
        ["import wasi_snapshot_preview1.{path_open, path_unlink_file} in /app.wasm"]
    );
    let tcp = import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"]);
    let mut layer = component(vec![tcp]);
    layer.source = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let facts = self::facts(ImageKind::Component, vec![layer]);
    assert_eq!(
        evidence(&required(&facts, &wasm(&facts)), "net.tcp.connect"),
        ["import wasi:sockets/tcp@0.2.6 [method]tcp-socket.start-connect in layer sha256:0123456789ab"]
    );
}

#[test]
fn two_modules_that_need_the_same_are_one_entry_with_the_evidence_of_both() {
    let mut other = core(&["environ_get"]);
    other.source = "/other.wasm".into();
    let facts = facts(ImageKind::Module, vec![core(&["environ_get"]), other]);
    let entries = required(&facts, &wasm(&facts));
    assert_eq!(lines(&entries), ["env"]);
    assert_eq!(entries[0].evidence.len(), 2);
    let one =
        Program::Wasm { kind: ImageKind::Module, packaging: Packaging::RootFilesystem, modules: vec![1, 7] };
    let of_one = required(&facts, &one);
    assert_eq!(evidence(&of_one, "env"), ["import wasi_snapshot_preview1.environ_get in /other.wasm"]);
}

/// Variables and mounts of every sort.
fn rich_pod() -> Workload {
    let container = json!({
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            {"name": "DB_URL", "value": "postgres://u:$(DB_PASSWORD)@db/x"},
            {"name": "REGION", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "region"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "data", "mountPath": "/seed", "subPath": "seed", "readOnly": true},
            {"name": "tls", "mountPath": "/tls"},
            {"name": "host", "mountPath": "/host"},
            {"name": "all", "mountPath": "/all"},
            {"name": "vault", "mountPath": "/vault"},
            {"name": "gone", "mountPath": "relative/../gone"},
        ],
        "volumeDevices": [{"name": "data", "devicePath": "/dev/block"}],
    });
    let spec = json!({"volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "pvc"}},
        {"name": "tls", "secret": {"secretName": "tls-secret"}},
        {"name": "host", "hostPath": {"path": "/srv/data"}},
        {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "vault", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
    ]});
    pod(&container, &spec)
}

#[test]
fn runwasi_hands_a_module_the_file_system_and_variables_but_no_network() {
    let capabilities = on(
        "wasmtime",
        &rich_pod(),
        facts(ImageKind::Module, vec![core(&["path_open", "environ_get", "fd_write"])]),
    );
    assert_eq!(
        lines(&capabilities.effective),
        [
            "stdio",
            "env * secret",
            "env CM_*",
            "env DB_PASSWORD secret",
            "env DB_URL secret",
            "env FROM_IMAGE own",
            "env HOSTNAME own",
            "env KUBERNETES_* own",
            "env NODE",
            "env PATH own",
            "env PLAIN",
            "env REGION",
            "fs / rw own",
            "fs /all ro secret",
            "fs /data rw",
            "fs /dev/block rw",
            "fs /dev/termination-log rw own",
            "fs /gone rw",
            "fs /host rw",
            "fs /seed ro",
            "fs /tls ro secret",
            "fs /vault ro secret",
        ]
    );
    assert_eq!(
        evidence(&capabilities.effective, "fs /seed ro"),
        [
            "import wasi_snapshot_preview1.path_open in /app.wasm",
            "runtime wasmtime preopens /",
            "volumeMount /seed (persistentVolumeClaim pvc, subPath seed)"
        ]
    );
    assert_eq!(
        evidence(&capabilities.effective, "env DB_PASSWORD secret"),
        [
            "env DB_PASSWORD from secret db key password",
            "import wasi_snapshot_preview1.environ_get in /app.wasm"
        ]
    );
    assert!(evidence(&capabilities.ambient, "fs /host rw")[1].contains("hostPath /srv/data"));
    assert!(capabilities.missing.is_empty());
}

#[test]
fn a_module_that_cannot_open_a_path_needs_no_grant_for_a_mount() {
    let capabilities =
        on("wasmtime", &rich_pod(), facts(ImageKind::Module, vec![core(&["fd_write", "fd_read"])]));
    assert_eq!(lines(&capabilities.effective), ["stdio"]);
    assert!(lines(&capabilities.ambient).contains(&"fs /data rw".to_string()), "it is still shown");
}

#[test]
fn sockets_of_a_core_module_are_missing_on_wasmtime_and_those_of_a_component_reach_everything() {
    let capabilities = on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![core(&["sock_accept"])]));
    assert_eq!(lines(&capabilities.effective), [""; 0]);
    assert_eq!(lines(&capabilities.missing), ["net.listen"]);
    assert_eq!(evidence(&capabilities.missing, "net.listen")[1], "runtime wasmtime hands over none");

    let tcp = import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"]);
    let program = || facts(ImageKind::Component, vec![component(vec![tcp.clone()])]);
    let capabilities = on("wasmtime", &plain_pod(), program());
    assert_eq!(lines(&capabilities.effective), ["net.tcp.connect *://*:*"]);
    let ambient = ["net.tcp.connect *://*:*", "net.udp *://*:*", "net.dns *://*:*", "net.listen"];
    assert!(ambient.iter().all(|wanted| lines(&capabilities.ambient).contains(&wanted.to_string())));

    let on_node = on("wasmtime", &pod(&json!({}), &json!({"hostNetwork": true})), program());
    assert!(evidence(&on_node.effective, "net.tcp.connect *://*:*")[1].contains("hostNetwork"));
}

#[test]
fn a_read_only_root_file_system_narrows_the_root_and_not_the_mounts() {
    let container = json!({
        "securityContext": {"readOnlyRootFilesystem": true},
        "volumeMounts": [{"name": "d", "mountPath": "/data"}],
        "terminationMessagePath": "/tmp/log",
    });
    let workload = pod(&container, &json!({"volumes": [{"name": "d", "emptyDir": {}}]}));
    let capabilities = on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["path_open"])]));
    assert_eq!(lines(&capabilities.effective), ["fs / ro own", "fs /data rw", "fs /tmp/log rw own"]);
    let reading = on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["fd_readdir"])]));
    assert_eq!(lines(&reading.effective), ["fs / ro own", "fs /data ro", "fs /tmp/log ro own"]);
}

#[test]
fn the_root_counts_as_the_image_s_own_only_if_no_other_is_reachable_through_it() {
    let program = || facts(ImageKind::Module, vec![core(&["path_open"])]);
    let cases = [
        (json!({"securityContext": {"privileged": true}}), json!({}), "privileged"),
        (json!({}), json!({"hostPID": true}), "hostPID"),
        (json!({}), json!({"shareProcessNamespace": true}), "shareProcessNamespace"),
    ];
    for (container, spec, reason) in cases {
        let capabilities = on("wasmtime", &pod(&container, &spec), program());
        assert_eq!(to_grant(&capabilities), ["fs / rw"], "{reason}");
        let evidence = evidence(&capabilities.effective, "fs / rw");
        assert!(evidence.iter().any(|text| text.contains(reason)), "{evidence:?}");
    }
    let spec = json!({"containers": [{"name": "main"}], "ephemeralContainers": [
        {"name": "debug", "targetContainerName": "main"}]});
    let image = program();
    let starts = wasm(&image);
    let debug = container(Role::EphemeralContainer, image, starts);
    assert_eq!(to_grant(&assess(&workload(spec), &debug, Some(&profile("wasmtime")))), ["fs / rw"]);
    let plain = json!({"securityContext": {"privileged": false}});
    let not = json!({"hostPID": false, "shareProcessNamespace": false});
    assert_eq!(to_grant(&on("wasmtime", &pod(&plain, &not), program())), [""; 0]);
}

#[test]
fn a_host_path_is_secret_where_the_node_keeps_secrets() {
    let reaches = |path: &str| {
        let workload = pod(
            &json!({"volumeMounts": [{"name": "h", "mountPath": "/host"}]}),
            &json!({"volumes": [{"name": "h", "hostPath": {"path": path}}]}),
        );
        to_grant(&on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["path_open"])])))
    };
    let secret = [
        "/",
        "/etc",
        "/etc/kubernetes/pki",
        "/root/.kube",
        "/var/lib/kubelet/pods",
        "/var/lib/etcd/member",
        "/var/lib/rancher/k3s/server",
        "/var/lib/containerd",
        "/var/lib/docker/volumes",
        "/home/admin",
        "/run/containerd",
        "/var/run/docker.sock",
        "/proc",
        "/sys/firmware",
        "/dev/sda",
        "/var",
        "/var/lib/",
        "//etc/",
    ];
    for path in secret {
        assert_eq!(reaches(path), ["fs /host rw secret"], "{path}");
    }
    for path in ["/srv/data", "/var/lib/kubelets", "/var/lib/data", "/etcetera", "/opt"] {
        assert_eq!(reaches(path), ["fs /host rw"], "{path}");
    }
}

/// One that a later Kubernetes has: its field is none that is read here.
#[test]
fn a_variable_from_a_source_that_is_not_known_is_a_secret() {
    let reaches = |container: &Value| {
        let program = facts(ImageKind::Module, vec![core(&["environ_get"])]);
        to_grant(&on("wasmtime", &pod(container, &json!({})), program))
    };
    let from = |source: Value| json!({"env": [{"name": "A", "valueFrom": source}]});
    let file = json!({"fileKeyRef": {"volumeName": "v", "path": "a.env", "key": "A"}});
    assert_eq!(reaches(&from(file)), ["env A"]);
    assert_eq!(reaches(&from(json!({"vaultKeyRef": {"name": "s", "key": "k"}}))), ["env A secret"]);
    let expanded =
        json!({"env": [{"name": "A", "valueFrom": {"vaultKeyRef": {}}}, {"name": "B", "value": "x$(A)"}]});
    assert_eq!(reaches(&expanded), ["env A secret", "env B secret"]);
    let whole = json!({"envFrom": [{"prefix": "A_", "vaultRef": {"name": "s"}}]});
    assert_eq!(reaches(&whole), ["env A_* secret"]);
}

#[test]
fn the_service_account_token_is_in_reach_unless_the_pod_says_no() {
    let program = || facts(ImageKind::Module, vec![core(&["path_open"])]);
    let reaches =
        |spec: &Value, container: &Value| to_grant(&on("wasmtime", &pod(container, spec), program()));
    assert_eq!(reaches(&json!({"automountServiceAccountToken": null}), &json!({})), [TOKEN]);
    assert_eq!(reaches(&json!({"automountServiceAccountToken": false}), &json!({})), [""; 0]);
    // As the ServiceAccount plug-in leaves a pod: one entry, not two.
    let mounted = json!({"volumeMounts": [
        {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}]});
    let volumes = json!({"automountServiceAccountToken": null, "volumes": [
        {"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]});
    assert_eq!(reaches(&volumes, &mounted), [TOKEN]);
    // The plug-in does not recognise another spelling of the path, and mounts the token as well.
    let spelt = json!({"volumeMounts": [{"name": "e", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount/"}]});
    let volumes = json!({"automountServiceAccountToken": null, "volumes": [{"name": "e", "emptyDir": {}}]});
    assert!(reaches(&volumes, &spelt).contains(&TOKEN.to_string()));
}

#[test]
fn an_inline_csi_volume_is_a_secret_and_a_claim_of_the_driver_is_not() {
    for driver in ["secrets-store.csi.k8s.io", "csi.cert-manager.io", "csi.spiffe.io", "example.com/any"] {
        let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/tls", "readOnly": true}]});
        let inline = json!({"automountServiceAccountToken": false,
            "volumes": [{"name": "v", "csi": {"driver": driver, "readOnly": true}}]});
        let entries =
            on("wasmtime", &pod(&mount, &inline), facts(ImageKind::Module, vec![core(&["path_open"])]));
        assert!(lines(&entries.effective).contains(&"fs /tls ro secret".to_string()), "{driver}");
    }
}

#[test]
fn service_links_are_shown_and_need_no_grant() {
    let workload = pod(&json!({}), &json!({"enableServiceLinks": null}));
    let capabilities = on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["environ_get"])]));
    assert!(lines(&capabilities.effective).contains(&"env *_SERVICE_HOST own".to_string()));
    assert_eq!(to_grant(&capabilities), [""; 0]);
}

#[test]
fn a_variable_of_the_pod_replaces_the_image_s_own() {
    let workload = pod(&json!({"env": [{"name": "FROM_IMAGE", "value": "y"}]}), &json!({}));
    let capabilities = on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["environ_get"])]));
    assert_eq!(to_grant(&capabilities), ["env FROM_IMAGE"]);
}

#[test]
fn arguments_that_expand_a_secret_are_a_secret() {
    let env = json!([{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k"}}}]);
    let program = || facts(ImageKind::Module, vec![core(&["args_get"])]);
    let with = |args: Value| {
        let workload = pod(&json!({"env": env, "args": args}), &json!({}));
        lines(&on("wasmtime", &workload, program()).effective)
    };
    assert_eq!(with(json!(["--token=$(TOKEN)"])), ["args", "args secret"]);
    assert_eq!(with(json!(["--token=$(OTHER)", "TOKEN"])), ["args"]);
}

fn http_component(imports: Vec<Import>) -> ImageFacts {
    let exports = ["wasi:http/incoming-handler@0.2.0"];
    facts(ImageKind::HttpComponent, vec![module(WasmFormat::Component, imports, &exports)])
}

#[test]
fn an_http_component_on_runwasi_gets_variables_outgoing_http_and_a_port() {
    let mut imports = adapter();
    imports.push(import("wasi:http/outgoing-handler@0.2.0", &["handle"]));
    imports.push(import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"]));
    imports.push(import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"]));
    let capabilities = on("wasmtime", &rich_pod(), http_component(imports));
    let lines_of = to_grant(&capabilities);
    assert!(lines_of.contains(&"http.outbound *://*:*".to_string()), "{lines_of:?}");
    assert!(lines_of.contains(&"http.inbound".to_string()), "envFrom may set the address: {lines_of:?}");
    assert!(lines_of.contains(&"env PLAIN".to_string()), "{lines_of:?}");
    assert!(!lines_of.iter().any(|l| l.starts_with("fs") || l.starts_with("net")), "{lines_of:?}");
    assert_eq!(
        lines(&capabilities.missing),
        ["fs rw", "net.tcp.connect"],
        "stdio goes nowhere, and nothing fails"
    );
}

#[test]
fn the_port_of_an_http_component_follows_its_variable() {
    const NAME: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
    let port = |env: Value| {
        let capabilities = on("wasmtime", &pod(&json!({"env": env}), &json!({})), http_component(Vec::new()));
        let all = lines(&capabilities.ambient);
        assert!(!all.iter().any(|l| l.contains("WASMTIME_HTTP")), "the guest does not see it");
        to_grant(&capabilities)
    };
    assert_eq!(port(json!([])), ["http.inbound :8080"]);
    assert_eq!(port(json!([{"name": NAME, "value": "0.0.0.0:1234"}])), ["http.inbound :1234"]);
    assert_eq!(port(json!([{"name": NAME, "value": "rubbish"}])), ["http.inbound"]);
    let from_map = json!([{"name": NAME, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    assert_eq!(port(from_map), ["http.inbound"]);
}

#[test]
fn a_command_component_that_imports_http_cannot_be_linked_on_runwasi() {
    for (interface, function) in
        [("wasi:http/outgoing-handler@0.2.0", "handle"), ("wasi:http/types@0.2.0", "[constructor]fields")]
    {
        let program = facts(ImageKind::Component, vec![component(vec![import(interface, &[function])])]);
        let capabilities = on("wasmtime", &plain_pod(), program);
        assert_eq!(lines(&capabilities.missing), ["http.outbound"], "{interface}");
        assert_eq!(lines(&capabilities.effective), [""; 0]);
    }
}

#[test]
fn an_unknown_import_is_effective_everywhere() {
    for runtime in ["wasmtime", "spin"] {
        let program =
            facts(ImageKind::Component, vec![component(vec![import("acme:thing/api@1.0.0", &["go"])])]);
        let capabilities = on(runtime, &plain_pod(), program);
        assert_eq!(to_grant(&capabilities), ["unknown-import acme:thing/api@1.0.0"], "{runtime}");
    }
}

#[test]
fn an_unknown_import_of_what_a_runtime_links_reaches_all_that_is_handed_over() {
    let modules = [
        module(WasmFormat::Module, vec![import(PREVIEW1, &["path_open9"])], &["_start"]),
        module(WasmFormat::Module, vec![import("wasix_32v1", &["proc_spawn2"])], &["_start"]),
        module(WasmFormat::Module, vec![import("wasi_ephemeral_sock", &["sock_x"])], &["_start"]),
        module(WasmFormat::Module, vec![import("wasmedge_process", &["wasmedge_process_run"])], &["_start"]),
        module(WasmFormat::Module, vec![import("wasm_bpf", &["wasm_load_bpf_object"])], &["_start"]),
        module(WasmFormat::Module, vec![import("wasi:logging/logging", &["log"])], &["_start"]),
        component(vec![import("wasi:filesystem/types@1.0.0", &["open"])]),
        component(vec![import("spin:later/api@1.0.0", &["go"])]),
    ];
    for program in modules {
        let shown = format!("{:?}", program.imports);
        let capabilities = on("wasmtime", &rich_pod(), facts(ImageKind::Module, vec![program]));
        // What the runtime loads by itself is no matter of what the program can call.
        let to_program = capabilities.ambient.iter().filter(|e| e.capability != Capability::NativePlugin);
        for handed in to_program {
            let is_reached = |entry: &Entry| bare(entry) == bare(handed);
            assert!(capabilities.effective.iter().any(is_reached), "{shown}: {handed:?}");
        }
        let itself = capabilities.effective.iter().find(|e| e.capability == Capability::UnknownImport);
        assert!(!itself.unwrap().opens, "{shown}: a grant for native code does not cover it");
        assert!(capabilities.missing.is_empty(), "{shown}");
    }
}

/// An entry without its evidence.
fn bare(entry: &Entry) -> Entry {
    Entry { evidence: Vec::new(), ..entry.clone() }
}

#[test]
fn many_unknown_imports_reach_what_one_reaches() {
    let names: Vec<String> = (0..5_000).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let reached = |functions: &[&str]| -> Vec<Entry> {
        let capabilities = on("wasmtime", &rich_pod(), facts(ImageKind::Module, vec![core(functions)]));
        let others = capabilities.effective.iter().filter(|e| e.capability != Capability::UnknownImport);
        others.map(bare).collect()
    };
    assert_eq!(reached(&names), reached(&["f0"]));
}

#[test]
fn foreign_text_cannot_end_a_line_or_command_a_terminal() {
    const EVIL: &str = "x\n- { name: \"*\" }\u{1b}[31m\u{202e}";
    let safe = |capabilities: &Capabilities| {
        let lists =
            [&capabilities.requires, &capabilities.ambient, &capabilities.effective, &capabilities.missing];
        for entry in lists.into_iter().flatten() {
            let host = entry.host.clone().map(String::from);
            let texts = [&entry.name, &entry.path, &host].into_iter().flatten().chain(&entry.evidence);
            for text in texts {
                assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
            }
        }
        assert!(!capabilities.effective.is_empty());
    };
    let core = |name: &str| module(WasmFormat::Module, vec![import(name, &[EVIL])], &[]);
    let capabilities = on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![core(EVIL)]));
    safe(&capabilities);
    let name = capabilities.effective[0].name.clone().unwrap();
    assert!(name.starts_with(r#"x\n- { name: "*" }\u{1b}[31m\u{202e}"#), "{name}");

    let api = SpinComponent {
        allowed_outbound_hosts: hosts(&[EVIL]),
        key_value_stores: strings(&[EVIL]),
        files: strings(&[EVIL]),
        env: strings(&[EVIL]),
        variables: strings(&[EVIL]),
        ..SpinComponent::default()
    };
    let mut image =
        spin(api, vec![import(EVIL, &[EVIL]), import("spin:key-value/key-value@3.0.0", &["get"])]);
    let app = image.spin.as_mut().unwrap();
    app.triggers.insert(EVIL.into());
    app.components[0].id = EVIL.into();
    image.modules[0].component = Some(EVIL.into());
    image.modules[0].source = EVIL.into();
    safe(&on("spin", &plain_pod(), image));

    let literal = on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![core(r"x\n")]));
    let control = on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![core("x\n")]));
    assert_ne!(lines(&literal.effective), lines(&control.effective), "a grant for one is none for the other");
    let long = on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![core(&"x".repeat(100_000))]));
    assert_eq!(lines(&long.effective), ["unknown-import *"]);
    assert!(long.effective[0].evidence.iter().all(|text| text.chars().count() < 600));
}

/// The most entries of one capability in a list: the named ones, and one for the rest.
const MOST: usize = wasmgate::capability::MAX_ENTRIES + 1;

#[test]
fn a_flood_of_imports_becomes_few_entries_and_one_that_only_a_wide_grant_covers() {
    let names: Vec<String> = (0..95_000).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let flood =
        module(WasmFormat::Module, vec![import("env", &names), import(PREVIEW1, &["path_open"])], &[]);
    let capabilities = on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![flood]));
    for list in [&capabilities.requires, &capabilities.effective] {
        let unknown: Vec<&Entry> =
            list.iter().filter(|e| e.capability == Capability::UnknownImport).collect();
        assert_eq!(unknown.len(), MOST);
        assert_eq!(unknown.iter().filter(|e| e.name.is_none()).count(), 1);
    }
    let rest = evidence(&capabilities.effective, "unknown-import");
    assert_eq!(rest[0], format!("{} more imports", 95_001 - MOST));
    assert!(
        lines(&capabilities.effective).contains(&"fs / rw own".to_string()),
        "the others stay as they are"
    );
    let one = module(WasmFormat::Component, vec![import("wasi:nn/graph@0.2.0", &names)], &[]);
    let one = on("wasmtime", &plain_pod(), facts(ImageKind::Component, vec![component(one.imports)]));
    assert!(shown(&one).len() < 20_000, "{}", shown(&one).len());
}

#[test]
fn a_flood_of_variables_is_covered_only_by_a_wide_grant() {
    let env: Vec<Value> = (0..3000).map(|n| json!({"name": format!("V{n}"), "value": "x"})).collect();
    let workload = pod(&json!({"env": env}), &json!({}));
    let capabilities = on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["environ_get"])]));
    let reached = to_grant(&capabilities);
    assert_eq!(reached.len(), MOST);
    assert_eq!(reached[0], "env");
    assert!(lines(&capabilities.effective).contains(&"env FROM_IMAGE own".to_string()));
}

#[test]
fn a_runtime_that_no_profile_describes_hands_over_everything() {
    let mut imports = adapter();
    imports.push(import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"]));
    imports.push(import("wasi:http/outgoing-handler@0.2.0", &["handle"]));
    imports.push(import("wasi:nn/tensor@0.2.0", &["f"]));
    let facts = facts(ImageKind::Component, vec![component(imports)]);
    let program = wasm(&facts);
    let workload = pod(
        &json!({"volumeMounts": [{"name": "d", "mountPath": "/data"}], "env": [{"name": "A", "value": "x"}]}),
        &json!({"runtimeClassName": "mystery", "volumes": [{"name": "d", "emptyDir": {}}]}),
    );
    let capabilities = assess(&workload, &container(Role::Container, facts, program), None);
    assert_eq!(to_grant(&capabilities), ["env", "env A", "fs rw", "fs /data rw", "http.outbound", "nn"]);
    assert!(capabilities.missing.is_empty());
    assert_eq!(
        evidence(&capabilities.effective, "http.outbound")[0],
        "RuntimeClass mystery, which no profile describes: taken to hand over everything"
    );
    let handed: BTreeSet<Capability> = capabilities.ambient.iter().map(|e| e.capability).collect();
    // A device is what the pod asks for.
    let all: BTreeSet<Capability> = Capability::ALL.iter().copied().collect();
    assert_eq!(all.difference(&handed).collect::<Vec<_>>(), [&Capability::Device]);
}

#[test]
fn a_variable_that_loads_a_native_plug_in_is_seen_where_wasmedge_may_run() {
    let workload = pod(&json!({"env": [{"name": "WASMEDGE_PLUGIN_PATH", "value": "/p"}]}), &json!({}));
    let image = || facts(ImageKind::Module, vec![core(&["fd_write"])]);
    let program = wasm(&image());
    let unknown = assess(&workload, &container(Role::Container, image(), program), None);
    assert_eq!(to_grant(&unknown), ["native.plugin WASMEDGE_PLUGIN_PATH"]);
    assert_eq!(to_grant(&on("wasmtime", &workload, image())), [""; 0]);
    assert_eq!(to_grant(&on("wasmedge", &workload, image())), ["native.plugin WASMEDGE_PLUGIN_PATH"]);
}

/// A mount that is read-only does not hold what the node has mounted below the folder to that.
#[test]
fn a_folder_of_the_node_is_read_only_where_all_that_is_mounted_below_it_is() {
    let found = |more: Value, kind: Value| {
        let mut mount = json!({"name": "v", "mountPath": "/host", "readOnly": true});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = json!({"volumes": [{"name": "v", "hostPath": {"path": "/srv/data", "type": kind}}]});
        let image = facts(ImageKind::Module, vec![core(&["path_open", "path_unlink_file"])]);
        let all = on("wasmtime", &pod(&json!({ "volumeMounts": [mount] }), &spec), image);
        lines(&all.effective).into_iter().find(|line| line.starts_with("fs /host")).unwrap()
    };
    for recursive in [json!({}), json!({"recursiveReadOnly": "IfPossible"})] {
        assert_eq!(found(recursive.clone(), json!(null)), "fs /host rw");
        assert_eq!(found(recursive.clone(), json!("Directory")), "fs /host rw");
        assert_eq!(found(recursive, json!("File")), "fs /host ro");
    }
    assert_eq!(found(json!({"recursiveReadOnly": "Enabled"}), json!(null)), "fs /host ro");
}

/// What a node adds for a device is in no pod spec, and may be mounted over the program, so that it counts for a program that opens
/// no file as well.
#[test]
fn a_device_needs_a_grant_by_the_name_of_its_resource_or_its_claim() {
    let found = |runtime: &str, resources: Value, spec: Value| {
        let image = facts(ImageKind::Module, vec![core(&["fd_write"])]);
        to_grant(&on(runtime, &pod(&json!({ "resources": resources }), &spec), image))
    };
    let none = || json!({});
    let of_kubelet = json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi", "hugepages-2Mi": "4Mi"});
    for runtime in ["wasmtime", "wasmedge", "other"] {
        assert_eq!(found(runtime, json!({"limits": of_kubelet, "requests": of_kubelet}), none()), [""; 0]);
        let gpu = json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}});
        assert_eq!(found(runtime, gpu, none()), ["device nvidia.com/gpu"]);
    }
    for list in ["limits", "requests"] {
        let implicit = json!({ list: {"deviceclass.resource.kubernetes.io/gpu": "1"} });
        assert_eq!(
            found("wasmtime", implicit, none()),
            ["device deviceclass.resource.kubernetes.io/gpu"],
            "{list}"
        );
        assert_eq!(found("wasmtime", json!({ list: {"nvidia.com/gpu": "0"} }), none()), [""; 0], "{list}");
    }
    let claims = json!({"resourceClaims": [
        {"name": "own", "resourceClaimName": "shared"}, {"name": "made", "resourceClaimTemplateName": "one-gpu"},
        {"name": "later"}, {"name": "of-another-container", "resourceClaimName": "other"}]});
    let names = |names: &[&str]| {
        let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "claims": names })
    };
    assert_eq!(
        found("wasmtime", names(&["own", "made"]), claims.clone()),
        ["device resourceClaim/shared", "device resourceClaimTemplate/one-gpu"]
    );
    // Any device: of a kind of claim that is not known here, and of a name that the pod does not declare.
    assert_eq!(found("wasmtime", names(&["later"]), claims.clone()), ["device"]);
    assert_eq!(found("wasmtime", names(&["gone"]), claims.clone()), ["device"]);
    assert_eq!(found("wasmtime", none(), claims), [""; 0]);
    assert_eq!(found("wasmtime", none(), json!({"resources": names(&["gone"])})), ["device"]);
    // Of more than are told apart, one stands for all.
    let many: Vec<Value> =
        (0..65).map(|n| json!({"name": format!("c{n}"), "resourceClaimName": "shared"})).collect();
    assert_eq!(
        found("wasmtime", names(&["c0"]), json!({"resourceClaims": many[..64]})),
        ["device resourceClaim/shared"]
    );
    assert_eq!(found("wasmtime", names(&["c0"]), json!({"resourceClaims": many})), ["device"]);
    let resources: BTreeMap<String, &str> =
        (0..300).map(|n| (format!("acme.example/d{n:03}"), "1")).collect();
    let found = found("wasmtime", json!({"limits": resources}), none());
    assert_eq!((found.len(), found[0].as_str()), (257, "device"));
}

/// A path may be followed by one in the container and by a mode.
#[test]
fn a_device_that_an_annotation_of_cri_o_names_needs_a_grant_by_its_path() {
    let found = |runtime: &str, annotations: &[(&str, &str)]| {
        let mut pod = plain_pod();
        let pairs = annotations.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string()));
        pod.annotations.extend(pairs);
        to_grant(&on(runtime, &pod, facts(ImageKind::Module, vec![core(&["fd_write"])])))
    };
    let (key, former) = ("devices.crio.io", "io.kubernetes.cri-o.Devices");
    let both = ["device /dev/fuse", "device /dev/net/tun"];
    for runtime in ["wasmtime", "wasmedge", "other"] {
        for key in [key, former] {
            assert_eq!(found(runtime, &[(key, "/dev/net/tun,/dev/fuse:/dev/f:rw")]), both, "{runtime} {key}");
            assert_eq!(found(runtime, &[(key, "")]), [""; 0], "{runtime} {key}");
        }
    }
    assert_eq!(found("wasmtime", &[(key, "/dev/fuse"), (former, ",/dev/net/tun:r,/dev/fuse")]), both);
    assert_eq!(found("wasmtime", &[("devices.crio.io/app", "/dev/fuse")]), [""; 0], "CRI-O does not read it");
    // Any device: without a path, and of more than are told apart, however often one of them is named.
    assert_eq!(found("wasmtime", &[(key, ":/dev/fuse")]), ["device"]);
    assert_eq!(found("wasmtime", &[(key, &format!("{}/dev/fuse", "/dev/null,".repeat(256)))]), ["device"]);
    assert_eq!(found("wasmtime", &[(key, &"/dev/fuse,".repeat(256))]), ["device /dev/fuse"]);
}

/// Who writes the pod may write the ConfigMap, so that what a whole one may hold counts.
#[test]
fn a_whole_config_map_that_may_load_a_native_plug_in_counts_as_one_that_does() {
    let from = |prefix: &str| json!({"envFrom": [{"prefix": prefix, "configMapRef": {"name": "c"}}]});
    let found = |prefix: &str, runtime: &str| {
        let image = facts(ImageKind::Module, vec![core(&["fd_write"])]);
        to_grant(&on(runtime, &pod(&from(prefix), &json!({})), image))
    };
    let both = ["native.plugin WASMEDGE_PLUGIN_PATH", "native.plugin WASMEDGE_WASINN_PRELOAD"];
    assert_eq!(found("", "wasmedge"), both);
    assert_eq!(found("WASMEDGE_", "wasmedge"), both);
    assert_eq!(found("WASMEDGE_PLUGIN", "wasmedge"), both[..1]);
    assert_eq!(found("SHOP_", "wasmedge"), [""; 0]);
    assert_eq!(found("", "wasmtime"), [""; 0]);
}

/// runwasi's WasmEdge loads what is called `.so` in a folder beside the path of its shim, looked up in the container's files.
#[test]
fn files_where_wasmedge_looks_for_plug_ins_count_as_plug_ins() {
    let elf = || FileClass::Native { magic: "ELF".into(), runs: false, found: false };
    let link = |target: &str| FileClass::Link { target: target.into() };
    let loads = |runtime: &str, files: Vec<(&str, FileClass)>, mounts: Value| {
        let mut image = facts(ImageKind::Module, vec![core(&["fd_write"])]);
        image.files.extend(files.into_iter().map(|(name, class)| (name.to_string(), class)));
        image.files.sort_by(|one, other| one.0.cmp(&other.0));
        let spec = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        to_grant(&on(runtime, &pod(&json!({"volumeMounts": mounts, "env": [home("/")]}), &spec), image))
    };
    for name in ["/usr/local/bin/wasmedge/a.so", "/opt/x/plugin/deep/a.so"] {
        let granted = format!("native.plugin {name}");
        assert_eq!(loads("wasmedge", vec![(name, elf())], json!([])), [granted.as_str()]);
        assert_eq!(loads("wasmtime", vec![(name, elf())], json!([])), [""; 0]);
    }
    assert_eq!(loads("wasmedge", vec![("/x/plugin", link("/data"))], json!([])), ["native.plugin /x/plugin"]);
    for name in ["/usr/lib/libc.so", "/usr/lib/wasmedge/a.txt", "/plugins/a.so", "/srv/plugin.so"] {
        assert_eq!(loads("wasmedge", vec![(name, elf())], json!([])), [""; 0], "{name}");
    }
    let at = |path: &str| json!([{"name": "v", "mountPath": path}]);
    for path in ["/usr/local/bin/wasmedge", "/usr/local/bin", "/opt", "/", "/x/plugin/a.so"] {
        let granted = format!("native.plugin {path}");
        assert_eq!(loads("wasmedge", vec![], at(path)), [granted.as_str()]);
        assert_eq!(loads("wasmtime", vec![], at(path)), [""; 0]);
    }
    assert_eq!(
        loads("wasmedge", vec![("/usr/local/bin", link("/data"))], at("/data")),
        ["native.plugin /data"],
        "the folder of the shim is a volume"
    );
    for path in ["/data", "/etc/app", "/var/log"] {
        assert_eq!(loads("wasmedge", vec![], at(path)), [""; 0], "{path}");
    }
}

/// A variable with which a runtime looks up no user.
fn home(value: &str) -> Value {
    json!({"name": "HOME", "value": value})
}

/// What native code a runtime may load.
fn native_plug_ins(workload: &Workload, image: ImageFacts, profile: &Profile) -> Vec<String> {
    let program = wasm(&image);
    let found = assess(workload, &container(Role::Container, image, program), Some(profile));
    to_grant(&found).into_iter().filter(|entry| entry.starts_with("native.plugin")).collect()
}

/// glibc loads a module of its name service by the container's files, in the process that runs the program.
#[test]
fn what_glibc_would_load_to_resolve_a_name_counts_as_a_plug_in_where_glibc_resolves() {
    let elf = || FileClass::Native { magic: "ELF".into(), runs: false, found: false };
    let loads = |family: Family, calls: &[&str], files: Vec<(&str, FileClass)>, mounts: Value| {
        let mut image = facts(ImageKind::Module, vec![core(calls)]);
        image.files.extend(files.into_iter().map(|(name, class)| (name.to_string(), class)));
        image.files.sort_by(|one, other| one.0.cmp(&other.0));
        let spec = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        let workload = pod(&json!({"volumeMounts": mounts, "env": [home("/")]}), &spec);
        let described = Profile { ambient: family, ..profile("wasmtime") };
        native_plug_ins(&workload, image, &described)
    };
    let resolves = ["sock_getaddrinfo"];
    let glibc = [Family::RunwasiWasmedge, Family::CrunWasmedge, Family::CrunWamr, Family::Everything];
    for family in glibc {
        for name in ["/lib/x86_64-linux-gnu/libnss_evil.so.2", "/opt/libnss_x.so", "/etc/ld.so.cache"] {
            let found = loads(family, &resolves, vec![(name, elf())], json!([]));
            assert_eq!(found, [format!("native.plugin {name}")], "{family:?}");
            assert_eq!(loads(family, &["fd_write"], vec![(name, elf())], json!([])), [""; 0], "{family:?}");
        }
        let at = |path: &str| json!([{"name": "v", "mountPath": path}]);
        for path in ["/usr/lib64", "/lib/x86_64-linux-gnu/x", "/usr", "/etc", "/etc/ld.so.cache"] {
            let found = loads(family, &resolves, vec![], at(path));
            assert_eq!(found, [format!("native.plugin {path}")], "{family:?}");
        }
        let link = FileClass::Link { target: "/data".into() };
        let found = loads(family, &resolves, vec![("/usr/lib", link)], at("/data"));
        assert_eq!(found, ["native.plugin /data"], "{family:?}");
        assert_eq!(
            loads(family, &resolves, vec![("/lib/libc.so.6", elf())], at("/data")),
            [""; 0],
            "{family:?}"
        );
    }
    // Their modules have no call that resolves a name.
    for family in [Family::RunwasiWasmtime, Family::CrunWasmtime, Family::YoukiWasmtime] {
        let found = loads(family, &resolves, vec![("/lib/libnss_evil.so.2", elf())], json!([]));
        assert_eq!(found, [""; 0], "{family:?}");
    }
}

/// The build of the wasmtime shim decides, and what a profile does not say counts as glibc.
#[test]
fn what_glibc_would_load_for_a_component_counts_as_a_plug_in_unless_the_wasmtime_shim_is_built_with_musl() {
    let names = import("wasi:sockets/ip-name-lookup@0.2.6", &["resolve-addresses"]);
    let requests = import("wasi:http/outgoing-handler@0.2.6", &["handle"]);
    let sockets = import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"]);
    let loads = |kind: ImageKind, calls: &Import, file: Option<&str>, at: &str, built_with_musl: bool| {
        let answers = match kind {
            ImageKind::HttpComponent => "wasi:http/incoming-handler@0.2.6",
            _ => "wasi:cli/run@0.2.6",
        };
        let mut image = facts(kind, vec![module(WasmFormat::Component, vec![calls.clone()], &[answers])]);
        let elf = FileClass::Native { magic: "ELF".into(), runs: false, found: false };
        image.files.extend(file.map(|file| (file.to_string(), elf)));
        image.files.sort_by(|one, other| one.0.cmp(&other.0));
        let spec = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        let mounts = json!([{"name": "v", "mountPath": at}]);
        let workload = pod(&json!({"volumeMounts": mounts, "env": [home("/")]}), &spec);
        native_plug_ins(&workload, image, &Profile { built_with_musl, ..profile("wasmtime") })
    };
    let library = "/usr/lib64/libnss_evil.so.2";
    for (kind, calls) in [(ImageKind::Component, &names), (ImageKind::HttpComponent, &requests)] {
        let of_library = loads(kind, calls, Some(library), "/data", false);
        assert_eq!(of_library, [format!("native.plugin {library}")], "{kind:?}");
        assert_eq!(loads(kind, calls, None, "/usr/lib", false), ["native.plugin /usr/lib"], "{kind:?}");
        assert_eq!(loads(kind, calls, None, "/data", false), [""; 0], "{kind:?}: an image from scratch");
        assert_eq!(loads(kind, calls, Some(library), "/usr/lib", true), [""; 0], "{kind:?}");
    }
    let connecting = loads(ImageKind::Component, &sockets, Some(library), "/usr/lib", false);
    assert_eq!(connecting, [""; 0], "what connects to addresses resolves no name");
}

/// The library that makes the containers of youki and of runwasi's shims asks glibc for the user's home folder in the container's
/// root, before the program starts: what the program calls does not matter.
#[test]
fn what_glibc_would_load_to_look_up_the_user_counts_as_a_plug_in_unless_the_pod_sets_home() {
    let library = "/usr/lib64/libnss_evil.so.2";
    let loads = |profile: &Profile, file: &str, pod: &Workload| {
        let mut image = facts(ImageKind::Module, vec![core(&["fd_write"])]);
        let elf = FileClass::Native { magic: "ELF".into(), runs: false, found: false };
        image.files.push((file.into(), elf));
        image.files.sort_by(|one, other| one.0.cmp(&other.0));
        native_plug_ins(pod, image, profile)
    };
    let with = |env: Value| pod(&json!({"env": env}), &json!({}));
    let of = |ambient: Family| Profile { ambient, ..profile("wasmtime") };
    let by_glibc =
        [Family::RunwasiWasmtime, Family::RunwasiWasmedge, Family::YoukiWasmtime, Family::Everything];
    for family in by_glibc {
        let loads = |pod: &Workload| loads(&of(family), library, pod);
        let from_elsewhere =
            json!({"name": "HOME", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}});
        for open in [json!([]), json!([home("")]), json!([home("$(X)")]), json!([from_elsewhere])] {
            assert_eq!(
                loads(&with(open.clone())),
                [format!("native.plugin {library}")],
                "{family:?}: {open}"
            );
        }
        assert_eq!(loads(&with(json!([home("/root")]))), [""; 0], "{family:?}");
    }
    for family in [Family::CrunWasmtime, Family::CrunWasmedge, Family::CrunWamr, Family::CrunWasmer] {
        assert_eq!(loads(&of(family), library, &plain_pod()), [""; 0], "{family:?} reads /etc/passwd itself");
    }
    for family in [Family::RunwasiWasmtime, Family::YoukiWasmtime] {
        let musl = Profile { built_with_musl: true, ..of(family) };
        assert_eq!(loads(&musl, library, &plain_pod()), [""; 0], "{family:?} with musl");
        assert_eq!(loads(&of(family), "/usr/lib64/libc.so.6", &plain_pod()), [""; 0], "{family:?}");
    }
}

/// `passwd: /../../data/x` in `/etc/nsswitch.conf` is the file `libnss_/../../data/x.so.2` to glibc.
#[test]
fn a_module_that_nsswitch_conf_names_by_a_path_counts_as_a_plug_in_wherever_it_is() {
    let loads = |files: &[&str], at: &str| {
        let mut image = facts(ImageKind::Module, vec![core(&["fd_write"])]);
        image.files.extend(files.iter().map(|file| ((*file).to_string(), FileClass::Other)));
        image.files.sort_by(|one, other| one.0.cmp(&other.0));
        let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "automountServiceAccountToken": true});
        let workload = pod(&json!({"volumeMounts": [{"name": "v", "mountPath": at}]}), &spec);
        native_plug_ins(&workload, image, &profile("wasmtime"))
    };
    for file in ["/libnss_/x.so.2", "/srv/x.so.2"] {
        assert_eq!(loads(&[file], "/data"), [format!("native.plugin {file}")]);
    }
    for at in ["/data", "/srv/deep"] {
        assert_eq!(loads(&["/etc/nsswitch.conf"], at), [format!("native.plugin {at}")], "and not the token");
        assert_eq!(loads(&[], at), [""; 0], "the default names no path");
    }
    for at in ["/libnss_", "/app/libnss_x/y", "/etc/nsswitch.conf"] {
        assert_eq!(loads(&[], at), [format!("native.plugin {at}")]);
    }
}

/// A volume of which the pod says how all files are called, as of the token that the API server mounts, brings no module by its path.
#[test]
fn where_the_image_chooses_modules_a_volume_brings_none_whose_files_the_pod_calls_otherwise() {
    let brings = |source: Value, at: &str| {
        let mut image = facts(ImageKind::Module, vec![core(&["fd_write"])]);
        image.files.push(("/etc/nsswitch.conf".into(), FileClass::Other));
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        let mount =
            json!({"name": "v", "mountPath": at, "subPath": if at.ends_with(".so.2") { "x" } else { "" }});
        let workload = pod(&json!({"volumeMounts": [mount]}), &json!({"volumes": [volume]}));
        !native_plug_ins(&workload, image, &profile("wasmtime")).is_empty()
    };
    let named = |path: &str| json!({"configMap": {"name": "c", "items": [{"key": "k", "path": path}]}});
    let token = json!({"projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}});
    for (source, at, expected) in [
        (token, "/var/run/secrets/kubernetes.io/serviceaccount", false),
        (named("app.toml"), "/data", false),
        (named("x.so.2"), "/data", true),
        (named("app.toml"), "/data/x.so.2", true),
        (json!({"configMap": {"name": "c"}}), "/data", true),
        (json!({"secret": {"secretName": "s"}}), "/data", true),
        (json!({"emptyDir": {}}), "/data", true),
        (json!({"persistentVolumeClaim": {"claimName": "c"}}), "/data", true),
    ] {
        assert_eq!(brings(source.clone(), at), expected, "{source} at {at}");
    }
}

/// WasmEdge gives some calls a second version.
#[test]
fn a_second_version_of_a_call_opens_files_as_the_first_does() {
    let opens = |call: &str| {
        let image = facts(ImageKind::Module, vec![core(&[call])]);
        on("wasmtime", &plain_pod(), image)
            .effective
            .iter()
            .any(|entry| entry.capability == Capability::NativeExec)
    };
    assert!(opens("path_open") && opens("path_open_v2"));
    assert!(!opens("path_unlink_file"));
}

/// A module that tries everything that preview 1 and WasmEdge have, on a runtime of this family.
fn on_ambient(ambient: Family, workload: &Workload) -> Capabilities {
    let calls =
        ["fd_write", "args_get", "environ_get", "path_open", "sock_open", "sock_connect", "sock_listen"];
    let image = facts(ImageKind::Module, vec![core(&calls)]);
    let program = wasm(&image);
    let described = Profile { ambient, ..profile("wasmtime") };
    assess(workload, &container(Role::Container, image, program), Some(&described))
}

/// A mount at /data and one at /logs, a variable, and the working directory.
fn pod_in(directory: &str) -> Workload {
    pod(
        &json!({
            "workingDir": directory, "env": [{"name": "A", "value": "x"}],
            "volumeMounts": [{"name": "d", "mountPath": "/data"}, {"name": "l", "mountPath": "/logs", "readOnly": true}],
        }),
        &json!({"volumes": [{"name": "d", "emptyDir": {}}, {"name": "l", "emptyDir": {}}]}),
    )
}

#[test]
fn each_runtime_hands_over_what_its_sources_say() {
    let network = ["net.tcp.connect *://*:*", "net.udp *://*:*", "net.listen"];
    let files = ["fs /data rw", "fs /logs ro"];
    for (ambient, granted, missing) in [
        (Family::RunwasiWasmedge, [&["env A"], &files[..], &network[..]].concat(), &[][..]),
        (Family::CrunWasmedge, [&["env A"], &files[..], &network[..]].concat(), &[]),
        (Family::CrunWamr, [&["env A"], &files[..], &network[..]].concat(), &[]),
        (
            Family::CrunWasmtime,
            [&["env A"], &files[..]].concat(),
            &["net.tcp.connect", "net.udp", "net.listen"],
        ),
        (Family::YoukiWasmtime, vec!["env A"], &["fs rw", "net.tcp.connect", "net.udp", "net.listen"]),
        (Family::CrunWasmer, vec![], &["fs rw", "net.tcp.connect", "net.udp", "net.listen"]),
    ] {
        let found = on_ambient(ambient, &pod_in("/"));
        assert_eq!(to_grant(&found), granted, "{ambient:?}");
        assert_eq!(lines(&found.missing), missing, "{ambient:?}");
    }
}

#[test]
fn crun_s_wasmtime_opens_the_working_directory_and_no_more() {
    for (directory, reached) in [
        ("/", &["fs /data rw", "fs /logs ro", "fs / rw own", "fs /dev/termination-log rw own"][..]),
        ("/app", &["fs /app rw own"]),
        ("/etc", &["fs /etc rw own", "fs /etc/hosts rw", "fs /etc/resolv.conf rw"]),
        ("/run", &["fs /run rw own"]),
        ("/data", &["fs /data rw"]),
        ("/logs/../logs", &["fs /logs ro"]),
        ("", &["fs /data rw", "fs /logs ro", "fs / rw own", "fs /dev/termination-log rw own"]),
    ] {
        let found = on_ambient(Family::CrunWasmtime, &pod_in(directory));
        let files: BTreeSet<String> =
            lines(&found.effective).into_iter().filter(|line| line.starts_with("fs ")).collect();
        assert_eq!(files, reached.iter().map(ToString::to_string).collect(), "{directory}");
    }
}

/// The kubelet and the container runtime mount them into each container, where links of its image lead.
#[test]
fn the_files_by_which_all_containers_of_a_pod_resolve_names_need_a_grant_to_be_written() {
    let reached = |call: &str, more: &Value, links: &[(&str, &str)]| {
        let image = linked(facts(ImageKind::Module, vec![core(&[call])]), links);
        let program = wasm(&image);
        let described = Profile { ambient: Family::CrunWasmtime, ..profile("wasmtime") };
        let mut container = json!({"workingDir": "/etc"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        let found = assess(&pod(&container, &volumes), &container_of(image, program), Some(&described));
        to_grant(&found)
    };
    let (none, both) = (json!({}), ["fs /etc/hosts rw", "fs /etc/resolv.conf rw"]);
    assert_eq!(reached("path_open", &none, &[]), both);
    for call in ["fd_readdir", "path_filestat_get", "path_unlink_file", "fd_write"] {
        assert_eq!(reached(call, &none, &[]), [""; 0], "{call}");
    }
    let read_only = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    assert_eq!(reached("path_open", &read_only, &[]), ["fs /etc/hosts rw"], "the kubelet's stays writable");
    let other_user = json!({"securityContext": {"runAsNonRoot": true, "allowPrivilegeEscalation": false}});
    assert_eq!(reached("path_open", &other_user, &[]), both, "its process keeps the capabilities");
    assert_eq!(reached("path_open", &json!({"securityContext": held(&[])}), &[]), [""; 0]);
    let mounted = json!({"volumeMounts": [{"name": "v", "mountPath": "/etc/hosts", "subPath": "h"}]});
    assert_eq!(reached("path_open", &mounted, &[]), ["fs /etc/hosts ro", "fs /etc/resolv.conf rw"]);
    let elsewhere = json!({"workingDir": "/srv"});
    assert_eq!(reached("path_open", &elsewhere, &[]), [""; 0]);
    assert_eq!(reached("path_open", &elsewhere, &[("/etc/hosts", "/srv/hosts")]), ["fs /srv/hosts rw"]);
}

/// What is reached through files of the kernel.
fn through_kernel(capabilities: &Capabilities) -> Vec<String> {
    capabilities.effective.iter().filter(|e| of_kernel(e)).map(line).collect()
}

const HOST_PROCESS: [&str; 5] = ["env", "fs /dev rw", "fs /proc rw", "fs /sys ro", "native.exec"];

#[test]
fn a_program_that_opens_files_reaches_the_process_that_runs_it_where_that_is_in_the_tree() {
    use Family::{
        CrunWamr, CrunWasmedge, CrunWasmer, CrunWasmtime, Everything, RunwasiWamr, RunwasiWasmedge,
        RunwasiWasmer, RunwasiWasmtime, YoukiWasmtime,
    };
    let opener = || core(&["fd_write", "path_open"]);
    let reached = |ambient: Family, directory: &str| {
        let image = facts(ImageKind::Module, vec![opener()]);
        let program = wasm(&image);
        let described = Profile { ambient, ..profile("wasmtime") };
        let container = container(Role::Container, image, program);
        through_kernel(&assess(&pod_in(directory), &container, Some(&described)))
    };
    let open = [
        RunwasiWasmtime,
        RunwasiWasmedge,
        RunwasiWasmer,
        RunwasiWamr,
        CrunWasmedge,
        CrunWamr,
        CrunWasmtime,
        Everything,
    ];
    for family in open {
        assert_eq!(reached(family, "/"), HOST_PROCESS, "{family:?}");
    }
    for (family, directory) in
        [(CrunWasmer, "/"), (YoukiWasmtime, "/"), (CrunWasmtime, "/app"), (CrunWasmtime, "/data")]
    {
        assert_eq!(reached(family, directory), [""; 0], "{family:?} in {directory}");
    }
    assert_eq!(reached(CrunWasmtime, "/proc"), ["env", "fs /proc rw", "native.exec"]);
    // A link of the kernel, or of a volume, may lead anywhere.
    for directory in [
        "/proc/self",
        "/proc/self/cwd/../../..",
        "/sys/class/net/lo/subsystem/../../../data",
        "/dev/fd/3",
        "/data/in",
        "/logs/in/../..",
    ] {
        assert_eq!(reached(CrunWasmtime, directory), HOST_PROCESS, "{directory}");
    }
    assert_eq!(reached(CrunWasmtime, "/sys"), ["fs /sys ro"]);
}

#[test]
fn neither_a_user_nor_a_read_only_root_nor_dropped_capabilities_hide_the_process() {
    let security =
        json!({"readOnlyRootFilesystem": true, "runAsUser": 65532, "capabilities": {"drop": ["ALL"]}});
    let workload = pod(&json!({"securityContext": security}), &json!({}));
    let image = || facts(ImageKind::Module, vec![core(&["path_open"])]);
    let found = on("wasmtime", &workload, image());
    assert_eq!(through_kernel(&found), HOST_PROCESS);
    assert_eq!(
        evidence(&found.effective, "native.exec"),
        [
            "import wasi_snapshot_preview1.path_open in /app.wasm",
            "runtime wasmtime preopens /; /proc/self/mem is the memory of the process that runs the program",
        ]
    );
    // A build of the shim that hides them from its programs.
    let closed = Profile { hides_host_process: true, ..profile("wasmtime") };
    let program = wasm(&image());
    let found = assess(&workload, &container(Role::Container, image(), program), Some(&closed));
    assert_eq!(through_kernel(&found), [""; 0]);
    assert_eq!(lines(&found.effective), ["fs / ro own", "fs /dev/termination-log rw own"]);
}

#[test]
fn a_program_that_opens_no_file_does_not_reach_the_process_that_runs_it() {
    let modules = [
        core(&["fd_write", "environ_get"]),
        core(&["fd_readdir", "path_filestat_get", "path_unlink_file"]),
        component(vec![import("wasi:filesystem/types@0.2.6", &["[method]descriptor.stat-at"])]),
    ];
    for module in modules {
        let kind = if module.format == WasmFormat::Module { ImageKind::Module } else { ImageKind::Component };
        assert_eq!(through_kernel(&on("wasmtime", &plain_pod(), facts(kind, vec![module]))), [""; 0]);
    }
    // By a path it reaches what is the kernel's all the same; a list of what it is handed has no paths.
    let needs = |functions: &[&str]| {
        to_grant(&on("wasmtime", &plain_pod(), facts(ImageKind::Module, vec![core(functions)])))
    };
    assert_eq!(needs(&["path_readlink", "path_symlink"]), ["fs /dev rw", "fs /proc rw", "fs /sys ro"]);
    assert_eq!(needs(&["path_filestat_get"]), ["fs /dev ro", "fs /proc ro", "fs /sys ro"]);
    assert_eq!(needs(&["fd_readdir"]), [""; 0]);
    let opener = component(vec![import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"])]);
    let of = |kind| on("wasmtime", &plain_pod(), facts(kind, vec![opener.clone()]));
    assert_eq!(through_kernel(&of(ImageKind::Component)), HOST_PROCESS);
    // The shim hands no files to an HTTP component.
    assert_eq!(through_kernel(&of(ImageKind::HttpComponent)), [""; 0]);
}

#[test]
fn what_the_lesser_runtimes_hand_over_is_known_only_for_modules() {
    let image = facts(
        ImageKind::Component,
        vec![component(vec![import("wasi:http/outgoing-handler@0.2.0", &["handle"])])],
    );
    let program = wasm(&image);
    let described = Profile { ambient: Family::CrunWasmer, ..profile("wasmtime") };
    let found = assess(&plain_pod(), &container(Role::Container, image, program), Some(&described));
    assert_eq!(to_grant(&found), ["http.outbound"]);
}

#[test]
fn native_code_is_its_own_capability() {
    let program = Program::Native { source: "/bin/sh".into(), magic: "ELF".into() };
    let image = facts(ImageKind::Module, vec![core(&["path_open"])]);
    let capabilities =
        assess(&rich_pod(), &container(Role::Container, image, program), Some(&profile("wasmtime")));
    assert_eq!(lines(&capabilities.requires), ["native.exec"]);
    assert_eq!(lines(&capabilities.effective), ["native.exec"]);
    assert_eq!(
        capabilities.effective[0].evidence,
        ["ELF program /bin/sh", "runtime wasmtime runs native programs without restriction"]
    );

    let mut mixed = facts(ImageKind::Module, vec![core(&["fd_write"])]);
    mixed.native.push(NativeCode { source: "/pre.cwasm".into(), magic: "ELF".into() });
    let capabilities = on("wasmtime", &plain_pod(), mixed);
    assert_eq!(to_grant(&capabilities), ["native.exec"]);
    assert!(!lines(&capabilities.ambient).contains(&"nn".to_string()), "it widens nothing else");
}

#[test]
fn a_container_that_starts_no_wasm_has_no_lists() {
    let image = || facts(ImageKind::Linux, Vec::new());
    let linux = container(Role::Container, image(), Program::Linux);
    let mut volume =
        container(Role::ImageVolume, facts(ImageKind::Module, vec![core(&["path_open"])]), Program::Linux);
    let unread = Container {
        lookup: LookupResult::Unread {
            error: Arc::new(lookup::Error::TimedOut { image: "x".into(), budget_ms: 1 }),
        },
        ..linux.clone()
    };
    let profile = profile("wasmtime");
    for container in [&linux, &volume, &unread] {
        assert_eq!(assess(&rich_pod(), container, Some(&profile)), Capabilities::default());
    }
    if let LookupResult::Known { facts, program } = &mut volume.lookup {
        *program = wasm(facts);
    }
    assert_eq!(assess(&rich_pod(), &volume, Some(&profile)), Capabilities::default());
}

#[test]
fn an_unknown_program_always_needs_a_grant() {
    let profile = profile("wasmtime");
    let unknown = || Program::Unknown { reason: "no entry point".into() };
    let empty = container(Role::Container, facts(ImageKind::Unknown, Vec::new()), unknown());
    let capabilities = assess(&plain_pod(), &empty, Some(&profile));
    assert_eq!(to_grant(&capabilities), ["unknown-import"]);
    let some = facts(ImageKind::Unknown, vec![core(&["path_open"])]);
    let capabilities = assess(&plain_pod(), &container(Role::Container, some, unknown()), Some(&profile));
    assert_eq!(to_grant(&capabilities), ["fs rw"]);
    // A module that was not read can call everything.
    let unread = facts(ImageKind::Module, Vec::new());
    assert!(to_grant(&on("wasmtime", &rich_pod(), unread)).contains(&"fs /data rw".to_string()));
}

#[test]
fn init_and_ephemeral_containers_are_read_from_their_own_lists() {
    let spec = json!({
        "containers": [{"name": "main", "env": [{"name": "MAIN", "value": "x"}]}],
        "initContainers": [{"name": "init", "env": [{"name": "INIT", "value": "x"}]}],
        "ephemeralContainers": [{"name": "debug", "env": [{"name": "DEBUG", "value": "x"}]}],
    });
    let of = |role| {
        let image = facts(ImageKind::Module, vec![core(&["environ_get", "path_open"])]);
        let program = wasm(&image);
        to_grant(&assess(
            &workload(spec.clone()),
            &container(role, image, program),
            Some(&profile("wasmtime")),
        ))
    };
    assert_eq!(of(Role::Container), ["env MAIN", TOKEN]);
    assert_eq!(of(Role::InitContainer), ["env INIT", TOKEN]);
    assert_eq!(of(Role::EphemeralContainer), ["env DEBUG"]);
}

/// A Spin app with the components `api` and `web`.
fn spin(api: SpinComponent, imports: Vec<Import>) -> ImageFacts {
    let of = |id: &str, imports| ModuleFacts {
        source: format!("sha256:{id}"),
        component: Some(id.to_string()),
        ..module(WasmFormat::Component, imports, &["wasi:http/incoming-handler@0.2.0"])
    };
    let modules = vec![of("api", imports), of("web", vec![import("wasi:cli/stdout@0.2.6", &["get-stdout"])])];
    let components = vec![
        SpinComponent { id: "api".into(), ..api },
        SpinComponent {
            id: "web".into(),
            allowed_outbound_hosts: hosts(&["https://only-web.example.com"]),
            ..SpinComponent::default()
        },
    ];
    let triggers = ["http".to_string()].into();
    ImageFacts {
        spin: Some(SpinApp { name: "shop".into(), triggers, components, ..SpinApp::default() }),
        shape: Shape::SpinArtifact,
        ..facts(ImageKind::SpinApp, modules)
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

const STARTED: [&str; 2] = ["http.inbound :80", "trigger http"];

/// What needs a grant besides being started by HTTP.
fn beyond_start(capabilities: &Capabilities) -> Vec<String> {
    let lines = to_grant(capabilities);
    assert!(STARTED.iter().all(|wanted| lines.contains(&wanted.to_string())), "{lines:?}");
    lines.into_iter().filter(|line| !STARTED.contains(&line.as_str())).collect()
}

fn hosts(written: &[&str]) -> Vec<OutboundHost> {
    written.iter().map(|host| OutboundHost::from(*host)).collect()
}

fn with_hosts(written: &[&str]) -> SpinComponent {
    SpinComponent { allowed_outbound_hosts: hosts(written), ..SpinComponent::default() }
}

fn outgoing() -> Vec<Import> {
    vec![import("wasi:http/outgoing-handler@0.2.6", &["handle"])]
}

#[test]
fn a_spin_component_gets_its_manifest_and_of_the_pod_what_its_variables_send_elsewhere() {
    let api = SpinComponent {
        allowed_outbound_hosts: hosts(&[
            "https://payments.example.com",
            "redis://cache:6379",
            "http://web.spin.internal",
        ]),
        key_value_stores: strings(&["default"]),
        sqlite_databases: strings(&["orders"]),
        ai_models: strings(&["llama2-chat"]),
        files: strings(&["/assets/a.txt"]),
        env: strings(&["MODE"]),
        variables: strings(&["token"]),
        ..SpinComponent::default()
    };
    let imports = vec![
        import("wasi:http/outgoing-handler@0.2.6", &["handle"]),
        import("spin:key-value/key-value@3.0.0", &["get"]),
        import("spin:sqlite/sqlite@3.1.0", &["open"]),
        import("fermyon:spin/llm@2.0.0", &["infer"]),
        import("spin:variables/variables@3.0.0", &["get"]),
        import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"]),
        import("wasi:cli/environment@0.2.6", &["get-environment"]),
        import("wasi:sockets/ip-name-lookup@0.2.6", &["resolve-addresses"]),
    ];
    let capabilities = on("spin", &rich_pod(), spin(api, imports));
    assert_eq!(
        lines(&capabilities.effective),
        [
            "stdio",
            "env MODE own",
            "fs /assets/a.txt ro own",
            // A whole Secret may hold a variable of telemetry, or one of the resolver.
            "http.outbound *://*:*",
            "http.outbound https://*",
            "http.inbound",
            "keyvalue default",
            "sqlite orders",
            "config token secret",
            "ai llama2-chat",
            "trigger http",
            "service-chaining web",
        ]
    );
    assert_eq!(lines(&capabilities.missing), ["net.dns"]);
    assert_eq!(
        evidence(&capabilities.effective, "http.outbound https://*"),
        [
            "component \"api\": import wasi:http/outgoing-handler@0.2.6 in layer sha256:api",
            "https://payments.example.com counts as any host, as envFrom secret s may hold HOSTALIASES, which changes \
             how it resolves: leave that out, or grant https://*",
            "locked app component \"api\": allowed_outbound_hosts \"https://payments.example.com\"",
        ]
    );
    assert!(
        lines(&capabilities.ambient).contains(&"db.redis redis://*:*".to_string()),
        "shown, out of reach: {:?}",
        lines(&capabilities.ambient)
    );
}

#[test]
fn the_default_hosts_of_old_manifests_are_out_of_reach_of_a_program_without_databases() {
    let capabilities = on(
        "spin",
        &plain_pod(),
        spin(with_hosts(&["redis://*:*", "mysql://*:*", "postgres://*:*"]), outgoing()),
    );
    assert_eq!(beyond_start(&capabilities), [""; 0]);
    assert_eq!(lines(&capabilities.missing), ["http.outbound"]);
}

#[test]
fn hosts_of_every_form_become_the_capabilities_that_they_open() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["https://a.example.com"], &["http.outbound https://a.example.com"]),
        (&["*://*:*"], &["http.outbound *://*:*", "service-chaining *"]),
        (&["http://*.spin.internal"], &["http.outbound http://*.spin.internal", "service-chaining *"]),
        (&["http://web.spin.internal"], &["service-chaining web"]),
        (&["https://db.prod.spin.internal"], &["http.outbound https://db.prod.spin.internal"]),
        (&["https://a.b.c.spin.internal:8443"], &["http.outbound https://a.b.c.spin.internal:8443"]),
        (&["http://self"], &["service-chaining self"]),
        (&["a.example.com"], &["http.outbound http://a.example.com", "http.outbound https://a.example.com"]),
        (
            &["insecure:allow-all"],
            &["http.outbound http://*:*", "http.outbound https://*:*", "service-chaining *"],
        ),
        (&["tcp://db:5432"], &[]),
        // Of a scheme that nothing is known of, any client may make something.
        (&["gopher://a.example.com:70"], &["http.outbound gopher://a.example.com:70"]),
        (&["https://bad host"], &["http.outbound https://*:*", "service-chaining *"]),
    ];
    for (hosts, expected) in cases {
        let capabilities = on("spin", &plain_pod(), spin(with_hosts(hosts), outgoing()));
        assert_eq!(&beyond_start(&capabilities), expected, "{hosts:?}");
    }
    let tcp = vec![import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"])];
    let capabilities = on("spin", &plain_pod(), spin(with_hosts(&["tcp://db:5432"]), tcp));
    assert_eq!(beyond_start(&capabilities), ["net.tcp.connect tcp://db:5432"]);
    let tcp = vec![import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"])];
    let capabilities = on("spin", &plain_pod(), spin(with_hosts(&["tcp://x.spin.internal:80"]), tcp));
    assert_eq!(
        beyond_start(&capabilities),
        ["net.tcp.connect tcp://x.spin.internal:80"],
        "HTTP alone is chained"
    );
}

/// What a component that imports this interface needs a grant for, if it may reach these hosts.
fn reached_through(interface: &str, function: &str, hosts: &[&str], container: &Value) -> Vec<String> {
    let workload =
        pod(container, &json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}));
    beyond_start(&on("spin", &workload, spin(with_hosts(hosts), vec![import(interface, &[function])])))
}

/// The check of the shim and its clients read an address in two ways, so that one host in the list is any host to them.
#[test]
fn a_client_that_reads_an_address_otherwise_than_the_check_reaches_any_host_of_the_scheme() {
    let plain = json!({});
    for (interface, function, host, expected) in [
        ("fermyon:spin/redis@2.0.0", "publish", "redis://cache:6379", "db.redis redis://*:*"),
        ("fermyon:spin/redis@2.0.0", "publish", "rediss://cache:6379", "db.redis rediss://*:*"),
        ("fermyon:spin/redis", "publish", "valkey://cache:6379", "db.redis valkey://*:*"),
        ("fermyon:spin/redis", "publish", "valkeys://cache:6379", "db.redis valkeys://*:*"),
        ("outbound-redis", "publish", "redis://cache:6379", "db.redis redis://*:*"),
        ("fermyon:spin/mqtt@2.0.0", "publish", "mqtt://broker:1883", "mqtt mqtt://*:*"),
        ("fermyon:spin/mqtt@2.0.0", "publish", "tcp://broker:1883", "mqtt tcp://*:*"),
        ("fermyon:spin/mqtt@2.0.0", "publish", "ssl://broker:8883", "mqtt ssl://*:*"),
        ("fermyon:spin/mysql@2.0.0", "execute", "mysql://db:3306", "db.mysql mysql://*:*"),
    ] {
        let mut image = spin(with_hosts(&[host]), vec![import(interface, &[function])]);
        if interface == "outbound-redis" {
            image.modules[0].format = WasmFormat::Module;
        }
        assert_eq!(beyond_start(&on("spin", &plain_pod(), image)), [expected], "{interface} {host}");
    }
    let http = |interface: &str, host: &str| reached_through(interface, "send-request", &[host], &plain);
    let any = ["http.outbound http://*:*", "http.outbound https://*:*"];
    let own = "http.outbound https://a.example.com";
    assert_eq!(http("fermyon:spin/http", "https://a.example.com"), [any[0], any[1], own]);
    assert_eq!(
        http("fermyon:spin/http", "http://web.spin.internal"),
        [any[0], any[1], "service-chaining web"]
    );
    assert_eq!(http("fermyon:spin/http", "redis://cache:6379"), [""; 0], "no request is let through");
    let wasi = "wasi:http/outgoing-handler@0.2.6";
    assert_eq!(reached_through(wasi, "handle", &["https://a.example.com"], &plain), [own]);
}

#[test]
fn the_client_of_postgres_reaches_any_host_whatever_the_list_says() {
    for interface in ["fermyon:spin/postgres", "fermyon:spin/postgres@2.0.0", "spin:postgres/postgres@4.0.0"]
    {
        let found = reached_through(interface, "open", &[], &json!({}));
        assert_eq!(found, ["db.postgres postgres://*:*"], "{interface}");
    }
    let other = on("spin", &plain_pod(), spin(SpinComponent::default(), outgoing()));
    assert!(
        !lines(&other.ambient).iter().any(|line| line.starts_with("db.postgres")),
        "nothing to a program without it"
    );
}

#[test]
fn clients_reach_the_unix_sockets_of_mounts_where_an_address_may_name_one() {
    let mounted = json!({"volumeMounts": [{"name": "v", "mountPath": "/run/broker"}]});
    let reached = |host: &str| reached_through("fermyon:spin/redis@2.0.0", "publish", &[host], &mounted);
    let socket = "fs /run/broker rw".to_string();
    for host in ["unix://localhost:*", "*://*:*", "gopher://localhost:*"] {
        assert!(reached(host).contains(&socket), "{host}: {:?}", reached(host));
    }
    assert_eq!(reached("redis://localhost:*"), ["db.redis redis://*:*"]);
    // `mysql://db/?socket=/run/broker/x.sock`
    let mysql = reached_through("fermyon:spin/mysql@2.0.0", "open", &["mysql://db"], &mounted);
    assert_eq!(mysql, ["fs /run/broker rw", "db.mysql mysql://*:*"]);
    let trigger = |address: &str| {
        let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
        beyond_start(&on("spin", &pod(&mounted, &volumes), listening("redis", address, &[], false)))
    };
    assert!(trigger("unix:///run/broker/x.sock").contains(&socket));
    assert!(!trigger("redis://cache").contains(&socket));
}

/// What a component with this import and these hosts needs a grant for, beside a volume, under a build of the shim of which its
/// profile says this.
fn under(own: &Profile, interface: &str, host: &str) -> Vec<String> {
    let mounted = json!({"volumeMounts": [{"name": "v", "mountPath": "/run/broker"}]});
    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    let api = SpinComponent { sqlite_databases: strings(&["default"]), ..with_hosts(&[host]) };
    let image = spin(api, vec![import(interface, &["open", "send-request"])]);
    let program = wasm(&image);
    let found = assess(&pod(&mounted, &volumes), &container(Role::Container, image, program), Some(own));
    let needs = |e: &&Entry| !(e.own || e.capability.is_default());
    let lines = found.effective.iter().filter(needs).map(line);
    lines.filter(|line| !STARTED.contains(&line.as_str())).collect()
}

#[test]
fn a_build_of_the_shim_that_checks_hosts_reaches_those_in_the_list_alone() {
    let checking = Profile { checks_hosts: true, ..profile("spin") };
    for (interface, host, expected) in [
        ("fermyon:spin/redis@2.0.0", "redis://cache:6379", &["db.redis redis://cache"][..]),
        ("fermyon:spin/mysql@2.0.0", "mysql://db", &["db.mysql mysql://db"]),
        ("fermyon:spin/mqtt@2.0.0", "mqtt://broker", &["mqtt mqtt://broker"]),
        ("fermyon:spin/postgres@2.0.0", "postgres://db", &["db.postgres postgres://db"]),
        ("fermyon:spin/postgres@2.0.0", "mysql://db", &[]),
        ("fermyon:spin/http", "https://a.example.com", &["http.outbound https://a.example.com"]),
        // A socket that the list names is in the list.
        ("fermyon:spin/redis", "unix://x:*", &["fs /run/broker rw", "db.redis unix://x:*"]),
        ("fermyon:spin/sqlite", "redis://cache", &["fs /run/broker rw", "sqlite default", "native.exec"]),
    ] {
        assert_eq!(under(&checking, interface, host), expected, "{interface} {host}");
    }
}

#[test]
fn a_build_of_the_shim_that_confines_sql_reaches_its_database_alone() {
    let confining = Profile { confines_sqlite: true, ..profile("spin") };
    assert_eq!(under(&confining, "fermyon:spin/sqlite", "redis://cache"), ["sqlite default"]);
    let redis = under(&confining, "fermyon:spin/redis", "redis://cache");
    assert_eq!(redis, ["db.redis redis://*:*"], "it says nothing of hosts");
}

/// SQL of a component runs in the process of the shim, which hides nothing from it.
#[test]
fn sql_under_spin_reaches_every_file_and_native_code() {
    let with = |imports: Vec<Import>| {
        let api = SpinComponent { sqlite_databases: strings(&["default"]), ..SpinComponent::default() };
        let mounts = json!([{"name": "v", "mountPath": "/data", "readOnly": true}, {"name": "c", "mountPath": "/conf"}]);
        let volumes = json!({"volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "other"}}, {"name": "c", "configMap": {"name": "c"}}]});
        let found = on("spin", &pod(&json!({"volumeMounts": mounts}), &volumes), spin(api, imports));
        let entries = found.effective.into_iter().filter(of_kernel);
        entries.map(|entry| line(&entry)).collect::<Vec<_>>()
    };
    for interface in ["fermyon:spin/sqlite", "fermyon:spin/sqlite@2.0.0", "spin:sqlite/sqlite@3.0.0"] {
        assert_eq!(with(vec![import(interface, &["open"])]), ["fs /data ro", "native.exec"], "{interface}");
    }
    assert_eq!(with(outgoing()), [""; 0], "what is never called reaches nothing");
}

/// The library of the shim follows a link of an archive where it sets the mode of a folder of the same name.
#[test]
fn archives_that_the_spin_shim_unpacks_reach_every_mount_that_may_be_changed() {
    let with = |archives: bool| {
        let mounts = json!([
            {"name": "v", "mountPath": "/data"}, {"name": "v", "mountPath": "/held", "readOnly": true},
            {"name": "c", "mountPath": "/conf"}]);
        let volumes = json!({"volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "other"}}, {"name": "c", "configMap": {"name": "c"}}]});
        let image = ImageFacts { archives, ..spin(SpinComponent::default(), outgoing()) };
        let found = on("spin", &pod(&json!({"volumeMounts": mounts}), &volumes), image);
        let entries = found.effective.into_iter().filter(|entry| entry.capability == Capability::Fs);
        entries.map(|entry| line(&entry)).collect::<Vec<_>>()
    };
    assert_eq!(with(true), ["fs /data rw"]);
    assert_eq!(with(false), [""; 0]);
}

/// Where it says that there are none, the lists have none.
#[test]
fn of_a_spin_app_without_files_only_mounts_of_others_than_the_kubelet_and_a_configuration_may_be_files() {
    let of = |name: &str, component: &SpinComponent, configured: bool, mounts: &Value, volumes: &Value| {
        let mut image = spin(component.clone(), vec![import("spin:sqlite/sqlite@3.1.0", &["open"])]);
        if let Some(app) = image.spin.as_mut().filter(|_| configured) {
            app.runtime_config = Some(runtime_config_of("/runtime-config.toml", b""));
        }
        let program = wasm(&image);
        let (pod, own) = (
            pod(mounts, &json!({"automountServiceAccountToken": true, "volumes": volumes})),
            container(Role::Container, image, program),
        );
        let found = assess(&pod, &own, Some(&profile(name)));
        let has_files = found.ambient.iter().chain(&found.effective).any(|e| e.capability == Capability::Fs);
        let may = may_reach_files(&pod, &own, &profile(name));
        assert!(may || !has_files, "{name} {component:?}: {found:?}");
        may
    };
    let plain = SpinComponent { sqlite_databases: strings(&["default"]), ..with_hosts(&["redis://cache"]) };
    let with_files = SpinComponent { files: strings(&["/a"]), ..SpinComponent::default() };
    let mount = |name: &str| json!({"volumeMounts": [{"name": name, "mountPath": "/data"}]});
    let (none, secret) = (json!([]), json!([{"name": "v", "secret": {"secretName": "s"}}]));
    let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    assert!(!of("spin", &plain, false, &json!({}), &none), "the token is not for it");
    assert!(!of("spin", &plain, false, &mount("v"), &secret));
    assert!(of("spin", &plain, false, &mount("v"), &claim));
    assert!(of("spin", &plain, false, &mount("other"), &secret), "a volume that the pod does not define");
    assert!(of("spin", &plain, true, &json!({}), &none), "a configuration names files");
    assert!(of("spin", &with_files, false, &json!({}), &none));
    assert!(of("wasmtime", &plain, false, &json!({}), &none), "it hands over everything");
    let device = json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]});
    assert!(of("spin", &plain, false, &device, &claim));
    let many: Vec<_> =
        (0..65).map(|n| json!({"name": format!("v{n}"), "configMap": {"name": "c"}})).collect();
    assert!(of("spin", &plain, false, &json!({}), &json!(many)), "more than are gone through");
}

#[test]
fn a_command_trigger_hands_over_arguments_with_the_secrets_in_them() {
    let with = |trigger: &str| {
        let mut image =
            spin(SpinComponent::default(), vec![import("wasi:cli/environment@0.2.6", &["get-arguments"])]);
        let app = image.spin.as_mut().unwrap();
        app.triggers = [trigger.to_string()].into();
        app.components[0].triggers.clone_from(&app.triggers);
        let from = json!({"secretKeyRef": {"name": "db", "key": "password"}});
        let container = json!({"args": ["$(PASSWORD)"], "env": [{"name": "PASSWORD", "valueFrom": from}]});
        let found = on("spin", &pod(&container, &json!({})), image);
        lines(&found.effective).contains(&"args secret".to_string())
    };
    assert!(with("command"));
    assert!(!with("http"));
}

/// An app that messages of a broker at this address start, in which the address has these variables.
fn listening(trigger: &str, address: &str, variables: &[&str], twice: bool) -> ImageFacts {
    let mut image = spin(SpinComponent::default(), Vec::new());
    let app = image.spin.as_mut().unwrap();
    app.listeners = vec![SpinListener {
        trigger: trigger.into(),
        component: Some("api".into()),
        address: address.into(),
        variables: strings(variables),
        twice,
    }];
    image
}

#[test]
fn what_the_shim_connects_to_for_messages_needs_a_grant_for_its_host_and_what_is_sent_there() {
    let reached = |image: ImageFacts, env: Value| {
        beyond_start(&on("spin", &pod(&json!({"env": env}), &json!({})), image))
    };
    let none = || json!([]);
    for (trigger, address, expected) in [
        ("redis", "redis://cache", "db.redis redis://cache"),
        ("redis", "rediss://u:p@cache:6380/1", "db.redis rediss://cache:6380"),
        ("redis", "redis://evil?@cache", "db.redis redis://*:*"),
        ("redis", "unix:///run/redis.sock", "db.redis unix://*:*"),
        ("redis", "cache:6379", "db.redis *://*:*"),
        ("mqtt", "mqtt://broker:1884", "mqtt mqtt://broker:1884"),
        ("mqtt", "ssl://broker", "mqtt ssl://broker:8883"),
        ("mqtt", "broker:1883", "mqtt *://*:*"),
    ] {
        assert_eq!(reached(listening(trigger, address, &[], false), none()), [expected], "{address}");
    }
    let address = "redis://u:{{ password }}@{{ host }}";
    let image = |twice| listening("redis", address, &["host", "password"], twice);
    let from = json!({"secretKeyRef": {"name": "db", "key": "password"}});
    let secret = json!([{"name": "PASSWORD", "valueFrom": from}, {"name": "HOST", "value": "cache"}]);
    let any = "db.redis redis://*:*";
    assert_eq!(reached(image(false), secret.clone()), [any, "config host", "config password secret"]);
    assert_eq!(reached(image(true), secret), [any, "config secret", "config host", "config password secret"]);
    let written =
        |password: &str| json!([{"name": "PASSWORD", "value": password}, {"name": "HOST", "value": "cache"}]);
    let known = ["db.redis redis://cache", "config host", "config password"];
    assert_eq!(reached(image(true), written("p")), known);
    let nested = [any, "config secret", "config host", "config password"];
    assert_eq!(reached(image(true), written("{{ other }}")), nested, "it is read again");
    assert_eq!(reached(image(false), written("a/b")), [any, "config host", "config password"]);
    let kept = json!([{"name": "SPIN_COMPONENTS_TO_RETAIN", "value": "web"}]);
    assert_eq!(reached(listening("redis", "redis://cache", &[], false), kept), [""; 0]);
}

#[test]
fn a_template_is_any_host_unless_the_pod_writes_its_value_out() {
    let host = "https://{{ api_host }}";
    let with = |env: Value, mounts: Value| {
        let workload = pod(
            &json!({"env": env, "volumeMounts": mounts}),
            &json!({"volumes": [{"name": "rc", "secret": {"secretName": "rc"}}]}),
        );
        let api = with_hosts(&[host]);
        beyond_start(&on("spin", &workload, spin(api, outgoing())))
    };
    let any = ["http.outbound https://*:*", "service-chaining *"];
    let literal = json!([{"name": "API_HOST", "value": "a.example.com"}]);
    assert_eq!(with(json!([]), json!([])), any);
    assert_eq!(with(literal.clone(), json!([])), ["http.outbound https://a.example.com"]);
    let plain = json!([{"name": "API_HOST", "value": "b.example.com:8443"}]);
    assert_eq!(with(plain, json!([])), ["http.outbound https://b.example.com:8443"]);
    let secret = json!([{"name": "API_HOST", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    assert_eq!(with(secret, json!([])), any);
    let evil = json!([{"name": "API_HOST", "value": "a/../b"}]);
    assert_eq!(with(evil, json!([])), any);
    for path in ["/runtime-config.toml", "/"] {
        let config = json!([{"name": "rc", "mountPath": path, "subPath": "c"}]);
        // And may be a server itself.
        let further = ["http.outbound *://*:*", any[0], any[1]];
        assert_eq!(with(literal.clone(), config), further, "a variables provider may overrule the pod");
    }
}

/// Every text of the four lists.
fn shown(capabilities: &Capabilities) -> String {
    serde_json::to_string(capabilities).unwrap()
}

#[test]
fn a_value_that_may_contain_credentials_is_never_shown() {
    let with = |host: &str, value: &str| {
        let workload = pod(&json!({"env": [{"name": "DB_URL", "value": value}]}), &json!({}));
        let capabilities = on("spin", &workload, spin(with_hosts(&[host]), outgoing()));
        let text = shown(&capabilities);
        assert!(!text.contains("hunter2") && !text.contains("alice"), "{host} {value}: {text}");
        (beyond_start(&capabilities), text)
    };
    let any = ["http.outbound *://*:*", "service-chaining *"];
    for value in
        ["postgres://alice:hunter2@db", "alice:hunter2@db", "hunter2://alice", "https://db/x?p=hunter2"]
    {
        let (lines, text) = with("{{ db_url }}", value);
        assert_eq!(lines, any, "{value}");
        assert!(text.contains("env DB_URL of the pod"), "{text}");
    }
    let (lines, text) = with("https://{{ db_url }}", "ok.example.com");
    assert_eq!(lines, ["http.outbound https://ok.example.com"]);
    assert!(text.contains("is set by env DB_URL of the pod"), "{text}");
    let (lines, text) = with("https://alice:hunter2@db.example.com", "");
    assert_eq!(lines, ["http.outbound https://*:*", "service-chaining *"]);
    assert!(text.contains("https://…@db.example.com"), "{text}");
}

#[test]
fn a_host_that_is_all_template_has_any_scheme() {
    let capabilities = on("spin", &plain_pod(), spin(with_hosts(&["{{ url }}"]), outgoing()));
    assert_eq!(beyond_start(&capabilities), ["http.outbound *://*:*", "service-chaining *"]);
}

#[test]
fn variables_of_an_app_are_secret_where_the_pod_takes_them_from_a_secret() {
    let api = || SpinComponent { variables: strings(&["token", "mode"]), ..SpinComponent::default() };
    let get = || vec![import("spin:variables/variables@3.0.0", &["get"])];
    let with = |container: Value| {
        let workload = pod(&container, &json!({"volumes": [{"name": "rc", "secret": {"secretName": "rc"}}]}));
        let capabilities = on("spin", &workload, spin(api(), get()));
        lines(&capabilities.effective).into_iter().filter(|l| l.starts_with("config")).collect::<Vec<_>>()
    };
    assert_eq!(with(json!({})), ["config mode own", "config token own"], "the image's own defaults");
    let env = json!({"env": [
        {"name": "SPIN_VARIABLE_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "MODE", "value": "fast"}]});
    assert_eq!(with(env), ["config mode", "config token secret"]);
    let from = json!({"envFrom": [{"prefix": "SPIN_VARIABLE_", "secretRef": {"name": "s"}}]});
    assert_eq!(with(from), ["config mode secret", "config token secret"]);
    let mount = json!({"volumeMounts": [{"name": "rc", "mountPath": "/runtime-config.toml"}]});
    assert_eq!(
        with(mount),
        ["config mode secret", "config token secret"],
        "a provider may read any variable"
    );
}

#[test]
fn a_mounted_runtime_config_is_noted_on_the_stores() {
    let api = SpinComponent { key_value_stores: strings(&["default"]), ..SpinComponent::default() };
    let workload = pod(
        &json!({"volumeMounts": [{"name": "rc", "mountPath": "/runtime-config.toml", "subPath": "runtime-config.toml"}]}),
        &json!({"volumes": [{"name": "rc", "secret": {"secretName": "rc"}}]}),
    );
    let capabilities =
        on("spin", &workload, spin(api, vec![import("wasi:keyvalue/store@0.2.0-draft2", &["open"])]));
    let evidence = evidence(&capabilities.effective, "keyvalue default");
    assert!(evidence.iter().any(|e| e.contains("may be a remote service")), "{evidence:?}");
}

#[test]
fn a_runtime_config_in_the_image_counts_like_a_mounted_one() {
    let api =
        SpinComponent { key_value_stores: strings(&["default"]), ..with_hosts(&["https://{{ api_host }}"]) };
    let env = json!({"env": [{"name": "API_HOST", "value": "a.example.com"}]});
    let mut imports = outgoing();
    imports.push(import("wasi:keyvalue/store@0.2.0-draft2", &["open"]));
    let mut image = spin(api, imports);
    let hosts = |image: &ImageFacts| {
        let lines = lines(&on("spin", &pod(&env, &json!({})), image.clone()).effective);
        lines.into_iter().filter(|line| line.starts_with("http.outbound")).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&image), ["http.outbound https://a.example.com"]);
    image.files = vec![("/runtime-config.toml".into(), FileClass::Other)];
    assert_eq!(hosts(&image), ["http.outbound *://*:*", "http.outbound https://*:*"]);
    let capabilities = on("spin", &pod(&env, &json!({})), image);
    assert!(to_grant(&capabilities).contains(&"db.redis *://*:*".to_string()), "a store may be at any host");
    let evidence = evidence(&capabilities.effective, "keyvalue default");
    assert!(evidence.iter().any(|e| e.contains("is in the image, and was not read")), "{evidence:?}");
}

#[test]
fn a_runtime_config_that_is_too_long_counts_as_any_and_says_why() {
    let api = SpinComponent { key_value_stores: strings(&["default"]), ..SpinComponent::default() };
    let mut image = spin(api, vec![import("wasi:keyvalue/store@0.2.0-draft2", &["open"])]);
    let message = "it has 300000 bytes, and at most 262144 are read".to_string();
    image.files = vec![("/runtime-config.toml".into(), FileClass::Unreadable { message })];
    let capabilities = on("spin", &plain_pod(), image);
    assert!(to_grant(&capabilities).contains(&"http.outbound *://*:*".to_string()));
    let evidence = evidence(&capabilities.effective, "keyvalue default");
    assert!(
        evidence.iter().any(|e| e.contains("was not read: ") && e.contains("300000 bytes")),
        "{evidence:?}"
    );
}

/// An application whose image has this runtime configuration, with stores, databases and models of these names.
fn configured(text: &str, at: &str) -> ImageFacts {
    let api = SpinComponent {
        key_value_stores: strings(&["default", "orders"]),
        sqlite_databases: strings(&["orders"]),
        ai_models: strings(&["llama"]),
        variables: strings(&["token"]),
        ..SpinComponent::default()
    };
    let all = [
        import("spin:key-value/key-value@3.0.0", &["open"]),
        import("fermyon:spin/sqlite@2.0.0", &["open"]),
        import("fermyon:spin/llm@2.0.0", &["infer"]),
        import("spin:variables/variables@3.0.0", &["get"]),
    ];
    let mut image = spin(api, all.to_vec());
    let app = image.spin.as_mut().unwrap();
    app.runtime_config = Some(runtime_config_of(at, text.as_bytes()));
    image.files = vec![(at.to_string(), FileClass::Other)];
    image
}

/// What such an image needs a grant for beyond what its manifest lists.
fn opened_by(text: &str, container: &Value) -> Vec<String> {
    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    let found = on("spin", &pod(container, &volumes), configured(text, "/runtime-config.toml"));
    let listed = ["keyvalue default", "keyvalue orders", "sqlite orders", "ai llama", "native.exec"];
    let needs =
        |e: &&Entry| !(e.own || e.capability.is_default() || e.opens && e.capability == Capability::Fs);
    let lines = found.effective.iter().filter(needs).map(line);
    lines.filter(|line| !STARTED.contains(&line.as_str()) && !listed.contains(&line.as_str())).collect()
}

#[test]
fn a_runtime_config_of_the_image_opens_what_it_names_and_nothing_else() {
    let mounted = json!({"volumeMounts": [{"name": "v", "mountPath": "/data"}]});
    for (text, expected) in [
        ("", &[][..]),
        (
            "[key_value_store.orders]\ntype = \"redis\"\nurl = \"redis://:x@cache\"",
            &["db.redis redis://cache"],
        ),
        (
            "[key_value_store.orders]\ntype = \"redis\"\nurl = \"redis://a/?@b@cache\"",
            &["fs /data rw", "db.redis *://*:*"],
        ),
        (
            "[key_value_store.orders]\ntype = \"redis\"\nurl = \"unix:///data/x.sock\"",
            &["fs /data rw", "db.redis *://*:*"],
        ),
        ("[key_value_store.other]\ntype = \"redis\"\nurl = \"redis://cache\"", &[]),
        ("[key_value_store.orders]\ntype = \"spin\"\npath = \"data/x.db\"", &["fs /data rw"]),
        ("[key_value_store.orders]\ntype = \"spin\"\npath = \"/srv/x.db\"", &[]),
        ("state_dir = \"/data\"", &["fs /data rw"]),
        (
            "[sqlite_database.orders]\ntype = \"libsql\"\nurl = \"https://db.example.com\"\ntoken = \"t\"",
            &["http.outbound https://db.example.com"],
        ),
        (
            "[llm_compute]\ntype = \"remote_http\"\nurl = \"https://llm.example.com\"\nauth_token = \"t\"",
            &["http.outbound https://llm.example.com"],
        ),
        (
            "[llm_compute]\ntype = \"remote_http\"\nurl = 'https://evil.example\\@llm.example.com/v1'\nauth_token = \"t\"",
            &["http.outbound *://*:*"],
        ),
        (
            "[[variables_provider]]\ntype = \"vault\"\nurl = \"https://vault.example.com\"\ntoken = \"t\"\nmount = \"m\"",
            &["http.outbound https://vault.example.com", "config token secret"],
        ),
        ("[[variables_provider]]\ntype = \"static\"\nvalues = { token = \"x\" }", &[]),
        ("[[variables_provider]]\ntype = \"env\"\nprefix = \"X\"", &[]),
        ("[[variables_provider]]\ntype = \"env\"\nprefix = \"X\"\ndotenv_path = \"/srv/.env\"", &[]),
        (
            "[[variables_provider]]\ntype = \"env\"\nprefix = \"X\"\ndotenv_path = \"/srv/settings\"",
            &["config token secret"],
        ),
        (
            "[[variables_provider]]\ntype = \"env\"\nprefix = \"X\"\ndotenv_path = \"/proc/self/environ\"",
            &["config token secret"],
        ),
        (
            "[key_value_store.orders]\ntype = \"aws_dynamo\"\nregion = \"eu-west-1\"\ntable = \"t\"",
            &["http.outbound *://*:*"],
        ),
        (
            "[[client_tls]]\ncomponent_ids = [\"api\"]\nhosts = [\"x\"]\nca_roots_file = \"/data/ca.pem\"",
            &["fs /data ro"],
        ),
        (
            "[key_value_store.orders]\ntype = \"etcd\"",
            &["fs /data rw", "http.outbound *://*:*", "db.redis *://*:*", "config token secret"],
        ),
    ] {
        let found: BTreeSet<String> = opened_by(text, &mounted).into_iter().collect();
        assert_eq!(found, expected.iter().map(ToString::to_string).collect(), "{text}");
    }
}

#[test]
fn sql_that_a_server_runs_is_no_native_code() {
    let reaches = |text: &str| {
        let found = on("spin", &plain_pod(), configured(text, "/runtime-config.toml"));
        found.effective.iter().any(|entry| entry.capability == Capability::NativeExec)
    };
    assert!(reaches(""));
    assert!(!reaches(
        "[sqlite_database.orders]\ntype = \"libsql\"\nurl = \"https://db.example.com\"\ntoken = \"t\""
    ));
    assert!(reaches(
        "[sqlite_database.other]\ntype = \"libsql\"\nurl = \"https://db.example.com\"\ntoken = \"t\""
    ));
}

#[test]
fn a_runtime_config_counts_as_what_it_is_where_no_mount_hides_it() {
    let text = "[key_value_store.orders]\ntype = \"redis\"\nurl = \"redis://cache\"";
    let redis = |container: &Value, links: &[(&str, &str)], at: &str| {
        let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        let found = on("spin", &pod(container, &volumes), linked(configured(text, at), links));
        let all = found.effective.iter().map(line).filter(|line| line.starts_with("db.redis"));
        (all.collect::<Vec<_>>(), found)
    };
    let (own, any) = (["db.redis redis://cache"], ["db.redis *://*:*"]);
    assert_eq!(redis(&json!({}), &[], "/runtime-config.toml").0, own);
    let link = [("/runtime-config.toml", "conf/c.toml")];
    assert_eq!(redis(&json!({}), &link, "/conf/c.toml").0, own);
    for (container, links, at) in [
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/runtime-config.toml", "subPath": "c"}]}),
            &[][..],
            "/runtime-config.toml",
        ),
        (json!({"volumeMounts": [{"name": "v", "mountPath": "/conf"}]}), &link, "/conf/c.toml"),
    ] {
        let (found, capabilities) = redis(&container, links, at);
        assert_eq!(found, any, "{container}");
        let why = evidence(&capabilities.effective, any[0]);
        assert!(why[0].contains("comes from a volume") && why[0].contains("configMap c"), "{why:?}");
    }
}

#[test]
fn a_file_of_variables_that_was_read_supplies_what_it_writes_and_copies() {
    let token = |text: &str, env: Value, mounts: Value| {
        let api = SpinComponent { variables: strings(&["token"]), ..SpinComponent::default() };
        let mut image = spin(api, vec![import("spin:variables/variables@3.0.0", &["get"])]);
        image.files = vec![("/.env".into(), FileClass::Other)];
        image.spin.as_mut().unwrap().dotenv.extend(dotenv_of("/.env", text.as_bytes()));
        let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
        let found = on("spin", &pod(&json!({"env": env, "volumeMounts": mounts}), &volumes), image);
        let entry = found.effective.into_iter().find(|entry| entry.capability == Capability::Config).unwrap();
        line(&entry)
    };
    let none = || json!([]);
    let secret = || json!([{"name": "DB", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    for (text, env, expected) in [
        ("SPIN_VARIABLE_TOKEN=abc", secret(), "config token own"),
        ("SPIN_VARIABLE_TOKEN=${DB}", secret(), "config token secret"),
        ("SPIN_VARIABLE_TOKEN=${DB}", json!([{"name": "DB", "value": "x"}]), "config token"),
        ("SPIN_VARIABLE_TOKEN=${DB}", none(), "config token own"),
        ("SPIN_VARIABLE_TOKEN=$AWS_SECRET_ACCESS_KEY", none(), "config token secret"),
        ("SPIN_VARIABLE_OTHER=${DB}", secret(), "config token own"),
        ("TOKEN=${DB}", secret(), "config token own"),
        ("\0", none(), "config token secret"),
    ] {
        assert_eq!(token(text, env.clone(), none()), expected, "{text} {env}");
    }
    let over = json!([{"name": "v", "mountPath": "/.env", "subPath": "e"}]);
    assert_eq!(
        token("SPIN_VARIABLE_TOKEN=abc", none(), over),
        "config token secret",
        "the file is the volume's"
    );
}

#[test]
fn components_that_are_not_retained_do_not_count() {
    let with = |value: Value| {
        let workload = pod(&json!({"env": [value]}), &json!({}));
        beyond_start(&on("spin", &workload, spin(with_hosts(&["https://a.example.com"]), outgoing())))
    };
    let retain = |list: &str| json!({"name": "SPIN_COMPONENTS_TO_RETAIN", "value": list});
    assert_eq!(with(retain("web")), [""; 0]);
    assert_eq!(with(retain("web,api")), ["http.outbound https://a.example.com"]);
    assert_eq!(with(retain("web, api")), [""; 0], "the shim compares names as they are written");
    let map = json!({"name": "SPIN_COMPONENTS_TO_RETAIN", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}});
    assert_eq!(
        with(map),
        ["http.outbound https://a.example.com"],
        "a list that cannot be read narrows nothing"
    );
}

#[test]
fn only_the_triggers_of_kept_components_count() {
    let mut image = spin(SpinComponent::default(), Vec::new());
    let app = image.spin.as_mut().unwrap();
    app.triggers = ["http", "redis"].map(String::from).into();
    for (component, trigger) in app.components.iter_mut().zip(["http", "redis"]) {
        component.triggers = [trigger.to_string()].into();
    }
    let with = |list: &str| {
        let workload =
            pod(&json!({"env": [{"name": "SPIN_COMPONENTS_TO_RETAIN", "value": list}]}), &json!({}));
        let found = to_grant(&on("spin", &workload, image.clone()));
        found.into_iter().filter(|line| line.starts_with("trigger")).collect::<Vec<_>>()
    };
    assert_eq!(with("api"), ["trigger http"]);
    assert_eq!(with("web"), ["trigger redis"]);
    assert_eq!(with("api,web"), ["trigger http", "trigger redis"]);
}

#[test]
fn a_single_layer_under_spin_gets_an_http_trigger_and_nothing_else() {
    let mut image = facts(ImageKind::HttpComponent, vec![component(outgoing())]);
    image.shape = Shape::WasmArtifact;
    image.modules[0].exports = ["wasi:http/incoming-handler@0.2.0".to_string()].into();
    let program =
        Program::Wasm { kind: ImageKind::HttpComponent, packaging: Packaging::Layers, modules: vec![0] };
    let found = assess(&plain_pod(), &container(Role::Container, image, program), Some(&profile("spin")));
    assert_eq!(to_grant(&found), ["http.inbound :80", "trigger http"]);
    assert_eq!(lines(&found.missing), ["http.outbound"]);
}

#[test]
fn the_plain_variable_wins_over_the_prefixed_one_and_the_images_own_counts() {
    let host = |env: Value, own: &[&str]| {
        let api = with_hosts(&["https://{{ host }}"]);
        let mut image = spin(api, outgoing());
        image.env = strings(own);
        beyond_start(&on("spin", &pod(&json!({"env": env}), &json!({})), image))
    };
    let set = |name: &str, value: &str| json!({"name": name, "value": value});
    let (plain, prefixed) =
        (set("HOST", "plain.example.com"), set("SPIN_VARIABLE_HOST", "prefixed.example.com"));
    let both = host(json!([prefixed.clone(), plain]), &[]);
    assert!(both.contains(&"http.outbound https://plain.example.com".to_string()), "{both:?}");
    assert!(
        !both.iter().any(|line| line.contains("prefixed")),
        "the shim copies the plain one over it: {both:?}"
    );
    // The image sets the plain one, whose value is not kept, so any host is possible.
    let own = host(json!([prefixed]), &["HOST"]);
    assert!(own.contains(&"http.outbound https://*:*".to_string()), "{own:?}");
}

/// The operator writes the variables of a `SpinApp` with the prefix alone. The shim copies over each what the image, the kubelet, the
/// container runtime or its own process has under the plain name.
#[test]
fn a_prefixed_variable_counts_where_nothing_is_known_to_set_the_plain_one() {
    let any = ["http.outbound https://*:*", "service-chaining *"];
    let good = ["http.outbound https://good.example"];
    let links = json!({"enableServiceLinks": true, "hostname": "evil"});
    let (none, whole) =
        (json!({}), |prefix: &str| json!({"envFrom": [{"prefix": prefix, "configMapRef": {"name": "c"}}]}));
    let reached = |name: &str, variable: &str, more: &Value, spec: &Value, own: &[&str]| {
        let mut container = json!({"env": [{"name": variable, "value": "good.example"}]});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut image = spin(with_hosts(&[&format!("https://{{{{ {name} }}}}")]), outgoing());
        image.env = strings(own);
        on("spin", &pod(&container, spec), image)
    };
    for (name, more, spec, own, expected, why) in [
        ("payments_host", &none, &links, &[][..], &good[..], ""),
        ("db_service_host", &none, &none, &[], &good, ""),
        ("payments_host", &whole("OTHER_"), &links, &[], &good, ""),
        ("payments_host", &none, &links, &["OTHER"], &good, ""),
        ("payments_host", &whole("PAY"), &links, &[], &any, "envFrom configMap c"),
        ("payments_host", &none, &links, &["PAYMENTS_HOST"], &any, "env PAYMENTS_HOST of the image"),
        ("db_service_host", &none, &links, &[], &any, "service links"),
        ("hostname", &none, &links, &[], &any, "set by the container runtime"),
        ("kubernetes_service_host", &none, &none, &[], &any, "set by the kubelet"),
        ("namespace", &none, &none, &[], &any, "the shim's own process may have"),
        ("aws_region", &none, &none, &[], &any, "the shim's own process may have"),
    ] {
        let upper = name.to_ascii_uppercase();
        let prefixed = reached(name, &format!("SPIN_VARIABLE_{upper}"), more, spec, own);
        assert_eq!(beyond_start(&prefixed), expected, "{name} {more} {own:?}");
        let seen = evidence(&prefixed.effective, expected[0]).join(", ");
        assert!(seen.contains(why), "{seen}");
        let wins = format!("{upper} wins over SPIN_VARIABLE_{upper}");
        assert_eq!(seen.contains(&wins), !why.is_empty(), "{seen}");
        let plain = reached(name, &upper, more, spec, own);
        assert_eq!(beyond_start(&plain), good, "{name}");
    }
}

/// The shim copies the variables of its own process too, unless the container has one of that name.
#[test]
fn a_variable_of_an_application_that_is_a_secret_of_the_shims_process_needs_a_grant() {
    let variable = |name: &str, env: Value, own: &[&str]| {
        let api = SpinComponent { variables: strings(&[name]), ..SpinComponent::default() };
        let mut image = spin(api, vec![import("spin:variables/variables@3.0.0", &["get"])]);
        image.env = strings(own);
        let found = on("spin", &pod(&json!({"env": env}), &json!({})), image);
        let entry = found.ambient.into_iter().find(|entry| entry.capability == Capability::Config).unwrap();
        let seen = entry.evidence.iter().any(|seen| seen.contains("the shim's own process may have"));
        (entry.own, entry.secret, seen)
    };
    let literal = json!([{"name": "K3S_TOKEN", "value": "x"}]);
    let key = json!({"name": "c", "key": "k", "optional": true});
    let missing = json!([{"name": "K3S_TOKEN", "valueFrom": {"configMapKeyRef": key}}]);
    for (name, env, own, expected) in [
        ("k3s_token", json!([]), &[][..], (false, true, true)),
        ("http_proxy", json!([]), &[], (false, true, true)),
        ("k3s_token", missing, &[], (false, true, true)),
        ("k3s_token", literal, &[], (false, false, false)),
        ("k3s_token", json!([]), &["K3S_TOKEN"], (true, false, false)),
        ("lang", json!([]), &[], (true, false, true)),
        ("token", json!([]), &[], (true, false, false)),
    ] {
        assert_eq!(variable(name, env, own), expected, "{name} {own:?}");
    }
}

#[test]
fn a_variable_of_an_application_that_every_container_gets_is_shown_as_that() {
    let api = SpinComponent { variables: strings(&["hostname", "mode"]), ..SpinComponent::default() };
    let get = vec![import("spin:variables/variables@3.0.0", &["get"])];
    let found = on("spin", &plain_pod(), spin(api, get));
    let of = |name: &str| evidence(&found.effective, &format!("config {name} own")).join(", ");
    assert!(of("hostname").contains("set by the container runtime"), "{}", of("hostname"));
    assert!(!of("mode").contains("set by"), "{}", of("mode"));
}

fn reached_by(container: &Value, spec: &Value, hosts: &[&str]) -> Vec<String> {
    beyond_start(&on("spin", &pod(container, spec), spin(with_hosts(hosts), outgoing())))
}

/// A security context in which a container writes nothing that belongs to root, with these capabilities added.
fn held(add: &[&str]) -> Value {
    json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": add}})
}

/// All containers of a pod have one `/etc/hosts`, which root may write, and who has the capabilities of root.
#[test]
fn a_host_by_name_is_any_host_beside_a_container_that_may_be_root() {
    let reached = |spec: Value| {
        let mut workload = pod(&json!({}), &spec);
        workload
            .spec
            .containers
            .extend(spec.get("beside").map(|other| serde_json::from_value(other.clone()).unwrap()));
        beyond_start(&on("spin", &workload, spin(with_hosts(&["http://payments.example.:8080"]), outgoing())))
    };
    let (named, any) = (["http.outbound http://payments.example.:8080"], ["http.outbound http://*:8080"]);
    assert_eq!(reached(json!({})), named, "alone");
    let (none, quiet) = (json!({"drop": ["ALL"]}), json!({"allowPrivilegeEscalation": false}));
    for (security, expected) in [
        (json!({}), any),
        (json!({"readOnlyRootFilesystem": true, "runAsNonRoot": true}), any),
        (json!({"runAsUser": 0, "allowPrivilegeEscalation": false, "capabilities": none}), any),
        (json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false}), any),
        (json!({"runAsUser": 65532, "allowPrivilegeEscalation": false}), any),
        (held(&["DAC_OVERRIDE"]), any),
        (held(&["NET_BIND_SERVICE"]), named),
        (held(&[]), named),
        (json!({"runAsUser": 65532, "allowPrivilegeEscalation": false, "capabilities": none}), named),
    ] {
        let side = json!({"name": "side", "image": "x", "securityContext": security});
        assert_eq!(reached(json!({"beside": side})), expected, "{security}");
    }
    let of_pod = |own: Value| {
        let side = json!({"name": "side", "image": "x", "securityContext": own});
        reached(json!({"securityContext": {"runAsUser": 65532}, "beside": side}))
    };
    assert_eq!(of_pod(quiet), any);
    assert_eq!(of_pod(json!({"allowPrivilegeEscalation": false, "capabilities": none})), named);
    assert_eq!(reached(json!({"ephemeralContainers": [{"name": "debug", "image": "x"}]})), any);
}

/// The container runtime writes `/etc/resolv.conf` once for each pod, and mounts it into the containers for the start too; the kubelet
/// writes `/etc/hosts` anew when the next container starts.
#[test]
fn a_host_by_name_is_any_host_after_a_container_for_the_start_that_may_write_the_file_of_the_resolver() {
    let (named, any) = (["http.outbound http://payments.example.:8080"], ["http.outbound http://*:8080"]);
    let of = |more: &Value, spec: &Value| {
        let mut init = json!({"name": "init", "image": "x"});
        init.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut whole = json!({"initContainers": [init]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        on("spin", &pod(&json!({}), &whole), spin(with_hosts(&["http://payments.example.:8080"]), outgoing()))
    };
    let in_context = |security: Value| json!({"securityContext": security});
    let read_only =
        |add: &[&str]| in_context(json!({"readOnlyRootFilesystem": true, "capabilities": {"add": add}}));
    let none = json!({});
    for (more, spec, expected) in [
        (none.clone(), &none, any),
        (json!({"restartPolicy": "Always"}), &none, any),
        (in_context(json!({"runAsUser": 65532, "allowPrivilegeEscalation": false})), &none, any),
        (in_context(held(&[])), &none, named),
        (read_only(&[]), &none, named),
        (read_only(&["CHOWN"]), &none, named),
        (read_only(&["DAC_READ_SEARCH"]), &none, any),
        (read_only(&["SYS_ADMIN"]), &none, any),
        (read_only(&[]), &json!({"shareProcessNamespace": true}), any),
        (in_context(json!({"readOnlyRootFilesystem": true, "privileged": true})), &none, any),
    ] {
        assert_eq!(beyond_start(&of(&more, spec)), expected, "{more} {spec}");
    }
    let seen = evidence(&of(&none, &none).effective, any[0]).join(", ");
    let says = "container `init` may write /etc/resolv.conf of the pod before the others start: set `readOnlyRootFilesystem: true`, or \
                `runAsNonRoot: true`, `allowPrivilegeEscalation: false` and `capabilities: {drop: [ALL]}` in the securityContext of `init`";
    assert!(seen.contains(says), "{seen}");
}

/// Containers for the start run one after the other, beside those that were started before them and go on running.
#[test]
fn a_container_for_the_start_comes_after_those_before_it_and_runs_beside_those_that_go_on() {
    let reached = |at: usize, policy: Option<&str>| {
        let own = json!({"name": "own", "image": "ghcr.io/org/app:v1", "restartPolicy": policy});
        let mut init = vec![json!({"name": "root", "image": "x"})];
        init.insert(at, own);
        let image = spin(with_hosts(&["http://payments.example.:8080"]), outgoing());
        let program = wasm(&image);
        let own = Container { index: at, ..container(Role::InitContainer, image, program) };
        let workload = pod(&json!({"securityContext": held(&[])}), &json!({"initContainers": init}));
        beyond_start(&assess(&workload, &own, Some(&profile("spin"))))
    };
    let (named, any) = (["http.outbound http://payments.example.:8080"], ["http.outbound http://*:8080"]);
    assert_eq!(reached(0, None), named, "it has ended before the other begins");
    assert_eq!(reached(1, None), any);
    assert_eq!(reached(0, Some("Always")), any, "it runs while the other does");
    assert_eq!(reached(1, Some("Always")), any);
}

/// All containers of a pod have one network, and rules for its packets stay when the container has ended that wrote them.
#[test]
fn an_address_is_any_host_where_a_container_of_the_pod_may_lead_connections_elsewhere() {
    let (own, any) = (["http.outbound http://10.0.0.1:8080"], ["http.outbound http://*:8080"]);
    for (list, security, expected) in [
        ("initContainers", json!({}), own),
        ("initContainers", held(&["NET_ADMIN"]), any),
        ("initContainers", json!({"privileged": true}), any),
        ("ephemeralContainers", json!({"capabilities": {"add": ["SYS_ADMIN"]}}), any),
        ("ephemeralContainers", json!({"capabilities": {"add": ["NET_RAW"]}}), own),
    ] {
        let mut spec = json!({});
        spec[list] = json!([{"name": "net", "image": "x", "securityContext": security}]);
        assert_eq!(reached_by(&json!({}), &spec, &["http://10.0.0.1:8080"]), expected, "{list} {security}");
    }
    let spec =
        json!({"initContainers": [{"name": "net", "image": "x", "securityContext": held(&["NET_ADMIN"])}]});
    assert_eq!(
        reached_by(&json!({}), &spec, &["http://payments.example.:8080"]),
        any,
        "a name leads to an address"
    );
    assert_eq!(reached_by(&json!({}), &spec, &["http://self"]), ["service-chaining self"]);
    let image = spin(with_hosts(&["http://10.0.0.1:8080"]), outgoing());
    let seen = evidence(&on("spin", &pod(&json!({}), &spec), image).effective, any[0]).join(", ");
    let says = "http://10.0.0.1:8080 counts as any host, as container `net` may lead connections of the pod elsewhere: leave \
                `privileged`, NET_ADMIN, SYS_ADMIN and SYS_MODULE out of the securityContext of `net`, or grant http://*:8080";
    assert!(seen.contains(says), "{seen}");
}

/// The files that its containers share stay with a pod whose containers are all started again.
#[test]
fn a_container_for_the_start_comes_after_the_others_where_all_are_started_again() {
    let reached = |action: &str| {
        let rules = json!([{"action": action, "exitCodes": {"operator": "In", "values": [7]}}]);
        let spec = json!({"initContainers": [{"name": "init", "image": "ghcr.io/org/app:v1"}], "containers": [
            {"name": "app", "image": "x", "restartPolicy": "Never", "restartPolicyRules": rules}]});
        let image = spin(with_hosts(&["http://payments.example.:8080"]), outgoing());
        let program = wasm(&image);
        let first = container(Role::InitContainer, image, program);
        beyond_start(&assess(&pod(&json!({}), &spec), &first, Some(&profile("spin"))))
    };
    assert_eq!(reached("Restart"), ["http.outbound http://payments.example.:8080"]);
    assert_eq!(reached("RestartAllContainers"), ["http.outbound http://*:8080"]);
}

/// What the first container of a pod reaches beside a second one that starts this.
fn reached_beside(other: ImageFacts, security: &Value) -> Vec<String> {
    let mut side = json!({"name": "side", "image": "ghcr.io/org/side:v1"});
    side.as_object_mut().unwrap().extend(security.as_object().unwrap().clone());
    let workload =
        pod(&json!({}), &json!({"containers": [{"name": "app", "image": "ghcr.io/org/app:v1"}, side]}));
    let image = spin(with_hosts(&["https://a.example.com"]), outgoing());
    let (program, program_of_other) = (wasm(&image), wasm(&other));
    let app = container(Role::Container, image, program);
    let side =
        Container { index: 1, name: "side".into(), ..container(Role::Container, other, program_of_other) };
    let containers = [app, side];
    let profile = profile("spin");
    let found = Siblings::new(&workload, &containers, Some(&profile)).assess(&containers[0]);
    let hosts = found.effective.iter().map(line).filter(|line| line.starts_with("http.outbound"));
    hosts.collect()
}

#[test]
fn only_a_program_that_may_write_the_hosts_of_the_pod_makes_names_count_as_any_host() {
    let (own, any) = (["http.outbound https://a.example.com"], ["http.outbound https://*"]);
    let quiet = || spin(SpinComponent::default(), outgoing());
    let sql = || {
        let api = SpinComponent { sqlite_databases: strings(&["default"]), ..SpinComponent::default() };
        spin(api, vec![import("fermyon:spin/sqlite", &["open"])])
    };
    let odd = || spin(SpinComponent::default(), vec![import("acme:thing/api", &["call"])]);
    assert_eq!(reached_beside(quiet(), &json!({})), own);
    assert_eq!(reached_beside(sql(), &json!({})), any, "SQL opens any file, and calls native code");
    assert_eq!(reached_beside(odd(), &json!({})), any, "it is not known what it calls");
    let in_context = |security: Value| json!({"securityContext": security});
    let other_user = in_context(json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false}));
    assert_eq!(
        reached_beside(sql(), &other_user),
        any,
        "its process keeps the capabilities of the container"
    );
    assert_eq!(reached_beside(sql(), &in_context(held(&[]))), own, "its user may not write the file");
    let network = in_context(json!({"capabilities": {"add": ["NET_ADMIN"]}}));
    assert_eq!(reached_beside(quiet(), &network), own, "a program of Wasm has no call for that");
}

#[test]
fn a_volume_of_a_kind_that_may_hold_a_secret_is_one() {
    let is_secret = |volume: Value| {
        let container = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let workload = pod(&container, &json!({"volumes": [volume], "automountServiceAccountToken": false}));
        let found = on("wasmtime", &workload, facts(ImageKind::Module, vec![core(&["path_open"])]));
        found.effective.into_iter().find(|entry| entry.path.as_deref() == Some("/v")).unwrap().secret
    };
    let flex =
        |secret: Value| json!({"name": "v", "flexVolume": {"driver": "acme/keys", "secretRef": secret}});
    assert!(is_secret(flex(json!({"name": "keys"}))));
    assert!(!is_secret(flex(json!(null))));
    assert!(is_secret(json!({"name": "v", "vaultOfTomorrow": {"key": "k"}})), "a kind that is not known");
    assert!(!is_secret(json!({"name": "v", "emptyDir": {}})));
    let projected = |source: Value| json!({"name": "v", "projected": {"sources": [source]}});
    assert!(is_secret(projected(json!({"vaultOfTomorrow": {"path": "k"}}))), "a source that is not known");
    assert!(is_secret(projected(json!({"serviceAccountToken": {"path": "token"}}))));
    assert!(!is_secret(projected(json!({"configMap": {"name": "c"}}))));
}

/// The runtime compares the name, and the container's resolver says where it leads.
#[test]
fn a_host_whose_name_the_pod_leads_elsewhere_is_any_host() {
    let hosts = ["http://payments.example:8080"];
    let (named, any) = (["http.outbound http://payments.example:8080"], ["http.outbound http://*:8080"]);
    let alias = |name: &str| json!({"hostAliases": [{"ip": "169.254.169.254", "hostnames": ["x", name]}]});
    let dns = |config: Value| json!({"dnsConfig": config});
    let volume = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
    let mount = |at: &str| json!({"volumeMounts": [{"name": "v", "mountPath": at, "subPath": "x"}]});
    let env = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
    let whole = |prefix: &str| json!({"envFrom": [{"prefix": prefix, "configMapRef": {"name": "c"}}]});
    let none = json!({});
    for (container, spec, expected) in [
        (&none, &alias("PAYMENTS.example"), any),
        (&none, &alias("payments.example."), any),
        (&none, &alias("example"), named),
        (&none, &alias("a.payments.example"), named),
        (&none, &json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["6.6.6.6"]}}), any),
        (&none, &dns(json!({"nameservers": ["6.6.6.6"]})), any),
        (&none, &dns(json!({"searches": ["evil.example"]})), any),
        (&none, &dns(json!({"options": [{"name": "ndots", "value": "1"}]})), named),
        (&none, &json!({"dnsPolicy": "Default"}), named),
        (&none, &json!({"hostname": "web"}), named),
        (&none, &json!({"hostnameOverride": "payments.example"}), any),
        (&mount("/etc/hosts"), &volume, any),
        (&mount("/etc/../etc/resolv.conf"), &volume, any),
        (&mount("/etc/nsswitch.conf"), &volume, any),
        (&mount("/etc"), &volume, any),
        (&mount("/"), &volume, any),
        (&mount("/etc/ssl"), &volume, named),
        (&mount("/data"), &volume, named),
        (&json!({"terminationMessagePath": "/etc/hosts"}), &none, any),
        (&env("LOCALDOMAIN"), &none, any),
        (&whole("HOST"), &none, any),
        (&whole("APP_"), &none, named),
        (&env("HOSTALIASES"), &none, any),
        (&env("DOMAIN"), &none, named),
        (&none, &none, named),
    ] {
        assert_eq!(reached_by(container, spec, &hosts), expected, "{container} {spec}");
    }
    let found = on("spin", &pod(&none, &alias("payments.example")), spin(with_hosts(&hosts), outgoing()));
    let seen = evidence(&found.effective, any[0]).join(", ");
    let says = "counts as any host, as hostAliases of the pod gives it an address: leave that out, or grant http://*:8080";
    assert!(seen.contains(says), "{seen}");
}

/// The container runtime mounts the volumes of an image and the file for messages where the links of the image lead them, after the
/// kubelet's files where their paths have as many parts.
#[test]
fn what_links_of_the_image_lead_over_the_files_of_the_resolver_makes_hosts_any_host() {
    let hosts = ["http://payments.example:8080"];
    let (any, named) = (["http.outbound http://*:8080"], ["http.outbound http://payments.example:8080"]);
    let log = |path: &str| json!({"terminationMessagePath": path});
    for (volumes, container, expected) in [
        (&["/x/y"][..], json!({}), any),
        (&["/x/hosts"], json!({}), any),
        (&["/x/none"], json!({}), named),
        // One part: the kubelet's files are mounted over it.
        (&["/etc"], json!({}), named),
        (&["/z"], json!({}), named),
        (&["/etc/hosts"], json!({}), any),
        (&["/etc/ssl"], json!({}), named),
        (&[], log("/x/y/resolv.conf"), any),
        (&[], log("/x/hosts"), any),
        (&[], log("/x/y/messages"), named),
        (&[], log("/dev/termination-log"), named),
    ] {
        let link = |from: &str, to: &str| (from.to_string(), FileClass::Link { target: to.into() });
        let mut facts = spin(with_hosts(&hosts), outgoing());
        facts.files = vec![link("/x/hosts", "../etc/hosts"), link("/x/y", "/etc"), link("/z", "/etc")];
        facts.volumes = volumes.iter().map(ToString::to_string).collect();
        let found = on("spin", &pod(&container, &json!({})), facts);
        assert_eq!(beyond_start(&found), expected, "{volumes:?} {container}");
    }
}

/// The kubelet's own `/etc/hosts` is where the image's link leads, and so is what is mounted there after it. It has no
/// `/etc/nsswitch.conf`, so that no mount is too early to lie over that.
#[test]
fn a_file_of_the_resolver_is_also_where_links_of_the_image_lead_it() {
    let hosts = ["http://payments.example:8080"];
    let (any, named) = (["http.outbound http://*:8080"], ["http.outbound http://payments.example:8080"]);
    let to_srv = [("/etc/hosts", "/srv/hosts"), ("/x/y", "/srv")];
    for (links, volume, log, expected) in [
        (&to_srv[..], None, "/srv/hosts", any),
        (&to_srv, None, "/x/y/hosts", any),
        (&to_srv, None, "/srv/messages", named),
        (&to_srv, Some("/x/y"), "/log", any),
        (&to_srv, Some("/srv/hosts"), "/log", any),
        (&to_srv, Some("/srv/data"), "/log", named),
        (&[("/l", "/etc/nsswitch.conf")], None, "/l", any),
        (&[("/l", "/etc/host.conf")], None, "/l", any),
        (&[("/l", "/etc/hosts")], None, "/l", named),
        (&[("/l", "/etc/nsswitch.conf")], Some("/l"), "/log", named),
    ] {
        let mut facts = spin(with_hosts(&hosts), outgoing());
        let link = |(from, to): &(&str, &str)| (from.to_string(), FileClass::Link { target: (*to).into() });
        facts.files = links.iter().map(link).collect();
        facts.volumes = volume.into_iter().map(String::from).collect();
        let found = on("spin", &pod(&json!({"terminationMessagePath": log}), &json!({})), facts);
        assert_eq!(beyond_start(&found), expected, "{links:?} {volume:?} {log}");
    }
}

/// The kubelet writes the name of a pod into its `/etc/hosts`, unless `hostname` says another one.
#[test]
fn a_host_that_is_called_like_the_pod_is_any_host() {
    let long = format!("{}.example", "a".repeat(63));
    let (any, cut) = ("http.outbound http://*:8080", "a".repeat(63));
    for (host, kind, name, spec, expected) in [
        ("payments.example", Kind::Pod, "payments.example", json!({}), any),
        ("payments.example", Kind::Pod, "payments", json!({}), "http.outbound http://payments.example:8080"),
        ("payments", Kind::Pod, "payments", json!({"hostname": "web"}), "http.outbound http://payments:8080"),
        ("payments", Kind::Deployment, "payments", json!({}), "http.outbound http://payments:8080"),
        (&cut, Kind::Pod, &long, json!({}), any),
    ] {
        let pod = Workload { kind, name: name.into(), ..pod(&json!({}), &spec) };
        let found = on("spin", &pod, spin(with_hosts(&[&format!("http://{host}:8080")]), outgoing()));
        assert_eq!(beyond_start(&found), [expected], "{host} {name} {spec}");
    }
}

/// The kubelet writes it into `/etc/hosts` whether there is such a Service or not.
#[test]
fn a_host_that_is_the_pods_own_name_in_the_cluster_is_any_host() {
    let (own, any) = ("db-0.db.shop.svc.cluster.local", "http.outbound http://*:8080");
    let both = json!({"hostname": "db-0", "subdomain": "db"});
    let same = |host: &str| format!("http.outbound http://{host}:8080");
    for (host, kind, name, of_stateful_set, spec, expected) in [
        (own, Kind::Pod, "app", false, both.clone(), any.into()),
        (own, Kind::Deployment, "app", false, both.clone(), any.into()),
        (own, Kind::Pod, "db-0", false, json!({"subdomain": "db"}), any.into()),
        ("DB-0.db.shop.svc.example.org.", Kind::Pod, "app", false, both.clone(), any.into()),
        ("db-0.db.shop.svc", Kind::Pod, "app", false, both.clone(), any.into()),
        (own, Kind::Pod, "db-0", true, both.clone(), same(own)),
        (own, Kind::Pod, "db-1", true, both.clone(), any.into()),
        (own, Kind::Pod, "app", false, json!({"hostname": "db-0"}), same(own)),
        (own, Kind::Deployment, "db-0", false, json!({"subdomain": "db"}), same(own)),
        ("db-1.db.shop.svc.x", Kind::Pod, "app", false, both.clone(), same("db-1.db.shop.svc.x")),
        ("db-0.db.other.svc.x", Kind::Pod, "app", false, both.clone(), same("db-0.db.other.svc.x")),
        ("db-0.db.shop.svcs.x", Kind::Pod, "app", false, both.clone(), same("db-0.db.shop.svcs.x")),
        ("*.shop.svc.cluster.local", Kind::Pod, "app", false, both, same("*.shop.svc.cluster.local")),
    ] {
        let pod = Workload { kind, name: name.into(), of_stateful_set, ..pod(&json!({}), &spec) };
        let found = on("spin", &pod, spin(with_hosts(&[&format!("http://{host}:8080")]), outgoing()));
        assert_eq!(beyond_start(&found), [expected], "{host} {name} {spec}");
    }
}

#[test]
fn only_hosts_that_are_looked_up_by_name_are_led_elsewhere() {
    let aliases = json!({"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.b.example"]}]});
    let elsewhere = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["6.6.6.6"]}});
    for (host, spec, expected) in [
        ("https://*.b.example", &aliases, &["http.outbound https://*"][..]),
        ("https://*.example", &aliases, &["http.outbound https://*"]),
        ("https://*.c.example", &aliases, &["http.outbound https://*.c.example"]),
        ("https://10.0.0.1", &elsewhere, &["http.outbound https://10.0.0.1"]),
        ("https://10.0.0.0/8", &elsewhere, &["http.outbound https://10.0.0.0/8"]),
        ("http://web.spin.internal", &elsewhere, &["service-chaining web"]),
        ("http://self", &elsewhere, &["service-chaining self"]),
    ] {
        assert_eq!(reached_by(&json!({}), spec, &[host]), expected, "{host}");
    }
    let tcp = vec![import("wasi:sockets/tcp@0.2.6", &["[method]tcp-socket.start-connect"])];
    let found = on("spin", &pod(&json!({}), &elsewhere), spin(with_hosts(&["tcp://db:5432"]), tcp));
    assert_eq!(beyond_start(&found), ["net.tcp.connect tcp://*:5432"]);
    let env = json!({"env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}]});
    let found = on("spin", &pod(&env, &elsewhere), spin(SpinComponent::default(), vec![]));
    assert!(to_grant(&found).contains(&"http.outbound http://*:4318".to_string()), "{:?}", to_grant(&found));
}

#[test]
fn every_source_that_may_supply_a_variable_of_spin_counts() {
    let variable = |env: Value, spec: &Value| {
        let api = SpinComponent { variables: strings(&["token"]), ..SpinComponent::default() };
        let container =
            json!({"env": env, "volumeMounts": [{"name": "v", "mountPath": "/.env", "subPath": ".env"}]});
        let found = on(
            "spin",
            &pod(&container, spec),
            spin(api, vec![import("wasi:config/store@0.2.0-rc.1", &["get"])]),
        );
        found.ambient.into_iter().find(|entry| entry.capability == Capability::Config).unwrap()
    };
    let from = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    let plain = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]});
    let secret = json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]});
    let both = json!([{"name": "TOKEN", "value": "x"}, {"name": "SPIN_VARIABLE_TOKEN", "valueFrom": from}]);
    let found = variable(both, &plain);
    assert!(found.secret && !found.own, "{found:?}");
    let found = variable(json!([]), &secret);
    assert!(found.secret && !found.own, "a file .env from a Secret: {found:?}");
    let found = variable(json!([]), &plain);
    assert!(found.secret && !found.own, "a file .env from a ConfigMap may copy any variable: {found:?}");
}

#[test]
fn a_file_of_variables_in_the_image_may_copy_any_secret() {
    let config = |directory: &str, files: &[&str], packaging: Packaging| {
        let api = SpinComponent { variables: strings(&["token"]), ..SpinComponent::default() };
        let mut image = spin(api, vec![import("spin:variables/variables@3.0.0", &["get"])]);
        image.files = files.iter().map(|file| ((*file).to_string(), FileClass::Other)).collect();
        let program = Program::Wasm { kind: ImageKind::SpinApp, packaging, modules: vec![0, 1] };
        let workload =
            pod(&json!({"workingDir": directory}), &json!({"automountServiceAccountToken": false}));
        let found = assess(&workload, &container(Role::Container, image, program), Some(&profile("spin")));
        let entry = found.effective.into_iter().find(|entry| entry.capability == Capability::Config).unwrap();
        entry.secret && !entry.own
    };
    let files = Packaging::RootFilesystem;
    assert!(config("/", &["/.env"], files));
    assert!(config("/srv", &["/srv/.env"], files));
    assert!(!config("/srv", &["/other/.env"], files));
    assert!(config("/dev/shm", &[], files), "another container may write one there");
    assert!(config("/proc/self/cwd", &[], files), "it may lead anywhere");
    assert!(config("/assets/api", &[], Packaging::Layers), "where the shim unpacks the layers");
    assert!(!config("/", &[], Packaging::Layers));
}

/// The shim sets every variable of the container in its own process, and Spin sends what a program prints to the endpoint that
/// they name, whatever the program imports.
#[test]
fn telemetry_of_the_spin_shim_is_sent_to_a_host_that_needs_a_grant() {
    let sent = |runtime: &str, container: &Value, of_image: &[&str]| {
        let mut image = spin(SpinComponent::default(), vec![]);
        image.env = of_image.iter().map(ToString::to_string).collect();
        let found = on(runtime, &pod(container, &json!({})), image);
        to_grant(&found).into_iter().filter(|line| line.starts_with("http.outbound")).collect::<Vec<_>>()
    };
    let env = |name: &str, value: &str| json!({"env": [{"name": name, "value": value}]});
    let none = [""; 0];
    for part in ["", "LOGS_", "TRACES_", "METRICS_"] {
        let name = format!("OTEL_EXPORTER_OTLP_{part}ENDPOINT");
        let endpoint = env(&name, "http://me:secret@evil.example:4318/v1");
        assert_eq!(sent("spin", &endpoint, &[]), ["http.outbound http://evil.example:4318"], "{name}");
        assert_eq!(sent("spin", &json!({}), &[&name]), ["http.outbound *://*:*"], "its value is not kept");
        assert_eq!(sent("spin", &env(&name, ""), &[&name]), none, "an empty one switches nothing on");
    }
    let any = ["http.outbound *://*:*"];
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let from = |prefix: &str| json!({"envFrom": [{"prefix": prefix, "configMapRef": {"name": "c"}}]});
    assert_eq!(sent("spin", &from(""), &[]), any);
    assert_eq!(sent("spin", &from("OTEL_"), &[]), any);
    assert_eq!(sent("spin", &from("SHOP_"), &[]), none);
    assert_eq!(sent("spin", &env(endpoint, "http://$(HOST)"), &[]), any);
    assert_eq!(sent("spin", &env("OTEL_SERVICE_NAME", "shop"), &[]), none);
    let http = http_component(vec![]);
    let other = on("wasmtime", &pod(&env(endpoint, "http://evil.example"), &json!({})), http);
    assert!(!lines(&other.effective).iter().any(|line| line.starts_with("http.outbound")));
}

/// An application that only messages of a queue start.
fn of_queues() -> ImageFacts {
    let mut image = spin(SpinComponent::default(), vec![]);
    let app = image.spin.as_mut().unwrap();
    app.triggers = ["sqs".to_string()].into();
    app.components.iter_mut().for_each(|component| component.triggers.clone_from(&app.triggers));
    image
}

#[test]
fn a_host_of_queues_that_a_variable_names_needs_a_grant() {
    let asked = |image: ImageFacts, container: &Value| {
        let program =
            Program::Wasm { kind: ImageKind::SpinApp, packaging: Packaging::Layers, modules: vec![0, 1] };
        let known = self::container(Role::Container, image, program);
        let found = assess(&pod(container, &json!({})), &known, Some(&profile("spin")));
        to_grant(&found).into_iter().filter(|line| !line.starts_with("trigger")).collect::<Vec<_>>()
    };
    let env = |name: &str, value: &str| json!({"env": [{"name": name, "value": value}]});
    let none = [""; 0];
    assert_eq!(asked(of_queues(), &env("AWS_REGION", "eu-west-1")), none);
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_CONTAINER_CREDENTIALS_FULL_URI"] {
        let endpoint = env(name, "http://evil.example:4566/x");
        assert_eq!(asked(of_queues(), &endpoint), ["http.outbound http://evil.example:4566"], "{name}");
        let http = asked(spin(SpinComponent::default(), vec![]), &endpoint);
        assert!(!http.iter().any(|line| line.contains("evil")), "no trigger asks for messages: {http:?}");
    }
    let agent = "http://169.254.170.23/v1/credentials";
    assert_eq!(
        asked(of_queues(), &env("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)),
        none,
        "of the platform"
    );
    let from = json!({"envFrom": [{"prefix": "AWS_", "secretRef": {"name": "s"}}]});
    assert_eq!(asked(of_queues(), &from), ["http.outbound *://*:*"]);
}

/// A profile of the AWS SDK names any host, and a program that the shim starts.
#[test]
fn a_file_of_profiles_that_the_shim_may_read_counts_as_any_host_and_where_there_may_be_a_shell_as_native_code()
 {
    let asked = |image: &ImageFacts, of_pod: &Value, packaging: Packaging| {
        let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}], "automountServiceAccountToken": false});
        let program = Program::Wasm { kind: ImageKind::SpinApp, packaging, modules: vec![0, 1] };
        let known = container(Role::Container, image.clone(), program);
        let found = assess(&pod(of_pod, &volumes), &known, Some(&profile("spin")));
        let wide = |line: &String| line.starts_with("http.outbound") || line.starts_with("native");
        to_grant(&found).into_iter().filter(wide).collect::<Vec<_>>()
    };
    let (any, native) = ("http.outbound *://*:*", "native.exec");
    let (layers, files) = (Packaging::Layers, Packaging::RootFilesystem);
    let image = of_queues();
    let env = |name: &str| json!({"env": [{"name": name, "value": "/assets/x"}]});
    for name in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "HOME"] {
        assert_eq!(asked(&image, &env(name), layers), [any], "{name}");
    }
    let mount = |path: &str| json!({"volumeMounts": [{"name": "v", "mountPath": path}]});
    assert_eq!(asked(&image, &mount("/root/.aws"), layers), [any], "no shell is there");
    for path in ["/bin", "/usr/bin/sh", "/usr", "/"] {
        let both = json!({"volumeMounts": [
            {"name": "v", "mountPath": "/root/.aws"}, {"name": "v", "mountPath": path}]});
        assert_eq!(asked(&image, &both, layers), [any, native], "{path}");
    }
    assert_eq!(asked(&image, &mount("/data"), layers), [""; 0]);
    assert_eq!(asked(&image, &json!({}), layers), [""; 0]);
    assert_eq!(asked(&image, &json!({}), files), [any]);
    let mut with_shell = image;
    with_shell
        .files
        .push(("/bin/sh".into(), FileClass::Native { magic: "ELF".into(), runs: true, found: false }));
    assert_eq!(asked(&with_shell, &json!({}), files), [any, native]);
}

/// The SDKs of clouds look for `sh` and `az` in the `PATH` of the shim, which is that of the container where there is one.
#[test]
fn a_program_for_credentials_may_come_from_any_kind_of_volume_where_programs_are_searched() {
    let image = |path: Option<&str>, links: &[(&str, &str)]| {
        let api = SpinComponent { key_value_stores: strings(&["orders"]), ..SpinComponent::default() };
        let mut image = spin(api, vec![import("spin:key-value/key-value@3.0.0", &["open"])]);
        let text = "[key_value_store.orders]\ntype = \"aws_dynamo\"\nregion = \"eu-west-1\"\ntable = \"t\"";
        let app = image.spin.as_mut().unwrap();
        app.runtime_config = Some(runtime_config_of("/runtime-config.toml", text.as_bytes()));
        image.files = vec![("/runtime-config.toml".into(), FileClass::Other)];
        image.env.extend(path.map(|_| "PATH".to_string()));
        image.search_path = path.map(String::from);
        linked(image, links)
    };
    let starts_in = |workload: &Workload, image: ImageFacts| {
        let found = on("spin", workload, image);
        found.effective.iter().any(|entry| entry.capability == Capability::NativeExec)
    };
    let starts = |volume: &Value, container: &Value, path: Option<&str>, links: &[(&str, &str)]| {
        let mut source = volume.clone();
        source["name"] = json!("v");
        starts_in(&pod(container, &json!({"volumes": [source]})), image(path, links))
    };
    let map = json!({"configMap": {"name": "c", "defaultMode": 0o755}});
    let mount = |path: &str| json!({"volumeMounts": [{"name": "v", "mountPath": path}]});
    let with =
        |path: &str, env: Value| json!({"volumeMounts": [{"name": "v", "mountPath": path}], "env": [env]});
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert!(!starts(&map, &json!({}), None, &[]), "nothing but the token is mounted");
    for volume in [
        &map,
        &json!({"secret": {"secretName": "s"}}),
        &json!({"projected": {"sources": [{"configMap": {"name": "c"}}]}}),
        &json!({"downwardAPI": {"items": []}}),
        &json!({"persistentVolumeClaim": {"claimName": "c"}}),
    ] {
        for path in
            ["/usr/local/bin", "/usr/bin/az", "/bin/sh", "/usr", "/", "/opt/bin", "/var/lib/rancher/k3s"]
        {
            assert!(starts(volume, &mount(path), None, &[]), "{volume} {path}");
        }
        assert!(!starts(volume, &mount("/data"), None, &[]), "{volume}");
        assert!(!starts(volume, &mount("/data"), Some(usual), &[]), "{volume}");
        assert!(starts(volume, &mount("/data"), Some("/usr/bin:/data"), &[]), "{volume}: the image's PATH");
        assert!(starts(volume, &mount("/data"), Some(":/usr/bin"), &[]), "{volume}: the working directory");
        assert!(
            starts(volume, &mount("/data"), Some(usual), &[("/usr/bin/az", "/data/az")]),
            "{volume}: a link"
        );
        assert!(
            starts(volume, &mount("/data"), None, &[("/usr/local/bin", "../../data")]),
            "{volume}: a link"
        );
    }
    let literal = |value: &str| json!({"name": "PATH", "value": value});
    assert!(starts(&map, &with("/data", literal("/data/x")), None, &[]));
    assert!(!starts(&map, &with("/data", literal(usual)), Some("/data"), &[]), "the pod's own PATH wins");
    let elsewhere = json!({"name": "PATH", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    assert!(starts(&map, &with("/data", elsewhere.clone()), None, &[]));
    // Without a volume: what another container has written into the memory that they share, or has behind `/proc`.
    let others = json!({"initContainers": [{"name": "other", "image": "other"}]});
    for (path, has_others, is_found) in [
        (literal("/usr/bin:/dev/shm"), true, true),
        (literal("/proc/7/root/bin"), true, true),
        (elsewhere, true, true),
        (literal(usual), true, false),
        (literal("/dev/shm"), false, false),
    ] {
        let spec = if has_others { others.clone() } else { json!({}) };
        let workload = pod(&json!({"env": [path.clone()]}), &spec);
        assert_eq!(starts_in(&workload, image(None, &[])), is_found, "{path} {has_others}");
    }
}

/// Spin applies the rules for hosts to the address, and its client then asks the proxy.
#[test]
fn a_proxy_of_the_spin_shim_needs_a_grant_where_the_program_sends_requests() {
    let sent = |hosts: &[&str], name: &str| {
        let env = json!({"env": [{"name": name, "value": "proxy.example:3128"}]});
        let found = on("spin", &pod(&env, &json!({})), spin(with_hosts(hosts), outgoing()));
        beyond_start(&found)
    };
    let own = "http.outbound https://api.example.com";
    for name in ["HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        assert_eq!(
            sent(&["https://api.example.com"], name),
            ["http.outbound http://proxy.example:3128", own]
        );
    }
    assert_eq!(sent(&["https://api.example.com"], "NO_PROXY"), [own]);
    assert_eq!(sent(&[], "HTTP_PROXY"), [""; 0]);
}

fn container_of(facts: ImageFacts, program: Program) -> Container {
    container(Role::Container, facts, program)
}

/// The facts with links, sorted by path as the scan leaves them.
fn linked(mut facts: ImageFacts, links: &[(&str, &str)]) -> ImageFacts {
    let link = |(name, target): &(&str, &str)| {
        ((*name).to_string(), FileClass::Link { target: (*target).to_string() })
    };
    facts.files.extend(links.iter().map(link));
    facts.files.sort_by(|one, other| one.0.cmp(&other.0));
    facts
}

#[test]
fn what_is_handed_over_is_what_the_links_of_the_image_lead_to() {
    let secret = json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]});
    let at = |path: &str| json!({"volumeMounts": [{"name": "v", "mountPath": path}]});
    let files = |found: &Capabilities| {
        lines(&found.effective).into_iter().filter(|line| line.starts_with("fs ")).collect::<Vec<_>>()
    };
    let links = [("/p", "/proc/self"), ("/q", "/"), ("/w", "mnt/secret")];
    let command = |family, directory: &str, mount: &str| {
        let mut container = at(mount);
        container["workingDir"] = json!(directory);
        let image = linked(facts(ImageKind::Module, vec![core(&["path_open"])]), &links);
        let described = Profile { ambient: family, ..profile("wasmtime") };
        let program = wasm(&image);
        let workload = pod(&container, &secret);
        let found = assess(&workload, &container_of(image, program), Some(&described));
        (files(&found), found.effective.iter().any(|entry| entry.capability == Capability::NativeExec))
    };
    let (reached, _) = command(Family::CrunWasmtime, "/w", "/mnt/secret");
    assert_eq!(reached, ["fs /mnt/secret ro secret"]);
    let (reached, _) = command(Family::CrunWasmtime, "/mnt", "/q/mnt/secret");
    assert!(reached.contains(&"fs /mnt/secret ro secret".to_string()), "{reached:?}");
    assert!(command(Family::CrunWasmtime, "/p", "/mnt/secret").1, "the host process is in reach");
    assert!(command(Family::CrunWasmtime, "/q", "/mnt/secret").1);
    let component = |source: &str, container: &Value| {
        let api = SpinComponent {
            files: strings(&["/www"]),
            sources: strings(&[source]),
            variables: strings(&["token"]),
            ..SpinComponent::default()
        };
        let opener = vec![import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"])];
        let image = linked(spin(api, opener), &[("/data", "mnt"), ("/p", "/proc"), ("/q", "/")]);
        on("spin", &pod(container, &secret), image)
    };
    for (source, container) in [
        ("data", at("/mnt")),
        ("/data", at("/q/mnt")),
        ("in", json!({"workingDir": "/mnt", "volumeMounts": [{"name": "v", "mountPath": "/mnt/in"}]})),
        ("proc/self/root", at("/mnt")),
        ("p", at("/mnt")),
    ] {
        let found = files(&component(source, &container));
        assert!(found.iter().any(|line| line.ends_with(" ro secret")), "{source} {container}: {found:?}");
    }
    let config = |container: &Value| {
        let found = component("static", container);
        found.ambient.into_iter().find(|entry| entry.capability == Capability::Config).unwrap()
    };
    assert!(config(&at("/q/.env")).secret, "a file .env by way of a link");
    assert!(!config(&at("/q/runtime-config.toml")).own, "a provider may supply the variable");
    let device = json!({"volumeDevices": [{"name": "v", "devicePath": "/runtime-config.toml"}]});
    assert!(!config(&device).own);
    assert!(config(&at("/elsewhere")).own);
}

/// A secret at this path, and a ConfigMap at another, in a container of crun's wasmtime: whether the secret is reached.
fn reaches_secret(links: &[(&str, &str)], directory: &str, mounts: [&str; 2]) -> bool {
    let spec = json!({"volumes": [{"name": "s", "secret": {"secretName": "s"}}, {"name": "m", "configMap": {"name": "m"}}]});
    let mounts = json!([{"name": "s", "mountPath": mounts[0]}, {"name": "m", "mountPath": mounts[1]}]);
    let image = linked(facts(ImageKind::Module, vec![core(&["path_open"])]), links);
    let described = Profile { ambient: Family::CrunWasmtime, ..profile("wasmtime") };
    let program = wasm(&image);
    let workload = pod(&json!({"workingDir": directory, "volumeMounts": mounts}), &spec);
    let found = assess(&workload, &container_of(image, program), Some(&described));
    found.effective.iter().any(|entry| entry.capability == Capability::Fs && entry.secret)
}

#[test]
fn a_link_that_a_mount_hides_is_not_followed() {
    let links = [("/m/w", "/elsewhere"), ("/m/s", "/elsewhere"), ("/var/run", "/run")];
    for (directory, mounts, reached) in [
        // The working directory is in the volume at `/m`, where no link of the image is left.
        ("/m/w", ["/m/w", "/m"], true),
        ("/m/w", ["/m", "/x"], true),
        ("/m", ["/m/s", "/m"], true),
        ("/m", ["/m/s", "/x"], false),
        ("/elsewhere", ["/m/s", "/x"], true),
        ("/elsewhere", ["/m/w/in", "/x"], true),
        ("/run", ["/var/run/secrets/token", "/x"], true),
        ("/var/run/secrets/token", ["/run/secrets/token", "/x"], true),
        ("/elsewhere", ["/s", "/x"], false),
    ] {
        assert_eq!(reaches_secret(&links, directory, mounts), reached, "{directory} with {mounts:?}");
    }
}

#[test]
fn a_mount_whose_place_another_one_decides_hides_no_other() {
    let links = [("/data/in", "/srv"), ("/q", "/"), ("/w", "/data/in")];
    // `/w` is mounted at `/srv` if it comes first, so that the working directory is in the volume at `/data`.
    assert!(reaches_secret(&links, "/w", ["/data", "/w"]));
    assert!(reaches_secret(&links, "/q/w/in", ["/data", "/w"]));
    // What has more parts as it is written is mounted later, and hides what is mounted deeper.
    assert!(reaches_secret(&[("/q", "/")], "/data/in", ["/q/q/data", "/data/in"]));
    assert!(!reaches_secret(&[("/q", "/")], "/data/in", ["/data", "/data/in"]));
    assert!(
        reaches_secret(&[("/q", "/")], "/data/in", ["/q/data", "/data/in"]),
        "either may be the later one"
    );
}

/// The secret at this path, in a container that has a volume at `/e` and a ConfigMap in it.
fn beside_a_nested_mount(directory: &str, secret: &str, around: &Value) -> (Program, bool) {
    let mut spec = json!({
        "volumes": [{"name": "s", "secret": {"secretName": "s"}}, around, {"name": "m", "configMap": {"name": "m"}}],
    });
    spec["volumes"][1]["name"] = json!("e");
    let mounts = json!([
        {"name": "s", "mountPath": secret}, {"name": "e", "mountPath": "/e"}, {"name": "m", "mountPath": "/e/conf"},
    ]);
    let links = [("/a", "/x/y"), ("/w", "/srv")];
    let mut image = linked(facts(ImageKind::Module, vec![core(&["path_open"])]), &links);
    image.files.push(("/app.wasm".into(), FileClass::Wasm));
    image.files.sort_by(|one, other| one.0.cmp(&other.0));
    (image.shape, image.scanned) = (Shape::ScratchRootfs, true);
    image.modules[0].source = "/app.wasm".into();
    let described = Profile { ambient: Family::CrunWasmtime, ..profile("wasmtime") };
    let workload = pod(&json!({"workingDir": directory, "volumeMounts": mounts}), &spec);
    let container = workload.container(Role::Container, 0).unwrap();
    let mounts = inspection::mounts(&workload.spec, &container, false);
    let command = ["/app.wasm".to_string()];
    let start =
        Start { command: &command, working_dir: Some(directory), mounts: &mounts, ..Start::default() };
    let program = Family::CrunWasmtime.start(&image, &start);
    let found = assess(&workload, &container_of(image.clone(), wasm(&image)), Some(&described));
    let secret = |entry: &Entry| entry.capability == Capability::Fs && entry.secret;
    (program, found.effective.iter().any(secret))
}

/// The program is judged, so what it is handed has to be known just as well, and no worse.
#[test]
fn mounts_are_in_the_same_places_for_the_program_and_for_what_it_is_handed() {
    let (of_kubelet, written) = (json!({"configMap": {"name": "c"}}), json!({"emptyDir": {}}));
    for (directory, secret, around, judged, handed) in [
        ("/w", "/secret", &of_kubelet, true, false),
        ("/e", "/secret", &of_kubelet, true, false),
        ("/e", "/e/secret", &of_kubelet, true, true),
        ("/w", "/srv", &of_kubelet, true, true),
        ("/w", "/secret", &written, false, true),
        // `/x/z` or `/z`, whichever the runtime follows first.
        ("/x/z", "/a/../z", &of_kubelet, false, true),
        ("/z", "/a/../z", &of_kubelet, false, true),
    ] {
        let (program, reaches) = beside_a_nested_mount(directory, secret, around);
        let is_judged = matches!(program, Program::Wasm { .. });
        assert_eq!((is_judged, reaches), (judged, handed), "{directory}, {secret}, {around}: {program:?}");
    }
}

#[test]
fn a_file_of_variables_is_the_volume_s_where_a_mount_hides_the_link_of_the_image() {
    let config = |directory: &str, mount: &str| {
        let api = SpinComponent { variables: strings(&["token"]), ..SpinComponent::default() };
        let links = [("/m/.env", "/elsewhere"), ("/.env", "/l/env"), ("/l", "/secret")];
        let container = json!({"workingDir": directory, "volumeMounts": [{"name": "v", "mountPath": mount}]});
        let spec = json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]});
        let found = on("spin", &pod(&container, &spec), linked(spin(api, Vec::new()), &links));
        found.ambient.into_iter().find(|entry| entry.capability == Capability::Config).unwrap().secret
    };
    assert!(config("/m", "/m"), "the volume brings its own file");
    assert!(config("/", "/secret"), "the link of the image leads into the volume");
    assert!(config("/m", "/elsewhere"));
    assert!(config("/n", "/other"), "the link of the image at the root may lead to a file of the image");
}

#[test]
fn many_files_of_an_app_and_many_mounts_in_them_become_a_bounded_number_of_entries() {
    let many = |count: usize| {
        let names = |name: &str| (0..count).map(|n| format!("{name}{n}")).collect::<Vec<_>>();
        let api = SpinComponent {
            files: names("/www"),
            sources: vec!["/data".to_string(); count],
            variables: names("v"),
            ..SpinComponent::default()
        };
        let mounts: Vec<Value> =
            (0..count).map(|n| json!({"name": "v", "mountPath": format!("/data/{n}")})).collect();
        let spec = json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]});
        let opener = vec![import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"])];
        on("spin", &pod(&json!({"volumeMounts": mounts}), &spec), spin(api, opener))
    };
    let found = many(1_500);
    let files: Vec<_> = found.effective.iter().filter(|entry| entry.capability == Capability::Fs).collect();
    assert!(files.len() < 2_000, "{}", files.len());
    assert!(
        files.iter().any(|entry| entry.path.is_none() && entry.secret),
        "one stands for all that are left out"
    );
}

#[test]
fn a_mounted_folder_of_a_spin_app_in_files_counts() {
    let files = |source: &str, spec: &Value, mounts: Value| {
        let api = SpinComponent {
            files: strings(&["/www"]),
            sources: strings(&[source]),
            ..SpinComponent::default()
        };
        let opener = vec![import("wasi:filesystem/types@0.2.6", &["[method]descriptor.open-at"])];
        let found = on("spin", &pod(&json!({"volumeMounts": mounts}), spec), spin(api, opener));
        let files = found
            .effective
            .into_iter()
            .filter(|e| matches!(e.capability, Capability::Fs | Capability::NativeExec));
        files.map(|entry| line(&entry)).collect::<Vec<_>>()
    };
    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    let at = |path: &str| json!([{"name": "v", "mountPath": path}]);
    assert_eq!(files("/static", &volumes, at("/elsewhere")), ["fs /www ro own"]);
    assert_eq!(files("/data", &volumes, at("/data")), ["fs /www ro"], "what the pod mounted there");
    let everything = |own: &'static str| ["fs /dev ro", "fs /proc ro", "fs /sys ro", own, "fs /www/data ro"];
    assert_eq!(
        files("/data/in", &volumes, at("/data")),
        everything("fs /www ro"),
        "a link in the volume may lead anywhere"
    );
    let map = json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}]});
    assert_eq!(files("/data/in", &map, at("/data")), ["fs /www ro"], "the kubelet alone writes there");
    assert_eq!(files("/", &volumes, at("/data")), everything("fs /www ro own"));
    assert_eq!(
        files("/proc/self", &volumes, at("/elsewhere")),
        ["fs /dev ro", "fs /proc ro", "fs /sys ro", "fs /www ro", "fs /www/elsewhere ro"],
        "`/proc/self/root` is the whole file system; read-only, so no native code"
    );
}

#[test]
fn spin_listens_where_its_variable_says_and_runs_the_triggers_that_it_knows() {
    let workload =
        pod(&json!({"env": [{"name": "SPIN_HTTP_LISTEN_ADDR", "value": "0.0.0.0:3000"}]}), &json!({}));
    let mut image = spin(SpinComponent::default(), Vec::new());
    image.spin.as_mut().unwrap().triggers.insert("cron".into());
    let capabilities = on("spin", &workload, image);
    assert_eq!(to_grant(&capabilities), ["http.inbound :3000", "trigger http"]);
    assert_eq!(lines(&capabilities.missing), ["trigger cron"]);
}

#[test]
fn a_module_that_the_app_does_not_attribute_counts_for_every_component() {
    let mut image = spin(with_hosts(&["https://a.example.com"]), Vec::new());
    let dependency = ModuleFacts { source: "sha256:dep".into(), ..component(outgoing()) };
    image.modules.push(dependency);
    let capabilities = on("spin", &plain_pod(), image);
    assert_eq!(
        beyond_start(&capabilities),
        ["http.outbound https://a.example.com", "http.outbound https://only-web.example.com"]
    );
}

#[test]
fn a_spin_component_whose_module_was_not_read_can_use_its_whole_manifest() {
    let mut image = spin(with_hosts(&["redis://cache:6379"]), Vec::new());
    image.modules.remove(0);
    let capabilities = on("spin", &plain_pod(), image);
    assert_eq!(
        beyond_start(&capabilities),
        ["db.redis redis://*:*", "db.postgres postgres://*:*", "telemetry"]
    );
    assert!(evidence(&capabilities.effective, "db.redis redis://*:*")[0].contains("was not read"));
}

#[test]
fn a_spin_app_on_another_runtime_is_assumed_to_get_everything() {
    let capabilities = on("wasmtime", &plain_pod(), spin(with_hosts(&["https://a.example.com"]), outgoing()));
    assert!(to_grant(&capabilities).contains(&"http.outbound".to_string()));
}

#[test]
fn the_lists_are_sorted_and_the_same_every_time() {
    let mut image = spin(with_hosts(&["https://b.example.com", "https://a.example.com"]), outgoing());
    let once = on("spin", &rich_pod(), image.clone());
    image.modules.reverse();
    let again = on("spin", &rich_pod(), image);
    assert_eq!(once, again);
    for list in [&once.requires, &once.ambient, &once.effective, &once.missing] {
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{:#?}", lines(list));
    }
}

/// If each of thousands of components were handed each of thousands of variables, there would be tens of millions of
/// entries, for which a review has neither the time nor the memory.
#[test]
fn many_components_are_handed_what_a_runtime_gives_once() {
    let of = |number: usize| SpinComponent { id: format!("c{number}"), ..SpinComponent::default() };
    let binary = |number: usize| ModuleFacts {
        source: format!("sha256:{number}"),
        component: Some(format!("c{number}")),
        ..module(WasmFormat::Component, outgoing(), &[])
    };
    let many = 8_000;
    let app = SpinApp {
        name: "shop".into(),
        triggers: ["http".to_string()].into(),
        components: (0..many).map(of).collect(),
        ..SpinApp::default()
    };
    let facts = ImageFacts {
        spin: Some(app),
        shape: Shape::SpinArtifact,
        ..facts(ImageKind::SpinApp, (0..many).map(binary).collect())
    };
    let variables: Vec<Value> = (0..many).map(|n| json!({"name": format!("V{n}"), "value": "x"})).collect();
    let pod = pod(&json!({"env": variables}), &json!({"automountServiceAccountToken": false}));
    let program = wasm(&facts);
    let found = assess(&pod, &container(Role::Container, facts, program), None);
    let outbound: Vec<&Entry> =
        found.effective.iter().filter(|e| e.capability == Capability::HttpOutbound).collect();
    let [outbound] = outbound.as_slice() else { panic!("{outbound:?}") };
    assert!(outbound.evidence.iter().any(|place| place.contains("more places")), "{outbound:?}");
    assert!(found.ambient.len() < 1_000, "{}", found.ambient.len());
}
