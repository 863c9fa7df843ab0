//! Kiln's events as messages of the log phase, and back.

use kiln_events::{ErrorReport, Event, Message, Prefix, Text, Verbosity};

use crate::version::Version;
use crate::worker::log_message::{LogError, LogMessage, ResultMessage, STRUCTURED_ERRORS, StartActivity};

impl LogMessage {
    /// The message that tells a client of an event. Clients before 1.20 know no activities: they are told the text of one that
    /// starts, and nothing else (`None`). Which events a client wants to hear of is not looked at.
    #[must_use]
    pub fn from_event(event: &Event, version: Version) -> Option<Self> {
        let message = match event {
            Event::Start { id, parent, level, activity, text } => {
                let start =
                    Self::StartActivity(StartActivity::new(*id, *parent, *level, activity, text.clone()));
                if !start.is_known_in(version) {
                    return (!text.is_empty()).then(|| Self::line(text, b"..."));
                }
                start
            }
            Event::Stop { id } => Self::StopActivity(*id),
            Event::Result { id, result } => Self::Result(ResultMessage::new(*id, result)),
            Event::Message { message: Message::Text(text), .. } => Self::line(text, b""),
            Event::Message { level, message: Message::Report(report) } => {
                let prefix = if *level == Verbosity::Error { Prefix::Error } else { Prefix::Warning };
                Self::line(&report.render(prefix, false), b"")
            }
        };
        message.is_known_in(version).then_some(message)
    }

    /// The event that a server tells of; `None` if it is another kind of message, or a report whose fields don't fit its type. A
    /// text comes without its level, and is always to be shown.
    #[must_use]
    pub fn into_event(self) -> Option<Event> {
        match self {
            Self::Next(text) => {
                let mut text = text.into_bytes();
                while text.last() == Some(&b'\n') {
                    text.pop();
                }
                Some(Event::message(Verbosity::Error, text))
            }
            Self::StartActivity(start) => Some(Event::Start {
                id: start.id,
                parent: start.parent,
                level: start.level,
                activity: start.activity(),
                text: start.text,
            }),
            Self::StopActivity(id) => Some(Event::Stop { id }),
            Self::Result(result) => Some(Event::Result { id: result.id, result: result.result()? }),
            Self::Read(_) | Self::Write(_) | Self::Last | Self::Error(_) => None,
        }
    }

    fn line(text: &Text, end: &[u8]) -> Self {
        Self::Next([text.as_bytes(), end, b"\n"].concat().into())
    }
}

impl LogError {
    /// An error for a client of this version, which shall end with `exit_status` if it is one that can be told (before 1.26).
    /// Those clients print the message as it is; others put their own prefix before it.
    #[must_use]
    pub fn from_report(report: &ErrorReport, exit_status: u64, version: Version) -> Self {
        if version.minor < STRUCTURED_ERRORS {
            return Self::new(report.render(Prefix::Error, false), exit_status);
        }
        let traces = report.traces.iter().map(|trace| trace.message.clone());
        Self { traces: traces.collect(), ..Self::new(report.body(), exit_status) }
    }
}

#[cfg(test)]
mod tests {
    use kiln_events::{Activity, ActivityId, ActivityResult, ErrorClass};

    use super::*;

    const NEW: Version = Version::worker(38);
    const OLD: Version = Version::worker(19);

    fn start(text: &str) -> Event {
        Event::Start {
            id: ActivityId(3),
            parent: ActivityId(1),
            level: Verbosity::Info,
            activity: Activity::Build { drv: "/nix/store/x.drv".into(), machine: None },
            text: text.into(),
        }
    }

    #[test]
    fn events_go_and_come_back() {
        let events = [
            start("building"),
            Event::Stop { id: ActivityId(3) },
            Event::Result { id: ActivityId(3), result: ActivityResult::BuildLogLine("line".into()) },
            Event::message(Verbosity::Error, "text"),
        ];
        for event in events {
            let message = LogMessage::from_event(&event, NEW).unwrap();
            assert_eq!(message.into_event(), Some(event));
        }
    }

    #[test]
    fn old_clients_are_told_what_starts() {
        let told = |event: &Event| LogMessage::from_event(event, OLD);
        assert_eq!(told(&start("building")), Some(LogMessage::Next("building...\n".into())));
        assert_eq!(told(&start("")), None);
        assert_eq!(told(&Event::Stop { id: ActivityId(3) }), None);
    }

    #[test]
    fn errors_have_a_prefix_only_for_old_clients() {
        let report = ErrorReport::new(ErrorClass::Internal, "no");
        let told = |version| LogError::from_report(&report, 100, version);
        assert_eq!(told(NEW).message, "no");
        assert_eq!(told(Version::worker(25)).message, "\u{1b}[31;1merror:\u{1b}[0m no");
        assert_eq!(told(Version::worker(25)).exit_status, 100);
    }
}
