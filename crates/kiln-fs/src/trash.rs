//! Trash: what is done with, moved aside to be deleted when there is time.
//!
//! To delete a file is cheap, but file systems without a journal avoid the numbers of files deleted in the last minute, and
//! look at each of them again for every file that is made. Whoever makes and deletes some files a thousand times is faster
//! if they are deleted in the end, all at once. Besides, a name is free at once whatever is below it.

use crate::component::Component;
use crate::delete::delete_tree;
use crate::directory::Directory;
use crate::error::{During as _, Error, Result};
use crate::fail_point::{FailPoint, fail_point};
use crate::rename::rename_new;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::any::Any;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};
use std::{fmt, io};

/// What the names of directories of trash begin with: [`Trash::STORE_PATH`].
const PREFIX: &str = "0000000000000000000000000000k1ln-trash-";

/// As many things are deleted faster on a thread of their own.
const WORTH_A_THREAD: usize = 16;

/// How many processes can have trash in the same directory; those beyond delete at once.
const NAMES: u32 = 64;

/// Things to be deleted later, by whoever calls [`Trash::empty`], at the latest when this is dropped.
///
/// They are kept in `0000000000000000000000000000k1ln-trash-<n>` (mode 0700, and locked by `flock` while it is in use) in the
/// directory that they come from. What a process that was killed has left in there is deleted by the next one that uses the
/// directory, or by a collector.
pub struct Trash {
    parent: Directory,
    spare: Box<Spare>,
    bin: Mutex<Option<(Bin, Spared)>>,
}

/// Keeps collectors away until what it returns is dropped.
type Spare = dyn Fn() -> io::Result<Spared> + Send + Sync;

/// Whatever keeps collectors away.
type Spared = Box<dyn Any + Send + Sync>;

/// The directory that things are moved to; it exists only while there are any.
#[derive(Debug)]
pub(crate) struct Bin {
    pub(crate) name: Component,
    pub(crate) directory: Directory,
    /// How many things have been put there.
    count: u64,
}

impl Trash {
    /// The base name of a store path: while it is a temporary root, collectors spare trash in the store directory, as they do
    /// everything with its digest. Real Nix's would fail otherwise if something came into a directory that it deletes.
    pub const STORE_PATH: &str = "0000000000000000000000000000k1ln-trash";

    /// Trash of things in `parent`, or elsewhere on the same file system. Nothing is made before it is needed.
    #[must_use]
    pub fn new(parent: Directory) -> Self {
        Self::spared_by(parent, || Ok(()))
    }

    /// Trash in a directory that is collected: `spare` is asked before it is made, and what it returns is kept as long as there
    /// is any. If it fails, things are deleted at once.
    #[must_use]
    pub fn spared_by<T: Send + Sync + 'static>(
        parent: Directory,
        spare: impl Fn() -> io::Result<T> + Send + Sync + 'static,
    ) -> Self {
        let spare = Box::new(move || spare().map(|spared| -> Spared { Box::new(spared) }));
        Self { parent, spare, bin: Mutex::new(None) }
    }

    /// Whether a name in a directory is one that trash has.
    #[must_use]
    pub fn is_name(name: &[u8]) -> bool {
        name.starts_with(PREFIX.as_bytes())
    }

    /// Deletes what processes that were killed have left in `parent`; returns how many bins that were.
    ///
    /// # Errors
    /// If something can't be deleted.
    pub fn remove_leftovers(parent: &Directory) -> Result<usize> {
        let mut removed = 0;
        for number in 0..NAMES {
            removed += usize::from(take_away(parent, &bin_name(number)?)? == Found::LeftOver);
        }
        Ok(removed)
    }

    /// Frees the name `name` in `directory`; what has it is deleted later. Where that isn't possible, it is deleted at once.
    ///
    /// Only for what is small: it takes up its place until the trash is emptied.
    ///
    /// # Errors
    /// If it can neither be moved nor deleted.
    pub fn put(&self, directory: &Directory, name: &Component) -> Result<()> {
        match self.take_in(directory, name) {
            Ok(()) => Ok(()),
            Err(error) if error.is_not_found() && !matches!(directory.status(name), Ok(Some(_))) => Ok(()),
            Err(_) => delete_tree(directory, name).map(drop),
        }
    }

    /// Makes an empty directory in the trash, to be moved elsewhere before that is emptied: where it is, what it is called
    /// there, and itself.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create_directory(&self, permissions: u32) -> Result<(Directory, Component, Directory)> {
        let mut guard = self.lock();
        let bin = match guard.take() {
            Some(bin) if bin.0.exists(&self.parent) => bin,
            // A collector took it for what it is.
            _ => self.create_bin()?,
        };
        let (bin, _) = guard.insert(bin);
        let name = bin.next_name()?;
        let made = bin.directory.create_directory(&name, permissions)?;
        Ok((bin.directory.try_clone()?, name, made))
    }

    fn create_bin(&self) -> Result<(Bin, Spared)> {
        let spared =
            (self.spare)().during("keep collectors away from", || self.parent.path().join(PREFIX))?;
        Ok((Bin::create(&self.parent)?, spared))
    }

    fn take_in(&self, directory: &Directory, name: &Component) -> Result<()> {
        let mut guard = self.lock();
        let bin = match guard.take() {
            Some(bin) => bin,
            None => self.create_bin()?,
        };
        let (bin, _) = guard.insert(bin);
        let place = bin.next_name()?;
        let moved = rename_new((directory, name), (&bin.directory, &place));
        if moved.is_err() && !bin.exists(&self.parent) {
            // A collector took it for what it is.
            *guard = None;
        }
        fail_point(FailPoint::TrashPut);
        moved
    }

    /// How many things are waiting to be deleted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().as_ref().map_or(0, |(bin, _)| bin.count)
    }

    /// Deletes everything, and the directory that it was in. Others can go on putting things into the trash meanwhile.
    ///
    /// # Errors
    /// The first of them, after everything has been tried.
    pub fn empty(&self) -> Result<()> {
        let Some((bin, _spared)) = self.lock().take() else { return Ok(()) };
        fail_point(FailPoint::TrashEmptied);
        bin.delete_things();
        // What could not be deleted is tried, and told, once more.
        delete_tree(&self.parent, &bin.name).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Bin, Spared)>> {
        // It is whole at every moment at which a panic could strike.
        self.bin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trash").field("parent", &self.parent).finish_non_exhaustive()
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        // What stays is deleted by the next process.
        let _ = self.empty();
    }
}

impl Bin {
    /// Makes one under the first name that is free, and deletes those that nobody uses.
    pub(crate) fn create(parent: &Directory) -> Result<Self> {
        let mut created = None;
        for number in 0..NAMES {
            let name = bin_name(number)?;
            match take_away(parent, &name)? {
                Found::InUse => continue,
                // Names are taken in their order: behind the first free one there is nothing but what was left.
                Found::Nothing if created.is_some() => break,
                Found::LeftOver | Found::Nothing => {}
            }
            if created.is_none() {
                created = Self::create_as(parent, name)?;
            }
        }
        created.ok_or_else(|| Error::System {
            action: "create directory",
            path: parent.path().join(PREFIX),
            source: Errno::EXIST.into(),
        })
    }

    /// `None` if somebody else was faster.
    fn create_as(parent: &Directory, name: Component) -> Result<Option<Self>> {
        let directory = match parent.create_directory(&name, 0o700) {
            Err(error) if error.already_exists() || error.is_not_found() => return Ok(None),
            directory => directory?,
        };
        fail_point(FailPoint::TrashMade);
        if !lock(&directory)? {
            return Ok(None);
        }
        let bin = Self { name, directory, count: 0 };
        Ok(bin.exists(parent).then_some(bin))
    }

    /// Deletes what is in it, much of it on several threads.
    fn delete_things(&self) {
        let Ok(names) = self.directory.names() else { return };
        let processors = available_parallelism().map_or(1, NonZero::get);
        let threads = (names.len() / WORTH_A_THREAD).min(processors);
        if threads < 2 {
            return;
        }
        // One of them may have to wait for the disk meanwhile.
        let next = AtomicUsize::new(0);
        let share = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let _ = delete_tree(&self.directory, name);
            }
        };
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(share))));
    }

    /// A name that nothing in it has.
    fn next_name(&mut self) -> Result<Component> {
        self.count += 1;
        Ok(Component::new(self.count.to_string())?)
    }

    /// Whether it still has its name.
    fn exists(&self, parent: &Directory) -> bool {
        self.directory.is_at(parent, &self.name).unwrap_or(false)
    }
}

/// What had the name of a bin.
#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    InUse,
    /// It is deleted now.
    LeftOver,
}

fn bin_name(number: u32) -> Result<Component> {
    Ok(Component::new(format!("{PREFIX}{number}"))?)
}

/// Deletes a bin that nobody uses.
fn take_away(parent: &Directory, name: &Component) -> Result<Found> {
    match parent.subdirectory(name) {
        // Whoever used it may have deleted it before it was locked, and somebody else may have one of the same name by now.
        Ok(left) if lock(&left)? && left.is_at(parent, name)? => {
            delete_tree(parent, name).map(|_| Found::LeftOver)
        }
        Ok(_in_use) => Ok(Found::InUse),
        Err(error) if error.is_not_found() => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// Locks a directory as long as it is open; `false` if somebody else has.
fn lock(directory: &Directory) -> Result<bool> {
    match flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno).during("lock", || directory.path()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn scratch() -> (tempfile::TempDir, Directory) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        (temporary, directory)
    }

    fn names(directory: &Directory) -> Vec<String> {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn bin(number: u32) -> String {
        format!("{}-{number}", Trash::STORE_PATH)
    }

    fn make(directory: &Directory, name: &str) -> Component {
        std::fs::create_dir_all(directory.path().join(name).join("below")).unwrap();
        std::fs::write(directory.path().join(name).join("below/file"), "contents").unwrap();
        Component::new(name).unwrap()
    }

    #[test]
    fn what_is_put_there_goes_away_in_the_end() {
        let (_temporary, directory) = scratch();
        let trash = Trash::new(directory.try_clone().unwrap());
        for name in ["a", "b", "a"] {
            trash.put(&directory, &make(&directory, name)).unwrap();
        }
        assert_eq!(names(&directory), [bin(0)], "the names are free at once");
        assert_eq!(trash.count(), 3);
        trash.empty().unwrap();
        assert!(names(&directory).is_empty());
        assert_eq!(trash.count(), 0);
        trash.put(&directory, &make(&directory, "c")).unwrap();
        drop(trash);
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn much_goes_away_too() {
        let (_temporary, directory) = scratch();
        let trash = Trash::new(directory.try_clone().unwrap());
        for number in 0..WORTH_A_THREAD * 5 + 1 {
            trash.put(&directory, &make(&directory, &number.to_string())).unwrap();
        }
        trash.empty().unwrap();
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let (_temporary, directory) = scratch();
        let trash = Trash::new(directory.try_clone().unwrap());
        trash.put(&directory, &Component::new("nothing").unwrap()).unwrap();
        drop(trash);
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn each_has_its_own_and_leftovers_are_deleted() {
        let (_temporary, directory) = scratch();
        make(&directory, &bin(1));
        let (first, second) =
            (Trash::new(directory.try_clone().unwrap()), Trash::new(directory.try_clone().unwrap()));
        first.put(&directory, &make(&directory, "a")).unwrap();
        assert_eq!(names(&directory), [bin(0)], "nobody used the other one");
        second.put(&directory, &make(&directory, "b")).unwrap();
        make(&directory, &bin(7));
        assert_eq!(Trash::remove_leftovers(&directory).unwrap(), 1);
        assert_eq!(names(&directory), [bin(0), bin(1)]);
        first.empty().unwrap();
        assert_eq!(names(&directory), [bin(1)]);
    }

    #[test]
    fn it_is_spared_as_long_as_there_is_any() {
        let (_temporary, directory) = scratch();
        let spared = Arc::new(());
        let keeper = Arc::downgrade(&spared);
        let may_not = Arc::new(AtomicBool::new(false));
        let trash = Trash::spared_by(directory.try_clone().unwrap(), {
            let may_not = Arc::clone(&may_not);
            move || {
                if may_not.load(Ordering::Relaxed) { Err(Errno::ROFS.into()) } else { Ok(keeper.upgrade()) }
            }
        });
        for _ in 0..2 {
            trash.put(&directory, &make(&directory, "a")).unwrap();
            trash.put(&directory, &make(&directory, "b")).unwrap();
            assert_eq!(Arc::strong_count(&spared), 2);
            trash.empty().unwrap();
            assert_eq!(Arc::strong_count(&spared), 1);
        }
        may_not.store(true, Ordering::Relaxed);
        trash.put(&directory, &make(&directory, "c")).unwrap();
        assert!(names(&directory).is_empty(), "deleted at once");
    }

    #[test]
    fn trash_that_somebody_else_has_deleted_is_no_loss() {
        let (_temporary, directory) = scratch();
        let trash = Trash::new(directory.try_clone().unwrap());
        trash.put(&directory, &make(&directory, "a")).unwrap();
        std::fs::remove_dir_all(directory.path().join(bin(0))).unwrap();
        trash.put(&directory, &make(&directory, "b")).unwrap();
        assert!(names(&directory).is_empty(), "deleted at once");
        trash.put(&directory, &make(&directory, "c")).unwrap();
        assert_eq!(names(&directory), [bin(0)]);
    }
}
