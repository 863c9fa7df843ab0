//! Counting what all activities of a type have done together.

use std::collections::HashMap;

use kiln_events::ActivityType;

/// How far all activities of one type are, in the unit of that type (builds, paths, bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Finished.
    pub done: u64,
    /// Wanted in all; at least what is finished.
    pub expected: u64,
    /// Under way.
    pub running: u64,
    /// Failed.
    pub failed: u64,
}

impl Totals {
    /// What has not begun.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.expected.saturating_sub(self.done).saturating_sub(self.running).saturating_sub(self.failed)
    }
}

/// One type's sums. Wide integers, since a peer's numbers may be as large as they like.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of activities that run.
    running: [u128; 4],
    /// Done and failed by activities that have stopped.
    stopped_done: u128,
    stopped_failed: u128,
    /// What others said is to be expected.
    announced: u128,
}

/// The sums of all types, kept up to date at constant cost per event.
#[derive(Clone, Debug, Default)]
pub(crate) struct TotalsByType {
    sums: HashMap<ActivityType, Sums>,
}

/// What one activity last said of itself: done, expected, running, failed.
pub(crate) type Progress = [u64; 4];

impl TotalsByType {
    pub(crate) fn get(&self, activity_type: ActivityType) -> Totals {
        let Some(sums) = self.sums.get(&activity_type) else { return Totals::default() };
        let [done, expected, running, failed] = sums.running;
        let narrow = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let finished = done + sums.stopped_done;
        Totals {
            done: narrow(finished),
            expected: narrow((expected + sums.stopped_done).max(sums.announced).max(finished)),
            running: narrow(running),
            failed: narrow(failed + sums.stopped_failed),
        }
    }

    /// An activity said something new of itself.
    pub(crate) fn update(&mut self, activity_type: ActivityType, old: Progress, new: Progress) {
        if !is_counted(activity_type) {
            return;
        }
        let sums = self.sums.entry(activity_type).or_default();
        for ((sum, old), new) in sums.running.iter_mut().zip(old).zip(new) {
            *sum = sum.saturating_sub(u128::from(old)).saturating_add(u128::from(new));
        }
    }

    /// An activity stopped: what it has done stays.
    pub(crate) fn stop(&mut self, activity_type: ActivityType, last: Progress) {
        if !is_counted(activity_type) {
            return;
        }
        self.update(activity_type, last, Progress::default());
        let [done, _, _, failed] = last;
        let sums = self.sums.entry(activity_type).or_default();
        sums.stopped_done += u128::from(done);
        sums.stopped_failed += u128::from(failed);
    }

    /// Some activity changed what is to be expected of a type.
    pub(crate) fn announce(&mut self, activity_type: ActivityType, old: u64, new: u64) {
        let sums = self.sums.entry(activity_type).or_default();
        sums.announced = sums.announced.saturating_sub(u128::from(old)).saturating_add(u128::from(new));
    }
}

/// Whether a type is worth counting: a peer may name as many as there are numbers.
pub(crate) fn is_counted(activity_type: ActivityType) -> bool {
    (ActivityType::COPY_PATH.0..=ActivityType::FETCH_TREE.0).contains(&activity_type.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: ActivityType = ActivityType::FILE_TRANSFER;

    #[test]
    fn what_stopped_stays_done() {
        let mut totals = TotalsByType::default();
        totals.announce(BYTES, 0, 100);
        totals.update(BYTES, [0; 4], [10, 40, 1, 0]);
        assert_eq!(totals.get(BYTES), Totals { done: 10, expected: 100, running: 1, failed: 0 });
        totals.update(BYTES, [10, 40, 1, 0], [40, 40, 0, 1]);
        totals.stop(BYTES, [40, 40, 0, 1]);
        totals.announce(BYTES, 100, 0);
        assert_eq!(totals.get(BYTES), Totals { done: 40, expected: 40, running: 0, failed: 1 });
    }

    #[test]
    fn huge_numbers_do_no_harm() {
        let mut totals = TotalsByType::default();
        for _ in 0..3 {
            totals.update(BYTES, [0; 4], [u64::MAX; 4]);
            totals.stop(BYTES, [u64::MAX; 4]);
            totals.announce(BYTES, 0, u64::MAX);
        }
        let sums = totals.get(BYTES);
        assert_eq!((sums.done, sums.expected, sums.running), (u64::MAX, u64::MAX, 0));
        assert_eq!(sums.waiting(), 0);
    }
}
