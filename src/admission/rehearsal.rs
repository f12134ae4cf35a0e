//! Entry point of the offline commands: the answers of both webhooks to a new object, in the API server's order. The
//! object is completed, examined and answered as in `serve`, but nothing is recorded. An object that exists is judged as it
//! is.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::ending::{Conclusion, Ending};
use super::examine::{ReviewContext, examine};
use super::{Clock, Error, State, api_server, decision};
use crate::answer::Answer;
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::plan::Plan;
use crate::review::Webhook;
use crate::review::{GroupVersionKind, GroupVersionResource, Operation, Review};

/// A new object, before it is created.
#[derive(Debug, Clone, Copy)]
pub struct NewObject<'a> {
    /// The object as in the manifest.
    pub object: &'a Value,
    /// Its group, version and kind.
    pub kind: &'a GroupVersionKind,
    /// The namespace in which it would be created.
    pub namespace: &'a str,
    /// Its name; empty with `generateName`, since the API server has not chosen one.
    pub name: &'a str,
}

/// Ending and answer of one webhook.
#[derive(Debug)]
pub struct Answered<K> {
    /// How the review ended.
    pub ending: Ending<K>,
    /// The answer to the API server.
    pub answer: Answer,
}

/// Endings and answers of both webhooks. `K` is what the caller kept of the policies' input.
#[derive(Debug)]
pub struct Rehearsal<K> {
    /// The object as the mutating webhook receives it.
    pub received: Value,
    /// The mutating webhook.
    pub mutate: Answered<()>,
    /// The validating webhook, for the object after the mutating one.
    pub validate: Answered<K>,
}

impl<K> Rehearsal<K> {
    /// The warnings that a user who applies the object sees. The API server prints equal warnings once.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for line in [&self.mutate.answer, &self.validate.answer].iter().flat_map(|a| &a.response.warnings) {
            if !warnings.contains(line) {
                warnings.push(line.clone());
            }
        }
        warnings
    }

    /// Why the object could not be read, planned or judged.
    pub fn error(&self) -> Option<&Error> {
        self.mutate.ending.error().or_else(|| self.validate.ending.error())
    }

    /// The same rehearsal, or the error if the object could not be read, planned or judged.
    pub fn into_result(self) -> Result<Self, Error> {
        let Self { received, mutate, validate } = self;
        let mutate = Answered { ending: mutate.ending.into_result()?, ..mutate };
        let validate = Answered { ending: validate.ending.into_result()?, ..validate };
        Ok(Self { received, mutate, validate })
    }

    /// The plan for the pod, or for the pods of a template, and the object before the change.
    /// `None` if nothing was planned.
    pub fn plan(&self) -> Option<(&Value, &Plan)> {
        match (self.mutate.ending.conclusion(), self.validate.ending.conclusion()) {
            (Some(Conclusion::Planned(plan)), _) => Some((&self.received, plan)),
            (_, Some(Conclusion::JudgedAsPods { before, plan, .. })) => Some((before, plan)),
            _ => None,
        }
    }
}

/// Runs both webhooks on a new object; each may take `budget`, as in a cluster.
pub async fn rehearse<K>(
    state: &State,
    inspector: &Inspector,
    new: &NewObject<'_>,
    budget: Duration,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Rehearsal<K>, Error> {
    let received = state.kinds.of(new.kind).map_or_else(
        || new.object.clone(),
        |kind| api_server::received(new.object, kind, new.namespace, state.cluster()),
    );
    let mut review = review(new, &received)?;
    let clock = Clock::start(budget);
    let asked = ReviewContext { state, inspector, webhook: Webhook::Mutate, review: &review, clock };
    let mutate = answered(&asked, |_| ()).await;
    if let Some(Conclusion::Planned(plan)) = mutate.ending.conclusion() {
        review.object = Some(to_raw_value(&plan.object).map_err(Error::WriteObject)?);
    }
    let asked =
        ReviewContext { state, inspector, webhook: Webhook::Validate, review: &review, clock: clock.again() };
    let validate = answered(&asked, keep).await;
    Ok(Rehearsal { received, mutate, validate })
}

/// How the validating webhook would end for an object that exists already, if it were created now as it is: nothing is
/// completed or changed. A template is judged as the pods that would be made of it.
pub async fn judge_as_is<K>(
    state: &State,
    inspector: &Inspector,
    existing: &NewObject<'_>,
    budget: Duration,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Ending<K>, Error> {
    let review = review(existing, existing.object)?;
    let clock = Clock::start(budget);
    let asked = ReviewContext { state, inspector, webhook: Webhook::Validate, review: &review, clock };
    Ok(examine(&asked, keep).await.ending)
}

async fn answered<K>(asked: &ReviewContext<'_>, keep: impl FnOnce(&PolicyInput<'_>) -> K) -> Answered<K> {
    let ending = examine(asked, keep).await.ending;
    let answer = decision::answer(asked.webhook, asked.review, &ending);
    Answered { ending, answer }
}

/// The review that the API server would send for a dry run.
fn review(new: &NewObject<'_>, received: &Value) -> Result<Review, Error> {
    Ok(Review {
        uid: String::new(),
        kind: new.kind.clone(),
        resource: GroupVersionResource::default(),
        sub_resource: None,
        name: new.name.to_owned(),
        namespace: new.namespace.to_owned(),
        operation: Operation::Create,
        user: UserInfo::default(),
        dry_run: true,
        object: Some(to_raw_value(received).map_err(Error::WriteObject)?),
        old_object: None,
    })
}
