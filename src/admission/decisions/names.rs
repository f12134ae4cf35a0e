//! Whether a decision depends on the names that its key leaves out. A pod's own name leads it to itself, so it matters where a program
//! reaches a host of that name; the name of the token's volume is that of nothing else.

use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};

use super::question::Question;
use crate::capability::Entry;
use crate::judge::PolicyInput;
use crate::workload::Workload;

/// The names that a decision speaks of.
#[derive(Debug, Default)]
pub struct Named {
    /// Names of hosts that the programs reach, in lower case.
    hosts: Vec<String>,
    /// Whether a program reaches any host, perhaps because the pod's name leads elsewhere.
    reaches_any: bool,
    /// Whether facts speak of the token's volume.
    has_token: bool,
}

impl Named {
    /// The names in what the rules read.
    pub fn in_input(input: &PolicyInput<'_>, question: Option<&Question<'_>>) -> Self {
        let Some(question) = question else { return Self::default() };
        let mut named = Self::default();
        for container in &input.containers {
            let entries = container.requires.iter().chain(&container.ambient).chain(&container.missing);
            let entries = entries.chain(container.effective.iter().map(|effective| &effective.entry));
            entries.for_each(|entry| named.add(entry, question.token()));
            named.has_token |= question.token().is_some_and(|token| container.name.contains(token));
        }
        named
    }

    fn add(&mut self, entry: &Entry, token: Option<&str>) {
        if let Some(host) = &entry.host {
            match host.pattern().name() {
                Some(name) => self.hosts.push(name.trim_end_matches('.').to_ascii_lowercase()),
                None => self.reaches_any |= host.pattern().clone().with_any_host() == *host.pattern(),
            }
        }
        let Some(token) = token else { return };
        let texts = entry.evidence.iter().chain(&entry.name).chain(&entry.path);
        self.has_token |= texts.into_iter().any(|text| text.contains(token));
        self.has_token |= entry.host.as_ref().is_some_and(|host| host.as_str().contains(token));
    }

    /// Approximate bytes.
    pub(super) fn bytes(&self) -> usize {
        self.hosts.iter().map(|host| host.len() + size_of::<String>()).sum()
    }

    /// Whether a decision with these names is one about all pods whose key is the same, and not about this one alone.
    pub fn is_of_all(&self, question: &Question<'_>, workload: &Workload) -> bool {
        let is_of_token = question.token().is_none_or(|token| {
            !self.has_token && question.object.matches(token).count() == uses(&workload.spec, token)
        });
        let is_of_name = question.name.is_none() || (!self.reaches_any && self.fits(question));
        is_of_token && is_of_name
    }

    /// Whether the decision holds for a pod of this name too: no program reaches a host that may be the pod itself.
    pub(super) fn fits(&self, question: &Question<'_>) -> bool {
        let Some(name) = question.name else { return true };
        let name = name.to_ascii_lowercase();
        let may_be = |host: &String| host.contains(&name) || (host.starts_with('.') && name.contains('.'));
        !self.hosts.iter().any(may_be)
    }
}

/// How often a pod spec names a volume of this name, or mounts it.
fn uses(spec: &PodSpec, name: &str) -> usize {
    let own = spec.volumes.iter().flatten().filter(|volume| volume.name == name).count();
    let mounted = |mounts: Option<&[VolumeMount]>| {
        mounts.unwrap_or_default().iter().filter(|mount| mount.name == name).count()
    };
    let usual = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let usual: usize = usual.map(|container| mounted(container.volume_mounts.as_deref())).sum();
    let late = spec.ephemeral_containers.iter().flatten();
    own + usual + late.map(|container| mounted(container.volume_mounts.as_deref())).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_whose_name_may_be_a_host_that_is_reached_is_not_like_the_others() {
        let reaches = |host: &str| Named { hosts: vec![host.into()], ..Named::default() };
        for (host, name, fits) in [
            ("db.shop.svc", "web-5d8f-x2k4p", true),
            ("web-5d8f-x2k4p", "web-5d8f-x2k4p", false),
            ("web-5d8f-x2k4p.web.shop.svc.cluster.local", "web-5d8f-x2k4p", false),
            ("web-5d8f-x2k4p", "Web-5D8F-x2k4p", false),
            ("web-5d8f-bcdfg", "web-5d8f-x2k4p", true),
            (".example.com", "web-5d8f-x2k4p", true),
            (".example.com", "web.example.com-x2k4p", false),
        ] {
            let question = Question::of_name(Some(name));
            assert_eq!(reaches(host).fits(&question), fits, "{host} {name}");
        }
        assert!(reaches("web").fits(&Question::of_name(None)), "a name that is in the key");
    }
}
