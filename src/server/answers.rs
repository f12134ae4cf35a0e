//! Answers that their clients have not read yet: they share a fixed memory, and those of a connection are not kept for ever. HTTP/2 lets a client leave an answer
//! unread for as long as it likes, while its connection is in use: it gives no window for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::time::Instant;

use crate::shares::{self, Share, Shares};

/// Bytes in which the memory is counted. Most answers have a few hundred.
const UNIT: usize = 64;

/// One part of so many of that memory is what a peer may hold. Short answers fit into it on all streams of all its connections.
const PEERS: u32 = 4;

/// The memory for answers.
#[derive(Debug)]
pub(super) struct Answers(Shares);

impl Answers {
    pub fn in_bytes(bytes: usize) -> Self {
        Self(Shares::in_parts(shares::units(bytes, UNIT), PEERS))
    }

    /// An answer that has its share of the memory until it is written, or its connection is gone. `None` where there is no space for it: it does not wait, since
    /// it would be held meanwhile.
    pub fn hold(&self, bytes: Vec<u8>, reader: &Reader) -> Option<Bytes> {
        let units = shares::units(bytes.capacity(), UNIT).max(1);
        let share = self.0.take(&reader.peer, units).now_or_never().flatten()?;
        Some(reader.unread.hold(bytes, Some(share)))
    }
}

/// Who gets an answer.
#[derive(Debug)]
pub(super) struct Reader {
    /// The address of the client, without its port.
    pub peer: Arc<str>,
    unread: Unread,
}

impl Reader {
    pub fn of(request: &Request) -> Self {
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = address
            .map_or_else(|| Arc::from(""), |ConnectInfo(peer)| peer.ip().to_canonical().to_string().into());
        Self { peer, unread: request.extensions().get::<Unread>().cloned().unwrap_or_default() }
    }

    /// An answer of a few words: its memory is not counted, but it counts as unread.
    pub fn told(&self, text: impl Into<Vec<u8>>) -> Bytes {
        self.unread.hold(text.into(), None)
    }
}

/// The answers of a connection that are not written yet; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Number of the next answer.
    next: u64,
    /// When each was made, by their numbers.
    since: BTreeMap<u64, Instant>,
    /// When one was last written, or dropped with its connection.
    last: Option<Instant>,
}

impl Unread {
    /// Whether one of them has waited for this long.
    pub fn is_older_than(&self, limit: Duration) -> bool {
        let oldest = self.waiting().since.first_key_value().map(|(_, since)| *since);
        oldest.is_some_and(|since| since.elapsed() >= limit)
    }

    /// When one of them was last written.
    pub fn last_written(&self) -> Option<Instant> {
        self.waiting().last
    }

    pub(super) fn hold(&self, bytes: Vec<u8>, memory: Option<Share>) -> Bytes {
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        waiting.since.insert(number, Instant::now());
        drop(waiting);
        Bytes::from_owner(Answer { bytes, number, unread: self.clone(), _memory: memory })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of an answer. They are dropped when all are written.
struct Answer {
    bytes: Vec<u8>,
    number: u64,
    unread: Unread,
    _memory: Option<Share>,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut waiting = self.unread.waiting();
        waiting.since.remove(&self.number);
        waiting.last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(peer: &str) -> Reader {
        Reader { peer: peer.into(), unread: Unread::default() }
    }

    #[test]
    fn an_answer_holds_its_share_until_all_of_it_is_dropped_and_a_peer_its_part_at_most() {
        let answers = Answers::in_bytes(16 * UNIT);
        let (greedy, modest) = (reader("10.0.0.1"), reader("10.0.0.2"));
        let hold = |units: usize, reader: &Reader| answers.hold(vec![b'x'; units * UNIT], reader);
        let mut held = hold(3, &greedy).unwrap();
        assert_eq!(held.len(), 3 * UNIT);
        assert!(hold(2, &greedy).is_none(), "a quarter is four");
        assert!(hold(1, &greedy).is_some() && hold(4, &modest).is_some());
        let rest = held.split_off(UNIT);
        drop(held);
        assert!(hold(4, &greedy).is_none(), "a part of it is still there");
        drop(rest);
        assert!(hold(4, &greedy).is_some());
        assert_eq!(answers.0.left(), 16);
    }

    #[test]
    fn an_answer_that_exceeds_the_memory_is_refused_and_holds_nothing() {
        let answers = Answers::in_bytes(16 * UNIT);
        assert!(answers.hold(vec![0; 17 * UNIT], &reader("10.0.0.1")).is_none());
        assert_eq!(answers.0.left(), 16);
    }

    #[test]
    fn the_age_of_a_connections_answers_is_that_of_the_oldest_that_is_there() {
        let reader = reader("10.0.0.1");
        let (soon, later) = (Duration::ZERO, Duration::from_mins(10));
        assert!(!reader.unread.is_older_than(soon), "there is none");
        let (old, new) = (reader.told("old"), reader.told("new"));
        assert!(reader.unread.is_older_than(soon) && !reader.unread.is_older_than(later));
        drop(old);
        assert!(reader.unread.is_older_than(soon), "the newer one is still there");
        drop(new);
        assert!(!reader.unread.is_older_than(soon));
    }
}
