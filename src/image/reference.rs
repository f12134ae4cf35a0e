//! Image names: `host/repository:tag@digest`, normalised as container runtimes do.

use std::fmt;

use oci_spec::distribution::ParseError;

use super::malformed::Malformed;
use super::{Digest, Error};
use crate::text;

/// Longest name that is parsed, in bytes. Valid names are shorter: a host of 255 and a port, a repository of 255, a tag
/// of 128 and a `sha512` digest (`distribution:reference/regexp.go`, `reference.go`).
const LONGEST_NAME: usize = 1024;

/// Longest repository and longest tag of them, in bytes.
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// The tag of a name with neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// How much of an unparsable name its error message repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// A normalised image name: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and optional port, such as `ghcr.io` or `127.0.0.1:5000`.
    pub registry: String,
    /// Repository, such as `library/nginx`.
    pub repository: String,
    /// Tag; `latest` when neither a tag nor a digest was written.
    pub tag: Option<String>,
    /// Digest; wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses an image name. Trims nothing, as Kubernetes does: a name with a space does not parse.
    pub fn parse(image: &str) -> Result<Self, Error> {
        obvious_mistake(image).map_or(Ok(()), |message| Err(refused(image, message)))?;
        plain(image).map_or_else(|| by_grammar(image), Ok)
    }

    /// The same repository at a digest.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

fn refused(image: &str, message: String) -> Error {
    Error::ParseReference { image: text::quoted(image, SHOWN_CHARS), message }
}

/// Reads any name by the grammar of oci-spec.
fn by_grammar(image: &str) -> Result<Reference, Error> {
    let parsed: oci_spec::distribution::Reference =
        image.parse().map_err(|error| refused(image, explain(image, &error)))?;
    late_mistake(&parsed).map_or(Ok(()), |message| Err(refused(image, message)))?;
    let digest = parsed.digest().map(str::parse).transpose();
    Ok(Reference {
        registry: parsed.registry().to_string(),
        repository: parsed.repository().to_string(),
        tag: parsed.tag().map(String::from),
        digest: digest.map_err(|malformed: Malformed| refused(image, malformed.0))?,
    })
}

/// Reads a name that is written as nearly all are. `None` says nothing about it: the grammar decides. That is a regular expression in which
/// a tag has any letter of Unicode up to 128 times, so it takes five megabytes or more as long as the process runs, and a quarter of a start
/// that compiles no policies. What is read here is read by the grammar in the same way, which the tests compare.
fn plain(image: &str) -> Option<Reference> {
    let (tagged, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let digest: Option<Digest> = digest.map(str::parse).transpose().ok()?;
    let name = repository(image);
    let tag = match tagged.strip_prefix(name)? {
        "" => digest.is_none().then_some(DEFAULT_TAG),
        rest => Some(rest.strip_prefix(':').filter(|tag| is_plain_tag(tag))?),
    };
    let (host, path) = name.split_once('/').filter(|(host, _)| is_host(host)).unwrap_or((DOCKER_HUB, name));
    let registry = if host == DOCKER_HUB_OLDER { DOCKER_HUB } else { host };
    let official = if registry == DOCKER_HUB && !path.contains('/') { OFFICIAL } else { "" };
    let repository = format!("{official}{path}");
    let is_plain = is_plain_host(host)
        && path.split('/').all(is_plain_component)
        && repository.len() <= LONGEST_REPOSITORY;
    let registry = registry.to_string();
    is_plain.then(|| Reference { registry, repository, tag: tag.map(String::from), digest })
}

/// Whether what stands before the first slash of a name is a host. Else it is a part of a name of Docker Hub.
pub(super) fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

/// A host of labels, with or without a port.
fn is_plain_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Lower-case letters and digits, with one dot, one or two underscores, or dashes between them.
fn is_plain_component(component: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joins =
        |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    component.starts_with(is_letter)
        && component.ends_with(is_letter)
        && component.split(is_letter).all(joins)
}

/// A tag in ASCII.
fn is_plain_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_rest = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'-');
    tag.len() <= LONGEST_TAG && tag.bytes().next().is_some_and(is_word) && tag.bytes().all(is_rest)
}

/// What oci-spec accepts and container runtimes refuse.
fn late_mistake(parsed: &oci_spec::distribution::Reference) -> Option<String> {
    let upper = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
    if upper(parsed.repository()) {
        return Some("repository names are lower case; write them so".into());
    }
    if parsed.digest().is_some_and(upper) {
        return Some("the digest has upper-case hex digits; write them in lower case".into());
    }
    None
}

/// Host and path of Docker Hub's images as runtimes normalise them, and the older name of the same host
/// (`distribution:reference/normalize.go`, `splitDockerDomain`).
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_OLDER: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// The host that serves Docker Hub's API (`containerd:core/remotes/docker/resolver.go`, `DefaultHost`).
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A registry by the name that normalised image names have for it: all hosts of Docker Hub are `docker.io`.
pub fn registry_name(registry: &str) -> &str {
    if [DOCKER_HUB_OLDER, DOCKER_HUB_API].contains(&registry) { DOCKER_HUB } else { registry }
}

/// Host and path of an image name as it is written, without tag and digest. Never fails, as [`spellings`] never does.
pub fn repository(image: &str) -> &str {
    let tagged = image.split_once('@').map_or(image, |(name, _)| name);
    let last = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let colon = tagged.get(last..).and_then(|name| name.find(':'));
    colon.and_then(|at| tagged.get(..last + at)).unwrap_or(tagged)
}

/// Every spelling of `host/repository` without tag and digest: `nginx`, `library/nginx` and `docker.io/nginx` are the
/// same image. A name of another host has one spelling. Never fails, since patterns are compared with names that no
/// registry would accept.
pub fn spellings(repository: &str) -> Vec<String> {
    let (host, path) = repository.split_once('/').unwrap_or(("", repository));
    let path = match host {
        DOCKER_HUB | DOCKER_HUB_OLDER => path,
        _ if is_host(host) => return vec![repository.to_string()],
        _ => repository,
    };
    let official = path.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
    let short = official.or_else(|| (!path.contains('/')).then_some(path));
    let paths = match short {
        Some(short) => vec![short.to_string(), format!("{OFFICIAL}{short}")],
        None => vec![path.to_string()],
    };
    let hosts = ["", "docker.io/", "index.docker.io/"];
    paths.iter().flat_map(|path| hosts.map(|host| format!("{host}{path}"))).collect()
}

/// Common mistakes that a grammar cannot explain, checked before the grammar.
fn obvious_mistake(image: &str) -> Option<String> {
    if image.is_empty() {
        return Some("it is empty; write `registry/repository:tag`".into());
    }
    if image.len() > LONGEST_NAME {
        return Some(format!("it has {} bytes and no valid name has more than {LONGEST_NAME}", image.len()));
    }
    if image.chars().any(|c| c.is_whitespace() || text::is_dangerous(c)) {
        return Some(
            "it contains a space, a control character or an invisible one, which Kubernetes does not trim; remove it".into(),
        );
    }
    if let Some((scheme, _)) = image.split_once("://") {
        return Some(format!("leave out `{scheme}://`; a name starts with the registry's host"));
    }
    if image.starts_with('[') {
        return Some("an IPv6 address is not understood as a registry; give the registry a host name".into());
    }
    // Docker and containerd take these for an image id and refuse them (`distribution:reference/normalize.go`).
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if image.len() == 64 && image.bytes().all(hex) {
        return Some("it is an image id, which no registry knows; write `repository@sha256:…`".into());
    }
    None
}

/// Says how to mend what the grammar refused.
fn explain(image: &str, error: &ParseError) -> String {
    match error {
        ParseError::NameTooLong => "the repository has more than 255 characters; shorten it".into(),
        ParseError::NameContainsUppercase => "repository names are lower case; write them so".into(),
        ParseError::DigestUnsupported => {
            "the digest's algorithm is unknown; use `sha256:` and 64 hex digits".into()
        }
        ParseError::DigestInvalidLength | ParseError::DigestInvalidFormat => {
            "the digest has the wrong length; `sha256:` takes 64 hex digits, `sha512:` 128".into()
        }
        ParseError::NameEmpty => "it has no repository; write `registry/repository:tag`".into(),
        _ if has_upper_case_path(image) => "repository names are lower case; write them so".into(),
        _ if image.contains('@') => "write `registry/repository:tag@sha256:` and 64 hex digits".into(),
        _ => "write `registry/repository:tag` or `registry/repository@sha256:…`".into(),
    }
}

/// Whether the part between host and tag has upper-case letters, the most common mistake.
fn has_upper_case_path(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or(image);
    let path = name.split_once('/').map_or(name, |(_, path)| path);
    path.split(':').next().unwrap_or(path).bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn normal(image: &str) -> String {
        Reference::parse(image).unwrap().to_string()
    }

    fn message(image: &str) -> String {
        Reference::parse(image).unwrap_err().to_string()
    }

    #[test]
    fn short_names_belong_to_docker_hub() {
        assert_eq!(normal("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(normal("nginx:1.27"), "docker.io/library/nginx:1.27");
        assert_eq!(normal("myorg/app"), "docker.io/myorg/app:latest");
        assert_eq!(normal("docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(normal("index.docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(normal("test.com:5000"), "docker.io/library/test.com:5000");
    }

    #[test]
    fn all_spellings_of_a_repository_are_one_image_and_no_other() {
        for (written, count) in [("nginx", 6), ("library/nginx", 6), ("docker.io/nginx", 6), ("org/app", 3)] {
            let spellings = spellings(written);
            assert_eq!(spellings.len(), count, "{spellings:?}");
            for spelling in &spellings {
                assert_eq!(normal(spelling), normal(written));
                assert_eq!(
                    BTreeSet::from_iter(super::spellings(spelling)),
                    BTreeSet::from_iter(spellings.clone())
                );
            }
        }
        for one in ["ghcr.io/nginx", "localhost/nginx", "registry:5000/library/nginx", "docker.io.evil/nginx"]
        {
            assert_eq!(spellings(one), [one]);
        }
        for odd in ["", "/", "docker.io/", "library/", "a//b", "docker.io"] {
            assert!(spellings(odd).contains(&odd.to_string()), "{odd}: {:?}", spellings(odd));
        }
    }

    #[test]
    fn the_repository_of_a_name_ends_before_its_tag_and_its_digest() {
        for (image, expected) in [
            ("nginx", "nginx"),
            ("nginx:1", "nginx"),
            ("localhost:5000/org/app", "localhost:5000/org/app"),
            ("localhost:5000/org/app:v1@sha256:aa", "localhost:5000/org/app"),
            ("ghcr.io/a@sha256:aa", "ghcr.io/a"),
            ("", ""),
            ("/", "/"),
            ("a/:x", "a/"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn names_as_they_are_written_need_no_grammar() {
        for image in [
            "nginx",
            "nginx:1.27-alpine",
            "library/nginx:latest",
            "docker.io/org/app_name:V1.2",
            "index.docker.io/nginx",
            "ghcr.io/org/some--app/part__2:v1",
            "Registry.Example:5000/team/app",
            "localhost/app",
            "123456789.dkr.ecr.eu-central-1.amazonaws.com/app:2026-11-30",
        ] {
            let whole = format!("{image}@sha256:{HEX}");
            for written in [image, whole.as_str()] {
                assert_eq!(plain(written), by_grammar(written).ok(), "{written}");
                assert!(plain(written).is_some(), "{written}");
            }
        }
    }

    #[test]
    fn what_is_not_read_plainly_is_left_to_the_grammar() {
        let (long, tag) = ("a/".repeat(128), "t".repeat(129));
        for image in [
            format!("{long}a"),
            format!("a:{tag}"),
            format!("a@sha256:{}", HEX.to_uppercase()),
            format!("a@sha256:{HEX}@sha256:{HEX}"),
            "a:ä".into(),
            "a:".into(),
            "a@".into(),
            "/a".into(),
            "a/".into(),
            "a//b".into(),
            "a..b".into(),
            "a___b".into(),
            "a-_b".into(),
            "Org/app".into(),
            "-a.b/c".into(),
            "a.b-/c".into(),
            "a..b/c".into(),
            "a:x/b".into(),
            "a:/b".into(),
            "a.b:1:2/c".into(),
        ] {
            assert_eq!(plain(&image), None, "{image}");
        }
    }

    /// Names from `distribution:reference/normalize_test.go` and `reference_test.go`, and how they are read.
    #[test]
    fn names_are_normalised_as_container_runtimes_do_it() {
        for (written, normalised) in [
            ("test.com/foo", "test.com/foo:latest"),
            ("test_com/foo", "docker.io/test_com/foo:latest"),
            ("docker/migrator", "docker.io/docker/migrator:latest"),
            ("docker.io/library/foo", "docker.io/library/foo:latest"),
            ("index.docker.io/library/foo", "docker.io/library/foo:latest"),
            ("index.docker.io/foo/bar", "docker.io/foo/bar:latest"),
            ("xn--n3h.com/foo", "xn--n3h.com/foo:latest"),
            ("xn--n3h.com:18080/foo", "xn--n3h.com:18080/foo:latest"),
            ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080"),
            ("foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080"),
            ("127.0.0.1:5000/docker/docker", "127.0.0.1:5000/docker/docker:latest"),
            ("192.168.0.0/16/foo", "192.168.0.0/16/foo:latest"),
            ("aa/asdf$$^/aa", ""),
            ("docker///docker", ""),
            ("docker.io/docker/Docker", ""),
            ("-foo/bar", ""),
            ("foo/bar-", ""),
            ("docker.io/", ""),
            ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase"),
            ("test:5000/repo:tag", "test:5000/repo:tag"),
            ("Uppercase:tag", ""),
            ("test:5000/Uppercase/lowercase:tag", ""),
            ("a/a/a/a/a/a/b/a/a/a:tag", "docker.io/a/a/a/a/a/a/b/a/a/a:tag"),
            ("aa/asdf$$^/aa:tag", ""),
            ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com/bar/baz/quux:some-long-tag"),
            (
                "b.gcr.io/test.example.com/my-app:test.example.com",
                "b.gcr.io/test.example.com/my-app:test.example.com",
            ),
        ] {
            let read = Reference::parse(written).map(|reference| reference.to_string()).unwrap_or_default();
            assert_eq!(read, normalised, "{written}");
        }
    }

    #[test]
    fn the_tests_push_with_the_grammar_that_is_read_here() {
        // One type as long as both resolve to one version of oci-spec; otherwise this does not compile.
        let pushed: oci_client::Reference = "nginx:1".parse().unwrap();
        let read: oci_spec::distribution::Reference = pushed;
        assert_eq!(read.whole(), normal("nginx:1"));
    }

    #[test]
    fn a_first_part_with_a_dot_a_port_or_localhost_is_a_host() {
        assert_eq!(normal("ghcr.io/a/b/c:v1"), "ghcr.io/a/b/c:v1");
        assert_eq!(normal("registry:5000/a"), "registry:5000/a:latest");
        assert_eq!(normal("localhost/a"), "localhost/a:latest");
        assert_eq!(normal("127.0.0.1:5000/a/b:1"), "127.0.0.1:5000/a/b:1");
        assert_eq!(Reference::parse("127.0.0.1:5000/a/b:1").unwrap().registry, "127.0.0.1:5000");
    }

    #[test]
    fn a_digest_keeps_its_tag_and_gets_none_of_its_own() {
        let both = Reference::parse(&format!("ghcr.io/a:v1@sha256:{HEX}")).unwrap();
        assert_eq!(both.tag.as_deref(), Some("v1"));
        assert_eq!(both.digest.unwrap(), *format!("sha256:{HEX}"));
        let digest = Reference::parse(&format!("ghcr.io/a@sha512:{HEX}{HEX}")).unwrap();
        assert_eq!(digest.tag, None);
        assert_eq!(digest.digest.unwrap(), *format!("sha512:{HEX}{HEX}"));
    }

    #[test]
    fn with_digest_keeps_the_rest() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        let pinned = Reference::parse("ghcr.io/a:v1").unwrap().with_digest(&digest);
        assert_eq!(pinned.to_string(), format!("ghcr.io/a:v1@{digest}"));
    }

    #[test]
    fn nothing_is_trimmed() {
        for image in [" nginx", "nginx ", "nginx\n", "ngi nx", "nginx\u{a0}", "ng\tinx"] {
            assert!(message(image).contains("remove it"), "{image:?}: {}", message(image));
        }
    }

    #[test]
    fn every_refusal_says_how_to_mend_it() {
        let long = "a/".repeat(200);
        for (image, part) in [
            (String::new(), "it is empty; write `registry/repository:tag`"),
            ("https://ghcr.io/a".into(), "leave out `https://`"),
            ("[::1]:5000/a".into(), "give the registry a host name"),
            (HEX.into(), "write `repository@sha256:…`"),
            ("ghcr.io/Upper/case:1".into(), "lower case; write them so"),
            ("Nginx".into(), "lower case; write them so"),
            ("MyOrg/app".into(), "lower case; write them so"),
            (format!("a@sha256:{}", HEX.to_uppercase()), "write them in lower case"),
            (format!("a@sha256:{HEX}00"), "`sha256:` takes 64 hex digits"),
            (format!("a@md5:{HEX}"), "use `sha256:`"),
            ("a@sha256:zz".into(), "64 hex digits"),
            (format!("ghcr.io/{long}b"), "more than 255 characters; shorten it"),
            ("a:".into(), "write `registry/repository:tag`"),
            (format!("a:{}", "t".repeat(129)), "write `registry/repository:tag`"),
            ("ghcr.io/".into(), "write `registry/repository:tag`"),
            (":tag".into(), "write `registry/repository:tag`"),
            ("ghcr.io/../etc".into(), "write `registry/repository:tag`"),
        ] {
            assert!(message(&image).contains(part), "{image}: {}", message(&image));
        }
    }

    #[test]
    fn absurd_lengths_are_refused_without_repeating_them() {
        let text = message(&"a".repeat(8 << 20));
        assert!(text.contains("no valid name has more than 1024"), "{text}");
        assert!(text.len() < 1000);
    }

    #[test]
    fn a_message_contains_no_characters_that_control_a_terminal() {
        assert!(!message("nginx\u{1b}[2J\r\n").contains(char::is_control));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(image in "\\PC{0,80}") {
            let _ = Reference::parse(&image);
        }

        #[test]
        fn parsing_what_looks_like_a_name_never_panics(image in "[a-zA-Z0-9._:/@\\[\\]-]{0,160}") {
            let _ = Reference::parse(&image);
        }

        #[test]
        fn a_normalised_name_parses_to_itself(
            host in "(([a-z0-9]{1,8}\\.){1,2}[a-z]{2,3}(:[0-9]{1,5})?/)?",
            path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
            digest in "(@sha256:[0-9a-f]{64})?",
        ) {
            let written = format!("{host}{path}{tag}{digest}");
            let once = Reference::parse(&written).unwrap();
            prop_assert_eq!(&once, &Reference::parse(&once.to_string()).unwrap());
            prop_assert_eq!(plain(&written), by_grammar(&written).ok());
        }

        #[test]
        fn what_is_read_without_the_grammar_is_read_as_by_it(
            image in "[abA0._:/@-]{1,12}",
            parts in "([abA0._-]{0,3}/)?[ab0._-]{0,4}(/[ab0._-]{0,4}){0,2}(:[abA0._-]{0,3})?",
        ) {
            for image in [image, parts] {
                let read = plain(&image);
                prop_assert!(read.is_none() || read == by_grammar(&image).ok(), "{image}: {read:?}");
            }
        }
    }
}
