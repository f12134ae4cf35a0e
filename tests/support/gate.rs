//! The gate and its server in one process: a gate with image layouts, the server in front of it, and a model of what
//! the API server does before, between and after the two webhooks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use wasmgate::admission::Gate;
use wasmgate::audit::{self, DecisionLogOutput, Labels, Metrics, Outbox, Sink};
use wasmgate::cli::{build, serve::Served};
use wasmgate::config::{self, Overrides, Settings};
use wasmgate::review::Webhook;
use wasmgate::server::{self, Server, Signals, Trigger};
use wasmgate::workload::Kind;

use super::images;
use super::policies;
use super::tls::{Answer, Client, Http, Session, post};

const BUDGET: Duration = Duration::from_secs(20);

// === the gate ===

/// What a gate is built from, besides the images and the embedded baseline.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Body of the configuration file, without `apiVersion` and `kind`.
    pub configuration: String,
    /// WasiGrant and ClusterWasiGrant documents.
    pub grants: Vec<Value>,
    /// RuntimeClass, LimitRange and Namespace documents.
    pub cluster: Vec<Value>,
}

/// A gate in this process. Its files live as long as the value.
pub struct Flow {
    pub gate: Arc<Gate>,
    pub folder: TempDir,
    settings: Settings,
}

impl Flow {
    pub async fn new(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(setup, &folder);
        let metrics = Arc::new(Metrics::new());
        let output = DecisionLogOutput::File(folder.path().join("decisions.log"));
        let sink = Sink::open(
            &audit::DecisionLogOptions { output, ..audit::DecisionLogOptions::default() },
            metrics.drops(),
        )
        .unwrap();
        let state = policies::state(&settings).await;
        let inspector = build::inspector(&settings).unwrap();
        let gate = Arc::new(Gate::new(state, inspector, sink, metrics, Labels::new("test", &[].into())));
        Self { gate, folder, settings }
    }

    /// A gate with the same settings and policies that remembers no image.
    pub fn with_new_memory(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let off = audit::DecisionLogOptions {
            output: DecisionLogOutput::Off,
            ..audit::DecisionLogOptions::default()
        };
        let sink = Sink::open(&off, metrics.drops()).unwrap();
        let inspector = build::inspector(&self.settings).unwrap();
        let state = (*self.gate.state()).clone();
        let gate = Arc::new(Gate::new(state, inspector, sink, metrics, Labels::new("test", &[].into())));
        Self { gate, folder, settings: self.settings.clone() }
    }

    /// A gate with the same settings and policies that writes Events and counts for itself, and no log.
    pub fn with_events(&self, events: Outbox, metrics: Arc<Metrics>) -> Gate {
        let output = DecisionLogOutput::Off;
        let off = audit::DecisionLogOptions { output, ..audit::DecisionLogOptions::default() };
        let sink = Sink::open(&off, metrics.drops()).unwrap();
        let (state, inspector) = ((*self.gate.state()).clone(), build::inspector(&self.settings).unwrap());
        Gate::new(state, inspector, sink, metrics, Labels::new("test", &[].into())).with_events(Some(events))
    }

    /// Sends a review through the gate in this process; returns `response`.
    pub async fn send(&self, webhook: Webhook, request: &Request) -> Value {
        self.send_within(BUDGET, webhook, request).await
    }

    pub async fn send_within(&self, budget: Duration, webhook: Webhook, request: &Request) -> Value {
        let bytes = self.gate.review(webhook, request.to_body().as_bytes(), budget).await;
        serde_json::from_slice::<Value>(&bytes).unwrap()["response"].take()
    }

    /// Sends a new pod through the mutating and then the validating webhook. Returns the resulting pod and both
    /// responses.
    pub async fn admit(&self, namespace: &str, pod: &Value) -> (Value, Value, Value) {
        let sent = plug_ins(&defaulted(pod, namespace, ""), namespace, &[]);
        let mut request = Request::create(namespace, sent);
        let mutate = self.send(Webhook::Mutate, &request).await;
        request.object = plug_ins(&patched(&request.object, &mutate), namespace, &[]);
        let validate = self.send(Webhook::Validate, &request).await;
        (request.object, mutate, validate)
    }

    /// All records so far. Closes the log.
    pub fn records(&self) -> Vec<Value> {
        self.gate.sink().close(Duration::from_secs(5)).unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("decisions.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts the real server in front of it, on free loopback ports.
    pub async fn serve(&self) -> Serving {
        let certs = self.folder.path().join("certs");
        wasmgate::certs::load_or_make(&certs, &[]).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = server::ServerOptions {
            address: local,
            probes: local,
            budget: self.settings.review_timeout.max(BUDGET),
            pause: Duration::ZERO,
            ..server::ServerOptions::new(certs.join("tls.crt"), certs.join("tls.key"))
        };
        let server = Server::bind(options).await.unwrap();
        let (address, probes) = (server.address(), server.probes_address());
        let (trigger, signals) = Signals::manual();
        tokio::spawn(server.run(Arc::new(Served::new(Arc::clone(&self.gate))), signals));
        let client = Client::trusting(&[&certs.join("ca.crt")], Http::Two);
        let session = client.open(address).await.unwrap();
        Serving { session, client, address, probes, _trigger: trigger }
    }
}

fn settings(setup: &Setup, folder: &TempDir) -> Settings {
    let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
    let file = config::parse("gate.yaml", &format!("{head}{}", setup.configuration)).unwrap();
    let overrides = Overrides {
        grants: Some(documents(folder, "grants", &setup.grants)),
        cluster: Some(documents(folder, "cluster", &setup.cluster)),
        image_layouts: vec![format!("{}={}", images::HOST, images::folder().display())],
        ..Overrides::default()
    };
    config::resolve(file, overrides).unwrap()
}

/// A folder with one file per document.
fn documents(folder: &TempDir, name: &str, documents: &[Value]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir(&path).unwrap();
    for (number, document) in documents.iter().enumerate() {
        std::fs::write(path.join(format!("{number:03}.json")), document.to_string()).unwrap();
    }
    path
}

/// A running server, and a connection to it.
pub struct Serving {
    session: Session,
    client: Client,
    address: SocketAddr,
    /// Where probes and metrics are answered.
    pub probes: SocketAddr,
    _trigger: Trigger,
}

impl Serving {
    /// Posts a review to a webhook on a connection of its own.
    pub async fn post_alone(&self, webhook: Webhook, request: &Request) -> JoinHandle<Answer> {
        let mut session = self.client.open(self.address).await.unwrap();
        let request = post(&format!("/{}?timeout=30s", webhook.as_str()), request.to_body());
        tokio::spawn(async move { session.send(request).await.unwrap() })
    }

    /// Posts reviews at once on a connection of their own, each with this time; all answers.
    pub async fn post_together(&self, webhook: Webhook, timeout: &str, requests: &[Request]) -> Vec<Answer> {
        let Session::Two(sender) = self.client.open(self.address).await.unwrap() else {
            panic!("it speaks HTTP/2")
        };
        let path = format!("/{}?timeout={timeout}", webhook.as_str());
        let answers = requests.iter().map(|request| {
            let (mut session, request) = (Session::Two(sender.clone()), post(&path, request.to_body()));
            async move { session.send(request).await.unwrap() }
        });
        futures::future::join_all(answers).await
    }

    /// Posts a body to a webhook, as the API server does.
    pub async fn post(&mut self, webhook: Webhook, body: impl Into<bytes::Bytes>) -> Answer {
        let path = format!("/{}?timeout=10s", webhook.as_str());
        self.session.send(post(&path, body)).await.unwrap()
    }

    /// Posts a valid review; returns `response`.
    pub async fn review(&mut self, webhook: Webhook, request: &Request) -> Value {
        let answer = self.post(webhook, request.to_body()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut review = answer.json();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["response"]["uid"], request.uid.as_str());
        review["response"].take()
    }
}

// === a case's documents about the cluster ===

/// Whole grant documents: each is one already, or the `spec` of a WasiGrant in this namespace.
pub fn grant_documents(grants: &[Value], namespace: &str) -> Vec<Value> {
    let whole = |(number, grant): (usize, &Value)| {
        let mut document = match grant.get("kind") {
            Some(_) => grant.clone(),
            None => {
                json!({"kind": "WasiGrant", "metadata": {"name": format!("grant-{number}")}, "spec": grant})
            }
        };
        document["apiVersion"] = json!("wasmgate.dev/v1alpha1");
        if document["kind"] != "ClusterWasiGrant" {
            document["metadata"]["namespace"] = json!(namespace);
        }
        document
    };
    grants.iter().enumerate().map(whole).collect()
}

/// The documents with every LimitRange in this namespace.
pub fn with_limit_ranges_in(documents: &[Value], namespace: &str) -> Vec<Value> {
    let mut documents = documents.to_vec();
    for document in documents.iter_mut().filter(|d| d["kind"] == "LimitRange") {
        document["metadata"]["namespace"] = json!(namespace);
    }
    documents
}

// === the API server ===

/// A pod as a person writes it.
pub fn pod(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "labels": {"app": "orders"}}, "spec": spec})
}

/// A pod with one container `app` that is handed only what it gets by default.
pub fn plain_pod(image: &str) -> Value {
    let image = if image.contains('/') { image.to_string() } else { format!("{}/{image}:v1", images::HOST) };
    pod(&json!({"automountServiceAccountToken": false, "containers": [{"name": "app", "image": image}]}))
}

/// What a review asks about.
#[derive(Debug, Clone)]
pub struct Request {
    pub uid: String,
    pub operation: String,
    pub sub_resource: Option<String>,
    pub namespace: String,
    pub object: Value,
    pub old_object: Option<Value>,
}

impl Request {
    /// A new object.
    pub fn create(namespace: &str, object: Value) -> Self {
        Self {
            uid: format!("{:08x}-6393-11e8-b7cc-42010a800002", namespace.len()),
            operation: "CREATE".into(),
            sub_resource: None,
            namespace: namespace.into(),
            object,
            old_object: None,
        }
    }

    fn group_version(&self) -> (String, String) {
        let version = self.object["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        (group.into(), version.into())
    }

    /// The review in the API server's order of fields, which is that of the Go structs and not the alphabet.
    pub fn to_body(&self) -> String {
        let (group, version) = self.group_version();
        let kind = self.object["kind"].as_str().unwrap();
        let resource = format!("{}s", kind.to_lowercase());
        let sub = |key: &str| {
            self.sub_resource.as_ref().map_or(String::new(), |name| format!(r#""{key}":"{name}","#))
        };
        let gvk = json!({"group": group, "version": version, "kind": kind});
        let gvr = json!({"group": group, "version": version, "resource": resource});
        let name =
            self.object["metadata"]["name"].as_str().map_or(String::new(), |n| format!(r#""name":"{n}","#));
        let user = json!({"username": "jane", "uid": "", "groups": ["team-a", "system:authenticated"]});
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"{uid}","kind":{gvk},"resource":{gvr},{sub1}"requestKind":{gvk},"requestResource":{gvr},{sub2}{name}"namespace":"{namespace}","operation":"{operation}","userInfo":{user},"object":{object},"oldObject":{old},"dryRun":false,"options":{{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1","fieldManager":"kubectl-client-side-apply"}}}}}}"#,
            uid = self.uid,
            sub1 = sub("subResource"),
            sub2 = sub("requestSubResource"),
            namespace = self.namespace,
            operation = self.operation,
            object = ordered(&self.object),
            old = self.old_object.as_ref().map_or("null".into(), ordered),
        )
    }
}

/// An object with the fields of its first two levels in the order of the Go structs.
fn ordered(object: &Value) -> String {
    let fields = object.as_object().unwrap();
    let first = ["kind", "apiVersion", "metadata", "spec", "status"];
    let rest = fields.keys().map(String::as_str).filter(|key| !first.contains(key));
    let keys = first.into_iter().filter(|key| fields.contains_key(*key)).chain(rest);
    let parts: Vec<String> = keys.map(|key| format!("{}:{}", json!(key), fields[key])).collect();
    format!("{{{}}}", parts.join(","))
}

/// What the API server writes into every object before admission: identity, managed fields, and the defaults of a pod
/// spec (`kubernetes:pkg/apis/core/v1/defaults.go`). Applying it twice changes nothing.
pub fn defaulted(object: &Value, namespace: &str, template: &str) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    set_default(metadata, "namespace", json!(namespace));
    set_default(metadata, "uid", json!("1b0d7c3e-8d3c-4c57-9d0c-5f1f5d5ad2c9"));
    set_default(metadata, "creationTimestamp", json!("2026-05-04T10:00:00Z"));
    set_default(&mut object, "status", json!({}));
    if let Some(spec) = object.pointer_mut(&format!("{template}/spec")) {
        default_spec(spec);
        if template.is_empty() {
            set_default(spec, "enableServiceLinks", json!(true));
            default_requests(spec);
        }
    }
    let fields = managed_fields(&object);
    set_default(&mut object["metadata"], "managedFields", fields);
    object
}

/// What the API server lists before the plug-ins run: every field that came with the request, and its defaults; here
/// images, names and sizes of a pod's containers, and the names of its volumes.
fn managed_fields(object: &Value) -> Value {
    let mut fields = json!({"f:spec": {"f:containers": {}}});
    for list in ["containers", "initContainers"] {
        for container in object["spec"][list].as_array().into_iter().flatten() {
            let mut own = json!({".": {}, "f:image": {}, "f:name": {}});
            for side in ["requests", "limits"] {
                for resource in
                    container["resources"][side].as_object().into_iter().flat_map(|sizes| sizes.keys())
                {
                    own["f:resources"][format!("f:{side}")][format!("f:{resource}")] = json!({});
                }
            }
            fields["f:spec"][format!("f:{list}")][format!("k:{{\"name\":{}}}", container["name"])] = own;
        }
    }
    for volume in object["spec"]["volumes"].as_array().into_iter().flatten() {
        fields["f:spec"]["f:volumes"][format!("k:{{\"name\":{}}}", volume["name"])] =
            json!({".": {}, "f:name": {}});
    }
    json!([{"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1",
        "time": "2026-05-04T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}])
}

fn default_spec(spec: &mut Value) {
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        set_default(spec, key, value);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        items_mut(spec, list).for_each(default_container);
    }
    items_mut(spec, "volumes").for_each(default_volume);
}

/// The items of a list that may be absent.
fn items_mut<'a>(holder: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    holder.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn default_container(container: &mut Value) {
    set_default(container, "resources", json!({}));
    set_default(container, "terminationMessagePath", json!("/dev/termination-log"));
    set_default(container, "terminationMessagePolicy", json!("File"));
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = name.ends_with(":latest") || !name.contains([':', '@']);
    set_default(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
    for port in items_mut(container, "ports") {
        set_default(port, "protocol", json!("TCP"));
    }
    for variable in items_mut(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            set_default(field, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|probe| !probe.is_null()) else { continue };
        for (key, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            set_default(probe, key, json!(value));
        }
        if let Some(get) = probe.get_mut("httpGet") {
            set_default(get, "path", json!("/"));
            set_default(get, "scheme", json!("HTTP"));
        }
    }
}

fn default_volume(volume: &mut Value) {
    for (source, key, value) in [
        ("secret", "defaultMode", json!(420)),
        ("configMap", "defaultMode", json!(420)),
        ("downwardAPI", "defaultMode", json!(420)),
        ("projected", "defaultMode", json!(420)),
        ("hostPath", "type", json!("")),
        ("image", "pullPolicy", json!("IfNotPresent")),
    ] {
        if let Some(source) = volume.get_mut(source) {
            set_default(source, key, value);
        }
    }
    for source in volume.get_mut("projected").into_iter().flat_map(|p| items_mut(p, "sources")) {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            set_default(token, "expirationSeconds", json!(3600));
        }
    }
}

/// On a pod, but not in a template, a limit also serves as the missing request.
fn default_requests(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            let limits = container["resources"]["limits"].clone();
            for (resource, limit) in limits.as_object().into_iter().flatten() {
                set_default(&mut container["resources"]["requests"], resource, limit.clone());
            }
        }
    }
}

fn set_default(holder: &mut Value, key: &str, value: Value) {
    if holder[key].is_null() {
        holder[key] = value;
    }
}

/// The pod that the controllers create from the pod template of an object, as the webhooks receive it
/// (`kubernetes:pkg/controller/controller_utils.go` `GetPodFromTemplate`). A StatefulSet adds the volumes of its claims
/// (`kubernetes:pkg/controller/statefulset/stateful_set_utils.go` `updateStorage`), in place of those with the same name.
/// A DaemonSet also binds each pod to its node, by a term of affinity that is left out here.
pub fn created_pod(object: &Value, kind: Kind, namespace: &str, cluster: &[Value]) -> Value {
    let template = object.pointer(kind.template_pointer()).unwrap();
    let name = object["metadata"]["name"].as_str().unwrap_or("app");
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    let metadata = &mut pod["metadata"];
    metadata["generateName"] = json!(format!("{name}-"));
    metadata["labels"]["pod-template-hash"] = json!("6d4cf56db6");
    metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "4f5c",
        "controller": true, "blockOwnerDeletion": true}]);
    if let Some(claims) = object["spec"]["volumeClaimTemplates"].as_array() {
        let named = |claim: &Value| claim["metadata"]["name"].clone();
        let volume = |claim: &Value| {
            let claim_name = format!("{}-{name}-0", named(claim).as_str().unwrap());
            json!({"name": named(claim), "persistentVolumeClaim": {"claimName": claim_name}})
        };
        let own = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let kept = own.into_iter().filter(|own| !claims.iter().any(|claim| named(claim) == own["name"]));
        let volumes: Vec<Value> = claims.iter().map(volume).chain(kept).collect();
        pod["spec"]["volumes"] = json!(volumes);
    }
    plug_ins(&defaulted(&pod, namespace, ""), namespace, cluster)
}

/// What the API server's own mutating plug-ins do to a new pod, before the webhooks and again after one of them changed
/// it: LimitRanger, ServiceAccount, Priority, `DefaultTolerationSeconds`, RuntimeClass
/// (`kubernetes:plugin/pkg/admission`). `cluster` holds the documents of the gate's own snapshot.
pub fn plug_ins(pod: &Value, namespace: &str, cluster: &[Value]) -> Value {
    let mut pod = pod.clone();
    limit_ranger(&mut pod, namespace, cluster);
    // The mirror of a static pod gets neither an account nor a token.
    let mirror = !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null();
    tidy(&mut pod);
    let spec = &mut pod["spec"];
    if !mirror {
        service_account(spec);
    }
    set_default(spec, "priority", json!(0));
    set_default(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    default_tolerations(spec);
    let class = spec["runtimeClassName"].as_str().unwrap_or_default().to_string();
    for document in cluster.iter().filter(|d| d["kind"] == "RuntimeClass" && d["metadata"]["name"] == class) {
        runtime_class(spec, document);
    }
    tidy(&mut pod);
    pod
}

/// Removes the empty fields that reading them has created.
fn tidy(pod: &mut Value) {
    for pointer in ["", "/metadata", "/spec"] {
        // An object of another kind may have none of them.
        if let Some(fields) = pod.pointer_mut(pointer).and_then(Value::as_object_mut) {
            fields.retain(|_, value| !value.is_null());
        }
    }
}

/// `kubernetes:plugin/pkg/admission/runtimeclass`, where class and pod agree.
fn runtime_class(spec: &mut Value, document: &Value) {
    for (key, value) in document["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        spec["nodeSelector"][key] = value.clone();
    }
    for toleration in document["scheduling"]["tolerations"].as_array().into_iter().flatten() {
        append(spec, "tolerations", toleration.clone());
    }
    if !document["overhead"]["podFixed"].is_null() {
        spec["overhead"] = document["overhead"]["podFixed"].clone();
    }
}

/// `kubernetes:plugin/pkg/admission/defaulttolerationseconds`, unless the pod sets these itself.
fn default_tolerations(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let own = spec["tolerations"].as_array().into_iter().flatten().any(|toleration| {
            let is = |field: &str, wanted: &str| {
                toleration[field].as_str().is_none_or(|found| found.is_empty() || found == wanted)
            };
            is("key", key) && is("effect", "NoExecute")
        });
        if !own {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            append(spec, "tolerations", toleration);
        }
    }
}

fn append(spec: &mut Value, list: &str, item: Value) {
    set_default(spec, list, json!([]));
    let items = spec[list].as_array_mut().unwrap();
    if !items.contains(&item) {
        items.push(item);
    }
}

/// `kubernetes:plugin/pkg/admission/serviceaccount`: mounts the token into every container with no mount at that path.
fn service_account(spec: &mut Value) {
    set_default(spec, "serviceAccountName", json!("default"));
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    if spec["automountServiceAccountToken"] == json!(false) {
        return;
    }
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if !items_mut(container, "volumeMounts").any(|mount| mount["mountPath"] == path) {
                let mount = json!({"name": "kube-api-access-x7k2p", "readOnly": true, "mountPath": path});
                append(container, "volumeMounts", mount);
                mounted = true;
            }
        }
    }
    if mounted {
        let namespace =
            json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"});
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ]);
        let projected = json!({"defaultMode": 420, "sources": sources});
        append(spec, "volumes", json!({"name": "kube-api-access-x7k2p", "projected": projected}));
    }
}

/// What a LimitRange fills in for containers, as stored: a maximum is also the default, and a default or a minimum also
/// the default request (`kubernetes:pkg/apis/core/v1/defaults.go`, `SetDefaults_LimitRangeItem`).
fn defaults_of(range: &Value) -> Value {
    let mut defaults = json!({});
    for item in range["spec"]["limits"].as_array().into_iter().flatten() {
        let mut item = item.clone();
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            for (resource, value) in item[from].clone().as_object().into_iter().flatten() {
                set_default(&mut item[to], resource, value.clone());
            }
        }
        for field in ["default", "defaultRequest"].into_iter().filter(|_| item["type"] == "Container") {
            for (resource, value) in item[field].as_object().into_iter().flatten() {
                set_default(&mut defaults[field], resource, value.clone());
            }
        }
    }
    defaults
}

/// Fills in defaults and says so in the annotation. A second run, or another LimitRange of the namespace, overwrites
/// the annotation; the real plug-in takes several in no defined order.
fn limit_ranger(pod: &mut Value, namespace: &str, cluster: &[Value]) {
    let ranges =
        cluster.iter().filter(|d| d["kind"] == "LimitRange" && d["metadata"]["namespace"] == namespace);
    for defaults in ranges.map(defaults_of) {
        let mut clauses = Vec::new();
        for (list, noun) in [("containers", "container"), ("initContainers", "init container")] {
            for container in items_mut(&mut pod["spec"], list) {
                clauses.extend(fill_in(container, &defaults, noun));
            }
        }
        if !clauses.is_empty() {
            let text = format!("LimitRanger plugin set: {}", clauses.join("; "));
            pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] = json!(text);
        }
    }
}

fn fill_in(container: &mut Value, defaults: &Value, noun: &str) -> Vec<String> {
    let mut clauses = Vec::new();
    for (field, side, word) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
        let mut filled = Vec::new();
        for (resource, value) in defaults[field].as_object().into_iter().flatten() {
            if container["resources"][side][resource].is_null() {
                container["resources"][side][resource] = value.clone();
                filled.push(resource.as_str());
            }
        }
        if !filled.is_empty() {
            let name = container["name"].as_str().unwrap();
            clauses.push(format!("{} {word} for {noun} {name}", filled.join(", ")));
        }
    }
    clauses
}

// === answers ===

/// The patch of a response; `None` if there is none.
pub fn patch_of(response: &Value) -> Option<json_patch::Patch> {
    let text = response.get("patch")?.as_str().unwrap();
    assert_eq!(response["patchType"], "JSONPatch");
    let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
    assert!(!patch.0.is_empty(), "an empty patch must be left out");
    Some(patch)
}

/// The object with a response's patch applied.
pub fn patched(object: &Value, response: &Value) -> Value {
    let mut object = object.clone();
    if let Some(patch) = patch_of(response) {
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}
