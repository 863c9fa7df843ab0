//! Slots, and who gets them.

use std::collections::{BTreeMap, BTreeSet};

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

/// A job that is ready to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What it needs.
    pub kind: JobKind,
    /// Its place among others of its pool.
    pub priority: Priority,
}

/// How many jobs may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Builds on this machine (`max-jobs`).
    pub builds: usize,
    /// Substitutions (`max-substitution-jobs`); 0 counts as 1.
    pub substitutions: usize,
}

/// Hands out slots to jobs, in the order of their priorities.
///
/// Each call costs O(log n) in the number of waiting jobs, and answers with the jobs that may start now.
#[derive(Debug)]
pub struct Scheduler {
    slots: Slots,
    jobs: BTreeMap<JobId, Entry>,
    builds: Pool,
    substitutions: Pool,
}

#[derive(Debug)]
struct Entry {
    kind: JobKind,
    priority: Priority,
    running: bool,
}

#[derive(Debug, Default)]
struct Pool {
    /// Those that may use any slot, and those that may go without one, apart: with `max-jobs = 0` only the latter move.
    waiting: BTreeSet<(Priority, JobId)>,
    waiting_local: BTreeSet<(Priority, JobId)>,
    running: usize,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    pub fn new(slots: Slots) -> Self {
        Self { slots, jobs: BTreeMap::new(), builds: Pool::default(), substitutions: Pool::default() }
    }

    /// Takes a job that is ready, and answers who starts now. A job whose id is known already is ignored.
    pub fn submit(&mut self, job: Job) -> Vec<JobId> {
        if self.jobs.contains_key(&job.id) {
            return Vec::new();
        }
        let waiting = (job.priority.clone(), job.id);
        match job.kind {
            JobKind::Build => self.builds.waiting.insert(waiting),
            JobKind::LocalBuild => self.builds.waiting_local.insert(waiting),
            JobKind::Substitution => self.substitutions.waiting.insert(waiting),
        };
        self.jobs.insert(job.id, Entry { kind: job.kind, priority: job.priority, running: false });
        self.start()
    }

    /// Forgets a job that has ended, or that nobody wants any more, and answers who starts now.
    pub fn finish(&mut self, id: JobId) -> Vec<JobId> {
        let Some(entry) = self.jobs.remove(&id) else { return Vec::new() };
        let pool = match entry.kind {
            JobKind::Build | JobKind::LocalBuild => &mut self.builds,
            JobKind::Substitution => &mut self.substitutions,
        };
        if entry.running {
            pool.running -= 1;
        } else if entry.kind == JobKind::LocalBuild {
            pool.waiting_local.remove(&(entry.priority, id));
        } else {
            pool.waiting.remove(&(entry.priority, id));
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
    fn s5_what_nobody_wants_any_more_frees_its_place() {
        let mut scheduler = Scheduler::new(slots(1, 1));
        scheduler.submit(job(1, JobKind::Build, "a"));
        scheduler.submit(job(2, JobKind::Build, "b"));
        scheduler.submit(job(3, JobKind::Build, "c"));
        assert!(scheduler.finish(2).is_empty(), "it was only waiting");
        assert_eq!(scheduler.finish(1), [3]);
        assert!(scheduler.finish(99).is_empty());
    }

    /// A random graph of 100,000 goals runs to its end in virtual time; every slot is used while there is work.
    #[test]
    fn s14_a_hundred_thousand_goals() {
        const GOALS: usize = 100_000;
        let mut waits_for: Vec<usize> = vec![0; GOALS];
        let mut waited_by: Vec<Vec<usize>> = vec![Vec::new(); GOALS];
        let mut random = 1_u64;
        for (goal, waits) in waits_for.iter_mut().enumerate().skip(1) {
            for _ in 0..3 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                waited_by[(random >> 33) as usize % goal].push(goal);
                *waits += 1;
            }
        }
        let mut scheduler = Scheduler::new(slots(8, 1));
        let mut running: BTreeSet<(u64, JobId)> = BTreeSet::new();
        let (mut now, mut finished, mut steps) = (0_u64, 0_usize, 0_usize);
        let mut started = scheduler.submit(job(0, JobKind::Build, "0"));
        loop {
            running.extend(started.drain(..).map(|id| (now + 1 + id % 7, id)));
            assert!(running.len() <= 8);
            assert!(running.len() == 8 || scheduler.waiting() == 0, "a slot is free while a job waits");
            let Some((at, id)) = running.pop_first() else { break };
            (now, finished) = (at, finished + 1);
            started = scheduler.finish(id);
            for &goal in &waited_by[id as usize] {
                steps += 1;
                waits_for[goal] -= 1;
                if waits_for[goal] == 0 {
                    started.extend(scheduler.submit(job(
                        goal as JobId,
                        JobKind::Build,
                        &format!("{}", goal % 100),
                    )));
                }
            }
        }
        assert_eq!((finished, steps), (GOALS, 3 * (GOALS - 1)));
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
