//! The page for people: on a port of its own, over the certificate of the webhooks, for those with a bearer token whom the handler takes. It has no
//! other way in: no cookie, no form, no client certificate, so that no browser that is led here brings anything with it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::shares::Shares;
use crate::text;

/// Most requests that are answered at a time, and half of them of one address. Further ones are told to come again.
const AT_ONCE: u32 = 16;

/// Longest time for an answer. A first scan that takes longer goes on, and the next request finds more of it.
const WITHIN: Duration = Duration::from_secs(30);

/// What every answer says: it is not kept and not framed, and nothing in it is guessed or told to other sites.
const HARDENING: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// How a request for the page ends.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PageAnswer {
    /// The page in parts, one after the other, which are shared and not copied.
    Page(Vec<Bytes>),
    /// There is no token, or it is no user's.
    Unknown(String),
    /// The user may not read it.
    Forbidden(String),
    /// Too many were asked about.
    Busy(String),
    /// There is no page now.
    Later(String),
}

/// What makes the page.
pub trait PageHandler: Send + Sync + 'static {
    /// The page for whose token this is, which was sent from this address; `None` where the request has none.
    fn page<'a>(&'a self, token: Option<&'a str>, peer: IpAddr) -> BoxFuture<'a, PageAnswer>;
}

struct PageRoutes {
    handler: Arc<dyn PageHandler>,
    places: Shares,
}

pub(super) fn router(handler: Arc<dyn PageHandler>) -> Router {
    let places = Shares::new(AT_ONCE);
    Router::new()
        .route("/", get(page))
        .fallback(async || {
            plain(StatusCode::NOT_FOUND, "this port serves `GET /`, for those with a bearer token")
        })
        .with_state(Arc::new(PageRoutes { handler, places }))
}

async fn page(
    State(routes): State<Arc<PageRoutes>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let peer = peer.ip().to_canonical();
    let Some(place) = routes.places.take(&peer.to_string().into(), 1).now_or_never().flatten() else {
        return respond(PageAnswer::Later("too many read the page at this moment".to_owned()));
    };
    let token = token(&headers).map(str::to_owned);
    // On a task of its own, so that a panic ends the task and not the connection.
    let task = tokio::spawn(async move {
        let _place = place;
        timeout(WITHIN, routes.handler.page(token.as_deref(), peer)).await
    });
    match task.await {
        Ok(Ok(answer)) => respond(answer),
        Ok(Err(_)) => respond(PageAnswer::Later("the page was not there in time".to_owned())),
        Err(error) => {
            tracing::error!(%error, "the gate failed on its page");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the gate failed on its page; see its log")
        }
    }
}

/// The token of the one `Authorization` header (RFC 6750, 2.1). Of two it is not known which one a proxy had looked at.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

fn respond(answer: PageAnswer) -> Response {
    match answer {
        PageAnswer::Page(parts) => html(parts),
        PageAnswer::Unknown(why) => {
            let mut response = plain(StatusCode::UNAUTHORIZED, &why);
            let challenge = HeaderValue::from_static("Bearer realm=\"wasmgate\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
        PageAnswer::Forbidden(why) => plain(StatusCode::FORBIDDEN, &why),
        PageAnswer::Busy(why) => later(plain(StatusCode::TOO_MANY_REQUESTS, &why)),
        PageAnswer::Later(why) => later(plain(StatusCode::SERVICE_UNAVAILABLE, &why)),
    }
}

fn later(mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    response
}

fn plain(status: StatusCode, said: &str) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
    // Names of users are part of it.
    (status, HARDENING, kind, format!("{}\n", text::line(said))).into_response()
}

fn html(parts: Vec<Bytes>) -> Response {
    let length: usize = parts.iter().map(Bytes::len).sum();
    let body = Body::from_stream(futures::stream::iter(parts.into_iter().map(Ok::<_, Infallible>)));
    let kind = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (HARDENING, kind, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_header_with_one_token_is_a_token() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["bEARER  abc "]).as_deref(), Some("abc"));
        for none in [&[][..], &["Bearer"], &["Bearer "], &["Basic YTpi"], &["abc"], &["Bearer a", "Bearer b"]]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
