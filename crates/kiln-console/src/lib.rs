//! What a person sees of a build.
//!
//! [`Console`] is an [`EventSink`](kiln_events::EventSink). Inside it are three parts that can be used and tested
//! without it: [`ConsoleState`] folds events into what is known now; [`status_lines`] draws that, as a pure function of
//! state, time and size of the window; [`Renderer`] puts together what goes out: lines that stay, such as messages and
//! logs, and on a terminal the status lines below them. The console adds a thread that writes, at most ten times a
//! second on a terminal, so that whoever emits events never waits for one.
//!
//! At the end [`FinalReport`] tells what failed: causes first, each once, with the end of its log and the way to the
//! rest; then what could not be built because of them.
//!
//! Nothing here decides by itself whether there is a terminal or whether colours are wanted: that is handed in as
//! [`Presentation`], for which [`Presentation::detect`] looks at the process.

mod console;
mod final_report;
mod log_format;
mod names;
mod plain_lines;
mod presentation;
mod renderer;
mod state;
mod status;
mod style;
mod terminal_width;
mod totals;
mod units;

pub use console::Console;
pub use final_report::{FailedGoal, FinalReport, LogsShown};
pub use log_format::{LogFormat, UnknownLogFormat};
pub use names::{derivation_name, package_name};
pub use presentation::{Presentation, WindowSize};
pub use renderer::{Options, Renderer};
pub use state::{ConsoleState, RunningActivity};
pub use status::status_lines;
pub use style::Style;
pub use terminal_width::{fit, width};
pub use totals::Totals;
pub use units::{duration, mebibytes};
