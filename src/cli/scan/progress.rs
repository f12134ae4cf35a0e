//! Shows on a terminal how far a scan is; prints nothing into a pipe.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Shortest time between two lines.
const INTERVAL: Duration = Duration::from_millis(100);

/// Counts what was done, and shows it.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    seen: Cell<usize>,
    judged: Cell<usize>,
    last: Cell<Instant>,
}

impl Progress {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            seen: Cell::new(0),
            judged: Cell::new(0),
            last: Cell::new(Instant::now()),
        }
    }

    /// One more pod or template was read.
    pub fn seen(&self) {
        self.seen.set(self.seen.get() + 1);
        self.show();
    }

    /// One more was judged.
    pub fn judged(&self) {
        self.judged.set(self.judged.get() + 1);
        self.show();
    }

    /// Removes the line.
    pub fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&self) {
        if !self.terminal || self.last.get().elapsed() < INTERVAL {
            return;
        }
        self.last.set(Instant::now());
        let (seen, judged) = (self.seen.get(), self.judged.get());
        eprint!("\r\x1b[Kread {seen} pods and templates, judged {judged} that differ");
    }
}
