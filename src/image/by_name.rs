//! The files of an image by the last part of their paths. A runtime that searches for a name asks for it in every folder,
//! for each container; a walk through all files each time would let one image slow down every review.

use std::sync::OnceLock;

use super::{FileClass, ImageFacts, path};

/// Positions in [`ImageFacts::files`], sorted by the last part of the path. Made at the first search and never changed, as
/// the facts themselves. It follows from them, so that it is not compared, stored or copied.
#[derive(Debug, Default)]
pub struct ByName(OnceLock<Vec<u32>>);

impl Clone for ByName {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for ByName {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ByName {}

impl ImageFacts {
    /// The paths of all known files with this name, in any folder.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let sorted = self.sorted_by_name();
        let first = sorted.partition_point(|position| self.name_at(*position) < name);
        let after = sorted.partition_point(|position| self.name_at(*position) <= name);
        sorted.get(first..after).unwrap_or_default().iter().filter_map(|position| self.path_at(*position))
    }

    /// Sorts the files by name for later searches, which would do it themselves. That takes some hundred milliseconds in the largest image.
    pub fn sort_by_name(&self) {
        self.sorted_by_name();
    }

    /// Whether the files are sorted by name already.
    pub fn is_sorted_by_name(&self) -> bool {
        self.by_name.0.get().is_some()
    }

    fn sorted_by_name(&self) -> &[u32] {
        self.by_name.0.get_or_init(|| {
            let mut sorted: Vec<u32> = (0..).take(self.files.len()).collect();
            sorted.sort_by(|one, other| self.name_at(*one).cmp(self.name_at(*other)));
            sorted
        })
    }

    fn name_at(&self, position: u32) -> &str {
        self.path_at(position).map_or("", |path| path::split(path).1)
    }

    fn path_at(&self, position: u32) -> Option<&str> {
        let file: Option<&(String, FileClass)> = self.files.get(usize::try_from(position).ok()?);
        file.map(|(path, _)| path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn files_are_found_by_name_in_every_folder_and_no_others() {
        let digest = Digest::of(b"");
        let mut facts = ImageFacts::blank(&digest, &digest);
        let paths = ["/a/app", "/a/app/b", "/app", "/apple/apps", "/b/app", "/z"];
        facts.files = paths.iter().map(|path| ((*path).to_string(), FileClass::Wasm)).collect();
        assert!(!facts.is_sorted_by_name());
        assert_eq!(facts.named("app").collect::<Vec<_>>(), ["/a/app", "/app", "/b/app"]);
        assert!(facts.is_sorted_by_name() && !facts.clone().is_sorted_by_name());
        assert_eq!(facts.named("z").count(), 1);
        assert_eq!(facts.named("a").count() + facts.named("").count(), 0);
    }
}
