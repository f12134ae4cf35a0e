//! What live tests share (`support::shared`), with cheap values.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::shared::Shared;

static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Records when the value is made and dropped.
struct Counted;

impl Counted {
    fn make() -> Self {
        MADE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

static FIRST: Shared<Counted> = Shared::new(Counted::make);
static SECOND: Shared<Counted> = Shared::new(Counted::make);

fn counts() -> (usize, usize) {
    (MADE.load(Ordering::SeqCst), DROPPED.load(Ordering::SeqCst))
}

#[test]
fn a_value_is_made_once_and_dropped_after_another_is_requested_and_its_last_holder_is_gone() {
    drop(FIRST.get());
    assert_eq!(counts(), (1, 0), "kept for the next test of its module");
    let held = FIRST.get();
    let other = SECOND.get();
    assert_eq!(counts(), (2, 0), "a test that goes on keeps its own");
    drop(held);
    assert_eq!(counts(), (2, 1));
    drop(other);
    drop(FIRST.get());
    assert_eq!(counts(), (3, 2), "who asks late gets a new one, and the other ends");
}
