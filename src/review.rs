//! One `admission.k8s.io/v1` AdmissionReview. It is parsed in two steps, so that the uid is known even if
//! something else is wrong, and keeps the object as the bytes that the API server sent.

pub mod request;
pub mod response;
mod user;
mod webhook;

pub use request::{Error, parse, uid_of};
pub use response::{Overloaded, Reply, Response};
pub use user::User;
pub use webhook::Webhook;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Group, version and kind of an object, as an `AdmissionRequest` writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct GroupVersionKind {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// API version inside the group, such as `v1`.
    #[serde(default)]
    pub version: String,
    /// Kind, such as `Pod`.
    #[serde(default)]
    pub kind: String,
}

/// Group, version and resource of an endpoint, as an `AdmissionRequest` writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct GroupVersionResource {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// API version inside the group, such as `v1`.
    #[serde(default)]
    pub version: String,
    /// Plural resource name, such as `pods`.
    #[serde(default)]
    pub resource: String,
}

/// The verb of the request that is being admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object; `oldObject` is present.
    Update,
    /// A removed object; `object` is null.
    Delete,
    /// A connection, such as exec.
    Connect,
}

impl Operation {
    /// The verb as the AdmissionReview spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One review, with its objects as raw JSON: a patch is built on these bytes, so fields that a typed
/// struct does not know are not lost.
#[derive(Debug)]
pub struct Review {
    /// Id of the request, echoed in the response.
    pub uid: String,
    /// Kind of the object in the review, after the API server's own conversion.
    pub kind: GroupVersionKind,
    /// Resource that the rule matched.
    pub resource: GroupVersionResource,
    /// Subresource such as `ephemeralcontainers`; `None` for the object itself.
    pub sub_resource: Option<String>,
    /// Name of the object; empty with `generateName`, since the API server has not chosen one.
    pub name: String,
    /// Namespace of the request.
    pub namespace: String,
    /// The verb.
    pub operation: Operation,
    /// The user of the request.
    pub user: User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The object as it would be stored; `None` on DELETE.
    pub object: Option<Box<RawValue>>,
    /// The object as it is stored; present on UPDATE and DELETE.
    pub old_object: Option<Box<RawValue>>,
}

impl Review {
    /// Bytes of what rules may read of it, with its object in this form.
    pub fn bytes_with(&self, object: &RawValue) -> usize {
        object.get().len().saturating_add(self.user.list_bytes())
    }
}
