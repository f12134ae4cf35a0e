//! Classifies a root file system: by the file to which the entry point leads, and by files at its root that mark whole
//! applications (`spin.toml`, `slightfile.toml`, `.wws.toml`, `plugin.wasm`).

use super::archive::Fault;
use super::entry::{self, is_root};
use super::layer::Tree;
use super::malformed::{Malformed, short};
use super::names::{PLUGIN, RUNTIME_CONFIG, SLIGHT_PROGRAM, SLIGHTFILE, SPIN_TOML, VARIABLES_FILE, WWS_TOML};
use super::size::{MAX_KEPT, too_many_names};
use super::spin::{self, manifest};
use super::{FileClass, ImageFacts, ModuleFacts, Shape, SpinApp, SpinComponent, program};

/// Most Wasm files that are listed as evidence.
const MAX_SHOWN: usize = 4;

impl ImageFacts {
    /// Adds the result of a scan. `crun` says that the manifest asks for a Wasm handler. In an ordinary image native
    /// programs are normal, and a Wasm shim recognises it by them, whatever made the gate read its layers.
    pub(crate) fn read_tree(mut self, tree: &mut Tree, crun: bool) -> Result<Self, Fault> {
        self.scanned = true;
        let files = tree.files()?;
        (self.files, self.modules, self.program_folders) =
            (files.entries, files.modules, files.program_folders);
        self.read_spin_toml(tree);
        self.shape = self.shape_of_files(crun);
        self.show_files();
        if crun && self.names_no_program() && self.has_file(PLUGIN) && !self.has_file(SPIN_TOML) {
            return Ok(self.not_startable(
                "a proxy-wasm filter in its `compat` form, which Envoy loads; it is not a program that a pod can start",
            ));
        }
        Ok(self.concluded())
    }

    fn shape_of_files(&self, crun: bool) -> Shape {
        if self.names_no_program() {
            if self.has_file(SPIN_TOML) {
                return Shape::SpinRootfs;
            }
            if self.has_file(SLIGHTFILE) && self.has_file(SLIGHT_PROGRAM) {
                return Shape::SlightRootfs;
            }
            if self.has_file(WWS_TOML) {
                return Shape::WwsRootfs;
            }
        }
        let wasm = matches!(program::own_class(self), Some(FileClass::Wasm | FileClass::Unreadable { .. }));
        match self.shape {
            Shape::LinuxRootfs if wasm && crun => Shape::CrunRootfs,
            Shape::LinuxRootfs if wasm => Shape::ScratchRootfs,
            shape => shape,
        }
    }

    /// Whether the image's own entry point is the root, or is missing.
    fn names_no_program(&self) -> bool {
        self.entrypoint.first().or(self.cmd.first()).is_none_or(|first| is_root(first))
    }

    /// Whether a kept file or link has this name.
    pub fn has_file(&self, name: &str) -> bool {
        entry::is_there(self, name)
    }

    /// Assigns every module of the application to its components; marks an unusable manifest as such.
    fn read_spin_toml(&mut self, tree: &Tree) {
        let Some(text) = tree.manifest(SPIN_TOML) else { return };
        let beside = |app: SpinApp| {
            let config = tree.manifest_at(RUNTIME_CONFIG);
            let config = config.map(|(path, text)| spin::runtime_config_of(path, text));
            let variables = tree.texts_called(VARIABLES_FILE);
            let dotenv = variables.filter_map(|(path, text)| spin::dotenv_of(path, text)).collect();
            self.attribute(SpinApp { runtime_config: config, dotenv, ..app })
        };
        let message = match manifest::parse(text).and_then(beside) {
            Ok(app) => {
                self.spin = Some(app);
                return;
            }
            Err(malformed) => malformed.0,
        };
        self.spin = None;
        let place = self.files.binary_search_by(|(name, _)| name.as_str().cmp(SPIN_TOML));
        match place {
            Ok(at) => {
                if let Some((_, class)) = self.files.get_mut(at) {
                    *class = FileClass::Unreadable { message };
                }
            }
            Err(at) => self.files.insert(at, (SPIN_TOML.into(), FileClass::Unreadable { message })),
        }
    }

    /// Follows links to the modules, so that the application names them as the scan does, and copies each module for
    /// the components that run it. The copies are counted before they are made.
    fn attribute(&mut self, mut app: SpinApp) -> Result<SpinApp, Malformed> {
        spin::check_uses(&app)?;
        for component in &mut app.components {
            self.follow(component)?;
        }
        let sizes = self.modules.iter().map(|module| spin::size_for_all_owners(&app, module));
        if sizes.fold(0, usize::saturating_add) > MAX_KEPT {
            return Err(Malformed::new(too_many_names()));
        }
        let modules = std::mem::take(&mut self.modules);
        self.modules = modules.into_iter().flat_map(|module| spin::for_each_owner(&app, module)).collect();
        match spin::refusal(&self.modules, &app) {
            Some(why) => Err(Malformed::new(why)),
            None => Ok(app),
        }
    }

    /// Replaces the paths of a component's modules by those to which they lead, and keeps the paths that lead over links.
    fn follow(&self, component: &mut SpinComponent) -> Result<(), Malformed> {
        let SpinComponent { id, digest, inherited, isolated, ways, .. } = component;
        for source in digest.iter_mut().chain(inherited).chain(isolated) {
            let at = match entry::find(self, source) {
                Some((at, FileClass::Wasm)) => at.to_string(),
                Some((at, FileClass::Unreadable { message })) => {
                    return Err(Malformed::new(format!("`{}`: {message}", short(at))));
                }
                _ => {
                    return Err(Malformed::new(format!(
                        "component `{id}` names `{}`, which is not a Wasm file of the image",
                        short(source)
                    )));
                }
            };
            if at != *source {
                ways.push(std::mem::replace(source, at));
            }
        }
        Ok(())
    }

    fn show_files(&mut self) {
        let found: Vec<(String, String)> = self
            .modules
            .iter()
            .take(MAX_SHOWN)
            .map(|module| (format!("file {}", module.source), described(module)))
            .collect();
        for (seen, value) in found {
            self.saw(seen, value);
        }
        for (name, what) in [
            (SPIN_TOML, "the manifest of a Spin application"),
            (SLIGHTFILE, "the manifest of a slight application"),
            (WWS_TOML, "the manifest of a Wasm Workers Server"),
        ] {
            if self.has_file(name) {
                let app = self.spin.as_ref().filter(|_| name == SPIN_TOML).map(spin::describe);
                self.saw(format!("file {name}"), app.unwrap_or_else(|| what.to_string()));
            }
        }
    }
}

/// Format and imported interfaces of a binary, in one line.
pub(crate) fn described(facts: &ModuleFacts) -> String {
    let what = match facts.format {
        super::WasmFormat::Module => "a core module",
        super::WasmFormat::Component => "a component",
    };
    let names: Vec<&str> = facts.imports.iter().map(|import| import.interface.as_str()).collect();
    if names.is_empty() { what.to_string() } else { short(&format!("{what}, imports {}", names.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, WasmFormat, module};

    #[test]
    fn a_module_is_named_by_its_file_and_the_links_on_the_way_are_kept() {
        let digest = Digest::of(b"image");
        let mut facts = ImageFacts::blank(&digest, &digest);
        let link = FileClass::Link { target: "/real/y.wasm".into() };
        facts.files = vec![("/l/x.wasm".into(), link), ("/real/y.wasm".into(), FileClass::Wasm)];
        let binary = wat::parse_str(r#"(module (func (export "f") nop))"#).unwrap();
        facts.modules = vec![module::read(&binary, "/real/y.wasm").unwrap()];
        let component = |source: &str| SpinComponent {
            id: "a".into(),
            digest: Some(source.into()),
            isolated: vec![source.into()],
            ..SpinComponent::default()
        };
        let app = SpinApp { components: vec![component("/l/x.wasm")], ..SpinApp::default() };
        let component_of = |app: SpinApp| app.components.into_iter().next().unwrap();
        let found = component_of(facts.attribute(app).unwrap());
        assert_eq!(found.digest.as_deref(), Some("/real/y.wasm"));
        assert_eq!(
            (found.isolated, found.ways),
            (vec!["/real/y.wasm".into()], vec!["/l/x.wasm".to_string(); 2])
        );
        let app = SpinApp { components: vec![component("/real/y.wasm")], ..SpinApp::default() };
        assert_eq!(component_of(facts.attribute(app).unwrap()).ways, Vec::<String>::new());
        let app = SpinApp { components: vec![component("/none.wasm")], ..SpinApp::default() };
        assert!(facts.attribute(app).unwrap_err().0.contains("`/none.wasm`"));
    }

    #[test]
    fn the_names_that_a_module_exports_count_for_each_component_that_runs_it() {
        let digest = Digest::of(b"image");
        let module = ModuleFacts {
            // They take 1 064 000 bytes.
            exports: (0..1000).map(|n| format!("{n:01000}")).collect(),
            code_bytes: 1,
            ..ModuleFacts::blank("/app.wasm", WasmFormat::Module)
        };
        let with = |count: usize| {
            let component = |n: usize| SpinComponent {
                id: format!("c{n}"),
                digest: Some("/app.wasm".into()),
                ..SpinComponent::default()
            };
            let app = SpinApp { components: (0..count).map(component).collect(), ..SpinApp::default() };
            let mut facts = ImageFacts::blank(&digest, &digest);
            facts.files = vec![("/app.wasm".into(), FileClass::Wasm)];
            facts.modules = vec![module.clone()];
            (facts.attribute(app).map(|app| app.components.len()), facts.modules.len())
        };
        assert_eq!(with(7), (Ok(7), 7));
        assert_eq!(with(8), (Err(Malformed::new(too_many_names())), 1), "none was made");
    }
}
