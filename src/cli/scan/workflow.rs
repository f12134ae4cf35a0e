//! Workflow commands of GitHub Actions, which show findings beside the lines of a pull request. Pure.
//! Source: `actions/toolkit:packages/core/src/command.ts`.

use std::fmt::Write as _;

use super::model::{ManifestPlace, Scan};
use super::table::summary;
use crate::policy::EnforcementAction;
use crate::text;

/// A command for each finding and for everything that could not be judged, and a line that counts.
pub fn commands(scan: &Scan) -> String {
    let mut out = String::new();
    for workload in &scan.workloads {
        for finding in workload.findings() {
            let level = match finding.judged.action {
                EnforcementAction::Deny => "error",
                EnforcementAction::Warn => "warning",
                EnforcementAction::Audit => "notice",
            };
            let violation = &finding.judged.violation;
            let title = format!("{} {}", violation.rule, workload.full_name());
            out.push_str(&command(level, &finding.place, &title, &violation.said()));
        }
        let place = workload.place().cloned().unwrap_or_default();
        for reason in workload.reasons() {
            let title = format!("not judged {}", workload.full_name());
            out.push_str(&command("warning", &place, &title, &reason));
        }
    }
    for one in &scan.not_judged {
        out.push_str(&command("warning", &one.place, &format!("not judged {}", one.what), &one.reason));
    }
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", summary(scan, true));
    out
}

fn command(level: &str, place: &ManifestPlace, title: &str, message: &str) -> String {
    let file =
        place.file.as_deref().map(|file| format!("file={},line={},", property(file), place.line.max(1)));
    format!("::{level} {}title={}::{}\n", file.unwrap_or_default(), property(title), data(message))
}

/// The message of a command. Its own line feeds stay, as escapes.
fn data(text: &str) -> String {
    escaped(&text::lines(text))
}

/// A property of a command.
fn property(text: &str) -> String {
    escaped(&text::visible(text)).replace(':', "%3A").replace(',', "%2C")
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_command_or_its_property() {
        let place = ManifestPlace { file: Some("a,b:c%.yaml".into()), line: 3, ..ManifestPlace::default() };
        assert_eq!(
            command("error", &place, "t::x\n", "one\r\n::set-env name=A::b 100%"),
            "::error file=a%2Cb%3Ac%25.yaml,line=3,title=t%3A%3Ax\\n::one %0A::set-env name=A::b 100%25\n"
        );
        assert_eq!(command("notice", &ManifestPlace::default(), "t", "m"), "::notice title=t::m\n");
    }
}
