//! A registry that fails in one way, on a free loopback port, for as long as the value lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The answer to a request for a manifest or a blob. `/v2/` always succeeds.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing, and the connection stays open.
    Stall,
    /// The connection is reset.
    Reset,
    /// A status, more header lines and a body.
    Status(u16, &'static str, &'static str),
    /// A body that is shorter than announced.
    Truncated(Vec<u8>),
    /// A body, whatever was requested.
    Body(Vec<u8>),
    /// A body of this many bytes, generated while it is sent, with or without announcing its length.
    Large { bytes: usize, announced: bool },
    /// A byte now and then, for ever.
    Drip(Duration),
    /// Something that is not HTTP.
    Noise,
}

/// A server with a fault.
pub struct Server {
    /// `127.0.0.1:PORT`.
    pub host: String,
    asked: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let sent = Arc::new(AtomicUsize::new(0));
        let counters = (Arc::clone(&asked), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (fault, (asked, sent)) = (fault.clone(), counters.clone());
                // A client that leaves early is part of the test.
                tokio::spawn(async move { serve(stream, &fault, &asked, &sent).await });
            }
        });
        Self { host, asked, sent, task }
    }

    /// Name of an image in it.
    pub fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Bytes of large bodies that were passed to the kernel.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Number of requests for a manifest or a blob.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    fault: &Fault,
    asked: &AtomicUsize,
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return Ok(()),
            }
        }
        if request.starts_with(b"GET /v2/ ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
            continue;
        }
        asked.fetch_add(1, Ordering::SeqCst);
        return answer(stream, fault, sent).await;
    }
}

async fn answer(mut stream: TcpStream, fault: &Fault, sent: &AtomicUsize) -> std::io::Result<()> {
    const CLOSE: &str = "connection: close\r\n";
    match fault {
        Fault::Stall => std::future::pending().await,
        Fault::Reset => stream.set_zero_linger(),
        Fault::Noise => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await,
        Fault::Status(code, headers, body) => {
            let length = body.len();
            let text = format!("HTTP/1.1 {code} X\r\n{CLOSE}{headers}content-length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await
        }
        Fault::Truncated(body) => {
            let head = format!("HTTP/1.1 200 OK\r\n{CLOSE}content-length: {}\r\n\r\n", body.len() + 1000);
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await
        }
        Fault::Body(body) => {
            let head = format!("HTTP/1.1 200 OK\r\n{CLOSE}content-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await
        }
        Fault::Large { bytes, announced } => {
            let length = if *announced { format!("content-length: {bytes}\r\n") } else { String::new() };
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{CLOSE}{length}\r\n").as_bytes()).await?;
            let chunk = vec![b' '; 1 << 16];
            for _ in 0..bytes / chunk.len() {
                stream.write_all(&chunk).await?;
                sent.fetch_add(chunk.len(), Ordering::SeqCst);
            }
            Ok(())
        }
        Fault::Drip(pause) => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{CLOSE}\r\n").as_bytes()).await?;
            loop {
                stream.write_all(b" ").await?;
                // The pause is the fault.
                tokio::time::sleep(*pause).await;
            }
        }
    }
}
