//! The collector's lock: the file `gc.lock` in the state directory.
//!
//! A collector holds it exclusively for as long as paths may vanish. Whoever adds a temporary root, or looks at all paths of
//! the store and wants none to vanish meanwhile, holds it shared with others.

use crate::component::Component;
use crate::directory::Directory;
use crate::error::{During as _, Result};
use crate::path_locks::lock_file;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How often is looked whether the lock is free. It isn't waited for in the system, where nobody could be called back.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whom a lock keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Collectors.
    Shared,
    /// Everybody.
    Exclusive,
}

/// The collector's lock of a store, held while this value lives.
#[derive(Debug)]
pub struct CollectorLock {
    file: OwnedFd,
}

impl CollectorLock {
    /// Takes the lock if nobody is in the way.
    ///
    /// # Errors
    /// If the file can't be made or locked.
    pub fn try_acquire(state: &Directory, access: Access) -> Result<Option<Self>> {
        let name = Component::new("gc.lock")?;
        let path = || state.path_of(&name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(state, name.as_c_str(), flags, Mode::from_raw_mode(0o600))
            .during("open", path)?;
        let operation = match access {
            Access::Shared => FlockOperation::NonBlockingLockShared,
            Access::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match lock_file(&file, operation) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).during("lock", path),
        }
    }

    /// Takes the lock, waiting for those who are in the way; `keep_waiting` is asked again and again meanwhile, and nothing
    /// comes of it if it says no.
    ///
    /// # Errors
    /// If the file can't be made or locked.
    pub fn acquire(
        state: &Directory,
        access: Access,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Self>> {
        loop {
            if let Some(lock) = Self::try_acquire(state, access)? {
                return Ok(Some(lock));
            }
            if !keep_waiting() {
                return Ok(None);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets others than collectors in, as far as nobody is faster: then the lock is lost.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn share(self) -> Result<Option<Self>> {
        match lock_file(&self.file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(self)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).during("lock", || "gc.lock"),
        }
    }
}
