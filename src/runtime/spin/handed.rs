//! What the Spin shim hands over beside the lists of the application's manifest, by the shim's own code. `capability` joins it with the
//! mounts and variables of the pod, which this module does not know, and makes entries of it.

use std::collections::HashSet;

use crate::image::path;

/// Triggers that the shim can run (`containerd-shim-spin:containerd-shim-spin/src/trigger.rs`).
pub const TRIGGERS: [&str; 5] = ["http", "redis", "sqs", "command", "mqtt"];

/// The trigger that hands the arguments of the container to its component
/// (`containerd-shim-spin:containerd-shim-spin/src/engine.rs`, `run_trigger`; `spin-trigger-command:src/lib.rs`, `handle`).
pub const COMMAND: &str = "command";

/// The variable of the container that moves the HTTP server, and its port without one
/// (`containerd-shim-spin:containerd-shim-spin/src/constants.rs`, `SPIN_HTTP_LISTEN_ADDR_ENV`).
pub const LISTENS_AT: (&str, u16) = ("SPIN_HTTP_LISTEN_ADDR", 80);

/// Each of these variables of the container makes Spin send what the program prints, or traces of its requests with their
/// addresses, to an OTLP endpoint, whatever the program imports (`spin:crates/telemetry/src/env.rs`, `…/src/logs.rs`). The shim
/// sets every variable of the container in its own process (`containerd-shim-spin:containerd-shim-spin/src/engine.rs`, `run_wasi`).
pub const TELEMETRY: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// Proxies of the HTTP client behind `fermyon:spin/http` and behind telemetry (`spin:crates/factor-outbound-http/src/spin.rs`;
/// `reqwest:src/proxy.rs`). The rules for hosts are applied to the address before the proxy.
pub const PROXIES: [&str; 6] =
    ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "https_proxy"];

/// The trigger that asks the AWS SDK for messages (`spin-trigger-sqs:src/lib.rs`, `run`, with what `aws_config::load_from_env` finds in
/// the process of the shim).
pub const QUEUES: &str = "sqs";

/// Each of these variables names a host that the SDK asks for messages or for credentials
/// (`aws-sdk-rust:sdk/aws-config/src/default_provider/endpoint_url.rs`, `…/src/ecs.rs`, `…/src/imds/client.rs`;
/// `sdk/aws-runtime/src/env_config.rs`).
pub const QUEUE_HOSTS: [&str; 7] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
];

/// Agents of a node that hand out credentials, which platforms put into `AWS_CONTAINER_CREDENTIALS_FULL_URI`
/// (`aws-sdk-rust:sdk/aws-config/src/ecs.rs`).
pub const CREDENTIAL_AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// Variables that lead the SDK to its profiles. A profile names hosts as the variables do, and a program that the SDK starts by `sh`
/// (`aws-sdk-rust:sdk/aws-config/src/credential_process.rs`).
pub const PROFILE_VARIABLES: [&str; 3] = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "HOME"];
/// Where it looks without them.
pub const PROFILE_FOLDERS: [&str; 2] = ["/root/.aws", "/.aws"];

/// The names in the list of [`crate::image::names::SPIN_RETAINED`], as written; empty ones do not count
/// (`containerd-shim-spin:containerd-shim-spin/src/engine.rs`, `wasm_exec_async`).
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|name| !name.is_empty())
}

/// The components that the list keeps; `None` if it names none, where the shim starts nothing and all are judged. The pod chooses how many
/// names there are, and the image how many components are looked for among them.
pub fn retained(list: &str) -> Option<HashSet<&str>> {
    let kept: HashSet<&str> = names(list).collect();
    let is_blank = kept.iter().all(|name| name.trim().is_empty());
    (!is_blank).then_some(kept)
}

/// The container's variables that set an application variable, the winning one first: the shim copies the variable with
/// the plain upper-case name over the prefixed one (`containerd-shim-spin:containerd-shim-spin/src/utils.rs`,
/// `configure_application_variables_from_environment_variables`).
pub fn variables(name: &str) -> [String; 2] {
    let upper = name.to_ascii_uppercase();
    let prefixed = format!("SPIN_VARIABLE_{upper}");
    [upper, prefixed]
}

/// Variables that the shim's own process may have, which it keeps while it sets those of the container
/// (`containerd-shim-wasm:src/sys/unix/container/executor.rs`, `setup_envs`), and whose values are no secrets: what containerd adds
/// to its own (`containerd:pkg/shim/util.go`, `Command`; `…/pkg/shim/util_unix.go`), what its unit gets (systemd.exec(5)), and what the
/// libraries in it read. A `*` at the end stands for any rest.
const OF_SHIM: [&str; 49] = [
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CONTAINERD_*",
    "CREDENTIALS_DIRECTORY",
    "DBUS_*",
    "ENABLE_*",
    "GODEBUG",
    "GOGC",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOTRACEBACK",
    "GRPC_ADDRESS",
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "KUBECONFIG",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LISTEN_*",
    "LOGNAME",
    "LOGS_DIRECTORY",
    "LOG_NAMESPACE",
    "MAINPID",
    "MANAGERPID*",
    "MAX_SHIM_VERSION",
    "MEMORY_PRESSURE_*",
    "NAMESPACE",
    "NOTIFY_*",
    "NO_PROXY",
    "OLDPWD",
    "PATH",
    "PWD",
    "RUNTIME_DIRECTORY",
    "RUST_*",
    "SCHED_CORE",
    "SHELL",
    "SHLVL",
    "SNAP*",
    "SSL_CERT_*",
    "STATE_DIRECTORY",
    "SYSTEMD_*",
    "TERM",
    "TMPDIR",
    "TTRPC_ADDRESS",
    "TZ",
    "USER",
    "WATCHDOG_*",
    "XDG_*",
];

/// More of them, whose values may be secrets or hold some: proxies with a password, credentials of a cloud, headers of telemetry,
/// tokens of a distribution of Kubernetes that starts containerd itself (`k3s:pkg/cli/cmds/agent.go`, `K3S_TOKEN`).
const SECRETS_OF_SHIM: [&str; 7] =
    ["ALL_PROXY", "AWS_*", "HTTPS_PROXY", "HTTP_PROXY", "K3S_*", "OTEL_*", "RKE2_*"];

/// Whether the shim's own process may have a variable of this name.
pub fn is_of_shim(name: &str) -> bool {
    OF_SHIM.iter().any(|pattern| stands_for(pattern, name)) || is_secret_of_shim(name)
}

/// Whether it may, and its value may be a secret of the node.
pub fn is_secret_of_shim(name: &str) -> bool {
    SECRETS_OF_SHIM.iter().any(|pattern| stands_for(pattern, name))
}

/// Whether a pattern, with a `*` at its end for any rest, stands for a name.
pub fn stands_for(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == name, |start| name.starts_with(start))
}

/// Most bytes of a host whose templates are replaced: more than a grant may write. A host may name one variable as often as it
/// likes, and the pod chooses how long its value is.
const LONGEST_HOST: usize = 4096;

/// A host of `allowed_outbound_hosts` with values in place of its templates; `None` if one of them has no value, or has
/// no end, or if it becomes too long.
pub fn filled<'a>(written: &str, mut value: impl FnMut(&str) -> Option<&'a str>) -> Option<String> {
    let (mut text, mut rest) = (String::new(), written);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after.split_once("}}")?;
        let value = value(name.trim())?;
        if text.len().saturating_add(before.len()).saturating_add(value.len()) > LONGEST_HOST {
            return None;
        }
        text.push_str(before);
        text.push_str(value);
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// Files `.env` from which Spin takes the variables that the container does not set: in the shim's working directory and at the
/// root (`spin:crates/variables-env/src/lib.rs`). `None` stands for a place that is too long to be followed, as in [`sources`].
pub fn env_files(working_directory: &str) -> [Option<String>; 2] {
    [path::join_short(working_directory, ".env"), Some("/.env".to_string())]
}

/// The places that a source of `files` may name. Where it is written relative, the shim looks for it below `/` and hands over
/// what it finds below its working directory (`spin:crates/loader/src/local.rs`, `resolve_direct_mount`), so that both count. `None`
/// stands for a place that is too long to be followed: an image chooses how long its working directory is, and how many sources there
/// are.
pub fn sources(working_directory: &str, source: &str) -> [Option<String>; 2] {
    [Some(source.to_string()), path::join_short(working_directory, source.trim_start_matches('/'))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_the_components_that_it_names_as_they_are_written() {
        for (list, kept) in [
            ("web", true),
            ("api,web", true),
            (",web,", true),
            ("", true),
            (",", true),
            (" , ", true),
            ("api", false),
            ("api, web", false),
            ("api,", false),
        ] {
            assert_eq!(retained(list).is_none_or(|names| names.contains("web")), kept, "{list:?}");
        }
    }

    #[test]
    fn templates_are_replaced_by_values_or_nothing_is_known() {
        let value = |name: &str| (name == "host").then_some("a.example.com");
        for (written, text) in [
            ("https://{{ host }}:443", Some("https://a.example.com:443")),
            ("{{host}}/{{ host }}", Some("a.example.com/a.example.com")),
            ("https://x", Some("https://x")),
            ("https://{{ other }}", None),
            ("https://{{ host", None),
        ] {
            assert_eq!(filled(written, value).as_deref(), text, "{written}");
        }
    }

    #[test]
    fn a_host_that_values_make_longer_than_a_grant_can_write_is_not_made() {
        let (long, short) = ("a".repeat(LONGEST_HOST + 1), "a".repeat(LONGEST_HOST));
        assert_eq!(filled("{{ a }}", |_| Some(&long)), None);
        assert_eq!(filled("{{ a }}", |_| Some(&short)), Some(short.clone()));
        assert_eq!(filled(&"{{ a }}".repeat(5), |_| short.get(..1000)), None);
    }

    #[test]
    fn a_variable_of_the_shim_is_known_by_its_name_or_by_how_that_begins() {
        for (name, is_of, is_secret) in [
            ("PATH", true, false),
            ("TERM", true, false),
            ("LC_ALL", true, false),
            ("HTTP_PROXY", true, true),
            ("AWS_REGION", true, true),
            ("PATHS", false, false),
            ("PAYMENTS_HOST", false, false),
            ("MY_AWS_REGION", false, false),
        ] {
            assert_eq!((is_of_shim(name), is_secret_of_shim(name)), (is_of, is_secret), "{name}");
        }
    }

    #[test]
    fn files_and_variables_are_looked_for_in_two_places_each() {
        assert_eq!(variables("api_host"), ["API_HOST", "SPIN_VARIABLE_API_HOST"]);
        assert_eq!(env_files("/app"), ["/app/.env", "/.env"].map(|place| Some(place.to_string())));
        assert_eq!(
            sources("/app", "/static"),
            ["/static", "/app/static"].map(|place| Some(place.to_string()))
        );
        let long = "/w".repeat(path::MAX_LENGTH);
        assert_eq!(sources(&long, "/static"), [Some("/static".to_string()), None]);
        assert_eq!(env_files(&long), [None, Some("/.env".to_string())]);
    }
}
