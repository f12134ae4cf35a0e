//! What `explain` says of one object, in a form that scripts can rely on.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::manifest::Manifest;
use crate::admission::{Conclusion, Ending, Examined, Rehearsal, Skip};
use crate::capability::Entry;
use crate::image::{Evidence, ImageKind, Packaging, Shape};
use crate::inspection::{self, LookupResult, ProgramClass};
use crate::judge::input::{ContainerFacts, Effective, image_warnings};
use crate::judge::{JudgedViolation, PolicyInput};
use crate::policy::EnforcementAction;
use crate::runtime::Family;
use crate::workload::{ImageUse, Role};

/// What would become of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainOutcome {
    /// The gate does not know its kind, so it cannot say whether there is a pod in it.
    NotJudged,
    /// It has nothing to do with Wasm and is left alone.
    NotWasm,
    /// Its namespace is exempt: the gate leaves it alone.
    Exempt,
    /// The gate leaves it alone for another reason, such as a mirror pod.
    Skipped,
    /// It is left alone, but whether it is Wasm is not known: an image could not be read.
    Unread,
    /// It is left alone, but whether it is Wasm is not known: a program was not recognised.
    Unrecognised,
    /// It would be admitted.
    Admitted,
    /// It would be admitted, and a rule warns.
    Warned,
    /// It, or the pods that a controller makes of it, would be denied.
    Denied,
}

/// One object.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// File and document.
    pub origin: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace that it was judged in.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What would become of it.
    pub outcome: ExplainOutcome,
    /// What was found out about the images; with capabilities where the policies were asked.
    pub containers: Vec<Container>,
    /// One line per change.
    pub changes: Vec<String>,
    /// The JSONPatch for the pod, or for the pods of a template.
    pub patch: json_patch::Patch,
    /// What both webhooks would tell the person who applies the object, as `kubectl` prints it.
    pub warnings: Vec<String>,
    /// What would be done to values that a person wrote.
    pub notices: Vec<String>,
    /// WasiGrants, as YAML, that would cover what no grant covers: those of `suggest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_grant: Option<String>,
    /// What the rules found.
    pub violations: Vec<JudgedViolation>,
    /// The document that the policies read, with `--show-input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Warnings that no rule wrote: what could not be done, and what will not work.
    #[serde(skip)]
    pub remarks: Vec<String>,
    /// The object before and after, for the diff.
    #[serde(skip)]
    pub before_after: Option<(Value, Value)>,
}

/// One container: what it was taken for, and what the policies were shown of it.
#[derive(Debug, Clone)]
pub struct Container {
    /// What was found out about its image.
    pub found: Found,
    /// What it can call; `None` where the policies were not asked.
    pub capabilities: Option<Capabilities>,
    /// Everything that the policies read of it, for scripts.
    document: Option<Value>,
}

/// What was found out about the image of a container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Name of the container or volume.
    pub name: String,
    /// The list that it stands in.
    pub role: Role,
    /// Its image.
    pub image: String,
    /// Summary of what was found.
    pub class: ProgramClass,
    /// Digest of the image; `None` where it was not read, as below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Kind of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ImageKind>,
    /// How it is packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// Who compiles the program.
    #[serde(skip)]
    pub packaging: Option<Packaging>,
    /// Why it was taken for what it is.
    pub evidence: Vec<Evidence>,
    /// Why it is unknown or was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What will make it fail on some node.
    pub warnings: Vec<String>,
    /// The interpreters in its program, and where the first sign of each was seen.
    #[serde(skip)]
    pub interpreters: Vec<(&'static str, Option<Evidence>)>,
}

/// What a container can call.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// What it can really do.
    pub effective: Vec<Effective>,
    /// What it can call and is not handed.
    pub missing: Vec<Entry>,
    /// What it is handed.
    pub ambient: Vec<Entry>,
}

/// What `explain` and `suggest` keep of the document that the policies read.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The containers.
    pub containers: Vec<Container>,
    /// RuntimeClass of the pod that was judged.
    pub runtime_class: Option<String>,
    /// Whether a profile describes what this class hands over.
    pub is_described: bool,
    /// The whole document, where it was asked for.
    pub input: Option<Value>,
}

impl Kept {
    /// Takes it out of the document. One that cannot be written as JSON fails the evaluation too, which says so.
    pub fn of(input: &PolicyInput<'_>, whole: bool) -> Self {
        // By way of text, because the object in it is raw JSON.
        let text = whole.then(|| serde_json::to_string(input).unwrap_or_default());
        Self {
            containers: input.containers.iter().map(Container::judged).collect(),
            runtime_class: input.runtime.runtime_class.map(String::from),
            is_described: input.runtime.ambient.is_some_and(|ambient| ambient != Family::Everything),
            input: text.map(|text| serde_json::from_str(&text).unwrap_or_default()),
        }
    }
}

impl Container {
    /// A container that the policies were asked about.
    fn judged(facts: &ContainerFacts<'_>) -> Self {
        let first = |evidence: &[Evidence]| evidence.first().cloned();
        let found = Found {
            name: facts.name.to_string(),
            role: facts.role,
            image: facts.image.to_string(),
            class: facts.class,
            digest: facts.digest.map(String::from),
            kind: Some(facts.kind),
            shape: facts.shape,
            packaging: facts.packaging,
            evidence: facts.evidence.to_vec(),
            reason: facts.reason.clone(),
            warnings: facts.warnings.clone(),
            interpreters: facts.interpreters.iter().map(|i| (i.engine, first(i.evidence))).collect(),
        };
        let capabilities = Capabilities {
            effective: facts.effective.clone(),
            missing: facts.missing.clone(),
            ambient: facts.ambient.clone(),
        };
        let document = Some(serde_json::to_value(facts).unwrap_or_default());
        Self { found, capabilities: Some(capabilities), document }
    }

    /// A container that no policy was asked about.
    fn unjudged(container: &inspection::Container, starts: &ImageUse<'_>) -> Self {
        let known = container.known().map(|(facts, _)| facts);
        let names_command = !starts.command.is_empty() || !starts.args.is_empty();
        let warnings = known.map(|facts| image_warnings(facts, names_command)).unwrap_or_default();
        let found = Found {
            name: container.name.clone(),
            role: container.role,
            image: container.image.clone(),
            class: if container.role == Role::ImageVolume { ProgramClass::Linux } else { container.class() },
            digest: known.map(|facts| facts.digest.to_string()),
            kind: known.map(|facts| facts.kind),
            shape: known.map(|facts| facts.shape),
            packaging: None,
            evidence: known.map(|facts| facts.evidence.clone()).unwrap_or_default(),
            reason: container.reason(),
            warnings,
            interpreters: Vec::new(),
        };
        Self { found, capabilities: None, document: None }
    }
}

impl Serialize for Container {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.document {
            Some(document) => document.serialize(serializer),
            None => self.found.serialize(serializer),
        }
    }
}

impl ObjectReport {
    /// An object that both webhooks were asked about. `grants` would cover what no grant covers.
    pub fn of(manifest: &Manifest, namespace: &str, rehearsal: &Rehearsal<Kept>, grants: &[String]) -> Self {
        let validated = &rehearsal.validate.ending;
        let judged = validated.judged();
        let plan = rehearsal.plan();
        Self {
            origin: manifest.origin.clone(),
            kind: manifest.kind().kind,
            namespace: namespace.to_string(),
            name: manifest.name().to_string(),
            outcome: outcome(validated),
            containers: containers(validated),
            changes: plan.map(|(_, plan)| plan.changes.clone()).unwrap_or_default(),
            patch: plan.map(|(_, plan)| plan.patch.clone()).unwrap_or_default(),
            warnings: rehearsal.warnings(),
            notices: plan.map(|(_, plan)| plan.notices.clone()).unwrap_or_default(),
            suggested_grant: (!grants.is_empty()).then(|| grants.join("---\n")),
            violations: judged.map(|j| j.judgement.verdict.violations.clone()).unwrap_or_default(),
            input: judged.and_then(|judged| judged.kept.input.clone()),
            remarks: remarks(rehearsal),
            before_after: plan.map(|(before, plan)| (before.clone(), plan.object.clone())),
        }
    }
}

/// Violations have lines of their own, and a kind that is not judged is in the title.
fn remarks(rehearsal: &Rehearsal<Kept>) -> Vec<String> {
    match (rehearsal.plan(), rehearsal.validate.ending.conclusion()) {
        (Some((_, plan)), _) => plan.warnings.clone(),
        (None, Some(Conclusion::NotWasm)) => rehearsal.warnings(),
        (None, _) => Vec::new(),
    }
}

pub(super) fn containers(ending: &Ending<Kept>) -> Vec<Container> {
    if let Some(judged) = ending.judged() {
        return judged.kept.containers.clone();
    }
    let Some(Examined { workload, inspection, .. }) = ending.examined() else { return Vec::new() };
    let uses = workload.images();
    inspection.containers.iter().zip(&uses).map(|(c, starts)| Container::unjudged(c, starts)).collect()
}

/// What a rule says decides; that a person is told of a change is no reason to worry about the verdict.
fn outcome(ending: &Ending<Kept>) -> ExplainOutcome {
    let examined = match ending {
        Ending::Skipped(Skip::UnknownKind) => return ExplainOutcome::NotJudged,
        Ending::Skipped(Skip::ExemptNamespace) => return ExplainOutcome::Exempt,
        Ending::Skipped(_) | Ending::Unreadable { .. } => return ExplainOutcome::Skipped,
        Ending::Examined(examined) => examined,
    };
    if let Some(judged) = ending.judged() {
        return match judged.judgement.verdict.strictest() {
            Some(EnforcementAction::Deny) => ExplainOutcome::Denied,
            Some(EnforcementAction::Warn) => ExplainOutcome::Warned,
            Some(EnforcementAction::Audit) | None => ExplainOutcome::Admitted,
        };
    }
    let any = |is: fn(&inspection::Container) -> bool| examined.inspection.containers.iter().any(is);
    match (any(|c| matches!(c.lookup, LookupResult::Unread { .. })), any(inspection::Container::is_open)) {
        (true, _) => ExplainOutcome::Unread,
        (false, true) => ExplainOutcome::Unrecognised,
        (false, false) => ExplainOutcome::NotWasm,
    }
}
