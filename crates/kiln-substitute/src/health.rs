//! How a substituter fares, remembered for all who would ask it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kiln_http::DownloadError;
use kiln_schedule::{Admission, Breaker, BreakerPolicy, BreakerState, Outcome};

use crate::error::Resting;

/// The health of one server.
pub struct Health {
    /// Times are counted from here.
    start: Instant,
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    failures: u64,
    answers: u64,
    last_failure: Option<String>,
    /// How long answers take, lately.
    latency: Option<Duration>,
    /// What has happened since it was put on record.
    news: News,
    /// When it was put on record, by this server's clock.
    recorded: Option<Duration>,
    /// Whether what is on record is what is so.
    is_recorded: bool,
}

/// What there is to put on record.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    answered: bool,
    failed: bool,
    /// It is asked again, or not any more.
    turned: bool,
}

/// What is put on record of how a server fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthRecord {
    /// Whether it has answered since the last time.
    pub(crate) answered: bool,
    /// What happened if it has failed since the last time.
    pub(crate) failure: Option<String>,
    /// For how long it is left alone.
    pub(crate) rest: Option<Duration>,
    /// How long its answers take.
    pub(crate) latency: Option<Duration>,
}

/// That a server answers is put on record no more often than this.
const RECORDED: Duration = Duration::from_secs(10);

/// How a server fares, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether it is asked.
    pub condition: Condition,
    /// How often it gave an answer.
    pub answers: u64,
    /// How often it failed.
    pub failures: u64,
    /// What happened when it failed the last time.
    pub last_failure: Option<String>,
}

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Yes.
    Well,
    /// Not for so long from now on, since it has failed.
    Resting(Duration),
    /// By one; the others wait for what comes of it.
    Probed,
}

/// Leave to ask the server once. If nothing is told of what came of it, it was given up.
pub(crate) struct Leave<'a> {
    health: &'a Health,
    admission: Admission,
    begun: Duration,
    told: bool,
}

impl Health {
    /// Of a server that nobody has asked yet.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        let state = State {
            breaker: Breaker::new(policy),
            failures: 0,
            answers: 0,
            last_failure: None,
            latency: None,
            news: News::default(),
            recorded: None,
            is_recorded: false,
        };
        Self { start: Instant::now(), state: Mutex::new(state) }
    }

    /// How the server fares.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let now = self.start.elapsed();
        let state = self.lock();
        let condition = match state.breaker.state() {
            BreakerState::Closed => Condition::Well,
            BreakerState::Resting { until } => Condition::Resting(until.saturating_sub(now)),
            BreakerState::Probing { .. } => Condition::Probed,
        };
        let (answers, failures) = (state.answers, state.failures);
        HealthReport { condition, answers, failures, last_failure: state.last_failure.clone() }
    }

    /// Lets the server be asked at once, whatever happened before.
    pub fn reset(&self) {
        self.lock().breaker.reset();
    }

    /// What is to be put on record now, if there is news.
    pub(crate) fn take_record(&self) -> Option<HealthRecord> {
        let now = self.start.elapsed();
        let mut state = self.lock();
        let is_due = state.recorded.is_none_or(|recorded| now >= recorded.saturating_add(RECORDED));
        let news = state.news;
        if !(news.failed || news.turned || news.answered && is_due) {
            return None;
        }
        state.news = News::default();
        state.recorded = Some(now);
        let rest = match state.breaker.state() {
            BreakerState::Resting { until } => Some(until.saturating_sub(now)),
            BreakerState::Closed | BreakerState::Probing { .. } => None,
        };
        let failure = state.last_failure.clone().filter(|_| news.failed);
        Some(HealthRecord { answered: news.answered, failure, rest, latency: state.latency })
    }

    /// What was taken is on record now, or can't be.
    pub(crate) fn recorded(&self, is_recorded: bool) {
        let mut state = self.lock();
        state.is_recorded = is_recorded && !state.news.turned;
    }

    /// Whether the record says what is so, but for what others have changed of it.
    pub(crate) fn is_recorded(&self) -> bool {
        self.lock().is_recorded
    }

    /// Asks for leave to ask the server.
    pub(crate) fn ask(&self) -> Result<Leave<'_>, Resting> {
        let now = self.start.elapsed();
        let mut state = self.lock();
        match state.breaker.ask(now) {
            Admission::Refused { until } => Err(Resting {
                rest: until.saturating_sub(now),
                because: state.last_failure.clone().unwrap_or_default(),
            }),
            admission => Ok(Leave { health: self, admission, begun: now, told: false }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters that were left half-way are still counters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave<'_> {
    /// The server gave an answer.
    pub(crate) fn answered(self) {
        let taken = self.health.start.elapsed().saturating_sub(self.begun);
        self.end(Outcome::Answered, |state| {
            state.answers += 1;
            state.news.answered = true;
            // Each answer counts for an eighth.
            state.latency = Some(state.latency.map_or(taken, |before| (before * 7 + taken) / 8));
        });
    }

    /// What the server sent makes no sense.
    pub(crate) fn faulty(self, because: String) {
        self.end(Outcome::Faulty, |state| {
            state.failed(because);
        });
    }

    /// A download has failed, which may or may not be due to the server.
    pub(crate) fn failed(self, error: &DownloadError) {
        let is_answer = error.status().is_some_and(|status| status < 500 && status != 408 && status != 429);
        if is_answer {
            return self.answered();
        }
        let outcome = if error.is_unreachable() { Outcome::Unreachable } else { Outcome::Faulty };
        self.end(outcome, |state| {
            state.failed(error.to_string());
        });
    }

    fn end(mut self, outcome: Outcome, note: impl FnOnce(&mut State)) {
        self.told = true;
        let now = self.health.start.elapsed();
        let mut state = self.health.lock();
        note(&mut state);
        let before = state.breaker.state();
        state.breaker.ended(self.admission, outcome, now);
        if state.breaker.state() != before {
            state.news.turned = true;
            state.is_recorded = false;
        }
    }
}

impl State {
    fn failed(&mut self, because: String) {
        self.failures += 1;
        self.news.failed = true;
        self.last_failure = Some(because);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.told {
            let now = self.health.start.elapsed();
            self.health.lock().breaker.ended(self.admission, Outcome::GivenUp, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_http::Failure;

    fn connect() -> DownloadError {
        DownloadError { url: "http://host/".into(), failure: Failure::Connect("refused".into()) }
    }

    #[test]
    fn a_server_that_is_not_there_is_left_alone() {
        let health = Health::new(BreakerPolicy::default());
        health.ask().unwrap().failed(&connect());
        let resting = health.ask().err().unwrap();
        assert!(resting.because.contains("refused"), "{resting:?}");
        assert!(resting.rest > Duration::from_secs(50), "{resting:?}");
        let report = health.report();
        assert!(matches!(report.condition, Condition::Resting(_)));
        assert_eq!((report.answers, report.failures), (0, 1));
        health.reset();
        health.ask().unwrap().answered();
        assert_eq!(health.report().condition, Condition::Well);
    }

    #[test]
    fn what_is_given_up_says_nothing() {
        let rest = Duration::ZERO;
        let health = Health::new(BreakerPolicy { failures: 1, rest, longest_rest: rest });
        drop(health.ask().unwrap());
        assert_eq!(health.report().condition, Condition::Well);
        health.ask().unwrap().faulty("garbage".into());
        let probe = health.ask().unwrap();
        assert_eq!(health.report().condition, Condition::Probed);
        assert!(health.ask().is_err());
        drop(probe);
        assert!(health.ask().is_ok(), "the next one probes");
    }
}
