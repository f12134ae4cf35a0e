//! The gate: from a layout to what it would judge, by the way that `explain` and `serve` go.

use std::iter;
use std::path::Path;

use wasmgate::image::entry::{KUBELET_MOUNTS, Start, Variable};
use wasmgate::image::mounts::Mount;
use wasmgate::image::{Depth, ImageFacts, ImageKind, Packaging, Program};
use wasmgate::lookup::{SizeLimits, detect::detect};
use wasmgate::registry::layout::Layouts;
use wasmgate::runtime::Family;

/// What the gate would judge where a path is the program of a container under a Wasm runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Wasm: where each binary is, and what it exports.
    Wasm { packed: Packed, modules: Vec<(String, Vec<String>)> },
    /// A program that the runtime hands to Linux.
    Native,
    /// Nothing: the pod is denied.
    Refused(String),
}

/// Where a program of Wasm comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    /// A file, which the pod's command leads to.
    File,
    /// The files of an application of Spin, whatever the command says.
    Application,
    /// Layers.
    Layers,
}

/// What a pod says of a container.
#[derive(Debug, Clone, Default)]
pub struct Pod<'a> {
    pub command: &'a str,
    pub working_dir: &'a str,
    /// `PATH` among its variables.
    pub path: Option<&'a str>,
    /// Mount paths of volumes.
    pub mounts: &'a [String],
    /// Its `terminationMessagePath`, where the node makes the mounts that it adds too.
    pub termination_log: Option<&'a str>,
}

/// What the gate knows of an image.
#[derive(Debug)]
pub struct Gate {
    facts: Result<ImageFacts, String>,
}

impl Gate {
    /// Reads a layout.
    pub fn inspect(layout: &Path) -> Self {
        let target = layout.to_str().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let facts = runtime.block_on(async {
            let (layouts, reference) = Layouts::direct(target)?;
            detect(&layouts, &reference, Depth::Layers, &SizeLimits::default()).await
        });
        Self { facts: facts.map_err(|error| error.to_string()) }
    }

    /// Why the image counts as not inspected.
    pub fn refusal(&self) -> Option<&str> {
        self.facts.as_ref().err().map(String::as_str)
    }

    /// What is known of the image, where the gate read it.
    pub fn facts(&self) -> Option<&ImageFacts> {
        self.facts.as_ref().ok()
    }

    /// Where the binaries are that it may judge.
    pub fn sources(&self) -> Vec<String> {
        self.facts.iter().flat_map(|facts| &facts.modules).map(|module| module.source.clone()).collect()
    }

    /// What the image starts by itself, where the gate read it.
    pub fn entrypoint(&self) -> Option<&[String]> {
        self.facts.as_ref().ok().filter(|facts| facts.scanned).map(|facts| facts.entrypoint.as_slice())
    }

    /// `PATH` as the image sets it.
    pub fn search_path(&self) -> Option<&str> {
        self.facts.as_ref().ok()?.search_path.as_deref()
    }

    /// What a runtime starts in a pod.
    pub fn program(&self, family: Family, pod: &Pod<'_>) -> Judged {
        let facts = match &self.facts {
            Ok(facts) => facts,
            Err(error) => return Judged::Refused(error.clone()),
        };
        let written = pod.mounts.iter().map(String::as_str);
        let added = pod.termination_log.into_iter().flat_map(|log| iter::once(log).chain(KUBELET_MOUNTS));
        let mounts: Vec<Mount<'_>> = written.chain(added).map(Mount::from).collect();
        let command = [pod.command.to_string()];
        let start = Start {
            command: &command,
            working_dir: Some(pod.working_dir),
            mounts: &mounts,
            path: pod.path.map_or(Variable::Unset, Variable::Literal),
            ..Start::default()
        };
        match family.start(facts, &start) {
            program @ Program::Wasm { .. } if !may_start(family, facts, &program) => {
                Judged::Refused("the runtime cannot start it".into())
            }
            Program::Wasm { kind, packaging, modules } => {
                let module = |number: &usize| {
                    let module = &facts.modules[*number];
                    (module.source.clone(), module.exports.iter().cloned().collect())
                };
                let packed = match (packaging, kind) {
                    (Packaging::Layers, _) => Packed::Layers,
                    (_, ImageKind::SpinApp) => Packed::Application,
                    _ => Packed::File,
                };
                Judged::Wasm { packed, modules: modules.iter().map(module).collect() }
            }
            Program::Linux | Program::Native { .. } => Judged::Native,
            Program::Unknown { reason } => Judged::Refused(reason.into()),
        }
    }

    /// Name of the Spin application in `/spin.toml`; `Err` where the gate says that there is no such file, `None` where
    /// it says that it cannot be used or knows nothing.
    pub fn spin(&self) -> Result<Option<&str>, ()> {
        let Ok(facts) = &self.facts else { return Ok(None) };
        if !facts.scanned {
            return Ok(None);
        }
        match &facts.spin {
            Some(app) => Ok(Some(&app.name)),
            None if facts.has_file("/spin.toml") => Ok(None),
            None => Err(()),
        }
    }
}

/// A runtime that is not among those that can run a program is refused by the rules (`runnable_by`).
fn may_start(family: Family, facts: &ImageFacts, program: &Program) -> bool {
    family == Family::Everything || wasmgate::runtime::runnable_by(facts, program).contains(&family)
}
