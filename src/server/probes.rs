//! The plain HTTP listener: liveness, readiness and metrics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::answers::{Answers, Reader};
use super::shutdown::Phase;
use super::tls::Problem;
use super::{AdmissionHandler, Check};
use crate::text;

/// Content type of the metrics
/// (<https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>, "Protocol Negotiation").
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why there are no metrics for a client.
const UNREAD: &str = "the gate holds as many answers as it may that this client has not read\n";

struct ProbeRoutes<G> {
    gate: Arc<G>,
    phase: Phase,
    certificate: Problem,
    /// Memory for answers, which the webhooks share.
    answers: Arc<Answers>,
}

pub(super) fn router<G: AdmissionHandler>(
    gate: Arc<G>,
    phase: Phase,
    certificate: Problem,
    answers: Arc<Answers>,
) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready::<G>))
        .route("/metrics", get(metrics::<G>))
        .fallback(async || (StatusCode::NOT_FOUND, "this port serves `/livez`, `/readyz` and `/metrics`\n"))
        .with_state(Arc::new(ProbeRoutes { gate, phase, certificate, answers }))
}

/// 200 while the gate takes reviews. If a certificate could not be replaced, the text says so, but the status stays 200.
/// `?verbose` adds a line for each check, in the form of the API server's own probes.
async fn ready<G: AdmissionHandler>(
    State(routes): State<Arc<ProbeRoutes<G>>>,
    RawQuery(query): RawQuery,
) -> (StatusCode, String) {
    let (status, text) = readiness(&routes);
    let is_verbose = query
        .is_some_and(|query| query.split('&').any(|key| key == "verbose" || key.starts_with("verbose=")));
    if !is_verbose {
        return (status, text);
    }
    let checks = catch_unwind(AssertUnwindSafe(|| routes.gate.checks())).unwrap_or_default();
    let lines = checks.iter().map(|Check { name, is_ok, text }| {
        let mark = if *is_ok { '+' } else { '-' };
        format!("[{mark}]{}: {}\n", text::line(name), text::line(text))
    });
    (status, lines.collect::<String>() + "readyz: " + &text + "\n")
}

fn readiness<G: AdmissionHandler>(routes: &ProbeRoutes<G>) -> (StatusCode, String) {
    if !routes.phase.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down".to_owned());
    }
    let state = catch_unwind(AssertUnwindSafe(|| routes.gate.ready()));
    match state
        .unwrap_or_else(|_| Err("the gate failed while it looked at its own state; see the log".to_owned()))
    {
        // The kubelet repeats it in an Event of the pod.
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, text::line(&reason).into_owned()),
        Ok(()) => match routes.certificate.load().as_deref() {
            None => (StatusCode::OK, "ok".to_owned()),
            Some(problem) => {
                let problem = text::line(problem);
                (StatusCode::OK, format!("ok, but the old certificate is still served: {problem}"))
            }
        },
    }
}

async fn metrics<G: AdmissionHandler>(
    State(routes): State<Arc<ProbeRoutes<G>>>,
    request: Request,
) -> Response {
    match catch_unwind(AssertUnwindSafe(|| routes.gate.metrics())) {
        Ok(text) => match routes.answers.hold(text.into_bytes(), &Reader::of(&request)) {
            Some(bytes) => ([(CONTENT_TYPE, OPEN_METRICS)], bytes).into_response(),
            None => (StatusCode::SERVICE_UNAVAILABLE, UNREAD).into_response(),
        },
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written; see the log\n")
            .into_response(),
    }
}
