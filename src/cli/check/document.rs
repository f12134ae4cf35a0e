//! Checks one document of the named files, by its kind.

use serde_json::Value;

use super::count_granted;
use super::report::{Problem, Report, of_grants};
use crate::cli::args::GateOptions;
use crate::cli::manifest::Manifest;
use crate::cli::{Error, build};
use crate::config::{self, file};
use crate::grant::load::{self, Located};
use crate::image::reference::Reference;
use crate::quantity::{NotAQuantity, Quantity};
use crate::review::GroupVersionKind;
use crate::text;
use crate::workload::{self, ImageUse, Kind, Kinds, Role};

/// Group of the gate's own kinds.
const OWN_GROUP: &str = "wasmgate.dev";

/// The gate's own kinds.
const OWN_KINDS: &[&str] = &[file::KIND, "WasiGrant", "ClusterWasiGrant", "WasiException"];

/// Checks a document. Returns it if it is a grant or an exception.
pub(super) fn check(
    manifest: Manifest,
    kinds: &Kinds,
    options: &GateOptions,
    report: &mut Report,
) -> Option<Located> {
    let gvk = manifest.kind();
    let origin = manifest.origin.clone();
    if gvk.group == OWN_GROUP && gvk.kind == file::KIND {
        configuration(&manifest, options, report);
    } else if gvk.group == OWN_GROUP && OWN_KINDS.contains(&gvk.kind.as_str()) {
        match load::read_object(manifest.object, &origin) {
            Ok(object) => {
                count_granted(&object, report);
                return Some(Located { origin, object });
            }
            Err(problems) => report.problems.extend(problems.0.iter().map(of_grants)),
        }
    } else if let Some(kind) = kinds.of(&gvk) {
        workload(&manifest, kind, report);
    } else if let Some(problem) = misspelled(&manifest, &gvk, kinds) {
        report.problems.push(problem);
    } else {
        report.not_checked.push(format!("{} ({origin})", gvk.kind));
    }
    None
}

/// Checks the fields of a configuration, and not the folders, bundles and certificate that it names.
fn configuration(manifest: &Manifest, options: &GateOptions, report: &mut Report) {
    let origin = &manifest.origin;
    // The document is one line of JSON by now, so a place in it says nothing.
    let (file, unparsed) = config::parse_in_part(origin, &manifest.object.to_string());
    let unparsed = unparsed.into_iter().map(config::Error::without_place);
    let wrong = file.map(|file| build::resolved_in_part(file, options).1).unwrap_or_default();
    let problems: Vec<_> = unparsed.chain(wrong).collect();
    report.count("configurations", usize::from(problems.is_empty()));
    for problem in &problems {
        report.configuration(origin, problem);
    }
}

/// Checks that the pod spec can be read, that its images have possible names, and that its sizes are quantities; `explain` shows
/// the verdict.
fn workload(manifest: &Manifest, kind: Kind, report: &mut Report) {
    let mut problems = Vec::new();
    for (_, object) in workload::one_by_one(&manifest.object, kind) {
        match images_and_sizes(&object, kind) {
            Ok(found) => problems.extend(found),
            Err(error) => return report.failed(&manifest.origin, &error),
        }
    }
    report.count("workloads", usize::from(problems.is_empty()));
    report
        .problems
        .extend(problems.into_iter().map(|problem| Problem { origin: manifest.origin.clone(), ..problem }));
}

/// The problems of the images' names and of sizes, without their origin.
fn images_and_sizes(object: &Value, kind: Kind) -> Result<Vec<Problem>, Error> {
    let failed =
        |source: workload::Error| Error::Explain { object: kind.as_str().to_string(), source: source.into() };
    let raw = serde_json::value::to_raw_value(object).map_err(|e| Error::Format(e.to_string()))?;
    let judged = workload::as_judged(&raw, kind).map_err(failed)?;
    let workload = workload::read(judged.get(), kind, "").map_err(failed)?;
    let problem = |image: &ImageUse<'_>| {
        let error = Reference::parse(image.image).err()?;
        Some(Problem {
            field: Some(field_of(image, kind)),
            value: Some(text::quoted(image.image, 64)),
            repeats_value: true,
            ..Problem::new("", error.to_string())
        })
    };
    let object: Value = serde_json::from_str(judged.get()).map_err(|e| Error::Format(e.to_string()))?;
    let spec = object.pointer(&format!("{}/spec", kind.template_pointer())).unwrap_or(&Value::Null);
    let mut problems: Vec<Problem> = workload.images().iter().filter_map(problem).collect();
    problems.extend(sizes(spec, &spec_field(kind)));
    Ok(problems)
}

/// The problems of the sizes of a pod spec and of its containers.
fn sizes(spec: &Value, field: &str) -> Vec<Problem> {
    let of = |owner: &Value, field: &str| of_resources(&owner["resources"], &format!("{field}.resources"));
    let mut problems = of(spec, field);
    for list in ["initContainers", "containers"] {
        for (number, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            problems.extend(of(container, &format!("{field}.{list}[{number}]")));
        }
    }
    problems
}

fn of_resources(resources: &Value, field: &str) -> Vec<Problem> {
    let of_side = |side: &'static str| {
        let amounts = resources[side].as_object().into_iter().flatten();
        amounts.filter_map(move |(resource, amount)| of_amount(amount, &format!("{field}.{side}.{resource}")))
    };
    ["requests", "limits"].into_iter().flat_map(of_side).collect()
}

fn of_amount(amount: &Value, field: &str) -> Option<Problem> {
    let NotAQuantity { value } = Quantity::from_json(amount).err()?;
    Some(Problem {
        field: Some(text::visible(field).into_owned()),
        value: Some(text::quoted(&value, 64)),
        ..Problem::new("", "not a quantity; write one such as `50m` or `32Mi`".to_string())
    })
}

/// Path of the pod spec. The pod template of a kind of others may be anywhere, so only its part is named.
fn spec_field(kind: Kind) -> String {
    let template = match kind {
        Kind::Described(_) => String::new(),
        other => workload::template_field(other),
    };
    if template.is_empty() { "spec".to_string() } else { format!("{template}.spec") }
}

/// Path of the field with an image's name.
fn field_of(image: &ImageUse<'_>, kind: Kind) -> String {
    let spec = spec_field(kind);
    let reference = if image.role == Role::ImageVolume { ".reference" } else { "" };
    format!("{spec}.{}[{}].image{reference}", image.role.list(), image.index)
}

/// The problem of a document whose kind or group is nearly that of a kind that `check` knows: it would not be checked, and
/// the API server would not take it either.
fn misspelled(manifest: &Manifest, gvk: &GroupVersionKind, kinds: &Kinds) -> Option<Problem> {
    let own = OWN_KINDS.iter().map(|kind| (OWN_GROUP, *kind));
    let known: Vec<_> = own.chain(kinds.all()).collect();
    let problem = |field: &str, value: &str, message: String| Problem {
        field: Some(field.to_string()),
        value: Some(text::quoted(value, 64)),
        ..Problem::new(&manifest.origin, message)
    };
    let of_group = known.iter().filter(|(group, _)| *group == gvk.group).map(|(_, kind)| *kind);
    if gvk.group == OWN_GROUP {
        let near = text::did_you_mean(&gvk.kind, of_group);
        let message = format!("this kind is not known; write one of {}{near}", OWN_KINDS.join(", "));
        return Some(problem("kind", &gvk.kind, message));
    }
    if let Some(kind) = of_group.into_iter().find(|kind| text::is_misspelling_of(&gvk.kind, kind)) {
        let message = format!("this kind is not known; did you mean `{kind}`?");
        return Some(problem("kind", &gvk.kind, message));
    }
    let mut groups = known.iter().filter(|(_, kind)| *kind == gvk.kind).map(|(group, _)| *group);
    // The core API, which has no group, has none of these kinds; of the others it may have one of the same name, as `Service`.
    let not_core =
        |group: &str| gvk.group.is_empty() && (group == OWN_GROUP || workload::is_built_in(group, &gvk.kind));
    let group = groups.find(|group| not_core(group) || text::is_misspelling_of(&gvk.group, group))?;
    let message = format!("`{}` is a kind of the group `{group}`; write that group", gvk.kind);
    Some(problem("apiVersion", manifest.text("/apiVersion"), message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn misspelled_field(api_version: &str, kind: &str) -> Option<String> {
        let object = json!({"apiVersion": api_version, "kind": kind});
        let manifest = Manifest { origin: "x.yaml".into(), object };
        misspelled(&manifest, &manifest.kind(), &Kinds::default())?.field
    }

    #[test]
    fn a_slip_in_a_kind_or_a_group_is_found() {
        for (api_version, kind, field) in [
            ("wasmgat.dev/v1alpha1", "WasiGrant", "apiVersion"),
            ("v1", "WasiGrant", "apiVersion"),
            ("v1", "Deployment", "apiVersion"),
            ("app/v1", "Deployment", "apiVersion"),
            ("v1", "pod", "kind"),
            ("apps/v1", "Deploymnet", "kind"),
            ("wasmgate.dev/v1alpha1", "GateConfig", "kind"),
        ] {
            assert_eq!(misspelled_field(api_version, kind).as_deref(), Some(field), "{api_version} {kind}");
        }
    }

    #[test]
    fn other_kinds_of_kubernetes_and_of_well_known_projects_are_no_slips() {
        for (api_version, kinds) in [
            (
                "v1",
                "Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume \
                 PersistentVolumeClaim ResourceQuota Secret Service ServiceAccount List",
            ),
            ("apps/v1", "ControllerRevision"),
            (
                "argoproj.io/v1alpha1",
                "Application AppProject WorkflowTaskSet WorkflowEventBinding AnalysisRun",
            ),
            ("serving.knative.dev/v1", "Route DomainMapping"),
            ("tekton.dev/v1", "Pipeline PipelineRun"),
            ("example.com/v1", "Pod Deployment WasiGrant"),
        ] {
            for kind in kinds.split_whitespace() {
                assert_eq!(misspelled_field(api_version, kind), None, "{api_version} {kind}");
            }
        }
    }
}
