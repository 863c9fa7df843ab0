//! What can go wrong, on the engine's side.

use std::io;
use std::path::PathBuf;

/// An error of the sandbox, the launcher, or the build users.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The launcher process could not be started.
    #[error("cannot start the launcher '{program}': {source}")]
    StartLauncher {
        /// The program that was to be executed.
        program: PathBuf,
        /// Why it couldn't.
        source: io::Error,
    },
    /// The launcher has ended, and with it all builders.
    #[error("the launcher process has ended unexpectedly; its builders are gone with it")]
    LauncherGone,
    /// A build user has processes that can't be killed, so no build may run as it.
    #[error("cannot kill the processes of build user {uid}: {source}")]
    KillProcesses {
        /// The user.
        uid: u32,
        /// Why it failed.
        source: io::Error,
    },
    /// A plan could not be handed to the launcher.
    #[error("cannot send a plan to the launcher: {0}")]
    Send(#[source] io::Error),
    /// What the launcher or a builder's set-up reported could not be received or understood.
    #[error("cannot understand the launcher's report: {0}")]
    Report(String),
    /// No terminal for the builder's output.
    #[error("cannot open a pseudo-terminal for the builder's output: {0}")]
    Terminal(#[source] io::Error),
    /// A directory for the build could not be created, entered, or removed.
    #[error(transparent)]
    Directory(#[from] kiln_fs::Error),
    /// A directory for builds could not be looked at.
    #[error("cannot look at '{}': {source}", .path.display())]
    Look {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else could replace a directory under which builds would run.
    #[error("'{}' can be changed by other users, so builds below it would not be safe", .0.display())]
    UnsafeDirectory(PathBuf),
    /// Builds can't have cgroups of their own.
    #[error(
        "builds cannot have cgroups of their own, as 'use-cgroups' demands: {0}; use a service manager that delegates a cgroup \
         of version 2 to Kiln, or set 'use-cgroups = false'"
    )]
    Cgroups(String),
    /// See [`crate::BuildUserError`].
    #[error(transparent)]
    BuildUser(#[from] crate::BuildUserError),
}
