//! The objects of a cluster, namespace by namespace, of all kinds: each kind is listed in pages, in the order of namespaces, and only the
//! present page of each is held, as text.

use std::collections::VecDeque;

use kube::Client;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::pace::Pace;
use super::place::Place;
use crate::review::GroupVersionKind;
use crate::watch::Pages;

/// Objects per page.
const PAGE: u32 = 50;

/// Most bytes of a page of more than one object. A page of each of some twelve kinds is held at once.
const MOST_BYTES: usize = 2 << 20;

/// The objects of one kind.
#[derive(Debug)]
pub struct Stream {
    pages: Pages,
    page: VecDeque<(Place, Box<RawValue>)>,
    has_ended: bool,
    /// The namespace of the last object, to see that they come in order.
    last: Place,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(default, borrow)]
    namespace: std::borrow::Cow<'a, str>,
}

/// The namespace of an object; empty for what is no object.
fn place(object: &RawValue) -> Place {
    let head: Option<Head<'_>> = serde_json::from_str(object.get()).ok();
    let namespace = head.and_then(|head| head.metadata).map(|metadata| metadata.namespace.into_owned());
    Place(namespace.unwrap_or_default())
}

impl Stream {
    /// The objects that these pages list.
    pub fn new(pages: Pages) -> Self {
        Self {
            pages: pages.of_size(PAGE).growing(),
            page: VecDeque::new(),
            has_ended: false,
            last: Place::default(),
        }
    }

    /// The kind, for messages and for objects, which a list does not say it of.
    pub fn kind(&self) -> GroupVersionKind {
        let resource = self.pages.resource();
        GroupVersionKind {
            group: resource.group.clone(),
            version: resource.version.clone(),
            kind: resource.kind.clone(),
        }
    }

    /// Whether only the metadata of the objects is listed.
    pub const fn is_of_metadata(&self) -> bool {
        self.pages.is_of_metadata()
    }

    /// The namespace of the next object; `None` after the last one. Asks for the next page where it has to.
    ///
    /// # Errors
    ///
    /// Where the page cannot be had, or the objects do not come in order. There are no further objects then.
    pub async fn ahead(&mut self, client: &Client, pace: &mut Pace) -> Result<Option<Place>, String> {
        while self.page.is_empty() && !self.has_ended {
            pace.turn().await;
            match self.pages.next_raw(client, MOST_BYTES).await {
                Ok(Some(page)) => self.page = page.into_iter().map(|item| (place(&item), item)).collect(),
                Ok(None) => self.has_ended = true,
                Err(error) => {
                    self.has_ended = true;
                    return Err(error.to_string());
                }
            }
        }
        let Some((next, _)) = self.page.front() else { return Ok(None) };
        let next = next.clone();
        if next < self.last {
            (self.has_ended, self.page) = (true, VecDeque::new());
            return Err(format!(
                "{} are not listed in the order of their namespaces",
                self.pages.resource().plural
            ));
        }
        self.last = next.clone();
        Ok(Some(next))
    }

    /// The next object, of which [`Self::ahead`] has just said the namespace. `None` for what cannot be read.
    pub fn take(&mut self) -> Option<Value> {
        let (_, text) = self.page.pop_front()?;
        let mut object: Value = serde_json::from_str(text.get()).ok()?;
        self.pages.complete(&mut object);
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_read_of_any_object() {
        let of = |text: &str| place(&RawValue::from_string(text.into()).unwrap()).0;
        assert_eq!(of(r#"{"spec": [1], "metadata": {"name": "a", "namespace": "sh\u006fp"}}"#), "shop");
        for other in ["{}", "[]", r#"{"metadata": null}"#, r#"{"metadata": {"name": "a"}}"#] {
            assert_eq!(of(other), "", "{other}");
        }
    }
}
