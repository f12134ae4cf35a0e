//! What the gate warns of because the runtime or the node does not say it: that it really happens on the node.

use serde_json::{Value, json};

use super::cgroup::{counted, cpu_quota, memory_limit, of_pod};
use super::golden::UNSEEN;
use super::needs;
use super::sizes::filler;
use super::{NODE, SITE, Site, file_system, is_reported, layers, speaker};
use crate::support::control_plane::Said;
use crate::support::live_gate::bare_pod;
use crate::support::oci::{Image, ImageBuilder, fixtures};
use crate::support::probes::{Target, padded_greeter};
use crate::support::process::ask_patiently;

const MIB: u64 = 1 << 20;

/// A pod of the namespace that runs an image of the registry.
fn pod_of(site: &Site, namespace: &str, name: &str) -> Value {
    let mut pod = bare_pod(&site.registry.image(&format!("{name}:1")), &json!({}));
    pod["metadata"] = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
    pod["spec"]["containers"][0]["args"] = json!([name]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    pod
}

fn warned(said: Said, rule: &str) {
    assert!(said.stderr.contains(&format!("[{rule}]")), "{}", said.stderr);
    said.ok();
}

/// The memory limit that the kernel holds a running container to, in bytes.
fn limit_in_force(site: &Site, pod: &Value) -> u64 {
    let folder = of_pod(site, "memory", pod["metadata"]["uid"].as_str().unwrap()).unwrap();
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let own = folder.join(id.trim_start_matches("containerd://"));
    memory_limit(&own).unwrap_or_else(|| panic!("{} has no limit", own.display()))
}

/// Resizes a running container from 64Mi to 96Mi; returns what the API server answered, and what the kernel holds it to once the
/// API says that it is done.
fn resized(site: &Site, namespace: &str, name: &str) -> (Said, u64) {
    let get = || site.plane.get(&["pod", name, "--namespace", namespace]);
    let reported = || Some(get()).filter(is_reported);
    let running = site.plane.wait_for("the status of what is to be resized", reported);
    assert_eq!(limit_in_force(site, &running), 64 * MIB, "before");
    let patch =
        json!({"spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "96Mi"}}}]}});
    let patch = format!("--patch={patch}");
    let resize = ["patch", "pod", name, "--namespace", namespace, "--subresource=resize", &patch];
    let said = site.plane.kubectl(&resize);
    let done = site.plane.wait_for("the API to say that it is resized", || {
        let pod = get();
        let shown = pod["status"]["containerStatuses"][0]["resources"]["limits"]["memory"] == "96Mi";
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        let under_way = |one: &Value| one["type"].as_str().unwrap().starts_with("PodResize");
        (shown && !conditions.iter().any(under_way)).then_some(pod)
    });
    assert_eq!(done["status"]["containerStatuses"][0]["restartCount"], 0, "{done}");
    (said, limit_in_force(site, &done))
}

/// Resizes what runs under a runtime that changes the sizes of a running container.
pub(super) fn a_resize_is_in_force(target: &Target) {
    let site = SITE.get();
    let name = format!("resized-{}", target.class);
    let program = speaker("hello from what is resized");
    let mut pod = needs::pod_of(&site, target.class, &name, &[("app.wasm", &program)]);
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}});
    site.apply(&pod).ok();
    site.plane.wait_for("the program to speak", || {
        let logs = site.plane.kubectl(&["logs", "--namespace", UNSEEN, &name]);
        logs.stdout.contains("hello from what is resized").then_some(())
    });
    let (said, limit) = resized(&site, UNSEEN, &name);
    said.ok();
    assert_eq!(limit, 96 * MIB);
}

/// runwasi's shim shows such an end as `Error`, and the rule `under-floor` says which of both people will see.
pub(super) fn a_kill_for_memory_is_shown_as_that(target: &Target) {
    let site = SITE.get();
    let program = filler();
    let pod = |name: &str| {
        let mut pod = needs::pod_of(&site, target.class, name, &[("app.wasm", &program)]);
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "8Mi"}});
        pod
    };
    let namespace = site.plane.namespace(&format!("floor-{}", target.class), &json!({}));
    let mut judged = pod(&format!("short-{}", target.class));
    judged["metadata"]["namespace"] = json!(namespace);
    judged["spec"].as_object_mut().unwrap().remove("nodeName");
    let said = site.plane.apply(&judged, &["--dry-run=server"]);
    assert!(said.stderr.contains("[under-floor]"), "{}", said.stderr);
    assert!(said.stderr.contains("which shows as `OOMKilled`"), "{}", said.stderr);
    // One that is killed before its program starts has no such end, so there are several.
    let names = [0, 1, 2].map(|number| format!("short-of-memory-{}-{number}", target.class));
    for name in &names {
        site.apply(&pod(name)).ok();
    }
    let shown = |name: &String| {
        let pod = site.plane.get(&["pod", name, "--namespace", UNSEEN]);
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    };
    let seen = ask_patiently(|| names.iter().any(&shown).then_some(()));
    assert!(seen.is_some(), "{}", site.story(UNSEEN));
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_resize_is_reported_as_done_and_the_shim_leaves_the_limit_of_the_kernel_as_it_was() {
    let site = SITE.get();
    let namespace = site.plane.namespace("resize", &json!({}));
    site.push("resized", &layers("hello from what is resized"));
    let mut pod = pod_of(&site, &namespace, "resized");
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}});
    site.apply(&pod).ok();
    site.pod_that_said(&namespace, "resized", "hello from what is resized");
    let (said, limit) = resized(&site, &namespace, "resized");
    warned(said, "resize-ignored");
    assert_eq!(limit, 64 * MIB);
}

/// Raised, since the first version of cgroups refuses a limit of the pod below that of its container.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_resize_of_the_cpu_limit_leaves_the_container_as_it_was_and_reaches_its_pod_as_a_whole() {
    let site = SITE.get();
    let namespace = site.plane.namespace("resize-cpu", &json!({}));
    site.push("faster", &layers("hello from what is to be faster"));
    let mut pod = pod_of(&site, &namespace, "faster");
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "250m", "memory": "64Mi"}});
    site.apply(&pod).ok();
    let running = site.pod_that_said(&namespace, "faster", "hello from what is to be faster");
    let folder = of_pod(&site, "cpu", running["metadata"]["uid"].as_str().unwrap()).unwrap();
    let id = running["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let own = folder.join(id.trim_start_matches("containerd://"));
    assert_eq!((cpu_quota(&own), cpu_quota(&folder)), (Some(25_000), Some(25_000)), "before");
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"limits": {"cpu": "500m"}}}]}});
    let patch = format!("--patch={patch}");
    let resize = ["patch", "pod", "faster", "--namespace", &namespace, "--subresource=resize", &patch];
    warned(site.plane.kubectl(&resize), "resize-ignored");
    site.plane.wait_for("the API to say that it is resized", || {
        let pod = site.plane.get(&["pod", "faster", "--namespace", &namespace]);
        let shown = &pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"];
        (*shown == "500m" && cpu_quota(&folder) == Some(50_000)).then_some(())
    });
    assert_eq!(cpu_quota(&own), Some(25_000));
}

/// The kubelet starts the container again, and a new one has the new limit.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_resize_that_restarts_its_container_is_in_force_and_nothing_is_warned_of() {
    let site = SITE.get();
    let namespace = site.plane.namespace("resize-restart", &json!({}));
    site.push("restarted", &layers("hello from what is restarted"));
    let mut pod = pod_of(&site, &namespace, "restarted");
    let app = &mut pod["spec"]["containers"][0];
    app["resources"] = json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}});
    app["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    site.apply(&pod).ok();
    site.pod_that_said(&namespace, "restarted", "hello from what is restarted");
    let get = || site.plane.get(&["pod", "restarted", "--namespace", &namespace]);
    let before = get();
    assert_eq!(limit_in_force(&site, &before), 64 * MIB, "before");
    let first = before["status"]["containerStatuses"][0]["containerID"].clone();
    let patch =
        json!({"spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "96Mi"}}}]}});
    let patch = format!("--patch={patch}");
    let resize = ["patch", "pod", "restarted", "--namespace", &namespace, "--subresource=resize", &patch];
    let said = site.plane.kubectl(&resize);
    assert!(!said.stderr.contains("[resize-ignored]"), "{}", said.stderr);
    said.ok();
    let after = site.plane.wait_for("another container to run", || {
        let pod = get();
        let status = &pod["status"]["containerStatuses"][0];
        let runs = status["state"]["running"].is_object() && status["containerID"] != first;
        runs.then_some(pod)
    });
    assert_eq!(limit_in_force(&site, &after), 96 * MIB);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn an_index_without_an_entry_for_linux_is_not_pulled_and_its_manifest_is() {
    let site = SITE.get();
    let namespace = site.plane.namespace("index", &json!({}));
    let (of_files, of_layers) = (file_system("hello from the files"), layers("hello from the layer"));
    let pushed = [("files", &of_files), ("layers", &of_layers)];
    for (name, manifest) in pushed {
        site.push(&format!("indexed-{name}"), &Image::index(&[("wasi/wasm", manifest)]));
        site.push(&format!("alone-{name}"), manifest);
    }
    let on_the_node = |name: &str| {
        let mut pod = pod_of(&site, &namespace, name);
        // What is not recognised gets no class, and may go anywhere.
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
        pod
    };
    warned(site.apply(&on_the_node("indexed-files")), "image-not-pullable");
    let said = site.apply(&on_the_node("indexed-layers"));
    let why =
        "the image is an index that holds nothing for Linux, only `wasi/wasm`: containerd does not pull it";
    assert!(said.stderr.contains(why), "{}", said.stderr);
    said.ok();
    for (name, _) in pushed {
        let why = site.plane.wait_for("the pull to fail", || {
            let pod = site.plane.get(&["pod", &format!("indexed-{name}"), "--namespace", &namespace]);
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            (waiting["reason"] == "ErrImagePull").then(|| waiting["message"].as_str().unwrap().to_string())
        });
        assert!(why.contains("no match for platform in manifest"), "{name}: {why}");
        let alone = format!("alone-{name}");
        site.apply(&pod_of(&site, &namespace, &alone)).ok();
        site.pod_that_said(&namespace, &alone, "hello from the");
    }
}

/// The pods of a namespace whose container was ended by the kernel, as the API shows it: the reason and the exit code.
fn killed(site: &Site, namespace: &str) -> Vec<(String, i64)> {
    let ended = |pod: Value| {
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        Some((ended["reason"].as_str()?.to_string(), ended["exitCode"].as_i64()?))
    };
    site.plane.list(&["pods", "--namespace", namespace]).into_iter().filter_map(ended).collect()
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_limit_below_the_floor_ends_as_error_137_and_the_one_that_is_filled_in_does_not() {
    let site = SITE.get();
    let namespace = site.plane.namespace("floor", &json!({}));
    site.push("short", &ImageBuilder::wasm_artifact(&filler()).build());
    let pod = |name: &str, resources: &Value| {
        let mut pod = pod_of(&site, &namespace, "short");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["spec"]["containers"][0]["resources"] = resources.clone();
        pod
    };
    // One that is killed before its container exists stays `Pending`, so there are several.
    for number in 0..3 {
        let said = site.apply(&pod(&format!("short-{number}"), &json!({"limits": {"memory": "8Mi"}})));
        let floor = "has a memory limit of 8Mi and needs about 21Mi to start";
        assert!(said.stderr.contains(floor), "{}", said.stderr);
        assert!(
            said.stderr.contains("`Error` with exit code 137, and not as `OOMKilled`"),
            "{}",
            said.stderr
        );
        warned(said, "under-floor");
    }
    let ended = site.plane.wait_for("the kernel to kill one", || {
        let ended = killed(&site, &namespace);
        ended.iter().any(|(_, code)| *code == 137).then_some(ended)
    });
    for (reason, code) in &ended {
        assert!(*code != 0 && reason != "OOMKilled", "{ended:?}");
    }
    assert!(ended.contains(&("Error".to_string(), 137)), "{ended:?}");
    starts_with_the_limit_of_the_warning(&site, &pod("exact", &json!({"limits": {"memory": "21Mi"}})));
    // On a busy node a start may be lost for another reason.
    let mut filled = pod("filled", &json!({}));
    filled["spec"]["restartPolicy"] = json!("OnFailure");
    let said = site.apply(&filled);
    assert!(!said.stderr.contains("[under-floor]"), "{}", said.stderr);
    said.ok();
    let ran = site.finished(&namespace, "filled");
    assert_eq!(ran["spec"]["containers"][0]["resources"]["limits"]["memory"], "32Mi");
    assert_eq!(
        (&ran["status"]["phase"], &*site.logs(&namespace, "filled")),
        (&json!("Succeeded"), "hello\n")
    );
    site.plane.kubectl(&["delete", "pods", "--all", "--namespace", &namespace, "--wait=false"]).ok();
}

/// Nothing is warned of with the limit that the warning tells people to write, and the program runs.
fn starts_with_the_limit_of_the_warning(site: &Site, pod: &Value) {
    let (namespace, name) =
        (pod["metadata"]["namespace"].as_str().unwrap(), pod["metadata"]["name"].as_str().unwrap());
    let mut pod = pod.clone();
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    let said = site.apply(&pod);
    assert!(!said.stderr.contains("[under-floor]"), "{}", said.stderr);
    said.ok();
    let ran = site.finished(namespace, name);
    assert_eq!(ran["spec"]["containers"][0]["resources"]["limits"]["memory"], "21Mi");
    assert_eq!((&ran["status"]["phase"], &*site.logs(namespace, name)), (&json!("Succeeded"), "hello\n"));
}

/// A command that fills 16 MiB, says something and then waits for ever, a second at a time.
fn staying_filler() -> Vec<u8> {
    fixtures::wat(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 257)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "hello\n")
            (func (export "_start")
                (memory.fill (i32.const 65536) (i32.const 1) (i32.const 16777216))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                ;; One subscription: the monotonic clock, a second from now.
                (i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000000))
                (loop $again
                    (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 3000)))
                    (br $again))))"#,
    )
}

/// Each of them would run alone. The kernel ends the larger one, which is that which runs already.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_limit_of_the_pod_below_what_its_programs_need_together_ends_one_of_them() {
    let site = SITE.get();
    let namespace = site.plane.namespace("floor-of-the-pod", &json!({}));
    site.push("stays", &ImageBuilder::wasm_artifact(&staying_filler()).build());
    let mut pod = pod_of(&site, &namespace, "stays");
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["resources"] = json!({"requests": {"memory": "28Mi"}, "limits": {"memory": "28Mi"}});
    let mut other = pod["spec"]["containers"][0].clone();
    other["name"] = json!("other");
    pod["spec"]["containers"].as_array_mut().unwrap().push(other);
    let said = site.apply(&pod);
    let together = "the pod has a memory limit of 28Mi, and its Wasm containers that run together need about 42Mi to start";
    assert!(said.stderr.contains(together), "{}", said.stderr);
    warned(said, "under-floor");
    let ended = site.plane.wait_for("the kernel to end one of them", || {
        let pod = site.plane.get(&["pod", "stays", "--namespace", &namespace]);
        let statuses = pod["status"]["containerStatuses"].as_array()?;
        let mut ended = statuses.iter().map(|status| &status["state"]["terminated"]);
        ended.find(|ended| ended["exitCode"] == 137).cloned()
    });
    assert_eq!(ended["reason"], "Error", "{ended}");
    site.plane.kubectl(&["delete", "pod", "stays", "--namespace", &namespace, "--wait=false"]).ok();
}

/// The CPU time that the container of a running pod has taken, in milliseconds.
fn cpu_millis(site: &Site, pod: &Value) -> u64 {
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let [memory, cpu] = ["memory", "cpuacct"].map(|controller| of_pod(site, controller, uid).unwrap());
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.trim_start_matches("containerd://");
    counted(&memory.join(id), Some(&cpu.join(id))).cpu_nanos / 1_000_000
}

/// The seconds of a warning of `start-outlasts-probe`: how long the program is compiled at most, and when the probe may restart it.
fn warned_of(said: &str) -> (u64, u64) {
    let (_, rest) = said
        .split_once(" seconds under its CPU limit of 250m, and its `livenessProbe` may restart it after ")
        .unwrap();
    let (before, _) = said.split_once(" seconds under its CPU limit of ").unwrap();
    let after: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (before.rsplit(' ').next().unwrap().parse().unwrap(), after.parse().unwrap())
}

/// Its probe looks at the port on which it answers once it has been compiled.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_program_that_compiles_longer_than_its_probe_waits_is_restarted_and_with_more_time_it_is_not() {
    let site = SITE.get();
    let namespace = site.plane.namespace("probe", &json!({}));
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "greeter", "namespace": namespace},
        "spec": {"capabilities": [{"name": "http.inbound", "ports": [8080]}]}});
    site.apply(&grant).ok();
    let mut image = ImageBuilder::rootfs(super::platform(), &["/app.wasm"]);
    image.files(&[("app.wasm", &padded_greeter("hello\n", 3_000_000))]);
    let image = image.build();
    let pod = |name: &str, cpu: &str, failures: u32| {
        site.push(name, &image);
        let mut pod = pod_of(&site, &namespace, name);
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": cpu, "memory": "400Mi"}});
        pod["spec"]["containers"][0]["livenessProbe"] =
            json!({"tcpSocket": {"port": 8080}, "periodSeconds": 2, "failureThreshold": failures});
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": NODE});
        pod
    };
    // At the fastest that was measured, 1.1 CPU seconds for each million bytes of code, that takes some 13 s, and the probe waits for some four.
    let hurried = pod("hurried", "250m", 2);
    site.plane.wait_for("the grant to be in force", || {
        (site.plane.apply(&hurried, &["--dry-run=server"]).code == 0).then_some(())
    });
    let said = site.apply(&hurried);
    let (slowest, restarted) = warned_of(&said.stderr);
    warned(said, "start-outlasts-probe");
    let patient = site.apply(&pod("patient", "250m", 300));
    assert!(!patient.stderr.contains("[start-outlasts-probe]"), "{}", patient.stderr);
    patient.ok();
    let status = |name: &str| {
        let pod = site.plane.get(&["pod", name, "--namespace", &namespace]);
        pod["status"]["containerStatuses"][0].clone()
    };
    site.plane.wait_for("the hurried one to be restarted", || {
        status("hurried")["restartCount"].as_u64().is_some_and(|count| count > 0).then_some(())
    });
    let events = site.plane.kubectl(&["get", "events", "--namespace", &namespace]).stdout;
    let killed = |line: &&str| line.contains("pod/hurried") && line.contains("failed liveness probe");
    assert!(events.lines().any(|line| killed(&line)), "{events}");
    site.plane.kubectl(&["delete", "pod", "hurried", "--namespace", &namespace, "--now"]).ok();
    let log = site.plane.wait_for("the patient one to answer", || {
        let proxy = format!("--raw=/api/v1/namespaces/{namespace}/pods/patient:8080/proxy/");
        let said = site.plane.kubectl(&["get", &proxy]);
        (said.code == 0).then_some(said.stdout)
    });
    assert_eq!(log, "hello\n");
    assert_eq!(status("patient")["restartCount"], 0);
    // The limit is a quarter of a processor, so that a second of CPU time takes four.
    let took = cpu_millis(&site, &site.plane.get(&["pod", "patient", "--namespace", &namespace])) * 4 / 1000;
    println!(
        "compiled in {took} s of its CPU limit; {slowest} s at most were warned of, and a probe after {restarted} s"
    );
    assert!(
        restarted < took && took <= slowest,
        "{took} s, {slowest} s at most, and a probe after {restarted} s"
    );
}
