//! Grants from YAML and JSON: files of a directory, several documents each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::check::{self, Problem, Problems};
use super::{Grants, WasiGrant};

/// Bytes of a file that is still read: an etcd object has 1.5 MiB at most, and a file may hold several.
const FILE_LIMIT: u64 = 16 << 20;

/// Why grants could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory could not be listed.
    #[error("could not list the grants directory `{directory}`: {source}")]
    ListDirectory {
        /// The directory.
        directory: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("could not read the grants file `{file}`: {source}")]
    ReadFile {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is too large to be grants.
    #[error("could not read the grants file `{file}`: it is larger than {limit} bytes; split it")]
    LimitFile {
        /// The file.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is not YAML or JSON.
    #[error("could not parse `{origin}` as YAML or JSON: {message}")]
    ParseDocuments {
        /// The file.
        origin: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// Some grants are wrong; none is taken.
    #[error("could not accept the grants: {problems}")]
    CheckGrants {
        /// Everything that is wrong with them.
        problems: Problems,
    },
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory, several documents each, in the order of the names. Not
/// its sub-directories, and nothing whose name starts with a dot: a mounted ConfigMap keeps its old versions there.
pub fn load_dir(dir: &Path) -> Result<Grants, Error> {
    let mut grants = Vec::new();
    let mut problems = Problems::default();
    for file in grant_files(dir)? {
        let origin = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match parse_documents(&read_file(&file)?, &origin) {
            Ok(read) => grants.extend(read),
            Err(Error::CheckGrants { problems: more }) => problems.0.extend(more.0),
            Err(other) => return Err(other),
        }
    }
    if problems.0.is_empty() { Grants::new(grants) } else { Err(Error::CheckGrants { problems }) }
}

fn grant_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::ListDirectory { directory: dir.display().to_string(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let wanted = matches!(extension.as_deref(), Some("yaml" | "yml" | "json"));
        if wanted && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(file: &Path) -> Result<String, Error> {
    let name = || file.display().to_string();
    let size = fs::metadata(file).map_err(|source| Error::ReadFile { file: name(), source })?.len();
    if size > FILE_LIMIT {
        return Err(Error::LimitFile { file: name(), limit: FILE_LIMIT });
    }
    fs::read_to_string(file).map_err(|source| Error::ReadFile { file: name(), source })
}

/// Reads and checks the documents of a text, empty ones left out. `origin` is what messages call the text.
pub fn parse_documents(text: &str, origin: &str) -> Result<Vec<WasiGrant>, Error> {
    // The snippet of the parser's message would print the file across several lines of a log.
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| Error::ParseDocuments { origin: origin.to_string(), message: e.to_string() })?;
    let mut grants = Vec::new();
    let mut problems = Problems::default();
    for (index, document) in documents.into_iter().enumerate() {
        match check::read(document) {
            Ok(grant) => grants.push(grant),
            Err(findings) => {
                let origin = format!("{origin} document {}", index + 1);
                let problem = |(field, message)| Problem { origin: origin.clone(), field, message };
                problems.0.extend(findings.into_iter().map(problem));
            }
        }
    }
    if problems.0.is_empty() { Ok(grants) } else { Err(Error::CheckGrants { problems }) }
}
