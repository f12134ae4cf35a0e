//! `wasmgate inspect`: shows what an image or a Wasm file is, and what it can call.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::args::{InspectOptions, OutputFormat};
use super::{Error, Exit, build, print, shown};
use crate::capability::interpreter;
use crate::files;
use crate::image::{Depth, ImageFacts, ModuleFacts, WasmFormat, module, program};
use crate::runtime;
use crate::text;

/// Columns of the output when it is not a terminal.
const DEFAULT_WIDTH: u16 = 120;

/// Largest local file that is read, in bytes.
const FILE_LIMIT: u64 = 512 << 20;

/// Prints the facts about one image or file.
pub async fn run(options: Box<InspectOptions>) -> Result<Exit, Error> {
    if is_wasm_file(&options.target)? {
        let facts = file(Path::new(&options.target))?;
        return show(&facts, options.output, module_text).map(|()| Exit::Success);
    }
    let settings = build::settings(&options.images.gate())?;
    let inspector = build::inspector(&settings)?;
    let budget = Duration::from_secs(options.timeout);
    let facts = if options.target.starts_with("oci:") {
        Arc::new(inspector.inspect_layout(&options.target, Depth::Layers).await?)
    } else {
        inspector.inspect(&options.target, Depth::Layers, budget).await.map_err(|e| (*e).clone())?
    };
    show(facts.as_ref(), options.output, image_text).map(|()| Exit::Success)
}

/// Whether the target is an existing file, or a pipe such as `<(cat app.wasm)` in a shell. It is an error if the target can only be a file and does not exist.
pub(super) fn is_wasm_file(target: &str) -> Result<bool, Error> {
    let is_readable = |of: Metadata| of.is_file() || of.file_type().is_fifo();
    if Path::new(target).metadata().is_ok_and(is_readable) {
        return Ok(true);
    }
    if looks_like_a_file(target) {
        let message = if Path::new(target).is_dir() {
            format!("it is a folder; for an image layout write `oci:{target}`")
        } else {
            "there is no such file; name an image, `oci:FOLDER[:TAG]` or a Wasm file".to_string()
        };
        return Err(Error::InspectFile { path: target.to_string(), message });
    }
    Ok(false)
}

/// Whether the target can only be a path: no image name begins or ends like this.
fn looks_like_a_file(target: &str) -> bool {
    let path = Path::new(target);
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    !target.starts_with("oci:")
        && (path.is_dir()
            || target.starts_with(['.', '/'])
            || matches!(ending, Some("wasm" | "wat" | "cwasm")))
}

pub(super) fn file(path: &Path) -> Result<ModuleFacts, Error> {
    let failed = |message: String| Error::InspectFile { path: path.display().to_string(), message };
    let bytes = files::read_or_wait(path, FILE_LIMIT).map_err(|e| failed(e.to_string()))?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    module::read(&bytes, &name).map_err(|e| failed(e.to_string()))
}

/// Prints what [`written`] makes of a report without a `kind`.
pub fn show<T: serde::Serialize>(
    facts: &T,
    output: OutputFormat,
    text: impl Fn(&T) -> String,
) -> Result<(), Error> {
    print(&written(facts, None, output, text)?)
}

/// A report as text, or for scripts: with its `kind`, if it has one.
pub fn written<T: serde::Serialize>(
    report: &T,
    kind: Option<&str>,
    output: OutputFormat,
    text: impl Fn(&T) -> String,
) -> Result<Vec<u8>, Error> {
    if output == OutputFormat::Text {
        return Ok(shown(&text(report)));
    }
    let value = serde_json::to_value(report).map_err(|e| Error::Format(e.to_string()))?;
    match kind {
        Some(kind) => reported(kind, value, output),
        None => formatted(&value, output),
    }
}

/// API version of the reports for scripts, as of the project's own resources.
const API_VERSION: &str = "wasmgate.dev/v1alpha1";

/// A report for scripts with its `apiVersion` and `kind`, without which `kubectl`, whose query language may be asked about it, takes no document.
pub fn reported(kind: &str, mut report: Value, output: OutputFormat) -> Result<Vec<u8>, Error> {
    if let Some(fields) = report.as_object_mut() {
        fields.insert("apiVersion".to_owned(), API_VERSION.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    formatted(&report, output)
}

/// The value as JSON or YAML, with a final line break.
pub fn formatted(value: &Value, output: OutputFormat) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_string_pretty(value).map_err(|e| Error::Format(e.to_string()))?;
    let mut text = match output {
        OutputFormat::Yaml => match text::flow_yaml(&json) {
            Cow::Borrowed(json) => yaml(value, json)?,
            // JSON is YAML too, and in this style of it strings can hold escapes.
            Cow::Owned(escaped) => text::json_without_commands(&escaped).into_owned(),
        },
        _ => text::json_without_commands(&text::json(&json)).into_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text.into_bytes())
}

/// A value as YAML, and as JSON where its text would be a command in the log of a CI server.
fn yaml(value: &Value, json: &str) -> Result<String, Error> {
    let yaml = serde_saphyr::to_string(value).map_err(|e| Error::Format(e.to_string()))?;
    let is_harmless = matches!(text::without_commands(&yaml), Cow::Borrowed(_));
    Ok(if is_harmless { yaml } else { text::json_without_commands(json).into_owned() })
}

/// Columns of the terminal: `COLUMNS`, or the width of standard output.
pub fn terminal_width() -> u16 {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0);
    said.or_else(measured).unwrap_or(DEFAULT_WIDTH)
}

/// Lines of `label value`; all values are foreign text.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, label: &str, value: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "{label:<10} {}", text::line(value));
    }
}

fn image_text(facts: &ImageFacts) -> String {
    let mut out = Lines::default();
    out.add("kind", facts.kind.as_str());
    out.add("shape", serde_json::to_value(facts.shape).unwrap_or_default().as_str().unwrap_or_default());
    out.add("digest", facts.digest.as_str());
    if facts.manifest_digest != facts.digest {
        out.add("manifest", facts.manifest_digest.as_str());
    }
    if !facts.platform.is_empty() {
        out.add("platform", &facts.platform);
    }
    for (label, words) in [("entrypoint", &facts.entrypoint), ("cmd", &facts.cmd)] {
        if !words.is_empty() {
            out.add(label, &format!("{words:?}"));
        }
    }
    for (index, evidence) in facts.evidence.iter().enumerate() {
        let label = if index == 0 { "because" } else { "" };
        out.add(label, &format!("{} = {}", evidence.seen, evidence.value));
    }
    let own = program::program(facts, &[], &[]);
    for warning in facts.warnings.iter().chain(&runtime::warnings(None, facts, &own)) {
        out.add("warning", warning);
    }
    for native in &facts.native {
        out.add("native", &format!("{} in {}", native.magic, native.source));
    }
    if let Some(app) = &facts.spin {
        let triggers: Vec<_> = app.triggers.iter().map(String::as_str).collect();
        out.add("spin app", &format!("{} (triggers: {})", app.name, triggers.join(", ")));
    }
    let modules = facts.modules.iter().map(|module| format!("\n{}", module_text(module)));
    out.0 + &modules.collect::<String>()
}

fn module_text(facts: &ModuleFacts) -> String {
    let format = match facts.format {
        WasmFormat::Module => "module",
        WasmFormat::Component => "component",
    };
    let owner = facts.component.as_deref().map(|id| format!(" (component {id})")).unwrap_or_default();
    let mut out = Lines::default();
    out.add(format, &format!("{}{owner}", facts.source));
    out.add(
        "  size",
        &format!(
            "{} bytes: code {}, data {}; initial memory {}",
            facts.size_bytes, facts.code_bytes, facts.data_bytes, facts.memory_bytes
        ),
    );
    for found in &facts.interpreters {
        let engine = found.engine;
        out.add(
            "  carries",
            &format!(
                "{}: can call whatever the library of {} can, not only what the program does",
                engine.name(),
                engine.language()
            ),
        );
        for evidence in &found.evidence {
            out.add("", &format!("{} = {}", evidence.seen, evidence.value));
        }
        out.add("  narrow", interpreter::way_out(engine, facts.format));
    }
    for import in &facts.imports {
        let functions: Vec<_> = import.functions.iter().map(String::as_str).collect();
        out.add("  import", &format!("{}: {}", import.interface, functions.join(", ")));
    }
    for export in &facts.exports {
        out.add("  export", export);
    }
    out.0
}
