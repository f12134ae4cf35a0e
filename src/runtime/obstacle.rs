//! What keeps a runtime from starting a Wasm program, and how people are told. Whether anything does is found by `family`, which decides
//! by it which runtimes can start a program.

use super::answers::Runtime;
use crate::image::{Feature, ImageKind, ModuleFacts, Packaging, Shape};
use crate::text;

/// The first thing that keeps a runtime from starting a program.
#[derive(Debug)]
pub(super) enum Obstacle<'a> {
    /// It starts no program of this kind in this form.
    Form { shape: Shape, kind: ImageKind, packaging: Packaging },
    /// A binary needs what it does not have.
    Lacking { module: &'a ModuleFacts, feature: Feature },
    /// A core module of a binary defines more than its pool holds.
    TooMuch { module: &'a ModuleFacts, exceeded: String },
}

impl Obstacle<'_> {
    /// What is wrong, and what mends it apart from another runtime. In a sentence that has named the runtime.
    pub(super) fn described(&self, runtime: &dyn Runtime) -> String {
        match self {
            Self::Form { shape, kind, packaging } => wrong_form(runtime, *shape, *kind, *packaging),
            Self::Lacking { module, feature } => lacking(&module.source, *feature),
            Self::TooMuch { module, exceeded } => format!(
                "a core module of `{}` defines {exceeded} into the pool of the runtime's engine; build it with less, or write \
                 `allocatesOnDemand: true` into the profile if its nodes have no such pool",
                text::quoted(&module.source, 200)
            ),
        }
    }
}

/// The forms in which a program can be packed. Files are the same to every runtime, whatever the shape of their image.
const FORMS: [(Shape, Packaging); 4] = [
    (Shape::WasmArtifact, Packaging::Layers),
    (Shape::RunwasiLayers, Packaging::Layers),
    (Shape::SpinArtifact, Packaging::Layers),
    (Shape::ScratchRootfs, Packaging::RootFilesystem),
];

const fn form(shape: Shape, packaging: Packaging) -> &'static str {
    match (packaging, shape) {
        (Packaging::RootFilesystem, _) => "files",
        (Packaging::Layers, Shape::WasmArtifact) => "a layer of the type `application/wasm`",
        (Packaging::Layers, Shape::RunwasiLayers) => "layers of runwasi's own type",
        (Packaging::Layers, Shape::SpinArtifact) => "layers of `spin registry push`",
        (Packaging::Layers, _) => "layers",
    }
}

/// The kind is wrong where no form would do: another one would not help then.
fn wrong_form(runtime: &dyn Runtime, shape: Shape, kind: ImageKind, packaging: Packaging) -> String {
    let named = kind.as_str();
    let takes = |(shape, packaging): &(Shape, Packaging)| runtime.runs(*shape, kind, *packaging);
    let taken: Vec<&str> =
        FORMS.into_iter().filter(takes).map(|(shape, packaging)| form(shape, packaging)).collect();
    if taken.is_empty() {
        return format!(
            "the runtime is not known to start programs of the kind `{named}`, however they are packed"
        );
    }
    format!(
        "it is packed as {}, and the runtime starts programs of the kind `{named}` only from {}; pack it so",
        form(shape, packaging),
        taken.join(" or ")
    )
}

fn lacking(source: &str, feature: Feature) -> String {
    let (source, named) = (text::quoted(source, 200), feature.as_str());
    if Feature::PROPOSALS.contains(&feature) {
        return format!(
            "`{source}` uses the proposal `{named}` of WebAssembly, which the runtime is not known to run; build it without, \
             or list `{named}` in the profile's `proposals` if its nodes run it"
        );
    }
    let cure = match feature {
        Feature::Text => "ship the binary that is assembled from it",
        Feature::WasiUnstable => "build it with a current toolchain",
        Feature::Wasi03 => "build it for WASI 0.2",
        Feature::Wasix => "build it for WASI",
        _ => "build it without",
    };
    format!("`{source}` needs `{named}`, which the runtime is not known to provide; {cure}")
}

#[cfg(test)]
mod tests {
    use super::super::{Family, Profile, Runtimes};
    use super::*;
    use crate::image::{Defined, Digest, ImageFacts, Program, WasmFormat};

    const LAYER: (Shape, Packaging) = (Shape::WasmArtifact, Packaging::Layers);
    const FILE: (Shape, Packaging) = (Shape::ScratchRootfs, Packaging::RootFilesystem);

    fn plain() -> ModuleFacts {
        ModuleFacts::blank("/app.wasm", WasmFormat::Module)
    }

    fn needing(features: &[Feature]) -> ModuleFacts {
        ModuleFacts { features: features.iter().copied().collect(), ..plain() }
    }

    fn defining(defined: Defined) -> ModuleFacts {
        ModuleFacts { defined, ..plain() }
    }

    fn under(ambient: Family) -> Profile {
        Profile { ambient, ..Runtimes::default().profiles[0].clone() }
    }

    /// What is said of a program of these binaries.
    fn said(
        profile: &Profile,
        kind: ImageKind,
        (shape, packaging): (Shape, Packaging),
        modules: Vec<ModuleFacts>,
    ) -> Option<String> {
        let digest = Digest::of(b"image");
        let program = Program::Wasm { kind, packaging, modules: (0..modules.len()).collect() };
        let facts = ImageFacts { shape, modules, ..ImageFacts::blank(&digest, &digest) };
        profile.cannot_start(&facts, &program)
    }

    #[test]
    fn a_form_that_the_runtime_does_not_take_is_named_with_those_that_it_takes() {
        use ImageKind::{Component, HttpComponent, Module, SpinApp};
        let no_kind = |kind| {
            format!(
                "the runtime is not known to start programs of the kind `{kind}`, however they are packed"
            )
        };
        let wrong = |packed, kind, taken| {
            format!(
                "it is packed as {packed}, and the runtime starts programs of the kind `{kind}` only from {taken}; pack it so"
            )
        };
        let layer = "a layer of the type `application/wasm`";
        let of_spin = "a layer of the type `application/wasm` or layers of `spin registry push`";
        let runwasi = (Shape::RunwasiLayers, Packaging::Layers);
        for (ambient, kind, form, expected) in [
            (Family::CrunWasmer, Module, LAYER, Some(wrong(layer, "module", "files"))),
            (
                Family::YoukiWasmtime,
                Module,
                runwasi,
                Some(wrong("layers of runwasi's own type", "module", "files")),
            ),
            (Family::CrunWasmtime, Component, LAYER, Some(no_kind("component"))),
            (Family::RunwasiWasmedge, Component, FILE, Some(no_kind("component"))),
            (Family::RunwasiWasmtime, SpinApp, FILE, Some(no_kind("spin-app"))),
            (Family::Spin, Module, LAYER, Some(no_kind("module"))),
            (Family::Spin, HttpComponent, FILE, Some(wrong("files", "http-component", of_spin))),
            (Family::Spin, HttpComponent, LAYER, None),
            (Family::Spin, SpinApp, FILE, None),
            (Family::RunwasiWasmtime, HttpComponent, runwasi, None),
            (Family::CrunWasmer, Module, FILE, None),
        ] {
            assert_eq!(
                said(&under(ambient), kind, form, vec![plain()]),
                expected,
                "{ambient:?} {kind:?} {form:?}"
            );
        }
    }

    #[test]
    fn what_a_binary_needs_is_named_with_its_path_and_a_proposal_with_where_to_list_it() {
        let mut profile = under(Family::RunwasiWasmtime);
        let of = |profile: &Profile, features: &[Feature]| {
            said(profile, ImageKind::Module, LAYER, vec![plain(), needing(features)])
        };
        let tag = of(&profile, &[Feature::ExceptionHandling, Feature::Memory64]);
        assert_eq!(
            tag.as_deref(),
            Some(
                "`/app.wasm` uses the proposal `exception-handling` of WebAssembly, which the runtime is not known to run; \
                 build it without, or list `exception-handling` in the profile's `proposals` if its nodes run it"
            )
        );
        for (feature, cure) in [
            (Feature::WasmedgeSockets, "build it without"),
            (Feature::Wasix, "build it for WASI"),
            (Feature::Text, "ship the binary that is assembled from it"),
        ] {
            let expected = format!(
                "`/app.wasm` needs `{}`, which the runtime is not known to provide; {cure}",
                feature.as_str()
            );
            assert_eq!(of(&profile, &[feature]), Some(expected));
        }
        // Engines that do not know it skip it.
        assert_eq!(of(&profile, &[Feature::WasmedgeMachineCode]), None);
        profile.proposals = [Feature::ExceptionHandling].into();
        let wide = of(&profile, &[Feature::ExceptionHandling, Feature::Memory64]).unwrap();
        assert!(wide.contains("the proposal `memory64` of"), "{wide}");
        assert_eq!(of(&profile, &[Feature::ExceptionHandling]), None);
    }

    #[test]
    fn what_a_pool_does_not_hold_is_named_with_the_limit() {
        let two = || defining(Defined { memories: 2, ..Defined::default() });
        let of = |profile: &Profile, module| said(profile, ImageKind::Module, FILE, vec![module]);
        let expected = "a core module of `/app.wasm` defines 2 memories, and at most 1 fit into the pool of the runtime's \
                        engine; build it with less, or write `allocatesOnDemand: true` into the profile if its nodes have no \
                        such pool";
        let mut profile = under(Family::RunwasiWasmtime);
        assert_eq!(of(&profile, two()).as_deref(), Some(expected));
        let both = ModuleFacts { features: [Feature::WasiNn].into(), ..two() };
        assert!(of(&profile, both).unwrap().contains("needs `wasi-nn`"), "what it needs is asked first");
        profile.allocates_on_demand = true;
        assert_eq!(of(&profile, two()), None);
        assert_eq!(of(&under(Family::YoukiWasmtime), two()), None);
    }

    #[test]
    fn a_form_is_named_before_what_a_binary_needs() {
        let wide = || vec![needing(&[Feature::Memory64])];
        let crun = under(Family::CrunWasmtime);
        let packed = said(&crun, ImageKind::Module, LAYER, wide()).unwrap();
        assert!(packed.ends_with("only from files; pack it so"), "{packed}");
        let unpacked = said(&crun, ImageKind::Module, FILE, wide()).unwrap();
        assert!(unpacked.contains("the proposal `memory64` of"), "{unpacked}");
    }

    #[test]
    fn nothing_is_said_of_other_programs_and_of_families_of_which_nothing_is_known() {
        for ambient in [Family::Everything, Family::Retired] {
            let found = said(&under(ambient), ImageKind::Module, LAYER, vec![needing(&[Feature::Memory64])]);
            assert_eq!(found, None, "{ambient:?}");
        }
        let digest = Digest::of(b"image");
        let facts = ImageFacts { shape: Shape::LinuxRootfs, ..ImageFacts::blank(&digest, &digest) };
        assert_eq!(under(Family::CrunWasmtime).cannot_start(&facts, &Program::Linux), None);
    }

    #[test]
    fn a_foreign_path_is_bounded_and_cannot_close_its_quotes() {
        let source = format!("/a`\n{}", "x".repeat(5000));
        let module = ModuleFacts { source, ..needing(&[Feature::Wasix]) };
        let found = said(&under(Family::Spin), ImageKind::SpinApp, FILE, vec![module]).unwrap();
        assert!(found.starts_with("`/a'\\nxxx") && found.chars().count() < 400, "{found}");
    }
}
