//! The tables of `docs/runtimes.md` are what the gate claims about runwasi's wasmtime shim and about youki. That these do the
//! same is shown on a real node (`tests/live/node/capabilities.rs`, `tests/live/node/youki.rs`).

use std::fs;

use crate::support::probes::{Cell, PAGE, Peer, SHIM, Target, YOUKI, YOUKI_PROFILE, explained};
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
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    assert_eq!(target.table(&cells), target.cut(&page).1);
}

#[test]
fn the_table_of_the_wasmtime_shim_is_what_the_gate_says_of_the_probes() {
    compare(&SHIM, &[]);
}

#[test]
fn the_table_of_youki_is_what_the_gate_says_of_the_probes() {
    let configuration = tempfile::NamedTempFile::new().unwrap();
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    let text = format!("{head}runtimes:\n  placement: {{module: youki}}\n  profiles:\n{YOUKI_PROFILE}");
    fs::write(configuration.path(), text).unwrap();
    compare(&YOUKI, &[format!("--config={}", configuration.path().display())]);
}
