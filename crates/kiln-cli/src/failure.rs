//! How a command fails, and how that is told; the one place where errors become text.

use std::error::Error;
use std::fmt;
use std::io;

use kiln_events::{ErrorClass, ErrorReport};

/// Exit code of whatever fails and is not the failure of a build.
pub(crate) const GENERAL_EXIT_CODE: u8 = 1;

/// The end of a command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    class: ErrorClass,
    /// What was being done, outermost first, each the reason of the one before.
    messages: Vec<String>,
    hint: Option<String>,
    /// The program whose help tells how it is used.
    help_of: Option<&'static str>,
    /// Nothing is to be said: it was said already, or nobody reads.
    silent: bool,
    exit_code: u8,
}

impl Failure {
    /// What was asked for is wrong.
    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self::of_class(ErrorClass::UserInput, message)
    }

    /// The machine does not allow it.
    pub(crate) fn environment(message: impl fmt::Display) -> Self {
        Self::of_class(ErrorClass::Environment, message)
    }

    fn of_class(class: ErrorClass, message: impl fmt::Display) -> Self {
        let messages = vec![message.to_string()];
        Self { class, messages, hint: None, help_of: None, silent: false, exit_code: GENERAL_EXIT_CODE }
    }

    /// All has been said: only the exit code is left.
    pub(crate) fn already_told(exit_code: u8) -> Self {
        let failure = Self::of_class(ErrorClass::BuildFailure, "");
        Self { messages: Vec::new(), silent: true, exit_code, ..failure }
    }

    /// Names the next step.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whose help tells how it is used rightly.
    #[must_use]
    pub(crate) fn with_help_of(mut self, program: &'static str) -> Self {
        self.help_of = Some(program);
        self
    }

    /// Where help is, for those who used a program of Nix wrongly: a line after the report.
    pub(crate) fn way_to_help(&self) -> Option<String> {
        self.help_of.map(|program| format!("Try '{program} --help' for more information."))
    }

    /// Ends the process with a code of its own.
    #[must_use]
    pub(crate) fn with_exit_code(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// What failed, with its causes, without the hint.
    pub(crate) fn message(&self) -> String {
        joined(&self.messages)
    }

    /// What there is to tell: the outermost message, its causes each on a line, and the hint.
    pub(crate) fn report(&self) -> Option<ErrorReport> {
        if self.silent {
            return None;
        }
        let report = ErrorReport::new(self.class, joined(&self.messages));
        Some(match &self.hint {
            Some(hint) => report.with_hint(hint),
            None => report,
        })
    }
}

/// Messages with their reasons: on one line as far as they are lines.
fn joined(messages: &[String]) -> String {
    let mut text = String::new();
    for message in messages {
        if !text.is_empty() {
            text.push_str(if message.contains('\n') || text.contains('\n') { ":\n" } else { ": " });
        }
        text.push_str(message);
    }
    text
}

/// An error with its chain of causes; a cause that the message before it already tells is not told again.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut failure = Self::input(&error);
        let mut link: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = link {
            let message = error.to_string();
            if failure.messages.last().is_none_or(|last| !last.contains(&message)) {
                failure.messages.push(message);
            }
            if error.is::<io::Error>() {
                failure.class = ErrorClass::Environment;
            }
            link = error.source();
        }
        failure
    }
}

/// Says what was being done when something failed.
pub(crate) trait While<T> {
    /// Puts a message before the error's own.
    fn doing<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> While<T> for Result<T, E> {
    fn doing<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut failure = error.into();
            failure.messages.insert(0, message().to_string());
            failure
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner: {0}")]
    struct Inner(#[source] io::Error);

    #[test]
    fn causes_are_told_once() {
        let error = Outer(Inner(io::Error::other("disk on fire")));
        let failure = Err::<(), _>(error).doing(|| "while reading 'x'").unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        let report = failure.with_hint("pour water on it").report().unwrap();
        assert_eq!(
            String::from_utf8(report.body()).unwrap(),
            "while reading 'x': outer: inner: disk on fire\nhint: pour water on it"
        );
        assert_eq!(report.class, ErrorClass::Environment);
    }

    #[test]
    fn several_lines_stay_apart() {
        let messages = ["adding 'x'", "kiln.toml:1:1: wrong\n  | ^", "no"].map(str::to_owned);
        assert_eq!(joined(&messages), "adding 'x':\nkiln.toml:1:1: wrong\n  | ^:\nno");
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let failure = Failure::already_told(100);
        assert_eq!((failure.exit_code(), failure.report()), (100, None));
    }
}
