//! One entry of a component's `allowed_outbound_hosts`, parsed once, when the facts of its image are made.

use serde::{Deserialize, Serialize};

use super::host::{HostPattern, WrittenHost};

/// A host as the application writes it, and what that means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct OutboundHost {
    written: String,
    reach: OutboundReach,
    chained: Option<String>,
}

/// What an entry reaches, as far as the image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboundReach {
    /// These hosts.
    Hosts(Vec<WrittenHost>),
    /// What the values of its `{{ templates }}` make of it, and nothing beyond this pattern.
    Template(WrittenHost),
    /// Nothing beyond this pattern. It is not a host pattern: Spin refuses it today, but a later version may accept it.
    Unreadable(WrittenHost),
}

impl OutboundHost {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What it reaches.
    pub const fn reach(&self) -> &OutboundReach {
        &self.reach
    }

    /// Whether its value is unknown before start.
    pub const fn has_template(&self) -> bool {
        matches!(self.reach, OutboundReach::Template(_))
    }

    /// Number of templates in it; each is looked up in every container that starts the application.
    pub fn templates(&self) -> usize {
        self.written.matches("{{").count()
    }

    /// The component that it names. A host whose name has a template is not known yet, and names none.
    pub fn chained(&self) -> Option<&str> {
        self.chained.as_deref()
    }
}

impl From<String> for OutboundHost {
    fn from(written: String) -> Self {
        let reach = if has_template(&written) {
            OutboundReach::Template(widest(&written))
        } else {
            hosts(&written).map_or_else(|| OutboundReach::Unreadable(widest(&written)), OutboundReach::Hosts)
        };
        Self { reach, chained: chained(&written).map(String::from), written }
    }
}

impl From<&str> for OutboundHost {
    fn from(written: &str) -> Self {
        written.to_string().into()
    }
}

impl From<OutboundHost> for String {
    fn from(host: OutboundHost) -> Self {
        host.written
    }
}

impl PartialEq<&str> for OutboundHost {
    fn eq(&self, written: &&str) -> bool {
        self.written == *written
    }
}

/// Whether a text has `{{ templates }}`.
pub fn has_template(text: &str) -> bool {
    text.contains("{{")
}

/// The patterns of an entry without templates: one of `allowed_outbound_hosts`, or a host of the older `allowed_http_hosts`, which
/// means HTTP alone. `None` for what does not parse.
pub fn hosts(text: &str) -> Option<Vec<WrittenHost>> {
    let pattern = |text: &str| Some(text.parse::<HostPattern>().ok()?.into());
    if text.contains("://") {
        return Some(vec![pattern(text)?]);
    }
    let host = if text == "insecure:allow-all" { "*:*" } else { text };
    ["http", "https"].map(|scheme| pattern(&format!("{scheme}://{host}"))).into_iter().collect()
}

/// Everything that an entry can become: its scheme if that is written out, any host and port.
fn widest(written: &str) -> WrittenHost {
    let scheme = written.split_once("://").map(|(scheme, _)| scheme);
    match scheme.filter(|s| !s.is_empty() && s.chars().all(char::is_alphabetic)) {
        Some(scheme) => HostPattern::ANY.with_scheme(scheme).into(),
        None => HostPattern::ANY.into(),
    }
}

fn chained(written: &str) -> Option<&str> {
    let place = written.split_once("://").map_or(written, |(_, rest)| rest);
    let name = place.split(['/', ':']).next()?.strip_suffix(".spin.internal")?;
    (!name.contains("{{")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(written: &str) -> (&'static str, Vec<String>) {
        let (what, patterns) = match OutboundHost::from(written).reach {
            OutboundReach::Hosts(hosts) => ("hosts", hosts),
            OutboundReach::Template(widest) => ("template", vec![widest]),
            OutboundReach::Unreadable(widest) => ("unreadable", vec![widest]),
        };
        (what, patterns.iter().map(|pattern| pattern.as_str().to_string()).collect())
    }

    #[test]
    fn an_entry_means_its_hosts_or_the_most_that_it_can_become() {
        for (written, what, patterns) in [
            ("https://a.example.com", "hosts", &["https://a.example.com"][..]),
            ("a.example.com", "hosts", &["http://a.example.com", "https://a.example.com"]),
            ("insecure:allow-all", "hosts", &["http://*:*", "https://*:*"]),
            ("https://{{ host }}", "template", &["https://*:*"]),
            ("{{ scheme }}://a.example.com", "template", &["*://*:*"]),
            ("https://{{ host", "template", &["https://*:*"]),
            ("https://user:password@a.example.com", "unreadable", &["https://*:*"]),
            ("", "unreadable", &["*://*:*"]),
        ] {
            assert_eq!(
                reached(written),
                (what, patterns.iter().map(ToString::to_string).collect()),
                "{written}"
            );
        }
    }

    #[test]
    fn the_component_of_a_chained_host_is_known_unless_a_template_names_it() {
        for (written, component) in [
            ("http://orders.spin.internal", Some("orders")),
            ("orders.spin.internal:80/", Some("orders")),
            ("http://*.spin.internal", Some("*")),
            ("{{ scheme }}://orders.spin.internal", Some("orders")),
            ("http://{{ name }}.spin.internal", None),
            ("http://example.com", None),
        ] {
            assert_eq!(OutboundHost::from(written).chained(), component, "{written}");
        }
    }

    #[test]
    fn it_is_stored_as_it_was_written() {
        let host: OutboundHost = serde_json::from_str(r#""HTTPS://A.example.com/""#).unwrap();
        assert_eq!(serde_json::to_string(&host).unwrap(), r#""HTTPS://A.example.com/""#);
        assert_eq!(host, "HTTPS://A.example.com/");
    }
}
