//! What the tasks have in common that write into a cluster while this replica is the writer: in whose name they do, the words for what the API
//! server refuses, what is remembered of that, and what becomes of a panic.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use kube::api::{PatchParams, PostParams};

use crate::text;

/// Most characters of an error that is shown.
const SHOWN_CHARS: usize = 300;

/// The problem of a round that has ended in a panic.
pub const DEFECT: &str = "the gate failed at a round; see its log, and report it as a defect";

/// Most problems that are remembered of a round.
pub const MOST_PROBLEMS: usize = 20;

/// Notes what went wrong in a round, each problem once.
pub fn note(problems: &mut Vec<String>, problem: String) {
    if problems.len() < MOST_PROBLEMS && !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// How an object is created or replaced by this one of the gate's writers. `managedFields` names it.
pub fn written_by(manager: &str) -> PostParams {
    PostParams { field_manager: Some(manager.into()), ..PostParams::default() }
}

/// How an object is patched by it.
pub fn patched_by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() }
}

/// Why a request was not granted, in words. `name` is the resource with its group, and `role` the ClusterRole of the manifests that allows it.
pub fn explained(error: &kube::Error, verb: &str, (name, role): (&str, &str)) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "forbidden to {verb} {name}: bind ClusterRole `{role}` of the manifests to this service account"
        ),
        kube::Error::Api(status) => {
            let said = text::excerpt(&status.message, SHOWN_CHARS);
            format!("could not {verb} {name}: {said} (HTTP {})", status.code)
        }
        other => format!("could not {verb} {name}: {}", text::excerpt(&text::chain(other), SHOWN_CHARS)),
    }
}

/// The words for a request without an answer.
pub fn unanswered(verb: &str) -> String {
    format!("the API server did not answer {verb} in time")
}

/// The result of some work; `None` if it has panicked, whatever object that comes from: it must not end the task while this replica is the
/// writer.
pub async fn survived<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(Box::pin(work)).catch_unwind().await.ok()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> kube::Error {
        let status = serde_json::json!({"code": code, "message": message});
        kube::Error::Api(Box::new(serde_json::from_value::<Status>(status).unwrap()))
    }

    #[test]
    fn a_refusal_names_the_role_that_is_missing_or_what_the_api_server_says() {
        let said =
            |error: &kube::Error| explained(error, "update", ("reports.openreports.io", "wasmgate-reports"));
        let forbidden = said(&refused(403, "no"));
        assert_eq!(
            forbidden,
            "forbidden to update reports.openreports.io: bind ClusterRole `wasmgate-reports` of the manifests to this service account"
        );
        assert_eq!(
            said(&refused(500, "etcd is away")),
            "could not update reports.openreports.io: etcd is away (HTTP 500)"
        );
        let long = said(&refused(500, &"x".repeat(10_000)));
        assert!(long.len() < 2 * SHOWN_CHARS, "{}", long.len());
    }

    #[test]
    fn each_problem_is_remembered_once_and_not_too_many() {
        let mut problems = Vec::new();
        for number in 0..2 * MOST_PROBLEMS {
            note(&mut problems, format!("problem {}", number / 2));
        }
        assert_eq!(problems.len(), MOST_PROBLEMS);
        note(&mut problems, "another".into());
        assert_eq!(problems.last().map(String::as_str), Some("problem 19"));
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_task() {
        assert_eq!(survived(async { 7 }).await, Some(7));
        assert_eq!(survived(async { [0_u8; 0].first().copied().unwrap() }).await, None);
    }
}
