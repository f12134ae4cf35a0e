//! The samples out of a real registry, pushed by the programs that people push with.

use std::path::Path;

use super::registry::Registry;
use super::{Said, run, samples};

/// Pushes the sample images from their layouts: two with each program.
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

/// Explains a sample whose images are named after the registry. The grant names images, so it is moved too.
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
        // What is pinned is what was committed, whatever program pushed it.
        for image in ["orders", "hello", "files", "web"] {
            if said.out.contains(&format!("{}/{image}:1@", registry.host)) {
                said.has(&[&format!("{}/{image}:1@{}", registry.host, committed(image))]);
            }
        }
    }
    assert!(all.contains(&committed("orders")) && all.contains(&committed("web")), "{all}");
}

#[test]
fn a_loopback_registry_is_not_asked_unless_it_is_named() {
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

/// The digest that the committed layout has under its tag.
fn committed(image: &str) -> String {
    let text = std::fs::read(samples(&format!("images/{image}/index.json"))).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_string()
}
