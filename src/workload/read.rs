//! Reads a [`Workload`] from an object's JSON. Parses only the needed fields, straight from the text, because every
//! Linux pod of the cluster passes here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{EphemeralContainer, PersistentVolumeClaimVolumeSource, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use super::path::wrong_field;
use super::{ContainerSpec, Error, ImageUse, Kind, Role, Workload, described, spin_app};
use crate::text;

/// The object with its pod template at [`Kind::template_pointer`]. Most kinds stay as sent. A SpinApp gets the template
/// that the Spin operator will make of it, and a described kind a copy of its own template. The later stages read and
/// plan this object.
pub fn as_judged(object: &RawValue, kind: Kind) -> Result<Cow<'_, RawValue>, Error> {
    match kind {
        Kind::SpinApp => spin_app::with_template(object.get()).map(Cow::Owned),
        Kind::Described(described) => {
            described::with_template(object.get(), kind.as_str(), described).map(Cow::Owned)
        }
        _ => Ok(Cow::Borrowed(object)),
    }
}

/// Reads the pod spec from the JSON that [`as_judged`] returned. `namespace` is the request's; the object's own is used
/// if it is empty.
pub fn read(object: &str, kind: Kind, namespace: &str) -> Result<Workload, Error> {
    let (outer, template) = match kind {
        Kind::Pod => pod(typed(object, kind)?),
        Kind::PodTemplate | Kind::SpinApp | Kind::Described(_) => pod_template(typed(object, kind)?),
        Kind::CronJob => cron_job(typed(object, kind)?),
        Kind::StatefulSet => return stateful_set(typed(object, kind)?, namespace),
        Kind::ReplicationController | Kind::Deployment | Kind::ReplicaSet | Kind::DaemonSet | Kind::Job => {
            controller(typed(object, kind)?)
        }
    };
    assemble((outer, template), kind, namespace)
}

// === structs with the needed fields only ===

/// Metadata of the object, and of the pod template in it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Meta {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<IgnoredAny>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl Meta {
    /// Whether a StatefulSet controls an object of this name and would have called it so.
    fn is_of_stateful_set(&self) -> bool {
        let is_one = |owner: &OwnerReference| {
            let is_ordinal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = || self.name.as_deref()?.strip_prefix(owner.name.as_str())?.strip_prefix('-');
            owner.controller == Some(true)
                && owner.kind == "StatefulSet"
                && owner.api_version.starts_with("apps/")
                && number().is_some_and(is_ordinal)
        };
        self.owner_references.iter().flatten().any(is_one)
    }
}

/// A Pod, or a pod template: both have these two fields.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct Template {
    metadata: Option<Meta>,
    spec: Option<PodSpec>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct PodTemplateObject {
    metadata: Option<Meta>,
    template: Option<Template>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct ControllerSpec {
    template: Option<Template>,
    volume_claim_templates: Option<Vec<ClaimTemplate>>,
}

/// A claim that a StatefulSet makes for each of its pods. Only its name matters, which the volume gets.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct ClaimTemplate {
    metadata: Option<ClaimMeta>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct ClaimMeta {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct Controller {
    metadata: Option<Meta>,
    spec: Option<ControllerSpec>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct JobTemplate {
    spec: Option<ControllerSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct CronJobSpec {
    job_template: Option<JobTemplate>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct CronJob {
    metadata: Option<Meta>,
    spec: Option<CronJobSpec>,
}

/// The object's own metadata, unless they are the template's, and the template.
type Parts = (Option<Meta>, Option<Template>);

fn pod(object: Template) -> Parts {
    (None, Some(object))
}

fn pod_template(object: PodTemplateObject) -> Parts {
    (Some(object.metadata.unwrap_or_default()), object.template)
}

fn controller(object: Controller) -> Parts {
    (Some(object.metadata.unwrap_or_default()), object.spec.and_then(|spec| spec.template))
}

fn cron_job(object: CronJob) -> Parts {
    let job = object.spec.and_then(|spec| spec.job_template).and_then(|template| template.spec);
    (Some(object.metadata.unwrap_or_default()), job.and_then(|spec| spec.template))
}

fn stateful_set(mut object: Controller, namespace: &str) -> Result<Workload, Error> {
    let claims = object.spec.as_mut().and_then(|spec| spec.volume_claim_templates.take());
    let mut workload = assemble(controller(object), Kind::StatefulSet, namespace)?;
    claim(&mut workload, claims.unwrap_or_default());
    Ok(workload)
}

/// Longest name of an object (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go`, `DNS1123SubdomainMaxLength`).
const LONGEST_NAME: usize = 253;

/// Adds the volumes that a StatefulSet's controller makes for each of its pods. They replace volumes of the template
/// with the same name (`kubernetes:pkg/controller/statefulset/stateful_set_utils.go`, `updateStorage`), in their place
/// in the list, so that positions stay those of the object.
fn claim(workload: &mut Workload, templates: Vec<ClaimTemplate>) {
    if templates.is_empty() {
        return;
    }
    let volumes = workload.spec.volumes.get_or_insert_default();
    // Indexed by name: a tenant chooses how many there are of each.
    let mut places: HashMap<String, usize> =
        volumes.iter().enumerate().rev().map(|(place, volume)| (volume.name.clone(), place)).collect();
    // The name may be of any length in an object that is not valid, and stands in that of each claim.
    let owner = text::shorten(&workload.name, LONGEST_NAME);
    for name in templates.into_iter().filter_map(|template| template.metadata?.name) {
        let claim_name = format!("{name}-{owner}-<ordinal>");
        let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
        let made = Volume { name: name.clone(), persistent_volume_claim: Some(source), ..Volume::default() };
        if let Some(volume) = places.get(&name).and_then(|place| volumes.get_mut(*place)) {
            *volume = made;
        } else {
            places.insert(name, volumes.len());
            volumes.push(made);
        }
    }
}

fn assemble((outer, template): Parts, kind: Kind, namespace: &str) -> Result<Workload, Error> {
    let template = template.unwrap_or_default();
    let spec =
        template.spec.ok_or_else(|| Error::FindSpec { kind: kind.as_str(), field: spec_path(kind) })?;
    let mut inner = template.metadata.unwrap_or_default();
    let labels = inner.labels.take().unwrap_or_default();
    let annotations = inner.annotations.take().unwrap_or_default();
    let own = outer.unwrap_or(inner);
    let given = |text: &String| !text.is_empty();
    Ok(Workload {
        kind,
        of_stateful_set: kind == Kind::Pod && own.is_of_stateful_set(),
        name: own.name.filter(given).or(own.generate_name).unwrap_or_default(),
        namespace: if namespace.is_empty() {
            own.namespace.unwrap_or_default()
        } else {
            namespace.to_owned()
        },
        labels,
        annotations,
        terminating: own.deletion_timestamp.is_some(),
        spec,
    })
}

/// The field path of a kind's pod template as it is written; empty for a pod, and for a SpinApp, from whose fields it is made.
pub fn template_field(kind: Kind) -> String {
    match kind {
        Kind::SpinApp => String::new(),
        _ => spec_path(kind).strip_suffix(".spec").unwrap_or_default().to_owned(),
    }
}

/// The field path of a kind's pod spec.
fn spec_path(kind: Kind) -> String {
    match kind {
        Kind::Described(described) => format!("{}.spec", described::field(described)),
        _ => format!("{}/spec", kind.template_pointer()).trim_start_matches('/').replace('/', "."),
    }
}

fn typed<T: DeserializeOwned>(object: &str, kind: Kind) -> Result<T, Error> {
    serde_json::from_str(object).map_err(|error| field_error::<T>(object, kind, &error))
}

fn field_error<T: DeserializeOwned>(object: &str, kind: Kind, error: &serde_json::Error) -> Error {
    if !error.is_data() {
        return Error::Parse { kind: kind.as_str(), problem: error.to_string() };
    }
    let path = wrong_field::<T>(object);
    let problem = error.to_string();
    // A position in the JSON that is read, which the user never wrote, would mislead.
    let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
    let (field, problem, help) = match own_field(kind, &path.to_string()) {
        Some(field) => {
            let help = format!(".{}", field.split('[').next().unwrap_or_default());
            (field, problem, help)
        }
        None => (path.to_string(), problem, path.help()),
    };
    let kind = kind.as_str();
    Error::ReadField { kind, field, problem, field_help: format!("{}{help}", kind.to_lowercase()) }
}

/// The field of the object from which a field of a generated or copied template comes; `None` for kinds whose template
/// is read in place.
fn own_field(kind: Kind, field: &str) -> Option<String> {
    match kind {
        Kind::SpinApp => Some(spin_app::own_field(field)),
        Kind::Described(described) => {
            let rest = field.strip_prefix("template");
            let own = |rest| format!("{}{rest}", described::field(described));
            Some(rest.map_or_else(|| field.to_owned(), own))
        }
        _ => None,
    }
}

// === impl Workload ===

impl Workload {
    /// Every image of the pod spec, in the kubelet's order: init containers, containers, ephemeral containers, image
    /// volumes. Skips fields without an image: the API server refuses them on a pod, and in a template they must still
    /// be filled in.
    pub fn images(&self) -> Vec<ImageUse<'_>> {
        let spec = &self.spec;
        let init = each(spec.init_containers.as_deref(), |index, item| {
            container(Role::InitContainer, index, item.into())
        });
        let main = each(Some(&spec.containers), |index, item| container(Role::Container, index, item.into()));
        let late = each(spec.ephemeral_containers.as_deref(), |index, item| {
            container(Role::EphemeralContainer, index, item.into())
        });
        let mounted = each(spec.volumes.as_deref(), volume);
        init.chain(main).chain(late).chain(mounted).collect()
    }

    /// The ServiceAccount of the pod; `default` when the spec names none.
    pub fn service_account(&self) -> &str {
        self.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Whether this is the API object of a static pod, which runs whatever admission decides.
    pub fn is_mirror(&self) -> bool {
        self.annotations.contains_key(super::MIRROR_POD_ANNOTATION)
    }
}

fn each<'a, T, F>(items: Option<&'a [T]>, view: F) -> impl Iterator<Item = ImageUse<'a>>
where
    F: Fn(usize, &'a T) -> Option<ImageUse<'a>>,
{
    items.unwrap_or_default().iter().enumerate().filter_map(move |(index, item)| view(index, item))
}

fn container(role: Role, index: usize, spec: ContainerSpec<'_>) -> Option<ImageUse<'_>> {
    Some(ImageUse {
        role,
        index,
        name: spec.name,
        image: filled(spec.image)?,
        command: spec.command,
        args: spec.args,
        working_dir: filled(spec.working_dir),
        mounts: spec.mounts,
    })
}

fn volume(index: usize, item: &Volume) -> Option<ImageUse<'_>> {
    let image = filled(item.image.as_ref()?.reference.as_deref())?;
    Some(ImageUse {
        role: Role::ImageVolume,
        index,
        name: &item.name,
        image,
        command: &[],
        args: &[],
        working_dir: None,
        mounts: &[],
    })
}

fn filled(image: Option<&str>) -> Option<&str> {
    image.filter(|image| !image.is_empty())
}

/// Whether anything that admission judges differs between two states of one object.
///
/// All of the pod spec counts, except for where a pod may run and for how long: those fields change on running pods,
/// and neither programs nor what they are handed depend on them. Fields that are unknown to the gate are compared by
/// [`same_spec`]. The labels and
/// annotations of a template count, because grants select its pods by them; those of a running pod give it nothing new.
pub fn changed(new: &Workload, old: &Workload) -> bool {
    let marked = (&new.labels, &new.annotations) != (&old.labels, &old.annotations);
    new.kind != old.kind || (new.kind.is_template() && marked) || judged(&new.spec) != judged(&old.spec)
}

/// The names of the ephemeral containers that are equal in both states of a pod. They run already, and the API server
/// lets no user change or remove them.
pub fn unchanged_ephemeral(new: &Workload, old: &Workload) -> BTreeSet<String> {
    let [new, old] = [new, old].map(|state| state.spec.ephemeral_containers.as_deref().unwrap_or_default());
    let old: HashMap<&str, &EphemeralContainer> = old.iter().map(|one| (one.name.as_str(), one)).collect();
    let same = new.iter().filter(|one| old.get(one.name.as_str()) == Some(one));
    same.map(|one| one.name.clone()).collect()
}

/// Whether the pod specs of two states of an object are equal, fields that are unknown to the gate included: a later
/// Kubernetes may make one mutable. Both are JSON that [`as_judged`] returned.
pub fn same_spec(new: &str, old: &str, kind: Kind) -> bool {
    let spec = |object: &str| -> Option<Value> {
        let mut object: Value = serde_json::from_str(object).ok()?;
        let mut spec = object.pointer_mut(&format!("{}/spec", kind.template_pointer()))?.take();
        for field in PASSED_OVER {
            spec.as_object_mut()?.remove(field);
        }
        Some(spec)
    };
    spec(new) == spec(old)
}

/// The fields of a pod spec that [`judged`] passes over.
const PASSED_OVER: [&str; 7] = [
    "tolerations",
    "schedulingGates",
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "nodeSelector",
    "affinity",
    "nodeName",
];

fn judged(spec: &PodSpec) -> PodSpec {
    PodSpec {
        tolerations: None,
        scheduling_gates: None,
        active_deadline_seconds: None,
        termination_grace_period_seconds: None,
        node_selector: None,
        affinity: None,
        node_name: None,
        ..spec.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KINDS: [Kind; 9] = [
        Kind::Pod,
        Kind::PodTemplate,
        Kind::ReplicationController,
        Kind::Deployment,
        Kind::ReplicaSet,
        Kind::StatefulSet,
        Kind::DaemonSet,
        Kind::Job,
        Kind::CronJob,
    ];

    /// The template wrapped as in this kind, with unrelated fields at every level.
    fn object(kind: Kind, template: Value) -> Value {
        let mut value = template;
        for step in kind.template_pointer().split('/').filter(|step| !step.is_empty()).rev() {
            value = json!({ step: value, "futureField": {"a": [1]} });
        }
        value["kind"] = kind.as_str().into();
        value["status"] = json!({"phase": "Pending"});
        if kind.is_template() {
            value["metadata"] = json!({"name": "orders", "namespace": "shop", "labels": {"outer": "yes"}, "managedFields": [{}]});
        }
        value
    }

    fn template() -> Value {
        json!({
            "metadata": {"name": "orders", "namespace": "shop", "labels": {"app": "orders"}, "annotations": {"a": "b"},
                         "creationTimestamp": null},
            "spec": {"containers": [{"name": "api", "image": "ghcr.io/myorg/orders:1"}], "futureSpec": 1}
        })
    }

    fn read_value(value: &Value, kind: Kind) -> Result<Workload, Error> {
        read(&value.to_string(), kind, "")
    }

    fn pod_with(spec: &Value) -> Workload {
        read_value(&json!({"metadata": {"name": "p"}, "spec": spec}), Kind::Pod).unwrap()
    }

    #[test]
    fn a_field_that_the_gate_does_not_know_is_a_change_too() {
        for kind in KINDS {
            let of = |change: &dyn Fn(&mut Value)| {
                let mut template = template();
                change(&mut template);
                object(kind, template).to_string()
            };
            let same = |change: &dyn Fn(&mut Value)| same_spec(&of(change), &of(&|_| ()), kind);
            assert!(same(&|_| ()), "{kind:?}");
            assert!(same(&|template| template["spec"]["tolerations"] = json!([{"key": "x"}])), "{kind:?}");
            assert!(same(&|template| template["metadata"]["labels"] = json!({})), "{kind:?}");
            assert!(!same(&|template| template["spec"]["futureSpec"] = json!(2)), "{kind:?}");
            assert!(!same(&|template| template["spec"]["containers"][0]["future"] = json!(1)), "{kind:?}");
        }
    }

    #[test]
    fn the_pod_spec_of_every_kind_is_found() {
        for kind in KINDS {
            let workload = read_value(&object(kind, template()), kind).unwrap();
            assert_eq!(
                (workload.kind, workload.name.as_str(), workload.namespace.as_str()),
                (kind, "orders", "shop")
            );
            assert_eq!(
                workload.labels,
                BTreeMap::from([("app".to_owned(), "orders".to_owned())]),
                "{kind:?}"
            );
            assert_eq!(workload.annotations.len(), 1);
            assert_eq!(workload.images()[0].image, "ghcr.io/myorg/orders:1");
            assert!(!workload.terminating && !workload.is_mirror());
        }
    }

    #[test]
    fn an_object_without_pod_spec_is_refused_with_the_expected_path() {
        for kind in KINDS {
            let error = read("{}", kind, "").unwrap_err().to_string();
            assert!(error.contains(&format!("`{}`", spec_path(kind))), "{error}");
        }
        assert_eq!(spec_path(Kind::CronJob), "spec.jobTemplate.spec.template.spec");
        assert_eq!(spec_path(Kind::Pod), "spec");
        assert!(matches!(read(r#"{"spec":null}"#, Kind::Deployment, ""), Err(Error::FindSpec { .. })));
    }

    /// Anyone may write owner references, but the controller ends a pod that its StatefulSet does not have.
    #[test]
    fn a_pod_of_a_stateful_set_is_known_by_its_controller_and_its_name() {
        let with = |name: &str, owner: Value| {
            let object =
                json!({"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"containers": []}});
            read(&object.to_string(), Kind::Pod, "shop").unwrap().of_stateful_set
        };
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true});
        assert!(with("db-0", owner.clone()) && with("db-12", owner.clone()));
        for name in ["db", "db-", "db-x", "db-0a", "other-0", "db2-0"] {
            assert!(!with(name, owner.clone()), "{name}");
        }
        for (field, value) in [
            ("controller", json!(false)),
            ("kind", json!("ReplicaSet")),
            ("apiVersion", json!("own.example/v1")),
        ] {
            let mut other = owner.clone();
            other[field] = value;
            assert!(!with("db-0", other), "{field}");
        }
    }

    #[test]
    fn the_requests_namespace_wins_and_generate_name_replaces_a_missing_name() {
        let text =
            r#"{"metadata":{"generateName":"orders-","name":"","namespace":"own"},"spec":{"containers":[]}}"#;
        let workload = read(text, Kind::Pod, "request").unwrap();
        assert_eq!((workload.name.as_str(), workload.namespace.as_str()), ("orders-", "request"));
        assert_eq!(read(text, Kind::Pod, "").unwrap().namespace, "own");
    }

    #[test]
    fn only_the_outer_deletion_timestamp_makes_it_terminating() {
        let stamp = json!("2026-01-01T00:00:00Z");
        for kind in KINDS {
            let mut value = object(kind, template());
            value["metadata"]["deletionTimestamp"] = Value::Null;
            assert!(!read_value(&value, kind).unwrap().terminating, "null is absent");
            value["metadata"]["deletionTimestamp"] = stamp.clone();
            assert!(read_value(&value, kind).unwrap().terminating);
        }
        let mut inner = template();
        inner["metadata"]["deletionTimestamp"] = stamp;
        assert!(!read_value(&object(Kind::Deployment, inner), Kind::Deployment).unwrap().terminating);
    }

    #[test]
    fn images_of_all_four_fields_are_found_in_order() {
        let workload = pod_with(&json!({
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "image": {"reference": "v:1"}},
                        {"name": "none", "image": {}}],
            "ephemeralContainers": [{"name": "debug", "image": "e:1", "command": ["sh"]}],
            "containers": [{"name": "api", "image": "c:1", "command": ["/a"], "args": ["-v"]}, {"name": "empty"},
                           {"name": "side", "image": "c:2"}],
            "initContainers": [{"name": "setup", "image": "i:1"}]
        }));
        let seen: Vec<_> =
            workload.images().iter().map(|use_| (use_.role, use_.index, use_.name, use_.image)).collect();
        assert_eq!(
            seen,
            [
                (Role::InitContainer, 0, "setup", "i:1"),
                (Role::Container, 0, "api", "c:1"),
                (Role::Container, 2, "side", "c:2"),
                (Role::EphemeralContainer, 0, "debug", "e:1"),
                (Role::ImageVolume, 1, "data", "v:1"),
            ]
        );
        let api = workload.images()[1];
        assert_eq!((api.command, api.args), (["/a".to_owned()].as_slice(), ["-v".to_owned()].as_slice()));
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        for (spec, path) in [
            (json!({"containers": [{"name": "a"}, {"name": "b", "image": 5}]}), "spec.containers[1].image"),
            (json!({"containers": [{"name": "a", "image": {"x": []}}]}), "spec.containers[0].image"),
            (
                json!({"containers": [], "volumes": [{"name": "v", "image": {"reference": [1]}}]}),
                "spec.volumes[0].image.reference",
            ),
            (json!({"containers": "none"}), "spec.containers"),
            (json!([1]), "spec"),
        ] {
            let value = object(Kind::Pod, json!({"metadata": {"name": "p"}, "spec": spec}));
            let Err(Error::ReadField { field, field_help, .. }) = read_value(&value, Kind::Pod) else {
                panic!("{value}")
            };
            assert_eq!(field, path);
            assert!(field_help.starts_with("pod.spec") && !field_help.contains('['), "{field_help}");
        }
        let value = object(Kind::CronJob, json!({"metadata": {"labels": {"a/b": 1}}, "spec": {}}));
        let error = read(&serde_json::to_string_pretty(&value).unwrap(), Kind::CronJob, "").unwrap_err();
        let wanted = "spec.jobTemplate.spec.template.metadata.labels[\"a/b\"]";
        assert!(matches!(&error, Error::ReadField { field, .. } if field == wanted), "{error}");
    }

    #[test]
    fn foreign_bytes_are_errors_and_never_panics() {
        for text in ["", "null", "[]", "{", "7", "{\"spec\":", "\u{0}"] {
            for kind in KINDS {
                assert!(read(text, kind, "").is_err(), "{text}");
            }
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&format!(r#"{{"spec":{{"containers":{deep}}}}}"#), Kind::Pod, "").is_err());
        assert!(read(&format!(r#"{{"other":{deep},"spec":{{"containers":[]}}}}"#), Kind::Pod, "").is_ok());
    }

    #[test]
    fn a_stateful_set_adds_a_volume_for_each_of_its_claims() {
        let set = json!({"metadata": {"name": "db"}, "spec": {
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}, {"metadata": {"name": "log"}}, {}],
            "template": {"spec": {"containers": [], "volumes": [
                {"name": "log", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}}}});
        let volumes = |kind| read(&set.to_string(), kind, "").unwrap().spec.volumes.unwrap();
        let claims: Vec<(String, Option<String>)> = volumes(Kind::StatefulSet)
            .into_iter()
            .map(|v| (v.name, v.persistent_volume_claim.map(|claim| claim.claim_name)))
            .collect();
        let claim = |name: &str| (name.to_owned(), Some(format!("{name}-db-<ordinal>")));
        assert_eq!(claims, [claim("log"), ("tmp".to_owned(), None), claim("data")]);
        assert_eq!(volumes(Kind::Deployment).len(), 2);
    }

    #[test]
    fn claims_hold_no_more_of_a_name_than_a_valid_one_has() {
        let one = |number| json!({"metadata": {"name": format!("a{number}")}});
        let claims: Vec<Value> = (0..100).map(one).collect();
        let set = json!({"metadata": {"name": "b".repeat(10_000)}, "spec": {
            "volumeClaimTemplates": claims, "template": {"spec": {"containers": []}}}});
        let volumes = read(&set.to_string(), Kind::StatefulSet, "").unwrap().spec.volumes.unwrap();
        let claimed = volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
        let lengths: Vec<usize> = claimed.map(|claim| claim.claim_name.len()).collect();
        assert!(lengths.len() == 100 && lengths.iter().all(|length| *length < 300), "{lengths:?}");
    }

    #[test]
    fn a_mirror_pod_is_recognised() {
        let text =
            r#"{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"containers":[]}}"#;
        assert!(read(text, Kind::Pod, "").unwrap().is_mirror());
    }

    #[test]
    fn what_admission_judges_counts_as_a_change_and_scheduling_does_not() {
        let base = json!({"containers": [{"name": "api", "image": "c:1"}]});
        let old = pod_with(&base);
        let with = |patch: Value| {
            let mut spec = base.clone();
            json_patch::merge(&mut spec, &patch);
            pod_with(&spec)
        };
        for same in [
            json!({}),
            json!({"tolerations": [{"operator": "Exists"}], "nodeName": "n", "nodeSelector": {"a": "b"}}),
            json!({"schedulingGates": [{"name": "g"}], "activeDeadlineSeconds": 5, "terminationGracePeriodSeconds": 1}),
            json!({"affinity": {"nodeAffinity": {}}}),
        ] {
            assert!(!changed(&with(same.clone()), &old), "{same}");
        }
        for other in [
            json!({"containers": [{"name": "api", "image": "c:2"}]}),
            json!({"containers": [{"name": "api", "image": "c:1", "args": ["-x"]}]}),
            json!({"containers": [{"name": "api", "image": "c:1", "resources": {"limits": {"cpu": "1"}}}]}),
            json!({"ephemeralContainers": [{"name": "debug", "image": "e:1"}]}),
            json!({"runtimeClassName": "wasmtime"}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            json!({"hostNetwork": true}),
            json!({"serviceAccountName": "root"}),
        ] {
            assert!(changed(&with(other.clone()), &old), "{other}");
        }
    }
}
