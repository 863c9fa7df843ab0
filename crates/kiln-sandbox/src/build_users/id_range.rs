//! Build users without accounts (`auto-allocate-uids`): slots of IDs, each locked by a file `userpool2/slot-<n>`, as Nix has
//! them.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use kiln_sys::accounts::name_of_user;

use super::{BuildUserError, lock_file, system};

/// How many IDs a slot has: enough for a system with users of its own.
pub(crate) const IDS_OF_A_SLOT: u32 = 1 << 16;

/// The IDs that builds get, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdRange {
    first: u32,
    slots: u32,
}

impl IdRange {
    /// From the settings `start-id` and `id-count`.
    pub(super) fn new(start: u64, count: u64) -> Result<Self, BuildUserError> {
        let size = u64::from(IDS_OF_A_SLOT);
        let invalid = |reason: &'static str| BuildUserError::InvalidRange { start, count, reason };
        if start == 0 {
            return Err(invalid("the first may not be root's"));
        }
        if count == 0 || !count.is_multiple_of(size) {
            return Err(invalid("the count must be a multiple of 65536"));
        }
        let first = u32::try_from(start).map_err(|_| invalid("they exceed what the system has"))?;
        // The last of all numbers is none of an ID.
        match start.checked_add(count) {
            Some(end) if end <= u64::from(u32::MAX) => {}
            _ => return Err(invalid("they exceed what the system has")),
        }
        let slots = u32::try_from(count / size).map_err(|_| invalid("they exceed what the system has"))?;
        Ok(Self { first, slots })
    }

    pub(super) fn slots(self) -> u32 {
        self.slots
    }

    /// The first ID of a slot that nobody has, and its lock; `None` if there is none.
    pub(super) fn try_acquire(self, pool: &Path) -> Result<Option<(u32, OwnedFd)>, BuildUserError> {
        for slot in 0..self.slots {
            let Some(lock) = lock_file(&pool.join(format!("slot-{slot}")))? else { continue };
            let uid = self.first + slot * IDS_OF_A_SLOT;
            let account =
                name_of_user(uid).map_err(|errno| system("look up the user id", uid.to_string(), errno))?;
            return match account {
                None => Ok(Some((uid, lock))),
                Some(name) => Err(BuildUserError::Clash { uid, user: display(&name) }),
            };
        }
        Ok(None)
    }
}

fn display(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_a_range_consists_of_whole_slots() {
        assert_eq!(IdRange::new(0x3400_0000, 128 << 16), Ok(IdRange { first: 0x3400_0000, slots: 128 }));
        for (start, count) in [
            (0, 1 << 16),
            (1, 0),
            (1, 1000),
            (u64::MAX, 1 << 16),
            (1 << 32, 1 << 16),
            (0xffff_0000, 1 << 16),
            (1, u64::MAX - 0xffff),
        ] {
            assert!(IdRange::new(start, count).is_err(), "{start} {count}");
        }
    }

    #[test]
    fn b7_no_two_builds_have_the_same_slot() {
        let pool = tempfile::tempdir().unwrap();
        let range = IdRange::new(1_000_000_000, 2 << 16).unwrap();
        let (first, lock) = range.try_acquire(pool.path()).unwrap().unwrap();
        let (second, _held) = range.try_acquire(pool.path()).unwrap().unwrap();
        assert_eq!([first, second], [1_000_000_000, 1_000_000_000 + 65_536]);
        assert!(range.try_acquire(pool.path()).unwrap().is_none());
        drop(lock);
        assert_eq!(range.try_acquire(pool.path()).unwrap().unwrap().0, first);
        assert!(pool.path().join("slot-1").exists());
    }

    #[test]
    fn b7_ids_of_accounts_are_not_for_builds() {
        let pool = tempfile::tempdir().unwrap();
        let range = IdRange { first: 0, slots: 1 };
        let error = range.try_acquire(pool.path()).unwrap_err();
        assert_eq!(error.to_string(), "auto-allocated UID 0 clashes with existing user account 'root'");
    }
}
