//! The server on real sockets: protocols, limits, drain, and certificates that are replaced under load.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use wasmgate::certs::load_or_make;
use wasmgate::review::{Overloaded, Reply};
use wasmgate::server::{
    AdmissionHandler, Call, Error, Event, LargeReview, Server, ServerOptions, Signals, Trigger,
};

use crate::support::process::{alone, until};
use crate::support::tls::{Ca, Client, Http, Session, get, post};

const MOMENT: Duration = Duration::from_millis(50);

/// Bound of everything that must end by itself, on a machine that is busy with other tests.
const AMPLE: Duration = Duration::from_secs(20);

/// Longer than any test runs: a wait of this length does not end within [`AMPLE`].
const FOR_EVER: Duration = Duration::from_mins(10);

/// A gate that follows commands in the body, and otherwise echoes the request.
#[derive(Default)]
struct Puppet {
    started: AtomicUsize,
    unready: AtomicBool,
    events: Mutex<Vec<Event>>,
}

impl AdmissionHandler for Puppet {
    async fn answer(&self, call: Call) -> Reply {
        let Call { webhook, body, budget, .. } = call;
        self.started.fetch_add(1, Ordering::SeqCst);
        let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        match start.trim().split_once(':') {
            // A review that takes this long, without and with a thread of its own.
            Some(("sleep", millis)) => sleep(Duration::from_millis(millis.parse().unwrap())).await,
            Some(("block", millis)) => std::thread::sleep(Duration::from_millis(millis.parse().unwrap())),
            Some(("panic", why)) => panic!("{why}"),
            Some(("overloaded", _)) => return Err(Overloaded),
            _ => {}
        }
        let (path, bytes, budget) = (webhook.path(), body.len(), budget.as_millis());
        Ok(format!(r#"{{"webhook":"{path}","bytes":{bytes},"budget":{budget}}}"#).into_bytes())
    }

    fn too_large(&self, review: LargeReview) -> Vec<u8> {
        let LargeReview { webhook, uid, bytes, limit, .. } = review;
        let path = webhook.path();
        format!(r#"{{"webhook":"{path}","uid":"{uid}","bytes":{bytes},"limit":{limit}}}"#).into_bytes()
    }

    fn ready(&self) -> Result<(), String> {
        if self.unready.load(Ordering::SeqCst) { Err("no policies yet".to_owned()) } else { Ok(()) }
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn observe(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Puppet {
    fn saw(&self, event: Event) -> bool {
        self.events.lock().unwrap().contains(&event)
    }

    async fn wait_for_reviews(&self, count: usize) {
        until("reviews", async || self.started.load(Ordering::SeqCst) >= count).await;
    }
}

/// A running server and what is needed to talk to it.
struct Running {
    dir: TempDir,
    address: SocketAddr,
    probes: SocketAddr,
    gate: Arc<Puppet>,
    trigger: Trigger,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn client(&self, http: Http) -> Client {
        Client::trusting(&[&self.dir.path().join("ca.crt")], http)
    }

    /// Waits until the first signal is taken: the pause has begun.
    async fn until_it_shuts_down(&self) {
        until("the end of readiness", async || {
            let ready = get(self.probes, "/readyz").await.unwrap();
            (ready.status.as_u16(), ready.text().as_str()) == (503, "shutting down")
        })
        .await;
    }

    async fn end(self) -> Result<(), Error> {
        timeout(AMPLE, self.task).await.expect("it ends").expect("no panic")
    }
}

/// Options with waits that suit a test.
fn options(cert: &Path, key: &Path) -> ServerOptions {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    ServerOptions {
        address: local,
        probes: local,
        reload_every: Duration::from_millis(20),
        handshake_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(400),
        body_timeout: Duration::from_millis(400),
        budget: Duration::from_millis(1500),
        pause: Duration::from_millis(100),
        drain: Duration::from_secs(3),
        ..ServerOptions::new(cert, key)
    }
}

async fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path(), &[]).unwrap();
    let mut options = options(&dir.path().join("tls.crt"), &dir.path().join("tls.key"));
    change(&mut options);
    run(dir, options).await
}

async fn start() -> Running {
    start_with(|_| {}).await
}

async fn run(dir: TempDir, options: ServerOptions) -> Running {
    let server = Server::bind(options).await.unwrap();
    let (address, probes) = (server.address(), server.probes_address());
    assert!(address.port() != 0 && probes.port() != 0 && address != probes);
    let gate = Arc::new(Puppet::default());
    let (trigger, signals) = Signals::manual();
    let task = tokio::spawn(server.run(gate.clone(), signals));
    Running { dir, address, probes, gate, trigger, task }
}

/// Waits until the other side closes a connection on which nothing more is sent, and returns the least time for which
/// it was kept open. Discards what the other side sends.
async fn until_closed(mut stream: impl AsyncReadExt + Unpin) -> Duration {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let _ = timeout(AMPLE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    start.elapsed()
}

// === protocols ===

#[tokio::test(flavor = "multi_thread")]
async fn both_webhooks_answer_over_both_tls_versions_and_both_http_versions() {
    let server = start().await;
    let ca = server.dir.path().join("ca.crt");
    for http in [Http::One, Http::Two] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = Client::with_versions(&[&ca], http, &[version]);
            for webhook in ["/mutate", "/validate"] {
                let answer =
                    client.send(server.address, post(&format!("{webhook}?timeout=1s"), "{}")).await.unwrap();
                assert_eq!(answer.status, 200);
                assert_eq!(answer.headers["content-type"], "application/json");
                let seen = answer.json();
                assert_eq!(
                    (seen["webhook"].as_str(), seen["bytes"].as_u64()),
                    (Some(webhook), Some(2)),
                    "{http:?} {version:?}"
                );
                let budget = seen["budget"].as_u64().unwrap();
                assert!((500..=700).contains(&budget), "1 s less the margin of 300 ms, not {budget} ms");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_reviews() {
    let server = start().await;
    for http in [Http::One, Http::Two] {
        let mut session = server.client(http).open(server.address).await.unwrap();
        for _ in 0..20 {
            assert_eq!(session.send(post("/validate", "{}")).await.unwrap().status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_an_intermediate_is_served_whole() {
    let dir = tempfile::tempdir().unwrap();
    let ca = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let (root_key, middle_key, key) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = ca().self_signed(&root_key).unwrap();
    let mut middle_params = ca();
    middle_params.distinguished_name.push(rcgen::DnType::CommonName, "middle");
    let middle = middle_params.signed_by(&middle_key, &Issuer::new(ca(), &root_key)).unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(middle_params, &middle_key)).unwrap();
    fs::write(dir.path().join("ca.crt"), root.pem()).unwrap();
    fs::write(dir.path().join("tls.crt"), leaf.pem() + &middle.pem()).unwrap();
    fs::write(dir.path().join("tls.key"), key.serialize_pem()).unwrap();
    let options = options(&dir.path().join("tls.crt"), &dir.path().join("tls.key"));
    let server = run(dir, options).await;
    let answer = server.client(Http::One).send(server.address, post("/mutate", "{}")).await.unwrap();
    assert_eq!(answer.status, 200);
}

// === requests that are not reviews ===

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_method_or_content_type_says_what_is_right() {
    let server = start().await;
    for http in [Http::One, Http::Two] {
        let client = server.client(http);
        let answer = client.send(server.address, post("/nowhere", "{}")).await.unwrap();
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("POST /mutate") && answer.text().contains("POST /validate"));

        let read = Request::get("/mutate").body(Full::default()).unwrap();
        let answer = client.send(server.address, read).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.headers["allow"].to_str().unwrap()), (405, "POST"));

        let text =
            Request::post("/mutate").header("content-type", "text/plain").body(Full::from("{}")).unwrap();
        let answer = client.send(server.address, text).await.unwrap();
        assert_eq!(answer.status, 415);
        assert!(answer.text().contains("`text/plain`") && answer.text().contains("`application/json`"));
    }
    assert_eq!(server.gate.started.load(Ordering::SeqCst), 0, "none of them reached the gate");
    assert!(server.gate.saw(Event::RequestRefused(415)));
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_mebibytes_pass_and_of_eight_the_gate_gets_the_uid() {
    let server = start_with(|options| (options.body_timeout, options.budget) = (AMPLE, AMPLE)).await;
    let start =
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","object":""#;
    let body = |size: usize| format!("{start}{}", "x".repeat(size - start.len()));
    for http in [Http::One, Http::Two] {
        let client = server.client(http);
        let answer = client.send(server.address, post("/validate", body(7 << 20))).await.unwrap();
        assert_eq!(answer.json()["bytes"], 7 << 20);

        let answer = client.send(server.address, post("/validate", body(8 << 20))).await.unwrap();
        assert_eq!(answer.status, 200);
        let told = json!({ "webhook": "/validate", "uid": "u-1", "bytes": 8 << 20, "limit": 7 << 20 });
        assert_eq!(answer.json(), told);

        let answer = client.send(server.address, post("/validate", "x".repeat(8 << 20))).await.unwrap();
        assert_eq!(answer.status, 413, "without a uid there is nothing to answer in a review");
        let said = "the review of 8388608 bytes is larger than 7340032 bytes, so it was not examined; make the object smaller";
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    assert!(server.gate.saw(Event::RequestRefused(413)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_declared_length_has_the_same_limit() {
    let server = start_with(|options| options.body_limit = 1000).await;
    for (chunks, status) in [(9, "200"), (11, "413")] {
        let mut stream = server.client(Http::One).connect(server.address).await.unwrap();
        let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
        stream.write_all(format!("{head}{}0\r\n\r\n", chunk.repeat(chunks)).as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
    }
}

// === time-outs ===

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_disconnected_before_and_after_the_handshake() {
    let server = start().await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    assert!(until_closed(silent).await > Duration::from_millis(300), "a handshake has its time");
    assert!(server.gate.saw(Event::HandshakeFailed));
    for http in [Http::One, Http::Two] {
        let silent = server.client(http).connect(server.address).await.unwrap();
        assert!(until_closed(silent).await > Duration::from_millis(300), "a request has its time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_head_and_an_idle_connection_are_disconnected() {
    let server = start().await;
    let mut half = server.client(Http::One).connect(server.address).await.unwrap();
    half.write_all(b"POST /mutate HTTP/1.1\r\nhost: ").await.unwrap();
    until_closed(half).await;

    let mut idle = server.client(Http::One).connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until_closed(idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_head_that_arrives_byte_by_byte_is_disconnected() {
    let server = start().await;
    let mut drip = server.client(Http::One).connect(server.address).await.unwrap();
    drip.write_all(b"POST /mutate HTTP/1.1\r\nx: ").await.unwrap();
    let dripping = async {
        while drip.write_all(b"x").await.is_ok() {
            // More often than any bound on a pause between two bytes.
            sleep(MOMENT * 2).await;
        }
    };
    timeout(AMPLE, dripping).await.expect("it is hung up");
}

/// The first request head of a connection must arrive within the time of a handshake, not that of an idle connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_request_that_is_not_complete_soon_is_hung_up_but_an_idle_connection_is_kept() {
    let server = start_with(|options| options.idle_timeout = FOR_EVER).await;
    let client = server.client(Http::One);
    for begin in [&b"P"[..], b"POST /mutate HTTP/1.1\r\nhost: ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut half = client.connect(server.address).await.unwrap();
        half.write_all(begin).await.unwrap();
        let mut bytes = Vec::new();
        let closed = timeout(AMPLE, half.read_to_end(&mut bytes)).await;
        assert!(closed.is_ok(), "{}", String::from_utf8_lossy(begin));
    }
    for http in [Http::One, Http::Two] {
        let mut session = server.client(http).open(server.address).await.unwrap();
        for _ in 0..2 {
            assert_eq!(session.send(post("/mutate", "sleep:600")).await.unwrap().status, 200);
            // Idle for longer than the time of a handshake.
            sleep(Duration::from_millis(900)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_times_out_with_an_answer() {
    let server = start().await;
    let mut stream = server.client(Http::One).connect(server.address).await.unwrap();
    stream
        .write_all(b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    let start = Instant::now();
    let mut text = String::new();
    while !text.contains("timeoutSeconds") {
        let mut bytes = vec![0; 1024];
        let count = timeout(AMPLE, stream.read(&mut bytes)).await.expect("it is answered").unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("did not arrive within "), "{text}");
    assert!(start.elapsed() > Duration::from_millis(300));
    assert_eq!(server.gate.started.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_review_that_waits_or_blocks_too_long_is_abandoned() {
    let server = start().await;
    for body in ["sleep:600000", "block:3000"] {
        let answer =
            server.client(Http::One).send(server.address, post("/mutate?timeout=700ms", body)).await.unwrap();
        assert_eq!(answer.status, 504, "{body}");
        let text = answer.text();
        assert!(
            text.contains("did not answer within ")
                && text.contains(" ms; raise the webhook's timeoutSeconds"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_gate_is_an_answer_and_the_connection_lives_on() {
    let server = start().await;
    for http in [Http::One, Http::Two] {
        let mut session = server.client(http).open(server.address).await.unwrap();
        assert_eq!(session.send(post("/validate", "panic:on purpose")).await.unwrap().status, 500);
        assert_eq!(session.send(post("/validate", "{}")).await.unwrap().status, 200);
    }
}

/// As a small body and as a large one.
#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_the_gate_has_no_time_for_is_no_denial_and_left_to_the_failure_policy() {
    let server = start_with(|options| (options.body_timeout, options.budget) = (AMPLE, AMPLE)).await;
    let client = server.client(Http::One);
    for size in [100_usize, 300 << 10] {
        let body = "overloaded:".to_owned() + &" ".repeat(size);
        let answer = client.send(server.address, post("/validate", body)).await.unwrap();
        assert_eq!(answer.status, 503, "{size}");
        assert!(answer.text().contains("add replicas"), "{}", answer.text());
    }
    assert!(server.gate.saw(Event::RequestRefused(503)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_review_too_many_waits_and_is_then_refused() {
    let server = start_with(|options| options.reviews = 1).await;
    let client = server.client(Http::One);
    let (slow, address) = (client.clone(), server.address);
    let first =
        tokio::spawn(async move { slow.send(address, post("/mutate", "sleep:600")).await.unwrap().status });
    server.gate.wait_for_reviews(1).await;
    let refused = client.send(address, post("/mutate?timeout=500ms", "{}")).await.unwrap();
    assert_eq!(refused.status, 503, "it had 250 ms, and the place was free only after 600");
    let waited = client.send(address, post("/mutate", "{}")).await.unwrap();
    assert_eq!((waited.status.as_u16(), first.await.unwrap().as_u16()), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_body_too_many_waits_but_small_ones_pass() {
    let server = start_with(|options| options.large_bodies = 1).await;
    let client = server.client(Http::One);
    let (slow, address) = (client.clone(), server.address);
    let large = |start: &str| start.to_owned() + &" ".repeat(300 << 10);
    let body = large("sleep:900");
    let first = tokio::spawn(async move { slow.send(address, post("/mutate", body)).await.unwrap() });
    server.gate.wait_for_reviews(1).await;
    assert_eq!(client.send(address, post("/mutate?timeout=500ms", large("{}"))).await.unwrap().status, 503);
    assert_eq!(client.send(address, post("/mutate?timeout=500ms", "{}")).await.unwrap().status, 200);
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_frees_no_memory_that_its_review_still_holds() {
    // A place for one large body, and memory for one small one of a peer.
    let server = start_with(|options| {
        (options.large_bodies, options.small_bodies) = (1, 12 << 10);
        (options.body_timeout, options.budget) = (AMPLE, AMPLE);
    })
    .await;
    let (address, mut reviews) = (server.address, 0);
    for (http, size) in [(Http::One, 300 << 10), (Http::Two, 300 << 10), (Http::Two, 3000)] {
        let client = server.client(http);
        let body = |start: &str| start.to_owned() + &" ".repeat(size);
        let (gone, review) = (client.clone(), body("sleep:4000"));
        let gone = tokio::spawn(async move { gone.send(address, post("/mutate", review)).await.is_ok() });
        reviews += 1;
        server.gate.wait_for_reviews(reviews).await;
        gone.abort();
        // The server sees soon that the client is gone, which nothing shows: so it is asked for as long as the review lasts.
        for _ in 0..4 {
            let answer = client.send(address, post("/mutate?timeout=500ms", body("{}"))).await.unwrap();
            assert_eq!(answer.status, 503, "{http:?} {size}: the gate still has the other body");
        }
        assert_eq!(
            client.send(address, post("/mutate", body("{}"))).await.unwrap().status,
            200,
            "{http:?} {size}"
        );
        reviews += 1;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_many_large_bodies_leaves_places_to_the_others() {
    let server = start_with(|options| {
        options.large_bodies = 4;
        (options.body_timeout, options.budget) = (AMPLE, AMPLE);
    })
    .await;
    let [one, other] = [1, 2].map(|last| server.client(Http::One).from([127, 0, 0, last]));
    let large = |start: &str| start.to_owned() + &" ".repeat(300 << 10);
    let address = server.address;
    let held: Vec<_> = (0..4)
        .map(|_| {
            let (one, body) = (one.clone(), large("sleep:2000"));
            tokio::spawn(async move { one.send(address, post("/mutate", body)).await.unwrap().status })
        })
        .collect();
    server.gate.wait_for_reviews(2).await;
    // Until each of them has asked for a place, which nothing shows.
    sleep(MOMENT).await;
    let served = other.send(address, post("/mutate?timeout=1s", large("{}"))).await.unwrap();
    assert_eq!(served.status, 200, "the places of another peer are free");
    for held in held {
        assert_eq!(held.await.unwrap(), 200, "what can wait is answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_wait_keep_no_small_one_of_their_connection_waiting() {
    let server = start_with(|options| {
        options.large_bodies = 1;
        (options.body_timeout, options.budget) = (AMPLE, AMPLE);
    })
    .await;
    let session = server.client(Http::Two).open(server.address).await.unwrap();
    let Session::Two(sender) = session else { panic!("it speaks HTTP/2") };
    let send = |path: &str, body: String| {
        let (mut session, request) = (Session::Two(sender.clone()), post(path, body));
        tokio::spawn(async move { session.send(request).await.unwrap().status.as_u16() })
    };
    let large = |start: &str| start.to_owned() + &" ".repeat(2 << 20);
    let first = send("/mutate", large("sleep:4000"));
    server.gate.wait_for_reviews(1).await;
    // More than would fill the connection with the window that the protocol gives each by default.
    let waiting: Vec<_> = (0..40).map(|_| send("/mutate?timeout=1s", large("{}"))).collect();
    // Until each of them has sent as much as it may before it is read, which nothing shows.
    sleep(MOMENT).await;
    assert_eq!(send("/mutate?timeout=600ms", "{}".into()).await.unwrap(), 200);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 503, "the place is taken for longer than they may wait");
    }
    assert_eq!(first.await.unwrap(), 200);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn small_bodies_share_their_memory_and_one_peer_leaves_most_of_it_to_the_others() {
    // Four reviews of three KiB at a time, of one peer one.
    let server = start_with(|options| options.small_bodies = 12 << 10).await;
    let [one, other] = [1, 2].map(|last| server.client(Http::Two).from([127, 0, 0, last]));
    let body = |start: &str| format!("{start:<3000}");
    let mut session = one.open(server.address).await.unwrap();
    let (slow, address) = (one.clone(), server.address);
    let first = body("sleep:900");
    let first = tokio::spawn(async move { slow.send(address, post("/mutate", first)).await.unwrap().status });
    server.gate.wait_for_reviews(1).await;
    let refused = session.send(post("/mutate?timeout=500ms", body("{}"))).await.unwrap();
    assert_eq!(refused.status, 503, "the peer holds its part, and does so for longer");
    let served = other.send(address, post("/mutate?timeout=500ms", body("{}"))).await.unwrap();
    assert_eq!(served.status, 200, "the part of another one is free");
    let waited = session.send(post("/mutate", body("{}"))).await.unwrap();
    assert_eq!(
        (waited.status.as_u16(), first.await.unwrap().as_u16()),
        (200, 200),
        "what can wait is answered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_read_share_their_memory_and_one_peer_leaves_most_of_it_to_the_others() {
    // One KiB for each peer: some ten answers.
    let server = start_with(|options| options.unread_answers = 4 << 10).await;
    let [one, other] = [1, 2].map(|last| server.client(Http::Two).from([127, 0, 0, last]));
    let mut unreading = one.open_unreading(server.address).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..40 {
        unread.push(unreading.send(post("/mutate", "{}")).await.unwrap());
    }
    let statuses: Vec<u16> = unread.iter().map(|answer| answer.status().as_u16()).collect();
    let held = statuses.iter().take_while(|status| **status == 200).count();
    assert!((2..30).contains(&held) && statuses[held..].iter().all(|status| *status == 503), "{statuses:?}");
    assert!(server.gate.saw(Event::RequestRefused(503)));
    let refused = one.send(server.address, post("/mutate", "{}")).await.unwrap();
    assert_eq!(refused.status, 503, "at once, also on another connection of the peer");
    let served = other.send(server.address, post("/mutate", "{}")).await.unwrap();
    assert_eq!(served.status, 200, "the part of another one is free");
    drop(unread);
    let back = async || one.send(server.address, post("/mutate", "{}")).await.unwrap().status == 200;
    until("the memory", back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_an_answer_unread_is_disconnected_whatever_it_sends_and_one_that_reads_is_not() {
    let server = start_with(|options| {
        (options.idle_timeout, options.handshake_timeout) = (FOR_EVER, AMPLE);
        options.unread_timeout = Duration::from_secs(1);
    })
    .await;
    let client = server.client(Http::Two);
    let mut reading = client.open(server.address).await.unwrap();
    let mut unreading = client.open_unreading(server.address).await.unwrap();
    assert_eq!(reading.send(post("/mutate", "{}")).await.unwrap().status, 200);
    let start = Instant::now();
    let unread = unreading.send(post("/mutate", "{}")).await.unwrap();
    assert_eq!(unread.status(), 200);
    let closed = timeout(AMPLE, &mut unreading.connection).await;
    assert!(closed.is_ok(), "its PINGs keep it");
    assert!(start.elapsed() > Duration::from_millis(900), "an answer has its time");
    assert_eq!(reading.send(post("/mutate", "{}")).await.unwrap().status, 200, "an idle one is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_waits_and_is_then_closed_and_a_slot_is_reused() {
    let server = start_with(|options| {
        options.connections = 2;
        options.connection_wait = MOMENT;
        options.budget = FOR_EVER;
    })
    .await;
    let (client, address) = (server.client(Http::One), server.address);
    let review = || {
        let client = client.clone();
        tokio::spawn(async move { client.send(address, post("/mutate", "sleep:600000")).await.is_ok() })
    };
    let (first, _second) = (review(), review());
    server.gate.wait_for_reviews(2).await;
    assert!(client.open(address).await.is_err());
    assert!(server.gate.saw(Event::ConnectionRefused));
    first.abort();
    let served = async || client.send(address, post("/mutate", "{}")).await.is_ok_and(|a| a.status == 200);
    until("the slot", served).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_its_share_of_connections_locks_no_other_out_and_gets_its_slots_back() {
    let server = start_with(|options| {
        options.connections_per_peer = 2;
        options.connection_wait = MOMENT;
        options.handshake_timeout = Duration::from_secs(30);
        options.idle_timeout = Duration::from_secs(30);
    })
    .await;
    let (greedy, other) =
        (server.client(Http::One).from([127, 0, 0, 1]), server.client(Http::One).from([127, 0, 0, 2]));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut half = greedy.connect(server.address).await.unwrap();
        half.write_all(b"POST /mutate HTTP/1.1\r\nhost: ").await.unwrap();
        held.push(half);
    }
    for _ in 0..20 {
        assert!(greedy.connect(server.address).await.is_err());
    }
    assert!(server.gate.saw(Event::ConnectionRefused));
    for _ in 0..5 {
        assert_eq!(other.send(server.address, post("/validate", "{}")).await.unwrap().status, 200);
    }
    drop(held);
    let back = async || greedy.send(server.address, post("/validate", "{}")).await.is_ok();
    until("the places to come back", back).await;
}

/// Sends so many reviews at once, each on a connection of its own, as an API server does that speaks HTTP/1.1: the statuses of the answers.
async fn send_at_once(server: &Running, number: usize, body: &'static str) -> Vec<u16> {
    let (client, address) = (server.client(Http::One), server.address);
    let mut reviews = Vec::new();
    for _ in 0..number {
        let client = client.clone();
        reviews.push(tokio::spawn(async move { client.send(address, post("/validate", body)).await }));
    }
    let mut statuses = Vec::new();
    for review in reviews {
        let answer = review.await.unwrap();
        statuses.extend(
            answer.inspect_err(|error| println!("{error}")).ok().map(|answer| answer.status.as_u16()),
        );
    }
    statuses
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn as_many_reviews_as_an_api_server_has_at_a_time_are_all_answered_over_connections_of_their_own() {
    // With the bounds of a gate, and of fewer connections than there are reviews: the others wait for places. Waits that suit a busy machine.
    for per_peer in [None, Some(300)] {
        let server = start_with(|options| {
            options.connections_per_peer = per_peer.unwrap_or(options.connections_per_peer);
            (options.handshake_timeout, options.idle_timeout) = (FOR_EVER, FOR_EVER);
            (options.body_timeout, options.budget) = (FOR_EVER, FOR_EVER);
            options.connection_wait = FOR_EVER;
        })
        .await;
        let statuses = send_at_once(&server, 600, "sleep:200").await;
        assert_eq!(statuses, [200; 600], "{per_peer:?}");
        assert!(!server.gate.saw(Event::ConnectionRefused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_makes_place_for_another_one_and_none_that_is_in_use_does() {
    let server = start_with(|options| {
        options.connections_per_peer = 2;
        (options.handshake_timeout, options.idle_timeout) = (FOR_EVER, FOR_EVER);
        (options.budget, options.connection_wait) = (FOR_EVER, AMPLE);
    })
    .await;
    let (client, address) = (server.client(Http::One), server.address);
    let (slow, body) = (client.clone(), "sleep:600000");
    let in_use = tokio::spawn(async move { slow.send(address, post("/mutate", body)).await.is_ok() });
    server.gate.wait_for_reviews(1).await;
    let mut idle = client.open(address).await.unwrap();
    assert_eq!(idle.send(post("/mutate", "{}")).await.unwrap().status, 200);
    assert_eq!(client.send(address, post("/mutate", "{}")).await.unwrap().status, 200);
    assert!(idle.send(post("/mutate", "{}")).await.is_err(), "it was closed");
    assert!(!in_use.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_leave_no_task_behind() {
    let server = start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let client = server.client(Http::One);
    client.send(server.address, post("/mutate", "{}")).await.unwrap();
    let before = tasks();
    for _ in 0..100 {
        client.send(server.address, post("/mutate", "{}")).await.unwrap();
    }
    until("the end of the tasks", async || tasks() <= before + 2).await;
}

// === probes ===

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_are_plain_and_say_why() {
    let server = start().await;
    assert_eq!(get(server.probes, "/livez").await.unwrap().text(), "ok");
    let ready = get(server.probes, "/readyz").await.unwrap();
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (200, "ok"));
    let metrics = get(server.probes, "/metrics").await.unwrap();
    assert_eq!(metrics.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(metrics.text(), "# EOF\n");
    assert_eq!(get(server.probes, "/").await.unwrap().status, 404);
    server.gate.unready.store(true, Ordering::SeqCst);
    let ready = get(server.probes, "/readyz").await.unwrap();
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (503, "no policies yet"));
    assert_eq!(get(server.probes, "/livez").await.unwrap().status, 200);
}

// === client certificates ===

/// A server that demands client certificates of the CAs in `clients.crt`.
async fn start_for_clients_of(ca_certs: &str) -> Running {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path(), &[]).unwrap();
    let client_ca = dir.path().join("clients.crt");
    fs::write(&client_ca, ca_certs).unwrap();
    let options = options(&dir.path().join("tls.crt"), &dir.path().join("tls.key"));
    run(dir, ServerOptions { client_ca: Some(client_ca), ..options }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_client_cas_only_callers_with_a_certificate_get_in_and_the_probes_stay_open() {
    let (first, second, foreign) = (Ca::new("first"), Ca::new("second"), Ca::new("foreign"));
    let server = start_for_clients_of(&(first.pem.clone() + &second.pem)).await;
    let ca = server.dir.path().join("ca.crt");
    for http in [Http::One, Http::Two] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = Client::with_versions(&[&ca], http, &[version]);
            let refused = [
                client.clone(),
                client.clone().showing(&foreign.sign(ExtendedKeyUsagePurpose::ClientAuth)),
                client.clone().showing(&first.sign(ExtendedKeyUsagePurpose::ServerAuth)),
            ];
            for (number, client) in refused.into_iter().enumerate() {
                let answer = client.send(server.address, post("/validate", "{}")).await;
                assert!(answer.is_err(), "{number} {http:?} {version:?}");
            }
            for ca in [&first, &second] {
                let client = client.clone().showing(&ca.sign(ExtendedKeyUsagePurpose::ClientAuth));
                let answer = client.send(server.address, post("/validate", "{}")).await.unwrap();
                assert_eq!(answer.status, 200);
            }
        }
    }
    assert_eq!(server.gate.started.load(Ordering::SeqCst), 8, "nothing else reached the gate");
    assert!(server.gate.saw(Event::HandshakeFailed));
    assert_eq!(get(server.probes, "/readyz").await.unwrap().text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_client_cas_take_effect_and_unusable_ones_keep_the_old() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let server = start_for_clients_of(&old.pem).await;
    let file = server.dir.path().join("clients.crt");
    let of = |ca: &Ca| server.client(Http::One).showing(&ca.sign(ExtendedKeyUsagePurpose::ClientAuth));
    let (old, new, new_pem) = (of(&old), of(&new), new.pem);
    assert!(new.send(server.address, post("/validate", "{}")).await.is_err());

    fs::write(&file, "no CA").unwrap();
    until("a look at the file", async || server.gate.saw(Event::CertificateRefused)).await;
    let ready = get(server.probes, "/readyz").await.unwrap();
    assert!(ready.status == 200 && ready.text().contains("server.clientCaFile"), "{}", ready.text());
    assert_eq!(old.send(server.address, post("/validate", "{}")).await.unwrap().status, 200);

    fs::write(&file, new_pem).unwrap();
    let taken = async || new.send(server.address, post("/validate", "{}")).await.is_ok();
    until("the new CA to be taken up", taken).await;
    assert!(old.send(server.address, post("/validate", "{}")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn client_cas_that_cannot_be_used_stop_the_start_and_name_the_key() {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path(), &[]).unwrap();
    let file = dir.path().join("clients.crt");
    for (text, wanted) in [
        (None, "No such file"),
        (Some(""), "it has none"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA"), "section end"),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let options = options(&dir.path().join("tls.crt"), &dir.path().join("tls.key"));
        let error =
            Server::bind(ServerOptions { client_ca: Some(file.clone()), ..options }).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::LoadClientCas { .. }), "{said}");
        assert!(said.contains("server.clientCaFile") && said.contains("clients.crt`"), "{said}");
        assert!(said.contains(wanted), "{said}");
    }
}

// === the start ===

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_and_a_missing_certificate_stop_the_start_with_advice() {
    let server = start().await;
    let files = |name: &str| server.dir.path().join(name);
    let taken = ServerOptions { address: server.address, ..options(&files("tls.crt"), &files("tls.key")) };
    let error = Server::bind(taken).await.unwrap_err().to_string();
    assert!(error.contains(&format!("`{}`", server.address)) && error.contains("another process"), "{error}");
    let taken = ServerOptions { probes: server.probes, ..options(&files("tls.crt"), &files("tls.key")) };
    assert!(Server::bind(taken).await.unwrap_err().to_string().contains(&server.probes.to_string()));
    let missing = options(&files("none.crt"), &files("tls.key"));
    assert!(matches!(Server::bind(missing).await, Err(Error::LoadCertificate(_))));
}

// === the end ===

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_refuses_new_connections() {
    for http in [Http::One, Http::Two] {
        let server = start_with(|options| options.pause = Duration::from_millis(400)).await;
        let (client, address) = (server.client(http), server.address);
        let mut session = client.open(address).await.unwrap();
        let in_flight = tokio::spawn(async move { session.send(post("/validate", "sleep:1200")).await });
        server.gate.wait_for_reviews(1).await;
        server.trigger.send().await;
        server.until_it_shuts_down().await;
        let late = client.send(address, post("/validate", "{}")).await.unwrap();
        assert_eq!(late.status, 200, "requests during the pause are served");
        until("the end of the pause", async || TcpStream::connect(address).await.is_err()).await;
        assert_eq!(get(server.probes, "/readyz").await.unwrap().status, 503, "probes go on while draining");
        assert_eq!(in_flight.await.unwrap().unwrap().status, 200);
        server.end().await.unwrap();
    }
}

/// Sends reviews on one connection until an answer says that it is the last one, or a request fails: how many were answered.
async fn until_told_to_go(mut session: Session) -> Result<usize, String> {
    for answered in 0.. {
        let answer =
            session.send(post("/validate", "{}")).await.map_err(|error| format!("{answered}: {error}"))?;
        if answer.headers.get("connection").is_some_and(|value| value == "close") {
            return Ok(answered + 1);
        }
    }
    unreachable!("it is told")
}

/// A request that is on its way on a connection that is closed is lost, and the API server, which speaks HTTP/1.1 with Services,
/// does not send it again.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_on_connections_that_are_in_use_when_the_server_stops() {
    for _ in 0..5 {
        // Only an answer may end them.
        let server = start_with(|options| {
            options.pause = FOR_EVER;
            options.connections_per_peer = 64;
        })
        .await;
        let client = server.client(Http::One);
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(tokio::spawn(until_told_to_go(client.open(server.address).await.unwrap())));
        }
        server.gate.wait_for_reviews(80).await;
        server.trigger.send().await;
        for client in clients {
            let answered = timeout(AMPLE, client).await.expect("it is told to go").unwrap();
            assert!(answered.is_ok(), "{answered:?}");
        }
        // HTTP/2 needs no such word: what was not begun is named at the end.
        let mut newer = server.client(Http::Two).open(server.address).await.unwrap();
        for _ in 0..2 {
            let answer = newer.send(post("/validate", "{}")).await.unwrap();
            assert!(
                answer.status == 200 && !answer.headers.contains_key("connection"),
                "{:?}",
                answer.headers
            );
        }
        server.task.abort();
    }
}

/// Its API server began the review before the pause ended, and does not send it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_for_a_place_when_the_pause_ends_is_answered() {
    let server = start_with(|options| {
        options.connections = 1;
        (options.handshake_timeout, options.budget) = (AMPLE, FOR_EVER);
        (options.connection_wait, options.drain) = (AMPLE, FOR_EVER);
    })
    .await;
    let (client, address) = (server.client(Http::One), server.address);
    let review = |body: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.send(address, post("/mutate", body)).await })
    };
    let first = review("sleep:1500");
    server.gate.wait_for_reviews(1).await;
    let waiting = review("{}");
    // Nothing says that the second connection waits for its place.
    sleep(Duration::from_millis(300)).await;
    server.trigger.send().await;
    server.until_it_shuts_down().await;
    for review in [first, waiting] {
        assert_eq!(review.await.unwrap().unwrap().status, 200);
    }
    server.end().await.unwrap();
}

/// A probe that finds no place would let the kubelet restart the gate.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_port_of_probes_from_other_addresses_leave_places_to_the_kubelet() {
    let server = start_with(|options| {
        (options.handshake_timeout, options.idle_timeout) = (FOR_EVER, FOR_EVER);
        (options.connections, options.connections_per_peer) = (16, 8);
        options.connection_wait = MOMENT;
    })
    .await;
    let mut held = Vec::new();
    for last in 2..=3 {
        for _ in 0..10 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
            let mut half = socket.connect(server.probes).await.unwrap();
            if half.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await.is_ok() {
                held.push(half);
            }
        }
    }
    assert_eq!(get(server.probes, "/livez").await.unwrap().text(), "ok");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_has_a_deadline_and_neither_idle_nor_silent_peers_hold_it_up() {
    let change = |options: &mut ServerOptions| {
        options.handshake_timeout = Duration::from_secs(30);
        options.budget = FOR_EVER;
    };
    let server = start_with(|options| {
        change(options);
        options.drain = Duration::from_millis(500);
    })
    .await;
    let client = server.client(Http::One);
    let address = server.address;
    let slow = client.clone();
    let cut = tokio::spawn(async move { slow.send(address, post("/mutate", "sleep:600000")).await });
    server.gate.wait_for_reviews(1).await;
    server.trigger.send().await;
    server.end().await.unwrap();
    assert!(cut.await.unwrap().is_err());

    let server = start_with(|options| {
        change(options);
        options.drain = FOR_EVER;
    })
    .await;
    let idle = server.client(Http::One).open(server.address).await.unwrap();
    let silent = TcpStream::connect(server.address).await.unwrap();
    // Until the server has accepted the silent peer, which nothing shows.
    sleep(MOMENT).await;
    server.trigger.send().await;
    server.end().await.unwrap();
    drop((idle, silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_aborts_at_once() {
    for in_the_pause in [true, false] {
        let server = start_with(|options| {
            options.pause = if in_the_pause { FOR_EVER } else { options.pause };
            options.drain = FOR_EVER;
            options.budget = FOR_EVER;
        })
        .await;
        let (client, address) = (server.client(Http::One), server.address);
        let cut = tokio::spawn(async move { client.send(address, post("/mutate", "sleep:600000")).await });
        server.gate.wait_for_reviews(1).await;
        server.trigger.send().await;
        server.until_it_shuts_down().await;
        if !in_the_pause {
            until("the drain", async || TcpStream::connect(address).await.is_err()).await;
        }
        server.trigger.send().await;
        // Neither the pause nor the drain would end by itself.
        let error = server.end().await.unwrap_err();
        assert!(matches!(error, Error::Abort), "{error}");
        assert!(cut.await.unwrap().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_of_the_process_is_a_signal() {
    // After a process has listened for a signal, the signal no longer ends it, so the other tests must not run in this
    // one.
    if !alone("server::sigterm_of_the_process_is_a_signal") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path(), &[]).unwrap();
    let server =
        Server::bind(options(&dir.path().join("tls.crt"), &dir.path().join("tls.key"))).await.unwrap();
    let signals = Signals::from_process().unwrap();
    let task = tokio::spawn(server.run(Arc::new(Puppet::default()), signals));
    let sent =
        std::process::Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
    timeout(AMPLE, task).await.unwrap().unwrap().unwrap();
}

// === replaced certificates ===

/// A mounted Secret in the kubelet's layout (`kubernetes:pkg/volume/util/atomic_writer.go`): the files are links into
/// `..data`, which is a link to a directory with a time in its name.
struct Secret {
    mount: PathBuf,
    version: usize,
}

impl Secret {
    fn new(mount: &Path) -> Self {
        fs::create_dir_all(mount).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
        }
        Self { mount: mount.to_owned(), version: 0 }
    }

    /// Switches to a new version with one rename and removes the old one.
    fn update(&mut self, cert: &[u8], key: &[u8]) {
        let old = self.mount.join(format!("..2026_{}", self.version));
        self.version += 1;
        let name = format!("..2026_{}", self.version);
        fs::create_dir(self.mount.join(&name)).unwrap();
        fs::write(self.mount.join(&name).join("tls.crt"), cert).unwrap();
        fs::write(self.mount.join(&name).join("tls.key"), key).unwrap();
        symlink(&name, self.mount.join("..data_tmp")).unwrap();
        fs::rename(self.mount.join("..data_tmp"), self.mount.join("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    }

    fn take(&mut self, made: &Path) {
        self.update(&fs::read(made.join("tls.crt")).unwrap(), &fs::read(made.join("tls.key")).unwrap());
    }
}

/// Development certificates, each of a CA of its own, and a Secret with the first of them mounted.
async fn start_on_secret(count: usize) -> (Running, Secret, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<_> = (0..count).map(|index| dir.path().join(format!("made-{index}"))).collect();
    for place in &made {
        load_or_make(place, &[]).unwrap();
    }
    let mut secret = Secret::new(&dir.path().join("mount"));
    secret.take(&made[0]);
    let options = options(&secret.mount.join("tls.crt"), &secret.mount.join("tls.key"));
    (run(dir, options).await, secret, made)
}

fn trusting_all(made: &[PathBuf]) -> Client {
    let files: Vec<_> = made.iter().map(|place| place.join("ca.crt")).collect();
    Client::trusting(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>(), Http::One)
}

async fn wait_for_leaf(client: &Client, address: SocketAddr, place: &Path) {
    let wanted =
        wasmgate::certs::load(&place.join("tls.crt"), &place.join("tls.key")).unwrap().chain[0].clone();
    until("the new certificate", async || client.leaf(address).await.unwrap() == wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_rotations_by_symlink_swap_fail_no_handshake_under_load() {
    let (server, mut secret, made) = start_on_secret(4).await;
    let client = trusting_all(&made);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..3)
        .map(|_| {
            let (client, stop, done, address) = (client.clone(), stop.clone(), done.clone(), server.address);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer =
                        client.send(address, post("/validate", "{}")).await.expect("no handshake fails");
                    assert_eq!(answer.status, 200);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for place in &made[1..] {
        let before = done.load(Ordering::SeqCst);
        until("load", async || done.load(Ordering::SeqCst) >= before + 8).await;
        secret.take(place);
        wait_for_leaf(&client, server.address, place).await;
    }
    stop.store(true, Ordering::SeqCst);
    for task in load {
        task.await.expect("no request fails");
    }
    let replaced =
        server.gate.events.lock().unwrap().iter().filter(|e| **e == Event::CertificateReplaced).count();
    assert_eq!(replaced, 3);
}

/// A resumed handshake signs nothing. One by the certificate before it would show nothing of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_connection_resumes_the_session_until_the_certificate_is_replaced() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (server, mut secret, made) = start_on_secret(2).await;
        let files: Vec<_> = made.iter().map(|place| place.join("ca.crt")).collect();
        let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
        let client = Client::with_versions(&files, Http::One, &[version]).resuming();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(client.resumes(server.address).await.unwrap());
        }
        // With TLS 1.2 this client leaves one of the later ones out: as a rule the second, and under load the third was seen too, for a
        // reason that is not known. OpenSSL's resumes all of them.
        let later = seen[1..].iter().filter(|is_resumed| **is_resumed).count();
        assert!(!seen[0] && later >= 2, "{version:?}: {seen:?}");
        secret.take(&made[1]);
        wait_for_leaf(&trusting_all(&made), server.address, &made[1]).await;
        assert!(!client.resumes(server.address).await.unwrap(), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_new_certificate_keeps_the_old_one_and_is_logged() {
    let (server, mut secret, made) = start_on_secret(3).await;
    let client = trusting_all(&made);
    let read = |place: &Path, name: &str| fs::read(place.join(name)).unwrap();
    secret.update(&read(&made[1], "tls.crt"), &read(&made[0], "tls.key"));
    let refused =
        || server.gate.events.lock().unwrap().iter().filter(|e| **e == Event::CertificateRefused).count();
    until("a look at the certificate", async || refused() > 0).await;
    // Several more looks, which must say nothing new.
    sleep(MOMENT * 4).await;
    wait_for_leaf(&client, server.address, &made[0]).await;
    let ready = get(server.probes, "/readyz").await.unwrap();
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("old certificate"), "{}", ready.text());
    assert_eq!(refused(), 1, "said once, not at every look");

    fs::remove_dir_all(secret.mount.join(format!("..2026_{}", secret.version))).unwrap();
    // Several looks at files that are gone, which change nothing that could be waited for.
    sleep(MOMENT * 4).await;
    wait_for_leaf(&client, server.address, &made[0]).await;

    secret.take(&made[2]);
    wait_for_leaf(&client, server.address, &made[2]).await;
    assert_eq!(get(server.probes, "/readyz").await.unwrap().text(), "ok");
}
