//! Slots, memory and processors that reviews share. The pods of one namespace never hold more than half of any, nor one peer more than
//! its part of the memory for requests. Whose turn is next says `line`. Long work is kept off the threads that answer (`beside`), and out of the turns of
//! others (`turn`).

mod beside;
mod line;
mod turn;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt as _;
use tokio::time::{Instant, timeout_at};

pub(crate) use beside::{beside, has_other_threads, processors};
pub(crate) use line::{Held, Line};
pub(crate) use turn::{give_back_turn, has_turn, in_turn};

/// Number of namespaces at which the table is cleaned of those that hold nothing.
const CLEAN_UP_AT: usize = 1024;

/// So many bytes in units of this size, rounded up.
pub(crate) fn units(bytes: usize, unit: usize) -> u32 {
    u32::try_from(bytes.div_ceil(unit)).unwrap_or(u32::MAX)
}

/// A number of equal units, and which namespace holds how many.
#[derive(Debug)]
pub(crate) struct Shares {
    all: Arc<Line>,
    /// The most that one namespace may hold, unless a single request exceeds it.
    most: u32,
    namespaces: Mutex<HashMap<Arc<str>, Weak<Line>>>,
}

/// Units that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    // First, so that the next of the namespace finds these free.
    of_all: Held,
    own: Held,
}

impl Share {
    /// Whether the units were not free when they were asked for.
    pub(crate) const fn has_waited(&self) -> bool {
        self.own.has_waited() || self.of_all.has_waited()
    }
}

impl Shares {
    /// Half of them for each holder.
    pub(crate) fn new(total: u32) -> Self {
        Self::in_parts(total, 2)
    }

    /// One of so many parts of them for each holder.
    pub(crate) fn in_parts(total: u32, parts: u32) -> Self {
        let all = total.max(1);
        Self::with_most(all, all.div_ceil(parts.max(1)))
    }

    /// No more than so many of them for each holder.
    pub(crate) fn with_most(total: u32, most: u32) -> Self {
        let all = total.max(1);
        Self { all: Line::of(all), most: most.clamp(1, all), namespaces: Mutex::default() }
    }

    /// Waits for units: first for the namespace's own, then for the common ones, each first come, first served. A
    /// caller that waits for the common ones holds nothing that another namespace waits for, so there is no circle.
    pub(crate) async fn take(&self, namespace: &Arc<str>, units: u32) -> Option<Share> {
        self.take_by(namespace, units, None).await
    }

    /// The same for one that needs them by this time; its caller ends the wait. Once the time of the oldest is nearly over, the newest comes first ([`Line`]), in
    /// the line of the namespace as in that of all.
    pub(crate) async fn take_by(
        &self,
        namespace: &Arc<str>,
        units: u32,
        deadline: Option<Instant>,
    ) -> Option<Share> {
        let own = self.of(namespace).take(units.min(self.most), deadline).await?;
        let of_all = self.all.take(units, deadline).await?;
        Some(Share { of_all, own })
    }

    /// The same for one that holds other things while it waits: what is free it takes, and else it waits until the deadline with a place among those that may. Without
    /// such a place it gets nothing, at once.
    pub(crate) async fn take_or_wait(
        &self,
        namespace: &Arc<str>,
        units: u32,
        deadline: Option<Instant>,
        (waiting, places): (&Self, u32),
    ) -> Option<Share> {
        let mut share = pin!(self.take_by(namespace, units, deadline));
        if let Some(free) = share.as_mut().now_or_never() {
            return free;
        }
        let _place = waiting.take(namespace, places).now_or_never().flatten()?;
        match deadline {
            Some(deadline) => timeout_at(deadline, share).await.ok().flatten(),
            None => share.await,
        }
    }

    /// The line of a namespace. It lives as long as units are held or waited for.
    fn of(&self, namespace: &Arc<str>) -> Arc<Line> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = namespaces.get(namespace).and_then(Weak::upgrade) {
            return known;
        }
        if namespaces.len() >= CLEAN_UP_AT {
            namespaces.retain(|_, known| known.strong_count() > 0);
        }
        let new = Line::of(self.most);
        namespaces.insert(Arc::clone(namespace), Arc::downgrade(&new));
        new
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u32 {
        self.all.left()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_namespace_leaves_half_to_the_others() {
        let shares = Shares::new(6);
        let (greedy, modest): (Arc<str>, Arc<str>) = ("evil".into(), "shop".into());
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(shares.take(&greedy, 1).await.unwrap());
        }
        assert!(shares.take(&greedy, 1).now_or_never().is_none(), "more than half");
        let other = shares.take(&modest, 2).now_or_never();
        assert!(other.is_some(), "the other half is free");
        held.pop();
        assert!(shares.take(&greedy, 1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_request_above_half_gets_it_at_once_and_all_is_returned() {
        let shares = Arc::new(Shares::new(10));
        let names: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).into();
        let tasks = (0..60_u32).map(|number| {
            let (shares, name) = (Arc::clone(&shares), names[number as usize % 3].clone());
            tokio::spawn(async move {
                let share = shares.take(&name, 1 + number % 10).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(share);
            })
        });
        let all = futures::future::join_all(tasks);
        let done = tokio::time::timeout(Duration::from_secs(20), all).await.expect("no circular wait");
        assert!(done.into_iter().all(|one| one.is_ok()));
        assert_eq!(shares.left(), 10);
    }

    #[tokio::test]
    async fn where_time_runs_out_the_newest_of_a_namespace_comes_first_and_its_part_stays_what_it_is() {
        let shares = Shares::new(2);
        let (greedy, modest): (Arc<str>, Arc<str>) = ("evil".into(), "shop".into());
        // All of the time is over as soon as it is asked for.
        let over = Some(Instant::now());
        let held = shares.take(&greedy, 1).await.unwrap();
        let mut old = Box::pin(shares.take_by(&greedy, 1, over));
        let mut new = Box::pin(shares.take_by(&greedy, 1, over));
        assert!((&mut old).now_or_never().is_none() && (&mut new).now_or_never().is_none());
        assert!(
            shares.take_by(&modest, 1, over).now_or_never().flatten().is_some(),
            "the other half is free"
        );
        assert!(!held.has_waited());
        drop(held);
        assert!((&mut old).now_or_never().is_none());
        let new = new.now_or_never().flatten().unwrap();
        drop(new);
        assert!(old.now_or_never().flatten().is_some_and(|old| old.has_waited()), "and then the older one");
    }

    #[tokio::test]
    async fn namespaces_that_hold_nothing_are_forgotten() {
        let shares = Shares::new(4);
        for number in 0..4 * CLEAN_UP_AT {
            drop(shares.take(&format!("n{number}").into(), 1).await);
        }
        assert!(shares.namespaces.lock().unwrap().len() <= CLEAN_UP_AT);
    }
}
