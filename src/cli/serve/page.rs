//! The page of a gate that serves. The API server says who may read it. The cluster is scanned when it is read and the last scan has become
//! old, one scan at a time, at a pace that leaves the reviews their machine; what was refused lately is as it is now.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::scans::{ScannedPage, Scans, Shown};
use crate::access::{self, Access};
use crate::audit::Refusals;
use crate::cli::scan::html;
use crate::server::{PageAnswer, PageHandler};

/// Why a reader without a token is told to come back with one.
const NO_TOKEN: &str = "this page is for those whom the API server lets `get` `/wasmgate/report`: send a token of such a user as `Authorization: Bearer TOKEN`";
/// What a reader is told while the API server cannot be asked. The gate's log says more, which is not for every client.
const NO_VERDICT: &str =
    "the API server gave no verdict on who you are and what you may read; the gate's log says why";

/// What makes the page.
#[derive(Debug)]
pub struct ReportPage {
    access: Access,
    scans: Arc<Scans>,
    refusals: Refusals,
    /// Why the API server could not be asked, as it was logged.
    told: Mutex<Option<String>>,
}

impl ReportPage {
    /// A page of these scans and refusals, for those who have access.
    pub fn new(access: Access, scans: Arc<Scans>, refusals: Refusals) -> Self {
        Self { access, scans, refusals, told: Mutex::default() }
    }

    async fn answer(&self, token: Option<&str>, peer: IpAddr) -> PageAnswer {
        let Some(token) = token else { return PageAnswer::Unknown(NO_TOKEN.to_owned()) };
        let user = match self.access.check(token, peer).await {
            Ok(user) => user,
            Err(error) => return self.refused(error),
        };
        self.tell(None);
        match self.scans.latest().await {
            Ok((page, shown)) => {
                tracing::info!(user = &*user, "served the page");
                PageAnswer::Page(self.parts(&page, &shown))
            }
            Err(why) => PageAnswer::Later(why),
        }
    }

    fn refused(&self, error: access::Error) -> PageAnswer {
        let said = error.to_string();
        match error {
            access::Error::Unknown => PageAnswer::Unknown(said),
            access::Error::Forbidden { .. } => PageAnswer::Forbidden(said),
            access::Error::Busy => PageAnswer::Busy(said),
            access::Error::Unavailable { message } => {
                self.tell(Some(message));
                PageAnswer::Later(NO_VERDICT.to_owned())
            }
        }
    }

    /// Logs a problem once, until it has gone.
    fn tell(&self, problem: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != problem {
            if let Some(problem) = &problem {
                tracing::warn!(%problem, "cannot ask the API server who may read the page");
            }
            *told = problem;
        }
    }

    fn parts(&self, page: &ScannedPage, shown: &Shown) -> Vec<Bytes> {
        let refused = html::refused(&self.refusals.latest(), self.refusals.since(), self.refusals.missed());
        let age = age(page, shown, Timestamp::now());
        vec![page.opening.clone(), age.into(), page.found.clone(), refused.into(), page.closing.clone()]
    }
}

impl PageHandler for ReportPage {
    fn page<'a>(&'a self, token: Option<&'a str>, peer: IpAddr) -> BoxFuture<'a, PageAnswer> {
        Box::pin(self.answer(token, peer))
    }
}

/// How old the scan is, and why it is no newer.
fn age(page: &ScannedPage, shown: &Shown, now: Timestamp) -> String {
    let seconds = now.duration_since(page.at).as_secs().max(0);
    let mut said = format!(
        "<p class=\"dim\">This scan was begun {} ago and took {} s. <a href=\"#refused\">What was refused</a> is as of now.</p>\n",
        in_words(seconds),
        page.took.as_secs()
    );
    // Writing to a string cannot fail.
    if shown.runs {
        said.push_str("<p class=\"dim\">Another scan is under way: load the page again.</p>\n");
    }
    if let Some(why) = &shown.failed {
        let _ = writeln!(said, "<p class=\"warned\">The last scan failed: {}</p>", html::escaped(why));
    }
    said
}

fn in_words(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_age_of_a_scan_is_said_and_why_it_is_no_newer() {
        let at = Timestamp::from_second(1_000_000).unwrap();
        let page = ScannedPage {
            opening: Bytes::new(),
            found: Bytes::new(),
            closing: Bytes::new(),
            at,
            took: Duration::from_secs(7),
        };
        let said = |after: i64, runs, failed: Option<&str>| {
            let shown = Shown { runs, failed: failed.map(String::from), ..Shown::default() };
            age(&page, &shown, Timestamp::from_second(1_000_000 + after).unwrap())
        };
        assert!(said(119, false, None).contains("begun 119 s ago and took 7 s"));
        assert!(
            said(120, false, None).contains("begun 2 min ago") && said(7300, false, None).contains("2 h ago")
        );
        assert!(said(-5, false, None).contains("begun 0 s ago"), "a clock that was set back");
        assert!(!said(0, false, None).contains("under way") && said(0, true, None).contains("under way"));
        assert!(
            said(0, false, Some("<pods> may not be listed"))
                .contains("failed: &lt;pods&gt; may not be listed")
        );
    }
}
