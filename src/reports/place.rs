//! The order in which the API server lists objects of all namespaces: that of their keys in etcd, which end in `NAMESPACE/NAME`
//! (`kubernetes:staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go`, `NamespaceKeyFunc`).

use std::cmp::Ordering;

/// A namespace as a place in that order: `a-b` comes before `a`, because `-` is less than `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(pub String);

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = self.0.bytes().chain([b'/']);
        key.cmp(other.0.bytes().chain([b'/']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_in_the_order_of_keys_and_not_of_names() {
        let mut places = ["a", "a-b", "a.b", "a0", "b", ""].map(|name| Place(name.into()));
        places.sort();
        assert_eq!(places.map(|place| place.0), ["", "a-b", "a.b", "a", "a0", "b"]);
    }
}
