//! What the engine is told, on standard error: answers, and records of what happens.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use kiln_events::internal_json::{Options, encode};
use kiln_events::{Event, EventSink, Verbosity};

/// The way to the engine. Each line goes out as a whole, and at once.
pub struct Voice {
    out: Mutex<Box<dyn Write + Send>>,
    /// Messages beyond it are not told.
    verbosity: Verbosity,
}

impl Voice {
    /// One that writes to `out`.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, verbosity: Verbosity) -> Self {
        Self { out: Mutex::new(out), verbosity }
    }

    /// Answers a question.
    pub(crate) fn answer(&self, answer: &str) {
        self.write(&format!("# {answer}\n"));
    }

    /// Accepts a build, for a machine of this name.
    pub(crate) fn accept(&self, machine: &str) {
        self.write(&format!("# accept\n{}\n", kiln_events::quoted(machine.as_bytes())));
    }

    fn write(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has gone away is noticed by whoever watches for that.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl EventSink for Voice {
    fn emit(&self, event: Event) {
        if !matches!(&event, Event::Message { level, .. } if *level > self.verbosity) {
            self.write(&encode(&event, Options::default()));
        }
    }
}
