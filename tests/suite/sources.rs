//! Bundles from files, folders, bundle servers and registries: fetched, swapped, kept. The bundles are made by the real `opa`, and
//! the registry is the reference one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use flate2::read::GzDecoder;
use jiff::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use wasmgate::lookup::LookupOptions;
use wasmgate::policy::{Contents, Limits, Loaded, PolicySet, Trust};
use wasmgate::registry::guard::GuardOptions;
use wasmgate::sources::{
    Algorithm, BundleSource, BundleStatus, BundleStore, Error, Follower, InForce, KeyOptions, Memory, Poll,
    Registries, Signers, Statuses, Swap, Terms,
};

use crate::support::opa;
use crate::support::policies::engine;
use crate::support::process::{root, until};
use crate::support::registry::{OCI_MANIFEST, Registry, digest};
use crate::support::tls::Ca;
use crate::support::web::{Said, Web, never};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An archive of a rule that says `name`, with more rules. Its revision is the same.
fn bundle(name: &str, more: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let rule = format!("violations contains {{\"rule\": \"r\", \"message\": \"{name}\"}}\n{more}");
    fs::read(opa::build(folder.path(), name, "wasmgate/violations", &rule)).unwrap()
}

/// The same with what `.manifest` says of the bundle to the gate.
pub fn bundle_with(name: &str, metadata: &Value) -> Vec<u8> {
    bundle_of(name, metadata, "true")
}

/// The same, with a rule that is broken under this condition.
fn bundle_of(name: &str, metadata: &Value, condition: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join(name);
    fs::create_dir(&rules).unwrap();
    let manifest = json!({"revision": name, "roots": [""], "metadata": {"wasmgate": metadata}});
    fs::write(rules.join(".manifest"), manifest.to_string()).unwrap();
    let rule = format!("violations contains {{\"rule\": \"r\", \"message\": \"{name}\"}} if {condition}");
    fs::read(opa::build(folder.path(), name, "wasmgate/violations", &rule)).unwrap()
}

/// A bundle that is followed.
struct Followed {
    set: Arc<ArcSwap<PolicySet>>,
    statuses: Arc<Statuses>,
    prompts: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn trusting(kept: Option<&Path>, trust: Trust) -> Terms {
    Terms {
        engine: engine(),
        limits: Limits::default(),
        trust: trust.into(),
        memory: Memory {
            kept: kept.map(|folder| BundleStore::open(folder).unwrap()),
            in_force: InForce::default(),
        },
    }
}

fn terms(kept: Option<&Path>) -> Terms {
    trusting(kept, Trust::default())
}

async fn follow(source: BundleSource, kept: Option<&Path>) -> Result<Followed, Error> {
    let followed = follow_with(source, terms(kept)).await?;
    if let Some(kept) = kept {
        let is_there = || kept_archive(kept).is_some();
        until("it to be kept", async || is_there() || followed.status().unkept.is_some()).await;
    }
    Ok(followed)
}

/// The digest of the archive that a record names, which is written last.
fn kept_archive(kept: &Path) -> Option<String> {
    let files = fs::read_dir(kept).ok()?.map(|file| file.unwrap().path());
    let mut records = files.filter(|path| path.extension() == Some("json".as_ref()));
    let record: Value = serde_json::from_slice(&fs::read(records.next()?).unwrap()).unwrap();
    record["sha256"].as_str().filter(|digest| !digest.is_empty()).map(String::from)
}

async fn follow_with(source: BundleSource, terms: Terms) -> Result<Followed, Error> {
    let hosts: Vec<String> = source.from.split('/').nth(2).map(String::from).into_iter().collect();
    let registries = GuardOptions { allow: hosts.clone(), insecure: hosts, ..GuardOptions::default() };
    let images = LookupOptions { registries, ..LookupOptions::default() };
    let registries = source.from.starts_with("oci://").then(|| Registries {
        registry: wasmgate::lookup::registry(&images).unwrap(),
        layouts: wasmgate::lookup::layouts(&images).into(),
    });
    let statuses = Arc::new(Statuses::default());
    let mut follower = Follower::new(source, terms.clone(), registries.as_ref())?;
    let loaded = follower.start().await?;
    follower.begin(&statuses);
    let set = PolicySet::of(&terms.engine, terms.limits, vec![loaded]).unwrap();
    let set = Arc::new(ArcSwap::from_pointee(set));
    let prompts = watch::Sender::default();
    let swap = Swapped(Arc::clone(&set));
    let task = tokio::spawn(follower.follow(Arc::clone(&statuses), prompts.subscribe(), swap));
    Ok(Followed { set, statuses, prompts, task })
}

/// Takes every bundle.
struct Swapped(Arc<ArcSwap<PolicySet>>);

impl Swap for Swapped {
    fn fits(&self, _: &Loaded) -> Result<(), String> {
        Ok(())
    }

    fn swap(&self, loaded: &Loaded, done: impl FnOnce()) -> Result<(), String> {
        self.0.rcu(|set| set.with(loaded));
        done();
        Ok(())
    }
}

impl Followed {
    /// What its rule says.
    async fn says(&self) -> String {
        let found = self.set.load_full().evaluate(&json!({})).await;
        assert_eq!(found.failures, []);
        found.violations[0].message.clone()
    }

    fn status(&self) -> BundleStatus {
        self.statuses.all().remove(0)
    }

    async fn until_it_says(&self, wanted: &str) {
        until(wanted, async || self.says().await == wanted).await;
    }

    /// Waits until it fails, with this in its reason. The bundle in force stays.
    async fn until_it_fails(&self, reason: &str, still: &str) {
        until(reason, async || self.status().error.is_some_and(|error| error.contains(reason))).await;
        assert_eq!(self.says().await, still);
        assert_eq!(self.status().revision, still);
    }
}

/// Puts a file in the place of another in one step.
pub fn replace(path: &Path, bytes: &[u8]) {
    let part = path.with_extension("part");
    fs::write(&part, bytes).unwrap();
    fs::rename(part, path).unwrap();
}

fn unpack(archive: &[u8], to: &Path) {
    tar::Archive::new(GzDecoder::new(archive)).unpack(to).unwrap();
}

fn of(path: &Path) -> BundleSource {
    BundleSource::of(path.to_str().unwrap())
}

fn quick(from: String) -> BundleSource {
    BundleSource { poll_interval: Duration::from_secs(1), plain_http: true, ..BundleSource::of(from) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_archive_comes_into_force_and_a_bad_one_leaves_the_former() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.tar.gz");
    replace(&path, &bundle("one", ""));
    let rules = follow(of(&path), None).await.unwrap();
    assert_eq!(rules.says().await, "one");
    let first = rules.set.load_full();
    replace(&path, &bundle("two", ""));
    rules.until_it_says("two").await;
    assert_eq!(rules.status().swaps, 1);
    // What began before ends on the bundle that it began with.
    assert_eq!(first.evaluate(&json!({})).await.violations[0].message, "one");
    replace(&path, b"garbage");
    rules.until_it_fails("cannot unpack policy bundle", "two").await;
    fs::remove_file(&path).unwrap();
    rules.until_it_fails("cannot read policy bundle", "two").await;
    replace(&path, &bundle("three", ""));
    rules.until_it_says("three").await;
    assert_eq!(rules.status().error, None);
    assert!(rules.status().failures >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_is_followed_when_the_kubelet_swaps_its_link() {
    let mount = tempfile::tempdir().unwrap();
    let at = |name: &str| mount.path().join(name);
    let write = |version: &str, archive: &[u8]| {
        unpack(archive, &at(version));
        // A ConfigMap has no Rego beside it.
        let _ = fs::remove_dir_all(at(version).join("rules"));
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    write("..2026_11_27", &bundle("one", ""));
    for file in ["policy.wasm", "data.json", ".manifest"] {
        symlink(PathBuf::from("..data").join(file), at(file)).unwrap();
    }
    let rules = follow(of(mount.path()), None).await.unwrap();
    assert_eq!(rules.says().await, "one");
    write("..2026_11_28", &bundle("two", ""));
    rules.until_it_says("two").await;
    // A link of another hand, which leads out of the mount.
    let away = tempfile::NamedTempFile::new().unwrap();
    fs::write(away.path(), "{}").unwrap();
    symlink(away.path(), at("part")).unwrap();
    fs::rename(at("part"), at("data.json")).unwrap();
    rules.until_it_fails("holds `data.json`, which is not read: it is a link that leads out", "two").await;
    fs::remove_file(at("data.json")).unwrap();
    symlink("..data/data.json", at("data.json")).unwrap();
    write("..2026_11_29", &bundle("three", ""));
    rules.until_it_says("three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_refused_that_does_otherwise_than_its_own_cases_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.tar.gz");
    let cases = |rules: Value| json!({"cases": [{"name": "any pod", "input": {}, "rules": rules}]});
    replace(&path, &bundle_with("one", &cases(json!(["r"]))));
    let rules = follow(of(&path), None).await.unwrap();
    replace(&path, &bundle_with("two", &cases(json!(["other"]))));
    rules.until_it_fails("fails its own case `any pod`: it breaks `r` and was to break `other`", "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_bundle_is_refused_also_after_a_restart_unless_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, kept) = (folder.path().join("rules.tar.gz"), folder.path().join("kept"));
    let numbered = |name: &str, sequence: u64| bundle_with(name, &json!({"sequence": sequence}));
    replace(&path, &numbered("two", 2));
    let rules = follow(of(&path), Some(&kept)).await.unwrap();
    replace(&path, &numbered("one", 1));
    rules.until_it_fails("its sequence 1 is lower than 2", "two").await;
    replace(&path, &bundle("none", ""));
    rules.until_it_fails("its sequence (there is none) is lower than 2", "two").await;
    drop(rules);
    replace(&path, &numbered("one", 1));
    let rules = follow(of(&path), Some(&kept)).await.unwrap();
    assert_eq!(rules.says().await, "two", "what was kept");
    rules.until_it_fails("its sequence 1 is lower than 2", "two").await;
    drop(rules);
    let source = BundleSource { allow_rollback: true, ..of(&path) };
    assert_eq!(follow(source, Some(&kept)).await.unwrap().says().await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_could_not_be_kept_is_told_of_and_kept_as_soon_as_that_is_possible() {
    let folder = tempfile::tempdir().unwrap();
    let (path, kept) = (folder.path().join("rules.tar.gz"), folder.path().join("kept"));
    // Where the lock would be, so that nothing can be written.
    fs::create_dir_all(kept.join("lock")).unwrap();
    replace(&path, &bundle("one", ""));
    let rules = follow(of(&path), Some(&kept)).await.unwrap();
    assert!(rules.status().unkept.unwrap().contains("could not keep policy bundle `rules`"));
    assert_eq!((rules.says().await, rules.status().error), ("one".into(), None), "it is in force");
    fs::remove_dir(kept.join("lock")).unwrap();
    until("the next try", async || rules.status().unkept.is_none()).await;
    drop(rules);
    fs::remove_file(&path).unwrap();
    assert_eq!(follow(of(&path), Some(&kept)).await.unwrap().says().await, "one", "what was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_a_number_that_could_not_be_kept_is_not_forgotten_for_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let (path, kept) = (folder.path().join("rules.tar.gz"), folder.path().join("kept"));
    replace(&path, &bundle("one", ""));
    drop(follow(of(&path), Some(&kept)).await.unwrap());
    fs::remove_file(kept.join("lock")).unwrap();
    fs::create_dir(kept.join("lock")).unwrap();
    let terms = terms(Some(&kept));
    let rules = follow_with(of(&path), terms.clone()).await.unwrap();
    replace(&path, &bundle("two", ""));
    rules.until_it_says("two").await;
    until("the folder to refuse it", async || rules.status().unkept.is_some()).await;
    fs::remove_file(&path).unwrap();
    // As a configuration that is loaded again asks.
    let again = follow_with(of(&path), terms).await.unwrap();
    assert_eq!((again.says().await, again.status().is_kept), ("two".into(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_refuses_what_is_older_than_what_another_one_had() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name).join("rules.tar.gz"));
    for path in [&one, &other] {
        fs::create_dir(path.parent().unwrap()).unwrap();
        replace(path, &bundle_with("first", &json!({"sequence": 1})));
    }
    let behind = follow(of(&one), Some(&kept)).await.unwrap();
    let ahead = follow(of(&other), Some(&kept)).await.unwrap();
    replace(&other, &bundle_with("third", &json!({"sequence": 3})));
    ahead.until_it_says("third").await;
    replace(&one, &bundle_with("second", &json!({"sequence": 2})));
    behind.until_it_fails("its sequence 2 is lower than 3", "first").await;
}

/// As where the disk is full after the number was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_whose_bundle_could_not_be_kept_stops_no_start_and_lets_no_lower_one_in() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let [one, two] =
        [("one", 1), ("two", 2)].map(|(name, number)| bundle_with(name, &json!({"sequence": number})));
    let offered = Arc::new(Mutex::new((String::new(), Vec::new())));
    let offer = |etag: &str, bytes: &[u8]| *offered.lock().unwrap() = (etag.to_string(), bytes.to_vec());
    let web = server(&offered, "application/gzip").await;
    let source = quick(format!("http://{}/rules.tar.gz", web.host));
    offer("\"1\"", &one);
    let rules = follow(source.clone(), Some(&kept)).await.unwrap();
    let in_the_way = kept.join(archive_name("rules", &two));
    fs::create_dir(&in_the_way).unwrap();
    offer("\"2\"", &two);
    rules.until_it_says("two").await;
    until("the disk to refuse it", async || rules.status().unkept.is_some()).await;
    drop(rules);
    let start = async || follow_with(source.clone(), terms(Some(&kept))).await;
    // The server is away.
    offer("", b"");
    let rules = start().await.unwrap();
    let BundleStatus { is_kept, warnings, unkept, .. } = rules.status();
    assert_eq!((rules.says().await, is_kept, unkept), ("one".into(), true, None));
    assert!(
        warnings.iter().any(|said| said.contains("its number is 1, and 2 was in force after it")),
        "{warnings:?}"
    );
    // It is back with what is older, under the version of what was kept too.
    offer("\"1\"", &one);
    for _ in 0..2 {
        let refused = start().await.err().unwrap().to_string();
        assert!(refused.contains("its sequence 1 is lower than 2"), "{refused}");
        offer("\"other\"", &one);
    }
    rules.until_it_fails("its sequence 1 is lower than 2", "one").await;
    offer("\"2\"", &two);
    rules.until_it_says("two").await;
    assert_eq!(rules.status().warnings, <[String; 0]>::default());
    fs::remove_dir(&in_the_way).unwrap();
    let digest = kept_archive(&kept).unwrap();
    until("the next try", async || kept_archive(&kept).unwrap() != digest).await;
    offer("", b"");
    assert_eq!(start().await.unwrap().says().await, "two");
}

/// The name of the file in which a bundle is kept.
fn archive_name(name: &str, archive: &[u8]) -> String {
    let packed = Contents::from_tar_gz(name, archive).unwrap().to_tar_gz().unwrap();
    let hex = |bytes: &[u8]| digest(bytes).trim_start_matches("sha256:").to_string();
    format!("{name}-{}-{}.tar.gz", &hex(name.as_bytes())[..12], hex(&packed))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_and_cannot_be_used_is_fetched_again_although_the_server_says_that_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let signer = Signer::new();
    let offered = Arc::new(Mutex::new(("\"1\"".to_string(), bundle("one", ""))));
    let web = server(&offered, "application/gzip").await;
    let source = quick(format!("http://{}/rules.tar.gz", web.host));
    drop(follow(source.clone(), Some(&kept)).await.unwrap());
    let start = async || {
        let trust = signer.trust("p256.pub.pem", Algorithm::ES256, None);
        follow_with(source.clone(), trusting(Some(&kept), trust)).await
    };
    let refused = start().await.err().unwrap().to_string();
    assert!(refused.contains("it is not signed"), "{refused}");
    let signed = signer.sign("p256.key.pem", "ES256", &json!({"keyid": "release"}));
    *offered.lock().unwrap() = ("\"1\"".to_string(), signed);
    let before = web.asked().len();
    let rules = start().await.unwrap();
    assert!(!rules.status().is_kept && rules.status().error.is_none(), "{:?}", rules.status());
    let heads: Vec<_> =
        web.asked().drain(before..).map(|asked| asked.head.contains("if-none-match")).collect();
    assert_eq!(&heads[..2], [true, false]);
}

/// A bundle server that has one bundle at a time, or is away while that has no version.
async fn server(bundle: &Arc<Mutex<(String, Vec<u8>)>>, content_type: &str) -> Web {
    let (bundle, content_type) = (Arc::clone(bundle), content_type.to_string());
    Web::start(move |_, asked| -> Said {
        let (etag, bytes) = bundle.lock().unwrap().clone();
        if etag.is_empty() {
            return (503, String::new(), Vec::new());
        }
        if asked.head.contains(&format!("if-none-match: {etag}\r")) {
            return (304, format!("etag: {etag}\r\n"), Vec::new());
        }
        (200, format!("etag: {etag}\r\ncontent-type: {content_type}\r\n"), bytes)
    })
    .await
}

/// A server that gives its bundle once, and holds each later answer open.
async fn holding_server() -> Web {
    let archive = bundle("one", "");
    Web::start(move |_, asked| -> Said {
        if !asked.head.contains("if-none-match") {
            let headers = "etag: \"1\"\r\ncontent-type: application/vnd.openpolicyagent.bundles\r\n";
            return (200, headers.into(), archive.clone());
        }
        never()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_server_is_asked_by_opas_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "first\n").unwrap();
    let offered = Arc::new(Mutex::new(("\"1\"".to_string(), bundle("one", ""))));
    let web = server(&offered, "application/vnd.openpolicyagent.bundles").await;
    let source = BundleSource {
        token_file: Some(token.clone()),
        long_poll: Duration::from_secs(30),
        ..quick(format!("http://{}/v1/rules.tar.gz", web.host))
    };
    let rules = follow(source, None).await.unwrap();
    assert_eq!((rules.says().await, rules.status().name), ("one".into(), "rules".into()));
    let heads = || web.asked().into_iter().map(|asked| asked.head).collect::<Vec<_>>();
    until("304s", async || heads().len() > 2).await;
    let heads = heads();
    assert!(
        heads[0].starts_with("GET /v1/rules.tar.gz ") && !heads[0].contains("if-none-match"),
        "{heads:?}"
    );
    assert!(
        heads[0].contains("prefer: modes=snapshot\r") && heads[0].contains("authorization: Bearer first\r")
    );
    assert!(heads[1].contains("if-none-match: \"1\"\r"), "{heads:?}");
    assert!(heads[1].contains("prefer: modes=snapshot;wait=30\r"), "the server can wait: {heads:?}");
    fs::write(&token, "second\n").unwrap();
    *offered.lock().unwrap() = ("\"2\"".to_string(), bundle("two", ""));
    rules.until_it_says("two").await;
    assert_eq!(web.asked().last().unwrap().authorization.as_deref(), Some("Bearer second"));
    // A bundle that changes another one is not a bundle.
    let delta = crate::support::oci::gzip(&crate::support::oci::tar_of(&[("patch.json", b"{\"data\": []}")]));
    *offered.lock().unwrap() = ("\"3\"".to_string(), delta);
    rules.until_it_fails("delta bundles are not supported", "two").await;
}

/// With nothing but prompts: it would be asked again an hour later.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_asked_at_once_when_it_is_prompted_and_what_it_could_not_use_is_tried_again() {
    let offered = Arc::new(Mutex::new(("\"1\"".to_string(), bundle("one", ""))));
    let offer = |etag: &str, bytes: &[u8]| *offered.lock().unwrap() = (etag.to_string(), bytes.to_vec());
    let web = server(&offered, "application/gzip").await;
    let hourly = BundleSource {
        poll_interval: Duration::from_hours(1),
        ..quick(format!("http://{}/rules.tar.gz", web.host))
    };
    let rules = follow(hourly, None).await.unwrap();
    assert_eq!((rules.says().await, web.asked().len()), ("one".into(), 1));
    // It is away, and back with another one.
    offer("", b"");
    rules.prompts.send_replace(());
    rules.until_it_fails("the server answers 503", "one").await;
    offer("\"2\"", &bundle("two", ""));
    rules.prompts.send_replace(());
    rules.until_it_says("two").await;
    until("the status", async || rules.status().error.is_none()).await;
    // A bundle that cannot be used is known by its version, and asked for without it all the same.
    offer("\"3\"", b"garbage");
    rules.prompts.send_replace(());
    rules.until_it_fails("cannot unpack policy bundle", "two").await;
    offer("\"3\"", &bundle("three", ""));
    rules.prompts.send_replace(());
    rules.until_it_says("three").await;
}

/// Such as OPA, which begins with a long poll. A server that says whether it can wait does so with a bundle.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_what_was_kept_tries_whether_the_server_can_wait() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let offered = Arc::new(Mutex::new(("\"1\"".to_string(), bundle("one", ""))));
    let web = server(&offered, "application/vnd.openpolicyagent.bundles").await;
    let source = BundleSource {
        long_poll: Duration::from_secs(30),
        ..quick(format!("http://{}/rules.tar.gz", web.host))
    };
    drop(follow(source.clone(), Some(&kept)).await.unwrap());
    let before = web.asked().len();
    let _rules = follow(source, Some(&kept)).await.unwrap();
    until("three more requests", async || web.asked().len() >= before + 3).await;
    let waits: Vec<_> =
        web.asked().drain(before..).take(3).map(|asked| asked.head.contains(";wait=30\r")).collect();
    assert_eq!(waits, [false, true, false], "it answers at once, so it is not let wait again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_the_server_holds_open_is_told_as_one_and_not_as_a_try_to_come() {
    let web = holding_server().await;
    let source = BundleSource {
        long_poll: Duration::from_secs(30),
        ..quick(format!("http://{}/rules.tar.gz", web.host))
    };
    let rules = follow(source, None).await.unwrap();
    until("the poll", async || web.asked().len() == 2).await;
    let poll = rules.status().poll;
    assert!(matches!(poll, Some(Poll::Open(since)) if since <= Timestamp::now()), "{poll:?}");
    drop(rules);
    let hourly = BundleSource {
        poll_interval: Duration::from_hours(1),
        ..quick(format!("http://{}/rules.tar.gz", web.host))
    };
    let rules = follow(hourly, None).await.unwrap();
    until("the pause", async || rules.status().poll.is_some()).await;
    let poll = rules.status().poll;
    assert!(matches!(poll, Some(Poll::Due(next)) if next > Timestamp::now()), "{poll:?}");
}

/// What could not be used is asked for anew then, and not only when the server answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_ends_a_poll_that_the_server_holds_open() {
    let web = holding_server().await;
    let source = BundleSource {
        long_poll: Duration::from_mins(9),
        ..quick(format!("http://{}/rules.tar.gz", web.host))
    };
    let rules = follow(source, None).await.unwrap();
    until("the poll", async || web.asked().len() == 2).await;
    rules.prompts.send_replace(());
    until("another one", async || web.asked().len() == 3).await;
    assert_eq!((rules.says().await, rules.status().error), ("one".into(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_unpacked_is_fetched_once_and_the_next_one_is_not_waited_for() {
    let offered = Arc::new(Mutex::new(("\"1\"".to_string(), bundle("one", ""))));
    let web = server(&offered, "application/gzip").await;
    let rules = follow(quick(format!("http://{}/rules.tar.gz", web.host)), None).await.unwrap();
    *offered.lock().unwrap() = ("\"2\"".to_string(), b"garbage".to_vec());
    rules.until_it_fails("cannot unpack policy bundle", "one").await;
    let asked = web.asked().len();
    until("three more requests", async || web.asked().len() >= asked + 3).await;
    assert!(web.asked()[asked..].iter().all(|one| one.head.contains("if-none-match: \"2\"\r")));
    assert_eq!(rules.status().failures, 1);
    rules.until_it_fails("cannot unpack policy bundle", "one").await;
    *offered.lock().unwrap() = ("\"3\"".to_string(), bundle("three", ""));
    rules.until_it_says("three").await;
    assert_eq!(rules.status().error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_server_takes_what_was_kept_and_without_both_fails() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let offered = Arc::new(Mutex::new(("\"1\"".to_string(), bundle("one", ""))));
    let web = server(&offered, "application/gzip").await;
    let source = quick(format!("http://{}/rules.tar.gz", web.host));
    drop(follow(source.clone(), Some(&kept)).await.unwrap());
    let before = web.asked().len();
    let rules = follow(source.clone(), Some(&kept)).await.unwrap();
    assert!(!rules.status().is_kept, "the server says that it is still the one");
    let asked = &web.asked()[before];
    assert!(asked.head.contains("if-none-match: \"1\""), "a warm start fetches nothing: {asked:?}");
    drop((rules, web));
    let rules = follow(source.clone(), Some(&kept)).await.unwrap();
    let status = rules.status();
    assert_eq!((rules.says().await, status.is_kept), ("one".into(), true));
    assert!(status.error.unwrap().contains("could not fetch policy bundle `rules` from `http://127.0.0.1:"));
    drop(rules);
    let error = follow(source, None).await.err().unwrap().to_string();
    assert!(error.starts_with("could not fetch policy bundle `rules`"), "{error}");
}

/// A server that demands a certificate of this CA, and gives every client that has one this body.
pub async fn with_certificates(ca: &Ca, ca_file: &Path, body: Vec<u8>) -> (u16, JoinHandle<()>) {
    let (cert, key) = ca.sign(ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut sent: Vec<u8> = vec![0; length.unwrap_or_default()];
            let _ = stream.read_exact(&mut sent).await;
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.write_all(&body).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_server_is_shown_a_certificate_and_trusted_by_the_named_ca_alone() {
    let folder = TempDir::new().unwrap();
    let ca = Ca::new("bundles");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("ca.pem"), &ca.pem).unwrap();
    let (cert, key) = ca.sign(ExtendedKeyUsagePurpose::ClientAuth);
    fs::write(at("client.pem"), cert).unwrap();
    fs::write(at("client.key"), key).unwrap();
    let (port, task) = with_certificates(&ca, &at("ca.pem"), bundle("one", "")).await;
    let bare = quick(format!("https://localhost:{port}/rules.tar.gz"));
    let trusting = BundleSource { ca_file: Some(at("ca.pem")), ..bare.clone() };
    let whole = BundleSource {
        client_cert_file: Some(at("client.pem")),
        client_key_file: Some(at("client.key")),
        ..trusting.clone()
    };
    assert_eq!(follow(whole, None).await.unwrap().says().await, "one");
    for lacking in [bare, trusting] {
        let error = follow(lacking, None).await.err().unwrap();
        assert!(matches!(error, Error::FetchBundle { .. }), "{error}");
    }
    task.abort();
}

/// Pushes a bundle in the layout that opa reads.
async fn push(registry: &Registry, archive: &[u8], layer: &str) {
    let config = b"{}";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": config.len()},
        "layers": [{"mediaType": layer, "digest": digest(archive), "size": archive.len()}],
    });
    registry.push("team/rules:1", &[config, archive], manifest.to_string().as_bytes(), OCI_MANIFEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_a_registry_is_followed() {
    let registry = Registry::start();
    push(&registry, &bundle("one", ""), LAYER).await;
    let source = quick(format!("oci://{}", registry.image("team/rules:1")));
    let rules = follow(source, None).await.unwrap();
    assert_eq!((rules.says().await, rules.status().name), ("one".into(), "rules".into()));
    push(&registry, &bundle("two", ""), LAYER).await;
    rules.until_it_says("two").await;
    push(&registry, b"package a", "application/vnd.cncf.openpolicyagent.policy.layer.v1+rego").await;
    rules.until_it_fails("it holds Rego and no compiled bundle", "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_archives_under_one_name_none_is_taken() {
    let registry = Registry::start();
    push(&registry, &bundle("one", ""), LAYER).await;
    let rules = follow(quick(format!("oci://{}", registry.image("team/rules:1"))), None).await.unwrap();
    let archives = [bundle("two", ""), bundle("three", "")];
    let layer =
        |archive: &Vec<u8>| json!({"mediaType": LAYER, "digest": digest(archive), "size": archive.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"{}"), "size": 2},
        "layers": archives.iter().map(layer).collect::<Vec<_>>(),
    });
    let blobs: [&[u8]; 3] = [b"{}", &archives[0], &archives[1]];
    registry.push("team/rules:1", &blobs, manifest.to_string().as_bytes(), OCI_MANIFEST).await;
    rules.until_it_fails("it has 2 layers of type", "one").await;
}

// === Signatures ===

/// A folder with keys, and rules that are signed with them by the real `opa`.
struct Signer(TempDir);

impl Signer {
    fn new() -> Self {
        let signer = Self(TempDir::new().unwrap());
        let rules = signer.at("rules");
        fs::create_dir(&rules).unwrap();
        let rule = "package wasmgate\n\nviolations contains {\"rule\": \"r\", \"message\": \"signed\"}\n";
        fs::write(rules.join("rule.rego"), rule).unwrap();
        // What is written in several ways has one digest.
        let data = "{\"b\": [1.0, 1e3, -0, \"<\\u2028\\n\\u0007é\\/\"], \"a\": {\"z\": null, \"y\": [true, {}, []]}}";
        fs::write(rules.join("data.json"), data).unwrap();
        signer.write("secret", &"not so secret".repeat(5));
        for (name, algorithm) in
            [("p256", &rcgen::PKCS_ECDSA_P256_SHA256), ("p384", &rcgen::PKCS_ECDSA_P384_SHA384)]
        {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            signer.write(&format!("{name}.key.pem"), &pair.serialize_pem());
            signer.write(&format!("{name}.pub.pem"), &pair.public_key_pem());
        }
        for file in ["rsa.key.pem", "rsa.pub.pem", "p521.key.pem", "p521.pub.pem"] {
            fs::copy(root().join("tests/fixtures/keys").join(file), signer.at(file)).unwrap();
        }
        signer
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// The rules, signed with this key and these claims.
    fn sign(&self, key: &str, algorithm: &str, claims: &Value) -> Vec<u8> {
        self.write("claims.json", &claims.to_string());
        let arguments = [
            "build",
            "--target",
            "wasm",
            "--entrypoint",
            "wasmgate/violations",
            "--output",
            "signed.tar.gz",
            "--signing-key",
            key,
            "--signing-alg",
            algorithm,
            "--claims-file",
            "claims.json",
            "-b",
            "rules",
        ];
        opa::run_in(self.0.path(), &arguments);
        fs::read(self.at("signed.tar.gz")).unwrap()
    }

    /// Trust in this key under the id `release`.
    fn trust(&self, file: &str, algorithm: Algorithm, required: Option<bool>) -> Trust {
        let key = KeyOptions { algorithm, file: self.at(file), scope: String::new() };
        Trust::new(&[("release".to_string(), key)].into(), required).unwrap()
    }
}

fn verdict(trust: &Trust, archive: &[u8]) -> Result<(), String> {
    let contents = Contents::from_tar_gz("rules", archive).unwrap();
    trust.verify("rules", &Signers::default(), &contents).map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_opa_signs_by_each_algorithm_is_verified_and_what_another_key_signed_is_not() {
    use Algorithm::{ES256, ES384, ES512, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let signer = Signer::new();
    let claims = json!({"keyid": "release"});
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    signer.write("other.pub.pem", &other.public_key_pem());
    for (algorithm, key, public) in [
        (ES256, "p256.key.pem", "p256.pub.pem"),
        (ES384, "p384.key.pem", "p384.pub.pem"),
        (ES512, "p521.key.pem", "p521.pub.pem"),
        (RS256, "rsa.key.pem", "rsa.pub.pem"),
        (RS384, "rsa.key.pem", "rsa.pub.pem"),
        (RS512, "rsa.key.pem", "rsa.pub.pem"),
        (PS256, "rsa.key.pem", "rsa.pub.pem"),
        (PS384, "rsa.key.pem", "rsa.pub.pem"),
        (PS512, "rsa.key.pem", "rsa.pub.pem"),
        (HS256, "secret", "secret"),
        (HS384, "secret", "secret"),
        (HS512, "secret", "secret"),
    ] {
        let archive = signer.sign(key, &format!("{algorithm:?}"), &claims);
        let trust = signer.trust(public, algorithm, None);
        assert_eq!(verdict(&trust, &archive), Ok(()), "{algorithm:?}");
        let other = signer.trust("other.pub.pem", ES256, None);
        let refused = verdict(&other, &archive).unwrap_err();
        assert!(refused.ends_with("its signature is not by the key `release`"), "{algorithm:?}: {refused}");
    }
}

/// With such a key every bundle would be refused, for another reason than the right one.
#[test]
fn a_key_that_verifies_nothing_by_its_algorithm_is_refused_when_it_is_read() {
    use Algorithm::{ES256, ES384, ES512, PS256, RS256};
    let signer = Signer::new();
    let short = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCs2p14SveKI9+Q3q32q82+CEQ2
IDc3MGyLTt3lodNcRJMo625QpbSZcIg/otLzIMiPZ7x/a58zYwiCyx6JaHpU9e70
g7E/TZrxNOkO9tpz91i6b+YfuLwjIFNDLymR+BDY8g+Nef4614obnXIE+3PKJBls
qAOMDjdSj4OQiQZlrQIDAQAB
-----END PUBLIC KEY-----
";
    signer.write("short.pub.pem", short);
    let curve = "needs one of the curve P-256 (ES256), P-384 (ES384) or P-521 (ES512)";
    for (file, algorithm, message) in [
        ("rsa.pub.pem", ES256, curve),
        ("p384.pub.pem", ES256, curve),
        ("p256.pub.pem", ES384, curve),
        ("p384.pub.pem", ES512, curve),
        ("p521.pub.pem", ES256, curve),
        ("p521.pub.pem", RS256, "needs one of RSA"),
        ("p256.pub.pem", RS256, "needs one of RSA"),
        ("p256.pub.pem", PS256, "needs one of RSA"),
        ("short.pub.pem", RS256, "fewer than 2048 bits"),
    ] {
        let key = KeyOptions { algorithm, file: signer.at(file), scope: String::new() };
        let error = Trust::new(&[("release".to_string(), key)].into(), None).unwrap_err().to_string();
        assert!(error.contains("`release`") && error.contains(message), "{file} {algorithm:?}: {error}");
    }
}

#[test]
fn every_file_is_what_was_signed_and_there_is_no_other() {
    let signer = Signer::new();
    let archive = signer.sign("p256.key.pem", "ES256", &json!({"keyid": "release"}));
    let trust = signer.trust("p256.pub.pem", Algorithm::ES256, None);
    let contents = Contents::from_tar_gz("rules", &archive).unwrap();
    let changed = |name: &str, bytes: Option<&[u8]>| {
        let others = contents.files().filter(|(other, _)| *other != name);
        let files: Contents = others.chain(bytes.map(|bytes| (name, bytes))).collect();
        trust.verify("rules", &Signers::default(), &files).map(drop).map_err(|error| error.to_string())
    };
    let ends = |found: Result<(), String>, end: &str| {
        let found = found.unwrap_err();
        assert!(found.ends_with(end), "{found}");
    };
    ends(
        changed("policy.wasm", Some(b"\0asm")),
        "`policy.wasm` is not what was signed: its digest is another",
    );
    ends(changed("data.json", Some(b"{}")), "`data.json` is not what was signed: its digest is another");
    ends(changed("policy.wasm", None), "`policy.wasm` was signed and is missing");
    ends(changed("more.rego", Some(b"package more")), "`more.rego` was added after the bundle was signed");
    ends(changed(".signatures.json", Some(b"{\"signatures\": []}")), "has 0 signatures, expected one");
    ends(changed(".signatures.json", Some(b"{\"signatures\": [\"a.b\"]}")), "holds no JWT");
    // Blanks and the order of keys are not signed.
    let data: Value = serde_json::from_slice(contents.file(".manifest").unwrap()).unwrap();
    assert_eq!(changed(".manifest", Some(serde_json::to_string_pretty(&data).unwrap().as_bytes())), Ok(()));
}

#[test]
fn an_unsigned_bundle_and_a_signed_one_without_a_key_are_refused_unless_that_is_allowed() {
    let signer = Signer::new();
    let signed = signer.sign("p256.key.pem", "ES256", &json!({"keyid": "release"}));
    let (unsigned, none) = (bundle("unsigned", ""), |required| Trust::new(&[].into(), required).unwrap());
    let with_key = |required| signer.trust("p256.pub.pem", Algorithm::ES256, required);
    assert_eq!(verdict(&none(None), &unsigned), Ok(()));
    assert!(verdict(&with_key(None), &unsigned).unwrap_err().contains("it is not signed"));
    assert_eq!(verdict(&with_key(Some(false)), &unsigned), Ok(()));
    assert!(verdict(&none(None), &signed).unwrap_err().contains("there is no key to verify it with"));
    assert_eq!(verdict(&none(Some(false)), &signed), Ok(()));
    let by_other = signer.sign("p384.key.pem", "ES384", &json!({"keyid": "release"}));
    assert!(
        verdict(&with_key(Some(false)), &by_other).is_err(),
        "a signature is verified where there is a key"
    );
    let unknown = signer.sign("p256.key.pem", "ES256", &json!({"keyid": "old"}));
    let said = verdict(&with_key(None), &unknown).unwrap_err();
    assert!(said.ends_with("it is signed by the key `old`, and `policies.keys` has `release`"), "{said}");
    let scoped = signer.sign("p256.key.pem", "ES256", &json!({"keyid": "release", "scope": "staging"}));
    let said = verdict(&with_key(None), &scoped).unwrap_err();
    assert!(said.contains("signed for the scope `staging`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_whose_module_was_replaced_leaves_the_signed_one_in_force() {
    let signer = Signer::new();
    let path = signer.at("rules.tar.gz");
    let signed = signer.sign("p256.key.pem", "ES256", &json!({"keyid": "release"}));
    replace(&path, &signed);
    let trust = signer.trust("p256.pub.pem", Algorithm::ES256, None);
    let rules = follow_with(of(&path), trusting(None, trust)).await.unwrap();
    let (other, whole) = (bundle("forged", ""), Contents::from_tar_gz("rules", &signed).unwrap());
    let other = Contents::from_tar_gz("rules", &other).unwrap();
    let forged = whole.files().map(|(name, bytes)| match name {
        "policy.wasm" => (name, other.file(name).unwrap()),
        _ => (name, bytes),
    });
    replace(&path, &forged.collect::<Contents>().to_tar_gz().unwrap());
    until("the refusal", async || rules.status().error.is_some()).await;
    assert!(rules.status().error.unwrap().contains("`policy.wasm` is not what was signed"));
    assert_eq!(rules.says().await, "signed");
    let warnings = rules.status().warnings;
    assert!(warnings[0].starts_with("its signature is bound to nothing"), "{warnings:?}");
    assert!(warnings[1].starts_with("it has no number"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
}
