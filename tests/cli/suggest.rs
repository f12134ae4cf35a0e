//! `suggest`: what it prints is a file of grants that lets in what was denied.

use super::{Said, layouts, pipe, run, samples};

fn suggest(what: &[&str]) -> Said {
    run(&[&["suggest", "--image-layouts", &layouts()], what].concat())
}

#[test]
fn the_output_is_a_grants_file_that_lets_the_manifest_in() {
    for workload in ["orders-everywhere", "files"] {
        let file = samples(&format!("workloads/{workload}.yaml"));
        let file = file.to_str().unwrap();
        let explain =
            |grants: &str| run(&["explain", "-f", file, "--grants", grants, "--image-layouts", &layouts()]);
        let folder = tempfile::tempdir().unwrap();
        let grants = folder.path().to_str().unwrap();
        assert_eq!(explain(grants).code, 1, "{workload} is denied without a grant");
        let said = suggest(&["-f", file]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert!(
            said.out.starts_with(&format!("# Pod shop/{workload}: this would let it in\n")),
            "{}",
            said.out
        );
        std::fs::write(folder.path().join("new.yaml"), &said.out).unwrap();
        let explained = explain(grants);
        assert_eq!(explained.code, 0, "{explained:?}");
        let again = suggest(&["-f", file, "--grants", grants]);
        assert_eq!(again.out, format!("# Pod shop/{workload}: nothing is missing\n"));
        assert_eq!(again.code, 0);
    }
}

#[test]
fn every_line_of_a_grant_says_where_it_comes_from() {
    let said = suggest(&["-f", samples("workloads/files.yaml").to_str().unwrap(), "-o", "yaml"]);
    said.has(&[
        "    images: [\"samples.example/files\"]\n",
        "    # DB_PASSWORD: env DB_PASSWORD from secret db key password; import wasi_snapshot_preview1.",
        "\n    - { name: env, names: [\"DB_PASSWORD\"], secrets: true }\n",
        "\n    - { name: fs, paths: [\"/data\"], access: read-write }\n",
    ]);
}

#[test]
fn an_image_is_judged_as_a_pod_of_it_alone() {
    let said = suggest(&["-n", "shop", "samples.example/orders:1"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "# Pod shop/orders: this would let it in",
        "  namespace: shop\n",
        "{ name: trigger, names: [\"http\"] }",
    ]);
    let quiet = suggest(&["samples.example/files:1"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (0, "# Pod default/files: nothing is missing\n"));
}

#[test]
fn what_no_grant_can_mend_is_said_and_makes_the_exit_code_1() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: app, namespace: shop}\nspec:\n  runtimeClassName: wasmtime\n  \
               containers: [{name: app, image: \"samples.example/orders:1\", command: [\"/\"]}]\n";
    let said = pipe(&["suggest", "-f", "-", "--image-layouts", &layouts()], pod);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "# Pod shop/app: no grant would let it in\n",
        "# denied: [runtime-mismatch]",
        "runtimeClassName: wasmtime-spin-v2",
    ]);
    assert!(said.err.starts_with("Pod shop/app: [runtime-mismatch]"), "{}", said.err);
    assert!(!said.out.contains("kind: WasiGrant"), "{}", said.out);
}

#[test]
fn an_image_and_a_file_are_one_too_many_and_neither_is_one_too_few() {
    assert_eq!(suggest(&["-f", "x.yaml", "image"]).code, 2);
    assert_eq!(suggest(&[]).code, 2);
}
