//! What a program can call, according to the bytes of its modules and, for Spin, its locked app. Never according to the
//! image config: what a config claims about imports is only the word of the person who pushed it.

mod component;
mod need;
mod preview1;
mod wasi;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Capability, Entry, MAX_ENTRIES, MAX_EVIDENCE, merge};
use crate::image::{ImageFacts, ModuleFacts, Program, SpinApp, SpinComponent, WasmFormat};
use need::Need;

/// What a container's program can call, over all its modules, sorted.
pub fn required(facts: &ImageFacts, program: &Program) -> Vec<Entry> {
    let units = units(facts, program);
    merge(units.iter().flat_map(Unit::requires).chain(of_app(facts, program, |_| true)))
}

/// What the code of these modules can call, wherever they come from.
pub fn of_modules(modules: &[ModuleFacts]) -> Vec<Entry> {
    merge(modules.iter().flat_map(|module| of_module(module, "", false)))
}

/// Lengths of the names that functions of a module's imports get, which are not known and need a grant each: as many of an import as are kept.
pub fn named_functions(module: &ModuleFacts) -> impl Iterator<Item = usize> {
    let format = module.format;
    module.imports.iter().flat_map(move |import| {
        let interface = import.interface.as_str();
        let known = component::known_functions(import);
        let is_named = move |function: &&String| match format {
            WasmFormat::Module => preview1::is_named(interface, function),
            WasmFormat::Component => known.is_some_and(|known| !component::is_known(known, function)),
        };
        let named = import.functions.iter().filter(is_named).take(MAX_ENTRIES + 1);
        named.map(move |function| interface.len().saturating_add(function.len()))
    })
}

/// The part of a program that has capabilities of its own: a Spin component, or else the whole program.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    /// The Spin component; `None` for a whole program.
    pub component: Option<&'a SpinComponent>,
    /// Its binaries, as an upper bound: one that the locked app attributes to no component counts for every component,
    /// because a component's dependencies may inherit all its capabilities.
    pub modules: Vec<&'a ModuleFacts>,
}

impl Unit<'_> {
    /// What its modules can call.
    pub fn requires(&self) -> Vec<Entry> {
        let place = self.component.map(|c| format!("component \"{}\": ", c.id)).unwrap_or_default();
        merge(self.modules.iter().flat_map(|module| of_module(module, &place, self.component.is_some())))
    }
}

/// The units of a program. If the program cannot be determined, any of the image's binaries may be it.
pub(super) fn units<'a>(facts: &'a ImageFacts, program: &Program) -> Vec<Unit<'a>> {
    let modules: Vec<&ModuleFacts> = match program {
        Program::Wasm { modules, .. } => facts.modules_at(modules).collect(),
        Program::Unknown { .. } => facts.modules.iter().collect(),
        Program::Linux | Program::Native { .. } => return Vec::new(),
    };
    match spin_app(facts, program).map(|app| app.components.as_slice()) {
        // All of them are its own, or of no component.
        Some([only]) => vec![Unit { component: Some(only), modules }],
        Some(components) => {
            let owned = Owned::new(components, &modules);
            let unit = |c| Unit { component: Some(c), modules: owned.of(c) };
            components.iter().map(unit).collect()
        }
        None => vec![Unit { component: None, modules }],
    }
}

/// The locked app, if the program is one.
pub(super) fn spin_app<'a>(facts: &'a ImageFacts, program: &Program) -> Option<&'a SpinApp> {
    match program {
        Program::Wasm { kind: crate::image::ImageKind::SpinApp, .. } => facts.spin.as_ref(),
        _ => None,
    }
}

/// The binaries of an app, indexed by component, so that the work is linear in the size of the app: the person who made
/// the image chooses the number of components.
struct Owned<'a> {
    modules: Vec<&'a ModuleFacts>,
    /// Indices into the list, by component id and by digest.
    by_id: HashMap<&'a str, Vec<usize>>,
    by_source: HashMap<&'a str, Vec<usize>>,
    /// Indices of those that belong to no component.
    unowned: Vec<usize>,
}

impl<'a> Owned<'a> {
    fn new(components: &[SpinComponent], modules: &[&'a ModuleFacts]) -> Self {
        let ids: HashSet<&str> = components.iter().map(|c| c.id.as_str()).collect();
        let digests: HashSet<&str> = components.iter().filter_map(|c| c.digest.as_deref()).collect();
        let (by_id, by_source) = (HashMap::new(), HashMap::new());
        let mut owned = Self { modules: modules.to_vec(), by_id, by_source, unowned: Vec::new() };
        for (place, module) in modules.iter().enumerate() {
            let id = module.component.as_deref().filter(|id| ids.contains(id));
            let digest = Some(module.source.as_str()).filter(|source| digests.contains(source));
            if id.is_none() && digest.is_none() {
                owned.unowned.push(place);
            }
            if let Some(id) = id {
                owned.by_id.entry(id).or_default().push(place);
            }
            if let Some(digest) = digest {
                owned.by_source.entry(digest).or_default().push(place);
            }
        }
        owned
    }

    fn of(&self, component: &SpinComponent) -> Vec<&'a ModuleFacts> {
        let by_id = self.by_id.get(component.id.as_str());
        let by_source = component.digest.as_deref().and_then(|digest| self.by_source.get(digest));
        let places: BTreeSet<usize> =
            [by_id, by_source, Some(&self.unowned)].into_iter().flatten().flatten().copied().collect();
        places.into_iter().filter_map(|place| self.modules.get(place).copied()).collect()
    }
}

/// Whether triggers of this type start a component that is kept. Those without a known component count.
pub(super) fn is_started(app: &SpinApp, trigger: &str, keeps: impl Fn(&SpinComponent) -> bool) -> bool {
    let mut started =
        app.components.iter().filter(|component| component.triggers.contains(trigger)).peekable();
    app.triggers.contains(trigger) && (started.peek().is_none() || started.any(keeps))
}

/// What the program as a whole does: the triggers that start the kept components of a Spin app, and native code where
/// Wasm was declared. A trigger without a known component counts.
pub(super) fn of_app(
    facts: &ImageFacts,
    program: &Program,
    keeps: impl Fn(&SpinComponent) -> bool,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    let app = spin_app(facts, program);
    // Once through the components: the image chooses how many there are, and how many types of triggers.
    let (mut kept, mut left_out) = (HashSet::new(), HashSet::new());
    for component in app.into_iter().flat_map(|app| &app.components) {
        let names = if keeps(component) { &mut kept } else { &mut left_out };
        names.extend(&component.triggers);
    }
    let starts = |trigger: &&String| kept.contains(*trigger) || !left_out.contains(*trigger);
    for trigger in app.into_iter().flat_map(|app| &app.triggers).filter(starts) {
        let evidence = format!("locked app trigger \"{trigger}\"");
        entries.push(Entry::new(Capability::Trigger, &*evidence).named(trigger));
        if trigger == "http" {
            entries.push(Entry::new(Capability::HttpInbound, evidence));
        }
    }
    for native in &facts.native {
        let evidence = format!("{} bytes in {}", native.magic, place(&native.source));
        entries.push(Entry::new(Capability::NativeExec, evidence));
    }
    entries
}

pub(super) fn of_module(module: &ModuleFacts, place_of_component: &str, spin: bool) -> Vec<Entry> {
    let needs = match module.format {
        WasmFormat::Module => preview1::needs(module),
        WasmFormat::Component => component::needs(module),
    };
    let source = place(&module.source);
    let to_entry = |need: Need<'_>| {
        let mut entry = Entry::new(
            need.capability,
            format!("{place_of_component}{} in {source}", seen(module.format, &need)),
        );
        entry.access = need.access;
        entry.opens = need.opens;
        entry.by_path = need.by_path;
        match need.name {
            Some(name) => entry.named(name),
            None => entry,
        }
    };
    let inbound = module.exports.iter().find(|e| is_http_handler(e)).filter(|_| !spin).map(|export| {
        Entry::new(Capability::HttpInbound, format!("{place_of_component}export {export} in {source}"))
    });
    needs.into_iter().map(to_entry).chain(inbound).collect()
}

/// `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3).
fn is_http_handler(export: &str) -> bool {
    let name = export.split('@').next().unwrap_or_default();
    matches!(name, "wasi:http/incoming-handler" | "wasi:http/handler")
}

/// The import as a person would search for it: `import wasi_snapshot_preview1.path_open`,
/// `import wasi:sockets/tcp@0.2.6 [method]tcp-socket.start-connect`.
fn seen(format: WasmFormat, need: &Need<'_>) -> String {
    let interface = need.interface;
    match (format, need.functions.as_slice()) {
        (_, []) => format!("import {interface}"),
        (WasmFormat::Module, [function]) => format!("import {interface}.{function}"),
        (WasmFormat::Module, many) => format!("import {interface}.{{{}}}", listed(many)),
        (WasmFormat::Component, many) => format!("import {interface} {}", listed(many)),
    }
}

/// The first names of a list, which the person who made the image may have made long.
fn listed(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_EVIDENCE).copied().collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A path as it is; a layer digest shortened as usual.
fn place(source: &str) -> String {
    match source.strip_prefix("sha256:") {
        Some(hex) => format!("layer sha256:{}", hex.get(..12).unwrap_or(hex)),
        None => source.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Import;

    /// What a review reserves for its rules goes by these lengths, before there are entries.
    #[test]
    fn the_lengths_of_named_functions_are_those_of_the_names_that_functions_get() {
        let of = |format: WasmFormat, interface: &str, functions: &[&str]| {
            let functions = functions.iter().map(ToString::to_string).collect();
            let import = Import { interface: interface.into(), functions };
            ModuleFacts { imports: vec![import], ..ModuleFacts::blank("/app.wasm", format) }
        };
        for (format, interface, functions, named) in [
            (WasmFormat::Module, "wasi_snapshot_preview1", &["fd_write", "of_tomorrow"][..], 1),
            (WasmFormat::Module, "wasi_unstable", &["random_get", "path_open"], 0),
            (WasmFormat::Module, "wasix_32v1", &["sock_join_multicast_v4", "of_tomorrow"], 1),
            (WasmFormat::Module, "wasi_ephemeral_nn", &["load", "of_tomorrow"], 0),
            (WasmFormat::Module, "outbound-redis", &["get", "of_tomorrow"], 0),
            (WasmFormat::Module, "env", &["a", "b", "memory"], 3),
            (WasmFormat::Component, "wasi:clocks/monotonic-clock@0.2.6", &["now", "of-tomorrow"], 1),
            (WasmFormat::Component, "acme:shop/orders@1.0.0", &["get", "put"], 0),
        ] {
            let module = of(format, interface, functions);
            let entries = of_module(&module, "", false);
            let names = entries.iter().filter(|entry| entry.capability == Capability::UnknownImport);
            let names =
                names.filter_map(|entry| entry.name.as_deref()?.strip_prefix(interface)?.strip_prefix('.'));
            let lengths: Vec<usize> = names.map(|name| interface.len() + name.len()).collect();
            assert_eq!(lengths.len(), named, "{interface}: {entries:?}");
            assert_eq!(named_functions(&module).collect::<Vec<_>>(), lengths, "{interface}");
        }
    }
}
