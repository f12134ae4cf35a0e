//! A real Kubernetes control plane on free loopback ports: etcd, API server, controller manager and scheduler, started
//! by `tools/cluster/component` as in `make cluster`. Nodes are objects without a machine, so pods are bound and never
//! run. It ends with the value, or with the test's process.
//!
//! One costs about 320 MB and some seconds, so the tests of a module share one, each in a namespace of its own. Only a
//! test that stops a part of it starts its own.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::process::{Home, PATIENCE, Process, ask_patiently, own, program};
use super::reads::Reads;

/// Kubernetes' programs collect garbage when their memory has grown fivefold and not twofold: they run for seconds, and
/// a tenth of their processor time would go into it.
const GARBAGE_COLLECTION: (&str, &str) = ("GOGC", "400");

/// How a control plane differs from the default.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More flags of the API server, such as `--enable-admission-plugins=…`.
    pub apiserver: Vec<String>,
    /// More flags of the controller manager, such as `--kube-api-qps=…`.
    pub controller_manager: Vec<String>,
    /// An audit policy; with one, [`ControlPlane::audit_log`] returns the log.
    pub audit_policy: Option<Value>,
    /// More users, as `NAME` or `NAME:GROUP:GROUP`; [`ControlPlane::user`] returns their kubeconfig.
    pub users: Vec<String>,
    /// The name of a real node that will join: [`super::node::Node`].
    pub node: Option<String>,
}

/// A part that can be stopped and restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// The output of a program.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Standard output; panics if the call failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The same as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Standard error; panics if the call succeeded.
    pub fn refused(self) -> String {
        assert_ne!(self.code, 0, "this was to be refused: {}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// A running control plane.
pub struct ControlPlane {
    parts: [Option<Process>; 4],
    /// Of the API server.
    flags: Vec<String>,
    controller_manager: Vec<String>,
    kubectl: PathBuf,
    /// The API server's.
    port: u16,
    reads: Reads,
    // Last, so that everything that runs in it has ended when it is removed.
    home: Home,
}

impl ControlPlane {
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Starts one and waits until it is ready.
    pub fn start_with(options: &Options) -> Self {
        let home = Home::new();
        let mut flags = options.apiserver.clone();
        if let Some(policy) = &options.audit_policy {
            std::fs::write(home.path().join("audit-policy.json"), policy.to_string()).unwrap();
            flags.push(format!("--audit-policy-file={}", home.path().join("audit-policy.json").display()));
            flags.push(format!("--audit-log-path={}", home.path().join("audit.log").display()));
            flags.push("--audit-log-mode=blocking".into());
        }
        let mut users = options.users.clone();
        if let Some(node) = &options.node {
            users.push(format!("system:node:{node}"));
            let prepared = own("tools/cluster/node", &["prepare".as_ref(), home.path().as_ref()]).output();
            flags.extend(String::from_utf8(prepared.unwrap().stdout).unwrap().lines().map(String::from));
        }
        let reads = Reads::new(home.path().join("kubeconfig"));
        let (controller_manager, kubectl) = (options.controller_manager.clone(), program("kubectl"));
        let mut plane =
            Self { parts: [const { None }; 4], flags, controller_manager, kubectl, port: 0, reads, home };
        plane.bring_up(&users);
        plane.wait_until_pods_can_be_made("default");
        plane
    }

    /// A port that was free may be taken before it is used, so a part that ends at once is retried on other ports.
    fn bring_up(&mut self, users: &[String]) {
        for _ in 0..5 {
            let ports = free_ports(3);
            let mut prepare =
                own("tools/cluster/component", &["prepare".as_ref(), self.home.path().as_ref()]);
            let prepared = prepare.args(ports.iter().map(u16::to_string)).args(users).output().unwrap();
            assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
            self.reads.forget();
            self.launch(Part::Etcd);
            self.launch(Part::ApiServer);
            self.port = ports[0];
            if self.until_ready() {
                self.launch(Part::ControllerManager);
                self.launch(Part::Scheduler);
                return;
            }
            self.parts = [const { None }; 4];
        }
        panic!("no control plane came up on five sets of free ports");
    }

    fn launch(&mut self, part: Part) {
        let mut command = own("tools/cluster/component", &[part.name().as_ref(), self.home.path().as_ref()]);
        let flags: &[String] = match part {
            Part::ApiServer => &self.flags,
            Part::ControllerManager => &self.controller_manager,
            Part::Etcd | Part::Scheduler => &[],
        };
        command.args(flags);
        // Everything that a part stores for its user stays in here.
        command.env("HOME", self.home.path()).env(GARBAGE_COLLECTION.0, GARBAGE_COLLECTION.1);
        let variable = format!("WASMGATE_{}", part.name().to_uppercase().replace('-', "_"));
        command.env(variable, program(part.name()));
        self.parts[part as usize] = Some(self.home.start(part.name(), &command));
    }

    /// Waits for the API server; `false` if its port, or etcd's, was taken.
    fn until_ready(&mut self) -> bool {
        let ready = ask_patiently(|| {
            // It takes seconds until it listens, in which there is no answer.
            let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            let ready = listens && self.kubectl(&["get", "--raw", "/readyz"]).code == 0;
            let ended = self.parts.iter_mut().flatten().any(Process::has_ended);
            (ready || ended).then_some(ready && !ended)
        });
        let logs = self.tails();
        let ready = ready.unwrap_or_else(|| panic!("the API server never was ready\n{logs}"));
        assert!(
            ready || logs.contains("address already in use"),
            "a part of the control plane ended\n{logs}"
        );
        ready
    }

    /// The ends of all logs, for the message of a failure.
    pub fn tails(&self) -> String {
        self.parts.iter().flatten().map(Process::tail).collect()
    }

    /// Polls until there is an answer. After [`PATIENCE`] it panics with what is missing and the ends of all logs.
    pub fn wait_for<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        ask_patiently(ask).unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}\n{}", self.tails()))
    }

    /// The whole log of a part.
    pub fn log(&self, part: Part) -> String {
        self.parts[part as usize].as_ref().map(Process::log).unwrap_or_default()
    }

    /// The folder that is removed at the end; a test may keep files of other programs below it.
    pub fn home(&self) -> &Home {
        &self.home
    }

    // === drills ===

    /// Kills a part, as a crash would.
    pub fn stop(&mut self, part: Part) {
        self.parts[part as usize] = None;
    }

    /// Restarts it on its old state, and waits until the API server is ready if that is running.
    pub fn start_again(&mut self, part: Part) {
        self.launch(part);
        let both = [Part::Etcd, Part::ApiServer].into_iter().all(|part| self.parts[part as usize].is_some());
        if both {
            assert!(self.until_ready(), "{} did not come back", part.name());
        }
    }

    // === users ===

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// Kubeconfig of one of [`Options::users`].
    pub fn user(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("kubeconfig.{name}"))
    }

    /// Kubeconfig of a ServiceAccount, by a token that the API server signed.
    pub fn account(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace]).ok();
        let path = self.home.path().join(format!("kubeconfig.{namespace}.{name}"));
        let mut config: Value = self.kubectl(&["config", "view", "--raw", "--output=json"]).json();
        config["users"][0]["user"] = json!({"token": token.trim()});
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    // === kubectl ===

    /// Runs `kubectl` as the administrator. Of what only reads, most is read without it ([`Reads`]).
    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        self.read(arguments).unwrap_or_else(|| self.kubectl_with(&self.kubeconfig(), arguments, ""))
    }

    /// What `kubectl` would say, where that is read without it.
    pub fn read(&self, arguments: &[&str]) -> Option<Said> {
        self.reads.answer(arguments)
    }

    /// Runs `kubectl` as a user, with text on standard input.
    pub fn kubectl_with(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Said {
        let mut child = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            // Without it, kubectl would wait for ever for a server that does not answer; a later flag overrides it.
            .arg(format!("--request-timeout={}s", PATIENCE.as_secs() + 10))
            .args(arguments)
            .env("HOME", self.home.path())
            .env(GARBAGE_COLLECTION.0, GARBAGE_COLLECTION.1)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may refuse its arguments before it reads anything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `kubectl apply` of one object, with more flags.
    pub fn apply(&self, object: &Value, flags: &[&str]) -> Said {
        let arguments = [&["apply", "--filename=-"], flags].concat();
        self.kubectl_with(&self.kubeconfig(), &arguments, &object.to_string())
    }

    /// `kubectl create` of one object; returns the result as JSON.
    pub fn create(&self, object: &Value, flags: &[&str]) -> Said {
        let arguments = [&["create", "--filename=-", "--output=json"], flags].concat();
        self.kubectl_with(&self.kubeconfig(), &arguments, &object.to_string())
    }

    /// An object or a list, as JSON.
    pub fn get(&self, arguments: &[&str]) -> Value {
        self.kubectl(&[&["get", "--output=json"], arguments].concat()).json()
    }

    /// The items of a list.
    pub fn list(&self, arguments: &[&str]) -> Vec<Value> {
        self.get(arguments)["items"].as_array().unwrap().clone()
    }

    /// Every object of every kind that the API server can list, in every namespace and in none, as `KIND NAMESPACE/NAME`; `None` while
    /// a kind goes away. Without Events, which come and go, and what a kubelet writes of its drivers, whenever it likes.
    pub fn everything(&self) -> Option<BTreeSet<String>> {
        let kinds = self.kubectl(&["api-resources", "--verbs=list", "--output=name"]);
        let passing = |kind: &&str| kind.starts_with("events") || kind.starts_with("csinodes");
        let names: Vec<&str> = kinds.stdout.lines().filter(|kind| !passing(kind)).collect();
        let names = names.join(",");
        let arguments = ["get", names.as_str(), "--all-namespaces", "--output=json"];
        let listed = self.kubectl_with(&self.kubeconfig(), &arguments, "");
        if kinds.code != 0 || listed.code != 0 {
            return None;
        }
        let all = listed.json();
        let told = |object: &Value| {
            let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            format!("{kind} {namespace}/{}", metadata["name"].as_str().unwrap())
        };
        // A kubelet writes the lease of its node when it comes to it.
        let lasts = |name: &String| !name.starts_with("Lease kube-node-lease/");
        Some(all["items"].as_array().unwrap().iter().map(told).filter(lasts).collect())
    }

    /// [`Self::everything`], once nothing is added any more: a new cluster and a new node write objects of their own for some
    /// seconds.
    pub fn settled(&self) -> BTreeSet<String> {
        let (mut last, mut alike) = (None, 0);
        self.wait_for("the cluster to write nothing more of its own", || {
            let now = self.everything();
            alike = if now.is_some() && now == last { alike + 1 } else { 0 };
            last = now;
            if alike == 2 { last.clone() } else { None }
        })
    }

    /// Waits until there is [everything](Self::everything) that was there before, what is named beside it, and nothing else.
    pub fn has_only(&self, before: &BTreeSet<String>, made: &[String]) {
        let expected: BTreeSet<String> = before.iter().chain(made).cloned().collect();
        let mut odd: Vec<String> = Vec::new();
        let alike = ask_patiently(|| {
            let now = self.everything()?;
            odd = now.symmetric_difference(&expected).cloned().collect();
            odd.is_empty().then_some(())
        });
        assert!(alike.is_some(), "left behind, or gone with what was removed: {odd:?}");
    }

    // === objects that tests need ===

    /// A new namespace in which pods can be created.
    pub fn namespace(&self, name: &str, labels: &Value) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.apply(&object, &[]).ok();
        self.wait_until_pods_can_be_made(&name);
        name
    }

    /// The controller manager creates the ServiceAccount, without which no pod is accepted.
    pub fn wait_until_pods_can_be_made(&self, namespace: &str) {
        self.wait_for("the default ServiceAccount", || {
            let account = ["serviceaccount", "default", "--namespace", namespace];
            let asked = self.kubectl(&[&["get", "--output=json"], &account[..]].concat());
            (asked.code == 0).then_some(())
        });
    }

    /// A node that is ready and has capacity, although there is no machine.
    pub fn add_node(&self, name: &str, labels: &Value) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        self.apply(&node, &[]).ok();
        let capacity = json!({"cpu": "8", "memory": "16Gi", "ephemeral-storage": "64Gi", "pods": "110"});
        let status = json!({"status": {"capacity": capacity, "allocatable": capacity, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "no machine, only an object"}]}});
        let patch = format!("--patch={status}");
        self.kubectl(&["patch", "node", name, "--subresource=status", "--type=merge", &patch]).ok();
    }

    /// The API server's log of requests so far, if it has an audit policy.
    pub fn audit_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.home.path().join("audit.log")).unwrap_or_default();
        // The last line may be incomplete.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Ports on which nothing listened a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// The first of several consecutive ports on which nothing listens. They lie below those that Linux gives to connections
/// and to listeners without a port (`ip_local_port_range`, 32768 and up), so that no other test takes one meanwhile.
pub fn free_port_range(count: u16) -> u16 {
    const FROM: u16 = 20_000;
    const BELOW: u16 = 32_000;
    // Programs that run at the same time start their search at different ports.
    let offset = u16::try_from(std::process::id() % u32::from(BELOW - FROM)).unwrap();
    let is_free =
        |first: &u16| (*first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let (below, above) = (FROM..FROM + offset, FROM + offset..BELOW);
    above.chain(below).step_by(usize::from(count)).find(is_free).expect("no free range of ports")
}
