//! Text of an attacker in manifests, images and grants, and what the commands show of it.

use serde_json::{Value, json};
use wasmgate::text;

use super::{Said, layouts, pipe, run, samples};
use crate::support::oci::ImageBuilder;

/// Ends the line and begins one of its own, drives a terminal, turns what follows around, and hides letters in it.
const FORGED: &str = "x`\r\nverdict admitted\0\u{1b}[2J\u{9b}2J\u{1b}]0;t\u{7}\u{7f}\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}\u{e0041}";

/// Nothing that was printed acts on a terminal or hides.
#[track_caller]
fn assert_harmless(said: &Said) {
    for shown in [&said.out, &said.err] {
        let found = shown.chars().find(|c| *c != '\n' && text::is_dangerous(*c));
        assert_eq!(found, None, "{shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("verdict")), "{shown}");
    }
}

/// A document as a file has it: JSON is YAML, and what YAML does not take as it is, is escaped.
fn document(value: &Value) -> String {
    text::flow_yaml(&value.to_string()).into_owned()
}

fn pod(image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": FORGED, "namespace": FORGED}, "spec": {
        "runtimeClassName": FORGED, "serviceAccountName": FORGED,
        "containers": [{"name": FORGED, "image": image, "command": ["/"], "env": [{"name": FORGED, "value": FORGED}]}],
    }})
}

/// An image whose code says it too, as an option for its layouts.
fn image(folder: &std::path::Path) -> String {
    let name: String = FORGED.chars().flat_map(char::escape_unicode).collect();
    let module = wat::parse_str(format!(
        r#"(module (import "{name}" "{name}" (func)) (memory (export "memory") 1) (func (export "_start")))"#
    ));
    let image = ImageBuilder::wasm_artifact(&module.unwrap()).build();
    image.write_layout(&folder.join("evil"), "1").unwrap();
    format!("evil.example={}", folder.display())
}

#[test]
fn no_command_lets_an_attackers_text_act_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let images = image(folder.path());
    for image in ["evil.example/evil:1", FORGED, "\u{202e}evil/x", "evil\u{200b}.example/evil"] {
        let pod = document(&pod(image));
        for command in ["explain", "suggest"] {
            let said = pipe(&[command, "-f", "-", "--image-layouts", &images], &pod);
            assert_ne!(said.code, 2, "{said:?}");
            assert_harmless(&said);
            // The verdict stands two columns in; what is broken from a longer line stands further in.
            let verdicts = said.out.lines().filter(|line| line.starts_with("  verdict ")).count();
            assert_eq!(verdicts, usize::from(command == "explain"), "{}", said.out);
        }
        assert_harmless(&run(&["suggest", "--image-layouts", &images, &image.replace('\0', "")]));
        assert_harmless(&run(&["inspect", "--image-layouts", &images, &image.replace('\0', "")]));
    }
}

/// The log of a CI server, which is what standard output becomes there, takes such lines for commands.
#[test]
fn no_line_of_a_command_is_one_to_the_runner_of_a_ci_server() {
    let folder = tempfile::tempdir().unwrap();
    let images = image(folder.path());
    let mut forged = pod("evil.example/evil:1");
    let marks = ["##[", "##vso[", "##teamcity["];
    for name in [
        "::error file=x::forged",
        " ::add-mask::a",
        "##[group]forged",
        "##vso[task.complete]",
        "##teamcity[buildStop]",
    ] {
        for pointer in ["/metadata/namespace", "/metadata/name", "/spec/containers/0/name"] {
            *forged.pointer_mut(pointer).unwrap() = json!(name);
        }
        let given = document(&forged);
        for command in [
            &["scan"][..],
            &["scan", "-o", "json"],
            &["scan", "-o", "yaml"],
            &["scan", "-o", "sarif"],
            &["explain"],
            &["explain", "-o", "yaml"],
            &["suggest"],
        ] {
            let said = pipe(&[command, &["-f", "-", "--image-layouts", &images]].concat(), &given);
            assert_ne!(said.code, 2, "{said:?}");
            for line in said.out.lines().chain(said.err.lines()) {
                let is_command = line.trim_start().starts_with("::");
                assert!(!is_command && !marks.iter().any(|mark| line.contains(mark)), "{said:?}");
            }
            if command == ["scan", "-o", "json"] {
                assert_eq!(said.json()["workloads"][0]["namespace"], name);
            }
        }
    }
}

#[test]
fn documents_for_programs_say_what_was_there_and_show_nothing_that_acts() {
    let folder = tempfile::tempdir().unwrap();
    let images = image(folder.path());
    let pod = document(&pod("evil.example/evil:1"));
    let of =
        |form| pipe(&["explain", "-f", "-", "--image-layouts", &images, "--show-input", "-o", form], &pod);
    let (json, yaml) = (of("json"), of("yaml"));
    assert_harmless(&json);
    assert_harmless(&yaml);
    let read: Value = json.json();
    assert_eq!(read["objects"][0]["name"], FORGED);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml.out).unwrap(), read);
    for form in ["json", "yaml"] {
        let said = run(&["inspect", "evil.example/evil:1", "--image-layouts", &images, "-o", form]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_harmless(&said);
    }
}

#[test]
fn no_output_of_a_scan_lets_an_attackers_text_act() {
    let folder = tempfile::tempdir().unwrap();
    let images = image(folder.path());
    let marked =
        format!("{FORGED}<script>alert(1)</script>]]>&amp;\"'::error::%0A<img src=x onerror=alert(1)>");
    let mut unread = pod(&marked);
    unread["metadata"] = json!({"name": marked, "namespace": marked});
    let fleet = json!({"kind": marked, "apiVersion": "v1", "metadata": {"name": marked}, "spec": pod(&marked)["spec"]});
    let objects = [pod("evil.example/evil:1"), unread, fleet].map(|object| document(&object)).join("\n---\n");
    for form in ["text", "json", "yaml", "html", "sarif", "junit", "github"] {
        let said = pipe(
            &["scan", "-f", "-", "--image-layouts", &images, "--all", "-o", form, "--image", "*"],
            &objects,
        );
        assert!(matches!(said.code, 1 | 3), "{said:?}");
        assert_harmless(&said);
        match form {
            "github" => {
                let commands = said.out.lines().filter(|line| line.starts_with("::")).count();
                assert_eq!(commands + 1, said.out.lines().count(), "{}", said.out);
                assert!(!said.out.contains("::error::%0A"), "{}", said.out);
            }
            "html" | "junit" => {
                let elements = super::scan_forms::elements(&said.out);
                let scripts = elements.iter().filter(|element| *element == "script").count();
                assert_eq!(scripts, usize::from(form == "html"), "{}", said.out);
                assert!(!elements.contains(&"img".to_string()), "{}", said.out);
            }
            _ => {}
        }
    }
}

/// The width of a format has 16 bits, and files are not held to the names of Kubernetes.
#[test]
fn a_name_of_any_length_is_shown_in_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let images = image(folder.path());
    let long = "n".repeat(70_000);
    let named = |name: &str| {
        let mut named = pod("evil.example/evil:1");
        named["metadata"] = json!({"name": name, "namespace": "shop"});
        document(&named)
    };
    let pods = [named("short"), named(&long)].join("\n---\n");
    let said = pipe(&["scan", "-f", "-", "--image-layouts", &images], &pods);
    assert!(matches!(said.code, 1 | 3), "{said:?}");
    assert!(said.out.contains("Pod/short"), "{said:?}");
    assert!(said.out.lines().all(|line| line.len() < 3_000), "{said:?}");
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": long, "namespace": "shop"}, "spec": {"capabilities": [{"name": "native.exec"}]}});
    let grants = folder.path().join("grants");
    std::fs::create_dir(&grants).unwrap();
    std::fs::write(grants.join("long.json"), grant.to_string()).unwrap();
    let (file, grants) = (samples("workloads/files.yaml"), grants.to_str().unwrap().to_owned());
    let file = file.to_str().unwrap();
    let said = run(&["explain", "-f", file, "--grants", &grants, "--image-layouts", &layouts()]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["GRANTED BY"]);
}

#[test]
fn what_is_wrong_with_a_file_is_told_without_its_text_acting() {
    let folder = tempfile::tempdir().unwrap();
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": FORGED, "namespace": FORGED},
        "spec": {"subjects": {"images": [FORGED], FORGED: FORGED}, "capabilities": [
            {"name": FORGED}, {"name": "fs", "paths": [FORGED], "access": FORGED},
            {"name": "net.tcp.connect", "hosts": [FORGED, format!("{FORGED}://{FORGED}:{FORGED}")]}]}});
    let grants = folder.path().to_str().unwrap();
    let file = folder.path().join("grant.yaml");
    std::fs::write(&file, document(&grant)).unwrap();
    for arguments in [&["check", "--grants", grants][..], &["explain", "-f", "/dev/null", "--grants", grants]]
    {
        let said = run(arguments);
        assert!(said.code != 0 && !(said.out + &said.err).is_empty());
        assert_harmless(&run(arguments));
    }
    for text in [format!("{FORGED}: [\n"), format!("kind: {FORGED}\n"), document(&json!({"kind": FORGED}))] {
        assert_harmless(&pipe(&["explain", "-f", "-"], &text));
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, &text).unwrap();
        assert_harmless(&run(&["check", "-c", config.to_str().unwrap()]));
    }
    assert_harmless(&run(&["explain", "-f", &FORGED.replace('\0', "")]));
}
