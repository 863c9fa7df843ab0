//! What an engine has counted since it was started.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kiln_metrics::{Counter, Histogram};
use kiln_substitute::{Condition, Fetched, HealthReport};

use crate::goal::{GoalError, Outcome};

/// What builds that were given up count as.
const CANCELLED: &str = "Cancelled";

/// What an engine has counted since it was started, for all of its clients.
#[derive(Debug)]
pub struct Figures {
    /// Builds that have ended, by where they took place and how they ended.
    builds: Mutex<BTreeMap<(BuildPlace, &'static str), u64>>,
    /// How long builds took, from having a place to the registration of their outputs.
    pub build_durations: Histogram,
    /// Paths that some substituter had when they were wanted.
    pub substituter_hits: Counter,
    /// Paths that none had.
    pub substituter_misses: Counter,
    /// Paths that were substituted.
    pub substituted_paths: Counter,
    /// Bytes of their archives.
    pub substituted_bytes: Counter,
    /// Bytes that were transferred for them.
    pub downloaded_bytes: Counter,
}

/// Where a build takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuildPlace {
    /// On this machine.
    Here,
    /// On another one, by the build hook.
    Elsewhere,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            builds: Mutex::default(),
            build_durations: Histogram::of_long(),
            substituter_hits: Counter::default(),
            substituter_misses: Counter::default(),
            substituted_paths: Counter::default(),
            substituted_bytes: Counter::default(),
            downloaded_bytes: Counter::default(),
        }
    }
}

impl Figures {
    /// How many builds have ended, by where they took place and the name of their status; those that were given up are
    /// `Cancelled`.
    pub fn builds(&self) -> BTreeMap<(BuildPlace, &'static str), u64> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a build, however it ends.
    pub(crate) async fn counted(
        &self,
        place: BuildPlace,
        build: impl Future<Output = Result<Outcome, GoalError>>,
    ) -> Result<Outcome, GoalError> {
        let mut ending = Ending { figures: self, place, begin: Instant::now(), status: CANCELLED };
        let result = build.await;
        ending.status = match &result {
            Ok(outcome) => outcome.result.status.name(),
            Err(error) => error.status().name(),
        };
        result
    }

    pub(crate) fn substituted(&self, fetched: &Fetched) {
        self.substituted_paths.increment();
        self.substituted_bytes.add(fetched.info.nar_size);
        self.downloaded_bytes.add(fetched.downloaded);
    }
}

/// A build that goes on. When it is dropped, it has ended.
struct Ending<'a> {
    figures: &'a Figures,
    place: BuildPlace,
    begin: Instant,
    status: &'static str,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut builds = self.figures.builds.lock().unwrap_or_else(PoisonError::into_inner);
        *builds.entry((self.place, self.status)).or_default() += 1;
        self.figures.build_durations.observe(self.begin.elapsed());
    }
}

/// How substituters fare, each of which several clients may ask with other settings: counts are added, and of their
/// conditions the worst counts.
pub(crate) fn merged(
    reports: impl IntoIterator<Item = (String, HealthReport)>,
) -> BTreeMap<String, HealthReport> {
    let severity = |condition: &Condition| match condition {
        Condition::Well => 0,
        Condition::Probed => 1,
        Condition::Resting(_) => 2,
    };
    let mut merged: BTreeMap<String, HealthReport> = BTreeMap::new();
    for (name, report) in reports {
        let Some(known) = merged.get_mut(&name) else {
            merged.insert(name, report);
            continue;
        };
        known.answers = known.answers.saturating_add(report.answers);
        known.failures = known.failures.saturating_add(report.failures);
        if severity(&report.condition) >= severity(&known.condition) {
            known.condition = report.condition;
            known.last_failure = report.last_failure.or(known.last_failure.take());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_events::{BuildResult, BuildStatus};
    use std::time::Duration;

    #[tokio::test]
    async fn builds_count_however_they_end() {
        let figures = Figures::default();
        let built = async { Ok(Outcome::success(BuildResult::new(BuildStatus::Built), BTreeMap::new())) };
        assert!(figures.counted(BuildPlace::Here, built).await.is_ok());
        let failed = async { Err(GoalError::Built(Box::new(BuildResult::new(BuildStatus::TimedOut)))) };
        assert!(figures.counted(BuildPlace::Elsewhere, failed).await.is_err());
        let mut given_up = Box::pin(figures.counted(BuildPlace::Here, std::future::pending()));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        let expected = [
            ((BuildPlace::Here, "Built"), 1),
            ((BuildPlace::Here, "Cancelled"), 1),
            ((BuildPlace::Elsewhere, "TimedOut"), 1),
        ];
        assert_eq!(figures.builds(), expected.into());
        assert_eq!(figures.build_durations.count(), 3);
    }

    #[test]
    fn of_one_substituter_the_worst_counts() {
        let report = |condition, answers, last: Option<&str>| HealthReport {
            condition,
            answers,
            failures: 1,
            last_failure: last.map(str::to_owned),
        };
        let resting = Condition::Resting(Duration::from_secs(7));
        let all = merged([
            ("a".to_owned(), report(Condition::Well, 2, None)),
            ("a".to_owned(), report(resting, 0, Some("refused"))),
            ("a".to_owned(), report(Condition::Probed, 1, Some("other"))),
            ("b".to_owned(), report(Condition::Well, 5, None)),
        ]);
        assert_eq!(all["a"], HealthReport { failures: 3, ..report(resting, 3, Some("refused")) });
        assert_eq!(all.len(), 2);
    }
}
