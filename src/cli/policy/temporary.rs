//! A folder for the files of a command, and the folders that commands have left which were killed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use tempfile::TempDir;

/// Begins the names of such folders.
const PREFIX: &str = "wasmgate-policy-";
/// A folder that is not in use is removed when nothing was put into it for so long.
const ABANDONED: Duration = Duration::from_hours(24);
/// Most entries of the system's folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// A folder that ends with its owner.
pub struct Temporary {
    folder: TempDir,
    /// The kernel gives it back however the process ends, so it tells folders in use from those that were left.
    _lock: Option<File>,
}

impl Temporary {
    /// Makes one for this user alone, and removes what commands of the same user have left here.
    pub fn below(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent, ABANDONED);
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
        // Where a file system knows no locks, nothing is ever found to be left.
        let lock = File::open(folder.path()).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn remove_abandoned(parent: &Path, age: Duration) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.take(MOST_ENTRIES).flatten() {
        let is_named_so = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_named_so && let Some(_lock) = abandoned(&entry.path(), age) {
            // It follows no link, here and below. What stays does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of a folder that was left; `None` where it is another user's, in use, or not that old.
fn abandoned(folder: &Path, age: Duration) -> Option<File> {
    // Other users may write here too: a link may lead to a folder of this user's.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(folder).ok()?;
    let of = opened.metadata().ok()?;
    let is_own = of.uid() == rustix::process::geteuid().as_raw();
    let is_old = of.modified().ok()?.elapsed().is_ok_and(|found| found >= age);
    (is_own && is_old && opened.try_lock().is_ok()).then_some(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_for_its_user_alone_and_ends_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let temporary = Temporary::below(parent.path()).unwrap();
        let path = temporary.path().to_path_buf();
        assert!(path.starts_with(parent.path()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::write(path.join("a"), "").unwrap();
        drop(temporary);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_left_is_removed_and_neither_what_is_in_use_nor_where_a_link_leads() {
        let (parent, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| parent.path().join(name);
        fs::create_dir_all(at("wasmgate-policy-left/copied")).unwrap();
        fs::write(at("wasmgate-policy-left/copied/a.rego"), "").unwrap();
        fs::create_dir(at("another")).unwrap();
        fs::write(at("wasmgate-policy-file"), "").unwrap();
        fs::write(elsewhere.path().join("a"), "").unwrap();
        symlink(elsewhere.path(), at("wasmgate-policy-link")).unwrap();
        symlink(elsewhere.path(), at("wasmgate-policy-left/link")).unwrap();
        let used = Temporary::below(parent.path()).unwrap();
        assert!(at("wasmgate-policy-left").exists(), "it is not old yet");
        remove_abandoned(parent.path(), Duration::ZERO);
        assert!(!at("wasmgate-policy-left").exists());
        assert!(elsewhere.path().join("a").exists() && at("wasmgate-policy-link").is_symlink());
        assert!(at("another").exists() && at("wasmgate-policy-file").exists() && used.path().exists());
    }
}
