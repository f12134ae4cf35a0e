//! Absolute paths as trees of whole segments.

/// Whether the tree at `narrow` is within the tree at `wide`: `/data` covers `/data/in` but not `/database`.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let mut below = segments(narrow);
    segments(wide).all(|segment| below.next() == Some(segment))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::covers;
    use proptest::prelude::*;

    #[test]
    fn trees_end_at_whole_segments() {
        for (wide, narrow) in
            [("/", "/"), ("/", "/data"), ("/data", "/data"), ("/data/", "/data"), ("/data", "/data/in")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("/data", "/"), ("/data", "/database"), ("/data/in", "/data"), ("/a", "/b/a")]
        {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    proptest! {
        #[test]
        fn coverage_is_reflexive(path in any::<String>()) {
            prop_assert!(covers(&path, &path));
        }

        #[test]
        fn coverage_is_transitive(a in "(/[ab]){0,3}", b in "(/[ab]){0,3}", c in "(/[ab]){0,3}") {
            prop_assert!(!(covers(&a, &b) && covers(&b, &c)) || covers(&a, &c));
        }
    }
}
