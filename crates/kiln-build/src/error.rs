//! Why a goal, or a whole request, does not end well.

use kiln_events::{BuildStatus, Text};

/// Why the engine could not be started, or a request could not be answered at all.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store could not do what was asked of it.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
    /// The launcher could not be started.
    #[error(transparent)]
    Sandbox(#[from] kiln_sandbox::SandboxError),
    /// A goal could not be planned.
    #[error("{}", .0.message.to_str_lossy())]
    Failure(Failure),
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// How a goal failed: the status that clients see, and the message that people read.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind of failure.
    pub status: BuildStatus,
    /// What failed and why; may hold what a builder wrote.
    pub message: Text,
    /// The last lines of the builder's log.
    pub log_tail: Vec<Text>,
}

impl Failure {
    /// A failure without a log.
    pub(crate) fn new(status: BuildStatus, message: impl Into<Text>) -> Self {
        Self { status, message: message.into(), log_tail: Vec::new() }
    }

    /// A failure that is nobody's input: the machine's, or a bug.
    pub(crate) fn misc(message: impl std::fmt::Display) -> Self {
        Self::new(BuildStatus::MiscFailure, message.to_string())
    }
}

/// Errors of the layers below end their goal as *misc failure* with their own message.
macro_rules! misc_failures {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::misc(with_causes(&error))
            }
        }
    )*};
}

misc_failures!(
    kiln_store::Error,
    kiln_sandbox::SandboxError,
    kiln_fs::Error,
    kiln_fs::InvalidComponent,
    std::io::Error
);

/// An error's message and those of its causes that it does not repeat itself.
fn with_causes(error: &dyn std::error::Error) -> String {
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
    message
}
