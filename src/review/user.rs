//! The user of a request. What there may be any number of stays JSON: a group of three bytes would take a hundred as a text of its own, before any memory is reserved
//! for the review, and an authenticator may put a user into as many groups as there are.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The user of a request (`kubernetes:staging/src/k8s.io/api/authentication/v1/types.go`, `UserInfo`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct User {
    /// What the authenticator says beside: lists of texts by their names, without white space between them.
    #[serde(default, deserialize_with = "lists", skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<RawValue>>,
    /// The groups: a list of texts, without white space between them.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Option::is_none")]
    pub groups: Option<Box<RawValue>>,
    /// What tells the user from others who had the name before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

impl User {
    /// Bytes of what there may be any number of.
    pub fn list_bytes(&self) -> usize {
        let lists = self.groups.iter().chain(&self.extra);
        lists.map(|list| list.get().len()).sum()
    }
}

/// A user, of an object alone: what is derived for the type takes a list as well, and four `null` as a user without a name.
pub(super) fn object<'de, D: Deserializer<'de>>(from: D) -> Result<User, D::Error> {
    from.deserialize_map(UserVisitor)
}

struct UserVisitor;

impl<'de> Visitor<'de> for UserVisitor {
    type Value = User;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a UserInfo")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<User, A::Error> {
        User::deserialize(MapAccessDeserializer::new(map))
    }
}

fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let texts = Option::<Texts>::deserialize(from)?;
    texts.map(|Texts(json)| raw(json).map_err(D::Error::custom)).transpose()
}

fn lists<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let lists = Option::<Lists>::deserialize(from)?;
    lists.map(|Lists(json)| raw(json).map_err(D::Error::custom)).transpose()
}

/// JSON as a value. What is written here always is one.
fn raw(json: Vec<u8>) -> Result<Box<RawValue>, String> {
    let text = String::from_utf8(json).map_err(|error| error.to_string())?;
    RawValue::from_string(text).map_err(|error| error.to_string())
}

/// A list of texts, as JSON. Each is written as soon as it is read, so that the list takes no more than its bytes.
struct Texts(Vec<u8>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut json = vec![b'['];
        while let Some(text) = list.next_element::<String>()? {
            part(&mut json);
            serde_json::to_writer(&mut json, &text).map_err(A::Error::custom)?;
        }
        json.push(b']');
        Ok(Texts(json))
    }
}

/// Lists of texts by their names, as JSON.
struct Lists(Vec<u8>);

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ListsVisitor)
    }
}

struct ListsVisitor;

impl<'de> Visitor<'de> for ListsVisitor {
    type Value = Lists;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("lists of texts by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lists, A::Error> {
        let mut json = vec![b'{'];
        // Go writes a list that is nil as `null`.
        while let Some((name, texts)) = map.next_entry::<String, Option<Texts>>()? {
            part(&mut json);
            serde_json::to_writer(&mut json, &name).map_err(A::Error::custom)?;
            json.push(b':');
            json.extend_from_slice(texts.as_ref().map_or(&b"null"[..], |Texts(list)| list.as_slice()));
        }
        json.push(b'}');
        Ok(Lists(json))
    }
}

/// Parts what follows from what is there.
fn part(json: &mut Vec<u8>) {
    if json.len() > 1 {
        json.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<User, String> {
        let mut from = serde_json::Deserializer::from_str(json);
        object(&mut from).and_then(|user| from.end().map(|()| user)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_is_written_as_it_was_read_on_one_line() {
        let json = r#"{"username" : "ann",
            "uid":"7", "groups": [ "a\nb" ,
            "\u0022" ], "x": 1, "extra": {"a": ["b", "c"], "d": [
            ], "e": null}}"#;
        let user = read(json).unwrap();
        assert_eq!(user.groups.as_deref().map(RawValue::get), Some(r#"["a\nb","\""]"#));
        let written = serde_json::to_string(&user).unwrap();
        assert_eq!(
            written,
            r#"{"extra":{"a":["b","c"],"d":[],"e":null},"groups":["a\nb","\""],"uid":"7","username":"ann"}"#
        );
        assert_eq!(user.list_bytes(), r#"{"a":["b","c"],"d":[],"e":null}["a\nb","\""]"#.len());
        let absent = read(r#"{"username":"ann","groups":null,"extra":null,"uid":null}"#).unwrap();
        assert_eq!(serde_json::to_string(&absent).unwrap(), r#"{"username":"ann"}"#);
        assert_eq!(serde_json::to_string(&read("{}").unwrap()).unwrap(), "{}");
    }

    #[test]
    fn groups_and_what_is_said_beside_are_texts() {
        for (json, expected) in [
            (r#"{"groups":"a"}"#, "a list of texts"),
            (r#"{"groups":[1]}"#, "a string"),
            (r#"{"groups":[null]}"#, "a string"),
            (r#"{"groups":[["a"]]}"#, "a string"),
            (r#"{"extra":[]}"#, "lists of texts by their names"),
            (r#"{"extra":{"a":"b"}}"#, "a list of texts"),
            (r#"{"extra":{"a":[{}]}}"#, "a string"),
            (r#"{"username":["a"]}"#, "a string"),
            ("[]", "a UserInfo"),
            ("[null,null,null,null]", "a UserInfo"),
            ("null", "a UserInfo"),
        ] {
            let error = read(json).err();
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{json}: {error:?}");
        }
    }

    #[test]
    fn any_number_of_groups_takes_no_more_than_its_bytes() {
        let groups = format!("[{}]", vec![r#""""#; 100_000].join(","));
        let user = read(&format!(r#"{{"groups":{groups}}}"#)).unwrap();
        assert_eq!(user.list_bytes(), groups.len());
    }
}
