//! Finds the grants for a container without looking at those of other namespaces, accounts, images and labels.

use std::collections::HashMap;
use std::sync::Arc;

use super::check;
use super::error::{Error, Problems};
use super::subject::{
    ByAccount, Subject, image_forms, includes, namespace_labels, rarest_label, selects_namespace,
};
use super::types::WasiGrant;

/// All grants, indexed so that the cost of a review does not grow with the number of those that are not for it: `WasiGrant`s by
/// namespace, `ClusterWasiGrant`s by the label that their selector requires and the fewest others do, and both then by service account,
/// by image, and by such a label of their selector of pods. An image pattern counts by what stands before its first `*`, or behind its
/// last one where that is longer. Only what says none of this is looked at in every review: a pattern such as `*/orders*`, a selector of `NotIn`.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    all: Vec<Arc<WasiGrant>>,
    namespaces: HashMap<String, ByAccount<WasiGrant>>,
    /// Label → value → grants.
    labels: HashMap<String, HashMap<String, ByAccount<WasiGrant>>>,
    /// `ClusterWasiGrant`s whose selector requires no label value.
    every_namespace: ByAccount<WasiGrant>,
    /// When the first of all expires, if one does.
    first_end: Option<jiff::Timestamp>,
}

impl Grants {
    /// Checks and indexes grants. A wrong one refuses all of them, and so do two with the same kind and name.
    pub fn new(mut grants: Vec<WasiGrant>) -> Result<Self, Error> {
        grants.sort_by_cached_key(|grant| (grant.label(), grant.namespace().map(str::to_string)));
        let problems = problems(&grants);
        if !problems.0.is_empty() {
            return Err(Error::CheckGrants { problems });
        }
        Ok(Self::of_checked(grants.into_iter().map(Arc::new)))
    }

    /// Indexes grants that were checked one by one ([`super::load::read_object`]) and differ in kind, name or
    /// namespace. Keeps their order.
    pub fn of_checked(grants: impl IntoIterator<Item = Arc<WasiGrant>>) -> Self {
        let mut index = Self::default();
        for grant in grants {
            index.insert(grant);
        }
        index
    }

    fn insert(&mut self, grant: Arc<WasiGrant>) {
        self.first_end = self.first_end.into_iter().chain(grant.spec.expires_at).min();
        let subjects = grant.spec.subjects.as_ref();
        match (&grant.spec.namespace_selector, grant.namespace()) {
            (Some(selector), _) => {
                let rarest = rarest_label(selector, |label, value| self.count(label, value));
                match rarest {
                    Some((label, values)) => {
                        let by_value = self.labels.entry(label.to_owned()).or_default();
                        for value in values {
                            by_value.entry(value.to_owned()).or_default().insert(&grant, subjects);
                        }
                    }
                    None => self.every_namespace.insert(&grant, subjects),
                }
            }
            (None, namespace) => {
                let namespace = namespace.unwrap_or_default().to_string();
                self.namespaces.entry(namespace).or_default().insert(&grant, subjects);
            }
        }
        self.all.push(grant);
    }

    /// How many `ClusterWasiGrant`s are found so far by a value of a label of the namespace.
    fn count(&self, label: &str, value: &str) -> usize {
        self.labels.get(label).and_then(|by_value| by_value.get(value)).map_or(0, ByAccount::count)
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

    /// All that have expired, for a note when they are loaded.
    pub fn expired(&self, now: jiff::Timestamp) -> impl Iterator<Item = &Arc<WasiGrant>> {
        self.all.iter().filter(move |grant| grant.is_expired(now))
    }

    /// The grants that match a container at `now`, by label, without expired ones.
    pub fn matching(&self, subject: &Subject<'_>, now: jiff::Timestamp) -> Vec<Arc<WasiGrant>> {
        self.select(subject, |grant| !grant.is_expired(now))
    }

    /// The grants that would match a container if they had not expired, so that a refusal can name them.
    pub fn expired_matching(&self, subject: &Subject<'_>, now: jiff::Timestamp) -> Vec<Arc<WasiGrant>> {
        // As a rule none has expired.
        if self.first_end.is_none_or(|end| now < end) {
            return Vec::new();
        }
        self.select(subject, |grant| grant.is_expired(now))
    }

    fn select(&self, subject: &Subject<'_>, wanted: impl Fn(&WasiGrant) -> bool) -> Vec<Arc<WasiGrant>> {
        let forms = image_forms(subject.image);
        let fits = |grant: &&Arc<WasiGrant>| wanted(grant) && matches(grant, subject, &forms);
        let mut found: Vec<Arc<WasiGrant>> = self.candidates(subject, &forms).filter(fits).cloned().collect();
        found.sort_by_cached_key(|grant| grant.label());
        // One that names the image in several forms was found as often.
        found.dedup_by(|one, other| Arc::ptr_eq(one, other));
        found
    }

    /// The grants that may match a subject.
    fn candidates<'a>(
        &'a self,
        subject: &Subject<'a>,
        forms: &'a [String],
    ) -> impl Iterator<Item = &'a Arc<WasiGrant>> {
        let (account, labels) = (subject.service_account, subject.labels);
        let of_namespace = self.namespaces.get(subject.namespace).into_iter();
        let of_labels =
            namespace_labels(subject).filter_map(|(label, value)| self.labels.get(label)?.get(value));
        let buckets = of_namespace.chain(of_labels).chain(std::iter::once(&self.every_namespace));
        buckets.flat_map(move |bucket| bucket.for_image(account, forms, labels))
    }
}

fn problems(sorted: &[WasiGrant]) -> Problems {
    Problems::of(sorted, WasiGrant::identity, check::check_grant)
}

fn matches(grant: &WasiGrant, subject: &Subject<'_>, forms: &[String]) -> bool {
    let in_namespace = match &grant.spec.namespace_selector {
        Some(selector) => selects_namespace(selector, subject),
        None => grant.namespace() == Some(subject.namespace),
    };
    in_namespace && grant.spec.subjects.as_ref().is_none_or(|subjects| includes(subjects, subject, forms))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::{option, sample};

    use super::*;
    use crate::grant::load::parse_documents;

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    /// A grant of one capability; `namespace` empty for a `ClusterWasiGrant`.
    fn grant(name: &str, namespace: &str, spec: &str) -> String {
        let (kind, metadata) = match namespace {
            "" => ("ClusterWasiGrant", format!("{{ name: {name} }}")),
            _ => ("WasiGrant", format!("{{ name: {name}, namespace: {namespace} }}")),
        };
        format!(
            "---\napiVersion: wasmgate.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\n\
             spec: {{ capabilities: [{{ name: env }}]{}{spec} }}\n",
            if spec.is_empty() { "" } else { ", " }
        )
    }

    fn index(documents: &[String]) -> Grants {
        Grants::new(parse_documents(&documents.concat(), "test").unwrap()).unwrap()
    }

    #[derive(Debug)]
    struct Pod {
        namespace: &'static str,
        namespace_labels: BTreeMap<String, String>,
        service_account: &'static str,
        labels: BTreeMap<String, String>,
        image: &'static str,
    }

    impl Default for Pod {
        fn default() -> Self {
            Self {
                namespace: "shop",
                namespace_labels: labels(&[("team", "orders")]),
                service_account: "orders",
                labels: labels(&[("app", "api")]),
                image: "ghcr.io/myorg/orders:v1",
            }
        }
    }

    impl Pod {
        fn subject(&self) -> Subject<'_> {
            Subject {
                namespace: self.namespace,
                namespace_labels: &self.namespace_labels,
                service_account: self.service_account,
                labels: &self.labels,
                image: self.image,
            }
        }

        fn is_matched(&self, namespace: &str, spec: &str) -> bool {
            let grants = index(&[grant("g", namespace, spec)]);
            !grants.matching(&self.subject(), NOW.parse().unwrap()).is_empty()
        }
    }

    #[test]
    fn a_grant_without_subjects_covers_every_pod_of_its_namespace_only() {
        assert!(Pod::default().is_matched("shop", ""));
        assert!(!Pod::default().is_matched("shop2", ""));
    }

    #[test]
    fn every_part_of_the_subjects_must_match() {
        let pod = Pod::default();
        for (spec, expected) in [
            ("subjects: { serviceAccounts: [orders] }", true),
            ("subjects: { serviceAccounts: [other, orders, orders] }", true),
            ("subjects: { serviceAccounts: [other] }", false),
            ("subjects: { images: ['ghcr.io/myorg/*'], serviceAccounts: [orders] }", true),
            ("subjects: { images: ['ghcr.io/myorg/*'], serviceAccounts: [other] }", false),
            ("subjects: { images: ['ghcr.io/other/*'], serviceAccounts: [orders] }", false),
            ("subjects: { podSelector: {} }", true),
            ("subjects: { podSelector: { matchLabels: { app: api } } }", true),
            ("subjects: { podSelector: { matchLabels: { app: web } } }", false),
        ] {
            assert_eq!(pod.is_matched("shop", spec), expected, "{spec}");
        }
    }

    #[test]
    fn label_requirements_match_as_in_kubernetes() {
        let pod = Pod::default();
        for (requirement, expected) in [
            ("{ key: app, operator: In, values: [api, web] }", true),
            ("{ key: app, operator: In, values: [web] }", false),
            ("{ key: none, operator: In, values: [web] }", false),
            ("{ key: app, operator: NotIn, values: [web] }", true),
            ("{ key: app, operator: NotIn, values: [api] }", false),
            ("{ key: none, operator: NotIn, values: [api] }", true),
            ("{ key: app, operator: Exists }", true),
            ("{ key: none, operator: Exists }", false),
            ("{ key: app, operator: DoesNotExist }", false),
            ("{ key: none, operator: DoesNotExist }", true),
        ] {
            let spec = format!("subjects: {{ podSelector: {{ matchExpressions: [{requirement}] }} }}");
            assert_eq!(pod.is_matched("shop", &spec), expected, "{requirement}");
        }
    }

    #[test]
    fn a_grant_that_names_an_image_in_several_forms_is_found_once_and_those_of_others_are_not_looked_at() {
        let spec = "subjects: { images: [ghcr.io/myorg/orders, 'ghcr.io/myorg/orders:v1', other] }";
        let others: Vec<_> = (0..50)
            .map(|n| {
                grant(&format!("o{n}"), "shop", &format!("subjects: {{ images: [other.example/a{n}] }}"))
            })
            .chain([grant("g", "shop", spec), grant("w", "shop", "subjects: { images: ['ghcr.io/*'] }")])
            .collect();
        let (grants, pod) = (index(&others), Pod::default());
        let names: Vec<_> =
            grants.matching(&pod.subject(), NOW.parse().unwrap()).iter().map(|g| g.label()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        let forms = image_forms(pod.image);
        assert!(grants.candidates(&pod.subject(), &forms).count() <= 3);
    }

    #[test]
    fn an_image_pattern_matches_by_repository_tag_or_digest() {
        const PINNED: &str = "localhost:5000/org/app:v1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        for (image, pattern, expected) in [
            ("ghcr.io/org/app:v1", "ghcr.io/org/app", true),
            ("ghcr.io/org/app:v1", "ghcr.io/org/app:v1", true),
            ("ghcr.io/org/app:v1", "ghcr.io/org/app:v2", false),
            ("ghcr.io/org/app:v1", "ghcr.io/org/app:v*", true),
            ("ghcr.io/org/app:v1", "ghcr.io/org/ap", false),
            ("ghcr.io/org/app:v1", "org/app", false),
            ("ghcr.io/org/app", "ghcr.io/org/app:latest", true),
            (
                "ghcr.io/org/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "ghcr.io/org/app:latest",
                false,
            ),
            (PINNED, "localhost:5000/org/app", true),
            (PINNED, "localhost:5000/org/app:v1", true),
            (
                PINNED,
                "localhost:5000/org/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                true,
            ),
            (
                PINNED,
                "localhost:5000/org/app@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                false,
            ),
            (PINNED, "*@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true),
            (PINNED, PINNED, true),
            ("localhost:5000/app", "localhost:5000/app", true),
            ("nginx", "docker.io/library/nginx", true),
            ("nginx", "index.docker.io/nginx:latest", true),
            ("nginx:1", "docker.io/nginx:1", true),
            ("nginx:1", "docker.io/nginx:2", false),
            (
                "docker.io/library/nginx:1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "nginx@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                true,
            ),
            ("index.docker.io/library/nginx", "nginx:latest", true),
            ("index.docker.io/org/app:1", "org/*", true),
            ("docker.io/org/app:1", "library/*", false),
            ("ghcr.io/library/nginx", "nginx", false),
            ("ghcr.io/nginx", "docker.io/*", false),
            ("nginx:1", "nginx", true),
        ] {
            let pod = Pod { image, ..Pod::default() };
            let spec = format!("subjects: {{ images: ['{pattern}'] }}");
            assert_eq!(pod.is_matched("shop", &spec), expected, "{image} {pattern}");
        }
    }

    #[test]
    fn cluster_grants_are_for_the_namespaces_that_they_select() {
        let pod = Pod::default();
        for (selector, expected) in [
            ("{}", true),
            ("{ matchLabels: { team: orders } }", true),
            ("{ matchLabels: { team: other } }", false),
            ("{ matchLabels: { kubernetes.io/metadata.name: shop } }", true),
            ("{ matchLabels: { kubernetes.io/metadata.name: shop, team: other } }", false),
            ("{ matchExpressions: [{ key: team, operator: In, values: [orders, other] }] }", true),
            ("{ matchExpressions: [{ key: team, operator: NotIn, values: [other] }] }", true),
            ("{ matchExpressions: [{ key: team, operator: Exists }] }", true),
            ("{ matchExpressions: [{ key: other, operator: Exists }] }", false),
        ] {
            assert_eq!(pod.is_matched("", &format!("namespaceSelector: {selector}")), expected, "{selector}");
        }
    }

    #[test]
    fn a_namespace_with_unknown_labels_satisfies_no_condition_on_them() {
        let pod = Pod { namespace_labels: BTreeMap::new(), ..Pod::default() };
        for (selector, expected) in [
            ("{}", true),
            ("{ matchLabels: { kubernetes.io/metadata.name: shop } }", true),
            ("{ matchLabels: { team: orders } }", false),
            ("{ matchExpressions: [{ key: team, operator: NotIn, values: [other] }] }", false),
            ("{ matchExpressions: [{ key: team, operator: DoesNotExist }] }", false),
        ] {
            assert_eq!(pod.is_matched("", &format!("namespaceSelector: {selector}")), expected, "{selector}");
        }
    }

    #[test]
    fn expired_grants_do_not_match_and_can_be_listed() {
        let grants = index(&[
            grant("old", "shop", "expiresAt: 2026-06-01T00:00:00Z"),
            grant("new", "shop", "expiresAt: 2026-06-01T00:00:01Z"),
        ]);
        let now = NOW.parse().unwrap();
        let pod = Pod::default();
        let names = |found: Vec<Arc<WasiGrant>>| found.iter().map(|g| g.label()).collect::<Vec<_>>();
        assert_eq!(names(grants.matching(&pod.subject(), now)), ["WasiGrant/new"]);
        assert_eq!(names(grants.expired_matching(&pod.subject(), now)), ["WasiGrant/old"]);
        assert_eq!(grants.expired(now).count(), 1);
        let before = "2026-05-31T23:59:59Z".parse().unwrap();
        assert!(names(grants.expired_matching(&pod.subject(), before)).is_empty());
        let later = "2026-06-01T00:00:01Z".parse().unwrap();
        assert_eq!(
            names(grants.expired_matching(&pod.subject(), later)),
            ["WasiGrant/new", "WasiGrant/old"],
            "the first end is not the only one"
        );
    }

    #[test]
    fn ten_thousand_grants_elsewhere_are_not_looked_at() {
        let mut documents = vec![
            grant("mine", "shop", "subjects: { serviceAccounts: [orders] }"),
            grant("all", "shop", ""),
            grant("team", "", "namespaceSelector: { matchLabels: { team: orders } }"),
            grant("everywhere", "", "namespaceSelector: {}"),
        ];
        for n in 0..2500 {
            documents.push(grant(&format!("a{n}"), &format!("other-{n}"), ""));
            documents.push(grant(
                &format!("b{n}"),
                "shop",
                &format!("subjects: {{ serviceAccounts: [sa-{n}] }}"),
            ));
            let label = format!("namespaceSelector: {{ matchLabels: {{ team: t{n} }} }}");
            documents.push(grant(&format!("c{n}"), "", &label));
            let account = format!("namespaceSelector: {{}}, subjects: {{ serviceAccounts: [sa-{n}] }}");
            documents.push(grant(&format!("d{n}"), "", &account));
        }
        let read: Vec<WasiGrant> =
            documents.iter().flat_map(|document| parse_documents(document, "test").unwrap()).collect();
        let grants = Grants::new(read).unwrap();
        let pod = Pod::default();
        assert_eq!(grants.len(), 10_004);
        assert_eq!(grants.candidates(&pod.subject(), &image_forms(pod.image)).count(), 4);
        assert_eq!(grants.matching(&pod.subject(), NOW.parse().unwrap()).len(), 4);
    }

    /// Which images and pods a grant of the same namespace and account is for tells it apart too, however that is written.
    #[test]
    fn a_thousand_grants_for_other_images_and_pods_of_a_namespace_are_not_looked_at() {
        let pod = Pod::default();
        for (what, mine, others) in [
            ("exact", "images: [ghcr.io/myorg/orders]", "images: [ghcr.io/myorg/a-N]"),
            ("by its beginning", "images: ['ghcr.io/myorg/o*']", "images: ['ghcr.io/myorg/a-N*']"),
            ("by its end", "images: ['*/orders:v1']", "images: ['*/orders-N:v1']"),
            ("by its longer end", "images: ['g*/myorg/orders']", "images: ['g*/myorg/a-N']"),
            (
                "label",
                "podSelector: { matchLabels: { app: api } }",
                "podSelector: { matchLabels: { app: a-N } }",
            ),
            (
                "one of several labels",
                "podSelector: { matchLabels: { app: api } }",
                "podSelector: { matchLabels: { app: api, other: a-N } }",
            ),
            (
                "one of several values",
                "podSelector: { matchExpressions: [{ key: app, operator: In, values: [api, web] }] }",
                "podSelector: { matchExpressions: [{ key: app, operator: In, values: [a-N, b-N] }] }",
            ),
            (
                "image and label",
                "images: ['ghcr.io/*'], podSelector: { matchLabels: { app: api } }",
                "images: ['ghcr.io/*'], podSelector: { matchLabels: { app: a-N } }",
            ),
        ] {
            let subjects = |subjects: &str| format!("subjects: {{ {subjects} }}");
            let others = (0..1_000).map(|number| {
                let of_number = others.replace("-N", &format!("-{number}"));
                grant(&format!("o{number}"), "shop", &subjects(&of_number))
            });
            let documents = others.chain([grant("mine", "shop", &subjects(mine))]);
            let read = documents.flat_map(|document| parse_documents(&document, "test").unwrap());
            let grants = Grants::new(read.collect()).unwrap();
            let looked_at = grants.candidates(&pod.subject(), &image_forms(pod.image)).count();
            assert_eq!(looked_at, 1, "{what}");
            let found = grants.matching(&pod.subject(), NOW.parse().unwrap());
            assert_eq!(found.iter().map(|grant| grant.name()).collect::<Vec<_>>(), ["mine"], "{what}");
        }
    }

    /// A label that every team's grant requires tells none apart, wherever it stands in the selector.
    #[test]
    fn a_thousand_cluster_grants_with_one_label_in_common_are_not_looked_at() {
        let pod = Pod { namespace_labels: labels(&[("env", "prod"), ("team", "orders")]), ..Pod::default() };
        let expression =
            |key: &str, value: &str| format!("{{ key: {key}, operator: In, values: [{value}] }}");
        let (env, team) = (expression("env", "prod"), expression("team", "TEAM"));
        let by_name = "matchLabels: { env: prod, kubernetes.io/metadata.name: NAMESPACE }".to_owned();
        for selector in [
            "matchLabels: { env: prod, team: TEAM }".to_owned(),
            by_name,
            format!("matchExpressions: [{env}, {team}]"),
            format!("matchLabels: {{ env: prod }}, matchExpressions: [{team}]"),
            format!("matchLabels: {{ team: TEAM }}, matchExpressions: [{env}]"),
        ] {
            let of = |name: &str, team: &str, namespace: &str| {
                let selector = selector.replace("TEAM", team).replace("NAMESPACE", namespace);
                grant(name, "", &format!("namespaceSelector: {{ {selector} }}"))
            };
            let others = (0..1_000).map(|n| of(&format!("o{n}"), &format!("t-{n}"), &format!("n-{n}")));
            let documents: Vec<String> = others.chain([of("mine", "orders", "shop")]).collect();
            let read = documents.iter().flat_map(|document| parse_documents(document, "test").unwrap());
            let grants = Grants::new(read.collect()).unwrap();
            // The first of them had no other before it.
            let looked_at = grants.candidates(&pod.subject(), &image_forms(pod.image)).count();
            assert!(looked_at <= 2, "{looked_at}: {selector}");
            let found = grants.matching(&pod.subject(), NOW.parse().unwrap());
            assert_eq!(found.iter().map(|grant| grant.name()).collect::<Vec<_>>(), ["mine"], "{selector}");
        }
    }

    /// What a grant may say of its namespaces and subjects, and what a pod may be: with patterns and labels of which one is a part, a
    /// beginning or an end of the other.
    const NAMESPACES: [(&str, &str); 12] = [
        ("shop", ""),
        ("other", ""),
        ("", "namespaceSelector: {}"),
        ("", "namespaceSelector: { matchLabels: { team: orders } }"),
        ("", "namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: shop } }"),
        (
            "",
            "namespaceSelector: { matchExpressions: [{ key: team, operator: In, values: [orders, other] }] }",
        ),
        ("", "namespaceSelector: { matchExpressions: [{ key: team, operator: NotIn, values: [other] }] }"),
        ("", "namespaceSelector: { matchLabels: { env: prod, team: orders } }"),
        ("", "namespaceSelector: { matchLabels: { env: prod, team: other } }"),
        ("", "namespaceSelector: { matchLabels: { env: test, kubernetes.io/metadata.name: shop } }"),
        (
            "",
            "namespaceSelector: { matchLabels: { env: prod }, matchExpressions: [{ key: team, operator: In, values: [orders, \
             other] }] }",
        ),
        (
            "",
            "namespaceSelector: { matchExpressions: [{ key: env, operator: In, values: [prod, test] }, { key: team, operator: In, \
             values: [other] }] }",
        ),
    ];
    const ACCOUNTS: [&str; 2] = ["orders", "default"];
    const PATTERNS: [&str; 24] = [
        "*",
        "**",
        "*a*",
        "ghcr.io/org/app",
        "ghcr.io/org/app*",
        "ghcr.io/org/app:v1",
        "ghcr.io/org/app:v*",
        "ghcr.io/org/*",
        "ghcr.io/*",
        "ghcr.io/*/app",
        "ghcr.io/*:v1",
        "g*",
        "*/app",
        "*/app:v1",
        "*p",
        "*:v1",
        "*@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "nginx",
        "nginx*",
        "docker.io/library/*",
        "docker.io/nginx",
        "index.docker.io/*",
        "library/*",
        "*x:latest",
    ];
    const IMAGES: [&str; 10] = [
        "ghcr.io/org/app:v1",
        "ghcr.io/org/app",
        "ghcr.io/org/apple:v1",
        "ghcr.io/org/ap",
        "ghcr.io/org/app:v1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "nginx",
        "nginx:v1",
        "docker.io/library/nginx:latest",
        "é*:v1",
        "",
    ];
    const SELECTORS: [&str; 10] = [
        "{}",
        "{ matchLabels: { app: api } }",
        "{ matchLabels: { app: web } }",
        "{ matchLabels: { app: api, tier: front } }",
        "{ matchLabels: { app: api, tier: back } }",
        "{ matchExpressions: [{ key: app, operator: In, values: [api, web] }] }",
        "{ matchLabels: { tier: front }, matchExpressions: [{ key: app, operator: In, values: [web] }] }",
        "{ matchExpressions: [{ key: app, operator: NotIn, values: [api] }] }",
        "{ matchExpressions: [{ key: tier, operator: Exists }] }",
        "{ matchExpressions: [{ key: tier, operator: DoesNotExist }] }",
    ];

    /// The spec of a grant, without its capabilities.
    fn any_spec() -> impl Strategy<Value = (&'static str, String)> {
        let some = |all: &[&'static str]| sample::subsequence(all.to_vec(), 0..=2);
        let selector = option::of(sample::select(SELECTORS.to_vec()));
        (sample::select(NAMESPACES.to_vec()), some(&ACCOUNTS), some(&PATTERNS), selector).prop_map(
            |((namespace, selected), accounts, images, selector)| {
                let quoted =
                    |all: &[&str]| all.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", ");
                let mut subjects = Vec::new();
                if !accounts.is_empty() {
                    subjects.push(format!("serviceAccounts: [{}]", quoted(&accounts)));
                }
                if !images.is_empty() {
                    subjects.push(format!("images: [{}]", quoted(&images)));
                }
                subjects.extend(selector.map(|selector| format!("podSelector: {selector}")));
                let subjects =
                    (!subjects.is_empty()).then(|| format!("subjects: {{ {} }}", subjects.join(", ")));
                let selected = Some(selected.to_owned()).filter(|selected| !selected.is_empty());
                let spec = selected.into_iter().chain(subjects).collect::<Vec<_>>().join(", ");
                (namespace, spec)
            },
        )
    }

    fn any_pod() -> impl Strategy<Value = Pod> {
        let label = |values: &[&'static str]| option::of(sample::select(values.to_vec()));
        let (teams, stages) = (label(&["orders", "other"]), label(&["prod", "test"]));
        let (app, tier) = (label(&["api", "web"]), label(&["front", "back"]));
        (
            sample::select(vec!["shop", "other"]),
            teams,
            stages,
            sample::select(ACCOUNTS.to_vec()),
            app,
            tier,
            sample::select(IMAGES.to_vec()),
        )
            .prop_map(|(namespace, team, stage, service_account, app, tier, image)| {
                let pairs = |pairs: &[(&'static str, Option<&'static str>)]| {
                    let given = pairs.iter().filter_map(|(key, value)| Some((*key, (*value)?)));
                    labels(&given.collect::<Vec<_>>())
                };
                Pod {
                    namespace,
                    namespace_labels: pairs(&[("team", team), ("env", stage)]),
                    service_account,
                    labels: pairs(&[("app", app), ("tier", tier)]),
                    image,
                }
            })
    }

    proptest! {
        /// A grant that is not looked at refuses a pod that has it.
        #[test]
        fn the_index_finds_what_a_look_at_every_grant_finds(
            specs in vec(any_spec(), 1..12),
            pods in vec(any_pod(), 1..12),
        ) {
            let documents: Vec<_> = specs
                .iter()
                .enumerate()
                .map(|(number, (namespace, spec))| grant(&format!("g{number}"), namespace, spec))
                .collect();
            let grants = index(&documents);
            for pod in pods {
                let (subject, forms) = (pod.subject(), image_forms(pod.image));
                let mut scanned: Vec<_> =
                    grants.iter().filter(|grant| matches(grant, &subject, &forms)).map(|grant| grant.label()).collect();
                scanned.sort();
                let found = grants.matching(&subject, NOW.parse().unwrap());
                let found: Vec<_> = found.iter().map(|grant| grant.label()).collect();
                prop_assert_eq!(found, scanned, "{:?} {}", pod, documents.concat());
            }
        }
    }

    #[test]
    fn the_same_grant_twice_is_refused_and_the_same_name_elsewhere_is_not() {
        let read = |documents: &[String]| Grants::new(parse_documents(&documents.concat(), "test").unwrap());
        let twice = read(&[grant("g", "shop", ""), grant("g", "shop", "")]).unwrap_err().to_string();
        assert!(twice.contains("WasiGrant shop/g, metadata.name: given twice"), "{twice}");
        assert_eq!(read(&[grant("g", "shop", ""), grant("g", "shop2", "")]).unwrap().len(), 2);
        assert_eq!(read(&[]).unwrap().len(), 0);
    }
}
