//! The modules and components of a binary: what each defines, how often its parent instantiates it, and by which numbers the
//! others name it.

use super::memory::Needs;
use crate::image::Defined;

/// A nested module or component: its own facts, and how often its parent instantiates it.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) needs: Needs,
    pub(super) defined: Defined,
    pub(super) instances: u64,
    pub(super) children: Vec<usize>,
}

/// The needs of everything that is instantiated; a unit that is never instantiated counts once. A child's number is greater than its
/// parent's, and the first unit is the outermost.
pub(super) fn total(units: &[Unit]) -> Needs {
    let mut totals = vec![Needs::default(); units.len()];
    for (number, unit) in units.iter().enumerate().rev() {
        let whole = unit.children.iter().fold(unit.needs, |sum, child| {
            let times = units.get(*child).map_or(1, |unit| unit.instances.max(1));
            sum.plus(totals.get(*child).copied().unwrap_or_default(), times)
        });
        if let Some(total) = totals.get_mut(number) {
            *total = whole;
        }
    }
    totals.first().copied().unwrap_or_default()
}

/// The most that one of them defines. One that is never instantiated counts too: an engine loads all of them
/// (`wasmtime:crates/wasmtime/src/runtime/component/component.rs`, `Component::from_parts`).
pub(super) fn most_defined(units: &[Unit]) -> Defined {
    units.iter().fold(Defined::default(), |most, unit| most.or_more(unit.defined))
}

/// A module or component that is being read, with its index spaces of modules and components.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) unit: usize,
    pub(super) modules: Vec<Option<usize>>,
    pub(super) components: Vec<Option<usize>>,
}

impl Frame {
    pub(super) fn space(&mut self, core: bool) -> &mut Vec<Option<usize>> {
        if core { &mut self.modules } else { &mut self.components }
    }

    pub(super) fn find(&self, core: bool, index: u32) -> Option<usize> {
        let space = if core { &self.modules } else { &self.components };
        space.get(index as usize).copied().flatten()
    }
}
