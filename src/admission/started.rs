//! Collects from a pod spec how its containers start, for the runtime that will start them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{EnvFromSource, Volume, VolumeMount};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::image::entry::{KUBELET_MOUNTS, SEARCH_PATH, Start, TOKEN_FOLDER, Variable, is_expanded};
use crate::image::names::SPIN_RETAINED;
use crate::image::{ImageFacts, ImageKind, Packaging, Program, program};
use crate::inspection::{Inspection, LookupResult};
use crate::runtime::{self, Family};
use crate::workload::{self, ContainerSpec, ImageUse, Role, Workload, may_have_token, may_hold_links};

/// Most of [`weight`] that is worked on where other reviews wait for it. Pods of real clusters have a few hundred each
/// container; this much takes less than ten milliseconds in the worst image.
const LIGHT: usize = 16 << 10;

/// What a mount counts beside its path, since it may go through links of the image. Pods have a handful of mounts.
const LINKS_OF_A_MOUNT: usize = 512;

/// What a source of Spin's `files` counts. Applications have a few.
const LINKS_OF_A_SOURCE: usize = 64;

/// Reviews whose heavy work is done at the same time. It runs beside the threads that answer reviews and probes.
static HEAVY: Semaphore = Semaphore::const_new(2);

/// What each container starts, in the order of [`Workload::images`]; `None` where there are no facts. The pod spec
/// decides how a container starts, and following its paths through the files of an image takes time in proportion to both, so
/// that long ones are followed on a thread of their own, until the budget ends.
pub(super) async fn programs(
    workload: &Workload,
    family: Option<Family>,
    facts: Vec<Option<Arc<ImageFacts>>>,
    budget: Duration,
) -> Vec<Option<Program>> {
    if weight(workload, &facts) <= LIGHT {
        return all(workload, family, &facts, None);
    }
    let deadline = Instant::now() + budget;
    let late = |facts: &[Option<Arc<ImageFacts>>]| {
        facts.iter().map(|facts| facts.as_ref().map(|_| undecided())).collect::<Vec<_>>()
    };
    let Ok(Ok(place)) = tokio::time::timeout(budget, HEAVY.acquire()).await else { return late(&facts) };
    let (workload, known) = (workload.clone(), facts.clone());
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        all(&workload, family, &known, Some(deadline))
    });
    work.await.unwrap_or_else(|_| late(&facts))
}

/// Does work in proportion to a pod and its images. Where that is much, two at a time do it, and other tasks of this thread go
/// on elsewhere meanwhile.
pub(super) async fn beside<T>(workload: &Workload, inspection: &Inspection, work: impl FnOnce() -> T) -> T {
    let known = inspection.containers.iter().map(|container| match &container.lookup {
        LookupResult::Known { facts, .. } => Some(Arc::clone(facts)),
        LookupResult::Unread { .. } => None,
    });
    let threads = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if !threads || weight(workload, &known.collect::<Vec<_>>()) <= LIGHT {
        return work();
    }
    let _place = HEAVY.acquire().await;
    tokio::task::block_in_place(work)
}

fn all(
    workload: &Workload,
    family: Option<Family>,
    facts: &[Option<Arc<ImageFacts>>],
    deadline: Option<Instant>,
) -> Vec<Option<Program>> {
    let is_late = || deadline.is_some_and(|deadline| Instant::now() > deadline);
    let one = |(image, facts): (ImageUse<'_>, &Option<Arc<ImageFacts>>)| {
        let facts = facts.as_ref()?;
        Some(if is_late() { undecided() } else { started(workload, &image, family, facts) })
    };
    workload.images().into_iter().zip(facts).map(one).collect()
}

/// What starts was not found out in time.
pub(super) fn undecided() -> Program {
    program::unknown(
        "following the paths of the pod through the files of the image took longer than the review may; shorten `command`, \
         `workingDir`, `PATH` and the mount paths",
    )
}

/// How much there is to follow: bytes of paths, counted as often as they are followed, and volumes, which every container
/// goes through.
fn weight(workload: &Workload, facts: &[Option<Arc<ImageFacts>>]) -> usize {
    let volumes = workload.spec.volumes.iter().flatten().count();
    let of = |(image, facts): (&ImageUse<'_>, &Option<Arc<ImageFacts>>)| {
        let spec = Spec(workload.container(image.role, image.index).unwrap_or_default());
        let own = |list: fn(&ImageFacts) -> &[String]| facts.as_deref().and_then(|facts| list(facts).first());
        let names = [image.command.first(), image.args.first(), own(|f| &f.entrypoint), own(|f| &f.cmd)];
        let name = names.into_iter().flatten().map(String::len).sum::<usize>();
        let folder =
            image.working_dir.map_or(0, str::len) + facts.as_ref().map_or(0, |f| f.working_dir.len());
        let written = match spec.variable("PATH") {
            Variable::Literal(path) => path,
            Variable::Unset | Variable::Elsewhere => "",
        };
        let path = [Some(written), facts.as_deref().and_then(|f| f.search_path.as_deref())];
        let (folders, bytes) =
            path.iter().flatten().fold((SEARCH_PATH.len(), 0), |(folders, bytes), path| {
                (folders + path.split(':').count(), bytes + path.len())
            });
        let mounts: usize = image.mounts.iter().map(|mount| mount.mount_path.len() + LINKS_OF_A_MOUNT).sum();
        let components = facts.iter().filter_map(|facts| facts.spin.as_ref()).flat_map(|app| &app.components);
        let sources: usize = components.map(|component| component.sources.len()).sum();
        let searched = folders.saturating_mul(name.saturating_add(folder)).saturating_add(bytes);
        let searched = searched.saturating_add(sources.saturating_mul(LINKS_OF_A_SOURCE));
        searched.saturating_add(2 * mounts).saturating_add(volumes)
    };
    workload.images().iter().zip(facts).map(of).fold(0, usize::saturating_add)
}

/// The program that the runtime starts; for a class that no profile describes, what any runtime may start; without a class,
/// the program that the image's config names. An image volume is mounted and never started.
pub(super) fn started(
    workload: &Workload,
    image: &ImageUse<'_>,
    family: Option<Family>,
    facts: &ImageFacts,
) -> Program {
    if image.role == Role::ImageVolume {
        return Program::Linux;
    }
    let spec = Spec(workload.container(image.role, image.index).unwrap_or_default());
    let mounts = spec.mounts(may_have_token(&workload.spec, image.role == Role::EphemeralContainer));
    let [with_links, with_own_links] = spec.with_links(workload);
    let start = Start {
        command: image.command,
        args: image.args,
        working_dir: image.working_dir,
        mounts: &mounts,
        with_links: &with_links,
        with_own_links: &with_own_links,
        annotations: Some(&workload.annotations),
        path: spec.variable("PATH"),
        retained: spec.variable(SPIN_RETAINED),
    };
    let program = match family {
        Some(family) => family.start(facts, &start),
        None if workload.spec.runtime_class_name.is_some() => runtime::start_undescribed(facts, &start),
        None => return program::start(facts, &start),
    };
    if is_read_inside(&program) && is_open_to_others(workload) { exchanged() } else { program }
}

/// Whether the runtime reads the program after the container's root became its own: from files, or where Spin's shim unpacked the
/// layers. Other layers are read outside of it.
const fn is_read_inside(program: &Program) -> bool {
    matches!(
        program,
        Program::Wasm { packaging: Packaging::RootFilesystem, .. }
            | Program::Wasm { kind: ImageKind::SpinApp, .. }
    )
}

/// Whether another container of the pod sees the processes of this one, whose `/proc/<pid>/root` leads to its files (proc(5)).
fn is_open_to_others(workload: &Workload) -> bool {
    let spec = &workload.spec;
    let shared = spec.share_process_namespace == Some(true) || spec.host_pid == Some(true);
    let containers = workload.images().into_iter().filter(|image| image.role != Role::ImageVolume);
    shared && containers.count() > 1
}

/// What starts may be exchanged between the making of the container and its start.
fn exchanged() -> Program {
    program::unknown(
        "the containers of the pod share their processes, so that another one can replace the program before the runtime reads it; \
         leave `shareProcessNamespace` and `hostPID` out, or start the program in a pod of its own",
    )
}

/// The parts of a container that say how it starts.
struct Spec<'a>(ContainerSpec<'a>);

impl<'a> Spec<'a> {
    /// All mounts over the image's own files: those of the pod and those that the kubelet adds.
    fn mounts(&self, token: bool) -> Vec<&'a str> {
        let mounts = self.0.mounts.iter().map(|mount| mount.mount_path.as_str());
        let devices = self.0.devices.iter().map(|device| device.device_path.as_str());
        let added = KUBELET_MOUNTS.into_iter().filter(|place| token || *place != TOKEN_FOLDER);
        mounts.chain(devices).chain(self.0.termination_log).chain(added).collect()
    }

    /// The mounts of volumes whose authors can put any file there, including links; apart from them those to which this
    /// container alone writes.
    fn with_links(&self, workload: &Workload) -> [Vec<&'a str>; 2] {
        let volumes: BTreeMap<&str, &Volume> =
            workload.spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
        let of_kubelet =
            |mount: &&VolumeMount| volumes.get(mount.name.as_str()).is_some_and(|v| !may_hold_links(v));
        let with_links: Vec<&VolumeMount> = self.0.mounts.iter().filter(|mount| !of_kubelet(mount)).collect();
        if with_links.is_empty() {
            return [Vec::new(), Vec::new()];
        }
        let own = workload::volumes_of_one_container(&workload.spec);
        let (own, others): (Vec<&VolumeMount>, Vec<&VolumeMount>) =
            with_links.into_iter().partition(|mount| own.contains(mount.name.as_str()));
        [others, own].map(|mounts| mounts.into_iter().map(|mount| mount.mount_path.as_str()).collect())
    }

    /// A variable of the container, as far as the pod spec shows.
    fn variable(&self, name: &str) -> Variable<'a> {
        if let Some(variable) = self.0.env.iter().rfind(|variable| variable.name == name) {
            let plain = variable.value_from.is_none();
            let value = variable.value.as_deref().unwrap_or_default();
            let known = plain && !is_expanded(value);
            return if known { Variable::Literal(value) } else { Variable::Elsewhere };
        }
        let may_bring =
            |source: &EnvFromSource| name.starts_with(source.prefix.as_deref().unwrap_or_default());
        if self.0.env_from.iter().any(may_bring) { Variable::Elsewhere } else { Variable::Unset }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::workload::Kind;

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn pod(spec: &Value) -> Workload {
        workload::read(&json!({ "metadata": { "name": "a" }, "spec": spec }).to_string(), Kind::Pod, "shop")
            .unwrap()
    }

    /// A pod of these containers, each with so many mounts, and the same facts for all.
    fn heavy(containers: usize, mounts: usize) -> (Workload, Vec<Option<Arc<ImageFacts>>>) {
        let mounts: Vec<_> =
            (0..mounts).map(|n| json!({ "name": "data", "mountPath": format!("/data/{n}") })).collect();
        let container = |n: usize| json!({ "name": format!("c{n}"), "image": "a", "command": ["/app.wasm"], "volumeMounts": mounts });
        let containers: Vec<_> = (0..containers).map(container).collect();
        let workload =
            pod(&json!({ "containers": containers, "volumes": [{ "name": "data", "emptyDir": {} }] }));
        let digest: crate::image::Digest = DIGEST.parse().unwrap();
        let mut module = crate::image::ModuleFacts::blank("/app.wasm", crate::image::WasmFormat::Module);
        module.exports = ["_start".to_string()].into();
        let facts = ImageFacts {
            files: vec![("/app.wasm".into(), crate::image::FileClass::Wasm)],
            scanned: true,
            shape: crate::image::Shape::ScratchRootfs,
            modules: vec![module],
            ..ImageFacts::blank(&digest, &digest)
        };
        let facts = vec![Some(Arc::new(facts)); workload.images().len()];
        (workload, facts)
    }

    #[tokio::test]
    async fn heavy_pods_start_what_light_ones_do_and_end_in_time() {
        let family = Some(Family::RunwasiWasmtime);
        let (light, facts) = heavy(1, 1);
        assert!(weight(&light, &facts) < LIGHT);
        let expected = programs(&light, family, facts, Duration::ZERO).await;
        assert!(matches!(&expected[0], Some(Program::Wasm { .. })), "{expected:?}");
        let (heavy, facts) = heavy(20, 200);
        assert!(weight(&heavy, &facts) > LIGHT);
        let started = programs(&heavy, family, facts.clone(), Duration::from_mins(1)).await;
        assert!(started.len() == 20 && started.iter().all(|starts| *starts == expected[0]), "{started:?}");
        let late = programs(&heavy, family, facts, Duration::ZERO).await;
        assert!(late.iter().all(|starts| *starts == Some(undecided())), "{late:?}");
    }

    #[test]
    fn a_program_that_another_container_may_exchange_leads_to_no_verdict() {
        let (_, facts) = heavy(1, 0);
        let facts = facts[0].clone().unwrap();
        let starts = |spec: Value| {
            let workload = pod(&spec);
            let image = workload.images().into_iter().find(|image| image.role == Role::Container).unwrap();
            started(&workload, &image, Some(Family::RunwasiWasmtime), &facts)
        };
        let one = json!({ "name": "a", "image": "a", "command": ["/app.wasm"] });
        let other = json!({ "name": "b", "image": "b" });
        for (spec, is_known) in [
            (json!({ "containers": [one, other] }), true),
            (json!({ "containers": [one], "shareProcessNamespace": true }), true),
            (json!({ "containers": [one, other], "shareProcessNamespace": true }), false),
            (json!({ "containers": [one, other], "hostPID": true }), false),
            (json!({ "containers": [one], "initContainers": [other], "shareProcessNamespace": true }), false),
        ] {
            let found = starts(spec.clone());
            assert_eq!(matches!(found, Program::Wasm { .. }), is_known, "{spec}: {found:?}");
            assert!(is_known || found == exchanged());
        }
    }

    #[test]
    fn the_weight_grows_with_every_path_that_is_followed() {
        let (small, facts) = heavy(2, 10);
        let (large, more) = heavy(2, 100);
        assert!(weight(&large, &more) > 8 * weight(&small, &facts));
        let searched = |path: &str| {
            let env = json!([{ "name": "PATH", "value": path }]);
            let spec =
                json!({ "containers": [{ "name": "a", "image": "a", "command": ["app"], "env": env }] });
            weight(&pod(&spec), &[None])
        };
        assert!(searched(&"/a:".repeat(10_000)) > LIGHT && searched("/bin:/usr/bin") < LIGHT);
    }

    /// What a container says, by its list.
    fn spec(workload: &Workload, role: Role) -> Spec<'_> {
        let image = workload.images().into_iter().find(|image| image.role == role).unwrap();
        Spec(workload.container(image.role, image.index).unwrap_or_default())
    }

    #[test]
    fn everything_that_hides_a_file_counts_as_mounted_in_every_list() {
        let own = |name: &str| {
            json!([{
                "name": name, "image": "a", "terminationMessagePath": "/log",
                "volumeMounts": [{ "name": "data", "mountPath": format!("/{name}") }],
                "volumeDevices": [{ "name": "disk", "devicePath": "/raw" }],
            }])
        };
        let workload = pod(&json!({
            "containers": own("main"), "initContainers": own("init"), "ephemeralContainers": own("late"),
            "volumes": [{ "name": "model", "image": { "reference": "b" } }],
        }));
        for (role, mount) in
            [(Role::Container, "/main"), (Role::InitContainer, "/init"), (Role::EphemeralContainer, "/late")]
        {
            let token = may_have_token(&workload.spec, role == Role::EphemeralContainer);
            let mounts = spec(&workload, role).mounts(token);
            assert_eq!(mounts.contains(&TOKEN_FOLDER), role != Role::EphemeralContainer, "{role:?}");
            for hidden in [mount, "/raw", "/log", "/proc", "/etc/hosts"] {
                assert!(mounts.contains(&hidden), "{role:?} {hidden}: {mounts:?}");
            }
            assert_eq!(
                spec(&workload, role).with_links(&workload),
                [vec![mount], vec![]],
                "no volume of that name is one of the kubelet's"
            );
        }
        let volume = workload.images().into_iter().find(|image| image.role == Role::ImageVolume).unwrap();
        let facts: ImageFacts = serde_json::from_value(json!({
            "digest": DIGEST, "manifestDigest": DIGEST, "kind": "module", "shape": "wasm-artifact", "platform": "",
            "evidence": [], "entrypoint": [], "cmd": [], "workingDir": "", "env": [], "modules": [], "files": [],
            "scanned": false, "native": [], "warnings": [],
        }))
        .unwrap();
        assert_eq!(started(&workload, &volume, Some(Family::Spin), &facts), Program::Linux);
    }

    #[test]
    fn the_token_hides_nothing_where_the_pod_wants_none() {
        let with = |automount: Value| {
            let containers = json!([{ "name": "a", "image": "a" }]);
            let workload =
                pod(&json!({ "containers": containers, "automountServiceAccountToken": automount }));
            may_have_token(&workload.spec, false)
        };
        assert!(with(Value::Null) && with(json!(true)) && !with(json!(false)));
    }

    #[test]
    fn only_volumes_that_the_kubelet_writes_hold_no_links_of_their_author() {
        for (source, with_links) in [
            (json!({ "configMap": { "name": "a" } }), false),
            (json!({ "secret": { "secretName": "a" } }), false),
            (json!({ "downwardAPI": {} }), false),
            (json!({ "projected": { "sources": [] } }), false),
            (json!({ "emptyDir": {} }), true),
            (json!({ "persistentVolumeClaim": { "claimName": "a" } }), true),
            (json!({ "hostPath": { "path": "/" } }), true),
            (json!({ "image": { "reference": "b" } }), true),
        ] {
            let mut volume = source.clone();
            volume["name"] = json!("data");
            let mounts = json!([{ "name": "data", "mountPath": "/data" }]);
            let workload = pod(
                &json!({ "containers": [{ "name": "a", "image": "a", "volumeMounts": mounts }], "volumes": [volume] }),
            );
            let found = spec(&workload, Role::Container).with_links(&workload).concat();
            assert_eq!(found.is_empty(), !with_links, "{source}");
        }
    }

    /// What is mounted directly in an `emptyDir` of one container alone cannot be replaced by a link.
    #[test]
    fn a_volume_that_one_container_alone_writes_to_is_told_from_others() {
        let of = |more: &Value, mount: &Value| {
            let mut mounts = vec![json!({ "name": "own", "mountPath": "/own" }), mount.clone()];
            mounts.retain(|mount| !mount.is_null());
            let mut spec = json!({
                "containers": [{ "name": "a", "image": "a", "volumeMounts": mounts }],
                "volumes": [{ "name": "own", "emptyDir": {} }],
            });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let workload = pod(&spec);
            spec_of(&workload).with_links(&workload)[1].len()
        };
        let other = |mount: &Value| json!([{ "name": "b", "image": "b", "volumeMounts": [mount] }]);
        let shared = json!({ "name": "own", "mountPath": "/x", "readOnly": true });
        assert_eq!(of(&json!({}), &Value::Null), 1);
        assert_eq!(of(&json!({ "initContainers": other(&shared) }), &Value::Null), 0);
        assert_eq!(of(&json!({ "ephemeralContainers": other(&shared) }), &Value::Null), 0);
        assert_eq!(of(&json!({}), &shared), 0, "mounted twice");
        let claim = json!([{ "name": "own", "persistentVolumeClaim": { "claimName": "a" } }]);
        assert_eq!(of(&json!({ "volumes": claim }), &Value::Null), 0, "it holds what others wrote before");
        for more in [json!({ "shareProcessNamespace": true }), json!({ "hostPID": true })] {
            assert_eq!(of(&more, &Value::Null), 0, "{more}: /proc leads into it");
        }
        let late = json!([{ "name": "b", "image": "b", "targetContainerName": "a" }]);
        assert_eq!(of(&json!({ "ephemeralContainers": late }), &Value::Null), 0, "it sees the other's /proc");
        for (security, named) in [
            (json!({ "privileged": true }), 0),
            (json!({ "capabilities": { "add": ["cap_sys_admin"] } }), 0),
            (json!({ "capabilities": { "add": ["ALL"] } }), 0),
            (json!({ "privileged": false, "capabilities": { "add": ["NET_ADMIN"] } }), 1),
        ] {
            let beside = json!([{ "name": "b", "image": "b", "securityContext": security }]);
            assert_eq!(of(&json!({ "initContainers": beside }), &Value::Null), named, "{security}");
        }
    }

    fn spec_of(workload: &Workload) -> Spec<'_> {
        spec(workload, Role::Container)
    }

    #[test]
    fn a_variable_is_known_only_where_the_pod_writes_it_out() {
        let variable = |env: Value, from: Value| {
            let containers = json!([{ "name": "a", "image": "a", "env": env, "envFrom": from }]);
            let workload = pod(&json!({ "containers": containers }));
            format!("{:?}", spec(&workload, Role::Container).variable("PATH"))
        };
        let secret = json!({ "name": "PATH", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } });
        let from = |prefix: &str| json!([{ "prefix": prefix, "configMapRef": { "name": "c" } }]);
        let written = |value: &str| json!({ "name": "PATH", "value": value });
        let literal = r#"Literal("/opt")"#;
        for (env, from, expected) in [
            (json!([]), json!([]), "Unset"),
            (json!([written("/opt")]), json!([]), literal),
            (json!([written("/opt")]), from(""), literal),
            (json!([{ "name": "PATH" }]), json!([]), r#"Literal("")"#),
            // Of two of one name the last counts.
            (json!([written("/bin"), written("/opt")]), json!([]), literal),
            (json!([written("/opt"), secret]), json!([]), "Elsewhere"),
            (json!([written("$(HOME)/bin")]), json!([]), "Elsewhere"),
            // The kubelet makes one `$` of it.
            (json!([written("/a$$b")]), json!([]), "Elsewhere"),
            (json!([written("/a$b$")]), json!([]), r#"Literal("/a$b$")"#),
            (json!([]), from(""), "Elsewhere"),
            (json!([]), from("PA"), "Elsewhere"),
            (json!([]), from("X_"), "Unset"),
        ] {
            assert_eq!(variable(env.clone(), from.clone()), expected, "{env} {from}");
        }
    }
}
