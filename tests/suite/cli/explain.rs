//! `explain`: what it says of the samples, in every form, and of manifests that are wrong.

use serde_json::{Value, json};
use wasmgate::quantity::Quantity;
use wasmgate::usage::{LearnedSize, Record, UsageKey, UsageObject};

use super::{Said, layouts, pipe, run, samples, wasmgate};
use crate::support::gate::{Request, defaulted};
use crate::support::opa;

fn explain(workload: &str, more: &[&str]) -> Said {
    let file = samples(&format!("workloads/{workload}.yaml"));
    let grants = samples("grants");
    let images = layouts();
    let fixed = ["explain", "-f", file.to_str().unwrap(), "--grants", grants.to_str().unwrap()];
    run(&[&fixed, ["--image-layouts", &images].as_slice(), more].concat())
}

/// Explains standard input, with the sample images and no grants.
fn explain_text(manifest: &str, more: &[&str]) -> Said {
    let images = layouts();
    pipe(&[&["explain", "-f", "-", "--image-layouts", &images], more].concat(), manifest)
}

#[test]
fn a_module_is_placed_sized_and_admitted() {
    let said = explain("hello", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "Deployment shop/hello  admitted",
        "changes to the pods that are created from it",
        "container hello wasm module",
        "manifest.layers[].mediaType = application/wasm",
        "+       runtimeClassName: wasmtime\n",
        "+         image: samples.example/hello:1@sha256:",
        "memory: 10Mi",
        "verdict admitted",
    ]);
    assert!(!said.out.contains("names no command"), "the pod gives arguments: {}", said.out);
}

#[test]
fn a_granted_spin_app_is_admitted_and_the_grant_is_named() {
    let said = explain("orders", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "wasm spin-app",
        "runtimeClassName: wasmtime-spin-v2",
        "http.outbound https://payments.example.com",
    ]);
    let granted = said.out.lines().filter(|line| line.ends_with("WasiGrant/orders")).count();
    assert_eq!(granted, 4, "{}", said.out);
    assert!(!said.out.contains("none ["), "{}", said.out);
}

#[test]
fn the_same_app_without_a_grant_is_denied_with_the_grant_that_it_needs() {
    let said = explain("orders-everywhere", &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "Pod shop/orders-everywhere  denied",
        "[needs-grant] container `orders` may use `http.outbound` to `https://payments.example.com`",
        "kind: WasiGrant",
        "serviceAccounts: [default]",
        "- { name: http.outbound, hosts: [\"https://payments.example.com\"] }",
        "verdict denied",
    ]);
}

#[test]
fn the_grant_that_is_suggested_is_enough() {
    let json = explain("files", &["-o", "json"]).json();
    let grants = tempfile::tempdir().unwrap();
    let grant = json["objects"][0]["suggestedGrant"].as_str().unwrap();
    std::fs::write(grants.path().join("files.yaml"), grant).unwrap();
    let file = samples("workloads/files.yaml");
    let said = run(&[
        "explain",
        "-f",
        file.to_str().unwrap(),
        "--image-layouts",
        &layouts(),
        "--grants",
        grants.path().to_str().unwrap(),
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["WasiGrant/files", "verdict admitted"]);
}

#[test]
fn files_and_secrets_in_reach_are_denied() {
    let said = explain("files", &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "config.Entrypoint = /files.wasm",
        "packed as scratch-rootfs, root-filesystem",
        "env DB_PASSWORD (secret)",
        "fs /data read-write",
        "[needs-grant] container `files` may use `fs` on `/data` (read-write)",
        "[host-process-in-reach] container `files` opens files",
        "volumeMount /data (emptyDir data)",
    ]);
    let open = said.out.lines().filter(|line| line.ends_with("none [needs-grant]")).count();
    assert_eq!(open, 2, "{}", said.out);
}

#[test]
fn a_linux_pod_is_left_alone() {
    let said = explain("linux", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["container web linux", "no Wasm: left alone"]);
    assert!(!said.out.contains("changes"), "{}", said.out);
}

#[test]
fn a_linux_sidecar_keeps_its_size() {
    let said = explain("mixed", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["init container proxy linux", "container hello wasm module", "runtimeClassName: wasmtime"]);
    let json = explain("mixed", &["-o", "json"]).json();
    let changes = json["objects"][0]["changes"].as_array().unwrap();
    let sizes =
        |list: &str| changes.iter().any(|c| c.as_str().unwrap().contains(&format!("{list}[0].resources")));
    assert!(sizes("containers") && !sizes("initContainers"), "{changes:?}");
}

#[test]
fn json_and_yaml_say_the_same() {
    let json = explain("orders-everywhere", &["-o", "json"]);
    let yaml = explain("orders-everywhere", &["-o", "yaml"]);
    assert_eq!((json.code, yaml.code), (1, 1));
    let parsed: Value = serde_saphyr::from_str(&yaml.out).unwrap();
    assert_eq!(parsed, json.json());
    let object = &parsed["objects"][0];
    assert_eq!(object["outcome"], "denied");
    assert_eq!(object["containers"][0]["kind"], "spin-app");
    assert_eq!(object["violations"].as_array().unwrap().len(), 4);
    assert!(object["patch"].as_array().unwrap().iter().any(|op| op["path"] == "/spec/runtimeClassName"));
    let effective = object["containers"][0]["effective"].as_array().unwrap();
    let outbound = effective.iter().find(|e| e["capability"] == "http.outbound").unwrap();
    assert_eq!(
        (&outbound["coveredBy"], &outbound["host"]),
        (&json!([]), &json!("https://payments.example.com"))
    );
}

#[test]
fn a_folder_is_explained_whole_and_its_strictest_verdict_is_the_exit_code() {
    let grants = samples("grants");
    let workloads = samples("workloads");
    let said = run(&[
        "explain",
        "-f",
        workloads.to_str().unwrap(),
        "--grants",
        grants.to_str().unwrap(),
        "--image-layouts",
        &layouts(),
    ]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["6 objects: 2 denied, 2 admitted, 1 no Wasm: left alone, 1 admitted with warnings"]);
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {containers: [{name: c, image: 'samples.example/web:1'}]}\n";

#[test]
fn documents_lists_and_objects_without_a_pod_come_from_standard_input() {
    let text = format!(
        "{POD}---\napiVersion: v1\nkind: Service\nmetadata: {{name: two, namespace: own}}\n---\napiVersion: v1\nkind: List\n\
         items:\n- {{apiVersion: v1, kind: Pod, metadata: {{name: three}}, spec: {{containers: [{{name: c, image: \
         'samples.example/hello:1'}}]}}}}\n"
    );
    let said = explain_text(&text, &["-n", "shop"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&[
        "Pod shop/one  no Wasm: left alone  standard input, document 1",
        "Service own/two  not judged: the gate does not know this kind  standard input, document 2",
        "Pod shop/three  admitted with warnings  standard input, document 3, item 1",
        "the image names no command",
    ]);
}

#[test]
fn a_kind_whose_pods_are_made_of_several_objects_is_not_judged_and_said_to_be_so() {
    let text = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: iris}\n\
                spec: {predictor: {model: {modelFormat: {name: sklearn}}}}\n";
    let said = explain_text(text, &["-n", "shop"]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["InferenceService shop/iris  not judged: parts of its pods come from other objects"]);
    let said = explain_text(text, &["-n", "shop", "-o", "json"]);
    said.has(&["\"not-judged\""]);
}

#[test]
fn an_object_without_a_template_where_its_kind_has_one_is_not_called_left_alone() {
    let rollout = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\n\
                   spec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n";
    let service = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\nspec: {}\n";
    for (text, kind) in [(rollout, "Rollout"), (service, "Service")] {
        let said = explain_text(text, &["-n", "shop"]);
        assert_eq!(said.code, 3, "{said:?}");
        let title = format!("{kind} shop/web  not judged: it has no pod template where its kind has one");
        said.has(&[title.as_str(), "`/spec/template`"]);
        let said = explain_text(text, &["-n", "shop", "-o", "json"]);
        said.has(&["\"not-judged\""]);
    }
}

#[test]
fn an_unreadable_image_is_not_called_linux() {
    let text = POD.replace("samples.example/web:1", "samples.example/none:1");
    let said = explain_text(&text, &[]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&["container c unread", "admitted unchanged; an image could not be read", "reason"]);
    // Under a Wasm runtime it would run without being judged.
    let said = explain_text(&text.replace("spec: {", "spec: {runtimeClassName: wasmtime, "), &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["[not-inspected]", "verdict denied"]);
}

#[test]
fn a_generated_name_is_shown_by_its_prefix() {
    let text = POD.replace("name: one", "generateName: a-");
    assert_ne!(text, POD);
    explain_text(&text, &["-n", "shop"]).has(&["Pod shop/a-*  "]);
}

#[test]
fn a_pipe_that_is_named_as_a_file_is_read_like_standard_input() {
    let images = layouts();
    let read = |place: &str| pipe(&["explain", "-f", place, "--image-layouts", &images], POD);
    let (said, expected) = (read("/dev/stdin"), read("-"));
    assert_eq!(said.code, expected.code, "{said:?}");
    said.has(&["/one  ", "/dev/stdin"]);
}

#[test]
fn a_wrong_manifest_is_reported_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.yaml");
    let path = bad.to_str().unwrap();
    std::fs::write(&bad, format!("{POD}---\nkind: [\n")).unwrap();
    run(&["explain", "-f", path]).fails(&["bad.yaml", "line 6"]);
    std::fs::write(&bad, format!("{POD}---\n- 1\n")).unwrap();
    run(&["explain", "-f", path]).fails(&["bad.yaml, document 2", "no `kind`"]);
    run(&["explain", "-f", "/no/such/file.yaml"]).fails(&["/no/such/file.yaml"]);
    std::fs::remove_file(&bad).unwrap();
    run(&["explain", "-f", folder.path().to_str().unwrap()]).fails(&["found no Kubernetes objects"]);
}

#[test]
fn an_object_that_cannot_be_read_hides_no_other() {
    let broken = POD.replace("'samples.example/web:1'", "7").replace("name: one", "name: two");
    let denied = "{apiVersion: v1, kind: Pod, metadata: {name: three}, spec: {hostNetwork: true, containers: [{name: a, image: \
                  \"samples.example/hello:1\"}]}}";
    let text = format!("{POD}---\n{broken}---\n{denied}\n");
    let said = explain_text(&text, &["-n", "shop"]);
    assert_eq!(said.code, 2, "{said:?}");
    said.has(&[
        "Pod shop/one  no Wasm: left alone",
        "Pod shop/two  could not be read: left alone  standard input, document 2",
        "[error] ",
        "Pod shop/three  denied",
        "3 objects: 1 no Wasm: left alone, 1 could not be read: left alone, 1 denied",
    ]);
    let line = "wasmgate: could not explain Pod `two` (standard input, document 2): ";
    assert_eq!(
        said.err.lines().filter(|l| l.starts_with(line) && l.contains("image")).count(),
        1,
        "{said:?}"
    );
    let json = explain_text(&text, &["-n", "shop", "-o", "json"]);
    assert_eq!(json.code, 2, "{json:?}");
    let objects = json.json()["objects"].clone();
    assert_eq!(objects[1]["outcome"], "unreadable");
    let error = objects[1]["error"].as_str().unwrap();
    assert_eq!(objects[1]["warnings"], json!([format!("wasmgate left this object alone: {error}")]));
    assert_eq!((&objects[0].get("error"), &objects[2]["outcome"]), (&None, &json!("denied")));
    // Under a Wasm runtime the validating webhook refuses what it cannot read.
    let said = explain_text(&broken.replace("spec: {", "spec: {runtimeClassName: wasmtime, "), &[]);
    assert_eq!(said.code, 2, "{said:?}");
    said.has(&["verdict denied", "[error] "]);
}

#[test]
fn colour_is_for_terminals_and_on_request() {
    assert!(!explain("hello", &[]).out.contains('\x1b'));
    let file = samples("workloads/hello.yaml");
    let mut command = wasmgate();
    command.args(["explain", "-f", file.to_str().unwrap(), "--image-layouts", &layouts()]);
    let said = Said::of(command.env("CLICOLOR_FORCE", "1"));
    said.has(&["\x1b[32madmitted\x1b[0m", "\x1b[32m+       runtimeClassName: wasmtime\x1b[0m"]);
}

#[test]
fn the_policy_input_is_shown_on_request() {
    let json = explain("files", &["-o", "json", "--show-input"]).json();
    let input = &json["objects"][0]["input"];
    assert_eq!(input["apiVersion"], "wasmgate.dev/v1alpha1");
    assert_eq!(input["containers"][0]["effective"], json["objects"][0]["containers"][0]["effective"]);
    assert!(input["object"]["spec"].is_object(), "{input}");
    assert_eq!(explain("files", &["-o", "json"]).json()["objects"][0].get("input"), None);
    explain("files", &["--show-input"])
        .has(&["input of the policies", "\"apiVersion\": \"wasmgate.dev/v1alpha1\""]);
}

#[test]
fn a_template_whose_pods_would_be_denied_is_itself_admitted() {
    let template = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: app}, spec: {template: {spec: \
         {hostNetwork: true, containers: [{name: a, image: \"samples.example/hello:1\"}]}}}}";
    let said = explain_text(template, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&["verdict admitted with warnings: its pods will be denied", "[host-namespace]"]);
}

/// The operator makes pods of every template, and the webhook at the job itself judges the first.
#[test]
fn every_template_of_an_object_with_several_is_explained() {
    let template = |spec: &str| {
        format!(
            "{{template: {{spec: {{{spec} containers: [{{name: a, image: \"samples.example/hello:1\"}}]}}}}}}"
        )
    };
    let job = |worker: &str| {
        format!(
            "{{apiVersion: kubeflow.org/v2beta1, kind: MPIJob, metadata: {{name: train}}, spec: {{mpiReplicaSpecs: \
             {{Launcher: {}, Worker: {}}}}}}}",
            template(""),
            template(worker)
        )
    };
    let said = explain_text(&job("hostNetwork: true,"), &[]);
    assert_eq!(said.code, 1, "{said:?}");
    // The webhooks' own answer for the job, and then what will become of the other pods.
    let (job_itself, worker) = said.out.split_once("`spec.mpiReplicaSpecs.Worker.template`").unwrap();
    assert!(
        job_itself.contains("judged the first pod template of this MPIJob, and not the other 1"),
        "{said:?}"
    );
    assert!(!job_itself.contains("[host-namespace]") && worker.contains("[host-namespace]"), "{said:?}");
    assert!(!worker.contains("first pod template"), "{said:?}");
    assert_eq!(explain_text(&job(""), &[]).code, 0);
}

#[test]
fn an_unreadable_image_has_its_own_exit_code() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: app}, spec: {containers: [{name: a, image: \"samples.example/none:1\"}]}}";
    let said = explain_text(pod, &[]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&["admitted unchanged; an image could not be read"]);
}

#[test]
fn an_action_for_an_unknown_rule_is_refused_with_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.yaml");
    let gate = |rules: &str| {
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        std::fs::write(&file, format!("{head}enforcement: {rules}\n")).unwrap();
        explain("hello", &["--config", file.to_str().unwrap()])
    };
    let refused = gate("{rules: {need-grant: warn}}");
    refused.fails(&[
        "`enforcement.rules` cannot be `need-grant`",
        "no loaded bundle has this rule",
        "needs-grant",
    ]);
    gate("{neverExempt: [native]}").fails(&["`enforcement.neverExempt` cannot be `native`", "native-code"]);
    gate("{rules: {policy-error: warn}}")
        .fails(&["`enforcement.rules` cannot be `policy-error`", "leave it out"]);
    assert_eq!(gate("{rules: {needs-grant: warn, policy-error: deny}}").code, 0);
}

#[test]
fn sizes_written_as_limits_only_are_kept_as_the_api_server_completes_them() {
    let spec = "{containers: [{name: a, image: \"samples.example/hello:1\", command: [/], resources: {limits: {cpu: 500m, \
         memory: 256Mi}}}]}";
    let pod = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: app}}, spec: {spec}}}");
    let deployment = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: app}}, spec: {{template: {{spec: {spec}}}}}}}"
    );
    for text in [pod, deployment] {
        let json = explain_text(&text, &["-o", "json"]).json();
        let object = &json["objects"][0];
        let changes = object["changes"].to_string();
        assert!(changes.contains("runtimeClassName") && !changes.contains("resources"), "{changes}");
        assert_eq!(object["containers"][0]["resources"]["requestBytes"], 256 << 20, "{object}");
    }
}

#[test]
fn an_unrecognised_program_is_reported_and_gets_no_grant() {
    let folder = tempfile::tempdir().unwrap();
    // What wasm-to-oci pushes: a module's layer under a config that no shim reads.
    let config = "application/vnd.wasm.config.v1+json";
    let image = crate::support::oci::ImageBuilder::new(config, json!({}))
        .layer(crate::support::oci::SPIN_LAYER, crate::support::oci::fixtures::command())
        .build();
    image.write_layout(&folder.path().join("policy"), "1").unwrap();
    let images = format!("kubewarden.example={}", folder.path().display());
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: app}, spec: {containers: [{name: a, image: \
         \"kubewarden.example/policy:1\"}]}}";
    let said = pipe(&["explain", "-f", "-", "--image-layouts", &images], pod);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "admitted unchanged; it is not known what starts",
        "[warning] container `a` was admitted as it is, because its program was not recognised",
        "wasm-to-oci",
    ]);
    assert!(!said.out.contains("kind: WasiGrant"), "{}", said.out);
    let suggested = pipe(&["suggest", "-f", "-", "--image-layouts", &images], pod);
    suggested.has(&["it is not known what starts, so no grant would help", "# unknown: container `a`: "]);
    assert_eq!(suggested.code, 3, "{suggested:?}");
    assert!(!suggested.out.contains("kind: WasiGrant"), "{}", suggested.out);
}

/// The module is recognised, and the title said that it was not.
#[test]
fn a_spin_app_with_a_module_in_a_file_is_told_that_nothing_is_known_to_start() {
    let app = "{apiVersion: core.spinkube.dev/v1alpha1, kind: SpinApp, metadata: {name: files}, spec: {image: \
         \"samples.example/files:1\", executor: containerd-shim-spin, replicas: 1}}";
    let said = explain_text(app, &[]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has(&[
        "SpinApp default/files  admitted unchanged; it is not known what starts",
        "[warning] `samples.example/files:1` is a module and no Spin application",
    ]);
    assert!(!said.out.contains("not recognised"), "{}", said.out);
}

#[test]
fn a_cause_is_printed_once() {
    let said = run(&["explain", "-f", samples("workloads").to_str().unwrap(), "--grants", "/nowhere/at/all"]);
    said.fails(&["could not list the grants directory `/nowhere/at/all`: No such file"]);
    assert_eq!(said.err.matches("No such file").count(), 1, "{}", said.err);
}

#[test]
fn flags_with_which_no_answer_is_possible_are_refused() {
    let said = run(&["explain", "-f", "-", "--timeout", "0"]);
    said.fails(&["invalid value '0' for '--timeout <SECONDS>'"]);
    for name in ["Bad NS", "", "a.b", "Shop"] {
        run(&["explain", "-f", "-", "-n", name]).fails(&["write the name of a namespace"]);
    }
    run(&["scan", "-f", "-", "--capability", "fss"]).fails(&["fss", "did you mean `fs`?"]);
}

#[test]
fn an_error_of_the_syntax_names_the_file_and_the_place_in_one_line() {
    let said = pipe(&["explain", "-f", "-"], "apiVersion: v1\nkind: [\n");
    said.fails(&["could not read `standard input`: "]);
    assert!(!said.err.contains("<input>"), "{said:?}");
    assert_eq!(said.err.trim_end().lines().count(), 1, "{said:?}");
}

#[test]
fn problems_of_a_folder_of_grants_have_a_line_each_with_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.yaml"] {
        std::fs::write(folder.path().join(name), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
            .unwrap();
    }
    let said = run(&[
        "explain",
        "-f",
        samples("workloads").to_str().unwrap(),
        "--grants",
        folder.path().to_str().unwrap(),
    ]);
    said.fails(&["problems:\n  "]);
    let place = folder.path().join("b.yaml");
    assert!(
        said.err.lines().any(|line| line.starts_with(&format!("  {} document 1", place.display()))),
        "{said:?}"
    );
}

/// The body of a review about a new pod that starts `samples.example/files:1`.
fn review(operation: &str, old: Option<&Value>) -> String {
    let container = json!({"name": "app", "image": "samples.example/files:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files"},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}});
    let object = defaulted(&pod, "shop", "");
    let old_object = old.map(|_| object.clone());
    let request = Request { operation: operation.into(), old_object, ..Request::create("shop", object) };
    request.to_body()
}

/// A few bytes of each volume become kilobytes.
#[test]
fn a_pod_that_would_take_more_memory_than_any_review_gets_is_refused_as_by_the_webhooks() {
    let pod = |volumes: usize| {
        let volumes = vec![json!({"name": "a"}); volumes];
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"containers": [{"name": "app", "image": "samples.example/hello:1"}], "volumes": volumes}})
    };
    let large = pod(25_000);
    let review = Request::create("shop", large.clone()).to_body();
    for (document, is_review) in [(large.to_string(), false), (review, true)] {
        let said = explain_text(&document, &["-o", "json"]);
        assert_eq!(said.code, 2, "{}", said.err);
        let report = said.json();
        let object = &report["objects"][0];
        assert_eq!(object["outcome"], "denied");
        let error = object["error"].as_str().unwrap();
        assert!(
            error.contains("MiB of memory") && error.contains("split it into several objects"),
            "{error}"
        );
        let code = &object["answers"]["validate"]["response"]["status"]["code"];
        assert_eq!(*code, if is_review { json!(413) } else { Value::Null });
    }
    let small = explain_text(&pod(10).to_string(), &["-o", "json"]).json();
    assert_eq!(small["objects"][0].get("error"), None, "{small}");
}

#[test]
fn a_review_is_answered_with_its_user_operation_and_old_object() {
    let said = explain_text(&review("CREATE", None), &[]);
    assert_eq!(said.code, 1, "{said:?}");
    said.has(&[
        "Pod shop/files  denied  standard input",
        "verdict denied",
        "[needs-grant]",
        "+   runtimeClassName: wasmtime",
    ]);
    // Nothing that is judged has changed.
    let said = explain_text(&review("UPDATE", Some(&Value::Null)), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    said.has(&["Pod shop/files  left alone"]);
    let said = explain_text(&review("DELETE", Some(&Value::Null)).replace("\"object\":{", "\"gone\":{"), &[]);
    said.has(&["Pod shop/files  left alone"]);
    // The answers are those of the webhooks, and the second of them may be asked alone.
    let report = explain_text(&review("CREATE", None), &["-o", "json", "--show-input"]).json();
    let object = &report["objects"][0];
    assert_eq!(object["answers"]["mutate"]["response"]["patchType"], "JSONPatch", "{report}");
    assert_eq!(object["answers"]["validate"]["response"]["allowed"], false);
    assert_eq!(object["input"]["request"]["user"]["username"], "jane", "{}", object["input"]["request"]);
    assert_eq!(report.get("decisions"), None);
    let alone = explain_text(&review("CREATE", None), &["-o", "json", "--validate-only"]).json();
    let answers = &alone["objects"][0]["answers"];
    assert!(
        answers.get("mutate").is_none() && answers["validate"]["response"]["allowed"] == false,
        "{answers}"
    );
    assert!(
        answers["validate"]["response"]["status"]["message"].as_str().unwrap().contains("runtime-mismatch"),
        "{answers}"
    );
}

#[test]
fn a_learned_request_is_shown_and_explained_where_the_configuration_turns_it_on() {
    let plain = explain("hello", &[]);
    let (_, rest) = plain.out.split_once("samples.example/hello:1@").unwrap();
    let digest: String = rest.chars().take("sha256:".len() + 64).collect();
    let key = UsageKey { digest: digest.parse().unwrap(), runtime: "wasmtime".into() };
    let size = LearnedSize { memory: Quantity::mebibytes(17), cpu: Quantity::from_millis(33) };
    let record = Record::new("2026-06-01T00:00:00Z".parse().unwrap());
    let mut usage = serde_json::to_value(UsageObject::of(&key, &record, Some(size))).unwrap();
    usage["apiVersion"] = json!("wasmgate.dev/v1alpha1");
    usage["kind"] = json!("WasmUsage");
    usage["metadata"] = json!({"name": key.object_name()});
    let folder = tempfile::tempdir().unwrap();
    let (cluster, configuration) = (folder.path().join("cluster"), folder.path().join("gate.yaml"));
    std::fs::create_dir(&cluster).unwrap();
    std::fs::write(cluster.join("usage.json"), usage.to_string()).unwrap();
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    let configure = |learn: &str| {
        std::fs::write(&configuration, format!("{head}sizing: {{learn: {{{learn}}}}}\n")).unwrap();
    };
    configure("enabled: true, raise: true");
    let cluster = ["--cluster", cluster.to_str().unwrap()];
    let off = explain("hello", &cluster);
    assert!(!off.out.contains("learned") && off.out.contains("memory: 10Mi"), "{}", off.out);
    let on = [&cluster[..], &["--config", configuration.to_str().unwrap()]].concat();
    let learned = explain("hello", &on);
    assert_eq!(learned.code, 0, "{learned:?}");
    learned.has(&["learned/hello", "memory: 17Mi", "cpu: 33m", "memory: 32Mi"]);
    let lines = explain("hello", &[&on[..], &["-o", "json"]].concat()).json().to_string();
    assert!(lines.contains("learned from the memory that this image has used under `wasmtime`"), "{lines}");
    configure("enabled: true");
    let lowers = explain("hello", &on);
    lowers.has(&["learned/hello", "memory: 10Mi", "cpu: 33m", "memory: 32Mi"]);
    assert!(!lowers.out.contains("17Mi"), "{}", lowers.out);
}

/// As the answer of the webhook says, whose first sentence it is.
#[test]
fn a_class_that_the_cluster_lacks_is_told_before_what_follows_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let class = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: other}\nhandler: runc\n";
    std::fs::write(folder.path().join("classes.yaml"), class).unwrap();
    let cluster = ["--cluster", folder.path().to_str().unwrap(), "--validate-only"];
    let gone =
        review("CREATE", None).replacen("\"volumes\":", "\"runtimeClassName\":\"nosuch\",\"volumes\":", 1);
    let report = explain_text(&gone, &[&cluster[..], &["-o", "json"]].concat()).json();
    let object = &report["objects"][0];
    let missing = object["missingClass"].as_str().unwrap_or_default();
    assert!(
        missing.starts_with("names RuntimeClass `nosuch`, which the cluster is not known to have"),
        "{report}"
    );
    let answer = object["answers"]["validate"]["response"]["status"]["message"].as_str().unwrap();
    assert!(answer.contains(missing), "{answer}");
    explain_text(&gone, &cluster).has(&["[class]", "names RuntimeClass `nosuch`"]);
}

#[test]
fn reviews_come_one_after_the_other_as_a_list_and_in_yaml() {
    let body = review("CREATE", None);
    let value: Value = serde_json::from_str(&body).unwrap();
    let yaml = serde_saphyr::to_string(&value).unwrap();
    let list = json!({"kind": "List", "apiVersion": "v1", "items": [value, {"apiVersion": "v1", "kind": "Service"}]});
    for (text, origins) in [
        (format!("{body}\n{body}\n"), ["standard input, document 1", "standard input, document 2"]),
        (format!("{yaml}---\n{body}\n"), ["standard input, document 1", "standard input, document 2"]),
        (list.to_string(), ["standard input, item 1", "standard input, item 2"]),
        (json!([value, value]).to_string(), ["standard input, item 1", "standard input, item 2"]),
    ] {
        let said = explain_text(&text, &["-o", "yaml"]);
        assert_eq!(said.code, 1, "{text}: {said:?}");
        said.has(&origins.map(|origin| origin));
        let report: Value = serde_saphyr::from_str(&said.out).unwrap();
        assert_eq!(report["objects"][0]["answers"]["validate"]["response"]["allowed"], false, "{text}");
    }
}

/// As `serve` hands it to them, and as no float has it.
#[test]
fn rules_get_a_number_of_a_review_as_it_is_written() {
    const NUMBER: &str = "123456789012345678901234567890";
    let rule =
        "violations contains {\"rule\": \"exact\", \"message\": sprintf(\"%v\", [input.object.spec.exact])}";
    let folder = tempfile::tempdir().unwrap();
    let bundle = opa::build(folder.path(), "exact", "wasmgate/violations", rule);
    let with = format!("\"exact\":{NUMBER},\"volumes\":");
    let review = review("CREATE", None).replacen("\"volumes\":", &with, 1);
    let list = format!("{{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [{review}]}}");
    for text in [review, list] {
        let report = explain_text(&text, &["-o", "json", "--bundle", bundle.to_str().unwrap()]).json();
        // The mutating webhook writes another object, and the validating one reads that.
        let answers = &report["objects"][0]["answers"];
        assert_eq!(answers["mutate"]["response"]["patchType"], "JSONPatch", "{report}");
        let message = answers["validate"]["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains(NUMBER), "{message}");
    }
}

#[test]
fn what_is_no_review_and_no_record_says_why() {
    let old = review("CREATE", None).replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    explain_text(&old, &[]).fails(&["standard input", "admissionReviewVersions"]);
    explain_text(r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}"#, &[])
        .fails(&["it has no `request`"]);
    explain_text(r#"{"decision_id": "1"}"#, &[])
        .fails(&["it is not a decision record of this gate: missing field"]);
    explain_text("[1, 2]", &[]).fails(&["it has no `kind`"]);
}
