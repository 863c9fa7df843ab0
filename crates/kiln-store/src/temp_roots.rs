//! The temporary roots of this process, and which of them belongs to whom.
//!
//! A process has one file of them for each state directory, named by its process id. So all stores that are open on one
//! state directory share it, and it is the process that keeps the list. In it, each root belongs to one or more
//! [holders](HeldRoots): a program as a whole, a client of a daemon, a goal. It is dropped with the last of them.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use kiln_fs::{Directory, Identity, TempRoots};

use crate::error::Result;

static OPEN: Mutex<Option<HashMap<Identity, Weak<SharedTempRoots>>>> = Mutex::new(None);

/// So many roots are taken out of the file at once: each is a write of some bytes to memory.
const FEW: usize = 64;

/// The temporary roots in one state directory.
pub(crate) struct SharedTempRoots {
    state: Mutex<State>,
    /// What holders have let go of, until somebody can take it out of the list.
    let_go: Mutex<Vec<HashSet<Arc<str>>>>,
}

struct State {
    directory: Directory,
    /// Made when the first root is added.
    file: Option<TempRoots>,
    /// How many holders each root has; what has none is not listed.
    holders: HashMap<Arc<str>, usize>,
}

/// Roots that are kept together for as long as this lives.
pub(crate) struct HeldRoots {
    shared: Arc<SharedTempRoots>,
    paths: Mutex<HashSet<Arc<str>>>,
}

/// Takes away what says that this process is at work in its stores. The process ends: threads of it that are given up may
/// still hold a store, and would leave that for others to find.
pub fn leave_stores() {
    let open = lock(&OPEN).take().unwrap_or_default();
    for shared in open.values().filter_map(Weak::upgrade) {
        // Whoever holds it is adding roots, and may be waiting for a collector.
        if let Ok(mut state) = shared.state.try_lock() {
            state.file = None;
        }
    }
}

impl SharedTempRoots {
    /// Those in `state_dir`, shared with whoever has opened them before.
    pub(crate) fn open(state_dir: &Path) -> Result<Arc<Self>> {
        let directory = Directory::open(state_dir)?;
        let identity = directory.own_status()?.identity;
        let mut open = lock(&OPEN);
        let open = open.get_or_insert_default();
        if let Some(shared) = open.get(&identity).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        open.retain(|_, shared| shared.strong_count() > 0);
        let state = State { directory, file: None, holders: HashMap::new() };
        let shared = Arc::new(Self { state: Mutex::new(state), let_go: Mutex::default() });
        open.insert(identity, Arc::downgrade(&shared));
        Ok(shared)
    }

    /// A holder that has nothing yet.
    pub(crate) fn holder(self: &Arc<Self>) -> HeldRoots {
        HeldRoots { shared: Arc::clone(self), paths: Mutex::default() }
    }

    /// Takes out of the list what holders have let go of.
    fn settle(&self) {
        let mut state = lock(&self.state);
        loop {
            let Some(paths) = lock(&self.let_go).pop() else { return };
            state.release(paths);
        }
    }
}

impl State {
    fn write(&mut self, paths: &[String]) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => TempRoots::create(&self.directory)?,
        };
        let result = file.add(paths);
        self.file = Some(file);
        Ok(result?)
    }

    /// Holds what others hold already; returns the rest.
    fn join(&mut self, wanted: Vec<String>, held: &mut HashSet<Arc<str>>) -> Vec<String> {
        let mut rest = Vec::new();
        for path in wanted {
            if held.contains(path.as_str()) {
                continue;
            }
            match self.holders.get_key_value(path.as_str()) {
                Some((known, _)) => {
                    let known = Arc::clone(known);
                    *self.holders.entry(Arc::clone(&known)).or_default() += 1;
                    held.insert(known);
                }
                None => rest.push(path),
            }
        }
        rest
    }

    fn release(&mut self, paths: HashSet<Arc<str>>) {
        let mut dropped = Vec::new();
        for path in paths {
            match self.holders.get_mut(&path) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.holders.remove(&path);
                    dropped.push(path);
                }
            }
        }
        if let Some(file) = &mut self.file {
            let paths: Vec<&[u8]> = dropped.iter().map(|path| path.as_bytes()).collect();
            // What cannot be taken out of the file keeps its paths until the process ends, which does no harm.
            let _ = file.remove(&paths);
        }
    }
}

impl HeldRoots {
    /// A holder of the same list that has nothing yet.
    pub(crate) fn another(&self) -> Self {
        self.shared.holder()
    }

    /// Holds full paths if somebody holds them all already, and returns whether that is so. Does not wait for anybody who
    /// is adding some: then it is not known.
    pub(crate) fn join_all(&self, paths: impl IntoIterator<Item = String>) -> bool {
        let mut state = match self.shared.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let rest = state.join(paths.into_iter().collect(), &mut lock(&self.paths));
        rest.is_empty()
    }

    /// Keeps full paths from being collected for as long as this lives. May wait for a collector that is deleting one of
    /// them.
    pub(crate) fn add(&self, paths: impl IntoIterator<Item = String>) -> Result<()> {
        self.shared.settle();
        let mut state = lock(&self.shared.state);
        let mut held = lock(&self.paths);
        let new = state.join(paths.into_iter().collect(), &mut held);
        if new.is_empty() {
            return Ok(());
        }
        state.write(&new)?;
        for path in new {
            let path: Arc<str> = path.into();
            if held.insert(Arc::clone(&path)) {
                state.holders.insert(path, 1);
            }
        }
        Ok(())
    }

    /// Whether this process is known to be at work here.
    pub(crate) fn are_begun(&self) -> bool {
        lock(&self.shared.state).file.is_some()
    }

    /// Makes it known, without keeping anything yet.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = lock(&self.shared.state);
        if state.file.is_none() {
            state.file = Some(TempRoots::create(&state.directory)?);
        }
        Ok(())
    }

    /// Holds a full path, and tells a collector that runs now of it, even if it is known to be kept already. Real Nix's reads
    /// the permanent roots before the temporary ones: what has become a permanent root by then, of a process that ends
    /// before the latter, it would see nowhere.
    pub(crate) fn announce(&self, path: String) -> Result<()> {
        self.add([path.clone()])?;
        lock(&self.shared.state).write(&[path])
    }
}

impl Drop for HeldRoots {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut *lock(&self.paths));
        if paths.is_empty() {
            return;
        }
        if paths.len() <= FEW
            && let Ok(mut state) = self.shared.state.try_lock()
        {
            return state.release(paths);
        }
        lock(&self.shared.let_go).push(paths);
        // Whoever adds roots meanwhile may be waiting for a collector, so that this must not be waited for here. If the
        // list is gone before its turn comes, so is the file.
        let shared = Arc::downgrade(&self.shared);
        let settle = move || {
            if let Some(shared) = shared.upgrade() {
                shared.settle();
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(settle)),
            Err(_) => settle(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What was not added is not in the list either.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
