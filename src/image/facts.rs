//! Collects the facts about an image: observations, and the conclusion from them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::config::Config;
use super::entry::needs_layers;
use super::malformed::short;
use super::platform::is_wasm;
use super::program::{self, CONCLUSION};
use super::size;
use super::{
    ByName, Defined, Digest, Evidence, ImageFacts, ImageKind, Import, ModuleFacts, NEEDS_COMMAND, Program,
    Shape, WasmFormat,
};
use crate::text;

impl ModuleFacts {
    /// Facts about a binary of which nothing is known yet but where it came from and whether it is a component.
    pub fn blank(source: impl Into<String>, format: WasmFormat) -> Self {
        Self {
            source: source.into(),
            component: None,
            format,
            imports: Vec::new(),
            exports: BTreeSet::new(),
            code_bytes: 0,
            data_bytes: 0,
            name_bytes: 0,
            memory_bytes: 0,
            memory_max_bytes: None,
            table_elements: 0,
            defined: Defined::default(),
            features: BTreeSet::new(),
            interpreters: Vec::new(),
            size_bytes: 0,
        }
    }

    /// About the bytes that the names of its imports and exports take in memory.
    pub fn size_in_memory(&self) -> usize {
        let functions = |import: &Import| import.functions.iter().map(|name| size::name(name)).sum::<usize>();
        let imported =
            self.imports.iter().map(|import| size::interface(&import.interface) + functions(import));
        imported.sum::<usize>() + self.exports.iter().map(|name| size::name(name)).sum::<usize>()
    }
}

impl ImageFacts {
    /// The modules with these numbers, as a [`Program`] names them; a number without a module is passed over.
    pub fn modules_at<'a>(&'a self, numbers: &[usize]) -> impl Iterator<Item = &'a ModuleFacts> {
        numbers.iter().filter_map(|number| self.modules.get(*number))
    }

    /// Whether a deeper look-up finds nothing more: the files were read already, or there are none.
    pub fn is_whole(&self) -> bool {
        self.scanned || !self.shape.is_ordinary()
    }

    /// Whether the image may be meant for a Wasm runtime: it is packed as Wasm, or its files were read, which an ordinary
    /// image gives no reason for. What nothing starts as it is counts where anything else of it says Wasm: it may be a Wasm image in
    /// an unusual form, and also an artifact, or an ordinary image with layers that are encrypted.
    pub fn suggests_wasm(&self) -> bool {
        match self.shape {
            Shape::LinuxRootfs => self.scanned,
            Shape::Other => {
                let holds_wasm = !self.modules.is_empty() || self.spin.is_some();
                self.wasm_media_type || self.scanned || holds_wasm || self.config_says_wasm()
            }
            Shape::WasmArtifact
            | Shape::RunwasiLayers
            | Shape::SpinArtifact
            | Shape::SpinLegacy
            | Shape::SpinRootfs
            | Shape::SlightRootfs
            | Shape::WwsRootfs
            | Shape::CrunRootfs
            | Shape::WasmRootfs
            | Shape::ScratchRootfs => true,
        }
    }

    /// Whether its config says Wasm: by the platform, or by the name of what the image starts.
    pub(crate) fn config_says_wasm(&self) -> bool {
        let first = self.entrypoint.first().or(self.cmd.first());
        is_wasm(&self.platform) || first.is_some_and(|argument| needs_layers(argument))
    }

    /// Facts about an image of which nothing is known yet but its digest and that of the manifest which was taken, the same
    /// where the image is no index.
    pub fn blank(digest: &Digest, manifest_digest: &Digest) -> Self {
        Self {
            digest: digest.clone(),
            manifest_digest: manifest_digest.clone(),
            kind: ImageKind::Unknown,
            shape: Shape::Other,
            platform: String::new(),
            evidence: Vec::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            working_dir: String::new(),
            env: Vec::new(),
            search_path: None,
            volumes: Vec::new(),
            modules: Vec::new(),
            files: Vec::new(),
            unmatched_platform: None,
            program_folders: Vec::new(),
            by_name: ByName::default(),
            scanned: false,
            native: Vec::new(),
            wasm_media_type: false,
            archives: false,
            spin: None,
            warnings: Vec::new(),
            claims: Vec::new(),
        }
    }

    pub(crate) fn saw(&mut self, seen: impl Into<String>, value: impl Into<String>) {
        self.evidence.push(Evidence { seen: seen.into(), value: short(&value.into()) });
    }

    /// The same with all text that is only for people made harmless, wherever in the image it was found. Names, paths
    /// and commands stay unchanged, because they are compared with what a pod says.
    pub(crate) fn harmless(mut self) -> Self {
        let evidence =
            self.evidence.iter_mut().flat_map(|evidence| [&mut evidence.seen, &mut evidence.value]);
        let claims =
            self.claims.iter_mut().flat_map(|claim| [&mut claim.field, &mut claim.claimed, &mut claim.found]);
        for text in evidence.chain(claims).chain(&mut self.unmatched_platform).chain(&mut self.warnings) {
            if let Cow::Owned(visible) = text::visible(text) {
                *text = visible;
            }
        }
        self
    }

    /// The same, as something that no runtime can start.
    pub(crate) fn not_startable(mut self, why: impl Into<String>) -> Self {
        self.kind = ImageKind::Unknown;
        self.shape = Shape::Other;
        self.saw(CONCLUSION, why);
        self
    }

    /// Derives the kind from what the image's own entry point starts.
    pub(crate) fn concluded(mut self) -> Self {
        let (kind, why) = match program::program(&self, &[], &[]) {
            Program::Wasm { kind, .. } => (kind, kind.as_str().to_string()),
            Program::Linux => (ImageKind::Linux, "an ordinary container image".to_string()),
            Program::Native { source, magic } => (
                ImageKind::Unknown,
                format!("`{source}` is native code ({magic}) in an image that is packed as Wasm"),
            ),
            Program::Unknown { reason } => (ImageKind::Unknown, reason.into()),
        };
        self.kind = kind;
        self.saw(CONCLUSION, why);
        self
    }

    pub(crate) fn adopt(&mut self, config: &Config) {
        self.platform = config.platform();
        let platform = if self.platform.is_empty() { "none" } else { &self.platform };
        self.saw("config platform", platform.to_string());
        self.entrypoint.clone_from(&config.entrypoint);
        self.cmd.clone_from(&config.cmd);
        self.working_dir.clone_from(&config.working_dir);
        self.env.clone_from(&config.env);
        self.search_path.clone_from(&config.search_path);
        self.volumes.clone_from(&config.volumes);
        for (name, words) in [("config.Entrypoint", &config.entrypoint), ("config.Cmd", &config.cmd)] {
            if !words.is_empty() {
                self.saw(name, words.join(" "));
            }
        }
    }

    /// Notes that an index holds nothing for a node, but this.
    pub(crate) fn matches_no_node(&mut self, platform: &str) {
        self.unmatched_platform = Some(short(platform));
    }

    /// `containerd` #9142, in 1.6.25 and 1.7.7.
    pub(crate) fn needs_containerd(&mut self) {
        self.warnings.push(
            "containerd before 1.6.25, and 1.7 before 1.7.7, refuses Wasm layers with `mismatched image rootfs and \
             manifest layers`"
                .into(),
        );
    }

    /// The kubelet passes containerd an empty command for an image without an entry point, and containerd refuses it.
    pub(crate) fn needs_command(&mut self) {
        if self.entrypoint.is_empty() && self.cmd.is_empty() {
            self.warnings.push(NEEDS_COMMAND.into());
        }
    }
}
