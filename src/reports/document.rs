//! The report on a workload, as an object of the API. It follows from what was found alone, so that nothing is written when nothing has
//! changed. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kube::core::ApiResource;
use serde_json::{Map, Value, json};

use super::options::ReportOptions;
use crate::capability::Entry;
use crate::cluster::Cluster;
use crate::policy::{Annotations, EnforcementAction, MendedBy, Violation};
use crate::scan::ExplainOutcome;
use crate::scan::model::{FoundViolation, Owner, ScannedProgram, Workload, word};
use crate::text;

/// The source of every result, and the policy of those that come from no bundle.
pub const SOURCE: &str = "wasmgate";

/// The label by which the gate finds its reports, with its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "wasmgate");

/// Policy of the results about what a program can do.
const CAPABILITIES: &str = "capabilities";

/// Policy of the results about what was learned of an image.
const SIZING: &str = "sizing";

/// Category of results whose rule names none.
const CATEGORY: &str = "WebAssembly";

/// Category of the results about what a program can do.
const CAPABILITY_CATEGORY: &str = "WebAssembly capabilities";

/// What a report says whose workload may have more pods.
const READ_IN_PART: &str = "not everything in its namespace could be read, so there may be more to say of it; the report of the cluster says why";

/// The property by which Policy Reporter tells results apart (`kyverno/policy-reporter:pkg/crd/api/policyreport/v1alpha2/common.go`, `ResultIDKey`).
pub const RESULT_ID: &str = "resultID";

/// Most bytes of a message and of a remedy.
const TEXT_BYTES: usize = 1024;

/// Most bytes of every other text.
const WORD_BYTES: usize = 256;

/// Most bytes of all results of a report. etcd takes 1.5 MiB in a request, and the API server adds the managed fields.
const REPORT_BYTES: usize = 512 << 10;

/// Longest readable part of a name; names have at most 253 bytes (`kubernetes:staging/src/k8s.io/apimachinery/pkg/util/validation`).
const NAME_BYTES: usize = 200;

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// The object, without timestamps.
    pub object: Value,
}

/// What a result says of its rule (`openreports/reports-api:apis/openreports.io/v1alpha1/report_types.go`, `Result`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is met.
    Pass,
    /// It is not met, and the gate would refuse that.
    Fail,
    /// It is not met, and the gate would not refuse that.
    Warn,
    /// It is not known whether it is met.
    Error,
    /// It does not apply.
    Skip,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Pass, Self::Fail, Self::Warn, Self::Error, Self::Skip];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Skip => "skip",
        }
    }

    /// The severity of a result whose rule says none.
    const fn severity(self) -> &'static str {
        match self {
            Self::Fail => "high",
            Self::Warn | Self::Error => "medium",
            Self::Pass | Self::Skip => "info",
        }
    }
}

/// A result.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How it came out.
    pub outcome: Outcome,
    /// The rest of its fields.
    pub fields: Map<String, Value>,
}

impl Finding {
    /// A result of this rule. The policy is the bundle that has it.
    pub fn new(outcome: Outcome, policy: &str, rule: &str, message: &str) -> Self {
        let mut fields = Map::new();
        for (key, said) in [("source", SOURCE), ("policy", policy), ("rule", rule), ("category", CATEGORY)] {
            fields.insert(key.into(), shown(said, WORD_BYTES).into());
        }
        fields.insert("result".into(), outcome.as_str().into());
        fields.insert("severity".into(), outcome.severity().into());
        fields.insert("scored".into(), (outcome == Outcome::Fail).into());
        fields.insert("message".into(), shown(message, TEXT_BYTES).into());
        Self { outcome, fields }
    }

    /// This finding with these properties; those without a value are left out.
    pub fn with(mut self, properties: &[(&str, Option<&str>)]) -> Self {
        let said = properties.iter().filter_map(|(key, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            let most = if *key == "remedy" { TEXT_BYTES } else { WORD_BYTES };
            Some(((*key).to_owned(), Value::from(shown(value, most))))
        });
        let said: Map<String, Value> = said.collect();
        if !said.is_empty() {
            self.fields.insert("properties".into(), said.into());
        }
        self
    }
}

/// A text of others on one line, harmless, and no longer than this.
fn shown(said: &str, most: usize) -> String {
    text::shorten_bytes(&text::line(said), most).into_owned()
}

// === the report on a workload ===

/// The report on a workload; `is_whole` says whether all of its pods were read. `None` for one that has no uid, and thus could not be
/// collected with it. What was learned of its images is that of the cluster now, on which no verdict depends.
pub fn report(
    workload: &Workload,
    is_whole: bool,
    (options, cluster): (&ReportOptions, &Cluster),
) -> Option<Document> {
    let owner = workload.owner.as_ref()?;
    let name = name(workload, owner);
    let Workload { namespace, group, kind, name: workload_name, .. } = workload;
    let Owner { version, uid } = owner;
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    let owned_by = json!({"apiVersion": api_version, "kind": kind, "name": workload_name, "uid": uid});
    let mut scope = owned_by.clone();
    set(&mut scope, "namespace", namespace.as_str());
    let labels = json!({MANAGED_BY.0: MANAGED_BY.1});
    let metadata =
        json!({"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owned_by]});
    let mut findings = findings(workload, is_whole);
    findings.extend(learned(workload, cluster));
    let mut object = body(uid, &findings, options.format.has_source(), options.max_results);
    set(&mut object, "metadata", metadata);
    set(&mut object, "scope", scope);
    set_kind(&mut object, &options.format.report());
    Some(Document { name, object })
}

/// Sets a member of an object.
pub fn set(object: &mut Value, member: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(member.to_owned(), value.into());
    }
}

/// Says of an object what it is.
pub fn set_kind(object: &mut Value, resource: &ApiResource) {
    set(object, "apiVersion", resource.api_version.as_str());
    set(object, "kind", resource.kind.as_str());
}

/// The part of a report that these results make up; `about` is what no other report is about. Of more than `most`, or of more than a report
/// can hold, the last are counted.
pub fn body(about: &str, findings: &[Finding], has_source: bool, most: usize) -> Value {
    let count = |outcome: Outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let summary: Map<String, Value> =
        Outcome::ALL.iter().map(|outcome| (outcome.as_str().to_owned(), count(*outcome).into())).collect();
    let (mut results, mut bytes, mut seen) = (Vec::new(), 0, HashMap::new());
    for finding in findings.iter().take(most) {
        let result = identified(about, finding, &mut seen);
        bytes += result.to_string().len();
        if bytes > REPORT_BYTES {
            break;
        }
        results.push(result);
    }
    let left = findings.len() - results.len();
    if left > 0 {
        let said = format!("... and {left} more; `wasmgate scan` lists all");
        results.push(identified(about, &Finding::new(Outcome::Skip, SOURCE, "more", &said), &mut seen));
    }
    let mut object = json!({"summary": summary, "results": results});
    if has_source {
        set(&mut object, "source", SOURCE);
    }
    object
}

/// A result with an identity of its own. Policy Reporter makes one of policy, rule, result, category, message and what the report is about
/// (`kyverno/policy-reporter:pkg/report/result/id_generator.go`), and keeps one of those that have the same: a rule whose message does not name
/// the container would be there once for all of them. Where pods run (`appliesTo`) and what mends it make no other result of it.
fn identified(about: &str, finding: &Finding, seen: &mut HashMap<u64, usize>) -> Value {
    let mut fields = finding.fields.clone();
    let of = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    let container = fields.get("properties").and_then(|said| said.get("container")).and_then(Value::as_str);
    let said = [of("policy"), of("rule"), of("result"), of("category"), of("message")];
    let kind = text::short_digest(&format!("{:?}", (about, said, container)));
    let before = seen.entry(kind).or_default();
    let id = if *before == 0 { kind } else { text::short_digest(&format!("{kind:016x} {before}")) };
    *before += 1;
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    set(properties, RESULT_ID, format!("{id:016x}"));
    fields.into()
}

/// A name that says what the report is about, and that no other workload has.
fn name(workload: &Workload, owner: &Owner) -> String {
    let identity = format!("{:?}", (&workload.group, &workload.kind, &workload.name, &owner.uid));
    let short = text::short_digest(&identity);
    let readable = format!("{}-{}", workload.kind, workload.name).to_ascii_lowercase();
    let known = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let readable: String = readable.chars().map(known).take(NAME_BYTES).collect();
    format!("{SOURCE}-{readable}-{short:016x}")
}

/// What was found: what is wrong first, then what is not known, then what the programs can do.
fn findings(workload: &Workload, is_whole: bool) -> Vec<Finding> {
    let found = workload.findings();
    let broken = found.iter().map(violation);
    let outcome = word(workload.outcome);
    let open = workload.reasons();
    let open = open.iter().map(|reason| {
        Finding::new(Outcome::Error, SOURCE, "not-judged", reason).with(&[("outcome", Some(outcome))])
    });
    let mut findings: Vec<Finding> = broken.chain(open).collect();
    if !is_whole {
        findings.push(Finding::new(Outcome::Error, SOURCE, "scan", READ_IN_PART));
    }
    let left = workload.left();
    if left > 0 {
        let said = format!(
            "{left} more containers, capabilities and findings are not listed; `wasmgate scan` and `wasmgate explain` say more"
        );
        findings.push(Finding::new(Outcome::Skip, SOURCE, "more", &said));
    }
    let fails = findings.iter().any(|finding| finding.outcome == Outcome::Fail);
    if workload.outcome == ExplainOutcome::Denied && !fails {
        let said =
            "the gate would refuse it, and what it found is too long to list; `wasmgate explain` says it";
        findings.push(Finding::new(Outcome::Fail, SOURCE, "admission", said));
    }
    if findings.is_empty() && workload.outcome == ExplainOutcome::Admitted {
        let said = "the gate would admit it, and no rule has anything to say of it";
        findings.push(Finding::new(Outcome::Pass, SOURCE, "admission", said));
    }
    findings.extend(capabilities(workload, &found));
    findings
}

fn violation(found: &FoundViolation<'_>) -> Finding {
    let judged = found.judged;
    let Violation { rule, message, container, capability, mended_by, remedy, annotations, bundle, .. } =
        &judged.violation;
    let outcome = match (judged.action, &judged.exempted) {
        (_, Some(_)) => Outcome::Skip,
        (EnforcementAction::Deny, None) => Outcome::Fail,
        (EnforcementAction::Warn | EnforcementAction::Audit, None) => Outcome::Warn,
    };
    let applies_to = match (found.template, found.pods) {
        (true, 0) => "template",
        (true, _) => "template, pods",
        (false, _) => "pods",
    };
    let exempted = judged.exempted.as_ref();
    let until = exempted.map(|exempted| exempted.expires_at.to_string());
    let mut finding = Finding::new(outcome, bundle.as_deref().unwrap_or(SOURCE), rule, message).with(&[
        ("container", container.as_deref()),
        ("capability", capability.as_deref()),
        ("remedy", remedy.as_deref()),
        ("mendedBy", mended_by.map(mended_by_word)),
        ("action", Some(judged.action.as_str())),
        ("shadowAction", judged.shadow.map(EnforcementAction::as_str)),
        ("exception", exempted.map(|exempted| exempted.exception.as_str())),
        ("exceptionReason", exempted.map(|exempted| exempted.reason.as_str())),
        ("exceptionExpiresAt", until.as_deref()),
        ("appliesTo", Some(applies_to)),
    ]);
    finding.fields.insert("severity".into(), severity_by(judged.action).into());
    if let Some(Annotations { category, severity, .. }) = annotations.as_deref() {
        let severity = severity.as_deref().and_then(severity_of);
        finding.fields.extend(severity.map(|severity| ("severity".into(), severity.into())));
        let category = category.as_deref().filter(|category| !category.is_empty());
        finding.fields.extend(category.map(|said| ("category".into(), shown(said, WORD_BYTES).into())));
    }
    finding
}

/// The severity of a rule that says none, by what is done about it.
const fn severity_by(action: EnforcementAction) -> &'static str {
    match action {
        EnforcementAction::Deny => "high",
        EnforcementAction::Warn => "medium",
        EnforcementAction::Audit => "low",
    }
}

/// The severities that the API takes; a rule may say another one.
fn severity_of(written: &str) -> Option<&'static str> {
    ["critical", "high", "medium", "low", "info"]
        .into_iter()
        .find(|known| written.eq_ignore_ascii_case(known))
}

const fn mended_by_word(mended_by: MendedBy) -> &'static str {
    match mended_by {
        MendedBy::Grant => "grant",
        MendedBy::AmbientGrant => "ambient-grant",
        MendedBy::Image => "image",
        MendedBy::Runtime => "runtime",
        MendedBy::Pod => "pod",
        MendedBy::Platform => "platform",
    }
}

/// What the programs can do that not every program can: each once, and by which grants. What a violation says is not said again.
fn capabilities(workload: &Workload, found: &[FoundViolation<'_>]) -> Vec<Finding> {
    let named = found.iter().filter_map(|finding| {
        let Violation { container, capability, .. } = &finding.judged.violation;
        Some((container.as_deref()?, capability.as_deref()?))
    });
    let named: HashSet<(&str, &str)> = named.collect();
    let said = |program: &ScannedProgram, entry: &Entry| {
        named.contains(&(program.name.as_str(), entry.capability.as_str()))
    };
    let mut once = BTreeSet::new();
    let mut findings = Vec::new();
    for program in workload.judged.iter().flat_map(|judged| &judged.spec.containers) {
        for entry in &program.effective {
            let is_plain = entry.own || entry.covered_by.iter().any(|grant| grant == "default");
            let is_open = entry.covered_by.is_empty();
            if is_plain || is_open && said(program, entry) {
                continue;
            }
            let grants = entry.covered_by.join(", ");
            if once.insert((&program.name, entry.label(), grants.clone())) {
                findings.push(capability(program, entry, &grants));
            }
        }
    }
    findings.sort_by_cached_key(|finding| Value::from(finding.fields.clone()).to_string());
    findings
}

/// The requests that new pods of the workload get because they were learned.
fn learned(workload: &Workload, cluster: &Cluster) -> Vec<Finding> {
    let Workload { namespace, kind, name, judged, .. } = workload;
    if cluster.autoscaled.has(namespace, kind, name) {
        return Vec::new();
    }
    let mut findings = BTreeMap::new();
    for program in judged.iter().flat_map(|judged| &judged.spec.containers) {
        let Some(digest) = program.digest.as_deref().and_then(|digest| digest.parse().ok()) else { continue };
        for (runtime, size) in cluster.learned.under_each(&digest) {
            let (memory, cpu) = (size.memory.memory(), size.cpu.cpu());
            let said = format!(
                "container `{}`: where it names no requests, a new pod gets {memory} of memory and {cpu} of CPU under `{runtime}`, within \
                 what its profile and namespace allow; learned from what the image has used",
                program.name
            );
            let mut finding = Finding::new(Outcome::Pass, SIZING, "learned-size", &said).with(&[
                ("container", Some(program.name.as_str())),
                ("runtime", Some(runtime)),
                ("memory", Some(memory.as_str())),
                ("cpu", Some(cpu.as_str())),
                ("image", Some(program.image.as_str())),
            ]);
            finding.fields.insert("severity".into(), "info".into());
            findings.entry((program.name.as_str(), runtime)).or_insert(finding);
        }
    }
    findings.into_values().collect()
}

fn capability(program: &ScannedProgram, entry: &Entry, grants: &str) -> Finding {
    let name = entry.capability.as_str();
    let (outcome, granted) = if grants.is_empty() {
        (Outcome::Warn, "no grant covers that, and no rule that is in force refuses it".to_owned())
    } else {
        (Outcome::Pass, format!("{grants} allows it"))
    };
    let said = format!("container `{}` can use `{}`; {granted}", program.name, entry.label());
    let parameters = entry.parameters();
    let mut finding = Finding::new(outcome, CAPABILITIES, name, &said).with(&[
        ("container", Some(program.name.as_str())),
        ("capability", Some(name)),
        ("parameters", Some(parameters.as_str())),
        ("grants", Some(grants)),
        ("secret", entry.secret.then_some("true")),
        ("image", Some(program.image.as_str())),
    ]);
    finding.fields.insert("severity".into(), "info".into());
    finding.fields.insert("category".into(), CAPABILITY_CATEGORY.into());
    finding
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use sha2::{Digest as _, Sha256};

    use crate::capability::Capability;
    use crate::inspection::ProgramClass;
    use crate::judge::JudgedViolation;
    use crate::judge::verdict::Exemption;
    use crate::scan::model::{Judged, JudgedSpec, ManifestPlace, What};
    use crate::workload::Role;

    fn violation(action: EnforcementAction, message: &str) -> JudgedViolation {
        let annotations = Annotations {
            category: Some("Isolation".into()),
            severity: Some("High".into()),
            ..Annotations::default()
        };
        let violation = Violation {
            rule: "needs-grant".into(),
            message: message.into(),
            container: Some("api".into()),
            capability: Some("fs".into()),
            remedy: Some("grant it".into()),
            mended_by: Some(MendedBy::Grant),
            annotations: Some(Arc::new(annotations)),
            bundle: Some("baseline".into()),
            ..Violation::default()
        };
        JudgedViolation { action, exempted: None, shadow: None, violation }
    }

    fn workload(
        outcome: ExplainOutcome,
        violations: Vec<JudgedViolation>,
        effective: Vec<Entry>,
    ) -> Workload {
        let program = ScannedProgram {
            name: "api".into(),
            role: Role::Container,
            image: "a:1".into(),
            class: ProgramClass::Wasm,
            kind: None,
            digest: None,
            reason: None,
            effective,
        };
        let spec = JudgedSpec {
            outcome,
            reason: None,
            containers: vec![program],
            violations,
            suggested_grant: None,
            warnings: Vec::new(),
            left: 0,
        };
        let judged = Judged {
            what: What::Template,
            pods: 0,
            example: "orders".into(),
            place: ManifestPlace::default(),
            spec: Arc::new(spec),
        };
        Workload {
            namespace: "shop".into(),
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "orders".into(),
            owner: Some(Owner { version: "v1".into(), uid: "u-1".into() }),
            outcome,
            pods: 0,
            judged: vec![judged],
        }
    }

    fn object(workload: &Workload) -> Value {
        report(workload, true, (&ReportOptions::default(), &Cluster::default())).unwrap().object
    }

    /// A cluster in which this was learned of the image under the profile `wasmtime`, as a folder has it.
    fn learned(digest: &str) -> Cluster {
        let size = json!({"memory": "12Mi", "cpu": "15m"});
        let key = format!("{digest}\nwasmtime");
        let name: String = format!("{:x}", Sha256::digest(key)).chars().take(40).collect();
        let histogram = json!({"total": 0});
        let usage = json!({"apiVersion": "wasmgate.dev/v1alpha1", "kind": "WasmUsage", "metadata": {"name": format!("usage-{name}")},
            "spec": {"digest": digest, "runtime": "wasmtime"}, "status": {"requests": size, "observedSeconds": 1,
            "lastSeen": "2026-06-01T00:00:00Z", "memory": histogram, "cpu": histogram}});
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("usage.json"), usage.to_string()).unwrap();
        crate::cluster::load_dir(folder.path()).unwrap()
    }

    #[test]
    fn learned_requests_are_said_unless_another_controller_sizes_the_workload() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let mut workload = workload(ExplainOutcome::Admitted, Vec::new(), Vec::new());
        let judged = &mut workload.judged[0];
        Arc::get_mut(&mut judged.spec).unwrap().containers[0].digest = Some(digest.clone());
        let mut cluster = learned(&digest);
        let said = |cluster: &Cluster| {
            let object = report(&workload, true, (&ReportOptions::default(), cluster)).unwrap().object;
            let results = object["results"].as_array().unwrap().clone();
            results.into_iter().filter(|result| result["policy"] == "sizing").collect::<Vec<_>>()
        };
        let found = said(&cluster);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (&one["result"], &one["rule"], &one["severity"]),
            (&json!("pass"), &json!("learned-size"), &json!("info"))
        );
        let properties = json!({"container": "api", "runtime": "wasmtime", "memory": "12Mi", "cpu": "15m", "image": "a:1",
            RESULT_ID: &one["properties"][RESULT_ID]});
        assert_eq!(one["properties"], properties);
        assert!(said(&Cluster::default()).is_empty());
        let mut autoscaled = crate::cluster::Autoscaled::default();
        let target = crate::cluster::Target { kind: "Deployment".into(), name: "orders".into() };
        autoscaled.insert("shop", target);
        cluster.autoscaled = Arc::new(autoscaled);
        assert!(said(&cluster).is_empty());
    }

    #[test]
    fn a_report_belongs_to_its_workload_and_says_what_is_wrong_and_what_mends_it() {
        let denied = workload(
            ExplainOutcome::Denied,
            vec![violation(EnforcementAction::Deny, "no grant\nfor /data")],
            Vec::new(),
        );
        let object = object(&denied);
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": "u-1"});
        assert_eq!(object["metadata"]["ownerReferences"], json!([owner]));
        assert_eq!((&object["scope"]["namespace"], &object["source"]), (&json!("shop"), &json!("wasmgate")));
        assert_eq!(object["summary"], json!({"pass": 0, "fail": 1, "warn": 0, "error": 0, "skip": 0}));
        let result = &object["results"][0];
        for (field, expected) in [
            ("policy", "baseline"),
            ("rule", "needs-grant"),
            ("category", "Isolation"),
            ("severity", "high"),
            ("result", "fail"),
        ] {
            assert_eq!(result[field], expected, "{object}");
        }
        assert_eq!(result["scored"], true);
        assert!(!result["message"].as_str().unwrap().contains('\n'), "{result}");
        assert_eq!(
            result["properties"],
            json!({"container": "api", "capability": "fs", "remedy": "grant it", "mendedBy": "grant",
                "action": "deny", "appliesTo": "template", RESULT_ID: &result["properties"][RESULT_ID]})
        );
        let plain =
            ReportOptions { format: super::super::ReportFormat::WgPolicy, ..ReportOptions::default() };
        let former = report(&denied, true, (&plain, &Cluster::default())).unwrap().object;
        assert_eq!((&former["apiVersion"], former.get("source")), (&json!("wgpolicyk8s.io/v1alpha2"), None));
    }

    /// Policy Reporter keeps one of those that have the same.
    #[test]
    fn every_result_has_an_identity_of_its_own_which_stays() {
        let of = |container: Option<&str>, remedy: &str| {
            let mut one = violation(EnforcementAction::Deny, "no owner");
            one.violation.container = container.map(String::from);
            one.violation.remedy = Some(remedy.into());
            one
        };
        let all = vec![
            of(Some("a"), "ask"),
            of(Some("b"), "ask"),
            of(None, "ask"),
            of(None, "wait"),
            of(None, "go"),
        ];
        let mut denied = workload(ExplainOutcome::Denied, all, Vec::new());
        let ids = |workload: &Workload| {
            let object = object(workload);
            let results = object["results"].as_array().unwrap().clone();
            results
                .iter()
                .map(|one| one["properties"][RESULT_ID].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let first = ids(&denied);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 5, "{first:?}");
        assert!(first.iter().all(|id| id.len() == 16), "{first:?}");
        denied.judged[0].what = What::Pods;
        denied.judged[0].pods = 3;
        assert_eq!(ids(&denied), first, "pods of the template came, and nothing else is wrong");
        denied.owner.as_mut().unwrap().uid = "u-2".into();
        assert!(ids(&denied).iter().all(|id| !first.contains(id)), "another workload of this name");
        let admitted = workload(ExplainOutcome::Admitted, Vec::new(), Vec::new());
        assert_eq!(ids(&admitted).len(), 1, "also of a result without other properties");
    }

    #[test]
    fn what_the_gate_says_itself_has_a_severity_too() {
        let admitted = workload(ExplainOutcome::Admitted, Vec::new(), Vec::new());
        assert_eq!(object(&admitted)["results"][0]["severity"], "info");
        let in_part =
            report(&admitted, false, (&ReportOptions::default(), &Cluster::default())).unwrap().object;
        assert_eq!(in_part["results"][0]["severity"], "medium");
    }

    #[test]
    fn only_what_would_be_refused_fails() {
        let exempted = Exemption {
            exception: "shop/legacy".into(),
            reason: "TICKET-1".into(),
            expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let exempted =
            JudgedViolation { exempted: Some(exempted), ..violation(EnforcementAction::Audit, "exempted") };
        let shadow = JudgedViolation {
            shadow: Some(EnforcementAction::Deny),
            ..violation(EnforcementAction::Audit, "shadow")
        };
        let all = vec![
            violation(EnforcementAction::Deny, "a"),
            violation(EnforcementAction::Warn, "b"),
            violation(EnforcementAction::Audit, "c"),
            exempted,
            shadow,
        ];
        let object = object(&workload(ExplainOutcome::Denied, all, Vec::new()));
        assert_eq!(object["summary"], json!({"pass": 0, "fail": 1, "warn": 3, "error": 0, "skip": 1}));
        let with = |property: &str| {
            let results = object["results"].as_array().unwrap().iter();
            results.filter_map(|result| result["properties"][property].as_str()).collect::<Vec<_>>()
        };
        assert_eq!(with("exception"), ["shop/legacy"]);
        assert_eq!(with("shadowAction"), ["deny"]);
    }

    #[test]
    fn what_a_program_can_do_is_said_with_its_grants_unless_every_program_can() {
        let entry = |capability, grants: &[&str]| Entry {
            covered_by: grants.iter().map(|grant| (*grant).to_owned()).collect(),
            ..Entry::new(capability, "import")
        };
        let effective = vec![
            entry(Capability::Clock, &["default"]),
            entry(Capability::NetTcpConnect, &["WasiGrant/net", "ClusterWasiGrant/all"]),
            entry(Capability::Env, &[]),
            entry(Capability::Fs, &[]),
        ];
        let one = violation(EnforcementAction::Deny, "no grant for fs");
        let object = object(&workload(ExplainOutcome::Denied, vec![one], effective));
        let results = object["results"].as_array().unwrap();
        let said: Vec<_> = results
            .iter()
            .map(|result| (result["rule"].as_str().unwrap(), result["result"].as_str().unwrap()))
            .collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(said[0], ("needs-grant", "fail"));
        assert!(said.contains(&("net.tcp.connect", "pass")) && said.contains(&("env", "warn")), "{said:?}");
        let net = results.iter().find(|result| result["rule"] == "net.tcp.connect").unwrap();
        assert_eq!(net["properties"]["grants"], "WasiGrant/net, ClusterWasiGrant/all");
        assert_eq!((&net["policy"], &net["severity"]), (&json!("capabilities"), &json!("info")));
    }

    #[test]
    fn a_workload_without_findings_passes_and_one_without_a_uid_gets_no_report() {
        let mut admitted = workload(ExplainOutcome::Admitted, Vec::new(), Vec::new());
        assert_eq!(object(&admitted)["results"][0]["result"], "pass");
        admitted.owner = None;
        assert_eq!(report(&admitted, true, (&ReportOptions::default(), &Cluster::default())), None);
    }

    #[test]
    fn what_is_too_much_is_counted_and_no_text_or_report_is_larger_than_it_may_be() {
        let long = "\u{1F980}".repeat(5_000);
        let many: Vec<_> =
            (0..1_000).map(|n| violation(EnforcementAction::Deny, &format!("{n} {long}"))).collect();
        let flood = workload(ExplainOutcome::Denied, many, Vec::new());
        let few = object(&flood);
        assert_eq!(few["results"].as_array().unwrap().len(), 201);
        assert_eq!(few["results"][200]["message"], "... and 800 more; `wasmgate scan` lists all");
        assert_eq!(few["summary"]["fail"], 1_000);
        let all = ReportOptions { max_results: 1_000, ..ReportOptions::default() };
        let all = report(&flood, true, (&all, &Cluster::default())).unwrap().object;
        assert!(all.to_string().len() < REPORT_BYTES + 8_192, "{}", all.to_string().len());
        assert!(all["results"].as_array().unwrap().len() < 1_000);
    }

    #[test]
    fn how_much_was_left_out_of_what_was_found_is_said() {
        let mut denied =
            workload(ExplainOutcome::Denied, vec![violation(EnforcementAction::Deny, "a")], Vec::new());
        let spec = JudgedSpec { left: 40, ..JudgedSpec::clone(&denied.judged[0].spec) };
        denied.judged = vec![Judged { spec: Arc::new(spec), ..denied.judged[0].clone() }; 2];
        let object = object(&denied);
        assert_eq!((&object["summary"]["fail"], &object["summary"]["skip"]), (&json!(1), &json!(1)));
        let said = object["results"][1]["message"].as_str().unwrap();
        assert!(said.starts_with("80 more containers, capabilities and findings are not listed"), "{said}");
    }

    #[test]
    fn what_was_read_in_part_does_not_pass() {
        let admitted = workload(ExplainOutcome::Admitted, Vec::new(), Vec::new());
        let object =
            report(&admitted, false, (&ReportOptions::default(), &Cluster::default())).unwrap().object;
        assert_eq!(object["summary"], json!({"pass": 0, "fail": 0, "warn": 0, "error": 1, "skip": 0}));
        assert_eq!(object["results"][0]["rule"], "scan");
    }

    #[test]
    fn names_are_those_of_objects_and_differ_for_each_owner() {
        let mut other = workload(ExplainOutcome::Admitted, Vec::new(), Vec::new());
        let name = |workload: &Workload| {
            report(workload, true, (&ReportOptions::default(), &Cluster::default())).unwrap().name
        };
        let first = name(&other);
        assert!(first.starts_with("wasmgate-deployment-orders-"), "{first}");
        other.owner.as_mut().unwrap().uid = "u-2".into();
        assert_ne!(name(&other), first);
        other.name = format!("Ünicode.{}", "x".repeat(300));
        let long = name(&other);
        let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(long.len() <= 253 && long.chars().all(is_known), "{long}");
    }
}
