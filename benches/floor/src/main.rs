//! The floor of a review: TLS, HTTP, a body that is parsed into a [`Value`], and an answer that is always the same.
//!
//! `wasmgate-floor ADDRESS CERT KEY`, from `benches/serve`. No validating webhook of these libraries can do less.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Any error: there is one caller, and it shows the message.
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, cert, key] = arguments.as_slice() else {
        return Err("usage: wasmgate-floor ADDRESS CERT KEY".into());
    };
    let address: SocketAddr = address.parse()?;
    let tls = RustlsConfig::from_config(secure(Path::new(cert), Path::new(key))?);
    // The API server may send 3 MiB, twice in an update.
    let router = Router::new().route("/validate", post(answer)).layer(DefaultBodyLimit::disable());
    let acceptor = RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor::new());
    axum_server::bind(address).acceptor(acceptor).serve(router.into_make_service()).await?;
    Ok(())
}

/// The same protocols, provider and ALPN as the gate's.
fn secure(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Failed> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn answer(body: Bytes) -> Response {
    let review: Result<Value, _> = serde_json::from_slice(&body);
    let Some(uid) = review.as_ref().ok().and_then(|review| review.pointer("/request/uid")?.as_str()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let answer = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true}}}}"#
    );
    ([(CONTENT_TYPE, "application/json")], answer).into_response()
}
