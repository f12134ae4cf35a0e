//! Shows on a terminal how far a scan is; prints nothing into a pipe.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::scan::Progress;

/// Shortest time between two lines.
const INTERVAL: Duration = Duration::from_millis(100);

/// Counts what was done, and shows it.
#[derive(Debug)]
pub struct Terminal {
    is_shown: bool,
    seen: AtomicUsize,
    judged: AtomicUsize,
    last: Mutex<Instant>,
}

impl Terminal {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self {
            is_shown: std::io::stderr().is_terminal(),
            seen: AtomicUsize::new(0),
            judged: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }

    /// Removes the line.
    pub fn end(&self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&self) {
        if !self.is_shown {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < INTERVAL {
            return;
        }
        *last = Instant::now();
        let (seen, judged) = (self.seen.load(Ordering::Relaxed), self.judged.load(Ordering::Relaxed));
        eprint!("\r\x1b[Kread {seen} pods and templates, judged {judged} that differ");
    }
}

impl Progress for Terminal {
    fn seen(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.show();
    }

    fn judged(&self) {
        self.judged.fetch_add(1, Ordering::Relaxed);
        self.show();
    }
}
