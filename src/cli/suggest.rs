//! `wasmgate suggest`: writes the smallest grant that would admit a workload, the reason for each line, and what cannot be
//! known from the image alone.

mod advice;
mod network;
mod open;
mod suggestion;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use open::{Open, grantable, prevents};
use suggestion::{dns_name, summary};

pub use suggestion::Suggestion;

use super::args::SuggestOptions;
use super::manifest::Manifest;
use super::report::JudgedFacts;
use super::{Error, Exit, build, print, rehearse};
use crate::admission::{Ending, Examined, Judged, Rehearsal, Skip, State};
use crate::audit::mask::hider_of;
use crate::capability::Entry;
use crate::grant::draft::GrantDraft;
use crate::image::reference::repository;
use crate::inspection::{Container, Inspection};
use crate::judge::JudgedViolation;
use crate::lookup::Inspector;
use crate::policy::{EnforcementAction, MendedBy, Violation};
use crate::text;
use crate::workload::Workload;

/// Prints the grants. Standard output is a file of manifests with warnings as comments. The warnings also go to standard
/// error, for users who redirect the output.
pub async fn run(options: Box<SuggestOptions>) -> Result<Exit, Error> {
    let settings = build::settings(&options.gate)?;
    let manifests = match &options.image {
        Some(file) if is_file(file) => return Err(Error::SuggestFile { path: file.clone() }),
        Some(image) => vec![pod_of(image, &options.namespace)],
        None if options.files.is_empty() => return Err(Error::NothingToSuggest),
        None => rehearse::manifests(&options.files)?,
    };
    let state = build::state(&settings).await?;
    let inspector = build::inspector(&settings)?;
    let templates = manifests.iter().flat_map(|manifest| rehearse::templates(&state, manifest));
    let manifests: Vec<Manifest> = templates.map(|(_, manifest)| manifest).collect();
    let mut taken = names_of_grants(&state);
    let mut suggestions = Vec::new();
    for manifest in &manifests {
        let budget = Duration::from_secs(options.timeout);
        let namespace = &options.namespace;
        let suggestion = if options.network_policy {
            suggest_policy(&state, &inspector, manifest, namespace, budget).await
        } else {
            suggest(&state, &inspector, manifest, namespace, budget, &mut taken).await
        };
        // One object that is wrong does not hide the others.
        suggestions.push(suggestion.unwrap_or_else(|error| {
            let hider = hider_of(&state.masks, &manifest.object, std::iter::empty());
            of_error(title(manifest, namespace), &error).without(&hider)
        }));
    }
    let documents: Vec<String> = suggestions.iter().map(Suggestion::to_yaml).collect();
    print(text::json_without_commands(&documents.join("---\n")).as_bytes())?;
    for suggestion in &suggestions {
        for line in suggestion.lines().flat_map(|(_, lines)| lines) {
            let said = format!("{}: {}", text::visible(&suggestion.object), text::line(line));
            anstream::eprintln!("{}", text::without_commands(&said));
        }
    }
    Ok(exit(&suggestions))
}

fn exit(suggestions: &[Suggestion]) -> Exit {
    let any = |is: fn(&Suggestion) -> bool| suggestions.iter().any(is);
    if any(|s| !s.errors.is_empty()) {
        Exit::Unreadable
    } else if any(|s| !s.blocked.is_empty()) {
        Exit::Denied
    } else if any(|s| !s.unknown.is_empty()) {
        Exit::Unread
    } else {
        Exit::Success
    }
}

/// Whether the name is that of a manifest; a registry would be asked for it in vain.
fn is_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    name == "-" || matches!(extension, Some("yaml" | "yml" | "json"))
}

/// A pod with the image and nothing else: no volumes, no variables, no token.
pub(super) fn pod_of(image: &str, namespace: &str) -> Manifest {
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

/// Namespace and name of every existing `WasiGrant`, so that a new one replaces none.
pub fn names_of_grants(state: &State) -> BTreeSet<(String, String)> {
    let grants = state.grants.iter().filter(|grant| !grant.is_cluster());
    grants.map(|g| (g.namespace().unwrap_or_default().to_string(), g.name().to_string())).collect()
}

/// Kind, namespace and name of an object.
fn title(manifest: &Manifest, namespace: &str) -> String {
    let namespace = manifest.namespace_or(namespace);
    format!("{} {namespace}/{}", manifest.kind().kind, manifest.shown_name())
}

/// The suggestion for an object that could not be read, planned or judged.
fn of_error(object: String, error: &Error) -> Suggestion {
    let summary = "could not be read, so what it needs is not known".to_owned();
    Suggestion { object, summary, errors: vec![error.message()], ..Suggestion::default() }
}

/// What would get one object admitted. New grants get no name in `taken`; their names are added to it.
pub async fn suggest(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    namespace: &str,
    budget: Duration,
    taken: &mut BTreeSet<(String, String)>,
) -> Result<Suggestion, Error> {
    let object = title(manifest, namespace);
    let namespace = manifest.namespace_or(namespace);
    let rehearsal = rehearse::rehearsed(state, inspector, manifest, namespace, budget, false).await?;
    let judged =
        |examined: &Examined<JudgedFacts>, judged: &Judged<JudgedFacts>| of_judged(examined, judged, taken);
    let hardened = rehearsal.plan().map(|(_, plan)| plan.taken.clone()).unwrap_or_default();
    let suggestion = of_ending(&rehearsal.validate.ending, judged);
    let suggestion = without_secrets(state, manifest, &rehearsal, suggestion);
    Ok(Suggestion { object, taken: hardened, ..suggestion })
}

/// The `NetworkPolicy` for one object.
pub async fn suggest_policy(
    state: &State,
    inspector: &Inspector,
    manifest: &Manifest,
    namespace: &str,
    budget: Duration,
) -> Result<Suggestion, Error> {
    let object = title(manifest, namespace);
    let namespace = manifest.namespace_or(namespace);
    let rehearsal = rehearse::rehearsed(state, inspector, manifest, namespace, budget, false).await?;
    let judged = |examined: &Examined<JudgedFacts>, judged: &Judged<JudgedFacts>| {
        network::of(manifest, examined, judged)
    };
    Ok(Suggestion { object, ..of_ending(&rehearsal.validate.ending, judged) })
}

/// The suggestion without the values of variables and the like that a rule quotes: it becomes a file that is kept with others.
fn without_secrets(
    state: &State,
    manifest: &Manifest,
    rehearsal: &Rehearsal<JudgedFacts>,
    suggestion: Suggestion,
) -> Suggestion {
    let judged = rehearsal.validate.ending.judged();
    let found = judged.into_iter().flat_map(|judged| &judged.judgement.verdict.violations);
    let hider = hider_of(&state.masks, &manifest.object, found.map(|judged| &judged.violation));
    suggestion.without(&hider)
}

/// What there is to say about an object, with `of_judged` for one that the policies judged.
fn of_ending(
    ending: &Ending<JudgedFacts>,
    of_judged: impl FnOnce(&Examined<JudgedFacts>, &Judged<JudgedFacts>) -> Suggestion,
) -> Suggestion {
    match ending {
        Ending::Examined(examined) => match ending.judged() {
            Some(judged) => of_judged(examined, judged),
            None => of_unjudged(&examined.inspection),
        },
        Ending::Skipped(Skip::UnknownKind) => {
            summary("not judged: the gate does not know this kind, so what it needs is not known")
        }
        Ending::Skipped(Skip::CompletedByOthers) => {
            summary("not judged: parts of its pods come from other objects, so what they need is not known")
        }
        Ending::Skipped(skip @ Skip::NoTemplate { .. }) => summary(&format!("not judged: {}", skip.reason())),
        Ending::Skipped(skip) => summary(&format!("left alone ({}), so nothing is needed", skip.note())),
        Ending::Unreadable { error, .. } | Ending::NoMemory { error, .. } => summary(&error.to_string()),
    }
}

fn of_judged(
    examined: &Examined<JudgedFacts>,
    judged: &Judged<JudgedFacts>,
    taken: &mut BTreeSet<(String, String)>,
) -> Suggestion {
    let violations = &judged.judgement.verdict.violations;
    let open = grantable(judged);
    let blocked = blocked(violations, &open);
    let warnings = advice::of(examined, &judged.kept, &open);
    let grants = drafts(&examined.workload, &open, taken);
    let summary = match (grants.is_empty(), blocked.is_empty()) {
        (true, true) => "nothing is missing",
        (false, true) => "this grant would admit it",
        (true, false) => "no grant can admit it",
        (false, false) => "this grant is needed, but a rule also denies what no grant can allow",
    };
    Suggestion { summary: summary.to_string(), grants, warnings, blocked, ..Suggestion::default() }
}

/// Whether the rule says that a grant would lift the violation.
pub fn is_mendable(violation: &Violation) -> bool {
    matches!(violation.mended_by, Some(MendedBy::Grant | MendedBy::AmbientGrant))
}

/// The denials that remain with the grants for `open`.
fn blocked(violations: &[JudgedViolation], open: &[Open]) -> Vec<String> {
    let denied = || violations.iter().filter(|v| v.action == EnforcementAction::Deny).map(|v| &v.violation);
    let left = |violation: &&Violation| !is_mendable(violation) || is_unanswered(violation, open);
    // The denial that excludes a container already names it.
    let left_out = |violation: &Violation| {
        is_mendable(violation)
            && denied().any(|other| prevents(other) && other.container == violation.container)
    };
    let line = |violation: &Violation| {
        let why = if is_mendable(violation) {
            "its rule asks for a grant, and nothing of the kind is without one"
        } else {
            "no grant can allow this"
        };
        format!("[{}] {} ({why})", violation.rule, violation.said())
    };
    denied().filter(left).filter(|violation| !left_out(violation)).map(line).collect()
}

/// Whether no entry in the suggested grants is one that the rule asks for.
fn is_unanswered(violation: &Violation, open: &[Open]) -> bool {
    let container = |open: &&Open| violation.container.as_ref().is_none_or(|name| *name == open.container);
    let capability =
        |entry: &Entry| violation.capability.as_ref().is_none_or(|name| name == entry.capability.as_str());
    !open.iter().filter(container).any(|open| open.entries.iter().any(capability))
}

/// The suggestion for an object that no policy judged. If an image could not be read or recognised, it may still be Wasm.
fn of_unjudged(inspection: &Inspection) -> Suggestion {
    let reason = |c: &Container| {
        Some(format!("container `{}`: what it would need is not known: {}", c.name, c.reason()?))
    };
    let unknown: Vec<String> = inspection.containers.iter().filter_map(reason).collect();
    let unread = inspection.containers.iter().any(|c| c.known().is_none());
    let summary = match (unknown.is_empty(), unread) {
        (true, _) => "no Wasm in it, so nothing is needed",
        (false, true) => "an image could not be read",
        (false, false) => "it is not known what starts, so no grant would help",
    };
    Suggestion { summary: summary.to_string(), unknown, ..Suggestion::default() }
}

/// The `WasiGrant`s that would cover what no grant covers, for `explain` and `scan`; empty if the policies did not run.
pub(super) fn grants(state: &State, ending: &Ending<JudgedFacts>) -> Vec<String> {
    let Some((examined, judged)) = ending.examined().zip(ending.judged()) else { return Vec::new() };
    drafts(&examined.workload, &grantable(judged), &mut names_of_grants(state))
}

/// One grant for each image, so that a sidecar does not get what the main container needs.
fn drafts(workload: &Workload, open: &[Open], taken: &mut BTreeSet<(String, String)>) -> Vec<String> {
    let mut images: Vec<(&str, Vec<&Open>)> = Vec::new();
    for one in open {
        let image = repository(&one.image);
        match images.iter_mut().find(|(known, _)| *known == image) {
            Some((_, list)) => list.push(one),
            None => images.push((image, vec![one])),
        }
    }
    let several = images.len() > 1;
    let draft = |(image, list): (&str, Vec<&Open>)| {
        let entries: Vec<_> = list.iter().flat_map(|open| open.entries.iter().cloned()).collect();
        let container = list.first().map(|open| open.container.as_str()).unwrap_or_default();
        let own = if workload.name.is_empty() { container } else { &workload.name };
        let wanted = if several { format!("{own}-{container}") } else { own.to_string() };
        let draft = GrantDraft {
            name: &free_name(&dns_name(&wanted), &workload.namespace, taken),
            namespace: &workload.namespace,
            service_account: workload.service_account(),
            images: &[image.to_string()],
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
}
