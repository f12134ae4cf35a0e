//! `wasmgate policy new`: a rule to begin with, with its test and a case, which pass as they are written.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use crate::cli::args::{OutputFormat, PolicyNewOptions};
use crate::cli::{Error, Exit, inspect, print};
use crate::text;

/// The files by the ends of their names; `RULE` stands for the name of the rule, `PACKAGE` for the same as Rego takes it.
const FILES: [(&str, &str); 3] = [
    (".rego", include_str!("new/rule.rego.txt")),
    ("_test.rego", include_str!("new/rule_test.rego.txt")),
    ("_cases.yaml", include_str!("new/rule_cases.yaml.txt")),
];

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
    for (path, (_, text)) in paths.iter().zip(FILES) {
        let text = text.replace("RULE", rule).replace("PACKAGE", &package);
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| failed(path, source))?;
    }
    let shown = paths.map(|path| path.display().to_string());
    let output = match output {
        OutputFormat::Text => shown.map(|path| format!("{}\n", text::line(&path))).concat().into_bytes(),
        other => inspect::formatted(&json!({ "rule": rule, "files": shown }), *other)?,
    };
    print(&output).map(|()| Exit::Success)
}
