//! What there is to say about one object, and how it is written.

use std::fmt::Write as _;

use crate::audit::secrets::Hider;
use crate::text;

/// What would get one object admitted.
#[derive(Debug, Clone, Default)]
pub struct Suggestion {
    /// Kind, namespace and name.
    pub object: String,
    /// The answer in one sentence.
    pub summary: String,
    /// `WasiGrant`s in YAML, one for each image; or a `NetworkPolicy`, if that was asked for.
    pub grants: Vec<String>,
    /// What the mutating webhook takes from the pods because no grant covers it, so that the grants do not name it.
    pub taken: Vec<String>,
    /// What cannot be known from the image, and how to find out or narrow it.
    pub warnings: Vec<String>,
    /// Denials that no grant can lift, as the rules word them.
    pub blocked: Vec<String>,
    /// Why it is not known what the object needs: an image that could not be read or recognised.
    pub unknown: Vec<String>,
    /// Why the object could not be read, planned or judged; empty if it could.
    pub errors: Vec<String>,
}

/// A suggestion that is this sentence alone.
pub(super) fn summary(text: &str) -> Suggestion {
    Suggestion { summary: text.to_string(), ..Suggestion::default() }
}

/// The text as a name that the API server accepts (RFC 1123 subdomain, shortened).
pub(super) fn dns_name(text: &str) -> String {
    let lower = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(lower).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "new-grant".to_string() } else { name.to_string() }
}

impl Suggestion {
    /// What there is to say beside the grants, with the label of each kind.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, &Vec<String>)> {
        [
            ("taken", &self.taken),
            ("warning", &self.warnings),
            ("denied", &self.blocked),
            ("unknown", &self.unknown),
            ("error", &self.errors),
        ]
        .into_iter()
    }

    /// The same without the values that were masked in the object, where words of rules or of an error quote one.
    pub(super) fn without(mut self, hider: &Hider) -> Self {
        let Self { blocked, unknown, errors, .. } = &mut self;
        for text in blocked.iter_mut().chain(unknown).chain(errors) {
            hider.hide_in(text);
        }
        self
    }

    /// Comments, then one document for each grant.
    pub fn to_yaml(&self) -> String {
        let mut text = format!("# {}: {}\n", text::visible(&self.object), text::line(&self.summary));
        for (label, lines) in self.lines() {
            for line in lines.iter().flat_map(|text| labelled(label, text)) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "# {line}");
            }
        }
        text.push_str(&self.grants.join("---\n"));
        text
    }
}

/// The lines of a message; the first has the label in front.
fn labelled(label: &str, text: &str) -> Vec<String> {
    let line = |(index, line): (usize, &str)| match index {
        0 => format!("{label}: {}", text::line(line)),
        _ => format!("  {}", text::line(line)),
    };
    text.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_message_leaves_its_comment() {
        let suggestion = Suggestion {
            object: "Pod shop/a\nb".into(),
            summary: "s".into(),
            blocked: vec!["[rule] first\n- { name: env }\r\nthird".into()],
            ..Suggestion::default()
        };
        assert!(suggestion.to_yaml().lines().all(|line| line.starts_with("# ")));
    }
}
