//! `wasmgate policy sign` and `wasmgate policy verify`: signatures of bundles. The author's `opa` signs; what the gate would say
//! of a signature is said by the gate's own code.

use std::collections::BTreeMap;
use std::io;

use serde_json::json;

use super::archive;
use super::opa::{Opa, Signing};
use crate::cli::args::{PolicySignOptions, PolicyVerifyOptions};
use crate::cli::{Error, Exit, inspect};
use crate::files::{self, LARGEST_CREDENTIAL};
use crate::policy::bundle::{name_of, own_name};
use crate::policy::contents::SIGNATURES;
use crate::policy::signature::{Signers, check_secret, check_signed};
use crate::policy::{self, Contents, Trust};
use crate::sources::KeyOptions;
use crate::text;

/// Signs a bundle; a signature that it has is replaced.
pub fn sign(options: &PolicySignOptions) -> Result<Exit, Error> {
    let PolicySignOptions { bundle, key, opa, output, archive } = options;
    let to = match archive {
        Some(path) => path,
        None if bundle.is_dir() => return Err(Error::NameArchive { path: bundle.clone() }),
        None => bundle,
    };
    let contents = Contents::load(&name_of(bundle), bundle)?;
    let unsigned = || contents.files().filter(|(name, _)| *name != SIGNATURES);
    let opa = Opa::new(opa)?;
    let part = opa.file("unsigned.tar.gz");
    archive::write(&part, &packed(&unsigned().collect(), to)?)?;
    let signing = Signing { key: &key.key, algorithm: key.algorithm, id: &key.key_id, scope: &key.scope };
    let refused = |reason: &str| Error::SignBundle { key: key.key.clone(), reason: reason.into() };
    let unread = |error: io::Error| refused(&error.to_string());
    // opa reads it again, and a pipe has it once.
    if !std::fs::metadata(&key.key).map_err(unread)?.is_file() {
        return Err(refused("it is not a regular file; write the key into one that only you can read"));
    }
    // Of a path that it cannot read opa takes the name for the secret.
    let file = files::read(&key.key, LARGEST_CREDENTIAL).map_err(unread)?;
    check_secret(key.algorithm, file).map_err(refused)?;
    let signatures = opa.sign(&part, &signing)?;
    check_signed(key.algorithm, &signatures).map_err(refused)?;
    let bytes = packed(&unsigned().chain([(SIGNATURES, signatures.as_slice())]).collect(), to)?;
    archive::write(to, &bytes)?;
    let archive = to.display().to_string();
    let said = |_: &_| signed_by(&archive, &key.key_id);
    let report = json!({ "archive": archive, "keyId": key.key_id });
    inspect::show(&report, *output, said).map(|()| Exit::Success)
}

fn packed(contents: &Contents, to: &std::path::Path) -> Result<Vec<u8>, Error> {
    contents.to_tar_gz().map_err(|source| Error::WriteBundle { path: to.to_path_buf(), source })
}

/// Says whether the gate takes the signature of a bundle. Exit code 1 means that it does not.
pub fn verify(options: &PolicyVerifyOptions) -> Result<Exit, Error> {
    let PolicyVerifyOptions { bundle, key, output } = options;
    let file = KeyOptions { algorithm: key.algorithm, file: key.key.clone(), scope: key.scope.clone() };
    let trust = Trust::new(&BTreeMap::from([(key.key_id.clone(), file)]), Some(true))?;
    let contents = Contents::load(&name_of(bundle), bundle)?;
    // Whether it is the bundle that a place of the configuration expects is not known here.
    let name = own_name("bundle", &contents)?.unwrap_or_else(|| name_of(bundle));
    let problem = match trust.verify(&name, &Signers::default(), &contents) {
        Ok(_) => None,
        Err(error @ policy::Error::VerifyBundle { .. }) => Some(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let place = bundle.display().to_string();
    let said = |_: &_| match &problem {
        Some(problem) => format!("{}\n", text::line(problem)),
        None => signed_by(&place, &key.key_id),
    };
    let report = json!({ "bundle": place, "verified": problem.is_none(), "problem": problem });
    inspect::show(&report, *output, said)?;
    Ok(if problem.is_none() { Exit::Success } else { Exit::Invalid })
}

fn signed_by(bundle: &str, key_id: &str) -> String {
    format!("{}: signed by `{}`\n", text::line(bundle), text::line(key_id))
}
