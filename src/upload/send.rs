//! Sends what waits, the oldest first, until the collector has taken it.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode};
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};

use super::spool::Spool;
use crate::audit::UploadOptions;
use crate::audit::metrics::{DropReason, Drops};
use crate::client::{self, Credentials};
use crate::text;

/// Bound on every wait for the collector, and on a whole request.
const READ: Duration = Duration::from_secs(15);
const WHOLE: Duration = Duration::from_mins(1);
/// Time between two looks at the folder.
const LOOK: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Why records were not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The folder cannot be read.
    #[error("could not read the records that wait")]
    ReadSpool(#[from] io::Error),
    /// No request can be made.
    #[error(transparent)]
    PrepareRequest(#[from] client::Error),
    /// The collector was not reached.
    #[error("could not reach the collector: {0}")]
    ReachCollector(String),
    /// It does not take them.
    #[error("the collector answers {0}{1}")]
    Refused(StatusCode, &'static str),
    /// One record alone is too large for it.
    #[error("the collector takes no requests of this size")]
    TooLarge,
}

/// Sends records.
#[derive(Debug)]
pub struct Uploader {
    options: UploadOptions,
    spool: Spool,
    drops: Drops,
}

impl Uploader {
    /// Sends what waits in the spool of these options.
    pub fn new(options: UploadOptions, drops: Drops) -> Self {
        Self { spool: Spool::of(&options), options, drops }
    }

    /// Sends for ever. A failure is in the log once, and so is its end.
    pub async fn run(&self) {
        let mut wait = FIRST_WAIT;
        let mut failing = false;
        loop {
            match self.send_all().await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(
                            url = self.options.shown(),
                            "the collector takes decision records again"
                        );
                    }
                    wait = FIRST_WAIT;
                    sleep(LOOK).await;
                }
                Err(failure) => {
                    if !std::mem::replace(&mut failing, true) {
                        let (url, error) = (self.options.shown(), text::chain(&failure));
                        tracing::warn!(url, error, "decision records wait for the collector");
                    }
                    sleep(wait.mul_f64(jitter())).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Sends what waits now, for at most this time; the rest is sent after the next start.
    pub async fn finish(&self, most: Duration) {
        match timeout(most, self.send_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                let error = text::chain(&failure);
                tracing::warn!(error, "decision records stay in the folder until the next start");
            }
            Err(_) => tracing::warn!(
                "decision records stay in the folder until the next start: the collector is too slow"
            ),
        }
    }

    async fn send_all(&self) -> Result<(), Failure> {
        for (path, _) in self.spool.closed()? {
            self.send_file(&path).await?;
        }
        Ok(())
    }

    async fn send_file(&self, path: &Path) -> Result<(), Failure> {
        let text = match tokio::fs::read(path).await {
            Ok(text) => text,
            // It was removed to make space.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let (events, torn): (Vec<&[u8]>, Vec<&[u8]>) = lines.partition(|line| is_json(line));
        self.drops.count_many(DropReason::WriteFailed, torn.len() as u64);
        let client = credentials(&self.options).client(READ, WHOLE).await?;
        // Halves of what is too large, the first on top.
        let mut waiting = vec![events.as_slice()];
        while let Some(part) = waiting.pop() {
            match self.send(&client, part).await {
                Ok(()) => {}
                Err(Failure::TooLarge) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.extend([second, first]);
                }
                Err(Failure::TooLarge) => self.drops.count(DropReason::TooLarge),
                Err(failure) => return Err(failure),
            }
        }
        tokio::fs::remove_file(path).await.or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error.into()),
        })
    }

    async fn send(&self, client: &Client, events: &[&[u8]]) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        let body = compressed(events)?;
        if body.len() > self.options.chunk_bytes && events.len() > 1 {
            return Err(Failure::TooLarge);
        }
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        ]);
        let authorization = credentials(&self.options).authorization().await?;
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let request = client.post(&self.options.url).headers(headers).body(body);
        let answer = request.send().await;
        let answer = answer.map_err(|error| Failure::ReachCollector(text::chain(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::TooLarge),
            status => Err(Failure::Refused(status, cure(status))),
        }
    }
}

fn credentials(options: &UploadOptions) -> Credentials {
    Credentials {
        ca_file: options.ca_file.clone(),
        client_cert_file: options.client_cert_file.clone(),
        client_key_file: options.client_key_file.clone(),
        token_file: options.token_file.clone(),
    }
}

const fn cure(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "; see `decisionLog.upload.tokenFile` and `clientCertFile`",
        404 => "; see whether `decisionLog.upload.url` is right, with the path of the resource",
        _ => "",
    }
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_ok()
}

/// A JSON array of these events, as OPA writes a chunk.
fn compressed(events: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for (index, event) in events.iter().enumerate() {
        encoder.write_all(if index == 0 { b"[" } else { b"," })?;
        encoder.write_all(event)?;
    }
    encoder.write_all(b"]")?;
    encoder.finish()
}

/// Between a half and one and a half, so that replicas do not come at the same time.
fn jitter() -> f64 {
    let (random, ..) = uuid::Uuid::new_v4().as_fields();
    0.5 + f64::from(random) / f64::from(u32::MAX)
}
