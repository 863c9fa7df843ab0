//! Where paths are copied from.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kiln_remote::RemoteStore;
use kiln_settings::LocalStoreUrl;
use kiln_store::LocalStore;
use kiln_store_path::{StoreDir, StorePath};
use kiln_substitute::{
    Candidate, DaemonSource, StoreSource, Substituter, Substituters, Surroundings, open_substituter,
};

use crate::error::{Error, Result};

/// How many paths it is asked about at once.
const QUESTIONS: usize = 64;

/// How many paths are looked at before somebody must be telling tales.
const MOST: usize = 2_000_000;

/// A store or cache that paths are copied from.
pub struct Source {
    name: String,
    store_dir: StoreDir,
    pub(crate) store: Option<LocalStore>,
    pub(crate) substituters: Substituters,
}

impl Source {
    /// A local store that is open already. `surroundings` say whom whoever gets the paths trusts.
    #[must_use]
    pub fn of_store(store: LocalStore, url: LocalStoreUrl, surroundings: &Surroundings) -> Self {
        let store_dir = store.store_dir().clone();
        let source: Box<dyn Substituter> = Box::new(StoreSource::of(store.clone(), url));
        let name = source.name().to_owned();
        let substituters = Substituters::new(vec![source], store_dir.clone(), surroundings.trust.clone());
        Self { name, store_dir, store: Some(store), substituters }
    }

    /// The store of a daemon. `surroundings` say whom whoever gets the paths trusts.
    #[must_use]
    pub fn of_daemon(store: RemoteStore, surroundings: &Surroundings) -> Self {
        let (name, store_dir) = (store.name().to_owned(), store.store_dir().clone());
        let source: Box<dyn Substituter> = Box::new(DaemonSource::of(store, store_dir.clone()));
        let substituters = Substituters::new(vec![source], store_dir.clone(), surroundings.trust.clone());
        Self { name, store_dir, store: None, substituters }
    }

    /// What a URL names.
    ///
    /// # Errors
    /// Nothing can be copied from there.
    pub fn open(url: &str, surroundings: &Surroundings) -> Result<Self> {
        let source = open_substituter(url, surroundings)?;
        let (name, store_dir) = (source.name().to_owned(), surroundings.store_dir.clone());
        let substituters = Substituters::new(vec![source], store_dir.clone(), surroundings.trust.clone());
        Ok(Self { name, store_dir, store: None, substituters })
    }

    /// Its URL as messages have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its paths begin with.
    #[must_use]
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// What it says about paths, all of which have to be there; with `recursive`, also about all that they refer to.
    ///
    /// # Errors
    /// A path is not there, or can't be asked about; or the paths that refer to each other don't come to an end.
    pub async fn offered(
        &self,
        paths: &[StorePath],
        recursive: bool,
    ) -> Result<BTreeMap<StorePath, Candidate>> {
        let mut found = BTreeMap::new();
        let mut seen: BTreeSet<StorePath> = paths.iter().cloned().collect();
        let mut queue: Vec<StorePath> = seen.iter().cloned().collect();
        let mut asking = FuturesUnordered::new();
        loop {
            while asking.len() < QUESTIONS
                && let Some(path) = queue.pop()
            {
                asking.push(async move {
                    let candidate = self.find(&path).await;
                    candidate.map(|candidate| (path, candidate))
                });
            }
            let Some(answer) = asking.next().await else { return Ok(found) };
            let (path, candidate) = answer?;
            if recursive {
                for reference in &candidate.info().references {
                    if seen.insert(reference.clone()) {
                        queue.push(reference.clone());
                    }
                }
            }
            if seen.len() > MOST {
                return Err(Error::Endless(MOST));
            }
            found.insert(path, candidate);
        }
    }

    /// A path that has to be there.
    pub(crate) async fn find(&self, path: &StorePath) -> Result<Candidate> {
        let mut search = self.substituters.find(path);
        match search.next().await {
            Some(candidate) => Ok(candidate),
            None => Err(match search.troubles().first() {
                Some(trouble) => Error::Shared(trouble.clone()),
                None => {
                    Error::NotAtSource { path: self.store_dir.print(path), source_name: self.name.clone() }
                }
            }),
        }
    }
}
