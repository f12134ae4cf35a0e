//! `replay`: recorded decisions under other policies.

use std::path::{Path, PathBuf};

use serde_json::json;
use wasmgate::review::Webhook;

use super::{Said, run};
use crate::support::gate::{Flow, Request, Setup, defaulted, plain_pod, pod};
use crate::support::opa;
use crate::support::process::program;

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
        "+ ours [no-hello: deny] (app) not this one",
        "1 would change",
    ]);
    let report = log.replay(&["--bundle", &ours, "-o", "json"]).json();
    assert_eq!((&report["replayed"], &report["changed"]), (&json!(2), &json!(1)), "{report}");
    let added = &report["listed"][0]["added"][0];
    assert_eq!((&added["rule"], &added["container"]), (&json!("no-hello"), &json!("app")));
    assert_eq!(added["bundle"], "ours");
}

#[test]
fn a_log_that_was_packed_when_it_was_rotated_is_read_as_it_is_and_one_that_is_cut_off_is_refused() {
    let log = Log::new();
    let plain = std::fs::read(log.path()).unwrap();
    let packed = crate::support::oci::gzip(&plain);
    let path = log.bundles.path().join("decisions.log.1.gz");
    std::fs::write(&path, &packed).unwrap();
    let (said, expected) = (replay(&path, &[]), log.replay(&[]));
    assert_eq!((said.code, said.out), (0, expected.out));
    std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    replay(&path, &[]).fails(&["could not read the decision log", "decisions.log.1.gz"]);
}

#[test]
fn two_bundles_of_one_name_are_refused_where_the_second_would_be_judged_alone() {
    let log = Log::new();
    let (deny, never) = (log.bundle("deny", NO_HELLO), log.bundle("never", NEVER));
    let both = [format!("ours={deny}"), format!("ours={never}")];
    let said = log.replay(&["--bundle", &both[0], "--bundle", &both[1]]);
    said.fails(&["another bundle has this name"]);
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
    // It is handed the whole document, and reads nothing of it that is masked.
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["2 decisions: 0 would change"]);
    // Without the baseline nothing refuses the second pod.
    let said = log.replay(&["--bundle", &format!("baseline={new}")]);
    said.has(&["deny → allow", "- baseline [needs-grant: deny]", "1 would change"]);
}

/// A bundle that is tried decides, also in the place of one in the shadow.
#[test]
fn a_bundle_in_the_shadow_changes_no_decision_that_is_replayed_with_the_same_configuration() {
    let log = Log::new();
    let next = log.bundle("next", NO_HELLO);
    let config = log.bundles.path().join("gate.yaml");
    let text = format!(
        "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\npolicies: {{bundles: [{{name: next, from: {next}, action: audit}}]}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let same = log.replay(&["-c", config]);
    assert_eq!(same.code, 0, "{same:?}");
    same.has(&["2 decisions: 0 would change"]);
    let said = log.replay(&["-c", config, "--bundle", &format!("next={next}")]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["allow → deny", "1 would change"]);
}

#[test]
fn rules_that_ask_for_the_time_are_told_that_of_the_record_and_a_random_value_leaves_the_verdict_open() {
    let log = Log::new();
    let file = log.bundles.path().join("timed.log");
    let at = |time: &str| {
        let lines = records(&log, |record| record.get("bundles").is_some());
        let line = |line: &str| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["timestamp"] = json!(time);
            record.to_string() + "\n"
        };
        std::fs::write(&file, lines.lines().map(line).collect::<String>()).unwrap();
    };
    let freeze = "violations contains {\"rule\": \"freeze\", \"message\": \"m\"} if \
                  time.now_ns() > time.parse_rfc3339_ns(\"2021-01-01T00:00:00Z\")";
    let freeze = log.bundle("freeze", freeze);
    let replayed = |bundle: &str| replay(&file, &["--bundle", bundle, "-o", "json"]).json();
    // Before, after, and while the review may have run.
    for (time, changed, undecidable) in
        [("2020-06-01T00:00:00Z", 0, 0), ("2021-06-01T00:00:00Z", 2, 0), ("2021-01-01T00:00:09Z", 0, 2)]
    {
        at(time);
        let report = replayed(&freeze);
        assert_eq!(
            (&report["changed"], &report["undecidable"]),
            (&json!(changed), &json!(undecidable)),
            "{time}: {report}"
        );
    }
    replay(&file, &["--bundle", &freeze]).has(&["? a rule asks for the time", "2 cannot be decided"]);
    for call in ["rand.intn(\"a\", 2) == 7", "uuid.rfc4122(\"a\") == \"b\""] {
        let rule = format!("violations contains {{\"rule\": \"drawn\", \"message\": \"m\"}} if {call}");
        let report = replayed(&log.bundle("drawn", &rule));
        assert_eq!((&report["changed"], &report["undecidable"]), (&json!(0), &json!(2)), "{report}");
        let said = report["listed"][0]["notRecorded"][0].as_str().unwrap();
        assert!(said.starts_with("a rule asks for a random value"), "{said}");
    }
}

#[test]
fn rules_get_a_number_of_a_record_as_it_was_written() {
    let rule = "violations contains {\"rule\": \"exact\", \"message\": sprintf(\"%v\", [input.exact])}";
    let log = Log::new();
    let file = log.bundles.path().join("exact.log");
    let lines = records(&log, |record| record.get("bundles").is_some());
    let with = "\"policy_input\":{\"exact\":123456789012345678901234567890,";
    std::fs::write(&file, lines.replace("\"policy_input\":{", with)).unwrap();
    let said = replay(&file, &["--bundle", &log.bundle("exact", rule)]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["[exact: deny] 123456789012345678901234567890", "2 would change"]);
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

/// Rules are handed the object as a whole, and one of its values is masked.
#[test]
fn a_value_that_is_masked_and_that_no_rule_can_read_leaves_no_decision_open() {
    const EACH: &str = "violations contains {\"rule\": \"class\", \"message\": \"m\"} if {
	some container in input.object.spec.containers
	is_other(container)
}
is_other(container) if container.name == \"other\"
violations contains {\"rule\": \"tls\", \"message\": \"m\"} if object.get(input.object.metadata.labels, \"tls\", \"on\") == \"off\"";
    const HANDED: &str = "violations contains {\"rule\": \"found\", \"message\": \"m\"} if {
	some container in input.object.spec.containers
	\"absent\" in object.keys(container)
}";
    const WALKS: &str = "violations contains {\"rule\": \"walks\", \"message\": \"m\"} if {
	walk(input, [_, \"absent\"])
}";
    let log = Log::new();
    let said = log.replay(&["--bundle", &log.bundle("each", EACH)]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["2 decisions: 0 would change"]);
    // Here it cannot be told.
    for (name, rule) in [("handed", HANDED), ("walks", WALKS)] {
        let said = log.replay(&["--bundle", &log.bundle(name, rule)]);
        assert_eq!(said.code, 3, "{said:?}");
        said.has(&["0 would change", "1 may depend on masked values"]);
    }
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

/// The lines of the log that are records, as `explain` takes them.
fn records(log: &Log, keep: impl Fn(&serde_json::Value) -> bool) -> String {
    let lines = std::fs::read_to_string(log.path()).unwrap();
    let records = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    records.filter(keep).map(|record| record.to_string() + "\n").collect()
}

/// Decisions that end in every way.
pub fn explained_decisions() -> Vec<serde_json::Value> {
    let log = Log::new();
    let warns = "violations contains {\"rule\": \"warns\", \"message\": \"m\", \"action\": \"warn\"} if input.workload.name";
    let (ours, warns) = (log.bundle("ours", EMPTY), log.bundle("warns", warns));
    let all = records(&log, |_| true);
    let runs = [vec![], vec!["--bundle", &ours], vec!["--bundle", &warns]];
    let decisions = runs.iter().map(|more| {
        let arguments = [&["explain", "-f", "-", "-o", "json"], &more[..]].concat();
        super::pipe(&arguments, &all).json()["decisions"].as_array().unwrap().clone()
    });
    decisions.flatten().collect()
}

#[test]
fn explain_judges_a_recorded_decision_once_more_and_says_what_masking_leaves_open() {
    let log = Log::new();
    let validated =
        records(&log, |record| record["path"] == "wasmgate/validate" && record.get("bundles").is_some());
    let said = super::pipe(&["explain", "-f", "-"], &validated);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "Pod shop/app  admitted  standard input, document 1",
        "Pod shop/app  denied  standard input, document 2",
        "recorded deny, 20",
        "[needs-grant: deny] (app)",
    ]);
    let report = super::pipe(&["explain", "-f", "-", "-o", "json"], &validated).json();
    let decision = &report["decisions"][1];
    assert_eq!((&decision["outcome"], &decision["was"]), (&json!("denied"), &json!("deny")), "{report}");
    assert_eq!(
        (&decision["added"], &decision["gone"]),
        (&json!([]), &json!([])),
        "the same bundles find the same"
    );
    // Another bundle, and what is masked.
    let ours = log.bundle("ours", EMPTY);
    let said = super::pipe(&["explain", "-f", "-", "--bundle", &ours], &validated);
    said.has(&[
        "undecidable\n",
        "the verdict depends on what is masked: ",
        "/object/spec/containers/0/env/0/value",
    ]);
    assert_eq!(said.code, 3, "{said:?}");
    // What the mutating webhook decided, and a record without what the rules read.
    let others = records(&log, |record| record.get("bundles").is_none());
    let said = super::pipe(&["explain", "-f", "-"], &others);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["Pod shop/app  not judged again", "not judged again: no policy judged it"]);
    let bare = validated.replace("policy_input", "other");
    let said = super::pipe(&["explain", "-f", "-"], &bare);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("it lacks what the rules read (`decisionLog.policyInput`)"), "{said:?}");
    said.has(&["[needs-grant: deny]"]);
}

#[test]
fn an_evaluation_that_was_not_done_in_time_is_no_decision_to_compare_with() {
    let log = Log::new();
    let busy = "policy bundle `baseline` could not be evaluated: it was not done within 2s, since the machine has too much to do";
    let long = "policy bundle `baseline` could not be evaluated: it was not done in time, most of which the calls of `concat` took (400 ms): \
                more time does not mend that";
    for (message, code, said) in [
        (busy, 0, "1 in which the gate failed or had too much to do"),
        (long, 0, "1 in which the gate failed or had too much to do"),
        (
            "policy bundle `baseline` could not be evaluated: it needs more than 5 of fuel",
            1,
            "1 would change",
        ),
    ] {
        let lines = records(&log, |_| true);
        let failed = |line: &str| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            if record["result"]["violations"] != json!([]) {
                record["result"]["violations"] =
                    json!([{"rule": "policy-error", "message": message, "action": "deny"}]);
            }
            record.to_string() + "\n"
        };
        let file = log.bundles.path().join("busy.log");
        std::fs::write(&file, lines.lines().map(failed).collect::<String>()).unwrap();
        let replayed = replay(&file, &[]);
        assert_eq!(replayed.code, code, "{replayed:?}");
        replayed.has(&[said]);
    }
}

#[test]
fn a_long_table_says_how_much_more_there_is() {
    let log = Log::new();
    let many = "violations contains {\"rule\": \"many\", \"message\": $\"number {i}\"} if some i in numbers.range(1, 25)";
    let lines = records(&log, |record| record.get("bundles").is_some()).repeat(150);
    let file = log.bundles.path().join("long.log");
    std::fs::write(&file, lines).unwrap();
    let said = replay(&file, &["--bundle", &log.bundle("ours", many)]);
    said.has(&[
        "… and 15 more (-o json lists them)",
        "\n… and 100 more (-o json lists them)\n",
        "300 decisions: 300 would change",
    ]);
    assert_eq!(said.out.matches("allow → deny").count(), 100);
}

/// The records of verdicts, in which an exception exempts the refused pod.
fn exempted(log: &Log, change: impl Fn(&mut serde_json::Value)) -> String {
    let verdicts = records(log, |record| record.get("bundles").is_some());
    let line = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for violation in record["result"]["violations"].as_array_mut().unwrap() {
            violation["action"] = json!("audit");
            violation["exempted"] =
                json!({"exception": "shop/e", "reason": "why", "expiresAt": "2126-01-01T00:00:00Z"});
            change(violation);
        }
        record.to_string() + "\n"
    };
    verdicts.lines().map(line).collect()
}

#[test]
fn a_recorded_exemption_counts_for_what_it_exempted_then_alone() {
    let log = Log::new();
    let file = log.bundles.path().join("exempted.log");
    let replayed = |lines: &str, more: &[&str]| {
        std::fs::write(&file, lines).unwrap();
        replay(&file, more)
    };
    let (unchanged, grants) = (exempted(&log, |_| {}), tempfile::tempdir().unwrap());
    let same = replayed(&unchanged, &[]);
    assert_eq!(same.code, 0, "{same:?}");
    same.has(&["2 decisions: 0 would change\n"]);
    // The exceptions that are given are all that there are.
    let said = replayed(&unchanged, &["--grants", grants.path().to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["allow → deny", "1 would change"]);
    let another = "? exception shop/e exempted another violation of rule";
    for (field, value, reason) in [
        ("message", json!("something else"), another),
        ("bundle", json!("other"), another),
        ("bundle", json!(null), another),
    ] {
        let said = replayed(&exempted(&log, |violation| violation[field] = value.clone()), &[]);
        assert_eq!(said.code, 3, "{field}: {said:?}");
        said.has(&["allow → deny", reason, "1 cannot be decided"]);
    }
    // Of another rule it says nothing.
    let said = replayed(&exempted(&log, |violation| violation["rule"] = json!("other")), &[]);
    assert_eq!(said.code, 1, "{said:?}");
}

#[test]
fn a_recorded_exemption_counts_until_it_ends_which_is_another_time_for_replay_than_for_explain() {
    let log = Log::new();
    let until = |time: &str| exempted(&log, |violation| violation["exempted"]["expiresAt"] = json!(time));
    let file = log.bundles.path().join("exempted.log");
    std::fs::write(&file, until("2020-01-01T00:00:00Z")).unwrap();
    let said = replay(&file, &["-o", "json"]);
    let report = said.json();
    let open = report["listed"][0]["openExceptions"][0].as_str().unwrap();
    assert!(open.starts_with("exception shop/e exempted rule "), "{open}");
    assert!(
        open.contains(" then, and has expired on 2020-01-01T00:00:00Z; the record does not say"),
        "{open}"
    );
    assert!(open.ends_with(": give the exceptions with --grants"), "{open}");
    assert_eq!((said.code, &report["undecidable"]), (3, &json!(1)), "{report}");
    // Made when it was in force, and over since.
    let old = until("2020-01-02T00:00:00Z");
    let old = old.lines().map(|line| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["timestamp"] = json!("2020-01-01T00:00:00Z");
        record.to_string() + "\n"
    });
    let old: String = old.collect();
    std::fs::write(&file, &old).unwrap();
    assert_eq!(replay(&file, &[]).code, 0, "{:?}", replay(&file, &[]));
    let said = super::pipe(&["explain", "-f", "-"], &old);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "Pod shop/app  undecidable",
        "exception shop/e exempted rule needs-grant then, and has expired on",
    ]);
}

/// A revision is a text, which two bundles may have.
#[test]
fn what_another_bundle_of_the_same_revision_finds_is_a_change_and_not_left_to_what_is_masked() {
    let log = Log::new();
    let reads = format!("{NO_HELLO}\n{EMPTY}");
    let ours = log.bundle("ours", &reads);
    // As if a bundle of that name and revision had judged.
    let lines = records(&log, |record| record.get("bundles").is_some());
    let judged = |digest: Option<&str>| -> String {
        let line = |line: &str| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                record["custom"]["bundle_digests"]["baseline"].as_str().unwrap().len(),
                64,
                "{record}"
            );
            record["bundles"]["ours"] = json!({"revision": "ours"});
            if let Some(digest) = digest {
                record["custom"]["bundle_digests"]["ours"] = json!(digest);
            }
            let erased = json!(["/custom/policy_input/object/spec/containers/0/env"]);
            record["erased"] = erased;
            record.to_string() + "\n"
        };
        lines.lines().map(line).collect()
    };
    let file = log.bundles.path().join("judged.log");
    for (digest, changed, undecidable) in [(Some("0"), 1, 0), (None, 0, 1)] {
        std::fs::write(&file, judged(digest)).unwrap();
        let report = replay(&file, &["--bundle", &ours, "-o", "json"]).json();
        let first = report["listed"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["wouldBe"] == "deny" && one["was"] == "allow")
            .unwrap();
        assert_eq!(first["undecidable"], json!(undecidable == 1), "{report}");
        assert_eq!(report["changed"], json!(changed), "{digest:?}: {report}");
    }
}

/// Nothing is admitted by a replay, so a bundle that is tried need not be signed; one that is signed must be right.
#[test]
fn a_signed_bundle_is_verified_where_there_is_a_key() {
    let log = Log::new();
    let at = |name: &str| log.bundles.path().join(name).to_str().unwrap().to_string();
    std::fs::write(at("release.key"), [7; 32]).unwrap();
    std::fs::write(at("other.key"), [8; 32]).unwrap();
    std::fs::write(at("gate.yaml"), format!(
        "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\npolicies: {{keys: {{release: {{algorithm: HS256, file: {}}}}}}}\n",
        at("release.key"),
    )).unwrap();
    let bundle = log.bundle("ours", NEVER);
    let sign = |key: &str| {
        let opa = program("opa");
        let opa = opa.to_str().unwrap();
        let signs = ["--key", &at(key), "--algorithm", "HS256", "--key-id", "release", "--opa", opa];
        let arguments = [&["policy", "sign", &bundle], &signs[..]].concat();
        assert_eq!(run(&arguments).code, 0);
    };
    let config = at("gate.yaml");
    let tried = || log.replay(&["-c", &config, "--bundle", &bundle]);
    assert_eq!(tried().code, 0, "{:?}", tried());
    tried().has(&["warning: policy bundle `ours`: it is not signed, and the gate would refuse it"]);
    sign("other.key");
    tried().fails(&["signature"]);
    sign("release.key");
    assert_eq!(tried().code, 0, "{:?}", tried());
    assert!(!tried().out.contains("it is not signed"), "{:?}", tried());
    // Those of the configuration must be signed all the same.
    let plain = log.bundle("plain", NEVER);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("policies: {", &format!("policies: {{bundles: [{plain}], ")))
        .unwrap();
    tried().fails(&["policy bundle `plain` is refused: it is not signed"]);
}

#[test]
fn the_options_of_a_configuration_count_and_a_bundle_beside_the_others_is_named() {
    let log = Log::new();
    let reads =
        "violations contains {\"rule\": \"strict\", \"message\": \"m\"} if input.options.strictHere == true";
    let ours = log.bundle("ours", reads);
    let config = log.bundles.path().join("gate.yaml");
    for (options, code, change) in [("{}", 0, "0 would change"), ("{strictHere: true}", 1, "allow → deny")]
    {
        let text = format!(
            "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\npolicies: {{bundles: [{{name: ours, from: {ours}}}], options: {options}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let said = log.replay(&["-c", config.to_str().unwrap()]);
        assert_eq!(said.code, code, "{said:?}");
        said.has(&[change]);
    }
    let said = log.replay(&["-c", config.to_str().unwrap(), "--bundle", &format!("other={ours}")]);
    assert!(said.err.contains("bundle `other` is judged beside `ours`, `baseline`"), "{said:?}");
}
