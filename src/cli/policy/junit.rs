//! Results in the XML that CI systems read; its form is that of `JUnit`.

use std::fmt::Write as _;

use super::result::{Outcome, TestResult};
use crate::text;

/// The document.
pub fn document(results: &[TestResult]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failures = results.iter().filter(|result| result.outcome == Outcome::Failed).count();
    let skipped = results.iter().filter(|result| result.outcome == Outcome::Skipped).count();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        out,
        "<testsuites><testsuite name=\"wasmgate policy test\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">",
        results.len()
    );
    for result in results {
        let (suite, name, seconds) = (escaped(&result.suite), escaped(&result.name), result.seconds);
        let _ = write!(out, "<testcase classname=\"{suite}\" name=\"{name}\" time=\"{seconds:.6}\">");
        match result.outcome {
            Outcome::Passed => {}
            Outcome::Skipped => out.push_str("<skipped/>"),
            Outcome::Failed => {
                let first = result.reasons.first().map(String::as_str).unwrap_or_default();
                let all = result.reasons.join("\n");
                let _ = write!(out, "<failure message=\"{}\">{}</failure>", escaped(first), escaped(&all));
            }
        }
        if !result.output.is_empty() {
            let _ = write!(out, "<system-out>{}</system-out>", escaped(&result.output));
        }
        out.push_str("</testcase>\n");
    }
    out.push_str("</testsuite></testsuites>\n");
    out
}

/// Text in an attribute or an element. XML has no way to write most control characters, so they are made visible first.
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for letter in text::lines(value).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_says_does_not_end_the_element() {
        assert_eq!(escaped("a < \"b\" & \u{1b}[1m\nc"), "a &lt; &quot;b&quot; &amp; \\u{1b}[1m&#10;c");
    }
}
