//! The gate's own image, as `make image` builds it without Docker.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::oci::digest;
use crate::support::process::{is_of_this_commit, make, own, program, root};
use crate::support::registry::Registry;

/// A program of every Linux that is linked as the gate is, and packs in no time.
const SHELL: &str = "/bin/sh";

/// The type of what is attached to an image.
const BILL_OF_MATERIALS: &str = "application/vnd.cyclonedx+json";

fn build(binary: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = own("tools/image/build", &["--binary".as_ref(), binary.as_ref(), "--no-sbom".as_ref()]);
    command.arg("--out").arg(out).args(more).output().unwrap()
}

/// The same by a person whose new files get other mode bits.
fn built_under(umask: &str, out: &Path) -> String {
    let script = format!("umask {umask}; exec \"$0\" --binary {SHELL} --no-sbom --out \"$1\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(root().join("tools/image/build")).arg(out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn built(binary: &str, out: &Path, more: &[&str]) -> String {
    let output = build(binary, out, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn blob(layout: &Path, digest: &Value) -> Vec<u8> {
    let name = digest.as_str().unwrap().trim_start_matches("sha256:");
    fs::read(layout.join("blobs/sha256").join(name)).unwrap()
}

fn document(layout: &Path, digest: &Value) -> Value {
    serde_json::from_slice(&blob(layout, digest)).unwrap()
}

/// The manifest and the config.
fn documents(layout: &Path) -> (Value, Value) {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = document(layout, &index["manifests"][0]["digest"]);
    let config = document(layout, &manifest["config"]["digest"]);
    (manifest, config)
}

/// Every file with its mode and owner.
fn entries(manifest: &Value, layout: &Path) -> BTreeMap<PathBuf, (u32, u64, u64)> {
    let mut found = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let bytes = blob(layout, &layer["digest"]);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            let about = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
            found.insert(entry.path().unwrap().to_path_buf(), about);
        }
    }
    found
}

fn unpack(manifest: &Value, layout: &Path, folder: &Path) {
    for layer in manifest["layers"].as_array().unwrap() {
        let bytes = blob(layout, &layer["digest"]);
        tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice())).unpack(folder).unwrap();
    }
}

#[test]
fn the_same_program_makes_the_same_image_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    assert_eq!(built(SHELL, &one, &[]), built(SHELL, &other, &[]));
    let again = built(SHELL, &one, &[]);
    assert_eq!(again, built(SHELL, &other, &[]), "over a layout that is there");
}

#[test]
fn who_builds_the_image_does_not_show_and_its_user_may_read_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
    assert_eq!(built_under("000", &open), built_under("077", &closed));
    let (manifest, _) = documents(&closed);
    for (path, (mode, ..)) in entries(&manifest, &closed) {
        assert_eq!(mode & 0o444, 0o444, "{path:?} cannot be read by user 65532: {mode:o}");
    }
}

#[test]
fn a_program_that_is_too_large_for_a_release_is_refused_unless_any_size_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (large, layout) = (folder.path().join("large"), folder.path().join("image"));
    // What follows the program counts, and does not shrink.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes = fs::read(SHELL).unwrap();
    bytes.extend(noise.take(30_100_000 / 8).flatten());
    fs::write(&large, bytes).unwrap();
    fs::set_permissions(&large, fs::metadata(SHELL).unwrap().permissions()).unwrap();
    let refused = build(large.to_str().unwrap(), &layout, &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{said}");
    assert!(said.contains("are more than 30000000; pack a release build"), "{said}");
    assert!(!layout.exists());
    built(large.to_str().unwrap(), &layout, &["--any-size"]);
}

#[test]
fn the_image_says_what_it_is_and_runs_as_a_user_without_rights() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    let said = built(SHELL, &layout, &[]);
    let (manifest, config) = documents(&layout);
    let labels = &config["config"]["Labels"];
    assert_eq!(labels, &manifest["annotations"]);
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
    assert_eq!(labels["org.opencontainers.image.source"], env!("CARGO_PKG_REPOSITORY"));
    let revision = &labels["org.opencontainers.image.revision"];
    assert!(revision.is_null(), "of which commit another program is, is not known: {revision}");
    assert_eq!(config["config"]["User"], "65532:65532");
    let kept = layout.join("blobs/sha256").join(said.trim_start_matches("sha256:"));
    assert_eq!(said, digest(&fs::read(kept).unwrap()), "it prints the digest of the manifest");
    let unpacked: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| {
            let mut plain = Vec::new();
            let bytes = blob(&layout, &layer["digest"]);
            flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
            digest(&plain)
        })
        .collect();
    assert_eq!(config["rootfs"]["diff_ids"], json!(unpacked));
    assert_eq!(unpacked.len(), 2, "what it is linked with, and the program");
    for (path, (mode, user, group)) in entries(&manifest, &layout) {
        assert_eq!((user, group), (0, 0), "{path:?} belongs to another than root");
        assert_eq!(mode & 0o7022, 0, "{path:?} can be written by others: {mode:o}");
    }
}

#[test]
fn the_gate_runs_on_what_the_image_holds_and_nothing_else_and_its_bill_of_materials_lists_that() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("image");
    let gate = env!("CARGO_BIN_EXE_wasmgate");
    let mut build = own("tools/image/build", &["--binary".as_ref(), gate.as_ref(), "--any-size".as_ref()]);
    let output = build.arg("--out").arg(&layout).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill = fs::read(layout.with_extension("cdx.json")).unwrap();
    lists_what_is_beside_the_program(&serde_json::from_slice(&bill).unwrap(), &layout);
    let (manifest, config) = documents(&layout);
    let inside = folder.path().join("root");
    unpack(&manifest, &layout, &inside);
    let program = config["config"]["Entrypoint"][0].as_str().unwrap().trim_start_matches('/');
    let command = loader(&inside, &inside.join(program));
    let mut version = command("--list");
    let linked = String::from_utf8(version.output().unwrap().stdout).unwrap();
    let outside = |line: &&str| line.contains('/') && !line.contains(inside.to_str().unwrap());
    assert_eq!(linked.lines().filter(outside).collect::<Vec<_>>(), Vec::<&str>::new(), "{linked}");
    let said = command("").arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).split_whitespace().next(), Some("wasmgate"), "{said:?}");
    let certificates = fs::read_to_string(inside.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(certificates.matches("BEGIN CERTIFICATE").count() > 50, "registries are asked over TLS");
}

/// Of each file of the first layer a bill of materials has one component: the package of Debian that brought it, or the file by its
/// digest.
fn lists_what_is_beside_the_program(bill: &Value, layout: &Path) {
    let (manifest, _) = documents(layout);
    let bytes = blob(layout, &manifest["layers"][0]["digest"]);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let components = bill["components"].as_array().unwrap();
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = format!("/{}", entry.path().unwrap().display());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let sha256 = digest(&content).trim_start_matches("sha256:").to_string();
        let is_it = |component: &&Value| {
            let mut places = component["evidence"]["occurrences"].as_array().into_iter().flatten();
            let of_package = places.any(|place| place["location"] == path.as_str());
            let by_itself = component["type"] == "file" && component["name"] == path.as_str();
            of_package || (by_itself && component["hashes"][0]["content"] == sha256.as_str())
        };
        let found: Vec<&Value> = components.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{path} in {components:?}");
        let is_library = path.contains(".so");
        if is_library && Path::new("/var/lib/dpkg/status").exists() {
            let (purl, version) = (found[0]["purl"].as_str().unwrap(), found[0]["version"].as_str().unwrap());
            assert!(purl.starts_with("pkg:deb/") && !version.is_empty(), "{path}: {}", found[0]);
        }
        files.push(path);
    }
    assert!(files.iter().any(|path| path.contains("/libc.so")), "{files:?}");
    assert!(files.iter().any(|path| path == "/etc/ssl/certs/ca-certificates.crt"), "{files:?}");
}

/// The command of the manual, as far as `make` says what it would do.
#[test]
fn make_image_builds_a_release_and_pushes_its_image_where_the_manual_says() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let line = manual.lines().find_map(|line| line.strip_prefix("make image ")).unwrap();
    let place = line.split_whitespace().next().unwrap();
    let output = make(&["--dry-run", "CARGO=cargo", "image", place]).output().unwrap();
    let place = place.strip_prefix("PUSH=").unwrap();
    let steps = format!("cargo build --locked --release\ntools/image/build --push {place}\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), steps, "{output:?}");
}

/// A cargo that does not build.
fn cargo_that_does_not_build(folder: &Path) -> PathBuf {
    let path = folder.join("cargo");
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = build ] || exec '{cargo}' \"$@\"\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The command of the manual where the release build is there already, in a target folder of its own.
#[test]
fn make_image_pushes_the_release_build_with_a_label_of_the_commit_and_a_bill_of_materials() {
    let (registry, folder) = (Registry::start(), tempfile::tempdir().unwrap());
    let target = folder.path().join("target");
    fs::create_dir_all(target.join("release")).unwrap();
    fs::copy(SHELL, target.join("release/wasmgate")).unwrap();
    let cargo = format!("CARGO={}", cargo_that_does_not_build(folder.path()).display());
    let place = registry.image("platform/wasmgate:0.1.0");
    let push = format!("PUSH={place} --out {}", folder.path().join("image").display());
    let output = make(&[&cargo, "image", &push]).env("CARGO_TARGET_DIR", &target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let named = registry.image(&format!("platform/wasmgate@{}", printed.lines().next_back().unwrap()));
    let revision = registry.label(&named, "org.opencontainers.image.revision");
    assert!(is_of_this_commit(revision.as_deref()), "{revision:?}");
    assert_eq!(registry.attached(&named).keys().collect::<Vec<_>>(), [BILL_OF_MATERIALS]);
}

/// The numbers of KiB behind these words.
fn kib_behind(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no `{words}` in the manual"));
    // The prose groups digits.
    let digits = rest.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == ' ');
    digits.filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// The output that is pasted under "Install", and the prose under "Size".
#[test]
fn the_manual_says_of_one_release_image_how_large_it_and_its_layers_are_and_that_it_may_be_pushed() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, size) = manual.split_once("\n- *Image.*").unwrap();
    let pasted = [": linux/amd64, ", "(program ", "libraries and certificates "];
    let prose = ["", "the program", "certificates"];
    let [all, program, linked] = pasted.map(|words| kib_behind(&manual, words));
    assert_eq!(prose.map(|words| kib_behind(size, words)), [all, program, linked]);
    // Each is rounded down.
    assert!((program + linked..=program + linked + 1).contains(&all), "{all} {program} {linked}");
    assert!(all << 10 <= 30_000_000, "`tools/image/build` refuses more");
}

/// Starts a program of an unpacked image by the loader and the libraries of that image.
fn loader(inside: &Path, program: &Path) -> impl Fn(&str) -> Command + use<> {
    let mut libraries: Vec<PathBuf> = Vec::new();
    let mut linker = None;
    for folder in ["lib", "lib64", "usr/lib", "usr/lib64"] {
        let mut folders = vec![inside.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().to_string_lossy().starts_with("ld-linux") {
                    linker = Some(entry.path());
                }
            }
            libraries.push(folder);
        }
    }
    let path = std::env::join_paths(libraries).unwrap();
    let linker = linker.expect("a program that is linked with the C library");
    let program = program.to_path_buf();
    move |option| {
        let mut command = Command::new(&linker);
        command.arg("--inhibit-cache").arg("--library-path").arg(&path);
        if !option.is_empty() {
            command.arg(option);
        }
        command.arg(&program).env_remove("LD_LIBRARY_PATH");
        command
    }
}

#[test]
fn it_is_pushed_where_it_is_told_to_and_pulled_by_the_digest_that_is_printed() {
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let image = registry.image("platform/wasmgate:0.1.0");
    let digest = built(SHELL, &folder.path().join("image"), &["--insecure", "--push", &image]);
    let pulled = registry.crane(root(), &["config", &registry.image(&format!("platform/wasmgate@{digest}"))]);
    let config: Value = serde_json::from_slice(&pulled.stdout).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/local/bin/wasmgate");
}

#[test]
fn the_bill_of_materials_of_the_image_is_attached_and_lists_the_crates_of_the_lock_and_what_is_beside_them() {
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let image = registry.image("platform/wasmgate:0.1.0");
    // It speaks plain HTTP, and as it is on this machine that need not be said.
    let mut build = own("tools/image/build", &["--binary".as_ref(), SHELL.as_ref()]);
    build.arg("--out").arg(folder.path().join("image")).args(["--push", &image]);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let digest = String::from_utf8(output.stdout).unwrap().trim().to_string();
    let named = registry.image(&format!("platform/wasmgate@{digest}"));
    let attached = registry.attached(&named);
    assert_eq!(attached.keys().collect::<Vec<_>>(), [BILL_OF_MATERIALS]);
    let bill = registry.image(&format!("platform/wasmgate@{}", attached[BILL_OF_MATERIALS]));
    let (mut oras, pulled_to) = (Command::new(program("oras")), folder.path().join("pulled"));
    let pulled = oras.args(["pull", "--plain-http", "--output"]).arg(&pulled_to).arg(&bill).output().unwrap();
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    let text = fs::read_to_string(pulled_to.join("image.cdx.json")).unwrap();
    assert!(!text.contains(root().to_str().unwrap()), "the folder in which it was built is in it");
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    assert_eq!(bill["metadata"]["component"]["name"], "wasmgate");
    lists_what_is_beside_the_program(&bill, &folder.path().join("image"));
    let components = bill["components"].as_array().unwrap();
    let locked = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["serde_json", "wasmtime", "rustls"] {
        let component = components.iter().find(|component| component["name"] == name);
        let version = component.unwrap_or_else(|| panic!("no {name} in {text}"))["version"].as_str().unwrap();
        let locked_as = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(locked.contains(&locked_as), "{name} {version}");
    }
}

#[test]
fn what_is_no_program_or_no_layout_is_refused_with_a_reason_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |binary: &str, out: &Path| {
        let output = build(binary, out, &[]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let absent = refused("/nowhere/wasmgate", &folder.path().join("image"));
    assert!(absent.contains("cargo build --release"), "{absent}");
    let script = refused(root().join("tools/build").to_str().unwrap(), &folder.path().join("image"));
    assert!(script.contains("is not a program of Linux"), "{script}");
    let kept = folder.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("thesis.txt"), "years of work").unwrap();
    assert!(refused(SHELL, &kept).contains("is not an image layout"));
    assert_eq!(fs::read_to_string(kept.join("thesis.txt")).unwrap(), "years of work");
}

/// Of a file that is not there neither has a digest, and these are the same.
#[test]
fn two_builds_that_make_no_program_are_not_the_same() {
    let home = tempfile::tempdir().unwrap();
    let mut twice = own("tools/image/twice", &[]);
    let output =
        twice.env("CARGO", "true").env("CARGO_HOME", home.path()).current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("the build made no "), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// It would take an hour to find that out.
#[test]
fn a_build_in_two_folders_does_not_begin_for_a_page_without_a_place_for_what_comes_of_it() {
    let mut twice = own("tools/image/twice", &["--page".as_ref(), "README.md".as_ref()]);
    let output = twice.current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("README.md has no marks"), "{said}");
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    assert_eq!(page.matches("<!-- recorded: built twice -->\n").count(), 1);
    assert_eq!(page.matches("<!-- end of what was recorded: built twice -->\n").count(), 1);
}
