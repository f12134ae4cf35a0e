//! The same pod gets the same answer whatever the gate remembers: from a gate that knows no image, from one that was
//! just asked the same, and from one that has read every image as deep as it can.

use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::image::Depth;
use wasmgate::review::Webhook;

use super::cases::shared_setup;
use crate::support::corpus::Case;
use crate::support::gate::{Flow, Request, Setup, defaulted, patched, plain_pod, plug_ins};
use crate::support::images;
use crate::support::oci::{self, ImageBuilder, fixtures};

const AMPLE: Duration = Duration::from_secs(20);

/// Both answers, without what differs from call to call.
async fn answers(flow: &Flow, mut request: Request, settle: impl Fn(&Value) -> Value) -> [Value; 2] {
    let mutate = flow.send(Webhook::Mutate, &request).await;
    request.object = settle(&patched(&request.object, &mutate));
    let validate = flow.send(Webhook::Validate, &request).await;
    [mutate, validate].map(|mut answer| {
        answer["uid"].take();
        answer
    })
}

async fn answers_to(flow: &Flow, case: &Case) -> [Value; 2] {
    answers(flow, case.request(), |object| plug_ins(object, case.namespace(), &case.documents())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_has_the_same_results_on_a_cold_gate_a_warm_one_and_one_that_knows_every_image() {
    let cases: Vec<Case> = Case::load_all().into_iter().filter(|case| !case.is_apart()).collect();
    assert!(cases.len() > 100, "{} cases", cases.len());
    let warm = Flow::new(&shared_setup(&cases)).await;
    let knows_everything = warm.with_new_memory();
    let layouts = std::fs::read_dir(images::folder()).unwrap();
    for name in layouts.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let image = format!("{}/{name}:v1", images::HOST);
        // Some cannot be read, which is remembered too.
        let _ = knows_everything.gate.inspector().inspect(&image, Depth::Layers, AMPLE).await;
    }
    let mut wrong = Vec::new();
    for case in &cases {
        let cold = answers_to(&warm.with_new_memory(), case).await;
        answers_to(&warm, case).await;
        for (gate, answer) in [
            ("a warm gate", answers_to(&warm, case).await),
            ("a gate that saw everything", answers_to(&knows_everything, case).await),
        ] {
            if answer != cold {
                let [mutate, validate] = [0, 1].map(|at| format!("{}\n{}", cold[at], answer[at]));
                wrong.push(format!("== {}: {gate}\n{mutate}\n{validate}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers differ\n{}", wrong.len(), wrong.join("\n"));
}

/// An image whose entry point is Wasm, although neither its name nor its platform says so.
fn disguised(folder: &std::path::Path) {
    let mut image = ImageBuilder::rootfs("linux/amd64", &["/app"]);
    image.files(&[("app", &fixtures::command())]);
    image.build().write_layout(&folder.join("disguised"), "v1").unwrap();
}

#[tokio::test]
async fn an_image_that_does_not_claim_to_be_wasm_is_left_alone_even_after_its_layers_were_read() {
    let folder = tempfile::tempdir().unwrap();
    disguised(folder.path());
    let configuration = format!("images: {{layouts: {{memory.test: {}}}}}\n", folder.path().display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let plain = plain_pod("memory.test/disguised:v1");
    let mut classed = plain.clone();
    classed["spec"]["runtimeClassName"] = json!("wasmtime");
    let ask = async |flow: &Flow, pod: &Value| {
        let request = Request::create("shop", plug_ins(&defaulted(pod, "shop", ""), "shop", &[]));
        answers(flow, request, |object| plug_ins(object, "shop", &[])).await
    };
    let fresh = ask(&flow, &plain).await;
    assert!(fresh[0].get("patch").is_none(), "nothing says that it is Wasm: {}", fresh[0]);
    let deep = ask(&flow, &classed).await;
    assert!(deep[1]["auditAnnotations"]["images"].as_str().unwrap().contains("=wasm@"), "{}", deep[1]);
    assert_eq!(ask(&flow, &plain).await, fresh, "its layers were read for another pod meanwhile");
    let other = flow.with_new_memory();
    assert_eq!(ask(&other, &classed).await, deep);
    assert_eq!(ask(&other, &plain).await, fresh);
}

/// Its manifest says already that nothing starts it. Whether it suggests Wasm, only its config says.
#[tokio::test]
async fn an_image_that_nothing_starts_is_unread_without_its_config_and_judged_by_it_once_that_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("erofs");
    let mut image = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
    let image = image.layer("application/vnd.erofs.layer.v1", b"erofs".to_vec()).build();
    image.write_layout(&layout, "v1").unwrap();
    let digest = oci::digest(&image.config);
    let config = layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    std::fs::remove_file(&config).unwrap();
    let configuration =
        format!("images: {{layouts: {{config.test: {}}}, failureTtl: 0s}}\n", folder.path().display());
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let is_refused = async |class: Option<&str>| {
        let mut pod = plain_pod("config.test/erofs:v1");
        if let Some(class) = class {
            pod["spec"]["runtimeClassName"] = json!(class);
        }
        let (_, mutate, validate) = flow.admit("shop", &pod).await;
        assert!(class.is_some() || mutate.get("patch").is_none(), "{mutate}");
        let said = validate["status"]["message"].as_str().unwrap_or_default();
        assert_eq!(validate["allowed"] == false, said.contains("[not-inspected]"), "{validate}");
        validate["allowed"] == false
    };
    let classes = [None, Some("kata"), Some("wasmtime")];
    for (class, refused) in classes.into_iter().zip([false, false, true]) {
        assert_eq!(is_refused(class).await, refused, "{class:?}, without its config");
    }
    std::fs::write(&config, &image.config).unwrap();
    for (class, refused) in classes.into_iter().zip([false, true, true]) {
        assert_eq!(is_refused(class).await, refused, "{class:?}, with its config, which names a Wasm file");
    }
}
