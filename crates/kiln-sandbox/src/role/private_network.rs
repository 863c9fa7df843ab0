//! Network namespaces for builds that talk to nobody.
//!
//! To make one is half of what it takes to create a build's process, and to take it down costs the kernel as much again.
//! So the launcher makes them itself, and a build that never used its network leaves it for the next one.
//!
//! Two builds must not share a network, not even one after the other. What a builder could leave in a network, without a
//! capability over it, comes from sockets, which the filter of system calls lets it have of the plain families alone. So a network
//! is given away only if nothing runs in it, it has no socket, no connection that lingers, and every counter of packets of all its
//! protocols is what it was when the network was made. In any other case, and wherever that can't be told, it goes, and the
//! next build has a new one. Builds without the whole filter, or with a cgroup, in which they may be root, always have a new one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use kiln_sys::network::bring_up_loopback;
use kiln_sys::process::{Cloned, Namespaces, clone_process, enter_namespaces, exit_now};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::SystemCallFilter;
use crate::mounts::GroundworkPlan;

/// How many may wait for builds: more are not needed by builds that follow each other closely.
const MOST_IDLE: usize = 16;
/// Far more than these files have in a network with a single interface.
const LARGEST_COUNTERS: usize = 64 << 10;
/// What tells of packets, for each interface, and for each protocol.
const COUNTERS: [&str; 2] = ["/proc/self/net/dev", "/proc/self/net/snmp"];
/// The same of the newer protocol, and the one thing of it that is left for a while by who never sent a packet. A machine can be
/// without them.
const NEWER_COUNTERS: [&str; 2] = ["/proc/self/net/snmp6", "/proc/self/net/ip6_flowlabel"];
const SOCKETS: &str = "/proc/self/net/sockstat";

/// The private networks that wait for a build.
pub(super) struct PrivateNetworks {
    /// That of the launcher itself; `None` where it can't make others.
    own: Option<OwnedFd>,
    idle: Vec<PrivateNetwork>,
}

/// A network namespace with nothing but a loopback interface, which is up.
pub(super) struct PrivateNetwork {
    namespace: OwnedFd,
    /// `None` where it can't be told whether it is untouched.
    signs: Option<SignsOfUse>,
}

impl PrivateNetworks {
    pub(super) fn new(privileged: bool) -> Self {
        let own = if privileged { namespace_of_this_process().ok() } else { None };
        // Where nobody may enter a network, as in some containers, there would be no way back.
        let own = own.filter(|own| enter(own.as_fd()).is_ok());
        Self { own, idle: Vec::new() }
    }

    /// As [`clone_process`]; but a network among the namespaces is one of these, if there can be one. `child` is told which
    /// namespaces are as new as itself.
    pub(super) fn clone_process(
        &mut self,
        namespaces: Namespaces,
        cgroup: Option<BorrowedFd<'_>>,
        groundwork: Option<&GroundworkPlan>,
        child: impl FnOnce(Namespaces) -> u8,
    ) -> Result<(Cloned, Option<PrivateNetwork>), Errno> {
        let is_filtered = groundwork.is_some_and(|plan| plan.system_calls == SystemCallFilter::Strict);
        let is_private = namespaces.contains(Namespaces::NETWORK) && cgroup.is_none() && is_filtered;
        let Some(own) = self.own.as_ref().filter(|_| is_private) else {
            return Ok((clone_process(namespaces, cgroup, || child(namespaces))?, None));
        };
        let network = match self.idle.pop() {
            Some(network) => enter(network.namespace.as_fd()).map(|()| network),
            None => PrivateNetwork::make(),
        }
        .ok();
        let new = if network.is_some() { namespaces.without(Namespaces::NETWORK) } else { namespaces };
        let cloned = clone_process(new, None, || child(new));
        if enter(own.as_fd()).is_err() {
            // Builds that need the network of the machine would not have it.
            eprintln!("error: the launcher cannot leave the network of a build");
            exit_now(1);
        }
        Ok((cloned?, network))
    }

    /// Takes the network of a build all of whose processes are gone.
    pub(super) fn take_back(&mut self, network: PrivateNetwork) {
        if self.idle.len() < MOST_IDLE && network.is_untouched() {
            self.idle.push(network);
        }
    }
}

impl PrivateNetwork {
    /// Makes one, and leaves the calling process in it, also if that fails halfway.
    fn make() -> Result<Self, Errno> {
        enter_namespaces(Namespaces::NETWORK)?;
        bring_up_loopback()?;
        Ok(Self { namespace: namespace_of_this_process()?, signs: SignsOfUse::of_this_process().ok() })
    }

    fn is_untouched(&self) -> bool {
        self.signs.as_ref().is_some_and(|signs| signs.show_nothing().unwrap_or(false))
    }
}

fn namespace_of_this_process() -> Result<OwnedFd, Errno> {
    open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn enter(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}

/// What tells whether a network was used: files of its own, whatever network the reader is in.
struct SignsOfUse {
    sockets: File,
    /// With what was in them at first.
    counters: Vec<(File, Vec<u8>)>,
}

impl SignsOfUse {
    /// Those of a network that has just been made, in which this process is.
    fn of_this_process() -> io::Result<Self> {
        let mut counters = Vec::new();
        for path in COUNTERS.iter().chain(&NEWER_COUNTERS) {
            match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && NEWER_COUNTERS.contains(path) => {}
                file => {
                    let file = file?;
                    let contents = read_whole(&file)?;
                    counters.push((file, contents));
                }
            }
        }
        // On a kernel that mistook the files for those of another network there would be more interfaces.
        let interfaces =
            counters.first().map(|(_, contents)| contents.iter().filter(|byte| **byte == b':').count());
        if interfaces != Some(1) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { sockets: File::open(SOCKETS)?, counters })
    }

    fn show_nothing(&self) -> io::Result<bool> {
        if !has_no_sockets(&read_whole(&self.sockets)?) {
            return Ok(false);
        }
        for (file, before) in &self.counters {
            if read_whole(file)? != *before {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = file.read_at(&mut piece, contents.len() as u64)?;
        contents.extend_from_slice(piece.get(..count).unwrap_or_default());
        if count == 0 {
            return Ok(contents);
        }
        if contents.len() > LARGEST_COUNTERS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// Whether the file `sockstat` of a network says that there is no socket, nor a connection of TCP that lingers after its
/// socket was closed. Other figures in it are of the whole machine.
fn has_no_sockets(sockstat: &[u8]) -> bool {
    let figure = |head: &str, name: &str| {
        let lines = str::from_utf8(sockstat).ok()?.lines();
        let mut words = lines.filter_map(|line| line.strip_prefix(head)).next()?.split_ascii_whitespace();
        words.find(|word| *word == name)?;
        words.next()?.parse::<u64>().ok()
    };
    figure("sockets:", "used") == Some(0)
        && figure("TCP:", "inuse") == Some(0)
        && figure("TCP:", "tw") == Some(0)
        && figure("FRAG:", "inuse") == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_what_lingers_of_them_is_found() {
        let sockstat = |used, inuse, lingering| {
            format!(
                "sockets: used {used}\nTCP: inuse {inuse} orphan 3 tw {lingering} alloc 9 mem 2\nUDP: inuse 0 mem 7\n\
                 FRAG: inuse 0 memory 0\n"
            )
        };
        assert!(has_no_sockets(sockstat(0, 0, 0).as_bytes()));
        assert!(!has_no_sockets(sockstat(1, 0, 0).as_bytes()));
        assert!(!has_no_sockets(sockstat(0, 1, 0).as_bytes()));
        assert!(!has_no_sockets(sockstat(0, 0, 1).as_bytes()));
        // What can't be told is taken for used.
        assert!(!has_no_sockets(b""));
        assert!(!has_no_sockets(b"sockets: used 0\n"));
    }
}
