//! Copies the pod template of a described kind to where [`super::Kind::template_pointer`] expects it.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::Error;
use super::kind::{Described, Step};
use crate::text::pointer;

/// The object with its pod template added at `/template`; the rest stays as written.
pub(super) fn with_template(
    object: &str,
    kind: &'static str,
    described: Described,
) -> Result<Box<RawValue>, Error> {
    let parse = |error: serde_json::Error| Error::Parse { kind, problem: error.to_string() };
    let mut object: Map<String, Value> = serde_json::from_str(object).map_err(parse)?;
    let template = found(&object, described).into_iter().next().map(|(_, template)| template.clone());
    let missing = || Error::FindTemplate { kind, at: described.pointer() };
    let mut template = template.ok_or_else(missing)?;
    if let Some(name) = described.container_name() {
        name_container(&mut template, name);
    }
    object.insert("template".into(), template);
    to_raw_value(&object).map_err(parse)
}

/// Gives the only container of a template a name if it has none.
fn name_container(template: &mut Value, name: &str) {
    let containers = template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    let Some([Value::Object(container)]) = containers.map(Vec::as_mut_slice) else { return };
    if container.get("name").is_none_or(|given| given.is_null() || given == "") {
        container.insert("name".into(), name.into());
    }
}

/// Every template to which the pointer of a kind leads, in the order of the document's keys, each with its own pointer.
fn found<'a>(object: &'a Map<String, Value>, described: Described) -> Vec<(String, &'a Value)> {
    let Some((first, further)) = described.steps().split_first() else { return Vec::new() };
    let mut found = fields(object, first);
    for step in further {
        let below = |(at, value): (String, &'a Value)| {
            members(value, step).into_iter().map(move |(name, value)| (format!("{at}{name}"), value))
        };
        found = found.into_iter().flat_map(below).collect();
    }
    found.retain(|(_, value)| is_template(value));
    found
}

/// Whether this is a template with a container. Tools that write every field leave an empty one where the pods come from
/// elsewhere, as in an Argo Rollout with a `workloadRef`. What is there and cannot be read counts, so that it is reported.
fn is_template(value: &Value) -> bool {
    let Some(template) = value.as_object() else { return false };
    match template.get("spec") {
        None | Some(Value::Null) => false,
        Some(Value::Object(spec)) => {
            let lists = ["initContainers", "containers", "ephemeralContainers"];
            lists.iter().any(|list| spec.get(*list).is_some_and(is_filled))
        }
        Some(_) => true,
    }
}

fn is_filled(list: &Value) -> bool {
    match list {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

/// The members to which a step leads, each with the step as a pointer.
fn members<'a>(value: &'a Value, step: &Step) -> Vec<(String, &'a Value)> {
    match (value, step) {
        (Value::Object(object), step) => fields(object, step),
        (Value::Array(items), Step::Each) => {
            items.iter().enumerate().map(|(number, value)| (format!("/{number}"), value)).collect()
        }
        _ => Vec::new(),
    }
}

fn fields<'a>(object: &'a Map<String, Value>, step: &Step) -> Vec<(String, &'a Value)> {
    let pointer = |name: &str| {
        let mut written = String::new();
        pointer::append(&mut written, name);
        written
    };
    match step {
        Step::Each => object.iter().map(|(name, value)| (pointer(name), value)).collect(),
        Step::Name(name) => object.get(name).map(|value| (pointer(name), value)).into_iter().collect(),
    }
}

/// Most templates of one object that are told apart. Jobs of training frameworks have up to five.
const MOST_TEMPLATES: usize = 64;

/// The object once for each of its templates, with the place of that one and without the others.
pub(super) fn one_by_one(object: &Value, described: Described) -> Vec<(String, Value)> {
    let Some(fields) = object.as_object() else { return Vec::new() };
    let places: Vec<String> =
        found(fields, described).into_iter().map(|(at, _)| at).take(MOST_TEMPLATES).collect();
    let alone = |kept: &String| {
        let mut alone = object.clone();
        for other in places.iter().filter(|other| *other != kept) {
            if let Some(template) = alone.pointer_mut(other) {
                *template = Value::Null;
            }
        }
        (kept.trim_start_matches('/').replace('/', "."), alone)
    };
    places.iter().map(alone).collect()
}

/// How many templates the object has besides the first, which is judged.
pub(super) fn further(object: &Value, described: Described) -> usize {
    let all = object.as_object().map(|object| found(object, described).len());
    all.unwrap_or_default().saturating_sub(1)
}

/// The place of the template as a field path, such as `spec.template`.
pub(super) fn field(described: Described) -> String {
    described.pointer().trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::review::GroupVersionKind;
    use crate::workload::kind::{Description, Kinds};
    use crate::workload::{Kind, as_judged, read};

    fn kind(group: &str, kind: &str) -> Kind {
        let named = GroupVersionKind { group: group.into(), version: "v1".into(), kind: kind.into() };
        Kinds::default().of(&named).unwrap()
    }

    fn judged(object: &Value, kind: Kind) -> Result<crate::workload::Workload, Error> {
        let sent = to_raw_value(object).unwrap();
        read(as_judged(&sent, kind)?.get(), kind, "shop")
    }

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    #[test]
    fn the_well_known_kinds_are_read_at_their_projects_template_paths() {
        let in_spec = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
        for (group, name, spec) in [
            ("serving.knative.dev", "Service", json!({"template": template("a:1")})),
            ("serving.knative.dev", "Configuration", json!({"template": template("a:1")})),
            ("argoproj.io", "Rollout", json!({"replicas": 1, "template": template("a:1")})),
            ("keda.sh", "ScaledJob", json!({"jobTargetRef": {"template": template("a:1")}})),
            (
                "kubeflow.org",
                "PyTorchJob",
                json!({"pytorchReplicaSpecs": {"Worker": {"template": template("a:1")}}}),
            ),
            ("kubeflow.org", "TFJob", json!({"tfReplicaSpecs": {"Chief": {"template": template("a:1")}}})),
            (
                "kubeflow.org",
                "MPIJob",
                json!({"mpiReplicaSpecs": {"Launcher": {"template": template("a:1")}}}),
            ),
            (
                "kubeflow.org",
                "XGBoostJob",
                json!({"xgbReplicaSpecs": {"Master": {"template": template("a:1")}}}),
            ),
            (
                "kubeflow.org",
                "PaddleJob",
                json!({"paddleReplicaSpecs": {"Worker": {"template": template("a:1")}}}),
            ),
            ("kubeflow.org", "JAXJob", json!({"jaxReplicaSpecs": {"Worker": {"template": template("a:1")}}})),
            ("kubeflow.org", "Notebook", json!({"template": template("a:1")})),
            (
                "jobset.x-k8s.io",
                "JobSet",
                json!({"replicatedJobs": [{"name": "w", "template": {"spec": {"template": template("a:1")}}}]}),
            ),
            (
                "trainer.kubeflow.org",
                "TrainingRuntime",
                json!({"template": {"spec": {"replicatedJobs":
                    [{"name": "node", "template": {"spec": {"template": template("a:1")}}}]}}}),
            ),
        ] {
            let workload = judged(&in_spec(spec), kind(group, name)).unwrap();
            assert_eq!(workload.images()[0].image, "a:1", "{name}");
            assert_eq!((workload.name.as_str(), workload.labels["app"].as_str()), ("x", "a"), "{name}");
            assert!(workload.kind.is_template(), "{name}");
        }
    }

    #[test]
    fn of_several_templates_the_first_is_read_and_the_others_are_counted() {
        let specs = json!({"Master": {"template": template("a:1")}, "Worker": {"template": template("b:1")},
                           "Other": {"replicas": 1}});
        let job = json!({"spec": {"pytorchReplicaSpecs": specs}});
        let kind = kind("kubeflow.org", "PyTorchJob");
        assert_eq!(judged(&job, kind).unwrap().images()[0].image, "a:1");
        let Kind::Described(described) = kind else { panic!("{kind:?}") };
        assert_eq!(further(&job, described), 1);
        let alone = one_by_one(&job, described);
        let images: Vec<String> = alone
            .iter()
            .map(|(_, object)| judged(object, kind).unwrap().images()[0].image.to_string())
            .collect();
        assert_eq!(images.len(), 2);
        assert_ne!(images[0], images[1]);
        assert!(alone.iter().all(|(_, object)| further(object, described) == 0));
        assert!(alone[0].0.starts_with("spec.pytorchReplicaSpecs."), "{}", alone[0].0);
    }

    #[test]
    fn a_missing_template_and_a_wrong_field_are_reported_with_their_path_in_the_object() {
        let rollout = kind("argoproj.io", "Rollout");
        let without = judged(&json!({"spec": {"workloadRef": {"name": "d"}}}), rollout).unwrap_err();
        assert!(matches!(&without, Error::FindTemplate { kind: "Rollout", at } if *at == "/spec/template"));
        let wrong = judged(&json!({"spec": {"template": {"spec": {"containers": [{"name": 7}]}}}}), rollout);
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.contains("`spec.template.spec.containers[0].name`"), "{wrong}");
        let odd = judged(&json!({"spec": {"template": {"spec": 7}}}), rollout).unwrap_err().to_string();
        assert!(odd.contains("`spec.template.spec`"), "{odd}");
    }

    #[test]
    fn the_only_container_of_a_kind_of_knative_has_the_name_that_its_pods_give_it() {
        let names = |containers: Value, kind: Kind| {
            let workload =
                judged(&json!({"spec": {"template": {"spec": {"containers": containers}}}}), kind).unwrap();
            workload.images().iter().map(|image| image.name.to_string()).collect::<Vec<_>>()
        };
        let knative = kind("serving.knative.dev", "Service");
        for container in [json!({"image": "a:1"}), json!({"image": "a:1", "name": ""})] {
            assert_eq!(names(json!([container]), knative), ["user-container"], "{container}");
        }
        assert_eq!(names(json!([{"image": "a:1", "name": "own"}]), knative), ["own"]);
        let several = json!([{"image": "a:1"}, {"image": "b:1", "name": "b"}]);
        assert_eq!(names(several, knative), ["", "b"], "these get names with numbers");
        let rollout = kind("argoproj.io", "Rollout");
        assert_eq!(names(json!([{"image": "a:1"}]), rollout), [""], "the API server refuses its pods");
    }

    #[test]
    fn a_template_without_a_container_counts_as_none() {
        let rollout = kind("argoproj.io", "Rollout");
        for empty in [
            json!({}),
            json!({"metadata": {"creationTimestamp": null}, "spec": {"containers": null}}),
            json!({"metadata": {}, "spec": {"containers": []}}),
            json!({"spec": null}),
            json!({"spec": {"initContainers": [], "restartPolicy": "Always"}}),
        ] {
            let object = json!({"spec": {"workloadRef": {"name": "d"}, "template": empty}});
            let error = judged(&object, rollout).unwrap_err();
            assert!(matches!(error, Error::FindTemplate { .. }), "{empty}: {error}");
        }
        let only_init = json!({"spec": {"initContainers": [{"name": "c", "image": "a:1"}]}});
        let read = judged(&json!({"spec": {"template": only_init}}), rollout).unwrap();
        assert_eq!(read.images()[0].image, "a:1");
        let jobs = json!({"Master": {"template": {}}, "Worker": {"template": template("b:1")}});
        let job = json!({"spec": {"pytorchReplicaSpecs": jobs}});
        let kind = kind("kubeflow.org", "PyTorchJob");
        assert_eq!(judged(&job, kind).unwrap().images()[0].image, "b:1");
        let Kind::Described(described) = kind else { panic!("{kind:?}") };
        assert_eq!(further(&job, described), 0);
    }

    #[test]
    fn foreign_bytes_are_errors_and_never_panics() {
        let odd = Description { group: "a".into(), kind: "B".into(), pod_template: "/*/~1/*/0".into() };
        let named = GroupVersionKind { group: "a".into(), version: "v1".into(), kind: "B".into() };
        let odd = Kinds::new(&[odd]).of(&named).unwrap();
        for text in ["null", "[]", "7", "{}", r#"{"spec":null}"#, r#"{"*":{"/":[{"0":1}]}}"#] {
            let sent = RawValue::from_string(text.to_owned()).unwrap();
            assert!(as_judged(&sent, odd).is_err(), "{text}");
        }
    }
}
