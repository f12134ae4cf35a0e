//! Native code that a runtime loads into its own process, because a variable names it, because it is in a folder of plug-ins, or
//! because the C library resolves names or looks up users by it.

use std::collections::BTreeSet;

use super::RuntimeHost;
use crate::capability::{Capability, Entry, MAX_ENTRIES, path};
use crate::image::FileClass;
use crate::image::entry::Leads;
use crate::image::names::{
    is_below_module, is_choice_of_modules, is_of_plug_ins, is_of_resolver, is_plug_in,
};

/// What the runtime loads beside the program.
pub(super) fn loaded(host: &RuntimeHost<'_>) -> Entry {
    let variables = host.plugin_variables();
    let ways = [
        (!variables.is_empty())
            .then(|| format!("the plug-ins that these variables name: {}", variables.join(", "))),
        (!host.plugin_folders().is_empty()).then(|| "those of a folder beside its shim".to_string()),
        host.loads_modules().then(|| "modules of glibc's name service".to_string()),
    ];
    let ways: Vec<String> = ways.into_iter().flatten().collect();
    Entry::new(Capability::NativePlugin, format!("{} loads {}", host.runtime(), ways.join(", and ")))
}

/// The plug-ins that are, or may be, loaded.
pub(in crate::capability) fn plug_ins(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let mut found = named_by_variables(host);
    let folders = host.plugin_folders();
    if !folders.is_empty() {
        found.extend(of_image(host));
        found.extend(mounts_at(host, &folders, is_of_plug_ins));
    }
    found
}

/// Folders in which glibc looks for libraries, the list of those that are elsewhere, and what says which it loads (`glibc:elf/dl-load.c`,
/// `system_dirs`, with the folders of Debian's multiarch).
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64/glibc-hwcaps",
    "/usr/lib64/glibc-hwcaps",
    "/lib/x86_64-linux-gnu/glibc-hwcaps",
    "/usr/lib/x86_64-linux-gnu/glibc-hwcaps",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
];

/// Native code that is, or may be, loaded when a program resolves the name of a host, as calls of `effective` do, or when the runtime
/// looks up the user. Which modules glibc loads, `/etc/nsswitch.conf` says; each has to be in a folder of libraries, or in the list of
/// them, unless that file names it by a path.
pub(in crate::capability) fn of_name_service(host: &RuntimeHost<'_>, effective: &[Entry]) -> Vec<Entry> {
    let resolves = host.resolves_by_glibc() && effective.iter().any(|entry| may_resolve(entry.capability));
    let what = match (resolves, host.looks_up_users()) {
        (true, _) => "resolves names",
        (false, true) => "looks up the user where `HOME` is not set",
        (false, false) => return Vec::new(),
    };
    let files = host.facts.files.iter().filter(|(name, _)| is_of_resolver(name)).take(MAX_ENTRIES + 1);
    let to_entry = |(name, _): &(String, FileClass)| {
        let why = format!("file {name} of the image, by which glibc {what}");
        Entry::new(Capability::NativePlugin, why).named(name)
    };
    files.map(to_entry).chain(modules_of_volumes(host)).collect()
}

/// Volumes that may bring modules: any where the image says itself which are loaded, as it may name one by a path.
fn modules_of_volumes(host: &RuntimeHost<'_>) -> Vec<Entry> {
    if host.facts.files.iter().any(|(name, _)| is_choice_of_modules(name)) {
        return host.pod.mounts_with_modules().map(brought_by).collect();
    }
    mounts_at(host, LIBRARIES, |at| is_of_resolver(at) || is_below_module(at) || is_of_libraries(at))
}

/// Whether a call may resolve the name of a host. What an import does that is not known, is not known either.
const fn may_resolve(capability: Capability) -> bool {
    matches!(
        capability,
        Capability::NetDns
            | Capability::HttpOutbound
            | Capability::DbRedis
            | Capability::DbMysql
            | Capability::DbPostgres
            | Capability::Mqtt
            | Capability::UnknownImport
    )
}

fn is_of_libraries(path: &str) -> bool {
    LIBRARIES.iter().any(|folder| path::covers(folder, path))
}

/// Variables of the container that name a plug-in. A whole ConfigMap or Secret may set each of them that begins with its
/// prefix: who writes the pod may write those too.
fn named_by_variables(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let loading = host.plugin_variables();
    if loading.is_empty() {
        return Vec::new();
    }
    let names = |variable: &Entry| -> Vec<&'static str> {
        let name = variable.name.as_deref().unwrap_or("*");
        let prefix = name.strip_suffix('*').filter(|_| !variable.own);
        loading
            .iter()
            .copied()
            .filter(|loads| *loads == name || prefix.is_some_and(|prefix| loads.starts_with(prefix)))
            .collect()
    };
    let variables = host.variables();
    let entries = variables.iter().flat_map(|variable| {
        let evidence = variable.evidence.clone();
        names(variable).into_iter().map(move |name| Entry {
            evidence: evidence.clone(),
            ..Entry::new(Capability::NativePlugin, "").named(name)
        })
    });
    entries.collect()
}

/// Files of the image that are called like plug-ins where a node may look for them, and links that may lead to some.
fn of_image(host: &RuntimeHost<'_>) -> impl Iterator<Item = Entry> {
    let loads = |(name, class): &&(String, FileClass)| match class {
        FileClass::Link { .. } => is_plug_in(name) || path_ends_in_folder(name),
        _ => is_plug_in(name),
    };
    let to_entry = |(name, _): &(String, FileClass)| {
        Entry::new(Capability::NativePlugin, format!("file {name} of the image, in a folder of plug-ins"))
            .named(name)
    };
    host.facts.files.iter().filter(loads).take(MAX_ENTRIES + 1).map(to_entry)
}

fn path_ends_in_folder(name: &str) -> bool {
    is_of_plug_ins(name.rsplit('/').next().unwrap_or_default())
}

/// Volumes that may bring native code: in a place for it, or at or above one of the usual ones, wherever the links of the image
/// lead it.
fn mounts_at(host: &RuntimeHost<'_>, folders: &[&str], is_place: impl Fn(&str) -> bool) -> Vec<Entry> {
    let mut places = BTreeSet::new();
    let mut anywhere = false;
    for folder in folders {
        match host.leads(folder) {
            Leads::To(place) => {
                places.insert(place);
            }
            Leads::Anywhere => anywhere = true,
        }
    }
    let loads = |mount: &&Entry| {
        let at = mount.path.as_deref().unwrap_or("/");
        anywhere || is_place(at) || places.iter().any(|place| path::covers(at, place))
    };
    host.pod.mounts().iter().filter(loads).map(brought_by).collect()
}

/// Native code of a volume.
fn brought_by(mount: &Entry) -> Entry {
    let evidence = mount.evidence.clone();
    let name = mount.path.clone().unwrap_or_default();
    Entry { evidence, ..Entry::new(Capability::NativePlugin, "").named(name) }
}
