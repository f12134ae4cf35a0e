//! The pods that a controller would create from a template.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::api_server;
use super::state::{Error, State};
use crate::image::names::SPIN_TOML;
use crate::image::{ImageKind, Program, entry};
use crate::inspection::Inspection;
use crate::plan::harden::{KEEP_ANNOTATION, LINKS};
use crate::plan::{self, Plan};
use crate::runtime::Runtimes;
use crate::workload::managed::Managed;
use crate::workload::{self, Kind, Role, Workload};

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
    planned(state, (raw.clone(), Managed::default()), workload, inspection, now)
}

/// Plans the changes to an object that nothing needs as it was, and that may be without its managed fields. The planned one has them no
/// more than it.
pub(super) fn planned(
    state: &State,
    (object, managed): (Value, Managed<'_>),
    workload: &Workload,
    inspection: &Inspection,
    now: Timestamp,
) -> Result<Plan, Error> {
    let surplus = state.surplus((&object, managed), workload, inspection, now);
    Ok(plan::planned((object, managed), workload, inspection, &state.plan_context(), &surplus)?)
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

/// The warning about service links that the author of a template wrote, and that its pods lose. The API server fills the field in on
/// pods and in no template (`kubernetes:pkg/apis/core/v1/defaults.go`, `SetDefaults_Pod`): so a template shows whose it is, and a pod
/// that is made of it does not.
pub(super) fn lost_links(workload: &Workload, planned: &Value) -> Option<String> {
    let field = format!("{}/spec/{LINKS}", workload.kind.template_pointer());
    let is_written = workload.spec.enable_service_links == Some(true);
    let is_lost = is_written && planned.pointer(&field) == Some(&Value::Bool(false));
    is_lost.then(|| {
        format!(
            "`{LINKS}: true` of this {} becomes `false` in its pods, which do not show that a person wrote it; to keep it, write \
             the annotation `{KEEP_ANNOTATION}: {LINKS}` into the metadata of the pod template",
            workload.kind.as_str()
        )
    })
}

/// The warning about a SpinApp with a module, a component or an ordinary container image as its image, which the class of Spin
/// applications does not run. The class that the executor names is not known here, and another one may start a layer: so it is no
/// verdict.
pub(super) fn no_application(
    runtimes: &Runtimes,
    workload: &Workload,
    inspection: &Inspection,
) -> Option<String> {
    if workload.kind != Kind::SpinApp {
        return None;
    }
    let container = inspection.containers.iter().find(|one| one.role == Role::Container)?;
    let (facts, program) = container.known()?;
    let what = match facts.kind {
        ImageKind::Module => "a module",
        ImageKind::Component | ImageKind::HttpComponent => "a component",
        ImageKind::Linux if matches!(program, Program::Linux) => "an ordinary container image",
        ImageKind::SpinApp | ImageKind::Linux | ImageKind::Unknown => return None,
    };
    let profile = runtimes.for_kind(ImageKind::SpinApp)?;
    let runs = matches!(program, Program::Wasm { kind, .. } if profile.runs.contains(kind));
    if runs || facts.spin.is_some() || entry::is_there(facts, SPIN_TOML) {
        return None;
    }
    Some(format!(
        "`{}` is {what} and no Spin application, so pods of this SpinApp would be denied under runtime class `{}`; push the \
         application with `spin registry push`, or start the image with a Deployment",
        container.image, profile.runtime_class
    ))
}

/// The inspection with the image names of the planned object.
fn renamed(mut inspection: Inspection, workload: &Workload) -> Inspection {
    for (container, image) in inspection.containers.iter_mut().zip(workload.images()) {
        container.image = image.image.to_string();
    }
    inspection
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::image::{Digest, FileClass, ImageFacts, Packaging, SpinApp, program};
    use crate::inspection::{Container, LookupResult};

    fn workload(kind: Kind) -> Workload {
        let spec = if kind == Kind::SpinApp {
            json!({"image": "web:1"})
        } else {
            json!({"containers": [{"name": "web", "image": "web:1", "command": ["/"]}]})
        };
        let sent = to_raw_value(&json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        let judged = workload::as_judged(&sent, kind).unwrap();
        workload::read(judged.get(), kind, "shop").unwrap()
    }

    fn image(kind: ImageKind) -> ImageFacts {
        let digest = Digest::of(b"");
        ImageFacts { kind, ..ImageFacts::blank(&digest, &digest) }
    }

    fn inspection(facts: ImageFacts, program: Program) -> Inspection {
        let lookup = LookupResult::Known { facts: Arc::new(facts), program };
        let (name, image) = ("web".to_owned(), "web:1".to_owned());
        Inspection { containers: vec![Container { role: Role::Container, index: 0, name, image, lookup }] }
    }

    fn in_layers(kind: ImageKind) -> Program {
        Program::Wasm { kind, packaging: Packaging::Layers, modules: Vec::new() }
    }

    #[test]
    fn a_spin_app_is_warned_of_an_image_that_is_a_program_and_no_spin_application() {
        let (runtimes, app) = (Runtimes::default(), workload(Kind::SpinApp));
        let said =
            |facts, program| no_application(&runtimes, &app, &inspection(facts, program)).unwrap_or_default();
        let in_file = || program::unknown("`/` starts a Spin application");
        for (kind, what) in [
            (ImageKind::Module, "`web:1` is a module and no Spin application"),
            (ImageKind::Component, "`web:1` is a component and no Spin application"),
            (ImageKind::HttpComponent, "`web:1` is a component and no Spin application"),
        ] {
            for program in [in_layers(kind), in_file()] {
                let said = said(image(kind), program);
                assert!(said.starts_with(what) && said.contains("`wasmtime-spin-v2`"), "{said}");
            }
        }
        assert_eq!(said(image(ImageKind::SpinApp), in_layers(ImageKind::SpinApp)), "");
        let linux = said(image(ImageKind::Linux), Program::Linux);
        assert!(
            linux.starts_with("`web:1` is an ordinary container image and no Spin application"),
            "{linux}"
        );
        assert!(linux.ends_with("or start the image with a Deployment"), "{linux}");
        // A volume provides the application, for example.
        assert_eq!(said(image(ImageKind::Linux), in_file()), "");
        assert_eq!(said(image(ImageKind::Unknown), in_file()), "");
        // Its own entry point is the module, and the operator's command starts the application beside it.
        let beside = ImageFacts { spin: Some(SpinApp::default()), ..image(ImageKind::Module) };
        assert_eq!(said(beside, in_layers(ImageKind::SpinApp)), "");
        let files = vec![(SPIN_TOML.to_owned(), FileClass::Unreadable { message: "cut off".into() })];
        assert_eq!(said(ImageFacts { files, ..image(ImageKind::Module) }, in_file()), "");
        let other = inspection(image(ImageKind::Module), in_layers(ImageKind::Module));
        assert_eq!(no_application(&runtimes, &workload(Kind::Pod), &other), None);
    }

    #[test]
    fn a_component_that_the_class_of_spin_runs_is_no_reason_to_warn() {
        let (mut runtimes, app) = (Runtimes::default(), workload(Kind::SpinApp));
        let found = inspection(image(ImageKind::HttpComponent), in_layers(ImageKind::HttpComponent));
        assert!(no_application(&runtimes, &app, &found).is_some());
        for profile in runtimes.profiles.iter_mut().filter(|profile| profile.name == "spin") {
            profile.runs.insert(ImageKind::HttpComponent);
        }
        assert_eq!(no_application(&runtimes, &app, &found), None);
    }
}
