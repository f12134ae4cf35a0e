//! The watched kinds, and what the gate keeps of each object.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::LimitRangeSpec;
use k8s_openapi::api::node::v1 as node;
use kube::core::{ApiResource, DynamicObject};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::cluster::{LimitRanges, RuntimeClass, Target};
use crate::grant::load::{Checked, read_object};
use crate::grant::{WasiException, WasiGrant};
use crate::usage::{LearnedSize, UsageKey, UsageObject};

/// The kinds of objects that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watched {
    /// RuntimeClasses, with handler, node selector and labels.
    RuntimeClasses,
    /// LimitRanges, with their items.
    LimitRanges,
    /// Namespaces; only their labels are kept.
    Namespaces,
    /// Service accounts; only the names of their pull secrets are kept.
    ServiceAccounts,
    /// Namespaced grants.
    WasiGrants,
    /// Cluster-wide grants.
    ClusterWasiGrants,
    /// Exceptions from rules.
    WasiExceptions,
    /// What images have used; only the requests that follow are kept. Where [`super::WatchOptions::sizes`] says so.
    WasmUsages,
    /// VerticalPodAutoscalers; only what they size is kept. With the same option, and where the cluster has them.
    VerticalPodAutoscalers,
    /// HorizontalPodAutoscalers; only what they scale by a part of its requests is kept. With the same option.
    HorizontalPodAutoscalers,
}

impl Watched {
    /// All kinds that may be watched.
    pub const ALL: [Self; 10] = [
        Self::RuntimeClasses,
        Self::LimitRanges,
        Self::Namespaces,
        Self::ServiceAccounts,
        Self::WasiGrants,
        Self::ClusterWasiGrants,
        Self::WasiExceptions,
        Self::WasmUsages,
        Self::VerticalPodAutoscalers,
        Self::HorizontalPodAutoscalers,
    ];

    /// Those that are watched only where requests are learned.
    pub(super) const OF_SIZES: [Self; 3] =
        [Self::WasmUsages, Self::VerticalPodAutoscalers, Self::HorizontalPodAutoscalers];

    /// Group, version, kind and plural, and the name in RBAC, logs and metrics.
    const fn names(self) -> [&'static str; 5] {
        match self {
            Self::RuntimeClasses => {
                ["node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclasses.node.k8s.io"]
            }
            Self::LimitRanges => ["", "v1", "LimitRange", "limitranges", "limitranges"],
            Self::Namespaces => ["", "v1", "Namespace", "namespaces", "namespaces"],
            Self::ServiceAccounts => ["", "v1", "ServiceAccount", "serviceaccounts", "serviceaccounts"],
            Self::WasiGrants => {
                ["wasmgate.dev", "v1alpha1", "WasiGrant", "wasigrants", "wasigrants.wasmgate.dev"]
            }
            Self::ClusterWasiGrants => [
                "wasmgate.dev",
                "v1alpha1",
                "ClusterWasiGrant",
                "clusterwasigrants",
                "clusterwasigrants.wasmgate.dev",
            ],
            Self::WasiExceptions => {
                ["wasmgate.dev", "v1alpha1", "WasiException", "wasiexceptions", "wasiexceptions.wasmgate.dev"]
            }
            Self::WasmUsages => {
                ["wasmgate.dev", "v1alpha1", "WasmUsage", "wasmusages", "wasmusages.wasmgate.dev"]
            }
            Self::VerticalPodAutoscalers => [
                "autoscaling.k8s.io",
                "v1",
                "VerticalPodAutoscaler",
                "verticalpodautoscalers",
                "verticalpodautoscalers.autoscaling.k8s.io",
            ],
            Self::HorizontalPodAutoscalers => [
                "autoscaling",
                "v2",
                "HorizontalPodAutoscaler",
                "horizontalpodautoscalers",
                "horizontalpodautoscalers.autoscaling",
            ],
        }
    }

    /// Resource and group, such as `wasigrants.wasmgate.dev`.
    pub const fn name(self) -> &'static str {
        let [.., name] = self.names();
        name
    }

    /// Whether it is one of the gate's own kinds, whose definition has to be installed.
    pub(super) const fn is_custom(self) -> bool {
        matches!(self, Self::WasiGrants | Self::ClusterWasiGrants | Self::WasiExceptions | Self::WasmUsages)
    }

    /// Whether it is a kind of another project, or of a later version of Kubernetes, which the cluster need not have.
    pub(super) const fn is_optional(self) -> bool {
        matches!(self, Self::VerticalPodAutoscalers | Self::HorizontalPodAutoscalers)
    }

    /// Whether it is one of [`Self::OF_SIZES`].
    pub(super) fn is_of_sizes(self) -> bool {
        Self::OF_SIZES.contains(&self)
    }

    /// Whether snapshots hold something of it. Service accounts are looked up where they are kept.
    pub(super) const fn is_of_snapshots(self) -> bool {
        !matches!(self, Self::ServiceAccounts)
    }

    /// Whether only the objects' metadata is requested.
    pub(super) const fn is_metadata_only(self) -> bool {
        matches!(self, Self::Namespaces)
    }

    /// The resource of the API server.
    pub(super) fn resource(self) -> ApiResource {
        let [group, version, kind, plural, _] = self.names();
        let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.into(),
            version: version.into(),
            api_version,
            kind: kind.into(),
            plural: plural.into(),
        }
    }
}

/// Name and namespace of an object; the namespace is empty for cluster-scoped objects.
pub(super) type Key = (String, String);

/// What is kept of an object.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Class(RuntimeClass),
    Limits(Box<LimitRanges>),
    Labels(BTreeMap<String, String>),
    PullSecrets(Arc<[String]>),
    Grant(Arc<WasiGrant>),
    Exception(Arc<WasiException>),
    Usage(UsageKey, LearnedSize),
    Autoscaled(Target),
}

impl Item {
    /// Whether it can be seen at once that nothing the gate keeps has changed. The objects with which that is so are written every few
    /// minutes, and a new snapshot has every decision taken anew.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Usage(key, size), Self::Usage(other_key, other_size)) => {
                (key, size) == (other_key, other_size)
            }
            (Self::Autoscaled(target), Self::Autoscaled(other)) => target == other,
            _ => false,
        }
    }
}

pub(super) type Items = BTreeMap<Key, Item>;

/// The objects of one kind.
#[derive(Debug, Default)]
pub(super) struct Store(RwLock<Items>);

impl Store {
    /// Reads the objects. Keep `look` short, because the watch waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Items) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the objects.
    pub fn write<T>(&self, change: impl FnOnce(&mut Items) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Name and namespace of an object.
pub(super) fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    (metadata.name.clone().unwrap_or_default(), metadata.namespace.clone().unwrap_or_default())
}

/// What the gate keeps of an object; `None` if it has nothing relevant. The error says what is wrong with the object.
pub(super) fn keep(watched: Watched, object: DynamicObject) -> Result<Option<Item>, String> {
    match watched {
        Watched::RuntimeClasses => {
            let mut class: node::RuntimeClass = typed(object.data)?;
            class.metadata.labels = object.metadata.labels;
            let class = RuntimeClass::of(class).ok_or("it has no `handler`")?;
            Ok(Some(Item::Class(class)))
        }
        Watched::LimitRanges => {
            let spec: Option<LimitRangeSpec> = field(object.data, "spec")?;
            let ranges = spec.map(|spec| LimitRanges::of(spec.limits)).transpose();
            ranges
                .map(|ranges| ranges.map(|ranges| Item::Limits(Box::new(ranges))))
                .map_err(|error| error.to_string())
        }
        Watched::Namespaces => Ok(Some(Item::Labels(object.metadata.labels.unwrap_or_default()))),
        Watched::ServiceAccounts => {
            #[derive(Deserialize)]
            struct Reference {
                #[serde(default)]
                name: String,
            }
            let secrets: Option<Vec<Reference>> = field(object.data, "imagePullSecrets")?;
            let names: Arc<[String]> = secrets.into_iter().flatten().map(|secret| secret.name).collect();
            Ok((!names.is_empty()).then_some(Item::PullSecrets(names)))
        }
        Watched::WasiGrants | Watched::ClusterWasiGrants | Watched::WasiExceptions => {
            let (name, namespace) = key(&object);
            let origin = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
            match read_object(document(watched, object), &origin) {
                Ok(Checked::Grant(grant)) => Ok(Some(Item::Grant(grant))),
                Ok(Checked::Exception(exception)) => Ok(Some(Item::Exception(exception))),
                Err(problems) => Err(problems.to_string()),
            }
        }
        Watched::WasmUsages => usage(object),
        Watched::VerticalPodAutoscalers => Ok(Target::sized(spec(object.data))?.map(Item::Autoscaled)),
        Watched::HorizontalPodAutoscalers => {
            Ok(Target::scaled_by_requests(spec(object.data))?.map(Item::Autoscaled))
        }
    }
}

/// What was learned of an image; `None` while that is nothing.
fn usage(object: DynamicObject) -> Result<Option<Item>, String> {
    let (name, _) = key(&object);
    let read = UsageObject::read(&name, object.data).map_err(|error| error.to_string())?;
    Ok(read.requests().map(|size| Item::Usage(read.key(), size)))
}

/// The object as in a manifest: with its kind, and only the identifying part of the metadata.
fn document(watched: Watched, object: DynamicObject) -> Value {
    let ApiResource { api_version, kind, .. } = watched.resource();
    let mut metadata = Map::new();
    metadata.extend(object.metadata.name.map(|name| ("name".to_string(), Value::String(name))));
    metadata.extend(
        object.metadata.namespace.map(|namespace| ("namespace".to_string(), Value::String(namespace))),
    );
    let mut document = match object.data {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    // Written by controllers; manifests do not have it.
    document.remove("status");
    document.insert("apiVersion".into(), json!(api_version));
    document.insert("kind".into(), json!(kind));
    document.insert("metadata".into(), Value::Object(metadata));
    Value::Object(document)
}

fn spec(mut data: Value) -> Value {
    data.get_mut("spec").map(Value::take).unwrap_or_default()
}

fn typed<T: DeserializeOwned>(data: Value) -> Result<T, String> {
    serde_json::from_value(data).map_err(|error| error.to_string())
}

fn field<T: DeserializeOwned>(mut data: Value, name: &str) -> Result<Option<T>, String> {
    let value = data.get_mut(name).map(Value::take).unwrap_or_default();
    serde_json::from_value(value).map_err(|error| format!("`{name}`: {error}"))
}
