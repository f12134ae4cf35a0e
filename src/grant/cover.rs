//! Coverage: does this grant allow that entry?
//!
//! One item of one grant covers an entry as a whole, or not at all: two grants for half of it each do not add up. So
//! one line always mends a refusal, and a grant can be removed without checking what it was part of.
//!
//! An absent parameter is the widest on both sides: an entry without a path reaches any file, and a grant without paths
//! grants any. Coverage is reflexive (the grant that is suggested for an entry covers it, see [`super::suggest`]),
//! transitive, and total: an unreadable value counts as the widest in an entry, and as nothing in a grant.

use std::cell::OnceCell;
use std::sync::Arc;

use super::types::{GrantedCapability, GrantedPath, WasiGrant};
use crate::capability::{Access, Capability, Entry, HostPattern, WrittenHost, glob, path};
use crate::text;

/// The value of `coveredBy` for what every program has.
pub const DEFAULT: &str = "default";

/// Sets on every entry which grants cover it, by label; `default` for what every program has. Replaces earlier values.
pub fn cover(entries: &mut [Entry], grants: &[Arc<WasiGrant>]) {
    // As a rule one grant covers several entries, and most grants none.
    let labels: Vec<OnceCell<String>> = grants.iter().map(|_| OnceCell::new()).collect();
    for entry in entries {
        let covering = grants.iter().zip(&labels).filter(|(grant, _)| grant_covers(grant, entry));
        let label = |(grant, label): (&Arc<WasiGrant>, &OnceCell<String>)| {
            label.get_or_init(|| grant.label()).clone()
        };
        let mut covered_by: Vec<String> = covering.map(label).collect();
        covered_by.sort();
        covered_by.dedup();
        if is_default(entry) {
            covered_by.insert(0, DEFAULT.to_string());
        }
        entry.covered_by = covered_by;
    }
}

/// Whether an entry needs no grant.
pub fn is_default(entry: &Entry) -> bool {
    entry.own || (entry.capability.is_default() && !entry.secret)
}

fn grant_covers(grant: &WasiGrant, entry: &Entry) -> bool {
    grant.spec.capabilities.iter().any(|granted| covers(granted, entry))
}

/// Whether one item of a grant covers an entry as a whole. A program that may run native code has everything that the
/// kernel's files give, so `native.exec` covers all of that.
pub fn covers(granted: &GrantedCapability, entry: &Entry) -> bool {
    if (entry.opens || entry.by_path) && granted.name == Capability::NativeExec {
        return true;
    }
    granted.name == entry.capability
        && (!entry.secret || granted.secrets == Some(true))
        && granted.access.unwrap_or(Access::ReadWrite)
            >= entry.access.unwrap_or(Access::ReadOnly).max(least(entry))
        && any(granted.names.as_deref(), |name| glob::covers(name, entry.name.as_deref().unwrap_or("*")))
        && covers_path(granted.paths.as_deref(), entry.path.as_deref().unwrap_or("/"))
        && any(granted.ports.as_deref(), |port| entry.port == Some(*port))
        && covers_host(granted, entry.host.as_ref().map_or(&HostPattern::ANY, WrittenHost::pattern))
}

/// A file entry that names no access may have any.
fn least(entry: &Entry) -> Access {
    match (entry.capability, entry.access) {
        (Capability::Fs, None) => Access::ReadWrite,
        _ => Access::ReadOnly,
    }
}

fn any<T>(list: Option<&[T]>, covers: impl Fn(&T) -> bool) -> bool {
    list.is_none_or(|items| items.iter().any(covers))
}

fn covers_path(granted: Option<&[GrantedPath]>, reached: &str) -> bool {
    let Some(granted) = granted else { return true };
    let reached = text::clean_path(reached);
    granted.iter().any(|tree| tree.is_plain() && path::covers(tree.as_str(), &reached))
}

/// A raw socket and a name look-up have no scheme: there, `tcp://db:5432`, `postgres://db` and `*://db:5432` are the
/// same.
fn covers_host(granted: &GrantedCapability, reached: &HostPattern) -> bool {
    let has_scheme =
        !matches!(granted.name, Capability::NetTcpConnect | Capability::NetUdp | Capability::NetDns);
    any(granted.hosts.as_deref(), |host| {
        if has_scheme { host.pattern().covers(reached) } else { host.pattern().covers_address(reached) }
    })
}
