//! Whether the contents of valid paths are still what they were: read once for each path that a request repairs (D2).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kiln_events::{EventSender, Verbosity};
use kiln_store::{LocalStore, Verdict, blocking};
use kiln_store_path::StorePath;

use crate::core::Core;
use crate::error::Failure;

/// What a request has found out.
#[derive(Debug, Default)]
pub(crate) struct Contents(Mutex<HashMap<StorePath, bool>>);

impl Contents {
    /// Whether a path is valid with the contents on record. Reads all of it, unless that was done before.
    pub(crate) fn are_good(
        &self,
        store: &LocalStore,
        events: &EventSender,
        path: &StorePath,
    ) -> Result<bool, Failure> {
        if let Some(known) = self.with(|known| known.get(path).copied()) {
            return Ok(known);
        }
        let printed = store.store_dir().display(path).to_string();
        events.message(Verbosity::Info, format!("checking path '{printed}'..."));
        let verdict = store.verify_contents_blocking(path)?;
        let good = matches!(verdict, Verdict::Good | Verdict::Recorded);
        if !good {
            events.message(Verbosity::Error, format!("path '{printed}' is corrupted or missing!"));
        }
        self.with(|known| known.insert(path.clone(), good));
        Ok(good)
    }

    /// Notes that a path was made anew.
    pub(crate) fn made(&self, path: &StorePath) {
        self.with(|known| known.insert(path.clone(), true));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<StorePath, bool>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// As [`Contents::are_good`], on a thread.
pub(crate) async fn contents_are_good(core: &Core, path: &StorePath) -> Result<bool, Failure> {
    let (contents, store, events) = (core.contents.clone(), core.store.clone(), core.events.clone());
    let path = path.clone();
    blocking(move || contents.are_good(&store, &events, &path)).await
}
