//! The samples from a real registry, pushed by the usual tools.

use std::path::Path;

use serde_json::json;

use super::{Said, pipe, run, samples};
use crate::support::oci::{ImageBuilder, fixtures};
use crate::support::registry::Registry;

/// Pushes the sample images from their layouts, two with each tool.
fn push(registry: &Registry) {
    let images = samples("images");
    for name in ["orders", "hello"] {
        let (layout, image) = (format!("{name}:1"), registry.image(&format!("{name}:1")));
        registry.oras(&images, &["copy", "--from-oci-layout", &layout, "--to-plain-http", &image]);
    }
    for name in ["files", "web"] {
        registry.crane(&images, &["push", name, &registry.image(&format!("{name}:1"))]);
    }
}

/// Explains a sample whose images are renamed to the registry. The grant names images, so it is renamed too.
fn explain(registry: &Registry, folder: &Path, workload: &str, more: &[&str]) -> Said {
    let moved = |from: &str, to: &Path| {
        let text = std::fs::read_to_string(samples(from)).unwrap();
        std::fs::write(to, text.replace("samples.example", &registry.host)).unwrap();
    };
    let manifest = folder.join(format!("{workload}.yaml"));
    let grants = folder.join("grants");
    std::fs::create_dir_all(&grants).unwrap();
    moved(&format!("workloads/{workload}.yaml"), &manifest);
    moved("grants/orders.yaml", &grants.join("orders.yaml"));
    let fixed = ["explain", "-f", manifest.to_str().unwrap(), "--grants", grants.to_str().unwrap()];
    run(&[&fixed, ["--insecure-registry", &registry.host].as_slice(), more].concat())
}

#[test]
fn a_real_registry_gives_the_verdicts_of_the_layouts() {
    let registry = Registry::start();
    push(&registry);
    let folder = tempfile::tempdir().unwrap();
    let mut all = String::new();
    let expected = [
        ("orders", 0, "Deployment shop/orders  admitted"),
        ("linux", 0, "Deployment shop/web  no Wasm: left alone"),
        ("mixed", 0, "Pod shop/mixed  admitted with warnings"),
        ("hello", 0, "Deployment shop/hello  admitted"),
        ("files", 1, "Pod shop/files  denied"),
        ("orders-everywhere", 1, "Pod shop/orders-everywhere  denied"),
    ];
    for (workload, code, title) in expected {
        let said = explain(&registry, folder.path(), workload, &[]);
        assert_eq!(said.code, code, "{said:?}");
        said.has(&[title]);
        all.push_str(&said.out);
        // The pinned digest is that of the committed image, whichever tool pushed it.
        for image in ["orders", "hello", "files", "web"] {
            if said.out.contains(&format!("{}/{image}:1@", registry.host)) {
                said.has(&[&format!("{}/{image}:1@{}", registry.host, committed(image))]);
            }
        }
    }
    assert!(all.contains(&committed("orders")) && all.contains(&committed("web")), "{all}");
}

#[test]
fn a_loopback_registry_is_asked_only_if_it_is_listed() {
    let registry = Registry::start();
    push(&registry);
    let image = registry.image("orders:1");
    let before = registry.requests("GET", "/orders/");
    run(&["inspect", &image]).fails(&[&registry.host]);
    assert_eq!(registry.requests("GET", "/orders/"), before);
    let said = run(&["inspect", &image, "--insecure-registry", &registry.host]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["kind       spin-app", &committed("orders")]);
}

/// The digest of the committed layout's tag.
fn committed(image: &str) -> String {
    let text = std::fs::read(samples(&format!("images/{image}/index.json"))).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_string()
}

#[test]
fn a_pushed_image_whose_config_hides_an_import_is_refused() {
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let honest = json!({"imports": ["wasi:http/outgoing-handler@0.2.0"], "exports": ["wasi:http/incoming-handler@0.2.0"]});
    for (name, component) in [
        ("honest", honest),
        ("liar", json!({"imports": [], "exports": ["wasi:http/incoming-handler@0.2.0"]})),
    ] {
        let mut image = ImageBuilder::wasm_artifact(&fixtures::http_component());
        image
            .set_config("component", component)
            .build()
            .write_layout(&folder.path().join(name), "1")
            .unwrap();
        let image = registry.image(&format!("{name}:1"));
        registry.oras(
            folder.path(),
            &["copy", "--from-oci-layout", &format!("{name}:1"), "--to-plain-http", &image],
        );
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: app, namespace: shop}}\nspec:\n  runtimeClassName: wasmtime\n  \
             containers: [{{name: app, image: \"{image}\"}}]\n"
        );
        let arguments = ["explain", "-f", "-", "--insecure-registry", &registry.host, "-o", "json"];
        let report = pipe(&arguments, &pod).json()["objects"][0].clone();
        let rules: Vec<&str> =
            report["violations"].as_array().unwrap().iter().filter_map(|v| v["rule"].as_str()).collect();
        assert_eq!(rules.contains(&"config-mismatch"), name == "liar", "{name}: {report}");
        let claims = report["containers"][0]["claims"].as_array().unwrap();
        assert_eq!(claims.len(), usize::from(name == "liar"), "{claims:?}");
        if let Some(claim) = claims.first() {
            assert_eq!((&claim["field"], &claim["claimed"]), (&json!("component.imports"), &json!("")));
            assert!(claim["found"].as_str().unwrap().contains("wasi:http/outgoing-handler"), "{claim}");
            assert_eq!(report["outcome"], "denied");
        }
    }
}
