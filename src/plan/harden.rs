//! Takes away what the pod spec hands to its programs and no grant covers. What that is, is found before
//! (`judge::hardening`); here it is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::draft::{Error, Notes, Object, container_mut, list_mut, not};
use crate::workload::Role;

/// What no grant covers and the gate may take away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surplus {
    /// The service-account token.
    pub token: Option<Token>,
    /// Why the token stays although no grant covers it.
    pub token_stays: Option<String>,
    /// Mounts that are writable and of which the grants allow reading only.
    pub mounts: Vec<WritableMount>,
    /// Whether the variables of service links can go.
    pub service_links: bool,
}

/// A service-account token that no grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The containers whose programs could read it.
    pub containers: Vec<String>,
    /// The volumes that the API server's ServiceAccount plug-in has already added for it.
    pub volumes: BTreeSet<String>,
    /// The item of a grant that would allow it.
    pub needs_grant: String,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritableMount {
    /// The list of the container.
    pub role: Role,
    /// Its position there.
    pub index: usize,
    /// Its name, which a pod that is not valid yet may have of any length.
    pub container: Arc<str>,
    /// `mountPath` as written.
    pub mount_path: String,
    /// Whether the program can write there.
    pub program_writes: bool,
    /// Whether `readOnly` alone leaves what is mounted below it writable.
    pub below: bool,
}

const TOKEN: &str = "automountServiceAccountToken";

/// The field of a pod spec for service links.
pub const LINKS: &str = "enableServiceLinks";

/// Annotation of a pod, or of its template, by which a person keeps [`LINKS`], its only value: a `true` in a pod does not show whether
/// a person or the API server wrote it.
pub const KEEP_ANNOTATION: &str = "wasmgate.dev/keep";

/// Most characters of the name of a container in what is said of each of its mounts. A valid one has no more than 63.
const LONGEST_NAME: usize = 63;

/// The entry of the annotation for the mounts of a container, before its name.
pub(super) const READ_ONLY: &str = "readOnly";

/// The entries of the annotation for the whole pod.
pub(super) const OF_POD: [&str; 2] = [TOKEN, LINKS];

/// Writes what closes the surplus.
pub(super) fn harden(spec: &mut Object, surplus: &Surplus, notes: &mut Notes) -> Result<(), Error> {
    if let Some(token) = &surplus.token {
        without_token(spec, token, notes)?;
    }
    if let Some(why) = &surplus.token_stays {
        notes.tell(why.clone());
    }
    // Those of a container stand together.
    for mounts in surplus.mounts.chunk_by(|one, next| (one.role, one.index) == (next.role, next.index)) {
        read_only(spec, mounts, notes)?;
    }
    if surplus.service_links {
        spec.insert(LINKS.to_owned(), Value::Bool(false));
        notes.change(LINKS, format!("spec.{LINKS} = false"));
        let said = format!(
            "`{LINKS}: false` was set: no grant allows the programs of this pod a variable, and these would name the \
             services of the namespace to them; the annotation `{KEEP_ANNOTATION}: {LINKS}` keeps them"
        );
        notes.taken.push(said.clone());
        notes.tell(said);
    }
    Ok(())
}

/// The plug-in ran before the webhook and mounted the token, and leaves the pod alone when it runs again after the field
/// was set (`kubernetes:plugin/pkg/admission/serviceaccount/admission.go`, `shouldAutomount`).
fn without_token(spec: &mut Object, token: &Token, notes: &mut Notes) -> Result<(), Error> {
    spec.insert(TOKEN.to_owned(), Value::Bool(false));
    notes.change(TOKEN, format!("spec.{TOKEN} = false"));
    let Token { containers, volumes, needs_grant } = token;
    if !volumes.is_empty() {
        remove_volumes(spec, volumes)?;
    }
    let names: Vec<String> = containers.iter().map(|name| format!("`{name}`")).collect();
    let said = format!(
        "the service-account token is not mounted, `{TOKEN}: false` was set: the program of {} could read it and no grant \
         allows that; if it needs the token, ask for a WasiGrant with {needs_grant}",
        names.join(", ")
    );
    notes.taken.push(said.clone());
    notes.warn(said);
    Ok(())
}

fn remove_volumes(spec: &mut Object, volumes: &BTreeSet<String>) -> Result<(), Error> {
    retain(spec, "volumes", "spec", volumes)?;
    for list in [Role::Container.list(), Role::InitContainer.list()] {
        if spec.get(list).is_none_or(Value::is_null) {
            continue;
        }
        for (index, container) in list_mut(spec, list, "spec")?.iter_mut().enumerate() {
            let path = format!("spec.{list}[{index}]");
            let container = container.as_object_mut().ok_or_else(|| not(path.clone(), "an object"))?;
            retain(container, "volumeMounts", &path, volumes)?;
        }
    }
    Ok(())
}

/// Leaves these names out of a list, and the list where nothing is left.
fn retain(holder: &mut Object, key: &str, path: &str, names: &BTreeSet<String>) -> Result<(), Error> {
    if holder.get(key).is_none_or(Value::is_null) {
        return Ok(());
    }
    let list = list_mut(holder, key, path)?;
    list.retain(|item| !item.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(name)));
    if list.is_empty() {
        holder.remove(key);
    }
    Ok(())
}

/// Makes mounts of one container read-only. Those of one path, of which the API server refuses all but one later, are told once.
fn read_only(spec: &mut Object, mounts: &[WritableMount], notes: &mut Notes) -> Result<(), Error> {
    let Some(WritableMount { role, index, container, .. }) = mounts.first() else { return Ok(()) };
    let item = container_mut(spec, *role, *index, container)?;
    let path = format!("spec.{}[{index}]", role.list());
    let mut paths: BTreeSet<&str> = mounts.iter().map(|mount| mount.mount_path.as_str()).collect();
    for (place, found) in list_mut(item, "volumeMounts", &path)?.iter_mut().enumerate() {
        if !found.get("mountPath").and_then(Value::as_str).is_some_and(|at| paths.contains(at)) {
            continue;
        }
        let path = format!("{path}.volumeMounts[{place}]");
        let found = found.as_object_mut().ok_or_else(|| not(path.clone(), "an object"))?;
        found.insert("readOnly".to_owned(), Value::Bool(true));
        notes.change(&format!("{READ_ONLY}/{container}"), format!("{path}.readOnly = true"));
    }
    for mount in mounts {
        if paths.remove(mount.mount_path.as_str()) {
            tell_read_only(mount, notes);
        }
    }
    Ok(())
}

fn tell_read_only(mount: &WritableMount, notes: &mut Notes) {
    let said = said_of(mount);
    notes.taken.push(said.clone());
    if mount.program_writes {
        notes.warn(said);
    } else {
        notes.tell(said);
    }
}

/// A folder of the node gets a text of its own: the rules go by what stays writable below it, and may refuse the pod all the same. The gate
/// does not write `recursiveReadOnly` itself, since no pod with it starts on a node that does not support it.
fn said_of(WritableMount { container, mount_path, program_writes, below, .. }: &WritableMount) -> String {
    let name: String = container.chars().take(LONGEST_NAME).collect();
    let said = format!("container `{name}`: the mount at `{mount_path}` is now `readOnly: true`");
    if *below {
        format!(
            "{said}; what the node has mounted below that folder stays writable: also write `recursiveReadOnly: Enabled` if the nodes \
             support it, or ask for a grant with `access: read-write`"
        )
    } else if *program_writes {
        format!(
            "{said}, as its grant says: the program could write there; a grant with `access: read-write` would allow it"
        )
    } else {
        format!("{said}, as its grant says")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_mounts_of_one_path_are_told_once_and_each_is_made_read_only_once() {
        let name = "c".repeat(1_000);
        let mount = |path: &str, program_writes| WritableMount {
            role: Role::Container,
            index: 0,
            container: name.as_str().into(),
            mount_path: path.to_owned(),
            program_writes,
            below: false,
        };
        let mounts = [vec![mount("/a", false); 100], vec![mount("/b", true)]].concat();
        let mut written: Vec<Value> =
            mounts.iter().map(|mount| json!({"name": "v", "mountPath": mount.mount_path})).collect();
        written.push(json!({"name": "v", "mountPath": "/c"}));
        let spec = json!({"containers": [{"name": name, "volumeMounts": written}]});
        let mut spec = spec.as_object().cloned().unwrap();
        let surplus = Surplus { mounts, ..Surplus::default() };
        let mut notes = Notes::default();
        harden(&mut spec, &surplus, &mut notes).unwrap();
        let list = spec["containers"][0]["volumeMounts"].as_array().unwrap();
        let is_held = |mount: &&Value| mount["readOnly"] == true;
        assert_eq!((list.len(), list.iter().filter(is_held).count()), (102, 101));
        assert!(list[101].get("readOnly").is_none());
        assert_eq!((notes.changes.len(), notes.tokens.len(), notes.taken.len()), (101, 1, 2));
        assert!(notes.notices[0].starts_with("container `ccc") && notes.notices[0].len() < 200);
        assert!(notes.warnings[0].contains("the mount at `/b` is now `readOnly: true`"));
    }

    #[test]
    fn a_folder_of_the_node_is_not_said_to_be_as_its_grant_says() {
        let mount = |program_writes, below| WritableMount {
            role: Role::Container,
            index: 0,
            container: "app".into(),
            mount_path: "/data".to_owned(),
            program_writes,
            below,
        };
        for program_writes in [false, true] {
            let (whole, folder) =
                (said_of(&mount(program_writes, false)), said_of(&mount(program_writes, true)));
            assert!(whole.contains("`readOnly: true`, as its grant says"), "{whole}");
            assert!(!folder.contains("as its grant says"), "{folder}");
            assert!(folder.contains("also write `recursiveReadOnly: Enabled`"), "{folder}");
        }
    }
}
