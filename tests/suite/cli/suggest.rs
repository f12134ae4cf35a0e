//! `suggest` prints a file of grants that admits what was denied.

use std::path::Path;

use super::{Said, layouts, pipe, run, samples};
use crate::support::images;
use crate::support::oci::{ImageBuilder, fixtures};

fn suggest(what: &[&str]) -> Said {
    run(&[&["suggest", "--image-layouts", &layouts()], what].concat())
}

#[test]
fn the_output_is_a_grants_file_that_admits_the_manifest() {
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
            said.out.starts_with(&format!("# Pod shop/{workload}: this grant would admit it\n")),
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
    let said = suggest(&["-f", samples("workloads/files.yaml").to_str().unwrap()]);
    said.has(&[
        "    images: [\"samples.example/files\"]\n",
        "    # env DB_PASSWORD: env DB_PASSWORD from secret db key password; import wasi_snapshot_preview1.",
        "\n    - { name: env, names: [\"DB_PASSWORD\"], secrets: true }\n",
        "\n    - { name: fs, paths: [\"/data\"], access: read-write }\n",
    ]);
}

#[test]
fn an_image_is_judged_as_a_pod_of_it_alone() {
    let said = suggest(&["-n", "shop", "samples.example/orders:1"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "# Pod shop/orders: this grant would admit it",
        "  namespace: shop\n",
        "{ name: trigger, names: [\"http\"] }",
    ]);
    let quiet = suggest(&["samples.example/hello:1"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (0, "# Pod default/hello: nothing is missing\n"));
    suggest(&["samples.example/files:1"]).has(&[
        "    # env (any name): import ",
        "    # fs /dev: import ",
        "    # native.exec: as trusted as a native program; grant it only to images that you trust like one \
         (docs/capabilities.md)\n    - { name: native.exec }\n",
    ]);
}

#[test]
fn a_token_that_hardening_takes_is_said_to_be_taken_and_is_granted_only_where_the_manifest_asks_for_it() {
    let pod = |asked: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: app, namespace: shop}}\nspec:\n  {asked}\n  \
             containers: [{{name: app, image: \"samples.example/files:1\"}}]\n"
        )
    };
    let suggested = |asked: &str| pipe(&["suggest", "-f", "-", "--image-layouts", &layouts()], &pod(asked));
    let taken = suggested("");
    taken.has(&[
        "# taken: the service-account token is not mounted, `automountServiceAccountToken: false` was set",
        "{ name: native.exec }",
    ]);
    assert!(taken.err.starts_with("Pod shop/app: the service-account token is not mounted"), "{}", taken.err);
    let token =
        "paths: [\"/var/run/secrets/kubernetes.io/serviceaccount\"], access: read-only, secrets: true }\n";
    let granted = |said: &Said| {
        said.out.lines().any(|line| line.starts_with("    - {") && format!("{line}\n").ends_with(token))
    };
    assert!(!granted(&taken), "{}", taken.out);
    let asked = suggested("automountServiceAccountToken: true");
    assert!(granted(&asked) && !asked.out.contains("taken:"), "{}", asked.out);
    assert_eq!((taken.code, asked.code), (0, 0));
}

#[test]
fn what_no_grant_can_mend_is_printed_and_gives_exit_code_1() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: app, namespace: shop}\nspec:\n  runtimeClassName: wasmtime\n  \
               containers: [{name: app, image: \"samples.example/orders:1\", command: [\"/\"]}]\n";
    let said = pipe(&["suggest", "-f", "-", "--image-layouts", &layouts()], pod);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "# Pod shop/app: no grant can admit it\n",
        "# denied: [runtime-mismatch]",
        "runtimeClassName: wasmtime-spin-v2",
    ]);
    assert!(said.err.starts_with("Pod shop/app: [runtime-mismatch]"), "{}", said.err);
    assert!(!said.out.contains("kind: WasiGrant"), "{}", said.out);
}

#[test]
fn an_image_or_a_file_is_required_and_not_both() {
    assert_eq!(suggest(&["-f", "x.yaml", "image"]).code, 2);
    assert_eq!(suggest(&[]).code, 2);
}

/// A pod with a binary from a real toolchain, packed as runwasi's images are, and its layout. `None` if the binary was
/// not downloaded.
fn packed(folder: &Path, name: &str, command: &str) -> Option<(String, String)> {
    let bytes = fixtures::produced(name)?;
    let image = ImageBuilder::runwasi(&bytes, "app.wasm").build();
    image.write_layout(&folder.join(name), "1").unwrap();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: app, namespace: shop}}\nspec:\n  runtimeClassName: wasmtime\n  \
         enableServiceLinks: false\n  containers: [{{name: app, image: \"real.example/{name}:1\", command: [\"{command}\"], \
         env: [{{name: A, value: b}}]}}]\n"
    );
    Some((pod, format!("real.example={}", folder.display())))
}

#[test]
fn an_interpreter_is_recognised_by_its_bytes_and_gets_its_toolchains_advice() {
    let folder = tempfile::tempdir().unwrap();
    let expected = [
        ("python", "CPython", "componentize --stub-wasi", "this grant would admit it"),
        // Its world omits what it does not use, so there is nothing to narrow and nothing to grant.
        ("javascript", "SpiderMonkey", "jco componentize --disable http", "nothing is missing"),
    ];
    for (name, engine, way_out, summary) in expected {
        let Some((pod, layouts)) = packed(folder.path(), name, "app.wasm#run") else { continue };
        let said = pipe(&["suggest", "-f", "-", "--image-layouts", &layouts], &pod);
        assert_eq!(said.code, 0, "{said:?}");
        let can = "which can call everything that its standard library can";
        let carries = format!("carries the interpreter {engine} (");
        said.has(&[summary]);
        if summary == "this grant would admit it" {
            said.has(&["kind: WasiGrant", &carries, can, way_out, "wasi-virt"]);
            assert!(said.err.contains(&carries), "{}", said.err);
        }
        let explained = pipe(&["explain", "-f", "-", "--image-layouts", &layouts], &pod);
        explained.has(&[&format!("the interpreter {engine} ("), "wasmgate suggest"]);
        let input =
            pipe(&["explain", "-f", "-", "--image-layouts", &layouts, "--show-input", "-o", "json"], &pod);
        let found = input.json()["objects"][0]["input"]["containers"][0]["interpreters"].clone();
        assert_eq!(found[0]["engine"], *engine, "{found}");
        let file = folder.path().join(format!("{name}.wasm"));
        std::fs::write(&file, fixtures::produced(name).unwrap()).unwrap();
        run(&["inspect", file.to_str().unwrap()]).has(&[&format!("  carries  {engine}: can call"), way_out]);
    }
}

#[test]
fn a_large_program_without_an_interpreter_is_not_called_one() {
    let folder = tempfile::tempdir().unwrap();
    let Some((pod, layouts)) = packed(folder.path(), "yosys", "app.wasm") else { return };
    for command in ["suggest", "explain"] {
        let said = pipe(&[command, "-f", "-", "--image-layouts", &layouts], &pod);
        said.has(&["Pod shop/app"]);
        assert!(said.out.contains("fd_write") || command == "suggest", "it was read: {said:?}");
        let all = format!("{}{}", said.out, said.err).to_lowercase();
        assert!(!all.contains("interpreter") && !all.contains("carries"), "{all}");
    }
}

#[test]
fn without_an_image_or_with_a_manifest_in_its_place_the_message_names_the_flag() {
    run(&["suggest"])
        .fails(&["found nothing to suggest grants for; name an image, or files, folders or `-` with `-f`"]);
    run(&["suggest", "some/file.yaml"])
        .fails(&["`some/file.yaml` as an image: it names a file; write `-f some/file.yaml`"]);
}

#[test]
fn an_object_that_cannot_be_read_keeps_no_other_from_its_grant() {
    let broken = web("").replace("\"images.test/http:v1\"", "7").replace("name: web, n", "name: broken, n");
    let text = format!("{broken}---\n{}", web(""));
    let images = format!("{}={}", images::HOST, images::folder().display());
    let said = pipe(&["suggest", "-f", "-", "--image-layouts", &images], &text);
    assert_eq!(said.code, 2, "{said:?}");
    said.has(&[
        "# Pod shop/broken: could not be read, so what it needs is not known\n# error: could not explain Pod `broken`",
        "# Pod shop/web: this grant would admit it\n",
        "kind: WasiGrant",
    ]);
    assert!(said.err.contains("Pod shop/broken: could not explain Pod `broken`"), "{}", said.err);
}

fn policy_for(grants: &str, workload: &str) -> Said {
    asked_with("", grants, &["suggest", "--network-policy"], workload)
}

/// What a command says of a workload under this configuration, without its head, where one grant has these capabilities.
fn asked_with(configuration: &str, grants: &str, command: &[&str], workload: &str) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {name: g, namespace: shop}\n";
    let grants = format!("{head}spec: {{capabilities: [{grants}]}}\n");
    let (config, of_grants) = (folder.path().join("gate.yaml"), folder.path().join("grants"));
    std::fs::create_dir(&of_grants).unwrap();
    std::fs::write(of_grants.join("grants.yaml"), grants).unwrap();
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    std::fs::write(&config, format!("{head}{configuration}")).unwrap();
    let images = format!("{}={}", images::HOST, images::folder().display());
    let (config, of_grants) = (config.to_str().unwrap(), of_grants.to_str().unwrap());
    let options = ["-f", "-", "--config", config, "--grants", of_grants, "--image-layouts", images.as_str()];
    pipe(&[command, &options].concat(), workload)
}

/// A runtime whose pods are held by NetworkPolicies, as the platform says.
const ENFORCED: &str = "runtimes:\n  placement: {http-component: own, component: own}\n  profiles: [{name: own, runtimeClass: own, \
                        runs: [http-component, component], ambient: runwasi-wasmtime, networkPolicies: enforced}]\n";

fn web(metadata: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop{metadata}}}\nspec:\n  \
         containers: [{{name: web, image: \"images.test/http:v1\"}}]\n"
    )
}

const LABELLED: &str = ", labels: {app: web}";

#[test]
fn a_network_policy_holds_a_pod_to_the_addresses_of_its_grants_and_names_what_it_cannot_say() {
    let policy_for = |grants: &str, workload: &str| {
        asked_with(ENFORCED, grants, &["suggest", "--network-policy"], workload)
    };
    let said = policy_for("{name: http.outbound, hosts: ['https://10.0.0.0/8']}", &web(LABELLED));
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "# Pod shop/web: this policy holds it to the addresses and ports of its grants\n",
        "kind: NetworkPolicy\nmetadata:\n  name: web-network\n  namespace: shop\n",
        "    # WasiGrant/g: http.outbound to https://10.0.0.0/8\n    - to: [{ ipBlock: { cidr: \"10.0.0.0/8\" } }]\n",
        "ports: [{ protocol: TCP, port: 443 }]",
    ]);
    let said = policy_for("{name: http.outbound, hosts: ['https://api.example.com']}", &web(LABELLED));
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "# Pod shop/web: this policy is for grants that do not admit it on this runtime\n",
        "# denied: container `web`: `WasiGrant/g` does not count: `https://api.example.com` is a name",
        "WasiGrant/g: http.outbound to `https://api.example.com` is cut off",
        "k8s-app: kube-dns",
    ]);
    assert!(said.err.contains("is cut off"), "{}", said.err);
    let hosts =
        "'http://localhost:80', 'http://127.0.0.1:80', 'http://[::1]:80', 'https://[::ffff:10.0.0.1]'";
    let said = policy_for(&format!("{{name: http.outbound, hosts: [{hosts}]}}"), &web(LABELLED));
    assert_eq!(said.code, 0, "a NetworkPolicy does not cut loopback off: {said:?}");
    said.has(&["    - to: [{ ipBlock: { cidr: \"10.0.0.1/32\" } }]\n"]);
    assert_eq!(said.out.matches("cidr").count(), 1, "{}", said.out);
}

/// What `suggest` ends with is what `explain` says of the same pod.
#[test]
fn a_grant_by_address_admits_where_policies_hold_the_pods_and_suggest_says_what_is_missing_elsewhere() {
    let own = "{name: http.inbound, ports: [8080]}, {name: http.outbound, hosts: ['https://10.0.0.0/8']}";
    let suggest = ["suggest", "--network-policy"];
    let admitted = asked_with(ENFORCED, own, &["explain"], &web(LABELLED));
    assert_eq!(admitted.code, 0, "{admitted:?}");
    admitted.has(&["[network-policy-assumed]"]);
    assert_eq!(asked_with(ENFORCED, own, &suggest, &web(LABELLED)).code, 0);

    assert_eq!(
        asked_with("", own, &["explain"], &web(LABELLED)).code,
        1,
        "no grant by address covers any host"
    );
    let said = asked_with("", own, &suggest, &web(LABELLED));
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "# Pod shop/web: this policy is for grants that do not admit it on this runtime\n",
        "# denied: container `web`: `WasiGrant/g` does not admit the pod on this runtime, which allows `http.outbound` to any host: \
         a grant covers that as a whole or not at all; write `networkPolicies: enforced` into the runtime's profile if \
         NetworkPolicies hold its pods, or grant any host (`*://*:*`)",
        "cidr: \"10.0.0.0/8\"",
    ]);
    assert_eq!(policy_for("{name: http.outbound}", &web(LABELLED)).code, 0, "any host is granted");
    let open = asked_with(ENFORCED, "{name: http.inbound, ports: [8080]}", &["suggest"], &web(LABELLED));
    assert_eq!(open.code, 0, "{open:?}");
    open.has(&[
        "http.outbound reaches any host: ",
        "NetworkPolicies hold the pods of this profile: write the addresses",
    ]);
    let look_up = web(LABELLED).replace("/http:", "/dns:");
    let said = asked_with(ENFORCED, "{name: net.dns, hosts: ['tcp://db:5432']}", &suggest, &look_up);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["`WasiGrant/g` does not admit the pod: no NetworkPolicy tells one look-up from another"]);
    let listens = web(LABELLED).replace("/http:", "/tcp-listen:");
    let said = policy_for("{name: net.listen, ports: [9000]}", &listens);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["which allows `net.listen` on any port", "or grant it without ports", "port: 9000"]);
}

/// By `/proc/self/mem` the program becomes native code, which connects where it likes although its runtime hands over no network.
#[test]
fn a_network_policy_holds_a_module_that_a_grant_trusts_like_native_code() {
    let files = web(LABELLED).replace("/http:", "/files:");
    for native in ["native.exec", "native.plugin"] {
        let said = policy_for(&format!("{{name: {native}}}, {{name: fs}}"), &files);
        assert_eq!(said.code, 0, "{said:?}");
        said.has(&["kind: NetworkPolicy\n", "  policyTypes: [Egress]\n  egress: []\n"]);
    }
    let said =
        policy_for("{name: native.exec}, {name: net.tcp.connect, hosts: ['tcp://10.1.0.0/16:5432']}", &files);
    said.has(&[
        "- to: [{ ipBlock: { cidr: \"10.1.0.0/16\" } }]\n      ports: [{ protocol: TCP, port: 5432 }]",
    ]);
    let said = policy_for("{name: fs}", &files);
    assert!(said.out.contains("hands over no network"), "{}", said.out);
}

#[test]
fn no_network_policy_is_written_that_would_bind_other_pods_or_other_programs() {
    let grant = "{name: http.outbound}";
    let none = |workload: &str, code: i32, why: &str| {
        let said = policy_for(grant, workload);
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.out.contains(why) && !said.out.contains("kind: NetworkPolicy"), "{}", said.out);
    };
    none(&web(""), 1, "have no label");
    let on_the_node = web(LABELLED).replace("spec:\n", "spec:\n  hostNetwork: true\n");
    none(&on_the_node, 1, "no NetworkPolicy applies");
    let spin = web(LABELLED).replace("/http:", "/spin:");
    none(&spin, 0, "limits the hosts by itself");
    none(&web(LABELLED).replace("/http:", "/hello:"), 0, "hands over no network");
    assert_eq!(suggest(&["--network-policy", "samples.example/hello:1"]).code, 2);
}
