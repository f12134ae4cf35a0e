//! Why an object is not a workload.

/// Why an object is not a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not JSON.
    #[error("could not read the {kind}: it is not JSON: {problem}")]
    Parse {
        /// Kind of the object.
        kind: &'static str,
        /// What the parser says.
        problem: String,
    },
    /// A field has a type that the API does not allow.
    #[error("could not read the {kind}: field `{field}`: {problem}; see `kubectl explain {field_help}`")]
    ReadField {
        /// Kind of the object.
        kind: &'static str,
        /// Path such as `spec.containers[0].image`.
        field: String,
        /// What the parser says.
        problem: String,
        /// The argument of `kubectl explain`.
        field_help: String,
    },
    /// The kind has a pod spec, but the object has none.
    #[error("could not read the {kind}: it has no `{field}`; add the pod spec")]
    FindSpec {
        /// Kind of the object.
        kind: &'static str,
        /// Path where it is expected.
        field: String,
    },
    /// A described kind has its pod template elsewhere, or nowhere.
    #[error(
        "could not read the {kind}: it has no pod template at `{at}`; correct `podTemplate` of its description"
    )]
    FindTemplate {
        /// Kind of the object.
        kind: &'static str,
        /// Where it is expected: the pointer of the description.
        at: &'static str,
    },
}
