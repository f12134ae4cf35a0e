//! The pod template that the Spin operator makes of a SpinApp (`core.spinkube.dev/v1alpha1`, before 2024-11
//! `core.spinoperator.dev/v1alpha1`). With it a SpinApp is judged when it is applied, and not only when its pods are
//! refused.
//!
//! Follows `spinframework/spin-operator:internal/controller/{spinapp_controller,deployment}.go` for an executor with a
//! `runtimeClassName`. What only the executor knows is left out: the class itself, so that placement decides; a mounted
//! CA bundle; and OpenTelemetry's variables, which no Spin guest sees, like the cap on its memory. An executor with a
//! `spinImage` starts an ordinary Linux image instead, which a SpinApp does not show.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::Error;
use super::Kind;

/// Port on which Spin listens under the operator (`spin-operator:pkg/spinapp/spinapp.go`).
const PORT: u16 = 80;

/// The group of the custom resource, which is also the prefix of the labels that the operator puts on pods.
const GROUP: &str = "core.spinkube.dev";

/// The group before 2024-11.
const OLD_GROUP: &str = "core.spinoperator.dev";

/// Where the operator mounts a runtime configuration.
const RUNTIME_CONFIG: &str = "runtime-config.toml";

/// The SpinApp with the operator's pod template added at `/template`, where [`Kind::template_pointer`] expects it. The
/// rest of the object stays as written.
pub(super) fn with_template(object: &str) -> Result<Box<RawValue>, Error> {
    let kind = Kind::SpinApp.as_str();
    let parse = |error: serde_json::Error| Error::Parse { kind, problem: error.to_string() };
    let mut app: Map<String, Value> = serde_json::from_str(object).map_err(parse)?;
    let Some(Value::Object(spec)) = app.get("spec") else {
        return Err(Error::FindSpec { kind, field: "spec".into() });
    };
    let name = app.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    let api_version = app.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let group = if api_version.starts_with(OLD_GROUP) { OLD_GROUP } else { GROUP };
    let template = template(group, name.unwrap_or_default(), spec);
    app.insert("template".into(), template);
    to_raw_value(&app).map_err(parse)
}

fn template(group: &str, name: &str, spec: &Map<String, Value>) -> Value {
    let (mut volumes, mut mounts) = (list(spec, "volumes"), list(spec, "volumeMounts"));
    // After the user's own, so that a message about one of those names its position in the SpinApp.
    if let Some(secret) = runtime_config(name, spec) {
        let items = json!([{"key": RUNTIME_CONFIG, "path": RUNTIME_CONFIG}]);
        let source = json!({"secretName": secret, "optional": true, "items": items});
        volumes.push(json!({"name": "spin-runtime-config", "secret": source}));
        mounts.push(json!({"name": "spin-runtime-config", "readOnly": true,
                           "mountPath": format!("/{RUNTIME_CONFIG}"), "subPath": RUNTIME_CONFIG}));
    }
    let mut labels = object(spec, "podLabels");
    labels.insert(format!("{group}/app-name"), name.into());
    labels.insert(format!("{group}/app.{name}.status"), "ready".into());
    json!({
        "metadata": {"labels": labels, "annotations": object(spec, "podAnnotations")},
        "spec": {
            "serviceAccountName": spec.get("serviceAccountName"),
            "imagePullSecrets": list(spec, "imagePullSecrets"),
            "volumes": volumes,
            "containers": [container(name, spec, &mounts)],
        },
    })
}

fn container(name: &str, spec: &Map<String, Value>, mounts: &[Value]) -> Value {
    let resources = spec.get("resources");
    json!({
        "name": name,
        "image": spec.get("image"),
        "command": ["/"],
        "ports": [{"name": "http-app", "containerPort": PORT}],
        "env": variables(spec),
        "volumeMounts": mounts,
        "resources": {
            "limits": resources.and_then(|resources| resources.get("limits")),
            "requests": resources.and_then(|resources| resources.get("requests")),
        },
        "livenessProbe": probe(spec, "liveness"),
        "readinessProbe": probe(spec, "readiness"),
    })
}

/// The application's variables first, as in the operator; those that the operator adds come after them.
fn variables(spec: &Map<String, Value>) -> Vec<Value> {
    let prefixed = |mut variable: Value| {
        if let Some(Value::String(name)) = variable.get_mut("name") {
            *name = format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase());
        }
        variable
    };
    let mut variables: Vec<Value> = list(spec, "variables").into_iter().map(prefixed).collect();
    variables.push(json!({"name": "SPIN_HTTP_LISTEN_ADDR", "value": format!("0.0.0.0:{PORT}")}));
    let kept = list(spec, "components");
    let kept: Vec<_> = kept.iter().filter_map(Value::as_str).collect();
    if !kept.is_empty() {
        variables.push(json!({"name": "SPIN_COMPONENTS_TO_RETAIN", "value": kept.join(",")}));
    }
    variables
}

/// The Secret with the runtime configuration: the user's, or the one that the operator renders if stores, databases or
/// a model service are configured. The name of the latter ends in a checksum that is unknown here.
fn runtime_config(name: &str, spec: &Map<String, Value>) -> Option<String> {
    let config = spec.get("runtimeConfig")?;
    let secret = config.get("loadFromSecret").and_then(Value::as_str).filter(|secret| !secret.is_empty());
    let given = |key: &str| match config.get(key) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(value) => !value.is_null(),
        None => false,
    };
    let rendered = ["sqliteDatabases", "keyValueStores", "llmCompute"].into_iter().any(given);
    secret.map(String::from).or_else(|| rendered.then(|| format!("{name}-runtime-config")))
}

/// A probe of a health check. The path is enough, since the custom resource has defaults for the numbers.
fn probe(spec: &Map<String, Value>, check: &str) -> Option<Value> {
    let mut probe = spec.get("checks")?.get(check)?.as_object()?.clone();
    let get = probe.get_mut("httpGet").and_then(Value::as_object_mut)?;
    get.insert("port".into(), PORT.into());
    Some(probe.into())
}

fn list(spec: &Map<String, Value>, key: &str) -> Vec<Value> {
    spec.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn object(spec: &Map<String, Value>, key: &str) -> Map<String, Value> {
    spec.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The field of the SpinApp from which the operator makes a field of the template.
pub(super) fn own_field(field: &str) -> String {
    const FROM: [(&str, &str); 9] = [
        ("template.spec.containers[0].env", "spec.variables"),
        ("template.spec.containers[0].volumeMounts", "spec.volumeMounts"),
        ("template.spec.containers[0].resources", "spec.resources"),
        ("template.spec.containers[0].livenessProbe", "spec.checks.liveness"),
        ("template.spec.containers[0].readinessProbe", "spec.checks.readiness"),
        ("template.spec.containers[0].image", "spec.image"),
        ("template.spec", "spec"),
        ("template.metadata.labels", "spec.podLabels"),
        ("template.metadata.annotations", "spec.podAnnotations"),
    ];
    let renamed = |&(made, own): &(&str, &str)| field.strip_prefix(made).map(|rest| format!("{own}{rest}"));
    FROM.iter().find_map(renamed).unwrap_or_else(|| field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Workload, as_judged, read};

    fn judged(app: &Value) -> Result<Workload, Error> {
        let sent = to_raw_value(app).unwrap();
        let object = as_judged(&sent, Kind::SpinApp)?;
        read(object.get(), Kind::SpinApp, "shop")
    }

    fn app(spec: Value) -> Value {
        let mut app = json!({"apiVersion": "core.spinkube.dev/v1alpha1", "kind": "SpinApp",
                             "metadata": {"name": "web", "labels": {"outer": "yes"}}});
        app["spec"] = spec;
        app
    }

    #[test]
    fn a_spin_app_is_read_as_the_pods_that_the_operator_makes_of_it() {
        let secret = json!({"secretKeyRef": {"name": "db", "key": "password"}});
        let workload = judged(&app(json!({
            "image": "ghcr.io/myorg/web:1", "replicas": 2, "serviceAccountName": "web",
            "imagePullSecrets": [{"name": "pull"}],
            "podLabels": {"team": "shop"}, "podAnnotations": {"a": "b"},
            "variables": [{"name": "db_host", "value": "db"}, {"name": "password", "valueFrom": secret}],
            "components": ["api", "admin"],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "resources": {"limits": {"memory": "64Mi"}},
            "checks": {"liveness": {"httpGet": {"path": "/alive"}, "periodSeconds": 5}},
            "runtimeConfig": {"keyValueStores": [{"name": "default", "type": "redis"}]},
        })))
        .unwrap();
        assert_eq!((workload.name.as_str(), workload.namespace.as_str()), ("web", "shop"));
        assert_eq!(workload.labels["core.spinkube.dev/app-name"], "web");
        assert_eq!(workload.labels["core.spinkube.dev/app.web.status"], "ready");
        assert_eq!((workload.labels["team"].as_str(), workload.annotations["a"].as_str()), ("shop", "b"));
        assert!(!workload.labels.contains_key("outer"), "the SpinApp's own labels are not its pods'");
        assert_eq!(workload.service_account(), "web");
        let spec = serde_json::to_value(&workload.spec).unwrap();
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        let container = &spec["containers"][0];
        assert_eq!(
            (&container["image"], &container["command"]),
            (&json!("ghcr.io/myorg/web:1"), &json!(["/"]))
        );
        let names: Vec<_> =
            container["env"].as_array().unwrap().iter().map(|env| env["name"].as_str().unwrap()).collect();
        let operators = ["SPIN_HTTP_LISTEN_ADDR", "SPIN_COMPONENTS_TO_RETAIN"];
        assert_eq!(names[..2], ["SPIN_VARIABLE_DB_HOST", "SPIN_VARIABLE_PASSWORD"]);
        assert_eq!(names[2..], operators);
        assert_eq!(container["env"][1]["valueFrom"]["secretKeyRef"]["name"], "db");
        assert_eq!(container["env"][3]["value"], "api,admin");
        assert_eq!(container["resources"]["limits"]["memory"], "64Mi");
        let get = &container["livenessProbe"]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&json!("/alive"), &json!(80)));
        assert!(container.get("readinessProbe").is_none());
        let mounts: Vec<_> = workload.images()[0].mounts.iter().map(|m| m.mount_path.as_str()).collect();
        assert_eq!(mounts, ["/data", "/runtime-config.toml"]);
        assert_eq!(spec["volumes"][1]["secret"]["secretName"], "web-runtime-config");
    }

    #[test]
    fn a_spin_app_of_the_old_group_is_read_like_its_successor() {
        let mut app = app(json!({"image": "web:1", "enableAutoscaling": true, "targetCPUUtilization": 60}));
        app["apiVersion"] = "core.spinoperator.dev/v1alpha1".into();
        let workload = judged(&app).unwrap();
        assert_eq!(workload.images()[0].image, "web:1");
        assert_eq!(workload.labels["core.spinoperator.dev/app-name"], "web");
        assert!(!workload.labels.contains_key("core.spinkube.dev/app-name"));
    }

    #[test]
    fn the_smallest_spin_app_has_one_container_and_no_volume() {
        let workload = judged(&app(json!({"image": "web:1", "executor": "containerd-shim-spin"}))).unwrap();
        assert_eq!(workload.images().len(), 1);
        assert!(workload.spec.volumes.unwrap_or_default().is_empty());
        assert_eq!(workload.spec.runtime_class_name, None, "only the executor knows it");
    }

    #[test]
    fn a_users_configuration_secret_is_mounted_by_its_name() {
        let spec =
            json!({"image": "web:1", "runtimeConfig": {"loadFromSecret": "mine", "keyValueStores": []}});
        let volumes = judged(&app(spec)).unwrap().spec.volumes.unwrap();
        assert_eq!(volumes[0].secret.as_ref().unwrap().secret_name.as_deref(), Some("mine"));
    }

    #[test]
    fn the_object_itself_stays_as_written() {
        let app = app(json!({"image": "web:1", "futureField": [1]}));
        let sent = to_raw_value(&app).unwrap();
        let mut judged: Value = serde_json::from_str(as_judged(&sent, Kind::SpinApp).unwrap().get()).unwrap();
        assert!(judged.as_object_mut().unwrap().remove("template").is_some());
        assert_eq!(judged, app);
    }

    #[test]
    fn a_wrong_type_names_the_field_of_the_spin_app() {
        for (spec, path) in [
            (json!({"image": 5}), "spec.image"),
            (
                json!({"image": "w", "variables": [{"name": "a", "value": "b"}, {"name": 7}]}),
                "spec.variables[1].name",
            ),
            (json!({"image": "w", "volumes": [{"name": 7}]}), "spec.volumes[0].name"),
            (
                json!({"image": "w", "volumeMounts": [{"name": "v", "mountPath": 1}]}),
                "spec.volumeMounts[0].mountPath",
            ),
            (json!({"image": "w", "podLabels": {"a": 1}}), "spec.podLabels.a"),
            (
                json!({"image": "w", "checks": {"liveness": {"httpGet": {"path": 1}}}}),
                "spec.checks.liveness.httpGet.path",
            ),
        ] {
            match judged(&app(spec.clone())).unwrap_err() {
                Error::ReadField { field, problem, field_help, .. } => {
                    assert_eq!(field, path);
                    assert!(
                        field_help.starts_with("spinapp.spec") && !field_help.contains('['),
                        "{field_help}"
                    );
                    assert!(!problem.contains("line"), "{problem}");
                }
                other => panic!("{spec}: {other}"),
            }
        }
    }

    #[test]
    fn foreign_bytes_are_errors_and_never_panics() {
        for text in ["null", "[]", "7", "{}", r#"{"spec":null}"#, r#"{"spec":[]}"#] {
            let sent = RawValue::from_string(text.to_owned()).unwrap();
            assert!(as_judged(&sent, Kind::SpinApp).is_err(), "{text}");
        }
        let odd = json!({"metadata": 5, "spec": {"image": {}, "variables": {}, "checks": [], "resources": 1,
                         "components": [1], "runtimeConfig": "x", "podLabels": []}});
        assert!(judged(&odd).is_err(), "an image that is no text");
    }
}
