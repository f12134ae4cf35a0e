//! Programs that each try one thing that a runtime may hand over, and say whether they could: as a module, as a component,
//! and as a component that answers HTTP. They share their code; a shell around it says the outcome.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use serde_json::{Value, json};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::oci::fixtures::wat;
use super::oci::{Image, ImageBuilder};
use super::process::{root, wasmgate, writes_docs};

/// The name that a pod's `hostAliases` give to the peer.
const PEER: &str = "peer.example";

/// What `stdio` says.
pub const SAID: &str = "said by the program";

/// What native code says that a runtime loads.
pub const LOADED: &str = "native code was loaded";

/// How a probe is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A preview-1 command.
    Module,
    /// A command of WASI 0.2.
    Component,
    /// A component that answers HTTP with its outcome.
    Http,
}

impl Form {
    const ALL: [Self; 3] = [Self::Module, Self::Component, Self::Http];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Component => "component",
            Self::Http => "http",
        }
    }
}

/// A runtime under which the probes run, with a table of its own in the page.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its RuntimeClass, and its handler on the node.
    pub class: &'static str,
    /// What it runs.
    forms: &'static [(Form, &'static str)],
    /// Whether pods have to name the class and ask for Wasm, and images have to be files.
    asked: bool,
    /// The lines of the page around its table.
    marks: (&'static str, &'static str),
}

/// runwasi's wasmtime shim, where the gate places what says nothing.
pub const SHIM: Target = Target {
    class: "wasmtime",
    forms: &[(Form::Module, "module"), (Form::Component, "component"), (Form::Http, "HTTP component")],
    asked: false,
    marks: ("<!-- probes -->\n", "<!-- end of the probes -->\n"),
};

/// youki with wasmtime.
pub const YOUKI: Target = Target {
    class: "youki",
    forms: &[(Form::Module, "module")],
    asked: true,
    marks: ("<!-- probes of youki -->\n", "<!-- end of the probes of youki -->\n"),
};

/// The profile of [`YOUKI`], as an item of `runtimes.profiles`.
pub const YOUKI_PROFILE: &str = "    - name: youki\n      runtimeClass: youki\n      runs: [module]\n      ambient: youki-wasmtime\n      \
     nodeAffinity: [{key: wasmtime, operator: In, values: [provisioned]}]\n";

/// crun with wasmtime.
pub const CRUN: Target = Target {
    class: "crun",
    forms: &[(Form::Module, "module")],
    asked: true,
    marks: ("<!-- probes of crun -->\n", "<!-- end of the probes of crun -->\n"),
};

/// The profile of [`CRUN`], as that of [`YOUKI`].
pub const CRUN_PROFILE: &str = "    - name: crun\n      runtimeClass: crun\n      runs: [module]\n      ambient: crun-wasmtime\n      \
     nodeAffinity: [{key: wasmtime, operator: In, values: [provisioned]}]\n";

/// crun on a node that passes every annotation on, and whose containers have a hook (`tools/cluster/crun-annotated`): what annotations
/// make it do has a table of its own.
pub const ANNOTATED: Target = Target {
    class: "crun-annotated",
    forms: &[],
    asked: true,
    marks: ("<!-- annotations of crun -->\n", "<!-- end of the annotations of crun -->\n"),
};

impl Target {
    /// Names the class, and asks for Wasm, where a pod has to.
    pub fn ask(&self, pod: &mut Value) {
        if self.asked {
            pod["spec"]["runtimeClassName"] = json!(self.class);
            pod["metadata"]["annotations"]["run.oci.handler"] = json!("wasm");
        }
    }

    /// Every probe in every form in which this runtime can be asked to run it.
    pub fn tried(&self) -> impl Iterator<Item = (&'static Probe, Form)> {
        let runs = |form: &Form| self.forms.iter().any(|(known, _)| known == form);
        PROBES.iter().flat_map(move |probe| probe.forms().filter(runs).map(move |form| (probe, form)))
    }
}

/// An address and port of the pod's network that takes connections and answers HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: [u8; 4],
    pub port: u16,
}

/// One thing to try.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Name of the image.
    pub name: &'static str,
    /// What the program does, for the table.
    pub does: &'static str,
    /// The capability that this needs, and of which file or variable.
    pub needs: (&'static str, Option<&'static str>),
    /// Interfaces of WASI 0.2 that it calls beside preview 1; a module has none of them.
    imports: &'static [&'static str],
    body: fn(Peer) -> String,
}

/// In the order of the table.
pub const PROBES: &[Probe] = &[
    preview1("stdio", "writes to standard output", ("stdio", None), stdio),
    preview1("args", "reads its arguments", ("args", None), args),
    preview1("clock", "reads the time", ("clock", None), clock),
    preview1("random", "takes random bytes", ("random", None), random),
    preview1("env", "reads a variable of the pod", ("env", Some("PROBE")), env),
    preview1("file", "opens a file of the image", ("fs", Some("/")), |_| opens("own.txt", false)),
    preview1("list", "lists the folder that it was given", ("fs", Some("/")), list),
    preview1("mount", "writes to a mount", ("fs", Some("/data")), |_| opens("data/file", true)),
    preview1("token", "reads the service-account token", ("fs", Some(TOKEN)), |_| {
        opens("var/run/secrets/kubernetes.io/serviceaccount/token", false)
    }),
    preview1(
        "environ",
        "reads the variables of the runtime's own process, `/proc/self/environ`",
        ("env", None),
        |_| opens("proc/self/environ", false),
    ),
    preview1(
        "memory",
        "opens the memory of that process, `/proc/self/mem`, to write",
        ("native.exec", None),
        |_| opens("proc/self/mem", true),
    ),
    preview1("kernel", "reads what the kernel says of the node, in `/sys`", ("fs", Some("/sys")), |_| {
        opens("sys/devices/system/cpu/online", false)
    }),
    preview1(
        "device",
        "writes to a device that every container has, `/dev/null`",
        ("fs", Some("/dev")),
        |_| opens("dev/null", true),
    ),
    preview1(
        "link",
        "reads a link of the kernel, `/proc/self`, and opens no file",
        ("fs", Some("/proc")),
        link,
    ),
    preview1(
        "accept",
        "takes a connection of a socket that it was given (preview 1)",
        ("net.listen", None),
        accept,
    ),
    probe("connect", "connects by TCP", ("net.tcp.connect", None), TCP, connect),
    probe("listen", "listens on a TCP port", ("net.listen", None), TCP, listen),
    probe("udp", "binds a UDP port", ("net.udp", None), UDP, udp),
    probe("resolve", "resolves a name", ("net.dns", None), NAMES, resolve),
    probe("request", "sends an HTTP request", ("http.outbound", None), REQUESTS, request),
    probe("serve", "answers HTTP requests", ("http.inbound", None), ANSWERS, |_| {
        "(func $probe (result i32) (i32.const 0))".into()
    }),
    probe(
        "module-names",
        "resolves a name, where the image has a module of glibc's name service for hosts",
        ("native.plugin", None),
        NAMES,
        resolve,
    ),
    probe(
        "module-requests",
        "sends an HTTP request to a name, where it has one",
        ("native.plugin", None),
        REQUESTS,
        request_by_name,
    ),
    preview1("module-users", "does nothing, where the image has one for users", PLUG_IN, nothing),
    preview1("module-home", "does nothing, where the pod sets `HOME` beside that", PLUG_IN, nothing),
    preview1(
        "module-path",
        "does nothing, where `/etc/nsswitch.conf` names one for users by its path",
        PLUG_IN,
        nothing,
    ),
    preview1(
        "plug-in",
        "does nothing, where `WASMEDGE_PLUGIN_PATH` names a library of the image",
        PLUG_IN,
        nothing,
    ),
    preview1(
        "plug-in-folder",
        "does nothing, where the image has libraries in folders of WasmEdge's plug-ins",
        PLUG_IN,
        nothing,
    ),
    preview1(
        "section",
        "does nothing, and has native code in a section `wasmedge`",
        ("native.exec", None),
        nothing,
    ),
];

/// The ways out of the sandbox to native code that the files of runtimes name (`src/runtime/answers.rs`, `NativeWay`), and the probes
/// that try each.
pub const WAYS: [(&str, &[&str]); 5] = [
    ("Section", &["section"]),
    ("PlugIns", &["plug-in"]),
    ("PlugInFolders", &["plug-in-folder"]),
    ("Resolver", &["module-names", "module-requests"]),
    ("Users", &["module-users", "module-home", "module-path"]),
];

/// Reads the variable that a Service `probe` gives every container of its namespace, `PROBE_SERVICE_HOST`.
pub const LINKS: Probe =
    preview1("links", "reads the variables of the namespace's Services", ("env", None), |_| {
        variable("PROBE_SE")
    });

/// Looks for the variable that moves the HTTP server of the wasmtime shim, `WASMTIME_HTTP_PROXY_SOCKET_ADDR`.
pub const HIDDEN: Probe =
    preview1("hidden", "reads the variables of the shim's own HTTP server", ("env", None), |_| {
        variable("WASMTIME")
    });

/// Writes to a file of the image, which is the image's own.
pub const ROOT: Probe =
    preview1("root", "writes to a file of the image", ("fs", Some("/")), |_| opens("own.txt", true));

/// Leave the folder that the program was given: by `..`, and by links in it that [`FOLDER`] has.
pub const ESCAPES: [Probe; 6] = [
    preview1("above", "opens a file above its folder", ("fs", Some("/")), |_| opens("../own.txt", false)),
    preview1("memory-above", "opens the memory of its process by `..`", ("native.exec", None), |_| {
        opens("../proc/self/mem", true)
    }),
    preview1("link-above", "opens a link to a file above", ("fs", Some("/")), |_| opens("up.txt", false)),
    preview1("link-root", "opens a link to a file of `/`", ("fs", Some("/")), |_| opens("root.txt", false)),
    preview1("link-memory", "opens a link to the memory of its process", ("native.exec", None), |_| {
        opens("memory", true)
    }),
    preview1("link-mount", "writes to a file in a link to a mount", ("fs", Some("/data")), |_| {
        opens("mounted/file", true)
    }),
];

/// The links of the folder `/app` for [`ESCAPES`].
pub const FOLDER: [(&str, &str); 4] = [
    ("app/up.txt", "../own.txt"),
    ("app/root.txt", "/own.txt"),
    ("app/memory", "/proc/self/mem"),
    ("app/mounted", "/data"),
];

/// A probe of the table by its name.
pub fn named(name: &str) -> &'static Probe {
    PROBES.iter().find(|probe| probe.name == name).expect("a probe of the table")
}

const PLUG_IN: (&str, Option<&str>) = ("native.plugin", None);
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TCP: &[&str] = &["wasi:sockets/instance-network", "wasi:sockets/tcp-create-socket", "wasi:sockets/tcp"];
const UDP: &[&str] = &["wasi:sockets/instance-network", "wasi:sockets/udp-create-socket", "wasi:sockets/udp"];
const NAMES: &[&str] = &["wasi:sockets/instance-network", "wasi:sockets/ip-name-lookup"];
const REQUESTS: &[&str] = &["wasi:http/types", "wasi:http/outgoing-handler"];
const ANSWERS: &[&str] = &["wasi:http/types"];

const fn probe(
    name: &'static str,
    does: &'static str,
    needs: (&'static str, Option<&'static str>),
    imports: &'static [&'static str],
    body: fn(Peer) -> String,
) -> Probe {
    Probe { name, does, needs, imports, body }
}

const fn preview1(
    name: &'static str,
    does: &'static str,
    needs: (&'static str, Option<&'static str>),
    body: fn(Peer) -> String,
) -> Probe {
    probe(name, does, needs, &[], body)
}

impl Probe {
    /// The forms in which a program can try this: preview 1 has no function for most of the network, and the adapter that
    /// makes components of preview 1 takes no connections.
    pub fn forms(&self) -> impl Iterator<Item = Form> {
        let (newer, name) = (!self.imports.is_empty(), self.name);
        Form::ALL.into_iter().filter(move |form| match form {
            Form::Module => !newer,
            Form::Component => !matches!(name, "accept" | "serve" | "module-requests" | "section"),
            Form::Http => !matches!(name, "accept" | "section"),
        })
    }

    /// The program.
    pub fn build(&self, form: Form, peer: Peer) -> Vec<u8> {
        let body = (self.body)(peer);
        // Imports come first in the text.
        let (own, code) = body.split_once("\n\n").unwrap_or(("", &body));
        let mut program = assemble(form, self.imports, own, &format!("{code} {LINE}"));
        if self.name == "section" {
            program.extend(custom_section("wasmedge", library()));
        }
        program
    }

    /// Whether it tries to have the runtime load native code, which then says [`LOADED`].
    pub fn loads(&self) -> bool {
        WAYS.iter().any(|(_, probes)| probes.contains(&self.name))
    }

    /// The files of its image beside the program and one to open.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let modules = |choice: &str| {
            let all =
                module_folders().map(|folder| (format!("{folder}/libnss_probe.so.2"), library().to_vec()));
            all.into_iter().chain([("etc/nsswitch.conf".to_string(), choice.into())]).collect()
        };
        let libraries = |names: &[&str]| {
            names.iter().map(|name| ((*name).to_string(), library().to_vec())).collect::<Vec<_>>()
        };
        match self.name {
            "module-names" | "module-requests" => modules("hosts: probe files\n"),
            "module-users" | "module-home" => modules("passwd: probe files\n"),
            "module-path" => {
                let choice = ("etc/nsswitch.conf".to_string(), b"passwd: /probe files\n".to_vec());
                [libraries(&["libnss_/probe.so.2"]), vec![choice]].concat()
            }
            "plug-in" => libraries(&["opt/libprobe.so"]),
            "plug-in-folder" => libraries(&["usr/lib/wasmedge/libprobe.so", "plugin/libprobe.so"]),
            _ => Vec::new(),
        }
    }

    /// The image: a Wasm layer, or a file beside the one that is opened or written.
    pub fn image(&self, target: &Target, program: &[u8], platform: &str) -> Image {
        let files = self.files();
        if files.is_empty() && !["file", "root"].contains(&self.name) && !target.asked {
            return ImageBuilder::wasm_artifact(program).build();
        }
        let mut image = ImageBuilder::rootfs(platform, &["/app.wasm"]);
        image.files(&[("app.wasm", program), ("own.txt", b"a file of the image")]);
        if !files.is_empty() {
            let files: Vec<(&str, &[u8])> =
                files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
            image.files(&files);
        }
        image.build()
    }

    /// Whether an entry of a list of capabilities is what it needs.
    fn is(&self, entry: &Value) -> bool {
        let (capability, of) = self.needs;
        let part = match capability {
            "fs" => entry["path"].as_str(),
            "env" => entry["name"].as_str(),
            _ => of,
        };
        entry["capability"] == capability && part == of
    }

    /// The pod that starts it, with what it tries to reach, and nothing else.
    pub fn pod(&self, target: &Target, name: &str, image: &str) -> Value {
        // The layer image names no entry point, so that the first argument is the program's own name.
        let arguments = if target.asked { json!(["argument"]) } else { json!(["probe", "argument"]) };
        let mut container = json!({"name": "app", "image": image, "args": arguments});
        let mut spec = json!({"automountServiceAccountToken": self.name == "token", "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1});
        match self.name {
            "env" => container["env"] = json!([{"name": "PROBE", "value": "seen"}]),
            "mount" | "link-mount" => {
                container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
                spec["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
            }
            "plug-in" => {
                container["env"] = json!([{"name": "WASMEDGE_PLUGIN_PATH", "value": "/opt/libprobe.so"}]);
            }
            // With it no runtime looks up the user, so that no module is loaded but for a name.
            "module-names" | "module-requests" | "module-home" => {
                container["env"] = json!([{"name": "HOME", "value": "/"}]);
            }
            _ => {}
        }
        if ["resolve", "module-names", "module-requests"].contains(&self.name) {
            spec["hostAliases"] = json!([{"ip": "10.255.77.2", "hostnames": [PEER]}]);
        }
        spec["containers"] = json!([container]);
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        target.ask(&mut pod);
        pod
    }
}

/// Where glibc looks for modules of its name service: as Debian has it, and as others have it.
fn module_folders() -> [String; 4] {
    let multiarch = if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };
    [format!("lib/{multiarch}"), format!("usr/lib/{multiarch}"), "lib64".into(), "usr/lib64".into()]
}

/// A library of this machine that says [`LOADED`] as soon as it is loaded, whatever loads it.
fn library() -> &'static [u8] {
    static LIBRARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        library_that(&format!(
            r#"static const char line[] = "{LOADED}\n"; if (write(1, line, sizeof line - 1) < 0) _exit(1);"#
        ))
    });
    &LIBRARY
}

/// A library of this machine with statements of C that run as soon as it is loaded.
fn library_that(does: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("probe.c"), folder.path().join("probe.so"));
    let text = format!(
        "#include <fcntl.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void act(void) {{\n    {does}\n}}\n"
    );
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-Os", "-shared", "-fPIC", "-s", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success(), "cc makes no shared library here");
    std::fs::read(library).unwrap()
}

/// A section that engines pass over which do not know its name (`WebAssembly/spec:document/core/binary/modules.rst`).
fn custom_section(name: &str, content: &[u8]) -> Vec<u8> {
    let content = [&leb128(name.len())[..], name.as_bytes(), content].concat();
    [&[0_u8][..], &leb128(content.len())[..], &content[..]].concat()
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// Where a component gets what it is given: one piece behind the other, none of which is freed.
const REALLOC: &str = r#"(global $free (mut i32) (i32.const 131072))
    (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32) (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
        (global.set $free (i32.add (local.get $at) (local.get $size)))
        (local.get $at))"#;

/// Functions that both a body and its shell may call; no function is imported twice.
const SHARED: [(&str, &str); 2] = [
    (
        "$write",
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#,
    ),
    ("$fields", r#"(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))"#),
];

/// A component that answers every request with a text.
pub fn greeter(text: &str) -> Vec<u8> {
    let (length, text) = (text.len(), text.replace('\n', "\\n"));
    let line = format!(r#"(data (i32.const 64) "{text}") (func $line (result i32) (i32.const {length}))"#);
    assemble(Form::Http, &["wasi:http/types"], "", &line)
}

/// The same with about this many bytes of code that never run, and are compiled all the same.
pub fn padded_greeter(text: &str, code_bytes: usize) -> Vec<u8> {
    // Arithmetic, of which nothing can be left out: a function of about 100 bytes for each number.
    let step = |number: usize| {
        format!(
            "(local.set 0 (i64.add (i64.mul (local.get 0) (i64.const {})) (i64.load (i32.wrap_i64 (local.get 0)))))",
            number * 7 + 1_000_001
        )
    };
    let body: String = (0..8).map(step).collect();
    let functions = format!("(func (param i64) (result i64) {body} (local.get 0))").repeat(code_bytes / 120);
    let (length, text) = (text.len(), text.replace('\n', "\\n"));
    let line = format!(r#"(data (i32.const 64) "{text}") (func $line (result i32) (i32.const {length}))"#);
    assemble(Form::Http, &["wasi:http/types"], "", &(line + &functions))
}

/// Puts the shell of a form around a program, which writes what is to be said by `$line`.
fn assemble(form: Form, interfaces: &[&str], own: &str, code: &str) -> Vec<u8> {
    let (imports, shell) = if form == Form::Http { HTTP_SHELL } else { COMMAND_SHELL };
    let called = |(name, _): &&(&str, &str)| code.contains(name) || shell.contains(name);
    let shared: String = SHARED.iter().filter(called).map(|(_, import)| *import).collect();
    let realloc = if form == Form::Module { "" } else { REALLOC };
    let mut module = wat(&format!(
        "(module {shared} {imports} {own} (memory (export \"memory\") 16) {code} {shell} {realloc})"
    ));
    if form == Form::Module {
        return module;
    }
    let imported: Vec<String> =
        interfaces.iter().map(|interface| format!("import {interface}@0.2.0;\n")).collect();
    let mut world = imported.concat();
    if form == Form::Http {
        world.push_str("import wasi:io/streams@0.2.0;\nexport wasi:http/incoming-handler@0.2.0;\n");
    }
    let types = include_str!("../fixtures/probes/wasi.wit");
    let mut resolve = Resolve::default();
    let text = format!("package probes:it;\nworld probe {{\n{world}}}\n{types}");
    let package = resolve.push_source("probe.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("probe")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let adapter = match form {
        Form::Http => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        _ => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    };
    let encoder = ComponentEncoder::default().validate(true).module(&module).unwrap();
    encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter).unwrap().encode().unwrap()
}

// === What the gate says, and what the page says ===

/// What becomes of a probe in one form: a cell of the table in `docs/runtimes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// It can, and the pod needs no grant for it.
    Yes,
    /// It can, and without a grant for that the pod is refused.
    Granted,
    /// It can, and no rule asks a grant for that; without one for `native.exec` the pod is refused.
    GrantedAsNative,
    /// It fails, or the runtime does not start such a program.
    No,
    /// There is no function for it.
    Absent,
}

impl Cell {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Granted => "with a grant",
            Self::GrantedAsNative => "with a grant for `native.exec`",
            Self::No => "no",
            Self::Absent => "–",
        }
    }

    /// What the gate claims in an entry of `objects` of `wasmgate explain`.
    pub fn claimed(probe: &Probe, explained: &Value) -> Self {
        let entries =
            explained["containers"][0]["effective"].as_array().unwrap_or_else(|| panic!("{explained}"));
        Self::of(entries.iter().any(|entry| probe.is(entry)), probe, explained)
    }

    /// What is so, for a program that can or cannot. It is refused for what the probe does, by the name of its file or variable; or for
    /// opening any file, which reaches the process that runs it. The second is told apart, or a table would stay the same if the rule
    /// for the first were gone.
    pub fn of(can: bool, probe: &Probe, explained: &Value) -> Self {
        let is_of = |violation: &Value, (capability, part): (&str, Option<&str>)| {
            let message = violation["message"].as_str().unwrap_or_default();
            violation["capability"] == capability
                && part.is_none_or(|part| message.contains(&format!("`{part}`")))
        };
        let refused = |needs: (&str, Option<&str>)| {
            let violations = explained["violations"].as_array().into_iter().flatten();
            violations.filter(|violation| violation["enforced"] == "deny").any(|one| is_of(one, needs))
        };
        match (can, refused(probe.needs), refused(("native.exec", None))) {
            (false, ..) => Self::No,
            (true, true, _) => Self::Granted,
            (true, false, true) => Self::GrantedAsNative,
            (true, false, false) => Self::Yes,
        }
    }
}

/// What `wasmgate explain` says of each of these pods.
pub fn explained(folder: &Path, pods: &[Value], flags: &[String]) -> Vec<Value> {
    let file = folder.join("pods.yaml");
    let documents: Vec<String> = pods.iter().map(|pod| format!("---\n{pod}\n")).collect();
    std::fs::write(&file, documents.concat()).unwrap();
    let mut explain = wasmgate();
    explain.args(["explain", "--output=json", "--filename"]).arg(&file).args(flags);
    let said = explain.output().unwrap();
    let document: Value = serde_json::from_slice(&said.stdout)
        .unwrap_or_else(|_| panic!("explain: {}", String::from_utf8_lossy(&said.stderr)));
    let objects = document["objects"].as_array().unwrap().clone();
    assert_eq!(objects.len(), pods.len());
    objects
}

/// The page with the tables.
pub const PAGE: &str = "docs/runtimes.md";

impl Target {
    /// The table for the cells of what was [`tried`](Self::tried), in its order. A probe that no form can try is left out.
    pub fn table(&self, cells: &[Cell]) -> String {
        let (names, lines): (Vec<_>, Vec<_>) = self.forms.iter().map(|(_, name)| (*name, "---")).unzip();
        let mut text = format!("| a program that | capability | {} |\n", names.join(" | "));
        writeln!(text, "|---|---|{}|", lines.join("|")).unwrap();
        for probe in PROBES {
            let cell = |form: Form| {
                let place = self.tried().position(|(tried, other)| tried.name == probe.name && other == form);
                place.map_or(Cell::Absent, |place| cells[place])
            };
            let cells: Vec<Cell> = self.forms.iter().map(|(form, _)| cell(*form)).collect();
            if cells.iter().any(|cell| *cell != Cell::Absent) {
                let cells = cells.iter().map(|cell| cell.text()).collect::<Vec<_>>().join(" | ");
                writeln!(text, "| {} | `{}` | {cells} |", probe.does, probe.needs.0).unwrap();
            }
        }
        text
    }

    /// Its table of a page, with what is before and behind it.
    fn cut<'a>(&self, page: &'a str) -> (&'a str, &'a str, &'a str) {
        let (before, rest) = page.split_once(self.marks.0).expect("the mark before the table");
        let (table, after) = rest.split_once(self.marks.1).expect("the mark behind the table");
        (before, table, after)
    }

    /// The page with another table.
    fn with_table(&self, page: &str, table: &str) -> String {
        let (before, _, after) = self.cut(page);
        format!("{before}{}{table}{}{after}", self.marks.0, self.marks.1)
    }

    /// Compares a table with that of the page, or writes it there with `WASMGATE_WRITE_DOCS=1`.
    pub fn compare(&self, table: &str) {
        // Tests write the tables of several runtimes at the same time.
        static TURN: Mutex<()> = Mutex::new(());
        let path = root().join(PAGE);
        let read = || std::fs::read_to_string(&path).unwrap();
        if writes_docs() {
            let _turn = TURN.lock().unwrap();
            std::fs::write(&path, self.with_table(&read(), table)).unwrap();
            return;
        }
        assert_eq!(table, self.cut(&read()).1);
    }
}

// === The shells: `$line` calls `$probe`, which returns 0 where it could do it, and otherwise what it was told. ===

/// Writes `probe NN` to 64 and returns its length.
const LINE: &str = r#"(data (i32.const 64) "probe __\n")
    (func $line (result i32) (local $code i32)
        (local.set $code (call $probe))
        (i32.store8 (i32.const 70) (i32.add (i32.const 48) (i32.div_u (local.get $code) (i32.const 10))))
        (i32.store8 (i32.const 71) (i32.add (i32.const 48) (i32.rem_u (local.get $code) (i32.const 10))))
        (i32.const 9))"#;

/// Prints the line.
const COMMAND_SHELL: (&str, &str) = (
    "",
    r#"(func (export "_start")
        (i32.store (i32.const 4) (call $line)) (i32.store (i32.const 0) (i32.const 64))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
);

/// Answers a request with the line.
const HTTP_SHELL: (&str, &str) = (
    r#"(import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $body (param i32 i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $stream (param i32 i32)))
    (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
        (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $send (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $close (param i32)))"#,
    r#"(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
        (local $length i32) (local $answer i32) (local $content i32) (local $writer i32)
        (local.set $length (call $line))
        (local.set $answer (call $response (call $fields)))
        (call $body (local.get $answer) (i32.const 512))
        (local.set $content (i32.load (i32.const 516)))
        (call $stream (local.get $content) (i32.const 512))
        (local.set $writer (i32.load (i32.const 516)))
        (call $set (local.get $out) (i32.const 0) (local.get $answer) (i32.const 0) (i64.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0))
        (call $send (local.get $writer) (i32.const 64) (local.get $length) (i32.const 512))
        (call $close (local.get $writer))
        (call $finish (local.get $content) (i32.const 0) (i32.const 0) (i32.const 512)))"#,
);

// === Preview 1 ===

/// Calls nothing: what is tried happens beside the program.
fn nothing(_: Peer) -> String {
    "(func $probe (result i32) (i32.const 99))".into()
}

fn stdio(_: Peer) -> String {
    let length = SAID.len() + 1;
    format!(
        r#"(data (i32.const 4096) "{SAID}\n")
        (func $probe (result i32)
            (i32.store (i32.const 8192) (i32.const 4096)) (i32.store (i32.const 8196) (i32.const {length}))
            (call $write (i32.const 1) (i32.const 8192) (i32.const 1) (i32.const 8200)))"#
    )
}

/// The second argument begins with `argu`.
fn args(_: Peer) -> String {
    r#"(import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))

    (func $probe (result i32)
        (drop (call $sizes (i32.const 8192) (i32.const 8196)))
        (if (i32.lt_u (i32.load (i32.const 8192)) (i32.const 2)) (then (return (i32.const 99))))
        (drop (call $get (i32.const 16384) (i32.const 32768)))
        (if (i32.ne (i32.load (i32.load (i32.const 16388))) (i32.const 0x75677261)) (then (return (i32.const 98))))
        (i32.const 0))"#
        .into()
}

/// After the year 2023.
fn clock(_: Peer) -> String {
    r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))

    (func $probe (result i32) (local $code i32)
        (local.set $code (call $now (i32.const 0) (i64.const 1000) (i32.const 8192)))
        (if (local.get $code) (then (return (local.get $code))))
        (if (i64.lt_u (i64.load (i32.const 8192)) (i64.const 1700000000000000000)) (then (return (i32.const 99))))
        (i32.const 0))"#
        .into()
}

/// Two times eight bytes are not the same.
fn random(_: Peer) -> String {
    r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))

    (func $probe (result i32)
        (drop (call $random (i32.const 8192) (i32.const 8))) (drop (call $random (i32.const 8200) (i32.const 8)))
        (select (i32.const 99) (i32.const 0) (i64.eq (i64.load (i32.const 8192)) (i64.load (i32.const 8200)))))"#
        .into()
}

fn env(_: Peer) -> String {
    variable("PROBE=se")
}

/// Looks for a variable by its first eight bytes.
fn variable(begin: &str) -> String {
    assert_eq!(begin.len(), 8);
    format!(
        r#"(import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))

        (data (i32.const 4096) "{begin}")
        (func $probe (result i32) (local $left i32) (local $at i32)
            (drop (call $sizes (i32.const 8192) (i32.const 8196)))
            (local.set $left (i32.load (i32.const 8192)))
            (local.set $at (i32.const 16384))
            (drop (call $get (local.get $at) (i32.const 32768)))
            (loop $next
                (if (i32.eqz (local.get $left)) (then (return (i32.const 99))))
                (if (i64.eq (i64.load (i32.load (local.get $at))) (i64.load (i32.const 4096)))
                    (then (return (i32.const 0))))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (local.set $at (i32.add (local.get $at) (i32.const 4)))
                (br $next))
            (unreachable))"#
    )
}

/// Opens a file below the first folder that the program was given, which is `/` where there is one, and reads or writes
/// four bytes. Of the memory of a process it is enough that it opens: a write to the address 0 fails in any case.
fn opens(path: &str, writes: bool) -> String {
    let length = path.len();
    // In a volume the file is created. The rights are `fd_write` or `fd_read`.
    let flags = u8::from(path.ends_with("/file"));
    let (rights, used) = if writes { (64, "$write") } else { (2, "$read") };
    let read =
        r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#;
    let import = if writes { "" } else { read };
    let used = if path.ends_with("proc/self/mem") || path == "memory" {
        "(i32.const 0)".to_string()
    } else {
        format!(
            "(i32.store (i32.const 8196) (i32.const 4096)) (i32.store (i32.const 8200) (i32.const 4))
            (local.set $code (call {used} (i32.load (i32.const 8192)) (i32.const 8196) (i32.const 1) (i32.const 8204)))
            (if (local.get $code) (then (return (local.get $code))))
            (select (i32.const 0) (i32.const 99) (i32.load (i32.const 8204)))"
        )
    };
    format!(
        r#"(import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32))) {import}

        (data (i32.const 4096) "{path}")
        (func $probe (result i32) (local $code i32)
            (local.set $code (call $open (i32.const 3) (i32.const 1) (i32.const 4096) (i32.const {length})
                (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 8192)))
            (if (local.get $code) (then (return (local.get $code))))
            {used})"#
    )
}

/// Names of the first folder that the program was given, as many as go into four kilobytes.
fn list(_: Peer) -> String {
    r#"(import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))

    (func $probe (result i32) (local $code i32)
        (local.set $code (call $list (i32.const 3) (i32.const 8192) (i32.const 4096) (i64.const 0) (i32.const 12288)))
        (if (local.get $code) (then (return (local.get $code))))
        (select (i32.const 0) (i32.const 99) (i32.load (i32.const 12288))))"#
        .into()
}

/// Reads the target of a link below the first folder. That of `/proc/self` is relative; engines hide absolute ones.
fn link(_: Peer) -> String {
    r#"(import "wasi_snapshot_preview1" "path_readlink"
        (func $link (param i32 i32 i32 i32 i32 i32) (result i32)))

    (data (i32.const 4096) "proc/self")
    (func $probe (result i32) (local $code i32)
        (local.set $code (call $link (i32.const 3) (i32.const 4096) (i32.const 9) (i32.const 8192) (i32.const 64)
            (i32.const 8320)))
        (if (local.get $code) (then (return (local.get $code))))
        (select (i32.const 0) (i32.const 99) (i32.load (i32.const 8320))))"#
        .into()
}

/// On each of the first eight descriptors.
fn accept(_: Peer) -> String {
    r#"(import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))

    (func $probe (result i32) (local $code i32) (local $at i32)
        (loop $next
            (local.set $code (call $accept (local.get $at) (i32.const 0) (i32.const 8192)))
            (if (i32.eqz (local.get $code)) (then (return (i32.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 8))))
        (local.get $code))"#
        .into()
}

// === WASI 0.2: a result is at the address that the caller gives, its error-code behind it. A code of `wasi:sockets` is
// returned with 1 added, so that 0 stays for what worked. ===

/// Twelve flat values of an `ip-socket-address` of version 4.
fn address(address: [u8; 4], port: u16) -> String {
    let [a, b, c, d] = address;
    let rest = "(i32.const 0) ".repeat(6);
    format!(
        "(i32.const 0) (i32.const {port}) (i32.const {a}) (i32.const {b}) (i32.const {c}) (i32.const {d}) {rest}"
    )
}

/// Returns from `$probe` where the result at 8192 is an error, whose code is so many bytes behind it.
fn unless_failed(distance: u32) -> String {
    format!(
        "(if (i32.load8_u (i32.const 8192))
            (then (return (i32.add (i32.const 1) (i32.load8_u (i32.const {}))))))",
        8192 + distance
    )
}

const NETWORK: &str =
    r#"(import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))"#;

fn tcp(functions: &str, steps: &str) -> String {
    let made = unless_failed(4);
    format!(
        r#"{NETWORK}
        (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket" (func $create (param i32 i32))) {functions}

        (func $probe (result i32) (local $socket i32)
            (call $create (i32.const 0) (i32.const 8192)) {made}
            (local.set $socket (i32.load (i32.const 8196)))
            {steps}
            (i32.const 0))"#
    )
}

const WITH_ADDRESS: &str = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)";

fn connect(peer: Peer) -> String {
    let (to, begun, done) = (address(peer.address, peer.port), unless_failed(1), unless_failed(4));
    tcp(
        &format!(
            r#"(import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.start-connect" (func $start {WITH_ADDRESS}))
            (import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.finish-connect" (func $done (param i32 i32)))
            (import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.subscribe" (func $subscribe (param i32) (result i32)))
            (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#
        ),
        &format!(
            "(call $start (local.get $socket) (call $network) {to} (i32.const 8192)) {begun}
            (call $block (call $subscribe (local.get $socket)))
            (call $done (local.get $socket) (i32.const 8192)) {done}"
        ),
    )
}

fn listen(_: Peer) -> String {
    let (here, failed) = (address([0; 4], 9090), unless_failed(1));
    let functions: String = ["finish-bind", "start-listen", "finish-listen"]
        .map(|name| {
            format!(
                r#"(import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.{name}" (func ${name} (param i32 i32)))"#
            )
        })
        .concat();
    let steps: String = ["finish-bind", "start-listen", "finish-listen"]
        .map(|name| format!("(call ${name} (local.get $socket) (i32.const 8192)) {failed}"))
        .concat();
    tcp(
        &format!(
            r#"(import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.start-bind" (func $bind {WITH_ADDRESS})) {functions}"#
        ),
        &format!("(call $bind (local.get $socket) (call $network) {here} (i32.const 8192)) {failed} {steps}"),
    )
}

fn udp(_: Peer) -> String {
    let (here, made, failed) = (address([0; 4], 9090), unless_failed(4), unless_failed(1));
    format!(
        r#"{NETWORK}
        (import "wasi:sockets/udp-create-socket@0.2.0" "create-udp-socket" (func $create (param i32 i32)))
        (import "wasi:sockets/udp@0.2.0" "[method]udp-socket.start-bind" (func $bind {WITH_ADDRESS}))
        (import "wasi:sockets/udp@0.2.0" "[method]udp-socket.finish-bind" (func $bound (param i32 i32)))

        (func $probe (result i32) (local $socket i32)
            (call $create (i32.const 0) (i32.const 8192)) {made}
            (local.set $socket (i32.load (i32.const 8196)))
            (call $bind (local.get $socket) (call $network) {here} (i32.const 8192)) {failed}
            (call $bound (local.get $socket) (i32.const 8192)) {failed}
            (i32.const 0))"#
    )
}

/// The name of the pod's `hostAliases`, and its address.
fn resolve(peer: Peer) -> String {
    let (asked, answered) = (unless_failed(4), unless_failed(2));
    let (length, wanted) = (PEER.len(), u32::from_le_bytes(peer.address));
    format!(
        r#"{NETWORK}
        (import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses" (func $ask (param i32 i32 i32 i32)))
        (import "wasi:sockets/ip-name-lookup@0.2.0" "[method]resolve-address-stream.subscribe"
            (func $subscribe (param i32) (result i32)))
        (import "wasi:sockets/ip-name-lookup@0.2.0" "[method]resolve-address-stream.resolve-next-address"
            (func $next (param i32 i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))

        (data (i32.const 4096) "{PEER}")
        (func $probe (result i32) (local $answers i32)
            (call $ask (call $network) (i32.const 4096) (i32.const {length}) (i32.const 8192)) {asked}
            (local.set $answers (i32.load (i32.const 8196)))
            (call $block (call $subscribe (local.get $answers)))
            (call $next (local.get $answers) (i32.const 8192)) {answered}
            ;; A result of an option of a variant, each two bytes aligned.
            (if (i32.eqz (i32.load8_u (i32.const 8194))) (then (return (i32.const 99))))
            (select (i32.const 0) (i32.const 98) (i32.eq (i32.load (i32.const 8198)) (i32.const {wanted}))))"#
    )
}

fn request(peer: Peer) -> String {
    let [a, b, c, d] = peer.address;
    requests(&format!("{a}.{b}.{c}.{d}:{}", peer.port))
}

fn request_by_name(peer: Peer) -> String {
    requests(&format!("{PEER}:{}", peer.port))
}

/// Any answer will do.
fn requests(host: &str) -> String {
    let length = host.len();
    format!(
        r#"(import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $new (param i32) (result i32)))
        (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-scheme"
            (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority"
            (func $host (param i32 i32 i32 i32) (result i32)))
        (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query"
            (func $path (param i32 i32 i32 i32) (result i32)))
        (import "wasi:http/outgoing-handler@0.2.0" "handle" (func $handle (param i32 i32 i32 i32)))
        (import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe"
            (func $subscribe (param i32) (result i32)))
        (import "wasi:http/types@0.2.0" "[method]future-incoming-response.get" (func $get (param i32 i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))

        (data (i32.const 4096) "{host}") (data (i32.const 5120) "/v2/")
        (func $probe (result i32) (local $request i32) (local $future i32)
            (local.set $request (call $new (call $fields)))
            (drop (call $scheme (local.get $request) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
            (drop (call $host (local.get $request) (i32.const 1) (i32.const 4096) (i32.const {length})))
            (drop (call $path (local.get $request) (i32.const 1) (i32.const 5120) (i32.const 4)))
            (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 8192))
            (if (i32.load8_u (i32.const 8192)) (then (return (i32.const 97))))
            (local.set $future (i32.load (i32.const 8200)))
            (call $block (call $subscribe (local.get $future)))
            (call $get (local.get $future) (i32.const 8192))
            ;; An option of a result of a result, each eight bytes aligned.
            (if (i32.eqz (i32.load8_u (i32.const 8192))) (then (return (i32.const 96))))
            (if (i32.load8_u (i32.const 8200)) (then (return (i32.const 95))))
            (select (i32.const 94) (i32.const 0) (i32.load8_u (i32.const 8208))))"#
    )
}
