//! Compiled policies on disk: they change how long a command takes, and nothing else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Said, layouts, samples, wasmgate};

/// What `explain` says of all samples, with this folder.
fn explained(folder: &str) -> Said {
    let (workloads, grants) = (samples("workloads"), samples("grants"));
    let mut command = wasmgate();
    command.args(["explain", "--output=json", "--image-layouts", &layouts(), "--compiled-dir", folder]);
    Said::of(command.arg("-f").arg(workloads).arg("--grants").arg(grants))
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The compiled modules below a folder, which have names without an extension, and not the digests beside them.
fn modules(folder: &Path) -> Vec<PathBuf> {
    let is_module = |path: &PathBuf| path.extension().is_none() && path.file_name().unwrap() != "sha256";
    files(folder).into_iter().filter(is_module).collect()
}

#[test]
fn what_was_compiled_before_gives_the_same_verdicts_and_damage_is_compiled_anew() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("compiled");
    let place = folder.to_str().unwrap();
    let without = explained("off");
    assert_eq!((without.code, without.err.as_str()), (1, ""), "some are denied: {without:?}");
    let same = |what: &str| {
        let said = explained(place);
        assert_eq!((said.code, said.out, said.err), (1, without.out.clone(), String::new()), "{what}");
    };
    same("cold");
    let [module] = modules(&folder).try_into().expect("the baseline");
    let (compiled, written) =
        (fs::read(&module).unwrap(), fs::metadata(&module).unwrap().modified().unwrap());
    same("warm");
    assert_eq!(fs::metadata(&module).unwrap().modified().unwrap(), written, "it was not compiled again");
    let mut damaged = compiled.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&module, damaged).unwrap();
    same("damaged");
    assert_eq!(fs::read(&module).unwrap().len(), compiled.len());
    same("warm again");
}

#[test]
fn a_folder_that_others_can_write_to_is_named_and_not_used() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o777)).unwrap();
    let said = explained(home.path().to_str().unwrap());
    assert_eq!((said.code, said.out), (1, explained("off").out));
    let refusal = format!("cannot keep compiled policies in `{}`: others", home.path().display());
    assert!(said.err.contains(&refusal) && said.err.contains("mode 0777"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(files(home.path()).is_empty());
    let no_folder = explained("/dev/null/compiled");
    assert_eq!(no_folder.code, 1);
    assert!(no_folder.err.contains("cannot keep compiled policies in `/dev/null/compiled`"), "{no_folder:?}");
}

#[test]
fn a_person_s_policies_are_kept_among_the_person_s_caches_unless_that_is_switched_off() {
    let home = tempfile::tempdir().unwrap();
    let run = |variables: &[(&str, &str)]| {
        let mut command = wasmgate();
        command.env_remove("WASMGATE_COMPILED_DIR").env_remove("XDG_CACHE_HOME").env("HOME", home.path());
        command.envs(variables.iter().copied()).current_dir(home.path());
        let hello = samples("workloads/hello.yaml");
        command.args(["explain", "--image-layouts", &layouts(), "-f"]).arg(hello);
        assert_eq!(Said::of(&mut command).err, "");
    };
    run(&[("WASMGATE_COMPILED_DIR", "off")]);
    assert!(files(home.path()).is_empty());
    run(&[]);
    let default = home.path().join(".cache/wasmgate/compiled");
    assert_eq!(modules(&default).len(), 1);
    let caches = home.path().join("caches");
    run(&[("XDG_CACHE_HOME", caches.to_str().unwrap())]);
    assert_eq!(modules(&caches.join("wasmgate/compiled")).len(), 1);
    fs::remove_dir_all(&default).unwrap();
    run(&[("XDG_CACHE_HOME", "relative")]);
    assert_eq!(modules(&default).len(), 1, "a relative path is to be ignored");
}
