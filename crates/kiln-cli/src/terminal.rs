//! Standard error: what happens, and what went wrong.

use std::sync::Arc;

use kiln_console::{Console, LogFormat, Presentation};
use kiln_events::{ErrorReport, EventSender, EventSink, Fanout, Prefix, Verbosity};

use crate::command_line::GlobalOptions;
use crate::failure::Failure;

/// What events are told by.
pub(crate) struct Terminal {
    /// None if the console's thread could not be started: then only errors are told.
    console: Option<Arc<Console>>,
    /// Where events go.
    pub(crate) events: EventSender,
    /// In what form they are told.
    pub(crate) format: LogFormat,
    /// Whether colours are possible and wanted.
    pub(crate) colours: bool,
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
                Self { console: Some(console), events, format, colours }
            }
            Err(_) => Self { console: None, events: EventSender::null(), format, colours },
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
    }

    fn report(&self, report: ErrorReport) {
        match &self.console {
            Some(_) => self.events.error(report),
            None => eprintln!("{}", report.render(Prefix::Error, false)),
        }
    }

    /// Writes what is left. Nothing can be told after that.
    pub(crate) fn finish(&self) {
        if let Some(console) = &self.console {
            console.finish();
        }
    }
}

/// A sender whose names of activities differ from those of other processes, so that logs of several can be put together.
fn sender(sink: Arc<dyn EventSink>) -> EventSender {
    EventSender::with_first_id(sink, u64::from(std::process::id()) << 32 | 1)
}
