//! Documents that tests read and a bundle does not carry, such as `fixtures/pod.json` as `data.fixtures`: `opa test` finds them only where
//! they are named one by one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::analysis::{self, DataPath};
use super::annotate::is_ignored;
use super::case;
use super::left_out::{BundleData, folder, is_data, is_other_document, places, reads_of};
use super::opa::Opa;
use super::rego_version::RegoVersion;
use super::runs::RegoTest;
use crate::cli::Error;
use crate::cli::args::PolicySources;
use crate::policy::contents::is_rego;

/// Most tests of which it is asked what they read: each asks `opa` once.
const MOST_TESTS: usize = 100;

/// What is said where they would be needed beside files in both versions of Rego: `opa test` reads both in a bundle alone.
const NOT_GIVEN: &str = "tests that failed read documents beside them, which a bundle does not have, and they were run without these, since \
                         `.manifest` names a version of Rego for some files alone; write the documents into the tests";

/// What `opa test` says of each test; those that fail for want of a document that lies beside them are run with it. The second value names
/// the files with which they were run, where it is not the folder as a bundle.
pub fn tests(opa: &Opa, sources: &PolicySources) -> Result<(Vec<RegoTest>, Option<TestFiles>), Error> {
    let tests = opa.tests(sources, None)?;
    let failed: Vec<_> = tests.iter().filter(|test| test.fail || test.error.is_some()).collect();
    let Some(files) = needed(opa, sources, &failed)? else { return Ok((tests, None)) };
    if opa.version == RegoVersion::Mixed {
        anstream::eprintln!("wasmgate: {NOT_GIVEN}");
        return Ok((tests, None));
    }
    let tests = opa.tests(sources, Some(&files.arguments(&sources.rules, None)))?;
    Ok((tests, Some(files)))
}

/// Files as `opa test` takes them one by one.
#[derive(Debug)]
pub struct TestFiles(Vec<(DataPath, PathBuf)>);

impl TestFiles {
    /// As arguments, below this folder instead of that of the rules where there is one.
    pub fn arguments(&self, root: &Path, instead: Option<&Path>) -> Vec<OsString> {
        let argument = |(place, path): &(DataPath, PathBuf)| {
            let below = path.strip_prefix(root).ok().zip(instead).map(|(below, folder)| folder.join(below));
            let path = below.unwrap_or_else(|| path.clone());
            if is_rego(&path) || place.is_empty() {
                return path.into();
            }
            let mut argument = OsString::from(place.join("."));
            argument.push(":");
            argument.push(path);
            argument
        };
        self.0.iter().map(argument).collect()
    }
}

/// All files of the rules, and the documents without which these tests fail; `None` where there is no such document.
fn needed(opa: &Opa, sources: &PolicySources, failed: &[&RegoTest]) -> Result<Option<TestFiles>, Error> {
    let root = &sources.rules;
    let mut files = case::walked(root)?;
    files.retain(|path| !is_ignored(path, root, &sources.ignore) && path.is_file());
    let documents: Vec<_> = files.iter().filter(|path| is_other_document(path)).collect();
    if documents.is_empty() || failed.is_empty() {
        return Ok(None);
    }
    let mut read = BTreeSet::new();
    for test in failed.iter().take(MOST_TESTS) {
        match analysis::dependencies(opa, root, &files, &format!("{}.{}", test.package, test.name)) {
            Ok(found) => read.extend(found.data),
            // Its name is no reference, as that of a case in a test.
            Err(Error::RunOpa { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let data = BundleData::of(root, &files);
    let is_needed = |path: &PathBuf| {
        places(path, root)
            .iter()
            .any(|(place, value)| read.iter().any(|read| reads_of(read, place, value) && !data.has(place)))
    };
    let wanted: BTreeSet<_> = documents.into_iter().filter(|path| is_needed(path)).cloned().collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    files.retain(|path| is_rego(path) || is_data(path) || wanted.contains(path));
    let files = files.into_iter().map(|path| (folder(&path, root), path));
    Ok(Some(TestFiles(files.collect())))
}
