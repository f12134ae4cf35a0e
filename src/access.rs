//! Who may read what the gate serves to people. The API server says whose a bearer token is (TokenReview), and whether that user may read
//! (SubjectAccessReview). Only its "yes" is one: whatever else it says, or that it says nothing, keeps the reader out.
//!
//! Its answers are remembered for [`AccessOptions::remember`], so that a page which is read often costs it nothing; of other tokens it is asked
//! about a few in a second, from all clients together, of which one client takes half at most. Tokens to which it said "yes" lately do not wait
//! for these.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;
use kube::api::{Api, PostParams};
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use crate::text;

/// What a reader needs the right to `get`. It is no path of the API server's own, so no role of Kubernetes allows it but those that allow all.
pub const PATH: &str = "/wasmgate/report";
/// The verb of that right.
pub const VERB: &str = "get";

/// Longest token that is asked about, in bytes: one with many groups has some 4 KiB, and servers take heads of 8 to 16 KiB.
const LONGEST_TOKEN: usize = 16 << 10;
/// Most tokens whose answers are remembered.
const REMEMBERED: u64 = 512;
/// How long a token counts as one of a reader after the API server said "yes" to it: only for how soon it is asked again.
const GOOD_FOR: Duration = Duration::from_mins(10);
/// A client takes at most one of so many parts of the questions about tokens that are not known.
const CLIENTS: u32 = 2;
/// Most characters of a user's name in a message.
const LONGEST_NAME: usize = 200;

/// How the API server is asked.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// Audiences of which a token must name one; empty for those of the API server.
    pub audiences: Vec<String>,
    /// How long an answer counts. A right that was withdrawn, and a token that has expired, count so long.
    pub remember: Duration,
    /// Longest time for both questions together.
    pub patience: Duration,
    /// Most tokens in a second that the API server is asked about, after [`AccessOptions::at_once`]; as many again of those to which it said
    /// "yes" lately.
    pub per_second: u32,
    /// So many may come at once.
    pub at_once: u32,
}

impl Default for AccessOptions {
    fn default() -> Self {
        Self {
            audiences: Vec::new(),
            // As long as the API server itself remembers tokens
            // (`kubernetes:staging/src/k8s.io/apiserver/pkg/server/options/authentication.go`, `CacheTTL`).
            remember: Duration::from_secs(10),
            patience: Duration::from_secs(5),
            per_second: 5,
            at_once: 20,
        }
    }
}

/// Why someone may not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The token is no user's, has expired, or is for another audience.
    #[error("the API server does not know this token: it is wrong, has expired, or is for another audience")]
    Unknown,
    /// The user lacks the right.
    #[error(
        "user `{user}` may not read this; bind a ClusterRole to it with the verb `{VERB}` on the nonResourceURL `{PATH}`"
    )]
    Forbidden {
        /// The user.
        user: String,
    },
    /// Too many tokens were sent lately.
    #[error(
        "too many tokens were sent lately that the API server has to be asked about; try again in some seconds"
    )]
    Busy,
    /// The API server gave no verdict.
    #[error("the API server gave no verdict: {message}")]
    Unavailable {
        /// What it said instead.
        message: String,
    },
}

/// Asks the API server who may read.
pub struct Access {
    client: Client,
    options: AccessOptions,
    /// What was said of a token. Not the token, which would be worth stealing.
    answers: Cache<Key, Result<Arc<str>, Error>>,
    /// The tokens to which it said "yes" lately. They give no access, and only a place before the others.
    good: Cache<Key, ()>,
    rates: Mutex<Rates>,
}

/// SHA-256 of a token.
type Key = [u8; 32];

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Access {
    /// Asks by this client, whose account needs the rights of the ClusterRole `system:auth-delegator`.
    pub fn new(client: Client, options: AccessOptions) -> Self {
        let answers = Cache::builder().max_capacity(REMEMBERED).time_to_live(options.remember).build();
        let good = Cache::builder().max_capacity(REMEMBERED).time_to_live(GOOD_FOR).build();
        let rates = Mutex::new(Rates::new(&options, Instant::now()));
        Self { client, options, answers, good, rates }
    }

    /// The name of the user whose token this is, if that user may read. The token was sent from this address.
    pub async fn check(&self, token: &str, peer: IpAddr) -> Result<Arc<str>, Error> {
        if !is_token(token) {
            return Err(Error::Unknown);
        }
        let key: Key = Sha256::digest(token.as_bytes()).into();
        // Requests with one token ask once. That there was no verdict is not remembered.
        let asked = self.answers.try_get_with(key, self.ask(token, key, client_at(peer))).await;
        asked.map_err(|error| Error::clone(&error))?
    }

    /// A verdict, which may be remembered, or why there is none.
    async fn ask(&self, token: &str, key: Key, peer: IpAddr) -> Result<Result<Arc<str>, Error>, Error> {
        let from = Some(peer).filter(|_| !self.good.contains_key(&key));
        let may_ask = self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(from, Instant::now());
        if !may_ask {
            return Err(Error::Busy);
        }
        match timeout(self.options.patience, self.verdict(token)).await {
            Ok(Ok(user)) => {
                self.good.insert(key, ()).await;
                Ok(Ok(user))
            }
            Ok(Err(verdict @ (Error::Unknown | Error::Forbidden { .. }))) => {
                self.good.invalidate(&key).await;
                Ok(Err(verdict))
            }
            Ok(Err(none)) => Err(none),
            Err(_) => Err(Error::Unavailable { message: "it did not answer in time".to_owned() }),
        }
    }

    async fn verdict(&self, token: &str) -> Result<Arc<str>, Error> {
        let user = self.user(token).await?;
        let name: Arc<str> = text::shorten(user.username.as_deref().unwrap_or_default(), LONGEST_NAME).into();
        let may = self.may_read(user).await?;
        if may { Ok(name) } else { Err(Error::Forbidden { user: name.to_string() }) }
    }

    /// Whose the token is.
    async fn user(&self, token: &str) -> Result<UserInfo, Error> {
        let audiences = Some(self.options.audiences.clone()).filter(|audiences| !audiences.is_empty());
        let spec = TokenReviewSpec { token: token.to_owned(), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answered = api.create(&PostParams::default(), &review).await.map_err(|error| failed(&error))?;
        let status = answered.status.ok_or_else(no_status)?;
        let is_for_the_gate = self.options.audiences.is_empty()
            || status.audiences.iter().flatten().any(|audience| self.options.audiences.contains(audience));
        if status.authenticated != Some(true) || !is_for_the_gate {
            tracing::debug!(error = status.error, "a token was not taken");
            return Err(Error::Unknown);
        }
        let is_named = |user: &UserInfo| user.username.as_deref().is_some_and(|name| !name.is_empty());
        status.user.filter(is_named).ok_or(Error::Unknown)
    }

    /// Whether the user has the right.
    async fn may_read(&self, user: UserInfo) -> Result<bool, Error> {
        let asked = NonResourceAttributes { path: Some(PATH.to_owned()), verb: Some(VERB.to_owned()) };
        let UserInfo { username, groups, uid, extra } = user;
        let spec = SubjectAccessReviewSpec {
            user: username,
            groups,
            uid,
            extra,
            non_resource_attributes: Some(asked),
            resource_attributes: None,
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answered = api.create(&PostParams::default(), &review).await.map_err(|error| failed(&error))?;
        let SubjectAccessReviewStatus { allowed, denied, .. } = answered.status.ok_or_else(no_status)?;
        Ok(allowed && denied != Some(true))
    }
}

fn no_status() -> Error {
    Error::Unavailable { message: "its answer has no `status`".to_owned() }
}

fn failed(error: &kube::Error) -> Error {
    let message = match error {
        kube::Error::Api(status) if status.code == 403 => {
            "it does not let the gate ask; bind the ClusterRole `system:auth-delegator` to the gate's service account".to_owned()
        }
        other => text::excerpt(&text::chain(other), 400),
    };
    Error::Unavailable { message }
}

/// Whether the text has the form of a bearer token (RFC 6750, 2.1, `b64token`), and a length that may be one.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(is_part)
}

/// Whose an address is, as far as it tells: the owner of an address of IPv6 has as many as fit into its last half.
fn client_at(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// How many tokens the API server is asked about.
#[derive(Debug)]
struct Rates {
    /// Of tokens to which it said "yes" lately.
    good: Rate,
    /// Of all others.
    others: Rate,
    /// What one client takes of these at most.
    own: Rate,
    /// The clients that have taken some and would have to wait for all of it.
    clients: HashMap<IpAddr, Rate>,
}

impl Rates {
    fn new(options: &AccessOptions, now: Instant) -> Self {
        let rate = |parts| Rate::new(options.per_second / parts, options.at_once.div_ceil(parts), now);
        Self { good: rate(1), others: rate(1), own: rate(CLIENTS), clients: HashMap::new() }
    }

    /// Whether it may be asked about one more now: of a client about whose token nothing is known, or of a reader.
    fn take(&mut self, from: Option<IpAddr>, now: Instant) -> bool {
        let Some(client) = from else { return self.good.take(now) };
        self.clients.retain(|_, rate| rate.next > now);
        let mut own = self.clients.get(&client).copied().unwrap_or(self.own);
        // Only who takes one is remembered, so these are few.
        let takes = own.take(now) && self.others.take(now);
        if takes {
            self.clients.insert(client, own);
        }
        takes
    }
}

/// So many in a second, and a number of them at once: what is left is kept as the time at which there would be none too many.
#[derive(Debug, Clone, Copy)]
struct Rate {
    each: Duration,
    ahead: Duration,
    next: Instant,
}

impl Rate {
    fn new(per_second: u32, at_once: u32, now: Instant) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self { each, ahead: each.saturating_mul(at_once.saturating_sub(1)), next: now }
    }

    /// Whether one more may come now.
    fn take(&mut self, now: Instant) -> bool {
        let next = self.next.max(now);
        if next.duration_since(now) > self.ahead {
            return false;
        }
        self.next = next.checked_add(self.each).unwrap_or(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_come_at_once_and_then_so_many_in_a_second() {
        let start = Instant::now();
        let mut rate = Rate::new(4, 3, start);
        let taken = |rate: &mut Rate, millis| {
            let now = start + Duration::from_millis(millis);
            (0..10).filter(|_| rate.take(now)).count()
        };
        assert_eq!([0, 0, 250, 500, 10_000].map(|millis| taken(&mut rate, millis)), [3, 0, 1, 1, 3]);
        assert_eq!(taken(&mut Rate::new(0, 0, start), 0), 1, "never none for ever");
    }

    #[test]
    fn one_client_takes_half_of_the_questions_and_a_reader_waits_for_none_of_them() {
        let start = Instant::now();
        let options = AccessOptions { per_second: 4, at_once: 8, ..AccessOptions::default() };
        let mut rates = Rates::new(&options, start);
        let address = |text: &str| client_at(text.parse().unwrap());
        let taken = |rates: &mut Rates, from: Option<&str>, millis| {
            let now = start + Duration::from_millis(millis);
            (0..20).filter(|_| rates.take(from.map(address), now)).count()
        };
        assert_eq!(taken(&mut rates, Some("2001:db8::1"), 0), 4);
        assert_eq!(taken(&mut rates, Some("2001:db8::ffff:2"), 0), 0, "it has the whole of its network");
        assert_eq!(taken(&mut rates, Some("::ffff:10.0.0.1"), 0), 4);
        assert_eq!(taken(&mut rates, Some("10.0.0.1"), 0), 0, "the same written otherwise");
        assert_eq!(taken(&mut rates, Some("10.0.0.2"), 0), 0, "two clients have taken all");
        assert_eq!(taken(&mut rates, None, 0), 8);
        assert_eq!(rates.clients.len(), 2, "who got nothing is not remembered");
        assert_eq!(taken(&mut rates, Some("10.0.0.2"), 1_000), 4);
        assert_eq!(taken(&mut rates, Some("10.0.0.3"), 60_000), 4);
        assert_eq!(rates.clients.len(), 1, "nor who has waited");
    }

    #[test]
    fn a_text_that_can_be_no_token_is_none() {
        assert!(is_token("eyJhbGciOi.J9_-~+/=="));
        let long = "a".repeat(LONGEST_TOKEN + 1);
        for text in ["", "a b", "a\n", "ä", "a,b", long.as_str()] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
