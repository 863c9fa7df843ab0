//! The local store.

mod add;
mod adopt;
mod clone;
mod content;
mod derivations;
mod durable;
mod export;
mod filter;
mod find_roots;
mod generations;
mod import;
mod locks;
mod logs;
mod optimise;
mod query;
mod read;
mod readdress;
mod recovery;
mod register;
mod replace;
mod roots;
mod scratch;
mod usage;
mod verify;

pub use add::{NewObject, StreamKind};
pub use adopt::AdoptedFiles;
pub use filter::{EntryKind, Filter, dump_filtered};
pub use generations::OldGenerations;
pub use optimise::Optimised;
pub use roots::{absolute_path, replace_out_link};
pub use usage::Usage;
pub use verify::{Finding, Repair, Verdict, Verified};

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kiln_database::{Database, Notice, OpenOptions};
use kiln_fs::{Component, Directory};
use kiln_store_path::{StoreDir, StorePath};

use crate::blocking::blocking;
use crate::collection::AutomaticCollections;
use crate::config::StoreConfig;
use crate::directories;
use crate::error::{Error, Result};
use crate::figures::StoreFigures;
use crate::info_cache::InfoCache;
use crate::local::derivations::{DerivationCache, KnownHashes};
use crate::temp_roots::{HeldRoots, SharedTempRoots};

/// More threads than this don't make disks any faster.
const MOST_WORKERS: usize = 16;

/// A store on this machine's disk, opened directly. Cloning gives another handle of the same.
///
/// Temporary roots belong to the handle that they were added through, and to its clones: they last until the last of them is
/// gone. [`LocalStore::with_own_roots`] gives a handle that has none yet.
#[derive(Clone)]
pub struct LocalStore(Arc<Inner>, Option<Arc<HeldRoots>>, LockedElsewhere);

/// Paths that somebody else has locked on behalf of whoever has the handle.
type LockedElsewhere = Option<Arc<BTreeSet<StorePath>>>;

struct Inner {
    config: StoreConfig,
    /// The directory that holds the files of the store.
    directory: Directory,
    database: Database,
    infos: Arc<InfoCache>,
    derivations: DerivationCache,
    hashes: Mutex<KnownHashes>,
    automatic_collections: AutomaticCollections,
    figures: StoreFigures,
}

/// Takes what is worth telling the user while a store waits or upgrades itself.
pub type OnNotice = Arc<dyn Fn(&Notice) + Send + Sync>;

impl LocalStore {
    /// Opens a store, making what is missing of it unless it is read-only.
    ///
    /// # Errors
    /// Directories that cannot be made, and all that can be wrong with the database.
    pub async fn open(config: StoreConfig, on_notice: OnNotice) -> Result<Self> {
        blocking(move || Self::open_blocking(config, on_notice)).await
    }

    fn open_blocking(config: StoreConfig, on_notice: OnNotice) -> Result<Self> {
        if config.read_only {
            if !config.allow_symlinked_store {
                directories::refuse_links(&config.locations.real_dir)?;
            }
        } else {
            directories::create_missing(&config)?;
        }
        let store_dir = config.locations.store_dir.clone();
        let options = OpenOptions {
            read_only: config.read_only,
            realisations: config.realisations,
            write_ahead_log: config.use_write_ahead_log,
            sync: config.sync_metadata,
            sync_commits: config.syncs_files(),
            busy_deadline: config.busy_deadline,
            reserved_space: config.reserved_space,
            on_notice,
            ..OpenOptions::default()
        };
        let database = Database::open(&config.locations.state_dir.join("db"), store_dir.clone(), options)?;
        // None of a store that is only read.
        let roots = match config.read_only {
            true => None,
            false => Some(Arc::new(SharedTempRoots::open(&config.locations.state_dir)?.holder())),
        };
        let inner = Inner {
            automatic_collections: AutomaticCollections::default(),
            figures: StoreFigures::default(),
            directory: Directory::open(&config.locations.real_dir)?,
            database,
            infos: Arc::new(InfoCache::new(config.path_info_cache_size)),
            derivations: DerivationCache::new(),
            hashes: Mutex::new(KnownHashes::new(store_dir)),
            config,
        };
        Ok(Self(Arc::new(inner), roots, None))
    }

    /// A handle of the same store with temporary roots of its own, which last as long as it and its clones.
    #[must_use]
    pub fn with_own_roots(&self) -> Self {
        let roots = self.1.as_deref().map(|roots| Arc::new(roots.another()));
        Self(Arc::clone(&self.0), roots, self.2.clone())
    }

    /// A handle of the same store that takes no locks on `paths`: another process has them, on behalf of this one.
    #[must_use]
    pub fn with_locked_elsewhere(&self, paths: BTreeSet<StorePath>) -> Self {
        Self(Arc::clone(&self.0), self.1.clone(), Some(Arc::new(paths)))
    }

    /// Where the store is and how it is used.
    pub fn config(&self) -> &StoreConfig {
        &self.0.config
    }

    /// What paths of the store begin with.
    pub fn store_dir(&self) -> &StoreDir {
        &self.0.config.locations.store_dir
    }

    /// The directory that holds the files of the store.
    pub fn directory(&self) -> &Directory {
        &self.0.directory
    }

    /// The store's database, for what this type has no method for; its methods block.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// What has been counted since the store was opened.
    pub fn figures(&self) -> &StoreFigures {
        &self.0.figures
    }

    /// Where the files of a path are.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.0.config.locations.real_dir.join(path.base_name())
    }

    /// The full logical path.
    pub fn print(&self, path: &StorePath) -> String {
        self.store_dir().print(path)
    }

    pub(crate) fn automatic_collections(&self) -> &AutomaticCollections {
        &self.0.automatic_collections
    }

    /// A path's name in the store's directory.
    ///
    /// # Errors
    /// None in practice: the base name of every store path is the name of a file.
    pub fn component(path: &StorePath) -> Result<Component> {
        Component::new(path.base_name()).map_err(|error| Error::Files(error.into()))
    }

    /// Runs work that blocks with the store at hand.
    pub(crate) async fn work<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> T + Send + 'static,
    {
        let store = self.clone();
        blocking(move || work(&store)).await
    }

    fn not_valid(&self, path: &StorePath) -> Error {
        Error::NotValid(self.print(path))
    }

    /// Forgets what is known about paths that were changed.
    fn forget<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) {
        self.0.infos.forget(paths);
    }
}

/// How many threads work at the same time on many paths.
pub(crate) fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}
