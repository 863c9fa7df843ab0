//! The local store.

mod add;
mod content;
mod derivations;
mod filter;
mod locks;
mod logs;
mod query;
mod read;
mod register;
mod roots;
mod scratch;
mod verify;

pub use add::{NewObject, StreamKind};
pub use filter::{EntryKind, Filter};
pub use verify::Verdict;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kiln_database::{Database, Notice, OpenOptions};
use kiln_fs::{Component, Directory};
use kiln_narinfo::PathInfo;
use kiln_store_path::{StoreDir, StorePath};

use crate::blocking::blocking;
use crate::config::StoreConfig;
use crate::directories;
use crate::error::{Error, Result};
use crate::info_cache::InfoCache;
use crate::local::derivations::{DerivationCache, KnownHashes};
use crate::temp_roots::SharedTempRoots;

/// A store on this machine's disk, opened directly. Cloning gives another handle of the same.
#[derive(Clone)]
pub struct LocalStore(Arc<Inner>);

struct Inner {
    config: StoreConfig,
    /// The directory that holds the files of the store.
    directory: Directory,
    database: Database,
    infos: InfoCache,
    derivations: DerivationCache,
    hashes: Mutex<KnownHashes>,
    /// None of a store that is only read.
    temp_roots: Option<Arc<SharedTempRoots>>,
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
            busy_deadline: config.busy_deadline,
            reserved_space: config.reserved_space,
            on_notice,
            ..OpenOptions::default()
        };
        let database = Database::open(&config.locations.state_dir.join("db"), store_dir.clone(), options)?;
        let temp_roots = match config.read_only {
            true => None,
            false => Some(SharedTempRoots::open(&config.locations.state_dir)?),
        };
        Ok(Self(Arc::new(Inner {
            temp_roots,
            directory: Directory::open(&config.locations.real_dir)?,
            database,
            infos: InfoCache::new(config.path_info_cache_size),
            derivations: DerivationCache::new(),
            hashes: Mutex::new(KnownHashes::new(store_dir)),
            config,
        })))
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

    /// Where the files of a path are.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.0.config.locations.real_dir.join(path.base_name())
    }

    /// The full logical path.
    pub fn print(&self, path: &StorePath) -> String {
        self.store_dir().print(path)
    }

    /// A path's name in the store's directory.
    ///
    /// # Errors
    /// None in practice: the base name of every store path is the name of a file.
    pub fn component(path: &StorePath) -> Result<Component> {
        Component::new(path.base_name()).map_err(|error| Error::Files(error.into()))
    }

    /// Runs work that blocks with the store at hand.
    async fn work<T, F>(&self, work: F) -> T
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

    fn cached_info(&self, path: &StorePath) -> Option<Arc<PathInfo>> {
        self.0.infos.get(self.0.database.foreign_version(), path).0
    }
}
