//! How a review ended, as facts. The stages return this; `decision` turns it into an answer.

use std::borrow::Cow;

use super::Error;
use crate::answer;
use crate::audit::Timings;
use crate::inspection::Inspection;
use crate::judge::Verdict;
use crate::plan::Plan;
use crate::workload::Workload;
use serde_json::Value;

/// The result of a review, and the time of its stages. `K` is what the caller kept of the policies' input.
#[derive(Debug)]
pub struct Examination<K = ()> {
    /// How the review ended.
    pub ending: Ending<K>,
    /// The stages that were reached, and how long each took.
    pub timings: Timings,
}

/// How a review ended.
#[derive(Debug)]
pub enum Ending<K = ()> {
    /// Nothing was looked up or judged.
    Skipped(Skip),
    /// The object does not match its kind.
    Unreadable {
        /// What is wrong with the object.
        error: Error,
        /// Whether the object names a RuntimeClass that a profile describes as a Wasm runtime.
        under_wasm: bool,
    },
    /// There is no memory for what the object is parsed to: it would take more than any review gets ([`Error::ObjectTooLarge`]), or others have it
    /// ([`Error::NoPlace`]), so that it is not judged. Or what its images bring would take more ([`Error::ImagesTooLarge`]).
    NoMemory {
        /// Which of them.
        error: Error,
        /// Whether it is a template, whose pods are judged when they are created.
        is_template: bool,
    },
    /// The object was read and its images were looked up.
    Examined(Box<Examined<K>>),
}

impl<K> Ending<K> {
    /// The examined object; `None` if nothing was looked up.
    pub fn examined(&self) -> Option<&Examined<K>> {
        match self {
            Self::Examined(examined) => Some(examined),
            Self::Skipped(_) | Self::Unreadable { .. } | Self::NoMemory { .. } => None,
        }
    }

    /// The conclusion from the facts; `None` if nothing was looked up.
    pub fn conclusion(&self) -> Option<&Conclusion<K>> {
        self.examined().map(|examined| &examined.conclusion)
    }

    /// The conclusion from the facts, for one who completes it; `None` if nothing was looked up.
    pub(super) fn conclusion_mut(&mut self) -> Option<&mut Conclusion<K>> {
        match self {
            Self::Examined(examined) => Some(&mut examined.conclusion),
            Self::Skipped(_) | Self::Unreadable { .. } | Self::NoMemory { .. } => None,
        }
    }

    /// Why the object could not be read, planned or judged.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Unreadable { error, .. } | Self::NoMemory { error, .. } => Some(error),
            Self::Examined(examined) => match &examined.conclusion {
                Conclusion::Failed { error, .. } => Some(error),
                Conclusion::NotWasm
                | Conclusion::Planned(_)
                | Conclusion::Judged(_)
                | Conclusion::JudgedAsPods { .. } => None,
            },
            Self::Skipped(_) => None,
        }
    }

    /// This ending, or the error if the object could not be read, planned or judged.
    pub fn into_result(self) -> Result<Self, Error> {
        match self {
            Self::Unreadable { error, .. } | Self::NoMemory { error, .. } => Err(error),
            Self::Examined(examined) => match *examined {
                Examined { conclusion: Conclusion::Failed { error, .. }, .. } => Err(error),
                examined => Ok(Self::Examined(examined.into())),
            },
            skipped @ Self::Skipped(_) => Ok(skipped),
        }
    }

    /// Result of the policies; `None` if they did not run.
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
    /// The object of the review.
    pub workload: Workload,
    /// What its containers start.
    pub inspection: Inspection,
    /// The conclusion from the facts.
    pub conclusion: Conclusion<K>,
    /// What a person should know of an object that has nothing to do with Wasm any more.
    pub advice: Option<String>,
}

/// The conclusion from the facts about the images.
#[derive(Debug)]
pub enum Conclusion<K = ()> {
    /// The object has nothing to do with Wasm, as far as the gate can tell.
    NotWasm,
    /// The changes were planned; there may be none.
    Planned(Plan),
    /// The policies judged a pod as it is.
    Judged(Judged<K>),
    /// The policies judged the pods that will be created from a template.
    JudgedAsPods {
        /// The template with the defaults that its pods will get, before the plan.
        before: Value,
        /// What the mutating webhook would change in these pods.
        plan: Plan,
        /// The verdict on the changed pods.
        judged: Judged<K>,
    },
    /// The gate could not go on.
    Failed {
        /// The step that failed.
        step: Step,
        /// Why it failed.
        error: Error,
    },
}

/// Result of the policies.
#[derive(Debug)]
pub struct Judged<K = ()> {
    /// The verdict, and the bundles that failed.
    pub judgement: Judgement,
    /// What the caller kept of the policies' input.
    pub kept: K,
}

/// The verdict of the policies, and which of them failed.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Violations with their enforcement actions.
    pub verdict: Verdict,
    /// Bundles that could not be evaluated.
    pub failed_bundles: Vec<String>,
    /// Whether the rules had found this on the same input before and were not run again.
    pub is_cached: bool,
    /// Whether the same input comes out the same at any time: every bundle was evaluated, and none asked for more than its input.
    pub is_repeatable: bool,
    /// Whether nothing else denies than that bundles had no place in time: others take the time of all reviews, which says nothing of this one.
    pub is_overloaded: bool,
    /// The pod's RuntimeClass, if the cluster is known not to have it.
    pub missing_class: Option<String>,
}

impl Judgement {
    /// What the object does that names a RuntimeClass which the cluster is known not to have.
    pub fn missing_class_said(&self) -> Option<String> {
        self.missing_class.as_deref().map(answer::names_missing_class)
    }
}

/// A step that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Planning the changes to a pod.
    Plan,
    /// Planning and judging the pods of a template.
    JudgeTemplate,
    /// Waiting for a place to plan or judge a pod, or to find out what it starts.
    TakePlace,
}

impl Step {
    /// Value of `error.code` in a record.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::JudgeTemplate => "judge-template",
            Self::TakePlace => "overload",
        }
    }

    /// The record's note about a review that failed at this step.
    pub const fn note(self) -> &'static str {
        match self {
            Self::Plan => "could not plan",
            Self::JudgeTemplate => "could not judge",
            Self::TakePlace => "no place in time",
        }
    }
}

/// Why a review was answered without looking up its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The namespace is exempt.
    ExemptNamespace,
    /// DELETE and CONNECT start nothing.
    StartsNothing,
    /// A subresource such as `status` carries no image.
    NoImageInSubresource,
    /// The mutating webhook changes only new pods.
    OnlyNewPodsAreChanged,
    /// The gate does not know the kind, so it cannot say whether the object contains a pod.
    UnknownKind,
    /// Parts of the kind's pods come from other objects, so the object does not say what they start.
    CompletedByOthers,
    /// The object has no pod template where the description of its kind says, so it does not say what it starts.
    NoTemplate {
        /// Where it was looked for: a JSON pointer.
        at: &'static str,
    },
    /// The review carries no object.
    NoObject,
    /// The API object of a static pod, which runs whatever admission says.
    MirrorPod,
    /// The object is being deleted.
    Terminating,
    /// An UPDATE that changes nothing that is judged.
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
            Self::CompletedByOthers => "kind whose pods take parts from other objects",
            Self::NoTemplate { .. } => "no pod template where its kind has one",
            Self::NoObject => "no object",
            Self::MirrorPod => "mirror pod",
            Self::Terminating => "object that is being deleted",
            Self::Unchanged => "nothing that is judged has changed",
        }
    }

    /// The reason for one who reads about this object alone.
    pub fn reason(self) -> Cow<'static, str> {
        match self {
            Self::NoTemplate { at } => Cow::Owned(format!(
                "it has no pod template at `{at}`, where its kind is described to have one; correct `podTemplate` under \
                 `workloads` of the configuration if it is elsewhere; pods that are made of it are judged when they are created"
            )),
            skip => Cow::Borrowed(skip.note()),
        }
    }
}
