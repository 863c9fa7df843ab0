//! A build that a hook has accepted, followed to its end.

use std::time::Duration;

use kiln_events::BuildStatus;
use kiln_protocol::hook::Work;
use kiln_sandbox::ExitStatus;
use kiln_schedule::{Exceeded, Limits, Watchdog};
use tokio::io::AsyncReadExt;

use super::conversation::{Accepted, send};
use super::process::{HookChild, REST_READS};
use super::wire::HookInput;
use crate::error::Failure;
use crate::execute::{Ending, builder_failure};
use crate::log::HookLog;

/// As much of the log as is read at once.
const LOG_READ: usize = 64 << 10;

/// How long a hook may live on that has closed all its output.
const END: Duration = Duration::from_secs(10);

/// How a build on a hook ended.
#[derive(Debug)]
pub(crate) struct Followed {
    /// Its exit; `None` if the system doesn't tell it.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) exceeded: Option<Exceeded>,
}

impl Accepted {
    /// Hands the build over, and waits for its end. What is said of it goes to `log`.
    ///
    /// The end is the exit of the hook; then what is left of its process group is killed. Time limits are the machine's
    /// affair; a limit on the size of the log holds here too.
    pub(crate) async fn follow(
        &mut self,
        work: &Work,
        log_bytes: Option<u64>,
        log: &mut HookLog,
    ) -> Followed {
        let mut watchdog = Watchdog::new(Limits { log_bytes, ..Limits::default() });
        let mut exceeded = None;
        let mut count = |hook: &HookChild, bytes: usize| {
            if exceeded.is_none()
                && let Err(limit) = watchdog.output(bytes as u64, Duration::ZERO)
            {
                exceeded = Some(limit);
                hook.kill();
            }
        };
        let work = HookInput::work(work);
        let mut unsent = work.as_slice();
        let mut buffer = vec![0; LOG_READ];
        let mut log_is_over = false;
        let status = loop {
            if unsent.is_empty() {
                // The end of what it is told is a part of that.
                self.input = None;
            }
            let is_mute = log_is_over && self.messages.is_over();
            tokio::select! {
                status = self.child.wait() => break status,
                written = send(&mut self.input, unsent), if !unsent.is_empty() => {
                    unsent = unsent.get(written..).unwrap_or_default();
                }
                line = self.messages.next(), if !self.messages.is_over() => {
                    let bytes = line.map_or(0, |line| log.message(&line));
                    count(&self.child, bytes);
                }
                read = self.log.read(&mut buffer), if !log_is_over => {
                    let bytes = read.ok().and_then(|length| buffer.get(..length)).unwrap_or_default();
                    log_is_over = bytes.is_empty();
                    log.write(bytes);
                    count(&self.child, bytes.len());
                }
                () = tokio::time::sleep(END), if is_mute => self.child.kill(),
            }
        };
        // What is there, without waiting for more: what still holds the pipes open is not the hook.
        for _ in 0..REST_READS {
            let length = rustix::io::read(&self.log, &mut buffer).unwrap_or(0);
            if length == 0 {
                break;
            }
            let bytes = buffer.get(..length).unwrap_or_default();
            log.write(bytes);
            count(&self.child, bytes.len());
        }
        for line in self.messages.rest() {
            let bytes = log.message(&line);
            count(&self.child, bytes);
        }
        Followed { status, exceeded }
    }

    /// Kills what still runs, and waits until it is gone.
    pub(crate) async fn end(&mut self) {
        self.child.kill();
        self.child.wait().await;
    }
}

/// What the end of a hook means; `None` for a good end. The codes are those of Nix's own commands, of which its hook gives
/// only 1; any other end says nothing about the build itself.
pub(crate) fn hook_failure(ending: Ending<'_>) -> Option<Failure> {
    let status = match (&ending.exceeded, ending.status) {
        (Some(_), _) | (None, ExitStatus::Code(100)) => None,
        (None, ExitStatus::Code(101)) => Some(BuildStatus::TimedOut),
        (None, ExitStatus::Code(102)) => Some(BuildStatus::HashMismatch),
        (None, ExitStatus::Code(104)) => Some(BuildStatus::NotDeterministic),
        (None, ExitStatus::Code(_) | ExitStatus::Signal(_)) => Some(BuildStatus::MiscFailure),
    };
    let failure = builder_failure(ending)?;
    Some(Failure { status: status.unwrap_or(failure.status), ..failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_exit_codes_say_how_a_build_failed() {
        let ending = |status| Ending {
            derivation: "/nix/store/x.drv",
            status,
            exceeded: None,
            is_fixed: false,
            disk_is_full: false,
            tail: Vec::new(),
        };
        let failure = |status| hook_failure(ending(status)).map(|failure| failure.status);
        assert_eq!(failure(ExitStatus::Code(0)), None);
        for (code, status) in [
            (100, BuildStatus::PermanentFailure),
            (101, BuildStatus::TimedOut),
            (102, BuildStatus::HashMismatch),
            (104, BuildStatus::NotDeterministic),
            (1, BuildStatus::MiscFailure),
            (255, BuildStatus::MiscFailure),
        ] {
            assert_eq!(failure(ExitStatus::Code(code)), Some(status), "{code}");
        }
        assert_eq!(failure(ExitStatus::Signal(9)), Some(BuildStatus::MiscFailure));
        let fixed = hook_failure(Ending { is_fixed: true, ..ending(ExitStatus::Code(100)) }).unwrap();
        assert_eq!(fixed.status, BuildStatus::TransientFailure);
        assert_eq!(fixed.message.to_str_lossy(), "builder for '/nix/store/x.drv' failed with exit code 100");
        let limit = Some(Exceeded::LogBytes(7));
        let killed = hook_failure(Ending { exceeded: limit, ..ending(ExitStatus::Signal(9)) }).unwrap();
        assert_eq!(killed.status, BuildStatus::LogLimitExceeded);
    }
}
