//! The current snapshot of a cluster, from an API server in the test that fails on demand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasmgate::grant::{Exceptions, load};
use wasmgate::quantity::Quantity;
use wasmgate::registry::{PullSecrets as _, Pulled, Puller};
use wasmgate::usage::{LearnedSize, ONE, Record, UsageKey, UsageObject};
use wasmgate::watch::{self, Account, Base, SecretLimits, WatchOptions, Watched, Watching};

use crate::support::api::{Api, Fault};
use crate::support::process::until;
use crate::support::watch::{Watch, docker_config_for, eventually, names, options};

fn grant(name: &str) -> Value {
    json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": name, "namespace": "shop", "managedFields": [{"manager": "kubectl"}]},
        "spec": {"capabilities": [{"name": "env", "names": ["A"]}]}})
}

fn exception(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "status": {"seen": true}, "spec": {
        "rules": ["needs-grant"], "reason": "TICKET-1", "expiresAt": "2099-01-01T00:00:00Z"}})
}

fn class(name: &str, handler: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"pool": "wasm"}}, "handler": handler,
        "scheduling": {"nodeSelector": {"wasm": "true"}}})
}

fn namespace(name: &str, level: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"wasmgate.dev/enforce": level}}})
}

#[tokio::test]
async fn the_snapshot_has_everything_that_a_directory_would_and_follows_the_cluster() {
    let api = Api::start().await;
    api.put("wasigrants", grant("orders"));
    api.put(
        "clusterwasigrants",
        json!({"metadata": {"name": "all"}, "spec": {
        "namespaceSelector": {}, "capabilities": [{"name": "http.inbound"}]}}),
    );
    api.put("wasiexceptions", exception("legacy"));
    api.put("runtimeclasses", class("wasmtime", "wasmtime"));
    api.put("namespaces", namespace("shop", "warn"));
    api.put(
        "limitranges",
        json!({"metadata": {"name": "sizes", "namespace": "shop"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}}),
    );
    let watch = Watch::start(&api);
    watch.ready().await;
    let snapshot = watch.snapshot();
    let classes = snapshot.cluster.runtime_classes.as_ref().unwrap();
    assert_eq!(classes["wasmtime"].handler, "wasmtime");
    assert_eq!(classes["wasmtime"].node_selector["wasm"], "true");
    assert_eq!(classes["wasmtime"].labels["pool"], "wasm");
    assert_eq!(snapshot.cluster.namespaces["shop"]["wasmgate.dev/enforce"], "warn");
    assert_eq!(snapshot.cluster.limit_ranges["shop"].items.len(), 1);
    assert_eq!(watch.grants(), ["all", "orders"]);
    assert_eq!(snapshot.exceptions.len(), 1);

    api.put("wasigrants", grant("payments"));
    api.put("namespaces", namespace("shop", "deny"));
    api.delete("runtimeclasses", "", "wasmtime");
    watch
        .until("changes", |now| {
            names(&now.grants) == ["all", "orders", "payments"]
                && now.cluster.namespaces["shop"]["wasmgate.dev/enforce"] == "deny"
                && now.cluster.runtime_classes.as_ref().unwrap().is_empty()
        })
        .await;
    assert!(
        Arc::ptr_eq(&snapshot.exceptions, &watch.snapshot().exceptions),
        "what did not change is the same"
    );
    api.delete("namespaces", "", "shop");
    api.delete("wasigrants", "shop", "orders");
    watch.until("deletions", |now| now.cluster.namespaces.is_empty() && now.grants.len() == 2).await;
    assert!(api.asked("namespaces").iter().all(|asked| asked.accept.contains("PartialObjectMetadata")));
}

/// What was learned of an image, and its object after so many samples.
fn usage(samples: u64, requests: Option<LearnedSize>) -> (UsageKey, Value) {
    let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    let key = UsageKey { digest, runtime: "wasmtime".into() };
    let mut record = Record::new("2026-06-01T00:00:00Z".parse().unwrap());
    (0..samples).for_each(|_| record.add_cpu(Quantity::from_millis(3), ONE));
    let mut object = serde_json::to_value(UsageObject::of(&key, &record, requests)).unwrap();
    object["metadata"] = json!({"name": key.object_name()});
    (key, object)
}

fn autoscaler(mode: &str) -> Value {
    json!({"metadata": {"name": "orders", "namespace": "shop"}, "spec": {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"},
        "updatePolicy": {"updateMode": mode}}})
}

fn account(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "imagePullSecrets": [{"name": "a"}]})
}

#[tokio::test]
async fn learned_requests_and_what_autoscalers_size_are_followed() {
    let api = Api::start().await;
    let size = |memory| LearnedSize { memory: Quantity::mebibytes(memory), cpu: Quantity::from_millis(4) };
    let (key, object) = usage(1, Some(size(9)));
    api.put("wasmusages", object);
    api.put("verticalpodautoscalers", autoscaler("Auto"));
    let watch = Watch::start_with(&api, WatchOptions { sizes: true, ..options() }, Base::default());
    watch.ready().await;
    let of = |snapshot: &watch::Snapshot| snapshot.cluster.learned.of(&key.digest, "wasmtime");
    let is_autoscaled =
        |snapshot: &watch::Snapshot| snapshot.cluster.autoscaled.has("shop", "Deployment", "orders");
    // No review waits for these: what they say may come with a later snapshot than the first.
    watch.until("what is known", |now| of(now) == Some(size(9)) && is_autoscaled(now)).await;

    api.put("wasmusages", usage(60, Some(size(20))).1);
    watch.until("the new size", |now| of(now) == Some(size(20))).await;
    api.put("verticalpodautoscalers", autoscaler("Off"));
    watch.until("the autoscaler that only recommends", |now| !is_autoscaled(now)).await;
    api.put("wasmusages", usage(60, None).1);
    watch.until("nothing is known any more", |now| of(now).is_none()).await;
    let (_, mut forged) = usage(1, Some(size(9)));
    forged["metadata"]["name"] = json!("forged");
    api.put("wasmusages", forged);
    let rejected = || watch.report(Watched::WasmUsages).rejected;
    eventually(|| "a rejected object".into(), || rejected() == 1).await;
    assert_eq!(of(&watch.snapshot()), None);
}

#[tokio::test]
async fn what_goes_by_a_part_of_the_requests_is_followed_and_what_goes_by_amounts_is_not() {
    let api = Api::start().await;
    let autoscaler = |target: Value| {
        json!({"metadata": {"name": "orders", "namespace": "shop"}, "spec": {"minReplicas": 1, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}})
    };
    let part = || autoscaler(json!({"type": "Utilization", "averageUtilization": 60}));
    api.put("horizontalpodautoscalers", part());
    let watch = Watch::start_with(&api, WatchOptions { sizes: true, ..options() }, Base::default());
    let has = |snapshot: &watch::Snapshot| snapshot.cluster.autoscaled.has("shop", "Deployment", "orders");
    watch.until("the autoscaler", has).await;
    api.put("horizontalpodautoscalers", autoscaler(json!({"type": "AverageValue", "averageValue": "40m"})));
    watch.until("amounts", |now| !has(now)).await;
    api.put("horizontalpodautoscalers", part());
    watch.until("the autoscaler again", has).await;
    api.delete("horizontalpodautoscalers", "shop", "orders");
    watch.until("no autoscaler", |now| !has(now)).await;
}

#[tokio::test]
async fn changes_of_sizes_alone_wait_for_each_other_and_come_at_once_with_any_other() {
    let api = Api::start().await;
    api.put("verticalpodautoscalers", autoscaler("Off"));
    let long = WatchOptions { sizes: true, sizes_interval: Duration::from_hours(1), ..options() };
    let watch = Watch::start_with(&api, long, Base::default());
    watch.ready().await;
    let has = |snapshot: &watch::Snapshot| snapshot.cluster.autoscaled.has("shop", "Deployment", "orders");
    for kind in [Watched::WasmUsages, Watched::VerticalPodAutoscalers, Watched::HorizontalPodAutoscalers] {
        eventually(|| format!("{kind:?}"), || watch.report(kind).synced).await;
    }
    // The first one does not wait.
    api.put("verticalpodautoscalers", autoscaler("Auto"));
    watch.until("the autoscaler", has).await;
    let before = watch.published.load(Ordering::SeqCst);
    let known = |count| watch.report(Watched::VerticalPodAutoscalers).objects == count;
    for round in 0..5 {
        // Snapshots hold nothing of these.
        api.put("serviceaccounts", account(&format!("web-{round}")));
        eventually(|| "one account more".into(), || watch.report(Watched::ServiceAccounts).objects > round)
            .await;
        api.put("verticalpodautoscalers", autoscaler("Off"));
        eventually(|| "an autoscaler less".into(), || known(0)).await;
        api.put("verticalpodautoscalers", autoscaler("Auto"));
        eventually(|| "an autoscaler more".into(), || known(1)).await;
    }
    api.put("verticalpodautoscalers", autoscaler("Off"));
    eventually(|| "an autoscaler less".into(), || known(0)).await;
    // Long enough to gather changes and to publish them.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        watch.published.load(Ordering::SeqCst) == before && has(&watch.snapshot()),
        "{:?}",
        watch.watching
    );
    api.put("namespaces", namespace("shop", "warn"));
    watch.until("both", |now| !has(now) && !now.cluster.namespaces.is_empty()).await;
    assert_eq!(watch.published.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn pull_secrets_of_accounts_make_no_snapshot() {
    let api = Api::start().await;
    let watch = Watch::start(&api);
    watch.ready().await;
    let before = watch.published.load(Ordering::SeqCst);
    api.put("serviceaccounts", account("orders"));
    eventually(|| "the account".into(), || watch.report(Watched::ServiceAccounts).objects == 1).await;
    api.put("namespaces", namespace("shop", "warn"));
    watch.until("the namespace", |now| !now.cluster.namespaces.is_empty()).await;
    assert_eq!(watch.published.load(Ordering::SeqCst), before + 1, "that of the namespace");
}

#[tokio::test]
async fn a_cluster_without_autoscalers_is_no_error_and_nothing_of_sizes_is_watched_by_default() {
    let api = Api::start().await;
    api.fail("verticalpodautoscalers", Fault::Status(404));
    let watch = Watch::start_with(&api, WatchOptions { sizes: true, ..options() }, Base::default());
    watch.ready().await;
    let report = || watch.report(Watched::VerticalPodAutoscalers);
    eventually(|| format!("an empty list: {:?}", report()), || report().synced).await;
    assert!(report().errors == 0 && report().trouble.is_none(), "{:?}", report());
    api.heal("verticalpodautoscalers");
    api.put("verticalpodautoscalers", autoscaler("Auto"));
    watch.until("the autoscaler", |now| now.cluster.autoscaled.has("shop", "Deployment", "orders")).await;

    let plain = Watch::start(&api);
    plain.ready().await;
    assert!(plain.watching.reports().iter().all(|report| report.watched != Watched::WasmUsages));
    assert!(!plain.snapshot().cluster.autoscaled.has("shop", "Deployment", "orders"));
}

#[tokio::test]
async fn a_gate_that_may_not_list_what_sizes_pods_is_ready_and_fills_in_nothing_learned() {
    let api = Api::start().await;
    let size = LearnedSize { memory: Quantity::mebibytes(9), cpu: Quantity::from_millis(4) };
    let (key, object) = usage(1, Some(size));
    api.put("wasmusages", object);
    api.put("namespaces", namespace("shop", "warn"));
    api.fail("verticalpodautoscalers", Fault::Status(403));
    let watch = Watch::start_with(&api, WatchOptions { sizes: true, ..options() }, Base::default());
    watch.ready().await;
    eventually(|| "the list".into(), || watch.report(Watched::WasmUsages).synced).await;
    api.put("namespaces", namespace("shop", "deny"));
    watch
        .until("a later snapshot", |now| now.cluster.namespaces["shop"]["wasmgate.dev/enforce"] == "deny")
        .await;
    assert_eq!(
        watch.snapshot().cluster.learned.of(&key.digest, "wasmtime"),
        None,
        "an autoscaler may size it"
    );
    api.heal("verticalpodautoscalers");
    watch
        .until("what was learned", |now| now.cluster.learned.of(&key.digest, "wasmtime") == Some(size))
        .await;
}

#[tokio::test]
async fn only_a_bad_object_is_left_out_and_its_older_version_does_not_stay_in_force() {
    let api = Api::start().await;
    let broken = |name: &str| {
        let mut broken = grant(name);
        broken["spec"]["capabilities"] = json!([{"name": "no-such-capability"}]);
        broken
    };
    api.put("wasigrants", grant("good"));
    api.put("wasigrants", broken("bad"));
    api.put("wasigrants", json!({"metadata": {"name": "worse", "namespace": "shop"}, "spec": 7}));
    let watch = Watch::start(&api);
    watch.ready().await;
    assert_eq!(watch.grants(), ["good"]);
    assert_eq!(watch.report(Watched::WasiGrants).rejected, 2);
    api.put("wasigrants", grant("bad"));
    watch.until("a mended grant", |now| names(&now.grants) == ["bad", "good"]).await;
    api.put("wasigrants", broken("good"));
    watch.until("a grant that broke", |now| names(&now.grants) == ["bad"]).await;
    assert_eq!(watch.report(Watched::WasiGrants).rejected, 2);
    api.delete("wasigrants", "shop", "good");
    api.delete("wasigrants", "shop", "worse");
    let rejected = || watch.report(Watched::WasiGrants).rejected;
    eventually(|| format!("{} are rejected", rejected()), || rejected() == 0).await;
}

#[tokio::test]
async fn readiness_waits_for_every_watch_and_says_which_is_missing_and_why() {
    let api = Api::start().await;
    api.fail("wasigrants", Fault::Status(403));
    api.fail("runtimeclasses", Fault::Status(404));
    api.fail("limitranges", Fault::Status(500));
    api.fail("serviceaccounts", Fault::Garbage);
    let watch = Watch::start(&api);
    let said = |words: &str| {
        let ready = watch.watching.ready();
        ready.unwrap_err().contains(words)
    };
    for words in [
        "wasigrants.wasmgate.dev: forbidden: the ClusterRole lacks list on wasigrants.wasmgate.dev",
        "runtimeclasses.node.k8s.io: not found: this API server does not serve node.k8s.io/v1",
        "limitranges: the API server answered list with 500",
        "serviceaccounts: ",
    ] {
        eventually(|| format!("{words}: {:?}", watch.watching.ready()), || said(words)).await;
    }
    let listed = || watch.report(Watched::Namespaces).synced;
    eventually(|| "namespaces".into(), listed).await;
    assert!(!said("namespaces:"), "{:?}", watch.watching.ready());
    assert_eq!(watch.published.load(Ordering::SeqCst), 0, "no snapshot before all of it is known");
    for kind in ["wasigrants", "runtimeclasses", "limitranges", "serviceaccounts"] {
        api.heal(kind);
    }
    watch.ready().await;
    assert!(watch.report(Watched::WasiGrants).errors > 0);
    assert_eq!(watch.report(Watched::WasiGrants).trouble, None);
}

/// Otherwise a gate that restarts after a definition was removed would never be ready, and no pod would start.
#[tokio::test]
async fn a_definition_that_is_missing_is_a_kind_without_objects_until_it_is_applied() {
    let api = Api::start().await;
    let kinds = ["wasigrants", "clusterwasigrants", "wasiexceptions"];
    for kind in kinds {
        api.fail(kind, Fault::Status(404));
    }
    let watch = Watch::start(&api);
    watch.ready().await;
    assert!(watch.grants().is_empty(), "what no grant can cover is denied");
    let grants = || watch.report(Watched::WasiGrants);
    assert!(grants().trouble.unwrap().contains("apply manifests/crds"));
    eventually(|| "further errors, which an alert counts".into(), || grants().errors >= 3).await;
    assert_eq!(watch.published.load(Ordering::SeqCst), 1, "the same emptiness is no news");
    for kind in kinds {
        api.heal(kind);
    }
    api.put("wasigrants", grant("orders"));
    watch.until("a grant of the new definition", |now| names(&now.grants) == ["orders"]).await;
    eventually(|| format!("{:?}", grants()), || grants().trouble.is_none()).await;

    // The definition is removed, and its grants with it. Once it is back there are new ones, older than the last
    // version that the watch saw.
    api.fail("wasigrants", Fault::Status(404));
    api.cut("wasigrants");
    watch.until("no grants without a definition", |now| now.grants.is_empty()).await;
    assert!(watch.watching.ready().is_ok());
    api.heal("wasigrants");
    watch.until("the list of the new definition", |now| names(&now.grants) == ["orders"]).await;
}

#[tokio::test]
async fn a_revoked_right_leaves_the_last_snapshot_in_force() {
    let api = Api::start().await;
    api.put("wasigrants", grant("orders"));
    let watch = Watch::start(&api);
    watch.ready().await;
    api.fail("wasigrants", Fault::Status(403));
    api.cut("wasigrants");
    let trouble = || watch.report(Watched::WasiGrants).trouble.unwrap_or_default();
    eventually(trouble, || trouble().contains("lacks watch on wasigrants.wasmgate.dev")).await;
    assert!(watch.watching.ready().is_ok());
    assert_eq!(watch.grants(), ["orders"]);
    api.heal("wasigrants");
    api.put("wasigrants", grant("payments"));
    watch.until("the resumed watch", |now| now.grants.len() == 2).await;
    assert_eq!(watch.report(Watched::WasiGrants).restarts, 0, "it went on where it was");
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again_and_forgets_deleted_objects() {
    let api = Api::start().await;
    api.put("wasigrants", grant("gone"));
    api.put("wasigrants", grant("stays"));
    let watch = Watch::start(&api);
    watch.ready().await;
    // The server no longer remembers the deletion.
    api.forget("wasigrants", "shop", "gone");
    api.expire("wasigrants");
    watch.until("the new list", |now| names(&now.grants) == ["stays"]).await;
    let report = watch.report(Watched::WasiGrants);
    assert_eq!(report.restarts, 1, "{report:?}");
    assert!(report.errors > 0, "{report:?}");
    api.put("wasigrants", grant("late"));
    watch.until("the new watch", |now| names(&now.grants) == ["late", "stays"]).await;
}

#[tokio::test]
async fn a_long_list_is_read_in_pages_and_a_burst_makes_a_handful_of_snapshots() {
    let api = Api::start().await;
    for number in 0..250 {
        api.put("wasigrants", grant(&format!("g{number}")));
    }
    let watch = Watch::start(&api);
    watch.ready().await;
    assert_eq!(watch.grants().len(), 250);
    let lists = api.asked("wasigrants").into_iter().filter(|asked| !asked.query.contains("watch=true"));
    assert_eq!(lists.count(), 3);
    let before = watch.published.load(Ordering::SeqCst);
    for number in 250..10_000 {
        api.put("wasigrants", grant(&format!("g{number}")));
    }
    watch.until("the burst", |now| now.grants.len() == 10_000).await;
    let snapshots = watch.published.load(Ordering::SeqCst) - before;
    assert!(snapshots < 60, "{snapshots} snapshots of 9750 events");
    println!("9750 events, {snapshots} snapshots");
}

#[tokio::test]
async fn a_silent_connection_is_noticed_and_replaced() {
    let api = Api::start().await;
    let watch = Watch::start_with(
        &api,
        WatchOptions { watch_timeout: Duration::from_secs(1), ..options() },
        Base::default(),
    );
    watch.ready().await;
    // Nothing more is written on the open watch, not even its end.
    api.fail("wasigrants", Fault::Silent);
    api.cut("wasigrants");
    let silent = || api.asked("wasigrants").iter().filter(|asked| asked.query.contains("watch=true")).count();
    let before = silent();
    eventually(|| "no watch on the silent server".into(), || silent() > before).await;
    api.heal("wasigrants");
    api.put("wasigrants", grant("late"));
    watch.until("the watch after the silent one", |now| now.grants.len() == 1).await;
}

#[tokio::test]
async fn a_list_that_never_arrives_is_abandoned_and_retried() {
    let api = Api::start().await;
    api.fail("namespaces", Fault::Silent);
    let watching = Watching::new(api.client(Duration::from_millis(300)), options());
    watching.start(Base::default(), |_| {});
    let lists = || api.asked("namespaces").len();
    eventually(|| format!("{} lists: {:?}", lists(), watching), || lists() >= 2).await;
    api.heal("namespaces");
    eventually(|| format!("{:?}", watching.ready()), || watching.ready().is_ok()).await;
}

#[tokio::test]
async fn a_server_that_ends_every_watch_at_once_is_not_called_in_a_tight_loop() {
    let api = Api::start().await;
    api.fail("namespaces", Fault::EndAtOnce);
    let options = WatchOptions { watch_interval: Duration::from_millis(200), ..options() };
    let watch = Watch::start_with(&api, options, Base::default());
    watch.ready().await;
    let start = Instant::now();
    let watches =
        || api.asked("namespaces").iter().filter(|asked| asked.query.contains("watch=true")).count();
    eventually(|| "five watches".into(), || watches() >= 5).await;
    assert!(start.elapsed() >= Duration::from_millis(600), "five watches in {:?}", start.elapsed());
}

#[tokio::test]
async fn a_directory_s_grants_count_too_and_the_cluster_s_take_precedence() {
    let api = Api::start().await;
    let mut stricter = grant("both");
    stricter["spec"]["capabilities"] = json!([{"name": "env", "names": ["CLUSTER"]}]);
    api.put("wasigrants", stricter);
    api.put("wasigrants", grant("cluster"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["both", "folder"] {
        std::fs::write(folder.path().join(format!("{name}.json")), grant(name).to_string()).unwrap();
    }
    let loaded = load::load_dir(folder.path()).unwrap();
    let base = Base { grants: Arc::new(loaded.grants), exceptions: Arc::new(Exceptions::default()) };
    let watch = Watch::start_with(&api, options(), base);
    watch.ready().await;
    assert_eq!(watch.grants(), ["both", "cluster", "folder"]);
    let snapshot = watch.snapshot();
    let both = snapshot.grants.iter().find(|grant| grant.name() == "both").unwrap();
    assert_eq!(both.spec.capabilities[0].names.as_deref().unwrap(), ["CLUSTER"]);
    api.delete("wasigrants", "shop", "both");
    watch
        .until("the directory's own", |now| {
            let both = now.grants.iter().find(|grant| grant.name() == "both");
            both.is_some_and(|grant| grant.spec.capabilities[0].names.as_deref().unwrap() == ["A"])
        })
        .await;
}

#[tokio::test]
async fn an_object_of_the_cluster_that_became_invalid_does_not_restore_the_directory_s() {
    let api = Api::start().await;
    let cluster_grant = || {
        json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "ClusterWasiGrant", "metadata": {"name": "all"},
            "spec": {"namespaceSelector": {}, "capabilities": [{"name": "http.inbound"}]}})
    };
    let the_exception = || {
        let mut written = exception("legacy");
        written["apiVersion"] = json!("wasmgate.dev/v1alpha1");
        written["kind"] = json!("WasiException");
        written.as_object_mut().unwrap().remove("status");
        written
    };
    let broken = |mut object: Value| {
        object["spec"] = json!({"capabilities": [{"name": "no-such-capability"}]});
        object
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, object) in [("a", grant("orders")), ("b", cluster_grant()), ("c", the_exception())] {
        std::fs::write(folder.path().join(format!("{name}.json")), object.to_string()).unwrap();
    }
    let loaded = load::load_dir(folder.path()).unwrap();
    let base = Base { grants: Arc::new(loaded.grants), exceptions: Arc::new(loaded.exceptions) };
    // One is invalid from the start, the others become so.
    api.put("wasigrants", broken(grant("orders")));
    let watch = Watch::start_with(&api, options(), base);
    watch.ready().await;
    assert_eq!(watch.grants(), ["all"]);
    assert_eq!(watch.snapshot().exceptions.len(), 1);
    api.put("clusterwasigrants", broken(cluster_grant()));
    api.put("wasiexceptions", broken(the_exception()));
    watch.until("neither", |now| now.grants.is_empty() && now.exceptions.is_empty()).await;
    // A new list repeats the rejection and changes nothing.
    api.expire("wasigrants");
    eventually(|| "a list".into(), || watch.report(Watched::WasiGrants).restarts == 1).await;
    api.put("namespaces", namespace("shop", "warn"));
    watch.until("a later snapshot", |now| !now.cluster.namespaces.is_empty()).await;
    assert!(watch.grants().is_empty());
    // The directory's object counts again only when the cluster's is gone.
    api.delete("wasigrants", "shop", "orders");
    api.delete("wasiexceptions", "shop", "legacy");
    watch.until("those", |now| names(&now.grants) == ["orders"] && now.exceptions.len() == 1).await;
    api.put("clusterwasigrants", cluster_grant());
    watch.until("all", |now| now.grants.len() == 2).await;
}

#[tokio::test]
async fn an_unusable_kubeconfig_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let error = async |path: &Path| watch::connect(Some(path)).await.err().unwrap().to_string();
    let missing = error(&file).await;
    assert!(missing.starts_with(&format!("could not read the kubeconfig `{}`", file.display())), "{missing}");
    std::fs::write(&file, "{{{").unwrap();
    let broken = error(&file).await;
    assert!(broken.starts_with("could not read the kubeconfig"), "{broken}");
    // The test does not run in a pod.
    let outside = watch::connect(None).await.err().unwrap().to_string();
    assert!(
        outside.starts_with("not in a cluster: ") && outside.ends_with("; pass --kubeconfig"),
        "{outside}"
    );
}

// === Pull secrets ===

fn docker_config(password: &str) -> String {
    docker_config_for("r.corp", "me", password)
}

fn secret(name: &str, kind: &str, field: &str, text: &str) -> Value {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"}, "type": kind,
        "data": {field: STANDARD.encode(text)}})
}

fn puller(secrets: &[&str], account: &str) -> Puller {
    Puller {
        namespace: "shop".into(),
        pull_secrets: secrets.iter().map(|name| (*name).to_string()).collect(),
        service_account: account.into(),
    }
}

async fn pulled(watching: &Watching, secrets: &[&str], account: &str) -> Pulled {
    watching.pull_secrets().logins(&puller(secrets, account)).await
}

#[tokio::test]
async fn pull_secrets_of_the_pod_and_of_its_account_are_read_on_demand_and_remembered() {
    let api = Api::start().await;
    let json = "kubernetes.io/dockerconfigjson";
    api.put("secrets", secret("new", json, ".dockerconfigjson", &docker_config("hunter2")));
    let old = json!({"r.corp/team": {"username": "me", "password": "hunter3"}}).to_string();
    api.put("secrets", secret("old", "kubernetes.io/dockercfg", ".dockercfg", &old));
    api.put(
        "serviceaccounts",
        json!({"metadata": {"name": "builder", "namespace": "shop"},
        "imagePullSecrets": [{"name": "old"}], "secrets": [{"name": "x"}]}),
    );
    api.put("serviceaccounts", json!({"metadata": {"name": "default", "namespace": "shop"}}));
    let watch = Watch::start(&api);
    watch.ready().await;
    assert_eq!(watch.report(Watched::ServiceAccounts).objects, 1, "only accounts with pull secrets are kept");
    assert_eq!(pulled(&watch.watching, &[], "default").await, Pulled::default());
    assert!(api.asked("secrets").is_empty(), "nothing is listed, and nothing asked without need");
    let by_pod = pulled(&watch.watching, &["new"], "builder").await;
    assert_eq!((by_pod.logins.len(), by_pod.notes.len()), (1, 0), "{by_pod:?}");
    assert_eq!(by_pod.logins[0].registry, "r.corp");
    let by_account = pulled(&watch.watching, &[], "builder").await;
    assert_eq!(by_account.logins[0].path, "team");
    for _ in 0..100 {
        pulled(&watch.watching, &["new", "old"], "default").await;
    }
    assert_eq!(api.asked("secrets").len(), 2);
    assert!(!format!("{by_pod:?} {by_account:?} {:?}", watch.watching).contains("hunter"));
}

#[tokio::test]
async fn a_pull_secret_that_cannot_be_read_is_noted_with_what_to_do() {
    let api = Api::start().await;
    api.put("secrets", secret("opaque", "Opaque", "password", "hunter2"));
    let json = "kubernetes.io/dockerconfigjson";
    api.put("secrets", secret("broken", json, ".dockerconfigjson", "{\"auths\": hunter2}"));
    api.put("secrets", secret("empty", json, "other", "hunter2"));
    let watch = Watch::start(&api);
    let note = async |name: &str| {
        let pulled = pulled(&watch.watching, &[name], "default").await;
        assert_eq!((pulled.logins.len(), pulled.notes.len()), (0, 1), "{pulled:?}");
        assert!(!pulled.notes[0].contains("hunter2"), "{pulled:?}");
        pulled.notes[0].clone()
    };
    assert!(note("absent").await.ends_with("pull secret `absent` in namespace `shop`: it does not exist"));
    assert!(note("opaque").await.contains("its type is `Opaque`"));
    assert!(note("broken").await.contains("not as docker writes it, at line 1"));
    assert!(note("empty").await.contains("it has no `.dockerconfigjson`"));
    let before = api.asked("secrets").len();
    for name in ["../../../api/v1/namespaces/kube-system/secrets/x", "A", "a/b", "a?b", "-a"] {
        assert!(note(name).await.ends_with("is not the name of a secret"));
    }
    assert_eq!(api.asked("secrets").len(), before, "a user's text is no path");
    api.fail("secrets", Fault::Status(403));
    let forbidden = note("mine").await;
    for words in ["`get` on the secret `mine`", "a Role in namespace `shop`", "ServiceAccount `wasmgate`"] {
        assert!(forbidden.contains(words), "{forbidden}");
    }
    // With the Role it is read, soon after.
    api.heal("secrets");
    api.put("secrets", secret("mine", json, ".dockerconfigjson", &docker_config("hunter2")));
    until("the secret", async || !pulled(&watch.watching, &["mine"], "default").await.logins.is_empty())
        .await;
}

#[tokio::test]
async fn a_missing_role_is_reported_with_the_gates_account() {
    let api = Api::start().await;
    api.fail("secrets", Fault::Status(403));
    let text = |text: &str| Some(text.to_string());
    for (account, named) in [
        (Account::known_as(text("gate"), text("gates")), "ServiceAccount `gate` in namespace `gates`"),
        (Account::known_as(None, text("gates")), "ServiceAccount `wasmgate` in namespace `gates`"),
        (Account::known_as(None, None), "ServiceAccount `wasmgate` in namespace `wasmgate-system`"),
    ] {
        let watching = Watching::with_account(api.client(Duration::from_secs(10)), options(), account);
        let note = pulled(&watching, &["mine"], "default").await.notes.concat();
        assert!(note.ends_with(named), "{note}");
    }
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_delays_a_review_for_a_bounded_time() {
    let api = Api::start().await;
    api.fail("secrets", Fault::Silent);
    let secrets = SecretLimits { timeout: Duration::from_millis(200), ..options().secrets };
    let watch = Watch::start_with(&api, WatchOptions { secrets, ..options() }, Base::default());
    let pulled = pulled(&watch.watching, &["mine"], "default").await;
    assert!(pulled.notes[0].contains("no answer within 200ms"), "{pulled:?}");
}

#[tokio::test]
async fn a_changed_secret_is_used_soon_and_no_review_waits_for_it() {
    let api = Api::start().await;
    let json = "kubernetes.io/dockerconfigjson";
    api.put("secrets", secret("mine", json, ".dockerconfigjson", &docker_config("old")));
    let secrets = SecretLimits { fresh: Duration::from_millis(50), ..options().secrets };
    let watch = Watch::start_with(&api, WatchOptions { secrets, ..options() }, Base::default());
    let first = pulled(&watch.watching, &["mine"], "default").await;
    api.put("secrets", secret("mine", json, ".dockerconfigjson", &docker_config("new")));
    until("the new secret", async || pulled(&watch.watching, &["mine"], "default").await != first).await;
}
