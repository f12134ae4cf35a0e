//! Images pinned to the digests that were judged: otherwise the tag may name other bytes by the time the node pulls.

use serde_json::Value;

use crate::inspection::{Container, Inspection, LookupResult};
use crate::workload::Role;

use super::draft::{Error, Notes, Object, container_mut, list_of, not};

/// Pins every image that was read, those of Linux sidecars and image volumes too: they share the pod that was judged.
pub(super) fn pin(spec: &mut Object, inspection: &Inspection, notes: &mut Notes) -> Result<(), Error> {
    let mut pinned = Vec::new();
    for container in &inspection.containers {
        if let LookupResult::Known { facts, .. } = &container.lookup
            && pin_one(spec, container, &facts.digest, notes)?
        {
            pinned.push(format!("`{}`", container.name));
        }
    }
    if !pinned.is_empty() {
        notes.tell(format!(
            "the images of {} were pinned to the digests that were inspected",
            pinned.join(", ")
        ));
    }
    Ok(())
}

fn pin_one(spec: &mut Object, container: &Container, digest: &str, notes: &mut Notes) -> Result<bool, Error> {
    let Container { role, index, name, image, .. } = container;
    let (token, field, path) = place(*role, *index, name);
    let item = container_mut(spec, *role, *index, name)?;
    let holder = match role {
        Role::ImageVolume => item.get_mut("image").and_then(Value::as_object_mut),
        _ => Some(item),
    };
    let slot = holder.and_then(|holder| holder.get_mut(field));
    let Some(Value::String(written)) = slot else { return Err(not(path, "an image name")) };
    if written != image {
        return Err(Error::FindContainer { field: path, expected: image.clone() });
    }
    if written.contains('@') {
        return Ok(false);
    }
    if !is_digest(digest) {
        notes.warn(format!("`{name}`: image `{image}` was not pinned: `{digest}` is no digest"));
        return Ok(false);
    }
    // On the text as written: a short name stays short, and the tag stays for people to read.
    *written = format!("{image}@{digest}");
    notes.change(&token, format!("{path} = {written}"));
    Ok(true)
}

/// Entry in the annotation, field, and path of an image.
fn place(role: Role, index: usize, name: &str) -> (String, &'static str, String) {
    let list = list_of(role);
    if role == Role::ImageVolume {
        (format!("volume/{name}"), "reference", format!("spec.{list}[{index}].image.reference"))
    } else {
        (format!("image/{name}"), "image", format!("spec.{list}[{index}].image"))
    }
}

/// `algorithm:hex`, as `opencontainers/image-spec:descriptor.md` has it for the registered algorithms.
fn is_digest(text: &str) -> bool {
    let length = |algorithm: &str| match algorithm {
        "sha256" => Some(64),
        "sha384" => Some(96),
        "sha512" => Some(128),
        _ => None,
    };
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        length(algorithm) == Some(hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_algorithms_with_their_full_length_are_digests() {
        assert!(is_digest(&format!("sha256:{}", "a".repeat(64))));
        assert!(is_digest(&format!("sha512:{}", "0".repeat(128))));
        let short = format!("sha256:{}", "a".repeat(63));
        let upper = format!("sha256:{}", "A".repeat(64));
        let space = format!("sha256: {}", "a".repeat(63));
        for wrong in ["", "sha256", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", &short, &upper, &space]
        {
            assert!(!is_digest(wrong), "{wrong}");
        }
    }
}
