//! The gate's own program with a real control plane: `wasmgate serve` on a free loopback port, with both webhooks
//! registered and images in a real registry. What the gate is told about the cluster is applied to the API server too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::process::{PATIENCE, Process, ask_patiently, root, wait_for, wasmgate};
use super::registry::Registry;

/// The settings with which a gate is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Body of the configuration file, without `apiVersion` and `kind`.
    pub configuration: String,
    /// RuntimeClass, LimitRange, Namespace, WasiGrant, ClusterWasiGrant and `WasiException` objects.
    pub objects: Vec<Value>,
    /// More flags of `serve`.
    pub flags: Vec<String>,
}

/// From where a gate learns what is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From directories that hold the same objects.
    Directories,
    /// From the API server, by `--kubeconfig`.
    Watches,
}

/// The default, unless a test says otherwise.
pub const SOURCE: Source = Source::Watches;

/// A running gate.
pub struct LiveGate {
    process: Option<Process>,
    folder: PathBuf,
    flags: Vec<String>,
    /// Address of the webhooks, `127.0.0.1:PORT`.
    pub webhooks: String,
    /// Address of the probes and metrics.
    pub probes: String,
    /// Address of the page, if it has one.
    pub page: Option<String>,
}

impl LiveGate {
    /// Starts a gate that may ask this registry, and waits until it listens. `name` distinguishes the gates of one
    /// folder.
    pub fn start(plane: &ControlPlane, registry: &Registry, name: &str, setup: &Setup) -> Self {
        let folder = plane.home().path().join(name);
        fs::create_dir(&folder).unwrap();
        let configuration = folder.join("gate.yaml");
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        fs::write(&configuration, format!("{head}{}", setup.configuration)).unwrap();
        let mut flags = vec![
            "serve".to_string(),
            format!("--config={}", configuration.display()),
            format!("--insecure-registry={}", registry.host),
            format!("--cert-dir={}", folder.join("certs").display()),
            format!("--decision-log={}", folder.join("decisions.log").display()),
            "--log-format=json".into(),
        ];
        apply_all(plane, &setup.objects);
        // A test that runs the gate as a particular user sets that itself.
        if !setup.flags.iter().any(|flag| flag.starts_with("--kubeconfig")) {
            flags.extend(source_flags(plane, &folder, &setup.objects));
        }
        flags.extend(setup.flags.clone());
        let none = "127.0.0.1:0".to_string();
        let mut gate =
            Self { process: None, folder, flags, webhooks: none.clone(), probes: none, page: None };
        gate.launch(plane, name);
        gate
    }

    fn launch(&mut self, plane: &ControlPlane, name: &str) {
        let mut command = wasmgate();
        command.args(&self.flags).arg(format!("--listen={}", self.webhooks));
        command.arg(format!("--probes={}", self.probes)).current_dir(&self.folder);
        // Appends to the log of an earlier gate of this name.
        let earlier = fs::read_to_string(plane.home().path().join(format!("{name}.log"))).unwrap_or_default();
        let said_before = earlier.lines().count();
        let mut process = plane.home().start(name, &command);
        let listening = wait_for("the gate to listen", || {
            assert!(!process.has_ended(), "the gate ended\n{}", process.tail());
            let log = process.log();
            let lines =
                log.lines().skip(said_before).filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let said: Vec<Value> = lines.map(|line| line["fields"].clone()).collect();
            let found = |message: &str| said.iter().find(|fields| fields["message"] == message).cloned();
            Some((found("listening")?, found("serving the page")))
        });
        let (listening, page) = listening;
        self.page = page.map(|fields| fields["page"].as_str().unwrap().to_string());
        self.webhooks = listening["webhooks"].as_str().unwrap().to_string();
        self.probes = listening["probes"].as_str().unwrap().to_string();
        self.process = Some(process);
    }

    /// Kills it, as a crash would.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same ports, so that the registration stays valid.
    pub fn start_again(&mut self, plane: &ControlPlane) {
        let name = self.folder.file_name().unwrap().to_string_lossy().into_owned();
        self.launch(plane, &name);
    }

    /// Sends a signal such as `-TERM` to the program itself, as the kubelet does.
    pub fn signal(&self, signal: &str) {
        let ids = self.ids();
        assert!(!ids.is_empty(), "no such process");
        assert!(Command::new("kill").arg(signal).args(&ids).status().unwrap().success());
    }

    /// Whether the program has ended.
    pub fn has_gone(&self) -> bool {
        self.ids().is_empty()
    }

    /// Process ids of the gates with this configuration; the shell around them is not included.
    fn ids(&self) -> Vec<String> {
        let output = Command::new("ps").args(["-axww", "-o", "pid=,comm=,args="]).output().unwrap();
        let configuration = format!("{}/gate.yaml", self.folder.display());
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        let own = all.lines().filter(|line| line.contains(&configuration)).filter_map(|line| {
            let (id, rest) = line.trim_start().split_once(' ')?;
            rest.trim_start().starts_with("wasmgate").then(|| id.to_string())
        });
        own.collect()
    }

    /// Time of processors that it has used so far, in user space and in the kernel.
    pub fn cpu_time(&self) -> Duration {
        // What Linux counts in `stat` is a hundredth of a second each on every architecture (`USER_HZ`).
        const TICK: Duration = Duration::from_millis(10);
        let used = |id: &String| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            // Behind the name, which may have blanks and brackets: `utime` and `stime` are the 14th and 15th field (`proc_pid_stat(5)`).
            let (_, fields) = stat.rsplit_once(')')?;
            let times = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u32>().ok());
            times.sum::<Option<u32>>()
        };
        let ticks: u32 = self.ids().iter().filter_map(used).sum();
        ticks * TICK
    }

    /// Its own log so far.
    pub fn tail(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }

    /// Its decision records so far.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("decisions.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a record: the decision log is written after the answer, not before it.
    pub fn wait_for_record(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = ask_patiently(|| self.records().into_iter().find(&wanted));
        found.unwrap_or_else(|| panic!("no record of {what}\n{}", self.tail()))
    }

    /// The file of the CA for verifying the webhooks.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("certs/ca.crt")
    }

    /// The CA for verifying the webhooks, in PEM.
    pub fn ca(&self) -> String {
        fs::read_to_string(self.folder.join("certs/ca.crt")).unwrap()
    }

    /// Both webhook configurations, with its address and CA.
    pub fn webhook_configurations(&self) -> String {
        let template = root().join("manifests/install/webhooks.yaml");
        let template = fs::read_to_string(template).unwrap();
        let (gate, ca) = (&self.webhooks, STANDARD.encode(self.ca()));
        // As users install them, except for the address: no Service has a network here.
        let outside = |line: &str| match line.split_once("path: ").filter(|_| line.contains("service: {")) {
            Some((_, rest)) => {
                let path = rest.split(',').next().unwrap();
                format!("      url: \"https://{gate}{path}\"\n      caBundle: \"{ca}\"\n")
            }
            None => format!("{line}\n"),
        };
        template.lines().map(outside).collect()
    }

    /// Registers both webhooks, and waits until the API server calls them, since it learns of them through a watch.
    /// `probe` is a Wasm image.
    pub fn register(&self, plane: &ControlPlane, probe: &str) {
        let configurations = self.webhook_configurations();
        plane.kubectl_with(&plane.kubeconfig(), &["apply", "--filename=-"], &configurations).ok();
        let harmless = bare_pod(probe, &json!({}));
        plane.wait_for("the mutating webhook to change a dry run", || {
            let made = plane.create(&harmless, &["--dry-run=server", "--namespace=default"]);
            (made.code == 0 && !made.json()["spec"]["runtimeClassName"].is_null()).then_some(())
        });
        plane.wait_for("the validating webhook to record a dry run", || {
            plane.create(&harmless, &["--dry-run=server", "--namespace=default"]).ok();
            self.records().iter().any(|record| record["path"] == "wasmgate/validate").then_some(())
        });
    }
}

/// A pod with one container `app` that is handed only what every pod is.
pub fn bare_pod(image: &str, annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "app-", "annotations": annotations},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "app", "image": image}]}})
}

/// Applies the definitions of the gate's own kinds and then the objects.
fn apply_all(plane: &ControlPlane, objects: &[Value]) {
    let definitions = root().join("manifests/crds");
    plane.kubectl(&["apply", "--filename", definitions.to_str().unwrap()]).ok();
    let all = ["wait", "--for=condition=Established", "--all", "crd"];
    plane.kubectl(&[&all[..], &[&format!("--timeout={}s", PATIENCE.as_secs())]].concat()).ok();
    if !objects.is_empty() {
        plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}), &[]).ok();
    }
}

fn source_flags(plane: &ControlPlane, folder: &Path, objects: &[Value]) -> Vec<String> {
    if SOURCE == Source::Watches {
        return vec![format!("--kubeconfig={}", plane.kubeconfig().display())];
    }
    let ours = |object: &&Value| object["apiVersion"].as_str().unwrap().starts_with("wasmgate.dev/");
    let (grants, cluster): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(ours);
    vec![
        format!("--grants={}", documents(&folder.join("grants"), &grants)),
        format!("--cluster={}", documents(&folder.join("cluster"), &cluster)),
    ]
}

/// Writes a folder with one file per object.
fn documents(folder: &Path, objects: &[&Value]) -> String {
    fs::create_dir(folder).unwrap();
    for (number, object) in objects.iter().enumerate() {
        fs::write(folder.join(format!("{number:03}.json")), object.to_string()).unwrap();
    }
    folder.display().to_string()
}
