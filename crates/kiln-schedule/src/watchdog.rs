//! The limits of one round of a build: time, silence, size of its log.

use std::fmt;
use std::time::Duration;

/// What a build may take; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Time in all (`timeout`).
    pub total: Option<Duration>,
    /// Time without output (`max-silent-time`).
    pub silence: Option<Duration>,
    /// Bytes of output (`max-build-log-size`).
    pub log_bytes: Option<u64>,
}

/// Which limit a build went over, worded as Nix words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// It took longer than this in all.
    Total(Duration),
    /// It wrote nothing for this long.
    Silence(Duration),
    /// It wrote more than this many bytes.
    LogBytes(u64),
}

impl fmt::Display for Exceeded {
    /// The end of the message, after `building of '…'` or the derivation's path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(limit) => write!(f, "timed out after {} seconds", limit.as_secs()),
            Self::Silence(limit) => write!(f, "timed out after {} seconds of silence", limit.as_secs()),
            Self::LogBytes(limit) => write!(f, "killed after writing more than {limit} bytes of log output"),
        }
    }
}

/// Watches one round of one build. Times are counted from the start of the round, by any clock that does not go back.
#[derive(Clone, Debug)]
pub struct Watchdog {
    limits: Limits,
    last_output: Duration,
    log_bytes: u64,
}

impl Watchdog {
    /// Watches a round that starts now.
    pub fn new(limits: Limits) -> Self {
        Self { limits, last_output: Duration::ZERO, log_bytes: 0 }
    }

    /// The builder wrote `bytes` bytes at `now`.
    ///
    /// # Errors
    /// It has written too much.
    pub fn output(&mut self, bytes: u64, now: Duration) -> Result<(), Exceeded> {
        self.last_output = now;
        self.log_bytes = self.log_bytes.saturating_add(bytes);
        match self.limits.log_bytes {
            Some(limit) if self.log_bytes > limit => Err(Exceeded::LogBytes(limit)),
            _ => Ok(()),
        }
    }

    /// Looks at the clock, and says when to look again if nothing is written before.
    ///
    /// # Errors
    /// A time limit has passed. Of two that have, the one that passed first is named.
    pub fn check(&self, now: Duration) -> Result<Option<Duration>, Exceeded> {
        let total = self.limits.total.map(|limit| (limit, Exceeded::Total(limit)));
        let silence = self
            .limits
            .silence
            .map(|limit| (self.last_output.saturating_add(limit), Exceeded::Silence(limit)));
        match total.into_iter().chain(silence).min_by_key(|(deadline, _)| *deadline) {
            Some((deadline, exceeded)) if deadline <= now => Err(exceeded),
            Some((deadline, _)) => Ok(Some(deadline)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn s7_silence_counts_from_the_last_output() {
        let mut watchdog = Watchdog::new(Limits { silence: Some(seconds(5)), ..Limits::default() });
        assert_eq!(watchdog.check(seconds(4)), Ok(Some(seconds(5))));
        watchdog.output(1, seconds(4)).unwrap();
        assert_eq!(watchdog.check(seconds(8)), Ok(Some(seconds(9))));
        let exceeded = watchdog.check(seconds(9)).unwrap_err();
        assert_eq!(exceeded.to_string(), "timed out after 5 seconds of silence");
    }

    #[test]
    fn s7_the_timeout_counts_from_the_start() {
        let mut watchdog = Watchdog::new(Limits {
            total: Some(seconds(10)),
            silence: Some(seconds(6)),
            ..Limits::default()
        });
        watchdog.output(1, seconds(5)).unwrap();
        assert_eq!(watchdog.check(seconds(9)), Ok(Some(seconds(10))));
        assert_eq!(watchdog.check(seconds(30)), Err(Exceeded::Total(seconds(10))), "it passed first");
        assert_eq!(Exceeded::Total(seconds(10)).to_string(), "timed out after 10 seconds");
    }

    #[test]
    fn s7_no_limit_needs_no_look() {
        assert_eq!(Watchdog::new(Limits::default()).check(seconds(1 << 40)), Ok(None));
    }

    #[test]
    fn s8_the_log_may_have_the_limit_and_no_more() {
        let mut watchdog = Watchdog::new(Limits { log_bytes: Some(10), ..Limits::default() });
        assert_eq!(watchdog.output(10, seconds(0)), Ok(()));
        let exceeded = watchdog.output(1, seconds(0)).unwrap_err();
        assert_eq!(exceeded.to_string(), "killed after writing more than 10 bytes of log output");
    }
}
