//! One watch: lists and follows its kind, backs off after errors, and maintains its part of the snapshot.

use std::hash::{BuildHasher as _, Hasher as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::{Stream, StreamExt as _};
use kube::api::Api;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Client, client};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::WatchOptions;
use super::health::{Health, is_undefined};
use super::resource::{Items, Key, Store, keep, key};
use super::shared::Shared;

/// Follows the objects of one kind.
pub(super) struct Follower {
    pub store: Arc<Store>,
    pub health: Arc<Health>,
    pub shared: Arc<Shared>,
    pub options: WatchOptions,
}

/// Objects of a list that is being received.
#[derive(Default)]
struct Listing {
    items: Items,
    rejected: Vec<Key>,
}

impl Follower {
    /// Follows for ever.
    pub async fn run(self, client: Client) {
        let client = observed(client, Arc::clone(&self.health), self.options.watch_interval);
        let watched = self.health.watched();
        let resource = watched.resource();
        let seconds = u32::try_from(self.options.watch_timeout.as_secs()).unwrap_or(u32::MAX).max(1);
        let config = watcher::Config::default().timeout(seconds).page_size(self.options.page_size);
        loop {
            let (client, config) = (client.clone(), config.clone());
            if watched.is_metadata_only() {
                let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
                let events = kube::runtime::watcher(api, config);
                self.follow(events.map(|event| event.map(|event| map(event, without_data)))).await;
            } else {
                let api: Api<DynamicObject> = Api::all_with(client, &resource);
                self.follow(kube::runtime::watcher(api, config)).await;
            }
        }
    }

    /// Follows until the definition of the kind is deleted, after which everything must be listed again: a new definition
    /// has other objects, and a watch that resumed would not notice.
    async fn follow(&self, events: impl Stream<Item = watcher::Result<Event<DynamicObject>>>) {
        let mut events = pin!(events);
        let mut listing = Listing::default();
        let (mut failures, mut failed_at) = (0_u32, None);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if !matches!(event, Event::Init) {
                        failures = 0;
                    }
                    self.take(event, &mut listing);
                }
                Err(error) => {
                    // Any contact since the last error counts as a success, even without an event.
                    if self.health.last_contact() > failed_at {
                        failures = 0;
                    }
                    self.health.note_error(&error);
                    let undefined = is_undefined(self.health.watched(), &error);
                    let listing = matches!(error, watcher::Error::InitialListFailed(_));
                    if undefined && listing {
                        self.nothing();
                    }
                    tokio::time::sleep(self.pause(failures)).await;
                    failures = failures.saturating_add(1);
                    failed_at = Some(Instant::now());
                    if undefined && !listing {
                        return;
                    }
                }
            }
        }
    }

    /// Time to wait before the next attempt: doubled with each failure, with jitter so that replicas differ.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.options.first_retry.saturating_mul(1_u32 << failures.min(16));
        let bounded = doubled.min(self.options.longest_retry);
        let random = std::hash::RandomState::new().build_hasher().finish() % 256;
        bounded.mul_f64(0.75 + f64::from(u8::try_from(random).unwrap_or_default()) / 1024.0)
    }

    fn take(&self, event: Event<DynamicObject>, listing: &mut Listing) {
        match event {
            Event::Init => *listing = Listing::default(),
            Event::InitApply(object) => self.list(object, listing),
            Event::InitDone => self.listed(std::mem::take(listing)),
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => {
                let key = key(&object);
                let forgiven = self.health.accept(&key);
                self.change(|items| items.remove(&key).is_some() || forgiven);
            }
        }
    }

    fn list(&self, object: DynamicObject, listing: &mut Listing) {
        let key = key(&object);
        match keep(self.health.watched(), object) {
            // An earlier rejection is lifted at the end of the list, when the object takes effect.
            Ok(item) => listing.items.extend(item.map(|item| (key, item))),
            Err(problem) => {
                self.health.reject(&key, problem);
                listing.rejected.push(key);
            }
        }
    }

    fn listed(&self, mut listing: Listing) {
        listing.rejected.sort_unstable();
        if self.health.is_synced() {
            self.health.count_restart();
        }
        let count = listing.items.len();
        self.store.write(|items| *items = listing.items);
        self.health.keep_rejected(|key| listing.rejected.binary_search(key).is_ok());
        self.health.set_objects(count);
        self.health.note_success(true);
        self.shared.note_change(self.health.watched());
    }

    /// Records that a kind without a definition has no objects. If the gate waited for the definition instead, a restarted
    /// gate would never be ready, and every pod of the cluster would be refused.
    fn nothing(&self) {
        let forgotten = self.store.write(|items| !std::mem::take(items).is_empty());
        let forgiven = self.health.keep_rejected(|_| false);
        self.health.set_objects(0);
        if self.health.note_listed() || forgotten || forgiven {
            self.shared.note_change(self.health.watched());
        }
    }

    /// Applies a changed object. An invalid one is ignored even if an earlier version was valid, since a replaced version
    /// must not stay in effect. An object is always either kept or rejected: otherwise one of the same name from a
    /// directory would take effect in between.
    fn apply(&self, object: DynamicObject) {
        let key = key(&object);
        match keep(self.health.watched(), object) {
            Ok(item) => {
                let changed = self.store.write(|items| match item {
                    Some(item) => {
                        let former = items.insert(key.clone(), item.clone());
                        former.is_none_or(|former| !former.is_same(&item))
                    }
                    None => items.remove(&key).is_some(),
                });
                let forgiven = self.health.accept(&key);
                self.change(|_| changed || forgiven);
            }
            Err(problem) => {
                let new = self.health.reject(&key, problem);
                self.change(|items| items.remove(&key).is_some() || new);
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Items) -> bool) {
        let (changed, count) = self.store.write(|items| (change(items), items.len()));
        self.health.note_success(false);
        if changed {
            self.health.set_objects(count);
            self.shared.note_change(self.health.watched());
        }
    }
}

fn map<A, B>(event: Event<A>, change: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(change(object)),
        Event::Apply(object) => Event::Apply(change(object)),
        Event::Delete(object) => Event::Delete(change(object)),
    }
}

fn without_data(object: PartialObjectMeta<DynamicObject>) -> DynamicObject {
    DynamicObject { types: object.types, metadata: object.metadata, data: Value::Null }
}

/// The client with two additions. It notes every response of the API server, including bookmarks and the ends of watches,
/// which the watcher does not report. And it delays watch requests that follow too closely, because the watcher
/// immediately repeats one that the server ended.
fn observed(base: Client, health: Arc<Health>, interval: Duration) -> Client {
    let earliest = Arc::new(Mutex::new(Instant::now()));
    let service = tower::service_fn(move |request: Request<client::Body>| {
        let (base, health, earliest) = (base.clone(), Arc::clone(&health), Arc::clone(&earliest));
        async move {
            let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            if watch {
                let mut earliest = earliest.lock().await;
                tokio::time::sleep_until(*earliest).await;
                *earliest = Instant::now() + interval;
            }
            let response = base.send(request).await?;
            if response.status().is_success() {
                health.note_contact();
                // A resumed watch may have no events for a long time.
                if watch {
                    health.note_success(false);
                }
            }
            Ok::<_, kube::Error>(response.map(|body| {
                let noting = move |chunk: &Result<_, _>| {
                    if chunk.is_ok() {
                        health.note_contact();
                    }
                };
                Body::from_stream(Body::new(body).into_data_stream().inspect(noting))
            }))
        }
    });
    Client::new(service, "default")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Watching;
    use super::super::resource::Watched;
    use super::*;
    use crate::usage::{Record, UsageKey, UsageObject};

    fn usage(seconds: i64, memory: &str) -> DynamicObject {
        let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let key = UsageKey { digest, runtime: "wasmtime".into() };
        let record = Record::new(jiff::Timestamp::from_second(seconds).unwrap());
        let mut object = serde_json::to_value(UsageObject::of(&key, &record, None)).unwrap();
        object["metadata"] = json!({"name": key.object_name()});
        if !memory.is_empty() {
            object["status"]["requests"] = json!({"memory": memory, "cpu": "5m"});
        }
        serde_json::from_value(object).unwrap()
    }

    #[tokio::test]
    async fn further_samples_of_an_image_are_no_change_and_another_request_is_one() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = super::super::client::bounded(config, Duration::from_secs(1)).unwrap();
        let options = WatchOptions { sizes: true, ..WatchOptions::default() };
        let watching = Watching::new(client, options);
        let shared = Arc::clone(&watching.shared);
        let kept = shared.kept(Watched::WasmUsages).unwrap();
        let (store, health) = (Arc::clone(&kept.store), Arc::clone(&kept.health));
        let follower = Follower { store, health, shared: Arc::clone(&shared), options };
        for (seconds, memory, changes) in [
            (1, "", false),
            (2, "9Mi", true),
            (3, "9Mi", false),
            (4, "20Mi", true),
            (5, "", true),
            (6, "", false),
        ] {
            follower.apply(usage(seconds, memory));
            assert_eq!(!shared.take_changes().is_empty(), changes, "{seconds} {memory}");
        }
    }
}
