//! Standard error: what happens, and what went wrong.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use kiln_events::{Colours, Event, EventSender, EventSink, Message, Prefix, Verbosity, safe_text};

use crate::command_line::GlobalOptions;
use crate::failure::Failure;

/// A sender to standard error, in the form that the options ask for.
pub(crate) fn events(global: &GlobalOptions) -> EventSender {
    EventSender::new(Arc::new(Plain { verbosity: Verbosity::default().adjusted(global.verbosity_steps) }))
}

/// Tells a failure before there is a sender to tell it to.
pub(crate) fn print_error(failure: &Failure) {
    if let Some(report) = failure.report() {
        Plain { verbosity: Verbosity::Error }.emit(Event::report(Verbosity::Error, report));
    }
}

struct Plain {
    verbosity: Verbosity,
}

impl EventSink for Plain {
    fn emit(&self, event: Event) {
        let Event::Message { level, message } = event else { return };
        if level > self.verbosity {
            return;
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Report(report) => report.render(Prefix::Error, false),
        };
        let colours = if io::stderr().is_terminal() { Colours::Keep } else { Colours::Strip };
        let _ = writeln!(io::stderr().lock(), "{}", safe_text(text.as_bytes(), colours));
    }
}
