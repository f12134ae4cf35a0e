//! Signatures of bundles as `opa build --signing-key` and `opa sign` write them (`open-policy-agent/opa:v1/bundle/verify.go`, `hash.go`):
//! `.signatures.json` holds one JWT, whose payload has the digest of every file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature as rsa};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::{Contents, Error};

/// The file with the signature.
const FILE: &str = ".signatures.json";
/// Values within one another in a signed document.
const MAX_DEPTH: usize = 128;

/// How a bundle can be signed. OPA also has `ES512`, for which the gate's cryptography has no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
}

/// A key as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyOptions {
    /// What it verifies.
    pub algorithm: Algorithm,
    /// File with the public key or a certificate (PEM), or with the secret of `HS…`, every byte of it. Read at the start.
    pub file: PathBuf,
    /// The `scope` that a signature must have. Default: none, and then it must have none.
    #[serde(default)]
    pub scope: String,
}

/// A key that was read.
struct Key {
    algorithm: Algorithm,
    bytes: Zeroizing<Vec<u8>>,
    scope: String,
}

/// Which bundles are taken.
#[derive(Default)]
pub struct Trust {
    keys: BTreeMap<String, Key>,
    required: Option<bool>,
}

// Keys may be secrets.
impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.keys().collect();
        f.debug_struct("Trust").field("keys", &keys).field("required", &self.required).finish()
    }
}

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<String>,
    #[serde(default)]
    plugin: String,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Payload {
    files: Vec<SignedFile>,
    #[serde(default)]
    keyid: String,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
struct SignedFile {
    name: String,
    hash: String,
    #[serde(default)]
    algorithm: String,
}

impl Trust {
    /// Reads the keys. `required` says whether a bundle must be signed; by default it must once there is a key. Blocks on the
    /// disk.
    pub fn new(options: &BTreeMap<String, KeyOptions>, required: Option<bool>) -> Result<Self, Error> {
        let read = |(id, key): (&String, &KeyOptions)| {
            let failed = |reason: String| Error::ReadKey { key: id.clone(), path: key.file.clone(), reason };
            let bytes = Zeroizing::new(std::fs::read(&key.file).map_err(|error| failed(error.to_string()))?);
            let bytes = usable(key.algorithm, bytes).map_err(|reason| failed(reason.into()))?;
            Ok((id.clone(), Key { algorithm: key.algorithm, bytes, scope: key.scope.clone() }))
        };
        Ok(Self { keys: options.iter().map(read).collect::<Result<_, Error>>()?, required })
    }

    /// Whether a bundle must be signed.
    fn requires(&self) -> bool {
        self.required.unwrap_or(!self.keys.is_empty())
    }

    /// Refuses a bundle whose signature is missing or wrong.
    pub fn verify(&self, bundle: &str, contents: &Contents) -> Result<(), Error> {
        let refused = |reason: String| Error::VerifyBundle { bundle: bundle.into(), reason };
        match contents.file(FILE) {
            None if self.requires() => {
                let reason = "it is not signed; sign it (`opa build --signing-key`), or set `policies.requireSigned: false`";
                Err(refused(reason.into()))
            }
            None => Ok(()),
            Some(_) if self.keys.is_empty() && self.required == Some(false) => {
                tracing::warn!(
                    bundle,
                    "the policy bundle is signed, and nothing verifies it: there is no key in `policies.keys`"
                );
                Ok(())
            }
            Some(_) if self.keys.is_empty() => {
                let reason = "it is signed, and there is no key to verify it with; name one in `policies.keys`, or set \
                              `policies.requireSigned: false` to take it as it is";
                Err(refused(reason.into()))
            }
            Some(text) => self.files(text).and_then(|files| compare(&files, contents)).map_err(refused),
        }
    }

    /// The digests that the signature vouches for.
    fn files(&self, text: &[u8]) -> Result<Vec<SignedFile>, String> {
        let unreadable = |error: serde_json::Error| format!("`{FILE}` cannot be read: {error}");
        let Signatures { signatures, plugin } = serde_json::from_slice(text).map_err(unreadable)?;
        if !matches!(plugin.as_str(), "" | "_default") {
            return Err("it is signed by a plug-in of opa, which the gate does not have".into());
        }
        let [token] = signatures.as_slice() else {
            return Err(format!("`{FILE}` has {} signatures, expected one", signatures.len()));
        };
        let no_token = || format!("`{FILE}` holds no JWT");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
        let (header, payload) = signed.split_once('.').ok_or_else(no_token)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| no_token());
        let Header { kid } = serde_json::from_slice(&decoded(header)?).map_err(unreadable)?;
        let Payload { files, keyid, scope } =
            serde_json::from_slice(&decoded(payload)?).map_err(unreadable)?;
        let id = if kid.is_empty() { keyid } else { kid };
        let key = self.keys.get(&id).ok_or_else(|| self.no_key(&id))?;
        if !key.verifies(signed.as_bytes(), &decoded(signature)?) {
            return Err(format!("its signature is not by the key `{id}`"));
        }
        if scope != key.scope {
            return Err(format!(
                "it is signed for the scope `{scope}`, and the key `{id}` is for `{}`",
                key.scope
            ));
        }
        Ok(files)
    }

    fn no_key(&self, id: &str) -> String {
        let known: Vec<_> = self.keys.keys().map(|id| format!("`{id}`")).collect();
        format!("it is signed by the key `{id}`, and `policies.keys` has {}", known.join(", "))
    }
}

impl Key {
    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let public = |how: &'static dyn rsa::VerificationAlgorithm| {
            rsa::UnparsedPublicKey::new(how, &*self.bytes).verify(signed, signature).is_ok()
        };
        let secret = |how| hmac::verify(&hmac::Key::new(how, &self.bytes), signed, signature).is_ok();
        match self.algorithm {
            Algorithm::ES256 => public(&rsa::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => public(&rsa::ECDSA_P384_SHA384_FIXED),
            Algorithm::PS256 => public(&rsa::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => public(&rsa::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => public(&rsa::RSA_PSS_2048_8192_SHA512),
            Algorithm::RS256 => public(&rsa::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => public(&rsa::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => public(&rsa::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::HS256 => secret(hmac::HMAC_SHA256),
            Algorithm::HS384 => secret(hmac::HMAC_SHA384),
            Algorithm::HS512 => secret(hmac::HMAC_SHA512),
        }
    }
}

/// The key in the form in which it verifies.
fn usable(algorithm: Algorithm, file: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
        return if file.is_empty() { Err("it is empty") } else { Ok(file) };
    }
    let expected = "expected a `PUBLIC KEY` or a `CERTIFICATE` in PEM";
    let pem = pem::parse(&*file).map_err(|_| expected)?;
    let key = match pem.tag() {
        // The same bytes as inside a `PUBLIC KEY` of RSA.
        "RSA PUBLIC KEY" => pem.contents().to_vec(),
        "PUBLIC KEY" => {
            let (_, key) = SubjectPublicKeyInfo::from_der(pem.contents()).map_err(|_| expected)?;
            key.subject_public_key.data.to_vec()
        }
        "CERTIFICATE" => {
            let (_, certificate) = X509Certificate::from_der(pem.contents()).map_err(|_| expected)?;
            certificate.public_key().subject_public_key.data.to_vec()
        }
        _ => return Err(expected),
    };
    Ok(Zeroizing::new(key))
}

/// Whether the files are those that were signed: every one of them, and no other.
fn compare(signed: &[SignedFile], contents: &Contents) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for SignedFile { name, hash, algorithm } in signed {
        let name = name.trim_start_matches('/');
        let bytes = contents.file(name).ok_or_else(|| format!("`{name}` was signed and is missing"))?;
        let found = digest(algorithm, name, bytes)?;
        if !found.eq_ignore_ascii_case(hash) {
            return Err(format!("`{name}` is not what was signed: its digest is another"));
        }
        known.insert(name);
    }
    match contents.files().find(|(name, _)| *name != FILE && !known.contains(name)) {
        Some((name, _)) => Err(format!("`{name}` was added after the bundle was signed")),
        None => Ok(()),
    }
}

/// The digest of a file, in hexadecimal: of documents without regard to blanks and the order of keys.
fn digest(algorithm: &str, name: &str, bytes: &[u8]) -> Result<String, String> {
    let mut digest: Box<dyn DynDigest> = match algorithm {
        "SHA-256" => Box::new(Sha256::default()),
        "SHA-384" => Box::new(Sha384::default()),
        "SHA-512" => Box::new(Sha512::default()),
        other => {
            return Err(format!(
                "`{name}` was signed by the digest `{other}`; sign with SHA-256, SHA-384 or SHA-512"
            ));
        }
    };
    let is_document =
        Path::new(name).file_name().is_some_and(|name| name == "data.json" || name == ".manifest");
    if is_document {
        let text: &RawValue = serde_json::from_slice(bytes).map_err(|error| format!("`{name}`: {error}"))?;
        walk(text, 0, &mut *digest).map_err(|reason| format!("`{name}` {reason}"))?;
    } else {
        digest.update(bytes);
    }
    Ok(digest.finalize().iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect())
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0')
}

/// Feeds a document as OPA does: keys in order, no blanks, numbers as they are written.
fn walk(value: &RawValue, depth: usize, to: &mut dyn DynDigest) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("has too many values within one another".into());
    }
    let failed = |error: serde_json::Error| error.to_string();
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(failed)?;
            to.update(b"{");
            for (index, (key, value)) in fields.iter().enumerate() {
                to.update(if index > 0 { b"," } else { b"" });
                to.update(string(key)?.as_bytes());
                to.update(b":");
                walk(value, depth.saturating_add(1), to)?;
            }
            to.update(b"}");
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            to.update(b"[");
            for (index, value) in items.iter().enumerate() {
                to.update(if index > 0 { b"," } else { b"" });
                walk(value, depth.saturating_add(1), to)?;
            }
            to.update(b"]");
        }
        Some(b'"') => to.update(string(&serde_json::from_str::<String>(text).map_err(failed)?)?.as_bytes()),
        _ => to.update(text.as_bytes()),
    }
    Ok(())
}

/// A string as Go writes it, which escapes two characters more.
fn string(text: &str) -> Result<String, String> {
    let written = serde_json::to_string(text).map_err(|error| error.to_string())?;
    Ok(written.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}
