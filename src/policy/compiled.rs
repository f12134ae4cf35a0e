//! Compiled policies on disk, so that a start does not compile what an earlier one has compiled.
//!
//! wasmtime reads and writes them (`wasmtime::Cache`), since to load native code by any other way takes `unsafe`. Its files have no
//! checksum, and a changed bit would be run as it is. So each module gets a folder of its own, with a digest of what wasmtime wrote beside it:
//! what does not match is removed before wasmtime looks. The digest finds damage. Against someone who can write to the folder there is
//! no defence but its permissions.

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use wasmtime::{Cache, CacheConfig, Config, Module};

use super::Error;
use crate::files;

/// Most bytes in the folder: some dozens of modules, each of one or two megabytes.
const MAX_BYTES: u64 = 64 << 20;
/// Most modules in the folder.
const MAX_ENTRIES: usize = 128;
/// Most files that are looked at in one folder.
const MAX_SEEN: usize = 1024;
/// The digest in an entry's folder.
const DIGEST: &str = "sha256";
/// What wasmtime keeps in an entry's folder.
const KEPT: &str = "wasmtime";
/// No write permission for the group and others.
const OTHERS_WRITE: u32 = 0o022;

/// A folder that keeps compiled policies.
#[derive(Debug, Clone)]
pub struct CompiledFolder {
    folder: PathBuf,
    /// The user of this process.
    user: u32,
}

/// Where a module came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obtained {
    /// The folder had it.
    Disk,
    /// It was compiled, and is in the folder now.
    Kept,
    /// It was compiled, and the folder does not take it.
    NotKept,
}

impl CompiledFolder {
    /// Makes the folder if it does not exist. Refuses one in which another user can write: whatever is in it, this process
    /// runs as native code. Blocks on the disk.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::OpenCompiled { folder: folder.to_path_buf(), reason };
        let found = made(folder).map_err(|error| failed(error.to_string()))?;
        let metadata = fs::metadata(&found).map_err(|error| failed(error.to_string()))?;
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            return Err(failed(format!(
                "it belongs to user {} and the gate runs as user {user}; what is in it runs inside of the gate, so name a \
                 folder of the gate's own user",
                metadata.uid()
            )));
        }
        if metadata.mode() & OTHERS_WRITE != 0 {
            return Err(failed(format!(
                "others than its owner may write to it (mode {:04o}), and what is in it runs inside of the gate; remove it \
                 and let the gate make it, or name another one",
                metadata.mode() & 0o7777
            )));
        }
        Ok(Self { folder: found, user })
    }

    /// The module, from the folder if it is there. `plain` is an engine of the same settings that keeps nothing.
    pub(super) fn module(
        &self,
        config: &Config,
        plain: &wasmtime::Engine,
        wasm: &[u8],
    ) -> wasmtime::Result<(Module, Obtained)> {
        let entry = ModuleFolder { folder: self.folder.join(key(plain, wasm)) };
        if !entry.is_whole(self.user) {
            entry.remove();
        }
        let Some((engine, cache)) = entry.engine(config) else {
            return Ok((Module::new(plain, wasm)?, Obtained::NotKept));
        };
        let module = Module::new(&engine, wasm)?;
        if cache.cache_hits() > 0 {
            entry.mark_used();
            return Ok((module, Obtained::Disk));
        }
        let is_kept = cache.cache_misses() > 0 && entry.seal().is_ok();
        self.shrink();
        Ok((module, if is_kept { Obtained::Kept } else { Obtained::NotKept }))
    }

    /// Removes what was used longest ago, until the rest is within the bounds.
    fn shrink(&self) {
        let found = listed(&self.folder).into_iter().filter(|path| is_key(path));
        let mut entries: Vec<_> = found
            .map(|folder| ModuleFolder { folder })
            .map(|entry| (entry.used(), entry.bytes(), entry))
            .collect();
        entries.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut total = 0_u64;
        for (place, (_, bytes, entry)) in entries.into_iter().enumerate() {
            total = total.saturating_add(bytes);
            if place >= MAX_ENTRIES || total > MAX_BYTES {
                entry.remove();
            }
        }
    }
}

/// Makes the folder, for its owner alone, and follows links, so that a link that changes later changes nothing.
fn made(folder: &Path) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::canonicalize(folder)
}

/// Names a module by everything that its code depends on: the settings of the engine, the processor, the version of wasmtime, and the Wasm.
fn key(engine: &wasmtime::Engine, wasm: &[u8]) -> String {
    let mut hasher = Hash(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.write(wasm);
    format!("{:x}", hasher.0.finalize())
}

fn is_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// SHA-256 as the standard library's hasher.
struct Hash(Sha256);

impl Hasher for Hash {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is longer.
    fn finish(&self) -> u64 {
        0
    }
}

/// The folder of one module.
struct ModuleFolder {
    folder: PathBuf,
}

impl ModuleFolder {
    /// Whether what wasmtime wrote is there, belongs to this user, and is what the digest was made of.
    fn is_whole(&self, user: u32) -> bool {
        let place = self.folder.join(DIGEST);
        let Some(module) = self.module() else { return false };
        let owned = [&self.folder, &place, &module]
            .into_iter()
            .all(|path| fs::symlink_metadata(path).is_ok_and(|found| found.uid() == user));
        let expected = File::open(place).and_then(|file| io::read_to_string(file.take(65)));
        let found = digest(&module);
        owned && matches!((found, expected), (Ok(found), Ok(expected)) if found == expected)
    }

    /// An engine whose modules wasmtime keeps in this folder; `None` where it cannot write.
    fn engine(&self, config: &Config) -> Option<(wasmtime::Engine, Cache)> {
        let mut options = CacheConfig::new();
        options.with_directory(self.folder.join(KEPT));
        // It would compress better what is used often, and the digest would not match any more.
        options.with_optimized_compression_usage_counter_threshold(u64::MAX);
        let cache = Cache::new(options).ok()?;
        let mut config = config.clone();
        config.cache(Some(cache.clone()));
        let engine = wasmtime::Engine::new(&config).ok()?;
        Some((engine, cache))
    }

    /// Writes the digest, last of all, so that what a crash leaves is not whole.
    fn seal(&self) -> io::Result<()> {
        let module = self.module().ok_or(io::ErrorKind::NotFound)?;
        files::replace(&self.folder.join(DIGEST), digest(&module)?.as_bytes(), 0o666)
    }

    /// What is used stays longer. Where the time cannot be set, it goes earlier, which costs time and nothing else.
    fn mark_used(&self) {
        let file = File::open(self.folder.join(DIGEST));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    fn used(&self) -> Option<SystemTime> {
        let of = |path: &Path| fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
        of(&self.folder.join(DIGEST)).or_else(|| of(&self.folder))
    }

    /// What cannot be removed is not whole the next time either.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    fn bytes(&self) -> u64 {
        let lengths = self.files().into_iter().filter_map(|file| fs::symlink_metadata(file).ok());
        lengths.fold(0, |sum, found| sum.saturating_add(found.len()))
    }

    /// The module among the files, the rest of which are statistics and locks with an extension. None where there are two.
    fn module(&self) -> Option<PathBuf> {
        let mut modules = self.files().into_iter().filter(|file| file.extension().is_none());
        modules.next().filter(|_| modules.next().is_none())
    }

    /// What wasmtime keeps: `modules/`, a folder of its version, files.
    fn files(&self) -> Vec<PathBuf> {
        listed(&self.folder.join(KEPT).join("modules")).iter().flat_map(|version| listed(version)).collect()
    }
}

/// What is in a folder; nothing where it cannot be read.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_SEEN);
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The digest of a file, in hexadecimal.
fn digest(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?.take(MAX_BYTES), &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::super::Engine;
    use super::*;

    /// A module whose function returns this number.
    fn wasm(number: i32) -> Vec<u8> {
        let text = format!(r#"(module (func (export "number") (result i32) i32.const {number}))"#);
        wat::parse_str(text).unwrap()
    }

    fn obtain(folder: &CompiledFolder, number: i32) -> Obtained {
        let engine = Engine::new().unwrap();
        let (module, origin) = folder.module(&engine.config, &engine.wasm, &wasm(number)).unwrap();
        let mut store = wasmtime::Store::new(module.engine(), ());
        store.set_fuel(1_000).unwrap();
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let function = instance.get_typed_func::<(), i32>(&mut store, "number").unwrap();
        assert_eq!(function.call(&mut store, ()).unwrap(), number, "{origin:?}");
        origin
    }

    fn opened() -> (tempfile::TempDir, CompiledFolder) {
        let home = tempfile::tempdir().unwrap();
        let folder = CompiledFolder::open(&home.path().join("new/compiled")).unwrap();
        (home, folder)
    }

    fn entries(folder: &CompiledFolder) -> Vec<ModuleFolder> {
        listed(&folder.folder).into_iter().map(|folder| ModuleFolder { folder }).collect()
    }

    #[test]
    fn a_module_is_compiled_once_and_each_setting_has_its_own() {
        let (_home, folder) = opened();
        assert_eq!([obtain(&folder, 7), obtain(&folder, 7)], [Obtained::Kept, Obtained::Disk]);
        assert_eq!(obtain(&folder, 8), Obtained::Kept, "another module");
        let (speed, command) = (Engine::new().unwrap(), Engine::for_command().unwrap());
        assert_ne!(key(&speed.wasm, &wasm(7)), key(&command.wasm, &wasm(7)));
    }

    #[test]
    fn a_damaged_module_is_compiled_anew() {
        let (_home, folder) = opened();
        assert_eq!(obtain(&folder, 7), Obtained::Kept);
        let entry = entries(&folder).remove(0);
        let module = entry.module().unwrap();
        let whole = fs::read(&module).unwrap();
        let flipped = |place: usize| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            bytes
        };
        let half = whole[..whole.len() / 2].to_vec();
        let last = whole.len() - 1;
        for damaged in [flipped(0), flipped(last / 2), flipped(last), half, Vec::new(), vec![0; whole.len()]]
        {
            fs::write(&module, damaged).unwrap();
            assert_eq!([obtain(&folder, 7), obtain(&folder, 7)], [Obtained::Kept, Obtained::Disk]);
        }
        for damaged in ["", "0000", &"0".repeat(1_000)] {
            fs::write(entry.folder.join(DIGEST), damaged).unwrap();
            assert_eq!(obtain(&folder, 7), Obtained::Kept);
        }
        fs::remove_file(entry.folder.join(DIGEST)).unwrap();
        assert_eq!(obtain(&folder, 7), Obtained::Kept, "a crash left no digest");
    }

    #[test]
    fn what_a_crash_left_is_no_obstacle() {
        let (_home, folder) = opened();
        assert_eq!(obtain(&folder, 7), Obtained::Kept);
        let entry = entries(&folder).remove(0);
        let module = entry.module().unwrap();
        fs::rename(&module, module.with_extension("wip-atomic-write-mod")).unwrap();
        assert_eq!([obtain(&folder, 7), obtain(&folder, 7)], [Obtained::Kept, Obtained::Disk]);
    }

    #[test]
    fn a_folder_that_takes_nothing_costs_time_and_nothing_else() {
        let (_home, folder) = opened();
        let engine = Engine::new().unwrap();
        // In the way of the entry's folder, also for the superuser.
        fs::write(folder.folder.join(key(&engine.wasm, &wasm(7))), "").unwrap();
        assert_eq!([obtain(&folder, 7), obtain(&folder, 7)], [Obtained::NotKept, Obtained::NotKept]);
        assert_eq!(obtain(&folder, 8), Obtained::Kept);
    }

    #[test]
    fn what_was_used_longest_ago_gives_way() {
        let (_home, folder) = opened();
        let age = |entry: &ModuleFolder, seconds| {
            let file = File::open(entry.folder.join(DIGEST)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
        };
        assert_eq!(obtain(&folder, 1), Obtained::Kept);
        let old = entries(&folder).remove(0);
        age(&old, 200);
        // Sparse, so that the test writes little.
        let large = File::options().write(true).open(old.module().unwrap()).unwrap();
        large.set_len(MAX_BYTES).unwrap();
        assert_eq!(obtain(&folder, 2), Obtained::Kept);
        assert!(!old.folder.exists(), "with it there are too many bytes");
        let first = entries(&folder).remove(0);
        age(&first, 100);
        for place in 0..MAX_ENTRIES {
            fs::create_dir(folder.folder.join(format!("{place:064x}"))).unwrap();
        }
        assert_eq!(obtain(&folder, 2), Obtained::Disk, "it marks what it uses");
        assert_eq!(obtain(&folder, 3), Obtained::Kept);
        assert_eq!(entries(&folder).len(), MAX_ENTRIES);
        fs::write(folder.folder.join("note"), "not a module").unwrap();
        assert_eq!([obtain(&folder, 3), obtain(&folder, 4)], [Obtained::Disk, Obtained::Kept]);
        assert!(folder.folder.join("note").exists(), "what is not its own is left alone");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("compiled");
        CompiledFolder::open(&place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o700);
        for mode in [0o777, 0o770, 0o702, 0o1777] {
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            let error = CompiledFolder::open(&place).unwrap_err().to_string();
            assert!(error.contains("may write to it") && error.contains(&format!("{mode:04o}")), "{error}");
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        CompiledFolder::open(&place).expect("others may read");
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let (home, folder) = opened();
        assert_eq!(obtain(&folder, 7), Obtained::Kept);
        let other = CompiledFolder { user: folder.user + 1, ..folder.clone() };
        assert_eq!(obtain(&other, 7), Obtained::Kept, "a module of another user is not run");
        // Only the superuser can give a folder away; everyone else has one of the superuser at hand.
        let theirs = if folder.user == 0 {
            chown(home.path().join("new/compiled"), Some(1), None).unwrap();
            home.path().join("new/compiled")
        } else {
            PathBuf::from("/")
        };
        let error = CompiledFolder::open(&theirs).unwrap_err().to_string();
        assert!(error.contains("belongs to user"), "{error}");
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        CompiledFolder::open(&file).unwrap_err();
    }
}
