//! The annotations that ask crun and youki for a Wasm handler.

use std::collections::BTreeMap;

/// Annotations by which crun and youki choose a handler (`crun:src/libcrun/custom-handler.c`,
/// `handler_by_name` and `handler-utils.c`), on a manifest or on a pod.
const CRUN_ANNOTATIONS: [&str; 2] = ["module.wasm.image/variant", "run.oci.handler"];
/// Their values that mean Wasm.
const CRUN_VALUES: [&str; 9] =
    ["compat", "compat-smart", "wasm", "wasm-smart", "wasmedge", "wasmer", "wasmtime", "wamr", "spin"];

/// The values of the annotations that choose a handler, as they are written: a build of crun may have other handlers than those
/// that are known here, and it heeds the one annotation before the other.
pub fn handlers(annotations: &BTreeMap<String, String>) -> [Option<&str>; 2] {
    CRUN_ANNOTATIONS.map(|key| annotations.get(key).map(String::as_str))
}

/// The same, without the values that are not known to mean Wasm.
pub fn wasm_handlers(annotations: &BTreeMap<String, String>) -> [Option<&str>; 2] {
    handlers(annotations).map(|value| value.filter(|value| CRUN_VALUES.contains(value)))
}

/// The annotation that asks crun or youki for a Wasm handler, if one does.
pub fn crun_annotation(annotations: &BTreeMap<String, String>) -> Option<(&'static str, &str)> {
    CRUN_ANNOTATIONS.into_iter().find_map(|key| {
        let value = annotations.get(key).filter(|value| CRUN_VALUES.contains(&value.as_str()))?;
        Some((key, value.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// crun heeds `run.oci.handler` first, whatever the other one says.
    #[test]
    fn no_value_of_either_annotation_hides_another() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
        };
        let variant = ("module.wasm.image/variant", "compat-smart");
        let before = of(&[variant]);
        for handler in ["wasmedge", "dotnet"] {
            let after = of(&[variant, ("run.oci.handler", handler)]);
            assert_eq!(crun_annotation(&before), crun_annotation(&after), "the first known one");
            assert_ne!(handlers(&before), handlers(&after));
            assert_eq!(wasm_handlers(&before) == wasm_handlers(&after), handler == "dotnet");
        }
        assert_eq!(handlers(&of(&[("another", "wasm")])), [None, None]);
    }
}
