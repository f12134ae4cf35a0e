//! What `docs/operations.md` says of the image, of what a replica needs at its start, and of the pods that are asked for during an upgrade,
//! written from one run: `WASMGATE_WRITE_DOCS=1` with `WASMGATE_TEST_GATE`, a release build of this commit. Any other run holds the page
//! to the words, and one of a release build to the memory as well.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use super::{Installed, Load, Needs, REGISTRY, gate, needs_of, older_gate};
use crate::support::oci::digest;
use crate::support::process::{is_of_this_commit, make, own, root, writes_docs};

const PAGE: &str = "docs/operations.md";

/// The parts of the page.
const IMAGE: &str = "make image";
const REPLICA: &str = "image and replica";
pub(super) const KUSTOMIZE: &str = "upgrade with kustomize";
pub(super) const HELM: &str = "upgrade and drain with Helm";

/// How a part begins that no run has written yet.
const NOT_YET: &str = "Not written by one run yet";

const UPGRADES: [(&str, &[&str]); 2] =
    [(KUSTOMIZE, &["an upgrade"]), (HELM, &["an upgrade", "a drain that has nowhere to go", "a drain"])];

/// Whether the gate of this run is a release build.
fn is_release() -> bool {
    std::env::var_os("WASMGATE_TEST_GATE").is_some() && gate().contains("/release/")
}

/// Whether it is that of this tree, which `make image` packs.
fn is_of_this_tree() -> bool {
    let target = root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
    let built = fs::canonicalize(target.join("release/wasmgate"));
    built.is_ok_and(|built| fs::canonicalize(gate()).is_ok_and(|gate| gate == built))
}

/// Whether this run writes the page.
fn is_written() -> bool {
    if writes_docs() && !is_release() {
        println!("{PAGE} stays as it is: WASMGATE_TEST_GATE names no release build");
    }
    writes_docs() && is_release()
}

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).unwrap()
}

/// The marks around a part.
fn marks(part: &str) -> (String, String) {
    (format!("<!-- recorded: {part} -->\n"), format!("<!-- end of what was recorded: {part} -->\n"))
}

/// What is before a part, the part, and what is behind it.
fn cut<'a>(page: &'a str, part: &str) -> (&'a str, &'a str, &'a str) {
    let (begin, end) = marks(part);
    let (before, rest) = page.split_once(begin.as_str()).unwrap_or_else(|| panic!("no {begin}"));
    let (text, after) = rest.split_once(end.as_str()).unwrap_or_else(|| panic!("no {end}"));
    (before, text, after)
}

fn write(part: &str, text: &str) {
    // Two tests write the same file.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap();
    let (page, (begin, end)) = (page(), marks(part));
    let (before, _, after) = cut(&page, part);
    fs::write(root().join(PAGE), format!("{before}{begin}{text}{end}{after}")).unwrap();
}

/// The commit of this tree, with `-dirty` where the gate may not be built from it: the program does not say its commit. Sources of this tree differ from the commit,
/// or one was changed by a commit after the program had been built.
fn commit() -> String {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    let head = String::from_utf8(git(&["rev-parse", "--short=12", "HEAD"]).stdout).unwrap();
    let sources = ["src", "policies", "manifests", "Cargo.toml", "Cargo.lock"];
    let compared = git(&[&["diff", "--quiet", "HEAD", "--"][..], &sources[..]].concat());
    let last = git(&[&["log", "-1", "--format=%ct", "--"][..], &sources[..]].concat());
    let last: u64 = String::from_utf8(last.stdout).unwrap().trim().parse().unwrap();
    let built = fs::metadata(gate()).unwrap().modified().unwrap();
    let is_of_it = compared.status.success() && built >= UNIX_EPOCH + Duration::from_secs(last);
    format!("{}{}", head.trim(), if is_of_it { "" } else { "-dirty" })
}

/// The commit of the older program, which is in a folder of that name.
fn older_commit() -> Option<String> {
    let chosen = fs::read_to_string(root().join("tools/older/commit")).unwrap();
    let chosen = chosen.trim();
    older_gate().contains(chosen).then(|| chosen.chars().take(12).collect())
}

fn today() -> String {
    jiff::Timestamp::now().to_string().chars().take(10).collect()
}

// === The image, and what a replica of it needs ===

/// KiB of the image as it is pulled, and of it the program, and the C library with the certificates.
type Sizes = [u64; 3];

fn replica_text(commit: &str, day: &str, sizes: Sizes, [one, other]: [Needs; 2]) -> String {
    let [image, program, rest] = sizes;
    let mib = |kib: u64| kib.div_ceil(1024);
    format!(
        "- *Image.* {image} KiB compressed, in two layers: the program {program}, the C library and certificates {rest} (release build of the \
         commit {commit}, {day}). The sizes of images in `make test-node` are larger: it compresses them fast.\n\
         - *A replica at its start.* On the real node of `make test-node` two replicas of that build had {} and {} MiB resident once they \
         were ready, of it {} and {} MiB of their own. They listened {:.1} and {:.1} s after their processes had begun, and were ready {} and \
         {} s after their containers.\n",
        mib(one.resident),
        mib(other.resident),
        mib(one.own),
        mib(other.own),
        one.listens,
        other.listens,
        one.ready,
        other.ready
    )
}

/// Makes the image by the command of the page, for which the release build is there already.
fn made(name: &str) -> Output {
    let program = || digest(&fs::read(gate()).unwrap());
    let ran = program();
    let made = make(&["image", &format!("PUSH={name}")]).output().unwrap();
    assert_eq!(program(), ran, "another program was built than the one that ran in the replicas");
    made
}

/// Packs a program of another tree, of which no commit is known.
fn packed(site: &Installed, name: &str) -> Output {
    println!("`make image` was not run: {} is not the release build of this tree", gate());
    let mut build = own("tools/image/build", &[]);
    build.args(["--binary", &gate(), "--insecure", "--push", name]);
    build.arg("--out").arg(site.folder("recorded/image")).output().unwrap()
}

/// The label and the bill of materials that the page describes.
fn says_what_it_is_made_of(site: &Installed, name: &str) {
    if is_of_this_tree() {
        let revision = site.registry.label(name, "org.opencontainers.image.revision");
        assert!(is_of_this_commit(revision.as_deref()), "{revision:?}");
        let is_clean = !revision.is_some_and(|revision| revision.ends_with("-dirty"));
        assert!(
            is_clean || !is_written(),
            "commit first: the digest on the page is that of a commit's image"
        );
    }
    let attached = site.registry.attached(name);
    assert_eq!(attached.keys().collect::<Vec<_>>(), ["application/vnd.cyclonedx+json"]);
}

/// Makes the image, and writes what that and `oras` print.
fn write_image(site: &Installed) -> Sizes {
    // Not where the images of this test are.
    let name = site.registry.image("recorded/wasmgate:0.1.0");
    let built = if is_of_this_tree() { made(&name) } else { packed(site, &name) };
    let (printed, said) =
        (String::from_utf8(built.stdout).unwrap(), String::from_utf8(built.stderr).unwrap());
    assert!(built.status.success(), "{said}");
    says_what_it_is_made_of(site, &name);
    // Before it, `make` prints its commands.
    let digest = printed.lines().next_back().unwrap();
    let line =
        said.lines().find(|line| line.contains(" KiB compressed ")).unwrap_or_else(|| panic!("{said}"));
    let (_, sizes) = line.split_once(": linux/").unwrap();
    let listed = site.registry.oras(root(), &["discover", "--plain-http", &name]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed = listed.replace(&site.registry.host, REGISTRY).replace("/recorded/", "/platform/");
    let image = format!("{REGISTRY}/platform/wasmgate:0.1.0");
    let text = format!(
        "```console\n$ make image PUSH={image}\n…\n…/target/image: linux/{sizes}\n…/target/image.cdx.json: what it is made of\n…\n{digest}\n\
         $ oras discover {image}\n{}\n```\n",
        listed.trim_end()
    );
    write(IMAGE, &text);
    let numbers = sizes.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    // The first is of the architecture.
    let numbers: Vec<u64> = numbers.skip(1).collect();
    let [all, program, rest] = numbers[..] else { panic!("{sizes}") };
    [all, program, rest]
}

/// Starts both replicas anew, since what they have judged would be in their memory.
fn started_anew(site: &Installed) -> [Needs; 2] {
    site.run("platform", "kubectl rollout restart deployment/wasmgate -n wasmgate-system");
    site.run("platform", "kubectl rollout status deployment/wasmgate -n wasmgate-system");
    let replicas = || site.plane.list(&["pods", "--namespace=wasmgate-system"]);
    let two = site.plane.wait_for("the replicas before to be gone", || {
        let two = replicas();
        (two.len() == 2).then_some(two)
    });
    [needs_of(site, &two[0]), needs_of(site, &two[1])]
}

/// The most that a replica had resident when the page was written, in MiB; `None` where no run has written it.
fn resident_on_the_page() -> Option<u64> {
    let page = page();
    let (_, text, _) = cut(&page, REPLICA);
    let (_, rest) = text.split_once("that build had ")?;
    let (numbers, _) = rest.split_once(" MiB resident")?;
    numbers.split(" and ").filter_map(|number| number.parse().ok()).max()
}

/// With a release build, what its image and a replica of it take: written, or compared with the page.
pub(super) fn what_a_replica_needs(site: &Installed) {
    if !is_release() {
        return;
    }
    let needs = started_anew(site);
    println!("started anew: {needs:?}");
    if is_written() {
        let sizes = write_image(site);
        write(REPLICA, &replica_text(&commit(), &today(), sizes, needs));
        return;
    }
    let most = needs.iter().map(|needs| needs.resident).max().unwrap_or_default() >> 10;
    if let Some(written) = resident_on_the_page() {
        assert!(
            most * 2 <= written * 3,
            "{most} MiB resident, and {PAGE} says {written}; WASMGATE_WRITE_DOCS=1 writes it"
        );
    }
}

// === Upgrades under load ===

fn upgrade_text(part: &str, commits: [&str; 2], day: &str, loads: &[Load]) -> String {
    let [older, newer] = commits;
    let mut text = format!(
        "*{part}*, from a debug build of the commit {older} to a release build of the commit {newer} ({day}):\n\n"
    );
    for load in loads {
        writeln!(text, "- {load}").unwrap();
    }
    text
}

/// Writes what was asked for during an upgrade from a program of another commit.
pub(super) fn upgrades(part: &str, loads: &[Load]) {
    if !is_written() {
        return;
    }
    if let Some(older) = older_commit() {
        write(part, &upgrade_text(part, [&older, &commit()], &today(), loads));
    } else {
        println!(
            "the part `{part}` of {PAGE} stays as it is: WASMGATE_TEST_OLDER_GATE is not what tools/older/build makes"
        );
    }
}

// === The words ===

/// A text with `#` in the place of each number, date and digest.
fn words(text: &str) -> String {
    let with_marks = |word: &str| {
        if word.contains(|c: char| c.is_ascii_digit()) { "#".to_string() } else { word.to_string() }
    };
    let mut all = String::new();
    let mut word = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() {
            word.push(c);
        } else {
            all.push_str(&with_marks(&word));
            all.push(c);
            word.clear();
        }
    }
    all + &with_marks(&word)
}

/// What a run would write with figures of no run.
fn samples() -> Vec<(&'static str, String)> {
    let needs = Needs { resident: 1, own: 1, listens: 0.0, ready: 0 };
    let mut all = vec![(REPLICA, replica_text("0", "0-0-0", [0; 3], [needs; 2]))];
    for (part, done) in UPGRADES {
        let load = |what: &&'static str| Load { what, asked: 0, seconds: 0.0, slowest: 0 };
        let loads: Vec<Load> = done.iter().map(load).collect();
        all.push((part, upgrade_text(part, ["0", "0"], "0-0-0", &loads)));
    }
    all
}

#[test]
fn the_page_has_what_was_recorded_in_the_words_in_which_it_is_written() {
    let page = page();
    for (part, sample) in samples() {
        let (_, text, _) = cut(&page, part);
        if !text.trim_start_matches(['-', ' ', '*']).starts_with(NOT_YET) {
            assert_eq!(words(text), words(&sample), "{part}");
        }
    }
}

#[test]
fn the_page_says_that_the_pods_of_the_load_are_dry_runs_in_the_text_and_at_every_figure() {
    let page = page();
    let (_, tested) = page.split_once("What is tested of this on a real node").unwrap();
    let (text, _) = tested.split_once("\n\n").unwrap();
    assert!(text.contains("clients ask for pods by dry runs (as `--dry-run=server` does"), "{text}");
    for (part, done) in UPGRADES {
        let (_, recorded, _) = cut(&page, part);
        let figures = recorded.lines().filter(|line| line.starts_with("- "));
        let of_dry_runs = figures.filter(|line| line.contains(" pods were asked for by dry runs in "));
        assert!(recorded.starts_with(NOT_YET) || of_dry_runs.count() == done.len(), "{recorded}");
    }
}

/// The block of `make image` and the sizes below *Size* are of one build.
#[test]
fn the_sizes_of_the_image_are_the_same_at_both_places_of_the_page() {
    let page = page();
    let (_, shown, _) = cut(&page, IMAGE);
    let (_, told, _) = cut(&page, REPLICA);
    if told.contains(NOT_YET) {
        return;
    }
    let (_, sizes) = shown.split_once("/target/image: linux/").unwrap();
    let (image, rest) = sizes.split_once(" KiB compressed (program ").unwrap();
    let (program, _) = rest.split_once(',').unwrap();
    let (_, image) = image.split_once(", ").unwrap();
    let same = format!("- *Image.* {image} KiB compressed, in two layers: the program {program}, ");
    assert!(told.starts_with(&same), "{same}\n{told}");
}

#[test]
fn figures_are_no_words_and_all_else_is() {
    assert_eq!(words("12 pods of 918614408260, 0.5 s; 2026-11-30"), "# pods of #, #.# s; #-#-#");
    assert_ne!(words("12 pods"), words("12 nodes"));
}
