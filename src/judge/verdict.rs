//! Turns the violations of the policies into a verdict.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EnforcementSettings;
use super::enforcement::Enforcement;
use crate::grant::exception::{Exceptions, PodIdentity, ViolationScope};
use crate::inspection::Inspection;
use crate::policy::{EnforcementAction, Evaluation, Violation};
use crate::workload::Workload;

/// Rule name of the violation that stands for a bundle that could not be evaluated.
pub const POLICY_ERROR: &str = "policy-error";

/// The exception that covers a violation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exemption {
    /// `namespace/name` of the `WasiException`.
    pub exception: String,
    /// Its reason.
    pub reason: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A violation and its action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct JudgedViolation {
    /// The action after enforcement actions, overrides and exceptions: an exempted violation is only recorded.
    #[serde(rename = "enforced")]
    pub action: EnforcementAction,
    /// The exception that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exempted: Option<Exemption>,
    /// The action that it would have if its bundle did not run in the shadow; `None` for a bundle that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<EnforcementAction>,
    /// The violation from the rule.
    #[serde(flatten)]
    pub violation: Violation,
}

/// All violations of the policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Judged violations, denials first, then by rule and container.
    pub violations: Vec<JudgedViolation>,
    /// Notes about labels of the namespace with unknown values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether anything denies.
    pub fn denied(&self) -> bool {
        self.at(EnforcementAction::Deny).next().is_some()
    }

    /// Whether nothing denies but so many bundles that had no place in time. What another one denies is denied, whatever these would have found.
    pub fn is_denied_by_load_alone(&self, overloaded: usize) -> bool {
        overloaded > 0 && self.at(EnforcementAction::Deny).count() == overloaded
    }

    /// The violations of the bundles that decide.
    pub fn in_force(&self) -> impl Iterator<Item = &JudgedViolation> {
        self.violations.iter().filter(|v| v.shadow.is_none())
    }

    /// The same verdict, which also records what bundles in the shadow have found.
    #[must_use]
    pub fn with_shadow(mut self, found: Self) -> Self {
        let recorded = |v: JudgedViolation| JudgedViolation {
            action: EnforcementAction::Audit,
            shadow: Some(v.action),
            ..v
        };
        self.violations.extend(found.violations.into_iter().map(recorded));
        self
    }

    /// Says of bundles in the shadow that they would warn where they would deny pods: the verdict is on a template, which is never
    /// refused.
    pub fn never_deny_in_shadow(&mut self) {
        for action in self.violations.iter_mut().filter_map(|v| v.shadow.as_mut()) {
            *action = (*action).min(EnforcementAction::Warn);
        }
    }

    /// The violations with exactly this action.
    pub fn at(&self, action: EnforcementAction) -> impl Iterator<Item = &JudgedViolation> {
        self.violations.iter().filter(move |v| v.action == action)
    }

    /// The strictest action; `None` without violations.
    pub fn strictest(&self) -> Option<EnforcementAction> {
        self.in_force().map(|v| v.action).max()
    }

    /// Rule and exception of every violation that was exempted, such as `capability-not-provided=shop/legacy`, sorted.
    pub fn exemptions(&self) -> BTreeSet<String> {
        let exemption = |v: &JudgedViolation| {
            let exemption = v.exempted.as_ref()?;
            Some(format!("{}={}", v.violation.rule, exemption.exception))
        };
        self.in_force().filter_map(exemption).collect()
    }
}

/// The images of the containers of a pod, made of the name and the image of each. A tenant chooses how many there are, and violations.
#[derive(Debug, Clone, Default)]
pub struct ContainerImages<'a> {
    all: Vec<&'a str>,
    by_name: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> FromIterator<(&'a str, &'a str)> for ContainerImages<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(containers: I) -> Self {
        let mut images = Self::default();
        for (name, image) in containers {
            images.all.push(image);
            images.by_name.entry(name).or_default().push(image);
        }
        images
    }
}

impl<'a> ContainerImages<'a> {
    /// The images of a container; all images for a violation about the pod or about a container that it does not have.
    fn of(&self, container: Option<&str>) -> &[&'a str] {
        container.and_then(|name| self.by_name.get(name)).unwrap_or(&self.all)
    }
}

/// What decides which exceptions apply: the pod, its images, and the time.
#[derive(Debug, Clone)]
pub struct ExemptionContext<'a> {
    /// All exceptions.
    pub exceptions: &'a Exceptions,
    /// The pod.
    pub pod: PodIdentity<'a>,
    /// The images of its containers.
    pub images: ContainerImages<'a>,
    /// The time, which decides whether an exception has expired.
    pub now: Timestamp,
}

impl<'a> ExemptionContext<'a> {
    /// The exceptions for a workload.
    pub fn of_workload(
        exceptions: &'a Exceptions,
        workload: &'a Workload,
        inspection: &'a Inspection,
        now: Timestamp,
    ) -> Self {
        let pod = PodIdentity {
            namespace: &workload.namespace,
            service_account: workload.service_account(),
            labels: &workload.labels,
        };
        // Without exceptions none is looked for.
        let containers = inspection.containers.iter().filter(|_| !exceptions.is_empty());
        let images = containers.map(|c| (c.name.as_str(), c.image.as_str())).collect();
        Self { exceptions, pod, images, now }
    }

    /// The exception that covers a violation.
    fn of(&self, violation: &Violation) -> Option<Exemption> {
        if self.exceptions.is_empty() {
            return None;
        }
        let scope = ViolationScope {
            rule: &violation.rule,
            container: violation.container.as_deref(),
            capability: violation.capability.as_deref(),
        };
        let images = self.images.of(violation.container.as_deref());
        let found = self.exceptions.of(&self.pod, images, &scope, self.now)?;
        Some(Exemption {
            exception: format!("{}/{}", found.namespace(), found.name()),
            reason: found.spec.reason.clone(),
            expires_at: found.spec.expires_at,
        })
    }
}

/// Applies enforcement actions and exceptions to the violations. A bundle that could not be evaluated denies, whatever the
/// enforcement action and the exceptions are, since its verdict is not known.
pub fn decide(
    evaluation: Evaluation,
    settings: &EnforcementSettings,
    enforcement: Enforcement,
    exemption_context: &ExemptionContext<'_>,
) -> Verdict {
    let failures = evaluation.failures.into_iter().map(|failure| JudgedViolation {
        action: EnforcementAction::Deny,
        exempted: None,
        shadow: None,
        violation: Violation {
            rule: POLICY_ERROR.to_string(),
            message: failure.message,
            bundle: Some(failure.bundle),
            ..Violation::default()
        },
    });
    let judged = evaluation.violations.into_iter().map(|violation| {
        let exempted =
            if settings.may_exempt(&violation.rule) { exemption_context.of(&violation) } else { None };
        let action = match exempted {
            Some(_) => EnforcementAction::Audit,
            None => settings.action(&enforcement, &violation.rule, violation.action),
        };
        JudgedViolation { action, exempted, shadow: None, violation }
    });
    let mut violations: Vec<_> = failures.chain(judged).collect();
    violations.sort_by(|a, b| b.action.cmp(&a.action).then_with(|| a.violation.cmp(&b.violation)));
    Verdict { violations, notes: enforcement.notes }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;
    use crate::grant::load::parse;
    use crate::policy::BundleFailure;
    use crate::workload::Kind;

    fn violation(rule: &str, action: Option<EnforcementAction>) -> Violation {
        Violation { rule: rule.into(), message: "m".into(), action, ..Violation::default() }
    }

    fn decide(evaluation: Evaluation, action: EnforcementAction) -> Verdict {
        decide_with(evaluation, &EnforcementSettings::default(), action, "")
    }

    /// A pod `shop/orders` without containers, judged with these exceptions.
    fn decide_with(
        evaluation: Evaluation,
        settings: &EnforcementSettings,
        action: EnforcementAction,
        exceptions: &str,
    ) -> Verdict {
        let exceptions = Exceptions::new(parse(exceptions, "e.yaml").unwrap().exceptions).unwrap();
        let workload = Workload {
            kind: Kind::Pod,
            name: "orders".into(),
            namespace: "shop".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            terminating: false,
            of_stateful_set: false,
            spec: PodSpec::default(),
        };
        let (inspection, now) = (Inspection::default(), "2026-06-01T00:00:00Z".parse().unwrap());
        let exemption_context = ExemptionContext::of_workload(&exceptions, &workload, &inspection, now);
        super::decide(evaluation, settings, Enforcement::at(action), &exemption_context)
    }

    #[test]
    fn a_violation_about_the_pod_or_a_container_that_it_lacks_is_about_all_images() {
        let images: ContainerImages<'_> =
            [("web", "a:1"), ("db", "b:1"), ("web", "c:1")].into_iter().collect();
        assert_eq!(images.of(Some("web")), ["a:1", "c:1"], "a manifest may have a name twice");
        assert_eq!(images.of(Some("db")), ["b:1"]);
        assert_eq!(
            (images.of(None), images.of(Some("none"))),
            (&["a:1", "b:1", "c:1"][..], &["a:1", "b:1", "c:1"][..])
        );
    }

    #[test]
    fn what_a_bundle_in_the_shadow_finds_is_recorded_with_what_it_would_do_and_decides_nothing() {
        let found = Evaluation {
            violations: vec![violation("a", None), violation("b", Some(EnforcementAction::Warn))],
            ..failed()
        };
        let shadow = decide(found, EnforcementAction::Deny);
        let verdict = decide(Evaluation::default(), EnforcementAction::Deny).with_shadow(shadow);
        assert_eq!((verdict.denied(), verdict.strictest()), (false, None));
        assert_eq!(verdict.in_force().count(), 0);
        let would: Vec<_> = verdict.violations.iter().map(|v| (v.action.as_str(), v.shadow)).collect();
        let (deny, warn) = (Some(EnforcementAction::Deny), Some(EnforcementAction::Warn));
        assert_eq!(would, [("audit", deny), ("audit", deny), ("audit", warn)]);
    }

    fn exception(name: &str, rules: &str) -> String {
        format!(
            "---\napiVersion: wasmgate.dev/v1alpha1\nkind: WasiException\nmetadata: {{ name: {name}, namespace: shop }}\n\
             spec: {{ rules: [{rules}], reason: why, expiresAt: 2026-07-01T00:00:00Z }}\n"
        )
    }

    #[test]
    fn nothing_found_admits() {
        let verdict = decide(Evaluation::default(), EnforcementAction::Deny);
        assert!(!verdict.denied());
        assert_eq!(verdict.strictest(), None);
    }

    #[test]
    fn denials_come_first() {
        let evaluation = Evaluation {
            violations: vec![violation("a", Some(EnforcementAction::Warn)), violation("b", None)],
            ..Evaluation::default()
        };
        let verdict = decide(evaluation, EnforcementAction::Deny);
        let rules: Vec<_> = verdict.violations.iter().map(|v| v.violation.rule.as_str()).collect();
        assert_eq!(rules, ["b", "a"]);
        assert!(verdict.denied());
    }

    fn failed() -> Evaluation {
        let failure = BundleFailure {
            bundle: "extra".into(),
            message: "policy bundle `extra` could not be evaluated: it ran out of time".into(),
        };
        Evaluation { failures: vec![failure], ..Evaluation::default() }
    }

    #[test]
    fn the_load_alone_denies_only_where_nothing_else_does() {
        let beside = |action, overloaded| {
            let evaluation = Evaluation { violations: vec![violation("a", action)], ..failed() };
            decide(evaluation, EnforcementAction::Deny).is_denied_by_load_alone(overloaded)
        };
        assert!(beside(Some(EnforcementAction::Warn), 1));
        assert!(!beside(Some(EnforcementAction::Warn), 0), "its failure has another reason");
        assert!(!beside(Some(EnforcementAction::Deny), 1));
        let admitted = decide(Evaluation::default(), EnforcementAction::Deny);
        assert!(!admitted.is_denied_by_load_alone(0));
    }

    #[test]
    fn a_bundle_that_fails_denies_even_where_the_namespace_only_warns() {
        let verdict = decide(failed(), EnforcementAction::Audit);
        assert!(verdict.denied());
        assert!(verdict.violations[0].violation.message.contains("`extra`"));
    }

    #[test]
    fn what_an_exception_exempts_is_kept_with_its_name_and_refuses_nothing() {
        let evaluation = || Evaluation {
            violations: vec![violation("a", None), violation("b", None)],
            ..Evaluation::default()
        };
        let one = decide_with(
            evaluation(),
            &EnforcementSettings::default(),
            EnforcementAction::Deny,
            &exception("e", "a"),
        );
        assert!(one.denied());
        assert_eq!(one.exemptions(), BTreeSet::from(["a=shop/e".to_string()]));
        let both = decide_with(
            evaluation(),
            &EnforcementSettings::default(),
            EnforcementAction::Deny,
            &exception("e", "a, b"),
        );
        assert!(!both.denied());
        assert_eq!((both.strictest(), both.violations.len()), (Some(EnforcementAction::Audit), 2));
        let exemption = both.violations[0].exempted.as_ref().unwrap();
        assert_eq!((exemption.exception.as_str(), exemption.reason.as_str()), ("shop/e", "why"));
    }

    #[test]
    fn an_image_that_could_not_be_read_is_exempted_where_its_rule_is_named() {
        let evaluation =
            || Evaluation { violations: vec![violation("not-inspected", None)], ..Evaluation::default() };
        let named = decide_with(
            evaluation(),
            &EnforcementSettings::default(),
            EnforcementAction::Deny,
            &exception("e", "not-inspected"),
        );
        assert!(!named.denied());
        let other = decide_with(
            evaluation(),
            &EnforcementSettings::default(),
            EnforcementAction::Deny,
            &exception("e", "needs-grant"),
        );
        assert!(other.denied());
    }

    #[test]
    fn nothing_exempts_a_bundle_that_failed_or_a_rule_that_the_platform_keeps() {
        let every_rule = exception("e", "a, b");
        let verdict =
            decide_with(failed(), &EnforcementSettings::default(), EnforcementAction::Deny, &every_rule);
        assert!(verdict.denied());
        // A rule of a bundle may have any name.
        let impostor =
            Evaluation { violations: vec![violation(POLICY_ERROR, None)], ..Evaluation::default() };
        assert!(
            decide_with(impostor, &EnforcementSettings::default(), EnforcementAction::Deny, &every_rule)
                .denied()
        );
        let settings =
            EnforcementSettings { never_exempt: ["a".to_string()].into(), ..EnforcementSettings::default() };
        let kept = Evaluation { violations: vec![violation("a", None)], ..Evaluation::default() };
        assert!(decide_with(kept, &settings, EnforcementAction::Deny, &every_rule).denied());
    }
}
