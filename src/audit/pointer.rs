//! JSON pointers (RFC 6901), by which a record says what is masked in it.

/// Appends a key as a token; `~` and `/` in it are written `~0` and `~1` (section 3).
pub(super) fn append(pointer: &mut String, key: &str) {
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

/// The key that a token stands for (section 4).
pub(crate) fn unescaped(token: &str) -> String {
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

    proptest! {
        #[test]
        fn every_key_is_read_back(written in "[a~/01é]{0,8}") {
            let mut pointer = String::new();
            append(&mut pointer, &written);
            prop_assert_eq!(unescaped(pointer.strip_prefix('/').unwrap()), written);
        }
    }
}
