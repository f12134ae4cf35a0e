//! Tokens of JSON pointers (RFC 6901). Records say by pointers what is masked in them, rules find values by them, and a described kind
//! says by one where its pod template is.

/// Appends a key as a token; `~` and `/` in it are written `~0` and `~1` (section 3).
pub fn append(pointer: &mut String, key: &str) {
    pointer.push('/');
    if !key.bytes().any(|byte| matches!(byte, b'~' | b'/')) {
        return pointer.push_str(key);
    }
    for character in key.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// The key that a token stands for (section 4). A `~` before anything else stays as it is.
pub fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_parts_tokens_is_escaped() {
        let mut pointer = String::from("/metadata");
        for key in ["a/b", "~1", "plain", ""] {
            append(&mut pointer, key);
        }
        assert_eq!(pointer, "/metadata/a~1b/~01/plain/");
    }

    #[test]
    fn a_token_is_read_once() {
        for (token, read) in [("a", "a"), ("~1~0", "/~"), ("~01", "~1"), ("~2~", "~2~"), ("", "")] {
            assert_eq!(unescaped(token), read, "{token}");
        }
    }

    proptest! {
        #[test]
        fn every_key_is_read_back(written in "[a~/01é]{0,8}") {
            let mut pointer = String::new();
            append(&mut pointer, &written);
            prop_assert_eq!(unescaped(pointer.strip_prefix('/').unwrap()), written);
        }
    }
}
