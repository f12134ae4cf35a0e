//! What the host does for an evaluation, so that a bench can count it: an evaluation has a thread and stacks of its own, where a profiler does not
//! follow it, and the fuel of the rules says what such work costs them and not what it takes.

use std::sync::Arc;

use super::guest::{Broken, Guest, Orders};
use super::host::{JOIN, Said};
use super::outcome::{FoundViolations, ResultSet as _};
use super::rewrite::{BY_TEXT, ITERATE, PERHAPS_BY_TEXT};
use super::store::{Functions, Recorded};
use super::values;
use crate::rego::Call;

/// Where the input is written for. The work does not depend on it.
const PLACE: u32 = 1 << 16;

/// What the host did for one evaluation: it wrote the input as values, answered calls, and read the result. What is left out is to hand results of
/// calls to the module, for which that runs.
#[derive(Debug)]
pub struct HostWork {
    input: String,
    /// The memory at the end of the evaluation, which frees nothing that a rule was given.
    memory: Vec<u8>,
    functions: Arc<Functions>,
    recorded: Recorded,
}

impl HostWork {
    pub(super) fn of(input: String, memory: Vec<u8>, functions: Arc<Functions>, recorded: Recorded) -> Self {
        Self { input, memory, functions, recorded }
    }

    /// How many calls it answered.
    pub fn calls(&self) -> usize {
        self.recorded.calls.len()
    }

    /// Does it again, on this thread. Returns how many violations the result has, and how many bytes the calls say.
    pub fn repeat(&self) -> Result<(usize, usize), String> {
        let broken = |_: Broken| "what was recorded cannot be read again".to_owned();
        values::written(&self.input, PLACE, self.memory.len()).ok_or("the module parses its input itself")?;
        let (mut orders, mut call, mut said) = (Orders::default(), Call::within(self.memory.len()), 0_usize);
        for (id, operands) in &self.recorded.calls {
            let bytes = self.answer((*id, operands.as_slice()), &mut orders, &mut call).map_err(broken)?;
            said = said.saturating_add(bytes);
        }
        let result = Guest::new(&self.memory).json(self.recorded.result).map_err(broken)?;
        let FoundViolations(found) = FoundViolations::read(&result).map_err(|error| error.to_string())?;
        Ok((found?.len(), said))
    }

    /// One call, as `host` answers it. Returns the bytes that it says.
    fn answer(
        &self,
        (id, operands): (i32, &[u32]),
        orders: &mut Orders,
        call: &mut Call,
    ) -> Result<usize, Broken> {
        let mut guest = Guest::new(&self.memory);
        match (id, operands) {
            (ITERATE, [collection, previous]) => {
                return orders.next(&mut guest, *collection, *previous).map(|_| 0);
            }
            (BY_TEXT | PERHAPS_BY_TEXT, [data, key]) => return guest.item_by_text(*data, *key).map(|_| 0),
            _ => {}
        }
        let builtin = self.functions.get(&id).ok_or(Broken)?;
        if let (JOIN, [separator, parts]) = (builtin.name, operands)
            && let Some(text) = guest.joined(*separator, *parts)?
        {
            return Ok(text.len());
        }
        let values = operands.iter().map(|operand| guest.value(*operand)).collect::<Result<Vec<_>, _>>()?;
        Ok(builtin.call(call, &values).map_or(0, |value| Said::of(value).len()))
    }
}
