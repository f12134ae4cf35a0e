//! Collects from a pod spec how its containers start, for the runtime that will start them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, Volume, VolumeMount};

use crate::image::entry::{KUBELET_MOUNTS, Start, Variable};
use crate::image::{ImageFacts, Program, program};
use crate::runtime::Family;
use crate::workload::{ContainerSpec, ImageUse, Role, Workload};

/// The program that the runtime starts; if the runtime is not known, the program that the image's config names. An image
/// volume is mounted and never started.
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
    let (mounts, loose) = (spec.mounts(), spec.loose(workload));
    let start = Start {
        command: image.command,
        args: image.args,
        working_dir: image.working_dir,
        mounts: &mounts,
        loose: &loose,
        annotations: Some(&workload.annotations),
        path: spec.variable("PATH"),
        retained: spec.variable("SPIN_COMPONENTS_TO_RETAIN"),
    };
    match family {
        Some(family) => family.start(facts, &start),
        None => program::start(facts, &start),
    }
}

/// The parts of a container that say how it starts.
struct Spec<'a>(ContainerSpec<'a>);

impl<'a> Spec<'a> {
    /// All mounts over the image's own files: those of the pod and those that the kubelet adds.
    fn mounts(&self) -> Vec<&'a str> {
        let mounts = self.0.mounts.iter().map(|mount| mount.mount_path.as_str());
        let devices = self.0.devices.iter().map(|device| device.device_path.as_str());
        mounts.chain(devices).chain(self.0.termination_log).chain(KUBELET_MOUNTS).collect()
    }

    /// The mounts of volumes whose authors can put any file there, including links.
    fn loose(&self, workload: &Workload) -> Vec<&'a str> {
        let volumes: BTreeMap<&str, &Volume> =
            workload.spec.volumes.iter().flatten().map(|volume| (volume.name.as_str(), volume)).collect();
        let of_kubelet = |mount: &&VolumeMount| volumes.get(mount.name.as_str()).is_some_and(|v| is_plain(v));
        let loose = self.0.mounts.iter().filter(|mount| !of_kubelet(mount));
        loose.map(|mount| mount.mount_path.as_str()).collect()
    }

    /// A variable of the container, as far as the pod spec shows.
    fn variable(&self, name: &str) -> Variable<'a> {
        if let Some(variable) = self.0.env.iter().rfind(|variable| variable.name == name) {
            let plain = variable.value_from.is_none();
            let value = variable.value.as_deref().unwrap_or_default();
            let known = plain && !value.contains("$(");
            return if known { Variable::Literal(value) } else { Variable::Elsewhere };
        }
        let may_bring =
            |source: &EnvFromSource| name.starts_with(source.prefix.as_deref().unwrap_or_default());
        if self.0.env_from.iter().any(may_bring) { Variable::Elsewhere } else { Variable::Unset }
    }
}

/// Whether only the kubelet writes to the volume, so that it holds no links out of it.
fn is_plain(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::workload::{self, Kind};

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn pod(spec: &Value) -> Workload {
        workload::read(&json!({ "metadata": { "name": "a" }, "spec": spec }).to_string(), Kind::Pod, "shop")
            .unwrap()
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
            let mounts = spec(&workload, role).mounts();
            for hidden in [mount, "/raw", "/log", "/proc", "/etc/hosts"] {
                assert!(mounts.contains(&hidden), "{role:?} {hidden}: {mounts:?}");
            }
            assert_eq!(
                spec(&workload, role).loose(&workload),
                [mount],
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
    fn only_volumes_that_the_kubelet_writes_hold_no_links_of_their_author() {
        for (source, loose) in [
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
            let found = spec(&workload, Role::Container).loose(&workload);
            assert_eq!(found.is_empty(), !loose, "{source}");
        }
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
            (json!([]), from(""), "Elsewhere"),
            (json!([]), from("PA"), "Elsewhere"),
            (json!([]), from("X_"), "Unset"),
        ] {
            assert_eq!(variable(env.clone(), from.clone()), expected, "{env} {from}");
        }
    }
}
