//! What the programs of a workload can do that those of the one before it could not.

use std::collections::{BTreeMap, BTreeSet};

use crate::capability::{Capability, Entry, difference};
use crate::inspection::{Container, Inspection, ProgramClass};
use crate::judge::PolicyInput;
use crate::workload::{ImageUse, Role, Workload};

/// Most capabilities that one warning names; the rest is counted.
const MOST_NAMED: usize = 6;

/// What each container can do; only containers whose image was read. A volume, which may have the name of a container, starts nothing.
#[derive(Debug, Default)]
pub(super) struct Abilities(BTreeMap<(Role, String), Able>);

#[derive(Debug)]
struct Able {
    image: String,
    entries: Vec<Entry>,
    /// The interpreters in it: with one, it runs what it is given.
    interpreters: Vec<&'static str>,
}

impl Abilities {
    /// The abilities of the containers that rules read about. What comes with an image or the platform, and needs no grant in any
    /// program, is left out.
    pub(super) fn of(input: &PolicyInput<'_>) -> Self {
        let starts = input.containers.iter().filter(|container| container.role.starts());
        let read = starts.filter(|container| container.digest.is_some());
        let able = read.map(|container| {
            let effective = container.effective.iter().map(|effective| &effective.entry);
            let needs = |entry: &&Entry| !entry.own && !entry.capability.is_default();
            let able = Able {
                image: container.image.to_owned(),
                entries: effective.filter(needs).cloned().collect(),
                interpreters: container.interpreters.iter().map(|found| found.engine).collect(),
            };
            ((container.role, container.name.to_owned()), able)
        });
        Self(able.collect())
    }

    /// A warning for each container whose new image can do more than the old one. Containers that are only on one side
    /// have nothing to be compared with.
    pub(super) fn warnings_since(&self, before: &Self) -> Vec<String> {
        let both = self.0.iter().filter_map(|(place, now)| Some((place, now, before.0.get(place)?)));
        both.filter_map(|((_, name), now, old)| {
            let gained = now.beyond(old);
            (now.image != old.image && !gained.is_empty()).then(|| warning(name, &old.image, &gained))
        })
        .collect()
    }
}

impl Able {
    /// What it can do and the other one cannot, as labels.
    fn beyond(&self, old: &Self) -> Vec<String> {
        let entries = difference::missing_from(&self.entries, &old.entries).map(Entry::label);
        let mut engines: Vec<&str> = self.interpreters.clone();
        engines.retain(|engine| !old.interpreters.contains(engine));
        engines.sort_unstable();
        engines.dedup();
        entries.chain(engines.into_iter().map(|engine| format!("interpreter {engine}"))).collect()
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

/// A warning about the Linux programs that take the place of Wasm programs in a workload which has none any more. Each is that of the
/// container with the name of the former one or, where that is gone, of one that is new.
pub(super) fn left_wasm(new: &Inspection, old: &Inspection) -> Option<String> {
    let is_wasm = |one: &&Container| one.role.starts() && one.class() == ProgramClass::Wasm;
    let successors = Successors::of(new, old);
    let former = old.containers.iter().filter(is_wasm);
    let mut followed = former.filter_map(|former| Some((former, successors.after(former)?)));
    let (former, now) = followed.next()?;
    let others = followed.count();
    let others = if others > 0 { format!("; so can {others} more containers") } else { String::new() };
    Some(format!(
        "container `{}`: this image can do what `{}` could not: `{}`, because it starts a Linux program, which WASI does not limit and no \
         rule for Wasm judges; `wasmgate diff` compares the two{others}",
        now.name,
        former.image,
        Capability::NativeExec.as_str()
    ))
}

/// Role and name of a container.
type Place<'a> = (Role, &'a str);

fn place(container: &Container) -> Place<'_> {
    (container.role, container.name.as_str())
}

/// The containers with ordinary or native code that may take the place of former ones, by place: the person who wrote the object
/// chooses how many there are.
struct Successors<'a> {
    places: BTreeSet<Place<'a>>,
    /// Of two at one place the first.
    by_place: BTreeMap<Place<'a>, &'a Container>,
    /// The first one at a place that is new.
    newcomer: Option<&'a Container>,
}

impl<'a> Successors<'a> {
    fn of(new: &'a Inspection, old: &Inspection) -> Self {
        let is_able = |one: &&Container| {
            one.role.starts() && matches!(one.class(), ProgramClass::Linux | ProgramClass::Native)
        };
        let able = || new.containers.iter().filter(is_able);
        let former: BTreeSet<Place<'_>> = old.containers.iter().map(place).collect();
        Self {
            places: new.containers.iter().map(place).collect(),
            by_place: able().rev().map(|one| (place(one), one)).collect(),
            newcomer: able().find(|one| !former.contains(&place(one))),
        }
    }

    fn after(&self, former: &Container) -> Option<&'a Container> {
        let place = place(former);
        let newcomer = || self.newcomer.filter(|_| !self.places.contains(&place));
        self.by_place.get(&place).copied().or_else(newcomer)
    }
}

/// Whether some container is to start an image that none of this name has started.
pub(super) fn has_other_images(new: &Workload, old: &Workload) -> bool {
    let starts = |image: &ImageUse<'_>| image.role.starts();
    let former = old.images().into_iter().map(|image| (image.role, image.name, image.image));
    let former: BTreeSet<_> = former.collect();
    let mut images = new.images().into_iter().filter(starts);
    images.any(|image| !former.contains(&(image.role, image.name, image.image)))
}

/// Whether some container that both have is to start another image.
pub(super) fn changes_an_image(new: &Workload, old: &Workload) -> bool {
    let starts = |image: &ImageUse<'_>| image.role.starts();
    // Of two of one name the first.
    let former = old.images().into_iter().rev().map(|image| ((image.role, image.name), image.image));
    let former: BTreeMap<_, _> = former.collect();
    let mut images = new.images().into_iter().filter(starts);
    images.any(|image| former.get(&(image.role, image.name)).is_some_and(|other| *other != image.image))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::{Digest, ImageFacts, ImageKind, Packaging, Program, program};
    use crate::inspection::LookupResult;
    use crate::workload::{self, Kind};

    fn able(image: &str, interpreters: &[&'static str], capabilities: &[Capability]) -> Abilities {
        let entries = capabilities.iter().map(|capability| Entry::new(*capability, "seen")).collect();
        let able = Able { image: image.to_owned(), entries, interpreters: interpreters.to_vec() };
        Abilities([((Role::Container, "app".to_owned()), able)].into())
    }

    #[test]
    fn an_interpreter_is_gained_once_and_only_with_another_image() {
        let old = able("a:1", &[], &[Capability::Fs]);
        let warnings = able("a:2", &["Lua", "CPython", "Lua"], &[Capability::Fs]).warnings_since(&old);
        assert_eq!(
            warnings,
            [
                "container `app`: this image can do what `a:1` could not: `interpreter CPython`, `interpreter Lua`; \
              `wasmgate diff` shows where it was seen"
            ]
        );
        let same = able("a:1", &["CPython"], &[Capability::Fs]);
        assert_eq!(same.warnings_since(&old), Vec::<String>::new());
        let had = able("a:2", &["CPython"], &[]);
        assert_eq!(had.warnings_since(&able("a:1", &["CPython"], &[])), Vec::<String>::new());
        assert_eq!(able("a:2", &[], &[]).warnings_since(&had), Vec::<String>::new(), "lost");
    }

    /// Containers of these names, each with what its program is.
    fn inspected(containers: &[(&str, ProgramClass)]) -> Inspection {
        let digest = Digest::of(b"");
        let facts = Arc::new(ImageFacts::blank(&digest, &digest));
        let container = |(index, (name, class)): (usize, &(&str, ProgramClass))| {
            let program = match class {
                ProgramClass::Wasm => Program::Wasm {
                    kind: ImageKind::Module,
                    packaging: Packaging::Layers,
                    modules: Vec::new(),
                },
                ProgramClass::Linux => Program::Linux,
                _ => program::unknown("it was not looked for"),
            };
            let lookup = LookupResult::Known { facts: Arc::clone(&facts), program };
            let (name, image) = ((*name).to_owned(), format!("{name}:1"));
            Container { role: Role::Container, index, name, image, lookup }
        };
        Inspection { containers: containers.iter().enumerate().map(container).collect() }
    }

    #[test]
    fn the_place_of_a_wasm_program_is_taken_by_its_name_or_by_a_newcomer_once_it_is_gone() {
        use ProgramClass::{Linux, Unknown, Wasm};
        for (new, old, expected) in [
            (&[("a", Linux)][..], &[("a", Wasm)][..], Some(("a", ""))),
            (&[("b", Linux)], &[("a", Wasm)], Some(("b", ""))),
            (&[("b", Linux)], &[("a", Wasm), ("b", Linux)], None),
            (&[("a", Unknown), ("b", Linux)], &[("a", Wasm)], None),
            (&[("c", Unknown), ("d", Linux), ("e", Linux)], &[("a", Wasm)], Some(("d", ""))),
            (&[("a", Linux)], &[("a", Linux)], None),
            (&[("b", Linux), ("a", Linux)], &[("a", Wasm), ("c", Wasm)], Some(("a", "1 more"))),
        ] {
            let said = left_wasm(&inspected(new), &inspected(old));
            let is_right = match (&said, expected) {
                (None, None) => true,
                (Some(said), Some((name, more))) => {
                    let starts = said.starts_with(&format!("container `{name}`: this image"));
                    starts && said.contains("; so can") != more.is_empty() && said.contains(more)
                }
                _ => false,
            };
            assert!(is_right, "{new:?} {old:?}: {said:?}");
        }
    }

    fn workload(images: impl Iterator<Item = (String, String)>) -> Workload {
        let container = |(name, image)| serde_json::json!({"name": name, "image": image});
        let containers: Vec<_> = images.map(container).collect();
        let object = serde_json::json!({"metadata": {"name": "a"}, "spec": {"containers": containers}});
        workload::read(&object.to_string(), Kind::Pod, "shop").unwrap()
    }

    #[test]
    fn images_are_compared_by_the_names_of_their_containers() {
        let of = |images: &[(&str, &str)]| {
            workload(images.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned())))
        };
        for (new, old, others, changes) in [
            (&[("a", "x:1")][..], &[("a", "x:1")][..], false, false),
            (&[("a", "x:2")], &[("a", "x:1")], true, true),
            (&[("b", "x:1")], &[("a", "x:1")], true, false),
            (&[("a", "x:1")], &[("b", "y:1"), ("a", "x:1")], false, false),
            (&[("b", "x:1"), ("a", "y:1")], &[("a", "x:1"), ("b", "y:1")], true, true),
        ] {
            let (new, old) = (of(new), of(old));
            assert_eq!((has_other_images(&new, &old), changes_an_image(&new, &old)), (others, changes));
        }
    }
}
