//! Memory for what the images of a pod bring to the input of its rules, beyond what is reserved for each container by the bytes of the pod
//! ([`crate::workload::parsed_bytes`]): an image chooses how many variables, hosts and imports it has, and how long their names are. It is reserved once the images
//! are known, and held until the review is decided. A review that waits for it holds no part of it, and one that holds it waits for no other memory.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::ending::Ending;
use super::state::Error;
use crate::image::{ImageFacts, ModuleFacts, Program, SpinComponent};
use crate::inspection::{Container, Inspection};
use crate::shares::{Share, Shares};
use crate::workload::{CONTAINER_BYTES, ENTRY_BYTES, Workload};

const MIB: usize = 1 << 20;

/// Bytes in which the memory is counted.
const UNIT: usize = 1 << 10;

/// The memory, and the most that one review gets of it: some four thousand names. Those of a container that is counted with the pod are some twenty. It is held for as
/// long as the rules take.
pub(super) const HANDED_BYTES: usize = 8 * MIB;

/// How often a name is in memory: in what a container is handed and in what it can do, with its evidence and the grant that it would take, each as it is found, as the text that the rules
/// get, and in the record.
const COPIES: usize = 10;

/// Most bytes of a name that are kept (`capability::Entry`).
const LONGEST: usize = 4096;

static MEMORY: LazyLock<Shares> = LazyLock::new(|| Shares::new(units(HANDED_BYTES)));

/// Memory for what the images of a pod bring. `None` where none is needed, which is so of nearly every pod, and of one that has nothing to do with Wasm. The error is
/// the ending of a review for which there is none.
pub(super) async fn reserve<K>(
    workload: &Workload,
    inspection: &Inspection,
    left: Duration,
    is_concerned: impl FnOnce() -> bool,
) -> Result<Option<Share>, Ending<K>> {
    let found = wanted(&workload.namespace, inspection, left, is_concerned).await;
    found.map_err(|error| Ending::NoMemory { error, is_template: workload.kind.is_template() })
}

async fn wanted(
    namespace: &str,
    inspection: &Inspection,
    left: Duration,
    is_concerned: impl FnOnce() -> bool,
) -> Result<Option<Share>, Error> {
    let bytes = beyond(inspection);
    if bytes == 0 || !is_concerned() {
        return Ok(None);
    }
    take(&MEMORY, namespace, bytes, left).await.map(Some)
}

/// It is waited for no longer than half of what is left to the review, which needs the rest for its rules.
async fn take(memory: &Shares, namespace: &str, bytes: usize, left: Duration) -> Result<Share, Error> {
    if bytes > HANDED_BYTES {
        return Err(Error::ImagesTooLarge { most: HANDED_BYTES / MIB });
    }
    let (namespace, wait): (Arc<str>, Duration) = (namespace.into(), left / 2);
    let share = memory.take_by(&namespace, units(bytes), Instant::now().checked_add(wait));
    timeout(wait, share).await.ok().flatten().ok_or(Error::NoPlace)
}

/// So many bytes in units, rounded up.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// What the images bring beyond what is counted for each container. Stops where it is more than any review gets.
fn beyond(inspection: &Inspection) -> usize {
    let mut sum = 0_usize;
    for (facts, program) in inspection.containers.iter().filter_map(Container::known) {
        sum = sum.saturating_add(brought(facts, program).saturating_sub(CONTAINER_BYTES));
        if sum > HANDED_BYTES {
            break;
        }
    }
    sum
}

/// What an image brings to a container. Stops where that alone is more than any review gets.
fn brought(facts: &ImageFacts, program: &Program) -> usize {
    if matches!(program, Program::Linux) {
        return 0;
    }
    let mut sum = 0_usize;
    for length in lengths(facts, program) {
        sum = sum.saturating_add(ENTRY_BYTES + COPIES * length.min(LONGEST));
        if sum > HANDED_BYTES + CONTAINER_BYTES {
            break;
        }
    }
    sum
}

/// Lengths of the texts that an image brings, each of which becomes an entry or is copied.
fn lengths<'a>(facts: &'a ImageFacts, program: &Program) -> impl Iterator<Item = usize> + use<'a> {
    let modules: Vec<&'a ModuleFacts> = match program {
        Program::Wasm { modules, .. } => facts.modules_at(modules).collect(),
        Program::Unknown { .. } => facts.modules.iter().collect(),
        Program::Linux | Program::Native { .. } => Vec::new(),
    };
    let imports = modules.into_iter().flat_map(|module| &module.imports);
    let imports = imports.map(|import| import.interface.len());
    let handed = facts.spin.iter().flat_map(|app| &app.components).flat_map(names);
    let native = facts.native.iter().map(|code| code.source.len() + code.magic.len());
    let texts = facts.env.iter().chain(&facts.warnings).map(String::len);
    texts.chain(native).chain(handed).chain(imports)
}

/// Lengths of the names that a component is handed, each with that of the component.
fn names(component: &SpinComponent) -> impl Iterator<Item = usize> {
    let SpinComponent { id, env, variables, files, key_value_stores, sqlite_databases, ai_models, .. } =
        component;
    let lists = [env, variables, files, key_value_stores, sqlite_databases, ai_models];
    let texts = lists.into_iter().flatten().map(String::len);
    let hosts = component.allowed_outbound_hosts.iter().map(|host| host.as_str().len());
    texts.chain(hosts).map(|length| length + id.len())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::image::{Digest, ImageKind, Packaging, WasmFormat};
    use crate::inspection::LookupResult;
    use crate::workload::Role;

    const AMPLE: Duration = Duration::from_mins(1);

    /// A pod of so many containers of an image that has so many variables with names of this length.
    fn pod(containers: usize, variables: usize, length: usize) -> Inspection {
        let digest = Digest::of(b"");
        let facts = ImageFacts {
            env: vec!["e".repeat(length); variables],
            modules: vec![ModuleFacts::blank("/app.wasm", WasmFormat::Module)],
            ..ImageFacts::blank(&digest, &digest)
        };
        let facts = Arc::new(facts);
        let modules = vec![0];
        let packaging = Packaging::RootFilesystem;
        let program = Program::Wasm { kind: ImageKind::Module, packaging, modules };
        let container = |index| Container {
            role: Role::Container,
            index,
            name: format!("c{index}"),
            image: "a".into(),
            lookup: LookupResult::Known { facts: Arc::clone(&facts), program: program.clone() },
        };
        Inspection { containers: (0..containers).map(container).collect() }
    }

    #[tokio::test]
    async fn an_ordinary_image_needs_nothing_beside_its_container_and_one_of_long_names_does() {
        assert_eq!(beyond(&pod(50, 15, 20)), 0);
        let found = wanted("shop", &pod(50, 15, 20), Duration::ZERO, || true).await;
        assert!(matches!(found, Ok(None)), "{found:?}");
        let (one, many) = (beyond(&pod(1, 230, 1004)), beyond(&pod(100, 230, 1004)));
        assert!(one > 230 * 1004 * COPIES && one < HANDED_BYTES, "{one}");
        assert!(many > HANDED_BYTES, "{many}");
        let found = wanted("shop", &pod(100, 230, 1004), AMPLE, || true).await;
        assert!(matches!(found, Err(Error::ImagesTooLarge { most: 8 })), "{found:?}");
        let found = wanted("shop", &pod(100, 230, 1004), AMPLE, || false).await;
        assert!(matches!(found, Ok(None)), "it has nothing to do with Wasm: {found:?}");
    }

    #[tokio::test]
    async fn what_the_images_of_all_reviews_bring_is_no_more_than_there_is() {
        let memory = Shares::new(units(HANDED_BYTES));
        let bytes = beyond(&pod(1, 230, 1004));
        let at_once = |namespace: &'static str| take(&memory, namespace, bytes, AMPLE).now_or_never();
        let held: Vec<_> = (0..100).map_while(|_| at_once("evil")).collect();
        assert!(!held.is_empty() && held.len() * bytes <= HANDED_BYTES / 2, "{}", held.len());
        assert!(at_once("shop").is_some_and(|share| share.is_ok()), "half is left to others");
        let late = take(&memory, "evil", HANDED_BYTES, Duration::from_millis(2)).await;
        assert!(matches!(late, Err(Error::NoPlace)), "{late:?}");
        drop(held);
        assert!(at_once("evil").is_some_and(|share| share.is_ok()));
    }
}
