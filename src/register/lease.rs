//! Leader election with a `coordination.k8s.io/v1` Lease: decides which replica may write. Sends no requests.
//!
//! Clocks of different nodes are never compared: a candidate takes a Lease over when it has not seen it change for a whole
//! term by its own clock, as client-go does (`kubernetes:staging/src/k8s.io/client-go/tools/leaderelection`).
//! kube-leader-election compares the holder's wall clock with its own, and kubert's lease is tied to kube 1.

use std::time::Duration;

/// Durations of leader election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a Lease lasts without renewal before another replica may take it.
    pub term: Duration,
}

impl Timing {
    /// How long a holder may write after its last successful renewal: two thirds of a term, so that every request that it
    /// started ends within the term.
    pub fn deadline(self) -> Duration {
        self.term * 2 / 3
    }

    /// Time between two reads of the Lease.
    pub fn retry(self) -> Duration {
        self.term / 6
    }

    /// Time limit for one request of a holder.
    pub fn request(self) -> Duration {
        self.term / 4
    }
}

/// What to do with the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It does not exist: create it.
    Create,
    /// It has no holder, or the holder does not renew it: take it.
    Take,
    /// This candidate holds it: renew it.
    Renew,
    /// Another candidate holds it.
    Wait,
    /// Another candidate holds it although this one's term was not over: stop at once.
    Yield,
}

/// The Lease as it was last seen. All times are of the candidate's own clock, since an arbitrary moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    version: String,
    holder: String,
    since: Duration,
}

/// A replica that wants to write.
#[derive(Debug, Clone)]
pub struct Candidate {
    me: String,
    timing: Timing,
    seen: Option<Seen>,
    /// End of this candidate's term; `None` if it does not hold the Lease.
    until: Option<Duration>,
}

impl Candidate {
    /// A candidate. Its name must be unique, even among earlier processes of the same replica.
    pub fn new(me: String, timing: Timing) -> Self {
        Self { me, timing, seen: None, until: None }
    }

    /// Name of the candidate.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Notes the Lease as it was read (`None` if it does not exist), and says what to do.
    pub fn look(&mut self, lease: Option<(&str, &str)>, now: Duration) -> Act {
        let Some((version, holder)) = lease else {
            (self.seen, self.until) = (None, None);
            return Act::Create;
        };
        if self.seen.as_ref().is_none_or(|seen| seen.version != version) {
            self.seen = Some(Seen { version: version.into(), holder: holder.into(), since: now });
        }
        let since = self.seen.as_ref().map_or(now, |seen| seen.since);
        if holder == self.me {
            return Act::Renew;
        }
        let led = self.until.take().is_some_and(|until| now < until);
        match holder {
            "" => Act::Take,
            _ if led => Act::Yield,
            _ if now.saturating_sub(since) > self.timing.term => Act::Take,
            _ => Act::Wait,
        }
    }

    /// Notes that a request sent at `sent` made this candidate the holder; the Lease now has this version.
    pub fn won(&mut self, version: &str, sent: Duration) {
        self.seen = Some(Seen { version: version.into(), holder: self.me.clone(), since: sent });
        self.until = Some(sent + self.timing.deadline());
    }

    /// Ends this candidate's term.
    pub fn resign(&mut self) {
        self.until = None;
    }

    /// End of this candidate's term by its own clock, if it is not over.
    pub fn term(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERM: Duration = Duration::from_secs(15);

    fn candidate() -> Candidate {
        Candidate::new("a".into(), Timing { term: TERM })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_done_with_each_lease() {
        assert_eq!(candidate().look(None, at(0)), Act::Create);
        assert_eq!(candidate().look(Some(("1", "")), at(0)), Act::Take);
        assert_eq!(candidate().look(Some(("1", "a")), at(0)), Act::Renew);
        assert_eq!(candidate().look(Some(("1", "b")), at(0)), Act::Wait);
    }

    #[test]
    fn a_lease_that_changes_is_left_alone_and_one_that_stands_still_is_taken() {
        let mut one = candidate();
        for second in (0..60).step_by(10) {
            assert_eq!(one.look(Some((&second.to_string(), "b")), at(second)), Act::Wait);
        }
        assert_eq!(one.look(Some(("50", "b")), at(65)), Act::Wait, "a whole term has to pass");
        assert_eq!(one.look(Some(("50", "b")), at(66)), Act::Take);
    }

    #[test]
    fn a_term_ends_before_another_candidate_may_take_over() {
        let mut one = candidate();
        one.won("1", at(0));
        assert_eq!(one.term(at(9)), Some(at(10)));
        assert_eq!(one.term(at(10)), None);
        one.won("2", at(9));
        assert!(one.term(at(18)).is_some());
        assert_eq!(one.look(Some(("3", "b")), at(12)), Act::Yield);
        assert_eq!(one.term(at(12)), None);
        assert_eq!(one.look(Some(("3", "b")), at(13)), Act::Wait);
    }

    #[test]
    fn who_resigns_holds_nothing() {
        let mut one = candidate();
        one.won("1", at(0));
        one.resign();
        assert_eq!(one.term(at(1)), None);
    }

    /// The API server: one object that can only be updated from the version that the writer saw.
    #[derive(Default)]
    struct Server {
        lease: Option<(u64, String)>,
        written: u64,
    }

    impl Server {
        fn put(&mut self, over: Option<u64>, holder: &str) -> Option<u64> {
            if self.lease.as_ref().map(|(version, _)| *version) != over {
                return None;
            }
            self.written += 1;
            self.lease = Some((self.written, holder.into()));
            Some(self.written)
        }
    }

    proptest! {
        #[test]
        fn two_candidates_never_hold_it_at_one_time(
            skew in prop::array::uniform2(0..100_000_u64),
            rounds in prop::collection::vec((0..2_usize, 0..9_000_u64, 0..3_000_u64, 0..3_000_u64, 0..10_u8), 400),
        ) {
            let timing = Timing { term: TERM };
            let mut both = [Candidate::new("a".into(), timing), Candidate::new("b".into(), timing)];
            let clock = |who: usize, now: u64| Duration::from_millis(now + skew[who]);
            let (mut server, mut now, mut led) = (Server::default(), 0, [false; 2]);
            for (who, pause, there, back, fate) in rounds {
                let check = |both: &[Candidate; 2], now: u64| {
                    both[0].term(clock(0, now)).is_some() && both[1].term(clock(1, now)).is_some()
                };
                now += pause;
                prop_assert!(!check(&both, now));
                // The response to a read may be outdated when it arrives.
                let read = server.lease.clone();
                now += there;
                let seen = read.as_ref().map(|(version, holder)| (version.to_string(), holder.as_str()));
                let act = both[who].look(seen.as_ref().map(|(version, holder)| (version.as_str(), *holder)), clock(who, now));
                let sent = clock(who, now);
                if matches!(act, Act::Create | Act::Take | Act::Renew) && fate != 0 {
                    now += there;
                    prop_assert!(!check(&both, now));
                    let name = if fate == 1 { String::new() } else { both[who].me().to_owned() };
                    if fate == 1 {
                        both[who].resign();
                    }
                    let version = server.put(read.map(|(version, _)| version), &name);
                    now += back;
                    // Fate 2: the response is lost.
                    if let Some(version) = version.filter(|_| fate > 2) {
                        both[who].won(&version.to_string(), sent);
                    }
                }
                for (index, one) in both.iter().enumerate() {
                    led[index] |= one.term(clock(index, now)).is_some();
                }
                prop_assert!(!check(&both, now), "at {now}");
            }
            prop_assert!(led[0] || led[1]);
        }
    }
}
