//! What goes out, and when it covers what went out before.

use std::time::Duration;

use kiln_events::internal_json;
use kiln_events::{ActivityResult, Event, Message, Verbosity};

use crate::log_format::LogFormat;
use crate::plain_lines::plain_lines;
use crate::presentation::{Presentation, WindowSize};
use crate::state::ConsoleState;
use crate::status::status_lines;
use crate::terminal_width::width;

/// How many bytes may wait to be written before lines of logs are left out. It is reached only if who reads stands still
/// (a stopped terminal, a pager): builds go on, and their logs are in their files.
const MAX_PENDING: usize = 16 << 20;

/// Begin and end of an update that terminals show at once (those that know it).
const BEGIN_UPDATE: &str = "\u{1b}[?2026h";
const END_UPDATE: &str = "\u{1b}[?2026l";

/// How events are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The format.
    pub format: LogFormat,
    /// How much is told.
    pub verbosity: Verbosity,
    /// What it is told to.
    pub presentation: Presentation,
    /// Errors are told with what was being done.
    pub show_trace: bool,
}

/// Turns events into bytes for a terminal, a log file, or a program that reads `internal-json`.
#[derive(Debug)]
pub struct Renderer {
    options: Options,
    state: ConsoleState,
    pending: String,
    /// Lines of logs that were left out since they were last told of.
    left_out: u64,
    /// The status lines that are on the terminal, below which the cursor is.
    drawn: Vec<String>,
}

impl Renderer {
    /// Nothing has been told.
    #[must_use]
    pub fn new(options: Options) -> Renderer {
        Renderer {
            options,
            state: ConsoleState::new(),
            pending: String::new(),
            left_out: 0,
            drawn: Vec::new(),
        }
    }

    /// Takes note of an event that happens at `now`.
    pub fn event(&mut self, event: &Event, now: Duration) {
        if self.options.format == LogFormat::InternalJson {
            let unseen = matches!(event, Event::Message { level, .. } if *level > self.options.verbosity);
            if !unseen && !self.is_left_out(event) {
                let options = internal_json::Options { show_trace: self.options.show_trace };
                self.pending.push_str(&internal_json::encode(event, options));
            }
            return;
        }
        self.state.apply(event, now);
        if !self.is_left_out(event) {
            self.pending.push_str(&plain_lines(event, &self.state, &self.options));
        }
    }

    /// Whether an event is a line of a log for which there is no room.
    fn is_left_out(&mut self, event: &Event) -> bool {
        let is_log = matches!(
            event,
            Event::Result {
                result: ActivityResult::BuildLogLine(_) | ActivityResult::PostBuildLogLine(_),
                ..
            }
        );
        let left_out = is_log && self.pending.len() > MAX_PENDING;
        self.left_out += u64::from(left_out);
        left_out
    }

    /// Whether there are lines that have not gone out.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether there are, or ought to be, status lines that change with time.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.draws_status() && !(self.state.is_idle() && self.drawn.is_empty())
    }

    /// Whether output is to a terminal on which status lines are drawn.
    #[must_use]
    pub fn draws_status(&self) -> bool {
        self.options.format.has_status() && self.options.presentation.is_terminal
    }

    /// The bytes to write now: lines that have not gone out, and the status as it is at `now`. Empty if nothing changed.
    #[must_use]
    pub fn output(&mut self, window: WindowSize, now: Duration) -> Vec<u8> {
        let status = if self.draws_status() {
            let Options { verbosity, presentation, .. } = self.options;
            status_lines(&self.state, verbosity, window, now, presentation.colours)
        } else {
            Vec::new()
        };
        self.update(status, window)
    }

    /// The bytes to write at the end: lines that have not gone out, and the removal of the status.
    #[must_use]
    pub fn finish(&mut self, window: WindowSize) -> Vec<u8> {
        self.update(Vec::new(), window)
    }

    fn update(&mut self, status: Vec<String>, window: WindowSize) -> Vec<u8> {
        let mut lines = std::mem::take(&mut self.pending);
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let note =
                format!("{left_out} lines of logs are left out here, since the output did not keep up");
            let note = Event::Message { level: Verbosity::Error, message: Message::Text(note.into()) };
            match self.options.format {
                LogFormat::InternalJson => {
                    lines.push_str(&internal_json::encode(&note, internal_json::Options::default()));
                }
                _ => lines.push_str(&plain_lines(&note, &self.state, &self.options)),
            }
        }
        if self.drawn.is_empty() && status.is_empty() {
            return lines.into_bytes();
        }
        if lines.is_empty() && status == self.drawn {
            return Vec::new();
        }
        let erase = self.erase_status(window);
        let below: String = status.iter().map(|line| format!("{line}\n")).collect();
        self.drawn = status;
        format!("{BEGIN_UPDATE}{erase}{lines}{below}{END_UPDATE}").into_bytes()
    }

    /// Moves the cursor to where the status began, and clears from there on. A window that became narrower since has
    /// wrapped the lines.
    fn erase_status(&self, window: WindowSize) -> String {
        let rows: usize =
            self.drawn.iter().map(|line| width(line).div_ceil(window.width.max(1)).max(1)).sum();
        match rows {
            0 => String::new(),
            rows => format!("\r\u{1b}[{rows}A\u{1b}[J"),
        }
    }
}
