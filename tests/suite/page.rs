//! The page for people: who gets in, by an API server that answers as a test wants; and what the listener says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::Request;
use kube::Client as Kube;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wasmgate::access::{Access, AccessOptions, Error, PATH};
use wasmgate::certs::load_or_make;
use wasmgate::review;
use wasmgate::server::{
    AdmissionHandler, Call, LargeReview, PageAnswer, PageHandler, Server, ServerOptions, Signals, Trigger,
};

use crate::support::tls::{Answer, Ca, Client, Http};
use crate::support::web::{Asked, Said, Web, never, ok};

// === who gets in ===

/// Where the readers are.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// What the API server replies.
type Reply = fn() -> Said;

/// An API server that knows some tokens.
struct FakeApi {
    web: Web,
    /// What it answers instead, if it is set.
    instead: Arc<Mutex<Option<Reply>>>,
}

/// What is known of a token: the user, and whether the user may read.
fn known(token: &str) -> Option<(&'static str, bool)> {
    match token {
        "reader" | "for-the-gate" => Some(("system:serviceaccount:audit:reader", true)),
        "without-the-right" => Some(("system:serviceaccount:shop:orders", false)),
        "nameless" => Some(("", true)),
        _ => None,
    }
}

fn verdict(asked: &Asked) -> Said {
    let review: Value = serde_json::from_str(&asked.body).unwrap();
    let status = match review["kind"].as_str().unwrap() {
        "TokenReview" => {
            let token = review["spec"]["token"].as_str().unwrap();
            let audience =
                if token == "for-the-gate" { "wasmgate" } else { "https://kubernetes.default.svc" };
            let wanted = review["spec"]["audiences"].as_array();
            // As an API server that knows no audiences, which authenticates the token and says nothing of them.
            match known(token) {
                Some((user, _)) if wanted.is_none() || token == "for-the-gate" => {
                    json!({"authenticated": true, "audiences": [audience], "user": {"username": user, "uid": "7",
                        "groups": ["system:authenticated"], "extra": {"example.com/a": ["b"]}}})
                }
                Some((user, _)) => json!({"authenticated": true, "user": {"username": user}}),
                None => json!({"error": "invalid bearer token"}),
            }
        }
        "SubjectAccessReview" => {
            let spec = &review["spec"];
            assert_eq!(spec["nonResourceAttributes"], json!({"path": PATH, "verb": "get"}));
            assert!(spec.get("resourceAttributes").is_none(), "{spec}");
            let user = spec["user"].as_str().unwrap();
            if user.contains("audit") {
                assert_eq!((&spec["uid"], &spec["groups"][0]), (&json!("7"), &json!("system:authenticated")));
                assert_eq!(spec["extra"], json!({"example.com/a": ["b"]}));
            }
            json!({"allowed": user.contains("audit")})
        }
        other => panic!("{other}"),
    };
    let mut answer = review;
    answer["status"] = status;
    (201, "content-type: application/json\r\n".to_string(), answer.to_string().into_bytes())
}

impl FakeApi {
    async fn start() -> Self {
        let instead: Arc<Mutex<Option<Reply>>> = Arc::default();
        let of = Arc::clone(&instead);
        let web = Web::start(move |_, asked| {
            let instead = *of.lock().unwrap();
            instead.map_or_else(|| verdict(asked), |said| said())
        })
        .await;
        Self { web, instead }
    }

    fn answer(&self, said: fn() -> Said) {
        *self.instead.lock().unwrap() = Some(said);
    }

    fn client(&self) -> Kube {
        let config = kube::Config::new(format!("http://{}", self.web.host).parse().unwrap());
        wasmgate::watch::client::bounded(config, Duration::from_secs(20)).unwrap()
    }

    fn access(&self, options: AccessOptions) -> Access {
        Access::new(self.client(), options)
    }

    /// The kinds of what it was asked.
    fn asked(&self) -> Vec<String> {
        let kind = |asked: Asked| {
            let review: Value = serde_json::from_str(&asked.body).unwrap();
            review["kind"].as_str().unwrap().to_string()
        };
        self.web.asked().into_iter().map(kind).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_right_reads_and_others_do_not() {
    let api = FakeApi::start().await;
    let access = api.access(AccessOptions::default());
    let reader = access.check("reader", PEER).await.unwrap();
    assert_eq!(&*reader, "system:serviceaccount:audit:reader");
    assert_eq!(api.asked(), ["TokenReview", "SubjectAccessReview"]);
    let forbidden = access.check("without-the-right", PEER).await.unwrap_err();
    assert_eq!(forbidden, Error::Forbidden { user: "system:serviceaccount:shop:orders".into() });
    assert!(forbidden.to_string().contains(PATH), "{forbidden}");
    for unknown in ["wrong", "nameless"] {
        assert_eq!(access.check(unknown, PEER).await.unwrap_err(), Error::Unknown, "{unknown}");
    }
    let before = api.asked().len();
    for no_token in ["", "a b", "a\r\nx: y", "\u{e4}", &"a".repeat(20_000)] {
        assert_eq!(access.check(no_token, PEER).await.unwrap_err(), Error::Unknown, "{no_token:?}");
    }
    assert_eq!(api.asked().len(), before, "the API server is not asked about what is no token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_is_not_taken() {
    let api = FakeApi::start().await;
    let options = AccessOptions { audiences: vec!["wasmgate".into()], ..AccessOptions::default() };
    let access = api.access(options);
    assert!(access.check("for-the-gate", PEER).await.is_ok());
    // The API server did not say that it looked at the audience.
    assert_eq!(access.check("reader", PEER).await.unwrap_err(), Error::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_for_a_short_time_and_is_asked_for_once() {
    let api = FakeApi::start().await;
    let remember = Duration::from_millis(600);
    let access = Arc::new(api.access(AccessOptions { remember, ..AccessOptions::default() }));
    let at_once = (0..10).map(|_| {
        let access = Arc::clone(&access);
        tokio::spawn(async move { access.check("reader", PEER).await.is_ok() })
    });
    for one in futures::future::join_all(at_once).await {
        assert!(one.unwrap());
    }
    assert_eq!(api.asked().len(), 2);
    assert!(
        access.check("without-the-right", PEER).await.is_err()
            && access.check("without-the-right", PEER).await.is_err()
    );
    assert_eq!(api.asked().len(), 4, "a refusal is remembered too");
    // It is the time that makes the answer old.
    sleep(remember * 2).await;
    api.answer(|| (401, String::new(), Vec::new()));
    assert!(
        matches!(access.check("reader", PEER).await, Err(Error::Unavailable { .. })),
        "it has to be asked again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_verdict_there_is_no_page_and_that_is_not_remembered() {
    let api = FakeApi::start().await;
    let options = AccessOptions { patience: Duration::from_millis(400), ..AccessOptions::default() };
    let access = api.access(options);
    let forbidden = || {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": "cannot create resource tokenreviews"});
        (403, "content-type: application/json\r\n".to_string(), status.to_string().into_bytes())
    };
    let answers: [(Reply, &str); 5] = [
        (forbidden, "system:auth-delegator"),
        (|| ok("no JSON"), "no verdict"),
        (|| (500, String::new(), b"{}".to_vec()), "no verdict"),
        (
            || {
                ok(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}}).to_string())
            },
            "`status`",
        ),
        (never, "did not answer in time"),
    ];
    for (answer, says) in answers {
        api.answer(answer);
        let start = Instant::now();
        let error = access.check("reader", PEER).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }) && error.to_string().contains(says), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{says}: it is bounded");
    }
    *api.instead.lock().unwrap() = None;
    assert!(access.check("reader", PEER).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tokens_does_not_reach_the_api_server_and_a_known_reader_still_reads() {
    let api = FakeApi::start().await;
    let options = AccessOptions {
        per_second: 1,
        at_once: 4,
        remember: Duration::from_mins(1),
        ..AccessOptions::default()
    };
    let access = api.access(options);
    assert!(access.check("reader", PEER).await.is_ok());
    let start = Instant::now();
    let mut busy = 0;
    for number in 0..200 {
        busy += usize::from(access.check(&format!("guess-{number}"), PEER).await == Err(Error::Busy));
    }
    let more = usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!(busy >= 196 - more, "{busy}");
    assert!(api.asked().len() <= 6 + more, "{:?}", api.asked());
    assert!(access.check("reader", PEER).await.is_ok(), "it is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_wrong_tokens_keeps_no_other_out_and_no_flood_keeps_a_reader_out() {
    let api = FakeApi::start().await;
    let remember = Duration::from_millis(300);
    let options = AccessOptions { per_second: 1, at_once: 8, remember, ..AccessOptions::default() };
    let access = api.access(options);
    assert!(access.check("reader", PEER).await.is_ok());
    let guess = async |last: u8, number: usize| {
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        access.check(&format!("guess-{last}-{number}"), from).await.unwrap_err()
    };
    let mut busy = 0;
    for number in 0..50 {
        busy += usize::from(guess(1, number).await == Error::Busy);
    }
    assert!(busy > 30, "{busy}");
    let other = access.check("without-the-right", PEER).await.unwrap_err();
    assert!(matches!(other, Error::Forbidden { .. }), "the other half is for others: {other}");
    // It is the time that makes the answer old.
    sleep(remember * 2).await;
    let mut busy = 0;
    for number in 0..50 {
        busy += usize::from(guess(u8::try_from(number).unwrap(), 50 + number).await == Error::Busy);
    }
    assert!(busy > 30, "many clients together: {busy}");
    let before = api.asked().len();
    assert!(access.check("reader", PEER).await.is_ok());
    assert!(api.asked().len() > before, "what it said before is forgotten, so that it is asked");
}

// === what the listener says ===

/// A page that follows the token.
#[derive(Default)]
struct Puppet {
    asked: AtomicUsize,
}

impl PageHandler for Puppet {
    fn page<'a>(&'a self, token: Option<&'a str>, peer: IpAddr) -> BoxFuture<'a, PageAnswer> {
        assert!(peer.is_loopback(), "{peer}");
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match token {
                None => PageAnswer::Unknown("no token".into()),
                Some("forbidden") => PageAnswer::Forbidden("user `a\u{202e}b` may not".into()),
                Some("busy") => PageAnswer::Busy("later".into()),
                Some("away") => PageAnswer::Later("the API server is away".into()),
                Some("panic") => panic!("as the test wants it"),
                Some("slow") => std::future::pending().await,
                Some(_) => PageAnswer::Page(vec![Bytes::from_static(b"<p>"), Bytes::from_static(b"</p>")]),
            }
        })
    }
}

/// A gate that is not asked.
struct Silent;

impl AdmissionHandler for Silent {
    async fn answer(&self, _: Call) -> review::Reply {
        Ok(Vec::new())
    }

    fn too_large(&self, _: LargeReview) -> Vec<u8> {
        Vec::new()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

struct Running {
    folder: tempfile::TempDir,
    webhooks: SocketAddr,
    page: SocketAddr,
    handler: Arc<Puppet>,
    _trigger: Trigger,
}

async fn serve(change: impl FnOnce(&mut ServerOptions, &std::path::Path)) -> Running {
    let folder = tempfile::tempdir().unwrap();
    load_or_make(folder.path(), &[]).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = ServerOptions {
        address: local,
        probes: local,
        reload_every: Duration::from_millis(20),
        ..ServerOptions::new(folder.path().join("tls.crt"), folder.path().join("tls.key"))
    };
    change(&mut options, folder.path());
    let handler = Arc::new(Puppet::default());
    let server = Server::bind(options).await.unwrap().with_page(local, handler.clone()).await.unwrap();
    let (webhooks, page) = (server.address(), server.page_address().unwrap());
    let (trigger, signals) = Signals::manual();
    tokio::spawn(server.run(Arc::new(Silent), signals));
    Running { folder, webhooks, page, handler, _trigger: trigger }
}

fn asking(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

impl Running {
    fn client(&self, http: Http) -> Client {
        Client::trusting(&[&self.folder.path().join("ca.crt")], http)
    }

    async fn get(&self, token: &str) -> Answer {
        let header = format!("Bearer {token}");
        let request = asking("GET", "/", &[("authorization", &header)]);
        self.client(Http::One).send(self.page, request).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_sent_whole_and_may_not_be_kept_or_framed() {
    let server = serve(|_, _| {}).await;
    for http in [Http::One, Http::Two] {
        let request = asking("GET", "/", &[("authorization", "bearer good")]);
        let answer = server.client(http).send(server.page, request).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "<p></p>"), "{http:?}");
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", "7"),
            ("cache-control", "no-store"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.headers[name], value, "{name}");
        }
        assert!(!answer.headers.contains_key("set-cookie"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_end_has_its_status_and_the_server_outlives_a_panic() {
    let server = serve(|_, _| {}).await;
    for (token, status, says) in [
        ("forbidden", 403, "user `a\\u{202e}b` may not"),
        ("busy", 429, "later"),
        ("away", 503, "the API server is away"),
        ("panic", 500, "see its log"),
    ] {
        let answer = server.get(token).await;
        assert_eq!(answer.status, status, "{token}");
        assert!(answer.text().contains(says) && !answer.text().contains("test wants"), "{}", answer.text());
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(answer.headers.contains_key("retry-after"), matches!(status, 429 | 503));
    }
    assert_eq!(server.get("good").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_holds_half_of_the_places() {
    let server = serve(|_, _| {}).await;
    let slow = futures::future::join_all((0..8).map(|_| server.get("slow")));
    let asked = || server.handler.asked.load(Ordering::SeqCst);
    let further = async {
        crate::support::process::until("eight that wait", async || asked() == 8).await;
        server.get("good").await
    };
    let answer = tokio::select! {
        _ = slow => panic!("they end in 30 seconds"),
        answer = further => answer,
    };
    assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (503, true));
    assert_eq!(asked(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bearer_token_is_none_and_other_paths_do_not_reach_the_handler() {
    let server = serve(|_, _| {}).await;
    let send = async |request| server.client(Http::One).send(server.page, request).await.unwrap();
    for headers in [
        &[][..],
        &[("authorization", "Basic cmVhZGVyOg==")],
        &[("authorization", "Bearer")],
        &[("cookie", "token=good")],
        &[("authorization", "Bearer good"), ("authorization", "Bearer other")],
    ] {
        let answer = send(asking("GET", "/?token=good", headers)).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"wasmgate\"");
    }
    let asked = server.handler.asked.load(Ordering::SeqCst);
    let good = [("authorization", "Bearer good")];
    assert_eq!(send(asking("GET", "/mutate", &good)).await.status, 404);
    assert_eq!(send(asking("POST", "/", &good)).await.status, 405);
    assert_eq!(send(asking("GET", "/metrics", &good)).await.status, 404);
    assert_eq!(server.handler.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_need_no_client_certificate_and_see_the_certificate_that_is_served_now() {
    let server = serve(|options, folder| {
        let file = folder.join("clients.crt");
        std::fs::write(&file, &Ca::new("callers").pem).unwrap();
        options.client_ca = Some(file);
    })
    .await;
    let post = asking("POST", "/mutate", &[("content-type", "application/json")]);
    assert!(
        server.client(Http::One).send(server.webhooks, post).await.is_err(),
        "a caller of the webhooks does"
    );
    assert_eq!(server.get("good").await.status, 200);
    let first = server.client(Http::One).leaf(server.page).await.unwrap();
    for file in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
        let _ = std::fs::remove_file(server.folder.path().join(file));
    }
    load_or_make(server.folder.path(), &[]).unwrap();
    crate::support::process::until(
        "the new certificate",
        async || matches!(server.client(Http::One).leaf(server.page).await, Ok(leaf) if leaf != first),
    )
    .await;
    assert_eq!(server.get("good").await.status, 200);
}
