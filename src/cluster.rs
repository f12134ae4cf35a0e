//! Facts about the cluster besides the object under review: its `RuntimeClass`es, `LimitRange`s and namespace
//! labels, what its images have used, and the requests of which workloads another controller goes by. They can be read from a directory of ordinary manifests, for the offline commands and for a gate outside of a
//! cluster.

mod autoscaled;
mod limit_range;

pub use autoscaled::{Autoscaled, Target};
pub use limit_range::{
    Bounds, DefaultSize, DefaultSizes, LIMIT_RANGER_ANNOTATION, LIMIT_RANGER_SET, LimitRanges,
    ResourceBounds, UnreadableAmount,
};

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LimitRange, Namespace};
use k8s_openapi::api::node::v1 as node;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::files;
use crate::runtime::{Profile, Runtimes};
use crate::text;
use crate::usage::{self, Learned, UsageObject};

/// The parts of a RuntimeClass that placement needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeClass {
    /// Handler in the configuration of the node's container runtime.
    pub handler: String,
    /// `scheduling.nodeSelector`, which the API server's RuntimeClass plugin merges into the pod.
    pub node_selector: BTreeMap<String, String>,
    /// Labels of the object, by which a profile may choose among several.
    pub labels: BTreeMap<String, String>,
}

impl RuntimeClass {
    /// The parts of the object that placement needs. `None` without a handler, which the API server never admits.
    pub fn of(class: node::RuntimeClass) -> Option<Self> {
        let node_selector = class.scheduling.and_then(|s| s.node_selector).unwrap_or_default();
        let labels = class.metadata.labels.unwrap_or_default();
        (!class.handler.is_empty()).then_some(Self { handler: class.handler, node_selector, labels })
    }
}

/// A consistent snapshot of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Name → RuntimeClass. `None` if it is not known which ones exist; then all classes of the profiles are assumed to.
    pub runtime_classes: Option<BTreeMap<String, RuntimeClass>>,
    /// Namespace → what all its `LimitRange`s allow.
    pub limit_ranges: BTreeMap<String, LimitRanges>,
    /// Namespace → its labels.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The requests that were learned for images; empty where none are learned.
    pub learned: Arc<Learned>,
    /// The workloads whose requests an autoscaler sizes or goes by; empty where no requests are learned.
    pub autoscaled: Arc<Autoscaled>,
}

impl Cluster {
    /// The profile of a RuntimeClass. The node's container runtime knows only handlers and not class names, so a known
    /// handler decides which runtime it is: the one of the profile that lists the handler, or of a profile that lists
    /// another class with the same handler. Among profiles of one runtime the class name decides.
    pub fn profile_of<'a>(&self, runtimes: &'a Runtimes, class: &str) -> Option<&'a Profile> {
        let named = runtimes.by_class(class);
        let Some(classes) = &self.runtime_classes else { return named };
        let Some(known) = classes.get(class) else { return named };
        let of_similar = || {
            let kin = classes.iter().filter(|(_, other)| other.handler == known.handler);
            kin.map(|(name, _)| name).find_map(|name| runtimes.by_class(name))
        };
        match (named, runtimes.by_handler(&known.handler)) {
            (Some(named), Some(handled)) if named.ambient != handled.ambient => Some(handled),
            (Some(named), _) => Some(named),
            (None, handled) => handled.or_else(of_similar),
        }
    }

    /// The RuntimeClasses that start a profile's shim and have its `classLabels`; `None` if it is not known which classes
    /// exist. The profile's own class comes first, then its aliases, then those that only have its handler,
    /// each by name, so that every replica chooses the same one.
    pub fn classes_of(&self, runtimes: &Runtimes, profile: &Profile) -> Option<Vec<(&str, &RuntimeClass)>> {
        let leads = |name: &str| self.profile_of(runtimes, name).is_some_and(|p| p.name == profile.name);
        let fits = |class: &RuntimeClass| {
            profile.class_labels.iter().all(|(key, value)| class.labels.get(key) == Some(value))
        };
        let classes = self.runtime_classes.as_ref()?.iter();
        let mut found: Vec<_> = classes
            .filter(|(name, class)| leads(name) && fits(class))
            .map(|(name, class)| (name.as_str(), class))
            .collect();
        found.sort_by_key(|(name, _)| (*name != profile.runtime_class, !profile.aliases.contains(*name)));
        Some(found)
    }

    /// The RuntimeClass for pods of a profile, as far as the cluster alone decides.
    pub fn class_for<'a>(&'a self, runtimes: &Runtimes, profile: &'a Profile) -> &'a str {
        let first = self.classes_of(runtimes, profile).and_then(|found| found.first().map(|(name, _)| *name));
        first.unwrap_or(&profile.runtime_class)
    }
}

/// Largest file, in bytes. A dump of every LimitRange of a large cluster is far smaller.
const LARGEST_FILE: u64 = 16 << 20;

/// Why the snapshot of the cluster could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be listed.
    #[error("could not list the directory `{}`", path.display())]
    ListDirectory {
        /// Directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("could not read `{}`", path.display())]
    ReadFile {
        /// File.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is neither YAML nor JSON.
    #[error("could not parse `{}`: {message}", path.display())]
    ParseFile {
        /// File.
        path: PathBuf,
        /// The parser's message, with the line.
        message: String,
    },
    /// A document does not match its kind.
    #[error("could not read document {document} of `{}` as a {kind}: {message}", path.display())]
    ReadDocument {
        /// File.
        path: PathBuf,
        /// Which document that is not empty, from 1.
        document: usize,
        /// Kind of the document.
        kind: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A document has a kind that the gate does not read.
    #[error(
        "could not use document {document} of `{}`: it is a `{kind}`; keep only RuntimeClass (node.k8s.io/v1), LimitRange \
         and Namespace (v1), and WasmUsage (wasmgate.dev/v1alpha1), or a List of them, in this directory",
        path.display()
    )]
    UseDocument {
        /// File.
        path: PathBuf,
        /// Which document that is not empty, from 1.
        document: usize,
        /// `apiVersion/kind` as written, cut to 64 characters.
        kind: String,
    },
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory, in the order of their names. Subdirectories are
/// skipped, since a mounted ConfigMap has its files a second time below a hidden directory. The `RuntimeClass`es count as
/// known if the directory has at least one.
pub fn load_dir(directory: &Path) -> Result<Cluster, Error> {
    let mut cluster = Cluster::default();
    for path in manifests(directory)? {
        let documents = documents(&path)?;
        for (index, document) in documents.into_iter().enumerate() {
            DocumentOrigin { path: &path, document: index + 1 }.add(document, &mut cluster)?;
        }
    }
    Ok(cluster)
}

fn manifests(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::ListDirectory { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The documents of a file that are not empty. JSON is YAML too.
fn documents(path: &Path) -> Result<Vec<Value>, Error> {
    let parse = |message: String| Error::ParseFile { path: path.to_owned(), message };
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::FileTooLarge => parse(format!("{source}; split it")),
        _ => Error::ReadFile { path: path.to_owned(), source },
    };
    let text = files::read_text(path, LARGEST_FILE).map_err(failed)?;
    serde_saphyr::from_multiple(&text).map_err(|error| parse(error.to_string()))
}

/// Place of a document, for messages.
#[derive(Clone, Copy)]
struct DocumentOrigin<'a> {
    path: &'a Path,
    document: usize,
}

impl DocumentOrigin<'_> {
    fn add(self, document: Value, cluster: &mut Cluster) -> Result<(), Error> {
        let field = |name| document.get(name).and_then(Value::as_str).unwrap_or_default();
        match (field("apiVersion"), field("kind")) {
            ("node.k8s.io/v1", "RuntimeClass") => self.runtime_class(document, cluster),
            ("v1", "LimitRange") => self.limit_range(document, cluster),
            ("v1", "Namespace") => self.namespace(document, cluster),
            (usage::API_VERSION, usage::KIND) => self.usage(document, cluster),
            // The output of `kubectl get -o yaml`. A list contains no lists, so the recursion ends.
            ("v1", "List") => self.list(document, cluster),
            (version, kind) => {
                let kind = text::quoted(&format!("{version}/{kind}"), 64);
                Err(Error::UseDocument { path: self.path.to_owned(), document: self.document, kind })
            }
        }
    }

    fn list(self, mut document: Value, cluster: &mut Cluster) -> Result<(), Error> {
        let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) else {
            return Err(self.wrong("List", "it has no `items`; leave the document out"));
        };
        for item in items {
            if item.get("kind").and_then(Value::as_str) == Some("List") {
                return Err(
                    self.wrong("List", "a list holds another list; write its items beside the others")
                );
            }
            self.add(item, cluster)?;
        }
        Ok(())
    }

    fn runtime_class(self, document: Value, cluster: &mut Cluster) -> Result<(), Error> {
        let kind = "RuntimeClass";
        let class: node::RuntimeClass = self.typed(document, kind)?;
        let name = self.name(class.metadata.name.clone(), kind)?;
        let name_one = "it has no `handler`; name the one of the node's container runtime";
        let class = RuntimeClass::of(class).ok_or_else(|| self.wrong(kind, name_one))?;
        let known = cluster.runtime_classes.get_or_insert_default();
        match known.insert(name.clone(), class) {
            None => Ok(()),
            Some(_) => Err(self.wrong(kind, &format!("`{name}` is there twice; keep one"))),
        }
    }

    fn limit_range(self, document: Value, cluster: &mut Cluster) -> Result<(), Error> {
        let range: LimitRange = self.typed(document, "LimitRange")?;
        let namespace = range.metadata.namespace.unwrap_or_else(|| "default".to_owned());
        let items = range.spec.map(|spec| spec.limits).unwrap_or_default();
        let ranges = LimitRanges::of(items).map_err(|error| self.wrong("LimitRange", &error.to_string()))?;
        cluster.limit_ranges.entry(namespace).or_default().add(ranges);
        Ok(())
    }

    fn namespace(self, document: Value, cluster: &mut Cluster) -> Result<(), Error> {
        let kind = "Namespace";
        let namespace: Namespace = self.typed(document, kind)?;
        let name = self.name(namespace.metadata.name, kind)?;
        match cluster.namespaces.insert(name.clone(), namespace.metadata.labels.unwrap_or_default()) {
            None => Ok(()),
            Some(_) => Err(self.wrong(kind, &format!("`{name}` is there twice; keep one"))),
        }
    }

    fn usage(self, document: Value, cluster: &mut Cluster) -> Result<(), Error> {
        let name = document.pointer("/metadata/name").and_then(Value::as_str).map(String::from);
        let name = self.name(name, usage::KIND)?;
        let read = UsageObject::read(&name, document);
        let read = read.map_err(|error| self.wrong(usage::KIND, &error.to_string()))?;
        if let Some(size) = read.requests() {
            Arc::make_mut(&mut cluster.learned).insert(read.key(), size);
        }
        Ok(())
    }

    fn typed<T: DeserializeOwned>(self, document: Value, kind: &'static str) -> Result<T, Error> {
        serde_json::from_value(document).map_err(|error| self.wrong(kind, &error.to_string()))
    }

    fn name(self, name: Option<String>, kind: &'static str) -> Result<String, Error> {
        name.filter(|name| !name.is_empty())
            .ok_or_else(|| self.wrong(kind, "it has no `metadata.name`; add one"))
    }

    fn wrong(self, kind: &'static str, message: &str) -> Error {
        Error::ReadDocument {
            path: self.path.to_owned(),
            document: self.document,
            kind,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::quantity::Quantity;
    use crate::usage::{LearnedSize, Record, UsageKey};

    const CLASSES: &str = "
# what a cluster with runwasi and Spin has
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: { name: wasmtime-spin-v2 }
handler: spin
scheduling: { nodeSelector: { spin: \"true\" } }
---
---
apiVersion: v1
kind: LimitRange
metadata: { name: sizes, namespace: shop }
spec:
  limits:
    - { type: Container, max: { memory: 1Gi, cpu: 2 } }
    - { type: Pod, max: { memory: 2Gi } }
";

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn load(files: &[(&str, &str)]) -> Result<Cluster, Error> {
        load_dir(directory(files).path())
    }

    #[test]
    fn a_directory_of_ordinary_manifests_is_the_cluster() {
        let list = r#"{"apiVersion":"v1","kind":"List","items":[
            {"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"wasm"},"handler":"wasm"},
            {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"team":"a"}}}]}"#;
        let more =
            "{apiVersion: v1, kind: LimitRange, metadata: {name: b}, spec: {limits: [{type: Container}]}}";
        let files =
            [("classes.yaml", CLASSES), ("list.json", list), ("more.yml", more), ("notes.txt", "{{{")];
        let cluster = load(&files).unwrap();
        let classes = cluster.runtime_classes.unwrap();
        assert_eq!(classes.keys().collect::<Vec<_>>(), ["wasm", "wasmtime-spin-v2"]);
        assert_eq!(classes["wasmtime-spin-v2"].node_selector["spin"], "true");
        assert_eq!(cluster.limit_ranges["shop"].items.len(), 2);
        let of_shop = cluster.limit_ranges["shop"].container;
        assert_eq!(of_shop.memory.max, Some(Quantity::mebibytes(1024)));
        assert_eq!(of_shop.cpu.max, Some(Quantity::from_millis(2000)));
        assert_eq!(cluster.limit_ranges["default"].items.len(), 1);
        assert_eq!(cluster.namespaces["shop"]["team"], "a");
    }

    #[test]
    fn without_a_runtime_class_the_existing_ones_are_unknown() {
        let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
        assert_eq!(load(&[("a.yaml", namespace)]).unwrap().runtime_classes, None);
        assert_eq!(load(&[]).unwrap(), Cluster::default());
    }

    #[test]
    fn the_handler_decides_which_runtime_a_class_is() {
        let class = |handler: &str| RuntimeClass { handler: handler.into(), ..RuntimeClass::default() };
        let of = |classes: &[(&str, &str)], name: &str| {
            let classes = classes.iter().map(|(name, handler)| ((*name).to_string(), class(handler)));
            let cluster = Cluster { runtime_classes: Some(classes.collect()), ..Cluster::default() };
            cluster.profile_of(&Runtimes::default(), name).map(|profile| profile.name.clone())
        };
        let named = |name: &str| Some(name.to_string());
        assert_eq!(of(&[("fast", "spin-v2")], "fast"), named("spin"));
        assert_eq!(of(&[("wasmtime", "wasmedge")], "wasmtime"), named("wasmedge"), "the handler wins");
        assert_eq!(of(&[("wasmtime", "site-7")], "wasmtime"), named("wasmtime"));
        let kin = [("wasmtime", "site-7"), ("fast", "site-7"), ("kata", "kata")];
        assert_eq!(of(&kin, "fast"), named("wasmtime"), "the handler of a class that is known by its name");
        assert_eq!(of(&kin, "kata"), None);
        assert_eq!(of(&[("kata", "kata")], "wasmtime"), named("wasmtime"), "a class that is not there yet");
        let mut runtimes = Runtimes::default();
        let second =
            Profile { name: "second".into(), runtime_class: "second".into(), ..runtimes.profiles[0].clone() };
        runtimes.profiles.push(second);
        let classes = [("second".to_string(), class("wasmtime"))].into();
        let cluster = Cluster { runtime_classes: Some(classes), ..Cluster::default() };
        assert_eq!(
            cluster.profile_of(&runtimes, "second").unwrap().name,
            "second",
            "one runtime, two profiles"
        );
    }

    #[test]
    fn what_was_learned_of_an_image_is_read_from_a_file_and_checked() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let key = UsageKey { digest: digest.parse().unwrap(), runtime: "wasmtime".into() };
        let size = LearnedSize { memory: Quantity::mebibytes(12), cpu: Quantity::from_millis(7) };
        let record = Record::new("2026-06-01T00:00:00Z".parse().unwrap());
        let mut object = serde_json::to_value(UsageObject::of(&key, &record, Some(size))).unwrap();
        object["apiVersion"] = usage::API_VERSION.into();
        object["kind"] = usage::KIND.into();
        object["metadata"] = serde_json::json!({ "name": key.object_name() });
        let cluster = load(&[("usage.json", &object.to_string())]).unwrap();
        assert_eq!(cluster.learned.of(&key.digest, "wasmtime"), Some(size));
        object["metadata"]["name"] = "other".into();
        let message = load(&[("usage.json", &object.to_string())]).unwrap_err().to_string();
        assert!(message.contains("as a WasmUsage") && message.contains(&key.object_name()), "{message}");
    }

    #[test]
    fn another_kind_is_refused_with_file_document_and_kind() {
        let two = format!("{CLASSES}---\napiVersion: apps/v1\nkind: Deployment\n");
        let message = load(&[("all.yaml", &two)]).unwrap_err().to_string();
        assert!(message.contains("document 3 of") && message.contains("all.yaml"), "{message}");
        assert!(message.contains("`apps/v1/Deployment`"), "{message}");
        let beta = "{apiVersion: node.k8s.io/v1beta1, kind: RuntimeClass, metadata: {name: a}, handler: a}";
        assert!(matches!(load(&[("a.yaml", beta)]), Err(Error::UseDocument { .. })));
        assert!(matches!(load(&[("a.yaml", "just text")]), Err(Error::UseDocument { .. })));
    }

    #[test]
    fn a_document_that_is_not_what_it_says_is_named() {
        let class = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\n";
        let table = [
            (format!("{class}metadata: {{name: a}}"), "no `handler`"),
            (format!("{class}handler: a"), "no `metadata.name`"),
            (format!("{class}metadata: {{name: a}}\nhandler: [1]"), "as a RuntimeClass"),
            (format!("{CLASSES}---{CLASSES}"), "`wasmtime-spin-v2` is there twice"),
            ("{apiVersion: v1, kind: List}".to_owned(), "no `items`"),
            ("{apiVersion: v1, kind: List, items: [{kind: List}]}".to_owned(), "another list"),
            ("{apiVersion: v1, kind: LimitRange, spec: {limits: 3}}".to_owned(), "as a LimitRange"),
            (
                "{apiVersion: v1, kind: LimitRange, spec: {limits: [{type: Pod, max: {cpu: lots}}]}}"
                    .to_owned(),
                "`max.cpu` is `lots`, which is not a quantity",
            ),
        ];
        for (text, expected) in table {
            let message = load(&[("a.yaml", &text)]).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_parsed_is_named() {
        let missing = load_dir(Path::new("/nonexistent/cluster")).unwrap_err();
        assert!(missing.to_string().contains("`/nonexistent/cluster`") && missing.source().is_some());
        let bad = load(&[("a.yaml", "a: [1")]).unwrap_err();
        assert!(matches!(&bad, Error::ParseFile { path, .. } if path.ends_with("a.yaml")), "{bad}");
        let bytes = tempfile::tempdir().unwrap();
        fs::write(bytes.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
        assert!(matches!(load_dir(bytes.path()), Err(Error::ReadFile { .. })));
        let bomb: String = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
            let below = n - 1;
            format!("{text}a{n}: &a{n} [*a{below}, *a{below}, *a{below}, *a{below}]\n")
        });
        assert!(matches!(load(&[("bomb.yaml", &bomb)]), Err(Error::ParseFile { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn files_of_a_mounted_config_map_are_read_once() {
        let mount = tempfile::tempdir().unwrap();
        let data = mount.path().join("..2026_01_01");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("classes.yaml"), CLASSES).unwrap();
        std::os::unix::fs::symlink("..2026_01_01", mount.path().join("..data.yaml")).unwrap();
        std::os::unix::fs::symlink("..2026_01_01/classes.yaml", mount.path().join("classes.yaml")).unwrap();
        assert_eq!(load_dir(mount.path()).unwrap().runtime_classes.unwrap().len(), 1);
        std::os::unix::fs::symlink("gone", mount.path().join("dangling.yaml")).unwrap();
        assert!(matches!(load_dir(mount.path()), Err(Error::ReadFile { .. })));
    }
}
