//! What the engine asks of the launcher: one datagram each, with descriptors.
//!
//! Plans can be large, so a request carries a file with the plan, which only the build's own process reads, and besides
//! just what the launcher must know itself.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::mounts::GroundworkPlan;
use crate::{ByteString, Credentials, LaunchPlan, Network};

const LARGEST_REQUEST: usize = 16 << 10;
/// The user, and group, of those who own nothing.
const NOBODY: u32 = 65_534;
const MOST_DESCRIPTORS: usize = 3;

/// A request, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Descriptors: status channel, plan, terminal.
    Launch(LaunchHeader),
    /// Descriptors: status channel.
    Probe,
    /// From a build's process to the keeper of its network. Descriptors: user namespace, network namespace.
    Connect,
}

/// What of a plan the launcher must know before there is a process for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchHeader {
    /// For a build in a sandbox: what it begins with.
    pub(crate) groundwork: Option<GroundworkPlan>,
    pub(crate) cgroup: Option<ByteString>,
    pub(crate) build_user: Option<u32>,
    /// To whom the cgroup is delegated: user and group.
    #[serde(default)]
    pub(crate) cgroup_owner: Option<(u32, u32)>,
    /// For a network that is connected with the world: by what.
    #[serde(default)]
    pub(crate) helper: Option<HelperHeader>,
}

/// The program that connects a build's network with the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelperHeader {
    pub(crate) program: ByteString,
    /// User and group that it runs as, and to whose namespace the network belongs, where root can choose that.
    pub(crate) owner: Option<(u32, u32)>,
}

impl LaunchHeader {
    pub(crate) fn of(plan: &LaunchPlan) -> Self {
        let sandbox = plan.sandbox();
        let owner = network_owner(&plan.credentials);
        let program = sandbox.filter(|sandbox| sandbox.network == Network::Isolated);
        let program = program.map(|sandbox| sandbox.network_helper.clone().unwrap_or_default());
        let has_ids = sandbox.is_some_and(|sandbox| sandbox.id_count > 1);
        Self {
            cgroup_owner: owner.filter(|_| has_ids),
            helper: program.map(|program| HelperHeader { program, owner }),
            groundwork: sandbox.map(|sandbox| GroundworkPlan::of(plan, sandbox)),
            cgroup: plan.cgroup.clone(),
            build_user: match plan.credentials {
                Credentials::Caller => None,
                Credentials::BuildUser { uid, .. } => Some(uid),
            },
        }
    }
}

impl LaunchHeader {
    /// Does the build need nothing that its process must have from birth?
    pub(crate) fn is_simple(&self) -> bool {
        self.cgroup.is_none() && self.helper.is_none()
    }
}

/// User and group to whom the network of a build belongs, if root can give it to them: the build user, or nobody.
pub(crate) fn network_owner(credentials: &Credentials) -> Option<(u32, u32)> {
    match credentials {
        Credentials::BuildUser { uid, gid, .. } => Some((*uid, *gid)),
        Credentials::Caller => geteuid().is_root().then_some((NOBODY, NOBODY)),
    }
}

/// What the launcher received.
pub(crate) enum Incoming {
    /// A request with its descriptors, in order.
    Request(Request, Vec<OwnedFd>),
    /// Something else; the first descriptor, if there was one, is taken for the status channel.
    Malformed(String, Vec<OwnedFd>),
    /// The engine is gone.
    Closed,
}

/// Sends a request. Waits while the launcher's queue is full.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(request).map_err(|_| Errno::INVAL)?;
    if bytes.len() > LARGEST_REQUEST {
        return Err(Errno::NAMETOOLONG);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    loop {
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Receives a request; waits for one.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Incoming, Errno> {
    let mut buffer = vec![0; LARGEST_REQUEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received = loop {
        match recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(Incoming::Closed);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Incoming::Malformed("the request is too long".to_owned(), descriptors));
    }
    Ok(match serde_json::from_slice(buffer.get(..received.bytes).unwrap_or_default()) {
        Ok(request) => Incoming::Request(request, descriptors),
        Err(error) => Incoming::Malformed(format!("the request is not understood: {error}"), descriptors),
    })
}
