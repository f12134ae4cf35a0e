//! Decision records and spans on their way to a collector.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use super::serve::{Gate, review};
use super::{layouts, wasmgate};
use crate::sources::with_certificates;
use crate::support::process::{program, until, wait_for};
use crate::support::tls::Ca;
use crate::support::web::{Asked, Web};

/// Writes a configuration with these fields besides `apiVersion` and `kind`; returns its path.
fn configuration(folder: &Path, fields: Value) -> String {
    let mut file = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "GateConfiguration"});
    file.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let path = folder.join("gate.yaml");
    std::fs::write(&path, file.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(configuration: &str) -> Gate {
    Gate::start(&["--config", configuration, "--image-layouts", &layouts()])
}

/// How many files wait in a spool.
fn waiting(spool: &Path) -> usize {
    let names = std::fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name != "lock").count()
}

/// The events of a request, in OPA's form.
fn events(asked: &Asked) -> Vec<Value> {
    serde_json::from_reader(flate2::read::GzDecoder::new(asked.bytes.as_slice())).unwrap()
}

/// The value of a metric with these labels.
async fn metric(gate: &Gate, series: &str) -> Option<f64> {
    let text = gate.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.and_then(|value| value.parse().ok())
}

/// The ids of the records that a collector took, in their order; those of a refused request are not among them.
fn taken(collector: &Web, is_taken: impl Fn(usize) -> bool) -> Vec<String> {
    let asked = collector.asked().into_iter().enumerate().filter(|(number, _)| is_taken(*number));
    let events = asked.flat_map(|(_, asked)| {
        assert_eq!(asked.line, "POST /logs/gates");
        assert!(asked.head.to_lowercase().contains("content-encoding: gzip"), "{}", asked.head);
        assert_eq!(asked.authorization.as_deref(), Some("Bearer hunter2"));
        events(&asked)
    });
    events.map(|event| event["decision_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_every_record_once_though_it_was_down_and_the_gate_was_killed() {
    // What it answers: nothing useful while it is down, then it takes all.
    let (is_down, accepted) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let (down, numbers) = (Arc::clone(&is_down), Arc::clone(&accepted));
    let collector = Web::start(move |number, _| {
        if down.load(Ordering::SeqCst) {
            return (503, String::new(), Vec::new());
        }
        numbers.lock().unwrap().push(number);
        (200, String::new(), Vec::new())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (spool, log) = (folder.path().join("spool"), folder.path().join("decisions.log"));
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let configuration = folder.path().join("gate.yaml");
    let upload = json!({"url": format!("http://{}/logs/gates", collector.host), "plainHttp": true, "spool": spool,
        "tokenFile": token, "delay": "0s", "chunkBytes": 2048});
    let file = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "GateConfiguration",
        "decisionLog": {"output": {"file": log}, "upload": upload}});
    std::fs::write(&configuration, file.to_string()).unwrap();
    let images = layouts();
    let arguments = ["--config", configuration.to_str().unwrap(), "--image-layouts", &images];
    let ask = async |gate: &Gate, times: usize| {
        for _ in 0..times {
            gate.ask("/validate", &review("web")).await;
        }
    };
    let written = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let gate = Gate::start(&arguments);
    ask(&gate, 7).await;
    wait_for("the records in the log", || (written() == 7).then_some(()));
    wait_for("attempts", || (collector.asked().len() > 1).then_some(()));
    gate.signal("-KILL");
    drop(gate);
    let gate = Gate::start(&arguments);
    until("what waits to be shown", async || {
        let waits = metric(&gate, "wasmgate_decision_logs_waiting_bytes{}").await;
        waits.is_some_and(|bytes| bytes > 0.0)
    })
    .await;
    ask(&gate, 3).await;
    wait_for("the records in the log", || (written() == 10).then_some(()));
    is_down.store(false, Ordering::SeqCst);
    let all = || taken(&collector, |number| accepted.lock().unwrap().contains(&number));
    wait_for("all records", || (all().len() >= 10).then_some(()));
    gate.signal("-TERM");
    let (code, _) = gate.end();
    assert_eq!(code, Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    let ids = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["decision_id"].as_str().unwrap().to_owned());
    assert_eq!(all(), ids.collect::<Vec<_>>());
    assert_eq!(waiting(&spool), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_records_reach_the_collector_when_the_gate_ends() {
    let collector = Web::start(|_, _| (200, String::new(), Vec::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("gate.yaml");
    let upload = json!({"url": format!("http://{}/logs", collector.host), "plainHttp": true,
        "spool": folder.path().join("spool"), "delay": "1h"});
    let file = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "GateConfiguration",
        "decisionLog": {"output": "off", "upload": upload}});
    std::fs::write(&configuration, file.to_string()).unwrap();
    let gate = Gate::start(&["--config", configuration.to_str().unwrap(), "--image-layouts", &layouts()]);
    gate.ask("/validate", &review("web")).await;
    assert_eq!(collector.asked().len(), 0, "it waits for more");
    gate.signal("-TERM");
    let (code, out) = gate.end();
    assert_eq!((code, out.as_str(), collector.asked().len()), (Some(0), "", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_redirects_and_loses_the_body_has_taken_nothing() {
    // As a proxy does that wants a login: the page to which it redirects answers 200 to a GET.
    let collector = Web::start(|_, asked| match asked.line.as_str() {
        "POST /logs" => (302, "location: /login\r\n".to_owned(), Vec::new()),
        "POST /kept" => (307, "location: /taken\r\n".to_owned(), Vec::new()),
        _ => (200, String::new(), Vec::new()),
    })
    .await;
    for (path, is_taken) in [("logs", false), ("kept", true)] {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let upload = json!({"url": format!("http://{}/{path}", collector.host), "plainHttp": true, "spool": spool,
            "delay": "0s"});
        let log = json!({"output": "off", "upload": upload});
        let gate = start(&configuration(folder.path(), json!({"decisionLog": log})));
        gate.ask("/validate", &review("web")).await;
        let line = if is_taken { "POST /taken" } else { "POST /logs" };
        wait_for("a request", || collector.asked().iter().any(|asked| asked.line == line).then_some(()));
        gate.signal("-TERM");
        assert_eq!(gate.end().0, Some(0));
        assert_eq!(waiting(&spool), usize::from(!is_taken), "{path}");
    }
    assert!(collector.asked().iter().all(|asked| !asked.line.starts_with("GET")), "{:?}", collector.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_records_of_those_who_show_a_certificate_and_of_the_others_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ca = Ca::new("collector");
    let (cert, key) = ca.sign(ExtendedKeyUsagePurpose::ClientAuth);
    for (name, text) in [("ca.pem", &ca.pem), ("client.pem", &cert), ("client.key", &key)] {
        std::fs::write(at(name), text).unwrap();
    }
    let (port, task) = with_certificates(&ca, &at("ca.pem"), Vec::new()).await;
    for shows in [true, false] {
        let home = at(if shows { "shows" } else { "shows-none" });
        std::fs::create_dir(&home).unwrap();
        let spool = home.join("spool");
        let mut upload = json!({"url": format!("https://localhost:{port}/logs"), "spool": spool, "delay": "0s",
            "caFile": at("ca.pem")});
        if shows {
            upload["clientCertFile"] = json!(at("client.pem"));
            upload["clientKeyFile"] = json!(at("client.key"));
        }
        let log = json!({"output": "off", "upload": upload});
        let gate = start(&configuration(&home, json!({"decisionLog": log})));
        gate.ask("/validate", &review("web")).await;
        gate.signal("-TERM");
        assert_eq!(gate.end().0, Some(0));
        assert_eq!(waiting(&spool), usize::from(!shows), "shows a certificate: {shows}");
    }
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_collector_refuses_for_ever_is_counted_and_holds_up_no_other() {
    let names = |asked: &Asked| {
        let names = events(asked).into_iter().map(|event| event["input"]["request"]["name"].clone());
        names.collect::<Vec<_>>()
    };
    // It takes what is empty, as OPA's and the OpenTelemetry Collector's servers do.
    let collector = Web::start(move |_, asked| {
        let status = if names(asked).contains(&json!("bad")) { 400 } else { 200 };
        (status, String::new(), Vec::new())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let upload = json!({"url": format!("http://{}/logs", collector.host), "plainHttp": true, "spool": spool,
        "delay": "2s"});
    let gate =
        start(&configuration(folder.path(), json!({"decisionLog": {"output": "off", "upload": upload}})));
    for name in ["one", "two", "bad", "three"] {
        let mut asked = review("web");
        asked["request"]["name"] = json!(name);
        gate.ask("/validate", &asked).await;
    }
    let series = r#"wasmgate_decision_logs_dropped_total{reason="refused"}"#;
    until("it is counted", async || metric(&gate, series).await == Some(1.0)).await;
    wait_for("the others", || (waiting(&spool) == 0).then_some(()));
    let taken: Vec<Value> = collector.asked().iter().flat_map(names).filter(|name| name != "bad").collect();
    for name in ["one", "two", "three"] {
        assert!(taken.contains(&json!(name)), "{name}: {taken:?}");
    }
}

/// It takes one record at a time, every second time that it is asked for that, and one never.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_busy_within_a_file_gets_every_record_once_and_each_loss_is_counted_once() {
    let accepted: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (kept, singles) = (Arc::clone(&accepted), AtomicUsize::new(0));
    let collector = Web::start(move |_, asked| {
        let events = events(asked);
        let status = match events.as_slice() {
            [event] if event["input"]["request"]["name"] == "large" => 413,
            [event] if singles.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
                kept.lock().unwrap().push(event["input"]["request"]["name"].clone());
                200
            }
            [_] => 429,
            _ => 413,
        };
        (status, String::new(), Vec::new())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let upload = json!({"url": format!("http://{}/logs", collector.host), "plainHttp": true, "spool": spool,
        "delay": "2s"});
    let gate =
        start(&configuration(folder.path(), json!({"decisionLog": {"output": "off", "upload": upload}})));
    let names = ["one", "large", "two", "three", "four"];
    for name in names {
        let mut asked = review("web");
        asked["request"]["name"] = json!(name);
        gate.ask("/validate", &asked).await;
    }
    wait_for("the records", || (accepted.lock().unwrap().len() >= 4).then_some(()));
    wait_for("the spool to be empty", || (waiting(&spool) == 0).then_some(()));
    assert_eq!(*accepted.lock().unwrap(), ["one", "two", "three", "four"]);
    let series = r#"wasmgate_decision_logs_dropped_total{reason="too_large"}"#;
    assert_eq!(metric(&gate, series).await, Some(1.0));
}

/// As the specification of OTLP over HTTP wants it of clients; without that the next attempt comes within a second. Also where it is asked
/// whether it takes an empty request.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_left_alone_for_as_long_as_it_asks() {
    for answers in [vec![429], vec![400, 503]] {
        let count = answers.len();
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let kept = Arc::clone(&times);
        let collector = Web::start(move |number, _| {
            kept.lock().unwrap().push(Instant::now());
            match answers.get(number) {
                Some(400) => (400, String::new(), Vec::new()),
                Some(status) => (*status, "retry-after: 3\r\n".to_owned(), Vec::new()),
                None => (200, String::new(), Vec::new()),
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let upload = json!({"url": format!("http://{}/logs", collector.host), "plainHttp": true, "spool": spool,
            "delay": "0s"});
        let gate =
            start(&configuration(folder.path(), json!({"decisionLog": {"output": "off", "upload": upload}})));
        gate.ask("/validate", &review("web")).await;
        wait_for("the next attempt", || (times.lock().unwrap().len() > count).then_some(()));
        let times = times.lock().unwrap().clone();
        let waited = times[count].duration_since(times[count - 1]);
        assert!(waited >= Duration::from_secs(3), "{count}: {waited:?}");
    }
}

/// The disk is a file system of the gate's own, in a namespace.
#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_a_disk_that_is_full_comes_or_is_counted_once() {
    const RECORDS: usize = 40;
    if std::env::var_os("WASMGATE_TEST_NO_NAMESPACES").is_some() {
        println!("skipped: WASMGATE_TEST_NO_NAMESPACES is set");
        return;
    }
    let (is_down, accepted) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(BTreeSet::new())));
    let (down, kept) = (Arc::clone(&is_down), Arc::clone(&accepted));
    let collector = Web::start(move |_, asked| {
        if down.load(Ordering::SeqCst) {
            return (503, String::new(), Vec::new());
        }
        let name = |event: Value| event["input"]["request"]["name"].as_str().unwrap().to_owned();
        kept.lock().unwrap().extend(events(asked).into_iter().map(name));
        (200, String::new(), Vec::new())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (spool, log) = (folder.path().join("spool"), folder.path().join("decisions.log"));
    std::fs::create_dir(&spool).unwrap();
    let upload = json!({"url": format!("http://{}/logs", collector.host), "plainHttp": true, "spool": spool,
        "delay": "0s", "chunkBytes": 2048});
    let configuration =
        configuration(folder.path(), json!({"decisionLog": {"output": {"file": log}, "upload": upload}}));
    let gate = wasmgate();
    let mut command = Command::new("unshare");
    let mount = r#"mount -t tmpfs -o size=48k tmpfs "$0" && exec "$@""#;
    command.args(["--map-root-user", "--mount", "sh", "-c", mount]).arg(&spool).arg(gate.get_program());
    for (name, value) in gate.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let gate = Gate::start_as(command, &["--config", &configuration, "--image-layouts", &layouts()]);
    for number in 0..RECORDS {
        let mut asked = review("orders.mutated");
        asked["request"]["name"] = json!(number.to_string());
        gate.ask("/validate", &asked).await;
    }
    wait_for("the records", || {
        (std::fs::read_to_string(&log).unwrap_or_default().lines().count() == RECORDS).then_some(())
    });
    let counted = async |reason: &str| {
        let series = format!(r#"wasmgate_decision_logs_dropped_total{{reason="{reason}"}}"#);
        metric(&gate, &series).await
    };
    until("records to be lost", async || counted("spool_full").await > Some(0.0)).await;
    is_down.store(false, Ordering::SeqCst);
    // The last one, and with it all before it.
    let last = (RECORDS - 1).to_string();
    wait_for("the records that are left", || accepted.lock().unwrap().contains(&last).then_some(()));
    let came = u32::try_from(accepted.lock().unwrap().len()).unwrap();
    let lost = f64::from(u32::try_from(RECORDS).unwrap() - came);
    assert_eq!((counted("spool_full").await, counted("write_failed").await), (Some(lost), Some(0.0)));
}

/// As nginx does where it wants a certificate of the client.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_every_request_gets_is_about_no_record_and_loses_none() {
    let collector = Web::start(|_, _| (400, String::new(), Vec::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let upload = json!({"url": format!("http://{}/logs", collector.host), "plainHttp": true, "spool": spool,
        "delay": "0s"});
    let gate =
        start(&configuration(folder.path(), json!({"decisionLog": {"output": "off", "upload": upload}})));
    for _ in 0..3 {
        gate.ask("/validate", &review("web")).await;
    }
    wait_for("several attempts", || (collector.asked().len() > 4).then_some(()));
    let refused = r#"wasmgate_decision_logs_dropped_total{reason="refused"}"#;
    assert_eq!(metric(&gate, refused).await, Some(0.0));
    gate.signal("-TERM");
    assert_eq!(gate.end().0, Some(0));
    assert!(waiting(&spool) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gates_do_not_share_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let upload = json!({"url": "https://collector.example/logs", "spool": folder.path().join("spool")});
    let configuration =
        configuration(folder.path(), json!({"decisionLog": {"output": "off", "upload": upload}}));
    let _first = start(&configuration);
    let second = wasmgate()
        .args(["serve", "--listen", "127.0.0.1:0", "--probes", "127.0.0.1:0", "--config", &configuration])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && error.contains("is used by another gate"), "{error}");
}

/// The receiver of OpenTelemetry's collector.
struct Receiver {
    child: Child,
    lines: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    fn start(port: u16) -> Self {
        let mut child = Command::new(program("otlpsink"))
            .arg(format!("127.0.0.1:{port}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(out.next().unwrap().unwrap(), "listening");
        let lines: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in out.map_while(Result::ok) {
                let (kind, data) = line.split_once(' ').unwrap();
                kept.lock().unwrap().push((kind.to_owned(), serde_json::from_str(data).unwrap()));
            }
        });
        Self { child, lines }
    }

    /// All log records, or all spans, with their resource.
    fn all(&self, kind: &str) -> Vec<(Value, Value)> {
        let [resources, scopes, each] = match kind {
            "logs" => ["resourceLogs", "scopeLogs", "logRecords"],
            _ => ["resourceSpans", "scopeSpans", "spans"],
        };
        let list = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
        let lines = self.lines.lock().unwrap().clone();
        let mut found = Vec::new();
        for (_, data) in lines.iter().filter(|(of, _)| of == kind) {
            for resource in list(data, resources) {
                for scope in list(&resource, scopes) {
                    found.extend(
                        list(&scope, each).into_iter().map(|one| (resource["resource"].clone(), one)),
                    );
                }
            }
        }
        found
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of an attribute.
fn attribute(of: &Value, key: &str) -> Option<String> {
    let all = of["attributes"].as_array()?;
    let found = all.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().map(str::to_owned)
}

/// The member of a structured value.
fn member<'a>(of: &'a Value, key: &str) -> &'a Value {
    let members = of["kvlistValue"]["values"].as_array().unwrap();
    &members.iter().find(|member| member["key"] == key).unwrap()["value"]
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_of_opentelemetry_takes_records_and_spans_of_the_api_servers_trace() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let upload = json!({"format": "otlp", "url": format!("http://127.0.0.1:{port}/v1/logs"), "plainHttp": true,
        "spool": spool, "delay": "0s"});
    let log = json!({"output": "off", "upload": upload, "labels": {"cluster": "eu-1"}});
    let tracing = json!({"endpoint": format!("http://127.0.0.1:{port}/v1/traces"), "plainHttp": true});
    let gate = start(&configuration(folder.path(), json!({"decisionLog": log, "tracing": tracing})));
    // Nothing listens yet: records wait.
    let refused = gate.ask("/validate", &review("orders.mutated")).await;
    assert_eq!(refused["allowed"], false);
    let receiver = Receiver::start(port);
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    gate.ask_within(Some(&sampled), "/mutate", &review("orders")).await;
    gate.ask_within(Some(&sampled.replace("-01", "-00")), "/validate", &review("orders.mutated")).await;
    gate.ask_within(Some("nonsense"), "/validate", &review("orders.mutated")).await;
    wait_for("the records", || (receiver.all("logs").len() == 4).then_some(()));
    wait_for("the spans", || (!receiver.all("traces").is_empty()).then_some(()));
    gate.signal("-TERM");
    assert_eq!(gate.end().0, Some(0));

    let (resource, first) = &receiver.all("logs")[0];
    assert_eq!(attribute(resource, "service.name").as_deref(), Some("wasmgate"));
    assert_eq!(attribute(resource, "cluster").as_deref(), Some("eu-1"));
    assert_eq!((&first["severityText"], &first["eventName"]), (&json!("WARN"), &json!("wasmgate.decision")));
    let id = &member(&first["body"], "decision_id")["stringValue"];
    assert_eq!(attribute(first, "opa.decision_id").as_deref(), id.as_str());
    assert_eq!(member(member(&first["body"], "result"), "allowed"), &json!({"boolValue": false}));
    let (_, second) = &receiver.all("logs")[1];
    assert_eq!(second["traceId"], TRACE);

    let spans: Vec<Value> = receiver.all("traces").into_iter().map(|(_, span)| span).collect();
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "the others are not sampled: {spans:?}");
    let (review, stages) = spans.split_first().unwrap();
    assert_eq!((&review["name"], &review["parentSpanId"]), (&json!("POST /mutate"), &json!(PARENT)));
    assert_eq!(review["spanId"], second["spanId"], "record and span name each other");
    assert_eq!(attribute(review, "opa.decision_id"), attribute(second, "opa.decision_id"));
    let names: Vec<_> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["read", "inspect", "plan", "answer"]);
    assert!(stages.iter().all(|stage| stage["parentSpanId"] == review["spanId"]), "{stages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_no_collector_takes_are_counted_and_delay_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Web::start(|_, _| (400, String::new(), Vec::new())).await;
    let tracing = json!({"endpoint": format!("http://{}/v1/traces", collector.host), "plainHttp": true,
        "samplingRatePerMillion": 1_000_000});
    let gate = start(&configuration(folder.path(), json!({"tracing": tracing})));
    for _ in 0..3 {
        gate.ask("/validate", &review("web")).await;
    }
    let lost = async || metric(&gate, "wasmgate_traced_reviews_lost_total").await == Some(3.0);
    until("they are counted", lost).await;
    assert!(collector.asked().iter().all(|asked| asked.line == "POST /v1/traces"));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_collector_rejects_of_a_request_that_it_takes_are_counted_as_lost() {
    // `ExportTraceServiceResponse` with `partial_success { rejected_spans: 1 error_message: "full" }`, to the first request.
    let partial = b"\x0a\x08\x08\x01\x12\x04full".to_vec();
    let in_chunks = [b"a\r\n", partial.as_slice(), b"\r\n0\r\n\r\n"].concat();
    for (headers, answer) in [("", partial), ("transfer-encoding: chunked\r\n", in_chunks)] {
        let folder = tempfile::tempdir().unwrap();
        let collector = Web::start(move |number, _| match number {
            0 => (200, headers.to_owned(), answer.clone()),
            _ => (200, String::new(), Vec::new()),
        })
        .await;
        let tracing = json!({"endpoint": format!("http://{}/v1/traces", collector.host), "plainHttp": true,
            "samplingRatePerMillion": 1_000_000});
        let gate = start(&configuration(folder.path(), json!({"tracing": tracing})));
        for _ in 0..3 {
            gate.ask("/validate", &review("web")).await;
        }
        let counted = async || {
            let lost = metric(&gate, "wasmgate_traced_reviews_lost_total").await;
            lost == Some(1.0) && metric(&gate, "wasmgate_traced_reviews_total").await == Some(2.0)
        };
        until("they are counted", counted).await;
    }
}

/// As a proxy does that wants a login: the page to which it redirects answers 200 to a `GET`, which has no spans.
#[tokio::test(flavor = "multi_thread")]
async fn spans_whose_request_a_collector_redirects_elsewhere_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Web::start(|_, asked| match asked.line.as_str() {
        "POST /v1/traces" => (302, "location: /login\r\n".to_owned(), Vec::new()),
        _ => (200, String::new(), Vec::new()),
    })
    .await;
    let tracing = json!({"endpoint": format!("http://{}/v1/traces", collector.host), "plainHttp": true,
        "samplingRatePerMillion": 1_000_000});
    let gate = start(&configuration(folder.path(), json!({"tracing": tracing})));
    gate.ask("/validate", &review("web")).await;
    let lost = async || metric(&gate, "wasmgate_traced_reviews_lost_total").await == Some(1.0);
    until("they are counted", lost).await;
    assert!(collector.asked().iter().all(|asked| asked.line == "POST /v1/traces"), "{:?}", collector.asked());
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
