//! Pods that really run: a module is pushed, an ordinary manifest is applied, and what the gate wrote is what a kubelet,
//! containerd and runwasi's wasmtime shim, youki or crun run. They need root on Linux and parts that take minutes to build, so they are
//! left out unless they are asked for: `make test-node`.

mod calibrate;
mod capabilities;
mod cgroup;
mod crun;
mod demo;
mod golden;
mod install;
mod machine_code;
mod needs;
mod sizes;
mod trial;
mod warnings;
mod youki;

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Options, Said};
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::node::{Node, curl, lacks_proxy, tail_of_proxy};
use crate::support::oci::{Image, ImageBuilder, fixtures};
use crate::support::probes::{ANNOTATED, CRUN_PROFILE, YOUKI_PROFILE, greeter};
use crate::support::process::{ask_patiently, root};
use crate::support::reads::wait;
use crate::support::registry::Registry;
use crate::support::shared::Shared;

const NODE: &str = "with-the-shim";

/// A cluster with one real node that has the shim and one, without a machine, that has not.
struct Site {
    plane: ControlPlane,
    // Before the registry, from which it pulls.
    node: Node,
    registry: Registry,
    gate: LiveGate,
}

static SITE: Shared<Site> = Shared::new(Site::start);

fn setup() -> Setup {
    let wasmtime = "    - name: wasmtime\n      runtimeClass: wasmtime\n      runs: [module, component, http-component]\n      \
         ambient: runwasi-wasmtime\n      nodeAffinity: [{key: wasmtime, operator: In, values: [provisioned]}]\n";
    // It is off by default.
    let links = "      hardening: {enableServiceLinks: fill}\n";
    let profiles = [wasmtime, YOUKI_PROFILE, CRUN_PROFILE].map(|profile| [profile, links].concat()).concat();
    let placement = "{module: wasmtime, component: wasmtime, http-component: wasmtime}";
    let configuration = format!("runtimes:\n  placement: {placement}\n  profiles:\n{profiles}");
    let class = |name: &str| json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name});
    let classes = ["wasmtime", "youki", "crun", ANNOTATED.class];
    Setup { configuration, objects: classes.map(class).into(), ..Setup::default() }
}

impl Site {
    fn start() -> Self {
        let plane = ControlPlane::start_with(&Options { node: Some(NODE.into()), ..Options::default() });
        let registry = Registry::start_below(plane.home().path());
        let (node, gate) = std::thread::scope(|scope| {
            let joining = scope.spawn(|| Node::join(&plane, &registry, NODE));
            plane.add_node("without", &json!({"kubernetes.io/os": "linux"}));
            let gate = LiveGate::start(&plane, &registry, "gate", &setup());
            (joining.join().unwrap(), gate)
        });
        let site = Self { plane, node, registry, gate };
        let hello = site.push("hello", &layers("hello"));
        site.gate.register(&site.plane, &site.registry.image("hello:1"));
        assert!(hello.starts_with("sha256:"));
        site
    }

    /// Pushes an image as `NAME:1`; returns its digest.
    fn push(&self, name: &str, image: &Image) -> String {
        let tagged = format!("{name}:1");
        if image.manifests.is_empty() {
            let blobs: Vec<&[u8]> = image.blobs.values().map(Vec::as_slice).collect();
            return wait(self.registry.push(&tagged, &blobs, &image.manifest, &image.media_type));
        }
        // What is more than one manifest is left to a program that knows all forms.
        let folder = tempfile::tempdir().unwrap();
        image.write_layout(folder.path(), "1").unwrap();
        let layout = folder.path().to_str().unwrap();
        self.registry.crane(root(), &["push", layout, &self.registry.image(&tagged)]);
        image.digest.clone()
    }

    /// The pod of a Deployment, once its container has said something.
    fn pod_that_said(&self, namespace: &str, app: &str, text: &str) -> Value {
        let selector = format!("--selector=app={app}");
        let asked = || self.plane.list(&["pods", "--namespace", namespace, &selector]).into_iter().next();
        let said = ask_patiently(|| {
            let pod = asked()?;
            let name = pod["metadata"]["name"].as_str()?.to_string();
            let logs = self.plane.kubectl(&["logs", "--namespace", namespace, &name]);
            (logs.stdout.contains(text) && is_reported(&pod)).then_some(pod)
        });
        said.unwrap_or_else(|| panic!("waited for `{text}`\n{}", self.story(namespace)))
    }

    /// What became of the pods of a namespace, for a failure's message.
    fn story(&self, namespace: &str) -> String {
        let pods = self.plane.kubectl(&["get", "pods", "--namespace", namespace, "--output=yaml"]).stdout;
        let events = self.plane.kubectl(&["get", "events", "--namespace", namespace]).stdout;
        format!("{pods}\n{events}\n{}", self.node.tail())
    }

    /// A pod that has ended.
    fn finished(&self, namespace: &str, name: &str) -> Value {
        let ended = ask_patiently(|| {
            let pod = self.plane.get(&["pod", name, "--namespace", namespace]);
            let phase = pod["status"]["phase"].as_str()?.to_string();
            matches!(phase.as_str(), "Succeeded" | "Failed").then_some(pod)
        });
        ended.unwrap_or_else(|| panic!("waited for the end of {name}\n{}", self.story(namespace)))
    }

    fn logs(&self, namespace: &str, name: &str) -> String {
        self.plane.kubectl(&["logs", "--namespace", namespace, name]).ok()
    }

    fn apply(&self, object: &Value) -> Said {
        self.plane.apply(object, &[])
    }
}

/// Whether a pod's status speaks of its first container. The kubelet reports a little later what runs and has logs already.
fn is_reported(pod: &Value) -> bool {
    let status = &pod["status"]["containerStatuses"][0];
    ["imageID", "containerID"].iter().all(|id| status[id].as_str().is_some_and(|id| !id.is_empty()))
}

/// A preview-1 command that prints a line and then waits for ever, a second at a time.
fn speaker(line: &str) -> Vec<u8> {
    let length = line.len() + 1;
    fixtures::wat(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{line}\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                ;; One subscription: the monotonic clock, a second from now.
                (i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000000))
                (loop $again
                    (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 3000)))
                    (br $again))))"#
    ))
}

/// The CNCF artifact.
fn layers(line: &str) -> Image {
    ImageBuilder::wasm_artifact(&speaker(line)).build()
}

/// What a kubelet of this machine pulls.
const fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

fn file_system(line: &str) -> Image {
    let mut image = ImageBuilder::rootfs(platform(), &["/app.wasm"]);
    image.files(&[("app.wasm", &speaker(line))]);
    image.build()
}

/// A component, packed as runwasi's own tool does.
fn component(line: &str) -> Image {
    ImageBuilder::runwasi(&fixtures::componentize(&speaker(line)), "app.wasm").build()
}

/// A Deployment as people write them: nothing in it is about Wasm. The argument is there because the CNCF artifact names no
/// entry point, and containerd starts no container without a command.
fn deployment(namespace: &str, name: &str, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": name, "image": image, "args": [name]}]}}}})
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn an_ordinary_deployment_runs_on_the_shim_by_the_digest_that_was_judged() {
    let site = SITE.get();
    let namespace = site.plane.namespace("ordinary", &json!({}));
    let said = ["hello from a layer", "hello from a file", "hello from a component"];
    let [layer, file, other] = said;
    let images = [("layers", layers(layer)), ("files", file_system(file)), ("component", component(other))];
    for ((name, image), line) in images.iter().zip(said) {
        let digest = site.push(name, image);
        site.apply(&deployment(&namespace, name, &site.registry.image(&format!("{name}:1")))).ok();
        let pod = site.pod_that_said(&namespace, name, line);
        assert_eq!(pod["spec"]["nodeName"], NODE, "{name}");
        assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime", "{name}");
        let status = &pod["status"]["containerStatuses"][0];
        let pulled = status["imageID"].as_str().unwrap();
        assert!(pulled.ends_with(&digest), "{name}: judged {digest}, pulled {pulled}");
        assert!(pod["spec"]["containers"][0]["resources"]["limits"]["memory"].is_string(), "{name}");
        // Not its restarts: on a busy node the shim was seen to miss the layers of an image that was just pulled, to look for
        // files, and to start on the second try.
    }
    let on_the_other = || {
        let all = site.plane.list(&["pods", "--all-namespaces", "--field-selector=spec.nodeName=without"]);
        all.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(on_the_other(), Vec::<String>::new(), "a node without the shim");
    // It would have come there: the scheduler takes that node for one like any other.
    let mut linux = bare_pod(&site.registry.image("pause:1"), &json!({}));
    linux["metadata"] = json!({"name": "for-the-other", "namespace": namespace});
    let unlabelled = json!({"matchExpressions": [{"key": "wasmtime", "operator": "DoesNotExist"}]});
    linux["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [unlabelled]}}});
    site.apply(&linux).ok();
    site.plane.wait_for("the scheduler to bind a Linux pod to the other node", || {
        (on_the_other() == ["for-the-other"]).then_some(())
    });
    let gone = ["delete", "pod", "for-the-other", "--namespace", &namespace, "--force", "--grace-period=0"];
    site.plane.kubectl(&gone).ok();
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_pod_that_is_denied_never_reaches_the_node() {
    let site = SITE.get();
    let namespace = site.plane.namespace("denied", &json!({}));
    let image = ImageBuilder::wasm_artifact(&fixtures::file_command()).build();
    site.push("opens-files", &image);
    let mut pod = bare_pod(&site.registry.image("opens-files:1"), &json!({}));
    pod["metadata"] = json!({"name": "opens-files", "namespace": namespace});
    pod["spec"]["containers"][0]["env"] = json!([{"name": "TOKEN", "value": "x"}]);
    let refused = site.apply(&pod).refused();
    assert!(refused.contains("denied the request") && refused.contains("[needs-grant]"), "{refused}");
    assert_eq!(site.plane.list(&["pods", "--namespace", &namespace]), Vec::<Value>::new());
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_component_that_answers_http_is_reached_through_its_service() {
    let site = SITE.get();
    let namespace = site.plane.namespace("http", &json!({}));
    let greeting = "hello from an HTTP component\n";
    site.push("greeter", &ImageBuilder::wasm_artifact(&greeter(greeting)).build());
    let deployment = deployment(&namespace, "greeter", &site.registry.image("greeter:1"));
    let warned = site.apply(&deployment);
    assert!(warned.stderr.contains("http.inbound"), "{}", warned.stderr);
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "greeter", "namespace": namespace},
        "spec": {"capabilities": [{"name": "http.inbound", "ports": [8080]}]}});
    site.apply(&grant).ok();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "greeter", "namespace": namespace},
        "spec": {"selector": {"app": "greeter"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    site.apply(&service).ok();
    let path = format!("--raw=/api/v1/namespaces/{namespace}/services/greeter:80/proxy/");
    let answer = ask_patiently(|| Some(site.plane.kubectl(&["get", &path])).filter(|said| said.code == 0));
    let answer = answer.unwrap_or_else(|| panic!("no answer\n{}", site.story(&namespace)));
    assert_eq!(answer.stdout, greeting);
    match lacks_proxy() {
        Some(why) => println!("not asked by the address of the Service: {why}"),
        None => by_its_address(&site, &namespace, greeting),
    }
    site.plane.kubectl(&["delete", "deployment", "greeter", "--namespace", &namespace]).ok();
}

/// The API server above looks for the pod itself. On the node it is kube-proxy that leads from the Service's address to the pod, and that
/// does so until the Service is gone.
fn by_its_address(site: &Site, namespace: &str, greeting: &str) {
    let service = site.plane.get(&["service", "greeter", "--namespace", namespace]);
    let url = format!("http://{}/", service["spec"]["clusterIP"].as_str().unwrap());
    let answered = ask_patiently(|| Some(curl(&site.plane, &url)).filter(|said| said.code == 0));
    let answered = answered.unwrap_or_else(|| panic!("no answer at {url}\n{}", tail_of_proxy(&site.plane)));
    assert_eq!(answered.stdout, greeting);
    site.plane.kubectl(&["delete", "service", "greeter", "--namespace", namespace]).ok();
    let gone = ask_patiently(|| (curl(&site.plane, &url).code != 0).then_some(()));
    assert!(gone.is_some(), "it answers without a Service\n{}", tail_of_proxy(&site.plane));
}

/// The shim runs both, each as it would alone.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_linux_container_runs_beside_a_wasm_one_in_a_pod_of_which_the_gate_warns() {
    let site = SITE.get();
    let namespace = site.plane.namespace("mixed", &json!({}));
    let mut image = ImageBuilder::rootfs(platform(), &["/native"]);
    image.files(&[("native", &golden::native())]);
    site.push("sidecar", &image.build());
    site.push("main", &layers("hello from beside Linux"));
    let mut pod = bare_pod(&site.registry.image("main:1"), &json!({}));
    pod["metadata"] = json!({"name": "mixed", "namespace": namespace});
    // A busy node may start the shim before containerd knows the layers of the image, and the kubelet then tries once more.
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    pod["spec"]["containers"][0]["args"] = json!(["main"]);
    let sidecar = json!({"name": "sidecar", "image": site.registry.image("sidecar:1")});
    pod["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
    let applied = site.apply(&pod);
    assert!(applied.stderr.contains("[mixed-pod]"), "{}", applied.stderr);
    applied.ok();
    let said = |container: &str| {
        site.plane.kubectl(&["logs", "--namespace", &namespace, "mixed", "--container", container]).stdout
    };
    site.plane.wait_for("both containers to say something", || {
        (said("app") == "hello from beside Linux\n" && said("sidecar") == "started native /native\n")
            .then_some(())
    });
    let ran = site.plane.get(&["pod", "mixed", "--namespace", &namespace]);
    assert_eq!(ran["spec"]["runtimeClassName"], "wasmtime");
    assert_eq!(ran["spec"]["containers"][1]["resources"], json!({}), "the sidecar keeps its size");
}

/// A program of this machine in an image.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_linux_pod_runs_beside_them_as_it_was_written() {
    let site = SITE.get();
    let namespace = site.plane.namespace("linux", &json!({}));
    let mut image = ImageBuilder::rootfs(platform(), &["/native"]);
    image.files(&[("native", &golden::native())]);
    site.push("native", &image.build());
    let mut pod = bare_pod(&site.registry.image("native:1"), &json!({}));
    pod["metadata"] = json!({"name": "native", "namespace": namespace});
    pod["spec"]["restartPolicy"] = json!("Never");
    // The other node has no machine.
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
    let applied = site.apply(&pod);
    assert_eq!(applied.stderr, "");
    applied.ok();
    let ran = site.finished(&namespace, "native");
    assert_eq!(ran["status"]["phase"], "Succeeded");
    assert!(ran["spec"]["runtimeClassName"].is_null() && ran["spec"]["affinity"].is_null());
    assert_eq!(ran["spec"]["containers"][0]["image"], site.registry.image("native:1"));
    assert_eq!(ran["spec"]["containers"][0]["resources"], json!({}));
    assert_eq!(site.logs(&namespace, "native"), "started native /native\n");
}

/// What the rule `host-process-in-reach` is about, done: the grant that it asks for is not asked for without need.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_program_that_opens_files_is_denied_and_with_the_grant_overwrites_the_process_that_runs_it() {
    let site = SITE.get();
    let namespace = site.plane.namespace("procmem", &json!({}));
    site.push("procmem", &ImageBuilder::wasm_artifact(&fixtures::go("procmem")).build());
    let mut pod = bare_pod(&site.registry.image("procmem:1"), &json!({}));
    pod["metadata"] = json!({"name": "procmem", "namespace": namespace});
    pod["spec"]["containers"][0]["args"] = json!(["procmem"]);
    pod["spec"]["restartPolicy"] = json!("Never");
    let refused = site.apply(&pod).refused();
    assert!(refused.contains("[host-process-in-reach]"), "{refused}");
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "everything", "namespace": namespace}, "spec": {"capabilities": [
            {"name": "native.exec"}, {"name": "env"}, {"name": "fs"}]}});
    site.apply(&grant).ok();
    site.plane.wait_for("the grant to be in force", || (site.apply(&pod).code == 0).then_some(()));
    site.finished(&namespace, "procmem");
    assert_eq!(site.logs(&namespace, "procmem"), "my data is overwritten\n");
}
