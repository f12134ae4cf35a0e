//! The containers of a pod that run under a Wasm runtime, and the image of each. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::image::Digest;
use crate::usage::UsageKey;

/// Most containers of one pod that are looked at.
const MOST_CONTAINERS: usize = 32;

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The pod.
    pub pod: String,
    /// The name of the container.
    pub container: String,
    /// Its image and runtime.
    pub key: UsageKey,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(default, borrow)]
    spec: Spec<'a>,
    #[serde(default, borrow)]
    status: Status<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    namespace: Cow<'a, str>,
    /// Counts the changes of the spec, from 1 on; absent before Kubernetes 1.34
    /// (`kubernetes:pkg/registry/core/pod/strategy.go`).
    generation: Option<i64>,
    #[serde(default, borrow)]
    deletion_timestamp: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    runtime_class_name: Option<String>,
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
}

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    image: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status<'a> {
    #[serde(borrow)]
    container_statuses: Vec<ContainerStatus<'a>>,
}

#[derive(Deserialize)]
struct ContainerStatus<'a> {
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(default, rename = "imageID", borrow)]
    image_id: Cow<'a, str>,
    #[serde(default, borrow)]
    state: State<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State<'a> {
    #[serde(borrow)]
    running: Option<&'a RawValue>,
}

impl Metadata<'_> {
    /// Whether the image of a container may be another one than that with which it began.
    fn may_be_changed(&self) -> bool {
        self.generation.is_some_and(|generation| generation > 1)
    }
}

/// The namespace of a pod, and its containers that run; none where its class is no Wasm runtime, or where it is about to end. `runtime_of`
/// says the name of the profile of a class.
pub fn running(
    pod: &RawValue,
    runtime_of: impl Fn(&str) -> Option<String>,
) -> Option<(String, Vec<Running>)> {
    let Pod { metadata, spec, status } = serde_json::from_str(pod.get()).ok()?;
    let runtime = runtime_of(spec.runtime_class_name.as_deref()?)?;
    if metadata.deletion_timestamp.is_some() {
        return None;
    }
    let statuses = status.container_statuses.iter().filter(|status| status.state.running.is_some());
    let found = statuses.take(MOST_CONTAINERS).filter_map(|status| {
        let container = spec.containers.iter().find(|container| container.name == status.name)?;
        // The plan looks for the digest to which it has pinned the pod. Of an image that several names lead to, a node may say another.
        let (pinned, on_node) = (digest_in(&container.image), digest_in(&status.image_id));
        // Until the former container has ended, which its hook can put off for hours, its program runs under the name of the next.
        if metadata.may_be_changed() && pinned.is_some() && pinned != on_node {
            return None;
        }
        let digest = pinned.or(on_node)?;
        let key = UsageKey { digest, runtime: runtime.clone() };
        Some(Running { pod: metadata.name.to_string(), container: status.name.to_string(), key })
    });
    Some((metadata.namespace.to_string(), found.collect()))
}

/// The digest behind the name of an image.
fn digest_in(image: &str) -> Option<Digest> {
    image.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    fn pod(class: &Value, image: &str, status: &Value) -> Value {
        json!({"metadata": {"name": "orders-1", "namespace": "shop"},
            "spec": {"runtimeClassName": class, "containers": [{"name": "app", "image": image}]},
            "status": {"containerStatuses": [status]}})
    }

    fn of(pod: &Value) -> Option<(String, Vec<Running>)> {
        let text = RawValue::from_string(pod.to_string()).unwrap();
        running(&text, |class| (class == "wasm").then(|| "wasmtime".to_owned()))
    }

    fn digests(pod: &Value) -> Vec<String> {
        of(pod).unwrap().1.into_iter().map(|one| one.key.digest.as_str().to_owned()).collect()
    }

    fn status(image_id: &str) -> Value {
        json!({"name": "app", "imageID": image_id, "state": {"running": {"startedAt": "2026-06-01T00:00:00Z"}}})
    }

    #[test]
    fn a_running_container_is_known_by_the_digest_to_which_it_was_pinned_or_else_by_that_of_the_node() {
        let pinned = format!("a.example/app:1@{}", digest("a"));
        let on_node = format!("a.example/app@{}", digest("b"));
        let (namespace, found) = of(&pod(&json!("wasm"), &pinned, &status(&on_node))).unwrap();
        assert_eq!(namespace, "shop");
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.pod.as_str(), one.container.as_str()), ("orders-1", "app"));
        assert_eq!((one.key.digest.as_str(), one.key.runtime.as_str()), (digest("a").as_str(), "wasmtime"));
        assert_eq!(digests(&pod(&json!("wasm"), "a.example/app:1", &status(&on_node))), [digest("b")]);
        assert_eq!(digests(&pod(&json!("wasm"), "app", &status(&digest("b")))), Vec::<String>::new());
    }

    #[test]
    fn what_the_former_program_of_a_pod_uses_is_not_that_of_the_image_to_which_it_was_changed() {
        let pinned = format!("a.example/app:2@{}", digest("b"));
        let on_node = |letter: &str| status(&format!("a.example/app@{}", digest(letter)));
        let changed = |generation: Value, letter: &str| {
            let mut pod = pod(&json!("wasm"), &pinned, &on_node(letter));
            pod["metadata"]["generation"] = generation;
            pod
        };
        assert_eq!(digests(&changed(json!(2), "a")), Vec::<String>::new());
        assert_eq!(digests(&changed(json!(2), "b")), [digest("b")]);
        // Several names of one image.
        assert_eq!(digests(&changed(json!(1), "a")), [digest("b")]);
        assert_eq!(digests(&changed(json!(null), "a")), [digest("b")]);
        let mut ending = changed(json!(1), "b");
        ending["metadata"]["deletionTimestamp"] = json!("2026-06-01T00:00:00Z");
        assert_eq!(of(&ending), None);
    }

    #[test]
    fn what_does_not_run_or_is_no_wasm_pod_is_passed_over() {
        let image = format!("app@{}", digest("a"));
        for class in [json!(null), json!("kata")] {
            assert_eq!(of(&pod(&class, &image, &status(""))), None);
        }
        for state in [
            json!({}),
            json!({"waiting": {}}),
            json!({"terminated": {"exitCode": 0}}),
            json!({"running": null}),
        ] {
            let status = json!({"name": "app", "imageID": image, "state": state});
            assert_eq!(digests(&pod(&json!("wasm"), &image, &status)), Vec::<String>::new(), "{state}");
        }
        let other = json!({"name": "other", "imageID": image, "state": {"running": {}}});
        assert_eq!(digests(&pod(&json!("wasm"), &image, &other)), Vec::<String>::new());
        for junk in [json!(7), json!({}), json!({"metadata": {"name": "a"}, "spec": {"containers": 7}})] {
            assert_eq!(of(&junk), None, "{junk}");
        }
    }
}
