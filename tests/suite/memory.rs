//! Limits on look-ups: memory that all of them share, and slots that one tenant cannot take from another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wasmgate::image::{Depth, FileClass, ImageFacts, ImageKind};
use wasmgate::lookup::{Error, Inspector, LookupOptions};
use wasmgate::registry::{self, Puller, guard::GuardOptions};

use crate::adverse;
use crate::support::oci::{self, Image, ImageBuilder, fixtures};
use crate::support::process::until;
use crate::support::web::{Web, never, ok};

const AMPLE: Duration = Duration::from_mins(1);
const MIB: usize = 1 << 20;
/// What a Wasm layer of 2 MiB takes: itself, and 32 MiB for the tables of a binary.
const NEEDED: usize = 34 * MIB + (64 << 10);

/// A module of about this many bytes, different for each number.
fn module(number: u8, bytes: usize) -> Vec<u8> {
    let mut module = fixtures::command();
    let mut content = vec![number; bytes];
    content.splice(0..0, [1, b'x']);
    module.push(0);
    let mut length = content.len();
    while length >= 0x80 {
        module.push(0x80 | u8::try_from(length & 0x7f).unwrap());
        length >>= 7;
    }
    module.push(u8::try_from(length).unwrap());
    module.extend(content);
    module
}

/// A layout with this many Spin images of four modules each.
fn spin_images(folder: &Path, images: usize, bytes: usize) {
    let modules: Vec<Vec<u8>> = (0..4).map(|number| module(number, bytes)).collect();
    let modules: Vec<&[u8]> = modules.iter().map(Vec::as_slice).collect();
    for number in 0..images {
        let mut image = ImageBuilder::spin(&fixtures::locked_app(&modules, &json!({})), &modules);
        // A different image with the same layers.
        image.set("annotations", json!({"number": number.to_string()}));
        image.build().write_layout(&folder.join(format!("app{number}")), "v1").unwrap();
    }
}

fn options(folder: &Path, memory: usize) -> LookupOptions {
    LookupOptions {
        layouts: BTreeMap::from([("large.test".into(), folder.into())]),
        memory_bytes: memory as u64,
        lookup_timeout: AMPLE,
        ..LookupOptions::default()
    }
}

async fn look_at_all(inspector: &Inspector, images: usize) -> Vec<Result<ImageKind, Arc<Error>>> {
    let looks = (0..images).map(|number| {
        let inspector = inspector.clone();
        async move {
            let image = format!("large.test/app{number}:v1");
            inspector.inspect(&image, Depth::Config, AMPLE).await.map(|facts| facts.kind)
        }
    });
    futures::future::join_all(looks).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_with_several_layers_share_the_memory_and_all_are_read() {
    let folder = tempfile::tempdir().unwrap();
    spin_images(folder.path(), 12, 2 * MIB);
    // One image alone could take nearly all of it.
    let memory = 5 * NEEDED;
    let inspector = Inspector::new(options(folder.path(), memory)).unwrap();
    for outcome in look_at_all(&inspector, 12).await {
        assert_eq!(outcome.unwrap(), ImageKind::SpinApp);
    }
    let stats = inspector.stats();
    let (held, peak) = (stats.layer_bytes, stats.layer_bytes_peak);
    assert_eq!(held, 0);
    assert!((NEEDED as u64 + 1..=memory as u64).contains(&peak), "{peak} of {memory} bytes");
}

#[tokio::test]
async fn a_layer_that_needs_more_than_the_whole_memory_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    spin_images(folder.path(), 1, 2 * MIB);
    let inspector = Inspector::new(options(folder.path(), 3 * MIB)).unwrap();
    let error = look_at_all(&inspector, 1).await.remove(0).unwrap_err();
    assert!(matches!(error.itself(), Error::ExceedMemory { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("more than the 3145728 bytes that all look-ups share"), "{said}");
    assert!(said.contains("raise `images.memoryBytes`"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_look_up_that_waits_too_long_for_memory_is_reported_and_ends_once_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    spin_images(folder.path(), 1, 2 * MIB);
    let module = module(9, 2 * MIB);
    let image = ImageBuilder::wasm_artifact(&module).build();
    let layer = oci::digest(&module);
    let slow = Web::start(move |_, asked| match asked.line.rsplit_once('/').unwrap().1 {
        name if *name == layer => never(),
        name => ok(image.blobs.get(name).cloned().unwrap_or_else(|| image.manifest.clone())),
    })
    .await;
    let options = LookupOptions {
        lookup_timeout: Duration::from_secs(4),
        read_timeout: AMPLE,
        ..with_registry(&slow, options(folder.path(), NEEDED + NEEDED / 2))
    };
    let inspector = Inspector::new(options).unwrap();
    let (held, image) = (inspector.clone(), slow.image("slow:1"));
    let holds = tokio::spawn(async move { held.inspect(&image, Depth::Config, AMPLE).await });
    until("a layer", async || inspector.stats().layer_bytes > 0).await;
    let image = "large.test/app0:v1";
    let error = inspector.inspect(image, Depth::Config, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error.itself(), Error::WaitForMemory { budget_ms: 300, .. }), "{error}");
    assert!(error.to_string().contains("timed out waiting for memory"), "{error}");
    let error = holds.await.unwrap().unwrap_err();
    assert!(matches!(error.itself(), Error::TimedOut { budget_ms: 4000, .. }), "{error}");
    assert!(error.suggests_wasm(), "its manifest was read: {error}");
    // The waiting look-up began a moment later and may have timed out by now; the memory is free for the next one.
    until("what was held to come back", async || {
        match inspector.inspect(image, Depth::Config, AMPLE).await {
            Err(error) if matches!(error.itself(), Error::TimedOut { .. }) => false,
            facts => facts.unwrap().kind == ImageKind::SpinApp,
        }
    })
    .await;
}

fn with_registry(web: &Web, options: LookupOptions) -> LookupOptions {
    let hosts = vec![web.host.clone()];
    let registries = GuardOptions { allow: hosts.clone(), insecure: hosts, ..GuardOptions::default() };
    LookupOptions { registries, ..options }
}

fn of(namespace: &str) -> Puller {
    Puller { namespace: namespace.into(), pull_secrets: Vec::new(), service_account: "default".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_requests_of_one_tenant_do_not_lock_others_out_of_a_registry() {
    let web = Web::start(
        |_, asked| if asked.line.contains("/slow") { never() } else { (404, String::new(), vec![]) },
    );
    let web = web.await;
    let options = LookupOptions {
        concurrent_lookups: 1,
        lookup_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(1),
        ..with_registry(&web, LookupOptions::default())
    };
    let inspector = Inspector::new(options).unwrap();
    let ask = |namespace: &'static str, name: String| {
        let (inspector, image) = (inspector.clone(), web.image(&name));
        async move { inspector.inspect_for(&image, Depth::Config, AMPLE, &of(namespace)).await.unwrap_err() }
    };
    let is_answered = |error: &Error| matches!(error, Error::Fetch(registry::Error::FindImage { .. }));
    let hanging: Vec<_> =
        (0..12).map(|number| tokio::spawn(ask("evil", format!("slow/app{number}:1")))).collect();
    until("requests that hang", async || web.asked().len() >= 8).await;
    let error = ask("shop", "shop/app:1".into()).await;
    assert!(is_answered(&error), "while twelve hang: {error}");
    for error in futures::future::join_all(hanging).await {
        assert!(!is_answered(&error.unwrap()));
    }
    let error = ask("evil", "slow/app0:1".into()).await;
    assert!(!is_answered(&error), "{error}");
    let error = ask("shop", "slow-and-ours:1".into());
    let (mine, error) = tokio::join!(ask("shop", "shop/other:1".into()), error);
    assert!(is_answered(&mine), "after twelve hung: {mine}");
    assert!(!is_answered(&error), "what hangs for all hangs for this one too: {error}");
    let error = ask("evil", "quick/app:1".into()).await;
    assert!(is_answered(&error), "another repository of the same tenant: {error}");
}

/// Set for a process that only looks images up, to the folder that they are in.
const ALONE: &str = "WASMGATE_TEST_LOOKUP_FOLDER";

/// The most memory that this process ever had, in bytes (`proc_pid_status(5)`, `VmHWM`).
fn peak_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Runs a test in a process of its own, with images that this one has written. There it gets their folder.
fn alone(name: &str, write: impl FnOnce(&Path)) -> Option<String> {
    if let Ok(folder) = std::env::var(ALONE) {
        return Some(folder);
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    // Freed memory is returned at once, so that the measurement shows what is held, not what glibc keeps.
    alone.envs([("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_ARENA_MAX", "1")]);
    let output = alone.args(["--exact", name, "--nocapture"]).env(ALONE, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    print!("{said}");
    None
}

/// Images with about as many entries, and bytes of paths, as are read of one: links that all lead to the program.
fn many_links(folder: &Path, images: usize) {
    let mut tar = tar::Builder::new(Vec::new());
    let target = format!("{}../app.wasm", "./".repeat(22));
    for number in 0..190_000 {
        link(&mut tar, &format!("d/{number:060}"), &target);
    }
    write_rootfs(folder, images, tar);
}

/// An image with links of which every one leads to a path of its own, as long as a path can be, through a link that all share.
fn long_ends(folder: &Path, images: usize) {
    let mut tar = tar::Builder::new(Vec::new());
    link(&mut tar, "far", &format!("/{}", format!("{}/", "x".repeat(250)).repeat(15)));
    for number in 0..60_000 {
        link(&mut tar, &format!("d/{number}"), &format!("/far/{number}"));
    }
    write_rootfs(folder, images, tar);
}

/// An index of ordinary images whose platforms have no name in common, each with so many links to a target.
fn platforms(folder: &Path, platforms: &[(&str, usize)], target: &str) {
    let of_platform = |(platform, links): &(&str, usize)| {
        let mut tar = tar::Builder::new(Vec::new());
        for name in 0..*links {
            link(&mut tar, &format!("{platform}/{name:060}"), target);
        }
        let mut image = ImageBuilder::rootfs(platform, &["/bin/app"]);
        let links = oci::gzip(&tar.into_inner().unwrap());
        image.files(&[("bin/app", b"\x7fELF....")]).layer(oci::GZIP_LAYER, links);
        image.build()
    };
    let images: Vec<Image> = platforms.iter().map(of_platform).collect();
    let entries: Vec<(&str, &Image)> = platforms.iter().map(|(platform, _)| *platform).zip(&images).collect();
    Image::index(&entries).write_layout(&folder.join("app0"), "v1").unwrap();
}

const PLATFORMS: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", "linux/riscv64"];

/// A target of usual length that leads to the program.
fn to_program() -> String {
    format!("{}../../bin/app", "./".repeat(22))
}

fn link(tar: &mut tar::Builder<Vec<u8>>, name: &str, target: &str) {
    tar.append_link(&mut oci::tar_header(tar::EntryType::Symlink, 0o777, 0), name, target).unwrap();
}

fn write_rootfs(folder: &Path, images: usize, tar: tar::Builder<Vec<u8>>) {
    let links = oci::gzip(&tar.into_inner().unwrap());
    for number in 0..images {
        let mut image = ImageBuilder::rootfs("linux/amd64", &["/app.wasm"]);
        image.files(&[("app.wasm", &fixtures::command())]).layer(oci::GZIP_LAYER, links.clone());
        image.set("annotations", json!({"number": number.to_string()}));
        image.build().write_layout(&folder.join(format!("app{number}")), "v1").unwrap();
    }
}

/// How much a process grows that looks these images up at once, with six look-ups at a time, of which two may read files.
async fn grown_by(folder: &str, images: usize) -> u64 {
    let options = LookupOptions {
        concurrent_lookups: 6,
        facts_bytes: 16 * MIB as u64,
        lookup_timeout: 10 * AMPLE,
        ..options(Path::new(folder), 768 * MIB)
    };
    let inspector = Inspector::new(options).unwrap();
    let before = peak_resident();
    let looks = (0..images).map(|number| {
        let inspector = inspector.clone();
        let look = async move {
            let image = format!("large.test/app{number}:v1");
            inspector.inspect(&image, Depth::Layers, 10 * AMPLE).await.map(|facts| facts.files.len())
        };
        tokio::spawn(look)
    });
    for files in futures::future::join_all(looks).await {
        assert!(files.unwrap().unwrap() > 50_000);
    }
    peak_resident() - before
}

/// What `docs/operations.md` says under "Memory" of the names of all files of an image.
pub const OF_TREE: usize = 112 * MIB;
/// The same with what else a look-up of such an image takes here.
const OF_NAMES: usize = OF_TREE + 16 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_all_files_of_images_take_a_bounded_amount_of_memory() {
    let name = "memory::the_names_of_all_files_of_images_take_a_bounded_amount_of_memory";
    let Some(folder) = alone(name, |folder| many_links(folder, 4)) else { return };
    let grown = grown_by(&folder, 4).await;
    println!("four images of 190000 links: grown by {grown}");
    assert!(grown < 2 * OF_NAMES as u64, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_all_platforms_of_an_index_take_no_more_memory_than_those_of_one_image() {
    let name = "memory::the_names_of_all_platforms_of_an_index_take_no_more_memory_than_those_of_one_image";
    // Together nearly as many as are kept of an index.
    let write = |folder: &Path| platforms(folder, &PLATFORMS.map(|name| (name, 15_000_usize)), &to_program());
    let Some(folder) = alone(name, write) else { return };
    let grown = grown_by(&folder, 1).await;
    println!("an index of five platforms with 75000 links together: grown by {grown}");
    assert!(grown < OF_NAMES as u64, "{grown} bytes");
}

/// What a look-up of the only image says, and how much the process grows by it.
async fn looked_at(folder: &str) -> (Result<Arc<ImageFacts>, Arc<Error>>, u64) {
    let options = LookupOptions { lookup_timeout: 10 * AMPLE, ..options(Path::new(folder), 768 * MIB) };
    let inspector = Inspector::new(options).unwrap();
    let before = peak_resident();
    let outcome = inspector.inspect("large.test/app0:v1", Depth::Layers, 10 * AMPLE).await;
    (outcome, peak_resident() - before)
}

/// The only image is refused with these words, and the process does not grow by so many bytes.
async fn is_refused_within(folder: &str, what: &str, words: &str, bytes: usize) {
    let (outcome, grown) = looked_at(folder).await;
    let said = outcome.unwrap_err().to_string();
    println!("{what}: grown by {grown}");
    assert!(said.contains(words), "{said}");
    assert!(grown < bytes as u64, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_image_is_read_beside_what_is_kept_of_another_platform() {
    let name = "memory::the_largest_image_is_read_beside_what_is_kept_of_another_platform";
    let write = |folder: &Path| {
        platforms(folder, &[("linux/amd64", 85_000), ("linux/arm64", 190_000)], &to_program());
    };
    let Some(folder) = alone(name, write) else { return };
    let what = "85000 links of one platform, and then 190000 of another";
    let words = "links of its platforms together have more than 100000 names";
    is_refused_within(&folder, what, words, OF_NAMES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_links_of_all_platforms_of_an_index_lead_takes_a_bounded_amount_of_memory() {
    let name = "memory::where_the_links_of_all_platforms_of_an_index_lead_takes_a_bounded_amount_of_memory";
    let target = format!("/{}", format!("{}/", "x".repeat(250)).repeat(15));
    let others = ["linux/a", "linux/b", "linux/c"];
    let all: Vec<(&str, usize)> = PLATFORMS.into_iter().chain(others).map(|name| (name, 3_000)).collect();
    let Some(folder) = alone(name, |folder| platforms(folder, &all, &target)) else { return };
    let what = "eight platforms with 3000 links to long paths each";
    let words = "bytes of paths and targets; push the program as a Wasm layer";
    is_refused_within(&folder, what, words, OF_NAMES / 2).await;
}

/// A layer that removes so many files, none of which is there, by the longest paths.
fn many_whiteouts(folder: &Path) {
    let above = format!("{}/", "d".repeat(250)).repeat(15);
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..12_000 {
        let mut header = oci::tar_header(tar::EntryType::Regular, 0o644, 0);
        tar.append_data(&mut header, format!("{above}.wh.{number}"), std::io::empty()).unwrap();
    }
    write_rootfs(folder, 1, tar);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_layer_removes_takes_no_more_memory_than_what_is_there() {
    let name = "memory::what_a_layer_removes_takes_no_more_memory_than_what_is_there";
    let Some(folder) = alone(name, many_whiteouts) else { return };
    let words = "their paths and targets have more than";
    is_refused_within(&folder, "12000 whiteouts of 3800 bytes", words, OF_NAMES / 2).await;
}

/// An image with a module that has nearly as many names as one may, hard links to it, and perhaps another file.
fn module_with_names(folder: &Path, links: usize, start: &str, beside: &[(&str, &[u8])]) {
    let exports: Vec<String> =
        (0..3_700).map(|number| format!(r#"(export "{number:01000}" (func 0))"#)).collect();
    let module = fixtures::wat(&format!(r#"(module (func) (func (export "_start")) {})"#, exports.concat()));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [("app.wasm", module.as_slice())].iter().chain(beside) {
        let mut header = oci::tar_header(tar::EntryType::Regular, 0o755, content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    for number in 0..links {
        let mut header = oci::tar_header(tar::EntryType::Link, 0o755, 0);
        tar.append_link(&mut header, format!("{number}.wasm"), "app.wasm").unwrap();
    }
    let mut image = ImageBuilder::rootfs("linux/amd64", &[start]);
    image.layer(oci::GZIP_LAYER, oci::gzip(&tar.into_inner().unwrap()));
    image.build().write_layout(&folder.join("app0"), "v1").unwrap();
}

/// What the names of one module take, with all that reading it takes. A hundred copies of them take 400 MiB.
const OF_MODULE: usize = 96 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_links_to_a_module_take_a_bounded_amount_of_memory() {
    let name = "memory::hard_links_to_a_module_take_a_bounded_amount_of_memory";
    let write = |folder: &Path| module_with_names(folder, 127, "/app.wasm", &[]);
    let Some(folder) = alone(name, write) else { return };
    let what = "127 hard links to a module of 3700 names";
    is_refused_within(&folder, what, "import and export take more than 8 MiB of memory", OF_MODULE).await;
}

/// A `spin.toml` with a hundred components of one module.
fn components() -> String {
    let component = |number: usize| {
        format!(
            "[[trigger.http]]\nroute = \"/{number}\"\ncomponent = \"c{number}\"\n[component.c{number}]\nsource = \"app.wasm\"\n"
        )
    };
    let components: Vec<String> = (0..100).map(component).collect();
    format!("spin_manifest_version = 2\n[application]\nname = \"shop\"\n{}", components.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_components_of_a_manifest_that_run_one_module_take_a_bounded_amount_of_memory() {
    let name = "memory::the_components_of_a_manifest_that_run_one_module_take_a_bounded_amount_of_memory";
    let write = |folder: &Path| {
        module_with_names(folder, 0, "/", &[("spin.toml", components().as_bytes())]);
    };
    let Some(folder) = alone(name, write) else { return };
    let (outcome, grown) = looked_at(&folder).await;
    let facts = outcome.unwrap();
    println!("a hundred components that run a module of 3700 names: grown by {grown}");
    let manifest = facts.files.iter().find(|(name, _)| name == "/spin.toml").map(|(_, class)| class);
    assert!(
        matches!(manifest, Some(FileClass::Unreadable { message }) if message.contains("take more than 8 MiB")),
        "{manifest:?}"
    );
    assert!(grown < OF_MODULE as u64, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_links_lead_takes_no_more_memory_than_their_names() {
    let name = "memory::where_links_lead_takes_no_more_memory_than_their_names";
    let Some(folder) = alone(name, |folder| long_ends(folder, 1)) else { return };
    let grown = grown_by(&folder, 1).await;
    println!("an image of 60000 links to long paths: grown by {grown}");
    assert!(grown < (OF_NAMES / 2) as u64, "{grown} bytes");
}

/// Spin images of four modules with so many imports that the tables of each take nearly all that they may.
fn many_imports(folder: &Path, images: usize) {
    for image in 0..images {
        let modules: Vec<Vec<u8>> =
            (0..4).map(|number| adverse::imports_from(image * 4 + number, 31_000)).collect();
        let modules: Vec<&[u8]> = modules.iter().map(Vec::as_slice).collect();
        let image_of = ImageBuilder::spin(&fixtures::locked_app(&modules, &json!({})), &modules).build();
        image_of.write_layout(&folder.join(format!("app{image}")), "v1").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_modules_of_spin_images_that_are_parsed_at_once_take_what_is_reserved_for_them() {
    const IMAGES: usize = 6;
    let memory = 4 * NEEDED;
    let name = "memory::the_modules_of_spin_images_that_are_parsed_at_once_take_what_is_reserved_for_them";
    let Some(folder) = alone(name, |folder| many_imports(folder, IMAGES)) else { return };
    let inspector = Inspector::new(options(Path::new(&folder), memory)).unwrap();
    let before = peak_resident();
    for outcome in look_at_all(&inspector, IMAGES).await {
        let said = outcome.unwrap_err().to_string();
        assert!(said.contains("the names of its imports and exports take more than 4 MiB"), "{said}");
    }
    let grown = peak_resident() - before;
    println!("24 modules of 31000 imports, {memory} bytes for them: grown by {grown}");
    assert!(grown < memory as u64, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_looks_up_large_images_stays_within_its_memory_limit() {
    const IMAGES: usize = 12;
    const LAYER: usize = 8 * MIB;
    const MEMORY: usize = 64 * MIB;
    let name = "memory::a_process_that_looks_up_large_images_stays_within_its_memory_limit";
    let Some(folder) = alone(name, |folder| spin_images(folder, IMAGES, LAYER)) else { return };
    let inspector = Inspector::new(options(Path::new(&folder), MEMORY)).unwrap();
    let before = peak_resident();
    for outcome in look_at_all(&inspector, IMAGES).await {
        assert_eq!(outcome.unwrap(), ImageKind::SpinApp);
    }
    let grown = peak_resident() - before;
    let together = IMAGES * 4 * LAYER;
    println!("{together} bytes of layers at once, {MEMORY} bytes for them: grown by {grown}");
    assert!(grown < (MEMORY + MEMORY / 2) as u64, "{grown} bytes");
}
