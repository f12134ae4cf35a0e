//! Which pods a grant or an exception is for: the pod and image of a review, the selectors that must match them, and
//! the buckets by service account with which a review need not look at every object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    any: ByImage<T>,
    named: HashMap<String, ByImage<T>>,
}

impl<T> Default for ByAccount<T> {
    fn default() -> Self {
        Self { any: ByImage::default(), named: HashMap::new() }
    }
}

impl<T> ByAccount<T> {
    pub fn insert(&mut self, object: &Arc<T>, subjects: Option<&Subjects>) {
        let accounts: BTreeSet<&String> = subjects.iter().flat_map(|s| &s.service_accounts).collect();
        let images = subjects.map_or(&[][..], |subjects| &subjects.images);
        if accounts.is_empty() {
            self.any.insert(object, images);
        }
        for account in accounts {
            self.named.entry(account.clone()).or_default().insert(object, images);
        }
    }

    /// Those of an account, whatever their images; one that names several images comes as often.
    pub fn of<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a Arc<T>> {
        self.both(account).flat_map(ByImage::all)
    }

    /// Those that may be for an image of these [`image_forms`]; one that names several of the forms comes as often.
    pub fn for_image<'a>(&'a self, account: &str, forms: &'a [String]) -> impl Iterator<Item = &'a Arc<T>> {
        self.both(account).flat_map(move |bucket| bucket.of(forms))
    }

    fn both<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a ByImage<T>> {
        std::iter::once(&self.any).chain(self.named.get(account))
    }
}

/// Objects by the images that their subjects name.
#[derive(Debug, Clone)]
struct ByImage<T> {
    /// Those for any image, or with a pattern that matches more than one name.
    several: Vec<Arc<T>>,
    exact: HashMap<String, Vec<Arc<T>>>,
}

impl<T> Default for ByImage<T> {
    fn default() -> Self {
        Self { several: Vec::new(), exact: HashMap::new() }
    }
}

impl<T> ByImage<T> {
    fn insert(&mut self, object: &Arc<T>, images: &[String]) {
        if images.is_empty() || images.iter().any(|pattern| pattern.contains('*')) {
            self.several.push(Arc::clone(object));
            return;
        }
        for image in images.iter().collect::<BTreeSet<_>>() {
            self.exact.entry(image.clone()).or_default().push(Arc::clone(object));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.several.iter().chain(self.exact.values().flatten())
    }

    fn of<'a>(&'a self, forms: &'a [String]) -> impl Iterator<Item = &'a Arc<T>> {
        self.several.iter().chain(forms.iter().filter_map(|form| self.exact.get(form)).flatten())
    }
}

/// Label values of which a namespace must have at least one; the grant is indexed by each.
pub(super) fn demanded_labels(selector: &LabelSelector) -> Vec<(String, String)> {
    let by_name = selector.match_labels.get_key_value(NAMESPACE_NAME_LABEL);
    if let Some((key, value)) = by_name.or_else(|| selector.match_labels.first_key_value()) {
        return vec![(key.clone(), value.clone())];
    }
    let demanding = selector.match_expressions.iter().find(|r| r.operator == Operator::In);
    let values: BTreeSet<&String> = demanding.iter().flat_map(|r| &r.values).collect();
    let key = demanding.map(|r| r.key.clone()).unwrap_or_default();
    values.into_iter().map(|value| (key.clone(), value.clone())).collect()
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
