//! Native plug-ins that a runtime loads into its own process, because a variable names them or because they are in its folder.

use std::collections::BTreeSet;

use super::RuntimeHost;
use crate::capability::{Capability, Entry, MAX_ENTRIES, path};
use crate::image::FileClass;
use crate::image::entry::Leads;
use crate::image::names::{is_of_plug_ins, is_plug_in};

/// What the runtime loads beside the program.
pub(super) fn loaded(host: &RuntimeHost<'_>) -> Entry {
    let variables = host.plugin_variables().join(", ");
    let folders =
        if host.plugin_folders().is_empty() { "" } else { ", and those of a folder beside its shim" };
    let why =
        format!("{} loads the plug-ins that these variables name: {variables}{folders}", host.runtime());
    Entry::new(Capability::NativePlugin, why)
}

/// The plug-ins that are, or may be, loaded.
pub(in crate::capability) fn plug_ins(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let mut found = named_by_variables(host);
    let folders = host.plugin_folders();
    if !folders.is_empty() {
        found.extend(of_image(host));
        found.extend(of_mounts(host, &folders));
    }
    found
}

/// Variables of the container that name a plug-in. A whole ConfigMap or Secret may set each of them that begins with its
/// prefix: who writes the pod may write those too.
fn named_by_variables(host: &RuntimeHost<'_>) -> Vec<Entry> {
    let loading = host.plugin_variables();
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

/// Volumes that may bring a plug-in: below a folder of plug-ins, or at or above one of the usual ones, wherever the links
/// of the image lead it.
fn of_mounts(host: &RuntimeHost<'_>, folders: &[&str]) -> Vec<Entry> {
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
        anywhere || is_of_plug_ins(at) || places.iter().any(|place| path::covers(at, place))
    };
    let to_entry = |mount: &Entry| {
        let evidence = mount.evidence.clone();
        let name = mount.path.clone().unwrap_or_default();
        Entry { evidence, ..Entry::new(Capability::NativePlugin, "").named(name) }
    };
    host.pod.mounts().iter().filter(loads).map(to_entry).collect()
}
