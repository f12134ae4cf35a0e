//! A runtime that no profile describes. It may be any of the described ones, or none of them, so a program is known
//! only if all of them would start the same.

use super::answers::{Compiler, NativeWay, Runtime};
use super::choice::Choice;
use super::handover::Handover;
use super::retired;
use crate::image::entry::View;
use crate::image::{Feature, ImageKind, Packaging, Program, Shape, program};

/// This family's entry in the table of runtimes. It holds every described runtime.
#[derive(Debug)]
pub(super) struct Everything(pub(super) &'static [&'static dyn Runtime]);

/// Why nothing is known to start.
pub(super) const DIFFERENT: &str = "the runtimes that could be behind this class start different programs from the image; describe the class \
                         by a profile (`runtimes.profiles`)";

/// What two runtimes start, if that is the same. As what a runtime takes a component is up to it, and changes nothing here, where
/// everything counts as handed over.
pub(super) fn both<'a>(one: &'a Program, other: &'a Program) -> Option<&'a Program> {
    let http = |program: &Program| matches!(program, Program::Wasm { kind: ImageKind::HttpComponent, .. });
    let same = match (one, other) {
        (
            Program::Wasm { kind: ImageKind::Component | ImageKind::HttpComponent, packaging, modules },
            Program::Wasm {
                kind: ImageKind::Component | ImageKind::HttpComponent,
                packaging: packed,
                modules: these,
            },
        ) => packaging == packed && modules == these,
        _ => one == other,
    };
    same.then(|| if http(other) { other } else { one })
}

impl Runtime for Everything {
    fn choose(&self, view: &View<'_>) -> Choice {
        let mut found: Option<Program> = None;
        let mut nothing = String::new();
        for runtime in self.0 {
            match runtime.choose(view) {
                Choice::Nothing(reason) if nothing.is_empty() => nothing = reason,
                Choice::Nothing(_) => {}
                Choice::Starts(unknown @ Program::Unknown { .. }) => return Choice::Starts(unknown),
                Choice::Starts(program) => match &found {
                    None => found = Some(program),
                    Some(before) => match both(before, &program).cloned() {
                        Some(same) => found = Some(same),
                        None => return Choice::Starts(program::unknown(DIFFERENT)),
                    },
                },
            }
        }
        match retired::starts_another(view, found.as_ref()) {
            // What none of the others starts has a reason of its own.
            Some(_) if found.is_none() => Choice::unknown(nothing),
            Some(reason) => Choice::unknown(reason),
            None => found.map_or(Choice::Nothing(nothing), Choice::Starts),
        }
    }

    fn runs(&self, shape: Shape, kind: ImageKind, packaging: Packaging) -> bool {
        self.0.iter().any(|runtime| runtime.runs(shape, kind, packaging))
    }

    fn provides(&self, _feature: Feature) -> bool {
        true
    }

    fn hands_over(&self, _kind: ImageKind) -> Handover {
        Handover::Everything
    }

    fn compiler(&self, packaging: Packaging) -> Compiler {
        match packaging {
            Packaging::Layers => Compiler::Shim,
            Packaging::RootFilesystem => Compiler::Container,
        }
    }

    /// Those of all of them.
    fn native_ways(&self) -> Vec<NativeWay> {
        let mut ways = Vec::new();
        for way in self.0.iter().flat_map(|runtime| runtime.native_ways()) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways
    }

    fn reads_layers_inside(&self) -> bool {
        true
    }

    fn sends_telemetry(&self) -> bool {
        true
    }

    fn asks_queues(&self) -> bool {
        true
    }

    fn may_exec_wasm(&self) -> bool {
        true
    }

    /// Those on runwasi's library do not say why, and crun and youki do.
    fn out_of_memory(&self) -> Option<&'static str> {
        Some("which may show as `Error` with exit code 137, and not as `OOMKilled`")
    }

    /// Those on runwasi's library do, so that a person has to hear of it. crun and youki do not.
    fn ignores_resize(&self) -> bool {
        true
    }
}
