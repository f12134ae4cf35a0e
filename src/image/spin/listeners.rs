//! What the Spin shim connects to for the messages of `redis` and `mqtt` triggers. The hosts that a component may reach do not
//! limit it (`spin:crates/trigger-redis/src/lib.rs`, `run`; `spin-trigger-mqtt:src/lib.rs`, `resolve_variables`, `run_listener`).

use std::collections::BTreeSet;

use super::at::At;
use super::variables::{MAX_HANDED, check_variable, template_variables};
use crate::image::SpinListener;
use crate::image::malformed::Malformed;

/// The triggers for which the shim connects to an address of the application.
const CONNECTING: [&str; 2] = ["redis", "mqtt"];
/// The one whose common address is read for templates twice (`spin:crates/trigger-redis/src/lib.rs`, `run`).
const TWICE: &str = "redis";
/// Most bytes of an address: more than a grant can write.
const MAX_ADDRESS: usize = 4096;
/// Most bytes in which variables are looked for. What the triggers of a type have in common is gone through for each of them.
const MAX_SCANNED: usize = 4 << 20;

/// The connections of an application, as they are read.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    found: Vec<SpinListener>,
    /// How many there are, with the variables in them.
    count: usize,
    /// Bytes in which variables were looked for.
    scanned: usize,
}

impl Listeners {
    /// Adds what one trigger connects to. `defaults` is what all triggers of its type have in common. Without an address the shim
    /// does not start the application.
    pub fn add(
        &mut self,
        kind: &str,
        component: Option<&str>,
        config: Option<&At<'_>>,
        defaults: &[At<'_>],
    ) -> Result<(), Malformed> {
        if !CONNECTING.contains(&kind) {
            return Ok(());
        }
        let own = config.and_then(address);
        let Some(address) = own.or_else(|| defaults.iter().find_map(address)) else { return Ok(()) };
        if address.len() > MAX_ADDRESS {
            let length = address.len();
            return Err(Malformed::new(format!(
                "a {kind} trigger has an address of {length} bytes; at most {MAX_ADDRESS} are read"
            )));
        }
        let mut variables = BTreeSet::new();
        for part in config.into_iter().chain(defaults) {
            self.sent(part, own.is_some(), &mut variables)?;
        }
        let (trigger, address) = (kind.to_string(), address.to_string());
        let component = component.map(String::from);
        let twice = kind == TWICE && own.is_none();
        let variables: Vec<String> = variables.into_iter().collect();
        self.count += 1 + variables.len();
        self.found.push(SpinListener { trigger, component, address, variables, twice });
        self.check(0)
    }

    /// The variables in all texts of a trigger: what it does not use today may be used by a later version. The common address is not
    /// sent where the trigger has one of its own.
    fn sent(
        &mut self,
        at: &At<'_>,
        has_own: bool,
        variables: &mut BTreeSet<String>,
    ) -> Result<(), Malformed> {
        let is_other = |key: &str, text: &str| has_own && key == "address" && address(at) != Some(text);
        for (key, value) in at.map()? {
            let bytes = key.len().saturating_add(value.as_str().map_or(1, str::len));
            self.scanned = self.scanned.saturating_add(bytes);
            if self.scanned > MAX_SCANNED {
                let most = MAX_SCANNED >> 20;
                return Err(Malformed::new(format!(
                    "its triggers have more than {most} MiB of text, with what they have in common; shorten it"
                )));
            }
            let Some(text) = value.as_str().filter(|text| !is_other(key, text)) else { continue };
            variables.extend(template_variables(text));
            if variables.len() > MAX_HANDED {
                return Err(Malformed::new(format!(
                    "a trigger reads more than {MAX_HANDED} variables; use fewer"
                )));
            }
        }
        Ok(())
    }

    /// All of them, if there are not too many beside what the components are handed.
    pub fn checked(self, handed: usize) -> Result<Vec<SpinListener>, Malformed> {
        self.check(handed)?;
        for name in self.found.iter().flat_map(|listener| &listener.variables) {
            check_variable(name)?;
        }
        Ok(self.found)
    }

    fn check(&self, handed: usize) -> Result<(), Malformed> {
        let count = self.count.saturating_add(handed);
        if count > MAX_HANDED {
            return Err(Malformed::new(format!(
                "its triggers connect to {count} addresses with variables in them, and what its components are handed; at most {MAX_HANDED} are read"
            )));
        }
        Ok(())
    }
}

fn address<'a>(at: &At<'a>) -> Option<&'a str> {
    at.value.get("address")?.as_str()
}
