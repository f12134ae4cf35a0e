//! Workflow commands of GitHub Actions, which show findings beside the lines of a pull request. Pure.
//! Source: `actions/toolkit:packages/core/src/command.ts`.

use std::fmt::Write as _;

use super::table::summary;
use crate::policy::EnforcementAction;
use crate::scan::model::{FoundViolation, ManifestPlace, Scan, Workload};
use crate::text;

/// Most annotations of one level that GitHub shows of a step; the rest stands in its log alone. Source: "Limitations" of
/// `actions/toolkit:docs/problem-matchers.md`.
const SHOWN: usize = 10;

/// The levels of annotations, the worst first.
const LEVELS: [(Level, &str); 3] =
    [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Notice, "notice")];

/// The level of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warning,
    Notice,
}

/// A command for each finding and for everything that could not be judged, the worst first since GitHub does not show all, and lines
/// that count.
pub fn commands(scan: &Scan) -> String {
    let mut commands = Vec::new();
    for one in &scan.not_judged {
        let title = format!("not judged {}", one.what);
        commands.push((Level::Warning, command(Level::Warning, &one.place, &title, &one.reason)));
    }
    for workload in &scan.workloads {
        let place = workload.place().cloned().unwrap_or_default();
        for reason in workload.reasons() {
            let title = format!("not judged {}", workload.full_name());
            commands.push((Level::Warning, command(Level::Warning, &place, &title, &reason)));
        }
    }
    for workload in &scan.workloads {
        commands.extend(workload.findings().iter().map(|finding| of_finding(workload, finding)));
    }
    // Stable: what is not known comes before the rules that warn.
    commands.sort_by_key(|(level, _)| *level);
    let mut out: String = commands.iter().map(|(_, command)| command.as_str()).collect();
    for (level, word) in LEVELS {
        let count = commands.iter().filter(|(of, _)| *of == level).count();
        if count > SHOWN {
            // Writing to a string cannot fail.
            let _ =
                writeln!(out, "GitHub shows {SHOWN} of the {count} annotations `{word}`; this log has all");
        }
    }
    let _ = writeln!(out, "{}", summary(scan, true));
    out
}

fn of_finding(workload: &Workload, finding: &FoundViolation<'_>) -> (Level, String) {
    let level = match finding.judged.action {
        EnforcementAction::Deny => Level::Error,
        EnforcementAction::Warn => Level::Warning,
        EnforcementAction::Audit => Level::Notice,
    };
    let violation = &finding.judged.violation;
    let title = format!("{} {}", violation.rule, workload.full_name());
    (level, command(level, &finding.place, &title, &violation.said()))
}

fn command(level: Level, place: &ManifestPlace, title: &str, message: &str) -> String {
    let level = LEVELS.iter().find(|(of, _)| *of == level).map_or("notice", |(_, word)| *word);
    let file = place.edited().map(|(file, line)| format!("file={},line={line},", property(file)));
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
            command(Level::Error, &place, "t::x\n", "one\r\n::set-env name=A::b 100%"),
            "::error file=a%2Cb%3Ac%25.yaml,line=3,title=t%3A%3Ax\\n::one %0A::set-env name=A::b 100%25\n"
        );
        assert_eq!(command(Level::Notice, &ManifestPlace::default(), "t", "m"), "::notice title=t::m\n");
    }
}
