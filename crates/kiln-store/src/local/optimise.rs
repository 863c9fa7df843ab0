//! Sharing the contents of equal files (local-store specification, section 12).

use std::path::PathBuf;

use kiln_events::{Activity, ActivityId, EventSender, Verbosity};
use kiln_fs::{Access, Directory, FileHash, LinkPool, Linked, PooledFiles};
use kiln_store_path::StorePath;

use crate::cancel::{Cancel, cancellable};
use crate::collection::lock_collector;
use crate::error::Result;
use crate::local::LocalStore;
use crate::parallel::on_threads;

/// Paths that are looked at under one lock, which keeps collectors waiting.
const BATCH: usize = 256;

/// What optimising a store has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Optimised {
    /// Paths that were looked at.
    pub paths: u64,
    /// Files that share their contents now and did not before.
    pub files: u64,
    /// Bytes that this saves.
    pub bytes: u64,
    /// Regular files that were left alone because their owner may write them.
    pub suspicious: Vec<PathBuf>,
    /// Paths that could not be looked at wholly, and why.
    pub failures: Vec<String>,
}

impl LocalStore {
    /// Replaces equal files of all valid paths by hard links to one. Dropping the future ends that soon.
    ///
    /// # Errors
    /// The database or the pool of links cannot be read.
    pub async fn optimise(&self, events: EventSender) -> Result<Optimised> {
        let store = self.clone();
        cancellable(move |cancel| store.optimise_blocking(&events, cancel)).await
    }

    fn optimise_blocking(&self, events: &EventSender, cancel: &Cancel) -> Result<Optimised> {
        self.refuse_if_read_only()?;
        let activity = events.start(ActivityId::NONE, Verbosity::Info, Activity::OptimiseStore);
        let state = Directory::open(&self.config().locations.state_dir)?;
        let paths: Vec<StorePath> = self.database().reader()?.all_paths()?.into_iter().collect();
        let pool = self.link_pool()?;
        let pooled = pool.pooled_files()?;
        let mut optimised = Optimised::default();
        for batch in paths.chunks(BATCH) {
            let lock = lock_collector(&state, Access::Shared, events, cancel)?;
            let valid: Vec<StorePath> = self.valid_among_blocking(batch)?.into_iter().collect();
            let results = on_threads(&valid, cancel, |path| self.optimise_path(&pool, path, &pooled));
            drop(lock);
            for result in results {
                optimised.paths += 1;
                match result {
                    Ok(linked) => {
                        optimised.files += linked.files;
                        optimised.bytes = optimised.bytes.saturating_add(linked.bytes);
                        optimised.suspicious.extend(linked.suspicious);
                    }
                    Err(error) => optimised.failures.push(error.to_string()),
                }
            }
            cancel.check()?;
            activity.progress(optimised.paths, paths.len() as u64, 0, optimised.failures.len() as u64);
        }
        Ok(optimised)
    }

    fn link_pool(&self) -> Result<LinkPool> {
        Ok(LinkPool::open(self.directory())?.syncing(self.config().syncs_files()))
    }

    fn optimise_path(&self, pool: &LinkPool, path: &StorePath, pooled: &PooledFiles) -> Result<Linked> {
        Ok(pool.optimise_tree(&Self::component(path)?, pooled)?)
    }

    /// If the setting `auto-optimise-store` is on: replaces files of a path that is about to become valid, and that nobody
    /// else can write, by links to equal ones. `files` are their hashes, if they were taken already.
    ///
    /// # Errors
    /// The system refuses something; the path is whole all the same.
    pub fn optimise_new(&self, path: &StorePath, files: Option<&[FileHash]>) -> Result<()> {
        if !self.config().auto_optimise {
            return Ok(());
        }
        let pool = self.link_pool()?;
        let name = Self::component(path)?;
        // What gets into the pool is a path's for good, even if this one never becomes valid, and real Nix takes an entry of the
        // right size for whole.
        self.sync_if_wanted(self.directory(), &name)?;
        match files {
            Some(files) => pool.link_tree(&name, files)?,
            None => pool.optimise_tree(&name, &PooledFiles::default())?,
        };
        Ok(())
    }
}
