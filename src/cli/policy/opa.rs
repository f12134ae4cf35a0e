//! The author's `opa`: finds it, gives it what it needs to know of the gate, and reads what it says.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::annotate::rego_files;
use super::bounded::output_within;
use super::rego_version::{RegoVersion, V0_FLAG};
use super::temporary::Temporary;
use crate::cli::Error;
use crate::cli::args::{PolicySources, TEST_TIMEOUT};
use crate::policy::ENTRYPOINT;
use crate::policy::contents::SIGNATURES;
use crate::policy::signature::Algorithm;
use crate::rego::REFUSED;
use crate::text;

/// What rules may call in the gate, as `opa build --capabilities` takes it.
pub const CAPABILITIES: &str = include_str!("../../../policies/capabilities.json");
/// JSON Schema of `input`.
const SCHEMA: &str = include_str!("../../../policies/schema/input.v1alpha1.json");
/// Files that are no part of a bundle.
const TESTS: &str = "*_test.rego";
/// The longest that opa takes to start and to read the rules, on a machine with much to do.
const START_TIME: Duration = Duration::from_mins(1);
/// How the message begins about a run that was ended.
pub const NOT_DONE: &str = "it was not done within";

/// The program, and a folder with what it is given.
pub struct Opa {
    program: PathBuf,
    folder: Temporary,
    /// Whether rules are checked against the schema of `input`.
    has_schema: bool,
    /// The version of Rego that the rules are in.
    pub version: RegoVersion,
    /// The longest that a test, or the rules on one input, may take.
    pub test_timeout: Duration,
}

/// Something that `opa` objects to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpaProblem {
    /// The file; empty where it is not known.
    pub file: String,
    /// Line, from 1; 0 where it is not known.
    pub row: u64,
    /// Column, from 1; 0 where it is not known.
    pub column: u64,
    /// Class of the problem, such as `rego_type_error`.
    pub code: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl OpaProblem {
    /// A problem of a whole file.
    pub fn of_file(file: &str, code: &str, message: String) -> Self {
        Self { file: file.into(), row: 0, column: 0, code: code.into(), message }
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<RegoError>,
}

#[derive(Deserialize)]
struct RegoError {
    message: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    location: Location,
    #[serde(default)]
    details: Value,
}

/// A place in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Location {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub row: u64,
    /// Column, from 1.
    pub col: u64,
}

impl From<RegoError> for OpaProblem {
    fn from(error: RegoError) -> Self {
        let RegoError { mut message, code, location, details } = error;
        if let Some(reason) = why_undefined(&message) {
            message = format!("{message}: {reason}");
        }
        message.push_str(cure(&message));
        message.push_str(&meant(&details));
        Self { file: location.file, row: location.row, column: location.col, code, message }
    }
}

/// What to do about a field of the input that the schema does not have (`open-policy-agent/opa:v1/ast/check.go`, `RefErrInvalidDetail`);
/// empty for anything else.
fn meant(details: &Value) -> String {
    let said = || {
        let at = usize::try_from(details.get("pos")?.as_u64()?).ok()?;
        let reference = details.get("ref")?.as_array()?;
        let word = reference.get(at)?.get("value")?.as_str()?;
        let known = details.get("oneOf")?.as_array()?.iter().filter_map(Value::as_str);
        let is_input = at == 1 && reference.first()?.get("value")? == "input";
        let document = if is_input { NO_SUCH_FIELD } else { "" };
        Some(format!("{document}{}", text::did_you_mean(word, known)))
    };
    said().unwrap_or_default()
}

/// What is said of a field that `input` itself does not have.
const NO_SUCH_FIELD: &str = ": `input` has no such field, see policies/schema/input.v1alpha1.json; rules that were written for another \
                             document are checked with --no-schema";

/// Why the function of `undefined function NAME` is not in the gate, or not in the bundle.
fn why_undefined(message: &str) -> Option<String> {
    let name = message.strip_prefix("undefined function ")?.split_whitespace().next()?;
    if name.starts_with("data.") {
        return Some(MOVE.into());
    }
    let reason = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)?;
    Some(format!("it does not run in the gate ({reason})"))
}

/// What opa says of a rule in Rego v0 that it reads as v1.
const READ_AS_V1: &str = "`if` keyword is required before rule body";

/// What to do where it is about Rego v0, about data over a rule, or about `roots` of a manifest
/// (`open-policy-agent/opa:v1/bundle/bundle.go`, `validateAndInjectDefaults`); empty for anything else.
fn cure(message: &str) -> &'static str {
    if message.ends_with(READ_AS_V1) {
        "; rules in Rego v0 are taken as they are with `{\"rego_version\": 0}` in a file `.manifest` in their folder, and `opa fmt --write \
         --v0-v1` brings most of them to v1"
    } else if message.contains("conflicting rule for data path ") {
        "; remove the value from `data.json`, or give it or the rule another name"
    } else if message.contains("manifest has overlapped roots") {
        "; leave out of `roots` in `.manifest` what is a part of another one"
    } else if message.contains("manifest roots [") {
        "; add what they do not permit to `roots` in `.manifest`, or move it below one of them"
    } else {
        ""
    }
}

/// What is said of a function that no file of the bundle defines.
const MOVE: &str = "no file of the bundle defines it; where one whose name ends with `_test.rego` does, move it to another file, since \
                    these are left out";

impl Opa {
    /// Prepares the program of this name or path.
    pub fn new(program: &Path) -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        // opa is run in other folders too.
        let parent = std::path::absolute(&parent).unwrap_or(parent);
        let failed = |source| Error::UseFolder { path: parent.clone(), source };
        let folder = Temporary::below(&parent).map_err(failed)?;
        let opa = Self {
            program: program.into(),
            folder,
            has_schema: true,
            version: RegoVersion::V1,
            test_timeout: Duration::from_secs(TEST_TIMEOUT),
        };
        for (name, text) in [("schema.json", SCHEMA), ("capabilities.json", CAPABILITIES)] {
            std::fs::write(opa.file(name), text).map_err(failed)?;
        }
        Ok(opa)
    }

    /// The program that these rules are read with.
    pub fn of(sources: &PolicySources) -> Result<Self, Error> {
        let version = RegoVersion::of(&sources.rules);
        Ok(Self { has_schema: !sources.no_schema, version, ..Self::new(&sources.opa)? })
    }

    /// The same, with this time for a test.
    #[must_use]
    pub fn with_test_timeout(self, test_timeout: Duration) -> Self {
        Self { test_timeout, ..self }
    }

    /// Has rules checked against the schema of `input`.
    pub fn with_schema(&self, arguments: &mut Vec<OsString>) {
        if self.has_schema {
            arguments.extend([OsString::from("--schema"), self.file("schema.json").into()]);
        }
    }

    /// A file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs it; what it says of a failure is in the output.
    pub fn run(&self, arguments: &[OsString]) -> Result<Output, Error> {
        self.run_in(None, arguments)
    }

    /// The same in this folder.
    pub fn run_in(&self, folder: Option<&Path>, arguments: &[OsString]) -> Result<Output, Error> {
        let output = self.command(folder, arguments).output();
        output.map_err(|source| self.not_run(arguments, &source))
    }

    /// The same, and ends it where it takes longer than to start and to do what may take `work`: opa itself ends a test or a query that
    /// takes too long, but not a function that does not return.
    pub fn run_within(
        &self,
        folder: Option<&Path>,
        arguments: &[OsString],
        work: Duration,
    ) -> Result<Output, Error> {
        let limit = START_TIME.saturating_add(work);
        let output = output_within(&mut self.command(folder, arguments), limit);
        output.map_err(|source| self.not_run(arguments, &source))?.ok_or_else(|| Error::RunOpa {
            command: shown(arguments),
            message: format!(
                "{NOT_DONE} {limit:?} and was ended: a rule or a test does not end; mend it, or give each more time with --test-timeout"
            ),
        })
    }

    fn command(&self, folder: Option<&Path>, arguments: &[OsString]) -> Command {
        // A program of the PATH stays one; any other is where it was named.
        let is_path = self.program.components().count() > 1;
        let absolute = is_path.then(|| self.program.canonicalize().ok()).flatten();
        let mut command = Command::new(absolute.as_ref().unwrap_or(&self.program));
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        // The schema is not to be fetched from anywhere, and nothing is to be asked of a terminal.
        command.args(arguments).stdin(std::process::Stdio::null());
        command
    }

    fn not_run(&self, arguments: &[OsString], source: &io::Error) -> Error {
        match source.kind() {
            ErrorKind::NotFound => Error::FindOpa { program: self.program.clone() },
            _ => Error::RunOpa { command: shown(arguments), message: source.to_string() },
        }
    }

    /// What it prints where it succeeds.
    pub fn printed(&self, arguments: &[OsString]) -> Result<Vec<u8>, Error> {
        self.printed_in(None, arguments)
    }

    /// The same in this folder.
    pub fn printed_in(&self, folder: Option<&Path>, arguments: &[OsString]) -> Result<Vec<u8>, Error> {
        stdout_of(arguments, self.run_in(folder, arguments)?)
    }

    /// The same, where it takes no longer than this: see [`Self::run_within`].
    pub fn printed_within(
        &self,
        folder: Option<&Path>,
        arguments: &[OsString],
        work: Duration,
    ) -> Result<Vec<u8>, Error> {
        stdout_of(arguments, self.run_within(folder, arguments, work)?)
    }

    /// Types over everything, tests included; with `in_gate` also whether what is called runs in the gate, for all but the tests.
    pub fn check(
        &self,
        rules: &Path,
        ignored: &[String],
        in_gate: bool,
        is_strict: bool,
    ) -> Result<Vec<OpaProblem>, Error> {
        let mut arguments = words(&["check", "--format", "json", "--bundle"]);
        arguments.extend(is_strict.then(|| OsString::from("--strict")));
        self.with_schema(&mut arguments);
        if in_gate {
            arguments.extend([OsString::from("--capabilities"), self.file("capabilities.json").into()]);
        }
        ignore(&mut arguments, ignored, in_gate);
        arguments.push(followed(rules).into());
        let output = self.run(&arguments)?;
        if output.status.success() {
            return Ok(Vec::new());
        }
        let errors = errors(&output).ok_or_else(|| failed(&arguments, &output))?;
        Ok(errors.into_iter().map(OpaProblem::from).collect())
    }

    /// The files that `opa fmt` would change; of rules in both versions of Rego it reads some alone. It is given the files: of a folder it
    /// also opens pipes, links that lead nowhere, and what is left out.
    pub fn unformatted(&self, sources: &PolicySources) -> Result<Vec<OpaProblem>, Error> {
        let is_v0 = self.version == RegoVersion::V0;
        let files = rego_files(&followed(&sources.rules), &sources.ignore)?;
        // Without a file it reads standard input.
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = words(&["fmt", "--list"]);
        arguments.extend(is_v0.then(|| OsString::from(V0_FLAG)));
        arguments.extend(files.into_iter().map(OsString::from));
        let printed = self.printed(&arguments)?;
        let finding = |file: &str| {
            let flag = if is_v0 { format!("{V0_FLAG} ") } else { String::new() };
            let message = format!("it is not formatted, run `opa fmt --write {flag}{file}`");
            OpaProblem::of_file(file, "opa_fmt", message)
        };
        Ok(String::from_utf8_lossy(&printed).lines().map(finding).collect())
    }

    /// Compiles the rules for the gate, without their tests.
    pub fn build(&self, rules: &Path, ignored: &[String], revision: &str, to: &Path) -> Result<(), Error> {
        let mut arguments = words(&["build", "--target", "wasm", "--entrypoint", ENTRYPOINT]);
        arguments.extend(words(&["--revision", revision, "--capabilities"]));
        arguments.push(self.file("capabilities.json").into());
        ignore(&mut arguments, ignored, true);
        arguments.extend([OsString::from("--output"), to.into(), OsString::from("--bundle")]);
        // A name may begin like a flag.
        arguments.push("--".into());
        // Sources are in the archive under the path that is named here: neither `..` nor a path of this machine belongs there.
        let failed = |source| Error::UseRules { path: rules.to_path_buf(), source };
        let whole = rules.canonicalize().map_err(failed)?;
        let name = whole.file_name().unwrap_or(".".as_ref());
        arguments.push(name.into());
        self.printed_in(Some(whole.parent().unwrap_or(&whole)), &arguments)?;
        self.written(&arguments, to).map(drop)
    }

    /// The file that a command has written, which did not fail; a program that is no opa may have written none.
    pub fn written(&self, arguments: &[OsString], file: &Path) -> Result<Vec<u8>, Error> {
        std::fs::read(file).map_err(|source| match source.kind() {
            ErrorKind::NotFound => {
                let program = self.program.display();
                let message =
                    format!("`{program}` ended without an error and wrote nothing; see whether it is opa");
                Error::RunOpa { command: shown(arguments), message }
            }
            _ => Error::UseFolder { path: file.into(), source },
        })
    }

    /// Signs an archive. Returns what `.signatures.json` has to hold.
    pub fn sign(&self, archive: &Path, signing: &Signing<'_>) -> Result<Vec<u8>, Error> {
        let Signing { key, algorithm, id, scope } = signing;
        let (claims, signatures) = (self.file("claims.json"), self.file("signatures"));
        let failed = |source| Error::UseFolder { path: self.folder.path().to_path_buf(), source };
        let text = serde_json::json!({ "keyid": id, "scope": scope }).to_string();
        std::fs::write(&claims, text).and_then(|()| std::fs::create_dir_all(&signatures)).map_err(failed)?;
        let mut arguments = words(&["sign", "--signing-alg", algorithm.as_str(), "--signing-key"]);
        arguments.extend([(*key).into(), OsString::from("--claims-file"), claims.into()]);
        arguments.extend([OsString::from("--output-file-path"), signatures.clone().into()]);
        arguments.extend([OsString::from("--bundle"), archive.into()]);
        self.printed(&arguments)?;
        self.written(&arguments, &signatures.join(SIGNATURES))
    }
}

/// The folder itself, where a link to it is named: opa would find nothing in that.
pub fn followed(rules: &Path) -> PathBuf {
    let target = if rules.is_symlink() { rules.canonicalize().ok() } else { None };
    target.unwrap_or_else(|| rules.to_path_buf())
}

/// How a bundle is signed.
#[derive(Debug)]
pub struct Signing<'a> {
    /// File of the private key or the secret.
    pub key: &'a Path,
    /// By what.
    pub algorithm: Algorithm,
    /// Id of the key.
    pub id: &'a str,
    /// Scope of the signature; empty for none.
    pub scope: &'a str,
}

/// Arguments.
pub fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Has files of these names left out, and those of tests.
pub fn ignore(arguments: &mut Vec<OsString>, ignored: &[String], tests: bool) {
    let names = ignored.iter().map(String::as_str).chain(tests.then_some(TESTS));
    for name in names {
        arguments.extend(words(&["--ignore", name]));
    }
}

fn errors(output: &Output) -> Option<Vec<RegoError>> {
    let read = |bytes: &[u8]| serde_json::from_slice::<Errors>(bytes).ok();
    read(&output.stdout).or_else(|| read(&output.stderr)).map(|errors| errors.errors)
}

/// What it printed where it succeeded.
fn stdout_of(arguments: &[OsString], output: Output) -> Result<Vec<u8>, Error> {
    if output.status.success() { Ok(output.stdout) } else { Err(failed(arguments, &output)) }
}

/// What went wrong, in its own words.
pub fn failed(arguments: &[OsString], output: &Output) -> Error {
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    // Its usage follows what it says of a wrong flag.
    let said = String::from_utf8_lossy(said);
    let said = said.split("\nUsage:").next().unwrap_or_default().trim().to_string();
    let mut message = said.lines().map(with_reason).collect::<Vec<_>>().join("\n");
    if said.contains("rego_type_error: undefined ref: input.") {
        message.push_str("\nrules that were written for another document are run with --no-schema");
    }
    Error::RunOpa { command: shown(arguments), message }
}

/// What opa says of sources without the entry point.
const NO_ENTRYPOINT: &str = "does not refer to a rule or policy decision";

/// A line with the reason where it is about a function that the gate does not have, and with the cure where no rule is in the package that
/// the gate asks.
fn with_reason(line: &str) -> String {
    if line.contains(NO_ENTRYPOINT) {
        let (package, rule) = ENTRYPOINT.split_once('/').unwrap_or_default();
        return format!(
            "{line}; write the rules in `package {package}`, each as `{rule} contains …`, as `wasmgate policy new` does"
        );
    }
    let function = line.find("undefined function ").and_then(|at| why_undefined(line.get(at..)?));
    let cure = cure(line);
    function.map_or_else(|| format!("{line}{cure}"), |reason| format!("{line}: {reason}"))
}

/// The command for people: its first word says enough.
pub fn shown(arguments: &[OsString]) -> String {
    let first = arguments.first().map(|word| word.to_string_lossy().into_owned());
    format!("opa {}", first.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_does_not_run_in_the_gate_is_named_with_the_reason() {
        let text = r#"{"errors": [{"message": "undefined function http.send", "code": "rego_type_error",
            "location": {"file": "a.rego", "row": 4, "col": 2}}]}"#;
        let errors: Errors = serde_json::from_str(text).unwrap();
        let found: Vec<_> = errors.errors.into_iter().map(OpaProblem::from).collect();
        let message =
            "undefined function http.send: it does not run in the gate (it would touch the network)";
        assert_eq!(
            found,
            [OpaProblem {
                file: "a.rego".into(),
                row: 4,
                column: 2,
                code: "rego_type_error".into(),
                message: message.into()
            }]
        );
        let line = "1 error occurred: a.rego:4: rego_type_error: undefined function http.send";
        assert!(
            with_reason(line)
                .ends_with("http.send: it does not run in the gate (it would touch the network)")
        );
        assert_eq!(with_reason("undefined function my.own"), "undefined function my.own");
        let said = with_reason(&format!("error: entrypoint \"wasmgate/violations\" {NO_ENTRYPOINT}"));
        assert!(
            said.contains("write the rules in `package wasmgate`, each as `violations contains"),
            "{said}"
        );
    }

    #[test]
    fn the_capabilities_leave_out_what_the_gate_refuses() {
        let read: serde_json::Value = serde_json::from_str(CAPABILITIES).unwrap();
        let names: Vec<_> =
            read["builtins"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
        for (refused, _) in REFUSED {
            assert!(!names.contains(refused), "{refused}");
        }
        assert!(names.contains(&"sprintf") && names.contains(&"regex.match"));
    }
}
