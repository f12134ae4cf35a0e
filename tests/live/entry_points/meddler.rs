//! Another team's mutating webhook, served by the test itself, that changes pods as the test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::cluster::{CLUSTER, plain};

/// What it does to a pod: JSONPatch operations, computed from the pod.
pub type Meddling = dyn Fn(&Value) -> Value + Send + Sync;

/// A webhook that is registered for one namespace. It ends with the test's process.
pub struct Meddler {
    /// The pods of its requests.
    asked: Arc<Mutex<Vec<Value>>>,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Meddler {
    /// Registers it to be called after the gate's own webhook (the API server goes by name), and waits until it is
    /// called.
    pub fn start(
        namespace: &str,
        reinvocation: &str,
        meddle: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let cluster = CLUSTER.get();
        let (config, ca_pem) = certificates();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (log, meddle): (_, Arc<Meddling>) = (Arc::clone(&asked), Arc::new(meddle));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, log, meddle) = (Arc::clone(&config), Arc::clone(&log), Arc::clone(&meddle));
                std::thread::spawn(move || serve(stream, config, &log, &*meddle));
            }
        });
        register(namespace, reinvocation, port, &ca_pem);
        let meddler = Self { asked };
        cluster.plane.wait_for("the other webhook to be asked", || {
            let _ = cluster.plane.create(&plain("linux"), &["--dry-run=server", "--namespace", namespace]);
            (!meddler.asked.lock().unwrap().is_empty()).then_some(())
        });
        meddler
    }

    /// Its requests about pods of this name.
    pub fn asked_about(&self, name: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|pod| pod["metadata"]["name"] == name).cloned().collect()
    }
}

fn register(namespace: &str, reinvocation: &str, port: u16, ca_pem: &str) {
    let cluster = CLUSTER.get();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let webhook = json!({
        "name": format!("meddler-{number}.example.com"),
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://127.0.0.1:{port}/"), "caBundle": STANDARD.encode(ca_pem)},
        "failurePolicy": "Fail", "reinvocationPolicy": reinvocation, "sideEffects": "None",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    });
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": format!("zz-meddler-{number}")}, "webhooks": [webhook]});
    cluster.plane.apply(&object, &[]).ok();
}

fn certificates() -> (Arc<ServerConfig>, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (Arc::new(config), ca_pem)
}

/// Answers reviews until the API server hangs up.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, log: &Mutex<Vec<Value>>, meddle: &Meddling) {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(review) = read(&mut stream) {
        let request = &review["request"];
        log.lock().unwrap().push(request["object"].clone());
        let mut response = json!({"uid": request["uid"], "allowed": true});
        let patch = meddle(&request["object"]);
        if patch.as_array().is_some_and(|operations| !operations.is_empty()) {
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(patch.to_string()));
        }
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        let body = review.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.get_mut().write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
        let _ = stream.get_mut().flush();
    }
}

fn read(stream: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
