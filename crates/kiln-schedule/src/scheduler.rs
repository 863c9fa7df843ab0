//! Slots, and who gets them.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use crate::priority::Priority;

/// Names a job; chosen by whoever submits it, and unique while the job is known.
pub type JobId = u64;

/// What a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A build on this machine: one of `max-jobs` slots.
    Build,
    /// A build that must or prefers to be here (check, repair, `preferLocalBuild`): like [`JobKind::Build`], but one at
    /// a time may run even where `max-jobs` is 0.
    LocalBuild,
    /// A substitution. It waits for the network and not for the processor, so these have slots of their own.
    Substitution,
}

/// A job that is ready to run. `P` says where it stands among others.
#[derive(Clone, Debug)]
pub struct Job<P = Priority> {
    /// Its name.
    pub id: JobId,
    /// What it needs.
    pub kind: JobKind,
    /// Its place among others of its pool.
    pub priority: P,
}

/// How many jobs may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Builds on this machine (`max-jobs`).
    pub builds: usize,
    /// Substitutions (`max-substitution-jobs`); 0 counts as 1.
    pub substitutions: usize,
}

/// Hands out slots to jobs: to substitutions before builds, and among these in the order of their priorities `P`, the
/// least first. Of equal priorities the lesser id goes first.
///
/// No slot stays free while a job that may use it waits. Each call costs O(log n) in the number of waiting jobs for each
/// job that it is told of or starts, and answers with those that start now, in that order.
#[derive(Debug)]
pub struct Scheduler<P = Priority> {
    slots: Slots,
    jobs: BTreeMap<JobId, Entry<P>>,
    builds: Pool<P>,
    substitutions: Pool<P>,
}

#[derive(Debug)]
struct Entry<P> {
    kind: JobKind,
    priority: P,
    running: bool,
}

#[derive(Debug)]
struct Pool<P> {
    /// Those that may use any slot, and those that may go without one, apart: with `max-jobs = 0` only the latter move.
    waiting: BTreeSet<(P, JobId)>,
    waiting_local: BTreeSet<(P, JobId)>,
    running: usize,
}

impl<P> Pool<P> {
    const fn new() -> Self {
        Self { waiting: BTreeSet::new(), waiting_local: BTreeSet::new(), running: 0 }
    }
}

impl<P: Ord + Clone> Scheduler<P> {
    /// A scheduler with nothing to do.
    pub fn new(slots: Slots) -> Self {
        Self { slots, jobs: BTreeMap::new(), builds: Pool::new(), substitutions: Pool::new() }
    }

    /// Takes a job that is ready, and answers who starts now. A job whose id is known already is ignored.
    pub fn submit(&mut self, job: Job<P>) -> Vec<JobId> {
        self.submit_all([job])
    }

    /// Takes jobs that have become ready together, so that the first of them in the order, and not in the iteration, gets
    /// a slot that is free. Otherwise like [`Scheduler::submit`] for each.
    pub fn submit_all(&mut self, jobs: impl IntoIterator<Item = Job<P>>) -> Vec<JobId> {
        for Job { id, kind, priority } in jobs {
            if let btree_map::Entry::Vacant(vacant) = self.jobs.entry(id) {
                vacant.insert(Entry { kind, priority: priority.clone(), running: false });
                self.queue(kind).insert((priority, id));
            }
        }
        self.start()
    }

    /// Forgets a job that has ended, or that nobody wants any more, and answers who starts now.
    pub fn finish(&mut self, id: JobId) -> Vec<JobId> {
        let Some(entry) = self.jobs.remove(&id) else { return Vec::new() };
        match (entry.running, entry.kind) {
            (true, JobKind::Build | JobKind::LocalBuild) => self.builds.running -= 1,
            (true, JobKind::Substitution) => self.substitutions.running -= 1,
            (false, kind) => {
                self.queue(kind).remove(&(entry.priority, id));
            }
        }
        self.start()
    }

    /// Jobs that hold a slot.
    pub fn running(&self) -> usize {
        self.builds.running + self.substitutions.running
    }

    /// Jobs that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.running()
    }

    /// Whether builds wait which no event of this scheduler can ever start: `max-jobs` is 0 and nothing runs.
    pub fn is_stuck(&self) -> bool {
        self.running() == 0 && !self.jobs.is_empty()
    }

    /// Where jobs of this kind wait.
    fn queue(&mut self, kind: JobKind) -> &mut BTreeSet<(P, JobId)> {
        match kind {
            JobKind::Build => &mut self.builds.waiting,
            JobKind::LocalBuild => &mut self.builds.waiting_local,
            JobKind::Substitution => &mut self.substitutions.waiting,
        }
    }

    fn start(&mut self) -> Vec<JobId> {
        let mut started = Vec::new();
        while self.substitutions.running < self.slots.substitutions.max(1) {
            let Some((_, id)) = self.substitutions.waiting.pop_first() else { break };
            self.substitutions.running += 1;
            started.push(id);
        }
        while let Some(id) = self.next_build() {
            self.builds.running += 1;
            started.push(id);
        }
        for id in &started {
            if let Some(entry) = self.jobs.get_mut(id) {
                entry.running = true;
            }
        }
        started
    }

    /// The build to start next, taken from its queue.
    fn next_build(&mut self) -> Option<JobId> {
        let pool = &mut self.builds;
        if pool.running < self.slots.builds {
            let local_is_first = match (pool.waiting.first(), pool.waiting_local.first()) {
                (Some(any), Some(local)) => local < any,
                (any, _) => any.is_none(),
            };
            let queue = if local_is_first { &mut pool.waiting_local } else { &mut pool.waiting };
            queue.pop_first().map(|(_, id)| id)
        } else if self.slots.builds == 0 && pool.running == 0 {
            pool.waiting_local.pop_first().map(|(_, id)| id)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slots(builds: usize, substitutions: usize) -> Slots {
        Slots { builds, substitutions }
    }

    fn job(id: JobId, kind: JobKind, name: &str) -> Job {
        Job { id, kind, priority: Priority::plain(name, name) }
    }

    #[test]
    fn s4_at_most_max_jobs_run_at_once() {
        let mut scheduler = Scheduler::new(slots(2, 16));
        assert_eq!(scheduler.submit(job(1, JobKind::Build, "a")), [1]);
        assert_eq!(scheduler.submit(job(2, JobKind::Build, "b")), [2]);
        assert!(scheduler.submit(job(3, JobKind::Build, "c")).is_empty());
        assert_eq!((scheduler.running(), scheduler.waiting()), (2, 1));
        assert_eq!(scheduler.finish(1), [3]);
    }

    #[test]
    fn s4_substitutions_have_slots_of_their_own() {
        let mut scheduler = Scheduler::new(slots(1, 2));
        assert_eq!(scheduler.submit(job(1, JobKind::Build, "a")), [1]);
        assert_eq!(scheduler.submit(job(2, JobKind::Substitution, "b")), [2]);
        assert_eq!(scheduler.submit(job(3, JobKind::Substitution, "c")), [3]);
        assert!(scheduler.submit(job(4, JobKind::Substitution, "d")).is_empty());
        assert_eq!(scheduler.finish(2), [4]);
        let mut none = Scheduler::new(slots(0, 0));
        assert_eq!(none.submit(job(1, JobKind::Substitution, "a")), [1], "0 counts as 1");
    }

    #[test]
    fn s4_one_local_build_runs_even_without_slots() {
        let mut scheduler = Scheduler::new(slots(0, 1));
        assert_eq!(scheduler.submit(job(1, JobKind::LocalBuild, "a")), [1]);
        assert!(scheduler.submit(job(2, JobKind::LocalBuild, "b")).is_empty());
        assert!(scheduler.submit(job(3, JobKind::Build, "c")).is_empty());
        assert_eq!(scheduler.finish(1), [2]);
        assert!(scheduler.finish(2).is_empty());
        assert!(scheduler.is_stuck(), "S11: only a build without a slot is left");
    }

    #[test]
    fn s3_ready_jobs_start_in_the_order_of_name_and_path() {
        let mut scheduler = Scheduler::new(slots(1, 1));
        scheduler.submit(job(0, JobKind::Build, "first"));
        for (id, name, path) in [(1, "b", "1"), (2, "a", "2"), (3, "a", "1"), (4, "c", "0")] {
            scheduler.submit(Job { id, kind: JobKind::Build, priority: Priority::plain(name, path) });
        }
        let mut order = Vec::new();
        let mut started = scheduler.finish(0);
        while let Some(id) = started.pop() {
            order.push(id);
            started = scheduler.finish(id);
        }
        assert_eq!(order, [3, 2, 1, 4]);
    }

    #[test]
    fn s3_of_jobs_that_are_ready_together_the_first_starts() {
        let mut scheduler = Scheduler::new(slots(1, 1));
        let jobs = [(1, JobKind::Build, "b"), (2, JobKind::Build, "a"), (3, JobKind::Substitution, "c")];
        assert_eq!(scheduler.submit_all(jobs.map(|(id, kind, name)| job(id, kind, name))), [3, 2]);
        assert!(scheduler.submit(job(2, JobKind::Build, "again")).is_empty(), "it is known");
        assert_eq!(scheduler.finish(2), [1]);
    }

    #[test]
    fn s5_what_nobody_wants_any_more_frees_its_place() {
        let mut scheduler = Scheduler::new(slots(1, 1));
        scheduler.submit(job(1, JobKind::Build, "a"));
        scheduler.submit(job(2, JobKind::Build, "b"));
        scheduler.submit(job(3, JobKind::Build, "c"));
        assert!(scheduler.finish(2).is_empty(), "it was only waiting");
        assert_eq!(scheduler.finish(1), [3]);
        assert!(scheduler.finish(99).is_empty());
    }

    proptest! {
        #[test]
        fn never_more_than_the_slots_and_nobody_is_forgotten(
            builds in 0_usize..4,
            substitutions in 0_usize..4,
            kinds in proptest::collection::vec(0_usize..3, 1..60),
        ) {
            let mut scheduler = Scheduler::new(slots(builds, substitutions));
            let mut running = Vec::new();
            for (id, kind) in kinds.iter().enumerate() {
                let kind = [JobKind::Build, JobKind::LocalBuild, JobKind::Substitution][*kind];
                running.extend(scheduler.submit(job(id as JobId, kind, &format!("{}", id % 5))));
                prop_assert_eq!(running.len(), scheduler.running());
                prop_assert!(scheduler.running() <= builds.max(1) + substitutions.max(1));
            }
            let mut ended = 0;
            while let Some(id) = running.pop() {
                ended += 1;
                running.extend(scheduler.finish(id));
            }
            let without_a_slot = if builds == 0 { kinds.iter().filter(|kind| **kind == 0).count() } else { 0 };
            prop_assert_eq!(ended, kinds.len() - without_a_slot);
            prop_assert_eq!(scheduler.is_stuck(), without_a_slot > 0);
        }
    }
}
