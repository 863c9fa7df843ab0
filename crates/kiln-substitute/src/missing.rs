//! What a set of paths needs that is not here: the whole closure, as substituters have it (R1).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use kiln_narinfo::PathInfo;
use kiln_store::QueryStore;
use kiln_store_path::StorePath;

use crate::error::{Error, Result};
use crate::substituters::Substituters;

/// How many paths are searched for at once. Each substituter bounds its own requests besides.
const AT_ONCE: usize = 128;

/// How many paths are looked at before somebody must be telling tales.
const MOST: usize = 2_000_000;

/// What is missing, and how it would be had.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// Paths that substituters have, and that may be believed.
    pub will_substitute: BTreeSet<StorePath>,
    /// Paths that nobody has.
    pub unknown: BTreeSet<StorePath>,
    /// Bytes to download, as far as substituters tell.
    pub download_size: u64,
    /// Bytes that the downloads unpack to.
    pub nar_size: u64,
    /// What went wrong with substituters, each kind of trouble once.
    pub troubles: Vec<Arc<Error>>,
}

/// What became of a search for one path.
struct Looked {
    path: StorePath,
    /// What the best substituter says about it, and the bytes to download.
    found: Option<(Arc<PathInfo>, u64)>,
    troubles: Vec<Arc<Error>>,
}

impl Substituters {
    /// Finds out what of the closure of `paths` is not valid in `store` and would be substituted. What is asked next
    /// depends on each answer alone: no path waits for others of its level.
    ///
    /// # Errors
    /// The store cannot be asked, or the closure has no end.
    pub async fn missing(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
        store: &dyn QueryStore,
    ) -> Result<Missing> {
        let mut missing = Missing::default();
        let mut seen: HashSet<StorePath> = HashSet::new();
        let mut queue: Vec<StorePath> = Vec::new();
        enqueue(paths, store, &mut seen, &mut queue).await?;
        let mut told: HashSet<String> = HashSet::new();
        let mut looking = FuturesUnordered::new();
        loop {
            while looking.len() < AT_ONCE
                && let Some(path) = queue.pop()
            {
                looking.push(self.look(path));
            }
            let Some(Looked { path, found, troubles }) = looking.next().await else { return Ok(missing) };
            for trouble in troubles {
                // Thousands of paths that one cache fails at are one trouble.
                if let Some(substituter) = trouble.failed_substituter()
                    && told.insert(substituter.to_owned())
                {
                    missing.troubles.push(trouble);
                }
            }
            let Some((info, download_size)) = found else {
                missing.unknown.insert(path);
                continue;
            };
            missing.download_size = missing.download_size.saturating_add(download_size);
            missing.nar_size = missing.nar_size.saturating_add(info.nar_size);
            enqueue(info.references.iter().cloned(), store, &mut seen, &mut queue).await?;
            missing.will_substitute.insert(path);
        }
    }

    /// What is said of each path by the best substituter that may be believed, and how many bytes are to be downloaded, as far as
    /// that is told. Paths that nobody has are left out, and so are substituters that fail.
    pub async fn offered(&self, paths: impl IntoIterator<Item = StorePath>) -> Vec<(Arc<PathInfo>, u64)> {
        let looking = paths.into_iter().map(|path| self.look(path));
        let looked = futures_util::stream::iter(looking).buffered(AT_ONCE);
        looked.filter_map(|looked| std::future::ready(looked.found)).collect().await
    }

    /// Searches for a path that may be believed.
    async fn look(&self, path: StorePath) -> Looked {
        let mut search = self.find(&path);
        let mut found = None;
        while let Some(candidate) = search.next().await {
            if self.verdict(&candidate).is_trusted() {
                found = Some((Arc::clone(candidate.info()), candidate.offer().download_size()));
                break;
            }
        }
        Looked { path, found, troubles: search.troubles().to_vec() }
    }
}

/// Puts those paths into the queue that were not seen before and are not valid.
async fn enqueue(
    paths: impl IntoIterator<Item = StorePath>,
    store: &dyn QueryStore,
    seen: &mut HashSet<StorePath>,
    queue: &mut Vec<StorePath>,
) -> Result<()> {
    let new: Vec<StorePath> = paths.into_iter().filter(|path| seen.insert(path.clone())).collect();
    if seen.len() > MOST {
        return Err(Error::EndlessClosure(MOST));
    }
    if new.is_empty() {
        return Ok(());
    }
    let valid = store.valid_among(&new).await?;
    queue.extend(new.into_iter().filter(|path| !valid.contains(path)));
    Ok(())
}
