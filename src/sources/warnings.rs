//! What does not protect a bundle although one may think so.

use crate::policy::Bundle;
use crate::policy::signature::SignatureState;

/// The sentence about a kept bundle with this sequence, after which one with a higher sequence was in force.
pub(super) fn behind(sequence: Option<u64>, newest: u64) -> String {
    let own = sequence.map_or_else(|| "it has no number".into(), |own| format!("its number is {own}"));
    format!(
        "it is not the last one that was in force: {own}, and {newest} was in force after it, which could not be kept on disk; it \
         stays until its source has {newest} or a higher one"
    )
}

/// The sentences about a bundle of this origin, for the status, the log and `check`.
pub(super) fn of(origin: SignatureState, bundle: &Bundle) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |warning: &str| warnings.push(warning.to_string());
    match origin {
        SignatureState::Unsigned => {}
        SignatureState::Exempt => {
            warn(
                "it is not signed, and the gate would refuse it: it is taken here since nothing is admitted by it",
            );
        }
        SignatureState::Unverified => {
            warn("it is signed, and nothing verifies it: there is no key in `policies.keys`");
        }
        SignatureState::Signed { is_bound } => {
            if !is_bound {
                warn(
                    "its signature is bound to nothing: every bundle that its key has signed would be taken in its place; name \
                     `keys` or `scope` for it in `policies.bundles`, or write `metadata.wasmgate.name` in its `.manifest`",
                );
            }
            if bundle.sequence.is_none() {
                warn(
                    "it has no number, so an older one with a valid signature would be taken again; write \
                     `metadata.wasmgate.sequence` in its `.manifest`, higher each time",
                );
            }
        }
    }
    warnings
}
