//! Path info that was looked up before, and which paths were not valid then.
//!
//! Entries are true only as long as nobody invalidates their paths, or makes them valid. What this process changes is forgotten
//! right away; when the database says that another process has changed it, everything is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

/// Paths that were not valid are remembered up to so many, and then forgotten together.
const ABSENT: usize = 1 << 14;

/// A bounded map from valid paths to their path info.
pub(crate) struct InfoCache {
    state: Mutex<State>,
    capacity: usize,
}

/// Two generations instead of a list of uses: what is used moves to the recent one; when that is full it becomes the
/// older one, and what nobody used for so long is gone.
struct State {
    recent: HashMap<StorePath, Arc<PathInfo>>,
    older: HashMap<StorePath, Arc<PathInfo>>,
    /// Paths that are not valid.
    absent: HashSet<StorePath>,
    stamp: Stamp,
}

/// The state of the database as far as the cache knows. What was read at one stamp may be kept only under the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Changes when another process changes the database.
    foreign: i64,
    /// Counts what this process has changed.
    own: u64,
}

impl InfoCache {
    pub(crate) fn new(capacity: usize) -> Self {
        let stamp = Stamp { foreign: 0, own: 0 };
        let state = State { recent: HashMap::new(), older: HashMap::new(), absent: HashSet::new(), stamp };
        Self { state: Mutex::new(state), capacity: capacity.div_ceil(2) }
    }

    /// Looks up a path; `foreign` is the database's version for foreign changes. Also returns the stamp under which what
    /// is read from the database now may be kept; `None` if that version is not known.
    pub(crate) fn get(
        &self,
        foreign: Option<i64>,
        path: &StorePath,
    ) -> (Option<Arc<PathInfo>>, Option<Stamp>) {
        let Some(mut state) = self.of_version(foreign) else { return (None, None) };
        let stamp = Some(state.stamp);
        if let Some(info) = state.recent.get(path) {
            return (Some(info.clone()), stamp);
        }
        match state.older.remove(path) {
            Some(info) => {
                self.keep(&mut state, info.clone());
                (Some(info), stamp)
            }
            None => (None, stamp),
        }
    }

    /// The stamp under which what is read from the database now may be kept.
    pub(crate) fn stamp(&self, foreign: Option<i64>) -> Option<Stamp> {
        self.of_version(foreign).map(|state| state.stamp)
    }

    /// What is known, without what another process may have changed.
    fn of_version(&self, foreign: Option<i64>) -> Option<MutexGuard<'_, State>> {
        let foreign = foreign?;
        let mut state = self.lock();
        if state.stamp.foreign != foreign {
            state.stamp.foreign = foreign;
            state.recent.clear();
            state.older.clear();
            state.absent.clear();
        }
        Some(state)
    }

    /// Keeps what was read, unless something has changed since `stamp`.
    pub(crate) fn insert(&self, stamp: Option<Stamp>, info: Arc<PathInfo>) {
        let mut state = self.lock();
        if stamp == Some(state.stamp) {
            self.keep(&mut state, info);
        }
    }

    /// Those of `paths` that are valid, if that is known of each.
    pub(crate) fn valid_among(
        &self,
        foreign: Option<i64>,
        paths: &[StorePath],
    ) -> Option<BTreeSet<StorePath>> {
        let state = self.of_version(foreign)?;
        let mut valid = BTreeSet::new();
        for path in paths {
            if state.recent.contains_key(path) || state.older.contains_key(path) {
                valid.insert(path.clone());
            } else if !state.absent.contains(path) {
                return None;
            }
        }
        Some(valid)
    }

    /// Remembers that paths were not valid when they were read, unless something has changed since `stamp`.
    pub(crate) fn note_absent(&self, stamp: Option<Stamp>, paths: impl IntoIterator<Item = StorePath>) {
        let mut state = self.lock();
        if self.capacity == 0 || stamp != Some(state.stamp) {
            return;
        }
        if state.absent.len() >= ABSENT {
            state.absent.clear();
        }
        let room = ABSENT.saturating_sub(state.absent.len());
        state.absent.extend(paths.into_iter().take(room));
    }

    /// Forgets paths that this process has changed.
    pub(crate) fn forget<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) {
        self.replace(None, paths, []);
    }

    /// Forgets paths that this process has changed, and keeps what is known of them now, unless something else has changed since
    /// `before`.
    pub(crate) fn replace<'a>(
        &self,
        before: Option<Stamp>,
        paths: impl IntoIterator<Item = &'a StorePath>,
        known: impl IntoIterator<Item = Arc<PathInfo>>,
    ) {
        let mut state = self.lock();
        let is_only_change = before == Some(state.stamp);
        state.stamp.own += 1;
        for path in paths {
            state.recent.remove(path);
            state.older.remove(path);
            state.absent.remove(path);
        }
        if is_only_change {
            known.into_iter().for_each(|info| self.keep(&mut state, info));
        }
    }

    fn keep(&self, state: &mut State, info: Arc<PathInfo>) {
        if self.capacity == 0 {
            return;
        }
        if state.recent.len() >= self.capacity {
            state.older = std::mem::take(&mut state.recent);
        }
        state.absent.remove(&info.path);
        state.recent.insert(info.path.clone(), info);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every step leaves a whole cache.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_hash::Sha256;

    fn info(number: usize) -> Arc<PathInfo> {
        let path = StorePath::from_base_name(format!("{number:032}-p")).unwrap();
        Arc::new(PathInfo::new(path, Sha256::UNKNOWN, 1))
    }

    fn stamp(cache: &InfoCache, foreign: i64) -> Option<Stamp> {
        cache.stamp(Some(foreign))
    }

    #[test]
    fn keeps_what_is_used_and_stays_bounded() {
        let cache = InfoCache::new(20);
        let stamp = stamp(&cache, 1);
        for number in 0..100 {
            cache.insert(stamp, info(number));
            assert!(
                cache.get(Some(1), &info(0).path).0.is_some(),
                "0 is used all the time, also after {number}"
            );
        }
        let kept = (0..100).filter(|number| cache.get(Some(1), &info(*number).path).0.is_some()).count();
        assert!((10..=20).contains(&kept), "{kept}");
    }

    #[test]
    fn what_changes_is_forgotten() {
        let cache = InfoCache::new(20);
        cache.insert(stamp(&cache, 1), info(1));
        cache.insert(stamp(&cache, 1), info(2));
        cache.forget([&info(1).path]);
        assert!(cache.get(Some(1), &info(1).path).0.is_none());
        assert!(cache.get(Some(1), &info(2).path).0.is_some());
        assert!(cache.get(Some(2), &info(2).path).0.is_none(), "another process has changed something");
    }

    #[test]
    fn what_a_change_has_made_is_known_unless_there_was_another() {
        let cache = InfoCache::new(20);
        let (before, one) = (stamp(&cache, 1), info(1));
        cache.replace(before, [&one.path], [one.clone()]);
        assert_eq!(cache.get(Some(1), &one.path).0, Some(one.clone()));
        // Of two that began together, the later one does not know what the other has done.
        let before = stamp(&cache, 1);
        cache.replace(before, [&info(2).path], [info(2)]);
        cache.replace(before, [&one.path], [one.clone()]);
        assert!(cache.get(Some(1), &info(2).path).0.is_some());
        assert!(cache.get(Some(1), &one.path).0.is_none());
        let before = stamp(&cache, 1);
        assert!(cache.get(Some(2), &one.path).0.is_none(), "another process has changed something");
        cache.replace(before, [&one.path], [one.clone()]);
        assert!(cache.get(Some(2), &one.path).0.is_none());
    }

    #[test]
    fn what_is_not_valid_is_known_until_it_may_be() {
        let cache = InfoCache::new(20);
        let [one, two] = [1, 2].map(|number| info(number).path.clone());
        let both = [one.clone(), two.clone()];
        cache.note_absent(stamp(&cache, 1), [one.clone()]);
        assert_eq!(cache.valid_among(Some(1), &both), None, "nothing is known of the other");
        cache.insert(stamp(&cache, 1), info(2));
        assert_eq!(cache.valid_among(Some(1), &both), Some(BTreeSet::from([two.clone()])));
        // This process has made it valid; what was read before that is not kept after it.
        let before = stamp(&cache, 1);
        cache.forget([&one]);
        assert_eq!(cache.valid_among(Some(1), &both), None);
        cache.note_absent(before, [one.clone()]);
        assert_eq!(cache.valid_among(Some(1), &both), None);
        cache.note_absent(stamp(&cache, 1), [one.clone()]);
        assert_eq!(cache.valid_among(Some(1), &both), Some(BTreeSet::from([two])));
        assert_eq!(cache.valid_among(Some(2), &[one]), None, "another process has changed something");
        assert_eq!(cache.valid_among(None, &[]), None);
    }

    #[test]
    fn what_is_not_valid_takes_bounded_room() {
        let cache = InfoCache::new(20);
        let mut most = 0;
        for start in [0, ABSENT, 2 * ABSENT] {
            cache.note_absent(
                stamp(&cache, 1),
                (start..start + ABSENT + 9).map(|number| info(number).path.clone()),
            );
            most = most.max(cache.lock().absent.len());
        }
        assert_eq!(most, ABSENT);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let cache = InfoCache::new(20);
        let before = stamp(&cache, 1);
        cache.forget([&info(5).path]);
        cache.insert(before, info(5));
        assert!(cache.get(Some(1), &info(5).path).0.is_none());
        let before = stamp(&cache, 1);
        stamp(&cache, 2);
        cache.insert(before, info(5));
        assert!(cache.get(Some(2), &info(5).path).0.is_none());
        cache.insert(None, info(5));
        assert!(cache.get(Some(2), &info(5).path).0.is_none());
    }
}
