//! What a module asks its host for while it runs: the built-in functions that it has no code for, or the wrong one.

use std::time::Instant;

use wasmtime::{AsContextMut, Caller, Linker, Memory, Store, StoreContextMut, Trap};

use super::engine::Stop;
use super::guest::{Broken, Guest};
use super::rewrite::{BY_TEXT, ITERATE, PERHAPS_BY_TEXT};
use super::store::{EvaluationBudget, Exports, WasmHost};
use crate::rego::{Builtin, Failure, VALUE_BYTES, Value};

/// Fuel for a call that reads and writes nothing.
const CALL_FUEL: u64 = 20;
/// Fuel for a value that is read.
const VALUE_FUEL: u64 = 20;
/// Fuel for a byte of a result.
const BYTE_FUEL: u64 = 4;
/// Fuel for a step of a function whose work grows faster than its operands.
const STEP_FUEL: u64 = 50;
/// Fuel that is paid at once: paying has a price of its own, and the clock is looked at then.
const PAID_AT_ONCE: u64 = 100_000;

/// Gives a module what it imports.
pub(super) fn link(linker: &mut Linker<EvaluationBudget>, memory: Memory) -> wasmtime::Result<()> {
    linker.func_wrap("env", "opa_abort", move |caller: Caller<'_, EvaluationBudget>, text: u32| {
        let said = Guest::new(memory.data(&caller)).text(text).map_err(broken)?;
        Err::<(), _>(wasmtime::Error::msg(String::from_utf8_lossy(said).into_owned()))
    })?;
    linker.func_wrap("env", "opa_println", |_: Caller<'_, EvaluationBudget>, _: u32| {})?;
    linker.func_wrap_async("env", "opa_builtin0", |caller, (id, _): (i32, i32)| {
        Box::new(async move { answer(caller, id, []).await })
    })?;
    linker.func_wrap_async("env", "opa_builtin1", |caller, (id, _, a): (i32, i32, u32)| {
        Box::new(async move { answer(caller, id, [a]).await })
    })?;
    linker.func_wrap_async("env", "opa_builtin2", |caller, (id, _, a, b): (i32, i32, u32, u32)| {
        Box::new(async move { answer(caller, id, [a, b]).await })
    })?;
    linker.func_wrap_async(
        "env",
        "opa_builtin3",
        |caller, (id, _, a, b, c): (i32, i32, u32, u32, u32)| {
            Box::new(async move { answer(caller, id, [a, b, c]).await })
        },
    )?;
    linker.func_wrap_async(
        "env",
        "opa_builtin4",
        |caller, (id, _, a, b, c, d): (i32, i32, u32, u32, u32, u32)| {
            Box::new(async move { answer(caller, id, [a, b, c, d]).await })
        },
    )?;
    Ok(())
}

fn broken(_: Broken) -> wasmtime::Error {
    wasmtime::Error::msg("the module hands over bytes that are not a value")
}

/// Answers one call; zero is undefined.
async fn answer<const N: usize>(
    mut caller: Caller<'_, EvaluationBudget>,
    id: i32,
    operands: [u32; N],
) -> wasmtime::Result<u32> {
    let mut store = caller.as_context_mut();
    let exports = store.data().host.exports.clone();
    let exports = exports.ok_or_else(|| wasmtime::Error::msg("the module calls before it is started"))?;
    if let Some(recorded) = &mut store.data_mut().host.recorded {
        recorded.calls.push((id, operands.to_vec()));
    }
    match (id, operands.as_slice()) {
        (ITERATE, [collection, previous]) => return next(&mut store, &exports, *collection, *previous),
        (BY_TEXT, [data, key]) => return by_text(&mut store, &exports, *data, *key),
        (PERHAPS_BY_TEXT, [data, key]) => return without_text(&mut store, &exports, *data, *key),
        _ => {}
    }
    match compute(&mut store, &exports, id, operands)? {
        None => Ok(0),
        Some(Said::Text(text)) => exports.give_text(&mut store, &text).await,
        Some(Said::Written(value)) => exports.give(&mut store, value.as_bytes()).await,
    }
}

/// What a built-in function says.
pub(super) enum Said {
    /// A text.
    Text(String),
    /// Another value, written as the module reads values.
    Written(String),
}

impl Said {
    pub fn of(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            other => Self::Written(other.to_module_text()),
        }
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        let (Self::Text(text) | Self::Written(text)) = self;
        text.len()
    }
}

/// The next item in OPA's order.
fn next(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    collection: u32,
    previous: u32,
) -> wasmtime::Result<u32> {
    paid(store, exports, |guest, host| host.orders.next(guest, collection, previous))
}

/// The item of data that OPA finds by a key of another type; zero for none.
fn by_text(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    data: u32,
    key: u32,
) -> wasmtime::Result<u32> {
    paid(store, exports, |guest, _| guest.item_by_text(data, key))
}

/// Ends the evaluation where there is such an item: OPA may find it or not, and what a rule does not find it may admit.
fn without_text(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    data: u32,
    key: u32,
) -> wasmtime::Result<u32> {
    if by_text(store, exports, data, key)? == 0 {
        return Ok(0);
    }
    Err(wasmtime::Error::msg(
        "it is not known whether OPA finds the item of `data` that a key of another type names: look objects up by texts, as by \
         `format_int(key, 10)`, and arrays by numbers, as by `to_number(key)`",
    ))
}

/// Fuel that is neither used nor owed.
fn fuel_left(store: &mut StoreContextMut<'_, EvaluationBudget>) -> wasmtime::Result<u64> {
    let owed = store.data().host.owed;
    Ok(store.get_fuel()?.saturating_sub(owed))
}

/// How many values may be read: those that there is fuel for, and as many as fit into the memory of a module, since the host holds
/// them all.
fn readable(fuel: u64, budget: &EvaluationBudget) -> usize {
    usize::try_from(fuel / VALUE_FUEL).unwrap_or(usize::MAX).min(budget.limits.memory_bytes / VALUE_BYTES)
}

/// Why a value could not be read.
fn not_read(guest: &Guest<'_>, fuel: u64, budget: &mut EvaluationBudget) -> wasmtime::Error {
    if !guest.is_spent() {
        return broken(Broken);
    }
    if usize::try_from(fuel / VALUE_FUEL).is_ok_and(|values| values <= readable(fuel, budget)) {
        return Trap::OutOfFuel.into();
    }
    budget.out_of_memory = true;
    wasmtime::Error::msg("memory limit")
}

/// The operands of a call, which are paid for.
fn read<const N: usize>(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    operands: [u32; N],
) -> wasmtime::Result<Vec<Value>> {
    paid(store, exports, |guest, _| operands.into_iter().map(|operand| guest.value(operand)).collect())
}

/// What is read in the memory of the module, paid for by the values that were read for it.
fn paid<T>(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    look: impl FnOnce(&mut Guest<'_>, &mut WasmHost) -> Result<T, Broken>,
) -> wasmtime::Result<T> {
    let fuel = fuel_left(store)?;
    let (memory, budget) = exports.memory.data_and_store_mut(&mut *store);
    let mut guest = Guest::within(memory, readable(fuel, budget));
    let found = look(&mut guest, &mut budget.host).map_err(|_| not_read(&guest, fuel, budget))?;
    let read = u64::try_from(guest.read_so_far()).unwrap_or(u64::MAX);
    pay(store, read.saturating_mul(VALUE_FUEL).saturating_add(CALL_FUEL))?;
    Ok(found)
}

/// A value of the module as JSON, read where it stands: a module takes a fifth of an evaluation that refuses to write what it found.
pub(super) fn json(store: &mut Store<EvaluationBudget>, value: u32) -> wasmtime::Result<Vec<u8>> {
    let mut store = store.as_context_mut();
    let exports = store.data().host.exports.clone();
    let exports = exports.ok_or_else(|| wasmtime::Error::msg("the module is not started"))?;
    if let Some(recorded) = &mut store.data_mut().host.recorded {
        recorded.result = value;
    }
    paid(&mut store, &exports, |guest, _| guest.json(value))
}

/// The function that is called for each message of most rules.
pub(super) const JOIN: &str = "concat";

/// What it says of an array of texts, which are joined where they stand; `None` for any other call.
fn joined(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    builtin: Builtin,
    operands: &[u32],
) -> wasmtime::Result<Option<String>> {
    let (JOIN, [separator, parts]) = (builtin.name, operands) else { return Ok(None) };
    let begun = Instant::now();
    let text = paid(store, exports, |guest, _| guest.joined(*separator, *parts))?;
    if let Some(text) = &text {
        store.data_mut().host.spend(builtin.name, begun.elapsed());
        pay(store, u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_mul(BYTE_FUEL))?;
    }
    Ok(text)
}

/// What a built-in function says; `None` for undefined.
fn compute<const N: usize>(
    store: &mut StoreContextMut<'_, EvaluationBudget>,
    exports: &Exports,
    id: i32,
    operands: [u32; N],
) -> wasmtime::Result<Option<Said>> {
    let builtin = store.data().host.functions.get(&id).copied();
    let builtin =
        builtin.ok_or_else(|| wasmtime::Error::msg("the module calls a function that it did not name"))?;
    if let Some(text) = joined(store, exports, builtin, &operands)? {
        return Ok(Some(Said::Text(text)));
    }
    let operands = read(store, exports, operands)?;
    let steps = fuel_left(store)? / STEP_FUEL;
    let host = &mut store.data_mut().host;
    host.call.allow(steps);
    let begun = Instant::now();
    let result = builtin.call(&mut host.call, &operands);
    host.spend(builtin.name, begun.elapsed());
    let (taken, strict) = (host.call.taken(), host.strict);
    if host.call.is_exhausted() {
        return Err(Trap::OutOfFuel.into());
    }
    if host.call.is_late() {
        host.timed_out = true;
        return Err(wasmtime::Error::msg("no time is left"));
    }
    let said = match result {
        Ok(value) => Some(Said::of(value)),
        Err(Failure::Undefined) => None,
        Err(Failure::Error(_)) if !strict => None,
        Err(Failure::Error(reason) | Failure::Halt(reason)) => return Err(wasmtime::Error::msg(reason)),
    };
    let written = said.as_ref().map_or(0, |said| u64::try_from(said.len()).unwrap_or(u64::MAX));
    pay(store, taken.saturating_mul(STEP_FUEL).saturating_add(written.saturating_mul(BYTE_FUEL)))?;
    Ok(said)
}

/// Takes fuel for the host's work, and ends the evaluation where there is none left or no time.
fn pay(store: &mut StoreContextMut<'_, EvaluationBudget>, fuel: u64) -> wasmtime::Result<()> {
    let owed = store.data().host.owed.saturating_add(fuel);
    if owed < PAID_AT_ONCE {
        store.data_mut().host.owed = owed;
        return Ok(());
    }
    store.data_mut().host.owed = 0;
    let left = store.get_fuel()?.checked_sub(owed).ok_or(Trap::OutOfFuel)?;
    store.set_fuel(left)?;
    // Paying starts a new slice, after which the clock would be looked at otherwise.
    if store.data().host.stop.as_ref().is_some_and(Stop::is_due) {
        store.data_mut().host.timed_out = true;
        return Err(wasmtime::Error::msg("no time is left"));
    }
    Ok(())
}
