//! Collects from a pod spec how its containers start, for the runtime that will start them.

use k8s_openapi::api::core::v1::EnvFromSource;

use crate::image::entry::{Sharer, Start, Variable, is_expanded};
use crate::image::mounts::Mount;
use crate::image::names::{SPIN_RETAINED, TEMPORARY};
use crate::image::{ImageFacts, Packaging, Program, program};
use crate::inspection;
use crate::runtime::{self, Family};
use crate::workload::{ContainerSpec, ImageUse, Role, Workload};

/// The program that the runtime starts; for a class that no profile describes, what any runtime may start; without a class,
/// the program that the image's config names. An image volume is mounted and never started.
pub(super) fn started(
    workload: &Workload,
    image: &ImageUse<'_>,
    family: Option<Family>,
    facts: &ImageFacts,
) -> Program {
    if !image.role.starts() {
        return Program::Linux;
    }
    let spec = Spec(workload.container(image.role, image.index).unwrap_or_default());
    let mounts = mounts_of(workload, image);
    let start = Start {
        command: image.command,
        args: image.args,
        working_dir: image.working_dir,
        mounts: &mounts,
        annotations: Some(&workload.annotations),
        path: spec.variable("PATH"),
        temporary: spec.variable(TEMPORARY),
        retained: spec.variable(SPIN_RETAINED),
        shares_memory: match workload.spec.host_ipc {
            Some(true) => Some(Sharer::Node),
            _ => has_others(workload).then_some(Sharer::Pod),
        },
    };
    let program = match family {
        Some(family) => family.start(facts, &start),
        None if workload.spec.runtime_class_name.is_some() => runtime::start_undescribed(facts, &start),
        None => return program::start(facts, &start),
    };
    let is_open = is_open_to_others(workload, spec.0) && is_read_inside(family, &program);
    if is_open { exchanged() } else { program }
}

/// Whether the runtime reads the program after the container's root became its own: from files, or where it unpacked the layers.
fn is_read_inside(family: Option<Family>, program: &Program) -> bool {
    match program {
        Program::Wasm { packaging: Packaging::RootFilesystem, .. } => true,
        Program::Wasm { packaging: Packaging::Layers, .. } => {
            family.unwrap_or(Family::Everything).runtime().reads_layers_inside()
        }
        Program::Linux | Program::Native { .. } | Program::Unknown { .. } => false,
    }
}

/// Whether another container of the pod sees the processes of this one, whose `/proc/<pid>/root` leads to its files (proc(5)).
fn is_open_to_others(workload: &Workload, container: ContainerSpec<'_>) -> bool {
    let spec = &workload.spec;
    let shared = spec.share_process_namespace == Some(true) || spec.host_pid == Some(true);
    container.target.is_some() || (shared && has_others(workload))
}

/// Whether the pod has more containers than one.
fn has_others(workload: &Workload) -> bool {
    let spec = &workload.spec;
    let [init, late] = [
        spec.init_containers.as_ref().map_or(0, Vec::len),
        spec.ephemeral_containers.as_ref().map_or(0, Vec::len),
    ];
    spec.containers.len().saturating_add(init).saturating_add(late) > 1
}

/// What starts may be exchanged between the making of the container and its start.
fn exchanged() -> Program {
    program::unknown(
        "the containers of the pod share their processes, so that another one can replace the program before the runtime reads it; \
         leave `shareProcessNamespace`, `hostPID` and `targetContainerName` out, or start the program in a pod of its own",
    )
}

/// Everything that is mounted over the files of an image of a workload.
pub(super) fn mounts_of<'a>(workload: &'a Workload, image: &ImageUse<'_>) -> Vec<Mount<'a>> {
    let container = workload.container(image.role, image.index).unwrap_or_default();
    inspection::mounts(&workload.spec, &container, image.role == Role::EphemeralContainer)
}

/// The parts of a container that say how it starts.
pub(super) struct Spec<'a>(pub(super) ContainerSpec<'a>);

impl<'a> Spec<'a> {
    /// A variable of the container, as far as the pod spec shows.
    pub(super) fn variable(&self, name: &str) -> Variable<'a> {
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
    use crate::image::entry::TOKEN_FOLDER;
    use crate::image::mounts::Links;
    use crate::image::{Digest, FileClass, ModuleFacts, Shape, WasmFormat};
    use crate::workload::{self, Kind, may_have_token};

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn pod(spec: &Value) -> Workload {
        workload::read(&json!({ "metadata": { "name": "a" }, "spec": spec }).to_string(), Kind::Pod, "shop")
            .unwrap()
    }

    fn mounted(workload: &Workload, role: Role) -> Vec<Mount<'_>> {
        let image = workload.images().into_iter().find(|image| image.role == role).unwrap();
        mounts_of(workload, &image)
    }

    /// A module in a file, or in a layer.
    fn module(shape: Shape) -> ImageFacts {
        let digest: Digest = DIGEST.parse().unwrap();
        let mut module = ModuleFacts::blank("/app.wasm", WasmFormat::Module);
        module.exports = ["_start".to_string()].into();
        ImageFacts {
            files: vec![("/app.wasm".into(), FileClass::Wasm)],
            scanned: true,
            shape,
            modules: vec![module],
            ..ImageFacts::blank(&digest, &digest)
        }
    }

    #[test]
    fn a_program_that_another_container_may_exchange_leads_to_no_verdict() {
        let (files, layer) = (module(Shape::ScratchRootfs), module(Shape::WasmArtifact));
        let starts = |spec: &Value, facts: &ImageFacts, family: Family, role: Role| {
            let workload = pod(spec);
            let image = workload.images().into_iter().find(|image| image.role == role).unwrap();
            started(&workload, &image, Some(family), facts)
        };
        let one = json!({ "name": "a", "image": "a", "command": ["/app.wasm"] });
        let other = json!({ "name": "b", "image": "b" });
        let late = json!({ "name": "c", "image": "c", "command": ["/app.wasm"], "targetContainerName": "a" });
        for (spec, role, is_known) in [
            (json!({ "containers": [one, other] }), Role::Container, true),
            (json!({ "containers": [one], "shareProcessNamespace": true }), Role::Container, true),
            (json!({ "containers": [one, other], "shareProcessNamespace": true }), Role::Container, false),
            (json!({ "containers": [one, other], "hostPID": true }), Role::Container, false),
            (
                json!({ "containers": [one], "initContainers": [other], "shareProcessNamespace": true }),
                Role::Container,
                false,
            ),
            (json!({ "containers": [one], "ephemeralContainers": [late] }), Role::Container, true),
            (json!({ "containers": [one], "ephemeralContainers": [late] }), Role::EphemeralContainer, false),
        ] {
            let found = starts(&spec, &files, Family::RunwasiWasmtime, role);
            assert_eq!(matches!(found, Program::Wasm { .. }), is_known, "{spec}: {found:?}");
            assert!(is_known || found == exchanged());
            let outside = starts(&spec, &layer, Family::RunwasiWasmtime, role);
            assert!(matches!(outside, Program::Wasm { .. }), "{spec}: {outside:?}");
            let unpacked = starts(&spec, &layer, Family::Spin, role);
            assert_eq!(matches!(unpacked, Program::Wasm { .. }), is_known, "{spec}: {unpacked:?}");
        }
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
            let mounts = mounted(&workload, role);
            let paths: Vec<&str> = mounts.iter().map(|mount| mount.path).collect();
            assert_eq!(paths.contains(&TOKEN_FOLDER), role != Role::EphemeralContainer, "{role:?}");
            for hidden in [mount, "/raw", "/log", "/proc", "/etc/hosts"] {
                assert!(paths.contains(&hidden), "{role:?} {hidden}: {paths:?}");
            }
            let with_links: Vec<&Mount<'_>> =
                mounts.iter().filter(|mount| mount.links != Links::None).collect();
            assert!(
                matches!(with_links.as_slice(), [Mount { path, links: Links::Anywhere, .. }] if *path == mount),
                "no volume of that name is one of the kubelet's: {with_links:?}"
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
            let found = mounted(&workload, Role::Container);
            assert_eq!(found.iter().any(|mount| mount.links != Links::None), with_links, "{source}");
        }
    }

    #[test]
    fn a_volume_may_hold_a_worker_unless_the_pod_names_its_files_or_only_the_container_writes_to_it() {
        let of = |volume: &Value, containers: usize| {
            let mut volume = volume.clone();
            volume["name"] = json!("data");
            let mounts = json!([{ "name": "data", "mountPath": "/data" }]);
            let containers = vec![json!({ "name": "a", "image": "a", "volumeMounts": mounts }); containers];
            let workload = pod(&json!({ "containers": containers, "volumes": [volume] }));
            mounted(&workload, Role::Container).iter().any(|mount| mount.workers)
        };
        let item = |path: &str| json!({ "key": "k", "path": path });
        let many = |count: usize| json!({ "secret": { "items": vec![item("a"); count] } });
        let projected = |source: Value| json!({ "projected": { "sources": [source] } });
        for (volume, may) in [
            (json!({ "configMap": { "name": "a" } }), true),
            (json!({ "configMap": { "name": "a", "items": [] } }), true),
            (json!({ "configMap": { "name": "a", "items": [item("app.yaml"), item("x/index.js")] } }), true),
            (
                json!({ "configMap": { "name": "a", "items": [item("app.yaml"), item("_x/index.js")] } }),
                false,
            ),
            (json!({ "secret": { "secretName": "a" } }), true),
            (json!({ "secret": { "secretName": "a", "items": [item("key")] } }), false),
            (many(64), false),
            (many(65), true),
            (
                json!({ "downwardAPI": { "items": [{ "path": "a.wasm", "fieldRef": { "fieldPath": "x" } }] } }),
                true,
            ),
            (
                json!({ "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "x" } }] } }),
                false,
            ),
            (json!({ "downwardAPI": {} }), false),
            (projected(json!({ "serviceAccountToken": { "path": "token" } })), false),
            (projected(json!({ "serviceAccountToken": { "path": "token.js" } })), true),
            (projected(json!({ "clusterTrustBundle": { "path": "ca.crt" } })), false),
            (projected(json!({ "configMap": { "name": "a" } })), true),
            (projected(json!({ "secret": { "name": "a", "items": [item("key")] } })), false),
            (projected(json!({ "downwardAPI": { "items": [] } })), false),
            (
                projected(
                    json!({ "podCertificate": { "keyType": "RSA", "signerName": "s", "keyPath": "k.js" } }),
                ),
                true,
            ),
            (projected(json!({ "another": {} })), true),
            (json!({ "emptyDir": {} }), false),
            (json!({ "image": { "reference": "b" } }), true),
            (json!({ "persistentVolumeClaim": { "claimName": "a" } }), true),
        ] {
            assert_eq!(of(&volume, 1), may, "{volume}");
            assert!(of(&volume, 2) == may || volume["emptyDir"].is_object(), "{volume}");
        }
        assert!(of(&json!({ "emptyDir": {} }), 2), "the other one writes to it as well");
    }

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
            let found = mounted(&workload, Role::Container);
            assert!(found.iter().all(|mount| mount.path != "/own" || mount.links == Links::Anywhere));
            found.iter().filter(|mount| mount.path == "/own" && !mount.shared).count()
        };
        let other = |mount: &Value| json!([{ "name": "b", "image": "b", "volumeMounts": [mount] }]);
        let shared = json!({ "name": "own", "mountPath": "/x", "readOnly": true });
        assert_eq!(of(&json!({}), &Value::Null), 1);
        assert_eq!(of(&json!({ "initContainers": other(&shared) }), &Value::Null), 0);
        assert_eq!(of(&json!({ "ephemeralContainers": other(&shared) }), &Value::Null), 0);
        assert_eq!(of(&json!({}), &shared), 1, "mounted twice, by one");
        let claim = json!([{ "name": "own", "persistentVolumeClaim": { "claimName": "a" } }]);
        assert_eq!(of(&json!({ "volumes": claim }), &Value::Null), 0, "it holds what others wrote before");
        for more in [json!({ "shareProcessNamespace": true }), json!({ "hostPID": true })] {
            assert_eq!(of(&more, &Value::Null), 0, "{more}: /proc leads into it");
        }
        let late = json!([{ "name": "b", "image": "b", "targetContainerName": "a" }]);
        assert_eq!(of(&json!({ "ephemeralContainers": late }), &Value::Null), 0, "it sees the other's /proc");
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
