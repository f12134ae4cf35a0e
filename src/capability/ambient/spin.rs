//! The Spin shim: a component gets what the locked app names, and nothing of the pod's volumes and variables
//! (`containerd-shim-spin` issues 106 and 108). The pod's variables do reach the shim's own process, where they are
//! the values of application variables (`containerd-shim-spin:containerd-shim-spin/src/utils.rs`).

mod clients;
mod configuration;
mod listeners;
mod process;
mod variables;

use std::cell::LazyCell;
use std::collections::BTreeSet;

use super::RuntimeHost;
use super::handed_over::{self, listening};
use super::shim_variables;
use crate::capability::{Access, Capability, Entry, MAX_OPENED, WrittenHost, path};
use crate::image::SpinComponent;
use crate::image::entry::{self, Leads};
use crate::image::names::SPIN_RETAINED;
use crate::image::outbound::{OutboundHost, OutboundReach, hosts};
use crate::runtime::spin::handed;
use crate::text;
pub(super) use listeners::listeners;
pub(super) use process::{beyond, unpacked};
use variables::{set_elsewhere, variable};

/// What the evidence says of a host that cannot be known before the app starts.
pub const UNRESOLVED: &str = "is not known before start";

/// Whether the app's component is started.
pub(super) fn retains(host: &RuntimeHost<'_>, id: &str) -> bool {
    let names = host.retained.get_or_init(|| host.pod.literal(SPIN_RETAINED).and_then(handed::retained));
    names.as_ref().is_none_or(|names| names.contains(id))
}

/// What the shim hands to the application as a whole.
pub(super) fn app(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let runtime = host.runtime();
    let trigger =
        |name: &str| Entry::new(Capability::Trigger, format!("{runtime} runs {name} triggers")).named(name);
    let mut entries: Vec<Entry> = handed::TRIGGERS.into_iter().map(trigger).collect();
    let (address, port) = handed::LISTENS_AT;
    let (port, evidence) = listening(host, address, port);
    entries.push(Entry { port, ..Entry::new(Capability::HttpInbound, format!("{runtime} {evidence}")) });
    entries
}

/// What the shim hands to a single Wasm layer, around which it wraps an application: only `http` starts it, and it has
/// no files, variables or hosts (`spin:crates/loader/src/lib.rs`, `single_file_manifest`).
pub(super) fn layer(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let mut entries = basics(host);
    entries.extend(app(host).into_iter().filter(|entry| entry.capability == Capability::HttpInbound));
    entries
}

/// What the shim hands to every component.
fn basics(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let runtime = host.runtime();
    [
        (Capability::Stdio, "inherits standard output and error"),
        (Capability::Clock, "hands over the clocks"),
        (Capability::Random, "hands over random bytes"),
        (Capability::Telemetry, "may link wasi:otel"),
    ]
    .map(|(capability, what)| Entry::new(capability, format!("{runtime} {what}")))
    .into()
}

/// What the shim hands to one component.
pub(super) fn component(host: &RuntimeHost<'_>, component: &SpinComponent) -> Vec<Entry> {
    let at = format!("locked app component \"{}\":", component.id);
    let mut entries = basics(host);
    let own =
        |name: &String| Entry::new(Capability::Env, format!("{at} env {name}")).named(name).mark_own(true);
    entries.extend(component.env.iter().map(own));
    if component.triggers.contains(handed::COMMAND) {
        entries
            .push(Entry::new(Capability::Args, format!("{at} a command trigger hands over all arguments")));
        entries.extend(host.pod.secret_arguments());
    }
    entries.extend(files(host, component, &at));
    entries.extend(stores(host, component, &at));
    entries.extend(component.variables.iter().map(|name| variable(host, name, &at)));
    let mut hosts: Vec<&OutboundHost> = component.allowed_outbound_hosts.iter().collect();
    hosts.sort_by_key(|host| host.as_str());
    hosts.dedup();
    let reached = hosts.into_iter().flat_map(|written| outbound(host, written, &at)).collect();
    let reached = clients::beside_list(host, component, reached, &at);
    if reached.iter().any(|entry| entry.capability == Capability::HttpOutbound) {
        entries.extend(shim_variables::proxies(host));
    }
    entries.extend(reached);
    entries
}

/// What `files` opens.
fn files(host: &RuntimeHost<'_>, component: &SpinComponent, at: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    // A pod may have thousands of mounts, and an application as many sources.
    let secret = LazyCell::new(|| host.pod.mounts().iter().any(|mount| mount.secret));
    for (number, place) in component.files.iter().enumerate() {
        match component.sources.get(number) {
            None => entries.extend(opened(host, None, place, &format!("{at} files {place}"))),
            Some(source) => {
                for (folder, why) in sources(host, source) {
                    let how = format!("{at} files {place}{why}");
                    let found = opened(host, Some(&folder), place, &how).into_iter();
                    // What may be anything is not the image's own.
                    let foreign = |entry: Entry| {
                        let own = entry.own && !why.is_empty();
                        if own { entry.mark_own(false).mark_secret(*secret) } else { entry }
                    };
                    entries.extend(found.map(foreign));
                }
            }
        }
        if entries.len() > MAX_OPENED {
            let how = format!("{at} files {}", component.files.len());
            let any = Entry::new(Capability::Fs, &*how).mark_secret(*secret);
            entries.push(Entry { access: Some(Access::ReadOnly), ..any });
            entries.extend(handed_over::kernel(host, "/", &how, false));
            break;
        }
    }
    entries
}

/// The folders that a source may name; `/` for one that may be any, with the reason. What the kernel shows has links of
/// its own, such as `/proc/self/root`.
fn sources(host: &RuntimeHost<'_>, source: &str) -> BTreeSet<(String, &'static str)> {
    let folder = |source: Option<String>| match source.map_or(Leads::Anywhere, |source| host.leads(&source)) {
        Leads::To(place) if entry::kernel_tree(&place).is_none() => (place, ""),
        _ => ("/".to_string(), ", which a link in a volume or in /proc may lead anywhere"),
    };
    handed::sources(host.working_directory(), source).into_iter().map(folder).collect()
}

/// What one entry of `files` opens. In a root file system it is a folder as the container sees it, with the pod's
/// mounts and the kernel's files in it; all of it read-only.
fn opened(host: &RuntimeHost<'_>, source: Option<&str>, place: &str, how: &str) -> Vec<Entry> {
    let own = |path: &str| Entry::new(Capability::Fs, how).at_path(path, Access::ReadOnly).mark_own(true);
    let place = text::clean_path(place);
    let Some(source) = source.map(String::from) else { return vec![own(&place)] };
    let mut entries = Vec::new();
    let mut inside = false;
    for mount in host.pod.touching(&source) {
        // A pod may have thousands of mounts, of which each source in `/` opens all.
        if entries.len() > MAX_OPENED {
            return entries;
        }
        let mounted = mount.path.clone().unwrap_or_default();
        let below = path::covers(&source, &mounted);
        inside |= path::covers(&mounted, &source);
        if below || path::covers(&mounted, &source) {
            let rest = mounted.strip_prefix(source.as_str()).filter(|_| below).unwrap_or_default();
            let seen = text::clean_path(&format!("{place}/{rest}"));
            entries.push(mount.clone().at_path(seen, Access::ReadOnly).seen_in(how));
        }
    }
    let kernel = handed_over::kernel(host, &source, how, false);
    if !inside && kernel.iter().all(|entry| entry.path.as_ref() != Some(&source)) {
        entries.push(own(&place));
    }
    entries.extend(kernel);
    entries
}

fn stores(host: &RuntimeHost<'_>, component: &SpinComponent, at: &str) -> Vec<Entry> {
    let lists = [
        (Capability::Keyvalue, "key_value_stores", &component.key_value_stores),
        (Capability::Sqlite, "databases", &component.sqlite_databases),
        (Capability::Ai, "ai_models", &component.ai_models),
    ];
    let to_entry = |capability, key: &str, name: &String| {
        let entry = Entry::new(capability, format!("{at} {key} \"{name}\"")).named(name);
        match configuration::noted(host, capability, name) {
            Some(note) => entry.seen_in(note),
            None => entry,
        }
    };
    let of_list = |(capability, key, names): (Capability, &'static str, &Vec<String>)| {
        names.iter().map(|name| to_entry(capability, key, name)).collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(of_list).collect()
}

/// The capabilities that one entry of `allowed_outbound_hosts` hands over.
fn outbound(host: &RuntimeHost<'_>, written: &OutboundHost, at: &str) -> Vec<Entry> {
    let evidence = format!("{at} allowed_outbound_hosts \"{}\"", without_credentials(written.as_str()));
    match written.reach() {
        OutboundReach::Hosts(patterns) => of_patterns(host, patterns, &evidence),
        OutboundReach::Unreadable(widest) => {
            of_pattern(host, widest, &format!("{evidence} is not a host pattern: taken for any host"))
        }
        OutboundReach::Template(widest) => of_template(host, (written.as_str(), widest), &evidence),
    }
}

/// What a host of the list lets a component reach where it has templates, which the pod may resolve.
fn of_template(
    host: &RuntimeHost<'_>,
    (written, widest): (&str, &WrittenHost),
    evidence: &str,
) -> Vec<Entry> {
    let (text, variables) = match resolve(host, written) {
        Ok(Resolved { text, variables }) => (text, variables),
        Err(why) => {
            return of_pattern(host, widest, &format!("{evidence} {UNRESOLVED}{why}: taken for any host"));
        }
    };
    let set_by = variables.iter().map(|name| format!("env {name}")).collect::<Vec<_>>().join(", ");
    if let Some(patterns) = hosts(&text) {
        return of_patterns(host, &patterns, &format!("{evidence} is set by {set_by} of the pod"));
    }
    let note =
        format!("{evidence}: what {set_by} of the pod makes of it is not a host pattern: taken for any host");
    of_pattern(host, widest, &note)
}

/// The text without user and password, which some authors write into a host pattern. A password may contain `/` or `@`,
/// so everything up to the last `@` is removed.
fn without_credentials(written: &str) -> String {
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), written),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{}…@{host}", if scheme.contains('@') { "" } else { &scheme }),
        None => written.to_string(),
    }
}

/// A host whose templates were replaced. The text contains values of the pod, which may be credentials, so it is shown
/// only if it is a host pattern: that cannot contain any.
struct Resolved {
    text: String,
    /// The variables that supplied the values.
    variables: Vec<String>,
}

/// The host with the pod's literals in place of its templates; else why it is not known, where more can be said than that the
/// pod spec does not write it, or that a mounted runtime configuration may override it.
///
/// The shim copies the plain variable over the prefixed one, which the operator of a `SpinApp` writes alone
/// (`spin-operator:internal/controller/deployment.go`). So that one counts only where nothing is known to set the plain one.
fn resolve(host: &RuntimeHost<'_>, written: &str) -> Result<Resolved, String> {
    let unknown = String::new;
    if !variables::are_of_container(host) {
        return Err(unknown());
    }
    let (mut variables, mut wins) = (Vec::new(), None);
    let value = |name: &str| {
        let [plain, prefixed] = handed::variables(name);
        if let Some(value) = host.pod.literal(&plain) {
            variables.push(plain);
            return Some(value);
        }
        let value = host.pod.literal(&prefixed)?;
        if let Some(source) = set_elsewhere(host, &plain) {
            wins = Some(format!(", as {plain} wins over {prefixed} and may be set: {source}"));
            return None;
        }
        variables.push(prefixed);
        Some(value)
    };
    let text = handed::filled(written, value);
    text.map(|text| Resolved { text, variables }).ok_or_else(|| wins.unwrap_or_else(unknown))
}

fn of_patterns(host: &RuntimeHost<'_>, patterns: &[WrittenHost], evidence: &str) -> Vec<Entry> {
    patterns.iter().flat_map(|pattern| of_pattern(host, pattern, evidence)).collect()
}

fn of_pattern(host: &RuntimeHost<'_>, written: &WrittenHost, evidence: &str) -> Vec<Entry> {
    let pattern = written.pattern();
    let mut entries = Vec::new();
    if !pattern.is_internal() {
        entries.extend(clients::of(host, written, evidence));
    }
    if let Some(id) = pattern.chained_component() {
        entries.push(Entry::new(Capability::ServiceChaining, evidence).named(id));
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::image::{Digest, ImageFacts, ImageKind, Packaging, Program};
    use crate::inspection::{Container, LookupResult};
    use crate::workload::{self, Kind, Role};

    /// What is found of a container with so many mounts, each of files of a ConfigMap.
    fn with_mounts<T>(count: usize, find: impl FnOnce(&RuntimeHost<'_>) -> T) -> T {
        let mount = |number: usize| json!({"name": "files", "mountPath": format!("/srv/{number}")});
        let mounts: Value = (0..count).map(mount).collect();
        let spec = json!({
            "automountServiceAccountToken": false,
            "volumes": [{"name": "files", "configMap": {"name": "files"}}],
            "containers": [{"name": "app", "image": "a", "volumeMounts": mounts}],
        });
        let pod = json!({"metadata": {"name": "app"}, "spec": spec}).to_string();
        let workload = workload::read(&pod, Kind::Pod, "shop").unwrap();
        let digest = Digest::of(b"");
        let facts = ImageFacts::blank(&digest, &digest);
        let packaging = Packaging::RootFilesystem;
        let program = Program::Wasm { kind: ImageKind::SpinApp, packaging, modules: Vec::new() };
        let container = Container {
            role: Role::Container,
            index: 0,
            name: "app".into(),
            image: "a".into(),
            lookup: LookupResult::Known { facts: Arc::new(facts.clone()), program: program.clone() },
        };
        let host = RuntimeHost::new(&workload, &container, (&facts, &program), None);
        find(&host)
    }

    fn of_root(host: &RuntimeHost<'_>) -> Vec<Entry> {
        opened(host, Some("/"), "/data", "how")
    }

    fn has_path(entries: &[Entry], path: &str) -> bool {
        entries.iter().any(|entry| entry.path.as_deref() == Some(path))
    }

    /// A source may be `/`, which has every mount of the pod in it, and an application has as many sources as its author likes.
    #[test]
    fn a_source_of_more_mounts_than_are_told_apart_ends_the_list_and_one_entry_stands_for_all_files() {
        let few = with_mounts(2, of_root);
        let paths = ["/data/srv/0", "/data/srv/1", "/data", "/proc"];
        assert!(paths.iter().all(|path| has_path(&few, path)), "{few:?}");
        let many = with_mounts(2 * MAX_OPENED, of_root);
        assert_eq!(many.len(), MAX_OPENED + 1);
        let sources = vec!["/".to_owned(); 100];
        let all = SpinComponent { files: sources.clone(), sources, ..SpinComponent::default() };
        let found = with_mounts(2 * MAX_OPENED, |host| files(host, &all, "how"));
        assert!(found.len() < 3 * MAX_OPENED, "{}", found.len());
        let any = |entry: &&Entry| entry.capability == Capability::Fs && entry.path.is_none() && !entry.own;
        assert_eq!(found.iter().filter(any).count(), 1);
        assert!(has_path(&found, "/proc"), "and so is what is the kernel's");
    }
}
