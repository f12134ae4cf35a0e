//! `wasmgate suggest`: the smallest grant that would let a workload in, why each line is there, and what nobody can know
//! from the image alone.

mod advice;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::args::SuggestOptions;
use super::manifest::{self, Manifest};
use super::{Error, Exit, build, print, render};
use crate::admission::examine::{self, Open};
use crate::admission::{Examination, State};
use crate::capability::Entry;
use crate::grant::draft::{GrantDraft, comment};
use crate::grant::index::repository;
use crate::judge::input::UserFacts;
use crate::judge::{JudgedViolation, RequestFacts};
use crate::lookup::Inspector;
use crate::policy::{EnforcementAction, Violation};
use crate::workload::{Kind, Workload};

/// Rules that a grant satisfies: those that speak of an uncovered capability (`policies/wasmgate/concern.rego`), but for
/// native code, which no grant lets in.
pub const MENDABLE: [&str; 6] =
    ["needs-grant", "grant-expired", "plugin-env", "secret-in-reach", "unknown-import", IDLE];

/// The rule that speaks of what is handed over and out of reach.
const IDLE: &str = "ambient-wider-than-grant";

/// Rules that leave a container out of the grant: under another runtime or with another image it would need another.
const PREVENTING: [&str; 3] = ["runtime-mismatch", "native-code", "not-inspected"];

/// What would let one object in.
#[derive(Debug, Clone, Default)]
pub struct Suggestion {
    /// Kind, namespace and name.
    pub object: String,
    /// The answer in one sentence.
    pub summary: String,
    /// `WasiGrant`s in YAML, one for each image.
    pub grants: Vec<String>,
    /// What cannot be known from the image, and how to know or narrow it.
    pub warnings: Vec<String>,
    /// What denies and no grant can mend, as the rules say it.
    pub blocked: Vec<String>,
}

/// Prints the grants. Standard output is a file of manifests; warnings are comments in it, and stand on standard error
/// for whoever redirects it.
pub async fn run(options: Box<SuggestOptions>) -> Result<Exit, Error> {
    let settings = build::settings(&options.gate)?;
    let manifests = match &options.image {
        Some(image) => vec![pod_of(image, &options.namespace)],
        None => manifest::read(&options.files)?,
    };
    if manifests.is_empty() {
        let paths: Vec<_> = options.files.iter().map(|p| format!("`{}`", p.display())).collect();
        return Err(Error::NothingToExplain(paths.join(", ")));
    }
    let state = build::state(&settings).await?;
    let inspector = build::inspector(&settings)?;
    let mut taken = names_of_grants(&state);
    let mut suggestions = Vec::new();
    for manifest in &manifests {
        let budget = Duration::from_secs(options.timeout);
        suggestions
            .push(suggest(&state, &inspector, manifest, &options.namespace, budget, &mut taken).await?);
    }
    let documents: Vec<String> = suggestions.iter().map(Suggestion::to_yaml).collect();
    print(documents.join("---\n").as_bytes())?;
    for suggestion in &suggestions {
        for line in suggestion.warnings.iter().chain(&suggestion.blocked) {
            anstream::eprintln!("{}: {}", render::safe(&suggestion.object), render::safe(line));
        }
    }
    let blocked = suggestions.iter().any(|s| !s.blocked.is_empty());
    Ok(if blocked { Exit::Denied } else { Exit::Success })
}

/// The image alone: what a pod would add by volumes, variables and a token is the pod's.
fn pod_of(image: &str, namespace: &str) -> Manifest {
    let name = dns_name(repository(image).rsplit('/').next().unwrap_or_default());
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [{"name": name, "image": image}],
        },
    });
    Manifest { origin: image.to_string(), object }
}

/// Namespace and name of every `WasiGrant` that is there already, so that a new one replaces none.
pub fn names_of_grants(state: &State) -> BTreeSet<(String, String)> {
    let grants = state.grants.iter().filter(|grant| !grant.is_cluster());
    grants.map(|g| (g.namespace().unwrap_or_default().to_string(), g.name().to_string())).collect()
}

/// What would let one object in. `taken` are the names that new grants may not have; the new ones are added.
pub async fn suggest(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    namespace: &str,
    budget: Duration,
    taken: &mut BTreeSet<(String, String)>,
) -> Result<Suggestion, Error> {
    let gvk = manifest.kind();
    let namespace = match manifest.text("/metadata/namespace") {
        "" => namespace,
        own => own,
    };
    let name = manifest.text("/metadata/name");
    let object = format!("{} {namespace}/{name}", gvk.kind);
    let Some(kind) = Kind::of(&gvk) else {
        let summary = "carries no pod, so there is nothing to grant".to_string();
        return Ok(Suggestion { object, summary, ..Suggestion::default() });
    };
    let request = RequestFacts {
        uid: "",
        operation: "CREATE",
        kind: &gvk,
        sub_resource: "",
        namespace,
        name,
        user: UserFacts::default(),
        dry_run: true,
    };
    let failed = |source| Error::Explain { object: format!("{object} ({})", manifest.origin), source };
    let examination =
        examine::examine(state, inspector, &request, &manifest.object, kind, budget).await.map_err(failed)?;
    let open = examine::open(state, &request, &examination).map_err(failed)?;
    let suggestion = judged(state, &examination, open, taken);
    Ok(Suggestion { object, ..suggestion })
}

fn judged(
    state: &State,
    examination: &Examination,
    open: Vec<Open>,
    taken: &mut BTreeSet<(String, String)>,
) -> Suggestion {
    let Some(judgement) = &examination.judgement else { return unjudged(examination) };
    let violations = &judgement.verdict.violations;
    let denied = |v: &&JudgedViolation| v.action == EnforcementAction::Deny;
    let unmendable = violations.iter().filter(denied).filter(|v| !is_mendable(&v.violation));
    let blocked: Vec<String> = unmendable
        .map(|v| format!("[{}] {} (no grant can mend this)", v.violation.rule, v.violation.message))
        .collect();
    let open: Vec<Open> = open.into_iter().filter_map(|open| grantable(open, violations)).collect();
    let warnings = advice::of(state, examination, &open);
    let grants = drafts(&examination.workload, &open, taken);
    let summary = match (grants.is_empty(), blocked.is_empty()) {
        (true, true) => "nothing is missing",
        (false, true) => "this would let it in",
        (true, false) => "no grant would let it in",
        (false, false) => "this is needed and not enough: a rule denies what no grant can mend",
    };
    Suggestion { summary: summary.to_string(), grants, warnings, blocked, ..Suggestion::default() }
}

/// Whether a grant would mend it. One for everything that a runtime might hand over is no grant: a profile of it is meant.
pub fn is_mendable(violation: &Violation) -> bool {
    let rule = violation.rule.as_str();
    MENDABLE.contains(&rule) && (rule != IDLE || violation.capability.is_some())
}

/// An object that no policy was asked about. When an image could not be read, it may be Wasm all the same.
fn unjudged(examination: &Examination) -> Suggestion {
    let unread = |c: &crate::inspection::Container| match &c.lookup {
        crate::inspection::LookupResult::Unread { error } => {
            Some(format!("container `{}`: nobody can tell what it would need: {error}", c.name))
        }
        crate::inspection::LookupResult::Known { .. } => None,
    };
    let blocked: Vec<String> = examination.inspection.containers.iter().filter_map(unread).collect();
    let summary =
        if blocked.is_empty() { "no Wasm in it, so nothing is needed" } else { "an image could not be read" };
    Suggestion { summary: summary.to_string(), blocked, ..Suggestion::default() }
}

/// What of a container a grant would change: not one that something prevents from starting at all, and nothing that an
/// exception exempts.
fn grantable(mut open: Open, violations: &[JudgedViolation]) -> Option<Open> {
    let own = |v: &&JudgedViolation| v.violation.container.as_deref() == Some(open.container.as_str());
    let own: Vec<&JudgedViolation> = violations.iter().filter(own).collect();
    let prevented = own
        .iter()
        .any(|v| v.action == EnforcementAction::Deny && PREVENTING.contains(&v.violation.rule.as_str()));
    let exempted: BTreeSet<&str> = own
        .iter()
        .filter(|v| v.exempted.is_some() && MENDABLE.contains(&v.violation.rule.as_str()))
        .filter_map(|v| v.violation.capability.as_deref())
        .collect();
    let idle = |entry: &Entry| {
        let capability = Some(entry.capability.as_str());
        own.iter().any(|v| v.violation.rule == IDLE && v.violation.capability.as_deref() == capability)
    };
    open.entries.extend(std::mem::take(&mut open.ambient).into_iter().filter(idle));
    open.entries.retain(|entry| !exempted.contains(entry.capability.as_str()));
    (!prevented && !open.entries.is_empty()).then_some(open)
}

/// The `WasiGrant`s that would cover what nobody granted, for `explain`.
pub(super) fn grants(state: &State, examination: &Examination, open: Vec<Open>) -> Vec<String> {
    let violations =
        examination.judgement.as_ref().map(|j| j.verdict.violations.as_slice()).unwrap_or_default();
    let open: Vec<Open> = open.into_iter().filter_map(|open| grantable(open, violations)).collect();
    drafts(&examination.workload, &open, &mut names_of_grants(state))
}

/// A grant for each image: a sidecar does not get what the main container needs.
fn drafts(workload: &Workload, open: &[Open], taken: &mut BTreeSet<(String, String)>) -> Vec<String> {
    let mut images: Vec<(String, Vec<&Open>)> = Vec::new();
    for one in open {
        let image = repository(&one.image);
        match images.iter_mut().find(|(known, _)| *known == image) {
            Some((_, list)) => list.push(one),
            None => images.push((image, vec![one])),
        }
    }
    let several = images.len() > 1;
    let draft = |(image, list): (String, Vec<&Open>)| {
        let entries: Vec<_> = list.iter().flat_map(|open| open.entries.iter().cloned()).collect();
        let container = list.first().map(|open| open.container.as_str()).unwrap_or_default();
        let own = if workload.name.is_empty() { container } else { &workload.name };
        let wanted = if several { format!("{own}-{container}") } else { own.to_string() };
        let draft = GrantDraft {
            name: &free_name(&dns_name(&wanted), &workload.namespace, taken),
            namespace: &workload.namespace,
            service_account: workload.service_account(),
            images: &[image],
            entries: &entries,
        };
        draft.to_yaml()
    };
    images.into_iter().map(draft).collect()
}

fn free_name(wanted: &str, namespace: &str, taken: &mut BTreeSet<(String, String)>) -> String {
    let mut name = wanted.to_string();
    let mut number = 2_u32;
    while !taken.insert((namespace.to_string(), name.clone())) {
        name = format!("{wanted}-{number}");
        number = number.saturating_add(1);
    }
    name
}

/// A text as a name that the API server takes (RFC 1123 subdomain, shortened).
fn dns_name(text: &str) -> String {
    let lower = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(lower).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "new-grant".to_string() } else { name.to_string() }
}

impl Suggestion {
    /// Comments, then one document for each grant.
    pub fn to_yaml(&self) -> String {
        let mut text = format!("# {}: {}\n", comment(&self.object), comment(&self.summary));
        for (label, lines) in [("warning", &self.warnings), ("denied", &self.blocked)] {
            for line in lines.iter().flat_map(|text| labelled(label, text)) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "# {line}");
            }
        }
        text.push_str(&self.grants.join("---\n"));
        text
    }
}

/// The lines of a message, the first one behind its label.
fn labelled(label: &str, text: &str) -> Vec<String> {
    let line = |(index, line): (usize, &str)| match index {
        0 => format!("{label}: {}", comment(line)),
        _ => format!("  {}", comment(line)),
    };
    text.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_fit_for_the_api_server_and_is_not_used_twice() {
        for (text, expected) in [
            ("orders", "orders"),
            ("My_App", "my-app"),
            ("--", "new-grant"),
            ("", "new-grant"),
            ("a.b", "a-b"),
        ] {
            assert_eq!(dns_name(text), expected);
        }
        let mut taken = BTreeSet::from([("shop".to_string(), "orders".to_string())]);
        assert_eq!(free_name("orders", "shop", &mut taken), "orders-2");
        assert_eq!(free_name("orders", "shop", &mut taken), "orders-3");
        assert_eq!(free_name("orders", "other", &mut taken), "orders");
    }

    #[test]
    fn no_line_of_a_message_leaves_its_comment() {
        let suggestion = Suggestion {
            object: "Pod shop/a\nb".into(),
            summary: "s".into(),
            blocked: vec!["[rule] first\n- { name: env }\r\nthird".into()],
            ..Suggestion::default()
        };
        assert!(suggestion.to_yaml().lines().all(|line| line.starts_with("# ")));
    }
}
