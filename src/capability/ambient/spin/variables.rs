//! Where the variables of a Spin application come from.

use std::collections::BTreeSet;

use super::configuration;
use crate::capability::ambient::RuntimeHost;
use crate::capability::ambient::host::{Configuration, DotEnvFiles, VariableFiles};
use crate::capability::{Capability, Entry, MAX_EVIDENCE, path};
use crate::image::entry::{Leads, kernel_tree};
use crate::image::names::VARIABLES_FILE;
use crate::image::{DotEnv, Packaging, Program, Provider};
use crate::runtime::spin::handed;
use crate::text;

/// What the evidence says of a variable that the pod does not write.
const OF_SHIM: &str = "the shim's own process may have a variable of this name";
/// What it says of a file of variables whose text is not known.
const MAY_COPY: &str = "a file .env may copy any variable of the shim's process, such as `${NAME}`";

impl<'a> DotEnvFiles<'a> {
    fn new(host: &RuntimeHost<'a>) -> Self {
        let usual = find(host, &handed::env_files(host.working_directory()));
        let Configuration::Known(config) = configuration::of(host) else {
            return Self { usual, of_providers: Vec::new() };
        };
        let of_provider = |provider: &Provider| match provider {
            Provider::Env { dotenv: Some(file), .. } => {
                find(host, &[crate::image::path::join_short(host.working_directory(), file)])
            }
            _ => find(host, &[]),
        };
        Self { usual, of_providers: config.providers.iter().map(of_provider).collect() }
    }
}

/// An application variable. Its value is a variable of the container, else one from a file `.env`, else the image's own
/// default, unless a runtime configuration names a provider. All possible sources count.
pub(super) fn variable(host: &RuntimeHost<'_>, name: &str, at: &str) -> Entry {
    let entry = Entry::new(Capability::Config, format!("{at} variable \"{name}\"")).named(name);
    let mut value = Value { host, entry: entry.mark_own(true) };
    let [plain, prefixed] = handed::variables(name);
    value.comes_from(&plain);
    value.comes_from(&prefixed);
    let files = host.dotenv.get_or_init(|| DotEnvFiles::new(host));
    value.may_be_in(&files.usual, &prefixed);
    match configuration::of(host) {
        Configuration::Absent => {}
        Configuration::Unknown(why) => {
            // A provider may read any variable of the container by another prefix.
            value.is_foreign(format!("{why}, and a variables provider may supply it, from any variable too"));
        }
        Configuration::Known(config) => {
            for (provider, files) in config.providers.iter().zip(&files.of_providers) {
                value.may_be_supplied_by(provider, files, name);
            }
        }
    }
    value.entry
}

/// Whether no provider of a runtime configuration may supply a variable before the container does.
pub(super) fn are_of_container(host: &RuntimeHost<'_>) -> bool {
    match configuration::of(host) {
        Configuration::Absent => true,
        Configuration::Known(config) => config.providers.is_empty(),
        Configuration::Unknown(_) => false,
    }
}

/// What may give the container, or the shim's own process, a variable whose value the pod does not write. What else is in the
/// environment of containerd is the platform's, and no tenant chooses it.
pub(super) fn set_elsewhere(host: &RuntimeHost<'_>, name: &str) -> Option<String> {
    let of_pod = host.pod.may_set(name).map(|entry| entry.evidence.into_iter().next().unwrap_or_default());
    let of_image = || host.is_set_by_image(name).then(|| format!("env {name} of the image"));
    let of_platform = || host.pod.platform_variable(name).map(String::from);
    let of_shim = || is_of_shim(host, name).then(|| OF_SHIM.to_string());
    of_pod.or_else(of_image).or_else(of_platform).or_else(of_shim)
}

/// Whether the shim's own process may have a variable of this name.
fn is_of_shim(host: &RuntimeHost<'_>, name: &str) -> bool {
    handed::is_of_shim(name) || is_named(host, name)
}

/// Whether the profile says so. What such a variable holds is not known.
fn is_named(host: &RuntimeHost<'_>, name: &str) -> bool {
    let names = host.profile.iter().flat_map(|profile| &profile.shim_variables);
    names.into_iter().any(|pattern| handed::stands_for(pattern, name))
}

/// The value of a variable while its sources are found out.
struct Value<'h, 'a> {
    host: &'h RuntimeHost<'a>,
    entry: Entry,
}

impl Value<'_, '_> {
    fn seen(&mut self, evidence: String) {
        if !self.entry.evidence.contains(&evidence) {
            self.entry = self.entry.clone().seen_in(evidence);
        }
    }

    /// It may be anything, a secret too.
    fn is_foreign(&mut self, evidence: String) {
        (self.entry.own, self.entry.secret) = (false, true);
        self.seen(evidence);
    }

    /// It may be the value of this variable of the shim's process, in which each of the container is one.
    fn comes_from(&mut self, variable: &str) {
        let host = self.host;
        if let Some(source) = host.pod.may_set(variable) {
            self.entry.own = false;
            self.entry.secret |= source.secret;
            for evidence in source.evidence {
                self.seen(evidence);
            }
        }
        // These reveal no secret, and are granted like the image's own.
        if let Some(evidence) = host.pod.platform_variable(variable) {
            self.seen(evidence.to_string());
        }
        let is_of_image = host.is_set_by_image(variable);
        // What a Secret or a ConfigMap is to set may be missing there.
        if is_of_shim(host, variable) && host.pod.literal(variable).is_none() && !is_of_image {
            let is_secret = handed::is_secret_of_shim(variable) || is_named(host, variable);
            self.entry.own &= !is_secret;
            self.entry.secret |= is_secret;
            self.seen(OF_SHIM.to_string());
        }
        if is_of_image {
            self.seen(format!("env {variable} of the image"));
        }
    }

    /// It may be in one of these files under this name.
    fn may_be_in(&mut self, files: &VariableFiles<'_>, name: &str) {
        for file in files.known.iter().filter(|file| file.names.contains(name)) {
            self.seen(format!("file {} of the image", file.path));
            for copied in &file.copies {
                self.comes_from(copied);
            }
        }
        for evidence in &files.unknown {
            self.is_foreign(evidence.clone());
        }
    }

    /// A provider of the image's runtime configuration may have it (`spin:crates/runtime-config/src/variables.rs`).
    fn may_be_supplied_by(&mut self, provider: &Provider, files: &VariableFiles<'_>, name: &str) {
        match provider {
            Provider::Static { names } if names.contains(name) => {
                self.seen("a value in the runtime configuration of the image".to_string());
            }
            Provider::Static { .. } => {}
            Provider::Env { prefix, .. } => {
                let variable = format!("{prefix}_{}", name.to_ascii_uppercase());
                self.comes_from(&variable);
                self.may_be_in(files, &variable);
            }
            Provider::Remote(_) => {
                self.is_foreign(
                    "a vault that the runtime configuration of the image names may supply it".to_string(),
                );
            }
        }
    }
}

/// The files of variables at these places. Such a file may copy any variable of the shim's process, by `${NAME}`
/// (`dotenvy:src/parse.rs`, `apply_substitution`). So what one supplies counts as a secret whose text is not known.
/// A place that is too long to be followed may be any.
fn find<'a>(host: &RuntimeHost<'a>, places: &[Option<String>]) -> VariableFiles<'a> {
    let mut unknown: BTreeSet<String> = BTreeSet::new();
    let mut known: Vec<&DotEnv> = Vec::new();
    for file in places {
        let leads = file.as_deref().map_or(Leads::Anywhere, |file| host.leads(file));
        let file = file.as_deref().unwrap_or(VARIABLES_FILE);
        let holds = |mount: &&Entry| {
            let tree = mount.path.as_deref().unwrap_or_default();
            match &leads {
                Leads::To(file) => path::covers(tree, file),
                Leads::Anywhere => true,
            }
        };
        let mounts: Vec<&Entry> = host.pod.mounts().iter().filter(holds).collect();
        unknown.extend(mounts.iter().flat_map(|mount| mount.evidence.iter().cloned()));
        match &leads {
            _ if !mounts.is_empty() => {}
            Leads::To(place) if let Some(read) = read(host, place) => known.push(read),
            leads if may_be_there(host, leads, file) => {
                unknown.insert(format!("file {}, which was not read", text::clean_path(file)));
            }
            _ => {}
        }
    }
    known.dedup();
    let mut unknown: Vec<String> = unknown.into_iter().take(MAX_EVIDENCE).collect();
    if !unknown.is_empty() {
        unknown.push(MAY_COPY.to_string());
    }
    VariableFiles { known, unknown }
}

/// The file of the image at this place, if its text was read.
fn read<'a>(host: &RuntimeHost<'a>, place: &str) -> Option<&'a DotEnv> {
    host.facts.spin.as_ref()?.dotenv.iter().find(|file| file.path == place)
}

/// Whether the file is there, or may be: of layers of Spin, the shim unpacks the files itself; of an image it is known of files of the
/// usual name alone whether it has them; and what the kernel shows may hold the variables themselves (`/proc/self/environ`), or what
/// another container wrote (`/dev/shm`).
fn may_be_there(host: &RuntimeHost<'_>, leads: &Leads, file: &str) -> bool {
    let has = |place: &str| host.facts.has_file(place);
    let Leads::To(place) = leads else { return true };
    let is_of_usual_name = place.rsplit('/').next() == Some(VARIABLES_FILE);
    let is_unpacked = matches!(host.program, Program::Wasm { packaging: Packaging::Layers, .. })
        && crate::runtime::spin::UNPACKED.iter().any(|folder| path::covers(folder, place));
    let is_known = is_of_usual_name && kernel_tree(place).is_none() && !is_unpacked;
    !is_known || has(place) || has(&text::clean_path(file))
}
