//! Entries of `insecure` that have no effect, since their registries may not be asked at all.

use std::net::Ipv4Addr;

use super::{Guard, HostKind, Listed, split_port};

impl Guard {
    /// The registries under `insecure` that `allow` does not cover, in lower case: a `*` covers public addresses alone. A mirror or a
    /// token service that the guard does not know is among them.
    pub fn uncovered_insecure(&self) -> impl Iterator<Item = &str> {
        self.insecure.iter().map(String::as_str).filter(move |registry| !self.covers(registry))
    }

    fn covers(&self, registry: &str) -> bool {
        match self.allow.iter().filter_map(|pattern| pattern.allows(registry)).max() {
            Some(Listed::ByName) => true,
            Some(Listed::ByPattern) => {
                address_of(registry).is_none_or(|address| self.address_problem(address.into()).is_none())
            }
            None => false,
        }
    }
}

/// The address of a registry that is named by it.
fn address_of(registry: &str) -> Option<Ipv4Addr> {
    let (host, _) = split_port(registry)?;
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST) } else { HostKind::of(host).address() }
}

#[cfg(test)]
mod tests {
    use crate::registry::guard::{Guard, GuardOptions};

    fn uncovered(insecure: &str, allow: &[&str], cidrs: &[&str]) -> bool {
        let guard = Guard::new(&GuardOptions {
            allow: allow.iter().map(ToString::to_string).collect(),
            deny: Vec::new(),
            insecure: vec![insecure.into()],
            allowed_cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect(),
        });
        guard.unwrap().uncovered_insecure().any(|registry| registry.eq_ignore_ascii_case(insecure))
    }

    #[test]
    fn what_is_insecure_is_not_allowed_by_that() {
        for (insecure, allow) in [
            ("mirror.corp:5000", "ghcr.io"),
            ("mirror.corp:5000", "mirror.corp"),
            ("mirror.corp:5000", "*.corp"),
            ("10.0.0.5:5000", "*"),
            ("127.0.0.1:5000", "*"),
            ("localhost:5000", "*"),
        ] {
            assert!(uncovered(insecure, &[allow], &[]), "{insecure} beside {allow}");
        }
        for (insecure, allow) in [
            ("mirror.corp:5000", "*"),
            ("Mirror.corp:5000", "mirror.CORP:5000"),
            ("mirror.corp", "*.corp"),
            ("8.8.8.8:5000", "*"),
            ("localhost:5000", "localhost:5000"),
        ] {
            assert!(!uncovered(insecure, &["ghcr.io", allow], &[]), "{insecure} beside {allow}");
        }
        assert!(!uncovered("10.0.0.5:5000", &["*"], &["10.0.0.0/8"]));
    }
}
