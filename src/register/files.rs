//! Writes a certificate and its key for the server, in the way in which the kubelet writes a Secret volume: into a new
//! folder, with one rename that replaces both files at once (`kubernetes:pkg/volume/util/atomic_writer.go`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::certs::Error;
use crate::files::replace_link;

/// The link that is renamed.
const CURRENT: &str = "..data";

/// Replaces the files in `dir` atomically. Only this user can read them.
pub fn put(dir: &Path, files: &[(&str, &[u8])]) -> Result<(), Error> {
    write(dir, files).map_err(|source| Error::WriteFile { file: dir.to_owned(), source })
}

fn write(dir: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    let private = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    private(dir)?;
    let name = format!("..{}", uuid::Uuid::new_v4().simple());
    let folder = dir.join(&name);
    private(&folder)?;
    for (file, bytes) in files {
        let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(file))?;
        open.write_all(bytes)?;
        open.sync_all()?;
    }
    let old = fs::read_link(dir.join(CURRENT)).ok();
    replace_link(&dir.join(CURRENT), Path::new(&name))?;
    for (file, _) in files {
        link(dir, file)?;
    }
    clear(dir, &name, old.as_deref());
    Ok(())
}

/// Makes `tls.crt` a link to `..data/tls.crt`, unless it is one.
fn link(dir: &Path, file: &str) -> io::Result<()> {
    let (path, target) = (dir.join(file), PathBuf::from(CURRENT).join(file));
    if fs::read_link(&path).is_ok_and(|to| to == target) {
        return Ok(());
    }
    replace_link(&path, &target)
}

/// Removes the folders of earlier writes; a reader with an open file can still read it.
fn clear(dir: &Path, name: &str, old: Option<&Path>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let ours =
            found.to_str().is_some_and(|found| found.starts_with("..") && found != CURRENT && found != name);
        if ours || old.is_some_and(|old| old.as_os_str() == found) {
            // A key that could not be removed is still private; the next write tries again.
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_change_by_one_rename_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certs");
        for round in ["one", "two", "three"] {
            put(&dir, &[("tls.crt", round.as_bytes()), ("tls.key", round.as_bytes())]).unwrap();
            for file in ["tls.crt", "tls.key"] {
                assert_eq!(fs::read_to_string(dir.join(file)).unwrap(), round);
                assert_eq!(fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777, 0o600);
            }
            let found = names(&dir);
            assert_eq!(found.len(), 4, "{found:?}");
            let target = fs::read_link(dir.join(CURRENT)).unwrap();
            assert!(found.contains(&target.to_str().unwrap().to_owned()));
        }
    }

    #[test]
    fn a_file_that_stands_in_the_way_is_replaced_and_a_folder_that_is_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tls.crt"), "old").unwrap();
        fs::create_dir(dir.path().join("..left")).unwrap();
        put(dir.path(), &[("tls.crt", b"new")]).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("tls.crt")).unwrap(), "new");
        assert!(!dir.path().join("..left").exists());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(put(&dir.path().join("file"), &[]), Err(Error::WriteFile { .. })));
    }
}
