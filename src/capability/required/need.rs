//! What an import shows.

use crate::capability::{Access, Capability};

/// One capability that an import needs, and the functions that show it; no functions if the interface alone shows it.
#[derive(Debug)]
pub(super) struct Need<'a> {
    pub capability: Capability,
    pub name: Option<String>,
    pub access: Option<Access>,
    /// Whether it can open files, beyond listing and changing them.
    pub opens: bool,
    /// Whether it takes the path of a file, be it that it opens none.
    pub by_path: bool,
    pub interface: &'a str,
    pub functions: Vec<&'a str>,
}

impl<'a> Need<'a> {
    pub const fn new(capability: Capability, interface: &'a str, functions: Vec<&'a str>) -> Self {
        Self { capability, name: None, access: None, opens: false, by_path: false, interface, functions }
    }
}
