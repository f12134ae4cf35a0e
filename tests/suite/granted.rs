//! Deny by default, on generated images, pods and grants, through the compiled rules. What a program can do and no grant
//! covers breaks a rule that names it; what is covered breaks none of them; and what is granted by default is what the
//! image brought, whatever the pod mounts and wherever links lead.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wasmgate::capability::{Capabilities, Capability, Entry, assess, may_reach_files, path};
use wasmgate::grant::cover::{covers, is_default};
use wasmgate::grant::suggest::smallest;
use wasmgate::grant::{GrantedCapability, WasiGrant};
use wasmgate::image::{
    FileClass, ImageFacts, ImageKind, Import, ModuleFacts, Packaging, Program, Shape, SpinApp, SpinComponent,
    WasmFormat,
};
use wasmgate::inspection::{Container, LookupResult};
use wasmgate::policy::{EnforcementAction, Violation};
use wasmgate::runtime::{Family, Profile, Runtimes};
use wasmgate::workload::{self, Kind, Role, Workload};

use crate::support::case::input_under;
use crate::support::{facts, policies};

const CLASS: &str = "tested";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The rules that speak of a capability that no grant covers.
const RULES: [&str; 7] = [
    "grant-expired",
    "host-process-in-reach",
    "native-code",
    "needs-grant",
    "plugin-env",
    "secret-in-reach",
    "unknown-import",
];

// === What is generated ===

/// An image on a runtime in a pod.
#[derive(Debug, Clone)]
struct Scene {
    family: Family,
    image: ImageFacts,
    container: Value,
    spec: Value,
}

/// One grant: what it grants, and whether it is for this pod and still valid.
#[derive(Debug, Clone)]
struct Given {
    item: Value,
    matches: bool,
    expired: bool,
}

fn import((interface, functions): (&str, Vec<&str>)) -> Import {
    Import { interface: interface.into(), functions: functions.into_iter().map(String::from).collect() }
}

fn module_of(format: WasmFormat, imports: Vec<Import>) -> ModuleFacts {
    let export = if format == WasmFormat::Module { "_start" } else { "wasi:cli/run@0.2.6" };
    ModuleFacts {
        format,
        imports,
        exports: [export.to_string()].into(),
        code_bytes: 1,
        size_bytes: 2,
        ..facts::module()
    }
}

fn core_module() -> impl Strategy<Value = ModuleFacts> {
    const WASI: [&str; 11] = [
        "args_get",
        "environ_get",
        "fd_readdir",
        "fd_write",
        "path_filestat_get",
        "path_open",
        "proc_fork",
        "random_get",
        "sock_connect",
        "sock_listen",
        "sock_open",
    ];
    const OTHERS: [(&str, &str); 3] =
        [("acme_gpu", "draw"), ("wasi_ephemeral_nn", "load"), ("wasi", "thread-spawn")];
    let wasi = subsequence(WASI.to_vec(), 0..=WASI.len());
    let others = subsequence(OTHERS.to_vec(), 0..=OTHERS.len());
    (wasi, others).prop_map(|(wasi, others)| {
        let others = others.into_iter().map(|(interface, function)| (interface, vec![function]));
        let imports = [("wasi_snapshot_preview1", wasi)].into_iter().chain(others).map(import);
        module_of(WasmFormat::Module, imports.collect())
    })
}

fn component() -> impl Strategy<Value = ModuleFacts> {
    const IMPORTS: [(&str, &str); 11] = [
        ("wasi:filesystem/types@0.2.6", "[method]descriptor.open-at"),
        ("wasi:filesystem/types@0.2.6", "[method]descriptor.symlink-at"),
        ("wasi:filesystem/types@0.2.6", "[method]descriptor.read-directory"),
        ("wasi:sockets/tcp@0.2.6", "[method]tcp-socket.start-connect"),
        ("wasi:sockets/ip-name-lookup@0.2.6", "resolve-addresses"),
        ("wasi:http/outgoing-handler@0.2.6", "handle"),
        ("wasi:cli/environment@0.2.6", "get-environment"),
        ("acme:gpu/device@0.1.0", "draw"),
        ("spin:key-value/key-value@3.0.0", "get"),
        ("spin:variables/variables@3.0.0", "get"),
        ("fermyon:spin/redis@2.0.0", "publish"),
    ];
    subsequence(IMPORTS.to_vec(), 0..=IMPORTS.len()).prop_map(|imports| {
        let mut whole: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (interface, function) in imports {
            whole.entry(interface).or_default().push(function);
        }
        module_of(WasmFormat::Component, whole.into_iter().map(import).collect())
    })
}

fn texts(list: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(list.to_vec(), 0..=list.len()).prop_map(|some| some.into_iter().map(String::from).collect())
}

/// What a manifest of Spin hands to its component; with sources if the application is in a root file system.
fn spin_component() -> impl Strategy<Value = SpinComponent> {
    const FILES: [(&str, &str); 5] =
        [("static", "/www"), ("/data", "/d"), ("/proc", "/p"), ("w", "/linked"), ("/", "/all")];
    let files = (subsequence(FILES.to_vec(), 0..=FILES.len()), any::<bool>());
    let hosts = texts(&[
        "https://a.example.com",
        "https://{{ host }}",
        "http://other.spin.internal",
        "redis://cache",
    ]);
    (files, hosts, texts(&["orders"]), texts(&["token", "host"]), texts(&["MODE"])).prop_map(
        |((files, rootfs), hosts, stores, variables, env)| SpinComponent {
            id: "web".into(),
            digest: Some("/app.wasm".into()),
            files: files.iter().map(|(_, place)| (*place).to_string()).collect(),
            sources: files.iter().map(|(source, _)| (*source).to_string()).filter(|_| rootfs).collect(),
            allowed_outbound_hosts: hosts.into_iter().map(Into::into).collect(),
            key_value_stores: stores,
            triggers: ["http".to_string()].into(),
            variables,
            env,
            ..SpinComponent::default()
        },
    )
}

fn image() -> impl Strategy<Value = ImageFacts> {
    const LINKS: [(&str, &str); 3] = [("/p", "/proc"), ("/q", "/"), ("/w", "data")];
    let program = prop_oneof![
        core_module().prop_map(|module| (ImageKind::Module, module, None)),
        component().prop_map(|module| (ImageKind::Component, module, None)),
        (component(), spin_component()).prop_map(|(module, component)| (
            ImageKind::SpinApp,
            module,
            Some(component)
        )),
    ];
    (program, subsequence(LINKS.to_vec(), 0..=LINKS.len()), texts(&["FROM_IMAGE"])).prop_map(
        |((kind, mut module, component), links, env)| {
            module.component = component.as_ref().map(|component| component.id.clone());
            let link = |(name, target): &(&str, &str)| {
                ((*name).to_string(), FileClass::Link { target: (*target).to_string() })
            };
            let mut files: Vec<_> =
                links.iter().map(link).chain([("/app.wasm".into(), FileClass::Wasm)]).collect();
            files.sort_by(|a, b| a.0.cmp(&b.0));
            ImageFacts {
                shape: if component.is_some() { Shape::SpinRootfs } else { Shape::ScratchRootfs },
                entrypoint: vec!["/app.wasm".into()],
                spin: component.map(|component| SpinApp {
                    name: "shop".into(),
                    triggers: component.triggers.clone(),
                    components: vec![component],
                    ..SpinApp::default()
                }),
                modules: vec![module],
                scanned: true,
                files,
                env,
                ..facts::image("sha256:aa", kind)
            }
        },
    )
}

fn container() -> impl Strategy<Value = Value> {
    const MOUNTS: [(&str, &str); 8] = [
        ("claim", "/data"),
        ("config", "/data/in"),
        ("secret", "/etc/app"),
        ("secret", "/w/keys"),
        ("config", "/q/opt"),
        ("claim", "/"),
        ("secret", "/.env"),
        ("config", "/runtime-config.toml"),
    ];
    let of_secret =
        |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
    let env = vec![
        json!({"name": "PLAIN", "value": "x"}),
        json!({"name": "HOST", "value": "b.example.com"}),
        json!({"name": "WASMEDGE_PLUGIN_PATH", "value": "/data"}),
        of_secret("KEY"),
        of_secret("TOKEN"),
    ];
    let env_from = vec![
        json!({"secretRef": {"name": "s"}}),
        json!({"prefix": "CONFIG_", "configMapRef": {"name": "c"}}),
    ];
    let mounts = subsequence(MOUNTS.to_vec(), 0..=4);
    let folder = prop::option::of(prop::sample::select(vec!["/", "/data", "/data/in", "/w", "/proc/self"]));
    let env = (subsequence(env, 0..=5), subsequence(env_from, 0..=2));
    (mounts, any::<bool>(), folder, env, any::<bool>()).prop_map(
        |(mounts, read_only, folder, (env, env_from), secret_argument)| {
            let mount =
                |(name, at): (&str, &str)| json!({"name": name, "mountPath": at, "readOnly": read_only});
            let mut container = json!({"name": "app", "image": "ghcr.io/org/app:v1", "env": env,
                "envFrom": env_from, "volumeMounts": mounts.into_iter().map(mount).collect::<Vec<_>>()});
            if let Some(folder) = folder {
                container["workingDir"] = json!(folder);
            }
            if secret_argument {
                container["args"] = json!(["--key=$(KEY)"]);
            }
            container
        },
    )
}

fn scenes() -> impl Strategy<Value = Scene> {
    let family = prop::sample::select([&Family::DESCRIBED[..], &[Family::Everything]].concat());
    let spec = (any::<bool>(), any::<bool>()).prop_map(|(token, host_network)| {
        json!({"runtimeClassName": CLASS, "serviceAccountName": "app", "enableServiceLinks": false,
            "automountServiceAccountToken": token, "hostNetwork": host_network,
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "config", "configMap": {"name": "c"}},
                {"name": "secret", "secret": {"secretName": "s"}}]})
    });
    (family, image(), container(), spec).prop_map(|(family, mut image, container, mut spec)| {
        // A volume at the root hides the links of the image.
        if container["volumeMounts"].as_array().unwrap().iter().any(|mount| mount["mountPath"] == "/") {
            image.files.retain(|(_, class)| !matches!(class, FileClass::Link { .. }));
        }
        spec["containers"] = json!([container]);
        Scene { family, image, container, spec }
    })
}

fn given() -> impl Strategy<Value = Given> {
    let items = vec![
        json!({"name": "fs", "paths": ["/data"]}),
        json!({"name": "fs", "access": "read-only"}),
        json!({"name": "fs", "secrets": true}),
        json!({"name": "fs", "paths": [TOKEN], "secrets": true, "access": "read-only"}),
        json!({"name": "env", "names": ["PLAIN", "K*"], "secrets": true}),
        json!({"name": "env"}),
        json!({"name": "net.tcp.connect", "hosts": ["tcp://db:5432"]}),
        json!({"name": "net.tcp.connect"}),
        json!({"name": "http.outbound", "hosts": ["https://*.example.com"]}),
        json!({"name": "http.inbound", "ports": [80]}),
        json!({"name": "trigger", "names": ["http"]}),
        json!({"name": "unknown-import", "names": ["acme*"]}),
        json!({"name": "native.exec"}),
        json!({"name": "native.plugin"}),
        json!({"name": "config", "names": ["tok*"], "secrets": true}),
    ];
    (prop::sample::select(items), prop::bool::weighted(0.8), prop::bool::weighted(0.2))
        .prop_map(|(item, matches, expired)| Given { item, matches, expired })
}

// === The gate's side ===

impl Scene {
    fn runtimes(&self) -> Runtimes {
        let kinds = [ImageKind::Module, ImageKind::Component, ImageKind::HttpComponent, ImageKind::SpinApp];
        let tested = Profile {
            name: CLASS.into(),
            runtime_class: CLASS.into(),
            aliases: [].into(),
            runs: kinds.into(),
            ambient: self.family,
            ..Runtimes::default().profiles.remove(0)
        };
        Runtimes { profiles: vec![tested], placement: kinds.map(|kind| (kind, CLASS.to_string())).into() }
    }

    fn pod(&self) -> Value {
        let metadata = json!({"name": "app", "namespace": "shop"});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.spec})
    }

    fn found(&self) -> LookupResult {
        let packaging = Packaging::RootFilesystem;
        let program = Program::Wasm { kind: self.image.kind, packaging, modules: vec![0] };
        LookupResult::Known { facts: Arc::new(self.image.clone()), program }
    }

    /// The pod as it is read, and its container.
    fn judged(&self) -> (Workload, Container) {
        let pod = workload::read(&self.pod().to_string(), Kind::Pod, "shop").unwrap();
        let image = "ghcr.io/org/app:v1".to_string();
        (pod, Container { role: Role::Container, index: 0, name: "app".into(), image, lookup: self.found() })
    }

    fn capabilities(&self) -> Capabilities {
        let (pod, container) = self.judged();
        assess(&pod, &container, self.runtimes().profiles.first())
    }

    /// Whether a file is in one of the lists.
    fn has_files(&self) -> bool {
        let found = self.capabilities();
        found.ambient.iter().chain(&found.effective).any(|entry| entry.capability == Capability::Fs)
    }
}

/// The grants as documents, which the loader reads, with the items of those that are valid and that were.
fn documents(given: &[Given]) -> (Vec<Value>, [Vec<GrantedCapability>; 2]) {
    let (mut documents, mut items) = (Vec::new(), [Vec::new(), Vec::new()]);
    for (number, Given { item, matches, expired }) in given.iter().enumerate() {
        let account = if *matches { "app" } else { "other" };
        let mut document = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
            "metadata": {"name": format!("g{number}"), "namespace": "shop"},
            "spec": {"subjects": {"serviceAccounts": [account]}, "capabilities": [item]}});
        if *expired {
            document["spec"]["expiresAt"] = json!("2026-01-01T00:00:00Z");
        }
        if *matches {
            let grant: WasiGrant = serde_json::from_value(document.clone()).unwrap();
            items[usize::from(*expired)].extend(grant.spec.capabilities);
        }
        documents.push(document);
    }
    (documents, items)
}

/// What the compiled rules find.
fn violations(scene: &Scene, grants: Vec<Value>) -> Vec<Violation> {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    let baseline = RUNTIME.block_on(policies::baseline());
    let input =
        input_under(&scene.runtimes(), &scene.pod(), vec![scene.found()], grants, &BTreeMap::default());
    let evaluation = RUNTIME.block_on(baseline.evaluate(&input));
    assert_eq!(evaluation.failures, []);
    evaluation.violations
}

// === What must hold ===

/// The rule that reports an entry that no grant covers.
fn rule_of(entry: &Entry, has_expired: bool) -> &'static str {
    match entry.capability {
        Capability::NativeExec if !entry.opens => "native-code",
        _ if has_expired => "grant-expired",
        _ if entry.opens => "host-process-in-reach",
        Capability::UnknownImport => "unknown-import",
        Capability::NativePlugin => "plugin-env",
        Capability::Fs if entry.secret => "secret-in-reach",
        _ => "needs-grant",
    }
}

/// Whether a violation is about an entry: by its rule, capability and what it names. Who writes into the process that runs
/// the program has all that it has, so that one violation stands for what opening files gives.
fn is_about(violation: &Violation, entry: &Entry, rule: &str) -> bool {
    let capability = violation.capability.as_deref();
    if violation.rule != rule || violation.container.as_deref() != Some("app") {
        return false;
    }
    if rule == "host-process-in-reach" && capability == Some(Capability::NativeExec.as_str()) {
        return true;
    }
    let host = entry.host.clone().map(String::from).filter(|host| host != "*://*:*");
    let port = entry.port.map(|port| port.to_string());
    let named = [entry.name.clone(), entry.path.clone(), host, port];
    let silent = rule == "native-code";
    capability == Some(entry.capability.as_str())
        && named.iter().flatten().all(|text| silent || violation.message.contains(&format!("`{text}`")))
}

fn check(scene: &Scene, given: &[Given]) -> Result<usize, TestCaseError> {
    let (grants, [valid, expired]) = documents(given);
    let effective = scene.capabilities().effective;
    let found = violations(scene, grants);
    let by = |items: &[GrantedCapability], entry: &Entry| items.iter().any(|item| covers(item, entry));
    let (covered, open): (Vec<&Entry>, Vec<&Entry>) =
        effective.iter().partition(|entry| is_default(entry) || by(&valid, entry));
    let open: Vec<(&Entry, &str)> =
        open.into_iter().map(|entry| (entry, rule_of(entry, by(&expired, entry)))).collect();
    for (entry, rule) in &open {
        let told = found.iter().any(|violation| is_about(violation, entry, rule));
        prop_assert!(told, "nothing says `{rule}` of {entry:?}: {found:?}");
    }
    let spoken = found.iter().filter(|v| RULES.contains(&v.rule.as_str()));
    for violation in spoken.filter(|v| v.action != Some(EnforcementAction::Warn)) {
        let grounds = open.iter().any(|(entry, rule)| is_about(violation, entry, rule));
        prop_assert!(grounds, "{violation:?} speaks of nothing that is open; covered is {covered:?}");
    }
    Ok(open.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_no_grant_covers_breaks_a_rule_that_names_it_and_what_is_covered_breaks_none(
        scene in scenes(), mut given in prop::collection::vec(given(), 0..6), granted in any::<u64>()
    ) {
        check(&scene, &given)?;
        // Some of what the program can do, by the line that the refusal shows.
        let chosen = scene.capabilities().effective;
        let chosen = chosen.iter().enumerate().filter(|(number, _)| granted >> (number % 64) & 1 == 1);
        given.extend(chosen.map(|(_, entry)| {
            Given { item: json!(smallest(entry)), matches: true, expired: false }
        }));
        check(&scene, &given)?;
    }

    /// The line that a refusal shows mends it: with all of them, no rule speaks of a capability but that of native code
    /// in the image, which no grant mends.
    #[test]
    fn the_grants_that_refusals_show_leave_nothing_open(scene in scenes()) {
        let all = scene.capabilities().effective;
        let all: Vec<Given> =
            all.iter().map(|entry| Given { item: json!(smallest(entry)), matches: true, expired: false }).collect();
        prop_assert_eq!(check(&scene, &all)?, 0);
    }

    /// Half of the applications are on Spin, and without files of their own: it says so of no others.
    #[test]
    fn a_program_that_reaches_no_files_for_certain_has_none_in_its_lists(
        mut scene in scenes(), without in any::<bool>(), more in any::<[bool; 2]>()
    ) {
        for app in scene.image.spin.iter_mut().filter(|_| without) {
            scene.family = Family::Spin;
            for component in &mut app.components {
                (component.files, component.sources) = (Vec::new(), Vec::new());
                if more[0] {
                    component.sqlite_databases.push("default".into());
                }
                if more[1] {
                    component.allowed_outbound_hosts.push("mysql://db".into());
                }
            }
        }
        let (pod, container) = scene.judged();
        let may = may_reach_files(&pod, &container, &scene.runtimes().profiles[0]);
        prop_assert!(may || !scene.has_files(), "{:?}", scene.capabilities());
    }

    #[test]
    fn what_is_granted_by_default_is_what_is_reached_and_not_where_it_was_declared(scene in scenes()) {
        let found = scene.capabilities();
        let files: Vec<&Entry> = found.effective.iter().filter(|e| e.capability == Capability::Fs).collect();
        let known = scene.leads_to_known_places();
        if scene.opens_files() && (known || scene.family != Family::Spin && scene.family != Family::CrunWasmtime) {
            for (place, secret) in scene.reached() {
                let told = files.iter().any(|entry| {
                    !entry.own && entry.secret >= secret
                        && entry.path.as_deref().is_none_or(|tree| path::covers(tree, &place))
                });
                prop_assert!(told, "the mount at {} is reached: {:?}", place, files);
            }
            if scene.shows_the_kernel() {
                let opened = |capability| found.effective.iter().any(|e| e.opens && e.capability == capability);
                prop_assert!(opened(Capability::Env), "{files:?}");
                let writes = scene.image.kind != ImageKind::SpinApp;
                prop_assert_eq!(opened(Capability::NativeExec), writes, "{:?}", files);
            }
        }
        let is_told = known || scene.family != Family::Spin && scene.family != Family::CrunWasmtime;
        if scene.takes_paths() && scene.shows_the_kernel() && is_told {
            let told = files.iter().any(|entry| {
                let tree = entry.path.as_deref().unwrap_or("/");
                !entry.own && (path::covers("/proc", tree) || path::covers(tree, "/proc"))
            });
            prop_assert!(told, "a path leads to `/proc`: {:?}", files);
        }
        if let Some(roots) = scene.roots().filter(|_| known) {
            // What is the kernel's has its place there, wherever a program sees it.
            let of_kernel = |entry: &Entry| entry.evidence.iter().any(|why| why.contains("is the kernel's"));
            for entry in files.iter().filter(|entry| !entry.own && !entry.opens && !of_kernel(entry)) {
                let tree = entry.path.as_deref().unwrap_or("/");
                prop_assert!(roots.iter().any(|root| path::covers(&root.seen, tree)), "{entry:?} is reached by none");
            }
        }
        for entry in files.iter().filter(|entry| entry.own) {
            prop_assert!(!entry.secret && !entry.opens, "{entry:?}");
            // Each file of Spin's is looked for in two places, and the kubelet mounts its log over any volume.
            let apart = scene.family == Family::Spin || entry.path.as_deref() == Some("/dev/termination-log");
            let replaced = |(at, _): &(String, bool)| path::covers(at, entry.path.as_deref().unwrap_or("/"));
            prop_assert!(apart || !scene.mounts().iter().any(replaced), "{entry:?} is what a mount replaced");
        }
    }
}

/// A folder that a runtime opens for the program, and the path at which the program sees it.
struct Root {
    real: String,
    seen: String,
}

/// A second model of what is reached, in terms of the pod and the links of the image.
impl Scene {
    fn opens_files(&self) -> bool {
        let openers = ["path_open", "[method]descriptor.open-at"];
        self.image
            .modules
            .iter()
            .flat_map(|module| &module.imports)
            .any(|import| openers.iter().any(|opener| import.functions.contains(*opener)))
    }

    /// Whether it reaches something by its path, be it that it opens nothing.
    fn takes_paths(&self) -> bool {
        let is_path = |function: &String| function.starts_with("path_") || function.ends_with("-at");
        self.image
            .modules
            .iter()
            .flat_map(|module| &module.imports)
            .any(|import| import.functions.iter().any(is_path))
    }

    /// A path with the links of the image followed; `/proc/self` and the like are not links of the image.
    fn real(&self, written: &str) -> String {
        let mut at = written.to_string();
        for _ in 0..10 {
            let link = self.image.files.iter().find_map(|(name, class)| match class {
                FileClass::Link { target } => {
                    let rest = at.strip_prefix(name.as_str())?;
                    (rest.is_empty() || rest.starts_with('/')).then(|| format!("/{target}/{rest}"))
                }
                _ => None,
            });
            at = clean(&link.unwrap_or_else(|| at.clone()));
        }
        at
    }

    /// Whether no folder is opened by way of a volume that may hold links, or of `/proc`: what is not known counts as any.
    fn leads_to_known_places(&self) -> bool {
        let mounts = self.container["volumeMounts"].as_array().unwrap();
        self.container["workingDir"] != "/proc/self" && mounts.iter().all(|mount| mount["name"] != "claim")
    }

    /// What the runtime opens for this kind of program; `None` where everything is assumed to be open.
    fn roots(&self) -> Option<Vec<Root>> {
        let directory = self.container["workingDir"].as_str().unwrap_or("/");
        let all = || Root { real: "/".into(), seen: "/".into() };
        let opened = |real: String, seen: &str| Root { real, seen: clean(seen) };
        let module = self.image.kind == ImageKind::Module;
        // Exhaustive, so that a new family has to be placed.
        match self.family {
            Family::RunwasiWasmtime => {
                (module || self.image.kind == ImageKind::Component).then(|| vec![all()])
            }
            Family::RunwasiWasmedge
            | Family::RunwasiWasmer
            | Family::RunwasiWamr
            | Family::CrunWasmedge
            | Family::CrunWamr => module.then(|| vec![all()]),
            Family::CrunWasmtime => module.then(|| {
                let real = self.real(directory);
                vec![Root { seen: real.clone(), real }]
            }),
            Family::CrunWasmer | Family::YoukiWasmtime => module.then(Vec::new),
            Family::Spin => {
                let component = &self.image.spin.as_ref()?.components[0];
                let sources = component.sources.iter().zip(&component.files);
                let both = |(source, seen): (&String, &String)| {
                    [format!("/{source}"), format!("{directory}/{source}")]
                        .map(|source| opened(self.real(&clean(&source)), seen))
                };
                (self.image.kind == ImageKind::SpinApp).then(|| sources.flat_map(both).collect())
            }
            Family::Retired | Family::Everything => None,
        }
    }

    /// Where the mounts are, and whether they hold a secret.
    fn mounts(&self) -> Vec<(String, bool)> {
        let mut mounts: Vec<(String, bool)> = Vec::new();
        for mount in self.container["volumeMounts"].as_array().unwrap() {
            mounts.push((self.real(mount["mountPath"].as_str().unwrap()), mount["name"] == "secret"));
        }
        if self.spec["automountServiceAccountToken"] == true {
            mounts.push((TOKEN.into(), true));
        }
        mounts
    }

    /// The mounts that the program reaches, by the path at which it sees them, and whether they hold a secret.
    fn reached(&self) -> Vec<(String, bool)> {
        let mounts = self.mounts();
        let mut reached = Vec::new();
        for root in self.roots().unwrap_or_default() {
            for (at, secret) in mounts.iter().filter(|(at, _)| path::covers(&root.real, at)) {
                let rest = at.strip_prefix(root.real.trim_end_matches('/')).unwrap_or_default();
                reached.push((clean(&format!("{}/{rest}", root.seen)), *secret));
            }
            let around = mounts.iter().filter(|(at, _)| path::covers(at, &root.real) && *at != root.real);
            if let Some((_, secret)) = around.max_by_key(|(at, _)| at.len()) {
                reached.push((root.seen.clone(), *secret));
            }
        }
        reached
    }

    /// Whether `/proc` is in what the runtime opens.
    fn shows_the_kernel(&self) -> bool {
        let roots = self.roots().unwrap_or_default();
        let shows = |root: &Root| path::covers(&root.real, "/proc") || path::covers("/proc", &root.real);
        roots.iter().any(shows)
    }
}

fn clean(written: &str) -> String {
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

/// What stands for more entries than are listed has no path, and is told too.
#[test]
fn a_flood_of_secrets_is_told() {
    let mounts: Vec<Value> =
        (0..600).map(|number| json!({"name": "secret", "mountPath": format!("/keys/{number}")})).collect();
    let container = json!({"name": "app", "image": "ghcr.io/org/app:v1", "volumeMounts": mounts});
    let spec = json!({"runtimeClassName": CLASS, "serviceAccountName": "app", "automountServiceAccountToken": false,
        "volumes": [{"name": "secret", "secret": {"secretName": "s"}}], "containers": [container]});
    let image = ImageFacts {
        shape: Shape::ScratchRootfs,
        entrypoint: vec!["/app.wasm".into()],
        modules: vec![module_of(
            WasmFormat::Module,
            vec![import(("wasi_snapshot_preview1", vec!["path_open"]))],
        )],
        files: vec![("/app.wasm".into(), FileClass::Wasm)],
        scanned: true,
        ..facts::image("sha256:aa", ImageKind::Module)
    };
    let scene = Scene { family: Family::RunwasiWasmtime, image, container, spec };
    let effective = scene.capabilities().effective;
    assert!(effective.iter().any(|e| e.capability == Capability::Fs && e.secret && e.path.is_none()));
    check(&scene, &[]).unwrap();
    let one = Given {
        item: json!({"name": "fs", "paths": ["/keys/0"], "secrets": true}),
        matches: true,
        expired: false,
    };
    check(&scene, &[one]).unwrap();
}
