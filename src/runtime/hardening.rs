//! Which rights of a pod the gate takes away where no grant covers them.

use serde::{Deserialize, Serialize};

/// What to do about one field of a pod spec that hands more to its programs than the grants allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HardeningMode {
    /// Leave the field as it is.
    Off,
    /// Fill it in where a person left it out.
    Fill,
}

/// The fields that are filled in on pods of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hardening {
    /// `automountServiceAccountToken: false` where a program could read the token, no grant covers it, and the rules
    /// would refuse the pod for it.
    pub automount_service_account_token: HardeningMode,
    /// `readOnly: true` on mounts of which the grants allow reading only, where the program cannot write, or the rules
    /// would refuse the pod because it can.
    pub read_only: HardeningMode,
    /// `enableServiceLinks: false` where no grant allows a variable.
    pub enable_service_links: HardeningMode,
}

impl Hardening {
    /// Whether files are taken from pods, which depends on what the rules would refuse.
    pub fn takes_files(&self) -> bool {
        [self.automount_service_account_token, self.read_only].contains(&HardeningMode::Fill)
    }
}

/// The first two take nothing from a pod that would run with it. Service links are allowed without a grant, so taking them
/// away may break a program that runs; and on a pod the API server has written `true` where a person wrote nothing.
impl Default for Hardening {
    fn default() -> Self {
        Self {
            automount_service_account_token: HardeningMode::Fill,
            read_only: HardeningMode::Fill,
            enable_service_links: HardeningMode::Off,
        }
    }
}
