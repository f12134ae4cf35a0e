//! `diff`: what a new image, file or manifest can do that the old one could not.

use std::path::Path;

use super::{Said, layouts, run, samples};

fn diff(what: &[&str]) -> Said {
    run(&[&["diff", "--image-layouts", &layouts()], what].concat())
}

const HELLO: &str = "samples.example/hello:1";
const FILES: &str = "samples.example/files:1";

/// A Wasm file with these functions of WASI preview 1 as its imports.
fn module(folder: &Path, name: &str, functions: &[&str]) -> String {
    let import = |function: &&str| format!(r#"(import "wasi_snapshot_preview1" "{function}" (func))"#);
    let imports = functions.iter().map(import).collect::<Vec<_>>().join(" ");
    let text = format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#);
    let path = folder.join(name);
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn the_exit_code_tells_whether_an_image_can_do_more() {
    let more = diff(&[HELLO, FILES]);
    assert_eq!((more.code, more.err.as_str()), (1, ""), "{more:?}");
    more.has(&["samples.example/hello:1 -> samples.example/files:1", "+ capability fs", "added: "]);
    let folder = tempfile::tempdir().unwrap();
    let large = module(folder.path(), "large.wasm", &["fd_write", "path_open"]);
    let small = module(folder.path(), "small.wasm", &["fd_write"]);
    let less = diff(&[&large, &small]);
    assert_eq!(less.code, 0, "{less:?}");
    less.has(&["- capability fs", "nothing was added"]);
    let same = diff(&[HELLO, HELLO]);
    assert_eq!((same.code, same.out.lines().last()), (0, Some("nothing was added")));
    same.has(&["    no difference\n"]);
}

#[test]
fn a_manifest_is_compared_container_by_container_with_what_denies_it() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |name: &str, image: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app, namespace: shop}}\nspec:\n  selector: \
             {{matchLabels: {{app: app}}}}\n  template:\n    metadata: {{labels: {{app: app}}}}\n    spec:\n      \
             containers:\n        - {{name: main, image: {image}}}\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (old, new) = (manifest("old.yaml", HELLO), manifest("new.yaml", FILES));
    let said = diff(&[&old, &new]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["Deployment shop/app: main", "+ denied by host-process-in-reach (native.exec)"]);
    let granted = samples("grants");
    let json = diff(&[&old, &new, "-o", "json", "--grants", granted.to_str().unwrap()]);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["adds"], true, "{document}");
    let program = &document["programs"][0];
    assert_eq!(program["name"], "Deployment shop/app: main");
    assert_eq!(program["presence"], "kept");
    let added = program["capabilities"]["added"].as_array().unwrap();
    assert!(added.iter().any(|entry| entry["capability"] == "fs"), "{added:?}");
    let yaml = diff(&[&old, &new, "-o", "yaml", "--grants", granted.to_str().unwrap()]);
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml.out).unwrap(), document);
    let fewer = diff(&[&new, &new, "-o", "json"]);
    assert_eq!(fewer.code, 0);
}

/// The first template is the one by which the webhooks judge the object.
#[test]
fn what_a_further_template_gains_is_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let job = |name: &str, worker: &str| {
        let template =
            |image: &str| format!("{{template: {{spec: {{containers: [{{name: main, image: {image}}}]}}}}}}");
        let text = format!(
            "{{apiVersion: kubeflow.org/v2beta1, kind: MPIJob, metadata: {{name: train, namespace: shop}}, spec: \
             {{mpiReplicaSpecs: {{Launcher: {}, Worker: {}}}}}}}",
            template(HELLO),
            template(worker)
        );
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (old, new) = (job("old.yaml", HELLO), job("new.yaml", FILES));
    let said = diff(&[&old, &new]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "MPIJob shop/train: main",
        "MPIJob shop/train spec.mpiReplicaSpecs.Worker.template: main",
        "+ denied by host-process-in-reach (native.exec)",
    ]);
    assert_eq!(diff(&[&new, &new]).code, 0);
}

#[test]
fn a_manifest_with_an_unreadable_image_does_not_count_as_adding_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pod.yaml");
    let pod = |image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: app}}\nspec: {{containers: [{{name: a, image: {image}}}]}}\n"
        )
    };
    std::fs::write(&path, pod("samples.example/none:1")).unwrap();
    let said = diff(&[path.to_str().unwrap(), path.to_str().unwrap()]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&["not known what it can do: "]);
}

#[test]
fn a_manifest_is_not_compared_with_an_image() {
    // A manifest adds what its runtime and its mounts hand over, so the same image would seem to have grown.
    let manifest = samples("workloads/hello.yaml");
    let manifest = manifest.to_str().unwrap();
    for sides in [[manifest, HELLO], [HELLO, manifest]] {
        diff(&sides).fails(&["one is a manifest and the other is not; compare two manifests or two images"]);
    }
}

#[test]
fn a_file_is_compared_with_an_image_and_the_markdown_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = module(folder.path(), "program.wasm", &["fd_write"]);
    let said = diff(&[&file, FILES, "-o", "markdown"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "### Wasm capabilities: 2 added, 1 denial added\n",
        "| **added** | capability | `fs",
        "- `binary ",
    ]);
    let missing = diff(&["./none.wasm", FILES]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("there is no such file"), "{missing:?}");
}
