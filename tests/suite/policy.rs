//! Policy bundles that the real `opa` compiled, in the real engine: the good one, and every kind of bad one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wasmgate::policy::{Bundle, Engine, Error, Evaluation, HOST_FUNCTIONS, Limits, PolicySet, Violation};

use crate::support::process::{program, root};
use crate::support::{case, opa, policies};

/// Sources of a bundle for one test.
struct Sources {
    rego: String,
    entrypoint: &'static str,
    manifest: Value,
    data: Value,
}

impl Sources {
    fn new(rules: &str) -> Self {
        Self {
            rego: format!("package wasmgate\n\n{rules}\n"),
            entrypoint: "wasmgate/violations",
            manifest: json!({"revision": "r1", "roots": ["wasmgate"], "rego_version": 1}),
            data: json!({}),
        }
    }

    /// The archive that `opa build` makes of them; reused if an earlier run had the same sources.
    fn build(&self) -> PathBuf {
        let manifest = self.manifest.to_string();
        let data = self.data.to_string();
        let mut hash = Sha256::new();
        for part in [&self.rego, self.entrypoint, &manifest, &data, &program("opa").to_string_lossy()] {
            hash.update(part);
            hash.update([0]);
        }
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policies");
        let archive = cache.join(format!("{:x}.tar.gz", hash.finalize()));
        if archive.exists() {
            return archive;
        }
        std::fs::create_dir_all(&cache).unwrap();
        let work = tempfile::tempdir_in(&cache).unwrap();
        let sources = work.path().join("bundle");
        std::fs::create_dir(&sources).unwrap();
        std::fs::write(sources.join("rules.rego"), &self.rego).unwrap();
        std::fs::write(sources.join(".manifest"), manifest).unwrap();
        std::fs::write(sources.join("data.json"), data).unwrap();
        let build = ["build", "-t", "wasm", "-e", self.entrypoint, "-b", "bundle", "-o", "out.tar.gz"];
        opa::run_in(work.path(), &build);
        std::fs::rename(work.path().join("out.tar.gz"), &archive).unwrap();
        archive
    }

    fn bundle(&self, name: &str) -> Bundle {
        Bundle::from_tar_gz(name, &std::fs::read(self.build()).unwrap()).unwrap()
    }
}

// === Helpers ===

const GENEROUS: Limits = Limits { fuel: 500_000_000, time: Duration::from_mins(1), memory_bytes: 64 << 20 };

async fn load(bundles: Vec<Bundle>, limits: Limits) -> Result<PolicySet, Error> {
    PolicySet::load(&Engine::new().unwrap(), bundles, limits).await
}

/// A set of one bundle with these rules.
async fn rules(rules: &str, limits: Limits) -> PolicySet {
    load(vec![Sources::new(rules).bundle("test")], limits).await.unwrap()
}

/// The only failure of an evaluation without findings.
fn failure(evaluation: &Evaluation) -> &str {
    assert_eq!(evaluation.violations, [], "a failed bundle must not report");
    let [failure] = evaluation.failures.as_slice() else { panic!("{evaluation:?}") };
    assert_eq!(failure.bundle, "test");
    assert!(
        !failure.message.contains("wasm backtrace") && !failure.message.contains("::"),
        "{}",
        failure.message
    );
    &failure.message
}

fn rules_of(evaluation: &Evaluation) -> Vec<&str> {
    assert_eq!(evaluation.failures, []);
    evaluation.violations.iter().map(|violation| violation.rule.as_str()).collect()
}

/// A pod that every baseline rule admits.
fn sample() -> Value {
    golden("admitted")
}

/// A pod that most baseline rules refuse.
fn refused_sample() -> Value {
    golden("refused")
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden_path(name)).unwrap()).unwrap()
}

fn golden_path(name: &str) -> PathBuf {
    root().join(format!("tests/fixtures/policies/{name}.v1alpha1.json"))
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
}

/// The input documents of the baseline's own tests: for every rule one that violates it, and the nearest that does not.
fn examples() -> Vec<(String, &'static str, Value)> {
    let mut examples = Vec::new();
    for which in ["refused", "admitted"] {
        let query = format!("data.wasmgate_test.{which}");
        let found = opa::run(&["eval", "-f", "raw", "-d", "policies/wasmgate", &query]);
        let found: BTreeMap<String, Value> = serde_json::from_slice(&found).unwrap();
        examples.extend(found.into_iter().map(|(rule, document)| (rule, which, document)));
    }
    examples
}

// === The input ===

/// The contract with policy authors: the committed documents show what Rust writes, and match the schema. Run with
/// `WASMGATE_WRITE_GOLDEN=1` to write them again after an intended change.
#[test]
fn the_input_is_what_the_golden_documents_and_the_schema_say() {
    for (name, written) in [("admitted", case::admitted()), ("refused", case::refused())] {
        if std::env::var_os("WASMGATE_WRITE_GOLDEN").is_some() {
            let text = serde_json::to_string_pretty(&written).unwrap() + "\n";
            std::fs::write(golden_path(name), text).unwrap();
        }
        assert_eq!(written, golden(name), "{name}: run with WASMGATE_WRITE_GOLDEN=1 if this is meant");
        let path = golden_path(name);
        let query = "json.match_schema(input, data.schema)";
        let schema = "schema:policies/schema/input.v1alpha1.json";
        let arguments = ["eval", "-f", "raw", "-i", path.to_str().unwrap(), "-d", schema, query];
        let matched: Value = serde_json::from_slice(&opa::run(&arguments)).unwrap();
        assert_eq!(matched, json!([true, []]), "{name}");
    }
}

#[test]
fn the_input_has_what_an_images_config_claims_and_which_interpreter_its_program_carries() {
    let input = case::refused();
    let containers = input["containers"].as_array().unwrap();
    let orders = containers.iter().find(|c| c["name"] == "orders").unwrap();
    let claim = json!({"field": "component.imports", "claimed": "", "found": "wasi:sockets/tcp@0.2.6"});
    assert_eq!(orders["claims"], json!([claim]));
    let seen = json!([{"seen": "producers section, processed-by", "value": "componentize-py 0.13.0"}]);
    let interpreter =
        json!({"engine": "CPython", "language": "Python", "source": "sha256:2c26b46b68ff", "evidence": seen});
    assert_eq!(orders["interpreters"], json!([interpreter]));
    for other in containers.iter().filter(|c| c["name"] != "orders") {
        assert_eq!((&other["claims"], other.get("interpreters")), (&json!([]), None), "{other}");
    }
}

// === The baseline ===

#[tokio::test]
async fn the_embedded_baseline_admits_a_covered_pod_and_says_why_it_refuses_another() {
    let set = policies::baseline().await;
    assert_eq!(set.evaluate(&sample()).await, Evaluation::default());
    let evaluation = set.evaluate(&refused_sample()).await;
    let found: BTreeSet<&str> = rules_of(&evaluation).into_iter().collect();
    let expected = [
        "ambient-wider-than-grant",
        "command-missing",
        "config-mismatch",
        "exec-probe-on-wasm-shim",
        "grant-expired",
        "host-namespace",
        "host-process-in-reach",
        "mixed-pod",
        "native-code",
        "needs-grant",
        "not-inspected",
        "runtime-mismatch",
        "secret-in-reach",
        "tag-not-pinned",
        "under-floor",
        "unknown-import",
        "capability-not-provided",
    ];
    assert_eq!(found, expected.into());
    let grant = evaluation.violations.iter().find(|v| v.rule == "grant-expired").unwrap();
    assert_eq!(grant.container.as_deref(), Some("orders"));
    assert_eq!(grant.capability.as_deref(), Some("env"));
    assert_eq!(grant.action, None);
    assert_eq!(
        grant.message,
        "container `orders` may use `env` `ORDERS_DB_PASSWORD` (a secret), and what allowed it has expired: \
         `WasiGrant/orders-api` on 2026-03-31T00:00:00Z (seen: env ORDERS_DB_PASSWORD from secret db key password, \
         import wasi:cli/environment@0.2.6 get-environment in layer sha256:2c26b46b68ff); ask the platform team to renew it"
    );
}

#[tokio::test]
async fn the_embedded_baseline_refuses_input_of_another_version() {
    let set = policies::baseline().await;
    assert_eq!(rules_of(&set.evaluate(&json!({"apiVersion": "wasmgate.dev/v2"})).await), ["unknown-input"]);
    assert_eq!(rules_of(&set.evaluate(&json!({})).await), ["unknown-input"]);
}

#[tokio::test]
async fn the_compiled_baseline_says_what_the_interpreter_says() {
    let set = policies::baseline().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input.json");
    let mut inputs =
        vec![sample(), refused_sample(), json!({}), json!({"apiVersion": "wasmgate.dev/v1alpha1"})];
    inputs.extend(examples().into_iter().map(|(_, _, document)| document));
    for input in inputs {
        std::fs::write(&path, input.to_string()).unwrap();
        let path = path.to_str().unwrap();
        let arguments =
            ["eval", "-f", "raw", "-d", "policies/wasmgate", "-i", path, "data.wasmgate.violations"];
        let mut wanted: Vec<Violation> = serde_json::from_slice(&opa::run(&arguments)).unwrap();
        wanted.sort();
        assert_eq!(set.evaluate(&input).await, Evaluation { violations: wanted, failures: Vec::new() });
    }
}

/// Also shows that no baseline rule reads what its manifest omits, such as `input.object`: `policies/lint` checks every
/// reference to the input.
#[test]
fn the_committed_baseline_is_what_its_sources_say_and_reads_what_its_manifest_says() {
    let script = root().join("policies/build");
    let output = Command::new(script).arg("--check").env("OPA", program("opa")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = std::fs::read(root().join("policies/baseline/.manifest")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest.pointer("/metadata/wasmgate/omit"), Some(&json!(["object", "grants"])));
    assert_eq!(manifest["revision"].as_str().unwrap(), Bundle::embedded().unwrap().revision);
    assert_eq!(manifest["revision"].as_str().unwrap().len(), 64);
}

// === Results of other shapes ===

#[tokio::test]
async fn a_result_of_another_shape_is_a_failure_and_never_an_admission() {
    let cases = [
        ("violations := true", "`wasmgate/violations` is a boolean, `true`, expected a set of violations"),
        ("violations := \"none\"", "`wasmgate/violations` is a string"),
        ("violations := {\"denied\": {\"reasons\": []}}", "`wasmgate/violations` is an object"),
        ("violations := null", "`wasmgate/violations` is null"),
        ("violations := set() if input.never", "`wasmgate/violations` is undefined on this input"),
        ("violations contains \"no\"", "a violation is a string, `\"no\"`: expected an object"),
        ("violations contains {\"msg\": \"no\"}", "unknown field `msg`"),
        (
            "violations contains {\"rule\": \"r\", \"message\": \"m\", \"severity\": 1}",
            "unknown field `severity`",
        ),
        (
            "violations contains {\"rule\": \"r\"}",
            "a violation of rule `r` is an object, `{\"rule\":\"r\"}`: missing field `message`",
        ),
        (
            "violations contains {\"rule\": \"r\", \"message\": {\"nested\": {\"deep\": []}}}",
            "a violation of rule `r`",
        ),
        (
            "violations contains {\"rule\": \"r\", \"message\": true}",
            "invalid type: boolean `true`, expected a string",
        ),
        (
            "violations contains {\"rule\": \"r\", \"message\": \"m\", \"action\": \"allow\"}",
            "unknown variant `allow`",
        ),
    ];
    for (source, expected) in cases {
        let evaluation = rules(source, GENEROUS).await.evaluate(&json!({})).await;
        let message = failure(&evaluation);
        assert!(message.starts_with("policy bundle `test` could not be evaluated: "), "{message}");
        assert!(message.contains(expected), "{source}: {message}");
    }
}

/// A rule's result on one input must not affect the next.
#[tokio::test]
async fn after_a_result_of_another_shape_the_next_request_is_clean() {
    let source = r#"
violations := input.result if input.result

violations := {{"rule": "r", "message": "m"}} if not input.result"#;
    let set = rules(source, GENEROUS).await;
    for result in [json!(true), json!("no"), json!({"a": {"b": []}}), json!([{"rule": "r", "msg": 1}])] {
        assert!(!failure(&set.evaluate(&json!({"result": result})).await).is_empty());
        assert_eq!(rules_of(&set.evaluate(&json!({})).await), ["r"]);
    }
    assert!(failure(&set.evaluate(&json!({"result": {}})).await).contains("is an object"));
    let undefined = "violations := set() if input.known";
    let set = rules(undefined, GENEROUS).await;
    for _ in 0..2 {
        assert!(failure(&set.evaluate(&json!({})).await).contains("undefined on this input"));
        assert_eq!(set.evaluate(&json!({"known": true})).await, Evaluation::default());
    }
}

#[tokio::test]
async fn an_empty_set_admits() {
    let set =
        rules("violations contains {\"rule\": \"r\", \"message\": \"m\"} if input.never", GENEROUS).await;
    assert_eq!(set.evaluate(&json!({"never": false})).await, Evaluation::default());
    assert_eq!(rules_of(&set.evaluate(&json!({"never": true})).await), ["r"]);
}

// === Rules that misbehave ===

/// Loops if the input says so, with little memory.
const LOOP: &str = r#"
numbers_to_try := numbers.range(1, 2000)

violations contains {"rule": "loop", "message": "m"} if {
	input.loop
	some a in numbers_to_try
	some b in numbers_to_try
	some c in numbers_to_try
	a == b
	b == c
	c == 0
}

violations contains {"rule": "fine", "message": "m"} if not input.loop
"#;

/// Little fuel, and ample time.
const BRIEF: Limits = Limits { fuel: 20_000_000, ..GENEROUS };
/// More fuel than fits into the time.
const LATE: Limits = Limits { fuel: u64::MAX, time: Duration::from_millis(50), ..GENEROUS };

#[tokio::test]
async fn a_rule_that_never_ends_is_stopped_and_the_next_request_is_clean() {
    let set = rules(LOOP, BRIEF).await;
    for _ in 0..2 {
        let evaluation = set.evaluate(&json!({"loop": true})).await;
        assert!(
            failure(&evaluation).ends_with("it needs more than 20000000 of fuel, in rule `loop`"),
            "{evaluation:?}"
        );
        assert_eq!(rules_of(&set.evaluate(&json!({"loop": false})).await), ["fine"]);
    }
}

#[tokio::test]
async fn an_evaluation_with_fuel_left_ends_with_its_time_and_no_rule_is_blamed() {
    let set = rules(LOOP, LATE).await;
    let evaluation = set.evaluate(&json!({"loop": true})).await;
    assert!(
        failure(&evaluation).ends_with("it was not done within 50ms, since the machine has too much to do"),
        "{evaluation:?}"
    );
    assert_eq!(rules_of(&set.evaluate(&json!({"loop": false})).await), ["fine"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_long_rule_does_not_block_the_threads_that_answer() {
    let set = rules(LOOP, Limits { fuel: u64::MAX, ..GENEROUS }).await;
    let ticks = async {
        for _ in 0..5 {
            // A tick that the executor must be free for.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let input = json!({"loop": true});
    tokio::select! {
        biased;
        evaluation = set.evaluate(&input) => panic!("the ticks must be first: {evaluation:?}"),
        () = ticks => {}
    }
    // The evaluation was dropped half-way; its instance must not be reused.
    assert_eq!(rules_of(&set.evaluate(&json!({"loop": false})).await), ["fine"]);
}

#[tokio::test]
async fn a_bundle_that_never_ends_does_not_hide_the_violations_of_others() {
    let bundles = vec![Sources::new(LOOP).bundle("loop"), Bundle::embedded().unwrap()];
    let set = load(bundles, BRIEF).await.unwrap();
    let mut input = sample();
    input["loop"] = json!(true);
    set_runtime_to_spin(&mut input);
    let evaluation = set.evaluate(&input).await;
    assert_eq!(evaluation.violations.len(), 1, "{evaluation:?}");
    assert_eq!(evaluation.violations[0].rule, "runtime-mismatch");
    assert_eq!(evaluation.failures.len(), 1);
    assert_eq!(evaluation.failures[0].bundle, "loop");
}

fn set_runtime_to_spin(input: &mut Value) {
    set(input, "/runtime/runs", json!(["spin-app"]));
}

#[tokio::test]
async fn evaluations_above_the_limit_wait_no_longer_than_the_time_limit() {
    let set = Arc::new(rules(LOOP, LATE).await);
    let evaluations: Vec<_> = (0..64)
        .map(|_| {
            let set = Arc::clone(&set);
            tokio::spawn(async move { set.evaluate(&json!({"loop": true})).await })
        })
        .collect();
    let mut waited = 0;
    for evaluation in evaluations {
        let evaluation = evaluation.await.unwrap();
        waited += usize::from(failure(&evaluation).ends_with("too many evaluations were under way"));
    }
    assert!(waited > 0, "some must have waited in vain");
    assert_eq!(rules_of(&set.evaluate(&json!({"loop": false})).await), ["fine"]);
}

#[tokio::test]
async fn the_rule_that_never_ends_is_named_even_if_it_loops_in_a_helper() {
    // It only compares: adding numbers up would allocate, and might end at the memory limit instead.
    let source = r#"
violations contains {"rule": "first", "message": "m"} if input.first

violations contains object.union(found("second"), {"container": c}) if {
	some c in input.second
	endless(c)
}

violations contains third("m") if input.third

violations contains third(c) if {
	some c in input.third
	endless(c)
}

third(message) := {"rule": "third", "message": message}

found(name) := {"rule": name, "message": "m"}

numbers_to_try := numbers.range(1, 2000)

endless(_) if {
	some a in numbers_to_try
	some b in numbers_to_try
	some c in numbers_to_try
	a == b
	b == c
	c == 0
}
"#;
    let set = rules(source, BRIEF).await;
    let evaluation = set.evaluate(&json!({"first": true, "third": ["c"]})).await;
    assert!(
        failure(&evaluation).ends_with("it needs more than 20000000 of fuel, in rule `third`"),
        "{evaluation:?}"
    );
    // The name is computed, so it is unknown which rule it will be.
    let evaluation = set.evaluate(&json!({"first": true, "second": ["c"]})).await;
    assert!(failure(&evaluation).ends_with("it needs more than 20000000 of fuel"), "{evaluation:?}");
}

const ALLOCATE: &str = r#"
violations contains {"rule": "size", "message": "m"} if {
	some size in [input.size]
	count(numbers.range(1, size)) == size
}
"#;

#[tokio::test]
async fn a_rule_that_allocates_without_end_is_stopped_and_the_next_request_is_clean() {
    let limits = Limits { memory_bytes: 16 << 20, ..GENEROUS };
    let set = rules(ALLOCATE, limits).await;
    for _ in 0..2 {
        let evaluation = set.evaluate(&json!({"size": 100_000_000})).await;
        assert!(
            failure(&evaluation).ends_with("it needs more than 16Mi of memory, in rule `size`"),
            "{evaluation:?}"
        );
        assert_eq!(rules_of(&set.evaluate(&json!({"size": 10})).await), ["size"]);
    }
    assert!(set.memory_bytes() <= 1 << 20, "{}", set.memory_bytes());
}

#[tokio::test]
async fn an_instance_whose_memory_has_grown_is_not_reused() {
    let set = rules(ALLOCATE, GENEROUS).await;
    let lean = set.memory_bytes();
    assert!(lean > 0);
    assert_eq!(rules_of(&set.evaluate(&json!({"size": 200_000})).await), ["size"]);
    assert_eq!(set.memory_bytes(), 0);
    assert_eq!(rules_of(&set.evaluate(&json!({"size": 10})).await), ["size"]);
    assert!(set.memory_bytes() <= lean, "{} {lean}", set.memory_bytes());
}

#[tokio::test]
async fn input_larger_than_the_memory_limit_is_a_failure() {
    let limits = Limits { memory_bytes: 1 << 20, ..GENEROUS };
    let set = rules("violations contains {\"rule\": \"r\", \"message\": \"m\"} if input.a", limits).await;
    let evaluation = set.evaluate(&json!({"a": "x".repeat(4 << 20)})).await;
    assert!(failure(&evaluation).ends_with("it needs more than 1Mi of memory"), "{evaluation:?}");
    assert_eq!(rules_of(&set.evaluate(&json!({"a": "x"})).await), ["r"]);
}

/// A pod with unusually large facts: a container with this many bytes of them.
fn large(bytes: usize) -> Value {
    let mut input = sample();
    let padding: Vec<String> = (0..bytes / 100).map(|i| format!("{i:098}")).collect();
    input["containers"][0]["padding"] = json!(padding);
    input
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_large_reviews_fail_neither_themselves_nor_a_small_one() {
    let limits = Limits { fuel: Limits::default().fuel, ..GENEROUS };
    let set = Arc::new(load(vec![Bundle::embedded().unwrap()], limits).await.unwrap());
    let evaluate = |input: Value| {
        let set = Arc::clone(&set);
        tokio::spawn(async move { set.evaluate(&input).await })
    };
    let reviews: Vec<_> = (0..16).map(|_| evaluate(large(700 << 10))).collect();
    let (mut left, mut small) = (FuturesUnordered::from_iter(reviews), 0);
    // Small ones are answered one after the other, while the large ones wait for each other.
    loop {
        assert_eq!(set.evaluate(&sample()).await, Evaluation::default());
        small += 1;
        match left.next().now_or_never() {
            None => {}
            Some(Some(evaluation)) => assert_eq!(evaluation.unwrap(), Evaluation::default()),
            Some(None) => break,
        }
    }
    assert!(small > 16, "{small}");
}

#[tokio::test]
async fn limits_that_allow_no_evaluation_are_refused() {
    for (limits, field) in [
        (Limits { fuel: 0, ..GENEROUS }, "policies.fuelLimit"),
        (Limits { time: Duration::ZERO, ..GENEROUS }, "policies.timeLimit"),
        (Limits { memory_bytes: 0, ..GENEROUS }, "policies.memoryLimitBytes"),
    ] {
        let error = load(vec![Bundle::embedded().unwrap()], limits).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{field}` is zero")), "{error}");
    }
}

#[tokio::test]
async fn input_that_is_not_an_object_is_a_failure() {
    let set = rules("violations contains {\"rule\": \"r\", \"message\": \"m\"} if input.a", GENEROUS).await;
    let evaluation = set.evaluate(&json!([1])).await;
    assert!(failure(&evaluation).ends_with("the input is not an object"), "{evaluation:?}");
}

#[tokio::test]
async fn deeply_nested_input_is_answered() {
    let set = rules("violations contains {\"rule\": \"r\", \"message\": \"m\"} if input.a", GENEROUS).await;
    let mut nested = json!(1);
    for _ in 0..100 {
        nested = json!([nested]);
    }
    assert_eq!(rules_of(&set.evaluate(&json!({"a": nested})).await), ["r"]);
}

#[tokio::test]
async fn a_conflict_between_rules_is_a_failure_that_names_the_place() {
    let set = rules("violations := {1}\nviolations := {2} if input.two", GENEROUS).await;
    let evaluation = set.evaluate(&json!({"two": true})).await;
    assert!(failure(&evaluation).contains("rules.rego:4:1: var assignment conflict"), "{evaluation:?}");
}

// === Built-in functions of the host ===

#[tokio::test]
async fn a_built_in_that_fails_is_a_failure() {
    let source =
        r#"violations contains {"rule": "r", "message": "m"} if time.parse_rfc3339_ns(input.when) > 0"#;
    let set = rules(source, GENEROUS).await;
    let evaluation = set.evaluate(&json!({"when": "yesterday"})).await;
    assert!(
        failure(&evaluation)
            .contains("premature end of input, in rule `r` (it may call `time.parse_rfc3339_ns`)"),
        "{evaluation:?}"
    );
    assert_eq!(rules_of(&set.evaluate(&json!({"when": "2026-11-22T00:00:00Z"})).await), ["r"]);
}

#[tokio::test]
async fn a_built_in_that_panics_is_a_failure_and_the_next_request_is_clean() {
    let source = r#"violations contains {"rule": "r", "message": sprintf(input.format, [1])}"#;
    let set = rules(source, GENEROUS).await;
    for _ in 0..2 {
        let evaluation = set.evaluate(&json!({"format": "%99999999999d"})).await;
        assert!(
            failure(&evaluation)
                .contains("a function of the host broke down, in rule `r` (it may call `sprintf`)"),
            "{evaluation:?}"
        );
        assert_eq!(rules_of(&set.evaluate(&json!({"format": "%d"})).await), ["r"]);
    }
}

/// Every function that the gate claims to supply, with arguments. Those of time and randomness have a test of their
/// own.
const CALLS: &[(&str, &str)] = &[
    ("base64url.encode_no_pad", r#"base64url.encode_no_pad("a?>")"#),
    ("crypto.hmac.md5", r#"crypto.hmac.md5("a", "key")"#),
    ("crypto.hmac.sha1", r#"crypto.hmac.sha1("a", "key")"#),
    ("crypto.hmac.sha256", r#"crypto.hmac.sha256("a", "key")"#),
    ("crypto.hmac.sha512", r#"crypto.hmac.sha512("a", "key")"#),
    ("crypto.md5", r#"crypto.md5("a")"#),
    ("crypto.sha1", r#"crypto.sha1("a")"#),
    ("crypto.sha256", r#"crypto.sha256("a")"#),
    ("hex.decode", r#"hex.decode("6869")"#),
    ("hex.encode", r#"hex.encode("hi")"#),
    ("semver.compare", r#"semver.compare("1.2.3", "1.10.0-rc1")"#),
    ("semver.is_valid", r#"semver.is_valid("1.2")"#),
    ("sprintf", r#"sprintf("%s has %d of %.1f", ["a", 2, 3.5])"#),
    ("time.clock", r#"time.clock([1700000000000000000, "Europe/Berlin"])"#),
    ("time.date", "time.date(1700000000000000000)"),
    ("time.parse_duration_ns", r#"time.parse_duration_ns("1h30m")"#),
    ("time.parse_rfc3339_ns", r#"time.parse_rfc3339_ns("2026-11-22T10:00:00.5+02:00")"#),
    ("time.weekday", "time.weekday(1700000000000000000)"),
    ("units.parse_bytes", r#"[units.parse_bytes("10MiB"), units.parse_bytes("10MB")]"#),
    ("urlquery.decode_object", r#"urlquery.decode_object("a=1&a=2&b=3")"#),
];

/// The result of a built-in as a violation carries it: JSON, which may be spelled in more than one way.
fn decoded(violation: Violation) -> (String, Value) {
    (violation.rule, serde_json::from_str(&violation.message).unwrap())
}

#[tokio::test]
async fn built_ins_of_the_host_answer_as_opa_does() {
    let called = CALLS.iter().map(|(name, _)| *name).chain(["rand.intn", "time.now_ns"]);
    assert_eq!(called.collect::<BTreeSet<_>>(), HOST_FUNCTIONS.iter().copied().collect());
    let rule = |(name, call): &(&str, &str)| {
        format!("violations contains {{\"rule\": \"{name}\", \"message\": json.marshal({call})}}")
    };
    let source = CALLS.iter().map(rule).collect::<Vec<_>>().join("\n\n");
    let evaluation = rules(&source, GENEROUS).await.evaluate(&json!({})).await;
    assert_eq!(evaluation.failures, []);
    let found: BTreeMap<_, _> = evaluation.violations.into_iter().map(decoded).collect();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.rego"), format!("package wasmgate\n\n{source}")).unwrap();
    let arguments = ["eval", "-f", "raw", "-d", "rules.rego", "data.wasmgate.violations"];
    let wanted: Vec<Violation> = serde_json::from_slice(&opa::run_in(directory.path(), &arguments)).unwrap();
    let wanted: BTreeMap<_, _> = wanted.into_iter().map(decoded).collect();
    assert_eq!(wanted.len(), CALLS.len());
    assert_eq!(found, wanted);
}

/// opa-wasm formats as C does. What it cannot format must not pass for an empty message or an undefined rule.
#[tokio::test]
async fn sprintf_verbs_of_go_are_a_failure() {
    for call in ["sprintf(\"%v\", [\"a\"])", "sprintf(\"%q\", [\"a\"])", "sprintf(\"%s\", [null])"] {
        let source = format!("violations contains {{\"rule\": \"r\", \"message\": {call}}}");
        let evaluation = rules(&source, GENEROUS).await.evaluate(&json!({})).await;
        assert!(failure(&evaluation).ends_with("(it may call `sprintf`)"), "{call}: {evaluation:?}");
    }
}

#[tokio::test]
async fn time_and_randomness_are_constant_within_one_evaluation() {
    let source = r#"
now := time.now_ns()

violations contains {"rule": "now", "message": "m"} if {
	now > 1700000000000000000
	now == time.now_ns()
	rand.intn("a", 1000000) == rand.intn("a", 1000000)
}"#;
    let set = rules(source, GENEROUS).await;
    assert_eq!(rules_of(&set.evaluate(&json!({})).await), ["now"]);
    assert_eq!(rules_of(&set.evaluate(&json!({})).await), ["now"]);
}

#[tokio::test]
async fn missing_built_ins_are_all_named_when_the_bundle_is_loaded() {
    let source = r#"
violations contains {"rule": "r", "message": "m"} if {
	http.send({"method": "get", "url": "http://example.com"}).status_code == 200
	time.parse_ns("2006", input.a) > 0
	regex.replace(input.a, "b", "c") == "d"
	units.parse(input.a) > 1
	opa.runtime().env.HOME == input.a
	time.now_ns() > 0
}"#;
    let error = load(vec![Sources::new(source).bundle("test")], GENEROUS).await.unwrap_err();
    assert!(matches!(error, Error::SupplyBuiltins { .. }));
    assert_eq!(
        error.to_string(),
        "policy bundle `test` calls built-in functions that the gate does not have: `http.send`, `opa.runtime`, \
         `regex.replace`, `time.parse_ns`, `units.parse`; write the rules without them"
    );
}

// === Reuse ===

#[tokio::test]
async fn a_thousand_evaluations_keep_memory_flat() {
    // A set of its own: other tests would change its memory.
    let set = load(vec![Bundle::embedded().unwrap()], GENEROUS).await.unwrap();
    let input = refused_sample();
    let first = set.evaluate(&input).await;
    let memory = set.memory_bytes();
    assert!(memory > 0);
    for _ in 0..1000 {
        assert_eq!(set.evaluate(&input).await, first);
    }
    assert_eq!(set.memory_bytes(), memory);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_evaluations_do_not_see_each_other() {
    let source = r#"violations contains {"rule": "r", "message": $"{input.number}"}"#;
    let set = Arc::new(rules(source, GENEROUS).await);
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let set = Arc::clone(&set);
            tokio::spawn(async move { (number, set.evaluate(&json!({"number": number})).await) })
        })
        .collect();
    for task in tasks {
        let (number, evaluation) = task.await.unwrap();
        assert_eq!(rules_of(&evaluation), ["r"]);
        assert_eq!(evaluation.violations[0].message, format!("{number}"));
    }
}

#[tokio::test]
async fn violations_of_all_bundles_are_united_sorted_and_without_duplicates() {
    let both = r#"
violations contains {"rule": "z", "message": "m"}
violations contains {"rule": "b", "message": "m"}"#;
    let one = r#"
violations contains {"rule": "a", "message": "m"}
violations contains {"rule": "b", "message": "m"}"#;
    let bundles = vec![Sources::new(both).bundle("two"), Sources::new(one).bundle("one")];
    let set = load(bundles, GENEROUS).await.unwrap();
    assert_eq!(rules_of(&set.evaluate(&json!({})).await), ["a", "b", "z"]);
    let revisions = [("one".to_string(), "r1".to_string()), ("two".to_string(), "r1".to_string())];
    assert_eq!(set.revisions(), BTreeMap::from(revisions));
}

#[tokio::test]
async fn a_bundle_gets_its_data_and_the_keys_that_it_does_not_omit() {
    let source = r#"
violations contains {"rule": key, "message": data.wasmgate.limits.text} if some key, _ in input"#;
    let mut sources = Sources::new(source);
    sources.data = json!({"wasmgate": {"limits": {"text": "from data"}}});
    let input = json!({"object": {"spec": 1}, "workload": {"object": 1}, "runtime": {}});
    let everything = load(vec![sources.bundle("all")], GENEROUS).await.unwrap();
    let evaluation = everything.evaluate(&input).await;
    assert_eq!(rules_of(&evaluation), ["object", "runtime", "workload"]);
    assert_eq!(evaluation.violations[0].message, "from data");
    sources.manifest["metadata"] = json!({"wasmgate": {"omit": ["object"]}, "other": 1});
    let less = load(vec![sources.bundle("less")], GENEROUS).await.unwrap();
    assert_eq!(rules_of(&less.evaluate(&input).await), ["runtime", "workload"]);
}

// === Bundles that cannot be used ===

fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        // The safe interface refuses absolute names, which opa writes.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn refused(files: &[(&str, &[u8])]) -> String {
    Bundle::from_tar_gz("test", &tar_gz(files)).unwrap_err().to_string()
}

const WASM: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn archives_that_are_not_bundles_are_refused_with_advice() {
    let garbage = Bundle::from_tar_gz("test", b"not gzip at all").unwrap_err();
    assert!(matches!(garbage, Error::UnpackBundle { .. }), "{garbage}");
    assert!(garbage.to_string().contains("expected a `.tar.gz` as `opa build` writes it"), "{garbage}");
    let whole = tar_gz(&[("/policy.wasm", &vec![7; 100_000])]);
    let cut = Bundle::from_tar_gz("test", &whole[..whole.len() / 2]).unwrap_err();
    assert!(matches!(cut, Error::UnpackBundle { .. }), "{cut}");
    assert_eq!(
        refused(&[("/rules.rego", b"package wasmgate")]),
        "policy bundle `test` has no `policy.wasm`, build it with `opa build -t wasm -e wasmgate/violations`"
    );
    assert!(refused(&[("/policy.wasm", b"module")]).contains("does not start with the magic number of Wasm"));
    assert!(refused(&[("/policy.wasm", WASM), ("/.manifest", b"{")]).contains("cannot read `.manifest`"));
    assert!(refused(&[("/policy.wasm", WASM), ("/data.json", b"[]")]).contains("expected an object"));
    assert!(
        refused(&[("/policy.wasm", WASM), ("/data.yaml", b"a: 1")])
            .contains("`data.yaml`, which is not read")
    );
    assert!(refused(&[("/policy.wasm", WASM), ("/a/data.json", b"{}")]).contains("`a/data.json`"));
    assert!(refused(&[("/policy.wasm", WASM)]).contains(
        "has no file `data.json`, so its rules would run without the data that they may need; `opa build` always writes one"
    ));
    assert!(refused(&[("/policy.wasm", WASM), ("policy.wasm", WASM)]).contains("it is there twice"));
    let omit = br#"{"metadata": {"wasmgate": {"omit": "object"}}}"#;
    assert!(refused(&[("/policy.wasm", WASM), ("/.manifest", omit)]).contains("expected a sequence"));
    let unknown = br#"{"metadata": {"wasmgate": {"omits": []}}}"#;
    assert!(refused(&[("/policy.wasm", WASM), ("/.manifest", unknown)]).contains("unknown field `omits`"));
}

#[test]
fn a_gzip_bomb_is_refused_before_it_fills_the_memory() {
    let mut archive = GzEncoder::new(Vec::new(), Compression::fast());
    let mut header = tar::Header::new_gnu();
    header.set_path("policy.wasm").unwrap();
    header.set_size(300 << 20);
    header.set_cksum();
    archive.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..300 {
        archive.write_all(&zeros).unwrap();
    }
    let bomb = archive.finish().unwrap();
    assert!(bomb.len() < 4 << 20);
    let error = Bundle::from_tar_gz("test", &bomb).unwrap_err();
    assert!(matches!(error, Error::SizeBundle { .. }), "{error}");
    assert!(error.to_string().contains("contents of more than 268435456 bytes"), "{error}");
}

#[tokio::test]
async fn modules_that_are_not_policies_are_refused_with_advice() {
    let load_wasm = async |wasm: &[u8]| {
        let bundle =
            Bundle::from_tar_gz("test", &tar_gz(&[("/policy.wasm", wasm), ("/data.json", b"{}")])).unwrap();
        load(vec![bundle], GENEROUS).await.unwrap_err()
    };
    let load_wat = async |wat: &str| load_wasm(&wat::parse_str(wat).unwrap()).await;
    assert!(matches!(load_wasm(b"\0asm\x01\0\0\0\xff\xff").await, Error::CompileModule { .. }));
    let empty = load_wat("(module)").await;
    assert!(matches!(empty, Error::RecognisePolicy { .. }));
    assert_eq!(
        empty.to_string(),
        "`policy.wasm` of policy bundle `test` is not a compiled policy: it does not import `env.memory`; \
         build it with `opa build -t wasm -e wasmgate/violations`"
    );
    let other = load_wat(r#"(module (import "env" "memory" (memory 1)))"#).await.to_string();
    assert!(other.contains("it does not export `opa_wasm_abi_version`"), "{other}");
    let old = r#"(module (import "env" "memory" (memory 1))
        (global (export "opa_wasm_abi_version") i32 (i32.const 1))
        (global (export "opa_wasm_abi_minor_version") i32 (i32.const 1)))"#;
    let old = load_wat(old).await;
    assert!(matches!(old, Error::SpeakAbi { .. }) && old.to_string().contains("speaks version 1.1"), "{old}");
    let greedy = load_wat(r#"(module (import "env" "memory" (memory 60000)))"#).await.to_string();
    assert!(greedy.contains("it needs more than 64Mi of memory"), "{greedy}");
    let wild = r#"(module (import "env" "memory" (memory 1))
        (global (export "opa_wasm_abi_version") i32 (i32.const 1))
        (global (export "opa_wasm_abi_minor_version") i32 (i32.const 3))
        (func (export "entrypoints") (result i32) (i32.const 0))
        (func (export "opa_json_dump") (param i32) (result i32) (i32.const -1)))"#;
    let wild = load_wat(wild).await.to_string();
    assert!(wild.contains("`entrypoints` points outside of its memory"), "{wild}");
}

#[tokio::test]
async fn a_bundle_without_the_entry_point_is_refused_with_the_ones_that_it_has() {
    let mut sources = Sources::new("allow := true");
    sources.entrypoint = "wasmgate/allow";
    let error = load(vec![sources.bundle("test")], GENEROUS).await.unwrap_err();
    assert!(matches!(error, Error::FindEntrypoint { .. }));
    assert_eq!(
        error.to_string(),
        "policy bundle `test` lacks the entry point `wasmgate/violations` and has `wasmgate/allow`, \
         build it with `opa build -t wasm -e wasmgate/violations`"
    );
}

#[tokio::test]
async fn two_bundles_of_one_name_are_refused() {
    let bundles = vec![Bundle::embedded().unwrap(), Bundle::embedded().unwrap()];
    let error = load(bundles, GENEROUS).await.unwrap_err();
    assert_eq!(error.to_string(), "two policy bundles are named `baseline`, rename one");
}

#[test]
fn a_folder_with_data_in_subfolders_is_refused_and_a_mounted_config_map_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::copy(root().join("policies/baseline").join(name), &path).unwrap();
    };
    for file in ["policy.wasm", "data.json", "..2026_11_27/policy.wasm", "..2026_11_27/data.json"] {
        write(file);
    }
    Bundle::load(folder.path()).unwrap();
    write("config/data.json");
    let error = Bundle::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "holds `config/data.json`, which is not read: `opa build` puts one at the root of the bundle"
        ),
        "{error}"
    );
    std::fs::remove_dir_all(folder.path().join("config")).unwrap();
    std::fs::remove_file(folder.path().join("data.json")).unwrap();
    assert!(matches!(Bundle::load(folder.path()), Err(Error::FindData { .. })));
}

#[tokio::test]
async fn a_bundle_is_loaded_from_an_archive_and_from_a_directory() {
    let directory = Bundle::load(&root().join("policies/baseline")).unwrap();
    assert_eq!((directory.name.as_str(), directory.revision.len()), ("baseline", 64));
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("shop-rules.tar.gz");
    let rules = "violations contains {\"rule\": \"r\", \"message\": \"m\"} if input.never";
    std::fs::copy(Sources::new(rules).build(), &archive).unwrap();
    let archive = Bundle::load(&archive).unwrap();
    assert_eq!((archive.name.as_str(), archive.revision.as_str()), ("shop-rules", "r1"));
    let set = load(vec![directory, archive], GENEROUS).await.unwrap();
    assert_eq!(set.evaluate(&sample()).await, Evaluation::default());
    let missing = Bundle::load(&work.path().join("none.tar.gz")).unwrap_err();
    assert!(matches!(missing, Error::ReadBundle { .. }) && missing.to_string().contains("none.tar.gz"));
    let empty = Bundle::load(work.path().parent().unwrap().join("..").as_path());
    assert!(matches!(empty, Err(Error::FindModule { .. } | Error::ReadBundle { .. })), "{empty:?}");
}
