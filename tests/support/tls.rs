//! A TLS client for tests: HTTP/1.1 or 2, TLS 1.2 or 1.3, against a server on a loopback port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The version of HTTP that a client offers by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// A client that trusts the given CAs.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: &'static str,
    from: IpAddr,
}

impl Client {
    /// Trusts the certificates in these PEM files; offers both TLS versions.
    pub fn trusting(files: &[&Path], http: Http) -> Self {
        Self::with_versions(files, http, rustls::ALL_VERSIONS)
    }

    pub fn with_versions(
        files: &[&Path],
        http: Http,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for file in files {
            for cert in CertificateDer::pem_file_iter(file).expect("a CA") {
                roots.add(cert.expect("PEM")).expect("a certificate");
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every connection makes a full handshake, so that each one sees the certificate.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![match http {
            Http::One => b"http/1.1".to_vec(),
            Http::Two => b"h2".to_vec(),
        }];
        Self { config: Arc::new(config), name: "localhost", from: Ipv4Addr::UNSPECIFIED.into() }
    }

    /// Expects a certificate for this name or address instead of `localhost`.
    pub fn expecting(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Presents this certificate if the server asks for one.
    pub fn showing(mut self, (cert, key): &(String, String)) -> Self {
        let chain: Result<_, _> = CertificateDer::pem_slice_iter(cert.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let pair = CertifiedKey::from_der(chain.expect("PEM"), key, &default_provider()).expect("a pair");
        let config = Arc::make_mut(&mut self.config);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
        self
    }

    /// Resumes sessions, unlike the others.
    pub fn resuming(mut self) -> Self {
        Arc::make_mut(&mut self.config).resumption = rustls::client::Resumption::default();
        self
    }

    /// Whether a new connection resumes the session of one before it. It reads an answer, with which the tickets for the next one come.
    pub async fn resumes(&self, address: SocketAddr) -> Result<bool, BoxError> {
        let mut stream = self.connect(address).await?;
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        if !answer.starts_with(b"HTTP/1.1 ") {
            return Err(format!("no answer: {read:?}").into());
        }
        Ok(is_resumed)
    }

    /// Connects from this address. On Linux all of 127.0.0.0/8 are local addresses.
    pub fn from(self, address: [u8; 4]) -> Self {
        Self { from: address.into(), ..self }
    }

    /// A connection after its handshake.
    pub async fn connect(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, BoxError> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into())?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, address.port()).into()).await?;
        // Like Go's client: otherwise two writes for one request would wait for each other.
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.name)?;
        Ok(TlsConnector::from(self.config.clone()).connect(name, stream).await?)
    }

    /// The certificate that the server presents.
    pub async fn leaf(&self, address: SocketAddr) -> Result<CertificateDer<'static>, BoxError> {
        let stream = self.connect(address).await?;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        Ok(leaf.ok_or("no certificate")?.clone().into_owned())
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let mut session = self.open(address).await?;
        session.send(request).await
    }

    /// Opens a connection whose answers are not read. The client has to offer HTTP/2.
    pub async fn open_unreading(&self, address: SocketAddr) -> Result<Unreading, BoxError> {
        let io = TokioIo::new(self.connect(address).await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).initial_stream_window_size(0_u32);
        builder.keep_alive_interval(Duration::from_millis(20)).keep_alive_while_idle(true);
        let (sender, connection) = builder.handshake(io).await?;
        Ok(Unreading { sender, connection: tokio::spawn(connection) })
    }

    /// Opens a connection for several requests.
    pub async fn open(&self, address: SocketAddr) -> Result<Session, BoxError> {
        let stream = self.connect(address).await?;
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        if two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(Session::Two(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Ok(Session::One(sender))
        }
    }
}

/// A connection of HTTP/2 whose client gives no window, so that of an answer only the head arrives, and sends a PING again and again.
pub struct Unreading {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Ends when the connection is closed.
    pub connection: JoinHandle<hyper::Result<()>>,
}

impl Unreading {
    /// Sends a request, and returns the head of the answer. The answer is unread until that is dropped.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, BoxError> {
        *request.uri_mut() = format!("https://localhost{}", request.uri()).parse()?;
        Ok(self.sender.send_request(request).await?)
    }
}

/// An open connection.
pub enum Session {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Session {
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let response = match self {
            Self::One(sender) => {
                request.headers_mut().insert("host", "localhost".parse()?);
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Two(sender) => {
                *request.uri_mut() = format!("https://localhost{}", request.uri()).parse()?;
                sender.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
    }
}

/// A POST with a JSON body.
pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Full::new(body.into())).expect("a request")
}

/// A plain GET, read to its end.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer, BoxError> {
    let stream = TcpStream::connect(("127.0.0.1", address.port())).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Session::One(sender).send(Request::get(path).body(Full::default())?).await
}

/// A CA that signs client certificates.
pub struct Ca {
    params: CertificateParams,
    key: KeyPair,
    /// Its own certificate.
    pub pem: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { params, key, pem }
    }

    /// A certificate for this use, and its key.
    pub fn sign(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params =
            CertificateParams::new(["caller".to_owned(), "localhost".to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::new(self.params.clone(), &self.key);
        let cert = params.signed_by(&key, &issuer).expect("a certificate");
        (cert.pem(), key.serialize_pem())
    }
}
