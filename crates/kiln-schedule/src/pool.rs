//! Jobs that compete for the same slots: those that wait, client by client, and how many run for whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Client, ClientId, UserId};
use crate::scheduler::JobId;

/// The jobs of one sort of slots.
#[derive(Debug)]
pub(crate) struct Pool<P> {
    queues: BTreeMap<ClientId, Queue<P>>,
    /// Jobs that hold a slot, by the user they run for; nobody who has none is listed.
    running_for: BTreeMap<UserId, usize>,
    running: usize,
}

/// The jobs of one client.
#[derive(Debug)]
struct Queue<P> {
    user: UserId,
    /// Those that may use any slot, and those that may go without one, apart: where there is no slot only the latter move.
    waiting: BTreeSet<(P, JobId)>,
    waiting_local: BTreeSet<(P, JobId)>,
    running: usize,
}

impl<P: Ord + Clone> Pool<P> {
    pub(crate) const fn new() -> Self {
        Self { queues: BTreeMap::new(), running_for: BTreeMap::new(), running: 0 }
    }

    /// Jobs that hold a slot.
    pub(crate) const fn running(&self) -> usize {
        self.running
    }

    /// Takes a job that waits.
    pub(crate) fn wait(&mut self, (client, user): (ClientId, UserId), is_local: bool, job: (P, JobId)) {
        let queue = self.queues.entry(client).or_insert_with(|| Queue {
            user,
            waiting: BTreeSet::new(),
            waiting_local: BTreeSet::new(),
            running: 0,
        });
        if is_local {
            queue.waiting_local.insert(job)
        } else {
            queue.waiting.insert(job)
        };
    }

    /// Forgets a job that waits.
    pub(crate) fn leave(&mut self, client: ClientId, job: &(P, JobId)) {
        if let Some(queue) = self.queues.get_mut(&client) {
            let _ = queue.waiting.remove(job) || queue.waiting_local.remove(job);
        }
        self.forget_if_idle(client);
    }

    /// Takes the slot back from a job that ran.
    pub(crate) fn end(&mut self, client: ClientId) {
        if let Some(queue) = self.queues.get_mut(&client) {
            queue.running -= 1;
            self.running -= 1;
            if let Some(count) = self.running_for.get_mut(&queue.user) {
                *count -= 1;
                if *count == 0 {
                    self.running_for.remove(&queue.user);
                }
            }
        }
        self.forget_if_idle(client);
    }

    /// Gives the next job a slot, if there is one for it: the first in the order of those whose user has the fewest running,
    /// and whose client has not reached its limit.
    pub(crate) fn start(&mut self, slots: usize, limits: &BTreeMap<ClientId, Client>) -> Option<JobId> {
        let free = self.free(slots);
        if free == Free::None {
            return None;
        }
        let candidates = self.queues.iter().filter_map(|(client, queue)| {
            let limit = limits.get(client).map_or(usize::MAX, |client| client.builds);
            let (job, is_local) = queue.first(free.and(Free::of(queue.running, limit)))?;
            let running = self.running_for.get(&queue.user).copied().unwrap_or(0);
            Some(((running, job), *client, is_local))
        });
        let (_, client, is_local) = candidates.min()?;
        let queue = self.queues.get_mut(&client)?;
        let set = if is_local { &mut queue.waiting_local } else { &mut queue.waiting };
        let (_, id) = set.pop_first()?;
        queue.running += 1;
        self.running += 1;
        *self.running_for.entry(queue.user).or_default() += 1;
        Some(id)
    }

    fn free(&self, slots: usize) -> Free {
        Free::of(self.running, slots)
    }

    fn forget_if_idle(&mut self, client: ClientId) {
        if self.queues.get(&client).is_some_and(Queue::is_idle) {
            self.queues.remove(&client);
        }
    }
}

impl<P: Ord> Queue<P> {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting.is_empty() && self.waiting_local.is_empty()
    }

    /// The job that would start first, and whether it is a local one.
    fn first(&self, free: Free) -> Option<(&(P, JobId), bool)> {
        let local = self.waiting_local.first().map(|job| (job, true));
        match free {
            Free::None => None,
            Free::OneLocal => local,
            Free::Any => match (self.waiting.first(), local) {
                (Some(any), Some((local, _))) if any < local => Some((any, false)),
                (any, None) => any.map(|job| (job, false)),
                (_, local) => local,
            },
        }
    }
}

/// What may start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Free {
    None,
    /// A job that may go without a slot, where there are no slots at all.
    OneLocal,
    Any,
}

impl Free {
    fn of(running: usize, limit: usize) -> Self {
        match (running, limit) {
            (0, 0) => Self::OneLocal,
            _ if running < limit => Self::Any,
            _ => Self::None,
        }
    }

    fn and(self, other: Self) -> Self {
        self.min(other)
    }
}
