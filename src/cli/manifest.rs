//! Manifests from files, folders and standard input.

use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_saphyr::Spanned;

use super::Error;
use crate::files;
use crate::review::GroupVersionKind;
use crate::scan::unknown::containers_in;
use crate::text;

/// Largest manifest file, in bytes: several times what an API server accepts in one request.
const FILE_LIMIT: u64 = 32 << 20;
/// Most characters of a name in a message.
const LONGEST_NAME: usize = 253;
/// Most items of the lists of a document of which it is said one by one what is wrong: a file of a few megabytes may have millions.
const MOST_WRONG_ITEMS: usize = 10_000;

/// One object and its place in the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// File and document, for messages.
    pub origin: String,
    /// The object.
    pub object: Value,
}

impl Manifest {
    /// Group, version and kind of the object.
    pub fn kind(&self) -> GroupVersionKind {
        let api_version = self.text("/apiVersion");
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        GroupVersionKind { group: group.into(), version: version.into(), kind: self.text("/kind").into() }
    }

    /// Name of the object; empty when it has none.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Name of the object, or `prefix*` when the API server will generate one; for people.
    pub fn shown_name(&self) -> String {
        match (self.name(), self.text("/metadata/generateName")) {
            ("", "") => String::new(),
            ("", prefix) => format!("{prefix}*"),
            (name, _) => name.to_string(),
        }
    }

    /// Kind, name and place, for messages.
    pub fn described(&self) -> String {
        format!("{} `{}` ({})", self.kind().kind, self.shown_name(), self.origin)
    }

    /// Namespace of the object, or `fallback` when it names none.
    pub fn namespace_or<'a>(&'a self, fallback: &'a str) -> &'a str {
        match self.text("/metadata/namespace") {
            "" => fallback,
            own => own,
        }
    }

    /// The string at a JSON pointer; empty when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads every object of the paths. Folders are read recursively, and a `kind: List` yields its items. Of a folder, JSON that is for
/// other programs is passed over, such as `package.json`.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Error> {
    let mut manifests = Vec::new();
    for path in paths {
        for file in files(path)? {
            let text = text_of(&file, paths)?;
            if file == *path || !is_of_others(&file, &text) {
                manifests.extend(documents(&display(&file), &text)?);
            }
        }
    }
    Ok(manifests)
}

/// Whether a JSON file has no object of Kubernetes in it: each has a `kind`.
fn is_of_others(file: &Path, text: &str) -> bool {
    file.extension().is_some_and(|extension| extension == "json") && !text.contains("\"kind\"")
}

/// The text of every file that the paths stand for, each with the name of the file for messages.
pub fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Error> {
    files_of(paths)?.iter().map(|file| Ok((display(file), text_of(file, paths)?))).collect()
}

/// Reads every object like [`read`], but with the booleans of YAML 1.2, as grants are read: a name such as `NO` stays a
/// string. Each document stands for itself: the outer error is about a file that cannot be read, an inner one about its text.
pub fn read_strictly(paths: &[PathBuf]) -> Result<Vec<Result<Vec<Manifest>, Error>>, Error> {
    let mut read = Vec::new();
    for path in paths {
        for file in files(path)? {
            match serde_saphyr::from_multiple_with_options(&text_of(&file, paths)?, options(true)) {
                Ok(values) => read.extend(each(&display(&file), values)),
                Err(error) => read.push(Err(failed(&file, &error))),
            }
        }
    }
    Ok(read)
}

/// A file with its objects, each with the line on which its document begins.
#[derive(Debug)]
pub struct Placed {
    /// The file, for messages.
    pub origin: String,
    /// Its text.
    pub text: String,
    /// The line of a document from 1, and its objects or what is wrong with it.
    pub documents: Vec<(usize, Result<Objects, Error>)>,
}

/// The objects of a document.
#[derive(Debug, Default)]
pub struct Objects {
    /// The objects; of a list, its items.
    pub manifests: Vec<Manifest>,
    /// What is wrong with each item of a list that is no object.
    pub wrong_items: Vec<Error>,
    /// How many further ones there are.
    pub more_wrong_items: usize,
}

impl Objects {
    /// Adds the object, or the items of a list. Those that are wrong do not hide the others.
    fn add(&mut self, origin: String, mut value: Value) -> Result<(), Error> {
        if value.is_null() {
            return Ok(());
        }
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        if !value.is_object() || kind.is_empty() {
            return Err(Error::NoKind { path: origin, containers: containers_in(&value) });
        }
        let is_list = kind.ends_with("List");
        let items = value.get_mut("items").and_then(Value::as_array_mut).filter(|_| is_list);
        let Some(items) = items.map(std::mem::take) else {
            self.manifests.push(Manifest { origin, object: value });
            return Ok(());
        };
        for (index, item) in items.into_iter().enumerate() {
            let item = item_of(&value, item);
            if let Err(wrong) = self.add(item_place(&origin, index, &item), item) {
                self.add_wrong(wrong);
            }
        }
        Ok(())
    }

    fn add_wrong(&mut self, wrong: Error) {
        if self.wrong_items.len() < MOST_WRONG_ITEMS {
            self.wrong_items.push(wrong);
        } else {
            self.more_wrong_items = self.more_wrong_items.saturating_add(1);
        }
    }
}

/// The files that the paths stand for. Folders are read recursively.
pub fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for path in paths {
        found.extend(files(path)?);
    }
    Ok(found)
}

/// Reads one file like [`read`], with the line of each object. A document that is wrong does not hide the others, nor does an item of a
/// list; a file that cannot be parsed has one document, with what is wrong. `named` are the paths that [`files_of`] found it by.
pub fn placed(file: &Path, named: &[PathBuf]) -> Result<Placed, Error> {
    let (origin, text) = (display(file), text_of(file, named)?);
    let values: Result<Vec<Spanned<Value>>, _> = serde_saphyr::from_multiple_with_options(&text, plain());
    let documents = match values {
        Ok(values) => {
            let several = values.len() > 1;
            let document = |(index, value): (usize, Spanned<Value>)| {
                let line = usize::try_from(value.referenced.line()).unwrap_or_default();
                let mut objects = Objects::default();
                let added = objects.add(place(&origin, several.then_some(index)), value.value);
                (line, added.map(|()| objects))
            };
            values.into_iter().enumerate().map(document).collect()
        }
        Err(error) => vec![(1, Err(failed(file, &error)))],
    };
    Ok(Placed { origin, text, documents })
}

fn display(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".into()
    } else {
        // A folder may come from elsewhere, and with it the names in it.
        text::visible(&path.display().to_string()).into_owned()
    }
}

fn failed(path: &Path, message: &impl ToString) -> Error {
    Error::ReadManifest { path: display(path), message: message.to_string() }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    // What is no folder may be a pipe, as `<(helm template .)` is in a shell.
    if path == Path::new("-") || !path.metadata().map_err(|e| failed(path, &e))?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| failed(&folder, &e))? {
            let entry = entry.map_err(|e| failed(&folder, &e))?;
            let kind = entry.file_type().map_err(|e| failed(&entry.path(), &e))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if is_manifest(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file has manifests, by its name.
pub fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "json"))
}

/// The text of a file. A pipe is waited for if it was named, and not if it was found in a folder.
fn text_of(path: &Path, named: &[PathBuf]) -> Result<String, Error> {
    let read = if path == Path::new("-") {
        files::read_stream(std::io::stdin(), FILE_LIMIT)
    } else if path.metadata().is_ok_and(|of| of.is_file()) || !named.iter().any(|one| one == path) {
        files::read(path, FILE_LIMIT)
    } else {
        files::read_or_wait(path, FILE_LIMIT)
    };
    read.and_then(files::text).map_err(|e| failed(path, &e))
}

/// The documents of one file, whatever they are.
pub fn values(origin: &str, text: &str) -> Result<Vec<Value>, Error> {
    serde_saphyr::from_multiple_with_options(text, plain())
        .map_err(|e| Error::ReadManifest { path: origin.to_string(), message: e.to_string() })
}

/// The objects of one file.
pub fn documents(origin: &str, text: &str) -> Result<Vec<Manifest>, Error> {
    let mut manifests = Vec::new();
    for objects in each(origin, values(origin, text)?) {
        manifests.extend(objects?);
    }
    Ok(manifests)
}

/// Options without the parser's snippet, which spreads a message over several lines and calls the file `<input>`. `0644` is an
/// octal number, as for kubectl (`sigs.k8s.io/yaml`).
fn plain() -> serde_saphyr::Options {
    options(false)
}

fn options(strict_booleans: bool) -> serde_saphyr::Options {
    // One file may hold all that a platform renders. The parser's own bounds are 1 024 documents and a quarter million nodes.
    let budget = serde_saphyr::budget! { max_documents: 50_000, max_nodes: 4_000_000, max_events: 8_000_000 };
    serde_saphyr::options! {
        with_snippet: false, legacy_octal_numbers: true, strict_booleans: strict_booleans, budget: budget
    }
}

/// The objects of each document, or what is wrong with it.
fn each(origin: &str, values: Vec<Value>) -> impl Iterator<Item = Result<Vec<Manifest>, Error>> {
    let several = values.len() > 1;
    let documents = values.into_iter().enumerate();
    documents.map(move |(index, value)| document(origin, several.then_some(index), value))
}

/// The objects of one document; `index` is its place among several.
fn document(origin: &str, index: Option<usize>, value: Value) -> Result<Vec<Manifest>, Error> {
    let origin = place(origin, index);
    let mut manifests = Vec::new();
    flatten(origin, value, &mut manifests)?;
    Ok(manifests)
}

/// A document of a file, for messages; `index` is its place among several.
pub fn place(origin: &str, index: Option<usize>) -> String {
    index.map_or_else(|| origin.to_string(), |index| format!("{origin}, document {}", index + 1))
}

/// Adds the object, or the items of a list, of which none may be wrong.
pub fn flatten(origin: String, value: Value, manifests: &mut Vec<Manifest>) -> Result<(), Error> {
    let mut objects = Objects::default();
    objects.add(origin, value)?;
    if let Some(wrong) = objects.wrong_items.into_iter().next() {
        return Err(wrong);
    }
    manifests.append(&mut objects.manifests);
    Ok(())
}

/// An item of a list, for messages. One without a kind is found by its name.
fn item_place(origin: &str, index: usize, item: &Value) -> String {
    let name = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let has_kind = item.get("kind").and_then(Value::as_str).is_some_and(|kind| !kind.is_empty());
    let place = format!("{origin}, item {}", index + 1);
    if has_kind || name.is_empty() {
        return place;
    }
    format!("{place} ({})", text::quoted(name, LONGEST_NAME))
}

/// An item of a list. One that does not say what it is has the kind that the list names, as for kubectl
/// (`kubernetes:staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/helpers.go`, `decodeToList`).
pub fn item_of(list: &Value, mut item: Value) -> Value {
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text(list, "kind"), text(list, "apiVersion"));
    let is_named = ["kind", "apiVersion"].iter().any(|key| !text(&item, key).is_empty());
    if let Some(kind) = kind.strip_suffix("List").filter(|kind| !kind.is_empty() && !is_named)
        && let Some(fields) = item.as_object_mut()
    {
        fields.insert("kind".into(), kind.into());
        fields.insert("apiVersion".into(), version.into());
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_and_lists_become_single_objects() {
        let text = "kind: Pod\napiVersion: v1\n---\n---\nkind: List\napiVersion: v1\nitems:\n- {kind: Job, apiVersion: batch/v1}\n";
        let found = documents("x.yaml", text).unwrap();
        let kinds: Vec<_> = found.iter().map(Manifest::kind).collect();
        assert_eq!(kinds.len(), 2);
        assert_eq!((kinds[1].group.as_str(), kinds[1].kind.as_str()), ("batch", "Job"));
    }

    #[test]
    fn an_item_that_says_nothing_is_of_the_kind_that_its_list_names() {
        let list = |kind: &str, item: &str| {
            documents("x.yaml", &format!("kind: {kind}\napiVersion: apps/v1\nitems: [{item}]\n"))
        };
        let named = |found: Vec<Manifest>| {
            let GroupVersionKind { group, kind, .. } = found[0].kind();
            (group, kind)
        };
        let (group, kind) = named(list("DeploymentList", "{metadata: {name: a}}").unwrap());
        assert_eq!((group.as_str(), kind.as_str()), ("apps", "Deployment"));
        let (group, kind) = named(list("DeploymentList", "{kind: Pod, apiVersion: v1}").unwrap());
        assert_eq!((group.as_str(), kind.as_str()), ("", "Pod"));
        for (kind, item) in
            [("List", "{metadata: {name: a}}"), ("PodList", "{apiVersion: v1}"), ("PodList", "7")]
        {
            let error = list(kind, item).unwrap_err();
            assert!(matches!(error, Error::NoKind { containers: None, .. }), "{kind} {item}: {error}");
        }
        let pod = "{kind: Pod, spec: {containers: [{image: a}]}}";
        for (item, place, at) in [
            ("7", "x.yaml, item 2", None),
            ("{metadata: {name: a}}", "x.yaml, item 2 (a)", None),
            ("{spec: {containers: [{image: b}]}}", "x.yaml, item 2", Some("spec.containers")),
        ] {
            let error = list("List", &format!("{pod}, {item}")).unwrap_err();
            let Error::NoKind { path, containers } = &error else { panic!("{error}") };
            assert_eq!((path.as_str(), containers.as_deref()), (place, at));
        }
    }

    #[test]
    fn what_is_wrong_with_items_is_said_of_the_first_ones_and_the_others_are_counted() {
        let items: Vec<_> = (0..MOST_WRONG_ITEMS + 3).map(|_| serde_json::json!(7)).collect();
        let pod = serde_json::json!({"kind": "Pod", "metadata": {"name": "a"}});
        let inner = serde_json::json!({"kind": "List", "items": items});
        let mut objects = Objects::default();
        let list = serde_json::json!({"kind": "List", "items": [inner, pod]});
        objects.add("x.yaml".into(), list).unwrap();
        assert_eq!((objects.wrong_items.len(), objects.more_wrong_items), (MOST_WRONG_ITEMS, 3));
        assert_eq!(objects.manifests, [Manifest { origin: "x.yaml, item 2".into(), object: pod }]);
    }

    /// As kubectl reads them (`kubernetes-sigs/yaml:goyaml.v2/resolve.go`): modes of volumes are written so.
    #[test]
    fn octal_numbers_are_what_kubectl_makes_of_them() {
        for (written, expected) in [("0644", 420), ("0o400", 256), ("420", 420), ("0", 0), ("0x1f", 31)] {
            let found =
                documents("x.yaml", &format!("kind: Pod\napiVersion: v1\nmode: {written}\n")).unwrap();
            assert_eq!(found[0].object["mode"], expected, "{written}");
        }
    }

    #[test]
    fn a_document_that_is_no_object_is_named_with_its_place() {
        let error = documents("x.yaml", "kind: Pod\n---\n[1, 2]\n").unwrap_err().to_string();
        assert!(error.contains("x.yaml, document 2"), "{error}");
    }

    #[test]
    fn json_for_other_programs_is_passed_over_in_a_folder_and_named_where_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("package.json"), r#"{"name": "shop"}"#).unwrap();
        std::fs::write(at("tsconfig.json"), "{ // a comment\n}").unwrap();
        std::fs::write(at("pod.json"), r#"{"apiVersion": "v1", "kind": "Pod"}"#).unwrap();
        let read = |path: PathBuf| super::read(&[path]);
        assert_eq!(read(folder.path().to_path_buf()).unwrap().len(), 1);
        assert!(read(at("package.json")).is_err());
        std::fs::write(at("broken.json"), r#"{"kind": "Pod""#).unwrap();
        assert!(read(folder.path().to_path_buf()).is_err(), "a manifest that cannot be read is told");
    }

    #[test]
    fn each_document_is_placed_by_the_line_on_which_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        std::fs::write(&file, "# head\nkind: Pod\n---\n\nkind: Job\n---\n[1]\n").unwrap();
        let placed = placed(&file, &[]).unwrap();
        let lines: Vec<_> = placed.documents.iter().map(|(line, found)| (*line, found.is_ok())).collect();
        assert_eq!(lines, [(2, true), (5, true), (7, false)]);
        std::fs::write(&file, "a: {{ b }}: [\n").unwrap();
        let broken = super::placed(&file, &[]).unwrap();
        assert!(matches!(broken.documents.as_slice(), [(1, Err(_))]), "{:?}", broken.documents);
    }

    #[test]
    fn a_pipe_is_waited_for_where_it_was_named_and_not_where_it_is_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let above = [folder.path().to_path_buf()];
        assert_eq!(files_of(&above).unwrap(), std::slice::from_ref(&pipe));
        let refused = placed(&pipe, &above).unwrap_err().to_string();
        assert!(refused.contains("it is not a regular file"), "{refused}");
        let to = pipe.clone();
        let writer = std::thread::spawn(move || std::fs::write(to, "kind: Pod\n"));
        assert_eq!(placed(&pipe, std::slice::from_ref(&pipe)).unwrap().documents.len(), 1);
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn one_file_holds_all_that_a_platform_renders() {
        let pod = |number| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a-{number}}}\n");
        let text: String = (0..5000).map(pod).collect();
        assert_eq!(documents("x.yaml", &text).unwrap().len(), 5000);
    }

    #[test]
    fn json_is_yaml_too() {
        let found =
            documents("x.json", r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#).unwrap();
        assert_eq!(found[0].text("/metadata/name"), "a");
    }

    #[test]
    fn containers_are_found_in_any_object_that_has_some_and_not_in_schemas_or_text() {
        let found = |value: &Value| containers_in(value);
        let fleet = serde_json::json!({"spec": {"pools": [{"pod": {"containers": [{"image": "a"}]}}]}});
        assert_eq!(found(&fleet).as_deref(), Some("spec.pools.pod.containers"));
        let schema = serde_json::json!({"spec": {"properties": {"containers": {"type": "array", "items": {"image": "x"}}}}});
        assert_eq!(found(&schema), None);
        assert_eq!(found(&serde_json::json!({"data": {"pod": "containers: [{image: a}]"}})), None);
        assert_eq!(found(&serde_json::json!({"containers": ["a"]})), None);
    }
}
