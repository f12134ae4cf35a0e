//! The development CA: made once, stored in a directory, made again before it expires.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, ServerName};

use super::Error;
use super::issue::{self, covers};
use super::pem::{Pair, load, read_chain};
use crate::files;

/// Common name of the development CA; identifies the files that wasmgate made and may replace.
pub const CA_NAME: &str = "wasmgate development CA";

/// Names on every development certificate; the last is the Service in the manifests.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "wasmgate.wasmgate-system.svc"];

const DAY: Duration = Duration::from_hours(24);

/// Lifetime of the CA and the certificate. Both are made together, so they expire together.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// The certificate in `dir` (`tls.crt`, `tls.key`, issued by `ca.crt`). It is made if there is none that covers `names`
/// and is valid for another day. Files that wasmgate did not make are left alone and are an error.
pub fn load_or_make(dir: &Path, names: &[String]) -> Result<Pair, Error> {
    let store = Store::new(dir);
    let names = all_names(names)?;
    store.refuse_foreign()?;
    if let Some(pair) = store.usable(&names, SystemTime::now() + DAY) {
        return Ok(pair);
    }
    store.write(&Made::new(&names, SystemTime::now())?)?;
    load(&store.cert, &store.key)
}

fn all_names(extra: &[String]) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    for name in extra {
        ServerName::try_from(name.as_str()).map_err(|_| Error::NameHost { name: name.clone() })?;
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// The four files.
struct Store {
    dir: PathBuf,
    ca: PathBuf,
    ca_key: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Store {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            ca: dir.join("ca.crt"),
            ca_key: dir.join("ca.key"),
            cert: dir.join("tls.crt"),
            key: dir.join("tls.key"),
        }
    }

    /// Refuses to replace foreign files: a certificate must have the CA's name, and a key must be beside such a
    /// certificate, since a key alone shows no owner.
    fn refuse_foreign(&self) -> Result<(), Error> {
        let certs: Vec<_> = [&self.ca, &self.cert].into_iter().filter(|file| file.exists()).collect();
        for file in &certs {
            if !read_chain(file).is_ok_and(|chain| chain.iter().all(carries_name)) {
                return Err(Error::ReplaceForeign { file: (*file).clone() });
            }
        }
        let orphan = [&self.key, &self.ca_key].into_iter().find(|file| certs.is_empty() && file.exists());
        orphan.map_or(Ok(()), |file| Err(Error::ReplaceForeign { file: file.clone() }))
    }

    /// The pair, if it is valid for every name until `when`.
    fn usable(&self, names: &[String], when: SystemTime) -> Option<Pair> {
        let pair = load(&self.cert, &self.key).ok()?;
        load(&self.ca, &self.ca_key).ok()?;
        let ca = read_chain(&self.ca).ok()?.into_iter().next()?;
        covers(&pair.chain, &[ca], names, when).then_some(pair)
    }

    /// Writes all four files. The CA's certificate comes first, so that an incomplete set is still
    /// recognised as wasmgate's own.
    fn write(&self, made: &Made) -> Result<(), Error> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed(&self.dir))?;
        put(&self.ca, &made.ca, 0o644)?;
        put(&self.ca_key, &made.ca_key, 0o600)?;
        put(&self.key, &made.key, 0o600)?;
        put(&self.cert, &made.cert, 0o644)
    }
}

fn put(file: &Path, text: &str, mode: u32) -> Result<(), Error> {
    files::replace(file, text.as_bytes(), mode).map_err(failed(file))
}

fn failed(file: &Path) -> impl FnOnce(std::io::Error) -> Error + use<'_> {
    move |source| Error::WriteFile { file: file.to_owned(), source }
}

/// Whether the CA's name is subject or issuer: the DER contains it as plain bytes.
fn carries_name(cert: &CertificateDer<'static>) -> bool {
    cert.as_ref().windows(CA_NAME.len()).any(|bytes| bytes == CA_NAME.as_bytes())
}

/// The four PEM texts.
struct Made {
    ca: String,
    ca_key: String,
    cert: String,
    key: String,
}

impl Made {
    fn new(names: &[String], now: SystemTime) -> Result<Self, Error> {
        let (ca, ca_key) = issue::ca(CA_NAME, now, LIFETIME)?;
        let (cert, key) = issue::serving(names, &ca, &ca_key, now, now + LIFETIME)?;
        Ok(Self { cert: cert + &ca, ca, ca_key, key })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn made() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&dir.path().join("certs"));
        load_or_make(&store.dir, &[]).unwrap();
        (dir, store)
    }

    #[test]
    fn keys_and_directory_are_private_and_nothing_else_is_left() {
        let (_dir, store) = made();
        assert_eq!((mode(&store.dir), mode(&store.ca_key), mode(&store.key)), (0o700, 0o600, 0o600));
        let mut files: Vec<_> = fs::read_dir(&store.dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    }

    #[test]
    fn a_valid_set_is_used_again_and_another_name_makes_a_new_one() {
        let (_dir, store) = made();
        let first = load(&store.cert, &store.key).unwrap();
        assert_eq!(load_or_make(&store.dir, &[]).unwrap().chain, first.chain);
        let names = ["gate.example.com".to_owned(), "10.0.0.7".to_owned()];
        let second = load_or_make(&store.dir, &names).unwrap();
        assert_ne!(second.chain, first.chain);
        assert_eq!(load_or_make(&store.dir, &names).unwrap().chain, second.chain);
        assert_eq!(load_or_make(&store.dir, &[]).unwrap().chain, second.chain, "fewer names are covered");
    }

    #[test]
    fn a_set_with_less_than_a_day_left_is_made_anew() {
        let (_dir, store) = made();
        let names = all_names(&[]).unwrap();
        for (hours, kept) in [(363 * 24, true), (364 * 24 + 12, false), (730 * 24, false)] {
            store
                .write(&Made::new(&names, SystemTime::now() - Duration::from_hours(hours)).unwrap())
                .unwrap();
            let old = load(&store.cert, &store.key).unwrap();
            assert_eq!(load_or_make(&store.dir, &[]).unwrap().chain == old.chain, kept, "{hours} h");
        }
    }

    #[test]
    fn a_missing_file_or_a_spoilt_key_makes_a_new_set() {
        for spoil in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
            let (_dir, store) = made();
            let old = load(&store.cert, &store.key).unwrap();
            fs::remove_file(store.dir.join(spoil)).unwrap();
            assert_ne!(load_or_make(&store.dir, &[]).unwrap().chain, old.chain, "{spoil}");
        }
        let (_dir, store) = made();
        fs::write(&store.key, "nonsense").unwrap();
        load_or_make(&store.dir, &[]).unwrap();
        assert_eq!(mode(&store.key), 0o600);
    }

    #[test]
    fn a_file_of_other_origin_is_named_and_left_alone() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        for (name, text) in [("tls.crt", own.as_str()), ("ca.crt", "nonsense"), ("tls.crt", "")] {
            let (_dir, store) = made();
            fs::write(store.dir.join(name), text).unwrap();
            let error = load_or_make(&store.dir, &[]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("move it away"), "{error}");
            assert_eq!(fs::read_to_string(store.dir.join(name)).unwrap(), text);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tls.key"), "mine").unwrap();
        assert!(matches!(load_or_make(dir.path(), &[]), Err(Error::ReplaceForeign { .. })));
    }

    #[test]
    fn a_host_name_that_is_none_and_a_directory_that_is_a_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let error = load_or_make(dir.path(), &["not a name".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`not a name`"));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(load_or_make(&file, &[]), Err(Error::WriteFile { .. })));
    }
}
