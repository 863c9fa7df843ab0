//! The exit code of a request.

use crate::build_result::BuildStatus;

/// The exit code that the statuses of all goals of a request amount to (behaviour S13).
///
/// 0 if all are successes. Otherwise a bit mask over 96: 4 if a build ended as permanent failure, input rejected, timed
/// out or with a hash mismatch; 1 if one timed out; 2 if a fixed output's hash was wrong; 8 if check mode found a
/// difference. 1 if there is no such bit. All goals count, not only the wanted ones: that a dependency failed is known
/// from the dependency's own status.
#[must_use]
pub fn exit_status(statuses: impl IntoIterator<Item = BuildStatus>) -> u8 {
    let (mut mask, mut failed) = (0, false);
    for status in statuses {
        failed |= !status.is_success();
        mask |= match status {
            BuildStatus::PermanentFailure | BuildStatus::InputRejected => 4,
            BuildStatus::TimedOut => 4 | 1,
            BuildStatus::HashMismatch => 4 | 2,
            BuildStatus::NotDeterministic => 8,
            BuildStatus::Built
            | BuildStatus::Substituted
            | BuildStatus::AlreadyValid
            | BuildStatus::ResolvesToAlreadyValid
            | BuildStatus::OutputRejected
            | BuildStatus::TransientFailure
            | BuildStatus::CachedFailure
            | BuildStatus::MiscFailure
            | BuildStatus::DependencyFailed
            | BuildStatus::LogLimitExceeded
            | BuildStatus::NoSubstituters
            | BuildStatus::RoundsDiffer => 0,
        };
    }
    match (mask, failed) {
        (0, false) => 0,
        (0, true) => 1,
        (mask, _) => 0x60 | mask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BuildStatus::*;

    /// The exit codes that real Nix gave in the same situations.
    #[test]
    fn s13_exit_codes_of_nix() {
        assert_eq!(exit_status([]), 0);
        assert_eq!(exit_status([Built, Substituted, AlreadyValid, ResolvesToAlreadyValid]), 0);
        assert_eq!(exit_status([PermanentFailure]), 100);
        assert_eq!(exit_status([PermanentFailure, DependencyFailed]), 100);
        assert_eq!(exit_status([TimedOut]), 101);
        assert_eq!(exit_status([HashMismatch]), 102);
        assert_eq!(exit_status([PermanentFailure, TimedOut, HashMismatch]), 103);
        assert_eq!(exit_status([NotDeterministic]), 104);
        assert_eq!(exit_status([NotDeterministic, PermanentFailure, Built]), 108);
    }

    #[test]
    fn s13_all_else_is_1() {
        for status in [
            OutputRejected,
            TransientFailure,
            CachedFailure,
            MiscFailure,
            LogLimitExceeded,
            RoundsDiffer,
            NoSubstituters,
            DependencyFailed,
        ] {
            assert_eq!(exit_status([Built, status]), 1, "{status:?}");
        }
    }
}
