//! Counts of what is expected, running, done and failed, told to whoever shows progress (S10).

use std::sync::{Arc, Mutex, PoisonError};

use kiln_events::{
    Activity, ActivityGuard, ActivityId, ActivityResult, ActivityType, EventSender, Verbosity,
};

/// The counters of a request, and the activities that they are reported on.
#[derive(Debug)]
pub(crate) struct Counters {
    counts: Mutex<Counts>,
    realise: ActivityGuard,
    builds: ActivityGuard,
    substitutions: ActivityGuard,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    builds: Kind,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    expected: u64,
    running: u64,
    done: u64,
    failed: u64,
}

/// A build that is expected, and from [`ExpectedBuild::start`] on runs.
#[derive(Debug)]
pub(crate) struct ExpectedBuild {
    counters: Arc<Counters>,
    running: bool,
}

impl Counters {
    pub(crate) fn new(events: &EventSender) -> Arc<Self> {
        let start = |activity| events.start(ActivityId::NONE, Verbosity::Error, activity);
        Arc::new(Self {
            counts: Mutex::default(),
            realise: start(Activity::Realise),
            builds: start(Activity::Builds),
            substitutions: start(Activity::CopyPaths),
        })
    }

    /// Counts a build among the expected ones for as long as the answer lives, or until it is counted as ended.
    pub(crate) fn expect_build(self: &Arc<Self>) -> ExpectedBuild {
        self.change(|counts| counts.builds.expected += 1);
        ExpectedBuild { counters: Arc::clone(self), running: false }
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let counts = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut counts);
            *counts
        };
        let Kind { expected, running, done, failed } = counts.builds;
        self.builds.progress(done, expected + done, running, failed);
        self.substitutions.progress(0, 0, 0, 0);
        for activity_type in [ActivityType::FILE_TRANSFER, ActivityType::COPY_PATH] {
            self.realise.result(ActivityResult::SetExpected { activity_type, expected: 0 });
        }
    }
}

impl ExpectedBuild {
    /// The build begins.
    pub(crate) fn start(&mut self) {
        self.running = true;
        self.counters.change(|counts| counts.builds.running += 1);
    }

    /// The build has ended. What only lacked a dependency is dropped instead, and counts as neither.
    pub(crate) fn end(self, success: bool) {
        self.counters.change(|counts| {
            if success {
                counts.builds.done += 1;
            } else {
                counts.builds.failed += 1;
            }
        });
    }
}

impl Drop for ExpectedBuild {
    fn drop(&mut self) {
        let running = u64::from(self.running);
        self.counters.change(|counts| {
            counts.builds.expected -= 1;
            counts.builds.running -= running;
        });
    }
}
