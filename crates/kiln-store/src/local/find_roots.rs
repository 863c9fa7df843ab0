//! The roots of the local store.

use std::path::Path;

use kiln_events::EventSender;
use kiln_fs::{Directory, Stale, for_each_temp_root};
use kiln_store_path::StorePath;

use crate::error::Result;
use crate::local::LocalStore;
use crate::roots::{Found, Holder, Root, links, running};

impl LocalStore {
    /// All roots that are valid paths, or that processes keep for themselves, valid or not yet; sorted. What can't be looked at
    /// is told as warnings, and passed over.
    ///
    /// # Errors
    /// The directories of roots, or the database, cannot be read.
    pub async fn roots(&self, events: &EventSender) -> Result<Vec<Root>> {
        let (found, valid) = self
            .work(|store| {
                let found = store.roots_blocking()?;
                let paths: Vec<StorePath> = found.roots.iter().map(|root| root.path.clone()).collect();
                let valid = store.valid_among_blocking(&paths)?;
                Ok::<_, crate::Error>((found, valid))
            })
            .await?;
        found.warnings.into_iter().for_each(|warning| events.warn(warning));
        let mut roots = found.roots;
        roots.retain(|root| root.holder.is_temporary() || valid.contains(&root.path));
        roots.sort();
        roots.dedup();
        Ok(roots)
    }

    /// All roots, valid or not. Nothing is changed.
    pub(crate) fn roots_blocking(&self) -> Result<Found> {
        let mut found = self.temporary_roots(Stale::Keep)?;
        let others = self.lasting_roots(Stale::Keep)?;
        found.roots.extend(others.roots);
        found.warnings.extend(others.warnings);
        Ok(found)
    }

    /// Those of processes that work with the store. Where stale ones are removed, that is by a collector, who must know all of
    /// them.
    pub(crate) fn temporary_roots(&self, stale: Stale) -> Result<Found> {
        let state = Directory::open(&self.config().locations.state_dir)?;
        let mut roots = Vec::new();
        let mut unreadable = Vec::new();
        let mut visit = |process: &kiln_fs::Component, path: &[u8]| {
            if let Ok(path) = self.store_dir().parse(path) {
                roots.push(Root { path, holder: Holder::Temporary(process.to_string()) });
            }
        };
        for_each_temp_root(&state, stale, &mut visit, &mut |error| unreadable.push(error))?;
        if stale == Stale::Remove
            && let Some(error) = unreadable.pop()
        {
            return Err(error.into());
        }
        let warning = |error: &kiln_fs::Error| format!("passing over temporary roots: {error}");
        let warnings = unreadable.iter().map(warning).collect();
        Ok(Found { roots, warnings })
    }

    /// Those that are links, or in use by running processes.
    pub(crate) fn lasting_roots(&self, stale: Stale) -> Result<Found> {
        let locations = &self.config().locations;
        let state = Directory::open(&locations.state_dir)?;
        let mut found = links::find(&state, self.store_dir(), stale)?;
        let real_dir = Some(locations.real_dir.as_path()).filter(|_| locations.is_diverted());
        found.roots.extend(running::find(Path::new("/proc"), self.store_dir(), real_dir)?);
        Ok(found)
    }
}
