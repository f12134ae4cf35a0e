//! What `explain` says of one object, in a form that scripts can rely on.

use serde::Serialize;
use serde_json::Value;

use super::manifest::Manifest;
use crate::admission::Examination;
use crate::image::NEEDS_COMMAND;
use crate::inspection::{Container, LookupResult, ProgramClass};
use crate::judge::JudgedViolation;
use crate::policy::EnforcementAction;
use crate::workload::Role;

/// What would become of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainOutcome {
    /// It carries no pod spec.
    NotAWorkload,
    /// It has nothing to do with Wasm and is left alone.
    NotWasm,
    /// Its namespace is exempt: the gate leaves it alone.
    Exempt,
    /// It is left alone, but nobody can tell whether it is Wasm: an image could not be read.
    Unread,
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
    pub containers: Vec<Value>,
    /// One line per change.
    pub changes: Vec<String>,
    /// The JSONPatch.
    pub patch: Value,
    /// What could not be done, and what will not work.
    pub warnings: Vec<String>,
    /// What would be done to values that a person wrote.
    pub notices: Vec<String>,
    /// WasiGrants, as YAML, that would cover what nobody granted: those of `suggest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_grant: Option<String>,
    /// What the rules found.
    pub violations: Vec<JudgedViolation>,
    /// The document that the policies read, with `--show-input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Whether the policies were asked.
    #[serde(skip)]
    pub judged: bool,
    /// The object before and after, for the diff.
    #[serde(skip)]
    pub before_after: Option<(Value, Value)>,
}

impl ObjectReport {
    /// An object without a pod spec.
    pub fn not_a_workload(manifest: &Manifest, namespace: &str) -> Self {
        Self {
            origin: manifest.origin.clone(),
            kind: manifest.kind().kind,
            namespace: namespace.to_string(),
            name: manifest.text("/metadata/name").to_string(),
            outcome: ExplainOutcome::NotAWorkload,
            containers: Vec::new(),
            changes: Vec::new(),
            patch: Value::Array(Vec::new()),
            warnings: Vec::new(),
            notices: Vec::new(),
            suggested_grant: None,
            input: None,
            judged: false,
            violations: Vec::new(),
            before_after: None,
        }
    }

    /// An object of a namespace that the gate never touches.
    pub fn exempt(manifest: &Manifest, namespace: &str) -> Self {
        Self { outcome: ExplainOutcome::Exempt, ..Self::not_a_workload(manifest, namespace) }
    }

    /// An object that was examined; `input` is what the policies were shown, and `grants` would cover what nobody granted.
    pub fn of(
        manifest: &Manifest,
        examination: Examination,
        input: &Value,
        grants: &[String],
    ) -> Result<Self, serde_json::Error> {
        let violations =
            examination.judgement.as_ref().map(|j| j.verdict.violations.clone()).unwrap_or_default();
        let mut containers = if examination.judgement.is_some() {
            input.get("containers").and_then(Value::as_array).cloned().unwrap_or_default()
        } else {
            examination.inspection.containers.iter().map(found).collect::<Result<_, _>>()?
        };
        let uses = examination.workload.images();
        for (container, image) in containers.iter_mut().zip(uses) {
            if !image.command.is_empty() || !image.args.is_empty() {
                drop_warning(container, NEEDS_COMMAND);
            }
        }
        Ok(Self {
            suggested_grant: (!grants.is_empty()).then(|| grants.join("---\n")),
            judged: examination.judgement.is_some(),
            kind: examination.workload.kind.as_str().to_string(),
            namespace: examination.workload.namespace.clone(),
            name: examination.workload.name.clone(),
            outcome: outcome(&examination, &violations),
            containers,
            changes: examination.plan.changes,
            patch: serde_json::to_value(&examination.plan.patch)?,
            warnings: examination.plan.warnings,
            notices: examination.plan.notices,
            violations,
            before_after: Some((manifest.object.clone(), examination.plan.object)),
            ..Self::not_a_workload(manifest, "")
        })
    }
}

fn drop_warning(container: &mut Value, warning: &str) {
    if let Some(warnings) = container.get_mut("warnings").and_then(Value::as_array_mut) {
        warnings.retain(|known| known.as_str() != Some(warning));
    }
}

/// What a rule says decides; that a person is told of a change is no reason to worry about the verdict.
fn outcome(examination: &Examination, violations: &[JudgedViolation]) -> ExplainOutcome {
    match violations.iter().map(|v| v.action).max() {
        Some(EnforcementAction::Deny) => ExplainOutcome::Denied,
        Some(EnforcementAction::Warn) => ExplainOutcome::Warned,
        _ if examination.judgement.is_some() => ExplainOutcome::Admitted,
        _ if examination.inspection.containers.iter().any(|c| c.known().is_none()) => ExplainOutcome::Unread,
        _ => ExplainOutcome::NotWasm,
    }
}

/// A container that no policy was asked about.
fn found(container: &Container) -> Result<Value, serde_json::Error> {
    let role = serde_json::to_value(container.role)?;
    let mut value = serde_json::json!({
        "name": container.name, "role": role, "image": container.image,
        "class": if container.role == Role::ImageVolume { serde_json::to_value(ProgramClass::Linux)? } else { serde_json::to_value(container.class())? },
    });
    let Some(map) = value.as_object_mut() else { return Ok(value) };
    match &container.lookup {
        LookupResult::Known { facts, .. } => {
            map.insert("digest".into(), facts.digest.to_string().into());
            map.insert("kind".into(), serde_json::to_value(facts.kind)?);
            map.insert("shape".into(), serde_json::to_value(facts.shape)?);
            map.insert("evidence".into(), serde_json::to_value(&facts.evidence)?);
            map.insert("warnings".into(), serde_json::to_value(&facts.warnings)?);
        }
        LookupResult::Unread { error } => {
            map.insert("reason".into(), error.to_string().into());
        }
    }
    Ok(value)
}
