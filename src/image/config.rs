//! The image config: platform, entry point, working directory, names of variables (OCI image-spec `config.md`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::malformed::{Malformed, Rest, no_lookalikes, short};
use super::spin::LOCKED_APP_LABEL;
use super::{Claim, Digest, ModuleFacts, WasmFormat, json, platform};

/// The fields of an image config that detection needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Operating system as written.
    pub os: String,
    /// Architecture as written; runwasi searches for Wasm layers only if it is exactly `wasm`.
    pub architecture: String,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Cmd.
    pub cmd: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// Names of the variables in Env. No value is kept but that of `PATH`.
    pub env: Vec<String>,
    /// The value of `PATH` in Env; the last one, if there are several.
    pub search_path: Option<String>,
    /// Paths in `Volumes`, where a node mounts a copy of what the image has there.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `rootfs`: what the layers unpack to.
    pub rootfs: RootFs,
    /// What the config of a Wasm artifact states about its layer; unverified.
    pub claimed: Claimed,
}

/// What a config states about the layers of its root file system (OCI image-spec `config.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootFs {
    /// `type`; nodes accept `layers` or nothing.
    pub kind: String,
    /// `diff_ids`: digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
}

impl RootFs {
    /// Nodes identify an unpacked layer by these digests. If they have one already, they use it instead of unpacking
    /// the layer that the manifest names (`containerd:core/unpack/unpacker.go`). So both must belong to the same image.
    pub fn check(&self, layers: usize) -> Result<(), Malformed> {
        if !matches!(self.kind.as_str(), "" | "layers") {
            return Err(Malformed::new(format!(
                "its `rootfs.type` is `{}`, and nodes unpack `layers` only; build the image again",
                short(&self.kind)
            )));
        }
        if self.diff_ids.len() != layers {
            return Err(Malformed::new(format!(
                "its `rootfs.diff_ids` name {} layers, and the manifest has {layers}; build the image again",
                self.diff_ids.len()
            )));
        }
        Ok(())
    }

    /// Checks the digest of an unpacked layer.
    pub fn check_layer(&self, number: usize, unpacked: &str) -> Result<(), Malformed> {
        match self.diff_ids.get(number) {
            Some(said) if said == unpacked => Ok(()),
            said => Err(Malformed::new(format!(
                "it unpacks to `{unpacked}`, where the config's `rootfs.diff_ids` say `{}`, so a node would run another \
                 layer or none; build the image again",
                short(said.map_or("nothing", String::as_str))
            ))),
        }
    }
}

/// Fields of a Wasm artifact's config that the client computed when pushing (`oci-wasm:src/config.rs`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// `layerDigests`.
    pub layer_digests: Option<Vec<String>>,
    /// `component.imports`.
    pub imports: Option<BTreeSet<String>>,
    /// `component.exports`.
    pub exports: Option<BTreeSet<String>>,
}

impl Config {
    /// `os/architecture` in lower case; empty when it states neither.
    pub fn platform(&self) -> String {
        platform::named(&self.os, &self.architecture)
    }

    /// Refuses a label that containerd reads of its containers. It was copied from images to their containers until 2026-06-10
    /// (`containerd:internal/cri/util/util.go`, `BuildLabels`), and `restart.loguri` among them names a program of the node, which
    /// the shim of runc, crun and youki starts outside of the container when that ends
    /// (`containerd:plugins/restart/change.go`, `…/cmd/containerd-shim-runc-v2/process/io.go`).
    pub fn check_labels(&self) -> Result<(), Malformed> {
        let is_reserved = |label: &&String| RESERVED_LABELS.iter().any(|start| label.starts_with(start));
        match self.labels.keys().find(is_reserved) {
            Some(label) => Err(Malformed::new(format!(
                "its label `{}` is containerd's own, by which a node may start a program of its own outside of the container; build \
                 the image without it",
                short(label)
            ))),
            None => Ok(()),
        }
    }

    /// Whether it is the config of an image with this Wasm layer, and of none with another one. Nodes know an image by the digest
    /// of its config (`containerd:internal/cri/store/image/image.go`, `getImage`), and a shim takes the Wasm layers of whichever
    /// manifest with this config the node has under the first name. So the tools write the layer's digest into it, each in a place
    /// of its own. All that is in these places must be of this layer; what stands elsewhere says nothing.
    pub fn is_of_layer(&self, layer: &Digest) -> bool {
        let digest = layer.as_str();
        let hashed = Digest::of(layer.encoded().as_bytes());
        let written = self.claimed.layer_digests.iter().chain([&self.rootfs.diff_ids]).flatten();
        let of_spin = self.labels.get(LOCKED_APP_LABEL);
        // Only what is a digest can be another layer's.
        let plain = written.chain(of_spin).filter(|text| text.parse::<Digest>().is_ok());
        let of_runwasi = self.labels.get(LAYERS_LABEL);
        let named = plain.map(|named| named == digest);
        let hashes = of_runwasi.map(|named| named == digest || named == hashed.encoded());
        let mut places = named.chain(hashes).peekable();
        places.peek().is_some() && places.all(|is_this| is_this)
    }

    /// The false statements of a Wasm artifact's config about its module. None for a WIT package, whose exports are
    /// types: nothing can start it.
    pub fn claims(&self, module: &ModuleFacts, layer: &str) -> Vec<Claim> {
        if module.code_bytes == 0 && module.format == WasmFormat::Component {
            return Vec::new();
        }
        let found = match module.format {
            WasmFormat::Module => ["wasip1"].as_slice(),
            WasmFormat::Component => &["wasip2", "wasip3"],
        };
        let os = self.os.to_lowercase();
        let wrong_os = matches!(os.as_str(), "wasip1" | "wasip2" | "wasip3") && !found.contains(&os.as_str());
        let named = found.first().copied().unwrap_or_default();
        let digests = self.claimed.layer_digests.as_ref();
        let wrong_digest = digests.filter(|digests| digests.as_slice() != [layer]);
        let imports = module.imports.iter().map(|import| import.interface.as_str()).collect();
        let exports = module.exports.iter().map(String::as_str).collect();
        [
            wrong_os.then(|| claim("os", &self.os, named)),
            wrong_digest.map(|digests| claim("layerDigests", &digests.join(", "), layer)),
            self.claimed.imports.as_ref().and_then(|said| difference("component.imports", said, &imports)),
            self.claimed.exports.as_ref().and_then(|said| difference("component.exports", said, &exports)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn claim(field: &str, claimed: &str, found: &str) -> Claim {
    Claim { field: field.into(), claimed: short(claimed), found: short(found) }
}

/// Names that only one of the two has.
fn difference(field: &str, said: &BTreeSet<String>, real: &BTreeSet<&str>) -> Option<Claim> {
    let only_said: Vec<&str> = said.iter().map(String::as_str).filter(|name| !real.contains(name)).collect();
    let only_real: Vec<&str> = real.iter().copied().filter(|name| !said.contains(*name)).collect();
    let same = only_said.is_empty() && only_real.is_empty();
    (!same).then(|| claim(field, &only_said.join(", "), &only_real.join(", ")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outer {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    config: Option<Inner>,
    #[serde(default)]
    rootfs: Option<RawRootFs>,
    // Read leniently: these fields are never a reason to refuse an image.
    #[serde(default)]
    layer_digests: Value,
    #[serde(default)]
    component: Value,
    #[serde(flatten)]
    rest: Rest,
}

fn texts<T: FromIterator<String>>(value: &Value) -> Option<T> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).map(String::from).collect())
}

#[derive(Default, Deserialize)]
struct RawRootFs {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Rest,
}

/// What `Volumes` says of a path (`image-spec:specs-go/v1/config.go`, `struct{}`).
#[derive(Deserialize)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, Option<Nothing>>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<String>>>,
    #[serde(flatten)]
    rest: Rest,
}

/// The label of oci-tar-builder: the SHA-256 of the digits of the digests of all layers, one after the other
/// (`runwasi:crates/oci-tar-builder/src/bin.rs`). wkg writes `layerDigests` (`oci-wasm:src/config.rs`), Spin a label of its own
/// (`spin:crates/oci/src/client.rs`), and others `rootfs.diff_ids`.
const LAYERS_LABEL: &str = "containerd.runwasi.layers";

/// How labels begin that are containerd's own (`containerd:pkg/labels/labels.go`).
const RESERVED_LABELS: [&str; 2] = ["containerd.io/", "io.cri-containerd"];

/// Most variables of an image: each is judged for every container that starts the image. Images have a few dozen.
const MAX_VARIABLES: usize = 4096;

/// Reads an image config, or the config of a Wasm artifact, which shares only the platform with it.
pub fn parse(bytes: &[u8]) -> Result<Config, Malformed> {
    let outer: Outer = json::read(bytes)?;
    no_lookalikes(&outer.rest, &["os", "architecture", "config", "rootfs"])?;
    let rootfs = outer.rootfs.unwrap_or_default();
    no_lookalikes(&rootfs.rest, &["type", "diff_ids"])?;
    let inner = outer.config.unwrap_or_default();
    no_lookalikes(&inner.rest, &["Entrypoint", "Cmd", "WorkingDir", "Env", "Volumes", "Labels"])?;
    if inner.env.as_ref().is_some_and(|env| env.len() > MAX_VARIABLES) {
        return Err(Malformed::new(format!(
            "the Env has more than {MAX_VARIABLES} variables; leave some out"
        )));
    }
    refuse_nul(&inner)?;
    if inner.env.iter().flatten().any(|variable| variable == "PATH") {
        return Err(Malformed::new(
            "the Env has a `PATH` without a value, which unsets it on a node; leave it out",
        ));
    }
    Ok(Config {
        os: outer.os.unwrap_or_default(),
        architecture: outer.architecture.unwrap_or_default(),
        entrypoint: entrypoint(inner.entrypoint.unwrap_or_default()),
        cmd: inner.cmd.unwrap_or_default(),
        working_dir: inner.working_dir.unwrap_or_default(),
        search_path: search_path(inner.env.as_deref().unwrap_or_default()),
        env: inner.env.unwrap_or_default().iter().map(|variable| name(variable)).collect(),
        volumes: inner.volumes.unwrap_or_default().into_keys().collect(),
        labels: inner
            .labels
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect(),
        rootfs: RootFs {
            kind: rootfs.kind.unwrap_or_default(),
            diff_ids: rootfs.diff_ids.unwrap_or_default(),
        },
        claimed: Claimed {
            layer_digests: texts(&outer.layer_digests),
            imports: outer.component.get("imports").and_then(texts),
            exports: outer.component.get("exports").and_then(texts),
        },
    })
}

/// Runtimes in C read a text up to a NUL, and so another name, folder or variable than the gate.
fn refuse_nul(inner: &Inner) -> Result<(), Malformed> {
    let lists = [&inner.entrypoint, &inner.cmd, &inner.env].into_iter().flatten().flatten();
    let mut texts = lists.chain(&inner.working_dir).chain(inner.volumes.iter().flat_map(BTreeMap::keys));
    if texts.any(|text| text.contains('\0')) {
        return Err(Malformed::new(
            "its Entrypoint, Cmd, Env, WorkingDir or Volumes have a NUL, up to which some runtimes read them; leave it out",
        ));
    }
    Ok(())
}

/// An Entrypoint of one empty string, as `ENTRYPOINT [""]` leaves it, counts as none: `Cmd` and the pod's `args` name the
/// program then (`containerd:internal/cri/opts/spec_opts.go`, `WithProcessArgs`).
fn entrypoint(words: Vec<String>) -> Vec<String> {
    if words == [""] { Vec::new() } else { words }
}

fn search_path(env: &[String]) -> Option<String> {
    env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).map(String::from)
}

fn name(variable: &str) -> String {
    variable.split_once('=').map_or(variable, |(name, _)| name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_no_more_variables_than_are_judged() {
        let with = |count: usize| {
            let env: Vec<String> = (0..count).map(|number| format!("\"V{number}=x\"")).collect();
            parse(format!(r#"{{"config":{{"Env":[{}]}}}}"#, env.join(",")).as_bytes())
        };
        assert_eq!(with(4096).unwrap().env.len(), 4096);
        assert!(with(4097).unwrap_err().0.contains("more than 4096 variables"));
    }

    #[test]
    fn a_text_that_a_runtime_in_c_reads_in_part_is_refused() {
        let with = |field: &str| parse(format!(r#"{{"config":{{{field}}}}}"#).as_bytes());
        for field in [
            r#""Entrypoint":["/evil\u0000x"]"#,
            r#""Cmd":["a","/evil\u0000x"]"#,
            r#""Env":["A=b","PATH=/evil\u0000:/good"]"#,
            r#""WorkingDir":"/evil\u0000/../good""#,
            r#""Volumes":{"/evil\u0000x":{}}"#,
        ] {
            let error = with(field).unwrap_err();
            assert!(error.0.contains("have a NUL"), "{field}: {error}");
            assert!(with(&field.replace(r"\u0000", "")).is_ok(), "{field}");
        }
    }

    #[test]
    fn a_label_of_containerd_is_refused_and_those_of_others_are_not() {
        let checked = |label: &str| {
            let json = format!(r#"{{"config":{{"Labels":{{"a":"b","{label}":null}}}}}}"#);
            parse(json.as_bytes()).unwrap().check_labels()
        };
        for label in
            ["containerd.io/restart.loguri", "containerd.io/restart.status", "io.cri-containerd.kind"]
        {
            let error = checked(label).unwrap_err();
            assert!(error.0.contains(&format!("label `{label}` is containerd's own")), "{error}");
        }
        for label in
            ["containerd.runwasi.layers", "io.containerd.image.name", "org.opencontainers.image.title"]
        {
            assert_eq!(checked(label), Ok(()), "{label}");
        }
    }

    #[test]
    fn nulls_count_as_absent_and_values_of_variables_are_dropped() {
        let config = parse(
            br#"{"os":"linux","architecture":"amd64","config":{"Entrypoint":null,"Cmd":["/a"],"Env":["A=secret","B"],
                "Labels":{"x":null},"User":"65534"},"rootfs":{"type":"layers"},"history":null}"#,
        )
        .unwrap();
        assert_eq!(config.platform(), "linux/amd64");
        assert_eq!((config.entrypoint.len(), config.cmd.as_slice()), (0, ["/a".to_string()].as_slice()));
        assert_eq!(config.env, ["A", "B"]);
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(parse(b"{}").unwrap(), Config::default());
        assert_eq!(parse(br#"{"config":null,"os":null}"#).unwrap().platform(), "");
    }

    #[test]
    fn volumes_are_read_as_a_node_reads_them() {
        let volumes = |json: &str| {
            parse(format!(r#"{{"config":{{"Volumes":{json}}}}}"#).as_bytes()).map(|config| config.volumes)
        };
        assert_eq!(volumes(r#"{"/b":{},"/a":null,"c":{"x":1}}"#).unwrap(), ["/a", "/b", "c"]);
        assert!(volumes("null").unwrap().is_empty());
        assert!(volumes(r#"["/a"]"#).is_err() && volumes(r#"{"/a":1}"#).is_err());
        assert!(parse(br#"{"config":{"volumes":{"/a":{}}}}"#).is_err(), "Go reads it too");
    }

    #[test]
    fn an_entry_point_of_one_empty_string_is_none_and_a_path_without_a_value_is_refused() {
        let entrypoint = |json: &str| {
            parse(format!(r#"{{"config":{{"Entrypoint":{json},"Cmd":["/a"]}}}}"#).as_bytes())
                .unwrap()
                .entrypoint
        };
        assert!(entrypoint(r#"[""]"#).is_empty());
        assert_eq!(entrypoint(r#"["",""]"#), ["", ""]);
        assert_eq!(entrypoint(r#"["","/b"]"#), ["", "/b"]);
        let unset = parse(br#"{"config":{"Env":["PATH=/a","PATH"]}}"#).unwrap_err();
        assert!(unset.0.contains("without a value"), "{}", unset.0);
    }

    #[test]
    fn a_config_is_of_the_layer_that_it_names_as_the_tools_do() {
        let (layer, other) = (Digest::of(b"a module"), Digest::of(b"another"));
        let hashed = Digest::of(layer.encoded().as_bytes()).encoded().to_string();
        let is_of = |config: &str, layer: &Digest| parse(config.as_bytes()).unwrap().is_of_layer(layer);
        for config in [
            format!(r#"{{"layerDigests":["{layer}"]}}"#),
            format!(r#"{{"layerDigests":["{layer}"],"rootfs":{{"diff_ids":["{layer}"]}}}}"#),
            format!(r#"{{"config":{{"Labels":{{"containerd.runwasi.layers":"{hashed}"}}}}}}"#),
            format!(
                r#"{{"config":{{"Labels":{{"com.fermyon.spin.lockedAppDigest":"{layer}","a":"{other}"}}}}}}"#
            ),
            format!(r#"{{"rootfs":{{"diff_ids":["{layer}"]}}}}"#),
        ] {
            assert!(is_of(&config, &layer) && !is_of(&config, &other), "{config}");
        }
        assert!(!is_of(r#"{"architecture":"wasm","config":{"Entrypoint":["app.wasm"]}}"#, &layer));
    }

    /// Else both manifests of the two layers would be judged, and a node has one image for them.
    #[test]
    fn a_config_that_names_two_layers_or_one_in_free_text_is_of_neither() {
        let (layer, other) = (Digest::of(b"a module"), Digest::of(b"another"));
        let hashed = Digest::of(other.encoded().as_bytes()).encoded().to_string();
        for config in [
            format!(r#"{{"config":{{"Labels":{{"a":"{layer}","b":"{other}"}}}}}}"#),
            format!(r#"{{"history":[{{"comment":"{layer}"}}],"author":"{other}"}}"#),
            format!(r#"{{"layerDigests":["{layer}","{other}"]}}"#),
            format!(r#"{{"layerDigests":["{layer}"],"rootfs":{{"diff_ids":["{other}"]}}}}"#),
            format!(r#"{{"rootfs":{{"diff_ids":["{layer}","{other}"]}}}}"#),
            format!(
                r#"{{"layerDigests":["{layer}"],"config":{{"Labels":{{"containerd.runwasi.layers":"{hashed}"}}}}}}"#
            ),
            format!(
                r#"{{"rootfs":{{"diff_ids":["{layer}"]}},"config":{{"Labels":{{"com.fermyon.spin.lockedAppDigest":"{other}"}}}}}}"#
            ),
        ] {
            let config = parse(config.as_bytes()).unwrap();
            assert!(!config.is_of_layer(&layer) && !config.is_of_layer(&other), "{config:?}");
        }
    }

    #[test]
    fn a_key_that_only_containerd_would_read_is_refused() {
        for bytes in [
            br#"{"os":"linux","Os":"wasip1"}"#.as_slice(),
            br#"{"config":{"entrypoint":["/evil.wasm"]}}"#,
            br#"{"Config":{"Entrypoint":["/evil.wasm"]}}"#,
        ] {
            assert!(parse(bytes).unwrap_err().0.contains("letter case"));
        }
        assert!(parse(br#"{"config":{"Cmd":"/a"}}"#).is_err());
    }
}
