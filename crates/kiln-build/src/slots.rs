//! Waiting for a slot: the scheduler's step function behind an `await`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_schedule::{Client, ClientId, Job, JobId, JobKind, Priority, Scheduler, Slots, Urgency};
use kiln_store_path::StorePath;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::discovery::Discovering;
use crate::occupancy::{Occupancy, WaitingJob};

/// Longest time for which a slot is kept for what is about to be ready.
const HAND_OVER: Duration = Duration::from_millis(20);

/// All slots of an engine.
#[derive(Debug)]
pub(crate) struct SlotPool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    next_id: JobId,
    next_client: u64,
    waiting: HashMap<JobId, Waiting>,
    /// Of those who wait, by the paths of their priorities.
    by_path: HashMap<Arc<str>, JobId>,
    /// Those who wait for others that are about to come.
    lined_up: BTreeMap<JobId, (ClientId, Job)>,
    /// Slots of jobs that have ended, which are kept for a moment for those that come now.
    handed_over: Vec<(JobId, Vec<StorePath>)>,
}

/// Somebody who waits.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    priority: Priority,
    started: oneshot::Sender<()>,
}

/// A slot, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pool: Arc<SlotPool>,
    id: JobId,
}

impl SlotPool {
    pub(crate) fn new(slots: Slots) -> Arc<Self> {
        let state = State {
            scheduler: Scheduler::new(slots),
            next_id: 0,
            next_client: 1,
            waiting: HashMap::new(),
            by_path: HashMap::new(),
            lined_up: BTreeMap::new(),
            handed_over: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Takes note of a client, until the answer is dropped.
    pub(crate) fn client(self: &Arc<Self>, client: Client) -> Arc<SlotsOfClient> {
        let id = self.with(|state| {
            let id = ClientId(state.next_client);
            state.next_client += 1;
            let started = state.scheduler.set_client(id, client);
            state.wake(&started);
            id
        });
        Arc::new(SlotsOfClient { pool: Arc::clone(self), id })
    }

    /// The slots as the engine's owner has them, without a limit of its own.
    pub(crate) fn owner(self: &Arc<Self>) -> Arc<SlotsOfClient> {
        Arc::new(SlotsOfClient { pool: Arc::clone(self), id: ClientId::default() })
    }

    /// Takes a job; one that has a deadline waits until then for others, or until [`Self::admit`].
    fn submit(
        self: &Arc<Self>,
        client: ClientId,
        kind: JobKind,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> (Slot, oneshot::Receiver<()>) {
        let (sender, started) = oneshot::channel();
        let (slot, is_first) = self.with(|state| {
            let id = state.next_id;
            state.next_id += 1;
            let waiting = Waiting { since: Instant::now(), priority: priority.clone(), started: sender };
            let path = Arc::clone(&priority.path);
            state.by_path.insert(Arc::clone(&path), id);
            state.waiting.insert(id, waiting);
            let job = Job { id, kind, priority };
            if deadline.is_some() {
                state.lined_up.insert(id, (client, job));
            } else {
                let started = state.scheduler.submit_for(client, job);
                state.wake(&started);
            }
            state.end_hand_over(|_, to| to.iter().any(|to| to.base_name() == &*path));
            (Slot { pool: Arc::clone(self), id }, state.lined_up.len() == 1)
        });
        if let Some(deadline) = deadline.filter(|_| is_first) {
            let pool = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep_until(deadline).await;
                if let Some(pool) = pool.upgrade() {
                    pool.admit();
                }
            });
        }
        (slot, started)
    }

    /// Those who have lined up need not wait for others any more.
    pub(crate) fn admit(&self) {
        self.with(|state| {
            let jobs = std::mem::take(&mut state.lined_up).into_values();
            let started = state.scheduler.submit_all_for(jobs);
            state.wake(&started);
        });
    }

    /// Takes note of how urgent the builds of these derivations are now, as far as they wait for a slot.
    pub(crate) fn reprioritise(&self, urgencies: impl IntoIterator<Item = (StorePath, Urgency)>) {
        self.with(|state| {
            for (path, urgency) in urgencies {
                let Some(id) = state.by_path.get(path.base_name()) else { continue };
                let Some(waiting) = state.waiting.get(id) else { continue };
                let priority = waiting.priority.clone().with_urgency(urgency);
                match state.lined_up.get_mut(id) {
                    Some((_, job)) => job.priority = priority,
                    None => state.scheduler.reprioritise(*id, priority),
                }
            }
        });
    }

    /// How the slots are used now, with at most so many of the jobs that wait.
    pub(crate) fn occupancy(&self, most_waiting: usize) -> Occupancy {
        self.with(|state| {
            let now = Instant::now();
            let waiting = state.scheduler.waiting_jobs().take(most_waiting).map(|job| WaitingJob {
                path: job.priority.path.to_string(),
                is_build: job.kind != JobKind::Substitution,
                user: job.user,
                waited: state.waiting.get(&job.id).map_or(Duration::ZERO, |waiting| now - waiting.since),
            });
            let waiting = waiting.collect();
            let [builds, substitutions] =
                [JobKind::Build, JobKind::Substitution].map(|kind| state.scheduler.slot_use(kind));
            Occupancy { builds, substitutions, waiting }
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The slots as one client has them.
#[derive(Debug)]
pub(crate) struct SlotsOfClient {
    pool: Arc<SlotPool>,
    id: ClientId,
}

impl SlotsOfClient {
    /// Waits for a slot. Dropping the future gives up the place in the queue.
    pub(crate) async fn acquire(&self, kind: JobKind, priority: Priority) -> Slot {
        self.line_up(kind, priority, None).await
    }

    /// Waits for a slot, and before that for those who are being looked at together with this one.
    pub(crate) async fn line_up(
        &self,
        kind: JobKind,
        priority: Priority,
        discovering: Option<Discovering>,
    ) -> Slot {
        let deadline = discovering.as_ref().map(Discovering::deadline);
        let (slot, started) = self.pool.submit(self.id, kind, priority, deadline);
        drop(discovering);
        // The sender is kept until it is used, so that this does not fail.
        let _ = started.await;
        slot
    }

    /// Takes a slot, if one is free now.
    pub(crate) fn try_acquire(&self, kind: JobKind, priority: Priority) -> Option<Slot> {
        let (slot, mut started) = self.pool.submit(self.id, kind, priority, None);
        started.try_recv().is_ok().then_some(slot)
    }
}

impl Drop for SlotsOfClient {
    fn drop(&mut self) {
        if self.id == ClientId::default() {
            return;
        }
        self.pool.with(|state| {
            let started = state.scheduler.remove_client(self.id);
            state.wake(&started);
        });
    }
}

impl Slot {
    /// Gives the slot back, to whoever is the most urgent as soon as one of these derivations waits, too, or has had enough
    /// time to. What has just been built would otherwise lose its slot to what is less urgent than what it was built for.
    pub(crate) fn hand_over(self, to: Vec<StorePath>) {
        let is_kept = self.pool.with(|state| {
            let waits = |path: &StorePath| state.by_path.contains_key(path.base_name());
            let is_kept = !state.waiting.is_empty() && !to.is_empty() && !to.iter().any(waits);
            if is_kept {
                state.handed_over.push((self.id, to));
            }
            is_kept
        });
        if is_kept {
            tokio::spawn(async move {
                tokio::time::sleep(HAND_OVER).await;
                drop(self);
            });
        }
    }
}

impl State {
    /// Frees those of the slots that are handed over.
    fn end_hand_over(&mut self, is_over: impl Fn(JobId, &[StorePath]) -> bool) {
        let over: Vec<JobId> =
            self.handed_over.extract_if(.., |(id, to)| is_over(*id, to)).map(|(id, _)| id).collect();
        for id in over {
            let started = self.scheduler.finish(id);
            self.wake(&started);
        }
    }

    fn wake(&mut self, started: &[JobId]) {
        for id in started {
            if let Some(waiting) = self.forget(*id) {
                // Whoever has given up meanwhile drops its slot, which starts the next one.
                let _ = waiting.started.send(());
            }
        }
    }

    /// Somebody does not wait any more.
    fn forget(&mut self, id: JobId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if self.by_path.get(&waiting.priority.path) == Some(&id) {
            self.by_path.remove(&waiting.priority.path);
        }
        Some(waiting)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let id = self.id;
        self.pool.with(|state| {
            state.forget(id);
            state.lined_up.remove(&id);
            state.handed_over.retain(|(other, _)| *other != id);
            let started = state.scheduler.finish(id);
            state.wake(&started);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_schedule::{SlotUse, UserId};

    fn priority(name: &str) -> Priority {
        Priority::plain(name, name)
    }

    #[tokio::test]
    async fn s4_a_dropped_slot_is_the_next_ones() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 }).owner();
        let first = pool.acquire(JobKind::Build, priority("a")).await;
        let second = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.acquire(JobKind::Build, priority("b")).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        pool.acquire(JobKind::Build, priority("c")).await;
    }

    #[tokio::test]
    async fn s4_a_slot_is_tried_for_without_waiting() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 }).owner();
        let first = pool.try_acquire(JobKind::Build, priority("a")).unwrap();
        assert!(pool.try_acquire(JobKind::Build, priority("b")).is_none());
        drop(first);
        assert!(pool.try_acquire(JobKind::Build, priority("c")).is_some());
    }

    #[tokio::test]
    async fn who_waits_is_told_of() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 3 });
        let client = pool.client(Client { user: UserId(7), builds: 1 });
        let _first = client.acquire(JobKind::Build, priority("a")).await;
        let mut waiting: Vec<_> =
            ["c", "b"].map(|name| Box::pin(client.acquire(JobKind::Build, priority(name)))).into();
        for job in &mut waiting {
            assert!(futures_util::poll!(job).is_pending());
        }
        let found = pool.occupancy(10);
        assert_eq!(found.builds, SlotUse { used: 1, total: 1, waiting: 2 });
        assert_eq!(found.substitutions, SlotUse { used: 0, total: 3, waiting: 0 });
        let names: Vec<&str> = found.waiting.iter().map(|job| job.path.as_str()).collect();
        assert_eq!(names, ["c", "b"], "in the order in which they came");
        assert!(found.waiting.iter().all(|job| job.is_build && job.user == UserId(7)));
        assert_eq!(pool.occupancy(1).waiting.len(), 1);
        drop(waiting);
        assert_eq!(pool.occupancy(10).builds.waiting, 0);
    }

    #[tokio::test]
    async fn s3_what_becomes_urgent_while_it_waits_goes_first() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 });
        let client = pool.owner();
        let path = |name: &str| StorePath::from_base_name(format!("{}-{name}", name.repeat(32))).unwrap();
        let priority = |name: &str| Priority::plain(name, path(name).base_name());
        let first = client.acquire(JobKind::Build, priority("a")).await;
        let (plain, urgent) =
            (client.acquire(JobKind::Build, priority("b")), client.acquire(JobKind::Build, priority("c")));
        tokio::pin!(plain, urgent);
        assert!(
            futures_util::poll!(plain.as_mut()).is_pending()
                && futures_util::poll!(urgent.as_mut()).is_pending()
        );
        let urgency = Urgency { remaining: Duration::from_secs(1), dependents: 0 };
        pool.reprioritise([(path("a"), urgency), (path("c"), urgency), (path("d"), urgency)]);
        drop(first);
        assert!(futures_util::poll!(plain.as_mut()).is_pending());
        drop(urgent.await);
        drop(plain.await);
        pool.with(|state| assert!(state.by_path.is_empty() && state.waiting.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn s3_a_slot_is_kept_for_what_becomes_ready() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 });
        let client = pool.owner();
        let path = |name: &str| StorePath::from_base_name(format!("{}-{name}", name.repeat(32))).unwrap();
        let job = |name: &str, seconds: u64| {
            let urgency = Urgency { remaining: Duration::from_secs(seconds), dependents: 0 };
            client
                .acquire(JobKind::Build, Priority::plain(name, path(name).base_name()).with_urgency(urgency))
        };
        let first = job("a", 3).await;
        let plain = job("b", 1);
        tokio::pin!(plain);
        assert!(futures_util::poll!(plain.as_mut()).is_pending());
        first.hand_over(vec![path("c"), path("d")]);
        assert!(futures_util::poll!(plain.as_mut()).is_pending(), "it is kept");
        let next = job("d", 2).await;
        next.hand_over(vec![path("f")]);
        assert!(futures_util::poll!(plain.as_mut()).is_pending());
        let begin = tokio::time::Instant::now();
        let plain = plain.await;
        assert_eq!(begin.elapsed(), HAND_OVER, "not for ever");
        plain.hand_over(vec![path("g")]);
        drop(job("h", 1).await);
        assert_eq!(begin.elapsed(), HAND_OVER, "it is not kept if nobody else waits");
        tokio::time::sleep(HAND_OVER).await;
        pool.with(|state| assert!(state.handed_over.is_empty() && state.scheduler.running() == 0));
    }

    #[tokio::test]
    async fn s5_who_gives_up_waiting_holds_nothing() {
        let pool = SlotPool::new(Slots { builds: 1, substitutions: 1 }).owner();
        let first = pool.acquire(JobKind::Build, priority("a")).await;
        {
            let waiting = pool.acquire(JobKind::Build, priority("b"));
            tokio::pin!(waiting);
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }
        drop(first);
        pool.acquire(JobKind::Build, priority("c")).await;
    }
}
