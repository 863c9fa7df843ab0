//! Slots, and who gets them.

use std::collections::{BTreeMap, btree_map};

use crate::client::{Client, ClientId, UserId};
use crate::pool::Pool;
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
    /// Builds on this machine (`max-jobs`); more, while clients are there that may have more.
    pub builds: usize,
    /// Substitutions (`max-substitution-jobs`); 0 counts as 1.
    pub substitutions: usize,
}

/// Hands out slots to jobs: to substitutions before builds. Among these, the user for whom the fewest run goes first; among
/// the jobs of such users, those with the least priority `P`, and of these the one with the least id.
///
/// No slot stays free while a job that may use it waits. Each call costs O(c log n), c being the number of clients that have
/// jobs and n that of waiting jobs, for each job that it is told of or starts, and answers with those that start now, in that
/// order.
#[derive(Debug)]
pub struct Scheduler<P = Priority> {
    slots: Slots,
    clients: BTreeMap<ClientId, Client>,
    jobs: BTreeMap<JobId, Entry<P>>,
    builds: Pool<P>,
    substitutions: Pool<P>,
}

/// How the slots of one sort are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotUse {
    /// Slots that a job has.
    pub used: usize,
    /// Slots that there are.
    pub total: usize,
    /// Jobs that wait for one.
    pub waiting: usize,
}

/// A job that waits for a slot.
#[derive(Clone, Copy, Debug)]
pub struct WaitingJob<'a, P> {
    /// Its name.
    pub id: JobId,
    /// What it needs.
    pub kind: JobKind,
    /// Its place among others.
    pub priority: &'a P,
    /// Whom it is for; nobody in particular if its client has gone.
    pub user: UserId,
}

#[derive(Debug)]
struct Entry<P> {
    kind: JobKind,
    priority: P,
    client: ClientId,
    running: bool,
}

impl<P: Ord + Clone> Scheduler<P> {
    /// A scheduler with nothing to do.
    pub fn new(slots: Slots) -> Self {
        Self {
            slots,
            clients: BTreeMap::new(),
            jobs: BTreeMap::new(),
            builds: Pool::new(),
            substitutions: Pool::new(),
        }
    }

    /// Takes note of a client and of what it may have, or that it may have something else now. As long as it is here, there
    /// are at least as many slots for builds as it may have. Answers who starts now.
    ///
    /// A client must not change its user.
    pub fn set_client(&mut self, id: ClientId, client: Client) -> Vec<JobId> {
        self.clients.insert(id, client);
        self.start()
    }

    /// A client has gone. What was submitted for it and others want, too, goes on, now without a limit of its own.
    pub fn remove_client(&mut self, id: ClientId) -> Vec<JobId> {
        self.clients.remove(&id);
        self.start()
    }

    /// Takes a job of the scheduler's owner that is ready, and answers who starts now. A job whose id is known already is
    /// ignored.
    pub fn submit(&mut self, job: Job<P>) -> Vec<JobId> {
        self.submit_all([job])
    }

    /// Takes jobs of the scheduler's owner that have become ready together, so that the first of them in the order, and not
    /// in the iteration, gets a slot that is free. Otherwise like [`Scheduler::submit`] for each.
    pub fn submit_all(&mut self, jobs: impl IntoIterator<Item = Job<P>>) -> Vec<JobId> {
        self.submit_all_for(jobs.into_iter().map(|job| (ClientId::default(), job)))
    }

    /// Like [`Scheduler::submit`], for a client.
    pub fn submit_for(&mut self, client: ClientId, job: Job<P>) -> Vec<JobId> {
        self.submit_all_for([(client, job)])
    }

    /// Like [`Scheduler::submit_all`], each for a client.
    pub fn submit_all_for(&mut self, jobs: impl IntoIterator<Item = (ClientId, Job<P>)>) -> Vec<JobId> {
        for (client, Job { id, kind, priority }) in jobs {
            let user = self.clients.get(&client).map_or(UserId::default(), |client| client.user);
            if let btree_map::Entry::Vacant(vacant) = self.jobs.entry(id) {
                vacant.insert(Entry { kind, priority: priority.clone(), client, running: false });
                self.pool(kind).wait((client, user), kind == JobKind::LocalBuild, (priority, id));
            }
        }
        self.start()
    }

    /// Gives a job that waits another place among the others. One that runs, or is not known, is left alone.
    pub fn reprioritise(&mut self, id: JobId, priority: P) {
        let Some(entry) = self.jobs.get_mut(&id).filter(|entry| !entry.running) else { return };
        let old = std::mem::replace(&mut entry.priority, priority.clone());
        let (client, kind) = (entry.client, entry.kind);
        let user = self.clients.get(&client).map_or(UserId::default(), |client| client.user);
        let pool = self.pool(kind);
        pool.leave(client, &(old, id));
        pool.wait((client, user), kind == JobKind::LocalBuild, (priority, id));
    }

    /// Forgets a job that has ended, or that nobody wants any more, and answers who starts now.
    pub fn finish(&mut self, id: JobId) -> Vec<JobId> {
        let Some(entry) = self.jobs.remove(&id) else { return Vec::new() };
        let pool = self.pool(entry.kind);
        if entry.running {
            pool.end(entry.client)
        } else {
            pool.leave(entry.client, &(entry.priority, id))
        }
        self.start()
    }

    /// Jobs that hold a slot.
    pub fn running(&self) -> usize {
        self.builds.running() + self.substitutions.running()
    }

    /// Jobs that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.running()
    }

    /// How the slots are used that jobs of this kind need.
    pub fn slot_use(&self, kind: JobKind) -> SlotUse {
        let is_build = kind != JobKind::Substitution;
        let waiting = self.jobs.values().filter(|job| !job.running);
        let waiting = waiting.filter(|job| (job.kind != JobKind::Substitution) == is_build).count();
        if is_build {
            SlotUse { used: self.builds.running(), total: self.slots_for_builds(), waiting }
        } else {
            SlotUse { used: self.substitutions.running(), total: self.slots.substitutions.max(1), waiting }
        }
    }

    /// Jobs that wait for a slot, by their names.
    pub fn waiting_jobs(&self) -> impl Iterator<Item = WaitingJob<'_, P>> {
        self.jobs.iter().filter(|(_, job)| !job.running).map(|(id, job)| {
            let user = self.clients.get(&job.client).map_or(UserId::default(), |client| client.user);
            WaitingJob { id: *id, kind: job.kind, priority: &job.priority, user }
        })
    }

    /// Whether builds wait which no event of this scheduler can ever start: `max-jobs` is 0 and nothing runs.
    pub fn is_stuck(&self) -> bool {
        self.running() == 0 && !self.jobs.is_empty()
    }

    fn pool(&mut self, kind: JobKind) -> &mut Pool<P> {
        match kind {
            JobKind::Build | JobKind::LocalBuild => &mut self.builds,
            JobKind::Substitution => &mut self.substitutions,
        }
    }

    fn slots_for_builds(&self) -> usize {
        let wanted = self.clients.values().map(|client| client.builds).max().unwrap_or(0);
        self.slots.builds.max(wanted)
    }

    fn start(&mut self) -> Vec<JobId> {
        let mut started = Vec::new();
        let no_limits = BTreeMap::new();
        let substitutions = self.slots.substitutions.max(1);
        while let Some(id) = self.substitutions.start(substitutions, &no_limits) {
            started.push(id);
        }
        let builds = self.slots_for_builds();
        while let Some(id) = self.builds.start(builds, &self.clients) {
            started.push(id);
        }
        for id in &started {
            if let Some(entry) = self.jobs.get_mut(id) {
                entry.running = true;
            }
        }
        started
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
    fn s3_what_has_become_urgent_goes_first() {
        let mut scheduler = Scheduler::new(slots(1, 1));
        for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
            scheduler.submit(job(id, JobKind::Build, name));
        }
        let urgency = crate::Urgency { dependents: 1, ..crate::Urgency::default() };
        for (id, name) in [(1, "a"), (3, "c"), (99, "d")] {
            scheduler.reprioritise(id, Priority::plain(name, name).with_urgency(urgency));
        }
        assert_eq!((scheduler.running(), scheduler.waiting()), (1, 2));
        assert_eq!(scheduler.finish(1), [3]);
        assert_eq!(scheduler.finish(3), [2]);
        assert!(scheduler.finish(2).is_empty());
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
