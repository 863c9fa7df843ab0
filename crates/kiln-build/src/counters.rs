//! Counts of what is expected, running, done and failed, told to whoever shows progress (S10, G7).

use std::sync::{Mutex, PoisonError};

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

/// What is counted of a goal while it is expected to do something, and does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    kind: WorkKind,
    runs: bool,
    /// Bytes, as the substituter states them.
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkKind {
    Build,
    Substitution,
}

/// Bytes of what is substituted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Those that come from elsewhere.
    pub(crate) download: u64,
    /// Those of the archive.
    pub(crate) nar: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    builds: Number,
    substitutions: Number,
    expected: Size,
    done: Size,
}

#[derive(Clone, Copy, Debug, Default)]
struct Number {
    expected: u64,
    running: u64,
    done: u64,
    failed: u64,
}

impl Work {
    /// A build that waits for its turn.
    pub(crate) const BUILD: Self = Self::new(WorkKind::Build, Size { download: 0, nar: 0 });

    /// A substitution that waits for its turn.
    pub(crate) const fn substitution(size: Size) -> Self {
        Self::new(WorkKind::Substitution, size)
    }

    /// The same when it runs, or does not.
    pub(crate) const fn running(self, runs: bool) -> Self {
        Self { runs, ..self }
    }

    const fn new(kind: WorkKind, size: Size) -> Self {
        Self { kind, runs: false, size }
    }
}

impl Counters {
    pub(crate) fn new(events: &EventSender) -> Self {
        let start = |activity| events.start(ActivityId::NONE, Verbosity::Error, activity);
        Self {
            counts: Mutex::default(),
            realise: start(Activity::Realise),
            builds: start(Activity::Builds),
            substitutions: start(Activity::CopyPaths),
        }
    }

    /// A goal's work is now this, and was something else, or nothing, before.
    pub(crate) fn change(&self, before: Option<&Work>, now: Option<&Work>) {
        self.update(|counts| {
            before.into_iter().for_each(|work| counts.remove(work));
            now.into_iter().for_each(|work| counts.add(work));
        });
    }

    /// A goal's work, which was this before, has ended.
    pub(crate) fn end(&self, work: &Work, success: bool) {
        self.update(|counts| {
            counts.remove(work);
            let number = counts.number(work.kind);
            if success {
                number.done += 1;
                counts.done = counts.done.and(work.size);
            } else {
                number.failed += 1;
            }
        });
    }

    fn update(&self, update: impl FnOnce(&mut Counts)) {
        let counts = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            update(&mut counts);
            *counts
        };
        for (activity, number) in [(&self.builds, counts.builds), (&self.substitutions, counts.substitutions)]
        {
            let Number { expected, running, done, failed } = number;
            activity.progress(done, expected + done, running, failed);
        }
        let Size { download, nar } = counts.expected.and(counts.done);
        for (activity_type, expected) in
            [(ActivityType::FILE_TRANSFER, download), (ActivityType::COPY_PATH, nar)]
        {
            self.realise.result(ActivityResult::SetExpected { activity_type, expected });
        }
    }
}

impl Counts {
    fn add(&mut self, work: &Work) {
        let number = self.number(work.kind);
        number.expected += 1;
        number.running += u64::from(work.runs);
        self.expected = self.expected.and(work.size);
    }

    /// What was added before.
    fn remove(&mut self, work: &Work) {
        let number = self.number(work.kind);
        number.expected = number.expected.saturating_sub(1);
        number.running = number.running.saturating_sub(u64::from(work.runs));
        self.expected = self.expected.without(work.size);
    }

    fn number(&mut self, kind: WorkKind) -> &mut Number {
        match kind {
            WorkKind::Build => &mut self.builds,
            WorkKind::Substitution => &mut self.substitutions,
        }
    }
}

/// What substituters state is theirs to make up, so that it may be anything.
impl Size {
    fn and(self, other: Self) -> Self {
        let Self { download, nar } = other;
        Self { download: self.download.saturating_add(download), nar: self.nar.saturating_add(nar) }
    }

    fn without(self, other: Self) -> Self {
        let Self { download, nar } = other;
        Self { download: self.download.saturating_sub(download), nar: self.nar.saturating_sub(nar) }
    }
}
