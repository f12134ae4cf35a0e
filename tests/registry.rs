//! Images out of a real registry, out of layouts that real tools wrote, and out of servers that go wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "helpers of tests say what they expect by unwrapping it, as tests do"
)]

mod support {
    pub mod fault;
    pub mod registry;
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::json;
use wasmgate::image::guard::{Guard, GuardOptions};
use wasmgate::image::layout::Layouts;
use wasmgate::image::reference::Reference;
use wasmgate::image::registry::{Registry as RegistrySource, RegistryOptions};
use wasmgate::image::source::{Descriptor, Source};
use wasmgate::image::{Depth, Error, ImageKind, Inspector, Options, Shape};

use support::fault::{Fault, Server};
use support::registry::{OCI_MANIFEST, PASSWORD, Registry, USER, digest};

const LIMIT: u64 = 4 << 20;
const AMPLE: Duration = Duration::from_secs(20);

/// What a machine that is busy with other tests may add to a bound.
const SLACK: Duration = Duration::from_millis(500);

/// A Linux image of one layer with one file in it: blobs and manifest.
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

/// Pushes a module in the shape of the CNCF Wasm OCI artifact with `oras`, as wkg's users do by hand.
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

/// Options that let the test's own registries be asked, and whose times no test waits for.
fn options(host: &str) -> Options {
    Options {
        registries: GuardOptions {
            allow: vec!["*".into(), host.into()],
            insecure: vec![host.into()],
            ..GuardOptions::default()
        },
        ..Options::default()
    }
}

/// The same for servers that go wrong.
fn impatient(host: &str) -> Options {
    Options {
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
fn source(options: &Options) -> RegistrySource {
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
    Descriptor { media_type: String::new(), digest: digest(bytes), size: bytes.len() as u64 }
}

fn reference(image: &str) -> Reference {
    Reference::parse(image).unwrap()
}

async fn inspect(inspector: &Inspector, image: &str) -> Result<String, Error> {
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
    let pinned = reference(&registry.image("team/app")).with_digest(&pushed);
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
    assert!(matches!(error, Error::TooLarge { limit: 10, .. }), "{error}");
    // The descriptor's claim is small, the blob is not.
    let claim = Descriptor { size: 1, ..descriptor(&image.layer) };
    let error = source.blob(&name, &claim, 10).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 10, .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let registry = Registry::start();
    push_linux(&registry, "app:v1", "/bin/app").await;
    let inspector = inspector(&registry.host);
    let error = inspect(&inspector, &registry.image("app:v2")).await.unwrap_err();
    assert!(matches!(error, Error::FindImage { .. }), "{error}");
    assert!(error.to_string().contains("the tag `v2`"), "{error}");
    let error = inspect(&inspector, &registry.image("nobody/nothing:v1")).await.unwrap_err();
    assert!(matches!(error, Error::FindImage { .. }), "{error}");
    let absent = descriptor(b"never pushed");
    let name = reference(&registry.image("app:v1"));
    let error = source(&options(&registry.host)).blob(&name, &absent, LIMIT).await.unwrap_err();
    assert!(matches!(&error, Error::FetchBlob { digest, .. } if *digest == absent.digest), "{error}");
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
    let inspector = Inspector::new(Options { layouts: folders, ..Options::default() }).unwrap();
    let mapped = inspector.inspect("samples.test/hello:1", Depth::Config, AMPLE).await.unwrap();
    let target = format!("oci:{}/hello:1", layouts.path().display());
    let direct = inspector.inspect_layout(&target, Depth::Config).await.unwrap();
    assert_eq!((mapped.kind, &*mapped), (ImageKind::Module, &direct));
}

#[tokio::test]
async fn a_moved_tag_is_new_facts_once_its_time_is_over() {
    let registry = Registry::start();
    let first = push_linux(&registry, "app:v1", "/bin/first").await;
    let options = Options { tag_ttl: Duration::from_millis(300), ..options(&registry.host) };
    let inspector = Inspector::new(options).unwrap();
    let image = registry.image("app:v1");
    assert_eq!(inspect(&inspector, &image).await.unwrap(), first);
    let second = push_linux(&registry, "app:v1", "/bin/second").await;
    assert_eq!(inspect(&inspector, &image).await.unwrap(), first, "the tag is remembered");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(inspect(&inspector, &image).await.unwrap(), second);
    let pinned = format!("{image}@{first}");
    assert_eq!(inspect(&inspector, &pinned).await.unwrap(), first, "a digest does not move");
}

#[tokio::test]
async fn a_stopped_registry_leaves_known_tags_standing_and_new_images_fail_in_time() {
    let mut registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let options = Options { tag_ttl: Duration::from_millis(50), ..options(&registry.host) };
    let inspector = Inspector::new(options).unwrap();
    let image = registry.image("app:v1");
    assert_eq!(inspect(&inspector, &image).await.unwrap(), pushed);
    registry.stop();
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(inspect(&inspector, &image).await.unwrap(), pushed);
    assert_eq!(inspector.stats().stale, 1);
    let budget = Duration::from_secs(1);
    let start = Instant::now();
    let error = inspector.inspect(&registry.image("new:v1"), Depth::Config, budget).await.unwrap_err();
    assert!(start.elapsed() < budget + SLACK, "{:?}", start.elapsed());
    let expected = format!("`{}` refused the connection; is the registry running", registry.host);
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn an_image_that_was_deleted_is_gone() {
    let registry = Registry::start();
    let pushed = push_linux(&registry, "app:v1", "/bin/app").await;
    let options = Options { tag_ttl: Duration::from_millis(50), ..options(&registry.host) };
    let inspector = Inspector::new(options).unwrap();
    let image = registry.image("app:v1");
    inspect(&inspector, &image).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    registry.crane(folder.path(), &["delete", &registry.image(&format!("app@{pushed}"))]);
    tokio::time::sleep(Duration::from_millis(80)).await;
    let error = inspect(&inspector, &image).await.unwrap_err();
    assert!(matches!(error, Error::FindImage { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_reviews_of_one_new_image_are_one_look_up() {
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
async fn credentials_and_authorities_open_a_closed_registry() {
    let registry = Registry::start_with_tls_and_password();
    let pushed = push_linux(&registry, "private/app:v1", "/bin/app").await;
    let image = registry.image("private/app:v1");
    let folder = tempfile::tempdir().unwrap();
    let open = Options {
        registries: GuardOptions { allow: vec![registry.host.clone()], ..GuardOptions::default() },
        ca_files: registry.authority.iter().cloned().collect(),
        docker_config: Some(docker_config(folder.path(), &registry.host, PASSWORD)),
        ..options(&registry.host)
    };
    let found = source(&open).manifest(&reference(&image), LIMIT).await.unwrap();
    assert_eq!(found.digest, pushed);
    let layer = linux_image("/bin/app").layer;
    let blob = source(&open).blob(&reference(&image), &descriptor(&layer), LIMIT).await.unwrap();
    assert_eq!(&blob[..], &layer[..], "a blob is asked for with the credentials, also as the first thing");
    let fails = |docker_config, ca_files| {
        let source = source(&Options { docker_config, ca_files, ..open.clone() });
        let image = reference(&image);
        async move { source.manifest(&image, LIMIT).await.unwrap_err().to_string() }
    };
    let message = fails(None, open.ca_files.clone()).await;
    assert!(message.contains("wants credentials (401)") && message.contains("`dockerConfig`"), "{message}");
    let wrong = docker_config(folder.path(), &registry.host, "not-the-password");
    let message = fails(Some(wrong), open.ca_files.clone()).await;
    assert!(message.contains("refused the credentials (401)"), "{message}");
    assert!(!message.contains("not-the-password"), "{message}");
    let elsewhere = docker_config(folder.path(), "other.test", "for-somebody-else");
    let message = fails(Some(elsewhere), open.ca_files.clone()).await;
    assert!(message.contains("wants credentials (401)"), "{message}");
    let message = fails(open.docker_config.clone(), Vec::new()).await;
    assert!(
        message.contains("an authority that is not known here; add") && message.contains("`caFiles`"),
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

/// What an asker with this budget gets from a server with this fault, and how long it took.
async fn suffer(fault: Fault, budget: Duration) -> (Error, Duration) {
    let server = Server::start(fault.clone()).await;
    let inspector = Inspector::new(impatient(&server.host)).unwrap();
    let start = Instant::now();
    let error = inspector.inspect(&server.image("app:v1"), Depth::Config, budget).await.unwrap_err();
    let took = start.elapsed();
    println!("{:.60} → {took:?}: {error}", format!("{fault:?}"));
    assert!(took < budget + SLACK, "{fault:?} took {took:?}");
    assert!(server.asked() <= 2, "{fault:?} was asked {} times", server.asked());
    ((*error).clone(), took)
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
        let (error, _) = suffer(fault.clone(), budget).await;
        assert!(error.to_string().contains(part), "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn an_asker_without_time_leaves_and_the_look_up_ends_by_itself() {
    let (error, took) = suffer(Fault::Stall, Duration::from_millis(100)).await;
    assert!(matches!(error, Error::TimedOut { budget_ms: 100, .. }), "{error}");
    assert!(took < Duration::from_millis(100) + SLACK, "{took:?}");
}

#[tokio::test]
async fn bytes_with_another_digest_are_never_handed_out() {
    let body = b"{\"schemaVersion\":2}".to_vec();
    let server = Server::start(Fault::Body(body.clone())).await;
    let source = source(&options(&server.host));
    let right = reference(&server.image("app")).with_digest(&digest(&body));
    assert_eq!(source.manifest(&right, LIMIT).await.unwrap().bytes, body);
    let wrong = right.with_digest(&digest(b"other"));
    let error = source.manifest(&wrong, LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("digest") && error.contains(&digest(&body)), "{error}");
    let error = source.blob(&right, &descriptor(b"other"), LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::FetchBlob { .. }), "{error}");
    assert!(error.to_string().contains(&digest(&body)), "{error}");
}

#[tokio::test]
async fn faults_in_the_middle_of_a_blob_are_errors_of_that_blob() {
    for (fault, part) in [
        (Fault::Truncated(b"half".to_vec()), "cut the connection"),
        (Fault::Stall, "did not answer in time"),
        (Fault::Status(500, "", "boom"), "status 500: boom"),
        (Fault::Large { bytes: 50 << 20, announced: true }, "larger than the limit"),
        (Fault::Large { bytes: 50 << 20, announced: false }, "larger than the limit"),
    ] {
        let server = Server::start(fault.clone()).await;
        let source = source(&impatient(&server.host));
        let name = reference(&server.image("app:v1"));
        let error = source.blob(&name, &descriptor(b"wanted"), LIMIT).await.unwrap_err();
        assert!(error.to_string().contains(part), "{fault:?}: {error}");
    }
}
