//! What the engine learns about a build while it runs.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{ByteString, Isolation};

mod channel;
pub(crate) use channel::{RawReceipt, StatusSender, pair};
pub use channel::{Receipt, StatusChannel};

/// A message of the launcher, or of a builder's set-up, about one build.
///
/// The order is `Created`, then `Started` or `SetupFailed`, then `Exited`. A build that can't even be created has
/// `SetupFailed` alone.
#[derive(Debug)]
pub enum StatusMessage {
    /// The process exists.
    Created {
        /// A descriptor of it, to kill it and to wait for it.
        process: OwnedFd,
    },
    /// Its world is set up; the builder itself starts now.
    Started {
        /// What protects it, and from what.
        isolation: Isolation,
        /// Its mount namespace, if it has one. To take that down takes longer than everything else in the end of a small
        /// build, and whoever holds the last descriptor of it waits for that. Were it the builder's process, its end would
        /// be seen so much later.
        mounts: Option<OwnedFd>,
    },
    /// Its world could not be set up; no builder was started.
    SetupFailed(SetupError),
    /// The process has ended, and so have all others of the build.
    Exited(BuilderExit),
}

/// The part of a message that is not a descriptor, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    Created,
    Started(Isolation),
    SetupFailed(SetupError),
    Exited(BuilderExit),
    /// From a network's helper: the network is connected with the world.
    Connected,
    Probed(crate::Capabilities),
}

/// How a builder ended, and what it used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuilderExit {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// CPU time in user mode, of the builder and all its descendants.
    pub user: Duration,
    /// CPU time in the kernel, of the builder and all its descendants.
    pub system: Duration,
    /// Resident set size of its largest process, in bytes.
    pub max_rss: u64,
    /// The most memory that all its processes had at a time, in bytes, if it had a cgroup that counts it.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// It was killed since the helper of its network ([`crate::Network::Isolated`]) had ended.
    #[serde(default)]
    pub network_lost: bool,
    /// Processes that could not be killed within some seconds. Always 0 in a PID namespace.
    pub survivors: u32,
}

/// Exit code or signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It ended by itself, with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// From a wait status as `wait4(2)` gives it.
    pub(crate) fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
}

/// Which part of the set-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SetupStage {
    /// The plan itself.
    Plan,
    /// Creating the process and its namespaces.
    Process,
    /// Its cgroup.
    Cgroup,
    /// Mounts and files of the new root.
    Mounts,
    /// A path of `sandbox-paths`.
    SandboxPaths,
    /// The new root directory.
    Root,
    /// Loopback interface and host name.
    Network,
    /// The program that connects its network with the world.
    NetworkHelper,
    /// Files for the builder in its build directory.
    Files,
    /// User, groups, user namespace, capabilities.
    Identity,
    /// Session, standard streams, limits, personality, working directory.
    Streams,
    /// System-call filter and landlock.
    Filter,
}

/// Why a build's world could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupError {
    /// Which part failed.
    pub stage: SetupStage,
    /// The system's error number, if a system call failed.
    pub errno: Option<i32>,
    /// The path concerned, if there is one.
    pub path: Option<ByteString>,
    /// What was being done.
    pub message: String,
}

impl SetupError {
    /// What was being done, and which system error ended it.
    pub(crate) fn new(stage: SetupStage, message: impl Into<String>, errno: Errno) -> Self {
        Self { stage, errno: Some(errno.raw_os_error()), path: None, message: message.into() }
    }

    /// A failure that is not that of a system call.
    pub(crate) fn plain(stage: SetupStage, message: impl Into<String>) -> Self {
        Self { stage, errno: None, path: None, message: message.into() }
    }

    /// What was being done with what, and how it failed, for sentences that say themselves that it was for a build.
    pub fn reason(&self) -> String {
        let path = self.path.as_ref().map(|path| format!(" '{path}'")).unwrap_or_default();
        let errno = self.errno.map(|errno| format!(": {}", describe(Errno::from_raw_os_error(errno))));
        format!("{}{path}{}", self.message, errno.unwrap_or_default())
    }

    /// Names the path concerned.
    pub(crate) fn at(mut self, path: impl Into<ByteString>) -> Self {
        self.path = Some(path.into());
        self
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "while setting up the build environment: {}", self.reason())
    }
}

impl std::error::Error for SetupError {}

/// The C library's text for an error number, without Rust's "(os error N)".
pub(crate) fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b12_messages_name_what_failed() {
        let error = SetupError::new(SetupStage::Mounts, "cannot bind", Errno::NOENT).at("/a");
        assert_eq!(
            error.to_string(),
            "while setting up the build environment: cannot bind '/a': No such file or directory"
        );
        let plain = SetupError::plain(SetupStage::Plan, "no builder");
        assert_eq!(plain.to_string(), "while setting up the build environment: no builder");
    }

    #[test]
    fn wait_statuses_are_told_apart() {
        assert_eq!(ExitStatus::from_wait_status(3 << 8), ExitStatus::Code(3));
        assert_eq!(ExitStatus::from_wait_status(9), ExitStatus::Signal(9));
        assert_eq!(ExitStatus::from_wait_status(0x80 | 6), ExitStatus::Signal(6));
    }
}
