//! Events, and how important they are.

use crate::activity::{Activity, ActivityId};
use crate::activity_result::ActivityResult;
use crate::error_report::ErrorReport;
use crate::text::Text;

/// How much is to be seen; something of a level is shown if the level is at most the verbosity (Nix: `Verbosity`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verbosity {
    /// 0: errors.
    Error,
    /// 1: warnings.
    Warn,
    /// 2: what users should notice.
    Notice,
    /// 3: what goes on; the default.
    #[default]
    Info,
    /// 4: `-v`.
    Talkative,
    /// 5: `-vv`.
    Chatty,
    /// 6: `-vvv`, `--debug`.
    Debug,
    /// 7: everything.
    Vomit,
}

impl Verbosity {
    const ALL: [Verbosity; 8] = [
        Verbosity::Error,
        Verbosity::Warn,
        Verbosity::Notice,
        Verbosity::Info,
        Verbosity::Talkative,
        Verbosity::Chatty,
        Verbosity::Debug,
        Verbosity::Vomit,
    ];

    /// The level of a number; numbers above 7 (clients send them) are [`Verbosity::Vomit`].
    #[must_use]
    pub fn from_number(number: u64) -> Verbosity {
        usize::try_from(number)
            .ok()
            .and_then(|index| Verbosity::ALL.get(index))
            .copied()
            .unwrap_or(Verbosity::Vomit)
    }

    /// The level's number, 0–7.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// `steps` levels more (`-v` each) or, if negative, fewer (`--quiet` each); stops at both ends.
    #[must_use]
    pub fn adjusted(self, steps: i32) -> Verbosity {
        let number = i32::from(self.number()).saturating_add(steps).max(0);
        Verbosity::from_number(u64::try_from(number).unwrap_or(0))
    }
}

/// What is said once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Plain text, one or more lines without a last newline. It may come from a builder or another daemon: whoever
    /// shows it must filter it.
    Text(Text),
    /// An error or a warning with structure.
    Report(Box<ErrorReport>),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An activity began.
    Start {
        /// Its name from now on.
        id: ActivityId,
        /// What it is a part of; [`ActivityId::NONE`] at the top.
        parent: ActivityId,
        /// How important its text is.
        level: Verbosity,
        /// What it is.
        activity: Activity,
        /// What a log shows for it; empty for activities that only count.
        text: Text,
    },
    /// An activity ended.
    Stop {
        /// Which one.
        id: ActivityId,
    },
    /// A running activity reported something.
    Result {
        /// Which one.
        id: ActivityId,
        /// What it reported.
        result: ActivityResult,
    },
    /// Something was said.
    Message {
        /// How important it is.
        level: Verbosity,
        /// What was said.
        message: Message,
    },
}

impl Event {
    /// A plain message.
    #[must_use]
    pub fn message(level: Verbosity, text: impl Into<Text>) -> Event {
        Event::Message { level, message: Message::Text(text.into()) }
    }

    /// An error or a warning, as its level says.
    #[must_use]
    pub fn report(level: Verbosity, report: ErrorReport) -> Event {
        Event::Message { level, message: Message::Report(Box::new(report)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_counts_like_nix() {
        for number in 0..8u8 {
            assert_eq!(Verbosity::from_number(u64::from(number)).number(), number);
        }
        assert_eq!(Verbosity::from_number(8), Verbosity::Vomit);
        assert_eq!(Verbosity::from_number(u64::MAX), Verbosity::Vomit);
        assert_eq!(Verbosity::default().number(), 3);
        assert_eq!(Verbosity::Info.adjusted(1), Verbosity::Talkative);
        assert_eq!(Verbosity::Info.adjusted(-9), Verbosity::Error);
        assert_eq!(Verbosity::Info.adjusted(i32::MAX), Verbosity::Vomit);
    }
}
