//! The network that a build has for itself but for a connection with the world, as the launcher knows it.
//!
//! Three processes make it. The build's own one has a network namespace. The *keeper*, a copy of the launcher outside of
//! all sandboxes, enters the user namespace to which that belongs, and there starts `pasta` under the init of a PID
//! namespace, so that not even a `pasta` that goes into the background can outlive it:
//!
//! ```text
//! launcher ─┬─▶ build's process ──its namespaces──▶ keeper
//!           └─▶ keeper ─▶ init of a PID namespace ─▶ pasta
//! ```
//!
//! Whoever of them ends takes those to the right along, by the kernel's hand if need be; the launcher learns of the
//! keeper's end and kills the build. `pasta` has no privileges but over the namespaces: as root it is the build user's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kiln_sys::process::{Cloned, Namespaces, clone_process, reap};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, write};

use super::event_loop::Surroundings;
use crate::request::HelperHeader;
use crate::status::{StatusChannel, pair};
use crate::{SetupError, SetupStage};

mod keeper;
mod tap_device;

/// The keeper of one build.
pub(super) struct NetworkHelper {
    process: Cloned,
    /// An event that tells the keeper to end. What the keeper has of it may be gone before, which is no error of an event.
    end: OwnedFd,
}

impl NetworkHelper {
    /// Creates a keeper, and the channel by which the build's process talks with it.
    pub(super) fn start(
        header: &HelperHeader,
        surroundings: &Surroundings<'_>,
    ) -> Result<(Self, StatusChannel), SetupError> {
        let failed = |errno| {
            SetupError::new(
                SetupStage::NetworkHelper,
                "cannot start the keeper of the build's network",
                errno,
            )
        };
        let (channel, theirs) = pair().map_err(failed)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
        // As root it makes a device node, which nobody else should see.
        let namespaces = if surroundings.privileged { Namespaces::MOUNT } else { Namespaces::NONE };
        let process = clone_process(namespaces, None, || {
            keeper::run(header, theirs.as_fd(), end.as_fd(), surroundings)
        })
        .map_err(failed)?;
        Ok((Self { process, end }, channel))
    }

    /// The keeper's process: it ends by itself only if the network is lost.
    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    pub(super) fn pid(&self) -> rustix::process::Pid {
        self.process.pid
    }

    /// Ends the keeper, and waits until nothing is left of it.
    pub(super) fn end(self) {
        // It may have ended already.
        let _ = write(&self.end, &1_u64.to_ne_bytes());
        let mut polled = [PollFd::new(&self.process.pidfd, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut polled, None) {}
        let _ = reap(Some(self.process.pid));
    }
}
