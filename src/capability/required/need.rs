//! What an import shows.

use crate::capability::{Access, Capability};

/// One capability that an import needs, and the functions that show it; no functions if the interface alone shows it.
#[derive(Debug)]
pub(super) struct Need<'a> {
    pub capability: Capability,
    pub name: Option<String>,
    pub access: Option<Access>,
    /// Whether it can open files, beyond listing and changing them. Of an unknown import: whether it may do all that can be done
    /// with what the program is handed.
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

    /// This need, of a program able to do whatever can be done with what the program is handed.
    pub const fn may_do_anything(mut self) -> Self {
        self.opens = true;
        self.by_path = true;
        self
    }
}
