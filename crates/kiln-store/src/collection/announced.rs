//! What the collector and those who work with the store at the same time agree on.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_store_path::StorePath;
use rustix::event::{EventfdFlags, eventfd};

/// Paths that are temporary roots, and those that are being deleted right now. A path stands for all that begins with its
/// digest: its lock, its scratch directories.
#[derive(Debug)]
pub(super) struct Announced {
    state: Mutex<State>,
    /// Becomes readable when something was deleted.
    changed: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    digests: HashSet<String>,
    /// Announced since the collector has looked last.
    new: Vec<StorePath>,
    /// Of each claim.
    deleting: BTreeMap<u64, HashSet<String>>,
    claims: u64,
}

/// What the collector sees when it decides what to delete next.
pub(super) struct Announcements<'a> {
    digests: &'a HashSet<String>,
    /// Paths that have been announced since the last time.
    pub(super) new: Vec<StorePath>,
}

impl Announcements<'_> {
    /// Whether anybody is using the store, as far as is known.
    pub(super) fn are_there(&self) -> bool {
        !self.digests.is_empty()
    }

    /// Whether a path, or what belongs to it, is spared.
    pub(super) fn spare(&self, path: &StorePath) -> bool {
        self.digests.contains(path.digest())
    }
}

/// The right to delete some paths: whoever wants one of them waits until this is dropped.
#[must_use]
pub(super) struct Claim<'a> {
    announced: &'a Announced,
    number: u64,
}

impl Announced {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: Mutex::default(), changed })
    }

    /// Somebody is about to use or make a path.
    pub(super) fn announce(&self, path: &StorePath) {
        let mut state = self.lock();
        if state.digests.insert(path.digest().to_owned()) {
            state.new.push(path.clone());
        }
    }

    /// Whether somebody has announced a path, or what it belongs to.
    pub(super) fn is_announced(&self, path: &StorePath) -> bool {
        self.lock().digests.contains(path.digest())
    }

    /// Whether a path is being deleted at the moment.
    pub(super) fn is_being_deleted(&self, path: &StorePath) -> bool {
        self.lock().deleting.values().any(|digests| digests.contains(path.digest()))
    }

    /// Lets `choose` say what is to be deleted, knowing of all announcements: nothing is announced meanwhile, and what is
    /// announced later of this has to wait.
    pub(super) fn claim<T>(
        &self,
        choose: impl FnOnce(&Announcements<'_>) -> Vec<T>,
        path: impl Fn(&T) -> Option<StorePath>,
    ) -> (Vec<T>, Claim<'_>) {
        let mut state = self.lock();
        let new = std::mem::take(&mut state.new);
        let chosen = choose(&Announcements { digests: &state.digests, new });
        let digests = chosen.iter().filter_map(path).map(|path| path.digest().to_owned()).collect();
        state.claims += 1;
        let number = state.claims;
        state.deleting.insert(number, digests);
        (chosen, Claim { announced: self, number })
    }

    /// Readable when something was deleted that somebody may be waiting for.
    pub(super) fn changes(&self) -> BorrowedFd<'_> {
        self.changed.as_fd()
    }

    /// Makes [`changes`](Self::changes) readable.
    pub(super) fn wake(&self) {
        // The counter can't overflow before somebody reads it.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    /// Makes [`changes`](Self::changes) unreadable until the next change.
    pub(super) fn take_changes(&self) {
        let _ = rustix::io::read(&self.changed, &mut [0_u8; 8]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A set with more or fewer paths is whole, too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.announced.lock().deleting.remove(&self.number);
        self.announced.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(format!("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-{name}")).unwrap()
    }

    #[test]
    fn what_is_announced_is_spared_and_what_is_claimed_is_waited_for() {
        let announced = Announced::new().unwrap();
        announced.announce(&path("a"));
        announced.announce(&path("a"));
        let other = StorePath::from_base_name("g2xrwb4h5qd18ndrzrgyp3lsmjbw4dks-b").unwrap();
        let (chosen, claim) = announced.claim(
            |announcements| {
                assert!(announcements.are_there());
                assert_eq!(announcements.new, [path("a")]);
                let all = [path("a"), path("a.lock"), other.clone()];
                all.into_iter().filter(|path| !announcements.spare(path)).collect()
            },
            |path| Some(path.clone()),
        );
        assert_eq!(chosen, std::slice::from_ref(&other));
        assert!(announced.is_announced(&path("a.lock")) && !announced.is_announced(&other));
        assert!(announced.is_being_deleted(&other) && !announced.is_being_deleted(&path("a")));
        let (_, next) = announced.claim(|_| vec![other.clone()], |path| Some(path.clone()));
        drop(claim);
        assert!(announced.is_being_deleted(&other), "the other claim stands");
        drop(next);
        assert!(!announced.is_being_deleted(&other));
        let (nothing, _claim) =
            announced.claim(|announcements| announcements.new.clone(), |path| Some(path.clone()));
        assert!(nothing.is_empty(), "announcements are told once");
    }
}
