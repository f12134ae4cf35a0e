//! Every shape and every look-alike, pushed to a real registry and read back: shape, evidence, kind.

use std::time::Duration;

use serde_json::json;
use wasmgate::image::{Depth, ImageFacts, ImageKind, Program, Shape, program};
use wasmgate::lookup::Inspector;
use wasmgate::runtime::{Family, runnable_by};

use crate::support::oci::{self, Image, ImageBuilder, fixtures};
use crate::support::registry::Registry;

const SPIN_TOML: &[u8] = b"spin_manifest_version = 2\n[application]\nname = \"shop\"\n[[trigger.http]]\nroute = \"/...\"\n\
    component = \"web\"\n[component.web]\nsource = \"web.wasm\"\nallowed_outbound_hosts = [\"https://example.com\"]\n";
const MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Name, image, the expected kind and shape, and a part of the evidence.
type Case = (&'static str, Image, ImageKind, Shape, &'static str);

fn rootfs(platform: &str, entrypoint: &[&str], files: &[(&str, &[u8])]) -> Image {
    ImageBuilder::rootfs(platform, entrypoint).files(files).build()
}

fn artifact(config: &str, artifact_type: &str, layer: &str) -> Image {
    let mut builder = ImageBuilder::new(config, json!({}));
    if !artifact_type.is_empty() {
        builder.extra = json!({"artifactType": artifact_type});
    }
    builder.layer(layer, fixtures::command()).build()
}

fn annotated(entrypoint: &[&str], files: &[(&str, &[u8])]) -> Image {
    let mut builder = ImageBuilder::rootfs("linux/amd64", entrypoint);
    builder.extra = json!({"annotations": {"module.wasm.image/variant": "compat"}});
    builder.files(files).build()
}

fn shapes_that_start() -> Vec<Case> {
    let (module, http) = (fixtures::command(), fixtures::http_component());
    let app: &[(&str, &[u8])] = &[("app.wasm", &module)];
    let spin: &[(&str, &[u8])] = &[("spin.toml", SPIN_TOML), ("web.wasm", &http)];
    let locked = fixtures::locked_app(&[&http], &json!({}));
    let (module_kind, spin_kind) = (ImageKind::Module, ImageKind::SpinApp);
    vec![
        (
            "CNCF artifact, module",
            ImageBuilder::wasm_artifact(&module).build(),
            module_kind,
            Shape::WasmArtifact,
            "a core module, imports wasi_snapshot_preview1",
        ),
        (
            "CNCF artifact, component",
            ImageBuilder::wasm_artifact(&http).build(),
            ImageKind::HttpComponent,
            Shape::WasmArtifact,
            "a component, imports wasi:http/outgoing-handler",
        ),
        (
            "CNCF artifact, adapted module",
            ImageBuilder::wasm_artifact(&fixtures::componentize(&module)).build(),
            ImageKind::Component,
            Shape::WasmArtifact,
            "wasip2/wasm",
        ),
        (
            "runwasi layers",
            ImageBuilder::runwasi(&module, "app.wasm").build(),
            module_kind,
            Shape::RunwasiLayers,
            oci::RUNWASI_LAYER,
        ),
        (
            "Spin artifact",
            ImageBuilder::spin(&locked, &[&http]).build(),
            spin_kind,
            Shape::SpinArtifact,
            "`app` with 1 component, triggered by http",
        ),
        (
            "buildx",
            rootfs("wasi/wasm", &["/app.wasm"], app).with_attestation("wasi/wasm"),
            module_kind,
            Shape::WasmRootfs,
            "the index holds nothing for Linux",
        ),
        (
            "wasip1 root file system",
            rootfs("wasip1/wasm", &["/app.wasm"], app),
            module_kind,
            Shape::WasmRootfs,
            "wasip1/wasm",
        ),
        (
            "FROM scratch",
            rootfs("linux/amd64", &["/app.wasm"], app),
            module_kind,
            Shape::ScratchRootfs,
            "/app.wasm",
        ),
        (
            "spin.toml, wasi",
            rootfs("wasi/wasm", &[], spin),
            spin_kind,
            Shape::SpinRootfs,
            "`shop` with 1 component, triggered by http",
        ),
        (
            "spin.toml, linux",
            rootfs("linux/amd64", &["/"], spin),
            spin_kind,
            Shape::SpinRootfs,
            "`shop` with 1 component, triggered by http",
        ),
        (
            "crun annotation",
            annotated(&["/app"], &[("app", &module)]),
            module_kind,
            Shape::CrunRootfs,
            "compat",
        ),
        (
            "linux",
            rootfs("linux/amd64", &["/bin/sh"], &[("bin/sh", b"\x7fELF....")]),
            ImageKind::Linux,
            Shape::LinuxRootfs,
            "an ordinary container image",
        ),
    ]
}

fn shapes_that_do_not_start() -> Vec<Case> {
    let (module, http) = (fixtures::command(), fixtures::http_component());
    let lunatic =
        fixtures::wat(r#"(module (import "lunatic::process" "spawn" (func)) (func (export "_start")))"#);
    let locked = fixtures::locked_app(&[&http], &json!({}));
    let legacy = ImageBuilder::new(oci::SPIN_APPLICATION, locked).layer(oci::SPIN_LAYER, http).build();
    let slight: &[(&str, &[u8])] = &[("slightfile.toml", b"x = 1"), ("app.wasm", &module)];
    let wws: &[(&str, &[u8])] = &[(".wws.toml", b"x = 1"), ("index.js", b"1")];
    let config = |name: &str| format!("application/vnd.{name}");
    let cases = vec![
        ("old Spin", legacy, Shape::SpinLegacy, "an old Spin application"),
        ("slight", rootfs("linux/amd64", &["/"], slight), Shape::SlightRootfs, "slight application"),
        ("Wasm Workers Server", rootfs("wasi/wasm", &[], wws), Shape::WwsRootfs, "Wasm Workers Server"),
        (
            "lunatic",
            rootfs("linux/amd64", &["/a.wasm"], &[("a.wasm", &lunatic)]),
            Shape::ScratchRootfs,
            "lunatic",
        ),
        (
            "wasm-to-oci",
            artifact(&config("wasm.config.v1+json"), "", oci::SPIN_LAYER),
            Shape::Other,
            "a wasm-to-oci artifact",
        ),
        (
            "proxy-wasm",
            artifact(&config("module.wasm.config.v1+json"), "", MODULE_LAYER),
            Shape::Other,
            "a proxy-wasm filter",
        ),
        (
            "proxy-wasm, compat",
            annotated(&[], &[("plugin.wasm", &module)]),
            Shape::Other,
            "a proxy-wasm filter in its `compat` form",
        ),
        (
            "wasmCloud",
            artifact(&config("wasmcloud.config"), "", MODULE_LAYER),
            Shape::Other,
            "a legacy wasmCloud module",
        ),
        (
            "empty config",
            artifact(EMPTY, &config("wasm.config.v0+json"), oci::WASM_LAYER),
            Shape::Other,
            "with an empty config",
        ),
        (
            "runwasi prototype",
            artifact(EMPTY, &config("bytecodealliance.component.v1+wasm"), oci::WASM_LAYER),
            Shape::Other,
            "runwasi's first prototype",
        ),
        (
            "WIT package",
            ImageBuilder::wasm_artifact(&fixtures::wit_package()).build(),
            Shape::WasmArtifact,
            "a WIT package",
        ),
    ];
    cases
        .into_iter()
        .map(|(name, image, shape, words)| (name, image, ImageKind::Unknown, shape, words))
        .collect()
}

async fn pushed(registry: &Registry, number: usize, image: &Image) -> String {
    let blobs: Vec<&[u8]> = image.blobs.values().map(Vec::as_slice).collect();
    for (at, (media_type, manifest)) in image.manifests.values().enumerate() {
        registry.push(&format!("shapes/s{number}:child{at}"), &blobs, manifest, media_type).await;
    }
    let name = format!("shapes/s{number}:v1");
    assert_eq!(registry.push(&name, &blobs, &image.manifest, &image.media_type).await, image.digest);
    registry.image(&name)
}

fn shown(name: &str, facts: &ImageFacts, program: &Program) -> String {
    let evidence: Vec<String> = facts.evidence.iter().map(|e| format!("{}: {}", e.seen, e.value)).collect();
    let word = |value: serde_json::Value| value.to_string().replace(['"', '[', ']'], "");
    let (shape, kind) = (word(json!(facts.shape)), word(json!(facts.kind)));
    format!(
        "{name} | {shape} | {kind} | {} | {}",
        word(json!(runnable_by(facts, program))),
        evidence.join("; ")
    )
}

#[tokio::test]
async fn every_shape_from_a_real_registry_is_recognised() {
    let registry = Registry::start();
    let host = registry.image("x").split('/').next().unwrap().to_string();
    let options = json!({"registries": {"allow": ["*", host], "insecure": [host]}});
    let inspector = Inspector::new(serde_json::from_value(options).unwrap()).unwrap();
    for (number, (name, image, kind, shape, words)) in
        shapes_that_start().into_iter().chain(shapes_that_do_not_start()).enumerate()
    {
        let reference = pushed(&registry, number, &image).await;
        let facts = inspector.inspect(&reference, Depth::Layers, Duration::from_secs(20)).await.unwrap();
        let program = program::program(&facts, &[], &[]);
        println!("{}", shown(name, &facts, &program));
        assert_eq!((facts.kind, facts.shape, facts.digest.as_str()), (kind, shape, &*image.digest), "{name}");
        assert!(facts.evidence.iter().any(|e| e.value.contains(words)), "{name}: {:?}", facts.evidence);
        assert_eq!(facts.claims, [], "{name}");
        // The reason is given if no runtime starts it, and a program that runs has a runtime.
        match program {
            Program::Unknown { reason } => {
                assert!(kind == ImageKind::Unknown && !reason.is_empty(), "{name}");
            }
            Program::Linux => assert_eq!(kind, ImageKind::Linux, "{name}"),
            ref wasm => assert!(kind.is_wasm() && !runnable_by(&facts, wasm).is_empty(), "{name}"),
        }
    }
}

/// The schema types the rules, so no rule could use a name that it lacks.
#[test]
fn the_schema_of_the_policies_lists_every_shape_and_runtime() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../policies/schema/input.v1alpha1.json")).unwrap();
    let container = &schema["definitions"]["container"]["properties"];
    let shapes = [
        Shape::WasmArtifact,
        Shape::RunwasiLayers,
        Shape::SpinArtifact,
        Shape::SpinLegacy,
        Shape::SpinRootfs,
        Shape::SlightRootfs,
        Shape::WwsRootfs,
        Shape::CrunRootfs,
        Shape::WasmRootfs,
        Shape::ScratchRootfs,
        Shape::LinuxRootfs,
        Shape::Other,
    ];
    let listed = container["shape"]["enum"].as_array().unwrap();
    assert_eq!(listed.len(), shapes.len() + 1, "and null");
    assert!(shapes.iter().all(|shape| listed.contains(&json!(shape))), "{listed:?}");
    let all = json!(Family::DESCRIBED);
    assert_eq!(container["runnableBy"]["items"]["enum"], all);
}
