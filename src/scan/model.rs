//! What a scan found, for every form of its output. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::facts::ExplainOutcome;
use super::owner::Reference;
use crate::capability::Entry;
use crate::image::ImageKind;
use crate::inspection::ProgramClass;
use crate::judge::JudgedViolation;
use crate::text;
use crate::workload::Role;

/// The result of a scan.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scan {
    /// How much there was, and how it ended.
    pub summary: Summary,
    /// The workloads, by namespace, kind and name.
    pub workloads: Vec<Workload>,
    /// What could not be judged, and why.
    pub not_judged: Vec<NotJudged>,
    /// Kind → objects of kinds without a pod template, which start nothing.
    pub other_kinds: BTreeMap<String, usize>,
    /// The grants, and how many of the workloads use each.
    pub grants: Vec<GrantUse>,
}

/// How much there was, and how it ended.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Workloads: pods by their top owner, templates, and pods without an owner.
    pub workloads: usize,
    /// Pods.
    pub pods: usize,
    /// Pod templates, apart from copies.
    pub templates: usize,
    /// Templates that a controller copied from an object that is judged itself, such as those of a `ReplicaSet`.
    pub copies: usize,
    /// How often the policies were asked: pods of one template count once.
    pub judged: usize,
    /// Outcome → workloads.
    pub outcomes: BTreeMap<&'static str, usize>,
}

/// A workload: a top owner with its template and pods, or a pod that no controller made.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// What an object that belongs to it names; `None` for what is no object of a cluster.
    #[serde(skip)]
    pub owner: Option<Owner>,
    /// The worst outcome of its template and pods.
    pub outcome: ExplainOutcome,
    /// How many pods it has.
    pub pods: usize,
    /// Its template and its pods, as far as they differ.
    pub judged: Vec<Judged>,
}

/// The object at the top of a workload, as its dependents name it in `ownerReferences`, beside its group, kind and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The version of its API.
    pub version: String,
    /// Its uid.
    pub uid: String,
}

/// A template, or pods that are judged together.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Which of the two.
    pub what: What,
    /// How many pods; 0 for a template.
    pub pods: usize,
    /// Name of one of the pods; that of the object for a template.
    pub example: String,
    /// Where it is written.
    #[serde(skip_serializing_if = "ManifestPlace::is_nowhere")]
    pub place: ManifestPlace,
    /// What was found.
    #[serde(flatten)]
    pub spec: Arc<JudgedSpec>,
}

/// What was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The pods that would be made of a template.
    Template,
    /// Pods that exist, or are written in a manifest.
    Pods,
}

/// Where an object is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ManifestPlace {
    /// The file as it was named; absent for an object of a cluster and on standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line on which it begins, from 1; 0 when it is not known.
    pub line: usize,
    /// The template of a Helm chart that it was rendered from, as a path to a file that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Image → the line that names it.
    #[serde(skip)]
    pub images: BTreeMap<String, usize>,
}

impl ManifestPlace {
    fn is_nowhere(&self) -> bool {
        self.line == 0
    }

    /// The file that people edit, and the line: of a chart its template, whose lines are not those of what was rendered.
    pub fn edited(&self) -> Option<(&str, usize)> {
        let template = self.template.as_deref().map(|template| (template, 1));
        template.or_else(|| Some((self.file.as_deref()?, self.line.max(1))))
    }
}

/// A pod spec with its verdict.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JudgedSpec {
    /// How it ended.
    pub outcome: ExplainOutcome,
    /// Why it was not judged, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The containers and image volumes.
    pub containers: Vec<ScannedProgram>,
    /// What the rules found.
    pub violations: Vec<JudgedViolation>,
    /// WasiGrants in YAML that would cover what no grant covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_grant: Option<String>,
    /// Warnings that do not come from a rule.
    pub warnings: Vec<String>,
    /// How much of what was found is not kept, because it was more than is kept of one object. The last warning says so.
    #[serde(skip)]
    pub left: usize,
}

impl JudgedSpec {
    /// Whether nothing was said of it in words.
    pub fn is_silent(&self) -> bool {
        let reasons = self.containers.iter().filter_map(|program| program.reason.as_ref());
        self.violations.is_empty()
            && self.warnings.is_empty()
            && self.reason.iter().chain(reasons).next().is_none()
    }
}

/// A container or image volume.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScannedProgram {
    /// Its name.
    pub name: String,
    /// The list of the pod spec that contains it.
    pub role: Role,
    /// Image as written.
    pub image: String,
    /// What it starts.
    pub class: ProgramClass,
    /// Kind of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ImageKind>,
    /// Digest of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why what it starts is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it can do.
    pub effective: Vec<Entry>,
}

/// Something that could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NotJudged {
    /// The object, the file, or the resource of the API server.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Where it is written.
    #[serde(skip_serializing_if = "ManifestPlace::is_nowhere")]
    pub place: ManifestPlace,
}

/// A grant and its use.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantUse {
    /// Kind and name, as in `coveredBy`.
    pub grant: String,
    /// Its namespace; absent for a `ClusterWasiGrant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Workloads that can do something that it covers; absent where filters left workloads out, and in the place of 0 where something that
    /// may use it was not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<usize>,
}

/// A violation of a workload, and where it applies.
#[derive(Debug)]
pub struct FoundViolation<'a> {
    /// The violation.
    pub judged: &'a JudgedViolation,
    /// Whether the template has it.
    pub template: bool,
    /// How many of the pods have it.
    pub pods: usize,
    /// Where it is written: the line of the container's image where that is known.
    pub place: ManifestPlace,
}

impl Workload {
    /// Kind and name, such as `Deployment/orders`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Name with namespace, for outputs that have one name.
    pub fn full_name(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.kind, self.name)
    }

    /// Whether it has nothing that an operator has to look at.
    pub fn is_plain(&self) -> bool {
        is_plain(self.outcome)
    }

    /// Where it is written first.
    pub fn place(&self) -> Option<&ManifestPlace> {
        self.judged.iter().map(|judged| &judged.place).find(|place| place.line > 0)
    }

    /// The images that it names, as written and as judged.
    pub fn images(&self) -> BTreeSet<&str> {
        let programs = self.judged.iter().flat_map(|judged| &judged.spec.containers);
        programs
            .flat_map(|program| [program.image.as_str(), program.written()])
            .filter(|image| !image.is_empty())
            .collect()
    }

    /// Every violation once, denials first, with where it applies.
    pub fn findings(&self) -> Vec<FoundViolation<'_>> {
        let mut found: BTreeMap<_, FoundViolation<'_>> = BTreeMap::new();
        for judged in &self.judged {
            let programs = judged.programs();
            for violation in &judged.spec.violations {
                let key = (std::cmp::Reverse(violation.action), &violation.violation);
                let container = || programs.get(violation.violation.container.as_deref()?).copied();
                let finding = found.entry(key).or_insert_with(|| FoundViolation {
                    judged: violation,
                    template: false,
                    pods: 0,
                    place: judged.place_of(container()),
                });
                finding.template |= judged.what == What::Template;
                finding.pods += judged.pods;
            }
        }
        found.into_values().collect()
    }

    /// How much of what was found is not kept.
    pub fn left(&self) -> usize {
        self.judged.iter().map(|judged| judged.spec.left).fold(0, usize::saturating_add)
    }

    /// Whether it may use other grants than those that are known: not all of it was judged, read or kept.
    pub fn may_use_more(&self) -> bool {
        self.judged.iter().any(|Judged { spec, .. }| {
            is_open(spec.outcome) || spec.left > 0 || spec.containers.iter().any(|one| one.reason.is_some())
        })
    }

    /// Why something about it is not known, each reason once.
    pub fn reasons(&self) -> Vec<String> {
        let (mut reasons, mut known) = (Vec::new(), HashSet::new());
        for judged in self.judged.iter().filter(|judged| is_open(judged.spec.outcome)) {
            let own = judged.spec.reason.iter().cloned();
            let programs = judged.spec.containers.iter().filter_map(|program| {
                Some(format!("container `{}`: {}", text::visible(&program.name), program.reason.as_ref()?))
            });
            for reason in own.chain(programs) {
                if known.insert(reason.clone()) {
                    reasons.push(reason);
                }
            }
        }
        reasons
    }
}

impl Judged {
    /// Its containers by name.
    fn programs(&self) -> HashMap<&str, &ScannedProgram> {
        // The first of a name counts, so it comes last.
        self.spec.containers.iter().rev().map(|program| (program.name.as_str(), program)).collect()
    }

    fn place_of(&self, program: Option<&ScannedProgram>) -> ManifestPlace {
        let line = program.and_then(|program| self.place.images.get(program.written()).copied());
        ManifestPlace { line: line.unwrap_or(self.place.line), ..self.place.clone() }
    }
}

impl ScannedProgram {
    /// The image as the manifest has it: a template is judged with the digest that its pods will get.
    fn written(&self) -> &str {
        let bare =
            self.digest.as_deref().and_then(|digest| self.image.strip_suffix(digest)?.strip_suffix('@'));
        bare.unwrap_or(&self.image)
    }
}

impl Scan {
    /// The workloads that an output lists: with `all`, also those that the gate leaves alone.
    pub fn shown(&self, all: bool) -> Vec<&Workload> {
        self.workloads.iter().filter(|workload| all || !workload.is_plain()).collect()
    }
}

/// Whether the gate leaves it alone.
pub const fn is_plain(outcome: ExplainOutcome) -> bool {
    matches!(outcome, ExplainOutcome::NotWasm | ExplainOutcome::Exempt | ExplainOutcome::Skipped)
}

/// Whether it is not known what would happen.
pub const fn is_open(outcome: ExplainOutcome) -> bool {
    matches!(
        outcome,
        ExplainOutcome::Unread
            | ExplainOutcome::Unrecognised
            | ExplainOutcome::NotJudged
            | ExplainOutcome::CompletedByOthers
            | ExplainOutcome::NoTemplate
            | ExplainOutcome::Unreadable
    )
}

/// The word for an outcome, as in JSON.
pub const fn word(outcome: ExplainOutcome) -> &'static str {
    match outcome {
        ExplainOutcome::NotJudged
        | ExplainOutcome::CompletedByOthers
        | ExplainOutcome::NoTemplate
        | ExplainOutcome::Unreadable => "not-judged",
        ExplainOutcome::NotWasm => "not-wasm",
        ExplainOutcome::Exempt => "exempt",
        ExplainOutcome::Skipped => "skipped",
        ExplainOutcome::Unread => "unread",
        ExplainOutcome::Unrecognised => "unrecognised",
        ExplainOutcome::Admitted => "admitted",
        ExplainOutcome::Warned => "warned",
        ExplainOutcome::Denied => "denied",
    }
}

/// The order in which a person looks at outcomes, the worst first.
pub const fn rank(outcome: ExplainOutcome) -> u8 {
    match outcome {
        ExplainOutcome::Denied => 0,
        ExplainOutcome::NotJudged
        | ExplainOutcome::CompletedByOthers
        | ExplainOutcome::NoTemplate
        | ExplainOutcome::Unreadable => 1,
        ExplainOutcome::Unread => 2,
        ExplainOutcome::Unrecognised => 3,
        ExplainOutcome::Warned => 4,
        ExplainOutcome::Admitted => 5,
        ExplainOutcome::Exempt => 6,
        ExplainOutcome::Skipped => 7,
        ExplainOutcome::NotWasm => 8,
    }
}

/// A workload of these parts.
pub fn workload(reference: Reference, owner: Option<Owner>, mut judged: Vec<Judged>) -> Workload {
    judged.sort_by(|a, b| (a.what, &a.example).cmp(&(b.what, &b.example)));
    let outcomes = judged.iter().map(|judged| judged.spec.outcome);
    let outcome = outcomes.min_by_key(|outcome| rank(*outcome)).unwrap_or(ExplainOutcome::NotJudged);
    let Reference { namespace, kind, name, group } = reference;
    let pods = judged.iter().map(|judged| judged.pods).sum();
    Workload { namespace, group, kind, name, owner, outcome, pods, judged }
}
