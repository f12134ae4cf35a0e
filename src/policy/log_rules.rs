//! Entry points of bundles that judge nothing: the rules for the log.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::engine::Stop;
use super::set::{LoadedBundle, PolicySet};

impl PolicySet {
    /// Whether a bundle has this entry point, and is not in the shadow.
    pub(super) fn has(&self, entrypoint: &str) -> bool {
        self.having(entrypoint).next().is_some()
    }

    fn having(&self, entrypoint: &str) -> impl Iterator<Item = (&Arc<LoadedBundle>, i32)> {
        let in_force = self.loaded.iter().filter(|loaded| !loaded.program.bundle.is_shadow);
        in_force.filter_map(move |loaded| Some((loaded, *loaded.program.entrypoints.get(entrypoint)?)))
    }

    /// What an entry point of each bundle that has it says of an input; nothing of one where it is undefined. Blocks until
    /// all have run, within the limits of one evaluation. The error names the bundle, and is for people to read.
    pub fn ask_all(&self, entrypoint: &str, input: &str) -> Result<Vec<Value>, String> {
        let (stop, _guard) = Stop::at(Instant::now() + self.limits.time);
        let mut said = Vec::new();
        for (loaded, number) in self.having(entrypoint) {
            let named = |reason| format!("bundle `{}`: {reason}", loaded.program.bundle.name);
            let (mut result_set, _): (Value, _) =
                loaded.result_set(number, input, self.limits, &stop).map_err(named)?;
            said.extend(result_set.pointer_mut("/0/result").map(Value::take));
        }
        Ok(said)
    }
}
