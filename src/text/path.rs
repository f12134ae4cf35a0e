//! Paths as text.

/// A path in order: absolute, without `.`, `..`, doubled slashes or one at the end. A relative path starts at the root,
/// and `..` stops there, as in a root file system. Links are not followed (`image::path::resolve` does that). Cleaning again
/// changes nothing.
pub fn clean_path(path: &str) -> String {
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
