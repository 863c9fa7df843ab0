//! What failed and because of what, kept until every request has been answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_events::BuildResult;
use kiln_store_path::StorePath;

/// A goal that failed.
#[derive(Debug)]
pub(crate) struct FailedGoal {
    pub(crate) result: BuildResult,
    /// What it needed and what failed, too; empty for the root of a failure.
    pub(crate) because_of: Vec<StorePath>,
}

/// The failures of an engine, by path.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    goals: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_path: HashMap<StorePath, Arc<FailedGoal>>,
    requests: usize,
}

/// A request that may ask; failures are forgotten when the last one is gone.
#[derive(Debug)]
pub(crate) struct Remembering(Arc<Failures>);

impl Failures {
    pub(crate) fn remember(self: &Arc<Self>) -> Remembering {
        self.with(|known| known.requests += 1);
        Remembering(Arc::clone(self))
    }

    pub(crate) fn add(&self, path: StorePath, goal: FailedGoal) {
        self.with(|known| known.by_path.insert(path, Arc::new(goal)));
    }

    /// All that failed below `paths` and themselves, and of each, which of them needed it.
    pub(crate) fn below(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> BTreeMap<StorePath, (Arc<FailedGoal>, BTreeSet<StorePath>)> {
        let mut found: BTreeMap<StorePath, (Arc<FailedGoal>, BTreeSet<StorePath>)> = BTreeMap::new();
        let mut open: Vec<(StorePath, Option<StorePath>)> =
            paths.into_iter().map(|path| (path, None)).collect();
        self.with(|known| {
            while let Some((path, needed_by)) = open.pop() {
                if let Some((_, needing)) = found.get_mut(&path) {
                    needing.extend(needed_by);
                } else if let Some(goal) = known.by_path.get(&path) {
                    open.extend(goal.because_of.iter().map(|below| (below.clone(), Some(path.clone()))));
                    found.insert(path, (Arc::clone(goal), needed_by.into_iter().collect()));
                }
            }
        });
        found
    }

    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.goals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        self.0.with(|known| {
            known.requests -= 1;
            if known.requests == 0 {
                known.by_path.clear();
            }
        });
    }
}
