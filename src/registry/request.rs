//! One request to one registry, with the credentials and tokens that the registry wants.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Response, StatusCode, Url};

use super::Login;
use super::auth::{self, TokenKey};
use super::breaker::Permit;
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::inner::Inner;
use super::message::{self, AuthContext, FetchFailure};
use super::site::Site;
use super::transport::{self, BodyFailure, Failure, HttpRequest};
use crate::text;

/// Most credentials that are tried for one request. The kubelet tries all, but a pod may name any number of Secrets.
const MOST_CREDENTIALS: usize = 4;

/// One request to one registry, and what is needed to authenticate it.
pub(super) struct AuthenticatedRequest<'a> {
    pub(super) inner: &'a Inner,
    pub(super) site: &'a Site,
    pub(super) permit: Permit,
    pub(super) auth: AuthContext,
}

impl AuthenticatedRequest<'_> {
    /// Authenticates as the registry wanted the last time, or not at all; then as its refusal demands.
    pub(super) async fn ask(
        &mut self,
        url: Url,
        accept: Option<&'static str>,
        first: &[Login],
    ) -> Result<Response, FetchFailure> {
        let ask = HttpRequest { accept, ..HttpRequest::get(url) };
        let known = self.inner.auth.challenge(&self.site.registry).await;
        let (mut challenge, mut last) = if let Some(challenge) = known {
            (challenge, None)
        } else {
            let response = self.send(&ask).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let Some(challenge) = challenge::read(response.headers()) else { return Ok(response) };
            (challenge, Some(response))
        };
        for credentials in self.candidates(first).await {
            // A cached token may have been revoked, or the token service may have moved: then try once more.
            for _ in 0..2 {
                let key = self.token_key(&challenge, credentials.as_ref());
                let Some((header, kept)) = self.authorization(&key, credentials.as_ref()).await? else {
                    break;
                };
                let response = self.send(&HttpRequest { authorization: Some(header), ..ask.clone() }).await?;
                if !is_refusal(response.status()) {
                    self.inner.auth.remember(&self.site.registry, &challenge).await;
                    return Ok(response);
                }
                self.inner.auth.forget(&key).await;
                let moved = challenge::read(response.headers()).filter(|other| *other != challenge);
                last = Some(response);
                match moved {
                    Some(moved) => challenge = moved,
                    None if kept => {}
                    None => break,
                }
            }
        }
        match last {
            Some(response) => Ok(response),
            None => self.send(&ask).await,
        }
    }

    /// The credentials to try, in order: those of the pod that the image is looked up for, then the platform's. No
    /// credentials are tried only when there are none of these.
    async fn candidates(&mut self, first: &[Login]) -> Vec<Option<Credentials>> {
        let Site { registry, repository, .. } = self.site;
        let covering = first.iter().filter(|login| login.covers(registry, repository));
        let mut found: Vec<_> = covering.map(|login| Some(login.credentials.clone())).collect();
        found.extend(self.inner.keyring.candidates(registry, repository).await.into_iter().map(Some));
        found.truncate(MOST_CREDENTIALS);
        self.auth.credentials = !found.is_empty();
        if found.is_empty() { vec![None] } else { found }
    }

    fn token_key(&self, challenge: &Challenge, credentials: Option<&Credentials>) -> TokenKey {
        TokenKey {
            registry: self.site.registry.clone(),
            challenge: challenge.clone(),
            repository: self.site.repository.clone(),
            credentials: credentials.map(Credentials::fingerprint),
        }
    }

    /// The `Authorization` header, and whether it comes from the cache; `None` when these credentials do not help.
    async fn authorization(
        &mut self,
        key: &TokenKey,
        credentials: Option<&Credentials>,
    ) -> Result<Option<(HeaderValue, bool)>, FetchFailure> {
        let Challenge::Bearer { realm, service } = &key.challenge else {
            let Some(Credentials::Password { user, password }) = credentials else { return Ok(None) };
            return Ok(auth::basic(user, password).map(|header| (header, false)));
        };
        if let Some(header) = self.inner.auth.token(key).await {
            return Ok(Some((header, true)));
        }
        let registry = &self.site.registry;
        let host = text::quoted(realm.host_str().unwrap_or_default(), 100);
        if auth::is_downgrade(&self.inner.guard, registry, realm) {
            return Err(FetchFailure::Other(format!(
                "the token service of `{registry}` on `{host}` speaks plain HTTP, which is never asked for a registry \
                 that speaks HTTPS"
            )));
        }
        let trusted = self.inner.auth.trusts(registry, realm);
        if !trusted && credentials.is_some() {
            self.auth.withheld_from = Some(host);
        }
        let credentials = credentials.filter(|_| trusted);
        let token = self.token(realm, service.as_deref(), credentials).await?;
        let Some((header, lives)) = token else { return Ok(None) };
        self.inner.auth.keep(key.clone(), &header, lives).await;
        Ok(Some((header, false)))
    }

    /// A token from the token service; `None` when the service refuses.
    async fn token(
        &mut self,
        realm: &Url,
        service: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Option<(HeaderValue, Duration)>, FetchFailure> {
        let (url, form) = auth::request(realm, service, &self.site.repository, credentials);
        let authorization = match credentials {
            Some(Credentials::Password { user, password }) => auth::basic(user, password),
            _ => None,
        };
        let name = format!("the token service of {}", self.site.registry);
        let sent = self.inner.transport.send(&HttpRequest { url, accept: None, authorization, form }).await;
        let response = sent.map_err(|failure| match failure {
            Failure::Refused(refusal) => FetchFailure::Other(format!("{name}: {refusal}")),
            failure => fetch_failure(failure, &name),
        })?;
        self.heed_wait(&response)?;
        let status = response.status();
        if status != StatusCode::OK {
            if is_refusal(status) || status == StatusCode::BAD_REQUEST {
                return Ok(None);
            }
            // The body is not repeated: it may echo the credentials.
            let words = format!("{name} answered with status {}", status.as_u16());
            return Err(if status.is_server_error() {
                FetchFailure::Passing(words)
            } else {
                FetchFailure::Other(words)
            });
        }
        let read = transport::read(response, auth::LARGEST_TOKEN, None).await;
        let body = read.map_err(|failure| match failure {
            BodyFailure::TooLarge => FetchFailure::Other(format!("{name} answered with more than a token")),
            BodyFailure::Network(error) => message::network(&error, &name).into(),
        })?;
        let token = auth::read_token(&body);
        token
            .map(Some)
            .ok_or_else(|| FetchFailure::Other(format!("{name} answered without a token that can be used")))
    }

    /// Sends a request to the registry, and reports the outcome to its breaker.
    async fn send(&mut self, ask: &HttpRequest) -> Result<Response, FetchFailure> {
        self.permit.asks();
        let sent = self.inner.transport.send(ask).await;
        match &sent {
            Err(Failure::Network { elsewhere: None, error }) if error.is_connect() => {
                self.permit.unreachable();
            }
            Err(Failure::Network { elsewhere: None, .. }) => self.permit.silent(),
            Ok(response) if is_silence(response.status()) => self.permit.silent(),
            _ => self.permit.answered(),
        }
        let response = sent.map_err(|failure| fetch_failure(failure, &self.site.registry))?;
        self.heed_wait(&response)?;
        Ok(response)
    }

    /// Pauses requests to a registry that asks for it (`Retry-After`).
    fn heed_wait(&self, response: &Response) -> Result<(), FetchFailure> {
        let Some(wait) = transport::retry_after(response) else { return Ok(()) };
        let registry = &self.site.registry;
        self.inner.breakers.pause(&self.permit.scope().account, wait);
        Err(FetchFailure::Other(if response.status() == StatusCode::TOO_MANY_REQUESTS {
            message::limited(registry, Some(wait))
        } else {
            message::unavailable(registry, wait)
        }))
    }
}

fn fetch_failure(failure: Failure, name: &str) -> FetchFailure {
    match failure {
        Failure::Refused(refusal) => FetchFailure::Refused(refusal),
        Failure::Redirect(what) => FetchFailure::Other(format!("`{name}`: {what}")),
        Failure::Network { error, elsewhere: Some(host) } => message::network(&error, &host).into(),
        Failure::Network { error, elsewhere: None } => message::network(&error, name).into(),
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The statuses with which a proxy says that the registry behind it does not answer. 500 is not among them: a single
/// image may provoke it, and must not open the breaker for all others.
fn is_silence(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
