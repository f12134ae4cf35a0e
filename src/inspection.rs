//! What every container of a workload really starts: the pod spec's images joined with the facts about them.

use std::sync::Arc;

use serde::Serialize;

use crate::image::{ImageFacts, Program};
use crate::lookup;
use crate::workload::Role;

/// All images of one workload, in the order of [`crate::workload::Workload::images`].
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// One entry per image use.
    pub containers: Vec<Container>,
}

/// One container (or image volume) and what is known about it.
#[derive(Debug, Clone)]
pub struct Container {
    /// The list that it stands in.
    pub role: Role,
    /// Its position in that list.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The image as written in the object that was reviewed.
    pub image: String,
    /// What was found out about the image.
    pub lookup: LookupResult,
}

/// The outcome of a look-up.
#[derive(Debug, Clone)]
pub enum LookupResult {
    /// The image was read.
    Known {
        /// Facts about the image.
        facts: Arc<ImageFacts>,
        /// What this container starts from it.
        program: Program,
    },
    /// The image could not be read.
    Unread {
        /// Why.
        error: Arc<lookup::Error>,
    },
}

/// A one-word summary of a finding, used in records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramClass {
    /// Starts a Wasm program.
    Wasm,
    /// Starts an ordinary program.
    Linux,
    /// Native code in an image that is packed as Wasm.
    Native,
    /// Wasm or not, nobody can tell.
    Unknown,
    /// Not read.
    Unread,
}

impl ProgramClass {
    /// The word in records, metrics and audit annotations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Linux => "linux",
            Self::Native => "native",
            Self::Unknown => "unknown",
            Self::Unread => "unread",
        }
    }
}

impl Container {
    /// The facts and the program, when the image was read.
    pub fn known(&self) -> Option<(&ImageFacts, &Program)> {
        match &self.lookup {
            LookupResult::Known { facts, program } => Some((facts, program)),
            LookupResult::Unread { .. } => None,
        }
    }

    /// Whether it is not known what the container starts: its image was not read, or its program was not recognised. An
    /// image volume starts nothing.
    pub fn is_open(&self) -> bool {
        self.role != Role::ImageVolume
            && self.known().is_none_or(|(_, program)| matches!(program, Program::Unknown { .. }))
    }

    /// Why it is not known what the container starts; `None` where it is.
    pub fn reason(&self) -> Option<String> {
        match &self.lookup {
            LookupResult::Unread { error } => Some(error.to_string()),
            LookupResult::Known { program: Program::Unknown { reason }, .. } => Some(reason.clone()),
            LookupResult::Known { .. } => None,
        }
    }

    /// Summary of the finding.
    pub fn class(&self) -> ProgramClass {
        match &self.lookup {
            LookupResult::Unread { .. } => ProgramClass::Unread,
            LookupResult::Known { program, .. } => match program {
                Program::Wasm { .. } => ProgramClass::Wasm,
                Program::Linux => ProgramClass::Linux,
                Program::Native { .. } => ProgramClass::Native,
                Program::Unknown { .. } => ProgramClass::Unknown,
            },
        }
    }
}

impl Inspection {
    /// Whether any container starts a Wasm program; an image volume starts nothing.
    pub fn has_wasm(&self) -> bool {
        self.containers.iter().any(|c| c.role != Role::ImageVolume && c.class() == ProgramClass::Wasm)
    }
}
