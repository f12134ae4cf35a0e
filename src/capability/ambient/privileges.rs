//! What the security context of a container lets its processes do to what it shares with the others of its pod: files of root,
//! and the network.

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext};

/// Most capabilities of one list that are looked at. A tenant chooses how many there are, and of more each may be any.
const MOST_NAMED: usize = 16;

/// The capabilities of Linux that a container has without a word of its pod (`containerd:pkg/oci/spec.go`, `defaultUnixCaps`). None of
/// them makes a mount writable.
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Those by which a process changes where the connections of its network namespace lead, or takes any other.
const OF_NETWORK: [&str; 4] = ["ALL", "NET_ADMIN", "SYS_ADMIN", "SYS_MODULE"];

/// Whether a container may write what root may. It may not where Pod Security's `restricted` is kept: with another user, who becomes no
/// other, and without capabilities of Linux. Another user alone is not enough. A shim executes no program when it starts a Wasm
/// one, so that its process keeps in effect what the container has (`containerd:pkg/oci/spec_opts.go`, `WithCapabilities`). A Linux program gets
/// back what its file says, by an attribute that its image brings: `allowPrivilegeEscalation: false` allows what the runtime's process had
/// (`linux:security/commoncap.c`, `cap_bprm_creds_from_file`).
pub(super) fn may_act_as_root(spec: &PodSpec, own: Option<&SecurityContext>) -> bool {
    let pod = spec.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or_else(|| pod.and_then(|pod| pod.run_as_user));
    let not_root =
        own.and_then(|own| own.run_as_non_root).or_else(|| pod.and_then(|pod| pod.run_as_non_root));
    let is_other = user.map_or(not_root == Some(true), |user| user != 0);
    let is_held =
        |own: &SecurityContext| own.allow_privilege_escalation == Some(false) && is_without_capabilities(own);
    !(is_other && own.is_some_and(is_held))
}

/// Whether a container has no capabilities of Linux but for that which Pod Security's `restricted` allows.
fn is_without_capabilities(own: &SecurityContext) -> bool {
    let dropped = own.capabilities.as_ref().and_then(|all| all.drop.as_deref()).unwrap_or_default();
    let drops_all = dropped.iter().take(MOST_NAMED).any(|name| name.eq_ignore_ascii_case("ALL"));
    own.privileged != Some(true) && drops_all && adds_only(own, &["NET_BIND_SERVICE"])
}

/// Whether `/etc/resolv.conf` stays as it is in a container of any user: the container runtime mounts it read-only where the
/// root file system is (`containerd:internal/cri/server/container_create.go`, `linuxContainerMounts`;
/// `cri-o:server/container_create_linux.go`). Who may mount changes that, and who sees processes of other containers has their files.
pub(super) fn keeps_resolver(spec: &PodSpec, own: Option<&SecurityContext>) -> bool {
    let sees_others = spec.share_process_namespace == Some(true) || spec.host_pid == Some(true);
    let is_held = |own: &SecurityContext| {
        own.read_only_root_filesystem == Some(true) && own.privileged != Some(true) && adds_only(own, &USUAL)
    };
    !sees_others && own.is_some_and(is_held)
}

/// Whether a container may change where the connections of its pod lead, by address or by name, such as by rules of nftables.
pub(super) fn may_redirect(own: Option<&SecurityContext>) -> bool {
    own.is_some_and(|own| own.privileged == Some(true) || adds_any(own, &OF_NETWORK))
}

/// The capabilities that are added.
fn added(own: &SecurityContext) -> &[String] {
    own.capabilities.as_ref().and_then(|all| all.add.as_deref()).unwrap_or_default()
}

/// Whether no other capability is added than one of these.
fn adds_only(own: &SecurityContext, names: &[&str]) -> bool {
    let added = added(own);
    added.len() <= MOST_NAMED && added.iter().all(|written| is_one_of(written, names))
}

/// Whether one of these is added, or may be: letters beyond ASCII may become others in capitals, as runtimes compare names.
fn adds_any(own: &SecurityContext, names: &[&str]) -> bool {
    let added = added(own);
    added.len() > MOST_NAMED || added.iter().any(|written| !written.is_ascii() || is_one_of(written, names))
}

/// Whether a name is one of these, with the prefix that it has in the kernel or without.
fn is_one_of(written: &str, names: &[&str]) -> bool {
    let name = match written.split_at_checked(4) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case("CAP_") => name,
        _ => written,
    };
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn context(written: &Value) -> SecurityContext {
        serde_json::from_value(written.clone()).unwrap()
    }

    /// The context with these capabilities, of another user who becomes no other.
    fn with(add: &Value, drop: &Value) -> SecurityContext {
        context(&json!({"runAsUser": 65532, "allowPrivilegeEscalation": false,
            "capabilities": {"add": add, "drop": drop}}))
    }

    #[test]
    fn another_user_without_capabilities_does_not_act_as_root_and_any_other_may() {
        let spec = PodSpec::default();
        let may = |own: &SecurityContext| may_act_as_root(&spec, Some(own));
        assert!(!may(&with(&json!(null), &json!(["ALL"]))));
        assert!(!may(&with(&json!(["NET_BIND_SERVICE"]), &json!(["all"]))));
        for (add, drop) in [
            (json!(null), json!(null)),
            (json!(null), json!(["NET_RAW", "DAC_OVERRIDE"])),
            (json!(["DAC_OVERRIDE"]), json!(["ALL"])),
            (json!(["ALL"]), json!(["ALL"])),
            (json!(vec!["NET_BIND_SERVICE"; MOST_NAMED + 1]), json!(["ALL"])),
        ] {
            assert!(may(&with(&add, &drop)), "{add} {drop}");
        }
        let none = || json!({"drop": ["ALL"]});
        for written in [
            json!({"runAsUser": 0, "allowPrivilegeEscalation": false, "capabilities": none()}),
            json!({"allowPrivilegeEscalation": false, "capabilities": none()}),
            json!({"runAsNonRoot": true, "capabilities": none()}),
            json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false, "privileged": true, "capabilities": none()}),
        ] {
            assert!(may(&context(&written)), "{written}");
        }
        assert!(may_act_as_root(&spec, None));
    }

    #[test]
    fn a_user_of_the_whole_pod_counts_where_the_container_says_none() {
        let spec = |user: i64| -> PodSpec {
            serde_json::from_value(json!({"containers": [], "securityContext": {"runAsUser": user}})).unwrap()
        };
        let own = context(&json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}));
        assert!(!may_act_as_root(&spec(65532), Some(&own)));
        assert!(may_act_as_root(&spec(0), Some(&own)));
    }

    #[test]
    fn a_read_only_root_keeps_the_resolver_unless_mounts_may_change_or_others_are_seen() {
        let read_only =
            |add: Value| context(&json!({"readOnlyRootFilesystem": true, "capabilities": {"add": add}}));
        let spec = PodSpec::default();
        assert!(keeps_resolver(&spec, Some(&read_only(json!(["CHOWN", "cap_setuid"])))));
        for own in [
            read_only(json!(["SYS_ADMIN"])),
            read_only(json!(["DAC_READ_SEARCH"])),
            context(&json!({"readOnlyRootFilesystem": true, "privileged": true})),
            context(&json!({"readOnlyRootFilesystem": false})),
        ] {
            assert!(!keeps_resolver(&spec, Some(&own)), "{own:?}");
        }
        assert!(!keeps_resolver(&spec, None));
        for shared in [
            PodSpec { share_process_namespace: Some(true), ..PodSpec::default() },
            PodSpec { host_pid: Some(true), ..PodSpec::default() },
        ] {
            assert!(!keeps_resolver(&shared, Some(&read_only(json!([])))));
        }
    }

    #[test]
    fn a_container_that_may_change_the_network_is_told_however_it_is_written() {
        for name in
            ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "SYS_ADMIN", "SYS_MODULE", "ALL", "net_adm\u{131}n"]
        {
            assert!(may_redirect(Some(&with(&json!([name]), &json!(["ALL"])))), "{name}");
        }
        assert!(may_redirect(Some(&context(&json!({"privileged": true})))));
        assert!(may_redirect(Some(&with(&json!(vec!["NET_RAW"; MOST_NAMED + 1]), &json!(["ALL"])))));
        for name in ["NET_RAW", "NET_BIND_SERVICE", "NET_ADMINS", "CAP_"] {
            assert!(!may_redirect(Some(&with(&json!([name]), &json!([])))), "{name}");
        }
        assert!(!may_redirect(None));
    }
}
