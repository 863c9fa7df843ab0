//! How a build ended.

use std::collections::BTreeMap;

use crate::text::Text;

/// How one derivation's way ended (worker protocol: status of `BuildResult`).
///
/// Two statuses are ours alone, because the exit code of a request needs them: they are sent as the one that clients
/// know ([`BuildStatus::wire_code`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuildStatus {
    /// 0: built here or on a remote builder.
    Built,
    /// 1: all wanted outputs were substituted.
    Substituted,
    /// 2: all wanted outputs were valid.
    AlreadyValid,
    /// 3: the builder failed, and would again.
    PermanentFailure,
    /// 4: the derivation cannot be built as it is.
    InputRejected,
    /// 5: the builder succeeded, but what it made was refused.
    OutputRejected,
    /// 6: failed, but may succeed when tried again.
    TransientFailure,
    /// 7: failed before, and failures are remembered (old daemons).
    CachedFailure,
    /// 8: killed by `timeout` or `max-silent-time`.
    TimedOut,
    /// 9: failed for another reason.
    MiscFailure,
    /// 10: something that it needs failed.
    DependencyFailed,
    /// 11: killed by `max-build-log-size`.
    LogLimitExceeded,
    /// 12: check mode found a difference.
    NotDeterministic,
    /// 13: resolves to a derivation whose outputs were valid.
    ResolvesToAlreadyValid,
    /// 14: nobody offers the path.
    NoSubstituters,
    /// Sent as 5: a fixed output has another hash than it should.
    HashMismatch,
    /// Sent as 12: the rounds of a repeated build differ.
    RoundsDiffer,
}

/// A status number that no protocol version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid build status {0}: expected 0 to 14")]
pub struct UnknownBuildStatus(pub u64);

impl BuildStatus {
    /// All statuses that have a number of their own, by number.
    pub const BY_WIRE_CODE: [BuildStatus; 15] = [
        BuildStatus::Built,
        BuildStatus::Substituted,
        BuildStatus::AlreadyValid,
        BuildStatus::PermanentFailure,
        BuildStatus::InputRejected,
        BuildStatus::OutputRejected,
        BuildStatus::TransientFailure,
        BuildStatus::CachedFailure,
        BuildStatus::TimedOut,
        BuildStatus::MiscFailure,
        BuildStatus::DependencyFailed,
        BuildStatus::LogLimitExceeded,
        BuildStatus::NotDeterministic,
        BuildStatus::ResolvesToAlreadyValid,
        BuildStatus::NoSubstituters,
    ];

    /// The number in the worker and serve protocols.
    #[must_use]
    pub fn wire_code(self) -> u8 {
        match self {
            BuildStatus::HashMismatch => BuildStatus::OutputRejected as u8,
            BuildStatus::RoundsDiffer => BuildStatus::NotDeterministic as u8,
            other => other as u8,
        }
    }

    /// The status of a number in the worker and serve protocols.
    pub fn from_wire_code(code: u64) -> Result<BuildStatus, UnknownBuildStatus> {
        usize::try_from(code)
            .ok()
            .and_then(|index| BuildStatus::BY_WIRE_CODE.get(index))
            .copied()
            .ok_or(UnknownBuildStatus(code))
    }

    /// Whether the wanted outputs are valid now.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(
            self,
            BuildStatus::Built
                | BuildStatus::Substituted
                | BuildStatus::AlreadyValid
                | BuildStatus::ResolvesToAlreadyValid
        )
    }

    /// The status as Nix names it, e.g. in `nix build --json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BuildStatus::Built => "Built",
            BuildStatus::Substituted => "Substituted",
            BuildStatus::AlreadyValid => "AlreadyValid",
            BuildStatus::PermanentFailure => "PermanentFailure",
            BuildStatus::InputRejected => "InputRejected",
            BuildStatus::OutputRejected => "OutputRejected",
            BuildStatus::TransientFailure => "TransientFailure",
            BuildStatus::CachedFailure => "CachedFailure",
            BuildStatus::TimedOut => "TimedOut",
            BuildStatus::MiscFailure => "MiscFailure",
            BuildStatus::DependencyFailed => "DependencyFailed",
            BuildStatus::LogLimitExceeded => "LogLimitExceeded",
            BuildStatus::NotDeterministic => "NotDeterministic",
            BuildStatus::ResolvesToAlreadyValid => "ResolvesToAlreadyValid",
            BuildStatus::NoSubstituters => "NoSubstituters",
            BuildStatus::HashMismatch => "HashMismatch",
            BuildStatus::RoundsDiffer => "RoundsDiffer",
        }
    }
}

/// What is known of one derivation's way when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildResult {
    /// How it ended.
    pub status: BuildStatus,
    /// Why it failed, as a person reads it; empty on success. May hold what a builder wrote.
    pub error_message: Text,
    /// How many rounds were built.
    pub times_built: u64,
    /// Whether a difference between rounds was seen.
    pub is_non_deterministic: bool,
    /// When the last round began, in seconds since 1970; 0 if it never did.
    pub start_time: u64,
    /// When it ended, in seconds since 1970; 0 if it never began.
    pub stop_time: u64,
    /// User time of all the builder's processes in µs, if known.
    pub cpu_user: Option<u64>,
    /// System time of all the builder's processes in µs, if known.
    pub cpu_system: Option<u64>,
    /// The most memory that all processes of the builder had at a time, in bytes, where it is known. Kiln's own.
    pub memory_peak: Option<u64>,
    /// Full store path of each output that was realised, by output name.
    pub built_outputs: BTreeMap<String, String>,
    /// What the builder was kept apart by, in words, if it ran here.
    pub isolation: Option<String>,
    /// The last lines of the builder's log, if it failed.
    pub log_tail: Vec<Text>,
}

impl BuildResult {
    /// A result with a status and nothing else.
    #[must_use]
    pub fn new(status: BuildStatus) -> BuildResult {
        BuildResult {
            status,
            error_message: Text::default(),
            times_built: 0,
            is_non_deterministic: false,
            start_time: 0,
            stop_time: 0,
            cpu_user: None,
            cpu_system: None,
            memory_peak: None,
            built_outputs: BTreeMap::new(),
            isolation: None,
            log_tail: Vec::new(),
        }
    }

    /// A failure with its message.
    #[must_use]
    pub fn failure(status: BuildStatus, error_message: impl Into<Text>) -> BuildResult {
        BuildResult { error_message: error_message.into(), ..BuildResult::new(status) }
    }

    /// Whether the wanted outputs are valid now.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_protocol() {
        for (code, status) in (0u8..).zip(BuildStatus::BY_WIRE_CODE) {
            assert_eq!(status.wire_code(), code);
            assert_eq!(BuildStatus::from_wire_code(u64::from(code)), Ok(status));
            assert_eq!(status.name(), format!("{status:?}"));
        }
        assert_eq!(BuildStatus::from_wire_code(15), Err(UnknownBuildStatus(15)));
        assert_eq!(BuildStatus::from_wire_code(u64::MAX), Err(UnknownBuildStatus(u64::MAX)));
        assert_eq!(BuildStatus::HashMismatch.wire_code(), 5);
        assert_eq!(BuildStatus::RoundsDiffer.wire_code(), 12);
    }

    #[test]
    fn four_statuses_are_success() {
        let successes: Vec<u8> = BuildStatus::BY_WIRE_CODE
            .iter()
            .filter(|status| status.is_success())
            .map(|status| status.wire_code())
            .collect();
        assert_eq!(successes, [0, 1, 2, 13]);
    }
}
