//! The `wasmgate.dev/v1alpha1` `WasiException`: which rule may be broken, by which pods, why, and until when.
//!
//! ```yaml
//! apiVersion: wasmgate.dev/v1alpha1
//! kind: WasiException
//! metadata: { name: legacy-orders, namespace: shop }
//! spec:
//!   rules: [capability-not-provided]                     # by name, one by one
//!   subjects: { serviceAccounts: [orders] }      # as in a grant; omitted = every pod here
//!   containers: [api]                            # omitted = every container
//!   capabilities: [net.tcp.connect]              # omitted = whatever the rule is about
//!   reason: the socket is tried and not needed, TICKET-123
//!   expiresAt: 2027-03-31T00:00:00Z
//! ```
//!
//! A violation under an exception is recorded with the exception's name and refuses nothing. Use it for what no grant
//! can mend; prefer a grant for a capability.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::check;
use super::error::{Error, Problems};
use super::subject::{ByAccount, Subject, image_forms, includes};
use super::types::{NEVER_EXEMPT, WasiException};

impl WasiException {
    /// Whether it applies to a finding, apart from the pod and the image.
    fn is_for(&self, scope: &ViolationScope<'_>) -> bool {
        let spec = &self.spec;
        let among = |list: &[String], text: Option<&str>| {
            list.is_empty() || text.is_some_and(|text| list.iter().any(|one| one == text))
        };
        let capability = spec.capabilities.is_empty()
            || spec.capabilities.iter().any(|one| scope.capability == Some(one.as_str()));
        !NEVER_EXEMPT.contains(&scope.rule)
            && among(&spec.rules, Some(scope.rule))
            && among(&spec.containers, scope.container)
            && capability
    }

    fn includes(&self, pod: &PodIdentity<'_>, images: &[Vec<String>]) -> bool {
        let Some(subjects) = &self.spec.subjects else { return true };
        let subject = Subject {
            namespace: pod.namespace,
            namespace_labels: &BTreeMap::new(),
            service_account: pod.service_account,
            labels: pod.labels,
            image: "",
        };
        // One image that no pattern matches puts the finding outside the exception; so does having no image at all.
        let none = [Vec::new()];
        let images = if images.is_empty() { &none[..] } else { images };
        images.iter().all(|forms| includes(subjects, &subject, forms))
    }
}

/// The parts of a rule's finding that an exception is compared with.
#[derive(Debug, Clone, Copy)]
pub struct ViolationScope<'a> {
    /// Name of the rule.
    pub rule: &'a str,
    /// Container of the finding; `None` for the pod.
    pub container: Option<&'a str>,
    /// Capability of the finding.
    pub capability: Option<&'a str>,
}

/// The pod of a finding.
#[derive(Debug, Clone, Copy)]
pub struct PodIdentity<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// `ServiceAccount`; `default` when the pod names none.
    pub service_account: &'a str,
    /// Labels of the pod.
    pub labels: &'a BTreeMap<String, String>,
}

/// All exceptions, by namespace and service account.
#[derive(Debug, Clone, Default)]
pub struct Exceptions {
    all: Vec<Arc<WasiException>>,
    namespaces: HashMap<String, ByAccount<WasiException>>,
}

impl Exceptions {
    /// Checks and indexes exceptions. A wrong one refuses all of them, and so do two with the same name in a namespace.
    pub fn new(mut exceptions: Vec<WasiException>) -> Result<Self, Error> {
        exceptions.sort_by_cached_key(|e| (e.namespace().to_string(), e.name().to_string()));
        let problems = problems(&exceptions);
        if !problems.0.is_empty() {
            return Err(Error::CheckGrants { problems });
        }
        Ok(Self::of_checked(exceptions.into_iter().map(Arc::new)))
    }

    /// Indexes exceptions that were checked one by one ([`super::load::read_object`]) and have distinct names and
    /// namespaces. Keeps their order.
    pub fn of_checked(exceptions: impl IntoIterator<Item = Arc<WasiException>>) -> Self {
        let mut index = Self::default();
        for exception in exceptions {
            let namespace = index.namespaces.entry(exception.namespace().to_string()).or_default();
            namespace.insert(&exception, exception.spec.subjects.as_ref());
            index.all.push(exception);
        }
        index
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<WasiException>> {
        self.all.iter()
    }

    /// How many there are, expired ones included.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All that have expired, for a note when they are loaded.
    pub fn expired(&self, now: jiff::Timestamp) -> impl Iterator<Item = &Arc<WasiException>> {
        self.all.iter().filter(move |exception| exception.is_expired(now))
    }

    /// The exception for this finding at `now`; of several, the first by name. `images` are those of the finding's
    /// container, or of the whole pod if the finding is about the pod. An exception for some images applies only if it
    /// is for all of these.
    pub fn of(
        &self,
        pod: &PodIdentity<'_>,
        images: &[&str],
        scope: &ViolationScope<'_>,
        now: jiff::Timestamp,
    ) -> Option<&Arc<WasiException>> {
        let candidates = self.namespaces.get(pod.namespace)?.of(pod.service_account);
        let mut fitting = candidates.filter(|e| !e.is_expired(now) && e.is_for(scope)).peekable();
        fitting.peek()?;
        let forms: Vec<Vec<String>> = images.iter().map(|image| image_forms(image)).collect();
        fitting.filter(|e| e.includes(pod, &forms)).min_by_key(|e| e.name())
    }
}

fn problems(sorted: &[WasiException]) -> Problems {
    Problems::of(sorted, WasiException::identity, check::check_exception)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::load::parse;

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn document(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: wasmgate.dev/v1alpha1\nkind: WasiException\nmetadata: {{ name: {name}, namespace: shop }}\n\
             spec: {{ {spec} }}\n"
        )
    }

    fn read(text: &str) -> Result<Exceptions, Error> {
        Exceptions::new(parse(text, "e.yaml")?.exceptions)
    }

    const BASE: &str = "rules: [needs-grant], reason: why, expiresAt: 2026-07-01T00:00:00Z";

    fn scope() -> ViolationScope<'static> {
        ViolationScope { rule: "needs-grant", container: Some("api"), capability: Some("fs") }
    }

    /// The name of the exception for a finding about account `orders` in namespace `shop`.
    fn used(exceptions: &Exceptions, scope: &ViolationScope<'_>, images: &[&str]) -> Option<String> {
        let labels = BTreeMap::from([("app".to_string(), "api".to_string())]);
        let pod = PodIdentity { namespace: "shop", service_account: "orders", labels: &labels };
        let found = exceptions.of(&pod, images, scope, NOW.parse().unwrap());
        found.map(|e| e.name().to_string())
    }

    #[test]
    fn every_part_of_an_exception_must_match() {
        for (more, expected) in [
            ("", true),
            ("containers: [api]", true),
            ("containers: [other]", false),
            ("capabilities: [fs]", true),
            ("capabilities: [env]", false),
            ("subjects: { serviceAccounts: [orders] }", true),
            ("subjects: { serviceAccounts: [other] }", false),
            ("subjects: { images: ['ghcr.io/org/*'] }", true),
            ("subjects: { images: ['ghcr.io/other/*'] }", false),
            ("subjects: { podSelector: { matchLabels: { app: api } } }", true),
            ("subjects: { podSelector: { matchLabels: { app: web } } }", false),
        ] {
            let comma = if more.is_empty() { "" } else { ", " };
            let exceptions = read(&document("e", &format!("{BASE}{comma}{more}"))).unwrap();
            let found = used(&exceptions, &scope(), &["ghcr.io/org/app:v1"]);
            assert_eq!(found.is_some(), expected, "{more}");
        }
    }

    #[test]
    fn another_rule_namespace_or_time_is_not_excepted() {
        let exceptions = read(&document("e", BASE)).unwrap();
        let other = ViolationScope { rule: "native-code", ..scope() };
        assert_eq!(used(&exceptions, &other, &["a"]), None);
        let labels = BTreeMap::new();
        let elsewhere = PodIdentity { namespace: "shop2", service_account: "orders", labels: &labels };
        assert!(exceptions.of(&elsewhere, &["a"], &scope(), NOW.parse().unwrap()).is_none());
        let here = PodIdentity { namespace: "shop", ..elsewhere };
        let end = "2026-07-01T00:00:00Z".parse().unwrap();
        assert!(exceptions.of(&here, &["a"], &scope(), end).is_none());
        assert_eq!(exceptions.expired(end).count(), 1);
    }

    #[test]
    fn a_finding_about_the_pod_needs_an_exception_for_all_images_and_without_containers() {
        let of_pod = ViolationScope { container: None, capability: None, ..scope() };
        let by_image = read(&document("e", &format!("{BASE}, subjects: {{ images: ['a*'] }}"))).unwrap();
        assert!(used(&by_image, &of_pod, &["a1", "a2"]).is_some());
        assert!(used(&by_image, &of_pod, &["a1", "b"]).is_none());
        assert!(used(&by_image, &of_pod, &[]).is_none());
        let by_container = read(&document("e", &format!("{BASE}, containers: [api]"))).unwrap();
        assert!(used(&by_container, &of_pod, &["a1"]).is_none());
        let by_capability = read(&document("e", &format!("{BASE}, capabilities: [fs]"))).unwrap();
        assert!(used(&by_capability, &of_pod, &["a1"]).is_none());
    }

    #[test]
    fn of_several_the_first_by_name_is_used() {
        let text = [document("b", BASE), document("a", BASE)].concat();
        assert_eq!(used(&read(&text).unwrap(), &scope(), &["x"]).as_deref(), Some("a"));
    }

    #[test]
    fn problems_are_refused_with_place_and_fix() {
        for (spec, field, message) in [
            ("rules: [], reason: r, expiresAt: 2026-07-01T00:00:00Z", "spec.rules", "no rule is excepted"),
            (
                "rules: ['*'], reason: r, expiresAt: 2026-07-01T00:00:00Z",
                "spec.rules[0]",
                "such as `needs-grant`",
            ),
            (
                "rules: [policy-error], reason: r, expiresAt: 2026-07-01T00:00:00Z",
                "spec.rules[0]",
                "cannot be excepted",
            ),
            (
                "rules: [unknown-input], reason: r, expiresAt: 2026-07-01T00:00:00Z",
                "spec.rules[0]",
                "cannot be excepted",
            ),
            ("rules: [a], expiresAt: 2026-07-01T00:00:00Z", "spec.reason", "missing"),
            ("rules: [a], reason: ' ', expiresAt: 2026-07-01T00:00:00Z", "spec.reason", "write why"),
            ("rules: [a], reason: r", "spec.expiresAt", "missing; write an RFC 3339 time"),
            ("rules: [a], reason: r, expiresAt: later", "spec.expiresAt", "RFC 3339"),
            (
                "rules: [a], reason: r, expiresAt: 2026-07-01T00:00:00Z, capabilities: [fz]",
                "spec.capabilities[0]",
                "unknown capability",
            ),
            (
                "rules: [a], reason: r, expiresAt: 2026-07-01T00:00:00Z, container: x",
                "spec.container",
                "did you mean `containers`?",
            ),
            (
                "rules: [a], reason: r, expiresAt: 2026-07-01T00:00:00Z, subjects: { images: [''] }",
                "spec.subjects.images[0]",
                "empty",
            ),
        ] {
            let refused = read(&document("e", spec)).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("{field}: ")) && refused.contains(message),
                "{spec}: {refused}"
            );
        }
        let twice = [document("e", BASE), document("e", BASE)].concat();
        assert!(read(&twice).unwrap_err().to_string().contains("given twice"));
        let nowhere = document("e", BASE).replace(", namespace: shop", "");
        assert!(read(&nowhere).unwrap_err().to_string().contains("metadata.namespace"));
    }

    #[test]
    fn grants_and_exceptions_may_share_a_file() {
        let grant = "---\napiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: { name: g, namespace: shop }\n\
                     spec: { capabilities: [{ name: env }] }\n";
        let read = parse(&format!("{grant}{}", document("e", BASE)), "both.yaml").unwrap();
        assert_eq!((read.grants.len(), read.exceptions.len()), (1, 1));
    }
}
