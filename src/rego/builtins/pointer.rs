//! Paths with slashes, as OPA reads them: their tokens are those of JSON pointers (RFC 6901).

use crate::rego::value::Value;
use crate::text::pointer::unescaped;

/// The keys of a path with slashes. How many stand at its beginning means nothing, and an empty one is that of the whole document
/// (`open-policy-agent/opa:v1/topdown/json.go`, `parsePath`).
pub(super) fn keys(path: &str) -> Vec<Value> {
    if path.is_empty() {
        return Vec::new();
    }
    path.trim_start_matches('/').split('/').map(|token| Value::String(unescaped(token))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_part_keys_except_at_the_beginning() {
        for (path, read) in
            [("/", &[""][..]), ("", &[]), ("a/b~1c", &["a", "b/c"]), ("//a//b/", &["a", "", "b", ""])]
        {
            let read: Vec<_> = read.iter().map(|key| Value::String((*key).into())).collect();
            assert_eq!(keys(path), read, "{path}");
        }
    }
}
