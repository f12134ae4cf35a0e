//! A value of a locked app or of a manifest, with its place.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::image::malformed::{Malformed, short};
use crate::text;

/// Most characters of what is said of a value. It may quote text of the image.
const LONGEST_ERROR: usize = 1000;

/// A JSON value and where it stands, so that an error can name the field. Its path is written for an error alone: an image
/// chooses how long a key is, and how many values stand below it.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub value: &'a Value,
    /// `None` for the document.
    place: Option<Rc<Place<'a>>>,
}

/// The last step on the way to a value, and where it is taken from.
struct Place<'a> {
    above: Option<Rc<Place<'a>>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl<'a> At<'a> {
    pub fn document(value: &'a Value) -> Self {
        Self { value, place: None }
    }

    fn below(above: Option<Rc<Place<'a>>>, step: Step<'a>, value: &'a Value) -> Self {
        Self { value, place: Some(Rc::new(Place { above, step })) }
    }

    /// A member that the value does not have.
    pub fn member<'b>(&self, key: &'b str, value: &'b Value) -> At<'b>
    where
        'a: 'b,
    {
        At::below(self.place.clone(), Step::Member(key), value)
    }

    /// The path of the value, with long keys cut; empty for the document.
    pub fn path(&self) -> String {
        let (mut steps, mut place) = (Vec::new(), self.place.as_deref());
        while let Some(Place { above, step }) = place {
            steps.push(*step);
            place = above.as_deref();
        }
        steps.into_iter().rev().fold(String::new(), |path, step| match step {
            Step::Item(number) => format!("{path}[{number}]"),
            Step::Member(key) => joined(&path, key),
        })
    }

    pub fn wrong(&self, what: &str) -> Malformed {
        let path = self.path();
        let path = if path.is_empty() { "the document" } else { &path };
        Malformed::new(format!("`{path}` {}", text::shorten(what, LONGEST_ERROR)))
    }

    pub fn map(&self) -> Result<&'a Map<String, Value>, Malformed> {
        self.value.as_object().ok_or_else(|| self.wrong("must be an object"))
    }

    /// A field; `null` counts as absent.
    pub fn get(&self, key: &str) -> Result<Option<At<'a>>, Malformed> {
        let found = self.map()?.get_key_value(key).filter(|(_, value)| !value.is_null());
        Ok(found.map(|(key, value)| At::below(self.place.clone(), Step::Member(key), value)))
    }

    pub fn need(&self, key: &str) -> Result<At<'a>, Malformed> {
        let missing = || Malformed::new(format!("`{}` is missing", joined(&self.path(), key)));
        self.get(key)?.ok_or_else(missing)
    }

    pub fn text(&self) -> Result<String, Malformed> {
        self.value.as_str().map(String::from).ok_or_else(|| self.wrong("must be a string"))
    }

    /// The items of a list.
    pub fn list(&self) -> Result<impl Iterator<Item = At<'a>> + use<'a>, Malformed> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        let above = self.place.clone();
        let item = move |(number, value)| At::below(above.clone(), Step::Item(number), value);
        Ok(items.iter().enumerate().map(item))
    }

    /// The items of a list in a field; none if it is absent.
    pub fn list_of(&self, key: &str) -> Result<impl Iterator<Item = At<'a>> + use<'a>, Malformed> {
        Ok(self.get(key)?.map(|found| found.list()).transpose()?.into_iter().flatten())
    }

    /// The members of an object, each with its name.
    pub fn members(&self) -> Result<impl Iterator<Item = (&'a str, At<'a>)> + use<'a>, Malformed> {
        let above = self.place.clone();
        let member = move |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), At::below(above.clone(), Step::Member(key), value))
        };
        Ok(self.map()?.iter().map(member))
    }

    /// The members of an object in a field; none if it is absent.
    pub fn members_of(
        &self,
        key: &str,
    ) -> Result<impl Iterator<Item = (&'a str, At<'a>)> + use<'a>, Malformed> {
        Ok(self.get(key)?.map(|found| found.members()).transpose()?.into_iter().flatten())
    }

    pub fn list_of_text(&self, key: &str) -> Result<Vec<String>, Malformed> {
        self.list_of(key)?.map(|item| item.text()).collect()
    }

    pub fn map_of_text(&self, key: &str) -> Result<BTreeMap<String, String>, Malformed> {
        let text = |(name, at): (&str, At<'_>)| Ok((name.to_string(), at.text()?));
        self.members_of(key)?.map(text).collect()
    }
}

fn joined(path: &str, key: &str) -> String {
    let key = short(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_names_the_way_to_its_value_and_cuts_what_is_long() {
        let long = "k".repeat(1_000);
        let value = json!({"a": [{"b": {(long.clone()): [1]}}]});
        let root = At::document(&value);
        let said = |at: &At<'_>| at.wrong("is wrong").0;
        assert_eq!(said(&root), "`the document` is wrong");
        let item = root.list_of("a").unwrap().next().unwrap();
        assert_eq!(said(&item), "`a[0]` is wrong");
        assert_eq!(item.need("c").err().unwrap().0, "`a[0].c` is missing");
        let (name, list) = item.members_of("b").unwrap().next().unwrap();
        assert_eq!(name, long);
        let error = list.list().unwrap().next().unwrap().text().unwrap_err().0;
        assert!(error.starts_with("`a[0].b.kkk") && error.ends_with("[0]` must be a string"), "{error}");
        assert!(error.len() < 250 && said(&list).len() < 250, "{error}");
        assert!(root.wrong(&"x".repeat(100_000)).0.len() < 2 * LONGEST_ERROR);
    }
}
