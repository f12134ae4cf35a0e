//! Signatures of bundles as `opa build --signing-key` and `opa sign` write them (`open-policy-agent/opa:v1/bundle/verify.go`, `hash.go`):
//! `.signatures.json` holds one JWT, whose payload has the digest of every file.

mod algorithm;
mod digest;
mod key;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Verifier as _;
use ring::{hmac, signature as rsa};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use algorithm::Algorithm;
use digest::{digest, shown};
use key::{check_length, usable};

use super::contents::SIGNATURES;
use super::{Contents, Error};
use crate::files::{self, LARGEST_CREDENTIAL};
use crate::text;

/// Most characters of a foreign name in a message.
const SHOWN: usize = 200;

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

/// Who may sign one bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers {
    /// Ids of their keys; all keys if there is none.
    pub keys: Vec<String>,
    /// The `scope` that the signature must have, instead of that of its key.
    pub scope: Option<String>,
    /// Whether it may be named as another bundle in its manifest: one that runs in the shadow of that.
    pub may_be_another: bool,
    /// Whether it need not be signed although others must: nothing is admitted by it.
    pub may_be_unsigned: bool,
}

impl Signers {
    /// Whether the bundle is named a signer at all, and so must be signed.
    const fn are_named(&self) -> bool {
        !self.keys.is_empty() || self.scope.is_some()
    }
}

/// What is known of the origin of a bundle that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureState {
    /// It is not signed, and need not be.
    Unsigned,
    /// It is not signed, and a gate would refuse it.
    Exempt,
    /// It is signed, and there is no key that verifies it.
    Unverified,
    /// A key of the configuration has signed it.
    Signed {
        /// Whether anything says that it was signed for this place: the keys or the scope of the place, the scope of the key, or a
        /// name in its manifest. Otherwise everything that the key has signed would be taken here.
        is_bound: bool,
    },
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
            let bytes = Zeroizing::new(
                files::read_given(&key.file, LARGEST_CREDENTIAL)
                    .map_err(|error| failed(error.to_string()))?,
            );
            let bytes = usable(key.algorithm, bytes).map_err(|reason| failed(reason.into()))?;
            Ok((id.clone(), Key { algorithm: key.algorithm, bytes, scope: key.scope.clone() }))
        };
        Ok(Self { keys: options.iter().map(read).collect::<Result<_, Error>>()?, required })
    }

    /// Whether a bundle must be signed.
    fn requires(&self) -> bool {
        self.required.unwrap_or(!self.keys.is_empty())
    }

    /// Refuses a bundle whose signature is missing or wrong, by another key than those of `signers`, or for another bundle.
    pub fn verify(
        &self,
        bundle: &str,
        signers: &Signers,
        contents: &Contents,
    ) -> Result<SignatureState, Error> {
        let refused = |reason: String| Error::VerifyBundle { bundle: bundle.into(), reason };
        match contents.file(SIGNATURES) {
            None if (self.requires() || signers.are_named()) && signers.may_be_unsigned => {
                Ok(SignatureState::Exempt)
            }
            None if self.requires() || signers.are_named() => {
                let reason = "it is not signed; sign it (`wasmgate policy sign`), or set `policies.requireSigned: false` \
                              and name no `keys` and no `scope` for it";
                Err(refused(reason.into()))
            }
            None => Ok(SignatureState::Unsigned),
            Some(_) if self.keys.is_empty() && signers.may_be_unsigned => Ok(SignatureState::Unverified),
            Some(_) if self.keys.is_empty() && self.required == Some(false) && !signers.are_named() => {
                Ok(SignatureState::Unverified)
            }
            Some(_) if self.keys.is_empty() => {
                let reason = "it is signed, and there is no key to verify it with; name one in `policies.keys`, or set \
                              `policies.requireSigned: false` to take it as it is";
                Err(refused(reason.into()))
            }
            Some(text) => {
                let (key, files) = self.files(text, signers).map_err(refused)?;
                compare(&files, contents).map_err(refused)?;
                // A key may sign several bundles, and none of them can be given for another.
                match super::bundle::own_name(bundle, contents)? {
                    Some(own) if own != bundle && !signers.may_be_another => Err(refused(format!(
                        "its signed `.manifest` names it `{}`; see whether it was meant for another place, or give the place this `name`",
                        shown(&own)
                    ))),
                    own => Ok(SignatureState::Signed {
                        is_bound: own.is_some() || signers.are_named() || !key.scope.is_empty(),
                    }),
                }
            }
        }
    }

    /// The key of the signature, and the digests that it vouches for.
    fn files(&self, text: &[u8], signers: &Signers) -> Result<(&Key, Vec<SignedFile>), String> {
        let unreadable = |error: serde_json::Error| {
            format!("`{SIGNATURES}` cannot be read: {}", text::excerpt(&error.to_string(), SHOWN))
        };
        let Signatures { signatures, plugin } = serde_json::from_slice(text).map_err(unreadable)?;
        if !matches!(plugin.as_str(), "" | "_default") {
            return Err("it is signed by a plug-in of opa, which the gate does not have".into());
        }
        let [token] = signatures.as_slice() else {
            return Err(format!("`{SIGNATURES}` has {} signatures, expected one", signatures.len()));
        };
        let no_token = || format!("`{SIGNATURES}` holds no JWT");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(no_token)?;
        let (header, payload) = signed.split_once('.').ok_or_else(no_token)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| no_token());
        let Header { kid } = serde_json::from_slice(&decoded(header)?).map_err(unreadable)?;
        let Payload { files, keyid, scope } =
            serde_json::from_slice(&decoded(payload)?).map_err(unreadable)?;
        let id = if kid.is_empty() { keyid } else { kid };
        let key = self.keys.get(&id).ok_or_else(|| self.no_key(&id))?;
        if !signers.keys.is_empty() && !signers.keys.contains(&id) {
            return Err(format!(
                "it is signed by the key `{id}`, which is not among the `keys` of this bundle"
            ));
        }
        if !key.verifies(signed.as_bytes(), &decoded(signature)?) {
            return Err(format!("its signature is not by the key `{id}`"));
        }
        match &signers.scope {
            Some(wanted) if *wanted == scope => Ok((key, files)),
            Some(wanted) => Err(format!(
                "it is signed for the scope `{}`, and the `scope` of this bundle is `{wanted}`",
                shown(&scope)
            )),
            None if key.scope == scope => Ok((key, files)),
            None => Err(format!(
                "it is signed for the scope `{}`, and the key `{id}` is for `{}`",
                shown(&scope),
                key.scope
            )),
        }
    }

    fn no_key(&self, id: &str) -> String {
        let known: Vec<_> = self.keys.keys().map(|id| format!("`{id}`")).collect();
        format!("it is signed by the key `{}`, and `policies.keys` has {}", shown(id), known.join(", "))
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
            Algorithm::ES512 => self.verifies_by_p521(signed, signature).is_some(),
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

    /// ring has no P-521. The signature is two numbers of 66 bytes (RFC 7518, section 3.4).
    fn verifies_by_p521(&self, signed: &[u8], signature: &[u8]) -> Option<()> {
        let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&self.bytes).ok()?;
        let signature = p521::ecdsa::Signature::from_slice(signature).ok()?;
        key.verify(signed, &signature).ok()
    }
}

/// Refuses a secret that the gate would not take to verify with; of other algorithms the signature says it.
pub fn check_secret(algorithm: Algorithm, file: Vec<u8>) -> Result<(), &'static str> {
    if algorithm.least_secret().is_none() {
        return Ok(());
    }
    usable(algorithm, Zeroizing::new(file)).map(drop)
}

/// Refuses a `.signatures.json` that no key of this algorithm can have made, and so none verifies.
pub fn check_signed(algorithm: Algorithm, text: &[u8]) -> Result<(), &'static str> {
    let unreadable = "what it signed is not readable";
    let Signatures { signatures, .. } = serde_json::from_slice(text).map_err(|_| unreadable)?;
    let signature = signatures.first().and_then(|token| token.rsplit_once('.')).ok_or(unreadable)?.1;
    check_length(algorithm, &URL_SAFE_NO_PAD.decode(signature).map_err(|_| unreadable)?)
}

/// Whether the files are those that were signed: every one of them, and no other.
fn compare(signed: &[SignedFile], contents: &Contents) -> Result<(), String> {
    // A file that is named again and again is read once for each algorithm.
    let (mut known, mut digests) = (BTreeSet::new(), BTreeMap::new());
    for SignedFile { name, hash, algorithm } in signed {
        let name = name.trim_start_matches('/');
        let bytes =
            contents.file(name).ok_or_else(|| format!("`{}` was signed and is missing", shown(name)))?;
        let found: &mut String = match digests.entry((name, algorithm.as_str())) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(digest(algorithm, name, bytes)?),
        };
        if !found.eq_ignore_ascii_case(hash) {
            return Err(format!("`{}` is not what was signed: its digest is another", shown(name)));
        }
        known.insert(name);
    }
    match contents.files().find(|(name, _)| *name != SIGNATURES && !known.contains(name)) {
        Some((name, _)) => Err(format!("`{}` was added after the bundle was signed", shown(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle that is signed with the secret `s3cret`.
    fn signed(claims: &str, manifest: &str) -> Contents {
        let hash = digest("SHA-256", ".manifest", manifest.as_bytes()).unwrap();
        let files =
            format!("[{{\"name\": \".manifest\", \"hash\": \"{hash}\", \"algorithm\": \"SHA-256\"}}]");
        let payload = format!("{{{claims} \"files\": {files}}}");
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(payload));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s3cret"), text.as_bytes());
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag));
        let signatures = format!("{{\"signatures\": [\"{token}\"]}}");
        [(".manifest", manifest.as_bytes()), (SIGNATURES, signatures.as_bytes())].into_iter().collect()
    }

    fn trust() -> Trust {
        let key = || Key {
            algorithm: Algorithm::HS256,
            bytes: Zeroizing::new(b"s3cret".to_vec()),
            scope: String::new(),
        };
        Trust { keys: ["a", "b"].map(|id| (id.to_string(), key())).into(), required: Some(false) }
    }

    fn verdict(signers: &Signers, contents: &Contents) -> Result<SignatureState, String> {
        trust().verify("rules", signers, contents).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bundle_is_taken_from_its_own_signers_alone() {
        let by_a = signed("\"keyid\": \"a\",", "{}");
        let only = |id: &str| Signers { keys: vec![id.into()], ..Signers::default() };
        let (bound, unbound) =
            (SignatureState::Signed { is_bound: true }, SignatureState::Signed { is_bound: false });
        assert_eq!(verdict(&Signers::default(), &by_a), Ok(unbound));
        assert_eq!(verdict(&only("a"), &by_a), Ok(bound));
        assert!(verdict(&only("b"), &by_a).unwrap_err().contains("not among the `keys` of this bundle"));
        let scoped = signed("\"keyid\": \"a\", \"scope\": \"rules\",", "{}");
        let wants = |scope: &str| Signers { scope: Some(scope.into()), ..Signers::default() };
        assert_eq!(verdict(&wants("rules"), &scoped), Ok(bound));
        assert!(verdict(&wants("other"), &scoped).unwrap_err().contains("signed for the scope `rules`"));
        assert!(verdict(&wants("rules"), &by_a).unwrap_err().contains("signed for the scope ``"));
        let unsigned: Contents = [(".manifest", b"{}".as_slice())].into_iter().collect();
        assert_eq!(verdict(&Signers::default(), &unsigned), Ok(SignatureState::Unsigned));
        assert!(verdict(&only("a"), &unsigned).unwrap_err().contains("it is not signed"));
    }

    #[test]
    fn a_file_that_is_named_again_is_held_to_each_of_its_digests() {
        let contents: Contents = [("a", b"x".as_slice())].into_iter().collect();
        let named = |algorithm: &str, hash: String| SignedFile {
            name: "a".into(),
            hash,
            algorithm: algorithm.into(),
        };
        let right = |algorithm: &str| named(algorithm, digest(algorithm, "a", b"x").unwrap());
        assert_eq!(compare(&[right("SHA-256"), right("SHA-512"), right("SHA-256")], &contents), Ok(()));
        for wrong in [named("SHA-256", right("SHA-512").hash), named("SHA-384", right("SHA-256").hash)] {
            let refused = compare(&[right("SHA-256"), wrong], &contents).unwrap_err();
            assert!(refused.contains("its digest is another"), "{refused}");
        }
    }

    #[test]
    fn a_signed_bundle_is_not_taken_for_another_one() {
        let named = |name: &str| {
            let manifest = format!("{{\"metadata\": {{\"wasmgate\": {{\"name\": \"{name}\"}}}}}}");
            signed("\"keyid\": \"a\",", &manifest)
        };
        assert_eq!(
            verdict(&Signers::default(), &named("rules")),
            Ok(SignatureState::Signed { is_bound: true })
        );
        let other = verdict(&Signers::default(), &named("network")).unwrap_err();
        assert!(other.contains("its signed `.manifest` names it `network`"), "{other}");
        let shadow = Signers { may_be_another: true, ..Signers::default() };
        assert_eq!(verdict(&shadow, &named("network")), Ok(SignatureState::Signed { is_bound: true }));
    }
}
