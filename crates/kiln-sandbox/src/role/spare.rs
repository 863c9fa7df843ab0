//! A process that stands by for the next build.
//!
//! To create a process in namespaces of its own takes about as long as everything else in the way of a small build. So
//! when one has been launched in a sandbox, the launcher creates the process for the next: in fresh namespaces, with the
//! part of the sandbox that needs no plan. Nothing of an earlier build is in it; it has not been near one. (Of its network,
//! see [`super::private_network`].)
//!
//! What it has seen of the host must still be true when it is used. That is its mounts alone, since nothing of the host but
//! devices is part of the groundwork: if there has been any change since, another process is created, and this one ends.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use kiln_sys::process::{Cloned, Namespaces, close_descriptors_but, reap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::build::Launching;
use super::event_loop::Surroundings;
use super::namespaces::of_sandbox;
use super::private_network::{PrivateNetwork, PrivateNetworks};
use crate::child::{Child, Groundwork};
use crate::mounts::GroundworkPlan;
use crate::request::{self, Incoming, Request};
use crate::status::StatusSender;

/// A process that waits to be told what to build.
pub(super) struct Spare {
    process: Cloned,
    groundwork: GroundworkPlan,
    orders: OwnedFd,
    mounts: MountsWatch,
    network: Option<PrivateNetwork>,
}

impl Spare {
    /// Creates one for a sandbox that begins like this; `None` if that isn't possible.
    pub(super) fn create(
        groundwork: GroundworkPlan,
        surroundings: &Surroundings<'_>,
        networks: &mut PrivateNetworks,
    ) -> Option<Self> {
        let namespaces = of_sandbox(groundwork.network, surroundings.privileged);
        // From here on: what changes while the process is being created must be noticed too.
        let mounts = MountsWatch::begin().ok()?;
        let (orders, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).ok()?;
        let child = |new| wait_for_orders(&theirs, &groundwork, new, surroundings);
        let (process, network) = networks.clone_process(namespaces, None, Some(&groundwork), child).ok()?;
        Some(Self { process, groundwork, orders, mounts, network })
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Whether it is right for this build. A cgroup is joined at birth, and a network's helper told at birth, so it has none.
    pub(super) fn fits(&self, launching: &Launching) -> bool {
        launching.header.groundwork.as_ref() == Some(&self.groundwork) && launching.header.is_simple()
    }

    /// Lets it build. `None` if it can't any more; then it has ended.
    pub(super) fn build(self, launching: &Launching) -> Option<(Cloned, Option<PrivateNetwork>)> {
        if self.mounts.have_changed() {
            self.end();
            return None;
        }
        let request = Request::Launch(launching.header.clone());
        let descriptors = [launching.status.as_fd(), launching.plan.as_fd(), launching.terminal.as_fd()];
        match request::send(self.orders.as_fd(), &request, &descriptors) {
            Ok(()) => Some((self.process, self.network)),
            Err(_) => {
                self.end();
                None
            }
        }
    }

    /// Ends it, and waits for that.
    pub(super) fn end(self) {
        // It may have ended already.
        let _ = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
        let mut polled = [PollFd::new(&self.process.pidfd, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut polled, None) {}
        let _ = reap(Some(self.process.pid));
    }
}

/// The process itself. The result is its exit code, unless it becomes a builder.
fn wait_for_orders(
    orders: &OwnedFd,
    plan: &GroundworkPlan,
    new: Namespaces,
    surroundings: &Surroundings<'_>,
) -> u8 {
    let launcher = surroundings.launcher.as_fd();
    // Copies of other builds' descriptors would hide from the engine that the launcher has closed its own.
    let kept = [orders.as_fd(), launcher, surroundings.null];
    if close_descriptors_but(&kept).is_err() || super::die_with(launcher).is_err() {
        return 1;
    }
    let groundwork = Groundwork::lay(
        plan,
        surroundings.privileged,
        surroundings.ids,
        new.contains(Namespaces::NETWORK),
        &surroundings.filters,
    );
    let Ok(Incoming::Request(Request::Launch(_), descriptors)) = request::receive(orders.as_fd()) else {
        return 1;
    };
    let Ok([status, file, terminal]) = <[OwnedFd; 3]>::try_from(descriptors) else { return 1 };
    let status = StatusSender::new(status);
    let child = Child { groundwork: Some(groundwork), ..surroundings.child(&status, file, terminal, new) };
    child.run()
}

/// Notices changes of the mounts that this process sees.
struct MountsWatch {
    mounts: File,
}

impl MountsWatch {
    fn begin() -> std::io::Result<Self> {
        Ok(Self { mounts: File::open("/proc/self/mounts")? })
    }

    /// Whether anything has changed since the beginning, or that can't be told.
    fn have_changed(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.mounts, PollFlags::PRI)];
        match poll(&mut polled, Some(&now)) {
            Ok(_) => polled.iter().any(|polled| polled.revents().intersects(PollFlags::PRI | PollFlags::ERR)),
            Err(_) => true,
        }
    }
}
