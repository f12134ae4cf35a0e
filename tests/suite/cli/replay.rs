//! `replay`: recorded decisions under other policies.

use std::path::{Path, PathBuf};

use serde_json::json;
use wasmgate::review::Webhook;

use super::{Said, run};
use crate::support::gate::{Flow, Request, Setup, defaulted, plain_pod, pod};
use crate::support::opa;

/// A log with an admitted and a refused pod, one that has nothing to do with Wasm, and a line that is no record.
struct Log {
    flow: Flow,
    bundles: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let flow = runtime.block_on(async {
            let configuration = "decisionLog: {policyInput: true}\n".to_string();
            let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
            let env = json!([{"name": "LEVEL", "value": "hunter2"}]);
            let files = pod(&json!({"automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": "images.test/files:v1", "env": env}]}));
            for pod in [plain_pod("hello"), files] {
                flow.admit("shop", &pod).await;
            }
            let linux = Request::create("shop", defaulted(&plain_pod("linux"), "shop", ""));
            flow.send(Webhook::Validate, &linux).await;
            assert_eq!(flow.records().len(), 5);
            flow
        });
        let log = Self { flow, bundles: tempfile::tempdir().unwrap() };
        let mut lines = std::fs::read_to_string(log.path()).unwrap();
        lines.push_str("2026-11-28T00:00:00Z INFO a line of the gate's own log\n");
        std::fs::write(log.path(), lines).unwrap();
        log
    }

    fn path(&self) -> PathBuf {
        self.flow.folder.path().join("decisions.log")
    }

    fn bundle(&self, name: &str, rule: &str) -> String {
        opa::build(self.bundles.path(), name, "wasmgate/violations", rule).to_str().unwrap().to_string()
    }

    fn replay(&self, arguments: &[&str]) -> Said {
        replay(&self.path(), arguments)
    }
}

fn replay(log: &Path, arguments: &[&str]) -> Said {
    run(&[&["replay", log.to_str().unwrap()], arguments].concat())
}

const NEVER: &str = "violations contains {\"rule\": \"never\", \"message\": \"m\"} if input.never";
const NO_HELLO: &str =
    "violations contains {\"rule\": \"no-hello\", \"message\": \"not this one\", \"container\": \"app\"} if {
	some container in input.containers
	contains(container.image, \"hello\")
}";
const EMPTY: &str = "violations contains {\"rule\": \"empty\", \"message\": \"m\"} if input.object.spec.containers[_].env[_].value == \"\"";

/// One run for each exit code, in their order.
pub fn runs_for_every_exit_code() -> Vec<Said> {
    let log = Log::new();
    vec![
        log.replay(&[]),
        log.replay(&["--bundle", &log.bundle("ours", NO_HELLO)]),
        replay(Path::new("/no/such.log"), &[]),
        log.replay(&["--bundle", &log.bundle("ours", EMPTY)]),
    ]
}

/// The documents of two reports, and a decision with every field.
pub fn report() -> serde_json::Value {
    let log = Log::new();
    log.replay(&["-o", "json", "--bundle", &log.bundle("ours", &format!("{NO_HELLO}\n{EMPTY}"))]).json()
}

#[test]
fn a_new_bundle_is_tried_on_recorded_decisions_before_it_is_rolled_out() {
    let log = Log::new();
    let same = log.replay(&[]);
    assert_eq!(same.code, 0, "{same:?}");
    let left = "not replayed: 3 that no policy judged, 1 that are no decision records";
    same.has(&["2 decisions: 0 would change; not replayed: ", left]);
    let ours = log.bundle("ours", NO_HELLO);
    let said = log.replay(&["--bundle", &ours]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "VERDICT",
        "shop/Pod/app",
        "allow → deny",
        "+ [no-hello: deny] (app) not this one",
        "1 would change",
    ]);
    let report = log.replay(&["--bundle", &ours, "-o", "json"]).json();
    assert_eq!((&report["replayed"], &report["changed"]), (&json!(2), &json!(1)), "{report}");
    let added = &report["listed"][0]["added"][0];
    assert_eq!((&added["rule"], &added["container"]), (&json!("no-hello"), &json!("app")));
}

#[test]
fn a_bundle_takes_the_place_of_the_one_of_its_name_and_of_the_baseline_too() {
    let log = Log::new();
    let (old, new) = (log.bundle("old", NO_HELLO), log.bundle("new", NEVER));
    let config = log.bundles.path().join("gate.yaml");
    let text = format!(
        "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\npolicies: {{bundles: [{{name: platform, from: {old}}}]}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    assert_eq!(log.replay(&["-c", config]).code, 1, "the log was written without it");
    let said = log.replay(&["-c", config, "--bundle", &format!("platform={new}")]);
    // It reads the whole document, and so the masked value of one of the pods.
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&["0 would change", "1 may depend on masked values"]);
    // Without the baseline nothing refuses the second pod.
    let said = log.replay(&["--bundle", &format!("baseline={new}")]);
    said.has(&["deny → allow", "- [needs-grant: deny]", "1 would change"]);
}

#[test]
fn what_is_masked_is_named_where_the_verdict_depends_on_it() {
    let log = Log::new();
    let said = log.replay(&["--bundle", &log.bundle("ours", EMPTY)]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "? it depends on what is masked: ",
        "/object/spec/containers/0/env/0/value",
        "1 cannot be decided",
    ]);
}

/// The two values that a replay tries break a condition on the beginning of a value alike.
#[test]
fn a_bundle_that_reads_what_is_masked_leaves_a_decision_open_even_where_nothing_differs() {
    const LONG: &str = "violations contains {\"rule\": \"level\", \"message\": \"m\"} if \
                        startswith(input.object.spec.containers[_].env[_].value, \"hunter\")";
    let log = Log::new();
    let said = log.replay(&["--bundle", &log.bundle("ours", LONG)]);
    assert_eq!(said.code, 3, "the pod has such a value: {said:?}");
    // What was recorded with this rule differs from what is found without the value.
    let lines = std::fs::read_to_string(log.path()).unwrap();
    let refused = |line: &str| -> Option<String> {
        let mut record: serde_json::Value = serde_json::from_str(line).ok()?;
        record["bundles"]["ours"] = json!({"revision": "ours"});
        let violations = record["result"]["violations"].as_array_mut()?;
        violations.push(json!({"rule": "level", "message": "m", "action": "deny"}));
        Some(record.to_string() + "\n")
    };
    std::fs::write(log.path(), lines.lines().filter_map(refused).collect::<String>()).unwrap();
    let said = log.replay(&["--bundle", &log.bundle("ours", LONG), "-o", "json"]);
    let listed = said.json()["listed"].clone();
    let masked =
        listed.as_array().unwrap().iter().filter(|one| !one["masked"].as_array().unwrap().is_empty());
    assert!(
        masked.clone().count() > 0 && masked.into_iter().all(|one| one["undecidable"] == true),
        "{listed}"
    );
}

#[test]
fn a_log_without_what_the_rules_read_is_refused_with_what_to_set() {
    let log = Log::new();
    let lines = std::fs::read_to_string(log.path()).unwrap();
    let without = lines.lines().filter_map(|line| {
        let mut record: serde_json::Value = serde_json::from_str(line).ok()?;
        record["custom"].as_object_mut().unwrap().remove("policy_input");
        Some(record.to_string() + "\n")
    });
    std::fs::write(log.path(), without.collect::<String>()).unwrap();
    log.replay(&[]).fails(&[
        "found no decision to replay",
        "2 without what the rules read",
        "`decisionLog.policyInput: true`",
    ]);
}
