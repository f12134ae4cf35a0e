//! Names of files that show what an image is, and of the variable that chooses among its components.

use super::path;

/// Spin's manifest, which its shim reads if the image has no Wasm layers
/// (`containerd-shim-spin:containerd-shim-spin/src/constants.rs`, `SPIN_MANIFEST_FILE_PATH`).
pub const SPIN_TOML: &str = "/spin.toml";
/// Rebinds stores, databases, models and variables of a Spin application to remote providers. The shim reads it from
/// the container's root file system (`containerd-shim-spin:containerd-shim-spin/src/constants.rs`).
pub const RUNTIME_CONFIG: &str = "/runtime-config.toml";
/// The variable of the container that narrows a Spin application to some of its components
/// (`containerd-shim-spin:containerd-shim-spin/src/constants.rs`, `SPIN_COMPONENTS_TO_RETAIN_ENV`).
pub const SPIN_RETAINED: &str = "SPIN_COMPONENTS_TO_RETAIN";
/// The variable of the folder of temporary files, which the shim takes over from the container as it does all others
/// (`containerd-shim-spin:containerd-shim-spin/src/engine.rs`).
pub const TEMPORARY: &str = "TMPDIR";
/// Manifest of slight (`containerd-wasm-shims:containerd-shim-slight/src/engine.rs`).
pub const SLIGHTFILE: &str = "/slightfile.toml";
/// The program of slight.
pub const SLIGHT_PROGRAM: &str = "/app.wasm";
/// Manifest of Wasm Workers Server (`containerd-wasm-shims:containerd-shim-wws/src/engine.rs`).
pub const WWS_TOML: &str = "/.wws.toml";
/// The filter of a proxy-wasm image in its "compat" form (`solo-io/wasm:spec/spec-compat.md`).
pub(super) const PLUGIN: &str = "/plugin.wasm";
/// The shell to which glibc gives a file that the kernel does not start (`sysdeps/unix/sysv/linux/paths.h`,
/// `_PATH_BSHELL`).
pub const SHELL: &str = "/bin/sh";
/// Files that every scan looks for and whose text is kept.
pub(crate) const APPLICATION_FILES: [&str; 4] = [SPIN_TOML, SLIGHTFILE, WWS_TOML, RUNTIME_CONFIG];

/// Files from which Spin takes variables, in whatever folder it starts (`spin:crates/variables-env/src/lib.rs`).
pub(crate) const VARIABLES_FILE: &str = ".env";

/// Whether a file is named like Wasm.
pub(super) fn is_wasm_name(name: &str) -> bool {
    [".wasm", ".wat", ".cwasm"].iter().any(|ending| has_ending(name, ending))
}

/// Whether a name has this ending, in any letter case, and something before it.
pub(super) fn has_ending(name: &str, ending: &str) -> bool {
    name.len() > ending.len() && name.to_ascii_lowercase().ends_with(ending)
}

/// Judged by its name in any folder, because a link at the root may lead to it.
pub(super) fn is_application_file(name: &str) -> bool {
    let base = path::split(name).1;
    APPLICATION_FILES.iter().any(|file| path::split(file).1 == base)
}

/// Whether WasmEdge may load a file as a plug-in: it is called so, in a folder of plug-ins or below one. Where that folder is
/// depends on the node (`WasmEdge:lib/plugin/plugin.cpp`, `Plugin::load`).
pub fn is_plug_in(name: &str) -> bool {
    has_ending(name, ".so") && is_of_plug_ins(path::split(name).0)
}

/// Whether glibc may load a file as native code when it resolves the name of a host or looks up a user: a module of its name service,
/// whatever `/etc/nsswitch.conf` says of it, or the list of libraries, in which each may be any file (`glibc:elf/dl-cache.c`,
/// `_dl_load_cache_lookup`). A service `x` there is `libnss_x.so.2`; its name may have slashes, and then it is a path from the working
/// directory (`/x` is `libnss_/x.so.2`), of which no more is sure than its end (`glibc:nss/nss_action_parse.c`, `nss_action_parse`;
/// `nss/nss_module.c`, `module_load`).
pub fn is_of_resolver(name: &str) -> bool {
    let base = path::split(name).1;
    base == "ld.so.cache" || base.ends_with(".so.2") || (base.starts_with("libnss_") && base.contains(".so"))
}

/// Whether a file may say which modules glibc loads, in any folder, because a link may lead to it.
pub fn is_choice_of_modules(name: &str) -> bool {
    path::split(name).1 == "nsswitch.conf"
}

/// Whether a part of a path begins as the name of every module does, which may be that of a folder.
pub fn is_below_module(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with("libnss_"))
}

/// Most workers of an image that are looked at, as links may lead each of them far.
pub const MAX_WORKERS: usize = 64;

/// The ending of a worker that is text.
pub const SCRIPT: &str = ".js";

/// Whether Wasm Workers Server starts a file of this path as a worker: it takes all that end like this, in this letter case
/// (`wasm-workers-server:crates/router/src/files.rs`, `build_include_pattern`). It starts other languages only with a
/// [`WWS_TOML`] (`wasm-workers-server:crates/config/src/lib.rs`, `get_runtime_extensions`).
pub fn is_worker(path: &str) -> bool {
    [SCRIPT, ".wasm"].into_iter().any(|ending| path.ends_with(ending)) && !is_without_workers(path)
}

/// Whether it passes over a path and all that is below: its own folder, that of public files, and what begins with `_`
/// (`wasm-workers-server:crates/router/src/files.rs`, `build_ignore_patterns`).
pub fn is_without_workers(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, ".wws" | "public") || part.starts_with('_'))
}

/// Whether a path is a folder of WasmEdge's plug-ins, or below one.
pub fn is_of_plug_ins(folder: &str) -> bool {
    folder.split('/').any(|part| matches!(part, "wasmedge" | "plugin"))
}

/// The folders that the `PATH` of a service has whatever the distribution merged
/// (`systemd:src/basic/path-util.h`, `DEFAULT_PATH_NORMAL`), and so that of containerd and of its shims.
pub const EVERY_PATH: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// Whether a path is a folder that may be in a `PATH`, or below one: k3s has `bin/aux` in it.
pub fn is_of_programs(folder: &str) -> bool {
    folder.split('/').any(|part| part.ends_with("bin"))
}
