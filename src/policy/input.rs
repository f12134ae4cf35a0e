//! Writes the input as JSON, without what a bundle declares that it does not read: top-level keys, and keys one level below
//! (`request.uid`); and without what the built-in rules do not read of each container. Parsing in the guest takes most of the time, so it
//! pays to leave them out, and an input without what is of one request alone comes again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde::ser::{Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::bundle::{Omit, Unread, input_keys_but};

/// Where the identifier of a request is, which no other has: leaving out either leaves it out.
const UID: [&str; 2] = ["request", "request.uid"];

/// The list whose items are containers.
const CONTAINERS: &str = "containers";

/// What the built-in rules read of no container; a test looks for it in their sources.
const UNREAD: &[&str] = &["interpreters", "packaging", "requires", "shape", "warnings"];

/// What they read of no container where the option is off without which none of them reads what one is handed: as a rule the longest list of all.
const UNREAD_WITHOUT_OPTION: &[&str] =
    &["ambient", "interpreters", "packaging", "requires", "shape", "warnings"];
/// That option. Every value except `false` switches it on (`ambient_wider_than_grant.rego`).
const STRICT_AMBIENT: &str = "strictAmbient";

/// How `serde_json` names a text of JSON among structures, such as a number that is written as it was read (`serde-rs/json:src/raw.rs`, `TOKEN`).
const RAW_TEXT: &str = "$serde_json::private::RawValue";

/// `input` as JSON without what is not read. An input that is not an object is an error. A value in it that is none, and that has a key
/// which is left out, is written as it is: one of a record may be masked.
pub(super) fn serialise(input: &impl Serialize, unread: Unread<'_>) -> serde_json::Result<Box<RawValue>> {
    to_raw_value(&Without { value: input, omit: Omitted::of(input, unread) })
}

/// The input of each bundle, serialised once for all that leave out the same. The error is for people to read.
pub(super) fn serialise_each<'a>(
    bundles: impl Iterator<Item = Unread<'a>>,
    input: &impl Serialize,
) -> Vec<Result<Arc<RawValue>, String>> {
    let mut each: Vec<(Unread<'_>, Result<Arc<RawValue>, String>)> = Vec::new();
    let mut inputs = Vec::new();
    for unread in bundles {
        let found = each.iter().find(|(known, _)| *known == unread).map(|(_, json)| json.clone());
        inputs.push(found.unwrap_or_else(|| {
            let json = written(input, unread);
            each.push((unread, json.clone()));
            json
        }));
    }
    inputs
}

/// Enough for most inputs of pods with one or two containers, so that they are not copied while they grow.
const USUAL_BYTES: usize = 16 << 10;

/// `input` for a bundle that does not read this, as text that is read once. The error is for people to read.
pub(super) fn text(input: &impl Serialize, unread: Unread<'_>) -> Result<String, String> {
    let mut json = Vec::with_capacity(USUAL_BYTES);
    let whole = Without { value: input, omit: Omitted::of(input, unread) };
    serde_json::to_writer(&mut json, &whole).map_err(|error| not_written(&error))?;
    String::from_utf8(json).map_err(|error| not_written(&error))
}

/// `input` for bundles that do not read this, as text that several of them read.
fn written(input: &impl Serialize, unread: Unread<'_>) -> Result<Arc<RawValue>, String> {
    serialise(input, unread).map(Arc::from).map_err(|error| not_written(&error))
}

pub(super) fn not_written(error: &dyn std::error::Error) -> String {
    format!("the input cannot be written as JSON: {error}")
}

/// Whether an input may be the same for two reviews.
pub(super) fn may_repeat(omit: &Omit) -> bool {
    UID.into_iter().any(|path| omit.contains(path))
}

/// The options of an input, each as it is written.
#[derive(Deserialize)]
struct OptionsAlone<'j> {
    #[serde(borrow)]
    options: BTreeMap<String, &'j RawValue>,
}

/// Whether built-in rules may read what a container is handed, by the options of an input. Where these cannot be told, they may.
fn may_read_ambient(input: &impl Serialize) -> bool {
    static REST: LazyLock<Omit> = LazyLock::new(|| input_keys_but("options"));
    let omit = Omitted { paths: &REST, of_containers: &[], place: Place::Input };
    let Ok(json) = serde_json::to_vec(&Without { value: input, omit }) else { return true };
    let Ok(found) = serde_json::from_slice::<OptionsAlone<'_>>(&json) else { return true };
    found.options.get(STRICT_AMBIENT).is_some_and(|value| value.get() != "false")
}

/// What is left out of one object.
#[derive(Clone, Copy)]
struct Omitted<'a> {
    paths: &'a Omit,
    /// Keys of each container.
    of_containers: &'static [&'static str],
    place: Place<'a>,
}

/// Where an object is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    /// The input itself.
    Input,
    /// At this key of it, which has no dot.
    Below(&'a str),
    /// It is the list of containers.
    Containers,
    /// It is one of them.
    Container,
}

impl<'a> Omitted<'a> {
    fn of(input: &impl Serialize, Unread { paths, is_built_in }: Unread<'a>) -> Self {
        let of_containers = if is_built_in && may_read_ambient(input) {
            UNREAD
        } else if is_built_in {
            UNREAD_WITHOUT_OPTION
        } else {
            &[]
        };
        Self { paths, of_containers, place: Place::Input }
    }

    fn contains(self, key: &str) -> bool {
        let below = match self.place {
            Place::Input => return self.paths.contains(key),
            Place::Below(below) => below,
            Place::Containers => return false,
            Place::Container => return self.of_containers.contains(&key),
        };
        let is_it =
            |path: &String| path.strip_prefix(below).and_then(|rest| rest.strip_prefix('.')) == Some(key);
        self.beginning_with(below).any(is_it)
    }

    /// What is left out of the object at this key, or of the items of the list, if anything is.
    fn below(self, key: &str) -> Option<Self> {
        if self.place != Place::Input {
            return None;
        }
        if key == CONTAINERS && !self.of_containers.is_empty() {
            return Some(Self { place: Place::Containers, ..self });
        }
        let mut paths = self.beginning_with(key);
        let (below, _) = paths.find_map(|path| path.split_once('.').filter(|(below, _)| *below == key))?;
        Some(Self { place: Place::Below(below), ..self })
    }

    /// What is left out of the items of this list, if anything is.
    fn items(self) -> Option<Self> {
        (self.place == Place::Containers).then_some(Self { place: Place::Container, ..self })
    }

    /// The longer paths that begin so: they come next to each other. Every field of every input is looked for.
    fn beginning_with(self, start: &str) -> impl Iterator<Item = &'a String> {
        let after = self.paths.range::<str, _>((Bound::Excluded(start), Bound::Unbounded));
        after.take_while(move |path| path.starts_with(start))
    }
}

struct Without<'a, I: ?Sized> {
    value: &'a I,
    omit: Omitted<'a>,
}

impl<I: Serialize + ?Sized> Serialize for Without<'_, I> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Object { inner, omit: self.omit })
    }
}

/// A serialiser of an object, which drops some of its keys without serialising their values.
struct Object<'a, S> {
    inner: S,
    omit: Omitted<'a>,
}

impl<S: Serializer> Object<'_, S> {
    /// What writes a value that is not an object; the input itself must be one.
    fn other(self) -> Result<S, S::Error> {
        match self.omit.place {
            Place::Input => Err(S::Error::custom("the input is not an object")),
            Place::Below(_) | Place::Containers | Place::Container => Ok(self.inner),
        }
    }
}

macro_rules! others {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> { self.other()?.$method($($argument),*) })*
    };
}

impl<'a, S: Serializer> Serializer for Object<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Items<'a, S::SerializeSeq>;
    type SerializeTuple = S::SerializeTuple;
    type SerializeTupleStruct = S::SerializeTupleStruct;
    type SerializeTupleVariant = S::SerializeTupleVariant;
    type SerializeMap = Keys<'a, S::SerializeMap>;
    type SerializeStruct = Keys<'a, S::SerializeMap>;
    type SerializeStructVariant = S::SerializeStructVariant;

    others! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.other()?.serialize_newtype_variant(name, index, variant, value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let omit = self.omit.items();
        Ok(Items { inner: self.other()?.serialize_seq(length)?, omit })
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.other()?.serialize_tuple(length)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.other()?.serialize_tuple_struct(name, length)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.other()?.serialize_tuple_variant(name, index, variant, length)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.other()?.serialize_struct_variant(name, index, variant, length)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        // The length is not known, since some keys may be dropped.
        Ok(Keys { inner: self.inner.serialize_map(None)?, omit: self.omit, next: Next::Write })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeStruct, S::Error> {
        if name == RAW_TEXT {
            // Its one field would be written as a key.
            return self.other().and_then(|_| {
                Err(S::Error::custom("there is a number where an object or a list has to be"))
            });
        }
        self.serialize_map(None)
    }
}

/// The items of a list.
struct Items<'a, Q> {
    inner: Q,
    omit: Option<Omitted<'a>>,
}

impl<Q: SerializeSeq> SerializeSeq for Items<'_, Q> {
    type Ok = Q::Ok;
    type Error = Q::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Q::Error> {
        match self.omit {
            Some(omit) => self.inner.serialize_element(&Without { value, omit }),
            None => self.inner.serialize_element(value),
        }
    }

    fn end(self) -> Result<Q::Ok, Q::Error> {
        self.inner.end()
    }
}

struct Keys<'a, M> {
    inner: M,
    omit: Omitted<'a>,
    next: Next<'a>,
}

/// What happens to the value of the last key.
enum Next<'a> {
    Write,
    Skip,
    WriteWithout(Omitted<'a>),
}

impl<'a> Omitted<'a> {
    fn next(self, key: &str) -> Next<'a> {
        if self.contains(key) { Next::Skip } else { self.below(key).map_or(Next::Write, Next::WriteWithout) }
    }
}

impl<M: SerializeMap> SerializeMap for Keys<'_, M> {
    type Ok = M::Ok;
    type Error = M::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), M::Error> {
        let name = serde_json::to_value(key).map_err(M::Error::custom)?;
        self.next = name.as_str().map_or(Next::Write, |name| self.omit.next(name));
        if matches!(self.next, Next::Skip) { Ok(()) } else { self.inner.serialize_key(key) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), M::Error> {
        match self.next {
            Next::Skip => Ok(()),
            Next::Write => self.inner.serialize_value(value),
            Next::WriteWithout(omit) => self.inner.serialize_value(&Without { value, omit }),
        }
    }

    fn end(self) -> Result<M::Ok, M::Error> {
        self.inner.end()
    }
}

impl<M: SerializeMap> SerializeStruct for Keys<'_, M> {
    type Ok = M::Ok;
    type Error = M::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), M::Error> {
        match self.omit.next(key) {
            Next::Skip => Ok(()),
            Next::Write => self.inner.serialize_entry(key, value),
            Next::WriteWithout(omit) => self.inner.serialize_entry(key, &Without { value, omit }),
        }
    }

    fn end(self) -> Result<M::Ok, M::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::json;

    use super::*;
    use crate::policy::ExactDocument;

    #[derive(Serialize)]
    struct Document<'a> {
        name: &'a str,
        object: &'a RawValue,
        nested: serde_json::Value,
    }

    fn omit(keys: &[&str]) -> Omit {
        keys.iter().map(ToString::to_string).collect()
    }

    const fn declared(paths: &Omit) -> Unread<'_> {
        Unread { paths, is_built_in: false }
    }

    #[test]
    fn keys_are_dropped_at_the_top_and_nowhere_else() {
        let object = RawValue::from_string(r#"{"big": 1}"#.into()).unwrap();
        let nested = json!({"object": 2, "name": 3});
        let document = Document { name: "a", object: &object, nested };
        let all = serialise(&document, declared(&omit(&[]))).unwrap();
        assert_eq!(all.get(), r#"{"name":"a","object":{"big": 1},"nested":{"name":3,"object":2}}"#);
        let some = serialise(&document, declared(&omit(&["object", "absent"]))).unwrap();
        assert_eq!(some.get(), r#"{"name":"a","nested":{"name":3,"object":2}}"#);
        let none = serialise(&document, declared(&omit(&["name", "object", "nested"]))).unwrap();
        assert_eq!(none.get(), "{}");
    }

    #[test]
    fn maps_lose_keys_like_structs_do() {
        let some = serialise(&Some(json!({"a": 1, "b": [2], "c": null})), declared(&omit(&["b"]))).unwrap();
        assert_eq!(some.get(), r#"{"a":1,"c":null}"#);
    }

    #[test]
    fn keys_one_level_below_are_dropped_there_alone() {
        let object = RawValue::from_string(r#"{"name": 1}"#.into()).unwrap();
        let document =
            Document { name: "a", object: &object, nested: json!({"name": 3, "deep": {"name": 4}}) };
        for other in [json!("a"), json!(null), json!([{"name": 3}]), json!(1.5)] {
            let document = json!({"nested": other});
            let some = serialise(&document, declared(&omit(&["nested.name"]))).unwrap();
            assert_eq!(some.get(), document.to_string(), "as a record has it where it is masked");
        }
        let some = serialise(&document, declared(&omit(&["nested.name", "nested.absent"]))).unwrap();
        assert_eq!(some.get(), r#"{"name":"a","object":{"name": 1},"nested":{"deep":{"name":4}}}"#);
        let some = serialise(&document, declared(&omit(&["nested.name", "nested"]))).unwrap();
        assert_eq!(some.get(), r#"{"name":"a","object":{"name": 1}}"#);
        let map = json!({"request": {"uid": 1, "name": 2}, "uid": 3});
        let some = serialise(&map, declared(&omit(&["request.uid"]))).unwrap();
        assert_eq!(some.get(), r#"{"request":{"name":2},"uid":3}"#);
    }

    /// Paths that sort between others, and such as no bundle has.
    #[test]
    fn what_is_left_out_below_a_key_is_told_from_keys_that_begin_like_it() {
        let document = json!({
            "request": {"uid": 1, "uid2": 2, "ui": 3, "": 4}, "request-x": {"uid": 5}, "requests": {"uid": 6}, "a.b": {"c": 7},
            "quest": {"uid": 8},
        });
        let paths = ["request-x", "request.uid", "requests.none", "request.", "a.b.c", "reques"];
        let some = serialise(&document, declared(&omit(&paths))).unwrap();
        let wanted = json!({
            "request": {"uid2": 2, "ui": 3}, "requests": {"uid": 6}, "a.b": {"c": 7}, "quest": {"uid": 8},
        });
        assert_eq!(some.get(), wanted.to_string());
        assert_eq!(text(&document, declared(&omit(&paths))).unwrap(), wanted.to_string());
        assert!(text(&json!([1]), declared(&omit(&[]))).unwrap_err().ends_with("the input is not an object"));
    }

    /// A document with these options, if any; and what the built-in rules get of its containers.
    fn containers_with(options: Option<serde_json::Value>) -> String {
        let mut document = json!({
            "requires": 1,
            "containers": [
                {"name": "a", "shape": 1, "requires": [{"ambient": 2}], "effective": [{"requires": 3, "ambient": 4}], "ambient": [5]},
                "no container", {"warnings": [], "packaging": null, "interpreters": [6], "kind": "module"},
            ],
            "workload": {"ambient": 7, "containers": [{"shape": 8}]},
        });
        let before = document.clone();
        if let Some(options) = options {
            document["options"] = options;
        }
        let omit = omit(&["workload.name"]);
        let some = serialise(&document, Unread { paths: &omit, is_built_in: true }).unwrap();
        let mut some: serde_json::Value = serde_json::from_str(some.get()).unwrap();
        for other in ["requires", "workload"] {
            assert_eq!(some[other], before[other]);
        }
        assert_eq!(
            serialise(&before, declared(&omit)).unwrap().get(),
            before.to_string(),
            "rules of others may read all"
        );
        some["containers"].take().to_string()
    }

    #[test]
    fn built_in_rules_get_nothing_of_containers_that_they_do_not_read() {
        let without =
            r#"[{"effective":[{"ambient":4,"requires":3}],"name":"a"},"no container",{"kind":"module"}]"#;
        let with = without.replacen('{', r#"{"ambient":[5],"#, 1);
        for off in [json!({}), json!({"strictAmbient": false}), json!({"strictambient": true})] {
            assert_eq!(containers_with(Some(off.clone())), without, "{off}");
        }
        for on in [json!(true), json!(null), json!("false"), json!(0), json!([false])] {
            let on = json!({"other": [1], "strictAmbient": on});
            assert_eq!(containers_with(Some(on.clone())), with, "{on}");
        }
        for unknown in [None, Some(json!([false])), Some(json!(null)), Some(json!("a"))] {
            assert_eq!(containers_with(unknown.clone()), with, "{unknown:?}");
        }
    }

    /// The built-in rules that judge, each file with its rules, of which an empty line ends each.
    fn sources(folder: &std::path::Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_rule = path.extension().is_some_and(|ending| ending == "rego")
                && !path.to_str().unwrap().ends_with("_test.rego");
            if path.is_dir() {
                found.extend(sources(&path));
            } else if is_rule {
                let text = std::fs::read_to_string(&path).unwrap();
                let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
                found.push(code.join("\n"));
            }
        }
        found
    }

    /// A rule that did not find what it reads would be undefined, and admit.
    #[test]
    fn no_built_in_rule_reads_what_is_left_out_of_containers() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/wasmgate");
        let sources = sources(&folder);
        assert!(sources.len() > 20, "{}", sources.len());
        let mut reading_ambient = 0;
        for rule in sources.iter().flat_map(|source| source.split("\n\n")) {
            for key in UNREAD {
                let named = [format!(".{key}"), format!("\"{key}\"")];
                assert!(!named.iter().any(|name| rule.contains(name)), "{key} is read by\n{rule}");
            }
            // What takes a value apart without naming its keys.
            for way in [
                "walk(",
                "json.",
                "yaml.",
                "sprintf(",
                "container[",
                "c[",
                "][",
                "container}",
                "{c}",
                "in container ",
                "in container\n",
                "in c ",
                "in c\n",
                "object.filter(",
                "object.keys(",
                "object.remove(",
                "object.subset(",
                "object.union",
            ] {
                assert!(!rule.contains(way), "{way} may read all of a container in\n{rule}");
            }
            let others = ["input.runtime.ambient", ".ambient_"].map(|other| rule.matches(other).count());
            let ambient = rule.matches(".ambient").count() - others.iter().sum::<usize>();
            if ambient > 0 {
                assert!(rule.contains("\n\tstrict(input.options)\n"), "{rule}");
                reading_ambient += 1;
            }
            assert!(!rule.contains("\"ambient\""), "{rule}");
        }
        assert_eq!(reading_ambient, 2);
        let rest = UNREAD_WITHOUT_OPTION.iter().filter(|key| !UNREAD.contains(key));
        assert_eq!(rest.collect::<Vec<_>>(), [&"ambient"]);
    }

    #[test]
    fn an_input_with_the_identifier_of_its_request_never_repeats() {
        for (keys, repeats) in [
            (["object", "grants"].as_slice(), false),
            (&["request.user", "object"], false),
            (&["request.uid"], true),
            (&["request"], true),
        ] {
            assert_eq!(may_repeat(&omit(keys)), repeats, "{keys:?}");
        }
    }

    #[test]
    fn an_input_that_is_not_an_object_is_an_error() {
        for input in [json!(null), json!(true), json!(1), json!("a"), json!([1])] {
            let error = serialise(&input, declared(&omit(&[]))).unwrap_err();
            assert_eq!(error.to_string(), "the input is not an object", "{input}");
        }
    }

    /// `serde_json` writes the text of one as a structure.
    #[test]
    fn a_number_with_its_text_is_no_object() {
        let omit = omit(&["request.uid"]);
        let written = |text: &str| {
            let input: ExactDocument = serde_json::from_str(text).unwrap();
            serialise(&input, Unread { paths: &omit, is_built_in: true })
        };
        let said = |text: &str| written(text).unwrap_err().to_string();
        assert_eq!(said("1e3"), "the input is not an object");
        for number in [r#"{"request": 1e3}"#, r#"{"containers": 1e3}"#, r#"{"containers": [1e3]}"#] {
            assert_eq!(said(number), "there is a number where an object or a list has to be", "{number}");
        }
        let elsewhere = r#"{"containers":[{"port":1e3}],"object":1e3,"request":{"name":1.50}}"#;
        assert_eq!(written(elsewhere).unwrap().get(), elsewhere);
    }
}
