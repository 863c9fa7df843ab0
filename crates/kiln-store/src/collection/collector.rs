//! The collector: see the [module above](super) for the steps.

use std::ffi::OsString;
use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use kiln_database::{Graph, Node, NodeSet};
use kiln_events::{Activity, ActivityGuard, ActivityId, EventSender, Verbosity};
use kiln_fs::{Disposal, LinkPool, RemovedLinks, remove_leftover};
use kiln_store_path::StorePath;

use super::announced::{Announced, Claim};
use super::at_work::AtWork;
use super::entries::{Leftover, leftovers};
use super::liveness::Retention;
use super::scope::{Scope, find_alive, refuse_alive, refuse_announced};
use crate::cancel::{Cancel, cancellable};
use crate::error::{Error, Result};
use crate::local::{LocalStore, worker_threads};

/// Most paths that are deleted together: each time costs a sync of the database's log.
const LARGEST_BATCH: usize = 512;

/// Fewest and most paths that one transaction makes invalid. The fewer, the more often the same pages are written.
const TRANSACTIONS: RangeInclusive<usize> = 64..=LARGEST_BATCH;

/// Batches that are invalid and wait for being freed: enough that neither waits for the other's slower moments.
const WAITING: usize = 2;

/// How long a transaction may take while others use the store, since builds that end meanwhile wait for it with their own. Where
/// nobody has announced anything, a batch is one transaction: whoever comes meanwhile waits for that one alone.
const HOLD_UP: Duration = Duration::from_millis(4);

/// How garbage is collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectOptions {
    /// What keeps what alive.
    pub retention: Retention,
    /// To stop when about so many bytes have been freed.
    pub max_freed: Option<u64>,
}

/// What a collection has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Paths that were deleted; also what was called like a path without being valid, such as a stray lock file.
    pub paths: Vec<StorePath>,
    /// Names of other things that were deleted.
    pub leftovers: Vec<OsString>,
    /// Bytes that were freed, as the lengths of files.
    pub freed: u64,
    /// What became of the pool of hard links.
    pub links: RemovedLinks,
    /// What could not be deleted, and why.
    pub failures: Vec<String>,
}

impl LocalStore {
    /// Deletes what no root needs. Dropping the future ends the collection soon, with what is deleted by then.
    ///
    /// # Errors
    /// The roots or the database cannot be read, or the database cannot be written. That something cannot be deleted is told in
    /// the result.
    pub async fn collect_garbage(&self, options: CollectOptions, events: EventSender) -> Result<Collected> {
        self.collect(Scope::Everything, options, events).await
    }

    /// Deletes these paths, all of them or, if something keeps one of them, none. With `ignore_liveness` roots don't count,
    /// but who refers to a path still keeps it.
    ///
    /// # Errors
    /// [`Error::StillAlive`], and as for a collection.
    pub async fn delete_paths(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
        ignore_liveness: bool,
        retention: Retention,
        events: EventSender,
    ) -> Result<Collected> {
        let retention = if ignore_liveness { Retention::REFERENCES } else { retention };
        let scope = Scope::Paths { listed: paths.into_iter().collect(), ignore_liveness };
        self.collect(scope, CollectOptions { retention, max_freed: None }, events).await
    }

    async fn collect(&self, scope: Scope, options: CollectOptions, events: EventSender) -> Result<Collected> {
        let store = self.clone();
        cancellable(move |cancel| collect(&store, &scope, options, &events, cancel)).await
    }
}

fn collect(
    store: &LocalStore,
    scope: &Scope,
    options: CollectOptions,
    events: &EventSender,
    cancel: &Cancel,
) -> Result<Collected> {
    store.refuse_if_read_only()?;
    store.database().release_reserved_space()?;
    let activity = events.start_with_text(
        ActivityId::NONE,
        Verbosity::Talkative,
        Activity::Unknown,
        "finding garbage collector roots...",
    );
    let at_work = AtWork::begin(store, events, cancel)?;
    let (graph, alive, roots) = find_alive(store, scope, options.retention, &at_work.announced, events)?;
    refuse_alive(store, scope, options.retention, (&graph, &alive, &roots))?;
    cancel.check()?;
    let disposal = Disposal::start(store.directory(), worker_threads())?;
    let mut collector = Collector {
        store,
        options,
        cancel,
        activity,
        announced: &at_work.announced,
        disposal: &disposal,
        expected: 0,
        largest_transaction: 2 * TRANSACTIONS.start(),
        graph,
        alive,
        collected: Collected::default(),
    };
    collector.delete(scope)?;
    let Collector { mut collected, activity, .. } = collector;
    let refused = refuse_announced(store, scope, &at_work.announced, &collected.paths);
    // Nobody need wait for the rest, but other collectors, who would take it for theirs.
    let _lock = at_work.end()?;
    disposal.settle(&mut |pending| {
        activity.progress(0, pending, pending, 0);
        !cancel.is_cancelled()
    });
    if let Err(cancelled) = cancel.check() {
        // What is left belongs to the next collector, who must not find it in use.
        drop(disposal);
        return Err(cancelled);
    }
    let disposed = disposal.finish();
    collected.freed = disposed.freed;
    collected.failures.extend(disposed.failures.iter().map(ToString::to_string));
    match LinkPool::open(store.directory()).and_then(|pool| pool.remove_unused(worker_threads())) {
        Ok(links) => collected.links = links,
        Err(error) => collected.failures.push(error.to_string()),
    }
    store.figures().collected(&collected);
    refused.map(|()| collected)
}

/// How many paths to make invalid at once after so many have taken so long.
fn next_transaction(paths: usize, took: Duration) -> usize {
    let within = paths as u128 * HOLD_UP.as_micros() / took.as_micros().max(1);
    // Not at once, in case that one was quick by chance.
    usize::try_from(within)
        .map_or(*TRANSACTIONS.end(), |within| within.min(paths * 2))
        .clamp(*TRANSACTIONS.start(), *TRANSACTIONS.end())
}

/// Deletes what is dead.
struct Collector<'a> {
    store: &'a LocalStore,
    options: CollectOptions,
    cancel: &'a Cancel,
    activity: ActivityGuard,
    announced: &'a Announced,
    disposal: &'a Disposal,
    /// How many paths are dead.
    expected: u64,
    /// How many paths to make invalid at once, by how long the last ones took.
    largest_transaction: usize,
    graph: Graph,
    /// Grows with what is announced.
    alive: NodeSet,
    collected: Collected,
}

impl<'a> Collector<'a> {
    fn delete(&mut self, scope: &Scope) -> Result<()> {
        let mut dead = self.graph.empty_set();
        for node in self.graph.nodes().filter(|node| !self.alive.contains(*node)) {
            dead.insert(node);
        }
        let order = self.graph.referrers_first(&dead);
        let leftovers = match scope {
            Scope::Everything => leftovers(self.store.directory(), &self.graph)?,
            Scope::Paths { listed, .. } => listed
                .iter()
                .filter(|path| self.graph.node(path).is_none())
                .map(|path| LocalStore::component(path).map(Leftover::new))
                .collect::<Result<_>>()?,
        };
        self.expected = (order.len() + leftovers.len()) as u64;
        self.delete_leftovers(leftovers)?;
        thread::scope(|scope| {
            let (invalid, to_free) = mpsc::sync_channel(WAITING);
            let (done, freed) = mpsc::channel();
            let (store, disposal) = (self.store, self.disposal);
            scope.spawn(move || free_names(store, disposal, &to_free, &done));
            let mut rest = order.as_slice();
            while !rest.is_empty() && !self.is_enough() {
                self.cancel.check()?;
                let (batch, later) = rest.split_at(self.size_of_batch(rest));
                rest = later;
                if invalid.send(self.invalidate_batch(batch)?).is_err() {
                    // What is wrong is told below.
                    break;
                }
                // While names are freed, the next ones are made invalid; unless what that frees decides about them.
                if self.options.max_freed.is_some()
                    && let Ok(freed) = freed.recv()
                {
                    self.note(freed)?;
                }
                freed.try_iter().try_for_each(|freed| self.note(freed))?;
            }
            drop(invalid);
            freed.iter().try_for_each(|freed| self.note(freed))
        })
    }

    /// Takes note of what was freed.
    fn note(&mut self, freed: Result<Freed>) -> Result<()> {
        let freed = freed?;
        freed.paths.into_iter().for_each(|path| self.deleted(path));
        self.collected.failures.extend(freed.failures);
        self.tell();
        Ok(())
    }

    /// Whether as much was freed as was asked for. What is being deleted is waited for to tell.
    fn is_enough(&self) -> bool {
        self.options.max_freed.is_some_and(|max_freed| {
            self.disposal.settle(&mut |_| !self.cancel.is_cancelled());
            self.disposal.freed() >= max_freed
        })
    }

    /// How many of `order` to delete next: about as many as it may take.
    fn size_of_batch(&self, order: &[Node]) -> usize {
        let Some(max_freed) = self.options.max_freed else { return order.len().min(LARGEST_BATCH) };
        let mut missing = max_freed.saturating_sub(self.disposal.freed());
        let mut size = 0;
        for node in order.iter().take(LARGEST_BATCH) {
            size += 1;
            missing = missing.saturating_sub(self.graph.nar_size(*node));
            if missing == 0 {
                break;
            }
        }
        size
    }

    /// Makes those of a batch invalid that are dead still. Referrers of its paths are in it or have been deleted.
    fn invalidate_batch(&mut self, batch: &[Node]) -> Result<(Vec<StorePath>, Claim<'a>)> {
        let (graph, alive, retention) = (&self.graph, &mut self.alive, self.options.retention);
        let mut is_alone = false;
        let (paths, claim) = self.announced.claim(
            |announcements| {
                is_alone = !announcements.are_there();
                let announced = announcements.new.iter().filter_map(|path| graph.node(path));
                retention.mark(graph, announced, alive);
                let paths = || batch.iter().filter_map(|node| Some((*node, graph.path(*node)?)));
                let spared = paths().filter(|(_, path)| announcements.spare(path)).map(|(node, _)| node);
                retention.mark(graph, spared, alive);
                let dead = paths().filter(|(node, _)| !alive.contains(*node));
                dead.map(|(_, path)| path.clone()).collect()
            },
            |path| Some(path.clone()),
        );
        let mut invalid = Vec::with_capacity(paths.len());
        let mut rest = paths.as_slice();
        while !rest.is_empty() {
            let size = if is_alone { rest.len() } else { rest.len().min(self.largest_transaction) };
            let (now, later) = rest.split_at(size);
            rest = later;
            self.invalidate(now, &mut invalid)?;
        }
        Ok((invalid, claim))
    }

    /// Makes paths invalid, and adds those to `invalid` that are then. A path that somebody has come to refer to without
    /// announcing it stays, with all that it needs.
    fn invalidate(&mut self, paths: &[StorePath], invalid: &mut Vec<StorePath>) -> Result<()> {
        match self.store.invalidate_blocking(Arc::from(paths)) {
            Ok(took) => {
                self.largest_transaction = next_transaction(paths.len(), took);
                invalid.extend(paths.iter().cloned());
                Ok(())
            }
            Err(Error::Database(kiln_database::Error::InUse { .. })) => {
                paths.iter().try_for_each(|path| self.invalidate_one(path, invalid))
            }
            Err(error) => Err(error),
        }
    }

    fn invalidate_one(&mut self, path: &StorePath, invalid: &mut Vec<StorePath>) -> Result<()> {
        let node = self.graph.node(path);
        if node.is_some_and(|node| self.alive.contains(node)) {
            return Ok(());
        }
        match self.store.invalidate_blocking(Arc::new([path.clone()])) {
            Ok(_) => invalid.push(path.clone()),
            Err(Error::Database(kiln_database::Error::InUse { .. })) => {
                self.options.retention.mark(&self.graph, node, &mut self.alive);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Deletes what is in the store directory and belongs to nobody.
    fn delete_leftovers(&mut self, leftovers: Vec<Leftover>) -> Result<()> {
        for batch in leftovers.chunks(LARGEST_BATCH) {
            self.cancel.check()?;
            let (graph, alive, retention) = (&self.graph, &mut self.alive, self.options.retention);
            let (chosen, claim) = self.announced.claim(
                |announcements| {
                    let announced = announcements.new.iter().filter_map(|path| graph.node(path));
                    retention.mark(graph, announced, alive);
                    let is_spared = |path: &StorePath| announcements.spare(path);
                    batch.iter().filter(|entry| !entry.path.as_ref().is_some_and(is_spared)).collect()
                },
                |entry: &&Leftover| entry.path.clone(),
            );
            // It may have become valid since the graph was loaded.
            let paths: Vec<StorePath> = chosen.iter().filter_map(|entry| entry.path.clone()).collect();
            let valid = self.store.valid_among_blocking(&paths)?;
            for entry in chosen {
                if !entry.path.as_ref().is_some_and(|path| valid.contains(path)) {
                    self.delete_leftover(entry);
                }
            }
            drop(claim);
            self.tell();
        }
        Ok(())
    }

    fn delete_leftover(&mut self, entry: &Leftover) {
        let directory = self.store.directory();
        if !matches!(directory.status(&entry.name), Ok(Some(_))) {
            return;
        }
        let disposal = self.disposal;
        match remove_leftover(directory, &entry.name, || disposal.put(&entry.name)) {
            Ok(false) => {}
            Ok(true) => match &entry.path {
                Some(path) => self.deleted(path.clone()),
                None => self.collected.leftovers.push(entry.name.as_path().as_os_str().to_owned()),
            },
            Err(error) => self.collected.failures.push(error.to_string()),
        }
    }

    fn deleted(&mut self, path: StorePath) {
        let text = format!("deleting '{}'", self.store.print(&path));
        self.activity.sender().message(Verbosity::Talkative, text);
        self.collected.paths.push(path);
    }

    fn tell(&self) {
        let done = (self.collected.paths.len() + self.collected.leftovers.len()) as u64;
        self.activity.progress(
            done,
            self.expected,
            self.disposal.pending(),
            self.collected.failures.len() as u64,
        );
    }
}

/// What came of a batch in [`free_names`].
#[derive(Default)]
struct Freed {
    paths: Vec<StorePath>,
    failures: Vec<String>,
}

/// Frees the names of paths that are invalid, batch by batch. Until then they are claimed. Ends with the first that fails.
fn free_names(
    store: &LocalStore,
    disposal: &Disposal,
    batches: &Receiver<(Vec<StorePath>, Claim<'_>)>,
    done: &Sender<Result<Freed>>,
) {
    while let Ok(first) = batches.recv() {
        // One sync serves all that is invalid by now. Files must not be gone before everybody knows, even after a loss of power.
        let invalid: Vec<_> = iter::once(first).chain(batches.try_iter()).collect();
        if let Err(error) = store.database().sync() {
            let _ = done.send(Err(error.into()));
            return;
        }
        for (paths, _claim) in invalid {
            let mut freed = Freed::default();
            for path in paths {
                let put = LocalStore::component(&path).and_then(|name| Ok(disposal.put(&name)?));
                match put {
                    Ok(()) => freed.paths.push(path),
                    Err(error) => freed.failures.push(error.to_string()),
                }
            }
            // Whoever does not listen any more has failed, or was cancelled.
            let _ = done.send(Ok(freed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_as_large_as_nobody_notices() {
        assert_eq!(next_transaction(64, Duration::from_millis(1)), 128, "at most twice as many");
        assert_eq!(next_transaction(512, Duration::ZERO), 512);
        assert_eq!(next_transaction(512, Duration::from_millis(16)), 128);
        assert_eq!(next_transaction(64, Duration::from_secs(3)), 64);
        assert_eq!(next_transaction(1, Duration::from_micros(10)), 64);
    }
}
