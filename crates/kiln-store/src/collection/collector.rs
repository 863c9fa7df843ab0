//! The collector: see the [module above](super) for the steps.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_database::{Graph, Node, NodeSet};
use kiln_events::{Activity, ActivityGuard, ActivityId, EventSender, Verbosity};
use kiln_fs::{Disposal, LinkPool, RemovedLinks, remove_leftover};
use kiln_store_path::StorePath;

use super::announced::Announced;
use super::at_work::AtWork;
use super::entries::{Leftover, leftovers};
use super::liveness::Retention;
use super::scope::{Scope, find_alive, refuse_alive};
use crate::cancel::{Cancel, cancellable};
use crate::error::{Error, Result};
use crate::local::{LocalStore, worker_threads};

/// Fewest and most paths that are deleted together: each time costs a sync of the database's log.
const BATCHES: std::ops::RangeInclusive<usize> = 16..=512;

/// How long a transaction may take, since builds that end meanwhile wait for it with their own.
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
    let mut collector = Collector {
        store,
        options,
        cancel,
        activity,
        announced: &at_work.announced,
        disposal: Disposal::start(store.directory(), worker_threads())?,
        expected: 0,
        largest_batch: 4 * BATCHES.start(),
        graph,
        alive,
        collected: Collected::default(),
    };
    collector.delete(scope)?;
    let Collector { disposal, mut collected, activity, .. } = collector;
    // Nobody need wait for the rest, but other collectors, who would take it for theirs.
    let _lock = at_work.end()?;
    disposal.settle(&mut |pending| {
        activity.progress(0, pending, pending, 0);
        !cancel.is_cancelled()
    });
    cancel.check()?;
    let disposed = disposal.finish();
    collected.freed = disposed.freed;
    collected.failures.extend(disposed.failures.iter().map(ToString::to_string));
    match LinkPool::open(store.directory()).and_then(|pool| pool.remove_unused(worker_threads())) {
        Ok(links) => collected.links = links,
        Err(error) => collected.failures.push(error.to_string()),
    }
    store.figures().collected(&collected);
    Ok(collected)
}

/// How many paths to delete together after so many have taken so long.
fn next_batch(paths: usize, took: Duration) -> usize {
    let within = paths as u128 * HOLD_UP.as_micros() / took.as_micros().max(1);
    // Not at once, in case that one was quick by chance.
    usize::try_from(within)
        .map_or(*BATCHES.end(), |within| within.min(paths * 2))
        .clamp(*BATCHES.start(), *BATCHES.end())
}

/// Deletes what is dead.
struct Collector<'a> {
    store: &'a LocalStore,
    options: CollectOptions,
    cancel: &'a Cancel,
    activity: ActivityGuard,
    announced: &'a Announced,
    disposal: Disposal,
    /// How many paths are dead.
    expected: u64,
    /// How many paths to delete together at most, by how long the last ones took.
    largest_batch: usize,
    graph: Graph,
    /// Grows with what is announced.
    alive: NodeSet,
    collected: Collected,
}

impl Collector<'_> {
    fn delete(&mut self, scope: &Scope) -> Result<()> {
        let mut dead = self.graph.empty_set();
        for node in self.graph.nodes().filter(|node| !self.alive.contains(*node)) {
            dead.insert(node);
        }
        let mut order = self.graph.references_first(&dead);
        order.reverse();
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
        let mut rest = order.as_slice();
        while !rest.is_empty() && !self.is_enough() {
            self.cancel.check()?;
            let (batch, later) = rest.split_at(self.size_of_batch(rest));
            rest = later;
            self.delete_batch(batch)?;
            self.tell();
        }
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
        let Some(max_freed) = self.options.max_freed else { return order.len().min(self.largest_batch) };
        let mut missing = max_freed.saturating_sub(self.disposal.freed());
        let mut size = 0;
        for node in order.iter().take(self.largest_batch) {
            size += 1;
            missing = missing.saturating_sub(self.graph.nar_size(*node));
            if missing == 0 {
                break;
            }
        }
        size
    }

    /// Deletes those of a batch that are dead still. Referrers of its paths are in it or have been deleted.
    fn delete_batch(&mut self, batch: &[Node]) -> Result<()> {
        let (graph, alive, retention) = (&self.graph, &mut self.alive, self.options.retention);
        let (paths, claim) = self.announced.claim(
            |announcements| {
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
        let invalid = self.invalidate(paths)?;
        for path in invalid {
            let name = LocalStore::component(&path)?;
            match self.disposal.put(&name) {
                Ok(()) => self.deleted(path),
                Err(error) => self.collected.failures.push(error.to_string()),
            }
        }
        drop(claim);
        Ok(())
    }

    /// Makes paths invalid, and returns those that are then. A path that somebody has come to refer to without announcing it
    /// stays, with all that it needs.
    fn invalidate(&mut self, paths: Vec<StorePath>) -> Result<Vec<StorePath>> {
        if paths.is_empty() {
            return Ok(paths);
        }
        let all: Arc<[StorePath]> = paths.into();
        let mut invalid = Vec::with_capacity(all.len());
        let begin = Instant::now();
        let invalidated = self.store.invalidate_blocking(all.clone());
        self.largest_batch = next_batch(all.len(), begin.elapsed());
        match invalidated {
            Ok(()) => invalid.extend(all.iter().cloned()),
            Err(Error::Database(kiln_database::Error::InUse { .. })) => {
                for path in all.iter() {
                    let node = self.graph.node(path);
                    if node.is_some_and(|node| self.alive.contains(node)) {
                        continue;
                    }
                    match self.store.invalidate_blocking(Arc::new([path.clone()])) {
                        Ok(()) => invalid.push(path.clone()),
                        Err(Error::Database(kiln_database::Error::InUse { .. })) => {
                            self.options.retention.mark(&self.graph, node, &mut self.alive);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        // Files must not be gone before everybody knows, even after a loss of power.
        self.store.database().sync()?;
        Ok(invalid)
    }

    /// Deletes what is in the store directory and belongs to nobody.
    fn delete_leftovers(&mut self, leftovers: Vec<Leftover>) -> Result<()> {
        for batch in leftovers.chunks(*BATCHES.end()) {
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
        let disposal = &mut self.disposal;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_as_large_as_nobody_notices() {
        assert_eq!(next_batch(64, Duration::from_millis(1)), 128, "at most twice as many");
        assert_eq!(next_batch(512, Duration::ZERO), 512);
        assert_eq!(next_batch(512, Duration::from_millis(32)), 64);
        assert_eq!(next_batch(16, Duration::from_secs(3)), 16);
        assert_eq!(next_batch(1, Duration::from_micros(10)), 16);
    }
}
