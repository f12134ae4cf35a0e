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

    /// The first bundle is loaded as it is; a change only when it has come to rest.
    pub async fn fetch(&mut self, version: &str) -> Result<Fetched, Error> {
        let (bundle, path) = (self.bundle.clone(), self.path.clone());
        let now =
            spawn_blocking(move || fingerprint(&bundle, &path)).await.map_err(|_| self.changing())??;
        let was = std::mem::replace(&mut self.seen, now.clone());
        if now == version {
            return Ok(Fetched::Unchanged);
        }
        let is_first = version.is_empty();
        if !is_first && (now != was || now == self.bad) {
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
