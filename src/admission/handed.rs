//! Memory for what the images of a pod bring to the input of its rules, beyond what is reserved for each container by the bytes of the pod
//! ([`crate::workload::parsed_bytes`]): an image chooses how many variables, hosts and imports it has, and how long their names are. It is reserved once the images
//! are known, and held until the review is decided. One that waits for it holds the memory of its object ([`super::memory`]). One that holds it waits for its rules
//! alone: for no other memory, and no look-up of an image that brings any.

use std::iter::{once, repeat_n};
use std::sync::LazyLock;
use std::time::Duration;

use super::ending::Ending;
use super::part::{MIB, Need, Part, Waiters};
use super::state::Error;
use crate::capability::{MAX_OPENED, required};
use crate::image::{ImageFacts, ModuleFacts, Program, SpinComponent, SpinListener};
use crate::inspection::{Container, Inspection};
use crate::shares::Share;
use crate::workload::{CONTAINER_BYTES, ENTRY_BYTES, Workload};

/// The memory, and the most that one review gets of it: some four thousand names. Those of a container that is counted with the pod are some twenty. It is held for as
/// long as the rules take.
pub(super) const HANDED_BYTES: usize = 8 * MIB;

/// How often a name is in memory: in what a container is handed and in what it can do, with its evidence and the grant that it would take, each as it is found, as the text that the rules
/// get, and in the record.
const COPIES: usize = 10;

/// Most bytes of a name that are kept (`capability::Entry`).
const LONGEST: usize = 4096;

/// Most entries that one host of a list becomes: one for each client, where its scheme does not say which.
const CLIENTS: usize = 7;

/// Those that wait for it: each holds a place of the server and its object meanwhile.
const WAITERS: Waiters = Waiters { all: 8 * MIB, of_one: 4 * MIB, least: 128 << 10 };

static MEMORY: LazyLock<Part> = LazyLock::new(|| Part::of(HANDED_BYTES, WAITERS));

/// Memory for what the images of a pod bring, of a review with so much time `left`. `None` where none is needed: of nearly every pod, of one that has nothing to do with
/// Wasm, and under the mutating webhook, which makes no input of rules. The error is the ending of a review for which there is none.
pub(super) async fn reserve<K>(
    is_needed: bool,
    workload: &Workload,
    inspection: &Inspection,
    left: Duration,
) -> Result<Option<Share>, Ending<K>> {
    let bytes = if is_needed { beyond(inspection, &mounts_in(workload)) } else { 0 };
    let found = wanted(&workload.namespace, bytes, left).await;
    found.map_err(|error| Ending::NoMemory { error, is_template: workload.kind.is_template() })
}

/// Whether the images of a pod bring more than is counted for each container, so that no input of rules is made of them without a reservation.
pub(super) fn is_needed(workload: &Workload, inspection: &Inspection) -> bool {
    beyond(inspection, &mounts_in(workload)) > 0
}

async fn wanted(namespace: &str, bytes: usize, left: Duration) -> Result<Option<Share>, Error> {
    if bytes == 0 {
        return Ok(None);
    }
    take(&MEMORY, namespace, bytes, left).await.map(Some)
}

async fn take(memory: &Part, namespace: &str, bytes: usize, left: Duration) -> Result<Share, Error> {
    if bytes > HANDED_BYTES {
        return Err(Error::ImagesTooLarge { most: HANDED_BYTES / MIB });
    }
    memory.take(namespace, Need { bytes, text: 0 }, left).await
}

/// How many mounts a container of a pod has.
fn mounts_in(workload: &Workload) -> impl Fn(&Container) -> usize {
    move |container| workload.container(container.role, container.index).map_or(0, |spec| spec.mounts.len())
}

/// What the images bring beyond what is counted for each container. Stops where it is more than any review gets.
fn beyond(inspection: &Inspection, mounts: &impl Fn(&Container) -> usize) -> usize {
    let mut sum = 0_usize;
    for container in &inspection.containers {
        let Some((facts, program)) = container.known() else { continue };
        let brought = brought(facts, program, mounts(container));
        sum = sum.saturating_add(brought.saturating_sub(CONTAINER_BYTES));
        if sum > HANDED_BYTES {
            break;
        }
    }
    sum
}

/// What an image brings to a container. Stops where that alone is more than any review gets.
fn brought(facts: &ImageFacts, program: &Program, mounts: usize) -> usize {
    if matches!(program, Program::Linux) {
        return 0;
    }
    let mut sum = 0_usize;
    for length in lengths(facts, program, mounts) {
        sum = sum.saturating_add(ENTRY_BYTES + COPIES * length.min(LONGEST));
        if sum > HANDED_BYTES + CONTAINER_BYTES {
            break;
        }
    }
    sum
}

/// Lengths of the texts that an image brings, each of which becomes an entry or is copied.
fn lengths<'a>(
    facts: &'a ImageFacts,
    program: &Program,
    mounts: usize,
) -> impl Iterator<Item = usize> + use<'a> {
    let modules: Vec<&'a ModuleFacts> = match program {
        Program::Wasm { modules, .. } => facts.modules_at(modules).collect(),
        Program::Unknown { .. } => facts.modules.iter().collect(),
        Program::Linux | Program::Native { .. } => Vec::new(),
    };
    let imports = modules.into_iter().flat_map(imported);
    let handed = facts.spin.iter().flat_map(|app| &app.components);
    let handed = handed.flat_map(move |component| names(component, mounts));
    let connected = facts.spin.iter().flat_map(|app| &app.listeners).flat_map(connected);
    let native = facts.native.iter().map(|code| code.source.len() + code.magic.len());
    let texts = facts.env.iter().chain(&facts.warnings).map(String::len);
    texts.chain(native).chain(handed).chain(connected).chain(imports)
}

/// Lengths of what a module imports: of each interface, and of each function that is named by itself.
fn imported(module: &ModuleFacts) -> impl Iterator<Item = usize> {
    let interfaces = module.imports.iter().map(|import| import.interface.len());
    interfaces.chain(required::named_functions(module))
}

/// Lengths of what a trigger connects to and sends there.
fn connected(listener: &SpinListener) -> impl Iterator<Item = usize> {
    once(listener.address.len()).chain(listener.variables.iter().map(String::len))
}

/// Lengths of the names that a component is handed, each with that of the component.
fn names(component: &SpinComponent, mounts: usize) -> impl Iterator<Item = usize> {
    let SpinComponent { id, env, variables, key_value_stores, sqlite_databases, ai_models, .. } = component;
    let lists = [env, variables, key_value_stores, sqlite_databases, ai_models];
    let texts = lists.into_iter().flatten().map(String::len);
    let hosts = component.allowed_outbound_hosts.iter();
    let hosts = hosts.flat_map(|host| repeat_n(host.as_str().len(), clients(host.as_str())));
    texts.chain(hosts).chain(opened(component, mounts)).map(|length| length + id.len())
}

/// How many entries a host becomes, or fewer.
fn clients(host: &str) -> usize {
    if host.starts_with("http://") || host.starts_with("https://") { 1 } else { CLIENTS }
}

/// Lengths of the files that a component opens. A source of a root file system may have every mount of the container in it, so all of them
/// count for each. Which it has is known once its links are followed through the image and the volumes, at each place that it may name. That is
/// a part of the work for which the memory is reserved, a link in a volume may lead to all of them, and a second way to find it would count
/// too few wherever it differs from `capability::ambient`. What is counted in vain is no more than [`MAX_OPENED`] for a component, and refuses no
/// pod with fewer than some four thousand sources times mounts.
fn opened(component: &SpinComponent, mounts: usize) -> impl Iterator<Item = usize> {
    let files = component.files.iter().enumerate();
    let each = move |(number, place): (usize, &String)| {
        let is_source = component.sources.get(number).is_some();
        repeat_n(place.len(), if is_source { mounts.saturating_add(1) } else { 1 })
    };
    files.flat_map(each).take(MAX_OPENED + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;
    use crate::image::{Digest, ImageKind, Import, Packaging, SpinApp, WasmFormat};
    use crate::inspection::LookupResult;
    use crate::workload::Role;

    const AMPLE: Duration = Duration::from_mins(1);

    fn image() -> ImageFacts {
        let digest = Digest::of(b"");
        let modules = vec![ModuleFacts::blank("/app.wasm", WasmFormat::Module)];
        ImageFacts { modules, ..ImageFacts::blank(&digest, &digest) }
    }

    /// A pod of so many containers of an image.
    fn pod_of(containers: usize, facts: ImageFacts) -> Inspection {
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

    /// What a pod brings of so many containers without mounts, of an image that has so many variables with names of this length.
    fn of_variables(containers: usize, variables: usize, length: usize) -> usize {
        let env = vec!["e".repeat(length); variables];
        beyond(&pod_of(containers, ImageFacts { env, ..image() }), &|_| 0)
    }

    #[tokio::test]
    async fn an_ordinary_image_needs_nothing_beside_its_container_and_one_of_long_names_does() {
        let none = of_variables(50, 15, 20);
        assert_eq!(none, 0);
        let found = wanted("shop", none, Duration::ZERO).await;
        assert!(matches!(found, Ok(None)), "{found:?}");
        let (one, many) = (of_variables(1, 230, 1004), of_variables(100, 230, 1004));
        assert!(one > 230 * 1004 * COPIES && one < HANDED_BYTES, "{one}");
        assert!(many > HANDED_BYTES, "{many}");
        let found = wanted("shop", many, AMPLE).await;
        assert!(matches!(found, Err(Error::ImagesTooLarge { most: 8 })), "{found:?}");
    }

    /// What a container brings whose module imports these functions of this interface.
    fn of_import(format: WasmFormat, interface: &str, functions: impl Iterator<Item = String>) -> usize {
        let import = Import { interface: interface.into(), functions: functions.collect() };
        let module = ModuleFacts { imports: vec![import], ..ModuleFacts::blank("/app.wasm", format) };
        beyond(&pod_of(1, ImageFacts { modules: vec![module], ..image() }), &|_| 0)
    }

    #[test]
    fn functions_that_are_not_known_count_each_and_known_ones_do_not() {
        let long = |count: usize| (0..count).map(|number| format!("{number:01000}"));
        let preview1 = "wasi_snapshot_preview1";
        for (format, interface) in [
            (WasmFormat::Module, "env"),
            (WasmFormat::Module, preview1),
            (WasmFormat::Component, "wasi:cli/environment@0.2.6"),
        ] {
            let bytes = of_import(format, interface, long(256));
            assert!(bytes > 256 * 1000 * COPIES, "{interface}: {bytes}");
            assert!(bytes.saturating_mul(100) > HANDED_BYTES, "a hundred containers of it get none: {bytes}");
            let (most, more) =
                (of_import(format, interface, long(257)), of_import(format, interface, long(900)));
            assert_eq!(most, more, "{interface}: no more of an import are kept");
        }
        let known = ["fd_read", "fd_write", "path_open", "sock_accept", "sock_open"].map(String::from);
        assert_eq!(of_import(WasmFormat::Module, preview1, known.into_iter()), 0);
        assert_eq!(of_import(WasmFormat::Module, "wasi_ephemeral_nn", long(256)), 0);
        assert_eq!(of_import(WasmFormat::Component, "wasi:nn/tensor@0.2.0", long(256)), 0);
    }

    #[test]
    fn triggers_and_hosts_count_and_each_source_with_the_mounts_that_it_may_have_in_it() {
        let app = |component: SpinComponent, listeners: Vec<SpinListener>| {
            let spin = SpinApp { components: vec![component], listeners, ..SpinApp::default() };
            pod_of(1, ImageFacts { spin: Some(spin), ..image() })
        };
        let listener = SpinListener {
            trigger: "redis".into(),
            component: None,
            address: "redis://cache".into(),
            variables: vec!["v".repeat(200); 1_000],
            twice: false,
        };
        let bytes = beyond(&app(SpinComponent::default(), vec![listener]), &|_| 0);
        assert!(bytes > 1_000 * 200 * COPIES, "{bytes}");
        let to = |host: &str| {
            let allowed_outbound_hosts = (0..100).map(|_| host.to_owned().into()).collect();
            let component = SpinComponent { allowed_outbound_hosts, ..SpinComponent::default() };
            beyond(&app(component, Vec::new()), &|_| 0)
        };
        assert!(to("*://shop.example:80") > 6 * to("http://shop.example:80"));
        let files = vec!["/a".to_owned(); 40];
        let (plain, linked) = (
            SpinComponent { files: files.clone(), ..SpinComponent::default() },
            SpinComponent { sources: files.clone(), files, ..SpinComponent::default() },
        );
        let with = |component: &SpinComponent, mounts: usize| {
            beyond(&app(component.clone(), Vec::new()), &move |_| mounts)
        };
        assert_eq!(with(&plain, 0), with(&plain, 100));
        assert!(with(&linked, 20) > with(&linked, 0));
        assert_eq!(with(&linked, 100), with(&linked, 1_000), "one entry stands for more of them");
    }

    #[tokio::test]
    async fn what_the_images_of_all_reviews_bring_is_no_more_than_there_is() {
        let memory = Part::of(HANDED_BYTES, WAITERS);
        let bytes = of_variables(1, 230, 1004);
        let at_once = |namespace: &'static str| take(&memory, namespace, bytes, AMPLE).now_or_never();
        let held: Vec<_> = (0..100).map_while(|_| at_once("evil")).collect();
        assert!(!held.is_empty() && held.len() * bytes <= HANDED_BYTES / 2, "{}", held.len());
        assert!(at_once("shop").is_some_and(|share| share.is_ok()), "half is left to others");
        let late = take(&memory, "evil", HANDED_BYTES, Duration::from_millis(2)).await;
        assert!(matches!(late, Err(Error::NoPlace)), "{late:?}");
        drop(held);
        assert!(at_once("evil").is_some_and(|share| share.is_ok()));
    }

    #[tokio::test]
    async fn few_reviews_of_one_namespace_wait_for_it() {
        let memory = Part::of(HANDED_BYTES, WAITERS);
        let _held = take(&memory, "evil", HANDED_BYTES, AMPLE).await.unwrap();
        let mut waiting: Vec<_> =
            (0..100).map(|_| Box::pin(take(&memory, "evil", HANDED_BYTES, AMPLE))).collect();
        let waits: usize = waiting.iter_mut().map(|one| usize::from(one.now_or_never().is_none())).sum();
        assert_eq!(waits, WAITERS.of_one / WAITERS.least);
    }
}
