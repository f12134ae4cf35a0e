//! An HTTP server on a free loopback port that answers as a test wants and records the requests, and a name server
//! inside the test.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wasmgate::registry::resolver::Resolver;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// The request line and all headers, as received.
    pub head: String,
    /// `authorization`, as received.
    pub authorization: Option<String>,
    pub body: String,
    /// The body as received.
    pub bytes: Vec<u8>,
    /// The address of this machine that the client connected to.
    pub at: IpAddr,
}

/// An answer: status, more header lines, body.
pub type Said = (u16, String, Vec<u8>);

type Handler = Arc<dyn Fn(usize, &Asked) -> Said + Send + Sync>;

/// A server.
pub struct Web {
    /// `127.0.0.1:PORT`.
    pub host: String,
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Web {
    /// Answers every request with the result of `handler` on its number and content.
    pub async fn start(handler: impl Fn(usize, &Asked) -> Said + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", handler).await
    }

    /// The same at another address; `[::]:0` means all.
    pub async fn start_at(
        address: &str,
        handler: impl Fn(usize, &Asked) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, handler): (Arc<Mutex<Vec<Asked>>>, Handler) = (Arc::default(), Arc::new(handler));
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&handler)));
            }
        });
        Self { host: format!("127.0.0.1:{port}"), port, asked, task }
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Name of an image in it.
    pub fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<Asked>>>, handler: Handler) -> Option<()> {
    let at = stream.local_addr().ok()?.ip().to_canonical();
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_string())
        };
        let length = header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.ok()?;
        let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_string();
        let (body, authorization) = (String::from_utf8_lossy(&bytes).into_owned(), header("authorization"));
        let asked = Asked { line, authorization, head: head.clone(), body, bytes, at };
        let number = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.len() - 1
        };
        let (status, headers, body) = handler(number, &asked);
        if status == NEVER {
            return std::future::pending().await;
        }
        let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
        stream.write_all(text.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
        if headers.contains("connection: close") {
            return stream.shutdown().await.ok();
        }
    }
}

/// The status that means no answer.
const NEVER: u16 = 0;

/// No answer, while the connection stays open.
pub fn never() -> Said {
    (NEVER, String::new(), Vec::new())
}

/// A redirect.
pub fn redirect(to: &str) -> Said {
    (307, format!("location: {to}\r\n"), Vec::new())
}

/// A challenge for a token.
pub fn bearer(realm: &str) -> Said {
    (401, format!("www-authenticate: Bearer realm=\"{realm}\",service=\"test\"\r\n"), Vec::new())
}

/// An answer that closes the connection, so that the next request opens another one.
pub fn last((status, headers, body): Said) -> Said {
    (status, headers + "connection: close\r\n", body)
}

/// A body.
pub fn ok(body: impl Into<Vec<u8>>) -> Said {
    (200, String::new(), body.into())
}

/// A name server: for each name a list of answers, used one after the other, the last one for ever.
#[derive(Debug, Default)]
pub struct Names {
    answers: HashMap<String, Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Names {
    pub fn new(names: &[(&str, &[&str])]) -> Arc<Self> {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let answers = names.iter().map(|(name, texts)| ((*name).to_string(), addresses(texts))).collect();
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }

    /// How often a name was asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let answers = self.answers.get(host);
        let address = answers.and_then(|all| all.get(number.min(all.len() - 1))).copied();
        Box::pin(std::future::ready(
            address
                .map(|address| vec![address])
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name")),
        ))
    }
}
