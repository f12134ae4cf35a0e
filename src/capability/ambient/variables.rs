//! The variables of one container by name, so that each query takes constant or logarithmic time: a pod spec may hold
//! thousands of variables, and as many references to them.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource};

use crate::image::entry;

/// Which variables `env` and `envFrom` set, and which of them are secrets. Names are compared literally: a `*` in a
/// name is not a pattern.
#[derive(Debug, Default)]
pub(super) struct Variables<'a> {
    /// By name; of several with the same name, the last, which wins.
    exact: HashMap<&'a str, &'a EnvVar>,
    /// Those that come from a Secret or a source that is not known here, or expand one that does.
    secret: HashSet<&'a str>,
    secret_sources: Prefixes<'a>,
    other_sources: Prefixes<'a>,
}

impl<'a> Variables<'a> {
    pub fn new(env: &'a [EnvVar], env_from: &'a [EnvFromSource]) -> Self {
        let is_map = |source: &&EnvFromSource| source.config_map_ref.is_some() && source.secret_ref.is_none();
        let (other, secret): (Vec<_>, Vec<_>) = env_from.iter().partition(is_map);
        let mut variables = Self {
            exact: env.iter().map(|variable| (variable.name.as_str(), variable)).collect(),
            secret: HashSet::new(),
            secret_sources: Prefixes::new(secret.into_iter()),
            other_sources: Prefixes::new(other.into_iter()),
        };
        // In order: the kubelet expands only variables that precede.
        for variable in env {
            let from_secret = variable.value_from.as_ref().is_some_and(may_be_secret);
            if from_secret || variable.value.as_deref().is_some_and(|value| variables.expand_in(value)) {
                variables.secret.insert(&variable.name);
            }
        }
        variables
    }

    /// The variable of `env` with this name.
    pub fn exact(&self, name: &str) -> Option<&'a EnvVar> {
        self.exact.get(name).copied()
    }

    /// A whole Secret that may set the variable, or else a whole ConfigMap.
    pub fn source(&self, name: &str) -> Option<&'a EnvFromSource> {
        self.secret_sources.find(name).or_else(|| self.other_sources.find(name))
    }

    /// Whether the variable of `env` comes from a Secret, or expands one that does.
    pub fn is_secret(&self, name: &str) -> bool {
        self.secret.contains(name)
    }

    /// Whether the kubelet may expand a secret variable in a text.
    pub fn expand_in(&self, text: &str) -> bool {
        entry::references(text).any(|name| self.is_secret(name) || self.secret_sources.find(name).is_some())
    }
}

/// Whether the value is one of a Secret, or of a source that a later Kubernetes has.
fn may_be_secret(from: &EnvVarSource) -> bool {
    from.secret_key_ref.is_some() || *from == EnvVarSource::default()
}

/// Sources by the prefix of the names that they set, sorted. No prefix begins with another, so the prefix of a name is
/// the greatest one that is not greater than the name.
#[derive(Debug, Default)]
struct Prefixes<'a>(Vec<(&'a str, &'a EnvFromSource)>);

impl<'a> Prefixes<'a> {
    fn new(sources: impl Iterator<Item = &'a EnvFromSource>) -> Self {
        let mut all: Vec<_> = sources.map(|s| (s.prefix.as_deref().unwrap_or_default(), s)).collect();
        all.sort_by_key(|(prefix, _)| *prefix);
        let mut shortest: Vec<(&str, &EnvFromSource)> = Vec::new();
        for (prefix, source) in all {
            if !shortest.last().is_some_and(|(before, _)| prefix.starts_with(before)) {
                shortest.push((prefix, source));
            }
        }
        Self(shortest)
    }

    fn find(&self, name: &str) -> Option<&'a EnvFromSource> {
        let after = self.0.partition_point(|(prefix, _)| *prefix <= name);
        let (prefix, source) = self.0.get(after.checked_sub(1)?)?;
        name.starts_with(prefix).then_some(*source)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        EnvFromSource, EnvVar, EnvVarSource, SecretEnvSource, SecretKeySelector,
    };
    use proptest::prelude::*;

    use super::{Prefixes, Variables};

    fn secret(name: String) -> EnvVar {
        let key = SecretKeySelector { key: "k".into(), name: "s".into(), optional: None };
        let from = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
        EnvVar { name, value: None, value_from: Some(from) }
    }

    fn whole(prefix: &str) -> EnvFromSource {
        EnvFromSource {
            prefix: Some(prefix.into()),
            secret_ref: Some(SecretEnvSource { name: "s".into(), optional: None }),
            ..EnvFromSource::default()
        }
    }

    /// 20 000 sources and secrets against 200 000 references: their product would take minutes, their sum takes a
    /// moment.
    #[test]
    fn many_references_to_many_secrets_take_linear_time() {
        let mut env: Vec<EnvVar> = (0..20_000).map(|n| secret(format!("SECRET_{n}"))).collect();
        let value =
            |text: &str| EnvVar { name: "URL".into(), value: Some(text.repeat(200_000)), value_from: None };
        env.push(value("$(A)"));
        let sources: Vec<EnvFromSource> = (0..20_000).map(|n| whole(&format!("FROM_{n}_"))).collect();
        let variables = Variables::new(&env, &sources);
        assert!(!variables.is_secret("URL"));
        assert!(!variables.expand_in(&"$(A)".repeat(200_000)));
        assert!(variables.expand_in("x $(B) $(SECRET_7)") && variables.expand_in("$(FROM_3_X)"));
    }

    #[test]
    fn a_variable_that_expands_a_secret_is_secret_and_a_star_in_a_name_is_not_a_pattern() {
        let plain = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: Some(value.into()),
            value_from: None,
        };
        let env = [plain("EARLY", "$(A*)"), secret("A*".into()), plain("B", "-$(A*)-"), plain("C", "$(B)")];
        let variables = Variables::new(&env, &[]);
        let secrets: Vec<&str> =
            ["EARLY", "A*", "B", "C", "AB"].into_iter().filter(|n| variables.is_secret(n)).collect();
        assert_eq!(secrets, ["A*", "B", "C"]);
    }

    /// A name may hold any printable character but `=`.
    #[test]
    fn a_secret_whose_name_looks_like_a_reference_is_found_and_an_escaped_one_is_not_expanded() {
        let env = [secret("$(A".into()), secret("B".into())];
        let variables = Variables::new(&env, &[]);
        for (text, expands) in
            [("$($(A)", true), ("x$(B)", true), ("$$(B)", false), ("$$$(B)", true), ("$(B", false)]
        {
            assert_eq!(variables.expand_in(text), expands, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_is_found_if_and_only_if_there_is_one(
            prefixes in prop::collection::vec("[ab]{0,3}", 0..6), name in "[ab]{0,5}",
        ) {
            let sources: Vec<EnvFromSource> = prefixes.iter().map(|p| whole(p)).collect();
            let found = Prefixes::new(sources.iter()).find(&name).is_some();
            prop_assert_eq!(found, prefixes.iter().any(|p| name.starts_with(p.as_str())));
        }
    }
}
