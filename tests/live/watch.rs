//! The current snapshot of a cluster on a real API server: the gate's own program follows what `kubectl` applies, as a
//! ServiceAccount with no more rights than it needs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use wasmgate::image::Depth;
use wasmgate::lookup::{self, Inspector};
use wasmgate::registry::Puller;
use wasmgate::registry::guard::GuardOptions;
use wasmgate::watch::{self, Base, Watching};

use crate::support::control_plane::{ControlPlane, Part};
use crate::support::live_gate::{LiveGate, Setup, bare_pod};
use crate::support::process::{ask_patiently, root, until};
use crate::support::registry::{OCI_MANIFEST, PASSWORD, Registry, USER, digest};
use crate::support::shared::Shared;
use crate::support::watch::{AMPLE, Watch, docker_config_for, eventually, options};

/// One control plane for the tests that stop no part of it.
static PLANE: Shared<ControlPlane> = Shared::new(|| {
    let plane = ControlPlane::start();
    prepare(&plane);
    plane
});

/// The gate's namespace, an account for each test, and the definitions of its kinds.
fn prepare(plane: &ControlPlane) {
    let definitions = root().join("manifests/crds");
    plane.kubectl(&["apply", "--filename", definitions.to_str().unwrap()]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "--all", "crd", "--timeout=60s"]).ok();
    plane.kubectl(&["create", "namespace", "wasmgate-system"]).ok();
    for account in ["wasmgate", "puller"] {
        plane.kubectl(&["create", "serviceaccount", account, "--namespace=wasmgate-system"]).ok();
    }
}

/// All rights that the watches need.
fn allow_watches(plane: &ControlPlane, account: &str) {
    let verbs = json!(["list", "watch"]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "wasmgate-watch"}, "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "limitranges", "serviceaccounts"], "verbs": verbs},
            {"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "verbs": verbs},
            {"apiGroups": ["wasmgate.dev"], "verbs": verbs,
                "resources": ["wasigrants", "clusterwasigrants", "wasiexceptions"]}]});
    plane.apply(&role, &[]).ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "wasmgate-system"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "wasmgate-watch"}});
    plane.apply(&binding, &[]).ok();
}

/// Path, status and body of a plain GET.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_string())
}

fn class(name: &str, handler: &str) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler})
}

/// A running gate that watches as its own ServiceAccount, behind a registry with the sample `files`.
struct Live {
    gate: LiveGate,
    image: String,
    namespace: String,
    _registry: Registry,
}

impl Live {
    fn start(plane: &ControlPlane) -> Self {
        let registry = Registry::start_below(plane.home().path());
        let image = registry.image("samples/files:1");
        let layout = root().join("manifests/samples/images/files");
        registry.crane(Path::new("."), &["push", layout.to_str().unwrap(), &image]);
        let kubeconfig = plane.account("wasmgate-system", "wasmgate");
        let flags = vec![format!("--kubeconfig={}", kubeconfig.display())];
        let gate = LiveGate::start(plane, &registry, "watching", &Setup { flags, ..Setup::default() });
        let namespace = plane.namespace("shop", &json!({}));
        Self { gate, image, namespace, _registry: registry }
    }

    fn readiness(&self) -> (u16, String) {
        get(&self.gate.probes, "/readyz")
    }

    /// A pod that hands a volume to its program, which needs a grant.
    fn pod(&self) -> Value {
        let mut pod = bare_pod(&self.image, &json!({}));
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        pod
    }

    /// The API server's answer to the pod now; an error is the reason of a refusal.
    fn ask(&self, plane: &ControlPlane) -> Result<(Value, String), String> {
        let said = plane.create(&self.pod(), &["--dry-run=server", "--namespace", &self.namespace]);
        if said.code == 0 { Ok((said.clone().json(), said.stderr)) } else { Err(said.stderr) }
    }

    fn until<T>(
        &self,
        plane: &ControlPlane,
        what: &str,
        wanted: impl Fn(&Result<(Value, String), String>) -> Option<T>,
    ) -> T {
        let mut asked = None;
        let found = ask_patiently(|| wanted(asked.insert(self.ask(plane))));
        found.unwrap_or_else(|| panic!("never {what}: {asked:?}\n{}", self.gate.tail()))
    }

    fn until_refused(&self, plane: &ControlPlane, words: &str) {
        self.until(plane, words, |asked| {
            asked.as_ref().err().filter(|error| error.contains(words)).map(|_| ())
        });
    }

    fn until_admitted(&self, plane: &ControlPlane, what: &str) -> Value {
        self.until(plane, what, |asked| asked.as_ref().ok().map(|(pod, _)| pod.clone()))
    }
}

#[test]
fn without_a_restart_the_gate_follows_what_is_applied_to_a_real_cluster() {
    let plane = &PLANE.get();
    let live = Live::start(plane);
    let (status, reason) = plane.wait_for("the reasons", || {
        let (status, reason) = live.readiness();
        (reason.matches("forbidden").count() == 7).then_some((status, reason))
    });
    assert_eq!(status, 503);
    for kind in ["runtimeclasses.node.k8s.io", "limitranges", "wasigrants.wasmgate.dev"] {
        let words = format!("{kind}: forbidden: the ClusterRole lacks list on {kind}");
        assert!(reason.contains(&words), "{reason}");
    }
    allow_watches(plane, "wasmgate");
    plane.wait_for("the gate to be ready", || (live.readiness() == (200, "ok".into())).then_some(()));

    // RuntimeClasses: none, one that only its handler identifies, and none again.
    let configurations = live.gate.webhook_configurations();
    plane.kubectl_with(&plane.kubeconfig(), &["apply", "--filename=-"], &configurations).ok();
    live.until_refused(plane, "runtime-mismatch");
    plane.apply(&class("our-wasm", "wasmtime"), &[]).ok();
    live.until_refused(plane, "needs-grant");
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "hello", "namespace": live.namespace},
        "spec": {"capabilities": [{"name": "fs", "paths": ["/data"]}, {"name": "native.exec"}]}});
    plane.apply(&grant, &[]).ok();
    let pod = live.until_admitted(plane, "a pod that was granted its volume");
    assert_eq!(pod["spec"]["runtimeClassName"], "our-wasm");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["memory"], "32Mi");

    // LimitRanges: the API server first fills in its own sizes, and later refuses what exceeds the maximum.
    let range = json!({"apiVersion": "v1", "kind": "LimitRange",
        "metadata": {"name": "containers", "namespace": live.namespace},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "24Mi"}}]}});
    plane.apply(&range, &[]).ok();
    let sized = live.until(plane, "a pod within its namespace's limits", |asked| {
        let (pod, _) = asked.as_ref().ok()?;
        let sizes = &pod["spec"]["containers"][0]["resources"];
        (sizes["limits"]["memory"] == "24Mi").then(|| sizes.clone())
    });
    assert_eq!(sized["requests"]["memory"], "18Mi", "ours and not the LimitRanger's: {sized}");

    // Grants, and labels of namespaces.
    plane.kubectl(&["delete", "wasigrant", "hello", "--namespace", &live.namespace]).ok();
    live.until_refused(plane, "needs-grant");
    plane.kubectl(&["label", "namespace", &live.namespace, "wasmgate.dev/enforce=warn"]).ok();
    let warning = live.until(plane, "a namespace that only warns", |asked| {
        asked.as_ref().ok().map(|(_, warning)| warning.clone())
    });
    assert!(warning.contains("needs-grant"), "{warning}");
    plane.kubectl(&["label", "namespace", &live.namespace, "wasmgate.dev/enforce-"]).ok();
    live.until_refused(plane, "needs-grant");
    plane.kubectl(&["delete", "runtimeclass", "our-wasm"]).ok();
    live.until_refused(plane, "runtime-mismatch");

    let (_, metrics) = get(&live.gate.probes, "/metrics");
    for line in [
        r#"wasmgate_watch_synced{watch="wasigrants.wasmgate.dev"} 1"#,
        r#"wasmgate_watch_objects{watch="wasigrants.wasmgate.dev"} 0"#,
        "wasmgate_ready 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    plane.kubectl(&["delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all"]).ok();
}

#[test]
fn a_gate_that_starts_without_one_of_its_definitions_is_ready_and_notices_when_it_is_applied() {
    let plane = &ControlPlane::start();
    prepare(plane);
    allow_watches(plane, "wasmgate");
    let definition = "wasigrants.wasmgate.dev";
    plane.apply(&class("our-wasm", "wasmtime"), &[]).ok();
    let mut live = Live::start(plane);
    live.gate.stop();
    plane.kubectl(&["delete", "crd", definition]).ok();
    live.gate.start_again(plane);
    plane.wait_for("the gate to be ready", || (live.readiness() == (200, "ok".into())).then_some(()));
    let said = "it counts as empty until its definition is applied";
    assert_eq!(live.gate.tail().matches(said).count(), 1, "{}", live.gate.tail());
    let configurations = live.gate.webhook_configurations();
    plane.kubectl_with(&plane.kubeconfig(), &["apply", "--filename=-"], &configurations).ok();
    live.until_refused(plane, "needs-grant");

    let path = root().join("manifests/crds/wasigrants.yaml");
    plane.kubectl(&["apply", "--filename", path.to_str().unwrap()]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "crd", definition, "--timeout=60s"]).ok();
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "hello", "namespace": live.namespace},
        "spec": {"capabilities": [{"name": "fs", "paths": ["/data"]}, {"name": "native.exec"}]}});
    plane.apply(&grant, &[]).ok();
    live.until_admitted(plane, "a pod that the new definition's grant allows");

    // With the definition its grants are gone, also in a running gate.
    plane.kubectl(&["delete", "crd", definition]).ok();
    live.until_refused(plane, "needs-grant");
    let errors = format!("wasmgate_watch_errors_total{{watch=\"{definition}\"}} ");
    plane.wait_for("the errors of the watch", || {
        let (_, metrics) = get(&live.gate.probes, "/metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&errors)?.parse::<u64>().ok());
        count.filter(|count| *count > 0)
    });
    assert_eq!(live.readiness(), (200, "ok".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_resume_after_the_real_api_server_was_down() {
    let mut plane = ControlPlane::start();
    prepare(&plane);
    let client = watch::connect(Some(&plane.kubeconfig())).await.unwrap();
    let watch = Watch::of(client, options(), Base::default());
    watch.ready().await;
    let granted = |name: &str| {
        json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"capabilities": [{"name": "env", "names": ["A"]}]}})
    };
    plane.apply(&granted("before"), &[]).ok();
    watch.until("the first grant", |now| now.grants.len() == 1).await;
    plane.stop(Part::ApiServer);
    let troubled = || watch.watching.reports().iter().all(|report| report.trouble.is_some());
    eventually(|| format!("{:?}", watch.watching), troubled).await;
    assert_eq!((watch.grants().len(), watch.watching.ready()), (1, Ok(())), "the last snapshot stands");
    plane.start_again(Part::ApiServer);
    plane.apply(&granted("after"), &[]).ok();
    watch.until("the grant after the restart", |now| now.grants.len() == 2).await;
    plane.kubectl(&["create", "namespace", "late"]).ok();
    watch.until("the namespace", |now| now.cluster.namespaces.contains_key("late")).await;
    let heard = || watch.watching.reports().iter().all(|report| report.trouble.is_none());
    eventually(|| format!("{:?}", watch.watching), heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_read_with_the_pod_s_secret_once_a_role_allows_it() {
    let plane = &PLANE.get();
    allow_watches(plane, "puller");
    let registry = Registry::start_with_tls_and_password();
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/app"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": config.len()}});
    let pushed =
        registry.push("private/app:v1", &[config], manifest.to_string().as_bytes(), OCI_MANIFEST).await;
    let namespace = plane.namespace("private", &json!({}));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "regcred", "namespace": namespace},
        "stringData": {".dockerconfigjson": docker_config_for(&registry.host, USER, PASSWORD)}});
    plane.apply(&secret, &[]).ok();
    let kubeconfig = plane.account("wasmgate-system", "puller");
    let watching = Watching::new(watch::connect(Some(&kubeconfig)).await.unwrap(), options());
    watching.start(Base::default(), |_| {});
    let images = lookup::LookupOptions {
        ca_files: registry.ca.iter().cloned().collect(),
        registries: GuardOptions { allow: vec![registry.host.clone()], ..GuardOptions::default() },
        failure_ttl: std::time::Duration::from_millis(20),
        ..lookup::LookupOptions::default()
    };
    let inspector = Inspector::new(images).unwrap().with_pull_secrets(watching.pull_secrets());
    let look = async |secrets: &[&str]| {
        let puller = Puller {
            namespace: namespace.clone(),
            pull_secrets: secrets.iter().map(|name| (*name).to_string()).collect(),
            service_account: "default".into(),
        };
        let image = registry.image("private/app:v1");
        let facts = inspector.inspect_for(&image, Depth::Config, AMPLE, &puller).await;
        facts.map(|facts| facts.digest.to_string()).map_err(|error| error.to_string())
    };
    let refused = look(&["regcred"]).await.unwrap_err();
    for words in ["wants credentials (401)", "allow `get` on the secret `regcred`", &namespace] {
        assert!(refused.contains(words), "{refused}");
    }
    plane
        .kubectl(&[
            "create",
            "role",
            "pull",
            "--verb=get",
            "--resource=secrets",
            "--resource-name=regcred",
            "-n",
            &namespace,
        ])
        .ok();
    let to = "--serviceaccount=wasmgate-system:puller";
    plane.kubectl(&["create", "rolebinding", "pull", "--role=pull", to, "-n", &namespace]).ok();
    until("the pull secret", async || look(&["regcred"]).await.is_ok()).await;
    assert_eq!(look(&["regcred"]).await.unwrap(), pushed);
    assert!(
        look(&[]).await.unwrap_err().contains("wants credentials (401)"),
        "others are not served from it"
    );
    // Through its ServiceAccount, as the pods of a template would.
    let patch = r#"--patch={"imagePullSecrets":[{"name":"regcred"}]}"#;
    plane.kubectl(&["patch", "serviceaccount", "default", "-n", &namespace, patch]).ok();
    until("the account's pull secret", async || look(&[]).await.is_ok()).await;
}
