//! Sends what waits, the oldest first, until the collector has taken it.

use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{sleep, timeout};

use super::body::{self, Read, Records};
use super::spool::Spool;
use crate::audit::metrics::{Backlog, DropReason, Drops};
use crate::audit::{UploadFormat, UploadOptions};
use crate::{client, otlp, text};

/// Bound on every wait for the collector, and on a whole request.
const READ: Duration = Duration::from_secs(15);
const WHOLE: Duration = Duration::from_mins(1);
/// Time between two looks at the folder.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two looks at how much is in it.
const MEASURE: Duration = Duration::from_secs(5);
/// Most bytes of an answer that is read.
const MOST_ANSWER: usize = 64 << 10;
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
    /// It takes none before so long.
    #[error("the collector answers {0}")]
    AskedToWait(StatusCode, Duration),
    /// They are too large for it.
    #[error("the collector takes no requests of this size")]
    TooLarge,
    /// Some of them are wrong to it.
    #[error("the collector answers {0}")]
    Unfit(StatusCode),
}

impl Failure {
    /// The wait that the collector asks for, which is no longer than the longest of the gate's own.
    fn asked_wait(&self) -> Duration {
        match self {
            Self::AskedToWait(_, wait) => LONGEST_WAIT.min(*wait),
            _ => Duration::ZERO,
        }
    }
}

/// Sends records.
#[derive(Debug)]
pub struct Uploader {
    options: UploadOptions,
    spool: Spool,
    drops: Drops,
    backlog: Backlog,
}

impl Uploader {
    /// Sends what waits in this spool.
    pub const fn new(options: UploadOptions, spool: Spool, drops: Drops, backlog: Backlog) -> Self {
        Self { options, spool, drops, backlog }
    }

    /// Sends for ever, and shows beside it what waits.
    pub async fn run(&self) {
        futures::future::join(self.send_for_ever(), self.measure()).await;
    }

    async fn measure(&self) {
        loop {
            let spool = self.spool.clone();
            // That the folder cannot be read is told by what sends.
            if let Ok(waiting) = blocking(move || spool.waiting()).await {
                self.backlog.set(waiting);
            }
            sleep(MEASURE).await;
        }
    }

    /// A failure is in the log once, and so is its end.
    async fn send_for_ever(&self) {
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
                    // It takes them, only not so fast.
                    if self.spool.progressed() {
                        wait = FIRST_WAIT;
                    }
                    sleep(wait.mul_f64(jitter()).max(failure.asked_wait())).await;
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
        let spool = self.spool.clone();
        for (path, _) in blocking(move || spool.closed()).await? {
            self.send_file(&path).await?;
        }
        Ok(())
    }

    async fn send_file(&self, path: &Path) -> Result<(), Failure> {
        let from = path.to_path_buf();
        let Some(Read { records, torn }) = blocking(move || body::read(&from)).await? else { return Ok(()) };
        let client = self.options.credentials().sender(READ, WHOLE).await?;
        // Halves of what is not taken as a whole, the first on top: so records are settled in their order.
        let rest = records.after(self.spool.settled(path));
        let mut waiting: Vec<_> = Some(rest).filter(|rest| rest.len() > 0).into_iter().collect();
        while let Some(part) = waiting.pop() {
            // What had to make space meanwhile is counted as lost.
            if !tokio::fs::try_exists(path).await? {
                return Ok(());
            }
            match self.send(&client, &part).await {
                Ok(()) => self.spool.settle(path, part.len()),
                Err(Failure::TooLarge | Failure::Unfit(_)) if part.len() > 1 => {
                    let [first, second] = part.halves();
                    waiting.extend([second, first]);
                }
                Err(Failure::TooLarge) => {
                    self.drops.count(DropReason::TooLarge);
                    self.spool.settle(path, 1);
                }
                Err(Failure::Unfit(status)) => {
                    // An answer to everything, such as that of a proxy that wants a certificate, is about no record.
                    match self.send(&client, &part.none()).await {
                        Ok(()) => self.refused(1, &status.to_string()),
                        Err(Failure::Unfit(_)) => return Err(Failure::Refused(status, cure(status))),
                        Err(other) => return Err(other),
                    }
                    self.spool.settle(path, 1);
                }
                Err(failure) => return Err(failure),
            }
        }
        match tokio::fs::remove_file(path).await {
            // Once, and not with every attempt.
            Ok(()) => self.drops.count_many(DropReason::WriteFailed, torn),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Counts records that the collector takes at no time.
    fn refused(&self, records: u64, answer: &str) {
        self.drops.count_many(DropReason::Refused, records);
        let url = self.options.shown();
        tracing::error!(url, records, answer, "the collector refuses decision records, which are lost");
    }

    async fn send(&self, client: &Client, records: &Records) -> Result<(), Failure> {
        let (part, format) = (records.clone(), self.options.format);
        let body = blocking(move || part.body(format)).await?;
        if body.len() > self.options.chunk_bytes && records.len() > 1 {
            return Err(Failure::TooLarge);
        }
        let content_type = match format {
            UploadFormat::Opa => "application/json",
            UploadFormat::Otlp => otlp::CONTENT_TYPE,
        };
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        ]);
        let authorization = self.options.credentials().authorization().await?;
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let request = client.post(&self.options.url).headers(headers).body(body);
        let answer = request.send().await;
        let answer = answer.map_err(|error| Failure::ReachCollector(text::chain(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => {
                self.look_at(answer).await;
                Ok(())
            }
            StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::TooLarge),
            status if is_about_the_records(status) => Err(Failure::Unfit(status)),
            status => Err(match client::retry_after(&answer) {
                Some(wait) => Failure::AskedToWait(status, wait),
                None => Failure::Refused(status, cure(status)),
            }),
        }
    }

    /// By OTLP, the answer to a request that was taken says how many of its records were not.
    async fn look_at(&self, answer: Response) {
        if self.options.format != UploadFormat::Otlp {
            return;
        }
        let body = client::small_body(answer, MOST_ANSWER).await;
        let rejected = body.and_then(|body| otlp::rejected_records(&body));
        if let Some((records, reason)) = rejected {
            self.refused(records, &text::quoted(&reason, 200));
        }
    }
}

/// Runs what waits for the disk, or works long, where no review waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whether the collector may say that these records are wrong, and not that the gate may not send them, or not now.
const fn is_about_the_records(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 422)
}

const fn cure(status: StatusCode) -> &'static str {
    match status.as_u16() {
        301..=303 => "; write the URL to which it redirects into `decisionLog.upload.url`",
        400 | 422 => {
            "; it refuses an empty request too: see `decisionLog.upload.url`, `format` and `clientCertFile`"
        }
        401 | 403 => "; see `decisionLog.upload.tokenFile` and `clientCertFile`",
        415 => "; see whether `decisionLog.upload.format` is what it takes",
        404 | 405 => "; see whether `decisionLog.upload.url` is right, with the path of the resource",
        _ => "",
    }
}

/// Between a half and one and a half, so that replicas do not come at the same time.
fn jitter() -> f64 {
    let (random, ..) = uuid::Uuid::new_v4().as_fields();
    0.5 + f64::from(random) / f64::from(u32::MAX)
}
