//! What happens, told in one vocabulary.
//!
//! Everything that a part of Kiln wants others to know goes out as an [`Event`]: an *activity* (something that takes
//! time: a build, a download) starts, reports [`ActivityResult`]s and stops; a [`Message`] is said once. Who listens is
//! somebody else's business: an [`EventSink`] may draw a terminal, write `internal-json`, or put the events on the wire
//! of the worker protocol. The numbers, names and field lists are Nix's, so that real clients and the progress tools
//! that read `internal-json` understand them.
//!
//! Three more things live here because everybody who builds or shows builds must agree on them: [`BuildStatus`] and
//! [`BuildResult`] (how one build ended), [`exit_status`] (what a request's failures mean for the exit code), and
//! [`ErrorReport`] (an error as it is told to a person).
//!
//! Builders are hostile writers. Their bytes become lines in [`LogLines`] (bounded, `\r` handled), their `@nix` lines
//! become events in [`BuilderActivities`] (only the harmless ones), and whatever goes to a terminal goes through
//! [`safe_line`] first.
//!
//! The crate does no I/O and has no clock: times are given by whoever knows them.

mod activity;
mod activity_result;
mod build_result;
mod builder_record;
mod error_report;
mod event;
mod exit_status;
pub mod internal_json;
mod log_lines;
mod log_tail;
mod sender;
mod sink;
mod terminal_text;
mod text;

pub use activity::{Activity, ActivityId, ActivityType, Field};
pub use activity_result::ActivityResult;
pub use build_result::{BuildResult, BuildStatus, UnknownBuildStatus};
pub use builder_record::{BuilderActivities, BuilderRecord, Handling, RecordError, RecordSource};
pub use error_report::{ErrorClass, ErrorReport, Position, Prefix, Trace};
pub use event::{Event, Message, Verbosity};
pub use exit_status::exit_status;
pub use log_lines::{CUT_MARK, LogLines, MAX_LINE_LENGTH};
pub use log_tail::LogTail;
pub use sender::{ActivityGuard, EventSender};
pub use sink::{CollectingSink, EventSink, Fanout, NullSink};
pub use terminal_text::{Colours, quoted, safe_line, safe_text};
pub use text::Text;
