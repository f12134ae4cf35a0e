//! Looks up the images of a pod, and says what each container starts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::heavy;
use super::mounted::without_files;
use super::state::State;
use crate::image::annotation::crun_annotation;
use crate::image::entry::needs_layers;
use crate::image::{Depth, ImageFacts, Program};
use crate::inspection::{Container, Inspection, LookupResult};
use crate::lookup::{self, Inspector, LookupBudget};
use crate::plan::placement;
use crate::registry::Puller;
use crate::runtime::Family;
use crate::workload::{ImageUse, Workload};

/// How the images of a pod are looked at.
#[derive(Debug, Clone, Copy)]
struct Looking {
    /// The family of the runtime. Without one it is the program that the image's config names, or under a class what any runtime may
    /// start.
    family: Option<Family>,
    /// Whether the layers of images are read that nothing calls Wasm.
    deep: bool,
}

/// Looks up all images of the workload concurrently. A pod that will be placed on a Wasm runtime is inspected as if it
/// were placed already: including the files of its ordinary images, and with the programs that its runtime starts. So
/// a second call gives the same result.
pub async fn inspect(
    state: &State,
    inspector: &Inspector,
    workload: &Workload,
    budget: Duration,
) -> Inspection {
    let started = Instant::now();
    let class = workload.spec.runtime_class_name.as_deref();
    if let Some(profile) = class.and_then(|class| state.profile_of(class)) {
        let looking = Looking { family: Some(profile.ambient), deep: true };
        return without_files(profile, look_at_all(inspector, workload, looking, None, budget).await);
    }
    // An annotation asks crun or youki for a Wasm handler, whatever the image says.
    let deep = crun_annotation(&workload.annotations).is_some();
    let looking = Looking { family: None, deep };
    let mut found = look_at_all(inspector, workload, looking, None, budget).await;
    if !found.has_wasm() {
        return found;
    }
    if !deep {
        let left = budget.saturating_sub(started.elapsed());
        found = look_at_all(inspector, workload, Looking { deep: true, ..looking }, Some(&found), left).await;
    }
    match placement::expected(&found, &state.plan_context()) {
        Some(profile) if class.is_none() => {
            under(profile.ambient, found, workload, budget.saturating_sub(started.elapsed())).await
        }
        _ => found,
    }
}

/// The inspection with the programs that a runtime of this family starts.
async fn under(
    family: Family,
    mut inspection: Inspection,
    workload: &Workload,
    budget: Duration,
) -> Inspection {
    let facts = inspection.containers.iter().map(|container| container.facts().cloned());
    let programs = heavy::programs(workload, Some(family), facts.collect(), budget).await;
    for (container, starts) in inspection.containers.iter_mut().zip(programs) {
        if let (LookupResult::Known { program, .. }, Some(starts)) = (&mut container.lookup, starts) {
            *program = starts;
        }
    }
    inspection
}

/// Looks up all images, and says what a runtime starts from each. `before` is what was found for the same family.
async fn look_at_all(
    inspector: &Inspector,
    workload: &Workload,
    Looking { family, deep }: Looking,
    before: Option<&Inspection>,
    budget: Duration,
) -> Inspection {
    let begin = Instant::now();
    let images = workload.images();
    let found = match remembered(inspector, &images, deep).await {
        Some(known) => known.into_iter().map(Ok).collect(),
        // On the heap, so that images that are known do not move the space for it.
        None => Box::pin(look_up(inspector, workload, &images, deep, budget)).await,
    };
    let facts = found.iter().map(|found| found.as_ref().ok().cloned()).collect::<Vec<_>>();
    let programs = match before.and_then(|before| programs_of(before, &facts)) {
        Some(programs) => programs,
        None => heavy::programs(workload, family, facts, budget.saturating_sub(begin.elapsed())).await,
    };
    let containers = images.iter().zip(found).zip(programs).map(|((image, found), starts)| Container {
        role: image.role,
        index: image.index,
        name: image.name.to_string(),
        image: image.image.to_string(),
        lookup: match found {
            Ok(facts) => LookupResult::Known { facts, program: starts.unwrap_or_else(heavy::undecided) },
            Err(error) => LookupResult::Unread { error },
        },
    });
    Inspection { containers: containers.collect() }
}

/// What memory knows about all images; `None` where there is one of which it does not know enough. As a rule it knows all of them, and there
/// is nothing to wait for.
async fn remembered(
    inspector: &Inspector,
    images: &[ImageUse<'_>],
    deep: bool,
) -> Option<Vec<Arc<ImageFacts>>> {
    let mut found = Vec::with_capacity(images.len());
    for image in images {
        found.push(inspector.remembered(image.image, depth_of(image, deep)).await?);
    }
    inspector.count_found(found.len());
    Some(found)
}

/// Looks up all images at the same time.
async fn look_up(
    inspector: &Inspector,
    workload: &Workload,
    images: &[ImageUse<'_>],
    deep: bool,
    budget: Duration,
) -> Vec<Result<Arc<ImageFacts>, Arc<lookup::Error>>> {
    let puller = puller(workload);
    let looks = images.iter().map(|image| look(inspector, image, &puller, deep, budget));
    futures::future::join_all(looks).await
}

/// What an earlier inspection of the same pod found to start; `None` where it went by other facts.
fn programs_of(before: &Inspection, facts: &[Option<Arc<ImageFacts>>]) -> Option<Vec<Option<Program>>> {
    let each =
        before.containers.iter().zip(facts).map(|(container, facts)| match (&container.lookup, facts) {
            (LookupResult::Known { facts: own, program }, Some(facts)) if Arc::ptr_eq(own, facts) => {
                Some(Some(program.clone()))
            }
            (LookupResult::Unread { .. }, None) => Some(None),
            _ => None,
        });
    each.collect::<Option<Vec<_>>>().filter(|programs| programs.len() == facts.len())
}

/// The pod and account whose pull secrets may be used for the images.
pub fn puller(workload: &Workload) -> Puller {
    let secrets = workload.spec.image_pull_secrets.iter().flatten();
    Puller {
        namespace: workload.namespace.clone(),
        pull_secrets: secrets.map(|secret| secret.name.clone()).collect(),
        service_account: workload.service_account().to_owned(),
    }
}

async fn look(
    inspector: &Inspector,
    image: &ImageUse<'_>,
    puller: &Puller,
    deep: bool,
    budget: Duration,
) -> Result<Arc<ImageFacts>, Arc<lookup::Error>> {
    let depth = depth_of(image, deep);
    // Nothing suggests that this pod has to do with Wasm, so it must not wait for a registry that hangs.
    let doubtful = !deep && depth == Depth::Config;
    let budget = if doubtful { LookupBudget::doubtful(budget) } else { budget.into() };
    inspector.inspect_for(image.image, depth, budget, puller).await
}

/// How deep an image is looked at.
fn depth_of(image: &ImageUse<'_>, deep: bool) -> Depth {
    if image.role.starts() && (deep || starts_wasm_file(image)) { Depth::Layers } else { Depth::Config }
}

/// Whether the pod's own command names a Wasm file, which the image's config would not show.
fn starts_wasm_file(image: &ImageUse<'_>) -> bool {
    image.command.first().or_else(|| image.args.first()).is_some_and(|first| needs_layers(first))
}
