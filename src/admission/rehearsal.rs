//! Entry point of the offline commands: the answers of both webhooks to a new object, in the API server's order. The
//! object is completed, examined and answered as in `serve`, but nothing is recorded, and no memory is reserved for the object: one that is
//! too large there is so here. An object that exists is judged as it is.

use std::time::Duration;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::ending::{Conclusion, Ending};
use super::examine::{ReviewContext, examine};
use super::{Clock, Error, State, api_server, decision, memory};
use crate::answer::Answer;
use crate::judge::PolicyInput;
use crate::lookup::Inspector;
use crate::plan::Plan;
use crate::policy::ExactNumbers;
use crate::review::Webhook;
use crate::review::{GroupVersionKind, GroupVersionResource, Operation, Review, User};
use crate::workload::managed;

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
    /// The mutating webhook; `None` if only the validating one was asked.
    pub mutate: Option<Answered<()>>,
    /// The validating webhook, for the object after the mutating one.
    pub validate: Answered<K>,
}

impl<K> Rehearsal<K> {
    /// The warnings that a user who applies the object sees. The API server prints equal warnings once.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        let answers = self.mutate.iter().map(|mutate| &mutate.answer).chain([&self.validate.answer]);
        for line in answers.flat_map(|answer| &answer.response.warnings) {
            if !warnings.contains(line) {
                warnings.push(line.clone());
            }
        }
        warnings
    }

    /// Why the object could not be read, planned or judged.
    pub fn error(&self) -> Option<&Error> {
        let planned = self.mutate.as_ref().and_then(|mutate| mutate.ending.error());
        planned.or_else(|| self.validate.ending.error())
    }

    /// The same rehearsal, or the error if the object could not be read, planned or judged.
    pub fn into_result(self) -> Result<Self, Error> {
        let Self { received, mutate, validate } = self;
        let read = |mutate: Answered<()>| {
            Ok::<_, Error>(Answered { ending: mutate.ending.into_result()?, ..mutate })
        };
        let mutate = mutate.map(read).transpose()?;
        let validate = Answered { ending: validate.ending.into_result()?, ..validate };
        Ok(Self { received, mutate, validate })
    }

    /// The plan for the pod, or for the pods of a template, and the object before the change.
    /// `None` if nothing was planned.
    pub fn plan(&self) -> Option<(&Value, &Plan)> {
        let mutated = self.mutate.as_ref().and_then(|mutate| mutate.ending.conclusion());
        match (mutated, self.validate.ending.conclusion()) {
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
    let review = review(new, &received)?;
    in_order(state, inspector, review, received, (Asked::Both, budget), keep).await
}

/// The webhooks that are asked about a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Both, in the order of the API server.
    Both,
    /// The validating webhook alone, about the object as it stands in the review.
    Validate,
}

/// What the webhooks answer to a review as the API server sends it: with its user, its operation and its old object, and
/// nothing completed. The validating webhook gets the object as the mutating one leaves it.
pub async fn rehearse_review<K>(
    state: &State,
    inspector: &Inspector,
    review: Review,
    (asked, budget): (Asked, Duration),
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Rehearsal<K>, Error> {
    let received = review.object.as_deref().map(received_in).unwrap_or_default();
    in_order(state, inspector, review, received, (asked, budget), keep).await
}

/// The object of a review. The mutating webhook plans a pod also where its managed fields alone cannot be read, as lists that are nested too
/// deep: then it is what is there without them. One that is not read here is not read by the webhooks either, which say so.
fn received_in(object: &RawValue) -> Value {
    let whole = serde_json::from_str::<Value>(object.get());
    whole.or_else(|_| managed::apart(object.get()).map(|(rest, _)| rest)).unwrap_or_default()
}

async fn in_order<K>(
    state: &State,
    inspector: &Inspector,
    mut review: Review,
    received: Value,
    (asked, budget): (Asked, Duration),
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
) -> Result<Rehearsal<K>, Error> {
    let clock = Clock::start(budget);
    let mut mutate = match asked {
        Asked::Validate => None,
        Asked::Both => {
            let context =
                ReviewContext { state, inspector, webhook: Webhook::Mutate, review: &review, clock };
            Some(answered(&context, |_| ()).await)
        }
    };
    let planned = mutate.as_mut().and_then(|mutate| mutate.ending.conclusion_mut());
    if let Some(Conclusion::Planned(plan)) = planned {
        restore(&mut plan.object, &received);
        // What the mutating webhook does not change comes as it was written.
        let numbers = review.object.as_deref().map(|object| ExactNumbers::of(object.get()));
        let numbers = numbers.unwrap_or_default();
        review.object = Some(to_raw_value(&numbers.in_value(&plan.object)).map_err(Error::WriteObject)?);
    }
    let context =
        ReviewContext { state, inspector, webhook: Webhook::Validate, review: &review, clock: clock.again() };
    let validate = answered(&context, keep).await;
    Ok(Rehearsal { received, mutate, validate })
}

/// Puts back the managed fields, without which the webhook plans a pod.
fn restore(planned: &mut Value, received: &Value) {
    let managed = received.pointer("/metadata/managedFields");
    let metadata = planned.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some((managed, metadata)) = managed.zip(metadata) {
        metadata.insert("managedFields".to_owned(), managed.clone());
    }
}

/// How the validating webhook would end for an object that exists already, if it were created now as it is: nothing is
/// completed or changed. A template is judged as the pods that would be made of it. What is `told` of the ending is told while the memory is reserved that the
/// object takes.
pub async fn judge_as_is<K, T>(
    state: &State,
    inspector: &Inspector,
    existing: &NewObject<'_>,
    budget: Duration,
    keep: impl FnOnce(&PolicyInput<'_>) -> K,
    told: impl FnOnce(Ending<K>) -> Result<T, Error>,
) -> Result<T, Error> {
    let review = review(existing, existing.object)?;
    let clock = Clock::start(budget);
    let asked = ReviewContext { state, inspector, webhook: Webhook::Validate, review: &review, clock };
    let _memory = memory::reserve_for_scan(&asked).await?;
    told(examine(&asked, keep).await.ending)
}

async fn answered<K>(asked: &ReviewContext<'_>, keep: impl FnOnce(&PolicyInput<'_>) -> K) -> Answered<K> {
    let ending = match memory::check(asked) {
        Ok(()) => examine(asked, keep).await.ending,
        Err(error) => memory::none_for(asked, error),
    };
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
        user: User::default(),
        dry_run: true,
        object: Some(to_raw_value(received).map_err(Error::WriteObject)?),
        old_object: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the mutating webhook plans is compared with it.
    #[test]
    fn a_pod_is_received_without_managed_fields_that_cannot_be_read() {
        let of = |fields: &str| {
            let text = format!(r#"{{"metadata":{{"name":"a","managedFields":{fields}}},"spec":{{}}}}"#);
            received_in(&RawValue::from_string(text).unwrap())
        };
        let without = json!({"metadata": {"name": "a"}, "spec": {}});
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for unreadable in [deep.as_str(), r#"["\ud83d"]"#, "[1e999]"] {
            assert_eq!(of(unreadable), without, "{unreadable}");
        }
        let with = json!({"metadata": {"name": "a", "managedFields": [1]}, "spec": {}});
        assert_eq!(of("[1]"), with);
        let deep = RawValue::from_string(format!(r#"{{"spec":{deep}}}"#)).unwrap();
        assert_eq!(received_in(&deep), Value::Null);
    }

    #[test]
    fn what_is_planned_of_a_pod_has_its_managed_fields_again() {
        let received =
            json!({"metadata": {"name": "a", "managedFields": [{"manager": "kubectl"}]}, "spec": {}});
        let mut planned = json!({"metadata": {"name": "a"}, "spec": {"runtimeClassName": "b"}});
        restore(&mut planned, &received);
        assert_eq!(planned["metadata"], received["metadata"]);
        let (mut without, mut odd) = (json!({"metadata": {"name": "a"}}), json!({"metadata": null}));
        restore(&mut without, &json!({"metadata": {"name": "a"}}));
        restore(&mut odd, &received);
        assert_eq!((without, odd), (json!({"metadata": {"name": "a"}}), json!({"metadata": null})));
    }
}
