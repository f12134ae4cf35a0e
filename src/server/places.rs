//! Places for connections: so many in total, and of each peer. A connection that finds none waits for one for a while: an API server speaks HTTP/1.1 with webhooks
//! and opens a connection for each review that it has at a time, so who loses a connection loses a review. What is idle makes place for what waits.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures::FutureExt as _;
use futures::task::AtomicWaker;
use tokio::time::{Instant, timeout_at};

use super::ServerOptions;
use crate::shares::{Share, Shares};

/// How long a connection has been idle that makes place for another one. A request that its client sends at that moment is lost; but Go's client goes on with the
/// connection that it used last, so the one that has been idle for longest is the last that it would use.
const IDLE: Duration = Duration::from_secs(1);

/// How often what waits for a place looks for an idle connection.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longest that a connection may wait for its place, whatever the options say.
const LONGEST: Duration = Duration::from_mins(1);

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    all: Shares,
    /// For those that wait: as many again.
    waiting: Shares,
    wait: Duration,
    per_peer: usize,
    open: Mutex<Open>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open {
    /// Number of the next one.
    next: u64,
    connections: BTreeMap<u64, (IpAddr, Arc<Usage>)>,
    /// Peers of which the log says that they have too many.
    said: HashSet<IpAddr>,
}

impl Open {
    /// How many a peer has. It is a full IPv6 address: a pod has one, and the pods of a node share a prefix but are different peers.
    fn of(&self, peer: IpAddr) -> usize {
        self.connections.values().filter(|(other, _)| *other == peer).count()
    }
}

impl Places {
    pub fn of(options: &ServerOptions) -> Self {
        let count = |number: usize| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
        let places = || Shares::with_most(count(options.connections), count(options.connections_per_peer));
        Self {
            all: places(),
            waiting: places(),
            wait: options.connection_wait.min(LONGEST),
            per_peer: options.connections_per_peer.max(1),
            open: Mutex::default(),
        }
    }

    /// A place for a connection of this peer. `None` where there is none in time, or too many wait. The peer's own comes first: a peer with all of its own takes no
    /// place of another one, not even for a moment.
    pub async fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let begin = Instant::now();
        let (name, deadline) = (Arc::<str>::from(peer.to_string()), begin + self.wait);
        let mut share = pin!(self.all.take_by(&name, 1, Some(deadline)));
        if let Some(free) = share.as_mut().now_or_never() {
            return free.map(|share| self.place(peer, share, Duration::ZERO));
        }
        let _waits = self.waiting.take(&name, 1).now_or_never().flatten()?;
        let share = self.wait_for(share, peer, deadline).await?;
        Some(self.place(peer, share, begin.elapsed()))
    }

    /// Whether the log does not say yet that this peer has too many. It says so once until the peer has closed all of them, since a peer that keeps trying would
    /// fill it.
    pub fn is_news(&self, peer: IpAddr) -> bool {
        let mut open = self.open();
        open.of(peer) == 0 || open.said.insert(peer)
    }

    async fn wait_for(
        &self,
        mut share: Pin<&mut (impl Future<Output = Option<Share>> + Send)>,
        peer: IpAddr,
        deadline: Instant,
    ) -> Option<Share> {
        loop {
            self.make_place(peer);
            let look = deadline.min(Instant::now() + LOOK_EVERY);
            if let Ok(share) = timeout_at(look, share.as_mut()).await {
                return share;
            }
            if look >= deadline {
                return None;
            }
        }
    }

    /// Asks the connection to end that has been idle for longest, if one has been so for long: of this peer where it has all of its own, else of all.
    fn make_place(&self, peer: IpAddr) {
        let now = Instant::now();
        let open = self.open();
        let is_full = open.of(peer) >= self.per_peer;
        let others = open.connections.values().filter(|(other, _)| !is_full || *other == peer);
        let idle = others.filter_map(|(_, usage)| Some((usage.idle_for(now)?, usage)));
        let longest = idle.filter(|(idle, _)| *idle >= IDLE).max_by_key(|(idle, _)| *idle);
        if let Some((_, usage)) = longest {
            usage.ask_to_end();
        }
    }

    fn place(self: &Arc<Self>, peer: IpAddr, share: Share, waited: Duration) -> Place {
        let usage = Arc::new(Usage::new());
        let mut open = self.open();
        let number = open.next;
        open.next = number.wrapping_add(1);
        open.connections.insert(number, (peer, Arc::clone(&usage)));
        drop(open);
        Place { places: Arc::clone(self), peer, number, usage, waited, _share: share }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
    number: u64,
    pub usage: Arc<Usage>,
    /// How long the connection waited for it.
    pub waited: Duration,
    _share: Share,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open();
        open.connections.remove(&self.number);
        if !open.said.is_empty() && open.of(self.peer) == 0 {
            open.said.remove(&self.peer);
        }
    }
}

/// Whether a connection is in use, and whether it was asked to end.
#[derive(Debug)]
pub(super) struct Usage {
    begin: Instant,
    /// Requests that are being answered, and the time until the first one.
    holders: AtomicU32,
    /// When something was last read or written, in milliseconds since the beginning.
    last: AtomicU64,
    is_asked: AtomicBool,
    /// The task that reads the connection.
    reader: AtomicWaker,
}

impl Usage {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            holders: AtomicU32::new(0),
            last: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        }
    }

    /// The connection is in use until this is dropped. What asked it to end before that came too late.
    pub fn hold(self: &Arc<Self>) -> InUse {
        self.holders.fetch_add(1, Ordering::SeqCst);
        self.is_asked.store(false, Ordering::SeqCst);
        InUse(Arc::clone(self))
    }

    /// Something was read or written.
    pub fn note(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.begin).as_millis();
        self.last.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Whether the connection is to end: it was asked to, and is idle still. Else the task is woken when it is asked to.
    pub fn ends(&self, context: &Context<'_>) -> bool {
        self.reader.register(context.waker());
        if !self.is_asked.load(Ordering::SeqCst) {
            return false;
        }
        let is_idle = self.holders.load(Ordering::SeqCst) == 0;
        // Its request came at the same time.
        self.is_asked.store(is_idle, Ordering::SeqCst);
        is_idle
    }

    fn ask_to_end(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        self.reader.wake();
    }

    /// How long it has been idle. `None` where it is in use, or was asked to end already.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        if self.holders.load(Ordering::SeqCst) > 0 || self.is_asked.load(Ordering::SeqCst) {
            return None;
        }
        let last = Duration::from_millis(self.last.load(Ordering::SeqCst));
        Some(now.saturating_duration_since(self.begin).saturating_sub(last))
    }
}

/// One use of a connection.
#[derive(Debug)]
pub(super) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        // First, so that it is not idle since long ago for a moment.
        self.0.note(Instant::now());
        self.0.holders.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::task::Waker;

    use super::*;

    const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const MODEST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    /// Of so many connections, half for each peer.
    fn places(connections: usize, wait: Duration) -> Arc<Places> {
        let options = ServerOptions {
            connections,
            connections_per_peer: connections / 2,
            connection_wait: wait,
            ..ServerOptions::new("c", "k")
        };
        Arc::new(Places::of(&options))
    }

    fn ends(place: &Place) -> bool {
        place.usage.ends(&Context::from_waker(Waker::noop()))
    }

    /// As long ago as makes place for others.
    fn idle_since_long(place: &mut Place) {
        let usage = Usage { begin: Instant::now().checked_sub(IDLE * 2).unwrap(), ..Usage::new() };
        place.usage = Arc::new(usage);
        let listed = (place.peer, Arc::clone(&place.usage));
        place.places.open().connections.insert(place.number, listed);
    }

    #[tokio::test]
    async fn what_finds_no_place_waits_for_that_of_its_peer_and_others_find_theirs() {
        let places = places(4, Duration::from_mins(1));
        let mut held = vec![places.take(GREEDY).await.unwrap(), places.take(GREEDY).await.unwrap()];
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(places.take(GREEDY))).collect();
        let found: Vec<_> =
            waiting.iter_mut().map(|one| one.now_or_never().map(|place| place.is_some())).collect();
        assert_eq!(found, [None, None, Some(false)], "as many wait as may be open");
        assert!(places.take(MODEST).now_or_never().flatten().is_some_and(|place| place.waited.is_zero()));
        held.pop();
        let mut waiting = waiting.into_iter();
        assert!(waiting.next().unwrap().await.is_some());
    }

    #[tokio::test]
    async fn what_finds_no_place_in_time_is_refused_and_the_log_says_so_once_until_its_peer_has_gone() {
        let places = places(2, Duration::from_millis(2));
        let held = places.take(GREEDY).await.unwrap();
        assert!(places.take(GREEDY).await.is_none());
        assert!(places.is_news(GREEDY) && !places.is_news(GREEDY) && places.is_news(MODEST));
        drop(held);
        let _held = places.take(GREEDY).await.unwrap();
        assert!(places.is_news(GREEDY));
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_for_longest_makes_place_and_none_that_is_in_use() {
        let places = places(4, Duration::from_mins(1));
        let mut old = places.take(GREEDY).await.unwrap();
        let new = places.take(GREEDY).await.unwrap();
        let mut other = places.take(MODEST).await.unwrap();
        idle_since_long(&mut old);
        idle_since_long(&mut other);
        let in_use = old.usage.hold();
        let mut waiting = Box::pin(places.take(GREEDY));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(!ends(&old) && !ends(&new) && !ends(&other), "in use, used just now, of another peer");
        drop((waiting, in_use));
        idle_since_long(&mut old);
        let mut waiting = Box::pin(places.take(GREEDY));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(ends(&old) && !ends(&new) && !ends(&other));
        drop(old);
        assert!(waiting.await.is_some());
    }

    #[tokio::test]
    async fn a_request_that_comes_first_keeps_its_connection() {
        let place = places(2, Duration::from_mins(1)).take(GREEDY).await.unwrap();
        place.usage.ask_to_end();
        let in_use = place.usage.hold();
        assert!(!ends(&place));
        drop(in_use);
        assert!(!ends(&place), "it was not asked to end since");
    }
}
