//! Detection, from bytes as a registry serves them to facts: every shape, every look-alike, every limit.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;
use wasmgate::image::descriptor::Descriptor;
use wasmgate::image::reference::Reference;
use wasmgate::image::{
    Claim, Depth, Error, Feature, FileClass, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape,
    WasmFormat, entry::Start, module, platform::Nodes, program,
};
use wasmgate::lookup::SizeLimits;
use wasmgate::lookup::detect::{detect, detect_for};
use wasmgate::registry::source::{FetchedManifest, Slot, Source};
use wasmgate::runtime::{Family, Profile, Runtimes, runnable_by, warnings};

use crate::support::oci::{self, Image, ImageBuilder, fixtures};

/// An image in memory, and the requests for it.
struct Memory {
    image: Image,
    asked: Mutex<Vec<String>>,
}

impl Memory {
    fn new(image: &Image) -> Self {
        Self { image: image.clone(), asked: Mutex::default() }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Source for Memory {
    type Error = Error;

    async fn manifest(&self, reference: &Reference, _limit: u64) -> Result<FetchedManifest, Error> {
        let digest = reference.digest.as_ref().map_or_else(|| self.image.digest.clone(), ToString::to_string);
        self.asked.lock().unwrap().push(digest.clone());
        let under = self.image.manifests.get(&digest).map(|(_, bytes)| bytes.clone());
        let bytes = if digest == self.image.digest { Some(self.image.manifest.clone()) } else { under };
        let bytes = bytes.ok_or_else(|| Error::Read {
            image: reference.to_string(),
            what: "the manifest".into(),
            message: "not found".into(),
        })?;
        Ok(FetchedManifest { bytes: Bytes::from(bytes), digest: digest.parse().unwrap() })
    }

    async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        _limit: u64,
    ) -> Result<Bytes, Error> {
        self.asked.lock().unwrap().push(descriptor.digest.to_string());
        let bytes = self.image.blobs.get(descriptor.digest.as_str()).cloned();
        bytes.map(Bytes::from).ok_or_else(|| Error::Read {
            image: reference.to_string(),
            what: format!("blob {}", descriptor.digest),
            message: "not found".into(),
        })
    }
}

async fn look(source: &Memory, depth: Depth, limits: &SizeLimits) -> Result<ImageFacts, Error> {
    let reference = Reference::parse("registry.example.com/team/app:v1").unwrap();
    detect(source, &reference, depth, limits).await
}

async fn facts(image: &Image) -> ImageFacts {
    look(&Memory::new(image), Depth::Config, &SizeLimits::default()).await.unwrap()
}

async fn deep(image: &Image) -> ImageFacts {
    look(&Memory::new(image), Depth::Layers, &SizeLimits::default()).await.unwrap()
}

async fn refused(image: &Image) -> String {
    look(&Memory::new(image), Depth::Layers, &SizeLimits::default()).await.unwrap_err().to_string()
}

fn conclusion(facts: &ImageFacts) -> &str {
    let last = facts.evidence.last().unwrap();
    assert_eq!(last.seen, "conclusion");
    &last.value
}

fn functions(facts: &ModuleFacts, prefix: &str) -> Vec<String> {
    let found = facts.imports.iter().filter(|import| import.interface.starts_with(prefix));
    found.flat_map(|import| import.functions.iter().cloned()).collect()
}

fn started(facts: &ImageFacts, command: &[&str]) -> Program {
    let command: Vec<String> = command.iter().map(|word| (*word).to_string()).collect();
    program(facts, &command, &[])
}

#[tokio::test]
async fn a_cncf_artifact_is_recognised_by_its_media_types_and_judged_by_its_bytes() {
    let module = fixtures::command();
    let image = ImageBuilder::wasm_artifact(&module).build();
    let found = facts(&image).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Module, Shape::WasmArtifact));
    assert_eq!((found.digest.as_str(), found.manifest_digest.as_str()), (&*image.digest, &*image.digest));
    assert_eq!(found.platform, "wasip1/wasm");
    assert_eq!(found.modules[0].source, oci::digest(&module));
    assert_eq!(functions(&found.modules[0], "wasi_snapshot_preview1"), ["fd_write"]);
    assert!(found.warnings[0].contains("command"));
    let program = started(&found, &["/"]);
    assert_eq!(
        program,
        Program::Wasm { kind: ImageKind::Module, packaging: Packaging::Layers, modules: vec![0] }
    );
    let component = facts(&ImageBuilder::wasm_artifact(&fixtures::http_component()).build()).await;
    assert_eq!((component.kind, component.platform.as_str()), (ImageKind::HttpComponent, "wasip2/wasm"));
}

#[tokio::test]
async fn the_imports_that_a_config_claims_are_not_believed() {
    let mut builder = ImageBuilder::wasm_artifact(&fixtures::http_component());
    builder.set_config("component", json!({"imports": [], "exports": []}));
    let found = facts(&builder.build()).await;
    assert_eq!(functions(&found.modules[0], "wasi:http/outgoing-handler"), ["handle"]);
}

#[tokio::test]
async fn runwasi_layers_are_read_only_where_the_config_says_wasm() {
    let mut builder = ImageBuilder::runwasi(&fixtures::command(), "app.wasm");
    let found = facts(&builder.build()).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Module, Shape::RunwasiLayers));
    assert_eq!(found.entrypoint, ["app.wasm"]);
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].contains("1.6.25"), "{:?}", found.warnings);
    for architecture in ["amd64", "wasm32", "Wasm"] {
        builder.set_config("architecture", json!(architecture));
        let found = facts(&builder.build()).await;
        assert_eq!(found.kind, ImageKind::Unknown);
        assert!(conclusion(&found).contains(architecture), "{}", conclusion(&found));
        assert!(matches!(started(&found, &[]), Program::Unknown { .. }));
    }
}

/// A node knows an image by the digest of its config, so two manifests with one config are one image to it.
#[tokio::test]
async fn of_two_manifests_with_one_config_none_is_judged_that_the_config_does_not_name() {
    let (module, other) = (fixtures::command(), fixtures::file_command());
    let http = fixtures::http_component();
    let locked = fixtures::locked_app(&[&http], &json!({}));
    let named: [(ImageBuilder, &str, serde_json::Value); 3] = [
        (ImageBuilder::runwasi(&module, "app.wasm"), "config", json!({"Entrypoint": ["app.wasm"]})),
        (ImageBuilder::wasm_artifact(&module), "layerDigests", json!(null)),
        (ImageBuilder::spin(&locked, &[&http]), "config", json!({"Labels": {}})),
    ];
    for (mut builder, field, nameless) in named {
        assert!(facts(&builder.build()).await.kind.is_wasm());
        let image = builder.set_config(field, nameless).build();
        let found = facts(&image).await;
        assert_eq!((found.kind, found.shape), (ImageKind::Unknown, Shape::Other));
        assert!(conclusion(&found).contains("does not name its Wasm layer alone"), "{}", conclusion(&found));
    }
    let config = json!({"architecture": "wasm", "os": "wasip1", "layerDigests": [oci::digest(&module)]});
    let image = |layer: &[u8]| {
        ImageBuilder::new(oci::WASM_CONFIG, config.clone()).layer(oci::WASM_LAYER, layer.to_vec()).build()
    };
    let (good, evil) = (image(&module), image(&other));
    assert_eq!(good.config, evil.config);
    assert_eq!(facts(&good).await.kind, ImageKind::Module);
    assert_eq!(facts(&evil).await.kind, ImageKind::Unknown);
    let labels = json!({"Labels": {"a": oci::digest(&module), "b": oci::digest(&other)}});
    for layer in [&module, &other] {
        let both = ImageBuilder::runwasi(layer, "app.wasm").set_config("config", labels.clone()).build();
        assert_eq!(facts(&both).await.kind, ImageKind::Unknown, "one that names two is that of neither");
    }
}

#[tokio::test]
async fn a_spin_app_lists_what_each_component_is_handed() {
    let (one, two) = (fixtures::http_component(), fixtures::file_command());
    let metadata = json!({"allowed_outbound_hosts": ["https://{{ host }}"], "key_value_stores": ["default"]});
    let mut locked = fixtures::locked_app(&[&one, &two], &metadata);
    let library = fixtures::wat("(module (func (export \"f\") nop))");
    let shared = fixtures::command();
    locked["components"][0]["dependencies"] = json!({
        "isolated": {"source": {"content_type": "application/wasm", "digest": oci::digest(&library)}},
        "shared": {"source": {"content_type": "application/wasm", "digest": oci::digest(&shared)}, "inherit": "All"}});
    let image = ImageBuilder::spin(&locked, &[&one, &two, &library, &shared]).build();
    let found = facts(&image).await;
    assert_eq!((found.kind, found.shape), (ImageKind::SpinApp, Shape::SpinArtifact));
    assert_eq!(found.platform, "wasip1/wasm");
    let app = found.spin.as_ref().unwrap();
    assert_eq!(app.components[0].allowed_outbound_hosts, ["https://{{ host }}"]);
    assert_eq!(app.components[0].inherited, [oci::digest(&shared)]);
    let owners: Vec<Option<&str>> = found.modules.iter().map(|module| module.component.as_deref()).collect();
    assert_eq!(
        owners,
        [Some("component-0"), Some("component-1"), Some("component-0"), Some("component-0")],
        "a dependency that inherits nothing counts by what Spin does not keep from it"
    );
    let Program::Wasm { kind: ImageKind::SpinApp, modules, .. } = started(&found, &["/"]) else { panic!() };
    assert_eq!(modules, [0, 1, 2, 3]);
}

#[tokio::test]
async fn one_module_of_two_spin_components_is_judged_for_both() {
    let module = fixtures::http_component();
    let locked = fixtures::locked_app(&[&module, &module], &json!({}));
    let found = facts(&ImageBuilder::spin(&locked, &[&module]).build()).await;
    let owners: Vec<&str> = found.modules.iter().filter_map(|module| module.component.as_deref()).collect();
    assert_eq!(owners, ["component-0", "component-1"]);
}

#[tokio::test]
async fn a_spin_app_that_spin_would_refuse_is_refused_or_unknown() {
    let module = fixtures::http_component();
    let locked = fixtures::locked_app(&[&module], &json!({}));
    let error = refused(&ImageBuilder::spin(&locked, &[&fixtures::command()]).build()).await;
    assert!(error.contains("not a layer of the image"), "{error}");
    let mut newer = locked.clone();
    newer["spin_lock_version"] = json!(7);
    let error = refused(&ImageBuilder::spin(&newer, &[&module]).build()).await;
    assert!(
        error.contains("could not read the locked app of") && error.contains("`spin_lock_version`"),
        "{error}"
    );
    let empty = facts(&ImageBuilder::spin(&fixtures::locked_app(&[], &json!({})), &[]).build()).await;
    assert_eq!(empty.kind, ImageKind::Unknown);
    let package = fixtures::wit_package();
    let locked = fixtures::locked_app(&[&package], &json!({}));
    let found = facts(&ImageBuilder::spin(&locked, &[&package]).build()).await;
    assert!(conclusion(&found).contains("no code"), "{}", conclusion(&found));
}

#[tokio::test]
async fn buildx_images_are_read_through_their_index_with_its_warnings() {
    let mut builder = ImageBuilder::rootfs("wasi/wasm", &["/app.wasm"]);
    let image = builder.files(&[("app.wasm", &fixtures::command())]).build();
    let index = image.with_attestation("wasi/wasm");
    let found = facts(&index).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Module, Shape::WasmRootfs));
    assert_eq!((found.digest.as_str(), found.manifest_digest.as_str()), (&*index.digest, &*image.digest));
    assert!(found.warnings.iter().any(|warning| warning.contains("--provenance=false")));
    assert!(found.warnings.iter().any(|warning| warning.contains("use_local_image_pull")));
    let Program::Wasm { packaging, .. } = started(&found, &[]) else { panic!() };
    assert_eq!(packaging, Packaging::RootFilesystem);
    // runwasi's demo image: the same without an index.
    let mut builder = ImageBuilder::rootfs("wasip1/wasm", &["/app.wasm"]);
    let found = facts(&builder.files(&[("app.wasm", &fixtures::command())]).build()).await;
    assert_eq!((found.kind, found.warnings.len()), (ImageKind::Module, 1));
}

#[tokio::test]
async fn an_index_with_linux_and_wasm_is_linux_because_a_node_pulls_only_its_own_platform() {
    let mut wasm = ImageBuilder::rootfs("wasi/wasm", &["/app.wasm"]);
    let wasm = wasm.files(&[("app.wasm", &fixtures::command())]).build();
    let mut linux = ImageBuilder::rootfs("linux/amd64", &["/bin/app"]);
    let linux = linux.files(&[("bin/app", b"\x7fELF....")]).build();
    let found = facts(&Image::index(&[("wasi/wasm", &wasm), ("linux/amd64", &linux)])).await;
    assert_eq!((found.kind, found.manifest_digest.as_str()), (ImageKind::Linux, &*linux.digest));
    assert!(found.evidence[0].value.contains("wasi/wasm"), "{:?}", found.evidence);
    assert!(found.warnings[0].contains("wasi/wasm"));
    let windows = facts(&Image::index(&[("windows/amd64", &linux)])).await;
    assert!(conclusion(&windows).contains("`windows/amd64`"), "{}", conclusion(&windows));
}

#[tokio::test]
async fn a_scratch_image_is_wasm_by_the_file_that_its_entry_point_names() {
    for (entrypoint, name, bytes) in [
        ("/app.wasm", "app.wasm", fixtures::command()),
        ("/app.wasm#_start", "app.wasm", fixtures::command()),
        ("app.wasm", "srv/app.wasm", fixtures::command()),
        ("/app.wat", "app.wat", br#"(module (func (export "_start")))"#.to_vec()),
    ] {
        let mut builder = ImageBuilder::rootfs("linux/amd64", &[entrypoint]);
        if name.starts_with("srv") {
            builder.set("WorkingDir", json!("/srv"));
        }
        let found = facts(&builder.files(&[(name, &bytes)]).build()).await;
        assert_eq!((found.kind, found.shape), (ImageKind::Module, Shape::ScratchRootfs), "{entrypoint}");
        assert_eq!(found.files, [(format!("/{name}"), FileClass::Wasm)]);
        assert!(found.scanned && found.warnings.is_empty());
    }
}

/// An archive of one file whose header says that it is one: without a type, as the crate `tar` leaves it, it may replace nothing.
fn typed(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = oci::tar_header(tar::EntryType::Regular, 0o755, content.len() as u64);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn later_layers_decide_what_the_entry_point_is() {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    builder.files(&[("app.wasm", &fixtures::command())]);
    let with = |builder: &ImageBuilder, name: &str, content: &[u8]| {
        builder.clone().layer(oci::GZIP_LAYER, oci::gzip(&typed(name, content))).build()
    };
    let found = facts(&with(&builder, "app.wasm", &fixtures::file_command())).await;
    assert_eq!(functions(&found.modules[0], "wasi"), ["environ_get", "path_open"]);
    let found = facts(&with(&builder, ".wh.app.wasm", b"")).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Unknown, Shape::LinuxRootfs));
    let found = facts(&with(&builder, "app.wasm", b"\x7fELF....")).await;
    assert_eq!(found.kind, ImageKind::Linux);
    let mut other = builder.clone();
    other.layer(oci::ZSTD_LAYER, oci::zstd(&typed("app.wasm", &fixtures::file_command())));
    assert_eq!(functions(&facts(&other.build()).await.modules[0], "wasi"), ["environ_get", "path_open"]);
}

#[tokio::test]
async fn an_ordinary_image_costs_two_requests_and_its_layers_only_when_asked() {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/bin/app"]);
    builder.set("Env", json!(["PATH=/bin", "TOKEN=secret"]));
    builder.files(&[("bin/app", b"\x7fELF...."), ("opt/tool.bin", &fixtures::command())]);
    let source = Memory::new(&builder.build());
    let found = look(&source, Depth::Config, &SizeLimits::default()).await.unwrap();
    assert_eq!((found.kind, found.shape, found.scanned), (ImageKind::Linux, Shape::LinuxRootfs, false));
    assert_eq!(found.env, ["PATH", "TOKEN"]);
    assert_eq!(source.asked(), 2);
    assert!(!serde_json::to_string(&found).unwrap().contains("secret"));
    let found = look(&source, Depth::Layers, &SizeLimits::default()).await.unwrap();
    assert_eq!((found.kind, found.scanned), (ImageKind::Linux, true));
    assert_eq!(started(&found, &["/bin/app"]), Program::Linux);
    // A file whose bytes are Wasm is a Wasm program, whatever its name.
    assert!(matches!(started(&found, &["/opt/tool.bin"]), Program::Wasm { .. }));
}

#[tokio::test]
async fn native_code_in_a_wasm_layer_is_reported() {
    let elf = b"\x7fELF precompiled".as_slice();
    for image in [
        ImageBuilder::wasm_artifact(elf).build(),
        ImageBuilder::runwasi(elf, "app.wasm").build(),
        ImageBuilder::spin(&fixtures::locked_app(&[elf], &json!({})), &[elf]).build(),
    ] {
        let found = facts(&image).await;
        assert_eq!((found.kind, found.native.len()), (ImageKind::Unknown, 1));
        assert!(matches!(started(&found, &["/"]), Program::Native { magic, .. } if magic == "ELF"));
    }
    let mut builder = ImageBuilder::rootfs("wasi/wasm", &["/bin/sh"]);
    let found =
        facts(&builder.files(&[("bin/sh", b"#!/bin/x"), ("app.wasm", &fixtures::command())]).build()).await;
    assert_eq!(found.kind, ImageKind::Unknown);
    assert!(matches!(started(&found, &[]), Program::Native { magic, .. } if magic == "#!"));
    assert!(matches!(started(&found, &["/app.wasm"]), Program::Wasm { .. }));
    assert!(matches!(started(&found, &["/none"]), Program::Unknown { .. }));
}

#[tokio::test]
async fn lookalikes_are_unknown_and_their_layers_are_not_fetched() {
    let module = fixtures::command();
    let with = |config: &str, layer: &str| {
        let mut builder = ImageBuilder::new(config, json!({}));
        builder.layer(layer, module.clone()).build()
    };
    let prototype = |artifact_type: &str| {
        let mut builder = ImageBuilder::new("application/vnd.oci.empty.v1+json", json!({}));
        builder.extra = json!({"artifactType": artifact_type});
        builder.layer(oci::WASM_LAYER, module.clone()).build()
    };
    let cases = [
        (with("application/vnd.wasm.config.v1+json", oci::SPIN_LAYER), "wasm-to-oci"),
        (
            with(
                "application/vnd.module.wasm.config.v1+json",
                "application/vnd.module.wasm.content.layer.v1+wasm",
            ),
            "proxy-wasm",
        ),
        (with("application/vnd.oci.empty.v1+json", oci::WASM_LAYER), "empty config"),
        (
            with("application/vnd.wasmcloud.config", "application/vnd.module.wasm.content.layer.v1+wasm"),
            "only a wasmCloud host starts",
        ),
        (prototype("application/vnd.bytecodealliance.component.v1+wasm"), "first prototype"),
        (prototype("application/vnd.bytecodealliance.module.v1+wasm"), "first prototype"),
        (prototype("application/vnd.wasm.component.v1+wasm"), "`wkg oci push`"),
        (with("application/vnd.cncf.helm.config.v1+json", "application/x"), "helm"),
    ];
    for (image, expected) in cases {
        let source = Memory::new(&image);
        let found = look(&source, Depth::Layers, &SizeLimits::default()).await.unwrap();
        assert_eq!((found.kind, found.shape), (ImageKind::Unknown, Shape::Other));
        assert!(conclusion(&found).contains(expected), "{}", conclusion(&found));
        assert_eq!(source.asked(), 1);
        assert!(matches!(started(&found, &["/"]), Program::Unknown { reason } if reason.contains(expected)));
    }
    let package = facts(&ImageBuilder::wasm_artifact(&fixtures::wit_package()).build()).await;
    assert_eq!(package.kind, ImageKind::Unknown);
    assert!(conclusion(&package).contains("WIT package"));
}

#[tokio::test]
async fn an_image_that_nothing_starts_suggests_wasm_by_its_documents_and_not_by_what_evidence_shows() {
    let with = |config: serde_json::Value, layers: &[&str]| {
        let mut builder = ImageBuilder::new(oci::OCI_CONFIG, config);
        for layer in layers {
            builder.layer(layer, layer.as_bytes().to_vec());
        }
        builder.build()
    };
    let of_linux =
        |word: &str| json!({"os": "linux", "architecture": "amd64", "config": {"Entrypoint": [word]}});
    let (long, erofs) = (format!("application/{}", "a".repeat(200)), "application/vnd.erofs.layer.v1");
    for (image, suggests_wasm) in [
        (with(of_linux("/bin/app"), &[long.as_str(), oci::WASM_LAYER, oci::RUNWASI_LAYER]), true),
        (with(of_linux("/bin/app"), &[erofs]), false),
        (with(of_linux("/app.wasm"), &[erofs]), true),
        (with(json!({"os": "wasip1", "architecture": "wasm"}), &[erofs]), true),
    ] {
        let found = facts(&image).await;
        let evidence = &found.evidence;
        assert_eq!((found.shape, found.suggests_wasm()), (Shape::Other, suggests_wasm), "{evidence:?}");
    }
}

#[tokio::test]
async fn an_image_that_nothing_starts_is_not_known_without_its_config_unless_its_manifest_says_wasm() {
    let without_config = |layers: &[&str]| {
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Entrypoint": ["/app.wasm"]}});
        let mut builder = ImageBuilder::new(oci::OCI_CONFIG, config);
        for layer in layers {
            builder.layer(layer, layer.as_bytes().to_vec());
        }
        let mut image = builder.build();
        image.blobs.remove(&oci::digest(&image.config)).unwrap();
        image
    };
    let erofs = without_config(&["application/vnd.erofs.layer.v1"]);
    let (index, config) = (Image::index(&[("linux/amd64", &erofs)]), oci::digest(&erofs.config));
    for image in [&erofs, &index] {
        let error = refused(image).await;
        assert!(error.contains(&config), "{error}");
    }
    let found = facts(&without_config(&[oci::WASM_LAYER, oci::RUNWASI_LAYER])).await;
    assert_eq!((found.shape, found.suggests_wasm()), (Shape::Other, true), "{:?}", found.evidence);
}

#[tokio::test]
async fn sizes_are_refused_before_and_after_the_transfer() {
    let module = fixtures::command();
    let image = ImageBuilder::wasm_artifact(&module).build();
    let tight = SizeLimits { layer: 16, ..SizeLimits::default() };
    let source = Memory::new(&image);
    let error = look(&source, Depth::Config, &tight).await.unwrap_err();
    assert!(
        matches!(&error, Error::TooLarge { what, limit: 16, .. } if what.starts_with("layer sha256:")),
        "{error}"
    );
    assert_eq!(source.asked(), 2, "the layer must not be asked for");
    // A descriptor with a false size.
    let mut document: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    document["layers"][0]["size"] = json!(1);
    let mut liar = image.clone();
    liar.manifest = serde_json::to_vec(&document).unwrap();
    liar.digest = oci::digest(&liar.manifest);
    let error = look(&Memory::new(&liar), Depth::Config, &tight).await.unwrap_err();
    assert!(error.to_string().contains("where its descriptor says 1"), "{error}");
    for limits in [
        SizeLimits { manifest: 10, ..SizeLimits::default() },
        SizeLimits { config: 10, ..SizeLimits::default() },
    ] {
        let error = look(&Memory::new(&image), Depth::Config, &limits).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 10, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_layer_that_unpacks_to_too_much_is_refused() {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    builder.files(&[("zeros", &vec![0; 4 << 20]), ("app.wasm", &fixtures::command())]);
    let image = builder.build();
    assert!(image.blobs.values().all(|blob| blob.len() < 64 << 10));
    let limits = SizeLimits { unpacked: 1 << 20, ..SizeLimits::default() };
    let error = look(&Memory::new(&image), Depth::Config, &limits).await.unwrap_err();
    assert!(matches!(&error, Error::TooLarge { what, .. } if what.contains("unpacked")), "{error}");
    assert!(error.to_string().ends_with("limit of 1048576 bytes (`images.limits.unpacked`)"), "{error}");
    assert!(look(&Memory::new(&image), Depth::Config, &SizeLimits::default()).await.is_ok());
}

#[tokio::test]
async fn layers_that_unpack_to_too_much_together_are_not_said_to_be_too_large_each() {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    for name in ["a", "b", "c", "d", "e", "f"] {
        builder.files(&[(name, &vec![0; 800 << 10])]);
    }
    let image = builder.build();
    let limits = SizeLimits { unpacked: 1 << 20, ..SizeLimits::default() };
    let error = look(&Memory::new(&image), Depth::Config, &limits).await.unwrap_err().to_string();
    assert!(error.starts_with("all layers together, unpacked, of `"), "{error}");
    assert!(error.ends_with("limit of 4194304 bytes (four times `images.limits.unpacked`)"), "{error}");
}

#[tokio::test]
async fn malformed_parts_are_named() {
    let good = fixtures::command();
    let error = refused(&ImageBuilder::wasm_artifact(&good[..good.len() - 3]).build()).await;
    assert!(
        error.contains("could not read layer sha256:") && error.contains("not a valid Wasm binary"),
        "{error}"
    );
    let error = refused(&ImageBuilder::runwasi(b"<html>", "x").build()).await;
    assert!(error.contains("does not begin with"), "{error}");
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    let error = refused(&builder.layer(oci::TAR_LAYER, b"not a tar".to_vec()).build()).await;
    assert!(error.contains("could not read layer sha256:"), "{error}");
    let mut image = ImageBuilder::wasm_artifact(&good).build();
    image.manifest = b"<html>not found</html>".to_vec();
    image.digest = oci::digest(&image.manifest);
    assert!(refused(&image).await.contains("could not read the manifest of"));
    let nested = Image::index(&[("linux/amd64", &Image::index(&[]))]);
    assert!(refused(&nested).await.contains("another index"));
    // A malformed file in a root file system concerns its entry point, not the whole image.
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    let found = facts(&builder.files(&[("app.wasm", &good[..good.len() - 3])]).build()).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Unknown, Shape::ScratchRootfs));
    assert!(conclusion(&found).contains("not a valid Wasm binary"), "{}", conclusion(&found));
}

/// Text with which an image tries to start a line of its own, and to hide that.
const FORGED: &str = "x\n2026-01-01 INFO admitted\u{1b}[2K\u{202e}\u{2028}";

#[tokio::test]
async fn no_text_of_an_image_can_forge_a_log_line_or_an_annotation() {
    let harmless = |text: &str| {
        assert!(!text.contains(|c: char| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{text:?}");
        text.to_string()
    };
    let mut artifact = ImageBuilder::wasm_artifact(&fixtures::http_component());
    artifact.set("artifactType", json!(FORGED)).set("annotations", json!({"run.oci.handler": FORGED}));
    artifact.set_config("os", json!(FORGED));
    artifact.set_config("component", json!({"imports": [FORGED], "exports": []}));
    let mut rootfs = ImageBuilder::rootfs(&format!("{FORGED}/wasm"), &[FORGED, "/app.wasm"]);
    rootfs.files(&[("app.wasm", b"\0asm"), (FORGED, b"\0asm")]);
    let mut platform = ImageBuilder::rootfs("wasi/wasm", &["/app.wasm"]);
    platform.set_config("architecture", json!("wasm")).set_config("os", json!(FORGED));
    let mut shown = Vec::new();
    for image in [artifact.build(), rootfs.build(), platform.build()] {
        let facts = deep(&image).await;
        let evidence = facts.evidence.iter().flat_map(|evidence| [&evidence.seen, &evidence.value]);
        let claims = facts.claims.iter().flat_map(|claim| [&claim.field, &claim.claimed, &claim.found]);
        shown.extend(evidence.chain(claims).chain(&facts.warnings).map(|text| harmless(text)));
        for command in [&[][..], &[FORGED], &["/absent\n.wasm"]] {
            if let Program::Unknown { reason } = started(&facts, command) {
                shown.push(harmless(&reason));
            }
        }
    }
    let module = fixtures::command();
    for key in ["spin_lock_version", "must_understand", "host_requirements"] {
        let mut locked = fixtures::locked_app(&[&module], &json!({}));
        locked[key] = json!([FORGED]);
        shown.push(harmless(&refused(&ImageBuilder::spin(&locked, &[&module]).build()).await));
    }
    let name: String = FORGED.chars().flat_map(char::escape_unicode).collect();
    let twice =
        fixtures::wat(&format!("(module (func) (export \"{name}\" (func 0)) (export \"{name}\" (func 0)))"));
    let unread = ImageBuilder::wasm_artifact(&twice).build();
    shown.push(harmless(&refused(&unread).await));
    assert!(shown.iter().filter(|text| text.contains(r"x\n2026-01-01 INFO")).count() > 6, "{shown:#?}");
}

#[tokio::test]
async fn an_index_whose_platforms_hold_different_wasm_is_unknown() {
    let with = |module: &[u8], platform: &str| {
        let mut builder = ImageBuilder::rootfs(platform, &["/app.wasm"]);
        builder.files(&[("app.wasm", module)]).build()
    };
    let amd = with(&fixtures::command(), "linux/amd64");
    let arm = with(&fixtures::command(), "linux/arm64");
    let same = facts(&Image::index(&[("linux/amd64", &amd), ("linux/arm64", &arm)])).await;
    assert_eq!(same.kind, ImageKind::Module);
    let evil = with(&fixtures::file_command(), "linux/arm64");
    let different = facts(&Image::index(&[("linux/amd64", &amd), ("linux/arm64", &evil)])).await;
    assert_eq!(different.kind, ImageKind::Unknown);
    assert!(conclusion(&different).contains("linux/arm64"), "{}", conclusion(&different));
}

#[tokio::test]
async fn only_platforms_that_a_node_may_pull_are_read() {
    let program = |wasm: &[u8]| {
        let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
        builder.files(&[("app.wasm", wasm)]).build()
    };
    let (same, other) = (program(&fixtures::command()), program(&fixtures::file_command()));
    let reference = Reference::parse("registry.example.com/team/app:v1").unwrap();
    for (platform, nodes, read) in [
        ("linux/s390x", &[][..], true),
        ("linux/s390x", &["amd64", "arm64"], false),
        ("linux/s390x", &["amd64", "s390x"], true),
        // A node that finds nothing better takes them.
        ("linux/386", &["x86_64"], true),
        ("linux/arm", &["AArch64"], true),
        ("linux/arm", &["amd64"], false),
        ("wasi/wasm", &["amd64"], false),
    ] {
        let source = Memory::new(&Image::index(&[("linux/amd64", &same), (platform, &other)]));
        let nodes = Nodes::of(&nodes.iter().map(ToString::to_string).collect::<Vec<_>>());
        let limits = SizeLimits::default();
        let found = detect_for(&nodes, Slot::default(), &source, &reference, Depth::Layers, &limits).await;
        let kind = if read { ImageKind::Unknown } else { ImageKind::Module };
        assert_eq!(found.unwrap().kind, kind, "{platform} {nodes:?}");
        assert_eq!(source.asked.lock().unwrap().contains(&other.digest), read, "{platform} {nodes:?}");
    }
}

#[tokio::test]
async fn an_index_that_holds_nothing_for_the_nodes_is_said_to_hold_only_what_it_holds() {
    let program = |platform: &str| {
        let of_config = if platform.is_empty() { "linux/amd64" } else { platform };
        let mut builder = ImageBuilder::rootfs(of_config, &["/app.wasm"]);
        builder.files(&[("app.wasm", &fixtures::command())]).build()
    };
    let reference = Reference::parse("registry.example.com/team/app:v1").unwrap();
    let cases: [(&[&str], &[&str], Option<&str>); 9] = [
        (&["linux/arm64"], &["amd64"], Some("linux/arm64")),
        (&["linux/arm64", "wasi/wasm"], &["amd64"], Some("linux/arm64")),
        (&["linux/arm64", "unknown/unknown"], &["x86_64", "s390x"], Some("linux/arm64")),
        (&["linux/arm64"], &["amd64", "aarch64"], None),
        (&["linux/arm64", "linux/amd64"], &["amd64"], None),
        (&["linux/386"], &["amd64"], None),
        // Its config says for which, and containerd reads that.
        (&["linux/arm64", ""], &["amd64"], None),
        (&["linux/arm64"], &[], None),
        (&["linux/wasm"], &[], Some("linux/wasm")),
    ];
    for (platforms, nodes, expected) in cases {
        let images: Vec<Image> = platforms.iter().map(|platform| program(platform)).collect();
        let entries: Vec<(&str, &Image)> = platforms.iter().copied().zip(&images).collect();
        let source = Memory::new(&Image::index(&entries));
        let nodes = Nodes::of(&nodes.iter().map(ToString::to_string).collect::<Vec<_>>());
        let limits = SizeLimits::default();
        let found = detect_for(&nodes, Slot::default(), &source, &reference, Depth::Config, &limits).await;
        assert_eq!(found.unwrap().unmatched_platform.as_deref(), expected, "{platforms:?} {nodes:?}");
    }
}

/// The platform of an entry, where `/` is an empty one, and that of its config.
type Platforms = (&'static str, &'static str);

/// containerd takes an entry without a platform for one of the platform in its config, and one with an empty platform for that of no node.
#[tokio::test]
async fn an_entry_without_a_platform_is_one_for_the_nodes_of_its_config() {
    let program = |of_config: &str| {
        let mut builder = ImageBuilder::rootfs(of_config, &["/app.wasm"]);
        builder.files(&[("app.wasm", &fixtures::command())]).build()
    };
    let reference = Reference::parse("registry.example.com/team/app:v1").unwrap();
    let (amd, arm, wasm) = ("linux/amd64", "linux/arm64", "wasi/wasm");
    let cases: [(&[Platforms], &[&str], Option<&str>); 11] = [
        (&[("", arm)], &["amd64"], Some(arm)),
        (&[("", arm), ("unknown/unknown", wasm)], &["amd64"], Some(arm)),
        (&[(wasm, wasm), ("", arm)], &["amd64"], Some(arm)),
        (&[("", wasm)], &[], Some(wasm)),
        (&[("", amd)], &["amd64"], None),
        (&[("", "linux/386")], &["amd64"], None),
        (&[("", arm)], &[], None),
        // The config of the other one says whether a node pulls that.
        (&[("", arm), ("", amd)], &["amd64"], None),
        (&[("/", amd)], &["amd64"], Some("{}")),
        (&[("/", amd)], &[], Some("{}")),
        (&[("/", arm), ("", amd)], &["amd64"], None),
    ];
    for (platforms, nodes, expected) in cases {
        let images: Vec<Image> = platforms.iter().map(|(_, of_config)| program(of_config)).collect();
        let entries: Vec<(&str, &Image)> =
            platforms.iter().zip(&images).map(|((platform, _), image)| (*platform, image)).collect();
        let source = Memory::new(&Image::index(&entries));
        let nodes = Nodes::of(&nodes.iter().map(ToString::to_string).collect::<Vec<_>>());
        let limits = SizeLimits::default();
        let found = detect_for(&nodes, Slot::default(), &source, &reference, Depth::Config, &limits).await;
        assert_eq!(found.unwrap().unmatched_platform.as_deref(), expected, "{platforms:?} {nodes:?}");
    }
}

#[tokio::test]
async fn an_index_whose_entries_differ_in_any_shape_is_unknown() {
    let with = |platform: &str, entrypoint: &str, name: &str, bytes: &[u8]| {
        ImageBuilder::rootfs(platform, &[entrypoint]).files(&[(name, bytes)]).build()
    };
    let (one, two) = (fixtures::command(), fixtures::file_command());
    let wasm = |platform: &str, module: &[u8]| with(platform, "/app.wasm", "app.wasm", module);
    let linux = with("linux/amd64", "/bin/app", "bin/app", b"\x7fELF....");
    let (artifact_one, artifact_two) =
        (ImageBuilder::wasm_artifact(&one).build(), ImageBuilder::wasm_artifact(&two).build());
    let (amd, arm) = ("linux/amd64", "linux/arm64");
    let cases = [
        [(amd, linux), (arm, wasm(arm, &two))],
        [(amd, wasm("wasi/wasm", &one)), (arm, wasm("wasi/wasm", &two))],
        [("wasi/wasm", wasm("wasi/wasm", &one)), ("wasip1/wasm", wasm("wasip1/wasm", &two))],
        [(amd, wasm(amd, &one)), ("", wasm(arm, &two))],
        [(amd, artifact_one.clone()), (arm, artifact_two)],
    ];
    for [(first, chosen), (second, other)] in cases {
        let found = deep(&Image::index(&[(first, &chosen), (second, &other)])).await;
        assert_eq!(found.kind, ImageKind::Unknown, "{first} {second}");
        assert!(conclusion(&found).contains("another program"), "{}", conclusion(&found));
        assert!(matches!(started(&found, &["/bin/app"]), Program::Unknown { .. }));
    }
    let same = deep(&Image::index(&[(amd, &artifact_one), (arm, &artifact_one)])).await;
    assert_eq!(same.kind, ImageKind::Module);
}

#[tokio::test]
async fn an_index_whose_entries_differ_in_what_a_runtime_reads_of_the_config_is_unknown() {
    let with = |platform: &str, entrypoint: &str, env: &[&str]| {
        let mut builder = ImageBuilder::rootfs(platform, &[entrypoint]);
        builder.files(&[("bin/sh", b"\x7fELF...."), ("a/app.wasm", &fixtures::command())]);
        builder.set("Env", json!(env)).build()
    };
    let both = async |entrypoint: &str, one: &[&str], other: &[&str]| {
        let (amd, arm) = (with("linux/amd64", entrypoint, one), with("linux/arm64", entrypoint, other));
        deep(&Image::index(&[("linux/amd64", &amd), ("linux/arm64", &arm)])).await
    };
    for (entrypoint, one, other) in [
        ("app.wasm", ["PATH=/a"], ["PATH=/b"]),
        ("/bin/sh", ["A=1"], ["WASMEDGE_PLUGIN_PATH=/evil.so"]),
        ("/bin/sh", ["PATH=/a"], ["PATH=/b"]),
    ] {
        let found = both(entrypoint, &one, &other).await;
        assert_eq!(found.kind, ImageKind::Unknown, "{entrypoint} {one:?} {other:?}");
        assert!(conclusion(&found).contains("another program"), "{}", conclusion(&found));
    }
    let same = both("/bin/sh", &["A=1", "B=2"], &["B=3", "A=1"]).await;
    assert_eq!(same.kind, ImageKind::Linux, "the order and the values of other variables decide nothing");
}

/// A pod is judged by the manifest of one platform, and crun acts on what that of another one says.
#[tokio::test]
async fn an_index_whose_manifests_differ_in_an_annotation_that_crun_heeds_is_unknown() {
    let with = |platform: &str, file: &[u8], annotations: &serde_json::Value| {
        let mut builder = ImageBuilder::rootfs(platform, &["/bin/app"]);
        builder.extra = json!({"annotations": annotations});
        builder.files(&[("bin/app", file)]).build()
    };
    let (module, created) = (fixtures::command(), json!({"org.opencontainers.image.created": "2026-01-01"}));
    for (file, kind) in [(&module[..], ImageKind::Module), (&b"\x7fELF...."[..], ImageKind::Linux)] {
        let both = async |one: &serde_json::Value, other: &serde_json::Value| {
            let (amd, arm) = (with("linux/amd64", file, one), with("linux/arm64", file, other));
            deep(&Image::index(&[("linux/amd64", &amd), ("linux/arm64", &arm)])).await
        };
        for acting in [
            json!({"run.oci.handler": "krun"}),
            json!({"run.oci.handler": "wasmedge"}),
            json!({"module.wasm.image/variant": "compat"}),
            json!({"run.oci.hooks.stdout": "/srv/data/out"}),
            json!({"org.systemd.property.DeviceAllow": "x"}),
        ] {
            for (one, other) in [(&created, &acting), (&acting, &created)] {
                let found = both(one, other).await;
                assert_eq!(found.kind, ImageKind::Unknown, "{one} {other}");
                assert!(conclusion(&found).contains("another program"), "{}", conclusion(&found));
            }
            let same = both(&acting, &acting).await;
            assert_eq!(same.kind, kind, "{acting}");
        }
        let plain = both(&created, &json!({"run.oci.keep_original_groups": "1"})).await;
        assert_eq!(plain.kind, kind, "crun does nothing else for these");
    }
}

#[tokio::test]
async fn wasm_layers_that_the_shims_cannot_read_are_unknown_and_files_are_not_harmed() {
    let mut layers = ImageBuilder::runwasi(&fixtures::command(), "/app.wasm");
    assert_eq!(facts(&layers.build()).await.kind, ImageKind::Module);
    layers.extra = json!({"annotations": {"a": null}});
    let found = facts(&layers.build()).await;
    assert_eq!(found.kind, ImageKind::Unknown);
    assert!(conclusion(&found).contains("the shims cannot read its manifest"), "{}", conclusion(&found));
    let mut linux = ImageBuilder::rootfs("linux/amd64", &["/bin/sh"]);
    linux.extra = json!({"annotations": {"a": null}});
    linux.files(&[("bin/sh", b"\x7fELF....")]);
    assert_eq!(deep(&linux.build()).await.kind, ImageKind::Linux);
}

#[tokio::test]
async fn every_entry_that_a_node_may_pull_is_compared_whatever_its_name() {
    let with = |module: &[u8]| {
        ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]).files(&[("app.wasm", module)]).build()
    };
    let (benign, evil) = (with(&fixtures::command()), with(&fixtures::file_command()));
    let mut attested = Image::index(&[("linux/amd64", &evil), ("linux/amd64", &benign)]);
    let mut document: serde_json::Value = serde_json::from_slice(&attested.manifest).unwrap();
    document["manifests"][0]["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    attested.manifest = serde_json::to_vec(&document).unwrap();
    attested.digest = oci::digest(&attested.manifest);
    let unnamed = Image::index(&[("linux/amd64", &benign), ("/amd64", &evil)]);
    let kernel = Image::index(&[("linux/amd64", &benign), ("Linux/x86_64", &evil)]);
    for index in [attested, unnamed, kernel] {
        let found = deep(&index).await;
        assert_eq!(found.kind, ImageKind::Unknown);
        assert!(conclusion(&found).contains("another program"), "{}", conclusion(&found));
    }
}

#[tokio::test]
async fn a_manifest_whose_size_differs_from_its_index_is_refused() {
    let image = ImageBuilder::wasm_artifact(&fixtures::command()).build();
    let mut index = Image::index(&[("linux/amd64", &image)]);
    let mut document: serde_json::Value = serde_json::from_slice(&index.manifest).unwrap();
    document["manifests"][0]["size"] = json!(60);
    index.manifest = serde_json::to_vec(&document).unwrap();
    index.digest = oci::digest(&index.manifest);
    let error = refused(&index).await;
    assert!(error.contains("where its descriptor says 60"), "{error}");
}

/// A root file system with one program, as one uncompressed layer.
fn of_files(layer: &[u8], media_type: &str) -> ImageBuilder {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    builder.layer(media_type, layer.to_vec());
    builder
}

#[tokio::test]
async fn a_layer_whose_compression_contradicts_its_media_type_is_refused() {
    let layer = oci::tar_of(&[("app.wasm", &fixtures::command())]);
    let plain = "application/vnd.oci.image.layer.v1.tar";
    let docker = "application/vnd.docker.image.rootfs.diff.tar";
    let error = refused(&of_files(&oci::gzip(&layer), plain).build()).await;
    assert!(error.contains("its media type says no compression, and its bytes say gzip"), "{error}");
    let error = refused(&of_files(&oci::zstd(&layer), oci::GZIP_LAYER).build()).await;
    assert!(error.contains("its media type says gzip, and its bytes say zstd"), "{error}");
    for (bytes, media_type) in [
        (layer.clone(), plain),
        (oci::gzip(&layer), oci::GZIP_LAYER),
        (oci::zstd(&layer), oci::ZSTD_LAYER),
        (layer.clone(), docker),
        (oci::gzip(&layer), docker),
    ] {
        assert_eq!(deep(&of_files(&bytes, media_type).build()).await.kind, ImageKind::Module, "{media_type}");
    }
}

#[tokio::test]
async fn a_config_that_lists_other_layers_than_the_manifest_is_refused() {
    let layer = oci::tar_of(&[("app.wasm", &fixtures::command())]);
    let evil = oci::digest(&oci::tar_of(&[("app.wasm", &fixtures::file_command())]));
    let with = |rootfs: serde_json::Value| {
        let mut builder = of_files(&layer, oci::TAR_LAYER);
        builder.set_config("rootfs", rootfs).build()
    };
    for (rootfs, expected) in [
        (json!({"type": "layers", "diff_ids": [evil]}), "so a node would run another layer"),
        (
            json!({"type": "layers", "diff_ids": [oci::digest(&layer), evil]}),
            "name 2 layers, and the manifest has 1",
        ),
        (json!(null), "name 0 layers, and the manifest has 1"),
        (json!({"type": "layers+base", "diff_ids": [oci::digest(&layer)]}), "nodes unpack `layers` only"),
    ] {
        let error = refused(&with(rootfs)).await;
        assert!(error.contains(expected) && error.contains("build the image again"), "{expected}: {error}");
    }
    // What follows the end of the archive belongs to the layer too.
    let padded = [layer.clone(), vec![0; 4096]].concat();
    assert_eq!(deep(&of_files(&padded, oci::TAR_LAYER).build()).await.kind, ImageKind::Module);
}

#[tokio::test]
async fn an_ordinary_image_is_not_refused_for_the_content_of_its_layers() {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/bin/app"]);
    builder.layer(oci::TAR_LAYER, oci::gzip(b"not even an archive"));
    builder.set_config("rootfs", json!(null));
    let found = facts(&builder.build()).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Linux, Shape::LinuxRootfs));
}

#[tokio::test]
async fn an_ordinary_image_of_three_platforms_starts_what_all_have() {
    let with = |platform: &str, own: &str| {
        let mut builder = ImageBuilder::rootfs(platform, &["/bin/app"]);
        builder.files(&[("bin/app", b"\x7fELF...."), (own, b"\x7fELF....")]);
        builder.build()
    };
    let (amd, arm) = (with("linux/amd64", "lib/ld-x86"), with("linux/arm64", "lib/ld-arm"));
    let third = with("linux/arm/v7", "lib/ld-armhf");
    let platforms = [("linux/amd64", &amd), ("linux/arm64", &arm), ("linux/arm/v7", &third)];
    let found = deep(&Image::index(&platforms)).await;
    assert_eq!(found.kind, ImageKind::Linux, "{found:?}");
    let under_wasm = |command: &str| {
        let command = [command.to_string()];
        Family::RunwasiWasmtime.start(&found, &Start { command: &command, ..Start::default() })
    };
    assert_eq!(under_wasm("/bin/app"), Program::Linux);
    assert!(reason(&under_wasm("/lib/ld-x86")).contains("on every platform"));
}

/// An archive of symbolic links.
fn links(links: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, target) in links {
        let mut header = oci::tar_header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, name, target).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Debian has `/usr/bin/java`, `/etc/alternatives/java`, `/usr/lib/jvm/java-17-openjdk-amd64/bin/java`.
#[tokio::test]
async fn a_program_behind_a_link_that_names_the_platform_is_known_where_every_platform_has_one() {
    let with = |platform: &str, name: &str, program: &[u8]| {
        let target = format!("/usr/lib/jvm/java-17-openjdk-{name}/bin/java");
        let alternatives =
            links(&[("usr/bin/java", "/etc/alternatives/java"), ("etc/alternatives/java", &target)]);
        let mut builder = ImageBuilder::rootfs(platform, &["/usr/bin/java"]);
        builder.files(&[(target.trim_start_matches('/'), program)]).layer(oci::TAR_LAYER, alternatives);
        builder.build()
    };
    let image = |arm: &[u8]| {
        let (amd, arm) = (with("linux/amd64", "amd64", b"\x7fELF...."), with("linux/arm64", "arm64", arm));
        Image::index(&[("linux/amd64", &amd), ("linux/arm64", &arm)])
    };
    let started = |facts: &ImageFacts, command: &str, mount: &str| {
        let (command, mounts) = ([command.to_string()], [mount.into()]);
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        Family::RunwasiWasmtime.start(facts, &start)
    };
    let found = deep(&image(b"\x7fELF....")).await;
    for command in ["/usr/bin/java", "/etc/alternatives/java"] {
        assert_eq!(started(&found, command, "/data"), Program::Linux, "{command}");
    }
    let one = "/usr/lib/jvm/java-17-openjdk-arm64/bin";
    assert!(reason(&started(&found, "/usr/bin/java", one)).contains("under the volume"), "of one platform");
    let below = started(&found, "/usr/bin/java", "/etc/alternatives/java/x");
    assert!(reason(&below).contains("not the same on every platform"));
    let direct = started(&found, "/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "/data");
    assert!(reason(&direct).contains("every platform"), "arm64 has no such file");
    assert_eq!(
        started(&found, "java", "/data"),
        Program::Linux,
        "every file of the name is a program or not there"
    );
    assert!(reason(&started(&found, "java", one)).contains("volume"), "a search may find it first");
    let found = deep(&image(b"no program")).await;
    assert!(reason(&started(&found, "/usr/bin/java", "/data")).contains("every platform"));
    assert!(matches!(started(&found, "java", "/data"), Program::Unknown { .. }));
}

/// `/lib64` is there on amd64 alone.
#[tokio::test]
async fn a_mount_through_a_link_of_some_platforms_hides_what_is_in_each_of_its_places() {
    let with = |platform: &str, merged: &[(&str, &str)]| {
        let mut builder = ImageBuilder::rootfs(platform, &["/bin/app"]);
        let files: [(&str, &[u8]); 2] = [("bin/app", b"\x7fELF...."), ("usr/lib64/app", b"\x7fELF....")];
        builder.files(&files).layer(oci::TAR_LAYER, links(merged));
        builder.build()
    };
    let amd = with("linux/amd64", &[("lib64", "usr/lib64"), ("same", "usr")]);
    let (arm, third) =
        (with("linux/arm64", &[("same", "usr")]), with("linux/s390x", &[("lib64", "bin"), ("same", "usr")]));
    let platforms = [("linux/amd64", &amd), ("linux/arm64", &arm), ("linux/s390x", &third)];
    let found = deep(&Image::index(&platforms)).await;
    let started = |command: &str, mount: &str| {
        let (command, mounts) = ([command.to_string()], [mount.into()]);
        Family::RunwasiWasmtime
            .start(&found, &Start { command: &command, mounts: &mounts, ..Start::default() })
    };
    assert_eq!(started("/bin/app", "/lib64/data"), Program::Linux);
    assert_eq!(started("/usr/lib64/app", "/same/data"), Program::Linux);
    for (command, mount) in
        [("/usr/lib64/app", "/lib64/app"), ("/bin/app", "/lib64/app"), ("/bin/app", "/lib64")]
    {
        assert!(reason(&started(command, mount)).contains("under the volume"), "{command} {mount}");
    }
    let through = started("/lib64/app", "/data");
    assert!(reason(&through).contains("every platform"), "{through:?}");
}

#[tokio::test]
async fn more_entries_than_are_compared_are_unknown_and_not_fetched() {
    let wasm = |number: usize| {
        let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
        builder
            .set("Labels", json!({"n": number.to_string()}))
            .files(&[("app.wasm", &fixtures::command())])
            .build()
    };
    let of = |count: usize| {
        let images: Vec<Image> = (0..count).map(wasm).collect();
        let entries: Vec<(&str, &Image)> = images.iter().map(|image| ("linux/amd64", image)).collect();
        Image::index(&entries)
    };
    assert_eq!(facts(&of(17)).await.kind, ImageKind::Module);
    let source = Memory::new(&of(18));
    let found = look(&source, Depth::Config, &SizeLimits::default()).await.unwrap();
    assert!(conclusion(&found).contains("18 platforms"), "{}", conclusion(&found));
    assert_eq!(source.asked(), 4);
}

#[tokio::test]
async fn facts_survive_serialisation_and_are_the_same_every_time() {
    let modules = [fixtures::http_component(), fixtures::command(), fixtures::file_command()];
    let modules: Vec<&[u8]> = modules.iter().map(Vec::as_slice).collect();
    let spin = ImageBuilder::spin(&fixtures::locked_app(&modules, &json!({})), &modules).build();
    let mut builder = ImageBuilder::rootfs("wasi/wasm", &["/b.wasm"]);
    let rootfs =
        builder.files(&[("b.wasm", modules[1]), ("a.wasm", modules[2]), ("bin/x", b"\x7fELF....")]).build();
    for image in [spin, rootfs] {
        let first = deep(&image).await;
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<ImageFacts>(&text).unwrap(), first);
        assert_eq!(serde_json::to_string(&deep(&image).await).unwrap(), text);
        let paths: Vec<&String> = first.files.iter().map(|(path, _)| path).collect();
        assert!(paths.is_sorted());
    }
}

#[tokio::test]
async fn a_no_op_component_made_by_the_adapter_opens_no_files() {
    let component = fixtures::componentize(&fixtures::command());
    let found = facts(&ImageBuilder::wasm_artifact(&component).build()).await;
    assert_eq!((found.kind, found.platform.as_str()), (ImageKind::Component, "wasip2/wasm"));
    let facts = &found.modules[0];
    assert_eq!(facts.format, WasmFormat::Component);
    assert!(facts.exports.iter().any(|name| name.starts_with("wasi:cli/run@")), "{:?}", facts.exports);
    // It imports the file system interface, but no function that opens, lists or changes anything.
    let files = functions(facts, "wasi:filesystem/types@");
    assert!(!files.is_empty());
    for opening in ["open-at", "read-directory", "unlink-file-at", "create-directory-at", "stat-at"] {
        assert!(!files.contains(&format!("[method]descriptor.{opening}")), "{files:?}");
    }
    let real = fixtures::componentize(&fixtures::file_command());
    let real = module::read(&real, "real").unwrap();
    assert!(functions(&real, "wasi:filesystem/types@").contains(&"[method]descriptor.open-at".to_string()));
    // One page of its own; the adapter's stack is allocated at run time.
    assert_eq!(facts.memory_bytes, 1 << 16);
    assert!(facts.code_bytes > 1000 && facts.code_bytes < facts.size_bytes, "{}", facts.code_bytes);
}

#[tokio::test]
async fn a_real_go_program_shows_what_it_calls_and_how_big_it_is() {
    let binary = fixtures::go("hello");
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/hello.wasm"]);
    let found = facts(&builder.files(&[("hello.wasm", &binary)]).build()).await;
    assert_eq!(found.kind, ImageKind::Module);
    let facts = &found.modules[0];
    assert_eq!(facts.imports.len(), 1);
    let calls = functions(facts, "wasi_snapshot_preview1");
    for expected in ["args_get", "environ_get", "clock_time_get", "fd_write", "path_open", "random_get"] {
        assert!(calls.contains(&expected.to_string()), "{calls:?}");
    }
    assert!(!calls.iter().any(|name| name == "sock_open"));
    assert_eq!(facts.size_bytes, binary.len() as u64);
    assert!(facts.code_bytes > 500_000 && facts.code_bytes < facts.size_bytes, "{}", facts.code_bytes);
    assert!(facts.data_bytes > 100_000 && facts.code_bytes + facts.data_bytes < facts.size_bytes);
    assert!(facts.memory_bytes >= 1 << 20, "{}", facts.memory_bytes);
    assert!(facts.exports.contains("_start"));
}

#[test]
fn a_real_component_cut_at_any_byte_is_read_or_refused() {
    let whole = fixtures::componentize(&fixtures::command());
    let facts = module::read(&whole, "whole").unwrap();
    for end in 0..whole.len() {
        let Ok(part) = module::read(&whole[..end], "part") else { continue };
        assert!(part.code_bytes <= facts.code_bytes && part.size_bytes < facts.size_bytes);
    }
}

#[tokio::test]
async fn a_look_up_can_move_between_threads_and_be_given_up() {
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    let image = builder.files(&[("zeros", &vec![0; 64 << 20]), ("app.wasm", &fixtures::command())]).build();
    let source = Memory::new(&image);
    let task = tokio::spawn(async move { look(&source, Depth::Layers, &SizeLimits::default()).await });
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
}

fn reason(program: &Program) -> &str {
    match program {
        Program::Unknown { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn saw<'a>(facts: &'a ImageFacts, seen: &str) -> &'a str {
    let found = facts.evidence.iter().find(|evidence| evidence.seen.starts_with(seen));
    found.map_or_else(|| panic!("no `{seen}` in {:?}", facts.evidence), |evidence| evidence.value.as_str())
}

const SPIN_TOML: &[u8] = br#"
    spin_manifest_version = 2
    [application]
    name = "shop"
    [[trigger.http]]
    route = "/..."
    component = "web"
    [component.web]
    source = "bin/web.wasm"
    allowed_outbound_hosts = ["https://example.com"]
    key_value_stores = ["default"]
"#;

#[tokio::test]
async fn an_old_spin_app_is_recognised_and_nothing_starts_it() {
    let module = fixtures::http_component();
    let locked = fixtures::locked_app(&[&module], &json!({}));
    let mut builder = ImageBuilder::new(oci::SPIN_APPLICATION, locked);
    let source = Memory::new(&builder.layer(oci::SPIN_LAYER, module).build());
    let found = look(&source, Depth::Layers, &SizeLimits::default()).await.unwrap();
    assert_eq!((found.kind, found.shape), (ImageKind::Unknown, Shape::SpinLegacy));
    assert!(saw(&found, "locked app sha256:").contains("`app` with 1 component"));
    assert!(reason(&started(&found, &["/"])).contains("old Spin application"));
    assert_eq!(source.asked(), 2, "manifest and config, no layer");
    let odd = ImageBuilder::new(oci::SPIN_APPLICATION, json!({})).build();
    assert_eq!(facts(&odd).await.shape, Shape::SpinLegacy);
}

#[tokio::test]
async fn a_demo_image_is_known_by_its_config_in_any_letter_case_and_under_its_own_index() {
    for (platform, entrypoint) in
        [("wasip1/wasm", "/app.wasm"), ("Wasip1/wasm32", "app.wasm"), ("wasi/Wasm64", "/app.wasm#_start")]
    {
        let mut builder = ImageBuilder::rootfs(platform, &[entrypoint]);
        let image = builder.files(&[("app.wasm", &fixtures::command())]).build();
        for found in [facts(&image).await, facts(&Image::index(&[(platform, &image)])).await] {
            assert_eq!((found.kind, found.shape), (ImageKind::Module, Shape::WasmRootfs), "{platform}");
            assert!(
                found.warnings.iter().any(|warning| warning.contains("use_local_image_pull")),
                "{platform}"
            );
            assert_eq!(saw(&found, "config platform"), platform.to_lowercase());
            assert_eq!(saw(&found, "file /app.wasm"), "a core module, imports wasi_snapshot_preview1");
        }
    }
}

#[tokio::test]
async fn a_spin_manifest_at_the_root_is_a_spin_app_of_files() {
    let web = fixtures::http_component();
    let files: [(&str, &[u8]); 3] = [("spin.toml", SPIN_TOML), ("bin/web.wasm", &web), ("spare.wasm", &web)];
    for (platform, entrypoint) in [("wasi/wasm", vec![]), ("linux/amd64", vec!["/"]), ("linux/amd64", vec![])]
    {
        let found = deep(&ImageBuilder::rootfs(platform, &entrypoint).files(&files).build()).await;
        assert_eq!((found.kind, found.shape), (ImageKind::SpinApp, Shape::SpinRootfs), "{platform}");
        assert!(saw(&found, "file /spin.toml").contains("`shop` with 1 component, triggered by http"));
        let component = &found.spin.as_ref().unwrap().components[0];
        assert_eq!(component.allowed_outbound_hosts, ["https://example.com"]);
        assert_eq!(component.digest.as_deref(), Some("/bin/web.wasm"));
        let program = started(&found, &["/"]);
        let Program::Wasm { kind: ImageKind::SpinApp, packaging: Packaging::RootFilesystem, modules } =
            &program
        else {
            panic!("{program:?}")
        };
        let owners: Vec<_> = modules.iter().map(|at| found.modules[*at].component.as_deref()).collect();
        assert_eq!(owners, [Some("web")], "the other file runs in no component");
        assert_eq!(runnable_by(&found, &program), [Family::Spin].into());
        // Any entry point that is not native starts the application, as the Spin shim does.
        assert_eq!(started(&found, &["serve"]), program);
        // A Wasm file that the pod names is started itself.
        assert!(matches!(
            started(&found, &["/spare.wasm"]),
            Program::Wasm { kind: ImageKind::HttpComponent, .. }
        ));
    }
}

#[tokio::test]
async fn a_pod_can_start_a_spin_app_from_an_ordinary_image() {
    let web = fixtures::http_component();
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/bin/sh"]);
    let image = builder
        .files(&[("bin/sh", b"\x7fELF...."), ("spin.toml", SPIN_TOML), ("bin/web.wasm", &web)])
        .build();
    let found = deep(&image).await;
    assert_eq!((found.kind, found.shape), (ImageKind::Linux, Shape::LinuxRootfs));
    assert!(matches!(started(&found, &["/"]), Program::Wasm { kind: ImageKind::SpinApp, .. }));
    assert_eq!(started(&found, &[]), Program::Linux);
    // A volume may also provide the application: then its content is unknown.
    let plain =
        deep(&ImageBuilder::rootfs("linux/amd64", &["/bin/sh"]).files(&[("bin/sh", b"\x7fELF....")]).build())
            .await;
    let command = ["/".to_string()];
    let mounts = ["/spin.toml".into()];
    let pod = Start { command: &command, mounts: &mounts, ..Start::default() };
    assert!(reason(&program::start(&plain, &pod)).contains("a volume provides `/spin.toml`"));
    assert!(reason(&program::start(&found, &pod)).contains("a volume provides `/spin.toml`"));
    let modules = ["/bin".into()];
    let hidden = Start { command: &command, mounts: &modules, ..Start::default() };
    assert!(reason(&program::start(&found, &hidden)).contains("volume at `/bin`"));
    assert_eq!(started(&plain, &["/"]), Program::Linux);
}

#[tokio::test]
async fn a_spin_manifest_that_cannot_be_judged_is_unknown_with_the_reason() {
    let web = fixtures::http_component();
    let text = std::str::from_utf8(SPIN_TOML).unwrap();
    for (manifest, expected) in [
        (
            text.replace("\"bin/web.wasm\"", "{ url = \"https://x\", digest = \"sha256:1\" }"),
            "fetched by Spin at every start",
        ),
        (text.replace("bin/web.wasm", "bin/none.wasm"), "`/bin/none.wasm`, which is not a Wasm file"),
        (format!("#!comment\n{}", text.replace("key_value_stores", "new_power")), "`new_power`"),
        (text.replace("[component.web]", ""), "without components"),
        ("spin_manifest_version = ".into(), "cannot be used"),
    ] {
        let files: [(&str, &[u8]); 2] = [("spin.toml", manifest.as_bytes()), ("bin/web.wasm", &web)];
        let found = deep(&ImageBuilder::rootfs("wasi/wasm", &[]).files(&files).build()).await;
        assert_eq!((found.kind, found.shape), (ImageKind::Unknown, Shape::SpinRootfs), "{manifest}");
        let program = started(&found, &["/"]);
        assert!(reason(&program).contains(expected), "{}", reason(&program));
    }
    // Through a link, also one that leads to a file that was not kept.
    let files: [(&str, &[u8]); 2] = [("app/spin.toml", SPIN_TOML), ("bin/web.wasm", &web)];
    for (target, kind) in [("app/spin.toml", ImageKind::SpinApp), ("etc/passwd", ImageKind::Unknown)] {
        let mut builder = ImageBuilder::rootfs("wasi/wasm", &[]);
        builder.files(&files).layer(oci::TAR_LAYER, oci::tar_link("spin.toml", target));
        assert_eq!(deep(&builder.build()).await.kind, kind, "{target}");
    }
}

#[tokio::test]
async fn retired_shims_applications_are_recognised_and_refused() {
    let module = fixtures::command();
    let slight: &[(&str, &[u8])] = &[("slightfile.toml", b"specversion = \"0.1\""), ("app.wasm", &module)];
    let wws: &[(&str, &[u8])] =
        &[(".wws.toml", b"name = \"x\""), ("index.js", b"export default 1"), ("api.wasm", &module)];
    for (files, shape, words, file) in [
        (slight, Shape::SlightRootfs, "slight application", "file /slightfile.toml"),
        (wws, Shape::WwsRootfs, "Wasm Workers Server", "file /.wws.toml"),
    ] {
        for entrypoint in [vec![], vec!["/"]] {
            let found = deep(&ImageBuilder::rootfs("linux/amd64", &entrypoint).files(files).build()).await;
            assert_eq!((found.kind, found.shape), (ImageKind::Unknown, shape));
            assert!(saw(&found, file).contains("manifest"));
            for command in [["/"], ["serve"]] {
                let program = started(&found, &command);
                assert!(
                    reason(&program).contains(words) && reason(&program).contains("retired"),
                    "{program:?}"
                );
            }
            // The file itself is still what it is.
            assert!(
                matches!(started(&found, &["/app.wasm"]), Program::Wasm { .. }) || shape == Shape::WwsRootfs
            );
        }
    }
    let lunatic = fixtures::wat(
        r#"(module (import "lunatic::process" "spawn" (func)) (import "wasi_snapshot_preview1" "fd_write" (func))
            (func (export "_start")))"#,
    );
    for image in [
        ImageBuilder::wasm_artifact(&lunatic).build(),
        ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]).files(&[("app.wasm", &lunatic)]).build(),
    ] {
        let found = facts(&image).await;
        assert_eq!(found.kind, ImageKind::Unknown);
        assert!(
            found.evidence.iter().any(|e| e.value.contains("imports lunatic::process")),
            "{:?}",
            found.evidence
        );
        assert!(conclusion(&found).contains("lunatic") && conclusion(&found).contains("retired"));
    }
}

#[tokio::test]
async fn crun_annotations_make_the_files_be_read_and_the_files_decide() {
    let module = fixtures::command();
    for (key, value) in [("module.wasm.image/variant", "compat-smart"), ("run.oci.handler", "wasmedge")] {
        let with = |entrypoint: &[&str], files: &[(&str, &[u8])]| {
            let mut builder = ImageBuilder::rootfs("linux/amd64", entrypoint);
            builder.extra = json!({"annotations": {key: value}});
            builder.files(files).build()
        };
        // Not named like Wasm, so that without the annotation the layers would not be read.
        let found = facts(&with(&["/app"], &[("app", &module)])).await;
        assert_eq!((found.kind, found.shape), (ImageKind::Module, Shape::CrunRootfs));
        assert_eq!(saw(&found, &format!("manifest.annotations.{key}")), value);
        let native = facts(&with(&["/app"], &[("app", b"\x7fELF....")])).await;
        assert_eq!((native.kind, native.shape), (ImageKind::Linux, Shape::LinuxRootfs));
        // proxy-wasm's `compat` form has the same annotation and a file of its own.
        let filter = facts(&with(&[], &[("plugin.wasm", &module)])).await;
        assert_eq!((filter.kind, filter.shape), (ImageKind::Unknown, Shape::Other));
        assert!(
            conclusion(&filter).contains("a proxy-wasm filter in its `compat` form"),
            "{}",
            conclusion(&filter)
        );
    }
    let mut builder = ImageBuilder::rootfs("linux/amd64", &["/app"]);
    builder.extra = json!({"annotations": {"run.oci.handler": "krun"}});
    let source = Memory::new(&builder.files(&[("app", &module)]).build());
    let found = look(&source, Depth::Config, &SizeLimits::default()).await.unwrap();
    assert_eq!((found.kind, source.asked()), (ImageKind::Linux, 2));
    // The pod's own annotation: without the layers it is unknown what crun would start.
    let annotations = [("module.wasm.image/variant".to_string(), "compat".to_string())].into();
    let pod = Start { annotations: Some(&annotations), ..Start::default() };
    assert!(reason(&program::start(&found, &pod)).contains("`module.wasm.image/variant` is `compat`"));
    assert_eq!(program::start(&found, &Start::default()), Program::Linux);
}

#[tokio::test]
async fn a_module_for_another_host_is_never_startable() {
    for (import, expected) in [
        (r#"(import "env" "proxy_log" (func))"#, "Envoy"),
        (r#"(import "env" "napi_create_object" (func)) (import "wasi" "thread-spawn" (func))"#, "Node-API"),
        (r#"(import "gojs" "runtime.wasmExit" (func))"#, "GOOS=wasip1"),
        (r#"(import "wbg" "__wbindgen_throw" (func))"#, "wasm-bindgen"),
        (r#"(import "env" "emscripten_memcpy" (func))"#, "Emscripten"),
    ] {
        let module = fixtures::wat(&format!(r#"(module {import} (func (export "_start")))"#));
        let found = facts(&ImageBuilder::wasm_artifact(&module).build()).await;
        assert_eq!(found.kind, ImageKind::Unknown);
        assert!(conclusion(&found).contains(expected), "{}", conclusion(&found));
        assert_eq!(runnable_by(&found, &started(&found, &["/"])), [].into());
    }
}

#[tokio::test]
async fn a_config_that_contradicts_the_bytes_is_reported() {
    let module = fixtures::http_component();
    let honest = |builder: &mut ImageBuilder| {
        builder.set_config(
            "component",
            json!({"imports": ["wasi:http/outgoing-handler@0.2.0"],
            "exports": ["wasi:http/incoming-handler@0.2.0"], "target": null}),
        );
    };
    let mut builder = ImageBuilder::wasm_artifact(&module);
    assert_eq!(facts(&builder.build()).await.claims, []);
    honest(&mut builder);
    assert_eq!(facts(&builder.build()).await.claims, []);
    builder.set_config("component", json!({"imports": ["wasi:cli/stdout@0.2.0"], "exports": 7}));
    builder.set_config("os", json!("Wasip1"));
    let both = [oci::digest(&module), "sha256:other".into()];
    builder.set_config("layerDigests", json!(both));
    let found = facts(&builder.build()).await;
    let claim = |field: &str, claimed: &str, real: &str| Claim {
        field: field.into(),
        claimed: claimed.into(),
        found: real.into(),
    };
    let expected = [
        claim("os", "Wasip1", "wasip2"),
        claim("layerDigests", &both.join(", "), &oci::digest(&module)),
        claim("component.imports", "wasi:cli/stdout@0.2.0", "wasi:http/outgoing-handler@0.2.0"),
    ];
    assert_eq!(found.claims, expected);
    assert!(saw(&found, "config.component.imports").contains("outgoing-handler"));
    assert_eq!(found.kind, ImageKind::HttpComponent, "nothing is decided by what a config claims");
    let core =
        facts(&ImageBuilder::wasm_artifact(&fixtures::command()).set_config("os", json!("wasip2")).build())
            .await;
    assert_eq!(core.claims, [claim("os", "wasip2", "wasip1")]);
    // runwasi writes `wasip1` for everything, and a WIT package lists types.
    assert_eq!(facts(&ImageBuilder::runwasi(&module, "x").build()).await.claims, []);
    assert_eq!(facts(&ImageBuilder::wasm_artifact(&fixtures::wit_package()).build()).await.claims, []);
}

#[tokio::test]
async fn needs_beyond_wasi_decide_which_runtimes_can_start_a_module() {
    use Family::{
        CrunWamr, CrunWasmedge, CrunWasmer, CrunWasmtime, RunwasiWamr, RunwasiWasmedge, RunwasiWasmer,
        RunwasiWasmtime, Spin, YoukiWasmtime,
    };
    let accept = |params: &str| {
        format!(r#"(import "wasi_snapshot_preview1" "sock_accept" (func (param {params}) (result i32)))"#)
    };
    let all = Family::DESCRIBED.into_iter().filter(|family| *family != Spin).collect::<Vec<_>>();
    assert!([CrunWasmtime, YoukiWasmtime].iter().all(|family| all.contains(family)));
    let cases: Vec<(String, Vec<Feature>, Vec<Family>)> = vec![
        (String::new(), vec![], all.clone()),
        (accept("i32 i32 i32"), vec![], all),
        (accept("i32 i32"), vec![Feature::WasmedgeSockets], vec![RunwasiWasmedge, CrunWasmedge]),
        // The signature must be that of the right import among several.
        (
            format!(
                r#"(import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32))) {}"#,
                accept("i32 i32")
            ),
            vec![Feature::WasmedgeSockets],
            vec![RunwasiWasmedge, CrunWasmedge],
        ),
        (
            r#"(import "wasi_snapshot_preview1" "sock_getaddrinfo" (func))"#.into(),
            vec![Feature::WasmedgeSockets],
            vec![RunwasiWasmedge, CrunWasmedge],
        ),
        (
            r#"(import "wasi_unstable" "fd_write" (func))"#.into(),
            vec![Feature::WasiUnstable],
            vec![RunwasiWasmer, RunwasiWamr, CrunWasmer, CrunWamr, YoukiWasmtime],
        ),
        (r#"(import "wasix_32v1" "sock_open" (func))"#.into(), vec![Feature::Wasix], vec![RunwasiWasmer]),
        (
            r#"(import "wasi" "thread-spawn" (func)) (import "env" "memory" (memory 1 9 shared))"#.into(),
            vec![Feature::WasiThreads, Feature::SharedMemory],
            vec![RunwasiWasmer, CrunWasmer, CrunWamr],
        ),
        (
            r#"(import "wasi_ephemeral_nn" "load" (func))"#.into(),
            vec![Feature::WasiNn],
            vec![RunwasiWasmedge, CrunWasmedge],
        ),
    ];
    for (imports, features, runs) in cases {
        let module = fixtures::wat(&format!(r#"(module {imports} (func (export "_start")))"#));
        let found =
            facts(&ImageBuilder::rootfs("linux/amd64", &["/a.wasm"]).files(&[("a.wasm", &module)]).build())
                .await;
        assert_eq!(found.modules[0].features, features.iter().copied().collect(), "{imports}");
        assert_eq!(runnable_by(&found, &started(&found, &[])), runs.into_iter().collect(), "{imports}");
        let warned = warnings(None, &found, &started(&found, &[]))
            .iter()
            .any(|warning| warning.contains("wasmtime shim cannot start"));
        assert_eq!(warned, !features.is_empty(), "{imports}");
    }
    // Layers work only with containerd's shims, and Spin accepts a one-layer artifact only if it answers HTTP.
    let artifact = facts(&ImageBuilder::wasm_artifact(&fixtures::http_component()).build()).await;
    assert_eq!(runnable_by(&artifact, &started(&artifact, &["/"])), [RunwasiWasmtime, Spin].into());
    let layers = facts(&ImageBuilder::runwasi(&fixtures::http_component(), "a.wasm").build()).await;
    assert_eq!(runnable_by(&layers, &started(&layers, &[])), [RunwasiWasmtime].into());
    let third = fixtures::wat(
        r#"(component (import "wasi:http/client@0.3.0" (instance (export "send" (func))))
            (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f"))) (instance $e (export "handle" (func $f)))
            (export "wasi:http/handler@0.3.1" (instance $e)))"#,
    );
    let found = facts(&ImageBuilder::wasm_artifact(&third).build()).await;
    assert_eq!(
        (found.kind, &found.modules[0].features),
        (ImageKind::HttpComponent, &[Feature::Wasi03].into())
    );
    assert_eq!(runnable_by(&found, &started(&found, &["/"])), [Spin].into());
}

/// An image of one file, which is this text.
async fn assembled(text: &str) -> ImageFacts {
    let module = fixtures::wat(text);
    facts(&ImageBuilder::rootfs("linux/amd64", &["/a.wasm"]).files(&[("a.wasm", &module)]).build()).await
}

#[tokio::test]
async fn what_the_pool_of_the_wasmtime_shim_does_not_hold_starts_on_other_runtimes_alone() {
    for (definitions, over) in [
        ("(memory 65536) (table 20000 funcref)", None),
        (r#"(import "wasi_snapshot_preview1" "fd_close" (func)) (memory 1) (table 1 funcref)"#, None),
        ("(memory 1) (memory 1)", Some("2 memories, and at most 1 fit")),
        ("(memory 1) (table 1 funcref) (table 1 externref)", Some("2 tables, and at most 1 fit")),
        ("(table 20001 funcref)", Some("20001 initial elements of a table, and at most 20000 fit")),
    ] {
        let module = format!(r#"(module {definitions} (func (export "_start")))"#);
        let component = format!(
            r#"(component (core module {definitions}) (core module $m (func (export "f") (result i32) i32.const 0))
                (core instance $i (instantiate $m)) (func $f (result (result)) (canon lift (core func $i "f")))
                (instance $e (export "run" (func $f))) (export "wasi:cli/run@0.2.0" (instance $e)))"#
        );
        for text in [module, component] {
            let found = assembled(&text).await;
            let program = started(&found, &[]);
            let able = runnable_by(&found, &program);
            assert_eq!(able.contains(&Family::RunwasiWasmtime), over.is_none(), "{text}");
            let others = [Family::CrunWasmtime, Family::YoukiWasmtime];
            let is_module = found.kind == ImageKind::Module;
            assert!(others.iter().all(|family| able.contains(family) == is_module), "{text}: {able:?}");
            let said = warnings(None, &found, &program);
            assert_eq!(said.len(), usize::from(over.is_some()), "{text}: {said:?}");
            assert!(over.is_none_or(|over| said[0].contains(over)), "{text}: {said:?}");
            let on_demand = Profile { allocates_on_demand: true, ..Runtimes::default().profiles[0].clone() };
            assert!(on_demand.says_it_starts(&found, &program), "{text}");
        }
    }
}

#[tokio::test]
async fn proposals_that_a_module_uses_decide_which_runtimes_can_start_it() {
    use Family::{CrunWamr, CrunWasmedge, YoukiWasmtime};
    for (declared, feature, runs) in [
        ("(tag)", Feature::ExceptionHandling, vec![CrunWasmedge, CrunWamr]),
        ("(type (struct))", Feature::GarbageCollection, vec![CrunWasmedge, CrunWamr]),
        ("(func (param (ref func)))", Feature::FunctionReferences, vec![CrunWasmedge, CrunWamr]),
        ("(type $f (func)) (type (cont $f))", Feature::StackSwitching, vec![]),
        ("(memory 1 (pagesize 1))", Feature::CustomPageSizes, vec![]),
        ("(memory i64 1)", Feature::Memory64, vec![CrunWasmedge, CrunWamr, YoukiWasmtime]),
    ] {
        let found = assembled(&format!(r#"(module {declared} (func (export "_start")))"#)).await;
        let program = started(&found, &[]);
        assert_eq!(found.modules[0].features, [feature].into(), "{declared}");
        let runs: BTreeSet<Family> = runs.into_iter().collect();
        assert_eq!(runnable_by(&found, &program), runs, "{declared}");
        let said = warnings(None, &found, &program);
        assert_eq!(said.len(), 1, "{declared}: {said:?}");
    }
}

#[tokio::test]
async fn a_profile_is_believed_about_the_proposals_that_it_names_and_no_others() {
    let found = assembled(r#"(module (tag) (type (struct)) (func (export "_start")))"#).await;
    let program = started(&found, &[]);
    let with = |proposals: &[Feature]| {
        let built_in = Runtimes::default().profiles[0].clone();
        let profile = Profile { proposals: proposals.iter().copied().collect(), ..built_in };
        (profile.says_it_starts(&found, &program), profile.warnings(&found, &program))
    };
    let said = |proposals: &[Feature]| {
        let (starts, mut said) = with(proposals);
        assert!(!starts && said.len() == 1, "{said:?}");
        said.remove(0)
    };
    assert!(said(&[]).contains("exceptions"));
    assert!(said(&[Feature::GarbageCollection]).contains("exceptions"));
    assert!(said(&[Feature::ExceptionHandling]).contains("garbage collection"));
    assert_eq!(with(&[Feature::ExceptionHandling, Feature::GarbageCollection]), (true, Vec::new()));
    // It brings nothing that the pool has no place for.
    let large = assembled(r#"(module (tag) (memory 1) (memory 1) (func (export "_start")))"#).await;
    let built_in = Runtimes::default().profiles[0].clone();
    let profile = Profile { proposals: [Feature::ExceptionHandling].into(), ..built_in };
    assert!(!profile.says_it_starts(&large, &started(&large, &[])));
}

#[tokio::test]
async fn allocating_on_demand_brings_nothing_else_that_a_program_needs() {
    let found = assembled(
        r#"(module (import "wasi_ephemeral_nn" "load" (func)) (memory 1) (memory 1) (func (export "_start")))"#,
    )
    .await;
    let program = started(&found, &[]);
    let on_demand = Profile { allocates_on_demand: true, ..Runtimes::default().profiles[0].clone() };
    assert!(!on_demand.says_it_starts(&found, &program));
    let said = warnings(None, &found, &program);
    assert!(said.len() == 1 && said[0].contains("wasi-nn"), "{said:?}");
}

#[test]
fn the_most_that_a_memory_may_grow_to_is_read() {
    let most = |text: &str| module::read(&fixtures::wat(text), "test").unwrap().memory_max_bytes;
    assert_eq!(most("(module (memory 1 4))"), Some(4 << 16));
    assert_eq!(most("(module (memory 1))"), None);
    assert_eq!(most("(module)"), Some(0));
    assert_eq!(most("(module (memory 1 2) (memory 1))"), None);
    assert_eq!(most(r#"(module (import "env" "m" (memory 1 2)) (memory 1 3))"#), Some(5 << 16));
    assert_eq!(most("(module (memory i64 1 0x1000000000000))"), Some(u64::MAX));
    let twice = "(component (core module $m (memory 1 2)) (core instance (instantiate $m)) (core instance (instantiate $m)))";
    assert_eq!(most(twice), Some(4 << 16));
}

#[tokio::test]
async fn what_a_locked_app_hands_over_is_read_with_version_1_defaults_templates_and_chaining() {
    let module = fixtures::http_component();
    // What Spin locks for a manifest of version 1 (`spin:crates/loader/tests/ui/valid-manifest.lock`).
    let metadata = json!({"allowed_outbound_hosts": ["redis://*:*", "mysql://*:*", "postgres://*:*",
        "http://other.spin.internal", "https://{{ api }}.example.com"], "allowed_http_hosts": ["insecure:allow-all"]});
    let mut locked = fixtures::locked_app(&[&module], &metadata);
    locked["spin_lock_version"] = json!(1);
    locked["must_understand"] = json!(["component_host_requirements"]);
    locked["components"][0]["host_requirements"] = json!({"local_service_chaining": "required"});
    let found = facts(&ImageBuilder::spin(&locked, &[&module]).build()).await;
    let component = &found.spin.as_ref().unwrap().components[0];
    assert_eq!(
        component.allowed_outbound_hosts,
        [
            "redis://*:*",
            "mysql://*:*",
            "postgres://*:*",
            "http://other.spin.internal",
            "https://{{ api }}.example.com",
            "*://*:*"
        ]
    );
    let templates = component.allowed_outbound_hosts.iter().filter(|host| host.has_template());
    assert_eq!(templates.collect::<Vec<_>>(), [&component.allowed_outbound_hosts[4]]);
}
