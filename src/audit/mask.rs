//! Masks what must never be in a log. It works on any object at any depth, and not only on known pod specs, so that a
//! future kind, or a custom resource that a broad webhook rule sends, is masked too.
//!
//! | where | what happens to it | why |
//! |---|---|---|
//! | `env[].value` and similar, anywhere | `**REDACTED**` | people put passwords there |
//! | `variables[].value`, anywhere | `**REDACTED**` | the variables of a SpinApp |
//! | `options[].value` below `runtimeConfig` | `**REDACTED**` | tokens and addresses of a SpinApp's stores and databases |
//! | `httpHeaders[].value`, anywhere | `**REDACTED**` | probes and hooks carry `Authorization` |
//! | `exec.command` of probes and hooks, but for its first word | `**REDACTED**` | people log in there |
//! | `csi.volumeAttributes.*`, `flexVolume.options.*` | `**REDACTED**` | drivers take credentials there |
//! | `gitRepo.repository` with `@` in it | `**REDACTED**` | the address may hold a token |
//! | annotations with a copy of the applied manifest | erased | the copy contains the same values |
//! | annotations that the platform lists | erased | [`Masks`] |
//! | `data`, `stringData`, `binaryData` of the object | erased | a broad webhook rule may send a Secret |
//! | `metadata.managedFields` | erased | noise, often half of the object |
//!
//! Names of variables, `valueFrom`, `command` and `args` of containers, and all other annotations are kept, since auditors look for
//! them. A secret in a command line is in the record, as it is in `kubectl get pod -o yaml`.
//!
//! Changes are reported like those of OPA's own masking: as JSON pointers that begin with `/input`.

mod pass;
mod place;
mod template;
mod trail;
#[cfg(test)]
mod tree;

use serde::{Deserialize, Serialize};

pub use super::secrets::REDACTED;
pub use pass::{Masking, hider_of};
pub use template::{Alike, Template};

/// Annotations in which tools store the applied manifest with the values of variables: kubectl, kapp,
/// Rancher's wrangler and Banzai's objectmatcher.
pub const APPLIED_MANIFESTS: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kapp.k14s.io/original",
    "objectset.rio.cattle.io/applied",
    "banzaicloud.com/last-applied",
];

/// Where a record holds the object of its review.
pub const OBJECT: &str = "/input/request/object";

/// Where a record holds the object as it was before the change.
pub const OLD_OBJECT: &str = "/input/request/oldObject";

/// Where a record holds what the rules read.
pub const POLICY_INPUT: &str = "/custom/policy_input";

/// Top-level members of an object that hold secrets or configuration.
const DATA: [&str; 3] = ["data", "stringData", "binaryData"];

/// What was masked, as JSON pointers (RFC 6901).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaskReport {
    /// Values that were removed.
    pub erased: Vec<String>,
    /// Values that were replaced.
    pub masked: Vec<String>,
}

/// What a platform masks besides what always is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masks {
    /// Annotations whose values are erased: names, or all with a prefix, as `example.com/*`.
    pub annotations: Vec<String>,
}

impl Masks {
    fn has(&self, annotation: &str) -> bool {
        self.annotations.iter().any(|listed| match listed.strip_suffix('*') {
            Some(prefix) => annotation.starts_with(prefix),
            None => listed == annotation,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::tree::Tree;
    use super::*;

    fn raw(document: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(document).unwrap()
    }

    fn masked(document: &Value) -> (Value, MaskReport) {
        masked_by(&Masks::default(), document)
    }

    fn masked_by(masks: &Masks, document: &Value) -> (Value, MaskReport) {
        let mut masking = Masking::new(masks);
        let text = masking.object(&raw(document), "/input/request/object");
        (serde_json::from_str(&text).unwrap(), masking.report)
    }

    #[test]
    fn managed_fields_are_erased_and_everything_beside_them_stays_as_it_is() {
        let metadata =
            json!({"name": "a", "managedFields": [{"manager": "m"}], "labels": {"managedFields": "b"}});
        let (value, report) =
            masked(&json!({"metadata": metadata, "managedFields": [1], "spec": {"a": 1.5}}));
        let kept = json!({"name": "a", "labels": {"managedFields": "b"}});
        assert_eq!(value, json!({"metadata": kept, "managedFields": [1], "spec": {"a": 1.5}}));
        assert_eq!(report.erased, ["/input/request/object/metadata/managedFields"]);
        for other in [json!({"metadata": "a"}), json!([1]), json!({"metadata": null}), json!(null)] {
            assert_eq!(masked(&other), (other.clone(), MaskReport::default()));
        }
    }

    #[test]
    fn values_of_variables_are_redacted_and_their_names_and_sources_kept() {
        let pod = json!({"spec": {"containers": [{"name": "api", "args": ["--verbose"], "env": [
            {"name": "TOKEN", "value": "hunter2"},
            {"name": "EMPTY", "value": ""},
            {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]}]}});
        let (value, report) = masked(&pod);
        assert_eq!(
            value.pointer("/spec/containers/0"),
            Some(&json!({"name": "api", "args": ["--verbose"], "env": [
                {"name": "TOKEN", "value": REDACTED},
                {"name": "EMPTY", "value": REDACTED},
                {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]}))
        );
        let base = "/input/request/object/spec/containers/0/env";
        assert_eq!(report.masked, [format!("{base}/0/value"), format!("{base}/1/value")]);
        assert!(report.erased.is_empty());
    }

    #[test]
    fn values_of_a_spin_app_are_redacted_and_other_options_are_kept() {
        let secret = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        let app = json!({"kind": "SpinApp", "spec": {
            "variables": [{"name": "token", "value": "hunter2"}, {"name": "from", "valueFrom": secret}],
            "runtimeConfig": {
                "sqliteDatabases": [{"name": "db", "type": "libsql", "options": [
                    {"name": "url", "value": "hunter2"}, {"name": "token", "valueFrom": secret}]}],
                "keyValueStores": [{"name": "kv", "type": "redis", "options": [{"name": "url", "value": "hunter2"}]}],
                "llmCompute": {"type": "remote_http", "options": [{"name": "auth_token", "value": "hunter2"}]},
            },
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        }});
        let (value, report) = masked(&app);
        assert!(!value.to_string().contains("hunter2"), "{value}");
        assert_eq!(value["spec"]["variables"][0], json!({"name": "token", "value": REDACTED}));
        assert_eq!(value["spec"]["variables"][1], app["spec"]["variables"][1]);
        assert_eq!(value["spec"]["dnsConfig"], app["spec"]["dnsConfig"]);
        let base = "/input/request/object/spec";
        assert!(
            report.masked.contains(&format!("{base}/runtimeConfig/llmCompute/options/0/value")),
            "{report:?}"
        );
        assert_eq!(report.masked.len(), 4);
    }

    #[test]
    fn a_label_that_is_called_env_is_no_list_of_variables() {
        let pod = json!({"metadata": {"labels": {"env": "prod"}}});
        assert_eq!(masked(&pod), (pod, MaskReport::default()));
    }

    #[test]
    fn headers_of_probes_are_redacted() {
        let header = json!({"name": "Authorization", "value": "Basic aHVudGVyMg=="});
        let pod =
            json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"httpHeaders": [header]}}}]}});
        let (value, report) = masked(&pod);
        let at = "/spec/containers/0/livenessProbe/httpGet/httpHeaders/0/value";
        assert_eq!(value.pointer(at), Some(&json!(REDACTED)));
        assert_eq!(report.masked, [format!("/input/request/object{at}")]);
    }

    #[test]
    fn what_probes_and_hooks_hand_to_their_programs_is_redacted_and_the_command_of_a_container_kept() {
        let exec = json!({"exec": {"command": ["mysqladmin", "-phunter2", "ping"]}});
        let container = json!({"command": ["app"], "args": ["-v"], "lifecycle": {"preStop": exec, "postStart": exec},
            "livenessProbe": exec, "readinessProbe": exec, "startupProbe": exec});
        let (value, report) = masked(&json!({"spec": {"containers": [container]}}));
        let container = &value["spec"]["containers"][0];
        assert_eq!(container["livenessProbe"]["exec"]["command"], json!(["mysqladmin", REDACTED, REDACTED]));
        assert_eq!((&container["command"], &container["args"]), (&json!(["app"]), &json!(["-v"])));
        assert!(!value.to_string().contains("hunter2"), "{value}");
        assert_eq!(report.masked.len(), 10);
    }

    #[test]
    fn options_of_the_drivers_of_volumes_are_redacted() {
        let volumes = json!([
            {"name": "a", "csi": {"driver": "d", "volumeAttributes": {"user": "me", "password": "hunter2"}}},
            {"name": "b", "flexVolume": {"driver": "d", "options": {"password": "hunter2"}, "secretRef": {"name": "s"}}},
            {"name": "c", "gitRepo": {"repository": "https://me:hunter2@git.example/r"}},
            {"name": "d", "gitRepo": {"repository": "https://git.example/r"}},
        ]);
        let (value, report) = masked(&json!({"spec": {"volumes": volumes}}));
        assert!(!value.to_string().contains("hunter2"), "{value}");
        let volumes = &value["spec"]["volumes"];
        assert_eq!(volumes[0]["csi"]["driver"], "d");
        assert_eq!(volumes[1]["flexVolume"]["secretRef"], json!({"name": "s"}));
        assert_eq!(volumes[3]["gitRepo"]["repository"], "https://git.example/r");
        let base = "/input/request/object/spec/volumes";
        assert!(report.masked.contains(&format!("{base}/0/csi/volumeAttributes/password")), "{report:?}");
        assert_eq!(report.masked.len(), 4);
    }

    #[test]
    fn annotations_of_the_platforms_list_are_erased_by_name_and_by_prefix() {
        let masks = Masks { annotations: vec!["team/token".into(), "vault.example/*".into()] };
        let annotations = json!({"team/token": "hunter2", "vault.example/a": "hunter2", "vault.example": "kept", "team/tokens": "kept"});
        let template = json!({"metadata": {"annotations": annotations}});
        let (value, report) = masked_by(
            &masks,
            &json!({"metadata": {"annotations": annotations}, "spec": {"template": template}}),
        );
        let kept = json!({"vault.example": "kept", "team/tokens": "kept"});
        assert_eq!(value["metadata"]["annotations"], kept);
        assert_eq!(value["spec"]["template"]["metadata"]["annotations"], kept);
        let base = "/input/request/object/metadata/annotations";
        assert_eq!(report.erased[..2], [format!("{base}/team~1token"), format!("{base}/vault.example~1a")]);
    }

    #[test]
    fn copies_of_the_manifest_are_erased_wherever_metadata_stands() {
        let metadata = json!({"name": "x", "managedFields": [{}], "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{\"value\":\"hunter2\"}", "keep": "me"}});
        let deployment = json!({"metadata": metadata, "spec": {"template": {"metadata": metadata}}});
        let (value, report) = masked(&deployment);
        let rest = json!({"name": "x", "annotations": {"keep": "me"}});
        assert_eq!(value, json!({"metadata": rest, "spec": {"template": {"metadata": rest}}}));
        let copy = "annotations/kubectl.kubernetes.io~1last-applied-configuration";
        for at in ["metadata", "spec/template/metadata"] {
            for gone in ["managedFields", copy] {
                assert!(report.erased.contains(&format!("/input/request/object/{at}/{gone}")), "{report:?}");
            }
        }
        assert_eq!(report.erased.len(), 4);
    }

    #[test]
    fn the_data_of_a_secret_is_erased() {
        let secret = json!({"kind": "Secret", "data": {"p": "aHVudGVyMg=="}, "stringData": {"q": "hunter2"}});
        let (value, report) = masked(&secret);
        assert_eq!(value, json!({"kind": "Secret"}));
        assert_eq!(report.erased, ["/input/request/object/data", "/input/request/object/stringData"]);
    }

    #[test]
    fn what_rules_read_is_masked_as_the_object_is_and_the_options_of_the_platform_stay() {
        let copy = json!({"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "keep": "me"});
        let input = json!({
            "object": {"data": {"p": "hunter2"}, "spec": {"containers": [{"env": [{"name": "A", "value": "hunter2"}]}]}},
            "workload": {"annotations": copy, "labels": {"env": "prod"}},
            "containers": [{"name": "app", "requires": [{"name": "env", "names": ["A"]}]}],
            "options": {"env": ["prod"]},
        });
        let masks = Masks::default();
        let mut masking = Masking::new(&masks);
        let text = masking.policy_input(&raw(&input), "/custom/policy_input");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(!value.to_string().contains("hunter2"), "{value}");
        assert_eq!((&value["options"], &value["containers"]), (&input["options"], &input["containers"]));
        assert_eq!(value["workload"], json!({"annotations": {"keep": "me"}, "labels": {"env": "prod"}}));
        let base = "/custom/policy_input";
        assert_eq!(masking.report.masked, [format!("{base}/object/spec/containers/0/env/0/value")]);
        let copy = "workload/annotations/kubectl.kubernetes.io~1last-applied-configuration";
        assert_eq!(masking.report.erased, [format!("{base}/object/data"), format!("{base}/{copy}")]);
        assert_eq!(masking.policy_input(&raw(&json!([])), base), "null");
        assert_eq!(masking.report.erased.last().unwrap(), base);
    }

    #[test]
    fn a_document_that_other_readers_do_not_take_is_erased_whole() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (json, is_taken) in [
            (nested(120), true),
            (nested(121), false),
            (nested(100_000), false),
            (r#"{"a": 1e308, "b": "\ud83d\ude00"}"#.to_owned(), true),
            (r#"{"a": 1e309}"#.to_owned(), false),
            (r#"{"a": "\ud83d"}"#.to_owned(), false),
            (r#"{"\ud83d": 1}"#.to_owned(), false),
            (r#"{"spec": {"env": {"A": "\ud83d"}}}"#.to_owned(), true),
        ] {
            let masks = Masks::default();
            let mut masking = Masking::new(&masks);
            let document: Box<RawValue> = serde_json::from_str(&json).unwrap();
            let mut line = String::from("{\"before\":");
            masking.write_object(&document, "/input/request/object", None, &mut line);
            line.push('}');
            let line: Value = serde_json::from_str(&line).unwrap();
            let erased: &[&str] = if is_taken { &[] } else { &["/input/request/object"] };
            assert_eq!(line["before"].is_null(), !is_taken);
            assert_eq!(masking.report.erased, erased);
        }
    }

    #[test]
    fn what_was_masked_before_a_part_that_cannot_be_read_is_not_listed() {
        let masks = Masks::default();
        let mut masking = Masking::new(&masks);
        let text = r#"{"data": 1, "env": {"A": "hunter2"}, "z": 1e999}"#;
        assert_eq!(masking.object(serde_json::from_str(text).unwrap(), "/o"), "null");
        assert_eq!(masking.report, MaskReport { erased: vec!["/o".into()], masked: Vec::new() });
    }

    #[test]
    fn the_text_is_on_one_line_and_everything_else_as_it_was_written() {
        let masks = Masks::default();
        let text =
            "{ \"a\\u003cb\" :\n\t[ 1.50 , \"x\\ny\", { } , [ ] ],\r\n \"\\u0065nv\": [{\"value\": 1}] }";
        let masked = Masking::new(&masks).object(serde_json::from_str(text).unwrap(), "");
        assert_eq!(
            masked, r#"{"a\u003cb":[1.50,"x\ny",{},[]],"\u0065nv":[{"value":"**REDACTED**"}]}"#,
            "an escaped name is the same name"
        );
    }

    /// Commas and white space beside members that are left out, wherever these stand.
    #[test]
    fn whichever_members_are_left_out_the_rest_is_as_it_was() {
        let members = [("name", true), ("managedFields", false), ("labels", true), ("managedFields", false)];
        let masks = Masks::default();
        for chosen in 0_u8..16 {
            for (comma, colon) in [(",", ":"), (" ,\n\t", " :  ")] {
                let in_it = |number: &usize| chosen & (1 << number) != 0;
                let listed: Vec<_> = (0..4).filter(in_it).map(|number| members[number]).collect();
                let written: Vec<_> =
                    listed.iter().map(|(name, _)| format!("\"{name}\"{colon}[1,{{\"a\":2}}]")).collect();
                let text =
                    format!("{{\"metadata\"{colon}{{{}}}{comma}\"kind\":\"Pod\"}}", written.join(comma));
                let kept: Vec<_> = listed.iter().filter(|(_, is_kept)| *is_kept).collect();
                let kept: Vec<_> =
                    kept.iter().map(|(name, _)| format!("\"{name}\":[1,{{\"a\":2}}]")).collect();
                let wanted = format!("{{\"metadata\":{{{}}},\"kind\":\"Pod\"}}", kept.join(","));
                let mut line = "before: ".to_owned();
                Masking::new(&masks).write_object(serde_json::from_str(&text).unwrap(), "", None, &mut line);
                assert_eq!(line, format!("before: {wanted}"), "{text}");
            }
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_masked_twice() {
        let masks = Masks::default();
        let text = r#"{"env":{"A":"hunter2"},"env":{"A":"hunter3"},"data":1,"data":2}"#;
        let mut masking = Masking::new(&masks);
        let masked = masking.object(serde_json::from_str(text).unwrap(), "");
        assert_eq!(masked, r#"{"env":{"A":"**REDACTED**"},"env":{"A":"**REDACTED**"}}"#);
        assert_eq!((masking.report.masked.len(), masking.report.erased.len()), (2, 2));
    }

    #[test]
    fn values_are_kept_only_where_a_text_may_quote_them() {
        let document = raw(&json!({"env": {"A": "hunter2"}, "data": "hunter3"}));
        let masks = Masks::default();
        let (mut with, mut without) = (Masking::new(&masks), Masking::without_texts(&masks));
        assert_eq!(with.object(&document, "/o"), without.object(&document, "/o"));
        assert_eq!(with.report, without.report);
        assert_eq!((with.secrets.values().len(), without.secrets.values().len()), (2, 0));
    }

    /// Each copy is quoted once more than the one around it. Where they are not followed any more, nothing of a text is shown.
    #[test]
    fn values_of_copies_within_copies_are_known_or_no_text_is_shown() {
        for (copies, is_known) in [(1, true), (4, true), (5, false), (7, false)] {
            let mut document = json!({"env": {"A": "hunter2"}});
            for _ in 0..copies {
                document = json!({"annotations": {APPLIED_MANIFESTS[0]: document.to_string()}});
            }
            let masks = Masks::default();
            let mut masking = Masking::new(&masks);
            assert_eq!(masking.object(&raw(&document), ""), r#"{"annotations":{}}"#);
            assert_eq!(masking.report.erased.len(), 1);
            let hider = masking.secrets.hider(&[]);
            assert!(!hider.hide("a hunter2").contains("hunter2"));
            assert_eq!(hider.hides_all(), !is_known, "{copies}");
        }
    }

    /// The pass over the text, held to the masks on a tree.
    fn is_as_the_tree(masks: &Masks, document: &Value) {
        let (mut tree, mut pass) = (Tree::new(masks), Masking::new(masks));
        let wanted = tree.object(document.clone(), "/o");
        let found = pass.object(&raw(document), "/o");
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), wanted, "{document}");
        same_secrets(&tree, &pass, document);
        let Value::Object(input) = document else { return };
        let (mut tree, mut pass) = (Tree::new(masks), Masking::new(masks));
        let wanted = tree.policy_input(input.clone(), "/i");
        let found = pass.policy_input(&raw(document), "/i");
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), wanted, "{document}");
        same_secrets(&tree, &pass, document);
    }

    fn same_secrets(tree: &Tree<'_>, pass: &Masking<'_>, document: &Value) {
        assert_eq!(Tree::pointers(&pass.report), Tree::pointers(&tree.report), "{document}");
        // The tree goes through options of volumes twice, and takes what it wrote the first time for a value.
        let wanted: Vec<_> = tree.secrets.values().iter().filter(|value| *value != REDACTED).collect();
        assert_eq!(pass.secrets.values().iter().collect::<Vec<_>>(), wanted, "{document}");
    }

    #[test]
    fn the_corpus_is_masked_as_on_a_tree() {
        let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folders = ["fuzz/corpus/workload", "fuzz/corpus/review", "tests/cases", "manifests/samples"];
        let files = folders.iter().flat_map(|folder| std::fs::read_dir(top.join(folder)).unwrap());
        let masks = Masks { annotations: vec!["wasmgate.dev/*".into()] };
        let mut documents = 0;
        for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let Ok(values) = serde_saphyr::from_multiple::<Value>(&text) else { continue };
            for value in values {
                is_as_the_tree(&masks, &value);
                is_as_the_tree(&masks, &value["object"]);
                documents += 1;
            }
        }
        assert!(documents > 300, "{documents}");
    }

    /// Names that mean something to the masks, and others.
    const NAMES: [&str; 34] = [
        "variables",
        "runtimeConfig",
        "env",
        "httpHeaders",
        "metadata",
        "managedFields",
        "annotations",
        "exec",
        "command",
        "csi",
        "volumeAttributes",
        "flexVolume",
        "options",
        "gitRepo",
        "repository",
        "name",
        "value",
        "valueFrom",
        "data",
        "stringData",
        "binaryData",
        "object",
        "spec",
        "template",
        "containers",
        "a/b~c",
        "kubectl.kubernetes.io/last-applied-configuration",
        "kapp.k14s.io/original",
        "objectset.rio.cattle.io/applied",
        "banzaicloud.com/last-applied",
        "team/token",
        "vault.example/a",
        "\u{e9}\"\\",
        "",
    ];

    fn documents() -> impl Strategy<Value = Value> {
        let copy = r#"{"spec":{"env":[{"name":"A","value":"of the copy"}]}}"#;
        let leaf = prop_oneof![
            "[a-z@\"\\\\\u{e9}\n ]{0,12}".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Few digits: of more, what is read may not be what was written.
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
            Just(json!(copy)),
            Just(json!(json!({"annotations": {APPLIED_MANIFESTS[1]: copy}}).to_string())),
        ];
        leaf.prop_recursive(7, 96, 6, |inner| {
            let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..7)
                    .prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    #[test]
    fn variables_in_foreign_shapes_are_redacted_too() {
        let crd = json!({"spec": {"env": {"TOKEN": "hunter2", "DEEP": {"a": ["hunter2"]}}, "app": {"env": ["T=hunter2"]}}});
        let (value, _) = masked(&crd);
        assert!(!value.to_string().contains("hunter2"), "{value}");
        // Beside a value of the list's own.
        let item = json!({"name": "A", "value": "hunter2", "env": [{"name": "B", "value": "hunter2"}]});
        let (value, report) = masked(&json!({"spec": {"variables": [item]}}));
        let of = |pointer: &str| value.pointer(&format!("/spec/variables/0{pointer}")).cloned();
        assert_eq!([of("/value"), of("/env/0/value")], [Some(json!(REDACTED)), Some(json!(REDACTED))]);
        assert_eq!((of("/name"), report.masked.len()), (Some(json!("A")), 2));
    }

    /// Paths of the pod spec or template in the kinds that have one.
    const TEMPLATES: [&str; 4] = ["", "/spec/template", "/spec/jobTemplate/spec/template", "/template"];
    const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

    /// Builds `{a: {b: inner}}` from `/a/b`.
    fn nested(pointer: &str, inner: Value) -> Value {
        pointer
            .rsplit('/')
            .filter(|token| !token.is_empty())
            .fold(inner, |value, token| json!({token: value}))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_document_is_masked_as_on_a_tree(document in documents()) {
            is_as_the_tree(&Masks { annotations: vec!["team/token".into(), "vault.example/*".into()] }, &document);
        }
    }

    proptest! {
        #[test]
        fn a_secret_in_any_variable_of_any_kind_is_never_in_the_output(
            secret in "[A-Za-z0-9]{12,40}",
            template in 0..TEMPLATES.len(),
            list in 0..LISTS.len(),
            before in 0..4_usize,
            suffix in "[\\PC\\n\"\\\\]{0,8}",
        ) {
            let secret = format!("§{secret}");
            let value = format!("{secret}{suffix}");
            let mut containers = vec![json!({"name": "other", "env": [{"name": "A", "value": "b"}]}); before];
            containers.push(json!({"name": "c", "image": "i", "env": [{"name": "TOKEN", "value": value}]}));
            let spec = json!({"spec": {LISTS[list]: containers}});
            let copy = json!({APPLIED_MANIFESTS[0]: spec.to_string()});
            let mut document = nested(TEMPLATES[template], spec);
            document["metadata"] = json!({"annotations": copy});
            let (output, report) = masked(&document);
            prop_assert!(!output.to_string().contains(&secret), "{output}");
            prop_assert_eq!(report.masked.len(), before + 1);
            let pointer = report.masked.last().unwrap().strip_prefix("/input/request/object").unwrap();
            prop_assert_eq!(document.pointer(pointer), Some(&json!(value)));
        }

        #[test]
        fn whatever_is_under_a_list_of_variables_only_its_names_and_sources_survive(
            shape in prop::collection::vec(
                prop_oneof![
                    Just(json!("T=§secret")), Just(json!({"name": "T", "value": "§secret"})),
                    Just(json!({"name": "T", "value": ["§secret"]})), Just(json!([["§secret"]])),
                    Just(json!({"name": "T", "other": {"value": "§secret"}})), Just(json!(null)),
                ],
                0..6,
            ),
        ) {
            let (output, _) = masked(&json!({"spec": {"containers": [{"env": shape}]}}));
            prop_assert!(!output.to_string().contains("§secret"), "{output}");
        }
    }

    /// A key is in the pointer of everything below it.
    #[test]
    fn pointers_take_few_bytes_however_long_keys_are_and_however_much_is_masked() {
        let masks = Masks::default();
        for key in ["a".repeat(100_000), "a".to_owned()] {
            let document = json!({ key: { "env": vec!["hunter2"; 20_000] } });
            let mut masking = Masking::new(&masks);
            let text = masking.object(&raw(&document), "/input/request/object");
            assert!(!text.contains("hunter2"));
            let bytes: usize = masking.report.masked.iter().map(String::len).sum();
            assert!(bytes < 2 * (64 << 10), "{bytes}");
            assert_eq!(
                masking.report.masked.last().map(String::as_str),
                Some("/input/request/object"),
                "and more in it"
            );
        }
    }

    #[test]
    fn texts_are_hidden_whole_where_values_may_stand_behind_what_cannot_be_read() {
        let masks = Masks::default();
        let deep = format!("{}1{}", "[".repeat(125), "]".repeat(125));
        let object = format!(r#"{{"a":{deep},"env":{{"A":"hunter2"}}}}"#);
        let annotations = json!({ "kubectl.kubernetes.io/last-applied-configuration": object });
        let holder = json!({ "metadata": { "annotations": annotations } }).to_string();
        for text in [object, holder] {
            let mut masking = Masking::new(&masks);
            let document: Box<RawValue> = serde_json::from_str(&text).unwrap();
            masking.object(&document, "");
            assert_eq!(masking.secrets.hider(&[]).hide("it says hunter2"), REDACTED);
        }
    }
}
