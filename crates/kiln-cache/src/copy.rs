//! Copying paths with all that they refer to.
//!
//! First the closure is asked for at the source, then the destination for what it has of that. What it lacks is copied by
//! several tasks: a path begins when the last of its references has arrived. So the destination is closed under references at
//! every moment, and a copy that was broken off goes on where it was.

mod order;

pub(crate) use order::Order;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kiln_events::{
    Activity, ActivityGuard, ActivityId, ActivityResult, ActivityType, EventSender, Verbosity,
};
use kiln_narinfo::Realisation;
use kiln_store::{Added, LocalStore};
use kiln_store_path::{ContentAddress, StorePath};
use kiln_substitute::{Candidate, Existing, TransferError};

use crate::daemon::DaemonWriter;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::writer::{CacheWriter, Written};

/// Paths that are copied at once, at least and at most. Compressing takes a processor and up to 100 MiB for each.
const FEWEST_AT_ONCE: usize = 2;
const MOST_AT_ONCE: usize = 16;

/// A store or cache that paths are copied to.
pub enum Destination {
    /// A local store.
    Store(LocalStore),
    /// A binary cache.
    Cache(CacheWriter),
    /// The store of a daemon.
    Daemon(DaemonWriter),
}

/// Has a destination get paths from its own substituters as far as it can. What it cannot get is copied.
pub type Substitute<'a> = &'a (dyn Fn(Vec<StorePath>) -> BoxFuture<'static, ()> + Sync);

/// What is to be copied.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// The paths.
    pub paths: Vec<StorePath>,
    /// Whether all that they refer to is copied, too.
    pub recursive: bool,
    /// What outputs of content-addressed derivations were built as, to be known at the destination too.
    pub realisations: Vec<Realisation>,
    /// Whether the build logs of the paths go along, from a local store to a cache.
    pub logs: bool,
    /// What the source has to say of paths, if it has them: this content address, or any. It is compared with what arrives.
    pub contents: BTreeMap<StorePath, Option<ContentAddress>>,
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The paths that were copied.
    pub paths: BTreeSet<StorePath>,
    /// How many paths were there already.
    pub present: usize,
    /// Bytes of the archives of the paths that were copied.
    pub nar_size: u64,
    /// Bytes that came from the source's files, where it is a cache.
    pub downloaded: u64,
    /// Bytes of the files that were written to a cache.
    pub written: u64,
}

/// What became of one path.
#[derive(Default)]
struct Arrived {
    is_new: bool,
    downloaded: u64,
    written: u64,
}

/// Copies paths.
///
/// With `substitute`, the destination first gets what it can from its own substituters.
///
/// # Errors
/// The first thing that fails ends the copy. What has arrived before stays.
pub async fn copy(
    source: &Source,
    destination: &Destination,
    request: &CopyRequest,
    substitute: Option<Substitute<'_>>,
    events: &EventSender,
) -> Result<Copied> {
    let closure = source.offered(&request.paths, request.recursive).await?;
    request.check_contents(&closure, source)?;
    let all: Vec<StorePath> = closure.keys().cloned().collect();
    if let Some(store) = &source.store
        && !store.config().read_only
    {
        // Nothing of it is collected before it was read.
        store.add_temp_roots(all.clone()).await?;
    }
    let mut present = destination.present(all.clone()).await?;
    if let Some(substitute) = substitute
        && present.len() < all.len()
    {
        let lacking = all.iter().filter(|path| !present.contains(*path)).cloned().collect();
        substitute(lacking).await;
        present = destination.present(all).await?;
    }
    let missing: HashMap<StorePath, Candidate> =
        closure.into_iter().filter(|(path, _)| !present.contains(path)).collect();
    let mut copied = Copied { present: present.len(), ..Copied::default() };
    let order = Order::new(missing.iter().map(|(path, candidate)| (path, &candidate.info().references)));
    let copying = Copying { source, destination, request, missing, clones: AtomicBool::new(true) };
    if !copying.missing.is_empty() {
        copying.run(order, events, &mut copied).await?;
    }
    for realisation in &request.realisations {
        destination.add_realisation(realisation).await?;
    }
    Ok(copied)
}

impl CopyRequest {
    /// Looks whether the source says what it has to say.
    fn check_contents(&self, offered: &BTreeMap<StorePath, Candidate>, source: &Source) -> Result<()> {
        for (path, expected) in &self.contents {
            let Some(candidate) = offered.get(path) else { continue };
            let found = candidate.info().content_address;
            if found.is_none() || expected.is_some() && found != *expected {
                return Err(Error::Content {
                    path: source.store_dir().print(path),
                    source_name: source.name().to_owned(),
                    expected: expected
                        .map_or_else(|| "what its content is".to_owned(), |it| format!("that it is '{it}'")),
                    found: found.map_or_else(|| "nothing about that".to_owned(), |it| format!("'{it}'")),
                });
            }
        }
        Ok(())
    }
}

impl Destination {
    /// Its name for those who watch.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Store(_) => "local",
            Self::Cache(cache) => cache.name(),
            Self::Daemon(daemon) => daemon.name(),
        }
    }

    /// A store that does not know content-addressed derivations has no place for it.
    async fn add_realisation(&self, realisation: &Realisation) -> Result<()> {
        match self {
            Self::Store(store) if store.config().realisations => {
                Ok(store.register_realisation(realisation.clone()).await?)
            }
            Self::Store(_) => Ok(()),
            Self::Cache(cache) => cache.add_realisation(realisation).await,
            Self::Daemon(daemon) => daemon.add_realisation(realisation).await,
        }
    }

    /// Those of `paths` that are there, and stay there.
    async fn present(&self, paths: Vec<StorePath>) -> Result<BTreeSet<StorePath>> {
        match self {
            Self::Store(store) => {
                store.add_temp_roots(paths.clone()).await?;
                Ok(store.valid_among(paths).await?)
            }
            Self::Cache(cache) => Ok(cache.has_of(paths).await?.into_iter().collect()),
            Self::Daemon(daemon) => daemon.present(paths).await,
        }
    }
}

/// A copy under way.
struct Copying<'a> {
    source: &'a Source,
    destination: &'a Destination,
    request: &'a CopyRequest,
    missing: HashMap<StorePath, Candidate>,
    /// Whether files of one store may share their contents with those of the other; until it turns out that they can't.
    clones: AtomicBool,
}

impl Copying<'_> {
    async fn run(&self, mut order: Order, events: &EventSender, copied: &mut Copied) -> Result<()> {
        let total = self.missing.len();
        let text = format!("copying {total} path{}...", if total == 1 { "" } else { "s" });
        let activity = events.start_with_text(ActivityId::NONE, Verbosity::Info, Activity::CopyPaths, text);
        let sizes = self.missing.values().map(|candidate| candidate.info().nar_size);
        let expected = sizes.fold(0, u64::saturating_add);
        let activity_type = ActivityType::COPY_PATH;
        activity.result(ActivityResult::SetExpected { activity_type, expected });
        let at_once = available_parallelism().map_or(1, usize::from).clamp(FEWEST_AT_ONCE, MOST_AT_ONCE);
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < at_once
                && let Some(path) = order.next()
            {
                running.push(self.one(path, events, &activity));
            }
            tell(&activity, order.done(), total, running.len());
            let Some(arrived) = running.next().await else { break };
            let (path, arrived) = arrived?;
            order.arrived(&path);
            copied.downloaded = copied.downloaded.saturating_add(arrived.downloaded);
            copied.written = copied.written.saturating_add(arrived.written);
            if arrived.is_new {
                let size = self.missing.get(&path).map_or(0, |candidate| candidate.info().nar_size);
                copied.nar_size = copied.nar_size.saturating_add(size);
                copied.paths.insert(path);
            } else {
                copied.present += 1;
            }
        }
        match order.stuck() {
            Some(path) => Err(Error::Circle(self.source.store_dir().print(path))),
            None => Ok(()),
        }
    }

    async fn one(
        &self,
        path: StorePath,
        events: &EventSender,
        activity: &ActivityGuard,
    ) -> Result<(StorePath, Arrived)> {
        let Some(candidate) = self.missing.get(&path) else { return Ok((path, Arrived::default())) };
        let arrived = match self.destination {
            Destination::Store(store) => self.to_store(candidate, store, events, activity.id()).await?,
            Destination::Cache(cache) => self.to_cache(candidate, cache, events, activity.id()).await?,
            Destination::Daemon(daemon) => self.to_daemon(candidate, daemon, events, activity.id()).await?,
        };
        Ok((path, arrived))
    }

    async fn to_store(
        &self,
        candidate: &Candidate,
        store: &LocalStore,
        events: &EventSender,
        parent: ActivityId,
    ) -> Result<Arrived> {
        if let Some(added) = self.clone(candidate, store, events, parent).await? {
            return Ok(Arrived { is_new: added == Added::New, downloaded: 0, written: 0 });
        }
        let fetched = self
            .source
            .substituters
            .fetch(candidate, store, Existing::Stays, (None, ready(())), (events, parent))
            .await?;
        let is_new = fetched.added == Added::New;
        Ok(Arrived { is_new, downloaded: fetched.downloaded, written: 0 })
    }

    /// Has the files of a path share their contents with those of the source, if both are local stores on one file system
    /// that can do that.
    async fn clone(
        &self,
        candidate: &Candidate,
        store: &LocalStore,
        events: &EventSender,
        parent: ActivityId,
    ) -> Result<Option<Added>> {
        let Some(source) = self.source.store.as_ref().filter(|_| self.clones.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        let check = self.source.substituters.check(candidate)?;
        let path = self.source.store_dir().print(&candidate.info().path);
        let activity = Activity::CopyPath {
            path: path.as_str().into(),
            source: self.source.name().into(),
            destination: self.destination.name().into(),
        };
        let text = format!("cloning path '{path}' from '{}'", self.source.name());
        let _activity = events.start_with_text(parent, Verbosity::Talkative, activity, text);
        let added = store.clone_from_store(source, (**candidate.info()).clone(), check).await?;
        if added.is_none() {
            self.clones.store(false, Ordering::Relaxed);
        }
        Ok(added)
    }

    async fn to_cache(
        &self,
        candidate: &Candidate,
        cache: &CacheWriter,
        events: &EventSender,
        parent: ActivityId,
    ) -> Result<Arrived> {
        let info = Arc::clone(candidate.info());
        let add = |reader| cache.add(&info, reader);
        let (written, downloaded) = match candidate.transfer(cache.name(), events, parent, add).await {
            Ok(done) => done,
            Err(TransferError::Source(error)) => return Err(error.into()),
            Err(TransferError::Taker(error)) => return Err(error),
        };
        if self.request.logs {
            self.copy_log(candidate, cache).await?;
        }
        match written {
            Written::Present => Ok(Arrived { is_new: false, downloaded, written: 0 }),
            Written::New { file_size, unlisted } => {
                if let Some(error) = unlisted {
                    let path = self.source.store_dir().print(&info.path);
                    events.warn(format!("there is no listing of path '{path}': {error}"));
                }
                Ok(Arrived { is_new: true, downloaded, written: file_size })
            }
        }
    }

    async fn to_daemon(
        &self,
        candidate: &Candidate,
        daemon: &DaemonWriter,
        events: &EventSender,
        parent: ActivityId,
    ) -> Result<Arrived> {
        let info = Arc::clone(candidate.info());
        let add = |reader| daemon.add(&info, reader);
        match candidate.transfer(daemon.name(), events, parent, add).await {
            Ok(((), downloaded)) => Ok(Arrived { is_new: true, downloaded, written: 0 }),
            Err(TransferError::Source(error)) => Err(error.into()),
            Err(TransferError::Taker(error)) => Err(error),
        }
    }

    /// Copies the log of the build that made a path.
    async fn copy_log(&self, candidate: &Candidate, cache: &CacheWriter) -> Result<()> {
        let path = &candidate.info().path;
        let derivation = if path.is_derivation() { Some(path) } else { candidate.info().deriver.as_ref() };
        let (Some(store), Some(derivation)) = (&self.source.store, derivation) else { return Ok(()) };
        if let Some(log) = store.read_log(derivation).await? {
            cache.add_log(derivation, log).await?;
        }
        Ok(())
    }
}

fn tell(activity: &ActivityGuard, done: usize, expected: usize, running: usize) {
    activity.progress(done as u64, expected as u64, running as u64, 0);
}
