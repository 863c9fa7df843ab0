//! A network namespace that is connected with the world by the helper outside: see [`crate::role`].

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kiln_sys::process::{Cloned, Namespaces, clone_process, enter_namespaces, reap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::identity::{OwnIds, become_user};
use crate::request::{self, Incoming, Request, network_owner};
use crate::status::{RawReceipt, Report, StatusChannel, pair};
use crate::{LaunchPlan, SetupError, SetupStage};

/// How long the helper may take to connect the network. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network that is about to be connected.
pub(super) struct Connecting {
    keeper: StatusChannel,
}

/// A user namespace, and a network namespace that belongs to it.
pub(super) type NetworkNamespaces = [OwnedFd; 2];

/// Lets the keeper connect the network namespace of this process: the one that it has entered, or else was born in.
pub(super) fn begin_to_connect(
    keeper: StatusChannel,
    entered: Option<NetworkNamespaces>,
) -> Result<Connecting, SetupError> {
    let [user, network] = entered.map_or_else(own_namespaces, Ok)?;
    request::send(keeper.as_fd(), &Request::Connect, &[user.as_fd(), network.as_fd()])
        .map_err(failed("cannot hand the network to its helper"))?;
    Ok(Connecting { keeper })
}

impl Connecting {
    /// Waits until there is a connection.
    pub(super) fn finish(self) -> Result<(), SetupError> {
        let plain = |message: String| SetupError::plain(SetupStage::NetworkHelper, message);
        if !self.keeper.wait(Some(PATIENCE)).map_err(|error| plain(error.to_string()))? {
            let seconds = PATIENCE.as_secs();
            return Err(plain(format!("the network's helper has not connected it within {seconds} seconds")));
        }
        match self.keeper.receive_report().map_err(|error| plain(error.to_string()))? {
            RawReceipt::Report(Report::Connected, _) => Ok(()),
            RawReceipt::Report(Report::SetupFailed(error), _) => Err(error),
            _ => Err(plain("the network's helper has ended".to_owned())),
        }
    }
}

fn failed(message: &'static str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::new(SetupStage::NetworkHelper, message, errno)
}

/// The user and network namespaces of this process. Only before it leaves the host's root: there is its procfs.
fn own_namespaces() -> Result<NetworkNamespaces, SetupError> {
    let namespace = |path: &str| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty()).map_err(|errno| failed("cannot open the namespace")(errno).at(path))
    };
    Ok([namespace("/proc/self/ns/user")?, namespace("/proc/self/ns/net")?])
}

/// Makes a network namespace that belongs to a user namespace of the helper's user, and enters it.
///
/// That takes a process which becomes that user; it ends when it has handed the namespaces over. To be called before there
/// is anything of a new root: the kernel takes the process for one in a chroot then, and refuses.
pub(super) fn enter_network_of_owner(plan: &LaunchPlan) -> Result<NetworkNamespaces, SetupError> {
    let cannot = failed("cannot make the build's network");
    let (uid, gid) = network_owner(&plan.credentials).ok_or_else(|| cannot(Errno::PERM))?;
    let (channel, theirs) = pair().map_err(&cannot)?;
    let maker = clone_process(Namespaces::NONE, None, || {
        let made = make_namespaces(uid, gid).map_err(|error| error.errno.unwrap_or(libc::EIO));
        let sent = made.and_then(|[user, network]| {
            request::send(theirs.as_fd(), &Request::Connect, &[user.as_fd(), network.as_fd()])
                .map_err(Errno::raw_os_error)
        });
        sent.map_or_else(|errno| u8::try_from(errno).unwrap_or(u8::MAX), |()| 0)
    })
    .map_err(&cannot)?;
    drop(theirs);
    wait_for(&maker).map_err(&cannot)?;
    let Incoming::Request(_, namespaces) = request::receive(channel.as_fd()).map_err(&cannot)? else {
        return Err(cannot(Errno::PROTO));
    };
    let namespaces = NetworkNamespaces::try_from(namespaces).map_err(|_| cannot(Errno::BADF))?;
    let [_, network] = &namespaces;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).map_err(cannot)?;
    Ok(namespaces)
}

/// Waits for the end of a process whose exit code is an error number.
fn wait_for(maker: &Cloned) -> Result<(), Errno> {
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(&maker.pidfd, PollFlags::IN)], None) {}
    match reap(Some(maker.pid))? {
        Some(reaped) if reaped.status == 0 => Ok(()),
        Some(reaped) if libc::WIFEXITED(reaped.status) => {
            Err(Errno::from_raw_os_error(libc::WEXITSTATUS(reaped.status)))
        }
        _ => Err(Errno::CHILD),
    }
}

fn make_namespaces(uid: u32, gid: u32) -> Result<NetworkNamespaces, SetupError> {
    // To create a user namespace may take a privilege, which this keeps.
    become_user(uid, gid)?;
    let own = OwnIds::current();
    enter_namespaces(Namespaces::USER | Namespaces::NETWORK)
        .map_err(failed("cannot make the build's network"))?;
    own.map()?;
    own_namespaces()
}
