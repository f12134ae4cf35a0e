//! Images from OCI image-layout folders (OCI image-spec, `image-layout.md`), as written by `crane pull --format=oci`,
//! `oras copy --to-oci-layout` and `skopeo copy … oci:`. With them the gate can be tried without a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use super::Error;
use crate::files::{self, unless_too_large};
use crate::image::descriptor::Descriptor;
use crate::image::reference::{Reference, registry_name, spellings};
use crate::image::{self, Digest};
use crate::registry::source::{FetchedManifest, Source};
use crate::text;

/// Annotation of an index entry that holds its tag (OCI image-spec, `annotations.md`); `crane` and older `skopeo`
/// write the whole reference.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// containerd's annotation for the whole name (`containerd:core/images/annotations.go`).
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// `{"imageLayoutVersion":"1.0.0"}` and space for annotations, in bytes.
const LARGEST_MARKER: u64 = 64 << 10;

/// Most characters of an error that may quote a document.
const QUOTED_CHARS: usize = 160;

/// Most tags that a message lists.
const LISTED_TAGS: usize = 10;

/// Pseudo-registry of a folder that was named directly. No parsed image name can hold it.
const DIRECT: &str = "oci:";

/// Folders that stand in for registries.
#[derive(Debug, Clone, Default)]
pub struct Layouts {
    /// Host or `host/prefix`, and its folder; the longest prefix first.
    roots: Vec<(String, PathBuf)>,
}

/// Where an image's layout is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LayoutFolder {
    /// No file outside this folder is read.
    root: PathBuf,
    folder: PathBuf,
}

impl Layouts {
    /// Maps each registry host, or `host/prefix`, to the folder that stands in for it. The rest of the repository's
    /// path is the path of the layout below the folder.
    pub fn new(folders: &BTreeMap<String, PathBuf>) -> Self {
        let mut roots: Vec<_> = folders
            .iter()
            .map(|(prefix, folder)| (prefix.trim_end_matches('/').to_string(), folder.clone()))
            .collect();
        roots.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { roots }
    }

    /// One layout that a person named on the command line, as `oci:PATH[:TAG]` with or without `oci:`, and the
    /// reference to ask it by. Image names in a pod never take this way.
    pub fn direct(target: &str) -> Result<(Self, Reference), Error> {
        let bare = target.strip_prefix(DIRECT).unwrap_or(target);
        // A colon in a folder's name does not start a tag: `oci:./a:b/c`.
        let (path, tag) = match bare.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag.to_string())),
            _ => (bare, None),
        };
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        if name.is_empty() || bare.contains('\0') {
            let message = "write `oci:PATH` or `oci:PATH:TAG`".to_string();
            return Err(image::Error::ParseReference { image: text::quoted(target, 200), message }.into());
        }
        let (registry, repository) = (format!("{DIRECT}{parent}"), name.to_string());
        let roots = vec![(format!("{registry}/{repository}"), PathBuf::from(path))];
        Ok((Self { roots }, Reference { registry, repository, tag, digest: None }))
    }

    /// Whether a folder stands in for the registry of an image.
    pub fn covers(&self, reference: &Reference) -> bool {
        self.place(reference).is_some()
    }

    fn place(&self, reference: &Reference) -> Option<LayoutFolder> {
        if self.roots.is_empty() {
            return None;
        }
        // A prefix of Docker Hub may leave `library/` out; where both spellings are below it, the whole one counts.
        let whole = format!("{}/{}", registry_name(&reference.registry), reference.repository);
        let others = spellings(&whole);
        let names = || std::iter::once(&whole).chain(&others);
        self.roots.iter().find_map(|(prefix, root)| {
            let below = |name: &String| {
                let rest = name.strip_prefix(prefix.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then(|| root.join(rest.trim_start_matches('/')))
            };
            names().find_map(below).map(|folder| LayoutFolder { root: root.clone(), folder })
        })
    }

    /// Reads on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        reference: &Reference,
        read: impl FnOnce(&ImageLayout) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let image = reference.to_string();
        let failed = |message: String| Error::ReadLayout { image, path: String::new(), message };
        let Some(place) = self.place(reference) else {
            return Err(failed("no folder stands in for its registry; name one in `layouts`".into()));
        };
        let layout = ImageLayout { place, reference: reference.clone() };
        let joined = tokio::task::spawn_blocking(move || read(&layout)).await;
        joined.unwrap_or_else(|error| Err(failed(format!("the reader stopped: {error}"))))
    }
}

impl Source for Layouts {
    type Error = Error;

    async fn manifest(&self, reference: &Reference, limit: u64) -> Result<FetchedManifest, Error> {
        self.blocking(reference, move |layout| layout.manifest(limit)).await
    }

    async fn blob(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        let (size, descriptor) = (descriptor.within(reference, limit)?, descriptor.clone());
        self.blocking(reference, move |layout| {
            let digest = &descriptor.digest;
            let read = layout.read_blob(digest, &format!("blob {digest}"), size)?;
            read.ok_or_else(|| descriptor.exceeded(&layout.reference).into())
        })
        .await
    }
}

/// What is wrong with a document, which may quote the whole of it.
fn excerpt(error: &serde_json::Error) -> String {
    text::excerpt(&error.to_string(), QUOTED_CHARS)
}

/// One image in one folder.
struct ImageLayout {
    place: LayoutFolder,
    reference: Reference,
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<LayoutEntry>,
}

#[derive(Deserialize)]
struct LayoutEntry {
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl ImageLayout {
    fn manifest(&self, limit: u64) -> Result<FetchedManifest, Error> {
        self.check_marker()?;
        let digest = match &self.reference.digest {
            Some(digest) => digest.clone(),
            None => self.choose(limit)?,
        };
        let what = "the manifest";
        let bytes = self.read_blob(&digest, what, limit)?.ok_or_else(|| self.too_large(what, limit))?;
        Ok(FetchedManifest { bytes, digest })
    }

    fn check_marker(&self) -> Result<(), Error> {
        let text = self.read(Path::new("oci-layout"), "`oci-layout`", LARGEST_MARKER)?;
        let marker: Marker = serde_json::from_slice(&text).map_err(|error| {
            self.failed(format!("its `oci-layout` file is not as the format says: {}", excerpt(&error)))
        })?;
        if marker.version.starts_with("1.") {
            return Ok(());
        }
        let version = text::quoted(&marker.version, 20);
        Err(self.failed(format!("its layout has version `{version}`; only 1.x is understood")))
    }

    /// Digest of the index entry that the tag names.
    fn choose(&self, limit: u64) -> Result<Digest, Error> {
        let text = self.read(Path::new("index.json"), "`index.json`", limit)?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| self.failed(format!("its `index.json` is not an index: {}", excerpt(&error))))?;
        let named: Vec<&LayoutEntry> =
            index.manifests.iter().filter(|entry| self.is_named_by(entry)).collect();
        match (named.as_slice(), index.manifests.as_slice()) {
            ([first, rest @ ..], _) if rest.iter().all(|entry| entry.digest == first.digest) => {
                Ok(first.digest.clone())
            }
            ([_, ..], _) => Err(self.failed("several entries of its `index.json` have this tag".into())),
            // Tools write no annotation unless told to. A single entry is unambiguous without one.
            ([], [only]) if !self.is_another_tag(only) => Ok(only.digest.clone()),
            ([], []) => Err(self.failed("its `index.json` lists no image".into())),
            ([], all) => Err(self.failed(self.no_such_tag(all))),
        }
    }

    fn is_named_by(&self, entry: &LayoutEntry) -> bool {
        let name = |key: &str| entry.annotations.get(key);
        let whole = |text: &String| {
            Reference::parse(text).is_ok_and(|parsed| parsed == self.reference)
                || *text == self.reference.to_string()
        };
        name(REF_NAME).is_some_and(|text| Some(text) == self.reference.tag.as_ref() || whole(text))
            || name(CONTAINERD_NAME).is_some_and(whole)
    }

    /// Whether the entry carries another tag than the requested one.
    fn is_another_tag(&self, entry: &LayoutEntry) -> bool {
        let is_tag = |name: &String| !name.contains(['/', ':']);
        self.reference.tag.is_some() && entry.annotations.get(REF_NAME).is_some_and(is_tag)
    }

    fn no_such_tag(&self, entries: &[LayoutEntry]) -> String {
        let names = |entry: &LayoutEntry| {
            let name = entry.annotations.get(REF_NAME).or_else(|| entry.annotations.get(CONTAINERD_NAME));
            name.map(|name| format!("`{}`", text::quoted(name, 100)))
        };
        // Sorted, because tools write them in any order.
        let tags: BTreeSet<String> = entries.iter().filter_map(names).collect();
        let tags: Vec<String> = tags.into_iter().take(LISTED_TAGS).collect();
        let tag = self.reference.tag.as_deref().unwrap_or("latest");
        if tags.is_empty() {
            return format!("it has {} images without tags; ask for one by digest", entries.len());
        }
        format!("it has no tag `{tag}`; it has {}", tags.join(", "))
    }

    /// A blob; `None` if it is larger than `limit`.
    fn read_blob(&self, digest: &Digest, what: &str, limit: u64) -> Result<Option<Bytes>, Error> {
        let path = Path::new("blobs").join(digest.algorithm().as_str()).join(digest.encoded());
        let Some(bytes) = self.read_within(&path, what, limit)? else { return Ok(None) };
        digest.verify(&bytes).map_err(|wrong| image::Error::Read {
            image: self.reference.to_string(),
            what: what.into(),
            message: format!("{wrong}; the layout is damaged"),
        })?;
        Ok(Some(bytes.into()))
    }

    /// A file; an error if it is larger than `limit`.
    fn read(&self, path: &Path, what: &str, limit: u64) -> Result<Vec<u8>, Error> {
        self.read_within(path, what, limit)?.ok_or_else(|| self.too_large(what, limit))
    }

    fn too_large(&self, what: &str, limit: u64) -> Error {
        image::Error::TooLarge { image: self.reference.to_string(), what: what.into(), limit, setting: "" }
            .into()
    }

    /// Reads a file below the folder; `None` if it is larger than `limit`. Refuses paths that lead out of the root, and
    /// anything that is not a regular file.
    fn read_within(&self, path: &Path, what: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let file = self.resolve(path)?;
        let failed = |error: std::io::Error| self.failed(format!("could not read {what}: {error}"));
        unless_too_large(files::read(&file, limit)).map_err(failed)
    }

    /// The real path of a file, which must be below the real root.
    fn resolve(&self, path: &Path) -> Result<PathBuf, Error> {
        let below = self.place.folder.strip_prefix(&self.place.root).unwrap_or(&self.place.folder);
        if !below.components().chain(path.components()).all(|part| matches!(part, Component::Normal(_))) {
            return Err(self.failed("its path leads out of the layouts' folder".into()));
        }
        let real = |path: &Path| {
            path.canonicalize().map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => self.failed(format!("`{}` is not there", path.display())),
                _ => self.failed(format!("could not follow `{}`: {error}", path.display())),
            })
        };
        let (root, file) = (real(&self.place.root)?, real(&self.place.folder.join(path))?);
        if file.starts_with(root) {
            Ok(file)
        } else {
            Err(self.failed(format!("`{}` is a link out of the layouts' folder", path.display())))
        }
    }

    fn failed(&self, message: String) -> Error {
        let path = self.place.folder.display().to_string();
        Error::ReadLayout { image: self.reference.to_string(), path, message }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    const LIMIT: u64 = 1 << 20;

    /// Writes a layout whose index has an entry for every (annotation, name, manifest).
    pub(crate) fn write(folder: &Path, entries: &[(&str, &str, &str)]) -> Vec<Digest> {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let mut manifests = Vec::new();
        let mut digests = Vec::new();
        for (key, name, body) in entries {
            let digest = Digest::of(body.as_bytes());
            fs::write(folder.join("blobs").join(digest.as_str().replace(':', "/")), body).unwrap();
            let mut entry = serde_json::json!({"mediaType": "x", "digest": digest, "size": body.len()});
            if !key.is_empty() {
                entry["annotations"] = serde_json::json!({*key: name});
            }
            manifests.push(entry);
            digests.push(digest);
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        digests
    }

    fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
        folder.join("blobs").join(digest.as_str().replace(':', "/"))
    }

    fn mapped(root: &Path) -> Layouts {
        Layouts::new(&BTreeMap::from([("samples.test".to_string(), root.to_path_buf())]))
    }

    #[test]
    fn every_spelling_of_an_image_of_docker_hub_is_below_its_folder() {
        let folder = |prefix: &str, image: &str| {
            let layouts = Layouts::new(&BTreeMap::from([(prefix.to_string(), PathBuf::from("/hub"))]));
            layouts.place(&Reference::parse(image).unwrap()).map(|place| place.folder)
        };
        let found = |path: &str| Some(PathBuf::from(path));
        for image in ["rel:1", "docker.io/rel:1", "index.docker.io/library/rel:1"] {
            assert_eq!(folder("docker.io", image), found("/hub/library/rel"), "{image}");
            assert_eq!(folder("docker.io/library", image), found("/hub/rel"), "{image}");
            assert_eq!(folder("docker.io/rel", image), found("/hub/"), "{image}");
            assert_eq!(folder("docker.io/other", image), None, "{image}");
        }
        assert_eq!(folder("docker.io", "registry-1.docker.io/library/rel:1"), found("/hub/library/rel"));
        assert_eq!(folder("docker.io", "ghcr.io/library/rel:1"), None);
    }

    async fn ask(layouts: &Layouts, image: &str) -> Result<FetchedManifest, String> {
        let reference = Reference::parse(image).unwrap();
        layouts.manifest(&reference, LIMIT).await.map_err(|error| error.to_string())
    }

    fn descriptor(digest: &Digest, size: u64) -> Descriptor {
        Descriptor { media_type: String::new(), digest: digest.clone(), size }
    }

    #[tokio::test]
    async fn a_tag_is_found_by_every_annotation_that_tools_write() {
        let root = tempfile::tempdir().unwrap();
        let digests = write(
            &root.path().join("app"),
            &[
                (REF_NAME, "v1", "one"),
                (REF_NAME, "samples.test/app:v2", "two"),
                (CONTAINERD_NAME, "samples.test/app:v3", "three"),
            ],
        );
        let layouts = mapped(root.path());
        for (tag, at) in [("v1", 0), ("v2", 1), ("v3", 2)] {
            let found = ask(&layouts, &format!("samples.test/app:{tag}")).await.unwrap();
            assert_eq!(found.digest, digests[at]);
        }
        let by_digest = ask(&layouts, &format!("samples.test/app:gone@{}", digests[2])).await.unwrap();
        assert_eq!(by_digest.bytes, "three");
    }

    #[tokio::test]
    async fn a_single_image_answers_to_every_tag_unless_it_has_one() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("team/app"), &[("", "", "only")]);
        assert_eq!(ask(&mapped(root.path()), "samples.test/team/app:any").await.unwrap().bytes, "only");
        write(&root.path().join("one"), &[(REF_NAME, "v1", "one")]);
        let (direct, untagged) = Layouts::direct(&root.path().join("one").display().to_string()).unwrap();
        assert_eq!(direct.manifest(&untagged, LIMIT).await.unwrap().bytes, "one");
        let message = ask(&mapped(root.path()), "samples.test/one:v2").await.unwrap_err();
        assert!(message.contains("it has no tag `v2`; it has `v1`"), "{message}");
    }

    #[tokio::test]
    async fn a_missing_tag_is_reported_with_the_existing_ones() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("app"), &[(REF_NAME, "v1", "one"), (REF_NAME, "v2", "two")]);
        let message = ask(&mapped(root.path()), "samples.test/app:v9").await.unwrap_err();
        assert!(message.contains("it has no tag `v9`; it has `v1`, `v2`"), "{message}");
    }

    #[tokio::test]
    async fn two_images_with_one_tag_are_an_error() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("app"), &[(REF_NAME, "v1", "one"), (REF_NAME, "v1", "two")]);
        let message = ask(&mapped(root.path()), "samples.test/app:v1").await.unwrap_err();
        assert!(message.contains("several entries"), "{message}");
    }

    #[tokio::test]
    async fn the_longest_prefix_names_the_folder() {
        let (all, team) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(&all.path().join("team/app"), &[("", "", "all")]);
        write(&team.path().join("app"), &[("", "", "team")]);
        let layouts = Layouts::new(&BTreeMap::from([
            ("samples.test".into(), all.path().into()),
            ("samples.test/team".into(), team.path().into()),
            ("one.test/exact".into(), team.path().join("app")),
        ]));
        assert_eq!(ask(&layouts, "samples.test/team/app").await.unwrap().bytes, "team");
        assert_eq!(ask(&layouts, "one.test/exact:1").await.unwrap().bytes, "team");
        for (image, covered) in
            [("samples.test/x", true), ("samples.tests/x", false), ("one.test/exactly", false)]
        {
            assert_eq!(layouts.covers(&Reference::parse(image).unwrap()), covered, "{image}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_named_directly_with_or_without_a_tag() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("My App");
        write(&folder, &[(REF_NAME, "v1", "one"), (REF_NAME, "v2", "two")]);
        let (layouts, reference) = Layouts::direct(&format!("oci:{}:v2", folder.display())).unwrap();
        assert_eq!(layouts.manifest(&reference, LIMIT).await.unwrap().bytes, "two");
        assert_eq!(reference.to_string(), format!("oci:{}:v2", folder.display()));
        let (layouts, reference) = Layouts::direct(&folder.display().to_string()).unwrap();
        assert!(layouts.manifest(&reference, LIMIT).await.unwrap_err().to_string().contains("`v1`, `v2`"));
        assert_eq!(Layouts::direct("oci:app:v1").unwrap().1.to_string(), "oci:./app:v1");
        for nothing in ["oci:", "", "oci:/", "a\0b"] {
            assert!(Layouts::direct(nothing).is_err(), "{nothing:?}");
        }
    }

    #[tokio::test]
    async fn links_and_paths_out_of_the_folder_are_refused() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(&outside.path().join("app"), &[("", "", "secret")]);
        std::os::unix::fs::symlink(outside.path().join("app"), root.path().join("app")).unwrap();
        let layouts = mapped(root.path());
        assert!(ask(&layouts, "samples.test/app").await.unwrap_err().contains("is a link out of"));
        let inside = root.path().join("inside");
        let digests = write(&inside, &[("", "", "public")]);
        let blob = blob_path(&inside, &digests[0]);
        fs::remove_file(&blob).unwrap();
        std::os::unix::fs::symlink(outside.path().join("app/index.json"), &blob).unwrap();
        assert!(ask(&layouts, "samples.test/inside").await.unwrap_err().contains("is a link out of"));
        let climbing = Reference {
            registry: "samples.test".into(),
            repository: "../up".into(),
            tag: None,
            digest: None,
        };
        let message = layouts.manifest(&climbing, LIMIT).await.unwrap_err().to_string();
        assert!(message.contains("leads out"), "{message}");
    }

    #[tokio::test]
    async fn damaged_and_oversized_files_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("app");
        let digests = write(&folder, &[("", "", "whole")]);
        let layouts = mapped(root.path());
        let reference = Reference::parse("samples.test/app").unwrap();
        let error = layouts.manifest(&reference, 4).await.unwrap_err();
        assert!(error.to_string().contains("larger than the limit of 4 bytes"), "{error}");
        let error = layouts.blob(&reference, &descriptor(&digests[0], 5), 4).await.unwrap_err();
        assert!(error.to_string().contains("larger than the limit of 4 bytes"), "{error}");
        let error = layouts.blob(&reference, &descriptor(&digests[0], 4), LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("more than the 4 bytes that its descriptor says"), "{error}");
        fs::write(blob_path(&folder, &digests[0]), "wrong").unwrap();
        assert!(ask(&layouts, "samples.test/app").await.unwrap_err().contains("the layout is damaged"));
        fs::write(folder.join("index.json"), "{").unwrap();
        assert!(ask(&layouts, "samples.test/app").await.unwrap_err().contains("is not an index"));
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"2.0"}"#).unwrap();
        assert!(ask(&layouts, "samples.test/app").await.unwrap_err().contains("only 1.x"));
        fs::remove_file(folder.join("oci-layout")).unwrap();
        assert!(ask(&layouts, "samples.test/app").await.unwrap_err().contains("is not there"));
        fs::create_dir(folder.join("oci-layout")).unwrap();
        assert!(ask(&layouts, "samples.test/app").await.unwrap_err().contains("it is not a regular file"));
    }
}
