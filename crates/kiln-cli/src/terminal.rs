//! Standard error: what happens, and what went wrong.

use std::cell::Cell;
use std::sync::Arc;

use kiln_console::{Console, LogFormat, Presentation};
use kiln_events::{
    Colours, ErrorReport, Event, EventSender, EventSink, Fanout, Prefix, Verbosity, internal_json, safe_text,
};

use crate::command_line::GlobalOptions;
use crate::failure::Failure;

/// What events are told by.
pub(crate) struct Terminal {
    /// None if the console's thread could not be started: then only errors are told.
    console: Option<Arc<Console>>,
    /// Whether nothing can be told by the console any more.
    finished: Cell<bool>,
    /// Where events go.
    pub(crate) events: EventSender,
    /// In what form they are told.
    pub(crate) format: LogFormat,
    /// Whether colours are possible and wanted.
    pub(crate) colours: bool,
    /// How much is told.
    pub(crate) verbosity: Verbosity,
}

impl Terminal {
    /// Standard error in the form that the options ask for.
    pub(crate) fn open(global: &GlobalOptions) -> Self {
        let presentation = Presentation::detect();
        let colours = presentation.colours;
        let format = match global.log_format.unwrap_or(LogFormat::Bar) {
            format if global.shows_logs => format.with_logs(),
            format => format,
        };
        let verbosity = Verbosity::default().adjusted(global.verbosity_steps);
        let show_trace = global.last("show-trace").is_some_and(|value| value == "true");
        match Console::stderr(format, verbosity, presentation, show_trace) {
            Ok(console) => {
                let console = Arc::new(console);
                let events = sender(console.clone());
                let finished = Cell::new(false);
                Self { console: Some(console), finished, events, format, colours, verbosity }
            }
            Err(_) => Self {
                console: None,
                finished: Cell::new(true),
                events: EventSender::null(),
                format,
                colours,
                verbosity,
            },
        }
    }

    /// A sender to here and to another sink.
    pub(crate) fn events_also_to(&self, sink: Option<Arc<impl EventSink + 'static>>) -> EventSender {
        match (&self.console, sink) {
            (Some(console), Some(sink)) => sender(Arc::new(Fanout::new(vec![console.clone(), sink]))),
            (None, Some(sink)) => sender(sink),
            (_, None) => self.events.clone(),
        }
    }

    /// Tells of a failure.
    pub(crate) fn error(&self, failure: &Failure) {
        if let Some(report) = failure.report() {
            self.report(report);
        }
        match failure.way_to_help() {
            Some(way) if self.is_live() => self.events.message(Verbosity::Error, way),
            Some(way) => eprintln!("{way}"),
            None => {}
        }
    }

    /// Whether the console tells what is said now.
    fn is_live(&self) -> bool {
        self.console.is_some() && !self.finished.get()
    }

    fn report(&self, report: ErrorReport) {
        if self.is_live() {
            self.events.error(report);
        } else if self.format == LogFormat::InternalJson {
            let event = Event::report(Verbosity::Error, report);
            eprint!("{}", internal_json::encode(&event, internal_json::Options::default()));
        } else {
            let colours = if self.colours { Colours::Keep } else { Colours::Strip };
            eprintln!("{}", safe_text(report.render(Prefix::Error, false).as_bytes(), colours));
        }
    }

    /// Writes what is left, so that results do not come before what was told earlier. Only errors can be told after that.
    pub(crate) fn finish(&self) {
        if let Some(console) = &self.console {
            console.finish();
        }
        self.finished.set(true);
    }
}

/// A sender whose names of activities differ from those of other processes, so that logs of several can be put together.
fn sender(sink: Arc<dyn EventSink>) -> EventSender {
    EventSender::with_first_id(sink, u64::from(std::process::id()) << 32 | 1)
}
