//! The corpus under `tests/cases`: one file for each case, `<admit|warn|deny|skip>-<what>.yaml`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};
use wasmgate::review::GroupVersionKind;
use wasmgate::workload::{self, Kind, Kinds};

use super::gate::{Request, defaulted, grant_documents, plug_ins, with_limit_ranges_in};
use super::images;
use super::process::root;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// From the file's name.
    #[serde(skip)]
    pub name: String,
    /// What the case proves.
    pub why: String,
    /// The nearest case with a better result: a denied one names one that is not denied.
    #[serde(default)]
    pub neighbour: Option<String>,
    /// The namespace of the request; default: the case's name.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Labels of the namespace.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Body of a configuration file for this case alone.
    #[serde(default)]
    pub configuration: String,
    /// `spec` of each grant, or a whole document, which may be an exception.
    #[serde(default)]
    pub grants: Vec<Value>,
    /// RuntimeClass and LimitRange documents.
    #[serde(default)]
    pub cluster: Vec<Value>,
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// The object. `images.test/NAME:v1` are the images of `tests/support/images.rs`, and `images.test/NAME:v1@pinned`
    /// is one with its digest.
    pub object: Value,
    /// A merge patch: with it the review is an UPDATE of `object` to the result.
    #[serde(default)]
    pub update: Option<Value>,
    #[serde(default)]
    pub expect: Expect,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// `rule container capability` of every finding of the rules.
    #[serde(default)]
    pub rules: BTreeSet<String>,
    /// Texts in the refusal or the warnings of the validating webhook.
    #[serde(default)]
    pub says: Vec<String>,
    /// Texts in the warnings of the mutating webhook.
    #[serde(default)]
    pub mutate_says: Vec<String>,
    /// The annotation that lists the changes; absent if the object is not patched.
    #[serde(default)]
    pub changes: Option<String>,
    /// Values in the resulting object, by JSON pointer; a `*` at the end of a text stands for anything.
    #[serde(default)]
    pub patched: BTreeMap<String, Value>,
}

impl Case {
    /// All of them, which are read once.
    pub fn load_all() -> Vec<Self> {
        static ALL: LazyLock<Vec<Case>> = LazyLock::new(Case::read_all);
        ALL.clone()
    }

    fn read_all() -> Vec<Self> {
        let folder = root().join("tests/cases");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let load = |path: std::path::PathBuf| {
            let text = pinned(&std::fs::read_to_string(&path).unwrap());
            let mut case: Self =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            case.name = path.file_stem().unwrap().to_str().unwrap().to_string();
            case
        };
        files.into_iter().map(load).collect()
    }

    /// The cases that can share one gate.
    pub fn load_shared() -> Vec<Self> {
        let mut cases = Self::load_all();
        cases.retain(|case| !case.is_apart());
        cases
    }

    /// A new object without a case file.
    pub fn of_object(name: &str, namespace: &str, object: &Value) -> Self {
        let case = json!({"why": "", "namespace": namespace, "object": object});
        Self { name: name.to_string(), ..serde_json::from_value(case).unwrap() }
    }

    /// `admit`, `warn`, `deny` or `skip`.
    pub fn outcome(&self) -> &str {
        self.name.split_once('-').unwrap().0
    }

    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.name)
    }

    /// The kind as a gate without further configuration knows it.
    pub fn kind(&self) -> Option<Kind> {
        static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::default);
        KINDS.of(&self.group_version_kind())
    }

    /// Whether the object is of a kind that the API server knows only from a definition of its own project.
    pub fn is_described(&self) -> bool {
        matches!(self.kind(), Some(Kind::Described(_)))
    }

    pub fn is_pod(&self) -> bool {
        self.kind() == Some(Kind::Pod)
    }

    /// Pod template of the object, by JSON pointer; empty for a pod. That of a described kind is found once the gate has
    /// copied it there, since the API server sets no defaults in it.
    pub fn template(&self) -> &'static str {
        self.kind().map_or("", Kind::template_pointer)
    }

    /// How many pod templates the object has.
    pub fn templates(&self) -> usize {
        self.kind().map_or(0, |kind| 1 + workload::further_templates(&self.object, kind))
    }

    pub fn group_version_kind(&self) -> GroupVersionKind {
        let version = self.object["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = self.object["kind"].as_str().unwrap().to_string();
        GroupVersionKind { group: group.into(), version: version.into(), kind }
    }

    /// A case that changes cluster-wide settings gets a gate of its own. The others share one, each in a namespace of
    /// its own.
    pub fn is_apart(&self) -> bool {
        !self.configuration.is_empty() || self.cluster.iter().any(|d| d["kind"] == "RuntimeClass")
    }

    /// Whether it is about a new object, not a part of an existing one.
    pub fn is_new(&self) -> bool {
        self.update.is_none() && self.sub_resource.is_none() && self.kind().is_some()
    }

    /// The object as a person writes it, after the update if there is one.
    pub fn written(&self) -> Value {
        let mut object = self.object.clone();
        if let Some(update) = &self.update {
            json_patch::merge(&mut object, update);
        }
        object
    }

    pub fn grants(&self) -> Vec<Value> {
        grant_documents(&self.grants, self.namespace())
    }

    /// The case's documents about the cluster, with its LimitRanges in its namespace.
    pub fn cluster(&self) -> Vec<Value> {
        with_limit_ranges_in(&self.cluster, self.namespace())
    }

    /// The same, with the namespace itself.
    pub fn documents(&self) -> Vec<Value> {
        let mut documents = self.cluster();
        documents.push(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace(), "labels": self.labels}}));
        documents
    }

    /// The object as the webhooks first see it.
    pub fn request(&self) -> Request {
        let sent = |object: &Value| {
            let object = defaulted(object, self.namespace(), self.template());
            if self.is_pod() { plug_ins(&object, self.namespace(), &self.cluster()) } else { object }
        };
        let mut request = Request::create(self.namespace(), sent(&self.object));
        request.sub_resource.clone_from(&self.sub_resource);
        if let Some(update) = &self.update {
            request.operation = "UPDATE".into();
            let mut updated = self.object.clone();
            json_patch::merge(&mut updated, update);
            request.old_object = Some(std::mem::replace(&mut request.object, sent(&updated)));
        }
        request
    }
}

/// The text with the digest of each image that it names as `images.test/NAME:v1@pinned`.
fn pinned(text: &str) -> String {
    let mut parts = text.split("@pinned");
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let name = whole.rsplit_once("images.test/").unwrap().1.strip_suffix(":v1").unwrap();
        whole = format!("{whole}@{}{part}", images::digest(name));
    }
    whole
}
