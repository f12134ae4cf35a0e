//! What a pod changes about how names of hosts resolve in one of its containers. A runtime compares a host by its name with what is
//! allowed, and then asks the resolver of the container. So a name that the pod leads elsewhere stands for any host, and so does an
//! address where the pod may lead its connections elsewhere.

use std::ops::Bound;

use super::host::{Redirection, Resolution, RuntimeHost};
use super::pod::{DEFAULT_LOG, Placed};
use super::privileges::{keeps_resolver, may_act_as_root, may_redirect};
use super::shared_files::{HOSTS, OF_POD, RESOLVER};
use crate::capability::host::Destination;
use crate::capability::{Entry, path};
use crate::image::entry::Leads;
use crate::text;
use crate::workload::{ContainerSpec, Role};

/// What the evidence says of a host whose name the pod leads elsewhere.
pub const REDIRECTED: &str = "counts as any host";

/// Files that a resolver reads (hosts(5), resolv.conf(5), nsswitch.conf(5), host.conf(5)). The kubelet and the container runtime
/// write the first two over those of the image, unless the pod mounts its own.
const FILES: [&str; 4] = [HOSTS, RESOLVER, "/etc/nsswitch.conf", "/etc/host.conf"];

/// Variables by which a resolver changes names, or reads another file (hostname(7), resolv.conf(5), host.conf(5)). The Spin shim
/// sets those of the container in its own process.
const VARIABLES: [&str; 3] = ["HOSTALIASES", "LOCALDOMAIN", "RESOLV_HOST_CONF"];

impl Redirection {
    /// By a field of the pod.
    fn of_pod(seen: String) -> Self {
        Self { seen, cure: "leave that out".to_string() }
    }

    /// By what another container may do.
    fn by(container: &str, does: &str, cure: String) -> Self {
        Self { seen: format!("container `{}` {does}", text::visible(container)), cure }
    }
}

impl Resolution {
    pub fn new(host: &RuntimeHost<'_>) -> Self {
        let spec = host.pod.spec();
        let aliases = spec.host_aliases.iter().flatten().flat_map(|alias| alias.hostnames.iter().flatten());
        let given = aliases.map(|name| (name.as_str(), "hostAliases")).chain(own_names(host));
        let of_pod = servers(host).or_else(|| variable(host)).or_else(|| file(host));
        let searches = spec.dns_config.iter().flat_map(|config| config.searches.iter().flatten());
        Self {
            every: of_pod.map(Redirection::of_pod).or_else(|| written(host)),
            connections: redirected(host),
            searched: searches.count() > 0,
            given: given.map(|(name, field)| (backwards(name), field)).collect(),
            in_zone: own_start(host),
        }
    }

    /// Why this name may lead elsewhere, or one below it where it begins with a dot; `None` if it does not.
    fn redirects(&self, name: &str, namespace: &str) -> Option<Redirection> {
        if let Some(why) = &self.every {
            return Some(why.clone());
        }
        let of_pod = |seen: String| Some(Redirection::of_pod(seen));
        if self.is_own(name, namespace) {
            return of_pod("hostname and subdomain of the pod give it the pod's own address".to_string());
        }
        if self.searched && !name.ends_with('.') {
            return of_pod("dnsConfig.searches of the pod is tried with it".to_string());
        }
        let ending = backwards(name);
        // The names with this ending come next to each other.
        let mut from = self.given.range::<str, _>((Bound::Included(ending.as_str()), Bound::Unbounded));
        let (given, field) = from.next()?;
        let is_given = *given == ending || (name.starts_with('.') && given.starts_with(&ending));
        is_given.then(|| Redirection::of_pod(format!("{field} of the pod gives it an address")))
    }

    /// Whether this is `<hostname>.<subdomain>.<namespace>.svc.<zone>` of the pod, whatever the zone of the cluster. A pattern of
    /// several hosts of the namespace covers the pod's own address as it is: the namespace's Services say where those names lead.
    fn is_own(&self, name: &str, namespace: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let in_namespace = || name.strip_prefix(self.in_zone.as_deref()?)?.split_once('.');
        in_namespace().is_some_and(|(found, rest)| {
            (namespace.is_empty() || found == namespace) && rest.split('.').next() == Some("svc")
        })
    }
}

/// The entry, with any host in the place of one whose name or address the pod leads elsewhere. Its scheme and port stay.
pub(super) fn resolved(host: &RuntimeHost<'_>, entry: Entry) -> Entry {
    let Some(written) = &entry.host else { return entry };
    let pattern = written.pattern();
    if pattern.is_internal() || pattern.destination() == Destination::Any {
        return entry;
    }
    let resolution = host.resolution.get_or_init(|| Resolution::new(host));
    let by_name = || resolution.redirects(pattern.name()?, host.pod.namespace());
    let Some(why) = resolution.connections.clone().or_else(by_name) else { return entry };
    let any = pattern.clone().with_any_host();
    let note = format!("{} {REDIRECTED}, as {}: {}, or grant {any}", written.as_str(), why.seen, why.cure);
    entry.to_host(any).seen_in(note)
}

/// Most characters of a host name that the kubelet makes of a pod's name (`kubernetes:pkg/kubelet/kubelet_pods.go`,
/// `truncatePodHostnameIfNeeded`).
const LONGEST_HOSTNAME: usize = 63;

/// The names that the kubelet writes for the pod itself into its `/etc/hosts`, and the fields that say them
/// (`kubernetes:pkg/kubelet/kubelet_pods.go`, `GeneratePodHostNameAndDomain`, `managedHostsFileContent`), but for that of
/// [`own_start`].
fn own_names<'a>(host: &RuntimeHost<'a>) -> impl Iterator<Item = (&'a str, &'static str)> {
    let other = host.pod.spec().hostname_override.as_deref();
    own_name(host).into_iter().chain(other.map(|name| (name, "hostnameOverride")))
}

/// The host name of the pod, and the field that says it.
fn own_name<'a>(host: &RuntimeHost<'a>) -> Option<(&'a str, &'static str)> {
    match host.pod.spec().hostname.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => Some((name, "hostname")),
        None => host.pod.name().map(|name| (truncated(name), "metadata.name")),
    }
}

/// What the name with `subdomain` begins with that the kubelet writes as well. The cluster's DNS leads it to the pod only where a
/// headless Service of that name selects the pod, which is not known here. A StatefulSet's pods have one by its contract, and the
/// name is how they know each other.
fn own_start(host: &RuntimeHost<'_>) -> Option<String> {
    let (name, field) = own_name(host)?;
    let subdomain = host.pod.spec().subdomain.as_deref().filter(|name| !name.is_empty())?;
    let is_identity = host.pod.is_of_stateful_set() && field == "hostname" && host.pod.name() == Some(name);
    (!is_identity).then(|| format!("{name}.{subdomain}.").to_ascii_lowercase())
}

/// As much of a pod's name as is its host name.
fn truncated(name: &str) -> &str {
    match name.get(..LONGEST_HOSTNAME) {
        Some(start) if name.len() > LONGEST_HOSTNAME => start.trim_end_matches(['-', '.']),
        _ => name,
    }
}

/// The name as resolvers compare it, from its end.
fn backwards(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase().chars().rev().collect()
}

/// Name servers of the pod's own. A resolver asks all of its servers.
fn servers(host: &RuntimeHost<'_>) -> Option<String> {
    let spec = host.pod.spec();
    if spec.dns_policy.as_deref() == Some("None") {
        return Some("dnsPolicy of the pod is None".to_string());
    }
    let servers = spec.dns_config.iter().flat_map(|config| config.nameservers.iter().flatten());
    (servers.count() > 0).then(|| "dnsConfig.nameservers of the pod may answer for it".to_string())
}

/// A variable that the pod or the image sets, or that a whole ConfigMap or Secret may.
fn variable(host: &RuntimeHost<'_>) -> Option<String> {
    VARIABLES.into_iter().find_map(|name| {
        if host.pod.sets(name) || host.is_set_by_image(name) {
            return Some(format!("env {name} changes how it resolves"));
        }
        let source = host.pod.may_set(name)?.evidence.into_iter().next()?;
        Some(format!("{source} may hold {name}, which changes how it resolves"))
    })
}

/// Another container that may write into the files of the resolver that all containers of a pod share, as root and by what it starts. One
/// that runs at the same time may write into either. One for the start that has ended leaves what it wrote into `/etc/resolv.conf`, and
/// `/etc/hosts` is written anew after it.
fn written(host: &RuntimeHost<'_>) -> Option<Redirection> {
    let spec = host.pod.spec();
    let may_write = |place: (Role, usize), container: &ContainerSpec<'_>| {
        may_act_as_root(spec, container.security) && may_write_names(host, place)
    };
    if let Some((_, root)) = host.pod.beside().find(|(place, container)| may_write(*place, container)) {
        let cure = format!("set {HELD} in the securityContext of `{}`", text::visible(root.name));
        return Some(Redirection::by(root.name, &format!("may write {HOSTS} of the pod"), cure));
    }
    let is_writer = |(place, container): &Placed<'_>| {
        may_write(*place, container) && !keeps_resolver(spec, container.security)
    };
    let (_, root) = host.pod.before().find(is_writer)?;
    let read_only = root.security.and_then(|own| own.read_only_root_filesystem) == Some(true);
    let or = if read_only { "" } else { "`readOnlyRootFilesystem: true`, or " };
    let cure = format!("set {or}{HELD} in the securityContext of `{}`", text::visible(root.name));
    Some(Redirection::by(
        root.name,
        &format!("may write {RESOLVER} of the pod before the others start"),
        cure,
    ))
}

/// What keeps a container from the files of root, as Pod Security's `restricted` asks for it.
const HELD: &str =
    "`runAsNonRoot: true`, `allowPrivilegeEscalation: false` and `capabilities: {drop: [ALL]}`";

/// Another container that may lead the connections of the pod elsewhere, whatever they go to. All have one network, and its rules stay
/// when a container for the start has ended.
fn redirected(host: &RuntimeHost<'_>) -> Option<Redirection> {
    let mut others = host.pod.beside().chain(host.pod.before());
    let (_, found) = others
        .find(|(place, container)| may_redirect(container.security) && may_write_names(host, *place))?;
    let name = text::visible(found.name);
    let cure = format!(
        "leave `privileged`, NET_ADMIN, SYS_ADMIN and SYS_MODULE out of the securityContext of `{name}`"
    );
    Some(Redirection::by(found.name, "may lead connections of the pod elsewhere", cure))
}

/// Whether what another container starts may write what its user may; it may where that is not known.
fn may_write_names(host: &RuntimeHost<'_>, place: (Role, usize)) -> bool {
    host.may_write_names.is_none_or(|may_write| may_write(place))
}

/// A mount that may hold one of the resolver's files.
fn file(host: &RuntimeHost<'_>) -> Option<String> {
    let files = FILES.map(|name| match host.leads(name) {
        Leads::To(place) => ResolverFile { name, place: Some(place) },
        Leads::Anywhere => ResolverFile { name, place: None },
    });
    let log = log(host, &files).or_else(|| of_image(host, &files));
    log.or_else(|| files.iter().find_map(|file| held(host, file)))
}

/// A file of the resolver.
struct ResolverFile {
    name: &'static str,
    /// Where the links of the image lead it; `None` if that is not known.
    place: Option<String>,
}

impl ResolverFile {
    /// Whether one of its paths is so.
    fn is_at(&self, is_so: impl Fn(&str) -> bool) -> bool {
        is_so(self.name) || self.place.as_deref().is_some_and(is_so)
    }
}

/// The file for messages, which is mounted where links of the image lead it, after the files of the kubelet where its path is as long.
fn log(host: &RuntimeHost<'_>, files: &[ResolverFile]) -> Option<String> {
    let log = host.pod.termination_log();
    let lies_below = |file: &&ResolverFile| is_mounted_first(&log) && OF_POD.contains(&file.name);
    let left = files.iter().filter(|file| !lies_below(file));
    let file = lies_over(host, left, &log, |place, file| place == file)?;
    Some(format!("terminationMessagePath of the container, {log}, may be {file}"))
}

/// A volume of the image, which holds what the image has there. The container runtime mounts in the order of the parts of paths, and
/// volumes of the image after the files of the kubelet where these are as many, wherever links lead
/// (`containerd:internal/cri/server/container_create.go`, `internal/cri/opts/spec_linux_opts.go`, `orderedMounts`).
fn of_image(host: &RuntimeHost<'_>, files: &[ResolverFile]) -> Option<String> {
    let paths = host.facts.volumes.iter().map(|path| text::clean_path(path));
    let mut later = paths.filter(|path| !is_mounted_first(path));
    later.find_map(|path| {
        let file = lies_over(host, files.iter(), &path, path::covers)?;
        Some(format!("the volume {path} of the image may hold {file}"))
    })
}

/// Whether the files of the kubelet, whose paths have two parts, are mounted after it, so that they lie over it.
fn is_mounted_first(path: &str) -> bool {
    path.split('/').filter(|part| !part.is_empty()).count() < 2
}

/// The first of these files over which a path is mounted, or may be, as it is written or where links lead it.
fn lies_over<'f>(
    host: &RuntimeHost<'_>,
    mut files: impl Iterator<Item = &'f ResolverFile>,
    path: &str,
    is_over: impl Fn(&str, &str) -> bool,
) -> Option<&'static str> {
    let leads = host.leads(path);
    let found = files.find(|file| {
        file.is_at(|at| is_over(path, at))
            || match &leads {
                Leads::To(place) => file.is_at(|at| is_over(place, at)),
                // That of every container is in a file system of the kernel.
                Leads::Anywhere => path != DEFAULT_LOG,
            }
    });
    found.map(|file| file.name)
}

fn held(host: &RuntimeHost<'_>, file: &ResolverFile) -> Option<String> {
    let covers = |tree: &str| file.is_at(|at| path::covers(tree, at));
    let mount = host.pod.mounts().iter().find(|mount| mount.path.as_deref().is_some_and(covers));
    match mount {
        Some(mount) => {
            let mount = mount.evidence.first().map_or("a mount", String::as_str);
            Some(format!("{mount} may hold {}", file.name))
        }
        None => file.place.is_none().then(|| format!("{} may be in a volume", file.name)),
    }
}
