//! The pods that a controller would create from a template.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::api_server;
use super::state::{Error, State};
use crate::inspection::Inspection;
use crate::plan::{self, Plan};
use crate::workload::{self, Kind, Workload};

/// A template as its pods, as the mutating webhook would change them.
#[derive(Debug)]
pub(super) struct AsPods {
    /// The object with the defaults of a pod, before the change.
    pub(super) before: Value,
    /// The changes.
    pub(super) plan: Plan,
    /// The changed object.
    pub(super) object: Box<RawValue>,
    /// Its workload.
    pub(super) workload: Workload,
    /// The inspection with the image names of the changed object (`…@sha256:…`).
    pub(super) inspection: Inspection,
}

/// Completes the pods of a template and plans their changes.
pub(super) fn as_pods(
    state: &State,
    object: &RawValue,
    workload: &Workload,
    inspection: &Inspection,
    now: Timestamp,
) -> Result<AsPods, Error> {
    let (kind, namespace) = (workload.kind, workload.namespace.as_str());
    let mut before: Value = serde_json::from_str(object.get()).map_err(Error::ParseObject)?;
    api_server::as_pod(&mut before, kind, namespace, state.cluster());
    let sent = workload::read(&before.to_string(), kind, namespace)?;
    let in_template = |error| match error {
        Error::Plan(error) => Error::Plan(error.in_template(&workload::template_field(kind))),
        other => other,
    };
    let plan = plan(state, &before, &sent, inspection, now).map_err(in_template)?;
    let object = to_raw_value(&plan.object).map_err(Error::WriteObject)?;
    let workload = workload::read(object.get(), kind, namespace)?;
    let inspection = renamed(inspection.clone(), &workload);
    Ok(AsPods { before, plan, object, workload, inspection })
}

/// Plans the changes to an object. The time decides which grants have expired.
pub fn plan(
    state: &State,
    raw: &Value,
    workload: &Workload,
    inspection: &Inspection,
    now: Timestamp,
) -> Result<Plan, Error> {
    let surplus = state.surplus(raw, workload, inspection, now);
    Ok(plan::plan(raw, workload, inspection, &state.plan_context(), &surplus)?)
}

/// The warning about an object with several pod templates, of which only the first is judged.
pub(super) fn unjudged(object: &Value, kind: Kind) -> Option<String> {
    let further = workload::further_templates(object, kind);
    (further > 0).then(|| {
        format!(
            "wasmgate judged the first pod template of this {}, and not the other {further}: their pods are judged when they \
             are created",
            kind.as_str()
        )
    })
}

/// The inspection with the image names of the planned object.
fn renamed(mut inspection: Inspection, workload: &Workload) -> Inspection {
    for (container, image) in inspection.containers.iter_mut().zip(workload.images()) {
        container.image = image.image.to_string();
    }
    inspection
}
