//! Which pods a grant or an exception is for: the pod and image of a review, the selectors that must match them, and
//! the buckets by service account, image and label of the pod with which a review need not look at every object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::ops::Bound;
use std::sync::Arc;

use super::types::{LabelRequirement, LabelSelector, Operator, Subjects};
use crate::capability::glob;
use crate::image::reference::{repository, spellings};

/// Label that the API server puts on every namespace with the namespace's own name
/// (`kubernetes:staging/src/k8s.io/api/core/v1/types.go` `LabelMetadataName`).
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The pod and image that a grant must match.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Labels of the namespace; empty when they are unknown.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// `ServiceAccount` of the pod; `default` when it names none.
    pub service_account: &'a str,
    /// Labels of the pod.
    pub labels: &'a BTreeMap<String, String>,
    /// Image of the container, as written.
    pub image: &'a str,
}

/// Objects of one bucket, by the service accounts that their subjects name.
#[derive(Debug, Clone)]
pub(super) struct ByAccount<T> {
    /// How many objects were inserted.
    count: usize,
    any: ByImage<T>,
    named: HashMap<String, ByImage<T>>,
}

impl<T> Default for ByAccount<T> {
    fn default() -> Self {
        Self { count: 0, any: ByImage::default(), named: HashMap::new() }
    }
}

impl<T> ByAccount<T> {
    pub fn insert(&mut self, object: &Arc<T>, subjects: Option<&Subjects>) {
        self.count += 1;
        let accounts: BTreeSet<&String> = subjects.iter().flat_map(|s| &s.service_accounts).collect();
        let images = subjects.map_or(&[][..], |subjects| &subjects.images);
        let selector = subjects.and_then(|subjects| subjects.pod_selector.as_ref());
        if accounts.is_empty() {
            self.any.insert(object, images, selector);
        }
        for account in accounts {
            self.named.entry(account.clone()).or_default().insert(object, images, selector);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Those of an account, whatever their images and the labels of their pods; one that names several of either comes as often.
    pub fn of<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a Arc<T>> {
        self.both(account).flat_map(ByImage::all)
    }

    /// Those that may be for an image of these [`image_forms`] in a pod with these labels; one whose images match several of the
    /// forms may come as often.
    pub fn for_image<'a>(
        &'a self,
        account: &str,
        forms: &'a [String],
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        self.both(account).flat_map(move |bucket| bucket.of(forms)).flat_map(move |bucket| bucket.of(labels))
    }

    fn both<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a ByImage<T>> {
        iter::once(&self.any).chain(self.named.get(account))
    }
}

/// Objects by the images that their subjects name.
#[derive(Debug, Clone)]
struct ByImage<T> {
    /// Those for any image, or with a pattern that begins and ends with `*`.
    any: ByLabel<T>,
    exact: HashMap<String, ByLabel<T>>,
    /// By what stands before the first `*` of a pattern.
    starts: ByStart<T>,
    /// By what stands behind the last one, from the end of it, where that is longer: `*@sha256:…` names one digest.
    ends: ByStart<T>,
}

impl<T> Default for ByImage<T> {
    fn default() -> Self {
        let (starts, ends) = (ByStart::default(), ByStart::default());
        Self { any: ByLabel::default(), exact: HashMap::new(), starts, ends }
    }
}

/// Where an object with a pattern of image names is found.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Any,
    Exact(&'a str),
    Start(&'a str),
    End(&'a str),
}

impl<'a> Place<'a> {
    fn of(pattern: &'a str) -> Self {
        match (pattern.split_once('*'), pattern.rsplit_once('*')) {
            (Some(("", _)), Some((_, ""))) => Self::Any,
            (Some((start, _)), Some((_, end))) if start.len() < end.len() => Self::End(end),
            (Some((start, _)), _) => Self::Start(start),
            (None, _) => Self::Exact(pattern),
        }
    }
}

impl<T> ByImage<T> {
    fn insert(&mut self, object: &Arc<T>, images: &[String], selector: Option<&LabelSelector>) {
        let places: BTreeSet<Place<'_>> = images.iter().map(|pattern| Place::of(pattern)).collect();
        if places.is_empty() || places.contains(&Place::Any) {
            self.any.insert(object, selector);
            return;
        }
        for place in places {
            let bucket = match place {
                Place::Any => &mut self.any,
                Place::Exact(name) => self.exact.entry(name.to_owned()).or_default(),
                Place::Start(start) => self.starts.entry(start.bytes()),
                Place::End(end) => self.ends.entry(end.bytes().rev()),
            };
            bucket.insert(object, selector);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        let patterns = self.starts.0.values().chain(self.ends.0.values());
        iter::once(&self.any).chain(self.exact.values()).chain(patterns).flat_map(ByLabel::all)
    }

    /// The buckets in which an object may be that is for an image of these forms.
    fn of<'a>(&'a self, forms: &'a [String]) -> impl Iterator<Item = &'a ByLabel<T>> {
        let exact = forms.iter().filter_map(move |form| self.exact.get(form));
        let starts = self.starts.of(forms.iter().map(|form| form.bytes().collect::<Vec<u8>>()));
        let ends = self.ends.of(forms.iter().map(|form| form.bytes().rev().collect::<Vec<u8>>()));
        iter::once(&self.any).chain(exact).chain(starts).chain(ends)
    }
}

/// Objects by what a name has to begin with.
#[derive(Debug, Clone)]
struct ByStart<T>(BTreeMap<Vec<u8>, ByLabel<T>>);

impl<T> Default for ByStart<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ByStart<T> {
    fn entry(&mut self, start: impl Iterator<Item = u8>) -> &mut ByLabel<T> {
        self.0.entry(start.collect()).or_default()
    }

    /// Those of every beginning of these names, each once.
    fn of<'a>(&'a self, names: impl Iterator<Item = Vec<u8>>) -> impl Iterator<Item = &'a ByLabel<T>> {
        let mut found: BTreeMap<&'a [u8], &'a ByLabel<T>> = BTreeMap::new();
        if !self.0.is_empty() {
            for name in names {
                self.add(&name, &mut found);
            }
        }
        found.into_values()
    }

    /// Whatever stands in order between a beginning of a name and the name begins so too. So of the texts up to the name the last one
    /// has in common with it all that another beginning may be. Each step makes the name shorter.
    fn add<'a>(&'a self, name: &[u8], found: &mut BTreeMap<&'a [u8], &'a ByLabel<T>>) {
        let mut left = Some(name);
        while let Some(name) = left {
            let up_to_name: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Included(name));
            let Some((start, bucket)) = self.0.range::<[u8], _>(up_to_name).next_back() else { return };
            let common = start.iter().zip(name).take_while(|(one, other)| one == other).count();
            left = if common == start.len() {
                found.insert(start, bucket);
                common.checked_sub(1).and_then(|shorter| name.get(..shorter))
            } else {
                name.get(..common)
            };
        }
    }
}

/// Objects by a label that their selector of pods requires.
#[derive(Debug, Clone)]
struct ByLabel<T> {
    /// Those whose selector requires no label value.
    any: Vec<Arc<T>>,
    /// Label → value → objects.
    required: HashMap<String, HashMap<String, Vec<Arc<T>>>>,
}

impl<T> Default for ByLabel<T> {
    fn default() -> Self {
        Self { any: Vec::new(), required: HashMap::new() }
    }
}

impl<T> ByLabel<T> {
    fn insert(&mut self, object: &Arc<T>, selector: Option<&LabelSelector>) {
        let rarest =
            selector.and_then(|selector| rarest_label(selector, |key, value| self.count(key, value)));
        let Some((key, values)) = rarest else {
            self.any.push(Arc::clone(object));
            return;
        };
        let by_value = self.required.entry(key.to_owned()).or_default();
        for value in values {
            by_value.entry(value.to_owned()).or_default().push(Arc::clone(object));
        }
    }

    /// How many objects there are so far for a value of a label.
    fn count(&self, key: &str, value: &str) -> usize {
        self.required.get(key).and_then(|by_value| by_value.get(value)).map_or(0, Vec::len)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.any.iter().chain(self.required.values().flat_map(HashMap::values).flatten())
    }

    /// Those that may be for a pod with these labels. Goes through the shorter list of labels: a tenant chooses how many a pod has.
    fn of<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a Arc<T>> {
        let is_shorter = self.required.len() <= labels.len();
        let required = is_shorter.then(|| self.required.iter()).into_iter().flatten();
        let required = required.filter_map(move |(key, by_value)| by_value.get(labels.get(key)?));
        let given = (!is_shorter).then(|| labels.iter()).into_iter().flatten();
        let given = given.filter_map(move |(key, value)| self.required.get(key)?.get(value));
        self.any.iter().chain(required.chain(given).flatten())
    }
}

/// The label that a selector requires and the fewest others require so far, with the values of which a pod or a namespace must have one;
/// `managed-by: Helm` would tell none apart. `None` where it requires no label value. `count` is how many there are for a value of a label.
pub(super) fn rarest_label(
    selector: &LabelSelector,
    count: impl Fn(&str, &str) -> usize,
) -> Option<(&str, BTreeSet<&str>)> {
    required_labels(selector)
        .min_by_key(|(key, values)| values.iter().map(|value| count(key, value)).max().unwrap_or_default())
}

/// The labels that a selector requires, each with the values of which a pod or a namespace must have one.
fn required_labels(selector: &LabelSelector) -> impl Iterator<Item = (&str, BTreeSet<&str>)> {
    let equal =
        selector.match_labels.iter().map(|(key, value)| (key.as_str(), BTreeSet::from([value.as_str()])));
    // Without values none has one of them; such an object is always found, and matches nothing.
    let among =
        selector.match_expressions.iter().filter(|r| r.operator == Operator::In && !r.values.is_empty());
    let among = among.map(|r| (r.key.as_str(), r.values.iter().map(String::as_str).collect()));
    equal.chain(among)
}

/// The namespace's labels, with the one that every namespace has.
pub(super) fn namespace_labels<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let written = subject.namespace_labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let unwritten = !subject.namespace_labels.contains_key(NAMESPACE_NAME_LABEL);
    written.chain(unwritten.then_some((NAMESPACE_NAME_LABEL, subject.namespace)))
}

/// The value of one of them.
fn namespace_label<'a>(subject: &Subject<'a>, key: &str) -> Option<&'a str> {
    let written = subject.namespace_labels.get(key).map(String::as_str);
    written.or_else(|| (key == NAMESPACE_NAME_LABEL).then_some(subject.namespace))
}

/// The forms of an image name that a pattern may match: as written, without its digest, without its tag, without both,
/// and with `:latest` where it has neither; each in every spelling of its repository.
pub(super) fn image_forms(image: &str) -> Vec<String> {
    let repository = repository(image);
    let behind = image.get(repository.len()..).unwrap_or_default();
    let (tag, digest) = behind.find('@').and_then(|at| behind.split_at_checked(at)).unwrap_or((behind, ""));
    let mut endings = vec!["", tag];
    match digest {
        "" if tag.is_empty() => endings.push(":latest"),
        "" => {}
        digest => endings.extend([digest, behind]),
    }
    endings.sort_unstable();
    endings.dedup();
    let spellings = spellings(repository);
    let of_name =
        |name: &String| endings.iter().map(|ending| [name.as_str(), *ending].concat()).collect::<Vec<_>>();
    spellings.iter().flat_map(of_name).collect()
}

/// Whether a pattern, as in `subjects.images` of a grant, matches an image as written.
pub fn matches_image(pattern: &str, image: &str) -> bool {
    image_forms(image).iter().any(|form| glob::covers(pattern, form))
}

/// Whether the subjects include a container, whose image has these [`image_forms`]. Ignores the namespace.
pub(super) fn includes(subjects: &Subjects, subject: &Subject<'_>, forms: &[String]) -> bool {
    let account = &subjects.service_accounts;
    let label = |key: &str| subject.labels.get(key).map(String::as_str);
    let covered = |pattern: &String| forms.iter().any(|form| glob::covers(pattern, form));
    (account.is_empty() || account.iter().any(|name| name == subject.service_account))
        && (subjects.images.is_empty() || subjects.images.iter().any(covered))
        && subjects.pod_selector.as_ref().is_none_or(|selector| selects(selector, label))
}

/// If the labels of a namespace are unknown, only what its name decides can match: `NotIn` and `DoesNotExist` would
/// otherwise match because the labels are unknown.
pub(super) fn selects_namespace(selector: &LabelSelector, subject: &Subject<'_>) -> bool {
    let keys = selector.match_labels.keys().chain(selector.match_expressions.iter().map(|r| &r.key));
    let known =
        !subject.namespace_labels.is_empty() || keys.into_iter().all(|key| key == NAMESPACE_NAME_LABEL);
    known && selects(selector, |key| namespace_label(subject, key))
}

/// Kubernetes label selectors: every part must match; an empty one selects everything. `label` is the value of a label.
fn selects<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    selector.match_labels.iter().all(|(key, value)| label(key) == Some(value.as_str()))
        && selector.match_expressions.iter().all(|requirement| holds(requirement, label(&requirement.key)))
}

/// As in Kubernetes, `NotIn` holds for an object that does not have the label.
fn holds(requirement: &LabelRequirement, value: Option<&str>) -> bool {
    let among = |value: &str| requirement.values.iter().any(|one| one == value);
    match requirement.operator {
        Operator::In => value.is_some_and(among),
        Operator::NotIn => !value.is_some_and(among),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}
