//! How an operation fails for its client.

use std::fmt;

use kiln_events::Text;
use kiln_protocol::worker::LogError;

/// The end of an operation that did not do what was asked.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    message: Text,
    /// What clients before 1.26 end with.
    exit_status: u64,
    ends_connection: bool,
}

impl Failure {
    /// A failure with a message for people.
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self::of_text(message.to_string().into(), 1)
    }

    /// A failure with a message that may hold what a builder wrote, and the exit status that it means.
    pub(super) fn of_text(message: Text, exit_status: u8) -> Self {
        Self { message, exit_status: exit_status.into(), ends_connection: false }
    }

    /// The same, after which the connection cannot be used.
    pub(super) fn ending_connection(self) -> Self {
        Self { ends_connection: true, ..self }
    }

    pub(super) fn ends_connection(&self) -> bool {
        self.ends_connection
    }

    pub(super) fn into_error(self) -> LogError {
        LogError::new(self.message, self.exit_status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message.to_str_lossy())
    }
}

/// An error's message and those of its causes that it does not repeat itself.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::new(message)
    }
}
