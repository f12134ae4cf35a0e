//! The annotations that ask crun and youki for a Wasm handler.

use std::collections::BTreeMap;

/// Annotations by which crun and youki choose a handler (`crun:src/libcrun/custom-handler.c`,
/// `handler_by_name` and `handler-utils.c`), on a manifest or on a pod.
const CRUN_ANNOTATIONS: [&str; 2] = ["module.wasm.image/variant", "run.oci.handler"];
/// Their values that mean Wasm.
const CRUN_VALUES: [&str; 9] =
    ["compat", "compat-smart", "wasm", "wasm-smart", "wasmedge", "wasmer", "wasmtime", "wamr", "spin"];

/// The annotation that asks crun or youki for a Wasm handler, if one does.
pub fn crun_annotation(annotations: &BTreeMap<String, String>) -> Option<(&'static str, &str)> {
    CRUN_ANNOTATIONS.into_iter().find_map(|key| {
        let value = annotations.get(key).filter(|value| CRUN_VALUES.contains(&value.as_str()))?;
        Some((key, value.as_str()))
    })
}
