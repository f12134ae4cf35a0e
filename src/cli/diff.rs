//! `wasmgate diff`: shows what a new image, file or manifest can do that the old one could not.

mod cluster;
mod compare;
mod markdown;
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::args::{DiffFormat, DiffOptions, OutputFormat};
use super::manifest::{self, Manifest};
use super::report::{self, JudgedFacts};
use super::{Error, Exit, build, inspect, print, rehearse, shown, suggest};
use crate::admission::{Ending, Rehearsal, Skip, State};
use crate::capability::{self, Capability, Entry, required};
use crate::image::{Depth, ImageFacts, ImageKind, ModuleFacts, Program, program};
use crate::inspection::{Container, LookupResult, ProgramClass};
use crate::lookup::Inspector;
use crate::policy::EnforcementAction;
use crate::scan::unknown;
use crate::text;
use crate::watch;
use crate::workload::{self, Kind, Role};

use compare::{ComparedProgram, Difference, Pairing, Sizes, compare};

/// Compares both sides and prints what was added and removed.
pub async fn run(options: Box<DiffOptions>) -> Result<Exit, Error> {
    let settings = build::settings(&options.gate)?;
    let named = options.old.as_deref().zip(options.new.as_deref());
    if let Some((old, new)) = named {
        comparable(old, new)?;
    }
    let reader = Reader {
        state: build::state(&settings).await?,
        inspector: build::inspector(&settings)?,
        namespace: options.namespace.clone(),
        budget: Duration::from_secs(options.timeout),
    };
    let (old, new) = match named {
        Some((old, new)) => (Box::pin(reader.old(old)).await?, Box::pin(reader.side(new)).await?),
        None => Box::pin(with_cluster(reader, &options)).await?,
    };
    let differences = compare(&old, &new, pairing(named));
    match options.output {
        DiffFormat::Text => print(&shown(&render::text(&differences)))?,
        DiffFormat::Markdown => print(&shown(&markdown::markdown(&differences)))?,
        DiffFormat::Json => print(&document(&differences, OutputFormat::Json)?)?,
        DiffFormat::Yaml => print(&document(&differences, OutputFormat::Yaml)?)?,
    }
    Ok(exit(&differences))
}

/// A folder and a cluster have many objects, even where one of each side may start Wasm.
fn pairing(named: Option<(&str, &str)>) -> Pairing {
    match named {
        Some((old, new)) if ![old, new].iter().any(|side| Path::new(side).is_dir()) => Pairing::Both,
        _ => Pairing::OfOneObject,
    }
}

/// The objects of the cluster that have the names of these manifests, and the manifests; both judged by what the cluster grants.
async fn with_cluster(reader: Reader, options: &DiffOptions) -> Result<(Side, Side), Error> {
    let manifests = rehearse::manifests(&options.files)?;
    let client = watch::connect_user(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let (state, pull_secrets) = super::cluster::state(reader.state, &client).await?;
    let reader = Reader { state, inspector: reader.inspector.with_pull_secrets(pull_secrets), ..reader };
    let old = cluster::present(&client, &reader.state.kinds, &manifests, &reader.namespace).await?;
    Ok((reader.manifests(&old).await?, reader.manifests(&manifests).await?))
}

/// Refuses to compare what a manifest is handed with what an image alone can call: that would report everything as a change.
fn comparable(old: &str, new: &str) -> Result<(), Error> {
    if has_manifests(Path::new(old)) == has_manifests(Path::new(new)) {
        return Ok(());
    }
    Err(Error::CompareSides { old: old.to_string(), new: new.to_string() })
}

fn document(differences: &[Difference], output: OutputFormat) -> Result<Vec<u8>, Error> {
    let adds = differences.iter().any(Difference::adds);
    inspect::reported("DiffReport", json!({ "adds": adds, "programs": differences }), output)
}

/// The exit code. What could not be read or judged does not count as unchanged.
fn exit(differences: &[Difference]) -> Exit {
    if differences.iter().any(Difference::adds) {
        Exit::Added
    } else if differences.iter().any(Difference::is_open) {
        Exit::Unread
    } else {
        Exit::Success
    }
}

/// Reads the programs of both sides.
struct Reader {
    state: State,
    inspector: Inspector,
    namespace: String,
    budget: Duration,
}

/// The programs of a side by name.
type Side = BTreeMap<String, ComparedProgram>;

impl Reader {
    /// The old side. Its folder may be empty, since everything may be new; a new side with nothing in it is a mistake.
    async fn old(&self, target: &str) -> Result<Side, Error> {
        let path = Path::new(target);
        if path.is_dir() {
            return self.manifests(&manifest::read(&[path.to_path_buf()])?).await;
        }
        self.side(target).await
    }

    async fn side(&self, target: &str) -> Result<Side, Error> {
        let path = Path::new(target);
        if has_manifests(path) {
            return self.manifests(&rehearse::manifests(&[path.to_path_buf()])?).await;
        }
        let program = if inspect::is_wasm_file(target)? { file(path)? } else { self.image(target).await? };
        Ok([(String::new(), program)].into())
    }

    async fn manifests(&self, manifests: &[Manifest]) -> Result<Side, Error> {
        let mut side = Side::new();
        let templates = manifests.iter().flat_map(|manifest| rehearse::templates(&self.state, manifest));
        for (place, manifest) in templates {
            let namespace = manifest.namespace_or(&self.namespace).to_string();
            let rehearsal = self.rehearsed(&manifest, &namespace).await?;
            let place = if place.is_empty() { place } else { format!(" {}", text::visible(&place)) };
            let object = format!("{} {namespace}/{}{place}", manifest.kind().kind, manifest.shown_name());
            if let Some(whole) = not_judged(&rehearsal.validate.ending, &manifest) {
                side.insert(object, whole);
                continue;
            }
            side.extend(
                programs(&rehearsal)
                    .into_iter()
                    .map(|(name, program)| (format!("{object}: {name}"), program)),
            );
        }
        Ok(side)
    }

    /// The program of an image, and the denials of a pod with this container only.
    async fn image(&self, image: &str) -> Result<ComparedProgram, Error> {
        if image.starts_with("oci:") {
            let facts = self.inspector.inspect_layout(image, Depth::Layers).await?;
            return Ok(self.of_image(image, &Arc::new(facts)));
        }
        let facts =
            self.inspector.inspect(image, Depth::Layers, self.budget).await.map_err(|e| (*e).clone())?;
        let manifest = suggest::pod_of(image, &self.namespace);
        let rehearsal = self.rehearsed(&manifest, &self.namespace).await?;
        Ok(ComparedProgram { denials: Some(denials(&rehearsal, None)), ..self.of_image(image, &facts) })
    }

    /// What is compared of an image.
    fn of_image(&self, image: &str, facts: &Arc<ImageFacts>) -> ComparedProgram {
        let read = of_facts(image, facts);
        let capabilities = self.of_spin(facts).unwrap_or_else(|| read.capabilities.clone());
        ComparedProgram { capabilities, ..read }
    }

    /// What a Spin application can do in a pod with nothing else in it: the image itself says which hosts, stores and files its
    /// components are handed. `None` for other programs, of which a pod decides that, and where no profile runs applications.
    fn of_spin(&self, facts: &Arc<ImageFacts>) -> Option<Vec<Entry>> {
        let program = program::program(facts, &[], &[]);
        if !matches!(program, Program::Wasm { kind: ImageKind::SpinApp, .. }) {
            return None;
        }
        let profile = self.state.runtimes().for_kind(ImageKind::SpinApp)?;
        let name = "app".to_string();
        let pod = suggest::pod_of(&name, &self.namespace).object.to_string();
        let workload = workload::read(&pod, Kind::Pod, &self.namespace).ok()?;
        let lookup = LookupResult::Known { facts: Arc::clone(facts), program };
        let container = Container { role: Role::Container, index: 0, image: name.clone(), name, lookup };
        Some(capability::assess(&workload, &container, Some(profile)).effective)
    }

    async fn rehearsed(&self, manifest: &Manifest, namespace: &str) -> Result<Rehearsal<JudgedFacts>, Error> {
        rehearse::rehearsed(&self.state, &self.inspector, manifest, namespace, self.budget, false).await
    }
}

fn has_manifests(path: &Path) -> bool {
    path.is_dir() || path == Path::new("-") || manifest::is_manifest(path)
}

fn file(path: &Path) -> Result<ComparedProgram, Error> {
    let module = inspect::file(path)?;
    let capabilities = required::of_modules(std::slice::from_ref(&module));
    Ok(ComparedProgram { capabilities, ..of_modules(&path.display().to_string(), &[module]) })
}

fn of_facts(image: &str, facts: &ImageFacts) -> ComparedProgram {
    let starts = program::program(facts, &[], &[]);
    let capabilities = required::required(facts, &starts).into_iter().chain(native(&starts));
    ComparedProgram {
        digest: Some(facts.digest.to_string()),
        kind: Some(facts.kind),
        shape: Some(facts.shape),
        capabilities: capabilities.collect(),
        ..of_modules(image, &facts.modules)
    }
}

/// What a program that is not Wasm can do: all that native code can.
fn native(program: &Program) -> Option<Entry> {
    let what = match program {
        Program::Linux => "a Linux program",
        Program::Native { .. } => "native code",
        Program::Wasm { .. } | Program::Unknown { .. } => return None,
    };
    Some(Entry::new(Capability::NativeExec, format!("it starts {what}, which WASI does not limit")))
}

fn of_modules(image: &str, modules: &[ModuleFacts]) -> ComparedProgram {
    let sum = |of: fn(&ModuleFacts) -> u64| modules.iter().map(of).fold(0, u64::saturating_add);
    let imports = modules.iter().flat_map(|module| &module.imports).flat_map(|import| {
        // Another version of an interface is not another capability.
        let interface = import.interface.split('@').next().unwrap_or_default();
        import.functions.iter().map(move |function| format!("{interface} {function}"))
    });
    let interpreters = modules.iter().flat_map(|module| &module.interpreters);
    ComparedProgram {
        image: image.to_string(),
        imports: imports.collect(),
        interpreters: interpreters.map(|found| found.engine.name().to_string()).collect(),
        sizes: Sizes {
            binary: sum(|m| m.size_bytes),
            code: sum(|m| m.code_bytes),
            data: sum(|m| m.data_bytes),
            memory: sum(|m| m.memory_bytes),
        },
        ..ComparedProgram::default()
    }
}

/// An object that the gate left alone, where it may start something: not known if the gate cannot tell what, as in `scan`, and
/// told if it does not judge it at all.
fn not_judged(ending: &Ending<JudgedFacts>, manifest: &Manifest) -> Option<ComparedProgram> {
    let Ending::Skipped(skip) = *ending else { return None };
    let unread = |why: String| Some(ComparedProgram { unread: Some(why), ..ComparedProgram::default() });
    match skip {
        Skip::UnknownKind => unread(unknown::unknown_kind(&manifest.object)?),
        Skip::NoTemplate { .. } => {
            let at = unknown::containers_in(&manifest.object)?;
            unread(format!("{}, and there are containers at `{at}`", skip.note()))
        }
        Skip::CompletedByOthers => unread(skip.note().to_owned()),
        _ => Some(ComparedProgram { left_alone: Some(skip.note().to_owned()), ..ComparedProgram::default() }),
    }
}

/// The containers of an object by name.
fn programs(rehearsal: &Rehearsal<JudgedFacts>) -> Side {
    let Some(examined) = rehearsal.validate.ending.examined() else { return Side::new() };
    let reported = report::containers(&rehearsal.validate.ending);
    let mut side = Side::new();
    for (container, reported) in examined.inspection.containers.iter().zip(reported.iter()) {
        if !container.role.starts() {
            continue;
        }
        let is_linux = reported.found.class == ProgramClass::Linux;
        let known = container.known();
        let read = known.map_or_else(
            || ComparedProgram { image: container.image.clone(), ..ComparedProgram::default() },
            |(facts, _)| of_facts(&container.image, facts),
        );
        let capabilities: Vec<Entry> = match &reported.capabilities {
            Some(judged) if !is_linux => judged.effective.iter().map(|one| one.entry.clone()).collect(),
            _ => known.and_then(|(_, program)| native(program)).into_iter().collect(),
        };
        let unread = container.reason();
        // The rules are not asked about what may be Wasm; of what is known not to be, they say nothing.
        let asked = rehearsal.validate.ending.judged().is_some() || unread.is_none();
        let program = ComparedProgram {
            unread,
            capabilities,
            // No grant is about what is not limited.
            has_grants: !is_linux && reported.capabilities.is_some(),
            is_linux,
            denials: asked.then(|| denials(rehearsal, Some(&container.name))),
            ..read
        };
        side.insert(container.name.clone(), program);
    }
    side
}

/// The denials of the object that are about this container, or about no container in particular.
fn denials(rehearsal: &Rehearsal<JudgedFacts>, container: Option<&str>) -> BTreeSet<String> {
    let judged = rehearsal.validate.ending.judged();
    let violations = judged.iter().flat_map(|judged| &judged.judgement.verdict.violations);
    let about = |named: Option<&str>| container.is_none() || named.is_none() || named == container;
    violations
        .filter(|found| {
            found.action == EnforcementAction::Deny && about(found.violation.container.as_deref())
        })
        .map(|found| match &found.violation.capability {
            Some(capability) => format!("{} ({capability})", found.violation.rule),
            None => found.violation.rule.clone(),
        })
        .collect()
}
