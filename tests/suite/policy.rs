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
use wasmgate::policy::{Bundle, Contents, Error, Evaluation, Limits, PolicySet, Violation, blames_load};
use wasmgate::rego::REFUSED;

use crate::support::policies::engine;
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

    /// The archive that `opa build` makes of them.
    fn build(&self) -> PathBuf {
        let (manifest, data) = (self.manifest.to_string(), self.data.to_string());
        let files = [
            ("rules.rego", self.rego.as_str()),
            (".manifest", manifest.as_str()),
            ("data.json", data.as_str()),
        ];
        opa::built(&files, &["--entrypoint", self.entrypoint])
    }

    fn bundle(&self, name: &str) -> Bundle {
        Bundle::from_tar_gz(name, &std::fs::read(self.build()).unwrap()).unwrap()
    }
}

// === Helpers ===

const GENEROUS: Limits = Limits {
    fuel: 500_000_000,
    time: Duration::from_mins(1),
    memory_bytes: 64 << 20,
    strict_builtins: false,
};

async fn load(bundles: Vec<Bundle>, limits: Limits) -> Result<PolicySet, Error> {
    PolicySet::load(&engine(), bundles, limits).await
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
        // The document that bundles are tried with, which ships.
        if name == "admitted" {
            let example = root().join("policies/schema/example.v1alpha1.json");
            if std::env::var_os("WASMGATE_WRITE_GOLDEN").is_some() {
                std::fs::copy(golden_path(name), &example).unwrap();
            }
            assert_eq!(std::fs::read(example).unwrap(), std::fs::read(golden_path(name)).unwrap());
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
         import wasi:cli/environment@0.2.6 get-environment in layer sha256:2c26b46b68ff); no grant helps as long as `native-code` refuses the container"
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
        for found in &mut wanted {
            (found.bundle, found.is_built_in) = (Some("baseline".into()), true);
        }
        wanted.sort();
        assert_eq!(set.evaluate(&input).await, Evaluation { violations: wanted, ..Evaluation::default() });
    }
}

/// Another author's engine on the same module.
#[tokio::test]
async fn the_compiled_baseline_says_what_opa_wasm_says() {
    let set = policies::baseline().await;
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::from_file(&engine, root().join("policies/baseline/policy.wasm")).unwrap();
    let data = std::fs::read(root().join("policies/baseline/data.json")).unwrap();
    let data: Value = serde_json::from_slice(&data).unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    let policy = opa_wasm::Runtime::new(&mut store, &module).await.unwrap();
    let policy = policy.with_data(&mut store, &data).await.unwrap();
    let mut inputs = vec![sample(), refused_sample(), json!({})];
    inputs.extend(examples().into_iter().map(|(_, _, document)| document));
    for input in inputs {
        let found: Value = policy.evaluate(&mut store, "wasmgate/violations", &input).await.unwrap();
        let mut wanted: Vec<Violation> = serde_json::from_value(found[0]["result"].clone()).unwrap();
        for found in &mut wanted {
            (found.bundle, found.is_built_in) = (Some("baseline".into()), true);
        }
        wanted.sort();
        assert_eq!(set.evaluate(&input).await, Evaluation { violations: wanted, ..Evaluation::default() });
    }
}

/// Also shows that no baseline rule reads what its manifest says that none does, such as `input.object`: `policies/lint` looks at every
/// reference to the input.
#[test]
fn the_committed_baseline_is_what_its_sources_say_and_reads_what_its_manifest_says() {
    let script = root().join("policies/build");
    let output = Command::new(script).arg("--check").env("OPA", program("opa")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = std::fs::read(root().join("policies/baseline/.manifest")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let omitted = manifest.pointer("/metadata/wasmgate/omit").and_then(Value::as_array).unwrap();
    // What is large, and what makes each request another input.
    for path in ["object", "grants", "request.uid", "request.name", "workload.name"] {
        assert!(omitted.contains(&json!(path)), "{path}: {omitted:?}");
    }
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

/// A call of the host cannot be stopped from outside, so it looks at the time itself.
#[tokio::test]
async fn a_long_call_with_fuel_left_ends_with_the_time_of_its_evaluation() {
    let template = r#"
violations contains {"rule": "long", "message": strings.render_template("{{range 1000000000}}{{end}}", {})} if input.loop
violations contains {"rule": "fine", "message": "m"} if not input.loop
"#;
    let set = rules(template, Limits { time: Duration::from_millis(400), ..LATE }).await;
    let mut said = String::new();
    // A machine that keeps the call from working is to blame itself.
    for _ in 0..20 {
        said = failure(&set.evaluate(&json!({"loop": true})).await).to_string();
        if !blames_load(&said) {
            break;
        }
    }
    let named = "it was not done in time, most of which the calls of `strings.render_template` took (";
    assert!(
        said.contains(named) && said.contains(" ms), in rule `long`: more time does not mend that"),
        "{said}"
    );
    assert_eq!(rules_of(&set.evaluate(&json!({"loop": false})).await), ["fine"]);
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

/// Each array holds the one before it twice, so a module has few values, and who reads them all has millions.
#[tokio::test]
async fn values_that_stand_in_many_places_are_read_by_the_host_within_the_limits() {
    let arrays: Vec<_> = (1..=40).map(|step| format!("\tx{step} := [x{0}, x{0}]\n", step - 1)).collect();
    let arrays = arrays.concat();
    let source = format!(
        "violations contains {{\"rule\": \"r\", \"message\": m}} if {{\n\tx0 := [input.a]\n{arrays}\tm := json.marshal(x40)\n}}"
    );
    for (limits, message) in
        [(GENEROUS, "it needs more than 64Mi of memory"), (BRIEF, "it needs more than 20000000 of fuel")]
    {
        let set = rules(&source, limits).await;
        let evaluation = set.evaluate(&json!({"a": 1})).await;
        assert!(failure(&evaluation).contains(message), "{evaluation:?}");
        assert_eq!(set.evaluate(&json!({})).await, Evaluation::default());
    }
}

/// A host function is as dear as the work that it does.
#[tokio::test]
async fn a_host_function_whose_work_grows_faster_than_its_operands_ends_with_the_fuel() {
    let source = "violations contains {\"rule\": \"paths\", \"message\": \"m\"} if {
	nodes := numbers.range(1, input.nodes)
	edges := {node: nodes | some node in nodes}
	count(graph.reachable_paths(edges, {1})) > 0
}";
    let set = rules(source, BRIEF).await;
    let evaluation = set.evaluate(&json!({"nodes": 14})).await;
    assert!(failure(&evaluation).contains("it needs more than 20000000 of fuel"), "{evaluation:?}");
    assert_eq!(rules_of(&set.evaluate(&json!({"nodes": 4})).await), ["paths"]);
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

/// The value that is named is one with which the bundle judges a pod.
#[tokio::test]
async fn limits_with_which_a_bundle_could_judge_no_pod_are_refused_with_the_least_that_is_enough() {
    let baseline = || vec![Bundle::embedded().unwrap()];
    let least = |error: &str| -> u64 {
        error.split("write at least ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
    };
    for field in ["fuelLimit", "memoryLimitBytes"] {
        let with = |value: u64| match field {
            "fuelLimit" => Limits { fuel: value, ..GENEROUS },
            _ => Limits { memory_bytes: value.try_into().unwrap(), ..GENEROUS },
        };
        for value in [1, 70_000] {
            let error = load(baseline(), with(value)).await.unwrap_err().to_string();
            let start = format!("`policies.{field}` is {value}, and policy bundle `baseline` needs ");
            assert!(error.starts_with(&start), "{error}");
            let enough = load(baseline(), with(least(&error))).await.unwrap();
            assert_eq!(enough.evaluate(&sample()).await, Evaluation::default(), "{error}");
        }
    }
}

/// Also of a bundle that another program built.
#[tokio::test]
async fn constant_patterns_that_cannot_be_used_are_told_of_when_a_bundle_is_loaded() {
    for (condition, part) in [
        ("regex.match(\"(a{1000}){1000}\", input.a)", "in `data.wasmgate.violations`: `regex.match`: "),
        ("regex.split(\"a(\", input.a)[0] == \"\"", "the call is undefined and the rule finds nothing"),
        ("regex.replace(input.a, \"a(\", \"b\") == \"\"", "the call is undefined and the rule finds nothing"),
        ("glob.match(\"[\", [], input.a)", "the call is undefined and the rule finds nothing"),
    ] {
        let rule = format!("violations contains {{\"rule\": \"r\", \"message\": \"m\"}} if {condition}");
        let set = rules(&rule, GENEROUS).await;
        let warnings: Vec<_> = set.warnings().map(|(_, said)| said.to_string()).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{condition}: {warnings:?}");
    }
    let right = "violations contains {\"rule\": \"a(\", \"message\": \"[\"} if regex.match(\"^a\", input.a)";
    assert_eq!(rules(right, GENEROUS).await.warnings().count(), 0);
}

/// What the usual limits do not allow either is the bundle's fault, and fails when it is evaluated.
#[tokio::test]
async fn a_bundle_that_never_ends_is_not_blamed_on_a_low_limit() {
    let source = "violations contains {\"rule\": \"r\", \"message\": \"m\"} if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a + b < 0
}";
    let evaluation = rules(source, BRIEF).await.evaluate(&sample()).await;
    assert!(failure(&evaluation).contains("it needs more than 20000000 of fuel"), "{evaluation:?}");
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

/// Calls whose value is the same in `opa eval`; an undefined one finds no violation in either. The compliance cases
/// (`functions.rs`) have many more; these are what people's rules call, and what compiled modules have been wrong about.
const CALLS: &[&str] = &[
    r#"base64.decode("YQ")"#,
    r#"base64.decode("YQ==")"#,
    r#"base64.is_valid("YQ")"#,
    r#"base64url.encode_no_pad("a?>")"#,
    r#"concat(",", {"b", "c", "a"})"#,
    r#"crypto.hmac.equal("a", "a")"#,
    r#"crypto.hmac.md5("a", "key")"#,
    r#"crypto.hmac.sha1("a", "key")"#,
    r#"crypto.hmac.sha256("a", "key")"#,
    r#"crypto.hmac.sha512("a", "key")"#,
    r#"crypto.md5("a")"#,
    r#"crypto.sha1("a")"#,
    r#"crypto.sha256(json.marshal({"b": 1, "a": {3, 1, 2}}))"#,
    "2 / 3 * 3 == 2",
    "2 / 3",
    "0.1 + 0.2",
    "1 - 0.9",
    "9007199254740993 * 3",
    "format_int(4294967296, 16)",
    "format_int(-15.9, 10)",
    r#"glob.quote_meta("*.a.[b]")"#,
    r#"hex.decode("6869")"#,
    r#"hex.decode("zz")"#,
    r#"hex.encode("hi")"#,
    r#"indexof("abc", "")"#,
    r#"indexof("äbc", "c")"#,
    r#"indexof_n("abab", "b")"#,
    r#"json.is_valid("{} x")"#,
    r#"json.marshal({"<": [1.50, "\u2028"], "a": {2, 1}})"#,
    r#"json.marshal_with_options({"a": [1]}, {"indent": " "})"#,
    r#"json.patch({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}, {"op": "remove", "path": "a/0"}])"#,
    r#"json.unmarshal("[1,]")"#,
    r#"json.unmarshal("01")"#,
    r#"net.cidr_contains("169.254.0.0/16", "::ffff:169.254.169.254")"#,
    r#"net.cidr_contains("10.0.0.0/8", "no")"#,
    r#"net.cidr_expand("10.0.0.0/30")"#,
    r#"net.cidr_intersects("::ffff:10.0.0.0/104", "10.1.0.0/16")"#,
    r#"net.cidr_is_valid("10.0.0.0/33")"#,
    r#"net.cidr_merge(["10.0.0.0/25", "10.0.0.128/25"])"#,
    "numbers.range_step(0, 10, 3)",
    r#"object.subset({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}})"#,
    "object.union_n([])",
    r#"object.union_n([{"a": {"b": 1}}, {"a": 2}, {"a": {"c": 3}}])"#,
    r#"regex.find_all_string_submatch_n("(?<n>a)(b)?", "aab", -1)"#,
    r#"regex.find_n("a.", "abacad", 2)"#,
    r#"regex.is_valid("\\C")"#,
    r#"regex.match("^(?<host>samples\\.example)/", "samples.example/web")"#,
    r#"regex.match("[", "a")"#,
    r#"regex.replace("abc", "(b)(c)", "${2}$1x$$")"#,
    r#"regex.split("a*", "baac")"#,
    r#"regex.template_match("urn:{.*}:x", "urn:a:x", "{", "}")"#,
    r#"replace("abc", "", "-")"#,
    r#"semver.compare("1.2.3", "1.10.0-rc1")"#,
    r#"semver.compare("1.2.3", "no")"#,
    r#"semver.compare("v1.2.3+a", "1.2.3+b")"#,
    r#"semver.is_valid("1.2")"#,
    r#"sprintf("%s has %d of %.1f", ["a", 2, 3.5])"#,
    r#"sprintf("%v %v %v %v", [true, null, [1, {"a"}], {"k": {2, 1}}])"#,
    r#"sprintf("%d %d", [1.5, "a"])"#,
    r#"sprintf("%q %t %c %T %x %08.3f|%-4s|%+d", ["a", true, 65, 1, 255, 2.5, "b", 1])"#,
    r#"sprintf("%d %d", [1])"#,
    r#"sprintf("%d", [1, 2])"#,
    r#"strings.any_prefix_match(["ab", "cd"], {"c", "x"})"#,
    r#"strings.any_suffix_match("abc", ["bc"])"#,
    r#"strings.count("abab", "")"#,
    r#"strings.replace_n({"a": "b", "b": "a"}, "ab")"#,
    "time.add_date(1675123200000000000, 0, 1, 0)",
    r#"time.clock([1700000000000000000, "Europe/Berlin"])"#,
    r#"time.clock([1700000000000000000, ""])"#,
    "time.date(1700000000000000000)",
    "time.diff(1700000000000000000, 1600000000123456789)",
    r#"time.format([1700000000000000000, "America/New_York", "Mon Jan _2 3:04PM MST 2006"])"#,
    r#"time.parse_duration_ns("1h30m")"#,
    r#"time.parse_duration_ns("1.5h")"#,
    r#"time.parse_duration_ns("-1h")"#,
    r#"time.parse_duration_ns("90")"#,
    r#"time.parse_duration_ns("1M")"#,
    r#"time.parse_ns("2006-01-02", "2026-11-22")"#,
    r#"time.parse_rfc3339_ns("2026-11-22T10:00:00.5+02:00")"#,
    r#"time.parse_rfc3339_ns("2026-11-22 10:00:00Z")"#,
    r#"time.parse_rfc3339_ns("2026-11-22T10:00:60Z")"#,
    "time.weekday(1700000000000000000)",
    r#"units.parse("1.5")"#,
    r#"units.parse("100m")"#,
    r#"units.parse_bytes("1.1Mi")"#,
    r#"units.parse_bytes("1 Gi")"#,
    r#"units.parse_bytes("1B")"#,
    r#"units.parse_bytes("")"#,
    r#"[units.parse_bytes("10MiB"), units.parse_bytes("10MB")]"#,
    r#"uri.parse("https://user@example.com:8443/a%20b?c=d#e")"#,
    r#"urlquery.decode("a+b%20c")"#,
    r#"urlquery.decode_object("a=1&a=2&b=3")"#,
    r#"urlquery.decode_object("%zz")"#,
    r#"urlquery.encode("a b*~")"#,
    r#"urlquery.encode_object({"b": ["2", "1"], "a": "x y"})"#,
    r#"uuid.parse("f47ac10b-58cc-4372-a567-0e02b2c3d479")"#,
    r#"[x | some x in {"c", "a", "b"}]"#,
    r#"[k | some k, _ in {"c": 1, "a": 2, "b": 3}]"#,
    r#"[x | walk({"b": {"d": 1, "c": 2}, "a": 3}, [x, _])]"#,
];

/// The value that a violation carries as JSON.
fn decoded(violation: Violation) -> (String, Value) {
    (violation.rule, serde_json::from_str(&violation.message).unwrap())
}

#[tokio::test]
async fn built_in_functions_say_what_they_say_in_opa() {
    let rule = |(index, call): (usize, &&str)| {
        format!("violations contains {{\"rule\": \"{index}\", \"message\": json.marshal(x)}} if x := {call}")
    };
    let source = CALLS.iter().enumerate().map(rule).collect::<Vec<_>>().join("\n\n");
    let evaluation = rules(&source, GENEROUS).await.evaluate(&json!({})).await;
    assert_eq!(evaluation.failures, []);
    let found: BTreeMap<_, _> = evaluation.violations.into_iter().map(decoded).collect();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.rego"), format!("package wasmgate\n\n{source}")).unwrap();
    let arguments = ["eval", "-f", "raw", "-d", "rules.rego", "data.wasmgate.violations"];
    let wanted: Vec<Violation> = serde_json::from_slice(&opa::run_in(directory.path(), &arguments)).unwrap();
    let wanted: BTreeMap<_, _> = wanted.into_iter().map(decoded).collect();
    let mut wrong = Vec::new();
    for (index, call) in CALLS.iter().enumerate() {
        let index = index.to_string();
        if found.get(&index) != wanted.get(&index) {
            wrong.push(format!("{call}: {:?}, in OPA {:?}", found.get(&index), wanted.get(&index)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(wanted.len() > CALLS.len() / 2);
}

#[tokio::test]
async fn an_error_of_a_built_in_function_is_undefined_and_denies_where_that_is_asked_for() {
    let source = r#"
violations contains {"rule": "one", "message": "m"} if units.parse_bytes(input.size) > 1

violations contains {"rule": "two", "message": "m"} if regex.match(input.pattern, "a")"#;
    let input = json!({"size": "1 Gi", "pattern": "a"});
    assert_eq!(rules_of(&rules(source, GENEROUS).await.evaluate(&input).await), ["two"]);
    let strict = rules(source, Limits { strict_builtins: true, ..GENEROUS }).await;
    let evaluation = strict.evaluate(&input).await;
    assert!(
        failure(&evaluation).ends_with(
            "could not be evaluated: `units.parse_bytes`: units.parse_bytes: spaces not allowed in resource strings, in rule `one`"
        ),
        "{evaluation:?}"
    );
    assert_eq!(rules_of(&strict.evaluate(&json!({"size": "1Gi", "pattern": "a"})).await), ["one", "two"]);
}

#[tokio::test]
async fn work_of_the_host_uses_up_fuel_and_its_results_are_bounded() {
    let source = r#"
violations contains {"rule": "many", "message": "m"} if {
	some i in numbers.range(1, input.times)
	regex.replace(input.text, "a", input.with) == sprintf("%d", [i])
}"#;
    let set = rules(source, BRIEF).await;
    let evaluation = set.evaluate(&json!({"times": 100_000, "text": "aaaa", "with": "b"})).await;
    assert!(
        failure(&evaluation).contains("it needs more than 20000000 of fuel, in rule `many`"),
        "{evaluation:?}"
    );
    let large = json!({"times": 1, "text": "a".repeat(100_000), "with": "b".repeat(100_000)});
    let evaluation = set.evaluate(&large).await;
    assert!(failure(&evaluation).contains("it needs more than 64Mi of memory"), "{evaluation:?}");
}

/// They share blocks of the memory of the module, of which the next evaluation has others. Where there is less memory than usual, there is none from
/// the beginning.
#[tokio::test]
async fn texts_of_the_host_are_whole_however_many_and_long_they_are() {
    let source = r#"
violations contains {"rule": "texts", "message": upper(sprintf("%d%s", [i, input.text]))} if {
	some i in numbers.range(1, input.times)
}"#;
    let little = Limits { memory_bytes: 48 << 20, ..GENEROUS };
    let many = "\u{1}<\u{e9}\"\u{2028}z\u{1f600}";
    let texts =
        [(1_000, many.to_string()), (3, "a".repeat(40_000)), (1_000, "b".into()), (20, "c".repeat(2_030))];
    for set in [rules(source, GENEROUS).await, rules(source, little).await] {
        for (times, text) in &texts {
            let evaluation = set.evaluate(&json!({"times": times, "text": text})).await;
            assert_eq!(evaluation.failures, []);
            let found: BTreeSet<&str> =
                evaluation.violations.iter().map(|one| one.message.as_str()).collect();
            let text = text.to_uppercase();
            let wanted: Vec<String> = (1..=*times).map(|i| format!("{i}{text}")).collect();
            let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
            assert!(found == wanted, "{times} times {} bytes", text.len());
        }
    }
}

/// Its functions are found by their names.
#[tokio::test]
async fn a_module_that_has_lost_the_names_of_its_functions_is_refused() {
    let archive = Sources::new("violations := set()").build();
    let directory = tempfile::tempdir().unwrap();
    let unpacked =
        Command::new("tar").arg("xzf").arg(&archive).current_dir(directory.path()).status().unwrap();
    assert!(unpacked.success());
    let path = directory.path().join("policy.wasm");
    let module = std::fs::read(&path).unwrap();
    let name =
        module.windows(6).rposition(|bytes| bytes == b"\x04name\x01" || bytes == b"\x04name\x00").unwrap();
    let mut stripped = module;
    stripped[name + 1] = b'g';
    std::fs::write(&path, stripped).unwrap();
    let error = load(vec![Bundle::load(directory.path()).unwrap()], GENEROUS).await.unwrap_err();
    assert!(error.to_string().contains("has lost the names of its functions"), "{error}");
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
	regex.replace(input.a, "b", "c") == "d"
	opa.runtime().env.HOME == input.a
	time.now_ns() > 0
}"#;
    let error = load(vec![Sources::new(source).bundle("test")], GENEROUS).await.unwrap_err();
    assert!(matches!(error, Error::SupplyBuiltins { .. }));
    assert_eq!(
        error.to_string(),
        "policy bundle `test` calls built-in functions that the gate does not have: `http.send` (it would touch the \
         network), `opa.runtime` (it would hand the gate's environment to rules, and through their messages to users); \
         write the rules without them"
    );
}

#[tokio::test]
async fn every_function_that_does_not_run_in_the_gate_is_refused_by_name_when_the_bundle_is_loaded() {
    let operands = |name: &str| match name {
        "opa.runtime" => "",
        "rego.parse_module" => "input.a, input.b",
        "providers.aws.sign_req" => "input.a, input.b, input.c",
        _ => "input.a",
    };
    let call = |(name, _): &(&str, &str)| format!("\t{name}({})\n", operands(name));
    let calls = REFUSED.iter().map(call).collect::<Vec<_>>().concat();
    let source = format!("violations contains {{}} if {{\n{calls}}}");
    let error = load(vec![Sources::new(&source).bundle("test")], GENEROUS).await.unwrap_err().to_string();
    let named: Vec<_> = REFUSED.iter().map(|(name, reason)| format!("`{name}` ({reason})")).collect();
    assert!(error.contains(&named.join(", ")), "{error}");
}

// === Reuse ===

#[tokio::test]
async fn a_thousand_evaluations_keep_memory_flat() {
    // A set of its own: other tests would change its memory.
    let set = load(vec![Bundle::embedded().unwrap()], GENEROUS).await.unwrap();
    // One is that its `omit` is not followed: no evaluation would be that of another request then.
    assert_eq!(set.warnings().map(|(_, said)| said).collect::<Vec<_>>(), Vec::<&str>::new());
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
async fn violations_of_all_bundles_are_united_and_sorted_and_each_names_its_bundle() {
    let both = r#"
violations contains {"rule": "z", "message": "m"}
violations contains {"rule": "b", "message": "m"}"#;
    let one = r#"
violations contains {"rule": "a", "message": "m"}
violations contains {"rule": "b", "message": "m"}"#;
    let bundles = vec![Sources::new(both).bundle("two"), Sources::new(one).bundle("one")];
    let set = load(bundles, GENEROUS).await.unwrap();
    let found = set.evaluate(&json!({})).await;
    let of = found
        .violations
        .iter()
        .map(|found| (found.rule.as_str(), found.bundle.as_deref().unwrap_or_default()));
    assert_eq!(of.collect::<Vec<_>>(), [("a", "one"), ("b", "one"), ("b", "two"), ("z", "two")]);
    let revisions = [("one".to_string(), "r1".to_string()), ("two".to_string(), "r1".to_string())];
    assert_eq!(**set.revisions(), BTreeMap::from(revisions));
}

#[tokio::test]
async fn a_bundle_gets_its_data_and_the_keys_that_it_does_not_omit() {
    let source = r#"
violations contains {"rule": input.workload.name, "message": data.wasmgate.limits.text}"#;
    let mut sources = Sources::new(source);
    sources.data = json!({"wasmgate": {"limits": {"text": "from data"}}});
    sources.manifest["metadata"] = json!({"wasmgate": {"omit": ["object"]}, "other": 1});
    let input = json!({"object": {"spec": 1}, "workload": {"name": "a", "object": 1}, "runtime": {}});
    let less = load(vec![sources.bundle("less")], GENEROUS).await.unwrap();
    let evaluation = less.evaluate(&input).await;
    assert_eq!((rules_of(&evaluation), evaluation.violations[0].message.as_str()), (vec!["a"], "from data"));
    assert_eq!(["object", "workload"].map(|key| less.any_reads(key, None)), [false, true]);
}

/// Whether all that the manifests omit is left out, of which the gate warns otherwise.
fn follows_omit(set: &PolicySet) -> bool {
    set.warnings().all(|(_, said)| !said.contains("`metadata.wasmgate.omit` is not followed"))
}

/// A rule that does not find what it reads is undefined, and would admit.
#[tokio::test]
async fn what_rules_read_is_not_left_out_whatever_the_manifest_says() {
    let rule = |condition: &str| {
        let source =
            format!("violations contains {{\"rule\": \"r\", \"message\": \"m\"}} if {{\n\t{condition}\n}}\n");
        let helpers = "first(document) := document.containers[0]\nlist(found) := found[0]\npod := input\nat(document, key) := document[key]\n";
        let mut sources = Sources::new(&format!("{source}{helpers}"));
        sources.manifest["metadata"] = json!({"wasmgate": {"omit": ["containers", "grants"]}});
        sources.bundle("omits")
    };
    for named in [
        "input.containers[0]",
        "count(input.containers) > 0",
        "some one in input.containers\n\tone",
        "object.get(input, \"containers\", [])[0]",
        "list(input.containers)",
        "not input.containers.none",
        "every one in input.containers { one }",
        "{one | some one in input.containers} != set()",
        "input[\"containers\"][0]",
        "all := input\n\tall.containers[0]",
    ] {
        let refused = load(vec![rule(named)], GENEROUS).await.unwrap_err().to_string();
        assert!(refused.contains("reads `input.containers`, which it would not find"), "{named}: {refused}");
    }
    let input = json!({"containers": [1], "options": {"key": "containers"}});
    for whole in [
        "input[input.options.key][0]",
        "some key\n\tinput[key][0]",
        "some key, _ in input\n\tkey == \"containers\"",
        "first(input)",
        "pod.containers[0]",
        "object.get(input, [\"containers\", 0], 0) == 1",
        "walk(input, [[\"containers\", 0], 1])",
        "\"containers\" in object.keys(input)",
        "{\"a\": input}.a.containers[0]",
    ] {
        let set = load(vec![rule(whole)], GENEROUS).await.unwrap();
        assert_eq!(rules_of(&set.evaluate(&input).await), ["r"], "{whole}");
        assert!(set.any_reads("grants", None) && !follows_omit(&set), "{whole}");
    }
    // A key of it that is handed on says nothing of what else is read of it there.
    for handed in [
        "object.get(input, \"options\", {}).key == \"containers\"",
        "at(input, \"options\").key == \"containers\"",
    ] {
        let set = load(vec![rule(handed)], GENEROUS).await.unwrap();
        assert_eq!(rules_of(&set.evaluate(&input).await), ["r"], "{handed}");
        assert!(set.any_reads("grants", None) && set.any_reads("containers", None), "{handed}");
        assert!(!follows_omit(&set), "{handed}");
    }
    let set = load(vec![rule("input.workload.containers[0]")], GENEROUS).await.unwrap();
    assert!(!set.any_reads("containers", None) && follows_omit(&set), "a key of something else");
}

#[tokio::test]
async fn what_rules_read_below_a_key_is_not_left_out_either() {
    let rule = |condition: &str| {
        let source =
            format!("violations contains {{\"rule\": \"r\", \"message\": \"m\"}} if {{\n\t{condition}\n}}\n");
        let helpers = "uid(request) := request.uid\nrequest := input.request\n";
        let mut sources = Sources::new(&format!("{source}{helpers}"));
        sources.manifest["metadata"] =
            json!({"wasmgate": {"omit": ["grants", "request.uid", "workload.name"]}});
        sources.bundle("omits")
    };
    for named in [
        "input.request.uid",
        "startswith(input.request.uid, \"u\")",
        "input[\"request\"][\"uid\"] == \"u\"",
        "asked := input.request\n\tasked.uid",
        "not input.request.uid == \"x\"",
        "{one | one := input.request.uid} != set()",
        "every one in [input.request.uid] { one }",
        "some one in input.request.uid\n\tone",
    ] {
        let refused = load(vec![rule(named)], GENEROUS).await.unwrap_err().to_string();
        assert!(refused.contains("reads `input.request.uid`, which it would not find"), "{named}: {refused}");
    }
    let input = json!({"request": {"uid": "u", "name": "n"}, "workload": {"name": "w", "kind": "Pod"},
        "options": {"key": "uid"}});
    let mut named_all_the_same = 0;
    for whole in [
        "input.request[input.options.key]",
        "some key\n\tinput.request[key] == \"u\"",
        "some key, _ in input.request\n\tkey == \"uid\"",
        "uid(input.request)",
        "uid(input.request) == \"u\"",
        "request.uid",
        "request == input.request\n\trequest.uid",
        "object.get(input.request, \"uid\", \"\") == \"u\"",
        "object.get(input.request, [\"uid\"], \"\") == \"u\"",
        "object.get(input, [\"request\", \"uid\"], \"\") == \"u\"",
        "\"uid\" in object.keys(input.request)",
        "contains(json.marshal(input.request), \"uid\")",
        "{\"a\": input.request}.a.uid",
        "object.union(input.request, {}).uid",
        "[input.request][0].uid",
        "walk(input.request, [[\"uid\"], \"u\"])",
        "input.request == {\"uid\": \"u\", \"name\": \"n\"}",
        "\"u\" in input.request",
    ] {
        // opa may compile it to a read by name.
        match load(vec![rule(whole)], GENEROUS).await {
            Ok(set) => assert_eq!(rules_of(&set.evaluate(&input).await), ["r"], "{whole}"),
            Err(refused) => {
                assert!(refused.to_string().contains("reads `input.request.uid`"), "{whole}: {refused}");
                named_all_the_same += 1;
            }
        }
    }
    assert!(named_all_the_same < 4, "{named_all_the_same}");
    // What is at the other key is still left out.
    let set = load(vec![rule("input.request.name\n\tinput.workload.kind")], GENEROUS).await.unwrap();
    assert_eq!(rules_of(&set.evaluate(&input).await), ["r"]);
    let reads =
        [("request", Some("uid")), ("request", Some("name")), ("request", None), ("workload", Some("name"))];
    assert_eq!(reads.map(|(key, below)| set.any_reads(key, below)), [false, true, true, false]);
    assert!(follows_omit(&set));
}

/// Decisions about the pods of one workload are shared by this, so it must not hang on what an author writes into a manifest.
#[tokio::test]
async fn what_no_rule_reads_is_found_where_the_manifest_omits_nothing() {
    for (condition, reads) in [
        ("input.workload.kind == \"Pod\"", [false; 4]),
        ("input.request.user.username == \"jane\"", [false, true, false, false]),
        ("startswith(input.request.uid, \"u\")", [true, false, false, false]),
        ("input.object.spec\n\tinput.workload.name", [false, false, true, true]),
        ("walk(input.request, [[\"uid\"], \"u\"])", [true, true, false, false]),
        ("input[input.options.key]", [true; 4]),
    ] {
        let rule =
            format!("violations contains {{\"rule\": \"r\", \"message\": \"m\"}} if {{\n\t{condition}\n}}\n");
        let set = load(vec![Sources::new(&rule).bundle("own")], GENEROUS).await.unwrap();
        let places = [
            ("request", Some("uid")),
            ("request", Some("user")),
            ("object", None),
            ("workload", Some("name")),
        ];
        assert_eq!(places.map(|(key, below)| set.any_reads(key, below)), reads, "{condition}");
    }
    // It is handed over all the same.
    let rule =
        "violations contains {\"rule\": \"r\", \"message\": \"m\"} if input.workload.kind == \"Pod\"\n";
    let set = load(vec![Sources::new(rule).bundle("own")], GENEROUS).await.unwrap();
    let large = "a".repeat(GENEROUS.memory_bytes);
    let input = json!({"object": {"large": large}, "workload": {"kind": "Pod"}});
    let found = set.evaluate(&input).await;
    assert!(
        found.failures.len() == 1 && found.violations.is_empty(),
        "the object does not fit into its memory"
    );
}

/// Pods that differ at one of these places alone share a decision where no rule reads it.
#[tokio::test]
async fn what_rules_read_of_the_object_is_found_at_any_depth() {
    const PLACES: [&str; 3] = ["object.metadata.name", "object.metadata.uid", "object.spec.volumes.0.name"];
    for (condition, reads) in [
        ("input.workload.kind == \"Pod\"", [false; 3]),
        ("input.object.metadata.labels.app == \"x\"", [false; 3]),
        ("some key\n\tinput.object.metadata.labels[key] == \"x\"", [false; 3]),
        ("not input.object.spec.hostNetwork", [false; 3]),
        ("input.object.spec.containers[_].image == \"x\"", [false; 3]),
        ("object.get(input.object.metadata, \"labels\", {}).app == \"x\"", [false; 3]),
        ("label(input.object) == \"x\"", [false; 3]),
        ("input.object.metadata.name == \"x\"", [true, false, false]),
        ("input.object.metadata.name", [true, false, false]),
        ("named(input.object.metadata)", [true, false, false]),
        ("own with input as input.object", [true, false, false]),
        ("input.object.metadata[input.options.key] == \"x\"", [true, true, false]),
        ("count(input.object.metadata) > 1", [true, true, false]),
        ("some key, _ in input.object.metadata\n\tkey == \"x\"", [true, true, false]),
        ("{\"a\": input.object.metadata}.a.name == \"x\"", [true, true, false]),
        ("meta.labels.app == \"x\"", [true, true, false]),
        ("input.object.spec.volumes[_].name == \"x\"", [false, false, true]),
        ("input.object.spec.volumes[1].name == \"x\"", [false, false, true]),
        ("count(input.object.spec) > 1", [false, false, true]),
        ("walk(input.object, [_, \"x\"])", [true; 3]),
        ("object.get(input, [\"object\", \"metadata\", \"name\"], \"\") == \"x\"", [true; 3]),
        ("input[input.options.key]", [true; 3]),
    ] {
        let rule = format!(
            "label(pod) := pod.metadata.labels.app\n\nnamed(value) if value.name == \"x\"\n\nmeta := input.object.metadata\n\n\
             own if input.metadata.name == \"x\"\n\n\
             violations contains {{\"rule\": \"r\", \"message\": \"m\"}} if {{\n\t{condition}\n}}\n"
        );
        let set = load(vec![Sources::new(&rule).bundle("own")], GENEROUS).await.unwrap();
        let place = |place: &str| place.split('.').map(String::from).collect::<Vec<_>>();
        assert_eq!(PLACES.map(|one| set.any_reads_at(&place(one))), reads, "{condition}");
    }
}

/// Rules that ask for the time or for a random value find something else another time.
#[tokio::test]
async fn what_follows_from_the_input_alone_is_kept_and_nothing_else() {
    for (condition, omit, is_kept) in [
        ("input.workload.kind == \"Pod\"", "request.uid", true),
        ("input.workload.kind == \"Pod\"", "object", true),
        ("startswith(input.request.uid, \"u\")", "object", false),
        ("json.marshal(input) != \"\"", "object", false),
        ("time.now_ns() > 0", "request.uid", false),
        ("rand.intn(\"a\", 10) >= 0", "request.uid", false),
        ("uuid.rfc4122(\"a\") != \"\"", "request.uid", false),
        ("time.parse_rfc3339_ns(\"2026-01-01T00:00:00Z\") > 0", "request.uid", true),
    ] {
        let source = format!("violations contains {{\"rule\": \"r\", \"message\": \"m\"}} if {condition}\n");
        let mut sources = Sources::new(&source);
        sources.manifest["metadata"] = json!({"wasmgate": {"omit": [omit]}});
        let engine = engine().remembering(1 << 20);
        let set = PolicySet::load(&engine, vec![sources.bundle("one")], GENEROUS).await.unwrap();
        let input = json!({"request": {"uid": "u"}, "workload": {"kind": "Pod"}});
        let both = [set.evaluate(&input).await, set.evaluate(&input).await];
        assert_eq!(both.each_ref().map(|one| one.is_cached), [false, is_kept], "{condition} {omit}");
        assert!(both.iter().all(|one| rules_of(one) == ["r"]), "{condition}");
    }
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
    assert!(refused(&[("/patch.json", b"{}")]).contains("delta bundles are not supported, pack a whole one"));
    assert!(refused(&[("/policy.wasm", WASM)]).contains(
        "has no file `data.json`, so its rules would run without the data that they may need; `opa build` always writes one"
    ));
    assert!(refused(&[("/policy.wasm", WASM), ("policy.wasm", WASM)]).contains("it is there twice"));
    let omit = br#"{"metadata": {"wasmgate": {"omit": "object"}}}"#;
    assert!(refused(&[("/policy.wasm", WASM), ("/.manifest", omit)]).contains("expected a sequence"));
    let misspelt = br#"{"metadata": {"wasmgate": {"omit": ["object", "grant"]}}}"#;
    let files: [(&str, &[u8]); 3] = [("/policy.wasm", WASM), ("/data.json", b"{}"), ("/.manifest", misspelt)];
    assert!(refused(&files).contains("has `grant`, and the input has `apiVersion`, `containers`, `grants`"));
    assert!(refused(&[("/policy.wasm", WASM), ("/.manifest", b"[]")]).contains("expected a map"));
    for null in [
        &br#"{"revision": null, "roots": null, "wasm": null, "metadata": null}"#[..],
        br#"{"metadata": {"wasmgate": null}}"#,
    ] {
        let files = [("/policy.wasm", WASM), ("/data.json", b"{}".as_slice()), ("/.manifest", null)];
        let taken = Bundle::from_tar_gz("test", &tar_gz(&files));
        assert!(taken.is_ok(), "opa takes it: {taken:?}");
    }
    let unknown = br#"{"metadata": {"wasmgate": {"omits": []}}}"#;
    assert!(refused(&[("/policy.wasm", WASM), ("/.manifest", unknown)]).contains("unknown field `omits`"));
}

/// A link leads to what is not in the archive, and rules that run without their data admit.
#[test]
fn an_archive_whose_data_is_a_link_is_refused_and_named() {
    // A folder of data is none of the files that are read.
    for (kind, name) in [
        (tar::EntryType::Symlink, "data.json"),
        (tar::EntryType::Link, "data.json"),
        (tar::EntryType::Symlink, "teams"),
    ] {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(WASM.len() as u64);
        archive.append_data(&mut header, "policy.wasm", WASM).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive.append_link(&mut header, name, "other").unwrap();
        let bytes = archive.into_inner().unwrap().finish().unwrap();
        let error = Bundle::from_tar_gz("test", &bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("holds `{name}`, which is not read: it is a link")), "{error}");
    }
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
    let wide = format!("(module (func {} {}))", "(local i32)".repeat(40_000), "(block)".repeat(500));
    assert!(matches!(load_wat(wide.as_str()).await, Error::BoundModule { .. }));
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

/// A build with the entry points of the log alone, in the place of a bundle that judges, would admit what that refused.
#[tokio::test]
async fn a_bundle_judges_or_has_rules_for_the_log_alone_as_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let built = |name: &str, entrypoints: &[&str]| {
        let rules = "mask contains \"/input/request\"";
        Bundle::load(&opa::build_package(folder.path(), name, "system.log", entrypoints, rules)).unwrap()
    };
    let loaded = async |mut bundle: Bundle, judges| {
        bundle.judges = judges;
        load(vec![bundle], GENEROUS).await.map(|_| ()).map_err(|error| error.to_string())
    };
    let log = || built("log", &["system/log/mask"]);
    let refused = loaded(log(), true).await.unwrap_err();
    assert!(refused.contains("would judge no pod") && refused.contains("`judges: false`"), "{refused}");
    assert_eq!(loaded(log(), false).await, Ok(()));
    let ours = || Sources::new("violations contains {} if false").bundle("ours");
    assert_eq!(loaded(ours(), true).await, Ok(()));
    let refused = loaded(ours(), false).await.unwrap_err();
    assert!(refused.contains("would pass over its rules"), "{refused}");
    let mut other = Sources::new("allow := true");
    other.entrypoint = "wasmgate/allow";
    let refused = loaded(other.bundle("other"), false).await.unwrap_err();
    assert!(refused.contains("has neither `system/log/mask` nor `system/log/drop`"), "{refused}");
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
async fn options_that_no_rule_reads_are_told_where_rules_name_those_that_they_read() {
    const WRITTEN: [&str; 2] = ["maxReplica", "maxReplicas"];
    let near = [("maxReplica", "; did you mean `maxReplicas`?".to_string())];
    let none = WRITTEN.map(|name| (name, String::new()));
    for (condition, unread) in [
        ("input.options.maxReplicas > 3", &near[..]),
        ("not input.options[\"maxReplicas\"]", &near),
        ("object.get(input.options, \"maxReplicas\", 5) > 7", &near),
        (
            "few(input.containers, input.options)\nfew(items, options) if over(options, items)\nover(o, items) if count(items) > o.maxReplicas",
            &near,
        ),
        ("every container in input.containers { container.name == input.options.maxReplicas }", &near),
        ("input.apiVersion == \"none\"", &none),
        ("object.get(input, [\"options\", \"maxReplicas\"], 5) > 7", &[]),
        ("input.options[input.request.namespace]", &[]),
        ("{ some name, value in input.options; name == value }", &[]),
        ("\"maxReplicas\" in object.keys(input.options)", &[]),
        ("options.maxReplicas > 3\noptions := input.options", &[]),
    ] {
        let set = rules(&format!("violations contains {{}} if {condition}"), GENEROUS).await;
        assert_eq!(set.unread_options(WRITTEN.into_iter()), unread, "{condition}");
    }
}

/// Several bundles read options: those of the baseline are not to be forgotten, and rules for the log find them in a record.
#[tokio::test]
async fn an_option_is_read_where_any_bundle_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let mask = "mask contains \"/input\" if input.custom.policy_input.options.quiet";
    let built = opa::build_package(folder.path(), "log", "system.log", &["system/log/mask"], mask);
    let mut log = Bundle::load(&built).unwrap();
    log.judges = false;
    let own = Sources::new("violations contains {} if input.options.limits.processorShare > 3").bundle("own");
    let set = load(vec![Bundle::embedded().unwrap(), own, log], GENEROUS).await.unwrap();
    let unread = set
        .unread_options(["strictAmbient", "limits", "quiet", "processorShare", "strictPlatfrom"].into_iter());
    let said = "; did you mean `strictPlatform`?".to_string();
    assert_eq!(unread, [("processorShare", String::new()), ("strictPlatfrom", said)]);
}

/// A built bundle with another manifest and other data, as a program that packs bundles may write it.
fn repacked(archive: &Path, manifest: &Value, data: &Value, has_sources: bool) -> Contents {
    let built = Contents::load("test", archive).unwrap();
    let (manifest, data) = (manifest.to_string(), data.to_string());
    let kept = built.files().filter(|(name, _)| {
        ![".manifest", "data.json"].contains(name)
            && (has_sources || Path::new(name).extension().is_none_or(|of| of != "rego"))
    });
    kept.chain([(".manifest", manifest.as_bytes()), ("data.json", data.as_bytes())]).collect()
}

/// References to data, which OPA reads by the text of a key, and what is read by the key as it is.
const LOOKUPS: &[&str] = &[
    "data.ports[8080]",
    "data.ports[input.port]",
    "data.ports[input.ratio]",
    "data.ports[input.port / 2]",
    r#"data.ports["8080"]"#,
    "data.ports[input.other]",
    "data.ports[true]",
    "data.deep[_][8080]",
    "data.deep.a[8080].name",
    r#"data.deep.a[input.port].list["0"]"#,
    "data.deep.list[0][8080]",
    r#"data.list["0"]"#,
    "data.list[input.place]",
    r#"data.list["1"]"#,
    r#"data.list["+0.0"]"#,
    "data.list[input.no_place]",
    "data.lists[_][input.place]",
    "data.lists[input.place][input.place]",
    r#"{k: v | some k in [8080, "8080"]; v := data.ports[k]}"#,
    "helper(8080)",
    "by_key(data.ports, 8080)",
    "of_variable",
    "not_found",
    r#"object.get(data.ports, 8080, "none")"#,
    "[v | some i; v := data.ports[i]; i == 8080]",
    "[v | some p in [data.ports]; v := p[8080]]",
    r#"[x["0"] | some x in data.lists]"#,
    "8080 in object.keys(data.ports)",
    "data.wasmgate.made[input.port]",
    "input.map[8080]",
    r#"input.items["0"]"#,
];

#[tokio::test]
async fn data_is_found_by_the_text_of_a_key_where_opa_finds_it_and_nowhere_else() {
    let rule = |(line, expression): (usize, &&str)| {
        format!(
            "violations contains {{\"rule\": \"{line}\", \"message\": json.marshal(x)}} if x := {expression}\n"
        )
    };
    let rules: String = LOOKUPS.iter().enumerate().map(rule).collect();
    let rules = format!(
        "helper(k) := data.ports[k]\n\
         by_key(o, k) := o[k]\n\
         of_variable := ports[8080] if ports := data.ports\n\
         not_found := \"yes\" if not data.ports[8080]\n\
         made := {{\"8080\": \"made\"}}\n{rules}"
    );
    let data = json!({
        "ports": {"8080": "web", "4040": "half", "0.5": "ratio", "7": null},
        "deep": {"a": {"8080": {"name": "n", "list": ["first"]}}, "list": [{"8080": "in list"}]},
        "list": ["first", "second"],
        "lists": [["x", "y"]],
    });
    let input = json!({
        "port": 8080, "ratio": 0.5, "other": 9, "place": "0", "no_place": "9", "map": {"8080": 1}, "items": [1],
    });
    let sources = Sources { manifest: json!({"rego_version": 1}), data, ..Sources::new(&rules) };
    let evaluation = load(vec![sources.bundle("test")], GENEROUS).await.unwrap().evaluate(&input).await;
    assert_eq!(evaluation.failures, []);
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("rules.rego", sources.rego),
        ("data.json", sources.data.to_string()),
        ("input.json", input.to_string()),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let arguments = ["eval", "-f", "raw", "-i", "input.json", "-d", "rules.rego", "-d", "data.json"];
    let arguments = [arguments.as_slice(), &["data.wasmgate.violations"]].concat();
    let in_opa: Vec<Violation> = serde_json::from_slice(&opa::run_in(folder.path(), &arguments)).unwrap();
    let values = |violations: Vec<Violation>| -> BTreeMap<String, String> {
        violations.into_iter().map(|violation| (violation.rule, violation.message)).collect()
    };
    let (in_gate, in_opa) = (values(evaluation.violations), values(in_opa));
    for (line, expression) in LOOKUPS.iter().enumerate() {
        let line = line.to_string();
        assert_eq!(in_gate.get(&line), in_opa.get(&line), "`{expression}`");
    }
    assert_eq!(in_opa.get("0").map(String::as_str), Some("\"web\""));
}

/// Of these it is not known whether OPA reads them by the text of the key. Without such a key, nothing ends.
#[tokio::test]
async fn a_look_up_that_may_be_by_text_ends_the_evaluation_where_a_text_finds_something() {
    let found = "violations contains {\"rule\": \"r\", \"message\": \"m\"} if";
    let beside = "packages.b.map := {\"9\": 1}\n";
    for rules in [
        format!("{found} {{\n\tx := data.ports[input.port] with data.other as {{}}\n\tx == \"web\"\n}}"),
        format!(
            "helper := data.ports[input.port]\n{found} {{\n\tx := helper with data.other as {{}}\n\tx == \"web\"\n}}"
        ),
        format!("{found} {{\n\t{{8080: x}} = data.ports\n\tx == \"web\"\n}}"),
        format!("{beside}{found} data.wasmgate.packages[input.port][_] == 1"),
        format!(
            "{beside}{found} {{\n\tsome n in [\"a\"]\n\tdata.wasmgate.packages[n].map[input.port] == 1\n}}"
        ),
    ] {
        for (key, ends) in [("8080", true), ("80", false)] {
            let packages = json!({key: {"c": 1}, "a": {"map": {key: 1}}});
            let data = json!({"ports": {key: "web"}, "wasmgate": {"packages": packages}});
            let sources = Sources { manifest: json!({"rego_version": 1}), data, ..Sources::new(&rules) };
            let set = load(vec![sources.bundle("test")], GENEROUS).await.unwrap();
            let evaluation = set.evaluate(&json!({"port": 8080})).await;
            if ends {
                let message = failure(&evaluation);
                assert!(message.contains("look objects up by texts"), "{rules}: {message}");
            } else {
                assert_eq!(rules_of(&evaluation), [""; 0], "{rules}");
            }
        }
    }
}

#[test]
fn what_is_outside_of_the_roots_of_a_manifest_is_refused_where_opa_refuses_it() {
    let built = Sources::new("violations contains {} if false").build();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle.tar.gz");
    let with_teams = json!({"roots": ["wasmgate", "teams/a"]});
    let resolver = json!([{"entrypoint": "other/x", "module": "/policy.wasm"}]);
    let elsewhere = json!([{"entrypoint": "wasmgate/violations", "module": "/other/policy.wasm"}]);
    for (manifest, data, refused) in [
        (json!({}), json!({"teams": 1}), None),
        (json!({"roots": null}), json!({"teams": 1}), None),
        (json!({"roots": [""]}), json!({"teams": 1}), None),
        (json!({"roots": ["/wasmgate/"]}), json!({"wasmgate": {"limits": [1]}}), None),
        (with_teams.clone(), json!({"teams": {"a": 1}}), None),
        (with_teams, json!({"teams": {"b": 1}}), Some("the value at `teams/b` in `data.json`")),
        (
            json!({"roots": ["wasmgate"]}),
            json!({"teams": 1}),
            Some("which has `wasmgate`; add `teams` to `roots`"),
        ),
        (json!({"roots": ["foo"]}), json!({}), Some("the package `wasmgate` of `bundle/rules.rego`")),
        (json!({"roots": ["wasmgate/violations"]}), json!({}), Some("the package `wasmgate` of")),
        (json!({"roots": []}), json!({}), Some("which has an empty list")),
        (json!({"roots": ["wasmgate", "wasmgate/x"]}), json!({}), Some("leave out `wasmgate/x`")),
        (json!({"roots": ["wasmgate"], "wasm": resolver}), json!({}), Some("the entry point `other/x`")),
        (
            json!({"wasm": elsewhere}),
            json!({}),
            Some("the module `/other/policy.wasm`, and a bundle has `/policy.wasm` alone; build"),
        ),
    ] {
        let contents = repacked(&built, &manifest, &data, true);
        std::fs::write(&archive, contents.to_tar_gz().unwrap()).unwrap();
        let arguments = ["eval", "--bundle", archive.to_str().unwrap(), "true"];
        let opa = Command::new(program("opa")).args(arguments).output().unwrap();
        assert_eq!(opa.status.success(), refused.is_none(), "opa: {manifest} {data}");
        match (Bundle::load(&archive), refused) {
            (Ok(_), None) => {}
            (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{error}"),
            (found, _) => panic!("{manifest} {data}: {found:?}"),
        }
    }
}

/// The module alone says what is in it where no source lies beside it.
#[tokio::test]
async fn a_module_with_rules_outside_of_the_roots_is_refused_without_its_sources() {
    let archive = Sources::new("violations contains {} if false").build();
    let loaded = async |roots: Value| {
        let contents = repacked(&archive, &json!({"roots": roots}), &json!({}), false);
        load(vec![Bundle::of("test", &contents).unwrap()], GENEROUS).await.map(|_| ())
    };
    assert!(loaded(json!(["wasmgate", "cfg"])).await.is_ok());
    let error = loaded(json!(["cfg"])).await.unwrap_err().to_string();
    assert!(
        error.contains("the entry point `wasmgate/violations` is outside of `roots`")
            && error.ends_with("which has `cfg`; add `wasmgate` to `roots`, or take it out of the bundle"),
        "{error}"
    );
}

#[test]
fn data_over_a_rule_is_refused_where_opa_refuses_the_sources() {
    let none = "violations contains {} if false";
    let dotted = "violations contains {} if limits.a > 1\nlimits.a := 2";
    let computed = "violations contains {} if limits.a > 1\nlimits[x] := 2 if some x in [\"a\"]";
    let function = "violations contains {} if is_bad(input.x)\nis_bad(x) if x == 1";
    for (rules, data, refused) in [
        (none, json!({"limits": 1}), None),
        (
            none,
            json!({"violations": {}}),
            Some("a value at `wasmgate/violations`, over the rule `wasmgate/violations`"),
        ),
        (none, json!([]), Some("a value at `wasmgate`, over the rule `wasmgate/violations`")),
        (dotted, json!({"limits": {"b": 1}}), None),
        (dotted, json!({"limits": {"a": 1}}), Some("over the rule `wasmgate/limits/a`")),
        (
            dotted,
            json!({"limits": [1]}),
            Some("a value at `wasmgate/limits`, over the rule `wasmgate/limits/a`"),
        ),
        (computed, json!({"limits": {"b": 1}}), Some("over the rule `wasmgate/limits`")),
        (function, json!({"is_bad": true}), Some("over the rule `wasmgate/is_bad`")),
    ] {
        let data = json!({"wasmgate": data});
        let archive = Sources { data: data.clone(), ..Sources::new(rules) }.build();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        write("rules.rego", format!("package wasmgate\n\n{rules}\n").as_bytes());
        write("data.json", data.to_string().as_bytes());
        let arguments = ["check", "--bundle", folder.path().to_str().unwrap()];
        let opa = Command::new(program("opa")).args(arguments).output().unwrap();
        assert_eq!(opa.status.success(), refused.is_none(), "opa: {rules} {data}");
        // The same files in a folder.
        for (name, bytes) in Contents::load("test", &archive).unwrap().files() {
            if !name.contains('/') {
                write(name, bytes);
            }
        }
        for place in [archive.as_path(), folder.path()] {
            match (Bundle::load(place), refused) {
                (Ok(_), None) => {}
                (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{error}"),
                (found, _) => panic!("{rules} {data}: {found:?}"),
            }
        }
    }
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
