//! What tells the input of one review from that of the next and says nothing of either: the uid of the request, the name of the object, when
//! it was made. Where no compiled rule of a bundle reads it ([`super::reads`]), an evaluation comes out the same whatever is there, so it is
//! no part of the key by which that is kept. The rules get it all the same.
//!
//! Only the inside of a text is left out, and its length is not. So two inputs of one key take the same work to parse, and neither can
//! exceed a limit where the other one does not.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::bundle::Omit;

const OBJECT: &str = "object";
const REQUEST_NAME: &str = "request.name";
const REQUEST_UID: &str = "request.uid";
const WORKLOAD_NAME: &str = "workload.name";

/// Which of it a bundle gets and does not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity(Vec<&'static str>);

impl Identity {
    /// Of a bundle whose rules read none of the paths in `unread`, and which does not get those in `omit`.
    pub fn of(unread: &Omit, omit: &Omit) -> Self {
        let is_omitted = |path: &str| {
            omit.contains(path) || path.split_once('.').is_some_and(|(key, _)| omit.contains(key))
        };
        let places = [OBJECT, REQUEST_NAME, REQUEST_UID, WORKLOAD_NAME].into_iter();
        Self(places.filter(|&path| unread.contains(path) && !is_omitted(path)).collect())
    }

    /// Whether the uid of the request is among it, without which no two inputs are the same.
    pub fn has_request_uid(&self) -> bool {
        self.has(REQUEST_UID)
    }

    fn has(&self, path: &str) -> bool {
        self.0.contains(&path)
    }

    /// Where it is in the text of an input: places that do not overlap, in order. What is not as the gate writes it is not among them.
    pub fn places(&self, input: &str) -> Vec<Range<usize>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let texts = self.texts(input).into_iter().filter_map(plain);
        let mut places: Vec<_> = texts.filter_map(|text| range(input, text)).collect();
        places.sort_unstable_by_key(|place| place.start);
        places
    }

    /// The values that are left out.
    fn texts<'j>(&self, input: &'j str) -> Vec<&'j RawValue> {
        let Members { object, request, workload, .. } = Members::of(input);
        let (request, workload) = (Members::within(request), Members::within(workload));
        let metadata = Members::within(Members::within(object).metadata);
        let mut found = Vec::new();
        for (path, values) in [
            (REQUEST_NAME, [request.name, None, None]),
            (REQUEST_UID, [request.uid, None, None]),
            (WORKLOAD_NAME, [workload.name, None, None]),
            (OBJECT, [metadata.name, metadata.uid, metadata.creation_timestamp]),
        ] {
            if self.has(path) {
                found.extend(values.into_iter().flatten());
            }
        }
        if self.has(OBJECT) {
            found.extend(times(metadata.managed_fields));
        }
        found
    }
}

/// Members of an object that are looked for, in any of those that have some.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Members<'j> {
    #[serde(borrow)]
    object: Option<&'j RawValue>,
    #[serde(borrow)]
    request: Option<&'j RawValue>,
    #[serde(borrow)]
    workload: Option<&'j RawValue>,
    #[serde(borrow)]
    metadata: Option<&'j RawValue>,
    #[serde(borrow)]
    name: Option<&'j RawValue>,
    #[serde(borrow)]
    uid: Option<&'j RawValue>,
    #[serde(borrow)]
    creation_timestamp: Option<&'j RawValue>,
    #[serde(borrow)]
    managed_fields: Option<&'j RawValue>,
    #[serde(borrow)]
    time: Option<&'j RawValue>,
}

impl<'j> Members<'j> {
    /// None of what is no object, or has one of them twice.
    fn of(text: &'j str) -> Self {
        // An array would be read as the members in order.
        let is_object = text.starts_with('{');
        is_object.then(|| serde_json::from_str(text).ok()).flatten().unwrap_or_default()
    }

    fn within(value: Option<&'j RawValue>) -> Self {
        value.map(|value| Self::of(value.get())).unwrap_or_default()
    }
}

/// When each writer of the object wrote.
fn times(managed_fields: Option<&RawValue>) -> Vec<&RawValue> {
    let writers: Option<Vec<&RawValue>> = managed_fields.and_then(|all| serde_json::from_str(all.get()).ok());
    writers.into_iter().flatten().filter_map(|writer| Members::within(Some(writer)).time).collect()
}

/// The inside of a text in which no character is escaped.
fn plain(value: &RawValue) -> Option<&str> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('\\')).then_some(inside)
}

/// Where a part of a text is in it.
fn range(text: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn omit(paths: &[&str]) -> Omit {
        paths.iter().map(ToString::to_string).collect()
    }

    /// What is left out of an input, by rules that read none of these.
    fn left_out<'j>(unread: &[&str], input: &'j str) -> Vec<&'j str> {
        let places = Identity::of(&omit(unread), &Omit::new()).places(input);
        places.into_iter().map(|place| input.get(place).unwrap()).collect()
    }

    const ALL: [&str; 4] = [OBJECT, REQUEST_NAME, REQUEST_UID, WORKLOAD_NAME];

    const INPUT: &str = r#"{"apiVersion":"v1","name":"n0","uid":"u0","request":{"uid":"u1","name":"n1","user":{"name":"n2","uid":"u2"}},
        "object": {"kind": "Pod", "metadata": {"name": "n3", "uid": "u3", "creationTimestamp": "t1", "labels": {"name": "n4"},
            "managedFields": [{"manager": "m", "time": "t2"}, {"time": "t3"}, "time"]}, "spec": {"name": "n5"}, "name": "n6"},
        "workload":{"name":"n7","uid":"u7","labels":{"name":"n8"}},"containers":[{"name":"n9"}]}"#;

    #[test]
    fn of_an_input_its_own_identity_is_left_out_and_nothing_else() {
        assert_eq!(left_out(&ALL, INPUT), ["u1", "n1", "n3", "u3", "t1", "t2", "t3", "n7"]);
        assert_eq!(left_out(&[REQUEST_UID], INPUT), ["u1"]);
        assert_eq!(left_out(&[REQUEST_NAME, "request.user", "containers"], INPUT), ["n1"]);
        assert_eq!(left_out(&[WORKLOAD_NAME, "workload.labels"], INPUT), ["n7"]);
        assert_eq!(left_out(&[OBJECT], INPUT), ["n3", "u3", "t1", "t2", "t3"]);
        assert_eq!(left_out(&["request", "workload", "uid", "name"], INPUT), [""; 0]);
    }

    /// The manifest of the baseline omits all of it, so no review of a gate without other bundles looks for it.
    #[test]
    fn what_a_bundle_does_not_get_is_not_looked_for() {
        let unread = omit(&ALL);
        assert_eq!(Identity::of(&unread, &unread), Identity::default());
        let of = |paths: &[&str]| Identity::of(&unread, &omit(paths));
        assert_eq!(of(&["request", "object"]), Identity(vec![WORKLOAD_NAME]));
        assert_eq!(of(&["workload.name"]), Identity(vec![OBJECT, REQUEST_NAME, REQUEST_UID]));
        let has_uid =
            [&["request"][..], &["request.uid"], &["request.name"]].map(|paths| of(paths).has_request_uid());
        assert_eq!(has_uid, [false, false, true]);
    }

    #[test]
    fn what_is_not_as_the_gate_writes_it_is_a_part_of_the_key() {
        for input in [
            "",
            "[]",
            "{",
            r#"["object"]"#,
            r#"{"request":["u1","n1"]}"#,
            r#"{"request":[{"uid":"u1"}]}"#,
            r#"{"request":"uid"}"#,
            r#"{"request":{"uid":1,"name":null}}"#,
            r#"{"request":{"uid":["u1"],"name":{"uid":"u1"}}}"#,
            r#"{"request":{"uid":"u\u0031"}}"#,
            r#"{"request":{"uid":"u1","uid":"u2"}}"#,
            r#"{"request":{"uid":"u1"},"request":{"uid":"u2"}}"#,
            r#"{"object":{"metadata":{"managedFields":{"time":"t"}}}}"#,
            r#"{"request.uid":"u1"}"#,
        ] {
            assert_eq!(left_out(&ALL, input), [""; 0], "{input}");
        }
        assert_eq!(left_out(&ALL, r#"{"request":{"u\u0069d":"u1"}}"#), ["u1"], "the same key");
    }
}
