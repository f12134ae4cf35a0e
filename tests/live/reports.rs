//! Reports about what runs, on a real API server with the real definitions: written with the rights of the component and no others, by
//! one replica at a time, and deleted with their workload by Kubernetes' garbage collector.

mod policy_reporter;

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::support::control_plane::ControlPlane;
use crate::support::manifests::{NAMESPACE, kustomize};
use crate::support::process::{Process, root, until, wait_for, wasmgate};
use crate::support::registry::Registry;
use crate::support::shared::Shared;
use crate::support::tls::get;
use crate::support::{opa, secrets};

/// A control plane with the definitions and the gate's account, and a registry with the samples.
struct Reported {
    plane: ControlPlane,
    registry: Registry,
    account: PathBuf,
}

static REPORTED: Shared<Reported> = Shared::new(Reported::start);

/// What one test counts is not disturbed by the objects of another.
static TURN: Mutex<()> = Mutex::const_new(());

impl Reported {
    fn start() -> Self {
        let plane = ControlPlane::start();
        for folder in ["manifests/crds", "tests/fixtures/reports"] {
            let folder = root().join(folder);
            plane.kubectl(&["apply", "--server-side", "--filename", folder.to_str().unwrap()]).ok();
        }
        plane.kubectl(&["wait", "--for=condition=Established", "--all", "crd", "--timeout=60s"]).ok();
        let rights = kustomize("tests/fixtures/manifests/reports");
        for kind in
            ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
        {
            let of_kind = rights.iter().filter(|((found, ..), _)| found == kind).map(|(_, object)| object);
            of_kind.for_each(|object| drop(plane.apply(object, &[]).ok()));
        }
        let registry = Registry::start_below(plane.home().path());
        for name in ["hello", "files", "web"] {
            let layout = root().join("manifests/samples/images").join(name);
            let to = registry.image(&format!("samples/{name}:1"));
            registry.crane(root(), &["push", layout.to_str().unwrap(), &to]);
        }
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
            "handler": "wasmtime"});
        plane.apply(&class, &[]).ok();
        let account = plane.account(NAMESPACE, "wasmgate");
        Self { plane, registry, account }
    }

    fn image(&self, name: &str) -> String {
        self.registry.image(&format!("samples/{name}:1"))
    }

    /// Applies a Deployment without pods.
    fn deploy(&self, namespace: &str, name: &str, image: &str) {
        let labels = json!({"app": name});
        let container = json!({"name": "main", "image": self.image(image), "args": ["x"]});
        let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"automountServiceAccountToken": false, "containers": [container]}}});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec});
        self.plane.apply(&object, &[]).ok();
    }

    fn reports(&self, kind: &str, namespace: &str) -> Vec<Value> {
        self.plane.list(&[kind, "--namespace", namespace])
    }

    /// The only report of a namespace, once it is as wanted.
    fn report_that(&self, what: &str, namespace: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.plane.wait_for(what, || match self.reports("reports.openreports.io", namespace).as_slice() {
            [report] if is(report) => Some(report.clone()),
            _ => None,
        })
    }
}

/// A gate that writes reports.
struct Gate {
    process: Process,
    probes: String,
}

impl Gate {
    fn start(reported: &Reported, name: &str, (kubeconfig, own): (&PathBuf, &str), more: &str) -> Self {
        let folder = reported.plane.home().path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let configuration = format!(
            "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\nkubernetes:\n  kubeconfig: {}\n  watch: true\n  \
             lease: {{duration: 3s}}\n{more}",
            kubeconfig.display()
        );
        std::fs::write(folder.join("gate.yaml"), configuration).unwrap();
        let mut command = wasmgate();
        command.args(["serve", "--config=gate.yaml", "--listen=127.0.0.1:0", "--probes=127.0.0.1:0"]);
        command.args(["--decision-log=none", "--log-format=json", "--cert-dir=certs"]);
        command.arg(format!("--insecure-registry={}", reported.registry.host)).current_dir(&folder);
        command.env("POD_NAMESPACE", own).env("POD_NAME", name);
        let mut process = reported.plane.home().start(name, &command);
        let probes = wait_for("the gate to listen", || {
            assert!(!process.has_ended(), "{name} ended\n{}", process.tail());
            let lines = process.log();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let line = lines.find(|line| line["fields"]["message"] == "listening")?;
            Some(line["fields"]["probes"].as_str().unwrap().to_owned())
        });
        Self { process, probes }
    }

    async fn metric(&self, sample: &str) -> i64 {
        let page = get(self.probes.parse().unwrap(), "/metrics").await.unwrap().text();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    async fn counted(&self, metric: &str, result: &str) -> i64 {
        self.metric(&format!("wasmgate_report_{metric}_total{{result=\"{result}\"}}")).await
    }

    /// Waits for whole rounds that begin from now on.
    async fn rounds(&self, count: i64) {
        let before = self.counted("rounds", "complete").await;
        until("further rounds", async || self.counted("rounds", "complete").await > before + count).await;
    }

    async fn leads(&self) -> bool {
        self.metric("wasmgate_leader{}").await == 1
    }
}

const FAST: &str = "reports: {enabled: true, pause: 1s, requestsPerSecond: 1000, judgedPerSecond: 1000}\n";

fn version(report: &Value) -> &str {
    report["metadata"]["resourceVersion"].as_str().unwrap()
}

fn results<'a>(report: &'a Value, result: &str) -> Vec<&'a Value> {
    report["results"].as_array().unwrap().iter().filter(|one| one["result"] == result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_has_a_report_that_changes_with_its_grants_and_goes_with_it() {
    let reported = &REPORTED.get();
    let _turn = TURN.lock().await;
    let plane = &reported.plane;
    let [shop, other] = ["shop", "other"].map(|name| plane.namespace(name, &json!({})));
    for namespace in [&shop, &other] {
        reported.deploy(namespace, "files", "files");
        reported.deploy(namespace, "linux", "web");
    }
    let account = (&reported.account, NAMESPACE);
    let mut first = Gate::start(reported, "report-a", account, FAST);

    // What it says.
    let denied = reported.report_that("the report", &shop, |report| !results(report, "fail").is_empty());
    let deployment = plane.get(&["deployment", "files", "--namespace", &shop]);
    let owner = &denied["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], deployment["metadata"]["uid"], "{denied}");
    assert_eq!(
        (&denied["scope"]["kind"], &denied["scope"]["name"], &denied["source"]),
        (&json!("Deployment"), &json!("files"), &json!("wasmgate"))
    );
    let failed = results(&denied, "fail");
    for one in &failed {
        assert_eq!(one["policy"], "baseline", "{one}");
        assert!(one["severity"] == "high" && one["properties"]["mendedBy"].is_string(), "{one}");
        assert!(one["timestamp"]["seconds"].as_i64().unwrap() > 1_700_000_000, "{one}");
    }
    // As people read it: the columns are those of the definition.
    let table = plane.kubectl(&["get", "reports", "--namespace", &shop, "--output=wide", "--no-headers"]);
    let columns: Vec<&str> = table.stdout.split_whitespace().skip(1).take(4).collect();
    let [pass, fail] = ["pass", "fail"].map(|key| denied["summary"][key].to_string());
    assert_eq!(columns, ["Deployment", "files", pass.as_str(), fail.as_str()], "{}", table.stdout);
    let elsewhere = reported.report_that("the other report", &other, |_| true);
    plane.wait_for("the report on the cluster", || {
        let found = plane.kubectl(&["get", "clusterreport", "wasmgate", "--output=json"]);
        (found.code == 0).then(|| found.json()).filter(|report| report["summary"]["pass"] == json!(1))
    });

    // Nothing is written where nothing has changed.
    first.rounds(1).await;
    let written = first.counted("writes", "written").await;
    first.rounds(2).await;
    assert_eq!(first.counted("writes", "written").await, written);
    assert_eq!(first.counted("writes", "failed").await, 0, "{}", first.process.tail());
    // Not the first one either, when the API server had no report to list.
    assert_eq!(first.counted("rounds", "incomplete").await, 0, "{}", first.process.tail());
    let same = reported.report_that("the report", &shop, |_| true);
    assert_eq!(version(&same), version(&denied));

    // A grant is judged anew, and nothing else.
    let judged = first.counted("objects", "judged").await;
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "files", "namespace": shop},
        "spec": {"capabilities": [{"name": "native.exec"}]}});
    plane.apply(&grant, &[]).ok();
    let granted = reported.report_that("the grant", &shop, |report| report["summary"]["fail"] == json!(0));
    let allowed = results(&granted, "pass");
    let names_grant = |one: &Value| one["properties"]["grants"] == "WasiGrant/files";
    assert!(allowed.iter().any(|one| names_grant(one)), "{granted}");
    first.rounds(1).await;
    assert_eq!(first.counted("objects", "judged").await, judged + 1, "one template depends on it");
    let there = reported.report_that("the other report", &other, |_| true);
    assert_eq!(version(&there), version(&elsewhere));

    // What another client writes into a report is put right.
    let name = granted["metadata"]["name"].as_str().unwrap();
    let patch = r#"--patch={"summary": {"fail": 99}, "metadata": {"labels": {"theirs": "stays"}}}"#;
    let patched = ["patch", "report", name, "--namespace", &shop, "--type=merge", patch];
    plane.kubectl(&patched).ok();
    let mended = reported.report_that("the repair", &shop, |report| report["summary"]["fail"] == json!(0));
    assert_eq!(mended["metadata"]["labels"]["theirs"], "stays");

    // Another replica goes on, and writes nothing anew.
    let second = Gate::start(reported, "report-b", account, FAST);
    assert!(first.leads().await && !second.leads().await);
    first.process.kill();
    until("the other to lead", async || second.leads().await).await;
    second.rounds(2).await;
    assert_eq!(second.counted("writes", "written").await, 0, "{}", second.process.tail());
    assert!(second.counted("writes", "unchanged").await >= 2);
    assert_eq!(version(&reported.report_that("the report", &shop, |_| true)), version(&mended));

    // What is no Wasm any more has no report.
    reported.deploy(&other, "files", "web");
    plane.wait_for("the report to go", || {
        reported.reports("reports.openreports.io", &other).is_empty().then_some(())
    });
    until("that to be counted", async || second.counted("writes", "deleted").await == 1).await;

    // Without any gate, a report goes with its workload.
    assert!(!second.process.log().contains("forbidden"), "{}", second.process.log());
    drop(second);
    plane.kubectl(&["delete", "deployment", "files", "--namespace", &shop]).ok();
    plane.wait_for("the garbage collector", || {
        reported.reports("reports.openreports.io", &shop).is_empty().then_some(())
    });

    // A round that was not ended goes on where it was.
    let at = format!("wasmgate.dev/resume-at={other}");
    plane.kubectl(&["annotate", "clusterreport", "wasmgate", &at]).ok();
    let third = Gate::start(reported, "report-c", account, FAST);
    plane.wait_for("the rest of the round, and a whole one", || {
        let report = plane.get(&["clusterreport", "wasmgate"]);
        report["metadata"]["annotations"]["wasmgate.dev/resume-at"].is_null().then_some(())
    });
    let log = third.process.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let begun = lines.find(|line| line["fields"]["message"] == "this replica writes the reports now");
    assert_eq!(begun.unwrap()["fields"]["from"], json!(other), "{log}");

    // What the gate leaves, the manual's command removes.
    reported.deploy(&shop, "files", "files");
    reported.report_that("the report", &shop, |_| true);
    drop(third);
    let manual = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, rest) = manual.split_once("`kubectl delete reports,").expect("how reports are removed");
    let command = format!("delete reports,{}", rest.split('`').next().unwrap());
    plane.kubectl(&command.split_whitespace().collect::<Vec<_>>()).ok();
    for kind in ["reports.openreports.io", "clusterreports.openreports.io"] {
        assert_eq!(plane.list(&[kind, "--all-namespaces"]), Vec::<Value>::new(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_the_predecessor_is_written_too_and_no_secret_is_in_any() {
    let reported = &REPORTED.get();
    let _turn = TURN.lock().await;
    let plane = &reported.plane;
    let namespace = plane.namespace("secretive", &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "quoting", "wasmgate/violations", secrets::QUOTING);
    let (mut pod, number) = secrets::pod(&reported.image("hello"));
    pod["metadata"]["namespace"] = json!(namespace);
    plane.create(&pod, &["--namespace", &namespace]).ok();
    let lease = plane.namespace("gates", &json!({}));
    let more = format!(
        "{}policies: {{bundles: [{}]}}\n{}",
        secrets::CONFIGURATION,
        bundle.display(),
        FAST.replace("enabled: true", "enabled: true, format: wgpolicy")
    );
    let gate = Gate::start(reported, "report-former", (&plane.kubeconfig(), &lease), &more);
    let report = plane.wait_for("the report", || {
        reported.reports("policyreports.wgpolicyk8s.io", &namespace).into_iter().next()
    });
    // The API server shows it in the version that it prefers.
    assert!(report["apiVersion"].as_str().unwrap().starts_with("wgpolicyk8s.io/v1"), "{report}");
    assert_eq!((&report["scope"]["kind"], &report["scope"]["name"]), (&json!("Pod"), &json!("secrets")));
    let quoted = results(&report, "fail").into_iter().find(|one| one["policy"] == "quoting").cloned();
    let quoted = quoted.unwrap_or_else(|| panic!("{report}"));
    assert!(number >= 25 && quoted["message"].as_str().unwrap().contains("**REDACTED**"), "{quoted}");
    assert_eq!(secrets::leaked(&report.to_string()), Vec::<&str>::new());
    assert_eq!(secrets::leaked(&gate.process.log()), Vec::<&str>::new());
    gate.rounds(1).await;
    plane.get(&["clusterpolicyreport", "wasmgate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_definitions_the_log_says_what_to_install() {
    let plane = ControlPlane::start();
    let registry = Registry::start_below(plane.home().path());
    let account = plane.kubeconfig();
    let definitions = root().join("manifests/crds");
    plane.kubectl(&["apply", "--filename", definitions.to_str().unwrap()]).ok();
    let reported = Reported { plane, registry, account };
    let gate = Gate::start(&reported, "report-none", (&reported.account, "default"), FAST);
    wait_for("the message", || {
        gate.process.log().contains("install its CustomResourceDefinitions").then_some(())
    });
    assert_eq!(gate.metric("wasmgate_report_success_timestamp_seconds{}").await, 0);
}
