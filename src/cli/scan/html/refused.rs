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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::Regarding;

    fn refusal(name: &str, found: &[(&str, &str)], more: usize) -> Refusal {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        Refusal {
            first: at,
            last: at,
            times: 3,
            namespace: "shop".into(),
            regarding: Regarding {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: name.into(),
                uid: None,
            },
            found: found.iter().map(|(rule, said)| ((*rule).to_owned(), (*said).to_owned())).collect(),
            more,
        }
    }

    fn shown(refusals: &[Refusal], missed: u64) -> String {
        refused(refusals, Timestamp::UNIX_EPOCH, missed)
    }

    #[test]
    fn what_others_wrote_stays_text() {
        let hostile = "</td><script>alert(1)</script>\u{202e}&amp;\n[forged] rule";
        let page = shown(&[refusal(hostile, &[(hostile, hostile), ("", hostile)], 2)], 7);
        let mut reader = quick_xml::Reader::from_str(&page);
        reader.config_mut().check_end_names = true;
        let mut elements = std::collections::BTreeSet::new();
        loop {
            match reader.read_event().unwrap_or_else(|error| panic!("{error}: {page}")) {
                quick_xml::events::Event::Start(start) => {
                    elements.insert(start.name().as_ref().to_string());
                }
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        let known = ["h2", "li", "p", "span", "table", "tbody", "td", "th", "thead", "tr", "ul"];
        assert!(elements.iter().map(String::as_str).eq(known), "{elements:?}");
        assert!(
            !page.contains('\u{202e}') && page.contains("and 2 more") && page.contains("7 more came"),
            "{page}"
        );
    }

    #[test]
    fn an_empty_list_says_that_nothing_was_refused() {
        let page = shown(&[], 0);
        assert!(
            page.contains("Nothing was.") && !page.contains("<table>") && !page.contains("more came"),
            "{page}"
        );
    }
}
