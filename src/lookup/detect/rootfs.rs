//! Images whose layers are a root file system.

use std::sync::Arc;

use super::{Look, Stop};
use crate::image::annotation::crun_annotation;
use crate::image::archive::Fault;
use crate::image::config::{Config, RootFs};
use crate::image::layer::{Tree, UnpackLimits};
use crate::image::malformed::Malformed;
use crate::image::manifest::{self, ImageManifest};
use crate::image::names::{APPLICATION_FILES, SHELL};
use crate::image::platform::is_wasm;
use crate::image::{Depth, ImageFacts, Shape, entry, lazy};
use crate::registry::source::{Slot, Source};

impl<S: Source> Look<'_, S> {
    /// Wasm in files, or an ordinary image. Reads the layers only if Wasm is to be expected.
    pub(super) async fn rootfs(
        &self,
        mut facts: ImageFacts,
        manifest: &ImageManifest,
        config: &Config,
    ) -> Result<ImageFacts, S::Error> {
        let wasm_platform = is_wasm(&facts.platform);
        let first = facts.entrypoint.first().or(facts.cmd.first());
        let named = first.is_some_and(|argument| entry::needs_layers(argument));
        facts.shape = if wasm_platform { Shape::WasmRootfs } else { Shape::LinuxRootfs };
        if wasm_platform {
            facts.warnings.push(format!(
                "containerd 2.1 and later does not unpack a root file system whose config says `{}` unless \
                 `use_local_image_pull` is set; build it for `linux/amd64` or push the module as a layer",
                facts.platform
            ));
        }
        let crun = crun_annotation(&manifest.annotations).is_some();
        if !(wasm_platform || named || crun || self.depth == Depth::Layers) {
            return Ok(facts.concluded());
        }
        config.check_labels().map_err(|malformed| self.error("the config", malformed))?;
        let stop = Stop(Arc::default());
        let names = self.names.get_or_try_init(|| self.source.names(self.reference)).await?.clone();
        let mut tree = self.scan(&facts, manifest, &config.rootfs, &stop, &names).await?;
        let what = "the root file system";
        let read = move || {
            let read = facts.read_tree(&mut tree, crun);
            drop((tree, names));
            read
        };
        let read = self.on_blocking_thread(what, read).await?;
        read.map_err(|fault| self.fault(what, fault))
    }

    async fn scan(
        &self,
        facts: &ImageFacts,
        manifest: &ImageManifest,
        unpacked: &RootFs,
        stop: &Stop,
        names: &Slot,
    ) -> Result<Tree, S::Error> {
        self.check_sizes(&manifest.layers)?;
        let count = manifest.layers.len();
        unpacked.check(count).map_err(|malformed| self.error("the config", malformed))?;
        if let Some(key) = &manifest.lazy {
            let wrong = format!("the annotation `{key}` names a table of contents, {}", lazy::WRONG);
            return Err(self.error("the manifest", Malformed::new(wrong)));
        }
        let bounds = UnpackLimits { layer: self.limits.unpacked, file: self.limits.layer };
        let wanted = entry::wanted(&facts.entrypoint, &facts.cmd, &facts.working_dir);
        let wanted = wanted.into_iter().chain(APPLICATION_FILES.into_iter().chain([SHELL]).map(String::from));
        let mut tree = Tree::new(bounds, wanted, Arc::clone(&stop.0));
        for (number, layer) in manifest.layers.iter().enumerate() {
            let what = format!("layer {}", layer.digest);
            let bytes = self.layer(layer, &what).await?;
            let compression = manifest::compression(&layer.media_type);
            let compression = compression.ok_or_else(|| {
                let wrong = format!("`{}` is not a layer of files; push the image again", layer.media_type);
                self.error(&what, Malformed::new(wrong))
            })?;
            if lazy::has_footer(&bytes) {
                let wrong =
                    format!("it ends with a footer that leads to a table of contents, {}", lazy::WRONG);
                return Err(self.error(&what, Malformed::new(wrong)));
            }
            let names = names.clone();
            let apply = move || {
                let result = tree.apply(&*bytes, compression);
                drop(names);
                (tree, result)
            };
            let (back, result) = self.on_blocking_thread(&what, apply).await?;
            tree = back;
            let digest = result.map_err(|fault| self.fault(&what, fault))?;
            unpacked.check_layer(number, &digest).map_err(|malformed| self.error(&what, malformed))?;
        }
        Ok(tree)
    }

    fn fault(&self, what: &str, fault: Fault) -> S::Error {
        match fault {
            Fault::TooLarge => self.too_large(format!("{what}, unpacked,"), self.limits.unpacked),
            Fault::Malformed(malformed) => self.error(what, malformed),
        }
    }
}
