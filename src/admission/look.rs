//! Looks up the images of a pod, and says what each container starts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::heavy;
use crate::image::entry::needs_layers;
use crate::image::{Depth, ImageFacts, Program};
use crate::inspection::{Container, Inspection, LookupResult};
use crate::lookup::{self, Inspector, LookupBudget};
use crate::registry::Puller;
use crate::runtime::Family;
use crate::workload::{ImageUse, Role, Workload};

/// How the images of a pod are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looking {
    /// The family of the runtime. Without one it is the program that the image's config names, or under a class what any runtime may
    /// start.
    pub family: Option<Family>,
    /// Whether the layers of images are read that nothing calls Wasm.
    pub deep: bool,
}

/// Looks up all images, and says what a runtime starts from each. `before` is what was found for the same family.
pub(super) async fn look_at_all(
    inspector: &Inspector,
    workload: &Workload,
    Looking { family, deep }: Looking,
    before: Option<&Inspection>,
    budget: Duration,
) -> Inspection {
    let begin = Instant::now();
    let images = workload.images();
    let puller = puller(workload);
    let looks = images.iter().map(|image| look(inspector, image, &puller, deep, budget));
    let found = futures::future::join_all(looks).await;
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
fn puller(workload: &Workload) -> Puller {
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
    let depth = if image.role != Role::ImageVolume && (deep || starts_wasm_file(image)) {
        Depth::Layers
    } else {
        Depth::Config
    };
    // Nothing suggests that this pod has to do with Wasm, so it must not wait for a registry that hangs.
    let doubtful = !deep && depth == Depth::Config;
    let budget = if doubtful { LookupBudget::doubtful(budget) } else { budget.into() };
    inspector.inspect_for(image.image, depth, budget, puller).await
}

/// Whether the pod's own command names a Wasm file, which the image's config would not show.
fn starts_wasm_file(image: &ImageUse<'_>) -> bool {
    image.command.first().or_else(|| image.args.first()).is_some_and(|first| needs_layers(first))
}
