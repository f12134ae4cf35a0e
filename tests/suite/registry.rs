//! Images from a real registry, from layouts that real tools wrote, and from servers that fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::json;
use wasmgate::admission::{State, examine};
use wasmgate::image::descriptor::Descriptor;
use wasmgate::image::reference::Reference;
use wasmgate::image::{Depth, Digest, ImageKind, Shape};
use wasmgate::inspection::ProgramClass;
use wasmgate::lookup::{self, Inspector, LookupBudget, LookupOptions};
use wasmgate::policy::{self, Limits, PolicySet};
use wasmgate::registry::guard::{Guard, GuardOptions};
use wasmgate::registry::layout::Layouts;
use wasmgate::registry::resolver::Resolver;
use wasmgate::registry::source::Source;
use wasmgate::registry::{
    BreakerOptions, Error, Login, ProxyOptions, PullSecrets, Pulled, Puller, Registry as RegistrySource,
    RegistryOptions,
};
use wasmgate::runtime::Runtimes;
use wasmgate::workload::{self, Kind};

use crate::support::dns::{Dns, inside};
use crate::support::fault::{Fault, Server};
use crate::support::process::until;
use crate::support::registry::{OCI_MANIFEST, PASSWORD, Registry, USER, digest};
use crate::support::token::{ISSUER, SERVICE, Tokens};
use crate::support::web::{Asked, Names, Web, bearer, last, ok, redirect};

const LIMIT: u64 = 4 << 20;
const AMPLE: Duration = Duration::from_secs(20);

/// A Linux image with one layer that has one file: its blobs and its manifest.
struct LinuxImage {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

fn linux_image(entrypoint: &str) -> LinuxImage {
    let mut tar = tar::Builder::new(Vec::new());
    let program = b"\x7fELF and so on";
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    tar.append_data(&mut header, entrypoint.trim_start_matches('/'), program.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let layer = gzip.finish().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": [entrypoint]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": digest(&layer), "size": layer.len()}],
    });
    LinuxImage { manifest: manifest.to_string().into_bytes(), config, layer }
}

async fn push_linux(registry: &Registry, rest: &str, entrypoint: &str) -> String {
    let image = linux_image(entrypoint);
    registry.push(rest, &[&image.config, &image.layer], &image.manifest, OCI_MANIFEST).await
}

/// Pushes a module as a CNCF Wasm OCI artifact with `oras`, as wkg's users do by hand.
fn push_artifact(registry: &Registry, rest: &str) {
    let folder = tempfile::tempdir().unwrap();
    let module = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (func (export "_start")))"#,
    )
    .unwrap();
    fs::write(folder.path().join("hello.wasm"), &module).unwrap();
    let config = json!({"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1",
        "layerDigests": [digest(&module)]});
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let image = registry.image(rest);
    let config = "config.json:application/vnd.wasm.config.v0+json";
    let arguments = ["push", "--plain-http", &image, "--config", config, "hello.wasm:application/wasm"];
    registry.oras(folder.path(), &arguments);
}

/// Options that allow the tests' own registries, with times that no test waits for.
fn options(host: &str) -> LookupOptions {
    LookupOptions {
        registries: GuardOptions {
            allow: vec!["*".into(), host.into()],
            insecure: vec![host.into()],
            ..GuardOptions::default()
        },
        ..LookupOptions::default()
    }
}

/// The same for servers that fail.
fn impatient(host: &str) -> LookupOptions {
    LookupOptions {
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_millis(400),
        lookup_timeout: Duration::from_millis(1500),
        ..options(host)
    }
}

fn inspector(host: &str) -> Inspector {
    Inspector::new(options(host)).unwrap()
}

/// A source that asks one registry, without the inspector around it.
fn source(options: &LookupOptions) -> RegistrySource {
    let registry = RegistryOptions {
        ca_files: options.ca_files.clone(),
        docker_config: options.docker_config.clone(),
        connect_timeout: options.connect_timeout,
        read_timeout: options.read_timeout,
        breaker: options.breaker,
        mirrors: options.mirrors.clone(),
        ..RegistryOptions::default()
    };
    RegistrySource::new(Guard::new(&options.registries).unwrap(), &registry).unwrap()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor { media_type: String::new(), digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn reference(image: &str) -> Reference {
    Reference::parse(image).unwrap()
}

async fn inspect(inspector: &Inspector, image: &str) -> Result<Digest, lookup::Error> {
    let facts = inspector.inspect(image, Depth::Config, AMPLE).await;
    facts.map(|facts| facts.digest.clone()).map_err(|error| (*error).clone())
}

#[tokio::test]
async fn manifests_and_blobs_come_out_of_the_registry_as_they_went_in() {
    let registry = Registry::start();
    let pushed = push_linux(&registry, "team/app:v1", "/bin/app").await;
    let image = linux_image("/bin/app");
    let source = source(&options(&registry.host));
    let by_tag = source.manifest(&reference(&registry.image("team/app:v1")), LIMIT).await.unwrap();
    assert_eq!((by_tag.digest.as_str(), &by_tag.bytes[..]), (pushed.as_str(), &image.manifest[..]));
    let pinned = reference(&registry.image("team/app")).with_digest(&by_tag.digest);
    assert_eq!(source.manifest(&pinned, LIMIT).await.unwrap(), by_tag);
    for blob in [&image.config, &image.layer] {
        assert_eq!(&source.blob(&pinned, &descriptor(blob), LIMIT).await.unwrap()[..], &blob[..]);
    }
}

#[tokio::test]
async fn limits_hold_against_a_real_registry() {
    let registry = Registry::start();
    push_linux(&registry, "app:v1", "/bin/app").await;
    let image = linux_image("/bin/app");
    let source = source(&options(&registry.host));
    let name = reference(&registry.image("app:v1"));
    let error = source.manifest(&name, 10).await.unwrap_err();
    assert!(error.to_string().contains("the manifest of") && error.to_string().contains("limit of 10 bytes"));
    let error = source.blob(&name, &descriptor(&image.layer), 10).await.unwrap_err();
    assert!(error.to_string().contains("larger than the limit of 10 bytes"), "{error}");
    // The descriptor states a small size, but the blob is large.
    let claim = Descriptor { size: 1, ..descriptor(&image.layer) };
    let error = source.blob(&name, &claim, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("more than the 1 bytes that its descriptor says"), "{error}");
}

#[tokio::test]
async fn a_blob_is_not_read_beyond_its_descriptors_size() {
    const REAL: usize = 128 << 20;
    for announced in [true, false] {
        let server = Server::start(Fault::Large { bytes: REAL, announced }).await;
        let claim = Descriptor { size: 60, ..descriptor(b"something else") };
        let name = reference(&server.image("app:v1"));
        let source = source(&options(&server.host));
        let error = source.blob(&name, &claim, 2 * REAL as u64).await.unwrap_err();
        assert!(error.to_string().contains("more than the 60 bytes that its descriptor says"), "{error}");
        // The kernel buffers some of it before the server notices that the connection was closed.
        assert!(server.sent() < REAL / 4, "{} of {REAL} bytes were sent", server.sent());
    }
}

#[tokio::test]
async fn a_missing_image_is_reported_as_missing() {
    let registry = Registry::start();
    push_linux(&registry, "app:v1", "/bin/app").await;
    let inspector = inspector(&registry.host);
    let error = inspect(&inspector, &registry.image("app:v2")).await.unwrap_err();
    assert!(matches!(error, lookup::Error::Fetch(Error::FindImage { .. })), "{error}");
    assert!(error.to_string().contains("the tag `v2`"), "{error}");
    let error = inspect(&inspector, &registry.image("no/thing:v1")).await.unwrap_err();
    assert!(matches!(error, lookup::Error::Fetch(Error::FindImage { .. })), "{error}");
    let absent = descriptor(b"never pushed");
    let name = reference(&registry.image("app:v1"));
    let error = source(&options(&registry.host)).blob(&name, &absent, LIMIT).await.unwrap_err();
    assert!(matches!(&error, Error::FetchBlob { digest, .. } if absent.digest == *digest), "{error}");
}

#[tokio::test]
async fn a_tool_s_artifact_and_its_copy_in_a_layout_are_the_same_image() {
    let registry = Registry::start();
    push_artifact(&registry, "wasm/hello:1");
    let layouts = tempfile::tempdir().unwrap();
    fs::create_dir(layouts.path().join("wasm")).unwrap();
    let image = registry.image("wasm/hello:1");
    registry.crane(layouts.path(), &["pull", "--format=oci", "--annotate-ref", &image, "wasm/by-crane"]);
    let copy = ["copy", "--from-plain-http", "--to-oci-layout", &image, "wasm/by-oras:1"];
    registry.oras(layouts.path(), &copy);
    let from_registry = source(&options(&registry.host)).manifest(&reference(&image), LIMIT).await.unwrap();
    let folders = Layouts::new(&BTreeMap::from([("samples.test".to_string(), layouts.path().into())]));
    for name in ["samples.test/wasm/by-crane:1", "samples.test/wasm/by-oras:1"] {
        assert_eq!(folders.manifest(&reference(name), LIMIT).await.unwrap(), from_registry, "{name}");
    }
    let (direct, name) =
        Layouts::direct(&format!("oci:{}/wasm/by-oras:1", layouts.path().display())).unwrap();
    assert_eq!(direct.manifest(&name, LIMIT).await.unwrap(), from_registry);
}

#[tokio::test]
async fn a_layout_of_several_images_written_by_tools_is_read_by_tag() {
    let registry = Registry::start();
    let layouts = tempfile::tempdir().unwrap();
    let mut pushed = Vec::new();
    for tag in ["v1", "v2"] {
        let rest = format!("app:{tag}");
        pushed.push(push_linux(&registry, &rest, &format!("/bin/{tag}")).await);
        let image = registry.image(&rest);
        let oras = ["copy", "--from-plain-http", "--to-oci-layout", &image, &format!("by-oras:{tag}")];
        registry.oras(layouts.path(), &oras);
        registry.crane(layouts.path(), &["pull", "--format=oci", "--annotate-ref", &image, "by-crane"]);
    }
    let folders = Layouts::new(&BTreeMap::from([
        ("samples.test".to_string(), layouts.path().to_path_buf()),
        // crane writes the whole name, so the folder answers to that name.
        (registry.image("app"), layouts.path().join("by-crane")),
    ]));
    for (tag, expected) in ["v1", "v2"].into_iter().zip(&pushed) {
        for name in [format!("samples.test/by-oras:{tag}"), registry.image(&format!("app:{tag}"))] {
            assert_eq!(folders.manifest(&reference(&name), LIMIT).await.unwrap().digest, *expected, "{name}");
        }
    }
    let error = folders.manifest(&reference("samples.test/by-oras:v3"), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("no tag `v3`; it has `v1`, `v2`"), "{error}");
}

#[tokio::test]
async fn facts_about_a_linux_image_and_a_wasm_artifact_come_from_the_registry() {
    let registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    push_artifact(&registry, "hello:1");
    let inspector = inspector(&registry.host);
    let linux = inspector.inspect(&registry.image("app:v1"), Depth::Config, AMPLE).await.unwrap();
    assert_eq!((linux.kind, linux.digest.as_str()), (ImageKind::Linux, pushed.as_str()));
    let wasm = inspector.inspect(&registry.image("hello:1"), Depth::Config, AMPLE).await.unwrap();
    assert_eq!((wasm.kind, wasm.shape), (ImageKind::Module, Shape::WasmArtifact));
    assert_eq!(wasm.modules[0].imports[0].interface, "wasi_snapshot_preview1");
}

#[tokio::test]
async fn a_layout_answers_the_inspector_in_place_of_its_registry() {
    let registry = Registry::start();
    push_artifact(&registry, "hello:1");
    let layouts = tempfile::tempdir().unwrap();
    let copy = ["copy", "--from-plain-http", "--to-oci-layout", &registry.image("hello:1"), "hello:1"];
    registry.oras(layouts.path(), &copy);
    let folders = BTreeMap::from([("samples.test".to_string(), layouts.path().to_path_buf())]);
    let inspector = Inspector::new(LookupOptions { layouts: folders, ..LookupOptions::default() }).unwrap();
    let mapped = inspector.inspect("samples.test/hello:1", Depth::Config, AMPLE).await.unwrap();
    let target = format!("oci:{}/hello:1", layouts.path().display());
    let direct = inspector.inspect_layout(&target, Depth::Config).await.unwrap();
    assert_eq!((mapped.kind, &*mapped), (ImageKind::Module, &direct));
}

#[tokio::test]
async fn a_moved_tag_is_new_facts_once_its_time_is_over() {
    let registry = Registry::start();
    let first = push_linux(&registry, "app:v1", "/bin/first").await;
    // A push may take any time, so one gate remembers for longer than any test, and one not at all.
    let lasting = |tag_ttl| Inspector::new(LookupOptions { tag_ttl, ..options(&registry.host) }).unwrap();
    let (long, short) = (lasting(Duration::from_hours(1)), lasting(Duration::ZERO));
    let image = registry.image("app:v1");
    for inspector in [&long, &short] {
        assert_eq!(inspect(inspector, &image).await.unwrap(), first);
    }
    let second = push_linux(&registry, "app:v1", "/bin/second").await;
    assert_eq!(inspect(&long, &image).await.unwrap(), first, "the tag is remembered");
    assert_eq!(inspect(&short, &image).await.unwrap(), second);
    let pinned = format!("{image}@{first}");
    assert_eq!(inspect(&short, &pinned).await.unwrap(), first, "a digest does not move");
}

#[tokio::test]
async fn with_a_stopped_registry_known_tags_stay_valid_and_new_images_fail_in_time() {
    let mut registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let options = LookupOptions { tag_ttl: Duration::ZERO, ..options(&registry.host) };
    let inspector = Inspector::new(options).unwrap();
    let image = registry.image("app:v1");
    assert_eq!(inspect(&inspector, &image).await.unwrap(), pushed);
    registry.stop();
    assert_eq!(inspect(&inspector, &image).await.unwrap(), pushed);
    assert_eq!(inspector.stats().stale, 1);
    let error = inspector.inspect(&registry.image("new:v1"), Depth::Config, AMPLE).await.unwrap_err();
    let expected = format!("`{}` refused the connection; is the registry running", registry.host);
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn an_image_that_was_deleted_is_gone() {
    let registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let options = LookupOptions { tag_ttl: Duration::ZERO, ..options(&registry.host) };
    let inspector = Inspector::new(options).unwrap();
    let image = registry.image("app:v1");
    inspect(&inspector, &image).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    registry.crane(folder.path(), &["delete", &registry.image(&format!("app@{pushed}"))]);
    let error = inspect(&inspector, &image).await.unwrap_err();
    assert!(matches!(error, lookup::Error::Fetch(Error::FindImage { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_reviews_of_one_new_image_share_one_look_up() {
    let registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let inspector = Arc::new(inspector(&registry.host));
    let image = registry.image("app:v1");
    let before = registry.requests("GET", "/manifests/");
    let ask = |_| {
        let (inspector, image) = (Arc::clone(&inspector), image.clone());
        tokio::spawn(async move { inspect(&inspector, &image).await.unwrap() })
    };
    let asked: Vec<_> = (0..1000).map(ask).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), pushed);
    }
    assert_eq!(inspector.stats().lookups, 1);
    assert_eq!(registry.requests("GET", "/manifests/") - before, 1, "the registry's own log");
}

/// Writes a docker config with a login for one registry.
fn docker_config(folder: &Path, host: &str, password: &str) -> PathBuf {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
    let file = folder.join(format!("{password}.json"));
    fs::write(&file, json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
    file
}

#[tokio::test]
async fn credentials_and_cas_open_a_closed_registry() {
    let registry = Registry::start_with_tls_and_password();
    let pushed = push_linux(&registry, "private/app:v1", "/bin/app").await;
    let image = registry.image("private/app:v1");
    let folder = tempfile::tempdir().unwrap();
    let open = LookupOptions {
        registries: GuardOptions { allow: vec![registry.host.clone()], ..GuardOptions::default() },
        ca_files: registry.ca.iter().cloned().collect(),
        docker_config: Some(docker_config(folder.path(), &registry.host, PASSWORD)),
        ..options(&registry.host)
    };
    let found = source(&open).manifest(&reference(&image), LIMIT).await.unwrap();
    assert_eq!(found.digest, pushed);
    let layer = linux_image("/bin/app").layer;
    let blob = source(&open).blob(&reference(&image), &descriptor(&layer), LIMIT).await.unwrap();
    assert_eq!(&blob[..], &layer[..], "a blob is asked for with the credentials, also as the first thing");
    let fails = |docker_config, ca_files| {
        let source = source(&LookupOptions { docker_config, ca_files, ..open.clone() });
        let image = reference(&image);
        async move { source.manifest(&image, LIMIT).await.unwrap_err().to_string() }
    };
    let message = fails(None, open.ca_files.clone()).await;
    assert!(message.contains("wants credentials (401)") && message.contains("`dockerConfig`"), "{message}");
    let wrong = docker_config(folder.path(), &registry.host, "not-the-password");
    let message = fails(Some(wrong), open.ca_files.clone()).await;
    assert!(message.contains("refused the credentials (401)"), "{message}");
    assert!(!message.contains("not-the-password"), "{message}");
    let elsewhere = docker_config(folder.path(), "other.test", "for-another-registry");
    let message = fails(Some(elsewhere), open.ca_files.clone()).await;
    assert!(message.contains("wants credentials (401)"), "{message}");
    let message = fails(open.docker_config.clone(), Vec::new()).await;
    assert!(
        message.contains("a CA that is not known here; add") && message.contains("`caFiles`"),
        "{message}"
    );
}

#[tokio::test]
async fn the_wrong_protocol_is_named() {
    let plain = Registry::start();
    let mut options = options(&plain.host);
    options.registries.insecure.clear();
    let name = reference(&plain.image("app:v1"));
    let error = source(&options).manifest(&name, LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("does not speak TLS; add it to `insecure`"), "{error}");
}

/// What a caller with this budget gets from a server with this fault. That it gets an answer at all proves the bound,
/// because the server never ends by itself.
async fn suffer(fault: Fault, budget: Duration) -> lookup::Error {
    let server = Server::start(fault.clone()).await;
    let inspector = Inspector::new(impatient(&server.host)).unwrap();
    let error = inspector.inspect(&server.image("app:v1"), Depth::Config, budget).await.unwrap_err();
    assert!(server.asked() <= 2, "{fault:?} was asked {} times", server.asked());
    (*error).clone()
}

#[tokio::test]
async fn every_fault_is_a_clear_error_within_the_budget() {
    let budget = Duration::from_secs(3);
    let too_many = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    for (fault, part) in [
        (Fault::Stall, "did not answer in time"),
        (Fault::Reset, "cut the connection"),
        (Fault::Status(500, "", "boom"), "answered with status 500: boom"),
        (Fault::Status(503, "", ""), "answered with status 503"),
        (Fault::Status(429, "retry-after: 30\r\n", ""), "limits how often it may be asked (429)"),
        (Fault::Status(429, "retry-after: 30\r\n", too_many), "limits how often it may be asked (429)"),
        (Fault::Status(418, "", "{"), "status 418"),
        (Fault::Truncated(b"{\"schemaVersion\":2".to_vec()), "cut the connection"),
        (Fault::Large { bytes: 50 << 20, announced: true }, "larger than the limit of 4194304 bytes"),
        (Fault::Large { bytes: 50 << 20, announced: false }, "larger than the limit of 4194304 bytes"),
        (Fault::Drip(Duration::from_millis(50)), "within 1500 ms"),
        (Fault::Noise, "HTTP"),
        (Fault::Body(b"not a manifest".to_vec()), "the manifest"),
    ] {
        let error = suffer(fault.clone(), budget).await;
        assert!(error.to_string().contains(part), "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn a_caller_without_time_leaves_and_the_look_up_ends_by_itself() {
    let error = suffer(Fault::Stall, Duration::from_millis(100)).await;
    assert!(matches!(error, lookup::Error::TimedOut { budget_ms: 100, .. }), "{error}");
}

#[tokio::test]
async fn a_pod_that_has_nothing_to_do_with_wasm_does_not_wait_for_a_hanging_registry() {
    let breaker = BreakerOptions {
        suspect_after: Duration::from_millis(400),
        patience: Duration::from_millis(100),
        ..BreakerOptions::default()
    };
    for fault in [Fault::Stall, Fault::Drip(Duration::from_millis(50))] {
        let server = Server::start(fault.clone()).await;
        let options =
            LookupOptions { breaker, lookup_timeout: AMPLE, read_timeout: AMPLE, ..options(&server.host) };
        let inspector = Inspector::new(options).unwrap();
        let ask = async |image: &str, budget: LookupBudget| {
            let start = Instant::now();
            let error = inspector.inspect(&server.image(image), Depth::Config, budget).await.unwrap_err();
            (error, start.elapsed())
        };
        let (error, took) = ask("first:1", LookupBudget::doubtful(AMPLE)).await;
        assert!(matches!(*error, lookup::Error::LeftWaiting { .. }), "{fault:?}: {error}");
        assert!(took >= breaker.suspect_after && took < AMPLE / 4, "the first one finds out: {took:?}");
        let (error, took) = ask("second:1", LookupBudget::doubtful(AMPLE)).await;
        assert!(matches!(*error, lookup::Error::LeftWaiting { .. }), "{fault:?}: {error}");
        assert!(error.to_string().contains(&format!("`{}` does not answer now", server.host)), "{error}");
        assert!(took >= breaker.patience && took < AMPLE / 4, "{took:?}");
        let whole = Duration::from_millis(700);
        let (error, took) = ask("third:1", whole.into()).await;
        assert!(
            matches!(*error, lookup::Error::TimedOut { .. }) && took >= whole,
            "who may be Wasm waits: {error}"
        );
    }
}

#[tokio::test]
async fn a_hanging_registry_does_not_delay_other_registries() {
    let server = Server::start(Fault::Stall).await;
    let web = Web::start(|_, _| (404, String::new(), Vec::new())).await;
    let mut options = options(&server.host);
    options.registries.allow.push(web.host.clone());
    options.registries.insecure.push(web.host.clone());
    let options = LookupOptions {
        concurrent_lookups: 1,
        lookup_timeout: 4 * AMPLE,
        read_timeout: 4 * AMPLE,
        ..options
    };
    let inspector = Inspector::new(options).unwrap();
    for number in 0..4 {
        let image = server.image(&format!("app{number}:1"));
        inspector.inspect(&image, Depth::Config, Duration::from_millis(50)).await.unwrap_err();
    }
    let error = inspector.inspect(&web.image("a:1"), Depth::Config, AMPLE).await.unwrap_err();
    assert!(matches!(*error, lookup::Error::Fetch(Error::FindImage { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_registry_gets_the_whole_budget() {
    let pause = Duration::from_millis(600);
    let web = Web::start(move |_, _| {
        // The registry is slow.
        std::thread::sleep(pause);
        (404, String::new(), Vec::new())
    })
    .await;
    let breaker =
        BreakerOptions { suspect_after: AMPLE, patience: Duration::from_millis(50), ..Default::default() };
    let inspector = Inspector::new(LookupOptions { breaker, ..options(&web.host) }).unwrap();
    let asked = inspector.inspect(&web.image("a:1"), Depth::Config, LookupBudget::doubtful(AMPLE)).await;
    let error = asked.unwrap_err();
    assert!(
        matches!(*error, lookup::Error::Fetch(Error::FindImage { .. })),
        "longer than the patience, and answered"
    );
}

#[tokio::test]
async fn bytes_with_another_digest_are_never_returned() {
    let body = b"{\"schemaVersion\":2}".to_vec();
    let server = Server::start(Fault::Body(body.clone())).await;
    let source = source(&options(&server.host));
    let right = reference(&server.image("app")).with_digest(&Digest::of(&body));
    assert_eq!(source.manifest(&right, LIMIT).await.unwrap().bytes, body);
    let wrong = right.with_digest(&Digest::of(b"other"));
    let error = source.manifest(&wrong, LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("digest") && error.contains(&digest(&body)), "{error}");
    let other = Descriptor { size: body.len() as u64, ..descriptor(b"other") };
    let error = source.blob(&right, &other, LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::FetchBlob { .. }), "{error}");
    assert!(error.to_string().contains(&digest(&body)), "{error}");
}

#[tokio::test]
async fn faults_in_the_middle_of_a_blob_are_errors_of_that_blob() {
    for (fault, part) in [
        (Fault::Truncated(b"half".to_vec()), "cut the connection"),
        (Fault::Stall, "did not answer in time"),
        (Fault::Status(500, "", "boom"), "status 500: boom"),
        (Fault::Large { bytes: 50 << 20, announced: true }, "more than the 2000 bytes"),
        (Fault::Large { bytes: 50 << 20, announced: false }, "more than the 2000 bytes"),
    ] {
        let server = Server::start(fault.clone()).await;
        let source = source(&impatient(&server.host));
        let name = reference(&server.image("app:v1"));
        let wanted = Descriptor { size: 2000, ..descriptor(b"wanted") };
        let error = source.blob(&name, &wanted, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains(part), "{fault:?}: {error}");
    }
}

// === Other hosts: redirects, name servers, token services ===

/// A registry whose names this server resolves. Everything is plain HTTP, since the hosts in these tests are
/// `insecure`.
fn guarded(allow: &[&str], insecure: &[&str], names: Arc<Names>) -> RegistrySource {
    guarded_with(allow, insecure, names, &RegistryOptions::default())
}

fn guarded_with(
    allow: &[&str],
    insecure: &[&str],
    names: Arc<Names>,
    options: &RegistryOptions,
) -> RegistrySource {
    let strings = |entries: &[&str]| entries.iter().map(ToString::to_string).collect();
    let guard =
        GuardOptions { allow: strings(allow), insecure: strings(insecure), ..GuardOptions::default() };
    let resolver: Arc<dyn Resolver> = names;
    RegistrySource::with_resolver(Guard::new(&guard).unwrap(), options, &resolver).unwrap()
}

async fn manifest_error(source: &RegistrySource, image: &str) -> Error {
    source.manifest(&reference(image), LIMIT).await.unwrap_err()
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_never_connected_to() {
    let web = Web::start(|_, _| ok("{}")).await;
    for address in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "fd00::1"] {
        let host = format!("evil.example:{}", web.port);
        let source = guarded(&["*"], &[&host], Names::new(&[("evil.example", &[address])]));
        let error = manifest_error(&source, &format!("{host}/a:1")).await;
        assert!(matches!(error, Error::RefuseRegistry { .. }), "{address}: {error}");
        assert!(error.to_string().contains(&format!("its address {address}")), "{error}");
    }
    assert!(web.asked().is_empty(), "{:?}", web.asked());
}

#[tokio::test]
async fn a_name_server_that_answers_differently_later_gains_nothing() {
    // Names are resolved only when a connection is opened, so no earlier answer is trusted. The first connection goes
    // to a public address that does not answer, and the next one would go to loopback.
    let web = Web::start(|_, _| ok("{}")).await;
    let host = format!("rebind.example:{}", web.port);
    let names = Names::new(&[("rebind.example", &["198.51.100.1", "127.0.0.1"])]);
    let options =
        RegistryOptions { connect_timeout: Duration::from_millis(300), ..RegistryOptions::default() };
    let source = guarded_with(&["*"], &[&host], names.clone(), &options);
    let image = format!("{host}/a:1");
    let first = manifest_error(&source, &image).await;
    assert!(matches!(first, Error::FetchManifest { .. }), "{first}");
    let second = manifest_error(&source, &image).await;
    assert!(matches!(second, Error::RefuseRegistry { .. }), "{second}");
    assert_eq!(names.asked(), 2, "one question for each connection");
    assert!(web.asked().is_empty());
}

/// Addresses of the machine in a namespace: a public one, and those that an attacker would like to reach.
const PUBLIC: &str = "198.51.100.1";
const METADATA: &str = "169.254.169.254";
const PRIVATE: &[&str] = &["127.0.0.1", METADATA, "10.96.0.1", "fd00::1", "::1"];
const MACHINE: &[&str] = &["198.51.100.1/32", "169.254.169.254/32", "10.96.0.1/32", "fd00::1/128"];

/// The addresses at which requests arrived.
fn places(asked: &[Asked]) -> Vec<String> {
    asked.iter().map(|asked| asked.at.to_string()).collect()
}

/// A source as in the gate, with the operating system's resolver.
fn as_in_production(insecure: &[&str]) -> RegistrySource {
    let guard =
        GuardOptions { insecure: insecure.iter().map(ToString::to_string).collect(), ..Default::default() };
    let options = RegistryOptions { connect_timeout: Duration::from_secs(5), ..RegistryOptions::default() };
    RegistrySource::new(Guard::new(&guard).unwrap(), &options).unwrap()
}

#[tokio::test]
async fn with_a_real_name_server_only_judged_addresses_are_connected_to() {
    if !inside("registry::with_a_real_name_server_only_judged_addresses_are_connected_to", MACHINE) {
        return;
    }
    let web = Web::start_at("[::]:0", |_, _| last(ok("{}"))).await;
    let names: Vec<String> = (0..PRIVATE.len()).map(|number| format!("rebind{number}.example")).collect();
    let answers: Vec<[&[&str]; 3]> =
        PRIVATE.iter().map(|private| [&[PUBLIC] as &[_], std::slice::from_ref(private), &[PUBLIC]]).collect();
    let entries: Vec<(&str, &[&[&str]])> =
        names.iter().zip(&answers).map(|(name, answers)| (name.as_str(), &answers[..])).collect();
    let dns = Dns::start(&entries);
    for (name, private) in names.iter().zip(PRIVATE) {
        let host = format!("{name}:{}", web.port);
        let source = as_in_production(&[&host]);
        let image = format!("{host}/a:1");
        let before = web.asked().len();
        source.manifest(&reference(&image), LIMIT).await.unwrap();
        let error = manifest_error(&source, &image).await;
        assert!(matches!(error, Error::RefuseRegistry { .. }), "{private}: {error}");
        assert!(error.to_string().contains(&format!("its address {private}")), "{error}");
        source.manifest(&reference(&image), LIMIT).await.unwrap();
        assert_eq!(dns.asked(name), 3, "one question for each connection, and none beside");
        assert_eq!(places(&web.asked()[before..]), [PUBLIC, PUBLIC], "{private}");
    }
}

#[tokio::test]
async fn with_a_real_name_server_a_private_address_among_public_ones_is_never_tried() {
    if !inside(
        "registry::with_a_real_name_server_a_private_address_among_public_ones_is_never_tried",
        MACHINE,
    ) {
        return;
    }
    let web = Web::start_at("[::]:0", |_, _| last(ok("{}"))).await;
    // Nothing leads to the public one, so a client that tried the next address would get through.
    let _dns = Dns::start(&[("mixed.example", &[&["198.51.100.99", "127.0.0.1", METADATA, "fd00::1"]])]);
    let host = format!("mixed.example:{}", web.port);
    let error = manifest_error(&as_in_production(&[&host]), &format!("{host}/a:1")).await;
    assert!(matches!(error, Error::FetchManifest { .. }), "{error}");
    assert!(web.asked().is_empty(), "{:?}", web.asked());
}

#[tokio::test]
async fn with_a_real_name_server_redirects_and_token_services_are_judged_too() {
    if !inside("registry::with_a_real_name_server_redirects_and_token_services_are_judged_too", MACHINE) {
        return;
    }
    let web = Web::start_at("[::]:0", |_, asked| {
        let host = asked.line.rsplit('/').next().unwrap_or_default().replace('_', ":");
        last(match asked.line.split('/').nth(2) {
            Some("redirect") => redirect(&format!("http://{host}/v2/elsewhere")),
            Some("token") => bearer(&format!("http://{host}/v2/elsewhere")),
            _ => ok(r#"{"token":"abc"}"#),
        })
    })
    .await;
    let dns = Dns::start(&[
        ("registry.example", &[&[PUBLIC]]),
        // The same name again, and a name that was public a moment ago.
        ("twice.example", &[&[PUBLIC], &[METADATA]]),
        ("inner.example", &[&[PUBLIC], &["127.0.0.1"]]),
    ]);
    let hosts = ["registry.example", "twice.example", "inner.example"].map(|n| format!("{n}:{}", web.port));
    let insecure: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let source = as_in_production(&insecure);
    let to = |host: &str| format!("{host}_{}", web.port);
    let ask = |host: &str, what: &str, to: String| reference(&format!("{host}/{what}/a:{to}"));
    // The tag says where to redirect; a first look-up shows that a redirect to a public address is followed.
    source.manifest(&ask(&hosts[0], "redirect", to("inner.example")), LIMIT).await.unwrap();
    for (host, what, target) in [
        (&hosts[0], "redirect", "inner.example"),
        (&hosts[1], "redirect", "twice.example"),
        (&hosts[0], "token", "inner.example"),
    ] {
        let error = source.manifest(&ask(host, what, to(target)), LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("is a l") && error.contains(target), "{what} to {target}: {error}");
    }
    assert_eq!((dns.asked("twice.example"), dns.asked("inner.example")), (2, 3));
    assert!(places(&web.asked()).iter().all(|place| place == PUBLIC), "{:?}", web.asked());
    assert_eq!(web.asked().len(), 5, "two of the first look, then one each");
}

#[tokio::test]
async fn a_registry_that_is_listed_by_name_may_have_any_address_and_its_redirects_may_not() {
    let metadata = Web::start(|_, _| ok("secrets")).await;
    for to in [
        format!("http://127.0.0.1:{}/latest", metadata.port),
        format!("http://[::ffff:127.0.0.1]:{}/latest", metadata.port),
        format!("http://0x7f000001:{}/latest", metadata.port),
        format!("http://inner.example:{}/latest", metadata.port),
        "http://169.254.169.254/latest/meta-data/".into(),
        "file:///etc/passwd".into(),
        "//169.254.169.254/".into(),
    ] {
        let location = to.clone();
        let web = Web::start(move |_, _| redirect(&location)).await;
        let host = format!("registry.corp:{}", web.port);
        let names = Names::new(&[("registry.corp", &["127.0.0.1"]), ("inner.example", &["127.0.0.1"])]);
        let source = guarded(&["*", &host], &[&host], names);
        let error = manifest_error(&source, &format!("{host}/a:1")).await;
        assert!(matches!(error, Error::FetchManifest { .. }), "{to}: {error}");
        assert!(error.to_string().contains("it redirects to"), "{to}: {error}");
        assert_eq!(web.asked().len(), 1, "{to}");
    }
    assert!(metadata.asked().is_empty(), "{:?}", metadata.asked());
}

#[tokio::test]
async fn a_blob_comes_from_where_the_registry_redirects_and_credentials_stay_behind() {
    let folder = tempfile::tempdir().unwrap();
    let blob = b"a layer".to_vec();
    let body = blob.clone();
    let cdn = Web::start(move |_, _| ok(body.clone())).await;
    let to = format!("http://cdn.corp:{}/signed?x=1", cdn.port);
    let web = Web::start(move |_, asked| match &asked.authorization {
        None => (401, "www-authenticate: Basic realm=\"r\"\r\n".into(), Vec::new()),
        Some(_) => redirect(&to),
    })
    .await;
    let host = format!("registry.corp:{}", web.port);
    let cdn_host = format!("cdn.corp:{}", cdn.port);
    let options = RegistryOptions {
        docker_config: Some(docker_config(folder.path(), &host, PASSWORD)),
        ..RegistryOptions::default()
    };
    let names = Names::new(&[("registry.corp", &["127.0.0.1"]), ("cdn.corp", &["127.0.0.1"])]);
    let source = guarded_with(&[&host, &cdn_host], &[&host], names, &options);
    let name = reference(&format!("{host}/a:1"));
    let found = source.blob(&name, &descriptor(&blob), LIMIT).await.unwrap();
    assert_eq!(found, blob);
    assert!(web.asked()[1].authorization.as_ref().unwrap().starts_with("Basic "));
    assert_eq!(cdn.asked().len(), 1);
    assert_eq!(cdn.asked()[0].authorization, None);
}

#[tokio::test]
async fn redirects_end() {
    let web = Web::start(|number, _| redirect(&format!("/again/{number}"))).await;
    let source = source(&options(&web.host));
    let error = manifest_error(&source, &web.image("a:1")).await.to_string();
    assert!(error.contains("redirects more than 5 times"), "{error}");
    assert_eq!(web.asked().len(), 6);
}

#[tokio::test]
async fn a_redirect_from_https_to_plain_http_is_never_followed() {
    // The real registry cannot be made to redirect, so this server stands in for one behind TLS.
    let registry = Registry::start_with_tls_and_password();
    let (certificate, key) = registry.certificate_and_key();
    let plain = Web::start(|_, _| ok("{}")).await;
    let tls = tls_redirect(&certificate, &key, &format!("http://{}/x", plain.host)).await;
    let options = LookupOptions {
        registries: GuardOptions { allow: vec![tls.clone(), plain.host.clone()], ..GuardOptions::default() },
        ca_files: registry.ca.iter().cloned().collect(),
        ..LookupOptions::default()
    };
    let error = manifest_error(&source(&options), &format!("{tls}/a:1")).await.to_string();
    assert!(error.contains("from HTTPS to plain HTTP"), "{error}");
    assert!(plain.asked().is_empty());
}

/// A TLS server that answers everything with a redirect; its `host:port`.
async fn tls_redirect(certificate: &Path, key: &Path, to: &str) -> String {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answer = format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    host
}

/// A registry that demands a token from a realm, and accepts `Bearer abc`.
async fn token_registry(realm: String) -> Web {
    Web::start(move |_, asked| match asked.authorization.as_deref() {
        Some("Bearer abc") => ok("{}"),
        _ => bearer(&realm),
    })
    .await
}

/// A token service that serves everyone, or only callers with credentials.
async fn token_service(anonymous: bool) -> Web {
    Web::start(move |_, asked| {
        if anonymous || asked.authorization.is_some() || asked.body.contains("refresh_token=identity") {
            ok(r#"{"token":"abc","expires_in":300}"#)
        } else {
            (401, String::new(), b"hunter2 is wrong".to_vec())
        }
    })
    .await
}

/// Options that allow a registry's token service on another port of loopback.
fn with_service(mut options: LookupOptions, service: &Web) -> LookupOptions {
    options.registries.allow.push(service.host.clone());
    options
}

#[tokio::test]
async fn a_token_is_requested_once_and_used_until_it_expires() {
    let service = token_service(true).await;
    let registry = token_registry(format!("http://{}/token", service.host)).await;
    let source = source(&with_service(options(&registry.host), &service));
    let name = reference(&registry.image("team/app:1"));
    for _ in 0..3 {
        source.manifest(&name, LIMIT).await.unwrap();
    }
    assert_eq!(service.asked().len(), 1);
    assert_eq!(service.asked()[0].line, "GET /token?service=test&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(registry.asked().len(), 4, "one refusal, then three manifests");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let service = token_service(true).await;
    let realm = format!("http://{}/token", service.host);
    let registry = Web::start(move |number, asked| match (number, asked.authorization.as_deref()) {
        // The third request uses the token of the second.
        (2, _) | (_, None) => bearer(&realm),
        _ => ok("{}"),
    })
    .await;
    let source = source(&with_service(options(&registry.host), &service));
    let name = reference(&registry.image("app:1"));
    source.manifest(&name, LIMIT).await.unwrap();
    source.manifest(&name, LIMIT).await.unwrap();
    assert_eq!((service.asked().len(), registry.asked().len()), (2, 4));
}

#[tokio::test]
async fn a_foreign_token_service_gets_no_credentials_unless_configured() {
    let folder = tempfile::tempdir().unwrap();
    let service = token_service(false).await;
    let registry = token_registry(format!("http://auth.evil.example:{}/token", service.port)).await;
    let host = format!("registry.corp:{}", registry.port);
    let auth_host = format!("auth.evil.example:{}", service.port);
    let names = || Names::new(&[("registry.corp", &["127.0.0.1"]), ("auth.evil.example", &["127.0.0.1"])]);
    let options = RegistryOptions {
        docker_config: Some(docker_config(folder.path(), &host, PASSWORD)),
        ..RegistryOptions::default()
    };
    let allow = [host.as_str(), auth_host.as_str()];
    let image = format!("{host}/a:1");
    let error = manifest_error(&guarded_with(&allow, &[&host], names(), &options), &image).await.to_string();
    assert!(
        error.contains("`auth.evil.example`, which gets none") && error.contains("`tokenRealms`"),
        "{error}"
    );
    assert!(!error.contains(PASSWORD) && !error.contains("hunter2"), "{error}");
    assert!(service.asked().iter().all(|asked| asked.authorization.is_none()), "{:?}", service.asked());
    let token_realms = BTreeMap::from([(host.clone(), vec![auth_host.clone()])]);
    let trusting = RegistryOptions { token_realms, ..options };
    // Hosts that the platform names may have any address.
    let source = guarded_with(&[&host], &[&host], names(), &trusting);
    source.manifest(&reference(&image), LIMIT).await.unwrap();
    assert!(service.asked().last().unwrap().authorization.as_ref().unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_token_service_meets_the_address_rules() {
    let service = token_service(true).await;
    let registry = token_registry(format!("http://auth.example:{}/token", service.port)).await;
    let host = format!("registry.corp:{}", registry.port);
    let names = Names::new(&[("registry.corp", &["127.0.0.1"]), ("auth.example", &["127.0.0.1"])]);
    let source = guarded(&["*", &host], &[&host], names);
    let error = manifest_error(&source, &format!("{host}/a:1")).await.to_string();
    assert!(error.contains("token service") && error.contains("loopback"), "{error}");
    assert!(service.asked().is_empty());
}

/// The real registry behind a token service under this loopback name, with options that allow both.
async fn registry_with_tokens(service_host: &str) -> (Registry, Tokens, LookupOptions) {
    let tokens = Tokens::start().await;
    let registry =
        Registry::start_with_tokens(&tokens.realm(service_host), SERVICE, ISSUER, &tokens.certificate);
    let mut options = options(&registry.host);
    options.registries.allow.push(format!("{service_host}:{}", tokens.web.port));
    (registry, tokens, options)
}

#[tokio::test]
async fn a_real_registry_accepts_the_tokens_of_its_service() {
    let (registry, tokens, options) = registry_with_tokens("127.0.0.1").await;
    let folder = tempfile::tempdir().unwrap();
    let private = push_linux(&registry, "private/app:v1", "/bin/app").await;
    let public = push_linux(&registry, "public/app:v1", "/bin/app").await;
    let layer = linux_image("/bin/app").layer;
    let pushed = tokens.web.asked().len();
    let anonymous = source(&options);
    let name = reference(&registry.image("public/app:v1"));
    assert_eq!(anonymous.manifest(&name, LIMIT).await.unwrap().digest, public);
    assert_eq!(anonymous.blob(&name, &descriptor(&layer), LIMIT).await.unwrap()[..], layer[..]);
    let asked = &tokens.web.asked()[pushed..];
    assert_eq!(asked.len(), 1, "one token for both: {asked:?}");
    assert_eq!(asked[0].line, format!("GET /token?service={SERVICE}&scope=repository%3Apublic%2Fapp%3Apull"));
    let closed = registry.image("private/app:v1");
    let error = manifest_error(&anonymous, &closed).await.to_string();
    assert!(error.contains("wants credentials (401)"), "{error}");
    let docker_config = Some(docker_config(folder.path(), &registry.host, PASSWORD));
    let known = source(&LookupOptions { docker_config, ..options });
    assert_eq!(known.manifest(&reference(&closed), LIMIT).await.unwrap().digest, private);
}

#[tokio::test]
async fn a_token_that_expired_early_is_replaced_and_the_real_registry_accepts_it() {
    // The registry accepts every token for a minute longer (`distribution:registry/auth/token/token.go`, `Leeway`). The
    // client is told five minutes.
    const LEEWAY: i64 = 60;
    let (registry, tokens, options) = registry_with_tokens("127.0.0.1").await;
    let pushed = push_linux(&registry, "public/app:v1", "/bin/app").await;
    let name = reference(&registry.image("public/app:v1"));
    let (client, before) = (source(&options), tokens.web.asked().len());
    tokens.lifetime.store(6 - LEEWAY, std::sync::atomic::Ordering::SeqCst);
    client.manifest(&name, LIMIT).await.unwrap();
    tokens.lifetime.store(300, std::sync::atomic::Ordering::SeqCst);
    until("the registry to refuse the old token", async || {
        assert_eq!(client.manifest(&name, LIMIT).await.unwrap().digest, pushed, "the change is invisible");
        tokens.web.asked().len() == before + 2
    })
    .await;
    for _ in 0..3 {
        client.manifest(&name, LIMIT).await.unwrap();
    }
    assert_eq!(tokens.web.asked().len(), before + 2, "the new one is kept");
}

#[tokio::test]
async fn a_real_registry_s_token_service_on_another_host_gets_no_credentials() {
    let (registry, tokens, options) = registry_with_tokens("localhost").await;
    let folder = tempfile::tempdir().unwrap();
    let pushed = push_linux(&registry, "private/app:v1", "/bin/app").await;
    let image = registry.image("private/app:v1");
    let docker_config = Some(docker_config(folder.path(), &registry.host, PASSWORD));
    let options = LookupOptions { docker_config, ..options };
    let before = tokens.web.asked().len();
    let error = manifest_error(&source(&options), &image).await.to_string();
    assert!(error.contains("`localhost`, which gets none") && error.contains("`tokenRealms`"), "{error}");
    let asked = &tokens.web.asked()[before..];
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.authorization.is_none()), "{asked:?}");
    let realm = format!("localhost:{}", tokens.web.port);
    let token_realms = BTreeMap::from([(registry.host.clone(), vec![realm])]);
    let inspector = Inspector::new(LookupOptions { token_realms, ..options }).unwrap();
    assert_eq!(inspect(&inspector, &image).await.unwrap(), pushed, "unless the platform says so");
}

/// Pushes an index of images from the same repository, each with its `os/architecture`.
async fn push_index(registry: &Registry, rest: &str, entries: &[(&str, &str, usize)]) -> String {
    let manifests: Vec<_> = entries
        .iter()
        .map(|(platform, digest, size)| {
            let (os, architecture) = platform.split_once('/').unwrap();
            json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size,
                "platform": {"os": os, "architecture": architecture}})
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}).to_string();
    registry.push(rest, &[], index.as_bytes(), media_type).await
}

/// The requests of one cold look-up, according to the registry's log.
async fn cold(registry: &Registry, rest: &str, depth: Depth) -> (usize, ImageKind) {
    let before = registry.requests("GET", "/v2/");
    let inspector = inspector(&registry.host);
    let facts = inspector.inspect(&registry.image(rest), depth, AMPLE).await.unwrap();
    assert_eq!(inspector.stats().lookups, 1);
    (registry.requests("GET", "/v2/") - before, facts.kind)
}

#[tokio::test]
async fn an_image_behind_an_index_costs_three_requests_plus_one_per_layer() {
    let registry = Registry::start();
    let image = linux_image("/bin/app");
    let linux = push_linux(&registry, "app:linux", "/bin/app").await;
    let statement = push_linux(&registry, "app:statement", "/bin/statement").await;
    let size = image.manifest.len();
    // As buildx pushes it: the image, its provenance, and several platforms.
    let entries = [("linux/amd64", linux.as_str(), size), ("unknown/unknown", &statement, 1)];
    push_index(&registry, "app:provenance", &entries).await;
    assert_eq!(cold(&registry, "app:provenance", Depth::Config).await, (3, ImageKind::Linux));
    assert_eq!(cold(&registry, "app:provenance", Depth::Layers).await, (4, ImageKind::Linux));
    let other = push_linux(&registry, "app:arm", "/bin/arm").await;
    let entries = [("linux/amd64", linux.as_str(), size), ("linux/arm64", &other, size)];
    push_index(&registry, "app:platforms", &entries).await;
    assert_eq!(cold(&registry, "app:platforms", Depth::Config).await, (3, ImageKind::Linux));
    push_artifact(&registry, "app:wasm");
    let name = reference(&registry.image("app:wasm"));
    let wasm = source(&options(&registry.host)).manifest(&name, LIMIT).await.unwrap();
    let entries =
        [("wasip1/wasm", wasm.digest.as_str(), wasm.bytes.len()), ("unknown/unknown", &statement, 1)];
    push_index(&registry, "app:index", &entries).await;
    for depth in [Depth::Config, Depth::Layers] {
        assert_eq!(cold(&registry, "app:index", depth).await, (4, ImageKind::Module), "{depth:?}");
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let service = token_service(false).await;
    let registry = token_registry(format!("http://{}/token", service.host)).await;
    let file = folder.path().join("config.json");
    fs::write(&file, json!({"auths": {&registry.host: {"identitytoken": "identity"}}}).to_string()).unwrap();
    let options = LookupOptions { docker_config: Some(file), ..options(&registry.host) };
    let options = with_service(options, &service);
    source(&options).manifest(&reference(&registry.image("app:1")), LIMIT).await.unwrap();
    let asked = &service.asked()[0];
    assert_eq!((asked.line.as_str(), asked.authorization.as_deref()), ("POST /token", None));
    assert!(asked.body.contains("grant_type=refresh_token") && asked.body.contains("refresh_token=identity"));
}

#[tokio::test]
async fn pull_secrets_are_tried_before_the_platform_s_credentials_and_seen_by_their_holders_only() {
    #[derive(Debug)]
    struct Secrets(String);
    impl PullSecrets for Secrets {
        fn logins<'a>(&'a self, puller: &'a Puller) -> futures::future::BoxFuture<'a, Pulled> {
            let password = if puller.namespace == "shop" { PASSWORD } else { "wrong" };
            let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
            let text = json!({"auths": {&self.0: {"auth": auth}}}).to_string();
            let logins = Login::from_docker_config(text.as_bytes()).unwrap();
            Box::pin(std::future::ready(Pulled { logins, notes: vec!["a note".into()] }))
        }
    }
    let registry = Registry::start_with_tls_and_password();
    let pushed = push_linux(&registry, "private/app:v1", "/bin/app").await;
    let options =
        LookupOptions { ca_files: registry.ca.iter().cloned().collect(), ..options(&registry.host) };
    let options = LookupOptions {
        registries: GuardOptions { allow: vec![registry.host.clone()], ..GuardOptions::default() },
        ..options
    };
    let inspector =
        Inspector::new(options).unwrap().with_pull_secrets(Arc::new(Secrets(registry.host.clone())));
    let puller = |namespace: &str| Puller {
        namespace: namespace.into(),
        pull_secrets: vec!["pull".into()],
        service_account: "default".into(),
    };
    let image = registry.image("private/app:v1");
    let mine = inspector.inspect_for(&image, Depth::Config, AMPLE, &puller("shop")).await.unwrap();
    assert_eq!(mine.digest, pushed);
    let other = inspector.inspect_for(&image, Depth::Config, AMPLE, &puller("other")).await.unwrap_err();
    assert!(other.to_string().contains("refused the credentials (401)"), "{other}");
    assert!(other.to_string().ends_with("; a note"), "what is wrong with the secrets is said: {other}");
    let anonymous = inspector.inspect(&image, Depth::Config, AMPLE).await.unwrap_err();
    assert!(anonymous.to_string().contains("wants credentials (401)"), "{anonymous}");
    for error in [other, anonymous] {
        assert!(!format!("{error} {error:?}").contains(PASSWORD) && !format!("{error:?}").contains("wrong"));
    }
    inspector.inspect_for(&image, Depth::Config, Duration::ZERO, &puller("shop")).await.unwrap();
}

/// Holds the password of one registry for pods that name the secret `regcred`, and counts the requests.
#[derive(Debug)]
struct OneSecret {
    host: String,
    asked: AtomicUsize,
}

impl PullSecrets for OneSecret {
    fn logins<'a>(&'a self, puller: &'a Puller) -> futures::future::BoxFuture<'a, Pulled> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let named = puller.pull_secrets.iter().any(|name| name == "regcred");
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let text = json!({"auths": {&self.host: {"auth": auth}}}).to_string();
        let logins = if named { Login::from_docker_config(text.as_bytes()).unwrap() } else { Vec::new() };
        Box::pin(std::future::ready(Pulled { logins, notes: Vec::new() }))
    }
}

async fn bare_state() -> State {
    let engine = policy::Engine::new().unwrap();
    let policies = PolicySet::load(&engine, Vec::new(), Limits::default());
    State::new(Runtimes::default(), Arc::default(), policies.await.unwrap().into())
}

#[tokio::test]
async fn a_private_image_is_read_with_the_pod_s_secret_and_only_its_holders_get_the_facts() {
    let registry = Registry::start_with_tls_and_password();
    let digest = push_linux(&registry, "private/app:v1", "/bin/app").await;
    let open = Registry::start();
    push_linux(&open, "public/app:v1", "/bin/app").await;
    let secrets = Arc::new(OneSecret { host: registry.host.clone(), asked: AtomicUsize::new(0) });
    let options = LookupOptions {
        ca_files: registry.ca.iter().cloned().collect(),
        registries: GuardOptions {
            allow: vec![registry.host.clone(), open.host.clone()],
            insecure: vec![open.host.clone()],
            ..GuardOptions::default()
        },
        ..LookupOptions::default()
    };
    let inspector = Inspector::new(options).unwrap().with_pull_secrets(secrets.clone());
    let state = bare_state().await;
    let look = async |image: &str, secrets: serde_json::Value| {
        let pod =
            json!({"spec": {"imagePullSecrets": secrets, "containers": [{"name": "a", "image": image}]}});
        let workload = workload::read(&pod.to_string(), Kind::Pod, "shop").unwrap();
        let found = examine::inspect(&state, &inspector, &workload, AMPLE).await;
        found.containers[0].class()
    };
    let private = registry.image("private/app:v1");
    let mine = json!([{"name": "regcred"}]);
    assert_eq!(look(&private, json!([])).await, ProgramClass::Unread);
    assert_eq!(look(&private, mine.clone()).await, ProgramClass::Linux);
    assert_eq!(
        look(&private, json!([])).await,
        ProgramClass::Unread,
        "no pod is served from another's secret"
    );
    assert_eq!(look(&private, json!([{"name": "other"}])).await, ProgramClass::Unread);
    // Nor by its digest, which a pod that was pinned names, and which a reader of that pod may pass on.
    let pinned = format!("{private}@{digest}");
    assert_eq!(look(&pinned, json!([])).await, ProgramClass::Unread, "nor by the digest");
    let lookups = inspector.stats().lookups;
    assert_eq!(look(&pinned, mine.clone()).await, ProgramClass::Linux);
    assert_eq!(
        inspector.stats().lookups,
        lookups,
        "the secret has opened the tag, so its digest costs no request"
    );
    let elsewhere = format!("{}@{digest}", open.image("public/other"));
    assert_eq!(
        look(&elsewhere, mine.clone()).await,
        ProgramClass::Unread,
        "nor in a repository that lacks it"
    );
    // A public image costs no look at the secret once it is known.
    let public = open.image("public/app:v1");
    assert_eq!(look(&public, mine.clone()).await, ProgramClass::Linux);
    let before = secrets.asked.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(look(&public, mine.clone()).await, ProgramClass::Linux);
    }
    assert_eq!(secrets.asked.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn what_a_revoked_pull_secret_had_opened_is_refused_once_the_registry_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let (image, status) = (linux_image("/bin/app"), Arc::new(AtomicU16::new(200)));
    let known = Digest::of(&image.manifest);
    let config = image.config.clone();
    let web = Web::start({
        let status = Arc::clone(&status);
        move |_, asked| match (&asked.authorization, status.load(Ordering::SeqCst)) {
            (None, _) => (401, "www-authenticate: Basic realm=\"r\"\r\n".into(), Vec::new()),
            (Some(_), 200) if asked.line.contains("/blobs/") => ok(config.clone()),
            (Some(_), 200) => ok(image.manifest.clone()),
            (Some(_), status) => (status, String::new(), Vec::new()),
        }
    })
    .await;
    let gate = || {
        let store = Some(folder.path().join("store"));
        // Everything that ages is asked for again at once.
        let options = LookupOptions {
            store,
            tag_ttl: Duration::ZERO,
            failure_ttl: Duration::ZERO,
            ..options(&web.host)
        };
        let secrets = OneSecret { host: web.host.clone(), asked: AtomicUsize::new(0) };
        Inspector::new(options).unwrap().with_pull_secrets(Arc::new(secrets))
    };
    let puller = Puller {
        namespace: "shop".into(),
        pull_secrets: vec!["regcred".into()],
        service_account: String::new(),
    };
    let tag = web.image("private/app:v1");
    let pinned = format!("{tag}@{known}");
    let look = async |gate: &Inspector, image: &str| {
        gate.inspect_for(image, Depth::Config, AMPLE, &puller).await.map(|facts| facts.digest.clone())
    };
    let first = gate();
    for image in [&tag, &pinned] {
        assert_eq!(look(&first, image).await.unwrap(), known, "{image}");
    }
    status.store(503, Ordering::SeqCst);
    assert_eq!(look(&first, &pinned).await.unwrap(), known, "the registry says nothing about the secret");
    drop(first);
    status.store(403, Ordering::SeqCst);
    let restarted = gate();
    for image in [&pinned, &tag] {
        for _ in 0..2 {
            let error = look(&restarted, image).await.unwrap_err();
            assert!(matches!(*error, lookup::Error::Fetch(Error::AuthorizeFetch { .. })), "{image}: {error}");
        }
    }
}

// === Registries that ask for a pause, or are gone ===

#[tokio::test]
async fn retry_after_pauses_the_whole_registry() {
    for (status, words) in [(429, "wait 2 s"), (503, "503 and is not asked for 2 s")] {
        let web = Web::start(move |_, _| (status, "retry-after: 2\r\n".into(), Vec::new())).await;
        let source = source(&options(&web.host));
        let error = manifest_error(&source, &web.image("a:1")).await.to_string();
        assert!(error.contains(words), "{error}");
        let error = manifest_error(&source, &web.image("other:1")).await.to_string();
        assert!(error.contains("asked to be left alone for another"), "{error}");
        assert_eq!(web.asked().len(), 1);
        until("the end of the pause", async || {
            let _ = manifest_error(&source, &web.image("a:1")).await;
            web.asked().len() == 2
        })
        .await;
    }
}

#[tokio::test]
async fn a_registry_that_fails_once_is_retried_at_once() {
    for first in [500, 502, 503] {
        let web =
            Web::start(move |number, _| if number == 0 { (first, String::new(), vec![]) } else { ok("{}") });
        let web = web.await;
        source(&options(&web.host)).manifest(&reference(&web.image("a:1")), LIMIT).await.unwrap();
        assert_eq!(web.asked().len(), 2, "{first}");
    }
    let web = Web::start(|_, _| (404, String::new(), vec![])).await;
    let _ = manifest_error(&source(&options(&web.host)), &web.image("a:1")).await;
    assert_eq!(web.asked().len(), 1, "an answer is an answer");
}

#[tokio::test]
async fn a_silent_registry_gets_no_requests_until_it_recovers_and_known_tags_stay_valid() {
    let mut registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let options = LookupOptions {
        tag_ttl: Duration::from_millis(50),
        failure_ttl: Duration::from_millis(1),
        breaker: BreakerOptions {
            failures: 3,
            open_for: Duration::from_millis(700),
            ..BreakerOptions::default()
        },
        ..options(&registry.host)
    };
    let inspector = Inspector::new(options).unwrap();
    let image = registry.image("app:v1");
    inspect(&inspector, &image).await.unwrap();
    registry.stop();
    for number in 0..3 {
        inspect(&inspector, &registry.image(&format!("new:{number}"))).await.unwrap_err();
    }
    let error = inspect(&inspector, &registry.image("new:9")).await.unwrap_err().to_string();
    assert!(error.contains("did not answer 3 requests in a row and is tried again in 1 s"), "{error}");
    assert_eq!(inspect(&inspector, &image).await.unwrap(), pushed, "what a tag meant is still served");
    let mut number = 10;
    until("one request that tries", async || {
        number += 1;
        let error = inspect(&inspector, &registry.image(&format!("new:{number}"))).await.unwrap_err();
        error.to_string().contains("refused the connection")
    })
    .await;
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_their_content_is_verified() {
    let registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let liar = Web::start(|_, _| ok("{}")).await;
    let empty = Web::start(|_, _| (404, String::new(), vec![])).await;
    let mirrors = vec![liar.host.clone(), empty.host.clone(), registry.host.clone()];
    let options = LookupOptions {
        mirrors: BTreeMap::from([("gone.invalid".to_string(), mirrors)]),
        registries: GuardOptions {
            insecure: vec![liar.host.clone(), empty.host.clone(), registry.host.clone()],
            ..GuardOptions::default()
        },
        ..LookupOptions::default()
    };
    let source = source(&options);
    let pinned = reference(&format!("gone.invalid/app@{pushed}"));
    assert_eq!(source.manifest(&pinned, LIMIT).await.unwrap().digest, pushed);
    assert_eq!((liar.asked().len(), empty.asked().len()), (1, 1));
    assert_eq!(liar.asked()[0].line, format!("GET /v2/app/manifests/{pushed}?ns=gone.invalid"));
    let error = manifest_error(&source, &registry.image("app:v1")).await;
    assert!(matches!(error, Error::RefuseRegistry { .. }), "a pod may not name a mirror: {error}");
}

#[tokio::test]
async fn a_cold_look_up_of_an_artifact_takes_three_requests() {
    let registry = Registry::start();
    push_artifact(&registry, "wasm/hello:1");
    let before = registry.requests("GET", "/v2/");
    let inspector = Arc::new(inspector(&registry.host));
    let image = registry.image("wasm/hello:1");
    let ask = |_| {
        let (inspector, image) = (Arc::clone(&inspector), image.clone());
        tokio::spawn(async move { inspector.inspect(&image, Depth::Layers, AMPLE).await.unwrap().kind })
    };
    let asked: Vec<_> = (0..1000).map(ask).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), ImageKind::Module);
    }
    assert_eq!(inspector.stats().lookups, 1);
    let requests = |part: &str| registry.requests("GET", part);
    assert_eq!(requests("/manifests/"), 1);
    assert_eq!(requests("/v2/") - before, 3, "manifest, config and layer, and nothing else");
}

#[tokio::test]
async fn a_helper_s_credentials_open_a_registry_and_are_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let registry = Registry::start_with_tls_and_password();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let folder = tempfile::tempdir().unwrap();
    let helper = |name: &str, secret: &str| {
        let file = folder.path().join(format!("docker-credential-{name}"));
        let output = json!({"ServerURL": "x", "Username": USER, "Secret": secret});
        fs::write(&file, format!("#!/bin/sh\necho '{output}'\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let config = folder.path().join(format!("{name}.json"));
        fs::write(&config, json!({"credHelpers": {&registry.host: name}}).to_string()).unwrap();
        let options = LookupOptions {
            registries: GuardOptions { allow: vec![registry.host.clone()], ..GuardOptions::default() },
            ca_files: registry.ca.iter().cloned().collect(),
            docker_config: Some(config),
            credential_helpers: Some(folder.path().into()),
            ..LookupOptions::default()
        };
        Inspector::new(options).unwrap()
    };
    let image = registry.image("app:v1");
    assert_eq!(inspect(&helper("right", PASSWORD), &image).await.unwrap(), pushed);
    let error = inspect(&helper("wrong", "not-the-password"), &image).await.unwrap_err();
    assert!(error.to_string().contains("refused the credentials (401)"), "{error}");
    assert!(!format!("{error} {error:?}").contains("not-the-password"));
}

#[tokio::test]
async fn a_configured_proxy_is_asked_instead_of_the_registry() {
    let proxy = Web::start(|_, _| ok("{}")).await;
    let options = RegistryOptions {
        proxy: Some(ProxyOptions { url: format!("http://proxy.corp:{}", proxy.port), except: Vec::new() }),
        ..RegistryOptions::default()
    };
    // Only the proxy's own name is resolved here, and it may have any address; literal addresses still meet the rules.
    let names = Names::new(&[("proxy.corp", &["127.0.0.1"])]);
    let source = guarded_with(&["*"], &["registry.example:5000", "10.0.0.1:5000"], names, &options);
    source.manifest(&reference("registry.example:5000/a:1"), LIMIT).await.unwrap();
    assert_eq!(proxy.asked()[0].line, "GET http://registry.example:5000/v2/a/manifests/1");
    let error = manifest_error(&source, "10.0.0.1:5000/a:1").await;
    assert!(matches!(error, Error::RefuseRegistry { .. }), "{error}");
    assert_eq!(proxy.asked().len(), 1);
}
