//! The gate as the server sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;

use crate::admission::Gate;
use crate::review::Reply;
use crate::server::{self, Begun, Call, Event, LargeReview};

/// When the serving certificate expires, in seconds since 1970; 0 while that is not known.
#[derive(Debug, Clone, Default)]
pub struct Expiry(Arc<AtomicI64>);

impl Expiry {
    pub(super) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    /// Whether the API server can still call this replica. It trusts no expired certificate, so a replica with one must
    /// leave the Service.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), String> {
        let seconds = self.0.load(Ordering::Relaxed);
        match Timestamp::from_second(seconds) {
            Ok(expiry) if seconds != 0 && expiry <= now => {
                Err(format!("the serving certificate expired at {expiry}: renew it"))
            }
            _ => Ok(()),
        }
    }
}

/// Value of the metric label for an event.
const fn event_word(event: Event) -> &'static str {
    match event {
        Event::ConnectionRefused => "connection-refused",
        Event::HandshakeFailed => "handshake-failed",
        Event::CertificateReplaced => "certificate-replaced",
        Event::CertificateRefused => "certificate-refused",
        Event::RequestRefused(413) => "body-too-large",
        Event::RequestRefused(503) => "busy",
        Event::RequestRefused(504) => "late",
        Event::RequestRefused(_) => "request-refused",
    }
}

/// The gate as handler of the server.
#[derive(Debug)]
pub struct Served {
    pub(super) gate: Arc<Gate>,
    pub(super) certificate: Expiry,
}

impl Served {
    /// Handler for a gate without a certificate that could expire.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, certificate: Expiry::default() }
    }
}

/// Begins a review: a decision that is known is answered at once.
pub(super) fn begun(gate: &Arc<Gate>, call: Call) -> Begun {
    let gate = Arc::clone(gate);
    let Call { webhook, body, budget, parent } = call;
    let mut work: Pin<Box<dyn Future<Output = Reply> + Send>> =
        Box::pin(async move { gate.review_of(parent, webhook, body, budget).await });
    // What goes on with it is woken by its own poll.
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => Begun::Answered(reply),
        Poll::Pending => Begun::Goes(work),
    }
}

impl server::AdmissionHandler for Served {
    fn begin(self: &Arc<Self>, call: Call) -> Begun {
        begun(&self.gate, call)
    }

    async fn answer(&self, call: Call) -> Reply {
        let Call { webhook, body, budget, parent } = call;
        self.gate.review_of(parent, webhook, body, budget).await
    }

    fn too_large(&self, review: LargeReview) -> Vec<u8> {
        let LargeReview { webhook, uid, bytes, limit, parent } = review;
        self.gate.review_too_large(parent, webhook, &uid, (bytes, limit))
    }

    fn ready(&self) -> Result<(), String> {
        // Policies, grants and certificates were loaded before the listeners were bound.
        self.certificate.check(Timestamp::now())
    }

    fn metrics(&self) -> String {
        self.gate.metrics().set_ready(self.ready().is_ok());
        self.gate.encode_metrics()
    }

    fn observe(&self, event: Event) {
        let word = event_word(event);
        self.gate.metrics().server_event(word);
        // At debug level: a port scanner causes many of these.
        tracing::debug!(event = word, "server event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_certificate_is_a_reason_not_to_be_asked() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let certificate = Expiry::default();
        assert_eq!(certificate.check(at("2027-01-01T00:00:00Z")), Ok(()), "unknown is no reason");
        certificate.set(at("2027-03-31T00:00:00Z").as_second());
        assert_eq!(certificate.check(at("2027-03-30T23:59:59Z")), Ok(()));
        let expired = certificate.check(at("2027-03-31T00:00:00Z")).unwrap_err();
        assert_eq!(expired, "the serving certificate expired at 2027-03-31T00:00:00Z: renew it");
        certificate.set(at("2027-06-30T00:00:00Z").as_second());
        assert_eq!(certificate.check(at("2027-03-31T00:00:00Z")), Ok(()), "renewed");
    }
}
