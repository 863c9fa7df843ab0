//! What a builder's end means, in words (D11, D12, S7, S8).

use kiln_events::{BuildStatus, Text};
use kiln_sandbox::ExitStatus;
use kiln_schedule::Exceeded;

use crate::error::Failure;

/// With less than this free where a build writes, its failure is blamed on the disk.
pub(crate) const LOW_DISK_SPACE: u64 = 8 << 20;

/// What is known of a builder's end.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    /// The derivation's full path.
    pub(crate) derivation: &'a str,
    pub(crate) status: ExitStatus,
    pub(crate) exceeded: Option<Exceeded>,
    pub(crate) is_fixed: bool,
    pub(crate) disk_is_full: bool,
    pub(crate) tail: Vec<Text>,
}

/// The failure that a builder's end means; `None` for a good end. The last lines of the log are not in its message but
/// beside it: only who shows it knows whether they have been seen.
pub(crate) fn builder_failure(ending: Ending<'_>) -> Option<Failure> {
    let derivation = ending.derivation;
    if let Some(exceeded) = ending.exceeded {
        let (status, message) = match exceeded {
            Exceeded::LogBytes(_) => (BuildStatus::LogLimitExceeded, format!("'{derivation}' {exceeded}")),
            Exceeded::Total(_) | Exceeded::Silence(_) => {
                (BuildStatus::TimedOut, format!("building of '{derivation}' {exceeded}"))
            }
        };
        return Some(Failure { log_tail: ending.tail, ..Failure::new(status, message) });
    }
    let how = match ending.status {
        ExitStatus::Code(0) => return None,
        ExitStatus::Code(code) => format!("failed with exit code {code}"),
        ExitStatus::Signal(signal) => {
            format!("failed due to signal {signal} ({})", signal_description(signal))
        }
    };
    let mut message = format!("builder for '{derivation}' {how}");
    if ending.disk_is_full {
        message.push_str("\nnote: build failure may have been caused by lack of free disk space");
    }
    let status = if ending.is_fixed || ending.disk_is_full {
        BuildStatus::TransientFailure
    } else {
        BuildStatus::PermanentFailure
    };
    Some(Failure { log_tail: ending.tail, ..Failure::new(status, message) })
}

/// What the C library calls a signal.
fn signal_description(signal: i32) -> &'static str {
    match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        16 => "Stack fault",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        _ => "another signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ending(status: ExitStatus) -> Ending<'static> {
        Ending {
            derivation: "/nix/store/x.drv",
            status,
            exceeded: None,
            is_fixed: false,
            disk_is_full: false,
            tail: vec!["one".into(), "two".into()],
        }
    }

    #[test]
    fn d11_messages_name_the_end() {
        assert!(builder_failure(ending(ExitStatus::Code(0))).is_none());
        let failed = builder_failure(ending(ExitStatus::Code(3))).unwrap();
        assert_eq!(failed.status, BuildStatus::PermanentFailure);
        assert_eq!(failed.message.to_str_lossy(), "builder for '/nix/store/x.drv' failed with exit code 3");
        assert_eq!(failed.log_tail, ["one", "two"]);
        let killed = builder_failure(ending(ExitStatus::Signal(11))).unwrap();
        assert_eq!(
            killed.message.to_str_lossy(),
            "builder for '/nix/store/x.drv' failed due to signal 11 (Segmentation fault)"
        );
    }

    #[test]
    fn d12_fixed_outputs_and_full_disks_fail_transiently() {
        let fixed = builder_failure(Ending { is_fixed: true, ..ending(ExitStatus::Code(1)) }).unwrap();
        assert_eq!(fixed.status, BuildStatus::TransientFailure);
        let full = builder_failure(Ending { disk_is_full: true, ..ending(ExitStatus::Code(1)) }).unwrap();
        assert_eq!(full.status, BuildStatus::TransientFailure);
        assert!(
            full.message
                .to_str_lossy()
                .ends_with("note: build failure may have been caused by lack of free disk space")
        );
    }

    #[test]
    fn s7_s8_limits_have_statuses_of_their_own() {
        for (exceeded, status, message) in [
            (
                Exceeded::Silence(Duration::from_secs(5)),
                BuildStatus::TimedOut,
                "building of '/nix/store/x.drv' timed out after 5 seconds of silence",
            ),
            (
                Exceeded::Total(Duration::from_secs(5)),
                BuildStatus::TimedOut,
                "building of '/nix/store/x.drv' timed out after 5 seconds",
            ),
            (
                Exceeded::LogBytes(7),
                BuildStatus::LogLimitExceeded,
                "'/nix/store/x.drv' killed after writing more than 7 bytes of log output",
            ),
        ] {
            let failure =
                builder_failure(Ending { exceeded: Some(exceeded), ..ending(ExitStatus::Signal(9)) })
                    .unwrap();
            assert_eq!((failure.status, &*failure.message.to_str_lossy()), (status, message));
        }
    }
}
