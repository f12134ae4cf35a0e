//! Platforms as containerd names and compares them (`containerd/platforms:database.go`, `compare.go`).

use std::sync::Arc;

/// `os/architecture` in lower case and with its usual name; empty if both are. An architecture without a system means
/// the node's own system, Linux (`normalizeOS`).
pub fn named(os: &str, architecture: &str) -> String {
    let architecture = usual(architecture);
    match (os, architecture.as_str()) {
        ("", "") => String::new(),
        ("", architecture) => format!("linux/{architecture}"),
        (os, architecture) => format!("{}/{architecture}", lower(os)),
    }
}

/// In lower case as Go writes it, a character for a character (`go:src/unicode/letter.go`, `ToLower`). Rust makes two of the one
/// that differs, so that it would not see what a node takes for `linux`.
fn lower(text: &str) -> String {
    const DOTTED_I: char = '\u{130}';
    text.replace(DOTTED_I, "i").to_lowercase()
}

/// An architecture by the name that nodes use, not the kernel's (`normalizeArch`).
fn usual(architecture: &str) -> String {
    match lower(architecture).as_str() {
        "x86_64" | "x86-64" => "amd64".into(),
        "aarch64" => "arm64".into(),
        "i386" => "386".into(),
        "armhf" | "armel" => "arm".into(),
        other => other.into(),
    }
}

/// Whether a lower-case `os/architecture` is WebAssembly: `wasi`, `wasip1`, `wasip2` on `wasm`, `wasm32`, `wasm64`.
/// Only the architecture counts, as in runwasi.
pub fn is_wasm(platform: &str) -> bool {
    let (_, architecture) = platform.split_once('/').unwrap_or_default();
    matches!(architecture, "wasm" | "wasm32" | "wasm64")
}

/// The architectures of the nodes, if the configuration says that there are no others.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    /// In Go's names; empty for any.
    architectures: Arc<[String]>,
}

impl Nodes {
    /// Only nodes of these architectures; an empty list means any. Accepts the kernel's names too.
    pub fn of(architectures: &[String]) -> Self {
        Self { architectures: architectures.iter().map(|name| usual(name)).collect() }
    }

    /// Whether one of the nodes may pull this entry of an index. 64-bit nodes accept what is built for their 32-bit kin
    /// if there is nothing better (`platformVector`).
    pub(crate) fn may_read(&self, platform: &str) -> bool {
        let Some(("linux", entry)) = platform.split_once('/') else { return true };
        let kin = |node: &String| matches!((node.as_str(), entry), ("amd64", "386") | ("arm64", "arm"));
        self.architectures.is_empty() || self.architectures.iter().any(|node| node == entry || kin(node))
    }
}

/// Host platforms, in the order of preference in an index.
const HOST_PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// The rank of an entry of an index whose platform is Wasm: it is taken where the index has nothing for Linux.
pub(super) const OF_WASM: usize = HOST_PLATFORMS.len() + 2;

/// How late an entry of an index for this platform is taken ([`super::manifest::choose`]); `None` if it never is.
pub(super) fn rank(platform: &str) -> Option<usize> {
    let host = HOST_PLATFORMS.iter().position(|host| *host == platform);
    match platform {
        "" => Some(HOST_PLATFORMS.len() + 1),
        linux if linux.starts_with("linux/") => Some(host.unwrap_or(HOST_PLATFORMS.len())),
        other => is_wasm(other).then_some(OF_WASM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_named_as_a_node_names_it() {
        for (os, architecture, expected) in [
            ("linux", "amd64", "linux/amd64"),
            ("Linux", "X86_64", "linux/amd64"),
            ("", "amd64", "linux/amd64"),
            ("", "aarch64", "linux/arm64"),
            ("Wasip1", "Wasm", "wasip1/wasm"),
            ("linux", "", "linux/"),
            ("", "", ""),
            // Both of them are what nodes of Linux pull, `linux/amd64` and `linux/386`.
            ("l\u{130}nux", "AMD64", "linux/amd64"),
            ("LINUX", "\u{130}386", "linux/386"),
        ] {
            assert_eq!(named(os, architecture), expected);
        }
    }

    #[test]
    fn nodes_pull_what_is_built_for_them_or_their_kin() {
        let nodes = Nodes::of(&["x86_64".into()]);
        let read = ["linux/amd64", "linux/386", "wasi/wasm", ""];
        assert!(read.iter().all(|platform| nodes.may_read(platform)));
        assert!(!nodes.may_read("linux/arm64"));
        assert!(Nodes::default().may_read("linux/arm64"));
    }
}
