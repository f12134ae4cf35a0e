//! The tables of `docs/runtimes.md` are what the gate claims about runwasi's wasmtime shim, youki and crun. That these do the
//! same is shown on a real node (`tests/live/node/capabilities.rs`, `youki.rs` and `crun.rs` beside it).

use std::fs;

use serde_json::{Value, json};

use crate::support::probes::{
    CRUN, CRUN_PROFILE, Cell, PAGE, Peer, SHIM, Target, WAYS, YOUKI, YOUKI_PROFILE, explained, named,
};
use crate::support::process::root;

fn compare(target: &Target, flags: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let peer = Peer { address: [10, 0, 0, 1], port: 80 };
    let pods: Vec<_> = target
        .tried()
        .map(|(probe, form)| {
            let name = format!("{}-{}", probe.name, form.name());
            let image = probe.image(target, &probe.build(form, peer), "linux/amd64");
            image.write_layout(&folder.path().join("images").join(&name), "1").unwrap();
            probe.pod(target, &name, &format!("probes.test/{name}:1"))
        })
        .collect();
    let layouts = format!("--image-layouts=probes.test={}", folder.path().join("images").display());
    let said = explained(folder.path(), &pods, &[flags, &[layouts]].concat());
    let cells: Vec<Cell> =
        target.tried().zip(&said).map(|((probe, _), said)| Cell::claimed(probe, said)).collect();
    target.compare(&target.table(&cells));
}

#[test]
fn a_cell_has_a_grant_for_what_the_probe_does_only_where_that_is_refused_and_by_its_own_name() {
    let native = json!({"enforced": "deny", "capability": "native.exec", "message": "opens files"});
    let own = |path: &str, enforced: &str| {
        let message = format!("may use `fs` on `{path}` (read-write) and no grant allows it");
        json!({"enforced": enforced, "capability": "fs", "message": message})
    };
    let cell =
        |can: bool, violations: &[&Value]| Cell::of(can, named("mount"), &json!({"violations": violations}));
    assert_eq!(cell(true, &[&native, &own("/data", "deny")]), Cell::Granted);
    assert_eq!(cell(true, &[&native]), Cell::GrantedAsNative, "as if the rule for files were gone");
    assert_eq!(cell(true, &[&native, &own("/data", "warn")]), Cell::GrantedAsNative);
    assert_eq!(cell(true, &[&native, &own("/other", "deny")]), Cell::GrantedAsNative);
    assert_eq!(cell(true, &[&own("/data", "deny")]), Cell::Granted);
    assert_eq!(cell(true, &[]), Cell::Yes);
    assert_eq!(cell(false, &[&native]), Cell::No);
}

#[test]
fn the_table_of_the_wasmtime_shim_is_what_the_gate_says_of_the_probes() {
    compare(&SHIM, &[]);
}

fn compare_with_profile(target: &Target, profile: &str) {
    let configuration = tempfile::NamedTempFile::new().unwrap();
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    let placement = format!("  placement: {{module: {}}}\n", target.class);
    let text = format!("{head}runtimes:\n{placement}  profiles:\n{profile}");
    fs::write(configuration.path(), text).unwrap();
    compare(target, &[format!("--config={}", configuration.path().display())]);
}

#[test]
fn the_table_of_youki_is_what_the_gate_says_of_the_probes() {
    compare_with_profile(&YOUKI, YOUKI_PROFILE);
}

#[test]
fn the_table_of_crun_is_what_the_gate_says_of_the_probes() {
    compare_with_profile(&CRUN, CRUN_PROFILE);
}

/// The page says with which versions the rows are run.
#[test]
fn the_page_names_the_versions_of_crun_and_of_its_engine_that_are_built() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let source = read("tools/crun/source");
    let crun = source.lines().find_map(|line| line.strip_prefix("crun ")).unwrap();
    let requirements = read("tools/crun/requirements.txt");
    let wasmtime = requirements.lines().find_map(|line| line.strip_prefix("wasmtime==")).unwrap();
    let (crun, wasmtime) = (crun.split(' ').next().unwrap(), wasmtime.split('.').next().unwrap());
    assert!(read(PAGE).contains(&format!("`crun-wasmtime`: crun {crun} with wasmtime {wasmtime} |")));
}

/// A runtime that names another way needs a program that tries it, under all of them.
#[test]
fn every_way_to_native_code_that_a_runtime_may_have_is_tried_by_a_probe() {
    let answers = fs::read_to_string(root().join("src/runtime/answers.rs")).unwrap();
    let (_, rest) = answers.split_once("pub enum NativeWay {\n").unwrap();
    let (variants, _) = rest.split_once("\n}\n").unwrap();
    let ways: Vec<&str> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| line.split([' ', ',', '(']).next().unwrap())
        .collect();
    assert_eq!(ways, WAYS.map(|(way, _)| way));
    assert!(WAYS.iter().flat_map(|(_, probes)| *probes).all(|probe| named(probe).loads()));
}
