//! Queries on the local store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use kiln_database::{Follow, Graph};
use kiln_narinfo::{PathInfo, Realisation, RealisationId};
use kiln_store_path::{OutputName, StoreDir, StorePath};

use crate::error::Result;
use crate::local::LocalStore;
use crate::store::QueryStore;

/// A digest that no path has.
const NOBODY: &str = "00000000000000000000000000000000";

/// So many paths are looked for in memory, where the event loop may do it; more always take a thread.
const FEW: usize = 512;

impl LocalStore {
    /// What is known about a path; `None` if it is not valid. Asks the database only if the answer is not in memory.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn path_info(&self, path: &StorePath) -> Result<Option<Arc<PathInfo>>> {
        if let Some(info) = self.known_path_info(path) {
            return Ok(Some(info));
        }
        let path = path.clone();
        self.work(move |store| store.path_info_blocking(&path)).await
    }

    /// Like [`path_info`](Self::path_info), for code that may block.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn path_info_blocking(&self, path: &StorePath) -> Result<Option<Arc<PathInfo>>> {
        let (cached, stamp) = self.0.infos.get(self.0.database.foreign_version(), path);
        if cached.is_some() {
            return Ok(cached);
        }
        let info = self.0.database.reader()?.path_info(path)?.map(Arc::new);
        if let Some(info) = &info {
            self.0.infos.insert(stamp, info.clone());
        }
        Ok(info)
    }

    /// Finds out what is known about paths, so that it needn't be looked up when somebody asks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn read_ahead(&self, paths: Vec<StorePath>) -> Result<()> {
        self.work(move |store| store.read_ahead_blocking(paths)).await
    }

    fn read_ahead_blocking(&self, mut paths: Vec<StorePath>) -> Result<()> {
        let version = self.0.database.foreign_version();
        paths.retain(|path| self.0.infos.get(version, path).0.is_none());
        let stamp = self.0.infos.stamp(version);
        for info in self.0.database.reader()?.path_infos(&paths)?.into_values() {
            self.0.infos.insert(stamp, Arc::new(info));
        }
        Ok(())
    }

    /// What [`path_info`](Self::path_info) answers, if it can do so at once.
    pub fn known_path_info(&self, path: &StorePath) -> Option<Arc<PathInfo>> {
        self.0.infos.get(self.0.database.foreign_version(), path).0
    }

    /// What is known about a path that has to be valid.
    ///
    /// # Errors
    /// It is not valid.
    pub async fn valid_path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>> {
        self.path_info(path).await?.ok_or_else(|| self.not_valid(path))
    }

    /// What is known about those of `paths` that are valid.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn path_infos(&self, paths: Vec<StorePath>) -> Result<HashMap<StorePath, Arc<PathInfo>>> {
        let infos = self.work(move |store| store.0.database.reader()?.path_infos(&paths)).await?;
        Ok(infos.into_iter().map(|(path, info)| (path, Arc::new(info))).collect())
    }

    /// Whether a path is valid.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_valid(&self, path: &StorePath) -> Result<bool> {
        Ok(self.path_info(path).await?.is_some())
    }

    /// Those of `paths` that are valid.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn valid_among(&self, paths: Vec<StorePath>) -> Result<BTreeSet<StorePath>> {
        if paths.len() <= FEW
            && let Some(known) = self.0.infos.valid_among(self.0.database.foreign_version(), &paths)
        {
            return Ok(known);
        }
        self.work(move |store| store.valid_among_blocking(&paths)).await
    }

    /// Like [`valid_among`](Self::valid_among), for code that may block. Always asks the database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn valid_among_blocking(&self, paths: &[StorePath]) -> Result<BTreeSet<StorePath>> {
        if paths.is_empty() {
            return Ok(BTreeSet::new());
        }
        let before = self.0.infos.stamp(self.0.database.foreign_version());
        let valid = self.0.database.reader()?.valid_among(paths)?;
        self.0.infos.note_absent(before, paths.iter().filter(|path| !valid.contains(*path)).cloned());
        Ok(valid)
    }

    /// The valid paths that refer to a path.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn referrers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        let path = path.clone();
        Ok(self.work(move |store| store.0.database.reader()?.referrers(&path)).await?)
    }

    /// The valid derivations that have a path as an output.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn valid_derivers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        let path = path.clone();
        Ok(self.work(move |store| store.0.database.reader()?.valid_derivers(&path)).await?)
    }

    /// The outputs of a valid derivation whose paths are known beforehand.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn derivation_outputs(
        &self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<OutputName, StorePath>> {
        let path = derivation.clone();
        Ok(self.work(move |store| store.0.database.reader()?.derivation_outputs(&path)).await?)
    }

    /// The valid path with these 32 digits of a digest.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn path_by_digest(&self, digest: &str) -> Result<Option<StorePath>> {
        let digest = digest.to_owned();
        Ok(self.work(move |store| store.0.database.reader()?.path_by_digest(&digest)).await?)
    }

    /// Asks the database for something that it need not look for, to see whether it answers.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn ping(&self) -> Result<()> {
        self.path_by_digest(NOBODY).await.map(drop)
    }

    /// All valid paths.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn all_paths(&self) -> Result<BTreeSet<StorePath>> {
        Ok(self.work(move |store| store.0.database.reader()?.all_paths()).await?)
    }

    /// All that can be reached from `start`, itself included.
    ///
    /// # Errors
    /// A path of `start` is not valid.
    pub async fn closure(&self, start: Vec<StorePath>, follow: Follow) -> Result<BTreeSet<StorePath>> {
        if follow != Follow::REFERENCES {
            return Ok(self.work(move |store| store.0.database.reader()?.closure(&start, follow)).await?);
        }
        if let Some(known) = self.known_closure(&start) {
            return Ok(known);
        }
        self.work(move |store| {
            let closure = store.0.database.reader()?.closure(&start, follow)?;
            if closure.len() <= FEW {
                // Builds that follow each other need much the same.
                store.read_ahead_blocking(closure.iter().cloned().collect())?;
            }
            Ok(closure)
        })
        .await
    }

    /// All that can be reached from `start` by references, if all of that is in memory and not much.
    fn known_closure(&self, start: &[StorePath]) -> Option<BTreeSet<StorePath>> {
        let version = self.0.database.foreign_version();
        let mut closure: BTreeSet<StorePath> = start.iter().cloned().collect();
        let mut open = start.to_vec();
        while closure.len() <= FEW {
            let Some(path) = open.pop() else { return Some(closure) };
            let info = self.0.infos.get(version, &path).0?;
            let new = info.references.iter().filter(|reference| !closure.contains(*reference)).take(FEW);
            let new: Vec<StorePath> = new.cloned().collect();
            closure.extend(new.iter().cloned());
            open.extend(new);
        }
        None
    }

    /// Path info of all that can be reached from `start`, itself included.
    ///
    /// # Errors
    /// A path of `start` is not valid.
    pub async fn closure_infos(
        &self,
        start: Vec<StorePath>,
        follow: Follow,
    ) -> Result<BTreeMap<StorePath, PathInfo>> {
        Ok(self.work(move |store| store.0.database.reader()?.closure_infos(&start, follow)).await?)
    }

    /// The references of all valid paths, in memory.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn load_graph(&self) -> Result<Graph> {
        Ok(self.work(move |store| store.0.database.load_graph()).await?)
    }

    /// Which path an output of a content-addressed derivation was built as, if that is on record.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn realisation(&self, id: &RealisationId) -> Result<Option<Realisation>> {
        let id = id.clone();
        self.work(move |store| store.realisation_blocking(&id)).await
    }

    /// Like [`realisation`](Self::realisation), for code that may block.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn realisation_blocking(&self, id: &RealisationId) -> Result<Option<Realisation>> {
        Ok(self.0.database.reader()?.realisation(id)?)
    }
}

impl QueryStore for LocalStore {
    fn store_dir(&self) -> &StoreDir {
        LocalStore::store_dir(self)
    }

    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Arc<PathInfo>>>> {
        Box::pin(LocalStore::path_info(self, path))
    }

    fn path_infos<'a>(
        &'a self,
        paths: &'a [StorePath],
    ) -> BoxFuture<'a, Result<HashMap<StorePath, Arc<PathInfo>>>> {
        Box::pin(LocalStore::path_infos(self, paths.to_vec()))
    }

    fn valid_among<'a>(&'a self, paths: &'a [StorePath]) -> BoxFuture<'a, Result<BTreeSet<StorePath>>> {
        Box::pin(LocalStore::valid_among(self, paths.to_vec()))
    }
}
