//! youki with wasmtime on a real node: which program it starts, with and without the annotation that asks for Wasm, what that
//! can do, and which programs it cannot start. Left out where youki is not built, by `make test-node`.

use serde_json::{Value, json};

use super::capabilities::{outcomes_agree, services_are_named_where_a_variable_is_granted};
use super::golden::{Setting, UNSEEN, module, outcome, rows_agree};
use super::needs::{needs_agree, pod_of};
use super::warnings::{a_kill_for_memory_is_shown_as_that, a_resize_is_in_force};
use super::{SITE, speaker};
use crate::support::probes::{Form, YOUKI};
use crate::support::process::ask_patiently;

/// The annotation reaches youki. Mode bits are not asked then.
pub(super) const ASKED: Setting = Setting {
    name: "youki-asked",
    ambient: "youki-wasmtime",
    class: "youki",
    annotations: &[("run.oci.handler", "wasm")],
    mode: 0o644,
    agrees: agrees_if_asked,
};

/// No annotation reaches youki.
pub(super) const PLAIN: Setting =
    Setting { name: "youki-plain", annotations: &[], mode: 0o755, agrees: agrees_if_plain, ..ASKED };

fn nothing(seen: &str) -> bool {
    seen.starts_with("nothing")
}

/// Native programs are not started at all, or where their name ends like that of Wasm, not as what they are.
fn agrees_if_asked(said: &str, seen: &str) -> bool {
    if said.ends_with('+') || said == "linux" || said.starts_with("native ") {
        nothing(seen)
    } else {
        seen == said
    }
}

/// Wasm is not started at all.
fn agrees_if_plain(said: &str, seen: &str) -> bool {
    match said {
        "linux" => seen.starts_with("native "),
        said if said.starts_with("native ") => seen == said,
        _ => nothing(seen),
    }
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn of_every_golden_row_youki_starts_what_the_gate_says_where_it_is_asked_for_wasm() {
    rows_agree(&SITE.get(), &ASKED);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn of_every_golden_row_youki_starts_no_other_native_program_where_nothing_asks_for_wasm() {
    let lines = rows_agree(&SITE.get(), &PLAIN);
    let beside_a_shell = lines.iter().find(|line| line.contains("a module beside a shell")).unwrap();
    assert!(beside_a_shell.contains("native /bin/sh"), "the shell runs the module: {beside_a_shell}");
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn programs_can_do_under_youki_what_the_gate_says_and_nothing_else_and_the_page_has_it() {
    outcomes_agree(&YOUKI);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn where_hardening_switches_service_links_off_no_variable_names_a_service_under_youki() {
    services_are_named_where_a_variable_is_granted(&YOUKI, Form::Module);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_program_that_needs_more_than_wasi_starts_under_youki_where_the_gate_says_that_it_has_it() {
    needs_agree(&SITE.get(), YOUKI.class);
}

/// `run.oci.handler` comes first, and youki knows none of the names that crun has beside these.
#[test]
#[ignore = "needs a real node: make test-node"]
fn two_values_of_two_annotations_ask_youki_for_wasm_and_nothing_else_does() {
    let site = SITE.get();
    let (handler, variant) = ("run.oci.handler", "module.wasm.image/variant");
    let asked: [(Value, bool); 6] = [
        (json!({handler: "wasm"}), true),
        (json!({variant: "compat"}), true),
        (json!({handler: "wasm-smart"}), false),
        (json!({variant: "compat-smart"}), false),
        (json!({handler: "wasmtime", variant: "compat"}), false),
        (json!({}), false),
    ];
    let program = module("/app.wasm");
    let name = |number: usize| format!("asked-{number}");
    for (number, (annotations, _)) in asked.iter().enumerate() {
        let mut pod = pod_of(&site, "youki", &name(number), &[("app.wasm", &program)]);
        pod["metadata"]["annotations"] = annotations.clone();
        site.apply(&pod).ok();
    }
    for (number, (annotations, starts)) in asked.iter().enumerate() {
        let seen = ask_patiently(|| outcome(&site, &name(number)));
        let seen = seen.unwrap_or_else(|| panic!("{annotations}\n{}", site.story(UNSEEN)));
        assert_eq!(seen == "/app.wasm", *starts, "{annotations}: {seen}");
    }
}

/// The rule `exec-probe-on-wasm-shim` refuses such a probe; runwasi's shims run no command at all.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_command_in_a_running_container_starts_another_module_under_youki_and_none_under_runwasi() {
    let site = SITE.get();
    let said = |class: &str| {
        let name = format!("commands-{class}");
        let files: [(&str, &[u8]); 2] =
            [("app.wasm", &speaker("hello from the first")), ("other.wasm", &module("/other.wasm"))];
        site.apply(&pod_of(&site, class, &name, &files)).ok();
        site.plane.wait_for("the first program to speak", || {
            let logs = site.plane.kubectl(&["logs", "--namespace", UNSEEN, &name]);
            logs.stdout.contains("hello from the first").then_some(())
        });
        let ran = site.plane.kubectl(&["exec", "--namespace", UNSEEN, &name, "--", "/other.wasm"]);
        site.plane.kubectl(&["delete", "pod", &name, "--namespace", UNSEEN, "--now"]).ok();
        ran
    };
    let youki = said("youki");
    assert_eq!(youki.stdout, "started /other.wasm\n", "{}", youki.stderr);
    let shim = said("wasmtime");
    assert!(shim.code != 0 && shim.stdout.is_empty(), "{} {}", shim.stdout, shim.stderr);
}

/// runwasi's shim does not (`warnings.rs`).
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_resize_reaches_what_runs_under_youki() {
    a_resize_is_in_force(&YOUKI);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_program_that_is_killed_for_memory_under_youki_is_shown_as_that() {
    a_kill_for_memory_is_shown_as_that(&YOUKI);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn an_exec_probe_that_youki_would_start_as_another_module_is_refused() {
    let site = SITE.get();
    let namespace = site.plane.namespace("exec-probe", &json!({}));
    let files: [(&str, &[u8]); 2] = [("app.wasm", &speaker("hello")), ("other.wasm", &module("/other.wasm"))];
    let mut pod = pod_of(&site, "youki", "exec-probe", &files);
    pod["metadata"]["namespace"] = json!(namespace);
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    site.plane.apply(&pod, &["--dry-run=server"]).ok();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["/other.wasm"]}});
    let refused = site.plane.apply(&pod, &["--dry-run=server"]).refused();
    assert!(refused.contains("[exec-probe-on-wasm-shim]"), "{refused}");
}
