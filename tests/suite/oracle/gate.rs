//! The gate: from a layout to what it would judge, by the way that `explain` and `serve` go.

use std::path::Path;

use wasmgate::image::detect::detect;
use wasmgate::image::entry::Start;
use wasmgate::image::{Depth, ImageFacts, ImageKind, Program, SizeLimits};
use wasmgate::registry::layout::Layouts;
use wasmgate::runtime::Family;

/// What the gate would judge where a path is the program of a container under a Wasm runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Wasm: where each binary is, and what it exports. In an application of Spin the path itself is none of them.
    Wasm { application: bool, modules: Vec<(String, Vec<String>)> },
    /// A program that the runtime hands to Linux.
    Native,
    /// Nothing: the pod is denied.
    Refused(String),
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

    /// Where the binaries are that it may judge.
    pub fn sources(&self) -> Vec<String> {
        self.facts.iter().flat_map(|facts| &facts.modules).map(|module| module.source.clone()).collect()
    }

    /// What the image starts by itself, where the gate read it.
    pub fn entrypoint(&self) -> Option<&[String]> {
        self.facts.as_ref().ok().filter(|facts| facts.scanned).map(|facts| facts.entrypoint.as_slice())
    }

    /// What a runtime starts where the pod's command is this.
    pub fn program(&self, family: Family, command: &str, mounts: &[String]) -> Judged {
        let facts = match &self.facts {
            Ok(facts) => facts,
            Err(error) => return Judged::Refused(error.clone()),
        };
        let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
        let command = [command.to_string()];
        let start = Start { command: &command, mounts: &mounts, ..Start::default() };
        match family.start(facts, &start) {
            Program::Wasm { kind, modules, .. } => {
                let module = |number: &usize| {
                    let module = &facts.modules[*number];
                    (module.source.clone(), module.exports.iter().cloned().collect())
                };
                let modules = modules.iter().map(module).collect();
                Judged::Wasm { application: kind == ImageKind::SpinApp, modules }
            }
            Program::Linux | Program::Native { .. } => Judged::Native,
            Program::Unknown { reason } => Judged::Refused(reason),
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
