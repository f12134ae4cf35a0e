//! Places for connections: so many in total, and of each peer. A connection that finds none waits for one for a while: an API server speaks HTTP/1.1 with webhooks
//! and opens a connection for each review that it has at a time, so who loses a connection loses a review. What is idle makes place for what waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures::FutureExt as _;
use futures::task::AtomicWaker;
use tokio::time::{Instant, sleep, timeout_at};

use super::ServerOptions;
use super::answers::Unread;
use crate::shares::{Share, Shares};

/// How long a connection has been idle that makes place for another one. A request that its client sends at that moment is lost; but Go's client goes on with the
/// connection that it used last, so the one that has been idle for longest is the last that it would use.
const IDLE: Duration = Duration::from_secs(1);

/// How often idle connections are looked for while something waits for a place.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Time for the handshake and the request of a connection that has its place late in a shutdown.
const HANDSHAKE: Duration = Duration::from_millis(500);

/// How often the log says that a connection was closed whose peer has none.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Longest that a connection may wait for its place, whatever the options say.
const LONGEST: Duration = Duration::from_mins(1);

/// One part of so many of all places is kept for peers that have few.
const KEPT_PART: usize = 8;

/// A peer has few while it has less than one part of so many of all places: of 1024 that is 32, and Go's client keeps 25 idle connections to a server
/// (`kubernetes:staging/src/k8s.io/client-go/transport/cache.go`, `idleConnsPerHost`).
const FEW_PART: usize = 32;

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    all: Pool,
    /// For those that wait: as many again.
    waiting: Pool,
    wait: Duration,
    unread_timeout: Duration,
    per_peer: usize,
    open: Mutex<Open>,
}

/// Places of which a part is kept for peers that have few, so that two others with all that a peer may have do not take them all.
#[derive(Debug)]
struct Pool {
    common: Shares,
    /// `None` where there are too few in all.
    kept: Option<Shares>,
    few: usize,
}

impl Pool {
    fn of(options: &ServerOptions) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (all, most) = (options.connections.max(1), options.connections_per_peer.max(1));
        let (kept, few) = (all / KEPT_PART, (all / FEW_PART).max(2).min(most));
        Self {
            common: Shares::with_most(count(all.saturating_sub(kept)), count(most)),
            kept: (kept > 0).then(|| Shares::with_most(count(kept), count(few))),
            few,
        }
    }

    /// One that is free, for a peer that has so many connections.
    fn free(&self, name: &Arc<str>, number: usize) -> Option<Share> {
        let common = self.common.take(name, 1).now_or_never().flatten();
        common.or_else(|| self.kept(name, number))
    }

    /// One of those that are kept for peers with few connections, if this is one.
    fn kept(&self, name: &Arc<str>, number: usize) -> Option<Share> {
        let kept = self.kept.as_ref().filter(|_| number < self.few)?;
        kept.take(name, 1).now_or_never().flatten()
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open {
    /// Number of the next one.
    next: u64,
    connections: BTreeMap<u64, (IpAddr, Arc<Usage>)>,
    /// How many each peer has, and how many of it wait for a place.
    counts: HashMap<IpAddr, usize>,
    waiting: HashMap<IpAddr, usize>,
    /// When idle ones were last looked for.
    looked: Option<Instant>,
    /// Peers of which the log says that they have too many.
    said: HashSet<IpAddr>,
    /// When the log last said so of a peer that has none.
    last_said: Option<Instant>,
}

impl Open {
    /// How many a peer has. It is a full IPv6 address: a pod has one, and the pods of a node share a prefix but are different peers.
    fn of(&self, peer: IpAddr) -> usize {
        self.counts.get(&peer).copied().unwrap_or_default()
    }

    /// Asks as many idle connections to end as wait: of the same peer where that has all of its own, else of all.
    fn make_places(&self, now: Instant, per_peer: usize) {
        let idle = self.idle(now);
        let mut of_all = 0_usize;
        for (peer, number) in &self.waiting {
            if self.of(*peer) < per_peer {
                of_all = of_all.saturating_add(*number);
                continue;
            }
            for (_, usage) in idle.iter().filter(|(other, _)| other == peer).take(*number) {
                usage.ask_to_end();
            }
        }
        for (_, usage) in idle.iter().filter(|(_, usage)| !usage.is_asked()).take(of_all) {
            usage.ask_to_end();
        }
    }

    /// Those that have been idle for long. The first is of the peer that has the most open, and of that the one that has been idle for longest; the next is what
    /// the first would be without it. So the only connection of a peer comes last.
    fn idle(&self, now: Instant) -> Vec<(IpAddr, &Arc<Usage>)> {
        let idle =
            self.connections.values().filter_map(|(peer, usage)| Some((usage.idle_for(now)?, *peer, usage)));
        let mut idle: Vec<_> = idle.filter(|(idle, ..)| *idle >= IDLE).collect();
        idle.sort_by_key(|(idle, ..)| Reverse(*idle));
        let mut left = self.counts.clone();
        let ranked = idle.into_iter().map(|(_, peer, usage)| {
            let count = left.entry(peer).or_default();
            let rank = *count;
            *count = rank.saturating_sub(1);
            (rank, peer, usage)
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, ..)| Reverse(*rank));
        ranked.into_iter().map(|(_, peer, usage)| (peer, usage)).collect()
    }
}

fn one_less(counts: &mut HashMap<IpAddr, usize>, peer: IpAddr) {
    if let Some(count) = counts.get_mut(&peer) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&peer);
        }
    }
}

impl Places {
    pub fn of(options: &ServerOptions) -> Self {
        Self {
            all: Pool::of(options),
            waiting: Pool::of(options),
            wait: options.connection_wait.min(LONGEST),
            unread_timeout: options.unread_timeout,
            per_peer: options.connections_per_peer.max(1),
            open: Mutex::default(),
        }
    }

    /// A place for a connection of this peer. `None` where there is none in time, or too many wait. The peer's own comes first: a peer with all of its own takes no
    /// place of another one, not even for a moment.
    pub async fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let begin = Instant::now();
        let (name, deadline) = (Arc::<str>::from(peer.to_string()), begin + self.wait);
        let mut share = pin!(self.all.common.take_by(&name, 1, Some(deadline)));
        if let Some(free) = share.as_mut().now_or_never() {
            return free.map(|share| self.place(peer, share, Duration::ZERO));
        }
        let number = self.number_of(peer);
        if let Some(kept) = self.all.kept(&name, number) {
            return Some(self.place(peer, kept, Duration::ZERO));
        }
        let _waits = self.waits(peer, self.waiting.free(&name, number)?);
        let share = self.wait_for(share, (peer, &name), deadline).await?;
        Some(self.place(peer, share, begin.elapsed()))
    }

    /// Whether the log does not say yet that this peer has too many. It says so once until the peer has closed all of them, and once a second of all peers that have
    /// none: one that keeps trying would fill it.
    pub fn is_news(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        let mut open = self.open();
        if open.of(peer) > 0 {
            return open.said.insert(peer);
        }
        let is_due = open.last_said.is_none_or(|last| now.saturating_duration_since(last) >= SAY_EVERY);
        if is_due {
            open.last_said = Some(now);
        }
        is_due
    }

    /// Returns when no connection waits for a place, and the one that got the last has had a moment for its handshake.
    pub async fn until_none_waits(&self) {
        if !self.has_waiting() {
            return;
        }
        while self.has_waiting() {
            sleep(LOOK_EVERY).await;
        }
        sleep(HANDSHAKE).await;
    }

    fn has_waiting(&self) -> bool {
        !self.open().waiting.is_empty()
    }

    fn number_of(&self, peer: IpAddr) -> usize {
        self.open().of(peer)
    }

    async fn wait_for(
        &self,
        mut share: Pin<&mut (impl Future<Output = Option<Share>> + Send)>,
        (peer, name): (IpAddr, &Arc<str>),
        deadline: Instant,
    ) -> Option<Share> {
        loop {
            self.look();
            if let Some(kept) = self.all.kept(name, self.number_of(peer)) {
                return Some(kept);
            }
            let look = deadline.min(Instant::now() + LOOK_EVERY);
            if let Ok(share) = timeout_at(look, share.as_mut()).await {
                return share;
            }
            if look >= deadline {
                return None;
            }
        }
    }

    /// Looks for idle connections for all that wait, unless another one did so a moment ago.
    fn look(&self) {
        let now = Instant::now();
        let mut open = self.open();
        if open.looked.is_none_or(|last| now.saturating_duration_since(last) >= LOOK_EVERY) {
            open.looked = Some(now);
            open.make_places(now, self.per_peer);
        }
    }

    fn waits(&self, peer: IpAddr, share: Share) -> Waits<'_> {
        *self.open().waiting.entry(peer).or_default() += 1;
        Waits { places: self, peer, _share: share }
    }

    fn place(self: &Arc<Self>, peer: IpAddr, share: Share, waited: Duration) -> Place {
        let usage = Arc::new(Usage::new(self.unread_timeout));
        let mut open = self.open();
        let number = open.next;
        open.next = number.wrapping_add(1);
        open.connections.insert(number, (peer, Arc::clone(&usage)));
        *open.counts.entry(peer).or_default() += 1;
        drop(open);
        Place { places: Arc::clone(self), peer, number, usage, waited, _share: share }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that waits for its place; dropping it ends that.
struct Waits<'a> {
    places: &'a Places,
    peer: IpAddr,
    _share: Share,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        one_less(&mut self.places.open().waiting, self.peer);
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
        one_less(&mut open.counts, self.peer);
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
    /// Answers that are being written.
    pub unread: Unread,
    /// How long it is in use for them.
    unread_timeout: Duration,
    /// When it was last in use, in milliseconds since the beginning.
    last: AtomicU64,
    /// Whether something was read since.
    is_read: AtomicBool,
    is_asked: AtomicBool,
    /// The task that reads the connection.
    reader: AtomicWaker,
}

impl Usage {
    fn new(unread_timeout: Duration) -> Self {
        Self {
            begin: Instant::now(),
            holders: AtomicU32::new(0),
            unread: Unread::default(),
            unread_timeout,
            last: AtomicU64::new(0),
            is_read: AtomicBool::new(false),
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

    /// Something was read. The first bytes since an answer may begin a request, whose rest has a moment to come. Further ones change nothing: a client that sends a
    /// PING each moment would never be idle.
    pub fn note_read(&self, now: Instant) {
        if !self.is_read.swap(true, Ordering::SeqCst) {
            self.note(now);
        }
    }

    fn note(&self, now: Instant) {
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

    fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::SeqCst)
    }

    /// How long it has been idle. `None` where it is in use, as it is too while an answer is being written, or was asked to end already.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let is_written =
            self.unread.is_older_than(Duration::ZERO) && !self.unread.is_older_than(self.unread_timeout);
        if is_written || self.holders.load(Ordering::SeqCst) > 0 || self.is_asked() {
            return None;
        }
        let last = Duration::from_millis(self.last.load(Ordering::SeqCst));
        let since_use = now.saturating_duration_since(self.begin).saturating_sub(last);
        let written = self.unread.last_written().map(|written| now.saturating_duration_since(written));
        Some(written.map_or(since_use, |since| since.min(since_use)))
    }
}

/// One use of a connection.
#[derive(Debug)]
pub(super) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.is_read.store(false, Ordering::SeqCst);
        // Before it ends, so that it is not idle since long ago for a moment.
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
    const UNREAD: Duration = Duration::from_secs(30);

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
        let usage = Usage { begin: Instant::now().checked_sub(IDLE * 2).unwrap(), ..Usage::new(UNREAD) };
        place.usage = Arc::new(usage);
        let listed = (place.peer, Arc::clone(&place.usage));
        let mut open = place.places.open();
        open.connections.insert(place.number, listed);
        // The next one that waits looks at once.
        open.looked = None;
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

    #[test]
    fn the_log_says_once_a_second_that_peers_without_a_connection_find_no_place() {
        let places = places(2, Duration::ZERO);
        assert!(places.is_news(GREEDY) && !places.is_news(GREEDY) && !places.is_news(MODEST));
        places.open().last_said = Instant::now().checked_sub(SAY_EVERY);
        assert!(places.is_news(MODEST) && !places.is_news(GREEDY));
    }

    #[tokio::test]
    async fn two_peers_with_all_that_they_may_have_leave_places_to_those_that_have_few() {
        let options = ServerOptions {
            connections: 64,
            connections_per_peer: 48,
            connection_wait: Duration::from_millis(2),
            ..ServerOptions::new("c", "k")
        };
        let places = Arc::new(Places::of(&options));
        let mut held = Vec::new();
        let take = |held: &mut Vec<Place>, peer: IpAddr, number: usize| {
            for _ in 0..number {
                held.extend(places.take(peer).now_or_never().flatten());
            }
            places.number_of(peer)
        };
        let other = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 1, last));
        assert_eq!(take(&mut held, GREEDY, 60), 48);
        assert_eq!(take(&mut held, MODEST, 60), 8, "an eighth is kept");
        for last in 1..=4 {
            assert_eq!(take(&mut held, other(last), 10), 2, "no more than few");
        }
        assert_eq!(take(&mut held, other(5), 1), 0, "all are taken");
        held.pop();
        assert_eq!(take(&mut held, GREEDY, 1), 48);
        assert_eq!(take(&mut held, other(5), 1), 1);
    }

    #[test]
    fn what_waits_takes_no_place_to_wait_from_peers_that_have_few() {
        let options =
            ServerOptions { connections: 64, connections_per_peer: 48, ..ServerOptions::new("c", "k") };
        let pool = Pool::of(&options);
        let (greedy, modest): (Arc<str>, Arc<str>) = (GREEDY.to_string().into(), MODEST.to_string().into());
        let waits = |name: &Arc<str>, number: usize| pool.free(name, number);
        let held: Vec<_> = (0..60).filter_map(|_| waits(&greedy, 48)).collect();
        let held_too: Vec<_> = (0..60).filter_map(|_| waits(&modest, 8)).collect();
        assert_eq!((held.len(), held_too.len()), (48, 8));
        assert!(waits(&"10.0.0.3".into(), 0).is_some());
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
    async fn the_peer_with_the_most_connections_makes_place_and_as_many_end_as_wait() {
        let places = places(8, Duration::from_mins(1));
        let mut only = places.take(MODEST).await.unwrap();
        idle_since_long(&mut only);
        let mut greedy = Vec::new();
        for _ in 0..4 {
            greedy.push(places.take(GREEDY).await.unwrap());
        }
        let third = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
        // With one that is kept for peers that have few, all are taken.
        let _others = [places.take(third).await.unwrap(), places.take(third).await.unwrap()];
        let _kept = places.take(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4))).await.unwrap();
        greedy.iter_mut().for_each(idle_since_long);
        places.open().looked = Some(Instant::now() + Duration::from_mins(1));
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(places.take(third))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        places.open().looked = None;
        places.look();
        let ended = greedy.iter().filter(|place| ends(place)).count();
        assert_eq!((ended, ends(&only)), (2, false));
    }

    #[tokio::test]
    async fn bytes_without_a_request_keep_no_connection_and_an_answer_that_is_being_written_does() {
        let mut place = places(2, Duration::from_mins(1)).take(GREEDY).await.unwrap();
        idle_since_long(&mut place);
        let usage = Arc::clone(&place.usage);
        let begin = Instant::now();
        let later = begin + IDLE * 10;
        assert!(usage.idle_for(begin).is_some_and(|idle| idle >= IDLE));
        usage.note_read(begin);
        assert!(usage.idle_for(begin).is_some_and(|idle| idle < IDLE), "a request may have begun");
        usage.note_read(later);
        assert!(usage.idle_for(later).is_some_and(|idle| idle >= IDLE), "a PING is none");
        drop(usage.hold());
        let answer = usage.unread.hold(vec![b'x'], None);
        assert_eq!(usage.idle_for(later), None);
        drop(answer);
        assert!(usage.idle_for(Instant::now()).is_some_and(|idle| idle < IDLE), "it was written just now");
    }

    #[test]
    fn an_answer_that_is_unread_for_too_long_keeps_no_connection() {
        let usage = Usage::new(Duration::ZERO);
        let _answer = usage.unread.hold(vec![b'x'], None);
        assert!(usage.idle_for(Instant::now()).is_some());
    }

    #[tokio::test]
    async fn the_wait_of_all_ends_with_that_of_the_last() {
        let places = places(2, Duration::from_mins(1));
        let held = places.take(GREEDY).await.unwrap();
        assert!(places.until_none_waits().now_or_never().is_some());
        let mut waiting = Box::pin(places.take(GREEDY));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(places.until_none_waits().now_or_never().is_none());
        drop(held);
        assert!(waiting.await.is_some() && places.until_none_waits().now_or_never().is_some());
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
