//! What a decision about a new pod follows from, as a digest. Left out is what differs between the pods of one workload and does not
//! matter: who asks and when, the pod's uid, and the random letters of its name and of its token's volume. Whether these do
//! not matter is looked at when a decision is kept ([`super::names`]).

use std::fmt;
use std::ops::Range;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::policy::PolicySet;
use crate::review::Webhook;
use crate::review::{Operation, Review};
use crate::workload::{Kind, TOKEN_VOLUME};

/// Largest object that is looked for, in bytes. A larger one takes long enough without it.
const LARGEST: usize = 128 << 10;

/// Letters that the API server adds to a name (`kubernetes:staging/src/k8s.io/apiserver/pkg/storage/names/generate.go`).
const RANDOM: usize = 5;
/// The longest name that it makes (`maxNameLength` there). The kubelet cuts the host name of a pod off behind as many, so that
/// what is left of a longer name may be a host that a program reaches.
const LONGEST_GENERATED: usize = 63;

/// A digest of everything that a decision follows from, apart from the state and the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// What tells the pods of one workload apart, as places of the input: what is left out of the key where no rule reads it.
const OWN: [&str; 9] = [
    "workload.name",
    "object.metadata.name",
    "object.metadata.uid",
    "object.metadata.creationTimestamp",
    "object.metadata.managedFields",
    // Where the token's volume is named.
    "object.spec.volumes.0.name",
    "object.spec.containers.0.volumeMounts.0.name",
    "object.spec.initContainers.0.volumeMounts.0.name",
    "object.spec.ephemeralContainers.0.volumeMounts.0.name",
];

/// What the rules of all bundles may read besides facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Nothing that differs between the pods of one workload.
    Facts,
    /// What tells pods of one workload apart, or who asked for them.
    Request,
    /// The identifier of the request: no two reviews are the same.
    Uid,
}

impl Reads {
    pub fn of(policies: &PolicySet) -> Self {
        let reads = |key, below| policies.any_reads(key, below);
        if reads("request", Some("uid")) {
            return Self::Uid;
        }
        let of_request = ["name", "user", "dryRun"].into_iter().any(|below| reads("request", Some(below)));
        let place = |place: &str| place.split('.').map(String::from).collect::<Vec<_>>();
        let reads_own = OWN.into_iter().any(|own| policies.any_reads_at(&place(own)));
        if of_request || reads_own { Self::Request } else { Self::Facts }
    }
}

/// A review of a new pod, and the key of the decision about it.
#[derive(Debug)]
pub struct Question<'a> {
    pub(super) key: Key,
    /// The text of the object.
    pub(super) object: &'a str,
    /// The name of the pod that is not in the key; `None` where it is.
    pub(super) name: Option<&'a str>,
    /// The name of the token's volume that is not in the key, as it stands in the object; `None` where it is.
    token: Option<&'a str>,
    managed_fields: Option<Range<usize>>,
    /// The parts of the object that are not in the key, in their order: objects with the same key are alike but for these.
    pub(super) gaps: Vec<Range<usize>>,
}

impl<'a> Question<'a> {
    /// The question of a review of a new pod; `None` for any other review.
    pub(super) fn of(webhook: Webhook, review: &'a Review, kind: Kind, reads: Reads) -> Option<Self> {
        let is_new = review.operation == Operation::Create && review.sub_resource.is_none();
        let object = review.object.as_deref()?.get();
        if kind != Kind::Pod || !is_new || object.len() > LARGEST {
            return None;
        }
        let metadata = metadata(object)?;
        let managed = metadata.managed_fields.and_then(|part| range(object, part.get()));
        // Rules may read what the volumes of the object are called.
        let is_read = webhook == Webhook::Validate && reads != Reads::Facts;
        let token = if is_read { None } else { token_volume(object) };
        let mut text =
            Text { digest: Sha256::new(), token: token.map(memmem::Finder::new), gaps: Vec::new() };
        text.add(webhook.as_str());
        text.add(&review.namespace);
        let kind = &review.kind;
        for part in [&kind.group, &kind.version, &kind.kind] {
            text.add(part);
        }
        let (mut name, mut cuts) = (None, Some(Vec::new()));
        match (webhook, reads) {
            (Webhook::Validate, Reads::Uid) => return None,
            (Webhook::Validate, Reads::Facts) => {
                name = metadata.generated_name();
                let Metadata { uid, creation_timestamp, managed_fields, .. } = metadata;
                let own = metadata.name.filter(|_| name.is_some());
                let parts = [own, uid, creation_timestamp, managed_fields].into_iter().flatten();
                cuts = parts.map(|part| range(object, part.get())).collect();
            }
            (Webhook::Validate, Reads::Request) => text.add_request(review)?,
            (Webhook::Mutate, _) => {
                let fields = metadata.managed_fields.map(RawValue::get).unwrap_or_default();
                let times = memmem::find_iter(fields.as_bytes(), TIME).filter_map(|at| time(fields, at));
                cuts = times.map(|time| range(object, time)).collect();
            }
        }
        text.add_without(object, cuts?)?;
        let (key, gaps) = text.done();
        Some(Self { key, object, name, token, managed_fields: managed, gaps })
    }

    /// The name of the token's volume, of which nothing that is kept may speak.
    pub(super) const fn token(&self) -> Option<&'a str> {
        self.token
    }

    /// Where `managedFields` stand in the text of the object.
    pub fn managed_fields(&self) -> Option<Range<usize>> {
        self.managed_fields.clone()
    }
}

/// What differs between the pods of one workload, and what tells whether it matters, as text.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    generate_name: Option<&'a RawValue>,
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
    #[serde(borrow)]
    creation_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

/// The metadata of an object. What comes after them is not looked at: the API server writes the spec there, and all of it is in the key.
fn metadata(object: &str) -> Option<Metadata<'_>> {
    let mut found = None;
    // The error is that there is more.
    let _ = serde_json::Deserializer::from_str(object).deserialize_map(Head(&mut found));
    found
}

/// Reads an object up to the end of its metadata.
struct Head<'b, 'a>(&'b mut Option<Metadata<'a>>);

impl<'a> Visitor<'a> for Head<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&'a str>()? {
            if key == "metadata" {
                *self.0 = map.next_value()?;
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Where a part of a text is in it.
fn range(text: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start..end)
}

/// What a time in `managedFields` begins with.
const TIME: &[u8] = b"\"time\":\"";

/// The time that begins here, if it is one as the API server writes it (RFC 3339, in seconds).
fn time(managed: &str, at: usize) -> Option<&str> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00Z";
    let start = at.checked_add(TIME.len())?;
    let time = managed.get(start..start.checked_add(SHAPE.len())?)?;
    let fits = |(own, wanted): (u8, &u8)| if *wanted == b'0' { own.is_ascii_digit() } else { own == *wanted };
    time.bytes().zip(SHAPE).all(fits).then_some(time)
}

/// Hashes texts, each so that none can be taken for a part of another one, and the object without the name of the token's volume.
struct Text<'a> {
    digest: Sha256,
    token: Option<memmem::Finder<'a>>,
    /// What was left out of the object so far.
    gaps: Vec<Range<usize>>,
}

impl Text<'_> {
    /// The digest, and what was left out of the object.
    fn done(self) -> (Key, Vec<Range<usize>>) {
        (Key(self.digest.finalize().into()), self.gaps)
    }

    fn add(&mut self, text: &str) {
        self.add_part(text.as_bytes(), 1);
    }

    /// A part of the object, from this place of it on. Beside it, in the namespace or the name of the user, the name of a token's volume is one like any other.
    fn add_of_object(&mut self, text: &str, place: usize) {
        let bytes = text.as_bytes();
        let Some(token) = self.token.take() else { return self.add(text) };
        let mut start = 0;
        for at in token.find_iter(bytes) {
            self.add_part(bytes.get(start..at).unwrap_or_default(), 2);
            start = at.saturating_add(token.needle().len());
            self.gaps.push(place.saturating_add(at)..place.saturating_add(start));
        }
        self.add_part(bytes.get(start..).unwrap_or_default(), 3);
        self.token = Some(token);
    }

    fn add_part(&mut self, part: &[u8], mark: u8) {
        self.digest.update([mark]);
        self.digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.digest.update(part);
    }

    /// A text without these parts of it.
    fn add_without(&mut self, text: &str, mut cuts: Vec<Range<usize>>) -> Option<()> {
        cuts.sort_unstable_by_key(|cut| cut.start);
        let mut start = 0;
        for cut in cuts {
            self.add_of_object(text.get(start..cut.start)?, start);
            start = cut.end;
            self.gaps.push(cut);
        }
        self.add_of_object(text.get(start..)?, start);
        Some(())
    }

    /// Who asks for what, as rules may read it.
    fn add_request(&mut self, review: &Review) -> Option<()> {
        self.add(&review.name);
        self.add(&serde_json::to_string(&review.user).ok()?);
        self.digest.update([u8::from(review.dry_run)]);
        Some(())
    }
}

impl<'a> Metadata<'a> {
    /// The name, if the API server made it, of a pod to which it means nothing. A StatefulSet's pod is known by its name.
    fn generated_name(&self) -> Option<&'a str> {
        let plain = |text: Option<&'a RawValue>| {
            let text = text?.get().strip_prefix('"')?.strip_suffix('"')?;
            Some(text).filter(|text| !text.is_empty() && !text.contains('\\'))
        };
        let (name, start) = (plain(self.name)?, plain(self.generate_name)?);
        let owners = self.owner_references.map(RawValue::get).unwrap_or_default();
        let is_generated = name.len() <= LONGEST_GENERATED && is_random(name.strip_prefix(start)?);
        (is_generated && !owners.contains("StatefulSet") && !owners.contains('\\')).then_some(name)
    }
}

/// Whether these are the letters that the API server adds to a name.
fn is_random(letters: &str) -> bool {
    letters.len() == RANDOM && letters.bytes().all(|letter| b"bcdfghjklmnpqrstvwxz2456789".contains(&letter))
}

/// The name of the token's volume, where the text has one with random letters, and cannot have it in another spelling too.
fn token_volume(object: &str) -> Option<&str> {
    let start = memmem::find(object.as_bytes(), TOKEN_VOLUME.as_bytes())?;
    let end = start.checked_add(TOKEN_VOLUME.len())?.checked_add(RANDOM)?;
    let name = object.get(start..end)?;
    let is_whole = object.get(end..)?.starts_with('"');
    let is_random = is_random(name.strip_prefix(TOKEN_VOLUME)?);
    (is_whole && is_random && !spells_letters(object)).then_some(name)
}

/// Whether a text has a letter of a volume's name as its number. Go writes `&`, `<` and `>` so, which many commands have, and no letter
/// (`golang/go:src/encoding/json/encode.go`, `appendString`).
fn spells_letters(object: &str) -> bool {
    memmem::find_iter(object.as_bytes(), b"\\u").any(|at| {
        let digits = at.checked_add(2).and_then(|start| object.get(start..start.checked_add(4)?));
        let number = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        number.is_none_or(|number| {
            let letter = u8::try_from(number);
            letter.is_ok_and(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'-')
        })
    })
}

#[cfg(test)]
impl<'a> Question<'a> {
    /// A question with nothing in it but a name that is left out.
    pub(super) const fn of_name(name: Option<&'a str>) -> Self {
        Self { key: Key([0; 32]), object: "", name, token: None, managed_fields: None, gaps: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const WORKLOAD: &str = "web-5d8f-";

    fn body(pod: &Value) -> Vec<u8> {
        let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
        let resource = json!({"group": "", "version": "v1", "resource": "pods"});
        let request = json!({
            "uid": "u-1", "operation": "CREATE", "namespace": "shop", "kind": kind, "resource": resource,
            "userInfo": {"username": "dev"}, "object": pod,
        });
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        review.to_string().into_bytes()
    }

    fn pod(name: &str, token: &str) -> Value {
        json!({
            "metadata": {
                "name": name, "generateName": WORKLOAD, "uid": name, "labels": {"app": "web"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1"}],
                "managedFields": [{"manager": "m", "time": name, "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "volumes": [{"name": token}],
                "containers": [{"name": "app", "image": "a", "volumeMounts": [{"name": token, "mountPath": "/a"}]}],
            },
        })
    }

    fn key(webhook: Webhook, reads: Reads, pod: &Value) -> Key {
        let review = crate::review::parse(&body(pod)).unwrap();
        Question::of(webhook, &review, Kind::Pod, reads).unwrap().key
    }

    fn validated(pod: &Value) -> Key {
        key(Webhook::Validate, Reads::Facts, pod)
    }

    #[test]
    fn a_question_says_where_managed_fields_stand() {
        let mut pod = pod("web-5d8f-bcdfg", "kube-api-access-bcdfg");
        pod["spec"]["managedFields"] = json!("others");
        let written = pod["metadata"]["managedFields"].to_string();
        let found = |pod: &Value, webhook, reads| {
            let review = crate::review::parse(&body(pod)).unwrap();
            let question = Question::of(webhook, &review, Kind::Pod, reads).unwrap();
            let text = review.object.as_deref().unwrap().get();
            question.managed_fields().map(|place| text.get(place).unwrap().to_string())
        };
        for (webhook, reads) in [
            (Webhook::Validate, Reads::Facts),
            (Webhook::Validate, Reads::Request),
            (Webhook::Mutate, Reads::Facts),
        ] {
            assert_eq!(found(&pod, webhook, reads).as_ref(), Some(&written), "{webhook:?} {reads:?}");
        }
        pod["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(found(&pod, Webhook::Validate, Reads::Facts), None);
    }

    #[test]
    fn the_objects_of_one_question_are_the_same_text_beside_their_gaps() {
        let parts = |webhook, pod: &Value| {
            let review = crate::review::parse(&body(pod)).unwrap();
            let question = Question::of(webhook, &review, Kind::Pod, Reads::Facts).unwrap();
            let (mut start, mut parts) = (0, Vec::new());
            for gap in &question.gaps {
                parts.push(question.object.get(start..gap.start).unwrap().to_owned());
                start = gap.end;
            }
            parts.push(question.object.get(start..).unwrap().to_owned());
            parts
        };
        let [mut one, mut other] = ["bcdfg", "x2k4p"]
            .map(|random| pod(&format!("{WORKLOAD}{random}"), &format!("kube-api-access-{random}")));
        let validated = parts(Webhook::Validate, &one);
        assert_eq!(validated, parts(Webhook::Validate, &other));
        // The name, the uid, `managedFields`, and the token's volume and its mount.
        assert_eq!(validated.len(), 6);
        for (pod, time) in [(&mut one, "2026-11-02T09:30:10Z"), (&mut other, "2026-11-02T09:30:11Z")] {
            pod["metadata"]["managedFields"][0]["time"] = json!(time);
            pod["metadata"]["name"] = json!("web");
            pod["metadata"]["uid"] = json!("1");
        }
        let mutated = parts(Webhook::Mutate, &one);
        assert_eq!(mutated, parts(Webhook::Mutate, &other));
        assert_eq!(mutated.len(), 4);
    }

    #[test]
    fn the_pods_of_a_workload_are_one_question_and_every_other_pod_is_another() {
        let one = pod("web-5d8f-bcdfg", "kube-api-access-bcdfg");
        assert_eq!(validated(&one), validated(&pod("web-5d8f-x2k4p", "kube-api-access-x2k4p")));
        let changed = |pointer: &str, value: Value| {
            let mut pod = one.clone();
            *pod.pointer_mut(pointer).unwrap() = value;
            pod
        };
        for (pointer, value) in [
            ("/metadata/name", json!("web-5d8f-other1")),
            ("/metadata/name", json!("web")),
            ("/metadata/generateName", json!("web-")),
            ("/metadata/name", json!("web-5d8f-bcdfg/")),
            ("/metadata/labels", json!({"app": "other"})),
            ("/metadata/labels", Value::Null),
            ("/metadata/ownerReferences/0/kind", json!("StatefulSet")),
            ("/spec/containers/0/image", json!("b")),
            ("/spec/containers/0/volumeMounts/0/name", json!("kube-api-access-x2k4p")),
            ("/spec/volumes/0/name", json!("data")),
        ] {
            assert_ne!(validated(&one), validated(&changed(pointer, value.clone())), "{pointer} {value}");
        }
    }

    #[test]
    fn a_name_that_is_longer_than_a_host_name_counts() {
        let of = |start: usize, random: &str| {
            let start = "w".repeat(start);
            let mut pod = pod(&format!("{start}{random}"), "data");
            pod["metadata"]["generateName"] = json!(start);
            validated(&pod)
        };
        assert_eq!(of(58, "bcdfg"), of(58, "x2k4p"));
        for start in [59, 61, 63, 200] {
            assert_ne!(of(start, "bcdfg"), of(start, "x2k4p"), "{start}");
        }
    }

    #[test]
    fn the_name_of_a_pod_of_a_stateful_set_counts() {
        let of = |random: &str| {
            let mut pod = pod(&format!("{WORKLOAD}{random}"), "data");
            pod["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
            validated(&pod)
        };
        assert_ne!(of("bcdfg"), of("x2k4p"));
    }

    #[test]
    fn what_rules_read_of_the_request_counts_and_with_its_identifier_nothing_is_asked() {
        let [one, other] = ["bcdfg", "x2k4p"].map(|random| pod(&format!("{WORKLOAD}{random}"), "data"));
        assert_eq!(validated(&one), validated(&other));
        let request = |pod| key(Webhook::Validate, Reads::Request, pod);
        assert_eq!(request(&one), request(&one));
        assert_ne!(request(&one), request(&other));
        let review = crate::review::parse(&body(&one)).unwrap();
        assert!(Question::of(Webhook::Validate, &review, Kind::Pod, Reads::Uid).is_none());
    }

    /// Two pods that differ in the letters of their token's volume alone, which a rule may compare.
    #[test]
    fn the_name_of_the_tokens_volume_counts_where_rules_read_the_object() {
        let [one, other] =
            ["bcdfg", "x2k4p"].map(|random| pod("web-5d8f-bcdfg", &format!("kube-api-access-{random}")));
        let token = |reads, pod: &Value| {
            let review = crate::review::parse(&body(pod)).unwrap();
            Question::of(Webhook::Validate, &review, Kind::Pod, reads).unwrap().token().is_some()
        };
        for (reads, is_left_out) in [(Reads::Facts, true), (Reads::Request, false)] {
            let is_same = key(Webhook::Validate, reads, &one) == key(Webhook::Validate, reads, &other);
            assert_eq!((is_same, token(reads, &one)), (is_left_out, is_left_out), "{reads:?}");
        }
    }

    /// The API server writes `&` as its number, and a pod's author may write a letter so.
    #[test]
    fn the_name_of_the_tokens_volume_counts_where_a_text_may_spell_it_by_numbers() {
        let of = |webhook, token: &str, written: &str| {
            let mut pod = pod("web-5d8f-bcdfg", token);
            pod["spec"]["containers"][0]["args"] = json!(["a WRITTEN b"]);
            let body = String::from_utf8(body(&pod)).unwrap().replace("WRITTEN", written);
            let review = crate::review::parse(body.as_bytes()).unwrap();
            Question::of(webhook, &review, Kind::Pod, Reads::Facts).unwrap().key
        };
        for (written, is_left_out) in [
            ("&&", true),
            (r"\u0026\u0026", true),
            (r"\u003e \u2028 \ud83d\ude00", true),
            (r"kube\u002daccess", false),
            (r"\u0062", false),
            (r"\u0038", false),
        ] {
            for webhook in [Webhook::Validate, Webhook::Mutate] {
                let [one, other] = ["kube-api-access-bcdfg", "kube-api-access-x2k4p"];
                let is_same = of(webhook, one, written) == of(webhook, other, written);
                assert_eq!(is_same, is_left_out, "{webhook:?} {written}");
            }
        }
    }

    #[test]
    fn who_asks_counts_where_rules_may_read_that_and_nowhere_else() {
        let pod = pod("web-5d8f-bcdfg", "data");
        let of = |reads, part: &str, value: Value| {
            let mut body: Value = serde_json::from_slice(&body(&pod)).unwrap();
            body["request"][part] = value;
            let review = crate::review::parse(body.to_string().as_bytes()).unwrap();
            Question::of(Webhook::Validate, &review, Kind::Pod, reads).unwrap().key
        };
        for (part, one, other) in [
            ("userInfo", json!({"username": "dev"}), json!({"username": "root"})),
            (
                "userInfo",
                json!({"username": "dev", "groups": ["a"]}),
                json!({"username": "dev", "groups": ["b"]}),
            ),
            ("dryRun", json!(false), json!(true)),
            ("name", json!("web-1"), json!("web-2")),
        ] {
            assert_ne!(
                of(Reads::Request, part, one.clone()),
                of(Reads::Request, part, other.clone()),
                "{part}"
            );
            assert_eq!(of(Reads::Facts, part, one), of(Reads::Facts, part, other), "{part}");
        }
    }

    /// Who asks, and in which namespace, may be named like the volume.
    #[test]
    fn the_name_of_the_token_s_volume_is_left_out_of_the_object_alone() {
        let of = |reads, token: &str, user: &str, namespace: &str| {
            let mut body: Value = serde_json::from_slice(&body(&pod("web-5d8f-bcdfg", token))).unwrap();
            body["request"]["userInfo"]["username"] = json!(user);
            body["request"]["namespace"] = json!(namespace);
            let review = crate::review::parse(body.to_string().as_bytes()).unwrap();
            Question::of(Webhook::Validate, &review, Kind::Pod, reads).unwrap().key
        };
        let [one, other] = ["kube-api-access-bcdfg", "kube-api-access-x2k4p"];
        assert_eq!(of(Reads::Facts, one, "dev", "shop"), of(Reads::Facts, other, "dev", "shop"));
        assert_ne!(of(Reads::Facts, one, "dev", one), of(Reads::Facts, other, "dev", other));
        // Where rules may read the object, it counts anyway.
        assert_ne!(of(Reads::Request, one, "dev", "shop"), of(Reads::Request, other, "dev", "shop"));
    }

    #[test]
    fn the_mutating_webhook_asks_about_the_whole_object_but_for_times() {
        let of = |pod: &Value| key(Webhook::Mutate, Reads::Facts, pod);
        let one = pod("web", "kube-api-access-bcdfg");
        let mut later = pod("web", "kube-api-access-x2k4p");
        let mut one = one;
        for (pod, time) in [(&mut one, "2026-11-02T09:30:10Z"), (&mut later, "2026-11-02T09:30:11Z")] {
            pod["metadata"]["managedFields"][0]["time"] = json!(time);
        }
        assert_eq!(of(&one), of(&later));
        later["metadata"]["managedFields"][0]["time"] = json!("now");
        assert_ne!(of(&one), of(&later));
        later["metadata"]["managedFields"][0]["time"] = json!("2026-11-02T09:30:11Z");
        later["metadata"]["managedFields"][0]["fieldsV1"] = json!({});
        assert_ne!(of(&one), of(&later));
        assert_ne!(of(&one), of(&pod("web2", "kube-api-access-bcdfg")));
        assert_ne!(of(&one), validated(&one));
    }

    /// A name that is not the API server's own, or that may stand in another spelling, is a part of the question.
    #[test]
    fn only_the_name_that_the_api_server_makes_is_left_out() {
        assert_eq!(token_volume(r#"{"name":"kube-api-access-x2k4p"}"#), Some("kube-api-access-x2k4p"));
        for spec in [
            r#"{"name":"kube-api-access-x2k4pp"}"#,
            r#"{"name":"kube-api-access-aaaaa"}"#,
            r#"{"name":"kube-api-access-"}"#,
            r#"{"name":"kube-api-access-x2k4p","b":"\u006b"}"#,
            r#"{"name":"data"}"#,
        ] {
            assert_eq!(token_volume(spec), None, "{spec}");
        }
        assert_eq!(token_volume(r#"{"a":"kube-api-access-é2k4p"}"#), None);
    }

    /// Where a spec may speak of a pod, its own or another one.
    const SPOKEN: [&str; 7] = [
        "/metadata/annotations/peer",
        "/metadata/labels/peer",
        "/spec/hostname",
        "/spec/hostAliases/0/hostnames/0",
        "/spec/volumes/0/persistentVolumeClaim/claimName",
        "/spec/containers/0/args/0",
        "/spec/containers/0/env/0/value",
    ];

    /// A pod with these letters in its name, which has a text at one of those places.
    fn speaking(random: &str, place: &str, text: &str) -> Value {
        let mut pod = pod(&format!("{WORKLOAD}{random}"), "kube-api-access-bcdfg");
        pod["metadata"]["annotations"] = json!({"peer": ""});
        pod["metadata"]["labels"]["peer"] = json!("");
        pod["spec"] = json!({
            "hostname": "",
            "hostAliases": [{"ip": "192.0.2.1", "hostnames": [""]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": ""}}],
            "containers": [{"name": "app", "image": "a", "args": [""], "env": [{"name": "PEER", "value": ""}]}],
        });
        *pod.pointer_mut(place).unwrap() = json!(text);
        pod
    }

    proptest! {
        /// The name is left out where it is the pod's own, and nowhere else: a host, a variable or a claim that is named like the pod may lead
        /// each pod of a workload elsewhere.
        #[test]
        fn a_name_of_which_the_spec_speaks_is_part_of_the_question(
            random in "[bcdfghjklmnpqrstvwxz2456789]{5}",
            other in "[bcdfghjklmnpqrstvwxz2456789]{5}",
            before in "(data-|https://)?",
            after in "(-0|\\.web\\.shop\\.svc|:8080/)?",
            place in prop::sample::select(SPOKEN.to_vec()),
        ) {
            let of = |own: &str, spoken: &str| {
                validated(&speaking(own, place, &format!("{before}{WORKLOAD}{spoken}{after}")))
            };
            let own = of(&random, &random);
            prop_assert_eq!(own, of(&other, &random), "a sibling that has the same text there");
            prop_assert_eq!(own == of(&other, &other), random == other, "a sibling that has its own name there");
            prop_assert_eq!(own == of(&random, &other), random == other, "the same pod with a sibling's name there");
        }
    }

    /// The claim of a StatefulSet's pod has the pod's name in it, which has no random letters: `data-web-0`.
    #[test]
    fn the_claim_of_a_pod_of_a_stateful_set_is_part_of_the_question() {
        let of = |claim: &str| {
            let mut pod = pod("web-0", "kube-api-access-bcdfg");
            pod["metadata"]["generateName"] = json!("web-");
            pod["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
            pod["spec"]["volumes"][0]["persistentVolumeClaim"] = json!({"claimName": claim});
            validated(&pod)
        };
        assert_eq!(of("data-web-0"), of("data-web-0"));
        assert_ne!(of("data-web-0"), of("data-web-1"));
    }
}
