//! What the programs of a workload can do that those of the one before it could not.

use std::collections::BTreeMap;

use crate::capability::{Entry, difference};
use crate::judge::PolicyInput;
use crate::workload::{ImageUse, Role, Workload};

/// Most capabilities that one warning names; the rest is counted.
const MOST_NAMED: usize = 6;

/// Container → its image, and what it can do; only containers whose image was read. A volume, which may have the name of a container, starts
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Abilities(BTreeMap<(Role, String), (String, Vec<Entry>)>);

impl Abilities {
    /// The abilities of the containers that rules read about. What comes with an image or the platform, and needs no grant in any
    /// program, is left out.
    pub(super) fn of(input: &PolicyInput<'_>) -> Self {
        let starts = input.containers.iter().filter(|container| container.role != Role::ImageVolume);
        let read = starts.filter(|container| container.digest.is_some());
        let able = read.map(|container| {
            let effective = container.effective.iter().map(|effective| &effective.entry);
            let needs = |entry: &&Entry| !entry.own && !entry.capability.is_default();
            let entries = effective.filter(needs).cloned().collect();
            ((container.role, container.name.to_owned()), (container.image.to_owned(), entries))
        });
        Self(able.collect())
    }

    /// A warning for each container whose new image can do more than the old one. Containers that are only on one side
    /// have nothing to be compared with.
    pub(super) fn warnings_since(&self, before: &Self) -> Vec<String> {
        let both = self.0.iter().filter_map(|(place, now)| Some((place, now, before.0.get(place)?)));
        both.filter_map(|((_, name), (image, now), (old_image, old))| {
            let gained: Vec<String> = difference::missing_from(now, old).map(Entry::label).collect();
            (image != old_image && !gained.is_empty()).then(|| warning(name, old_image, &gained))
        })
        .collect()
    }
}

fn warning(container: &str, old_image: &str, gained: &[String]) -> String {
    let named: Vec<String> = gained.iter().take(MOST_NAMED).map(|label| format!("`{label}`")).collect();
    let more = gained.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "container `{container}`: this image can do what `{old_image}` could not: {}{more}; \
         `wasmgate diff` shows where it was seen",
        named.join(", ")
    )
}

/// Whether some container that both have is to start another image.
pub(super) fn changes_an_image(new: &Workload, old: &Workload) -> bool {
    let images = old.images();
    new.images().iter().filter(|image| image.role != Role::ImageVolume).any(|image| {
        let same = |other: &&ImageUse<'_>| other.name == image.name && other.role == image.role;
        images.iter().find(same).is_some_and(|other| other.image != image.image)
    })
}
