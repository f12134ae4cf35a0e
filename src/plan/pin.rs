//! Pins images to the digests that were judged. By the time the node pulls, a tag may name another image.

use serde_json::Value;

use crate::image::Digest;
use crate::image::prefix::Unpinned;
use crate::inspection::{Container, Inspection, LookupResult};
use crate::workload::Role;

use super::draft::{Error, Notes, Object, container_mut, not};

/// Pins every image that was read, also those of Linux sidecars and image volumes: they share the pod that was judged.
/// Left out are those that the platform exempts, whose registries keep no digest for long.
pub(super) fn pin(
    spec: &mut Object,
    inspection: &Inspection,
    unpinned: &Unpinned,
    notes: &mut Notes,
) -> Result<(), Error> {
    let mut pinned = Vec::new();
    for container in &inspection.containers {
        if let LookupResult::Known { facts, .. } = &container.lookup
            && unpinned.entry_for(&container.image).is_none()
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

/// The name of an image as the plan leaves it: grants and exceptions may name its digest.
pub fn pinned(container: &Container, unpinned: &Unpinned) -> String {
    let image = &container.image;
    match &container.lookup {
        LookupResult::Known { facts, .. } if !image.contains('@') && unpinned.entry_for(image).is_none() => {
            format!("{image}@{}", facts.digest)
        }
        _ => image.clone(),
    }
}

fn pin_one(
    spec: &mut Object,
    container: &Container,
    digest: &Digest,
    notes: &mut Notes,
) -> Result<bool, Error> {
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
    // Edits the text as written: a short name stays short, and the tag stays for people to read.
    *written = format!("{image}@{digest}");
    notes.change(&token, format!("{path} = {written}"));
    Ok(true)
}

/// The annotation entry, the field, and the path of an image.
fn place(role: Role, index: usize, name: &str) -> (String, &'static str, String) {
    let list = role.list();
    if role == Role::ImageVolume {
        (format!("volume/{name}"), "reference", format!("spec.{list}[{index}].image.reference"))
    } else {
        (format!("image/{name}"), "image", format!("spec.{list}[{index}].image"))
    }
}
