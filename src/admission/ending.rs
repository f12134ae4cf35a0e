//! How a review ended, in facts. The stages return this; `decision` puts it into words, once.

use super::Error;
use crate::audit::Timings;
use crate::inspection::Inspection;
use crate::judge::Verdict;
use crate::plan::Plan;
use crate::workload::Workload;
use serde_json::Value;

/// What came of a review, and where its time went. `K` is what the caller kept of the document that the policies read.
#[derive(Debug)]
pub struct Examination<K = ()> {
    /// How it ended.
    pub ending: Ending<K>,
    /// Stages that were reached, and how long they took.
    pub timings: Timings,
}

/// How a review ended.
#[derive(Debug)]
pub enum Ending<K = ()> {
    /// Nothing was looked up or judged.
    Skipped(Skip),
    /// The object is not what its kind says.
    Unreadable {
        /// What is wrong with it.
        error: Error,
        /// Whether it names a RuntimeClass that a profile describes as a Wasm runtime.
        under_wasm: bool,
    },
    /// The object was read and its images were looked up.
    Examined(Box<Examined<K>>),
}

impl<K> Ending<K> {
    /// The examined object; `None` where nothing was looked up.
    pub fn examined(&self) -> Option<&Examined<K>> {
        match self {
            Self::Examined(examined) => Some(examined),
            Self::Skipped(_) | Self::Unreadable { .. } => None,
        }
    }

    /// What followed from the facts; `None` where there are none.
    pub fn conclusion(&self) -> Option<&Conclusion<K>> {
        self.examined().map(|examined| &examined.conclusion)
    }

    /// The same, or the error for which the object could not be read, planned or judged.
    pub fn into_result(self) -> Result<Self, Error> {
        match self {
            Self::Unreadable { error, .. } => Err(error),
            Self::Examined(examined) => match *examined {
                Examined { conclusion: Conclusion::Failed { error, .. }, .. } => Err(error),
                examined => Ok(Self::Examined(examined.into())),
            },
            skipped @ Self::Skipped(_) => Ok(skipped),
        }
    }

    /// What the policies said; `None` where they were not asked.
    pub fn judged(&self) -> Option<&Judged<K>> {
        match self.conclusion()? {
            Conclusion::Judged(judged) | Conclusion::JudgedAsPods { judged, .. } => Some(judged),
            Conclusion::NotWasm | Conclusion::Planned(_) | Conclusion::Failed { .. } => None,
        }
    }
}

/// An object whose images were looked up.
#[derive(Debug)]
pub struct Examined<K = ()> {
    /// The object as it was sent.
    pub workload: Workload,
    /// What its containers start.
    pub inspection: Inspection,
    /// What followed.
    pub conclusion: Conclusion<K>,
}

/// What followed from the facts about the images.
#[derive(Debug)]
pub enum Conclusion<K = ()> {
    /// It has nothing to do with Wasm, as far as anybody can tell.
    NotWasm,
    /// Changes were planned, or found to be needless.
    Planned(Plan),
    /// The policies were asked about a pod as it stands.
    Judged(Judged<K>),
    /// The policies were asked about the pods that a template is for.
    JudgedAsPods {
        /// The template as the API server would make pods of it, before the plan.
        before: Value,
        /// What the mutating webhook would do to these pods.
        plan: Plan,
        /// What the policies say of them then.
        judged: Judged<K>,
    },
    /// The gate could not go on.
    Failed {
        /// What it attempted.
        step: Step,
        /// Why it failed.
        error: Error,
    },
}

/// What the policies said.
#[derive(Debug)]
pub struct Judged<K = ()> {
    /// What it comes to, and which bundles failed.
    pub judgement: Judgement,
    /// What the caller kept of the document that the policies read.
    pub kept: K,
}

/// What the policies said, and which of them could not be asked.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// What it comes to.
    pub verdict: Verdict,
    /// Bundles that could not be evaluated.
    pub failed_bundles: Vec<String>,
    /// The RuntimeClass that the pod names, where the cluster is known to have none of this name.
    pub missing_class: Option<String>,
}

/// A step that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Planning the changes to a pod.
    Plan,
    /// Planning and judging the pods of a template.
    JudgeTemplate,
}

impl Step {
    /// The step as `error.code` of a record writes it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::JudgeTemplate => "judge-template",
        }
    }

    /// What the record says of a review that ended here.
    pub const fn note(self) -> &'static str {
        match self {
            Self::Plan => "could not plan",
            Self::JudgeTemplate => "could not judge",
        }
    }
}

/// Why a review was answered without a look at its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The namespace is exempt.
    ExemptNamespace,
    /// DELETE and CONNECT start nothing.
    StartsNothing,
    /// A subresource such as `status` carries no image.
    NoImageInSubresource,
    /// The mutating webhook changes nothing but new pods.
    OnlyNewPodsAreChanged,
    /// The gate does not know the kind, so it cannot say whether there is a pod in it.
    UnknownKind,
    /// The object has no pod template where its kind keeps it.
    NoTemplate,
    /// The review carries no object.
    NoObject,
    /// The API object of a static pod, which runs whatever admission says.
    MirrorPod,
    /// The object is being deleted.
    Terminating,
    /// An UPDATE that leaves everything as it is that is judged.
    Unchanged,
}

impl Skip {
    /// The reason, as records and `explain` write it.
    pub const fn note(self) -> &'static str {
        match self {
            Self::ExemptNamespace => "exempt namespace",
            Self::StartsNothing => "operation that starts nothing",
            Self::NoImageInSubresource => "subresource that carries no image",
            Self::OnlyNewPodsAreChanged => "only new pods are changed",
            Self::UnknownKind => "kind that the gate does not know",
            Self::NoTemplate => "no pod template in it",
            Self::NoObject => "no object",
            Self::MirrorPod => "mirror pod",
            Self::Terminating => "object on its way out",
            Self::Unchanged => "nothing that is judged has changed",
        }
    }
}
