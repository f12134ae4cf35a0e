//! What is kept of an examination: the outcome, and what each container is and can do.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::admission::{Conclusion, Ending, Error, Examined, Skip};
use crate::capability::Entry;
use crate::grant::WasiGrant;
use crate::image::{Evidence, ImageKind, Packaging, Shape};
use crate::inspection::{self, LookupResult, ProgramClass};
use crate::judge::PolicyInput;
use crate::judge::input::{ContainerFacts, Effective, image_warnings};
use crate::policy::EnforcementAction;
use crate::runtime::Family;
use crate::workload::{ImageUse, Role};

/// The outcome for the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainOutcome {
    /// The gate does not know the kind, so it cannot say whether the object contains a pod.
    NotJudged,
    /// Parts of the kind's pods come from other objects, so the object does not say what they start. To scripts the same
    /// as an unknown kind.
    #[serde(rename = "not-judged")]
    CompletedByOthers,
    /// The object has no pod template where its kind has one, so it does not say what it starts. To scripts the same as an unknown
    /// kind.
    #[serde(rename = "not-judged")]
    NoTemplate,
    /// The object has nothing to do with Wasm; the gate leaves it alone.
    NotWasm,
    /// The namespace is exempt; the gate leaves the object alone.
    Exempt,
    /// The gate leaves the object alone for another reason, such as a mirror pod.
    Skipped,
    /// The object could not be read or judged, so the gate leaves it alone.
    Unreadable,
    /// The gate leaves the object alone, but it may be Wasm: an image could not be read.
    Unread,
    /// The gate leaves the object alone, but it may be Wasm: a program was not recognised.
    Unrecognised,
    /// The object would be admitted.
    Admitted,
    /// The object would be admitted, and a rule warns.
    Warned,
    /// The object, or the pods that a controller creates from it, would be denied.
    Denied,
}

/// One container: what was found in its image, and what the policies saw of it.
#[derive(Debug, Clone)]
pub struct Container {
    /// Facts about its image.
    pub found: ImageReport,
    /// What the program can call; `None` if the policies did not run.
    pub capabilities: Option<Capabilities>,
    /// The policies' input about the container, for scripts.
    document: Option<Value>,
}

/// Facts about the image of a container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Name of the container or volume.
    pub name: String,
    /// The list of the pod spec that contains it.
    pub role: Role,
    /// Image as written.
    pub image: String,
    /// Class of the program.
    pub class: ProgramClass,
    /// Digest of the image. Like the following fields, `None` if the image was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Kind of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ImageKind>,
    /// How the image is packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// Who compiles the program.
    #[serde(skip)]
    pub packaging: Option<Packaging>,
    /// Evidence for the class and the kind.
    pub evidence: Vec<Evidence>,
    /// Why the program is unknown or the image was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What will make it fail on some node.
    pub warnings: Vec<String>,
    /// The interpreters in the program, each with the first evidence for it.
    #[serde(skip)]
    pub interpreters: Vec<(&'static str, Option<Evidence>)>,
}

/// Capabilities of a container.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// What the program can call and the runtime hands over.
    pub effective: Vec<Effective>,
    /// What the program can call and the runtime does not hand over.
    pub missing: Vec<Entry>,
    /// What the runtime and the pod spec hand over.
    pub ambient: Vec<Entry>,
}

/// How much is kept of the policies' input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The containers, as facts.
    Facts,
    /// Also the input about each, as a document for scripts, which takes many times the memory.
    Containers,
    /// Also the whole input document.
    Input,
}

impl Kept {
    /// For `explain`: the input about the containers, or the whole of it.
    pub const fn input(whole: bool) -> Self {
        if whole { Self::Input } else { Self::Containers }
    }
}

/// What `explain`, `suggest` and `scan` keep of the policies' input.
#[derive(Debug, Clone)]
pub struct JudgedFacts {
    /// The containers.
    pub containers: Vec<Container>,
    /// RuntimeClass of the judged pod.
    pub runtime_class: Option<String>,
    /// Whether a profile describes what this class hands over.
    pub is_described: bool,
    /// Whether the profile says that NetworkPolicies hold the pods of this class.
    pub has_network_policies: bool,
    /// The grants that match a container of the pod.
    pub grants: Vec<Arc<WasiGrant>>,
    /// The whole input document, if it was requested.
    pub input: Option<Value>,
}

impl JudgedFacts {
    /// Extracts it from the input. An input that cannot be written as JSON makes the
    /// evaluation fail, which reports it.
    pub fn of(input: &PolicyInput<'_>, kept: Kept) -> Self {
        // Through text, because the input contains the object as raw JSON.
        let text = (kept == Kept::Input).then(|| serde_json::to_string(input).unwrap_or_default());
        Self {
            containers: input.containers.iter().map(|facts| Container::judged(facts, kept)).collect(),
            runtime_class: input.runtime.runtime_class.map(String::from),
            is_described: input.runtime.ambient.is_some_and(|ambient| ambient != Family::Everything),
            has_network_policies: input.runtime.network_policies,
            grants: input.grants.clone(),
            input: text.map(|text| serde_json::from_str(&text).unwrap_or_default()),
        }
    }
}

impl Container {
    /// A container that the policies judged.
    fn judged(facts: &ContainerFacts<'_>, kept: Kept) -> Self {
        let first = |evidence: &[Evidence]| evidence.first().cloned();
        let found = ImageReport {
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
        let document = (kept != Kept::Facts).then(|| serde_json::to_value(facts).unwrap_or_default());
        Self { found, capabilities: Some(capabilities), document }
    }

    /// A container that no policy judged.
    fn unjudged(container: &inspection::Container, starts: &ImageUse<'_>) -> Self {
        let known = container.known().map(|(facts, _)| facts);
        let names_command = !starts.command.is_empty() || !starts.args.is_empty();
        let warnings = known.map(|facts| image_warnings(facts, names_command)).unwrap_or_default();
        let found = ImageReport {
            name: container.name.clone(),
            role: container.role,
            image: container.image.clone(),
            class: if container.role.starts() { container.class() } else { ProgramClass::Linux },
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

/// The containers of an examined object, as the policies saw them where they ran.
pub fn containers(ending: &Ending<JudgedFacts>) -> Cow<'_, [Container]> {
    if let Some(judged) = ending.judged() {
        return Cow::Borrowed(judged.kept.containers.as_slice());
    }
    let Some(Examined { workload, inspection, .. }) = ending.examined() else { return Cow::default() };
    let uses = workload.images();
    let unjudged = inspection.containers.iter().zip(&uses).map(|(c, starts)| Container::unjudged(c, starts));
    Cow::Owned(unjudged.collect())
}

/// The outcome of an examination. Rules decide it; a notice about a change does not affect it.
pub fn outcome(ending: &Ending<JudgedFacts>) -> ExplainOutcome {
    let examined = match ending {
        Ending::Skipped(Skip::UnknownKind) => return ExplainOutcome::NotJudged,
        Ending::Skipped(Skip::CompletedByOthers) => return ExplainOutcome::CompletedByOthers,
        Ending::Skipped(Skip::NoTemplate { .. }) => return ExplainOutcome::NoTemplate,
        Ending::Skipped(Skip::ExemptNamespace) => return ExplainOutcome::Exempt,
        Ending::Skipped(_) => return ExplainOutcome::Skipped,
        Ending::Unreadable { under_wasm: true, .. } => return ExplainOutcome::Denied,
        Ending::NoMemory {
            error: Error::ObjectTooLarge { .. } | Error::ImagesTooLarge { .. },
            is_template: false,
        } => {
            return ExplainOutcome::Denied;
        }
        // Where others have the memory, it is not judged.
        Ending::Unreadable { under_wasm: false, .. } | Ending::NoMemory { .. } => {
            return ExplainOutcome::Unreadable;
        }
        Ending::Examined(examined) => examined,
    };
    if let Some(judged) = ending.judged() {
        return match judged.judgement.verdict.strictest() {
            Some(EnforcementAction::Deny) => ExplainOutcome::Denied,
            Some(EnforcementAction::Warn) => ExplainOutcome::Warned,
            Some(EnforcementAction::Audit) | None => ExplainOutcome::Admitted,
        };
    }
    if matches!(examined.conclusion, Conclusion::Failed { .. }) {
        return ExplainOutcome::Unreadable;
    }
    let any = |is: fn(&inspection::Container) -> bool| examined.inspection.containers.iter().any(is);
    match (any(|c| matches!(c.lookup, LookupResult::Unread { .. })), any(inspection::Container::is_open)) {
        (true, _) => ExplainOutcome::Unread,
        (false, true) => ExplainOutcome::Unrecognised,
        (false, false) => ExplainOutcome::NotWasm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_review_gets_memory_for_is_denied_and_what_got_none_in_time_is_not_judged() {
        let of = |error, is_template| outcome(&Ending::NoMemory { error, is_template });
        let too_large = || [Error::ObjectTooLarge { needed: 2, most: 1 }, Error::ImagesTooLarge { most: 1 }];
        for error in too_large() {
            assert_eq!(of(error, false), ExplainOutcome::Denied);
        }
        for error in too_large() {
            assert_eq!(of(error, true), ExplainOutcome::Unreadable);
        }
        assert_eq!(of(Error::NoPlace, false), ExplainOutcome::Unreadable);
    }
}
