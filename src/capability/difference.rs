//! Which capabilities a program has and another lacks.

use super::{Entry, HostPattern, WrittenHost, glob, path};

/// The entries of `these` that none of `those` includes.
pub fn missing_from<'a>(these: &'a [Entry], those: &'a [Entry]) -> impl Iterator<Item = &'a Entry> {
    these.iter().filter(move |entry| !those.iter().any(|other| covers(other, entry)))
}

/// Whether an entry includes another. An absent parameter means any, and so do its widest patterns.
fn covers(wide: &Entry, narrow: &Entry) -> bool {
    wide.capability == narrow.capability
        && wide.secret >= narrow.secret
        && wide.own <= narrow.own
        && pattern(wide).covers(pattern(narrow))
        && includes(wide.name.as_deref(), narrow.name.as_deref(), "*", glob::covers)
        && includes(wide.path.as_deref(), narrow.path.as_deref(), "/", path::covers)
        && wide.port.is_none_or(|port| narrow.port == Some(port))
        && wide.access.is_none_or(|access| narrow.access.is_some_and(|other| access >= other))
}

/// The hosts of an entry.
fn pattern(entry: &Entry) -> &HostPattern {
    static ANY: HostPattern = HostPattern::ANY;
    entry.host.as_ref().map_or(&ANY, WrittenHost::pattern)
}

/// Whether one parameter includes another, where an absent one is as wide as `any`.
fn includes(
    wide: Option<&str>,
    narrow: Option<&str>,
    any: &str,
    covers: impl Fn(&str, &str) -> bool,
) -> bool {
    wide.is_none_or(|wide| covers(wide, narrow.unwrap_or(any)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Access, Capability};

    #[test]
    fn what_a_wider_pattern_includes_is_not_missing() {
        let entry = |capability| Entry::new(capability, "somewhere");
        let to = |host: &str| entry(Capability::HttpOutbound).to_host(host.parse().unwrap());
        let env = |name: &str| entry(Capability::Env).named(name);
        let read = |path: &str| entry(Capability::Fs).at_path(path, Access::ReadOnly);
        let missing = |these: &Entry, those: &Entry| {
            missing_from(std::slice::from_ref(these), std::slice::from_ref(those)).count()
        };
        for (wide, narrow) in [
            (to("*://*:*"), to("https://api.example")),
            (to("https://*.example"), to("https://api.example")),
            (to("*://*:*"), entry(Capability::HttpOutbound)),
            (entry(Capability::HttpOutbound), to("*://*:*")),
            (env("ORDERS_*"), env("ORDERS_URL")),
            (env("*"), entry(Capability::Env)),
            (read("/"), read("/data")),
            (read("/data/"), read("/data")),
        ] {
            assert_eq!(missing(&narrow, &wide), 0, "{wide:?} {narrow:?}");
        }
        for (one, other) in [
            (to("https://api.example"), to("*://*:*")),
            (to("https://api.example"), entry(Capability::HttpOutbound)),
            (to("https://api.example"), to("http://api.example")),
            (env("ORDERS_URL"), env("ORDERS_*")),
            (read("/data"), read("/database")),
        ] {
            assert_eq!(missing(&other, &one), 1, "{one:?} {other:?}");
        }
    }
}
