//! What a volume of a pod is, as far as its kind says.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume, VolumeMount, VolumeProjection};

use crate::capability::path;
use crate::text;
use crate::workload::TOKEN_VOLUME;

/// Longest path that the kernel takes (`linux:include/uapi/linux/limits.h`, `PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// Most characters of a source. The names of objects have fewer; a path may have any number, and stands here once for each mount of its volume.
const LONGEST_SOURCE: usize = 256;

/// The volume's type and source, as people search for it: `persistentVolumeClaim data`.
pub(super) fn describe(name: &str, volume: Option<&Volume>) -> String {
    let Some(volume) = volume else {
        return format!("volume {}, which the pod does not define", short(name));
    };
    if let Some(claim) = &volume.persistent_volume_claim {
        format!("persistentVolumeClaim {}", short(&claim.claim_name))
    } else if let Some(secret) = &volume.secret {
        format!("secret {}", short(secret.secret_name.as_deref().unwrap_or(name)))
    } else if let Some(map) = &volume.config_map {
        format!("configMap {}", short(&map.name))
    } else if let Some(host) = &volume.host_path {
        match secret_of_node(&host.path) {
            Some(reason) => format!("hostPath {}: {reason}", short(&host.path)),
            None => format!("hostPath {}", short(&host.path)),
        }
    } else if let Some(csi) = &volume.csi {
        format!("csi {}", short(&csi.driver))
    } else if let Some(image) = &volume.image {
        format!("image {}", short(image.reference.as_deref().unwrap_or_default()))
    } else if let Some(nfs) = &volume.nfs {
        format!("nfs {}:{}", short(&nfs.server), short(&nfs.path))
    } else {
        format!("{} {}", plain_type(volume), short(without_random_letters(name)))
    }
}

fn short(source: &str) -> Cow<'_, str> {
    text::shorten(source, LONGEST_SOURCE)
}

/// The name of a volume, of the token's without the letters that make it another one in each pod of a workload: their verdicts say the
/// same.
fn without_random_letters(name: &str) -> &str {
    if name.starts_with(TOKEN_VOLUME) { TOKEN_VOLUME.trim_end_matches('-') } else { name }
}

/// The type of a volume whose source has no name.
fn plain_type(volume: &Volume) -> &'static str {
    if volume.empty_dir.is_some() {
        "emptyDir"
    } else if volume.projected.is_some() {
        "projected"
    } else if volume.downward_api.is_some() {
        "downwardAPI"
    } else if volume.ephemeral.is_some() {
        "ephemeral"
    } else {
        "volume"
    }
}

/// Volumes into which the kubelet alone writes.
pub(super) fn is_of_kubelet(volume: &Volume) -> bool {
    volume.secret.is_some()
        || volume.config_map.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Whether a program may write below a mount that is read-only: what a node has mounted below one of its folders stays as it is
/// there, unless the kubelet and the kernel hold the whole tree to it (`kubernetes:staging/src/k8s.io/api/core/v1/types.go`,
/// `RecursiveReadOnly`). A single file has nothing below it.
pub fn is_writable_below(volume: &Volume, mount: &VolumeMount) -> bool {
    let is_folder = |host: &HostPathVolumeSource| {
        !matches!(host.type_.as_deref(), Some("File" | "Socket" | "CharDevice" | "BlockDevice"))
    };
    let is_whole = mount.recursive_read_only.as_deref() == Some("Enabled");
    !is_whole && volume.host_path.as_ref().is_some_and(is_folder)
}

/// Volumes that the kubelet mounts read-only whatever the mount says: its own data
/// (`kubernetes:pkg/kubelet/kubelet_pods.go` `mustMountRO`), images, and sources that are declared read-only.
pub(super) fn is_read_only(volume: &Volume) -> bool {
    is_of_kubelet(volume)
        || volume.image.is_some()
        || volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true))
        || volume.csi.as_ref().is_some_and(|csi| csi.read_only == Some(true))
        || volume.nfs.as_ref().is_some_and(|nfs| nfs.read_only == Some(true))
}

/// Trees of a node that contain secrets, and which. Those below `/var/lib` are of the usual distributions of Kubernetes and
/// container runtimes.
const SECRETS_OF_NODE: [(&str, &str); 18] = [
    ("/etc", "keys and password hashes of the node, and its certificates under /etc/kubernetes"),
    ("/root", "keys and kubeconfig files of the node's administrator"),
    ("/home", "keys and kubeconfig files of the node's users"),
    ("/var/lib/kubelet", "the kubelet's credentials, and the Secrets and tokens of every pod of the node"),
    ("/var/lib/etcd", "every Secret of the cluster"),
    ("/var/lib/rancher", "the tokens, certificates and Secrets of k3s or RKE2"),
    ("/var/lib/k0s", "the tokens, certificates and Secrets of k0s"),
    ("/var/snap/microk8s", "the tokens, certificates and Secrets of MicroK8s"),
    ("/var/lib/cloud", "the user data of the node, which may hold its join token"),
    ("/var/lib/containerd", CONTAINERS),
    ("/var/lib/containers", CONTAINERS),
    ("/var/lib/docker", CONTAINERS),
    ("/var/lib/crio", CONTAINERS),
    ("/run", "sockets of the container runtime and tokens of other containers"),
    ("/var/run", "sockets of the container runtime and tokens of other containers"),
    ("/proc", "environment and root file system of every process of the node"),
    ("/sys", "the node's kernel interfaces, and keys in its firmware's variables"),
    ("/dev", "disks and memory of the node"),
];

const CONTAINERS: &str = "the files of every container of the node";

/// The secret in a tree of the node. A tree that contains a secret tree counts as well, `/` first of all.
fn secret_of_node(host_path: &str) -> Option<&'static str> {
    if host_path.len() > LONGEST_PATH {
        return Some("a path that is longer than the kernel takes, so that it is not known what it leads to");
    }
    let host = text::clean_path(host_path);
    let meets = |secret: &str| path::covers(secret, &host) || path::covers(&host, secret);
    if host == "/" {
        return Some("every file of the node");
    }
    SECRETS_OF_NODE.into_iter().find(|(secret, _)| meets(secret)).map(|(_, reason)| reason)
}

/// Volumes that hold a Secret, a token or a private key.
pub(super) fn is_secret(volume: &Volume) -> bool {
    let projects = |source: &VolumeProjection| {
        let is_one = source.secret.is_some()
            || source.service_account_token.is_some()
            || source.pod_certificate.is_some();
        // One of a kind that is not known may be, too.
        is_one || *source == VolumeProjection::default()
    };
    volume.secret.is_some()
        || volume.host_path.as_ref().is_some_and(|host| secret_of_node(&host.path).is_some())
        || volume.projected.as_ref().is_some_and(|p| p.sources.iter().flatten().any(projects))
        // An inline volume of a CSI driver is made for this pod alone; in practice such drivers provide keys and
        // passwords (`secrets-store.csi.k8s.io`, `csi.cert-manager.io`, `csi.spiffe.io`).
        || volume.csi.is_some()
        // A driver of the node is handed the Secret, and may write it into the volume.
        || volume.flex_volume.as_ref().is_some_and(|flex| flex.secret_ref.is_some())
        || !is_known(volume)
}

/// Whether the volume has a source of a kind that is known here. What a later Kubernetes provides may be a secret.
fn is_known(volume: &Volume) -> bool {
    Volume { name: volume.name.clone(), ..Volume::default() } != *volume
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn volume(source: Value) -> Volume {
        from_value(source).unwrap()
    }

    #[test]
    fn a_source_of_any_length_is_said_in_short() {
        let long = "a".repeat(100_000);
        for source in [
            json!({"name": long, "emptyDir": {}}),
            json!({"name": "v", "hostPath": {"path": format!("/srv/{long}")}}),
            json!({"name": "v", "nfs": {"server": long, "path": long}}),
            json!({"name": "v", "image": {"reference": long}}),
            json!({"name": "v", "csi": {"driver": long}}),
        ] {
            let said = describe(&long, Some(&volume(source)));
            assert!((LONGEST_SOURCE..1_000).contains(&said.chars().count()), "{said}");
        }
        assert!(describe(&long, None).len() < 1_000);
        let host = volume(json!({"name": "v", "hostPath": {"path": "/srv/data"}}));
        assert_eq!(describe("v", Some(&host)), "hostPath /srv/data");
    }

    #[test]
    fn a_path_that_is_longer_than_any_may_lead_to_a_secret() {
        let host = |path: &str| volume(json!({"name": "v", "hostPath": {"path": path}}));
        assert!(!is_secret(&host(&"/srv".repeat(LONGEST_PATH / 4))));
        assert!(is_secret(&host(&"/srv".repeat(LONGEST_PATH / 4 + 1))));
    }
}
