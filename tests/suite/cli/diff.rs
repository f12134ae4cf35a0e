//! `diff`: what a new image, file or manifest can do that the old one could not.

use std::path::Path;

use pulldown_cmark::{Event, Options, Parser, Tag};
use serde_json::{Value, json};

use super::{Said, layouts, run, samples, wasmgate};
use crate::support::api::{Api, Fault};
use crate::support::oci::{ImageBuilder, fixtures};

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

/// A Spin application says in its image what its components are handed, so a new host is told without a manifest.
#[test]
fn an_application_that_names_another_host_or_store_can_do_more() {
    let folder = tempfile::tempdir().unwrap();
    let module = wat::parse_str(std::fs::read_to_string(samples("programs/orders.wat")).unwrap()).unwrap();
    let app = |name: &str, hosts: &[&str], stores: &[&str]| {
        let metadata = json!({"allowed_outbound_hosts": hosts, "key_value_stores": stores});
        let locked = fixtures::locked_app(&[&module], &metadata);
        let layout = folder.path().join(name);
        ImageBuilder::spin(&locked, &[&module]).build().write_layout(&layout, "1").unwrap();
        [format!("spin.example/{name}:1"), format!("oci:{}:1", layout.display())]
    };
    let [old, old_layout] = app("old", &["https://payments.example.com"], &["default"]);
    let [new, new_layout] =
        app("new", &["https://payments.example.com", "https://evil.example.net"], &["default", "secrets"]);
    let at = format!("spin.example={}", folder.path().display());
    let compared = |old: &str, new: &str| run(&["diff", "--image-layouts", &at, old, new]);
    for (old, new) in [(&old, &new), (&old_layout, &new_layout)] {
        let more = compared(old, new);
        assert_eq!(more.code, 1, "{more:?}");
        more.has(&["+ capability http.outbound https://evil.example.net", "+ capability keyvalue secrets"]);
        assert!(!more.out.contains("+ capability http.outbound https://payments"), "{}", more.out);
        let less = compared(new, old);
        assert_eq!(less.code, 0, "{less:?}");
        less.has(&["- capability http.outbound https://evil.example.net", "nothing was added"]);
    }
    for (old, new) in [(&new, &new_layout), (&new_layout, &new)] {
        let same = compared(old, new);
        assert_eq!(same.code, 0, "{same:?}");
        assert!(!same.out.contains("capability"), "{}", same.out);
    }
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

/// Objects as documents of a file below a folder.
fn written(folder: &Path, name: &str, objects: &[serde_json::Value]) -> String {
    let path = folder.join(name);
    let text: Vec<_> = objects.iter().map(ToString::to_string).collect();
    std::fs::write(&path, text.join("\n---\n")).unwrap();
    path.to_str().unwrap().to_string()
}

fn pod(namespace: &str, image: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": image}]}})
}

/// Of an object that the gate cannot judge it is not known what was added, as `scan` and `explain` say.
#[test]
fn an_object_that_cannot_be_judged_does_not_count_as_adding_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = |image: &str| {
        json!({"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "f"},
            "spec": {"pods": {"containers": [{"name": "a", "image": image}]}}})
    };
    let old = written(folder.path(), "old.yaml", &[fleet(HELLO)]);
    let new = written(folder.path(), "new.yaml", &[fleet(FILES)]);
    let said = diff(&[&old, &new]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "Fleet default/f\n",
        "not known what it can do: the gate does not know this kind, and there are containers at \
         `spec.pods.containers`; describe the kind under `workloads`",
        "nothing is known to be added, but not everything could be compared\n",
    ]);
    diff(&[&old, &new, "-o", "markdown"]).has(&["### Wasm capabilities: 0 added, not everything is known\n"]);
    // The parts of its pods come from a `ServingRuntime`.
    let model = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}});
    let model = written(folder.path(), "model.yaml", &[model]);
    let said = diff(&[&model, &model]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&["InferenceService default/iris\n", "kind whose pods take parts from other objects"]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}});
    let service = written(folder.path(), "service.yaml", &[service]);
    let said = diff(&[&service, &service]);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing was added\n"), "it starts nothing");
}

#[test]
fn an_object_in_an_exempt_namespace_is_named_and_changes_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let old = written(folder.path(), "old.yaml", &[pod("kube-system", HELLO)]);
    let new = written(folder.path(), "new.yaml", &[pod("kube-system", FILES)]);
    let said = diff(&[&old, &new]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["Pod kube-system/app\n", "not judged: exempt namespace"]);
}

#[test]
fn what_an_unread_image_was_able_to_do_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let old = written(folder.path(), "old.yaml", &[pod("shop", "samples.example/none:1")]);
    let new = written(folder.path(), "new.yaml", &[pod("shop", FILES)]);
    let said = diff(&[&old, &new]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "not known what the old one was able to do: ",
        "? capability fs",
        "not everything could be compared",
    ]);
    assert!(!said.out.contains("+ capability"), "{}", said.out);
    let document = diff(&[&old, &new, "-o", "json"]).json();
    assert_eq!(document["adds"], false);
    assert!(
        document["programs"][0]["oldUnread"].is_string() && document["programs"][0].get("unread").is_none()
    );
    diff(&[&old, &new, "-o", "markdown"]).has(&["| not known | capability | `fs"]);
}

/// The samples' images by the names of their workloads.
fn workload(name: &str) -> String {
    samples(&format!("workloads/{name}.yaml")).to_str().unwrap().to_string()
}

#[test]
fn what_no_grant_covers_is_told_whether_or_not_it_is_new() {
    let grants = samples("grants");
    let granted = ["--grants", grants.to_str().unwrap()];
    let of = |old: &str, new: &str, more: &[&str]| {
        diff(&[&[&workload(old), &workload(new), granted[0], granted[1]], more].concat())
    };
    let covered = of("hello", "orders", &["-o", "markdown"]);
    covered.has(&["| **added** | capability | `http.outbound", " | `WasiGrant/orders` |"]);
    assert!(!covered.out.contains("no grant"), "{}", covered.out);
    let open = of("hello", "files", &[]);
    open.has(&["+ capability fs", ": no grant covers it"]);
    of("hello", "files", &["-o", "markdown"]).has(&[" without a grant", "| **no grant** |"]);
    let same = of("files", "files", &[]);
    assert_eq!(same.code, 0, "it was there before: {same:?}");
    same.has(&["! capability fs", ": no grant covers it", "no difference", "nothing was added"]);
    let document = of("files", "files", &["-o", "json"]).json();
    let uncovered = document["programs"][0]["uncovered"].as_array().unwrap();
    assert!(uncovered.iter().any(|entry| entry["capability"] == "fs"), "{document}");
    let images = diff(&[FILES, FILES, "-o", "json"]).json();
    assert_eq!(images["programs"][0]["uncovered"], json!([]), "no grant is applied to an image alone");
}

#[test]
fn everything_is_new_beside_an_empty_folder_and_a_new_one_must_not_be_empty() {
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let said = diff(&[empty, &workload("files")]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["new: samples.example/files:1", "+ capability fs"]);
    diff(&[&workload("files"), empty]).fails(&["found no Kubernetes objects"]);
}

/// Nothing of WASI limits it.
#[test]
fn a_linux_program_in_the_place_of_wasm_can_do_more_and_by_itself_is_no_difference() {
    const WEB: &str = "samples.example/web:1";
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, image: &str| written(folder.path(), name, &[pod("shop", image)]);
    let (wasm, linux) = (of("wasm.yaml", HELLO), of("linux.yaml", WEB));
    let gained = "+ capability native.exec (it starts a Linux program, which WASI does not limit)";
    for [old, new] in [[HELLO, WEB], [wasm.as_str(), linux.as_str()]] {
        let said = diff(&[old, new]);
        assert_eq!(said.code, 1, "{said:?}");
        said.has(&[gained, "- capability stdio", "added: 1 capability\n"]);
    }
    for same in [WEB, linux.as_str()] {
        let said = diff(&[same, same]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(!said.out.contains("native.exec"), "{}", said.out);
    }
    diff(&[WEB, HELLO]).has(&["- capability native.exec", "+ capability stdio"]);
    // Under another name too.
    let mut renamed = pod("shop", WEB);
    renamed["spec"]["containers"][0]["name"] = json!("renamed");
    let renamed = written(folder.path(), "renamed.yaml", &[renamed]);
    let said = diff(&[&wasm, &renamed]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[gained]);
}

/// A pull request that takes one workload away and brings another one has that reviewed, whatever the first was able to do.
#[test]
fn another_workload_of_a_folder_is_a_new_one_though_each_folder_has_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let side = |name: &str, namespace: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let file = written(&path, "pod.yaml", &[pod(namespace, HELLO)]);
        (path.to_str().unwrap().to_string(), file)
    };
    let ((old, old_file), (new, new_file)) = (side("old", "shop"), side("new", "other"));
    let said = diff(&[&old, &new]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "Pod other/app: main  new: samples.example/hello:1",
        "Pod shop/app: main  gone: samples.example/hello:1",
    ]);
    assert_eq!(diff(&[&old_file, &new_file]).code, 0, "two files are compared with one another");
}

// === Markdown ===

/// The rows of all tables of a comment, after a look at whether anything in it is more than text.
fn rows(markdown: &str) -> usize {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut rows = 0;
    for event in Parser::new_ext(markdown, options) {
        match event {
            Event::Start(Tag::TableRow) => rows += 1,
            Event::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::CodeBlock(_) | Tag::BlockQuote(_)) => {
                panic!("{event:?} in {markdown}")
            }
            Event::Html(html) => assert!(
                html.starts_with("<details><summary>Imports: ") || html.starts_with("</details>"),
                "{html} in {markdown}"
            ),
            Event::InlineHtml(html) => panic!("{html} in {markdown}"),
            _ => {}
        }
    }
    rows
}

/// An image that imports these functions of a foreign interface, in a layout at `evil.example/NAME:1`.
fn importing(folder: &Path, name: &str, functions: &[String]) {
    let hex = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap();
    let text =
        |text: &str| text.bytes().flat_map(|byte| ['\\', hex(byte >> 4), hex(byte & 15)]).collect::<String>();
    let import = |function: &String| format!(r#"(import "evil" "{}" (func))"#, text(function));
    let imports: String = functions.iter().map(import).collect();
    let module = wat::parse_str(format!(
        r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#
    ));
    ImageBuilder::wasm_artifact(&module.unwrap()).build().write_layout(&folder.join(name), "1").unwrap();
}

/// A pod in a file of its own, whose container runs this image under a Wasm class.
fn evil_pod(folder: &Path, file: &str, name: &str, images: &[String]) -> String {
    let container = |(index, image): (usize, &String)| json!({"name": format!("c{index}"), "image": image});
    let containers: Vec<Value> = images.iter().enumerate().map(container).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"runtimeClassName": "wasmtime", "containers": containers}});
    written(folder, file, &[pod])
}

#[test]
fn nothing_foreign_in_a_comment_is_more_than_text_and_every_row_is_one() {
    const EVIL: [&str; 4] = [
        "`|x|` [a](http://evil.example) ![i](http://evil.example/i.png)",
        "a\\|<img src=//evil.example/i>|``` @everyone",
        "\n\n# heading\n<script>x</script>",
        "</summary></details> ~~~",
    ];
    let folder = tempfile::tempdir().unwrap();
    importing(folder.path(), "old", &[]);
    importing(folder.path(), "new", &EVIL.map(String::from));
    let images = format!("evil.example={}", folder.path().display());
    let old = evil_pod(folder.path(), "old.json", EVIL[0], &["evil.example/old:1".into()]);
    let new = evil_pod(folder.path(), "new.json", EVIL[0], &["evil.example/new:1".into()]);
    let of = |form: &str| run(&["diff", &old, &new, "--image-layouts", &images, "-o", form]);
    let program = &of("json").json()["programs"][0];
    let count = |key: &str, side: &str| program[key][side].as_array().unwrap().len();
    let both = |key: &str| count(key, "added") + count(key, "removed");
    let kept = program["uncovered"].as_array().unwrap().iter();
    let kept =
        kept.filter(|entry| !program["capabilities"]["added"].as_array().unwrap().contains(entry)).count();
    let expected = both("capabilities") + both("interpreters") + both("denials") + both("imports") + kept;
    assert_eq!(both("imports"), EVIL.len(), "{program}");
    let markdown = of("markdown");
    assert_eq!(rows(&markdown.out), expected, "{}", markdown.out);
}

/// GitHub refuses a comment of more than 65 536 characters, and with it the whole of it.
#[test]
fn a_comment_has_a_bounded_length_and_says_what_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let functions: Vec<String> = (0..200).map(|number| format!("{number}{}", "long".repeat(100))).collect();
    importing(folder.path(), "old", &[]);
    importing(folder.path(), "new", &functions);
    let images = format!("evil.example={}", folder.path().display());
    let pod = |file: &str, image: &str| evil_pod(folder.path(), file, "many", &vec![image.to_string(); 6]);
    let (old, new) = (pod("old.json", "evil.example/old:1"), pod("new.json", "evil.example/new:1"));
    let said = run(&["diff", &old, &new, "--image-layouts", &images, "-o", "markdown"]);
    assert!(said.out.len() <= 60_000, "{}", said.out.len());
    said.has(&["further lines are left out; `-o json` has all.", "too long to show here"]);
    let opened = said.out.matches("<details>").count();
    assert!(opened > 0 && opened == said.out.matches("\n</details>\n").count(), "every fold is closed");
    assert!(rows(&said.out) > 60, "{}", said.out);
    let same = run(&["diff", &old, &old, "--image-layouts", &images, "-o", "markdown"]);
    assert!(same.out.len() < 20_000, "{}", same.out);
    // So many that there is no space for all of their names.
    importing(folder.path(), "little", &["one".into()]);
    let pod = |file: &str, image: &str| evil_pod(folder.path(), file, "many", &vec![image.to_string(); 300]);
    let (old, new) = (pod("old.json", "evil.example/old:1"), pod("new.json", "evil.example/little:1"));
    let said = run(&["diff", &old, &new, "--image-layouts", &images, "-o", "markdown"]);
    assert!(said.out.len() <= 60_000, "{}", said.out.len());
    said.has(&["further programs are left out; `-o json` has all."]);
}

/// Who builds an image could else keep what it gains out of the comment, by names that take four bytes for each character.
#[test]
fn a_program_with_too_much_to_say_of_it_is_named_in_a_comment() {
    let folder = tempfile::tempdir().unwrap();
    let functions: Vec<String> =
        (0..100).map(|number| format!("{number}{}", "\u{1f600}".repeat(300))).collect();
    importing(folder.path(), "old", &[]);
    importing(folder.path(), "new", &functions);
    let images = format!("evil.example={}", folder.path().display());
    let pod = |file: &str, image: &str| evil_pod(folder.path(), file, "wordy", &[image.to_string()]);
    let (old, new) = (pod("old.json", "evil.example/old:1"), pod("new.json", "evil.example/new:1"));
    let said = run(&["diff", &old, &new, "--image-layouts", &images, "-o", "markdown"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "Pod shop/wordy: c0",
        "evil.example/new:1",
        "added",
        "too long to show here, and `-o json` has it",
    ]);
    assert!(said.out.len() < 5_000, "{}", said.out.len());
}

// === A cluster ===

fn deployment(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "app"}}, "template": {"metadata": {"labels": {"app": "app"}},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": image}]}}}})
}

async fn against(api: &Api, folder: &Path, manifest: &str, more: &[&str]) -> Said {
    let kubeconfig = api.kubeconfig(folder);
    let mut command = wasmgate();
    command
        .args(["diff", "-f", manifest, "--image-layouts", &layouts(), "--kubeconfig"])
        .arg(kubeconfig)
        .args(more);
    tokio::task::spawn_blocking(move || Said::of(&mut command)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_compared_with_what_the_cluster_has() {
    let api = Api::start().await;
    api.put("runtimeclasses", json!({"metadata": {"name": "wasmtime"}, "handler": "wasmtime"}));
    let mut running = deployment(HELLO);
    running["metadata"]["uid"] = json!("1");
    api.put("deployments", running);
    let folder = tempfile::tempdir().unwrap();
    let new = written(
        folder.path(),
        "new.yaml",
        &[deployment(FILES), json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}})],
    );
    let said = against(&api, folder.path(), &new, &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "Deployment shop/app: main  samples.example/hello:1 -> samples.example/files:1",
        "+ capability fs",
    ]);
    let same = written(folder.path(), "same.yaml", &[deployment(HELLO)]);
    assert_eq!(against(&api, folder.path(), &same, &[]).await.code, 0);
    assert_eq!(against(&api, folder.path(), &same, &["-n", "elsewhere"]).await.code, 0, "it names its own");
    let mut unnamed = deployment(FILES);
    unnamed["metadata"]["name"] = json!("new");
    let fresh = written(folder.path(), "fresh.yaml", &[unnamed]);
    let said = against(&api, folder.path(), &fresh, &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["Deployment shop/new: main  new: samples.example/files:1"]);
    api.fail("deployments", Fault::Status(403));
    against(&api, folder.path(), &new, &[]).await.fails(&[
        "could not read Deployment `shop/app` from the cluster",
        "a role needs `get` on deployments",
    ]);
    run(&["diff", HELLO, FILES, "-f", &new]).fails(&["cannot be used with"]);
    run(&["diff", HELLO]).fails(&["<NEW>"]);
}

/// No rule is asked about a file, so a denial of the image it became is not a new one, and none was mended in the file.
#[test]
fn a_file_and_the_image_of_the_same_bytes_differ_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(samples("programs/files.wat")).unwrap();
    let file = folder.path().join("files.wasm");
    std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    for sides in [[file, FILES], [FILES, file]] {
        let said = diff(&sides);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(!said.out.contains("denied by") && !said.out.contains("denial"), "{}", said.out);
    }
    let layout = format!("oci:{}:1", samples("images/files").display());
    assert_eq!(diff(&[&layout, FILES]).code, 0, "of a layout no rule is asked either");
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
    said.has(&["### Wasm capabilities: 2 added\n", "| **added** | capability | `fs", "- `binary "]);
    let missing = diff(&["./none.wasm", FILES]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("there is no such file"), "{missing:?}");
}
