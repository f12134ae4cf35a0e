//! Reads a certificate chain and its key from PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::ring::default_provider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::Error;
use super::key::Kind;
use crate::files::{self, LARGEST_CREDENTIAL};

/// A certificate chain, serving certificate first, and the matching key of that certificate.
#[derive(Debug)]
pub struct Pair {
    /// The serving certificate and the intermediates after it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key; `Debug` does not print it.
    pub key: PrivateKeyDer<'static>,
}

impl Pair {
    /// When the serving certificate expires, in seconds since 1970; `None` if that cannot be parsed.
    pub fn expires(&self) -> Option<i64> {
        let (_, certificate) = x509_parser::parse_x509_certificate(self.chain.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }
}

/// Reads a chain and its key, and checks that they match.
pub fn load(cert_file: &Path, key_file: &Path) -> Result<Pair, Error> {
    Texts::read(cert_file, key_file)?.pair()
}

/// What [`load`] refuses of the files that can be read here. Those that cannot may be on the machine that serves.
pub fn check_readable(cert_file: &Path, key_file: &Path) -> Result<(), Error> {
    match (read(cert_file), read(key_file)) {
        (Ok(cert), Ok(key)) => Texts { cert_file, key_file, cert, key }.pair().map(|_| ()),
        (Ok(cert), Err(_)) => parse_chain(&cert, cert_file).map(|_| ()),
        (Err(_), Ok(key)) => signing_key(&parse_key(&key, key_file)?, key_file).map(|_| ()),
        (Err(_), Err(_)) => Ok(()),
    }
}

/// The content of the two files, read once. Comparing and parsing use the same bytes, so that the compared content is the
/// one in use even while the files are being replaced.
pub struct Texts<'a> {
    cert_file: &'a Path,
    key_file: &'a Path,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl<'a> Texts<'a> {
    /// Reads both files.
    pub fn read(cert_file: &'a Path, key_file: &'a Path) -> Result<Self, Error> {
        Ok(Self { cert_file, key_file, cert: read(cert_file)?, key: read(key_file)? })
    }

    /// Content that was not read from files; the names are for messages.
    pub(super) fn of(cert_file: &'a Path, key_file: &'a Path, cert: &[u8], key: &[u8]) -> Self {
        Self { cert_file, key_file, cert: cert.to_vec(), key: key.to_vec() }
    }

    /// SHA-256 of both, so that a change can be detected without a second copy of the key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let length = self.cert.len().to_le_bytes();
        Sha256::new().chain_update(length).chain_update(&self.cert).chain_update(&self.key).finalize().into()
    }

    /// Parses both and checks that they match.
    pub fn pair(&self) -> Result<Pair, Error> {
        let chain = parse_chain(&self.cert, self.cert_file)?;
        let key = parse_key(&self.key, self.key_file)?;
        check_match(&chain, &key, self.cert_file, self.key_file)?;
        Ok(Pair { chain, key })
    }
}

pub(super) fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    parse_chain(&read(file)?, file)
}

fn parse_chain(text: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |problem: String| Error::ParseChain { file: file.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(explain(&error)))?;
    if chain.is_empty() { Err(failed("it has none".to_owned())) } else { Ok(chain) }
}

fn parse_key(text: &[u8], file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| Error::ParseKey { file: file.to_owned(), problem: explain(&error) })
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    files::read(file, LARGEST_CREDENTIAL).map_err(|source| Error::ReadFile { file: file.to_owned(), source })
}

fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it has none".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM block is not base64".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no end line".to_owned(),
        other => other.to_string(),
    }
}

fn check_match(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    cert_file: &Path,
    key_file: &Path,
) -> Result<(), Error> {
    let signing = signing_key(key, key_file)?;
    match CertifiedKey::new(chain.to_vec(), signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Error::MatchKey {
            cert: cert_file.to_owned(),
            key: key_file.to_owned(),
            problem: "it is the key of another certificate".to_owned(),
        }),
        Err(error) => Err(Error::ParseChain { file: cert_file.to_owned(), problem: error.to_string() }),
    }
}

/// The key as the TLS library signs with it.
fn signing_key(key: &PrivateKeyDer<'static>, file: &Path) -> Result<Arc<dyn SigningKey>, Error> {
    let provider = default_provider().key_provider;
    provider.load_private_key(key.clone_key()).map_err(|error| unusable(key, file, &error))
}

/// Why a key is not taken: for what it is, or because it is damaged.
fn unusable(key: &PrivateKeyDer<'_>, file: &Path, error: &rustls::Error) -> Error {
    match Kind::of(key).filter(|kind| !kind.is_usable()) {
        Some(kind) => Error::UseKey { file: file.to_owned(), kind: kind.describe() },
        None => Error::ParseKey { file: file.to_owned(), problem: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;

    struct Made {
        dir: tempfile::TempDir,
        cert: PathBuf,
        key: PathBuf,
    }

    fn made() -> Made {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&cert, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        Made { dir, cert, key }
    }

    fn message(made: &Made) -> String {
        load(&made.cert, &made.key).unwrap_err().to_string()
    }

    #[test]
    fn a_pkcs8_pair_and_a_chain_are_read_in_order() {
        let (first, other) = (made(), made());
        let chain = fs::read_to_string(&first.cert).unwrap() + &fs::read_to_string(&other.cert).unwrap();
        fs::write(&first.cert, chain).unwrap();
        assert_eq!(load(&first.cert, &first.key).unwrap().chain.len(), 2);
    }

    #[test]
    fn a_key_is_not_waited_for_and_has_a_largest_size() {
        let pair = made();
        let refused = || match load(&pair.cert, &pair.key) {
            Err(Error::ReadFile { source, .. }) => source.to_string(),
            other => panic!("{other:?}"),
        };
        fs::write(&pair.key, vec![b'x'; 5 << 20]).unwrap();
        assert!(refused().contains("larger than 4194304 bytes"), "{}", refused());
        fs::remove_file(&pair.key).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pair.key).status().unwrap().success());
        assert!(refused().contains("not a regular file"), "{}", refused());
    }

    #[test]
    fn a_sec1_key_after_its_parameters_is_read() {
        // `testdata/README.md` says how the pair was made.
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("c"), dir.path().join("k"));
        fs::write(&cert, include_str!("testdata/sec1.crt")).unwrap();
        fs::write(&key, include_str!("testdata/sec1.key")).unwrap();
        assert!(matches!(load(&cert, &key).unwrap().key, PrivateKeyDer::Sec1(_)));
    }

    #[test]
    fn an_rsa_key_in_pkcs1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("c"), dir.path().join("k"));
        fs::write(&cert, include_str!("testdata/pkcs1.crt")).unwrap();
        fs::write(&key, include_str!("testdata/pkcs1.key")).unwrap();
        assert!(matches!(load(&cert, &key).unwrap().key, PrivateKeyDer::Pkcs1(_)));
    }

    #[test]
    fn a_key_of_a_kind_that_cannot_be_served_is_named_as_that() {
        let pair = made();
        for (text, kind) in [
            (include_str!("testdata/p521.key"), "an EC key on curve P-521"),
            (include_str!("testdata/p521-sec1.key"), "an EC key on curve P-521"),
            (include_str!("testdata/rsa8192.key"), "an RSA key of 8192 bits"),
            (include_str!("testdata/ed448.key"), "a key of algorithm Ed448"),
        ] {
            fs::write(&pair.key, text).unwrap();
            let message = message(&pair);
            assert!(message.contains(&format!("tls.key`: it is {kind}, which")), "{message}");
            assert!(message.contains("P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits"), "{message}");
        }
    }

    #[test]
    fn what_is_refused_is_told_beforehand_of_the_files_that_are_there() {
        let pair = made();
        let told = || check_readable(&pair.cert, &pair.key).map_err(|error| error.to_string());
        assert_eq!(told(), Ok(()));
        fs::write(&pair.key, include_str!("testdata/p521.key")).unwrap();
        let refused = Err(message(&pair));
        assert_eq!(told(), refused);
        fs::remove_file(&pair.cert).unwrap();
        assert_eq!(told(), refused, "the key is there without its certificate");
        fs::remove_file(&pair.key).unwrap();
        assert_eq!(told(), Ok(()), "the files may be elsewhere");
        fs::write(&pair.cert, "").unwrap();
        assert!(told().is_err_and(|message| message.contains("tls.crt`: it has none")));
        drop(pair.dir);
    }

    #[test]
    fn every_mistake_names_the_file_and_what_to_do() {
        let pair = made();
        fs::write(&pair.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(message(&pair).contains("key of another certificate"));

        fs::write(
            &pair.key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(message(&pair).contains("tls.key`: it has none"), "{}", message(&pair));

        fs::write(&pair.key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(message(&pair).contains("tls.key`"), "{}", message(&pair));

        let pair = made();
        for (text, wanted) in [
            ("", "it has none"),
            ("-----BEGIN CERTIFICATE-----\nAAAA", "no end line"),
            ("-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n", "not base64"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "invalid peer certificate"),
        ] {
            fs::write(&pair.cert, text).unwrap();
            let message = message(&pair);
            assert!(message.contains("tls.crt`") && message.contains(wanted), "{message}");
        }
        fs::remove_file(&pair.cert).unwrap();
        assert!(message(&pair).contains("check that it exists"));
        drop(pair.dir);
    }

    #[test]
    fn printing_a_pair_does_not_show_the_key() {
        let pair = made();
        let text = format!("{:?}", load(&pair.cert, &pair.key).unwrap());
        assert!(text.contains("secret key elided"), "{text}");
    }
}
