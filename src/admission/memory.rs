//! Memory for what the objects of reviews are parsed to. It is reserved before anything is parsed, by what the bytes of an object may become
//! ([`workload::parsed_bytes`]), and held until its review is decided, also while its images are looked up: less would have to grow again for the plan and the rules, and
//! reviews that hold a part and wait for more would wait for each other.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::{Instant, timeout};

use super::ending::Ending;
use super::examine::{ReviewContext, not_ours};
use super::state::Error;
use crate::review::Operation;
use crate::shares::{self, Share, Shares};
use crate::workload::{self, Kind};

const MIB: usize = 1 << 20;

/// Bytes in which the memory is counted.
const UNIT: usize = 1 << 10;

/// Most bytes of a small review: a pod with a few containers takes some hundred kilobytes, and a template of such pods twice as much.
const SMALL: usize = 2 * MIB;

/// Most bytes of one of middle size: a pod with fifty containers takes a few megabytes.
const MIDDLE: usize = 16 * MIB;

/// Memory for small reviews: for as many as are worked on at a time (`server`), as large as they are as a rule.
const FOR_SMALL: usize = 192 * MIB;

/// For those of middle size, which small ones do not wait for.
const FOR_MIDDLE: usize = 64 * MIB;

/// For all larger ones, and so the most that one review gets.
const FOR_LARGE: usize = 224 * MIB;

/// Most bytes that the objects of all reviews take at a time.
pub const PARSED_BYTES: usize = FOR_SMALL + FOR_MIDDLE + FOR_LARGE;

/// Most bytes that an object takes which is judged as it is (`scan`) and reserves nothing.
pub const SCANNED_BYTES: usize = MIDDLE;

/// Most reviews that wait for memory of middle size, half of them of one namespace. Each holds its body and a place of the server meanwhile, which every other
/// review needs (`server`): they are a small part of these. Those that find no place to wait are answered at once.
const WAIT_FOR_MIDDLE: u32 = 64;

/// The same of large ones, whose bodies are larger, and of which each takes longer.
const WAIT_FOR_LARGE: u32 = 32;

/// Of small ones as many as the server has places for. At their usual size there is memory for all of these. It is short where many are nearly as large as [`SMALL`] and
/// registries are slow: a review holds its memory while its images are looked up, as it holds its place. Then the others wait for it, half of their time at most, and
/// those of one namespace leave them half of it.
const WAIT_FOR_SMALL: u32 = u32::MAX;

/// Most reviews with large bodies that wait for one part, each of a namespace of its own: there are places for few of them (`server`), and others want to be read.
const WAIT_WITH_LARGE_BODIES: u32 = 4;

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

    /// Memory of this size. It is waited for no longer than half of what is `left` to the review: what comes later would leave too little to look its images up,
    /// and a pod whose images are not known is refused.
    async fn take(&self, namespace: &str, bytes: usize, left: Duration) -> Result<Share, Error> {
        let part = self.part_for(bytes)?;
        let namespace: Arc<str> = namespace.into();
        part.take(&namespace, units(bytes), left / 2).await.ok_or(Error::NoPlace)
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

/// A part of the memory, and the places of those that wait for it.
#[derive(Debug)]
struct Part {
    memory: Shares,
    waiting: Shares,
    /// The same of those with large bodies.
    waiting_large: Shares,
}

impl Part {
    fn of(bytes: usize, most_waiting: u32) -> Self {
        let waiting_large = Shares::in_parts(WAIT_WITH_LARGE_BODIES, WAIT_WITH_LARGE_BODIES);
        Self { memory: Shares::new(units(bytes)), waiting: Shares::new(most_waiting), waiting_large }
    }

    /// So many units, within this time. `None` where there are none in time, or no place to wait for them.
    async fn take(&self, namespace: &Arc<str>, units: u32, wait: Duration) -> Option<Share> {
        let deadline = Instant::now().checked_add(wait);
        let mut share = pin!(self.memory.take_by(namespace, units, deadline));
        if let Some(free) = share.as_mut().now_or_never() {
            return free;
        }
        // Large bodies take turns.
        let waiting = if shares::has_turn() { &self.waiting_large } else { &self.waiting };
        let _place = waiting.take(namespace, 1).now_or_never().flatten()?;
        timeout(wait, share).await.ok().flatten()
    }
}

/// Memory for what the objects of a review are parsed to. `None` where nothing is.
pub(super) async fn reserve(asked: &ReviewContext<'_>) -> Result<Option<Share>, Error> {
    take_for(asked, bytes(asked)).await
}

/// The same for an object that exists and is judged as it is. One of up to [`SCANNED_BYTES`] reserves nothing: a scan judges few of them at a time, and may wait long
/// for the images of each, while the reviews need the memory.
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
    match bytes {
        Some(bytes) => MEMORY.take(&asked.review.namespace, bytes, asked.clock.left()).await.map(Some),
        None => Ok(None),
    }
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

/// So many bytes in units, rounded up.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
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
    use super::*;
    use crate::shares::Line;

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
        assert_eq!((refused, begun), (1_000 - WAIT_FOR_LARGE / 2, 0));
        let mut other = Box::pin(memory.take("shop", 2 * MIDDLE, AMPLE));
        assert!((&mut other).now_or_never().is_none(), "it waits beside them");
        drop(held);
        assert!(other.now_or_never().is_some_and(|share| share.is_ok()));
        drop(evil);
        assert!(at_once(&memory, "evil", FOR_LARGE).is_some(), "nor is a place to wait held any more");
    }

    #[tokio::test]
    async fn one_review_with_a_large_body_waits_for_each_namespace() {
        let (memory, turns) = (Memory::new(), Line::of(1));
        let _held = memory.take("evil", FOR_LARGE, AMPLE).await.unwrap();
        let mut waiting = Vec::new();
        for namespace in ["evil", "evil", "shop", "evil"] {
            let turn = turns.take(1, None).now_or_never().flatten();
            assert!(turn.is_some());
            let mut share = Box::pin(memory.take(namespace, FOR_LARGE, AMPLE));
            let found = shares::in_turn(turn, || (&mut share).now_or_never());
            waiting.push((share, found.is_none()));
        }
        let waiting: Vec<_> = waiting.iter().map(|(_, waits)| *waits).collect();
        assert_eq!(waiting, [true, false, true, false]);
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
        assert!(matches!(refused, Error::ObjectTooLarge { needed: 225, most: 224 }), "{refused}");
        let _held = memory.take("shop", FOR_LARGE, AMPLE).await.unwrap();
        let late = memory.take("shop", 2 * MIDDLE, Duration::from_millis(2)).await;
        assert!(matches!(late, Err(Error::NoPlace)), "{late:?}");
    }
}
