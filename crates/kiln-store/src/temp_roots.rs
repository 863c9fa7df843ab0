//! The temporary roots of this process.
//!
//! A process has one file of them for each state directory, named by its process id. So all stores that are open on one
//! state directory share it, and it is the process that keeps the list.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use kiln_fs::{Directory, Identity, TempRoots};

use crate::error::Result;

static OPEN: Mutex<Option<HashMap<Identity, Weak<SharedTempRoots>>>> = Mutex::new(None);

/// The temporary roots in one state directory.
pub(crate) struct SharedTempRoots(Mutex<State>);

struct State {
    directory: Directory,
    /// Made when the first root is added.
    file: Option<TempRoots>,
    added: HashSet<String>,
}

impl SharedTempRoots {
    /// Those in `state_dir`, shared with whoever has opened them before.
    pub(crate) fn open(state_dir: &Path) -> Result<Arc<Self>> {
        let directory = Directory::open(state_dir)?;
        let identity = directory.own_status()?.identity;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(shared) = open.get(&identity).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        open.retain(|_, shared| shared.strong_count() > 0);
        let state = State { directory, file: None, added: HashSet::new() };
        let shared = Arc::new(Self(Mutex::new(state)));
        open.insert(identity, Arc::downgrade(&shared));
        Ok(shared)
    }

    /// Whether all these full paths are known to be kept already. Does not wait for anybody who is adding some: then it is
    /// not known.
    pub(crate) fn has_all(&self, paths: impl IntoIterator<Item = String>) -> bool {
        let state = match self.0.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        paths.into_iter().all(|path| state.added.contains(&path))
    }

    /// Keeps full paths from being collected for as long as any store is open on this state directory. May wait for a
    /// collector that is deleting one of them.
    pub(crate) fn add(&self, paths: impl IntoIterator<Item = String>) -> Result<()> {
        let mut state = self.lock();
        let new: Vec<String> = paths.into_iter().filter(|path| !state.added.contains(path)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut file = match state.file.take() {
            Some(file) => file,
            None => TempRoots::create(&state.directory)?,
        };
        let result = file.add(&new);
        state.file = Some(file);
        result?;
        state.added.extend(new);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What was not added is not in the list either.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
