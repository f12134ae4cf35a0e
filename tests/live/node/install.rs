//! The gate as users install it: its image is built without Docker and pushed, the commands of `docs/operations.md` are
//! run as they are written there, and its replicas run on the real node and judge what runs beside them.

mod bundle;
mod recorded;
mod switches;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::{NODE, layers};
use crate::support::control_plane::{ControlPlane, Options};
use crate::support::live_gate::bare_pod;
use crate::support::node::{ADDRESS, Node, lacks_proxy};
use crate::support::oci::{Image, ImageBuilder, fixtures};
use crate::support::process::{own, program, root};
use crate::support::registry::Registry;

/// The registry of the page.
const REGISTRY: &str = "registry.example.com";

/// How many clients ask for pods while something is done.
const CLIENTS: usize = 3;

/// The node that joins to take over what is drained.
const SECOND: &str = "second-with-the-shim";

/// The program in the images: the one that is tested, or `$WASMGATE_TEST_GATE`, such as a release build. An upgrade is to it from
/// `$WASMGATE_TEST_OLDER_GATE`, which `tools/older/build` makes of an earlier commit; without one from the same program in an image
/// of another time.
fn gate() -> String {
    std::env::var("WASMGATE_TEST_GATE").unwrap_or(env!("CARGO_BIN_EXE_wasmgate").into())
}

fn older_gate() -> String {
    std::env::var("WASMGATE_TEST_OLDER_GATE").unwrap_or_else(|_| gate())
}

/// The folder with the manifests of the older program: its own, if it has some beside it.
fn older_root() -> PathBuf {
    let own = Path::new(&older_gate()).parent().unwrap().to_path_buf();
    if own.join("manifests/install").is_dir() { own } else { root().to_path_buf() }
}

struct Installed {
    plane: ControlPlane,
    node: Node,
    registry: Registry,
}

impl Installed {
    /// With both versions of the gate in the registry.
    fn start() -> Self {
        let users = vec![format!("system:node:{SECOND}")];
        let plane =
            ControlPlane::start_with(&Options { node: Some(NODE.into()), users, ..Options::default() });
        let registry = Registry::start_below(plane.home().path());
        let node = std::thread::scope(|scope| {
            let joining = scope.spawn(|| Node::join(&plane, &registry, NODE));
            push_gates(&plane, &registry);
            joining.join().unwrap()
        });
        // With kube-proxy the API server calls the webhooks at the address of their Service, as in a cluster of several machines.
        if let Some(why) = lacks_proxy() {
            println!("the API server looks for the pods of the webhooks itself: {why}");
        }
        fs::create_dir(plane.home().path().join("platform")).unwrap();
        let site = Self { plane, node, registry };
        site.check_out(&older_root());
        site
    }

    /// The folders of the page: `../wasmgate` is the repository, seen from the platform's own folder.
    fn check_out(&self, repository: &Path) {
        let link = self.folder("wasmgate");
        if link.is_symlink() {
            fs::remove_file(&link).unwrap();
        }
        symlink(repository, link).unwrap();
    }

    /// The registry as pods and the node name it.
    fn host(&self) -> String {
        format!("{ADDRESS}:{}", self.registry.host.rsplit(':').next().unwrap())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.plane.home().path().join(name)
    }

    fn push(&self, name: &str, image: &Image) -> String {
        let folder = tempfile::tempdir().unwrap();
        image.write_layout(folder.path(), "1").unwrap();
        let layout = folder.path().to_str().unwrap();
        self.registry.crane(root(), &["push", layout, &self.registry.image(&format!("{name}:1"))]);
        format!("{}/{name}:1", self.host())
    }

    /// Runs commands of the page, which have to succeed; returns them with what they print.
    fn run(&self, folder: &str, commands: &str) -> String {
        let (succeeded, said) = self.tried(folder, commands);
        assert!(succeeded, "{said}\n{}\n{}", self.replicas(), self.node.tail());
        said
    }

    /// Runs commands of the page, with the registry of this test in place of the page's; returns whether they succeed, and them with
    /// what they print.
    fn tried(&self, folder: &str, commands: &str) -> (bool, String) {
        let programs =
            [program("kubectl"), program("helm"), program("opa"), env!("CARGO_BIN_EXE_wasmgate").into()];
        let programs = programs.map(|program| program.parent().unwrap().display().to_string());
        let output = Command::new("sh")
            .args(["-euc", &commands.replace(REGISTRY, &self.host())])
            .current_dir(self.folder(folder))
            .env("PATH", format!("{}:{}", programs.join(":"), std::env::var("PATH").unwrap()))
            .env("KUBECONFIG", self.plane.kubeconfig())
            .env("HOME", self.plane.home().path())
            .output()
            .unwrap();
        let said = format!(
            "{commands}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), said)
    }

    /// What became of the gate's pods, for a failure's message.
    fn replicas(&self) -> String {
        self.plane.kubectl(&["describe", "pods", "--namespace=wasmgate-system"]).stdout
    }

    /// The platform's own folder, as the page describes it.
    fn write_kustomization(&self, tag: &str) {
        let page = section("Install");
        let text = block(&page, "yaml", "apiVersion: kustomize.config.k8s.io/v1beta1");
        let text = text.replace(REGISTRY, &self.host()).replace("newTag: 0.1.0", &format!("newTag: {tag}"));
        fs::write(self.folder("platform/kustomization.yaml"), text).unwrap();
        let config = fs::read_to_string(self.folder("wasmgate/manifests/install/config.yaml")).unwrap();
        let (_, allowed) = page.split_once("`registries: {allow: [").expect("how a registry is allowed");
        let allowed = format!("registries: {{allow: [{}", allowed.split('`').next().unwrap());
        // The registry of this test has no certificate.
        let allowed = allowed.replace("]}", &format!("], insecure: [\"{REGISTRY}\"]}}"));
        let config = config.replacen("images:\n", &format!("images:\n  {allowed}\n"), 1);
        fs::write(self.folder("platform/config.yaml"), config.replace(REGISTRY, &self.host())).unwrap();
    }
}

/// `make image PUSH=…`, but for the release build. The same program in an image of another time has another digest.
fn push_gate(plane: &ControlPlane, registry: &Registry, program: &str, version: &str, time: &str) {
    let mut build = own("tools/image/build", &[]);
    build.args(["--binary", program, "--no-sbom", "--any-size", "--insecure"]);
    build.arg("--out").arg(plane.home().path().join(format!("image-{version}")));
    build.env("SOURCE_DATE_EPOCH", time);
    let name = registry.image(&format!("platform/wasmgate:{version}"));
    let built = build.args(["--push", &name]).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    println!("{said}");
}

/// The older and the newer version, each packed on a processor of its own, since that is what takes long.
fn push_gates(plane: &ControlPlane, registry: &Registry) {
    std::thread::scope(|scope| {
        scope.spawn(|| push_gate(plane, registry, &older_gate(), "0.1.0", "1"));
        push_gate(plane, registry, &gate(), "0.1.1", "2");
    });
}

/// A section of the manual.
fn section(heading: &str) -> String {
    section_of("docs/operations.md", heading)
}

fn section_of(page: &str, heading: &str) -> String {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    section.split("\n## ").next().unwrap().to_string()
}

/// The block of a section that begins like this.
fn block(section: &str, language: &str, start: &str) -> String {
    let fence = format!("```{language}\n");
    let mut blocks = section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .find(|block| block.starts_with(start))
        .unwrap_or_else(|| panic!("no `{start}` in {section}"))
        .into()
}

fn commands(heading: &str, start: &str) -> String {
    block(&section(heading), "sh", start)
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn what_the_manual_says_ends_in_replicas_that_judge_the_pods_beside_them_and_then_in_none() {
    let site = Installed::start();
    let before = site.plane.settled();
    site.write_kustomization("0.1.0");
    site.run("platform", &commands("Install", "kubectl apply -k ."));
    let older = two_replicas_run(&site, &[NODE]);
    they_run_without_rights(&site);
    a_wasm_pod_is_pinned_and_runs(&site);
    a_pod_without_its_grant_is_denied(&site);
    site.check_out(root());
    site.write_kustomization("0.1.1");
    let upgrade = commands("Upgrade", "# with the newer tag in kustomization.yaml\nkubectl apply -k .");
    let load = under_load(&site, "an upgrade", || upgraded(&site, "platform", &upgrade, &older));
    // Before this test writes the page: the label of the image would end in `-dirty`. The test of the chart writes it too, so where the
    // page is written this one is run first, by its name, and what it wrote is committed.
    recorded::what_a_replica_needs(&site);
    recorded::upgrades(recorded::KUSTOMIZE, &[load]);
    switches::give_the_right_to_pull_secrets(&site);
    switches::stop_it_from_refusing_pods_and_have_it_refuse_them_again(&site);
    switches::have_one_rule_only_recorded_and_refuse_by_it_again(&site);
    bundle::is_brought_in_by_kustomize_and_replaced(&site);
    removed(&site, &before);
}

/// The images of both replicas, which run on these nodes and nowhere else.
fn two_replicas_run(site: &Installed, nodes: &[&str]) -> Vec<String> {
    let replicas = site.plane.list(&["pods", "--namespace=wasmgate-system"]);
    assert_eq!(replicas.len(), 2);
    for replica in &replicas {
        assert!(nodes.iter().any(|node| replica["spec"]["nodeName"] == *node), "{replica}");
        assert_eq!(replica["status"]["containerStatuses"][0]["restartCount"], 0, "{replica}");
    }
    let image =
        |replica: &Value| replica["status"]["containerStatuses"][0]["imageID"].as_str().unwrap().to_string();
    replicas.iter().map(image).collect()
}

/// The processes of a pod that are the gate, as this machine sees them.
fn processes_of(uid: &str) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let of_pod = |process: &PathBuf| {
        let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
        read("cgroup").contains(uid) && read("comm").starts_with("wasmgate")
    };
    all.filter(of_pod).collect()
}

/// What the manifest asks for, as the kernel has it.
fn they_run_without_rights(site: &Installed) {
    for replica in site.plane.list(&["pods", "--namespace=wasmgate-system"]) {
        let processes = processes_of(replica["metadata"]["uid"].as_str().unwrap());
        let [process] = processes.as_slice() else { panic!("{processes:?}") };
        let status = fs::read_to_string(process.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
            line.unwrap_or_default().split_whitespace().map(String::from).collect::<Vec<_>>()
        };
        for ids in ["Uid", "Gid"] {
            assert_eq!(field(ids), ["65532"; 4], "{ids}");
        }
        for capabilities in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(field(capabilities), ["0000000000000000"], "{capabilities}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), (vec!["1".into()], vec!["2".into()]));
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
        let of_root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        let options = of_root.split(' ').nth(5).unwrap();
        assert!(options.split(',').any(|option| option == "ro"), "it can write to its root: {of_root}");
        // The scheduler counts on the request, so a replica that has judged little stays below it.
        let requested = &replica["spec"]["containers"][0]["resources"]["requests"]["memory"];
        let requested: u64 = requested.as_str().unwrap().trim_end_matches("Mi").parse().unwrap();
        let needs = needs_of(site, &replica);
        assert!(needs.own < requested << 10, "{} KiB of its own, and {requested}Mi are requested", needs.own);
        println!(
            "a replica: {} KiB resident, of it {} KiB its own; listens {:.2} s after its process began, ready {} s after its container",
            needs.resident, needs.own, needs.listens, needs.ready
        );
    }
}

/// What a replica takes of memory, in KiB, and how long its start took, in seconds.
#[derive(Debug, Clone, Copy)]
struct Needs {
    resident: u64,
    /// Without pages of files.
    own: u64,
    listens: f64,
    ready: i64,
}

fn needs_of(site: &Installed, replica: &Value) -> Needs {
    let processes = processes_of(replica["metadata"]["uid"].as_str().unwrap());
    let [process] = processes.as_slice() else { panic!("{processes:?}") };
    let status = fs::read_to_string(process.join("status")).unwrap();
    let amount = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    Needs {
        resident: amount("VmRSS"),
        own: amount("RssAnon"),
        listens: listens_after(site, replica, process),
        ready: ready_after(replica),
    }
}

/// Seconds from the start of a replica's process until it listens, by its log.
fn listens_after(site: &Installed, replica: &Value, process: &Path) -> f64 {
    let name = replica["metadata"]["name"].as_str().unwrap();
    let log = site.plane.kubectl(&["logs", "--namespace=wasmgate-system", name]).ok();
    let line = log.lines().find(|line| line.contains("\"listening\"")).expect("it says so");
    let line: Value = serde_json::from_str(line).unwrap();
    let listens: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    let ago = jiff::Timestamp::now().duration_since(listens).as_secs_f64();
    // In seconds since the machine's start; of the process in hundredths, its 22nd field (proc_pid_stat(5)).
    let number = |text: Option<&str>| text.unwrap().parse::<f64>().unwrap();
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let stat = fs::read_to_string(process.join("stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    number(uptime.split(' ').next()) - number(fields.split(' ').nth(19)) / 100.0 - ago
}

/// Seconds from the start of a replica's container until it is ready, as the API shows them.
fn ready_after(replica: &Value) -> i64 {
    let time =
        |text: &Value| -> i64 { text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second() };
    let started = &replica["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
    let conditions = replica["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    time(&ready["lastTransitionTime"]) - time(started)
}

fn a_wasm_pod_is_pinned_and_runs(site: &Installed) {
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
        "handler": "wasmtime"});
    site.plane.apply(&class, &[]).ok();
    let image = layers("hello from beside the gate");
    let name = site.push("hello", &image);
    let mut pod = bare_pod(&name, &json!({}));
    pod["metadata"] = json!({"name": "hello", "namespace": "default"});
    pod["spec"]["containers"][0]["args"] = json!(["hello"]);
    // A program that handles no signal runs until then, and a drain waits for it.
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    site.plane.wait_for("the gate to see the class", || {
        let tried = site.plane.apply(&pod, &["--dry-run=server", "--output=json"]);
        (tried.code == 0 && tried.json()["spec"]["runtimeClassName"] == "wasmtime").then_some(())
    });
    site.plane.apply(&pod, &[]).ok();
    let logs = || site.plane.kubectl(&["logs", "--namespace=default", "hello"]).stdout;
    site.plane.wait_for("the pod to say something", || logs().contains("beside the gate").then_some(()));
    let ran = site.plane.get(&["pod", "hello", "--namespace=default"]);
    assert_eq!(ran["spec"]["containers"][0]["image"], format!("{name}@{}", image.digest));
}

fn a_pod_without_its_grant_is_denied(site: &Installed) {
    let name = site.push("opens-files", &ImageBuilder::wasm_artifact(&fixtures::file_command()).build());
    let mut pod = bare_pod(&name, &json!({}));
    pod["metadata"] = json!({"name": "opens-files", "namespace": "default"});
    pod["spec"]["containers"][0]["args"] = json!(["opens-files"]);
    let refused = site.plane.apply(&pod, &[]).refused();
    assert!(refused.contains("[host-process-in-reach]"), "{refused}");
}

/// Runs the commands of an upgrade, and waits until both replicas are of the newer image and the older ones are gone.
fn upgraded(site: &Installed, folder: &str, commands: &str, older: &[String]) {
    site.run(folder, commands);
    site.plane.wait_for("the older replicas to be gone", || {
        (site.plane.list(&["pods", "--namespace=wasmgate-system"]).len() == 2).then_some(())
    });
    let newer = two_replicas_run(site, &[NODE]);
    assert!(newer.iter().all(|image| !older.contains(image)), "{older:?} {newer:?}");
}

/// Of every kind there is what was there before, what this test has made, and what the page says that stays.
fn removed(site: &Installed, before: &BTreeSet<String>) {
    let rights =
        ["page", "reports", "sizes"].map(|name| format!(" -f manifests/components/{name}/rbac.yaml"));
    site.run("wasmgate", &format!("kubectl apply{}", rights.concat()));
    site.run("wasmgate", &commands("Remove", "kubectl delete validatingwebhookconfiguration,"));
    assert_eq!(named(site, AROUND), Vec::<String>::new());
    let left = switches::rights_to_pull_secrets_that_are_left(site);
    assert_eq!(named(site, INSIDE), left, "what the page says, and nothing else");
    let still = site.plane.get(&["pod", "hello", "--namespace=default"]);
    assert_eq!(still["status"]["phase"], "Running", "pods stay as they are");
    let shop = switches::SHOP;
    let of_shop = [
        format!("Namespace /{shop}"),
        format!("ServiceAccount {shop}/default"),
        format!("ConfigMap {shop}/kube-root-ca.crt"),
    ];
    let others = ["Pod default/hello", CLASS, "PersistentVolume /wasmgate-bundles"].map(String::from);
    let rights = left.iter().map(|right| right.replacen('/', &format!(" {shop}/"), 1));
    let made: Vec<String> = of_shop.into_iter().chain(others).chain(rights).collect();
    site.plane.has_only(before, &made);
}

/// The class that the tests make.
const CLASS: &str = "RuntimeClass /wasmtime";

/// Kinds of which the gate may leave an object, in namespaces and around them.
const INSIDE: &str = "all,configmaps,secrets,serviceaccounts,leases,roles,rolebindings,networkpolicies,poddisruptionbudgets,\
                      resourcequotas";
const AROUND: &str = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                      customresourcedefinitions,namespaces";

/// Every object of these kinds with the gate's name in its own.
fn named(site: &Installed, kinds: &str) -> Vec<String> {
    let all = site.plane.list(&[kinds, "--all-namespaces"]).into_iter();
    let named = all.map(|object| {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    });
    let mut left: Vec<String> = named.filter(|name| name.contains("wasmgate")).collect();
    left.sort();
    left
}

// === Helm ===

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_release_of_the_chart_is_upgraded_and_its_node_drained_under_load_without_a_refused_pod_and_then_removed()
{
    let site = Installed::start();
    let before = site.plane.settled();
    let install = commands("Install", "helm install ");
    // The registry of this test has no certificate.
    let insecure = format!(" --set 'config.images.registries.insecure={{{REGISTRY}}}'");
    site.run("wasmgate", &format!("{}{insecure}", install.trim_end()));
    site.run("wasmgate", "kubectl rollout status deployment/wasmgate -n wasmgate-system");
    let older = two_replicas_run(&site, &[NODE]);
    a_wasm_pod_is_pinned_and_runs(&site);
    a_pod_without_its_grant_is_denied(&site);
    site.check_out(root());
    let upgrade = commands("Upgrade", "kubectl apply --server-side ");
    let upgrade = under_load(&site, "an upgrade", || upgraded(&site, "wasmgate", &upgrade, &older));
    bundle::is_brought_in_by_the_chart_and_replaced(&site);
    let stuck = under_load(&site, "a drain that has nowhere to go", || drained_with_nowhere_to_go(&site));
    let _second = Node::join_as(&site.plane, &site.registry, SECOND, 2);
    let drain = under_load(&site, "a drain", || drained(&site));
    recorded::upgrades(recorded::HELM, &[upgrade, stuck, drain]);
    removed_by_helm(&site, &before);
}

/// A client of the API server without a process for every request.
async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Writes down what the replicas say that are there, also once they end. Those that start later are asked in the end.
fn follow(site: &Installed) -> std::process::Child {
    let log = fs::File::create(site.folder("replicas.log")).unwrap();
    let mut logs = Command::new(program("kubectl"));
    logs.args(["logs", "--follow", "--prefix", "--timestamps", "--max-log-requests=9"]);
    logs.args(["--namespace=wasmgate-system", "--selector=app.kubernetes.io/name=wasmgate"]);
    logs.env("KUBECONFIG", site.plane.kubeconfig()).env("HOME", site.plane.home().path());
    logs.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// What the present replicas have said, but for the records of decisions.
fn said_by_now(site: &Installed) -> String {
    let logs = ["logs", "--prefix", "--timestamps", "--tail=-1", "--max-log-requests=9"];
    let of = ["--namespace=wasmgate-system", "--selector=app.kubernetes.io/name=wasmgate"];
    let said = site.plane.kubectl(&[&logs[..], &of[..]].concat());
    let lines = said.stdout.lines().filter(|line| !line.contains("\"decision_id\""));
    lines.map(|line| [line, "\n"].concat()).collect::<String>() + &said.stderr
}

/// How many pods were asked for by dry runs while something was done, none of which was refused.
#[derive(Debug, Clone)]
struct Load {
    what: &'static str,
    asked: usize,
    seconds: f64,
    /// The longest of one, in milliseconds.
    slowest: usize,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, asked, seconds, slowest } = self;
        write!(
            f,
            "{asked} pods were asked for by dry runs in {seconds:.0} s of {what}, none was refused; the slowest took {slowest} ms"
        )
    }
}

/// Asks for pods from several clients while something is done: none may be refused, and none may miss the gate's changes. All are dry runs
/// (`--dry-run=server` of kubectl): both webhooks are called as for any other request, and nothing is stored, so that the node need not
/// run some thousand pods.
fn under_load(site: &Installed, what: &'static str, done: impl FnOnce()) -> Load {
    let mut pod = bare_pod(&format!("{}/hello:1", site.host()), &json!({}));
    pod["spec"]["containers"][0]["args"] = json!(["hello"]);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let (over, asked_for, slowest) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let load = async {
        let pods: Api<Pod> = Api::namespaced(client(&site.plane.kubeconfig()).await, "default");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let one = || async {
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let made = pods.create(&dry_run, &pod).await;
                let sofar = asked_for.fetch_add(1, Ordering::Relaxed);
                let made = made.unwrap_or_else(|error| panic!("after {sofar} pods: {error}"));
                let class = made.spec.unwrap().runtime_class_name;
                assert_eq!(class.as_deref(), Some("wasmtime"), "after {sofar} pods");
                let took = usize::try_from(asked.elapsed().as_millis()).unwrap();
                slowest.fetch_max(took, Ordering::Relaxed);
            }
        };
        futures::future::join_all((0..CLIENTS).map(|_| one())).await;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let mut following = follow(site);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| runtime.block_on(load));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(done));
        let seconds = started.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let loaded = loading.join();
        let _ = following.kill();
        let _ = following.wait();
        if let Err(panic) = outcome.and(loaded) {
            eprintln!("{}", fs::read_to_string(site.folder("replicas.log")).unwrap_or_default());
            eprintln!("what the replicas say that are there now:\n{}", said_by_now(site));
            std::panic::resume_unwind(panic);
        }
        let load = Load {
            what,
            asked: asked_for.load(Ordering::Relaxed),
            seconds,
            slowest: slowest.load(Ordering::Relaxed),
        };
        println!("{load}");
        assert!(load.asked >= 20 * CLIENTS, "{load}");
        load
    })
}

/// There is no other node, so the replica that is evicted stays pending, and the budget keeps the other one.
fn drained_with_nowhere_to_go(site: &Installed) {
    let drain = ["drain", NODE, "--pod-selector=app.kubernetes.io/name=wasmgate", "--delete-emptydir-data"];
    let said = site.plane.kubectl(&[&drain[..], &["--timeout=15s"]].concat());
    assert_ne!(said.code, 0, "{}", said.stdout);
    assert!(said.stderr.contains("violate the pod's disruption budget"), "{}", said.stderr);
    let replicas = site.plane.list(&["pods", "--namespace=wasmgate-system"]);
    let left = replicas.iter().filter(|replica| replica["status"]["phase"] == "Running");
    let ready = |replica: &&Value| replica["status"]["containerStatuses"][0]["ready"] == true;
    assert_eq!(left.filter(ready).count(), 1, "{replicas:#?}");
    site.plane.kubectl(&["uncordon", NODE]).ok();
    site.run("wasmgate", "kubectl rollout status deployment/wasmgate -n wasmgate-system");
}

/// All that a node has goes to another one, and the replicas with it.
fn drained(site: &Installed) {
    let drain = ["drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s"];
    site.plane.kubectl(&drain).ok();
    site.run("wasmgate", "kubectl rollout status deployment/wasmgate -n wasmgate-system");
    two_replicas_run(site, &[SECOND]);
    let left =
        site.plane.list(&["pods", "--all-namespaces", &format!("--field-selector=spec.nodeName={NODE}")]);
    assert_eq!(left, Vec::<Value>::new(), "what is left on the node");
}

/// What Helm leaves is the definitions, and the namespace with the Secret and the Lease and with what was created beside the
/// release, as the page says.
fn removed_by_helm(site: &Installed, before: &BTreeSet<String>) {
    let all = commands("Remove", "# Helm leaves ");
    let (uninstall, rest) = all.split_once("\nkubectl delete namespace").unwrap();
    site.run("wasmgate", uninstall);
    site.plane.wait_for("the replicas to be gone", || {
        site.plane.list(&["pods", "--namespace=wasmgate-system"]).is_empty().then_some(())
    });
    let left = [
        "ConfigMap/wasmgate-bundles",
        "Lease/wasmgate",
        "Secret/wasmgate-bundle-keys",
        "Secret/wasmgate-certs",
    ];
    assert_eq!(named(site, INSIDE), left);
    let definitions = ["clusterwasigrants", "wasiexceptions", "wasigrants", "wasmusages"];
    let definitions = definitions.map(|name| format!("CustomResourceDefinition/{name}.wasmgate.dev"));
    assert_eq!(named(site, AROUND), [&definitions[..], &["Namespace/wasmgate-system".to_string()]].concat());
    site.run("wasmgate", &format!("kubectl delete namespace{rest}"));
    assert_eq!(named(site, AROUND), Vec::<String>::new());
    assert_eq!(named(site, INSIDE), Vec::<String>::new());
    // The pod of this test went with its node.
    let made = [format!("Node /{SECOND}"), CLASS.to_string()];
    site.plane.has_only(before, &made);
}
