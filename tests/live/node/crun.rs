//! crun with wasmtime on a real node: which program it starts where an annotation asks for Wasm, always or where the name says
//! so, and where none does; and what such a program can do. Left out where crun is not built, by `make test-node`.

mod annotations;

use serde_json::{Value, json};

use super::capabilities::{
    mounts_are_written_where_that_is_granted, outcomes_agree, peer,
    services_are_named_where_a_variable_is_granted, tokens_are_read_where_they_are_granted,
};
use super::golden::{Setting, UNSEEN, module, outcome, rows_agree};
use super::needs::{needs_that_differ, pod_of};
use super::warnings::{a_kill_for_memory_is_shown_as_that, a_resize_is_in_force};
use super::{SITE, Site, platform, speaker};
use crate::support::oci::{ImageBuilder, TAR_LAYER, tar_link};
use crate::support::probes::{CRUN, ESCAPES, FOLDER, Form, Probe, named};
use crate::support::process::ask_patiently;

/// Every program goes to the handler.
pub(super) const ASKED: Setting = Setting {
    name: "crun-asked",
    ambient: "crun-wasmtime",
    class: "crun",
    annotations: &[("run.oci.handler", "wasm")],
    mode: 0o755,
    agrees: agrees_if_asked,
};

/// Those go to the handler whose name ends like that of Wasm.
pub(super) const SMART: Setting = Setting {
    name: "crun-smart",
    annotations: &[("run.oci.handler", "wasm-smart")],
    agrees: agrees_if_smart,
    ..ASKED
};

/// No annotation reaches crun.
pub(super) const PLAIN: Setting =
    Setting { name: "crun-plain", annotations: &[], agrees: agrees_if_plain, ..ASKED };

fn is_native(said: &str) -> bool {
    said == "linux" || said.starts_with("native ")
}

fn nothing(seen: &str) -> bool {
    seen.starts_with("nothing")
}

/// A native program is no module, so it does not start.
fn agrees_if_asked(said: &str, seen: &str) -> bool {
    if said.ends_with('+') || is_native(said) { nothing(seen) } else { seen == said }
}

/// What is called otherwise than what it is does not start.
fn agrees_if_smart(said: &str, seen: &str) -> bool {
    match said {
        said if said.ends_with('+') => nothing(seen),
        "linux" => seen.starts_with("native ") || nothing(seen),
        said => seen == said || nothing(seen),
    }
}

/// Wasm is not started at all.
fn agrees_if_plain(said: &str, seen: &str) -> bool {
    match said {
        "linux" => seen.starts_with("native "),
        said if is_native(said) => seen == said,
        _ => nothing(seen),
    }
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn of_every_golden_row_crun_starts_what_the_gate_says_where_it_is_asked_for_wasm() {
    rows_agree(&SITE.get(), &ASKED);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn of_every_golden_row_crun_starts_what_the_gate_says_where_the_name_decides() {
    let lines = rows_agree(&SITE.get(), &SMART);
    let line = |why: &str| lines.iter().find(|line| line.ends_with(why)).unwrap();
    assert!(line(": a whole path").contains(" /app.wasm  "), "{lines:?}");
    assert!(line(": an ordinary program").contains(" native "), "{lines:?}");
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn of_every_golden_row_crun_starts_no_other_native_program_where_nothing_asks_for_wasm() {
    rows_agree(&SITE.get(), &PLAIN);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn programs_can_do_under_crun_what_the_gate_says_and_nothing_else_and_the_page_has_it() {
    outcomes_agree(&CRUN);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_token_that_hardening_takes_cannot_be_read_under_crun_and_one_that_is_granted_can() {
    tokens_are_read_where_they_are_granted(&CRUN, Form::Module);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_mount_that_hardening_makes_read_only_takes_no_writes_under_crun() {
    mounts_are_written_where_that_is_granted(&CRUN, Form::Module);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn where_hardening_switches_service_links_off_no_variable_names_a_service_under_crun() {
    services_are_named_where_a_variable_is_granted(&CRUN, Form::Module);
}

/// The pod of a program whose folder is `/app`, in an image with a file of its own at `/`, this one below `/app`, and links there that
/// lead out.
fn pod_in_a_folder(site: &Site, namespace: &str, name: &str, probe: &Probe, below: &str) -> Value {
    let program = probe.build(Form::Module, peer(site));
    let mut image = ImageBuilder::rootfs(platform(), &["/app.wasm"]);
    image.files(&[("app.wasm", &program), ("own.txt", b"not in the folder"), (below, b"in the folder")]);
    for (link, target) in FOLDER {
        image.layer(TAR_LAYER, tar_link(link, target));
    }
    let tag = format!("folder-{name}");
    site.push(&tag, &image.build());
    let mut pod = probe.pod(&CRUN, name, &site.registry.image(&format!("{tag}:1")));
    pod["metadata"]["namespace"] = json!(namespace);
    pod["spec"]["containers"][0]["workingDir"] = json!("/app");
    pod
}

/// The gate admits a program that opens files without a grant where its folder is one of the image, as `docs/runtimes.md` advises: no
/// grant is made here, so that each pod is admitted for that alone.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_program_with_a_working_directory_of_its_own_opens_what_is_below_it_and_nothing_else_under_crun() {
    let site = SITE.get();
    let namespace = site.plane.namespace("folder-crun", &json!({}));
    let outside = ["file", "memory", "environ", "mount"].map(named).into_iter().chain(&ESCAPES);
    let outside: Vec<(&str, Value)> = outside
        .map(|probe| (probe.name, pod_in_a_folder(&site, &namespace, probe.name, probe, "app/other.txt")))
        .collect();
    let own = pod_in_a_folder(&site, &namespace, "own", named("file"), "app/own.txt");
    for pod in outside.iter().map(|(_, pod)| pod).chain([&own]) {
        site.apply(pod).ok();
    }
    let said = |name: &str| {
        site.finished(&namespace, name);
        site.logs(&namespace, name)
    };
    assert_eq!(said("own"), "probe 00\n");
    for (name, _) in &outside {
        let words = said(name);
        assert!(words.starts_with("probe ") && words != "probe 00\n", "{name}: {words}");
    }
    // With `/` as its folder the same program reaches the process that runs it.
    let mut open = outside[1].1.clone();
    open["metadata"]["name"] = json!("open");
    open["spec"]["containers"][0]["workingDir"] = json!("/");
    let refused = site.apply(&open).refused();
    assert!(refused.contains("[host-process-in-reach]"), "{refused}");
    site.plane.kubectl(&["delete", "pods", "--all", "--wait=false", "--namespace", &namespace]).ok();
}

/// Shared memory depends on the engine's version: later ones do not start it.
#[test]
#[ignore = "needs a real node: make test-node"]
fn of_programs_that_need_more_than_wasi_the_gate_refuses_one_that_this_crun_starts_and_says_of_the_others_what_they_do()
 {
    let differ = needs_that_differ(&SITE.get(), CRUN.class);
    assert_eq!(differ, [("shared-crun".to_string(), true)]);
}

/// `run.oci.handler` comes first.
#[test]
#[ignore = "needs a real node: make test-node"]
fn the_values_of_two_annotations_that_the_gate_takes_for_wasm_ask_crun_for_it_and_no_others() {
    let site = SITE.get();
    let (handler, variant) = ("run.oci.handler", "module.wasm.image/variant");
    let asked: [(Value, bool); 7] = [
        (json!({handler: "wasm"}), true),
        (json!({handler: "wasmtime"}), true),
        (json!({handler: "wasm-smart"}), true),
        (json!({variant: "compat"}), true),
        (json!({variant: "compat-smart"}), true),
        (json!({handler: "wasmedge", variant: "compat"}), false),
        (json!({}), false),
    ];
    let program = module("/app.wasm");
    let name = |number: usize| format!("crun-asked-by-{number}");
    for (number, (annotations, _)) in asked.iter().enumerate() {
        let mut pod = pod_of(&site, CRUN.class, &name(number), &[("app.wasm", &program)]);
        pod["metadata"]["annotations"] = annotations.clone();
        site.apply(&pod).ok();
    }
    for (number, (annotations, starts)) in asked.iter().enumerate() {
        let seen = ask_patiently(|| outcome(&site, &name(number)));
        let seen = seen.unwrap_or_else(|| panic!("{annotations}\n{}", site.story(UNSEEN)));
        assert_eq!(seen == "/app.wasm", *starts, "{annotations}: {seen}");
    }
}

/// The gate says of none of these what starts: `src/runtime/golden.rs` has them.
#[test]
#[ignore = "needs a real node: make test-node"]
fn what_the_whole_of_a_text_with_a_nul_names_does_not_start_under_crun() {
    let site = SITE.get();
    let programs = ["/good.wasm", "/evil/good.wasm", "/evil.wasm"].map(module);
    let files: [(&str, &[u8]); 3] =
        [("good.wasm", &programs[0]), ("evil/good.wasm", &programs[1]), ("evil.wasm", &programs[2])];
    let cut_off = [
        json!({"command": ["/evil.wasm\0/../good.wasm"]}),
        json!({"command": ["./good.wasm"], "workingDir": "/evil\0/../.."}),
        json!({"command": ["good.wasm"], "env": [{"name": "PATH", "value": "/evil\0/../..:/"}]}),
    ];
    let name = |number: usize| format!("crun-cut-off-{number}");
    for (number, said) in cut_off.iter().enumerate() {
        let mut pod = pod_of(&site, CRUN.class, &name(number), &files);
        let container = pod["spec"]["containers"][0].as_object_mut().unwrap();
        container.extend(said.as_object().unwrap().clone());
        site.apply(&pod).ok();
    }
    for (number, said) in cut_off.iter().enumerate() {
        let seen = ask_patiently(|| outcome(&site, &name(number)));
        let seen = seen.unwrap_or_else(|| panic!("{said}\n{}", site.story(UNSEEN)));
        assert_ne!(seen, "/good.wasm", "{said}");
    }
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_resize_reaches_what_runs_under_crun() {
    a_resize_is_in_force(&CRUN);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_program_that_is_killed_for_memory_under_crun_is_shown_as_that() {
    a_kill_for_memory_is_shown_as_that(&CRUN);
}

/// `crun:src/libcrun/container.c`, `exec_process_entrypoint`.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_command_in_a_running_container_starts_nothing_under_crun() {
    let site = SITE.get();
    let name = "commands-crun";
    let files: [(&str, &[u8]); 2] =
        [("app.wasm", &speaker("hello from the first")), ("other.wasm", &module("/other.wasm"))];
    site.apply(&pod_of(&site, CRUN.class, name, &files)).ok();
    site.plane.wait_for("the first program to speak", || {
        let logs = site.plane.kubectl(&["logs", "--namespace", UNSEEN, name]);
        logs.stdout.contains("hello from the first").then_some(())
    });
    let ran = site.plane.kubectl(&["exec", "--namespace", UNSEEN, name, "--", "/other.wasm"]);
    site.plane.kubectl(&["delete", "pod", name, "--namespace", UNSEEN, "--now"]).ok();
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{} {}", ran.stdout, ran.stderr);
}
