//! Deleting many trees on several threads, while their names are free at once.
//!
//! What is to go is renamed into a directory beside it first, which is a matter of microseconds, and deleted from there. So
//! whoever waits for a name waits for the rename alone, and what a process that was killed has left is found in one place, by
//! the next [`Trash`](crate::Trash) or [`Disposal`], or any collector.

use crate::component::Component;
use crate::delete::{delete_tree, unlink_seen};
use crate::directory::Directory;
use crate::error::{During as _, Error, Result};
use crate::rename::rename_new;
use crate::status::Kind;
use crate::trash::Bin;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longest time without a look around while waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Size of a file that is deleted as quickly as it is moved, in bytes.
const SMALL: u64 = 1 << 20;

/// Failures that are remembered one by one.
const FAILURES: usize = 100;

/// Deletes what it is given.
#[derive(Debug)]
pub struct Disposal {
    bin: Bin,
    count: AtomicU64,
    queue: Option<Sender<Component>>,
    threads: Vec<JoinHandle<()>>,
    work: Arc<Work>,
}

/// What a disposal has come to.
#[derive(Debug, Default)]
pub struct Disposed {
    /// Bytes that were freed, as [`delete_tree`] counts them.
    pub freed: u64,
    /// What could not be deleted, the first hundred.
    pub failures: Vec<Error>,
}

#[derive(Debug)]
struct Work {
    parent: Directory,
    directory: Directory,
    state: Mutex<State>,
    /// Something was deleted.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    disposed: Disposed,
    /// How many things are yet to be deleted.
    pending: u64,
    given_up: bool,
}

impl Disposal {
    /// Threads that delete trees which are in `parent`.
    ///
    /// # Errors
    /// If the directory that they are moved to can't be made, or threads can't be started.
    pub fn start(parent: &Directory, threads: usize) -> Result<Self> {
        let bin = Bin::create(parent)?;
        let (queue, receiver) = unbounded();
        let work = Arc::new(Work {
            parent: parent.try_clone()?,
            directory: bin.directory.try_clone()?,
            state: Mutex::default(),
            progress: Condvar::new(),
        });
        let mut disposal =
            Self { bin, count: AtomicU64::new(0), queue: Some(queue), threads: Vec::new(), work };
        for _ in 0..threads.max(1) {
            let (work, receiver) = (disposal.work.clone(), receiver.clone());
            let started = thread::Builder::new()
                .name("deleting".to_owned())
                .spawn(move || work.delete_all(&receiver))
                .map_err(|source| Error::System {
                    action: "start a thread to delete in",
                    path: parent.path().to_owned(),
                    source,
                })?;
            disposal.threads.push(started);
        }
        Ok(disposal)
    }

    /// Frees the name `name`, and sees to it that what has it is deleted. Nothing happens if there is nothing.
    ///
    /// # Errors
    /// If it can neither be moved nor deleted; it is still there then, at least in parts.
    pub fn put(&self, name: &Component) -> Result<()> {
        let parent = &self.work.parent;
        match parent.status(name)? {
            None => return Ok(()),
            // To move it would take as long.
            Some(status) if status.kind != Kind::Directory && status.size <= SMALL => {
                let freed = unlink_seen(parent.as_fd(), name.as_c_str(), &status);
                self.freed_at_once(freed.during("delete", || parent.path().join(name.as_path()))?);
                return Ok(());
            }
            Some(_) => {}
        }
        let place = Component::new(self.count.fetch_add(1, Ordering::Relaxed).to_string())?;
        match rename_new((parent, name), (&self.bin.directory, &place)) {
            Ok(()) => {
                self.work.lock().pending += 1;
                if let Some(queue) = &self.queue {
                    // The threads end only after this.
                    let _ = queue.send(place);
                }
                Ok(())
            }
            Err(error) if error.is_not_found() && matches!(parent.status(name), Ok(None)) => Ok(()),
            // It may be a file system of its own, or another collector has taken the directory for what it is.
            Err(_) => {
                self.freed_at_once(delete_tree(parent, name)?);
                Ok(())
            }
        }
    }

    fn freed_at_once(&self, bytes: u64) {
        self.work.lock().disposed.freed += bytes;
    }

    /// Bytes that have been freed so far.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.work.lock().disposed.freed
    }

    /// How many things are yet to be deleted.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.work.lock().pending
    }

    /// Waits until all that was put here is deleted; `keep_waiting` is told again and again how much there is left, and can
    /// end the wait.
    pub fn settle(&self, keep_waiting: &mut dyn FnMut(u64) -> bool) {
        let mut state = self.work.lock();
        while state.pending > 0 {
            let pending = state.pending;
            drop(state);
            if !keep_waiting(pending) {
                return;
            }
            state = self.work.lock();
            if state.pending == pending {
                let waited = self.work.progress.wait_timeout(state, LOOK_AGAIN);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Ends the threads, and removes the directory; what wasn't deleted yet stays in it for the next collector.
    #[must_use]
    pub fn finish(mut self) -> Disposed {
        self.stop();
        let _ =
            rustix::fs::unlinkat(&self.work.parent, self.bin.name.as_c_str(), rustix::fs::AtFlags::REMOVEDIR);
        std::mem::take(&mut self.work.lock().disposed)
    }

    fn stop(&mut self) {
        self.work.lock().given_up = true;
        self.queue = None;
        for thread in self.threads.drain(..) {
            // It has nothing to tell; a panic of it would have been one of the deletion's.
            let _ = thread.join();
        }
    }
}

impl Drop for Disposal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    fn delete_all(&self, queue: &Receiver<Component>) {
        for name in queue {
            if self.lock().given_up {
                return;
            }
            let result = delete_tree(&self.directory, &name);
            let mut state = self.lock();
            state.pending -= 1;
            match result {
                Ok(freed) => state.disposed.freed += freed,
                Err(error) if state.disposed.failures.len() < FAILURES => {
                    state.disposed.failures.push(error);
                }
                Err(_) => {}
            }
            drop(state);
            self.progress.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole at every moment at which a panic could strike.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &std::path::Path, name: &str) -> Component {
        std::fs::create_dir_all(root.join(name).join("below")).unwrap();
        std::fs::write(root.join(name).join("below/file"), "contents").unwrap();
        Component::new(name).unwrap()
    }

    #[test]
    fn names_are_free_at_once_and_all_is_deleted() {
        let scratch = tempfile::tempdir().unwrap();
        let parent = Directory::open(scratch.path()).unwrap();
        let disposal = Disposal::start(&parent, 3).unwrap();
        for number in 0..50 {
            let name = tree(scratch.path(), &format!("tree{number}"));
            disposal.put(&name).unwrap();
            assert!(!scratch.path().join(name.as_path()).exists());
        }
        disposal.put(&Component::new("nothing").unwrap()).unwrap();
        disposal.settle(&mut |_| true);
        assert_eq!((disposal.pending(), disposal.freed()), (0, 400));
        let disposed = disposal.finish();
        assert!(disposed.failures.is_empty());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_gives_up_leaves_it_to_the_next() {
        let scratch = tempfile::tempdir().unwrap();
        let parent = Directory::open(scratch.path()).unwrap();
        let disposal = Disposal::start(&parent, 1).unwrap();
        // Whatever the thread has not come to yet.
        for number in 0..200 {
            let name = tree(scratch.path(), &format!("tree{number}"));
            disposal.put(&name).unwrap();
        }
        disposal.settle(&mut |_| false);
        drop(disposal);
        let next = Disposal::start(&parent, 1).unwrap();
        drop(next.finish());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
