//! The Grafana dashboard and the Prometheus alerts: they name metrics and labels that the gate has, the alerts are those of
//! `docs/metrics.md`, whose table is compared with the code, and promtool evaluates each.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::manifests::kustomize;
use crate::support::process::{program, root};

/// Labels that Prometheus puts on every series of a target.
const OF_THE_TARGET: [&str; 4] = ["instance", "job", "namespace", "pod"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Metric → its labels, from the table of the page.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/metrics.md");
    let row = |line: &str| {
        let cell = line.strip_prefix("| `")?.split('`').next()?.to_string();
        let (name, labels) = cell.split_once('{').unwrap_or((&cell, ""));
        let labels =
            labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(String::from);
        Some((name.to_string(), labels.collect()))
    };
    page.lines().filter_map(row).filter(|(name, _)| name.contains('_')).collect()
}

/// The name as in the table: the parts of a histogram are series of their own.
fn family(name: &str, known: &BTreeMap<String, BTreeSet<String>>) -> String {
    let part = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
    part.filter(|base| known.contains_key(*base)).unwrap_or(name).to_string()
}

/// The words of an expression, each with what follows it.
fn words(expression: &str) -> Vec<(&str, &str)> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(letter) {
        rest = &rest[start..];
        let end = rest.find(|c| !letter(c)).unwrap_or(rest.len());
        found.push((&rest[..end], &rest[end..]));
        rest = &rest[end..];
    }
    found
}

/// What an expression names that the gate does not have.
fn unknown(expression: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = OF_THE_TARGET.into_iter().chain(["le"]).collect();
    let mut metrics = 0;
    for (word, after) in words(expression).iter().filter(|(word, _)| word.contains('_') && word.len() > 12) {
        if *word == "histogram_quantile" || *word == "__rate_interval" {
            continue;
        }
        metrics += 1;
        let Some(own) = known.get(&family(word, known)) else {
            wrong.push((*word).to_string());
            continue;
        };
        labels.extend(own.iter().map(String::as_str));
        let matchers = after.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let names = matchers.split(',').filter_map(|one| Some(one.split(['=', '!']).next()?.trim()));
        let names = names.filter(|name| !name.is_empty() && !OF_THE_TARGET.contains(name));
        wrong.extend(names.filter(|name| !own.contains(*name)).map(|name| format!("{word}{{{name}}}")));
    }
    for list in expression.split("by (").skip(1) {
        let names = list.split(')').next().unwrap_or_default().split(',').map(str::trim);
        wrong.extend(names.filter(|name| !labels.contains(name)).map(|name| format!("by ({name})")));
    }
    if metrics == 0 {
        wrong.push(format!("no metric in `{expression}`"));
    }
    wrong
}

fn dashboard() -> Value {
    serde_json::from_str(&read("manifests/grafana/wasmgate.json")).unwrap()
}

#[test]
fn every_expression_names_metrics_and_labels_that_the_gate_has() {
    let known = documented();
    assert!(known.len() > 20, "{known:?}");
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let shown = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let shown: Vec<String> = shown.map(|target| target["expr"].as_str().unwrap().to_string()).collect();
    for expression in shown.iter().chain(&alerts()) {
        assert_eq!(unknown(expression, &known), Vec::<String>::new(), "{expression}");
    }
    for (bad, wrong) in [
        ("sum(wasmgate_admission_request_total)", "wasmgate_admission_request_total"),
        ("wasmgate_violations_total{rules=\"a\"}", "wasmgate_violations_total{rules}"),
        ("sum by (webhook) (wasmgate_violations_total)", "by (webhook)"),
    ] {
        assert_eq!(unknown(bad, &known), [wrong], "the check itself");
    }
}

/// The `spec` of the rule.
fn rule() -> Value {
    let text = read("manifests/components/prometheus-rules/prometheusrule.yaml");
    serde_saphyr::from_str::<Value>(&text).unwrap()["spec"].clone()
}

/// The expressions of the rule, with their alerts checked.
fn alerts() -> Vec<String> {
    let rule = rule();
    let rules = rule["groups"][0]["rules"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for alert in rules {
        assert!(names.insert(alert["alert"].as_str().unwrap()), "{alert}");
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("warning" | "critical")), "{alert}");
        for text in ["summary", "description"] {
            assert!(!alert["annotations"][text].as_str().unwrap().is_empty(), "{alert}");
        }
    }
    rules.iter().map(|alert| alert["expr"].as_str().unwrap().to_string()).collect()
}

#[test]
fn the_alerts_are_those_of_the_page() {
    let page = read("docs/metrics.md");
    let block = page.split("```promql\n").nth(1).unwrap().split("```").next().unwrap();
    let documented: BTreeSet<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
    let alerts = alerts();
    assert_eq!(alerts.iter().map(String::as_str).collect::<BTreeSet<_>>(), documented);
}

/// An alert of the rule by its name.
fn alert<'a>(rules: &'a [Value], name: &str) -> &'a Value {
    rules.iter().find(|rule| rule["alert"] == name).unwrap_or_else(|| panic!("no alert {name}"))
}

/// Adds to an expected alert what the rule says of it: its severity, and its texts with the values of the labels.
fn expected(rule: &Value, labels: &Value) -> Value {
    let labels = labels.as_object().unwrap();
    let filled = |text: &Value| {
        labels.iter().fold(text.as_str().unwrap().to_string(), |text, (name, value)| {
            text.replace(&format!("{{{{ $labels.{name} }}}}"), value.as_str().unwrap())
        })
    };
    let texts = rule["annotations"].as_object().unwrap();
    let texts: serde_json::Map<_, _> =
        texts.iter().map(|(name, text)| (name.clone(), filled(text).into())).collect();
    let mut all = labels.clone();
    all.extend(rule["labels"].as_object().unwrap().clone());
    json!({"exp_labels": all, "exp_annotations": texts})
}

/// Runs promtool in a folder; it has to succeed.
fn promtool(folder: &std::path::Path, arguments: &[&str]) {
    let said = Command::new(program("promtool")).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));
}

/// `tests/fixtures/prometheus/alerts.yaml` is a file for `promtool test rules` without the texts of the rule.
#[test]
fn every_alert_fires_when_it_has_to_and_not_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let rule = rule();
    let rules = rule["groups"][0]["rules"].as_array().unwrap();
    let mut tests: Value = serde_saphyr::from_str(&read("tests/fixtures/prometheus/alerts.yaml")).unwrap();
    let (mut fires, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for test in tests["tests"].as_array_mut().unwrap() {
        for asked in test["alert_rule_test"].as_array_mut().unwrap() {
            let name = asked["alertname"].as_str().unwrap().to_string();
            let alerts = asked["exp_alerts"].as_array_mut().unwrap();
            if alerts.is_empty() {
                quiet.insert(name.clone())
            } else {
                fires.insert(name.clone())
            };
            for one in alerts {
                *one = expected(alert(rules, &name), one);
            }
        }
    }
    let all: BTreeSet<String> = rules.iter().map(|rule| rule["alert"].as_str().unwrap().into()).collect();
    assert_eq!(
        (&fires, &quiet),
        (&all, &all),
        "each alert has series in which it fires, and in which it does not"
    );
    // JSON is YAML.
    std::fs::write(folder.path().join("rules.yaml"), rule.to_string()).unwrap();
    std::fs::write(folder.path().join("tests.yaml"), tests.to_string()).unwrap();
    promtool(folder.path(), &["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"]);
    promtool(folder.path(), &["test", "rules", "tests.yaml"]);
}

/// Prometheus' own parser takes every expression of the dashboard, with an interval in the place of Grafana's.
#[test]
fn every_expression_of_the_dashboard_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = dashboard();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions =
        targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m"));
    let rules: Vec<Value> = expressions
        .enumerate()
        .map(|(number, expression)| json!({"record": format!("panel:{number}"), "expr": expression}))
        .collect();
    assert!(rules.len() > 10, "{rules:?}");
    let group = json!({"groups": [{"name": "panels", "rules": rules}]});
    std::fs::write(folder.path().join("panels.yaml"), group.to_string()).unwrap();
    promtool(folder.path(), &["check", "rules", "panels.yaml"]);
}

/// What the types of Grafana's own schemas say of a dashboard.
fn judged_by_grafana(dashboard: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.json");
    std::fs::write(&file, dashboard).unwrap();
    let said = Command::new(program("grafanacheck")).arg(&file).output().unwrap();
    (said.status.success(), String::from_utf8(said.stdout).unwrap())
}

#[test]
fn the_dashboard_is_one_by_the_schemas_of_grafana() {
    let dashboard = read("manifests/grafana/wasmgate.json");
    let (good, said) = judged_by_grafana(&dashboard);
    assert!(good, "{said}");
    for (from, to, complaint) in [
        (r#""schemaVersion": 39"#, r#""schemaVersion": "39""#, "schemaVersion"),
        (r#""gridPos""#, r#""gridPosition""#, "unexpected field 'gridPosition'"),
        (r#""expr""#, r#""expression""#, "panels[0].targets[0].expr: required field is missing"),
        (r#""graphMode": "area","#, "", "panels[0].options.graphMode: required field is missing"),
        (r#""type": "stat""#, r#""type": "statistics""#, "`statistics`"),
    ] {
        assert!(dashboard.contains(from), "{from}");
        let (good, said) = judged_by_grafana(&dashboard.replace(from, to));
        assert!(!good && said.contains(complaint), "{from}: {said}");
    }
}

#[test]
fn the_rule_is_added_by_its_component() {
    let with = kustomize("tests/fixtures/manifests/prometheus-rules");
    let added = with.keys().filter(|(kind, _, _)| kind == "PrometheusRule").collect::<Vec<_>>();
    let expected = ("PrometheusRule".to_string(), "wasmgate-system".to_string(), "wasmgate".to_string());
    assert_eq!(added, [&expected]);
    assert_eq!(with.len(), kustomize("manifests").len() + 1);
}

#[test]
fn the_panels_of_the_dashboard_have_places_of_their_own() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "the reader chooses it");
        let of = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(of("x") + of("w") <= 24, "{panel}");
        for x in of("x")..of("x") + of("w") {
            for y in of("y")..of("y") + of("h") {
                assert!(taken.insert((x, y)), "{panel} overlaps another");
            }
        }
    }
    assert_eq!(dashboard["templating"]["list"][0]["name"], "datasource");
}
