//! Which components run a module, and which of its imports reach the host there: Spin composes a component with its dependencies
//! before it links anything (`spin:crates/compose/src/lib.rs`).

use std::collections::HashSet;

use crate::image::{Import, ModuleFacts, SpinApp, SpinComponent, WasmFormat};

/// What Spin's adapter fills in for a dependency that inherits nothing
/// (`spin:crates/compose/deny-all/wit/world.wit`, `apply_deny_all_adapter`; tag v3.6.3). It is plugged by name, and what has another
/// name or version is left to the host: not every version of the composer takes a later patch of WASI for the same
/// (`wac:crates/wac-graph/src/plug.rs`).
const DENIED: [&str; 17] = [
    "wasi:cli/environment@0.2.0",
    "wasi:filesystem/preopens@0.2.0",
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:sockets/ip-name-lookup@0.2.0",
    "wasi:sockets/tcp-create-socket@0.2.0",
    "wasi:sockets/tcp@0.2.0",
    "wasi:sockets/udp-create-socket@0.2.0",
    "wasi:sockets/udp@0.2.0",
    "fermyon:spin/llm@2.0.0",
    "fermyon:spin/redis@2.0.0",
    "fermyon:spin/mqtt@2.0.0",
    "fermyon:spin/rdbms-types@2.0.0",
    "fermyon:spin/postgres@2.0.0",
    "fermyon:spin/mysql@2.0.0",
    "fermyon:spin/sqlite@2.0.0",
    "fermyon:spin/key-value@2.0.0",
    "fermyon:spin/variables@2.0.0",
];
/// Where folders come from, and what cannot be used without one.
const FOLDERS: (&str, &str) = ("wasi:filesystem/preopens", "wasi:filesystem/types");
/// Packages that a host may provide itself. An import of them counts even where a dependency satisfies it: a Spin from before
/// dependencies links the host's.
const OF_HOST: [&str; 4] = ["wasi:", "fermyon:", "spin:", "wasmcloud:"];

/// A copy of the module for every component that runs it, so that each is judged by what it is handed; one without an
/// owner if no component runs it.
pub(crate) fn for_each_owner(app: &SpinApp, module: ModuleFacts) -> Vec<ModuleFacts> {
    let copies: Vec<ModuleFacts> =
        app.components.iter().flat_map(|component| copies(component, &module)).collect();
    if copies.is_empty() { vec![module] } else { copies }
}

/// About the bytes that the names of the module take in all these copies.
pub(crate) fn size_for_all_owners(app: &SpinApp, module: &ModuleFacts) -> usize {
    let modules = app.components.iter().flat_map(SpinComponent::modules);
    let copies = modules.filter(|source| **source == module.source).count().max(1);
    module.size_in_memory().saturating_mul(copies)
}

/// The module as the component's own, as a dependency with its capabilities, and as one without.
fn copies(component: &SpinComponent, module: &ModuleFacts) -> Vec<ModuleFacts> {
    let copy = |imports: Vec<Import>| ModuleFacts {
        component: Some(component.id.clone()),
        imports,
        ..module.clone()
    };
    let is_in = |list: &[String]| list.contains(&module.source);
    let mut found = Vec::new();
    if is_in(&component.inherited) {
        found.push(copy(module.imports.clone()));
    } else if component.digest.as_ref() == Some(&module.source) {
        found.push(copy(beside_dependencies(component, module)));
    }
    if is_in(&component.isolated) && found.is_empty() {
        found.push(copy(beside_adapter(module)));
    } else if is_in(&component.isolated) {
        // As the component itself, or with its capabilities, it reaches all that it would reach without.
        for copy in &mut found {
            copy.imports.clone_from(&module.imports);
        }
    }
    found
}

/// The imports that the component's dependencies do not satisfy.
fn beside_dependencies(component: &SpinComponent, module: &ModuleFacts) -> Vec<Import> {
    let names: HashSet<&str> = component.satisfied.iter().map(String::as_str).collect();
    let is_satisfied = |import: &&Import| {
        let name = import.interface.as_str();
        let (path, version) =
            name.split_once('@').map_or((name, None), |(path, version)| (path, Some(version)));
        let package = path.split('/').next().unwrap_or_default();
        let versioned = version.map(|version| format!("{package}@{version}"));
        let known = [Some(name), Some(path), Some(package), versioned.as_deref()];
        known.into_iter().flatten().any(|name| names.contains(name))
    };
    let of_host = |import: &&Import| OF_HOST.iter().any(|start| import.interface.starts_with(start));
    let is_left =
        |import: &&Import| module.format == WasmFormat::Module || of_host(import) || !is_satisfied(import);
    module.imports.iter().filter(is_left).cloned().collect()
}

/// The imports that the adapter leaves to the host. A core module is made a component first, by an adapter whose imports are not
/// known here.
fn beside_adapter(module: &ModuleFacts) -> Vec<Import> {
    if module.format == WasmFormat::Module {
        return module.imports.clone();
    }
    let (preopens, types) = FOLDERS;
    let is_denied = |import: &Import| DENIED.contains(&import.interface.as_str());
    let of = |import: &Import, name: &str| import.interface.split('@').next() == Some(name);
    let has_folders = module.imports.iter().any(|import| of(import, preopens) && !is_denied(import));
    let is_left = |import: &&Import| !is_denied(import) && (has_folders || !of(import, types));
    module.imports.iter().filter(is_left).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(format: WasmFormat, imports: &[&str]) -> ModuleFacts {
        let import =
            |name: &&str| Import { interface: (*name).to_string(), functions: ["f".to_string()].into() };
        ModuleFacts { imports: imports.iter().map(import).collect(), ..ModuleFacts::blank("m", format) }
    }

    fn reached(component: SpinComponent, module: ModuleFacts) -> Vec<Vec<String>> {
        let app = SpinApp { components: vec![component], ..SpinApp::default() };
        let copies = for_each_owner(&app, module);
        assert!(copies.iter().all(|copy| copy.component.as_deref() == Some("a")));
        copies.into_iter().map(|copy| copy.imports.into_iter().map(|i| i.interface).collect()).collect()
    }

    fn isolated() -> SpinComponent {
        SpinComponent { id: "a".into(), isolated: vec!["m".into()], ..SpinComponent::default() }
    }

    #[test]
    fn a_dependency_without_capabilities_reaches_what_the_adapter_does_not_fill() {
        let imports = [
            "wasi:http/outgoing-handler@0.2.0",
            "wasi:http/outgoing-handler@0.2.6",
            "fermyon:spin/sqlite@2.0.0",
            "fermyon:spin/http",
            "spin:sqlite/sqlite@3.0.0",
            "wasi:keyvalue/store@0.2.0-draft2",
        ];
        let left = [imports[1], imports[3], imports[4], imports[5]];
        assert_eq!(reached(isolated(), module(WasmFormat::Component, &imports)), [left]);
        assert_eq!(reached(isolated(), module(WasmFormat::Module, &imports)), [imports]);
    }

    #[test]
    fn files_are_reached_by_a_folder_alone() {
        let (types, denied) = ("wasi:filesystem/types@0.2.0", "wasi:filesystem/preopens@0.2.0");
        assert_eq!(reached(isolated(), module(WasmFormat::Component, &[types, denied])), [[""; 0]]);
        for other in ["wasi:filesystem/preopens@0.2.6", "wasi:filesystem/preopens@0.2.0-rc-2023-11-10"] {
            let found = reached(isolated(), module(WasmFormat::Component, &[types, denied, other]));
            assert_eq!(found, [[types, other]]);
        }
    }

    #[test]
    fn an_import_that_a_dependency_satisfies_reaches_no_host() {
        let imports = ["a:b/c@1.0.0", "a:b/d@1.0.0", "wasi:http/outgoing-handler@0.2.0", "plain"];
        let own = |names: &[&str]| {
            let satisfied = names.iter().map(ToString::to_string).collect();
            let component = SpinComponent {
                id: "a".into(),
                digest: Some("m".into()),
                satisfied,
                ..SpinComponent::default()
            };
            reached(component, module(WasmFormat::Component, &imports)).concat()
        };
        for (names, left) in [
            (&["a:b/c@1.0.0"][..], &imports[1..]),
            (&["a:b/c"], &imports[1..]),
            (&["a:b"], &imports[2..]),
            (&["a:b@1.0.0"], &imports[2..]),
            (&["a:b@1.0.1", "a:b/c@1"], &imports[..]),
            (&["wasi:http/outgoing-handler@0.2.0"], &imports[..]),
            (&["plain"], &imports[..3]),
        ] {
            assert_eq!(own(names), left, "{names:?}");
        }
    }

    #[test]
    fn what_is_also_the_components_own_counts_as_a_whole() {
        let imports = ["a:b/c", "fermyon:spin/sqlite@2.0.0"];
        let whole = module(WasmFormat::Component, &imports);
        let own = SpinComponent { digest: Some("m".into()), satisfied: vec!["a:b/c".into()], ..isolated() };
        assert_eq!(reached(own, whole.clone()), [imports]);
        let inherited = SpinComponent { inherited: vec!["m".into()], ..isolated() };
        assert_eq!(reached(inherited, whole), [imports]);
    }
}
