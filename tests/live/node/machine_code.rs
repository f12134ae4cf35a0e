//! Machine code that the compiler of the shim has made, in an image: as a layer, and as a file that the shim's search finds before the
//! one that it checks. The engine runs both as they are, and what is in them is held by no sandbox; the gate refuses both.

use std::fs;

use serde_json::{Value, json};

use super::golden::{UNSEEN, module, outcome};
use super::{SITE, Site, platform};
use crate::support::oci::{Image, ImageBuilder, TAR_LAYER, tar_of_mode};
use crate::support::probes::SHIM;
use crate::support::process::ask_patiently;

/// What the module says of itself, compiled or not.
const PLACE: &str = "/compiled-before.wasm";

/// How often a pod is started: of two new layers at once the shim may miss one.
const STARTS: usize = 3;

/// A pod that the gate does not see. The layer image names no entry point, so that the argument is the program's own name.
fn pod(site: &Site, name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": UNSEEN},
        "spec": {"runtimeClassName": SHIM.class, "nodeName": site.node.name, "restartPolicy": "Never",
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": site.registry.image(&format!("{image}:1")), "args": ["app"]}]}})
}

/// What starts of an image.
fn started(site: &Site, name: &str, image: &Image) -> String {
    site.push(name, image);
    let mut seen = String::new();
    for number in 0..STARTS {
        let pod_name = format!("{name}-{number}");
        site.apply(&pod(site, &pod_name, name)).ok();
        let ended = ask_patiently(|| outcome(site, &pod_name));
        seen = ended.unwrap_or_else(|| panic!("{name}: no end\n{}", site.story(UNSEEN)));
        if !seen.starts_with("nothing") {
            break;
        }
    }
    seen
}

/// What the shim's compiler has made of the module's layer, as containerd keeps it on the node: an ELF file with the module's data.
fn compiled(site: &Site) -> Vec<u8> {
    let content = "node/lib/containerd/io.containerd.content.v1.content/blobs/sha256";
    let blobs = site.plane.home().path().join(content);
    let data = format!("started {PLACE}");
    let is_it = |blob: &Vec<u8>| {
        blob.starts_with(b"\x7fELF") && blob.windows(data.len()).any(|window| window == data.as_bytes())
    };
    site.plane.wait_for("containerd to keep what was compiled", || {
        let files = fs::read_dir(&blobs).unwrap();
        files.filter_map(|file| fs::read(file.ok()?.path()).ok()).find(&is_it)
    })
}

fn is_refused(site: &Site, namespace: &str, name: &str) {
    let mut judged = pod(site, name, name);
    judged["metadata"]["namespace"] = json!(namespace);
    judged["spec"].as_object_mut().unwrap().remove("nodeName");
    let refused = site.plane.apply(&judged, &["--dry-run=server"]).refused();
    assert!(refused.contains("denied the request"), "{name}: {refused}");
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn machine_code_of_its_own_compiler_runs_on_the_shim_from_a_layer_and_from_a_file_and_the_gate_refuses_both()
{
    let site = SITE.get();
    let namespace = site.plane.namespace("machine-code", &json!({}));
    let layer = ImageBuilder::wasm_artifact(&module(PLACE)).build();
    assert_eq!(started(&site, "compiled", &layer), PLACE);
    let code = compiled(&site);
    let mut files = ImageBuilder::rootfs(platform(), &["app"]);
    // No user may execute it, so that it is no program; the shim checks the one in the working directory and starts this one.
    files.layer(TAR_LAYER, tar_of_mode(&[("usr/bin/app", &code)], 0o644));
    files.files(&[("app", &module("/app"))]);
    for (name, image) in
        [("code-in-a-layer", ImageBuilder::wasm_artifact(&code).build()), ("code-in-a-file", files.build())]
    {
        assert_eq!(started(&site, name, &image), PLACE, "{name}");
        is_refused(&site, &namespace, name);
    }
}
