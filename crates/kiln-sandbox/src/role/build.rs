//! One build, as the launcher knows it: a process to watch, a channel to report on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use kiln_sys::process::{Cloned, Namespaces, Reaped, reap};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::cgroup::Cgroup;
use super::event_loop::Surroundings;
use super::network::NetworkHelper;
use super::private_network::{PrivateNetwork, PrivateNetworks};
use super::spare::Spare;
use super::{namespaces, reaper, strays};
use crate::child::Child;
use crate::request::LaunchHeader;
use crate::status::{Report, StatusSender};
use crate::{BuilderExit, ExitStatus, SetupError, SetupStage};

/// A request to start a build.
pub(super) struct Launching {
    pub(super) header: LaunchHeader,
    pub(super) status: StatusSender,
    pub(super) plan: OwnedFd,
    pub(super) terminal: OwnedFd,
}

/// A build whose process exists.
pub(super) struct Build {
    process: Cloned,
    status: StatusSender,
    cgroup: Option<Cgroup>,
    network: Option<NetworkHelper>,
    /// The network that it may leave for another.
    private_network: Option<PrivateNetwork>,
    network_lost: bool,
    /// The user all of whose processes must go, where no PID namespace takes them along.
    user_to_clear: Option<u32>,
    pid_namespace: bool,
}

impl Launching {
    /// Creates the build's process, or takes the spare one. If that fails, the channel has been told why.
    pub(super) fn start(
        self,
        surroundings: &Surroundings<'_>,
        networks: &mut PrivateNetworks,
        spare: Option<Spare>,
    ) -> Option<Build> {
        let status = self.status.as_fd().try_clone_to_owned().map(StatusSender::new);
        match self.create(surroundings, networks, spare) {
            Ok(build) => {
                build.status.send(&Report::Created, Some(build.process.pidfd.as_fd()));
                Some(build)
            }
            Err(error) => {
                if let Ok(status) = status {
                    status.send(&Report::SetupFailed(error), None);
                }
                None
            }
        }
    }

    /// The namespaces that the build is to have.
    pub(super) fn namespaces(&self, surroundings: &Surroundings<'_>) -> Namespaces {
        let gathers = self.header.groundwork.is_none() && surroundings.can_gather();
        namespaces::for_build(&self.header, surroundings.privileged, gathers)
    }

    fn create(
        self,
        surroundings: &Surroundings<'_>,
        networks: &mut PrivateNetworks,
        spare: Option<Spare>,
    ) -> Result<Build, SetupError> {
        let wanted = self.namespaces(surroundings);
        if let Some((process, private_network)) = spare.and_then(|spare| spare.build(&self)) {
            return Ok(Build {
                process,
                status: self.status,
                cgroup: None,
                network: None,
                private_network,
                network_lost: false,
                user_to_clear: None,
                pid_namespace: true,
            });
        }
        let Self { header, status, plan, terminal } = self;
        let pid_namespace = wanted.contains(Namespaces::PID);
        let user_to_clear = header.build_user.filter(|_| !pid_namespace);
        if let Some(uid) = user_to_clear {
            strays::kill_user(uid).map_err(|errno| {
                SetupError::new(SetupStage::Process, "cannot kill the build user's processes", errno)
            })?;
        }
        let cgroup =
            header.cgroup.as_ref().map(|path| Cgroup::create(path, header.cgroup_owner)).transpose()?;
        let network = header.helper.as_ref().map(|helper| NetworkHelper::start(helper, surroundings));
        let (network, connection) = network.transpose()?.unzip();
        let created = networks.clone_process(
            wanted,
            cgroup.as_ref().map(AsFd::as_fd),
            header.groundwork.as_ref(),
            |new| {
                let child = Child {
                    cgroup: cgroup.is_some(),
                    connection,
                    ..surroundings.child(&status, plan, terminal, new)
                };
                if pid_namespace { child.run() } else { reaper::run(child) }
            },
        );
        match created {
            Ok((process, private_network)) => Ok(Build {
                process,
                status,
                cgroup,
                network,
                private_network,
                network_lost: false,
                user_to_clear,
                pid_namespace,
            }),
            Err(errno) => {
                if let Some(network) = network {
                    network.end();
                }
                if let Some(cgroup) = cgroup {
                    cgroup.remove();
                }
                Err(cannot_create(errno, &header))
            }
        }
    }
}

/// What went wrong, and what can be done about it.
fn cannot_create(errno: Errno, header: &LaunchHeader) -> SetupError {
    let mut message = "unable to start build process".to_owned();
    if header.groundwork.is_some()
        && matches!(errno, Errno::PERM | Errno::NOSPC | Errno::INVAL | Errno::NOSYS | Errno::ACCESS)
    {
        message.push_str(
            " with the namespaces that a sandbox needs (the machine may restrict user namespaces to root, and in a \
             chroot nobody has them; the setting 'sandbox-fallback = true' accepts builds without a sandbox)",
        );
    }
    SetupError::new(SetupStage::Process, message, errno)
}

impl Build {
    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    pub(super) fn status(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// The keeper of its network, which ends by itself only if that is lost.
    pub(super) fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(NetworkHelper::process)
    }

    /// Its network is lost: it can't go on.
    pub(super) fn lose_network(&mut self) {
        self.network_lost = true;
        self.kill();
    }

    /// All its processes that are children of this one.
    pub(super) fn pids(&self) -> impl Iterator<Item = Pid> {
        [Some(self.process.pid), self.network.as_ref().map(NetworkHelper::pid)].into_iter().flatten()
    }

    /// Kills the build: its init, and with it all others; its end will be seen as any other.
    pub(super) fn kill(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // It may have ended already.
        let _ = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
    }

    /// The process has ended: sees to it that all others of the build have too, and reports.
    ///
    /// The kernel lets the init of a PID namespace end only after every other process in it is gone. The result is a network
    /// that nobody is in any more.
    pub(super) fn finish(self, surroundings: &Surroundings<'_>, others: &[Pid]) -> Option<PrivateNetwork> {
        let reaped = match reap(Some(self.process.pid)) {
            Ok(Some(reaped)) => reaped,
            // Nobody else waits for this child, and it has ended: this can't be.
            Ok(None) | Err(_) => Reaped {
                pid: self.process.pid,
                status: libc::SIGKILL,
                user: Duration::ZERO,
                system: Duration::ZERO,
                max_rss: 0,
            },
        };
        if let Some(network) = self.network {
            network.end();
        }
        let mut survivors = 0;
        if !self.pid_namespace && !surroundings.pid_namespace {
            survivors = strays::kill_children(others);
        }
        if let Some(uid) = self.user_to_clear
            && strays::kill_user(uid).is_err()
        {
            survivors = survivors.max(1);
        }
        let mut exit = BuilderExit {
            status: ExitStatus::from_wait_status(reaped.status),
            user: reaped.user,
            system: reaped.system,
            max_rss: reaped.max_rss,
            memory_peak: None,
            network_lost: self.network_lost,
            survivors,
        };
        if let Some(cgroup) = self.cgroup {
            cgroup.kill();
            if let Some((user, system)) = cgroup.cpu_time() {
                (exit.user, exit.system) = (user, system);
            }
            exit.memory_peak = cgroup.memory_peak();
            cgroup.remove();
        }
        self.status.send(&Report::Exited(exit), None);
        self.private_network.filter(|_| self.pid_namespace)
    }
}
