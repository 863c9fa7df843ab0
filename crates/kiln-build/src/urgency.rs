//! How much waits for each build that is under way, and what that does to those that wait for a slot (S3).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_derivation::Derivation;
use kiln_schedule::{CriticalPaths, Priority, Urgency};
use kiln_store_path::StorePath;

use crate::core::Shared;

/// What waits for what, by the paths of derivations.
#[derive(Debug, Default)]
pub(crate) struct Urgencies {
    paths: Mutex<CriticalPaths<StorePath>>,
}

/// A derivation that waits for others, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waits {
    urgencies: Arc<Urgencies>,
    derivation: StorePath,
    needs: Arc<[StorePath]>,
}

impl Shared {
    /// Takes note of a derivation that is to be built. What it needs may be more urgent now.
    pub(crate) fn waits_for_inputs(&self, path: &StorePath, derivation: &Derivation) -> Waits {
        let needs = derivation.input_derivations.keys().cloned().collect();
        self.waits_for(path, self.durations.estimate(derivation), needs)
    }

    /// Takes note of a derivation of which another is built in its place.
    pub(crate) fn waits_for_resolved(&self, path: &StorePath, resolved: &StorePath) -> Waits {
        let waits = self.waits_for(path, Duration::ZERO, Arc::new([resolved.clone()]));
        self.waits_only_for(path, resolved);
        waits
    }

    fn waits_for(&self, path: &StorePath, takes: Duration, needs: Arc<[StorePath]>) -> Waits {
        let changed: Vec<(StorePath, Urgency)> = {
            let mut paths = self.urgencies.lock();
            let changed = paths.add(path, takes, Arc::clone(&needs));
            changed.into_iter().map(|path| (path.clone(), paths.urgency(&path))).collect()
        };
        self.slot_pool.reprioritise(changed);
        Waits { urgencies: Arc::clone(&self.urgencies), derivation: path.clone(), needs }
    }

    /// A derivation waits for this one of its inputs alone now.
    pub(crate) fn waits_only_for(&self, path: &StorePath, input: &StorePath) {
        self.urgencies.lock().needs_only(path, input);
    }

    /// The derivations that can be built as soon as this one has been.
    pub(crate) fn ready_after(&self, path: &StorePath) -> Vec<StorePath> {
        self.urgencies.lock().ready_after(path)
    }

    /// Where the build of a derivation stands among others that could begin.
    pub(crate) fn priority(&self, path: &StorePath) -> Priority {
        Priority::plain(path.name(), path.base_name()).with_urgency(self.urgencies.lock().urgency(path))
    }
}

impl Urgencies {
    fn lock(&self) -> MutexGuard<'_, CriticalPaths<StorePath>> {
        // Estimates are estimates.
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.urgencies.lock().remove(&self.derivation, &self.needs);
    }
}
