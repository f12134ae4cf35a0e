//! JSON pointers (RFC 6901), as OPA reads them.

use crate::rego::value::Value;

/// The key that a token stands for (section 4).
pub(super) fn key(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The keys of a path with slashes. How many stand at its beginning means nothing, and an empty one is that of the whole document
/// (`open-policy-agent/opa:v1/topdown/json.go`, `parsePath`).
pub(super) fn keys(path: &str) -> Vec<Value> {
    if path.is_empty() {
        return Vec::new();
    }
    path.trim_start_matches('/').split('/').map(|token| Value::String(key(token))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_once() {
        for (token, read) in [("a", "a"), ("~1~0", "/~"), ("~01", "~1"), ("~2~", "~2~"), ("", "")] {
            assert_eq!(key(token), read, "{token}");
        }
    }

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
