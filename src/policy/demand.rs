//! What a bundle needs at the least. Limits that were lowered under that would refuse every pod, so they are refused when the bundle is
//! loaded.

use serde_json::Value;

use super::engine::Stop;
use super::instance::Instance;
use super::program::CheckedModule;
use super::{Error, ExactDocument, Limits, input};

/// A document as rules get it, of an ordinary pod with one container.
const EXAMPLE: &str = include_str!("../../policies/schema/example.v1alpha1.json");

/// Ordinary pods, as rules get them: one that starts Wasm, and one that starts Linux under a class of Wasm.
pub(super) fn examples() -> Vec<Value> {
    let example: Option<Value> = serde_json::from_str(EXAMPLE).ok();
    let of = |class: &str| {
        let mut document = example.clone()?;
        *document.pointer_mut("/containers/0/class")? = class.into();
        Some(document)
    };
    ["wasm", "linux"].into_iter().filter_map(of).collect()
}

/// An evaluation needs a hundredth more or less fuel, depending on the heap that those before it left.
const MARGIN: u64 = 50;

/// What evaluations have used.
#[derive(Debug, Default)]
struct Used {
    fuel: u64,
    memory_bytes: usize,
}

/// The least memory with which a bundle is checked, whatever the limit is: what it needs is not known before.
pub(super) fn with_usual_memory(limits: Limits) -> Limits {
    Limits { memory_bytes: limits.memory_bytes.max(Limits::default().memory_bytes), ..limits }
}

/// Refuses limits under the usual ones with which the bundle could not judge an ordinary pod, or not run its own cases. Where it could
/// not do that with the usual limits either, they are not to blame.
pub(super) fn check(
    program: &CheckedModule,
    entrypoint: i32,
    limits: Limits,
    stop: &Stop,
) -> Result<(), Error> {
    let usual = Limits::default();
    if limits.fuel >= usual.fuel && limits.memory_bytes >= usual.memory_bytes {
        return Ok(());
    }
    let ample = Limits { fuel: limits.fuel.max(usual.fuel), ..with_usual_memory(limits) };
    // With less than the usual memory, evaluations get none for texts of the host in advance.
    let used = used(program, entrypoint, ample, limits.has_usual_memory(), stop);
    let fuel = used.fuel.saturating_add(used.fuel / MARGIN);
    let (memory, limit) = (u64::try_from(used.memory_bytes), u64::try_from(limits.memory_bytes));
    let (memory, limit) = (memory.unwrap_or(u64::MAX), limit.unwrap_or(u64::MAX));
    let needs = [("policies.fuelLimit", fuel, limits.fuel), ("policies.memoryLimitBytes", memory, limit)];
    match needs.into_iter().find(|(_, least, limit)| least > limit) {
        None => Ok(()),
        Some((field, least, limit)) => {
            Err(Error::RaiseLimit { bundle: program.bundle.name.clone(), field, limit, least })
        }
    }
}

fn used(program: &CheckedModule, entrypoint: i32, limits: Limits, has_space: bool, stop: &Stop) -> Used {
    let mut used = Used::default();
    let unread = program.bundle.unread();
    let example: Option<ExactDocument> = serde_json::from_str(EXAMPLE).ok();
    let inputs = example.iter().chain(program.bundle.cases.iter().map(|case| &case.input));
    for input in inputs.filter_map(|document| input::serialise(document, unread).ok()) {
        // Why it does not start is said where it is started next.
        let Ok(instance) = Instance::start(program, limits, stop) else { break };
        let mut instance = if has_space { instance } else { instance.without_space() };
        used.memory_bytes = used.memory_bytes.max(instance.memory_bytes());
        if instance.evaluate::<Value>(entrypoint, input.get(), limits, stop).is_ok() {
            used.memory_bytes = used.memory_bytes.max(instance.memory_bytes());
            used.fuel = used.fuel.max(instance.fuel_used(limits));
        }
    }
    used
}
