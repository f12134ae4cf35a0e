//! A value of a locked app or of a manifest, with its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::image::malformed::Malformed;

/// A JSON value and its path, so that an error can name the field.
pub(super) struct At<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> At<'a> {
    pub fn wrong(&self, what: &str) -> Malformed {
        let path = if self.path.is_empty() { "the document" } else { &self.path };
        Malformed::new(format!("`{path}` {what}"))
    }

    pub fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    pub fn map(&self) -> Result<&'a Map<String, Value>, Malformed> {
        self.value.as_object().ok_or_else(|| self.wrong("must be an object"))
    }

    /// A field; `null` counts as absent.
    pub fn get(&self, key: &str) -> Result<Option<At<'a>>, Malformed> {
        let value = self.map()?.get(key).filter(|value| !value.is_null());
        Ok(value.map(|value| At { value, path: self.child(key) }))
    }

    pub fn need(&self, key: &str) -> Result<At<'a>, Malformed> {
        self.get(key)?.ok_or_else(|| Malformed::new(format!("`{}` is missing", self.child(key))))
    }

    pub fn text(&self) -> Result<String, Malformed> {
        self.value.as_str().map(String::from).ok_or_else(|| self.wrong("must be a string"))
    }

    pub fn list(&self) -> Result<Vec<At<'a>>, Malformed> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        let at = |(number, value)| At { value, path: format!("{}[{number}]", self.path) };
        Ok(items.iter().enumerate().map(at).collect())
    }

    pub fn list_of_text(&self, key: &str) -> Result<Vec<String>, Malformed> {
        let Some(list) = self.get(key)? else { return Ok(Vec::new()) };
        list.list()?.iter().map(At::text).collect()
    }

    pub fn map_of_text(&self, key: &str) -> Result<BTreeMap<String, String>, Malformed> {
        let Some(map) = self.get(key)? else { return Ok(BTreeMap::new()) };
        let text = |(name, value)| Ok((String::clone(name), At { value, path: map.child(name) }.text()?));
        map.map()?.iter().map(text).collect()
    }
}
