//! The functions of Rego that a compiled module asks its host for. The others are compiled into the module
//! (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`).

/// Those that work, sorted. opa-wasm knows more names; what it answers with "not implemented"
/// (`opa-wasm:src/builtins/impls`) is left out, so that a rule that needs it is refused when it is loaded and not
/// when it is first reached. `opa.runtime` works there and is left out too: it would hand the gate's environment to
/// rules, and through their messages to everybody who may create a pod.
pub(super) const SUPPLIED: &[&str] = &[
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
    "time.add_date",
    "time.clock",
    "time.date",
    "time.now_ns",
    "time.parse_duration_ns",
    "time.parse_rfc3339_ns",
    "time.weekday",
    "units.parse",
    "units.parse_bytes",
    "urlquery.decode",
    "urlquery.decode_object",
    "urlquery.encode",
    "urlquery.encode_object",
];

/// Whether a rule may call it.
pub(super) fn is_supplied(name: &str) -> bool {
    SUPPLIED.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_so_that_they_can_be_found() {
        assert!(SUPPLIED.is_sorted());
        assert!(SUPPLIED.iter().all(|name| is_supplied(name)));
        assert!(!is_supplied("http.send") && !is_supplied("opa.runtime"));
    }
}
