//! What the runtime and the pod spec hand over, one entry per thing: this mount, that variable, the network.
//!
//! runwasi's wasmtime shim gives a command the whole file system, all variables and, to components, the whole network;
//! an HTTP component gets the variables and outgoing HTTP; the Spin shim gives what the locked app names; the others are
//! in files of their own. A runtime that nobody described is taken to give everything, and so are runwasi's wasmer and
//! WAMR shims, whose network nobody looked at.

mod crun;
mod pod;
mod runwasi;
mod spin;
mod variables;
mod wasmedge;
mod youki;

use std::borrow::Cow;

use super::required::{Unit, spin_app};
use super::{Capability, Entry, merge};
use crate::image::{ImageFacts, ImageKind, Program};
use crate::inspection::Container;
use crate::runtime::{Ambient, Profile};
use crate::workload::Workload;

pub(super) use pod::Pod;
pub use spin::UNRESOLVED;

/// What stands between an image and the things that it is handed.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub facts: &'a ImageFacts,
    pub program: &'a Program,
    pub pod: Pod<'a>,
    pub profile: Option<&'a Profile>,
}

/// How a runtime treats a program; worked out once per container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// runwasi's wasmtime shim and a core module.
    RunwasiModule,
    /// runwasi's wasmtime shim and `wasi:cli/run`.
    RunwasiCommand,
    /// runwasi's wasmtime shim and `wasi:http/incoming-handler`.
    RunwasiHttp,
    /// WasmEdge and a core module, behind runwasi's shim or in crun.
    Wasmedge,
    /// crun's wasmtime handler and a core module.
    CrunWasmtime,
    /// crun's wasmer handler and a core module.
    CrunWasmer,
    /// crun's WAMR handler and a core module.
    CrunWamr,
    /// youki's wasmtime executor and a core module.
    YoukiWasmtime,
    /// The Spin shim and a locked app.
    Spin,
    /// Anything else.
    Everything,
}

impl<'a> Host<'a> {
    pub fn new(
        workload: &'a Workload,
        container: &Container,
        known: (&'a ImageFacts, &'a Program),
        profile: Option<&'a Profile>,
    ) -> Self {
        Self { facts: known.0, program: known.1, pod: Pod::new(workload, container), profile }
    }

    /// A program that the profile's runtime is not known to run gets the widest treatment: what a shim does with a
    /// kind that it was not made for is not written down anywhere.
    fn treatment(&self) -> Treatment {
        let Program::Wasm { kind, .. } = self.program else { return Treatment::Everything };
        match (self.profile.map(|p| p.ambient), kind) {
            (Some(Ambient::RunwasiWasmtime), ImageKind::Module) => Treatment::RunwasiModule,
            (Some(Ambient::RunwasiWasmtime), ImageKind::Component) => Treatment::RunwasiCommand,
            (Some(Ambient::RunwasiWasmtime), ImageKind::HttpComponent) => Treatment::RunwasiHttp,
            (Some(Ambient::RunwasiWasmedge | Ambient::CrunWasmedge), ImageKind::Module) => {
                Treatment::Wasmedge
            }
            (Some(Ambient::CrunWasmtime), ImageKind::Module) => Treatment::CrunWasmtime,
            (Some(Ambient::CrunWasmer), ImageKind::Module) => Treatment::CrunWasmer,
            (Some(Ambient::CrunWamr), ImageKind::Module) => Treatment::CrunWamr,
            (Some(Ambient::YoukiWasmtime), ImageKind::Module) => Treatment::YoukiWasmtime,
            (Some(Ambient::Spin), ImageKind::SpinApp) if spin_app(self.facts, self.program).is_some() => {
                Treatment::Spin
            }
            _ => Treatment::Everything,
        }
    }

    /// The runtime as messages name it.
    pub fn runtime(&self) -> Cow<'a, str> {
        match (self.profile, self.pod.runtime_class()) {
            (Some(profile), _) => format!("runtime {}", profile.name).into(),
            (None, Some(class)) => format!("RuntimeClass {class}, which no profile describes").into(),
            (None, None) => "no RuntimeClass".into(),
        }
    }

    /// Whether this unit is started at all: `SPIN_COMPONENTS_TO_RETAIN` narrows a Spin app.
    pub fn starts(&self, unit: &Unit<'_>) -> bool {
        match (self.treatment(), unit.component) {
            (Treatment::Spin, Some(component)) => spin::retains(&self.pod, &component.id),
            _ => true,
        }
    }

    /// Whether every unit is handed the same, so that it need be worked out once.
    pub fn treats_units_alike(&self) -> bool {
        self.treatment() != Treatment::Spin
    }

    /// What one unit is handed, sorted.
    pub fn hands_over(&self, unit: &Unit<'_>) -> Vec<Entry> {
        merge(match (self.treatment(), unit.component) {
            (Treatment::RunwasiModule, _) => runwasi::command(self, false),
            (Treatment::RunwasiCommand, _) => runwasi::command(self, true),
            (Treatment::RunwasiHttp, _) => runwasi::http(self),
            (Treatment::Wasmedge, _) => wasmedge::module(self),
            (Treatment::CrunWasmtime, _) => crun::wasmtime(self),
            (Treatment::CrunWasmer, _) => crun::wasmer(self),
            (Treatment::CrunWamr, _) => crun::wamr(self),
            (Treatment::YoukiWasmtime, _) => youki::wasmtime(self),
            (Treatment::Spin, Some(component)) => spin::component(self, component),
            (Treatment::Spin, None) | (Treatment::Everything, _) => self.everything(),
        })
    }

    /// What the program as a whole is handed, beside its units: a Spin app's triggers.
    pub fn hands_over_to_app(&self) -> Vec<Entry> {
        merge(match self.treatment() {
            Treatment::Spin => spin::app(self),
            Treatment::Everything => self.everything(),
            Treatment::Wasmedge => wasmedge::process(self),
            Treatment::RunwasiModule
            | Treatment::RunwasiCommand
            | Treatment::RunwasiHttp
            | Treatment::CrunWasmtime
            | Treatment::CrunWasmer
            | Treatment::CrunWamr
            | Treatment::YoukiWasmtime => Vec::new(),
        })
    }

    /// Whether the program is a command component that cannot be linked because of an import of `wasi:http`: runwasi's
    /// shim adds `wasmtime_wasi::p2` alone to a command's linker (`runwasi:crates/containerd-shim-wasmtime/src/instance.rs`).
    pub fn lacks_http(&self) -> bool {
        self.treatment() == Treatment::RunwasiCommand
    }

    /// The whole taxonomy without parameters, and what the pod spec names.
    fn everything(&self) -> Vec<Entry> {
        let why = format!("{}: taken to hand over everything", self.runtime());
        let mut entries: Vec<Entry> = Capability::ALL.iter().map(|c| Entry::new(*c, &*why)).collect();
        entries.extend(self.pod.mounts());
        entries.extend(self.variables());
        entries.extend(self.pod.secret_arguments());
        entries
    }

    /// The container's variables: the pod's, then those of the image that the pod does not replace, then those
    /// that every container gets.
    fn variables(&self) -> Vec<Entry> {
        let own =
            |name: &str, evidence: &str| Entry::new(Capability::Env, evidence).named(name).mark_own(true);
        let mut entries = self.pod.variables();
        let image = self.facts.env.iter().filter(|name| !self.pod.sets(name));
        entries.extend(image.map(|name| own(name, &format!("env {name} of the image"))));
        let platform = self.pod.platform_variables();
        entries.extend(platform.into_iter().map(|(name, evidence)| own(name, evidence)));
        entries
    }
}

/// Variables that load a native plug-in into WasmEdge: the shim sets every `WASMEDGE_*` variable of the container in its
/// own process (`runwasi:crates/containerd-shim-wasmedge/src/instance.rs`). Asked for only where the runtime is not
/// known to be another one.
pub(super) fn plugins(host: &Host<'_>) -> Vec<Entry> {
    if !matches!(host.treatment(), Treatment::Everything | Treatment::Wasmedge) {
        return Vec::new();
    }
    let loads = |name: &str| matches!(name, "WASMEDGE_PLUGIN_PATH" | "WASMEDGE_WASINN_PRELOAD");
    let to_entry = |variable: Entry| {
        let name = variable.name.filter(|name| loads(name))?;
        Some(Entry { evidence: variable.evidence, ..Entry::new(Capability::NativePlugin, "").named(name) })
    };
    host.variables().into_iter().filter_map(to_entry).collect()
}
