//! Parsers of what registries, token services and credential helpers send, where fuzz targets reach them. Nothing of the
//! gate calls these.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::message::{self, Answer, AuthContext, FetchFailure};
use super::{auth, helper};

/// The token service that a `WWW-Authenticate` header names; empty where a password is wanted, none where the header holds
/// no challenge that can be met.
pub fn challenge(header: &[u8]) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(header).ok()?);
    challenge::read(&headers).map(|challenge| match challenge {
        Challenge::Basic => String::new(),
        Challenge::Bearer { realm, .. } => realm.to_string(),
    })
}

/// How long the token in a token service's answer is used.
pub fn token_lives(body: &[u8]) -> Option<Duration> {
    auth::read_token(body).map(|(_, lives)| lives)
}

/// What people are told of a registry's answer; nothing where it says that there is no such image.
pub fn explained(status: u16, body: &[u8]) -> String {
    let auth = AuthContext::default();
    match message::explain(&Answer { registry: "registry.example", status, body, auth: &auth }) {
        FetchFailure::Passing(words) | FetchFailure::Other(words) => words,
        _ => String::new(),
    }
}

/// The credentials in a helper's output.
pub fn credentials(output: &[u8]) -> Option<Credentials> {
    helper::parse(output).ok()
}
