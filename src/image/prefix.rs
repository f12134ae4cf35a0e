//! A group of images by a prefix of their names, as written in the configuration: `host` or `host/prefix`.

use std::fmt;

use super::Error;
use super::reference::{Reference, is_host, registry_name, spellings};
use crate::text;

/// How much of an unparsable entry its error message repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// A registry's host, or the host and whole segments of a repository's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPrefix(String);

impl RepositoryPrefix {
    /// Parses `host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (host, path) = text.split_once('/').unwrap_or((text, "x"));
        // A first segment without a dot or a port is an organisation of Docker Hub.
        if !is_host(host) {
            let message =
                "it does not begin with a registry's host; write `docker.io/` before a name of Docker Hub";
            return Err(Error::ParseReference {
                image: text::quoted(text, SHOWN_CHARS),
                message: message.into(),
            });
        }
        // A valid prefix of an image name can be followed by one more segment.
        Reference::parse(&format!("{host}/{path}/x"))?;
        Ok(Self(text.to_string()))
    }

    /// The prefix with the name that normalised image names have for its registry.
    pub fn normalised(&self) -> String {
        match self.0.split_once('/') {
            Some((host, path)) => format!("{}/{path}", registry_name(host)),
            None => registry_name(&self.0).to_string(),
        }
    }

    /// Whether a repository equals the prefix or is below it. Every spelling of Docker Hub's names counts.
    pub fn covers(&self, reference: &Reference) -> bool {
        let name = format!("{}/{}", registry_name(&reference.registry), reference.repository);
        let prefix = self.normalised();
        let below = |name: &String| {
            name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        spellings(&name).iter().any(below)
    }
}

impl fmt::Display for RepositoryPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The images that keep their tags (`images.unpinned`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpinned(Vec<RepositoryPrefix>);

impl Unpinned {
    /// Images below any of these prefixes.
    pub const fn new(prefixes: Vec<RepositoryPrefix>) -> Self {
        Self(prefixes)
    }

    /// The first entry that covers an image; `None` for an image with a digest, to which no entry applies, and for a
    /// name that does not parse.
    pub fn entry_for(&self, image: &str) -> Option<&RepositoryPrefix> {
        if self.0.is_empty() {
            return None;
        }
        let reference = Reference::parse(image).ok().filter(|reference| reference.digest.is_none())?;
        self.0.iter().find(|prefix| prefix.covers(&reference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpinned(entries: &[&str]) -> Unpinned {
        Unpinned::new(entries.iter().map(|entry| RepositoryPrefix::parse(entry).unwrap()).collect())
    }

    #[test]
    fn an_entry_covers_whole_segments_of_a_name() {
        let by_host = unpinned(&["mirror.example:5000"]);
        assert!(by_host.entry_for("mirror.example:5000/team/app:1").is_some());
        assert!(by_host.entry_for("mirror.example/team/app:1").is_none());
        let by_path = unpinned(&["other.example", "mirror.example/team"]);
        assert_eq!(by_path.entry_for("mirror.example/team/app").unwrap().to_string(), "mirror.example/team");
        assert!(by_path.entry_for("mirror.example/team:1").is_some());
        assert!(by_path.entry_for("mirror.example/teams/app:1").is_none());
        assert!(by_path.entry_for("mirror.example.evil/team/app:1").is_none());
    }

    #[test]
    fn the_spellings_of_docker_hub_are_one() {
        for entry in [
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
            "registry-1.docker.io/library",
            "docker.io/library",
            "docker.io/nginx",
        ] {
            for image in ["nginx", "nginx:1", "docker.io/nginx", "index.docker.io/library/nginx:1"] {
                assert!(unpinned(&[entry]).entry_for(image).is_some(), "{entry}: {image}");
            }
        }
        assert!(unpinned(&["docker.io/myorg"]).entry_for("myorg/app:1").is_some());
        assert!(unpinned(&["docker.io/myorg"]).entry_for("nginx").is_none());
    }

    #[test]
    fn a_digest_leaves_nothing_to_switch_off() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(unpinned(&["a.example"]).entry_for(&format!("a.example/b:1@sha256:{hex}")).is_none());
        assert!(unpinned(&["a.example"]).entry_for("a.example/UPPER:1").is_none());
    }

    #[test]
    fn what_cannot_begin_an_image_name_is_refused() {
        for wrong in [
            "",
            "*",
            "myorg",
            "myorg/app",
            "a.example/",
            "a.example/b:1",
            "a.example/B",
            "https://a.example",
            " a.example",
        ] {
            assert!(RepositoryPrefix::parse(wrong).is_err(), "{wrong}");
        }
        for right in ["localhost", "a.example", "a:5000", "a.example/b/c", "docker.io"] {
            assert!(RepositoryPrefix::parse(right).is_ok(), "{right}");
        }
    }
}
