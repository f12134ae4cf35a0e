//! While foreign bytes are being worked on, the gate answers probes and other reviews. The server has one thread for all
//! its connections here, so work on that thread would be over before any review is answered.

use std::fmt::Debug;
use std::future::poll_fn;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use wasmgate::image::Digest;
use wasmgate::image::descriptor::Descriptor;
use wasmgate::image::digest::Algorithm;
use wasmgate::image::reference::Reference;
use wasmgate::registry::guard::{Guard, GuardOptions};
use wasmgate::registry::source::Source;
use wasmgate::registry::{Registry, RegistryOptions};
use wasmgate::review::Webhook;

use crate::support::gate::{Flow, Request, Serving, Setup, patched, pod};
use crate::support::oci::{ImageBuilder, fixtures, gzip, tar_link, tar_of};
use crate::support::tls::get;
use crate::support::web::{Web, ok};

const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Of a file that is all nulls. The limit of an unpacked layer is 512 MiB.
const FILE: usize = 500 << 20;
const MEMBER: usize = 20 << 20;
/// Images of one review, and layers of one image: together more than any machine reads in the time that the rest of the
/// test takes.
const IMAGES: usize = 3;
const LAYERS: usize = 4;

/// An archive of one large file, as gzip members that unpack to a thousand times their size.
fn bomb() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(FILE as u64);
    header.set_cksum();
    let member = gzip(&vec![0; MEMBER]);
    let mut bytes = gzip(header.as_bytes());
    for _ in 0..FILE / MEMBER {
        bytes.write_all(&member).unwrap();
    }
    bytes.extend(gzip(&[0; 1024]));
    bytes
}

/// Links in an order in which each becomes useful only after the next one.
fn links() -> Vec<u8> {
    const COUNT: usize = 20_000;
    let mut bytes = tar_link(&format!("d{:06}/l", COUNT - 1), "/z");
    bytes.truncate(bytes.len() - 1024);
    for number in 1..COUNT {
        let link = tar_link(&format!("d{:06}/l", number - 1), &format!("/d{number:06}"));
        bytes.extend(&link[..512]);
    }
    bytes.extend(tar_of(&[("z/app", b"\x7fELF....")]));
    gzip(&bytes)
}

fn hostile_images(folder: &Path) {
    let (bomb, links) = (bomb(), links());
    for number in 0..IMAGES {
        let mut image = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
        // Told apart by it. What it says of the layers is not reached.
        image.set("Labels", json!({"number": number.to_string()}));
        image.set_config(
            "rootfs",
            json!({"type": "layers", "diff_ids": vec![format!("sha256:{}", "0".repeat(64)); LAYERS]}),
        );
        image.layer(GZIP_LAYER, if number == 0 { links.clone() } else { bomb.clone() });
        for _ in 1..LAYERS {
            image.layer(GZIP_LAYER, bomb.clone());
        }
        image.build().write_layout(&folder.join(format!("hostile{number}")), "v1").unwrap();
    }
    let innocent = ImageBuilder::wasm_artifact(&fixtures::command()).build();
    innocent.write_layout(&folder.join("innocent"), "v1").unwrap();
}

fn review(images: &[&str], namespace: &str) -> Request {
    let container = |(number, image): (usize, &&str)| json!({"name": format!("c{number}"), "image": format!("busy.test/{image}:v1")});
    let containers: Vec<Value> = images.iter().enumerate().map(container).collect();
    let spec = json!({"automountServiceAccountToken": false, "runtimeClassName": "wasmtime", "containers": containers});
    Request::create(namespace, pod(&spec))
}

#[tokio::test(flavor = "current_thread")]
async fn probes_and_other_reviews_are_answered_while_images_are_being_read() {
    let folder = tempfile::tempdir().unwrap();
    hostile_images(folder.path());
    let configuration = format!(
        "server: {{ reviewTimeout: 30s }}\nimages:\n  lookupTimeout: 30s\n  layouts: {{ busy.test: {} }}\n",
        folder.path().display()
    );
    let flow = Flow::new(&Setup { configuration, ..Setup::default() }).await;
    let mut serving = flow.serve().await;
    let being_read = || flow.gate.inspector().stats().layer_bytes > 0;
    let names: Vec<String> = (0..IMAGES).map(|number| format!("hostile{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hostile = serving.post_alone(Webhook::Validate, &review(&names, "mallory")).await;
    while !being_read() {
        assert!(!hostile.is_finished(), "the images were read before anything else was done");
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(get(serving.probes, "/readyz").await.unwrap().text(), "ok");
    }
    assert!(being_read(), "the probes had to wait for the images");
    admit_innocent(&mut serving).await;
    assert!(being_read(), "another review had to wait for the images");
    assert_eq!(get(serving.probes, "/livez").await.unwrap().text(), "ok");
    assert!(being_read() && !hostile.is_finished());
    hostile.abort();
}

/// A review by both webhooks, as of any tenant.
async fn admit_innocent(serving: &mut Serving) {
    let mut request = review(&["innocent"], "shop");
    let mutated = serving.review(Webhook::Mutate, &request).await;
    request.object = patched(&request.object, &mutated);
    let response = serving.review(Webhook::Validate, &request).await;
    assert_eq!(response["allowed"], json!(true), "{response}");
}

/// The longest time for which work keeps its thread before others have their turn.
async fn longest_step<T, E: Debug>(mut work: BoxFuture<'_, Result<T, E>>) -> Duration {
    let mut longest = Duration::ZERO;
    poll_fn(|context| {
        let begin = Instant::now();
        let polled = work.as_mut().poll(context);
        longest = longest.max(begin.elapsed());
        polled.map(|outcome| drop(outcome.unwrap()))
    })
    .await;
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_of_a_registry_is_hashed_while_it_arrives_and_not_at_once() {
    const BYTES: usize = 64 << 20;
    let blob = vec![7_u8; BYTES];
    let begin = Instant::now();
    let digest = Digest::by(Algorithm::Sha512, &blob);
    let at_once = begin.elapsed();
    let descriptor = Descriptor { media_type: String::new(), digest, size: BYTES as u64 };
    let web = Web::start(move |_, _| ok(blob.clone())).await;
    let hosts = vec![web.host.clone()];
    let guard = GuardOptions { allow: hosts.clone(), insecure: hosts, ..GuardOptions::default() };
    let registry = Registry::new(Guard::new(&guard).unwrap(), &RegistryOptions::default()).unwrap();
    let reference = Reference::parse(&web.image("app:1")).unwrap();
    let mut least = Duration::MAX;
    // Another process may take the processor from a step, but hardly from one of each.
    for _ in 0..3 {
        let fetched = registry.blob(&reference, &descriptor, BYTES as u64);
        least = least.min(longest_step(Box::pin(fetched)).await);
    }
    assert!(least < at_once / 4, "a step of {least:?}, where the hash of all takes {at_once:?}");
}
