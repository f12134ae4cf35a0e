//! Which capabilities a program has and another lacks.

use super::Entry;

/// The entries of `these` that none of `those` includes.
pub fn missing_from<'a>(these: &'a [Entry], those: &'a [Entry]) -> impl Iterator<Item = &'a Entry> {
    these.iter().filter(move |entry| !those.iter().any(|other| covers(other, entry)))
}

/// Whether an entry includes another. An absent parameter means any.
fn covers(wide: &Entry, narrow: &Entry) -> bool {
    let any_or_same = |wide: &Option<String>, narrow: &Option<String>| wide.is_none() || wide == narrow;
    wide.capability == narrow.capability
        && wide.secret >= narrow.secret
        && wide.own <= narrow.own
        && (wide.host.is_none() || wide.host == narrow.host)
        && (wide.name.as_deref() == Some("*") || any_or_same(&wide.name, &narrow.name))
        && wide.port.is_none_or(|port| narrow.port == Some(port))
        && wide.access.is_none_or(|access| narrow.access.is_some_and(|other| access >= other))
        && wide
            .path
            .as_deref()
            .is_none_or(|tree| narrow.path.as_deref().is_some_and(|path| is_below(path, tree)))
}

/// Whether a normalised path is the tree or below it.
fn is_below(path: &str, tree: &str) -> bool {
    let tree = tree.trim_end_matches('/');
    path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
