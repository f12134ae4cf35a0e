//! Writes the input as JSON, without the keys that a bundle declares that it does not read. Parsing in the guest takes
//! most of the time, so it pays to leave them out.

use serde::ser::{Error, Impossible, Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::bundle::Omit;

/// `input` as JSON without the top-level keys in `omit`. An input that is not an object is an error.
pub(super) fn serialise(input: &impl Serialize, omit: &Omit) -> serde_json::Result<Box<RawValue>> {
    to_raw_value(&Without { input, omit })
}

struct Without<'a, I> {
    input: &'a I,
    omit: &'a Omit,
}

impl<I: Serialize> Serialize for Without<'_, I> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.input.serialize(Top { inner, omit: self.omit })
    }
}

/// A serialiser that accepts only an object, and drops some of its keys without serialising their values.
struct Top<'a, S> {
    inner: S,
    omit: &'a Omit,
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*);)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<S::Ok, S::Error> { Err(not_an_object()) })*
    };
}

fn not_an_object<E: Error>() -> E {
    E::custom("the input is not an object")
}

impl<'a, S: Serializer> Serializer for Top<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Impossible<S::Ok, S::Error>;
    type SerializeMap = Keys<'a, S::SerializeMap>;
    type SerializeStruct = Keys<'a, S::SerializeMap>;
    type SerializeStructVariant = Impossible<S::Ok, S::Error>;

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
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
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<S::Ok, S::Error> {
        Err(not_an_object())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Err(not_an_object())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, S::Error> {
        Err(not_an_object())
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Err(not_an_object())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Err(not_an_object())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Err(not_an_object())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        // The length is not known, since some keys may be dropped.
        Ok(Keys { inner: self.inner.serialize_map(None)?, omit: self.omit, skipping: false })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.serialize_map(None)
    }
}

struct Keys<'a, M> {
    inner: M,
    omit: &'a Omit,
    skipping: bool,
}

impl<M: SerializeMap> SerializeMap for Keys<'_, M> {
    type Ok = M::Ok;
    type Error = M::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), M::Error> {
        let name = serde_json::to_value(key).map_err(M::Error::custom)?;
        self.skipping = name.as_str().is_some_and(|name| self.omit.contains(name));
        if self.skipping { Ok(()) } else { self.inner.serialize_key(key) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), M::Error> {
        if self.skipping { Ok(()) } else { self.inner.serialize_value(value) }
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
        if self.omit.contains(key) { Ok(()) } else { self.inner.serialize_entry(key, value) }
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

    #[derive(Serialize)]
    struct Document<'a> {
        name: &'a str,
        object: &'a RawValue,
        nested: serde_json::Value,
    }

    fn omit(keys: &[&str]) -> Omit {
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_are_dropped_at_the_top_and_nowhere_else() {
        let object = RawValue::from_string(r#"{"big": 1}"#.into()).unwrap();
        let nested = json!({"object": 2, "name": 3});
        let document = Document { name: "a", object: &object, nested };
        let all = serialise(&document, &omit(&[])).unwrap();
        assert_eq!(all.get(), r#"{"name":"a","object":{"big": 1},"nested":{"name":3,"object":2}}"#);
        let some = serialise(&document, &omit(&["object", "absent"])).unwrap();
        assert_eq!(some.get(), r#"{"name":"a","nested":{"name":3,"object":2}}"#);
        let none = serialise(&document, &omit(&["name", "object", "nested"])).unwrap();
        assert_eq!(none.get(), "{}");
    }

    #[test]
    fn maps_lose_keys_like_structs_do() {
        let some = serialise(&Some(json!({"a": 1, "b": [2], "c": null})), &omit(&["b"])).unwrap();
        assert_eq!(some.get(), r#"{"a":1,"c":null}"#);
    }

    #[test]
    fn an_input_that_is_not_an_object_is_an_error() {
        for input in [json!(null), json!(true), json!(1), json!("a"), json!([1])] {
            let error = serialise(&input, &omit(&[])).unwrap_err();
            assert_eq!(error.to_string(), "the input is not an object", "{input}");
        }
    }
}
