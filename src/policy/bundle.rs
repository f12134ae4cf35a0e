//! What the files of a bundle say: the module, its data and its manifest. [`super::PolicySet::load`] checks the module
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::annotations::{EntryPointAnnotations, RuleAnnotations, RuleText};
use super::conflicts;
use super::memory::raise_minimum;
use super::references::DataKeys;
use super::roots::Roots;
use super::{Contents, Error, ExactDocument};
use crate::{rego, text};

/// The name of the bundle that is built in.
const BASELINE: &str = "baseline";

/// Keys of the input that a bundle does not read: those at the top, and those one level below as `request.uid`.
pub(super) type Omit = BTreeSet<String>;

/// What the rules of a bundle do not read of the input, and do not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread<'a> {
    /// What its manifest says.
    pub paths: &'a Omit,
    /// Whether its rules are those that are built in, of which it is known what they read of each container.
    pub is_built_in: bool,
}

/// What the input has that may be omitted: its keys, and those below `request`, `workload` and `runtime`, which are objects in every
/// input.
static KEYS: LazyLock<Omit> = LazyLock::new(|| {
    let schema: Schema =
        serde_json::from_str(include_str!("../../policies/schema/input.v1alpha1.json")).unwrap_or_default();
    let mut keys = schema.paths();
    keys.extend(schema.properties.into_keys());
    keys
});

/// Everything that the input has of which this does not hold.
pub(super) fn input_paths_without(is_read: impl Fn(&str) -> bool) -> Omit {
    KEYS.iter().filter(|path| !is_read(path)).cloned().collect()
}

/// The top-level keys of the input apart from one.
pub(super) fn input_keys_but(key: &str) -> Omit {
    KEYS.iter().filter(|other| !other.contains('.') && *other != key).cloned().collect()
}

/// The first key at the top of a document that no input has, and the key that may be meant.
pub fn unknown_input_key(
    document: &serde_json::Map<String, Value>,
) -> Option<(String, Option<&'static str>)> {
    let unknown = document.keys().find(|key| !KEYS.contains(*key))?;
    let known = KEYS.iter().filter(|key| !key.contains('.'));
    let near = known.map(|key| (strsim::jaro_winkler(unknown, key), key.as_str()));
    let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    Some((unknown.clone(), near.map(|(_, key)| key)))
}

/// The parts of a JSON schema that name them.
#[derive(Default, Deserialize)]
struct Schema {
    properties: BTreeMap<String, Value>,
    definitions: BTreeMap<String, Value>,
}

impl Schema {
    fn paths(&self) -> Omit {
        let parents = ["request", "runtime", "workload"].into_iter();
        let paths = parents.filter_map(|parent| {
            let reference = self.properties.get(parent)?.get("$ref")?.as_str()?;
            let definition = self.definitions.get(reference.strip_prefix("#/definitions/")?)?;
            let keys = definition.get("properties")?.as_object()?.keys();
            Some(keys.map(move |key| format!("{parent}.{key}")))
        });
        paths.flatten().collect()
    }
}

/// An OPA bundle: the compiled module, its data and its manifest.
#[derive(Clone)]
pub struct Bundle {
    /// Name for records and messages.
    pub name: String,
    /// `revision` of the manifest; empty when there is none.
    pub revision: String,
    /// Bytes of `policy.wasm`.
    pub(super) module: Arc<[u8]>,
    /// `data` of the rules, as a module reads it.
    pub(super) data: Arc<str>,
    /// How rules may find an item of `data`.
    pub(super) data_keys: DataKeys,
    /// Top-level keys of the input that no rule reads, so that the gate need not pass them.
    pub(super) omit: Arc<Omit>,
    /// The parts of `data` that are its own.
    pub(super) roots: Arc<Roots>,
    /// Place in the order of the bundles of this name; a later one has a higher number.
    pub sequence: Option<u64>,
    /// What METADATA says of its rules.
    pub(super) annotations: Arc<RuleAnnotations>,
    /// Documents that it is tried with.
    pub(super) cases: Arc<[TrialCase]>,
    /// Whether it runs in the shadow: what it finds is recorded and decides nothing.
    pub is_shadow: bool,
    /// Whether it is built in. Its rules quote what the gate found, such as hosts without their credentials, and no value as it is written.
    pub(super) is_built_in: bool,
    /// Whether it must have rules that judge. If not, it must have rules for the log alone.
    pub judges: bool,
    /// SHA-256 of its files apart from the signature, in hexadecimal.
    pub digest: Arc<str>,
    /// What is not as its author may think, as sentences: of its origin, and of its manifest.
    pub warnings: Vec<String>,
}

// The module is a few hundred kilobytes, which do not belong in a log.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("module_bytes", &self.module.len())
            .field("omit", &self.omit)
            .finish_non_exhaustive()
    }
}

/// The part of `.manifest` that is read (`open-policy-agent/opa:v1/bundle/manifest.schema.json`).
#[derive(Default, Deserialize)]
#[serde(default)]
struct BundleManifest {
    #[serde(deserialize_with = "or_default")]
    revision: String,
    /// All of `data` where it is left out.
    roots: Option<Vec<String>>,
    #[serde(deserialize_with = "or_default")]
    metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    wasm: Vec<WasmResolver>,
}

/// A value, or the default where it is `null`, as Go reads it.
fn or_default<'de, D, T>(read: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(read).map(Option::unwrap_or_default)
}

/// A number that counts versions.
fn whole_number<'de, D: Deserializer<'de>>(read: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(read)?;
    match value.as_u64() {
        None if !value.is_null() => {
            let shown = text::quoted(&value.to_string(), 40);
            Err(D::Error::custom(format!(
                "`sequence` is `{shown}`; write a whole number without quotes, such as 7"
            )))
        }
        number => Ok(number),
    }
}

/// What opa writes of an entry point.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WasmResolver {
    entrypoint: String,
    module: String,
    #[serde(deserialize_with = "or_default")]
    annotations: Vec<EntryPointAnnotations>,
}

/// The gate's part of `metadata`, which OPA leaves to users of bundles.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(deserialize_with = "or_default")]
    wasmgate: GateMetadata,
}

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "fields such as `name` and `sequence` in `metadata.wasmgate`"
)]
struct GateMetadata {
    /// The bundle that it is, for signed ones.
    name: Option<String>,
    omit: Omit,
    #[serde(deserialize_with = "whole_number")]
    sequence: Option<u64>,
    cases: Vec<TrialCase>,
    /// What METADATA says of each rule.
    rules: BTreeMap<String, RuleText>,
}

/// A document that a bundle is tried with before it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrialCase {
    /// Its name in messages.
    pub name: String,
    /// The document, as rules read it.
    pub input: ExactDocument,
    /// The names of the rules that it breaks; of all rules of the bundle.
    pub rules: BTreeSet<String>,
}

/// Most cases of a bundle: they are run whenever it is loaded.
const MAX_CASES: usize = 64;
/// Longest revision, in bytes: records, metrics and probes repeat it.
const MAX_REVISION: usize = 1024;

impl Bundle {
    /// The baseline rules, embedded in the gate. Their sources are in `policies/wasmgate`.
    pub fn embedded() -> Result<Self, Error> {
        let files: [(&str, &[u8]); 3] = [
            ("policy.wasm", include_bytes!("../../policies/baseline/policy.wasm")),
            ("data.json", include_bytes!("../../policies/baseline/data.json")),
            (".manifest", include_bytes!("../../policies/baseline/.manifest")),
        ];
        Ok(Self { is_built_in: true, ..Self::of(BASELINE, &files.into_iter().collect())? })
    }

    /// What its rules do not get of the input.
    pub(super) fn unread(&self) -> Unread<'_> {
        Unread { paths: &self.omit, is_built_in: self.is_built_in }
    }

    /// Reads a bundle from a file or directory; its name without `.tar.gz` becomes the bundle's name. Blocks on the disk.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let name = name_of(path);
        Self::of(&name, &Contents::load(&name, path)?)
    }

    /// Reads an archive of `opa build`.
    pub fn from_tar_gz(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        Self::of(name, &Contents::from_tar_gz(name, bytes)?)
    }

    /// The bundle of these files.
    pub fn of(name: &str, files: &Contents) -> Result<Self, Error> {
        let module = module_of(name, files)?;
        let BundleManifest { revision, roots, metadata, wasm } = manifest(name, files)?;
        let data = files.file("data.json").ok_or_else(|| Error::FindData { bundle: name.into() })?;
        let data = data_of(data).map_err(|reason| Error::ParseFile {
            bundle: name.into(),
            file: "data.json",
            reason: text::excerpt(&reason, 200),
        })?;
        check_resolvers(name, &wasm)?;
        let roots = Roots::of(roots.as_deref()).map_err(|reason| wrong_manifest(name, reason))?;
        roots.check_files(name, wasm.iter().map(|one| one.entrypoint.as_str()), &data, files)?;
        conflicts::check(name, &module, &data)?;
        check_metadata(name, &revision, &metadata.wasmgate)?;
        let GateMetadata { name: _, omit, sequence, cases, rules } = metadata.wasmgate;
        let at_entry_point = match wasm.as_slice() {
            [only] => only.annotations.as_slice(),
            _ => &[],
        };
        let annotations = RuleAnnotations::of(rules, files, at_entry_point);
        Ok(Self {
            name: name.into(),
            revision,
            module: module.into(),
            data: data.to_module_text().into(),
            data_keys: DataKeys::of(&data),
            omit: Arc::new(omit),
            roots: Arc::new(roots),
            sequence,
            annotations: annotations.into(),
            cases: cases.into(),
            is_shadow: false,
            is_built_in: false,
            judges: true,
            digest: files.digest().into(),
            warnings: Vec::new(),
        })
    }
}

/// The module, with as much memory as it needs.
fn module_of(bundle: &str, files: &Contents) -> Result<Vec<u8>, Error> {
    let module = files.file("policy.wasm").ok_or_else(|| Error::FindModule { bundle: bundle.into() })?;
    if !module.starts_with(b"\0asm") {
        let reason = "it does not start with the magic number of Wasm".into();
        return Err(Error::CompileModule { bundle: bundle.into(), reason });
    }
    let mut module = module.to_vec();
    raise_minimum(&mut module);
    Ok(module)
}

/// Refuses a manifest that has an entry point in another module: OPA refuses it too, and would otherwise ask that one.
fn check_resolvers(bundle: &str, resolvers: &[WasmResolver]) -> Result<(), Error> {
    let named = resolvers.iter().map(|resolver| resolver.module.as_str());
    let mut others = named.filter(|module| !["", "policy.wasm"].contains(&module.trim_start_matches('/')));
    others.next().map_or(Ok(()), |module| {
        let module = text::quoted(module, 100);
        let reason = format!(
            "`wasm` has an entry point in the module `{module}`, and a bundle has `/policy.wasm` alone; build all entry points into one \
             module with `opa build -t wasm`, and name that"
        );
        Err(wrong_manifest(bundle, reason))
    })
}

/// Refuses what a manifest must not say, although it can be read.
fn check_metadata(bundle: &str, revision: &str, metadata: &GateMetadata) -> Result<(), Error> {
    let refuse = |reason| Err(wrong_manifest(bundle, reason));
    if revision.len() > MAX_REVISION {
        return refuse(format!("`revision` has more than {MAX_REVISION} bytes"));
    }
    if metadata.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        return refuse(
            "`metadata.wasmgate.name` is empty; write the name of the bundle, or leave it out".into(),
        );
    }
    if let Some(unknown) = metadata.omit.difference(&KEYS).next() {
        let unknown = text::excerpt(unknown, 40);
        let known = KEYS
            .iter()
            .filter(|key| !key.contains('.'))
            .map(|key| format!("`{key}`"))
            .collect::<Vec<_>>()
            .join(", ");
        return refuse(format!(
            "`metadata.wasmgate.omit` has `{unknown}`, and the input has {known} alone, and keys below `request`, `runtime` and \
             `workload`, such as `request.uid`"
        ));
    }
    if metadata.cases.len() > MAX_CASES {
        return refuse(format!("`metadata.wasmgate.cases` has more than {MAX_CASES} cases"));
    }
    Ok(())
}

fn wrong_manifest(bundle: &str, reason: String) -> Error {
    Error::ParseFile { bundle: bundle.into(), file: ".manifest", reason }
}

fn parse<'a, T: Deserialize<'a>>(bundle: &str, file: &'static str, bytes: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::ParseFile {
        bundle: bundle.into(),
        file,
        // It may repeat what the file says.
        reason: text::excerpt(&error.to_string(), 200),
    })
}

/// `data.json` with the text of each number, as OPA keeps it: a float would be another number.
fn data_of(bytes: &[u8]) -> Result<rego::Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let data = rego::read_json(text)?;
    if !matches!(data, rego::Value::Object(_)) {
        return Err("expected an object".into());
    }
    Ok(data)
}

fn manifest(bundle: &str, files: &Contents) -> Result<BundleManifest, Error> {
    let bytes = files.file(".manifest").unwrap_or(b"{}");
    // A list would be taken for the fields in their order.
    let object: serde_json::Map<String, Value> = parse(bundle, ".manifest", bytes)?;
    drop(object);
    parse(bundle, ".manifest", bytes)
}

/// The name that a bundle gives itself; `bundle` is the one that it has here.
pub fn own_name(bundle: &str, files: &Contents) -> Result<Option<String>, Error> {
    Ok(manifest(bundle, files)?.metadata.wasmgate.name)
}

/// The name of the bundle at a path: that of the file or folder, without the ending of an archive.
pub fn name_of(path: &Path) -> String {
    // `.` and `..` have no file name.
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name
        .or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| path.display().to_string());
    without_ending(&name).to_string()
}

/// The name of an archive without its ending.
pub fn without_ending(name: &str) -> &str {
    name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".tgz")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_says_to_the_gate_in_a_wrong_way_is_refused_with_what_to_write() {
        let said = |wasmgate: &str| {
            let text = format!("{{\"metadata\": {{\"wasmgate\": {wasmgate}}}}}");
            let files: Contents = [(".manifest", text.as_bytes())].into_iter().collect();
            let metadata = manifest("a", &files)?.metadata.wasmgate;
            check_metadata("a", "", &metadata).map(|()| metadata.sequence)
        };
        assert_eq!(said(r#"{"sequence": 7, "name": "a"}"#).unwrap(), Some(7));
        assert_eq!(said(r#"{"sequence": null}"#).unwrap(), None);
        for (wrong, cure) in [
            (r#"{"sequence": "7"}"#, "write a whole number without quotes, such as 7"),
            (r#"{"sequence": 1.5}"#, "`sequence` is `1.5`"),
            (r#"{"sequence": -1}"#, "`sequence` is `-1`"),
            (r#"{"name": " "}"#, "write the name of the bundle, or leave it out"),
            ("3", "expected fields such as `name` and `sequence`"),
        ] {
            let error = text::chain(&said(wrong).unwrap_err());
            assert!(error.contains(cure), "{error}");
        }
    }

    #[test]
    fn numbers_of_the_data_keep_their_text_and_of_equal_keys_the_last_counts() {
        let data = |text: &str| data_of(text.as_bytes()).map(|data| data.to_module_text());
        let exact = r#"{"big":123456789012345678901234567890,"list":[1.50,1e3,1.0]}"#;
        assert_eq!(data(exact).as_deref(), Ok(exact));
        assert_eq!(data(r#"{"a": 1, "a": 2}"#).as_deref(), Ok(r#"{"a":2}"#));
        assert!(data("[1]").is_err() && data("{").is_err() && data_of(b"{\"a\":\"\xff\"}").is_err());
    }
}
