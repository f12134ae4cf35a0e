//! Events about refused workloads, from a review to the API server.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::time::sleep;
use wasmgate::audit::{Metrics, Outbox};
use wasmgate::register::{EventLimits, Sender};
use wasmgate::review::Webhook;

use crate::support::api::Api;
use crate::support::gate::{Flow, Request, Setup, defaulted, plain_pod, plug_ins};
use crate::support::process::until;

/// Both objects of a review may be large, and all their values are looked for in what the rules say.
#[test]
fn an_event_is_drafted_where_it_holds_up_no_review() {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    // One thread for work that takes time, which can be taken.
    let threads = threads.worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
    threads.block_on(async {
        let (flow, api) = (Flow::new(&Setup::default()).await, Api::start().await);
        let metrics = Arc::new(Metrics::new());
        let (outbox, waiting) = Outbox::new(true, Arc::clone(&metrics));
        let gate = flow.with_events(outbox, Arc::clone(&metrics));
        let mut pod = plain_pod("gone");
        pod["spec"]["runtimeClassName"] = "wasmtime".into();
        let request = Request::create("shop", plug_ins(&defaulted(&pod, "shop", ""), "shop", &[]));
        gate.review(Webhook::Validate, request.to_body().as_bytes(), Duration::from_secs(20)).await;

        let (let_go, wait) = channel::<()>();
        let taken = tokio::task::spawn_blocking(move || wait.recv());
        let client = api.client(Duration::from_secs(20));
        let sender = Sender::new(client, EventLimits::default(), "test", Arc::clone(&metrics));
        let sending = tokio::spawn(sender.run(waiting));
        // Nothing shows that an Event is not drafted: by a thread that answers it would be written in this time.
        sleep(Duration::from_millis(400)).await;
        assert!(!metrics.encode().contains("wasmgate_events_total{"), "{}", metrics.encode());
        drop(let_go);
        assert!(taken.await.unwrap().is_err());
        until("an Event", async || metrics.encode().contains("wasmgate_events_total{")).await;
        sending.abort();
    });
}
