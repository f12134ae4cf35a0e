//! Files that are replaced whole: a reader sees the former content or the new one, and after a crash it is one of the two. And how it is told
//! that one was replaced, and how files of others are read.

mod read;

pub use read::{
    LARGEST_CREDENTIAL, read, read_given, read_or_wait, read_stream, read_text, text, unless_too_large,
};

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

/// Begins the names of what is written beside a place and moved there. What follows is random: several containers that share
/// a volume may all be process 1. Names with two dots are no files of a bundle, as in the volumes of the kubelet.
const DRAFT: &str = "..draft-";

/// Puts a file with this content in the place of whatever is there, when it is on the disk. The mode is as for `open(2)`, and
/// holds from the beginning.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let mut draft = tempfile::Builder::new()
        .prefix(DRAFT)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    // What is not moved is removed: it may be a key.
    draft.persist(path).map_err(|failed| failed.error)?;
    on_disk(folder)
}

/// Puts a link to `target` in the place of whatever is there.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    let draft = tempfile::Builder::new().prefix(DRAFT).make_in(folder, |draft| symlink(target, draft))?;
    draft.persist(path).map_err(|failed| failed.error)?;
    on_disk(folder)
}

/// What changes when a file is written or replaced, or a link above it leads elsewhere.
pub fn fingerprint(path: &Path) -> io::Result<String> {
    let of = fs::metadata(path)?;
    let times = (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    Ok(format!("{} {} {} {times:?}", of.dev(), of.ino(), of.size()))
}

/// Removes what processes that ended while they wrote have left in a folder: drafts that are at least this old.
pub fn remove_drafts(folder: &Path, age: Duration) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_draft = entry.file_name().to_str().is_some_and(|name| name.starts_with(DRAFT));
        let is_old = || entry.metadata()?.modified()?.elapsed().map_err(io::Error::other);
        if is_draft && is_old().is_ok_and(|found| found >= age) {
            // Another process may have removed it.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Waits until the names in a folder are on the disk. Some file systems do that by themselves and know no such call.
fn on_disk(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let open = fs::File::open(&path).unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(io::read_to_string(open).unwrap(), "old", "who reads the former file reads it to its end");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_link_is_replaced_by_another_one_and_by_a_file_which_leaves_what_it_led_to() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("one"), "1").unwrap();
        fs::write(at("two"), "2").unwrap();
        for target in ["one", "two"] {
            replace_link(&at("link"), Path::new(target)).unwrap();
            assert_eq!(fs::read_link(at("link")).unwrap(), Path::new(target));
        }
        replace(&at("link"), b"3", 0o644).unwrap();
        assert_eq!(fs::read(at("two")).unwrap(), b"2");
        assert_eq!(names(folder.path()), ["link", "one", "two"]);
    }

    #[test]
    fn a_file_that_was_written_or_replaced_or_to_which_a_link_leads_anew_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a"), "same").unwrap();
        }
        replace_link(&at("..data"), Path::new("..1")).unwrap();
        symlink("..data/a", at("a")).unwrap();
        let found = || fingerprint(&at("a")).unwrap();
        let first = found();
        assert_eq!(found(), first);
        replace_link(&at("..data"), Path::new("..2")).unwrap();
        let second = found();
        assert_ne!(second, first);
        fs::write(at("..2/a"), "longer").unwrap();
        let third = found();
        assert_ne!(third, second);
        replace(&at("..2/a"), b"longer", 0o644).unwrap();
        assert_ne!(found(), third);
        assert!(fingerprint(&at("none")).is_err());
    }

    #[test]
    fn what_cannot_be_put_in_its_place_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir_all(path.join("b")).unwrap();
        assert!(replace(&path, b"new", 0o644).is_err());
        assert!(replace_link(&path, Path::new("b")).is_err());
        assert_eq!(names(folder.path()), ["a"]);
        assert!(replace(&folder.path().join("none/a"), b"new", 0o644).is_err());
    }

    #[test]
    fn only_drafts_that_are_old_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["..draft-x", "..data", "a"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_drafts(folder.path(), Duration::from_hours(1)).unwrap();
        assert_eq!(names(folder.path()), ["..data", "..draft-x", "a"]);
        remove_drafts(folder.path(), Duration::ZERO).unwrap();
        assert_eq!(names(folder.path()), ["..data", "a"]);
    }

    #[test]
    fn many_writers_of_one_place_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..10 {
                        replace(path, &vec![writer; 10_000], 0o644).unwrap();
                    }
                });
            }
        });
        let found = fs::read(&path).unwrap();
        assert!(found.len() == 10_000 && found.iter().all(|byte| *byte == found[0]));
        assert_eq!(names(folder.path()), ["a"]);
    }
}
