//! The objects of a cluster, namespace by namespace, of all kinds: each kind is listed in pages, in the order of namespaces, and only the
//! present page of each is held, as text.

use std::collections::VecDeque;

use kube::Client;
use serde_json::Value;
use serde_json::value::RawValue;

use super::pace::Pace;
use super::place::Place;
use crate::review::GroupVersionKind;
use crate::scan::head;
use crate::shares::beside;
use crate::watch::Pages;

/// Objects per page.
const PAGE: u32 = 50;

/// Most bytes of a page of more than one object. A page of each of some twelve kinds is held at once.
const MOST_BYTES: usize = 2 << 20;

/// Largest object that is judged, in bytes of its text: as a value, and with what is found of it, it takes many times as much.
const LARGEST: usize = 512 << 10;

/// Why there is no verdict on an object.
const UNREADABLE: &str = "it could not be read: its parts are nested too deeply";

/// The objects of one kind.
#[derive(Debug)]
pub struct Stream {
    pages: Pages,
    page: VecDeque<(Place, Box<RawValue>)>,
    has_ended: bool,
    /// The namespace of the last object, to see that they come in order.
    last: Place,
}

/// What there is of an object.
#[derive(Debug)]
pub enum Taken {
    /// All of it.
    Whole(Value),
    /// Its head, and why it is not judged.
    Head(Value, String),
}

/// The namespace of an object; empty for what is no object.
fn place(object: &RawValue) -> Place {
    Place(head::of(object).namespace.into_owned())
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
                Ok(Some(page)) => {
                    self.page = beside(|| page.into_iter().map(|item| (place(&item), item)).collect());
                }
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

    /// Bytes of the text of the next object.
    pub fn next_bytes(&self) -> usize {
        self.page.front().map_or(0, |(_, text)| text.get().len())
    }

    /// The next object, of which [`Self::ahead`] has just said the namespace. `None` at the end of the page.
    pub fn take(&mut self) -> Option<Taken> {
        let (Place(namespace), text) = self.page.pop_front()?;
        let size = text.get().len();
        let too_large = (size > LARGEST).then(|| {
            let (own, most) = (size >> 10, LARGEST >> 10);
            format!(
                "it has {own} KiB, and objects of more than {most} KiB are not judged here; \
                 `wasmgate scan --namespace {namespace}` judges it"
            )
        });
        let whole: Option<Value> =
            if too_large.is_some() { None } else { serde_json::from_str(text.get()).ok() };
        let mut taken = match whole {
            Some(object) => Taken::Whole(object),
            None => Taken::Head(head::of(&text).alone(), too_large.unwrap_or_else(|| UNREADABLE.to_owned())),
        };
        let (Taken::Whole(object) | Taken::Head(object, _)) = &mut taken;
        self.pages.complete(object);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;

    use super::*;

    #[test]
    fn the_namespace_is_read_of_any_object() {
        let of = |text: &str| place(&RawValue::from_string(text.into()).unwrap()).0;
        assert_eq!(of(r#"{"spec": [1], "metadata": {"name": "a", "namespace": "sh\u006fp"}}"#), "shop");
        for other in ["{}", "[]", r#"{"metadata": null}"#, r#"{"metadata": {"name": "a"}}"#] {
            assert_eq!(of(other), "", "{other}");
        }
    }

    #[test]
    fn of_what_is_too_large_or_too_deep_only_the_head_is_taken_with_the_reason() {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: "Pod".into(),
            plural: "pods".into(),
        };
        let mut stream = Stream::new(Pages::new(resource, None));
        let mut taken = |spec: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "a", "namespace": "shop", "uid": "u"}}, "spec": {spec}}}"#
            );
            let bytes = text.len();
            let item = RawValue::from_string(text).unwrap();
            stream.page.push_back((place(&item), item));
            assert_eq!(stream.next_bytes(), bytes);
            stream.take().unwrap()
        };
        let Taken::Whole(object) = taken("[1]") else { panic!("a small one") };
        assert_eq!((&object["spec"][0], &object["kind"]), (&Value::from(1), &Value::from("Pod")));
        let large = format!("[\"{}\"]", "x".repeat(LARGEST));
        let Taken::Head(object, reason) = taken(&large) else { panic!("a large one") };
        assert_eq!((&object["metadata"]["uid"], object.get("spec")), (&Value::from("u"), None));
        assert!(reason.starts_with("it has 512 KiB, and objects of more than 512 KiB are"), "{reason}");
        assert!(reason.ends_with("`wasmgate scan --namespace shop` judges it"), "{reason}");
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let Taken::Head(object, reason) = taken(&deep) else { panic!("a deep one") };
        assert_eq!((&object["metadata"]["name"], reason.as_str()), (&Value::from("a"), UNREADABLE));
    }
}
