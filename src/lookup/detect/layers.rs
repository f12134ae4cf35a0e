//! Images whose layers are Wasm: one module or component, or the modules of a Spin application.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Look, Stop};
use crate::image::config::Config;
use crate::image::descriptor::Descriptor;
use crate::image::magic::{Magic, magic};
use crate::image::malformed::Malformed;
use crate::image::manifest::{self, ImageManifest};
use crate::image::rootfs::described;
use crate::image::size::{MAX_KEPT, too_many_names};
use crate::image::{ImageFacts, ImageKind, ModuleFacts, NativeCode, Shape, SpinApp, module, spin};
use crate::registry::source::Source;

/// Layers that are fetched at the same time.
const PARALLEL: usize = 4;
/// Most Wasm layers of one image.
const MAX_WASM_LAYERS: usize = 128;

/// The content of a layer that is declared as Wasm.
enum WasmLayer {
    Module(Box<ModuleFacts>),
    Native(NativeCode),
}

impl<S: Source> Look<'_, S> {
    /// A Wasm artifact or an image with a Wasm layer: exactly one layer, as checked when the manifest was read.
    pub(super) async fn single(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
        shape: Shape,
        claiming: Option<&Config>,
    ) -> Result<ImageFacts, S::Error> {
        facts.shape = shape;
        let wasm = [manifest::RUNWASI_LAYER, manifest::WASM_LAYER];
        for (layer, found) in self.wasm_layers(manifest, &wasm).await? {
            facts.add_layer(&layer, found);
        }
        if let (Some(config), Some(layer), Some(module)) =
            (claiming, manifest.layers.first(), facts.modules.first())
        {
            facts.claims = config.claims(module, layer.digest.as_str());
        }
        for claim in &facts.claims.clone() {
            facts.saw(
                format!("config.{}", claim.field),
                format!("claims `{}`, where the bytes have `{}`", claim.claimed, claim.found),
            );
        }
        facts.needs_command();
        facts.needs_containerd();
        Ok(facts.concluded())
    }

    /// A Spin application from before Spin 2 is read for the evidence only. The shim parses the config as an image
    /// config, finds no architecture in it, and falls back to files that the image does not have.
    pub(super) async fn spin_legacy(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
    ) -> Result<ImageFacts, S::Error> {
        let bytes = self.blob(&manifest.config, "the locked app", self.limits.config).await?;
        // Nothing starts it, so it does not matter whether it is readable.
        if let Ok(app) = self.parsed(bytes, spin::parse, "the locked app").await {
            facts.saw(format!("locked app {}", manifest.config.digest), spin::describe(&app));
            facts.spin = Some(app);
        }
        let mut facts = facts.not_startable(
            "an old Spin application, whose locked app is its config: the Spin command starts it, and no shim does; \
             push it again with Spin 2 or later",
        );
        facts.shape = Shape::SpinLegacy;
        Ok(facts)
    }

    pub(super) async fn spin(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
        config: &Config,
    ) -> Result<ImageFacts, S::Error> {
        facts.shape = Shape::SpinArtifact;
        facts.archives = manifest::has_archives(manifest);
        let locked = manifest.layers.iter().find(|layer| layer.media_type == manifest::SPIN_APPLICATION);
        let Some(locked) = locked else {
            return Ok(facts.not_startable("a Spin image without a locked app"));
        };
        let bytes = self.blob(locked, "the locked app", self.limits.config).await?;
        let app = self.parsed(bytes, spin::parse, "the locked app").await?;
        if let Some(label) = config.labels.get(spin::LOCKED_APP_LABEL) {
            facts.saw(format!("config.Labels.{}", spin::LOCKED_APP_LABEL), label);
        }
        facts.saw(format!("locked app {}", locked.digest), spin::describe(&app));
        let layers = self.wasm_layers(manifest, &[manifest::SPIN_LAYER]).await?;
        self.check_components(&app, &layers)?;
        self.check_names(&app, &layers)?;
        for (layer, found) in layers {
            facts.add_spin_layer(&app, &layer, found);
        }
        facts.needs_command();
        facts.needs_containerd();
        facts.kind = ImageKind::SpinApp;
        let refused = spin::refusal(&facts.modules, &app);
        facts.spin = Some(app);
        Ok(match refused {
            Some(why) => facts.not_startable(why),
            None => facts.concluded(),
        })
    }

    /// Every module of a component must be a layer of this image, where Spin looks for it.
    fn check_components(&self, app: &SpinApp, layers: &[(Descriptor, WasmLayer)]) -> Result<(), S::Error> {
        let held: BTreeSet<&str> = layers.iter().map(|(layer, _)| layer.digest.as_str()).collect();
        for component in &app.components {
            for digest in component.modules() {
                if !held.contains(digest.as_str()) {
                    let malformed = Malformed::new(format!(
                        "component `{}` names the module `{digest}`, which is not a layer of the image",
                        component.id
                    ));
                    return Err(self.error("the locked app", malformed));
                }
            }
        }
        spin::check_uses(app).map_err(|malformed| self.error("the locked app", malformed))
    }

    /// A module is kept once for each component that runs it.
    fn check_names(&self, app: &SpinApp, layers: &[(Descriptor, WasmLayer)]) -> Result<(), S::Error> {
        let kept = layers.iter().map(|(_, found)| match found {
            WasmLayer::Module(module) => spin::size_for_all_owners(app, module),
            WasmLayer::Native(_) => 0,
        });
        if kept.fold(0, usize::saturating_add) > MAX_KEPT {
            return Err(self.error("the layers", Malformed::new(too_many_names())));
        }
        Ok(())
    }

    /// The layers with these media types, each digest once, in the manifest's order.
    async fn wasm_layers(
        &self,
        manifest: &ImageManifest,
        kinds: &[&str],
    ) -> Result<Vec<(Descriptor, WasmLayer)>, S::Error> {
        let mut seen = BTreeSet::new();
        let layers: Vec<Descriptor> = manifest
            .layers
            .iter()
            .filter(|layer| kinds.contains(&layer.media_type.as_str()) && seen.insert(layer.digest.as_str()))
            .cloned()
            .collect();
        if layers.len() > MAX_WASM_LAYERS {
            let malformed = Malformed::new(format!(
                "it has {} Wasm layers; push an image with at most {MAX_WASM_LAYERS}",
                layers.len()
            ));
            return Err(self.error("the manifest", malformed));
        }
        self.check_sizes(&layers)?;
        stream::iter(layers.into_iter().map(|layer| self.wasm_layer(layer)))
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    async fn wasm_layer(&self, layer: Descriptor) -> Result<(Descriptor, WasmLayer), S::Error> {
        let what = format!("layer {}", layer.digest);
        let bytes = self.layer(&layer, &what).await?;
        if let Magic::Native(magic) = magic(&bytes) {
            let native = NativeCode { source: layer.digest.to_string(), magic: magic.to_string() };
            return Ok((layer, WasmLayer::Native(native)));
        }
        let digest = layer.digest.clone();
        let stop = Stop(Arc::default());
        let flag = Arc::clone(&stop.0);
        let facts = self
            .on_blocking_thread(&what, move || module::read_until(&bytes, digest.as_str(), &flag))
            .await?;
        let facts = facts.map_err(|malformed| self.error(&what, malformed))?;
        Ok((layer, WasmLayer::Module(Box::new(facts))))
    }
}

impl ImageFacts {
    fn add_layer(&mut self, layer: &Descriptor, found: WasmLayer) {
        let seen = format!("layer {} bytes 0..8", layer.digest);
        match found {
            WasmLayer::Module(facts) => {
                self.saw(seen, described(&facts));
                self.modules.push(*facts);
            }
            WasmLayer::Native(native) => {
                self.saw(
                    seen,
                    format!("native code ({}) in a layer that is declared to be Wasm", native.magic),
                );
                self.native.push(native);
            }
        }
    }

    fn add_spin_layer(&mut self, app: &SpinApp, layer: &Descriptor, found: WasmLayer) {
        let WasmLayer::Module(facts) = found else { return self.add_layer(layer, found) };
        self.saw(format!("layer {} bytes 0..8", layer.digest), described(&facts));
        self.modules.extend(spin::for_each_owner(app, *facts));
    }
}
