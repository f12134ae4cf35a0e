//! Finding the grants for a container, without looking at those of other namespaces and accounts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::check::{self, Problem, Problems};
use super::types::{LabelRequirement, LabelSelector};
use super::{Error, WasiGrant};
use crate::capability::glob;

/// Label that the API server puts on every namespace with the namespace's own name
/// (`kubernetes:staging/src/k8s.io/api/core/v1/types.go` `LabelMetadataName`).
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Whom a grant must match.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Labels of the namespace; empty when they are not known.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// ServiceAccount of the pod, `default` when it names none.
    pub service_account: &'a str,
    /// Labels of the pod.
    pub labels: &'a BTreeMap<String, String>,
    /// Image of the container, as written.
    pub image: &'a str,
}

/// All grants, indexed so that a review's cost does not grow with their number: WasiGrants by namespace,
/// ClusterWasiGrants by a label that their selector demands, and both then by service account.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    all: Vec<Arc<WasiGrant>>,
    namespaces: HashMap<String, ByAccount>,
    labels: HashMap<(String, String), ByAccount>,
    /// ClusterWasiGrants whose selector demands no label value.
    every_namespace: ByAccount,
}

/// Grants of one bucket, by the service accounts that they name.
#[derive(Debug, Clone, Default)]
struct ByAccount {
    any: Vec<Arc<WasiGrant>>,
    named: HashMap<String, Vec<Arc<WasiGrant>>>,
}

impl ByAccount {
    fn insert(&mut self, grant: &Arc<WasiGrant>) {
        let accounts: BTreeSet<&String> =
            grant.spec.subjects.iter().flat_map(|subjects| &subjects.service_accounts).collect();
        if accounts.is_empty() {
            self.any.push(Arc::clone(grant));
        }
        for account in accounts {
            self.named.entry(account.clone()).or_default().push(Arc::clone(grant));
        }
    }

    fn of<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a Arc<WasiGrant>> {
        self.any.iter().chain(self.named.get(account).into_iter().flatten())
    }
}

impl Grants {
    /// Checks and indexes grants; one that is wrong refuses all, and so do two of the same kind and name.
    pub fn new(mut grants: Vec<WasiGrant>) -> Result<Self, Error> {
        grants.sort_by_cached_key(|grant| (grant.label(), grant.namespace().map(str::to_string)));
        let problems = problems(&grants);
        if !problems.0.is_empty() {
            return Err(Error::CheckGrants { problems });
        }
        let mut index = Self::default();
        for grant in grants {
            index.insert(Arc::new(grant));
        }
        Ok(index)
    }

    fn insert(&mut self, grant: Arc<WasiGrant>) {
        match (&grant.spec.namespace_selector, grant.namespace()) {
            (Some(selector), _) => {
                let demanded = demanded_labels(selector);
                if demanded.is_empty() {
                    self.every_namespace.insert(&grant);
                }
                for label in demanded {
                    self.labels.entry(label).or_default().insert(&grant);
                }
            }
            (None, namespace) => {
                self.namespaces.entry(namespace.unwrap_or_default().to_string()).or_default().insert(&grant);
            }
        }
        self.all.push(grant);
    }

    /// How many there are, expired ones included.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, by kind, name and namespace.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<WasiGrant>> {
        self.all.iter()
    }

    /// All that have expired, for a note at loading time.
    pub fn expired(&self, now: jiff::Timestamp) -> impl Iterator<Item = &Arc<WasiGrant>> {
        self.all.iter().filter(move |grant| grant.is_expired(now))
    }

    /// The grants that match a container at `now`, by label; expired ones are left out.
    pub fn matching(&self, subject: &Subject<'_>, now: jiff::Timestamp) -> Vec<Arc<WasiGrant>> {
        self.select(subject, |grant| !grant.is_expired(now))
    }

    /// The grants that would match a container if they had not expired, so that a refusal can name them.
    pub fn expired_matching(&self, subject: &Subject<'_>, now: jiff::Timestamp) -> Vec<Arc<WasiGrant>> {
        self.select(subject, |grant| grant.is_expired(now))
    }

    fn select(&self, subject: &Subject<'_>, wanted: impl Fn(&WasiGrant) -> bool) -> Vec<Arc<WasiGrant>> {
        let forms = image_forms(subject.image);
        let fits = |grant: &&Arc<WasiGrant>| wanted(grant) && matches(grant, subject, &forms);
        let mut found: Vec<Arc<WasiGrant>> = self.candidates(subject).filter(fits).cloned().collect();
        found.sort_by_cached_key(|grant| grant.label());
        found
    }

    /// The grants that are looked at for a subject.
    fn candidates<'a>(&'a self, subject: &Subject<'a>) -> impl Iterator<Item = &'a Arc<WasiGrant>> {
        let account = subject.service_account;
        let of_namespace = self.namespaces.get(subject.namespace).into_iter();
        let labels = namespace_labels(subject);
        let of_labels: Vec<&ByAccount> =
            labels.iter().filter_map(|(k, v)| self.labels.get(&(k.clone(), v.clone()))).collect();
        let buckets = of_namespace.chain(of_labels).chain(std::iter::once(&self.every_namespace));
        buckets.flat_map(move |bucket| bucket.of(account))
    }
}

fn problems(sorted: &[WasiGrant]) -> Problems {
    let origin = |grant: &WasiGrant| match grant.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", grant.kind, grant.name()),
        None => format!("{} {}", grant.kind, grant.name()),
    };
    let mut problems = Vec::new();
    for grant in sorted {
        let problem = |(field, message)| Problem { origin: origin(grant), field, message };
        problems.extend(check::meaning(grant).into_iter().map(problem));
    }
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && origin(a) == origin(b)
        {
            let message = "given twice; rename one or remove it".into();
            problems.push(Problem { origin: origin(b), field: "metadata.name".into(), message });
        }
    }
    Problems(problems)
}

/// Label values one of which a namespace must have: any one of them is enough to find the grant by.
fn demanded_labels(selector: &LabelSelector) -> Vec<(String, String)> {
    let by_name = selector.match_labels.get_key_value(NAMESPACE_NAME_LABEL);
    if let Some((key, value)) = by_name.or_else(|| selector.match_labels.first_key_value()) {
        return vec![(key.clone(), value.clone())];
    }
    let demanding = selector.match_expressions.iter().find(|r| r.operator == "In");
    let values: BTreeSet<&String> = demanding.iter().flat_map(|r| &r.values).collect();
    let key = demanding.map(|r| r.key.clone()).unwrap_or_default();
    values.into_iter().map(|value| (key.clone(), value.clone())).collect()
}

/// The namespace's labels, with the one that is always there.
fn namespace_labels<'a>(subject: &Subject<'a>) -> Cow<'a, BTreeMap<String, String>> {
    if subject.namespace_labels.contains_key(NAMESPACE_NAME_LABEL) {
        return Cow::Borrowed(subject.namespace_labels);
    }
    let mut labels = subject.namespace_labels.clone();
    labels.insert(NAMESPACE_NAME_LABEL.into(), subject.namespace.into());
    Cow::Owned(labels)
}

fn matches(grant: &WasiGrant, subject: &Subject<'_>, forms: &[String]) -> bool {
    let in_namespace = match &grant.spec.namespace_selector {
        Some(selector) => selects_namespace(selector, subject),
        None => grant.namespace() == Some(subject.namespace),
    };
    let Some(subjects) = &grant.spec.subjects else { return in_namespace };
    let account = &subjects.service_accounts;
    let covered = |pattern: &String| forms.iter().any(|form| glob::covers(pattern, form));
    in_namespace
        && (account.is_empty() || account.iter().any(|name| name == subject.service_account))
        && (subjects.images.is_empty() || subjects.images.iter().any(covered))
        && subjects.pod_selector.as_ref().is_none_or(|selector| selects(selector, subject.labels))
}

/// A namespace whose labels are not known is matched by what its name alone decides, and by nothing else: `NotIn` and
/// `DoesNotExist` would be satisfied by not knowing.
fn selects_namespace(selector: &LabelSelector, subject: &Subject<'_>) -> bool {
    let keys = selector.match_labels.keys().chain(selector.match_expressions.iter().map(|r| &r.key));
    let known =
        !subject.namespace_labels.is_empty() || keys.into_iter().all(|key| key == NAMESPACE_NAME_LABEL);
    known && selects(selector, &namespace_labels(subject))
}

/// Kubernetes label selectors: every part must hold; an empty one selects everything.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().all(|requirement| holds(requirement, labels))
}

/// As in Kubernetes, `NotIn` holds for an object that does not have the label.
fn holds(requirement: &LabelRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| requirement.values.contains(v)),
        "NotIn" => value.is_none_or(|v| !requirement.values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The forms of an image name that a pattern may match: as written, without its digest, without its tag, without both,
/// and with `:latest` where it has neither.
fn image_forms(image: &str) -> Vec<String> {
    let (tagged, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (folder, last) = tagged.rsplit_once('/').map_or(("", tagged), |(folder, last)| (folder, last));
    let (last, tag) = last.split_once(':').map_or((last, None), |(name, tag)| (name, Some(tag)));
    let repository = if folder.is_empty() { last.to_string() } else { format!("{folder}/{last}") };
    let mut forms = vec![image.to_string(), tagged.to_string()];
    match (digest, tag) {
        (Some(digest), _) => forms.push(format!("{repository}@{digest}")),
        (None, None) => forms.push(format!("{repository}:latest")),
        (None, Some(_)) => {}
    }
    forms.push(repository);
    forms.sort();
    forms.dedup();
    forms
}
