//! The families of runtimes by name. Each family is one file beside this one, which implements [`Runtime`]; a new
//! runtime is a new file and a row in the table here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::answers::{NativeWay, Runtime};
use super::choice::Choice;
use super::crun::{CRUN_WAMR, CRUN_WASMEDGE, CRUN_WASMER, CRUN_WASMTIME};
use super::everything::{DIFFERENT, Everything, both};
use super::obstacle::Obstacle;
use super::retired::{self, Retired};
use super::runwasi_wamr::RunwasiWamr;
use super::runwasi_wasmedge::RunwasiWasmedge;
use super::runwasi_wasmer::RunwasiWasmer;
use super::runwasi_wasmtime::RunwasiWasmtime;
use super::spin::Spin;
use super::youki::YoukiWasmtime;
use crate::image::entry::{Start, View};
use crate::image::mounts::Lost;
use crate::image::{Feature, ImageFacts, ImageKind, ModuleFacts, Program, path, program};
use crate::text;

/// Declares every described family once: its name in the configuration, and its implementation. All lists of families
/// follow from this one, so that none can be forgotten in any of them.
macro_rules! families {
    ($($(#[$meaning:meta])* $name:ident = $runtime:expr,)*) => {
        /// The runtime behind a RuntimeClass, which says what it starts from an image and what it hands over.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Family {
            $($(#[$meaning])* $name,)*
            /// A shim that is no longer maintained and starts what the command does not name: nothing is known to start.
            Retired,
            /// A runtime that no profile describes: it is assumed to start whatever any of the others would, and to
            /// hand over everything.
            Everything,
        }

        /// The implementations, in the order of [`Family::DESCRIBED`].
        static RUNTIMES: &[&dyn Runtime] = &[$(&$runtime,)*];

        static EVERYTHING: Everything = Everything(RUNTIMES);

        impl Family {
            /// Every described family, in the order of messages and documentation.
            pub const DESCRIBED: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name,)*];

            /// Maps each family to its implementation.
            pub fn runtime(self) -> &'static dyn Runtime {
                match self {
                    $(Self::$name => &$runtime,)*
                    Self::Retired => &Retired,
                    Self::Everything => &EVERYTHING,
                }
            }
        }
    };
}

families! {
    /// runwasi's wasmtime shim.
    RunwasiWasmtime = RunwasiWasmtime,
    /// runwasi's WasmEdge shim.
    RunwasiWasmedge = RunwasiWasmedge,
    /// runwasi's wasmer shim.
    RunwasiWasmer = RunwasiWasmer,
    /// runwasi's WAMR shim.
    RunwasiWamr = RunwasiWamr,
    /// The Spin shim.
    Spin = Spin,
    /// crun with WasmEdge.
    CrunWasmedge = CRUN_WASMEDGE,
    /// crun with wasmtime.
    CrunWasmtime = CRUN_WASMTIME,
    /// crun with wasmer.
    CrunWasmer = CRUN_WASMER,
    /// crun with WAMR.
    CrunWamr = CRUN_WAMR,
    /// youki with wasmtime.
    YoukiWasmtime = YoukiWasmtime,
}

impl Family {
    /// The family on which modules are placed by default.
    const DEFAULT: Self = Self::RunwasiWasmtime;

    /// The program that a container starts under this runtime. If it starts nothing, returns the program that the image
    /// is meant to start, when that is known and this runtime cannot run it: the refusal can then say which runtime
    /// can.
    pub fn start(self, facts: &ImageFacts, start: &Start<'_>) -> Program {
        let view = View::new(facts, start);
        if let Some(reason) = needs_folders(&view).or_else(|| program::cut_off(&view)) {
            return program::unknown(reason);
        }
        match self.runtime().choose(&view) {
            Choice::Starts(program) => with_machine_code(facts, &self.runtime().native_ways(), program),
            Choice::Nothing(reason) => match program::meant(&view) {
                Program::Wasm { kind, packaging, modules }
                    if !self.runtime().runs(facts.shape, kind, packaging) =>
                {
                    Program::Wasm { kind, packaging, modules }
                }
                _ => program::unknown(reason),
            },
        }
    }

    /// The variables of a container that name native plug-ins for this runtime to load.
    pub fn plugin_variables(self) -> Vec<&'static str> {
        let ways = self.runtime().native_ways();
        let variables = ways.into_iter().filter_map(|way| match way {
            NativeWay::PlugIns(variables) => Some(variables),
            _ => None,
        });
        variables.flatten().copied().collect()
    }

    /// The folders of a container from which this runtime loads native plug-ins, on nodes of the usual setups.
    pub fn plugin_folders(self) -> Vec<&'static str> {
        let ways = self.runtime().native_ways();
        let folders = ways.into_iter().filter_map(|way| match way {
            NativeWay::PlugInFolders { usual } => Some(usual),
            _ => None,
        });
        folders.flatten().copied().collect()
    }

    /// Whether resolving the name of a host may load native code from the files of a container.
    pub fn resolves_by_glibc(self) -> bool {
        self.runtime().native_ways().contains(&NativeWay::Resolver)
    }

    /// Whether starting any program may load native code from the files of a container that has no variable `HOME`.
    pub fn looks_up_users_by_glibc(self) -> bool {
        self.runtime().native_ways().contains(&NativeWay::Users)
    }

    /// Whether it can start a program, judged by the program and its packaging.
    fn can_start(self, facts: &ImageFacts, program: &Program) -> bool {
        self.starts_with(Engine::default(), facts, program)
    }

    /// The same on nodes whose engine differs so.
    pub(super) fn starts_with(self, engine: Engine<'_>, facts: &ImageFacts, program: &Program) -> bool {
        matches!(program, Program::Wasm { .. }) && self.obstacle(engine, facts, program).is_none()
    }

    /// Why it cannot start a Wasm program on such nodes, for people; also `None` for a family of which nothing is known.
    pub(super) fn cannot_start(
        self,
        engine: Engine<'_>,
        facts: &ImageFacts,
        program: &Program,
    ) -> Option<String> {
        if !Self::DESCRIBED.contains(&self) {
            return None;
        }
        self.obstacle(engine, facts, program).map(|obstacle| obstacle.described(self.runtime()))
    }

    /// The first thing that keeps it from starting a Wasm program on such nodes.
    fn obstacle<'a>(
        self,
        engine: Engine<'_>,
        facts: &'a ImageFacts,
        program: &Program,
    ) -> Option<Obstacle<'a>> {
        let Program::Wasm { kind, packaging, modules } = program else { return None };
        let (runtime, shape, kind, packaging) = (self.runtime(), facts.shape, *kind, *packaging);
        if !runtime.runs(shape, kind, packaging) {
            return Some(Obstacle::Form { shape, kind, packaging });
        }
        facts.modules_at(modules).find_map(|module| engine.obstacle(runtime, module))
    }

    /// What it tells people about a program that it cannot start on nodes whose engine differs so.
    pub(super) fn warnings(self, engine: Engine<'_>, facts: &ImageFacts, program: &Program) -> Vec<String> {
        let runtime = self.runtime();
        match program {
            Program::Wasm { kind, modules, .. } if *kind != ImageKind::SpinApp => {
                facts.modules_at(modules).filter_map(|module| engine.warning(runtime, module)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// How the engine of some nodes differs from the one that their runtime has elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Engine<'a> {
    /// Proposals of WebAssembly that it runs besides.
    pub(super) proposals: Option<&'a BTreeSet<Feature>>,
    /// Whether it allocates on demand, so that no pool limits what a program defines.
    pub(super) allocates_on_demand: bool,
}

impl Engine<'_> {
    /// What a module needs that neither its runtime provides nor this engine runs.
    fn lacks(self, runtime: &dyn Runtime, module: &ModuleFacts) -> Option<Feature> {
        let names = |feature| self.proposals.is_some_and(|proposals| proposals.contains(&feature));
        // An engine with garbage collection has references to its types, and so to those of functions.
        let runs = |feature: &Feature| {
            names(*feature) || (*feature == Feature::FunctionReferences && names(Feature::GarbageCollection))
        };
        let mut features = module.features.iter().copied();
        features.find(|feature| !is_passed_over(*feature) && !runtime.provides(*feature) && !runs(feature))
    }

    /// What a module defines more than its pool holds.
    fn exceeded(self, runtime: &dyn Runtime, module: &ModuleFacts) -> Option<String> {
        let pool = runtime.pool().filter(|_| !self.allocates_on_demand)?;
        pool.exceeded(&module.defined)
    }

    /// The first thing of a module that keeps its runtime from starting it.
    fn obstacle<'m>(self, runtime: &dyn Runtime, module: &'m ModuleFacts) -> Option<Obstacle<'m>> {
        if let Some(feature) = self.lacks(runtime, module) {
            return Some(Obstacle::Lacking { module, feature });
        }
        let exceeded = self.exceeded(runtime, module)?;
        Some(Obstacle::TooMuch { module, exceeded })
    }

    fn warning(self, runtime: &dyn Runtime, module: &ModuleFacts) -> Option<String> {
        match self.obstacle(runtime, module)? {
            Obstacle::Lacking { module, feature } => runtime.cannot_start(&module.source, feature),
            Obstacle::TooMuch { module, exceeded } => runtime.cannot_hold(&module.source, &exceeded),
            Obstacle::Form { .. } => None,
        }
    }
}

/// The program that a container may start under a class that no profile describes: the one that the image is meant to
/// start, or a stricter answer of [`Family::Everything`]. An ordinary Linux image of which nothing suggests Wasm is
/// meant for a runtime of Linux programs. Of a Wasm program it must be known that its file is the one that starts, whichever
/// runtime it is.
pub fn start_undescribed(facts: &ImageFacts, start: &Start<'_>) -> Program {
    let view = View::new(facts, start);
    let meant = program::meant(&view);
    if !facts.suggests_wasm() {
        return meant;
    }
    if matches!(meant, Program::Wasm { .. }) {
        let open = needs_folders(&view)
            .or_else(|| program::cut_off(&view))
            .or_else(|| view.lost().map(Lost::reason))
            .or_else(|| retired::starts_another(&view, Some(&meant)));
        return open.map_or_else(|| as_all_start(&view, meant), program::unknown);
    }
    let any = Family::Everything.start(facts, start);
    if strictness(&any) > strictness(&meant) { any } else { meant }
}

/// The Wasm program that the image is meant to start, if each runtime that may be behind a class starts that or nothing.
fn as_all_start(view: &View<'_>, meant: Program) -> Program {
    let everything = Family::Everything.runtime();
    match everything.choose(view) {
        Choice::Starts(any) if both(&meant, &any).is_none() => match any {
            Program::Unknown { .. } => any,
            _ => program::unknown(DIFFERENT),
        },
        Choice::Starts(_) | Choice::Nothing(_) => {
            with_machine_code(view.facts, &everything.native_ways(), meant)
        }
    }
}

/// How much the rules ask of a program: nothing of Linux, everything of Wasm. Of what is unknown only that it becomes
/// known.
const fn strictness(program: &Program) -> u8 {
    match program {
        Program::Linux => 0,
        Program::Native { .. } => 1,
        Program::Unknown { .. } => 2,
        Program::Wasm { .. } => 3,
    }
}

/// The program, but native if a module carries machine code that the runtime runs instead of the Wasm.
fn with_machine_code(facts: &ImageFacts, ways: &[NativeWay], program: Program) -> Program {
    let Program::Wasm { modules, .. } = &program else { return program };
    let found = ways.iter().find_map(|way| match way {
        NativeWay::Section { feature, name } => {
            let module = facts.modules_at(modules).find(|module| module.features.contains(feature))?;
            Some(Program::Native { source: module.source.clone(), magic: format!("section {name}") })
        }
        NativeWay::PlugIns(_) | NativeWay::PlugInFolders { .. } | NativeWay::Resolver | NativeWay::Users => {
            None
        }
    });
    found.unwrap_or(program)
}

/// Why it cannot be said where the name of the program leads. Files that are no program are not told from folders, so a name
/// that goes up from another may lead to nothing on a node, and some shims start something else then. A working directory that
/// leads to nothing starts nothing at all, and all links on its way are known.
fn needs_folders(view: &View<'_>) -> Option<String> {
    if let Some(argument) = view.first_argument().filter(|argument| path::needs_a_folder(argument)) {
        return Some(format!(
            "`{}` leads through a name that has to be a folder, and files are not told from folders here; write the \
             path without `..` and without a slash at its end",
            text::quoted(argument, 200)
        ));
    }
    let too_long = |path: &&str| path::is_deep(path) || path.len() > path::MAX_LENGTH;
    if let Some(mount) = view.start.mounts.iter().map(|mount| mount.path).find(too_long) {
        return Some(format!(
            "the mount path `{}` has more than {} parts or {} bytes, and what it hides is not followed; mount it elsewhere",
            text::quoted(mount, 200),
            path::MOST_PARTS,
            path::MAX_LENGTH
        ));
    }
    let folder = Some(view.working_dir()).filter(|folder| path::goes_up(folder))?;
    let file = view.blocked(folder)?;
    Some(format!(
        "the working directory `{}` leads up from `{}`, which is not a folder on every node; write it without `..`",
        text::quoted(folder, 200),
        text::quoted(&file, 200)
    ))
}

/// The described runtimes that can start a program; none if it is not Wasm. An upper bound, because the setup of the
/// nodes is not known here.
pub fn runnable_by(facts: &ImageFacts, program: &Program) -> BTreeSet<Family> {
    Family::DESCRIBED.into_iter().filter(|family| family.can_start(facts, program)).collect()
}

/// What a family tells people about a program that it cannot start. Without a family, the default placement of modules
/// answers.
pub fn warnings(family: Option<Family>, facts: &ImageFacts, program: &Program) -> Vec<String> {
    family.unwrap_or(Family::DEFAULT).warnings(Engine::default(), facts, program)
}

/// Features that engines without support for them skip.
const fn is_passed_over(feature: Feature) -> bool {
    matches!(feature, Feature::WasmedgeMachineCode)
}
