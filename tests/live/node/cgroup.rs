//! The cgroups of a node's pods, and what the kernel counts for them, in the files of either version
//! (`torvalds/linux:Documentation/admin-guide/cgroup-v1/memory.rst`, `cgroup-v1/cpuacct.rst` and `cgroup-v2.rst`). `tools/cluster/node` needs
//! the first version, so only that one was ever read from a pod.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Site;

const ROOT: &str = "/sys/fs/cgroup";

/// The version that this machine uses. Beside controllers of the first version, the second has no memory controller, and another folder.
pub(super) fn version() -> u8 {
    if Path::new(ROOT).join("cgroup.controllers").exists() { 2 } else { 1 }
}

/// The cgroup of the first node of a control plane in a folder, as `tools/cluster/node` names it. The second version has all
/// controllers in one folder.
pub(super) fn of_node(controller: &str, folder: &Path) -> PathBuf {
    let folder = fs::canonicalize(folder).unwrap();
    let hash = format!("{:x}", Sha256::digest(folder.display().to_string()));
    let root = if version() == 1 { Path::new(ROOT).join(controller) } else { ROOT.into() };
    root.join(format!("wasmgate-node-{}", &hash[..8]))
}

/// The cgroup of a pod, of one kind of controller.
pub(super) fn of_pod(site: &Site, controller: &str, uid: &str) -> Option<PathBuf> {
    let pods = of_node(controller, site.plane.home().path()).join("kubepods");
    let places = ["", "burstable", "besteffort"].map(|class| pods.join(class).join(format!("pod{uid}")));
    places.into_iter().find(|place| place.is_dir())
}

/// What the kernel counted for a cgroup.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) peak_bytes: u64,
    pub(super) cpu_nanos: u64,
    /// How often its memory reached the limit, and how many of its processes were killed for that.
    pub(super) reached: u64,
    pub(super) killed: u64,
}

impl Counted {
    /// All of them only grow, and a file may be gone before the next.
    pub(super) fn with(self, newer: Self) -> Self {
        Self {
            peak_bytes: self.peak_bytes.max(newer.peak_bytes),
            cpu_nanos: self.cpu_nanos.max(newer.cpu_nanos),
            reached: self.reached.max(newer.reached),
            killed: self.killed.max(newer.killed),
        }
    }
}

/// What is counted in the folders of the controllers for memory and CPU, which are one folder in the second version.
pub(super) fn counted(memory: &Path, cpu: Option<&Path>) -> Counted {
    let events = memory.join("memory.events");
    if events.exists() {
        return Counted {
            // From Linux 5.19 on.
            peak_bytes: number(&memory.join("memory.peak")),
            cpu_nanos: cpu.map_or(0, |cpu| field(&cpu.join("cpu.stat"), "usage_usec").saturating_mul(1000)),
            reached: field(&events, "max"),
            killed: field(&events, "oom_kill"),
        };
    }
    Counted {
        peak_bytes: number(&memory.join("memory.max_usage_in_bytes")),
        cpu_nanos: cpu.map_or(0, |cpu| number(&cpu.join("cpuacct.usage"))),
        reached: number(&memory.join("memory.failcnt")),
        killed: field(&memory.join("memory.oom_control"), "oom_kill"),
    }
}

/// The memory limit of a cgroup in bytes. Without one the second version says `max`.
pub(super) fn memory_limit(cgroup: &Path) -> Option<u64> {
    let read =
        |file: &str| -> Option<u64> { fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok() };
    read("memory.max").or_else(|| read("memory.limit_in_bytes"))
}

/// The CPU limit of a cgroup, in microseconds of each tenth of a second. Without one the first version says -1, and the second `max`.
pub(super) fn cpu_quota(cgroup: &Path) -> Option<u64> {
    let read = |file: &str| -> Option<u64> {
        fs::read_to_string(cgroup.join(file)).ok()?.split_whitespace().next()?.parse().ok()
    };
    read("cpu.max").or_else(|| read("cpu.cfs_quota_us"))
}

fn number(file: &Path) -> u64 {
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A number of a file that has `KEY NUMBER` in each line.
fn field(file: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = |line: &str| -> Option<u64> { line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok() };
    text.lines().find_map(value).unwrap_or(0)
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn the_files_of_both_versions_of_cgroups_say_the_same() {
    let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
    let memory = folder(&[
        ("memory.max_usage_in_bytes", "13107200\n"),
        ("memory.failcnt", "41\n"),
        ("memory.oom_control", control),
        ("memory.limit_in_bytes", "67108864\n"),
    ]);
    let cpu = folder(&[("cpuacct.usage", "136000000\n")]);
    let events = "low 0\nhigh 0\nmax 41\noom 3\noom_kill 2\noom_group_kill 1\n";
    let times = "usage_usec 136000\nuser_usec 120000\nsystem_usec 16000\nnice_usec 0\n";
    let both = folder(&[
        ("memory.peak", "13107200\n"),
        ("memory.events", events),
        ("memory.max", "67108864\n"),
        ("cpu.stat", times),
    ]);
    let said = Counted { peak_bytes: 13_107_200, cpu_nanos: 136_000_000, reached: 41, killed: 2 };
    assert_eq!(counted(memory.path(), Some(cpu.path())), said);
    assert_eq!(counted(both.path(), Some(both.path())), said);
    assert_eq!(counted(both.path(), None), Counted { cpu_nanos: 0, ..said });
    assert_eq!(
        (memory_limit(memory.path()), memory_limit(both.path())),
        (Some(67_108_864), Some(67_108_864))
    );
    let unlimited = folder(&[("memory.max", "max\n")]);
    assert_eq!(memory_limit(unlimited.path()), None);
}

#[test]
fn the_files_of_both_versions_say_the_same_of_a_cpu_limit() {
    let [first, second] = ["cpu.cfs_quota_us", "cpu.max"].map(|file| folder(&[(file, "25000 100000\n")]));
    assert_eq!((cpu_quota(first.path()), cpu_quota(second.path())), (Some(25_000), Some(25_000)));
    let [first, second] =
        [("cpu.cfs_quota_us", "-1\n"), ("cpu.max", "max 100000\n")].map(|file| folder(&[file]));
    assert_eq!((cpu_quota(first.path()), cpu_quota(second.path())), (None, None));
}

/// A cgroup goes away while it is read, and an older kernel has no peak.
#[test]
fn what_a_cgroup_does_not_have_counts_as_nothing() {
    let gone = folder(&[]).path().to_path_buf();
    assert_eq!(counted(&gone, Some(&gone)), Counted::default());
    let older = folder(&[("memory.events", "max 1\n")]);
    let said = Counted { reached: 1, ..Counted::default() };
    assert_eq!(counted(older.path(), Some(older.path())), said);
    assert_eq!(said.with(Counted::default()), said);
}
