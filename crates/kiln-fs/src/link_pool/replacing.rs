//! Replacing files of a tree by links to entries, in a large tree beside finding them: the one changes the tree's directories,
//! the other adds to the pool's.

use super::{Entry, LinkPool, Linkable, Linked, PooledFiles};
use crate::error::{During as _, Result};
use crate::status::Status;
use kiln_hash::Sha256;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

/// So many files are replaced by whoever finds them: a thread isn't worth it for less.
const FEW: u64 = 64;

/// As many files wait to be replaced; for each, a descriptor is open.
const WAITING: usize = 64;

/// The thread, and the way to it.
type Thread<'scope> = (SyncSender<Waiting>, ScopedJoinHandle<'scope, Result<Linked>>);

/// Replaces files, the first ones at once and the others on a thread of its own.
pub(super) struct Replacing<'a, 'scope> {
    pool: &'a LinkPool,
    pooled: &'a PooledFiles,
    scope: &'scope Scope<'scope, 'a>,
    linked: Linked,
    thread: Option<Thread<'scope>>,
}

/// A file that is to be replaced.
struct Waiting {
    parent: OwnedFd,
    name: CString,
    in_tree: bool,
    status: Status,
    entry: Entry,
    hash: Sha256,
    path: PathBuf,
}

impl<'a, 'scope> Replacing<'a, 'scope> {
    pub(super) fn new(pool: &'a LinkPool, pooled: &'a PooledFiles, scope: &'scope Scope<'scope, 'a>) -> Self {
        Self { pool, pooled, scope, linked: Linked::default(), thread: None }
    }

    /// Puts a link to an entry in place of a file, now or later.
    ///
    /// # Errors
    /// This file can't be replaced, or one before it.
    pub(super) fn replace(
        &mut self,
        file: &Linkable<'_>,
        entry: Entry,
        hash: Sha256,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<()> {
        if self.thread.is_none() && self.linked.files >= FEW {
            self.thread = self.start();
        }
        let Some((sender, _)) = &self.thread else {
            return self.pool.share_or_link(file, &entry, &hash, (&mut self.linked, self.pooled), path);
        };
        let parent = file.parent.try_clone_to_owned().during("keep open the directory of", path)?;
        let (name, in_tree, status) = (file.name.to_owned(), file.in_tree, file.status);
        let waiting = Waiting { parent, name, in_tree, status, entry, hash, path: path() };
        // Nobody receives after an error.
        if sender.send(waiting).is_err() { self.wait() } else { Ok(()) }
    }

    /// Starts the thread, unless the system has none.
    fn start(&self) -> Option<Thread<'scope>> {
        let (sender, receiver) = sync_channel(WAITING);
        let (pool, pooled) = (self.pool, self.pooled);
        let replace = move || replace_all(pool, pooled, &receiver);
        let thread =
            thread::Builder::new().name("replacing files".to_owned()).spawn_scoped(self.scope, replace);
        Some((sender, thread.ok()?))
    }

    /// Waits until all are replaced, and tells what that has brought.
    ///
    /// # Errors
    /// The first that there was on the thread.
    pub(super) fn finish(mut self) -> Result<Linked> {
        self.wait()?;
        Ok(self.linked)
    }

    fn wait(&mut self) -> Result<()> {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let later = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            self.linked.files += later.files;
            self.linked.bytes += later.bytes;
        }
        Ok(())
    }
}

fn replace_all(pool: &LinkPool, pooled: &PooledFiles, files: &Receiver<Waiting>) -> Result<Linked> {
    let mut linked = Linked::default();
    for waiting in files {
        let Waiting { parent, name, in_tree, status, entry, hash, path } = waiting;
        let file = Linkable { parent: parent.as_fd(), name: &name, in_tree, status };
        pool.share_or_link(&file, &entry, &hash, (&mut linked, pooled), &|| path.clone())?;
    }
    Ok(linked)
}
