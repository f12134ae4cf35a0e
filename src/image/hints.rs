//! What in the documents of an image suggests Wasm: also in those that are refused, since a node may read them all the same.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::annotation::{CRUN_ANNOTATIONS, means_wasm};
use super::descriptor::Descriptor;
use super::entry::needs_layers;
use super::malformed::fold;
use super::manifest::ImageManifest;
use super::path;
use super::platform::{self, OF_WASM, is_wasm, rank};

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
/// Takes one copy of it, and of a text with escapes one more. What is no JSON suggests nothing, and no node reads it either.
pub fn read(bytes: &[u8]) -> Hints {
    let text = replaced(bytes);
    let repeats = Cell::new(false);
    let mut json = serde_json::Deserializer::from_slice(&text);
    let said = Reader { levels: LEVELS, repeats: &repeats }.deserialize(&mut json);
    let Ok(said) = said.and_then(|said| json.end().map(|()| said)) else { return Hints::default() };
    let is_wasm = repeats.get() || said.is_wasm || is_wasm(&platform::named(&said.os, &said.architecture));
    match said.entry {
        Some((rank, descriptor)) => {
            Hints { is_wasm: is_wasm || rank == OF_WASM, next: Some(Next::Manifest(descriptor)) }
        }
        None => Hints { is_wasm, next: said.config.map(Next::Config) },
    }
}

/// The document without what Go takes and this reader does not: bytes that are no text, and halves of a pair of surrogates. What becomes of
/// either matters to no field.
fn replaced(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend(chunk.invalid().iter().map(|_| b'?'));
    }
    let mut before = [0_u8; 2];
    for byte in &mut text {
        if before == *br"\u" && byte.eq_ignore_ascii_case(&b'd') {
            *byte = b'e';
        }
        let [_, last] = before;
        before = [last, *byte];
    }
    text
}

/// What a value of a document says.
#[derive(Default)]
struct Said {
    /// Whether a field in it suggests Wasm, but for those of the platform.
    is_wasm: bool,
    /// The beginning of the text that it is, or of the first one of a list.
    text: String,
    /// Whether that names Wasm, as a media type.
    names_wasm: bool,
    /// The same as what a container starts.
    starts_wasm: bool,
    /// The number that it is.
    number: u64,
    digest: String,
    size: u64,
    os: String,
    architecture: String,
    /// Whether the first word of its `Entrypoint` starts Wasm; `None` where it has none.
    entrypoint: Option<bool>,
    /// The same of its `Cmd`.
    cmd: Option<bool>,
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

    /// Whether it starts Wasm; `None` where it is empty.
    fn word(&self) -> Option<bool> {
        (!self.text.is_empty()).then_some(self.starts_wasm)
    }

    /// Takes a value of a list.
    fn add(&mut self, value: Self, is_first: bool) {
        self.is_wasm |= value.is_wasm;
        if let Some(rank) = rank(&platform::named(&value.os, &value.architecture))
            && self.entry.as_ref().is_none_or(|(best, _)| rank < *best)
            && let Some(descriptor) = value.descriptor()
        {
            self.entry = Some((rank, descriptor));
        }
        if is_first {
            (self.names_wasm, self.starts_wasm) = (value.names_wasm, value.starts_wasm);
            self.text = value.text;
        }
    }

    /// Takes the value of a field.
    fn set(&mut self, field: &str, value: Self) {
        match field {
            "mediatype" | "artifacttype" => self.is_wasm |= value.names_wasm,
            "digest" => self.digest = value.text,
            "size" => self.size = value.number,
            "os" => self.os = value.text,
            "architecture" => self.architecture = value.text,
            "platform" => (self.os, self.architecture) = (value.os, value.architecture),
            "entrypoint" => self.entrypoint = value.word(),
            "cmd" => self.cmd = value.word(),
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
        self.is_wasm |= self.entrypoint.or(self.cmd).unwrap_or_default();
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

/// Most bytes of the name of a field. A letter of one has three bytes at most (the Kelvin sign), and none has more than twelve letters. The
/// names of annotations are shorter.
const LONGEST_NAME: usize = 3 * 12;

/// Most characters of a text that are kept. No digest, platform or handler is as long.
const LONGEST_TEXT: usize = 256;

/// Values within one another that are looked into: a document, its list, an entry, its platform, and a text.
const LEVELS: usize = 5;

/// The name of a field that is read, in lower case, or of an annotation that chooses a handler; `None` for any other.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                if name.len() > LONGEST_NAME {
                    return Ok(Name(None));
                }
                let folded = fold(name);
                let field = FIELDS.into_iter().find(|field| *field == folded);
                let annotation = || CRUN_ANNOTATIONS.into_iter().find(|annotation| *annotation == name);
                Ok(Name(field.or_else(annotation)))
            }
        }
        deserializer.deserialize_str(Names)
    }
}

/// Reads a value down to so many levels, and passes over what is below.
#[derive(Clone, Copy)]
struct Reader<'a> {
    levels: usize,
    /// Whether a field was there twice. Which of the two a node takes, or what it makes of both, differs by the kind of field: a
    /// `null` changes nothing, a second object is merged into the first one. No tool writes such a document, so that it suggests Wasm.
    repeats: &'a Cell<bool>,
}

impl Reader<'_> {
    const fn below(self) -> Self {
        Self { levels: self.levels.saturating_sub(1), ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Said;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said, D::Error> {
        if self.levels == 0 {
            IgnoredAny::deserialize(deserializer)?;
            return Ok(Said::default());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
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
        // Longer than any path that a node follows; it may lead anywhere.
        let starts_wasm = text.len() > path::MAX_LENGTH || needs_layers(text);
        let names_wasm = names_wasm(text);
        let text = text.chars().take(LONGEST_TEXT).collect();
        Ok(Said { text, names_wasm, starts_wasm, ..Said::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        let mut is_first = true;
        while let Some(value) = list.next_element_seed(self.below())? {
            said.add(value, is_first);
            is_first = false;
        }
        Ok(said)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        let mut seen = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            if let Some(field) = name {
                // Each once: a document of four megabytes may have one of them a million times.
                if seen.contains(&field) {
                    self.repeats.set(true);
                } else {
                    seen.push(field);
                }
                said.set(field, map.next_value_seed(self.below())?);
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
    fn a_field_that_is_there_twice_suggests_wasm_and_one_in_what_is_no_json_does_not() {
        let digest = Digest::of(b"c");
        let blob = format!(r#"{{"digest":"{digest}","size":7}}"#);
        let null = format!(r#"{{"digest":"{digest}","digest":null,"size":7}}"#);
        let platform = r#""platform":{"os":"linux","architecture":"amd64"}"#;
        for document in [
            r#"{"os":"linux","architecture":"wasm","architecture":null}"#.to_owned(),
            r#"{"config":{"Entrypoint":["/app.wasm"],"entrypoint":null}}"#.to_owned(),
            format!(r#"{{"config":{blob},"config":{{}}}}"#),
            format!(r#"{{"config":{blob},"Config":null}}"#),
            format!(r#"{{"config":{null}}}"#),
            format!(r#"{{"manifests":[{{"digest":"{digest}","size":7,{platform},{platform}}}]}}"#),
            format!(r#"{{"manifests":[{null}]}}"#),
        ] {
            assert!(read(document.as_bytes()).is_wasm, "{document}");
            let unended = document.strip_suffix('}').unwrap();
            assert_eq!(read(unended.as_bytes()), Hints::default(), "{unended}");
        }
        let other =
            r#"{"x":1,"x":2,"config":{"Labels":{"os":"a","OS":"b"}},"os":"linux","architecture":null}"#;
        assert_eq!(read(other.as_bytes()), Hints::default());
    }

    #[test]
    fn a_long_text_says_what_the_whole_of_it_says() {
        let long = |end: &str| format!("{}{end}", "a/".repeat(1_000));
        for document in [
            json!({"config": {"mediaType": long("wasm")}}),
            json!({"config": {"Cmd": [long("app.wasm")]}}),
            json!({"config": {"Cmd": ["/".repeat(path::MAX_LENGTH + 1)]}}),
        ] {
            assert!(of(&document).is_wasm, "{document}");
        }
        for document in [
            json!({"config": {"Cmd": [long("app")]}, "architecture": format!("wasm{}", " ".repeat(1_000))}),
            json!({"annotations": {"run.oci.handler": format!("wasm{}", "a".repeat(1_000))}}),
            json!({(long("os")): "wasi", "architecture": "amd64"}),
        ] {
            assert_eq!(of(&document), Hints::default(), "{document}");
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
