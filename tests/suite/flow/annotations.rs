//! What the METADATA of a rule says, in the answer to the API server and in its record.

use serde_json::json;

use crate::support::gate::{Flow, Setup, plain_pod};
use crate::support::process::{self, program};

const RULES: &str = r#"# METADATA
# title: Never this one
# custom: {remedy: "Take another one.", severity: high}
violations contains {"rule": "never", "message": "not this one", "container": "app"}

# METADATA
# custom: {remedy: "From METADATA."}
violations contains {"rule": "own", "message": "nor so", "remedy": "From the rule itself.", "action": "warn"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_and_its_record_say_the_remedy_of_the_rule_and_a_violation_may_say_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (rules, bundle) = (folder.path().join("rules"), folder.path().join("ours.tar.gz"));
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(rules.join("rules.rego"), format!("package wasmgate\n\n{RULES}\n")).unwrap();
    let mut build = process::wasmgate();
    build.args(["policy", "build"]).arg(&rules).arg("-f").arg(&bundle).arg("--opa").arg(program("opa"));
    assert!(build.output().unwrap().status.success(), "{build:?}");
    let configuration = format!("policies: {{bundles: [{}]}}\n", bundle.display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let (_, _, answer) = flow.admit("shop", &plain_pod("hello")).await;
    let status = &answer["status"];
    let message = status["message"].as_str().unwrap();
    assert!(message.ends_with("\n- [never] not this one\n    remedy: Take another one."), "{message}");
    assert_eq!(status["details"]["causes"][0]["message"], "not this one\nremedy: Take another one.");
    assert_eq!(answer["warnings"], json!(["[own] nor so; remedy: From the rule itself."]));
    let records = flow.records();
    let violations = &records.last().unwrap()["result"]["violations"];
    assert_eq!(violations[0]["remedy"], "Take another one.", "{violations}");
    assert_eq!(violations[0]["annotations"], json!({"title": "Never this one", "severity": "high"}));
    assert_eq!(
        (&violations[1]["remedy"], violations[1].get("annotations")),
        (&json!("From the rule itself."), None)
    );
}
