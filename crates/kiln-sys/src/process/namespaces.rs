//! The kinds of Linux namespaces.

use std::ops::{BitOr, BitOrAssign};

/// A set of namespaces to create together with a process (`namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// No new namespace: a plain child process.
    pub const NONE: Self = Self(0);
    /// User and group IDs, and capabilities over the other namespaces of the set.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Process IDs: the first process in it is its init, whose end is the end of all.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Mount points.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// System V objects and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// Network devices, addresses, ports, abstract sockets.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);

    /// The root of the cgroup hierarchy that is seen: the cgroup in which the process is when it enters.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    /// Does this set contain all of the other?
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set without the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for Namespaces {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Namespaces {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
