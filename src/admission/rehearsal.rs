//! What both webhooks would say of a new object, in the order in which the API server asks them: the offline commands'
//! way in. The object is received, examined and answered as in `serve`; nothing is recorded.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::ending::{Conclusion, Ending};
use super::examine::{Asked, examine};
use super::{Clock, Error, State, api_server, decision};
use crate::answer::Answer;
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::plan::Plan;
use crate::review::Webhook;
use crate::review::{GroupVersionKind, GroupVersionResource, Operation, Review};

/// An object that somebody is about to create.
#[derive(Debug, Clone, Copy)]
pub struct NewObject<'a> {
    /// The object as it was written.
    pub object: &'a Value,
    /// Its kind.
    pub kind: &'a GroupVersionKind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name; empty while `generateName` waits for the API server.
    pub name: &'a str,
}

/// What one webhook found and said.
#[derive(Debug)]
pub struct Answered<K> {
    /// What happened.
    pub ending: Ending<K>,
    /// What the API server would be told.
    pub answer: Answer,
}

/// What both webhooks found and said. `K` is what the caller kept of the document that the policies read.
#[derive(Debug)]
pub struct Rehearsal<K> {
    /// The object as the mutating webhook receives it.
    pub received: Value,
    /// The mutating webhook.
    pub mutate: Answered<()>,
    /// The validating webhook, asked about the object that the mutating one leaves.
    pub validate: Answered<K>,
}

impl<K> Rehearsal<K> {
    /// Everything that the person who applies the object is told without being refused. The API server passes the same
    /// text on once.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for line in [&self.mutate.answer, &self.validate.answer].iter().flat_map(|a| &a.response.warnings) {
            if !warnings.contains(line) {
                warnings.push(line.clone());
            }
        }
        warnings
    }

    /// The same, or the error for which the object could not be read, planned or judged.
    pub fn into_result(self) -> Result<Self, Error> {
        let Self { received, mutate, validate } = self;
        let mutate = Answered { ending: mutate.ending.into_result()?, ..mutate };
        let validate = Answered { ending: validate.ending.into_result()?, ..validate };
        Ok(Self { received, mutate, validate })
    }

    /// What would be changed in the pod, or in the pods of a template, and the object that the change starts from.
    /// `None` where nothing was planned.
    pub fn plan(&self) -> Option<(&Value, &Plan)> {
        match (self.mutate.ending.conclusion(), self.validate.ending.conclusion()) {
            (Some(Conclusion::Planned(plan)), _) => Some((&self.received, plan)),
            (_, Some(Conclusion::JudgedAsPods { before, plan, .. })) => Some((before, plan)),
            _ => None,
        }
    }
}

/// Asks both webhooks about a new object; each may take `budget`, as in a cluster.
pub async fn rehearse<K>(
    state: &State,
    inspector: &Inspector,
    new: &NewObject<'_>,
    budget: Duration,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Rehearsal<K>, Error> {
    let received = state.kinds.of(new.kind).map_or_else(
        || new.object.clone(),
        |kind| api_server::received(new.object, kind, new.namespace, &state.cluster),
    );
    let mut review = review(new, &received)?;
    let clock = Clock::start(budget);
    let asked = Asked { state, inspector, webhook: Webhook::Mutate, review: &review, clock };
    let mutate = answered(&asked, |_| ()).await;
    if let Some(Conclusion::Planned(plan)) = mutate.ending.conclusion() {
        review.object = Some(to_raw_value(&plan.object).map_err(Error::WriteObject)?);
    }
    let asked = Asked { state, inspector, webhook: Webhook::Validate, review: &review, clock: clock.again() };
    let validate = answered(&asked, keep).await;
    Ok(Rehearsal { received, mutate, validate })
}

async fn answered<K>(asked: &Asked<'_>, keep: impl FnOnce(&PolicyInput<'_>) -> K) -> Answered<K> {
    let ending = examine(asked, keep).await.ending;
    let answer = decision::answer(asked.webhook, asked.review, &ending);
    Answered { ending, answer }
}

/// The review that the API server would send of a dry run.
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
