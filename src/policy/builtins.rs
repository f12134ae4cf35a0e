//! Built-in functions of Rego that the host provides to a compiled module. The others are compiled into the module
//! (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`).

/// Names of the functions that rules may call, sorted. opa-wasm (`opa-wasm:src/builtins/impls`) has more, which are left
/// out so that a bundle that needs one is refused when it is loaded:
/// - a function that is "not implemented" would otherwise fail only when a rule first calls it;
/// - some return other results than OPA for valid arguments, so a rule would pass its tests and decide differently
///   here: `units.parse` ("1.5" is 2), `time.add_date` (a month after 31 January), `urlquery.decode` (`+`),
///   `urlquery.encode` and `urlquery.encode_object` (`*` and `~`);
/// - `opa.runtime` would give the gate's environment to rules, and through their messages to every user who may create
///   a pod.
pub const HOST_FUNCTIONS: &[&str] = &[
    "base64url.encode_no_pad",
    "crypto.hmac.md5",
    "crypto.hmac.sha1",
    "crypto.hmac.sha256",
    "crypto.hmac.sha512",
    "crypto.md5",
    "crypto.sha1",
    "crypto.sha256",
    "hex.decode",
    "hex.encode",
    "rand.intn",
    "semver.compare",
    "semver.is_valid",
    "sprintf",
    "time.clock",
    "time.date",
    "time.now_ns",
    "time.parse_duration_ns",
    "time.parse_rfc3339_ns",
    "time.weekday",
    "units.parse_bytes",
    "urlquery.decode_object",
];

/// Whether rules may call the function.
pub(super) fn is_supplied(name: &str) -> bool {
    HOST_FUNCTIONS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_so_that_they_can_be_found() {
        assert!(HOST_FUNCTIONS.is_sorted());
        assert!(HOST_FUNCTIONS.iter().all(|name| is_supplied(name)));
        assert!(!is_supplied("http.send") && !is_supplied("opa.runtime"));
    }
}
