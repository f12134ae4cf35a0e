//! The annotations that ask crun and youki for a Wasm handler, those by which crun acts on the node, and those by which CRI-O hands over
//! devices.

use std::collections::BTreeMap;

use super::checkpoint;
use super::malformed::{Malformed, short};

/// The annotation that names a handler of crun or youki.
pub const HANDLER: &str = "run.oci.handler";
/// The annotation that asks for any handler that runs Wasm.
pub const VARIANT: &str = "module.wasm.image/variant";
/// Annotations by which crun and youki choose a handler (`crun:src/libcrun/custom-handler.c`,
/// `handler_by_name` and `handler-utils.c`), on a manifest or on a pod.
pub(super) const CRUN_ANNOTATIONS: [&str; 2] = [VARIANT, HANDLER];
/// Their values that mean Wasm.
const CRUN_VALUES: [&str; 9] =
    ["compat", "compat-smart", "wasm", "wasm-smart", "wasmedge", "wasmer", "wasmtime", "wamr", "spin"];

/// How annotations begin by which crun does something beside starting the container; it calls the first ones unsafe itself
/// (`crun:src/libcrun/container.c`, `potentially_unsafe_annotations`; `criu.c`, `cgroup-systemd.c`). CRI-O knows them all, and
/// passes them on where the platform allows it (`cri-o:pkg/annotations/annotations.go`, `AllAllowedAnnotations`).
const OF_CRUN: [&str; 3] = ["run.oci.", "org.criu.", "org.systemd.property."];
/// Those of them that change nothing outside of the container and no file in it, whatever their value is: which groups its process
/// has, and whether it starts although its filter names a system call that is not known (`crun:src/libcrun/linux.c`,
/// `can_setgroups`; `container.c`). The handler is judged by its value. Not among them: `run.oci.systemd.subgroup` and
/// `run.oci.delegate-cgroup`, whose value crun appends to the path of the container's cgroup, with `..` in it. It makes that
/// cgroup, gives it to the container, and kills what is in it in the end (`cgroup-systemd.c`, `systemd_finalize` and
/// `libcrun_destroy_cgroup_systemd`; `cgroup.c`, `libcrun_cgroup_enter_finalize`, which refuses `..` since 1.28).
const INSIDE: [&str; 3] = [HANDLER, "run.oci.keep_original_groups", "run.oci.seccomp_fail_unknown_syscall"];
/// One that changes the container alone with one of these values. Before 1.27 crun writes any other as it is into the options
/// with which it mounts (`crun:src/libcrun/linux.c`, `get_selinux_context_type`; `utils.c`, `add_selinux_mount_label`).
const MOUNT_CONTEXT: (&str, [&str; 4]) =
    ("run.oci.mount_context_type", ["context", "fscontext", "defcontext", "rootcontext"]);
/// Annotations of a pod by which CRI-O gives device files of the node to each of its containers, those that `allowed_devices` has
/// (`cri-o:server/container_create_linux.go`, `specSetDevices`). Its default handler heeds them
/// (`cri-o:pkg/config/config.go`, `defaultRuntimeHandler`). Versions before 1.35 know the second alone.
const DEVICES: [&str; 2] = ["devices.crio.io", "io.kubernetes.cri-o.Devices"];
/// How evidence names the place of an annotation of a manifest.
pub const OF_MANIFEST: &str = "manifest.annotations.";
/// How the names of annotations begin that matter on a pod which is there already, as the webhook's registration has them: of those that
/// choose a handler, of those by which crun acts on the node, and of those by which CRI-O hands over devices.
pub const JUDGED_LATER: [&str; 6] =
    [CRUN_ANNOTATIONS[0], OF_CRUN[0], OF_CRUN[1], OF_CRUN[2], DEVICES[0], DEVICES[1]];

/// Refuses annotations of a manifest or an index by which a node starts something else: those of a checkpoint, and those that crun,
/// to which a node may hand them on, reads up to a NUL.
pub(super) fn check<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a Option<String>)> + Clone,
) -> Result<(), Malformed> {
    let has_nul = |text: &str| text.contains('\0');
    if annotations.clone().any(|(key, value)| has_nul(key) || value.as_deref().is_some_and(has_nul)) {
        return Err(Malformed::new(
            "its annotations have a NUL, up to which some runtimes read them; leave it out",
        ));
    }
    checkpoint::refuse_annotations(annotations.map(|(key, _)| key.as_str()))
}

/// The annotations by which crun acts on the node, as root and outside of the container: it loads a library, writes to a file,
/// connects to a socket, enters another cgroup and kills what is there, takes another filter of system calls, or mounts something
/// into the container. One that is not known counts.
pub fn on_node(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    pairs.filter(|&(key, value)| acts_on_node(key, value))
}

/// Whether crun acts on the node by an annotation of this name and value.
pub fn acts_on_node(key: &str, value: &str) -> bool {
    let (mount_context, known) = MOUNT_CONTEXT;
    let stays_inside = INSIDE.contains(&key) || (key == mount_context && known.contains(&value));
    OF_CRUN.iter().any(|start| key.starts_with(start)) && !stays_inside
}

/// The annotations by which CRI-O hands over devices, with their values. It heeds the first alone where a pod has both; both
/// count, since older versions know the second alone.
pub fn devices(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&'static str, &str)> {
    DEVICES.into_iter().filter_map(move |key| Some((key, annotations.get(key)?.as_str())))
}

/// What is kept of the annotations of a manifest, as evidence names the place, with the values: those that choose a handler, and the
/// first by which crun acts on the node. A verdict depends on no other.
pub fn seen(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (String, &str)> {
    let choosing =
        CRUN_ANNOTATIONS.into_iter().filter_map(move |key| Some((key, annotations.get(key)?.as_str())));
    let kept = choosing.chain(on_node(annotations).take(1));
    kept.map(|(key, value)| (format!("{OF_MANIFEST}{}", short(key)), value))
}

/// The annotation of a manifest that was seen at this place; `None` for any other place.
pub fn seen_at(place: &str) -> Option<&str> {
    place.strip_prefix(OF_MANIFEST)
}

/// The values of the annotations that choose a handler, as they are written: a build of crun may have other handlers than those
/// that are known here, and it heeds the one annotation before the other.
pub fn handlers(annotations: &BTreeMap<String, String>) -> [Option<&str>; 2] {
    CRUN_ANNOTATIONS.map(|key| annotations.get(key).map(String::as_str))
}

/// The same, without the values that are not known to mean Wasm.
pub fn wasm_handlers(annotations: &BTreeMap<String, String>) -> [Option<&str>; 2] {
    handlers(annotations).map(|value| value.filter(|value| means_wasm(value)))
}

/// Whether a value means Wasm, to crun at least, which reads it up to a NUL (`json-c:json_object.h`, `json_object_get_string`).
pub(super) fn means_wasm(value: &str) -> bool {
    let read = value.split('\0').next().unwrap_or_default();
    CRUN_VALUES.contains(&read)
}

/// The annotation that asks crun or youki for a Wasm handler, if one does.
pub fn crun_annotation(annotations: &BTreeMap<String, String>) -> Option<(&'static str, &str)> {
    CRUN_ANNOTATIONS.into_iter().find_map(|key| {
        let value = annotations.get(key).filter(|value| means_wasm(value))?;
        Some((key, value.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_by_which_crun_acts_on_the_node_is_known_by_how_it_begins() {
        let of = |keys: &[&str]| -> BTreeMap<String, String> {
            keys.iter().map(|key| ((*key).to_string(), "x".to_string())).collect()
        };
        let is_judged_later = |key: &str| JUDGED_LATER.iter().any(|start| key.starts_with(start));
        let acting = [
            "run.oci.seccomp.plugins",
            "org.criu.config",
            "org.systemd.property.DeviceAllow",
            "run.oci.of_tomorrow",
            "run.oci.delegate-cgroup",
            "run.oci.systemd.subgroup",
            "run.oci.mount_context_type",
        ];
        assert_eq!(on_node(&of(&acting)).count(), acting.len());
        assert!(acting.iter().chain(&CRUN_ANNOTATIONS).chain(&DEVICES).all(|key| is_judged_later(key)));
        assert_eq!(on_node(&of(&DEVICES)).count(), 0);
        assert_eq!(devices(&of(&DEVICES)).count(), 2);
        assert_eq!(on_node(&of(&INSIDE)).count(), 0);
        for (value, acts) in
            [("fscontext", 0), ("context", 0), ("Context", 1), ("size=1g,context", 1), ("", 1)]
        {
            let annotations = [(MOUNT_CONTEXT.0.to_string(), value.to_string())].into();
            assert_eq!(on_node(&annotations).count(), acts, "{value}");
        }
        assert_eq!(on_node(&of(&["run.ocix", "example.com/run.oci.hooks.stdout"])).count(), 0);
        assert_eq!(
            on_node(&of(&["run.oci.of_tomorrow"])).collect::<Vec<_>>(),
            [("run.oci.of_tomorrow", "x")]
        );
    }

    #[test]
    fn of_the_annotations_of_a_manifest_those_are_kept_that_crun_heeds() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
        };
        let long = format!("run.oci.{}", "a".repeat(1_000));
        let annotations = of(&[
            ("run.oci.handler", "wasm"),
            ("module.wasm.image/variant", "compat"),
            ("run.oci.hooks.stdout", "/srv/out"),
            ("run.oci.keep_original_groups", "1"),
            ("org.opencontainers.image.created", "2026-01-01"),
        ]);
        let kept: Vec<_> = seen(&annotations).collect();
        let kept: Vec<_> = kept.iter().map(|(place, value)| (seen_at(place), *value)).collect();
        let expected = [
            (Some("module.wasm.image/variant"), "compat"),
            (Some("run.oci.handler"), "wasm"),
            (Some("run.oci.hooks.stdout"), "/srv/out"),
        ];
        assert_eq!(kept, expected);
        assert_eq!(seen_at("manifest.config.mediaType"), None);
        let places: Vec<_> = seen(&of(&[(long.as_str(), "x")])).map(|(place, _)| place).collect();
        assert!(
            places[0].len() < 300 && seen_at(&places[0]).is_some_and(|key| acts_on_node(key, "x")),
            "{places:?}"
        );
    }

    /// crun heeds `run.oci.handler` first, whatever the other one says.
    #[test]
    fn no_value_of_either_annotation_hides_another() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
        };
        let variant = ("module.wasm.image/variant", "compat-smart");
        let before = of(&[variant]);
        for handler in ["wasmedge", "dotnet"] {
            let after = of(&[variant, ("run.oci.handler", handler)]);
            assert_eq!(crun_annotation(&before), crun_annotation(&after), "the first known one");
            assert_ne!(handlers(&before), handlers(&after));
            assert_eq!(wasm_handlers(&before) == wasm_handlers(&after), handler == "dotnet");
        }
        assert_eq!(handlers(&of(&[("another", "wasm")])), [None, None]);
        let cut_off = of(&[("run.oci.handler", "wasm\0x")]);
        assert_eq!(crun_annotation(&cut_off), Some(("run.oci.handler", "wasm\0x")), "crun reads `wasm`");
        assert_ne!(wasm_handlers(&before), wasm_handlers(&cut_off));
        assert_eq!(crun_annotation(&of(&[("run.oci.handler", "\0wasm")])), None);
    }
}
