//! What belongs to one instance: the limits on it, what it has used, and the host's side of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use wasmtime::{AsContextMut, Memory, ResourceLimiter, Store, StoreContextMut, Trap, TypedFunc};

use super::Limits;
use super::engine::Stop;
use super::guest::Orders;
use super::values::KEPT_TEXT;
use crate::rego::{Builtin, Call};

/// Fuel between two looks at the clock: about a millisecond.
const SLICE: u64 = 1_000_000;
/// Elements of a table; a compiled policy has one table of a few hundred.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Bytes of the three words of a text in the memory of a module: [`KEPT_TEXT`], the number of its bytes, and their address. Modules have had texts of
/// that kind since OPA 0.27, and `opa_eval` since 0.31.
const TEXT_HEADER: u32 = 12;
/// Bytes that are asked of a module at once, for many texts.
const TEXT_BLOCK: u32 = 16 << 10;
/// Most bytes of a text that shares a block with others.
const SHARING: u32 = 2 << 10;
/// Bytes for texts that an evaluation has from its beginning: those of most refusals are shorter. To ask a module for memory while it runs takes a
/// stack of its own, which the kernel gives and takes back, and so longer than the function that has the text.
const TEXTS_AT_FIRST: u32 = 32 << 10;

/// A store whose code stops at the limits.
pub(super) fn store(engine: &wasmtime::Engine, limits: Limits) -> wasmtime::Result<Store<EvaluationBudget>> {
    let mut store = Store::new(engine, EvaluationBudget::new(limits));
    store.limiter(|budget| budget);
    store.set_fuel(limits.fuel)?;
    store.fuel_async_yield_interval(Some(SLICE))?;
    Ok(store)
}

/// What one instance may use, and whether it asked for more.
#[derive(Debug)]
pub(super) struct EvaluationBudget {
    /// The limits, for messages and for memory.
    pub limits: Limits,
    /// Bytes of linear memory now.
    pub memory: usize,
    /// Whether more memory was asked for than the limit.
    pub out_of_memory: bool,
    /// What the instance calls.
    pub host: WasmHost,
}

impl EvaluationBudget {
    fn new(limits: Limits) -> Self {
        Self { limits, memory: 0, out_of_memory: false, host: WasmHost::default() }
    }

    /// How many bytes behind this address an evaluation has for texts from its beginning: none where its memory is less than usual, so that the least
    /// with which it does is what it uses, or where its input takes much of that.
    pub fn space_for_texts(&self, address: usize) -> u32 {
        let is_ample = self.limits.has_usual_memory() && address <= Limits::default().memory_bytes / 4;
        if is_ample { TEXTS_AT_FIRST } else { 0 }
    }
}

impl ResourceLimiter for EvaluationBudget {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.memory_bytes {
            self.out_of_memory = true;
            // A trap: OPA's allocator would go on with a null pointer where it may.
            return Err(wasmtime::Error::msg("memory limit"));
        }
        self.memory = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

/// Built-in functions by the numbers that a module has for them.
pub(super) type Functions = BTreeMap<i32, Builtin>;

/// What an instance asked of its host.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// The number of each function, and the addresses of its operands.
    pub calls: Vec<(i32, Vec<u32>)>,
    /// The address of the result.
    pub result: u32,
}

/// The host's side of an instance.
#[derive(Debug, Default)]
pub(super) struct WasmHost {
    pub functions: Arc<Functions>,
    pub exports: Option<Arc<Exports>>,
    /// What the calls of one evaluation share.
    pub call: Call,
    /// The orders that were found.
    pub orders: Orders,
    /// Fuel that calls have used and not paid for.
    pub owed: u64,
    /// Whether an error of a built-in function ends the evaluation.
    pub strict: bool,
    /// When the evaluation has to end.
    pub stop: Option<Stop>,
    /// Whether the evaluation ran out of time.
    pub timed_out: bool,
    /// What is asked of it, where a bench wants to know that (`host_work`).
    pub recorded: Option<Recorded>,
    /// How long the calls of each built-in function took in the evaluation.
    spent: Vec<(&'static str, Duration)>,
    /// Where the next text goes.
    texts: TextBlock,
}

/// Memory of a module that the evaluation has for texts.
#[derive(Debug, Default)]
struct TextBlock {
    next: u32,
    left: u32,
}

impl TextBlock {
    /// The address of so many bytes, if there are as many left.
    fn take(&mut self, bytes: u32) -> Option<u32> {
        let place = self.next;
        self.left = self.left.checked_sub(bytes)?;
        self.next = place.saturating_add(bytes);
        Some(place)
    }
}

/// The functions of a module by which it is given a value.
#[derive(Clone)]
pub(super) struct Exports {
    pub memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: TypedFunc<u32, ()>,
    parse: TypedFunc<(u32, u32), u32>,
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exports").finish_non_exhaustive()
    }
}

impl Exports {
    /// Finds them in an instance.
    pub fn of(
        instance: &wasmtime::Instance,
        mut store: impl AsContextMut,
        memory: Memory,
    ) -> wasmtime::Result<Self> {
        Ok(Self {
            memory,
            malloc: instance.get_typed_func(&mut store, "opa_malloc")?,
            free: instance.get_typed_func(&mut store, "opa_free")?,
            parse: instance.get_typed_func(&mut store, "opa_value_parse")?,
        })
    }

    /// Gives the module a value, written as it reads them; its address comes back.
    pub async fn give(
        &self,
        store: &mut StoreContextMut<'_, EvaluationBudget>,
        text: &[u8],
    ) -> wasmtime::Result<u32> {
        let length = u32::try_from(text.len())?;
        let place = self.malloc.call_async(&mut *store, length).await?;
        self.memory.write(&mut *store, usize::try_from(place)?, text)?;
        let value = self.parse.call_async(&mut *store, (place, length)).await?;
        self.free.call_async(&mut *store, place).await?;
        if value == 0 {
            Err(wasmtime::Error::msg("a value is not readable for the module"))
        } else {
            Ok(value)
        }
    }

    /// Gives the module a text, for one evaluation. It is written as the module keeps its own texts: to call the module for each, for memory
    /// and to parse it, takes longer than most functions do.
    pub async fn give_text(
        &self,
        store: &mut StoreContextMut<'_, EvaluationBudget>,
        text: &str,
    ) -> wasmtime::Result<u32> {
        let length = u32::try_from(text.len())?;
        // Each begins at a whole word.
        let bytes = length.saturating_add(TEXT_HEADER.saturating_add(3)) & !3;
        let shared = store.data_mut().host.texts.take(bytes);
        let place = match shared {
            Some(place) => place,
            None if bytes > SHARING => self.malloc.call_async(&mut *store, bytes).await?,
            None => {
                let place = self.malloc.call_async(&mut *store, TEXT_BLOCK).await?;
                let next = place.saturating_add(bytes);
                store.data_mut().host.texts = TextBlock { next, left: TEXT_BLOCK.saturating_sub(bytes) };
                place
            }
        };
        let own = place.saturating_add(TEXT_HEADER);
        let header = [KEPT_TEXT, length, own].map(u32::to_le_bytes);
        self.memory.write(&mut *store, usize::try_from(place)?, header.as_flattened())?;
        self.memory.write(&mut *store, usize::try_from(own)?, text.as_bytes())?;
        Ok(place)
    }
}

impl WasmHost {
    /// What a module may call from now on.
    pub fn serve(&mut self, functions: Arc<Functions>, exports: Exports) {
        (self.functions, self.exports) = (functions, Some(Arc::new(exports)));
    }

    /// Begins an evaluation.
    pub fn begin(&mut self, strict: bool, max_bytes: usize, stop: &Stop) {
        let now = stop.now.unwrap_or_else(Timestamp::now).as_nanosecond();
        self.call.begin(i64::try_from(now).unwrap_or(i64::MAX), max_bytes);
        let due = stop.clone();
        self.call.end_when(move || due.is_due());
        self.orders.clear();
        self.spent.clear();
        // The heap begins anew.
        self.texts = TextBlock::default();
        (self.owed, self.strict, self.timed_out) = (0, strict, false);
        self.stop = Some(stop.clone());
    }

    /// Lets the evaluation have these bytes for texts, which nothing else uses until it ends.
    pub fn keep_for_texts(&mut self, place: u32, bytes: u32) {
        self.texts = TextBlock { next: place, left: bytes };
    }

    /// Notes how long a call of a built-in function took.
    pub fn spend(&mut self, function: &'static str, time: Duration) {
        match self.spent.iter_mut().find(|(known, _)| *known == function) {
            Some((_, spent)) => *spent = spent.saturating_add(time),
            None => self.spent.push((function, time)),
        }
    }

    /// The function whose calls took the longest.
    pub fn longest(&self) -> Option<(&'static str, Duration)> {
        self.spent.iter().copied().max_by_key(|(_, time)| *time)
    }
}

/// What stopped an evaluation, without the frames and types of the machinery.
pub(super) fn describe(error: &wasmtime::Error, budget: &EvaluationBudget) -> String {
    if budget.out_of_memory {
        return format!("it needs more than {} of memory", mebibytes(budget.limits.memory_bytes));
    }
    let cause = error.root_cause();
    match cause.downcast_ref() {
        Some(Trap::OutOfFuel) => format!("it needs more than {} of fuel", budget.limits.fuel),
        _ => cause.to_string(),
    }
}

/// Why one was not done in time.
const TOO_MUCH: &str = "the machine has too much to do";
/// Why one did not begin.
pub(super) const TOO_MANY: &str = "too many evaluations were under way";

/// Whether a message about an evaluation that failed blames the machine: neither the rules nor the input are the reason, and another
/// time it may succeed.
pub fn blames_load(message: &str) -> bool {
    [TOO_MUCH, TOO_MANY].iter().any(|reason| message.ends_with(reason))
}

/// What is said of one that was not done in time: the fuel that it used is within the limit, so no rule is to blame.
pub(super) fn timed_out(limits: Limits) -> String {
    format!("it was not done within {:?}, since {TOO_MUCH}", limits.time)
}

/// How the reason begins where the calls of one function took most of the time.
const MOST_OF_IT: &str = "it was not done in time, most of which the calls of";

/// Whether a message about an evaluation that failed names a function whose calls took too long.
pub fn names_calls(message: &str) -> bool {
    message.contains(MOST_OF_IT)
}

/// What is said of an evaluation that the calls of a function kept from being done in time. `rules` are those that called it last.
pub(super) fn taken_by(function: &str, time: Duration, rules: &str) -> String {
    format!(
        "{MOST_OF_IT} `{function}` took ({} ms){rules}: more time does not mend that; call it on less, or less often \
         (`wasmgate policy bench` measures rules)",
        time.as_millis()
    )
}

fn mebibytes(bytes: usize) -> String {
    format!("{}Mi", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_has_memory_for_texts_from_its_beginning_unless_there_is_less_than_usual() {
        let space = |memory_bytes, address| {
            EvaluationBudget::new(Limits { memory_bytes, ..Limits::default() }).space_for_texts(address)
        };
        let usual = Limits::default().memory_bytes;
        assert_eq!([space(usual, 1 << 20), space(2 * usual, usual / 4)], [TEXTS_AT_FIRST; 2]);
        for (memory_bytes, address) in [(usual, usual / 4 + 1), (usual, usize::MAX), (usual - 1, 0), (1, 0)] {
            assert_eq!(space(memory_bytes, address), 0, "{memory_bytes} {address}");
        }
    }

    #[test]
    fn texts_are_next_to_each_other_in_the_memory_that_is_kept_for_them() {
        let mut host = WasmHost::default();
        assert_eq!(host.texts.take(4), None);
        host.keep_for_texts(1_000, 20);
        let taken = [8, 16, 12, 1].map(|bytes| host.texts.take(bytes));
        assert_eq!(taken, [Some(1_000), None, Some(1_008), None]);
    }
}
