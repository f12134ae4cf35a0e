//! An API server that fails: what the gate still writes, and above all what it does not.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use serde_json::{Value, json};
use wasmgate::audit::Metrics;
use wasmgate::config::Kubernetes;
use wasmgate::register::Registration;

use crate::support::process::until;
use crate::support::web::{Asked, Said, Web};

fn answer(status: u16, body: &Value) -> Said {
    (status, "content-type: application/json\r\n".into(), body.to_string().into_bytes())
}

fn status(code: u16, reason: &str) -> Said {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("the fake says {reason}")});
    answer(code, &body)
}

/// A registration against a fake API server; it ends when dropped.
fn start(web: &Web, folder: &Path, webhooks: &Value) -> Registration {
    let mut config = Config::new(format!("http://{}", web.host).parse().unwrap());
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let kubernetes: Kubernetes =
        serde_json::from_value(json!({"webhooks": webhooks, "lease": {"duration": "2s"},
        "certificates": {"startTimeout": "5s"}}))
        .unwrap();
    let plan = kubernetes.plan("system", folder).unwrap();
    Registration::start(&client, plan, "me", &Arc::new(Metrics::new()))
}

fn none() -> Value {
    json!({"mutating": null, "validating": null})
}

fn written(web: &Web, what: &str) -> Vec<Asked> {
    let writes = |asked: &Asked| !asked.line.starts_with("GET") && asked.line.contains(what);
    web.asked().into_iter().filter(writes).collect()
}

/// A Lease that another holder keeps renewing while the fake is told so, always over the latest version.
#[derive(Default)]
struct Leases(Mutex<Option<(u64, Value)>>);

impl Leases {
    fn answer(&self, asked: &Asked) -> Said {
        let mut held = self.0.lock().unwrap();
        if asked.line.starts_with("GET") {
            return held.as_ref().map_or_else(|| status(404, "NotFound"), |(_, lease)| answer(200, lease));
        }
        let mut lease: Value = serde_json::from_str(&asked.body).unwrap();
        let version = held.as_ref().map_or(0, |(version, _)| *version);
        let over = lease["metadata"]["resourceVersion"].as_str().map_or(0, |text| text.parse().unwrap());
        if over != version {
            return status(409, "Conflict");
        }
        lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        *held = Some((version + 1, lease.clone()));
        answer(200, &lease)
    }
}

fn is_lease(asked: &Asked) -> bool {
    asked.line.contains("/leases")
}

#[tokio::test]
async fn a_replica_that_does_not_lead_writes_nothing() {
    // Another holder renews before every look.
    let web = Web::start(|number, asked| {
        if is_lease(asked) {
            let metadata = json!({"name": "wasmgate", "resourceVersion": number.to_string()});
            return answer(200, &json!({"metadata": metadata, "spec": {"holderIdentity": "other"}}));
        }
        status(404, "NotFound")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut registration = start(&web, folder.path(), &none());
    let error = registration.certificate().await.unwrap_err().to_string();
    assert!(error.contains("`system/wasmgate-certs`") && error.contains("not made yet"), "{error}");
    registration.close().await;
    assert_eq!(written(&web, "").len(), 0, "{:?}", written(&web, ""));
    assert!(web.asked().iter().filter(|asked| is_lease(asked)).count() > 5);
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_writing_before_its_lease_ends() {
    // The Lease is granted once, and every renewal fails. The Secret cannot be written either, so the writer keeps
    // trying.
    let leases = Leases::default();
    let start_of_all = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&times);
    let web = Web::start(move |_, asked| match asked.line.split(' ').next() {
        _ if is_lease(asked) && asked.line.starts_with("PUT") => status(500, "InternalError"),
        _ if is_lease(asked) => leases.answer(asked),
        Some("POST") => {
            log.lock().unwrap().push(start_of_all.elapsed());
            status(500, "InternalError")
        }
        _ => status(404, "NotFound"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut registration = start(&web, folder.path(), &none());
    registration.certificate().await.unwrap_err();
    registration.close().await;
    let times = times.lock().unwrap().clone();
    assert!(!times.is_empty(), "it led, and wrote");
    // The term is two seconds, and the gate may write for 4/3 s of it; the bound of this test is the whole term.
    let first = times[0];
    assert!(times.iter().all(|time| *time < first + Duration::from_secs(2)), "{times:?}");
    let made = web.asked().iter().filter(|asked| is_lease(asked) && asked.line.starts_with("POST")).count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn half_a_secret_is_never_served() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let web = Web::start(move |number, asked| {
        if is_lease(asked) {
            let metadata = json!({"name": "wasmgate", "resourceVersion": number.to_string()});
            return answer(200, &json!({"metadata": metadata, "spec": {"holderIdentity": "other"}}));
        }
        let data = json!({"tls.crt": STANDARD.encode(&cert), "tls.key": STANDARD.encode(&key)});
        answer(200, &json!({"metadata": {"name": "wasmgate-certs", "resourceVersion": "1"}, "data": data}))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let error = start(&web, folder.path(), &none()).certificate().await.unwrap_err().to_string();
    assert!(error.contains("no certificate that can be served"), "{error}");
    assert!(!folder.path().join("managed").exists());
}

#[tokio::test]
async fn a_secret_that_another_replica_made_first_is_used_and_not_overwritten() {
    // The first write conflicts with another replica's, which wrote what this one would have written.
    let leases = Leases::default();
    let secret: Mutex<Option<Value>> = Mutex::default();
    let web = Web::start(move |_, asked| {
        if is_lease(asked) {
            return leases.answer(asked);
        }
        let mut secret = secret.lock().unwrap();
        if asked.line.starts_with("POST") {
            let mut made: Value = serde_json::from_str(&asked.body).unwrap();
            made["metadata"]["resourceVersion"] = json!("7");
            *secret = Some(made);
            return status(409, "AlreadyExists");
        }
        secret.as_ref().map_or_else(|| status(404, "NotFound"), |secret| answer(200, secret))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut registration = start(&web, folder.path(), &none());
    let (cert, key) = registration.certificate().await.unwrap();
    assert!(wasmgate::certs::load(&cert, &key).is_ok());
    registration.close().await;
    assert_eq!(written(&web, "/secrets").len(), 1);
}

#[tokio::test]
async fn a_missing_webhook_configuration_is_not_created() {
    let leases = Leases::default();
    let secret: Mutex<Option<Value>> = Mutex::default();
    let web = Web::start(move |_, asked| {
        let mut secret = secret.lock().unwrap();
        match asked.line.starts_with("GET") {
            _ if is_lease(asked) => leases.answer(asked),
            false if asked.line.contains("/secrets") => {
                let mut made: Value = serde_json::from_str(&asked.body).unwrap();
                made["metadata"]["resourceVersion"] = json!("1");
                *secret = Some(made.clone());
                answer(201, &made)
            }
            true if asked.line.contains("/secrets") => {
                secret.as_ref().map_or_else(|| status(404, "NotFound"), |secret| answer(200, secret))
            }
            _ => status(404, "NotFound"),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut registration = start(&web, folder.path(), &json!({"mutating": "gate", "validating": "gate"}));
    registration.certificate().await.unwrap();
    let asked_for = |kind: &str| web.asked().iter().any(|asked| asked.line.contains(&format!("{kind}/gate")));
    until("both to be looked for", async || {
        asked_for("mutatingwebhookconfigurations") && asked_for("validatingwebhookconfigurations")
    })
    .await;
    registration.close().await;
    assert_eq!(written(&web, "webhookconfigurations").len(), 0);
}
