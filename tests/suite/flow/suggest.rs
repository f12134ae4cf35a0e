//! `suggest` on the corpus: a case that lacks only a grant is admitted with the grant that `suggest` writes, and of
//! every other case it says that no grant mends it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::cli::manifest::Manifest;
use wasmgate::cli::suggest::{Suggestion, names_of_grants, suggest, suggest_policy};

use super::cases::{apart, shared_setup, walk};
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Setup, plain_pod, pod};
use crate::support::{images, opa};

async fn suggestion(flow: &Flow, case: &Case) -> Suggestion {
    let state = flow.gate.state();
    let manifest = Manifest { origin: case.name.clone(), object: case.request().object };
    let mut taken = names_of_grants(&state);
    let budget = Duration::from_secs(20);
    suggest(&state, &flow.gate.inspector(), &manifest, case.namespace(), budget, &mut taken).await.unwrap()
}

/// Denied cases, by whether only a grant is missing. None that a grant mends may be left out.
fn denied(cases: &[Case]) -> (Vec<&Case>, Vec<&Case>) {
    const ASKS_FOR_GRANT: [&str; 7] = [
        "ambient-wider-than-grant",
        "grant-expired",
        "host-process-in-reach",
        "needs-grant",
        "plugin-env",
        "secret-in-reach",
        "unknown-import",
    ];
    // A violation that only warns does not matter here.
    const WARNING: [&str; 3] = ["mixed-pod", "under-floor", "capability-not-provided"];
    let asks = |rule: &String| {
        let mut words = rule.split(' ');
        let name = words.next().unwrap();
        // Without a capability, the finding is about a runtime that no profile describes.
        let described = name != "ambient-wider-than-grant" || words.nth(1).is_some();
        ASKS_FOR_GRANT.contains(&name) && described || WARNING.contains(&name)
    };
    cases.iter().filter(|case| case.outcome() == "deny").partition(|case| case.expect.rules.iter().all(asks))
}

async fn flow_of(case: &Case, more: Vec<Value>) -> Flow {
    let own = apart(case);
    Flow::new(&Setup { grants: [own.grants, more].concat(), ..own }).await
}

fn documents(found: &Suggestion) -> Vec<Value> {
    found.grants.iter().map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// The problems of a case whose gate has the suggested grants.
async fn wrong_with(granted: &Flow, case: &Case, wrong: &mut BTreeMap<String, String>) {
    let mut serving = granted.serve().await;
    let validate = walk(case, &mut serving, &mut Vec::new()).await.validate;
    let summary = suggestion(granted, case).await.summary;
    if validate["allowed"] != true || summary != "nothing is missing" {
        wrong.insert(case.name.clone(), format!("{summary}: {}", validate["status"]["message"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_only_lacks_a_grant_is_admitted_with_the_suggested_one() {
    images::folder();
    let cases = Case::load_all();
    let shared = shared_setup(&cases);
    let flow = Flow::new(&shared).await;
    let (mendable, _) = denied(&cases);
    assert!(mendable.len() >= 90, "{} cases", mendable.len());
    let mut grants = shared.grants.clone();
    let mut wrong = BTreeMap::new();
    for case in &mendable {
        let own = if case.is_apart() { Some(flow_of(case, Vec::new()).await) } else { None };
        let found = suggestion(own.as_ref().unwrap_or(&flow), case).await;
        assert_eq!(found.blocked, [""; 0], "{}", case.name);
        assert!(!found.grants.is_empty(), "{}", case.name);
        match own {
            Some(_) => wrong_with(&flow_of(case, documents(&found)).await, case, &mut wrong).await,
            None => grants.extend(documents(&found)),
        }
    }
    let granted = Flow::new(&Setup { grants, ..shared }).await;
    for case in mendable.iter().filter(|case| !case.is_apart()) {
        wrong_with(&granted, case, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_grant_can_mend_is_named_and_an_admitted_pod_lacks_nothing() {
    images::folder();
    let cases = Case::load_all();
    let flow = Flow::new(&shared_setup(&cases)).await;
    let (_, beyond) = denied(&cases);
    // An update of a running pod is refused for reasons that a new pod does not have: `suggest` judges new pods.
    for case in beyond.into_iter().filter(|case| case.is_new()) {
        let own = if case.is_apart() { Some(flow_of(case, Vec::new()).await) } else { None };
        let found = suggestion(own.as_ref().unwrap_or(&flow), case).await;
        assert!(!found.blocked.is_empty(), "{}: {}", case.name, found.to_yaml());
        let rules: Vec<&str> = case.expect.rules.iter().filter_map(|rule| rule.split(' ').next()).collect();
        for line in &found.blocked {
            let rule = line.trim_start_matches('[').split(']').next().unwrap();
            assert!(rules.contains(&rule), "{}: {line}", case.name);
        }
    }
    for case in cases.iter().filter(|case| case.outcome() == "admit" && !case.is_apart() && case.is_new()) {
        let found = suggestion(&flow, case).await;
        let nothing = found.grants.is_empty() && found.blocked.is_empty();
        // A namespace that only audits admits what a grant would still cover.
        assert!(nothing || !case.expect.rules.is_empty(), "{}: {}", case.name, found.to_yaml());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_image_does_not_tell_is_a_warning() {
    images::folder();
    let cases = Case::load_all();
    let flow = Flow::new(&shared_setup(&cases)).await;
    for (name, expected) in [
        ("deny-spin-template", "is not known before start"),
        ("deny-network", "reaches any host: the image does not say which hosts it needs"),
        ("deny-unknown-import", "grant it only if you know which host function answers"),
        ("deny-variables", "brings is not known here"),
        ("deny-http-outbound", "restrict it with a NetworkPolicy"),
    ] {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let found = suggestion(&flow, case).await;
        let said = found.warnings.iter().any(|line| line.contains(expected));
        assert!(said, "{name}: {}", found.to_yaml());
    }
}

/// A rule in a user's own bundle that refuses what no grant covers, and declares that a grant mends it.
fn own_rule(mended_by: &str) -> String {
    format!(
        "violations contains violation if {{
    some container in input.containers
    some entry in container.effective
    count(entry.coveredBy) == 0
    violation := {{
        \"rule\": \"house-grants\", \"message\": \"not granted\",
        \"container\": container.name, \"capability\": entry.capability{mended_by},
    }}
}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_another_bundle_declares_whether_a_grant_mends_it() {
    images::folder();
    let manifest = Manifest { origin: "pod.yaml".into(), object: plain_pod("tcp-connect") };
    let folder = tempfile::tempdir().unwrap();
    let under = async |name: &str, mended_by: &str, grants: &[Value]| {
        let bundle = opa::build(folder.path(), name, "wasmgate/violations", &own_rule(mended_by));
        let configuration = format!("policies: {{baseline: false, bundles: [{}]}}\n", bundle.display());
        let setup = Setup { configuration, grants: grants.to_vec(), ..Setup::default() };
        let flow = Box::pin(Flow::new(&setup)).await;
        let state = flow.gate.state();
        let (mut taken, budget) = (names_of_grants(&state), Duration::from_secs(20));
        let inspector = flow.gate.inspector();
        let found =
            Box::pin(suggest(&state, &inspector, &manifest, "shop", budget, &mut taken)).await.unwrap();
        let (.., validate) = flow.admit("shop", &manifest.object).await;
        (found, validate["allowed"].clone())
    };

    let (found, allowed) = under("grant", ", \"mendedBy\": \"grant\"", &[]).await;
    assert_eq!((found.summary.as_str(), found.blocked.len()), ("this grant would admit it", 0));
    assert_eq!(allowed, json!(false));
    let (granted, allowed) = under("granted", ", \"mendedBy\": \"grant\"", &documents(&found)).await;
    assert_eq!((granted.summary.as_str(), allowed), ("nothing is missing", json!(true)));

    // The grant covers what the program can use, but the rule still refuses for another reason.
    for (name, mended_by) in [("unsaid", ""), ("pod", ", \"mendedBy\": \"pod\"")] {
        let (found, _) = under(name, mended_by, &[]).await;
        assert_eq!(found.summary, "this grant is needed, but a rule also denies what no grant can allow");
        assert_eq!(found.blocked, ["[house-grants] not granted (no grant can allow this)"]);
    }
    let (found, _) = under("image", ", \"mendedBy\": \"image\"", &[]).await;
    assert_eq!((found.summary.as_str(), found.grants.len()), ("no grant can admit it", 0));
    assert_eq!(found.blocked, ["[house-grants] not granted (no grant can allow this)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_demands_a_grant_although_all_is_granted_does_not_count_as_mended() {
    images::folder();
    let folder = tempfile::tempdir().unwrap();
    let rule = r#"violations contains {
    "rule": "never", "message": "no", "container": "app", "capability": "tls", "mendedBy": "grant",
}"#;
    let bundle = opa::build(folder.path(), "never", "wasmgate/violations", rule);
    let configuration = format!("policies: {{baseline: false, bundles: [{}]}}\n", bundle.display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let state = flow.gate.state();
    let manifest = Manifest { origin: "pod.yaml".into(), object: plain_pod("hello") };
    let (mut taken, budget) = (names_of_grants(&state), Duration::from_secs(20));
    let found = suggest(&state, &flow.gate.inspector(), &manifest, "shop", budget, &mut taken).await.unwrap();
    assert_eq!(found.summary, "no grant can admit it");
    assert_eq!(
        found.blocked,
        ["[never] no (its rule asks for a grant, and nothing of the kind is without one)"]
    );
}

/// A grant for any host is the last resort where a field of another container would do.
#[tokio::test(flavor = "multi_thread")]
async fn what_makes_a_grant_smaller_comes_before_the_grant() {
    images::folder();
    let cases = Case::load_all();
    let case = cases.iter().find(|case| case.name == "deny-host-beside-sql-of-spin").unwrap();
    let found = suggestion(&flow_of(case, Vec::new()).await, case).await;
    let first = found.warnings.first().map(String::as_str).unwrap_or_default();
    assert!(first.starts_with("container `app`: https://payments.example.com counts as any host"), "{first}");
    let cure = "set `runAsNonRoot: true`, `allowPrivilegeEscalation: false` and `capabilities: {drop: [ALL]}` in the \
                securityContext of `other`";
    assert!(first.contains(cure), "{first}");
    let text = found.to_yaml();
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
    assert!(place(cure) < place("kind: WasiGrant"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_network_policy_is_written_for_a_pod_with_a_linux_program() {
    images::folder();
    let flow = Flow::new(&Setup::default()).await;
    let containers = |names: &[&str]| {
        let container = |name: &&str| json!({"name": name, "image": format!("images.test/{name}:v1")});
        pod(
            &json!({"automountServiceAccountToken": false, "containers": names.iter().map(container).collect::<Vec<_>>()}),
        )
    };
    for (names, policies, blocked) in [
        (&["tcp-connect"][..], 1, None),
        (&["tcp-connect", "linux"], 0, Some("container `linux` starts something else")),
    ] {
        let manifest = Manifest { origin: "pod.yaml".into(), object: containers(names) };
        let (state, budget) = (flow.gate.state(), Duration::from_secs(20));
        let found = suggest_policy(&state, &flow.gate.inspector(), &manifest, "shop", budget).await.unwrap();
        assert_eq!(found.grants.len(), policies, "{found:?}");
        let said = found.blocked.join("");
        assert!(blocked.map_or(said.is_empty(), |blocked| said.contains(blocked)), "{found:?}");
    }
}

/// Where the runtime hands over the whole network, a grant by address admits no pod unless policies are said to hold the pods.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_by_address_admits_a_pod_only_where_network_policies_are_said_to_hold_it() {
    images::folder();
    let address = json!({"name": "net.tcp.connect", "hosts": ["tcp://10.1.0.0/16:5432"]});
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "db", "namespace": "shop"}, "spec": {"capabilities": [address]}});
    let profile = |more: &str| {
        format!(
            "runtimes:\n  placement: {{component: own}}\n  profiles: [{{name: own, runtimeClass: own, runs: [component], \
             ambient: runwasi-wasmtime{more}}}]\n"
        )
    };
    for (more, is_held) in
        [(", networkPolicies: enforced", true), (", networkPolicies: off", false), ("", false)]
    {
        let setup = Setup { configuration: profile(more), grants: vec![grant.clone()], ..Setup::default() };
        let flow = Flow::new(&setup).await;
        let (_, _, validate) = flow.admit("shop", &plain_pod("tcp-connect")).await;
        assert_eq!(validate["allowed"], is_held, "{validate}");
        let assumed = validate["warnings"].to_string().contains("[network-policy-assumed]");
        assert_eq!(assumed, is_held, "{validate}");
        let manifest = Manifest { origin: "pod.yaml".into(), object: plain_pod("tcp-connect") };
        let (state, budget) = (flow.gate.state(), Duration::from_secs(20));
        let found = suggest_policy(&state, &flow.gate.inspector(), &manifest, "shop", budget).await.unwrap();
        assert_eq!(found.blocked.is_empty(), is_held, "{found:?}");
        assert!(is_held || found.blocked[0].contains("does not admit the pod on this runtime"), "{found:?}");
        // The policy is narrow either way.
        let policy: Value = serde_saphyr::from_str(&found.grants[0]).unwrap();
        let rule = json!({"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 5432}]});
        assert_eq!(policy["spec"]["egress"], json!([rule]), "{found:?}");
    }
}
