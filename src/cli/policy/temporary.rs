//! A folder for the files of a command, and the folders that commands have left which were killed.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use tempfile::TempDir;
use uuid::Uuid;

/// Begins the names of such folders. The rest is a UUID, which no folder has that a user has named.
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
        let name = format!("{PREFIX}{}", Uuid::new_v4());
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(&name).rand_bytes(0).permissions(Permissions::from_mode(0o700));
        let folder = builder.tempdir_in(parent)?;
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
        if is_named_so(&entry.file_name())
            && let Some(_lock) = abandoned(&entry.path(), age)
        {
            // It follows no link, here and below. What stays does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_named_so(name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|rest| Uuid::try_parse(rest).is_ok())
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
        let ours = || at(&format!("{PREFIX}{}", Uuid::new_v4()));
        let (left, file, link) = (ours(), ours(), ours());
        fs::create_dir_all(left.join("copied")).unwrap();
        fs::write(left.join("copied/a.rego"), "").unwrap();
        fs::create_dir(at("wasmgate-policy-backup")).unwrap();
        fs::write(&file, "").unwrap();
        fs::write(elsewhere.path().join("a"), "").unwrap();
        symlink(elsewhere.path(), &link).unwrap();
        symlink(elsewhere.path(), left.join("link")).unwrap();
        let used = Temporary::below(parent.path()).unwrap();
        assert!(is_named_so(used.path().file_name().unwrap()));
        assert!(left.exists(), "it is not old yet");
        remove_abandoned(parent.path(), Duration::ZERO);
        assert!(!left.exists());
        assert!(elsewhere.path().join("a").exists() && link.is_symlink() && file.exists());
        assert!(used.path().exists());
        assert!(at("wasmgate-policy-backup").exists(), "a user has made it");
    }
}
