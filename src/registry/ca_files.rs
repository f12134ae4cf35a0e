//! Files with CA certificates that are trusted in addition to the system's.

use std::path::{Path, PathBuf};

use reqwest::Certificate;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::Error;
use crate::files::{self, LARGEST_CREDENTIAL};

pub(super) fn ca_certs(files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    let each = files.iter().map(|file| ca(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(each.into_iter().flatten().collect())
}

fn ca(file: &Path) -> Result<Vec<Certificate>, Error> {
    let certificate = |der: &CertificateDer<'_>| Certificate::from_der(der);
    ders(file)?
        .iter()
        .map(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(file, &error.to_string()))
}

/// The certificates of one file.
pub(super) fn ders(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |message: String| failed(file, &message);
    let data = files::read_given(file, LARGEST_CREDENTIAL);
    let data = data.map_err(|error| failed(format!("could not read the CA: {error}")))?;
    let found = CertificateDer::pem_slice_iter(&data).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| failed(format!("it is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(failed("it holds no `BEGIN CERTIFICATE`; give the CA's certificate in PEM".into()));
    }
    Ok(found)
}

fn failed(file: &Path, message: &str) -> Error {
    Error::SetUpClient { message: format!("`{}`: {message}", file.display()) }
}
