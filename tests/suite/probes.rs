//! The table of `docs/runtimes.md` is what the gate claims about runwasi's wasmtime shim. That the shim does the same is
//! shown on a real node (`tests/live/node/capabilities.rs`).

use std::fs;

use crate::support::probes::{Cell, Form, PAGE, PROBES, Peer, cut, explained, table};
use crate::support::process::root;

#[test]
fn the_table_of_the_wasmtime_shim_is_what_the_gate_says_of_the_probes() {
    let folder = tempfile::tempdir().unwrap();
    let peer = Peer { address: [10, 0, 0, 1], port: 80 };
    let tried: Vec<_> =
        PROBES.iter().flat_map(|probe| probe.forms().map(move |form| (probe, form))).collect();
    let pods: Vec<_> = tried
        .iter()
        .map(|(probe, form)| {
            let name = format!("{}-{}", probe.name, form.name());
            let image = probe.image(&probe.build(*form, peer), "linux/amd64");
            image.write_layout(&folder.path().join("images").join(&name), "1").unwrap();
            probe.pod(&name, &format!("probes.test/{name}:1"))
        })
        .collect();
    let layouts = format!("--image-layouts=probes.test={}", folder.path().join("images").display());
    let said = explained(folder.path(), &pods, &[layouts]);
    let cell = |name: &str, form: Form| {
        let place = tried.iter().position(|(probe, other)| probe.name == name && *other == form);
        place.map_or(Cell::Absent, |place| Cell::claimed(tried[place].0, &said[place]))
    };
    let cells: Vec<Vec<Cell>> =
        PROBES.iter().map(|probe| Form::ALL.map(|form| cell(probe.name, form)).to_vec()).collect();
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    assert_eq!(table(&cells), cut(&page).1);
}
