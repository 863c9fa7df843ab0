//! What failed and because of what, kept until every request that might ask has been answered.

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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_path: HashMap<StorePath, Known>,
    requests: BTreeSet<u64>,
    next_request: u64,
}

/// A failure, and the number of the first request that cannot have seen it.
#[derive(Debug)]
struct Known {
    goal: Arc<FailedGoal>,
    before: u64,
}

/// A request that may ask; what has failed while it lasted is forgotten when all such requests are gone.
#[derive(Debug)]
pub(crate) struct Remembering {
    failures: Arc<Failures>,
    request: u64,
}

impl Failures {
    pub(crate) fn remember(self: &Arc<Self>) -> Remembering {
        let request = self.with(|state| {
            let request = state.next_request;
            state.next_request += 1;
            state.requests.insert(request);
            request
        });
        Remembering { failures: Arc::clone(self), request }
    }

    pub(crate) fn add(&self, path: StorePath, goal: FailedGoal) {
        self.with(|state| {
            let failure = Known { goal: Arc::new(goal), before: state.next_request };
            state.by_path.insert(path, failure);
        });
    }

    /// All that failed below `paths` and themselves, and of each, which of them needed it.
    pub(crate) fn below(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> BTreeMap<StorePath, (Arc<FailedGoal>, BTreeSet<StorePath>)> {
        let mut found: BTreeMap<StorePath, (Arc<FailedGoal>, BTreeSet<StorePath>)> = BTreeMap::new();
        let mut open: Vec<(StorePath, Option<StorePath>)> =
            paths.into_iter().map(|path| (path, None)).collect();
        self.with(|state| {
            while let Some((path, needed_by)) = open.pop() {
                if let Some((_, needing)) = found.get_mut(&path) {
                    needing.extend(needed_by);
                } else if let Some(Known { goal, .. }) = state.by_path.get(&path) {
                    open.extend(goal.because_of.iter().map(|below| (below.clone(), Some(path.clone()))));
                    found.insert(path, (Arc::clone(goal), needed_by.into_iter().collect()));
                }
            }
        });
        found
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        self.failures.with(|state| {
            state.requests.remove(&self.request);
            match state.requests.first().copied() {
                None => state.by_path.clear(),
                Some(oldest) => state.by_path.retain(|_, failure| failure.before > oldest),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_events::BuildStatus;

    fn fail(failures: &Failures, path: &StorePath) {
        let result = BuildResult::failure(BuildStatus::MiscFailure, "failed");
        failures.add(path.clone(), FailedGoal { result, because_of: Vec::new() });
    }

    #[test]
    fn failures_are_forgotten_with_the_last_request_that_saw_them() {
        let failures = Arc::new(Failures::default());
        let paths =
            ["a", "b"].map(|name| StorePath::from_base_name(format!("{}-{name}", "1".repeat(32))).unwrap());
        let known = |failures: &Failures| failures.below(paths.iter().cloned()).len();
        let first = failures.remember();
        fail(&failures, &paths[0]);
        let second = failures.remember();
        fail(&failures, &paths[1]);
        assert_eq!(known(&failures), 2);
        drop(first);
        assert_eq!(known(&failures), 1, "the second request began after the first failure");
        drop(second);
        assert_eq!(known(&failures), 0);
    }
}
