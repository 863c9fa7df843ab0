//! The end that events are sent from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::activity::{Activity, ActivityId};
use crate::activity_result::ActivityResult;
use crate::error_report::{ErrorReport, Prefix};
use crate::event::{Event, Verbosity};
use crate::sink::{EventSink, NullSink};
use crate::text::Text;

/// A handle to a sink that gives activities their names; cheap to clone, and passed down to whoever has something to
/// tell.
#[derive(Clone)]
pub struct EventSender {
    sink: Arc<dyn EventSink>,
    next_id: Arc<AtomicU64>,
}

impl EventSender {
    /// A sender to `sink`, with activity names from 1.
    #[must_use]
    pub fn new(sink: Arc<dyn EventSink>) -> EventSender {
        EventSender::with_first_id(sink, 1)
    }

    /// The same with names from `first_id`, which must not be 0. Nix puts the process id into the upper 32 bits, so that
    /// the names of several processes whose records end up in one place differ.
    #[must_use]
    pub fn with_first_id(sink: Arc<dyn EventSink>, first_id: u64) -> EventSender {
        EventSender { sink, next_id: Arc::new(AtomicU64::new(first_id.max(1))) }
    }

    /// A sender that nobody listens to.
    #[must_use]
    pub fn null() -> EventSender {
        EventSender::new(Arc::new(NullSink))
    }

    /// A sender to another sink, whose activities have names of the same sequence: no two of both have the same one.
    #[must_use]
    pub fn with_sink(&self, sink: Arc<dyn EventSink>) -> EventSender {
        EventSender { sink, next_id: Arc::clone(&self.next_id) }
    }

    /// Sends an event as it is; for relays of somebody else's events.
    pub fn emit(&self, event: Event) {
        self.sink.emit(event);
    }

    /// Says something.
    pub fn message(&self, level: Verbosity, text: impl Into<Text>) {
        self.emit(Event::message(level, text));
    }

    /// Says a warning, with Nix's prefix and its colour.
    pub fn warn(&self, text: impl Into<Text>) {
        let mut warning = Prefix::Warning.escaped().as_bytes().to_vec();
        warning.push(b' ');
        warning.extend_from_slice(text.into().as_bytes());
        self.message(Verbosity::Warn, warning);
    }

    /// Tells of an error.
    pub fn error(&self, report: ErrorReport) {
        self.emit(Event::report(Verbosity::Error, report));
    }

    /// Begins an activity with the text that is usual for it. It stops when the guard is dropped.
    pub fn start(&self, parent: ActivityId, level: Verbosity, activity: Activity) -> ActivityGuard {
        let text = activity.default_text();
        self.start_with_text(parent, level, activity, text)
    }

    /// Begins an activity with a text of its own.
    pub fn start_with_text(
        &self,
        parent: ActivityId,
        level: Verbosity,
        activity: Activity,
        text: impl Into<Text>,
    ) -> ActivityGuard {
        let id = self.fresh_id();
        self.emit(Event::Start { id, parent, level, activity, text: text.into() });
        ActivityGuard { sender: self.clone(), id }
    }

    /// A name that no activity of this sender or of its clones had; for relays that rename a peer's activities.
    #[must_use]
    pub fn fresh_id(&self) -> ActivityId {
        ActivityId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").field("next_id", &self.next_id).finish_non_exhaustive()
    }
}

/// A running activity; dropping it stops the activity.
#[derive(Debug)]
pub struct ActivityGuard {
    sender: EventSender,
    id: ActivityId,
}

impl ActivityGuard {
    /// The activity's name.
    #[must_use]
    pub fn id(&self) -> ActivityId {
        self.id
    }

    /// The sender that it was started from.
    #[must_use]
    pub fn sender(&self) -> &EventSender {
        &self.sender
    }

    /// Reports something.
    pub fn result(&self, result: ActivityResult) {
        self.sender.emit(Event::Result { id: self.id, result });
    }

    /// Reports how far it is.
    pub fn progress(&self, done: u64, expected: u64, running: u64, failed: u64) {
        self.result(ActivityResult::Progress { done, expected, running, failed });
    }

    /// Begins an activity that is a part of this one, with the text that is usual for it.
    pub fn start(&self, level: Verbosity, activity: Activity) -> ActivityGuard {
        self.sender.start(self.id, level, activity)
    }

    /// Begins an activity that is a part of this one, with a text of its own.
    pub fn start_with_text(
        &self,
        level: Verbosity,
        activity: Activity,
        text: impl Into<Text>,
    ) -> ActivityGuard {
        self.sender.start_with_text(self.id, level, activity, text)
    }
}

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        self.sender.emit(Event::Stop { id: self.id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::CollectingSink;

    #[test]
    fn activities_nest_and_stop_in_order() {
        let sink = Arc::new(CollectingSink::new());
        let sender = EventSender::with_first_id(sink.clone(), 7 << 32);
        {
            let run = sender.start(ActivityId::NONE, Verbosity::Error, Activity::Realise);
            let build = run.start(Verbosity::Info, Activity::Build { drv: "d".into(), machine: None });
            build.result(ActivityResult::SetPhase("buildPhase".into()));
        }
        let (run, build) = (ActivityId(7 << 32), ActivityId((7 << 32) + 1));
        assert_eq!(
            sink.take(),
            [
                Event::Start {
                    id: run,
                    parent: ActivityId::NONE,
                    level: Verbosity::Error,
                    activity: Activity::Realise,
                    text: "".into()
                },
                Event::Start {
                    id: build,
                    parent: run,
                    level: Verbosity::Info,
                    activity: Activity::Build { drv: "d".into(), machine: None },
                    text: "building 'd'".into()
                },
                Event::Result { id: build, result: ActivityResult::SetPhase("buildPhase".into()) },
                Event::Stop { id: build },
                Event::Stop { id: run },
            ]
        );
    }

    #[test]
    fn warnings_have_the_prefix_of_nix() {
        let sink = Arc::new(CollectingSink::new());
        EventSender::new(sink.clone()).warn("odd");
        assert_eq!(sink.take(), [Event::message(Verbosity::Warn, "\u{1b}[35;1mwarning:\u{1b}[0m odd")]);
    }

    #[test]
    fn names_are_unique_among_clones() {
        let sender = EventSender::null();
        let clone = sender.clone();
        assert!(!sender.fresh_id().is_none());
        assert_ne!(sender.fresh_id(), clone.fresh_id());
        assert_ne!(sender.fresh_id(), sender.with_sink(Arc::new(NullSink)).fresh_id());
        assert_eq!(EventSender::with_first_id(Arc::new(NullSink), 0).fresh_id(), ActivityId(1));
    }
}
