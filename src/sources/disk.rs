//! Files and folders. They are looked at again and again, since notifications of the kernel come neither from network file
//! systems nor reliably through the links by which the kubelet replaces a mounted `ConfigMap`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::Error;
use super::fetched::Fetched;
use crate::files;
use crate::policy::{self, Contents, contents};

/// Time between two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// A file or folder.
#[derive(Debug)]
pub(super) struct Disk {
    bundle: String,
    path: PathBuf,
    /// What was seen last, and is loaded when it is seen again: files are not written at once.
    seen: String,
    /// What cannot be read as a bundle, so that it is not read again and again.
    bad: String,
}

impl Disk {
    pub const fn new(bundle: String, path: PathBuf) -> Self {
        Self { bundle, path, seen: String::new(), bad: String::new() }
    }

    /// The first bundle is loaded as it is; a change only when it has come to rest, also where it is tried again without a version.
    pub async fn fetch(&mut self, version: &str) -> Result<Fetched, Error> {
        let (bundle, path) = (self.bundle.clone(), self.path.clone());
        let now =
            spawn_blocking(move || fingerprint(&bundle, &path)).await.map_err(|_| self.changing())??;
        let was = std::mem::replace(&mut self.seen, now.clone());
        if now == version {
            return Ok(Fetched::Unchanged);
        }
        let (is_asked_anew, is_first) = (version.is_empty(), was.is_empty());
        let is_at_rest = now == was || (is_asked_anew && is_first);
        if !is_at_rest || (!is_asked_anew && now == self.bad) {
            return Ok(Fetched::Waiting);
        }
        let (bundle, path) = (self.bundle.clone(), self.path.clone());
        let read = spawn_blocking(move || Ok((Contents::load(&bundle, &path), fingerprint(&bundle, &path)?)));
        let (contents, after) = read.await.map_err(|_| self.changing())?.map_err(|error: Error| error)?;
        if after != now {
            return Err(self.changing());
        }
        // What the disk says may be otherwise the next time; what the files say is not.
        if contents.as_ref().is_err_and(|error| !matches!(error, policy::Error::ReadBundle { .. })) {
            self.bad.clone_from(&now);
        }
        Ok(Fetched::New { contents: Ok(contents?), version: now })
    }

    fn changing(&self) -> Error {
        Error::SettleFiles { bundle: self.bundle.clone() }
    }
}

/// What changes when a file is written, replaced, added or removed, or a link leads elsewhere.
fn fingerprint(bundle: &str, path: &Path) -> Result<String, Error> {
    let mut digest = Sha256::new();
    for file in contents::paths(bundle, path)? {
        let failed = |source| policy::Error::ReadBundle { path: file.clone(), source };
        digest.update(format!("{}\0{}\0", file.display(), files::fingerprint(&file).map_err(failed)?));
    }
    Ok(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such as after SIGHUP, while the files are written.
    #[tokio::test]
    async fn what_is_tried_again_has_to_be_at_rest_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.tar.gz");
        std::fs::write(&file, "one").unwrap();
        let mut disk = Disk::new("rules".into(), file.clone());
        assert!(disk.fetch("").await.is_err(), "the first one is read as it is");
        assert!(disk.fetch("").await.is_err(), "it is read again");
        std::fs::write(&file, "another").unwrap();
        assert!(matches!(disk.fetch("").await, Ok(Fetched::Waiting)));
        assert!(disk.fetch("").await.is_err(), "it has come to rest");
    }
}
