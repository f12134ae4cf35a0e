//! What the wasmtime shim and youki hand over, and what the gate says of it, by programs that try each thing; and what hardening
//! takes from pods, by the same programs.

use serde_json::{Value, json};

use super::{SITE, Site, platform};
use crate::support::node::ADDRESS;
use crate::support::probes::{
    Cell, Form, HIDDEN, LINKS, LOADED, Peer, Probe, ROOT, SAID, SHIM, Target, explained, named,
};
use crate::support::process::ask_patiently;

/// One probe in one form, and what `explain` says of its pod.
struct Trial {
    probe: &'static Probe,
    form: Form,
    name: String,
    pod: Value,
    said: Value,
}

/// The registry, as pods reach it.
pub(super) fn peer(site: &Site) -> Peer {
    let parts: Vec<u8> = ADDRESS.split('.').map(|part| part.parse().unwrap()).collect();
    let port = site.registry.host.rsplit(':').next().unwrap().parse().unwrap();
    Peer { address: parts.try_into().unwrap(), port }
}

/// Pushes a probe, and returns its pod.
fn pod_of(site: &Site, target: &Target, probe: &Probe, form: Form, namespace: &str) -> Value {
    let name = format!("{}-{}", probe.name, form.name());
    let tag = format!("{}-{name}", target.class);
    site.push(&tag, &probe.image(target, &probe.build(form, peer(site)), platform()));
    let mut pod = probe.pod(target, &name, &site.registry.image(&format!("{tag}:1")));
    pod["metadata"]["namespace"] = json!(namespace);
    if form == Form::Http {
        // As `said_at_the_end` says, a start may miss the layers.
        pod["spec"]["restartPolicy"] = json!("Always");
    }
    pod
}

fn trials(site: &Site, target: &Target, namespace: &str) -> Vec<Trial> {
    let pods: Vec<Value> =
        target.tried().map(|(probe, form)| pod_of(site, target, probe, form, namespace)).collect();
    let folder = site.plane.home().path();
    let flags = [
        format!("--config={}", folder.join("gate/gate.yaml").display()),
        format!("--insecure-registry={}", site.registry.host),
    ];
    let said = explained(folder, &pods, &flags);
    let trial = |(((probe, form), pod), said): (((_, _), Value), Value)| {
        let name = pod["metadata"]["name"].as_str().unwrap().to_string();
        Trial { probe, form, name, pod, said }
    };
    target.tried().zip(pods).zip(said).map(trial).collect()
}

impl Trial {
    /// Whether the API server refuses it, which must be what `explain` said, with the same rules.
    fn is_refused_as_explained(&self, site: &Site) {
        let asked = site.plane.apply(&self.pod, &["--dry-run=server"]);
        assert_eq!(asked.code != 0, self.said["outcome"] == "denied", "{}: {}", self.name, asked.stderr);
        let violations = self.said["violations"].as_array().into_iter().flatten();
        for violation in violations.filter(|violation| violation["enforced"] == "deny") {
            let rule = format!("[{}]", violation["rule"].as_str().unwrap());
            assert!(asked.stderr.contains(&rule), "{}: {rule} in {}", self.name, asked.stderr);
        }
    }

    fn start(&self, site: &Site) {
        let tried = ask_patiently(|| (site.apply(&self.pod).code == 0).then_some(()));
        tried.unwrap_or_else(|| panic!("{} with its grant: {}", self.name, site.apply(&self.pod).stderr));
    }

    /// The program's own words, and whether it could do what it tries.
    fn outcome(&self, site: &Site, namespace: &str) -> (String, bool) {
        let words = match self.form {
            Form::Http => answer(site, namespace, &self.name, 8080),
            Form::Module | Form::Component => self.said_at_the_end(site, namespace),
        };
        // What it wrote is in the log, whatever it says of that.
        let could = match self.probe.name {
            "stdio" => site.logs(namespace, &self.name).contains(SAID),
            _ if self.probe.loads() => site.logs(namespace, &self.name).contains(LOADED),
            _ => words.contains("probe 00"),
        };
        (words, could)
    }

    /// Whether a program that could not do it has tried, and did not end before. The shim starts no command that imports
    /// `wasi:http`.
    fn has_tried(&self, words: &str) -> bool {
        let starts = self.probe.name != "request" || self.form != Form::Component;
        words.contains("probe ") == starts
    }

    /// On a busy node the shim was seen to miss the layers of an image that was just pulled, so a program that said
    /// nothing is started again, which one that cannot start does not help.
    fn said_at_the_end(&self, site: &Site, namespace: &str) -> String {
        for _ in 0..2 {
            site.finished(namespace, &self.name);
            let said = site.logs(namespace, &self.name);
            if said.contains("probe ") {
                return said;
            }
            site.plane.kubectl(&["delete", "pod", &self.name, "--namespace", namespace, "--now"]).ok();
            self.start(site);
        }
        site.finished(namespace, &self.name);
        site.logs(namespace, &self.name)
    }
}

/// What a program that answers HTTP says, by the API server's proxy to its pod.
fn answer(site: &Site, namespace: &str, name: &str, port: u16) -> String {
    let path = format!("--raw=/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/");
    let asked = ask_patiently(|| {
        let said = site.plane.kubectl(&["get", &path]);
        (said.code == 0).then_some(said.stdout)
    });
    asked.unwrap_or_else(|| panic!("{name} gave no answer\n{}", site.story(namespace)))
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn programs_can_do_on_the_shim_what_the_gate_says_and_nothing_else_and_the_page_has_it() {
    outcomes_agree(&SHIM);
}

/// Tries every probe under a runtime, with the grants that the gate suggests, and holds the gate and the page to it.
pub(super) fn outcomes_agree(target: &Target) {
    let site = SITE.get();
    let namespace = site.plane.namespace(&format!("probes-{}", target.class), &json!({}));
    let trials = trials(&site, target, &namespace);
    for trial in &trials {
        trial.is_refused_as_explained(&site);
    }
    let grants: Vec<String> = trials
        .iter()
        .filter_map(|trial| trial.said["suggestedGrant"].as_str())
        .map(|grant| format!("---\n{grant}"))
        .collect();
    if !grants.is_empty() {
        let (by, grants) = (site.plane.kubeconfig(), grants.concat());
        site.plane.kubectl_with(&by, &["apply", "--filename=-"], &grants).ok();
    }
    for trial in &trials {
        trial.start(&site);
    }
    let mut wrong = Vec::new();
    let cells: Vec<Cell> = trials
        .iter()
        .map(|trial| {
            let (words, could) = trial.outcome(&site, &namespace);
            let (claimed, seen) =
                (Cell::claimed(trial.probe, &trial.said), Cell::of(could, trial.probe, &trial.said));
            println!("{:<18} {:<14} {}", trial.name, seen.text(), words.trim().replace('\n', " "));
            if claimed != seen {
                wrong.push(format!("{}: claimed {}, seen {words}", trial.name, claimed.text()));
            } else if !could && !trial.has_tried(&words) {
                wrong.push(format!(
                    "{}: it could not, for a reason that has nothing to do with it: {words}",
                    trial.name
                ));
            }
            seen
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    target.compare(&target.table(&cells));
    site.plane.kubectl(&["delete", "pods", "--all", "--wait=false", "--namespace", &namespace]).ok();
}

/// A way out that `src/runtime/runwasi_wasmtime.rs` names: a variable of the pod moves the server. A grant for the usual port does not
/// cover the other one, and the program sees neither that variable nor the one beside it.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_variable_moves_the_server_of_a_component_to_the_port_for_which_the_gate_asks_a_grant() {
    let site = SITE.get();
    let namespace = site.plane.namespace("moved", &json!({}));
    let usual = pod_of(&site, &SHIM, &HIDDEN, Form::Http, &namespace);
    let mut moved = usual.clone();
    let address = json!({"name": "WASMTIME_HTTP_PROXY_SOCKET_ADDR", "value": "0.0.0.0:9000"});
    let backlog = json!({"name": "WASMTIME_HTTP_BACKLOG", "value": "64"});
    moved["spec"]["containers"][0]["env"] = json!([address, backlog]);
    let inbound = |port: u16| json!([{"name": "http.inbound", "ports": [port]}]);
    let asked = |pod: &Value| site.plane.apply(pod, &["--dry-run=server"]);
    grant(&site, &namespace, &inbound(8080));
    site.plane
        .wait_for("the grant for the usual port to be in force", || (asked(&usual).code == 0).then_some(()));
    let refused = asked(&moved).refused();
    assert!(refused.contains("[needs-grant]") && refused.contains("on port `9000`"), "{refused}");
    grant(&site, &namespace, &inbound(9000));
    site.plane
        .wait_for("the grant for the other port to be in force", || (asked(&moved).code == 0).then_some(()));
    site.apply(&moved).ok();
    let name = moved["metadata"]["name"].as_str().unwrap();
    // `99`: no variable begins so.
    assert_eq!(answer(&site, &namespace, name, 9000), "probe 99\n");
    site.plane.kubectl(&["delete", "pods", "--all", "--wait=false", "--namespace", &namespace]).ok();
}

// === Hardening ===

fn grant(site: &Site, namespace: &str, capabilities: &Value) {
    let grant = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasiGrant",
        "metadata": {"name": "tried", "namespace": namespace}, "spec": {"capabilities": capabilities}});
    site.apply(&grant).ok();
}

/// Applies the pod of a probe until a condition holds for what was admitted, and returns what its program said.
fn ran(
    site: &Site,
    namespace: &str,
    mut pod: Value,
    name: &str,
    admitted: impl Fn(&Value) -> bool,
) -> String {
    pod["metadata"]["name"] = json!(name);
    // Only a start that missed the layers fails: the program ends well, whatever it could do.
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    site.plane.wait_for("the gate to know the grant", || {
        let tried = site.plane.apply(&pod, &["--dry-run=server", "--output=json"]);
        (tried.code == 0 && admitted(&tried.json())).then_some(())
    });
    site.apply(&pod).ok();
    site.finished(namespace, name);
    site.logs(namespace, name)
}

/// `ENOENT` of preview 1; and `EIO`, which wasmtime makes of `EROFS`.
const NO_SUCH_FILE: &str = "probe 44\n";
const READ_ONLY: &str = "probe 29\n";
const DONE: &str = "probe 00\n";

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_token_that_hardening_takes_cannot_be_read_and_one_that_is_granted_can() {
    for form in [Form::Module, Form::Component] {
        tokens_are_read_where_they_are_granted(&SHIM, form);
    }
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn a_mount_that_hardening_makes_read_only_takes_no_writes() {
    for form in [Form::Module, Form::Component] {
        mounts_are_written_where_that_is_granted(&SHIM, form);
    }
}

/// Runs the probe of the token where a grant covers it and where none does, under a runtime whose profile leaves hardening as it is.
pub(super) fn tokens_are_read_where_they_are_granted(target: &Target, form: Form) {
    let site = SITE.get();
    let namespace = site.plane.namespace(&format!("token-{}-{}", target.class, form.name()), &json!({}));
    let mut pod = pod_of(&site, target, named("token"), form, &namespace);
    pod["spec"].as_object_mut().unwrap().remove("automountServiceAccountToken");
    let mounts = |pod: &Value| pod["spec"]["automountServiceAccountToken"] != false;
    grant(&site, &namespace, &json!([{"name": "native.exec"}]));
    let said = ran(&site, &namespace, pod.clone(), "taken", |pod| !mounts(pod));
    assert_eq!(said, NO_SUCH_FILE, "{form:?} under {}", target.class);
    let token = json!({"name": "fs", "paths": ["/var/run/secrets/kubernetes.io/serviceaccount"],
        "access": "read-only", "secrets": true});
    grant(&site, &namespace, &json!([{"name": "native.exec"}, token]));
    let said = ran(&site, &namespace, pod, "granted", mounts);
    assert_eq!(said, DONE, "{form:?} under {}", target.class);
}

/// The same of the probe that writes to a mount, by the access that is granted.
pub(super) fn mounts_are_written_where_that_is_granted(target: &Target, form: Form) {
    let site = SITE.get();
    let namespace = site.plane.namespace(&format!("mount-{}-{}", target.class, form.name()), &json!({}));
    let pod = pod_of(&site, target, named("mount"), form, &namespace);
    let read_only = |pod: &Value| pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] == true;
    let data =
        |access: &str| json!([{"name": "native.exec"}, {"name": "fs", "paths": ["/data"], "access": access}]);
    grant(&site, &namespace, &data("read-only"));
    let said = ran(&site, &namespace, pod.clone(), "taken", read_only);
    assert_eq!(said, READ_ONLY, "{form:?} under {}", target.class);
    grant(&site, &namespace, &data("read-write"));
    let said = ran(&site, &namespace, pod, "granted", |pod| !read_only(pod));
    assert_eq!(said, DONE, "{form:?} under {}", target.class);
}

/// What `docs/runtimes.md` says can hold a program that opens files from writing to those of its image.
#[test]
#[ignore = "needs a real node: make test-node"]
fn a_root_file_system_that_is_read_only_takes_no_writes_and_another_one_does() {
    let site = SITE.get();
    let namespace = site.plane.namespace("own-files", &json!({}));
    let mut pod = pod_of(&site, &SHIM, &ROOT, Form::Module, &namespace);
    grant(&site, &namespace, &json!([{"name": "native.exec"}]));
    assert_eq!(ran(&site, &namespace, pod.clone(), "open", |_| true), DONE);
    pod["spec"]["containers"][0]["securityContext"] = json!({"readOnlyRootFilesystem": true});
    assert_eq!(ran(&site, &namespace, pod, "held", |_| true), READ_ONLY);
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn where_hardening_switches_service_links_off_no_variable_names_a_service() {
    for form in [Form::Module, Form::Component] {
        services_are_named_where_a_variable_is_granted(&SHIM, form);
    }
}

/// Runs the probe of service links where no variable is granted and where one is. The profiles of this cluster ask for them to be
/// switched off (`setup`).
pub(super) fn services_are_named_where_a_variable_is_granted(target: &Target, form: Form) {
    let site = SITE.get();
    let namespace = site.plane.namespace(&format!("links-{}-{}", target.class, form.name()), &json!({}));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"ports": [{"port": 80}]}});
    site.apply(&service).ok();
    let pod = pod_of(&site, target, &LINKS, form, &namespace);
    let off = |pod: &Value| pod["spec"]["enableServiceLinks"] == false;
    let said = ran(&site, &namespace, pod.clone(), "taken", off);
    // `99`: no variable begins so.
    assert_eq!(said, "probe 99\n", "{form:?} under {}", target.class);
    grant(&site, &namespace, &json!([{"name": "env", "names": ["ANY"]}]));
    let said = ran(&site, &namespace, pod, "granted", |pod| !off(pod));
    assert_eq!(said, DONE, "{form:?} under {}", target.class);
}
