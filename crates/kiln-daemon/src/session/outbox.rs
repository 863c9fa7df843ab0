//! What a client is told while something is done for it: events become messages in a queue of bounded size.
//!
//! Events come from any thread, which must not wait. What does not fit is dropped, lines of logs above all, and the client
//! is told how many they were as soon as it reads again; the log's file has them all. What is dropped never makes the rest
//! senseless: real clients end themselves when something is reported of an activity that has not begun for them.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_events::{ActivityId, ActivityResult, Event, EventSink, Message, Prefix, Text, Verbosity};
use kiln_protocol::worker::{LogError, LogMessage, Response, ResultMessage, StartActivity};
use kiln_protocol::{Dialect, WriteError, append};
use tokio::sync::Notify;

use crate::limits::QUEUED;

/// Bytes that may be dropped never take more than this part of the queue, so that there is room for what should not be.
const FOR_LOGS: usize = QUEUED / 4 * 3;

/// The first version with activities.
const WITH_ACTIVITIES: u8 = 20;

/// The first version with structured errors.
const STRUCTURED_ERRORS: u8 = 26;

/// The queue.
pub(crate) struct Outbox {
    dialect: Dialect,
    state: Mutex<State>,
    /// There is something.
    changed: Notify,
    /// There is room again.
    drained: Notify,
}

struct State {
    /// What is to be sent.
    bytes: Vec<u8>,
    /// What was said when the client did not listen: between the end of a log phase and the next request.
    later: Vec<u8>,
    client_listens: bool,
    verbosity: Verbosity,
    /// Activities that have begun for the client.
    open: HashSet<ActivityId>,
    dropped: u64,
}

impl Outbox {
    pub(super) fn new(dialect: Dialect) -> Self {
        let state = State {
            bytes: Vec::new(),
            later: Vec::new(),
            client_listens: true,
            verbosity: Verbosity::default(),
            open: HashSet::new(),
            dropped: 0,
        };
        Self { dialect, state: Mutex::new(state), changed: Notify::new(), drained: Notify::new() }
    }

    /// Up to which level the client wants messages.
    pub(super) fn set_verbosity(&self, verbosity: Verbosity) {
        self.lock().verbosity = verbosity;
    }

    /// A request has come: its log phase begins.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.client_listens = true;
        let State { bytes, later, .. } = &mut *state;
        bytes.append(later);
    }

    /// Takes what is to be sent now into `bytes`, which is empty.
    pub(super) fn take(&self, bytes: &mut Vec<u8>) {
        let mut state = self.lock();
        state.tell_of_dropped(&self.dialect);
        std::mem::swap(&mut state.bytes, bytes);
        self.drained.notify_one();
    }

    /// Waits until something has been taken.
    pub(super) async fn drained(&self) {
        self.drained.notified().await;
    }

    /// Waits until there may be something to take.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Asks the client for up to so many bytes.
    pub(super) fn ask(&self, length: u64) {
        self.push(&LogMessage::Read(length));
    }

    /// Adds bytes of an export; answers how many bytes wait now.
    pub(super) fn write(&self, bytes: Vec<u8>) -> usize {
        self.push(&LogMessage::Write(bytes));
        self.lock().bytes.len()
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// The end of the log phase, and the reply.
    ///
    /// # Errors
    /// The reply cannot be said in this version; then nothing is added.
    pub(super) fn finish(&self, reply: &Response) -> Result<(), WriteError> {
        let mut state = self.lock();
        state.tell_of_dropped(&self.dialect);
        let length = state.bytes.len();
        let done = append(&mut state.bytes, &LogMessage::Last, &self.dialect)
            .and_then(|()| reply.append(&mut state.bytes, &self.dialect));
        match done {
            Ok(()) => state.client_listens = false,
            Err(_) => state.bytes.truncate(length),
        }
        done
    }

    /// The end of the log phase, without a reply as that of the handshake.
    pub(super) fn finish_without_reply(&self) {
        self.end(&LogMessage::Last);
    }

    /// The end of the log phase by a failure.
    pub(super) fn fail(&self, mut error: LogError) {
        if self.dialect.version.minor < STRUCTURED_ERRORS {
            error.message = rendered(&error.message);
        }
        self.end(&LogMessage::Error(error));
    }

    fn end(&self, message: &LogMessage) {
        let mut state = self.lock();
        state.tell_of_dropped(&self.dialect);
        let _ = append(&mut state.bytes, message, &self.dialect);
        state.client_listens = false;
    }

    fn push(&self, message: &LogMessage) {
        // Log messages can be said in every version that gets here.
        let _ = append(&mut self.lock().bytes, message, &self.dialect);
        self.changed.notify_one();
    }

    fn has_activities(&self) -> bool {
        self.dialect.version.minor >= WITH_ACTIVITIES
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every step leaves whole messages.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Says how much was dropped, in the place of it.
    fn tell_of_dropped(&mut self, dialect: &Dialect) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let text =
                format!("warning: {dropped} messages were dropped, because they were not read in time\n");
            // It can be said in any version.
            let _ = append(&mut self.bytes, &LogMessage::Next(text.into()), dialect);
        }
    }
}

impl EventSink for Outbox {
    fn emit(&self, event: Event) {
        let mut state = self.lock();
        let State { bytes, later, client_listens, verbosity, open, dropped } = &mut *state;
        let bytes = if *client_listens { bytes } else { later };
        let room = if may_be_dropped(&event) { FOR_LOGS } else { QUEUED };
        let message = match event {
            Event::Message { level, message } if level <= *verbosity => {
                LogMessage::Next(text_of(level, message))
            }
            Event::Message { .. } => return,
            Event::Start { id, parent, level, activity, text } if self.has_activities() => {
                if bytes.len() < room {
                    open.insert(id);
                }
                let parent = if open.contains(&parent) { parent } else { ActivityId::NONE };
                LogMessage::StartActivity(StartActivity::new(id, parent, level, &activity, text))
            }
            Event::Start { level, text, .. } if level <= *verbosity && !text.is_empty() => {
                LogMessage::Next([text.as_bytes(), b"...\n"].concat().into())
            }
            Event::Start { .. } => return,
            // What has begun for the client must end for it.
            Event::Stop { id } if open.remove(&id) => {
                let _ = append(bytes, &LogMessage::StopActivity(id), &self.dialect);
                drop(state);
                return self.changed.notify_one();
            }
            Event::Result { id, result } if open.contains(&id) => {
                LogMessage::Result(ResultMessage::new(id, &result))
            }
            Event::Stop { .. } | Event::Result { .. } => return,
        };
        if bytes.len() >= room {
            *dropped += 1;
            return;
        }
        let _ = append(bytes, &message, &self.dialect);
        drop(state);
        self.changed.notify_one();
    }
}

/// Whether an event is of those that come in floods.
fn may_be_dropped(event: &Event) -> bool {
    match event {
        Event::Result { result, .. } => !matches!(result, ActivityResult::SetPhase(_)),
        Event::Message { level, .. } => *level > Verbosity::Warn,
        Event::Start { .. } | Event::Stop { .. } => false,
    }
}

fn text_of(level: Verbosity, message: Message) -> Text {
    let (text, prefix) = match message {
        Message::Text(text) => (text.into_bytes(), false),
        Message::Report(report) => {
            let prefix = if level == Verbosity::Error { Prefix::Error } else { Prefix::Warning };
            (report.render(prefix, false).into_bytes(), true)
        }
    };
    let mut text = text;
    if !prefix && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.into()
}

/// An error as clients before 1.26 print it, who do not put anything before it.
fn rendered(message: &Text) -> Text {
    let report = kiln_events::ErrorReport::new(kiln_events::ErrorClass::UserInput, message.clone());
    let mut text = report.render(Prefix::Error, false).into_bytes();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_events::{Activity, EventSender};
    use kiln_protocol::{MessageReader, Version};
    use std::sync::Arc;

    fn outbox(minor: u8) -> (Arc<Outbox>, EventSender) {
        let outbox = Arc::new(Outbox::new(Dialect::new(Version::worker(minor), Default::default())));
        (Arc::clone(&outbox), EventSender::new(outbox))
    }

    fn messages(outbox: &Outbox) -> Vec<LogMessage> {
        let mut bytes = Vec::new();
        outbox.take(&mut bytes);
        let (mut reader, mut input) = (MessageReader::new(QUEUED * 2), bytes.as_slice());
        let mut messages = Vec::new();
        while let Some(message) = reader.read(&outbox.dialect, &mut input).unwrap() {
            messages.push(message);
        }
        messages
    }

    #[test]
    fn a_flood_of_lines_is_dropped_and_activities_stay_whole() {
        let (outbox, events) = outbox(38);
        let build = Activity::Build { drv: "d".into(), machine: None };
        let first = events.start(ActivityId::NONE, Verbosity::Info, build.clone());
        for _ in 0..200_000 {
            first.result(ActivityResult::BuildLogLine("y".repeat(50).into()));
        }
        let second = events.start(ActivityId::NONE, Verbosity::Info, build);
        drop(first);
        assert!(outbox.len() < QUEUED);
        let told = messages(&outbox);
        let lines = told.iter().filter(|message| matches!(message, LogMessage::Result(_))).count();
        assert!(lines > 10_000 && lines < 100_000, "{lines}");
        second.result(ActivityResult::BuildLogLine("again".into()));
        assert!(matches!(&messages(&outbox)[..], [LogMessage::Result(_)]));
        let end = &told[lines + 1..];
        assert!(
            matches!(end, [LogMessage::StartActivity(_), LogMessage::StopActivity(_), LogMessage::Next(text)]
            if text.to_str_lossy() == format!("warning: {} messages were dropped, because they were not read in time\n", 200_000 - lines))
        );
    }

    /// After the end of a log phase comes a reply, and nothing may be between its bytes.
    #[test]
    fn what_is_said_to_nobody_is_said_with_the_next_request() {
        let (outbox, events) = outbox(38);
        outbox.finish_without_reply();
        events.message(Verbosity::Warn, "too late");
        assert_eq!(messages(&outbox), [LogMessage::Last]);
        outbox.begin();
        events.message(Verbosity::Warn, "in time");
        let next = |text: &str| LogMessage::Next(text.into());
        assert_eq!(messages(&outbox), [next("too late\n"), next("in time\n")]);
    }

    #[test]
    fn what_was_never_told_is_neither_reported_on_nor_stopped() {
        let (outbox, events) = outbox(38);
        let unknown = ActivityId(77);
        events.emit(Event::Result { id: unknown, result: ActivityResult::SetPhase("x".into()) });
        events.emit(Event::Stop { id: unknown });
        let _part = events.start(unknown, Verbosity::Info, Activity::Unknown);
        let told = messages(&outbox);
        assert!(
            matches!(&told[..], [LogMessage::StartActivity(start)] if start.parent.is_none()),
            "{told:?}"
        );
    }

    #[test]
    fn levels_and_old_clients() {
        let (outbox, events) = outbox(19);
        events.message(Verbosity::Talkative, "quiet");
        events.message(Verbosity::Info, "said");
        let build = events.start(
            ActivityId::NONE,
            Verbosity::Info,
            Activity::Build { drv: "d".into(), machine: None },
        );
        build.result(ActivityResult::BuildLogLine("line".into()));
        drop(build);
        outbox.set_verbosity(Verbosity::Vomit);
        events.message(Verbosity::Vomit, "all");
        outbox.fail(LogError::new("wrong\nand more", 7));
        let next = |text: &str| LogMessage::Next(text.into());
        let error = LogError::new("\u{1b}[31;1merror:\u{1b}[0m wrong\n       and more\n", 7);
        assert_eq!(
            messages(&outbox),
            [next("said\n"), next("building 'd'...\n"), next("all\n"), LogMessage::Error(error)]
        );
    }
}
