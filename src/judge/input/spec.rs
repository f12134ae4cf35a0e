//! Facts about one container from the pod spec, as far as rules need them: a few bytes, so that rules need not read the
//! whole object.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{self as k8s, PodSpec, Probe, ResourceRequirements, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::Serialize;

use crate::inspection::Container;
use crate::quantity::Quantity;
use crate::text;
use crate::workload::{ContainerSpec, Restart, Workload};

/// A folder or file of the node in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPath<'a> {
    /// Path on the node.
    pub path: &'a str,
    /// Path in the container.
    pub mount_path: String,
    /// Whether the mount is read-only.
    pub read_only: bool,
}

/// Facts about one container from the pod spec; none for an image volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecFacts<'a> {
    /// `securityContext.privileged`.
    pub privileged: bool,
    /// Ports of the node that lead to the container: `ports[].hostPort`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<i32>,
    /// `hostPath` volumes that the container mounts. One that no container mounts gives no access.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_paths: Vec<HostPath<'a>>,
    /// Probes and lifecycle hooks that run a command in the container, such as `livenessProbe` or `lifecycle.preStop`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec_hooks: Vec<&'static str>,
    /// The first probe for which the kubelet restarts the container; left out where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_restart: Option<Restart>,
}

/// One container of a pod spec, and the facts about it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spec<'a>(ContainerSpec<'a>);

/// The names of [`ContainerSpec::probes`], in their order.
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

impl<'a> Spec<'a> {
    /// The part of the pod spec for an inspected container.
    pub fn of(workload: &'a Workload, container: &Container) -> Self {
        Self(workload.container(container.role, container.index).unwrap_or_default())
    }

    /// The facts for the rules.
    pub fn facts(&self, pod: &'a PodSpec) -> SpecFacts<'a> {
        SpecFacts {
            privileged: self.0.security.and_then(|s| s.privileged) == Some(true),
            host_ports: self.0.ports.iter().filter_map(|port| port.host_port).filter(|p| *p != 0).collect(),
            host_paths: host_paths(pod, self.0.mounts),
            exec_hooks: self.exec_hooks(),
            first_restart: self.0.first_restart(),
        }
    }

    /// Whether the pod spec names a command.
    pub const fn names_command(&self) -> bool {
        !self.0.command.is_empty() || !self.0.args.is_empty()
    }

    fn exec_hooks(&self) -> Vec<&'static str> {
        let runs = |probe: Option<&Probe>| probe.is_some_and(|p| p.exec.is_some());
        let probes = PROBES.into_iter().zip(self.0.probes).filter(|(_, probe)| runs(*probe));
        let start = self.0.lifecycle.and_then(|l| l.post_start.as_ref());
        let stop = self.0.lifecycle.and_then(|l| l.pre_stop.as_ref());
        let handlers = [("lifecycle.postStart", start), ("lifecycle.preStop", stop)];
        let handlers = handlers.into_iter().filter(|(_, handler)| handler.is_some_and(|h| h.exec.is_some()));
        probes.map(|(name, _)| name).chain(handlers.map(|(name, _)| name)).collect()
    }

    /// CPU limit in millicores. Zero means no limit, as for the kubelet.
    pub fn cpu_limit(&self) -> Option<u64> {
        cpu_limit(self.0.resources?)
    }

    /// Requested memory and memory limit in bytes. A limit of zero means no limit, as for the kubelet.
    pub fn memory(&self) -> (Option<u64>, Option<u64>) {
        let Some(resources) = self.0.resources else { return (None, None) };
        let request = amount(resources.requests.as_ref(), "memory").map(Quantity::bytes);
        (request, memory_limit(resources))
    }

    /// Whether sizes of a pod say that the container has no limit of a resource, of its own or of the pod: one of them is zero, or
    /// the pod has other sizes for it, beside which the mutating webhook fills no limit in.
    pub fn is_without_limit(&self, pod: &PodSpec, resource: &str) -> bool {
        let limit = |all: Option<&ResourceRequirements>| amount(all?.limits.as_ref(), resource);
        let (own, of_pod) = (limit(self.0.resources), limit(pod.resources.as_ref()));
        let is_bounded = own.into_iter().chain(of_pod).any(|limit| limit > Quantity::ZERO);
        let pod_requests = pod.resources.as_ref().and_then(|all| amount(all.requests.as_ref(), resource));
        !is_bounded && (own.is_some() || of_pod.is_some() || pod_requests.is_some())
    }
}

/// The memory limit of the whole pod, in bytes; zero means no limit.
pub(super) fn pod_memory_limit(pod: &PodSpec) -> Option<u64> {
    memory_limit(pod.resources.as_ref()?)
}

/// The CPU limit of the whole pod, in millicores; zero means no limit.
pub(super) fn pod_cpu_limit(pod: &PodSpec) -> Option<u64> {
    cpu_limit(pod.resources.as_ref()?)
}

/// Whether a resize is in force although the runtime does not change the sizes of a running container: it restarts each container that
/// it changes, or changes the sizes of the pod alone, which the kubelet writes into the pod's cgroup. The kubelet restarts a container
/// for any resource that changes and whose `resizePolicy` says so (`kubernetes:pkg/kubelet/kuberuntime/kuberuntime_manager.go`,
/// `computePodResizeAction`).
pub fn restarts_what_it_resizes(new: &PodSpec, old: &PodSpec) -> bool {
    let of_pod = |pod: &PodSpec| RESOURCES.map(|resource| sizes(pod.resources.as_ref(), resource));
    let changes_pod = of_pod(new) != of_pod(old);
    let old: HashMap<&str, Resizable<'_>> =
        sized(old).map(|one| (one.container.name.as_str(), one)).collect();
    let pairs = sized(new).filter_map(|one| Some((one, *old.get(one.container.name.as_str())?)));
    let changes = pairs.map(|(new, old)| RESOURCES.map(|resource| changed(new, old, resource)));
    let mut resized = changes.filter(|changes| *changes != [Change::Nothing; 2]).peekable();
    (changes_pod || resized.peek().is_some()) && resized.all(|changes| changes.contains(&Change::Restarts))
}

/// The resources that a resize may change.
const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// What a resize does to a container for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    InPlace,
    Restarts,
}

/// A container, and the sizes of its pod from which it has the limits that it lacks.
#[derive(Debug, Clone, Copy)]
struct Resizable<'a> {
    container: &'a k8s::Container,
    of_pod: Option<&'a ResourceRequirements>,
}

impl Resizable<'_> {
    /// Limit and request, as the kubelet compares them: without a limit of its own a container has that of the pod
    /// (`kubernetes:pkg/kubelet/util/util.go`, `GetLimits`).
    fn sizes(self, resource: &str) -> (Option<Quantity>, Option<Quantity>) {
        let (limit, request) = sizes(self.container.resources.as_ref(), resource);
        (limit.or_else(|| sizes(self.of_pod, resource).0), request)
    }
}

fn sized(pod: &PodSpec) -> impl Iterator<Item = Resizable<'_>> {
    let of_pod = pod.resources.as_ref();
    let containers = pod.containers.iter().map(move |container| Resizable { container, of_pod });
    // An init container that is no sidecar has ended, or will start with the new limit of the pod.
    let init = pod
        .init_containers
        .iter()
        .flatten()
        .map(move |container| Resizable { container, of_pod: of_pod.filter(|_| is_sidecar(container)) });
    containers.chain(init)
}

/// Whether an init container runs as long as the pod.
pub(super) fn is_sidecar(container: &k8s::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Limit and request; zero means none.
fn sizes(all: Option<&ResourceRequirements>, resource: &str) -> (Option<Quantity>, Option<Quantity>) {
    let size = |list| amount(list, resource).filter(|size| *size != Quantity::ZERO);
    (size(all.and_then(|all| all.limits.as_ref())), size(all.and_then(|all| all.requests.as_ref())))
}

fn changed(new: Resizable<'_>, old: Resizable<'_>, resource: &str) -> Change {
    if new.sizes(resource) == old.sizes(resource) {
        return Change::Nothing;
    }
    let policies = new.container.resize_policy.iter().flatten();
    let mut of_resource = policies.filter(|policy| policy.resource_name == resource);
    let restarts = of_resource.any(|policy| policy.restart_policy == "RestartContainer");
    if restarts { Change::Restarts } else { Change::InPlace }
}

fn cpu_limit(resources: &ResourceRequirements) -> Option<u64> {
    Some(amount(resources.limits.as_ref(), "cpu")?.millis()).filter(|millis| *millis != 0)
}

fn memory_limit(resources: &ResourceRequirements) -> Option<u64> {
    Some(amount(resources.limits.as_ref(), "memory")?.bytes()).filter(|bytes| *bytes != 0)
}

fn amount(list: Option<&BTreeMap<String, ApiQuantity>>, resource: &str) -> Option<Quantity> {
    Quantity::parse(&list?.get(resource)?.0).ok()
}

fn host_paths<'a>(pod: &'a PodSpec, mounts: &[VolumeMount]) -> Vec<HostPath<'a>> {
    let volumes = pod.volumes.as_deref().unwrap_or_default();
    if volumes.iter().all(|volume| volume.host_path.is_none()) {
        return Vec::new();
    }
    // The first of a name. By their names, since a tenant chooses how many there are of each.
    let by_name: HashMap<&str, &'a Volume> =
        volumes.iter().rev().map(|volume| (volume.name.as_str(), volume)).collect();
    let host_path = |mount: &VolumeMount| {
        let volume = by_name.get(mount.name.as_str()).copied()?;
        Some(HostPath {
            path: &volume.host_path.as_ref()?.path,
            mount_path: text::clean_path(&mount.mount_path),
            read_only: mount.read_only == Some(true),
        })
    };
    mounts.iter().filter_map(host_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resize_that_restarts_each_container_that_it_changes_is_in_force_and_no_other_is() {
        let pod = |memory: &str, cpu: &str, policies: &[&str]| -> PodSpec {
            let policy =
                |resource: &&str| json!({"resourceName": resource, "restartPolicy": "RestartContainer"});
            let policies: Vec<_> = policies.iter().map(policy).collect();
            let resources = json!({"limits": {"memory": memory, "cpu": cpu}, "requests": {"memory": "8Mi"}});
            let container =
                |name: &str| json!({"name": name, "resources": resources, "resizePolicy": policies});
            let fixed = json!({"name": "fixed", "resources": {"limits": {"memory": "1Mi"}}});
            serde_json::from_value(
                json!({"containers": [container("app"), fixed], "initContainers": [container("sidecar")]}),
            )
            .unwrap()
        };
        let cases: [(&str, &str, &[&str], bool); 7] = [
            ("64Mi", "1", &["memory", "cpu"], false),
            // The same amount in another spelling.
            ("65536Ki", "1000m", &["memory"], false),
            ("96Mi", "1", &["memory"], true),
            ("96Mi", "1", &["cpu"], false),
            ("96Mi", "1", &[], false),
            ("64Mi", "2", &["memory"], false),
            // One restart puts both in force.
            ("96Mi", "2", &["memory"], true),
        ];
        for (memory, cpu, policies, expected) in cases {
            let (old, new) = (pod("64Mi", "1", policies), pod(memory, cpu, policies));
            assert_eq!(restarts_what_it_resizes(&new, &old), expected, "{memory} {cpu} {policies:?}");
        }
        let (old, mut new) = (pod("64Mi", "1", &["memory"]), pod("96Mi", "1", &["memory"]));
        let fixed = new.containers[1].resources.as_mut().and_then(|resources| resources.limits.as_mut());
        fixed.unwrap().insert("memory".to_owned(), ApiQuantity("2Mi".to_owned()));
        assert!(!restarts_what_it_resizes(&new, &old), "one of the containers goes on as it was");
    }

    /// From Kubernetes 1.36 on, the sizes of a running pod as a whole may be changed too.
    #[test]
    fn a_container_without_a_limit_of_its_own_is_resized_with_that_of_its_pod() {
        let container = |memory: &str, restarts: bool| {
            let mut container = json!({"name": "app"});
            if !memory.is_empty() {
                container["resources"] = json!({"limits": {"memory": memory}});
            }
            if restarts {
                container["resizePolicy"] =
                    json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
            }
            container
        };
        let named = |name: &str, mut container: serde_json::Value| {
            container["name"] = json!(name);
            container
        };
        let pod = |limit: &str, containers: &[serde_json::Value], init: &[serde_json::Value]| {
            let resources = json!({"limits": {"memory": limit}});
            let spec = json!({"resources": resources, "containers": containers, "initContainers": init});
            serde_json::from_value::<PodSpec>(spec).unwrap()
        };
        let check = |was: &[serde_json::Value], is: &[serde_json::Value], expected: bool, what: &str| {
            let (old, new) = (pod("128Mi", was, &[]), pod("256Mi", is, &[]));
            assert_eq!(restarts_what_it_resizes(&new, &old), expected, "{what}");
        };
        let beside = named("beside", container("", false));
        check(
            &[container("32Mi", true), beside.clone()],
            &[container("64Mi", true), beside.clone()],
            false,
            "the one beside it has the limit of the pod, and is not restarted",
        );
        let inherits = [container("", true), named("beside", container("", true))];
        check(&inherits, &inherits, true, "both are restarted for the limit of the pod");
        let own = [container("32Mi", false), named("beside", container("0", true))];
        check(&own, &own, true, "one has a limit of its own, and for the other zero is none");
        let own = [container("32Mi", false)];
        check(&own, &own, true, "the pod alone is resized, and the kubelet does that");
        check(&[container("", false)], &[container("", false)], false, "the only container is not restarted");

        let sidecar = |policy: &str| {
            let mut sidecar = named("sidecar", container("", false));
            sidecar["restartPolicy"] = json!(policy);
            [sidecar]
        };
        for (init, expected) in [(sidecar("Always"), false), (sidecar("Never"), true)] {
            let (old, new) = (pod("128Mi", &own, &init), pod("256Mi", &own, &init));
            assert_eq!(restarts_what_it_resizes(&new, &old), expected, "{init:?}");
        }
        let same = pod("128Mi", &own, &[]);
        assert!(!restarts_what_it_resizes(&same, &same), "nothing changes");
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let resources =
            |limits| serde_json::from_value(json!({"limits": limits, "requests": {"memory": "0"}})).unwrap();
        let (zero, some): (ResourceRequirements, ResourceRequirements) =
            (resources(json!({"memory": "0", "cpu": 0})), resources(json!({"memory": "1Mi", "cpu": "2"})));
        let spec = |resources| Spec(ContainerSpec { resources: Some(resources), ..ContainerSpec::default() });
        assert_eq!((spec(&zero).memory(), spec(&zero).cpu_limit()), ((Some(0), None), None));
        assert_eq!((spec(&some).memory(), spec(&some).cpu_limit()), ((Some(0), Some(1 << 20)), Some(2000)));
        let pod = |resources| PodSpec { resources: Some(resources), ..PodSpec::default() };
        let (zero, some) = (pod(zero), pod(some));
        assert_eq!((pod_memory_limit(&zero), pod_memory_limit(&some)), (None, Some(1 << 20)));
        assert_eq!((pod_cpu_limit(&zero), pod_cpu_limit(&some)), (None, Some(2000)));
    }

    #[test]
    fn a_container_is_without_a_limit_where_a_zero_or_the_sizes_of_its_pod_say_so() {
        let (zero, some) = (json!({"limits": {"memory": "0"}}), json!({"limits": {"memory": "1Mi"}}));
        let (request, other) = (json!({"requests": {"memory": "1Mi"}}), json!({"limits": {"cpu": "1"}}));
        let none = json!({});
        for (own, of_pod, expected) in [
            (&none, &none, false),
            (&zero, &none, true),
            (&some, &none, false),
            (&request, &none, false),
            (&none, &zero, true),
            (&none, &request, true),
            (&none, &other, false),
            (&some, &zero, false),
            (&zero, &some, false),
            (&zero, &request, true),
        ] {
            let read = |resources: &serde_json::Value| -> ResourceRequirements {
                serde_json::from_value(resources.clone()).unwrap()
            };
            let (own_sizes, pod_sizes) = (read(own), read(of_pod));
            let spec = Spec(ContainerSpec { resources: Some(&own_sizes), ..ContainerSpec::default() });
            let pod = PodSpec { resources: Some(pod_sizes), ..PodSpec::default() };
            assert_eq!(spec.is_without_limit(&pod, "memory"), expected, "{own} {of_pod}");
        }
    }
}
