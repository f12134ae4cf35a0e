//! What names a container's program, and the file of the image that a path leads to. Each runtime searches in its own
//! order; how a path is followed, and what a volume hides, is the same for all of them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::names::is_wasm_name;
use super::{FileClass, ImageFacts, path};

/// Where a name without a slash is looked for by a process that has the usual `PATH` of a service
/// (`systemd:src/basic/path-util.h`, `DEFAULT_PATH_NORMAL`) or of a container (`containerd:pkg/oci/spec.go`).
pub const SEARCH_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a pod says about how a container starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// `command`: replaces the image's Entrypoint, and its Cmd with it.
    pub command: &'a [String],
    /// `args`: replaces the image's Cmd.
    pub args: &'a [String],
    /// `workingDir`: replaces the image's `WorkingDir`.
    pub working_dir: Option<&'a str>,
    /// Mount paths of volumes, which hide the image's own files.
    pub mounts: &'a [&'a str],
    /// The pod's annotations, by which crun and youki can be asked for a Wasm handler
    /// ([`super::annotation::crun_annotation`]).
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// What is at a path when the container starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At<'a> {
    /// A file of the image, by its path after links, and what it is.
    File(&'a str, &'a FileClass),
    /// Whatever the volume at this path holds.
    Hidden(String),
    /// No file that was kept: nothing, a folder, or a file that is neither Wasm nor a program.
    Nothing,
}

/// `argv[0]`. A `command` leaves the image's Entrypoint and Cmd out, `args` only its Cmd.
pub fn first_argument<'a>(facts: &'a ImageFacts, start: &Start<'a>) -> Option<&'a str> {
    let lists: &[&[String]] = if start.command.is_empty() {
        let rest = if start.args.is_empty() { &facts.cmd } else { start.args };
        &[&facts.entrypoint, rest]
    } else {
        &[start.command]
    };
    lists.iter().find_map(|list| list.first()).map(String::as_str)
}

/// `path#function`, cut at the first `#` (`runwasi:crates/containerd-shim-wasm/src/sandbox/context.rs`).
pub fn cut_function(argument: &str) -> (&str, Option<&str>) {
    match argument.split_once('#') {
        Some((path, function)) => (path, Some(function)),
        None => (argument, None),
    }
}

/// Whether an entry point is called like a Wasm file, its `#function` left out.
pub fn names_wasm(argument: &str) -> bool {
    is_wasm_name(cut_function(argument).0) || is_wasm_name(argument)
}

/// Whether a program's name is a reason to read the layers: it is called like Wasm, or it is the root, as in the pods of
/// Spin (`spin-operator:internal/controller/deployment.go`).
pub fn needs_layers(argument: &str) -> bool {
    names_wasm(argument) || is_root(argument)
}

/// Whether a program's name is the root folder.
pub fn is_root(argument: &str) -> bool {
    !argument.is_empty() && path::normalise(argument) == "/" && argument.contains('/')
}

/// Whether the kubelet may replace a part of the name by a variable of the container, which may come from anywhere.
pub fn holds_variable(argument: &str) -> bool {
    argument.contains("$(")
}

/// The working directory of the container.
pub fn working_dir<'a>(facts: &'a ImageFacts, start: &Start<'a>) -> &'a str {
    start.working_dir.filter(|directory| !directory.is_empty()).unwrap_or(&facts.working_dir)
}

/// The paths at which the image's own entry point may be.
pub(super) fn wanted(entrypoint: &[String], cmd: &[String], working_dir: &str) -> Vec<String> {
    let Some(first) = entrypoint.first().or(cmd.first()) else { return Vec::new() };
    let mut wanted = candidates(first, working_dir);
    wanted.extend(candidates(cut_function(first).0, working_dir));
    wanted.iter().map(|path| path::normalise(path)).collect()
}

/// A name with a slash is relative to the working directory; one without is searched for first
/// (`runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs`).
pub(super) fn candidates(name: &str, working_dir: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    let here = path::join(working_dir, name);
    if name.contains('/') {
        return vec![here];
    }
    SEARCH_PATH.iter().map(|folder| path::join(folder, name)).chain([here]).collect()
}

/// What a path leads to, volumes included. A path that says by its end that it is a folder leads to no file.
pub fn at<'a>(facts: &'a ImageFacts, start: &Start<'_>, place: &str) -> At<'a> {
    if let Some(mount) = hiding(facts, start.mounts, place) {
        return At::Hidden(mount);
    }
    let folder = matches!(place.rsplit('/').next(), Some("" | "." | ".."));
    match find(facts, place).filter(|_| !folder) {
        Some((at, class)) => At::File(at, class),
        None => At::Nothing,
    }
}

/// The file that a path of the image leads to, volumes left out.
pub fn find<'a>(facts: &'a ImageFacts, place: &str) -> Option<(&'a str, &'a FileClass)> {
    class(facts, &resolved(facts, place)?)
}

/// Whether there is a file of this name, also one that is a link to something that was not kept.
pub fn is_there(facts: &ImageFacts, at: &str) -> bool {
    class(facts, at).is_some() || find(facts, at).is_some()
}

/// The file at exactly this path. The files are sorted by path.
pub(super) fn class<'a>(facts: &'a ImageFacts, at: &str) -> Option<(&'a str, &'a FileClass)> {
    let found = facts.files.binary_search_by(|(name, _)| name.as_str().cmp(at)).ok()?;
    facts.files.get(found).map(|(name, class)| (name.as_str(), class))
}

/// The path without its links; `None` for a loop.
pub fn resolved(facts: &ImageFacts, place: &str) -> Option<String> {
    path::resolve(place, true, |at| target(facts, at))
}

fn target<'a>(facts: &'a ImageFacts, at: &str) -> Option<&'a str> {
    match class(facts, at)?.1 {
        FileClass::Link { target } => Some(target.as_str()),
        _ => None,
    }
}

/// The volume that hides a path, or a link on the way from it to its file.
pub fn hiding(facts: &ImageFacts, mounts: &[&str], place: &str) -> Option<String> {
    if mounts.is_empty() {
        return None;
    }
    let passed = RefCell::new(vec![path::normalise(place)]);
    path::resolve(place, true, |at| {
        passed.borrow_mut().push(at.to_string());
        target(facts, at)
    });
    let passed = passed.into_inner();
    let covers = |mount: &str| {
        let below = format!("{}/", mount.trim_end_matches('/'));
        passed.iter().any(|path| path == mount || path.starts_with(&below))
    };
    let ends = |mount: &&str| [Some(path::normalise(mount)), resolved(facts, mount)];
    mounts.iter().flat_map(ends).flatten().find(|mount| covers(mount))
}
