//! What in the documents of an image suggests Wasm: also in those that are refused, since a node may read them all the same.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::annotation::{CRUN_ANNOTATIONS, means_wasm};
use super::descriptor::Descriptor;
use super::entry::needs_layers;
use super::malformed::fold;
use super::manifest::{HOST_PLATFORMS, ImageManifest};
use super::platform::{self, is_wasm};

/// Whether a media type of a manifest names Wasm or Spin: that of its config or of a layer, or the type of the artifact.
pub fn has_wasm_type(manifest: &ImageManifest) -> bool {
    let layers = manifest.layers.iter().map(|layer| layer.media_type.as_str());
    let own = [manifest.artifact_type.as_str(), manifest.config.media_type.as_str()];
    own.into_iter().chain(layers).any(names_wasm)
}

fn names_wasm(media_type: &str) -> bool {
    media_type.contains("wasm") || media_type.contains("spin")
}

/// What a document suggests, whether or not the gate takes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Whether it suggests Wasm.
    pub is_wasm: bool,
    /// What a node reads after it.
    pub next: Option<Next>,
}

/// What a node reads after a document.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The config of a manifest.
    Config(Descriptor),
    /// The manifest of an index.
    Manifest(Descriptor),
}

/// Reads what suggests Wasm in a manifest, an index or a config, by the names of its fields in any letter case, as Go reads them.
/// Holds no more of it than a few texts. What is no JSON suggests nothing, and no node reads it either.
pub fn read(bytes: &[u8]) -> Hints {
    // Go takes any text and any half of a pair of surrogates. What becomes of either matters to no field.
    let text = String::from_utf8_lossy(bytes).replace(r"\ud", r"\ue").replace(r"\uD", r"\ue");
    let mut json = serde_json::Deserializer::from_str(&text);
    let said = Reader { levels: LEVELS }.deserialize(&mut json);
    let said = said.and_then(|said| json.end().map(|()| said)).unwrap_or_default();
    let is_wasm = said.is_wasm || is_wasm(&platform::named(&said.os, &said.architecture));
    match said.entry {
        Some((rank, descriptor)) => {
            Hints { is_wasm: is_wasm || rank == OF_WASM, next: Some(Next::Manifest(descriptor)) }
        }
        None => Hints { is_wasm, next: said.config.map(Next::Config) },
    }
}

/// The rank of an entry of an index whose platform is Wasm: it is taken where the index has nothing for Linux
/// ([`super::manifest::choose`]).
const OF_WASM: usize = HOST_PLATFORMS.len() + 2;

/// How late an entry of an index is taken; `None` if it never is.
fn rank(platform: &str) -> Option<usize> {
    let host = HOST_PLATFORMS.iter().position(|host| *host == platform);
    match platform {
        "" => Some(HOST_PLATFORMS.len() + 1),
        linux if linux.starts_with("linux/") => Some(host.unwrap_or(HOST_PLATFORMS.len())),
        other => is_wasm(other).then_some(OF_WASM),
    }
}

/// What a value of a document says.
#[derive(Default)]
struct Said {
    /// Whether a field in it suggests Wasm, but for those of the platform.
    is_wasm: bool,
    /// The text that it is, or the first one of a list.
    text: String,
    /// The number that it is.
    number: u64,
    digest: String,
    size: u64,
    os: String,
    architecture: String,
    /// The first words of its `Entrypoint` and its `Cmd`.
    entrypoint: String,
    cmd: String,
    /// Its `config`, if that is a descriptor.
    config: Option<Descriptor>,
    /// The entry of its list that a node takes, with its rank.
    entry: Option<(usize, Descriptor)>,
}

impl Said {
    /// The blob that it describes, if it is a descriptor.
    fn descriptor(&self) -> Option<Descriptor> {
        let digest = self.digest.parse().ok()?;
        Some(Descriptor { media_type: String::new(), digest, size: self.size })
    }

    /// Takes a value of a list.
    fn add(&mut self, value: &Self, is_first: bool) {
        self.is_wasm |= value.is_wasm;
        if is_first {
            self.text.clone_from(&value.text);
        }
        let Some(rank) = rank(&platform::named(&value.os, &value.architecture)) else { return };
        if self.entry.as_ref().is_none_or(|(best, _)| rank < *best)
            && let Some(descriptor) = value.descriptor()
        {
            self.entry = Some((rank, descriptor));
        }
    }

    /// Takes the value of a field.
    fn set(&mut self, field: &str, value: Self) {
        match field {
            "mediatype" | "artifacttype" => self.is_wasm |= names_wasm(&value.text),
            "digest" => self.digest = value.text,
            "size" => self.size = value.number,
            "os" => self.os = value.text,
            "architecture" => self.architecture = value.text,
            "platform" => (self.os, self.architecture) = (value.os, value.architecture),
            "entrypoint" => self.entrypoint = value.text,
            "cmd" => self.cmd = value.text,
            "config" => {
                self.is_wasm |= value.is_wasm;
                self.config = value.descriptor();
            }
            "layers" | "annotations" => self.is_wasm |= value.is_wasm,
            // What another platform is says nothing of the one that a node takes.
            "manifests" => self.entry = value.entry,
            _ => self.is_wasm |= means_wasm(&value.text),
        }
    }

    /// The same with what its entry point suggests.
    fn ended(mut self) -> Self {
        let first = if self.entrypoint.is_empty() { &self.cmd } else { &self.entrypoint };
        self.is_wasm |= needs_layers(first);
        self
    }
}

/// The fields that are read, in lower case, beside the annotations that choose a handler. All others are passed over, however
/// deep they are.
const FIELDS: [&str; 13] = [
    "annotations",
    "architecture",
    "artifacttype",
    "cmd",
    "config",
    "digest",
    "entrypoint",
    "layers",
    "manifests",
    "mediatype",
    "os",
    "platform",
    "size",
];

/// Values within one another that are looked into: a document, its list, an entry, its platform, and a text.
const LEVELS: usize = 5;

/// Reads a value down to so many levels, and passes over what is below.
#[derive(Clone, Copy)]
struct Reader {
    levels: usize,
}

impl Reader {
    const fn below(self) -> Self {
        Self { levels: self.levels.saturating_sub(1) }
    }
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Said;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said, D::Error> {
        if self.levels == 0 {
            IgnoredAny::deserialize(deserializer)?;
            return Ok(Said::default());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Said, E> {
        Ok(Said { number, ..Said::default() })
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(Said { text: text.to_owned(), ..Said::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        let mut is_first = true;
        while let Some(value) = list.next_element_seed(self.below())? {
            said.add(&value, is_first);
            is_first = false;
        }
        Ok(said)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key::<String>()? {
            let field = fold(&key);
            if FIELDS.contains(&field.as_str()) || CRUN_ANNOTATIONS.contains(&key.as_str()) {
                said.set(&field, map.next_value_seed(self.below())?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(said.ended())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::image::Digest;

    fn of(document: &Value) -> Hints {
        read(document.to_string().as_bytes())
    }

    fn described(digest: &Digest) -> Descriptor {
        Descriptor { media_type: String::new(), digest: digest.clone(), size: 7 }
    }

    fn manifest(config: &str, layer: &str) -> Value {
        let blob = |kind: &str| json!({"mediaType": kind, "digest": Digest::of(b"c"), "size": 7});
        json!({"schemaVersion": 2, "config": blob(config), "layers": [blob(layer)]})
    }

    const LINUX: [&str; 2] =
        ["application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"];

    #[test]
    fn a_manifest_suggests_wasm_by_a_media_type_or_an_annotation_and_leads_to_its_config() {
        let [config, layer] = LINUX;
        let plain = manifest(config, layer);
        let next = Some(Next::Config(described(&Digest::of(b"c"))));
        assert_eq!(of(&plain), Hints { is_wasm: false, next });
        let with = |key: &str, value: Value| {
            let mut changed = plain.clone();
            changed[key] = value;
            changed
        };
        for document in [
            manifest("application/vnd.wasm.config.v0+json", layer),
            manifest(config, "application/wasm"),
            manifest(config, "application/vnd.fermyon.spin.application.v1+config"),
            with("artifactType", json!("application/vnd.bytecodealliance.module.v1+wasm")),
            with("LAYERS", json!([{"mediatype": "application/wasm"}])),
            with("annotations", json!({"run.oci.handler": "wasm"})),
        ] {
            assert!(of(&document).is_wasm, "{document}");
        }
        for document in [
            with("annotations", json!({"run.oci.handler": "krun", "org.opencontainers.image.title": "wasm"})),
            with("wasm", json!([[{"mediaType": "application/wasm"}]])),
            with("layers", json!(null)),
        ] {
            assert!(!of(&document).is_wasm, "{document}");
        }
    }

    #[test]
    fn a_config_suggests_wasm_by_its_platform_or_by_what_it_starts() {
        let linux = |inner: Value| json!({"os": "linux", "architecture": "amd64", "config": inner});
        for document in [
            json!({"os": "Wasip1", "architecture": "Wasm"}),
            json!({"os": "linux", "architecture": "wasm", "config": null}),
            linux(json!({"Entrypoint": ["/app.wasm", "x"]})),
            linux(json!({"entryPoint": [""], "Cmd": ["/app.wasm"]})),
            linux(json!({"Entrypoint": ["/"]})),
        ] {
            assert_eq!(of(&document), Hints { is_wasm: true, next: None }, "{document}");
        }
        for document in [
            linux(json!({"Entrypoint": ["wasmtime"], "Cmd": ["/app.wasm"]})),
            linux(json!({"Entrypoint": ["/bin/app", "/app.wasm"], "Labels": {"a": "wasm"}})),
            json!({}),
            json!([1, -1, 1.5, true, null]),
        ] {
            assert_eq!(of(&document), Hints::default(), "{document}");
        }
    }

    #[test]
    fn an_index_leads_to_the_manifest_that_a_node_takes_and_says_nothing_of_the_others() {
        let entry = |platform: &str| {
            let (os, architecture) = platform.split_once('/').unwrap_or_default();
            json!({"digest": Digest::of(platform.as_bytes()), "size": 7, "mediaType": "application/wasm",
                "platform": {"os": os, "architecture": architecture}})
        };
        let of_index = |platforms: &[&str]| {
            let entries: Vec<Value> = platforms.iter().map(|platform| entry(platform)).collect();
            of(&json!({"schemaVersion": 2, "manifests": entries}))
        };
        let to = |platform: &str| Some(Next::Manifest(described(&Digest::of(platform.as_bytes()))));
        for (platforms, is_wasm, next) in [
            (&["wasi/wasm", "linux/arm64", "linux/amd64"][..], false, to("linux/amd64")),
            (&["linux/s390x", "", "linux/riscv64"][..], false, to("linux/s390x")),
            (&["unknown/unknown", "wasi/wasm", ""][..], false, to("")),
            (&["unknown/unknown", "wasi/wasm"][..], true, to("wasi/wasm")),
            (&["windows/amd64", "unknown/unknown"][..], false, None),
        ] {
            assert_eq!(of_index(platforms), Hints { is_wasm, next }, "{platforms:?}");
        }
    }

    #[test]
    fn what_is_passed_over_may_be_deep_and_what_is_no_json_suggests_nothing() {
        for field in ["x", "cmd"] {
            let lists = ["[".repeat(9_000), "]".repeat(9_000)].concat();
            let deep = format!(r#"{{"{field}":{lists},"architecture":"wasm"}}"#);
            assert!(read(deep.as_bytes()).is_wasm, "{field}");
        }
        for text in [&b"\xff"[..], br"\ud83d", br"\uDC00", br"\\ud83d"] {
            let document =
                [&b"{\"os\":\""[..], text, b"\",\"", text, b"\":1,\"architecture\":\"wasm\"}"].concat();
            assert!(read(&document).is_wasm, "Go replaces it: {text:?}");
        }
        for bytes in [&b""[..], b"{", b"\xff", b"{\"architecture\":\"wasm\"", b"\"wasm\""] {
            assert_eq!(read(bytes), Hints::default());
        }
    }
}
