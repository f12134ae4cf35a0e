//! Who may read what the gate serves to people. The API server says whose a bearer token is (TokenReview), and whether that user may read
//! (SubjectAccessReview). Only its "yes" is one: whatever else it says, or that it says nothing, keeps the reader out.
//!
//! Its answers are remembered for [`AccessOptions::remember`], so that a page which is read often costs it nothing; of other tokens it is asked
//! about a few in a second, from all clients together.

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
    /// Most tokens in a second that the API server is asked about, after [`AccessOptions::at_once`].
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
    /// SHA-256 of a token → what was said of it. Not the token, which would be worth stealing.
    answers: Cache<[u8; 32], Result<Arc<str>, Error>>,
    rate: Mutex<Rate>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Access {
    /// Asks by this client, whose account needs the rights of the ClusterRole `system:auth-delegator`.
    pub fn new(client: Client, options: AccessOptions) -> Self {
        let answers = Cache::builder().max_capacity(REMEMBERED).time_to_live(options.remember).build();
        let rate = Mutex::new(Rate::new(options.per_second, options.at_once, Instant::now()));
        Self { client, options, answers, rate }
    }

    /// The name of the user whose token this is, if that user may read.
    pub async fn check(&self, token: &str) -> Result<Arc<str>, Error> {
        if !is_token(token) {
            return Err(Error::Unknown);
        }
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Requests with one token ask once. That there was no verdict is not remembered.
        let asked = self.answers.try_get_with(key, self.ask(token)).await;
        asked.map_err(|error| Error::clone(&error))?
    }

    /// A verdict, which may be remembered, or why there is none.
    async fn ask(&self, token: &str) -> Result<Result<Arc<str>, Error>, Error> {
        let may_ask = self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if !may_ask {
            return Err(Error::Busy);
        }
        match timeout(self.options.patience, self.verdict(token)).await {
            Ok(Ok(user)) => Ok(Ok(user)),
            Ok(Err(verdict @ (Error::Unknown | Error::Forbidden { .. }))) => Ok(Err(verdict)),
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

/// So many in a second, and a number of them at once: what is left is kept as the time at which there would be none too many.
#[derive(Debug)]
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
    fn a_text_that_can_be_no_token_is_none() {
        assert!(is_token("eyJhbGciOi.J9_-~+/=="));
        let long = "a".repeat(LONGEST_TOKEN + 1);
        for text in ["", "a b", "a\n", "ä", "a,b", long.as_str()] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
