//! The forms of `scan` for other programs: what each of them must find there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Said, layouts, run, samples, wasmgate};
use crate::support::oci::ImageBuilder;
use crate::support::process::program;
use crate::support::{opa, secrets};

fn scan(form: &str) -> Said {
    let (files, grants) = (samples("workloads"), samples("grants"));
    let (files, grants) = (files.to_str().unwrap(), grants.to_str().unwrap());
    run(&["scan", "-f", files, "--grants", grants, "--image-layouts", &layouts(), "-o", form])
}

/// The line of a sample on which a text stands.
fn line_of(workload: &str, text: &str) -> usize {
    let file = std::fs::read_to_string(samples(&format!("workloads/{workload}.yaml"))).unwrap();
    file.lines().position(|line| line.contains(text)).unwrap() + 1
}

/// The names of all elements of a well-formed document, in order.
pub fn elements(document: &str) -> Vec<String> {
    let mut names = Vec::new();
    each(document, |event, _| {
        if let Event::Start(start) | Event::Empty(start) = event {
            names.push(start.name().as_ref().to_string());
        }
    });
    names
}

/// Calls `look` with every event and the position after it; panics where the document is not well-formed.
fn each(document: &str, mut look: impl FnMut(&Event<'_>, usize)) {
    let mut reader = Reader::from_str(document);
    reader.config_mut().check_end_names = true;
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error} at {}: {document}", reader.error_position()))
        {
            Event::Eof => return,
            event => look(&event, usize::try_from(reader.buffer_position()).unwrap()),
        }
    }
}

fn attribute(event: &Event<'_>, name: &str) -> Option<String> {
    let (Event::Start(start) | Event::Empty(start)) = event else { return None };
    let found = start.attributes().map(Result::unwrap).find(|one| one.key.as_ref() == name)?;
    Some(quick_xml::escape::unescape(&found.value).unwrap().into_owned())
}

fn is(event: &Event<'_>, element: &str) -> bool {
    matches!(event, Event::Start(start) | Event::Empty(start) if start.name().as_ref() == element)
}

/// Sections of the standard say what must be there.
#[test]
fn the_sarif_log_has_what_the_standard_requires() {
    let said = scan("sarif");
    assert_eq!(said.code, 1, "{said:?}");
    let log = said.json();
    assert_eq!(log["version"], "2.1.0", "section 3.13.2");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "wasmgate", "section 3.19.8");
    assert!(run["invocations"][0]["executionSuccessful"].is_boolean(), "section 3.20.14");
    let rules = driver["rules"].as_array().unwrap();
    let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rules.len(), "section 3.49.3: an id is unique");
    let results = run["results"].as_array().unwrap();
    let mut fingerprints = BTreeSet::new();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"], "section 3.27.6");
        assert!(
            matches!(result["level"].as_str(), Some("error" | "warning" | "note")),
            "section 3.27.10: {result}"
        );
        assert!(!result["message"]["text"].as_str().unwrap().is_empty(), "section 3.11.8");
        let location = &result["locations"][0]["physicalLocation"];
        let uri = location["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.starts_with("file:///") && uri.contains("/workloads/"), "section 3.4.3: {uri}");
        assert!(location["region"]["startLine"].as_u64().unwrap() > 0, "section 3.30.5");
        assert!(
            fingerprints.insert(result["partialFingerprints"]["wasmgate/v2"].clone().to_string()),
            "{result}"
        );
    }
    let found = |rule: &str, file: &str| {
        results
            .iter()
            .filter(|result| {
                let uri = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
                result["ruleId"] == rule && uri.as_str().unwrap().ends_with(file)
            })
            .map(|result| result["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let line = u64::try_from(line_of("files", "image: samples.example/files:1")).unwrap();
    assert_eq!(found("needs-grant", "/files.yaml"), [line, line]);
    assert_eq!(scan("sarif").json(), log, "the same scan again gives the same log");
}

/// What the schema of the standard says of a log.
fn judged_by_the_schema(log: &Value) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wasmgate.sarif");
    std::fs::write(&file, log.to_string()).unwrap();
    let said = Command::new(program("sarifcheck")).arg(&file).output().unwrap();
    (said.status.success(), String::from_utf8(said.stdout).unwrap())
}

#[test]
fn the_sarif_log_is_one_by_the_schema_of_the_standard() {
    let log = scan("sarif").json();
    let (good, said) = judged_by_the_schema(&log);
    assert!(good, "{said}");
    let without = |pointer: &str, member: &str| {
        let mut log = log.clone();
        log.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(member).unwrap();
        log
    };
    let with = |pointer: &str, member: &str, value: Value| {
        let mut log = log.clone();
        log.pointer_mut(pointer).unwrap()[member] = value;
        log
    };
    let (run, result) = ("/runs/0", "/runs/0/results/0");
    let physical = "/runs/0/results/0/locations/0/physicalLocation";
    for (wrong, complaint) in [
        (without(run, "tool"), "missing property 'tool'"),
        (without("/runs/0/invocations/0", "executionSuccessful"), "missing property 'executionSuccessful'"),
        (with(result, "severity", json!("high")), "additional properties 'severity' not allowed"),
        (with(result, "level", json!("fatal")), "/level"),
        (with(&format!("{physical}/region"), "startLine", json!(0)), "/startLine"),
        (with(&format!("{physical}/artifactLocation"), "uri", json!("a\\b")), "uri-reference"),
    ] {
        let (good, said) = judged_by_the_schema(&wrong);
        assert!(!good && said.contains(complaint), "{complaint}: {said}");
    }
}

/// A build changes digests, tags and what the evidence quotes of them, and no finding becomes another one by that.
#[test]
fn a_finding_is_the_same_one_in_the_next_build_of_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let build = |tag: &str, padding: &str| {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "path_open" (func)) (import "wasi_snapshot_preview1" "sock_accept" (func))
                (memory (export "memory") 1) (data (i32.const 0) "{padding}") (func (export "_start")))"#
        );
        let image = ImageBuilder::runwasi(&wat::parse_str(text).unwrap(), "/app.wasm").build();
        image.write_layout(&folder.path().join("images/app"), tag).unwrap();
    };
    let manifest = folder.path().join("pod.yaml");
    let scan = |tag: &str, padding: &str| {
        build(tag, padding);
        let image = format!("builds.example/app:{tag}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"containers": [{"name": "main", "image": image}, {"name": "other", "image": "builds.example/none:1"}]}});
        std::fs::write(&manifest, pod.to_string()).unwrap();
        let layouts = format!("builds.example={}", folder.path().join("images").display());
        let said =
            run(&["scan", "-f", manifest.to_str().unwrap(), "--image-layouts", &layouts, "-o", "sarif"]);
        let results = said.json()["runs"][0]["results"].as_array().unwrap().clone();
        let identity =
            |result: &Value| result["partialFingerprints"]["wasmgate/v2"].as_str().unwrap().to_owned();
        let message = |result: &Value| result["message"]["text"].as_str().unwrap().to_owned();
        let identities: BTreeSet<String> = results.iter().map(identity).collect();
        assert_eq!(identities.len(), results.len(), "each has its own: {results:?}");
        (identities, results.iter().map(message).collect::<BTreeSet<_>>())
    };
    let (first, second) = (scan("1", "one"), scan("2", "two"));
    assert_ne!(first.1, second.1, "the messages name the build");
    assert!(first.1.iter().any(|message| message.contains("in layer sha256:")), "{first:?}");
    assert_eq!(first.0, second.0, "{first:?}\n{second:?}");
}

/// GitHub shows ten of each level.
#[test]
fn of_many_findings_the_worst_are_annotated_first_and_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let pod = |name: String, image: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": image}]}})
        .to_string()
    };
    let mut objects: Vec<String> = (0..12).map(|n| pod(format!("a-{n}"), "samples.example/none:1")).collect();
    objects.extend((0..12).map(|n| pod(format!("z-{n}"), "samples.example/files:1")));
    let manifest = folder.path().join("pods.yaml");
    std::fs::write(&manifest, objects.join("\n---\n")).unwrap();
    let said =
        run(&["scan", "-f", manifest.to_str().unwrap(), "--image-layouts", &layouts(), "-o", "github"]);
    assert_eq!(said.code, 1, "{said:?}");
    let levels: Vec<&str> =
        said.out.lines().filter_map(|line| line.strip_prefix("::")?.split(' ').next()).collect();
    let errors = levels.iter().filter(|level| **level == "error").count();
    assert!(errors > 10 && levels[..errors].iter().all(|level| *level == "error"), "{levels:?}");
    let notes = [
        format!("GitHub shows 10 of the {errors} annotations `error`; this log has all"),
        format!("GitHub shows 10 of the {} annotations `warning`; this log has all", levels.len() - errors),
    ];
    for note in notes {
        assert!(said.out.lines().any(|line| line == note), "no `{note}` in {}", said.out);
    }
}

/// What `helm template` printed is annotated in the templates of the chart.
#[test]
fn a_finding_in_a_rendered_chart_is_shown_in_its_template() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("charts/shop/templates")).unwrap();
    std::fs::write(folder.path().join("charts/shop/templates/pod.yaml"), "{{ .Values }}").unwrap();
    let document = |source: &str, name: &str| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": "samples.example/files:1"}]}});
        format!("---\n# Source: {source}\n{pod}\n")
    };
    let rendered = document("shop/templates/pod.yaml", "a") + &document("shop/templates/none.yaml", "b");
    let scan = |form: &str| {
        std::fs::write(folder.path().join("rendered.yaml"), &rendered).unwrap();
        let mut command = wasmgate();
        let images = layouts();
        command.current_dir(folder.path()).args([
            "scan",
            "-f",
            "rendered.yaml",
            "--image-layouts",
            &images,
            "-o",
            form,
        ]);
        Said::of(&mut command)
    };
    scan("github").has(&[
        "::error file=charts/shop/templates/pod.yaml,line=1,title=host-process-in-reach shop/Pod/a::",
        "::error file=rendered.yaml,line=6,title=host-process-in-reach shop/Pod/b::",
    ]);
    let results = scan("sarif").json()["runs"][0]["results"].clone();
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "charts/shop/templates/pod.yaml");
    let place = &scan("json").json()["workloads"][0]["judged"][0]["place"];
    assert_eq!((&place["file"], &place["line"]), (&json!("rendered.yaml"), &json!(3)));
    assert_eq!(place["template"], "charts/shop/templates/pod.yaml");
}

#[test]
fn the_junit_report_has_a_case_for_each_workload_and_a_failure_for_each_that_would_be_denied() {
    let said = scan("junit");
    assert_eq!(said.code, 1, "{said:?}");
    let (mut cases, mut failures, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    each(&said.out, |event, _| {
        if is(event, "testsuites") || is(event, "testsuite") {
            let number = |name: &str| attribute(event, name).unwrap().parse::<usize>().unwrap();
            totals.push((number("tests"), number("failures"), number("errors")));
        } else if is(event, "testcase") {
            let of = |name: &str| attribute(event, name).unwrap();
            cases.push((of("classname"), of("name")));
        } else if is(event, "failure") {
            failures.push(attribute(event, "message").unwrap());
        }
    });
    assert_eq!(totals, [(5, 2, 0), (5, 2, 0)]);
    let expected =
        ["Deployment/hello", "Deployment/orders", "Pod/files", "Pod/mixed", "Pod/orders-everywhere"];
    assert_eq!(cases, expected.map(|name| ("wasmgate.shop".to_string(), name.to_string())));
    let place = format!("/workloads/files.yaml:{}\n", line_of("files", "apiVersion"));
    assert!(said.out.contains(&place), "no {place} in {}", said.out);
    assert_eq!(failures, ["host-process-in-reach, needs-grant", "needs-grant"]);
    assert!(said.out.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"), "{}", said.out);
}

type Words = &'static [&'static str];

/// Each element of a report, the attributes that it must have, those that it may have, and the elements in it. Jenkins' plug-in
/// xUnit refuses a report with others (`jenkinsci/xunit-plugin:src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd`).
const JUNIT: &[(&str, Words, Words, Words)] = &[
    ("testsuites", &[], &["name", "time", "tests", "failures", "errors"], &["testsuite"]),
    (
        "testsuite",
        &["name", "tests", "failures", "errors"],
        &["group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"],
        &["testsuite", "properties", "testcase", "system-out", "system-err"],
    ),
    (
        "testcase",
        &["name"],
        &["time", "classname", "group"],
        &["skipped", "error", "failure", "system-out", "system-err"],
    ),
    ("failure", &[], &["type", "message"], &[]),
    ("error", &[], &["type", "message"], &[]),
    ("skipped", &[], &["type", "message"], &[]),
    ("system-out", &[], &[], &[]),
    ("system-err", &[], &[], &[]),
];

/// What the schema says against a report.
pub fn against_junit(document: &str) -> Vec<String> {
    let (mut wrong, mut open) = (Vec::new(), Vec::<String>::new());
    each(document, |event, _| match event {
        Event::Start(start) | Event::Empty(start) => {
            let name = start.name().as_ref().to_string();
            let row = JUNIT.iter().find(|(element, ..)| *element == name);
            let has_place = match open.last() {
                None => name.starts_with("testsuite"),
                Some(parent) => JUNIT.iter().any(|(element, _, _, children)| {
                    *element == parent.as_str() && children.iter().any(|child| *child == name)
                }),
            };
            if !has_place {
                wrong.push(format!("{name} in {open:?}"));
            }
            let own: Vec<String> =
                start.attributes().map(|one| one.unwrap().key.as_ref().to_string()).collect();
            if let Some((_, required, optional, _)) = row {
                let lacks = required.iter().filter(|one| !own.iter().any(|own| own == *one));
                wrong.extend(lacks.map(|one| format!("{name} without {one}")));
                let known = |own: &String| required.iter().chain(*optional).any(|one| own == one);
                wrong.extend(own.iter().filter(|own| !known(own)).map(|own| format!("{own} of {name}")));
            }
            if attribute(event, "time").is_some_and(|time| time.parse::<f64>().is_err()) {
                wrong.push(format!("time of {name}"));
            }
            if matches!(event, Event::Start(_)) {
                open.push(name);
            }
        }
        Event::End(_) => drop(open.pop()),
        _ => {}
    });
    wrong
}

#[test]
fn the_junit_report_is_one_by_the_schema_of_jenkins() {
    let (files, grants) = (samples("workloads"), samples("grants"));
    let (files, grants) = (files.to_str().unwrap(), grants.to_str().unwrap());
    // One image is not there, so that a case of every outcome is in it.
    let images = format!("samples.example={}", samples("images/hello").display());
    let of = |images: &str| {
        run(&["scan", "-f", files, "--grants", grants, "--image-layouts", images, "-o", "junit", "--all"])
    };
    let (all, unread) = (of(&layouts()), of(&images));
    for (said, holds) in [(&all, ["<failure", "<skipped", "<system-out"]), (&unread, ["<error"; 3])] {
        assert!(holds.iter().all(|element| said.out.contains(element)), "{}", said.out);
        assert_eq!(against_junit(&said.out), Vec::<String>::new(), "{}", said.out);
    }
    for (from, to, complaint) in [
        ("classname=", "file=", "file of testcase"),
        (" errors=\"0\"", "", "testsuite without errors"),
        ("<testcase ", "<case ", "case in"),
        ("time=\"0\"", "time=\"soon\"", "time of testsuite"),
    ] {
        let wrong = all
            .out
            .replace(from, to)
            .replace("</testcase>", if to == "<case " { "</case>" } else { "</testcase>" });
        let found = against_junit(&wrong);
        assert!(found.iter().any(|one| one.starts_with(complaint)), "{complaint}: {found:?}");
    }
}

#[test]
fn a_workflow_command_names_the_line_of_the_image() {
    let said = scan("github");
    assert_eq!(said.code, 1, "{said:?}");
    let file = samples("workloads/files.yaml");
    let line = line_of("files", "image: samples.example/files:1");
    let start = format!("::error file={},line={line},title=needs-grant shop/Pod/files::", file.display());
    assert_eq!(said.out.lines().filter(|line| line.starts_with(&start)).count(), 2, "{}", said.out);
    assert!(
        said.out.lines().all(|line| line.starts_with("::") || line.starts_with("6 workloads")),
        "{}",
        said.out
    );
    assert!(said.out.contains("::warning file="), "a rule that warns: {}", said.out);
}

#[test]
fn the_page_is_well_formed_loads_nothing_and_shows_who_granted_what() {
    let said = scan("html");
    assert_eq!(said.code, 1);
    let page = &said.out;
    let (mut policy, mut style, mut script) = (String::new(), (0, 0), (0, 0));
    let (mut links, mut ids, mut rows, mut columns) = (BTreeSet::new(), BTreeSet::new(), 0, Vec::new());
    let (mut inside, mut header) = (String::new(), false);
    each(page, |event, position| {
        for element in ["link", "img", "iframe", "object", "base", "video", "source"] {
            assert!(!is(event, element), "{element}");
        }
        assert_eq!(
            (attribute(event, "src"), attribute(event, "style"), attribute(event, "onclick")),
            (None, None, None)
        );
        links.extend(attribute(event, "href"));
        if let Some(id) = attribute(event, "id") {
            assert!(ids.insert(id.clone()), "{id} twice");
        }
        if attribute(event, "http-equiv").as_deref() == Some("Content-Security-Policy") {
            policy = attribute(event, "content").unwrap();
        }
        rows += usize::from(is(event, "tr") && attribute(event, "data-outcome").is_some());
        header |= is(event, "thead") && rows == 0;
        match event {
            Event::Start(start) => {
                inside = start.name().as_ref().to_string();
                let place = if inside == "style" { &mut style } else { &mut script };
                if inside == "style" || inside == "script" {
                    place.0 = position;
                }
            }
            Event::Text(text) if (inside == "th" || inside == "span") && header => {
                columns.push(text.as_ref().to_string());
            }
            Event::End(end) if end.name().as_ref() == "style" => style.1 = position - "</style>".len(),
            Event::End(end) if end.name().as_ref() == "script" => script.1 = position - "</script>".len(),
            Event::End(end) if end.name().as_ref() == "thead" => header = false,
            _ => {}
        }
    });
    for (what, place) in [("style-src", style), ("script-src", script)] {
        let hash = STANDARD.encode(Sha256::digest(&page.as_bytes()[place.0..place.1]));
        assert!(policy.contains(&format!("{what} 'sha256-{hash}'")), "{what}: {policy}");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(
        links.iter().all(|link| link.strip_prefix('#').is_some_and(|id| ids.contains(id))),
        "{links:?} {ids:?}"
    );
    assert_eq!(rows, 5, "the Linux workload is only counted");
    for column in ["Workload", "fs", "http.outbound", "native.exec"] {
        assert!(columns.iter().any(|found| found == column), "{column}: {columns:?}");
    }
    for text in [
        "<td class=\"granted\">WasiGrant/orders</td>",
        "title=\"http.outbound: granted by WasiGrant/orders\"",
        "title=\"fs: not granted\"",
        "This grant would cover what no grant covers",
        "import wasi_snapshot_preview1.path_open in /files.wasm",
        "<h2>Grants</h2>",
    ] {
        assert!(page.contains(text), "no `{text}` in {page}");
    }
    let all: Value = scan("json").json();
    assert_eq!(all["workloads"].as_array().unwrap().len(), rows);
}

/// Manifests full of secrets, how many there are, and the options by which a rule quotes all of them.
fn quoted(folder: &Path) -> (String, u32, Vec<String>) {
    let bundle = opa::build(folder, "quoting", "wasmgate/violations", secrets::QUOTING);
    let (pod, of_pod) = secrets::pod("samples.example/hello:1");
    let (app, of_app) = secrets::spin_app("samples.example/orders:1");
    let (manifest, configuration) = (folder.join("objects.yaml"), folder.join("gate.yaml"));
    std::fs::write(&manifest, format!("{pod}\n---\n{app}\n")).unwrap();
    let header = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    std::fs::write(&configuration, format!("{header}{}", secrets::CONFIGURATION)).unwrap();
    let [manifest, configuration, bundle] =
        [manifest, configuration, bundle].map(|path| path.to_str().unwrap().to_owned());
    let images = layouts();
    let options = ["-c", &configuration, "--bundle", &bundle, "--image-layouts", &images];
    (manifest, of_pod + of_app, options.map(str::to_owned).to_vec())
}

#[test]
fn no_form_shows_the_secrets_of_an_object_that_a_rule_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, number, options) = quoted(folder.path());
    assert!(number >= 30, "{number}");
    let found = |said: &Said| said.out.matches("[quotes]").count();
    let text = Said::of(wasmgate().args(["scan", "-f", &manifest, "-o", "junit"]).args(&options));
    assert_eq!(found(&text), 2, "the rule quotes both: {text:?}");
    for form in ["text", "json", "yaml", "html", "sarif", "junit", "github"] {
        let said = Said::of(wasmgate().args(["scan", "-f", &manifest, "-o", form]).args(&options));
        assert_eq!(said.code, 1, "{said:?}");
        assert!(form == "text" || said.out.contains("**REDACTED**"), "{form}: {said:?}");
        assert_eq!(secrets::leaked(&said.out), Vec::<&str>::new(), "{form}");
        assert_eq!(secrets::leaked(&said.err), Vec::<&str>::new(), "{form}");
    }
}

/// A grant is kept beside the manifests, and a difference is written into a pull request: more people read these than the object.
#[test]
fn no_suggested_grant_and_no_difference_shows_the_secrets_of_an_object_that_a_rule_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, _, options) = quoted(folder.path());
    let nothing = folder.path().join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    let old = nothing.to_str().unwrap();
    for command in [
        &["suggest", "-f", &manifest][..],
        &["suggest", "--network-policy", "-f", &manifest],
        &["diff", old, &manifest],
        &["diff", old, &manifest, "-o", "json"],
        &["diff", old, &manifest, "-o", "markdown"],
    ] {
        let said = Said::of(wasmgate().args(command).args(&options));
        assert_eq!(secrets::leaked(&format!("{}{}", said.out, said.err)), Vec::<&str>::new(), "{command:?}");
        let (code, what) = match command {
            ["suggest", "-f", _] => (1, "# denied: [quotes] "),
            ["suggest", ..] => (said.code, "shop/secrets"),
            _ => (1, "quotes"),
        };
        assert!(said.code == code && said.out.contains(what), "{command:?}: {said:?}");
    }
}
