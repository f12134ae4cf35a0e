//! What runtimes start from the files of a container, written once more from their sources and by nothing of the gate:
//! the node says what each path leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::node::Found;

/// What starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Started {
    /// Nothing: the container fails.
    Nothing,
    /// A program of Linux.
    Linux,
    /// A Wasm file with this digest.
    Wasm(String),
    /// The application of a `/spin.toml` with this digest.
    Application(String),
    /// A file with this digest that an engine may run as machine code, and that is no program of Linux: an ELF file, in which
    /// wasmtime and WasmEdge have what they compiled, or one of WAMR's compiler.
    MachineCode(String),
}

/// One way in which each kind of runtime chooses a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Runwasi,
    Spin,
    Crun,
    Youki,
}

/// A container as a runtime finds it.
#[derive(Debug)]
pub struct Container<'a> {
    /// What the node has, by every path of [`Container::places`].
    pub files: &'a BTreeMap<String, Found>,
    /// `process.args[0]`.
    pub argument: &'a str,
    /// `process.cwd`, which containerd makes `/` where it is empty.
    pub working_dir: &'a str,
    /// `PATH` among the variables of the process.
    pub path: &'a str,
}

/// What a shim's own `PATH` may be: that of a service manager, of an unusual distribution, or none. The gate cannot know.
const SHIM_PATHS: [&str; 7] = [
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin",
    "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin",
    "/usr/bin:/bin",
    "/usr/games:/usr/bin:/bin",
    "/opt/tools:/usr/local/bin:/usr/bin:/bin:/opt/tools",
    "",
];

/// Bits of which one lets the user of a container read a file, by which the shims look too: none for root with its capabilities, those of the
/// owner for root without them, and those of others. The gate knows neither the user nor the bits. Those that let the user enter a folder are
/// two places lower.
const READERS: [Option<u32>; 3] = [None, Some(0o400), Some(0o004)];

/// The folders that the `PATH` of each service has (`systemd:src/basic/path-util.h`, `DEFAULT_PATH_NORMAL`), by which the gate holds that every
/// shim finds what all may run there.
const OF_SERVICES: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// What containerd gives a container that names no `PATH` (`containerd:pkg/oci/spec.go`, `defaultUnixEnv`).
pub const CONTAINER_PATH: &str = SHIM_PATHS[0];

/// The shell of the C library (`glibc:sysdeps/unix/sysv/linux/paths.h`, `_PATH_BSHELL`).
const SHELL: &str = "/bin/sh";

/// The first bytes of a Wasm binary, of an ELF file, and of what WAMR's compiler writes.
const WASM: &str = "0061736d";
const ELF: &str = "7f454c46";
const AOT: &str = "00616f74";

impl Container<'_> {
    /// Every path that some runtime looks at.
    pub fn places(argument: &str, working_dir: &str, path: &str) -> Vec<String> {
        let name = argument.split('#').next().unwrap_or_default();
        let stripped = argument.strip_prefix('/').unwrap_or(argument);
        let mut places = ["/spin.toml", "/app.wasm", SHELL].map(String::from).to_vec();
        for name in [argument, name, stripped] {
            places.push(join(working_dir, name));
            if is_bare(name) {
                let folders = SHIM_PATHS.iter().chain([&path, &"."]).flat_map(|path| path.split(':'));
                places.extend(folders.map(|folder| join(&join(working_dir, folder), name)));
            }
        }
        let folders: Vec<String> = places.iter().flat_map(|place| above(place)).map(String::from).collect();
        places.extend(folders);
        places
    }

    /// Everything that may start, whatever is not known of the node.
    pub fn outcomes(&self, way: Way) -> BTreeSet<Started> {
        match way {
            Way::Runwasi => self.shims().map(|(path, reader)| self.runwasi(path, reader)).collect(),
            Way::Spin => self.shims().map(|(path, reader)| self.spin(path, reader)).collect(),
            Way::Crun => [0o111, 0o001].into_iter().map(|bits| self.crun(bits)).collect(),
            Way::Youki => self.youki(),
        }
    }

    /// Each `PATH` and each user of a shim. One that is no service's counts but where every service finds the program.
    fn shims(&self) -> impl Iterator<Item = (&'static str, Option<u32>)> {
        let found = OF_SERVICES.iter().any(|folder| self.is_found_by_services(folder));
        let has = |path: &str, folder: &str| path.split(':').any(|part| part == folder);
        let counts = move |path: &&str| !found || OF_SERVICES.iter().all(|folder| has(path, folder));
        SHIM_PATHS.into_iter().filter(counts).flat_map(|path| READERS.map(|reader| (path, reader)))
    }

    /// Whether all users may run and read the native program that is in this folder itself, and come to it.
    fn is_found_by_services(&self, folder: &str) -> bool {
        let place = join(folder, self.argument);
        let Some(found) = self.files.get(&place).filter(|_| is_bare(self.argument)) else { return false };
        let may_all = [0o400, 0o040, 0o004].iter().all(|bits| {
            found.allows(*bits) && found.allows(bits >> 2) && self.is_entered(&place, Some(*bits))
        });
        found.kind == "file" && found.path == place && found.is_native() && may_all
    }

    fn at(&self, path: &str) -> &Found {
        self.files.get(path).unwrap_or_else(|| panic!("the node was not asked for `{path}`"))
    }

    fn here(&self, name: &str) -> &Found {
        self.at(&join(self.working_dir, name))
    }

    /// Whether a user of [`READERS`] may enter all folders on the way to a path, of which those count that the node was asked for: as the
    /// path is written, and where it really is.
    fn is_entered(&self, place: &str, reader: Option<u32>) -> bool {
        let Some(bits) = reader else { return true };
        let lets_in = |found: &Found| found.kind != "folder" || found.allows(bits >> 2);
        let mut on_the_way = above(place).chain(above(&self.at(place).path));
        on_the_way.all(|folder| self.files.get(folder).is_none_or(lets_in))
    }

    /// `runwasi:crates/containerd-shim-wasm/src/sandbox/path.rs`, `resolve_in_dirs`: files that the user may come to, executable or not.
    fn resolve(&self, name: &str, folders: &[&str], reader: Option<u32>) -> Vec<&Found> {
        let places = if is_bare(name) {
            folders.iter().map(|folder| join(&join(self.working_dir, folder), name)).collect()
        } else {
            vec![join(self.working_dir, name)]
        };
        let entered = places.iter().filter(|place| self.is_entered(place, reader));
        entered.map(|place| self.at(place)).filter(|found| found.kind == "file").collect()
    }

    /// `runwasi:crates/containerd-shim-wasm/src/sys/unix/container/executor.rs`, `is_linux_container`.
    fn is_linux(&self, folders: &[&str], reader: Option<u32>) -> bool {
        let files = self.resolve(self.argument, folders, reader);
        let first = files.into_iter().find(|found| found.allows(0o001));
        first.is_some_and(|found| found.is_read_by(reader) && found.is_native())
    }

    /// The same, `Executor::ty` and `exec`, with what `Sandbox::can_handle` and `Source::as_bytes` do by default
    /// (`…/src/sandbox/{mod,context}.rs`): the one opens the name, the other what the search finds first.
    fn runwasi(&self, path: &str, reader: Option<u32>) -> Started {
        let folders: Vec<&str> = path.split(':').filter(|folder| !folder.is_empty()).collect();
        if self.is_linux(&folders, reader) {
            return Started::Linux;
        }
        let (name, function) = self.argument.split_once('#').unwrap_or((self.argument, "_start"));
        let folders: Vec<&str> = folders.into_iter().chain(["."]).collect();
        let Some(first) = self.resolve(name, &folders, reader).first().copied() else {
            return Started::Nothing;
        };
        let checked = self.here(name);
        // No module exports a function without a name.
        if checked.kind != "file" || checked.head != WASM || function.is_empty() {
            return Started::Nothing;
        }
        if !checked.is_read_by(reader) || !first.is_read_by(reader) {
            return Started::Nothing;
        }
        first.loaded()
    }

    /// `containerd-shim-spin:containerd-shim-spin/src/{engine,source}.rs`: whatever is not Linux is an application.
    fn spin(&self, path: &str, reader: Option<u32>) -> Started {
        let folders: Vec<&str> = path.split(':').filter(|folder| !folder.is_empty()).collect();
        if self.is_linux(&folders, reader) {
            return Started::Linux;
        }
        let manifest = self.at("/spin.toml");
        if manifest.kind == "file" { Started::Application(manifest.digest.clone()) } else { Started::Nothing }
    }

    /// `crun:src/libcrun/utils.c`, `find_executable`, and `container.c`, `container_init_setup`: what may not be executed
    /// is opened by the handler under the name as it is. A handler loads Wasm, the kernel Linux.
    fn crun(&self, bits: u32) -> Started {
        if self.argument.is_empty() {
            return Started::Nothing;
        }
        let found = self.executable(bits);
        let opened = found.unwrap_or_else(|| self.here(self.argument));
        if opened.is_native() && opened.allows(bits) {
            return Started::Linux;
        }
        // Wasmtime fails on an ELF file, and WasmEdge is given one only where an annotation asks for it.
        let passed_over = found.is_none() && self.executable(0o111).is_some();
        if passed_over && opened.head == ELF { Started::Nothing } else { opened.loaded() }
    }

    /// What `execvp` finds, for a user to whom these bits apply.
    fn executable(&self, bits: u32) -> Option<&Found> {
        let reader = (bits == 0o001).then_some(0o004);
        let executable = |place: String| {
            let found = self.at(&place);
            let runs = found.kind == "file" && found.allows(bits) && self.is_entered(&place, reader);
            runs.then_some(found)
        };
        match self.argument {
            "" => None,
            name if name.contains('/') => executable(join(self.working_dir, name)),
            name => {
                let mut folders = self.path.split(':');
                folders.find_map(|folder| executable(join(&join(self.working_dir, folder), name)))
            }
        }
    }

    /// `youki:crates/youki/src/workload/{executor,wasmtime}.rs`: with the annotation Wasm, and Linux without it, by `execvp`
    /// (`youki:crates/libcontainer/src/workload/default.rs`).
    fn youki(&self) -> BTreeSet<Started> {
        let name = self.argument;
        let wasm = if matches!(name.rsplit_once('.'), Some((_, "wasm" | "wat"))) {
            self.here(name.strip_prefix('/').unwrap_or(name)).as_wasm()
        } else {
            Started::Nothing
        };
        let native = [0o111, 0o001].into_iter().map(|bits| self.crun(bits));
        // What the kernel refuses goes to the shell (`glibc:posix/execvpe.c`, `maybe_script_execute`).
        let shell = self.at(SHELL).kind == "file"
            && [0o111, 0o001].into_iter().any(|bits| self.executable(bits).is_some());
        let native = native.filter(|started| *started == Started::Linux);
        native.chain(Some(Started::Linux).filter(|_| shell)).chain([wasm]).collect()
    }
}

impl Found {
    fn allows(&self, bits: u32) -> bool {
        u32::from_str_radix(&self.mode, 8).is_ok_and(|mode| mode & bits != 0)
    }

    /// Whether it is read by a user of [`READERS`].
    fn is_read_by(&self, reader: Option<u32>) -> bool {
        reader.is_none_or(|bits| self.allows(bits))
    }

    /// Whether a shim takes it for a program of Linux: ELF, or a script of four bytes and more.
    fn is_native(&self) -> bool {
        self.head == ELF || self.head.starts_with("2321") && self.head.len() == 8
    }

    fn as_wasm(&self) -> Started {
        if self.kind == "file" && self.head == WASM {
            Started::Wasm(self.digest.clone())
        } else {
            Started::Nothing
        }
    }

    /// What an engine makes of it that may run machine code.
    fn loaded(&self) -> Started {
        match self.head.as_str() {
            ELF | AOT if self.kind == "file" => Started::MachineCode(self.digest.clone()),
            _ => self.as_wasm(),
        }
    }
}

/// The folders above a path, as it is written.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(move |(end, _)| &path[..end]).filter(|folder| !folder.is_empty())
}

fn is_bare(name: &str) -> bool {
    Path::new(name).components().count() <= 1
}

/// A path as a process in `folder` opens it; never put in order, since the kernel does not.
fn join(folder: &str, name: &str) -> String {
    match (name.starts_with('/'), folder) {
        (true, _) => name.to_string(),
        (false, "" | "/") => format!("/{name}"),
        (false, _) => format!("{}{folder}/{name}", if folder.starts_with('/') { "" } else { "/" }),
    }
}
