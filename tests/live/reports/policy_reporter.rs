//! What Policy Reporter makes of the reports, in both formats: every result is in its REST API with all that the report says of it, and
//! its metrics count it. Left out where Policy Reporter is not built, by `make test-policy-reporter`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{FAST, Gate, REPORTED, Reported, TURN};
use crate::support::control_plane::free_ports;
use crate::support::manifests::NAMESPACE;
use crate::support::process::{Process, program, until, wasmgate};
use crate::support::tls::get;

/// Rules whose messages name no container, and one that says the same twice.
const HOUSE: &str = r#"package wasmgate

# METADATA
# title: The pod names its owner
# custom:
#   category: House
#   severity: critical
violations contains {"rule": "owner-missing", "message": "the pod names no owner"}

# METADATA
# title: Each container names its owner
# custom:
#   category: House
#   severity: low
violations contains violation if {
	some container in input.containers
	violation := {"rule": "container-owner-missing", "message": "no owner", "container": container.name, "action": "warn"}
}

# METADATA
# title: Two ways out
# custom:
#   category: House
violations contains violation if {
	some remedy in ["the first", "the second"]
	violation := {"rule": "two-ways", "message": "two ways", "remedy": remedy, "action": "audit"}
}
"#;

/// Compiles the rules with what their METADATA says.
fn house(folder: &Path) -> PathBuf {
    std::fs::create_dir(folder.join("house")).unwrap();
    std::fs::write(folder.join("house/rules.rego"), HOUSE).unwrap();
    let mut build = wasmgate();
    build.args(["policy", "build", "house", "--archive", "house.tar.gz", "--no-schema", "--opa"]);
    let built = build.arg(program("opa")).current_dir(folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join("house.tar.gz")
}

struct PolicyReporter {
    process: Process,
    address: SocketAddr,
}

impl PolicyReporter {
    fn start(reported: &Reported, name: &str) -> Self {
        let port = free_ports(1)[0];
        let home = reported.plane.home();
        let folder = home.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut command = Command::new(program("policy-reporter"));
        command.args(["run", "--rest-enabled", "--metrics-enabled", "--dbfile=results.db", "--kubeconfig"]);
        command.arg(reported.plane.kubeconfig()).arg(format!("--port={port}"));
        command.env("HOME", &folder).current_dir(&folder);
        Self { process: home.start(name, &command), address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A page of its API; nothing while it does not listen.
    async fn page(&self, path: &str) -> Option<Value> {
        let answer = get(self.address, path).await.ok()?;
        serde_json::from_str(&answer.text()).ok()
    }

    /// The results that it has of these, in order.
    async fn results(&self, path: &str) -> Vec<String> {
        let page = self.page(path).await.unwrap_or_default();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let known = items.iter().map(|item| {
            let of = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
            let about = [of("apiVersion"), of("kind"), of("namespace"), of("name")];
            line(&about, item, (&item["status"], &item["message"]), &item["timestamp"])
        });
        sorted(known)
    }
}

/// The results of a report, in the same form.
fn said(report: &Value) -> Vec<String> {
    let scope = &report["scope"];
    let about = ["apiVersion", "kind", "namespace", "name"]
        .map(|field| scope[field].as_str().unwrap_or_default().to_owned());
    let results = report["results"].as_array().cloned().unwrap_or_default();
    let known = results
        .iter()
        .map(|one| line(&about, one, (&one["result"], &one["message"]), &one["timestamp"]["seconds"]));
    sorted(known)
}

/// All of a result that both have.
fn line(about: &[String; 4], one: &Value, (result, message): (&Value, &Value), at: &Value) -> String {
    let own = ["policy", "rule", "category", "severity", "source", "properties"].map(|field| &one[field]);
    json!([about, result, message, at, own]).to_string()
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

/// A Deployment of two containers without pods.
fn deployment(reported: &Reported, namespace: &str) -> Value {
    let labels = json!({"app": "two"});
    let containers = ["a", "b"].map(|name| json!({"name": name, "image": reported.image("files")}));
    let pod = json!({"automountServiceAccountToken": false, "containers": containers});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "two", "namespace": namespace},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod}}})
}

/// A series for each rule of a workload.
fn assert_series(page: &str, namespace: &str) {
    let of_namespace = format!("namespace=\"{namespace}\"");
    for (rule, severity, status) in [
        ("owner-missing", "critical", "fail"),
        ("container-owner-missing", "low", "warn"),
        ("two-ways", "low", "warn"),
    ] {
        let of_rule = format!("rule=\"{rule}\"");
        let is_wanted = |line: &&str| {
            line.starts_with("policy_report_result{")
                && line.contains(&of_namespace)
                && line.contains(&of_rule)
        };
        let series = page.lines().find(is_wanted).unwrap_or_else(|| panic!("no series of {rule} in\n{page}"));
        let [severity, status] =
            [("severity", severity), ("status", status)].map(|(name, value)| format!("{name}=\"{value}\""));
        let labels = ["category=\"House\"", "kind=\"Deployment\"", "name=\"two\"", "source=\"wasmgate\""];
        assert!(labels.iter().all(|label| series.contains(label)), "{series}");
        assert!(series.contains(&severity) && series.contains(&status), "{series}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Policy Reporter: make test-policy-reporter"]
async fn policy_reporter_has_every_result_of_both_formats_with_all_that_is_said_of_it() {
    let reported = &REPORTED.get();
    let _turn = TURN.lock().await;
    let plane = &reported.plane;
    let folder = tempfile::tempdir().unwrap();
    let bundle = house(folder.path());
    let administrator = plane.kubeconfig();
    for (format, kind, cluster_kind) in [
        ("openreports", "reports.openreports.io", "clusterreports.openreports.io"),
        ("wgpolicy", "policyreports.wgpolicyk8s.io", "clusterpolicyreports.wgpolicyk8s.io"),
    ] {
        let namespace = plane.namespace("reporter", &json!({}));
        plane.apply(&deployment(reported, &namespace), &[]).ok();
        let more = format!(
            "policies: {{bundles: [{}]}}\n{}",
            bundle.display(),
            FAST.replace("enabled: true", &format!("enabled: true, format: {format}"))
        );
        let name = format!("reporter-gate-{format}");
        let gate = Gate::start(reported, &name, (&administrator, NAMESPACE), &more);
        let report = plane.wait_for("the report", || reported.reports(kind, &namespace).into_iter().next());
        let wanted = said(&report);
        assert!(wanted.len() > 10, "{report}{}", gate.process.tail());
        for severity in ["critical", "high", "low", "info"] {
            let has = |line: &String| line.contains(&format!("\"{severity}\""));
            assert!(wanted.iter().any(has), "no {severity} in {wanted:?}");
        }

        let reader = PolicyReporter::start(reported, &format!("policy-reporter-{format}"));
        let path = format!("/v2/namespace-scoped/results?offset=500&namespaces={namespace}");
        until("the results in Policy Reporter", async || reader.results(&path).await.len() >= wanted.len())
            .await;
        assert_eq!(reader.results(&path).await, wanted, "{}", reader.process.tail());
        until("those of the cluster there", async || {
            let got = reader.results("/v2/cluster-scoped/results?offset=500").await;
            let wanted: Vec<String> = plane.list(&[cluster_kind]).iter().flat_map(said).collect();
            !wanted.is_empty() && wanted.iter().all(|one| got.contains(one))
        })
        .await;
        assert_series(&get(reader.address, "/metrics").await.unwrap().text(), &namespace);

        // What is said of an object that is gone goes there too.
        plane.kubectl(&["delete", "deployment", "two", "--namespace", &namespace]).ok();
        until("the results to go", async || reader.results(&path).await.is_empty()).await;
        drop(gate);
        plane.kubectl(&["delete", cluster_kind, "wasmgate"]).ok();
    }
}
