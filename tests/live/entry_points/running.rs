//! Every way to change an existing pod, and the ways that must stay open.

use serde_json::{Value, json};

use super::cluster::{
    BEFORE, CLAMPED, CLUSTER, FILES, GRANTED, assert_denied, first_image, handed_a_volume, image, plain,
};

/// `NAME:v1@sha256:…`, as the gate pins it on a new pod.
fn pinned(namespace: &str, name: &str) -> String {
    let cluster = CLUSTER.get();
    let pod = cluster.plane.create(&plain(name), &["--dry-run=server", "--namespace", namespace]).json();
    let found = first_image(&pod).to_string();
    if found.contains('@') {
        return found;
    }
    // The gate leaves a Linux pod alone; under a Wasm class it pins the image.
    let mut pod = plain(name);
    pod["spec"]["runtimeClassName"] = json!("wasmtime");
    let pod = cluster.plane.create(&pod, &["--dry-run=server", "--namespace", namespace]).json();
    first_image(&pod).to_string()
}

/// A pod in the namespace with the grant, with a volume; `name` distinguishes the tests' pods.
fn granted(name: &str) -> Value {
    let cluster = CLUSTER.get();
    let mut pod = handed_a_volume(&image(FILES));
    pod["spec"]["serviceAccountName"] = json!("orders");
    cluster.pod(GRANTED, name, pod)
}

#[test]
fn an_image_swap_is_judged_by_whichever_verb_it_comes() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("swap");
    let mut pod = plain("hello");
    // Keeps the pod from being changed by anything but the test.
    pod["spec"]["schedulerName"] = json!("none");
    let pod = cluster.pod(&namespace, "app", pod);
    let swap = |image: &str| {
        let spec = json!({"spec": {"containers": [{"name": "app", "image": image}]}});
        let patch = format!("--patch={spec}");
        let merge = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": image}]);
        let json_patch = format!("--patch={merge}");
        let set = format!("app={image}");
        let mut whole = pod.clone();
        whole["spec"]["containers"][0]["image"] = json!(image);
        whole["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let applied = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": namespace},
            "spec": {"containers": [{"name": "app", "image": image}]}});
        let admin = cluster.plane.kubeconfig();
        let replace = ["replace", "--namespace", namespace.as_str(), "--filename=-"];
        [
            cluster.kubectl(&namespace, &["patch", "pod", "app", &patch]),
            cluster.kubectl(&namespace, &["patch", "pod", "app", "--type=json", &json_patch]),
            cluster.kubectl(&namespace, &["set", "image", "pod/app", &set]),
            cluster.plane.kubectl_with(&admin, &replace, &whole.to_string()),
            cluster.plane.apply(&applied, &["--server-side", "--force-conflicts"]),
        ]
    };
    for said in swap(&image("hello-v2")) {
        assert_denied(said, "tag-not-pinned");
    }
    // By digest, and without a grant for what it can do.
    for said in swap(&by_digest("dns")) {
        assert_denied(said, "needs-grant");
    }
    for said in swap(&image("linux")) {
        assert_denied(said, "tag-not-pinned");
    }
    assert_eq!(first_image(&cluster.stored(&namespace, "app")), first_image(&pod));
    let other = pinned(&namespace, "hello-v2");
    let set = format!("app={other}");
    cluster.kubectl(&namespace, &["set", "image", "pod/app", &set]).ok();
    assert_eq!(first_image(&cluster.stored(&namespace, "app")), other, "what is judged well is let in");
}

/// The digest of an image whose pod was refused, from the message.
fn by_digest(name: &str) -> String {
    let cluster = CLUSTER.get();
    let mut pod = plain(name);
    pod["spec"]["serviceAccountName"] = json!("orders");
    let pod = cluster.plane.create(&pod, &["--dry-run=server", "--namespace", GRANTED]).json();
    first_image(&pod).to_string()
}

#[test]
fn a_wasm_image_cannot_enter_a_linux_pod_by_an_update() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("swap-linux");
    let mut pod = plain("linux");
    pod["spec"]["initContainers"] = json!([{"name": "init", "image": image("linux")}]);
    cluster.pod(&namespace, "app", pod);
    for (container, name) in [("app", image("hello")), ("app", by_digest("dns")), ("init", image("hello"))] {
        let set = format!("{container}={name}");
        assert_denied(cluster.kubectl(&namespace, &["set", "image", "pod/app", &set]), "runtime-mismatch");
    }
    let set = format!("app={}", image("linux-with-wasm"));
    let said = cluster.kubectl(&namespace, &["set", "image", "pod/app", &set]);
    assert_eq!(said.stderr, "", "a Linux image is none of the gate's business");
    said.ok();
}

#[test]
fn a_linux_pod_is_judged_when_an_annotation_makes_it_wasm() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("annotated");
    let mut pod = plain("disguised");
    pod["spec"]["schedulingGates"] = json!([{"name": "example.com/hold"}]);
    cluster.pod(&namespace, "app", pod);
    cluster.kubectl(&namespace, &["annotate", "pod", "app", "note=harmless"]).ok();
    for annotation in ["run.oci.handler=wasmedge", "module.wasm.image/variant=compat"] {
        let said = cluster.kubectl(&namespace, &["annotate", "pod", "app", annotation]);
        assert_denied(said, "runtime-mismatch");
    }
    let krun = cluster.kubectl(&namespace, &["annotate", "pod", "app", "run.oci.handler=krun"]);
    assert_eq!(krun.stderr, "", "another handler is none of the gate's business");
    krun.ok();
}

#[test]
fn a_wasm_pod_is_judged_when_an_annotation_hands_it_a_device_of_the_node() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("device");
    let mut pod = plain("hello");
    pod["spec"]["schedulingGates"] = json!([{"name": "example.com/hold"}]);
    cluster.pod(&namespace, "app", pod);
    for annotation in ["devices.crio.io=/dev/fuse", "io.kubernetes.cri-o.Devices=/dev/net/tun"] {
        let said = cluster.kubectl(&namespace, &["annotate", "pod", "app", annotation]);
        assert_denied(said, "needs-grant");
    }
}

#[test]
fn what_a_verdict_depends_on_cannot_be_changed_afterwards() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("immutable");
    cluster.pod(&namespace, "app", plain("hello"));
    let patches = [
        json!({"runtimeClassName": null}),
        json!({"runtimeClassName": "kata"}),
        json!({"volumes": [{"name": "code", "image": {"reference": image("hello")}}]}),
        json!({"serviceAccountName": "orders"}),
        json!({"containers": [{"name": "app", "env": [{"name": "TOKEN", "value": "x"}]}]}),
        json!({"containers": [{"name": "second", "image": image("dns")}]}),
        json!({"containers": [{"name": "app", "command": ["/other.wasm"]}]}),
    ];
    for spec in patches {
        let patch = format!("--patch={}", json!({"spec": spec}));
        let text = cluster.kubectl(&namespace, &["patch", "pod", "app", &patch]).refused();
        assert!(
            text.contains("denied the request") || text.contains("Forbidden") || text.contains("may not"),
            "{text}"
        );
    }
}

#[test]
fn an_ephemeral_container_is_judged_and_can_change_nothing_else() {
    let cluster = CLUSTER.get();
    granted("debugged");
    let debug = |image: &str, name: &str| {
        let image = format!("--image={image}");
        let name = format!("--container={name}");
        cluster.kubectl(GRANTED, &["debug", "debugged", &image, &name, "--attach=false"])
    };
    assert_denied(debug(&image("hello"), "by-tag"), "tag-not-pinned");
    assert_denied(debug(&image("linux"), "linux-by-tag"), "tag-not-pinned");
    debug(&pinned(GRANTED, "hello"), "by-digest").ok();
    let stored = cluster.stored(GRANTED, "debugged");
    assert_eq!(stored["spec"]["ephemeralContainers"][0]["name"], "by-digest");
    // The request carries the whole pod; only changes to ephemeral containers take effect.
    let mut sneaky = stored.clone();
    sneaky["spec"]["containers"][0]["image"] = json!(image("linux"));
    sneaky["spec"]["ephemeralContainers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "second", "image": pinned(GRANTED, "hello")}));
    put(GRANTED, "debugged", "ephemeralcontainers", &sneaky);
    let after = cluster.stored(GRANTED, "debugged");
    assert_eq!(first_image(&after), first_image(&stored));

    let namespace = cluster.namespace("debug");
    cluster.pod(&namespace, "web", plain("linux"));
    let with = |name: &str| {
        let image = format!("--image={}", image(name));
        cluster.kubectl(&namespace, &["debug", "web", &image, "--attach=false"])
    };
    assert_denied(with("hello"), "runtime-mismatch");
    let said = with("linux");
    assert!(!said.stderr.contains("wasmgate"), "{}", said.stderr);
    said.ok();
}

fn put(namespace: &str, name: &str, sub_resource: &str, object: &Value) -> String {
    let cluster = CLUSTER.get();
    let path = format!("--raw=/api/v1/namespaces/{namespace}/pods/{name}/{sub_resource}");
    let admin = cluster.plane.kubeconfig();
    let said = cluster.plane.kubectl_with(&admin, &["replace", &path, "--filename=-"], &object.to_string());
    format!("{}{}", said.stdout, said.stderr)
}

#[test]
fn a_copy_for_debugging_is_a_new_pod() {
    let cluster = CLUSTER.get();
    granted("original");
    let copy = |name: &str, more: &[&str]| {
        let copy = format!("--copy-to={name}");
        cluster.kubectl(GRANTED, &[&["debug", "original", &copy, "--attach=false"], more].concat())
    };
    let (hello, swap) = (format!("--image={}", image("hello")), format!("--set-image=app={}", image("dns")));
    // By default the copy lets its containers see each other's files through /proc, for which there is no grant.
    let shared = assert_denied(copy("shared", &[&hello, "--container=debug"]), "needs-grant");
    assert!(shared.contains("shareProcessNamespace"), "{shared}");
    copy("copied", &[&hello, "--container=debug", "--share-processes=false"]).ok();
    let pod = cluster.stored(GRANTED, "copied");
    for container in pod["spec"]["containers"].as_array().unwrap() {
        assert!(container["image"].as_str().unwrap().contains("@sha256:"), "{container}");
    }
    assert_eq!(pod["spec"]["runtimeClassName"], "wasmtime");
    copy("swapped", &[&swap]).ok();
    let swapped = cluster.stored(GRANTED, "swapped");
    assert!(first_image(&swapped).starts_with(&format!("{}@sha256:", image("dns"))));
    let acme = format!("--set-image=app={}", image("acme"));
    assert_denied(copy("refused", &[&acme]), "unknown-import");
}

#[test]
fn a_resize_is_judged_and_the_namespaces_bound_holds() {
    let cluster = CLUSTER.get();
    let namespace = cluster.namespace("resize");
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "sizes", "namespace": namespace},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "256Mi"}}]}});
    cluster.plane.apply(&range, &[]).ok();
    let mut pod = plain("hungry");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "128Mi", "cpu": "200m"}});
    cluster.pod(&namespace, "app", pod);
    let resize_with = |memory: &str, flags: &[&str]| {
        let sizes = json!({"memory": memory, "cpu": "200m"});
        let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"limits": sizes, "requests": sizes}}]}});
        let patch = format!("--patch={patch}");
        let arguments = [&["patch", "pod", "app", "--subresource=resize", &patch], flags].concat();
        cluster.kubectl(&namespace, &arguments)
    };
    let resize = |memory: &str| resize_with(memory, &[]);
    let under = resize("16Mi");
    assert!(under.stderr.contains("[under-floor]"), "{}", under.stderr);
    under.ok();
    let well = resize("192Mi");
    let warned: Vec<&str> = well.stderr.lines().collect();
    assert!(matches!(warned[..], [only] if only.contains("[resize-ignored]")), "{warned:?}");
    well.ok();
    cluster.plane.wait_for("the API server to know the LimitRange", || {
        let said = resize_with("512Mi", &["--dry-run=server"]);
        said.stderr.contains("maximum memory usage per Container is 256Mi").then_some(())
    });
    resize("512Mi").refused();
    let mut sneaky = cluster.stored(&namespace, "app");
    let before = first_image(&sneaky).to_string();
    sneaky["spec"]["containers"][0]["image"] = json!(image("dns"));
    put(&namespace, "app", "resize", &sneaky);
    assert_eq!(first_image(&cluster.stored(&namespace, "app")), before);
}

#[test]
fn a_resize_cannot_exceed_a_clamping_profile() {
    let cluster = CLUSTER.get();
    let resize = |memory: &str, cpu: &str| {
        let sizes = json!({"memory": memory, "cpu": cpu});
        let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"limits": sizes}}]}});
        let patch = format!("--patch={patch}");
        cluster.kubectl(CLAMPED, &["patch", "pod", "app", "--subresource=resize", &patch])
    };
    let mut pod = plain("hello");
    pod["spec"]["runtimeClassName"] = json!("wasmtime-clamped");
    let sizes =
        json!({"limits": {"memory": "512Mi", "cpu": "2"}, "requests": {"memory": "10Mi", "cpu": "10m"}});
    pod["spec"]["containers"][0]["resources"] = sizes;
    let stored = cluster.pod(CLAMPED, "app", pod);
    let limits = &stored["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(*limits, json!({"memory": "32Mi", "cpu": "200m"}));
    let text = assert_denied(resize("512Mi", "200m"), "over-cap");
    assert!(text.contains("at most 32Mi"), "{text}");
    assert_denied(resize("32Mi", "2"), "over-cap");
    resize("24Mi", "100m").ok();
    cluster.kubectl(CLAMPED, &["label", "pod", "app", "team=shop"]).ok();
}

#[test]
fn a_pod_whose_grant_was_removed_can_be_bound_edited_and_evicted_but_not_get_another_image() {
    let cluster = CLUSTER.get();
    let create = |name: &str, sub_resource: &str, object: Value| {
        let path = format!("--raw=/api/v1/namespaces/{BEFORE}/pods/{name}/{sub_resource}");
        let admin = cluster.plane.kubeconfig();
        cluster.plane.kubectl_with(&admin, &["create", &path, "--filename=-"], &object.to_string()).ok();
    };
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "to-bind"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "linux"}});
    create("to-bind", "binding", binding);
    assert_eq!(cluster.stored(BEFORE, "to-bind")["spec"]["nodeName"], "linux");

    for arguments in [
        &["label", "pod", "to-edit", "team=shop"][..],
        &["annotate", "pod", "to-edit", "note=kept"],
        &["patch", "pod", "to-edit", "--patch={\"spec\":{\"activeDeadlineSeconds\":60}}"],
        &["patch", "pod", "to-edit", "--subresource=status", "--patch={\"status\":{\"reason\":\"Tried\"}}"],
    ] {
        let said = cluster.kubectl(BEFORE, arguments);
        assert_eq!(said.stderr, "", "{arguments:?}");
        said.ok();
    }
    let swap = format!("app={}", by_digest(FILES));
    assert_denied(cluster.kubectl(BEFORE, &["set", "image", "pod/to-edit", &swap]), "needs-grant");

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "to-evict", "namespace": BEFORE}});
    create("to-evict", "eviction", eviction);
    let evicted = cluster.stored(BEFORE, "to-evict");
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    // The last step of its removal is an UPDATE with the old image.
    let free = ["patch", "pod", "to-evict", "--type=merge", "--patch={\"metadata\":{\"finalizers\":null}}"];
    cluster.kubectl(BEFORE, &free).ok();
    cluster
        .kubectl(BEFORE, &["delete", "pod", "to-evict", "--grace-period=0", "--force", "--ignore-not-found"])
        .ok();
}
