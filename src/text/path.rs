//! Paths as text.

/// A path in order: absolute, without `.`, `..`, doubled slashes or one at the end. A relative path starts at the root,
/// and `..` stops there, as in a root file system. Links are not followed (`image::path::resolve` does that). Cleaning again
/// changes nothing.
pub fn clean_path(path: &str) -> String {
    // Most paths are clean as they are written.
    let may_change = path.as_bytes().windows(2).any(|pair| matches!(pair, [b'/', b'/' | b'.']));
    if path.starts_with('/') && !path.ends_with('/') && !may_change {
        return path.to_owned();
    }
    let mut clean = String::with_capacity(path.len().saturating_add(1));
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => clean.truncate(clean.rfind('/').unwrap_or_default()),
            name => {
                clean.push('/');
                clean.push_str(name);
            }
        }
    }
    if clean.is_empty() { "/".into() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::clean_path;

    #[test]
    fn a_path_is_cleaned_whatever_is_out_of_order_in_it_and_else_stays_as_it_is() {
        for (written, clean) in [
            ("/a/b", "/a/b"),
            ("/.a/..b/c.", "/.a/..b/c."),
            ("/a/...", "/a/..."),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/../a", "/a"),
            ("/a/", "/a"),
            ("/", "/"),
            ("", "/"),
            ("a/b", "/a/b"),
            ("..", "/"),
        ] {
            assert_eq!(clean_path(written), clean, "{written}");
            assert_eq!(clean_path(clean), clean, "{written}");
        }
    }
}
