//! Paths as text.

/// A path in order: absolute, without `.`, `..`, doubled slashes or one at the end. A relative path starts at the root,
/// and `..` stops there, as in a root file system. Links are not followed (`image::path::resolve` does that). Cleaning again
/// changes nothing.
pub fn clean_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}
