//! The real `opa`: `$WASMGATE_OPA`, or the one that `tools/build` builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::process::{program, root};

/// A rule that does not end in any time that a review has, and takes little memory. It looks at the pods of namespace `shop` alone.
pub const ENDLESS: &str = "numbers_to_try := numbers.range(1, 3000)
violations contains {\"rule\": \"loop\", \"message\": \"m\"} if {
	input.request.namespace == \"shop\"
	some a in numbers_to_try
	some b in numbers_to_try
	some c in numbers_to_try
	a == b
	b == c
	c == 0
}";

/// Runs opa in the folder of the package. Returns its output.
pub fn run(arguments: &[&str]) -> Vec<u8> {
    run_in(root(), arguments)
}

/// Runs opa. Returns its output.
pub fn run_in(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program("opa")).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "opa {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The violations from the baseline's sources for many inputs by name, and the schema's errors on them, in one run of
/// opa: `{name: {"violations": [...], "schema": [...]}}`.
pub fn baseline(inputs: &serde_json::Map<String, Value>) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("inputs.json");
    std::fs::write(&data, json!({"inputs": inputs}).to_string()).unwrap();
    let query = "{name: found | some name, document in data.inputs
        violations := data.wasmgate.violations with input as document
        [_, errors] := json.match_schema(document, data.schema)
        found := {\"violations\": violations, \"schema\": errors}}";
    let (data, schema) = (data.to_str().unwrap(), "schema:policies/schema/input.v1alpha1.json");
    let printed = run(&[
        "eval",
        "--format",
        "raw",
        "--data",
        "policies/wasmgate",
        "--data",
        schema,
        "--data",
        data,
        query,
    ]);
    serde_json::from_slice(&printed).unwrap()
}

/// Compiles rules of the package `wasmgate` into a bundle, `folder/name.tar.gz`.
pub fn build(folder: &Path, name: &str, entrypoint: &str, rules: &str) -> PathBuf {
    build_package(folder, name, "wasmgate", &[entrypoint], rules)
}

/// The same for another package and several entry points. The rules are left in `folder/name`; what else is there, such as a manifest, is
/// a part of the bundle.
pub fn build_package(folder: &Path, name: &str, package: &str, entrypoints: &[&str], rules: &str) -> PathBuf {
    let sources = folder.join(name);
    std::fs::create_dir_all(&sources).unwrap();
    std::fs::write(sources.join("rules.rego"), format!("package {package}\n\n{rules}\n")).unwrap();
    let mut files = Vec::new();
    add_files(&sources, "", &mut files);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let archive = folder.join(format!("{name}.tar.gz"));
    let entrypoints = entrypoints.iter().flat_map(|entrypoint| ["--entrypoint", entrypoint]);
    let options: Vec<&str> = ["--revision", name].into_iter().chain(entrypoints).collect();
    std::fs::copy(built(&files, &options), &archive).unwrap();
    archive
}

/// The files below a folder, by their names there, in order.
fn add_files(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    for name in names {
        let (path, name) = (folder.join(&name), format!("{prefix}{name}"));
        if path.is_dir() {
            add_files(&path, &format!("{name}/"), files);
        } else {
            files.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
}

/// The archive that `opa build` makes of files, or made of the same in an earlier run. Compiled rules name the file that they come from, so
/// it always has the same path, and what is compiled of them is the same each time.
pub fn built(files: &[(&str, &str)], options: &[&str]) -> PathBuf {
    let opa = program("opa").display().to_string();
    let mut hash = Sha256::new();
    let parts = files.iter().flat_map(|(name, text)| [*name, *text]).chain(options.iter().copied());
    for part in parts.chain([opa.as_str()]) {
        hash.update(part);
        hash.update([0]);
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policies");
    let archive = cache.join(format!("{:x}.tar.gz", hash.finalize()));
    if archive.exists() {
        return archive;
    }
    std::fs::create_dir_all(&cache).unwrap();
    let work = tempfile::tempdir_in(&cache).unwrap();
    for (name, text) in files {
        let path = work.path().join("bundle").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let build = ["build", "--target", "wasm", "--bundle", "bundle", "--output", "out.tar.gz"];
    run_in(work.path(), &[&build[..], options].concat());
    std::fs::rename(work.path().join("out.tar.gz"), &archive).unwrap();
    archive
}
