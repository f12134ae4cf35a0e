//! The gate's own log. It goes to standard error, so that standard output holds decision records and nothing else.
//!
//! Fields and messages hold foreign text: names of images, answers of registries and of the API server. Here all of it is
//! made harmless, whatever the place that wrote the line did about it: a line stays a line, and a terminal that shows it has
//! nothing to obey.

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal as _, Write};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::args::LogFormat;
use crate::text;

/// What is said when nothing else is asked for. Of the watches the gate says itself what matters, each thing once; the
/// client would also print answers that it cannot read.
const QUIET: &str = "info,kube_client=off,kube_runtime=off";

/// Starts the log of this process.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET));
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second initialisation can only come from a test that runs commands in one process; the first one stays.
    let _ = match format {
        LogFormat::Text => for_people(filter, ansi, io::stderr).try_init(),
        LogFormat::Json => for_programs(filter, io::stderr).try_init(),
    };
}

fn for_people<W>(filter: EnvFilter, ansi: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .fmt_fields(debug_fn(field).delimited(" "))
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(writer)
        .finish()
}

/// One field as it is written: the message alone, others behind their names.
fn field(to: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = text::visible(&value);
    match field.name() {
        "message" => to.write_str(&value),
        name => write!(to, "{name}={value}"),
    }
}

fn for_programs<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt().with_env_filter(filter).json().with_writer(Escaping(writer)).finish()
}

/// Writes JSON with escapes for what is dangerous in it. The log hands over each line whole.
struct Escaping<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaping<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(text::json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const FORGED: &str = "x\n2026-01-01 INFO admitted\u{1b}[2K\u{9b}K\u{202e}\u{2028}\u{feff}\0";

    fn lines(log: impl FnOnce(Written) -> Box<dyn Subscriber + Send + Sync>) -> String {
        let written = Written::default();
        tracing::subscriber::with_default(log(written.clone()), || {
            let span = tracing::info_span!("look", image = %FORGED);
            let _inside = span.enter();
            tracing::info!(image = %FORGED, text = FORGED, debug = ?FORGED, "message {FORGED}");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_field_and_no_message_can_forge_a_line_or_drive_a_terminal() {
        let filter = || EnvFilter::new("trace");
        for log in [
            lines(|to| Box::new(for_people(filter(), false, move || to.clone()))),
            lines(|to| Box::new(for_programs(filter(), move || to.clone()))),
        ] {
            let line = log.strip_suffix('\n').unwrap();
            assert!(!line.contains(text::is_dangerous), "{line:?}");
            assert!(line.matches("admitted").count() >= 5, "{line}");
        }
    }

    #[test]
    fn colour_is_the_logs_own() {
        let log = lines(|to| Box::new(for_people(EnvFilter::new("trace"), true, move || to.clone())));
        let plain = log.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest));
        assert!(log.contains("\u{1b}[") && !log.contains("\u{1b}[2K"), "{log:?}");
        assert!(!plain.collect::<String>().trim_end().contains(text::is_dangerous), "{log:?}");
    }

    #[test]
    fn programs_read_what_was_written() {
        let log = lines(|to| Box::new(for_programs(EnvFilter::new("trace"), move || to.clone())));
        let line: Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["fields"]["image"], FORGED);
        assert_eq!(line["fields"]["message"], format!("message {FORGED}"));
    }
}
