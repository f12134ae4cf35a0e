//! Text that becomes a part of the log of a CI server, whose runner takes some of its lines for commands.

use std::borrow::Cow;

/// What begins a command of GitHub Actions on a line, after blanks
/// (`actions/runner:src/Runner.Common/ActionCommand.cs`, `TryParseV2`).
const AT_THE_START: &str = "::";

/// What begins one anywhere in a line: an older form of GitHub Actions (`TryParse` there), that of Azure Pipelines
/// (`microsoft/azure-pipelines-agent:src/Agent.Sdk/Util/Command.cs`), and a service message of `TeamCity`
/// (`JetBrains/teamcity-messages:teamcity/messages.py`).
const ANYWHERE: [&str; 3] = ["##[", "##vso[", "##teamcity["];

/// The same lines, of which none is a command to a runner. Colours may stand before them; of those that were foreign text nothing else may.
pub fn without_commands(lines: &str) -> Cow<'_, str> {
    let has_command =
        lines.lines().any(|line| is_command(line) || ANYWHERE.iter().any(|mark| line.contains(*mark)));
    if !has_command {
        return Cow::Borrowed(lines);
    }
    let mut harmless = String::with_capacity(lines.len());
    for line in lines.split_inclusive('\n') {
        if is_command(line) {
            harmless.push_str(&line.replacen(AT_THE_START, "\\u{3a}:", 1));
        } else {
            harmless.push_str(line);
        }
    }
    Cow::Owned(without_marks(harmless, "\\u{23}"))
}

/// The same JSON without commands: it is the same document, and so is one of YAML whose strings are in double quotes.
pub fn json_without_commands(document: &str) -> Cow<'_, str> {
    // No line of JSON begins with a colon, and `#` stands in strings alone, where it escapes nothing.
    if !ANYWHERE.iter().any(|mark| document.contains(*mark)) {
        return Cow::Borrowed(document);
    }
    Cow::Owned(without_marks(document.to_owned(), "\\u0023"))
}

/// The text with this in the place of the first letter of what begins a command anywhere.
fn without_marks(text: String, escape: &str) -> String {
    ANYWHERE.iter().fold(text, |text, mark| text.replace(*mark, &mark.replacen('#', escape, 1)))
}

fn is_command(line: &str) -> bool {
    let mut rest = line.trim_start();
    // A colour: `ESC [ … m`.
    while let Some((_, after)) = rest.strip_prefix("\u{1b}[").and_then(|colour| colour.split_once('m')) {
        rest = after.trim_start();
    }
    rest.starts_with(AT_THE_START)
}
