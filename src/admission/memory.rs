//! Memory for what the objects of reviews are parsed to. It is reserved before anything is parsed, by what the bytes of an object may become
//! ([`workload::parsed_bytes`]), and held until its review is decided, also while its images are looked up: less would have to grow again for the plan and the rules, and
//! reviews that hold a part and wait for more would wait for each other.

use std::sync::LazyLock;
use std::time::Duration;

use super::ending::Ending;
use super::examine::{ReviewContext, not_ours};
use super::handed::HANDED_BYTES;
use super::part::{MIB, Need, Part, UNIT, Waiters};
use super::state::Error;
use crate::review::Operation;
use crate::shares::Share;
use crate::workload::{self, Kind};

/// Most bytes of a small review: a pod with a few containers takes some hundred kilobytes, and a template of such pods twice as much.
const SMALL: usize = 2 * MIB;

/// Most bytes of one of middle size: a pod with fifty containers takes a few megabytes.
const MIDDLE: usize = 16 * MIB;

/// Memory for small reviews: for as many as are worked on at a time (`server`), as large as they are as a rule.
const FOR_SMALL: usize = 164 * MIB;

/// For those of middle size, which small ones do not wait for.
const FOR_MIDDLE: usize = 64 * MIB;

/// For all larger ones, and so the most that one review gets.
const FOR_LARGE: usize = 216 * MIB;

/// Most bytes that the objects of all reviews take at a time, with what their images bring to the rules.
pub const PARSED_BYTES: usize = FOR_SMALL + FOR_MIDDLE + FOR_LARGE + HANDED_BYTES;

/// Most bytes that an object takes which is judged as it is (`scan`) and reserves nothing.
pub const SCANNED_BYTES: usize = MIDDLE;

/// Those that wait for memory of middle size. Each holds its body and a place of the server meanwhile, which every other review needs (`server`): they are half
/// of these places at most, and a part of the memory for bodies. That is enough for a burst of one namespace: what could still be answered waits for its turn,
/// and what finds no place to wait is answered at once. Its own memory is bounded by what it waits for.
const WAIT_FOR_MIDDLE: Waiters = Waiters { all: 16 * MIB, of_one: 10 * MIB, least: 64 << 10 };

/// Those that wait for memory for large ones, of which each takes longer, so that fewer get their turn in time.
const WAIT_FOR_LARGE: Waiters = Waiters { all: 8 * MIB, of_one: 4 * MIB, least: 128 << 10 };

/// Of small ones as many as the server has places for. At their usual size there is memory for all of these. It is short where many are nearly as large as [`SMALL`] and
/// registries are slow: a review holds its memory while its images are looked up, as it holds its place. Then the others wait for it, half of their time at most, and
/// those of one namespace leave them half of it.
const WAIT_FOR_SMALL: Waiters = Waiters { all: usize::MAX, of_one: usize::MAX, least: UNIT };

/// How often the groups of the user are in memory: as they came, in what a decision is known by, as the input of rules is made and as they get it, and in the record and its
/// line.
const COPIES_OF_USER: usize = 6;

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::new);

/// The memory, each part with a line of its own. The pods of one namespace never hold more than half of a part.
#[derive(Debug)]
struct Memory {
    small: Part,
    middle: Part,
    large: Part,
}

impl Memory {
    fn new() -> Self {
        Self {
            small: Part::of(FOR_SMALL, WAIT_FOR_SMALL),
            middle: Part::of(FOR_MIDDLE, WAIT_FOR_MIDDLE),
            large: Part::of(FOR_LARGE, WAIT_FOR_LARGE),
        }
    }

    /// Memory for this, of the part for its size ([`Part::take`]).
    async fn take(&self, namespace: &str, need: impl Into<Need>, left: Duration) -> Result<Share, Error> {
        let need = need.into();
        self.part_for(need.bytes)?.take(namespace, need, left).await
    }

    /// The part for a review of this size. What needs more than all of the last one would wait in vain.
    fn part_for(&self, bytes: usize) -> Result<&Part, Error> {
        if bytes <= SMALL {
            Ok(&self.small)
        } else if bytes <= MIDDLE {
            Ok(&self.middle)
        } else if bytes <= FOR_LARGE {
            Ok(&self.large)
        } else {
            Err(Error::ObjectTooLarge { needed: bytes.div_ceil(MIB), most: FOR_LARGE / MIB })
        }
    }
}

/// Memory for what the objects of a review are parsed to. `None` where nothing is.
pub(super) async fn reserve(asked: &ReviewContext<'_>) -> Result<Option<Share>, Error> {
    take_for(asked, bytes(asked)).await
}

/// Memory for what an object is parsed to that exists and is judged as it is. One of up to [`SCANNED_BYTES`] reserves nothing: a scan
/// judges few of them at a time, and may wait long for the images of each, while the reviews need the memory.
pub(super) async fn reserve_for_scan(asked: &ReviewContext<'_>) -> Result<Option<Share>, Error> {
    take_for(asked, bytes(asked).filter(|bytes| *bytes > SCANNED_BYTES)).await
}

/// Whether any review gets as much as the objects of this one may take, where nothing is reserved: no other review waits for the memory of a command.
pub(super) fn check(asked: &ReviewContext<'_>) -> Result<(), Error> {
    bytes(asked).map_or(Ok(()), |bytes| MEMORY.part_for(bytes).map(|_| ()))
}

/// The ending of a review for whose objects there is no memory.
pub(super) fn none_for<K>(asked: &ReviewContext<'_>, error: Error) -> Ending<K> {
    let kind = asked.state.kinds.of(&asked.review.kind);
    Ending::NoMemory { error, is_template: kind.is_some_and(Kind::is_template) }
}

async fn take_for(asked: &ReviewContext<'_>, bytes: Option<usize>) -> Result<Option<Share>, Error> {
    let Some(bytes) = bytes else { return Ok(None) };
    let need = Need { bytes, text: text_bytes(asked) };
    MEMORY.take(&asked.review.namespace, need, asked.clock.left()).await.map(Some)
}

/// Bytes of the objects and of the user of a review, which are nearly all of its body.
fn text_bytes(asked: &ReviewContext<'_>) -> usize {
    let objects = [&asked.review.object, &asked.review.old_object];
    let objects: usize =
        objects.into_iter().filter_map(Option::as_deref).map(|object| object.get().len()).sum();
    objects.saturating_add(asked.review.user.list_bytes())
}

/// What the objects of a review may take. `None` where none is parsed.
fn bytes(asked: &ReviewContext<'_>) -> Option<usize> {
    if not_ours(asked).is_some() {
        return None;
    }
    let review = asked.review;
    let kind = asked.state.kinds.of(&review.kind)?;
    let object = workload::parsed_bytes(review.object.as_deref()?.get(), kind);
    let new = object.saturating_add(review.user.list_bytes().saturating_mul(COPIES_OF_USER));
    let former = review.old_object.as_deref().filter(|_| review.operation == Operation::Update);
    Some(former.map_or(new, |former| new.saturating_add(workload::former_bytes(former.get(), kind))))
}

/// Takes all memory for large reviews, as two other namespaces might.
#[cfg(test)]
pub(super) async fn take_all_for_large() -> [Result<Share, Error>; 2] {
    let half = FOR_LARGE / 2;
    let ample = Duration::from_mins(1);
    [MEMORY.take("one", half, ample).await, MEMORY.take("other", half, ample).await]
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::shares::{self, Line};

    const AMPLE: Duration = Duration::from_mins(1);

    fn at_once(memory: &Memory, namespace: &str, bytes: usize) -> Option<Share> {
        memory.take(namespace, bytes, AMPLE).now_or_never().and_then(Result::ok)
    }

    #[tokio::test]
    async fn small_reviews_wait_for_no_larger_ones_and_those_of_middle_size_for_no_large_ones() {
        let memory = Memory::new();
        let large = ["evil", "other"].map(|name| at_once(&memory, name, FOR_LARGE / 2).unwrap());
        assert!(at_once(&memory, "shop", 100 * MIB).is_none(), "all of it is held");
        let middle: Vec<_> = (0..2).map(|_| at_once(&memory, "shop", MIDDLE).unwrap()).collect();
        assert!(at_once(&memory, "shop", MIDDLE).is_none(), "half of that part");
        assert!(at_once(&memory, "shop", SMALL).is_some());
        drop((large, middle));
        assert!(at_once(&memory, "shop", FOR_LARGE).is_some(), "a review may have all of it alone");
    }

    #[tokio::test]
    async fn any_number_of_pods_of_one_namespace_leaves_half_to_the_others() {
        let memory = Memory::new();
        let held: Vec<_> = (0..1_000).map_while(|_| at_once(&memory, "evil", SMALL)).collect();
        assert_eq!(held.len(), FOR_SMALL / SMALL / 2);
        let others: Vec<_> = (0..1_000).map_while(|_| at_once(&memory, "shop", SMALL)).collect();
        assert_eq!(others.len(), held.len());
    }

    #[tokio::test]
    async fn few_reviews_of_one_namespace_wait_for_large_memory_and_the_next_one_is_that_of_another() {
        let memory = Memory::new();
        let held = memory.take("evil", FOR_LARGE, AMPLE).await.unwrap();
        let mut evil: Vec<_> = (0..1_000).map(|_| Box::pin(memory.take("evil", FOR_LARGE, AMPLE))).collect();
        let (mut refused, mut begun) = (0, 0);
        for one in &mut evil {
            match one.now_or_never() {
                None => {}
                Some(Err(Error::NoPlace)) => refused += 1,
                Some(_) => begun += 1,
            }
        }
        assert_eq!((refused, begun), (1_000 - WAIT_FOR_LARGE.of_one / WAIT_FOR_LARGE.least, 0));
        let mut other = Box::pin(memory.take("shop", 2 * MIDDLE, AMPLE));
        assert!((&mut other).now_or_never().is_none(), "it waits beside them");
        drop(held);
        assert!(other.now_or_never().is_some_and(|share| share.is_ok()));
        drop(evil);
        assert!(at_once(&memory, "evil", FOR_LARGE).is_some(), "nor is a place to wait held any more");
    }

    #[tokio::test]
    async fn reviews_with_large_bodies_of_one_namespace_wait_and_leave_a_place_to_another() {
        let (memory, turns) = (Memory::new(), Line::of(1));
        let _held = memory.take("evil", FOR_LARGE, AMPLE).await.unwrap();
        let mut waiting = Vec::new();
        let of_evil = std::iter::repeat_n("evil", 6);
        for namespace in of_evil.chain(["shop", "other"]) {
            let turn = turns.take(1, None).now_or_never().flatten();
            assert!(turn.is_some());
            let mut share = Box::pin(memory.take(namespace, FOR_LARGE, AMPLE));
            let found = shares::in_turn(turn, || (&mut share).now_or_never());
            waiting.push((share, found.is_none()));
        }
        let waiting: Vec<_> = waiting.iter().map(|(_, waits)| *waits).collect();
        assert_eq!(waiting, [true, true, true, true, true, false, true, false]);
    }

    /// What a review of this pod needs.
    fn need(spec: &Value) -> Need {
        let pod = json!({"metadata": {}, "spec": spec}).to_string();
        Need { bytes: workload::parsed_bytes(&pod, workload::Kind::Pod), text: pod.len() }
    }

    /// A container of usual size.
    fn container(number: usize) -> Value {
        json!({
            "name": format!("app-{number}"), "image": format!("registry.example/shop/orders:{}", "v".repeat(60)),
            "env": [{"name": "LOG", "value": "info"}, {"name": "PORT", "value": "8080"}],
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
            "securityContext": {"readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "Always",
        })
    }

    /// Works on what waits, until each has had its memory or was refused: how many did, and how many were.
    async fn work_off(
        mut waiting: Vec<Pin<Box<impl Future<Output = Result<Share, Error>>>>>,
    ) -> (usize, usize) {
        let (mut done, mut refused) = (0, 0);
        for _ in 0..1_000 {
            let mut held = Vec::new();
            waiting.retain_mut(|one| match one.now_or_never() {
                None => true,
                Some(Ok(share)) => {
                    held.push(share);
                    false
                }
                Some(Err(_)) => {
                    refused += 1;
                    false
                }
            });
            done += held.len();
            drop(held);
            tokio::task::yield_now().await;
        }
        (done, refused)
    }

    /// With `failurePolicy: Fail` each that is refused is a pod that is not created.
    #[tokio::test]
    async fn a_burst_of_one_namespace_waits_for_its_turn_and_the_others_for_none_of_it() {
        let containers = json!({"containers": (0..50).map(container).collect::<Vec<_>>()});
        let volumes = (0..1_000).map(|number| json!({"name": format!("v{number}"), "emptyDir": {}}));
        let volumes = json!({"containers": [], "volumes": volumes.collect::<Vec<_>>()});
        for (spec, number) in [(containers, 60), (volumes, 150)] {
            let (memory, need) = (Memory::new(), need(&spec));
            assert!(need.bytes > SMALL && need.bytes <= MIDDLE, "{need:?}");
            let mut burst: Vec<_> = (0..number).map(|_| Box::pin(memory.take("shop", need, AMPLE))).collect();
            // Those that find memory at once hold it until all have asked.
            let mut held = Vec::new();
            burst.retain_mut(|one| match one.now_or_never() {
                None => true,
                Some(found) => {
                    held.push(found.unwrap());
                    false
                }
            });
            assert!(held.len() < burst.len(), "most of them wait");
            for bytes in [SMALL, need.bytes] {
                assert!(at_once(&memory, "other", bytes).is_some(), "{bytes}");
            }
            let begun = held.len();
            drop(held);
            assert_eq!(work_off(burst).await, (number - begun, 0));
        }
    }

    #[tokio::test]
    async fn six_pods_with_large_bodies_of_one_namespace_get_their_memory_one_after_the_other() {
        let (memory, turns) = (Memory::new(), Line::of(1));
        let variables = (0..32_768).map(|number| json!({"name": format!("V{number}"), "value": "x"}));
        let container = json!({"name": "app", "env": variables.collect::<Vec<_>>()});
        let need = need(&json!({"containers": [container]}));
        assert!(need.bytes > MIDDLE && need.bytes <= FOR_LARGE, "{need:?}");
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let mut share = Box::pin(memory.take("shop", need, AMPLE));
            let turn = turns.take(1, None).now_or_never().flatten();
            match shares::in_turn(turn, || (&mut share).now_or_never()) {
                None => waiting.push(share),
                Some(found) => held.push(found.unwrap()),
            }
        }
        let begun = held.len();
        drop(held);
        assert_eq!(work_off(waiting).await, (6 - begun, 0));
    }

    #[tokio::test]
    async fn forty_pods_of_many_volumes_hold_no_more_than_there_is() {
        let memory = Memory::new();
        let volumes = vec![serde_json::json!({"name": "a"}); 19_500];
        let spec = serde_json::json!({"containers": [], "volumes": volumes});
        let pod = serde_json::json!({"metadata": {}, "spec": spec}).to_string();
        let bytes = workload::parsed_bytes(&pod, workload::Kind::Pod);
        assert!(bytes > MIDDLE && bytes <= FOR_LARGE, "{bytes}");
        let names = (0..40).map(|number| format!("n{number}"));
        let held = names.filter_map(|name| at_once(&memory, &name, bytes)).collect::<Vec<_>>();
        assert_eq!(held.len(), FOR_LARGE / bytes);
    }

    #[tokio::test]
    async fn what_would_never_fit_is_refused_at_once_and_what_gets_none_in_time_is_not_judged() {
        let memory = Memory::new();
        let refused = memory.take("shop", FOR_LARGE + 1, AMPLE).now_or_never();
        let refused = refused.and_then(Result::err).unwrap();
        assert!(matches!(refused, Error::ObjectTooLarge { needed: 217, most: 216 }), "{refused}");
        let _held = memory.take("shop", FOR_LARGE, AMPLE).await.unwrap();
        let late = memory.take("shop", 2 * MIDDLE, Duration::from_millis(2)).await;
        assert!(matches!(late, Err(Error::NoPlace)), "{late:?}");
    }
}
