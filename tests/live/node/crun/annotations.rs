//! Annotations by which crun acts on the node, as root and outside of the container: what each does where the node passes it on, and
//! that it does nothing where the node passes on those alone that ask for Wasm. The gate does not see these pods, but for the question
//! whether it refuses them.

use std::fmt::Write as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::golden::{UNSEEN, module, outcome};
use super::super::needs::pod_of;
use super::super::{SITE, Site};
use crate::support::probes::{ANNOTATED, CRUN};
use crate::support::process::ask_patiently;

/// How it shows that crun has heeded an annotation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// The file that it names is there.
    File,
    /// The socket that it names was connected to.
    Socket,
    /// The filter that it holds, which is none, keeps the pod from starting.
    Refusal,
}

struct Act {
    annotation: &'static str,
    does: &'static str,
    trace: Trace,
}

/// Every container of this node's class has a hook ([`ANNOTATED`]), and every pod here a filter of system calls.
static ACTS: [Act; 5] = [
    Act {
        annotation: "run.oci.hooks.stdout",
        does: "writes to a file of the node, if the container has hooks",
        trace: Trace::File,
    },
    Act { annotation: "run.oci.hooks.stderr", does: "does the same", trace: Trace::File },
    Act {
        annotation: "run.oci.seccomp.receiver",
        does: "connects to a socket of the node, if the container has a filter of system calls",
        trace: Trace::Socket,
    },
    Act {
        annotation: "run.oci.seccomp_bpf_data",
        does: "takes it for the container's filter of system calls",
        trace: Trace::Refusal,
    },
    Act {
        annotation: "run.oci.pidfd_receiver",
        does: "sends a handle of the container's process to a socket of the node",
        trace: Trace::Socket,
    },
];

/// A pod with one annotation.
struct Trial {
    act: &'static Act,
    name: String,
    /// What the annotation names on the node.
    path: PathBuf,
    listener: Option<UnixListener>,
    pod: Value,
}

impl Trial {
    fn start(site: &Site, number: usize, class: &str, program: &[u8]) -> Self {
        let act = &ACTS[number];
        let name = format!("act-{number}-{class}");
        let path = site.plane.home().path().join(&name);
        let listener = (act.trace == Trace::Socket).then(|| UnixListener::bind(&path).unwrap());
        let value = if act.trace == Trace::Refusal { "!".to_string() } else { path.display().to_string() };
        let mut pod = pod_of(site, class, &name, &[("app.wasm", program)]);
        pod["metadata"]["annotations"][act.annotation] = json!(value);
        pod["spec"]["securityContext"] = json!({"seccompProfile": {"type": "RuntimeDefault"}});
        site.apply(&pod).ok();
        Self { act, name, path, listener, pod }
    }

    /// What started, once it is clear.
    fn end(&self, site: &Site) -> String {
        let may_be_refused = self.act.trace == Trace::Refusal;
        let seen = ask_patiently(|| {
            let refused = || may_be_refused.then(|| refusal(site, &self.name)).flatten();
            outcome(site, &self.name).or_else(refused)
        });
        seen.unwrap_or_else(|| panic!("{}: no end\n{}", self.name, site.story(UNSEEN)))
    }

    /// Whether crun has heeded the annotation, once the pod has ended.
    fn is_heeded(&self, site: &Site) -> bool {
        let end = self.end(site);
        println!("{:<26} {:<20} {end}", self.act.annotation, self.name);
        match self.act.trace {
            Trace::File => self.path.exists(),
            Trace::Refusal => end != "/app.wasm",
            Trace::Socket => self.listener.as_ref().is_some_and(|listener| {
                listener.set_nonblocking(true).unwrap();
                listener.accept().is_ok()
            }),
        }
    }

    /// Whether the gate refuses it under the class of the profile for crun.
    fn is_refused(&self, site: &Site, namespace: &str) {
        let mut pod = self.pod.clone();
        pod["metadata"]["namespace"] = json!(namespace);
        pod["spec"]["runtimeClassName"] = json!(CRUN.class);
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
        let refused = site.plane.apply(&pod, &["--dry-run=server"]).refused();
        let why = format!("the annotation `{}` makes crun act on the node", self.act.annotation);
        assert!(refused.contains(&why), "{refused}");
    }
}

/// Why the node could not start a pod at all, if it says so of its filter of system calls; other failures pass.
fn refusal(site: &Site, name: &str) -> Option<String> {
    let selector = format!("--field-selector=involvedObject.name={name}");
    let events = site.plane.list(&["events", "--namespace", UNSEEN, &selector]);
    let failed = events.iter().filter(|event| event["reason"] == "FailedCreatePodSandBox");
    let mut messages = failed.filter_map(|event| event["message"].as_str());
    messages.find(|message| message.contains("seccomp")).map(String::from)
}

const fn word(heeded: bool) -> &'static str {
    if heeded { "yes" } else { "no" }
}

#[test]
#[ignore = "needs a real node: make test-node"]
fn annotations_make_crun_act_on_a_node_that_passes_them_on_and_on_no_other_and_the_page_has_it() {
    let site = SITE.get();
    let namespace = site.plane.namespace("annotated-crun", &json!({}));
    let program = module("/app.wasm");
    let classes = [ANNOTATED.class, CRUN.class];
    let trials: Vec<Trial> = (0..ACTS.len())
        .flat_map(|number| classes.map(|class| Trial::start(&site, number, class, &program)))
        .collect();
    for trial in &trials {
        trial.is_refused(&site, &namespace);
    }
    let heeded: Vec<bool> = trials.iter().map(|trial| trial.is_heeded(&site)).collect();
    let head = "| annotation | crun | where the node passes it on | where it does not |\n|---|---|---|---|\n";
    let mut table = head.to_string();
    for (act, heeded) in ACTS.iter().zip(heeded.chunks(classes.len())) {
        let [passed, kept] = *heeded else { panic!("{heeded:?}") };
        assert!(!kept, "{}: it reaches crun on a node that does not pass it on", act.annotation);
        writeln!(table, "| `{}` | {} | {} | {} |", act.annotation, act.does, word(passed), word(kept))
            .unwrap();
    }
    assert!(heeded[0], "a node that passes annotations on has crun write to the file that one names");
    ANNOTATED.compare(&table);
    let all = trials.iter().map(|trial| trial.name.as_str());
    let delete: Vec<&str> =
        ["delete", "pods", "--wait=false", "--namespace", UNSEEN].into_iter().chain(all).collect();
    site.plane.kubectl(&delete).ok();
}
