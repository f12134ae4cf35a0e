//! What METADATA says of a rule.

use serde::Serialize;

/// What METADATA says of a rule (<https://www.openpolicyagent.org/docs/policy-language#annotations>).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Annotations {
    /// `title`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `description`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `custom.category`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// `custom.severity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// `custom.remedy`, which a violation has beside its message.
    #[serde(skip)]
    pub remedy: Option<String>,
}

impl Annotations {
    /// Whether there is anything but a remedy.
    pub(super) fn says_more_than_a_remedy(&self) -> bool {
        let Self { title, description, category, severity, remedy: _ } = self;
        [title, description, category, severity].into_iter().any(Option::is_some)
    }
}
