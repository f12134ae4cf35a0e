//! `wasmgate policy new`: a rule to begin with, with its test and a case, which pass as they are written.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::rego_version::RegoVersion;
use crate::cli::args::PolicyNewOptions;
use crate::cli::{Error, Exit, inspect};
use crate::text;

/// The files by the ends of their names; `RULE` stands for the name of the rule, `PACKAGE` for the same as Rego takes it.
const FILES: [(&str, &str); 3] = [
    (".rego", include_str!("new/rule.rego.txt")),
    ("_test.rego", include_str!("new/rule_test.rego.txt")),
    ("_cases.yaml", include_str!("new/rule_cases.yaml.txt")),
];

/// The message of the rule in the file above, and the same for files beside rules in Rego v0, which has no texts with values in them.
const MESSAGE: (&str, &str) = (
    "$\"container `{container.name}`: image `{container.image}` is from `RULE.example.com`\"",
    "sprintf(\"container `%v`: image `%v` is from `RULE.example.com`\", [container.name, container.image])",
);

/// A file in Rego as a folder takes it whose rules are in this version.
fn in_version(text: &str, version: RegoVersion) -> String {
    if version == RegoVersion::V1 || !text.starts_with("package ") {
        return text.into();
    }
    let (of_v1, of_both) = MESSAGE;
    text.replacen('\n', "\n\nimport rego.v1\n", 1).replace(of_v1, of_both)
}

/// Writes the files, none of which may be there.
pub fn run(options: &PolicyNewOptions) -> Result<Exit, Error> {
    let PolicyNewOptions { rule, folder, output } = options;
    let failed = |path: &Path, source| Error::WriteBundle { path: path.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let package = rule.replace('-', "_");
    let paths = FILES.map(|(end, _)| folder.join(format!("{package}{end}")));
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(Error::ReplaceRule { path: path.clone() });
    }
    // The bundle may begin in a folder above.
    let is_other = |version: &RegoVersion| *version != RegoVersion::V1;
    let version = folder.ancestors().map(RegoVersion::of).find(is_other).unwrap_or(RegoVersion::V1);
    for (path, (_, text)) in paths.iter().zip(FILES) {
        let text = in_version(text, version);
        let text = text.replace("RULE", rule).replace("PACKAGE", &package);
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| failed(path, source))?;
    }
    let files = paths.map(|path| path.display().to_string());
    let said = |_: &_| files.each_ref().map(|path| format!("{}\n", text::line(path))).concat();
    inspect::show(&json!({ "rule": rule, "files": files }), *output, said).map(|()| Exit::Success)
}
