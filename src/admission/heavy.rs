//! Work that takes time in proportion to a pod and its images. It is done beside the threads that answer
//! reviews, at few places, and where it is much at fewer. The pods of one namespace never hold all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::started::{Spec, mounts_of, started};
use super::state::Error;
use crate::image::entry::{KUBELET_MOUNTS, SEARCH_PATH, Variable};
use crate::image::mounts::Mounts;
use crate::image::{Cause, FileClass, ImageFacts, Program, Reason, path, program};
use crate::inspection::{self, Container, Inspection};
use crate::policy::{PolicySet, Turn};
use crate::runtime::Family;
use crate::shares::{self, Share, Shares};
use crate::workload::{ContainerSpec, ImageUse, Role, Workload};

/// Largest [`weight`] that is worked off on the thread of the review: less than ten milliseconds in the largest image.
/// Pods of real clusters have a few hundred each container.
const LIGHT: usize = 16 << 10;

/// What a step along the path of a mount counts. A mount of a real pod takes about ten.
const STEP: usize = 8;

/// The same in an image of few files.
const STEP_IN_A_SMALL_IMAGE: usize = 2;

/// What a source of Spin's `files` counts. Applications have a few.
const LINKS_OF_A_SOURCE: usize = 64;

/// What such a source counts, beside its own parts, those of the working directory, and the links on its way.
const STEPS_OF_A_SOURCE: usize = 16;

/// How many links on the way of a source count, each with as many folders as the longest target of the image may have. The kernel follows four times as many, which no
/// image has on purpose: then the work of a pod takes longer, and ends all the same.
const LINKS_ON_A_WAY: usize = 10;

/// What a variable counts, or another name that an application hands over: it becomes an entry with its evidence.
const NAME: usize = 8;

/// Bytes of values and arguments that count as one: they are gone through and not kept.
const SCANNED: usize = 64;

/// Files of an image with Wasm that count as one. What its program is handed is found in up to four walks through all of them for each container: for plug-ins, modules
/// of glibc, the choice of those, and programs. That takes a file some 150 ns, so that as many files as are light, 65,536 with one container, take ten milliseconds.
const FILES_WITH_WASM: usize = 4;

/// The same of an image without Wasm, which is walked through once or twice by what the files are: some 15 ns each. Images of real clusters have some thousand
/// files that are kept, so that ten containers of 4,000 each count 1,250, less than a tenth of [`LIGHT`].
const FILES: usize = 32;

/// So much of what files count is a step of [`MOST_STEPS`].
const FILES_OF_A_STEP: usize = 4;

/// Most steps along mounts and sources, names that are handed over, and files and volumes that containers go through, of one pod in whatever image: those of eight thousand
/// mounts, or of four hundred containers, or half a million variables, or of forty containers of the largest image with Wasm. So its work has an end, and with it what is remembered of its mounts.
const MOST_STEPS: usize = 1 << 19;

/// How many pods whose mounts take long to follow are followed at a time.
pub const HEAVY_PLACES: u32 = 2;

/// How long before the time of a review ends that of its rules does, and that of its wait for a place, so that the answer can say what took it.
pub(super) const BEFORE_THE_END: Duration = Duration::from_millis(10);

/// Why it is not known what starts where others had all places until the time was over.
const NO_PLACE: &str =
    "there was no place in time to follow the paths of the pod through the files of the image; add replicas";

/// Where heavy work is done. A namespace holds at most half of the places, and waits in line with the other namespaces, not with
/// all of their pods, however many it has itself.
static PLACES: LazyLock<Shares> = LazyLock::new(|| Shares::new(HEAVY_PLACES));

/// Where work is done that is little, so many at a time for each processor, as for evaluations (`policy::lanes`). Each is on a thread of its own meanwhile:
/// without a bound, those of all reviews at once would leave the threads that read and answer next to nothing of the processors.
const LIGHT_PLACES_PER_PROCESSOR: usize = 2;

/// The places for little work, [`LIGHT_PLACES_PER_PROCESSOR`] for each processor.
static LIGHT_PLACES: LazyLock<Shares> = LazyLock::new(|| Shares::new(light_places()));

fn light_places() -> u32 {
    u32::try_from(LIGHT_PLACES_PER_PROCESSOR.saturating_mul(shares::processors())).unwrap_or(u32::MAX)
}

/// What each container starts, in the order of [`Workload::images`]; `None` where there are no facts. The pod spec decides
/// how a container starts, and its paths are followed through the files of an image. Where that is much, it is done on a
/// thread of its own, until the budget ends.
pub(super) async fn programs(
    workload: &Workload,
    family: Option<Family>,
    facts: Vec<Option<Arc<ImageFacts>>>,
    budget: Duration,
) -> Vec<Option<Program>> {
    programs_at(&PLACES, workload, family, facts, budget).await
}

async fn programs_at(
    places: &Shares,
    workload: &Workload,
    family: Option<Family>,
    facts: Vec<Option<Arc<ImageFacts>>>,
    budget: Duration,
) -> Vec<Option<Program>> {
    let nothing_to_follow = facts.iter().all(Option::is_none);
    if nothing_to_follow || is_light(workload, &facts) {
        return all(workload, family, &facts, None);
    }
    let begin = Instant::now();
    let deadline = begin + budget;
    let Ok(place) = tokio::time::timeout(budget, place_of(places, workload)).await else {
        return of_each(&facts, no_place);
    };
    let waited = begin.elapsed();
    let had_to_wait = place.as_ref().is_some_and(Share::has_waited);
    // As with an evaluation: where less is left than it has waited, and that is not enough, the load is the reason.
    let late: fn() -> Program =
        if had_to_wait && waited > budget.saturating_sub(waited) { no_place } else { undecided };
    let (workload, known) = (workload.clone(), facts.clone());
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        all(&workload, family, &known, Some((deadline, late)))
    });
    work.await.unwrap_or_else(|_| of_each(&facts, undecided))
}

/// The same for each image of which there are facts.
fn of_each(facts: &[Option<Arc<ImageFacts>>], starts: fn() -> Program) -> Vec<Option<Program>> {
    facts.iter().map(|facts| facts.as_ref().map(|_| starts())).collect()
}

/// Work in proportion to a pod and its images. How much it is, is found once for all that is done about the pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'w> {
    workload: &'w Workload,
    /// Whether it is little. It is not looked at where no other thread goes on with the tasks of this one: all is done at once there.
    is_light: bool,
}

impl<'w> Work<'w> {
    /// The work that a pod is with what was found of its images.
    pub fn of(workload: &'w Workload, inspection: &Inspection) -> Self {
        let is_light = !shares::has_other_threads() || is_light_with(workload, inspection);
        Self { workload, is_light }
    }

    /// Does such work, with this much time `left` to its review. Other tasks of this thread go on elsewhere meanwhile, however little the work seems to be:
    /// what is counted wrong costs its own review time, and no other. It waits for a place nearly as long as its review may. Where it gets none in time the work is
    /// not done, and nothing is known of the pod ([`Error::NoPlace`]).
    ///
    /// A large body takes turns (`server::under_way`). Much work gives its turn back: its place is bound enough, and every other large body would wait for it,
    /// whatever its namespace. Little work is bounded by the turn, and takes no place beside it: it would hold that while it waits for its next turn.
    pub async fn beside<T>(self, left: Duration, work: impl FnOnce() -> T) -> Result<T, Error> {
        let _place = self.place_among(&PLACES, &LIGHT_PLACES, left).await?;
        if !self.is_light {
            shares::give_back_turn();
        }
        Ok(shares::beside(work))
    }

    /// A place among those for much work or for little. `None` where it needs none.
    async fn place_among(
        self,
        much: &Shares,
        little: &Shares,
        left: Duration,
    ) -> Result<Option<Share>, Error> {
        let wait = left.saturating_sub(BEFORE_THE_END);
        let place = if !self.is_light {
            tokio::time::timeout(wait, place_of(much, self.workload)).await
        } else if shares::has_turn() || !shares::has_other_threads() {
            return Ok(None);
        } else {
            tokio::time::timeout(wait, light_place_of(little, self.workload, left)).await
        };
        place.map_err(|_elapsed| Error::NoPlace)
    }

    /// The turn of a review to make the input of its rules and to run them in one go, as [`Self::beside`] does work. `None` where the one is much
    /// work, where bundles run on threads of their own, or where no other thread goes on with the tasks of this one. It is waited for no longer than what is
    /// `left` to the review.
    pub async fn turn(self, policies: &PolicySet, object_bytes: usize, left: Duration) -> Option<Turn<'_>> {
        if !shares::has_other_threads() || !self.is_light {
            return None;
        }
        let turn = policies.turn(&self.workload.namespace, object_bytes, left).await?;
        // That of a large body, of which the former object may be the larger part: rules may run as long as their limits let them.
        shares::give_back_turn();
        Some(turn)
    }
}

/// Whether what is found of a pod takes little work.
pub(super) fn is_light_with(workload: &Workload, inspection: &Inspection) -> bool {
    let known = inspection.containers.iter().map(|container| container.facts().cloned());
    is_light(workload, &known.collect::<Vec<_>>())
}

/// Whether what is written in the pod alone takes little work: its images may make it more.
pub(super) fn is_light_before_look_up(workload: &Workload) -> bool {
    is_light(workload, &vec![None; workload.images().len()])
}

/// Waits for a place among those for little work, if other threads do such work at the same time. Where there is more of it than can be done in time, the newest
/// comes first.
async fn light_place_of(places: &Shares, workload: &Workload, left: Duration) -> Option<Share> {
    if !shares::has_other_threads() {
        return None;
    }
    let deadline = tokio::time::Instant::now().checked_add(left);
    places.take_by(&workload.namespace.as_str().into(), 1, deadline).await
}

/// Waits for a place.
async fn place_of(places: &Shares, workload: &Workload) -> Option<Share> {
    places.take(&workload.namespace.as_str().into(), 1).await
}

/// Takes all places, as two other namespaces might.
#[cfg(test)]
pub(super) async fn take_all() -> Vec<Option<Share>> {
    let (one, other) = ("one".into(), "other".into());
    vec![PLACES.take(&one, 1).await, PLACES.take(&other, 1).await]
}

fn all(
    workload: &Workload,
    family: Option<Family>,
    facts: &[Option<Arc<ImageFacts>>],
    deadline: Option<(Instant, fn() -> Program)>,
) -> Vec<Option<Program>> {
    let late = || deadline.filter(|(end, _)| Instant::now() > *end).map(|(_, starts)| starts());
    let mut left = MOST_STEPS;
    let one = |(image, facts): (ImageUse<'_>, &Option<Arc<ImageFacts>>)| {
        let facts = facts.as_ref()?;
        let Some(after) = left.checked_sub(most_steps(workload, &image, facts)) else {
            return Some(crowded());
        };
        left = after;
        if let Some(late) = late() {
            return Some(late);
        }
        // Here no thread that answers waits for it, and the next pod of the image is light by that.
        if deadline.is_some() {
            facts.sort_by_name();
        }
        Some(started(workload, &image, family, facts))
    };
    workload.images().into_iter().zip(facts).map(one).collect()
}

/// Most steps that a container takes along its mounts and through the volumes of its pod.
fn most_steps(workload: &Workload, image: &ImageUse<'_>, facts: &ImageFacts) -> usize {
    let volumes = workload.spec.volumes.iter().flatten().count();
    let container = workload.container(image.role, image.index).unwrap_or_default();
    // Beside those of the pod: the token and the termination log.
    let mounts = container.mounts.len() + container.devices.len() + KUBELET_MOUNTS.len() + 2;
    Mounts::most_steps(facts, mounts)
        .saturating_add(volumes)
        .saturating_add(handed_names(container, Some(facts)))
        .saturating_add(source_steps(image, facts))
        .saturating_add(files_gone_through(image, facts) / FILES_OF_A_STEP)
}

/// What it counts that a container goes through all files of its image. An image volume starts nothing.
fn files_gone_through(image: &ImageUse<'_>, facts: &ImageFacts) -> usize {
    if !image.role.starts() {
        return 0;
    }
    let is_linux = facts.modules.is_empty() && facts.spin.is_none();
    facts.files.len() / if is_linux { FILES } else { FILES_WITH_WASM }
}

/// What it counts that searches sort the files of images which none has sorted: each file takes less than a microsecond in the largest image,
/// and each image is sorted once, however many containers have it.
fn files_to_sort(workload: &Workload, facts: &[Option<Arc<ImageFacts>>]) -> usize {
    let images = workload.images();
    let started = images.iter().zip(facts).filter(|(image, _)| image.role.starts());
    let unsorted = started.filter_map(|(_, facts)| facts.as_ref()).filter(|facts| !facts.is_sorted_by_name());
    let each: BTreeMap<_, _> = unsorted.map(|facts| (Arc::as_ptr(facts), facts.files.len())).collect();
    each.into_values().fold(0, usize::saturating_add)
}

/// Most steps along the sources of Spin's `files`, each of which is looked for below the root and in the working directory. An image chooses how many
/// there are and how deep that is; one that is too long to be followed is no step.
fn source_steps(image: &ImageUse<'_>, facts: &ImageFacts) -> usize {
    let components = facts.spin.iter().flat_map(|app| &app.components);
    let mut sources = components.flat_map(|component| &component.sources).peekable();
    if sources.peek().is_none() {
        return 0;
    }
    let folders = [image.working_dir, Some(facts.working_dir.as_str())].into_iter().flatten();
    let folders = folders.filter(|folder| folder.len() <= path::MAX_LENGTH);
    let parts = folders.map(|folder| folder.split('/').count()).max().unwrap_or_default();
    let targets = facts.files.iter().filter_map(|(_, class)| match class {
        FileClass::Link { target } => Some(target.len() / 2 + 1),
        _ => None,
    });
    let links = targets.max().unwrap_or_default().saturating_mul(LINKS_ON_A_WAY);
    let each = links.saturating_add(parts).saturating_add(STEPS_OF_A_SOURCE);
    sources.map(|source| each.saturating_add(source.len())).fold(0, usize::saturating_add)
}

/// What starts was not found out in time.
pub(super) fn undecided() -> Program {
    program::unknown(
        "following the paths of the pod through the files of the image took longer than the review may; shorten `command`, \
         `workingDir`, `PATH` and the mount paths",
    )
}

/// Nor was it begun in time, since others had the places.
fn no_place() -> Program {
    Program::Unknown { reason: Reason::of_load(NO_PLACE) }
}

/// Whether it is not known what a container starts because there was no place in time to find it out. In a pod that is not known to have to do with Wasm
/// (`is_concerned`) a container counts whose image suggests it.
pub(super) fn had_no_place(inspection: &Inspection, is_concerned: bool) -> bool {
    let open = inspection.containers.iter().filter(|container| container.is_open());
    open.filter_map(Container::known).any(|(facts, program)| {
        matches!(program, Program::Unknown { reason } if reason.cause() == Cause::Load)
            && (is_concerned || facts.suggests_wasm())
    })
}

/// What starts is not looked for.
fn crowded() -> Program {
    program::unknown(
        "the pod has more containers, volumes, variables, mounts and sources of Spin's `files` than are followed through the files of images; \
         split it into several",
    )
}

fn is_light(workload: &Workload, facts: &[Option<Arc<ImageFacts>>]) -> bool {
    most_weight(workload, facts).is_some_and(|most| most <= LIGHT) || weight(workload, facts) <= LIGHT
}

/// How much there is to follow at most, found without following anything; `None` where an image has links or many files. In a small
/// image a step takes a small part of what it takes in the largest, and counts less.
fn most_weight(workload: &Workload, facts: &[Option<Arc<ImageFacts>>]) -> Option<usize> {
    let to_sort = files_to_sort(workload, facts);
    workload.images().iter().zip(facts).try_fold(to_sort, |sum, (image, facts)| {
        let steps = match facts {
            Some(facts) if image.role.starts() => {
                let container = workload.container(image.role, image.index).unwrap_or_default();
                let is_ephemeral = image.role == Role::EphemeralContainer;
                let paths = inspection::mount_paths(&workload.spec, &container, is_ephemeral);
                Mounts::steps_without_links(facts, paths)?
            }
            _ => 0,
        };
        let written = searched(workload, image, facts.as_deref());
        Some(sum.saturating_add(written).saturating_add(steps.saturating_mul(STEP_IN_A_SMALL_IMAGE)))
    })
}

/// How much there is to follow: bytes of paths, counted as often as they are followed, steps along mounts, names that are handed
/// over, and volumes and files of its image, which every container goes through.
fn weight(workload: &Workload, facts: &[Option<Arc<ImageFacts>>]) -> usize {
    let images = workload.images();
    let written = images.iter().zip(facts).map(|(image, facts)| searched(workload, image, facts.as_deref()));
    let written = written.fold(files_to_sort(workload, facts), usize::saturating_add);
    let known = images.iter().zip(facts).filter(|(image, _)| image.role.starts());
    known.fold(written, |sum, (image, facts)| match facts {
        // What is left bounds the steps that are taken to count them.
        Some(facts) if sum <= LIGHT => {
            let left = (LIGHT - sum) / STEP + 1;
            sum + STEP * Mounts::steps(facts, &mounts_of(workload, image), left)
        }
        _ => sum,
    })
}

/// How much there is to search for one container: bytes of paths, as often as they are followed, without the steps along its mounts.
fn searched(workload: &Workload, image: &ImageUse<'_>, facts: Option<&ImageFacts>) -> usize {
    let spec = Spec(workload.container(image.role, image.index).unwrap_or_default());
    let own = |list: fn(&ImageFacts) -> &[String]| facts.and_then(|facts| list(facts).first());
    let names = [image.command.first(), image.args.first(), own(|f| &f.entrypoint), own(|f| &f.cmd)];
    let name = names.into_iter().flatten().map(String::len).sum::<usize>();
    let folder = image.working_dir.map_or(0, str::len) + facts.map_or(0, |facts| facts.working_dir.len());
    let written = match spec.variable("PATH") {
        Variable::Literal(path) => path,
        Variable::Unset | Variable::Elsewhere => "",
    };
    let path = [Some(written), facts.and_then(|facts| facts.search_path.as_deref())];
    let (folders, bytes) = path.iter().flatten().fold((SEARCH_PATH.len(), 0), |(folders, bytes), path| {
        (folders + path.split(':').count(), bytes + path.len())
    });
    let components = facts.and_then(|facts| facts.spin.as_ref()).into_iter().flat_map(|app| &app.components);
    let sources: usize = components.map(|component| component.sources.len()).sum();
    let volumes = workload.spec.volumes.iter().flatten().count();
    let searched = folders.saturating_mul(name.saturating_add(folder)).saturating_add(bytes);
    let handed =
        NAME.saturating_mul(handed_names(spec.0, facts)).saturating_add(written_bytes(spec.0) / SCANNED);
    let files = facts.map_or(0, |facts| files_gone_through(image, facts));
    searched
        .saturating_add(files)
        .saturating_add(sources.saturating_mul(LINKS_OF_A_SOURCE.saturating_add(folder)))
        .saturating_add(volumes)
        .saturating_add(handed)
}

/// Number of variables of a container and of its image, and of the names that its application hands over.
fn handed_names(container: ContainerSpec<'_>, facts: Option<&ImageFacts>) -> usize {
    let components = facts.and_then(|facts| facts.spin.as_ref()).into_iter().flat_map(|app| &app.components);
    let handed: usize = components.map(|component| 1 + component.handed()).sum();
    let of_image = facts.map_or(0, |facts| facts.env.len());
    container.env.len() + container.env_from.len() + of_image + handed
}

/// Bytes of the values and arguments that the kubelet expands.
fn written_bytes(container: ContainerSpec<'_>) -> usize {
    let values = container.env.iter().filter_map(|variable| variable.value.as_ref());
    values.chain(container.command).chain(container.args).map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Context;

    use futures::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::image::{Digest, ModuleFacts, Shape, SpinApp, SpinComponent, WasmFormat};
    use crate::inspection::LookupResult;
    use crate::policy::{Bundle, Engine, Limits};
    use crate::shares::Line;
    use crate::workload::{self, Kind};

    fn pod(namespace: &str, spec: &serde_json::Value) -> Workload {
        let object = json!({ "metadata": { "name": "a" }, "spec": spec }).to_string();
        workload::read(&object, Kind::Pod, namespace).unwrap()
    }

    /// A pod of these containers, each with so many mounts.
    fn with_mounts(namespace: &str, containers: usize, mounts: usize) -> Workload {
        let mounts: Vec<_> = (0..mounts)
            .map(|n| json!({ "name": "data", "mountPath": format!("/var/lib/app/conf.d/{n}.json") }))
            .collect();
        let container = |n: usize| json!({ "name": format!("c{n}"), "image": "a", "command": ["/app.wasm"], "volumeMounts": mounts });
        let containers: Vec<_> = (0..containers).map(container).collect();
        let volumes = json!([{ "name": "data", "configMap": { "name": "data" } }]);
        pod(namespace, &json!({ "containers": containers, "volumes": volumes }))
    }

    /// The same facts for all, with these links.
    fn image(workload: &Workload, links: &[(&str, &str)]) -> Vec<Option<Arc<ImageFacts>>> {
        let digest = Digest::of(b"");
        let mut module = ModuleFacts::blank("/app.wasm", WasmFormat::Module);
        module.exports = ["_start".to_string()].into();
        let link = |(name, target): &(&str, &str)| {
            ((*name).to_string(), FileClass::Link { target: (*target).to_string() })
        };
        let mut files: Vec<_> = links.iter().map(link).collect();
        files.push(("/app.wasm".into(), FileClass::Wasm));
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        let facts = ImageFacts {
            files,
            scanned: true,
            shape: Shape::ScratchRootfs,
            modules: vec![module],
            ..ImageFacts::blank(&digest, &digest)
        };
        vec![Some(Arc::new(facts)); workload.images().len()]
    }

    const FAMILY: Option<Family> = Some(Family::RunwasiWasmtime);
    const AMPLE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn heavy_pods_start_what_light_ones_do_and_end_in_time() {
        let light = with_mounts("shop", 1, 1);
        let facts = image(&light, &[]);
        assert!(weight(&light, &facts) < LIGHT);
        let expected = programs(&light, FAMILY, facts, Duration::ZERO).await;
        assert!(matches!(&expected[0], Some(Program::Wasm { .. })), "{expected:?}");
        let heavy = with_mounts("shop", 20, 200);
        let facts = image(&heavy, &[]);
        assert!(weight(&heavy, &facts) > LIGHT);
        let started = programs(&heavy, FAMILY, facts.clone(), Duration::from_mins(1)).await;
        assert!(started.len() == 20 && started.iter().all(|starts| *starts == expected[0]), "{started:?}");
        let late = programs_at(&Shares::new(2), &heavy, FAMILY, facts, Duration::ZERO).await;
        assert!(late.iter().all(|starts| *starts == Some(undecided())), "{late:?}");
    }

    /// On the only thread: what is counted as little may be much.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_that_is_counted_as_little_holds_up_no_other_task_either() {
        let review = async {
            let (tell, told) = std::sync::mpsc::channel();
            let other = tokio::spawn(async move { tell.send(()) });
            let light = with_mounts("shop", 1, 1);
            let nothing_known = Inspection { containers: Vec::new() };
            let work = Work::of(&light, &nothing_known);
            let went_on = work.beside(AMPLE, move || told.recv_timeout(Duration::from_secs(20)).is_ok());
            (went_on.await.unwrap(), other.await.is_ok())
        };
        assert_eq!(tokio::spawn(review).await.unwrap(), (true, true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_rules_of_a_light_pod_run_where_their_input_is_made_and_those_of_others_on_threads_of_their_own()
     {
        let engine = Engine::new().unwrap();
        let load = async |bundles| PolicySet::load(&engine, bundles, Limits::default()).await.unwrap();
        let one = load(vec![Bundle::embedded().unwrap()]).await;
        let light = with_mounts("shop", 1, 1);
        let heavy = with_mounts("shop", 20, 200);
        let takes_one = async |policies: &PolicySet, workload: &Workload| {
            let inspection = inspected(workload, image(workload, &[]));
            Work::of(workload, &inspection).turn(policies, 1_000, AMPLE).await.is_some()
        };
        assert!(takes_one(&one, &light).await);
        assert!(!takes_one(&one, &heavy).await);
        assert!(!takes_one(&load(Vec::new()).await, &light).await, "no rules at all");
    }

    fn inspected(workload: &Workload, facts: Vec<Option<Arc<ImageFacts>>>) -> Inspection {
        let known = |(image, facts): (&ImageUse<'_>, Option<Arc<ImageFacts>>)| {
            Some(Container {
                role: image.role,
                index: image.index,
                name: image.name.to_string(),
                image: image.image.to_string(),
                lookup: LookupResult::Known { facts: facts?, program: undecided() },
            })
        };
        Inspection { containers: workload.images().iter().zip(facts).filter_map(known).collect() }
    }

    /// A namespace with many heavy pods.
    #[tokio::test]
    async fn one_namespace_leaves_a_place_to_the_others_and_waits_no_longer_than_it_may() {
        let places = Shares::new(2);
        let (greedy, modest) = (with_mounts("evil", 20, 200), with_mounts("shop", 20, 200));
        let facts = image(&greedy, &[]);
        let held = place_of(&places, &greedy).await;
        assert!(held.is_some() && place_of(&places, &greedy).now_or_never().is_none(), "all places");
        let short = Duration::from_millis(20);
        let late = programs_at(&places, &greedy, FAMILY, facts.clone(), short).await;
        assert!(late.iter().all(|starts| *starts == Some(no_place())), "{late:?}");
        let other = programs_at(&places, &modest, FAMILY, facts, Duration::from_mins(1)).await;
        assert!(other.iter().all(|starts| matches!(starts, Some(Program::Wasm { .. }))), "{other:?}");
    }

    /// Each is on a thread of its own, which it would share with those that answer.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn little_work_of_many_reviews_is_done_at_few_places_and_the_newest_of_those_that_run_late_comes_first()
     {
        let places = Shares::new(2);
        let (greedy, modest) = (with_mounts("evil", 1, 1), with_mounts("shop", 1, 1));
        let held = light_place_of(&places, &greedy, AMPLE).await;
        assert!(held.is_some());
        // None of their time is left.
        let [mut old, mut new] =
            [(), ()].map(|()| Box::pin(light_place_of(&places, &greedy, Duration::ZERO)));
        assert!((&mut old).now_or_never().is_none() && (&mut new).now_or_never().is_none());
        assert!(light_place_of(&places, &modest, AMPLE).now_or_never().flatten().is_some());
        drop(held);
        assert!((&mut old).now_or_never().is_none() && new.now_or_never().flatten().is_some());
    }

    /// Both kinds of places are taken, as by the reviews of others.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_that_gets_no_place_before_the_time_of_its_review_ends_says_so_and_a_free_place_is_taken_with_no_time_left()
     {
        let (much, little) = (Shares::new(2), Shares::new(2));
        let all = [much.take(&"evil".into(), 2).await, little.take(&"evil".into(), 2).await];
        let pods = [with_mounts("shop", 1, 1), with_mounts("shop", 20, 200)];
        let works = pods.each_ref().map(|pod| Work::of(pod, &inspected(pod, image(pod, &[]))));
        assert!(works[0].is_light && !works[1].is_light);
        let short = Duration::from_millis(30);
        for work in works {
            let place = work.place_among(&much, &little, short).await;
            assert!(matches!(place, Err(Error::NoPlace)), "{place:?}");
        }
        drop(all);
        for work in works {
            let place = work.place_among(&much, &little, Duration::ZERO).await;
            assert!(matches!(place, Ok(Some(_))), "{place:?}");
        }
    }

    #[test]
    fn a_pod_of_which_nothing_is_found_for_want_of_a_place_has_had_none_where_it_may_concern_wasm() {
        let heavy = with_mounts("shop", 20, 200);
        let found = |starts: fn() -> Program, shape: Shape| {
            let mut facts = image(&heavy, &[]);
            for facts in facts.iter_mut().flatten() {
                *facts = Arc::new(ImageFacts { shape, scanned: false, ..(**facts).clone() });
            }
            let mut inspection = inspected(&heavy, facts);
            for container in &mut inspection.containers {
                if let LookupResult::Known { program, .. } = &mut container.lookup {
                    *program = starts();
                }
            }
            inspection
        };
        let linux = found(no_place, Shape::LinuxRootfs);
        assert!(had_no_place(&linux, true) && !had_no_place(&linux, false));
        assert!(had_no_place(&found(no_place, Shape::WasmArtifact), false));
        assert!(!had_no_place(&found(undecided, Shape::WasmArtifact), true), "its own work took the time");
    }

    /// A review with a large body, each step of which has a turn.
    async fn in_turns<T>(turns: &Arc<Line>, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let step = |context: &mut Context<'_>| {
            let turn = turns.take(1, None).now_or_never().flatten();
            shares::in_turn(turn, || work.as_mut().poll(context))
        };
        poll_fn(step).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn much_work_on_a_large_body_holds_no_turn_and_little_work_in_one_waits_for_no_place() {
        let turns = Line::of(1);
        let is_free = || turns.take(1, None).now_or_never().flatten().is_some();
        let heavy = with_mounts("shop", 20, 200);
        let known = inspected(&heavy, image(&heavy, &[]));
        let much = Work::of(&heavy, &known).beside(AMPLE, is_free);
        assert!(in_turns(&turns, much).await.unwrap(), "others can take it");
        let light = with_mounts("shop", 1, 1);
        let nothing_known = Inspection { containers: Vec::new() };
        let all_places = LIGHT_PLACES.take(&"evil".into(), light_places()).await;
        assert!(all_places.is_some());
        let little = Work::of(&light, &nothing_known).beside(AMPLE, is_free);
        assert_eq!(in_turns(&turns, little).now_or_never().and_then(Result::ok), Some(false));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn rules_that_run_where_their_input_is_made_hold_no_turn_of_large_bodies() {
        let (engine, bundles) = (Engine::new().unwrap(), vec![Bundle::embedded().unwrap()]);
        let policies = PolicySet::load(&engine, bundles, Limits::default()).await.unwrap();
        let (turns, light) = (Line::of(1), with_mounts("shop", 1, 1));
        let known = inspected(&light, image(&light, &[]));
        let judged = async {
            let turn = Work::of(&light, &known).turn(&policies, 1_000, AMPLE).await;
            let is_free = turns.take(1, None).now_or_never().flatten().is_some();
            (turn.is_some(), is_free)
        };
        assert_eq!(in_turns(&turns, judged).await, (true, true));
    }

    #[tokio::test]
    async fn where_there_is_no_other_thread_little_work_waits_for_no_place() {
        let light = with_mounts("shop", 1, 1);
        assert!(light_place_of(&LIGHT_PLACES, &light, AMPLE).await.is_none());
    }

    /// The facts of [`image`], with so many programs beside, or in the place of its Wasm.
    fn with_files(
        images: &[Option<Arc<ImageFacts>>],
        files: usize,
        wasm: bool,
    ) -> Vec<Option<Arc<ImageFacts>>> {
        let mut facts = ImageFacts::clone(images[0].as_deref().unwrap());
        let program = |n: usize| {
            (
                format!("/usr/bin/program-{n:06}"),
                FileClass::Native { magic: "ELF".into(), runs: true, found: true },
            )
        };
        facts.files.extend((0..files).map(program));
        facts.files.sort_by(|(one, _), (other, _)| one.cmp(other));
        if !wasm {
            facts.modules.clear();
        }
        vec![Some(Arc::new(facts)); images.len()]
    }

    #[test]
    fn pods_of_real_clusters_are_light_however_many_wait_with_heavy_ones() {
        for (containers, mounts) in [(1, 100), (3, 40), (10, 10)] {
            let usual = with_mounts("shop", containers, mounts);
            // Debian's links.
            let wasm = image(&usual, &[("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/var/run", "/run")]);
            // A pod before has sorted the files.
            let linux = with_files(&wasm, 4_000, false);
            linux[0].as_ref().unwrap().sort_by_name();
            for facts in [wasm, linux] {
                let weight = weight(&usual, &facts);
                assert!(weight <= LIGHT, "{containers} containers with {mounts} mounts: {weight}");
            }
        }
        let usual = with_mounts("shop", 3, 40);
        let most = most_weight(&usual, &image(&usual, &[]));
        assert!(most.is_some_and(|most| most <= LIGHT), "{most:?}");
        assert_eq!(most_weight(&usual, &image(&usual, &[("/bin", "usr/bin")])), None);
        let long = with_mounts("shop", 1, 100);
        let target = format!("{}lib", "x/../".repeat(30));
        let adverse = image(&long, &[("/var/lib", &target)]);
        assert!(weight(&long, &adverse) > LIGHT, "links of the image make it heavy");
    }

    /// Each container goes through them, and a search sorts them.
    #[tokio::test]
    async fn the_files_of_an_image_count_for_each_container_and_are_sorted_where_no_thread_that_answers_waits()
     {
        let (one, many) = (with_mounts("shop", 1, 1), with_mounts("shop", 20, 0));
        let few = image(&one, &[]);
        let (linux, wasm) = (with_files(&few, 4_000, false), with_files(&few, 100_000, true));
        assert!(is_light(&one, &linux) && !is_light(&one, &wasm));
        let none = image(&many, &[]);
        let large = with_files(&none, 40_000, false);
        large[0].as_ref().unwrap().sort_by_name();
        assert!(is_light(&many, &none) && !is_light(&many, &large));
        let is_sorted = |facts: &[Option<Arc<ImageFacts>>]| facts[0].as_ref().unwrap().is_sorted_by_name();
        let light = programs(&one, FAMILY, few.clone(), AMPLE).await;
        let heavy = programs(&one, FAMILY, wasm.clone(), AMPLE).await;
        assert_eq!(light, heavy);
        assert!(is_sorted(&wasm) && !is_sorted(&few));
        let sorted = with_files(&few, 20_000, true);
        assert!(!is_light(&one, &sorted));
        sorted[0].as_ref().unwrap().sort_by_name();
        assert!(is_light(&one, &sorted), "sorted once");
    }

    #[test]
    fn containers_of_the_largest_images_have_an_end() {
        let pod = with_mounts("shop", 60, 0);
        let images = image(&pod, &[]);
        let started = |facts: &[Option<Arc<ImageFacts>>]| {
            let found = all(&pod, FAMILY, facts, None);
            found.into_iter().flatten().filter(|starts| *starts != crowded()).count()
        };
        assert_eq!(started(&with_files(&images, 5_000, true)), 60);
        assert_eq!(started(&with_files(&images, 200_000, false)), 60);
        let most = started(&with_files(&images, 200_000, true));
        assert!((30..50).contains(&most), "{most}");
    }

    #[test]
    fn the_weight_grows_with_every_path_that_is_followed() {
        let of = |mounts| {
            let pod = with_mounts("shop", 2, mounts);
            let facts = image(&pod, &[]);
            weight(&pod, &facts)
        };
        assert!(of(60) > 4 * of(10) && of(2_000) > LIGHT);
        let searched = |path: &str| {
            let env = json!([{ "name": "PATH", "value": path }]);
            let spec =
                json!({ "containers": [{ "name": "a", "image": "a", "command": ["app"], "env": env }] });
            weight(&pod("shop", &spec), &[None])
        };
        assert!(searched(&"/a:".repeat(10_000)) > LIGHT && searched("/bin:/usr/bin") < LIGHT);
    }

    /// What is judged of each container: variables of the pod and of the image, and what an application hands over.
    #[test]
    fn names_that_are_handed_over_and_texts_that_are_expanded_count() {
        let env = |count: usize, value: &str| {
            let one = |n: usize| json!({ "name": format!("V{n}"), "value": value });
            (0..count).map(one).collect::<serde_json::Value>()
        };
        let of = |container: serde_json::Value, facts: &ImageFacts| {
            let pod = pod("shop", &json!({ "containers": [container] }));
            weight(&pod, &[Some(Arc::new(facts.clone()))])
        };
        let digest = Digest::of(b"");
        let plain = ImageFacts::blank(&digest, &digest);
        let bare = || json!({ "name": "a", "image": "a", "command": ["/app.wasm"] });
        let with = |key: &str, value: serde_json::Value| {
            let mut container = bare();
            container[key] = value;
            container
        };
        assert!(of(with("env", env(200, "https://shop.example.com")), &plain) < LIGHT, "as in real clusters");
        assert!(of(with("env", env(4_000, "")), &plain) > LIGHT);
        assert!(of(with("env", env(10, &"$(A)".repeat(40_000))), &plain) > LIGHT);
        assert!(of(with("args", json!(["$(A)".repeat(400_000)])), &plain) > LIGHT);
        let many: Vec<String> = (0..4_000).map(|n| format!("V{n}")).collect();
        assert!(of(bare(), &ImageFacts { env: many.clone(), ..plain.clone() }) > LIGHT);
        let component = SpinComponent { variables: many, ..SpinComponent::default() };
        let app = SpinApp { components: vec![component], ..SpinApp::default() };
        assert!(of(bare(), &ImageFacts { spin: Some(app), ..plain }) > LIGHT);
    }

    /// What is judged of a Spin application takes time for each of its sources, in each container.
    #[test]
    fn the_steps_of_an_application_have_an_end_and_what_comes_after_is_not_judged() {
        let pod = with_mounts("shop", 2, 0);
        let started = |sources: usize, folder: &str, links: &[(&str, &str)]| {
            let sources: Vec<String> = (0..sources).map(|number| format!("s{number}")).collect();
            let component = SpinComponent { files: sources.clone(), sources, ..SpinComponent::default() };
            let app = SpinApp { components: vec![component], ..SpinApp::default() };
            let bare = image(&pod, links)[0].clone().unwrap();
            let facts = ImageFacts { spin: Some(app), working_dir: folder.into(), ..(*bare).clone() };
            let facts = vec![Some(Arc::new(facts)); 2];
            let found = all(&pod, FAMILY, &facts, None);
            found.into_iter().flatten().filter(|starts| *starts != crowded()).count()
        };
        let (deep, long) = ("/w".repeat(3_000), "/w".repeat(3_000_000));
        let far = "/n".repeat(2_000);
        let (link, far) = ([("/l", "/n")], [("/l", far.as_str())]);
        assert_eq!(started(200, "/app", &link), 2, "as in an application of many components");
        assert_eq!(started(5_000, "/app", &[]), 2);
        assert_eq!(started(5_000, &long, &[]), 2, "it is not followed");
        assert_eq!(started(100, &deep, &[]), 1);
        assert_eq!(started(200, &deep, &[]), 0);
        assert_eq!(started(5_000, "/app", &link), 2);
        assert_eq!(started(20, "/app", &far), 1);
        assert_eq!(started(50, "/app", &far), 0);
    }

    /// Whatever a pod has many of: mounts of one container, containers, or volumes that each container goes through.
    #[test]
    fn the_steps_of_a_pod_have_an_end_and_what_comes_after_is_not_judged() {
        let starts = |workload: &Workload| {
            let found = all(workload, FAMILY, &image(workload, &[]), None);
            found.into_iter().flatten().filter(|starts| *starts != crowded()).count()
        };
        assert_eq!(starts(&with_mounts("shop", 20, 200)), 20);
        assert_eq!(starts(&with_mounts("shop", 1, 7_000)), 1);
        assert_eq!(starts(&with_mounts("shop", 1, 9_000)), 0);
        let (few, many) = (with_mounts("shop", 400, 0), with_mounts("shop", 4_000, 0));
        assert_eq!(starts(&few), 400);
        let facts = image(&many, &[])[0].clone().unwrap();
        assert_eq!(starts(&many), MOST_STEPS / most_steps(&many, &many.images()[0], &facts));
        let volumes: Vec<_> =
            (0..5_000).map(|n| json!({ "name": format!("v{n}"), "emptyDir": {} })).collect();
        let containers: Vec<_> = (0..300)
            .map(|n| json!({ "name": format!("c{n}"), "image": "a", "command": ["/app.wasm"] }))
            .collect();
        let wide = pod("shop", &json!({ "containers": containers, "volumes": volumes }));
        assert!(starts(&wide) < 200);
    }
}
