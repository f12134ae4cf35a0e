//! `serve`: the process from its first log line to its exit code, called over real TLS.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{layouts, samples, wasmgate};
use crate::sources::{bundle_with, replace};
use crate::support::opa;
use crate::support::process::{ask_patiently, root, until, wait_for};
use crate::support::tls::{Client, Http, get, post};
use crate::support::web::Web;

const AMPLE: Duration = Duration::from_secs(30);

/// A running gate in an empty folder of its own.
pub struct Gate {
    child: Child,
    folder: TempDir,
    webhooks: SocketAddr,
    probes: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Gate {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_as(wasmgate(), arguments)
    }

    /// The same by another command, which becomes the gate.
    pub fn start_as(mut command: Command, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let (webhooks, probes) = loop {
            let line = lines.next().unwrap_or_else(|| panic!("ended before it listened: {log}")).unwrap();
            log += &(line.clone() + "\n");
            if line.contains("listening") {
                break (address(&line, "webhooks="), address(&line, "probes="));
            }
        };
        let log = Arc::new(Mutex::new(log));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, folder, webhooks, probes, log }
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        get(self.probes, "/metrics").await.unwrap().text()
    }

    fn client(&self) -> Client {
        Client::trusting(&[&self.folder.path().join("certs/ca.crt")], Http::Two)
    }

    pub async fn ask(&self, path: &str, review: &Value) -> Value {
        self.ask_within(None, path, review).await
    }

    /// The same where the API server's request belongs to a trace.
    pub async fn ask_within(&self, traceparent: Option<&str>, path: &str, review: &Value) -> Value {
        let mut request = post(path, review.to_string());
        if let Some(traceparent) = traceparent {
            request.headers_mut().insert("traceparent", traceparent.parse().unwrap());
        }
        let answer = self.client().send(self.webhooks, request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end. Returns the exit code and standard output.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = ask_patiently(|| self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|| panic!("still running: {}", self.log.lock().unwrap()));
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (status.code(), out)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(line: &str, key: &str) -> SocketAddr {
    let (_, rest) = line.split_once(key).unwrap_or_else(|| panic!("no {key} in {line}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

pub fn review(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(samples(&format!("reviews/{name}.json"))).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_with_nothing_but_defaults() {
    let gate = Gate::start(&[]);
    let certs = gate.folder.path().join("certs");
    let mut keys = 0;
    for entry in std::fs::read_dir(&certs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "key") {
            keys += 1;
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
    assert!(keys >= 1, "no keys in {}", certs.display());
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(gate.probes, path).await.unwrap().status, 200, "{path}");
    }

    // The registry has a loopback address, which is refused without a connection.
    let mut linux = review("web");
    linux["request"]["object"]["spec"]["containers"][0]["image"] = json!("127.0.0.1:1/web:1");
    let answer = gate.ask("/mutate", &linux).await;
    assert_eq!((&answer["allowed"], &answer["patch"]), (&json!(true), &Value::Null), "{answer}");
    let answer = gate.ask("/validate", &linux).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    linux["request"]["object"]["spec"]["runtimeClassName"] = json!("wasmtime");
    let answer = gate.ask("/validate", &linux).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)), "{answer}");
    assert_eq!(answer["status"]["details"]["causes"][0]["reason"], "not-inspected", "{answer}");

    let metrics = get(gate.probes, "/metrics").await.unwrap().text();
    assert!(metrics.contains("wasmgate_admission"), "{metrics}");
    assert!(metrics.contains("wasmgate_ready 1\n"), "{metrics}");
    assert!(metrics.contains("\nwasmgate_certificate_expiry_timestamp_seconds{} "), "{metrics}");
    gate.signal("-TERM");
    assert_eq!(gate.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_swapped_while_it_serves_and_probes_metrics_and_log_tell_how_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let built = |name: &str| {
        let rule = format!("violations contains {{\"rule\": \"own\", \"message\": \"{name}\"}}");
        opa::build(folder.path(), name, "wasmgate/violations", &rule)
    };
    let (one, two, place) = (built("one"), built("two"), folder.path().join("ours.tar.gz"));
    std::fs::rename(one, &place).unwrap();
    let gate = Gate::start(&["--image-layouts", &layouts(), "--bundle", place.to_str().unwrap()]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    let refusal = async || gate.ask("/validate", &review("orders")).await["status"]["message"].to_string();
    let before = verbose().await;
    assert!(before.contains("[+]bundle/baseline: from the gate itself, revision "), "{before}");
    assert!(
        before.contains("[+]bundle/ours: from ") && before.contains(", revision one, in force since "),
        "{before}"
    );
    assert!(before.ends_with("\nreadyz: ok\n"), "{before}");
    // The page shows what is really written.
    let page = std::fs::read_to_string(root().join("docs/bundles.md")).unwrap();
    let changing = regex::Regex::new("revision [0-9a-f]{12}, |since [-0-9]{10}T[:0-9]{8}Z").unwrap();
    let same_form = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("[+]bundle/baseline: "));
        changing.replace_all(line.expect("a line for the baseline"), "…").into_owned()
    };
    assert_eq!(same_form(&page), same_form(&before));
    assert_eq!(same_form(&before).matches('…').count(), 2, "{before}");
    assert!(refusal().await.contains("one"));
    std::fs::rename(two, &place).unwrap();
    until("the new bundle", async || verbose().await.contains(", revision two, ")).await;
    assert!(refusal().await.contains("two"));
    std::fs::write(&place, "garbage").unwrap();
    until("the failure", async || verbose().await.contains("[-]bundle/ours: ")).await;
    let bad = verbose().await;
    assert!(bad.contains("; the former bundle stays in force: cannot unpack policy bundle `ours`"), "{bad}");
    assert_eq!(get(gate.probes, "/readyz").await.unwrap().status, 200, "it still judges");
    assert!(refusal().await.contains("two"));
    let metrics = get(gate.probes, "/metrics").await.unwrap().text();
    for line in [
        "wasmgate_policy_bundle_info{name=\"ours\",revision=\"two\"} 1\n",
        "wasmgate_policy_bundle_failing{name=\"ours\"} 1\n",
        "wasmgate_policy_bundle_failing{name=\"baseline\"} 0\n",
        "wasmgate_policy_bundle_swaps_total{name=\"ours\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
    for series in ["checked", "next_try", "since"] {
        let series = format!("wasmgate_policy_bundle_{series}_timestamp_seconds{{name=\"ours\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(series.as_str()));
        assert!(found.is_some_and(|time| time.parse::<u64>().unwrap() > 1_700_000_000), "{series} {metrics}");
    }
    assert!(
        bad.lines().any(|line| line.starts_with("[-]bundle/ours: ")
            && [", next try ", ", polling since "].iter().any(|said| line.contains(said))),
        "{bad}"
    );
    let log = gate.log.lock().unwrap().clone();
    for (message, fields) in [
        ("a new policy bundle is in force", &["bundle=\"ours\"", "revision=\"two\"", "shadow=false"][..]),
        (
            "the policy bundle in force stays",
            &["bundle=\"ours\"", "revision=\"two\"", "error=", "next_try_seconds=1"],
        ),
    ] {
        let line = log.lines().find(|line| line.contains(message)).expect(message);
        assert!(fields.iter().all(|field| line.contains(field)), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_are_answered_and_every_decision_is_one_line() {
    let grants = samples("grants");
    let gate = Gate::start(&["--grants", grants.to_str().unwrap(), "--image-layouts", &layouts()]);
    let planned = gate.ask("/mutate", &review("orders")).await;
    assert_eq!(
        (&planned["allowed"], &planned["patchType"]),
        (&json!(true), &json!("JSONPatch")),
        "{planned}"
    );
    let admitted = gate.ask("/validate", &review("orders.mutated")).await;
    assert_eq!(admitted["allowed"], true, "{admitted}");
    let denied = gate.ask("/validate", &review("orders-everywhere.mutated")).await;
    assert_eq!(denied["allowed"], false, "{denied}");
    let left_alone = gate.ask("/validate", &review("web")).await;
    assert_eq!(left_alone["allowed"], true, "{left_alone}");

    gate.signal("-TERM");
    let (code, out) = gate.end();
    assert_eq!(code, Some(0));
    let records: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r["path"].as_str().unwrap(), r["result"]["action"].as_str().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ("wasmgate/mutate", "allow"),
            ("wasmgate/validate", "allow"),
            ("wasmgate/validate", "deny"),
            ("wasmgate/validate", "skip")
        ]
    );
    assert_eq!(records[2]["custom"]["request_uid"], review("orders-everywhere")["request"]["uid"]);
    assert_eq!(records[2]["result"]["violations"][0]["rule"], "needs-grant");
    assert_eq!(records[2]["result"]["images"][0]["kind"], "spin-app");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ends_before_serving_does() {
    let gate = Gate::start(&["--decision-log", "none"]);
    gate.signal("-INT");
    let start = Instant::now();
    // It stops being ready, but serves for a while, so that endpoints can drop the pod.
    while get(gate.probes, "/readyz").await.unwrap().status == 200 {
        assert!(start.elapsed() < AMPLE);
    }
    assert_eq!(get(gate.probes, "/livez").await.unwrap().status, 200);
    let mut late = review("web");
    late["request"]["object"]["spec"]["containers"][0]["image"] = json!("127.0.0.1:1/web:1");
    assert_eq!(gate.ask("/validate", &late).await["allowed"], true);
    let (code, out) = gate.end();
    assert_eq!((code, out.as_str()), (Some(0), ""));
}

#[test]
fn a_second_signal_cuts_the_drain_short() {
    let gate = Gate::start(&[]);
    gate.signal("-TERM");
    wait_for("the first signal", || gate.log.lock().unwrap().contains("SIGTERM").then_some(()));
    gate.signal("-TERM");
    assert_eq!(gate.end().0, Some(130));
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = wasmgate();
    command.args(["serve", "--listen", &address, "--probes", "127.0.0.1:0"]).current_dir(folder.path());
    let said = super::Said::of(&mut command);
    said.fails(&[&address]);
}

/// A gate that starts by this configuration, on ports that are free.
fn serve_by(configuration: &str) -> Command {
    let mut command = wasmgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0", "--config", configuration]);
    command
}

#[test]
fn an_action_for_an_unknown_rule_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    for (body, said) in [
        ("{rules: {need-grant: warn}}", "`enforcement.rules` cannot be `need-grant`"),
        ("{neverExempt: [native]}", "`enforcement.neverExempt` cannot be `native`"),
    ] {
        std::fs::write(folder.path().join("gate.yaml"), format!("{head}enforcement: {body}\n")).unwrap();
        let ended = super::Said::of(serve_by("gate.yaml").current_dir(folder.path()));
        ended.fails(&[said, "no loaded bundle has this rule", "needs-grant"]);
        assert!(!ended.err.contains("listening"), "{}", ended.err);
    }
}

/// A number that was never in force would hold every later start to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_writes_no_number_of_its_bundles_down() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (place, grants) = (at("ours.tar.gz"), at("grants"));
    std::fs::create_dir(&grants).unwrap();
    std::fs::write(grants.join("broken.yaml"), "kind: WasiGrant\nspec: [").unwrap();
    let numbered = |name: &str, sequence: u64| bundle_with(name, &json!({"sequence": sequence}));
    let policies =
        format!("policies: {{bundles: [{{from: {}}}], store: {}}}", place.display(), at("store").display());
    let mounted = Mounted::new(&policies);
    replace(&place, &numbered("two", 2));
    let mut command = serve_by(&mounted.path());
    command.arg("--grants").arg(&grants).current_dir(folder.path());
    super::Said::of(&mut command).fails(&["broken.yaml"]);
    replace(&place, &numbered("one", 1));
    let gate = Gate::start(&["--config", &mounted.path()]);
    let said = get(gate.probes, "/readyz?verbose").await.unwrap().text();
    assert!(said.contains(", revision one, in force since "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_bundle_that_lacks_a_named_rule_goes_on_with_the_kept_one() {
    let folder = tempfile::tempdir().unwrap();
    let built = |rule: &str| {
        // A rule without a condition has no code of its own, and its name would not be known.
        let said = format!("violations contains {{\"rule\": \"{rule}\", \"message\": \"{rule}\"}}");
        let text = format!("{said} if input.apiVersion");
        opa::build(folder.path(), rule, "wasmgate/violations", &text)
    };
    let (own, other, place) = (built("own"), built("other"), folder.path().join("ours.tar.gz"));
    std::fs::rename(own, &place).unwrap();
    let (config, store) = (folder.path().join("gate.yaml"), folder.path().join("store"));
    let text = format!(
        "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\nenforcement: {{rules: {{own: warn}}}}\n\
         policies: {{bundles: [{}], store: {}}}\n",
        place.display(),
        store.display()
    );
    std::fs::write(&config, text).unwrap();
    let arguments = ["--config", config.to_str().unwrap()];
    let gate = Gate::start(&arguments);
    // Its record is written last.
    let is_record =
        |file: std::io::Result<std::fs::DirEntry>| file.unwrap().path().extension() == Some("json".as_ref());
    until("it to be kept", async || std::fs::read_dir(&store).is_ok_and(|mut files| files.any(is_record)))
        .await;
    drop(gate);
    std::fs::rename(other, &place).unwrap();
    // Twice: the first start must not keep what the second one could not use.
    for _ in 0..2 {
        let gate = Gate::start(&arguments);
        let said = get(gate.probes, "/readyz?verbose").await.unwrap().text();
        assert!(said.contains("[-]bundle/ours: ") && said.contains(", revision own, "), "{said}");
        assert!(said.contains("no loaded bundle has this rule"), "{said}");
    }
}

/// A configuration in the folder that a `ConfigMap` is mounted to, and what the kubelet does when it changes.
struct Mounted(TempDir);

impl Mounted {
    fn new(body: &str) -> Self {
        let mounted = Self(tempfile::tempdir().unwrap());
        mounted.change(body);
        std::os::unix::fs::symlink("..data/gate.yaml", mounted.0.path().join("gate.yaml")).unwrap();
        mounted
    }

    fn path(&self) -> String {
        self.0.path().join("gate.yaml").to_str().unwrap().to_string()
    }

    fn change(&self, body: &str) {
        let version = format!("..{}", uuid::Uuid::new_v4());
        let at = |name: &str| self.0.path().join(name);
        std::fs::create_dir(at(&version)).unwrap();
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        std::fs::write(at(&version).join("gate.yaml"), format!("{head}{body}\n")).unwrap();
        std::os::unix::fs::symlink(&version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_comes_into_force_and_a_bad_one_leaves_the_former() {
    let (layout, folder) = (
        format!("images: {{layouts: {{samples.example: {}}}}}", samples("images").display()),
        tempfile::tempdir().unwrap(),
    );
    let mounted = Mounted::new(&format!("{layout}\nenforcement: {{default: warn}}"));
    let gate = Gate::start(&["--config", &mounted.path()]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    let configuration = async || {
        let all = verbose().await;
        all.lines().find(|line| line.contains("configuration: ")).unwrap_or_default().to_string()
    };
    let allowed =
        async || gate.ask("/validate", &review("orders-everywhere.mutated")).await["allowed"].clone();
    let metric = async |line: &str| get(gate.probes, "/metrics").await.unwrap().text().contains(line);
    assert!(configuration().await.starts_with("[+]configuration: from "), "{}", verbose().await);
    assert_eq!(allowed().await, true, "it only warns");
    mounted.change(&layout);
    until("it to deny", async || allowed().await == false).await;
    // Nothing of a configuration is in force that is wrong at any place.
    mounted.change(&format!("{layout}\nenforcement: {{default: warn, rules: {{no-rule: warn}}}}"));
    until("the failure", async || configuration().await.starts_with("[-]")).await;
    let said = configuration().await;
    assert!(
        said.contains("; the former one stays in force: `enforcement.rules` cannot be `no-rule`"),
        "{said}"
    );
    assert_eq!(allowed().await, false);
    assert!(
        metric("wasmgate_config_failing 1\n").await
            && metric("wasmgate_config_reload_failures_total 1\n").await
    );
    // Registries, options of rules and exempt namespaces, and what needs a restart.
    mounted.change(&format!(
        "server: {{maxConcurrentReviews: 7}}\nexemptNamespaces: [other]\npolicies: {{store: {}}}",
        folder.path().display()
    ));
    until("what needs a restart", async || {
        configuration().await.ends_with("; needs a restart: server.maxConcurrentReviews")
    })
    .await;
    assert!(metric("wasmgate_config_failing 0\n").await && metric("wasmgate_config_needs_restart 1\n").await);
    let refused = gate.ask("/validate", &review("orders-everywhere.mutated")).await;
    assert_eq!(
        refused["status"]["details"]["causes"][0]["reason"], "not-inspected",
        "the layout is gone: {refused}"
    );
    let mut other = review("orders-everywhere.mutated");
    other["request"]["namespace"] = json!("other");
    assert_eq!(gate.ask("/validate", &other).await["allowed"], true, "exempt");
    mounted.change(&layout);
    until("the first one", async || configuration().await.starts_with("[+]")).await;
    assert!(metric("wasmgate_config_needs_restart 0\n").await);
    let log = gate.log.lock().unwrap().clone();
    for line in ["the configuration was loaded again", "the configuration in force stays", "need a restart"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_that_a_changed_configuration_masks_is_in_no_later_record() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("decisions.log");
    let masking = |masked: &str| {
        format!("decisionLog: {{output: {{file: {}}}, maskAnnotations: [{masked}]}}", log.display())
    };
    let mounted = Mounted::new(&masking(""));
    let gate = Gate::start(&["--config", &mounted.path()]);
    let mut pod = review("orders-everywhere.mutated");
    pod["request"]["object"]["metadata"]["annotations"]["vault.example/token"] = json!("s3cr3t-text");
    let last_has_it = async || {
        gate.ask("/validate", &pod).await;
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().last().map(|line| line.contains("s3cr3t-text"))
    };
    until("a record with it", async || last_has_it().await == Some(true)).await;
    mounted.change(&masking("\"vault.example/*\""));
    until("a record without it", async || last_has_it().await == Some(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_no_rule_reads_is_told_of_at_the_start_and_when_the_configuration_changes() {
    let mounted = Mounted::new("policies: {options: {strictAmbent: true}}");
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let configuration = async || {
        let all = get(gate.probes, "/readyz?verbose").await.unwrap().text();
        all.lines().find(|line| line.contains("configuration: ")).unwrap_or_default().to_string()
    };
    let log = || gate.log.lock().unwrap().clone();
    let said = configuration().await;
    assert!(
        said.starts_with("[+]")
            && said.ends_with(
                "; `policies.options.strictAmbent`: no rule of the loaded bundles reads it, so it changes nothing; did you mean \
                 `strictAmbient`?"
            ),
        "{said}"
    );
    assert!(log().contains("policies.options.strictAmbent"), "{}", log());
    mounted.change("policies: {options: {strictAmbient: true}}");
    until("the right name", async || !configuration().await.contains("policies.options")).await;
    mounted.change("policies: {options: {strictPlatfrom: true}}");
    until("another wrong one", async || configuration().await.contains("`policies.options.strictPlatfrom`"))
        .await;
    until("the log", async || log().contains("policies.options.strictPlatfrom")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_asked_although_it_is_insecure_is_told_of_when_the_configuration_changes() {
    let mounted = Mounted::new("");
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let log = || gate.log.lock().unwrap().clone();
    mounted.change("images: {registries: {allow: [ghcr.io], insecure: ['mirror.corp:5000']}}");
    until("the warning", async || log().contains("`mirror.corp:5000` is listed, and no entry of")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_put_in_force_and_taken_away_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "violations contains {\"rule\": \"own\", \"message\": \"own\"} if input.apiVersion";
    let built = |name: &str| opa::build(folder.path(), name, "wasmgate/violations", rule);
    let (ours, next) = (built("ours"), built("next"));
    let layout = format!("images: {{layouts: {{samples.example: {}}}}}", samples("images").display());
    let with = |bundles: String| format!("{layout}\npolicies: {{bundles: [{bundles}]}}");
    let mounted = Mounted::new(&with(format!("{{from: {}, action: audit}}", ours.display())));
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let metrics = async || get(gate.probes, "/metrics").await.unwrap().text();
    let message = async || gate.ask("/validate", &review("orders")).await["status"]["message"].to_string();
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    let said = verbose().await;
    assert!(
        said.contains("[+]bundle/ours: ") && said.contains("revision ours, in the shadow since "),
        "{said}"
    );
    assert!(!message().await.contains("[own]"));
    mounted.change(&with(ours.display().to_string()));
    until("it to decide", async || message().await.contains("[own]")).await;
    assert!(verbose().await.contains("revision ours, in force since "));
    mounted.change(&with(next.display().to_string()));
    until("the other one", async || verbose().await.contains("bundle/next: ")).await;
    let (said, page) = (verbose().await, metrics().await);
    assert!(!said.contains("bundle/ours") && !page.contains("name=\"ours\""), "{said}{page}");
    // A source that was replaced is not followed any more.
    opa::build(folder.path(), "ours", "wasmgate/violations", &rule.replace("\"own\"", "\"late\""));
    std::fs::rename(built("next"), folder.path().join("moved")).unwrap();
    until("the file to be missed", async || verbose().await.contains("[-]bundle/next: ")).await;
    assert!(!message().await.contains("[late]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_put_an_older_bundle_in_force_and_does_without_a_source_that_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ours.tar.gz");
    let numbered = |name: &str, sequence: u64| bundle_with(name, &json!({"sequence": sequence}));
    replace(&place, &numbered("two", 2));
    let with = |more: &str| format!("policies: {{bundles: [{{from: {}}}]{more}}}", place.display());
    let mounted = Mounted::new(&with(""));
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    let reloads = async |count: u32| {
        let line = format!("wasmgate_config_reloads_total {count}\n");
        get(gate.probes, "/metrics").await.unwrap().text().contains(&line)
    };
    assert!(verbose().await.contains(", revision two, in force since "));
    replace(&place, &numbered("one", 1));
    until("the older one", async || verbose().await.contains("its sequence 1 is lower than 2")).await;
    mounted.change(&with(", fuelLimit: 90000000"));
    until("the reload", async || reloads(1).await).await;
    let said = verbose().await;
    assert!(said.contains(", revision two, in force since ") && said.contains("lower than 2"), "{said}");
    // Everything else of a configuration comes into force without the source.
    std::fs::remove_file(&place).unwrap();
    mounted.change(&with(", fuelLimit: 91000000"));
    until("the reload without the file", async || reloads(2).await).await;
    assert!(verbose().await.contains(", revision two, in force since "), "{}", verbose().await);
    replace(&place, &numbered("three", 3));
    until("the newer one", async || verbose().await.contains(", revision three, in force since ")).await;
}

/// Rules for the log are no rules that judge: a build with their entry points alone is no successor.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_has_lost_its_rules_that_judge_does_not_take_the_place_of_one_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "violations contains {\"rule\": \"own\", \"message\": \"own\"} if input.apiVersion";
    let place = opa::build(folder.path(), "ours", "wasmgate/violations", rule);
    let log = "mask contains \"/input/request/userInfo/extra\"";
    let log = opa::build_package(folder.path(), "log", "system.log", &["system/log/mask"], log);
    let policies = |more: &str| format!("policies: {{baseline: false, bundles: [{more}]}}");
    let layout = format!("images: {{layouts: {{samples.example: {}}}}}", samples("images").display());
    let from = format!("{{from: {}}}, {{from: {}, judges: false}}", place.display(), log.display());
    let mounted = Mounted::new(&format!("{layout}\n{}", policies(&from)));
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    let message = async || gate.ask("/validate", &review("orders")).await["status"]["message"].to_string();
    assert!(message().await.contains("[own]"));
    replace(&place, &std::fs::read(&log).unwrap());
    until("the one for the log to be refused", async || verbose().await.contains("[-]bundle/ours: ")).await;
    assert!(verbose().await.contains("has rules for the decision log alone"), "{}", verbose().await);
    assert!(message().await.contains("[own]"), "the former one judges");
}

/// A bundle server whose first answer to a request with a token is held back until it is let go, and is then what was there when it was
/// asked.
struct LateServer {
    web: Web,
    offered: Arc<Mutex<(String, Vec<u8>)>>,
    let_go: Sender<()>,
}

impl LateServer {
    async fn start(name: &str, archive: Vec<u8>) -> Self {
        let offered = Arc::new(Mutex::new((name.to_string(), archive)));
        let (let_go, wait) = channel();
        let (now, wait) = (Arc::clone(&offered), Mutex::new(Some(wait)));
        let web = Web::start(move |_, asked| {
            let (etag, bytes) = now.lock().unwrap().clone();
            let is_known = asked.head.contains(&format!("if-none-match: \"{etag}\"\r"));
            let held = asked.authorization.as_ref().and_then(|_| wait.lock().unwrap().take());
            if let Some(held) = &held {
                tokio::task::block_in_place(|| held.recv().unwrap());
            }
            let etag = format!("etag: \"{etag}\"\r\n");
            if is_known && held.is_none() { (304, etag, Vec::new()) } else { (200, etag, bytes) }
        })
        .await;
        Self { web, offered, let_go }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_source_says_late_to_a_reload_does_not_replace_what_came_into_force_meanwhile() {
    let numbered = |name: &str, number: u64| bundle_with(name, &json!({"sequence": number}));
    let plain = |name: &str, _: u64| bundle_with(name, &json!({}));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    for (kind, bundle) in [("numbered", &numbered as &dyn Fn(&str, u64) -> Vec<u8>), ("plain", &plain)] {
        let server = LateServer::start("one", bundle("one", 1)).await;
        let with = |more: &str| {
            let from = format!("http://{}/ours.tar.gz", server.web.host);
            let source = format!("name: ours, from: '{from}', plainHttp: true, pollInterval: 1s{more}");
            format!("policies: {{store: {}, bundles: [{{{source}}}]}}", folder.path().join(kind).display())
        };
        let mounted = Mounted::new(&with(""));
        let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
        let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
        assert!(verbose().await.contains(", revision one, in force since "), "{}", verbose().await);
        mounted.change(&with(&format!(", tokenFile: {}", token.display())));
        let is_asked = || server.web.asked().iter().any(|asked| asked.authorization.is_some());
        until("the reload to ask", async || is_asked()).await;
        *server.offered.lock().unwrap() = ("two".into(), bundle("two", 2));
        until("the newer one", async || verbose().await.contains(", revision two, in force since ")).await;
        server.let_go.send(()).unwrap();
        let reloads = "wasmgate_config_reloads_total 1\n";
        until("the reload", async || get(gate.probes, "/metrics").await.unwrap().text().contains(reloads))
            .await;
        let said = verbose().await;
        assert!(
            said.contains("[+]bundle/ours: ") && said.contains(", revision two, in force since "),
            "{said}"
        );
        let metrics = get(gate.probes, "/metrics").await.unwrap().text();
        let failures = "wasmgate_config_reload_failures_total 0\n";
        assert!(metrics.contains(failures), "{kind}: it waited for a minute: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_off_drops_no_bundle_and_what_a_new_one_drops_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ours.tar.gz");
    replace(&place, &bundle_with("ours", &json!({})));
    let mounted = Mounted::new(&format!("policies: {{bundles: [{}]}}", place.display()));
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    mounted.change("");
    until("the file to be refused", async || verbose().await.contains("as if it were cut off")).await;
    assert!(verbose().await.contains("[+]bundle/ours: "), "{}", verbose().await);
    // Within `policies`, between two fields.
    let store = folder.path().join("kept");
    mounted.change(&format!("policies:\n  store: {}", store.display()));
    until("the other cut to be refused", async || verbose().await.contains("policies.bundles")).await;
    assert!(verbose().await.contains("[+]bundle/ours: "), "{}", verbose().await);
    mounted.change("policies: {}");
    until("the reload", async || verbose().await.contains("; no longer in force: bundle `ours`")).await;
    assert!(!verbose().await.contains("bundle/ours"), "{}", verbose().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_can_judge_no_pod_does_not_replace_one_that_can() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ours.tar.gz");
    let bad =
        |rules: &str| std::fs::read(opa::build(folder.path(), "bad", "wasmgate/violations", rules)).unwrap();
    replace(&place, &bundle_with("ours", &json!({})));
    let mounted = Mounted::new(&format!("policies: {{bundles: [{}]}}", place.display()));
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    for rules in ["violations := \"nothing\"", "violations := input.options.nothing"] {
        replace(&place, &bad(rules));
        until("it to be refused", async || verbose().await.contains("it cannot judge an ordinary pod")).await;
        let said = verbose().await;
        assert!(
            said.contains("[-]bundle/ours: ") && said.contains(", revision ours, in force since "),
            "{said}"
        );
        replace(&place, &bundle_with("ours", &json!({})));
        until("the good one", async || verbose().await.contains("[+]bundle/ours: ")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_replaced_in_its_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (place, key) = (folder.path().join("signed.tar.gz"), folder.path().join("key"));
    let signed = |name: &str, secret: &str| {
        std::fs::write(folder.path().join("signing"), secret).unwrap();
        let rules = folder.path().join(name);
        std::fs::create_dir(&rules).unwrap();
        let rule =
            format!("package wasmgate\n\nviolations contains {{\"rule\": \"r\", \"message\": \"{name}\"}}\n");
        std::fs::write(rules.join("r.rego"), rule).unwrap();
        std::fs::write(rules.join(".manifest"), json!({"revision": name, "roots": [""]}).to_string())
            .unwrap();
        opa::run_in(
            folder.path(),
            &[
                "build",
                "--target",
                "wasm",
                "--entrypoint",
                "wasmgate/violations",
                "--signing-alg",
                "HS256",
                "--signing-key",
                "signing",
                "--output",
                "made.tar.gz",
                "-b",
                name,
            ],
        );
        std::fs::read(folder.path().join("made.tar.gz")).unwrap()
    };
    std::fs::write(&key, "the first secret, which is long enough").unwrap();
    replace(&place, &signed("one", "the first secret, which is long enough"));
    let mounted = Mounted::new(&format!(
        "policies: {{bundles: [{{from: {}}}], keys: {{default: {{algorithm: HS256, file: {}}}}}}}",
        place.display(),
        key.display()
    ));
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    assert!(verbose().await.contains(", revision one, in force since "));
    replace(&place, &signed("two", "the second secret, which is long enough"));
    until("it to be refused", async || verbose().await.contains("[-]bundle/signed: ")).await;
    replace(&key, b"the second secret, which is long enough");
    until("the new key", async || verbose().await.contains(", revision two, in force since ")).await;
    replace(&place, &signed("three", "the first secret, which is long enough"));
    until("the old key to be refused", async || verbose().await.contains("[-]bundle/signed: ")).await;
    assert!(verbose().await.contains(", revision two, in force since "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_configuration_and_the_folders_that_it_names_again() {
    let folder = tempfile::tempdir().unwrap();
    let grants = folder.path().join("grants");
    std::fs::create_dir(&grants).unwrap();
    let gate = Gate::start(&["--grants", grants.to_str().unwrap(), "--image-layouts", &layouts()]);
    let allowed = async || gate.ask("/validate", &review("orders.mutated")).await["allowed"].clone();
    assert_eq!(allowed().await, false);
    for file in std::fs::read_dir(samples("grants")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), grants.join(file.file_name())).unwrap();
    }
    gate.signal("-HUP");
    until("the grants", async || allowed().await == true).await;
    assert!(get(gate.probes, "/metrics").await.unwrap().text().contains("wasmgate_config_reloads_total 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_and_a_changed_configuration_ask_the_sources_of_bundles_at_once() {
    let server = LateServer::start("one", bundle_with("one", &json!({}))).await;
    let from = format!("http://{}/ours.tar.gz", server.web.host);
    let policies =
        format!("policies: {{bundles: [{{from: '{from}', plainHttp: true, pollInterval: 1h}}]}}\n");
    let mounted = Mounted::new(&policies);
    let gate = Gate::start(&["--config", &mounted.path(), "--decision-log", "off"]);
    let verbose = async || get(gate.probes, "/readyz?verbose").await.unwrap().text();
    let in_force =
        async |name: &'static str| verbose().await.contains(&format!(", revision {name}, in force since "));
    assert!(in_force("one").await, "{}", verbose().await);
    *server.offered.lock().unwrap() = ("two".into(), bundle_with("two", &json!({})));
    gate.signal("-HUP");
    until("what the signal asks for", async || in_force("two").await).await;
    *server.offered.lock().unwrap() = ("three".into(), bundle_with("three", &json!({})));
    mounted.change(&format!("{policies}enforcement: {{floor: warn}}"));
    until("what the change asks for", async || in_force("three").await).await;
}

#[test]
fn a_grants_folder_without_manifests_is_logged_at_the_start() {
    let grants = tempfile::tempdir().unwrap();
    let folder = grants.path().to_str().unwrap();
    std::fs::write(grants.path().join("orders.yaml.bak"), "kind: WasiGrant").unwrap();
    let warning = "no grants were loaded: none of the files ends in .yaml, .yml or .json";
    let gate = Gate::start(&["--grants", folder]);
    let log = gate.log.lock().unwrap().clone();
    assert!(log.contains(warning) && log.contains(folder) && log.contains("orders.yaml.bak"), "{log}");
    gate.signal("-TERM");
    assert_eq!(gate.end().0, Some(0));

    std::fs::copy(samples("grants/orders.yaml"), grants.path().join("orders.yaml")).unwrap();
    let gate = Gate::start(&["--grants", folder]);
    let log = gate.log.lock().unwrap().clone();
    assert!(!log.contains(warning), "{log}");
}

/// The API server calls no gate whose certificate it does not trust; other replicas may have a better one.
#[test]
fn a_gate_whose_certificate_expired_is_not_ready_until_it_is_renewed() {
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    let write = |last_year: i32| {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        std::fs::write(&cert, parameters.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
    };
    write(2021);
    let gate = Gate::start(&["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let until = |status: &str, words: &str| {
        wait_for(words, || {
            let mut stream = std::net::TcpStream::connect(gate.probes).unwrap();
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            (answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(words)).then_some(())
        });
    };
    until("503", "the serving certificate expired at 2021-01-01T00:00:00Z: renew it");
    write(2099);
    until("200", "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_compiled_policies_judges_like_the_one_that_compiled_them() {
    let home = tempfile::tempdir().unwrap();
    let configuration = home.path().join("gate.yaml");
    let compiled = home.path().join("compiled");
    let text = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "GateConfiguration",
        "policies": {"compiledDir": compiled}});
    std::fs::write(&configuration, text.to_string()).unwrap();
    let start = || {
        let mut command = wasmgate();
        command.env_remove("WASMGATE_COMPILED_DIR").env("RUST_LOG", "wasmgate=debug");
        Gate::start_as(command, &["--config", configuration.to_str().unwrap(), "--image-layouts", &layouts()])
    };
    let mut answers = Vec::new();
    for said in ["is on disk now", "was on disk"] {
        let gate = start();
        let log = gate.log.lock().unwrap().clone();
        assert!(log.contains(&format!("the compiled policy {said}")), "{log}");
        answers.push((
            gate.ask("/mutate", &review("orders.mutated")).await,
            gate.ask("/validate", &review("orders.mutated")).await,
        ));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].1["allowed"], false, "{answers:?}");
    std::fs::set_permissions(&compiled, std::fs::Permissions::from_mode(0o777)).unwrap();
    let gate = start();
    let log = gate.log.lock().unwrap().clone();
    assert!(log.contains("compiled policies are not kept on disk") && log.contains("mode 0777"), "{log}");
    assert_eq!(gate.ask("/validate", &review("orders.mutated")).await, answers[0].1);
}
