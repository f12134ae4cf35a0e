//! From a workload to what was found, planned and judged. The server and the offline commands share this.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::started::started;
use super::state::{Error, State};
use crate::capability::Entry;
use crate::image::annotation::crun_annotation;
use crate::image::entry::needs_layers;
use crate::image::{Depth, Program, Shape};
use crate::inspection::{Container, Inspection, LookupResult};
use crate::judge::{self, Case, ExemptionContext, RequestFacts, Verdict};
use crate::lookup::{Inspector, LookupBudget};
use crate::plan::{self, Context, Plan, placement};
use crate::policy::Evaluation;
use crate::registry::Puller;
use crate::runtime::Family;
use crate::workload::{self, ImageUse, Kind, Role, Workload};

/// What the policies said, and who said it.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// What it comes to.
    pub verdict: Verdict,
    /// Bundles that could not be evaluated.
    pub failed_bundles: Vec<String>,
}

/// Everything about one object: what its images are, what would be changed, and what the policies say of the result.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The pod spec as it will run.
    pub workload: Workload,
    /// What its containers start.
    pub inspection: Inspection,
    /// What was changed.
    pub plan: Plan,
    /// The judgement; `None` for a workload that is none of the gate's business.
    pub judgement: Option<Judgement>,
}

/// Whether the pod has to do with Wasm at all: it starts a Wasm program, or native code from an image that is packed as
/// Wasm, or it will run under a class that a profile says is a Wasm runtime; or nobody knows what it starts, and there
/// is reason to suspect that a Wasm runtime will ([`judge::suspicion`]).
pub fn concerns(state: &State, workload: &Workload, inspection: &Inspection) -> bool {
    let native = inspection.containers.iter().any(is_native_in_wasm);
    native
        || inspection.has_wasm()
        || under_wasm_class(state, workload)
        || (inspection.containers.iter().any(is_open)
            && judge::suspicion(workload, &state.runtimes, &state.cluster).is_some())
}

/// Whether nobody knows what the container starts.
fn is_open(container: &Container) -> bool {
    container.role != Role::ImageVolume
        && container.known().is_none_or(|(_, program)| matches!(program, Program::Unknown { .. }))
}

/// A scratch image stays an ordinary Linux image for a pod that starts its native files.
fn is_native_in_wasm(container: &Container) -> bool {
    container.known().is_some_and(|(facts, program)| {
        matches!(program, Program::Native { .. }) && facts.shape != Shape::ScratchRootfs
    })
}

/// Whether the spec names a class that a profile says is a Wasm runtime.
pub fn under_wasm_class(state: &State, workload: &Workload) -> bool {
    workload.spec.runtime_class_name.as_deref().is_some_and(|class| state.profile_of(class).is_some())
}

/// Looks at every image of the workload side by side. A pod that will be placed on a Wasm runtime is looked at as one
/// that is there already: down to the files of its ordinary images, and with the programs that its runtime starts, so that
/// a second call finds what the first one found.
pub async fn inspect(
    state: &State,
    inspector: &Inspector,
    workload: &Workload,
    budget: Duration,
) -> Inspection {
    let started = Instant::now();
    let class = workload.spec.runtime_class_name.as_deref();
    if let Some(profile) = class.and_then(|class| state.profile_of(class)) {
        let found = look_at_all(inspector, workload, true, budget).await;
        return under(profile.ambient, found, workload);
    }
    // An annotation asks crun or youki for a Wasm handler, whatever the image is called.
    let deep = crun_annotation(&workload.annotations).is_some();
    let mut found = look_at_all(inspector, workload, deep, budget).await;
    if !found.has_wasm() {
        return found;
    }
    if !deep {
        found = look_at_all(inspector, workload, true, budget.saturating_sub(started.elapsed())).await;
    }
    let context = Context { runtimes: &state.runtimes, cluster: &state.cluster };
    match placement::expected(&found, &context) {
        Some(profile) if class.is_none() => under(profile.ambient, found, workload),
        _ => found,
    }
}

/// The same, with the programs that a runtime starts.
fn under(family: Family, mut inspection: Inspection, workload: &Workload) -> Inspection {
    for (container, image) in inspection.containers.iter_mut().zip(workload.images()) {
        if let LookupResult::Known { facts, program } = &mut container.lookup {
            *program = started(workload, &image, Some(family), facts);
        }
    }
    inspection
}

async fn look_at_all(inspector: &Inspector, workload: &Workload, deep: bool, budget: Duration) -> Inspection {
    let images = workload.images();
    let puller = puller(workload);
    let looks = images.iter().map(|image| look(inspector, workload, image, &puller, deep, budget));
    Inspection { containers: futures::future::join_all(looks).await }
}

/// Whose pull secrets may be used for the images.
fn puller(workload: &Workload) -> Puller {
    let secrets = workload.spec.image_pull_secrets.iter().flatten();
    Puller {
        namespace: workload.namespace.clone(),
        pull_secrets: secrets.map(|secret| secret.name.clone()).collect(),
        service_account: workload.service_account().to_owned(),
    }
}

async fn look(
    inspector: &Inspector,
    workload: &Workload,
    image: &ImageUse<'_>,
    puller: &Puller,
    deep: bool,
    budget: Duration,
) -> Container {
    let depth = if image.role != Role::ImageVolume && (deep || starts_wasm_file(image)) {
        Depth::Layers
    } else {
        Depth::Config
    };
    // Law 3: nothing says that this pod has to do with Wasm, so it does not pay for a registry that hangs.
    let doubtful = !deep && depth == Depth::Config;
    let budget = if doubtful { LookupBudget::doubtful(budget) } else { budget.into() };
    let lookup = match inspector.inspect_for(image.image, depth, budget, puller).await {
        Ok(facts) => {
            let program = started(workload, image, None, &facts);
            LookupResult::Known { facts, program }
        }
        Err(error) => LookupResult::Unread { error },
    };
    Container {
        role: image.role,
        index: image.index,
        name: image.name.to_string(),
        image: image.image.to_string(),
        lookup,
    }
}

/// Whether the pod's own command names a Wasm file, which the image's config would not tell.
fn starts_wasm_file(image: &ImageUse<'_>) -> bool {
    image.command.first().or_else(|| image.args.first()).is_some_and(|first| needs_layers(first))
}

/// Plans the changes to an object.
pub fn plan(state: &State, raw: &Value, workload: &Workload, inspection: &Inspection) -> Result<Plan, Error> {
    let context = Context { runtimes: &state.runtimes, cluster: &state.cluster };
    Ok(plan::plan(raw, workload, inspection, &context)?)
}

/// Runs the policies on a workload as it stands.
pub async fn judge(
    state: &State,
    request: &RequestFacts<'_>,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
) -> Judgement {
    let case = case(state, request, object, workload, inspection);
    let input = judge::prepare(&case);
    let evaluation = state.policies.evaluate(&input).await;
    let failed_bundles = evaluation.failures.iter().map(|f| f.bundle.clone()).collect();
    let verdict = verdict(state, workload, inspection, evaluation, case.now);
    Judgement { verdict, failed_bundles }
}

/// What the policies' findings come to for this workload: enforcement actions and exceptions applied.
pub fn verdict(
    state: &State,
    workload: &Workload,
    inspection: &Inspection,
    evaluation: Evaluation,
    now: Timestamp,
) -> Verdict {
    let exemption_context = ExemptionContext { exceptions: &state.exceptions, workload, inspection, now };
    judge::decide(
        evaluation,
        &state.enforcement,
        state.enforcement_of(&workload.namespace),
        &exemption_context,
    )
}

/// The document that the policies read, for the object as it would be stored.
pub fn input(state: &State, request: &RequestFacts<'_>, examination: &Examination) -> Result<Value, Error> {
    let object = to_raw_value(&examination.plan.object).map_err(Error::WritePlanned)?;
    let case = case(state, request, &object, &examination.workload, &examination.inspection);
    let text = serde_json::to_string(&judge::prepare(&case)).map_err(Error::WriteInput)?;
    serde_json::from_str(&text).map_err(Error::WriteInput)
}

/// What one container can really do and nobody covers.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// Name of the container.
    pub container: String,
    /// Its image.
    pub image: String,
    /// The effective entries without a grant; none where everything is covered.
    pub entries: Vec<Entry>,
    /// What is handed over without a grant, in reach or not.
    pub ambient: Vec<Entry>,
}

/// What the containers can really do and nobody covers.
pub fn open(
    state: &State,
    request: &RequestFacts<'_>,
    examination: &Examination,
) -> Result<Vec<Open>, Error> {
    let object = to_raw_value(&examination.plan.object).map_err(Error::WritePlanned)?;
    let case = case(state, request, &object, &examination.workload, &examination.inspection);
    let open = |facts: judge::input::ContainerFacts<'_>| Open {
        container: facts.name.to_string(),
        image: facts.image.to_string(),
        entries: facts.effective.into_iter().map(|e| e.entry).filter(|e| e.covered_by.is_empty()).collect(),
        ambient: facts.ambient.into_iter().filter(|e| e.covered_by.is_empty()).collect(),
    };
    Ok(judge::prepare(&case).containers.into_iter().map(open).collect())
}

fn case<'a>(
    state: &'a State,
    request: &'a RequestFacts<'a>,
    object: &'a RawValue,
    workload: &'a Workload,
    inspection: &'a Inspection,
) -> Case<'a> {
    Case {
        request,
        object,
        workload,
        inspection,
        runtimes: &state.runtimes,
        cluster: &state.cluster,
        grants: &state.grants,
        options: &state.options,
        now: Timestamp::now(),
    }
}

/// What an object would become and what the policies would say then: the answer to "may I apply this?".
pub async fn examine(
    state: &State,
    inspector: &Inspector,
    request: &RequestFacts<'_>,
    raw: &Value,
    kind: Kind,
    budget: Duration,
) -> Result<Examination, Error> {
    let sent = to_raw_value(raw).map_err(Error::WriteObject)?;
    let object = workload::as_judged(&sent, kind)?;
    let workload = workload::read(object.get(), kind, request.namespace)?;
    let inspection = inspect(state, inspector, &workload, budget).await;
    let raw = serde_json::from_str(object.get()).map_err(Error::ParseObject)?;
    let plan = plan(state, &raw, &workload, &inspection)?;
    judge_planned(state, request, kind, inspection, plan).await
}

/// Judges the planned object in place of the one that was sent.
pub async fn judge_planned(
    state: &State,
    request: &RequestFacts<'_>,
    kind: Kind,
    inspection: Inspection,
    plan: Plan,
) -> Result<Examination, Error> {
    let object = to_raw_value(&plan.object).map_err(Error::WritePlanned)?;
    let workload = workload::read(object.get(), kind, request.namespace)?;
    let inspection = renamed(inspection, &workload);
    let judgement = if concerns(state, &workload, &inspection) && !workload.is_mirror() {
        Some(judge(state, request, &object, &workload, &inspection).await)
    } else {
        None
    };
    Ok(Examination { workload, inspection, plan, judgement })
}

/// The same findings under the names that the planned object gives the images (`…@sha256:…`).
fn renamed(mut inspection: Inspection, workload: &Workload) -> Inspection {
    for (container, image) in inspection.containers.iter_mut().zip(workload.images()) {
        container.image = image.image.to_string();
    }
    inspection
}
