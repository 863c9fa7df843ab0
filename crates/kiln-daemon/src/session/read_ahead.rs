//! Guessing what a client asks next.
//!
//! Clients find out closures by asking for one path after the other, and wait for each answer. So when a client asks for a
//! path that another one refers to of which it has just been told, it will most likely ask for the next of these references
//! too, and they are looked up together: most of what it costs to look up a path is to go to another thread and back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

/// Paths that are looked up together.
const TOGETHER: usize = 64;

/// Of how many paths the references are remembered.
const REMEMBERED: usize = 16;

/// What a client was told last, of paths that refer to others.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    told: Mutex<VecDeque<Arc<PathInfo>>>,
}

impl ReadAhead {
    /// Notes what a client is told.
    pub(super) fn tell(&self, info: &Arc<PathInfo>) {
        if info.references.len() > 1 {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.truncate(REMEMBERED - 1);
            told.push_front(Arc::clone(info));
        }
    }

    /// What to look up together with a path; nothing if the path is not expected.
    pub(super) fn together_with(&self, path: &StorePath) -> Vec<StorePath> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = told.iter().find(|info| info.references.contains(path));
        expected.map_or_else(Vec::new, |info| info.references.range(path..).take(TOGETHER).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use kiln_hash::Sha256;

    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(format!("{number:0>32}-x")).unwrap()
    }

    fn told(path_number: usize, references: impl IntoIterator<Item = usize>) -> Arc<PathInfo> {
        let mut info = PathInfo::new(path(path_number), Sha256::UNKNOWN, 0);
        info.references = references.into_iter().map(path).collect();
        Arc::new(info)
    }

    #[test]
    fn who_was_told_of_references_will_ask_for_the_next_ones() {
        let ahead = ReadAhead::default();
        assert_eq!(ahead.together_with(&path(1)), []);
        ahead.tell(&told(0, 1..1000));
        assert_eq!(ahead.together_with(&path(5)), (5..5 + TOGETHER).map(path).collect::<Vec<_>>());
        assert_eq!(ahead.together_with(&path(998)), [path(998), path(999)]);
        assert_eq!(ahead.together_with(&path(1000)), []);
        for number in 2000..2000 + REMEMBERED {
            ahead.tell(&told(number, [number, 3000]));
        }
        assert_eq!(ahead.together_with(&path(5)), [], "that was long ago");
        assert_eq!(ahead.together_with(&path(2003)), [path(2003), path(3000)]);
    }
}
