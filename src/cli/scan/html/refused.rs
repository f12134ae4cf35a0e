//! The part of the served page about what was refused lately. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::parts::{escaped, escaped_lines};
use crate::audit::Refusal;
use crate::text;

/// A table of the refusals since a time, the latest first, of which some are not in the list.
pub fn refused(refusals: &[Refusal], since: Timestamp, missed: u64) -> String {
    let mut out = String::from("<h2 id=\"refused\">Refused lately</h2>\n");
    let more = if missed == 0 {
        String::new()
    } else {
        format!(" {missed} more came too fast, or were too large, to be listed.")
    };
    let none = if refusals.is_empty() { " Nothing was." } else { "" };
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        out,
        "<p class=\"dim\">By this replica of the gate, since it was started at {since:.0}: the last {} that differ.{none}{more}</p>",
        refusals.len()
    );
    if refusals.is_empty() {
        return out;
    }
    out.push_str(
        "<table><thead><tr><th scope=\"col\">Workload</th><th scope=\"col\">Last</th><th scope=\"col\">Times</th><th \
         scope=\"col\">Why, and what would mend it</th></tr></thead><tbody>\n",
    );
    for refusal in refusals {
        let regarding = &refusal.regarding;
        let name = format!("{}/{}/{}", refusal.namespace, regarding.kind, regarding.name);
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{:.0}</td><td>{}</td><td><ul>{}</ul></td></tr>",
            escaped(&name),
            refusal.last,
            refusal.times,
            found(refusal)
        );
    }
    out.push_str("</tbody></table>\n");
    out
}

fn found(refusal: &Refusal) -> String {
    let item = |(rule, said): &(String, String)| {
        let rule = if rule.is_empty() { "the gate".to_owned() } else { format!("[{rule}]") };
        format!(
            "<li><span class=\"denied\">{}</span> <span class=\"message\">{}</span></li>",
            escaped(&rule),
            escaped_lines(&text::hanging(said))
        )
    };
    let mut items: String = refusal.found.iter().map(item).collect();
    if refusal.more > 0 {
        let _ = write!(items, "<li class=\"dim\">and {} more</li>", refusal.more);
    }
    items
}
