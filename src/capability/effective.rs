//! What a program can really do: what it can call and is handed.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::ambient::{RuntimeHost, devices, of_name_service, plug_ins};
use super::required::{Unit, of_app, units};
use super::{
    Access, Capabilities, Capability, Entry, MAX_EVIDENCE, WrittenHost, counted_to, glob, merge, path,
};
use crate::image::{ImageFacts, Program};
use crate::inspection::Container;
use crate::runtime::Profile;
use crate::workload::{Role, Workload};

/// The lists of one container under a runtime; `None` for a runtime that no profile describes, which is assumed to hand
/// over everything. Empty if no Wasm is started: for Linux programs, image volumes, and images that could not be read,
/// which have a rule of their own.
///
/// What the other containers of the pod start is not looked at, so that each of them may write whatever its user may: see
/// [`Siblings::assess`].
pub fn assess(workload: &Workload, container: &Container, profile: Option<&Profile>) -> Capabilities {
    assessed(workload, container, profile, None)
}

/// The containers of one pod, of which one may change what another reaches.
#[derive(Debug)]
pub struct Siblings<'a> {
    workload: &'a Workload,
    profile: Option<&'a Profile>,
    by_place: BTreeMap<(Role, usize), Sibling<'a>>,
}

/// One of them, and whether its program may write into the files by which the pod resolves names: found out when it is first asked for.
#[derive(Debug)]
struct Sibling<'a> {
    container: &'a Container,
    writes: OnceCell<bool>,
}

impl<'a> Siblings<'a> {
    /// All containers of a pod under one runtime, as [`assess`] takes it.
    pub fn new(workload: &'a Workload, containers: &'a [Container], profile: Option<&'a Profile>) -> Self {
        let sibling = |container: &'a Container| {
            ((container.role, container.index), Sibling { container, writes: OnceCell::new() })
        };
        Self { workload, profile, by_place: containers.iter().map(sibling).collect() }
    }

    /// The lists of one of the containers, by what the others can do.
    pub fn assess(&self, container: &Container) -> Capabilities {
        assessed(self.workload, container, self.profile, Some(&|place| self.may_write_names(place)))
    }

    /// Whether the program of a container may write into `/etc/hosts` or `/etc/resolv.conf` if its user may.
    fn may_write_names(&self, place: (Role, usize)) -> bool {
        let Some(sibling) = self.by_place.get(&place) else { return true };
        *sibling.writes.get_or_init(|| match sibling.container.known() {
            Some((facts, program @ Program::Wasm { .. })) => {
                // Its own hosts do not matter here, so that its siblings are not looked at in turn.
                let known = (facts, program);
                let host = RuntimeHost::new(self.workload, sibling.container, known, self.profile);
                opens_names(&host, facts, program)
            }
            _ => true,
        })
    }
}

/// Whether a Wasm program may open a file by which all containers of its pod resolve names, or leave its sandbox.
fn opens_names(host: &RuntimeHost<'_>, facts: &ImageFacts, program: &Program) -> bool {
    let all = wasm(host, facts, program);
    let leaves = |entry: &Entry| {
        matches!(
            entry.capability,
            Capability::NativeExec | Capability::NativePlugin | Capability::UnknownImport
        )
    };
    let opener = |entry: &Entry| entry.capability == Capability::Fs && entry.opens;
    all.effective.iter().any(leaves) || (host.hands_over_names() && all.requires.iter().any(opener))
}

fn assessed(
    workload: &Workload,
    container: &Container,
    profile: Option<&Profile>,
    may_write_names: Option<&dyn Fn((Role, usize)) -> bool>,
) -> Capabilities {
    let Some((facts, program)) = container.known() else { return Capabilities::default() };
    if !container.role.starts() {
        return Capabilities::default();
    }
    let mut host = RuntimeHost::new(workload, container, (facts, program), profile);
    host.may_write_names = may_write_names;
    match program {
        Program::Linux => Capabilities::default(),
        Program::Native { source, magic } => native(&host, source, magic),
        Program::Unknown { reason } if facts.modules.is_empty() => unnameable(reason),
        Program::Wasm { .. } | Program::Unknown { .. } => wasm(&host, facts, program),
    }
}

/// Native code: the shims run it as an ordinary container (runwasi's `executor.rs`, `is_linux_container`), so the other
/// capabilities say nothing about it.
fn native(host: &RuntimeHost<'_>, source: &str, magic: &str) -> Capabilities {
    let requires = vec![Entry::new(Capability::NativeExec, format!("{magic} program {source}"))];
    let ambient = vec![Entry::new(
        Capability::NativeExec,
        format!("{} runs native programs without restriction", host.runtime()),
    )];
    let (effective, missing) = meet(&requires, &ambient, host);
    Capabilities { requires, ambient, effective: merge(effective), missing }
}

/// It is unknown which program starts, so it is unknown what it calls.
fn unnameable(reason: &str) -> Capabilities {
    let entry = Entry::new(Capability::UnknownImport, format!("it is unknown what it calls: {reason}"));
    Capabilities { requires: vec![entry.clone()], effective: vec![entry], ..Capabilities::default() }
}

fn wasm(host: &RuntimeHost<'_>, facts: &ImageFacts, program: &Program) -> Capabilities {
    let mut all = Capabilities::default();
    let add = |all: &mut Capabilities, requires: Vec<Entry>, ambient: Vec<Entry>| {
        let (effective, missing) = meet(&requires, &ambient, host);
        all.requires.extend(requires);
        all.ambient.extend(ambient);
        all.effective.extend(effective);
        all.missing.extend(missing);
    };
    let units = units(facts, program);
    let started: Vec<&Unit<'_>> = units.iter().filter(|unit| host.starts(unit)).collect();
    if let Some(first) = started.first().filter(|_| host.treats_units_alike()) {
        // Once for all of them: each would list every mount and variable of the pod.
        let ambient = host.hands_over(first);
        add(&mut all, merge(started.iter().flat_map(|unit| can_call(unit, &ambient))), ambient);
    } else {
        for unit in started {
            let ambient = host.hands_over(unit);
            add(&mut all, can_call(unit, &ambient), ambient);
            all.keep_few();
        }
    }
    let shared = host.shared_files();
    let openers = if shared.is_empty() { Vec::new() } else { calls_that_write(&all.requires) };
    if !openers.is_empty() {
        add(&mut all, openers, shared);
    }
    for sent in host.telemetry().into_iter().chain(host.queues()) {
        add(&mut all, vec![sent.clone()], vec![sent]);
    }
    let found = |all: &mut Capabilities, reached: Vec<Entry>| {
        all.requires.extend_from_slice(&reached);
        all.ambient.extend_from_slice(&reached);
        all.effective.extend(reached);
    };
    found(&mut all, host.listeners());
    found(&mut all, devices(host));
    let beyond = host.beyond(&all.effective);
    found(&mut all, beyond);
    let whole: Vec<Entry> = of_app(facts, program, |component| host.keeps(component))
        .into_iter()
        .chain(host.starts_layer())
        .chain(plug_ins(host))
        .chain(of_name_service(host, &all.effective))
        .collect();
    if !whole.is_empty() {
        add(&mut all, whole, host.hands_over_to_app());
    }
    if host.lacks_http() {
        all.missing.extend(unlinked_http(&units, &all.missing, host));
    }
    Capabilities {
        requires: merge(all.requires),
        ambient: merge(all.ambient),
        effective: merge(all.effective),
        missing: merge(all.missing),
    }
}

/// The calls that open files, to write in them as well.
fn calls_that_write(requires: &[Entry]) -> Vec<Entry> {
    let opens = |entry: &&Entry| {
        let may_write = entry.access != Some(Access::ReadOnly);
        entry.opens && may_write && matches!(entry.capability, Capability::Fs | Capability::UnknownImport)
    };
    requires.iter().filter(opens).cloned().collect()
}

/// What a unit can call; a unit whose binary was not read can call everything that it is handed.
fn can_call(unit: &Unit<'_>, ambient: &[Entry]) -> Vec<Entry> {
    if !unit.modules.is_empty() {
        return unit.requires();
    }
    let evidence = match unit.component {
        Some(component) => format!("component \"{}\": its module was not read", component.id),
        None => "the module was not read".to_string(),
    };
    let capabilities: BTreeSet<Capability> = ambient.iter().map(|entry| entry.capability).collect();
    let any = |capability| Entry { opens: true, ..Entry::new(capability, &*evidence) };
    capabilities.into_iter().map(any).collect()
}

/// Splits what can be called into what is handed over and what is missing.
fn meet(requires: &[Entry], ambient: &[Entry], host: &RuntimeHost<'_>) -> (Vec<Entry>, Vec<Entry>) {
    let (mut effective, mut missing) = (Vec::new(), Vec::new());
    if let Some(call) = unknown_calls(requires) {
        let handed = ambient.iter().filter(|handed| is_callable(handed));
        effective.extend(handed.filter_map(|handed| in_common(&call, handed)));
    }
    for required in requires {
        let before = effective.len();
        effective.extend(ambient.iter().filter_map(|handed| narrower(required, handed)));
        if effective.len() > before || is_quiet(required.capability) {
            continue;
        }
        if is_always_effective(required.capability) {
            let why = format!("{} may provide it: no profile says", host.runtime());
            // That it may do anything is in what it reaches.
            let known = Entry { opens: false, by_path: false, ..required.clone() };
            effective.push(known.seen_in(why));
        } else {
            let why = format!("{} hands over none", host.runtime());
            missing.push(required.clone().seen_in(why));
        }
    }
    (effective, missing)
}

/// Whether a call may reach it. Native code that lies in no file is that of the image, which a runtime starts or does not.
const fn is_callable(handed: &Entry) -> bool {
    match handed.capability {
        Capability::UnknownImport => false,
        Capability::NativeExec => handed.opens,
        _ => true,
    }
}

/// One call for all imports of which nothing is known but that a runtime may link them: each may do whatever can be done with
/// what the program is handed. One, because an image chooses how many it imports.
fn unknown_calls(requires: &[Entry]) -> Option<Entry> {
    let is_any = |entry: &&Entry| entry.capability == Capability::UnknownImport && entry.opens;
    let mut imports = requires.iter().filter(is_any);
    let first = imports.next()?;
    let mut evidence = first.evidence.clone();
    evidence.extend(imports.take(MAX_EVIDENCE).flat_map(|entry| entry.evidence.iter().cloned()));
    Some(Entry { name: None, evidence, ..first.clone() })
}

/// Calls that answer "nothing there" rather than fail: every program that a Rust compiler made reads its environment
/// and can print, and works without either.
const fn is_quiet(capability: Capability) -> bool {
    match capability {
        Capability::Stdio | Capability::Clock | Capability::Random | Capability::Args | Capability::Env => {
            true
        }
        Capability::Fs
        | Capability::NetTcpConnect
        | Capability::NetUdp
        | Capability::NetDns
        | Capability::NetListen
        | Capability::HttpOutbound
        | Capability::HttpInbound
        | Capability::DbRedis
        | Capability::DbMysql
        | Capability::DbPostgres
        | Capability::Mqtt
        | Capability::Keyvalue
        | Capability::Sqlite
        | Capability::Blobstore
        | Capability::Messaging
        | Capability::Config
        | Capability::Ai
        | Capability::Nn
        | Capability::Trigger
        | Capability::ServiceChaining
        | Capability::Threads
        | Capability::Tls
        | Capability::Telemetry
        | Capability::NativeExec
        | Capability::NativePlugin
        | Capability::Device
        | Capability::UnknownImport => false,
    }
}

/// Some runtime may link an import that is not in the taxonomy, and an older shim (before containerd-shim-wasm 1.0.1)
/// may run native bytes among Wasm layers: neither is known to fail.
const fn is_always_effective(capability: Capability) -> bool {
    matches!(capability, Capability::UnknownImport | Capability::NativeExec)
}

/// Whether a call reaches something that is handed over, by their capabilities.
fn reaches(required: &Entry, handed: &Entry) -> bool {
    if handed.opens {
        let is_met = required.opens || (handed.by_path && required.by_path);
        return required.capability == Capability::Fs && is_met;
    }
    // Service chaining is an outgoing HTTP request to `*.spin.internal`; without a name it belongs to an unknown
    // runtime.
    let chains = required.capability == Capability::HttpOutbound
        && handed.capability == Capability::ServiceChaining
        && handed.name.is_some();
    required.capability == handed.capability || chains
}

/// What a call and a thing that is handed over have in common: the narrower of each two parameters; `None` for nothing.
fn narrower(required: &Entry, handed: &Entry) -> Option<Entry> {
    reaches(required, handed).then(|| in_common(required, handed)).flatten()
}

/// What a call has in common with a thing that it reaches.
fn in_common(required: &Entry, handed: &Entry) -> Option<Entry> {
    let name =
        pick(required.name.as_ref(), handed.name.as_ref(), |wide, narrow| glob::covers(wide, narrow)).ok()?;
    let path =
        pick(required.path.as_ref(), handed.path.as_ref(), |wide, narrow| path::covers(wide, narrow)).ok()?;
    let port = pick(required.port.as_ref(), handed.port.as_ref(), |wide, narrow| wide == narrow).ok()?;
    let access = match (required.access, handed.access) {
        (Some(a), Some(b)) => Some(a.min(b)),
        // Only files have an access of their own, not what is reached by opening one.
        (a, b) => a.filter(|_| handed.capability == required.capability).or(b),
    };
    // Half of the evidence is reserved for what is handed over, because the pod's author can change that.
    let mut evidence = counted_to(required.evidence.clone(), MAX_EVIDENCE / 2);
    evidence.extend(handed.evidence.iter().cloned());
    Some(Entry {
        capability: handed.capability,
        path,
        access,
        host: narrower_host(required.host.as_ref(), handed.host.as_ref()),
        name,
        port,
        secret: handed.secret || required.secret,
        own: handed.own,
        // What is reached by a path alone is not reached by way of the process that runs the program.
        opens: handed.opens && (required.opens || !handed.by_path),
        by_path: handed.by_path,
        evidence,
        covered_by: handed.covered_by.clone(),
    })
}

/// Two parameters that have nothing in common.
struct Disjoint;

/// The narrower of two parameters. An absent one is the widest.
fn pick<T: Clone>(
    a: Option<&T>,
    b: Option<&T>,
    covers: impl Fn(&T, &T) -> bool,
) -> Result<Option<T>, Disjoint> {
    match (a, b) {
        (Some(a), Some(b)) if covers(b, a) => Ok(Some(a.clone())),
        (Some(a), Some(b)) if covers(a, b) => Ok(Some(b.clone())),
        (Some(_), Some(_)) => Err(Disjoint),
        (a, b) => Ok(a.or(b).cloned()),
    }
}

/// Hosts may overlap without one covering the other; then what is handed over is the upper bound.
fn narrower_host(required: Option<&WrittenHost>, handed: Option<&WrittenHost>) -> Option<WrittenHost> {
    match (required, handed) {
        (Some(narrow), Some(wide)) if wide.pattern().covers(narrow.pattern()) => Some(narrow.clone()),
        (_, Some(handed)) => Some(handed.clone()),
        (required, None) => required.cloned(),
    }
}

/// A command that imports any interface of `wasi:http`, even the types alone, cannot be linked.
fn unlinked_http(units: &[Unit<'_>], missing: &[Entry], host: &RuntimeHost<'_>) -> Vec<Entry> {
    if missing.iter().any(|entry| entry.capability == Capability::HttpOutbound) {
        return Vec::new();
    }
    let imports = units.iter().flat_map(|unit| unit.modules.iter().flat_map(|module| &module.imports));
    let http = imports.filter(|import| import.interface.starts_with("wasi:http/"));
    let why = format!("{} links no wasi:http for commands", host.runtime());
    let entry = |interface: &String| Entry::new(Capability::HttpOutbound, format!("import {interface}"));
    http.map(|import| entry(&import.interface).seen_in(&*why)).collect()
}
